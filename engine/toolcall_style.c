/* toolcall_style.c - which format a model writes: by its chat template's own text, or by a flag's name. */
#include "engine/toolcall.h"
#include "engine/toolcall_text.h"

struct engine_toolcall_style engine_toolcall_style_of(struct span t)
{
    struct engine_toolcall_style style = {ENGINE_TOOLCALL_NONE, toolcall_contains(t, TOOLCALL_THINK)};
    if (toolcall_contains(t, "<|channel|>"))
        return (struct engine_toolcall_style){ENGINE_TOOLCALL_HARMONY, false};
    if (toolcall_contains(t, TOOLCALL_CALLS))
        style.tools = ENGINE_TOOLCALL_MISTRAL;
    else if (toolcall_contains(t, TOOLCALL_ITEM))
        style.tools = ENGINE_TOOLCALL_DEEPSEEK;
    else if (toolcall_contains(t, TOOLCALL_CALL) && toolcall_contains(t, TOOLCALL_FUNCTION) &&
             toolcall_contains(t, TOOLCALL_PARAMETER))
        style.tools = ENGINE_TOOLCALL_XML;
    else if (toolcall_contains(t, TOOLCALL_GRANITE) && toolcall_contains(t, "<|start_of_role|>"))
        style.tools = ENGINE_TOOLCALL_GRANITE;
    else if (toolcall_contains(t, TOOLCALL_CALL))
        style.tools = ENGINE_TOOLCALL_HERMES;
    else if (toolcall_contains(t, TOOLCALL_FUNCTOOLS "["))
        style.tools = ENGINE_TOOLCALL_PHI4;
    else if (toolcall_contains(t, "<|start_header_id|>") && toolcall_contains(t, "\"parameters\": "))
        style.tools = ENGINE_TOOLCALL_LLAMA3;
    return style;
}

bool engine_toolcall_format_named(const char *name, enum engine_toolcall_format *out)
{
    static const struct {
        const char *name;
        enum engine_toolcall_format format;
    } names[] = {
        {"none", ENGINE_TOOLCALL_NONE},
        {"hermes", ENGINE_TOOLCALL_HERMES},
        {"llama3_json", ENGINE_TOOLCALL_LLAMA3},
        {"mistral", ENGINE_TOOLCALL_MISTRAL},
        {"openai", ENGINE_TOOLCALL_HARMONY},
        {"pythonic", ENGINE_TOOLCALL_PYTHON},
        {"qwen3_coder", ENGINE_TOOLCALL_XML},
        {"qwen3_xml", ENGINE_TOOLCALL_XML},
        {"deepseek_v3", ENGINE_TOOLCALL_DEEPSEEK},
        {"deepseek_v31", ENGINE_TOOLCALL_DEEPSEEK},
        {"granite", ENGINE_TOOLCALL_GRANITE},
        {"phi4_mini_json", ENGINE_TOOLCALL_PHI4},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].format;
            return true;
        }
    return false;
}

bool engine_toolcall_thoughts_named(const char *name, struct engine_toolcall_style *style)
{
    if (strcmp(name, "openai_gptoss") == 0)
        style->tools = ENGINE_TOOLCALL_HARMONY; /* one format for both */
    style->thinks = strcmp(name, "qwen3") == 0 || strcmp(name, "deepseek_r1") == 0;
    return style->thinks || strcmp(name, "openai_gptoss") == 0 || strcmp(name, "none") == 0;
}

bool engine_toolcall_opens_thought(struct engine_toolcall_style style, struct span prompt)
{
    return style.thinks && toolcall_ends_with(toolcall_trimmed(prompt), TOOLCALL_THINK);
}

bool engine_toolcall_is_marker(struct engine_toolcall_style style, struct span name)
{
    static const char *const marks[][8] = {
        [ENGINE_TOOLCALL_LLAMA3] = {TOOLCALL_PYTHON_TAG},
        [ENGINE_TOOLCALL_HERMES] = {TOOLCALL_CALL, TOOLCALL_CALL_END},
        [ENGINE_TOOLCALL_MISTRAL] = {TOOLCALL_CALLS, TOOLCALL_ARGS},
        [ENGINE_TOOLCALL_HARMONY] = {TOOLCALL_HARMONY},
        [ENGINE_TOOLCALL_PYTHON] = {TOOLCALL_PYTHON_TAG},
        [ENGINE_TOOLCALL_XML] = {TOOLCALL_CALL, TOOLCALL_CALL_END},
        [ENGINE_TOOLCALL_DEEPSEEK] = {TOOLCALL_LIST, TOOLCALL_LIST_END, TOOLCALL_ITEM, TOOLCALL_ITEM_END, TOOLCALL_SEP},
        [ENGINE_TOOLCALL_GRANITE] = {TOOLCALL_GRANITE, TOOLCALL_CALL},
        [ENGINE_TOOLCALL_PHI4] = {NULL},
    };
    for (size_t i = 0; i < sizeof *marks / sizeof **marks && marks[style.tools][i]; i++)
        if (span_is(name, marks[style.tools][i]))
            return true;
    return style.thinks && (span_is(name, TOOLCALL_THINK) || span_is(name, TOOLCALL_THINK_END));
}
