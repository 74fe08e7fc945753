/* Thinking, saying, calling: the same parts wherever the text was cut. */
#include <stdio.h>

#include "engine/split.h"
#include "run.h"

static char said[1024], thought[1024], called[1024];

static void on_part(void *ctx, enum tunnel_channel_name channel, uint32_t number, struct span text)
{
    (void)ctx;
    char *out = channel == TUNNEL_CONTENT ? said : channel == TUNNEL_REASONING ? thought : called;
    if (channel == TUNNEL_TOOL_NAME)
        sprintf(out + strlen(out), "%u:", number);
    strncat(out, (const char *)text.data, text.len);
    if (channel >= TUNNEL_TOOL_NAME)
        strcat(out, channel == TUNNEL_TOOL_NAME ? "" : ";");
}

static json_t *tools(void)
{
    return json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
                      "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]",
                      0, NULL);
}

static void check_cut(const char *text, size_t a, size_t b, unsigned what, bool thinking, const char *const want[3])
{
    struct split s;
    json_t *list = tools();
    said[0] = thought[0] = called[0] = 0;
    split_init(&s, what, list, thinking, on_part, NULL);
    split_feed(&s, span_of(text, a));
    split_feed(&s, span_of(text + a, b - a));
    split_feed(&s, span_of(text + b, strlen(text) - b));
    split_finish(&s);
    ck_assert_str_eq(said, want[0]);
    ck_assert_str_eq(thought, want[1]);
    ck_assert_str_eq(called, want[2]);
    split_release(&s);
    json_decref(list);
}

static const struct {
    unsigned what;
    bool thinking;
    const char *text, *want[3];
} cases[] = {
    {0, false, "<think>x</think> y", {"<think>x</think> y", "", ""}},
    {3, false, "plain < text <thi", {"plain < text <thi", "", ""}},
    {3, false, "<think>\nhm\n</think>\n\nyes", {"yes", "hm\n", ""}},
    {3, true, "hm</think>yes", {"yes", "hm", ""}},
    {3, true, "never ends", {"", "never ends", ""}},
    {3, false, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>", {"", "", "0:f{\"a\":1};"}},
    {3,
     false,
     "ok "
     "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{}}</"
     "tool_call>",
     {"ok ", "", "0:f{};1:g{};"}},
    {2, false, "{\"name\": \"g\", \"parameters\": {\"b\": [2]}}", {"", "", "0:g{\"b\":[2]};"}},
    {2, false, "{\"name\": \"unknown\", \"parameters\": {}}", {"{\"name\": \"unknown\", \"parameters\": {}}", "", ""}},
    {2, false, "<tool_call>not json</tool_call>!", {"<tool_call>not json</tool_call>!", "", ""}},
    {2, false, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", {"", "", "0:f{};"}},
    {1, false, "<tool_call>{}</tool_call>", {"<tool_call>{}</tool_call>", "", ""}},
};

START_TEST(parts_do_not_depend_on_cuts)
{
    size_t len = strlen(cases[_i].text);
    for (size_t a = 0; a <= len; a++)
        for (size_t b = a; b <= len; b++)
            check_cut(cases[_i].text, a, b, cases[_i].what, cases[_i].thinking, cases[_i].want);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, parts_do_not_depend_on_cuts, 0, (int)(sizeof cases / sizeof *cases));
}

RUN("engine_split", add_tests)
