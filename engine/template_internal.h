/* template_internal.h - the parts of the chat-template interpreter, for engine/template*.c alone.
 * text -> tokens (template_lex.c) -> nodes (template_parse.c) -> output (template_eval.c, over the values of
 * template_value.c with the filters, tests, methods and functions of the remaining files). */
#ifndef ENGINE_TEMPLATE_INTERNAL_H
#define ENGINE_TEMPLATE_INTERNAL_H

#include "engine/arena.h"
#include "engine/template.h"

/* --- values ------------------------------------------------------------------------------------- */

enum value_kind {
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST, /* lists and tuples */
    V_DICT,
    V_NAMESPACE, /* the one thing that can change */
    V_LOOP,
    V_MACRO,
    V_FUNCTION /* a global function, named by `s` */
};

struct value {
    enum value_kind kind;
    bool tuple; /* V_LIST: prints in parentheses */
    union {
        bool b;
        int64_t i;
        double f;
        struct span s; /* UTF-8; for V_UNDEFINED the name that was looked up */
        struct list *list;
        struct dict *dict; /* V_DICT and V_NAMESPACE */
        struct loop *loop;
        struct macro *macro;
    };
};

struct list {
    size_t count;
    struct value *items;
};

struct entry {
    struct value key, value;
};

struct dict { /* in order of insertion */
    size_t count, cap;
    struct entry *entries;
};

/* --- tokens ------------------------------------------------------------------------------------- */

enum token_kind {
    T_END,
    T_TEXT, /* between tags */
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING, /* text: decoded */
    T_INT,
    T_FLOAT,
    T_OPERATOR /* text: the operator */
};

struct token {
    enum token_kind kind;
    unsigned line;
    struct span text;
};

struct tokens {
    struct token *at; /* owned: free() */
    size_t count, cap;
};
/* Ends in T_END. Texts borrow from `source` and `arena`. */
bool template_lex(struct span source, struct arena *arena, struct tokens *out, struct engine_problem *why);

/* --- nodes -------------------------------------------------------------------------------------- */

enum node_kind {
    N_BODY, /* kids */
    N_TEXT, /* text */
    N_PRINT,
    N_IF,           /* a: condition, b: body, c: else body or NULL */
    N_FOR,          /* a: target, b: iterable, c: condition or NULL, d: body, e: else body or NULL */
    N_SET,          /* a: target, b: value */
    N_CAPTURE,      /* a: target, b: body: {% set x %}..{% endset %} */
    N_MACRO,        /* text: name, kids: N_NAMED parameters (a: default or NULL), d: body */
    N_WITH,         /* kids: N_NAMED, b: body */
    N_FILTER_BLOCK, /* a: filter chain over N_CAPTURED, b: body */
    N_BREAK,
    N_CONTINUE,
    N_CONST, /* value */
    N_NAME,  /* text */
    N_LIST,  /* kids */
    N_TUPLE,
    N_DICT,   /* kids: key, value, key, value .. */
    N_MEMBER, /* a, text: a.text */
    N_ITEM,   /* a[b] */
    N_SLICE,  /* a[b:c:d], each of b, c, d or NULL */
    N_CALL,   /* a, kids: arguments, N_NAMED last */
    N_FILTER, /* a, text: name, kids: arguments */
    N_TEST,   /* the same */
    N_NAMED,  /* text: name, a: value */
    N_NOT,    /* a */
    N_MINUS,
    N_PLUS,
    N_BINARY,  /* a op b */
    N_COMPARE, /* a, then kids: N_BINARY with op and b, chained */
    N_AND,
    N_OR,
    N_CHOICE,  /* a if b else c (or NULL) */
    N_CAPTURED /* the text of the enclosing N_FILTER_BLOCK */
};

enum operator{
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOOR_DIV,
    OP_MOD,
    OP_POW,
    OP_CONCAT,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};

struct node {
    enum node_kind kind;
    enum operator op;
    unsigned line;
    struct span text;
    struct value value;
    struct node *a, *b, *c, *d, *e;
    struct node **kids;
    size_t count;
};

/* NULL and `*why` when refused. Nodes live in `arena`. */
struct node *template_parse(const struct tokens *tokens, struct arena *arena, struct engine_problem *why);

struct engine_template {
    uint8_t *source; /* owned */
    struct arena arena;
    struct node *body;
};

/* --- a render ----------------------------------------------------------------------------------- */

struct variable {
    struct span name;
    struct value value;
    struct variable *next;
};

struct scope {
    struct scope *parent;
    struct variable *first;
};

struct loop {
    size_t index, count; /* index counts from 0 */
    struct value *items;
    struct value changed; /* last arguments of loop.changed() */
};

struct macro {
    const struct node *node;
    struct scope *scope; /* where it was defined */
};

struct render {
    struct arena arena;
    struct writer *out; /* where text goes now: the caller's, or a capture */
    struct engine_problem *why;
    enum engine_err err; /* first fault, or ENGINE_OK: everything stops when it is set */
    uint32_t steps;      /* left */
    unsigned depth, line;
    int64_t now;
    enum { FLOW_NONE, FLOW_BREAK, FLOW_CONTINUE } flow;
    struct value captured;
};

/* C frames of one render: a macro call, an expression, a filter or a block inside another. */
#define RENDER_DEPTH_MAX 1500

/* Records the first fault with the line and returns undefined. */
struct value render_fail(struct render *r, enum engine_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Pay for `n` units of work; false when there is nothing left or a fault is recorded. */
bool render_pay(struct render *r, size_t n);
void *render_get(struct render *r, size_t len); /* arena_get() that records the fault */

/* Arguments of a call, a filter or a test. */
struct arguments {
    size_t count, named_count;
    struct value *at;
    struct entry *named; /* keys are strings */
};
/* The argument at `index`, or called `name`; `otherwise` when neither is given. `name` NULL: positional only. */
struct value argument(const struct arguments *args, size_t index, const char *name, struct value otherwise);

/* --- template_value.c --- */
struct value value_none(void);
struct value value_undefined(struct span name);
struct value value_bool(bool b);
struct value value_int(int64_t i);
struct value value_float(double f);
struct value value_string(struct span s);  /* borrows */
struct value value_text(const char *text); /* borrows */
struct value value_copy(struct render *r, struct span s);
/* A list with room for `count` items, all undefined. */
struct value value_list(struct render *r, size_t count);
struct value value_dict(struct render *r, size_t cap);
void dict_set(struct render *r, struct dict *d, struct value key, struct value v);
/* NULL: not there. */
struct value *dict_find(struct render *r, const struct dict *d, struct value key);
struct value *dict_find_text(struct render *r, const struct dict *d, struct span key);
struct value value_from_json(struct render *r, const json_t *j);
bool value_true(struct value v);
bool value_equal(struct render *r, struct value a, struct value b);
/* -1, 0, 1; a fault when the two have no order. */
int value_order(struct render *r, struct value a, struct value b);
/* Is `v` a member (list), a key (dict) or a part (string) of `of`? */
bool value_in(struct render *r, struct value v, struct value of);
/* The items of a list, the characters of a string, the keys of a dict; undefined has none, others are a fault. */
struct value value_items(struct render *r, struct value v);
const char *value_kind_name(struct value v);
bool value_is_number(struct value v); /* booleans count, as in Python */
double value_number(struct value v);

/* --- template_text.c: values as text, text by characters --- */
void text_print(struct render *r, struct writer *w, struct value v); /* str() */
struct value text_of(struct render *r, struct value v);
struct json_style {
    int indent; /* -1: one line */
    bool ascii, sorted;
    struct span item, key; /* separators; empty data: the default */
};
void text_json(struct render *r, struct writer *w, struct value v, const struct json_style *style);
size_t text_length(struct span s); /* characters */
/* Bytes of the characters from `from` to `to`. */
struct span text_part(struct span s, size_t from, size_t to);
bool text_is_space(int32_t c);                                                 /* str.isspace() */
struct span text_strip(struct span s, struct span set, bool left, bool right); /* set.data NULL: white space */
struct value text_case(struct render *r, struct span s, char how); /* u upper, l lower, c capitalize, t title */
struct value text_replace(struct render *r, struct span s, struct span from, struct span to, int64_t most);
/* Where `part` begins in `s`, or s.len + 1. */
size_t text_find(struct span s, struct span part, size_t from);
struct value text_escape_html(struct render *r, struct span s);
/* A finished capture as a value; releases the writer. */
struct value text_finish(struct render *r, struct writer *w);

/* --- template_eval.c --- */
struct value eval(struct render *r, struct scope *scope, const struct node *n);
void execute(struct render *r, struct scope *scope, const struct node *n);
void scope_set(struct render *r, struct scope *scope, struct span name, struct value v);
struct value member(struct render *r, struct value of, struct span name);
struct value item(struct render *r, struct value of, struct value key);
struct value slice(struct render *r, struct value of, struct value from, struct value to, struct value step);

/* --- template_filters.c, template_tests.c, template_calls.c --- */
struct value filter(struct render *r, struct span name, struct value v, const struct arguments *args);
bool test(struct render *r, struct span name, struct value v, const struct arguments *args);
struct value call_method(struct render *r, struct value of, struct span name, const struct arguments *args);
struct value call_function(struct render *r, struct span name, const struct arguments *args);
/* Does a value of this kind have a method of this name? Such a name hides a key, as in Python. */
bool has_method(struct value of, struct span name);
bool is_function(struct span name);

#endif
