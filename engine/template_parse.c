/* template_parse.c - tokens to nodes. Grammar and precedence are Jinja2's (jinja2/parser.py, 3.1); what reaches outside
 * the template (import, include, extends) is refused by name. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/template_internal.h"

#define KIDS_MAX 65536u

struct parser {
    const struct token *at;
    struct arena *arena;
    unsigned depth, loops;
    bool failed;
    struct engine_problem *why;
};

static struct node *fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static struct node *fail(struct parser *p, const char *format, ...)
{
    if (!p->failed) {
        char text[160];
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text, sizeof text, format, args);
        va_end(args);
        engine_problem_set(p->why, ENGINE_E_SYNTAX, "chat template, line %u: %s", p->at->line, text);
    }
    p->failed = true;
    return NULL;
}

/* Every function below returns NULL after a failure; a node is then incomplete and never looked at. */
static struct node *node(struct parser *p, enum node_kind kind)
{
    struct node *n = p->failed ? NULL : arena_get(p->arena, sizeof *n);
    if (!n)
        return fail(p, "too large");
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

static bool enter(struct parser *p)
{
    if (p->failed || ++p->depth > ENGINE_TEMPLATE_DEPTH_MAX) {
        fail(p, "nested deeper than %d", ENGINE_TEMPLATE_DEPTH_MAX);
        return false;
    }
    return true;
}

static bool add_kid(struct parser *p, struct node *n, struct node *kid)
{
    if (p->failed || !n || !kid)
        return false;
    if ((n->count & (n->count - 1)) == 0) { /* full at each power of two */
        size_t cap = n->count ? 2 * n->count : 1;
        struct node **grown = cap > KIDS_MAX ? NULL : arena_get(p->arena, cap * sizeof(struct node *));
        if (!grown) {
            fail(p, "too large");
            return false;
        }
        if (n->count > 0)
            memcpy(grown, n->kids, n->count * sizeof(struct node *));
        n->kids = grown;
    }
    n->kids[n->count++] = kid;
    return true;
}

static bool next_is(const struct parser *p, enum token_kind kind, const char *text)
{
    return p->at->kind == kind && (!text || span_is(p->at->text, text));
}

static bool accept(struct parser *p, enum token_kind kind, const char *text)
{
    if (p->failed || !next_is(p, kind, text))
        return false;
    p->at++;
    return true;
}

static bool expect(struct parser *p, enum token_kind kind, const char *text)
{
    if (accept(p, kind, text))
        return true;
    fail(p, "expected %s", text ? text : kind == T_NAME ? "a name" : "the end of the tag");
    return false;
}

static bool accept_operator(struct parser *p, const char *text)
{
    return accept(p, T_OPERATOR, text);
}

static bool accept_name(struct parser *p, const char *text)
{
    return accept(p, T_NAME, text);
}

/* --- expressions -------------------------------------------------------------------------------- */

static struct node *expression(struct parser *p);
static struct node *unary(struct parser *p, bool with_filters);
static struct node *tuple(struct parser *p, bool with_choice);

static struct node *constant(struct parser *p, struct value v)
{
    struct node *n = node(p, N_CONST);
    if (n)
        n->value = v;
    return n;
}

static struct node *number(struct parser *p)
{
    char text[48];
    struct token t = *p->at;
    bool integer = t.kind == T_INT;
    memcpy(text, t.text.data, t.text.len); /* at most 40 bytes: template_lex.c */
    text[t.text.len] = '\0';
    errno = 0;
    struct value v = integer ? value_int(strtoll(text, NULL, 10)) : value_float(strtod(text, NULL));
    if (errno == ERANGE)
        return fail(p, "a number out of range");
    p->at++;
    return constant(p, v);
}

/* Neighbouring strings are one string. */
static struct node *string(struct parser *p)
{
    struct span text = p->at->text;
    for (p->at++; p->at->kind == T_STRING; p->at++) {
        uint8_t *joined = arena_get(p->arena, text.len + p->at->text.len + 1);
        if (!joined)
            return fail(p, "too large");
        memcpy(joined, text.data, text.len);
        memcpy(joined + text.len, p->at->text.data, p->at->text.len);
        text = span_of(joined, text.len + p->at->text.len);
    }
    return constant(p, value_string(text));
}

static struct node *list(struct parser *p)
{
    struct node *n = node(p, N_LIST);
    while (n && !p->failed && !accept_operator(p, "]")) {
        if (n->count > 0 && (!expect(p, T_OPERATOR, ",") || accept_operator(p, "]")))
            break;
        add_kid(p, n, expression(p));
    }
    return n;
}

static struct node *dict(struct parser *p)
{
    struct node *n = node(p, N_DICT);
    while (n && !p->failed && !accept_operator(p, "}")) {
        if (n->count > 0 && (!expect(p, T_OPERATOR, ",") || accept_operator(p, "}")))
            break;
        add_kid(p, n, expression(p));
        if (expect(p, T_OPERATOR, ":"))
            add_kid(p, n, expression(p));
    }
    return n;
}

static struct node *name_or_constant(struct parser *p)
{
    struct span name = p->at->text;
    if (span_is(name, "true") || span_is(name, "True") || span_is(name, "false") || span_is(name, "False")) {
        p->at++;
        return constant(p, value_bool(name.data[0] == 't' || name.data[0] == 'T'));
    }
    if (span_is(name, "none") || span_is(name, "None")) {
        p->at++;
        return constant(p, value_none());
    }
    struct node *n = node(p, N_NAME);
    if (n)
        n->text = name;
    p->at++;
    return n;
}

static struct node *primary(struct parser *p)
{
    struct node *n = NULL;
    switch (p->at->kind) {
    case T_NAME:
        return name_or_constant(p);
    case T_STRING:
        return string(p);
    case T_INT:
    case T_FLOAT:
        return number(p);
    default:
        break;
    }
    if (accept_operator(p, "(")) {
        n = next_is(p, T_OPERATOR, ")") ? node(p, N_TUPLE) : tuple(p, true);
        return expect(p, T_OPERATOR, ")") ? n : NULL;
    }
    if (accept_operator(p, "["))
        return list(p);
    if (accept_operator(p, "{"))
        return dict(p);
    return fail(p, "expected an expression");
}

/* Arguments after the opening parenthesis. */
static void arguments(struct parser *p, struct node *call)
{
    bool named = false;
    while (call && !p->failed && !accept_operator(p, ")")) {
        if (call->count > 0 && (!expect(p, T_OPERATOR, ",") || accept_operator(p, ")")))
            return;
        if (p->at->kind == T_NAME && p->at[1].kind == T_OPERATOR && span_is(p->at[1].text, "=")) {
            struct node *n = node(p, N_NAMED);
            named = true;
            if (!n)
                return;
            n->text = p->at->text;
            p->at += 2;
            n->a = expression(p);
            add_kid(p, call, n->a ? n : NULL);
        } else if (named) {
            fail(p, "an argument without a name after one with a name");
        } else {
            add_kid(p, call, expression(p));
        }
    }
}

/* What stands in brackets: an index or a slice. */
static struct node *subscript(struct parser *p, struct node *of)
{
    struct node *n = node(p, N_ITEM), *parts[3] = {NULL, NULL, NULL};
    size_t part = 0;
    while (n && !p->failed && !next_is(p, T_OPERATOR, "]") && part < 3) {
        if (!next_is(p, T_OPERATOR, ":"))
            parts[part] = expression(p);
        if (!accept_operator(p, ":"))
            break;
        n->kind = N_SLICE;
        part++;
    }
    if (!n || !expect(p, T_OPERATOR, "]"))
        return NULL;
    n->a = of;
    n->b = parts[0];
    n->c = parts[1];
    n->d = parts[2];
    return n->kind == N_ITEM && !n->b ? fail(p, "nothing in brackets") : n;
}

static struct node *postfix(struct parser *p, struct node *n)
{
    unsigned chain = 0;
    while (n && !p->failed) {
        struct node *of = n;
        if (++chain > ENGINE_TEMPLATE_DEPTH_MAX)
            return fail(p, "too long a chain");
        if (accept_operator(p, ".")) {
            n = node(p, p->at->kind == T_INT ? N_ITEM : N_MEMBER);
            if (n && n->kind == N_ITEM) {
                n->a = of;
                n->b = number(p);
                continue;
            }
            struct span text = p->at->text;
            if (!n || !expect(p, T_NAME, NULL))
                return NULL;
            n->a = of;
            n->text = text;
        } else if (accept_operator(p, "[")) {
            n = subscript(p, of);
        } else if (accept_operator(p, "(")) {
            n = node(p, N_CALL);
            if (n)
                n->a = of;
            arguments(p, n);
        } else {
            return n;
        }
    }
    return p->failed ? NULL : n;
}

static struct node *filter_of(struct parser *p, struct node *of)
{
    struct node *n = node(p, N_FILTER);
    struct span name = p->at->text;
    if (!n || !expect(p, T_NAME, NULL))
        return NULL;
    n->a = of;
    n->text = name;
    if (accept_operator(p, "("))
        arguments(p, n);
    return n;
}

static bool starts_test_argument(const struct parser *p)
{
    switch (p->at->kind) {
    case T_STRING:
    case T_INT:
    case T_FLOAT:
        return true;
    case T_NAME:
        return !span_is(p->at->text, "else") && !span_is(p->at->text, "or") && !span_is(p->at->text, "and") &&
               !span_is(p->at->text, "is") && !span_is(p->at->text, "if") && !span_is(p->at->text, "not") &&
               !span_is(p->at->text, "in");
    case T_OPERATOR:
        return span_is(p->at->text, "[") || span_is(p->at->text, "{");
    default:
        return false;
    }
}

static struct node *test_of(struct parser *p, struct node *of)
{
    bool negated = accept_name(p, "not");
    struct node *n = node(p, N_TEST), *outer = n;
    struct span name = p->at->text;
    if (!n || !expect(p, T_NAME, NULL))
        return NULL;
    n->a = of;
    n->text = name;
    if (accept_operator(p, "("))
        arguments(p, n);
    else if (starts_test_argument(p))
        add_kid(p, n, postfix(p, primary(p)));
    if (negated && (outer = node(p, N_NOT)))
        outer->a = n;
    return outer;
}

static struct node *filters_and_tests(struct parser *p, struct node *n)
{
    unsigned chain = 0;
    while (n && !p->failed) {
        if (++chain > ENGINE_TEMPLATE_DEPTH_MAX)
            return fail(p, "too long a chain");
        if (accept_operator(p, "|"))
            n = filter_of(p, n);
        else if (accept_name(p, "is"))
            n = test_of(p, n);
        else if (next_is(p, T_OPERATOR, "("))
            n = postfix(p, n);
        else
            break;
    }
    return p->failed ? NULL : n;
}

static struct node *unary(struct parser *p, bool with_filters)
{
    struct node *n;
    if (!enter(p))
        return NULL;
    if (next_is(p, T_OPERATOR, "-") || next_is(p, T_OPERATOR, "+")) {
        n = node(p, span_is(p->at->text, "-") ? N_MINUS : N_PLUS);
        p->at++;
        if (n)
            n->a = unary(p, false);
    } else {
        n = primary(p);
    }
    n = postfix(p, p->failed ? NULL : n);
    if (with_filters)
        n = filters_and_tests(p, n);
    p->depth--;
    return n;
}

struct binary {
    const char *text;
    enum operator op;
};

/* left (op right)*, all operators of one strength. The left side grows: bound its length, evaluation walks down it. */
static struct node *chain(struct parser *p, const struct binary *ops, size_t count,
                          struct node *(*operand)(struct parser *))
{
    struct node *left = operand(p);
    for (unsigned length = 0; left && !p->failed; length++) {
        const struct binary *found = NULL;
        for (size_t i = 0; i < count && !found; i++)
            if (next_is(p, T_OPERATOR, ops[i].text))
                found = &ops[i];
        if (!found)
            break;
        if (length > 4 * ENGINE_TEMPLATE_DEPTH_MAX)
            return fail(p, "too long an expression");
        struct node *n = node(p, N_BINARY);
        p->at++;
        if (!n)
            return NULL;
        n->op = found->op;
        n->a = left;
        n->b = operand(p);
        left = n;
    }
    return p->failed ? NULL : left;
}

static struct node *unary_with_filters(struct parser *p)
{
    return unary(p, true);
}

static struct node *power(struct parser *p)
{
    static const struct binary ops[] = {{"**", OP_POW}};
    return chain(p, ops, 1, unary_with_filters);
}

static struct node *product(struct parser *p)
{
    static const struct binary ops[] = {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOOR_DIV}, {"%", OP_MOD}};
    return chain(p, ops, 4, power);
}

static struct node *concatenation(struct parser *p)
{
    static const struct binary ops[] = {{"~", OP_CONCAT}};
    return chain(p, ops, 1, product);
}

static struct node *sum(struct parser *p)
{
    static const struct binary ops[] = {{"+", OP_ADD}, {"-", OP_SUB}};
    return chain(p, ops, 2, concatenation);
}

static bool accept_comparison(struct parser *p, enum operator* op)
{
    static const struct binary ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},
                                        {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (accept_operator(p, ops[i].text)) {
            *op = ops[i].op;
            return true;
        }
    if (accept_name(p, "in")) {
        *op = OP_IN;
        return true;
    }
    if (next_is(p, T_NAME, "not") && p->at[1].kind == T_NAME && span_is(p->at[1].text, "in")) {
        p->at += 2;
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static struct node *comparison(struct parser *p)
{
    struct node *first = sum(p), *n = NULL;
    enum operator op;
    while (first && accept_comparison(p, &op)) {
        struct node *link = node(p, N_BINARY);
        if (!link || (!n && !(n = node(p, N_COMPARE))))
            return NULL;
        n->a = first;
        link->op = op;
        link->b = sum(p);
        add_kid(p, n, link->b ? link : NULL);
    }
    return p->failed ? NULL : n ? n : first;
}

static struct node *negation(struct parser *p)
{
    if (!accept_name(p, "not"))
        return comparison(p);
    struct node *n = enter(p) ? node(p, N_NOT) : NULL;
    if (n)
        n->a = negation(p);
    p->depth--;
    return p->failed ? NULL : n;
}

static struct node *logical(struct parser *p, const char *word, enum node_kind kind,
                            struct node *(*operand)(struct parser *))
{
    struct node *left = operand(p);
    for (unsigned length = 0; left && accept_name(p, word); length++) {
        struct node *n = node(p, kind);
        if (!n || length > 4 * ENGINE_TEMPLATE_DEPTH_MAX)
            return fail(p, "too long an expression");
        n->a = left;
        n->b = operand(p);
        left = n;
    }
    return p->failed ? NULL : left;
}

static struct node *conjunction(struct parser *p)
{
    return logical(p, "and", N_AND, negation);
}

static struct node *disjunction(struct parser *p)
{
    return logical(p, "or", N_OR, conjunction);
}

static struct node *expression(struct parser *p)
{
    if (!enter(p))
        return NULL;
    struct node *value = disjunction(p);
    if (value && accept_name(p, "if")) {
        struct node *n = node(p, N_CHOICE);
        if (n) {
            n->b = value;
            n->a = disjunction(p);
            if (accept_name(p, "else"))
                n->c = expression(p);
        }
        value = n;
    }
    p->depth--;
    return p->failed ? NULL : value;
}

/* One expression, or several with commas: a tuple. */
static struct node *tuple(struct parser *p, bool with_choice)
{
    struct node *(*element)(struct parser *) = with_choice ? expression : disjunction;
    struct node *first = element(p);
    if (!first || !next_is(p, T_OPERATOR, ","))
        return first;
    struct node *n = node(p, N_TUPLE);
    add_kid(p, n, first);
    while (accept_operator(p, ",")) {
        if (p->at->kind == T_PRINT_END || p->at->kind == T_BLOCK_END || next_is(p, T_OPERATOR, ")") ||
            next_is(p, T_OPERATOR, "=") || next_is(p, T_NAME, "in"))
            break;
        add_kid(p, n, element(p));
    }
    return p->failed ? NULL : n;
}

/* --- statements --------------------------------------------------------------------------------- */

static struct node *body(struct parser *p, const char *const *ends);

/* A name, several names, or (for set) namespace.member. */
static struct node *target(struct parser *p, bool members)
{
    struct node *first = NULL, *all = NULL;
    bool parenthesis = accept_operator(p, "(");
    do {
        struct node *n = node(p, N_NAME);
        if (!n || (all && p->at->kind != T_NAME))
            break;
        n->text = p->at->text;
        if (!expect(p, T_NAME, NULL))
            return NULL;
        if (members && !first && accept_operator(p, ".")) {
            struct node *m = node(p, N_MEMBER);
            struct span name = p->at->text;
            if (!m || !expect(p, T_NAME, NULL))
                return NULL;
            m->a = n;
            m->text = name;
            return m;
        }
        if (!first)
            first = n;
        else if (!all && (all = node(p, N_TUPLE)))
            add_kid(p, all, first);
        if (all)
            add_kid(p, all, n);
    } while (accept_operator(p, ","));
    if (parenthesis)
        expect(p, T_OPERATOR, ")");
    return p->failed ? NULL : all ? all : first;
}

static void end_block(struct parser *p)
{
    expect(p, T_BLOCK_END, NULL);
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct node *first = node(p, N_IF), *n = first;
    while (n && !p->failed) { /* a loop, not recursion: templates chain many elifs */
        n->a = tuple(p, true);
        end_block(p);
        n->b = body(p, ends);
        if (accept_name(p, "elif")) {
            n->c = node(p, N_IF);
            n = n->c;
            continue;
        }
        if (accept_name(p, "else")) {
            end_block(p);
            n->c = body(p, last);
        }
        expect(p, T_NAME, "endif");
        break;
    }
    return first;
}

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    static const char *const last[] = {"endfor", NULL};
    struct node *n = node(p, N_FOR);
    if (!n)
        return NULL;
    n->a = target(p, false);
    expect(p, T_NAME, "in");
    n->b = tuple(p, false);
    if (accept_name(p, "if"))
        n->c = expression(p);
    if (next_is(p, T_NAME, "recursive"))
        return fail(p, "recursive loops are not supported");
    end_block(p);
    p->loops++;
    n->d = body(p, ends);
    p->loops--;
    if (accept_name(p, "else")) {
        end_block(p);
        n->e = body(p, last);
    }
    expect(p, T_NAME, "endfor");
    return n;
}

/* name | filter(..) | .. over the captured text of a block. */
static struct node *captured_filters(struct parser *p)
{
    struct node *n = node(p, N_CAPTURED);
    unsigned length = 0;
    while (n && accept_operator(p, "|")) {
        n = filter_of(p, n);
        if (++length > ENGINE_TEMPLATE_DEPTH_MAX)
            return fail(p, "too long a chain");
    }
    return n;
}

static struct node *parse_set(struct parser *p)
{
    static const char *const last[] = {"endset", NULL};
    struct node *n = node(p, N_SET);
    if (!n)
        return NULL;
    n->a = target(p, true);
    if (accept_operator(p, "=")) {
        n->b = tuple(p, true);
        return n;
    }
    n->kind = N_CAPTURE;
    n->c = captured_filters(p);
    end_block(p);
    n->b = body(p, last);
    expect(p, T_NAME, "endset");
    return n;
}

static struct node *parse_filter_block(struct parser *p)
{
    static const char *const last[] = {"endfilter", NULL};
    struct node *n = node(p, N_FILTER_BLOCK), *captured = node(p, N_CAPTURED);
    if (!n || !captured)
        return NULL;
    n->a = filter_of(p, captured);
    while (n->a && accept_operator(p, "|"))
        n->a = filter_of(p, n->a);
    end_block(p);
    n->b = body(p, last);
    expect(p, T_NAME, "endfilter");
    return n;
}

static struct node *parse_with(struct parser *p)
{
    static const char *const last[] = {"endwith", NULL};
    struct node *n = node(p, N_WITH);
    while (n && p->at->kind == T_NAME) {
        struct node *named = node(p, N_NAMED);
        if (!named)
            return NULL;
        named->text = p->at->text;
        p->at++;
        if (!expect(p, T_OPERATOR, "="))
            return NULL;
        named->a = expression(p);
        add_kid(p, n, named);
        if (!accept_operator(p, ","))
            break;
    }
    end_block(p);
    struct node *inside = body(p, last);
    if (n)
        n->b = inside;
    expect(p, T_NAME, "endwith");
    return n;
}

static struct node *parse_macro(struct parser *p)
{
    static const char *const last[] = {"endmacro", NULL};
    struct node *n = node(p, N_MACRO);
    if (!n)
        return NULL;
    n->text = p->at->text;
    if (!expect(p, T_NAME, NULL) || !expect(p, T_OPERATOR, "("))
        return NULL;
    while (!p->failed && !accept_operator(p, ")")) {
        if (n->count > 0 && !expect(p, T_OPERATOR, ","))
            return NULL;
        struct node *parameter = node(p, N_NAMED);
        if (!parameter)
            return NULL;
        parameter->text = p->at->text;
        expect(p, T_NAME, NULL);
        if (accept_operator(p, "="))
            parameter->a = expression(p);
        add_kid(p, n, parameter);
    }
    end_block(p);
    unsigned loops = p->loops;
    p->loops = 0; /* a macro's body cannot break out of its caller's loop */
    n->d = body(p, last);
    p->loops = loops;
    expect(p, T_NAME, "endmacro");
    return n;
}

/* {% generation %} marks assistant text for training and changes nothing here. */
static struct node *parse_generation(struct parser *p)
{
    static const char *const last[] = {"endgeneration", NULL};
    end_block(p);
    struct node *n = body(p, last);
    expect(p, T_NAME, "endgeneration");
    return n;
}

static struct node *statement(struct parser *p)
{
    struct node *n = NULL;
    if (accept_name(p, "if"))
        n = parse_if(p);
    else if (accept_name(p, "for"))
        n = parse_for(p);
    else if (accept_name(p, "set"))
        n = parse_set(p);
    else if (accept_name(p, "macro"))
        n = parse_macro(p);
    else if (accept_name(p, "with"))
        n = parse_with(p);
    else if (accept_name(p, "filter"))
        n = parse_filter_block(p);
    else if (accept_name(p, "generation"))
        n = parse_generation(p);
    else if (p->loops > 0 && accept_name(p, "break"))
        n = node(p, N_BREAK);
    else if (p->loops > 0 && accept_name(p, "continue"))
        n = node(p, N_CONTINUE);
    else
        return fail(p, "%.*s is not a statement that templates may use here",
                    (int)(p->at->text.len < 40 ? p->at->text.len : 40), (const char *)p->at->text.data);
    end_block(p);
    return p->failed ? NULL : n;
}

static bool at_end(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (next_is(p, T_NAME, *ends))
            return true;
    return false;
}

/* Up to {% END, which is left behind `at` with its name still to be read; `ends` NULL: up to the end of the text. */
static struct node *body(struct parser *p, const char *const *ends)
{
    struct node *n = enter(p) ? node(p, N_BODY) : NULL, *kid = NULL;
    while (n && !p->failed) {
        if (p->at->kind == T_END) {
            if (ends)
                fail(p, "%s is missing at the end", ends[0]);
            break;
        }
        if (p->at->kind == T_TEXT) {
            kid = node(p, N_TEXT);
            if (kid)
                kid->text = p->at->text;
            p->at++;
        } else if (accept(p, T_PRINT_BEGIN, NULL)) {
            kid = node(p, N_PRINT);
            if (kid)
                kid->a = tuple(p, true);
            expect(p, T_PRINT_END, NULL);
        } else if (accept(p, T_BLOCK_BEGIN, NULL)) {
            if (at_end(p, ends))
                break;
            kid = statement(p);
        } else {
            fail(p, "unexpected token");
        }
        add_kid(p, n, kid);
    }
    p->depth--;
    return p->failed ? NULL : n;
}

struct node *template_parse(const struct tokens *tokens, struct arena *arena, struct engine_problem *why)
{
    struct parser p = {.at = tokens->at, .arena = arena, .why = why};
    return body(&p, NULL);
}
