/* grammar_merge.c - two JSON schemas that must hold together, as one. What cannot be said in one schema is refused by
 * its keyword. */
#include <stdlib.h>

#include "engine/grammar_internal.h"

enum { MERGES_MAX = 1024 }; /* of one schema: references that refer to themselves end here */

static json_t *refuse(struct grammar_text *g, const char *what)
{
    grammar_fail(g, ENGINE_E_UNSUPPORTED, "JSON schema: %.60s together is not supported", what);
    return NULL;
}

/* --- keywords that both have ---------------------------------------------------------------------- */

static bool names_type(const json_t *types, const char *name)
{
    const json_t *one;
    size_t i;
    if (json_is_string(types))
        return strcmp(json_string_value(types), name) == 0;
    json_array_foreach(types, i, one) if (json_is_string(one) && strcmp(json_string_value(one), name) == 0) return true;
    return false;
}

/* An integer is a number too. */
static json_t *common_types(struct grammar_text *g, const json_t *a, const json_t *b)
{
    static const char *const names[] = {"object", "array", "string", "number", "integer", "boolean", "null"};
    json_t *both = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool integer = strcmp(names[i], "integer") == 0;
        bool in_a = names_type(a, names[i]) || (integer && names_type(a, "number"));
        bool in_b = names_type(b, names[i]) || (integer && names_type(b, "number"));
        if (in_a && in_b && !(integer && names_type(both, "number")))
            json_array_append_new(both, json_string(names[i]));
    }
    if (json_array_size(both) > 0)
        return both;
    json_decref(both);
    return refuse(g, "types that exclude each other");
}

static bool has_value(const json_t *list, const json_t *value)
{
    const json_t *one;
    size_t i;
    json_array_foreach(list, i, one) if (json_equal(one, value)) return true;
    return false;
}

/* Each of `a` with each of `b`: a stranger's lists may be long. */
static bool may_compare(struct grammar_text *g, const json_t *a, const json_t *b)
{
    size_t n = json_array_size(a), m = json_array_size(b);
    if (m > 0 && n > (GRAMMAR_COMPARES_MAX - g->compared) / m)
        return grammar_fail(g, ENGINE_E_LIMIT, "JSON schema: lists of %zu and %zu values to merge", n, m) != NULL;
    g->compared += n * m;
    return true;
}

static json_t *common_values(struct grammar_text *g, const json_t *a, const json_t *b)
{
    if (!may_compare(g, a, b))
        return NULL;
    json_t *both = json_array(), *one;
    size_t i;
    json_array_foreach(a, i, one) if (has_value(b, one)) json_array_append(both, one);
    if (json_array_size(both) > 0)
        return both;
    json_decref(both);
    return refuse(g, "enums without a common value");
}

static json_t *all_values(struct grammar_text *g, const json_t *a, const json_t *b)
{
    if (!may_compare(g, a, b))
        return NULL;
    json_t *all = json_copy((json_t *)a), *one;
    size_t i;
    json_array_foreach(b, i, one) if (!has_value(a, one)) json_array_append(all, one);
    return all;
}

static json_t *tighter(struct grammar_text *g, const char *key, const json_t *a, const json_t *b, bool greater)
{
    if (!json_is_number(a) || !json_is_number(b))
        return refuse(g, key);
    return json_incref((json_t *)((json_number_value(a) > json_number_value(b)) == greater ? a : b));
}

static bool is_one_of(const char *key, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(key, *names) == 0)
            return true;
    return false;
}

static json_t *merge_keyword(struct grammar_text *g, const json_t *root, const char *key, const json_t *a,
                             const json_t *b)
{
    static const char *const said[] = {"title",      "description", "default", "examples", "$comment",
                                       "$schema",    "$id",         "$defs",   "readOnly", "writeOnly",
                                       "deprecated", "definitions", NULL};
    static const char *const least[] = {"minItems", "minLength", "minimum", "exclusiveMinimum", NULL};
    static const char *const most[] = {"maxItems", "maxLength", "maximum", "exclusiveMaximum", NULL};
    if (is_one_of(key, said) || json_equal(a, b))
        return json_incref((json_t *)a);
    if (strcmp(key, "type") == 0)
        return common_types(g, a, b);
    if (strcmp(key, "enum") == 0)
        return common_values(g, a, b);
    if (strcmp(key, "required") == 0 || strcmp(key, "allOf") == 0)
        return all_values(g, a, b);
    if (is_one_of(key, least) || is_one_of(key, most))
        return tighter(g, key, a, b, is_one_of(key, least));
    if (strcmp(key, "items") == 0)
        return grammar_merge(g, root, a, b);
    return refuse(g, key);
}

/* --- objects -------------------------------------------------------------------------------------- */

/* Properties of `from` as `beside` allows them; those that both name are merged. */
static void merge_properties(struct grammar_text *g, const json_t *root, const json_t *from, const json_t *beside,
                             json_t *out)
{
    const json_t *theirs = json_object_get(beside, "properties"),
                 *others = json_object_get(beside, "additionalProperties");
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(from, "properties"), name, value)
    {
        const json_t *same = json_object_get(theirs, name), *rule = same ? same : others;
        if (json_object_get(out, name) || (!same && json_is_false(others)))
            continue;
        json_t *merged = rule ? grammar_merge(g, root, value, rule) : json_incref(value);
        if (!merged)
            return;
        json_object_set_new(out, name, merged);
    }
}

static json_t *merge_others(struct grammar_text *g, const json_t *root, const json_t *a, const json_t *b)
{
    if (json_is_false(a) || json_is_false(b))
        return json_false();
    return grammar_merge(g, root, a, b);
}

/* --- schemas -------------------------------------------------------------------------------------- */

static json_t *without(const json_t *schema, const char *key)
{
    json_t *copy = json_copy((json_t *)schema);
    json_object_del(copy, key);
    return copy;
}

/* `schema` with its $ref, if any, replaced by what that refers to. A new reference, or NULL. */
static json_t *followed(struct grammar_text *g, const json_t *root, const json_t *schema)
{
    const json_t *ref = json_object_get(schema, "$ref");
    if (!ref)
        return json_incref((json_t *)schema);
    const json_t *target = json_is_string(ref) ? grammar_target(root, json_string_value(ref)) : NULL;
    if (!target)
        return refuse(g, "a $ref that leads nowhere and other keywords");
    json_t *rest = without(schema, "$ref"), *merged = grammar_merge(g, root, rest, target);
    json_decref(rest);
    return merged;
}

static json_t *merge_objects(struct grammar_text *g, const json_t *root, const json_t *a, const json_t *b)
{
    json_t *out = json_copy((json_t *)a), *properties = json_object(), *value;
    const char *key;
    json_object_foreach((json_t *)b, key, value)
    {
        const json_t *mine = json_object_get(a, key);
        bool others = strcmp(key, "additionalProperties") == 0;
        if (strcmp(key, "properties") == 0 || g->failed)
            continue;
        json_t *both = !mine    ? json_incref(value)
                       : others ? merge_others(g, root, mine, value)
                                : merge_keyword(g, root, key, mine, value);
        if (both)
            json_object_set_new(out, key, both);
    }
    merge_properties(g, root, a, b, properties);
    merge_properties(g, root, b, a, properties);
    if (json_object_get(a, "properties") || json_object_get(b, "properties"))
        json_object_set(out, "properties", properties);
    json_decref(properties);
    if (!g->failed)
        return out;
    json_decref(out);
    return NULL;
}

json_t *grammar_merge(struct grammar_text *g, const json_t *root, const json_t *a, const json_t *b)
{
    if (g->failed)
        return NULL;
    if (++g->merges > MERGES_MAX) {
        grammar_fail(g, ENGINE_E_LIMIT, "JSON schema: more than %d schemas to merge", MERGES_MAX);
        return NULL;
    }
    if (json_is_true(a) || json_is_true(b))
        return json_incref((json_t *)(json_is_true(a) ? b : a));
    if (!json_is_object(a) || !json_is_object(b))
        return refuse(g, "a schema that allows nothing and another");
    if (json_object_get(a, "anyOf") && json_object_get(b, "oneOf"))
        return refuse(g, "anyOf and oneOf");
    json_t *x = followed(g, root, a), *y = x ? followed(g, root, b) : NULL;
    json_t *merged = y ? merge_objects(g, root, x, y) : NULL;
    json_decref(x);
    json_decref(y);
    return merged;
}
