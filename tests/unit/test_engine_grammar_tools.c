/* Does a forced call in Qwen3-Coder's form fit the tool's schema, and is whatever fits read back as such a call? */
#include <check.h>
#include <stdlib.h>

#include "engine/toolcall.h"
#include "unit/grammar_vocab.h"

/* The byte tokens of tiny_bpe(): a token's id is its byte. */
static engine_grammar_state after(struct engine_grammar *g, engine_grammar_state s, const char *text)
{
    for (size_t i = 0; text[i] && s >= 0; i++)
        s = engine_grammar_advance(g, s, (uint8_t)text[i]);
    return s;
}

static bool fits(struct engine_grammar *g, const char *text)
{
    return engine_grammar_may_end(g, after(g, engine_grammar_start(g), text));
}

static struct engine_grammar *compile(const char *function, bool many, struct engine_problem *why)
{
    char text[4096];
    ck_assert_int_lt(snprintf(text, sizeof text, "[{\"function\":%s}]", function), sizeof text);
    json_t *tools = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(tools);
    struct engine_grammar *g =
        engine_grammar_compile_tools(tools, span_str(""), ENGINE_GRAMMAR_CALL_XML, many, vocab, why);
    json_decref(tools);
    return g;
}

#define CALL(name, parameters) "<tool_call>\n<function=" name ">\n" parameters "</function>\n</tool_call>"
#define P(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"
#define ONE(schema)                                                                                                    \
    "{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"k\":" schema "},\"required\":[\"k\"],"      \
    "\"$defs\":{\"color\":{\"type\":\"string\",\"enum\":[\"red\",\"blue\"]}}}}"

static const struct {
    const char *function, *yes[4], *no[6];
} cases[] = {
    {ONE("{\"type\":\"string\"}"),
     {CALL("f", P("k", "")), CALL("f", P("k", "a\n\"<b>\" < é </para </ <")), CALL("f", P("k", "\n\n"))},
     {CALL("f", ""), CALL("f", P("k", "</parameter>")), CALL("f", P("k", "<<parameter=")), CALL("g", P("k", "a")),
      CALL("f", P("k", "a") P("k", "a")), CALL("f", P("x", "a"))}},
    {ONE("{\"type\":\"integer\",\"minimum\":0}"),
     {CALL("f", P("k", "12"))},
     {CALL("f", P("k", "-1")), CALL("f", P("k", "x")), CALL("f", P("k", ""))}},
    {ONE("{\"enum\":[\"a\",\"b<\"]}"), {CALL("f", P("k", "a")), CALL("f", P("k", "b<"))}, {CALL("f", P("k", "\"a\""))}},
    {ONE("{\"$ref\":\"#/$defs/color\"}"), {CALL("f", P("k", "blue"))}, {CALL("f", P("k", "green"))}},
    {ONE("{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}"),
     {CALL("f", P("k", "[true,false]"))},
     {CALL("f", P("k", "[1]")), CALL("f", P("k", "true"))}},
    {ONE("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}"),
     {CALL("f", P("k", "null")), CALL("f", P("k", "x"))},
     {NULL}},
    {ONE("{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"null\"}]}"),
     {CALL("f", P("k", "null")), CALL("f", P("k", "3"))},
     {CALL("f", P("k", "x"))}},
    {ONE("{}"), {CALL("f", P("k", "x"))}, {CALL("f", "")}},
    {"{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"boolean\"}},"
     "\"required\":[\"b\"]}}",
     {CALL("f", P("b", "true")), CALL("f", P("a", "x") P("b", "false"))},
     {CALL("f", P("a", "x")), CALL("f", P("b", "True")), CALL("f", P("b", "true") P("a", "x"))}},
    {"{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}",
     {CALL("f", "")},
     {CALL("f", P("a", "x"))}},
    {"{\"name\":\"f\"}", {CALL("f", ""), CALL("f", P("a", "x") P("b_2", "y"))}, {CALL("f", P("a b", "x"))}},
    /* rules that cannot be kept are dropped, as the tool is not strict */
    {ONE("{\"type\":\"string\",\"maxLength\":3}"), {CALL("f", P("k", "longer"))}, {CALL("f", "")}},
    {"{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{}},\"not\":{}}}", {CALL("f", P("a", "x"))}, {NULL}},
};

START_TEST(forced_calls_fit_the_schema)
{
    struct engine_problem why = {0};
    struct engine_grammar *g = compile(cases[_i].function, false, &why);
    ck_assert_msg(g != NULL, "%s", why.text);
    for (int i = 0; i < 4 && cases[_i].yes[i]; i++)
        ck_assert_msg(fits(g, cases[_i].yes[i]), "%s", cases[_i].yes[i]);
    for (int i = 0; i < 6 && cases[_i].no[i]; i++)
        ck_assert_msg(!fits(g, cases[_i].no[i]), "%s", cases[_i].no[i]);
    engine_grammar_close(g);
}
END_TEST

START_TEST(several_calls_where_they_are_allowed)
{
    const char *two = CALL("f", P("k", "1")) "\n" CALL("f", P("k", "2"));
    struct engine_grammar *one = compile(ONE("{\"type\":\"integer\"}"), false, NULL),
                          *many = compile(ONE("{\"type\":\"integer\"}"), true, NULL);
    ck_assert(!fits(one, two) && fits(many, two) && !fits(many, ""));
    engine_grammar_close(one);
    engine_grammar_close(many);
}
END_TEST

static const char *const refused[] = {
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"x\"}}}}",
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{\"a\":{\"enum\":[\"1\",1]}}}}",
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{\"a\":{\"enum\":[\"</parameter>\"]}}}}",
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{\"a\":{\"$ref\":\"#/no\"}}}}",
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{\"a\":{\"type\":\"integer\",\"not\":{}}}}}",
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"properties\":{},\"required\":[\"a\"]}}",
    "{\"name\":\"f\",\"strict\":true,\"parameters\":{\"anyOf\":[{}]}}",
    "{\"name\":\"f>\"}", /* such names cannot be written */
    "{\"name\":\"f\",\"parameters\":{\"properties\":{\"a<\":{}}}}",
};

START_TEST(what_cannot_be_kept_is_refused)
{
    struct engine_problem why = {0};
    ck_assert_ptr_null(compile(refused[_i], true, &why));
    ck_assert_int_eq(why.code, ENGINE_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(why.text, "not supported"));
}
END_TEST

/* Many references to one long list: looked at so often, and no longer. */
START_TEST(a_schema_that_grows_by_its_references_is_refused)
{
    struct engine_problem why = {0};
    json_t *values = json_array(), *refs = json_array(), *properties = json_object();
    for (int i = 0; i < 20000; i++)
        json_array_append_new(values, json_integer(i));
    for (int i = 0; i < 2000; i++)
        json_array_append_new(refs, json_pack("{s:s}", "$ref", "#/$defs/e"));
    for (char key[] = "a"; key[0] <= 'z'; key[0]++)
        json_object_set_new(properties, key, json_pack("{s:s}", "$ref", "#/$defs/a"));
    json_t *tools = json_pack("[{s:{s:s,s:b,s:{s:o,s:{s:{s:o},s:{s:o}}}}}]", "function", "name", "f", "strict", 1,
                              "parameters", "properties", properties, "$defs", "a", "anyOf", refs, "e", "enum", values);
    ck_assert_ptr_null(engine_grammar_compile_tools(tools, span_str(""), ENGINE_GRAMMAR_CALL_XML, false, vocab, &why));
    ck_assert_msg(why.code == ENGINE_E_UNSUPPORTED && strstr(why.text, "so long a schema"), "%s", why.text);
    json_t *parameters = json_object_get(json_object_get(json_array_get(tools, 0), "function"), "parameters");
    int looks = ENGINE_TYPES_LOOKS; /* for all parameters together: nothing is left for the second */
    ck_assert_uint_eq(engine_grammar_types(parameters, json_object_get(properties, "a"), &looks), ENGINE_TYPE_WHOLE);
    ck_assert_int_le(looks, 0);
    ck_assert_uint_eq(engine_grammar_types(parameters, json_object_get(properties, "b"), &looks), 0);
    json_decref(tools);
}
END_TEST

/* --- random answers ----------------------------------------------------------------------------------- */

struct answer {
    uint32_t calls;
    char arguments[8192], other[64];
};

static void part(void *ctx, enum tunnel_channel_name channel, uint32_t tool, struct span text)
{
    struct answer *a = ctx;
    char *to = channel == TUNNEL_TOOL_ARGUMENTS ? a->arguments : channel == TUNNEL_TOOL_NAME ? NULL : a->other;
    size_t room = to == a->arguments ? sizeof a->arguments : sizeof a->other, have = to ? strlen(to) : 0;
    (void)tool;
    if (to)
        (void)snprintf(to + have, room - have, "%.*s", (int)text.len, (const char *)text.data);
}

/* A walk through the grammar: letters that tags are made of, then whatever ends the value. */
static size_t random_answer(struct engine_grammar *g, unsigned *seed, char *out, size_t max)
{
    static const char letters[] = "<</>=parametsfunciol_ \n\"5[]{}:,x\\",
                      ends[] = "\n</parameter>\n</function>\n</tool_call>";
    engine_grammar_state s = engine_grammar_start(g), next;
    size_t n = 0, wild = (size_t)rand_r(seed) % 200;
    for (int tries = 0; tries < 20000 && n < max && !engine_grammar_may_end(g, s); tries++) {
        const char *end = strchr(ends, '\0');
        char c = letters[(size_t)rand_r(seed) % (sizeof letters - 1)];
        if (n > wild) /* the longest end that fits */
            for (end = ends; *end && after(g, s, end) < 0; end++)
                continue;
        if (*end) {
            n += (size_t)snprintf(out + n, max - n, "%s", end);
            s = after(g, s, end);
        } else if ((next = engine_grammar_advance(g, s, (uint8_t)c)) >= 0) {
            out[n++] = c;
            s = next;
        }
    }
    return engine_grammar_may_end(g, s) ? n : 0;
}

START_TEST(what_fits_is_read_back_as_a_call)
{
    static const char function[] =
        "{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":\"string\"},\"a\":{\"type\":\"array\","
        "\"items\":{\"type\":\"integer\"}},\"t\":{\"type\":\"string\"}},\"required\":[\"s\"]}}";
    static char text[4096];
    struct engine_grammar *g = compile(function, false, NULL);
    struct engine_toolcall_style style = {ENGINE_TOOLCALL_XML, false};
    json_t *tools = json_pack("[{s:o}]", "function", json_loads(function, 0, NULL));
    unsigned seed = 1, whole = 0;
    for (int round = 0; round < 300; round++) {
        size_t len = random_answer(g, &seed, text, sizeof text - 64);
        struct answer a = {0};
        struct engine_toolcall *o = engine_toolcall_open(style, tools, false, part, &a);
        engine_toolcall_text(o, span_of(text, len));
        a.calls = engine_toolcall_finish(o);
        engine_toolcall_close(o);
        if (len == 0) /* too long */
            continue;
        json_t *v = json_loads(a.arguments, JSON_REJECT_DUPLICATES, NULL), *list = json_object_get(v, "a");
        ck_assert_msg(a.calls == 1 && a.other[0] == '\0', "%.*s", (int)len, text);
        ck_assert_msg(json_is_string(json_object_get(v, "s")) && (!list || json_is_array(list)), "%s", a.arguments);
        whole++;
        json_decref(v);
    }
    ck_assert_uint_gt(whole, 200);
    json_decref(tools);
    engine_grammar_close(g);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, forced_calls_fit_the_schema, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, several_calls_where_they_are_allowed);
    tcase_add_loop_test(t, what_cannot_be_kept_is_refused, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, a_schema_that_grows_by_its_references_is_refused);
    tcase_add_test(t, what_fits_is_read_back_as_a_call);
}

RUN("engine_grammar_tools", add_tests)
