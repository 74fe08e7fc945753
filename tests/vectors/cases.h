/* cases.h - walks evidence vectors: FOLDER/ITEM/expected.json beside the raw files (attestation.md § Vectors).
 * One walker program a kind of evidence gives a check; everything else - reading, `use`, mutations, comparing,
 * counting - is here. A case that cannot be read counts as failed. */
#ifndef TESTS_VECTORS_CASES_H
#define TESTS_VECTORS_CASES_H

#include <jansson.h>

#include "verifier/base/span.h"

struct cases_loaded; /* files already read for a case */

struct cases_case {
    const char *kind, *item, *name; /* folder, its sub-folder, the case */
    bool synthetic;                 /* made with own keys: the item's own root is to be injected */
    bool base;                      /* the item's first case: its `fields` are compared too */
    json_t *doc;                    /* whole expected.json */
    json_t *self, *policy;          /* the case and its policy */
    uint64_t time;                  /* seconds since 1970; 0 when the case has none */
    bool unreadable;                /* set by anything here that could not be understood: the case fails */
    char why[256];                  /* what could not be understood */
    struct cases_loaded *loaded;
};

/* What the code under test said. */
struct cases_answer {
    const char *error; /* its code; NULL: accepted */
    json_t *expect;    /* owned; compared with every key of the case's `expect` but verdict and error; may be NULL */
    json_t *fields;    /* owned; compared with the item's `fields` in the base case; may be NULL: not compared */
    char detail[600];  /* for the message when the case fails */
};

/* The bytes of a role with `collateral`, `use` and `mutate` applied, borrowed until the case ends. Empty when the item
 * has no such file (that alone is no fault). */
struct span cases_file(struct cases_case *c, const char *role);
/* The same without mutations and `use`: what the item itself holds. */
struct span cases_original(struct cases_case *c, const char *role);
bool cases_has(const struct cases_case *c, const char *role);
/* Marks the case unreadable when its policy has a key that is not in the NULL-terminated list. */
void cases_policy_known(struct cases_case *c, const char *const *keys);
bool cases_policy_bool(const struct cases_case *c, const char *key, bool otherwise);
/* Lower-case hex of bytes as a new JSON string. */
json_t *cases_hex(const void *data, size_t len);
/* Bytes of lower-case hex, at most `cap`; -1 when malformed. */
int cases_unhex(const char *hex, uint8_t *out, size_t cap);
void cases_unreadable(struct cases_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct cases_kind {
    const char *folder;
    bool own; /* a kind that only our own evidence has */
    void (*check)(struct cases_case *c, struct cases_answer *answer);
    /* Special words of `use` that are not a file: append the bytes to a malloc'ed buffer. NULL: none. */
    bool (*use)(struct cases_case *c, const char *role, const char *how, uint8_t **data, size_t *len);
};
/* Walk the folders in tests/vectors/evidence and under $AIRLOCK_SHARED/vectors, print "FOLDER: N passed, N failed,
 * N skipped" for each. Exit code: 0 all passed, 1 a case failed, 77 no folder is there. */
int cases_main(const struct cases_kind *kinds, size_t count);

#endif
