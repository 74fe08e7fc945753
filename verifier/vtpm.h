/* vtpm.h - guests whose evidence is a virtual TPM's quote: Azure's, whose key the paravisor binds to the hardware's
 * report (SNP or TDX) at boot, and Google's, whose key has a certificate. Pure. The nonce is in the TPM's quote alone:
 * report data is its 32 bytes, then zeros (verifier_hw_binds()). PROTOCOL.md § Envelope; attestation.md § 4. */
#ifndef VERIFIER_VTPM_H
#define VERIFIER_VTPM_H

#include "verifier/tpm.h"

/* The facts. */
struct verifier_vtpm {
    uint32_t present; /* bit i: pcr[i] was quoted, from the SHA-256 bank */
    uint8_t pcr[VERIFIER_TPM_PCRS][32];
    uint32_t reset_count, restart_count;
    uint64_t firmware;
};

struct verifier_hw;
struct verifier_collateral;
struct verifier_hw_rules;
struct verifier_note;
/* verifier_hw_verify() for Azure: `quote` is {hcl, attest, signature, pcrs [bin]}, `chain` the SNP report's; for TDX
 * the TD's quote follows the blob in `hcl` and brings its chain. A paravisor's guests may have SEPT_VE_DISABLE clear.
 * VERIFIER_E_PARSE, _BAD_MAGIC, _RUNTIME_DATA_MISMATCH (the key is not the one the hardware vouches for), the
 * hardware's reasons, _NOT_A_QUOTE, _BAD_SIGNATURE, _PCR_MISMATCH, _NONCE_MISMATCH. */
MUST_CHECK enum verifier_err verifier_azure_verify(struct verifier_hw *out, struct span quote, const struct span *chain,
                                                   size_t chain_count, const struct verifier_collateral *collateral,
                                                   uint64_t now, const struct verifier_hw_rules *rules,
                                                   struct verifier_note *why);
/* The same for Google: `quote` is {attest, signature, pcrs [bin]}, `chain` the key's certificate, its issuer, the root.
 * VERIFIER_E_PARSE, chain's reasons, _SIGNING_KEY_MISMATCH (a certificate for another use), then as above. */
MUST_CHECK enum verifier_err verifier_gcp_verify(struct verifier_hw *out, struct span quote, const struct span *chain,
                                                 size_t chain_count, const struct verifier_collateral *collateral,
                                                 uint64_t now, const struct verifier_hw_rules *rules,
                                                 struct verifier_note *why);

#endif
