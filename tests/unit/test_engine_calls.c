/* Tool calls in a model's own form through the whole engine: forced ones fit the tool's schema, and earlier ones reach
 * the prompt whatever their template wants. Needs $AIRLOCK_SHARED/models as test_engine_engine.c does. */
#include <jansson.h>

#include "engine/grammar.h"
#include "engine_watch.h"
#include "run.h"
#include "tunnel/json.h"

static struct watch seen, back;

/* In the manner of Qwen3-Coder's. */
static const char xml_template[] =
    "{%- for m in messages %}{{ m.role ~ ': ' ~ (m.content or '') }}"
    "{%- for call in m.tool_calls or [] %}{{ '<tool_call>\\n<function=' ~ call.function.name ~ '>\\n' }}"
    "{%- for key, value in call.function.arguments|items %}"
    "{{ '<parameter=' ~ key ~ '>\\n' ~ (value|tojson|safe if value is mapping else value|string) ~ "
    "'\\n</parameter>\\n' }}"
    "{%- endfor %}{{ '</function>\\n</tool_call>' }}{% endfor %}{% endfor %}";

/* In the manner of DeepSeek's: calls where the content is none, arguments joined to text. */
static const char deepseek_template[] =
    "{%- for m in messages %}{% if m.content is none %}{% for call in m.tool_calls %}"
    "{{ '<\uff5ctool\u2581call\u2581begin\uff5c>' + call.function.name + ' ' + call.function.arguments }}"
    "{%- endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}";

static const char history[] = "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_"
                              "calls\":[{\"id\":\"1\",\"type\":"
                              "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"n\":1}}}]}]";

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"w\",\"strict\":true,\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"c\":{\"enum\":[\"red\",\"blue\"]},\"n\":{\"type\":\"integer\",\"minimum\":10,\"maximum\":42}"
    "},"
    "\"required\":[\"c\",\"n\"]}}}]";

static struct tunnel_request *ask_chat(uint32_t tokens)
{
    struct tunnel_request *q = ask("", tokens);
    q->task = TUNNEL_CHAT;
    q->prompt_count = 0;
    q->messages = span_str(history);
    return q;
}

START_TEST(forced_calls_in_xml)
{
    struct engine_options o = {.chat_template = span_str(xml_template)};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask_chat(112);
    q->messages = span_str("[{\"role\":\"user\",\"content\":\"a\"}]"); /* the model's context is short */
    q->tools = span_str(tools);
    q->tool_choice = _i ? TUNNEL_TOOLS_NAMED : TUNNEL_TOOLS_REQUIRED;
    q->tool_name = span_str(_i ? "w" : "");
    q->parallel_tool_calls = false;
    q->temperature = 1;
    q->n = 2;
    run(e, q, &seen);
    ck_assert_msg(seen.status == 0, "%s", seen.message);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(strncmp(seen.text[i], "w{", 2), 0); /* the name, then the arguments */
        json_t *got = json_loads(seen.text[i] + 1, 0, NULL);
        const char *color = json_string_value(json_object_get(got, "c"));
        int64_t n = json_integer_value(json_object_get(got, "n"));
        ck_assert_msg(color && (strcmp(color, "red") == 0 || strcmp(color, "blue") == 0), "%s", seen.text[i]);
        ck_assert_msg(n >= 10 && n <= 42, "%s", seen.text[i]);
        ck_assert_int_eq(seen.finish[i], TUNNEL_FINISH_TOOL_CALLS);
        json_decref(got);
    }
    q->tools = span_str("[{\"type\":\"function\",\"function\":{\"name\":\"w\",\"strict\":true,\"parameters\":"
                        "{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\",\"pattern\":\"x\"}}}}}]");
    run(e, q, &seen);
    ck_assert_uint_eq(seen.status, 400);
    ck_assert_str_eq(seen.param, "tools");
    static char many[ENGINE_GRAMMAR_TEXT_MAX + 2]; /* a list, and white space */
    memset(many, ' ', sizeof many - 1);
    memcpy(many, tools, strlen(tools));
    q->tools = span_str(many);
    run(e, q, &seen);
    ck_assert_uint_eq(seen.status, 400);
    ck_assert_str_eq(seen.param, "tools");
    ck_assert_ptr_nonnull(strstr(seen.message, "not 1048577"));
    close_engine(e);
}
END_TEST

/* The text of the prompt, by its tokens. */
static void prompt_is(const char *template, const char *want)
{
    struct engine_options o = {.chat_template = span_str(template)};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask_chat(4);
    uint8_t ids[4 * 512];
    q->task = TUNNEL_TOKENIZE;
    run(e, q, &seen);
    ck_assert_msg(seen.status == 0, "%s", seen.message);
    for (size_t i = 0; i < seen.id_count[0]; i++) {
        uint8_t be[4] = {0, 0, (uint8_t)(seen.ids[0][i] >> 8), (uint8_t)seen.ids[0][i]};
        memcpy(ids + 4 * i, be, 4);
    }
    q = ask("", 4);
    q->task = TUNNEL_DETOKENIZE;
    q->prompt[0] = (struct tunnel_prompt){true, span_of(ids, 4 * seen.id_count[0])};
    run(e, q, &back);
    ck_assert_msg(back.status == 0, "%s", back.message);
    ck_assert_msg(strstr(back.text[0], want) != NULL, "%s", back.text[0]);
    close_engine(e);
}

START_TEST(earlier_calls_reach_the_prompt)
{
    prompt_is(xml_template,
              "assistant: <tool_call>\n<function=f>\n<parameter=n>\n1\n</parameter>\n</function>\n</tool_call>");
    prompt_is(deepseek_template, "begin\uff5c>f {\"n\": 1}");
}
END_TEST

START_TEST(parsers_are_known_by_name)
{
    struct engine_problem why = {0};
    char path[600];
    struct engine_options o = {
        .tool_parser = "llama4_pythonic", .kv_bytes = 64 << 20, .served_count = 1, .served = {"x"}};
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", shared);
    ck_assert_msg(engine_files_load(&files, path, &why), "%s", why.text);
    ck_assert_ptr_null(engine_open(&files, &o, &why));
    ck_assert_int_eq(why.code, ENGINE_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(why.text, "llama4_pythonic"));
    ck_assert_ptr_nonnull(strstr(why.text, "phi4_mini_json, none"));
    engine_files_release(&files);
}
END_TEST

static void add_tests(TCase *t)
{
    tunnel_json_wipe_memory(); /* as the engine does */
    if (!have_models()) {
        printf("SKIP: no models under $AIRLOCK_SHARED\n");
        return;
    }
    tcase_add_loop_test(t, forced_calls_in_xml, 0, 2);
    tcase_add_test(t, earlier_calls_reach_the_prompt);
    tcase_add_test(t, parsers_are_known_by_name);
}

RUN("engine_calls", add_tests)
