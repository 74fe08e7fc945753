/* leaf.h - the digests that bind one session, one tree and its devices into one quote. PROTOCOL.md § Objects.
 * All of them are hashes over public bytes; nothing here can fail. */
#ifndef VERIFIER_LEAF_H
#define VERIFIER_LEAF_H

#include "verifier/types.h"

/* Plain: binds the challenge, the attester's TLS key and the TLS exporter. */
void verifier_leaf(uint8_t out[VERIFIER_DIGEST_LEN], struct span challenge, struct span spki,
                   const uint8_t exporter[VERIFIER_EXPORTER_LEN]);
/* Sealed: binds the challenge and the engine's sealing key. */
void verifier_sealed_leaf(uint8_t out[VERIFIER_DIGEST_LEN], struct span challenge,
                          const uint8_t seal_public[VERIFIER_KEY_LEN]);
/* An engine as a proxy shows it: a leaf of state.serves. */
void verifier_engine_leaf(uint8_t out[VERIFIER_DIGEST_LEN], struct span challenge, struct span spki,
                          const uint8_t exporter[VERIFIER_EXPORTER_LEN], const uint8_t h_quote[VERIFIER_DIGEST_LEN],
                          const uint8_t h_statement[VERIFIER_DIGEST_LEN], const uint8_t h_state[VERIFIER_DIGEST_LEN],
                          uint64_t checked_at);
/* What the hardware signs: the tree, the statement and the state. */
void verifier_report_data(uint8_t out[VERIFIER_DIGEST_LEN], uint32_t size, const uint8_t root[VERIFIER_DIGEST_LEN],
                          const uint8_t h_statement[VERIFIER_DIGEST_LEN], const uint8_t h_state[VERIFIER_DIGEST_LEN]);
/* The SPDM nonce of every device of the tree open when its evidence was collected. */
void verifier_device_nonce(uint8_t out[VERIFIER_NONCE_LEN], uint32_t size, const uint8_t root[VERIFIER_DIGEST_LEN]);
/* One device's item; `chain` are the bytes of its chain part. */
void verifier_device_item(uint8_t out[VERIFIER_DIGEST_LEN], struct span report, struct span chain);
/* The digest over up to 16 items, which it takes in ascending order whatever order they come in. */
void verifier_devices_digest(uint8_t out[VERIFIER_DIGEST_LEN], const uint8_t (*items)[VERIFIER_DIGEST_LEN],
                             size_t count);
/* A receipt's commitment to a body, by the digest of that body. */
void verifier_commitment(uint8_t out[VERIFIER_DIGEST_LEN], const uint8_t salt[32],
                         const uint8_t h_body[VERIFIER_DIGEST_LEN]);

#endif
