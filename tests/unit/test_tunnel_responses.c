/* Is an answer of the Responses API whole, or said not to be? */
#include "tunnel/openai_responses.h"

#include <jansson.h>
#include <stdio.h>

#include "unit/run.h"

#define TEXT(s)                                                                                                        \
    {                                                                                                                  \
        (const uint8_t *)(s), sizeof(s) - 1                                                                            \
    }

static const struct tunnel_event start = {.kind = TUNNEL_EVENT_START, .prompt_tokens = 5},
                                 text = {.kind = TUNNEL_EVENT_DELTA, .text = TEXT("Hello")},
                                 name = {.kind = TUNNEL_EVENT_DELTA, .channel = TUNNEL_TOOL_NAME, .text = TEXT("f")},
                                 finish = {.kind = TUNNEL_EVENT_FINISH},
                                 length = {.kind = TUNNEL_EVENT_FINISH, .finish = TUNNEL_FINISH_LENGTH},
                                 done = {.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 5, .completion_tokens = 1};

static struct openai_responses *opened(void)
{
    struct openai_error why;
    struct writer chat = writer_with_max(4096);
    struct openai_responses *r = openai_responses_parse(span_str("{\"input\":\"Hi\"}"), &chat, &why);
    ck_assert_ptr_nonnull(r);
    openai_responses_begin(r, "1", "m", 7);
    writer_release(&chat);
    return r;
}

/* Feed these to both forms; the body's status, and what the body and the stream say. */
static int answer(const struct tunnel_event *const *ev, size_t count, struct writer *body, struct writer *stream)
{
    struct openai_responses *r = opened(), *s = opened();
    bool over = false, streamed = false;
    for (size_t i = 0; i < count && !over; i++) {
        ck_assert(!over && !streamed);
        over = openai_responses_collect(r, ev[i]);
        streamed = openai_responses_stream(s, ev[i], stream);
        ck_assert(over == streamed);
    }
    ck_assert(over && writer_ok(stream));
    int status = openai_responses_body(r, body);
    ck_assert(writer_ok(body));
    writer_u8(body, 0);
    writer_u8(stream, 0);
    openai_responses_free(r);
    openai_responses_free(s);
    return status;
}

static void expect(const struct tunnel_event *const *ev, size_t count, int status, const char *in_body,
                   const char *in_stream)
{
    struct writer body = writer_with_max(1 << 20), stream = writer_with_max(1 << 20);
    ck_assert_int_eq(answer(ev, count, &body, &stream), status);
    ck_assert_msg(strstr((char *)body.data, in_body) != NULL, "%s", (char *)body.data);
    ck_assert_msg(strstr((char *)stream.data, in_stream) != NULL, "%s", (char *)stream.data);
    ck_assert((status == 200) == (strstr((char *)stream.data, "event: response.failed") == NULL));
    writer_release(&body);
    writer_release(&stream);
}

START_TEST(a_whole_answer_is_complete)
{
    const struct tunnel_event *whole[] = {&start, &text, &finish, &done}, *cut[] = {&start, &text, &length, &done};
    expect(whole, 4, 200,
           "\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello\"",
           "event: response.completed");
    expect(cut, 4, 200, "\"reason\":\"max_output_tokens\"", "event: response.incomplete");
}
END_TEST

START_TEST(an_answer_cut_short_never_looks_whole)
{
    const struct tunnel_event *cut[] = {&start, &text, &done};
    expect(cut, 3, 502, "before the answer was complete", "engine_unavailable");
}
END_TEST

START_TEST(calls_without_a_place_are_not_left_out)
{
    static struct tunnel_event calls[129];
    const struct tunnel_event *ev[132] = {&start};
    for (uint32_t i = 0; i < 129; i++) {
        calls[i] = name;
        calls[i].tool_index = i;
        ev[1 + i] = &calls[i];
    }
    ev[129] = &finish;
    ev[130] = &done;
    expect(ev, 131, 200, "\"fc_1_127\"", "event: response.completed"); /* 128 calls */
    ev[129] = &calls[128];
    ev[130] = &finish;
    ev[131] = &done;
    expect(ev, 132, 503, "no room", "overloaded");
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_whole_answer_is_complete);
    tcase_add_test(t, an_answer_cut_short_never_looks_whole);
    tcase_add_test(t, calls_without_a_place_are_not_left_out);
}

RUN("tunnel_responses", add_tests)
