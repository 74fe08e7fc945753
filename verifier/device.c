#include "verifier/device.h"

enum verifier_err verifier_device_verify(struct verifier_device_claims *out, struct span report,
                                         const struct span *chain, size_t chain_count,
                                         const uint8_t nonce[VERIFIER_NONCE_LEN],
                                         const struct verifier_collateral *collateral, uint64_t now,
                                         struct verifier_note *why)
{
    (void)report, (void)chain, (void)chain_count, (void)nonce, (void)collateral, (void)now;
    memset(out, 0, sizeof *out);
    verifier_note_observed(why, "device evidence of another kind than this build reads");
    return VERIFIER_E_UNSUPPORTED_VENDOR;
}

enum verifier_err verifier_device_compare(struct verifier_device_claims *out, struct span report,
                                          const struct verifier_collateral *collateral, uint64_t now,
                                          struct verifier_note *why)
{
    (void)out, (void)report, (void)collateral, (void)now;
    verifier_note_observed(why, "device evidence of another kind than this build reads");
    return VERIFIER_E_UNSUPPORTED_VENDOR;
}
