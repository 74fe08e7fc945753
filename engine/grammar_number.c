/* grammar_number.c - numbers between bounds, written digit by digit. Bounded numbers have no exponent and integers at
 * most 18 digits: fewer ways to write a value, but none that breaks a bound. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar_internal.h"

static struct expr *bad_bound(struct grammar_text *g, const char *what)
{
    return grammar_fail(g, ENGINE_E_SYNTAX, "JSON schema: %.60s has the wrong type or value", what);
}

/* --- numbers ------------------------------------------------------------------------------------ */

static struct expr *digit(struct grammar_text *g, int low, int high)
{
    return expr_range(g, expr_new(g, X_CLASS), (uint32_t)('0' + low), (uint32_t)('0' + high));
}

/* The numbers of exactly `n` digits from `low` to `high`, as digits. */
static struct expr *digits_between(struct grammar_text *g, const char *low, const char *high, size_t n)
{
    static const char zeros[] = "00000000000000000000", nines[] = "99999999999999999999";
    int first = low[0] - '0', last = high[0] - '0';
    if (n == 1)
        return digit(g, first, last);
    if (first == last)
        return expr_pair(g, X_SEQ, digit(g, first, first), digits_between(g, low + 1, high + 1, n - 1));
    struct expr *all = expr_new(g, X_ALT);
    if (memcmp(low + 1, zeros, n - 1) != 0) {
        struct expr *rest = digits_between(g, low + 1, nines, n - 1);
        all = expr_add(g, all, expr_pair(g, X_SEQ, digit(g, first, first), rest));
        first++;
    }
    if (memcmp(high + 1, nines, n - 1) != 0) {
        struct expr *rest = digits_between(g, zeros, high + 1, n - 1);
        all = expr_add(g, all, expr_pair(g, X_SEQ, digit(g, last, last), rest));
        last--;
    }
    if (first <= last)
        all = expr_add(
            g, all, expr_pair(g, X_SEQ, digit(g, first, last), expr_repeat(g, digit(g, 0, 9), (int)n - 1, (int)n - 1)));
    return all;
}

/* Adds to `all` the numbers from `low` to `high`, neither negative, after `sign`. */
static struct expr *add_between(struct grammar_text *g, struct expr *all, const char *sign, int64_t low, int64_t high)
{
    char from[24], to[24];
    for (int64_t begin = low; begin <= high;) {
        int n = snprintf(from, sizeof from, "%" PRId64, begin);
        int64_t end = 9;
        for (int i = 1; i < n; i++)
            end = end > (INT64_MAX - 9) / 10 ? INT64_MAX : end * 10 + 9;
        end = end < high ? end : high;
        snprintf(to, sizeof to, "%" PRId64, end);
        all = expr_add(g, all, expr_pair(g, X_SEQ, expr_text(g, sign), digits_between(g, from, to, (size_t)n)));
        if (end == high)
            break;
        begin = end + 1;
    }
    return all;
}

/* One bound of integers: the keyword, or its exclusive form one further. */
static bool bound_of(struct grammar_text *g, const json_t *schema, const char *key, const char *exclusive, int step,
                     int64_t otherwise, int64_t *out)
{
    const json_t *v = json_object_get(schema, key), *x = json_object_get(schema, exclusive);
    const int64_t most = 999999999999999999;
    *out = otherwise;
    if (!v && !x)
        return true;
    if ((v && x) || !json_is_integer(v ? v : x))
        return bad_bound(g, v ? key : exclusive) != NULL;
    bool fits = !__builtin_add_overflow(json_integer_value(v ? v : x), v ? 0 : step, out);
    return (fits && *out >= -most && *out <= most) || bad_bound(g, v ? key : exclusive);
}

bool grammar_has_bounds(const json_t *schema)
{
    return json_object_get(schema, "minimum") || json_object_get(schema, "maximum") ||
           json_object_get(schema, "exclusiveMinimum") || json_object_get(schema, "exclusiveMaximum");
}

struct expr *grammar_integer(struct grammar_text *g, const json_t *schema)
{
    const int64_t most = 999999999999999999;
    int64_t low, high;
    if (!grammar_has_bounds(schema))
        return expr_rule(g, rule_named(g, span_str("integer")));
    if (!bound_of(g, schema, "minimum", "exclusiveMinimum", 1, -most, &low) ||
        !bound_of(g, schema, "maximum", "exclusiveMaximum", -1, most, &high))
        return NULL;
    if (low > high)
        return bad_bound(g, "maximum");
    struct expr *all = expr_new(g, X_ALT);
    if (low < 0)
        all = add_between(g, all, "-", high < 0 ? -high : 1, -low);
    return high >= 0 ? add_between(g, all, "", low > 0 ? low : 0, high) : all;
}

/* --- decimals ----------------------------------------------------------------------------------- */

enum { DECIMALS = 15 };

/* A bound without its sign: whole part and decimals. */
struct bound {
    bool is, exclusive, negative;
    int64_t whole;
    char decimal[DECIMALS + 1]; /* without trailing zeros */
};

static bool parse_bound(struct grammar_text *g, const json_t *schema, const char *key, const char *exclusive,
                        struct bound *out)
{
    const json_t *v = json_object_get(schema, key), *x = json_object_get(schema, exclusive);
    char text[64];
    *out = (struct bound){.is = v || x, .exclusive = x != NULL};
    if (!out->is)
        return true;
    double number = json_number_value(v ? v : x);
    if ((v && x) || !json_is_number(v ? v : x) || !(fabs(number) < 1e15))
        return bad_bound(g, v ? key : exclusive) != NULL;
    out->negative = number < 0;
    snprintf(text, sizeof text, "%.*f", DECIMALS, fabs(number));
    char *point = strchr(text, '.');
    double back = strtod(text, NULL);
    if (!point || back < fabs(number) || back > fabs(number))
        return grammar_fail(g, ENGINE_E_UNSUPPORTED, "JSON schema: %.40s with more than %d decimals is not supported",
                            v ? key : exclusive, DECIMALS) != NULL;
    for (size_t n = strlen(point); n > 1 && point[n - 1] == '0';)
        point[--n] = '\0';
    *point = '\0';
    out->whole = strtoll(text, NULL, 10);
    snprintf(out->decimal, sizeof out->decimal, "%s", point + 1);
    return true;
}

/* The digits from place `i` on that stay at or above `low` (NULL: free) and at or below `high` (NULL: free), where all
 * before were equal to theirs. No kid at all: nothing does. `bare`: no digit has come yet, so one must. */
static struct expr *decimals(struct grammar_text *g, const struct bound *low, const struct bound *high, size_t i,
                             bool bare)
{
    struct expr *all = expr_new(g, X_ALT);
    size_t low_len = low ? strlen(low->decimal) : 0, high_len = high ? strlen(high->decimal) : 0;
    bool low_met = !low || (i >= low_len && !low->exclusive), high_met = !high || i < high_len || !high->exclusive;
    if (!all || (i >= low_len && i >= high_len && !(low && low->exclusive))) { /* only the ceiling may still bind */
        struct expr *rest = high ? expr_range(g, expr_new(g, X_CLASS), '0', '0') : digit(g, 0, 9);
        return high && high->exclusive ? all : expr_add(g, all, expr_repeat(g, rest, bare, -1));
    }
    if (low_met && high_met && !bare)
        all = expr_add(g, all, expr_new(g, X_EMPTY));
    int from = low && i < low_len ? low->decimal[i] - '0' : 0, to = !high          ? 9
                                                                    : i < high_len ? high->decimal[i] - '0'
                                                                                   : 0;
    for (int d = from; d <= to; d++) {
        const struct bound *l = low && d == from ? low : NULL, *h = high && d == to ? high : NULL;
        if (!l && !h) { /* all of these are free */
            int end = high ? to - 1 : 9;
            all = expr_add(g, all, expr_pair(g, X_SEQ, digit(g, d, end), expr_repeat(g, digit(g, 0, 9), 0, -1)));
            d = end;
            continue;
        }
        if (i >= 2 * DECIMALS)
            continue; /* an exclusive floor could be approached for ever */
        struct expr *rest = decimals(g, l, h, i + 1, false);
        if (rest && (rest->kind != X_ALT || rest->count > 0))
            all = expr_add(g, all, expr_pair(g, X_SEQ, digit(g, d, d), rest));
    }
    return all;
}

/* `whole`, then decimals within the bounds that are still tight. */
static struct expr *add_whole(struct grammar_text *g, struct expr *all, const char *sign, int64_t whole,
                              const struct bound *low, const struct bound *high)
{
    char text[32];
    snprintf(text, sizeof text, "%s%" PRId64, sign, whole);
    bool bare_fits = (!low || (!low->decimal[0] && !low->exclusive)) && (!high || high->decimal[0] || !high->exclusive);
    struct expr *rest = decimals(g, low, high, 0, true), *ends = expr_new(g, X_ALT);
    if (rest && (rest->kind != X_ALT || rest->count > 0))
        ends = expr_add(g, ends, expr_pair(g, X_SEQ, expr_text(g, "."), rest));
    if (bare_fits)
        ends = expr_add(g, ends, expr_new(g, X_EMPTY));
    return ends && ends->count == 0 ? all : expr_add(g, all, expr_pair(g, X_SEQ, expr_text(g, text), ends));
}

/* Sizes from `low` to `high` (NULL: no end), after `sign`. */
static struct expr *add_sizes(struct grammar_text *g, struct expr *all, const char *sign, const struct bound *low,
                              const struct bound *high)
{
    const int64_t most = 999999999999999999;
    int64_t first = low->whole, last = high ? high->whole : most;
    if (high && first == last)
        return add_whole(g, all, sign, first, low, high);
    if (first > last)
        return all;
    all = add_whole(g, all, sign, first, low, NULL);
    if (high)
        all = add_whole(g, all, sign, last, NULL, high);
    struct expr *between = add_between(g, expr_new(g, X_ALT), sign, first + 1, high ? last - 1 : most);
    if (!between || between->count == 0)
        return all;
    struct expr *point = expr_pair(g, X_SEQ, expr_text(g, "."), expr_repeat(g, digit(g, 0, 9), 1, -1));
    return expr_add(g, all, expr_pair(g, X_SEQ, between, expr_repeat(g, point, 0, 1)));
}

struct expr *grammar_decimal(struct grammar_text *g, const json_t *schema)
{
    struct bound low, high, zero = {.is = true}, none = {.is = true, .exclusive = true};
    struct expr *all = expr_new(g, X_ALT);
    if (!parse_bound(g, schema, "minimum", "exclusiveMinimum", &low) ||
        !parse_bound(g, schema, "maximum", "exclusiveMaximum", &high))
        return NULL;
    if (!low.is || low.negative) /* below zero: sizes the other way round, and no "-0" */
        all = add_sizes(g, all, "-", high.is && high.negative ? &high : &none, low.is ? &low : NULL);
    if (!high.is || !high.negative)
        all = add_sizes(g, all, "", low.is && !low.negative ? &low : &zero, high.is ? &high : NULL);
    return all && all->count == 0 ? bad_bound(g, "maximum") : all;
}

/* --- multiples ---------------------------------------------------------------------------------- */

enum { FACTOR_MAX = 100 /* a rule for each remainder */, LISTED_MAX = 1000 };

static struct expr *no_multiple(struct grammar_text *g)
{
    return grammar_fail(
        g, ENGINE_E_UNSUPPORTED,
        "JSON schema: this multipleOf with these bounds is not supported: whole numbers up to %d, or 0.1, "
        "0.01, ..; at least 0 or unbounded, or between two bounds with at most %d multiples",
        FACTOR_MAX, LISTED_MAX);
}

/* The positive multiples of `m`, digit by digit: a rule for each remainder of what was written. */
static struct expr *positive_multiples(struct grammar_text *g, int m)
{
    int32_t rules[FACTOR_MAX];
    struct expr *first = expr_new(g, X_ALT);
    for (int r = 0; r < m; r++)
        rules[r] = rule_new(g, span_of(NULL, 0));
    for (int r = 0; r < m && !g->failed; r++) {
        struct expr *all = expr_new(g, X_ALT);
        if (r == 0)
            all = expr_add(g, all, expr_new(g, X_EMPTY));
        for (int d = 0; d <= 9; d++)
            all = expr_add(g, all, expr_pair(g, X_SEQ, digit(g, d, d), expr_rule(g, rules[(10 * r + d) % m])));
        if (!g->failed)
            g->rules[rules[r]].body = all;
    }
    for (int d = 1; d <= 9; d++)
        first = expr_add(g, first, expr_pair(g, X_SEQ, digit(g, d, d), expr_rule(g, rules[d % m])));
    return first;
}

static struct expr *listed_multiples(struct grammar_text *g, int64_t m, int64_t low, int64_t high)
{
    struct expr *all = expr_new(g, X_ALT);
    int64_t first = low / m + (low % m > 0); /* C rounds towards zero */
    char text[24];
    if (first > high / m - (high % m < 0))
        return bad_bound(g, "multipleOf");
    for (int64_t k = first; k <= high / m - (high % m < 0); k++) {
        snprintf(text, sizeof text, "%" PRId64, k * m);
        all = expr_add(g, all, expr_text(g, text));
    }
    return all;
}

static struct expr *whole_multiple(struct grammar_text *g, const json_t *schema, int64_t m)
{
    const int64_t most = 999999999999999999;
    int64_t low, high;
    if (!bound_of(g, schema, "minimum", "exclusiveMinimum", 1, -most - 1, &low) ||
        !bound_of(g, schema, "maximum", "exclusiveMaximum", -1, most + 1, &high))
        return NULL;
    if (m == 1)
        return grammar_integer(g, schema);
    if (low >= -most && high <= most && low <= high && (high - low) / m < LISTED_MAX)
        return listed_multiples(g, m, low, high);
    bool negative = low < -most;
    if (high <= most || m > FACTOR_MAX || (!negative && (low < 0 || low > m)))
        return no_multiple(g);
    struct expr *positive = positive_multiples(g, (int)m), *all = expr_new(g, X_ALT);
    if (low <= 0)
        all = expr_add(g, all, expr_text(g, "0"));
    if (negative)
        positive = expr_pair(g, X_SEQ, expr_repeat(g, expr_text(g, "-"), 0, 1), positive);
    return expr_add(g, all, positive);
}

/* 0.1, 0.01, ..: a number with so many decimals at most. */
static struct expr *rounded(struct grammar_text *g, const json_t *schema)
{
    double step = json_real_value(json_object_get(schema, "multipleOf"));
    const json_t *low = json_object_get(schema, "minimum");
    char text[64] = "";
    int places = 0;
    for (int k = 1; k <= DECIMALS && !places; k++) {
        snprintf(text, sizeof text, "1e-%d", k);
        double power = strtod(text, NULL);
        places = step >= power && step <= power ? k : 0;
    }
    bool free = !grammar_has_bounds(schema),
         positive = json_is_number(low) && fpclassify(json_number_value(low)) == FP_ZERO;
    bool other = json_object_get(schema, "maximum") || json_object_get(schema, "exclusiveMaximum") ||
                 json_object_get(schema, "exclusiveMinimum");
    if (!places || (!free && (!positive || other)))
        return no_multiple(g);
    snprintf(text, sizeof text, "%s(0|[1-9][0-9]{0,14})(\\.[0-9]{1,%d})?", free ? "-?" : "", places);
    return regex_parse(g, span_str(text), false);
}

struct expr *grammar_multiple(struct grammar_text *g, const json_t *schema, bool whole)
{
    const json_t *v = json_object_get(schema, "multipleOf");
    if (json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) < INT32_MAX)
        return whole_multiple(g, schema, json_integer_value(v)); /* of numbers, those without a fraction */
    if (!json_is_real(v) || !(json_real_value(v) > 0))
        return bad_bound(g, "multipleOf");
    return whole ? no_multiple(g) : rounded(g, schema);
}
