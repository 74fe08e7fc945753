/* toolcall.h - what a model writes, split into what the API calls content, reasoning and tool calls, while it streams.
 *
 * Text goes in as it is decoded; parts come out in order through one callback. Content and reasoning leave as soon as
 * they cannot be the beginning of a marker; a tool call leaves when it is complete and well-formed (Harmony's arguments
 * stream). What only looks like a tool call is content, byte for byte. One per choice; one thread at a time. Formats:
 * the models' chat templates (Llama 3.1, Qwen/Hermes, Qwen3-Coder, Mistral, DeepSeek V3/R1, Granite 3, Phi-4-mini) and
 * OpenAI's Harmony response format. */
#ifndef ENGINE_TOOLCALL_H
#define ENGINE_TOOLCALL_H

#include <jansson.h>

#include "engine/problem.h"
#include "tunnel/message.h"

#define ENGINE_TOOLCALL_MAX (1u << 20) /* bytes of one unfinished tool call; longer ones are content */
#define ENGINE_TOOLCALLS_MAX 128u      /* tool calls of one choice; later ones are content */

enum engine_toolcall_format {
    ENGINE_TOOLCALL_NONE,     /* everything is content */
    ENGINE_TOOLCALL_LLAMA3,   /* the whole answer is {"name": .., "parameters": {..}}, maybe after <|python_tag|> */
    ENGINE_TOOLCALL_HERMES,   /* <tool_call>{"name": .., "arguments": {..}}</tool_call>, any number */
    ENGINE_TOOLCALL_MISTRAL,  /* [TOOL_CALLS][{"name": .., "arguments": {..}}, ..] or [TOOL_CALLS]name[ARGS]{..} */
    ENGINE_TOOLCALL_HARMONY,  /* <|channel|>commentary to=functions.name ..<|message|>{..}<|call|>; reasoning too */
    ENGINE_TOOLCALL_PYTHON,   /* the whole answer is [name(key=value, ..), ..] */
    ENGINE_TOOLCALL_XML,      /* Qwen3-Coder: <tool_call><function=name><parameter=key>..</parameter>.. */
    ENGINE_TOOLCALL_DEEPSEEK, /* V3, R1: a list of "function", name and arguments in a block of JSON; V3.1 too */
    ENGINE_TOOLCALL_GRANITE,  /* <|tool_call|>[{"name": .., "arguments": {..}}, ..]; 3.1 writes <tool_call>, or none */
    ENGINE_TOOLCALL_PHI4      /* functools[{"name": .., "arguments": {..}}, ..] */
};

struct engine_toolcall_style {
    enum engine_toolcall_format tools;
    bool thinks; /* <think> .. </think> before the answer is reasoning */
};

/* What a chat template's own text shows about its model's answers. */
struct engine_toolcall_style engine_toolcall_style_of(struct span chat_template);
/* vLLM's names, for people: what engine_toolcall_format_named() knows. */
#define ENGINE_TOOLCALL_NAMES                                                                                          \
    "hermes, llama3_json, mistral, openai, pythonic, qwen3_coder (or qwen3_xml), deepseek_v3 (or deepseek_v31), "      \
    "granite, phi4_mini_json, none"
/* The format of a flag's value; false: no such name. */
bool engine_toolcall_format_named(const char *name, enum engine_toolcall_format *out);
/* The same for thoughts: qwen3 and deepseek_r1 write <think>, openai_gptoss is Harmony's, none has none. */
bool engine_toolcall_thoughts_named(const char *name, struct engine_toolcall_style *style);

/* `text` is borrowed for the call. `tool` numbers tool calls from 0, with the two TUNNEL_TOOL_* channels; a call begins
 * with its whole name and its arguments follow, maybe in several parts. */
typedef void engine_toolcall_part(void *ctx, enum tunnel_channel_name channel, uint32_t tool, struct span text);

struct engine_toolcall;

/* Does a rendered prompt end in an open <think>, so that the answer begins inside reasoning? */
bool engine_toolcall_opens_thought(struct engine_toolcall_style style, struct span prompt);
/* `tools`: the request's list, borrowed as long as the result; what calls another function is content. NULL: any name
 * is a call. `thinking`: the answer begins inside reasoning. NULL when memory is short. */
MUST_CHECK struct engine_toolcall *engine_toolcall_open(struct engine_toolcall_style style, const json_t *tools,
                                                        bool thinking, engine_toolcall_part *part, void *ctx);
/* Is what has come so far an unfinished thought? */
bool engine_toolcall_thinks(const struct engine_toolcall *o);
/* More text of the answer; control tokens that are markers stand in it by name. */
void engine_toolcall_text(struct engine_toolcall *o, struct span text);
/* Is the control token of this name one of the style's markers? Such a token's name belongs into the text although it
 * is hidden otherwise. */
bool engine_toolcall_is_marker(struct engine_toolcall_style style, struct span name);
/* The answer is complete: what was held back leaves. Returns how many tool calls there were. */
uint32_t engine_toolcall_finish(struct engine_toolcall *o);
void engine_toolcall_close(struct engine_toolcall *o); /* wipes; NULL is fine */

#endif
