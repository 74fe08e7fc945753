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

/* Every kind of parameter: of the function t, whose calls the XML form converts. */
static const char tools_text[] =
    "[{\"function\":{\"name\":\"f\"}},{\"function\":{\"name\":\"g\"}},{\"function\":{\"name\":\"t\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\"},\"i\":{\"type\":\"integer\"},"
    "\"n\":{\"type\":\"number\"},\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"},"
    "\"a\":{\"type\":[\"array\",\"null\"]},\"u\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]},"
    "\"m\":{\"type\":[\"string\",\"integer\"]},\"e\":{\"enum\":[\"x\",\"y\"]},\"r\":{\"$ref\":\"#/$defs/d\"},"
    "\"py\":{\"type\":\"int32\"},\"any\":{}},\"$defs\":{\"d\":{\"type\":\"object\"},"
    "\"loop\":{\"anyOf\":[{\"$ref\":\"#/$defs/loop\"},{\"$ref\":\"#/$defs/loop\"}]}}}}}]";

/* Feed `text` in a piece of `first` bytes and then in pieces of `step`. */
static uint32_t feed_cut(struct engine_toolcall_style style, const char *prompt, const char *text, size_t first,
                         size_t step)
{
    json_t *tools = json_loads(tools_text, 0, NULL);
    bool thinking = engine_toolcall_opens_thought(style, span_str(prompt));
    struct engine_toolcall *o = engine_toolcall_open(style, tools, thinking, part, NULL);
    size_t len = strlen(text);
    ck_assert_ptr_nonnull(tools);
    ck_assert_ptr_nonnull(o);
    got = writer_with_max(1 << 20);
    last = -1;
    if (first > 0)
        engine_toolcall_text(o, span_of(text, first));
    for (size_t at = first; at < len; at += step)
        engine_toolcall_text(o, span_of(text + at, step < len - at ? step : len - at));
    uint32_t calls = engine_toolcall_finish(o);
    engine_toolcall_close(o);
    json_decref(tools);
    writer_u8(&got, 0);
    return calls;
}

static uint32_t feed(struct engine_toolcall_style style, const char *prompt, const char *text, size_t step)
{
    return feed_cut(style, prompt, text, 0, step);
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

#define XML                                                                                                            \
    {                                                                                                                  \
        ENGINE_TOOLCALL_XML, false                                                                                     \
    }
#define DEEPSEEK                                                                                                       \
    {                                                                                                                  \
        ENGINE_TOOLCALL_DEEPSEEK, true                                                                                 \
    }
#define GRANITE                                                                                                        \
    {                                                                                                                  \
        ENGINE_TOOLCALL_GRANITE, false                                                                                 \
    }
#define PHI4                                                                                                           \
    {                                                                                                                  \
        ENGINE_TOOLCALL_PHI4, false                                                                                    \
    }
#define CALL_T(parameters) "<tool_call>\n<function=t>\n" parameters "</function>\n</tool_call>"
#define P(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"
#define BEGIN "<\uff5ctool\u2581calls\u2581begin\uff5c>"
#define END "<\uff5ctool\u2581calls\u2581end\uff5c>"
#define ITEM "<\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>"
#define ITEM31 "<\uff5ctool\u2581call\u2581begin\uff5c>"
#define SEP "<\uff5ctool\u2581sep\uff5c>"
#define ITEM_END "<\uff5ctool\u2581call\u2581end\uff5c>"

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
    {HERMES, "", "<tool_call>{\"name\": \"f\", \"\\u0061rguments\": {\"x\": 1}}</tool_call>", "N0:f|A0:{\"x\":1}", 1},
    {LLAMA3, "", "{\"name\": \"f\", \"parameters\": \"{\\\"a\\\": 1}\"}", "N0:f|A0:{\"a\": 1}", 1},
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
    /* Qwen3-Coder: values by the schema's types */
    {XML, "", "ok\n" CALL_T(P("s", "a \"q\" \\ <b>\n\té") P("i", "5")),
     "C:ok|N0:t|A0:{\"s\": \"a \\u0022q\\u0022 \\u005c <b>\\u000a\\u0009é\", \"i\": 5}", 1},
    {XML, "", CALL_T(P("i", "+007") P("n", "-.5") P("b", "True") P("o", "{\"k\": [1, 2.50]}") P("a", "[]")),
     "N0:t|A0:{\"i\": 7, \"n\": -0.5, \"b\": true, \"o\": {\"k\": [1, 2.50]}, \"a\": []}", 1},
    {XML, "", CALL_T(P("i", "many") P("n", "1e999") P("b", "maybe") P("o", "{'k': 1}") P("a", "None")),
     "N0:t|A0:{\"i\": \"many\", \"n\": \"1e999\", \"b\": \"maybe\", \"o\": \"{'k': 1}\", \"a\": null}", 1},
    {XML, "", CALL_T(P("s", "null") P("u", "null") P("i", "null") P("m", "12") P("e", "x") P("r", "{\"a\": 1}")),
     "N0:t|A0:{\"s\": \"null\", \"u\": null, \"i\": null, \"m\": 12, \"e\": \"x\", \"r\": {\"a\": 1}}", 1},
    {XML, "", CALL_T(P("m", "a") P("py", "3") P("any", "1") P("more", "{}") P("i", "99999999999999999999")),
     "N0:t|A0:{\"m\": \"a\", \"py\": 3, \"any\": \"1\", \"more\": \"{}\", \"i\": \"99999999999999999999\"}", 1},
    {XML, "", CALL_T(P("s", "") P("i", " 1.5 ") P("n", "3.") P("o", "[1]") P("b", "0")),
     "N0:t|A0:{\"s\": \"\", \"i\": 1.5, \"n\": 3.0, \"o\": [1], \"b\": false}", 1},
    {XML, "", CALL_T(P("s", "\n\nx\n\n")), "N0:t|A0:{\"s\": \"\\u000a\\u000ax\\u000a\\u000a\"}", 1},
    {XML, "", CALL_T(P("s", "1") P("i", "2") P("s", "3")), "N0:t|A0:{\"i\": 2, \"s\": \"3\"}", 1}, /* the last counts */
    {XML, "", CALL_T(P("s", "\\u00e9\\n &lt; \xf0\x9f\x99\x82")),
     "N0:t|A0:{\"s\": \"\\u005cu00e9\\u005cn &lt; \xf0\x9f\x99\x82\"}", 1},
    /* frames: parallel calls, text around them, missing tags */
    {XML, "", CALL_T("") "\n" CALL_T(P("s", "2")) " done", "N0:t|A0:{}|N1:t|A1:{\"s\": \"2\"}|C: done", 2},
    {XML, "", "<tool_call><function=f></function><function=g></function></tool_call>", "N0:f|A0:{}|N1:g|A1:{}", 2},
    {XML, "", "hm\n<function=t>\n" P("s", "x") "</function>\n</tool_call>", "C:hm|N0:t|A0:{\"s\": \"x\"}", 1},
    {XML, "", "<function=t>\n" P("s", "x") "</function>", "N0:t|A0:{\"s\": \"x\"}", 1},
    {XML, "", "<tool_call><function=f></function>\n</tool_ca", "N0:f|A0:{}", 1}, /* cut at the end */
    {XML, "", "<tool_call><function=f></function>\n</tool_ca!", "N0:f|A0:{}|C:\n</tool_ca!", 1},
    {XML, "", "<tool_call><function=t><parameter=s>x</parameter></tool_call>", "N0:t|A0:{\"s\": \"x\"}", 1},
    {XML, "", CALL_T("<parameter=s>\nx\n<parameter=i>\n3\n"), "N0:t|A0:{\"s\": \"x\", \"i\": 3}", 1},
    /* values that look like the frame */
    {XML, "", CALL_T(P("s", "<parameter=s>\n</parameter> and </function> or <tool_call> <para")),
     "N0:t|A0:{\"s\": \"<parameter=s>\\u000a</parameter> and </function> or <tool_call> <para\"}", 1},
    {XML, "", CALL_T(P("s", "a\n<parameter=zz>\nb</parameter>.")),
     "N0:t|A0:{\"s\": \"a\\u000a<parameter=zz>\\u000ab</parameter>.\"}", 1},
    /* no calls: every byte is content */
    {XML, "", "<tool_call>\n<function=h>\n</function>\n</tool_call>",
     "C:<tool_call>\n<function=h>\n</function>\n</tool_call>", 0},
    {XML, "", "<tool_call>{\"name\": \"f\"}</tool_call>", "C:<tool_call>{\"name\": \"f\"}</tool_call>", 0},
    {XML, "", "a <function=f b> <tool_c", "C:a <function=f b> <tool_c", 0},
    {XML, "", "<tool_call><function=t>oops</function></tool_call> " CALL_T(""),
     "C:<tool_call><function=t>oops</function></tool_call>|N0:t|A0:{}", 1},
    {XML, "", "<tool_call>\n<function=t>\n<parameter=s>\nhalf a val", /* a cut call is none: it must not run */
     "C:<tool_call>\n<function=t>\n<parameter=s>\nhalf a val", 0},
    {XML, "", "<tool_call>\n<function=t>\n" P("s", "x"), "C:<tool_call>\n<function=t>\n" P("s", "x"), 0},
    {XML, "", CALL_T("<parameter=>x</parameter>"), "C:" CALL_T("<parameter=>x</parameter>"), 0},
    {XML, "", CALL_T(P("s", "\xff")), "C:" CALL_T(P("s", "\xff")), 0}, /* arguments are JSON or no arguments */
    {XML, "", "<tool_call>", "C:<tool_call>", 0},
    {XML, "", "<<<function=<function=f></function>", "C:<<<function=|N0:f|A0:{}", 1},
    /* DeepSeek V3, R1 */
    {DEEPSEEK, "x<think>\n",
     "hm</think>\nok\n" BEGIN ITEM "f\n```json\n{\"a\": \"é\"}\n```" ITEM_END "\n" ITEM
     "g\n```json\n{}\n```" ITEM_END END,
     "R:hm|C:ok|N0:f|A0:{\"a\": \"é\"}|N1:g|A1:{}", 2},
    {DEEPSEEK, "", BEGIN ITEM31 "f" SEP "{\"a\": [1]}" ITEM_END END "after", "N0:f|A0:{\"a\": [1]}|C:after", 1},
    {DEEPSEEK, "", BEGIN ITEM "f\n```json\n{}\n```", "N0:f|A0:{}", 1},
    {DEEPSEEK, "", BEGIN ITEM "h\n```json\n{}\n```" ITEM_END END, "C:" BEGIN ITEM "h\n```json\n{}\n```" ITEM_END END,
     0},
    {DEEPSEEK, "", BEGIN ITEM "f\n```json\n{\"a\": 1, \"a\": 2}\n```" ITEM_END END,
     "C:" BEGIN ITEM "f\n```json\n{\"a\": 1, \"a\": 2}\n```" ITEM_END END, 0},
    {DEEPSEEK, "", BEGIN ITEM "f\n```json\n[1]\n```" ITEM_END, "C:" BEGIN ITEM "f\n```json\n[1]\n```" ITEM_END, 0},
    {DEEPSEEK, "", "a\n" BEGIN " b " END, "C:a\n" BEGIN " b " END, 0},
    {DEEPSEEK, "", "a " BEGIN ITEM "f\n```json\n{\"a\"", "C:a " BEGIN ITEM "f\n```json\n{\"a\"", 0},
    {DEEPSEEK, "", BEGIN, "C:" BEGIN, 0},
    {DEEPSEEK, "", "<\uff5ctool\u2581", "C:<\uff5ctool\u2581", 0},
    {DEEPSEEK, "", ITEM "f\n```json```" ITEM_END, "C:" ITEM "f\n```json```" ITEM_END, 0},
    /* Granite 3 */
    {GRANITE, "", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"g\"}]",
     "N0:f|A0:{\"a\": \"]\"}|N1:g|A1:{}", 2},
    {GRANITE, "", "so <tool_call> [{\"name\": \"f\", \"arguments\": {}}] done <|tool_call|>[{\"name\": \"g\"}]",
     "C:so|N0:f|A0:{}|C: done|N1:g|A1:{}", 2},
    {GRANITE, "", " [{\"name\": \"f\", \"arguments\": {}}]\n", "N0:f|A0:{}", 1},
    {GRANITE, "", "[1, 2]", "C:[1, 2]", 0},
    {GRANITE, "", "<|tool_call|>{\"name\": \"f\"}", "C:<|tool_call|>{\"name\": \"f\"}", 0},
    {GRANITE, "", "<|tool_call|>[{\"name\": \"h\"}]", "C:<|tool_call|>[{\"name\": \"h\"}]", 0},
    {GRANITE, "", "<|tool_call|>[{\"name\": \"f\"}", "C:<|tool_call|>[{\"name\": \"f\"}", 0},
    {GRANITE, "", "<|tool_call|> ", "C:<|tool_call|> ", 0},
    /* Phi-4-mini */
    {PHI4, "", "functools[{\"name\": \"f\", \"arguments\": {\"x\": [1]}}]", "N0:f|A0:{\"x\": [1]}", 1},
    {PHI4, "", "use functools.reduce, functools[0]", "C:use functools.reduce, functools[0]", 0},
};

START_TEST(parts_are_told_apart_wherever_text_is_cut)
{
    for (size_t step = 1; step < 40; step += step < 4 ? 1 : 9) {
        uint32_t tools = feed(cases[_i].style, cases[_i].prompt, cases[_i].text, step);
        ck_assert_str_eq((const char *)writer_span(&got).data, cases[_i].want);
        ck_assert_uint_eq(tools, cases[_i].tools);
        writer_release(&got);
    }
    for (size_t first = 0; first <= strlen(cases[_i].text); first++) { /* one cut, at each byte */
        feed_cut(cases[_i].style, cases[_i].prompt, cases[_i].text, first, strlen(cases[_i].text));
        ck_assert_str_eq((const char *)writer_span(&got).data, cases[_i].want);
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

static uint32_t feed_repeated(struct engine_toolcall_style style, const char *begin, const char *again, int times,
                              const char *end)
{
    struct engine_toolcall *o = engine_toolcall_open(style, NULL, false, part, NULL);
    got = writer_with_max(8 << 20);
    last = -1;
    engine_toolcall_text(o, span_str(begin));
    for (int i = 0; i < times; i++)
        engine_toolcall_text(o, span_str(again));
    engine_toolcall_text(o, span_str(end));
    uint32_t calls = engine_toolcall_finish(o);
    engine_toolcall_close(o);
    return calls;
}

START_TEST(calls_in_xml_are_bounded)
{
    struct engine_toolcall_style style = XML;
    const char *head = "<tool_call><function=f>", *one = "<parameter=k>v</parameter>", *end = "</function>";
    ck_assert_uint_eq(feed_repeated(style, head, one, 128, end), 1);
    writer_release(&got);
    ck_assert_uint_eq(feed_repeated(style, head, one, 129, end), 0); /* parameters */
    ck_assert_uint_eq(got.len, 2 + strlen(head) + 129 * strlen(one) + strlen(end));
    writer_release(&got);
    ck_assert_uint_eq(feed_repeated(style, "<function=", "x", 256, "></function>"), 1); /* a name */
    writer_release(&got);
    ck_assert_uint_eq(feed_repeated(style, "<function=", "x", 257, "></function>"), 0);
    ck_assert_uint_eq(got.len, 2 + strlen("<function=") + 257 + strlen("></function>"));
    writer_release(&got);
    ck_assert_uint_eq(feed_repeated(style, "", "<function=f></function>", 200, ""), ENGINE_TOOLCALLS_MAX); /* calls */
    writer_release(&got);
    ck_assert_uint_eq(feed_repeated(style, "<function=f><parameter=a>", "<parameter=a>", 150000, ""), 0); /* bytes */
    ck_assert_uint_eq(got.len, 2 + strlen("<function=f><parameter=a>") + 150000 * strlen("<parameter=a>"));
    writer_release(&got);
    ck_assert_uint_eq(feed_repeated(style, "<function=f><parameter=a></parameter>", " ", 100000, "</function>"), 0);
    writer_release(&got);
}
END_TEST

/* White space before a thought or a call is waited for, but not forever, and wherever the text is cut. */
START_TEST(white_space_is_bounded)
{
    static const struct {
        struct engine_toolcall_style style;
        const char *text;
    } after[] = {{LLAMA3, "{\"name\": \"f\"}"},
                 {PYTHONIC, "[f()]"},
                 {GRANITE, "[{\"name\": \"f\"}]"},
                 {PHI4, "[{\"name\": \"f\"}]"},
                 {{ENGINE_TOOLCALL_LLAMA3, true}, "<think>hm</think>{\"name\": \"f\"}"}};
    char text[5000];
    for (size_t i = 0; i < sizeof after / sizeof *after; i++)
        for (size_t blanks = 4096; blanks <= 4097; blanks++)
            for (size_t step = 1; step < sizeof text; step += 4990) {
                const char *mark = after[i].style.tools == ENGINE_TOOLCALL_PHI4 ? "functools" : "";
                (void)snprintf(text, sizeof text, "%s%*s%s", mark, (int)blanks, "", after[i].text);
                ck_assert_uint_eq(feed(after[i].style, "", text, step), blanks == 4096);
                if (blanks > 4096) /* every byte is content */
                    ck_assert_uint_eq(got.len, 2 + strlen(text) + 1);
                writer_release(&got);
            }
}
END_TEST

/* Deep values and schemas whose references lead in circles end, too. */
START_TEST(values_in_xml_are_bounded)
{
    struct engine_toolcall_style style = XML;
    json_t *tools =
        json_loads("[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"array\"},"
                   "\"l\":{\"$ref\":\"#/$defs/l\"}},\"$defs\":{\"l\":{\"anyOf\":[{\"$ref\":\"#/$defs/l\"},"
                   "{\"$ref\":\"#/$defs/l\"},{\"$ref\":\"#/$defs/l\"},{\"type\":\"integer\"}]}}}}}]",
                   0, NULL);
    struct engine_toolcall *o = engine_toolcall_open(style, tools, false, part, NULL);
    ck_assert_ptr_nonnull(tools);
    got = writer_with_max(8 << 20);
    last = -1;
    engine_toolcall_text(o, span_str("<function=f><parameter=a>"));
    for (int i = 0; i < 100000; i++)
        engine_toolcall_text(o, span_str("["));
    engine_toolcall_text(o, span_str("</parameter><parameter=l>7</parameter></function>"));
    ck_assert_uint_eq(engine_toolcall_finish(o), 1);
    writer_u8(&got, 0);
    ck_assert_ptr_nonnull(strstr((const char *)got.data, "A0:{\"a\": \"[[["));
    ck_assert_ptr_nonnull(strstr((const char *)got.data, "\"l\": 7}"));
    engine_toolcall_close(o);
    writer_release(&got);
    json_decref(tools);
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
    ck_assert_int_eq(engine_toolcall_style_of(span_str("<tool_call>\n<function=a>\n<parameter=b>")).tools,
                     ENGINE_TOOLCALL_XML);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("'<think>' " BEGIN ITEM)).tools, ENGINE_TOOLCALL_DEEPSEEK);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("<|start_of_role|> <|tool_call|>")).tools,
                     ENGINE_TOOLCALL_GRANITE);
    ck_assert_int_eq(engine_toolcall_style_of(span_str("functools[{")).tools, ENGINE_TOOLCALL_PHI4);
    enum engine_toolcall_format f;
    char names[] = ENGINE_TOOLCALL_NAMES, *rest = NULL;
    for (char *name = strtok_r(names, ", ()", &rest); name; name = strtok_r(NULL, ", ()", &rest))
        ck_assert_msg(strcmp(name, "or") == 0 || engine_toolcall_format_named(name, &f), "%s", name);
    ck_assert(!engine_toolcall_format_named("llama4_pythonic", &f));
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
    struct engine_toolcall_style deepseek = DEEPSEEK, granite = GRANITE, phi4 = PHI4, xml = XML;
    ck_assert(engine_toolcall_is_marker(deepseek, span_str(SEP)) && engine_toolcall_is_marker(deepseek, span_str(END)));
    ck_assert(engine_toolcall_is_marker(granite, span_str("<|tool_call|>")));
    ck_assert(engine_toolcall_is_marker(xml, span_str("</tool_call>")));
    ck_assert(!engine_toolcall_is_marker(phi4, span_str("<|tool_call|>")));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, parts_are_told_apart_wherever_text_is_cut, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, without_tools_everything_is_content);
    tcase_add_test(t, an_endless_call_becomes_content);
    tcase_add_test(t, calls_in_xml_are_bounded);
    tcase_add_test(t, values_in_xml_are_bounded);
    tcase_add_test(t, white_space_is_bounded);
    tcase_add_test(t, styles_are_seen_in_templates);
}

RUN("engine_toolcall", add_tests)
