/* openai_response.c - the events of one request as a JSON body or as stream events. */
#include <math.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
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
    struct writer content; /* of embed: numbers as JSON, or for base64 float32, big-endian */
    struct writer reasoning;
    struct tool_call *tool; /* grows as calls appear */
    size_t tool_count;
    json_t *logprobs;                           /* chat: list of entries; completion: object of four lists */
    json_t *prompt_logprobs, *prompt_ids, *ids; /* lists, where they were asked for */
    size_t text_offset;
    bool finished;
    enum tunnel_finish finish;
};

struct openai_response {
    enum tunnel_task task;
    char id[160], model[TUNNEL_NAME_MAX + 1];
    uint64_t created;
    bool include_usage, continuous_usage, wants_logprobs;
    bool echo_logprobs, prompt_logprobs, return_ids, ids_as_tokens, hide_reasoning, base64;
    char *echo;               /* owned, or NULL: goes before each answer */
    const char *format_field; /* static, or NULL */
    uint32_t context_max;
    size_t choice_count;
    struct choice *choice;
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    json_t *ids, *pieces; /* of tokenize */
    struct writer text;   /* of detokenize */
    bool failed;
    struct openai_error error;
};

struct openai_response *openai_response_open(const struct openai_request *r, const char *id, const char *model,
                                             uint64_t created)
{
    const struct tunnel_request *q = &r->request;
    struct openai_response *out = calloc(1, sizeof *out);
    size_t choices = (q->prompt_count ? q->prompt_count : 1) * q->n; /* a conversation is one prompt */
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
    out->echo_logprobs = q->echo && q->logprobs >= 0;
    out->prompt_logprobs = q->prompt_logprobs >= 0;
    out->return_ids = q->return_ids;
    out->ids_as_tokens = r->ids_as_tokens;
    out->hide_reasoning = r->hide_reasoning;
    out->base64 = r->base64;
    out->format_field = r->format_field;
    out->text = writer_with_max(ANSWER_MAX);
    if (r->echo.len > 0 && !(out->echo = strndup((const char *)r->echo.data, r->echo.len))) {
        openai_response_free(out);
        return NULL;
    }
    (void)snprintf(out->id, sizeof out->id, "%s-%.*s", q->task == TUNNEL_CHAT ? "chatcmpl" : "cmpl",
                   r->id.len ? (int)r->id.len : (int)strlen(id), r->id.len ? (const char *)r->id.data : id);
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
    json_decref(c->prompt_logprobs);
    json_decref(c->prompt_ids);
    json_decref(c->ids);
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
    json_decref(r->pieces);
    if (r->echo)
        OPENSSL_cleanse(r->echo, strlen(r->echo));
    free(r->echo);
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

/* A token's name: its text, or its id where that was asked for. */
static json_t *token_json(const struct openai_response *r, const struct tunnel_top *t)
{
    return r->ids_as_tokens ? json_sprintf("token_id:%u", (unsigned)t->id) : tunnel_json_text(t->bytes);
}

/* JSON has no infinity; -9999 stands for one, as in vLLM. */
static json_t *logprob_json(double value)
{
    return json_real(isfinite(value) ? value : -9999.0);
}

static json_t *top_json(const struct openai_response *r, const struct tunnel_top *t)
{
    return json_pack("{s:o,s:o,s:o}", "token", token_json(r, t), "logprob", logprob_json(t->logprob), "bytes",
                     bytes_json(t->bytes));
}

static json_t *chat_logprobs(const struct openai_response *r, const struct tunnel_event *ev)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ev->logprob_count; i++) {
        const struct tunnel_logprob *l = &ev->logprob[i];
        json_t *entry = top_json(r, &l->chosen), *tops = json_array();
        for (size_t j = 0; j < l->top_count; j++)
            json_array_append_new(tops, top_json(r, &l->top[j]));
        json_object_set_new(entry, "top_logprobs", tops);
        json_array_append_new(list, entry);
    }
    return list;
}

/* Characters that begin in `bytes`. */
static size_t characters(struct span bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes.len; i++)
        n += (bytes.data[i] & 0xc0) != 0x80;
    return n;
}

/* The four lists of a completion's logprobs; `*offset` is where the next token's text begins, in characters of the
 * text. The chosen token stands among the alternatives even where it is none of the likeliest. */
static json_t *completion_logprobs(const struct openai_response *r, const struct tunnel_event *ev, size_t *offset)
{
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array(), *offsets = json_array();
    for (size_t i = 0; i < ev->logprob_count; i++) {
        const struct tunnel_logprob *l = &ev->logprob[i];
        json_t *top = l->known ? json_object() : json_null();
        for (size_t j = 0; l->known && j <= l->top_count; j++) {
            const struct tunnel_top *t = j < l->top_count ? &l->top[j] : &l->chosen;
            json_t *name = token_json(r, t);
            if (!json_object_get(top, json_string_value(name))) /* parts of characters may look alike */
                json_object_set_new(top, json_string_value(name), logprob_json(t->logprob));
            json_decref(name);
        }
        json_array_append_new(tokens, token_json(r, &l->chosen));
        json_array_append_new(values, l->known ? logprob_json(l->chosen.logprob) : json_null());
        json_array_append_new(tops, top);
        json_array_append_new(offsets, json_integer((json_int_t)*offset));
        *offset += characters(l->chosen.bytes);
    }
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", values, "top_logprobs", tops,
                     "text_offset", offsets);
}

static json_t *event_logprobs(const struct openai_response *r, struct choice *c, const struct tunnel_event *ev)
{
    if (!r->wants_logprobs)
        return json_null();
    if (r->task == TUNNEL_CHAT)
        return json_pack("{s:o}", "content", chat_logprobs(r, ev));
    return completion_logprobs(r, ev, &c->text_offset);
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

/* Prompt log-probabilities as vLLM shows them: for each token an object of id to what is known of it; null for the
 * first, which nothing came before. A rank is known for those that are among the most likely. */
static void keep_prompt_logprobs(struct choice *c, const struct tunnel_event *ev)
{
    c->prompt_logprobs = c->prompt_logprobs ? c->prompt_logprobs : json_array();
    for (size_t i = 0; i < ev->logprob_count; i++) {
        const struct tunnel_logprob *l = &ev->logprob[i];
        json_t *token = l->known ? json_object() : json_null();
        for (size_t j = 0; l->known && j <= l->top_count; j++) {
            const struct tunnel_top *t = j < l->top_count ? &l->top[j] : &l->chosen;
            char id[16];
            (void)snprintf(id, sizeof id, "%u", (unsigned)t->id);
            if (!json_object_get(token, id))
                json_object_set_new(token, id,
                                    json_pack("{s:o,s:o,s:o}", "logprob", logprob_json(t->logprob), "rank",
                                              j < l->top_count ? json_integer((json_int_t)j + 1) : json_null(),
                                              "decoded_token", tunnel_json_text(t->bytes)));
        }
        json_array_append_new(c->prompt_logprobs, token);
    }
}

static json_t *ids_json(struct span ids)
{
    json_t *list = json_array();
    for (size_t i = 0; i < tunnel_ids_count(ids); i++)
        json_array_append_new(list, json_integer(tunnel_ids_at(ids, i)));
    return list;
}

static void extend(json_t **list, json_t *more)
{
    *list = *list ? *list : json_array();
    json_array_extend(*list, more);
    json_decref(more);
}

/* --- tool calls ------------------------------------------------------------------------------------ */

/* A part of the answer has no place: what is left must not look whole. */
static void lose(struct openai_response *r)
{
    r->failed = true;
    openai_error_set(&r->error, 503, "server_error", "overloaded", NULL, "there is no room for the answer");
}

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

/* vLLM's additions, only where asked for: they belong to a completion's choice, and to the whole of a chat. */
static void add_prompt_parts(const struct openai_response *r, const struct choice *c, json_t *to)
{
    if (r->prompt_logprobs)
        json_object_set_new(to, "prompt_logprobs", c->prompt_logprobs ? json_incref(c->prompt_logprobs) : json_array());
    if (r->return_ids)
        json_object_set_new(to, "prompt_token_ids", c->prompt_ids ? json_incref(c->prompt_ids) : json_array());
}

static json_t *add_ids(const struct openai_response *r, json_t *ids, json_t *choice)
{
    if (r->return_ids)
        json_object_set_new(choice, "token_ids", ids ? json_incref(ids) : json_array());
    return choice;
}

static json_t *choice_json(const struct openai_response *r, const struct choice *c, size_t index)
{
    json_t *logprobs = c->logprobs ? json_incref(c->logprobs) : json_null();
    json_t *finish = json_string(finish_name(c->finish)), *choice;
    if (r->task == TUNNEL_COMPLETION) {
        choice = json_pack("{s:I,s:o,s:o,s:o}", "index", (json_int_t)index, "text",
                           tunnel_json_text(writer_span(&c->content)), "logprobs", logprobs, "finish_reason", finish);
        add_prompt_parts(r, c, choice);
        return add_ids(r, c->ids, choice);
    }
    bool silent = c->tool_count > 0 && writer_span(&c->content).len == 0;
    json_t *message = json_pack("{s:s,s:o}", "role", "assistant", "content",
                                silent ? json_null() : tunnel_json_text(writer_span(&c->content)));
    if (writer_span(&c->reasoning).len > 0)
        json_object_set_new(message, "reasoning_content", tunnel_json_text(writer_span(&c->reasoning)));
    if (c->tool_count > 0)
        json_object_set_new(message, "tool_calls", tool_calls_json(c));
    choice = json_pack("{s:I,s:o,s:o,s:o}", "index", (json_int_t)index, "message", message, "logprobs", logprobs,
                       "finish_reason", finish);
    return add_ids(r, c->ids, choice);
}

static json_t *generation_json(const struct openai_response *r)
{
    json_t *body = head_json(r, r->task == TUNNEL_CHAT ? "chat.completion" : "text_completion"),
           *choices = json_array();
    for (size_t i = 0; i < r->choice_count; i++)
        json_array_append_new(choices, choice_json(r, &r->choice[i], i));
    json_object_set_new(body, "choices", choices);
    json_object_set_new(body, "usage", usage_json(r));
    if (r->task == TUNNEL_CHAT)
        add_prompt_parts(r, &r->choice[0], body);
    return body;
}

/* Numbers as JSON, with commas: as they come, so that a large answer holds nobody up at its end. */
static void append_floats(struct writer *w, struct span floats)
{
    for (size_t i = 0; i < tunnel_ids_count(floats); i++) {
        uint32_t bits = tunnel_ids_at(floats, i);
        char text[40];
        float v;
        memcpy(&v, &bits, sizeof v);
        (void)snprintf(text, sizeof text, "%.17g", isfinite(v) ? (double)v : 0);
        writer_printf(w, "%s%s%s", w->len ? "," : "", text, strpbrk(text, ".e") ? "" : ".0");
    }
}

/* Little-endian float32, as OpenAI's clients unpack it. */
static json_t *base64_json(struct span bytes)
{
    size_t len = bytes.len / 4 * 4;
    uint8_t *le = malloc(len ? len : 1);
    char *text = malloc(len / 3 * 4 + 8);
    json_t *out = NULL;
    for (size_t i = 0; le && i < len; i++)
        le[i] = bytes.data[i - i % 4 + (3 - i % 4)];
    if (le && text && EVP_EncodeBlock((unsigned char *)text, le, (int)len) >= 0)
        out = json_string(text);
    free(le);
    free(text);
    return out ? out : json_string("");
}

static json_t *tokens_json(const struct openai_response *r)
{
    json_t *body = json_pack("{s:I,s:I,s:o}", "count", (json_int_t)json_array_size(r->ids), "max_model_len",
                             (json_int_t)r->context_max, "tokens", r->ids ? json_incref(r->ids) : json_array());
    if (r->return_ids)
        json_object_set_new(body, "token_strs", r->pieces ? json_incref(r->pieces) : json_array());
    return body;
}

static void write_embedding(const struct openai_response *r, size_t i, struct writer *out)
{
    struct span content = writer_span(&r->choice[i].content);
    writer_printf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
    if (r->base64) {
        tunnel_json_write(out, base64_json(content));
    } else {
        writer_u8(out, '[');
        writer_bytes(out, content);
        writer_u8(out, ']');
    }
    writer_u8(out, '}');
}

static void write_embeddings(const struct openai_response *r, struct writer *out)
{
    writer_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < r->choice_count; i++)
        write_embedding(r, i, out);
    writer_str(out, "],\"model\":");
    tunnel_json_write(out, tunnel_json_text(span_str(r->model)));
    writer_printf(out, ",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u}}", r->prompt_tokens, r->prompt_tokens);
}

int openai_response_body(struct openai_response *r, struct writer *out)
{
    if (r->failed) {
        openai_error_encode(out, &r->error);
        return r->error.status;
    }
    if (r->task == TUNNEL_TOKENIZE)
        tunnel_json_write(out, tokens_json(r));
    else if (r->task == TUNNEL_DETOKENIZE)
        tunnel_json_write(out, json_pack("{s:o}", "prompt", tunnel_json_text(writer_span(&r->text))));
    else if (r->task == TUNNEL_EMBED)
        write_embeddings(r, out);
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
    else if (ev->channel == TUNNEL_REASONING && !r->hide_reasoning)
        writer_bytes(&c->reasoning, ev->text);
    else if (tool)
        writer_bytes(ev->channel == TUNNEL_TOOL_NAME ? &tool->name : &tool->arguments, ev->text);
    else if (ev->channel >= TUNNEL_TOOL_NAME)
        lose(r);
    if (r->return_ids)
        extend(&c->ids, ids_json(ev->ids));
    if (r->wants_logprobs && ev->logprob_count > 0)
        keep_logprobs(r, c, ev);
}

static void collect_result(struct openai_response *r, const struct tunnel_event *ev)
{
    extend(&r->ids, ids_json(ev->ids));
    if (ev->index < r->choice_count && r->base64)
        writer_bytes(&r->choice[ev->index].content, ev->floats);
    else if (ev->index < r->choice_count)
        append_floats(&r->choice[ev->index].content, ev->floats);
    writer_bytes(&r->text, ev->text);
}

/* Tokens of the prompt: their log-probabilities, their ids, or (tokenize) their text. */
static void collect_prompt(struct openai_response *r, const struct tunnel_event *ev)
{
    struct choice *c = &r->choice[ev->index];
    for (size_t i = 0; i < ev->logprob_count && r->task == TUNNEL_TOKENIZE; i++) {
        r->pieces = r->pieces ? r->pieces : json_array();
        json_array_append_new(r->pieces, tunnel_json_text(ev->logprob[i].chosen.bytes));
    }
    if (r->return_ids)
        extend(&c->prompt_ids, ids_json(ev->ids));
    if (r->echo_logprobs && ev->logprob_count > 0)
        keep_logprobs(r, c, ev);
    if (r->prompt_logprobs)
        keep_prompt_logprobs(c, ev);
}

void openai_response_error(const struct openai_response *r, struct openai_error *out, const struct tunnel_event *ev)
{
    openai_error_from_event(out, ev);
    if (r->format_field && strcmp(out->param, "response_format") == 0) /* an engine knows no other name for it */
        (void)snprintf(out->param, sizeof out->param, "%s", r->format_field);
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
    if (ev->kind == TUNNEL_EVENT_START)
        r->context_max = ev->context_max;
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
        openai_response_error(r, &r->error, ev);
    }
    return true;
}

static bool is_kept(const struct choice *c)
{
    bool kept = writer_ok(&c->content) && writer_ok(&c->reasoning);
    for (size_t i = 0; i < c->tool_count; i++)
        kept = kept && writer_ok(&c->tool[i].name) && writer_ok(&c->tool[i].arguments);
    return kept;
}

/* DONE may only follow when every choice has ended, and all of its text is here: a cut answer must not look whole. */
static void check_whole(struct openai_response *r)
{
    for (size_t i = 0; i < r->choice_count && !r->failed; i++)
        if (!is_kept(&r->choice[i]) || !writer_ok(&r->text))
            lose(r);
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
    for (size_t i = 0; i < r->choice_count && r->echo && ev->kind == TUNNEL_EVENT_START; i++)
        writer_str(&r->choice[i].content, r->echo);
    if (ev->kind == TUNNEL_EVENT_DELTA)
        collect_delta(r, &r->choice[ev->index], ev);
    else if (ev->kind == TUNNEL_EVENT_PROMPT)
        collect_prompt(r, ev);
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

static json_t *no_delta(const struct openai_response *r)
{
    return r->task == TUNNEL_CHAT ? json_object() : json_string("");
}

/* One chunk with one choice. `delta` is an object (chat) or a string (completion); `ids`, maybe NULL, go with it. */
static void put_chunk(struct openai_response *r, struct writer *out, size_t index, json_t *delta, json_t *logprobs,
                      json_t *finish, json_t *ids)
{
    json_t *chunk = head_json(r, r->task == TUNNEL_CHAT ? "chat.completion.chunk" : "text_completion");
    json_t *choice =
        json_pack("{s:I,s:o,s:o,s:o}", "index", (json_int_t)index, r->task == TUNNEL_CHAT ? "delta" : "text", delta,
                  "logprobs", logprobs, "finish_reason", finish);
    if (ids)
        json_object_set_new(choice, "token_ids", ids);
    json_object_set_new(chunk, "choices", json_pack("[o]", choice));
    if (r->continuous_usage)
        json_object_set_new(chunk, "usage", usage_json(r));
    else if (r->include_usage)
        json_object_set_new(chunk, "usage", json_null());
    put_event(out, chunk);
}

/* Ids of the prompt: in a chunk of their own, where a body has them. */
static void put_prompt_ids(struct openai_response *r, struct writer *out, const struct tunnel_event *ev)
{
    json_t *chunk = head_json(r, r->task == TUNNEL_CHAT ? "chat.completion.chunk" : "text_completion");
    json_t *choice = json_pack("{s:I,s:o,s:n,s:n}", "index", (json_int_t)ev->index,
                               r->task == TUNNEL_CHAT ? "delta" : "text", no_delta(r), "logprobs", "finish_reason");
    json_object_set_new(r->task == TUNNEL_CHAT ? chunk : choice, "prompt_token_ids", ids_json(ev->ids));
    json_object_set_new(chunk, "choices", json_pack("[o]", choice));
    put_event(out, chunk);
}

static json_t *tool_delta(struct openai_response *r, struct choice *c, const struct tunnel_event *ev)
{
    bool is_new;
    struct tool_call *t = tool_of(r, c, ev, &is_new);
    json_t *text = tunnel_json_text(ev->text), *call;
    if (!t) {
        lose(r);
        return json_decref(text), json_object();
    }
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
    if (r->task == TUNNEL_CHAT && (ev->text.len == 0 || (ev->channel == TUNNEL_REASONING && r->hide_reasoning)))
        delta = json_object();
    else if (r->task != TUNNEL_CHAT)
        delta = tunnel_json_text(ev->text);
    else if (ev->channel >= TUNNEL_TOOL_NAME)
        delta = tool_delta(r, c, ev);
    else
        delta = json_pack("{s:o}", ev->channel == TUNNEL_REASONING ? "reasoning_content" : "content",
                          tunnel_json_text(ev->text));
    put_chunk(r, out, ev->index, delta, event_logprobs(r, c, ev), json_null(),
              r->return_ids ? ids_json(ev->ids) : NULL);
}

/* Does a delta have anything to show? Thoughts that nobody asked for have not, but for ids and log-probabilities. */
static bool is_shown(const struct openai_response *r, const struct tunnel_event *ev)
{
    bool hidden = r->hide_reasoning && ev->channel == TUNNEL_REASONING;
    return (ev->text.len > 0 && !hidden) || ev->logprob_count > 0 || (r->return_ids && ev->ids.len > 0);
}

static void stream_start(struct openai_response *r, struct writer *out)
{
    for (size_t i = 0; i < r->choice_count; i++)
        put_chunk(r, out, i, json_pack("{s:s,s:s}", "role", "assistant", "content", ""), json_null(), json_null(),
                  NULL);
    for (size_t i = 0; i < r->choice_count && r->echo; i++)
        put_chunk(r, out, i, json_pack("{s:s}", "content", r->echo), json_null(), json_null(), NULL);
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
    bool good = note(r, ev);
    if (good && ev->kind == TUNNEL_EVENT_START && r->task == TUNNEL_CHAT)
        stream_start(r, out);
    else if (good && ev->kind == TUNNEL_EVENT_DELTA && is_shown(r, ev))
        stream_delta(r, ev, out);
    else if (good && ev->kind == TUNNEL_EVENT_PROMPT && ev->ids.len > 0)
        put_prompt_ids(r, out, ev);
    else if (good && ev->kind == TUNNEL_EVENT_PROMPT && r->echo_logprobs)
        put_chunk(r, out, ev->index, no_delta(r), event_logprobs(r, &r->choice[ev->index], ev), json_null(), NULL);
    else if (good && ev->kind == TUNNEL_EVENT_FINISH)
        put_chunk(r, out, ev->index, no_delta(r), json_null(), json_string(finish_name(ev->finish)), NULL);
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
