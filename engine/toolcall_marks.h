/* toolcall_marks.h - the markers of thoughts and tool calls, for engine/toolcall*.c alone. */
#ifndef ENGINE_TOOLCALL_MARKS_H
#define ENGINE_TOOLCALL_MARKS_H

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

#endif
