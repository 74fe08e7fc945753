/* release.h - weight keys sealed to an engine's release key, whole or in one share per keyd. PROTOCOL.md § First start
 * and key release: HPKE, info lp("airlock release v1"), AAD = H(statement), policy digest, artefact root, i, n. */
#ifndef VERIFIER_RELEASE_H
#define VERIFIER_RELEASE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/hpke.h"
#include "verifier/types.h"

#define VERIFIER_RELEASE_SEALED_LEN 48 /* a 32-byte key and its tag */
#define VERIFIER_RELEASE_AAD_LEN 194
#define VERIFIER_RELEASE_SHARES_MAX 16

/* What a sealed key is bound to. */
struct verifier_release_bind {
    uint8_t statement[VERIFIER_DIGEST_LEN];     /* H(statement) of the engine */
    uint8_t policy[VERIFIER_DIGEST_LEN];        /* of the grant's policy */
    uint8_t artefact_root[VERIFIER_DIGEST_LEN]; /* which model */
    uint8_t i, n;                               /* share i of n, in the policy's order of keyds, from 0 */
};

/* HPKE's info and AAD, for whoever opens through the attester. */
struct span verifier_release_info(void); /* static bytes */
void verifier_release_aad(uint8_t out[VERIFIER_RELEASE_AAD_LEN], const struct verifier_release_bind *bind);

MUST_CHECK bool verifier_release_seal(const uint8_t release_public[VERIFIER_KEY_LEN],
                                      const struct verifier_release_bind *bind, const uint8_t key[VERIFIER_KEY_LEN],
                                      uint8_t enc[VERIFIER_KEY_LEN], uint8_t sealed[VERIFIER_RELEASE_SEALED_LEN]);
/* What was sealed so, by the receiver's context of that info (verifier_hpke_setup_r, in the attester).
 * VERIFIER_E_SIZE, _SEAL_OPEN. */
MUST_CHECK enum verifier_err verifier_release_open(const struct verifier_hpke *opened, struct span aad,
                                                   struct span sealed, uint8_t key[VERIFIER_KEY_LEN]);
/* The key of n shares in the policy's order, 1 to 16; one share is the key itself. */
MUST_CHECK bool verifier_release_combine(const uint8_t (*shares)[VERIFIER_KEY_LEN], size_t n,
                                         uint8_t key[VERIFIER_KEY_LEN]);
/* Names a whole key without giving it away; stands in the artefact manifest, compare before use. */
MUST_CHECK bool verifier_release_key_id(const uint8_t key[VERIFIER_KEY_LEN], uint8_t id[VERIFIER_KEY_LEN]);

#endif
