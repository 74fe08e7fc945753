/* model_device.c - a model's weights and buffers on a device. The weights come from the layout that the processor's
 * kernels use, which holds exactly the file's values; when all have crossed, the host's copy is wiped and freed. */
#include "engine/forward_device.h"

#include <stdlib.h>

#define PIECE_BYTES (8 << 20) /* of a matrix, decoded and sent at a time */
#define ROUND_UP(n, to) (((n) + (to)-1) / (to) * (to))

struct loader {
    struct engine_model *m;
    struct model_device *v;
    uint8_t *piece; /* owned: rows as they are sent */
    float *floats;  /* owned: the same rows, decoded */
    bool failed;    /* the host is short of memory */
};

/* --- weights ---------------------------------------------------------------------------------------------------- */

struct decode {
    const struct kern_matrix *from;
    int first, stride;
    bool exact;
    float *floats;
    void *to;
};

static void decode_row(void *ctx, int index)
{
    const struct decode *d = ctx;
    size_t at = (size_t)index * (size_t)d->stride, cols = (size_t)d->from->cols;
    float *row = d->floats + (size_t)index * cols;
    kern_matrix_row(d->from, d->first + index, row);
    for (size_t i = 0; i < cols && !d->exact; i++)
        ((uint16_t *)d->to)[at + i] = kern_f32_to_bf16(row[i]);
    if (d->exact)
        memcpy((float *)d->to + at, row, cols * sizeof *row);
}

static int piece_rows(size_t row_bytes)
{
    return (int)(PIECE_BYTES / row_bytes) + 1;
}

/* The rows of `from` to rows `at ..` of `to`. */
static void send_matrix(struct loader *l, struct kern_device_rows *to, int at, const struct kern_matrix *from)
{
    size_t row_bytes = (size_t)to->stride * device_element(l->v);
    int most = piece_rows(row_bytes);
    for (int first = 0; first < from->rows; first += most) {
        int rows = from->rows - first < most ? from->rows - first : most;
        struct decode d = {from, first, to->stride, l->v->exact, l->floats, l->piece};
        kern_pool_run(l->m->pool, decode_row, &d, rows);
        l->v->ops->send(l->v->bridge, BRIDGE_WEIGHTS, (uint8_t *)to->data + (size_t)(at + first) * row_bytes, l->piece,
                        (size_t)rows * row_bytes);
    }
}

/* Room for `rows` rows of `cols`, zeroed. */
static struct kern_device_rows take_rows(struct model_device *v, int rows, int cols)
{
    struct kern_device_rows r = {NULL, rows, cols, ROUND_UP(cols, KERN_DEVICE_STRIDE)};
    r.data = v->ops->take(v->bridge, (size_t)rows * (size_t)r.stride * device_element(v));
    return r;
}

/* Matrices of equal width, one after the other. */
static struct kern_device_rows load_rows(struct loader *l, const struct kern_matrix *const *parts, int count)
{
    int rows = 0, at = 0;
    for (int i = 0; i < count; i++)
        rows += parts[i]->rows;
    struct kern_device_rows to = take_rows(l->v, rows, parts[0]->cols);
    size_t row_bytes = (size_t)to.stride * device_element(l->v);
    size_t most = (size_t)piece_rows(row_bytes);
    free(l->piece);
    free(l->floats);
    l->piece = calloc(most, row_bytes); /* what lies between columns and stride stays zero */
    l->floats = calloc(most, (size_t)to.cols * sizeof *l->floats);
    l->failed |= !l->piece || !l->floats;
    for (int i = 0; i < count && to.data && !l->failed; i++) {
        send_matrix(l, &to, at, parts[i]);
        at += parts[i]->rows;
    }
    l->v->weight_bytes += (size_t)rows * row_bytes;
    return to;
}

static void *load_bytes(struct loader *l, const void *from, size_t bytes)
{
    void *to = from ? l->v->ops->take(l->v->bridge, bytes) : NULL;
    if (to)
        l->v->ops->send(l->v->bridge, BRIDGE_WEIGHTS, to, from, bytes);
    return to;
}

static float *load_vector(struct loader *l, const float *from, int n)
{
    return load_bytes(l, from, (size_t)n * sizeof *from);
}

/* Vectors of which some may be missing (zeros then), one after the other; NULL when all are. */
static float *load_joined(struct loader *l, const float *const *parts, const int *lengths, int count)
{
    size_t all = 0, at = 0;
    bool any = false;
    for (int i = 0; i < count; i++) {
        all += (size_t)lengths[i];
        any |= parts[i] != NULL;
    }
    float *joined = any ? calloc(all, sizeof *joined) : NULL, *to = NULL;
    for (int i = 0; i < count && joined; i++) {
        if (parts[i])
            memcpy(joined + at, parts[i], (size_t)lengths[i] * sizeof *joined);
        at += (size_t)lengths[i];
    }
    l->failed |= any && !joined;
    if (joined)
        to = load_bytes(l, joined, all * sizeof *joined);
    free(joined);
    return to;
}

static void load_experts(struct loader *l, struct device_layer *to, const struct model_layer *y)
{
    const struct model_spec *s = &l->m->spec;
    size_t n = (size_t)s->experts;
    const struct kern_matrix **matrix = calloc(2 * n, sizeof *matrix);
    const float **bias = calloc(2 * n, sizeof *bias);
    int *length = calloc(2 * n, sizeof *length);
    l->failed |= !matrix || !bias || !length;
    to->router = load_rows(l, (const struct kern_matrix *const[]){&y->router}, 1);
    to->router_bias = load_vector(l, y->router_bias, s->experts);
    for (size_t e = 0; e < n && !l->failed; e++) {
        matrix[2 * e] = &y->expert[e].gate;
        matrix[2 * e + 1] = &y->expert[e].up;
        bias[2 * e] = y->expert[e].gate_bias;
        bias[2 * e + 1] = y->expert[e].up_bias;
        length[2 * e] = length[2 * e + 1] = s->expert_ffn;
    }
    if (!l->failed) {
        to->gate_up = load_rows(l, matrix, 2 * s->experts);
        to->gate_up_bias = load_joined(l, bias, length, 2 * s->experts);
    }
    for (size_t e = 0; e < n && !l->failed; e++) {
        matrix[e] = &y->expert[e].down;
        bias[e] = y->expert[e].down_bias;
        length[e] = s->embed;
    }
    if (!l->failed) {
        to->down = load_rows(l, matrix, s->experts);
        to->down_bias = load_joined(l, bias, length, s->experts);
    }
    free(matrix);
    free(bias);
    free(length);
}

static void load_layer(struct loader *l, struct device_layer *to, const struct model_layer *y)
{
    const struct model_spec *s = &l->m->spec;
    int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    to->qkv = load_rows(l, (const struct kern_matrix *const[]){&y->q, &y->k, &y->v}, y->k.rows ? 3 : 1);
    to->qkv_bias = load_joined(l, (const float *const[]){y->q_bias, y->k_bias, y->v_bias}, (const int[]){q, kv, kv}, 3);
    to->o = load_rows(l, (const struct kern_matrix *const[]){&y->o}, 1);
    to->o_bias = load_vector(l, y->o_bias, s->embed);
    to->attn_norm = load_vector(l, y->attn_norm, s->embed);
    to->q_norm = load_vector(l, y->q_norm, s->head_dim);
    to->k_norm = load_vector(l, y->k_norm, s->head_dim);
    to->attn_post = load_vector(l, y->attn_post, s->embed);
    to->ffn_norm = load_vector(l, y->ffn_norm, s->embed);
    to->ffn_post = load_vector(l, y->ffn_post, s->embed);
    to->sinks = load_vector(l, y->sinks, s->heads);
    if (y->expert) {
        load_experts(l, to, y);
        return;
    }
    bool fused = y->gate.rows == 0; /* up holds both */
    to->gate_up = load_rows(l, (const struct kern_matrix *const[]){fused ? &y->up : &y->gate, &y->up}, fused ? 1 : 2);
    to->down = load_rows(l, (const struct kern_matrix *const[]){&y->down}, 1);
}

static void load_weights(struct loader *l)
{
    struct engine_model *m = l->m;
    l->v->embed = load_rows(l, (const struct kern_matrix *const[]){&m->embed}, 1);
    l->v->head = l->v->embed;
    if (m->head.rows > 0)
        l->v->head = load_rows(l, (const struct kern_matrix *const[]){&m->head}, 1);
    l->v->head_norm = load_vector(l, m->head_norm, m->spec.embed);
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        l->v->inverse[g] = load_bytes(l, m->inverse[g], (size_t)m->spec.rope_dims / 2 * sizeof *m->inverse[g]);
    for (int i = 0; i < m->spec.layers; i++)
        load_layer(l, &l->v->layer[i], &m->layer[i]);
}

/* --- buffers ------------------------------------------------------------------------------------------------------ */

static void *take(struct model_device *v, size_t count, size_t bytes)
{
    return v->ops->take(v->bridge, count * bytes);
}

static void take_expert_buffers(struct model_device *v, const struct model_spec *s)
{
    size_t slots = (size_t)v->rows_max * (size_t)s->experts_used, experts = (size_t)s->experts;
    v->scores = take(v, (size_t)v->rows_max * experts, sizeof(float));
    v->result = take(v, slots * (size_t)s->embed, sizeof(float));
    v->routes = (struct kern_device_routes){.experts = s->experts,
                                            .used = s->experts_used,
                                            .normalized = s->experts_normalized,
                                            .chosen = take(v, slots, sizeof(int32_t)),
                                            .weight = take(v, slots, sizeof(float)),
                                            .order = take(v, slots, sizeof(int32_t)),
                                            .tile = take(v, 3 * (slots / KERN_DEVICE_TILE + experts), sizeof(int32_t)),
                                            .tiles = take(v, 1, sizeof(int32_t))};
}

static bool take_buffers(struct model_device *v, const struct model_spec *s)
{
    size_t rows = (size_t)v->rows_max, pairs = (size_t)s->rope_dims / 2;
    int wide = v->rows_max * (s->experts > 0 ? s->experts_used : 1), ffn = s->experts > 0 ? s->expert_ffn : s->ffn;
    v->x = take(v, rows * (size_t)s->embed, sizeof(float));
    v->branch = take(v, rows * (size_t)s->embed, sizeof(float));
    v->qkv = take(v, rows * (size_t)((s->heads + 2 * s->kv_heads) * s->head_dim), sizeof(float));
    v->gate_up = take(v, (size_t)wide * 2 * (size_t)ffn, sizeof(float));
    for (int g = 0; g < ENGINE_KV_GROUPS; g++) {
        v->cosine[g] = take(v, rows * pairs, sizeof(float));
        v->sine[g] = take(v, rows * pairs, sizeof(float));
    }
    v->normed = take_rows(v, v->rows_max, s->embed);
    v->attended = take_rows(v, v->rows_max, s->heads * s->head_dim);
    v->hidden = take_rows(v, wide, ffn);
    if (s->experts > 0)
        take_expert_buffers(v, s);
    v->logits = take(v, (size_t)DEVICE_LOGIT_ROWS * (size_t)s->vocab, sizeof(float));
    v->work = take(v, (size_t)DEVICE_LOGIT_ROWS * (size_t)s->vocab, sizeof(float));
    v->out = take(v, rows * (1 + KERN_DEVICE_TOP_MAX), sizeof *v->out);
    v->pick = calloc(rows, sizeof *v->pick);
    return v->pick && !v->ops->error(v->bridge);
}

/* --- open and close ---------------------------------------------------------------------------------------------- */

bool model_device_open(struct engine_model *m, const char *name, bool exact, struct engine_problem *why)
{
    const char *reason;
    char text[BRIDGE_WHY_MAX] = "out of memory";
    struct model_device *v = m->device = calloc(1, sizeof *v);
    const struct kern_device_ops *ops = kern_device_find(name, &reason);
    if (!ops) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "device %s: %s", name, reason);
        return false;
    }
    if (!v)
        return false;
    v->ops = ops;
    v->exact = exact;
    v->device = ops->open(&(struct kern_device_config){.exact = exact}, text);
    if (!v->device) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "device %s: %s", name, text);
        return false;
    }
    v->bridge = ops->bridge(v->device);
    return true;
}

bool model_device_load(struct engine_model *m, struct engine_problem *why)
{
    struct model_device *v = m->device;
    struct loader l = {.m = m, .v = v};
    v->rows_max = m->info.step_tokens_max;
    v->layer = calloc((size_t)m->spec.layers, sizeof *v->layer);
    if (v->layer)
        load_weights(&l);
    free(l.piece);
    free(l.floats);
    kern_weights_release(&m->weights);
    bool ok = v->layer && !l.failed && take_buffers(v, &m->spec);
    const char *error = v->ops->error(v->bridge);
    if (!ok)
        engine_problem_set(why, ENGINE_E_MEMORY, "the model and a step of %d tokens do not fit the device: %s",
                           v->rows_max, error ? error : "out of memory");
    return ok;
}

void model_device_close(struct engine_model *m)
{
    struct model_device *v = m->device;
    if (!v)
        return;
    if (v->device)
        v->ops->close(v->device);
    free(v->layer);
    if (v->pick)
        explicit_bzero(v->pick, (size_t)v->rows_max * sizeof *v->pick);
    free(v->pick);
    free(v);
    m->device = NULL;
}

void model_device_describe(const struct engine_model *m, struct engine_model_info *info)
{
    info->kernels = m->device->ops->name;
    info->weight_bytes = m->device->weight_bytes;
}

/* What others have taken of the device does not count as there. */
size_t model_device_memory(const struct engine_model *m, size_t *all)
{
    struct bridge_stats stats;
    size_t spare = m->device->ops->device_free(m->device->bridge);
    engine_model_crossings(m, &stats);
    *all = spare + stats.device_bytes;
    return spare;
}

void engine_model_crossings(const struct engine_model *m, struct bridge_stats *out)
{
    *out = (struct bridge_stats){.allocations = 0};
    if (m->device)
        m->device->ops->stats(m->device->bridge, out);
}

/* --- keys and values --------------------------------------------------------------------------------------------- */

uint8_t *model_device_kv_take(const struct engine_model *m, size_t bytes)
{
    return m->device->ops->take(m->device->bridge, bytes);
}

void model_device_kv_give(const struct engine_model *m, uint8_t *base)
{
    m->device->ops->give(m->device->bridge, base);
}

void model_device_kv_zero(const struct engine_kv *kv, int group, int32_t block)
{
    struct model_device *v = kv->model->device;
    v->ops->kv_zero(v->device, kv->base[group], kv->block_bytes[group] / device_element(v), block);
}

void model_device_kv_copy(const struct engine_kv *kv, int group, int32_t to, int32_t from)
{
    struct model_device *v = kv->model->device;
    v->ops->kv_copy(v->device, kv->base[group], kv->block_bytes[group] / device_element(v), to, from);
}
