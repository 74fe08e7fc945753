/* node_sealed.h - one sealed request inside airlock-engine: opened, checked, answered in sealed chunks.
 * The proxy sees its head, sizes and times only (PROTOCOL.md § Sealed mode). The engine therefore does here what the
 * proxy does in plain mode: OpenAI's JSON to a request, the policy's admission, events back to JSON. Every refusal of
 * what was inside goes back sealed. The loop's thread only. */
#ifndef ENGINE_NODE_SEALED_H
#define ENGINE_NODE_SEALED_H

#include "engine/node_parts.h"

struct sealed;

/* Open `body`. NULL with a code for the proxy in `*code` when nothing inside can be trusted or read: another engine's,
 * an old key, changed bytes, a replay. Otherwise yours: sealed_free(). */
struct sealed *sealed_open(struct node *n, struct span body, const char **code);
void sealed_free(struct sealed *s); /* wipes */

/* The request to submit; NULL when it was refused: then the sealed answer is complete already. */
const struct tunnel_request *sealed_request(const struct sealed *s);
/* One packed event of the engine's answer. False: it was not one of ours, or memory is short; end the stream. */
MUST_CHECK bool sealed_feed(struct sealed *s, struct span packed);
/* Sealed bytes to send, and whether they are the last. */
struct span sealed_bytes(const struct sealed *s);
bool sealed_is_whole(const struct sealed *s);
void sealed_sent(struct sealed *s, size_t len);

#endif
