/* model_parts.h - a model in memory: what model.c opens, model_layers.c fills, kv.c and forward.c read. Not for
 * anybody else. */
#ifndef ENGINE_MODEL_PARTS_H
#define ENGINE_MODEL_PARTS_H

#include "engine/model.h"
#include "engine/model_spec.h"
#include "engine/model_tensors.h"

struct model_expert {
    struct kern_matrix gate, up, down;
    float *gate_bias, *up_bias, *down_bias; /* owned, or NULL */
};

struct model_layer {
    int group, kv_layer; /* which KV group, and which of its layers */
    /* Owned vectors; NULL where the architecture has none. */
    float *attn_norm, *q_norm, *k_norm, *attn_post, *ffn_norm, *ffn_post, *sinks;
    float *q_bias, *k_bias, *v_bias, *o_bias, *router_bias;
    struct kern_matrix q, k, v, o;     /* when k is empty, q holds all three */
    struct kern_matrix gate, up, down; /* dense; when gate is empty, up holds gate, then up */
    struct kern_matrix router;
    struct model_expert *expert; /* spec.experts of them, or NULL */
};

#define MODEL_PASS_ROWS 256 /* rows that go through the layers together */

struct model_work;   /* forward.c: buffers of a pass */
struct model_device; /* forward_device.h: weights and buffers on a device */

struct engine_model {
    struct engine_model_info info;
    struct model_spec spec;
    const struct kern_ops *ops;
    struct kern_pool *pool;
    bool exact;                  /* keys and values in f32 too */
    bool planned;                /* shapes only: matrices and vectors hold nothing */
    size_t planned_bytes;        /* that they would take */
    uint64_t elements;           /* of all matrices */
    struct kern_weights weights; /* memory of every matrix */
    struct kern_matrix embed;    /* token embeddings; also the head when `head` is empty */
    struct kern_matrix head;
    float *head_norm;
    struct model_layer *layer; /* spec.layers of them */
    int group_layers[ENGINE_KV_GROUPS];
    double *inverse[ENGINE_KV_GROUPS]; /* rotation: inverse frequencies, rope_dims / 2 */
    float magnitude[ENGINE_KV_GROUPS];
    struct model_work *work;     /* NULL with a device */
    struct model_device *device; /* NULL: the processor */
};

/* model_layers.c: load every weight. False and `*why` when one is missing or of the wrong shape. */
bool model_layers_load(struct engine_model *m, struct model_source *source, bool discard, struct engine_problem *why);
void model_layers_release(struct engine_model *m);

/* forward.c */
bool model_work_open(struct engine_model *m);
void model_work_close(struct engine_model *m); /* wipes */

/* model_device.c. Both openers: false and `*why`; close in any case. */
bool model_device_open(struct engine_model *m, const char *name, bool exact, struct engine_problem *why);
bool model_device_load(struct engine_model *m, struct engine_problem *why); /* after model_layers_load() */
void model_device_close(struct engine_model *m);
void model_device_describe(const struct engine_model *m, struct engine_model_info *info);
size_t model_device_memory(const struct engine_model *m, size_t *all);
uint8_t *model_device_kv_take(const struct engine_model *m, size_t bytes); /* NULL when memory is short */
void model_device_kv_give(const struct engine_model *m, uint8_t *base);
void model_device_kv_zero(const struct engine_kv *kv, int group, int32_t block);
void model_device_kv_copy(const struct engine_kv *kv, int group, int32_t to, int32_t from);
/* forward_device.c: `picks` for the rows of logits; or, when `rows` is there, these themselves or their states. */
enum engine_err model_device_step(struct engine_model *m, struct engine_kv *kv, const struct engine_step_seq *seqs,
                                  int n, const struct engine_pick *picks, float *rows, bool states);

/* kv.c: the tile of keys of a layer, KV head and 16-position part `tile` of a block; its values follow at
 * engine_kv_tile_bytes(). */
struct engine_kv {
    const struct engine_model *model;
    int block_tokens;
    int blocks[ENGINE_KV_GROUPS];
    size_t tile_bytes; /* of keys or of values: 16 positions of one head */
    size_t block_bytes[ENGINE_KV_GROUPS];
    uint8_t *base[ENGINE_KV_GROUPS]; /* of the device, if the model has one */
};
static inline uint8_t *model_kv_tile(const struct engine_kv *kv, int group, int32_t block, int layer, int head,
                                     int tile)
{
    size_t tiles = (size_t)kv->block_tokens / KERN_KV_TOKENS, heads = (size_t)kv->model->spec.kv_heads;
    size_t at = ((size_t)layer * heads + (size_t)head) * tiles + (size_t)tile;
    return kv->base[group] + (size_t)block * kv->block_bytes[group] + at * 2 * kv->tile_bytes;
}

#endif
