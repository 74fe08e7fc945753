#include "verifier/fabric.h"

static bool names(const struct verifier_device_claims *gpu, uint64_t pdi)
{
    for (size_t i = 0; i < gpu->switch_count; i++)
        if (gpu->switches[i] == pdi)
            return true;
    return false;
}

static bool is_attested(const struct verifier_device_claims *devices, size_t count, uint64_t pdi)
{
    for (size_t i = 0; i < count; i++)
        if (devices[i].is_switch && devices[i].pdi == pdi)
            return true;
    return false;
}

/* The switches that this GPU names are the attested ones, all of them and no other. */
static enum verifier_err check_switches(const struct verifier_device_claims *gpu,
                                        const struct verifier_device_claims *devices, size_t count,
                                        struct verifier_note *why)
{
    for (size_t i = 0; i < gpu->switch_count; i++)
        if (!is_attested(devices, count, gpu->switches[i])) {
            verifier_note_observed(why, "GPU %s behind switch %016llx, which has not proven itself", gpu->ueid,
                                   (unsigned long long)gpu->switches[i]);
            verifier_note_required(why, "evidence of every switch that a GPU names");
            return VERIFIER_E_FABRIC_MISMATCH;
        }
    for (size_t i = 0; i < count; i++)
        if (devices[i].is_switch && !names(gpu, devices[i].pdi)) {
            verifier_note_observed(why, "switch %016llx, which GPU %s does not name",
                                   (unsigned long long)devices[i].pdi, gpu->ueid);
            verifier_note_required(why, "only switches that every GPU names");
            return VERIFIER_E_FABRIC_MISMATCH;
        }
    return VERIFIER_OK;
}

enum verifier_err verifier_fabric_check(const struct verifier_device_claims *devices, size_t count,
                                        struct verifier_note *why)
{
    const struct verifier_device_claims *first = NULL;
    enum verifier_err err = VERIFIER_OK;

    for (size_t i = 0; i < count && err == VERIFIER_OK; i++) {
        if (devices[i].is_switch)
            continue;
        first = first ? first : &devices[i];
        if (devices[i].mode != first->mode) {
            verifier_note_observed(why, "GPU %s in mode %d, GPU %s in mode %d", first->ueid, (int)first->mode,
                                   devices[i].ueid, (int)devices[i].mode);
            verifier_note_required(why, "one mode of all GPUs");
            return VERIFIER_E_FEATURE_FLAG_MISMATCH;
        }
        if (devices[i].mode == VERIFIER_GPU_PPCIE)
            err = check_switches(&devices[i], devices, count, why);
    }
    return err;
}

bool verifier_fabric_has_mode(const struct verifier_device_claims *devices, size_t count, enum verifier_cc stated)
{
    for (size_t i = 0; i < count; i++)
        if (!devices[i].is_switch && (devices[i].mode == VERIFIER_GPU_PPCIE) != (stated == VERIFIER_CC_PPCIE))
            return false;
    return true;
}
