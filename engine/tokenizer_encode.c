/* tokenizer_encode.c - a text to ids: make it well-formed, take the special tokens out, cut the rest into words, merge.
 */
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_split.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"
#include "verifier/base/writer.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Copy with every maximal ill-formed sequence as U+FFFD and, for SentencePiece, every space as U+2581. */
static void normalize(struct span text, bool escape_spaces, struct writer *out)
{
    for (size_t at = 0, step; at < text.len; at += step) {
        struct span rest = span_of(text.data + at, text.len - at);
        step = utf8_step(rest);
        if (step == 0) {
            /* The beginning of a character that breaks off counts as one: two or three bytes of it at most. */
            for (step = rest.len < 3 ? rest.len : 3; step > 1 && utf8_tail(span_of(rest.data, step)) != step; step--)
                ;
            writer_str(out, REPLACEMENT);
        } else if (escape_spaces && rest.data[0] == ' ') {
            writer_str(out, TOKENIZER_SPACE);
        } else {
            writer_bytes(out, span_of(rest.data, step));
        }
    }
}

/* --- special tokens ------------------------------------------------------------------------------ */

/* First entry of [from, to) whose byte `depth` is at least `byte`; entries that end before it come first. */
static size_t first_at_least(const struct engine_tokenizer *t, size_t from, size_t to, size_t depth, unsigned byte)
{
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        struct span s = t->special[middle].text;
        if (s.len <= depth || s.data[depth] < byte)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The longest special token at the beginning of `text`, or NULL. */
static const struct special *special_at(const struct engine_tokenizer *t, struct span text, bool controls)
{
    const struct special *found = NULL;
    size_t from = 0, to = t->special_count;
    for (size_t depth = 0; depth < text.len; depth++) {
        from = first_at_least(t, from, to, depth, text.data[depth]);
        to = first_at_least(t, from, to, depth, text.data[depth] + 1u);
        if (from == to)
            break;
        if (t->special[from].text.len == depth + 1 && (controls || !t->special[from].control))
            found = &t->special[from];
    }
    return found;
}

/* --- text between them --------------------------------------------------------------------------- */

static enum engine_err encode_bpe(const struct engine_tokenizer *t, struct span text, struct engine_tokens *out)
{
    enum engine_err err = ENGINE_OK;
    for (size_t at = 0, len; at < text.len && err == ENGINE_OK; at += len) {
        struct span rest = span_of(text.data + at, text.len - at);
        len = tokenizer_split(t->pre, rest);
        err = tokenizer_word(t, span_of(rest.data, len), out);
    }
    return err;
}

static bool is_ascii(struct span text)
{
    uint8_t any = 0;
    for (size_t i = 0; i < text.len; i++)
        any |= text.data[i];
    return any < 0x80;
}

/* Canonical order (Unicode, section 3.11): the marks after a character by their class, equals as they stand. A run of
 * marks is as long as a stranger likes, and utf8proc's own sort would take a time that grows with its square. */
static void order_marks(utf8proc_int32_t *mark, size_t count, utf8proc_int32_t *scratch)
{
    size_t begin[257] = {0}; /* of each class, one further */
    for (size_t i = 0; i < count; i++)
        begin[1 + (uint8_t)utf8proc_get_property(mark[i])->combining_class]++;
    for (size_t k = 1; k < 257; k++)
        begin[k] += begin[k - 1];
    for (size_t i = 0; i < count; i++)
        scratch[begin[(uint8_t)utf8proc_get_property(mark[i])->combining_class]++] = mark[i];
    memcpy(mark, scratch, count * sizeof *mark);
}

/* Decomposes `text` to `chars`, in canonical order; `scratch` has room for as many. False: not the `count` expected. */
static bool decompose(struct span text, utf8proc_int32_t *chars, size_t count, utf8proc_int32_t *scratch,
                      utf8proc_option_t how)
{
    size_t n = 0;
    int unused = 0;
    for (size_t at = 0, len; at < text.len && n < count; at += len) {
        int32_t c = tokenizer_char(text, at, &len);
        utf8proc_ssize_t more = utf8proc_decompose_char(c, chars + n, (utf8proc_ssize_t)(count - n), how, &unused);
        if (more < 0 || (size_t)more > count - n)
            return false;
        n += (size_t)more;
    }
    for (size_t at = 0, end; at < n; at = end + 1) {
        bool ordered = true;
        int before = 0, class;
        for (end = at; end < n && (class = utf8proc_get_property(chars[end])->combining_class) > 0; end++) {
            ordered = ordered && before <= class;
            before = class;
        }
        if (!ordered)
            order_marks(chars + at, end - at, scratch);
    }
    return n == count;
}

/* Normal form C (Unicode annex 15), then as above. */
static enum engine_err encode_composed(const struct engine_tokenizer *t, struct span text, struct engine_tokens *out)
{
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t len = utf8proc_decompose(text.data, (utf8proc_ssize_t)text.len, NULL, 0, how);
    if (len <= 0)
        return ENGINE_E_FORMAT;
    size_t count = (size_t)len, size = (2 * count + 1) * sizeof(utf8proc_int32_t);
    utf8proc_int32_t *chars = malloc(size); /* one more for the NUL of utf8proc_reencode(), and as many to sort */
    if (!chars)
        return ENGINE_E_MEMORY;
    enum engine_err err = ENGINE_E_FORMAT;
    if (decompose(text, chars, count, chars + count + 1, how)) {
        utf8proc_ssize_t bytes = utf8proc_reencode(chars, len, how);
        if (bytes >= 0)
            err = encode_bpe(t, span_of(chars, (size_t)bytes), out);
    }
    secret_wipe(chars, size);
    free(chars);
    return err;
}

static bool space_at(struct span text, size_t at)
{
    return at + TOKENIZER_SPACE_LEN <= text.len && memcmp(text.data + at, TOKENIZER_SPACE, TOKENIZER_SPACE_LEN) == 0;
}

/* May the text be cut before the space at `at`? Not inside a run of spaces, and not where a piece could reach across.
 */
static bool cut_before(const struct engine_tokenizer *t, struct span text, size_t at)
{
    uint8_t before = text.data[at - 1];
    if (before < 0x80)
        return !t->space_inside[before];
    return !t->space_inside_other && !(at >= TOKENIZER_SPACE_LEN && space_at(text, at - TOKENIZER_SPACE_LEN));
}

static enum engine_err encode_spm(const struct engine_tokenizer *t, struct span text, struct engine_tokens *out)
{
    enum engine_err err = ENGINE_OK;
    for (size_t at = 0, end; at < text.len && err == ENGINE_OK; at = end) {
        for (end = at + 1; end < text.len; end++)
            if (text.data[end] == (uint8_t)TOKENIZER_SPACE[0] && space_at(text, end) && cut_before(t, text, end))
                break;
        err = tokenizer_word(t, span_of(text.data + at, end - at), out);
    }
    return err;
}

static enum engine_err encode_fragment(const struct engine_tokenizer *t, struct span text, struct engine_tokens *out)
{
    if (text.len == 0)
        return ENGINE_OK;
    if (t->family == ENGINE_VOCAB_BPE)
        return t->compose && !is_ascii(text) ? encode_composed(t, text, out) : encode_bpe(t, text, out);
    if (!t->space_prefix)
        return encode_spm(t, text, out);
    struct writer prefixed = writer_with_max(text.len + TOKENIZER_SPACE_LEN);
    writer_str(&prefixed, TOKENIZER_SPACE);
    writer_bytes(&prefixed, text);
    enum engine_err err = writer_ok(&prefixed) ? encode_spm(t, writer_span(&prefixed), out) : ENGINE_E_MEMORY;
    writer_release(&prefixed);
    return err;
}

/* White space after a control token of a vocabulary whose control tokens swallow it. */
static size_t skip_spaces(const struct engine_tokenizer *t, struct span text, size_t at)
{
    size_t len;
    for (int32_t c; (c = tokenizer_char(text, at, &len)) >= 0; at += len)
        if (!tokenizer_is_space(c) && !(c == 0x2581 && t->family != ENGINE_VOCAB_BPE))
            break;
    return at;
}

static enum engine_err encode_text(const struct engine_tokenizer *t, struct span text, bool controls,
                                   struct engine_tokens *out)
{
    enum engine_err err = ENGINE_OK;
    size_t begin = 0, at = 0;
    while (at < text.len && err == ENGINE_OK) {
        const struct special *s = NULL;
        if (t->special_first[text.data[at]])
            s = special_at(t, span_of(text.data + at, text.len - at), controls);
        if (!s) {
            at++;
            continue;
        }
        err = encode_fragment(t, span_of(text.data + begin, at - begin), out);
        if (err == ENGINE_OK)
            err = engine_tokens_add(out, s->id);
        at += s->text.len;
        if (t->control_strips && s->control && s->id != t->bos && s->id != t->eos && s->id != t->unknown)
            at = skip_spaces(t, text, at);
        begin = at;
    }
    return err == ENGINE_OK ? encode_fragment(t, span_of(text.data + begin, text.len - begin), out) : err;
}

enum engine_err engine_tokenizer_encode(const struct engine_tokenizer *t, struct span text, unsigned flags,
                                        struct engine_tokens *out)
{
    bool around = flags & ENGINE_TOKENIZE_BOS, controls = flags & ENGINE_TOKENIZE_SPECIAL;
    if (text.len > ENGINE_TOKENIZE_TEXT_MAX)
        return ENGINE_E_LIMIT;
    enum engine_err err = around && t->add_bos ? engine_tokens_add(out, t->bos) : ENGINE_OK;
    if (err != ENGINE_OK)
        return err;
    bool escape = t->family != ENGINE_VOCAB_BPE;
    if (text.len == 0) {
        err = ENGINE_OK;
    } else if (!escape && utf8_is_valid(text)) {
        err = encode_text(t, text, controls, out);
    } else {
        struct writer clean = writer_with_max(3 * text.len + 1);
        normalize(text, escape, &clean);
        err = writer_ok(&clean) ? encode_text(t, writer_span(&clean), controls, out) : ENGINE_E_MEMORY;
        writer_release(&clean);
    }
    return err == ENGINE_OK && around && t->add_eos ? engine_tokens_add(out, t->eos) : err;
}
