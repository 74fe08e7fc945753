/* Are content, reasoning and tool calls told apart, wherever the text is cut, and does what only looks like a call stay
 * content? */
#include <check.h>

#include "engine/toolcall.h"
#include "unit/run.h"

static struct writer got; /* "C:text|R:text|N0:name|A0:arguments", neighbours of one kind joined */
static int last;

static void part(void *ctx, enum tunnel_channel_name channel, uint32_t tool, struct span text)
{
    (void)ctx;
    int now = (int)channel + 10 * (int)tool;
    if (now != last) {
        writer_str(&got, got.len ? "|" : "");
        writer_u8(&got, (uint8_t) "CRNA"[channel]);
        if (channel >= TUNNEL_TOOL_NAME)
            writer_printf(&got, "%u", tool);
        writer_u8(&got, ':');
    }
    last = now;
    writer_bytes(&got, text);
}

/* Feed `text` in pieces of `step` bytes. */
static uint32_t feed(struct engine_toolcall_style style, const char *prompt, const char *text, size_t step)
{
    json_t *tools = json_loads("[{\"function\":{\"name\":\"f\"}},{\"function\":{\"name\":\"g\"}}]", 0, NULL);
    bool thinking = engine_toolcall_opens_thought(style, span_str(prompt));
    struct engine_toolcall *o = engine_toolcall_open(style, tools, thinking, part, NULL);
    size_t len = strlen(text);
    ck_assert_ptr_nonnull(o);
    got = writer_with_max(1 << 20);
    last = -1;
    for (size_t at = 0; at < len; at += step)
        engine_toolcall_text(o, span_of(text + at, step < len - at ? step : len - at));
    uint32_t calls = engine_toolcall_finish(o);
    engine_toolcall_close(o);
    json_decref(tools);
    writer_u8(&got, 0);
    return calls;
}

#define HERMES                                                                                                         \
    {                                                                                                                  \
        ENGINE_TOOLCALL_HERMES, true                                                                                   \
    }
#define LLAMA3                                                                                                         \
    {                                                                                                                  \
        ENGINE_TOOLCALL_LLAMA3, false                                                                                  \
    }
#define MISTRAL                                                                                                        \
    {                                                                                                                  \
        ENGINE_TOOLCALL_MISTRAL, false                                                                                 \
    }
#define PYTHONIC                                                                                                       \
    {                                                                                                                  \
        ENGINE_TOOLCALL_PYTHON, false                                                                                  \
    }
#define HARMONY                                                                                                        \
    {                                                                                                                  \
        ENGINE_TOOLCALL_HARMONY, false                                                                                 \
    }

static const struct {
    struct engine_toolcall_style style;
    const char *prompt, *text, *want;
    uint32_t tools;
} cases[] = {
    {HERMES, "", "plain text \n", "C:plain text \n", 0},
    {HERMES, "", "<think>\nhm\n</think>\n\nyes", "R:hm\n|C:yes", 0},
    {HERMES, "x<think>\n", "hm</think>yes", "R:hm|C:yes", 0},
    {HERMES, "", "a <think>b</think>", "C:a <think>b</think>", 0},
    {HERMES, "x<think>\n", "never ends", "R:never ends", 0},
    {HERMES, "",
     "ok\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 0.1, \"y\": [1, \"}\"]}}\n</tool_call>\n"
     "<tool_call>{\"name\":\"g\"}</tool_call>",
     "C:ok|N0:f|A0:{\"x\": 0.1, \"y\": [1, \"}\"]}|N1:g|A1:{}", 2},
    {HERMES, "", "<tool_call>{\"name\": \"h\"}</tool_call>", "C:<tool_call>{\"name\": \"h\"}</tool_call>", 0},
    {HERMES, "x<think>", " \n hm</think> \n ", "R:hm", 0},
    {HERMES, "", "<tool_call>{\"name\": 3}</tool_call>!", "C:<tool_call>{\"name\": 3}</tool_call>!", 0},
    {HERMES, "", "<tool_call>{\"name\": \"f\"", "C:<tool_call>{\"name\": \"f\"", 0},
    {HERMES, "", "<tool_call>{\"name\": \"f\", \"arguments\": {}}", "N0:f|A0:{}", 1},
    {HERMES, "", "a <tool_ca b", "C:a <tool_ca b", 0},
    {LLAMA3, "", "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}}", "N0:f|A0:{\"a\": \"b\"}", 1},
    {LLAMA3, "", "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"arguments\": \"{}\"}",
     "N0:f|A0:{}|N1:g|A1:{}", 2},
    {LLAMA3, "", "{\"name\": \"f\"} and more", "C:{\"name\": \"f\"} and more", 0},
    {LLAMA3, "", "{\"x\": 1}", "C:{\"x\": 1}", 0},
    {LLAMA3, "", "Hello {", "C:Hello {", 0},
    {MISTRAL, "", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"n\": 1e3}}, {\"name\": \"g\", \"arguments\": {}}]",
     "N0:f|A0:{\"n\": 1e3}|N1:g|A1:{}", 2},
    {MISTRAL, "", "hi [TOOL_CALLS]f[ARGS]{\"n\": 1}[TOOL_CALLS]g[ARGS]{}", "C:hi|N0:f|A0:{\"n\": 1}|N1:g|A1:{}", 2},
    {MISTRAL, "", "[TOOL_CALLS]oops", "C:[TOOL_CALLS]oops", 0},
    {PYTHONIC, "", "[f(a=1, b='x\\'\"\\n', c=[True, None, (2.5,)], d={'k': -3}), g()]",
     "N0:f|A0:{\"a\":1,\"b\":\"x'\\u0022\\u000a\",\"c\":[true,null,[2.5]],\"d\":{\"k\":-3}}|N1:g|A1:{}", 2},
    {PYTHONIC, "", " [g( x = \"\\u00e9\" ,)] \n", "N0:g|A0:{\"x\":\"\\u00e9\"}", 1},
    {PYTHONIC, "", "[h(a=1)]", "C:[h(a=1)]", 0},
    {PYTHONIC, "", "[f(1)]", "C:[f(1)]", 0},
    {PYTHONIC, "", "[f(a=os.system)]", "C:[f(a=os.system)]", 0},
    {PYTHONIC, "", "[f(a=1)] and more", "C:[f(a=1)] and more", 0},
    {PYTHONIC, "", "[1, 2]", "C:[1, 2]", 0},
    {PYTHONIC, "", "[f(a=1", "C:[f(a=1", 0},
    {PYTHONIC, "", "f(a=1)", "C:f(a=1)", 0},
    {PYTHONIC, "", "[f(a='\\q')]", "C:[f(a='\\q')]", 0},
    {HARMONY, "", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>",
     "R:hm|C:yes", 0},
    {HARMONY, "", "<|channel|>commentary to=functions.g <|constrain|>json<|message|>{\"a\": 1}<|call|>",
     "N0:g|A0:{\"a\": 1}", 1},
    {HARMONY, "", "<|channel|>final<|message|>a <|x|> <|en", "C:a <|x|> <|en", 0},
    {HARMONY, "", "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>", "N0:f|A0:{}", 1},
};

START_TEST(parts_are_told_apart_wherever_text_is_cut)
{
    for (size_t step = 1; step < 40; step += step < 4 ? 1 : 9) {
        uint32_t tools = feed(cases[_i].style, cases[_i].prompt, cases[_i].text, step);
        ck_assert_str_eq((const char *)writer_span(&got).data, cases[_i].want);
        ck_assert_uint_eq(tools, cases[_i].tools);
        writer_release(&got);
    }
}
END_TEST

START_TEST(without_tools_everything_is_content)
{
    struct engine_toolcall_style none = {ENGINE_TOOLCALL_NONE, false};
    ck_assert_uint_eq(feed(none, "<think>", "<think><tool_call>{}</tool_call>", 3), 0);
    ck_assert_str_eq((const char *)writer_span(&got).data, "C:<think><tool_call>{}</tool_call>");
    writer_release(&got);
}
END_TEST

START_TEST(an_endless_call_becomes_content)
{
    struct engine_toolcall_style style = HERMES;
    struct engine_toolcall *o = engine_toolcall_open(style, NULL, false, part, NULL);
    static uint8_t chunk[65536];
    memset(chunk, 'x', sizeof chunk);
    got = writer_with_max(8 << 20);
    last = -1;
    engine_toolcall_text(o, span_str("<tool_call>"));
    for (int i = 0; i < 40; i++)
        engine_toolcall_text(o, span_of(chunk, sizeof chunk));
    ck_assert_uint_eq(engine_toolcall_finish(o), 0);
    ck_assert_uint_eq(got.len, 2 + strlen("<tool_call>") + 40 * sizeof chunk);
    engine_toolcall_close(o);
    writer_release(&got);
}
END_TEST

START_TEST(styles_are_seen_in_templates)
{
    ck_assert_int_eq(engine_toolcall_style_of(span_str("x <tool_call> </think> <think>")).tools,
                     ENGINE_TOOLCALL_HERMES);
    ck_assert(engine_toolcall_style_of(span_str("<think>")).thinks);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("[TOOL_CALLS]")).tools, ENGINE_TOOLCALL_MISTRAL);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("<|channel|>")).tools, ENGINE_TOOLCALL_HARMONY);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("<|start_header_id|> '\"parameters\": '")).tools,
                     ENGINE_TOOLCALL_LLAMA3);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("hello")).tools, ENGINE_TOOLCALL_NONE);
    enum engine_toolcall_format f;
    ck_assert(engine_toolcall_format_named("hermes", &f) && f == ENGINE_TOOLCALL_HERMES);
    ck_assert(engine_toolcall_format_named("pythonic", &f) && f == ENGINE_TOOLCALL_PYTHON);
    ck_assert(!engine_toolcall_format_named("x", &f));
    struct engine_toolcall_style thinks = {ENGINE_TOOLCALL_HERMES, false};
    ck_assert(engine_toolcall_thoughts_named("qwen3", &thinks) && thinks.thinks &&
              thinks.tools == ENGINE_TOOLCALL_HERMES);
    ck_assert(engine_toolcall_thoughts_named("none", &thinks) && !thinks.thinks);
    ck_assert(engine_toolcall_thoughts_named("openai_gptoss", &thinks) && thinks.tools == ENGINE_TOOLCALL_HARMONY);
    ck_assert(!engine_toolcall_thoughts_named("x", &thinks));
    struct engine_toolcall_style harmony = HARMONY, hermes = HERMES;
    ck_assert(engine_toolcall_is_marker(harmony, span_str("<|call|>")));
    ck_assert(engine_toolcall_is_marker(hermes, span_str("</think>")));
    ck_assert(!engine_toolcall_is_marker(hermes, span_str("<|call|>")));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, parts_are_told_apart_wherever_text_is_cut, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, without_tools_everything_is_content);
    tcase_add_test(t, an_endless_call_becomes_content);
    tcase_add_test(t, styles_are_seen_in_templates);
}

RUN("engine_toolcall", add_tests)
