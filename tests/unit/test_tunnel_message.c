/* Does every field of a request and of each event survive the trip, and is every cut or stretched copy refused? */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "tunnel/message.h"
#include "unit/run.h"

static struct tunnel_request *full_request(void)
{
    static struct tunnel_request q;
    tunnel_request_defaults(&q);
    memset(q.id, 7, sizeof q.id);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str("m");
    q.prompt_count = 2;
    q.prompt[0] = (struct tunnel_prompt){false, span_str("Once")};
    q.prompt[1] = (struct tunnel_prompt){true, span_of("\0\0\0\5\0\0\1\0", 8)};
    q.has_max_tokens = true;
    q.max_tokens = 16;
    q.temperature = 0.25;
    q.has_seed = true;
    q.seed = UINT64_MAX;
    q.stop_count = 1;
    q.stop[0] = span_str("\n");
    q.stop_id_count = 1;
    q.stop_id[0] = 151643;
    q.bias_count = 1;
    q.bias[0] = (struct tunnel_bias){42, -100};
    q.allowed_ids = span_of("\0\0\0\5\0\0\1\0", 8);
    q.bad_word_count = 1;
    q.bad_word[0] = span_str("no");
    q.truncate_prompt = -1;
    q.return_ids = true;
    q.logprobs = 3;
    q.salt = span_str("tenant");
    q.priority = -5;
    q.timeout_ms = 1000;
    return &q;
}

START_TEST(a_request_survives_the_trip)
{
    static struct tunnel_request got;
    struct writer w = writer_with_max(1 << 20);
    ck_assert(tunnel_request_pack(&w, full_request()));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_OK);
    ck_assert_uint_eq(got.prompt_count, 2);
    ck_assert(span_is(got.prompt[0].bytes, "Once"));
    ck_assert_uint_eq(tunnel_ids_at(got.prompt[1].bytes, 1), 256);
    ck_assert_double_eq(got.temperature, 0.25);
    ck_assert_uint_eq(got.seed, UINT64_MAX);
    ck_assert_double_eq(got.bias[0].bias, -100);
    ck_assert_uint_eq(tunnel_ids_at(got.allowed_ids, 1), 256);
    ck_assert(got.bad_word_count == 1 && span_is(got.bad_word[0], "no"));
    ck_assert_int_eq(got.truncate_prompt, -1);
    ck_assert(got.return_ids);
    ck_assert_int_eq(got.logprobs, 3);
    ck_assert_int_eq(got.prompt_logprobs, -1);
    ck_assert_int_eq(got.priority, -5);
    ck_assert(span_is(got.salt, "tenant"));
    writer_release(&w);
}
END_TEST

/* What a client leaves to the model stays left out, and what it gives does not become so. */
START_TEST(sampling_may_be_left_out)
{
    static struct tunnel_request got;
    struct tunnel_request *q = full_request();
    struct writer w = writer_with_max(1 << 20);
    q->temperature = (double)NAN;
    q->top_p = 0.5;
    q->min_p = 0;
    q->repetition_penalty = (double)NAN;
    q->top_k = 0;
    ck_assert(tunnel_request_pack(&w, q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_OK);
    ck_assert(isnan(got.temperature) && isnan(got.repetition_penalty));
    ck_assert(got.top_p == 0.5 && got.min_p == 0 && got.top_k == 0);
    q->top_k = TUNNEL_TOP_K_LEFT_OUT;
    q->top_p = q->min_p = (double)NAN;
    writer_reset(&w);
    ck_assert(tunnel_request_pack(&w, q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_OK);
    ck_assert(isnan(got.top_p) && isnan(got.min_p) && got.top_k == TUNNEL_TOP_K_LEFT_OUT);
    q->presence_penalty = (double)NAN; /* this one has no nil */
    writer_reset(&w);
    ck_assert(tunnel_request_pack(&w, q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_RANGE);
    writer_release(&w);
}
END_TEST

/* So many inputs are for vectors only: the same bytes of another task are refused. */
START_TEST(each_task_has_its_most_prompts)
{
    static struct tunnel_request q, got;
    struct writer w = writer_with_max(1 << 20);
    q = *full_request();
    q.task = TUNNEL_EMBED;
    q.prompt_count = TUNNEL_INPUTS_MAX;
    for (size_t i = 0; i < TUNNEL_INPUTS_MAX; i++)
        q.prompt[i] = (struct tunnel_prompt){false, span_str("x")};
    ck_assert(tunnel_request_pack(&w, &q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_OK);
    ck_assert(got.prompt_count == TUNNEL_INPUTS_MAX && span_is(got.prompt[TUNNEL_INPUTS_MAX - 1].bytes, "x"));
    uint8_t *task = memmem(w.data, w.len, "\xa4task", 5);
    ck_assert(task && task[5] == TUNNEL_EMBED);
    task[5] = TUNNEL_COMPLETION;
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_SIZE);
    writer_release(&w);
}
END_TEST

START_TEST(a_cut_or_stretched_request_is_refused)
{
    static struct tunnel_request got;
    struct writer w = writer_with_max(1 << 20);
    ck_assert(tunnel_request_pack(&w, full_request()));
    struct span whole = writer_span(&w);
    for (size_t len = 0; len < whole.len; len++)
        ck_assert_int_ne(tunnel_request_parse(&got, span_of(whole.data, len)), READER_OK);
    writer_u8(&w, 0);
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_TRAILING);
    writer_release(&w);
}
END_TEST

START_TEST(a_request_out_of_range_is_refused)
{
    static struct tunnel_request got;
    struct tunnel_request *q = full_request();
    struct writer w = writer_with_max(1 << 20);
    q->temperature = 2.5;
    ck_assert(tunnel_request_pack(&w, q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_RANGE);
    writer_reset(&w);
    q = full_request();
    q->top_k = (uint32_t)INT32_MAX + 1;
    ck_assert(tunnel_request_pack(&w, q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_RANGE);
    writer_reset(&w);
    q = full_request();
    q->n = 0;
    ck_assert(tunnel_request_pack(&w, q));
    ck_assert_int_eq(tunnel_request_parse(&got, writer_span(&w)), READER_RANGE);
    writer_release(&w);
}
END_TEST

static void round_trip(const struct tunnel_event *ev, struct tunnel_event *got)
{
    static uint8_t keep[TUNNEL_EVENT_MAX];
    struct writer w = writer_with_max(TUNNEL_EVENT_MAX);
    ck_assert(tunnel_event_pack(&w, ev));
    struct span s = writer_span(&w);
    memcpy(keep, s.data, s.len);
    for (size_t len = 0; len < s.len; len++)
        ck_assert_int_ne(tunnel_event_parse(got, span_of(keep, len)), READER_OK);
    ck_assert_int_eq(tunnel_event_parse(got, span_of(keep, s.len)), READER_OK);
    ck_assert_int_eq(got->kind, ev->kind);
    writer_release(&w);
}

START_TEST(every_event_survives_the_trip)
{
    static struct tunnel_event ev, got;
    ev = (struct tunnel_event){.kind = TUNNEL_EVENT_START, .prompt_tokens = 12, .cached_tokens = 3, .context_max = 99};
    round_trip(&ev, &got);
    ck_assert_uint_eq(got.cached_tokens, 3);
    ck_assert_uint_eq(got.context_max, 99);

    ev = (struct tunnel_event){.kind = TUNNEL_EVENT_PROMPT, .index = 1, .ids = span_of("\0\0\0\1", 4)};
    round_trip(&ev, &got);
    ck_assert_uint_eq(tunnel_ids_count(got.ids), 1);

    ev = (struct tunnel_event){
        .kind = TUNNEL_EVENT_DELTA, .index = 1, .text = span_str("h\xc3\xa9"), .logprob_count = 1};
    ev.logprob[0] = (struct tunnel_logprob){.known = true, .chosen = {5, -0.5, span_str("h")}, .top_count = 1};
    ev.logprob[0].top[0] = (struct tunnel_top){6, -1.5, span_str("x")};
    round_trip(&ev, &got);
    ck_assert(span_is(got.text, "h\xc3\xa9"));
    ck_assert_double_eq(got.logprob[0].top[0].logprob, -1.5);

    ev = (struct tunnel_event){.kind = TUNNEL_EVENT_FINISH, .index = 2, .finish = TUNNEL_FINISH_LENGTH};
    round_trip(&ev, &got);
    ck_assert_int_eq(got.finish, TUNNEL_FINISH_LENGTH);

    ev = (struct tunnel_event){.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 1, .completion_tokens = 2};
    round_trip(&ev, &got);
    ck_assert_uint_eq(got.completion_tokens, 2);

    ev = (struct tunnel_event){.kind = TUNNEL_EVENT_ERROR,
                               .status = 400,
                               .code = span_str("c"),
                               .param = span_str("p"),
                               .text = span_str("t")};
    round_trip(&ev, &got);
    ck_assert_uint_eq(got.status, 400);

    ev = (struct tunnel_event){.kind = TUNNEL_EVENT_RESULT, .ids = span_of("\0\0\0\1", 4)};
    round_trip(&ev, &got);
    ck_assert_uint_eq(tunnel_ids_count(got.ids), 1);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_request_survives_the_trip);
    tcase_add_test(t, sampling_may_be_left_out);
    tcase_add_test(t, each_task_has_its_most_prompts);
    tcase_add_test(t, a_cut_or_stretched_request_is_refused);
    tcase_add_test(t, a_request_out_of_range_is_refused);
    tcase_add_test(t, every_event_survives_the_trip);
}

RUN("tunnel_message", add_tests)
