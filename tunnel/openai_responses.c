/* openai_responses.c - the engine's events as a response object or as its stream of named events. The response has at
 * most one message, which comes first when there is text, and the function calls in the engine's order. */
#include "tunnel/openai_responses.h"

#include "tunnel/openai_responses_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS_MAX = 128, TEXT_MAX = 64 << 20, ID_MAX = 64 };

struct item {
    bool is_call, closed;
    uint32_t tool_index;
    char id[ID_MAX + 16], call_id[ID_MAX + 16];
    struct writer name, text; /* a call's name; its arguments or the message's text */
    bool announced;
};

struct openai_responses {
    json_t *asked; /* the body, for what is echoed */
    char id[ID_MAX], model[TUNNEL_NAME_MAX + 1];
    uint64_t created, sequence;
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    size_t item_count;
    struct item *item[CALLS_MAX];
    bool begun, finished, cut; /* cut: the length limit ended it */
    bool failed;
    struct openai_error error;
};

/* --- life --------------------------------------------------------------------------------------------- */

struct openai_responses *openai_responses_parse(struct span body, struct writer *chat, struct openai_error *why)
{
    struct openai_responses *r = calloc(1, sizeof *r);
    char text[256] = "out of memory";
    json_t *json = NULL;

    if (!r)
        goto refused;
    r->asked = tunnel_json_parse(body, text, sizeof text);
    if (!json_is_object(r->asked)) {
        openai_error_set(why, 400, "invalid_request_error", "invalid_json", NULL, "%s",
                         r->asked ? "the body must be a JSON object" : text);
        goto out;
    }
    json = responses_to_chat(r->asked, why);
    if (!json)
        goto out;
    tunnel_json_write(chat, json);
    if (writer_ok(chat))
        return r;
refused:
    openai_error_set(why, 503, "server_error", "overloaded", NULL, "The server is short of memory: try again shortly.");
out:
    openai_responses_free(r);
    return NULL;
}

void openai_responses_free(struct openai_responses *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->item_count; i++) {
        writer_release(&r->item[i]->name);
        writer_release(&r->item[i]->text);
        free(r->item[i]);
    }
    json_decref(r->asked);
    free(r);
}

void openai_responses_rename(struct openai_error *e)
{
    static const char *const names[][2] = {{"messages", "input"},
                                           {"max_completion_tokens", "max_output_tokens"},
                                           {"max_tokens", "max_output_tokens"},
                                           {"response_format", "text.format"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(e->param, names[i][0], strlen(names[i][0])) == 0) {
            (void)snprintf(e->param, sizeof e->param, "%s", names[i][1]);
            return;
        }
}

void openai_responses_begin(struct openai_responses *r, const char *id, const char *model, uint64_t created)
{
    (void)snprintf(r->id, sizeof r->id, "%s", id);
    (void)snprintf(r->model, sizeof r->model, "%s", model);
    r->created = created;
}

/* --- items -------------------------------------------------------------------------------------------- */

static struct item *item_new(struct openai_responses *r, bool is_call, uint32_t tool_index)
{
    struct item *i = r->item_count < CALLS_MAX ? calloc(1, sizeof *i) : NULL;

    if (!i)
        return NULL;
    i->is_call = is_call;
    i->tool_index = tool_index;
    i->name = writer_with_max(4096);
    i->text = writer_with_max(TEXT_MAX);
    (void)snprintf(i->id, sizeof i->id, "%s_%s_%zu", is_call ? "fc" : "msg", r->id, r->item_count);
    (void)snprintf(i->call_id, sizeof i->call_id, "call_%s_%zu", r->id, r->item_count);
    r->item[r->item_count++] = i;
    return i;
}

static struct item *item_of(struct openai_responses *r, const struct tunnel_event *ev)
{
    bool is_call = ev->channel >= TUNNEL_TOOL_NAME;

    for (size_t i = 0; i < r->item_count; i++)
        if (r->item[i]->is_call == is_call && (!is_call || r->item[i]->tool_index == ev->tool_index))
            return r->item[i];
    return item_new(r, is_call, ev->tool_index);
}

static size_t index_of(const struct openai_responses *r, const struct item *item)
{
    size_t i = 0;

    while (r->item[i] != item)
        i++;
    return i;
}

static json_t *text_part(struct span text)
{
    return json_pack("{s:s,s:o,s:[],s:[]}", "type", "output_text", "text", tunnel_json_text(text), "annotations",
                     "logprobs");
}

static json_t *item_json(const struct item *i, const char *status, bool with_text)
{
    struct span text = with_text ? writer_span(&i->text) : span_of(NULL, 0);

    if (i->is_call)
        return json_pack("{s:s,s:s,s:s,s:s,s:o,s:o}", "type", "function_call", "id", i->id, "status", status, "call_id",
                         i->call_id, "name", tunnel_json_text(writer_span(&i->name)), "arguments",
                         tunnel_json_text(text));
    json_t *content = json_array();
    if (with_text)
        json_array_append_new(content, text_part(text));
    return json_pack("{s:s,s:s,s:s,s:s,s:o}", "type", "message", "id", i->id, "status", status, "role", "assistant",
                     "content", content);
}

/* --- the response object -------------------------------------------------------------------------------- */

static json_t *usage_json(const struct openai_responses *r)
{
    return json_pack("{s:I,s:{s:I},s:I,s:{s:I},s:I}", "input_tokens", (json_int_t)r->prompt_tokens,
                     "input_tokens_details", "cached_tokens", (json_int_t)r->cached_tokens, "output_tokens",
                     (json_int_t)r->completion_tokens, "output_tokens_details", "reasoning_tokens", (json_int_t)0,
                     "total_tokens", (json_int_t)r->prompt_tokens + r->completion_tokens);
}

/* What was asked, or how the API says that it was not. */
static void echo(json_t *out, const json_t *asked, const char *key, json_t *otherwise)
{
    json_t *v = json_object_get(asked, key);

    if (v && !json_is_null(v))
        json_object_set(out, key, v);
    else
        json_object_set(out, key, otherwise);
    json_decref(otherwise);
}

static void echo_request(json_t *out, const json_t *asked)
{
    echo(out, asked, "instructions", json_null());
    echo(out, asked, "max_output_tokens", json_null());
    echo(out, asked, "metadata", json_object());
    echo(out, asked, "parallel_tool_calls", json_true());
    echo(out, asked, "reasoning", json_pack("{s:n,s:n}", "effort", "summary"));
    echo(out, asked, "temperature", json_null()); /* not given: what the model wants, which only the engine knows */
    echo(out, asked, "text", json_pack("{s:{s:s}}", "format", "type", "text"));
    echo(out, asked, "tool_choice", json_string("auto"));
    echo(out, asked, "tools", json_array());
    echo(out, asked, "top_p", json_null());
    echo(out, asked, "truncation", json_string("disabled"));
    echo(out, asked, "user", json_null());
    json_object_set_new(out, "previous_response_id", json_null());
    json_object_set_new(out, "store", json_false());
}

static json_t *response_json(const struct openai_responses *r, const char *status, bool with_output)
{
    json_t *output = json_array();
    json_t *out = json_pack("{s:s+,s:s,s:I,s:s,s:n,s:n,s:s,s:o}", "id", "resp_", r->id, "object", "response",
                            "created_at", (json_int_t)r->created, "status", status, "error", "incomplete_details",
                            "model", r->model, "output", output);

    if (!out)
        return NULL;
    for (size_t i = 0; with_output && i < r->item_count; i++)
        json_array_append_new(output, item_json(r->item[i], r->cut ? "incomplete" : "completed", true));
    if (r->cut)
        json_object_set_new(out, "incomplete_details", json_pack("{s:s}", "reason", "max_output_tokens"));
    if (r->failed)
        json_object_set_new(out, "error",
                            json_pack("{s:s,s:s}", "code", r->error.code ? r->error.code : "server_error", "message",
                                      r->error.message));
    echo_request(out, r->asked);
    json_object_set_new(out, "usage", with_output ? usage_json(r) : json_null());
    return out;
}

/* --- stream events ---------------------------------------------------------------------------------------- */

/* `data` is given away. */
static void put(struct openai_responses *r, struct writer *out, const char *name, json_t *data)
{
    if (!data) {
        out->bad = true;
        return;
    }
    json_object_set_new(data, "type", json_string(name));
    json_object_set_new(data, "sequence_number", json_integer((json_int_t)r->sequence++));
    writer_printf(out, "event: %s\ndata: ", name);
    tunnel_json_write(out, data);
    writer_str(out, "\n\n");
}

static json_t *place(const struct openai_responses *r, const struct item *i)
{
    json_t *at = json_pack("{s:s,s:I}", "item_id", i->id, "output_index", (json_int_t)index_of(r, i));

    if (at && !i->is_call)
        json_object_set_new(at, "content_index", json_integer(0));
    return at;
}

static json_t *with(json_t *object, const char *key, json_t *value)
{
    if (object)
        json_object_set_new(object, key, value);
    return object;
}

static json_t *item_at(const struct openai_responses *r, const struct item *i, const char *status, bool with_text)
{
    return json_pack("{s:I,s:o}", "output_index", (json_int_t)index_of(r, i), "item", item_json(i, status, with_text));
}

static void announce(struct openai_responses *r, struct item *i, struct writer *out)
{
    i->announced = true;
    put(r, out, "response.output_item.added", item_at(r, i, "in_progress", false));
    if (!i->is_call)
        put(r, out, "response.content_part.added", with(place(r, i), "part", text_part(span_of(NULL, 0))));
}

static void close_item(struct openai_responses *r, struct item *i, struct writer *out)
{
    struct span text = writer_span(&i->text);

    if (i->closed)
        return;
    i->closed = true;
    if (!i->announced)
        announce(r, i, out);
    if (i->is_call) {
        put(r, out, "response.function_call_arguments.done", with(place(r, i), "arguments", tunnel_json_text(text)));
    } else {
        put(r, out, "response.output_text.done",
            with(with(place(r, i), "text", tunnel_json_text(text)), "logprobs", json_array()));
        put(r, out, "response.content_part.done", with(place(r, i), "part", text_part(text)));
    }
    put(r, out, "response.output_item.done", item_at(r, i, r->cut ? "incomplete" : "completed", true));
}

static void put_state(struct openai_responses *r, struct writer *out, const char *name, const char *status,
                      bool with_output)
{
    json_t *response = response_json(r, status, with_output);

    put(r, out, name, response ? json_pack("{s:o}", "response", response) : NULL);
}

static void begin(struct openai_responses *r, struct writer *out)
{
    if (r->begun)
        return;
    r->begun = true;
    put_state(r, out, "response.created", "in_progress", false);
    put_state(r, out, "response.in_progress", "in_progress", false);
}

static void fail(struct openai_responses *r, int status, const char *code, const char *message)
{
    r->failed = true;
    openai_error_set(&r->error, status, "server_error", code, NULL, "%s", message);
}

/* What both forms keep of an event; the item that it is about. A cut answer must not look whole: every part has its
 * place, and DONE may only follow the answer's end. */
static struct item *note(struct openai_responses *r, const struct tunnel_event *ev)
{
    struct item *i;

    if (ev->kind == TUNNEL_EVENT_START || ev->kind == TUNNEL_EVENT_DONE) {
        r->prompt_tokens = ev->prompt_tokens;
        r->cached_tokens = ev->cached_tokens;
    }
    if (ev->kind == TUNNEL_EVENT_DONE) {
        r->completion_tokens = ev->completion_tokens;
        if (!r->finished)
            fail(r, 502, "engine_unavailable", "the engine ended before the answer was complete");
    }
    if (ev->kind == TUNNEL_EVENT_FINISH) {
        r->finished = true;
        r->cut = ev->finish == TUNNEL_FINISH_LENGTH;
    }
    if (ev->kind == TUNNEL_EVENT_ERROR) {
        r->failed = true;
        openai_error_from_event(&r->error, ev);
    }
    if (ev->kind != TUNNEL_EVENT_DELTA || ev->channel == TUNNEL_REASONING)
        return NULL;
    if ((i = item_of(r, ev)))
        writer_bytes(ev->channel == TUNNEL_TOOL_NAME ? &i->name : &i->text, ev->text);
    if (!i || !writer_ok(&i->name) || !writer_ok(&i->text))
        fail(r, 503, "overloaded", "there is no room for the answer");
    return i;
}

bool openai_responses_stream(struct openai_responses *r, const struct tunnel_event *ev, struct writer *out)
{
    struct item *i = note(r, ev);

    if (r->failed) {
        openai_responses_fail(r, &r->error, out);
        return true;
    }
    begin(r, out);
    if (i && ev->text.len > 0 && ev->channel != TUNNEL_TOOL_NAME) {
        if (!i->announced)
            announce(r, i, out);
        put(r, out, i->is_call ? "response.function_call_arguments.delta" : "response.output_text.delta",
            with(place(r, i), "delta", tunnel_json_text(ev->text)));
    }
    if (ev->kind != TUNNEL_EVENT_DONE)
        return false;
    if (r->item_count == 0)
        (void)item_new(r, false, 0);
    for (size_t k = 0; k < r->item_count; k++)
        close_item(r, r->item[k], out);
    put_state(r, out, r->cut ? "response.incomplete" : "response.completed", r->cut ? "incomplete" : "completed", true);
    return true;
}

void openai_responses_fail(struct openai_responses *r, const struct openai_error *e, struct writer *out)
{
    r->failed = true;
    r->error = *e;
    begin(r, out);
    put(r, out, "error",
        json_pack("{s:s?,s:s,s:s?}", "code", e->code, "message", e->message, "param", e->param[0] ? e->param : NULL));
    put_state(r, out, "response.failed", "failed", true);
}

bool openai_responses_collect(struct openai_responses *r, const struct tunnel_event *ev)
{
    (void)note(r, ev);
    return ev->kind == TUNNEL_EVENT_DONE || r->failed;
}

int openai_responses_body(struct openai_responses *r, struct writer *out)
{
    if (r->failed) {
        openai_error_encode(out, &r->error);
        return r->error.status;
    }
    if (r->item_count == 0)
        (void)item_new(r, false, 0);
    tunnel_json_write(out, response_json(r, r->cut ? "incomplete" : "completed", true));
    return 200;
}
