/* statement.h - what runs on a node, constant for the process's life. PROTOCOL.md § Objects, statement.
 * {v, role, program, version, config, owner, identity, release, kernels}, at most 2 KiB. */
#ifndef VERIFIER_STATEMENT_H
#define VERIFIER_STATEMENT_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

struct verifier_statement {
    enum verifier_role role;             /* proxy or engine */
    struct span program, version;        /* text, 1 to 64 bytes; informative: the measurement identifies the code */
    uint8_t config[VERIFIER_DIGEST_LEN]; /* of the effective configuration as printed */
    uint8_t owner[VERIFIER_DIGEST_LEN];  /* of the body of the owner's first key set */
    uint8_t identity[VERIFIER_KEY_LEN];  /* Ed25519, signs receipts */
    uint8_t release[VERIFIER_KEY_LEN];   /* X25519, weight keys are sealed to it */
    struct span kernels;                 /* code path, text; data NULL: nil (a proxy, only there: checked at stage 8) */
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err verifier_statement_parse(struct verifier_statement *out, struct span in);
void verifier_statement_encode(struct writer *w, const struct verifier_statement *in);

#endif
