/* template_text.c - values as Python and JSON print them, and text by characters. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"

#define NEST_MAX 200

/* --- printing ----------------------------------------------------------------------------------- */

/* The shortest digits that read back as the same number, as Python's repr() writes them. */
static void print_float(struct writer *w, double f)
{
    char text[64], digits[32];
    int precision = 1, exponent;
    if (!isfinite(f)) {
        writer_str(w, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    do
        snprintf(text, sizeof text, "%.*e", precision - 1, f);
    while (precision++ < 17 && strtod(text, NULL) != f);
    exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) { /* 1e+16, 1.5e-05 */
        *strchr(text, 'e') = '\0';
        snprintf(digits, sizeof digits, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        writer_str(w, text);
        writer_str(w, digits);
        return;
    }
    int decimals = precision - 2 - exponent;
    snprintf(text, sizeof text, "%.*f", decimals < 1 ? 1 : decimals, f);
    writer_str(w, text);
}

/* Python's repr() of a string. */
static void print_quoted(struct writer *w, struct span s)
{
    bool single = s.len > 0 && memchr(s.data, '\'', s.len), twice = s.len > 0 && memchr(s.data, '"', s.len);
    uint8_t quote = single && !twice ? '"' : '\'';
    size_t len;
    writer_u8(w, quote);
    for (size_t at = 0; at < s.len; at += len) {
        int32_t c = tokenizer_char(s, at, &len);
        const char *names = "\n\r\t", *known = c > 0 && c < 0x20 ? strchr(names, (int)c) : NULL;
        if (c == quote || c == '\\')
            writer_printf(w, "\\%c", (int)c);
        else if (known)
            writer_printf(w, "\\%c", "nrt"[known - names]);
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad)
            writer_printf(w, "\\x%02x", (unsigned)c);
        else
            writer_bytes(w, span_of(s.data + at, len));
    }
    writer_u8(w, quote);
}

static void print(struct render *r, struct writer *w, struct value v, unsigned depth);

static void print_list(struct render *r, struct writer *w, struct value v, unsigned depth)
{
    writer_u8(w, v.tuple ? '(' : '[');
    for (size_t i = 0; i < v.list->count && !r->err; i++) {
        if (i > 0)
            writer_str(w, ", ");
        print(r, w, v.list->items[i], depth + 1);
    }
    writer_str(w, v.tuple ? (v.list->count == 1 ? ",)" : ")") : "]");
}

static void print_dict(struct render *r, struct writer *w, const struct dict *d, unsigned depth)
{
    writer_u8(w, '{');
    for (size_t i = 0; i < d->count && !r->err; i++) {
        if (i > 0)
            writer_str(w, ", ");
        print(r, w, d->entries[i].key, depth + 1);
        writer_str(w, ": ");
        print(r, w, d->entries[i].value, depth + 1);
    }
    writer_u8(w, '}');
}

/* repr() inside of containers (depth > 0), str() outside. */
static void print(struct render *r, struct writer *w, struct value v, unsigned depth)
{
    if (depth > NEST_MAX)
        render_fail(r, ENGINE_E_LIMIT, "values nested deeper than %d", NEST_MAX);
    if (!render_pay(r, 1 + (v.kind == V_STRING ? v.s.len / 16 : 0)))
        return;
    switch (v.kind) {
    case V_UNDEFINED:
        writer_str(w, depth > 0 ? "Undefined" : "");
        break;
    case V_NONE:
        writer_str(w, "None");
        break;
    case V_BOOL:
        writer_str(w, v.b ? "True" : "False");
        break;
    case V_INT:
        writer_printf(w, "%" PRId64, v.i);
        break;
    case V_FLOAT:
        print_float(w, v.f);
        break;
    case V_STRING:
        if (depth > 0)
            print_quoted(w, v.s);
        else
            writer_bytes(w, v.s);
        break;
    case V_LIST:
        print_list(r, w, v, depth);
        break;
    case V_DICT:
        print_dict(r, w, v.dict, depth);
        break;
    default:
        writer_printf(w, "<%s>", value_kind_name(v));
    }
}

void text_print(struct render *r, struct writer *w, struct value v)
{
    print(r, w, v, 0);
    if (!writer_ok(w))
        render_fail(r, ENGINE_E_LIMIT, "the text is longer than its limit");
}

struct value text_finish(struct render *r, struct writer *w)
{
    struct value out = value_undefined(span_of(NULL, 0));
    if (!writer_ok(w))
        render_fail(r, ENGINE_E_LIMIT, "the text is longer than its limit");
    else
        out = value_copy(r, writer_span(w));
    writer_release(w);
    return out;
}

static struct writer capture(const struct render *r)
{
    return writer_with_max(r->arena.max);
}

struct value text_of(struct render *r, struct value v)
{
    if (v.kind == V_STRING)
        return v;
    struct writer w = capture(r);
    print(r, &w, v, 0);
    return text_finish(r, &w);
}

/* --- JSON --------------------------------------------------------------------------------------- */

static void json_text(struct writer *w, struct span s, bool ascii)
{
    size_t len;
    writer_u8(w, '"');
    for (size_t at = 0; at < s.len; at += len) {
        int32_t c = tokenizer_char(s, at, &len);
        const char *names = "\n\r\t\b\f", *known = c > 0 && c < 0x20 ? strchr(names, (int)c) : NULL;
        if (c == '"' || c == '\\')
            writer_printf(w, "\\%c", (int)c);
        else if (known)
            writer_printf(w, "\\%c", "nrtbf"[known - names]);
        else if (c >= 0x10000 && ascii)
            writer_printf(w, "\\u%04x\\u%04x", 0xd800u + ((unsigned)(c - 0x10000) >> 10),
                          0xdc00u + ((unsigned)(c - 0x10000) & 0x3ff));
        else if (c < 0x20 || (ascii && c >= 0x7f))
            writer_printf(w, "\\u%04x", (unsigned)c);
        else
            writer_bytes(w, span_of(s.data + at, len));
    }
    writer_u8(w, '"');
}

static void json_float(struct writer *w, double f)
{
    if (isfinite(f))
        print_float(w, f);
    else
        writer_str(w, isnan(f) ? "NaN" : f < 0 ? "-Infinity" : "Infinity");
}

static void json_line(struct writer *w, const struct json_style *style, unsigned depth)
{
    if (style->indent < 0)
        return;
    writer_u8(w, '\n');
    for (unsigned i = 0; i < depth * (unsigned)style->indent && writer_ok(w); i++)
        writer_u8(w, ' ');
}

static void json_value(struct render *r, struct writer *w, struct value v, const struct json_style *style,
                       unsigned depth);

static void json_list(struct render *r, struct writer *w, const struct list *l, const struct json_style *style,
                      unsigned depth)
{
    writer_u8(w, '[');
    for (size_t i = 0; i < l->count && !r->err; i++) {
        if (i > 0)
            writer_bytes(w, style->item);
        json_line(w, style, depth + 1);
        json_value(r, w, l->items[i], style, depth + 1);
    }
    if (l->count > 0)
        json_line(w, style, depth);
    writer_u8(w, ']');
}

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    size_t len = x->key.s.len < y->key.s.len ? x->key.s.len : y->key.s.len;
    int o = len ? memcmp(x->key.s.data, y->key.s.data, len) : 0;
    return o ? o : x->key.s.len < y->key.s.len ? -1 : x->key.s.len > y->key.s.len;
}

static void json_dict(struct render *r, struct writer *w, const struct dict *d, const struct json_style *style,
                      unsigned depth)
{
    struct entry *entries = render_get(r, (d->count + 1) * sizeof *entries);
    if (!entries)
        return;
    memcpy(entries, d->entries, d->count * sizeof *entries);
    for (size_t i = 0; i < d->count; i++)
        entries[i].key = text_of(r, entries[i].key);
    if (style->sorted && !r->err)
        qsort(entries, d->count, sizeof *entries, by_key);
    writer_u8(w, '{');
    for (size_t i = 0; i < d->count && !r->err; i++) {
        if (i > 0)
            writer_bytes(w, style->item);
        json_line(w, style, depth + 1);
        json_text(w, entries[i].key.s, style->ascii);
        writer_bytes(w, style->key);
        json_value(r, w, entries[i].value, style, depth + 1);
    }
    if (d->count > 0)
        json_line(w, style, depth);
    writer_u8(w, '}');
}

static void json_value(struct render *r, struct writer *w, struct value v, const struct json_style *style,
                       unsigned depth)
{
    if (depth > NEST_MAX)
        render_fail(r, ENGINE_E_LIMIT, "values nested deeper than %d", NEST_MAX);
    if (!render_pay(r, 1 + (v.kind == V_STRING ? v.s.len / 16 : 0)))
        return;
    switch (v.kind) {
    case V_NONE:
        writer_str(w, "null");
        break;
    case V_BOOL:
        writer_str(w, v.b ? "true" : "false");
        break;
    case V_INT:
        writer_printf(w, "%" PRId64, v.i);
        break;
    case V_FLOAT:
        json_float(w, v.f);
        break;
    case V_STRING:
        json_text(w, v.s, style->ascii);
        break;
    case V_LIST:
        json_list(r, w, v.list, style, depth);
        break;
    case V_DICT:
        json_dict(r, w, v.dict, style, depth);
        break;
    default:
        render_fail(r, ENGINE_E_VALUE, "a value of kind %s cannot be written as JSON", value_kind_name(v));
    }
}

void text_json(struct render *r, struct writer *w, struct value v, const struct json_style *style)
{
    struct json_style full = *style;
    if (!full.item.data)
        full.item = span_str(full.indent < 0 ? ", " : ",");
    if (!full.key.data)
        full.key = span_str(": ");
    json_value(r, w, v, &full, 0);
}

/* --- characters --------------------------------------------------------------------------------- */

size_t text_length(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += (s.data[i] & 0xc0) != 0x80;
    return n;
}

/* Byte offset of character `n`, or the length. */
static size_t offset_of(struct span s, size_t n)
{
    size_t at = 0;
    for (; at < s.len; at++)
        if ((s.data[at] & 0xc0) != 0x80 && n-- == 0)
            break;
    return at;
}

struct span text_part(struct span s, size_t from, size_t to)
{
    size_t begin = offset_of(s, from), end = offset_of(s, to);
    return begin < end ? span_of(s.data + begin, end - begin) : span_of(s.data, 0);
}

bool text_is_space(int32_t c)
{
    return (c >= 0x1c && c <= 0x1f) || tokenizer_is_space(c);
}

static bool in_set(int32_t c, struct span set)
{
    size_t len;
    if (!set.data)
        return text_is_space(c);
    for (size_t at = 0; at < set.len; at += len)
        if (tokenizer_char(set, at, &len) == c)
            return true;
    return false;
}

struct span text_strip(struct span s, struct span set, bool left, bool right)
{
    size_t begin = 0, end = s.len, len;
    while (left && begin < end && in_set(tokenizer_char(s, begin, &len), set))
        begin += len;
    while (right && end > begin) {
        size_t last = end - 1;
        while (last > begin && (s.data[last] & 0xc0) == 0x80)
            last--;
        if (!in_set(tokenizer_char(s, last, &len), set))
            break;
        end = last;
    }
    return end > begin ? span_of(s.data + begin, end - begin) : span_of(s.data, 0);
}

struct value text_case(struct render *r, struct span s, char how)
{
    struct writer w = capture(r);
    bool first = true;
    size_t len;
    for (size_t at = 0; at < s.len; at += len) {
        int32_t c = tokenizer_char(s, at, &len);
        bool title = (how == 'c' || how == 't') && first;
        uint8_t out[4];
        int32_t other = title ? utf8proc_totitle(c) : how == 'u' ? utf8proc_toupper(c) : utf8proc_tolower(c);
        if (c == 0xdf && other != c) /* sharp s has no capital of its own in Python */
            writer_str(&w, title ? "Ss" : "SS");
        else
            writer_bytes(&w, span_of(out, (size_t)utf8proc_encode_char(other, out)));
        first = how == 't' && utf8proc_toupper(c) == utf8proc_tolower(c);
    }
    return render_pay(r, s.len / 4) ? text_finish(r, &w) : (writer_release(&w), value_none());
}

size_t text_find(struct span s, struct span part, size_t from)
{
    if (from > s.len || part.len > s.len - from)
        return s.len + 1;
    if (part.len == 0)
        return from;
    const uint8_t *at = memmem(s.data + from, s.len - from, part.data, part.len);
    return at ? (size_t)(at - s.data) : s.len + 1;
}

struct value text_replace(struct render *r, struct span s, struct span from, struct span to, int64_t most)
{
    struct writer w = capture(r);
    size_t at = 0, len;
    for (size_t found; most != 0 && (found = text_find(s, from, at)) <= s.len && render_pay(r, 1); most--) {
        writer_bytes(&w, span_of(s.data + at, found - at));
        writer_bytes(&w, to);
        at = found + from.len;
        if (from.len > 0)
            continue;
        if (at == s.len) /* an empty part stands between all characters */
            break;
        (void)tokenizer_char(s, at, &len);
        writer_bytes(&w, span_of(s.data + at, len));
        at += len;
    }
    writer_bytes(&w, span_of(s.data + at, s.len - at));
    render_pay(r, w.len / 16);
    return text_finish(r, &w);
}

struct value text_escape_html(struct render *r, struct span s)
{
    struct writer w = capture(r);
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c == '&')
            writer_str(&w, "&amp;");
        else if (c == '<')
            writer_str(&w, "&lt;");
        else if (c == '>')
            writer_str(&w, "&gt;");
        else if (c == '"')
            writer_str(&w, "&#34;");
        else if (c == '\'')
            writer_str(&w, "&#39;");
        else
            writer_u8(&w, c);
    }
    return render_pay(r, s.len / 4) ? text_finish(r, &w) : (writer_release(&w), value_none());
}
