/* verify_init.h - `airlock verify --init`: a commented acceptance file from a publisher's signed release and from what
 * a node showed. What the hardware proved says what is there, not that it is right: values that rest on nothing else
 * are marked "observed, not verified" in the file. Milan and unknown processor lines are never written as accepted. */
#ifndef PROXY_CLI_VERIFY_INIT_H
#define PROXY_CLI_VERIFY_INIT_H

#include "policy/release.h"
#include "verifier/claims.h"

struct verify_init {
    const struct policy_release *release; /* its signature was checked; NULL: none */
    const struct verifier_claims *claims; /* what was observed; NULL: nobody was asked */
    const char *source;                   /* where it was observed */
    bool simulated;                       /* the caller wants simulated evidence accepted */
};

void verify_init_write(const struct verify_init *in, struct writer *out);

#endif
