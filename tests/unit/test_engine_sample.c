/* Sampler and stop handling: order of operations, distributions, seeds; held-back characters and stop strings. */
#include <math.h>

#include "engine/sample.h"
#include "engine/stop.h"
#include "run.h"
#include "verifier/base/utf8.h"

enum { VOCAB = 50 };

static struct sample_scratch scratch;
static struct sample_params plain(void)
{
    return (struct sample_params){.temperature = 1, .top_p = 1, .repetition = 1, .top = -1};
}

static void make_logits(float *logits)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)((i * 37) % 50) / 10.0f;
}

static int32_t pick(const struct sample_params *p, const struct sample_history *h)
{
    float logits[VOCAB];
    struct sample_result r;
    make_logits(logits);
    sample_pick(&r, p, h, logits, VOCAB, &scratch);
    return r.id;
}

static void set_up(void)
{
    ck_assert(sample_scratch_init(&scratch, VOCAB));
}

static void tear_down(void)
{
    sample_scratch_release(&scratch);
}

START_TEST(greedy_takes_the_lowest_of_equals)
{
    struct sample_params p = plain();
    struct sample_result r;
    float flat[VOCAB] = {0};
    p.temperature = 0;
    ck_assert_int_eq(pick(&p, NULL), 27); /* 27 * 37 % 50 == 49 */
    sample_pick(&r, &p, NULL, flat, VOCAB, &scratch);
    ck_assert_int_eq(r.id, 0);
    for (int i = 0; i < VOCAB; i++)
        flat[i] = i % 2 ? NAN : -INFINITY;
    sample_pick(&r, &p, NULL, flat, VOCAB, &scratch);
    ck_assert_int_eq(r.id, -1);
}
END_TEST

START_TEST(greedy_looks_at_all_of_a_large_vocabulary)
{
    enum { MANY = 2531 };
    static const int at[] = {0, 1023, 1024, 2047, MANY - 1};
    static float logits[MANY];
    struct sample_params p = plain();
    struct sample_result r;
    struct sample_scratch large;
    p.temperature = 0;
    ck_assert(sample_scratch_init(&large, MANY));
    for (size_t k = sizeof at / sizeof *at; k-- > 0;) {
        for (int i = 0; i < MANY; i++)
            logits[i] = i % 7 == 3 ? NAN : -5;
        for (size_t same = k; same < sizeof at / sizeof *at; same++)
            logits[at[same]] = -1;
        sample_pick(&r, &p, NULL, logits, MANY, &large);
        ck_assert_int_eq(r.id, at[k]);
    }
    sample_scratch_release(&large);
}
END_TEST

START_TEST(logprobs_are_of_the_raw_distribution)
{
    struct sample_params p = plain();
    struct sample_bias bias[] = {{3, 100}};
    struct sample_result r;
    float logits[VOCAB];
    double sum = 0;
    make_logits(logits);
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i]);
    p.temperature = 0;
    p.top = 5;
    p.bias = bias;
    p.bias_count = 1;
    sample_pick(&r, &p, NULL, logits, VOCAB, &scratch);
    ck_assert_int_eq(r.id, 3);
    ck_assert_double_eq_tol((double)r.logprob, (3 * 37 % 50) / 10.0 - log(sum), 1e-5);
    ck_assert_uint_eq(r.top_count, 5);
    ck_assert_int_eq(r.top[0].id, 27);
    for (size_t i = 1; i < 5; i++)
        ck_assert(r.top[i].logprob <= r.top[i - 1].logprob);
    make_logits(logits);
    struct sample_result again;
    sample_logprobs(&again, logits, VOCAB, 3, 5, &scratch);
    ck_assert(again.logprob == r.logprob && again.top[4].id == r.top[4].id);
}
END_TEST

START_TEST(limits_and_penalties)
{
    struct sample_params p = plain();
    uint32_t allowed[2] = {1u << 4 | 1u << 9, 0};
    int32_t banned[] = {27};
    struct sample_history h = {0};
    p.temperature = 0;
    p.banned = banned;
    p.banned_count = 1;
    ck_assert_int_eq(pick(&p, NULL), 4); /* 4 * 37 % 50 == 48 */
    p.allowed = allowed;
    ck_assert_int_eq(pick(&p, NULL), 4);
    allowed[0] = 1u << 9;
    ck_assert_int_eq(pick(&p, NULL), 9);
    p = plain();
    p.temperature = 0;
    for (int i = 0; i < 1000; i++)
        ck_assert(sample_history_add(&h, i % 200 + 1000, false));
    ck_assert(sample_history_add(&h, 27, false));
    p.frequency = 1; /* the prompt does not count for presence and frequency */
    ck_assert_int_eq(pick(&p, &h), 27);
    ck_assert(sample_history_add(&h, 27, true));
    ck_assert_int_eq(pick(&p, &h), 4);
    p.frequency = 0;
    p.repetition = 2; /* it does for repetition */
    ck_assert_int_eq(pick(&p, &h), 4);
    sample_history_release(&h);
}
END_TEST

START_TEST(seeds_repeat_and_positions_differ)
{
    struct sample_params p = plain();
    int32_t first[200];
    int same = 0;
    for (uint32_t i = 0; i < 200; i++) {
        p.seed = 7;
        p.position = i;
        first[i] = pick(&p, NULL);
        ck_assert_int_eq(pick(&p, NULL), first[i]);
        p.choice = 1;
        same += pick(&p, NULL) == first[i];
        p.choice = 0;
    }
    ck_assert_int_lt(same, 40);
}
END_TEST

/* Frequencies of 40000 draws against the exact distribution that the parameters leave. */
START_TEST(frequencies_are_right)
{
    static const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
    } cases[] = {{1, 1, 0, 0}, {0.7f, 1, 0, 5}, {1.5f, 0.8f, 0, 0}, {1, 1, 0.2f, 0}, {1, 0.5f, 0, 20}, {1, 0, 0, 0}};
    struct sample_params p = plain();
    double want[VOCAB], all = 0, most = 0;
    float logits[VOCAB];
    int order[VOCAB], count[VOCAB] = {0};
    p.temperature = cases[_i].temperature;
    p.top_p = cases[_i].top_p;
    p.min_p = cases[_i].min_p;
    p.top_k = cases[_i].top_k;
    make_logits(logits);
    for (int i = 0; i < VOCAB; i++) {
        want[i] = exp((double)logits[i] / (double)p.temperature);
        order[(49 - (i * 37) % 50)] = i;
    }
    most = want[order[0]];
    for (int i = 0; i < VOCAB; i++) /* min-p looks at probabilities after temperature */
        if (want[i] < (double)p.min_p * most * (1 - 1e-6))
            want[i] = 0;
    for (int i = 0; i < VOCAB; i++)
        if (p.top_k && i >= (int)p.top_k)
            want[order[i]] = 0;
    for (int i = 0; i < VOCAB; i++)
        all += want[i];
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) {
        double w = want[order[i]];
        if (i > 0 && sum >= (double)p.top_p * all)
            want[order[i]] = 0;
        sum += w;
    }
    all = 0;
    for (int i = 0; i < VOCAB; i++)
        all += want[i];
    for (uint32_t i = 0; i < 40000; i++) {
        p.seed = 99;
        p.position = i;
        count[pick(&p, NULL)]++;
    }
    for (int i = 0; i < VOCAB; i++) {
        double expected = 40000 * want[i] / all;
        ck_assert_double_le(fabs(count[i] - expected), 5 * sqrt(expected) + 1e-9);
    }
}
END_TEST

START_TEST(selection_is_exact_for_large_vocabularies)
{
    enum { MANY = 30000 };
    static float logits[MANY];
    struct sample_scratch big;
    struct sample_result r;
    struct sample_params p = plain();
    ck_assert(sample_scratch_init(&big, MANY));
    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < MANY; i++)
            logits[i] = (float)((i * 7919u + round * 104729u) % 1000) / 100; /* many equals */
        p.top_k = 1 + round;
        p.top_p = round % 2 ? 0.9f : 1;
        p.seed = round;
        sample_pick(&r, &p, NULL, logits, MANY, &big);
        ck_assert(logits[r.id] >= 9.98f); /* 30 of each value: fifty are within two values of the top */
    }
    sample_scratch_release(&big);
}
END_TEST

/* Wide nuclei and large k go by thresholds: half of equal weights lie in half of the mass. */
START_TEST(wide_nuclei_are_exact)
{
    enum { MANY = 40000 };
    static float logits[MANY];
    struct sample_scratch big;
    struct sample_result r;
    struct sample_params p = plain();
    ck_assert(sample_scratch_init(&big, MANY));
    for (uint32_t round = 0; round < 40; round++) {
        for (int i = 0; i < MANY; i++)
            logits[i] = (float)i * 1e-4f; /* weights e^0 .. e^-4 */
        p.position = round;
        p.top_p = round % 2 ? 0.5f : 1;
        p.top_k = round % 2 ? 0 : 10000;
        sample_pick(&r, &p, NULL, logits, MANY, &big);
        /* the heaviest ids with half of the mass: (1 - e^-x) = (1 - e^-4) / 2, x = 0.675 */
        ck_assert_int_ge(r.id, round % 2 ? MANY - 6760 : MANY - 10000);
    }
    sample_scratch_release(&big);
}
END_TEST

/* --- stop -------------------------------------------------------------------------------------------------- */

struct sink {
    char text[256];
    size_t len, tokens;
};

static void drain(struct stop *s, struct sink *out, size_t most)
{
    struct span t;
    while ((t = stop_text(s, most)).len > 0) {
        ck_assert(utf8_is_valid(t));
        memcpy(out->text + out->len, t.data, t.len);
        out->len += t.len;
        size_t n = stop_released(s, t.len);
        stop_sent(s, t.len);
        stop_forget(s, n);
        out->tokens += n;
    }
    size_t n = stop_released(s, 0);
    stop_forget(s, n);
    out->tokens += n;
    out->text[out->len] = 0;
}

/* Feed `pieces`, check what is out after each. Returns how many were fed. */
static size_t feed(struct stop *s, struct sink *out, const char *const *pieces, const char *const *after)
{
    size_t i = 0;
    bool hit = false;
    for (; pieces[i] && !hit; i++) {
        hit = stop_feed(s, span_str(pieces[i]));
        drain(s, out, 7);
        if (after && after[i])
            ck_assert_str_eq(out->text, after[i]);
    }
    stop_finish(s);
    drain(s, out, 4096);
    return i;
}

START_TEST(characters_are_whole)
{
    struct stop s;
    struct sink out = {0};
    const char *pieces[] = {"a\xc3", "\xa4", "\xf0\x9f", "\x98", "\x80z", "\xff", "q\xe2\x82", NULL};
    const char *after[] = {"a", "a\xc3\xa4", "a\xc3\xa4", "a\xc3\xa4", "a\xc3\xa4\xf0\x9f\x98\x80z"};
    stop_init(&s, NULL, 0, false, false);
    ck_assert_uint_eq(
        feed(&s, &out, pieces, (const char *const[]){after[0], after[1], after[2], after[3], after[4], NULL, NULL}), 7);
    ck_assert_str_eq(out.text, "a\xc3\xa4\xf0\x9f\x98\x80z\xef\xbf\xbdq\xef\xbf\xbd");
    ck_assert_uint_eq(out.tokens, 7);
    stop_release(&s);
}
END_TEST

START_TEST(stop_strings_span_tokens)
{
    struct stop s;
    struct sink out = {0};
    struct span strings[] = {span_str("END"), span_str("\n\n"), span_str("")};
    const char *pieces[] = {"one E", "N", "X two\n", "three E", "N", "D four", "five", NULL};
    const char *after[] = {"one ", "one ", "one ENX two", "one ENX two\nthree ", NULL, NULL, NULL};
    stop_init(&s, strings, 3, false, false);
    ck_assert_uint_eq(feed(&s, &out, pieces, after), 6);
    ck_assert_str_eq(out.text, "one ENX two\nthree ");
    ck_assert_uint_eq(out.tokens, 4); /* "three E" is cut, and told with the part that is shown */
    ck_assert(s.hit);
    stop_release(&s);
    out = (struct sink){0};
    stop_init(&s, strings, 3, true, false);
    feed(&s, &out, pieces, NULL);
    ck_assert_str_eq(out.text, "one ENX two\nthree END");
    stop_release(&s);
}
END_TEST

/* What ends too early does not count, not even later; what only begins there does. */
START_TEST(early_stop_strings_are_text)
{
    struct stop s;
    struct sink out = {0};
    struct span strings[] = {span_str("END"), span_str("ND!"), span_str("xENDy")};
    const char *pieces[] = {"a xEND", "b EN", "D! c", NULL};
    stop_init(&s, strings, 3, false, false);
    s.deaf = true;
    ck_assert(!stop_feed(&s, span_str(pieces[0])));
    drain(&s, &out, 7);
    ck_assert_str_eq(out.text, "a "); /* it may yet be the third */
    ck_assert(!stop_feed(&s, span_str(pieces[1])));
    s.deaf = false;
    drain(&s, &out, 7);
    ck_assert_str_eq(out.text, "a xENDb ");
    ck_assert(stop_feed(&s, span_str(pieces[2])));
    drain(&s, &out, 7);
    ck_assert_str_eq(out.text, "a xENDb ");
    ck_assert_uint_eq(out.tokens, 2);
    stop_release(&s);
}
END_TEST

START_TEST(held_text_comes_out_at_the_end)
{
    struct stop s;
    struct sink out = {0};
    struct span strings[] = {span_str("STOP"), span_str("TOPS!")};
    const char *pieces[] = {" x", "S", "TO", NULL};
    stop_init(&s, strings, 2, false, true);
    feed(&s, &out, pieces, NULL);
    ck_assert_str_eq(out.text, "xSTO");
    ck_assert_uint_eq(out.tokens, 3);
    stop_release(&s);
}
END_TEST

START_TEST(every_cut_gives_the_same_text)
{
    const char *whole = "Gr\xc3\xbc\xc3\x9f"
                        "e und K\xc3\xbcsse. Halt! Weiter.";
    size_t len = strlen(whole);
    struct span strings[] = {span_str("Halt"), span_str("lt!"), span_str("K\xc3\xbcste")};
    for (size_t a = 0; a <= len; a++)
        for (size_t b = a; b <= len; b += 3) {
            struct stop s;
            struct sink out = {0};
            stop_init(&s, strings, 3, false, false);
            struct span parts[] = {span_of(whole, a), span_of(whole + a, b - a), span_of(whole + b, len - b)};
            bool hit = false;
            for (int i = 0; i < 3 && !hit; i++) {
                hit = stop_feed(&s, parts[i]);
                drain(&s, &out, 5);
            }
            ck_assert(hit);
            ck_assert_str_eq(out.text, "Gr\xc3\xbc\xc3\x9f"
                                       "e und K\xc3\xbcsse. ");
            stop_release(&s);
        }
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, greedy_takes_the_lowest_of_equals);
    tcase_add_test(t, greedy_looks_at_all_of_a_large_vocabulary);
    tcase_add_test(t, logprobs_are_of_the_raw_distribution);
    tcase_add_test(t, limits_and_penalties);
    tcase_add_test(t, seeds_repeat_and_positions_differ);
    tcase_add_loop_test(t, frequencies_are_right, 0, 6);
    tcase_add_test(t, selection_is_exact_for_large_vocabularies);
    tcase_add_test(t, wide_nuclei_are_exact);
    tcase_add_test(t, characters_are_whole);
    tcase_add_test(t, stop_strings_span_tokens);
    tcase_add_test(t, early_stop_strings_are_text);
    tcase_add_test(t, held_text_comes_out_at_the_end);
    tcase_add_test(t, every_cut_gives_the_same_text);
}

RUN("engine_sample", add_tests)
