/* rim.h - NVIDIA's reference measurements: one signed XML file (a SWID tag) for each driver and firmware version.
 * Exactly one shape of signature is accepted, nothing is resolved or fetched, and values are read from the verified
 * document only. XMLDSig enveloped, C14N 1.1, ECDSA P-384; attestation.md § 3. */
#ifndef VERIFIER_RIM_H
#define VERIFIER_RIM_H

#include "verifier/base/span.h"
#include "verifier/err.h"

#define VERIFIER_RIM_BYTES_MAX (256u << 10)
#define VERIFIER_RIM_ENTRIES_MAX 128
#define VERIFIER_RIM_HASHES_MAX 512
#define VERIFIER_RIM_HASH_LEN 48

/* One reference file. About 25 KiB. */
struct verifier_rim {
    char version[32], product[32], tag_id[128];
    size_t count; /* active entries */
    struct {
        uint8_t index;                /* measurement block index - 1 */
        uint16_t first, alternatives; /* into hash[] */
    } entry[VERIFIER_RIM_ENTRIES_MAX];
    uint8_t hash[VERIFIER_RIM_HASHES_MAX][VERIFIER_RIM_HASH_LEN];
    size_t hash_count;
    size_t certificates;
    bool simulated;
    uint64_t expires; /* earliest notAfter of its certificates */
};

/* Prove and read. VERIFIER_E_RIM_PARSE, _RIM_SIGNATURE, _RIM_UNTRUSTED_ROOT, _RIM_CHAIN_LENGTH, _RIM_CHAIN_ISSUER,
 * _RIM_CHAIN_SIGNATURE, _RIM_CERT_EXPIRED. */
MUST_CHECK enum verifier_err verifier_rim_read(struct verifier_rim *out, struct span xml, uint64_t now,
                                               struct verifier_note *why);

#endif
