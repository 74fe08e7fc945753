/* device.cu - opening the device, and the table. */
#include "kernels/cuda/ops.h"

#include <stdio.h>
#include <stdlib.h>

static void cuda_close(struct kern_device *d)
{
    if (!d)
        return;
    if (d->bridge)
        cuda_gemm_close(d);
    bridge_close(d->bridge);
    free(d);
}

static struct kern_device *cuda_open(const struct kern_device_config *config, char why[BRIDGE_WHY_MAX])
{
    struct kern_device *d = (struct kern_device *)calloc(1, sizeof *d);
    if (!d) {
        snprintf(why, BRIDGE_WHY_MAX, "out of memory");
        return NULL;
    }
    d->exact = config->exact;
    d->bridge = bridge_open(config->ordinal, why);
    if (d->bridge)
        d->stream = (cudaStream_t)bridge_stream(d->bridge);
    if (d->bridge && cuda_gemm_open(d))
        return d;
    if (d->bridge)
        snprintf(why, BRIDGE_WHY_MAX, "%s", bridge_error(d->bridge) ? bridge_error(d->bridge) : "out of memory");
    cuda_close(d);
    return NULL;
}

static struct bridge *cuda_bridge(struct kern_device *d)
{
    return d->bridge;
}

#ifndef CUDA_NAME
#define CUDA_NAME "cuda"
#endif

/* In the order of struct kern_device_ops. */
const struct kern_device_ops kern_device_cuda = {
    CUDA_NAME,          cuda_open,          cuda_close,          cuda_bridge,       bridge_error, bridge_device_name,
    bridge_device_free, bridge_take,        bridge_give,         bridge_send,       bridge_recv,  bridge_step_begin,
    bridge_stage,       bridge_step_commit, bridge_drain_submit, bridge_drain_wait, bridge_stats, cuda_embed,
    cuda_angles,        cuda_rmsnorm,       cuda_join,           cuda_bias,         cuda_gemm,    cuda_place,
    cuda_attend,        cuda_gate,          cuda_route,          cuda_experts,      cuda_combine, cuda_soften,
    cuda_pick,          cuda_kv_zero,       cuda_kv_copy,
};
