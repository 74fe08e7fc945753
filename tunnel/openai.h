/* openai.h - OpenAI's JSON to internal messages and back: one pure codec for the proxy and, in sealed mode, the engine.
 * No I/O, no clock, no globals. Every request field of specs/openai-api § 3 and § 6 is served, ignored by name
 * or refused by name: a known field of the wrong type or out of range is a 400 that names it, nothing is clamped. */
#ifndef TUNNEL_OPENAI_H
#define TUNNEL_OPENAI_H

#include "tunnel/message.h"

/* An error in OpenAI's shape. `message` says what to change; `param` names the field, or is empty. */
struct openai_error {
    int status;       /* HTTP status */
    const char *type; /* "invalid_request_error", ... */
    const char *code; /* "invalid_json", ... or NULL */
    char param[128];
    char message[512];
};

/* What a JSON body was turned into; owns the memory that `request` borrows from. */
struct openai_request {
    struct tunnel_request request;
    bool include_usage;       /* stream_options.include_usage */
    bool continuous_usage;    /* stream_options.continuous_usage_stats */
    bool ids_as_tokens;       /* log-probabilities name tokens "token_id:N" */
    bool hide_reasoning;      /* include_reasoning: false */
    bool base64;              /* vectors as base64 of little-endian float32 */
    struct span echo;         /* chat: the last message's text, repeated before the answer; usually empty */
    struct span id;           /* request_id: what follows "chatcmpl-"; usually empty */
    const char *format_field; /* the field that asked for structured output; static, or NULL */
    void *json;               /* the parsed body; texts above borrow from it */
    char *owned[4];           /* texts made by jansson: messages, tools, template_kwargs, format */
    uint8_t *ids;             /* token ids of all prompts */
    size_t ids_len;
    uint8_t *allowed; /* allowed_token_ids; request.allowed_ids has its length */
};

/* The task of a route: "/v1/chat/completions", ... False for any other path. */
bool openai_task_of(struct span path, enum tunnel_task *out);

/* Parse the body of a `task` request (chat, completion, embed, tokenize, detokenize). NULL with `*why` filled when
 * refused; release with openai_request_free(), which wipes the text. `request.model` is empty when the body names none.
 */
struct openai_request *openai_request_parse(enum tunnel_task task, struct span body, struct openai_error *why);
void openai_request_free(struct openai_request *r);

/* {"error":{...}} of `e`. */
void openai_error_encode(struct writer *out, const struct openai_error *e);
/* The error that an ERROR event carries. */
void openai_error_from_event(struct openai_error *out, const struct tunnel_event *ev);
/* "invalid_request_error" and its like, by the HTTP status. */
const char *openai_error_type(int status);
/* Fill `*out`; the message is printf-formatted and cut to fit. Strings `type` and `code` must be static. */
void openai_error_set(struct openai_error *out, int status, const char *type, const char *code, const char *param,
                      const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Turns the events of one request into one response body or into stream events. */
struct openai_response;
/* `id` is the text after "chatcmpl-" / "cmpl-" unless the request names its own; `model` the name asked for; `created`
 * Unix seconds. Strings are copied.
 */
struct openai_response *openai_response_open(const struct openai_request *r, const char *id, const char *model,
                                             uint64_t created);
void openai_response_free(struct openai_response *r);
/* Streaming: append to `out` the whole `data: ...\n\n` events that `ev` causes (maybe none); the last ones end with
 * `data: [DONE]\n\n`. True when the response is finished (DONE or ERROR). */
bool openai_response_stream(struct openai_response *r, const struct tunnel_event *ev, struct writer *out);
/* Not streaming: collect. True when finished; then openai_response_body() writes the JSON body and returns its status.
 */
bool openai_response_collect(struct openai_response *r, const struct tunnel_event *ev);
int openai_response_body(struct openai_response *r, struct writer *out);
/* The error that an ERROR event carries, naming the fields as this request did. */
void openai_response_error(const struct openai_response *r, struct openai_error *out, const struct tunnel_event *ev);
/* The stream events for a failure after the first event: error event, then [DONE]. */
void openai_response_fail(struct openai_response *r, const struct openai_error *e, struct writer *out);

#endif
