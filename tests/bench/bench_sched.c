/* bench_sched.c - rows about the scheduler alone, without a model. For bench_engine.py.
 * Time: what planning a step and noting it costs with 32 sequences that decode, prefixes named, two groups of layers.
 * Waste: positions of held blocks that hold nothing anybody looks at, as a share of all, over a mixed load. */
#include "engine/sched.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 16, SEQS = 32, CONTEXT = 8192, STEPS = 4000, REQUESTS = 400 };

struct request {
    struct sched_seq seq;
    int32_t *tokens; /* owned */
};

static struct request requests[REQUESTS];
static uint32_t rng = 1;

static uint32_t draw(uint32_t below)
{
    rng = rng * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)rng * below) >> 32);
}

/* 2^low to 2^high, every octave as often. */
static uint32_t draw_length(uint32_t low, uint32_t high)
{
    uint32_t octave = low + draw(high - low);
    return (1u << octave) + draw(1u << octave);
}

static void add(struct sched *s, struct request *r, uint32_t prompt, uint32_t output)
{
    memset(r, 0, sizeof *r);
    r->tokens = malloc((prompt + output) * sizeof *r->tokens);
    if (!r->tokens)
        exit(1);
    for (uint32_t i = 0; i < prompt; i++)
        r->tokens[i] = (int32_t)draw(100000);
    r->seq.tokens = r->tokens;
    r->seq.len = prompt;
    r->seq.len_max = prompt + output;
    prefix_root(&r->seq.root, &s->secret, span_str("bench"));
    if (sched_add(s, &r->seq) != SCHED_OK)
        exit(1);
}

static void drop(struct sched *s, struct request *r)
{
    sched_remove(s, &r->seq);
    free(r->tokens);
    r->tokens = NULL;
}

/* The sampled tokens of a step; who has all that it wants goes. */
static void answer(struct sched *s, const struct sched_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct request *r = (struct request *)rows[i].seq; /* its first member */
        if (r->seq.computed < r->seq.len)
            continue;
        if (r->seq.len == r->seq.len_max)
            drop(s, r);
        else
            r->tokens[r->seq.len++] = (int32_t)draw(100000);
    }
}

static struct sched_config config(uint32_t blocks)
{
    struct sched_config c = {.block_tokens = BLOCK,
                             .context_max = CONTEXT,
                             .seqs_max = SEQS,
                             .step_tokens = 2048,
                             .step_logits = SEQS + BLOCK,
                             .queue_max = REQUESTS,
                             .watermark = blocks / 100 + 1,
                             .prefix = true};
    c.group[0].blocks = c.group[1].blocks = blocks;
    c.group[1].window = 512;
    return c;
}

static void time_row(void)
{
    static double v[STEPS];
    struct sched_config c = config(1 << 15);
    struct sched_row rows[SEQS];
    struct sched s;
    if (!sched_init(&s, &c))
        exit(1);
    for (int i = 0; i < SEQS; i++)
        add(&s, &requests[i], 1000, STEPS + 1000);
    for (int n = 0; n < STEPS;) {
        double begin = machine_now();
        size_t count = sched_plan(&s, rows, 0, 0);
        sched_commit(&s, rows, count);
        double took = machine_now() - begin;
        if (count == SEQS && rows[0].count == 1)
            v[n++] = took;
        answer(&s, rows, count);
    }
    double half = machine_median(v, STEPS), most = v[STEPS * 99 / 100]; /* sorted now */
    printf("engine\tscheduling, 32 sequences\t%.4f ms a step, p99 %.4f ms\t-\t-\t<= 0.1 ms\t%s\n", 1e3 * half,
           1e3 * most, most <= 1e-4 ? "met" : "short");
    for (int i = 0; i < SEQS; i++)
        drop(&s, &requests[i]);
    sched_release(&s);
}

/* Positions that group `g` holds for the running sequences, and how many of them something still looks at. */
static void count_held(const struct sched *s, int g, double *held, double *used)
{
    for (const struct sched_seq *q = s->running.first; q; q = q->next) {
        uint32_t window = s->config.group[g].window;
        *held += BLOCK * (double)(q->table_len[g] - q->table_start[g]);
        *used += window && q->computed >= window ? window - 1 : q->computed;
    }
}

static void waste_row(void)
{
    struct sched_config c = config(6000);
    struct sched_row rows[SEQS];
    struct sched s;
    double held = 0, used = 0;
    if (!sched_init(&s, &c))
        exit(1);
    for (int i = 0; i < REQUESTS; i++)
        add(&s, &requests[i], draw_length(6, 12), draw_length(4, 10));
    while (s.running.first || s.waiting.first) {
        size_t count = sched_plan(&s, rows, 512, 512);
        sched_commit(&s, rows, count);
        for (int g = 0; g < SCHED_GROUPS; g++)
            count_held(&s, g, &held, &used);
        answer(&s, rows, count);
    }
    double share = (held - used) / held;
    printf(
        "engine\tKV cache, mixed load of %d requests (64 to 8192 positions), window 512\t%.1f %% of what is held\t-\t-"
        "\t<= 4 %% unused\t%s\n",
        REQUESTS, 100 * share, share <= 0.04 ? "met" : "short");
    sched_release(&s);
}

int main(void)
{
    time_row();
    waste_row();
    return 0;
}
