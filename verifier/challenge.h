/* challenge.h - what a verifier draws and sends. PROTOCOL.md § Objects, challenge.
 * {v, verifier, attester, nonce, engines {model, max} | nil, have [digests]}, at most 4 KiB. */
#ifndef VERIFIER_CHALLENGE_H
#define VERIFIER_CHALLENGE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

struct verifier_challenge {
    enum verifier_role verifier, attester; /* one of the seven pairs */
    uint8_t nonce[VERIFIER_NONCE_LEN];     /* the verifier's, used once */
    unsigned engines_max;                  /* 0: does not ask for engines; only client to proxy asks */
    struct span model;                     /* engines of this model; data NULL: of any */
    size_t have_count;
    uint8_t have[VERIFIER_HAVE_MAX][VERIFIER_DIGEST_LEN]; /* parts the verifier holds: they may come by digest */
};

/* True for the pairs of PROTOCOL.md: client-proxy, client-engine, proxy-engine, engine-proxy, keyd-engine,
 * keyd-proxy, engine-engine (verifier first). */
bool verifier_pair_is_known(enum verifier_role verifier, enum verifier_role attester);
/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err verifier_challenge_parse(struct verifier_challenge *out, struct span in);
void verifier_challenge_encode(struct writer *w, const struct verifier_challenge *in);

#endif
