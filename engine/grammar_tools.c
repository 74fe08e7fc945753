/* grammar_tools.c - calls of tools as expressions, in the forms that engine/toolcall.c reads. */
#include <strings.h>

#include "engine/grammar_internal.h"
#include "tunnel/json.h"

enum {
    NAME_MAX_BYTES = 256,
    REF_MAX_BYTES = 256,
    PARAMETERS_MAX = 128,
    CALLS_MAX = 16,
    TYPES_DEPTH = 16,
    SCHEMA_LOOKS = 16
};

static struct expr *text(struct grammar_text *g, const char *t)
{
    return expr_text(g, t);
}

static struct expr *seq(struct grammar_text *g)
{
    return expr_new(g, X_SEQ);
}

static struct expr *rule_called(struct grammar_text *g, const char *name)
{
    return expr_rule(g, rule_named(g, span_str(name)));
}

static struct expr *unsupported(struct grammar_text *g, const char *what, const char *name)
{
    return grammar_fail(g, ENGINE_E_UNSUPPORTED, "tools: %s of %.60s is not supported", what, name ? name : "a tool");
}

/* --- types ---------------------------------------------------------------------------------------- */

/* `looks`: how many values may still be looked at (a schema takes as long as SCHEMA_LOOKS of them), as references may
 * lead in circles and to long lists. */
static unsigned types_of(const json_t *root, const json_t *schema, int depth, int *looks);

static unsigned type_named(const json_t *name)
{
    static const struct {
        const char *begin;
        unsigned type;
    } known[] = {
        {"null", ENGINE_TYPE_NULL},    {"none", ENGINE_TYPE_NULL},      {"bool", ENGINE_TYPE_BOOLEAN},
        {"int", ENGINE_TYPE_WHOLE},    {"uint", ENGINE_TYPE_WHOLE},     {"long", ENGINE_TYPE_WHOLE},
        {"short", ENGINE_TYPE_WHOLE},  {"unsigned", ENGINE_TYPE_WHOLE}, {"num", ENGINE_TYPE_NUMBER},
        {"float", ENGINE_TYPE_NUMBER}, {"double", ENGINE_TYPE_NUMBER},  {"object", ENGINE_TYPE_OBJECT},
        {"dict", ENGINE_TYPE_OBJECT},  {"arr", ENGINE_TYPE_ARRAY},      {"list", ENGINE_TYPE_ARRAY},
    };
    const char *text_of_name = json_string_value(name);
    for (size_t i = 0; text_of_name && i < sizeof known / sizeof *known; i++)
        if (strncasecmp(text_of_name, known[i].begin, strlen(known[i].begin)) == 0)
            return known[i].type;
    return ENGINE_TYPE_STRING;
}

unsigned engine_grammar_type(const json_t *v)
{
    static const unsigned types[] = {
        [JSON_OBJECT] = ENGINE_TYPE_OBJECT, [JSON_ARRAY] = ENGINE_TYPE_ARRAY, [JSON_STRING] = ENGINE_TYPE_STRING,
        [JSON_INTEGER] = ENGINE_TYPE_WHOLE, [JSON_REAL] = ENGINE_TYPE_NUMBER, [JSON_TRUE] = ENGINE_TYPE_BOOLEAN,
        [JSON_FALSE] = ENGINE_TYPE_BOOLEAN, [JSON_NULL] = ENGINE_TYPE_NULL,
    };
    return types[json_typeof(v)];
}

static unsigned types_of_any(const json_t *root, const json_t *list, int depth, int *looks)
{
    unsigned types = 0;
    for (size_t i = 0; i < json_array_size(list) && *looks > 0; i++)
        types |= types_of(root, json_array_get(list, i), depth, looks);
    return types;
}

static unsigned types_of(const json_t *root, const json_t *schema, int depth, int *looks)
{
    static const char *const several[] = {"anyOf", "oneOf", "allOf"};
    const json_t *type = json_object_get(schema, "type"), *ref = json_object_get(schema, "$ref"),
                 *values = json_object_get(schema, "enum"), *v;
    unsigned types = json_is_true(json_object_get(schema, "nullable")) ? ENGINE_TYPE_NULL : 0;
    size_t i;
    if (!json_is_object(schema) || depth == 0 || (*looks -= SCHEMA_LOOKS) <= 0)
        return 0;
    if (json_is_string(type))
        types |= type_named(type);
    for (i = 0; i < json_array_size(type) && (*looks)-- > 0; i++)
        types |= type_named(json_array_get(type, i));
    for (i = 0; i < json_array_size(values) && (*looks)-- > 0; i++)
        types |= engine_grammar_type(json_array_get(values, i));
    if ((v = json_object_get(schema, "const")))
        types |= engine_grammar_type(v);
    for (i = 0; i < sizeof several / sizeof *several; i++)
        types |= types_of_any(root, json_object_get(schema, several[i]), depth - 1, looks);
    if (json_is_string(ref) && json_string_length(ref) <= REF_MAX_BYTES)
        types |= types_of(root, grammar_target(root, json_string_value(ref)), depth - 1, looks);
    return types;
}

unsigned engine_grammar_types(const json_t *root, const json_t *schema, int *looks)
{
    return types_of(root, schema, TYPES_DEPTH, looks);
}

/* --- Qwen3-Coder's form ----------------------------------------------------------------------------- */

/* The tags that no value may hold, so that it is read as it was written. */
static const char *const tags[] = {"</parameter>", "</function>", "<parameter="};
enum { TAGS = sizeof tags / sizeof *tags };

/* Is tags[which][0..len) also the beginning of an earlier tag? */
static bool is_seen(size_t which, size_t len)
{
    for (size_t i = 0; i < which; i++)
        if (strncmp(tags[i], tags[which], len) == 0)
            return true;
    return false;
}

/* Any character that leads no tag on that begins with tags[which][0..len), and begins none. */
static struct expr *leaves(struct grammar_text *g, size_t which, size_t len)
{
    struct expr *class = expr_range(g, expr_new(g, X_CLASS), '<', '<');
    for (size_t i = 0; i < TAGS; i++)
        if (strncmp(tags[i], tags[which], len) == 0)
            class = expr_range(g, class, (uint8_t)tags[i][len], (uint8_t)tags[i][len]);
    return expr_invert(g, class);
}

/* Any text without a tag, one rule: ordinary characters, and tags that break off. As only the first character of a tag
 * is a <, what broke off is followed by the beginning of another one, by a character that fits neither, or by the end.
 */
static struct expr *free_text(struct grammar_text *g)
{
    int32_t rule = rule_named(g, span_str("text without tags"));
    if (rule < 0 || g->rules[rule].body)
        return expr_rule(g, rule);
    struct expr *begun = expr_new(g, X_ALT), *left = expr_new(g, X_ALT);
    for (size_t i = 0; i < TAGS; i++)
        for (size_t len = 1; len < strlen(tags[i]); len++) {
            if (is_seen(i, len))
                continue;
            begun = expr_add(g, begun, expr_bytes(g, span_of(tags[i], len)));
            left = expr_add(g, left, expr_pair(g, X_SEQ, expr_bytes(g, span_of(tags[i], len)), leaves(g, i, len)));
        }
    begun = expr_repeat(g, begun, 0, -1);
    struct expr *ordinary = expr_invert(g, expr_range(g, expr_new(g, X_CLASS), '<', '<'));
    struct expr *one = expr_pair(g, X_ALT, ordinary, expr_pair(g, X_SEQ, begun, left));
    g->rules[rule].body = expr_pair(g, X_SEQ, expr_repeat(g, one, 0, -1), begun);
    return expr_rule(g, rule);
}

/* May this be written between tags as it is? */
static bool is_bare(struct span s)
{
    for (size_t i = 0; i < TAGS; i++)
        if (memmem(s.data, s.len, tags[i], strlen(tags[i])))
            return false;
    return true;
}

static bool is_bare_name(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (name[i] == '<' || name[i] == '>' || (uint8_t)name[i] < 0x20)
            return false;
    return len > 0 && len <= NAME_MAX_BYTES;
}

/* Does a schema only name types, so that whatever text comes is a value of it once it is converted? */
static bool only_names_types(const json_t *schema, int depth)
{
    static const char *const harmless[] = {"type",     "title",    "description", "default",
                                           "examples", "nullable", "$comment",    "deprecated"};
    const char *key;
    json_t *v, *one;
    size_t i;
    json_object_foreach((json_t *)schema, key, v)
    {
        bool good = false;
        for (i = 0; i < sizeof harmless / sizeof *harmless; i++)
            good = good || strcmp(key, harmless[i]) == 0;
        if (!good && depth > 0 && (strcmp(key, "anyOf") == 0 || strcmp(key, "oneOf") == 0)) {
            good = true;
            json_array_foreach(v, i, one) good = good && only_names_types(one, depth - 1);
        }
        if (!good)
            return false;
    }
    return json_is_object(schema);
}

/* An enum of strings, each as it is. NULL: it is none. */
static struct expr *bare_strings(struct grammar_text *g, const json_t *schema)
{
    struct expr *all = expr_new(g, X_ALT);
    const json_t *one;
    size_t i;
    if (json_array_size(json_object_get(schema, "enum")) == 0 || json_object_get(schema, "const"))
        return NULL;
    json_array_foreach(json_object_get(schema, "enum"), i, one)
    {
        struct span s = span_of(json_string_value(one), json_string_length(one));
        if (!json_is_string(one) || !is_bare(s))
            return NULL;
        all = expr_add(g, all, expr_bytes(g, s));
    }
    return all;
}

/* A value that toolcall_xml.c converts into one of `schema`. `looks`: for all of a tool's parameters. */
static struct expr *bare_value(struct grammar_text *g, const json_t *root, const json_t *schema, const char *name,
                               unsigned number, int *looks)
{
    unsigned types = engine_grammar_types(root, schema, looks);
    if (*looks <= 0)
        return unsupported(g, "so long a schema as", name);
    if ((types == 0 || (types & ENGINE_TYPE_STRING)) && (json_is_true(schema) || only_names_types(schema, 4)))
        return free_text(g);
    for (int i = 0; i < TYPES_DEPTH && json_object_size(schema) == 1 && json_object_get(schema, "$ref"); i++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        schema = ref ? grammar_target(root, ref) : NULL;
    }
    if (types == 0 || (types & ENGINE_TYPE_STRING)) {
        struct expr *listed = types == ENGINE_TYPE_STRING ? bare_strings(g, schema) : NULL;
        return listed ? listed : unsupported(g, "a rule for the text of parameter", name);
    }
    return grammar_value(g, root, schema, number);
}

static struct expr *parameter(struct grammar_text *g, struct expr *key, struct expr *value)
{
    struct expr *x = expr_add(g, expr_add(g, expr_add(g, seq(g), text(g, "<parameter=")), key), text(g, ">\n"));
    return expr_add(g, expr_add(g, x, value), text(g, "\n</parameter>\n"));
}

static bool is_required(const json_t *schema, const char *name)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i,
                       one) if (json_is_string(one) && strcmp(json_string_value(one), name) == 0) return true;
    return false;
}

/* Does the schema of all parameters say no more than is kept here? */
static bool is_plain(const json_t *schema)
{
    static const char *const known[] = {"type",     "properties",  "required", "additionalProperties", "$defs",
                                        "title",    "description", "$schema",  "definitions",          "$comment",
                                        "examples", "default",     "$id"};
    const json_t *properties = json_object_get(schema, "properties"), *one;
    const char *key;
    json_t *v;
    size_t i;
    json_object_foreach((json_t *)schema, key, v)
    {
        bool good = false;
        for (i = 0; i < sizeof known / sizeof *known; i++)
            good = good || strcmp(key, known[i]) == 0;
        if (!good)
            return false;
    }
    json_array_foreach(json_object_get(schema, "required"), i,
                       one) if (!json_is_string(one) ||
                                !json_object_get(properties, json_string_value(one))) return false;
    return json_object_size(properties) <= PARAMETERS_MAX &&
           json_array_size(json_object_get(schema, "required")) <= PARAMETERS_MAX;
}

static struct expr *parameters(struct grammar_text *g, const struct grammar_tools *tools, const json_t *schema,
                               const char *name, unsigned number)
{
    const json_t *properties = json_object_get(schema, "properties");
    struct expr *all = seq(g);
    int looks = ENGINE_TYPES_LOOKS; /* for all of them: many may refer to the same */
    const char *key;
    json_t *v;
    if (schema && !tools->loose && !is_plain(schema))
        return unsupported(g, "a rule for all parameters", name);
    if (!json_is_object(properties) || json_object_size(properties) > PARAMETERS_MAX ||
        json_array_size(json_object_get(schema, "required")) > PARAMETERS_MAX) {
        struct expr *letter = expr_range(g, expr_range(g, expr_new(g, X_CLASS), 'a', 'z'), '0', '9');
        letter = expr_range(g, expr_range(g, expr_range(g, letter, 'A', 'Z'), '_', '_'), '-', '-');
        return expr_repeat(g, parameter(g, expr_repeat(g, letter, 1, 64), free_text(g)), 0, CALLS_MAX);
    }
    json_object_foreach((json_t *)properties, key, v)
    {
        struct expr *value = tools->loose ? free_text(g) : bare_value(g, schema, v, key, number, &looks);
        struct expr *one = is_bare_name(key, strlen(key)) ? parameter(g, text(g, key), value)
                                                          : unsupported(g, "the name of a parameter", name);
        all = expr_add(g, all, is_required(schema, key) ? one : expr_repeat(g, one, 0, 1));
    }
    return all;
}

static struct expr *xml_call(struct grammar_text *g, const struct grammar_tools *tools, const json_t *function,
                             unsigned number)
{
    const json_t *name = json_object_get(function, "name"), *schema = json_object_get(function, "parameters");
    if (!is_bare_name(json_string_value(name), json_string_length(name)))
        return unsupported(g, "the name", json_string_value(name));
    struct expr *call = expr_add(g, expr_add(g, seq(g), text(g, "<function=")), text(g, json_string_value(name)));
    call = expr_add(g, call, text(g, ">\n"));
    call = expr_add(g, call, parameters(g, tools, schema, json_string_value(name), number));
    return expr_add(g, call, text(g, "</function>"));
}

/* --- JSON ------------------------------------------------------------------------------------------- */

/* {"name": "f", "arguments": {..}} */
static struct expr *json_call(struct grammar_text *g, const struct grammar_tools *tools, const json_t *function,
                              unsigned number)
{
    const json_t *parameters_of = json_object_get(function, "parameters");
    bool any = tools->loose || !json_is_object(parameters_of) || json_object_size(parameters_of) == 0;
    bool tagged = tools->form == ENGINE_GRAMMAR_CALL_TAGGED;
    char *name = json_dumps(json_object_get(function, "name"), JSON_ENCODE_ANY);
    struct expr *call = expr_add(g, expr_add(g, seq(g), text(g, "{\"name\": ")), name ? text(g, name) : NULL);
    tunnel_json_free(name);
    call = expr_add(g, call, text(g, tagged ? ", \"arguments\": " : ", \"parameters\": "));
    call = expr_add(g, call, any ? rule_called(g, "object") : grammar_value(g, parameters_of, parameters_of, number));
    return expr_add(g, call, text(g, "}"));
}

/* --- calls ------------------------------------------------------------------------------------------ */

static struct expr *any_call(struct grammar_text *g, const struct grammar_tools *tools)
{
    struct expr *calls = expr_new(g, X_ALT);
    const json_t *tool;
    size_t i;
    json_array_foreach(tools->list, i, tool)
    {
        const json_t *function = json_object_get(tool, "function"), *name = json_object_get(function, "name");
        struct span named = span_of(json_string_value(name), json_string_length(name));
        if (named.len == 0 || (tools->only.len > 0 && !span_equal(named, tools->only)))
            continue;
        calls = expr_add(g, calls,
                         tools->form == ENGINE_GRAMMAR_CALL_XML ? xml_call(g, tools, function, (unsigned)i)
                                                                : json_call(g, tools, function, (unsigned)i));
    }
    if (calls && calls->count == 0)
        grammar_fail(g, ENGINE_E_SYNTAX, "tools: none has the name that must be called");
    return calls;
}

void grammar_from_tools(struct grammar_text *g, const struct grammar_tools *tools)
{
    int32_t root = rule_new(g, span_of(NULL, 0));
    grammar_json_rules(g);
    struct expr *one = any_call(g, tools);
    if (tools->form != ENGINE_GRAMMAR_CALL_JSON) {
        int32_t call = rule_new(g, span_of(NULL, 0));
        one = expr_add(g, expr_add(g, expr_add(g, seq(g), text(g, "<tool_call>\n")), one), text(g, "\n</tool_call>"));
        if (call >= 0)
            g->rules[call].body = one;
        one = expr_rule(g, call); /* what is used twice is built once */
        struct expr *more = expr_repeat(g, expr_pair(g, X_SEQ, text(g, "\n"), one), 0, tools->many ? CALLS_MAX - 1 : 0);
        one = expr_pair(g, X_SEQ, one, more);
    }
    if (root == 0 && one)
        g->rules[root].body = one;
}
