/* hpke.h - HPKE (RFC 9180) in base mode with the one suite of the protocol: DHKEM(X25519, HKDF-SHA256) 0x0020,
 * HKDF-SHA256 0x0001, ChaCha20-Poly1305 0x0003; and the primitives it is made of. One message per context: sequence
 * number 0. No plaintext leaves before its tag was checked. */
#ifndef VERIFIER_HPKE_H
#define VERIFIER_HPKE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

#define VERIFIER_AEAD_KEY_LEN 32
#define VERIFIER_AEAD_NONCE_LEN 12
#define VERIFIER_AEAD_TAG_LEN 16

/* The keys of one context: secrets. Wipe with verifier_hpke_wipe(). */
struct verifier_hpke {
    uint8_t key[VERIFIER_AEAD_KEY_LEN], nonce[VERIFIER_AEAD_NONCE_LEN], exporter_secret[32];
};
void verifier_hpke_wipe(struct verifier_hpke *hpke);

/* Receiver: false for a low-order `enc` or a failing library. */
MUST_CHECK bool verifier_hpke_setup_r(struct verifier_hpke *out, const uint8_t private_key[VERIFIER_KEY_LEN],
                                      const uint8_t enc[VERIFIER_KEY_LEN], struct span info);
/* Sender; `ephemeral` is a fresh random private key, NULL: drawn here. */
MUST_CHECK bool verifier_hpke_setup_s(struct verifier_hpke *out, const uint8_t public_key[VERIFIER_KEY_LEN],
                                      const uint8_t *ephemeral, struct span info, uint8_t enc[VERIFIER_KEY_LEN]);
/* Export(context, len), len <= 255 * 32. */
MUST_CHECK bool verifier_hpke_export(const struct verifier_hpke *hpke, struct span context, uint8_t *out, size_t len);

/* Sets up for one message, and seals it. */
MUST_CHECK bool verifier_hpke_seal(const uint8_t public_key[VERIFIER_KEY_LEN], struct span info, struct span aad,
                                   struct span plain, uint8_t enc[VERIFIER_KEY_LEN], struct writer *sealed);

/* --- primitives -------------------------------------------------------------------------------- */

MUST_CHECK bool verifier_x25519_public(const uint8_t private_key[VERIFIER_KEY_LEN], uint8_t out[VERIFIER_KEY_LEN]);
/* False when the result is all zero (a low-order public key). */
MUST_CHECK bool verifier_x25519(const uint8_t private_key[VERIFIER_KEY_LEN], const uint8_t public_key[VERIFIER_KEY_LEN],
                                uint8_t out[VERIFIER_KEY_LEN]);
/* HKDF-SHA256 (RFC 5869). */
MUST_CHECK bool verifier_hkdf_extract(struct span salt, struct span ikm, uint8_t prk[32]);
MUST_CHECK bool verifier_hkdf_expand(const uint8_t prk[32], struct span info, uint8_t *out, size_t len);
/* ChaCha20-Poly1305, tag at the end. */
MUST_CHECK enum verifier_err verifier_aead_open(const uint8_t key[VERIFIER_AEAD_KEY_LEN],
                                                const uint8_t nonce[VERIFIER_AEAD_NONCE_LEN], struct span aad,
                                                struct span sealed, struct writer *out);
MUST_CHECK bool verifier_aead_seal(const uint8_t key[VERIFIER_AEAD_KEY_LEN],
                                   const uint8_t nonce[VERIFIER_AEAD_NONCE_LEN], struct span aad, struct span plain,
                                   struct writer *sealed);

#endif
