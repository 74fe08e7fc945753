/* Do the row-wise ops, attention and its merge agree with their slow twins over many shapes? Is the pool a pool? */
#include <check.h>
#include <float.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "unit/kernels_common.h"
#include "unit/run.h"

static float off_by(const float *got, const float *want, int n)
{
    float worst = 0;
    for (int i = 0; i < n; i++)
        worst = fmaxf(worst, fabsf(got[i] - want[i]) / (1 + fabsf(want[i])));
    return worst;
}

static void rows_agree(const struct kern_ops *ops)
{
    static const int lengths[] = {1, 7, 8, 15, 16, 17, 32, 64, 100, 576, 1029};
    static float x[1100], w[1100], u[1100], got[1100], want[1100];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int n = lengths[i];
        fill_noise(x, 1100, (uint32_t)n);
        fill_noise(w, 1100, (uint32_t)n + 1);
        ops->rmsnorm(got, x, w, n, 1e-6f);
        kern_ops_ref.rmsnorm(want, x, w, n, 1e-6f);
        ck_assert_float_lt(off_by(got, want, n), 2e-6f);
        ops->scale(got, x, 3, n);
        ops->add(got, w, n);
        for (int j = 0; j < n; j++)
            ck_assert(fabsf(got[j] - (x[j] * 3 + w[j])) < 1e-6f);
        for (int j = 0; j < n; j++)
            x[j] *= 20, u[j] = w[j] * 12;
        for (int kind = KERN_GATE_SILU; kind <= KERN_GATE_CLAMPED; kind++) {
            ops->gate(got, x, u, n, (enum kern_gate)kind);
            kern_ops_ref.gate(want, x, u, n, (enum kern_gate)kind);
            ck_assert_float_lt(off_by(got, want, n), 3e-6f);
        }
        memcpy(got, x, sizeof got);
        memcpy(want, x, sizeof want);
        ops->rope(got, w, u, n / 2);
        kern_ops_ref.rope(want, w, u, n / 2);
        ck_assert_float_lt(off_by(got, want, 1100), 1e-5f);
    }
}

START_TEST(row_ops_agree)
{
    each_fast(rows_agree);
}
END_TEST

static void quantize_agrees(const struct kern_ops *ops)
{
    struct kern_acts a, b;
    ck_assert(kern_acts_init(&a, 3, 300) && kern_acts_init(&b, 3, 300));
    fill_noise(a.x + a.stride, 300, 9); /* row 0 stays zero, row 1 noise, row 2 small and one large value */
    for (int i = 0; i < 300; i++)
        a.x[2 * a.stride + i] = i % 32 == 5 ? -1000 : 0.5f;
    memcpy(b.x, a.x, 3 * (size_t)a.stride * sizeof *a.x);
    for (int r = 0; r < 3; r++) {
        ops->quantize(&a, r);
        kern_ops_ref.quantize(&b, r);
    }
    ck_assert(memcmp(a.q, b.q, 3 * (size_t)a.stride) == 0);
    ck_assert(memcmp(a.neg, b.neg, 3 * (size_t)a.stride / 32 * sizeof *a.neg) == 0);
    ck_assert(memcmp(a.neg_half, b.neg_half, 3 * (size_t)a.stride / 16 * sizeof *a.neg_half) == 0);
    ck_assert_float_lt(off_by(a.scale, b.scale, 3 * a.stride / 32), 1e-7f);
    ck_assert_float_lt(off_by(a.sum, b.sum, 3 * a.stride / 32), 1e-6f);
    ck_assert_float_lt(off_by(a.half, b.half, 3 * a.stride / 16), 1e-6f);
    kern_acts_release(&a);
    kern_acts_release(&b);
}

START_TEST(quantization_agrees)
{
    each_fast(quantize_agrees);
}
END_TEST

/* Choosing a token: noise with NaN and infinities in it, and stretches of nothing else. */
static void choosing_agrees(const struct kern_ops *ops)
{
    static const int lengths[] = {1, 15, 16, 17, 255, 256, 257, 511, 512, 1000, 4099};
    static const struct kern_weigh ways[] = {{1, 1, -FLT_MAX}, {1, 40, -FLT_MAX}, {3, 0.5f, 0.25f}, {1, 1e5f, 1}};
    enum { MOST = 4352, STRETCHES = MOST / KERN_STRETCH };
    static float x[MOST], got[MOST], want[MOST], some[MOST], sum[2][STRETCHES];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int n = lengths[i], stretches = (n + KERN_STRETCH - 1) / KERN_STRETCH;
        fill_noise(x, MOST, (uint32_t)n);
        for (int j = 0; j < MOST; j++)
            if (j % 7 == 3 || j / KERN_STRETCH == 2)
                x[j] = j % 2 ? NAN : -INFINITY;
        ops->peaks(sum[0], x, n);
        kern_ops_ref.peaks(sum[1], x, n);
        ck_assert(memcmp(sum[0], sum[1], (size_t)stretches * sizeof(float)) == 0);
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            ops->weigh(got, sum[0], x, n, &ways[w]);
            kern_ops_ref.weigh(want, sum[1], x, n, &ways[w]);
            for (int j = 0; j < n; j++)
                ck_assert(fabsf(got[j] - want[j]) <= 3e-7f * want[j]);
            ck_assert_float_lt(off_by(sum[0], sum[1], stretches), 1e-5f);
            for (float least = 0; least < 2; least += 0.3f) {
                ops->sums(sum[0], want, n, least);
                kern_ops_ref.sums(sum[1], want, n, least);
                ck_assert_float_lt(off_by(sum[0], sum[1], stretches), 1e-5f);
                int count = kern_ops_ref.gather(some, want, n, least);
                ck_assert_int_eq(ops->gather(got, want, n, least), count);
                ck_assert(memcmp(got, some, (size_t)count * sizeof *got) == 0);
            }
        }
    }
}

START_TEST(choosing_a_token_agrees)
{
    each_fast(choosing_agrees);
}
END_TEST

/* --- attention: one chunk, every number of queries, windows, softcap, both element types ------------- */

#define TILES (KERN_CHUNK / KERN_KV_TOKENS)

struct chunk {
    void *keys[TILES], *values[TILES];
};

/* To what bf16 holds, of which f16 loses nothing here: then only the weights' rounding tells a table from its twin. */
static void shorten(float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = kern_bf16_to_f32(kern_f32_to_bf16(x[i]));
}

static void chunk_fill(struct chunk *c, const struct kern_ops *ops, int dim, bool exact, bool rounded)
{
    float k[256], v[256];
    for (int t = 0; t < KERN_CHUNK; t++) {
        int tile = t / KERN_KV_TOKENS;
        if (t % KERN_KV_TOKENS == 0) {
            c->keys[tile] = aligned_alloc(64, (size_t)(dim * KERN_KV_TOKENS) * 4);
            c->values[tile] = aligned_alloc(64, (size_t)(dim * KERN_KV_TOKENS) * 4);
        }
        fill_noise(k, (size_t)dim, (uint32_t)t * 2);
        fill_noise(v, (size_t)dim, (uint32_t)t * 2 + 1);
        if (rounded)
            shorten(v, dim);
        ops->kv_store(c->keys[tile], c->values[tile], k, v, dim, t % KERN_KV_TOKENS, exact);
    }
}

static void attend_case(const struct kern_ops *ops, const struct chunk *c, int dim, int queries, bool exact,
                        bool rounded, float softcap)
{
    static float q[KERN_QUERIES_MAX][256], out[3][KERN_QUERIES_MAX][256];
    struct kern_part part[3][KERN_QUERIES_MAX];
    struct kern_attend a = {.keys = (const void *const *)c->keys,
                            .values = (const void *const *)c->values,
                            .exact = exact,
                            .rounded = rounded,
                            .dim = dim,
                            .position = KERN_CHUNK,
                            .softcap = softcap};
    for (int r = 0; r < queries; r++) {
        fill_noise(q[r], 256, (uint32_t)(r + 77));
        a.query[r] = q[r];
        a.last[r] = KERN_CHUNK + r * 37 % 300; /* inside and beyond the chunk */
        a.first[r] = r % 2 ? 0 : a.last[r] - 50;
        if (a.first[r] >= 2 * KERN_CHUNK)
            a.first[r] = 2 * KERN_CHUNK - 1;
    }
    for (int k = 0; k < 3; k++)
        for (int r = 0; r < queries; r++)
            part[k][r] = (struct kern_part){.out = out[k][r]};
    a.queries = queries;
    memcpy(a.part,
           (struct kern_part *[KERN_QUERIES_MAX]){&part[0][0], &part[0][1], &part[0][2], &part[0][3], &part[0][4],
                                                  &part[0][5], &part[0][6], &part[0][7]},
           sizeof a.part);
    ops->attend(&a);
    for (int r = 0; r < queries; r++)
        a.part[r] = &part[1][r];
    kern_ops_ref.attend(&a);
    for (int r = 0; r < queries; r++) {
        float most = 2e-5f + (rounded ? 0x1p-9f : 0); /* weights keep eight bits; values are at most 1 */
        ck_assert_float_lt(off_by(part[0][r].out, part[1][r].out, dim), most * part[1][r].sum);
        ck_assert_float_lt(off_by(&part[0][r].sum, &part[1][r].sum, 1), 1e-5f);
        ck_assert_float_lt(off_by(&part[0][r].max, &part[1][r].max, 1), 1e-5f);
        struct kern_attend one = a; /* alone: the same bits */
        one.queries = 1, one.query[0] = q[r], one.first[0] = a.first[r], one.last[0] = a.last[r];
        one.part[0] = &part[2][r];
        ops->attend(&one);
        ck_assert(memcmp(part[2][r].out, part[0][r].out, (size_t)dim * sizeof(float)) == 0 &&
                  part[2][r].sum == part[0][r].sum && part[2][r].max == part[0][r].max);
    }
}

static void attention_agrees(const struct kern_ops *ops)
{
    static const int dims[] = {16, 64, 80, 256};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int kind = 0; kind < 3; kind++) {
            bool exact = kind == 1, rounded = kind == 2;
            struct chunk c;
            chunk_fill(&c, ops, dims[d], exact, rounded);
            for (int queries = 1; queries <= KERN_QUERIES_MAX; queries++)
                attend_case(ops, &c, dims[d], queries, exact, rounded, queries % 3 ? 0 : 2.5f);
            for (int t = 0; t < TILES; t++) {
                free(c.keys[t]);
                free(c.values[t]);
            }
        }
}

START_TEST(attention_of_a_chunk_agrees)
{
    each_fast(attention_agrees);
}
END_TEST

static void merge_agrees(const struct kern_ops *ops)
{
    static const float maxima[][2] = {{1, 2}, {2, 1}, {-80, 60}, {3, 3}};
    float got[32], want[32], other[32];
    for (size_t i = 0; i < sizeof maxima / sizeof *maxima; i++)
        for (int empty = 0; empty < 3; empty++) {
            fill_noise(got, 32, 1);
            fill_noise(other, 32, 2);
            memcpy(want, got, sizeof want);
            struct kern_part a = {maxima[i][0], empty == 1 ? 0 : 4, got}, b = {maxima[i][0], a.sum, want};
            struct kern_part o = {maxima[i][1], empty == 2 ? 0 : 5, other};
            ops->merge(&a, &o, 32);
            kern_ops_ref.merge(&b, &o, 32);
            ck_assert_float_lt(off_by(got, want, 32), 1e-6f);
            ck_assert_float_lt(fabsf(a.sum - b.sum), 1e-5f);
            ck_assert(a.max == b.max);
        }
}

START_TEST(merging_agrees)
{
    each_fast(merge_agrees);
}
END_TEST

/* --- the pool -------------------------------------------------------------------------------------- */

struct tally {
    atomic_int count[500];
};

static void count_task(void *ctx, int index)
{
    atomic_fetch_add(&((struct tally *)ctx)->count[index], 1);
}

START_TEST(a_pool_runs_each_task_once)
{
    static struct tally tally;
    for (int threads = 1; threads <= 5; threads += 2) {
        struct kern_pool *pool = kern_pool_open(threads);
        ck_assert_int_eq(kern_pool_threads(pool), threads);
        for (int round = 0; round < 2000; round++) {
            int tasks = 1 + round * 7 % 40;
            memset(&tally, 0, sizeof tally);
            kern_pool_run(pool, count_task, &tally, tasks);
            for (int i = 0; i < 500; i++)
                ck_assert_int_eq(tally.count[i], i < tasks);
        }
        kern_pool_close(pool);
    }
}
END_TEST

START_TEST(an_idle_pool_uses_no_processor)
{
    struct kern_pool *pool = kern_pool_open(4);
    struct tally tally = {0};
    kern_pool_run(pool, count_task, &tally, 100);
    nanosleep(&(struct timespec){0, 100000000}, NULL); /* long enough to fall asleep on a busy machine */
    clock_t before = clock();
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    ck_assert_int_lt(clock() - before, CLOCKS_PER_SEC / 50);
    kern_pool_close(pool);
}
END_TEST

/* A word among the processor's flags, as the kernel sees them. */
static bool cpu_has(const char *flag)
{
    char line[8192];
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "r");
    ck_assert_ptr_nonnull(f);
    while (!found && fgets(line, sizeof line, f))
        found = strncmp(line, "flags", 5) == 0 && strstr(line, flag);
    fclose(f);
    return found;
}

START_TEST(a_name_chooses_the_table)
{
    ck_assert_str_eq(kern_ops_find("ref")->name, "ref");
    ck_assert_ptr_null(kern_ops_find("abacus"));
    if (!cpu_has("amx_int8"))
        ck_assert_ptr_null(kern_ops_find("amx"));
    if (!cpu_has("avx512_bf16"))
        ck_assert_ptr_null(kern_ops_find("avx512bf16"));
    ck_assert_ptr_nonnull(kern_ops_find(NULL));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, row_ops_agree);
    tcase_add_test(tests, quantization_agrees);
    tcase_add_test(tests, choosing_a_token_agrees);
    tcase_add_test(tests, attention_of_a_chunk_agrees);
    tcase_add_test(tests, merging_agrees);
    tcase_add_test(tests, a_pool_runs_each_task_once);
    tcase_add_test(tests, an_idle_pool_uses_no_processor);
    tcase_add_test(tests, a_name_chooses_the_table);
}

RUN("kernels_ops", add_tests)
