/* gpu.h - NVIDIA GPUs (Hopper, Blackwell) and NVSwitches: device certificates, measurement report, reference values.
 * Pure. Order of checks: attestation.md § 3. Thirteen P-384 signatures for a GPU with both reference files. */
#ifndef VERIFIER_GPU_H
#define VERIFIER_GPU_H

#include "verifier/claims.h"
#include "verifier/rim.h"
#include "verifier/spdm.h"

struct verifier_gpu {
    struct verifier_spdm spdm; /* borrows from the report */
    bool is_switch, simulated;
    char chip[16];            /* "GH100", "GB100", "LS_10": the first word of the leaf's name */
    char leaf[64], model[64]; /* common names of leaf and of the device certificate above it */
    char ueid[65];            /* decimal: the leaf's subject serial number as a number */
    char serial[65];          /* of the device certificate, as it stands there */
    bool has_fwid;            /* the report names its firmware (driver 550 and later) */
    uint8_t cert_fwid[48];    /* the leaf's */
    char driver[32], vbios[32], project[16], project_sku[16], chip_sku[16], chip_info[16]; /* empty: not reported */
    enum verifier_gpu_mode mode;
    uint64_t pdi; /* a switch's own */
    size_t switch_count;
    uint64_t switches[VERIFIER_DEVICES_MAX]; /* that a GPU names, each once */
    bool status_good;                        /* verifier_gpu_status(): the vendor calls every certificate good */
    uint64_t status_at;                      /* earliest thisUpdate of those answers; UINT64_MAX: none */
    uint64_t expires;
};

/* Prove one report. `nonce` (32 bytes) may be NULL: then freshness is not proven. `cache`: hw.h; may be NULL.
 * VERIFIER_E_PARSE, _TRAILING_DATA, chain's reasons, _ARCH_MISMATCH, _FWID_MISMATCH, _BAD_SIGNATURE, _NONCE_MISMATCH.
 */
MUST_CHECK enum verifier_err verifier_gpu_verify(struct verifier_gpu *out, struct span report, const struct span *chain,
                                                 size_t chain_count, const uint8_t *nonce, struct verifier_cache *cache,
                                                 uint64_t now, struct verifier_note *why);
/* The vendor's word on the certificates of a report that was proven by `chain`: those above the leaf, which the device
 * itself signs. Lowers out->expires. VERIFIER_OK: nothing speaks against the device, and out->status_good tells whether
 * each of the three was answered for. Else ocsp.h's reasons. */
MUST_CHECK enum verifier_err verifier_gpu_status(struct verifier_gpu *out, const struct span *chain, size_t chain_count,
                                                 const struct span *responses, size_t count,
                                                 struct verifier_cache *cache, uint64_t now, struct verifier_note *why);
/* A reference file fits a version of the report: VERIFIER_E_RIM_VERSION_MISMATCH. */
MUST_CHECK enum verifier_err verifier_gpu_rim_fits(const struct verifier_rim *rim, const char *version,
                                                   struct verifier_note *why);
/* Every active reference value of all files equals the report's measurement. VERIFIER_E_RIM_INDEX_CONFLICT,
 * _MEASUREMENT_MISMATCH (with the indices in `why`). */
MUST_CHECK enum verifier_err verifier_gpu_compare(const struct verifier_gpu *gpu,
                                                  const struct verifier_rim *const *rims, size_t count,
                                                  struct verifier_note *why);

#endif
