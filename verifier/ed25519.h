/* ed25519.h - Ed25519 as the protocol wants it: RFC 8032 § 5.1.7 without cofactor, S below the group order, and keys
 * that are of small order or not in canonical form refused (libraries differ there: see the tests). */
#ifndef VERIFIER_ED25519_H
#define VERIFIER_ED25519_H

#include "verifier/types.h"

/* The public key of a 32-byte seed. */
MUST_CHECK bool verifier_ed25519_public(const uint8_t seed[VERIFIER_KEY_LEN], uint8_t public_key[VERIFIER_KEY_LEN]);
MUST_CHECK bool verifier_ed25519_sign(const uint8_t seed[VERIFIER_KEY_LEN], struct span message,
                                      uint8_t sig[VERIFIER_SIG_LEN]);
MUST_CHECK bool verifier_ed25519_verify(const uint8_t public_key[VERIFIER_KEY_LEN], struct span message,
                                        const uint8_t sig[VERIFIER_SIG_LEN]);
/* True for an encoding that RFC 8032 § 5.1.3 decodes and whose point is not of order 1, 2, 4 or 8. (Whether it lies
 * on the curve at all shows when it is used.) */
bool verifier_ed25519_key_is_sound(const uint8_t public_key[VERIFIER_KEY_LEN]);

#endif
