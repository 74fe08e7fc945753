#include "verifier/device.h"

#include <stdlib.h>

#include "verifier/cache.h"
#include "verifier/gpu.h"

enum verifier_err verifier_device_verify(struct verifier_device_claims *out, struct span report,
                                         const struct span *chain, size_t chain_count,
                                         const uint8_t nonce[VERIFIER_NONCE_LEN],
                                         const struct verifier_collateral *collateral, uint64_t now,
                                         struct verifier_note *why)
{
    struct verifier_gpu gpu;
    struct verifier_cache *own = collateral->cache ? NULL : verifier_cache_new(0),
                          *cache = own ? own : collateral->cache;
    enum verifier_err err = VERIFIER_E_INTERNAL;

    memset(out, 0, sizeof *out);
    if (cache) {
        verifier_cache_keys(cache)->starved = false;
        err = verifier_gpu_verify(&gpu, report, chain, chain_count, nonce, cache, now, why);
        if (err == VERIFIER_OK)
            err = verifier_gpu_status(&gpu, chain, chain_count, collateral->ocsp, collateral->ocsp_count, cache, now,
                                      why);
        if (err != VERIFIER_OK && verifier_cache_keys(cache)->starved)
            err = VERIFIER_E_INTERNAL;
    }
    verifier_cache_free(own);
    if (err != VERIFIER_OK)
        return err;
    out->is_switch = gpu.is_switch;
    out->simulated = gpu.simulated;
    memcpy(out->arch, gpu.chip, sizeof gpu.chip);
    memcpy(out->ueid, gpu.ueid, sizeof gpu.ueid);
    memcpy(out->driver, gpu.driver, sizeof gpu.driver);
    memcpy(out->vbios, gpu.vbios, sizeof gpu.vbios);
    out->mode = gpu.mode;
    out->pdi = gpu.pdi;
    out->switch_count = gpu.switch_count;
    memcpy(out->switches, gpu.switches, sizeof out->switches);
    out->status_good = gpu.status_good;
    out->status_at = gpu.status_at;
    out->expires = gpu.expires;
    return VERIFIER_OK;
}

/* The reference files of the collateral that are proven. One that is broken is passed over: what counts is that the
 * right one is there. */
struct rims {
    size_t count;
    enum verifier_err last; /* why the last one was passed over, or that there was none */
    struct verifier_rim rim[VERIFIER_RIMS_MAX];
};

static void read_rims(struct rims *out, const struct verifier_collateral *collateral, struct verifier_cache *cache,
                      uint64_t now, struct verifier_note *why)
{
    out->last = VERIFIER_E_RIM_MISSING;
    for (size_t i = 0; i < collateral->rim_count && i < VERIFIER_RIMS_MAX; i++) {
        enum verifier_err err = verifier_rim_read(&out->rim[out->count], collateral->rims[i], cache, now, why);

        if (err == VERIFIER_OK)
            err = verifier_rim_status(&out->rim[out->count], collateral->ocsp, collateral->ocsp_count, cache, now, why);
        if (err == VERIFIER_OK)
            out->count++;
        else
            out->last = err;
    }
}

/* The first file for this version, of this chip where there are several; NULL when there is none. */
static const struct verifier_rim *find_rim(const struct rims *rims, const char *version, const char *chip,
                                           struct verifier_note *why)
{
    const struct verifier_rim *found = NULL;

    for (size_t i = 0; i < rims->count; i++) {
        const struct verifier_rim *one = &rims->rim[i];

        if (verifier_gpu_rim_fits(one, version, why) == VERIFIER_OK && (!found || strcmp(one->product, chip) == 0))
            found = one;
    }
    return found;
}

static enum verifier_err compare(struct verifier_device_claims *out, const struct verifier_gpu *gpu,
                                 const struct rims *rims, struct verifier_note *why)
{
    const char *versions[2] = {out->vbios, out->driver}; /* a switch has no driver */
    const struct verifier_rim *used[2];
    size_t count = out->is_switch ? 1 : 2;

    out->rims_good = true;
    for (size_t i = 0; i < count; i++) {
        used[i] = find_rim(rims, versions[i], out->arch, why);
        if (!used[i]) {
            verifier_note_required(why, "reference file of version %s for %s", versions[i], out->arch);
            return rims->last;
        }
        if (used[i]->expires < out->expires)
            out->expires = used[i]->expires;
        if (used[i]->status_at < out->status_at)
            out->status_at = used[i]->status_at;
        out->rims_good = out->rims_good && used[i]->status_good;
        out->simulated = out->simulated || used[i]->simulated;
    }
    return verifier_gpu_compare(gpu, used, count, why);
}

enum verifier_err verifier_devices_compare(struct verifier_device_claims *devices, const struct span *reports,
                                           size_t count, const struct verifier_collateral *collateral, uint64_t now,
                                           struct verifier_note *why)
{
    struct verifier_gpu *gpu = malloc(sizeof *gpu);
    struct rims *rims = calloc(1, sizeof *rims);
    struct verifier_cache *own = collateral->cache ? NULL : verifier_cache_new(0),
                          *cache = own ? own : collateral->cache;
    enum verifier_err err = gpu && rims && cache ? VERIFIER_OK : VERIFIER_E_INTERNAL;

    if (cache)
        verifier_cache_keys(cache)->starved = false;
    if (err == VERIFIER_OK)
        read_rims(rims, collateral, cache, now, why);
    for (size_t i = 0; i < count && err == VERIFIER_OK; i++) {
        memset(gpu, 0, sizeof *gpu);
        gpu->is_switch = devices[i].is_switch;
        err = verifier_spdm_parse(&gpu->spdm, reports[i]);
        if (err == VERIFIER_OK)
            err = compare(&devices[i], gpu, rims, why);
    }
    if (err != VERIFIER_OK && cache && verifier_cache_keys(cache)->starved)
        err = VERIFIER_E_INTERNAL;
    free(gpu);
    free(rims);
    verifier_cache_free(own);
    return err;
}
