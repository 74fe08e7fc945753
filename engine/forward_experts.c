/* forward_experts.c - mixture of experts: a router picks a few experts for each row; rows are gathered by expert, so
 * that an expert's weights are read once; each row's results are then summed in the order of its own choice. */
#include "engine/forward.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

struct forward_experts {
    float *scores;          /* [rows][experts] */
    int *chosen;            /* [rows][used] */
    float *weight;          /* [rows][used] */
    float *result;          /* [rows][used][embed] */
    float *down;            /* [rows][embed]: of one expert */
    struct kern_acts input; /* rows gathered for one expert */
    int *member;            /* [rows]: row * used + choice, of one expert */
    size_t bytes;
    void *memory;
};

bool forward_experts_open(struct engine_model *m)
{
    const struct model_spec *s = &m->spec;
    size_t rows = MODEL_PASS_ROWS, used = (size_t)s->experts_used, embed = (size_t)s->embed;
    if (s->experts == 0)
        return true;
    struct forward_experts *e = calloc(1, sizeof *e);
    m->work->experts = e;
    if (!e || !kern_acts_init(&e->input, MODEL_PASS_ROWS, s->embed))
        return false;
    size_t floats = rows * ((size_t)s->experts + used + used * embed + embed), ints = rows * (used + 1);
    e->bytes = floats * sizeof(float) + ints * sizeof(int);
    e->memory = mmap(NULL, e->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (e->memory == MAP_FAILED) {
        e->memory = NULL;
        return false;
    }
    e->result = e->memory;
    e->down = e->result + rows * used * embed;
    e->scores = e->down + rows * embed;
    e->weight = e->scores + rows * (size_t)s->experts;
    e->chosen = (int *)(e->weight + rows * used);
    e->member = e->chosen + rows * used;
    return true;
}

void forward_experts_close(struct engine_model *m)
{
    struct forward_experts *e = m->work->experts;
    if (!e)
        return;
    kern_acts_release(&e->input);
    if (e->memory) {
        explicit_bzero(e->memory, e->bytes);
        munmap(e->memory, e->bytes);
    }
    free(e);
}

/* The `used` greatest scores, greatest first, the lower index first among equals; their softmax weights, over the
 * chosen (the same as over all, renormalized) or over all. */
static void choose(const struct model_spec *s, const float *score, int *chosen, float *weight)
{
    float sum = 0;
    for (int k = 0; k < s->experts_used; k++) {
        int best = -1;
        for (int e = 0; e < s->experts; e++) {
            bool taken = false;
            for (int j = 0; j < k; j++)
                taken |= chosen[j] == e;
            if (!taken && (best < 0 || score[e] > score[best]))
                best = e;
        }
        chosen[k] = best;
        weight[k] = expf(score[best] - score[chosen[0]]);
        sum += weight[k];
    }
    for (int e = 0; !s->experts_normalized && e < s->experts; e++) {
        bool taken = false;
        for (int k = 0; k < s->experts_used; k++)
            taken |= chosen[k] == e;
        sum += taken ? 0 : expf(score[e] - score[chosen[0]]);
    }
    for (int k = 0; k < s->experts_used; k++)
        weight[k] /= sum;
}

static void route(struct engine_model *m, const struct model_layer *y)
{
    struct model_work *w = m->work;
    struct forward_experts *e = w->experts;
    const struct model_spec *s = &m->spec;
    struct kern_product router = {&y->router, y->router_bias, e->scores, (size_t)s->experts, false};

    kern_products(m->pool, m->ops, &router, 1, &w->normed, w->rows, NULL);
    for (int i = 0; i < w->rows; i++)
        choose(s, e->scores + (size_t)i * (size_t)s->experts, e->chosen + i * s->experts_used,
               e->weight + i * s->experts_used);
}

/* Gather the rows that chose `expert`; returns how many. */
static int gather(struct engine_model *m, int expert)
{
    struct model_work *w = m->work;
    struct forward_experts *e = w->experts;
    size_t stride = (size_t)w->normed.stride;
    int n = 0;
    for (int at = 0; at < w->rows * m->spec.experts_used; at++)
        if (e->chosen[at] == expert) {
            memcpy(e->input.x + (size_t)n * stride, w->normed.x + (size_t)(at / m->spec.experts_used) * stride,
                   stride * sizeof(float));
            e->member[n++] = at;
        }
    return n;
}

static void run_expert(struct engine_model *m, const struct model_expert *x, int rows)
{
    struct model_work *w = m->work;
    struct forward_experts *e = w->experts;
    const struct model_spec *s = &m->spec;
    size_t ffn = (size_t)s->expert_ffn, embed = (size_t)s->embed;
    const struct kern_product in[] = {{&x->gate, x->gate_bias, w->gate_up, 2 * ffn, false},
                                      {&x->up, x->up_bias, w->gate_up + ffn, 2 * ffn, false}};
    const struct kern_product out = {&x->down, x->down_bias, e->down, embed, false};

    kern_products(m->pool, m->ops, in, 2, &e->input, rows, NULL);
    for (int i = 0; i < rows; i++) {
        const float *gate = w->gate_up + (size_t)i * 2 * ffn;
        m->ops->gate(w->hidden.x + (size_t)i * (size_t)w->hidden.stride, gate, gate + ffn, s->expert_ffn, s->gate);
    }
    kern_products(m->pool, m->ops, &out, 1, &w->hidden, rows, NULL);
    for (int i = 0; i < rows; i++)
        m->ops->scale(e->result + (size_t)e->member[i] * embed, e->down + (size_t)i * embed, e->weight[e->member[i]],
                      s->embed);
}

static void sum_row(void *ctx, int i)
{
    struct engine_model *m = ctx;
    const struct model_spec *s = &m->spec;
    size_t embed = (size_t)s->embed;
    float *to = m->work->branch + (size_t)i * embed;
    const float *from = m->work->experts->result + (size_t)(i * s->experts_used) * embed;

    memcpy(to, from, embed * sizeof *to);
    for (int k = 1; k < s->experts_used; k++)
        m->ops->add(to, from + (size_t)k * embed, s->embed);
}

void forward_experts(struct engine_model *m, const struct model_layer *y)
{
    route(m, y);
    for (int x = 0; x < m->spec.experts; x++) {
        int rows = gather(m, x);
        if (rows > 0)
            run_expert(m, &y->expert[x], rows);
    }
    forward_rows(m, sum_row, m);
}
