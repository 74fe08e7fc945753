/* sha.h - SHA-2 that cannot fail. libcrypto's own one-call functions allocate, and without memory they leave the digest
 * as it was: whatever stood there would be compared. These work on the stack. FIPS 180-4. */
#ifndef VERIFIER_SHA_H
#define VERIFIER_SHA_H

#include <openssl/sha.h>

#include "verifier/base/span.h"

void verifier_sha256(uint8_t out[32], struct span in);
void verifier_sha384(uint8_t out[48], struct span in);
void verifier_sha512(uint8_t out[64], struct span in);

/* In pieces: begin, add, finish. A copy of the struct goes on from where it is. */
enum verifier_sha { VERIFIER_SHA256, VERIFIER_SHA384, VERIFIER_SHA512 };
struct verifier_hash {
    enum verifier_sha kind;
    union {
        SHA256_CTX of_256;
        SHA512_CTX of_512;
    } state;
};
void verifier_hash_begin(struct verifier_hash *h, enum verifier_sha kind);
void verifier_hash_add(struct verifier_hash *h, struct span s);
/* lp(s) of PROTOCOL.md: its length in 4 bytes, big-endian, then itself. */
void verifier_hash_add_lp(struct verifier_hash *h, struct span s);
/* 32, 48 or 64 bytes. */
void verifier_hash_finish(struct verifier_hash *h, uint8_t *out);

#endif
