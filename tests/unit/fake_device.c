/* fake_device.c - accelerators for tests of stage 7: a report is "NONCE-IN-HEX UEID", believed as it stands. Takes the
 * place of verifier/device.c in a test program; what real devices prove is tested with their evidence. By its first
 * digit a device is: 5 a switch whose id is its number; 4 a GPU in protected PCIe that names switches 5001 to 500N, N
 * its last digit; 9, 8 one about whose certificates, or reference files, the vendor is silent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/config.h"
#include "verifier/device.h"
#include "verifier/opposite.h"

enum verifier_err verifier_device_verify(struct verifier_device_claims *out, struct span report,
                                         const struct span *chain, size_t chain_count,
                                         const uint8_t nonce[VERIFIER_NONCE_LEN],
                                         const struct verifier_collateral *collateral, uint64_t now,
                                         struct verifier_note *why)
{
    uint8_t shown[VERIFIER_NONCE_LEN];
    (void)chain, (void)chain_count, (void)collateral, (void)now, (void)why;
    memset(out, 0, sizeof *out);
    if (report.len < 66 || !policy_hex_parse(span_of(report.data, 64), shown, sizeof shown))
        return VERIFIER_E_PARSE;
    if (memcmp(shown, nonce, sizeof shown) != 0 && !IGNORED("device.nonce"))
        return VERIFIER_E_NONCE_MISMATCH;
    snprintf(out->ueid, sizeof out->ueid, "%.*s", (int)(report.len - 65), (const char *)report.data + 65);
    out->status_good = out->ueid[0] != '9';
    out->rims_good = out->ueid[0] != '8';
    out->is_switch = out->ueid[0] == '5';
    out->pdi = out->is_switch ? strtoull(out->ueid, NULL, 10) : 0;
    if (out->ueid[0] == '4') {
        out->mode = VERIFIER_GPU_PPCIE;
        out->switch_count = (size_t)(out->ueid[strlen(out->ueid) - 1] - '0');
        for (size_t i = 0; i < out->switch_count; i++)
            out->switches[i] = 5001 + i;
    }
    return VERIFIER_OK;
}

enum verifier_err verifier_devices_compare(struct verifier_device_claims *devices, const struct span *reports,
                                           size_t count, const struct verifier_collateral *collateral, uint64_t now,
                                           struct verifier_note *why)
{
    (void)devices, (void)reports, (void)count, (void)collateral, (void)now, (void)why;
    return VERIFIER_OK;
}
