#include "engine/defaults.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/shards.h"
#include "tunnel/json.h"

#define MODEL_FILE "generation_config.json"
#define NOT_STATED ((double)NAN)

static const struct field {
    const char *key, *gguf; /* its name in GGUF; NULL: there is none */
    size_t offset;
    double min, max;
    bool whole;
} fields[] = {
    {"temperature", "general.sampling.temp", offsetof(struct engine_defaults, temperature), 0, 2, false},
    {"top_p", "general.sampling.top_p", offsetof(struct engine_defaults, top_p), 0, 1, false},
    {"top_k", "general.sampling.top_k", offsetof(struct engine_defaults, top_k), -1, INT32_MAX, true},
    {"min_p", "general.sampling.min_p", offsetof(struct engine_defaults, min_p), 0, 1, false},
    {"repetition_penalty", "general.sampling.penalty_repeat", offsetof(struct engine_defaults, repetition_penalty),
     0.001, 1000, false},
    {"max_new_tokens", NULL, offsetof(struct engine_defaults, max_new_tokens), 1, INT32_MAX, true},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static double *value_at(struct engine_defaults *d, const struct field *f)
{
    return (double *)(void *)((char *)d + f->offset);
}

static double value_of(const struct engine_defaults *d, const struct field *f)
{
    return *(const double *)(const void *)((const char *)d + f->offset);
}

/* `advice`: what whoever cannot mend the text may do. */
static bool refuse(struct engine_problem *why, const char *from, const char *key, const struct field *f,
                   const char *advice)
{
    engine_problem_set(why, ENGINE_E_RANGE, "%s: %s must be a %s from %.10g to %.10g%s", from, key,
                       f->whole ? "whole number" : "number", f->min, f->max, advice);
    return false;
}

#define LEAVE_ASIDE "; --generation-config vllm leaves the model's defaults aside"

/* --- texts ------------------------------------------------------------------------------------------------------ */

static bool take_member(struct engine_defaults *d, const struct field *f, const json_t *v)
{
    double x = json_number_value(v);
    bool null = json_is_null(v);
    if (!null && (!(f->whole ? json_is_integer(v) : json_is_number(v)) || !(x >= f->min && x <= f->max)))
        return false;
    *value_at(d, f) = null ? NOT_STATED : x;
    return true;
}

static bool take_members(struct engine_defaults *d, const json_t *object, const char *from, const char *advice,
                         struct engine_problem *why)
{
    for (size_t i = 0; i < FIELDS; i++) {
        const json_t *v = json_object_get(object, fields[i].key);
        if (v && !take_member(d, &fields[i], v))
            return refuse(why, from, fields[i].key, &fields[i], advice);
    }
    return true;
}

static json_t *parse_object(struct span text, const char *from, struct engine_problem *why)
{
    char reason[128] = "it is no object";
    json_t *v = text.len <= ENGINE_DEFAULTS_TEXT_MAX ? tunnel_json_parse(text, reason, sizeof reason) : NULL;
    if (json_is_object(v))
        return v;
    if (text.len > ENGINE_DEFAULTS_TEXT_MAX)
        engine_problem_set(why, ENGINE_E_LIMIT, "%s has %zu bytes; at most %d are read", from, text.len,
                           ENGINE_DEFAULTS_TEXT_MAX);
    else
        engine_problem_set(why, ENGINE_E_FORMAT, "%s must be a JSON object: %s", from, reason);
    json_decref(v);
    return NULL;
}

static bool take_text(struct engine_defaults *d, struct span text, struct engine_problem *why)
{
    json_t *object = parse_object(text, MODEL_FILE, why);
    bool ok = object && take_members(d, object, MODEL_FILE, LEAVE_ASIDE, why);
    json_decref(object);
    return ok;
}

bool engine_defaults_override(struct engine_defaults *d, const char *json, struct engine_problem *why)
{
    static const char from[] = "override-generation-config";
    json_t *object = parse_object(span_str(json), from, why), *value;
    bool ok = object && take_members(d, object, from, "", why);
    const char *key;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (i < FIELDS && strcmp(fields[i].key, key) != 0)
            i++;
        if (ok && i == FIELDS) {
            engine_problem_set(why, ENGINE_E_UNSUPPORTED,
                               "%s: \"%.60s\" is not known here; temperature, top_p, top_k, min_p, repetition_penalty "
                               "and max_new_tokens are",
                               from, key);
            ok = false;
        }
    }
    json_decref(object);
    return ok;
}

/* --- GGUF ------------------------------------------------------------------------------------------------------- */

/* A float32 as it was written in decimal: 0.6 and not 0.60000002384, which a policy's bound of 0.6 would refuse. */
static double as_written(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", x);
    return strtod(text, NULL);
}

static bool take_gguf(struct engine_defaults *d, const struct engine_files *files, struct engine_problem *why)
{
    struct engine_gguf *g;
    bool ok = true;
    if (!engine_shards_open(files, &g, why))
        return false;
    for (size_t i = 0; g && ok && i < FIELDS; i++) {
        const struct field *f = &fields[i];
        const struct engine_gguf_value *v = f->gguf ? engine_gguf_find(g, f->gguf) : NULL;
        double x = NOT_STATED;
        if (!v)
            continue;
        bool number = engine_gguf_f64(g, f->gguf, &x);
        if (v->type == ENGINE_GGUF_F32)
            x = as_written(x);
        ok = number && x >= f->min && x <= f->max && (!f->whole || (v->type != ENGINE_GGUF_F32 && floor(x) == x));
        if (ok)
            *value_at(d, f) = x;
        else
            refuse(why, "GGUF", f->gguf, f, LEAVE_ASIDE);
    }
    engine_gguf_close(g);
    return ok;
}

/* --- all together ----------------------------------------------------------------------------------------------- */

bool engine_defaults_read(struct engine_defaults *out, const struct engine_files *files,
                          const struct engine_options *options, struct engine_problem *why)
{
    const struct engine_file *own = engine_files_find(files, MODEL_FILE);
    bool ok = true;
    for (size_t i = 0; i < FIELDS; i++)
        *value_at(out, &fields[i]) = NOT_STATED;
    if (options->generation == ENGINE_GENERATION_GIVEN)
        ok = take_text(out, options->generation_config, why);
    else if (options->generation == ENGINE_GENERATION_MODEL)
        ok = own ? take_text(out, own->bytes, why) : take_gguf(out, files, why);
    return ok && (!options->override_generation || engine_defaults_override(out, options->override_generation, why));
}

uint32_t engine_defaults_most(const struct engine_defaults *d)
{
    return isnan(d->max_new_tokens) ? 0 : (uint32_t)d->max_new_tokens;
}

static void settle(double *value, double model, double api)
{
    if (isnan(*value))
        *value = isnan(model) ? api : model;
}

void engine_defaults_settle(const struct engine_defaults *d, struct tunnel_request *q)
{
    uint32_t most = engine_defaults_most(d);
    settle(&q->temperature, d->temperature, 1);
    settle(&q->top_p, d->top_p, 1);
    settle(&q->min_p, d->min_p, 0);
    settle(&q->repetition_penalty, d->repetition_penalty, 1);
    if (q->top_k == TUNNEL_TOP_K_LEFT_OUT)
        q->top_k = d->top_k > 0 ? (uint32_t)d->top_k : 0;
    if (!q->has_max_tokens && most > 0 && (q->max_tokens == 0 || most < q->max_tokens))
        q->max_tokens = most;
}

void engine_defaults_print(const struct engine_defaults *d, char *out, size_t cap)
{
    size_t len = (size_t)snprintf(out, cap, "api");
    for (size_t i = 0, stated = 0; i < FIELDS && len < cap; i++) {
        double x = value_of(d, &fields[i]);
        if (isnan(x))
            continue;
        len = stated++ ? len : 0;
        len += (size_t)snprintf(out + len, cap - len, "%s%s:%.10g", len ? "," : "", fields[i].key, x);
    }
}
