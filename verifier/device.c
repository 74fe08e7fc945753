#include "verifier/device.h"

#include <stdlib.h>

#include "verifier/gpu.h"

enum verifier_err verifier_device_verify(struct verifier_device_claims *out, struct span report,
                                         const struct span *chain, size_t chain_count,
                                         const uint8_t nonce[VERIFIER_NONCE_LEN],
                                         const struct verifier_collateral *collateral, uint64_t now,
                                         struct verifier_note *why)
{
    struct verifier_gpu gpu;
    enum verifier_err err = verifier_gpu_verify(&gpu, report, chain, chain_count, nonce, now, why);

    memset(out, 0, sizeof *out);
    if (err == VERIFIER_OK)
        err = verifier_gpu_status(&gpu, chain, chain_count, collateral->ocsp, collateral->ocsp_count, now, why);
    if (err != VERIFIER_OK)
        return err;
    out->is_switch = gpu.is_switch;
    out->simulated = gpu.simulated;
    memcpy(out->arch, gpu.chip, sizeof gpu.chip);
    memcpy(out->ueid, gpu.ueid, sizeof gpu.ueid);
    memcpy(out->driver, gpu.driver, sizeof gpu.driver);
    memcpy(out->vbios, gpu.vbios, sizeof gpu.vbios);
    out->status_good = gpu.status_good;
    out->status_at = gpu.status_at;
    out->expires = gpu.expires;
    return VERIFIER_OK;
}

/* The first proven file in the collateral for this version, of this chip where there are several. A file that is no use
 * here (of another version, or broken) is passed over: what counts is that the right one is there. */
static bool find_rim(struct verifier_rim *out, const struct verifier_collateral *collateral, const char *version,
                     const char *chip, uint64_t now, enum verifier_err *last, struct verifier_note *why)
{
    struct verifier_rim *one = malloc(sizeof *one);
    bool found = false;

    for (size_t i = 0; one && i < collateral->rim_count; i++) {
        enum verifier_err err = verifier_rim_read(one, collateral->rims[i], now, why);

        if (err != VERIFIER_OK)
            *last = err;
        if (err != VERIFIER_OK || verifier_gpu_rim_fits(one, version, why) != VERIFIER_OK)
            continue;
        if (!found || strcmp(one->product, chip) == 0)
            *out = *one;
        found = true;
    }
    free(one);
    return found;
}

static enum verifier_err compare(struct verifier_device_claims *out, const struct verifier_gpu *gpu,
                                 struct verifier_rim rim[2], const struct verifier_collateral *collateral, uint64_t now,
                                 struct verifier_note *why)
{
    const char *versions[2] = {out->vbios, out->driver}; /* a switch has no driver */
    const struct verifier_rim *rims[2] = {&rim[0], &rim[1]};
    size_t count = out->is_switch ? 1 : 2;

    for (size_t i = 0; i < count; i++) {
        enum verifier_err last = VERIFIER_E_RIM_MISSING;

        if (!find_rim(&rim[i], collateral, versions[i], out->arch, now, &last, why)) {
            verifier_note_required(why, "reference file of version %s for %s", versions[i], out->arch);
            return last;
        }
        if (rim[i].expires < out->expires)
            out->expires = rim[i].expires;
        out->simulated = out->simulated || rim[i].simulated;
    }
    return verifier_gpu_compare(gpu, rims, count, why);
}

enum verifier_err verifier_device_compare(struct verifier_device_claims *out, struct span report,
                                          const struct verifier_collateral *collateral, uint64_t now,
                                          struct verifier_note *why)
{
    struct verifier_gpu *gpu = calloc(1, sizeof *gpu);
    struct verifier_rim *rim = calloc(2, sizeof *rim);
    enum verifier_err err = VERIFIER_E_INTERNAL;

    if (gpu && rim) {
        gpu->is_switch = out->is_switch;
        err = verifier_spdm_parse(&gpu->spdm, report);
        if (err == VERIFIER_OK)
            err = compare(out, gpu, rim, collateral, now, why);
    }
    free(gpu);
    free(rim);
    return err;
}
