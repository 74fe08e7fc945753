/* problem.h - why a model's bytes were refused: a reason for programs, a sentence for people.
 * The sentence names the file, tensor or key at fault. It never holds weights, prompts or anything but names
 * and numbers taken from metadata, control characters replaced. */
#ifndef ENGINE_PROBLEM_H
#define ENGINE_PROBLEM_H

#include "verifier/base/span.h"

enum engine_err {
    ENGINE_OK = 0,
    ENGINE_E_IO,          /* a file could not be opened or read */
    ENGINE_E_MEMORY,      /* the machine has too little memory */
    ENGINE_E_TRUNCATED,   /* the bytes end inside a value */
    ENGINE_E_FORMAT,      /* not the format it claims to be */
    ENGINE_E_LIMIT,       /* a count or size above our bound */
    ENGINE_E_MISSING,     /* a key, tensor or file that must be there is not */
    ENGINE_E_TYPE,        /* a key or tensor of another type than needed */
    ENGINE_E_SHAPE,       /* a tensor of another shape than the model's description says */
    ENGINE_E_RANGE,       /* a number outside its range */
    ENGINE_E_DUPLICATE,   /* a key or tensor named twice */
    ENGINE_E_OVERLAP,     /* two tensors share bytes, or one leaves the data section */
    ENGINE_E_UNSUPPORTED, /* well-formed, but an architecture or storage type we do not run */
    ENGINE_E_CALL,        /* our caller broke the function's contract (token, position or block out of range) */
    ENGINE_E_MISMATCH,    /* two parts that must agree do not */
    ENGINE_E_SYNTAX,      /* a template, schema or grammar that cannot be parsed */
    ENGINE_E_VALUE,       /* a template's operation on a value that does not have it */
    ENGINE_E_DEVICE,      /* the device failed; nothing more can be computed there */
    ENGINE_E_REFUSED,     /* the chat template itself refused the conversation; the text is its own sentence */
};

struct engine_problem {
    enum engine_err code;
    char text[256]; /* NUL-terminated UTF-8 or ASCII, one line */
};

/* A short lower-case name, e.g. "truncated". */
const char *engine_err_name(enum engine_err code);
/* Record the first problem only: later calls on the same `*p` change nothing. `p` may be NULL. Returns `code`. */
enum engine_err engine_problem_set(struct engine_problem *p, enum engine_err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For "%.*s" with a stranger's name: at most 80 bytes of it. */
#define ENGINE_NAME(s) (int)((s).len < 80 ? (s).len : 80), (const char *)((s).len ? (const void *)(s).data : "")

#endif
