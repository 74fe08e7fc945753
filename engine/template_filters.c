/* template_filters.c - Jinja's filters (jinja2/filters.py, 3.1) as far as chat templates use them. Each gets the value
 * before the bar and its arguments; an unknown filter is a fault that names it. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"

typedef struct value filter_fn(struct render *r, struct value v, const struct arguments *args);

static struct value nothing(void)
{
    return value_undefined(span_of(NULL, 0));
}

static bool flag(const struct arguments *args, size_t index, const char *name, bool otherwise)
{
    return value_true(argument(args, index, name, value_bool(otherwise)));
}

static int64_t integer(const struct arguments *args, size_t index, const char *name, int64_t otherwise)
{
    struct value v = argument(args, index, name, value_int(otherwise));
    return v.kind == V_INT ? v.i : v.kind == V_BOOL ? v.b : otherwise;
}

static struct span text(struct render *r, const struct arguments *args, size_t index, const char *name,
                        const char *otherwise)
{
    return text_of(r, argument(args, index, name, value_text(otherwise))).s;
}

/* --- text --------------------------------------------------------------------------------------- */

static struct value filter_trim(struct render *r, struct value v, const struct arguments *args)
{
    struct value set = argument(args, 0, "chars", value_none());
    struct value s = text_of(r, v);
    if (r->err || !render_pay(r, s.s.len / 16))
        return s;
    return value_string(text_strip(s.s, set.kind == V_STRING ? set.s : span_of(NULL, 0), true, true));
}

static struct value cased(struct render *r, struct value v, char how)
{
    struct value s = text_of(r, v);
    return r->err ? s : text_case(r, s.s, how);
}

static struct value filter_upper(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    return cased(r, v, 'u');
}

static struct value filter_lower(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    return cased(r, v, 'l');
}

static struct value filter_capitalize(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    return cased(r, v, 'c');
}

static struct value filter_title(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    return cased(r, v, 't');
}

static struct value filter_replace(struct render *r, struct value v, const struct arguments *args)
{
    struct value s = text_of(r, v);
    struct span from = text(r, args, 0, "old", ""), to = text(r, args, 1, "new", "");
    return r->err ? s : text_replace(r, s.s, from, to, integer(args, 2, "count", -1));
}

static struct value filter_string(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    return text_of(r, v);
}

static struct value filter_safe(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    (void)r;
    return v;
}

static struct value filter_escape(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    struct value s = text_of(r, v);
    return r->err ? s : text_escape_html(r, s.s);
}

static struct value filter_indent(struct render *r, struct value v, const struct arguments *args)
{
    int64_t width = integer(args, 0, "width", 4);
    bool first = flag(args, 1, "first", false), blank = flag(args, 2, "blank", false);
    struct writer w = writer_with_max(r->arena.max);
    struct value s = text_of(r, v);
    for (size_t at = 0, end; !r->err && at < s.s.len; at = end) {
        const uint8_t *newline = memchr(s.s.data + at, '\n', s.s.len - at);
        end = newline ? (size_t)(newline - s.s.data) + 1 : s.s.len;
        bool pair = newline && end - at > 1 && newline[-1] == '\r', empty = newline && end - at == (pair ? 2 : 1);
        for (int64_t i = 0; (at > 0 || first) && (blank || !empty) && i < width && render_pay(r, 1); i++)
            writer_u8(&w, ' ');
        writer_bytes(&w, span_of(s.s.data + at, end - at - (pair ? 2 : 0)));
        if (pair)
            writer_u8(&w, '\n');
    }
    return text_finish(r, &w);
}

static struct value filter_tojson(struct render *r, struct value v, const struct arguments *args)
{
    struct value indent = argument(args, 1, "indent", value_none());
    struct value separators = argument(args, 2, "separators", value_none());
    struct json_style style = {
        .indent = indent.kind == V_INT && indent.i >= 0 && indent.i <= 64 ? (int)indent.i : -1,
        .ascii = flag(args, 0, "ensure_ascii", false),
        .sorted = flag(args, 3, "sort_keys", false),
    };
    if (separators.kind == V_LIST && separators.list->count == 2 && separators.list->items[0].kind == V_STRING &&
        separators.list->items[1].kind == V_STRING) {
        style.item = separators.list->items[0].s;
        style.key = separators.list->items[1].s;
    }
    struct writer w = writer_with_max(r->arena.max);
    text_json(r, &w, v, &style);
    return text_finish(r, &w);
}

/* --- numbers ------------------------------------------------------------------------------------ */

/* Digits with a sign and white space around, all of it; false: something else. */
static bool parse_number(struct span s, bool integer_only, double *f, int64_t *i)
{
    char copy[64], *end;
    s = text_strip(s, span_of(NULL, 0), true, true);
    if (s.len == 0 || s.len >= sizeof copy || memchr(s.data, 0, s.len))
        return false;
    memcpy(copy, s.data, s.len);
    copy[s.len] = '\0';
    if (copy[strspn(copy, "+-.0123456789eE")])
        return false; /* no hexadecimal, no "inf" */
    errno = 0;
    if (integer_only)
        *i = strtoll(copy, &end, 10);
    else
        *f = strtod(copy, &end);
    return *end == '\0' && errno == 0;
}

static struct value filter_int(struct render *r, struct value v, const struct arguments *args)
{
    struct value otherwise = argument(args, 0, "default", value_int(0));
    int64_t i;
    double f = value_number(v);
    (void)r;
    if (v.kind == V_STRING && parse_number(v.s, true, &f, &i))
        return value_int(i);
    if ((v.kind != V_STRING && !value_is_number(v)) || (v.kind == V_STRING && !parse_number(v.s, false, &f, &i)))
        return otherwise;
    return v.kind == V_INT ? v : fabs(f) < 9e18 ? value_int((int64_t)f) : otherwise;
}

static struct value filter_float(struct render *r, struct value v, const struct arguments *args)
{
    int64_t i;
    double f = value_number(v);
    (void)r;
    if (value_is_number(v) || (v.kind == V_STRING && parse_number(v.s, false, &f, &i)))
        return value_float(f);
    return argument(args, 0, "default", value_float(0));
}

static struct value filter_abs(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    if (v.kind == V_FLOAT)
        return value_float(fabs(v.f));
    if (v.kind == V_INT && v.i != INT64_MIN)
        return value_int(v.i < 0 ? -v.i : v.i);
    return render_fail(r, ENGINE_E_VALUE, "abs of a value of kind %s", value_kind_name(v));
}

static struct value filter_round(struct render *r, struct value v, const struct arguments *args)
{
    int64_t digits = integer(args, 0, "precision", 0);
    struct span how = text(r, args, 1, "method", "common");
    if (!value_is_number(v) || digits < -15 || digits > 15)
        return render_fail(r, ENGINE_E_VALUE, "round of a value of kind %s", value_kind_name(v));
    double scale = pow(10, (double)digits), f = value_number(v) * scale;
    f = span_is(how, "ceil") ? ceil(f) : span_is(how, "floor") ? floor(f) : nearbyint(f);
    return value_float(f / scale);
}

/* --- lists -------------------------------------------------------------------------------------- */

static struct value filter_length(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    switch (v.kind) {
    case V_STRING:
        return value_int(render_pay(r, v.s.len / 16) ? (int64_t)text_length(v.s) : 0);
    case V_LIST:
        return value_int((int64_t)v.list->count);
    case V_DICT:
        return value_int((int64_t)v.dict->count);
    case V_UNDEFINED:
        return value_int(0);
    default:
        return render_fail(r, ENGINE_E_VALUE, "length of a value of kind %s", value_kind_name(v));
    }
}

/* `path` is a member, several with dots between them, or an index. */
static struct value attribute(struct render *r, struct value v, struct value path)
{
    if (path.kind != V_STRING)
        return item(r, v, path);
    for (size_t at = 0; at <= path.s.len && !r->err;) {
        size_t dot = text_find(path.s, span_str("."), at), end = dot > path.s.len ? path.s.len : dot;
        struct span name = span_of(path.s.data + at, end - at);
        double f;
        int64_t i;
        v = parse_number(name, true, &f, &i) ? item(r, v, value_int(i)) : item(r, v, value_string(name));
        at = end + 1;
    }
    return v;
}

static struct value filter_join(struct render *r, struct value v, const struct arguments *args)
{
    struct span between = text(r, args, 0, "d", "");
    struct value path = argument(args, 1, "attribute", value_none()), all = value_items(r, v);
    struct writer w = writer_with_max(r->arena.max);
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        struct value one = all.list->items[i];
        if (i > 0)
            writer_bytes(&w, between);
        text_print(r, &w, path.kind == V_NONE ? one : attribute(r, one, path));
    }
    return text_finish(r, &w);
}

static struct value filter_list(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    struct value all = value_items(r, v);
    if (r->err || !all.tuple)
        return all;
    struct value out = value_list(r, all.list->count);
    if (out.kind == V_LIST)
        memcpy(out.list->items, all.list->items, all.list->count * sizeof *out.list->items);
    return out;
}

static struct value pairs_of(struct render *r, const struct dict *d)
{
    struct value out = value_list(r, d->count);
    for (size_t i = 0; out.kind == V_LIST && i < d->count; i++) {
        struct value pair = value_list(r, 2);
        if (pair.kind != V_LIST)
            return pair;
        pair.tuple = true;
        pair.list->items[0] = d->entries[i].key;
        pair.list->items[1] = d->entries[i].value;
        out.list->items[i] = pair;
    }
    return out;
}

static struct value filter_items(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    if (v.kind == V_UNDEFINED)
        return value_list(r, 0);
    if (v.kind != V_DICT)
        return render_fail(r, ENGINE_E_VALUE, "items of a value of kind %s", value_kind_name(v));
    return pairs_of(r, v.dict);
}

static struct value filter_first(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    struct value all = value_items(r, v);
    return !r->err && all.list->count > 0 ? all.list->items[0] : nothing();
}

static struct value filter_last(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    struct value all = value_items(r, v);
    return !r->err && all.list->count > 0 ? all.list->items[all.list->count - 1] : nothing();
}

static struct value filter_default(struct render *r, struct value v, const struct arguments *args)
{
    (void)r;
    bool missing = v.kind == V_UNDEFINED || (flag(args, 1, "boolean", false) && !value_true(v));
    return missing ? argument(args, 0, "default_value", value_text("")) : v;
}

static struct value filter_reverse(struct render *r, struct value v, const struct arguments *args)
{
    (void)args;
    return slice(r, v, value_none(), value_none(), value_int(-1));
}

static struct value filter_batch(struct render *r, struct value v, const struct arguments *args)
{
    struct value all = value_items(r, v), fill = argument(args, 1, "fill_with", value_none());
    int64_t size = integer(args, 0, "linecount", 0);
    if (r->err || size < 1 || size > 100000)
        return render_fail(r, ENGINE_E_VALUE, "batch needs a size");
    size_t n = all.list->count, rows = (n + (size_t)size - 1) / (size_t)size;
    struct value out = value_list(r, rows);
    for (size_t i = 0; i < rows && !r->err; i++) {
        size_t left = n - i * (size_t)size, len = left < (size_t)size ? left : (size_t)size;
        struct value row = value_list(r, fill.kind == V_NONE ? len : (size_t)size);
        for (size_t k = 0; row.kind == V_LIST && k < row.list->count; k++)
            row.list->items[k] = k < len ? all.list->items[i * (size_t)size + k] : fill;
        if (!r->err)
            out.list->items[i] = row;
    }
    return out;
}

/* What `map`, `select` and the like do to one item: test or filter `name` with the arguments after the first `skip`. */
static struct arguments rest_of(const struct arguments *args, size_t skip)
{
    struct arguments rest = *args;
    if (skip > args->count)
        skip = args->count;
    rest.count -= skip;
    rest.at = rest.count > 0 ? args->at + skip : NULL;
    return rest;
}

static struct value filter_map(struct render *r, struct value v, const struct arguments *args)
{
    struct value path = argument(args, SIZE_MAX, "attribute", value_none()), all = value_items(r, v);
    struct value otherwise = argument(args, SIZE_MAX, "default", nothing());
    struct value out = value_list(r, r->err ? 0 : all.list->count);
    struct arguments rest = rest_of(args, 1);
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        struct value one = all.list->items[i];
        if (path.kind != V_NONE) {
            one = attribute(r, one, path);
            out.list->items[i] = one.kind == V_UNDEFINED ? otherwise : one;
        } else if (args->count > 0 && args->at[0].kind == V_STRING) {
            out.list->items[i] = filter(r, args->at[0].s, one, &rest);
        } else {
            return render_fail(r, ENGINE_E_VALUE, "map needs a filter or an attribute");
        }
    }
    return out;
}

static struct value selected(struct render *r, struct value v, const struct arguments *args, bool by_attribute,
                             bool wanted)
{
    struct value all = value_items(r, v), out = value_list(r, r->err ? 0 : all.list->count);
    size_t at = by_attribute ? 1 : 0, n = 0;
    struct arguments rest = rest_of(args, at + 1);
    if (!r->err && args->count < at)
        return render_fail(r, ENGINE_E_VALUE, "selectattr and rejectattr need an attribute");
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        struct value one = by_attribute ? attribute(r, all.list->items[i], args->at[0]) : all.list->items[i];
        bool yes =
            args->count > at && args->at[at].kind == V_STRING ? test(r, args->at[at].s, one, &rest) : value_true(one);
        if (yes == wanted)
            out.list->items[n++] = all.list->items[i];
    }
    if (!r->err)
        out.list->count = n;
    return out;
}

static struct value filter_select(struct render *r, struct value v, const struct arguments *args)
{
    return selected(r, v, args, false, true);
}

static struct value filter_reject(struct render *r, struct value v, const struct arguments *args)
{
    return selected(r, v, args, false, false);
}

static struct value filter_selectattr(struct render *r, struct value v, const struct arguments *args)
{
    return selected(r, v, args, true, true);
}

static struct value filter_rejectattr(struct render *r, struct value v, const struct arguments *args)
{
    return selected(r, v, args, true, false);
}

/* How sort, unique, min, max and sum see an item. */
static struct value sort_key(struct render *r, struct value v, struct value path, bool case_sensitive)
{
    if (path.kind != V_NONE)
        v = attribute(r, v, path);
    return v.kind == V_STRING && !case_sensitive ? text_case(r, v.s, 'l') : v;
}

/* A stable merge sort of `n` entries (key, item) from `a`, with `scratch` as large. */
static void merge_sort(struct render *r, struct entry *a, struct entry *scratch, size_t n, int direction)
{
    for (size_t width = 1; width < n && !r->err; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t middle = from + width < n ? from + width : n, end = from + 2 * width < n ? from + 2 * width : n;
            size_t left = from, right = middle;
            for (size_t to = from; to < end; to++) {
                bool take_right = left == middle || (right < end && !r->err && render_pay(r, 1) &&
                                                     value_order(r, a[right].key, a[left].key) * direction < 0);
                scratch[to] = a[take_right && right < end ? right++ : left++];
            }
        }
        memcpy(a, scratch, n * sizeof *a);
    }
}

static struct value sorted(struct render *r, struct value all, struct value path, bool case_sensitive, bool reverse)
{
    size_t n = r->err ? 0 : all.list->count;
    struct value out = value_list(r, n);
    struct entry *entries = render_get(r, 2 * (n + 1) * sizeof *entries);
    for (size_t i = 0; i < n && !r->err; i++)
        entries[i] = (struct entry){sort_key(r, all.list->items[i], path, case_sensitive), all.list->items[i]};
    if (!r->err)
        merge_sort(r, entries, entries + n, n, reverse ? -1 : 1);
    for (size_t i = 0; i < n && !r->err; i++)
        out.list->items[i] = entries[i].value;
    return out;
}

static struct value filter_sort(struct render *r, struct value v, const struct arguments *args)
{
    return sorted(r, value_items(r, v), argument(args, 2, "attribute", value_none()),
                  flag(args, 1, "case_sensitive", false), flag(args, 0, "reverse", false));
}

static struct value filter_dictsort(struct render *r, struct value v, const struct arguments *args)
{
    bool by_value = span_is(text(r, args, 1, "by", "key"), "value");
    return sorted(r, filter_items(r, v, args), value_int(by_value ? 1 : 0), flag(args, 0, "case_sensitive", false),
                  flag(args, 2, "reverse", false));
}

static struct value filter_unique(struct render *r, struct value v, const struct arguments *args)
{
    struct value all = value_items(r, v), path = argument(args, 1, "attribute", value_none());
    struct value seen = value_list(r, r->err ? 0 : all.list->count), out = value_list(r, r->err ? 0 : all.list->count);
    size_t n = 0;
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        struct value key = sort_key(r, all.list->items[i], path, flag(args, 0, "case_sensitive", false));
        seen.list->count = n;
        if (value_in(r, key, seen))
            continue;
        seen.list->items[n] = key;
        out.list->items[n++] = all.list->items[i];
    }
    if (!r->err)
        out.list->count = n;
    return out;
}

static struct value extreme(struct render *r, struct value v, const struct arguments *args, int direction)
{
    struct value all = value_items(r, v), path = argument(args, 1, "attribute", value_none()), best_key = nothing();
    struct value best = nothing();
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        struct value key = sort_key(r, all.list->items[i], path, flag(args, 0, "case_sensitive", false));
        if (i > 0 && value_order(r, key, best_key) * direction <= 0)
            continue;
        best_key = key;
        best = all.list->items[i];
    }
    return best;
}

static struct value filter_min(struct render *r, struct value v, const struct arguments *args)
{
    return extreme(r, v, args, -1);
}

static struct value filter_max(struct render *r, struct value v, const struct arguments *args)
{
    return extreme(r, v, args, 1);
}

static struct value filter_sum(struct render *r, struct value v, const struct arguments *args)
{
    struct value all = value_items(r, v), path = argument(args, 0, "attribute", value_none());
    struct value total = argument(args, 1, "start", value_int(0));
    for (size_t i = 0; !r->err && i < all.list->count; i++) {
        struct value one = path.kind == V_NONE ? all.list->items[i] : attribute(r, all.list->items[i], path);
        if (!value_is_number(one) || !value_is_number(total))
            return render_fail(r, ENGINE_E_VALUE, "sum of a value of kind %s", value_kind_name(one));
        if (one.kind == V_FLOAT || total.kind == V_FLOAT)
            total = value_float(value_number(total) + value_number(one));
        else if (__builtin_add_overflow(total.kind == V_INT ? total.i : total.b, one.kind == V_INT ? one.i : one.b,
                                        &total.i))
            return render_fail(r, ENGINE_E_VALUE, "a number out of range");
        else
            total.kind = V_INT;
    }
    return total;
}

/* --- by name ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    filter_fn *run;
} filters[] = {
    {"abs", filter_abs},           {"batch", filter_batch},     {"capitalize", filter_capitalize},
    {"count", filter_length},      {"d", filter_default},       {"default", filter_default},
    {"dictsort", filter_dictsort}, {"e", filter_escape},        {"escape", filter_escape},
    {"first", filter_first},       {"float", filter_float},     {"indent", filter_indent},
    {"int", filter_int},           {"items", filter_items},     {"join", filter_join},
    {"last", filter_last},         {"length", filter_length},   {"list", filter_list},
    {"lower", filter_lower},       {"map", filter_map},         {"max", filter_max},
    {"min", filter_min},           {"reject", filter_reject},   {"rejectattr", filter_rejectattr},
    {"replace", filter_replace},   {"reverse", filter_reverse}, {"round", filter_round},
    {"safe", filter_safe},         {"select", filter_select},   {"selectattr", filter_selectattr},
    {"sort", filter_sort},         {"string", filter_string},   {"sum", filter_sum},
    {"title", filter_title},       {"tojson", filter_tojson},   {"trim", filter_trim},
    {"unique", filter_unique},     {"upper", filter_upper},
};

struct value filter(struct render *r, struct span name, struct value v, const struct arguments *args)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (span_is(name, filters[i].name)) {
            if (r->depth >= RENDER_DEPTH_MAX) /* map applies filters, itself too */
                return render_fail(r, ENGINE_E_LIMIT, "filters nested deeper than %d", RENDER_DEPTH_MAX);
            if (!render_pay(r, 1))
                return nothing();
            r->depth++;
            struct value out = filters[i].run(r, v, args);
            r->depth--;
            return r->err ? nothing() : out;
        }
    return render_fail(r, ENGINE_E_UNSUPPORTED, "the filter %.*s is not known here",
                       (int)(name.len < 40 ? name.len : 40), (const char *)name.data);
}
