/* config.c - typed getters over libconfig's tree; the text has passed config_guard.c first. */
#include "policy/config.h"

#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/config_guard.h"
#include "verifier/base/utf8.h"

struct policy_config {
    config_t tree;
    struct policy_problem why; /* the first problem */
};

void policy_problem_print(const struct policy_problem *p, const char *name, char *out, size_t cap)
{
    char where[16] = "";
    if (p->line > 0)
        snprintf(where, sizeof where, ":%d", p->line);
    snprintf(out, cap, "%s%s: %s%s%s", name, where, p->path, p->path[0] ? ": " : "", p->text);
}

static void copy_syntax_problem(struct policy_config *c)
{
    const char *text = config_error_text(&c->tree);
    bool repeated = text && strstr(text, "duplicate");
    policy_problem_set(&c->why, repeated ? POLICY_PROBLEM_REPEATED : POLICY_PROBLEM_SYNTAX, config_error_line(&c->tree),
                       NULL, "%s",
                       repeated ? "a name stands twice in one group; keep one"
                       : text   ? text
                                : "syntax");
}

struct policy_config *policy_config_open(struct span text, struct policy_problem *why)
{
    struct policy_config *c;
    char *copy;

    *why = (struct policy_problem){0};
    if (!policy_config_guard(text, why))
        return NULL;
    c = calloc(1, sizeof *c);
    copy = malloc(text.len + 1);
    if (!c || !copy) {
        policy_problem_set(why, POLICY_PROBLEM_MEMORY, 0, NULL, "out of memory");
        free(c);
        free(copy);
        return NULL;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    config_init(&c->tree);
    if (!config_read_string(&c->tree, copy))
        copy_syntax_problem(c);
    free(copy);
    if (c->why.code != POLICY_PROBLEM_NONE) {
        *why = c->why;
        policy_config_close(c);
        return NULL;
    }
    return c;
}

void policy_config_close(struct policy_config *c)
{
    if (!c)
        return;
    config_destroy(&c->tree);
    free(c);
}

bool policy_config_ok(const struct policy_config *c, struct policy_problem *why)
{
    if (c->why.code == POLICY_PROBLEM_NONE)
        return true;
    *why = c->why;
    return false;
}

/* --- where ---------------------------------------------------------------------------------------- */

/* Writes the path of `s` ("models[0].root") into `out`; recursion is bounded by the nesting limit. */
static void path_of(const config_setting_t *s, char *out, size_t cap)
{
    const config_setting_t *parent = config_setting_parent(s);
    size_t len;
    if (!parent) {
        out[0] = '\0';
        return;
    }
    path_of(parent, out, cap);
    len = strlen(out);
    if (config_setting_name(s))
        snprintf(out + len, cap - len, "%s%s", len ? "." : "", config_setting_name(s));
    else
        snprintf(out + len, cap - len, "[%d]", config_setting_index(s));
}

static void refuse_at(struct policy_config *c, const config_setting_t *s, enum policy_problem_code code,
                      const char *text)
{
    char path[sizeof c->why.path];
    path_of(s, path, sizeof path);
    policy_problem_set(&c->why, code, (int)config_setting_source_line(s), path, "%s", text);
}

void policy_group_refuse(struct policy_group *g, const char *key, enum policy_problem_code code, const char *format,
                         ...)
{
    char text[sizeof g->config->why.text], path[sizeof g->config->why.path] = "";
    const config_setting_t *s = g->setting, *member = s && key ? config_setting_get_member(s, key) : NULL;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s)
        path_of(member ? member : s, path, sizeof path);
    if (!member && key) {
        size_t len = strlen(path);
        snprintf(path + len, sizeof path - len, "%s%s", len ? "." : "", key);
    }
    policy_problem_set(&g->config->why, code, s ? (int)config_setting_source_line(member ? member : s) : 0, path, "%s",
                       text);
}

/* --- groups --------------------------------------------------------------------------------------- */

static void ask(struct policy_group *g, const char *key)
{
    for (size_t i = 0; i < g->asked_count; i++)
        if (strcmp(g->asked[i], key) == 0)
            return;
    if (g->asked_count < POLICY_CONFIG_KEYS_MAX)
        g->asked[g->asked_count++] = key;
    else /* our own mistake, but never a silent one */
        policy_group_refuse(g, key, POLICY_PROBLEM_COUNT, "the format has more names than the reader has room for");
}

/* The setting under `key`, noted as asked for; NULL when absent (refused when needed) or already refused. */
static config_setting_t *member_of(struct policy_group *g, const char *key, enum policy_need need)
{
    config_setting_t *s;
    if (!g->setting)
        return NULL;
    ask(g, key);
    s = config_setting_get_member(g->setting, key);
    if (!s && need == POLICY_REQUIRED)
        policy_group_refuse(g, key, POLICY_PROBLEM_MISSING, "\"%s\" is missing and has no default", key);
    return g->config->why.code == POLICY_PROBLEM_NONE ? s : NULL;
}

struct policy_group policy_config_root(struct policy_config *c)
{
    return (struct policy_group){.config = c, .setting = config_root_setting(&c->tree)};
}

struct policy_group policy_group_child(struct policy_group *g, const char *key, enum policy_need need)
{
    config_setting_t *s = member_of(g, key, need);
    if (s && !config_setting_is_group(s)) {
        refuse_at(g->config, s, POLICY_PROBLEM_TYPE, "must be a group: { name = value; ... }");
        s = NULL;
    }
    return (struct policy_group){.config = g->config, .setting = s};
}

size_t policy_group_count(struct policy_group *g, const char *key, size_t min, size_t max)
{
    config_setting_t *s = member_of(g, key, min > 0 ? POLICY_REQUIRED : POLICY_OPTIONAL);
    if (!s)
        return 0;
    if (!config_setting_is_list(s)) {
        refuse_at(g->config, s, POLICY_PROBLEM_TYPE, "must be a list of groups: ( { ... }, { ... } )");
        return 0;
    }
    size_t count = (size_t)config_setting_length(s);
    if (count < min || count > max) {
        policy_group_refuse(g, key, POLICY_PROBLEM_COUNT, "has %zu elements, must have %zu to %zu", count, min, max);
        return 0;
    }
    return count;
}

struct policy_group policy_group_at(struct policy_group *g, const char *key, size_t index)
{
    config_setting_t *list = member_of(g, key, POLICY_OPTIONAL);
    config_setting_t *s = list ? config_setting_get_elem(list, (unsigned)index) : NULL;
    if (s && !config_setting_is_group(s)) {
        refuse_at(g->config, s, POLICY_PROBLEM_TYPE, "must be a group: { name = value; ... }");
        s = NULL;
    }
    return (struct policy_group){.config = g->config, .setting = s};
}

/* Edit distance between two short names, capped: over 16 bytes is never close. */
static size_t distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), row[33];
    if (la > 32 || lb > 32)
        return 99;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

const char *policy_nearest(const char *name, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t best = strlen(name) / 3 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(name, names[i]);
        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}

static void refuse_unknown(struct policy_group *g, const config_setting_t *s)
{
    const char *name = config_setting_name(s), *nearest = policy_nearest(name, g->asked, g->asked_count);
    char text[sizeof g->config->why.text];
    if (nearest)
        snprintf(text, sizeof text, "there is no \"%.64s\" here; did you mean \"%s\"?", name, nearest);
    else
        snprintf(text, sizeof text, "there is no \"%.64s\" here; remove it", name);
    refuse_at(g->config, s, POLICY_PROBLEM_UNKNOWN, text);
}

void policy_group_end(struct policy_group *g)
{
    if (!g->setting || g->config->why.code != POLICY_PROBLEM_NONE)
        return;
    int count = config_setting_length(g->setting);
    for (int i = 0; i < count; i++) {
        const config_setting_t *s = config_setting_get_elem(g->setting, (unsigned)i);
        bool known = false;
        for (size_t k = 0; k < g->asked_count && !known; k++)
            known = strcmp(config_setting_name(s), g->asked[k]) == 0;
        if (!known) {
            refuse_unknown(g, s);
            return;
        }
    }
}

/* --- values --------------------------------------------------------------------------------------- */

bool policy_group_bool(struct policy_group *g, const char *key, enum policy_need need, bool *out)
{
    config_setting_t *s = member_of(g, key, need);
    if (!s)
        return false;
    if (config_setting_type(s) != CONFIG_TYPE_BOOL) {
        refuse_at(g->config, s, POLICY_PROBLEM_TYPE, "must be true or false");
        return false;
    }
    *out = config_setting_get_bool(s);
    return true;
}

static void refuse_range(struct policy_group *g, const char *key, uint64_t min, uint64_t max, const char *unit)
{
    policy_group_refuse(g, key, POLICY_PROBLEM_RANGE, "must be %llu to %llu%s", (unsigned long long)min,
                        (unsigned long long)max, unit);
}

bool policy_group_uint(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                       uint64_t *out)
{
    config_setting_t *s = member_of(g, key, need);
    if (!s)
        return false;
    if (config_setting_type(s) != CONFIG_TYPE_INT) {
        refuse_at(g->config, s, POLICY_PROBLEM_TYPE, "must be a whole number without quotes");
        return false;
    }
    int value = config_setting_get_int(s);
    if (value < 0 || (uint64_t)value < min || (uint64_t)value > max) {
        refuse_range(g, key, min, max, "");
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

/* The characters of a string setting; an empty span after refusing. */
static struct span string_of(struct policy_config *c, const config_setting_t *s)
{
    if (config_setting_type(s) != CONFIG_TYPE_STRING) {
        refuse_at(c, s, POLICY_PROBLEM_TYPE, "must be a string in double quotes");
        return span_of(NULL, 0);
    }
    struct span text = span_str(config_setting_get_string(s));
    if (text.len == 0)
        refuse_at(c, s, POLICY_PROBLEM_VALUE, "must not be empty");
    else if (!utf8_is_printable(text))
        refuse_at(c, s, POLICY_PROBLEM_TEXT, "holds a control character");
    return c->why.code == POLICY_PROBLEM_NONE ? text : span_of(NULL, 0);
}

static struct span member_string(struct policy_group *g, const char *key, enum policy_need need)
{
    config_setting_t *s = member_of(g, key, need);
    return s ? string_of(g->config, s) : span_of(NULL, 0);
}

bool policy_group_text(struct policy_group *g, const char *key, enum policy_need need, char *out, size_t cap)
{
    struct span text = member_string(g, key, need);
    if (text.len == 0)
        return false;
    if (text.len >= cap) {
        policy_group_refuse(g, key, POLICY_PROBLEM_RANGE, "is longer than %zu bytes", cap - 1);
        return false;
    }
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

/* A number with its unit. */
static bool measure(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                    bool (*parse)(struct span, uint64_t *), const char *form, const char *unit, uint64_t *out)
{
    struct span text = member_string(g, key, need);
    uint64_t value;
    if (text.len == 0)
        return false;
    if (!parse(text, &value)) {
        policy_group_refuse(g, key, POLICY_PROBLEM_UNIT, "must be %s", form);
        return false;
    }
    if (value < min || value > max) {
        refuse_range(g, key, min, max, unit);
        return false;
    }
    *out = value;
    return true;
}

bool policy_group_duration(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                           uint64_t *seconds)
{
    return measure(g, key, need, min, max, policy_duration_parse, "a duration such as \"90s\", \"30m\", \"4h\", \"7d\"",
                   " seconds", seconds);
}

bool policy_group_size(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                       uint64_t *bytes)
{
    return measure(g, key, need, min, max, policy_size_parse, "a size such as \"64KiB\", \"16MiB\", \"2GiB\"", " bytes",
                   bytes);
}

bool policy_group_date(struct policy_group *g, const char *key, enum policy_need need, uint64_t *seconds)
{
    struct span text = member_string(g, key, need);
    if (text.len == 0)
        return false;
    if (policy_date_parse(text, seconds))
        return true;
    policy_group_refuse(g, key, POLICY_PROBLEM_UNIT, "must be a date such as \"2026-11-21T00:00:00Z\"");
    return false;
}

bool policy_group_fraction(struct policy_group *g, const char *key, enum policy_need need, double min, double max,
                           double *out)
{
    struct span text = member_string(g, key, need);
    double value;
    if (text.len == 0)
        return false;
    if (!policy_fraction_parse(text, &value)) {
        policy_group_refuse(g, key, POLICY_PROBLEM_UNIT, "must be a number in quotes such as \"0.7\"");
        return false;
    }
    if (value < min || value > max) {
        policy_group_refuse(g, key, POLICY_PROBLEM_RANGE, "must be %g to %g", min, max);
        return false;
    }
    *out = value;
    return true;
}

bool policy_group_hex(struct policy_group *g, const char *key, enum policy_need need, uint8_t *out, size_t len)
{
    struct span text = member_string(g, key, need);
    if (text.len == 0)
        return false;
    if (policy_hex_parse(text, out, len))
        return true;
    policy_group_refuse(g, key, POLICY_PROBLEM_VALUE, "must be %zu hex digits (%zu bytes)", 2 * len, len);
    return false;
}

static bool index_of(struct span text, const char *const *names, size_t count, size_t *out)
{
    for (size_t i = 0; i < count; i++) {
        if (span_is(text, names[i])) {
            *out = i;
            return true;
        }
    }
    return false;
}

static void refuse_choice(struct policy_config *c, const config_setting_t *s, const char *const *names, size_t count)
{
    char text[sizeof c->why.text] = "must be one of";
    for (size_t i = 0, len = strlen(text); i < count && len < sizeof text; len = strlen(text), i++)
        snprintf(text + len, sizeof text - len, "%s \"%s\"", i ? "," : "", names[i]);
    refuse_at(c, s, POLICY_PROBLEM_VALUE, text);
}

bool policy_group_choice(struct policy_group *g, const char *key, enum policy_need need, const char *const *names,
                         size_t count, size_t *out)
{
    struct span text = member_string(g, key, need);
    if (text.len == 0)
        return false;
    if (index_of(text, names, count, out))
        return true;
    refuse_choice(g->config, config_setting_get_member(g->setting, key), names, count);
    return false;
}

/* --- lists of strings ----------------------------------------------------------------------------- */

/* The list under `key` with `min` to `max` elements, or NULL. */
static config_setting_t *strings_of(struct policy_group *g, const char *key, enum policy_need need, size_t min,
                                    size_t max, size_t *count)
{
    config_setting_t *s = member_of(g, key, need);
    if (!s)
        return NULL;
    if (!config_setting_is_list(s) && !config_setting_is_array(s)) {
        refuse_at(g->config, s, POLICY_PROBLEM_TYPE, "must be a list of strings: [ \"...\", \"...\" ]");
        return NULL;
    }
    *count = (size_t)config_setting_length(s);
    if (*count >= min && *count <= max)
        return s;
    policy_group_refuse(g, key, POLICY_PROBLEM_COUNT, "has %zu elements, must have %zu to %zu", *count, min, max);
    return NULL;
}

static struct span element_string(struct policy_group *g, config_setting_t *list, size_t i)
{
    return string_of(g->config, config_setting_get_elem(list, (unsigned)i));
}

static bool refuse_element(struct policy_group *g, config_setting_t *list, size_t i, enum policy_problem_code code,
                           const char *text)
{
    refuse_at(g->config, config_setting_get_elem(list, (unsigned)i), code, text);
    return false;
}

bool policy_group_words(struct policy_group *g, const char *key, enum policy_need need, const char *const *names,
                        size_t count, uint32_t *bits)
{
    size_t given = 0, which = 0;
    uint32_t seen = 0;
    config_setting_t *list = strings_of(g, key, need, 0, count, &given);
    if (!list)
        return false;
    for (size_t i = 0; i < given; i++) {
        struct span text = element_string(g, list, i);
        if (text.len == 0)
            return false;
        if (!index_of(text, names, count, &which)) {
            refuse_choice(g->config, config_setting_get_elem(list, (unsigned)i), names, count);
            return false;
        }
        if (seen >> which & 1)
            return refuse_element(g, list, i, POLICY_PROBLEM_REPEATED, "stands twice in this list");
        seen |= UINT32_C(1) << which;
    }
    *bits = seen;
    return true;
}

bool policy_group_hexes(struct policy_group *g, const char *key, enum policy_need need, size_t min, size_t max,
                        uint8_t *out, size_t len, size_t *count)
{
    size_t given = 0;
    config_setting_t *list = strings_of(g, key, need, min, max, &given);
    if (!list)
        return false;
    for (size_t i = 0; i < given; i++) {
        struct span text = element_string(g, list, i);
        if (text.len == 0)
            return false;
        if (!policy_hex_parse(text, out + i * len, len)) {
            char say[64];
            snprintf(say, sizeof say, "must be %zu hex digits (%zu bytes)", 2 * len, len);
            return refuse_element(g, list, i, POLICY_PROBLEM_VALUE, say);
        }
        for (size_t k = 0; k < i; k++)
            if (memcmp(out + k * len, out + i * len, len) == 0)
                return refuse_element(g, list, i, POLICY_PROBLEM_REPEATED, "stands twice in this list");
    }
    *count = given;
    return true;
}

bool policy_group_texts(struct policy_group *g, const char *key, enum policy_need need, size_t min, size_t max,
                        char *out, size_t stride, size_t *count)
{
    size_t given = 0;
    config_setting_t *list = strings_of(g, key, need, min, max, &given);
    if (!list)
        return false;
    for (size_t i = 0; i < given; i++) {
        struct span text = element_string(g, list, i);
        if (text.len == 0)
            return false;
        if (text.len >= stride)
            return refuse_element(g, list, i, POLICY_PROBLEM_RANGE, "is too long");
        memcpy(out + i * stride, text.data, text.len);
        out[i * stride + text.len] = '\0';
        for (size_t k = 0; k < i; k++)
            if (strcmp(out + k * stride, out + i * stride) == 0)
                return refuse_element(g, list, i, POLICY_PROBLEM_REPEATED, "stands twice in this list");
    }
    *count = given;
    return true;
}
