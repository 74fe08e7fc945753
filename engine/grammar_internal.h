/* grammar_internal.h - the parts of structured output, for engine/grammar*.c alone.
 * text -> expressions (grammar_regex.c, grammar_ebnf.c, grammar_schema.c) -> automaton (grammar_build.c) -> states and
 * masks (grammar.c). */
#ifndef ENGINE_GRAMMAR_INTERNAL_H
#define ENGINE_GRAMMAR_INTERNAL_H

#include "engine/arena.h"
#include "engine/grammar.h"

#define GRAMMAR_MEMORY_MAX (64u << 20) /* bytes of expressions */
#define GRAMMAR_DEPTH_MAX 128          /* expressions inside each other */
#define GRAMMAR_RULES_MAX 4096u
#define GRAMMAR_NODES_MAX (1u << 19) /* states of the automaton */
#define GRAMMAR_REPEAT_MAX 100000
#define GRAMMAR_LOOKS_MAX (4u << 20)    /* expressions looked at for texts in common */
#define GRAMMAR_COMPARES_MAX (1u << 20) /* values compared with each other while schemas are merged */

/* --- expressions -------------------------------------------------------------------------------- */

enum expr_kind {
    X_EMPTY,
    X_BYTES,  /* text */
    X_CLASS,  /* ranges of characters */
    X_SEQ,    /* kids, one after the other */
    X_ALT,    /* one of the kids */
    X_REPEAT, /* kids[0], `min` to `max` times; max -1: any number */
    X_RULE    /* rule */
};

struct char_range {
    uint32_t low, high;
};

struct expr {
    enum expr_kind kind;
    bool in_json; /* X_CLASS: characters of a JSON string's value: written with its escapes */
    struct span text;
    struct char_range *ranges;
    size_t range_count;
    struct expr **kids;
    size_t count;
    int min, max;
    int32_t rule;
};

struct rule {
    struct span name; /* empty: made here */
    struct expr *body;
    bool nullable;
};

struct grammar_text {
    struct arena arena;
    struct rule *rules; /* owned */
    size_t count, cap;
    unsigned depth, merges;
    size_t looked_at, compared;
    bool failed;
    struct engine_problem *why;
};

/* Records the first fault; NULL. */
struct expr *grammar_fail(struct grammar_text *g, enum engine_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Each returns NULL after a fault, and takes NULL for a part that failed. */
struct expr *expr_new(struct grammar_text *g, enum expr_kind kind);
struct expr *expr_bytes(struct grammar_text *g, struct span text); /* copies */
struct expr *expr_text(struct grammar_text *g, const char *text);
struct expr *expr_add(struct grammar_text *g, struct expr *list, struct expr *kid); /* returns `list` */
struct expr *expr_pair(struct grammar_text *g, enum expr_kind kind, struct expr *a, struct expr *b);
struct expr *expr_repeat(struct grammar_text *g, struct expr *of, int min, int max);
struct expr *expr_range(struct grammar_text *g, struct expr *class, uint32_t low, uint32_t high); /* returns `class` */
struct expr *expr_invert(struct grammar_text *g, struct expr *class);                             /* returns `class` */
struct expr *expr_rule(struct grammar_text *g, int32_t rule);
/* A new rule without a body, or -1. The name is copied. */
int32_t rule_new(struct grammar_text *g, struct span name);
/* The rule of this name, made when it is not there. */
int32_t rule_named(struct grammar_text *g, struct span name);

/* --- front ends: each makes rule 0, the whole answer --- */
void grammar_from_ebnf(struct grammar_text *g, struct span text);
void grammar_from_regex(struct grammar_text *g, struct span text);
void grammar_from_schema(struct grammar_text *g, struct span text);
void grammar_from_choices(struct grammar_text *g, struct span text);
void grammar_from_json(struct grammar_text *g);
struct grammar_tools {
    const json_t *list;
    struct span only;
    enum engine_grammar_calls form;
    bool many, loose; /* loose: arguments are any */
};
void grammar_from_tools(struct grammar_text *g, const struct grammar_tools *tools);
/* A value of `schema`, whose references lead into `root`; `number` tells several roots of one grammar apart. */
struct expr *grammar_value(struct grammar_text *g, const json_t *root, const json_t *schema, unsigned number);
/* An expression for `text`; `in_json`: for the value of a JSON string. */
struct expr *regex_parse(struct grammar_text *g, struct span text, bool in_json);
/* JSON's own rules by name: value, object, array, string, char, number, integer, boolean, null, ws. */
void grammar_json_rules(struct grammar_text *g);
/* grammar_merge.c: one schema for two that must both hold, a new reference; NULL after a fault. `root` is where their
 * references lead. */
json_t *grammar_merge(struct grammar_text *g, const json_t *root, const json_t *a, const json_t *b);
/* What a "#/.." reference leads to; NULL: nowhere. */
const json_t *grammar_target(const json_t *root, const char *ref);
/* grammar_number.c: a number that keeps minimum, maximum and their exclusive forms. */
bool grammar_has_bounds(const json_t *schema);
struct expr *grammar_integer(struct grammar_text *g, const json_t *schema);
struct expr *grammar_decimal(struct grammar_text *g, const json_t *schema);
/* A number that is a multiple of multipleOf; `whole`: an integer. */
struct expr *grammar_multiple(struct grammar_text *g, const json_t *schema, bool whole);
void ebnf_parse(struct grammar_text *g, struct span text);

/* --- automaton ---------------------------------------------------------------------------------- */

enum edge_kind { E_BYTES, E_FREE, E_CALL };

struct edge {
    uint8_t kind, low, high; /* E_BYTES: any byte of this range */
    int32_t to;
    int32_t callee; /* E_CALL: the called rule's first node; `to` is where it returns */
    int32_t next;   /* of the same node; -1: last */
};

struct automaton {
    struct edge *edges; /* owned */
    size_t edge_count, edge_cap;
    int32_t *first; /* owned, [node_count]: first edge, -1: none */
    size_t node_count, node_cap;
    int32_t start;
    uint8_t *is_end; /* owned, [node_count]: a rule ends here */
    uint8_t class_of[256];
    uint8_t byte_of[256]; /* some byte of each class */
    unsigned class_count;
};

bool automaton_build(struct automaton *a, struct grammar_text *g);
void automaton_release(struct automaton *a);

#endif
