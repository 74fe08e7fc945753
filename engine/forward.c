/* forward.c - one pass: up to MODEL_PASS_ROWS rows through all layers, whatever sequences they belong to. A longer
 * step is several passes; since every op treats a row by itself, that changes no bit. */
#include "engine/forward.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ROWS_INLINE 2 /* so few rows are not worth waking anybody */

/* --- buffers --------------------------------------------------------------------------------------- */

static size_t work_floats(const struct model_spec *s)
{
    size_t rows = MODEL_PASS_ROWS, ffn = (size_t)(s->experts > 0 ? s->expert_ffn : s->ffn);
    return rows * (2 * (size_t)s->embed + (size_t)forward_qkv_width(s) + 2 * ffn +
                   ENGINE_KV_GROUPS * (size_t)s->rope_dims) +
           64 * 8;
}

static float *cut(float **from, size_t floats)
{
    float *at = *from;
    *from += (floats + 15) / 16 * 16;
    return at;
}

bool model_work_open(struct engine_model *m)
{
    const struct model_spec *s = &m->spec;
    struct model_work *w = calloc(1, sizeof *w);
    size_t rows = MODEL_PASS_ROWS, ffn = (size_t)(s->experts > 0 ? s->expert_ffn : s->ffn);

    m->work = w;
    if (!w)
        return false;
    w->floats = work_floats(s);
    float *at = mmap(NULL, w->floats * sizeof *at, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return false;
    madvise(at, w->floats * sizeof *at, MADV_DONTDUMP);
    w->x = cut(&at, rows * (size_t)s->embed);
    w->branch = cut(&at, rows * (size_t)s->embed);
    w->qkv = cut(&at, rows * (size_t)forward_qkv_width(s));
    w->gate_up = cut(&at, rows * 2 * ffn);
    for (int g = 0; g < ENGINE_KV_GROUPS; g++) {
        w->cosine[g] = cut(&at, rows * (size_t)s->rope_dims / 2);
        w->sine[g] = cut(&at, rows * (size_t)s->rope_dims / 2);
    }
    return kern_acts_init(&w->normed, MODEL_PASS_ROWS, s->embed) &&
           kern_acts_init(&w->attended, MODEL_PASS_ROWS, s->heads * s->head_dim) &&
           kern_acts_init(&w->hidden, MODEL_PASS_ROWS, (int)ffn) && forward_parts_open(m) && forward_experts_open(m);
}

void model_work_close(struct engine_model *m)
{
    struct model_work *w = m->work;
    if (!w)
        return;
    forward_parts_close(m);
    forward_experts_close(m);
    kern_acts_release(&w->normed);
    kern_acts_release(&w->attended);
    kern_acts_release(&w->hidden);
    if (w->x) {
        explicit_bzero(w->x, w->floats * sizeof *w->x);
        munmap(w->x, w->floats * sizeof *w->x);
    }
    explicit_bzero(w, sizeof *w);
    free(w);
    m->work = NULL;
}

void forward_rows(struct engine_model *m, void (*task)(void *ctx, int row), void *ctx)
{
    if (m->work->rows > ROWS_INLINE)
        kern_pool_run(m->pool, task, ctx, m->work->rows);
    else
        for (int i = 0; i < m->work->rows; i++)
            task(ctx, i);
}

/* --- row by row ------------------------------------------------------------------------------------ */

struct pass {
    struct engine_model *m;
    struct engine_kv *kv;
    const struct model_layer *layer;
    const float *norm; /* of the half that begins */
    const float *post; /* of the half before, with `joins` */
    bool joins;        /* the half before left a branch that is not in x yet */
};

static float *row_of(float *base, int row, int width)
{
    return base + (size_t)row * (size_t)width;
}

static float *input_row(struct kern_acts *a, int row)
{
    return a->x + (size_t)row * (size_t)a->stride;
}

static void start_row(void *ctx, int i)
{
    struct pass *p = ctx;
    const struct model_spec *s = &p->m->spec;
    struct model_work *w = p->m->work;
    float *x = row_of(w->x, i, s->embed);

    kern_matrix_row(&p->m->embed, w->row[i].token, x);
    if (s->embed_scale != 1)
        p->m->ops->scale(x, x, s->embed_scale, s->embed);
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        for (int pair = 0; p->m->group_layers[g] > 0 && pair < s->rope_dims / 2; pair++) {
            double angle = w->row[i].position * p->m->inverse[g][pair], sine, cosine;
            sincos(angle, &sine, &cosine);
            row_of(w->cosine[g], i, s->rope_dims / 2)[pair] = (float)cosine * p->m->magnitude[g];
            row_of(w->sine[g], i, s->rope_dims / 2)[pair] = (float)sine * p->m->magnitude[g];
        }
}

/* x += norm(branch), or branch itself */
static void join_row(void *ctx, int i)
{
    struct pass *p = ctx;
    const struct model_spec *s = &p->m->spec;
    float *branch = row_of(p->m->work->branch, i, s->embed);
    if (p->post)
        p->m->ops->rmsnorm(branch, branch, p->post, s->embed, s->eps);
    p->m->ops->add(row_of(p->m->work->x, i, s->embed), branch, s->embed);
}

/* The end of one half and the beginning of the next. */
static void enter_row(void *ctx, int i)
{
    struct pass *p = ctx;
    const struct model_spec *s = &p->m->spec;
    struct model_work *w = p->m->work;
    if (p->joins)
        join_row(p, i);
    p->m->ops->rmsnorm(input_row(&w->normed, i), row_of(w->x, i, s->embed), p->norm, s->embed, s->eps);
}

/* Norm and rotate queries and keys, scale queries, store keys and values. */
static void place_row(void *ctx, int i)
{
    struct pass *p = ctx;
    const struct model_spec *s = &p->m->spec;
    const struct kern_ops *ops = p->m->ops;
    struct model_work *w = p->m->work;
    const struct forward_row *row = &w->row[i];
    const struct model_layer *y = p->layer;
    int group = y->group, dim = s->head_dim, pairs = s->rope_dims / 2;
    float *q = row_of(w->qkv, i, forward_qkv_width(s)), *k = q + s->heads * dim, *v = k + s->kv_heads * dim;
    int32_t block = row->seq->blocks[group][row->position / p->kv->block_tokens];
    int tile = row->position % p->kv->block_tokens / KERN_KV_TOKENS;

    for (int h = 0; h < s->heads + s->kv_heads; h++) {
        const float *norm = h < s->heads ? y->q_norm : y->k_norm;
        float *head = q + h * dim;
        if (norm)
            ops->rmsnorm(head, head, norm, dim, s->eps);
        ops->rope(head, row_of(w->cosine[group], i, pairs), row_of(w->sine[group], i, pairs), pairs);
    }
    ops->scale(q, q, s->attention_scale, s->heads * dim);
    for (int h = 0; h < s->kv_heads; h++) {
        uint8_t *keys = model_kv_tile(p->kv, group, block, y->kv_layer, h, tile);
        ops->kv_store(keys, keys + p->kv->tile_bytes, k + h * dim, v + h * dim, dim, row->position % KERN_KV_TOKENS,
                      p->m->exact);
    }
}

static void gate_row(void *ctx, int i)
{
    struct pass *p = ctx;
    const struct model_spec *s = &p->m->spec;
    const float *gate = row_of(p->m->work->gate_up, i, 2 * s->ffn);
    p->m->ops->gate(input_row(&p->m->work->hidden, i), gate, gate + s->ffn, s->ffn, s->gate);
}

/* --- a layer --------------------------------------------------------------------------------------- */

static void attention_half(struct pass *p)
{
    struct engine_model *m = p->m;
    struct model_work *w = m->work;
    const struct model_spec *s = &m->spec;
    const struct model_layer *y = p->layer;
    size_t width = (size_t)forward_qkv_width(s);
    float *q = w->qkv, *k = q + s->heads * s->head_dim, *v = k + s->kv_heads * s->head_dim;
    const struct kern_product in[] = {
        {&y->q, y->q_bias, q, width, false}, {&y->k, y->k_bias, k, width, false}, {&y->v, y->v_bias, v, width, false}};

    p->norm = y->attn_norm;
    kern_products(m->pool, m->ops, in, y->k.data ? 3 : 1, &w->normed, w->rows, &(struct kern_source){enter_row, p});
    forward_rows(m, place_row, p);
    forward_attend(m, p->kv, y);
    struct kern_product out = {&y->o, y->o_bias, y->attn_post ? w->branch : w->x, (size_t)s->embed, !y->attn_post};
    kern_products(m->pool, m->ops, &out, 1, &w->attended, w->rows, NULL);
    p->post = y->attn_post;
    p->joins = y->attn_post;
}

static void dense_half(struct pass *p)
{
    struct engine_model *m = p->m;
    struct model_work *w = m->work;
    const struct model_spec *s = &m->spec;
    const struct model_layer *y = p->layer;
    size_t width = 2 * (size_t)s->ffn;
    bool fused = !y->gate.data;
    const struct kern_product in[] = {{fused ? &y->up : &y->gate, NULL, w->gate_up, width, false},
                                      {&y->up, NULL, w->gate_up + s->ffn, width, false}};

    kern_products(m->pool, m->ops, in, fused ? 1 : 2, &w->normed, w->rows, &(struct kern_source){enter_row, p});
    struct kern_product out = {&y->down, NULL, y->ffn_post ? w->branch : w->x, (size_t)s->embed, !y->ffn_post};
    kern_products(m->pool, m->ops, &out, 1, &w->hidden, w->rows, &(struct kern_source){gate_row, p});
}

static void feed_forward_half(struct pass *p)
{
    const struct model_layer *y = p->layer;
    p->norm = y->ffn_norm;
    if (y->expert) {
        forward_rows(p->m, enter_row, p);
        forward_experts(p->m, y);
    } else {
        dense_half(p);
    }
    p->post = y->ffn_post;
    p->joins = y->expert || y->ffn_post;
}

/* --- the end: logits of the rows that want them ----------------------------------------------------- */

#define SOFTEN_TASK 8192 /* logits of a task */

struct soften {
    float *logits;
    size_t count;
    float cap;
};

static void soften_task(void *ctx, int index)
{
    const struct soften *s = ctx;
    size_t from = (size_t)index * SOFTEN_TASK, to = from + SOFTEN_TASK < s->count ? from + SOFTEN_TASK : s->count;
    for (size_t i = from; i < to; i++)
        s->logits[i] = s->cap * tanhf(s->logits[i] / s->cap);
}

static float *write_states(struct engine_model *m, float *states)
{
    struct model_work *w = m->work;
    const struct model_spec *s = &m->spec;

    for (int i = 0; i < w->rows; i++)
        if (w->row[i].logits) {
            m->ops->rmsnorm(states, row_of(w->x, i, s->embed), m->head_norm, s->embed, s->eps);
            states += s->embed;
        }
    return states;
}

static float *write_logits(struct engine_model *m, float *logits)
{
    struct model_work *w = m->work;
    const struct model_spec *s = &m->spec;
    int wanted = 0;

    for (int i = 0; i < w->rows; i++)
        if (w->row[i].logits)
            m->ops->rmsnorm(input_row(&w->normed, wanted++), row_of(w->x, i, s->embed), m->head_norm, s->embed, s->eps);
    if (wanted == 0)
        return logits;
    struct kern_product head = {m->head.data ? &m->head : &m->embed, NULL, logits, (size_t)s->vocab, false};
    kern_products(m->pool, m->ops, &head, 1, &w->normed, wanted, NULL);
    struct soften soften = {logits, (size_t)wanted * (size_t)s->vocab, s->final_softcap};
    if (soften.cap > 0)
        kern_pool_run(m->pool, soften_task, &soften, (int)((soften.count + SOFTEN_TASK - 1) / SOFTEN_TASK));
    return logits + soften.count;
}

static float *run_pass(struct engine_model *m, struct engine_kv *kv, float *logits)
{
    struct pass p = {.m = m, .kv = kv};
    forward_rows(m, start_row, &p);
    for (int i = 0; i < m->spec.layers; i++) {
        p.layer = &m->layer[i];
        attention_half(&p);
        feed_forward_half(&p);
    }
    if (p.joins)
        forward_rows(m, join_row, &p);
    return m->work->states ? write_states(m, logits) : write_logits(m, logits);
}

/* --- a step ---------------------------------------------------------------------------------------- */

static bool blocks_fit(const struct engine_model *m, const struct engine_kv *kv, const struct engine_step_seq *seq,
                       int group)
{
    int first = group == ENGINE_KV_SLIDING ? seq->pos - m->spec.window + 1 : 0;
    if (m->group_layers[group] == 0)
        return true;
    if (!seq->blocks[group])
        return false;
    for (int b = (first > 0 ? first : 0) / kv->block_tokens; b <= (seq->pos + seq->count - 1) / kv->block_tokens; b++)
        if (seq->blocks[group][b] < 0 || seq->blocks[group][b] >= kv->blocks[group])
            return false;
    return true;
}

static bool sequence_fits(const struct engine_model *m, const struct engine_kv *kv, const struct engine_step_seq *seq)
{
    if (!seq->tokens || seq->count < 1 || seq->count > m->info.step_tokens_max || seq->pos < 0 ||
        seq->pos > m->info.context_max - seq->count || seq->logits > ENGINE_LOGITS_ALL)
        return false;
    for (int i = 0; i < seq->count; i++)
        if (seq->tokens[i] < 0 || seq->tokens[i] >= m->spec.vocab)
            return false;
    return blocks_fit(m, kv, seq, ENGINE_KV_FULL) && blocks_fit(m, kv, seq, ENGINE_KV_SLIDING);
}

static bool step_fits(const struct engine_model *m, const struct engine_kv *kv, const struct engine_step_seq *seqs,
                      int n, const float *logits)
{
    int tokens = 0;
    for (int i = 0; i < n; i++) {
        if (!sequence_fits(m, kv, &seqs[i]) || (seqs[i].logits != ENGINE_LOGITS_NONE && !logits) ||
            seqs[i].count > m->info.step_tokens_max - tokens)
            return false;
        tokens += seqs[i].count;
    }
    return n >= 1 && kv->model == m;
}

static enum engine_err run_step(struct engine_model *m, struct engine_kv *kv, const struct engine_step_seq *seqs, int n,
                                float *logits, bool states)
{
    struct model_work *w = m->work;
    if (!step_fits(m, kv, seqs, n, logits))
        return ENGINE_E_CALL;
    if (m->device)
        return model_device_step(m, kv, seqs, n, NULL, logits, states);
    w->states = states;
    w->rows = 0;
    for (int i = 0; i < n; i++)
        for (int t = 0; t < seqs[i].count; t++) {
            bool wanted =
                seqs[i].logits == ENGINE_LOGITS_ALL || (seqs[i].logits == ENGINE_LOGITS_LAST && t == seqs[i].count - 1);
            w->row[w->rows++] = (struct forward_row){&seqs[i], seqs[i].tokens[t], seqs[i].pos + t, wanted};
            if (w->rows == MODEL_PASS_ROWS) {
                logits = run_pass(m, kv, logits);
                w->rows = 0;
            }
        }
    if (w->rows > 0)
        run_pass(m, kv, logits);
    return ENGINE_OK;
}

enum engine_err engine_model_step(struct engine_model *m, struct engine_kv *kv, const struct engine_step_seq *seqs,
                                  int n, float *logits)
{
    return run_step(m, kv, seqs, n, logits, false);
}

enum engine_err engine_model_states(struct engine_model *m, struct engine_kv *kv, const struct engine_step_seq *seqs,
                                    int n, float *states)
{
    return run_step(m, kv, seqs, n, states, true);
}

enum engine_err engine_model_step_pick(struct engine_model *m, struct engine_kv *kv, const struct engine_step_seq *seqs,
                                       int n, const struct engine_pick *picks)
{
    static const float unused;
    if (!m->device || !step_fits(m, kv, seqs, n, picks ? &unused : NULL))
        return ENGINE_E_CALL;
    return model_device_step(m, kv, seqs, n, picks, NULL, false);
}
