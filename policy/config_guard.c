/* config_guard.c - walk a text once, knowing only comments, strings, brackets, names and numbers, and refuse what
 * libconfig would silently turn into something else. */
#include "policy/config_guard.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "verifier/base/utf8.h"

#define DIGITS_MAX 9 /* always fits libconfig's 32-bit int; more digits wrap without a word */

struct walk {
    struct span text;
    size_t at;
    int line;
    int depth;
    struct policy_problem *why;
};

void policy_problem_set(struct policy_problem *p, enum policy_problem_code code, int line, const char *path,
                        const char *format, ...)
{
    va_list args;
    if (!p || p->code != POLICY_PROBLEM_NONE)
        return;
    p->code = code;
    p->line = line;
    snprintf(p->path, sizeof p->path, "%s", path ? path : "");
    va_start(args, format);
    vsnprintf(p->text, sizeof p->text, format, args);
    va_end(args);
}

static bool refuse(struct walk *w, enum policy_problem_code code, const char *text)
{
    policy_problem_set(w->why, code, w->line, NULL, "%s", text);
    return false;
}

static int peek(const struct walk *w, size_t ahead)
{
    return w->at + ahead < w->text.len ? w->text.data[w->at + ahead] : -1;
}

static bool check_bytes(struct span text, struct policy_problem *why)
{
    struct walk w = {.text = text, .line = 1, .why = why};
    if (text.len == 0)
        return refuse(&w, POLICY_PROBLEM_SIZE, "the text is empty");
    if (text.len > POLICY_CONFIG_TEXT_MAX)
        return refuse(&w, POLICY_PROBLEM_SIZE, "the text is longer than 64 KiB");
    while (w.at < text.len) {
        size_t step = utf8_step(span_of(text.data + w.at, text.len - w.at));
        int c = peek(&w, 0);
        if (step == 0)
            return refuse(&w, POLICY_PROBLEM_TEXT, "not UTF-8: save the file as UTF-8");
        if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
            return refuse(&w, POLICY_PROBLEM_TEXT, "a control character; only newline and tab are allowed");
        w.line += c == '\n';
        w.at += step;
    }
    return true;
}

static bool check_include(struct span text, struct policy_problem *why)
{
    static const char word[] = "@include";
    struct walk w = {.text = text, .line = 1, .why = why};
    for (; w.at < text.len; w.at++) {
        if (text.len - w.at >= sizeof word - 1 && memcmp(text.data + w.at, word, sizeof word - 1) == 0)
            return refuse(&w, POLICY_PROBLEM_INCLUDE,
                          "\"@include\" is not allowed, not even in a comment: one file says it all");
        w.line += text.data[w.at] == '\n';
    }
    return true;
}

static void skip_line(struct walk *w)
{
    while (peek(w, 0) != -1 && peek(w, 0) != '\n')
        w->at++;
}

static bool skip_block(struct walk *w)
{
    for (w->at += 2; peek(w, 0) != -1; w->at++) {
        if (peek(w, 0) == '*' && peek(w, 1) == '/') {
            w->at += 2;
            return true;
        }
        w->line += peek(w, 0) == '\n';
    }
    return refuse(w, POLICY_PROBLEM_SYNTAX, "a comment that begins with /* never ends");
}

static bool skip_string(struct walk *w)
{
    for (w->at++; peek(w, 0) != '"'; w->at++) {
        if (peek(w, 0) == -1 || peek(w, 0) == '\n')
            return refuse(w, POLICY_PROBLEM_SYNTAX, "a string without its closing quote on the same line");
        if (peek(w, 0) != '\\')
            continue;
        if (peek(w, 1) != '"' && peek(w, 1) != '\\')
            return refuse(w, POLICY_PROBLEM_TEXT, "a backslash in a string may only stand before \" or \\");
        w->at++;
    }
    w->at++;
    return true;
}

static bool is_name_byte(int c)
{
    return c != -1 && (isalnum(c) || c == '_' || c == '-' || c == '*');
}

/* Everything that can continue a number in any version of libconfig, so that no part is judged on its own. */
static bool check_number(struct walk *w)
{
    size_t start = w->at, digits = 0, rest = 0;
    if (peek(w, 0) == '+' || peek(w, 0) == '-')
        w->at++;
    for (; isdigit(peek(w, 0)) && peek(w, 0) != -1; w->at++)
        digits++;
    bool leading_zero = digits > 1 && w->text.data[w->at - digits] == '0';
    for (; is_name_byte(peek(w, 0)) || peek(w, 0) == '.' || peek(w, 0) == '+'; w->at++)
        rest++;
    if (digits > DIGITS_MAX)
        return refuse(w, POLICY_PROBLEM_NUMBER,
                      "a number of more than 9 digits; write sizes, durations and dates as strings with units");
    if (digits == 0 || rest > 0 || leading_zero)
        return refuse(w, POLICY_PROBLEM_NUMBER,
                      "an unquoted number must be a plain decimal integer; write \"0.7\", \"4h\", \"16MiB\" in quotes");
    return w->at > start;
}

static bool bracket(struct walk *w, int c)
{
    w->depth += strchr("{([", c) ? 1 : -1;
    w->at++;
    if (w->depth > POLICY_CONFIG_DEPTH_MAX)
        return refuse(w, POLICY_PROBLEM_DEPTH, "nested deeper than 8");
    if (w->depth < 0)
        return refuse(w, POLICY_PROBLEM_SYNTAX, "a closing bracket without its opening one");
    return true;
}

static bool step(struct walk *w)
{
    int c = peek(w, 0);
    if (c == '#' || (c == '/' && peek(w, 1) == '/'))
        return skip_line(w), true;
    if (c == '/' && peek(w, 1) == '*')
        return skip_block(w);
    if (c == '"')
        return skip_string(w);
    if (strchr("{}()[]", c))
        return bracket(w, c);
    if (isdigit(c) || c == '+' || c == '-' || c == '.')
        return check_number(w);
    if (is_name_byte(c)) {
        while (is_name_byte(peek(w, 0)))
            w->at++;
        return true;
    }
    w->line += c == '\n';
    w->at++;
    return true;
}

bool policy_config_guard(struct span text, struct policy_problem *why)
{
    struct walk w = {.text = text, .line = 1, .why = why};
    if (!check_bytes(text, why) || !check_include(text, why))
        return false;
    while (w.at < text.len)
        if (!step(&w))
            return false;
    return true;
}
