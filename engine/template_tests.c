/* template_tests.c - what stands after `is` (jinja2/tests.py, 3.1). */
#include <utf8proc.h>

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"

/* Tests of kind alone. */
static bool is_kind(struct span name, struct value v, bool *known)
{
    *known = true;
    if (span_is(name, "defined"))
        return v.kind != V_UNDEFINED;
    if (span_is(name, "undefined"))
        return v.kind == V_UNDEFINED;
    if (span_is(name, "none"))
        return v.kind == V_NONE;
    if (span_is(name, "string"))
        return v.kind == V_STRING;
    if (span_is(name, "mapping"))
        return v.kind == V_DICT;
    if (span_is(name, "iterable") ||
        span_is(name, "sequence")) /* an undefined value has no items, but it has "items" */
        return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_DICT || v.kind == V_UNDEFINED;
    if (span_is(name, "number"))
        return value_is_number(v);
    if (span_is(name, "integer"))
        return v.kind == V_INT;
    if (span_is(name, "float"))
        return v.kind == V_FLOAT;
    if (span_is(name, "boolean"))
        return v.kind == V_BOOL;
    if (span_is(name, "true"))
        return v.kind == V_BOOL && v.b;
    if (span_is(name, "false"))
        return v.kind == V_BOOL && !v.b;
    if (span_is(name, "callable"))
        return v.kind == V_MACRO || v.kind == V_FUNCTION;
    *known = false;
    return false;
}

static bool all_case(struct render *r, struct value v, bool upper)
{
    bool any = false;
    size_t len;
    struct value s = text_of(r, v);
    if (r->err || !render_pay(r, s.s.len / 16))
        return false;
    for (size_t at = 0; at < s.s.len; at += len) {
        int32_t c = tokenizer_char(s.s, at, &len), up = utf8proc_toupper(c), low = utf8proc_tolower(c);
        if (up == low)
            continue;
        if (c != (upper ? up : low))
            return false;
        any = true;
    }
    return any;
}

static bool divides(struct render *r, struct value v, struct value by)
{
    if (v.kind == V_INT && by.kind == V_INT && by.i != 0 && by.i != -1)
        return v.i % by.i == 0;
    if (v.kind == V_INT && by.kind == V_INT && by.i == -1)
        return true;
    render_fail(r, ENGINE_E_VALUE, "no division of %s by %s", value_kind_name(v), value_kind_name(by));
    return false;
}

static bool same(struct render *r, struct value a, struct value b)
{
    if (a.kind != b.kind)
        return false;
    if (a.kind == V_LIST)
        return a.list == b.list;
    return a.kind == V_DICT ? a.dict == b.dict : value_equal(r, a, b);
}

bool test(struct render *r, struct span name, struct value v, const struct arguments *args)
{
    struct value other = argument(args, 0, NULL, value_undefined(span_of(NULL, 0)));
    bool known, yes = is_kind(name, v, &known);
    if (known)
        return yes;
    if (span_is(name, "eq") || span_is(name, "equalto") || span_is(name, "=="))
        return value_equal(r, v, other);
    if (span_is(name, "ne") || span_is(name, "!="))
        return !value_equal(r, v, other);
    if (span_is(name, "lt") || span_is(name, "lessthan") || span_is(name, "<"))
        return value_order(r, v, other) < 0;
    if (span_is(name, "le") || span_is(name, "<="))
        return value_order(r, v, other) <= 0;
    if (span_is(name, "gt") || span_is(name, "greaterthan") || span_is(name, ">"))
        return value_order(r, v, other) > 0;
    if (span_is(name, "ge") || span_is(name, ">="))
        return value_order(r, v, other) >= 0;
    if (span_is(name, "in"))
        return value_in(r, v, other);
    if (span_is(name, "even"))
        return divides(r, v, value_int(2));
    if (span_is(name, "odd"))
        return !divides(r, v, value_int(2));
    if (span_is(name, "divisibleby"))
        return divides(r, v, other);
    if (span_is(name, "sameas"))
        return same(r, v, other);
    if (span_is(name, "upper"))
        return all_case(r, v, true);
    if (span_is(name, "lower"))
        return all_case(r, v, false);
    render_fail(r, ENGINE_E_UNSUPPORTED, "the test %.*s is not known here", (int)(name.len < 40 ? name.len : 40),
                (const char *)name.data);
    return false;
}
