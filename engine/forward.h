/* forward.h - between the files of the forward pass. */
#ifndef ENGINE_FORWARD_H
#define ENGINE_FORWARD_H

#include "engine/model_parts.h"

struct forward_row {
    const struct engine_step_seq *seq;
    int32_t token;
    int position;
    bool logits; /* wanted */
};

struct model_work {
    struct forward_row row[MODEL_PASS_ROWS];
    int rows;
    bool states;    /* of this step: not logits, but what they are made from */
    float *x;       /* [rows][embed]: the residual stream */
    float *branch;  /* [rows][embed]: what a layer's half adds, where it is normed first */
    float *qkv;     /* [rows][heads + 2 kv heads][head_dim] */
    float *gate_up; /* [rows][2 * ffn] */
    float *cosine[ENGINE_KV_GROUPS], *sine[ENGINE_KV_GROUPS]; /* [rows][rope_dims / 2] */
    struct kern_acts normed;                                  /* embed */
    struct kern_acts attended;                                /* heads * head_dim */
    struct kern_acts hidden;                                  /* ffn or expert_ffn */
    struct forward_experts *experts;
    struct forward_parts *parts;
    size_t floats; /* of x, branch, ...: one allocation */
};

static inline int forward_qkv_width(const struct model_spec *s)
{
    return (s->heads + 2 * s->kv_heads) * s->head_dim;
}

/* Call task(ctx, row) for every row of the pass, over the pool when there are enough. */
void forward_rows(struct engine_model *m, void (*task)(void *ctx, int row), void *ctx);

/* forward_attend.c: from w->qkv (queries scaled, keys stored) to w->attended. */
bool forward_parts_open(struct engine_model *m);
void forward_parts_close(struct engine_model *m);
void forward_attend(struct engine_model *m, const struct engine_kv *kv, const struct model_layer *y);

/* forward_experts.c: from w->normed to w->branch, the weighted sum of each row's experts. */
bool forward_experts_open(struct engine_model *m);
void forward_experts_close(struct engine_model *m);
void forward_experts(struct engine_model *m, const struct model_layer *y);

#endif
