/* plan.c - numbers from shapes. The sizes of weights, keys and values are those that the engine allocates itself. */
#include "engine/plan.h"

#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/artefact.h"
#include "tunnel/json.h"

#define MIB ((uint64_t)1 << 20)
#define PROGRAM_BYTES (200 * MIB)   /* of the engine beside weights, keys and values: its own bar */
#define GPU_SCRATCH ((uint64_t)4e9) /* buffers of a step, the driver, a margin */
#define STEP_TOKENS 2048            /* the default of --max-num-batched-tokens: a chunk stands beside the window */
#define WINDOW_EDGES 2              /* blocks that a window covers in part (engine/sched.c) */

/* Memory as the driver reports it, MiB. */
static const struct {
    const char *name;
    uint64_t mib;
} gpus[] = {{"a100-40", 40960},    {"a100-80", 81920},    {"h100-80", 81559},      {"h200-141", 143771},
            {"b200-192", 183359},  {"b300-288", 275040},  {"l4-24", 23034},        {"l40s-48", 46068},
            {"rtx4090-24", 24564}, {"rtx5090-32", 32607}, {"rtxpro6000-96", 97887}};
#define GPUS (sizeof gpus / sizeof *gpus)

static const uint64_t contexts[PLAN_CONTEXTS] = {8192, 32768, 131072};

/* --- devices --------------------------------------------------------------------------------------- */

const char *plan_device_names(void)
{
    static char line[256];
    size_t n = 0;
    for (size_t i = 0; i < GPUS && n < sizeof line; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%s", i ? ", " : "", gpus[i].name);
    return line;
}

static bool parse_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end), factor = 1;
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (end == text || (*end && !unit))
        return false;
    for (const char *u = units; unit && u <= unit; u++)
        factor *= 1024;
    if (unit)
        end++;
    if (strcmp(end, "") != 0 && strcmp(end, "B") != 0 && strcmp(end, "iB") != 0)
        return false;
    if (!(value * factor >= (double)MIB && value * factor < 1e18))
        return false;
    *out = (uint64_t)(value * factor);
    return true;
}

bool plan_device_find(struct plan_device *out, const char *text)
{
    *out = (struct plan_device){.memory = 0};
    snprintf(out->name, sizeof out->name, "%s", text);
    for (size_t i = 0; i < GPUS; i++)
        if (strcmp(text, gpus[i].name) == 0) {
            out->gpu = true;
            out->memory = gpus[i].mib * MIB;
            out->usable = out->memory / 100 * 95 - GPU_SCRATCH;
            return true;
        }
    if (strcmp(text, "cpu") == 0)
        out->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    else if (!parse_bytes(text, &out->memory))
        return false;
    uint64_t most = out->memory / 100 * 90; /* the rest is the system's */
    out->usable = most > PROGRAM_BYTES ? most - PROGRAM_BYTES : 0;
    return true;
}

/* --- numbers --------------------------------------------------------------------------------------- */

static uint64_t blocks_of(uint64_t tokens)
{
    return (tokens + PLAN_BLOCK - 1) / PLAN_BLOCK;
}

/* Keys and values of one sequence of `tokens`: whole blocks; sliding layers keep their window. */
static uint64_t kv_of(const struct engine_model_info *i, uint64_t tokens)
{
    uint64_t all = blocks_of(tokens), window = blocks_of((uint64_t)i->window) + WINDOW_EDGES;
    return PLAN_BLOCK * (all * i->kv_bytes_per_token[ENGINE_KV_FULL] +
                         (all < window ? all : window) * i->kv_bytes_per_token[ENGINE_KV_SLIDING]);
}

bool plan_make(struct plan *out, const struct plan_device *device, const struct engine_files *files,
               struct engine_problem *why)
{
    struct engine_model_options options = {.threads = 1};
    struct engine_model_info *i = &out->info;

    *out = (struct plan){.fits = PLAN_UNKNOWN};
    if (!engine_model_plan(files, &options, i, why))
        return false;
    out->weights = device->gpu ? 2 * i->elements : i->laid_out_bytes;
    uint64_t chunk = STEP_TOKENS * i->kv_bytes_per_token[ENGINE_KV_SLIDING], taken = out->weights + chunk,
             left = device->usable > taken ? device->usable - taken : 0, context = (uint64_t)i->context_max;
    for (int c = 0; c < PLAN_CONTEXTS; c++) {
        out->at[c].tokens = contexts[c];
        out->at[c].kv = contexts[c] <= context ? kv_of(i, contexts[c]) : 0;
        out->at[c].most = out->at[c].kv ? left / out->at[c].kv : 0;
    }
    uint64_t least = kv_of(i, context < contexts[0] ? context : contexts[0]);
    out->fits = left >= least ? PLAN_FITS : PLAN_TOO_LARGE;
    return true;
}

/* --- saying it ------------------------------------------------------------------------------------- */

static void print_text(const struct plan *p, const struct plan_device *d)
{
    const struct engine_model_info *i = &p->info;
    static const char *const names[ENGINE_KV_GROUPS] = {"full attention", "sliding window"};

    printf("model      %s%s%s, %d layers, context %d\n", i->arch, i->name[0] ? ", " : "", i->name, i->layers,
           i->context_max);
    printf("device     %s: %.1f GiB, of which %.1f GiB for weights, keys and values\n", d->name,
           (double)d->memory / (1 << 30), (double)d->usable / (1 << 30));
    printf("weights    %.1f MiB (%" PRIu64 " bytes, %s)\n", (double)p->weights / (double)MIB, p->weights,
           d->gpu ? "as bf16" : "as stored, laid out for the processor");
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        if (i->kv_bytes_per_token[g] && g == ENGINE_KV_SLIDING)
            printf("kv         %zu bytes a token, %s of %d\n", i->kv_bytes_per_token[g], names[g], i->window);
        else if (i->kv_bytes_per_token[g])
            printf("kv         %zu bytes a token, %s\n", i->kv_bytes_per_token[g], names[g]);
    for (int c = 0; c < PLAN_CONTEXTS; c++)
        if (p->at[c].kv)
            printf("at %4" PRIu64 " K  %" PRIu64 " sequences at most, %.1f MiB each\n", p->at[c].tokens / 1024,
                   p->at[c].most, (double)p->at[c].kv / (double)MIB);
        else
            printf("at %4" PRIu64 " K  beyond the model's context\n", p->at[c].tokens / 1024);
    puts(p->fits == PLAN_FITS ? "fits" : "does not fit");
}

static void print_json(const struct plan *p, const struct plan_device *d)
{
    const struct engine_model_info *i = &p->info;
    json_t *most = json_array(), *kv = json_object();
    json_t *top =
        json_pack("{s:b,s:s,s:s,s:i,s:i,s:i,s:I,s:o,s:{s:s,s:I,s:I},s:o}", "fits", p->fits == PLAN_FITS, "architecture",
                  i->arch, "name", i->name, "layers", i->layers, "context", i->context_max, "window", i->window,
                  "weights_bytes", (json_int_t)p->weights, "kv_bytes_per_token", kv, "device", "name", d->name,
                  "memory_bytes", (json_int_t)d->memory, "usable_bytes", (json_int_t)d->usable, "sequences", most);
    json_object_set_new(kv, "full", json_integer((json_int_t)i->kv_bytes_per_token[ENGINE_KV_FULL]));
    json_object_set_new(kv, "sliding", json_integer((json_int_t)i->kv_bytes_per_token[ENGINE_KV_SLIDING]));
    for (int c = 0; c < PLAN_CONTEXTS; c++)
        if (p->at[c].kv)
            json_array_append_new(most, json_pack("{s:I,s:I,s:I}", "context", (json_int_t)p->at[c].tokens, "most",
                                                  (json_int_t)p->at[c].most, "kv_bytes", (json_int_t)p->at[c].kv));
    char *text = json_dumps(top, JSON_INDENT(1));
    puts(text ? text : "{}");
    tunnel_json_free(text);
    json_decref(top);
}

/* A sealed model's manifest tells sizes alone: what is in the files is encrypted. */
static enum plan_exit plan_sealed(const char *path, const struct plan_device *d, bool json)
{
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_artefact a;
    uint64_t bytes = 0;
    if (!engine_artefact_read(&a, path, &why)) {
        fprintf(stderr, "airlock-engine plan: %s\n", why.text);
        return PLAN_UNKNOWN;
    }
    for (size_t i = 0; i < a.count; i++)
        bytes += a.file[i].size < UINT64_MAX - bytes ? a.file[i].size : UINT64_MAX - bytes;
    engine_artefact_release(&a);
    enum plan_exit out = bytes > d->memory ? PLAN_TOO_LARGE : PLAN_UNKNOWN;
    if (json)
        printf("{\n \"fits\": %s,\n \"sealed\": true,\n \"file_bytes\": %" PRIu64 "\n}\n",
               out == PLAN_TOO_LARGE ? "false" : "null", bytes);
    else
        printf("sealed: %" PRIu64 " bytes of files; %s\n", bytes,
               out == PLAN_TOO_LARGE ? "more than the device's memory: does not fit"
                                     : "the rest is encrypted: plan from the plain model");
    return out;
}

/* --- the command ------------------------------------------------------------------------------------ */

struct arguments {
    const char *model, *device;
    bool json;
};

static error_t on_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    if (key == 'd')
        a->device = value;
    else if (key == 'j')
        a->json = true;
    else if (key == ARGP_KEY_ARG && !a->model)
        a->model = value;
    else if (key == ARGP_KEY_ARG || key == ARGP_KEY_NO_ARGS)
        argp_usage(state);
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

int plan_main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"device", 'd', "WHERE", 0, "cpu (this machine, the default), the name of a GPU size, or bytes such as 24G", 0},
        {"json", 'j', NULL, 0, "for programs", 0},
        {0}};
    static const struct argp argp = {options,
                                     on_option,
                                     "MODEL",
                                     "Does MODEL (a .gguf file, a folder, or a sealed folder) fit, and how many "
                                     "sequences with it? Only the heads of "
                                     "its files are read.\vExit codes: 0 fits, 1 does not fit, 2 cannot tell.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct arguments a = {.device = "cpu"};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_files files = {0, NULL};
    struct plan_device device;
    struct plan plan;

    argp_err_exit_status = PLAN_UNKNOWN;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!plan_device_find(&device, a.device)) {
        fprintf(stderr, "airlock-engine plan: there is no device \"%.60s\"; cpu, bytes of memory (24G), or %s\n",
                a.device, plan_device_names());
        return PLAN_UNKNOWN;
    }
    if (engine_artefact_is_sealed(a.model))
        return (int)plan_sealed(a.model, &device, a.json);
    if (engine_files_load_heads(&files, a.model, &why) && plan_make(&plan, &device, &files, &why)) {
        if (a.json)
            print_json(&plan, &device);
        else
            print_text(&plan, &device);
    } else {
        plan.fits = PLAN_UNKNOWN;
        fprintf(stderr, "airlock-engine plan: %s\n", why.text);
    }
    engine_files_release(&files);
    return (int)plan.fits;
}
