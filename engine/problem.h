/* problem.h - why the engine refused something: one enum value a reason, and one sentence for people.
 * The sentence names files, keys, counts and limits; never a byte of a prompt, a completion or a weight. */
#ifndef ENGINE_PROBLEM_H
#define ENGINE_PROBLEM_H

#include "verifier/base/span.h"

enum engine_err {
    ENGINE_OK = 0,
    ENGINE_E_MEMORY,      /* an allocation failed */
    ENGINE_E_FORMAT,      /* not the format it claims to be, or cut short */
    ENGINE_E_MISSING,     /* a key, tensor or file that must be there is not */
    ENGINE_E_TYPE,        /* a key or tensor of another type or shape than its reader needs */
    ENGINE_E_RANGE,       /* a number or a count outside its bounds */
    ENGINE_E_MISMATCH,    /* two parts that must agree do not */
    ENGINE_E_UNSUPPORTED, /* well formed, but a kind that this engine does not run */
    ENGINE_E_LIMIT,       /* a limit on steps, depth or size was reached */
    ENGINE_E_SYNTAX,      /* a template or grammar that cannot be parsed */
    ENGINE_E_REFUSED,     /* the chat template itself refused the conversation (raise_exception) */
    ENGINE_E_VALUE,       /* an operation on a value that does not have it */
    ENGINE_E_IO,          /* the operating system refused a read */
};

struct engine_problem {
    enum engine_err err;
    char text[400]; /* one line, no full stop at its end; empty when err is ENGINE_OK */
};

/* Record `err` and the sentence, cut to fit and made printable. Keeps the first problem recorded; `p` may be NULL.
 * Returns the error that `*p` then holds, so that a caller can `return engine_problem_set(...)`. */
enum engine_err engine_problem_set(struct engine_problem *p, enum engine_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
