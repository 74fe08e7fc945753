/* grammar_schema.c - JSON schemas and choices as expressions.
 * Read: type (one or several), enum, const, anyOf, oneOf (as anyOf), allOf, $ref inside the schema (also to itself),
 * properties, required, additionalProperties, items, prefixItems, minItems, maxItems, minLength, maxLength, pattern
 * (the whole value), format (date, time, date-time, duration, uuid, hostname, email, ipv4, ipv6, uri), minimum and
 * maximum and their exclusive forms, multipleOf, uniqueItems of an enum's values, and for objects without `properties`
 * propertyNames or one of patternProperties (the whole name). Keywords beside anyOf, oneOf, allOf and $ref hold too:
 * such schemas are merged (grammar_merge.c). Titles, descriptions, defaults and examples mean nothing. Any other
 * keyword is refused by name, and so is what cannot be merged: an answer must not silently break a rule. Properties
 * come in the order of the schema; where `properties` are given and `additionalProperties` is not, there are no others;
 * the same for prefixItems without items. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar_internal.h"
#include "tunnel/json.h"

struct schema {
    struct grammar_text *g;
    const json_t *root;
    unsigned number; /* of several schemas in one grammar: their definitions are their own */
};

static struct expr *value_of(struct schema *s, const json_t *schema);

static struct expr *unsupported(struct schema *s, const char *what)
{
    return grammar_fail(s->g, ENGINE_E_UNSUPPORTED, "JSON schema: %.60s is not supported", what);
}

static struct expr *bad(struct schema *s, const char *what)
{
    return grammar_fail(s->g, ENGINE_E_SYNTAX, "JSON schema: %.60s has the wrong type or value", what);
}

static struct expr *json_rule(struct schema *s, const char *name)
{
    return expr_rule(s->g, rule_named(s->g, span_str(name)));
}

static struct expr *text(struct schema *s, const char *t)
{
    return expr_text(s->g, t);
}

static struct expr *seq(struct schema *s)
{
    return expr_new(s->g, X_SEQ);
}

static struct expr *add(struct schema *s, struct expr *list, struct expr *kid)
{
    return expr_add(s->g, list, kid);
}

/* A rule of its own around `body`: what is used twice is built once. */
static struct expr *shared(struct schema *s, struct expr *body)
{
    int32_t rule = body ? rule_new(s->g, span_of(NULL, 0)) : -1;
    if (rule >= 0)
        s->g->rules[rule].body = body;
    return expr_rule(s->g, rule);
}

static struct expr *literal(struct schema *s, const json_t *v)
{
    char *dumped = json_dumps(v, JSON_ENCODE_ANY);
    struct expr *x = dumped ? expr_text(s->g, dumped) : bad(s, "enum");
    tunnel_json_free(dumped);
    return x;
}

static bool one_is_in(const json_t *values, const json_t *one)
{
    const json_t *v;
    size_t i;
    json_array_foreach(values, i, v) if (json_equal(v, one)) return true;
    return false;
}

/* Is `v` of one of the types? */
static bool has_type(const json_t *types, const json_t *v)
{
    static const char *const names[] = {"object", "array", "string", "integer", "number", "boolean", "boolean", "null"};
    const char *name = names[json_typeof(v)];
    const json_t *one;
    size_t i;
    if (json_is_string(types))
        return strcmp(json_string_value(types), name) == 0 ||
               (json_is_integer(v) && strcmp(json_string_value(types), "number") == 0);
    json_array_foreach(types, i, one) if (json_is_string(one) && has_type(one, v)) return true;
    return !types;
}

static bool is_named(const json_t *v, const char *name)
{
    return json_is_string(v) && strcmp(json_string_value(v), name) == 0;
}

/* --- keywords ----------------------------------------------------------------------------------- */

/* Keywords that are not supported, with the value that asks for nothing; objects with properties are closed anyway. */
static bool is_neutral(const char *key, const json_t *v)
{
    if (strcmp(key, "unevaluatedProperties") == 0)
        return json_is_false(v);
    return (strcmp(key, "minProperties") == 0 || strcmp(key, "minContains") == 0) && json_is_integer(v) &&
           json_integer_value(v) == 0;
}

/* Keywords that say nothing about the value, and those that are read somewhere below. */
static bool keywords_known(struct schema *s, const json_t *schema)
{
    static const char *const known[] = {"$schema",
                                        "$id",
                                        "$comment",
                                        "$defs",
                                        "definitions",
                                        "title",
                                        "default",
                                        "examples",
                                        "description",
                                        "type",
                                        "enum",
                                        "const",
                                        "anyOf",
                                        "oneOf",
                                        "allOf",
                                        "$ref",
                                        "properties",
                                        "required",
                                        "items",
                                        "prefixItems",
                                        "minItems",
                                        "maxItems",
                                        "minLength",
                                        "maxLength",
                                        "pattern",
                                        "format",
                                        "minimum",
                                        "maximum",
                                        "exclusiveMinimum",
                                        "exclusiveMaximum",
                                        "readOnly",
                                        "writeOnly",
                                        "deprecated",
                                        "discriminator",
                                        "additionalProperties",
                                        "nullable",
                                        "multipleOf",
                                        "uniqueItems",
                                        "propertyNames",
                                        "patternProperties"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)schema, key, v)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known && !found; i++)
            found = strcmp(key, known[i]) == 0;
        if (!found && !is_neutral(key, v))
            return unsupported(s, key) != NULL;
    }
    return true;
}

/* A count: absent gives `otherwise`. False after a fault. */
static bool count_of(struct schema *s, const json_t *schema, const char *key, int otherwise, int *out)
{
    const json_t *v = json_object_get(schema, key);
    *out = otherwise;
    if (!v)
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > GRAMMAR_REPEAT_MAX)
        return bad(s, key) != NULL;
    *out = (int)json_integer_value(v);
    return true;
}

/* --- strings ------------------------------------------------------------------------------------ */

static struct expr *quoted(struct schema *s, struct expr *inside)
{
    return add(s, add(s, add(s, seq(s), text(s, "\"")), inside), text(s, "\""));
}

/* Forms that are regular; some ways to write a value may be missing, none that is wrong is there. */
static struct expr *formatted(struct schema *s, const char *format)
{
#define DATE "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[-+]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST LABEL "(\\." LABEL "){0,8}"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    static const struct {
        const char *name, *regex;
    } forms[] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"duration", "P([0-9]{1,9}[WDMY]|T([0-9]{1,9}H[0-9]{1,9}M[0-9]{1,9}S|[0-9]{1,9}M[0-9]{1,9}S|[0-9]{1,9}[HMS]))"},
        {"uuid", "[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"},
        {"hostname", HOST},
        {"email", "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@" HOST},
        {"ipv4", BYTE "(\\." BYTE "){3}"},
        {"ipv6", "([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}"},
        {"uri", "[a-zA-Z][a-zA-Z0-9+.-]{1,15}:(//" HOST "(:[0-9]{1,5})?)?(/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
                "(\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(format, forms[i].name) == 0)
            return quoted(s, regex_parse(s->g, span_str(forms[i].regex), true));
    return unsupported(s, format);
#undef DATE
#undef TIME
#undef LABEL
#undef HOST
#undef BYTE
}

static struct expr *string(struct schema *s, const json_t *schema)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    int min, max;
    if (!count_of(s, schema, "minLength", 0, &min) || !count_of(s, schema, "maxLength", -1, &max))
        return NULL;
    bool lengths = min > 0 || max >= 0;
    if ((pattern && !json_is_string(pattern)) || (format && !json_is_string(format)))
        return bad(s, pattern ? "pattern" : "format");
    if ((pattern != NULL) + (format != NULL) + lengths > 1)
        return unsupported(s, "pattern, format and lengths together");
    if (pattern)
        return quoted(s, regex_parse(s->g, span_of(json_string_value(pattern), json_string_length(pattern)), true));
    if (format)
        return formatted(s, json_string_value(format));
    return lengths ? quoted(s, expr_repeat(s->g, json_rule(s, "char"), min, max)) : json_rule(s, "string");
}

/* --- lists and objects -------------------------------------------------------------------------- */

/* `item` then `rest` times (comma item), white space after each. */
static struct expr *more_items(struct schema *s, struct expr *item, int min, int max)
{
    struct expr *next =
        add(s, add(s, add(s, add(s, seq(s), text(s, ",")), json_rule(s, "ws")), item), json_rule(s, "ws"));
    return expr_repeat(s->g, next, min, max);
}

enum { UNIQUE_MAX = 8 }; /* values: the lists without repetition are told apart by what was written, 2^n */

/* The different values that `items` lists, a new reference; NULL: it lists none, or too many. */
static json_t *values_of_items(const struct schema *s, const json_t *items)
{
    const char *ref = json_string_value(json_object_get(items, "$ref"));
    const json_t *at = ref && json_object_size(items) == 1 ? grammar_target(s->root, ref) : items, *v;
    const json_t *types = json_object_get(at, "type");
    json_t *out = json_array();
    const char *key;
    json_t *ignored;
    size_t i;
    json_array_foreach(json_object_get(at, "enum"), i, v)
    {
        if (json_array_size(out) <= UNIQUE_MAX && has_type(types, v) && !one_is_in(out, v))
            json_array_append(out, (json_t *)v);
    }
    json_object_foreach((json_t *)at, key, ignored) if (strcmp(key, "enum") != 0 && strcmp(key, "type") != 0 &&
                                                        strcmp(key, "title") != 0 && strcmp(key, "description") != 0)
        json_array_clear(out);
    if (json_array_size(out) > 0 && json_array_size(out) <= UNIQUE_MAX)
        return out;
    json_decref(out);
    return NULL;
}

/* Lists of `values` without repetition: one rule for each set of values already written. */
static struct expr *unique_items(struct schema *s, const json_t *values, int min, int max)
{
    unsigned n = (unsigned)json_array_size(values), sets = 1u << n;
    int32_t rules[1 << UNIQUE_MAX];
    for (unsigned set = 0; set < sets; set++)
        rules[set] = rule_new(s->g, span_of(NULL, 0));
    for (unsigned set = 0; set < sets && !s->g->failed; set++) {
        int written = __builtin_popcount(set);
        struct expr *all = expr_new(s->g, X_ALT);
        if (written >= min)
            all = add(s, all, expr_new(s->g, X_EMPTY));
        for (unsigned i = 0; i < n && written < max; i++) {
            if (set >> i & 1)
                continue;
            struct expr *one = seq(s);
            if (set)
                one = add(s, add(s, one, text(s, ",")), json_rule(s, "ws"));
            one = add(s, add(s, one, literal(s, json_array_get(values, i))), json_rule(s, "ws"));
            all = add(s, all, add(s, one, expr_rule(s->g, rules[set | 1u << i])));
        }
        if (!s->g->failed)
            s->g->rules[rules[set]].body = all;
    }
    return expr_rule(s->g, rules[0]);
}

static struct expr *unique_array(struct schema *s, const json_t *schema)
{
    json_t *values = values_of_items(s, json_object_get(schema, "items"));
    int count = (int)json_array_size(values), min, max;
    struct expr *x = NULL;
    if (!values || json_object_get(schema, "prefixItems"))
        unsupported(s, "uniqueItems of other items than an enum of up to 8 values");
    else if (count_of(s, schema, "minItems", 0, &min) && count_of(s, schema, "maxItems", count, &max))
        x = min > count || max < min ? bad(s, "minItems with uniqueItems") : unique_items(s, values, min, max);
    json_decref(values);
    return add(s, add(s, add(s, add(s, seq(s), text(s, "[")), json_rule(s, "ws")), x), text(s, "]"));
}

static struct expr *array(struct schema *s, const json_t *schema)
{
    if (json_is_true(json_object_get(schema, "uniqueItems")))
        return unique_array(s, schema);
    const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    int fixed = (int)json_array_size(prefix), min, max;
    bool others = !json_is_false(items) && !(prefix && !items);
    if (!count_of(s, schema, "minItems", prefix ? fixed : 0, &min) ||
        !count_of(s, schema, "maxItems", others ? -1 : fixed, &max))
        return NULL;
    if (prefix && (!json_is_array(prefix) || fixed == 0 || (max >= 0 && max < fixed)))
        return bad(s, "prefixItems with maxItems");
    min = min < fixed ? fixed : min; /* all of them are written */
    if (max >= 0 && max < min)
        return bad(s, "maxItems");
    struct expr *item = !others ? NULL : items ? shared(s, value_of(s, items)) : json_rule(s, "value");
    struct expr *inside = seq(s);
    for (int i = 0; i < fixed; i++) {
        if (i > 0)
            inside = add(s, add(s, inside, text(s, ",")), json_rule(s, "ws"));
        inside = add(s, add(s, inside, value_of(s, json_array_get(prefix, (size_t)i))), json_rule(s, "ws"));
    }
    if (others && fixed > 0) {
        inside = add(s, inside, more_items(s, item, min - fixed, max < 0 ? -1 : max - fixed));
    } else if (others && max != 0) {
        struct expr *some = add(s, add(s, seq(s), item), json_rule(s, "ws"));
        some = add(s, some, more_items(s, item, min > 0 ? min - 1 : 0, max < 0 ? -1 : max - 1));
        inside = add(s, inside, min > 0 ? some : expr_repeat(s->g, some, 0, 1));
    }
    return add(s, add(s, add(s, add(s, seq(s), text(s, "[")), json_rule(s, "ws")), inside), text(s, "]"));
}

/* "name" : value, with white space. */
static struct expr *pair(struct schema *s, struct expr *name, struct expr *value)
{
    struct expr *x = add(s, add(s, add(s, add(s, seq(s), name), text(s, ":")), json_rule(s, "ws")), value);
    return add(s, x, json_rule(s, "ws"));
}

static bool is_required(const json_t *required, const char *name)
{
    const json_t *v;
    size_t i;
    json_array_foreach(required, i, v) if (json_is_string(v) && strcmp(json_string_value(v), name) == 0) return true;
    return false;
}

/* The members from here on, built from the last to the first: `begun` after another member (a comma comes first),
 * `fresh` when none has come yet. */
struct members {
    struct expr *begun, *fresh;
};

static struct members before(struct schema *s, struct members rest, struct expr *member, bool required)
{
    struct expr *comma = add(s, add(s, seq(s), text(s, ",")), json_rule(s, "ws"));
    struct expr *after = add(s, add(s, comma, member), rest.begun);
    struct expr *first = add(s, add(s, seq(s), member), rest.begun);
    if (!required) {
        after = expr_pair(s->g, X_ALT, after, rest.begun);
        first = expr_pair(s->g, X_ALT, first, rest.fresh);
    }
    return (struct members){shared(s, after), shared(s, first)};
}

/* Any number of members with such a name. */
static struct members other_members(struct schema *s, struct expr *name, const json_t *others)
{
    struct expr *value = json_is_object(others) ? shared(s, value_of(s, others)) : json_rule(s, "value");
    struct expr *member = shared(s, pair(s, name, value));
    struct expr *more =
        expr_repeat(s->g, add(s, add(s, add(s, seq(s), text(s, ",")), json_rule(s, "ws")), member), 0, -1);
    struct expr *first = add(s, add(s, seq(s), member), more);
    return (struct members){shared(s, more), shared(s, expr_repeat(s->g, first, 0, 1))};
}

/* The properties, and those that are only required: they are as `additionalProperties` says. A new reference. */
static json_t *all_properties(struct schema *s, const json_t *properties, const json_t *required, const json_t *others)
{
    json_t *all = properties ? json_copy((json_t *)properties) : json_object(), *name;
    size_t i;
    json_array_foreach(required, i, name)
    {
        const char *text = json_string_value(name);
        if (!text || (json_is_false(others) && !json_object_get(all, text)))
            bad(s, "required (a name that is no property)");
        else if (!json_object_get(all, text))
            json_object_set_new(all, text, json_is_object(others) ? json_incref((json_t *)others) : json_true());
    }
    return all;
}

static struct expr *members_of(struct schema *s, const json_t *properties, const json_t *required, const json_t *others,
                               bool open)
{
    struct members rest = open ? other_members(s, json_rule(s, "string"), others)
                               : (struct members){expr_new(s->g, X_EMPTY), expr_new(s->g, X_EMPTY)};
    size_t count = json_object_size(properties), i;
    const char **names = calloc(count + 1, sizeof *names);
    const char *key;
    json_t *value;
    if (!names)
        return grammar_fail(s->g, ENGINE_E_MEMORY, "too little memory");
    i = 0;
    json_object_foreach((json_t *)properties, key, value) names[i++] = key;
    for (i = count; i-- > 0 && !s->g->failed;) {
        json_t *quoted_name = json_string(names[i]);
        struct expr *member = pair(s, literal(s, quoted_name), value_of(s, json_object_get(properties, names[i])));
        rest = before(s, rest, shared(s, member), is_required(required, names[i]));
        json_decref(quoted_name);
    }
    free(names);
    return add(s, add(s, add(s, add(s, seq(s), text(s, "{")), json_rule(s, "ws")), rest.fresh), text(s, "}"));
}

/* A name as propertyNames wants it. */
static struct expr *name_like(struct schema *s, const json_t *names)
{
    const json_t *type = json_object_get(names, "type");
    if (json_is_true(names))
        return json_rule(s, "string");
    if (!json_is_object(names) || (type && !is_named(type, "string")))
        return bad(s, "propertyNames");
    json_t *copy = json_copy((json_t *)names);
    json_object_set_new(copy, "type", json_string("string"));
    struct expr *x = value_of(s, copy);
    json_decref(copy);
    return x;
}

/* An object whose members are told by what their names look like. */
static struct expr *object_by_names(struct schema *s, const json_t *schema)
{
    json_t *names = json_object_get(schema, "propertyNames"), *patterns = json_object_get(schema, "patternProperties");
    const json_t *others = json_object_get(schema, "additionalProperties"), *value = others;
    const char *pattern = json_object_iter_key(json_object_iter(patterns));
    struct expr *name = NULL;
    if (json_object_size(json_object_get(schema, "properties")) + json_array_size(json_object_get(schema, "required")) >
        0)
        unsupported(s, "propertyNames or patternProperties beside properties");
    else if (patterns && (names || json_object_size(patterns) != 1 || (others && !json_is_false(others))))
        unsupported(s, "patternProperties but one and nothing else");
    else if (!patterns && json_is_false(others))
        unsupported(s, "propertyNames with additionalProperties false");
    else if (patterns) {
        name = quoted(s, regex_parse(s->g, span_str(pattern), true));
        value = json_object_iter_value(json_object_iter(patterns));
    } else {
        name = name_like(s, names);
    }
    if (value && !json_is_object(value) && !json_is_true(value))
        return bad(s, patterns ? "patternProperties" : "additionalProperties");
    struct members all = other_members(s, shared(s, name), value);
    return add(s, add(s, add(s, add(s, seq(s), text(s, "{")), json_rule(s, "ws")), all.fresh), text(s, "}"));
}

static struct expr *object(struct schema *s, const json_t *schema)
{
    if (json_object_get(schema, "propertyNames") || json_object_get(schema, "patternProperties"))
        return object_by_names(s, schema);
    const json_t *given = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties");
    if ((given && !json_is_object(given)) || (required && !json_is_array(required)))
        return bad(s, given && !json_is_object(given) ? "properties" : "required");
    if (!given && (!others || json_is_true(others)) && json_array_size(required) == 0)
        return json_rule(s, "object");
    bool open = others ? !json_is_false(others) : !given;
    json_t *properties = all_properties(s, given, required, others);
    struct expr *x = members_of(s, properties, required, others, open);
    json_decref(properties);
    return x;
}

/* --- any value ---------------------------------------------------------------------------------- */

static struct expr *typed(struct schema *s, const json_t *schema, const char *type)
{
    if (strcmp(type, "object") == 0)
        return object(s, schema);
    if (strcmp(type, "array") == 0)
        return array(s, schema);
    if (strcmp(type, "string") == 0)
        return string(s, schema);
    if (strcmp(type, "integer") == 0)
        return json_object_get(schema, "multipleOf") ? grammar_multiple(s->g, schema, true)
                                                     : grammar_integer(s->g, schema);
    if (strcmp(type, "number") == 0 && json_object_get(schema, "multipleOf"))
        return grammar_multiple(s->g, schema, false);
    if (strcmp(type, "number") == 0)
        return grammar_has_bounds(schema) ? grammar_decimal(s->g, schema) : json_rule(s, "number");
    if (strcmp(type, "boolean") == 0 || strcmp(type, "null") == 0)
        return json_rule(s, type);
    return bad(s, "type");
}

const json_t *grammar_target(const json_t *root, const char *ref)
{
    char part[256];
    const json_t *at = ref[0] == '#' ? root : NULL;
    for (const char *p = ref + 1; at && *p == '/';) {
        size_t len = strcspn(++p, "/"), k = 0;
        if (len >= sizeof part)
            return NULL;
        for (size_t i = 0; i < len; i++) { /* ~1 is a slash, ~0 a tilde (RFC 6901) */
            bool escape = p[i] == '~' && i + 1 < len && (p[i + 1] == '0' || p[i + 1] == '1');
            part[k++] = escape ? (p[i + 1] == '1' ? '/' : '~') : p[i];
            i += escape;
        }
        part[k] = '\0';
        at = json_is_array(at) ? json_array_get(at, strtoul(part, NULL, 10)) : json_object_get(at, part);
        p += len;
    }
    return at;
}

/* #, #/$defs/name, ..: each target is one rule, so a schema may refer to itself. */
static struct expr *referred(struct schema *s, const char *ref)
{
    char name[300];
    const json_t *at = grammar_target(s->root, ref);
    int n = snprintf(name, sizeof name, "$ref %u %s", s->number, ref);
    if (ref[0] != '#' || n < 0 || (size_t)n >= sizeof name)
        return unsupported(s, "a $ref to another document");
    if (!at)
        return bad(s, "$ref");
    int32_t rule = rule_named(s->g, span_str(name));
    if (rule >= 0 && !s->g->rules[rule].body) {
        s->g->rules[rule].body = expr_new(s->g, X_EMPTY); /* taken: a schema inside it may refer to it */
        struct expr *body = value_of(s, at);
        if (body)
            s->g->rules[rule].body = body;
    }
    return expr_rule(s->g, rule);
}

/* --- schemas that hold together -------------------------------------------------------------------- */

/* Does `schema` say more about the value than `key` does? */
static bool says_more(const json_t *schema, const char *key)
{
    static const char *const silent[] = {"title",    "description", "default",    "examples",     "$comment",
                                         "$schema",  "$id",         "$defs",      "readOnly",     "definitions",
                                         "nullable", "writeOnly",   "deprecated", "discriminator"};
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)schema, name, v)
    {
        bool quiet = strcmp(name, key) == 0;
        for (size_t i = 0; i < sizeof silent / sizeof *silent && !quiet; i++)
            quiet = strcmp(name, silent[i]) == 0;
        if (!quiet)
            return true;
    }
    return false;
}

/* The value of both; `a` is given away. The merged schema is kept as long as expressions are made from it. */
static struct expr *value_of_both(struct schema *s, json_t *a, const json_t *b)
{
    json_t *merged = grammar_merge(s->g, s->root, a, b);
    struct expr *x = merged ? value_of(s, merged) : NULL;
    json_decref(a);
    json_decref(merged);
    return x;
}

static json_t *schema_without(const json_t *schema, const char *key)
{
    json_t *copy = json_copy((json_t *)schema);
    json_object_del(copy, key);
    json_object_del(copy, "nullable"); /* said once, by the caller */
    return copy;
}

static struct expr *all_of(struct schema *s, const json_t *schema)
{
    const json_t *all = json_object_get(schema, "allOf"), *one;
    json_t *merged = schema_without(schema, "allOf");
    size_t i;
    json_array_foreach(all, i, one)
    {
        json_t *next = grammar_merge(s->g, s->root, merged, one);
        json_decref(merged);
        merged = next;
    }
    struct expr *x = json_array_size(all) == 0 ? bad(s, "allOf") : merged ? value_of(s, merged) : NULL;
    json_decref(merged);
    return x;
}

/* One of several; what else the schema says holds for each of them. */
static struct expr *any_of(struct schema *s, const json_t *schema, const char *key)
{
    struct expr *all = expr_new(s->g, X_ALT);
    const json_t *schemas = json_object_get(schema, key), *one;
    bool more = says_more(schema, key);
    size_t i;
    if (json_array_size(schemas) == 0)
        return bad(s, key);
    json_array_foreach(schemas, i, one) all =
        add(s, all, more ? value_of_both(s, schema_without(schema, key), one) : value_of(s, one));
    return all;
}

/* A schema without `type`: what its keywords are about, else anything. */
static struct expr *untyped(struct schema *s, const json_t *schema)
{
    if (json_object_get(schema, "properties") || json_object_get(schema, "additionalProperties") ||
        json_object_get(schema, "propertyNames") || json_object_get(schema, "patternProperties"))
        return object(s, schema);
    if (json_object_get(schema, "items") || json_object_get(schema, "prefixItems") ||
        json_is_true(json_object_get(schema, "uniqueItems")))
        return array(s, schema);
    if (json_object_get(schema, "pattern") || json_object_get(schema, "format") ||
        json_object_get(schema, "minLength") || json_object_get(schema, "maxLength"))
        return string(s, schema);
    return grammar_has_bounds(schema) || json_object_get(schema, "multipleOf")
               ? unsupported(s, "a bound without a type")
               : json_rule(s, "value");
}

/* How `v`, or the length of the string `v` in characters, stands to `bound`: -1 below, 0 equal, 1 above. */
static int order(const json_t *v, const json_t *bound)
{
    json_int_t whole = json_integer_value(v);
    const char *text = json_string_value(v);
    for (size_t i = 0; i < json_string_length(v); i++)
        whole += ((unsigned char)text[i] & 0xc0) != 0x80;
    if (!json_is_real(v) && json_is_integer(bound))
        return (whole > json_integer_value(bound)) - (whole < json_integer_value(bound));
    double number = json_is_real(v) ? json_real_value(v) : (double)whole, limit = json_number_value(bound);
    return (number > limit) - (number < limit);
}

/* Does `v` keep the bounds of numbers and the lengths of strings that stand beside it? */
static bool keeps_bounds(struct schema *s, const json_t *schema, const json_t *v)
{
    static const struct {
        const char *key;
        bool of_strings;
        int least, most; /* what order() may be */
    } rules[] = {{"minimum", false, 0, 1},          {"maximum", false, -1, 0},
                 {"exclusiveMinimum", false, 1, 1}, {"exclusiveMaximum", false, -1, -1},
                 {"minLength", true, 0, 1},         {"maxLength", true, -1, 0}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const json_t *bound = json_object_get(schema, rules[i].key);
        if (bound && !json_is_number(bound))
            return bad(s, rules[i].key) != NULL;
        if (!bound || !(rules[i].of_strings ? json_is_string(v) : json_is_number(v)))
            continue;
        if (order(v, bound) < rules[i].least || order(v, bound) > rules[i].most)
            return false;
    }
    return true;
}

/* enum or const: those of the values that types, bounds and lengths allow. Other rules beside them are not checked. */
static struct expr *listed(struct schema *s, const json_t *schema)
{
    static const char *const unchecked[] = {"multipleOf", "pattern",     "format",        "uniqueItems",
                                            "items",      "prefixItems", "minItems",      "maxItems",
                                            "properties", "required",    "propertyNames", "patternProperties"};
    const json_t *one = json_object_get(schema, "const"), *values = json_object_get(schema, "enum");
    const json_t *types = json_object_get(schema, "type"), *v;
    struct expr *all = expr_new(s->g, X_ALT);
    size_t i;
    for (i = 0; i < sizeof unchecked / sizeof *unchecked; i++)
        if (json_object_get(schema, unchecked[i]) && !json_is_false(json_object_get(schema, unchecked[i])))
            return grammar_fail(s->g, ENGINE_E_UNSUPPORTED, "JSON schema: %s beside enum or const is not supported",
                                unchecked[i]);
    if (one && values && !one_is_in(values, one))
        return bad(s, "const");
    if (one)
        return has_type(types, one) && keeps_bounds(s, schema, one) ? literal(s, one) : bad(s, "const");
    json_array_foreach(values, i, v) if (has_type(types, v) && keeps_bounds(s, schema, v)) all =
        add(s, all, literal(s, v));
    return all && all->count == 0 ? bad(s, "enum") : all;
}

static struct expr *chosen(struct schema *s, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *ref = json_object_get(schema, "$ref"), *one;
    size_t i;
    if (ref && !json_is_string(ref))
        return bad(s, "$ref");
    if (ref && says_more(schema, "$ref")) {
        const json_t *target = grammar_target(s->root, json_string_value(ref));
        return target ? value_of_both(s, schema_without(schema, "$ref"), target) : bad(s, "$ref");
    }
    if (ref)
        return referred(s, json_string_value(ref));
    if (json_object_get(schema, "allOf"))
        return all_of(s, schema);
    if (json_object_get(schema, "anyOf"))
        return any_of(s, schema, "anyOf");
    if (json_object_get(schema, "oneOf"))
        return any_of(s, schema, "oneOf");
    if (json_object_get(schema, "const") || json_object_get(schema, "enum"))
        return listed(s, schema);
    if (json_is_string(type))
        return typed(s, schema, json_string_value(type));
    if (!type)
        return untyped(s, schema);
    struct expr *any = expr_new(s->g, X_ALT);
    if (json_array_size(type) == 0)
        return bad(s, "type");
    json_array_foreach(type, i, one) any =
        json_is_string(one) ? add(s, any, typed(s, schema, json_string_value(one))) : bad(s, "type");
    return any;
}

static struct expr *value_of(struct schema *s, const json_t *schema)
{
    if (s->g->failed)
        return NULL;
    if (json_is_true(schema))
        return json_rule(s, "value");
    if (!json_is_object(schema))
        return bad(s, "a schema");
    if (!keywords_known(s, schema))
        return NULL;
    if (++s->g->depth > GRAMMAR_DEPTH_MAX / 2)
        return grammar_fail(s->g, ENGINE_E_LIMIT, "JSON schema: nested deeper than %d", GRAMMAR_DEPTH_MAX / 2);
    struct expr *x = chosen(s, schema);
    if (x && json_is_true(json_object_get(schema, "nullable")))
        x = expr_pair(s->g, X_ALT, x, json_rule(s, "null"));
    s->g->depth--;
    return x;
}

static json_t *load(struct grammar_text *g, struct span text, const char *what)
{
    json_error_t error;
    json_t *v = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!v)
        grammar_fail(g, ENGINE_E_SYNTAX, "%s: not JSON (line %d)", what, error.line);
    return v;
}

void grammar_from_schema(struct grammar_text *g, struct span text_of_schema)
{
    int32_t root = rule_new(g, span_of(NULL, 0));
    json_t *loaded = load(g, text_of_schema, "JSON schema");
    struct schema s = {.g = g, .root = loaded};
    grammar_json_rules(g);
    struct expr *body = s.root ? value_of(&s, s.root) : NULL;
    if (root == 0 && body)
        g->rules[root].body = body;
    json_decref(loaded);
}

void grammar_from_choices(struct grammar_text *g, struct span text_of_choices)
{
    int32_t root = rule_new(g, span_of(NULL, 0));
    json_t *choices = load(g, text_of_choices, "choices"), *one;
    struct expr *all = expr_new(g, X_ALT);
    size_t i;
    if (choices && json_array_size(choices) == 0)
        grammar_fail(g, ENGINE_E_SYNTAX, "choices: not a list of strings");
    json_array_foreach(choices, i, one) if (json_string_length(one) == 0)
        grammar_fail(g, ENGINE_E_SYNTAX, "choices: something that is no string, or an empty one");
    else all = expr_add(g, all, expr_bytes(g, span_of(json_string_value(one), json_string_length(one))));
    if (root == 0 && all && !g->failed)
        g->rules[root].body = all;
    json_decref(choices);
}

struct expr *grammar_value(struct grammar_text *g, const json_t *root, const json_t *schema, unsigned number)
{
    struct schema s = {.g = g, .root = root, .number = number};
    return value_of(&s, schema);
}
