/* config_json.c - flags whose value is a JSON object. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/config.h"

/* The object in `text`, an empty one for an empty text. NULL with `why`. */
static json_t *parse_object(const char *flag, const char *text, char why[512])
{
    json_error_t error;
    json_t *v = text[0] ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : json_object();
    if (json_is_object(v))
        return v;
    json_decref(v);
    snprintf(why, 512, "%s: the value must be a JSON object, like '{\"key\": 1}'", flag);
    return NULL;
}

/* Is every key one of `known`, a list that NULL ends? */
static bool keys_are_known(const char *flag, json_t *object, const char *const *known, char why[512])
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (known[i])
            continue;
        snprintf(why, 512, "%s: \"%.60s\" is not known here", flag, key);
        return false;
    }
    return true;
}

bool config_pooler(struct engine_options *out, const char *json, char why[512])
{
    static const char *const known[] = {"pooling_type", "normalize", NULL};
    json_t *v = parse_object("pooler-config", json, why);
    json_t *type = json_object_get(v, "pooling_type"), *normalize = json_object_get(v, "normalize");
    const char *name = json_string_value(type);
    bool ok = v && keys_are_known("pooler-config", v, known, why);
    bool known_name = true;
    out->pooling = ENGINE_POOLING_MODEL;
    if (name && strcasecmp(name, "mean") == 0)
        out->pooling = ENGINE_POOLING_MEAN;
    else if (name && strcasecmp(name, "cls") == 0)
        out->pooling = ENGINE_POOLING_CLS;
    else if (name && strcasecmp(name, "last") == 0)
        out->pooling = ENGINE_POOLING_LAST;
    else
        known_name = !type;
    out->raw_vectors = json_is_false(normalize);
    if (ok && (!known_name || (normalize && !json_is_boolean(normalize)))) {
        snprintf(why, 512,
                 "pooler-config: pooling_type must be \"MEAN\", \"CLS\" or \"LAST\", normalize true or false");
        ok = false;
    }
    json_decref(v);
    return ok;
}

/* An integer from 1 to `most`; `fallback` where there is none. False when it is something else. */
static bool take_count(json_t *v, const char *key, json_int_t most, uint32_t fallback, uint32_t *out)
{
    json_t *n = json_object_get(v, key);
    *out = n ? (uint32_t)json_integer_value(n) : fallback;
    return !n || (json_is_integer(n) && json_integer_value(n) >= 1 && json_integer_value(n) <= most);
}

/* Of the two lengths, one that is not given is the other; 5 without any, as in vLLM. */
bool config_speculative(struct engine_options *out, const char *json, char why[512])
{
    static const char *const known[] = {"method", "num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min",
                                        NULL};
    json_t *v = parse_object("speculative-config", json, why);
    const char *method = json_string_value(json_object_get(v, "method"));
    struct engine_ngram g = {0};
    bool ok = v && keys_are_known("speculative-config", v, known, why), any = json[0] != 0;
    bool good = take_count(v, "num_speculative_tokens", ENGINE_GUESSES_MAX, 0, &g.tokens) &&
                take_count(v, "prompt_lookup_max", 64, 0, &g.longest) &&
                take_count(v, "prompt_lookup_min", 64, 0, &g.least);
    g.longest = g.longest ? g.longest : g.least ? g.least : 5;
    g.least = g.least ? g.least : g.longest;
    if (ok && any && (!method || strcmp(method, "ngram") != 0 || !good || g.tokens == 0 || g.least > g.longest)) {
        snprintf(why, 512,
                 "speculative-config: method must be \"ngram\", num_speculative_tokens 1 to %d, prompt_lookup_max and "
                 "prompt_lookup_min 1 to 64, the second no more than the first",
                 ENGINE_GUESSES_MAX);
        ok = false;
    }
    out->ngram = any ? g : (struct engine_ngram){0};
    json_decref(v);
    return ok;
}
