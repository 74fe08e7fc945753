/* Does the codec serve, ignore or refuse each field by name, and do a stream and a body say the same? */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "tunnel/openai.h"
#include "unit/run.h"

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static const struct {
    enum tunnel_task task;
    const char *body, *param, *code;
} refused[] = {
    {TUNNEL_CHAT, "", NULL, "invalid_json"},
    {TUNNEL_CHAT, "[]", NULL, "invalid_json"},
    {TUNNEL_CHAT, "{\"a\":1,\"a\":2}", NULL, "invalid_json"},
    {TUNNEL_CHAT, "{\"a\":\"\xc0\xaf\"}", NULL, "invalid_json"},
    {TUNNEL_CHAT, "{" HI "} x", NULL, "invalid_json"},
    {TUNNEL_CHAT, "{" HI ",\"temperature\":1e999}", NULL, "invalid_json"},
    {TUNNEL_CHAT, "{}", "messages", NULL},
    {TUNNEL_CHAT, "{\"messages\":[]}", "messages", NULL},
    {TUNNEL_CHAT, "{\"messages\":[7]}", "messages", NULL},
    {TUNNEL_CHAT, "{\"messages\":[{\"role\":\"root\",\"content\":\"x\"}]}", "messages", NULL},
    {TUNNEL_CHAT, "{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content", NULL},
    {TUNNEL_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
     "messages[0].content[0]", NULL},
    {TUNNEL_CHAT, "{" HI ",\"temperature\":2.1}", "temperature", NULL},
    {TUNNEL_CHAT, "{" HI ",\"temperature\":\"1\"}", "temperature", NULL},
    {TUNNEL_CHAT, "{" HI ",\"top_p\":-0.1}", "top_p", NULL},
    {TUNNEL_CHAT, "{" HI ",\"max_tokens\":0}", "max_tokens", NULL},
    {TUNNEL_CHAT, "{" HI ",\"max_completion_tokens\":-1}", "max_completion_tokens", NULL},
    {TUNNEL_CHAT, "{" HI ",\"max_tokens\":1.5}", "max_tokens", NULL},
    {TUNNEL_CHAT, "{" HI ",\"n\":129}", "n", NULL},
    {TUNNEL_CHAT, "{" HI ",\"top_logprobs\":3}", "top_logprobs", NULL},
    {TUNNEL_CHAT, "{" HI ",\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs", NULL},
    {TUNNEL_CHAT, "{" HI ",\"stop\":[\"\"]}", "stop", NULL},
    {TUNNEL_CHAT, "{" HI ",\"logit_bias\":{\"x\":1}}", "logit_bias", NULL},
    {TUNNEL_CHAT, "{" HI ",\"logit_bias\":{\"5\":101}}", "logit_bias", NULL},
    {TUNNEL_CHAT, "{" HI ",\"stream_options\":{\"include_usage\":true}}", "stream_options", NULL},
    {TUNNEL_CHAT, "{" HI ",\"tool_choice\":\"required\"}", "tool_choice", NULL},
    {TUNNEL_CHAT, "{" HI ",\"response_format\":{\"type\":\"xml\"}}", "response_format", NULL},
    {TUNNEL_CHAT, "{" HI ",\"suffix\":\"x\"}", "suffix", NULL},
    {TUNNEL_CHAT, "{" HI ",\"chat_template\":\"x\"}", "chat_template", NULL},
    {TUNNEL_CHAT, "{" HI ",\"bad_words\":\"x\"}", "bad_words", NULL},
    {TUNNEL_CHAT, "{" HI ",\"bad_words\":[\"\"]}", "bad_words", NULL},
    {TUNNEL_CHAT, "{" HI ",\"bad_words\":[1]}", "bad_words", NULL},
    {TUNNEL_CHAT, "{" HI ",\"allowed_token_ids\":[]}", "allowed_token_ids", NULL},
    {TUNNEL_CHAT, "{" HI ",\"allowed_token_ids\":[1,-1]}", "allowed_token_ids", NULL},
    {TUNNEL_CHAT, "{" HI ",\"allowed_token_ids\":7}", "allowed_token_ids", NULL},
    {TUNNEL_CHAT, "{" HI ",\"truncate_prompt_tokens\":0}", "truncate_prompt_tokens", NULL},
    {TUNNEL_CHAT, "{" HI ",\"truncate_prompt_tokens\":-2}", "truncate_prompt_tokens", NULL},
    {TUNNEL_CHAT, "{" HI ",\"request_id\":\"a b\"}", "request_id", NULL},
    {TUNNEL_CHAT, "{" HI ",\"length_penalty\":2}", "length_penalty", NULL},
    {TUNNEL_CHAT, "{" HI ",\"return_token_ids\":1}", "return_token_ids", NULL},
    {TUNNEL_CHAT, "{" HI ",\"include_reasoning\":\"no\"}", "include_reasoning", NULL},
    {TUNNEL_CHAT, "{" HI ",\"skip_special_tokens\":false,\"spaces_between_special_tokens\":true}",
     "spaces_between_special_tokens", NULL},
    {TUNNEL_CHAT, "{" HI ",\"stream\":true,\"prompt_logprobs\":1}", "prompt_logprobs", NULL},
    {TUNNEL_CHAT, "{" HI ",\"structured_outputs\":{\"structural_tag\":\"x\"}}", "structural_tag", NULL},
    {TUNNEL_CHAT, "{" HI ",\"guided_regex\":\"a\",\"structured_outputs\":{\"json_object\":true}}", "guided_regex",
     NULL},
    {TUNNEL_CHAT, "{" HI ",\"vllm_xargs\":{\"a\":1}}", "vllm_xargs", NULL},
    {TUNNEL_CHAT, "{" HI ",\"user\":5}", "user", NULL},
    {TUNNEL_CHAT, "{" HI ",\"store\":\"yes\"}", "store", NULL},
    {TUNNEL_CHAT, "{" HI ",\"metadata\":[]}", "metadata", NULL},
    {TUNNEL_CHAT, "{" HI ",\"modalities\":\"text\"}", "modalities", NULL},
    {TUNNEL_CHAT, "{" HI ",\"reasoning_effort\":1}", "reasoning_effort", NULL},
    {TUNNEL_CHAT, "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":5}}]}",
     "tools", NULL},
    {TUNNEL_CHAT, "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":5}}]}",
     "tools", NULL},
    {TUNNEL_CHAT, "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":1}}]}", "tools",
     NULL},
    {TUNNEL_CHAT,
     "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
     "\"tool_choice\":{\"type\":\"custom\",\"function\":{\"name\":\"f\"}}}",
     "tool_choice", NULL},
    {TUNNEL_CHAT,
     "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}]}",
     "messages[0].tool_calls[0]", NULL},
    {TUNNEL_TOKENIZE, "{\"prompt\":[\"a\",\"b\"]}", "prompt", NULL},
    {TUNNEL_TOKENIZE, "{}", "prompt", NULL},
    {TUNNEL_DETOKENIZE, "{\"tokens\":\"x\"}", "tokens", NULL},
    {TUNNEL_DETOKENIZE, "{\"tokens\":[[1],[2]]}", "tokens", NULL},
    {TUNNEL_EMBED, "{\"input\":\"x\",\"encoding_format\":\"hex\"}", "encoding_format", NULL},
    {TUNNEL_EMBED, "{\"input\":\"x\",\"dimensions\":8}", "dimensions", NULL},
    {TUNNEL_EMBED, "{}", "input", NULL},
    {TUNNEL_COMPLETION, "{}", "prompt", NULL},
    {TUNNEL_COMPLETION, "{\"prompt\":\"\"}", "prompt", NULL},
    {TUNNEL_COMPLETION, "{\"prompt\":[]}", "prompt", NULL},
    {TUNNEL_COMPLETION, "{\"prompt\":[1,-2]}", "prompt", NULL},
    {TUNNEL_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":21}", "logprobs", NULL},
    {TUNNEL_COMPLETION, "{\"prompt\":\"x\",\"min_tokens\":17}", "min_tokens", NULL},
    {TUNNEL_DETOKENIZE, "{\"tokens\":[\"x\",1]}", "tokens", NULL},
};

START_TEST(bad_bodies_are_refused_by_name)
{
    struct openai_error why;
    struct openai_request *r = openai_request_parse(refused[_i].task, span_str(refused[_i].body), &why);
    ck_assert_msg(r == NULL, "%s was accepted", refused[_i].body);
    ck_assert_int_eq(why.status, 400);
    ck_assert_str_eq(why.type, "invalid_request_error");
    ck_assert_str_eq(why.param, refused[_i].param ? refused[_i].param : "");
    ck_assert_pstr_eq(why.code, refused[_i].code);
    ck_assert_msg(why.message[0] != '\0', "%s", refused[_i].body);
}
END_TEST

START_TEST(nesting_is_bounded)
{
    struct openai_error why;
    char body[600] = "{\"messages\":";
    memset(body + strlen(body), '[', 200);
    ck_assert_ptr_null(openai_request_parse(TUNNEL_CHAT, span_str(body), &why));
    ck_assert_str_eq(why.code, "invalid_json");
}
END_TEST

START_TEST(values_are_bounded)
{
    struct openai_error why = {0};
    struct writer body = writer_with_max(32 << 20);
    writer_str(&body, "{\"prompt\":[1");
    for (size_t i = 0; i < 1 << 21; i++)
        writer_str(&body, ",1");
    writer_str(&body, "]}");
    ck_assert_ptr_null(openai_request_parse(TUNNEL_COMPLETION, writer_span(&body), &why));
    ck_assert_str_eq(why.code, "invalid_json");
    ck_assert_ptr_nonnull(strstr(why.message, "2097152 values"));
    writer_reset(&body);
    writer_str(&body, "{\"prompt\":\""); /* in a text they are no values */
    for (size_t i = 0; i < 1 << 21; i++)
        writer_str(&body, ",[");
    writer_str(&body, "\"}");
    struct openai_request *r = openai_request_parse(TUNNEL_COMPLETION, writer_span(&body), &why);
    ck_assert_ptr_nonnull(r);
    openai_request_free(r);
    writer_release(&body);
}
END_TEST

/* JSON inside texts, of which there may be many: the arguments of earlier calls. */
START_TEST(arguments_of_calls_are_bounded)
{
    for (size_t calls = 4; calls <= 5; calls++) {
        struct openai_error why = {0};
        struct writer body = writer_with_max(8 << 20);
        writer_str(&body, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[");
        for (size_t i = 0; i < calls; i++) {
            writer_str(&body, i ? "," : "");
            writer_str(&body, "{\"function\":{\"name\":\"f\",\"arguments\":\"{}");
            for (size_t k = 2; k < 1 << 20; k++)
                writer_str(&body, " ");
            writer_str(&body, "\"}}");
        }
        writer_str(&body, "]}]}");
        struct openai_request *r = openai_request_parse(TUNNEL_CHAT, writer_span(&body), &why);
        ck_assert_msg((r != NULL) == (calls == 4), "%zu calls: %s", calls, why.message);
        ck_assert(r || strcmp(why.param, "messages") == 0);
        openai_request_free(r);
        writer_release(&body);
    }
}
END_TEST

/* What the engine's reader would not take, the proxy does not send. */
START_TEST(the_name_of_a_tool_is_bounded)
{
    for (int len = TUNNEL_NAME_MAX; len <= TUNNEL_NAME_MAX + 1; len++) {
        struct openai_error why = {0};
        char body[1024];
        snprintf(body, sizeof body,
                 "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"%0*d\"}}],"
                 "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"%0*d\"}}}",
                 len, 0, len, 0);
        struct openai_request *r = openai_request_parse(TUNNEL_CHAT, span_str(body), &why);
        ck_assert_msg((r != NULL) == (len == TUNNEL_NAME_MAX), "%d: %s", len, why.message);
        ck_assert(r || strcmp(why.param, "tools") == 0);
        openai_request_free(r);
    }
}
END_TEST

START_TEST(every_served_field_arrives)
{
    static const char body[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"be "
                               "brief\"},{\"role\":\"user\",\"content\":"
                               "[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}],"
                               "\"temperature\":0,\"top_p\":null,\"top_k\":-1,"
                               "\"max_completion_tokens\":5,\"max_tokens\":9,\"seed\":-3,\"stop\":\"end\",\"logit_"
                               "bias\":{\"7\":-100},\"logprobs\":true,"
                               "\"top_logprobs\":2,\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                               "\"user\":\"u\",\"unknown\":1,\"n\":2,\"bad_words\":[\"no\"],"
                               "\"allowed_token_ids\":[3,70000],\"truncate_prompt_tokens\":-1,"
                               "\"return_token_ids\":true,\"request_id\":\"r-1\",\"length_penalty\":1,"
                               "\"spaces_between_special_tokens\":true,\"include_reasoning\":false}";
    struct openai_error why;
    struct openai_request *r = openai_request_parse(TUNNEL_CHAT, span_str(body), &why);
    ck_assert_msg(r != NULL, "%s", why.message);
    const struct tunnel_request *q = &r->request;
    ck_assert(span_is(q->messages,
                      "[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":\"a\\nb\"}]"));
    ck_assert_double_eq(q->temperature, 0);
    ck_assert(isnan(q->top_p) && isnan(q->min_p)); /* null, or not there: left to the model */
    ck_assert_uint_eq(q->top_k, 0);
    ck_assert_uint_eq(q->max_tokens, 5);
    ck_assert_uint_eq(q->seed, (uint64_t)-3);
    ck_assert(span_is(q->stop[0], "end"));
    ck_assert_uint_eq(q->bias[0].id, 7);
    ck_assert_int_eq(q->logprobs, 2);
    ck_assert_uint_eq(q->n, 2);
    ck_assert(q->stream && r->include_usage);
    ck_assert_uint_eq(q->bad_word_count, 1);
    ck_assert(span_is(q->bad_word[0], "no"));
    ck_assert_uint_eq(tunnel_ids_count(q->allowed_ids), 2);
    ck_assert_uint_eq(tunnel_ids_at(q->allowed_ids, 1), 70000);
    ck_assert_int_eq(q->truncate_prompt, -1);
    ck_assert(q->return_ids && r->hide_reasoning && span_is(r->id, "r-1"));
    openai_request_free(r);
}
END_TEST

START_TEST(prompts_come_in_four_forms)
{
    static const struct {
        const char *body;
        size_t count;
        bool ids;
    } forms[] = {{"{\"prompt\":\"x\"}", 1, false},
                 {"{\"prompt\":[\"x\",\"y\"]}", 2, false},
                 {"{\"prompt\":[1,70000]}", 1, true},
                 {"{\"prompt\":[[1],[2,3]]}", 2, true}};
    struct openai_error why;
    struct openai_request *r = openai_request_parse(TUNNEL_COMPLETION, span_str(forms[_i].body), &why);
    ck_assert_msg(r != NULL, "%s", why.message);
    ck_assert_uint_eq(r->request.prompt_count, forms[_i].count);
    ck_assert_int_eq(r->request.prompt[0].is_ids, forms[_i].ids);
    ck_assert_uint_eq(r->request.max_tokens, 16);
    if (forms[_i].ids)
        ck_assert_uint_eq(tunnel_ids_at(r->request.prompt[0].bytes, 0), 1);
    openai_request_free(r);
}
END_TEST

static struct tunnel_event events[] = {
    {.kind = TUNNEL_EVENT_START, .prompt_tokens = 9},
    {.kind = TUNNEL_EVENT_DELTA, .text = {(const uint8_t *)"Hel", 3}, .ids = {(const uint8_t *)"\0\0\0\1", 4}},
    {.kind = TUNNEL_EVENT_DELTA, .text = {(const uint8_t *)"lo \"x\"", 6}, .ids = {(const uint8_t *)"\0\0\0\2", 4}},
    {.kind = TUNNEL_EVENT_FINISH, .finish = TUNNEL_FINISH_STOP},
    {.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 9, .completion_tokens = 2},
};

static struct openai_response *open_chat(struct openai_request **r, const char *body)
{
    struct openai_error why;
    *r = openai_request_parse(TUNNEL_CHAT, span_str(body), &why);
    ck_assert_msg(*r != NULL, "%s", why.message);
    return openai_response_open(*r, "abc", "m", 1700000000);
}

static json_t *body_of(struct openai_response *o, int want)
{
    struct writer w = writer_with_max(1 << 16);
    ck_assert_int_eq(openai_response_body(o, &w), want);
    json_t *j = json_loadb((const char *)w.data, w.len, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(j);
    writer_release(&w);
    return j;
}

START_TEST(a_body_has_text_reason_and_usage)
{
    struct openai_request *r;
    struct openai_response *o = open_chat(&r, "{" HI "}");
    for (size_t i = 0; i < 5; i++)
        ck_assert_int_eq(openai_response_collect(o, &events[i]), i == 4);
    json_t *j = body_of(o, 200), *choice = json_array_get(json_object_get(j, "choices"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(choice, "message"), "content")), "Hello \"x\"");
    ck_assert_str_eq(json_string_value(json_object_get(choice, "finish_reason")), "stop");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(j, "usage"), "total_tokens")), 11);
    json_decref(j);
    openai_response_free(o);
    openai_request_free(r);
}
END_TEST

/* The text of all `data:` lines joined, and how many there were. */
static size_t joined_stream(struct span stream, char *text, size_t cap)
{
    size_t count = 0;
    char *copy = strndup((const char *)stream.data, stream.len), *line = copy;
    text[0] = '\0';
    for (char *end; (end = strstr(line, "\n\n")); line = end + 2, count++) {
        *end = '\0';
        ck_assert_int_eq(strncmp(line, "data: ", 6), 0);
        if (strcmp(line + 6, "[DONE]") == 0)
            continue;
        json_t *j = json_loads(line + 6, 0, NULL);
        ck_assert_ptr_nonnull(j);
        const char *part = json_string_value(
            json_object_get(json_object_get(json_array_get(json_object_get(j, "choices"), 0), "delta"), "content"));
        strncat(text, part ? part : "", cap - strlen(text) - 1);
        json_decref(j);
    }
    ck_assert_str_eq(line, "");
    free(copy);
    return count;
}

START_TEST(a_stream_says_the_same_and_ends_with_done)
{
    char text[64];
    struct openai_request *r;
    struct openai_response *o = open_chat(&r, "{" HI ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    struct writer w = writer_with_max(1 << 16);
    for (size_t i = 0; i < 5; i++)
        ck_assert_int_eq(openai_response_stream(o, &events[i], &w), i == 4);
    ck_assert_uint_eq(joined_stream(writer_span(&w), text, sizeof text),
                      6); /* role, two texts, finish, usage, [DONE] */
    ck_assert_str_eq(text, "Hello \"x\"");
    writer_release(&w);
    openai_response_free(o);
    openai_request_free(r);
}
END_TEST

static struct tunnel_event shown[] = {
    {.kind = TUNNEL_EVENT_START, .prompt_tokens = 2},
    {.kind = TUNNEL_EVENT_PROMPT, .ids = {(const uint8_t *)"\0\0\0\7\0\0\0\10", 8}},
    {.kind = TUNNEL_EVENT_PROMPT,
     .logprob_count = 2,
     .logprob = {{.chosen = {7, 0, {(const uint8_t *)"a", 1}}},
                 {.known = true,
                  .chosen = {8, -2.5, {(const uint8_t *)"b", 1}},
                  .top_count = 1,
                  .top = {{9, -0.5, {(const uint8_t *)"c", 1}}}}}},
    {.kind = TUNNEL_EVENT_DELTA,
     .channel = TUNNEL_REASONING,
     .text = {(const uint8_t *)"hm", 2},
     .ids = {(const uint8_t *)"\0\0\0\1", 4}},
    {.kind = TUNNEL_EVENT_DELTA,
     .text = {(const uint8_t *)"yes", 3},
     .ids = {(const uint8_t *)"\0\0\0\2", 4},
     .logprob_count = 1,
     .logprob = {{.known = true, .chosen = {2, -0.25, {(const uint8_t *)"yes", 3}}}}},
    {.kind = TUNNEL_EVENT_DELTA, .ids = {(const uint8_t *)"\0\0\0\3", 4}},
    {.kind = TUNNEL_EVENT_FINISH, .finish = TUNNEL_FINISH_STOP},
    {.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 2, .completion_tokens = 3},
};

/* vLLM's additions: ids, prompt log-probabilities of their own, names by id, an echo, no thoughts. */
START_TEST(a_body_shows_what_was_asked_for)
{
    struct openai_request *r;
    struct openai_response *o =
        open_chat(&r, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"Oh \"}],\"return_token_ids\":true,"
                      "\"prompt_logprobs\":1,\"logprobs\":true,\"return_tokens_as_token_ids\":true,\"echo\":true,"
                      "\"include_reasoning\":false,\"request_id\":\"mine\"}");
    for (size_t i = 0; i < 8; i++)
        ck_assert_int_eq(openai_response_collect(o, &shown[i]), i == 7);
    json_t *j = body_of(o, 200), *choice = json_array_get(json_object_get(j, "choices"), 0);
    char *got = json_dumps(j, JSON_COMPACT);
    ck_assert_ptr_nonnull(strstr(got, "\"id\":\"chatcmpl-mine\""));
    ck_assert_ptr_nonnull(strstr(got, "\"prompt_token_ids\":[7,8]"));
    ck_assert_ptr_nonnull(strstr(got, "\"token_ids\":[1,2,3]"));
    ck_assert_ptr_nonnull(strstr(got, "\"prompt_logprobs\":[null,{\"9\":{\"logprob\":-0.5,\"rank\":1,"
                                      "\"decoded_token\":\"c\"},\"8\":{\"logprob\":-2.5,\"rank\":null,"
                                      "\"decoded_token\":\"b\"}}]"));
    ck_assert_ptr_nonnull(strstr(got, "\"token\":\"token_id:2\""));
    ck_assert_ptr_null(strstr(got, "reasoning_content"));
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(choice, "message"), "content")), "Oh yes");
    free(got);
    json_decref(j);
    openai_response_free(o);
    openai_request_free(r);
}
END_TEST

START_TEST(a_stream_shows_ids_and_no_thoughts)
{
    struct openai_request *r;
    struct openai_response *o = open_chat(
        &r, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"Oh \"}],\"return_token_ids\":true,\"stream\":true,"
            "\"include_reasoning\":false,\"echo\":true}");
    struct writer w = writer_with_max(1 << 16);
    for (size_t i = 0; i < 8; i++)
        if (i != 2) /* such events are not asked for */
            ck_assert_int_eq(openai_response_stream(o, &shown[i], &w), i == 7);
    writer_u8(&w, 0);
    const char *got = (const char *)writer_span(&w).data;
    ck_assert_ptr_nonnull(strstr(got, "\"prompt_token_ids\":[7,8]"));
    ck_assert_ptr_nonnull(strstr(got, "\"delta\":{},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":[1]"));
    ck_assert_ptr_nonnull(strstr(got, "{\"content\":\"yes\"}"));
    ck_assert_ptr_nonnull(strstr(got, "{\"content\":\"Oh \"}"));
    ck_assert_ptr_nonnull(strstr(got, "\"token_ids\":[3]"));
    ck_assert_ptr_null(strstr(got, "hm"));
    writer_release(&w);
    openai_response_free(o);
    openai_request_free(r);
}
END_TEST

static json_t *answer_of(enum tunnel_task task, const char *body, const struct tunnel_event *ev, size_t count)
{
    struct openai_error why;
    struct openai_request *r = openai_request_parse(task, span_str(body), &why);
    ck_assert_msg(r != NULL, "%s", why.message);
    struct openai_response *o = openai_response_open(r, "abc", "m", 1700000000);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(openai_response_collect(o, &ev[i]), i + 1 == count);
    json_t *j = body_of(o, 200);
    openai_response_free(o);
    openai_request_free(r);
    return j;
}

/* Clients send "" or nothing where a function has no parameters. */
START_TEST(a_call_without_arguments_is_an_empty_object)
{
    struct openai_error why;
    struct openai_request *r = openai_request_parse(
        TUNNEL_CHAT,
        span_str(
            "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"\"}},"
            "{\"function\":{\"name\":\"g\"}}]}]}"),
        &why);
    ck_assert_msg(r != NULL, "%s", why.message);
    char *got = strndup((const char *)r->request.messages.data, r->request.messages.len);
    ck_assert_ptr_nonnull(strstr(got, "\"name\":\"f\",\"arguments\":{}"));
    ck_assert_ptr_nonnull(strstr(got, "\"name\":\"g\",\"arguments\":{}"));
    free(got);
    openai_request_free(r);
}
END_TEST

START_TEST(too_many_prompts_are_counted)
{
    struct openai_error why;
    static const struct {
        enum tunnel_task task;
        const char *name;
        int most;
    } cases[] = {{TUNNEL_EMBED, "input", 2048}, {TUNNEL_COMPLETION, "prompt", 128}};
    for (size_t k = 0; k < 2; k++)
        for (int more = 0; more < 2; more++) {
            struct writer body = writer_with_max(1 << 16);
            char want[128];
            writer_printf(&body, "{\"%s\":[", cases[k].name);
            for (int i = 0; i < cases[k].most + more; i++)
                writer_str(&body, i ? ",\"x\"" : "\"x\"");
            writer_str(&body, "]}");
            struct openai_request *r = openai_request_parse(cases[k].task, writer_span(&body), &why);
            ck_assert(more ? r == NULL : r && r->request.prompt_count == (size_t)cases[k].most);
            snprintf(want, sizeof want, "%s has %d entries; a request takes at most %d: send several requests",
                     cases[k].name, cases[k].most + 1, cases[k].most);
            if (more)
                ck_assert_str_eq(why.message, want);
            openai_request_free(r);
            writer_release(&body);
        }
}
END_TEST

/* An engine knows one name for structured output; clients asked by another. */
START_TEST(a_refused_grammar_has_the_clients_name)
{
    static const struct {
        const char *body, *param;
    } cases[] = {{"{" HI ",\"guided_regex\":\"(\"}", "guided_regex"},
                 {"{" HI ",\"structured_outputs\":{\"json\":{}}}", "structured_outputs"},
                 {"{" HI ",\"response_format\":{\"type\":\"json_object\"}}", "response_format"}};
    static const struct tunnel_event refusal = {.kind = TUNNEL_EVENT_ERROR,
                                                .status = 400,
                                                .param = {(const uint8_t *)"response_format", 15},
                                                .text = {(const uint8_t *)"no", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct openai_request *r;
        struct openai_response *o = open_chat(&r, cases[i].body);
        ck_assert(openai_response_collect(o, &refusal));
        json_t *j = body_of(o, 400);
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(j, "error"), "param")), cases[i].param);
        json_decref(j);
        openai_response_free(o);
        openai_request_free(r);
    }
}
END_TEST

START_TEST(vectors_come_as_numbers_or_base64)
{
    static const struct tunnel_event ev[] = {
        {.kind = TUNNEL_EVENT_START, .prompt_tokens = 3},
        {.kind = TUNNEL_EVENT_RESULT, .floats = {(const uint8_t *)"\x3f\x00\x00\x00", 4}},
        {.kind = TUNNEL_EVENT_RESULT, .floats = {(const uint8_t *)"\xbf\x80\x00\x00", 4}},
        {.kind = TUNNEL_EVENT_RESULT, .index = 1, .floats = {(const uint8_t *)"\x40\x00\x00\x00", 4}},
        {.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 3}};
    json_t *j = answer_of(TUNNEL_EMBED, "{\"input\":[\"a\",\"b\"]}", ev, 5);
    char *got = json_dumps(json_object_get(j, "data"), JSON_COMPACT);
    ck_assert_str_eq(got, "[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,-1.0]},"
                          "{\"object\":\"embedding\",\"index\":1,\"embedding\":[2.0]}]");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(j, "usage"), "prompt_tokens")), 3);
    free(got);
    json_decref(j);
    j = answer_of(TUNNEL_EMBED, "{\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}", ev, 5);
    const json_t *first = json_array_get(json_object_get(j, "data"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(first, "embedding")), "AAAAPwAAgL8=");
    json_decref(j);
}
END_TEST

/* The chosen token is always there; of names that look alike the likelier stays; offsets count characters. */
START_TEST(a_completion_has_four_lists)
{
    static const struct tunnel_event said[] = {
        {.kind = TUNNEL_EVENT_START},
        {.kind = TUNNEL_EVENT_DELTA,
         .text = {(const uint8_t *)"\xc3\xa9!", 3},
         .logprob_count = 2,
         .logprob = {{.known = true,
                      .chosen = {2, -2, {(const uint8_t *)"\xc3\xa9", 2}},
                      .top_count = 3,
                      .top = {{4, -0.5, {(const uint8_t *)"\xe2", 1}},
                              {5, -1, {(const uint8_t *)"\xe3", 1}},
                              {6, -1.5, {(const uint8_t *)"x", 1}}}},
                     {.known = true, .chosen = {3, -0.25, {(const uint8_t *)"!", 1}}}}},
        {.kind = TUNNEL_EVENT_FINISH},
        {.kind = TUNNEL_EVENT_DONE},
    };
    json_t *j = answer_of(TUNNEL_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":3}", said, 4);
    json_t *lists = json_object_get(json_array_get(json_object_get(j, "choices"), 0), "logprobs");
    char *got = json_dumps(lists, JSON_COMPACT | JSON_ENSURE_ASCII);
    ck_assert_str_eq(got, "{\"tokens\":[\"\\u00E9\",\"!\"],\"token_logprobs\":[-2.0,-0.25],"
                          "\"top_logprobs\":[{\"\\uFFFD\":-0.5,\"x\":-1.5,\"\\u00E9\":-2.0},{\"!\":-0.25}],"
                          "\"text_offset\":[0,1]}");
    free(got);
    json_decref(j);
}
END_TEST

/* An id that the model rules out may be forced all the same: nothing is lost of lists that belong together. */
START_TEST(a_log_probability_is_a_number)
{
    static const struct tunnel_event said[] = {
        {.kind = TUNNEL_EVENT_START},
        {.kind = TUNNEL_EVENT_DELTA,
         .text = {(const uint8_t *)"ab", 2},
         .logprob_count = 2,
         .logprob = {{.known = true, .chosen = {2, -INFINITY, {(const uint8_t *)"a", 1}}},
                     {.known = true, .chosen = {3, NAN, {(const uint8_t *)"b", 1}}}}},
        {.kind = TUNNEL_EVENT_FINISH},
        {.kind = TUNNEL_EVENT_DONE},
    };
    json_t *j = answer_of(TUNNEL_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":1}", said, 4);
    json_t *lists = json_object_get(json_array_get(json_object_get(j, "choices"), 0), "logprobs");
    char *got = json_dumps(lists, JSON_COMPACT);
    ck_assert_str_eq(got, "{\"tokens\":[\"a\",\"b\"],\"token_logprobs\":[-9999.0,-9999.0],"
                          "\"top_logprobs\":[{\"a\":-9999.0},{\"b\":-9999.0}],\"text_offset\":[0,1]}");
    free(got);
    json_decref(j);
    j = answer_of(TUNNEL_CHAT, "{" HI ",\"logprobs\":true}", said, 4);
    lists = json_object_get(json_array_get(json_object_get(j, "choices"), 0), "logprobs");
    json_t *first = json_array_get(json_object_get(lists, "content"), 0);
    ck_assert(json_number_value(json_object_get(first, "logprob")) == -9999);
    json_decref(j);
}
END_TEST

START_TEST(tokens_have_names_and_a_limit)
{
    static const struct tunnel_event ev[] = {
        {.kind = TUNNEL_EVENT_START, .prompt_tokens = 2, .context_max = 512},
        {.kind = TUNNEL_EVENT_RESULT, .ids = {(const uint8_t *)"\0\0\0\7\0\0\0\10", 8}},
        {.kind = TUNNEL_EVENT_PROMPT,
         .logprob_count = 2,
         .logprob = {{.chosen = {.id = 7, .bytes = {(const uint8_t *)"a", 1}}},
                     {.chosen = {.id = 8, .bytes = {(const uint8_t *)" b", 2}}}}},
        {.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 2}};
    json_t *j = answer_of(TUNNEL_TOKENIZE, "{\"prompt\":\"a b\",\"return_token_strs\":true}", ev, 4);
    char *got = json_dumps(j, JSON_COMPACT);
    ck_assert_str_eq(got, "{\"count\":2,\"max_model_len\":512,\"tokens\":[7,8],\"token_strs\":[\"a\",\" b\"]}");
    free(got);
    json_decref(j);
}
END_TEST

START_TEST(an_answer_cut_short_never_looks_whole)
{
    struct openai_request *r;
    struct openai_response *o = open_chat(&r, "{" HI "}");
    ck_assert(!openai_response_collect(o, &events[0]));
    ck_assert(!openai_response_collect(o, &events[1]));
    ck_assert(openai_response_collect(o, &events[4])); /* DONE without FINISH */
    json_decref(body_of(o, 502));
    openai_response_free(o);
    openai_request_free(r);
}
END_TEST

/* A part of a call that has no place is not left out in silence. */
START_TEST(a_call_out_of_order_fails)
{
    static const struct tunnel_event jump = {
        .kind = TUNNEL_EVENT_DELTA, .channel = TUNNEL_TOOL_NAME, .tool_index = 1, .text = {(const uint8_t *)"f", 1}};
    struct openai_request *r;
    struct openai_response *o = open_chat(&r, "{" HI "}"), *s = openai_response_open(r, "1", "m", 1);
    struct writer out = writer_with_max(65536);
    ck_assert(openai_response_collect(o, &jump));
    json_decref(body_of(o, 503));
    ck_assert(openai_response_stream(s, &jump, &out));
    writer_u8(&out, 0);
    ck_assert_ptr_nonnull(strstr((char *)out.data, "overloaded"));
    writer_release(&out);
    openai_response_free(o);
    openai_response_free(s);
    openai_request_free(r);
}
END_TEST

START_TEST(an_answer_to_a_choice_that_does_not_exist_fails)
{
    struct openai_request *r;
    struct openai_response *o = open_chat(&r, "{" HI "}");
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_DELTA, .index = 1, .text = {(const uint8_t *)"x", 1}};
    ck_assert(openai_response_collect(o, &ev));
    json_decref(body_of(o, 500));
    openai_response_free(o);
    openai_request_free(r);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, bad_bodies_are_refused_by_name, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, nesting_is_bounded);
    tcase_add_test(t, values_are_bounded);
    tcase_add_test(t, arguments_of_calls_are_bounded);
    tcase_add_test(t, the_name_of_a_tool_is_bounded);
    tcase_add_test(t, every_served_field_arrives);
    tcase_add_loop_test(t, prompts_come_in_four_forms, 0, 4);
    tcase_add_test(t, a_body_has_text_reason_and_usage);
    tcase_add_test(t, a_stream_says_the_same_and_ends_with_done);
    tcase_add_test(t, a_body_shows_what_was_asked_for);
    tcase_add_test(t, a_stream_shows_ids_and_no_thoughts);
    tcase_add_test(t, a_call_without_arguments_is_an_empty_object);
    tcase_add_test(t, too_many_prompts_are_counted);
    tcase_add_test(t, a_refused_grammar_has_the_clients_name);
    tcase_add_test(t, a_completion_has_four_lists);
    tcase_add_test(t, vectors_come_as_numbers_or_base64);
    tcase_add_test(t, a_log_probability_is_a_number);
    tcase_add_test(t, tokens_have_names_and_a_limit);
    tcase_add_test(t, an_answer_cut_short_never_looks_whole);
    tcase_add_test(t, a_call_out_of_order_fails);
    tcase_add_test(t, an_answer_to_a_choice_that_does_not_exist_fails);
}

RUN("tunnel_openai", add_tests)
