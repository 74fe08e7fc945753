/* openai_responses_parse.h - inside the Responses codec: shared by openai_responses*.c alone. */
#ifndef TUNNEL_OPENAI_RESPONSES_PARSE_H
#define TUNNEL_OPENAI_RESPONSES_PARSE_H

#include "tunnel/json.h"
#include "tunnel/openai_responses.h"

/* The chat body that asks what `body` (an object) asks; NULL with `*why` filled. */
json_t *responses_to_chat(const json_t *body, struct openai_error *why);

#endif
