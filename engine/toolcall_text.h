/* toolcall_text.h - the markers of thoughts and tool calls, and what looks for them, for engine/toolcall*.c alone. */
#ifndef ENGINE_TOOLCALL_TEXT_H
#define ENGINE_TOOLCALL_TEXT_H

#include <string.h>

#include "verifier/base/span.h"

#define TOOLCALL_THINK "<think>"
#define TOOLCALL_THINK_END "</think>"
#define TOOLCALL_CALL "<tool_call>" /* Hermes, Qwen; Granite 3.1 */
#define TOOLCALL_CALL_END "</tool_call>"
#define TOOLCALL_FUNCTION "<function=" /* Qwen3-Coder */
#define TOOLCALL_PARAMETER "<parameter="
#define TOOLCALL_CALLS "[TOOL_CALLS]" /* Mistral */
#define TOOLCALL_ARGS "[ARGS]"
#define TOOLCALL_PYTHON_TAG "<|python_tag|>" /* Llama */
#define TOOLCALL_GRANITE "<|tool_call|>"
#define TOOLCALL_FUNCTOOLS "functools" /* Phi-4-mini */
/* DeepSeek: with U+FF5C for | and U+2581 between words. */
#define TOOLCALL_LIST                                                                                                  \
    "<\xef\xbd\x9ctool\xe2\x96\x81"                                                                                    \
    "calls\xe2\x96\x81"                                                                                                \
    "begin\xef\xbd\x9c>"
#define TOOLCALL_LIST_END                                                                                              \
    "<\xef\xbd\x9ctool\xe2\x96\x81"                                                                                    \
    "calls\xe2\x96\x81"                                                                                                \
    "end\xef\xbd\x9c>"
#define TOOLCALL_ITEM                                                                                                  \
    "<\xef\xbd\x9ctool\xe2\x96\x81"                                                                                    \
    "call\xe2\x96\x81"                                                                                                 \
    "begin\xef\xbd\x9c>"
#define TOOLCALL_ITEM_END                                                                                              \
    "<\xef\xbd\x9ctool\xe2\x96\x81"                                                                                    \
    "call\xe2\x96\x81"                                                                                                 \
    "end\xef\xbd\x9c>"
#define TOOLCALL_SEP "<\xef\xbd\x9ctool\xe2\x96\x81sep\xef\xbd\x9c>"
/* Harmony: the first ends a header; the two after it stand inside one; the others begin one. */
#define TOOLCALL_HARMONY "<|message|>", "<|channel|>", "<|constrain|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>"

static inline bool toolcall_is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Without the white space before it. */
static inline struct span toolcall_begun(struct span s)
{
    while (s.len > 0 && toolcall_is_blank(s.data[0]))
        s = span_of(s.data + 1, s.len - 1);
    return s;
}

static inline struct span toolcall_trimmed(struct span s)
{
    s = toolcall_begun(s);
    while (s.len > 0 && toolcall_is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

static inline bool toolcall_contains(struct span s, const char *text)
{
    return s.len > 0 && memmem(s.data, s.len, text, strlen(text)) != NULL;
}

static inline bool toolcall_starts_with(struct span s, const char *text)
{
    return s.len >= strlen(text) && memcmp(s.data, text, strlen(text)) == 0;
}

static inline bool toolcall_ends_with(struct span s, const char *text)
{
    size_t len = strlen(text);
    return s.len >= len && memcmp(s.data + s.len - len, text, len) == 0;
}

#endif
