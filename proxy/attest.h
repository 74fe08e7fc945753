/* attest.h - the client's half of attestation over HTTP: challenge the far end of a connection, check its envelope,
 * judge it by the caller's own rules (specs/protocol § Carriage). Sends nothing but the challenge. */
#ifndef PROXY_ATTEST_H
#define PROXY_ATTEST_H

#include "proxy/client.h"

enum { ATTEST_ENVELOPE_MAX = 1 << 20 };

struct attest_ask {
    const struct airlock_rules *rules;
    const char *model;                     /* engines that serve it; NULL: any */
    const struct airlock_seen *seen;       /* NULL: nothing was seen */
    const struct airlock_claims *previous; /* of this connection's last attestation, or NULL */
    unsigned timeout_ms;
};

struct attest_outcome {
    bool accepted;
    bool answered;                  /* an envelope came: `result` says what is wrong with it; else `why` */
    struct airlock_claims *claims;  /* owned; NULL when the check refused */
    struct airlock_verdict verdict; /* .result explains a refusal in either case */
    char why[CLIENT_WHY_MAX];       /* no envelope: the reason */
};

/* True when accepted. attest_outcome_release() in any case. */
bool attest_connection(struct client *c, const struct attest_ask *ask, struct attest_outcome *out);
void attest_outcome_release(struct attest_outcome *out);

#endif
