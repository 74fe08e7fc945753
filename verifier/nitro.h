/* nitro.h - AWS Nitro enclave attestation documents: COSE_Sign1 over a CBOR map, certificates inside.
 * Pure. Format: AWS Nitro Enclaves user guide, attestation process; RFC 9052; attestation.md § 5. */
#ifndef VERIFIER_NITRO_H
#define VERIFIER_NITRO_H

#include "verifier/base/span.h"
#include "verifier/err.h"

#define VERIFIER_NITRO_PCRS 16
#define VERIFIER_NITRO_BUNDLE_MAX 7

/* A document, split. Everything borrows from it. */
struct verifier_nitro_document {
    struct span payload, signature; /* what is signed (wrapped, see nitro.c); r then s, 96 */
    struct span module_id, certificate, public_key, user_data, nonce;
    uint64_t timestamp;                            /* milliseconds since 1970 */
    struct span bundle[VERIFIER_NITRO_BUNDLE_MAX]; /* root first */
    size_t bundle_count;
    struct span pcr[VERIFIER_NITRO_PCRS]; /* 48 bytes each; empty: not there */
};

/* The facts. */
struct verifier_nitro {
    char module_id[128];
    uint64_t timestamp;
    uint32_t present; /* bit i: pcr[i] is there */
    uint8_t pcr[VERIFIER_NITRO_PCRS][48];
    bool debug; /* PCR 0 to 2 are zero */
};

/* VERIFIER_E_PARSE, _TRAILING_DATA, _UNSUPPORTED_ALG. */
MUST_CHECK enum verifier_err verifier_nitro_parse(struct verifier_nitro_document *out, struct span document);

struct verifier_hw;
struct verifier_cache;
struct verifier_hw_rules;
struct verifier_note;
/* verifier_hw_verify() for this format. Report data: the document's nonce, when it has 64 bytes. */
MUST_CHECK enum verifier_err verifier_nitro_verify(struct verifier_hw *out, struct span document,
                                                   struct verifier_cache *cache, uint64_t now,
                                                   const struct verifier_hw_rules *rules, struct verifier_note *why);

#endif
