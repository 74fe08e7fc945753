/* receipt.h - what an identity key signs about one answered request. PROTOCOL.md § Receipts.
 * The body of a signed object of type receipt; commitments are salted, so a receipt in a log gives no text away. */
#ifndef VERIFIER_RECEIPT_H
#define VERIFIER_RECEIPT_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

enum verifier_mode { VERIFIER_MODE_PLAIN, VERIFIER_MODE_SEALED, VERIFIER_MODES };

struct verifier_receipt {
    enum verifier_mode mode;
    uint8_t request[VERIFIER_DIGEST_LEN], response[VERIFIER_DIGEST_LEN]; /* commitments */
    uint8_t artefact_root[VERIFIER_DIGEST_LEN], policy[VERIFIER_DIGEST_LEN];
    struct span sampling; /* the effective parameters as JSON text, 0 to 1024 bytes */
    uint64_t seed;
    uint32_t prompt_tokens, completion_tokens;
    struct span kernels; /* text, 1 to 64 bytes */
    uint8_t statement[VERIFIER_DIGEST_LEN], state[VERIFIER_DIGEST_LEN];
    uint64_t at; /* time */
    uint64_t log_index;
    uint8_t previous[VERIFIER_DIGEST_LEN]; /* head of the log before this receipt */
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err verifier_receipt_parse(struct verifier_receipt *out, struct span in);
void verifier_receipt_encode(struct writer *w, const struct verifier_receipt *in);

#endif
