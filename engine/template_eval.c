/* template_eval.c - nodes to output. The first fault stops everything: after it every value is undefined and every loop
 * ends. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/template_internal.h"
#include "engine/tokenizer_split.h"

struct value render_fail(struct render *r, enum engine_err err, const char *format, ...)
{
    if (r->err == ENGINE_OK) {
        char text[200];
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text, sizeof text, format, args);
        va_end(args);
        r->err = err;
        if (err == ENGINE_E_REFUSED)
            engine_problem_set(r->why, err, "%s", text);
        else
            engine_problem_set(r->why, err, "chat template, line %u: %s", r->line, text);
    }
    return value_undefined(span_of(NULL, 0));
}

bool render_pay(struct render *r, size_t n)
{
    if (r->err != ENGINE_OK)
        return false;
    if (n > r->steps) {
        r->steps = 0;
        render_fail(r, ENGINE_E_LIMIT, "more steps than one conversation may take");
        return false;
    }
    r->steps -= (uint32_t)n;
    return true;
}

struct value argument(const struct arguments *args, size_t index, const char *name, struct value otherwise)
{
    if (index < args->count)
        return args->at[index];
    for (size_t i = 0; name && i < args->named_count; i++)
        if (span_is(args->named[i].key.s, name))
            return args->named[i].value;
    return otherwise;
}

static struct value undefined(struct span name)
{
    return value_undefined(name);
}

/* For messages: at most 60 bytes of a template's own name. */
#define SHOW(s) (int)((s).len < 60 ? (s).len : 60), (s).len ? (const char *)(s).data : ""

/* --- variables ---------------------------------------------------------------------------------- */

void scope_set(struct render *r, struct scope *scope, struct span name, struct value v)
{
    for (struct variable *x = scope->first; x && render_pay(r, 1); x = x->next)
        if (span_equal(x->name, name)) {
            x->value = v;
            return;
        }
    struct variable *x = render_get(r, sizeof *x);
    if (!x)
        return;
    *x = (struct variable){name, v, scope->first};
    scope->first = x;
}

static struct value lookup(struct render *r, const struct scope *scope, struct span name)
{
    for (; scope; scope = scope->parent)
        for (const struct variable *x = scope->first; x && render_pay(r, 1); x = x->next)
            if (span_equal(x->name, name))
                return x->value;
    return is_function(name) ? (struct value){.kind = V_FUNCTION, .s = name} : undefined(name);
}

static void assign(struct render *r, struct scope *scope, const struct node *target, struct value v)
{
    if (target->kind == N_NAME) {
        scope_set(r, scope, target->text, v);
    } else if (target->kind == N_MEMBER) {
        struct value of = lookup(r, scope, target->a->text);
        if (of.kind == V_NAMESPACE)
            dict_set(r, of.dict, value_string(target->text), v);
        else
            render_fail(r, ENGINE_E_VALUE, "%.*s is no namespace: its members cannot be set", SHOW(target->a->text));
    } else {
        struct value items = value_items(r, v);
        if (items.kind == V_LIST && items.list->count != target->count)
            render_fail(r, ENGINE_E_VALUE, "%zu values for %zu names", items.list->count, target->count);
        for (size_t i = 0; i < target->count && !r->err; i++)
            scope_set(r, scope, target->kids[i]->text, items.list->items[i]);
    }
}

/* --- parts of values ---------------------------------------------------------------------------- */

static struct value loop_member(struct loop *l, struct span name)
{
    int64_t index = (int64_t)l->index, count = (int64_t)l->count;
    if (span_is(name, "index"))
        return value_int(index + 1);
    if (span_is(name, "index0"))
        return value_int(index);
    if (span_is(name, "first"))
        return value_bool(index == 0);
    if (span_is(name, "last"))
        return value_bool(index + 1 == count);
    if (span_is(name, "length"))
        return value_int(count);
    if (span_is(name, "revindex"))
        return value_int(count - index);
    if (span_is(name, "revindex0"))
        return value_int(count - index - 1);
    if (span_is(name, "depth") || span_is(name, "depth0")) /* of recursive loops, which are not supported */
        return value_int(span_is(name, "depth"));
    if (span_is(name, "previtem") && index > 0)
        return l->items[index - 1];
    if (span_is(name, "nextitem") && index + 1 < count)
        return l->items[index + 1];
    return undefined(name);
}

struct value member(struct render *r, struct value of, struct span name)
{
    struct value *found = NULL;
    switch (of.kind) {
    case V_UNDEFINED:
        return render_fail(r, ENGINE_E_VALUE, "%.*s is undefined: it has no %.*s", SHOW(of.s), SHOW(name));
    case V_LOOP:
        return loop_member(of.loop, name);
    case V_NAMESPACE:
        found = dict_find_text(r, of.dict, name);
        break;
    case V_DICT:
        if (!has_method(of, name))
            found = dict_find_text(r, of.dict, name);
        break;
    default:
        break;
    }
    if (found)
        return *found;
    /* A method that is not called: true and defined, nothing more. */
    return has_method(of, name) ? (struct value){.kind = V_FUNCTION, .s = name} : undefined(name);
}

static struct value item_of_list(struct render *r, struct value of, int64_t index)
{
    int64_t count = (int64_t)(of.kind == V_LIST ? of.list->count : text_length(of.s));
    index += index < 0 ? count : 0;
    if (index < 0 || index >= count || !render_pay(r, of.kind == V_STRING ? of.s.len / 16 : 0))
        return undefined(span_of(NULL, 0));
    return of.kind == V_LIST ? of.list->items[index] : value_string(text_part(of.s, (size_t)index, (size_t)index + 1));
}

struct value item(struct render *r, struct value of, struct value key)
{
    if (of.kind == V_UNDEFINED)
        return render_fail(r, ENGINE_E_VALUE, "%.*s is undefined: it has no items", SHOW(of.s));
    if ((of.kind == V_LIST || of.kind == V_STRING) && (key.kind == V_INT || key.kind == V_BOOL))
        return item_of_list(r, of, key.kind == V_INT ? key.i : key.b);
    if (of.kind == V_DICT) {
        const struct value *found = dict_find(r, of.dict, key);
        if (found)
            return *found;
    }
    if (key.kind == V_STRING)
        return of.kind == V_DICT ? (has_method(of, key.s) ? member(r, of, key.s) : undefined(key.s))
                                 : member(r, of, key.s);
    return undefined(span_of(NULL, 0));
}

/* Python's rule for one bound of a slice (Objects/sliceobject.c, PySlice_AdjustIndices). */
static int64_t bound(struct value v, int64_t count, bool down, bool from)
{
    if (v.kind != V_INT)
        return from == down ? (down ? count - 1 : count) : (down ? -1 : 0);
    int64_t i = v.i < -count ? (down ? -1 : 0) : v.i < 0 ? v.i + count : v.i;
    int64_t top = down ? count - 1 : count;
    return i > top ? top : i;
}

struct value slice(struct render *r, struct value of, struct value from, struct value to, struct value step)
{
    if (of.kind == V_UNDEFINED)
        return render_fail(r, ENGINE_E_VALUE, "%.*s is undefined: it has no items", SHOW(of.s));
    if (of.kind != V_LIST && of.kind != V_STRING)
        return undefined(span_of(NULL, 0));
    int64_t by = step.kind == V_INT ? step.i : 1;
    if (of.kind == V_STRING && by == 1) { /* the common case needs no list of characters */
        int64_t length = render_pay(r, of.s.len / 16) ? (int64_t)text_length(of.s) : 0;
        int64_t begin = bound(from, length, false, true), end = bound(to, length, false, false);
        return value_string(text_part(of.s, (size_t)begin, (size_t)(end > begin ? end : begin)));
    }
    struct value all = value_items(r, of);
    int64_t count = all.kind == V_LIST ? (int64_t)all.list->count : 0, n = 0;
    if (by == 0 || by == INT64_MIN)
        return render_fail(r, ENGINE_E_VALUE, "a slice with step zero");
    int64_t begin = bound(from, count, by < 0, true), end = bound(to, count, by < 0, false);
    if (by > 0 ? begin < end : begin > end)
        n = by > 0 ? (end - begin - 1) / by + 1 : (begin - end - 1) / -by + 1;
    struct value out = value_list(r, (size_t)n);
    if (out.kind != V_LIST)
        return out;
    out.tuple = of.kind == V_LIST && of.tuple;
    for (int64_t i = 0; i < n; i++)
        out.list->items[i] = all.list->items[begin + i * by];
    if (of.kind == V_LIST)
        return out;
    struct writer w = writer_with_max(r->arena.max);
    for (int64_t i = 0; i < n; i++)
        writer_bytes(&w, out.list->items[i].s);
    return text_finish(r, &w);
}

/* --- operators ---------------------------------------------------------------------------------- */

static struct value joined(struct render *r, struct span a, struct span b)
{
    uint8_t *both = render_pay(r, (a.len + b.len) / 16) ? render_get(r, a.len + b.len + 1) : NULL;
    if (!both)
        return undefined(span_of(NULL, 0));
    if (a.len > 0)
        memcpy(both, a.data, a.len);
    if (b.len > 0)
        memcpy(both + a.len, b.data, b.len);
    return value_string(span_of(both, a.len + b.len));
}

static struct value joined_lists(struct render *r, struct value a, struct value b)
{
    struct value out = value_list(r, a.list->count + b.list->count);
    if (out.kind != V_LIST)
        return out;
    memcpy(out.list->items, a.list->items, a.list->count * sizeof *out.list->items);
    memcpy(out.list->items + a.list->count, b.list->items, b.list->count * sizeof *out.list->items);
    out.tuple = a.tuple;
    return out;
}

static struct value repeated(struct render *r, struct value v, int64_t times)
{
    struct writer w = writer_with_max(r->arena.max);
    for (int64_t i = 0; i < times && v.s.len > 0 && writer_ok(&w) && render_pay(r, 1 + v.s.len / 16); i++)
        writer_bytes(&w, v.s);
    return text_finish(r, &w);
}

static struct value integer_operation(struct render *r, enum operator op, int64_t a, int64_t b)
{
    int64_t out = 0, rest;
    bool overflow = false;
    switch (op) {
    case OP_ADD:
        overflow = __builtin_add_overflow(a, b, &out);
        break;
    case OP_SUB:
        overflow = __builtin_sub_overflow(a, b, &out);
        break;
    case OP_MUL:
        overflow = __builtin_mul_overflow(a, b, &out);
        break;
    default: /* // and %, which round down */
        if (b == 0 || (a == INT64_MIN && b == -1))
            return render_fail(r, ENGINE_E_VALUE, "division by zero or overflow");
        rest = a % b;
        out = op == OP_MOD ? rest + (rest != 0 && (rest < 0) != (b < 0) ? b : 0)
                           : a / b - (rest != 0 && (rest < 0) != (b < 0));
    }
    return overflow ? render_fail(r, ENGINE_E_VALUE, "a number out of range") : value_int(out);
}

static struct value number_operation(struct render *r, enum operator op, struct value a, struct value b)
{
    double x = value_number(a), y = value_number(b);
    if (a.kind != V_FLOAT && b.kind != V_FLOAT && op != OP_DIV && op != OP_POW)
        return integer_operation(r, op, a.kind == V_INT ? a.i : a.b, b.kind == V_INT ? b.i : b.b);
    if (y == 0 && (op == OP_DIV || op == OP_FLOOR_DIV || op == OP_MOD))
        return render_fail(r, ENGINE_E_VALUE, "division by zero");
    switch (op) {
    case OP_ADD:
        return value_float(x + y);
    case OP_SUB:
        return value_float(x - y);
    case OP_MUL:
        return value_float(x * y);
    case OP_DIV:
        return value_float(x / y);
    case OP_FLOOR_DIV:
        return value_float(floor(x / y));
    case OP_MOD:
        return value_float(x - floor(x / y) * y);
    default:
        x = pow(x, y);
        return a.kind != V_FLOAT && b.kind != V_FLOAT && y >= 0 && fabs(x) < 9e15 ? value_int((int64_t)x)
                                                                                  : value_float(x);
    }
}

static struct value binary(struct render *r, enum operator op, struct value a, struct value b)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (r->err)
        return a;
    if (op == OP_CONCAT)
        return joined(r, text_of(r, a).s, text_of(r, b).s);
    if (value_is_number(a) && value_is_number(b))
        return number_operation(r, op, a, b);
    if (op == OP_ADD && a.kind == V_STRING && b.kind == V_STRING)
        return joined(r, a.s, b.s);
    if (op == OP_ADD && a.kind == V_LIST && b.kind == V_LIST && a.tuple == b.tuple)
        return joined_lists(r, a, b);
    if (op == OP_MUL && a.kind == V_STRING && b.kind == V_INT)
        return repeated(r, a, b.i);
    return render_fail(r, ENGINE_E_VALUE, "no %s between %s and %s", names[op], value_kind_name(a), value_kind_name(b));
}

static bool compare(struct render *r, enum operator op, struct value a, struct value b)
{
    switch (op) {
    case OP_EQ:
        return value_equal(r, a, b);
    case OP_NE:
        return !value_equal(r, a, b);
    case OP_LT:
        return value_order(r, a, b) < 0;
    case OP_LE:
        return value_order(r, a, b) <= 0;
    case OP_GT:
        return value_order(r, a, b) > 0;
    case OP_GE:
        return value_order(r, a, b) >= 0;
    case OP_IN:
        return value_in(r, a, b);
    default:
        return !value_in(r, a, b);
    }
}

/* --- calls -------------------------------------------------------------------------------------- */

static struct arguments arguments_of(struct render *r, struct scope *scope, const struct node *n)
{
    struct arguments args = {0};
    size_t size = n->count * (sizeof *args.at + sizeof *args.named);
    if (n->count == 0 || !(args.at = render_get(r, size)))
        return (struct arguments){0};
    args.named = (struct entry *)(void *)(args.at + n->count);
    for (size_t i = 0; i < n->count && !r->err; i++) {
        const struct node *kid = n->kids[i];
        if (kid->kind == N_NAMED)
            args.named[args.named_count++] = (struct entry){value_string(kid->text), eval(r, scope, kid->a)};
        else
            args.at[args.count++] = eval(r, scope, kid);
    }
    return args;
}

static struct value capture_body(struct render *r, struct scope *scope, const struct node *body)
{
    struct writer w = writer_with_max(r->arena.max), *before = r->out;
    r->out = &w;
    execute(r, scope, body);
    r->out = before;
    return text_finish(r, &w);
}

static struct value call_macro(struct render *r, const struct macro *m, const struct arguments *args)
{
    struct scope *scope = render_get(r, sizeof *scope);
    if (!scope)
        return undefined(m->node->text);
    scope->parent = m->scope;
    if (args->count > m->node->count)
        return render_fail(r, ENGINE_E_VALUE, "macro %.*s takes %zu arguments", SHOW(m->node->text), m->node->count);
    for (size_t i = 0; i < args->named_count; i++) {
        bool known = false;
        for (size_t k = 0; k < m->node->count; k++)
            known = known || span_equal(m->node->kids[k]->text, args->named[i].key.s);
        if (!known)
            return render_fail(r, ENGINE_E_VALUE, "macro %.*s has no argument %.*s", SHOW(m->node->text),
                               SHOW(args->named[i].key.s));
    }
    for (size_t k = 0; k < m->node->count && !r->err; k++) {
        const struct node *parameter = m->node->kids[k];
        struct value v = k < args->count ? args->at[k] : undefined(parameter->text);
        bool given = k < args->count;
        for (size_t i = 0; i < args->named_count && !given; i++)
            if (span_equal(args->named[i].key.s, parameter->text)) {
                v = args->named[i].value;
                given = true;
            }
        scope_set(r, scope, parameter->text, given || !parameter->a ? v : eval(r, scope, parameter->a));
    }
    return capture_body(r, scope, m->node->d);
}

static struct value loop_call(struct render *r, struct loop *l, struct span name, const struct arguments *args)
{
    if (span_is(name, "cycle") && args->count > 0)
        return args->at[l->index % args->count];
    if (span_is(name, "changed")) {
        struct value now = value_list(r, args->count);
        if (now.kind != V_LIST)
            return now;
        memcpy(now.list->items, args->at, args->count * sizeof *args->at);
        bool changed = !value_equal(r, now, l->changed);
        l->changed = now;
        return value_bool(changed);
    }
    return render_fail(r, ENGINE_E_VALUE, "loop has no method %.*s", SHOW(name));
}

static struct value call(struct render *r, struct scope *scope, const struct node *n)
{
    if (n->a->kind == N_MEMBER) {
        struct value of = eval(r, scope, n->a->a);
        struct arguments args = arguments_of(r, scope, n);
        if (r->err)
            return of;
        if (of.kind == V_LOOP)
            return loop_call(r, of.loop, n->a->text, &args);
        if (has_method(of, n->a->text))
            return call_method(r, of, n->a->text, &args);
        struct value what = member(r, of, n->a->text);
        if (what.kind == V_MACRO)
            return call_macro(r, what.macro, &args);
        return render_fail(r, ENGINE_E_VALUE, "a value of kind %s has no method %.*s", value_kind_name(of),
                           SHOW(n->a->text));
    }
    struct value what = eval(r, scope, n->a);
    struct arguments args = arguments_of(r, scope, n);
    if (r->err)
        return what;
    if (what.kind == V_MACRO)
        return call_macro(r, what.macro, &args);
    if (what.kind == V_FUNCTION && is_function(what.s))
        return call_function(r, what.s, &args);
    return render_fail(r, ENGINE_E_VALUE, "a value of kind %s cannot be called", value_kind_name(what));
}

/* --- expressions -------------------------------------------------------------------------------- */

static struct value eval_list(struct render *r, struct scope *scope, const struct node *n)
{
    struct value out = value_list(r, n->count);
    if (out.kind != V_LIST)
        return out;
    out.tuple = n->kind == N_TUPLE;
    for (size_t i = 0; i < n->count && !r->err; i++)
        out.list->items[i] = eval(r, scope, n->kids[i]);
    return out;
}

static struct value eval_dict(struct render *r, struct scope *scope, const struct node *n)
{
    struct value out = value_dict(r, n->count / 2);
    for (size_t i = 0; i + 1 < n->count && !r->err; i += 2) {
        struct value key = eval(r, scope, n->kids[i]);
        if (key.kind > V_STRING)
            return render_fail(r, ENGINE_E_VALUE, "a value of kind %s cannot be a key", value_kind_name(key));
        dict_set(r, out.dict, key, eval(r, scope, n->kids[i + 1]));
    }
    return out;
}

static struct value eval_comparison(struct render *r, struct scope *scope, const struct node *n)
{
    struct value left = eval(r, scope, n->a);
    for (size_t i = 0; i < n->count && !r->err; i++) {
        struct value right = eval(r, scope, n->kids[i]->b);
        if (r->err || !compare(r, n->kids[i]->op, left, right))
            return value_bool(false);
        left = right;
    }
    return value_bool(true);
}

static struct value eval_sign(struct render *r, struct scope *scope, const struct node *n)
{
    struct value v = eval(r, scope, n->a);
    if (r->err || !value_is_number(v))
        return render_fail(r, ENGINE_E_VALUE, "a sign before a value of kind %s", value_kind_name(v));
    if (n->kind == N_PLUS)
        return v;
    return v.kind == V_FLOAT ? value_float(-v.f) : number_operation(r, OP_SUB, value_int(0), v);
}

static struct value eval_slice(struct render *r, struct scope *scope, const struct node *n)
{
    struct value of = eval(r, scope, n->a), parts[3];
    const struct node *const nodes[3] = {n->b, n->c, n->d};
    for (size_t i = 0; i < 3; i++)
        parts[i] = nodes[i] ? eval(r, scope, nodes[i]) : value_none();
    return r->err ? of : slice(r, of, parts[0], parts[1], parts[2]);
}

static struct value eval_filter(struct render *r, struct scope *scope, const struct node *n)
{
    struct value of = eval(r, scope, n->a);
    struct arguments args = arguments_of(r, scope, n);
    if (r->err)
        return of;
    return n->kind == N_FILTER ? filter(r, n->text, of, &args) : value_bool(test(r, n->text, of, &args));
}

static struct value eval_inside(struct render *r, struct scope *scope, const struct node *n)
{
    struct value v;
    switch (n->kind) {
    case N_CONST:
        return n->value;
    case N_NAME:
        return lookup(r, scope, n->text);
    case N_LIST:
    case N_TUPLE:
        return eval_list(r, scope, n);
    case N_DICT:
        return eval_dict(r, scope, n);
    case N_MEMBER:
        v = eval(r, scope, n->a);
        return r->err ? v : member(r, v, n->text);
    case N_ITEM:
        v = eval(r, scope, n->a);
        return r->err ? v : item(r, v, eval(r, scope, n->b));
    case N_SLICE:
        return eval_slice(r, scope, n);
    case N_CALL:
        return call(r, scope, n);
    case N_FILTER:
    case N_TEST:
        return eval_filter(r, scope, n);
    case N_NOT:
        return value_bool(!value_true(eval(r, scope, n->a)));
    case N_MINUS:
    case N_PLUS:
        return eval_sign(r, scope, n);
    case N_BINARY:
        v = eval(r, scope, n->a);
        return r->err ? v : binary(r, n->op, v, eval(r, scope, n->b));
    case N_COMPARE:
        return eval_comparison(r, scope, n);
    case N_AND:
        v = eval(r, scope, n->a);
        return value_true(v) ? eval(r, scope, n->b) : v;
    case N_OR:
        v = eval(r, scope, n->a);
        return value_true(v) ? v : eval(r, scope, n->b);
    case N_CHOICE:
        v = eval(r, scope, n->a);
        if (value_true(v))
            return eval(r, scope, n->b);
        return n->c ? eval(r, scope, n->c) : undefined(span_of(NULL, 0));
    case N_CAPTURED:
        return r->captured;
    default:
        return render_fail(r, ENGINE_E_VALUE, "not an expression");
    }
}

static bool enter(struct render *r, const struct node *n)
{
    if (!render_pay(r, 1))
        return false;
    r->line = n->line;
    if (r->depth >= RENDER_DEPTH_MAX) {
        render_fail(r, ENGINE_E_LIMIT, "calls and blocks nested deeper than %d", RENDER_DEPTH_MAX);
        return false;
    }
    r->depth++;
    return true;
}

struct value eval(struct render *r, struct scope *scope, const struct node *n)
{
    if (!enter(r, n))
        return undefined(span_of(NULL, 0));
    struct value v = eval_inside(r, scope, n);
    r->depth--;
    return r->err ? undefined(span_of(NULL, 0)) : v;
}

/* --- statements --------------------------------------------------------------------------------- */

/* The items that pass the loop's condition, found out before the first turn, as loop.length must know. */
static struct value loop_items(struct render *r, struct scope *scope, const struct node *n)
{
    struct value all = value_items(r, eval(r, scope, n->b));
    if (!n->c || all.kind != V_LIST)
        return all;
    struct value some = value_list(r, all.list->count);
    struct scope *inner = render_get(r, sizeof *inner);
    if (some.kind != V_LIST || !inner)
        return some;
    some.list->count = 0;
    inner->parent = scope;
    for (size_t i = 0; i < all.list->count && !r->err; i++) {
        assign(r, inner, n->a, all.list->items[i]);
        if (value_true(eval(r, inner, n->c)))
            some.list->items[some.list->count++] = all.list->items[i];
    }
    return some;
}

static void execute_for(struct render *r, struct scope *scope, const struct node *n)
{
    struct value items = loop_items(r, scope, n);
    struct loop *l = render_get(r, sizeof *l);
    if (r->err || !l || items.kind != V_LIST)
        return;
    *l = (struct loop){.count = items.list->count, .items = items.list->items};
    for (l->index = 0; l->index < l->count && !r->err; l->index++) {
        struct scope *inner = render_get(r, sizeof *inner); /* a macro may keep it: not on the stack */
        if (!inner)
            return;
        inner->parent = scope;
        scope_set(r, inner, span_str("loop"), (struct value){.kind = V_LOOP, .loop = l});
        assign(r, inner, n->a, l->items[l->index]);
        execute(r, inner, n->d);
        bool stop = r->flow == FLOW_BREAK;
        r->flow = FLOW_NONE;
        if (stop)
            break;
    }
    if (l->count == 0 && n->e)
        execute(r, scope, n->e);
}

static void execute_if(struct render *r, struct scope *scope, const struct node *n)
{
    for (; n && !r->err; n = n->c) { /* elif after elif */
        if (n->kind != N_IF) {
            execute(r, scope, n);
            return;
        }
        if (value_true(eval(r, scope, n->a))) {
            if (!r->err)
                execute(r, scope, n->b);
            return;
        }
    }
}

static void execute_capture(struct render *r, struct scope *scope, const struct node *n)
{
    struct scope *inner = render_get(r, sizeof *inner);
    struct value before = r->captured, text;
    if (!inner)
        return;
    inner->parent = scope;
    text = capture_body(r, inner, n->b);
    r->captured = text;
    if (n->kind == N_CAPTURE)
        assign(r, scope, n->a, n->c ? eval(r, scope, n->c) : text);
    else
        text_print(r, r->out, eval(r, scope, n->a));
    r->captured = before;
}

static void define_macro(struct render *r, struct scope *scope, const struct node *n)
{
    struct macro *m = render_get(r, sizeof *m);
    if (!m)
        return;
    *m = (struct macro){n, scope};
    scope_set(r, scope, n->text, (struct value){.kind = V_MACRO, .macro = m});
}

static void execute_with(struct render *r, struct scope *scope, const struct node *n)
{
    struct scope *inner = render_get(r, sizeof *inner);
    if (!inner)
        return;
    inner->parent = scope;
    for (size_t i = 0; i < n->count && !r->err; i++)
        scope_set(r, inner, n->kids[i]->text, eval(r, scope, n->kids[i]->a));
    if (!r->err)
        execute(r, inner, n->b);
}

static void execute_inside(struct render *r, struct scope *scope, const struct node *n)
{
    struct value v;
    switch (n->kind) {
    case N_BODY:
        for (size_t i = 0; i < n->count && !r->err && r->flow == FLOW_NONE; i++)
            execute(r, scope, n->kids[i]);
        break;
    case N_TEXT:
        text_print(r, r->out, value_string(n->text));
        break;
    case N_PRINT:
        v = eval(r, scope, n->a);
        if (!r->err)
            text_print(r, r->out, v);
        break;
    case N_IF:
        execute_if(r, scope, n);
        break;
    case N_FOR:
        execute_for(r, scope, n);
        break;
    case N_SET:
        v = eval(r, scope, n->b);
        if (!r->err)
            assign(r, scope, n->a, v);
        break;
    case N_CAPTURE:
    case N_FILTER_BLOCK:
        execute_capture(r, scope, n);
        break;
    case N_WITH:
        execute_with(r, scope, n);
        break;
    case N_MACRO:
        define_macro(r, scope, n);
        break;
    case N_BREAK:
        r->flow = FLOW_BREAK;
        break;
    case N_CONTINUE:
        r->flow = FLOW_CONTINUE;
        break;
    default:
        render_fail(r, ENGINE_E_VALUE, "not a statement");
    }
}

void execute(struct render *r, struct scope *scope, const struct node *n)
{
    if (!enter(r, n))
        return;
    execute_inside(r, scope, n);
    r->depth--;
}
