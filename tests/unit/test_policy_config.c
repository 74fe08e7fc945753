/* Is every trap of the configuration language closed, and does a refusal tell a person where and what to do? */
#include <check.h>
#include <stdlib.h>

#include "policy/config.h"
#include "unit/run.h"

static enum policy_problem_code open_code(struct span text)
{
    struct policy_problem why;
    struct policy_config *c = policy_config_open(text, &why);
    policy_config_close(c);
    return c ? POLICY_PROBLEM_NONE : why.code;
}

static const struct {
    const char *name, *text;
    enum policy_problem_code want;
} texts[] = {
    {"good", "a = 1; b = \"x\"; // c\nlist = ( { k = [ \"y\" ]; } ); /* d */", POLICY_PROBLEM_NONE},
    {"nine digits", "a = 999999999;", POLICY_PROBLEM_NONE},
    {"digits in names and strings", "a1234567890 = \"12345678901\";", POLICY_PROBLEM_NONE},
    {"digits in a comment", "# 12345678901 0x10\na = 1;", POLICY_PROBLEM_NONE},
    {"empty", "", POLICY_PROBLEM_SIZE},
    {"wraps to 1", "a = 4294967297;", POLICY_PROBLEM_NUMBER},
    {"ten digits", "a = 1000000000;", POLICY_PROBLEM_NUMBER},
    {"wraps to -1", "a = 0x1FFFFFFFF;", POLICY_PROBLEM_NUMBER},
    {"hex", "a = 0x10;", POLICY_PROBLEM_NUMBER},
    {"infinite", "a = 1e400;", POLICY_PROBLEM_NUMBER},
    {"fraction", "a = 0.5;", POLICY_PROBLEM_NUMBER},
    {"fraction without a whole part", "a = .5;", POLICY_PROBLEM_NUMBER},
    {"long suffix", "a = 5L;", POLICY_PROBLEM_NUMBER},
    {"octal to some", "a = 010;", POLICY_PROBLEM_NUMBER},
    {"two signs", "a = +-1;", POLICY_PROBLEM_NUMBER},
    {"inside a list", "a = [ 1, 4294967297 ];", POLICY_PROBLEM_NUMBER},
    {"include", "@include \"/etc/passwd\"\na = 1;", POLICY_PROBLEM_INCLUDE},
    {"include in a comment", "# @include\na = 1;", POLICY_PROBLEM_INCLUDE},
    {"include in a string", "a = \"@include\";", POLICY_PROBLEM_INCLUDE},
    {"escaped NUL", "a = \"\\x00b\";", POLICY_PROBLEM_TEXT},
    {"JSON's NUL", "a = \"\\u0000\";", POLICY_PROBLEM_TEXT},
    {"escaped newline", "a = \"x\\n\";", POLICY_PROBLEM_TEXT},
    {"not UTF-8", "a = \"\xc0\xaf\";", POLICY_PROBLEM_TEXT},
    {"control character", "a = \"\x01\";", POLICY_PROBLEM_TEXT},
    {"string over two lines", "a = \"x\ny\";", POLICY_PROBLEM_SYNTAX},
    {"open string", "a = \"x", POLICY_PROBLEM_SYNTAX},
    {"open comment", "a = 1; /* x", POLICY_PROBLEM_SYNTAX},
    {"comment swallows a quote", "/* \" */ a = 4294967297; /* \" */", POLICY_PROBLEM_NUMBER},
    {"nine deep", "a=((((((((({b=1;})))))))));", POLICY_PROBLEM_DEPTH},
    {"closed too often", "a = 1; }", POLICY_PROBLEM_SYNTAX},
    {"a name twice", "a = 1; a = 2;", POLICY_PROBLEM_REPEATED},
    {"no value", "a = ;", POLICY_PROBLEM_SYNTAX},
};

START_TEST(traps_are_closed)
{
    ck_assert_msg(open_code(span_str(texts[_i].text)) == texts[_i].want, "%s: %d", texts[_i].name,
                  open_code(span_str(texts[_i].text)));
}
END_TEST

START_TEST(a_nul_byte_and_a_long_text_are_refused)
{
    static char big[POLICY_CONFIG_TEXT_MAX + 1];
    ck_assert_int_eq(open_code(span_of("a = 1;\0b = 2;", 13)), POLICY_PROBLEM_TEXT);
    memset(big, ' ', sizeof big);
    memcpy(big, "a = 1;", 6);
    ck_assert_int_eq(open_code(span_of(big, sizeof big - 1)), POLICY_PROBLEM_NONE);
    ck_assert_int_eq(open_code(span_of(big, sizeof big)), POLICY_PROBLEM_SIZE);
}
END_TEST

/* What each getter says about one text: `get` returns true when the value was taken. */
static bool get_uint(struct policy_group *g)
{
    uint64_t v = 0;
    return policy_group_uint(g, "a", POLICY_REQUIRED, 1, 10, &v) && v == 5;
}
static bool get_bool(struct policy_group *g)
{
    bool v = false;
    return policy_group_bool(g, "a", POLICY_REQUIRED, &v) && v;
}
static bool get_duration(struct policy_group *g)
{
    uint64_t v;
    return policy_group_duration(g, "a", POLICY_REQUIRED, 60, 86400, &v) && v == 4 * 3600;
}
static bool get_size(struct policy_group *g)
{
    uint64_t v;
    return policy_group_size(g, "a", POLICY_REQUIRED, 1, 1 << 30, &v) && v == 16 << 20;
}
static bool get_date(struct policy_group *g)
{
    uint64_t v;
    return policy_group_date(g, "a", POLICY_REQUIRED, &v) && v == 1795219200;
}
static bool get_fraction(struct policy_group *g)
{
    double v;
    return policy_group_fraction(g, "a", POLICY_REQUIRED, 0, 2, &v) && v > 0.699 && v < 0.701;
}
static bool get_hex(struct policy_group *g)
{
    uint8_t v[4];
    return policy_group_hex(g, "a", POLICY_REQUIRED, v, sizeof v) && v[3] == 0xef;
}
static const char *const words[] = {"red", "green", "blue"};
static bool get_choice(struct policy_group *g)
{
    size_t v;
    return policy_group_choice(g, "a", POLICY_REQUIRED, words, 3, &v) && v == 1;
}
static bool get_words(struct policy_group *g)
{
    uint32_t v;
    return policy_group_words(g, "a", POLICY_REQUIRED, words, 3, &v) && v == 5;
}
static bool get_hexes(struct policy_group *g)
{
    uint8_t v[2][2];
    size_t n;
    return policy_group_hexes(g, "a", POLICY_REQUIRED, 1, 2, v[0], 2, &n) && n == 2 && v[1][1] == 4;
}
static bool get_text(struct policy_group *g)
{
    char v[6];
    return policy_group_text(g, "a", POLICY_REQUIRED, v, sizeof v) && strcmp(v, "hello") == 0;
}

static const struct {
    bool (*get)(struct policy_group *);
    const char *text;
    enum policy_problem_code want;
} values[] = {
    {get_uint, "a = 5;", POLICY_PROBLEM_NONE},
    {get_uint, "b = 5;", POLICY_PROBLEM_MISSING},
    {get_uint, "a = 11;", POLICY_PROBLEM_RANGE},
    {get_uint, "a = -1;", POLICY_PROBLEM_RANGE},
    {get_uint, "a = \"5\";", POLICY_PROBLEM_TYPE},
    {get_bool, "a = true;", POLICY_PROBLEM_NONE},
    {get_bool, "a = 1;", POLICY_PROBLEM_TYPE},
    {get_duration, "a = \"4h\";", POLICY_PROBLEM_NONE},
    {get_duration, "a = \"240m\";", POLICY_PROBLEM_NONE},
    {get_duration, "a = 14400;", POLICY_PROBLEM_TYPE},
    {get_duration, "a = \"4\";", POLICY_PROBLEM_UNIT},
    {get_duration, "a = \"4 h\";", POLICY_PROBLEM_UNIT},
    {get_duration, "a = \"2d\";", POLICY_PROBLEM_RANGE},
    {get_size, "a = \"16MiB\";", POLICY_PROBLEM_NONE},
    {get_size, "a = \"16777216\";", POLICY_PROBLEM_NONE},
    {get_size, "a = \"16MB\";", POLICY_PROBLEM_UNIT},
    {get_size, "a = \"99999999999999TiB\";", POLICY_PROBLEM_UNIT},
    {get_date, "a = \"2026-11-21T00:00:00Z\";", POLICY_PROBLEM_NONE},
    {get_date, "a = \"2026-11-21\";", POLICY_PROBLEM_NONE},
    {get_date, "a = \"2026-11-31\";", POLICY_PROBLEM_UNIT},
    {get_date, "a = \"2026-11-21T00:00:00\";", POLICY_PROBLEM_UNIT},
    {get_date, "a = \"1969-12-31\";", POLICY_PROBLEM_UNIT},
    {get_fraction, "a = \"0.7\";", POLICY_PROBLEM_NONE},
    {get_fraction, "a = \"2.1\";", POLICY_PROBLEM_RANGE},
    {get_fraction, "a = \"-1\";", POLICY_PROBLEM_UNIT},
    {get_fraction, "a = \"nan\";", POLICY_PROBLEM_UNIT},
    {get_hex, "a = \"DEADBEef\";", POLICY_PROBLEM_NONE},
    {get_hex, "a = \"deadbee\";", POLICY_PROBLEM_VALUE},
    {get_hex, "a = \"deadbeeg\";", POLICY_PROBLEM_VALUE},
    {get_choice, "a = \"green\";", POLICY_PROBLEM_NONE},
    {get_choice, "a = \"pink\";", POLICY_PROBLEM_VALUE},
    {get_words, "a = [ \"red\", \"blue\" ];", POLICY_PROBLEM_NONE},
    {get_words, "a = ( \"red\", \"blue\" );", POLICY_PROBLEM_NONE},
    {get_words, "a = [ \"red\", \"red\" ];", POLICY_PROBLEM_REPEATED},
    {get_words, "a = [ \"pink\" ];", POLICY_PROBLEM_VALUE},
    {get_words, "a = \"red\";", POLICY_PROBLEM_TYPE},
    {get_words, "a = [ 1 ];", POLICY_PROBLEM_TYPE},
    {get_hexes, "a = [ \"0102\", \"0304\" ];", POLICY_PROBLEM_NONE},
    {get_hexes, "a = [ \"0102\", \"0102\" ];", POLICY_PROBLEM_REPEATED},
    {get_hexes, "a = [ ];", POLICY_PROBLEM_COUNT},
    {get_hexes, "a = [ \"01\", \"02\", \"03\" ];", POLICY_PROBLEM_COUNT},
    {get_text, "a = \"hello\";", POLICY_PROBLEM_NONE},
    {get_text, "a = \"hello!\";", POLICY_PROBLEM_RANGE},
    {get_text, "a = \"\";", POLICY_PROBLEM_VALUE},
    {get_text, "a = \"x\ty\";", POLICY_PROBLEM_TEXT},
};

START_TEST(getters_take_the_good_and_name_the_bad)
{
    struct policy_problem why = {0};
    struct policy_config *c = policy_config_open(span_str(values[_i].text), &why);
    ck_assert_msg(c != NULL, "%s: %s", values[_i].text, why.text);
    struct policy_group g = policy_config_root(c);
    bool got = values[_i].get(&g);
    bool ok = policy_config_ok(c, &why);
    ck_assert_msg(ok == got && why.code == values[_i].want, "%s: %d %s", values[_i].text, why.code, why.text);
    policy_config_close(c);
}
END_TEST

START_TEST(an_unknown_name_is_refused_with_line_and_suggestion)
{
    struct policy_problem why;
    char line[512];
    struct policy_config *c = policy_config_open(span_str("outer = {\n  max_contxt = 5;\n};\n"), &why);
    struct policy_group g = policy_config_root(c), in = policy_group_child(&g, "outer", POLICY_REQUIRED);
    uint64_t v;
    policy_group_uint(&in, "max_context", POLICY_OPTIONAL, 1, 10, &v);
    policy_group_uint(&in, "max_output", POLICY_OPTIONAL, 1, 10, &v);
    policy_group_end(&in);
    policy_group_end(&g);
    ck_assert(!policy_config_ok(c, &why));
    policy_problem_print(&why, "p.conf", line, sizeof line);
    ck_assert_str_eq(line,
                     "p.conf:2: outer.max_contxt: there is no \"max_contxt\" here; did you mean \"max_context\"?");
    policy_config_close(c);
}
END_TEST

START_TEST(the_first_problem_sticks)
{
    struct policy_problem why;
    struct policy_config *c = policy_config_open(span_str("a = 1;\nb = \"x\";\n"), &why);
    struct policy_group g = policy_config_root(c);
    uint64_t v = 7;
    char text[8] = "old";
    ck_assert(!policy_group_uint(&g, "b", POLICY_REQUIRED, 0, 9, &v));
    ck_assert(!policy_group_text(&g, "a", POLICY_REQUIRED, text, sizeof text));
    ck_assert_uint_eq(v, 7);
    ck_assert_str_eq(text, "old");
    ck_assert(!policy_config_ok(c, &why));
    ck_assert_int_eq(why.line, 2);
    policy_config_close(c);
}
END_TEST

START_TEST(dates_print_as_they_are_read)
{
    char text[32];
    uint64_t back;
    policy_date_print(1795219200, text);
    ck_assert_str_eq(text, "2026-11-21T00:00:00Z");
    ck_assert(policy_date_parse(span_str(text), &back) && back == 1795219200);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, traps_are_closed, 0, (int)(sizeof texts / sizeof *texts));
    tcase_add_test(t, a_nul_byte_and_a_long_text_are_refused);
    tcase_add_loop_test(t, getters_take_the_good_and_name_the_bad, 0, (int)(sizeof values / sizeof *values));
    tcase_add_test(t, an_unknown_name_is_refused_with_line_and_suggestion);
    tcase_add_test(t, the_first_problem_sticks);
    tcase_add_test(t, dates_print_as_they_are_read);
}

RUN("policy_config", add_tests)
