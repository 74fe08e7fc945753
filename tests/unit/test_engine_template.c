/* Does the template interpreter agree with Jinja2 3.1 (sandboxed, trim_blocks, lstrip_blocks, loop controls), and does
 * a hostile template or conversation end in a limit? The expected texts were made by Jinja2. */
#include <check.h>

#include "engine/template.h"
#include "unit/run.h"

static const char variables[] =
    "{\"s\":\"Hello, w\xc3\xb6rld\",\"n\":3,\"f\":2.5,\"z\":0,\"b\":true,\"nul\":null,\"l\":[3,1,2,\"x\"],"
    "\"ints\":[5,3,9,3],\"e\":[],\"d\":{\"b\":1,\"a\":[1,{\"k\":\"v\\\"\"}],\"items\":5},"
    "\"objs\":[{\"n\":\"B\",\"v\":2},{\"n\":\"a\",\"v\":1}],\"sp\":\"  a  b\\n\"}";

static enum engine_err render(const char *source, size_t max, struct writer *out, struct engine_problem *why)
{
    json_t *kwargs = json_loads(variables, 0, NULL);
    json_t *messages = json_loads("[{\"role\":\"user\",\"content\":\" Hi \"}]", 0, NULL);
    struct engine_template_input in = {.messages = messages,
                                       .kwargs = kwargs,
                                       .bos = span_str("<s>"),
                                       .eos = span_str("</s>"),
                                       .add_generation_prompt = true,
                                       .now = 1767323045};
    struct engine_template *t = engine_template_open(span_str(source), why);
    *out = writer_with_max(max);
    enum engine_err err = t ? engine_template_render(t, &in, out, why) : why->code;
    engine_template_close(t);
    json_decref(kwargs);
    json_decref(messages);
    return err;
}

static const struct {
    const char *source, *text;
} renders[] = {
    {"{{ s|upper }}|{{ s|length }}|{{ s[-1] }}|{{ s[1:4] }}|{{ s[::-1] }}",
     "HELLO, W\xc3\x96RLD|12|d|ell|dlr\xc3\xb6w ,olleH"},
    {"{{ l }}{{ d }}{{ (1,) }}{{ [\"it's\"] }}{{ none }}{{ true }}",
     "[3, 1, 2, 'x']{'b': 1, 'a': [1, {'k': 'v\"'}], 'items': 5}(1,)[\"it's\"]NoneTrue"},
    {"{{ f }} {{ 1e16 }} {{ 0.1+0.2 }} {{ 3.0e-7 }} {{ 7//2 }} {{ -7//2 }} {{ -7%3 }} {{ 7/2 }} {{ 2**10 }}",
     "2.5 1e+16 0.30000000000000004 3e-07 3 -4 2 3.5 1024"},
    {"{{ 1 < 2 < 3 }}{{ 'z' not in 'abc' }}{{ 'b' in d }}{{ 1 == true }}{{ [1]==[1] }}{{ not z and b }}",
     "TrueTrueTrueTrueTrueTrue"},
    {"{{ undef }}|{{ undef is defined }}|{{ undef|default('D') }}|{{ nul|default('D', true) }}|{{ 'y' if z }}",
     "|False|D|D|"},
    {"{% for i in ints if i > 3 %}{{ loop.index }}/{{ loop.length }}={{ i }} {% else %}none{% endfor %}",
     "1/2=5 2/2=9 "},
    {"{% for i in e %}x{% else %}empty{% endfor %}", "empty"},
    {"{% for i in ints %}{% if i == 9 %}{% break %}{% endif %}{% if i == 3 %}{% continue %}{% endif %}{{ i }}{% endfor "
     "%}",
     "5"},
    {"{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "231"},
    {"{% set ns = namespace(a=1) %}{% for i in [1,2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "4"},
    {"{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(a=9, b=8) }}{{ m() }}", "[12][98][2]"},
    {"{% set c %}a{{ n }}{% endset %}{{ c|upper }}{% filter upper %}q{% endfilter %}", "A3Q"},
    {"{{ sp.split() }}{{ 'a,b,c'.split(',', 1) }}{{ sp|trim }}|{{ 'xax'.strip('x') }}{{ s.replace('l', 'L') }}",
     "['a', 'b']['a', 'b,c']a  b|aHeLLo, w\xc3\xb6rLd"},
    {"{{ objs|map(attribute='n')|join('-') }}{{ objs|selectattr('v','equalto',2)|list|length }}{{ "
     "ints|reject('odd')|list }}",
     "B-a1[]"},
    {"{{ ints|sort }}{{ objs|sort(attribute='n')|map(attribute='n')|list }}{{ d|dictsort|length }}{{ ints|unique|list "
     "}}",
     "[3, 3, 5, 9]['a', 'B']3[5, 3, 9]"},
    {"{{ d|tojson }}{{ s|tojson }}{{ [1,[2]]|tojson(indent=2) }}{{ 2.0|tojson }}",
     "{\"b\": 1, \"a\": [1, {\"k\": \"v\\\"\"}], \"items\": 5}\"Hello, w\xc3\xb6rld\"[\n  1,\n  [\n    2\n  ]\n]2.0"},
    {"{{ d['items'] }}{{ d.b }}{% for k, v in d.items() %}{{ k }};{% endfor %}", "51b;a;items;"},
    {"{{ strftime_now('%Y-%m-%d %B %d') }}{{ range(1,7,2)|list }}", "2026-01-02 January 02[1, 3, 5]"},
    {"  {% if true %}\n  x\n  {% endif %}\n y\n", "  x\n y"},
    {"a\n   {%- if true %}\n b\n{%- endif +%}\n c", "a b\n c"},
    {"x\n  {{ 1 }}\n  {# c #}\n y\n", "x\n  1\n y"},
    {"{% with a = n, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}{{ [1,2,3]|batch(2, 0)|list }}",
     "5False[[1, 2], [3, 0]]"},
    {"{% raw %}{{ not }}{% endraw %}{{ \"a\" \"b\" '\\u00e9' }}", "{{ not }}ab\xc3\xa9"},
    {"{{ messages[0].content|trim }}{{ bos_token }}{{ eos_token }}{{ tools is none }}", "Hi<s></s>True"},
    {"{{ loop is defined }}{% for o in objs %}{{ loop.previtem.n if not loop.first }}{{ loop.last }}{% endfor %}",
     "FalseFalseBTrue"},
};

START_TEST(renders_as_jinja)
{
    struct writer out;
    struct engine_problem why = {0};
    enum engine_err err = render(renders[_i].source, 1 << 20, &out, &why);
    ck_assert_msg(err == ENGINE_OK, "%s: %s", renders[_i].source, why.text);
    writer_u8(&out, 0);
    ck_assert_str_eq((const char *)writer_span(&out).data, renders[_i].text);
    writer_release(&out);
}
END_TEST

static const struct {
    const char *source;
    enum engine_err want;
} refused[] = {
    {"{{ raise_exception('no') }}", ENGINE_E_REFUSED},
    {"{{ undef.x }}", ENGINE_E_VALUE},
    {"{{ undef + 'x' }}", ENGINE_E_VALUE},
    {"{{ 'x' + 1 }}", ENGINE_E_VALUE},
    {"{{ undef() }}", ENGINE_E_VALUE},
    {"{{ s.nomethod() }}", ENGINE_E_VALUE},
    {"{{ 'a' < 1 }}", ENGINE_E_VALUE},
    {"{{ 1 // 0 }}", ENGINE_E_VALUE},
    {"{{ 9223372036854775807 + 1 }}", ENGINE_E_VALUE},
    {"{{ undef|tojson }}", ENGINE_E_VALUE},
    {"{% set d.x = 1 %}", ENGINE_E_VALUE},
    {"{{ l.append(1) }}", ENGINE_E_VALUE},
    {"{{ n|nofilter }}", ENGINE_E_UNSUPPORTED},
    {"{{ n is notest }}", ENGINE_E_UNSUPPORTED},
    {"{% if %}", ENGINE_E_SYNTAX},
    {"{% if 1 %}", ENGINE_E_SYNTAX},
    {"{% endif %}", ENGINE_E_SYNTAX},
    {"{% break %}", ENGINE_E_SYNTAX},
    {"{{ ", ENGINE_E_SYNTAX},
    {"{{ 'abc }}", ENGINE_E_SYNTAX},
    {"{{ f(a=1, 2) }}", ENGINE_E_SYNTAX},
    {"{% import 'x' as y %}", ENGINE_E_SYNTAX},
    {"{% include '/etc/passwd' %}", ENGINE_E_SYNTAX},
    {"{# open", ENGINE_E_SYNTAX},
    {"\xff", ENGINE_E_SYNTAX},
    /* limits */
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ENGINE_E_LIMIT},
    {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", ENGINE_E_LIMIT},
    {"{{ range(1000000)|list }}", ENGINE_E_LIMIT},
    {"{{ 'x' * 100000000000 }}", ENGINE_E_LIMIT},
    {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
     ENGINE_E_LIMIT},
    {"{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
     ENGINE_E_LIMIT},
    {"{% for a in range(5000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
     ENGINE_E_LIMIT},
};

START_TEST(refuses_for_the_right_reason)
{
    struct writer out;
    struct engine_problem why = {0};
    enum engine_err err = render(refused[_i].source, 100000, &out, &why);
    ck_assert_msg(err == refused[_i].want, "%s: %s: %s", refused[_i].source, engine_err_name(err), why.text);
    ck_assert_int_eq(why.code, err);
    writer_release(&out);
}
END_TEST

START_TEST(nesting_is_bounded)
{
    static char source[20001];
    struct writer out;
    static const char opens[] = "([{-";
    for (size_t k = 0; k < 4; k++) {
        struct engine_problem why = {0};
        memset(source, opens[k], sizeof source - 1);
        memcpy(source, "{{ ", 3);
        ck_assert_int_eq(render(source, 100, &out, &why), ENGINE_E_SYNTAX);
        writer_release(&out);
    }
    struct engine_problem why = {0};
    source[0] = '\0';
    for (size_t i = 0; i + 13 < sizeof source; i += 12)
        memcpy(source + i, "{% if true%}", 13);
    ck_assert_int_eq(render(source, 100, &out, &why), ENGINE_E_SYNTAX);
    writer_release(&out);
}
END_TEST

/* map applies any filter, so itself too: so many would leave the stack. */
START_TEST(filters_inside_filters_are_bounded)
{
    struct writer source = writer_with_max(1 << 20), out;
    struct engine_problem why = {0};
    writer_str(&source, "{{ 'a'|map('map'");
    for (int i = 0; i < 60000; i++)
        writer_str(&source, ",'map'");
    writer_str(&source, ")|list }}");
    writer_u8(&source, 0);
    ck_assert_int_eq(render((const char *)writer_span(&source).data, 100, &out, &why), ENGINE_E_LIMIT);
    writer_release(&source);
    writer_release(&out);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, renders_as_jinja, 0, (int)(sizeof renders / sizeof *renders));
    tcase_add_loop_test(t, refuses_for_the_right_reason, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, nesting_is_bounded);
    tcase_add_test(t, filters_inside_filters_are_bounded);
}

RUN("engine_template", add_tests)
