/* bench_engine.c - the engine's forward pass on this machine, for bench_engine.py and for people.
 *   bench_engine --model FILE [--threads N] [--case NAME]...
 * decodeN: N sequences, one token each a step, after 16 of context; prefillN: one prompt of N tokens; without --case:
 * decode1, decode32, prefill512; "machine": only what the machine can do. Prints one line a case: name, tokens a
 * second, share of its limit. The limit of decoding is reading every weight of the file once a step at the bandwidth
 * measured right before and after; that of a prompt is the multiplications of its weights at the rate of the machine's
 * int8 or bf16 instruction from registers. A case during which others used the processors is taken again, at most four
 * times; then its line says "busy". */
#include "engine/gguf.h"
#include "engine/model.h"
#include "kernels/quant.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>

#define SEQUENCES_MAX 64
#define TABLE 64 /* blocks of a sequence */
#define CASES_MAX 16
#define TRIES 5
#define LEAST_SECONDS 0.7 /* of a case: others' time is counted in hundredths of a second */

struct bench {
    struct kern_pool *pool;
    struct machine machine;
    struct engine_model *model;
    struct engine_kv *kv;
    const struct engine_model_info *info;
    double token_bytes; /* of the file, read for one token */
    double operations;  /* of weights, a prompt token, without the output matrix: that works for the last token alone */
    bool bf16;          /* which rate prompts are held against */
    float *logits;
    int32_t table[SEQUENCES_MAX][TABLE];
};

/* --- the file: what a token costs at least --------------------------------------------------------- */

static bool starts(struct span name, const char *with)
{
    return name.len >= strlen(with) && memcmp(name.data, with, strlen(with)) == 0;
}

static bool weigh(struct bench *b, const struct engine_files *files, struct engine_problem *why)
{
    if (files->count != 1) /* a Hugging Face directory: the laid-out weights are near enough */
        return true;
    struct engine_gguf *g = engine_gguf_parse(files->file[0].bytes, why);
    if (!g)
        return false;
    bool own_head = engine_gguf_tensor_find(g, "output.weight") != NULL;
    for (size_t i = 0; i < engine_gguf_tensor_count(g); i++) {
        const struct engine_gguf_tensor *t = engine_gguf_tensor(g, i);
        if (!own_head || !starts(t->name, "token_embd.weight"))
            b->token_bytes += (double)t->data.len;
        if (starts(t->name, "blk.") && t->dims > 1)
            b->operations += 2.0 * (double)t->dim[0] * (double)t->dim[1] * (double)t->dim[2];
        if (starts(t->name, "blk.0.ffn_down"))
            b->bf16 = t->type == KERN_BF16 || t->type == KERN_F16 || t->type == KERN_F32;
    }
    engine_gguf_close(g);
    return true;
}

static bool bench_open(struct bench *b, const char *path, int threads)
{
    static const int blocks[ENGINE_KV_GROUPS] = {SEQUENCES_MAX * TABLE, SEQUENCES_MAX * TABLE};
    struct engine_model_options options = {.threads = threads, .context_max = TABLE * 16};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_files files;
    if (!engine_files_load(&files, path, &why) || !weigh(b, &files, &why) ||
        !(b->model = engine_model_open(&files, true, &options, &why)) ||
        !(b->kv = engine_kv_open(b->model, 16, blocks, &why))) {
        fprintf(stderr, "bench_engine: %s\n", why.text);
        return false;
    }
    b->info = engine_model_info(b->model);
    if (b->token_bytes == 0)
        b->token_bytes = (double)b->info->weight_bytes;
    b->logits = malloc((size_t)SEQUENCES_MAX * (size_t)b->info->vocab * sizeof *b->logits);
    for (int s = 0; s < SEQUENCES_MAX; s++)
        for (int i = 0; i < TABLE; i++)
            b->table[s][i] = s * TABLE + i;
    return b->logits != NULL;
}

/* --- cases ------------------------------------------------------------------------------------------- */

static struct engine_step_seq sequence(struct bench *b, int s, const int32_t *tokens, int pos, int count)
{
    return (struct engine_step_seq){tokens, count, pos, {b->table[s], b->table[s]}, ENGINE_LOGITS_LAST};
}

static double step(struct bench *b, const struct engine_step_seq *seqs, int n)
{
    double start = machine_now();
    if (engine_model_step(b->model, b->kv, seqs, n, b->logits) != ENGINE_OK) {
        fprintf(stderr, "bench_engine: a step was refused\n");
        exit(1);
    }
    return machine_now() - start;
}

enum { STEPS_MAX = 512, CONTEXT = 16 };

/* Tokens a second of the median prompt. */
static double prefill(struct bench *b, int tokens)
{
    int32_t ids[TABLE * 16];
    double v[STEPS_MAX], start = machine_now();
    int n = 0;
    for (int i = 0; i < tokens; i++)
        ids[i] = (i * 7919 + 13) % b->info->vocab;
    while (n < STEPS_MAX && (n < 3 || machine_now() - start < LEAST_SECONDS)) {
        struct engine_step_seq seq = sequence(b, 0, ids, 0, tokens);
        v[n++] = step(b, &seq, 1);
    }
    return tokens / machine_median(v, n);
}

/* Tokens a second of the median step. */
static double decode(struct bench *b, int sequences)
{
    struct engine_step_seq seqs[SEQUENCES_MAX];
    int32_t ids[SEQUENCES_MAX][CONTEXT];
    double v[STEPS_MAX], start;
    int n = 0;
    for (int s = 0; s < sequences; s++) {
        for (int i = 0; i < CONTEXT; i++)
            ids[s][i] = (s * 101 + i * 7919) % b->info->vocab;
        seqs[s] = sequence(b, s, ids[s], 0, CONTEXT);
    }
    step(b, seqs, sequences);
    start = machine_now();
    while (n < STEPS_MAX && (n < 8 || machine_now() - start < LEAST_SECONDS)) {
        for (int s = 0; s < sequences; s++)
            seqs[s] = sequence(b, s, &ids[s][n % CONTEXT], CONTEXT + n % 64, 1); /* as far as llama-bench goes */
        v[n++] = step(b, seqs, sequences);
    }
    return sequences / machine_median(v, n);
}

static bool run_case(struct bench *b, const char *name)
{
    int n = 0;
    bool decodes = sscanf(name, "decode%d", &n) == 1;
    if ((!decodes && sscanf(name, "prefill%d", &n) != 1) || n < 1 || n > (decodes ? SEQUENCES_MAX : TABLE * 16)) {
        fprintf(stderr, "bench_engine: no case is called \"%s\"\n", name);
        return false;
    }
    for (int i = 0; i < TRIES; i++) {
        struct machine_watch watch;
        double before = machine_read(&b->machine, b->pool);
        machine_watch(&watch);
        double rate = decodes ? decode(b, n) : prefill(b, n);
        if (machine_foreign(&watch) > MACHINE_FOREIGN_MAX)
            continue;
        double read = (before + machine_read(&b->machine, b->pool)) / 2;
        double most =
            decodes ? read / b->token_bytes * n : (b->bf16 ? b->machine.bf16 : b->machine.int8) / b->operations;
        printf("%s %.2f %.4f\n", name, rate, most > 0 ? rate / most : 0);
        return true;
    }
    printf("%s busy\n", name);
    return true;
}

static void print_machine(const struct machine *m, int threads)
{
    machine_print_flags();
    printf("threads: %d\nread: %.1f GB/s (%d streams a thread, %d bytes ahead)\nint8: %.2f TOP/s (%s)\n"
           "bf16: %.2f TOP/s (%s)\n",
           threads, m->read / 1e9, m->streams, m->ahead, m->int8 / 1e12, m->int8_how, m->bf16 / 1e12, m->bf16_how);
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *model = NULL, *cases[CASES_MAX] = {"decode1", "decode32", "prefill512"};
    int threads = 0, count = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--model") == 0)
            model = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--case") == 0 && count < CASES_MAX)
            cases[count++] = argv[i + 1];
    }
    bool machine_only = count == 1 && strcmp(cases[0], "machine") == 0;
    b.pool = kern_pool_open(threads);
    if (!b.pool || (!machine_only && (!model || !bench_open(&b, model, threads))) ||
        !machine_measure(&b.machine, b.pool)) {
        fprintf(stderr, "usage: bench_engine --model FILE [--threads N] [--case machine|decodeN|prefillN]...\n");
        return 2;
    }
    print_machine(&b.machine, kern_pool_threads(b.pool));
    if (model)
        printf("kernels: %s\nweights: %.1f MB a token in the file, %.1f MB laid out\n", b.info->kernels,
               b.token_bytes / 1e6, (double)b.info->weight_bytes / 1e6);
    bool ok = true;
    for (int i = 0; ok && !machine_only && i < (count ? count : 3); i++)
        ok = run_case(&b, cases[i]);
    machine_release();
    engine_kv_close(b.kv);
    engine_model_close(b.model);
    free(b.logits);
    kern_pool_close(b.pool);
    return ok ? 0 : 2;
}
