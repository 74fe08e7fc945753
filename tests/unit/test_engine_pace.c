/* The pace of prompts: scheduler and pace serve clients that ask again as soon as they are answered, on a model whose
 * step takes what Gemma 3 270M (Q4_K_M, two Zen 4 cores) was measured to take: so the bars of the running engine hold
 * without a clock. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/pace.h"
#include "engine/sched.h"
#include "run.h"

enum { CLIENTS = 16, OUTPUT = 96, CONTEXT = 2048, SAMPLES = 1 << 16 };

struct load {
    int clients;
    uint32_t prompt, shared; /* tokens; the first `shared` are everybody's */
};

struct outcome {
    double ttft, gap, gap_99; /* ms: medians, and the 99th percentile */
};

static struct client {
    struct sched_seq seq;
    int32_t tokens[CONTEXT];
    uint32_t output;
    double asked, last;
    bool recorded;
} clients[CLIENTS];

static struct {
    double ttft[SAMPLES], gap[SAMPLES];
    int ttfts, gaps;
    uint32_t rng;
} out;

static int32_t draw(void)
{
    out.rng = out.rng * 1664525u + 1013904223u;
    return (int32_t)(out.rng >> 16) + 1;
}

static double step_ms(size_t decoding, uint32_t prompt)
{
    static const double rows[] = {2, 5.7, 9.1, 10.8, 10.9, 12.2, 12.5, 14.0, 14.9};
    double ms = decoding <= 8 ? rows[decoding] : 14.9 + 0.8 * (double)(decoding - 8);
    ms += prompt ? 0.6 + 0.56 * prompt : 0;
    return ms * (0.98 + 0.06 * draw() / 65536.0);
}

static void ask(struct sched *s, struct client *c, const struct load *l, uint32_t output, bool recorded, double now)
{
    memset(c, 0, sizeof *c);
    for (uint32_t i = 0; i < l->prompt; i++)
        c->tokens[i] = i < l->shared ? (int32_t)i + 1 : draw();
    c->seq.tokens = c->tokens;
    c->seq.len = l->prompt;
    c->seq.len_max = l->prompt + OUTPUT;
    c->output = output;
    c->recorded = recorded;
    c->asked = now;
    ck_assert_int_eq(sched_add(s, &c->seq), SCHED_OK);
}

static void answer(struct sched *s, struct client *c, const struct load *l, double now)
{
    c->tokens[c->seq.len++] = draw();
    if (c->recorded && c->last > 0 && out.gaps < SAMPLES)
        out.gap[out.gaps++] = now - c->last;
    else if (c->recorded && c->last == 0 && out.ttfts < SAMPLES)
        out.ttft[out.ttfts++] = now - c->asked;
    c->last = now;
    if (c->seq.len == l->prompt + c->output) {
        sched_remove(s, &c->seq);
        ask(s, c, l, OUTPUT, now > 10000, now);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *v, int count, double share)
{
    ck_assert_int_gt(count, 0);
    qsort(v, (size_t)count, sizeof *v, by_value);
    return v[(int)(share * (count - 1) + 0.5)];
}

/* A minute, of which the first ten seconds are not looked at. */
static struct outcome serve(const struct load *l)
{
    struct sched_config config = {.block_tokens = 16,
                                  .context_max = CONTEXT,
                                  .seqs_max = 32,
                                  .step_tokens = 2048,
                                  .step_logits = 64,
                                  .queue_max = CLIENTS,
                                  .prefix = true,
                                  .group = {{4000, 0}, {1217, 512}}};
    struct pace pace = {0};
    struct sched s;
    struct sched_row rows[32];
    ck_assert(sched_init(&s, &config));
    out.rng = 1, out.ttfts = out.gaps = 0;
    for (int i = 0; i < l->clients; i++)
        ask(&s, &clients[i], l, OUTPUT * (uint32_t)(i + 1) / (uint32_t)l->clients + 1, false, 0);
    for (double now = 0; now < 60000;) {
        size_t decoding = 0;
        uint32_t prompt = 0;
        for (const struct sched_seq *q = s.running.first; q; q = q->next)
            decoding += q->len - q->computed == 1;
        size_t n = sched_plan(&s, rows, pace_beside(&pace, decoding), pace_alone(&pace));
        ck_assert_uint_gt(n, 0);
        decoding = 0;
        for (size_t i = 0; i < n; i++) {
            decoding += rows[i].count == 1;
            prompt += rows[i].count == 1 ? 0 : rows[i].count;
        }
        double ms = step_ms(decoding, prompt);
        pace_note(&pace, (uint64_t)(1e6 * ms), decoding, prompt);
        now += ms;
        sched_commit(&s, rows, n);
        for (size_t i = 0; i < n; i++)
            if (rows[i].seq->computed == rows[i].seq->len)
                answer(&s, (struct client *)rows[i].seq, l, now);
    }
    for (int i = 0; i < l->clients; i++)
        sched_remove(&s, &clients[i].seq);
    sched_release(&s);
    return (struct outcome){percentile(out.ttft, out.ttfts, 0.5), percentile(out.gap, out.gaps, 0.5),
                            percentile(out.gap, out.gaps, 0.99)};
}

/* Whatever the load, no token comes much later than the others. */
START_TEST(tokens_come_evenly)
{
    static const struct load loads[] = {{8, 512, 0}, {8, 512, 384}, {8, 256, 0},  {8, 128, 0},
                                        {4, 512, 0}, {2, 512, 0},   {16, 128, 0}, {4, 1500, 0}};
    struct outcome o = serve(&loads[_i]);
    if (o.gap_99 > 2.2 * o.gap) /* twice the usual step, which is no higher than the median; steps vary by 3 % */
        ck_abort_msg("load %d: %.1f ms between two tokens in the median, %.1f in the 99th percentile", _i, o.gap,
                     o.gap_99);
}
END_TEST

START_TEST(a_shared_prefix_brings_the_first_token_sooner)
{
    static const struct load apart = {8, 512, 0}, shared = {8, 512, 384};
    double without = serve(&apart).ttft, with = serve(&shared).ttft;
    if (with > 0.4 * without || without > 500)
        ck_abort_msg("%.0f ms to the first token, %.0f with nothing in common", with, without);
}
END_TEST

START_TEST(nothing_is_known_at_first)
{
    struct pace p = {0};
    ck_assert_uint_eq(pace_alone(&p), 0);
    ck_assert_uint_eq(pace_beside(&p, 4), 0);
    pace_note(&p, 100000000, 0, 200); /* half a millisecond each */
    ck_assert_uint_gt(pace_alone(&p), 1000);
    ck_assert_uint_gt(pace_beside(&p, 4), 100);
    for (int i = 0; i < 5; i++)
        pace_note(&p, 10000000, 4, 0);
    ck_assert_uint_eq(pace_beside(&p, 4), 21); /* as long as the step without them */
    ck_assert_uint_eq(pace_beside(&p, 1), 21); /* the nearest that is known */
    ck_assert_uint_eq(pace_beside(&p, 40), 21);
    pace_note(&p, UINT64_MAX / 4096, 4096, 1); /* absurd, and still a number */
    ck_assert_uint_gt(pace_beside(&p, 1 << 20), 0);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, tokens_come_evenly, 0, 8);
    tcase_add_test(t, a_shared_prefix_brings_the_first_token_sooner);
    tcase_add_test(t, nothing_is_known_at_first);
}

RUN("engine_pace", add_tests)
