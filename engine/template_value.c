/* template_value.c - values: making, comparing, looking up. All memory is the render's arena. */

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"

#define NEST_MAX 200 /* lists in lists, when comparing or printing */

void *render_get(struct render *r, size_t len)
{
    void *p = arena_get(&r->arena, len);
    if (!p)
        render_fail(r, ENGINE_E_LIMIT, "values of more than %u MiB", ENGINE_TEMPLATE_MEMORY_MAX >> 20);
    return p;
}

/* --- making ------------------------------------------------------------------------------------- */

struct value value_none(void)
{
    return (struct value){.kind = V_NONE};
}

struct value value_undefined(struct span name)
{
    return (struct value){.kind = V_UNDEFINED, .s = name};
}

struct value value_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}

struct value value_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}

struct value value_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}

struct value value_string(struct span s)
{
    return (struct value){.kind = V_STRING, .s = s.data ? s : span_str("")};
}

struct value value_text(const char *text)
{
    return value_string(span_str(text));
}

struct value value_copy(struct render *r, struct span s)
{
    uint8_t *copy = render_pay(r, s.len / 16) ? render_get(r, s.len + 1) : NULL;
    if (!copy)
        return value_undefined(span_of(NULL, 0));
    if (s.len > 0)
        memcpy(copy, s.data, s.len);
    return value_string(span_of(copy, s.len));
}

struct value value_list(struct render *r, size_t count)
{
    struct list *l = render_pay(r, count) ? render_get(r, sizeof *l) : NULL;
    if (!l || count > SIZE_MAX / sizeof *l->items || !(l->items = render_get(r, (count + 1) * sizeof *l->items)))
        return value_undefined(span_of(NULL, 0));
    l->count = count;
    return (struct value){.kind = V_LIST, .list = l};
}

struct value value_dict(struct render *r, size_t cap)
{
    struct dict *d = render_pay(r, cap) ? render_get(r, sizeof *d) : NULL;
    if (!d || cap > SIZE_MAX / sizeof *d->entries || !(d->entries = render_get(r, (cap + 1) * sizeof *d->entries)))
        return value_undefined(span_of(NULL, 0));
    d->cap = cap;
    return (struct value){.kind = V_DICT, .dict = d};
}

struct value *dict_find(struct render *r, const struct dict *d, struct value key)
{
    if (!render_pay(r, d->count / 8))
        return NULL;
    for (size_t i = 0; i < d->count; i++)
        if (value_equal(r, d->entries[i].key, key))
            return &d->entries[i].value;
    return NULL;
}

struct value *dict_find_text(struct render *r, const struct dict *d, struct span key)
{
    return dict_find(r, d, value_string(key));
}

void dict_set(struct render *r, struct dict *d, struct value key, struct value v)
{
    struct value *there = dict_find(r, d, key);
    if (there) {
        *there = v;
        return;
    }
    if (d->count == d->cap) {
        size_t cap = 2 * d->cap + 4;
        struct entry *grown = render_get(r, cap * sizeof *grown);
        if (!grown)
            return;
        memcpy(grown, d->entries, d->count * sizeof *grown);
        d->entries = grown;
        d->cap = cap;
    }
    d->entries[d->count++] = (struct entry){key, v};
}

static struct value from_json(struct render *r, const json_t *j, unsigned depth)
{
    struct value out = value_none();
    const char *key;
    size_t i, len;
    json_t *child;
    if (depth > ENGINE_TEMPLATE_DEPTH_MAX)
        return render_fail(r, ENGINE_E_LIMIT, "the conversation is nested deeper than %d", ENGINE_TEMPLATE_DEPTH_MAX);
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        out = value_dict(r, json_object_size(j));
        if (out.kind == V_DICT)
            json_object_keylen_foreach((json_t *)j, key, len, child) /* keys are distinct already */
                out.dict->entries[out.dict->count++] =
                (struct entry){value_string(span_of(key, len)), from_json(r, child, depth + 1)};
        return out;
    case JSON_ARRAY:
        out = value_list(r, json_array_size(j));
        if (out.kind == V_LIST)
            json_array_foreach(j, i, child) out.list->items[i] = from_json(r, child, depth + 1);
        return out;
    case JSON_STRING:
        return value_string(span_of(json_string_value(j), json_string_length(j)));
    case JSON_INTEGER:
        return value_int(json_integer_value(j));
    case JSON_REAL:
        return value_float(json_real_value(j));
    case JSON_TRUE:
    case JSON_FALSE:
        return value_bool(json_is_true(j));
    default:
        return out;
    }
}

struct value value_from_json(struct render *r, const json_t *j)
{
    return from_json(r, j, 0);
}

/* --- asking ------------------------------------------------------------------------------------- */

const char *value_kind_name(struct value v)
{
    static const char *const names[] = {"undefined", "none",    "boolean",   "integer", "float", "string",
                                        "list",      "mapping", "namespace", "loop",    "macro", "function"};
    return names[v.kind];
}

bool value_is_number(struct value v)
{
    return v.kind == V_INT || v.kind == V_FLOAT || v.kind == V_BOOL;
}

double value_number(struct value v)
{
    return v.kind == V_FLOAT ? v.f : v.kind == V_INT ? (double)v.i : v.kind == V_BOOL ? v.b : 0;
}

bool value_true(struct value v)
{
    switch (v.kind) {
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v.b;
    case V_INT:
        return v.i != 0;
    case V_FLOAT:
        return v.f != 0;
    case V_STRING:
        return v.s.len > 0;
    case V_LIST:
        return v.list->count > 0;
    case V_DICT:
        return v.dict->count > 0;
    default:
        return true;
    }
}

static bool equal(struct render *r, struct value a, struct value b, unsigned depth);

static bool equal_lists(struct render *r, const struct list *a, const struct list *b, unsigned depth)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = equal(r, a->items[i], b->items[i], depth);
    return same;
}

static bool equal_dicts(struct render *r, const struct dict *a, const struct dict *b, unsigned depth)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        const struct value *other = dict_find(r, b, a->entries[i].key);
        same = other && equal(r, a->entries[i].value, *other, depth);
    }
    return same;
}

static bool equal(struct render *r, struct value a, struct value b, unsigned depth)
{
    if (depth > NEST_MAX) {
        render_fail(r, ENGINE_E_LIMIT, "values nested deeper than %d", NEST_MAX);
        return false;
    }
    if (value_is_number(a) && value_is_number(b)) {
        if (a.kind != V_FLOAT && b.kind != V_FLOAT)
            return (a.kind == V_INT ? a.i : a.b) == (b.kind == V_INT ? b.i : b.b);
        return value_number(a) == value_number(b);
    }
    if (a.kind != b.kind || !render_pay(r, 1))
        return false;
    switch (a.kind) {
    case V_STRING:
    case V_FUNCTION:
        return render_pay(r, a.s.len / 64) && span_equal(a.s, b.s);
    case V_LIST:
        return a.tuple == b.tuple && equal_lists(r, a.list, b.list, depth + 1);
    case V_DICT:
        return equal_dicts(r, a.dict, b.dict, depth + 1);
    case V_NAMESPACE:
        return a.dict == b.dict;
    case V_LOOP:
        return a.loop == b.loop;
    case V_MACRO:
        return a.macro == b.macro;
    default: /* none and undefined equal themselves */
        return true;
    }
}

bool value_equal(struct render *r, struct value a, struct value b)
{
    return equal(r, a, b, 0);
}

static int order_text(struct span a, struct span b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.data, b.data, len) : 0; /* UTF-8 sorts as its characters do */
    return order ? (order < 0 ? -1 : 1) : a.len < b.len ? -1 : a.len > b.len;
}

static int order(struct render *r, struct value a, struct value b, unsigned depth)
{
    if (value_is_number(a) && value_is_number(b)) {
        double x = value_number(a), y = value_number(b);
        if (a.kind == V_INT && b.kind == V_INT)
            return a.i < b.i ? -1 : a.i > b.i;
        return x < y ? -1 : x > y;
    }
    if (a.kind == V_STRING && b.kind == V_STRING)
        return render_pay(r, a.s.len / 64) ? order_text(a.s, b.s) : 0;
    if (a.kind == V_LIST && b.kind == V_LIST && a.tuple == b.tuple && depth < NEST_MAX) {
        for (size_t i = 0; i < a.list->count && i < b.list->count && render_pay(r, 1); i++) {
            int o = order(r, a.list->items[i], b.list->items[i], depth + 1);
            if (o != 0 || r->err)
                return o;
        }
        return a.list->count < b.list->count ? -1 : a.list->count > b.list->count;
    }
    render_fail(r, ENGINE_E_VALUE, "no order between %s and %s", value_kind_name(a), value_kind_name(b));
    return 0;
}

int value_order(struct render *r, struct value a, struct value b)
{
    return order(r, a, b, 0);
}

bool value_in(struct render *r, struct value v, struct value of)
{
    switch (of.kind) {
    case V_STRING:
        if (v.kind != V_STRING) {
            render_fail(r, ENGINE_E_VALUE, "a string cannot hold a value of kind %s", value_kind_name(v));
            return false;
        }
        return render_pay(r, of.s.len / 16) && text_find(of.s, v.s, 0) <= of.s.len;
    case V_LIST:
        for (size_t i = 0; i < of.list->count && render_pay(r, 1); i++)
            if (value_equal(r, v, of.list->items[i]))
                return true;
        return false;
    case V_DICT:
        return dict_find(r, of.dict, v) != NULL;
    case V_UNDEFINED:
        return false;
    default:
        render_fail(r, ENGINE_E_VALUE, "nothing can be in a value of kind %s", value_kind_name(of));
        return false;
    }
}

static struct value characters(struct render *r, struct span s)
{
    struct value out = value_list(r, text_length(s));
    size_t len, n = 0;
    for (size_t at = 0; out.kind == V_LIST && at < s.len; at += len) {
        (void)tokenizer_char(s, at, &len);
        out.list->items[n++] = value_string(span_of(s.data + at, len));
    }
    return out;
}

struct value value_items(struct render *r, struct value v)
{
    struct value out;
    switch (v.kind) {
    case V_LIST:
        return v;
    case V_STRING:
        return characters(r, v.s);
    case V_DICT:
        out = value_list(r, v.dict->count);
        for (size_t i = 0; out.kind == V_LIST && i < v.dict->count; i++)
            out.list->items[i] = v.dict->entries[i].key;
        return out;
    case V_UNDEFINED:
    case V_NONE: /* Jinja refuses this; but absent tools are none here, and some templates loop over them unasked */
        return value_list(r, 0);
    default:
        return render_fail(r, ENGINE_E_VALUE, "a value of kind %s has no items", value_kind_name(v));
    }
}
