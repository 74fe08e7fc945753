/* Is a token drawn as a plain sampler in f64, which sorts all ids, would draw it? For nuclei and counts of every size,
 * equal logits at the edge, minus infinities and NaN, with every table of kernels that runs here. */
#include <float.h>

#include "engine/sample.h"
#include "unit/kernels_common.h"
#include "unit/run.h"

enum { VOCAB = 60000, DRAWS = 12 };

struct weighed {
    double weight;
    int32_t id;
};

static float logits[VOCAB], used_up[VOCAB];
static struct weighed sorted[VOCAB];
static double kept[VOCAB]; /* weights of those that may be drawn, else 0 */
static struct sample_scratch scratch;

static void open_scratch(void)
{
    ck_assert(sample_scratch_init(&scratch, VOCAB));
}

static void close_scratch(void)
{
    sample_scratch_release(&scratch);
}

static int by_weight(const void *a, const void *b)
{
    const struct weighed *x = a, *y = b;
    return x->weight > y->weight ? -1 : x->weight < y->weight ? 1 : x->id < y->id ? -1 : 1;
}

/* All ids by weight; returns how many weigh anything. */
static int sort_all(const struct sample_params *p, int vocab)
{
    double most = -INFINITY, inverse = (double)(1 / p->temperature);
    int count = 0;
    for (int i = 0; i < vocab; i++)
        most = (double)logits[i] > most ? (double)logits[i] : most;
    double least = p->min_p > 0 ? most + log((double)p->min_p) * (double)p->temperature : -DBL_MAX;
    for (int i = 0; i < vocab; i++) {
        double power = ((double)logits[i] - most) * inverse;
        sorted[i] = (struct weighed){(double)logits[i] >= least && power >= -87 ? exp(power) : 0, i};
        count += sorted[i].weight > 0;
    }
    qsort(sorted, (size_t)vocab, sizeof *sorted, by_weight);
    return count;
}

static double mass(int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += sorted[i].weight;
    return sum;
}

/* Those that go with the last of `count` when equals stay together. */
static int with_equals(int count, int all)
{
    while (count < all && sorted[count].weight == sorted[count - 1].weight)
        count++;
    return count;
}

/* How many of the heaviest of `all` sorted may be drawn; `*in_order` when they are drawn heaviest first, else in the
 * order of ids. */
static int reference(const struct sample_params *p, int all, bool *in_order)
{
    int count = all;
    *in_order = p->top_k > 0 && p->top_k <= 2048;
    if (p->top_k > 0 && p->top_k < (uint32_t)all)
        count = *in_order ? (int)p->top_k : with_equals((int)p->top_k, all);
    if (p->top_p >= 1)
        return count;
    double goal = (double)p->top_p * mass(count), sum = 0;
    for (int i = 0; i < count; i++)
        if ((sum += sorted[i].weight) >= goal)
            count = i + 1;
    *in_order = *in_order || (p->top_k == 0 && count <= 64);
    return *in_order ? count : with_equals(count, all);
}

/* Does the draw fall where the reference's distribution has that id? f32 weights are off by some 1e-6. */
static void check_draw(const struct sample_params *p, int vocab, int count, bool in_order)
{
    double all = mass(count), sum = 0, target = all * sample_uniform(p->seed, p->choice, p->position);
    double slack = 2e-6 * all;
    struct sample_result r;
    memcpy(used_up, logits, (size_t)vocab * sizeof *logits);
    sample_pick(&r, p, NULL, used_up, (size_t)vocab, &scratch);
    bool right = r.id >= 0 && kept[r.id] > 0;
    for (int i = 0; right && (in_order ? sorted[i].id : i) != r.id; i++)
        sum += in_order ? sorted[i].weight : kept[i];
    ck_assert_msg(right && target >= sum - slack && target <= sum + kept[r.id] + slack,
                  "%s: %d of %d kept, top-k %u, top-p %.9g, position %u: %d", scratch.ops->name, count, vocab, p->top_k,
                  (double)p->top_p, p->position, r.id);
}

/* `all` ids weigh anything and are sorted. */
static void compare_sorted(struct sample_params *p, int vocab, int all)
{
    bool in_order = false;
    int count = reference(p, all, &in_order);
    memset(kept, 0, sizeof kept);
    for (int i = 0; i < count; i++)
        kept[sorted[i].id] = sorted[i].weight;
    for (p->position = 0; p->position < DRAWS; p->position++)
        check_draw(p, vocab, count, in_order);
}

static void compare(struct sample_params *p, int vocab)
{
    compare_sorted(p, vocab, sort_all(p, vocab));
}

enum shape { NATURAL, FLAT, EQUALS, HOLES, SHAPES };

static void make(enum shape shape, int vocab)
{
    uint32_t state = 17;
    for (int i = 0; i < vocab; i++) {
        float a = noise(&state), b = noise(&state), c = noise(&state);
        logits[i] = shape == FLAT ? 0.2f * a : shape == EQUALS ? floorf(8 * (a + b)) / 4 : 4 * (a + b + c);
        if (shape == HOLES && i % 5 < 2)
            logits[i] = i % 5 ? NAN : -INFINITY;
    }
}

static void each_table(void (*test)(const struct kern_ops *ops))
{
    test(&kern_ops_ref);
    each_fast(test);
}

/* top-p such that the nucleus has just so many ids, or those and their equals. */
static void nuclei(const struct kern_ops *ops)
{
    static const int sizes[] = {1, 2, 63, 64, 65, 255, 2047, 2048, 2049, 10000, 36000, 50000, VOCAB};
    scratch.ops = ops;
    for (int shape = 0; shape < SHAPES; shape++) {
        struct sample_params p = {.temperature = shape == FLAT ? 1 : 2, .repetition = 1, .seed = 5, .top = -1};
        make((enum shape)shape, VOCAB);
        int all = sort_all(&p, VOCAB);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int size = sizes[i] < all ? sizes[i] : all;
            p.top_p = (float)((mass(size) - sorted[size - 1].weight / 2) / mass(all));
            compare_sorted(&p, VOCAB, all);
        }
    }
}

START_TEST(nuclei_of_every_size)
{
    each_table(nuclei);
}
END_TEST

static void counts(const struct kern_ops *ops)
{
    static const uint32_t sizes[] = {1, 2, 64, 100, 235, 236, 2048, 2049, 30000, VOCAB, 1000000};
    scratch.ops = ops;
    for (int shape = 0; shape < SHAPES; shape++) {
        struct sample_params p = {.temperature = 2, .repetition = 1, .seed = 6, .top = -1};
        make((enum shape)shape, VOCAB);
        int all = sort_all(&p, VOCAB);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            p.top_k = sizes[i];
            p.top_p = 1;
            compare_sorted(&p, VOCAB, all);
            p.top_p = 0.8137f;
            compare_sorted(&p, VOCAB, all);
        }
    }
}

START_TEST(counts_of_every_size)
{
    each_table(counts);
}
END_TEST

/* Small vocabularies, min-p, nothing filtered, all equal, one id left. */
static void edges(const struct kern_ops *ops)
{
    static const int vocabs[] = {1, 2, 17, 255, 256, 257, 1000};
    scratch.ops = ops;
    for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
        for (int shape = 0; shape < SHAPES + 2; shape++) {
            struct sample_params p = {.temperature = 0.9f, .top_p = 1, .repetition = 1, .seed = 7, .top = -1};
            make(shape < SHAPES ? (enum shape)shape : FLAT, vocabs[i]);
            for (int k = 0; k < vocabs[i] && shape >= SHAPES; k++)
                logits[k] = shape == SHAPES || k == vocabs[i] - 1 ? 2 : -INFINITY;
            logits[vocabs[i] / 2] = 2.25f;
            compare(&p, vocabs[i]);
            p.min_p = 0.1003f;
            compare(&p, vocabs[i]);
            p.top_p = 0.9003f;
            compare(&p, vocabs[i]);
            p.min_p = 0;
            compare(&p, vocabs[i]);
            p.top_p = 0;
            compare(&p, vocabs[i]);
            p.top_p = 0x1.fffffep-1f; /* the last below 1: sums round, and no id is lost to it */
            struct sample_result r;
            memcpy(used_up, logits, sizeof used_up);
            sample_pick(&r, &p, NULL, used_up, (size_t)vocabs[i], &scratch);
            ck_assert(r.id >= 0 && logits[r.id] > -INFINITY);
        }
}

START_TEST(edges_of_every_rule)
{
    each_table(edges);
}
END_TEST

static int by_logit(const void *a, const void *b)
{
    const struct sample_logprob *x = a, *y = b;
    return x->logprob > y->logprob ? -1 : x->logprob < y->logprob ? 1 : x->id < y->id ? -1 : 1;
}

/* The most likely of some thousand ids, with stretches of nothing among them. */
static void tops(const struct kern_ops *ops)
{
    enum { MANY = 3001 };
    static struct sample_logprob all[MANY];
    scratch.ops = ops;
    for (int shape = 0; shape < SHAPES; shape++) {
        size_t count = 0;
        double sum = 0;
        make((enum shape)shape, MANY);
        for (int i = 0; i < MANY; i++) {
            if (i / KERN_STRETCH == 3)
                logits[i] = NAN;
            if (!(logits[i] > -INFINITY))
                continue;
            all[count++] = (struct sample_logprob){i, logits[i]};
            sum += exp((double)logits[i]);
        }
        qsort(all, count, sizeof *all, by_logit);
        for (int top = 0; top <= SAMPLE_TOP_MAX; top += 10) {
            struct sample_result r;
            sample_logprobs(&r, logits, MANY, all[0].id, top, &scratch);
            ck_assert_uint_eq(r.top_count, (size_t)top);
            ck_assert(fabs((double)r.logprob - ((double)all[0].logprob - log(sum))) < 2e-6);
            for (size_t i = 0; i < r.top_count; i++)
                ck_assert_int_eq(r.top[i].id, all[i].id);
        }
    }
}

START_TEST(the_most_likely_are_told)
{
    each_table(tops);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, open_scratch, close_scratch);
    tcase_add_test(t, nuclei_of_every_size);
    tcase_add_test(t, counts_of_every_size);
    tcase_add_test(t, edges_of_every_rule);
    tcase_add_test(t, the_most_likely_are_told);
}

RUN("engine_draw", add_tests)
