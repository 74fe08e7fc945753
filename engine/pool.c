/* pool.c - embeddings: the states of a prompt's tokens as one vector. A sum runs over positions in order, in double:
 * the same bits however the prompt was cut into steps. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "engine/job.h"
#include "engine/shards.h"
#include "verifier/base/secret.h"

enum {
    EVENT_FLOATS = 2048, /* of one event: 8 KiB (tunnel/message.h) */
    JSON_LEN_MAX = 64 << 10,
};

#define MODULES_FILE "modules.json"

/* --- what the model wants ------------------------------------------------------------------------------------- */

static bool not_served(struct engine_problem *why, const char *file, const char *key, const char *value)
{
    engine_problem_set(why, ENGINE_E_UNSUPPORTED,
                       "%s: %.60s %.60s is not served; mean, cls and last are (--pooler-config chooses one of them)",
                       file, key, value);
    return false;
}

/* `*out` NULL: the file is not there. */
static bool parse_file(const struct engine_files *files, const char *path, json_t **out, struct engine_problem *why)
{
    const struct engine_file *f = engine_files_find(files, path);
    *out = f && f->bytes.len <= JSON_LEN_MAX
               ? json_loadb((const char *)f->bytes.data, f->bytes.len, JSON_REJECT_DUPLICATES, NULL)
               : NULL;
    if (f && !*out)
        engine_problem_set(why, ENGINE_E_FORMAT, "%s is not JSON of at most %d bytes", path, JSON_LEN_MAX);
    return !f || *out;
}

/* The value of "pooling_mode", or what follows it in the name of a flag. */
static bool pooling_named(enum engine_pooling *out, const char *name)
{
    static const struct {
        const char *name;
        enum engine_pooling pooling;
    } names[] = {{"mean", ENGINE_POOLING_MEAN},      {"_mean_tokens", ENGINE_POOLING_MEAN},
                 {"cls", ENGINE_POOLING_CLS},        {"_cls_token", ENGINE_POOLING_CLS},
                 {"lasttoken", ENGINE_POOLING_LAST}, {"_lasttoken", ENGINE_POOLING_LAST}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0) {
            *out = names[i].pooling;
            return true;
        }
    return false;
}

/* Sentence Transformers' module Pooling: one flag "pooling_mode_..." is true, or "pooling_mode" names one. */
static bool pooling_of_module(enum engine_pooling *out, const json_t *module, int embed, struct engine_problem *why)
{
    static const char prefix[] = "pooling_mode";
    const json_t *dimension = json_object_get(module, "word_embedding_dimension"), *value;
    const char *key;
    size_t found = 0;
    if (!json_is_object(module) ||
        (dimension && (!json_is_integer(dimension) || json_integer_value(dimension) != embed))) {
        engine_problem_set(why, ENGINE_E_SHAPE, ENGINE_FILES_POOLING ": word_embedding_dimension is not the model's %d",
                           embed);
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)module, key, value)
    {
        const char *text = json_string_value(value);
        if (strncmp(key, prefix, sizeof prefix - 1) != 0 || json_is_false(value))
            continue;
        if (found++ > 0)
            return not_served(why, ENGINE_FILES_POOLING, key, "beside another");
        if (!pooling_named(out, text ? text : key + sizeof prefix - 1) || (!text && !json_is_true(value)))
            return not_served(why, ENGINE_FILES_POOLING, key, text ? text : "");
    }
    return found == 1 || not_served(why, ENGINE_FILES_POOLING, "a file without", prefix);
}

/* Nothing but the model, its pooling and the length: a matrix behind them would make other vectors. */
static bool modules_are_served(const struct engine_files *files, struct engine_problem *why)
{
    static const char *const served[] = {"Transformer", "Pooling", "Normalize"};
    json_t *modules, *module;
    size_t i;
    if (!parse_file(files, MODULES_FILE, &modules, why))
        return false;
    bool ok = !modules || json_is_array(modules);
    if (!ok)
        engine_problem_set(why, ENGINE_E_FORMAT, MODULES_FILE " is no list");
    json_array_foreach(modules, i, module)
    {
        const char *type = json_string_value(json_object_get(module, "type"));
        const char *dot = type ? strrchr(type, '.') : NULL, *name = dot ? dot + 1 : type ? type : "?";
        size_t k = 0;
        while (k < sizeof served / sizeof *served && strcmp(served[k], name) != 0)
            k++;
        if (ok && k == sizeof served / sizeof *served) {
            engine_problem_set(why, ENGINE_E_UNSUPPORTED, MODULES_FILE ": module %.60s is not served", name);
            ok = false;
        }
    }
    json_decref(modules);
    return ok;
}

/* <arch>.pooling_type: 0 none, 1 mean, 2 CLS, 3 last, 4 rank (llama.cpp, enum llama_pooling_type). */
static bool pooling_of_gguf(enum engine_pooling *out, const struct engine_gguf *gguf, const char *arch,
                            struct engine_problem *why)
{
    static const enum engine_pooling types[] = {ENGINE_POOLING_LAST, ENGINE_POOLING_MEAN, ENGINE_POOLING_CLS,
                                                ENGINE_POOLING_LAST};
    char key[64], value[24];
    uint64_t type = 0;
    snprintf(key, sizeof key, "%s.pooling_type", arch);
    (void)engine_gguf_u64(gguf, key, &type);
    snprintf(value, sizeof value, "%llu", (unsigned long long)type);
    if (type >= sizeof types / sizeof *types)
        return not_served(why, "the file", key, value);
    *out = types[type];
    return true;
}

bool pool_of_files(enum engine_pooling *pooling, const struct engine_files *files, const struct engine_model_info *info,
                   struct engine_problem *why)
{
    struct engine_gguf *gguf;
    json_t *module = NULL;
    if (!engine_shards_open(files, &gguf, why))
        return false;
    bool ok = gguf || (modules_are_served(files, why) && parse_file(files, ENGINE_FILES_POOLING, &module, why));
    if (ok && *pooling == ENGINE_POOLING_MODEL) {
        *pooling = ENGINE_POOLING_LAST;
        ok = gguf     ? pooling_of_gguf(pooling, gguf, info->arch, why)
             : module ? pooling_of_module(pooling, module, info->embed, why)
                      : true;
    }
    json_decref(module);
    engine_gguf_close(gguf);
    return ok;
}

/* --- vectors ---------------------------------------------------------------------------------------------------- */

bool pool_begin(struct choice *c)
{
    if (!c->pooled && c->pooled_floats > 0)
        c->pooled = calloc(c->pooled_floats, sizeof *c->pooled);
    return c->pooled || c->pooled_floats == 0;
}

void pool_add(const struct engine *e, struct choice *c, uint32_t pos, uint32_t count, const float *states)
{
    enum engine_pooling pooling = e->options.pooling;
    for (uint32_t i = 0; i < count; i++, states += c->pooled_floats) {
        bool sum = pooling == ENGINE_POOLING_MEAN && c->pooled_count > 0;
        if (pooling != ENGINE_POOLING_LAST && pos + i != c->pooled_count)
            continue; /* taken in before a preemption */
        if (pooling == ENGINE_POOLING_CLS && c->pooled_count > 0)
            return;
        for (size_t k = 0; k < c->pooled_floats; k++)
            c->pooled[k] = (sum ? c->pooled[k] : 0) + (double)states[k];
        c->pooled_count++;
    }
}

static double factor_of(const struct engine *e, const struct choice *c)
{
    double squares = 0;
    for (size_t k = 0; k < c->pooled_floats; k++)
        squares += c->pooled[k] * c->pooled[k];
    if (e->options.raw_vectors)
        return 1 / (double)c->pooled_count;
    return squares > 0 ? 1 / sqrt(squares) : 0;
}

void pool_finish(struct engine *e, struct choice *c)
{
    uint8_t bytes[4 * EVENT_FLOATS];
    double factor = factor_of(e, c);
    for (size_t done = 0, n; done < c->pooled_floats; done += n) {
        n = c->pooled_floats - done < EVENT_FLOATS ? c->pooled_floats - done : EVENT_FLOATS;
        for (size_t k = 0; k < n; k++) {
            float v = (float)(c->pooled[done + k] * factor);
            uint32_t bits;
            memcpy(&bits, &v, sizeof bits);
            for (int b = 0; b < 4; b++)
                bytes[4 * k + (size_t)b] = (uint8_t)(bits >> (24 - 8 * b));
        }
        struct tunnel_event ev = {.kind = TUNNEL_EVENT_RESULT, .index = c->index, .floats = span_of(bytes, 4 * n)};
        job_send(c->job, &ev);
    }
    secret_wipe(bytes, sizeof bytes);
    secret_wipe(c->pooled, c->pooled_floats * sizeof *c->pooled);
    free(c->pooled);
    c->pooled = NULL;
    choice_end(e, c);
    pthread_mutex_lock(&e->lock);
    e->stats.prompt_tokens += c->prompt_len;
    e->stats.finished_stop++;
    pthread_mutex_unlock(&e->lock);
}
