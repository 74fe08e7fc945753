/* Does every model of $AIRLOCK_SHARED/models/tiny give the logits of $AIRLOCK_SHARED/vectors/logits (see its README)?
 * Each GGUF file and each safetensors folder runs twice: in f32, to the stated bar, and on the fast path, to a bar of
 * its own. The same prompt cut into steps, beside other sequences and on other blocks must give the very same bits.
 * Built a second time as vectors_logits_device, it asks the same of the CUDA device's sources on an emulated device. */
#include "engine/model.h"
#include "kernels/kernels.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef LOGITS_DEVICE /* slow: what was loaded is the same from either source, what is cut the same in either mode */
enum { SOURCES = 1, CUTS_EXACT = 0 };
#else
#define LOGITS_DEVICE NULL /* the processor */
enum { SOURCES = 2, CUTS_EXACT = 1 };
#endif
#define PROMPT_MAX 200
#define BLOCKS 64
#define CONTEXT_BLOCKS 16 /* of a sequence */
#define CONTEXT_MAX 160   /* what long RoPE chooses its factors by; prompt and greedy ids fit */
#define PIECES 6          /* that a prompt is fed in */

static int passed, failed, skipped;
static int prompt; /* tokens of it */
static char shared[512];

static void verdict(const char *name, const char *what, bool ok, const char *detail)
{
    if (ok)
        passed++;
    else
        failed++;
    if (!ok || getenv("AIRLOCK_VERBOSE"))
        printf("logits %s %s: %s %s\n", name, what, ok ? "ok" : "FAILED", detail);
}

static bool read_tokens(int32_t *tokens)
{
    char path[700];
    snprintf(path, sizeof path, "%s/vectors/logits/tokens.txt", shared);
    FILE *f = fopen(path, "r");
    while (f && prompt < PROMPT_MAX && fscanf(f, "%d", &tokens[prompt]) == 1)
        prompt++;
    if (f)
        fclose(f);
    return prompt > PIECES;
}

static float *read_logits(const char *file, int vocab)
{
    char path[1024];
    size_t n = (size_t)prompt * (size_t)vocab;
    float *out = malloc(n * sizeof *out);
    snprintf(path, sizeof path, "%s/%s", shared, file);
    FILE *f = fopen(path, "rb");
    if (!f || !out || fread(out, sizeof *out, n, f) != n) {
        free(out);
        out = NULL;
    }
    if (f)
        fclose(f);
    return out;
}

static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0 && isfinite(difference) ? sqrt(difference / norm) : INFINITY;
}

struct run {
    struct engine_model *model;
    struct engine_kv *kv;
    int vocab;
    int32_t tables[3][CONTEXT_BLOCKS]; /* of three sequences: in order, backwards, scattered */
};

static bool run_open(struct run *r, const struct engine_files *files, bool exact, struct engine_problem *why)
{
    struct engine_model_options options = {.threads = 2,
                                           .context_max = CONTEXT_MAX,
                                           .exact = exact,
                                           .device = LOGITS_DEVICE,
                                           .step_tokens_max = 2 * prompt};
    static const int blocks[ENGINE_KV_GROUPS] = {BLOCKS, BLOCKS};
    r->model = engine_model_open(files, false, &options, why);
    r->kv = r->model ? engine_kv_open(r->model, 16, blocks, why) : NULL;
    for (int i = 0; i < CONTEXT_BLOCKS; i++) {
        r->tables[0][i] = i;
        r->tables[1][i] = 2 * CONTEXT_BLOCKS - 1 - i;
        r->tables[2][i] = 2 * CONTEXT_BLOCKS + (i * 7) % CONTEXT_BLOCKS;
    }
    r->vocab = r->model ? engine_model_info(r->model)->vocab : 0;
    return r->kv != NULL;
}

static void run_close(struct run *r)
{
    engine_kv_close(r->kv);
    engine_model_close(r->model);
}

static struct engine_step_seq part(const struct run *r, int which, const int32_t *tokens, int pos, int count)
{
    return (struct engine_step_seq){tokens + pos, count, pos, {r->tables[which], r->tables[which]}, ENGINE_LOGITS_ALL};
}

/* The whole prompt in one step. */
static bool run_plain(struct run *r, const int32_t *tokens, float *logits)
{
    struct engine_step_seq seq = part(r, 0, tokens, 0, prompt);
    return engine_model_step(r->model, r->kv, &seq, 1, logits) == ENGINE_OK;
}

/* Two sequences on other blocks, cut at other places, in the same steps. Both must equal the plain run. */
static bool run_mixed(struct run *r, const int32_t *tokens, const float *plain, float *scratch)
{
    int at[2] = {0, 0}, cuts[2][PIECES] = {{prompt / 4, 1, 1, prompt / 3, 2}, {1, prompt / 2, 2, 5, prompt / 5}};
    bool same = true;
    for (int s = 0; s < 2; s++) { /* the last piece is what is left */
        cuts[s][PIECES - 1] = prompt;
        for (int i = 0; i < PIECES - 1; i++)
            cuts[s][PIECES - 1] -= cuts[s][i];
    }
    for (int step = 0; step < PIECES; step++) {
        struct engine_step_seq seqs[2];
        for (int s = 0; s < 2; s++)
            seqs[s] = part(r, s + 1, tokens, at[s], cuts[s][step]);
        if (engine_model_step(r->model, r->kv, seqs, 2, scratch) != ENGINE_OK)
            return false;
        const float *row = scratch;
        for (int s = 0; s < 2; s++) {
            size_t n = (size_t)cuts[s][step] * (size_t)r->vocab;
            same &= memcmp(row, plain + (size_t)at[s] * (size_t)r->vocab, n * sizeof *row) == 0;
            row += n;
            at[s] += cuts[s][step];
        }
    }
    return same;
}

static int greatest(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* Continue after the plain run; a wrong id is forgiven where the right one came within `slack`. */
static bool run_greedy(struct run *r, const json_t *want, const float *plain, float *scratch, float slack)
{
    const float *logits = plain + (size_t)(prompt - 1) * (size_t)r->vocab;
    for (int i = 0; (size_t)i < json_array_size(want) && prompt + i < 16 * CONTEXT_BLOCKS; i++) {
        int32_t id = (int32_t)json_integer_value(json_array_get(want, (size_t)i));
        int best = greatest(logits, r->vocab);
        if (best != id && logits[best] - logits[id] > slack)
            return false;
        struct engine_step_seq seq = {&id, 1, prompt + i, {r->tables[0], r->tables[0]}, ENGINE_LOGITS_LAST};
        if (engine_model_step(r->model, r->kv, &seq, 1, scratch) != ENGINE_OK)
            return false;
        logits = scratch;
    }
    return true;
}

/* Weights in bf16, for which some tables round activations to bf16 too. */
static bool in_bf16(const char *name, const char *path)
{
    return strstr(path, "-hf") || strstr(name, "BF16");
}

static double bar(const char *name, const char *path, bool exact, const struct engine_model_info *info)
{
    bool oss = strncmp(name, "gptoss", 6) == 0,
         experts = oss || strncmp(name, "mixtral", 7) == 0 || strstr(name, "moe");
    bool quantized = strstr(name, "-Q") || strstr(name, "MXFP4");
    if (exact || strcmp(info->kernels, "ref") == 0)
        return oss ? 1e-4 : 1e-5;
    if (info->picks) /* a device: weights and activations in bf16 */
        return experts ? 8e-2 : 2e-2;
    if (in_bf16(name, path) && kern_ops_find(info->kernels)->round)
        return experts ? 8e-2 : 8e-3; /* eight bits of mantissa; a close choice of experts may turn */
    if (quantized)                    /* int8 activations, which may also turn a close choice of experts */
        return oss ? 8e-2 : 4e-2;
    return 2e-3; /* keys and values in f16 */
}

static void run_source(const char *name, const char *path, const json_t *entry, const int32_t *tokens,
                       const float *reference, int vocab, bool exact)
{
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_files files;
    struct run r = {.kv = NULL};
    const char *device = LOGITS_DEVICE;
    char what[64], detail[320];

    const struct kern_ops *ops = kern_ops_find(NULL);
    snprintf(what, sizeof what, "%s %s%s", strstr(path, "-hf") ? "safetensors" : "gguf",
             exact ? "f32"
             : ops ? ops->name
                   : "?",
             device ? ", emulated device" : "");
    if (!engine_files_load(&files, path, &why) || !run_open(&r, &files, exact, &why)) {
        if (why.code == ENGINE_E_UNSUPPORTED) {
            skipped++;
            printf("logits %s %s: SKIP %s\n", name, what, why.text);
        } else {
            verdict(name, what, false, why.text);
        }
    } else {
        size_t n = (size_t)prompt * (size_t)vocab;
        float *plain = malloc(n * sizeof *plain), *scratch = malloc(n * sizeof *scratch);
        bool ran = r.vocab == vocab && run_plain(&r, tokens, plain);
        double far = ran ? distance(plain, reference, n) : INFINITY,
               limit = bar(name, path, exact, engine_model_info(r.model));
        snprintf(detail, sizeof detail, "(distance %.2g, at most %.0e)", far, limit);
        verdict(name, what, far <= limit, detail);
        if (CUTS_EXACT || !exact)
            verdict(name, what, ran && run_mixed(&r, tokens, plain, scratch),
                    "cut, batched and scattered: the same bits");
        if (exact)
            verdict(name, what, ran && run_greedy(&r, json_object_get(entry, "greedy"), plain, scratch, 1e-3f),
                    "greedy");
        free(plain);
        free(scratch);
    }
    run_close(&r);
    engine_files_release(&files);
}

static void run_entry(const json_t *entry, const int32_t *tokens)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *logits = json_string_value(json_object_get(entry, "logits"));
    static const char *const sources[] = {"gguf", "hf"};
    const json_t *shape = json_object_get(entry, "shape");
    int vocab = (int)json_integer_value(json_array_get(shape, 1));
    bool readable = logits && json_integer_value(json_array_get(shape, 0)) == prompt && vocab > 0 && vocab < 1 << 20;
    float *reference = readable ? read_logits(logits, vocab) : NULL;
    if (!name || !reference) {
        failed++;
        printf("logits %s: its logits cannot be read\n", name ? name : "?");
        return;
    }
    for (int s = 0; s < SOURCES; s++) {
        const char *file = json_string_value(json_object_get(entry, sources[s]));
        char path[1024];
        if (!file)
            continue;
        snprintf(path, sizeof path, "%s/%s", shared, file);
        run_source(name, path, entry, tokens, reference, vocab, true);
        run_source(name, path, entry, tokens, reference, vocab, false);
        if (!in_bf16(name, path) || !kern_ops_find(NULL)->round)
            continue;
        const char *named = getenv("AIRLOCK_CPU"); /* once more without that rounding, to the narrow bar */
        char before[32];
        snprintf(before, sizeof before, "%s", named ? named : "");
        setenv("AIRLOCK_CPU", "avx512", 1);
        run_source(name, path, entry, tokens, reference, vocab, false);
        if (named)
            setenv("AIRLOCK_CPU", before, 1);
        else
            unsetenv("AIRLOCK_CPU");
    }
    free(reference);
}

/* The small trained model: 100 ids from its first token, no near ties. */
static void run_trained(void)
{
    char path[700];
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_files files = {0, NULL};
    struct run r = {.kv = NULL};
    snprintf(path, sizeof path, "%s/models/aidreams260K/expected.json", shared);
    if (access(path, R_OK) != 0) {
        printf("logits aidreams260K: SKIP no %s\n", path);
        skipped++;
        return;
    }
    json_t *expected = json_load_file(path, 0, NULL);
    const json_t *ids = json_object_get(expected, "greedy_ids");
    int32_t id = (int32_t)json_integer_value(json_array_get(json_object_get(expected, "prompt_ids"), 0));

    snprintf(path, sizeof path, "%s/models/aidreams260K/aidreams260K.gguf", shared);
    bool ok = json_array_size(ids) > 0 && engine_files_load(&files, path, &why) && run_open(&r, &files, true, &why);
    float *logits = malloc((size_t)(ok ? r.vocab : 1) * sizeof *logits);
    for (int i = 0; ok && (size_t)i < json_array_size(ids); i++) {
        struct engine_step_seq seq = {&id, 1, i, {r.tables[0], r.tables[0]}, ENGINE_LOGITS_LAST};
        ok = engine_model_step(r.model, r.kv, &seq, 1, logits) == ENGINE_OK;
        id = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
        ok = ok && greatest(logits, r.vocab) == id;
    }
    verdict("aidreams260K", "gguf f32", ok, why.code ? why.text : "greedy");
    free(logits);
    run_close(&r);
    engine_files_release(&files);
    json_decref(expected);
}

/* "tiny": the folder has models made for their logits alone, and no trained one. */
int main(int argc, char **argv)
{
    const char *from = getenv("AIRLOCK_SHARED");
    bool trained = argc < 2 || strcmp(argv[1], "tiny") != 0;
    char path[700];
    int32_t tokens[PROMPT_MAX];
    snprintf(shared, sizeof shared, "%s", from ? from : "../shared");
    snprintf(path, sizeof path, "%s/vectors/logits/manifest.json", shared);
    if (access(path, R_OK) != 0) {
        printf("logits: 0 passed, 0 failed, 1 skipped (no %s)\n", path);
        return 77;
    }
    json_t *manifest = json_load_file(path, 0, NULL);
    if (!json_is_array(manifest) || !read_tokens(tokens)) {
        printf("logits: 0 passed, 1 failed, 0 skipped (the manifest or the prompt cannot be read)\n");
        return 1;
    }
    for (size_t i = 0; i < json_array_size(manifest); i++)
        run_entry(json_array_get(manifest, i), tokens);
    json_decref(manifest);
    if (trained)
        run_trained();
    printf("logits: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? 1 : 0;
}
