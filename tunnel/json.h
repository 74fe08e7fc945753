/* json.h - what we add to jansson: bounded strict parsing, text that may be ill-formed, wiped memory. */
#ifndef TUNNEL_JSON_H
#define TUNNEL_JSON_H

#include <jansson.h>

#include "verifier/base/writer.h"

enum { TUNNEL_JSON_DEPTH_MAX = 128, TUNNEL_JSON_VALUES_MAX = 1 << 21 };

/* Make jansson wipe every block it frees: prompts pass through it. Call once, before the first JSON and any thread. */
void tunnel_json_wipe_memory(void);

/* Parse a whole JSON text: no repeated keys, nothing after it, at most TUNNEL_JSON_DEPTH_MAX deep, about
 * TUNNEL_JSON_VALUES_MAX values (each takes 20 to 60 times its bytes of text). NULL when refused, then `why` (of `cap`
 * bytes) says why and where, without quoting the text. */
json_t *tunnel_json_parse(struct span text, char *why, size_t cap);

/* What json_dumps() gave, wiped if that was asked for; free() would miss where the block begins. NULL is nothing. */
void tunnel_json_free(char *text);

/* A JSON string of `s`, each ill-formed byte sequence replaced by U+FFFD. */
json_t *tunnel_json_text(struct span s);

/* Append `value` compactly to `out` and release it; a NULL value turns `out` bad. */
void tunnel_json_write(struct writer *out, json_t *value);

#endif
