/* Scheduler, block pool and prefix names against a fake model: its "keys and values" are the token ids themselves, so
 * every block that is lost, shared wrongly, not wiped or read too early shows as a wrong token. */
#include <sodium.h>
#include <stdio.h>

#include "engine/sched.h"
#include "run.h"

enum { BLOCK = 4, SEQS = 24, CONTEXT = 96, POOL_MAX = 256 };

/* --- a model of two groups ------------------------------------------------------------------------ */

static struct {
    int32_t kv[SCHED_GROUPS][POOL_MAX][BLOCK]; /* token id, 0: wiped */
    uint32_t wiped, steps, tokens_most;
} fake;

static void fake_zero(void *ctx, int group, int32_t block)
{
    (void)ctx;
    memset(fake.kv[group][block], 0, sizeof fake.kv[group][block]);
    fake.wiped++;
}

static bool is_blank(int group)
{
    static const int32_t nothing[POOL_MAX][BLOCK];
    return memcmp(fake.kv[group], nothing, sizeof nothing) == 0;
}

/* The token after `ids[0..n)`: any function of all of them. */
static int32_t next_token(const int32_t *ids, uint32_t n)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)ids[i]) * 16777619u;
    return (int32_t)(h % 1000) + 1;
}

/* Write the row's tokens and look at everything its positions may attend to. One assertion for all of it: each costs
 * the check library a system call. */
static bool fake_group(const struct sched *s, const struct sched_row *r, int g)
{
    const struct sched_seq *q = r->seq;
    uint32_t window = s->config.group[g].window;
    for (uint32_t p = r->pos; p < r->pos + r->count; p++) {
        int32_t block = q->table[g][p / BLOCK];
        if (block <= 0 || block >= POOL_MAX || fake.kv[g][block][p % BLOCK] != 0) /* wiped before, written once */
            return false;
        fake.kv[g][block][p % BLOCK] = q->tokens[p];
        for (uint32_t k = window && p >= window ? p - window + 1 : 0; k <= p; k++)
            if (fake.kv[g][q->table[g][k / BLOCK]][k % BLOCK] != q->tokens[k])
                return false;
    }
    return true;
}

static void fake_row(const struct sched *s, const struct sched_row *r)
{
    for (int g = 0; g < SCHED_GROUPS; g++)
        ck_assert(s->config.group[g].blocks == 0 || fake_group(s, r, g));
}

/* --- a client ---------------------------------------------------------------------------------------- */

struct job {
    struct sched_seq seq;
    int32_t tokens[CONTEXT + 1];
    uint32_t prompt, want;
};

static void job_init(struct job *j, const struct sched *s, const char *salt, uint32_t prompt, uint32_t want, int seed)
{
    memset(j, 0, sizeof *j);
    for (uint32_t i = 0; i < prompt; i++)
        j->tokens[i] = (int32_t)((i * 7 + (i >= 20 ? (uint32_t)seed * 13 : 0)) % 900) + 1; /* first 20 are common */
    j->prompt = prompt;
    j->want = want;
    j->seq.tokens = j->tokens;
    j->seq.len = prompt;
    j->seq.len_max = prompt + want;
    prefix_root(&j->seq.root, &s->secret, span_str(salt));
}

static void check_output(const struct job *j)
{
    int32_t want[CONTEXT + 1];
    bool same = true;
    memcpy(want, j->tokens, j->prompt * sizeof *want);
    for (uint32_t n = j->prompt; n < j->seq.len; n++) {
        want[n] = next_token(want, n);
        same = same && j->tokens[n] == want[n];
    }
    ck_assert(same);
}

/* One step; finished jobs leave. Returns the number of rows. */
static size_t step(struct sched *s, uint32_t prefill_max)
{
    struct sched_row rows[SEQS];
    size_t n = sched_plan(s, rows, prefill_max, prefill_max ? 3 * prefill_max : 0);
    uint32_t tokens = 0, logits = 0;
    bool worthwhile = true;
    for (size_t i = 0; i < n; i++) {
        tokens += rows[i].count;
        logits += rows[i].logits == SCHED_LOGITS_ALL ? rows[i].count : rows[i].logits == SCHED_LOGITS_LAST;
        uint32_t missing = rows[i].seq->len - rows[i].pos;
        worthwhile = worthwhile && rows[i].count > (missing > 1) && rows[i].count <= missing;
        fake_row(s, &rows[i]);
    }
    ck_assert(worthwhile);
    ck_assert_uint_le(tokens, s->config.step_tokens);
    ck_assert_uint_le(logits, s->config.step_logits);
    fake.steps++;
    if (tokens > fake.tokens_most)
        fake.tokens_most = tokens;
    sched_commit(s, rows, n);
    for (size_t i = 0; i < n; i++) {
        struct job *j = (struct job *)rows[i].seq;
        if (j->seq.computed < j->seq.len)
            continue;
        j->tokens[j->seq.len] = next_token(j->tokens, j->seq.len);
        j->seq.len++;
        if (j->seq.len == j->prompt + j->want) {
            check_output(j);
            sched_remove(s, &j->seq);
        }
    }
    return n;
}

static void run_out(struct sched *s)
{
    for (int i = 0; i < 20000 && (s->waiting.first || s->running.first); i++)
        step(s, 0);
    ck_assert_ptr_null(s->waiting.first);
    ck_assert_ptr_null(s->running.first);
    for (int g = 0; g < SCHED_GROUPS; g++)
        ck_assert_uint_eq(sched_used(s, g), 0);
}

static struct sched_config config(uint32_t full, uint32_t sliding)
{
    memset(&fake, 0, sizeof fake);
    struct sched_config c = {.block_tokens = BLOCK,
                             .context_max = CONTEXT,
                             .seqs_max = SEQS,
                             .step_tokens = 32,
                             .step_logits = SEQS + 8,
                             .queue_max = 100,
                             .watermark = 1,
                             .prefix = true,
                             .zero = fake_zero};
    c.group[0].blocks = full;
    c.group[1].blocks = sliding;
    c.group[1].window = sliding ? 10 : 0;
    return c;
}

static struct job jobs[64];

START_TEST(batch_equals_single)
{
    static const struct {
        uint32_t full, sliding;
    } pools[] = {{200, 0}, {200, 200}, {40, 0}, {40, 24}, {26, 14}, {0, 30}};
    struct sched s;
    struct sched_config c = config(pools[_i].full, pools[_i].sliding);
    ck_assert(sched_init(&s, &c));
    for (int i = 0; i < 40; i++) {
        job_init(&jobs[i], &s, i % 3 ? "a" : "b", 1 + (uint32_t)(i * 5) % 60, 1 + (uint32_t)(i * 3) % 30, i % 5);
        ck_assert_int_eq(sched_add(&s, &jobs[i].seq), SCHED_OK);
        if (i % 4 == 0)
            step(&s, i % 8 ? 4 : 0);
    }
    run_out(&s);
    if (pools[_i].full == 26)
        ck_assert_uint_gt(s.counts.preemptions, 0);
    sched_release(&s);
}
END_TEST

START_TEST(prefixes_are_found_by_the_same_salt_only)
{
    struct sched s;
    struct sched_config c = config(100, _i ? 100 : 0);
    ck_assert(sched_init(&s, &c));
    const char *salts[] = {"a", "a", "b"};
    const uint32_t hits[] = {0, 20, 0};
    for (int i = 0; i < 3; i++) {
        job_init(&jobs[i], &s, salts[i], 21, 2, 0);
        ck_assert_int_eq(sched_add(&s, &jobs[i].seq), SCHED_OK);
        run_out(&s);
        ck_assert_uint_eq(jobs[i].seq.cached, hits[i]);
    }
    ck_assert_uint_eq(s.counts.prefix_hits, 20);
    ck_assert_uint_eq(s.counts.prefix_queries, 63);
    /* a prompt of whole blocks: its last token is computed all the same */
    job_init(&jobs[3], &s, "a", 20, 2, 0);
    ck_assert_int_eq(sched_add(&s, &jobs[3].seq), SCHED_OK);
    run_out(&s);
    ck_assert_uint_eq(jobs[3].seq.cached, 16);
    sched_forget(&s);
    for (int g = 0; g < SCHED_GROUPS; g++)
        ck_assert(is_blank(g)); /* nothing readable is left */
    job_init(&jobs[4], &s, "a", 21, 2, 0);
    ck_assert_int_eq(sched_add(&s, &jobs[4].seq), SCHED_OK);
    run_out(&s);
    ck_assert_uint_eq(jobs[4].seq.cached, 0);
    sched_release(&s);
}
END_TEST

START_TEST(running_requests_share)
{
    struct sched s;
    struct sched_config c = config(100, 0);
    ck_assert(sched_init(&s, &c));
    job_init(&jobs[0], &s, "a", 40, 20, 1);
    ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_OK);
    step(&s, 0);
    step(&s, 0);
    for (int i = 1; i < 4; i++) { /* choices of one prompt wait for the first */
        job_init(&jobs[i], &s, "a", 40, 20, 1);
        jobs[i].seq.after = &jobs[0].seq;
        ck_assert_int_eq(sched_add(&s, &jobs[i].seq), SCHED_OK);
    }
    step(&s, 0);
    ck_assert_uint_eq(jobs[3].seq.cached, 36);
    ck_assert_uint_lt(sched_used(&s, 0), 10 + 3 * 2 + 2);
    run_out(&s);
    sched_release(&s);
}
END_TEST

START_TEST(unsalted_blocks_are_wiped_when_freed)
{
    struct sched s;
    struct sched_config c = config(100, 0);
    ck_assert(sched_init(&s, &c));
    job_init(&jobs[0], &s, "a", 40, 5, 1);
    jobs[0].seq.forget = true;
    ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_OK);
    run_out(&s);
    ck_assert(is_blank(0));
    sched_release(&s);
}
END_TEST

START_TEST(order_and_limits)
{
    struct sched s;
    struct sched_config c = config(200, 0);
    c.seqs_max = 2;
    c.queue_max = 3;
    c.by_priority = true;
    ck_assert(sched_init(&s, &c));
    job_init(&jobs[0], &s, "", 90, 20, 0);
    ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_LONG);
    for (int i = 0; i < 4; i++) {
        job_init(&jobs[i], &s, "", 5, 40, i);
        jobs[i].seq.priority = i == 2 ? -1 : 0;
        ck_assert_int_eq(sched_add(&s, &jobs[i].seq), i < 3 ? SCHED_OK : SCHED_FULL);
    }
    ck_assert_uint_eq(step(&s, 0), 2);
    ck_assert_int_eq(jobs[2].seq.state, SCHED_RUNNING); /* the urgent one and the oldest */
    ck_assert_int_eq(jobs[0].seq.state, SCHED_RUNNING);
    ck_assert_int_eq(jobs[1].seq.state, SCHED_WAITING);
    sched_remove(&s, &jobs[2].seq); /* cancelled: its place is free in the next step */
    sched_remove(&s, &jobs[2].seq);
    step(&s, 0);
    ck_assert_int_eq(jobs[1].seq.state, SCHED_RUNNING);
    jobs[0].seq.hold = true;
    uint32_t len = jobs[0].seq.len;
    step(&s, 0);
    ck_assert_uint_eq(jobs[0].seq.len, len);
    jobs[0].seq.hold = false;
    run_out(&s);
    sched_release(&s);
}
END_TEST

START_TEST(decoding_goes_on_beside_a_long_prompt)
{
    struct sched s;
    struct sched_config c = config(200, 0);
    ck_assert(sched_init(&s, &c));
    job_init(&jobs[0], &s, "", 5, 40, 0);
    ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_OK);
    step(&s, 0);
    job_init(&jobs[1], &s, "other", 80, 4, 3);
    ck_assert_int_eq(sched_add(&s, &jobs[1].seq), SCHED_OK);
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t len = jobs[0].seq.len;
        ck_assert_uint_eq(step(&s, 8), 2);
        ck_assert_uint_eq(jobs[0].seq.len, len + 1);
        ck_assert_uint_eq(jobs[1].seq.computed, 8 * (i + 1));
    }
    run_out(&s);
    sched_release(&s);
}
END_TEST

/* As few chunks as the budget allows, none longer than it must be; cuts need not be where blocks end. */
START_TEST(prompts_are_cut_evenly)
{
    static const uint32_t chunks[] = {6, 6, 6, 6, 5, 5, 5};
    struct sched s;
    struct sched_config c = config(200, 40);
    ck_assert(sched_init(&s, &c));
    for (int round = 0; round < 2; round++) { /* and again, from what the first left in the cache */
        job_init(&jobs[0], &s, "a", 5, 60, 0);
        ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_OK);
        step(&s, 0);
        job_init(&jobs[1], &s, "b", 39, 4, 3);
        ck_assert_int_eq(sched_add(&s, &jobs[1].seq), SCHED_OK);
        uint32_t computed = round ? 36 : 0;
        for (size_t i = 0; i < (round ? 1 : sizeof chunks / sizeof *chunks); i++) {
            ck_assert_uint_eq(step(&s, 6), 2);
            computed += round ? 3 : chunks[i];
            ck_assert_uint_eq(jobs[1].seq.computed, computed);
        }
        ck_assert_uint_eq(jobs[1].seq.cached, round ? 36 : 0);
        run_out(&s);
    }
    sched_release(&s);
}
END_TEST

/* A twelfth more than the pace gives saves a step, but neither for less than a step nor beyond what is a bound. */
START_TEST(a_rest_takes_no_step_of_its_own)
{
    static const struct {
        uint32_t pace, prompt, long_prefill, first, steps;
    } cases[] = {{12, 52, 0, 13, 4}, {12, 53, 0, 11, 5}, {12, 48, 0, 12, 4}, {12, 13, 0, 13, 1},  {12, 14, 0, 7, 2},
                 {24, 26, 0, 26, 1}, {24, 27, 0, 14, 2}, {24, 78, 0, 26, 3}, {24, 78, 24, 20, 4}, {8, 80, 0, 8, 10}};
    struct sched s;
    struct sched_config c = config(200, 0);
    c.long_prefill = cases[_i].long_prefill;
    c.prefix = false;
    ck_assert(sched_init(&s, &c));
    job_init(&jobs[0], &s, "a", 5, 60, 0);
    ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_OK);
    step(&s, 0);
    job_init(&jobs[1], &s, "b", cases[_i].prompt, 4, 3);
    ck_assert_int_eq(sched_add(&s, &jobs[1].seq), SCHED_OK);
    step(&s, cases[_i].pace);
    ck_assert_uint_eq(jobs[1].seq.computed, cases[_i].first);
    uint32_t steps = 1;
    for (; jobs[1].seq.computed < cases[_i].prompt; steps++)
        step(&s, cases[_i].pace);
    ck_assert_uint_eq(steps, cases[_i].steps);
    run_out(&s);
    sched_release(&s);
}
END_TEST

START_TEST(all_logits_are_bounded)
{
    struct sched s;
    struct sched_config c = config(200, 0);
    c.step_logits = SEQS + 4;
    ck_assert(sched_init(&s, &c));
    job_init(&jobs[0], &s, "", 61, 2, 0);
    jobs[0].seq.all_logits = true;
    ck_assert_int_eq(sched_add(&s, &jobs[0].seq), SCHED_OK);
    run_out(&s); /* step() checks the bound */
    sched_release(&s);
}
END_TEST

/* Random arrivals, cancellations and holds over small pools: outputs stay right, nothing leaks, nothing stalls. */
START_TEST(random_traffic)
{
    struct sched s;
    struct sched_config c = config(_i % 2 ? 30 : 60, _i % 3 ? 20 : 0);
    c.long_prefill = _i % 4 ? 0 : 8;
    uint32_t rng = (uint32_t)_i * 2654435761u + 1;
    ck_assert(sched_init(&s, &c));
    memset(jobs, 0, sizeof jobs);
    for (int i = 0; i < 3000; i++) {
        rng = rng * 1664525u + 1013904223u;
        struct job *j = &jobs[rng >> 8 & 31];
        if (j->seq.state == SCHED_OUT && rng >> 28 < 8) {
            job_init(j, &s, rng >> 20 & 1 ? "a" : "b", 1 + (rng >> 13) % 70, 1 + (rng >> 5) % 25, (int)(rng >> 9 & 3));
            j->seq.forget = rng >> 21 & 1;
            j->seq.priority = (int32_t)(rng >> 22 & 1);
            ck_assert_int_eq(sched_add(&s, &j->seq), SCHED_OK);
        } else if (j->seq.state != SCHED_OUT && rng >> 28 == 15) {
            sched_remove(&s, &j->seq);
        } else if (j->seq.state != SCHED_OUT) {
            j->seq.hold = rng >> 27 == 3;
        }
        step(&s, rng >> 16 & 1 ? 8 : 0);
    }
    for (int i = 0; i < 64; i++)
        jobs[i].seq.hold = false;
    run_out(&s);
    ck_assert_uint_le(fake.tokens_most, c.step_tokens);
    sched_release(&s);
}
END_TEST

START_TEST(least_recently_freed_goes_first)
{
    struct blocks b;
    struct blocks_key key = {{1}}, key2 = {{2}};
    ck_assert(blocks_init(&b, 4, NULL, NULL));
    int32_t x = blocks_take(&b), y = blocks_take(&b), z = blocks_take(&b);
    ck_assert(x > 0 && y > 0 && z > 0 && blocks_take(&b) == BLOCKS_NULL);
    blocks_name(&b, x, &key);
    blocks_name(&b, y, &key2);
    blocks_drop(&b, x, false);
    blocks_drop(&b, y, false);
    blocks_drop(&b, z, false); /* unnamed: taken before the named ones */
    ck_assert_int_eq(blocks_take(&b), z);
    ck_assert_int_eq(blocks_find(&b, &key), x);
    blocks_hold(&b, x); /* a hit takes it out of the free list */
    ck_assert_int_eq(blocks_take(&b), y);
    ck_assert_int_eq(blocks_find(&b, &key2), BLOCKS_NULL); /* evicted */
    ck_assert_int_eq(blocks_take(&b), BLOCKS_NULL);
    blocks_release(&b);
    ck_assert(!blocks_init(&b, 1, NULL, NULL));
}
END_TEST

START_TEST(names_depend_on_everything)
{
    struct prefix_secret one, two;
    struct blocks_key a, b;
    int32_t ids[] = {1, 2, 3, 4};
    prefix_secret_draw(&one);
    prefix_secret_draw(&two);
    prefix_root(&a, &one, span_str("t"));
    prefix_root(&b, &one, span_str("u"));
    ck_assert(memcmp(&a, &b, sizeof a) != 0);
    prefix_root(&b, &two, span_str("t"));
    ck_assert(memcmp(&a, &b, sizeof a) != 0);
    prefix_next(&b, &one, &a, ids, 4);
    ids[3]++;
    prefix_next(&a, &one, &a, ids, 4);
    ck_assert(memcmp(&a, &b, sizeof a) != 0);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, batch_equals_single, 0, 6);
    tcase_add_loop_test(t, prefixes_are_found_by_the_same_salt_only, 0, 2);
    tcase_add_test(t, running_requests_share);
    tcase_add_test(t, unsalted_blocks_are_wiped_when_freed);
    tcase_add_test(t, order_and_limits);
    tcase_add_test(t, decoding_goes_on_beside_a_long_prompt);
    tcase_add_test(t, prompts_are_cut_evenly);
    tcase_add_loop_test(t, a_rest_takes_no_step_of_its_own, 0, 10);
    tcase_add_test(t, all_logits_are_bounded);
    tcase_add_loop_test(t, random_traffic, 0, 12);
    tcase_add_test(t, least_recently_freed_goes_first);
    tcase_add_test(t, names_depend_on_everything);
}

RUN("engine_sched", add_tests)
