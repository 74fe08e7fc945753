/* rim.h - NVIDIA's reference measurements: one signed XML file (a SWID tag) for each driver and firmware version.
 * Exactly one shape of signature is accepted, nothing is resolved or fetched, and values are read from the verified
 * document only. XMLDSig enveloped, C14N 1.1, ECDSA P-384; attestation.md § 3. */
#ifndef VERIFIER_RIM_H
#define VERIFIER_RIM_H

#include "verifier/cache.h"
#include "verifier/err.h"

#define VERIFIER_RIM_BYTES_MAX (256u << 10)
#define VERIFIER_RIM_ENTRIES_MAX 128
#define VERIFIER_RIM_HASHES_MAX 512
#define VERIFIER_RIM_HASH_LEN 48
#define VERIFIER_RIM_CERTS 4
#define VERIFIER_RIM_CERT_MAX 2048 /* bytes of one */

/* One reference file. About 35 KiB. */
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
    uint16_t cert_len[VERIFIER_RIM_CERTS]; /* DER, signer first, root last */
    uint8_t cert[VERIFIER_RIM_CERTS][VERIFIER_RIM_CERT_MAX];
    bool simulated;
    uint64_t expires;   /* earliest notAfter of its certificates; verifier_rim_status() lowers it */
    bool status_good;   /* verifier_rim_status(): the vendor calls each of them good */
    uint64_t status_at; /* earliest date of those answers; UINT64_MAX: none */
};

/* Prove and read. VERIFIER_E_RIM_PARSE, _RIM_SIGNATURE, _RIM_UNTRUSTED_ROOT, _RIM_CHAIN_LENGTH, _RIM_CHAIN_ISSUER,
 * _RIM_CHAIN_SIGNATURE, _RIM_CERT_EXPIRED. `cache` may be NULL. */
MUST_CHECK enum verifier_err verifier_rim_read(struct verifier_rim *out, struct span xml, struct verifier_cache *cache,
                                               uint64_t now, struct verifier_note *why);
/* The vendor's word on the certificates of a file that was proven, its signer's first. VERIFIER_OK: nothing speaks
 * against it, and rim->status_good tells whether each of the three below the root was answered for. Else
 * VERIFIER_E_RIM_CERT_REVOKED or ocsp.h's reasons. */
MUST_CHECK enum verifier_err verifier_rim_status(struct verifier_rim *rim, const struct span *responses, size_t count,
                                                 struct verifier_cache *cache, uint64_t now, struct verifier_note *why);

#endif
