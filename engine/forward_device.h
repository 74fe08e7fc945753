/* forward_device.h - between model_device.c, which brings a model to a device, and forward_device.c, which runs it
 * there. The same description, scheduler and block tables as on the processor; kernels/device.h instead of kernels.h.
 */
#ifndef ENGINE_FORWARD_DEVICE_H
#define ENGINE_FORWARD_DEVICE_H

#include "engine/model_parts.h"
#include "kernels/device.h"

#define DEVICE_LOGIT_ROWS 32 /* rows of logits in memory at a time */

struct device_layer { /* vectors: NULL where the architecture has none */
    struct kern_device_rows qkv, o, gate_up, down, router;
    float *qkv_bias, *o_bias, *router_bias, *gate_up_bias, *down_bias;
    float *attn_norm, *q_norm, *k_norm, *attn_post, *ffn_norm, *ffn_post, *sinks;
};

struct model_device {
    const struct kern_device_ops *ops;
    struct kern_device *device; /* owned, and with it every address below */
    struct bridge *bridge;
    bool exact;
    struct device_layer *layer; /* owned */
    struct kern_device_rows embed, head;
    float *head_norm;
    double *inverse[ENGINE_KV_GROUPS];
    size_t weight_bytes;

    int rows_max; /* of a step */
    float *x, *branch, *qkv, *gate_up, *cosine[ENGINE_KV_GROUPS], *sine[ENGINE_KV_GROUPS];
    struct kern_device_rows normed, attended, hidden;
    float *scores, *result; /* of experts: [rows][experts], [rows * used][embed] */
    struct kern_device_routes routes;
    float *logits, *work;           /* [DEVICE_LOGIT_ROWS][vocab] */
    struct kern_device_scored *out; /* [rows][1 + KERN_DEVICE_TOP_MAX] */
    struct kern_device_pick *pick;  /* owned, of the host: [rows] */
};

/* model_device.c */
static inline size_t device_element(const struct model_device *v)
{
    return v->exact ? sizeof(float) : sizeof(uint16_t);
}

#endif
