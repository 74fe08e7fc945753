/* grammar_regex.c - regular expressions, read as if anchored at both ends: alternatives, groups (capturing or not),
 * classes, . \d \w \s and their opposites, * + ? {m,n} (a following ? or + changes nothing here), ^ at the beginning
 * and $ at the end. \d \w \s are ASCII. Look-around, back-references and word boundaries are refused. */
#include "engine/grammar_internal.h"
#include "engine/tokenizer_split.h"
#include "verifier/base/utf8.h"

struct regex {
    struct grammar_text *g;
    struct span text;
    size_t at;
    bool in_json;
};

static struct expr *fail(struct regex *p, enum engine_err err, const char *what)
{
    return p->g->failed ? NULL : grammar_fail(p->g, err, "regular expression, byte %zu: %s", p->at, what);
}

static int peek(const struct regex *p, size_t ahead)
{
    return p->at + ahead < p->text.len ? p->text.data[p->at + ahead] : -1;
}

static bool accept(struct regex *p, char c)
{
    if (peek(p, 0) != c)
        return false;
    p->at++;
    return true;
}

static struct expr *new_class(struct regex *p)
{
    struct expr *x = expr_new(p->g, X_CLASS);
    if (x)
        x->in_json = p->in_json;
    return x;
}

static struct expr *one(struct regex *p, uint32_t c)
{
    return expr_range(p->g, new_class(p), c, c);
}

/* Adds \d, \w or \s to `x`. */
static struct expr *add_named(struct regex *p, struct expr *x, int letter)
{
    static const char digits[] = "09", words[] = "09AZ__az", spaces[] = "\t\r  ";
    const char *ranges = letter == 'd' ? digits : letter == 'w' ? words : spaces;
    for (; x && *ranges; ranges += 2)
        x = expr_range(p->g, x, (uint8_t)ranges[0], (uint8_t)ranges[1]);
    return x;
}

static int hex(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The character of an escape whose letter has been read; -1: it stands for none. */
static int32_t escaped(struct regex *p, int letter)
{
    static const char from[] = "ntrfv0", to[] = "\n\t\r\f\v";
    const char *known = letter > 0 ? strchr(from, letter) : NULL;
    if (known)
        return to[known - from];
    int digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 0;
    int32_t value = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        if (hex(peek(p, 0)) < 0)
            return -1;
        value = value * 16 + hex(peek(p, 0));
    }
    if (digits > 0)
        return value;
    bool letter_or_digit =
        (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
    return letter > 0 && letter < 0x80 && !letter_or_digit ? letter : -1;
}

static bool is_named(int letter)
{
    return letter == 'd' || letter == 'w' || letter == 's' || letter == 'D' || letter == 'W' || letter == 'S';
}

static struct expr *named(struct regex *p, int letter)
{
    bool inverted = letter < 'a';
    struct expr *x = add_named(p, new_class(p), inverted ? letter - 'A' + 'a' : letter);
    return inverted ? expr_invert(p->g, x) : x;
}

/* One character of a class, or in `*x` added a named class: then -2. -1: bad. */
static int32_t class_character(struct regex *p, struct expr **x)
{
    size_t len;
    int32_t c = tokenizer_char(p->text, p->at, &len);
    p->at += len;
    if (c != '\\')
        return c;
    int letter = peek(p, 0);
    p->at++;
    if (letter == 'b')
        return '\b';
    if (!is_named(letter))
        return escaped(p, letter);
    struct expr *more = named(p, letter);
    for (size_t i = 0; more && *x && i < more->range_count; i++)
        *x = expr_range(p->g, *x, more->ranges[i].low, more->ranges[i].high);
    return -2;
}

static struct expr *class(struct regex *p)
{
    struct expr *x = new_class(p);
    bool inverted = accept(p, '^');
    for (bool first = true; x && (first || peek(p, 0) != ']'); first = false) {
        int32_t low = class_character(p, &x), high = low;
        if (low >= 0 && peek(p, 0) == '-' && peek(p, 1) != ']' && peek(p, 1) >= 0) {
            p->at++;
            high = class_character(p, &x);
        }
        if (low == -1 || high == -1 || (low >= 0 && high == -2))
            return fail(p, ENGINE_E_SYNTAX, "a class that does not end, or a bad escape");
        if (low >= 0)
            x = expr_range(p->g, x, (uint32_t)low, (uint32_t)high);
    }
    p->at++;
    return inverted ? expr_invert(p->g, x) : x;
}

static struct expr *alternatives(struct regex *p);

static struct expr *group(struct regex *p)
{
    if (accept(p, '?')) {
        bool named_group = peek(p, 0) == 'P' && peek(p, 1) == '<';
        if (named_group)
            while (p->at < p->text.len && p->text.data[p->at] != '>')
                p->at++;
        if (!accept(p, named_group ? '>' : ':'))
            return fail(p, ENGINE_E_UNSUPPORTED, "look-around and flags are not supported");
    }
    struct expr *x = alternatives(p);
    return accept(p, ')') ? x : fail(p, ENGINE_E_SYNTAX, "a parenthesis that does not close");
}

static struct expr *atom(struct regex *p)
{
    size_t len;
    int32_t c = tokenizer_char(p->text, p->at, &len);
    p->at += len;
    switch (c) {
    case '(':
        return group(p);
    case '[':
        return class(p);
    case '.':
        return expr_invert(p->g, one(p, '\n'));
    case '\\': {
        int letter = peek(p, 0);
        p->at++;
        if (is_named(letter))
            return named(p, letter);
        int32_t e = escaped(p, letter);
        return e >= 0 ? one(p, (uint32_t)e) : fail(p, ENGINE_E_UNSUPPORTED, "an escape that is not supported");
    }
    case '*':
    case '+':
    case '?':
        return fail(p, ENGINE_E_SYNTAX, "nothing to repeat");
    case '^':
        return p->at == 1 ? expr_new(p->g, X_EMPTY) : fail(p, ENGINE_E_UNSUPPORTED, "^ inside the expression");
    case '$':
        return p->at == p->text.len ? expr_new(p->g, X_EMPTY)
                                    : fail(p, ENGINE_E_UNSUPPORTED, "$ inside the expression");
    default:
        return c < 0 ? fail(p, ENGINE_E_SYNTAX, "it ends too early") : one(p, (uint32_t)c);
    }
}

static int number(struct regex *p)
{
    int n = -1;
    for (; peek(p, 0) >= '0' && peek(p, 0) <= '9' && n <= GRAMMAR_REPEAT_MAX; p->at++)
        n = (n < 0 ? 0 : n) * 10 + peek(p, 0) - '0';
    return n;
}

static struct expr *quantified(struct regex *p)
{
    struct expr *x = atom(p);
    int c = peek(p, 0);
    if (!x)
        return NULL;
    if (c == '*' || c == '+' || c == '?') {
        p->at++;
        x = expr_repeat(p->g, x, c == '+', c == '?' ? 1 : -1);
    } else if (c == '{' && peek(p, 1) >= '0' && peek(p, 1) <= '9') {
        p->at++;
        int min = number(p), max = min;
        if (accept(p, ','))
            max = number(p);
        if (!accept(p, '}'))
            return fail(p, ENGINE_E_SYNTAX, "a repetition is written {2}, {2,} or {2,5}");
        x = expr_repeat(p->g, x, min, max);
    } else {
        return x;
    }
    if (peek(p, 0) == '?' || peek(p, 0) == '+')
        p->at++;
    if (peek(p, 0) == '*' || peek(p, 0) == '?' || peek(p, 0) == '+')
        return fail(p, ENGINE_E_SYNTAX, "a repetition of a repetition");
    return x;
}

static struct expr *alternatives(struct regex *p)
{
    struct expr *all = expr_new(p->g, X_ALT);
    if (++p->g->depth > GRAMMAR_DEPTH_MAX)
        return grammar_fail(p->g, ENGINE_E_LIMIT, "nested deeper than %d", GRAMMAR_DEPTH_MAX);
    do {
        struct expr *row = expr_new(p->g, X_SEQ);
        while (row && p->at < p->text.len && peek(p, 0) != '|' && peek(p, 0) != ')')
            row = expr_add(p->g, row, quantified(p));
        all = expr_add(p->g, all, row);
    } while (all && accept(p, '|'));
    p->g->depth--;
    return all;
}

struct expr *regex_parse(struct grammar_text *g, struct span text, bool in_json)
{
    struct regex p = {.g = g, .text = text, .in_json = in_json};
    if (!utf8_is_valid(text))
        return grammar_fail(g, ENGINE_E_SYNTAX, "not UTF-8");
    struct expr *x = alternatives(&p);
    return x && p.at < text.len ? fail(&p, ENGINE_E_SYNTAX, "a parenthesis that does not open") : x;
}

void grammar_from_regex(struct grammar_text *g, struct span text)
{
    int32_t root = rule_new(g, span_of(NULL, 0));
    struct expr *body = regex_parse(g, text, false);
    if (root == 0 && body)
        g->rules[root].body = body;
}
