/* fabric.h - do the devices of one node belong together? GPUs in protected-PCIe mode reach one another through switches
 * and name them; each named one must have proven itself, and nobody else stand beside them. How the switches are wired
 * is not attestable today. Pure. Source: attestation.md § 3, multi-GPU. */
#ifndef VERIFIER_FABRIC_H
#define VERIFIER_FABRIC_H

#include "verifier/claims.h"
#include "verifier/err.h"

/* Devices that were proven, each alone. VERIFIER_E_FEATURE_FLAG_MISMATCH (GPUs in different modes), _FABRIC_MISMATCH.
 */
MUST_CHECK enum verifier_err verifier_fabric_check(const struct verifier_device_claims *devices, size_t count,
                                                   struct verifier_note *why);
/* Is the mode that the node states the one that its GPUs sign? A GPU that signs none is not in protected PCIe. */
MUST_CHECK bool verifier_fabric_has_mode(const struct verifier_device_claims *devices, size_t count,
                                         enum verifier_cc stated);

#endif
