/* openai_response.c - the events of one request as a JSON body or as stream events. */
#include <math.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "tunnel/json.h"
#include "tunnel/openai_fields.h"

enum { ANSWER_MAX = 64 << 20 }; /* bytes of one choice's text */

struct tool_call {
    char id[32];
    struct writer name, arguments;
};

struct choice {
    struct writer content, reasoning;
    struct tool_call *tool; /* grows as calls appear */
    size_t tool_count;
    json_t *logprobs; /* chat: list of entries; completion: object of four lists */
    size_t text_offset;
    bool finished;
    enum tunnel_finish finish;
};

struct openai_response {
    enum tunnel_task task;
    char id[64], model[TUNNEL_NAME_MAX + 1];
    uint64_t created;
    bool include_usage, continuous_usage, wants_logprobs;
    size_t choice_count;
    struct choice *choice;
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    json_t *ids, *floats; /* of tokenize and embed */
    struct writer text;   /* of detokenize */
    bool failed;
    struct openai_error error;
};

struct openai_response *openai_response_open(const struct openai_request *r, const char *id, const char *model,
                                             uint64_t created)
{
    const struct tunnel_request *q = &r->request;
    struct openai_response *out = calloc(1, sizeof *out);
    size_t choices = (q->task == TUNNEL_CHAT ? 1 : q->prompt_count) * q->n;
    if (!out || !(out->choice = calloc(choices, sizeof *out->choice))) {
        free(out);
        return NULL;
    }
    out->task = q->task;
    out->choice_count = choices;
    out->created = created;
    out->include_usage = r->include_usage;
    out->continuous_usage = r->continuous_usage;
    out->wants_logprobs = q->logprobs >= 0;
    out->text = writer_with_max(ANSWER_MAX);
    (void)snprintf(out->id, sizeof out->id, "%s-%s", q->task == TUNNEL_CHAT ? "chatcmpl" : "cmpl", id);
    (void)snprintf(out->model, sizeof out->model, "%s", model);
    for (size_t i = 0; i < choices; i++) {
        out->choice[i].content = writer_with_max(ANSWER_MAX);
        out->choice[i].reasoning = writer_with_max(ANSWER_MAX);
    }
    return out;
}

static void release_choice(struct choice *c)
{
    writer_release(&c->content);
    writer_release(&c->reasoning);
    for (size_t i = 0; i < c->tool_count; i++) {
        writer_release(&c->tool[i].name);
        writer_release(&c->tool[i].arguments);
    }
    free(c->tool);
    json_decref(c->logprobs);
}

void openai_response_free(struct openai_response *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->choice_count; i++)
        release_choice(&r->choice[i]);
    free(r->choice);
    writer_release(&r->text);
    json_decref(r->ids);
    json_decref(r->floats);
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
}

/* --- log-probabilities --------------------------------------------------------------------------- */

static json_t *bytes_json(struct span s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s.len; i++)
        json_array_append_new(list, json_integer(s.data[i]));
    return list;
}

static json_t *top_json(const struct tunnel_top *t)
{
    return json_pack("{s:o,s:f,s:o}", "token", tunnel_json_text(t->bytes), "logprob", t->logprob, "bytes",
                     bytes_json(t->bytes));
}

static json_t *chat_logprobs(const struct tunnel_event *ev)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ev->logprob_count; i++) {
        const struct tunnel_logprob *l = &ev->logprob[i];
        json_t *entry = top_json(&l->chosen), *tops = json_array();
        for (size_t j = 0; j < l->top_count; j++)
            json_array_append_new(tops, top_json(&l->top[j]));
        json_object_set_new(entry, "top_logprobs", tops);
        json_array_append_new(list, entry);
    }
    return list;
}

/* The four lists of a completion's logprobs; `*offset` is where the next token's text begins, in bytes of the text. */
static json_t *completion_logprobs(const struct tunnel_event *ev, size_t *offset)
{
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array(), *offsets = json_array();
    for (size_t i = 0; i < ev->logprob_count; i++) {
        const struct tunnel_logprob *l = &ev->logprob[i];
        json_t *top = l->known ? json_object() : json_null();
        for (size_t j = 0; l->known && j < l->top_count; j++) {
            json_t *name = tunnel_json_text(l->top[j].bytes);
            json_object_set_new(top, json_string_value(name), json_real(l->top[j].logprob));
            json_decref(name);
        }
        json_array_append_new(tokens, tunnel_json_text(l->chosen.bytes));
        json_array_append_new(values, l->known ? json_real(l->chosen.logprob) : json_null());
        json_array_append_new(tops, top);
        json_array_append_new(offsets, json_integer((json_int_t)*offset));
        *offset += l->chosen.bytes.len;
    }
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", values, "top_logprobs", tops,
                     "text_offset", offsets);
}

static json_t *event_logprobs(const struct openai_response *r, struct choice *c, const struct tunnel_event *ev)
{
    if (!r->wants_logprobs)
        return json_null();
    if (r->task == TUNNEL_CHAT)
        return json_pack("{s:o}", "content", chat_logprobs(ev));
    return completion_logprobs(ev, &c->text_offset);
}

static void keep_logprobs(struct openai_response *r, struct choice *c, const struct tunnel_event *ev)
{
    static const char *const lists[] = {"content", "tokens", "token_logprobs", "top_logprobs", "text_offset"};
    json_t *more = event_logprobs(r, c, ev);
    if (!c->logprobs) {
        c->logprobs = more;
        return;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        json_array_extend(json_object_get(c->logprobs, lists[i]), json_object_get(more, lists[i]));
    json_decref(more);
}

/* --- tool calls ------------------------------------------------------------------------------------ */

/* The call that `ev` speaks of; `*is_new` when it is the first time. NULL when there is no memory or the index jumps.
 */
static struct tool_call *tool_of(struct openai_response *r, struct choice *c, const struct tunnel_event *ev,
                                 bool *is_new)
{
    *is_new = ev->tool_index == c->tool_count;
    if (ev->tool_index > c->tool_count)
        return NULL;
    if (*is_new) {
        struct tool_call *grown = realloc(c->tool, (c->tool_count + 1) * sizeof *grown);
        if (!grown)
            return NULL;
        c->tool = grown;
        struct tool_call *t = &c->tool[c->tool_count];
        *t = (struct tool_call){.name = writer_with_max(4096), .arguments = writer_with_max(ANSWER_MAX)};
        (void)snprintf(t->id, sizeof t->id, "call_%.12s%zx%04zx",
                       r->id + strlen(r->id) - (strlen(r->id) > 12 ? 12 : strlen(r->id)), (size_t)(c - r->choice),
                       c->tool_count);
        c->tool_count++;
    }
    return &c->tool[ev->tool_index];
}

static json_t *tool_calls_json(const struct choice *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->tool_count; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:{s:o,s:o}}", "id", c->tool[i].id, "type", "function",
                                              "function", "name", tunnel_json_text(writer_span(&c->tool[i].name)),
                                              "arguments", tunnel_json_text(writer_span(&c->tool[i].arguments))));
    return list;
}

/* --- bodies ------------------------------------------------------------------------------------------ */

static const char *finish_name(enum tunnel_finish finish)
{
    return finish == TUNNEL_FINISH_LENGTH ? "length" : finish == TUNNEL_FINISH_TOOL_CALLS ? "tool_calls" : "stop";
}

static json_t *usage_json(const struct openai_response *r)
{
    return json_pack("{s:I,s:I,s:I}", "prompt_tokens", (json_int_t)r->prompt_tokens, "completion_tokens",
                     (json_int_t)r->completion_tokens, "total_tokens",
                     (json_int_t)r->prompt_tokens + (json_int_t)r->completion_tokens);
}

static json_t *head_json(const struct openai_response *r, const char *object)
{
    return json_pack("{s:s,s:s,s:I,s:o}", "id", r->id, "object", object, "created", (json_int_t)r->created, "model",
                     tunnel_json_text(span_str(r->model)));
}

static json_t *choice_json(const struct openai_response *r, const struct choice *c, size_t index)
{
    json_t *logprobs = c->logprobs ? json_incref(c->logprobs) : json_null();
    json_t *finish = json_string(finish_name(c->finish));
    if (r->task == TUNNEL_COMPLETION)
        return json_pack("{s:I,s:o,s:o,s:o}", "index", (json_int_t)index, "text",
                         tunnel_json_text(writer_span(&c->content)), "logprobs", logprobs, "finish_reason", finish);
    bool silent = c->tool_count > 0 && writer_span(&c->content).len == 0;
    json_t *message = json_pack("{s:s,s:o}", "role", "assistant", "content",
                                silent ? json_null() : tunnel_json_text(writer_span(&c->content)));
    if (writer_span(&c->reasoning).len > 0)
        json_object_set_new(message, "reasoning_content", tunnel_json_text(writer_span(&c->reasoning)));
    if (c->tool_count > 0)
        json_object_set_new(message, "tool_calls", tool_calls_json(c));
    return json_pack("{s:I,s:o,s:o,s:o}", "index", (json_int_t)index, "message", message, "logprobs", logprobs,
                     "finish_reason", finish);
}

static json_t *generation_json(const struct openai_response *r)
{
    json_t *body = head_json(r, r->task == TUNNEL_CHAT ? "chat.completion" : "text_completion"),
           *choices = json_array();
    for (size_t i = 0; i < r->choice_count; i++)
        json_array_append_new(choices, choice_json(r, &r->choice[i], i));
    json_object_set_new(body, "choices", choices);
    json_object_set_new(body, "usage", usage_json(r));
    return body;
}

static json_t *embeddings_json(const struct openai_response *r)
{
    size_t i;
    json_t *data = json_array(), *vector;
    json_array_foreach(r->floats, i, vector) json_array_append_new(
        data, json_pack("{s:s,s:I,s:O}", "object", "embedding", "index", (json_int_t)i, "embedding", vector));
    return json_pack("{s:s,s:o,s:o,s:{s:I,s:I}}", "object", "list", "data", data, "model",
                     tunnel_json_text(span_str(r->model)), "usage", "prompt_tokens", (json_int_t)r->prompt_tokens,
                     "total_tokens", (json_int_t)r->prompt_tokens);
}

int openai_response_body(struct openai_response *r, struct writer *out)
{
    if (r->failed) {
        openai_error_encode(out, &r->error);
        return r->error.status;
    }
    if (r->task == TUNNEL_TOKENIZE)
        tunnel_json_write(out, json_pack("{s:I,s:o}", "count", (json_int_t)json_array_size(r->ids), "tokens",
                                         r->ids ? json_incref(r->ids) : json_array()));
    else if (r->task == TUNNEL_DETOKENIZE)
        tunnel_json_write(out, json_pack("{s:o}", "prompt", tunnel_json_text(writer_span(&r->text))));
    else if (r->task == TUNNEL_EMBED)
        tunnel_json_write(out, embeddings_json(r));
    else
        tunnel_json_write(out, generation_json(r));
    return 200;
}

/* --- collecting ---------------------------------------------------------------------------------------- */

static void collect_delta(struct openai_response *r, struct choice *c, const struct tunnel_event *ev)
{
    bool is_new;
    struct tool_call *tool = ev->channel >= TUNNEL_TOOL_NAME ? tool_of(r, c, ev, &is_new) : NULL;
    if (ev->channel == TUNNEL_CONTENT)
        writer_bytes(&c->content, ev->text);
    else if (ev->channel == TUNNEL_REASONING)
        writer_bytes(&c->reasoning, ev->text);
    else if (tool)
        writer_bytes(ev->channel == TUNNEL_TOOL_NAME ? &tool->name : &tool->arguments, ev->text);
    if (r->wants_logprobs && ev->logprob_count > 0)
        keep_logprobs(r, c, ev);
}

static void collect_result(struct openai_response *r, const struct tunnel_event *ev)
{
    for (size_t i = 0; i < tunnel_ids_count(ev->ids); i++) {
        r->ids = r->ids ? r->ids : json_array();
        json_array_append_new(r->ids, json_integer(tunnel_ids_at(ev->ids, i)));
    }
    for (size_t i = 0; i < tunnel_ids_count(ev->floats); i++) {
        uint32_t bits = tunnel_ids_at(ev->floats, i);
        float v;
        memcpy(&v, &bits, sizeof v);
        r->floats = r->floats ? r->floats : json_array();
        while (json_array_size(r->floats) <= ev->index)
            json_array_append_new(r->floats, json_array());
        json_array_append_new(json_array_get(r->floats, ev->index), json_real(isfinite(v) ? (double)v : 0));
    }
    writer_bytes(&r->text, ev->text);
}

/* What both forms keep of an event. False when it names a choice that does not exist: then the request failed. */
static bool note(struct openai_response *r, const struct tunnel_event *ev)
{
    bool of_choice =
        ev->kind == TUNNEL_EVENT_DELTA || ev->kind == TUNNEL_EVENT_PROMPT || ev->kind == TUNNEL_EVENT_FINISH;
    if (of_choice && (ev->index >= r->choice_count || r->choice[ev->index].finished)) {
        r->failed = true;
        openai_error_set(&r->error, 500, "server_error", NULL, NULL,
                         "the engine sent an answer that was not asked for");
        return false;
    }
    if (ev->kind == TUNNEL_EVENT_START || ev->kind == TUNNEL_EVENT_DONE) {
        r->prompt_tokens = ev->prompt_tokens;
        r->cached_tokens = ev->cached_tokens;
    }
    if (ev->kind == TUNNEL_EVENT_DONE)
        r->completion_tokens = ev->completion_tokens;
    else if (ev->kind == TUNNEL_EVENT_DELTA)
        r->completion_tokens += (uint32_t)tunnel_ids_count(ev->ids);
    if (ev->kind == TUNNEL_EVENT_FINISH) {
        r->choice[ev->index].finished = true;
        r->choice[ev->index].finish = ev->finish;
    }
    if (ev->kind == TUNNEL_EVENT_ERROR) {
        r->failed = true;
        openai_error_from_event(&r->error, ev);
    }
    return true;
}

/* DONE may only follow when every choice has ended: a cut answer must not look whole. */
static void check_whole(struct openai_response *r)
{
    for (size_t i = 0; i < r->choice_count && !r->failed; i++)
        if (!r->choice[i].finished && (r->task == TUNNEL_CHAT || r->task == TUNNEL_COMPLETION)) {
            r->failed = true;
            openai_error_set(&r->error, 502, "server_error", "engine_unavailable", NULL,
                             "the engine ended before the answer was complete");
        }
}

bool openai_response_collect(struct openai_response *r, const struct tunnel_event *ev)
{
    if (!note(r, ev))
        return true;
    if (ev->kind == TUNNEL_EVENT_DELTA)
        collect_delta(r, &r->choice[ev->index], ev);
    else if (ev->kind == TUNNEL_EVENT_PROMPT && r->wants_logprobs)
        keep_logprobs(r, &r->choice[ev->index], ev);
    else if (ev->kind == TUNNEL_EVENT_RESULT)
        collect_result(r, ev);
    else if (ev->kind == TUNNEL_EVENT_DONE)
        check_whole(r);
    return ev->kind == TUNNEL_EVENT_DONE || r->failed;
}

/* --- streaming ------------------------------------------------------------------------------------------- */

static void put_event(struct writer *out, json_t *value)
{
    writer_str(out, "data: ");
    tunnel_json_write(out, value);
    writer_str(out, "\n\n");
}

/* One chunk with one choice. `delta` is an object (chat) or a string (completion). */
static void put_chunk(struct openai_response *r, struct writer *out, size_t index, json_t *delta, json_t *logprobs,
                      json_t *finish)
{
    json_t *chunk = head_json(r, r->task == TUNNEL_CHAT ? "chat.completion.chunk" : "text_completion");
    json_object_set_new(chunk, "choices",
                        json_pack("[{s:I,s:o,s:o,s:o}]", "index", (json_int_t)index,
                                  r->task == TUNNEL_CHAT ? "delta" : "text", delta, "logprobs", logprobs,
                                  "finish_reason", finish));
    if (r->continuous_usage)
        json_object_set_new(chunk, "usage", usage_json(r));
    else if (r->include_usage)
        json_object_set_new(chunk, "usage", json_null());
    put_event(out, chunk);
}

static json_t *tool_delta(struct openai_response *r, struct choice *c, const struct tunnel_event *ev)
{
    bool is_new;
    struct tool_call *t = tool_of(r, c, ev, &is_new);
    json_t *text = tunnel_json_text(ev->text), *call;
    if (!t)
        return json_decref(text), json_object();
    if (is_new)
        call = json_pack("{s:I,s:s,s:s,s:{s:o,s:s}}", "index", (json_int_t)ev->tool_index, "id", t->id, "type",
                         "function", "function", "name", text, "arguments", "");
    else
        call = json_pack("{s:I,s:{s:o}}", "index", (json_int_t)ev->tool_index, "function",
                         ev->channel == TUNNEL_TOOL_NAME ? "name" : "arguments", text);
    return json_pack("{s:[o]}", "tool_calls", call);
}

static void stream_delta(struct openai_response *r, const struct tunnel_event *ev, struct writer *out)
{
    struct choice *c = &r->choice[ev->index];
    json_t *delta;
    if (r->task != TUNNEL_CHAT)
        delta = tunnel_json_text(ev->text);
    else if (ev->channel >= TUNNEL_TOOL_NAME)
        delta = tool_delta(r, c, ev);
    else
        delta = json_pack("{s:o}", ev->channel == TUNNEL_REASONING ? "reasoning_content" : "content",
                          tunnel_json_text(ev->text));
    put_chunk(r, out, ev->index, delta, event_logprobs(r, c, ev), json_null());
}

static void stream_done(struct openai_response *r, struct writer *out)
{
    if (r->include_usage) {
        json_t *chunk = head_json(r, r->task == TUNNEL_CHAT ? "chat.completion.chunk" : "text_completion");
        json_object_set_new(chunk, "choices", json_array());
        json_object_set_new(chunk, "usage", usage_json(r));
        put_event(out, chunk);
    }
    writer_str(out, "data: [DONE]\n\n");
}

bool openai_response_stream(struct openai_response *r, const struct tunnel_event *ev, struct writer *out)
{
    bool chat = r->task == TUNNEL_CHAT, good = note(r, ev);
    if (good && ev->kind == TUNNEL_EVENT_START && chat)
        for (size_t i = 0; i < r->choice_count; i++)
            put_chunk(r, out, i, json_pack("{s:s,s:s}", "role", "assistant", "content", ""), json_null(), json_null());
    else if (good && ev->kind == TUNNEL_EVENT_DELTA && (ev->text.len > 0 || ev->logprob_count > 0))
        stream_delta(r, ev, out);
    else if (good && ev->kind == TUNNEL_EVENT_PROMPT && r->wants_logprobs)
        put_chunk(r, out, ev->index, chat ? json_object() : json_string(""),
                  event_logprobs(r, &r->choice[ev->index], ev), json_null());
    else if (good && ev->kind == TUNNEL_EVENT_FINISH)
        put_chunk(r, out, ev->index, chat ? json_object() : json_string(""), json_null(),
                  json_string(finish_name(ev->finish)));
    else if (good && ev->kind == TUNNEL_EVENT_DONE)
        check_whole(r);
    if (r->failed)
        openai_response_fail(r, &r->error, out);
    else if (ev->kind == TUNNEL_EVENT_DONE)
        stream_done(r, out);
    return r->failed || ev->kind == TUNNEL_EVENT_DONE;
}

void openai_response_fail(struct openai_response *r, const struct openai_error *e, struct writer *out)
{
    r->failed = true;
    put_event(out, openai_error_json(e));
    writer_str(out, "data: [DONE]\n\n");
}
