/* openai_responses.h - OpenAI's Responses API, stateless (specs/openai-api § 7), on top of the chat codec: a request
 * becomes the chat request that asks the same, the engine's events become a response object or its stream events.
 * Pure, like tunnel/openai.h. What the server cannot keep (previous_response_id, conversation, background) is refused
 * by name; tools that are not functions are skipped. */
#ifndef TUNNEL_OPENAI_RESPONSES_H
#define TUNNEL_OPENAI_RESPONSES_H

#include "tunnel/openai.h"

/* One response under way: what was asked, and what has come so far. Owns all it holds. */
struct openai_responses;

/* Read the body of POST /v1/responses and write the equal chat body to `chat`. NULL with `*why` filled when refused.
 * Yours: openai_responses_free(), which wipes the text. */
struct openai_responses *openai_responses_parse(struct span body, struct writer *chat, struct openai_error *why);
void openai_responses_free(struct openai_responses *r);
/* Names an error of the chat codec by the field that the caller sent. */
void openai_responses_rename(struct openai_error *e);
/* `id` is the text after "resp_"; `model` the name asked for; `created` Unix seconds. Before the first event. */
void openai_responses_begin(struct openai_responses *r, const char *id, const char *model, uint64_t created);

/* Streaming: append the named events that `ev` causes. True when the response is finished. */
bool openai_responses_stream(struct openai_responses *r, const struct tunnel_event *ev, struct writer *out);
/* Not streaming: true when finished; then openai_responses_body() writes the JSON body and returns its status. */
bool openai_responses_collect(struct openai_responses *r, const struct tunnel_event *ev);
int openai_responses_body(struct openai_responses *r, struct writer *out);
/* The stream events for a failure: `error`, then `response.failed`. */
void openai_responses_fail(struct openai_responses *r, const struct openai_error *e, struct writer *out);

#endif
