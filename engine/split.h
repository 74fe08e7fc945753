/* split.h - an assistant's text into what it thinks, says and calls.
 *
 * Models mark their thinking with <think> ... </think> and their calls with <tool_call> JSON </tool_call> (Hermes,
 * Qwen, SmolLM), or answer with nothing but a call as JSON (Llama 3). Text comes in as it becomes certain; parts come
 * out in order. What may be the beginning of a marker is held back. A call is passed on when it is whole: its name,
 * then its arguments as JSON text. What does not parse as a call of a tool that the request names is ordinary text.
 * Pure; buffers are wiped. */
#ifndef ENGINE_SPLIT_H
#define ENGINE_SPLIT_H

#include <jansson.h>

#include "tunnel/message.h"

#define SPLIT_CALL_MAX (1 << 20) /* bytes of one call */

enum { SPLIT_REASONING = 1, SPLIT_TOOLS = 2 };

struct split {
    unsigned what;       /* of SPLIT_*; 0: everything is content */
    const json_t *tools; /* the request's list, borrowed; NULL: any name */
    enum { SPLIT_AT_START, SPLIT_SAYING, SPLIT_THINKING, SPLIT_CALLING, SPLIT_BARE_CALL } state;
    struct writer held;
    uint32_t calls; /* passed on so far */
    bool trim;      /* white space that follows a marker is dropped */
    void (*part)(void *ctx, enum tunnel_channel_name channel, uint32_t call, struct span text);
    void *ctx;
};

/* `thinking`: the prompt ended inside an open <think>. part() is called from split_feed() and split_finish(). */
void split_init(struct split *s, unsigned what, const json_t *tools, bool thinking,
                void (*part)(void *ctx, enum tunnel_channel_name channel, uint32_t call, struct span text), void *ctx);
void split_feed(struct split *s, struct span text);
void split_finish(struct split *s);
void split_release(struct split *s);

#endif
