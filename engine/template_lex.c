/* template_lex.c - template text to tokens, with Jinja's white space control: trim_blocks (the newline after a block
 * tag goes), lstrip_blocks (the blanks between a line's beginning and a block tag go), and the signs - and + inside
 * tags. */
#include <stdlib.h>

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"
#include "verifier/base/utf8.h"

#define TOKENS_MAX (1u << 19)

struct lexer {
    struct span source;
    size_t at;
    unsigned line;
    bool line_starts; /* what precedes `at` ended a line */
    struct arena *arena;
    struct tokens *out;
    struct engine_problem *why;
};

static bool fail(struct lexer *x, const char *what)
{
    engine_problem_set(x->why, ENGINE_E_SYNTAX, "chat template, line %u: %s", x->line, what);
    return false;
}

static bool put(struct lexer *x, enum token_kind kind, struct span text)
{
    struct tokens *t = x->out;
    if (t->count == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        struct token *grown = cap > TOKENS_MAX ? NULL : realloc(t->at, cap * sizeof *grown);
        if (!grown) {
            engine_problem_set(x->why, ENGINE_E_LIMIT, "chat template: too many tokens");
            return false;
        }
        t->at = grown;
        t->cap = cap;
    }
    t->at[t->count++] = (struct token){kind, x->line, text};
    return true;
}

static int peek(const struct lexer *x, size_t ahead)
{
    return x->source.len - x->at > ahead ? x->source.data[x->at + ahead] : -1;
}

static bool ahead_is(const struct lexer *x, const char *text)
{
    size_t len = strlen(text);
    return x->source.len - x->at >= len && memcmp(x->source.data + x->at, text, len) == 0;
}

static void skip(struct lexer *x, size_t n)
{
    for (; n > 0 && x->at < x->source.len; n--)
        if (x->source.data[x->at++] == '\n')
            x->line++;
}

static void skip_spaces(struct lexer *x)
{
    size_t len;
    while (text_is_space(tokenizer_char(x->source, x->at, &len)) && len)
        skip(x, len);
}

/* After a tag: `sign` is what stood before its end. */
static void after_tag(struct lexer *x, int sign, bool trim_newline)
{
    size_t before = x->at;
    if (sign == '-')
        skip_spaces(x);
    else if (trim_newline && sign != '+' && peek(x, 0) == '\n')
        skip(x, 1);
    x->line_starts = x->at > before && x->source.data[x->at - 1] == '\n';
}

/* --- text between tags -------------------------------------------------------------------------- */

static struct span strip_line(const struct lexer *x, struct span text)
{
    size_t start = text.len;
    while (start > 0 && text.data[start - 1] != '\n')
        start--;
    if (start == 0 && !x->line_starts)
        return text;
    struct span blank = span_of(text.data + start, text.len - start);
    return text_strip(blank, span_of(NULL, 0), true, false).len == 0 ? span_of(text.data, start) : text;
}

/* Text up to the next tag or the end; `x->at` is then at the tag. */
static bool lex_text(struct lexer *x)
{
    size_t begin = x->at, end = begin;
    const uint8_t *s = x->source.data;
    while (end < x->source.len &&
           !(s[end] == '{' && end + 1 < x->source.len && (s[end + 1] == '{' || s[end + 1] == '%' || s[end + 1] == '#')))
        end++;
    struct span text = span_of(s + begin, end - begin);
    int sign = end + 2 < x->source.len ? s[end + 2] : -1;
    if (end < x->source.len && sign == '-')
        text = text_strip(text, span_of(NULL, 0), false, true);
    else if (end < x->source.len && sign != '+' && s[end + 1] != '{')
        text = strip_line(x, text);
    if (text.len > 0 && !put(x, T_TEXT, text))
        return false;
    skip(x, end - begin);
    return true;
}

static bool lex_comment(struct lexer *x)
{
    skip(x, 2);
    if (peek(x, 0) == '-' || peek(x, 0) == '+')
        skip(x, 1);
    size_t begin = x->at, end = text_find(x->source, span_str("#}"), begin);
    if (end > x->source.len)
        return fail(x, "a comment that does not end");
    int sign = end > begin ? x->source.data[end - 1] : -1;
    skip(x, end + 2 - begin);
    after_tag(x, sign, true);
    return true;
}

/* {% raw %} and {% endraw %} at `at`: length of the tag, its closing sign in `*sign`; 0: not this tag. */
static size_t raw_tag(struct span source, size_t at, const char *name, int *sign)
{
    struct span rest = span_of(source.data + at, source.len - at);
    size_t i = 2, len = strlen(name);
    if (rest.len < 4 || memcmp(rest.data, "{%", 2) != 0)
        return 0;
    i += rest.data[i] == '-' || rest.data[i] == '+';
    while (i < rest.len && (rest.data[i] == ' ' || rest.data[i] == '\n' || rest.data[i] == '\t'))
        i++;
    if (rest.len - i < len || memcmp(rest.data + i, name, len) != 0)
        return 0;
    for (i += len; i < rest.len && (rest.data[i] == ' ' || rest.data[i] == '\n' || rest.data[i] == '\t');)
        i++;
    *sign = i < rest.len ? rest.data[i] : -1;
    i += *sign == '-' || *sign == '+';
    return rest.len - i >= 2 && memcmp(rest.data + i, "%}", 2) == 0 ? i + 2 : 0;
}

static bool lex_raw(struct lexer *x, size_t tag, int sign)
{
    skip(x, tag);
    after_tag(x, sign, true);
    size_t begin = x->at, end = begin, close = 0;
    while (end < x->source.len && !(close = raw_tag(x->source, end, "endraw", &sign)))
        end++;
    if (!close)
        return fail(x, "{% raw %} without {% endraw %}");
    struct span text = span_of(x->source.data + begin, end - begin);
    int opening = x->source.data[end + 2];
    if (opening == '-')
        text = text_strip(text, span_of(NULL, 0), false, true);
    else if (opening != '+')
        text = strip_line(x, text);
    if (text.len > 0 && !put(x, T_TEXT, text))
        return false;
    skip(x, end - begin + close);
    after_tag(x, sign, true);
    return true;
}

/* --- inside tags -------------------------------------------------------------------------------- */

static size_t put_utf8(uint8_t *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* Digits of \xNN, \uNNNN, \UNNNNNNNN: the character, or -1. */
static int64_t hex_escape(const uint8_t *p, size_t left, size_t digits)
{
    int64_t c = 0;
    if (left < digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        int d = p[i] >= '0' && p[i] <= '9'   ? p[i] - '0'
                : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
                : p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
                                             : -1;
        if (d < 0)
            return -1;
        c = c * 16 + d;
    }
    return c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? -1 : c;
}

/* Python's escapes; an unknown one keeps its backslash. Returns bytes read after the backslash, 0: bad. */
static size_t unescape(const uint8_t *p, size_t left, uint8_t *out, size_t *n)
{
    static const char from[] = "ntrabfv\\'\"", to[] = "\n\t\r\a\b\f\v\\'\"";
    const char *known = left && p[0] ? strchr(from, p[0]) : NULL;
    if (known) {
        out[(*n)++] = (uint8_t)to[known - from];
        return 1;
    }
    if (left && p[0] == '\n')
        return 1;
    if (left && p[0] >= '0' && p[0] <= '7') {
        uint32_t c = 0;
        size_t i = 0;
        for (; i < 3 && i < left && p[i] >= '0' && p[i] <= '7'; i++)
            c = c * 8 + p[i] - '0';
        *n += put_utf8(out + *n, c);
        return i;
    }
    if (left && (p[0] == 'x' || p[0] == 'u' || p[0] == 'U')) {
        size_t digits = p[0] == 'x' ? 2 : p[0] == 'u' ? 4 : 8;
        int64_t c = hex_escape(p + 1, left - 1, digits);
        if (c >= 0)
            *n += put_utf8(out + *n, (uint32_t)c);
        return c >= 0 ? digits + 1 : 0;
    }
    out[(*n)++] = '\\';
    return SIZE_MAX; /* nothing read */
}

static bool lex_string(struct lexer *x)
{
    uint8_t quote = x->source.data[x->at];
    size_t begin = x->at + 1, end = begin, n = 0;
    while (end < x->source.len && x->source.data[end] != quote)
        end += x->source.data[end] == '\\' ? 2 : 1;
    if (end >= x->source.len)
        return fail(x, "a string that does not end");
    uint8_t *out = arena_get(x->arena, end - begin + 1);
    if (!out)
        return fail(x, "too large");
    for (size_t at = begin; at < end;) {
        if (x->source.data[at] != '\\') {
            out[n++] = x->source.data[at++];
            continue;
        }
        size_t used = unescape(x->source.data + at + 1, end - at - 1, out, &n);
        if (used == 0)
            return fail(x, "a bad escape in a string");
        at += used == SIZE_MAX ? 1 : 1 + used;
    }
    if (!put(x, T_STRING, span_of(out, n)))
        return false;
    skip(x, end + 1 - x->at);
    return true;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static bool lex_number(struct lexer *x)
{
    size_t n = 0;
    enum token_kind kind = T_INT;
    while (is_digit(peek(x, n)))
        n++;
    if (peek(x, n) == '.' && is_digit(peek(x, n + 1))) {
        kind = T_FLOAT;
        for (n++; is_digit(peek(x, n)); n++)
            ;
    }
    size_t e = n + 1 + (peek(x, n + 1) == '-' || peek(x, n + 1) == '+');
    if ((peek(x, n) == 'e' || peek(x, n) == 'E') && is_digit(peek(x, e))) {
        kind = T_FLOAT;
        for (n = e; is_digit(peek(x, n)); n++)
            ;
    }
    if (n > 40)
        return fail(x, "a number with too many digits");
    bool good = put(x, kind, span_of(x->source.data + x->at, n));
    skip(x, n);
    return good;
}

static bool lex_operator(struct lexer *x)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "<",
                                            ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ".", ",", ":", "|"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (ahead_is(x, operators[i])) {
            size_t len = strlen(operators[i]);
            bool good = put(x, T_OPERATOR, span_of(x->source.data + x->at, len));
            skip(x, len);
            return good;
        }
    return fail(x, "a character that means nothing here");
}

/* The end of the tag here: its length, its sign in `*sign`; 0: no end. */
static size_t tag_end(const struct lexer *x, bool print, int *sign)
{
    size_t signed_len = peek(x, 0) == '-' || (!print && peek(x, 0) == '+') ? 1 : 0;
    *sign = signed_len ? peek(x, 0) : -1;
    return peek(x, signed_len) == (print ? '}' : '%') && peek(x, signed_len + 1) == '}' ? signed_len + 2 : 0;
}

static bool lex_tag(struct lexer *x, bool print)
{
    int sign, open = 0;
    if (!put(x, print ? T_PRINT_BEGIN : T_BLOCK_BEGIN, span_of(NULL, 0)))
        return false;
    skip(x, 2);
    if (peek(x, 0) == '-' || peek(x, 0) == '+')
        skip(x, 1);
    for (;;) {
        skip_spaces(x);
        size_t end = open == 0 ? tag_end(x, print, &sign) : 0;
        if (end > 0) {
            if (!put(x, print ? T_PRINT_END : T_BLOCK_END, span_of(NULL, 0)))
                return false;
            skip(x, end);
            after_tag(x, sign, !print);
            return true;
        }
        int c = peek(x, 0);
        if (c < 0)
            return fail(x, "a tag that does not end");
        open += c == '(' || c == '[' || c == '{';
        open -= (c == ')' || c == ']' || c == '}') && open > 0;
        bool good;
        if (c == '"' || c == '\'') {
            good = lex_string(x);
        } else if (is_digit(c)) {
            good = lex_number(x);
        } else if (is_name(c)) {
            size_t n = 0;
            while (is_name(peek(x, n)))
                n++;
            good = put(x, T_NAME, span_of(x->source.data + x->at, n));
            skip(x, n);
        } else {
            good = lex_operator(x);
        }
        if (!good)
            return false;
    }
}

bool template_lex(struct span source, struct arena *arena, struct tokens *out, struct engine_problem *why)
{
    struct lexer x = {.source = source, .line = 1, .line_starts = true, .arena = arena, .out = out, .why = why};
    while (x.at < x.source.len) {
        int sign;
        if (!lex_text(&x))
            return false;
        if (x.at == x.source.len)
            break;
        size_t raw = raw_tag(x.source, x.at, "raw", &sign);
        bool good = raw > 0              ? lex_raw(&x, raw, sign)
                    : peek(&x, 1) == '#' ? lex_comment(&x)
                                         : lex_tag(&x, peek(&x, 1) == '{');
        if (!good)
            return false;
    }
    return put(&x, T_END, span_of(NULL, 0));
}
