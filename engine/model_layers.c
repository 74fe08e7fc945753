/* model_layers.c - weights by name and shape into the layout of the kernels. A tensor that is laid out anew gives its
 * file's memory back at once, so that a model is in memory once, not twice. */
#include "engine/model_parts.h"

#include <stdio.h>
#include <stdlib.h>

struct loader {
    struct engine_model *m;
    struct model_source *source;
    bool discard, failed;
    struct engine_problem *why;
};

static void fail(struct loader *l, enum engine_err code, int layer, const char *part, const char *what)
{
    if (layer < 0)
        engine_problem_set(l->why, code, "tensor %s %s", part, what);
    else
        engine_problem_set(l->why, code, "tensor %s of layer %d %s", part, layer, what);
    l->failed = true;
}

static bool fetch(struct loader *l, int layer, const char *part, int expert, int rows, int cols, bool needed,
                  struct model_tensor *t)
{
    if (l->failed)
        return false;
    struct engine_problem unfit = {ENGINE_OK, ""};
    if (!model_source_find(l->source, layer, part, expert, t, &unfit)) {
        if (unfit.code)
            engine_problem_set(l->why, unfit.code, "%s", unfit.text);
        l->failed |= unfit.code != ENGINE_OK;
        if (needed && !l->failed)
            fail(l, ENGINE_E_MISSING, layer, part, "is missing");
        return false;
    }
    if (t->rows != (uint64_t)rows || t->cols != (uint64_t)cols) {
        fail(l, ENGINE_E_SHAPE, layer, part, "has another shape than the model's numbers say");
        return false;
    }
    return true;
}

/* A vector (of an expert, unless that is -1) as floats, owned; NULL when absent. */
static float *expert_vector(struct loader *l, int layer, const char *part, int expert, int n, bool needed)
{
    struct model_tensor t;
    if (!fetch(l, layer, part, expert, 1, n, needed, &t))
        return NULL;
    const struct kern_quant *quant = kern_quant_find((uint32_t)t.type);
    float *out = calloc((size_t)n, sizeof *out);
    if (!out || n % (int)quant->block != 0)
        fail(l, ENGINE_E_MEMORY, layer, part, "cannot be read");
    else if (!l->m->planned)
        quant->decode(out, t.data.data, (size_t)n / quant->block);
    return out;
}

static float *vector(struct loader *l, int layer, const char *part, int n, bool needed)
{
    return expert_vector(l, layer, part, -1, n, needed);
}

static float *norm(struct loader *l, int layer, const char *part, int n, bool needed)
{
    float *out = vector(l, layer, part, n, needed);
    for (int i = 0; out && l->m->spec.norms_plus_one && i < n; i++)
        out[i] += 1;
    return out;
}

/* Rows of one head were stored as pairs of neighbours: first all firsts, then all seconds. */
static int unpair(int row, int dim)
{
    int within = row % dim, half = dim / 2;
    return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

#define PAGE_LARGE ((size_t)2 << 20)

struct giving {
    struct span file;
    size_t stride;
    size_t given; /* bytes of `file` */
};

static void give_back(void *ctx, int rows)
{
    struct giving *g = ctx;
    size_t len = (size_t)rows * g->stride, whole = len;
    if (len < g->file.len) /* whole large pages only: to split one costs more than to keep it until the next call */
        whole = len - ((uintptr_t)g->file.data + len) % PAGE_LARGE;
    if (whole > len || whole <= g->given)
        return;
    engine_files_discard(span_of(g->file.data + g->given, whole - g->given));
    g->given = whole;
}

static void matrix_part(struct loader *l, struct kern_matrix *out, const struct model_tensor *t, int layer,
                        const char *part, int rows, int cols, bool reorder)
{
    const struct kern_quant *quant = kern_quant_find((uint32_t)t->type);
    struct kern_rows from = {.type = t->type,
                             .base = t->data.data,
                             .stride = (size_t)cols / quant->block * quant->bytes,
                             .index = reorder ? unpair : NULL,
                             .head = l->m->spec.head_dim};
    struct giving giving = {.file = t->data, .stride = from.stride};
    bool exact = l->m->exact || !l->m->ops->integer;
    l->m->elements += (uint64_t)rows * (uint64_t)cols;
    if (l->m->planned) {
        kern_matrix_shape(out, t->type, rows, cols, exact);
        l->m->planned_bytes +=
            (kern_matrix_bytes(out) + KERN_WEIGHTS_ALIGN - 1) / KERN_WEIGHTS_ALIGN * KERN_WEIGHTS_ALIGN;
        return;
    }
    bool as_read =
        l->discard && !reorder && t->file.data == t->data.data; /* in the file's order, by this matrix alone */
    if (!kern_matrix_pack(out, &from, rows, cols, exact, l->m->pool, &l->m->weights, as_read ? give_back : NULL,
                          &giving))
        fail(l, ENGINE_E_MEMORY, layer, part, "does not fit in memory");
    else if (l->discard && !as_read)
        engine_files_discard(t->file);
}

static bool matrix(struct loader *l, struct kern_matrix *out, int layer, const char *part, int expert, int rows,
                   int cols, bool needed, bool reorder)
{
    struct model_tensor t;
    if (!fetch(l, layer, part, expert, rows, cols, needed, &t))
        return false;
    matrix_part(l, out, &t, layer, part, rows, cols, reorder);
    return !l->failed;
}

static void load_attention(struct loader *l, struct model_layer *y, int i)
{
    const struct model_spec *s = &l->m->spec;
    int q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;

    if (!matrix(l, &y->q, i, "attn_qkv.weight", -1, q + 2 * kv, s->embed, false, false)) {
        matrix(l, &y->q, i, "attn_q.weight", -1, q, s->embed, true, s->pairs_adjacent);
        matrix(l, &y->k, i, "attn_k.weight", -1, kv, s->embed, true, s->pairs_adjacent);
        matrix(l, &y->v, i, "attn_v.weight", -1, kv, s->embed, true, false);
    }
    matrix(l, &y->o, i, "attn_output.weight", -1, s->embed, q, true, false);
    y->q_bias = vector(l, i, "attn_q.bias", q, false);
    y->k_bias = vector(l, i, "attn_k.bias", kv, false);
    y->v_bias = vector(l, i, "attn_v.bias", kv, false);
    y->o_bias = vector(l, i, "attn_output.bias", s->embed, false);
    y->q_norm = norm(l, i, "attn_q_norm.weight", s->head_dim, strcmp(s->arch, "gemma3") == 0);
    y->k_norm = norm(l, i, "attn_k_norm.weight", s->head_dim, y->q_norm != NULL);
    y->sinks = vector(l, i, "attn_sinks.weight", s->heads, strcmp(s->arch, "gpt-oss") == 0);
    if (s->pairs_adjacent && (y->q_bias || y->k_bias || y->q_norm))
        fail(l, ENGINE_E_UNSUPPORTED, i, "attn_q.bias", "has rows in pairs");
}

static void load_experts(struct loader *l, struct model_layer *y, int i)
{
    const struct model_spec *s = &l->m->spec;
    bool gptoss = strcmp(s->arch, "gpt-oss") == 0;
    y->expert = calloc((size_t)s->experts, sizeof *y->expert);
    if (!y->expert) {
        fail(l, ENGINE_E_MEMORY, i, "ffn_up_exps.weight", "does not fit in memory");
        return;
    }
    matrix(l, &y->router, i, "ffn_gate_inp.weight", -1, s->experts, s->embed, true, false);
    y->router_bias = vector(l, i, "ffn_gate_inp.bias", s->experts, false);
    for (int e = 0; e < s->experts && !l->failed; e++) {
        struct model_expert *x = &y->expert[e];
        matrix(l, &x->gate, i, "ffn_gate_exps.weight", e, s->expert_ffn, s->embed, true, false);
        matrix(l, &x->up, i, "ffn_up_exps.weight", e, s->expert_ffn, s->embed, true, false);
        matrix(l, &x->down, i, "ffn_down_exps.weight", e, s->embed, s->expert_ffn, true, false);
        x->gate_bias = expert_vector(l, i, "ffn_gate_exps.bias", e, s->expert_ffn, gptoss);
        x->up_bias = expert_vector(l, i, "ffn_up_exps.bias", e, s->expert_ffn, gptoss);
        x->down_bias = expert_vector(l, i, "ffn_down_exps.bias", e, s->embed, gptoss);
    }
}

static void load_layer(struct loader *l, int i)
{
    const struct model_spec *s = &l->m->spec;
    struct model_layer *y = &l->m->layer[i];
    bool gptoss = strcmp(s->arch, "gpt-oss") == 0, gemma = strncmp(s->arch, "gemma", 5) == 0;

    y->group = s->sliding[i] ? ENGINE_KV_SLIDING : ENGINE_KV_FULL;
    y->kv_layer = l->m->group_layers[y->group]++;
    y->attn_norm = norm(l, i, "attn_norm.weight", s->embed, true);
    load_attention(l, y, i);
    /* GPT-OSS files call the norm before the feed-forward part after what precedes it. */
    y->ffn_norm = norm(l, i, gptoss ? "post_attention_norm.weight" : "ffn_norm.weight", s->embed, true);
    if (gemma) {
        y->attn_post = norm(l, i, "post_attention_norm.weight", s->embed, true);
        y->ffn_post = norm(l, i, "post_ffw_norm.weight", s->embed, true);
    }
    if (s->experts > 0) {
        load_experts(l, y, i);
        return;
    }
    if (matrix(l, &y->gate, i, "ffn_gate.weight", -1, s->ffn, s->embed, strcmp(s->arch, "phi3") != 0, false))
        matrix(l, &y->up, i, "ffn_up.weight", -1, s->ffn, s->embed, true, false);
    else
        matrix(l, &y->up, i, "ffn_up.weight", -1, 2 * s->ffn, s->embed, true, false);
    matrix(l, &y->down, i, "ffn_down.weight", -1, s->embed, s->ffn, true, false);
}

/* Frequencies of both groups. Phi's files give two sets of factors, for contexts up to the original and beyond. */
static void load_rope(struct loader *l)
{
    const struct model_spec *s = &l->m->spec;
    int pairs = s->rope_dims / 2;
    bool stretched = l->m->info.context_max > s->scaling_context;
    float *factors = vector(l, -1, "rope_freqs.weight", pairs, false);
    const float *used = factors;
    if (!factors && s->scaling == MODEL_ROPE_LONG && s->long_factor[stretched][0] > 0)
        used = s->long_factor[stretched];
    else if (!factors && s->scaling == MODEL_ROPE_LONG)
        used = factors =
            vector(l, -1, stretched ? "rope_factors_long.weight" : "rope_factors_short.weight", pairs, true);
    for (int g = 0; g < ENGINE_KV_GROUPS; g++) {
        l->m->inverse[g] = calloc((size_t)pairs, sizeof *l->m->inverse[g]);
        if (l->m->inverse[g])
            model_rope(s, g == ENGINE_KV_SLIDING, used, l->m->inverse[g], &l->m->magnitude[g]);
        else
            fail(l, ENGINE_E_MEMORY, -1, "rope_freqs.weight", "does not fit in memory");
    }
    free(factors);
}

bool model_layers_load(struct engine_model *m, struct model_source *source, bool discard, struct engine_problem *why)
{
    struct loader l = {.m = m, .source = source, .discard = discard, .why = why};
    const struct model_spec *s = &m->spec;

    m->layer = calloc((size_t)s->layers, sizeof *m->layer);
    if (!m->layer) {
        fail(&l, ENGINE_E_MEMORY, -1, "token_embd.weight", "does not fit in memory");
        return false;
    }
    load_rope(&l);
    m->head_norm = norm(&l, -1, "output_norm.weight", s->embed, true);
    matrix(&l, &m->embed, -1, "token_embd.weight", -1, s->vocab, s->embed, true, false);
    matrix(&l, &m->head, -1, "output.weight", -1, s->vocab, s->embed, s->untied, false);
    for (int i = 0; i < s->layers && !l.failed; i++)
        load_layer(&l, i);
    return !l.failed;
}

static void release_layer(struct model_layer *y, int experts)
{
    float *vectors[] = {y->attn_norm, y->q_norm, y->k_norm, y->attn_post, y->ffn_norm, y->ffn_post,
                        y->sinks,     y->q_bias, y->k_bias, y->v_bias,    y->o_bias,   y->router_bias};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        free(vectors[i]);
    for (int e = 0; y->expert && e < experts; e++) {
        struct model_expert *x = &y->expert[e];
        free(x->gate_bias);
        free(x->up_bias);
        free(x->down_bias);
    }
    free(y->expert);
}

void model_layers_release(struct engine_model *m)
{
    for (int i = 0; m->layer && i < m->spec.layers; i++)
        release_layer(&m->layer[i], m->spec.experts);
    free(m->layer);
    free(m->head_norm);
    kern_weights_release(&m->weights);
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        free(m->inverse[g]);
}
