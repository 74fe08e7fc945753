/* grammar_build.c - expressions, and the automaton made of them: nodes and edges over bytes, with calls between rules.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar_internal.h"

/* --- expressions -------------------------------------------------------------------------------- */

struct expr *grammar_fail(struct grammar_text *g, enum engine_err err, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!g->failed)
        engine_problem_set(g->why, err, "grammar: %s", text);
    g->failed = true;
    return NULL;
}

struct expr *expr_new(struct grammar_text *g, enum expr_kind kind)
{
    struct expr *x = g->failed ? NULL : arena_get(&g->arena, sizeof *x);
    if (!x)
        return grammar_fail(g, ENGINE_E_LIMIT, "too large");
    x->kind = kind;
    return x;
}

struct expr *expr_bytes(struct grammar_text *g, struct span text)
{
    struct expr *x = expr_new(g, X_BYTES);
    uint8_t *copy = x ? arena_get(&g->arena, text.len + 1) : NULL;
    if (!copy)
        return grammar_fail(g, ENGINE_E_LIMIT, "too large");
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    x->text = span_of(copy, text.len);
    return x;
}

struct expr *expr_text(struct grammar_text *g, const char *text)
{
    return expr_bytes(g, span_str(text));
}

/* A growing array in the arena: full at each power of two. */
static void *grown(struct grammar_text *g, const void *old, size_t count, size_t size)
{
    if (count & (count - 1))
        return (void *)(uintptr_t)old;
    void *p = arena_get(&g->arena, (count ? 2 * count : 1) * size);
    if (p && count > 0)
        memcpy(p, old, count * size);
    return p;
}

struct expr *expr_add(struct grammar_text *g, struct expr *list, struct expr *kid)
{
    struct expr **kids = g->failed || !list || !kid ? NULL : grown(g, list->kids, list->count, sizeof(struct expr *));
    if (!kids)
        return grammar_fail(g, ENGINE_E_LIMIT, "too large");
    list->kids = kids;
    list->kids[list->count++] = kid;
    return list;
}

struct expr *expr_pair(struct grammar_text *g, enum expr_kind kind, struct expr *a, struct expr *b)
{
    return expr_add(g, expr_add(g, expr_new(g, kind), a), b);
}

struct expr *expr_repeat(struct grammar_text *g, struct expr *of, int min, int max)
{
    struct expr *x = expr_add(g, expr_new(g, X_REPEAT), of);
    if (!x)
        return NULL;
    if (min < 0 || min > GRAMMAR_REPEAT_MAX || max > GRAMMAR_REPEAT_MAX || (max >= 0 && max < min))
        return grammar_fail(g, ENGINE_E_RANGE, "repetition from %d to %d", min, max);
    x->min = min;
    x->max = max;
    return x;
}

struct expr *expr_range(struct grammar_text *g, struct expr *class, uint32_t low, uint32_t high)
{
    struct char_range *ranges =
        g->failed || !class ? NULL : grown(g, class->ranges, class->range_count, sizeof *ranges);
    if (!ranges)
        return grammar_fail(g, ENGINE_E_LIMIT, "too large");
    if (low > high || high > 0x10ffff)
        return grammar_fail(g, ENGINE_E_SYNTAX, "a range of characters that ends before it begins");
    class->ranges = ranges;
    class->ranges[class->range_count++] = (struct char_range){low, high};
    return class;
}

static int by_low(const void *a, const void *b)
{
    const struct char_range *x = a, *y = b;
    return x->low < y->low ? -1 : x->low > y->low;
}

struct expr *expr_invert(struct grammar_text *g, struct expr *class)
{
    struct expr *out = class ? expr_new(g, X_CLASS) : NULL;
    uint32_t next = 0;
    if (!out)
        return NULL;
    out->in_json = class->in_json;
    if (class->range_count > 0)
        qsort(class->ranges, class->range_count, sizeof *class->ranges, by_low);
    for (size_t i = 0; i < class->range_count && out; i++) {
        if (class->ranges[i].low > next)
            out = expr_range(g, out, next, class->ranges[i].low - 1);
        if (class->ranges[i].high >= next)
            next = class->ranges[i].high + 1;
    }
    return out && next <= 0x10ffff ? expr_range(g, out, next, 0x10ffff) : out;
}

struct expr *expr_rule(struct grammar_text *g, int32_t rule)
{
    struct expr *x = rule < 0 ? NULL : expr_new(g, X_RULE);
    if (x)
        x->rule = rule;
    return x;
}

int32_t rule_new(struct grammar_text *g, struct span name)
{
    if (g->count == g->cap && !g->failed) {
        size_t cap = g->cap ? 2 * g->cap : 64;
        struct rule *more = cap > GRAMMAR_RULES_MAX ? NULL : realloc(g->rules, cap * sizeof *more);
        if (!more)
            grammar_fail(g, ENGINE_E_LIMIT, "more than %u rules", GRAMMAR_RULES_MAX);
        else
            g->rules = more;
        g->cap = more ? cap : g->cap;
    }
    const struct expr *copy = expr_bytes(g, name);
    if (!copy)
        return -1;
    g->rules[g->count] = (struct rule){.name = copy->text};
    return (int32_t)g->count++;
}

int32_t rule_named(struct grammar_text *g, struct span name)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->rules[i].name.len > 0 && span_equal(g->rules[i].name, name))
            return (int32_t)i;
    return rule_new(g, name);
}

/* --- left recursion ----------------------------------------------------------------------------- */

static bool is_nullable(const struct grammar_text *g, const struct expr *x)
{
    bool all = true, any = false;
    switch (x->kind) {
    case X_EMPTY:
        return true;
    case X_BYTES:
        return x->text.len == 0;
    case X_CLASS:
        return false;
    case X_RULE:
        return g->rules[x->rule].nullable;
    case X_REPEAT:
        return x->min == 0 || is_nullable(g, x->kids[0]);
    default:
        for (size_t i = 0; i < x->count; i++) {
            bool one = is_nullable(g, x->kids[i]);
            all = all && one;
            any = any || one;
        }
        return x->kind == X_SEQ ? all : any;
    }
}

static bool find_nullable(struct grammar_text *g)
{
    bool again = true;
    for (int rounds = 0; again; rounds++) {
        if (rounds > 64)
            return grammar_fail(g, ENGINE_E_LIMIT, "too long a chain of rules that may be empty") != NULL;
        again = false;
        for (size_t i = 0; i < g->count; i++)
            if (!g->rules[i].nullable && is_nullable(g, g->rules[i].body))
                again = g->rules[i].nullable = true;
    }
    return true;
}

/* Mark the rules that `x` may begin with. */
static void begins_with(const struct grammar_text *g, const struct expr *x, uint8_t *begun)
{
    if (x->kind == X_RULE)
        begun[x->rule] = 1;
    for (size_t i = 0; i < x->count; i++) {
        begins_with(g, x->kids[i], begun);
        if (x->kind == X_SEQ && !is_nullable(g, x->kids[i]))
            break;
    }
}

/* Does a rule begin with itself, over others or not? Removes rules that begin with none, then those that begin only
 * with removed ones; what cannot be removed goes in a circle. */
static bool has_left_recursion(const struct grammar_text *g)
{
    size_t n = g->count, done = 0, ready = 0;
    uint8_t *begins = calloc(n * n + 1, 1);
    uint32_t *left = calloc(2 * n + 1, sizeof *left), *queue = left ? left + n : NULL;
    for (size_t i = 0; begins && left && i < n; i++) {
        begins_with(g, g->rules[i].body, begins + i * n);
        for (size_t k = 0; k < n; k++)
            left[i] += begins[i * n + k];
        if (left[i] == 0)
            queue[ready++] = (uint32_t)i;
    }
    for (; done < ready; done++)
        for (size_t i = 0; i < n; i++)
            if (begins[i * n + queue[done]] && --left[i] == 0)
                queue[ready++] = (uint32_t)i;
    free(begins);
    free(left);
    return done < n;
}

/* --- nodes and edges ---------------------------------------------------------------------------- */

static int32_t new_node(struct automaton *a, struct grammar_text *g)
{
    if (a->node_count == a->node_cap && !g->failed) {
        size_t cap = a->node_cap ? 2 * a->node_cap : 256;
        int32_t *first = cap > GRAMMAR_NODES_MAX ? NULL : realloc(a->first, cap * sizeof *first);
        if (first)
            a->first = first;
        uint8_t *is_end = first ? realloc(a->is_end, cap) : NULL;
        if (is_end)
            a->is_end = is_end;
        else
            grammar_fail(g, ENGINE_E_LIMIT, "the automaton has more than %u nodes", GRAMMAR_NODES_MAX);
        a->node_cap = is_end ? cap : a->node_cap;
    }
    if (g->failed)
        return 0;
    a->first[a->node_count] = -1;
    a->is_end[a->node_count] = 0;
    return (int32_t)a->node_count++;
}

static void new_edge(struct automaton *a, struct grammar_text *g, int32_t from, struct edge e)
{
    if (a->edge_count == a->edge_cap && !g->failed) {
        size_t cap = a->edge_cap ? 2 * a->edge_cap : 512;
        struct edge *more = cap > 4 * (size_t)GRAMMAR_NODES_MAX ? NULL : realloc(a->edges, cap * sizeof *more);
        if (more)
            a->edges = more;
        else
            grammar_fail(g, ENGINE_E_LIMIT, "the automaton is too large");
        a->edge_cap = more ? cap : a->edge_cap;
    }
    if (g->failed)
        return;
    e.next = a->first[from];
    a->first[from] = (int32_t)a->edge_count;
    a->edges[a->edge_count++] = e;
}

static void byte_edge(struct automaton *a, struct grammar_text *g, int32_t from, unsigned low, unsigned high,
                      int32_t to)
{
    new_edge(a, g, from, (struct edge){.kind = E_BYTES, .low = (uint8_t)low, .high = (uint8_t)high, .to = to});
}

static void free_edge(struct automaton *a, struct grammar_text *g, int32_t from, int32_t to)
{
    new_edge(a, g, from, (struct edge){.kind = E_FREE, .to = to});
}

/* --- characters as bytes ------------------------------------------------------------------------ */

static size_t encode(uint32_t c, uint8_t *out)
{
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len; i-- > 1; c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(lead[len] | c);
    return len;
}

static bool all_are(const uint8_t *p, size_t n, uint8_t v)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != v)
            return false;
    return true;
}

/* Edges for the encodings from `low` to `high`, both `n` bytes long. */
static void encoded_range(struct automaton *a, struct grammar_text *g, const uint8_t *low, const uint8_t *high,
                          size_t n, int32_t from, int32_t to)
{
    static const uint8_t least[3] = {0x80, 0x80, 0x80}, most[3] = {0xbf, 0xbf, 0xbf};
    unsigned first = low[0], last = high[0];
    if (n == 1) {
        byte_edge(a, g, from, first, last, to);
        return;
    }
    if (first == last) {
        int32_t middle = new_node(a, g);
        byte_edge(a, g, from, first, first, middle);
        encoded_range(a, g, low + 1, high + 1, n - 1, middle, to);
        return;
    }
    if (!all_are(low + 1, n - 1, 0x80)) {
        int32_t middle = new_node(a, g);
        byte_edge(a, g, from, first, first, middle);
        encoded_range(a, g, low + 1, most, n - 1, middle, to);
        first++;
    }
    if (!all_are(high + 1, n - 1, 0xbf)) {
        int32_t middle = new_node(a, g);
        byte_edge(a, g, from, last, last, middle);
        encoded_range(a, g, least, high + 1, n - 1, middle, to);
        last--;
    }
    if (first > last)
        return;
    int32_t middle = new_node(a, g);
    byte_edge(a, g, from, first, last, middle);
    encoded_range(a, g, least, most, n - 1, middle, to);
}

static void char_range(struct automaton *a, struct grammar_text *g, uint32_t low, uint32_t high, int32_t from,
                       int32_t to)
{
    static const struct char_range plain[] = {
        {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, 0x10ffff}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain && !g->failed; i++) {
        uint32_t x = low > plain[i].low ? low : plain[i].low, y = high < plain[i].high ? high : plain[i].high;
        uint8_t first[4], last[4];
        if (x > y)
            continue;
        size_t len = encode(x, first);
        (void)encode(y, last);
        encoded_range(a, g, first, last, len, from, to);
    }
}

/* One escaped character of a JSON string (RFC 8259, 7). */
static void escaped_char(struct automaton *a, struct grammar_text *g, uint32_t c, int32_t from, int32_t to)
{
    static const char plain[] = "\"\\\n\r\t\b\f", letter[] = "\"\\nrtbf";
    const char *at = c ? strchr(plain, (int)c) : NULL;
    char text[8];
    if (at)
        snprintf(text, sizeof text, "\\%c", letter[at - plain]);
    else
        snprintf(text, sizeof text, "\\u%04x", (unsigned)c & 0xffff);
    for (size_t i = 0; text[i] && !g->failed; i++) {
        int32_t next = text[i + 1] ? new_node(a, g) : to;
        byte_edge(a, g, from, (uint8_t)text[i], (uint8_t)text[i], next);
        from = next;
    }
}

static void class_edges(struct automaton *a, struct grammar_text *g, const struct expr *x, int32_t from, int32_t to)
{
    static const struct char_range unescaped[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}};
    for (size_t i = 0; i < x->range_count && !g->failed; i++) {
        struct char_range r = x->ranges[i];
        if (!x->in_json) {
            char_range(a, g, r.low, r.high, from, to);
            continue;
        }
        for (uint32_t c = r.low; c <= r.high && c <= 0x5c; c++)
            if (c < 0x20 || c == '"' || c == '\\')
                escaped_char(a, g, c, from, to);
        for (size_t k = 0; k < 3; k++) {
            uint32_t low = r.low > unescaped[k].low ? r.low : unescaped[k].low;
            uint32_t high = r.high < unescaped[k].high ? r.high : unescaped[k].high;
            if (low <= high)
                char_range(a, g, low, high, from, to);
        }
    }
}

/* --- expressions as nodes ----------------------------------------------------------------------- */

static void build(struct automaton *a, struct grammar_text *g, const struct expr *x, const int32_t *starts,
                  int32_t from, int32_t to);

static void build_choice(struct automaton *a, struct grammar_text *g, const struct expr *x, const int32_t *starts,
                         int32_t from, int32_t to);

static void build_repeat(struct automaton *a, struct grammar_text *g, const struct expr *x, const int32_t *starts,
                         int32_t from, int32_t to)
{
    for (int i = 0; i < x->min && !g->failed; i++) {
        int32_t next = new_node(a, g);
        build(a, g, x->kids[0], starts, from, next);
        from = next;
    }
    if (x->max < 0) {
        int32_t again = new_node(a, g), after = new_node(a, g);
        free_edge(a, g, from, again);
        build(a, g, x->kids[0], starts, again, after);
        free_edge(a, g, after, again);
        free_edge(a, g, again, to);
        return;
    }
    for (int i = x->min; i < x->max && !g->failed; i++) {
        int32_t next = new_node(a, g);
        free_edge(a, g, from, to);
        build(a, g, x->kids[0], starts, from, next);
        from = next;
    }
    free_edge(a, g, from, to);
}

static void build(struct automaton *a, struct grammar_text *g, const struct expr *x, const int32_t *starts,
                  int32_t from, int32_t to)
{
    if (g->failed)
        return;
    switch (x->kind) {
    case X_EMPTY:
        free_edge(a, g, from, to);
        return;
    case X_CLASS:
        class_edges(a, g, x, from, to);
        return;
    case X_RULE:
        new_edge(a, g, from, (struct edge){.kind = E_CALL, .to = to, .callee = starts[x->rule]});
        return;
    case X_REPEAT:
        build_repeat(a, g, x, starts, from, to);
        return;
    case X_ALT:
        build_choice(a, g, x, starts, from, to);
        return;
    case X_BYTES:
    case X_SEQ:
        break;
    }
    size_t count = x->kind == X_BYTES ? x->text.len : x->count;
    if (count == 0)
        free_edge(a, g, from, to);
    for (size_t i = 0; i < count && !g->failed; i++) {
        int32_t next = i + 1 < count ? new_node(a, g) : to;
        if (x->kind == X_BYTES)
            byte_edge(a, g, from, x->text.data[i], x->text.data[i], next);
        else
            build(a, g, x->kids[i], starts, from, next);
        from = next;
    }
}

/* --- many texts, one of which comes --------------------------------------------------------------- */

/* Appends the one text that `x` stands for. False: it stands for others too, and `out` holds some of it. */
static bool literal_of(struct grammar_text *g, const struct expr *x, struct writer *out)
{
    uint8_t bytes[4];
    struct span text = x->kind == X_BYTES ? x->text : span_of(bytes, 0);
    if (++g->looked_at > GRAMMAR_LOOKS_MAX) /* a repetition comes here again and again */
        return grammar_fail(g, ENGINE_E_LIMIT, "the automaton is too large") != NULL;
    switch (x->kind) {
    case X_EMPTY:
    case X_BYTES:
        break;
    case X_CLASS: {
        uint32_t c = x->range_count == 1 ? x->ranges[0].low : 0;
        bool escaped = x->in_json && (c < 0x20 || c == '"' || c == '\\'), half = c >= 0xd800 && c <= 0xdfff;
        if (x->range_count != 1 || c != x->ranges[0].high || escaped || half)
            return false;
        text.len = encode(c, bytes);
        break;
    }
    case X_ALT:
        return x->count == 1 && literal_of(g, x->kids[0], out);
    case X_SEQ:
        for (size_t i = 0; i < x->count; i++)
            if (!literal_of(g, x->kids[i], out))
                return false;
        return true;
    case X_REPEAT:
    case X_RULE:
        return false;
    }
    writer_bytes(out, text);
    return true;
}

static int by_text(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = len ? memcmp(x->data, y->data, len) : 0;
    return order ? order : x->len < y->len ? -1 : x->len > y->len;
}

static size_t common_length(struct span a, struct span b)
{
    size_t n = 0;
    while (n < a.len && n < b.len && a.data[n] == b.data[n])
        n++;
    return n;
}

/* Sorted texts that agree in their first `depth` bytes: what they have in common is built once, so that an answer is in
 * one place of them, not in as many as there are. Every call but the first has fewer texts or longer ones. */
static void build_texts(struct automaton *a, struct grammar_text *g, const struct span *text, size_t count,
                        size_t depth, int32_t from, int32_t to)
{
    size_t at = 0;
    while (at < count && text[at].len == depth)
        at++;
    if (at > 0)
        free_edge(a, g, from, to);
    while (at < count && !g->failed) {
        size_t end = at + 1;
        while (end < count && text[end].data[depth] == text[at].data[depth])
            end++;
        size_t common = end == at + 1 ? text[at].len : common_length(text[at], text[end - 1]);
        int32_t last = end == at + 1 ? to : new_node(a, g), node = from;
        for (size_t i = depth; i < common && !g->failed; i++) {
            int32_t next = i + 1 < common ? new_node(a, g) : last;
            byte_edge(a, g, node, text[at].data[i], text[at].data[i], next);
            node = next;
        }
        if (end > at + 1)
            build_texts(a, g, text + at, end - at, common, last, to);
        at = end;
    }
}

static void build_choice(struct automaton *a, struct grammar_text *g, const struct expr *x, const int32_t *starts,
                         int32_t from, int32_t to)
{
    struct writer bytes = writer_with_max(GRAMMAR_MEMORY_MAX);
    struct span *text = calloc(x->count + 1, sizeof *text);
    size_t n = 0, used = 0;
    for (size_t i = 0; text && i < x->count && !g->failed; i++) {
        size_t begin = bytes.len;
        if (literal_of(g, x->kids[i], &bytes)) {
            text[n++].len = bytes.len - begin;
            continue;
        }
        bytes.len = begin;
        build(a, g, x->kids[i], starts, from, to);
    }
    for (size_t i = 0; i < n; i++) { /* only now: the writer no longer moves */
        text[i].data = text[i].len > 0 ? bytes.data + used : NULL;
        used += text[i].len;
    }
    if (!text || !writer_ok(&bytes))
        grammar_fail(g, ENGINE_E_MEMORY, "too little memory");
    else if (n > 0)
        qsort(text, n, sizeof *text, by_text);
    if (!g->failed)
        build_texts(a, g, text, n, 0, from, to);
    writer_release(&bytes);
    free(text);
}

/* Bytes that no edge tells apart share a class. */
static void find_classes(struct automaton *a)
{
    bool begins[257] = {true};
    for (size_t i = 0; i < a->edge_count; i++)
        if (a->edges[i].kind == E_BYTES)
            begins[a->edges[i].low] = begins[a->edges[i].high + 1] = true;
    a->class_count = 0;
    for (unsigned b = 0; b < 256; b++) {
        if (begins[b])
            a->byte_of[a->class_count++] = (uint8_t)b;
        a->class_of[b] = (uint8_t)(a->class_count - 1);
    }
}

static void build_rules(struct automaton *a, struct grammar_text *g, int32_t *starts)
{
    for (size_t i = 0; i < g->count; i++)
        starts[i] = new_node(a, g);
    for (size_t i = 0; i < g->count && !g->failed; i++) {
        int32_t end = new_node(a, g);
        if (!g->failed)
            a->is_end[end] = 1;
        build(a, g, g->rules[i].body, starts, starts[i], end);
    }
    a->start = starts[0];
    find_classes(a);
}

bool automaton_build(struct automaton *a, struct grammar_text *g)
{
    for (size_t i = 0; i < g->count && !g->failed; i++)
        if (!g->rules[i].body)
            grammar_fail(g, ENGINE_E_SYNTAX, "the rule \"%.*s\" is used but not defined",
                         (int)(g->rules[i].name.len < 60 ? g->rules[i].name.len : 60),
                         (const char *)g->rules[i].name.data);
    if (g->failed || g->count == 0 || !find_nullable(g))
        return false;
    if (has_left_recursion(g)) {
        grammar_fail(g, ENGINE_E_UNSUPPORTED, "a rule begins with itself (left recursion); write it as a repetition");
        return false;
    }
    int32_t *starts = malloc(g->count * sizeof *starts);
    if (!starts)
        grammar_fail(g, ENGINE_E_MEMORY, "too little memory");
    else
        build_rules(a, g, starts);
    free(starts);
    return !g->failed;
}

void automaton_release(struct automaton *a)
{
    free(a->edges);
    free(a->first);
    free(a->is_end);
    *a = (struct automaton){0};
}
