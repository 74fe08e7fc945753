/* template_calls.c - methods of strings, lists and mappings, and the global functions. Only those that change nothing.
 */
#include <stdlib.h>
#include <time.h>
#include <utf8proc.h>

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"

typedef struct value method_fn(struct render *r, struct value of, const struct arguments *args);

#define RANGE_MAX 100000

static struct value nothing(void)
{
    return value_undefined(span_of(NULL, 0));
}

/* The text argument at `index`, or a fault. */
static struct span needed_text(struct render *r, const struct arguments *args, size_t index)
{
    struct value v = argument(args, index, NULL, nothing());
    if (v.kind != V_STRING)
        render_fail(r, ENGINE_E_VALUE, "a string was expected, not a value of kind %s", value_kind_name(v));
    return v.kind == V_STRING ? v.s : span_of(NULL, 0);
}

static int64_t integer(const struct arguments *args, size_t index, int64_t otherwise)
{
    struct value v = argument(args, index, NULL, value_int(otherwise));
    return v.kind == V_INT ? v.i : otherwise;
}

/* --- strings ------------------------------------------------------------------------------------ */

static struct value stripped(struct render *r, struct value of, const struct arguments *args, bool left, bool right)
{
    struct value set = argument(args, 0, NULL, value_none());
    if (!render_pay(r, of.s.len / 16))
        return of;
    return value_string(text_strip(of.s, set.kind == V_STRING ? set.s : span_of(NULL, 0), left, right));
}

static struct value method_strip(struct render *r, struct value of, const struct arguments *args)
{
    return stripped(r, of, args, true, true);
}

static struct value method_lstrip(struct render *r, struct value of, const struct arguments *args)
{
    return stripped(r, of, args, true, false);
}

static struct value method_rstrip(struct render *r, struct value of, const struct arguments *args)
{
    return stripped(r, of, args, false, true);
}

static bool has_end(struct span s, struct span part, bool at_end)
{
    return part.len <= s.len && span_equal(span_of(s.data + (at_end ? s.len - part.len : 0), part.len), part);
}

/* The argument may also be a tuple: any of them. */
static struct value ends(struct render *r, struct value of, const struct arguments *args, bool at_end)
{
    struct value parts = argument(args, 0, NULL, nothing());
    if (parts.kind != V_LIST)
        return value_bool(has_end(of.s, needed_text(r, args, 0), at_end));
    for (size_t i = 0; i < parts.list->count; i++)
        if (parts.list->items[i].kind == V_STRING && has_end(of.s, parts.list->items[i].s, at_end))
            return value_bool(true);
    return value_bool(false);
}

static struct value method_startswith(struct render *r, struct value of, const struct arguments *args)
{
    return ends(r, of, args, false);
}

static struct value method_endswith(struct render *r, struct value of, const struct arguments *args)
{
    return ends(r, of, args, true);
}

static struct value method_removeprefix(struct render *r, struct value of, const struct arguments *args)
{
    struct span part = needed_text(r, args, 0);
    return has_end(of.s, part, false) ? value_string(span_of(of.s.data + part.len, of.s.len - part.len)) : of;
}

static struct value method_removesuffix(struct render *r, struct value of, const struct arguments *args)
{
    struct span part = needed_text(r, args, 0);
    return has_end(of.s, part, true) ? value_string(span_of(of.s.data, of.s.len - part.len)) : of;
}

/* A growing list of parts. */
static void push(struct render *r, struct value *list, struct span part, size_t *cap)
{
    if (list->kind != V_LIST || r->err)
        return;
    if (list->list->count == *cap) {
        struct value grown = value_list(r, 2 * *cap + 8);
        if (grown.kind != V_LIST)
            return;
        memcpy(grown.list->items, list->list->items, list->list->count * sizeof *list->list->items);
        grown.list->count = list->list->count;
        *cap = 2 * *cap + 8;
        *list = grown;
    }
    list->list->items[list->list->count++] = value_string(part);
}

static struct value split_spaces(struct render *r, struct span s, int64_t most)
{
    struct value out = value_list(r, 0);
    size_t cap = 0, len;
    while ((s = text_strip(s, span_of(NULL, 0), true, false)).len > 0 && !r->err) {
        size_t end = 0;
        while (end < s.len && !text_is_space(tokenizer_char(s, end, &len)))
            end += len;
        if (most-- == 0)
            end = s.len;
        push(r, &out, span_of(s.data, end), &cap);
        s = span_of(s.data + end, s.len - end);
    }
    return out;
}

static struct value method_split(struct render *r, struct value of, const struct arguments *args)
{
    struct value by = argument(args, 0, "sep", value_none()), limit = argument(args, 1, "maxsplit", value_int(-1));
    int64_t most = limit.kind == V_INT ? limit.i : -1;
    if (!render_pay(r, of.s.len / 16))
        return of;
    if (by.kind == V_NONE)
        return split_spaces(r, of.s, most);
    if (by.kind != V_STRING || by.s.len == 0)
        return render_fail(r, ENGINE_E_VALUE, "split by an empty string or by no string");
    struct value out = value_list(r, 0);
    size_t cap = 0, at = 0;
    for (size_t found; most != 0 && (found = text_find(of.s, by.s, at)) <= of.s.len && !r->err; most--) {
        push(r, &out, span_of(of.s.data + at, found - at), &cap);
        at = found + by.s.len;
    }
    push(r, &out, span_of(of.s.data + at, of.s.len - at), &cap);
    return out;
}

static struct value method_rsplit(struct render *r, struct value of, const struct arguments *args)
{
    struct value limit = argument(args, 1, "maxsplit", value_int(-1));
    struct arguments all = *args;
    all.count = all.count > 1 ? 1 : all.count;
    struct value parts = method_split(r, of, &all);
    int64_t extra = r->err || limit.kind != V_INT || limit.i < 0 ? 0 : (int64_t)parts.list->count - 1 - limit.i;
    if (extra <= 0)
        return parts;
    /* The first parts stay together: they are neighbours in one text. */
    struct value out = value_list(r, parts.list->count - (size_t)extra);
    if (out.kind != V_LIST)
        return out;
    struct span last = parts.list->items[extra].s;
    const uint8_t *begin = parts.list->items[0].s.data;
    out.list->items[0] = value_string(span_of(begin, (size_t)(last.data - begin) + last.len));
    memcpy(out.list->items + 1, parts.list->items + extra + 1, (out.list->count - 1) * sizeof *out.list->items);
    return out;
}

static struct value method_splitlines(struct render *r, struct value of, const struct arguments *args)
{
    struct value out = value_list(r, 0);
    bool keep = value_true(argument(args, 0, "keepends", value_bool(false)));
    size_t cap = 0, begin = 0;
    for (size_t at = 0; at < of.s.len && !r->err; at++) {
        uint8_t c = of.s.data[at];
        if (c != '\n' && c != '\r')
            continue;
        size_t end = at;
        at += c == '\r' && at + 1 < of.s.len && of.s.data[at + 1] == '\n';
        push(r, &out, span_of(of.s.data + begin, (keep ? at + 1 : end) - begin), &cap);
        begin = at + 1;
    }
    if (begin < of.s.len)
        push(r, &out, span_of(of.s.data + begin, of.s.len - begin), &cap);
    return out;
}

static struct value method_replace(struct render *r, struct value of, const struct arguments *args)
{
    struct span from = needed_text(r, args, 0), to = needed_text(r, args, 1);
    struct value most = argument(args, 2, "count", value_int(-1));
    return r->err ? of : text_replace(r, of.s, from, to, most.kind == V_INT ? most.i : -1);
}

static struct value method_upper(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return text_case(r, of.s, 'u');
}

static struct value method_lower(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return text_case(r, of.s, 'l');
}

static struct value method_capitalize(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return text_case(r, of.s, 'c');
}

static struct value method_title(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return text_case(r, of.s, 't');
}

static struct value method_join(struct render *r, struct value of, const struct arguments *args)
{
    struct value all = value_items(r, argument(args, 0, NULL, nothing()));
    struct writer w = writer_with_max(r->arena.max);
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        if (i > 0)
            writer_bytes(&w, of.s);
        if (all.list->items[i].kind != V_STRING)
            render_fail(r, ENGINE_E_VALUE, "join of a value of kind %s", value_kind_name(all.list->items[i]));
        text_print(r, &w, all.list->items[i]);
    }
    return text_finish(r, &w);
}

static struct value method_find(struct render *r, struct value of, const struct arguments *args)
{
    size_t at = text_find(of.s, needed_text(r, args, 0), 0);
    if (r->err || !render_pay(r, of.s.len / 16))
        return of;
    return value_int(at > of.s.len ? -1 : (int64_t)text_length(span_of(of.s.data, at)));
}

static struct value method_rfind(struct render *r, struct value of, const struct arguments *args)
{
    struct span part = needed_text(r, args, 0);
    for (size_t at = part.len <= of.s.len ? of.s.len - part.len + 1 : 0; at-- > 0 && render_pay(r, 1 + part.len / 64);)
        if (part.len == 0 || memcmp(of.s.data + at, part.data, part.len) == 0)
            return value_int((int64_t)text_length(span_of(of.s.data, at)));
    return value_int(-1);
}

static struct value method_count(struct render *r, struct value of, const struct arguments *args)
{
    int64_t n = 0;
    if (of.kind == V_LIST) {
        for (size_t i = 0; i < of.list->count && !r->err; i++)
            n += value_equal(r, of.list->items[i], argument(args, 0, NULL, nothing()));
        return value_int(n);
    }
    struct span part = needed_text(r, args, 0);
    if (part.len == 0)
        return value_int((int64_t)text_length(of.s) + 1);
    for (size_t at = 0; (at = text_find(of.s, part, at)) <= of.s.len && render_pay(r, 1); at += part.len)
        n++;
    return value_int(n);
}

static bool every(struct span s, bool (*wanted)(int32_t))
{
    size_t len;
    for (size_t at = 0; at < s.len; at += len)
        if (!wanted(tokenizer_char(s, at, &len)))
            return false;
    return s.len > 0;
}

static bool is_digit(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

static bool is_letter(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_letter_or_digit(int32_t c)
{
    return is_digit(c) || is_letter(c);
}

static struct value method_isdigit(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return value_bool(render_pay(r, of.s.len / 16) && every(of.s, is_digit));
}

static struct value method_isalpha(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return value_bool(render_pay(r, of.s.len / 16) && every(of.s, is_letter));
}

static struct value method_isalnum(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return value_bool(render_pay(r, of.s.len / 16) && every(of.s, is_letter_or_digit));
}

static struct value method_isspace(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return value_bool(render_pay(r, of.s.len / 16) && every(of.s, text_is_space));
}

/* --- lists and mappings ------------------------------------------------------------------------- */

static struct value method_index(struct render *r, struct value of, const struct arguments *args)
{
    for (size_t i = 0; i < of.list->count && !r->err; i++)
        if (value_equal(r, of.list->items[i], argument(args, 0, NULL, nothing())))
            return value_int((int64_t)i);
    return render_fail(r, ENGINE_E_VALUE, "index of a value that is not in the list");
}

static struct value method_items(struct render *r, struct value of, const struct arguments *args)
{
    return filter(r, span_str("items"), of, args);
}

static struct value method_keys(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    return value_items(r, of);
}

static struct value method_values(struct render *r, struct value of, const struct arguments *args)
{
    (void)args;
    struct value out = value_list(r, of.dict->count);
    for (size_t i = 0; out.kind == V_LIST && i < of.dict->count; i++)
        out.list->items[i] = of.dict->entries[i].value;
    return out;
}

static struct value method_get(struct render *r, struct value of, const struct arguments *args)
{
    const struct value *found = dict_find(r, of.dict, argument(args, 0, NULL, nothing()));
    return found ? *found : argument(args, 1, NULL, value_none());
}

static const struct {
    enum value_kind kind;
    const char *name;
    method_fn *run;
} methods[] = {
    {V_STRING, "capitalize", method_capitalize},
    {V_STRING, "count", method_count},
    {V_STRING, "endswith", method_endswith},
    {V_STRING, "find", method_find},
    {V_STRING, "isalnum", method_isalnum},
    {V_STRING, "isalpha", method_isalpha},
    {V_STRING, "isdigit", method_isdigit},
    {V_STRING, "isspace", method_isspace},
    {V_STRING, "join", method_join},
    {V_STRING, "lower", method_lower},
    {V_STRING, "lstrip", method_lstrip},
    {V_STRING, "removeprefix", method_removeprefix},
    {V_STRING, "removesuffix", method_removesuffix},
    {V_STRING, "replace", method_replace},
    {V_STRING, "rfind", method_rfind},
    {V_STRING, "rsplit", method_rsplit},
    {V_STRING, "rstrip", method_rstrip},
    {V_STRING, "split", method_split},
    {V_STRING, "splitlines", method_splitlines},
    {V_STRING, "startswith", method_startswith},
    {V_STRING, "strip", method_strip},
    {V_STRING, "title", method_title},
    {V_STRING, "upper", method_upper},
    {V_LIST, "count", method_count},
    {V_LIST, "index", method_index},
    {V_DICT, "get", method_get},
    {V_DICT, "items", method_items},
    {V_DICT, "keys", method_keys},
    {V_DICT, "values", method_values},
};

static method_fn *find_method(struct value of, struct span name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == of.kind && span_is(name, methods[i].name))
            return methods[i].run;
    return NULL;
}

bool has_method(struct value of, struct span name)
{
    return find_method(of, name) != NULL;
}

struct value call_method(struct render *r, struct value of, struct span name, const struct arguments *args)
{
    struct value out = render_pay(r, 1) ? find_method(of, name)(r, of, args) : nothing();
    return r->err ? nothing() : out;
}

/* --- functions ---------------------------------------------------------------------------------- */

/* namespace(a=1, b=2) or namespace({..}); dict the same. */
static struct value make_mapping(struct render *r, const struct arguments *args, enum value_kind kind)
{
    struct value out = value_dict(r, args->named_count), from = argument(args, 0, NULL, value_none());
    if (out.kind != V_DICT)
        return out;
    for (size_t i = 0; from.kind == V_DICT && i < from.dict->count && !r->err; i++)
        dict_set(r, out.dict, from.dict->entries[i].key, from.dict->entries[i].value);
    for (size_t i = 0; i < args->named_count && !r->err; i++)
        dict_set(r, out.dict, args->named[i].key, args->named[i].value);
    out.kind = kind;
    return out;
}

static struct value function_range(struct render *r, const struct arguments *args)
{
    int64_t from = args->count > 1 ? integer(args, 0, 0) : 0, to = integer(args, args->count > 1 ? 1 : 0, 0);
    int64_t by = integer(args, 2, 1), n = 0;
    const int64_t most = (int64_t)1 << 40;
    if (by == 0 || from < -most || from > most || to < -most || to > most || by < -most || by > most)
        return render_fail(r, ENGINE_E_VALUE, "range with numbers out of range or step zero");
    if (by > 0 ? from < to : from > to)
        n = by > 0 ? (to - from - 1) / by + 1 : (from - to - 1) / -by + 1;
    if (n > RANGE_MAX)
        return render_fail(r, ENGINE_E_LIMIT, "range of more than %d numbers", RANGE_MAX);
    struct value out = value_list(r, (size_t)n);
    for (int64_t i = 0; out.kind == V_LIST && i < n; i++)
        out.list->items[i] = value_int(from + i * by);
    return out;
}

static struct value function_strftime_now(struct render *r, const struct arguments *args)
{
    char format[128], text[512];
    struct span f = needed_text(r, args, 0);
    time_t now = (time_t)r->now;
    struct tm tm;
    if (r->err || f.len >= sizeof format || (f.len > 0 && memchr(f.data, 0, f.len)) || !gmtime_r(&now, &tm))
        return render_fail(r, ENGINE_E_VALUE, "strftime_now needs a format of at most %zu bytes", sizeof format - 1);
    if (f.len > 0)
        memcpy(format, f.data, f.len);
    format[f.len] = '\0';
    size_t len = strftime(text, sizeof text, format, &tm);
    return value_copy(r, span_of(text, len));
}

static struct value function_raise(struct render *r, const struct arguments *args)
{
    struct value why = text_of(r, argument(args, 0, NULL, value_text("")));
    return r->err ? why
                  : render_fail(r, ENGINE_E_REFUSED, "%.*s", (int)(why.s.len < 199 ? why.s.len : 199),
                                why.s.len ? (const char *)why.s.data : "");
}

bool is_function(struct span name)
{
    return span_is(name, "namespace") || span_is(name, "dict") || span_is(name, "range") ||
           span_is(name, "strftime_now") || span_is(name, "raise_exception");
}

struct value call_function(struct render *r, struct span name, const struct arguments *args)
{
    if (span_is(name, "namespace"))
        return make_mapping(r, args, V_NAMESPACE);
    if (span_is(name, "dict"))
        return make_mapping(r, args, V_DICT);
    if (span_is(name, "range"))
        return function_range(r, args);
    if (span_is(name, "strftime_now"))
        return function_strftime_now(r, args);
    return function_raise(r, args);
}
