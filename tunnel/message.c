#include "tunnel/message.h"

#include <assert.h>
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>

/* Both directions walk the same list of fields in the same order; a field's name is its key on the wire. */

static int to_writer(void *data, const char *bytes, size_t len)
{
    struct writer *w = data;
    writer_bytes(w, span_of(bytes, len));
    return writer_ok(w) ? 0 : -1;
}

static void put_key(msgpack_packer *p, const char *key)
{
    size_t len = strlen(key);
    msgpack_pack_str(p, len);
    msgpack_pack_str_body(p, key, len);
}
static void put_bin(msgpack_packer *p, struct span s)
{
    msgpack_pack_bin(p, s.len);
    msgpack_pack_bin_body(p, s.data ? (const void *)s.data : "", s.len);
}
static void put_bool(msgpack_packer *p, bool v)
{
    if (v)
        msgpack_pack_true(p);
    else
        msgpack_pack_false(p);
}
static void put_real_or_nil(msgpack_packer *p, double v)
{
    if (isnan(v))
        msgpack_pack_nil(p);
    else
        msgpack_pack_double(p, v);
}
/* Signed values travel as their 64-bit two's complement. */
static void put_int(msgpack_packer *p, int64_t v)
{
    msgpack_pack_uint64(p, (uint64_t)v);
}

/* A finite float64 in [min, max]. */
static double get_real(struct reader *r, double min, double max)
{
    uint8_t head = reader_u8(r);
    uint64_t bits = reader_u64be(r);
    double v;
    if (r->err == READER_OK && head != 0xcb)
        reader_fail(r, READER_TYPE);
    memcpy(&v, &bits, sizeof v);
    if (r->err == READER_OK && !(isfinite(v) && v >= min && v <= max))
        reader_fail(r, READER_RANGE);
    return r->err == READER_OK ? v : 0;
}
/* The same, or nil: NaN. */
static double get_real_or_nil(struct reader *r, double min, double max)
{
    return reader_nil(r) ? (double)NAN : get_real(r, min, max);
}
static int64_t get_int(struct reader *r, int64_t min, int64_t max)
{
    int64_t v = (int64_t)reader_uint(r, 0, UINT64_MAX);
    if (r->err == READER_OK && (v < min || v > max))
        reader_fail(r, READER_RANGE);
    return r->err == READER_OK ? v : min;
}
static uint32_t get_u32(struct reader *r, uint32_t max)
{
    return (uint32_t)reader_uint(r, 0, max);
}
/* Token ids: a whole number of big-endian u32. */
static struct span get_ids(struct reader *r, size_t max)
{
    struct span s = reader_bin(r, 0, max);
    if (r->err == READER_OK && s.len % 4 != 0)
        reader_fail(r, READER_SIZE);
    return s;
}

/* --- request ----------------------------------------------------------------------------------- */

enum { REQUEST_KEYS = 42 };

void tunnel_request_defaults(struct tunnel_request *out)
{
    memset(out, 0, sizeof *out);
    out->add_generation_prompt = true;
    out->parallel_tool_calls = true;
    out->n = 1;
    out->temperature = out->top_p = out->min_p = out->repetition_penalty = (double)NAN;
    out->top_k = TUNNEL_TOP_K_LEFT_OUT;
    out->logprobs = out->prompt_logprobs = -1;
    out->skip_special = true;
}

/* The bits' order is checked where both are seen (tests/unit/test_proxy_front.c). */
uint32_t tunnel_request_features(const struct tunnel_request *q)
{
    const bool uses[] = {
        q->stream,
        q->tools.len > 0,
        q->logprobs >= 0,
        q->prompt_logprobs >= 0,
        q->format == TUNNEL_FORMAT_JSON,
        q->format == TUNNEL_FORMAT_SCHEMA,
        q->format == TUNNEL_FORMAT_REGEX,
        q->format == TUNNEL_FORMAT_GRAMMAR,
        q->format == TUNNEL_FORMAT_CHOICE,
        q->echo,
        q->has_seed,
        q->bias_count > 0 || q->allowed_ids.len > 0 || q->bad_word_count > 0,
        false, /* prompts of ids: below */
        q->template_kwargs.len > 0,
    };
    uint32_t bits = 0;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        bits |= uses[i] ? 1u << i : 0;
    for (size_t i = 0; i < q->prompt_count && q->task != TUNNEL_DETOKENIZE; i++)
        bits |= q->prompt[i].is_ids ? 1u << 12 : 0;
    return bits;
}

static void pack_lists(msgpack_packer *p, const struct tunnel_request *in)
{
    put_key(p, "stop");
    msgpack_pack_array(p, in->stop_count);
    for (size_t i = 0; i < in->stop_count; i++)
        put_bin(p, in->stop[i]);
    put_key(p, "stop_ids");
    msgpack_pack_array(p, in->stop_id_count);
    for (size_t i = 0; i < in->stop_id_count; i++)
        msgpack_pack_uint32(p, in->stop_id[i]);
    put_key(p, "bias");
    msgpack_pack_array(p, in->bias_count * 2);
    for (size_t i = 0; i < in->bias_count; i++) {
        msgpack_pack_uint32(p, in->bias[i].id);
        msgpack_pack_double(p, in->bias[i].bias);
    }
    put_key(p, "allowed_ids");
    put_bin(p, in->allowed_ids);
    put_key(p, "bad_words");
    msgpack_pack_array(p, in->bad_word_count);
    for (size_t i = 0; i < in->bad_word_count; i++)
        put_bin(p, in->bad_word[i]);
}

static void pack_prompts(msgpack_packer *p, const struct tunnel_request *in)
{
    put_key(p, "prompts");
    msgpack_pack_array(p, in->prompt_count * 2);
    for (size_t i = 0; i < in->prompt_count; i++) {
        put_bool(p, in->prompt[i].is_ids);
        put_bin(p, in->prompt[i].bytes);
    }
}

#define PUT(key, call)                                                                                                 \
    do {                                                                                                               \
        put_key(p, key);                                                                                               \
        call;                                                                                                          \
    } while (0)

static void pack_request(msgpack_packer *p, const struct tunnel_request *in)
{
    msgpack_pack_map(p, REQUEST_KEYS);
    PUT("id", put_bin(p, span_of(in->id, sizeof in->id)));
    PUT("task", msgpack_pack_uint32(p, in->task));
    PUT("model", put_bin(p, in->model));
    PUT("messages", put_bin(p, in->messages));
    PUT("tools", put_bin(p, in->tools));
    PUT("template_kwargs", put_bin(p, in->template_kwargs));
    PUT("add_generation_prompt", put_bool(p, in->add_generation_prompt));
    PUT("continue_final_message", put_bool(p, in->continue_final_message));
    PUT("add_special_tokens", put_bool(p, in->add_special_tokens));
    pack_prompts(p, in);
    PUT("tool_choice", msgpack_pack_uint32(p, in->tool_choice));
    PUT("tool_name", put_bin(p, in->tool_name));
    PUT("parallel_tool_calls", put_bool(p, in->parallel_tool_calls));
    PUT("format", msgpack_pack_uint32(p, in->format));
    PUT("format_text", put_bin(p, in->format_text));
    PUT("has_max_tokens", put_bool(p, in->has_max_tokens));
    PUT("max_tokens", msgpack_pack_uint32(p, in->max_tokens));
    PUT("min_tokens", msgpack_pack_uint32(p, in->min_tokens));
    PUT("n", msgpack_pack_uint32(p, in->n));
    PUT("temperature", put_real_or_nil(p, in->temperature));
    PUT("top_p", put_real_or_nil(p, in->top_p));
    PUT("min_p", put_real_or_nil(p, in->min_p));
    PUT("repetition_penalty", put_real_or_nil(p, in->repetition_penalty));
    PUT("presence_penalty", msgpack_pack_double(p, in->presence_penalty));
    PUT("frequency_penalty", msgpack_pack_double(p, in->frequency_penalty));
    put_key(p, "top_k");
    if (in->top_k == TUNNEL_TOP_K_LEFT_OUT)
        msgpack_pack_nil(p);
    else
        msgpack_pack_uint32(p, in->top_k);
    put_key(p, "seed");
    if (in->has_seed)
        msgpack_pack_uint64(p, in->seed);
    else
        msgpack_pack_nil(p);
    pack_lists(p, in);
    PUT("truncate_prompt", put_int(p, in->truncate_prompt));
    PUT("return_ids", put_bool(p, in->return_ids));
    PUT("logprobs", put_int(p, in->logprobs));
    PUT("prompt_logprobs", put_int(p, in->prompt_logprobs));
    PUT("ignore_eos", put_bool(p, in->ignore_eos));
    PUT("include_stop", put_bool(p, in->include_stop));
    PUT("skip_special", put_bool(p, in->skip_special));
    PUT("echo", put_bool(p, in->echo));
    PUT("stream", put_bool(p, in->stream));
    PUT("isolation", put_bin(p, in->salt));
}

size_t tunnel_prompts_max(enum tunnel_task task)
{
    return task == TUNNEL_EMBED ? TUNNEL_INPUTS_MAX : TUNNEL_PROMPTS_MAX;
}

bool tunnel_request_pack(struct writer *w, const struct tunnel_request *in)
{
    msgpack_packer p;
    assert(in->prompt_count <= tunnel_prompts_max(in->task) && in->stop_count <= TUNNEL_STOPS_MAX);
    assert(in->stop_id_count <= TUNNEL_STOP_IDS_MAX && in->bias_count <= TUNNEL_BIAS_MAX);
    assert(in->bad_word_count <= TUNNEL_BAD_WORDS_MAX);
    msgpack_packer_init(&p, w, to_writer);
    msgpack_pack_array(&p, 3); /* the fields, then the two that a scheduler reads */
    pack_request(&p, in);
    put_int(&p, in->priority);
    msgpack_pack_uint32(&p, in->timeout_ms);
    return writer_ok(w);
}

#define GET(key, call) (reader_key(r, key), call)

static void parse_prompts(struct reader *r, struct tunnel_request *out)
{
    reader_key(r, "prompts");
    size_t count = reader_list(r, 0, 2 * tunnel_prompts_max(out->task));
    if (count % 2 != 0)
        reader_fail(r, READER_RANGE);
    out->prompt_count = r->err == READER_OK ? count / 2 : 0;
    for (size_t i = 0; i < out->prompt_count; i++) {
        out->prompt[i].is_ids = reader_bool(r);
        out->prompt[i].bytes =
            out->prompt[i].is_ids ? get_ids(r, TUNNEL_REQUEST_MAX) : reader_bin(r, 0, TUNNEL_REQUEST_MAX);
    }
}

static void parse_lists(struct reader *r, struct tunnel_request *out)
{
    out->stop_count = GET("stop", reader_list(r, 0, TUNNEL_STOPS_MAX));
    for (size_t i = 0; i < out->stop_count; i++)
        out->stop[i] = reader_bin(r, 1, TUNNEL_TEXT_MAX);
    out->stop_id_count = GET("stop_ids", reader_list(r, 0, TUNNEL_STOP_IDS_MAX));
    for (size_t i = 0; i < out->stop_id_count; i++)
        out->stop_id[i] = get_u32(r, UINT32_MAX);
    size_t count = GET("bias", reader_list(r, 0, 2 * TUNNEL_BIAS_MAX));
    if (count % 2 != 0)
        reader_fail(r, READER_RANGE);
    out->bias_count = r->err == READER_OK ? count / 2 : 0;
    for (size_t i = 0; i < out->bias_count; i++) {
        out->bias[i].id = get_u32(r, UINT32_MAX);
        out->bias[i].bias = get_real(r, -100, 100);
    }
    out->allowed_ids = GET("allowed_ids", get_ids(r, 4 * TUNNEL_ALLOWED_MAX));
    out->bad_word_count = GET("bad_words", reader_list(r, 0, TUNNEL_BAD_WORDS_MAX));
    for (size_t i = 0; i < out->bad_word_count; i++)
        out->bad_word[i] = reader_bin(r, 1, TUNNEL_BAD_WORD_MAX);
}

static void parse_sampling(struct reader *r, struct tunnel_request *out)
{
    out->has_max_tokens = GET("has_max_tokens", reader_bool(r));
    out->max_tokens = GET("max_tokens", get_u32(r, UINT32_MAX));
    out->min_tokens = GET("min_tokens", get_u32(r, UINT32_MAX));
    out->n = GET("n", (uint32_t)reader_uint(r, 1, TUNNEL_CHOICES_MAX));
    out->temperature = GET("temperature", get_real_or_nil(r, 0, 2));
    out->top_p = GET("top_p", get_real_or_nil(r, 0, 1));
    out->min_p = GET("min_p", get_real_or_nil(r, 0, 1));
    out->repetition_penalty = GET("repetition_penalty", get_real_or_nil(r, 1e-3, 1e3));
    out->presence_penalty = GET("presence_penalty", get_real(r, -2, 2));
    out->frequency_penalty = GET("frequency_penalty", get_real(r, -2, 2));
    reader_key(r, "top_k");
    out->top_k = reader_nil(r) ? TUNNEL_TOP_K_LEFT_OUT : get_u32(r, INT32_MAX);
    reader_key(r, "seed");
    out->has_seed = !reader_nil(r);
    out->seed = out->has_seed ? reader_uint(r, 0, UINT64_MAX) : 0;
    parse_lists(r, out);
    out->truncate_prompt = (int32_t)GET("truncate_prompt", get_int(r, -1, INT32_MAX));
    out->return_ids = GET("return_ids", reader_bool(r));
    out->logprobs = (int)GET("logprobs", get_int(r, -1, TUNNEL_TOP_MAX));
    out->prompt_logprobs = (int)GET("prompt_logprobs", get_int(r, -1, TUNNEL_TOP_MAX));
    out->ignore_eos = GET("ignore_eos", reader_bool(r));
    out->include_stop = GET("include_stop", reader_bool(r));
    out->skip_special = GET("skip_special", reader_bool(r));
    out->echo = GET("echo", reader_bool(r));
    out->stream = GET("stream", reader_bool(r));
    out->salt = GET("isolation", reader_bin(r, 0, 64));
}

static void parse_request(struct reader *r, struct tunnel_request *out)
{
    reader_map(r, REQUEST_KEYS);
    reader_key(r, "id");
    reader_bin_copy(r, out->id, sizeof out->id);
    out->task = (enum tunnel_task)GET("task", reader_uint(r, 0, TUNNEL_DETOKENIZE));
    out->model = GET("model", reader_bin(r, 1, TUNNEL_NAME_MAX));
    out->messages = GET("messages", reader_bin(r, 0, TUNNEL_REQUEST_MAX));
    out->tools = GET("tools", reader_bin(r, 0, TUNNEL_REQUEST_MAX));
    out->template_kwargs = GET("template_kwargs", reader_bin(r, 0, TUNNEL_REQUEST_MAX));
    out->add_generation_prompt = GET("add_generation_prompt", reader_bool(r));
    out->continue_final_message = GET("continue_final_message", reader_bool(r));
    out->add_special_tokens = GET("add_special_tokens", reader_bool(r));
    parse_prompts(r, out);
    out->tool_choice = (enum tunnel_tool_choice)GET("tool_choice", reader_uint(r, 0, TUNNEL_TOOLS_NAMED));
    out->tool_name = GET("tool_name", reader_bin(r, 0, TUNNEL_NAME_MAX));
    out->parallel_tool_calls = GET("parallel_tool_calls", reader_bool(r));
    out->format = (enum tunnel_format)GET("format", reader_uint(r, 0, TUNNEL_FORMAT_CHOICE));
    out->format_text = GET("format_text", reader_bin(r, 0, 1 << 20));
    parse_sampling(r, out);
}

enum reader_err tunnel_request_parse(struct tunnel_request *out, struct span bytes)
{
    struct reader reader = reader_over(bytes), *r = &reader;
    memset(out, 0, sizeof *out);
    if (reader_list(r, 3, 3) == 3)
        parse_request(r, out);
    out->priority = (int32_t)get_int(r, INT32_MIN, INT32_MAX);
    out->timeout_ms = get_u32(r, UINT32_MAX);
    (void)reader_end(r);
    return r->err;
}

/* --- event ------------------------------------------------------------------------------------- */

/* An event is a list: kind, then what that kind carries. */
static const uint8_t event_fields[] = {
    [TUNNEL_EVENT_START] = 4,  [TUNNEL_EVENT_DELTA] = 7, [TUNNEL_EVENT_PROMPT] = 4, [TUNNEL_EVENT_FINISH] = 3,
    [TUNNEL_EVENT_RESULT] = 5, [TUNNEL_EVENT_DONE] = 4,  [TUNNEL_EVENT_ERROR] = 5};

static void pack_top(msgpack_packer *p, const struct tunnel_top *t)
{
    msgpack_pack_uint32(p, t->id);
    msgpack_pack_double(p, t->logprob);
    put_bin(p, t->bytes);
}

static void pack_logprobs(msgpack_packer *p, const struct tunnel_event *in)
{
    assert(in->logprob_count <= TUNNEL_LOGPROBS_MAX);
    msgpack_pack_array(p, in->logprob_count);
    for (size_t i = 0; i < in->logprob_count; i++) {
        const struct tunnel_logprob *l = &in->logprob[i];
        assert(l->top_count <= TUNNEL_TOP_MAX);
        msgpack_pack_array(p, 4 + 3 * l->top_count);
        put_bool(p, l->known);
        pack_top(p, &l->chosen);
        for (size_t j = 0; j < l->top_count; j++)
            pack_top(p, &l->top[j]);
    }
}

static void pack_event(msgpack_packer *p, const struct tunnel_event *in)
{
    msgpack_pack_array(p, event_fields[in->kind]);
    msgpack_pack_uint32(p, in->kind);
    switch (in->kind) {
    case TUNNEL_EVENT_START:
        msgpack_pack_uint32(p, in->prompt_tokens);
        msgpack_pack_uint32(p, in->cached_tokens);
        msgpack_pack_uint32(p, in->context_max);
        return;
    case TUNNEL_EVENT_DELTA:
        msgpack_pack_uint32(p, in->index);
        msgpack_pack_uint32(p, in->channel);
        msgpack_pack_uint32(p, in->tool_index);
        put_bin(p, in->text);
        put_bin(p, in->ids);
        pack_logprobs(p, in);
        return;
    case TUNNEL_EVENT_PROMPT:
        msgpack_pack_uint32(p, in->index);
        put_bin(p, in->ids);
        pack_logprobs(p, in);
        return;
    case TUNNEL_EVENT_FINISH:
        msgpack_pack_uint32(p, in->index);
        msgpack_pack_uint32(p, in->finish);
        return;
    case TUNNEL_EVENT_RESULT:
        msgpack_pack_uint32(p, in->index);
        put_bin(p, in->text);
        put_bin(p, in->ids);
        put_bin(p, in->floats);
        return;
    case TUNNEL_EVENT_DONE:
        msgpack_pack_uint32(p, in->prompt_tokens);
        msgpack_pack_uint32(p, in->completion_tokens);
        msgpack_pack_uint32(p, in->cached_tokens);
        return;
    case TUNNEL_EVENT_ERROR:
        msgpack_pack_uint32(p, in->status);
        put_bin(p, in->code);
        put_bin(p, in->param);
        put_bin(p, in->text);
        return;
    }
}

bool tunnel_event_pack(struct writer *w, const struct tunnel_event *in)
{
    msgpack_packer p;
    msgpack_packer_init(&p, w, to_writer);
    pack_event(&p, in);
    return writer_ok(w);
}

static void parse_top(struct reader *r, struct tunnel_top *out)
{
    out->id = get_u32(r, UINT32_MAX);
    out->logprob = get_real(r, -1e30, 1e-3);
    out->bytes = reader_bin(r, 0, 256);
}

static void parse_logprobs(struct reader *r, struct tunnel_event *out)
{
    out->logprob_count = reader_list(r, 0, TUNNEL_LOGPROBS_MAX);
    for (size_t i = 0; i < out->logprob_count; i++) {
        struct tunnel_logprob *l = &out->logprob[i];
        size_t fields = reader_list(r, 4, 4 + 3 * TUNNEL_TOP_MAX);
        if ((fields - 4) % 3 != 0)
            reader_fail(r, READER_RANGE);
        l->known = reader_bool(r);
        parse_top(r, &l->chosen);
        l->top_count = r->err == READER_OK ? (fields - 4) / 3 : 0;
        for (size_t j = 0; j < l->top_count; j++)
            parse_top(r, &l->top[j]);
    }
}

static void parse_fields(struct reader *r, struct tunnel_event *out)
{
    switch (out->kind) {
    case TUNNEL_EVENT_START:
        out->prompt_tokens = get_u32(r, UINT32_MAX);
        out->cached_tokens = get_u32(r, UINT32_MAX);
        out->context_max = get_u32(r, UINT32_MAX);
        return;
    case TUNNEL_EVENT_DELTA:
        out->index = get_u32(r, TUNNEL_PROMPTS_MAX * TUNNEL_CHOICES_MAX - 1);
        out->channel = (enum tunnel_channel_name)get_u32(r, TUNNEL_TOOL_ARGUMENTS);
        out->tool_index = get_u32(r, 1023);
        out->text = reader_bin(r, 0, TUNNEL_TEXT_MAX);
        out->ids = get_ids(r, TUNNEL_TEXT_MAX);
        parse_logprobs(r, out);
        return;
    case TUNNEL_EVENT_PROMPT:
        out->index = get_u32(r, TUNNEL_PROMPTS_MAX * TUNNEL_CHOICES_MAX - 1);
        out->ids = get_ids(r, 2 * TUNNEL_TEXT_MAX);
        parse_logprobs(r, out);
        return;
    case TUNNEL_EVENT_FINISH:
        out->index = get_u32(r, TUNNEL_PROMPTS_MAX * TUNNEL_CHOICES_MAX - 1);
        out->finish = (enum tunnel_finish)get_u32(r, TUNNEL_FINISH_TOOL_CALLS);
        return;
    case TUNNEL_EVENT_RESULT:
        out->index = get_u32(r, TUNNEL_INPUTS_MAX - 1);
        out->text = reader_bin(r, 0, TUNNEL_TEXT_MAX);
        out->ids = get_ids(r, 2 * TUNNEL_TEXT_MAX);
        out->floats = get_ids(r, 2 * TUNNEL_TEXT_MAX);
        return;
    case TUNNEL_EVENT_DONE:
        out->prompt_tokens = get_u32(r, UINT32_MAX);
        out->completion_tokens = get_u32(r, UINT32_MAX);
        out->cached_tokens = get_u32(r, UINT32_MAX);
        return;
    case TUNNEL_EVENT_ERROR:
        out->status = (uint32_t)reader_uint(r, 400, 599);
        out->code = reader_bin(r, 0, 64);
        out->param = reader_bin(r, 0, 128);
        out->text = reader_bin(r, 0, TUNNEL_TEXT_MAX);
        return;
    }
}

enum reader_err tunnel_event_parse(struct tunnel_event *out, struct span bytes)
{
    struct reader reader = reader_over(bytes), *r = &reader;
    memset(out, 0, sizeof *out);
    size_t count = reader_list(r, 3, 7);
    out->kind = (enum tunnel_event_kind)get_u32(r, TUNNEL_EVENT_ERROR);
    if (r->err == READER_OK && count != event_fields[out->kind])
        reader_fail(r, READER_RANGE);
    parse_fields(r, out);
    (void)reader_end(r);
    return r->err;
}
