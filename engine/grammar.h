/* grammar.h - structured output: which tokens may come next so that the whole answer fits a JSON schema, a regular
 * expression, an EBNF grammar, or a list of choices.
 *
 * A grammar is compiled, off the step path, to one automaton over bytes with a stack; its states are found as the
 * answer goes and kept, so that a mask costs a walk over the vocabulary the first time a state is met and a copy
 * afterwards. Grammars come from strangers: text, depth, rules, automaton and states are bounded. A grammar and its
 * states belong to one thread at a time; a vocabulary is constant and shared. */
#ifndef ENGINE_GRAMMAR_H
#define ENGINE_GRAMMAR_H

#include <jansson.h>

#include "engine/problem.h"
#include "verifier/base/writer.h"

struct engine_tokenizer;
struct engine_grammar_vocab;
struct engine_grammar;

#define ENGINE_GRAMMAR_TEXT_MAX (1u << 20)

enum engine_grammar_kind {
    ENGINE_GRAMMAR_JSON,   /* any JSON object; no text */
    ENGINE_GRAMMAR_SCHEMA, /* text: a JSON schema (grammar_schema.c says which keywords); others are refused by name */
    ENGINE_GRAMMAR_REGEX,  /* text: a regular expression that the whole answer matches */
    ENGINE_GRAMMAR_EBNF,   /* text: rules "name ::= ..", beginning at "root" (grammar_ebnf.c) */
    ENGINE_GRAMMAR_CHOICE  /* text: a JSON array of strings, one of which is the answer */
};

/* The tokenizer's pieces in the order of their bytes. Borrows from `t`: close before it. NULL when memory is short. */
MUST_CHECK struct engine_grammar_vocab *engine_grammar_vocab_open(const struct engine_tokenizer *t);
void engine_grammar_vocab_close(struct engine_grammar_vocab *v); /* NULL is fine; after its last grammar */

/* NULL when refused: ENGINE_E_SYNTAX with the place, ENGINE_E_UNSUPPORTED with the keyword, ENGINE_E_LIMIT. Borrows
 * `v`, not `text`. */
MUST_CHECK struct engine_grammar *engine_grammar_compile(enum engine_grammar_kind kind, struct span text,
                                                         const struct engine_grammar_vocab *v,
                                                         struct engine_problem *why);
enum engine_grammar_calls {
    ENGINE_GRAMMAR_CALL_JSON,   /* one object with name and parameters and nothing else */
    ENGINE_GRAMMAR_CALL_TAGGED, /* objects with name and arguments, each inside <tool_call> .. </tool_call> */
    ENGINE_GRAMMAR_CALL_XML     /* Qwen3-Coder's, each inside <tool_call> too; values of strings are plain text */
};
/* An answer that calls one of `tools` (OpenAI's list), or the one called `only` (empty: any), or with `many` several
 * where the form has room for them. Arguments follow the tool's schema, or are any where it uses what is not supported;
 * refused when a tool that may be called is `strict`. */
MUST_CHECK struct engine_grammar *engine_grammar_compile_tools(const json_t *tools, struct span only,
                                                               enum engine_grammar_calls form, bool many,
                                                               const struct engine_grammar_vocab *v,
                                                               struct engine_problem *why);
void engine_grammar_close(struct engine_grammar *g); /* NULL is fine */
/* Memory of the automaton: what a grammar takes while its request waits. */
size_t engine_grammar_bytes(const struct engine_grammar *g);

enum {
    ENGINE_TYPE_NULL = 1,
    ENGINE_TYPE_BOOLEAN = 2,
    ENGINE_TYPE_WHOLE = 4,
    ENGINE_TYPE_NUMBER = 8,
    ENGINE_TYPE_OBJECT = 16,
    ENGINE_TYPE_ARRAY = 32,
    ENGINE_TYPE_STRING = 64
};
enum { ENGINE_TYPES_LOOKS = 1 << 15 };
/* The one of a value. */
unsigned engine_grammar_type(const json_t *v);
/* The types that a schema's values may have: what its type, enum, const, anyOf, oneOf, allOf and $ref (inside `root`)
 * name, together. Types that JSON schema does not know are taken for what they resemble (int32, list, ..), else for
 * strings. 0: it names none, or is NULL. `looks`, at first ENGINE_TYPES_LOOKS, bounds what all calls with it look at.
 */
unsigned engine_grammar_types(const json_t *root, const json_t *schema, int *looks);

/* Where an answer stands; a plain number, valid as long as its grammar. Negative: the answer does not fit, or the
 * grammar's states passed their limit; it stays so. */
typedef int32_t engine_grammar_state;

engine_grammar_state engine_grammar_start(const struct engine_grammar *g);
/* After `token`; negative when it does not fit. End tokens change nothing where the answer may end. */
engine_grammar_state engine_grammar_advance(struct engine_grammar *g, engine_grammar_state s, int32_t token);
/* May the answer end here? */
bool engine_grammar_may_end(const struct engine_grammar *g, engine_grammar_state s);
/* Bit t of word t/32 is set when token t may come next; end tokens when the answer may end, and they alone when nothing
 * else may come or `s` is negative. `words` holds (tokens + 31) / 32. */
void engine_grammar_mask(struct engine_grammar *g, engine_grammar_state s, uint32_t *words);
/* Append the bytes that must come next, whatever the model says, at most `out->max`: tokenize them and skip the model
 * (jump forward). */
void engine_grammar_forced(struct engine_grammar *g, engine_grammar_state s, struct writer *out);

#endif
