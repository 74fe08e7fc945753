/* attest.h - the client's half of attestation over HTTP: challenge the far end of a connection, check its envelope,
 * judge it by the caller's own rules (specs/protocol § Carriage). Sends nothing but the challenge. */
#ifndef PROXY_ATTEST_H
#define PROXY_ATTEST_H

#include "proxy/client.h"

enum { ATTEST_ENVELOPE_MAX = 1 << 20 };

/* What one challenge brought: all that the verdict rests on, so that it can be kept and judged again. */
struct attest_record {
    bool sealed; /* an engine's answer, bound to its sealing key instead of this TLS session */
    struct writer challenge, envelope, spki;
    uint8_t exporter[32];
    struct airlock_session session;
    uint64_t now; /* seconds since 1970, this machine's clock */
};
/* `*out` is empty at first; release it in any case. False with `why` filled when no envelope came. */
/* `engine` (32 bytes) asks that engine through the proxy for a sealed leaf; NULL asks the proxy. */
MUST_CHECK bool attest_fetch(struct client *c, const uint8_t *engine, const char *model, unsigned timeout_ms,
                             struct attest_record *out, char why[CLIENT_WHY_MAX]);
struct attest_record attest_record_empty(void);
void attest_record_release(struct attest_record *r);

struct attest_ask {
    const uint8_t *engine; /* see attest_fetch(); NULL: the proxy and the engines it shows */
    const struct airlock_rules *rules;
    const char *model;                     /* engines that serve it; NULL: any */
    const struct airlock_seen *seen;       /* NULL: nothing was seen */
    const struct airlock_claims *previous; /* of this connection's last attestation, or NULL */
    struct airlock_cache *cache;           /* of earlier attestations, or NULL; this thread's meanwhile */
    unsigned timeout_ms;
    struct span collateral; /* the caller's own (airlock.h); may be empty */
};

struct attest_outcome {
    bool accepted;
    bool answered;                  /* an envelope came: `verdict.result` says what is wrong with it; else `why` */
    struct airlock_claims *claims;  /* owned; NULL when the check refused */
    struct airlock_verdict verdict; /* .result explains a refusal in either case */
    char why[CLIENT_WHY_MAX];       /* no envelope: the reason */
};

/* Check and judge what was fetched. True when accepted. */
bool attest_judge(const struct attest_record *r, const struct attest_ask *ask, struct attest_outcome *out);
/* Both. True when accepted. attest_outcome_release() in any case. */
bool attest_connection(struct client *c, const struct attest_ask *ask, struct attest_outcome *out);
struct attest_outcome attest_outcome_empty(void); /* refused, nothing came */
void attest_outcome_release(struct attest_outcome *out);

#endif
