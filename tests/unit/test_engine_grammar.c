/* Does a grammar let through what fits and nothing else, is a mask the same as trying every token, and are bad, endless
 * and oversized grammars refused? */
#include <check.h>

#include "unit/grammar_vocab.h"

/* The byte tokens of tiny_bpe(): a token's id is its byte. */
static bool fits(struct engine_grammar *g, const char *text)
{
    engine_grammar_state s = engine_grammar_start(g);
    for (size_t i = 0; text[i] && s >= 0; i++)
        s = engine_grammar_advance(g, s, (uint8_t)text[i]);
    return engine_grammar_may_end(g, s);
}

enum {
    J = ENGINE_GRAMMAR_JSON,
    S = ENGINE_GRAMMAR_SCHEMA,
    R = ENGINE_GRAMMAR_REGEX,
    E = ENGINE_GRAMMAR_EBNF,
    C = ENGINE_GRAMMAR_CHOICE
};

static const struct {
    int kind;
    const char *text, *yes[8], *no[12];
} cases[] = {
    {J,
     "",
     {"{}", "{\"a\": [1, -2.5e3, true, null, \"x\\n\\u00e9\"]}", "{\"a\":{\"b\":{}}}", "{\n  \"a\": 1\n}"},
     {"", "[]", "1", "{", "{\"a\"}", "{\"a\": 01}", "{\"a\": 1,}", "{\"a\": \"\n\"}", "{} x", "{\"a\": .5}"}},
    {R, "a+b?(c|de){2,3}", {"acc", "aabccde", "adedede"}, {"", "ac", "bcc", "accccc", "accx"}},
    {R, "^\\d{3}-[A-Z_]\\w*\\.?$", {"123-A", "000-_a9."}, {"12-A", "123-a", "123-A.."}},
    {R, "[^a-c\\s]\\S?|\xc3\xa9+", {"d", "dx", "\xc3\xa9\xc3\xa9", "\xe4\xbd\xa0"}, {"a", "d ", "\xc3", "\xff"}},
    {R, "(?:x|)y{0,2}", {"", "x", "xyy", "y"}, {"xx", "yyy"}},
    {E,
     "root ::= greeting \", \" name \"!\"\ngreeting ::= \"hi\" | \"hello\" # two\nname ::= [A-Z] [a-z]*",
     {"hi, Bob!", "hello, A!"},
     {"hi", "hi, bob!", "hello Bob!"}},
    {E, "root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"", "(x", "x)", "()"}},
    {E,
     "root ::= (\"a\" | b){2} \"\\x41\\u00e9\"\nb ::= \"b\"+",
     {"abA\xc3\xa9", "bbbA\xc3\xa9"},
     {"aA\xc3\xa9", "abA"}},
    {C, "[\"yes\", \"yesterday\", \"no\"]", {"yes", "yesterday", "no"}, {"", "ye", "yesno", "nope"}},
    {C, "[\"b\", \"a\", \"abc\", \"a\", \"ab\"]", {"a", "ab", "abc", "b"}, {"", "bc", "abcd", "aa"}},
    {R,
     "(one|on[ex]|o|)(\\n|\xc3\xa9|\xc3\xa8x|[a-c]|b)",
     {"one\n", "\xc3\xa9", "onx\xc3\xa8x", "ob"},
     {"one", "on\n", "\xc3\xa8"}},
    {E, "root ::= (\"a\" | \"ab\" | \"a\" b | \"\") \".\"\nb ::= \"b\"+", {"a.", "ab.", "abbb.", "."}, {"", "b.", "a"}},
    {S,
     "{\"type\":\"string\",\"pattern\":\"\\\"|\\\"a|\\n|x\"}",
     {"\"\\\"\"", "\"\\\"a\"", "\"\\n\"", "\"x\""},
     {"\"\"\"", "\"\n\"", "\"\""}},
    {S,
     "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"},\"c\":{\"type\":"
     "\"boolean\"}},"
     "\"required\":[\"a\"]}",
     {"{\"a\":1}", "{\"a\": -3, \"b\": \"x\"}", "{\"a\":1,\"c\":true}", "{\"a\":1,\"b\":\"\",\"c\":false}"},
     {"{}", "{\"b\":\"x\"}", "{\"a\":1.5}", "{\"a\":1,}", "{\"a\":1,\"c\":true,\"b\":\"\"}", "{\"a\":1,\"z\":2}"}},
    {S,
     "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}}}",
     {"{}", "{\"b\":[1]}", "{\"a\":null,\"b\":{}}"},
     {"{\"a\"}", "{,}"}},
    {S,
     "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{}", "{\"q\":1,\"r\":2}"},
     {"{\"q\":\"1\"}"}},
    {S,
     "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",1,null]},\"minItems\":1,\"maxItems\":3}",
     {"[\"a\"]", "[1, null,1]"},
     {"[]", "[1,1,1,1]", "[\"b\"]", "[1,]"}},
    {S,
     "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}",
     {"[1,\"x\"]"},
     {"[1]", "[1,\"x\",2]", "[\"x\",1]"}},
    {S,
     "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":305}",
     {"-12", "-9", "0", "305", "299", "10"},
     {"-13", "306", "1000", "-0", "01", "400"}},
    {S, "{\"type\":\"integer\",\"exclusiveMinimum\":0}", {"1", "99", "123456789"}, {"0", "-1", ""}},
    {S,
     "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
     {"0", "1", "0.5", "0.999", "1.00", "0.0"},
     {"1.01", "-0.1", "2", "-0", "1.", ".5", "1e0", "00", ""}},
    {S,
     "{\"type\":\"number\",\"exclusiveMinimum\":0.25,\"maximum\":12.5}",
     {"0.26", "0.2501", "0.3", "1", "9.99", "12.5", "12.500", "12.4999"},
     {"0.25", "0.2", "0.250", "12.51", "13", "0", "12.5001"}},
    {S,
     "{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":0}",
     {"-1.5", "-1", "-0.001", "-1.49", "-0.5"},
     {"0", "-0", "-0.0", "-1.51", "-2", "1"}},
    {S, "{\"type\":\"number\",\"exclusiveMinimum\":0}", {"0.01", "1", "1234567.89", "10"}, {"0", "0.0", "-1", "0."}},
    {S,
     "{\"type\":\"number\",\"minimum\":2.25,\"exclusiveMaximum\":2.5}",
     {"2.25", "2.3", "2.4999", "2.49"},
     {"2.5", "2.2", "2", "2.249", "2.50", "3"}},
    {S,
     "{\"type\":\"integer\",\"multipleOf\":7}",
     {"0", "7", "-14", "343", "1001", "-7"},
     {"1", "-1", "8", "-0", "07", "100", ""}},
    {S, "{\"type\":\"integer\",\"multipleOf\":5,\"exclusiveMinimum\":0}", {"5", "10", "12345"}, {"0", "-5", "7", "05"}},
    {S,
     "{\"type\":\"number\",\"multipleOf\":25,\"minimum\":-60,\"maximum\":99}",
     {"-50", "-25", "0", "25", "75"},
     {"-75", "100", "1", "-60", "-0"}},
    {S,
     "{\"type\":\"number\",\"minimum\":0,\"multipleOf\":0.01}",
     {"0", "0.5", "12.34", "7", "0.00"},
     {"-1", "1.234", "1.", "01", "1e2"}},
    {S,
     "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"$ref\":\"#/$defs/c\"},\"minItems\":1,\"maxItems\":2,"
     "\"$defs\":{\"c\":{\"enum\":[\"r\",\"g\",1,\"r\"],\"type\":[\"string\",\"integer\"]}}}",
     {"[\"r\"]", "[\"g\",1]", "[1, \"r\"]"},
     {"[]", "[\"r\",\"r\"]", "[1,1]", "[\"r\",\"g\",1]", "[\"b\"]"}},
    {S,
     "{\"type\":\"object\",\"patternProperties\":{\"^x-[a-z]+$\":{\"type\":\"integer\"}},\"additionalProperties\":"
     "false}",
     {"{}", "{\"x-a\":1}", "{\"x-a\": 1, \"x-bc\": 2}"},
     {"{\"y\":1}", "{\"x-\":1}", "{\"x-a\":\"1\"}"}},
    {S,
     "{\"propertyNames\":{\"enum\":[\"de\",\"fr\"]},\"additionalProperties\":{\"type\":\"boolean\"}}",
     {"{}", "{\"de\":true}", "{\"fr\":false,\"de\":true}"},
     {"{\"en\":true}", "{\"de\":1}"}},
    {S, "{\"type\":\"object\",\"propertyNames\":{\"maxLength\":2}}", {"{\"ab\":[1]}"}, {"{\"abc\":1}"}},
    {S,
     "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"\xc3\xa9\\n\""},
     {"\"a\"", "\"abcd\"", "ab"}},
    {S,
     "{\"type\":\"string\",\"pattern\":\"^a[\\\"\\\\\\\\x]\\n?$\"}",
     {"\"a\\\"\"", "\"a\\\\\"", "\"ax\\n\""},
     {"\"a\"\"", "\"a\\\"", "\"a\""}},
    {S,
     "{\"allOf\":[{\"$ref\":\"#/$defs/base\"},{\"properties\":{\"b\":{\"type\":\"integer\",\"minimum\":3}},"
     "\"required\":[\"b\"]}],\"$defs\":{\"base\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},"
     "\"b\":{\"maximum\":5}},\"required\":[\"a\"]}}}",
     {"{\"a\":null,\"b\":3}", "{\"a\":null,\"b\":5}"},
     {"{\"a\":null}", "{\"a\":null,\"b\":6}", "{\"b\":4}", "{\"a\":null,\"b\":2}"}},
    {S,
     "{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\"}},\"required\":[\"k\"],\"oneOf\":["
     "{\"properties\":{\"k\":{\"const\":\"x\"},\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]},"
     "{\"properties\":{\"k\":{\"const\":\"y\"}}}]}",
     {"{\"k\":\"x\",\"n\":1}", "{\"k\":\"y\"}"},
     {"{\"k\":\"x\"}", "{\"k\":\"z\"}", "{\"n\":1}", "{\"k\":\"y\",\"n\":1}"}},
    {S,
     "{\"$ref\":\"#/$defs/s\",\"maxLength\":3,\"$defs\":{\"s\":{\"type\":\"string\",\"minLength\":2}}}",
     {"\"ab\"", "\"abc\""},
     {"\"a\"", "\"abcd\""}},
    {S, "{\"enum\":[1,2,2.5,3,\"x\"],\"minimum\":2,\"exclusiveMaximum\":3}", {"2", "2.5", "\"x\""}, {"1", "3"}},
    {S,
     "{\"enum\":[\"\xc3\xa9\",\"\xc3\xa9\xc3\xa9\",\"abc\",1],\"minLength\":2,\"maxLength\":2,\"exclusiveMinimum\":0}",
     {"\"\xc3\xa9\xc3\xa9\"", "1"},
     {"\"\xc3\xa9\"", "\"abc\""}},
    {S,
     "{\"allOf\":[{\"enum\":[\"a\",\"b\",1]},{\"enum\":[\"b\",1,2]},{\"type\":\"string\"}]}",
     {"\"b\""},
     {"\"a\"", "1", "2"}},
    {S,
     "{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{\"a\":1}", "{\"a\":1,\"z\":2}"},
     {"{}", "{\"a\":\"x\"}", "{\"z\":1}"}},
    {S,
     "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"null\"}],\"minItems\":1,"
     "\"items\":{\"type\":\"boolean\"},\"uniqueItems\":false}",
     {"[1,null]", "[1, null, true,false]"},
     {"[1]", "[1,null,2]", "[]"}},
    {S,
     "{\"$defs\":{\"t\":{\"allOf\":[{\"type\":\"object\"},{\"properties\":{\"kids\":{\"type\":\"array\",\"items\":"
     "{\"$ref\":\"#/$defs/t\"}}},\"required\":[\"kids\"]}]}},\"$ref\":\"#/$defs/t\"}",
     {"{\"kids\":[]}", "{\"kids\":[{\"kids\":[]},{\"kids\":[{\"kids\":[]}]}]}"},
     {"{}", "{\"kids\":[1]}"}},
    {S,
     "{\"type\":\"string\",\"format\":\"ipv4\"}",
     {"\"127.0.0.1\"", "\"255.9.80.0\""},
     {"\"256.0.0.1\"", "\"1.2.3\""}},
    {S, "{\"type\":\"string\",\"format\":\"email\"}", {"\"a.b@c-d.org\""}, {"\"a@\"", "\"@b\"", "\"a b@c\""}},
    {S,
     "{\"type\":\"string\",\"format\":\"uri\"}",
     {"\"https://x.org:80/a?b=c#d\"", "\"mailto:\""},
     {"\"//x\"", "\"a b:c\""}},
    {S, "{\"type\":\"string\",\"format\":\"duration\"}", {"\"P3D\"", "\"PT1M30S\""}, {"\"P\"", "\"3D\""}},
    {S, "{\"type\":\"string\",\"format\":\"date\"}", {"\"2024-02-29\""}, {"\"2024-13-01\"", "\"24-01-01\""}},
    {S,
     "{\"anyOf\":[{\"type\":\"null\"},{\"type\":[\"boolean\",\"number\"]},{\"const\":{\"k\":[1]}}]}",
     {"null", "true", "-1.5", "{\"k\": [1]}"},
     {"\"x\"", "{}"}},
    {S,
     "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
     "\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
     {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
     {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
};

START_TEST(what_fits_passes_and_nothing_else)
{
    struct engine_problem why = {0};
    struct engine_grammar *g =
        engine_grammar_compile((enum engine_grammar_kind)cases[_i].kind, span_str(cases[_i].text), vocab, &why);
    ck_assert_msg(g != NULL, "%s: %s", cases[_i].text, why.text);
    for (size_t i = 0; i < 8 && cases[_i].yes[i]; i++)
        ck_assert_msg(fits(g, cases[_i].yes[i]), "%s refuses %s", cases[_i].text, cases[_i].yes[i]);
    for (size_t i = 0; i < 12 && cases[_i].no[i]; i++)
        ck_assert_msg(!fits(g, cases[_i].no[i]), "%s takes %s", cases[_i].text, cases[_i].no[i]);
    engine_grammar_close(g);
}
END_TEST

static void check_mask(struct engine_grammar *g, engine_grammar_state s)
{
    uint32_t words[TINY_MAX / 32 + 1];
    bool any = false;
    engine_grammar_mask(g, s, words);
    for (int32_t id = 0; id < engine_tokenizer_count(tokenizer); id++) {
        bool set = words[id / 32] >> (id % 32) & 1, good = engine_grammar_advance(g, s, id) >= 0;
        if (!engine_tokenizer_is_end(tokenizer, id))
            ck_assert_msg(set == good, "token %d: %d, not %d", (int)id, set, good);
        any = any || set;
    }
    ck_assert(any);
}

START_TEST(a_mask_is_what_advance_allows)
{
    struct engine_grammar *g =
        engine_grammar_compile((enum engine_grammar_kind)cases[_i].kind, span_str(cases[_i].text), vocab, NULL);
    ck_assert(g != NULL);
    for (size_t i = 0; i < 8 && cases[_i].yes[i]; i++) {
        engine_grammar_state s = engine_grammar_start(g);
        for (const char *c = cases[_i].yes[i]; *c; c++) {
            check_mask(g, s);
            s = engine_grammar_advance(g, s, (uint8_t)*c);
        }
        check_mask(g, s);
        ck_assert_int_eq(engine_grammar_advance(g, s, 261), s); /* the end token */
    }
    engine_grammar_close(g);
}
END_TEST

START_TEST(tokens_of_several_bytes)
{
    struct engine_grammar *g = engine_grammar_compile(ENGINE_GRAMMAR_REGEX, span_str("hell? w"), vocab, NULL);
    uint32_t words[TINY_MAX / 32 + 1];
    engine_grammar_state s = engine_grammar_start(g);
    engine_grammar_mask(g, s, words);
    ck_assert(words['h' / 32] >> ('h' % 32) & 1 && words[8] & 1 && words[8] & 4); /* h, he, hell */
    ck_assert(!(words[8] & 2) && !(words[8] & 8));                                /* ll, " w" */
    s = engine_grammar_advance(g, engine_grammar_advance(g, s, 258), 259);
    ck_assert(engine_grammar_may_end(g, s));
    ck_assert_int_lt(engine_grammar_advance(g, s, 'x'), 0);
    engine_grammar_mask(g, -1, words);
    ck_assert_uint_eq(words[8], 1u << 5); /* nothing but the end token */
    ck_assert_int_lt(engine_grammar_advance(g, engine_grammar_start(g), 260), 0);
    engine_grammar_close(g);
}
END_TEST

START_TEST(what_must_come_is_known)
{
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"v\"}},\"required\":[\"k\"],"
                                 "\"additionalProperties\":false}";
    struct engine_grammar *g =
        engine_grammar_compile(ENGINE_GRAMMAR_CHOICE, span_str("[\"abcd\",\"abce\"]"), vocab, NULL);
    struct writer w = writer_with_max(64);
    engine_grammar_forced(g, engine_grammar_start(g), &w);
    ck_assert(span_is(writer_span(&w), "abc"));
    engine_grammar_close(g);
    writer_reset(&w);
    g = engine_grammar_compile(ENGINE_GRAMMAR_CHOICE, span_str("[\"a\xc3\xa9\",\"a\xc3\xa8\"]"), vocab, NULL);
    engine_grammar_forced(g, engine_grammar_start(g), &w);
    ck_assert(span_is(writer_span(&w), "a")); /* not half a character */
    engine_grammar_close(g);
    writer_reset(&w);
    g = engine_grammar_compile(ENGINE_GRAMMAR_SCHEMA, span_str(schema), vocab, NULL);
    engine_grammar_forced(g, engine_grammar_start(g), &w);
    ck_assert(span_is(writer_span(&w), "{"));
    engine_grammar_close(g);
    writer_reset(&w);
    g = engine_grammar_compile(ENGINE_GRAMMAR_EBNF, span_str("root ::= \"a\" root"), vocab, NULL);
    engine_grammar_forced(g, engine_grammar_start(g), &w);
    ck_assert_uint_eq(writer_span(&w).len, 64);
    engine_grammar_close(g);
    writer_release(&w);
}
END_TEST

START_TEST(a_tool_must_be_called)
{
    json_t *tools =
        json_loads("[{\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"n\":"
                   "{\"type\":\"integer\"}},\"required\":[\"n\"]}}},{\"function\":{\"name\":\"g\"}}]",
                   0, NULL);
    struct engine_grammar *g =
        engine_grammar_compile_tools(tools, span_str(""), ENGINE_GRAMMAR_CALL_JSON, false, vocab, NULL);
    ck_assert(fits(g, "{\"name\": \"f\", \"parameters\": {\"n\":1}}"));
    ck_assert(fits(g, "{\"name\": \"g\", \"parameters\": {}}"));
    ck_assert(!fits(g, "{\"name\": \"f\", \"parameters\": {}}") && !fits(g, "{\"name\": \"h\", \"parameters\": {}}"));
    engine_grammar_close(g);
    g = engine_grammar_compile_tools(tools, span_str("g"), ENGINE_GRAMMAR_CALL_TAGGED, true, vocab, NULL);
    ck_assert(fits(g, "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"));
    ck_assert(fits(g, "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", "
                      "\"arguments\": {\"x\":1}}\n</tool_call>"));
    ck_assert(!fits(g, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\":1}}\n</tool_call>"));
    engine_grammar_close(g);
    struct engine_problem why = {0};
    ck_assert_ptr_null(
        engine_grammar_compile_tools(tools, span_str("h"), ENGINE_GRAMMAR_CALL_TAGGED, true, vocab, &why));
    ck_assert_int_eq(why.code, ENGINE_E_SYNTAX);
    json_decref(tools);
    tools =
        json_loads("[{\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"type\":\"object\",\"not\":{}}}},"
                   "{\"function\":{\"name\":\"g\",\"parameters\":{\"type\":\"object\",\"not\":{}}}}]",
                   0, NULL);
    ck_assert_ptr_null(
        engine_grammar_compile_tools(tools, span_str("f"), ENGINE_GRAMMAR_CALL_TAGGED, true, vocab, &why));
    ck_assert_int_eq(why.code, ENGINE_E_UNSUPPORTED); /* a strict schema is kept or refused */
    g = engine_grammar_compile_tools(tools, span_str("g"), ENGINE_GRAMMAR_CALL_JSON, true, vocab, &why);
    ck_assert(fits(g, "{\"name\": \"g\", \"parameters\": {\"x\":1}}"));
    engine_grammar_close(g);
    json_decref(tools);
}
END_TEST

static const struct {
    int kind;
    const char *text;
    enum engine_err want;
} refused[] = {
    {R, "a(b", ENGINE_E_SYNTAX},
    {R, "a)b", ENGINE_E_SYNTAX},
    {R, "*a", ENGINE_E_SYNTAX},
    {R, "a**", ENGINE_E_SYNTAX},
    {R, "[b-a]", ENGINE_E_SYNTAX},
    {R, "[a", ENGINE_E_SYNTAX},
    {R, "\\", ENGINE_E_UNSUPPORTED},
    {R, "\\1", ENGINE_E_UNSUPPORTED},
    {R, "(?=a)b", ENGINE_E_UNSUPPORTED},
    {R, "a^b", ENGINE_E_UNSUPPORTED},
    {R, "a{5,2}", ENGINE_E_RANGE},
    {R, "a{999999}", ENGINE_E_RANGE},
    {R, "((a{1000}){1000}){1000}", ENGINE_E_LIMIT},
    {R, "\xff", ENGINE_E_SYNTAX},
    {E, "", ENGINE_E_SYNTAX},
    {E, "start ::= \"a\"", ENGINE_E_SYNTAX},
    {E, "root ::= missing", ENGINE_E_SYNTAX},
    {E, "root ::= \"a\"\nroot ::= \"b\"", ENGINE_E_SYNTAX},
    {E, "root ::= (\"a\"", ENGINE_E_SYNTAX},
    {E, "root ::= \"a\")", ENGINE_E_SYNTAX},
    {E, "root ::= \"a", ENGINE_E_SYNTAX},
    {E, "root ::= root \"a\" | \"b\"", ENGINE_E_UNSUPPORTED},
    {E, "root ::= e root\ne ::= \"\" | \"x\"", ENGINE_E_UNSUPPORTED},
    {C, "[]", ENGINE_E_SYNTAX},
    {C, "[1]", ENGINE_E_SYNTAX},
    {C, "{", ENGINE_E_SYNTAX},
    {S, "[]", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"thing\"}", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"object\",\"minProperties\":1}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"number\",\"minimum\":0.12345678901234567}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"number\",\"minimum\":2,\"maximum\":1.5}", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"string\",\"enum\":[1]}", ENGINE_E_SYNTAX},
    {S, "{\"allOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", ENGINE_E_UNSUPPORTED},
    {S, "{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", ENGINE_E_UNSUPPORTED},
    {S, "{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}],\"type\":\"object\"}", ENGINE_E_LIMIT},
    {S, "{\"type\":\"array\",\"uniqueItems\":true}", ENGINE_E_UNSUPPORTED},
    {S, "{\"uniqueItems\":true}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[1,2,3,4,5,6,7,8,9]}}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[1,2]},\"minItems\":3}", ENGINE_E_SYNTAX},
    {S, "{\"multipleOf\":3}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"integer\",\"multipleOf\":0}", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"integer\",\"multipleOf\":0.5}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"integer\",\"multipleOf\":101}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":8}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":8,\"maximum\":13}", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"number\",\"multipleOf\":0.3}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"number\",\"multipleOf\":0.1,\"maximum\":5}", ENGINE_E_UNSUPPORTED},
    {S, "{\"enum\":[1,2],\"multipleOf\":2}", ENGINE_E_UNSUPPORTED},
    {S, "{\"enum\":[1,2],\"maximum\":0}", ENGINE_E_SYNTAX},
    {S, "{\"enum\":[1,2],\"maximum\":\"2\"}", ENGINE_E_SYNTAX},
    {S, "{\"const\":9007199254740993,\"maximum\":9007199254740992}", ENGINE_E_SYNTAX},
    {S, "{\"const\":\"ab\",\"minLength\":3}", ENGINE_E_SYNTAX},
    {S, "{\"enum\":[\"a\"],\"pattern\":\"b\"}", ENGINE_E_UNSUPPORTED},
    {S, "{\"const\":{\"a\":1},\"required\":[\"b\"]}", ENGINE_E_UNSUPPORTED},
    {S, "{\"patternProperties\":{\"a\":{},\"b\":{}}}", ENGINE_E_UNSUPPORTED},
    {S, "{\"patternProperties\":{\"a\":{}},\"properties\":{\"ab\":{}}}", ENGINE_E_UNSUPPORTED},
    {S, "{\"patternProperties\":{\"a\":{}},\"additionalProperties\":true}", ENGINE_E_UNSUPPORTED},
    {S, "{\"propertyNames\":{\"pattern\":\"a\"},\"additionalProperties\":false}", ENGINE_E_UNSUPPORTED},
    {S, "{\"propertyNames\":{\"type\":\"integer\"}}", ENGINE_E_SYNTAX},
    {S, "{\"not\":{}}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}", ENGINE_E_SYNTAX},
    {S, "{\"not\":{}}", ENGINE_E_UNSUPPORTED},
    {S, "{\"$ref\":\"http://x\"}", ENGINE_E_UNSUPPORTED},
    {S, "{\"$ref\":\"#/nowhere\"}", ENGINE_E_SYNTAX},
    {S, "{\"$ref\":\"#\"}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"string\",\"format\":\"idn-email\"}", ENGINE_E_UNSUPPORTED},
    {S, "{\"type\":\"integer\",\"exclusiveMinimum\":9223372036854775807}", ENGINE_E_SYNTAX},
    {S, "{\"type\":\"integer\",\"exclusiveMaximum\":-9223372036854775808}", ENGINE_E_SYNTAX},
};

START_TEST(bad_grammars_are_refused)
{
    struct engine_problem why = {0};
    struct engine_grammar *g =
        engine_grammar_compile((enum engine_grammar_kind)refused[_i].kind, span_str(refused[_i].text), vocab, &why);
    ck_assert_msg(g == NULL && why.code == refused[_i].want, "%s: %s: %s", refused[_i].text, engine_err_name(why.code),
                  why.text);
}
END_TEST

START_TEST(depth_is_bounded)
{
    static char text[60001];
    struct engine_problem why = {0};
    memset(text, '(', sizeof text - 1);
    ck_assert_ptr_null(engine_grammar_compile(ENGINE_GRAMMAR_REGEX, span_str(text), vocab, &why));
    ck_assert_int_eq(why.code, ENGINE_E_LIMIT);
    /* an answer nested beyond the stack's limit ends there instead of growing */
    struct engine_grammar *g =
        engine_grammar_compile(ENGINE_GRAMMAR_EBNF, span_str("root ::= \"[\" root \"]\" | \"x\""), vocab, NULL);
    engine_grammar_state s = engine_grammar_start(g);
    int depth = 0;
    for (; s >= 0 && depth < 100000; depth++)
        s = engine_grammar_advance(g, s, '[');
    ck_assert_int_lt(depth, 1000);
    engine_grammar_close(g);
    /* so many ways at once pass the limit of one state: the answer is not taken, nothing is slow */
    g = engine_grammar_compile(ENGINE_GRAMMAR_REGEX, span_str("(.?){5000}"), vocab, NULL);
    ck_assert(g == NULL);
}
END_TEST

/* `count` values of a list: "a0", "a1", .. or 0, 1, .. or, backwards, from another range. */
static void write_values(struct writer *w, size_t count, const char *format, size_t last)
{
    writer_str(w, "[");
    for (size_t i = 0; i < count; i++) {
        writer_str(w, i ? "," : "");
        writer_printf(w, format, last ? last - i : i);
    }
    writer_str(w, "]");
}

/* Thousands of values that begin alike are one place each, not one for each of them. */
START_TEST(long_lists_of_values)
{
    struct writer w = writer_with_max(1 << 20);
    for (int i = 0; i < 2; i++) {
        writer_reset(&w);
        writer_str(&w, i ? "" : "{\"enum\":");
        write_values(&w, 20000, "\"value %zu\"", 0);
        writer_str(&w, i ? "" : "}");
        struct engine_grammar *g =
            engine_grammar_compile(i ? ENGINE_GRAMMAR_CHOICE : ENGINE_GRAMMAR_SCHEMA, writer_span(&w), vocab, NULL);
        ck_assert(g != NULL);
        check_mask(g, engine_grammar_start(g));
        ck_assert(fits(g, i ? "value 0" : "\"value 0\"") && fits(g, i ? "value 19999" : "\"value 19999\""));
        ck_assert(!fits(g, i ? "value 20000" : "\"value 20000\"") && !fits(g, i ? "value " : "\"value \""));
        engine_grammar_close(g);
    }
    writer_reset(&w); /* each of one list with each of the other would be 10^8 comparisons */
    writer_str(&w, "{\"allOf\":[{\"enum\":");
    write_values(&w, 10000, "%zu", 0);
    writer_str(&w, "},{\"enum\":");
    write_values(&w, 10000, "%zu", 30000);
    writer_str(&w, "}]}");
    struct engine_problem why = {0};
    ck_assert_ptr_null(engine_grammar_compile(ENGINE_GRAMMAR_SCHEMA, writer_span(&w), vocab, &why));
    ck_assert_int_eq(why.code, ENGINE_E_LIMIT);
    writer_release(&w);
}
END_TEST

/* Which of the last letters were what: every new text is a new state, found on the thread that everybody shares. */
START_TEST(the_search_for_states_is_bounded)
{
    struct writer w = writer_with_max(1 << 16);
    writer_str(&w, "(x");
    for (char c = 'a'; c <= 'h'; c++) /* a place for each of the last 24, and 11 that read nothing */
        writer_printf(&w, "|([a-h](((((((((((|)|)|)|)|)|)|)|)|)|)|))*%c[a-h]{24}", c);
    writer_str(&w, ")");
    struct engine_grammar *g = engine_grammar_compile(ENGINE_GRAMMAR_REGEX, writer_span(&w), vocab, NULL);
    ck_assert(g != NULL);
    uint32_t random = 1;
    long tokens = 0;
    for (engine_grammar_state s = engine_grammar_start(g); s >= 0 && tokens < 2000000; tokens++) {
        random = random * 1664525 + 1013904223;
        s = engine_grammar_advance(g, s, 'a' + (int32_t)(random >> 29));
    }
    ck_assert_int_lt(tokens, 2000000);
    engine_grammar_close(g);
    writer_release(&w);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, what_fits_passes_and_nothing_else, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_loop_test(t, a_mask_is_what_advance_allows, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, tokens_of_several_bytes);
    tcase_add_test(t, what_must_come_is_known);
    tcase_add_test(t, a_tool_must_be_called);
    tcase_add_loop_test(t, bad_grammars_are_refused, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, depth_is_bounded);
    tcase_add_test(t, long_lists_of_values);
    tcase_add_test(t, the_search_for_states_is_bounded);
}

RUN("engine_grammar", add_tests)
