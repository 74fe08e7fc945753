/* check.h - evidence to facts: stages 1 to 8 and 10 of PROTOCOL.md § Order of checks, in that order; the first failure
 * names the verdict. Pure: time, session and the parts held are arguments; no I/O, no clock. Whether the facts are good
 * enough is the judge's to say (policy/judge.h): stages 9 and 11. */
#ifndef VERIFIER_CHECK_H
#define VERIFIER_CHECK_H

#include "verifier/claims.h"
#include "verifier/err.h"

/* What the verifier knows of its own TLS session. */
struct verifier_session {
    bool tls13, finished, resumed, psk, early_data, post_handshake_auth;
};

/* A part that the verifier holds and listed in its challenge. */
struct verifier_held {
    uint8_t digest[VERIFIER_DIGEST_LEN]; /* of `bytes`: whoever keeps it computed it from them */
    struct span bytes;
};

struct verifier_input {
    struct span envelope;    /* as received */
    struct span challenge;   /* as sent */
    struct span spki;        /* DER of the attester's TLS key; ignored for a sealed leaf */
    const uint8_t *exporter; /* 32 bytes; NULL: a sealed leaf (client to engine only) */
    struct verifier_session session;
    enum verifier_role verifier, attester; /* the pair that the verifier expects */
    uint64_t now;                          /* seconds since 1970 UTC, as the verifier trusts it */
    const struct verifier_held *held;
    size_t held_count;
    const struct verifier_collateral *collateral; /* the verifier's own, or NULL; bundle.h says what it does */
    struct verifier_cache *cache;                 /* cache.h: what earlier checks found out, or NULL */
    const struct verifier_hw_rules *hw;           /* NULL: verifier_hw_rules_judged() */
    const struct verifier_claims *previous; /* of the last attestation of this connection, or NULL: then a stage or
                                               policy version that fell is not seen */
};

/* Where and why it failed. */
struct verifier_refusal {
    enum verifier_err code;
    int stage;       /* 1 to 11 */
    int engine;      /* -1: the node itself, else index of the entry */
    int inner_stage; /* stages 10 and 11 of an engine: its own stage; else 0 */
    struct verifier_note note;
};

/* The facts, yours: verifier_claims_free(). NULL and `*why` when refused. Copies what it keeps. */
MUST_CHECK struct verifier_claims *verifier_check(const struct verifier_input *in, struct verifier_refusal *why);

#endif
