/* model.c - opening and closing a model, and what it says of itself. */
#include "engine/model_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STEP_TOKENS_DEFAULT 2048
#define STEP_TOKENS_MAX (1 << 20)

static size_t layer_bytes(const struct model_layer *y, const struct model_spec *s)
{
    const struct kern_matrix *all[] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down, &y->router};
    size_t sum = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sum += kern_matrix_bytes(all[i]);
    if (y->expert)
        sum += (size_t)s->experts_used * (kern_matrix_bytes(&y->expert[0].gate) + kern_matrix_bytes(&y->expert[0].up) +
                                          kern_matrix_bytes(&y->expert[0].down));
    return sum;
}

static void describe(struct engine_model *m)
{
    const struct model_spec *s = &m->spec;
    struct engine_model_info *i = &m->info;
    size_t position = 2 * (size_t)s->kv_heads * (size_t)s->head_dim * (m->exact ? sizeof(float) : sizeof(uint16_t));

    snprintf(i->arch, sizeof i->arch, "%s", s->arch);
    snprintf(i->name, sizeof i->name, "%s", s->name);
    i->vocab = s->vocab;
    i->layers = s->layers;
    i->embed = s->embed;
    i->heads = s->heads;
    i->kv_heads = s->kv_heads;
    i->head_dim = s->head_dim;
    i->window = m->group_layers[ENGINE_KV_SLIDING] > 0 ? s->window : 0;
    i->bos = s->bos;
    i->eos = s->eos;
    i->kernels = m->ops->name;
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        i->kv_bytes_per_token[g] = (size_t)m->group_layers[g] * position;
    i->weight_bytes = kern_matrix_bytes(m->head.rows ? &m->head : &m->embed);
    i->laid_out_bytes = m->planned ? m->planned_bytes : m->weights.taken;
    i->elements = m->elements;
    for (int l = 0; l < s->layers; l++)
        i->weight_bytes += layer_bytes(&m->layer[l], s);
    i->picks = m->device != NULL;
    if (m->device)
        model_device_describe(m, i);
}

static bool choose_limits(struct engine_model *m, const struct engine_model_options *o, struct engine_problem *why)
{
    struct engine_model_info *i = &m->info;
    i->context_max = o->context_max > 0 && o->context_max < m->spec.context ? o->context_max : m->spec.context;
    i->step_tokens_max = o->step_tokens_max > 0 ? o->step_tokens_max : STEP_TOKENS_DEFAULT;
    m->exact = o->exact;
    m->ops = kern_ops_find(NULL);
    if (!m->ops)
        engine_problem_set(
            why, ENGINE_E_UNSUPPORTED,
            "AIRLOCK_CPU names kernels that this machine cannot run: amx, avx512bf16, avx512, avx2 or ref");
    else if (i->step_tokens_max > STEP_TOKENS_MAX)
        engine_problem_set(why, ENGINE_E_RANGE, "a step of %d tokens is above %d", i->step_tokens_max, STEP_TOKENS_MAX);
    else if (!(m->pool = kern_pool_open(o->threads)))
        engine_problem_set(why, ENGINE_E_MEMORY, "cannot start %d threads", o->threads);
    if (m->pool && o->device)
        return model_device_open(m, o->device, o->exact, why);
    if (m->ops && !m->ops->integer)
        m->exact = true;
    return m->pool != NULL;
}

struct engine_model *engine_model_open(const struct engine_files *files, bool discard,
                                       const struct engine_model_options *options, struct engine_problem *why)
{
    static const struct engine_model_options defaults = {.threads = 0};
    struct engine_problem local = {ENGINE_OK, ""};
    struct model_source source = {.gguf = NULL};
    struct engine_model *m = calloc(1, sizeof *m);
    bool ok = m && model_source_open(&source, &m->spec, files, &local) &&
              choose_limits(m, options ? options : &defaults, &local) && model_layers_load(m, &source, discard, &local);

    if (ok && m->device)
        ok = model_device_load(m, &local);
    else if (ok && !model_work_open(m)) {
        engine_problem_set(&local, ENGINE_E_MEMORY, "no memory for the buffers of a pass");
        ok = false;
    }
    model_source_release(&source);
    if (ok) {
        describe(m);
        return m;
    }
    engine_problem_set(why, local.code ? local.code : ENGINE_E_MEMORY, "%s", local.code ? local.text : "no memory");
    engine_model_close(m);
    return NULL;
}

bool engine_model_plan(const struct engine_files *files, const struct engine_model_options *options,
                       struct engine_model_info *out, struct engine_problem *why)
{
    struct engine_model_options one = *options;
    struct model_source source;
    struct engine_model *m = calloc(1, sizeof *m);

    one.threads = 1;
    if (!m) {
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory");
        return false;
    }
    m->planned = true;
    bool ok = model_source_open(&source, &m->spec, files, why) && choose_limits(m, &one, why);
    source.shapes_only = true;
    ok = ok && model_layers_load(m, &source, false, why);
    if (ok) {
        describe(m);
        *out = m->info;
    }
    model_source_release(&source);
    engine_model_close(m);
    return ok;
}

void engine_model_close(struct engine_model *m)
{
    if (!m)
        return;
    model_device_close(m);
    model_work_close(m);
    model_layers_release(m);
    kern_pool_close(m->pool);
    free(m);
}

const struct engine_model_info *engine_model_info(const struct engine_model *m)
{
    return &m->info;
}

size_t engine_model_memory(const struct engine_model *m, size_t *all)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (m->device)
        return model_device_memory(m, all);
    *all = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    return (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
}
