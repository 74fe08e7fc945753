/* grammar_ebnf.c - rules as text:
 *   root ::= "text" [a-zA-Z_] [^"\n] name ( a | b )* c+ d? e{2,5} .    # comment
 * Strings and classes take \n \t \r \\ \" \' \] \[ \- \^ \xNN \uNNNN \UNNNNNNNN; a rule ends where the next one begins.
 * Names are letters, digits,
 * - and _. The answer is "root". */
#include "engine/grammar_internal.h"
#include "engine/tokenizer_split.h"
#include "verifier/base/utf8.h"

struct ebnf {
    struct grammar_text *g;
    struct span text;
    size_t at;
};

static unsigned line_of(const struct ebnf *p)
{
    unsigned line = 1;
    for (size_t i = 0; i < p->at && i < p->text.len; i++)
        line += p->text.data[i] == '\n';
    return line;
}

static struct expr *fail(struct ebnf *p, const char *what)
{
    return p->g->failed ? NULL : grammar_fail(p->g, ENGINE_E_SYNTAX, "line %u: %s", line_of(p), what);
}

static int peek(const struct ebnf *p)
{
    return p->at < p->text.len ? p->text.data[p->at] : -1;
}

static void skip(struct ebnf *p)
{
    for (; p->at < p->text.len; p->at++) {
        int c = peek(p);
        if (c == '#')
            while (p->at + 1 < p->text.len && p->text.data[p->at + 1] != '\n')
                p->at++;
        else if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            break;
    }
}

static bool accept(struct ebnf *p, char c)
{
    skip(p);
    if (peek(p) != c)
        return false;
    p->at++;
    return true;
}

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static struct span name(struct ebnf *p)
{
    size_t begin = p->at;
    while (is_name(peek(p)))
        p->at++;
    return span_of(p->text.data + begin, p->at - begin);
}

/* Is `name ::=` here? Leaves `at` where it was. */
static bool rule_begins(struct ebnf *p)
{
    size_t before = p->at;
    bool yes = name(p).len > 0;
    skip(p);
    yes = yes && p->at + 3 <= p->text.len && memcmp(p->text.data + p->at, "::=", 3) == 0;
    p->at = before;
    return yes;
}

static int hex(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One character of a string or class, escapes read. -1: bad. */
static int32_t character(struct ebnf *p)
{
    static const char from[] = "ntr\\\"'[]-^/", to[] = "\n\t\r\\\"'[]-^/";
    size_t len;
    int32_t c = tokenizer_char(p->text, p->at, &len);
    p->at += len;
    if (c != '\\')
        return c;
    int e = peek(p);
    p->at++;
    const char *known = e > 0 ? strchr(from, e) : NULL;
    if (known)
        return to[known - from];
    size_t digits = e == 'x' ? 2 : e == 'u' ? 4 : e == 'U' ? 8 : 0;
    int64_t value = digits ? 0 : -1;
    for (size_t i = 0; i < digits && value >= 0; i++, p->at++)
        value = hex(peek(p)) < 0 ? -1 : value * 16 + hex(peek(p));
    return value > 0x10ffff ? -1 : (int32_t)value;
}

static struct expr *string(struct ebnf *p)
{
    struct expr *all = expr_new(p->g, X_SEQ);
    while (all && peek(p) != '"') {
        int32_t c = character(p);
        if (c < 0)
            return fail(p, "a string that does not end, or a bad escape");
        all = expr_add(p->g, all, expr_range(p->g, expr_new(p->g, X_CLASS), (uint32_t)c, (uint32_t)c));
    }
    p->at++;
    return all;
}

static struct expr *class(struct ebnf *p)
{
    struct expr *x = expr_new(p->g, X_CLASS);
    bool inverted = peek(p) == '^';
    p->at += inverted;
    while (x && peek(p) != ']') {
        int32_t low = character(p), high = low;
        if (peek(p) == '-' && p->at + 1 < p->text.len && p->text.data[p->at + 1] != ']') {
            p->at++;
            high = character(p);
        }
        if (low < 0 || high < 0)
            return fail(p, "a class that does not end, or a bad escape");
        x = expr_range(p->g, x, (uint32_t)low, (uint32_t)high);
    }
    p->at++;
    return inverted ? expr_invert(p->g, x) : x;
}

static int number(struct ebnf *p)
{
    int n = -1;
    for (skip(p); peek(p) >= '0' && peek(p) <= '9' && n <= GRAMMAR_REPEAT_MAX; p->at++)
        n = (n < 0 ? 0 : n) * 10 + peek(p) - '0';
    return n;
}

static struct expr *alternatives(struct ebnf *p);

static struct expr *element(struct ebnf *p)
{
    if (accept(p, '"'))
        return string(p);
    if (accept(p, '['))
        return class(p);
    if (accept(p, '.'))
        return expr_invert(p->g, expr_range(p->g, expr_new(p->g, X_CLASS), '\n', '\n'));
    if (accept(p, '(')) {
        struct expr *x = alternatives(p);
        return accept(p, ')') ? x : fail(p, "a parenthesis that does not close");
    }
    struct span rule = name(p);
    return rule.len > 0 ? expr_rule(p->g, rule_named(p->g, rule)) : fail(p, "something that means nothing here");
}

static struct expr *quantified(struct ebnf *p)
{
    struct expr *x = element(p);
    for (int chain = 0; x && chain < 8; chain++) {
        int c = peek(p);
        if (c == '*' || c == '+' || c == '?') {
            p->at++;
            x = expr_repeat(p->g, x, c == '+', c == '?' ? 1 : -1);
        } else if (c == '{') {
            p->at++;
            int min = number(p), max = min;
            if (accept(p, ','))
                max = number(p);
            if (min < 0 || !accept(p, '}'))
                return fail(p, "a repetition is written {2}, {2,} or {2,5}");
            x = expr_repeat(p->g, x, min, max);
        } else {
            break;
        }
    }
    return x;
}

static struct expr *sequence(struct ebnf *p)
{
    struct expr *all = expr_new(p->g, X_SEQ);
    for (skip(p); all && p->at < p->text.len && peek(p) != '|' && peek(p) != ')' && !rule_begins(p); skip(p))
        all = expr_add(p->g, all, quantified(p));
    return all;
}

static struct expr *alternatives(struct ebnf *p)
{
    struct expr *all = expr_new(p->g, X_ALT);
    if (++p->g->depth > GRAMMAR_DEPTH_MAX)
        return grammar_fail(p->g, ENGINE_E_LIMIT, "nested deeper than %d", GRAMMAR_DEPTH_MAX);
    do
        all = expr_add(p->g, all, sequence(p));
    while (all && accept(p, '|'));
    p->g->depth--;
    return all;
}

void ebnf_parse(struct grammar_text *g, struct span text)
{
    struct ebnf p = {.g = g, .text = text};
    if (!utf8_is_valid(text)) {
        grammar_fail(g, ENGINE_E_SYNTAX, "not UTF-8");
        return;
    }
    for (skip(&p); p.at < text.len && !g->failed; skip(&p)) {
        if (!rule_begins(&p)) {
            fail(&p, "expected a rule: name ::= ..");
            return;
        }
        int32_t rule = rule_named(g, name(&p));
        skip(&p);
        p.at += 3;
        struct expr *body = alternatives(&p);
        if (rule < 0 || g->failed)
            return;
        if (g->rules[rule].body)
            fail(&p, "a rule is there twice");
        g->rules[rule].body = body;
        if (peek(&p) == ')')
            fail(&p, "a parenthesis that does not open");
    }
}

void grammar_from_ebnf(struct grammar_text *g, struct span text)
{
    if (rule_named(g, span_str("root")) == 0)
        ebnf_parse(g, text);
}

/* White space is bounded, a model must not be able to go on with it for ever; and none stands before a colon. */
static const char json_rules[] =
    "value ::= object | array | string | number | boolean | null\n"
    "object ::= \"{\" ws ( member ( \",\" ws member )* )? \"}\"\n"
    "member ::= string \":\" ws value ws\n"
    "array ::= \"[\" ws ( value ws ( \",\" ws value ws )* )? \"]\"\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "char ::= [^\"\\\\\\x00-\\x1f\\x7f] | \"\\\\\" ( [\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4} )\n"
    "number ::= integer fraction? exponent?\n"
    "integer ::= \"-\"? ( \"0\" | [1-9] [0-9]{0,17} )\n"
    "fraction ::= \".\" [0-9]{1,17}\n"
    "exponent ::= [eE] [-+]? [0-9]{1,3}\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "ws ::= ( \" \" | \"\\n\" [ \\t]{0,32} )?\n";

void grammar_json_rules(struct grammar_text *g)
{
    ebnf_parse(g, span_str(json_rules));
}

void grammar_from_json(struct grammar_text *g)
{
    int32_t root = rule_new(g, span_of(NULL, 0));
    grammar_json_rules(g);
    struct expr *body = expr_rule(g, rule_named(g, span_str("object")));
    if (root == 0 && body)
        g->rules[root].body = body;
}
