/* verdict.h - what a side says on stream 0 after it judged the other. PROTOCOL.md § Carriage, VERDICT.
 * {code, valid_until}: the code is "ok" exactly when there is a time. A refusal carries its code only. */
#ifndef VERIFIER_VERDICT_H
#define VERIFIER_VERDICT_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

struct verifier_verdict {
    struct span code;     /* text, 1 to 64 bytes */
    uint64_t valid_until; /* seconds; 0: refused */
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err verifier_verdict_parse(struct verifier_verdict *out, struct span in);
void verifier_verdict_encode(struct writer *w, const struct verifier_verdict *in);

#endif
