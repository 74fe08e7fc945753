/* spdm.h - SPDM 1.1 GET_MEASUREMENTS as NVIDIA's devices answer it: request, then response, in one piece.
 * Pure; everything is borrowed from the report. Proves the shape, no signature. Format: DMTF DSP0274 1.1, tables
 * GET_MEASUREMENTS and MEASUREMENTS; opaque data: NVIDIA attestation-sdk; attestation.md § 3. */
#ifndef VERIFIER_SPDM_H
#define VERIFIER_SPDM_H

#include "verifier/base/span.h"
#include "verifier/err.h"

#define VERIFIER_SPDM_SIGNATURE 96 /* r then s, big-endian, P-384 */
#define VERIFIER_SPDM_OPAQUE_MAX 64

/* Types of opaque fields. */
enum verifier_spdm_opaque {
    VERIFIER_OPAQUE_DRIVER = 3,
    VERIFIER_OPAQUE_VBIOS = 6,
    VERIFIER_OPAQUE_NVDEC0 = 11,
    VERIFIER_OPAQUE_BOARD = 14,
    VERIFIER_OPAQUE_CHIP_SKU = 15,
    VERIFIER_OPAQUE_PROJECT = 17,
    VERIFIER_OPAQUE_PROJECT_SKU = 18,
    VERIFIER_OPAQUE_FWID = 20,
    VERIFIER_OPAQUE_PROTECTED_PCIE = 21,
    VERIFIER_OPAQUE_SWITCH_PDI = 22,
    VERIFIER_OPAQUE_VERSION = 34,
    VERIFIER_OPAQUE_CHIP_INFO = 35,
    VERIFIER_OPAQUE_FEATURE = 36,
};

struct verifier_spdm {
    struct span nonce;           /* 32: the verifier's */
    struct span responder_nonce; /* 32: the device's own, proves nothing to us */
    uint8_t slot;
    size_t block_count, record_len, opaque_len;
    struct span block[256]; /* by index, 1 to 255; empty: none */
    size_t field_count;
    struct {
        uint16_t type;
        struct span value;
    } field[VERIFIER_SPDM_OPAQUE_MAX];
    struct span covered, signature;
};

/* VERIFIER_E_PARSE, VERIFIER_E_TRAILING_DATA. */
MUST_CHECK enum verifier_err verifier_spdm_parse(struct verifier_spdm *out, struct span report);
/* The opaque field of this type; empty when there is none. */
struct span verifier_spdm_field(const struct verifier_spdm *s, enum verifier_spdm_opaque type);

#endif
