/* tpm.h - TPM 2.0 quotes and Azure's paravisor report, which binds a virtual TPM's key to the hardware. Formats only:
 * what they prove together is vtpm.h's.
 * Pure; parsed things borrow. Formats: TCG TPM 2.0 part 2 (TPMS_ATTEST, big-endian); Azure HCL report (little-endian);
 * attestation.md § 4. The nonce is only in the TPM's quote: the hardware report was made at boot. */
#ifndef VERIFIER_TPM_H
#define VERIFIER_TPM_H

#include "verifier/cert.h"
#include "verifier/err.h"

enum verifier_tpm_alg { VERIFIER_TPM_SHA1 = 4, VERIFIER_TPM_SHA256 = 0x0b, VERIFIER_TPM_SHA384 = 0x0c };
#define VERIFIER_TPM_SELECTIONS_MAX 8
#define VERIFIER_TPM_PCRS 24

struct verifier_attest {
    struct span qualified_signer, extra, pcr_digest;
    uint64_t clock, firmware;
    uint32_t reset_count, restart_count;
    bool safe;
    size_t selection_count;
    struct {
        uint16_t bank;
        uint32_t pcrs; /* bit i: PCR i */
    } selection[VERIFIER_TPM_SELECTIONS_MAX];
};
/* VERIFIER_E_PARSE, _BAD_MAGIC, _NOT_A_QUOTE. */
MUST_CHECK enum verifier_err verifier_attest_parse(struct verifier_attest *out, struct span attest);
/* Do these values, one for each selected PCR in order, hash (SHA-256) to the quoted digest? */
MUST_CHECK bool verifier_attest_has_pcrs(const struct verifier_attest *a, const struct span *values, size_t count);

#define VERIFIER_HCL_SNP 2
#define VERIFIER_HCL_TDX 4

struct verifier_hcl {
    uint32_t version, size, request_type, data_size, data_version, report_type, hash_type;
    struct span report;                /* 1184 bytes: SNP report, or a TDREPORT */
    struct span runtime;               /* JSON */
    struct span quote;                 /* VERIFIER_HCL_TDX: what follows the blob (vtpm.h); may be empty */
    uint8_t modulus[512], exponent[4]; /* of the key HCLAkPub */
    struct verifier_public key; /* RSA of 2048 to 4096 bits, else OTHER; borrows from the two above: do not copy */
};
/* Split and check that the hardware report covers the JSON. VERIFIER_E_PARSE, _BAD_MAGIC, _RUNTIME_DATA_MISMATCH. */
MUST_CHECK enum verifier_err verifier_hcl_parse(struct verifier_hcl *out, struct span hcl);
/* Is this report data the digest of the JSON, then zeros? */
MUST_CHECK bool verifier_hcl_covers(const struct verifier_hcl *hcl, const uint8_t report_data[64]);

#endif
