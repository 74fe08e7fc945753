/* forward_device.c - one step on a device: what it needs crosses once, what it gives crosses once, the layers between
 * are queued without a decision of the host. */
#include "engine/forward_device.h"

#include <stdlib.h>

/* Where the pieces of a step are: offsets while they are staged, addresses once they have crossed. */
struct step {
    struct engine_model *m;
    struct model_device *v;
    const struct engine_kv *kv;
    const struct engine_step_seq *seqs;
    int n, rows, wanted;
    size_t token, position, sequence, table[ENGINE_KV_GROUPS], blocks[ENGINE_KV_GROUPS], row, picks;
    const uint8_t *base;
};

/* --- the way in -------------------------------------------------------------------------------------------------- */

static bool is_wanted(const struct engine_step_seq *seq, int t)
{
    return seq->logits == ENGINE_LOGITS_ALL || (seq->logits == ENGINE_LOGITS_LAST && t == seq->count - 1);
}

static bool stage_rows(struct step *s)
{
    struct model_device *v = s->v;
    size_t bytes = (size_t)s->rows * sizeof(int32_t);
    int32_t *token = v->ops->stage(v->bridge, bytes, &s->token);
    for (int i = 0; token && i < s->n; i++)
        for (int t = 0; t < s->seqs[i].count; t++)
            *token++ = s->seqs[i].tokens[t];
    int32_t *position = v->ops->stage(v->bridge, bytes, &s->position);
    for (int i = 0; position && i < s->n; i++)
        for (int t = 0; t < s->seqs[i].count; t++)
            *position++ = s->seqs[i].pos + t;
    int32_t *sequence = v->ops->stage(v->bridge, bytes, &s->sequence);
    for (int i = 0; sequence && i < s->n; i++)
        for (int t = 0; t < s->seqs[i].count; t++)
            *sequence++ = i;
    int32_t *row = v->ops->stage(v->bridge, (size_t)s->wanted * sizeof *row, &s->row);
    for (int i = 0, at = 0; row && i < s->n; i++)
        for (int t = 0; t < s->seqs[i].count; t++, at++)
            if (is_wanted(&s->seqs[i], t))
                *row++ = at;
    return token && position && sequence && row;
}

/* The blocks of a sequence that its rows look at: [*first, *end). */
static void blocks_of(const struct step *s, const struct engine_step_seq *seq, int group, int *first, int *end)
{
    int from = group == ENGINE_KV_SLIDING ? seq->pos - s->m->spec.window + 1 : 0;
    *first = (from > 0 ? from : 0) / s->kv->block_tokens;
    *end = (seq->pos + seq->count - 1) / s->kv->block_tokens + 1;
}

static bool stage_blocks(struct step *s, int group)
{
    struct model_device *v = s->v;
    int first, end, all = 0;
    if (s->m->group_layers[group] == 0)
        return true;
    int32_t *table = v->ops->stage(v->bridge, (size_t)s->n * sizeof *table, &s->table[group]);
    for (int i = 0; table && i < s->n; i++) {
        blocks_of(s, &s->seqs[i], group, &first, &end);
        table[i] = all - first;
        all += end - first;
    }
    int32_t *block = v->ops->stage(v->bridge, (size_t)all * sizeof *block, &s->blocks[group]);
    for (int i = 0; block && i < s->n; i++) {
        blocks_of(s, &s->seqs[i], group, &first, &end);
        memcpy(block, s->seqs[i].blocks[group] + first, (size_t)(end - first) * sizeof *block);
        block += end - first;
    }
    return table && block;
}

static bool stage_copy(struct step *s, uint32_t *at, const void *from, size_t bytes)
{
    size_t offset = 0;
    void *to = bytes ? s->v->ops->stage(s->v->bridge, bytes, &offset) : NULL;
    if (to)
        memcpy(to, from, bytes);
    *at = (uint32_t)offset;
    return (to || !bytes) && offset <= UINT32_MAX;
}

static bool has_penalty(const struct sample_params *p)
{
    return p->repetition != 1 || p->presence != 0 || p->frequency != 0;
}

static bool stage_seen(struct step *s, struct kern_device_pick *to, const struct sample_history *h)
{
    size_t offset = 0, count = 0;
    struct kern_device_seen *seen = s->v->ops->stage(s->v->bridge, h->used * sizeof *seen, &offset);
    for (size_t i = 0; seen && i < h->cap && count < h->used; i++)
        if (h->slot[i].id >= 0)
            seen[count++] = (struct kern_device_seen){h->slot[i].id, h->slot[i].produced};
    to->seen = (uint32_t)offset;
    to->seen_count = (uint32_t)count;
    return seen && offset <= UINT32_MAX;
}

static bool stage_choice(struct step *s, struct kern_device_pick *to, const struct engine_pick *q)
{
    _Static_assert(sizeof(struct sample_bias) == sizeof(struct kern_device_scored), "the same pair of id and number");
    const struct sample_params *p = q->params;
    size_t words = ((size_t)s->m->spec.vocab + 31) / 32;
    *to = (struct kern_device_pick){.id = -1,
                                    .temperature = p->temperature,
                                    .top_p = p->top_p,
                                    .min_p = p->min_p,
                                    .repetition = p->repetition,
                                    .presence = p->presence,
                                    .frequency = p->frequency,
                                    .top_k = p->top_k,
                                    .top = p->top,
                                    .choice = p->choice,
                                    .position = p->position,
                                    .seed = p->seed,
                                    .bias_count = (uint32_t)p->bias_count,
                                    .banned_count = (uint32_t)p->banned_count};
    return stage_copy(s, &to->allowed, p->allowed, p->allowed ? words * sizeof *p->allowed : 0) &&
           stage_copy(s, &to->bias, p->bias, p->bias_count * sizeof *p->bias) &&
           stage_copy(s, &to->banned, p->banned, p->banned_count * sizeof *p->banned) &&
           (!q->history || !q->history->used || !has_penalty(p) || stage_seen(s, to, q->history));
}

static bool stage_picks(struct step *s, const struct engine_pick *picks)
{
    bool ok = true;
    for (int i = 0; i < s->wanted && ok; i++) {
        struct kern_device_pick *to = &s->v->pick[i];
        if (picks[i].params)
            ok = stage_choice(s, to, &picks[i]);
        else
            *to = (struct kern_device_pick){.id = picks[i].id, .top = picks[i].top < 0 ? 0 : picks[i].top};
    }
    size_t bytes = (size_t)s->wanted * sizeof *s->v->pick;
    void *to = ok ? s->v->ops->stage(s->v->bridge, bytes, &s->picks) : NULL;
    if (to && bytes)
        memcpy(to, s->v->pick, bytes);
    return to;
}

static bool cross_in(struct step *s, const struct engine_pick *picks)
{
    struct model_device *v = s->v;
    v->ops->step_begin(v->bridge);
    bool ok = stage_rows(s);
    for (int g = 0; g < ENGINE_KV_GROUPS && ok; g++)
        ok = stage_blocks(s, g);
    ok = ok && (!picks || stage_picks(s, picks));
    s->base = ok ? v->ops->step_commit(v->bridge) : NULL;
    return s->base;
}

/* --- the layers -------------------------------------------------------------------------------------------------- */

static struct kern_device_where where_of(const struct step *s, int group)
{
    return (struct kern_device_where){.position = (const int32_t *)(s->base + s->position),
                                      .sequence = (const int32_t *)(s->base + s->sequence),
                                      .table = (const int32_t *)(s->base + s->table[group]),
                                      .blocks = (const int32_t *)(s->base + s->blocks[group])};
}

static void attention_half(const struct step *s, const struct device_layer *y, const struct model_layer *form)
{
    struct model_device *v = s->v;
    const struct kern_device_ops *ops = v->ops;
    const struct model_spec *spec = &s->m->spec;
    struct kern_device_heads heads = {spec->heads, spec->kv_heads, spec->head_dim};
    struct kern_device_kv kv = {s->kv->base[form->group], s->kv->block_bytes[form->group] / device_element(v),
                                s->kv->block_tokens, form->kv_layer};
    struct kern_device_place place = {.of = heads,
                                      .qkv = v->qkv,
                                      .bias = y->qkv_bias,
                                      .q_norm = y->q_norm,
                                      .k_norm = y->k_norm,
                                      .cosine = v->cosine[form->group],
                                      .sine = v->sine[form->group],
                                      .rows = s->rows,
                                      .pairs = spec->rope_dims / 2,
                                      .eps = spec->eps,
                                      .scale = spec->attention_scale,
                                      .kv = kv,
                                      .where = where_of(s, form->group)};
    struct kern_device_attend attend = {.of = heads,
                                        .qkv = v->qkv,
                                        .sinks = y->sinks,
                                        .out = &v->attended,
                                        .rows = s->rows,
                                        .window = form->group == ENGINE_KV_SLIDING ? spec->window : 0,
                                        .softcap = spec->attention_softcap,
                                        .kv = kv,
                                        .where = place.where};
    float *to = y->attn_post ? v->branch : v->x;

    ops->rmsnorm(v->device, &v->normed, v->x, y->attn_norm, NULL, s->rows, spec->eps);
    ops->gemm(v->device, v->qkv, y->qkv.rows, &y->qkv, &v->normed, s->rows, false);
    ops->place(v->device, &place);
    ops->attend(v->device, &attend);
    ops->gemm(v->device, to, spec->embed, &y->o, &v->attended, s->rows, !y->attn_post);
    if (y->o_bias)
        ops->bias(v->device, to, y->o_bias, s->rows, spec->embed);
    if (y->attn_post)
        ops->join(v->device, v->x, v->branch, y->attn_post, s->rows, spec->embed, spec->eps);
}

static void expert_half(const struct step *s, const struct device_layer *y)
{
    struct model_device *v = s->v;
    const struct kern_device_ops *ops = v->ops;
    const struct model_spec *spec = &s->m->spec;
    struct kern_device_routes routes = v->routes;
    routes.rows = s->rows;

    ops->gemm(v->device, v->scores, spec->experts, &y->router, &v->normed, s->rows, false);
    ops->route(v->device, &routes, v->scores, y->router_bias);
    ops->experts(v->device, &routes, v->gate_up, &y->gate_up, y->gate_up_bias, &v->normed, routes.used);
    ops->gate(v->device, &v->hidden, v->gate_up, s->rows * routes.used, spec->gate);
    ops->experts(v->device, &routes, v->result, &y->down, y->down_bias, &v->hidden, 1);
    ops->combine(v->device, &routes, v->branch, v->result, spec->embed);
    ops->join(v->device, v->x, v->branch, y->ffn_post, s->rows, spec->embed, spec->eps);
}

static void feed_forward_half(const struct step *s, const struct device_layer *y)
{
    struct model_device *v = s->v;
    const struct kern_device_ops *ops = v->ops;
    const struct model_spec *spec = &s->m->spec;

    ops->rmsnorm(v->device, &v->normed, v->x, y->ffn_norm, NULL, s->rows, spec->eps);
    if (spec->experts > 0) {
        expert_half(s, y);
        return;
    }
    ops->gemm(v->device, v->gate_up, y->gate_up.rows, &y->gate_up, &v->normed, s->rows, false);
    ops->gate(v->device, &v->hidden, v->gate_up, s->rows, spec->gate);
    ops->gemm(v->device, y->ffn_post ? v->branch : v->x, spec->embed, &y->down, &v->hidden, s->rows, !y->ffn_post);
    if (y->ffn_post)
        ops->join(v->device, v->x, v->branch, y->ffn_post, s->rows, spec->embed, spec->eps);
}

static void run_layers(const struct step *s)
{
    struct model_device *v = s->v;
    const struct model_spec *spec = &s->m->spec;
    v->ops->embed(v->device, v->x, &v->embed, (const int32_t *)(s->base + s->token), s->rows, spec->embed_scale);
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        if (s->m->group_layers[g] > 0)
            v->ops->angles(v->device, v->cosine[g], v->sine[g], (const int32_t *)(s->base + s->position), v->inverse[g],
                           s->m->magnitude[g], s->rows, spec->rope_dims / 2);
    for (int i = 0; i < spec->layers; i++) {
        attention_half(s, &v->layer[i], &s->m->layer[i]);
        feed_forward_half(s, &v->layer[i]);
    }
}

/* --- the end: logits, and what is made of them ------------------------------------------------------------------- */

static void run_head(const struct step *s, int from, int rows)
{
    struct model_device *v = s->v;
    const struct model_spec *spec = &s->m->spec;
    v->ops->rmsnorm(v->device, &v->normed, v->x, v->head_norm, (const int32_t *)(s->base + s->row) + from, rows,
                    spec->eps);
    v->ops->gemm(v->device, v->logits, spec->vocab, &v->head, &v->normed, rows, false);
    if (spec->final_softcap > 0)
        v->ops->soften(v->device, v->logits, (size_t)rows * (size_t)spec->vocab, spec->final_softcap);
}

static int slice(const struct step *s, int from)
{
    return s->wanted - from < DEVICE_LOGIT_ROWS ? s->wanted - from : DEVICE_LOGIT_ROWS;
}

static void take_result(const struct step *s, const struct engine_pick *pick, const struct kern_device_scored *from,
                        int stride)
{
    struct sample_result *r = pick->out;
    int top = pick->params ? pick->params->top : pick->top;
    int32_t id = from->id >= 0 && from->id < s->m->spec.vocab ? from->id : -1;
    *r = (struct sample_result){.id = id, .logprob = from->value};
    for (int i = 1; i <= stride && i <= top && from[i].id >= 0 && from[i].id < s->m->spec.vocab; i++)
        r->top[r->top_count++] = (struct sample_logprob){from[i].id, from[i].value};
}

/* The one crossing out: 8 bytes a row, and what log-probabilities add. */
static bool cross_out(const struct step *s, const struct engine_pick *picks)
{
    struct model_device *v = s->v;
    int asked = -1;
    for (int i = 0; i < s->wanted; i++)
        asked = s->v->pick[i].top > asked ? s->v->pick[i].top : asked;
    int stride = asked < 0 ? 0 : asked < KERN_DEVICE_TOP_MAX ? asked : KERN_DEVICE_TOP_MAX;
    for (int from = 0; from < s->wanted; from += DEVICE_LOGIT_ROWS) {
        run_head(s, from, slice(s, from));
        v->ops->pick(v->device, v->out + from * (1 + stride), stride, v->logits, v->work, s->m->spec.vocab,
                     (const struct kern_device_pick *)(s->base + s->picks) + from, s->base, slice(s, from));
    }
    size_t rows = s->wanted > 0 ? (size_t)s->wanted : 1; /* steps that only read prompts cross too: all look alike */
    v->ops->drain_submit(v->bridge, asked >= 0 ? BRIDGE_LOGPROBS_OUT : BRIDGE_TOKENS_OUT, v->out,
                         rows * (size_t)(1 + stride) * sizeof *v->out);
    const struct kern_device_scored *out = v->ops->drain_wait(v->bridge);
    for (int i = 0; i < s->wanted && out; i++)
        take_result(s, &picks[i], out + i * (1 + stride), stride);
    return out;
}

static bool logits_out(const struct step *s, float *logits)
{
    struct model_device *v = s->v;
    size_t vocab = (size_t)s->m->spec.vocab;
    bool ok = true;
    for (int from = 0; from < s->wanted && ok; from += DEVICE_LOGIT_ROWS) {
        run_head(s, from, slice(s, from));
        ok = v->ops->recv(v->bridge, BRIDGE_CONTROL, logits + (size_t)from * vocab, v->logits,
                          (size_t)slice(s, from) * vocab * sizeof *logits);
    }
    return ok;
}

/* The states after the last norm, as the head would read them. */
static bool states_out(const struct step *s, float *states)
{
    struct model_device *v = s->v;
    const struct model_spec *spec = &s->m->spec;
    size_t stride = (size_t)v->normed.stride, embed = (size_t)spec->embed, bytes = stride * device_element(v);
    uint8_t *row = malloc(bytes);
    bool ok = row != NULL;
    v->ops->rmsnorm(v->device, &v->normed, v->x, v->head_norm, (const int32_t *)(s->base + s->row), s->wanted,
                    spec->eps);
    for (int r = 0; r < s->wanted && ok; r++) {
        ok = v->ops->recv(v->bridge, BRIDGE_CONTROL, row, (const uint8_t *)v->normed.data + (size_t)r * bytes, bytes);
        for (size_t i = 0; i < embed && ok; i++)
            states[(size_t)r * embed + i] =
                v->exact ? ((const float *)(void *)row)[i] : kern_bf16_to_f32(((const uint16_t *)(void *)row)[i]);
    }
    if (row)
        explicit_bzero(row, bytes);
    free(row);
    return ok;
}

enum engine_err model_device_step(struct engine_model *m, struct engine_kv *kv, const struct engine_step_seq *seqs,
                                  int n, const struct engine_pick *picks, float *rows, bool states)
{
    struct step s = {.m = m, .v = m->device, .kv = kv, .seqs = seqs, .n = n};
    for (int i = 0; i < n; i++) {
        s.rows += seqs[i].count;
        for (int t = 0; t < seqs[i].count; t++)
            s.wanted += is_wanted(&seqs[i], t);
    }
    if (!cross_in(&s, rows ? NULL : picks))
        return ENGINE_E_DEVICE;
    run_layers(&s);
    bool ok = !rows ? cross_out(&s, picks) : states ? states_out(&s, rows) : logits_out(&s, rows);
    return ok ? ENGINE_OK : ENGINE_E_DEVICE;
}
