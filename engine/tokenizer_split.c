/* tokenizer_split.c - pre-tokenizers. Each function tells how long the first match of its alternative is, 0: none.
 *
 * GPT2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * LLAMA3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
 * ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ QWEN2   the same with \p{N} DIGITS  each \p{N} alone, and GPT2 on
 * what lies between two of them O200K   P?U*W+C?|P?U+W*C?|\p{N}{1,3}|
 * ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ with P = [^\r\n\p{L}\p{N}], U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], W
 * = [\p{Ll}\p{Lm}\p{Lo}\p{M}], C = LLAMA3's first alternative TEKKEN  the same without C and with \p{N} Source: the
 * tokenizer.json files of GPT-2, Llama 3, Qwen 2, SmolLM2, GPT-OSS and Mistral Nemo. */
#include "engine/tokenizer_split.h"

#include <utf8proc.h>

enum {
    LETTER_UPPER = 1, /* U above */
    LETTER_LOWER = 2, /* W above */
    LETTER = 4,
    NUMBER = 8,
    SPACE = 16,
    NEWLINE = 32, /* \r \n, spaces too */
};

static unsigned class_of_ascii(int32_t c)
{
    if (c >= 'a' && c <= 'z')
        return LETTER | LETTER_LOWER;
    if (c >= 'A' && c <= 'Z')
        return LETTER | LETTER_UPPER;
    if (c >= '0' && c <= '9')
        return NUMBER;
    if (c == '\n' || c == '\r')
        return SPACE | NEWLINE;
    return c == ' ' || (c >= 9 && c <= 13) ? SPACE : 0;
}

static unsigned class_of(int32_t c)
{
    if (c < 0x80)
        return c < 0 ? 0 : class_of_ascii(c);
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return LETTER | LETTER_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return LETTER | LETTER_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER | LETTER_UPPER | LETTER_LOWER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return LETTER_UPPER | LETTER_LOWER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SPACE;
    default:
        return c == 0x85 ? SPACE : 0; /* NEL is a control character, and white space */
    }
}

bool tokenizer_is_space(int32_t c)
{
    return class_of(c) & SPACE;
}

int32_t tokenizer_char(struct span text, size_t at, size_t *len)
{
    static const uint8_t lengths[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    if (at >= text.len) {
        *len = 0;
        return -1;
    }
    const uint8_t *p = text.data + at;
    switch (*len = lengths[p[0] >> 4]) {
    case 1:
        return p[0];
    case 2:
        return (p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    case 3:
        return (p[0] & 0x0f) << 12 | (p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    default:
        return (p[0] & 0x07) << 18 | (p[1] & 0x3f) << 12 | (p[2] & 0x3f) << 6 | (p[3] & 0x3f);
    }
}

static unsigned class_at(struct span text, size_t at, size_t *len)
{
    return class_of(tokenizer_char(text, at, len));
}

/* How far the run of characters of any of `classes` reaches from `at`, at most `most` characters. */
static size_t run(struct span text, size_t at, unsigned classes, size_t most)
{
    size_t len;
    while (most-- > 0 && (class_at(text, at, &len) & classes) && len)
        at += len;
    return at;
}

/* The same for characters of none of `classes`. */
static size_t run_without(struct span text, size_t at, unsigned classes)
{
    size_t len;
    while (!(class_at(text, at, &len) & classes) && len)
        at += len;
    return at;
}

static int32_t folded(struct span text, size_t at, bool any_case, size_t *len)
{
    int32_t c = tokenizer_char(text, at, len);
    if (any_case && c >= 'A' && c <= 'Z')
        return c - 'A' + 'a';
    return any_case && c == 0x17f ? 's' : c; /* U+017F folds to s; nothing else outside ASCII folds to these letters */
}

/* 's 't 're 've 'm 'll 'd at `at`: the end of it, or `at`. */
static size_t contraction(struct span text, size_t at, bool any_case)
{
    size_t first_len, second_len;
    if (at >= text.len || text.data[at] != '\'')
        return at;
    int32_t first = folded(text, at + 1, any_case, &first_len);
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return at + 1 + first_len;
    int32_t second = folded(text, at + 1 + first_len, any_case, &second_len);
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
        return at + 1 + first_len + second_len;
    return at;
}

/* \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows, unless it is alone or at the end. */
static size_t spaces(struct span text)
{
    size_t at = 0, last = 0, len;
    while ((class_at(text, at, &len) & SPACE) && len) {
        last = at;
        at += len;
    }
    return at == text.len || last == 0 ? at : last;
}

/* \s*[\r\n]+ : white space up to its last newline. */
static size_t spaces_to_newline(struct span text)
{
    size_t end = 0, len;
    for (size_t at = 0; class_at(text, at, &len) & SPACE; at += len)
        if (class_at(text, at, &len) & NEWLINE)
            end = at + len;
    return end;
}

static size_t split_gpt2(struct span text)
{
    size_t end = contraction(text, 0, false), begin = text.data[0] == ' ' ? 1 : 0;
    if (end > 0)
        return end;
    if ((end = run(text, begin, LETTER, SIZE_MAX)) > begin || (end = run(text, begin, NUMBER, SIZE_MAX)) > begin ||
        (end = run_without(text, begin, SPACE | LETTER | NUMBER)) > begin)
        return end;
    return spaces(text);
}

static size_t split_digits(struct span text)
{
    size_t len;
    if (class_at(text, 0, &len) & NUMBER)
        return len;
    /* GPT-2's expression does not see beyond the next digit. Look only as far as one of its matches can reach:
     * anything longer than a run of one class ends before the digit anyway. */
    size_t begin = text.data[0] == ' ' ? 1 : 0;
    size_t end = run(text, begin, SPACE, SIZE_MAX);
    if (begin == 0 && end == 0)
        return split_gpt2(text);
    bool before_digit = class_at(text, end, &len) & NUMBER;
    return before_digit ? end : split_gpt2(text);
}

/* [^\r\n\p{L}\p{N}]? : the length of the character that may stand before letters, or 0. */
static size_t letter_prefix(struct span text)
{
    size_t len;
    return class_at(text, 0, &len) & (NEWLINE | LETTER | NUMBER) ? 0 : len;
}

/* What all the newer expressions share after their letters: numbers, punctuation, white space. */
static size_t split_rest(struct span text, size_t digits, bool slash)
{
    size_t end = run(text, 0, NUMBER, digits), begin = text.data[0] == ' ' ? 1 : 0, len;
    if (end > 0)
        return end;
    if ((end = run_without(text, begin, SPACE | LETTER | NUMBER)) > begin) {
        while ((class_at(text, end, &len) & NEWLINE) || (slash && len && text.data[end] == '/'))
            end += len;
        return end;
    }
    end = spaces_to_newline(text);
    return end > 0 ? end : spaces(text);
}

static size_t split_llama3(struct span text, size_t digits)
{
    size_t end = contraction(text, 0, true), begin = letter_prefix(text);
    if (end > 0)
        return end;
    if ((end = run(text, begin, LETTER, SIZE_MAX)) > begin)
        return end;
    return split_rest(text, digits, false);
}

/* U*W+ from `at`: where it ends, or `at`. Where U* has taken everything, it gives back as far as W+ needs. */
static size_t upper_then_lower(struct span text, size_t at)
{
    size_t len, last = at, end;
    bool found = false;
    for (end = at; class_at(text, end, &len) & LETTER_UPPER; end += len)
        if (class_at(text, end, &len) & LETTER_LOWER) {
            found = true;
            last = end + len;
        }
    size_t lower = run(text, end, LETTER_LOWER, SIZE_MAX);
    if (lower > end)
        return lower;
    return found ? last : at;
}

/* U+W* from `at`. */
static size_t upper_maybe_lower(struct span text, size_t at)
{
    size_t end = run(text, at, LETTER_UPPER, SIZE_MAX);
    return end > at ? run(text, end, LETTER_LOWER, SIZE_MAX) : at;
}

static size_t split_o200k(struct span text, size_t digits, bool contractions)
{
    size_t begin = letter_prefix(text), end;
    if ((end = upper_then_lower(text, begin)) > begin || (begin > 0 && (end = upper_then_lower(text, 0)) > 0) ||
        (end = upper_maybe_lower(text, begin)) > begin || (begin > 0 && (end = upper_maybe_lower(text, 0)) > 0))
        return contractions ? contraction(text, end, true) : end;
    return split_rest(text, digits, true);
}

size_t tokenizer_split(enum engine_pretokenizer pre, struct span text)
{
    switch (pre) {
    case ENGINE_PRE_GPT2:
        return split_gpt2(text);
    case ENGINE_PRE_LLAMA3:
        return split_llama3(text, 3);
    case ENGINE_PRE_QWEN2:
        return split_llama3(text, 1);
    case ENGINE_PRE_DIGITS:
        return split_digits(text);
    case ENGINE_PRE_O200K:
        return split_o200k(text, 3, true);
    case ENGINE_PRE_TEKKEN:
        return split_o200k(text, 1, false);
    }
    return text.len;
}
