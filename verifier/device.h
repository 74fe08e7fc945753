/* device.h - accelerators and switches: SPDM evidence to facts. Stage 7 calls it for each device of a node.
 * Pure: time, nonce and collateral are arguments. Formats: NVIDIA GPU and NVSwitch (gpu.h). */
#ifndef VERIFIER_DEVICE_H
#define VERIFIER_DEVICE_H

#include "verifier/claims.h"
#include "verifier/err.h"

/* Prove one report (request and response) by its chain (DER, leaf first): chain, signature, `nonce`, then
 * revocation as far as the collateral answers (status_good: it does for every certificate), in this order.
 * On VERIFIER_OK `*out` holds facts; otherwise it is zero. `why` may be NULL. */
MUST_CHECK enum verifier_err verifier_device_verify(struct verifier_device_claims *out, struct span report,
                                                    const struct span *chain, size_t chain_count,
                                                    const uint8_t nonce[VERIFIER_NONCE_LEN],
                                                    const struct verifier_collateral *collateral, uint64_t now,
                                                    struct verifier_note *why);
/* Compare the measurements of proven reports with the vendor's reference files in `collateral`, each of which is proven
 * once however many devices there are, its signer's standing (rims_good) too; lowers each devices[i].expires. The first
 * failure counts. */
MUST_CHECK enum verifier_err verifier_devices_compare(struct verifier_device_claims *devices,
                                                      const struct span *reports, size_t count,
                                                      const struct verifier_collateral *collateral, uint64_t now,
                                                      struct verifier_note *why);

#endif
