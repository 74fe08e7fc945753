/* gpu.c - on a GPU: does the device give the processor's logits and text on small random models, and how fast are
 * decode, prefill and single ops on the shapes of Llama-3.2-1B and Gemma-3-270M? Rows as ./airlock bench prints them.
 * Usage: gpu check | gpu time | gpu smoke (time, with everything small). Exit: 0, 1 when a check failed, 3 when there
 * is no device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/forward_device.h"

enum { BLOCK = 16, PROMPT = 40, GREEDY = 48, NO_DEVICE = 3 };

static int shrink = 1; /* what sizes and repetitions of timings are divided by */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void row(const char *what, const char *which, double ours, const char *unit, double reference)
{
    printf("gpu\t%s, %s (%s)\t%.4g\t", what, which, unit, ours);
    if (reference > 0)
        printf("%.4g\t%.3f\t-\tmeasured\n", reference, ours / reference);
    else
        printf("-\t-\t-\tmeasured\n");
    fflush(stdout);
}

/* --- models of random weights ------------------------------------------------------------------------------------ */

struct shape {
    const char *name;
    int vocab, layers, embed, heads, kv_heads, dim, ffn, window, experts;
    bool gemma, oss;
};

static const struct shape tiny[] = {
    {"tiny llama", 512, 4, 128, 4, 2, 32, 256, 0, 0, false, false},
    {"tiny gemma", 640, 6, 128, 4, 1, 64, 256, 20, 0, true, false},
    {"tiny gpt-oss", 512, 4, 128, 8, 2, 32, 128, 16, 8, false, true},
};
static const struct shape real[] = {
    {"Llama-3.2-1B", 128256, 16, 2048, 32, 8, 64, 8192, 0, 0, false, false},
    {"Gemma-3-270M", 262144, 18, 640, 4, 1, 256, 2048, 512, 0, true, false},
};

static uint32_t hash(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static uint32_t seed;

/* -1 .. 1 */
static float noise(uint32_t at)
{
    return (float)(int32_t)hash(at ^ seed) * 0x1p-31f;
}

struct fill {
    uint16_t *to;
    int cols;
    float scale;
};

static void fill_row(void *ctx, int r)
{
    const struct fill *f = ctx;
    for (int i = 0; i < f->cols; i++)
        f->to[(size_t)r * (size_t)f->cols + (size_t)i] =
            kern_f32_to_bf16(f->scale * noise((uint32_t)r * (uint32_t)f->cols + (uint32_t)i));
}

static struct kern_matrix matrix(struct engine_model *m, int rows, int cols)
{
    struct kern_matrix out = {.rows = 0};
    struct fill f = {malloc((size_t)rows * (size_t)cols * sizeof *f.to), cols, 1.7f / sqrtf((float)cols)};
    struct kern_rows from = {KERN_BF16, (const uint8_t *)f.to, (size_t)cols * sizeof *f.to, NULL, 0};
    seed = hash(seed + 1);
    if (!f.to)
        abort();
    kern_pool_run(m->pool, fill_row, &f, rows);
    if (!kern_matrix_pack(&out, &from, rows, cols, m->exact || !m->ops->integer, m->pool, &m->weights, NULL, NULL))
        abort();
    free(f.to);
    return out;
}

static float *vector(int n, float around, float spread)
{
    float *v = malloc((size_t)n * sizeof *v);
    seed = hash(seed + 2);
    for (int i = 0; v && i < n; i++)
        v[i] = around + spread * noise((uint32_t)i);
    return v;
}

static void describe(struct model_spec *s, const struct shape *f)
{
    *s = (struct model_spec){.vocab = f->vocab,
                             .layers = f->layers,
                             .embed = f->embed,
                             .heads = f->heads,
                             .kv_heads = f->kv_heads,
                             .head_dim = f->dim,
                             .ffn = f->ffn,
                             .context = 4096,
                             .experts = f->experts,
                             .experts_used = f->experts ? 3 : 0,
                             .expert_ffn = f->ffn,
                             .experts_normalized = true,
                             .eps = 1e-6f,
                             .rope_base = f->gemma ? 1e6 : 5e5,
                             .rope_base_sliding = 1e4,
                             .rope_dims = f->dim,
                             .window = f->window,
                             .attention_scale = 1 / sqrtf((float)f->dim),
                             .embed_scale = f->gemma ? sqrtf((float)f->embed) : 1,
                             .gate = f->gemma ? KERN_GATE_GELU
                                     : f->oss ? KERN_GATE_CLAMPED
                                              : KERN_GATE_SILU};
    for (int i = 0; i < f->layers; i++)
        s->sliding[i] = f->window > 0 && (f->gemma ? i % 6 != 5 : i % 2 == 0);
}

static void fill_layer(struct engine_model *m, struct model_layer *y, const struct shape *f)
{
    int q = f->heads * f->dim, kv = f->kv_heads * f->dim;
    y->attn_norm = vector(f->embed, 1, 0.1f);
    y->ffn_norm = vector(f->embed, 1, 0.1f);
    y->q = matrix(m, q, f->embed);
    y->k = matrix(m, kv, f->embed);
    y->v = matrix(m, kv, f->embed);
    y->o = matrix(m, f->embed, q);
    if (f->gemma) {
        y->q_norm = vector(f->dim, 1, 0.1f);
        y->k_norm = vector(f->dim, 1, 0.1f);
        y->attn_post = vector(f->embed, 1, 0.1f);
        y->ffn_post = vector(f->embed, 1, 0.1f);
    }
    if (f->oss) {
        y->sinks = vector(f->heads, 0, 1);
        y->q_bias = vector(q, 0, 0.1f);
        y->k_bias = vector(kv, 0, 0.1f);
        y->v_bias = vector(kv, 0, 0.1f);
        y->o_bias = vector(f->embed, 0, 0.1f);
        y->router_bias = vector(f->experts, 0, 0.1f);
    }
    if (f->experts == 0) {
        y->gate = matrix(m, f->ffn, f->embed);
        y->up = matrix(m, f->ffn, f->embed);
        y->down = matrix(m, f->embed, f->ffn);
        return;
    }
    y->router = matrix(m, f->experts, f->embed);
    y->expert = calloc((size_t)f->experts, sizeof *y->expert);
    for (int e = 0; e < f->experts; e++)
        y->expert[e] =
            (struct model_expert){matrix(m, f->ffn, f->embed), matrix(m, f->ffn, f->embed), matrix(m, f->embed, f->ffn),
                                  vector(f->ffn, 0, 0.1f),     vector(f->ffn, 0, 0.1f),     vector(f->embed, 0, 0.1f)};
}

/* The same weights for the same shape, wherever they go. NULL when there is no device. */
static struct engine_model *open_model(const struct shape *f, const char *device, bool exact, int step_tokens)
{
    struct engine_model *m = calloc(1, sizeof *m);
    struct engine_problem why = {ENGINE_OK, ""};
    seed = 1;
    describe(&m->spec, f);
    m->info.step_tokens_max = step_tokens;
    m->info.context_max = 4096;
    m->ops = kern_ops_find(NULL);
    m->pool = kern_pool_open(0);
    m->exact = exact;
    if (device && !model_device_open(m, device, exact, &why)) {
        printf("no device: %s\n", why.text);
        return NULL;
    }
    for (int g = 0; g < ENGINE_KV_GROUPS; g++) {
        m->inverse[g] = calloc((size_t)f->dim / 2, sizeof *m->inverse[g]);
        model_rope(&m->spec, g == ENGINE_KV_SLIDING, NULL, m->inverse[g], &m->magnitude[g]);
    }
    m->embed = matrix(m, f->vocab, f->embed);
    m->head_norm = vector(f->embed, 1, 0.1f);
    m->layer = calloc((size_t)f->layers, sizeof *m->layer);
    for (int i = 0; i < f->layers; i++) {
        m->layer[i].group = m->spec.sliding[i] ? ENGINE_KV_SLIDING : ENGINE_KV_FULL;
        m->layer[i].kv_layer = m->group_layers[m->layer[i].group]++;
        fill_layer(m, &m->layer[i], f);
    }
    if (device ? !model_device_load(m, &why) : !model_work_open(m)) {
        printf("FAIL %s: %s\n", f->name, why.text);
        exit(1);
    }
    return m;
}

/* --- does it agree ----------------------------------------------------------------------------------------------- */

static int32_t blocks_in_order[4096];

static struct engine_step_seq sequence(const int32_t *tokens, int count, int pos, enum engine_logits logits)
{
    return (struct engine_step_seq){tokens, count, pos, {blocks_in_order, blocks_in_order}, logits};
}

static int greatest(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

static struct engine_kv *open_kv(struct engine_model *m, int blocks)
{
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_kv *kv = engine_kv_open(m, BLOCK, (const int[]){blocks, blocks}, &why);
    if (!kv) {
        printf("FAIL keys and values: %s\n", why.text);
        exit(1);
    }
    return kv;
}

/* The processor's text, and the device beside it: logits of the prompt, then token for token what it would choose. A
 * choice is forgiven where the processor's own was closer than the error. */
static bool agrees(const struct shape *f, bool exact)
{
    struct engine_model *cpu = open_model(f, NULL, true, 64), *gpu = open_model(f, "cuda", exact, 64);
    if (!gpu)
        exit(NO_DEVICE);
    struct engine_kv *kv[2] = {open_kv(cpu, 8), open_kv(gpu, 8)};
    size_t vocab = (size_t)f->vocab;
    float *want = calloc(PROMPT * vocab, sizeof *want), *got = calloc(PROMPT * vocab, sizeof *got);
    int32_t prompt[PROMPT], id;
    int equal = 0, forgiven = 0;
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = (int32_t)(hash((uint32_t)i + 77) % (uint32_t)f->vocab);
    struct engine_step_seq seq = sequence(prompt, PROMPT, 0, ENGINE_LOGITS_ALL);
    bool ok = engine_model_step(cpu, kv[0], &seq, 1, want) == ENGINE_OK &&
              engine_model_step(gpu, kv[1], &seq, 1, got) == ENGINE_OK;
    double far = ok ? distance(got, want, PROMPT * vocab) : INFINITY, bar = exact ? 1e-4 : f->experts ? 8e-2 : 3e-2;
    const float *last = want + (PROMPT - 1) * vocab;
    id = greatest(last, f->vocab);
    for (int i = 0; i < GREEDY && ok; i++) {
        struct sample_params p = {.top_p = 1, .repetition = 1, .top = -1};
        struct sample_result r = {.id = -1};
        struct engine_pick pick = {.params = &p, .out = &r};
        seq = sequence(&id, 1, PROMPT + i, ENGINE_LOGITS_LAST);
        ok = engine_model_step(cpu, kv[0], &seq, 1, want) == ENGINE_OK &&
             engine_model_step_pick(gpu, kv[1], &seq, 1, &pick) == ENGINE_OK && r.id >= 0;
        int32_t next = greatest(want, f->vocab);
        double margin = ok ? (double)(want[next] - want[r.id]) : 0;
        equal += ok && r.id == next;
        forgiven += ok && r.id != next && margin < (exact ? 1e-3 : 0.15);
        id = next;
    }
    ok = ok && far <= bar && equal + forgiven == GREEDY;
    printf("%s %s %s: distance %.2g (at most %.0e), greedy %d of %d equal, %d near ties%s%s\n", ok ? "ok" : "FAIL",
           f->name, exact ? "f32" : "bf16", far, bar, equal, GREEDY, forgiven,
           bridge_error(gpu->device->bridge) ? ": " : "",
           bridge_error(gpu->device->bridge) ? bridge_error(gpu->device->bridge) : "");
    fflush(stdout);
    free(want);
    free(got);
    return ok;
}

static int check(void)
{
    int failed = 0, passed = 0;
    for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++)
        for (int exact = 1; exact >= 0; exact--)
            *(agrees(&tiny[i], exact) ? &passed : &failed) += 1;
    printf("models: %d passed, %d failed, 0 skipped\n", passed, failed);
    return failed > 0;
}

/* --- how fast ---------------------------------------------------------------------------------------------------- */

static double median(double *v, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && v[j] < v[j - 1]; j--) {
            double t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
    return v[n / 2];
}

static void time_decode(struct engine_model *m, const char *name, int batch, double copy)
{
    enum { STEPS = 40, CONTEXT = 512, MAX = 32, EACH = (CONTEXT + STEPS) / BLOCK + 2 };
    int steps = shrink > 1 ? 10 : STEPS;
    struct engine_kv *kv = open_kv(m, batch * EACH);
    struct engine_step_seq seqs[MAX];
    struct engine_pick picks[MAX];
    struct sample_params p = {.top_p = 1, .repetition = 1, .top = -1};
    struct sample_result out[MAX];
    struct bridge_stats before, after;
    int32_t token[MAX];
    double took[STEPS];
    char which[64];
    for (int s = 0; s < steps; s++) {
        for (int i = 0; i < batch; i++) {
            token[i] = s ? out[i].id : i + 1;
            seqs[i] = sequence(&token[i], 1, CONTEXT + s, ENGINE_LOGITS_LAST);
            seqs[i].blocks[0] = seqs[i].blocks[1] = blocks_in_order + i * EACH;
            picks[i] = (struct engine_pick){.params = &p, .out = &out[i]};
        }
        if (s == steps - 1)
            bridge_stats(m->device->bridge, &before);
        double from = now();
        if (engine_model_step_pick(m, kv, seqs, batch, picks) != ENGINE_OK) {
            printf("FAIL decode: %s\n", bridge_error(m->device->bridge));
            exit(1);
        }
        took[s] = now() - from;
    }
    bridge_stats(m->device->bridge, &after);
    double step = median(took + 8, steps - 8), floor = (double)m->device->weight_bytes / copy;
    snprintf(which, sizeof which, "decode %d at 512", batch);
    row(name, which, batch / step, "tok/s; reference: weights at copy bandwidth", batch / floor);
    snprintf(which, sizeof which, "decode %d, crossings of the last step", batch);
    row(name, which,
        (double)(after.of[BRIDGE_STEP_IN].crossings + after.of[BRIDGE_TOKENS_OUT].crossings -
                 before.of[BRIDGE_STEP_IN].crossings - before.of[BRIDGE_TOKENS_OUT].crossings),
        "in + out", 2);
    engine_kv_close(kv);
}

static void time_prefill(struct engine_model *m, const char *name, int tokens)
{
    enum { RUNS = 5, MAX = 2048 };
    static int32_t prompt[MAX];
    struct engine_kv *kv = open_kv(m, MAX / BLOCK + 1);
    struct sample_params p = {.top_p = 1, .repetition = 1, .top = -1};
    struct sample_result out;
    struct engine_pick pick = {.params = &p, .out = &out};
    double took[RUNS];
    char which[64];
    for (int i = 0; i < tokens; i++)
        prompt[i] = (int32_t)(hash((uint32_t)i) % (uint32_t)m->spec.vocab);
    for (int r = -1; r < RUNS; r++) {
        struct engine_step_seq seq = sequence(prompt, tokens, 0, ENGINE_LOGITS_LAST);
        double from = now();
        if (engine_model_step_pick(m, kv, &seq, 1, &pick) != ENGINE_OK) {
            printf("FAIL prefill: %s\n", bridge_error(m->device->bridge));
            exit(1);
        }
        took[r < 0 ? 0 : r] = now() - from;
    }
    double s = median(took, RUNS);
    snprintf(which, sizeof which, "prefill %d", tokens);
    row(name, which, tokens / s, "tok/s", 0);
    engine_kv_close(kv);
}

/* Seconds of one call, over enough of them that the wait at the end does not count. */
struct timing {
    const struct kern_device_ops *ops;
    struct kern_device *d;
    struct bridge *b;
    void *scratch;
};

static void wait_for(const struct timing *t)
{
    if (!t->ops->drain_submit(t->b, BRIDGE_CONTROL, t->scratch, 8) || !t->ops->drain_wait(t->b)) {
        printf("FAIL ops: %s\n", t->ops->error(t->b));
        exit(1);
    }
}

#define TIME(t, out, times, call)                                                                                      \
    do {                                                                                                               \
        call;                                                                                                          \
        wait_for(t);                                                                                                   \
        double from_ = now();                                                                                          \
        int times_ = (times) / shrink + 1;                                                                             \
        for (int i_ = 0; i_ < times_; i_++)                                                                            \
            call;                                                                                                      \
        wait_for(t);                                                                                                   \
        out = (now() - from_) / times_;                                                                                \
    } while (0)

/* Bytes a second of a copy from device to device, read and written. */
static double time_copy(const struct timing *t)
{
    const size_t elems = ((size_t)256 << 20) / (size_t)shrink; /* of two bytes */
    void *base = t->ops->take(t->b, 2 * elems * 2);
    double s;
    TIME(t, s, 20, t->ops->kv_copy(t->d, base, elems, 1, 0));
    t->ops->give(t->b, base);
    row("ops", "copy 512 MiB", 4e-9 * (double)elems / s, "GB/s", 0);
    return 4.0 * (double)elems / s;
}

static struct kern_device_rows take_rows(const struct timing *t, int rows, int cols)
{
    return (struct kern_device_rows){t->ops->take(t->b, (size_t)rows * (size_t)cols * 2), rows, cols, cols};
}

static void time_gemm(const struct timing *t, double copy)
{
    static const int shapes[][3] = {{1, 16384, 2048},   {8, 16384, 2048},    {32, 16384, 2048},
                                    {512, 16384, 2048}, {2048, 16384, 2048}, {32, 128256, 2048}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = shapes[i][0], n = shapes[i][1] / shrink, k = shapes[i][2] / shrink;
        struct kern_device_rows w = take_rows(t, n, k), in = take_rows(t, rows, k);
        float *y = t->ops->take(t->b, (size_t)rows * (size_t)n * 4);
        char which[64];
        double s;
        TIME(t, s, 50, t->ops->gemm(t->d, y, n, &w, &in, rows, false));
        snprintf(which, sizeof which, "cuBLASLt %d x %d x %d", rows, n, k);
        if (rows <= 32)
            row("ops", which, 2e-9 * n * (double)k / s, "GB/s of weights; reference: copy", 1e-9 * copy);
        else
            row("ops", which, 2e-12 * rows * (double)n * k / s, "TFLOP/s", 0);
        t->ops->give(t->b, w.data);
        t->ops->give(t->b, in.data);
        t->ops->give(t->b, y);
    }
}

/* Our own product of experts beside cuBLASLt's of the same weights, all rows to one expert. */
static void time_experts(const struct timing *t)
{
    for (int rows = 1; rows <= 32; rows *= 8) {
        int n = 16384 / shrink, k = 2048 / shrink;
        struct kern_device_rows w = take_rows(t, n, k), in = take_rows(t, rows, k);
        size_t slots = (size_t)rows;
        struct kern_device_routes r = {rows,
                                       1,
                                       1,
                                       true,
                                       t->ops->take(t->b, slots * 4),
                                       t->ops->take(t->b, slots * 4),
                                       t->ops->take(t->b, slots * 4),
                                       t->ops->take(t->b, (slots + 1) * 12),
                                       t->ops->take(t->b, 4)};
        float *y = t->ops->take(t->b, slots * (size_t)n * 4), *scores = t->ops->take(t->b, slots * 4);
        char which[64];
        double ours, theirs;
        t->ops->route(t->d, &r, scores, NULL);
        TIME(t, ours, 50, t->ops->experts(t->d, &r, y, &w, NULL, &in, 1));
        TIME(t, theirs, 50, t->ops->gemm(t->d, y, n, &w, &in, rows, false));
        snprintf(which, sizeof which, "expert product %d rows", rows);
        row("ops", which, 2e-9 * n * (double)k / ours, "GB/s of weights; reference: cuBLASLt",
            2e-9 * n * (double)k / theirs);
        t->ops->give(t->b, w.data);
    }
}

static void time_rows(const struct timing *t, double copy)
{
    const int rows = 2048 / shrink, n = 2048 / shrink, ffn = 8192 / shrink;
    struct kern_device_rows normed = take_rows(t, rows, n), hidden = take_rows(t, rows, ffn);
    float *x = t->ops->take(t->b, (size_t)rows * 2 * (size_t)ffn * 4), *w = t->ops->take(t->b, (size_t)n * 4);
    double s;
    TIME(t, s, 50, t->ops->rmsnorm(t->d, &normed, x, w, NULL, rows, 1e-5f));
    row("ops", "rmsnorm 2048 x 2048", 1e-9 * rows * (double)n * 6 / s, "GB/s; reference: copy", 1e-9 * copy);
    TIME(t, s, 50, t->ops->join(t->d, x, x + (size_t)rows * (size_t)n, w, rows, n, 1e-5f));
    row("ops", "norm and add 2048 x 2048", 1e-9 * rows * (double)n * 12 / s, "GB/s; reference: copy", 1e-9 * copy);
    TIME(t, s, 50, t->ops->gate(t->d, &hidden, x, rows, KERN_GATE_SILU));
    row("ops", "gate 2048 x 8192", 1e-9 * rows * (double)ffn * 10 / s, "GB/s; reference: copy", 1e-9 * copy);
    t->ops->give(t->b, x);
}

static void time_attend(const struct timing *t, double copy, int sequences, int rows, int context)
{
    struct kern_device_heads of = {32, 8, 64};
    int all = sequences * rows, each = context / BLOCK, width = (32 + 16) * 64;
    size_t elems = 8 * BLOCK * 2 * 64;
    int32_t *host = calloc((size_t)(2 * all + sequences * (each + 1)), sizeof *host), *at = host;
    size_t bytes = (size_t)(2 * all + sequences * (each + 1)) * sizeof *host;
    for (int i = 0; i < all; i++)
        *at++ = context - rows + i % rows;
    for (int i = 0; i < all; i++)
        *at++ = i / rows;
    for (int i = 0; i < sequences; i++)
        *at++ = i * each;
    for (int i = 0; i < sequences * each; i++)
        *at++ = i;
    int32_t *there = t->ops->take(t->b, bytes);
    t->ops->send(t->b, BRIDGE_CONTROL, there, host, bytes);
    struct kern_device_rows out = take_rows(t, all, 2048);
    struct kern_device_attend a = {.of = of,
                                   .qkv = t->ops->take(t->b, (size_t)all * (size_t)width * 4),
                                   .out = &out,
                                   .rows = all,
                                   .kv = {t->ops->take(t->b, (size_t)(sequences * each) * elems * 2), elems, BLOCK, 0},
                                   .where = {there, there + all, there + 2 * all, there + 2 * all + sequences}};
    char which[80];
    double s;
    TIME(t, s, 20, t->ops->attend(t->d, &a));
    snprintf(which, sizeof which, "attention %d x %d rows at %d", sequences, rows, context);
    row("ops", which, 2e-9 * sequences * (double)each * (double)elems / s, "GB/s of keys and values; reference: copy",
        1e-9 * copy);
    t->ops->give(t->b, a.kv.base);
    free(host);
}

static void time_pick(const struct timing *t, const char *which, struct kern_device_pick p)
{
    enum { ROWS = 32 };
    const int vocab = 128256 / shrink;
    const size_t all = (size_t)ROWS * (size_t)vocab;
    struct kern_device_pick host[ROWS];
    float *logits = t->ops->take(t->b, all * 4), *work = t->ops->take(t->b, all * 4), *noisy = malloc(all * 4);
    void *out = t->ops->take(t->b, 4096), *there = t->ops->take(t->b, sizeof host);
    double s;
    for (uint32_t i = 0; i < all; i++)
        noisy[i] = 8 * noise(i);
    for (uint32_t i = 0; i < ROWS; i++)
        host[i] = p;
    t->ops->send(t->b, BRIDGE_CONTROL, logits, noisy, all * 4);
    t->ops->send(t->b, BRIDGE_CONTROL, there, host, sizeof host);
    TIME(t, s, 10, t->ops->pick(t->d, out, 0, logits, work, vocab, there, there, ROWS));
    row("ops", which, 1e3 * s, "ms for 32 rows of 128256", 0);
    t->ops->give(t->b, logits);
    t->ops->give(t->b, work);
    free(noisy);
}

static double time_ops(void)
{
    const char *reason;
    char why[BRIDGE_WHY_MAX];
    struct timing t = {.ops = kern_device_find("cuda", &reason)};
    struct kern_device_pick greedy = {.id = -1, .top_p = 1, .repetition = 1, .top = -1}, full = greedy;
    t.d = t.ops ? t.ops->open(&(struct kern_device_config){.exact = false}, why) : NULL;
    if (!t.d) {
        printf("no device: %s\n", t.ops ? why : reason);
        exit(NO_DEVICE);
    }
    t.b = t.ops->bridge(t.d);
    t.scratch = t.ops->take(t.b, 256);
    printf("# device\t%s\n", t.ops->device_name(t.b));
    double copy = time_copy(&t);
    time_gemm(&t, copy);
    time_experts(&t);
    time_rows(&t, copy);
    time_attend(&t, copy, 1, 1, 1024);
    time_attend(&t, copy, 32, 1, 1024);
    time_attend(&t, copy, 1, 2048 / shrink, 2048 / shrink);
    time_pick(&t, "greedy", greedy);
    full.temperature = 1;
    time_pick(&t, "temperature", full);
    full.top_k = 40;
    full.top_p = 0.9f;
    time_pick(&t, "top-k 40, top-p 0.9", full);
    full.top_k = 0;
    time_pick(&t, "top-p 0.9", full);
    t.ops->close(t.d);
    return copy;
}

static int measure(void)
{
    double copy = time_ops();
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        const struct shape *f = shrink > 1 ? &tiny[i] : &real[i];
        double from = now();
        struct engine_model *m = open_model(f, "cuda", false, 2048 / shrink);
        if (!m)
            return NO_DEVICE;
        row(f->name, "weights made, laid out and sent", now() - from, "s", 0);
        row(f->name, "weights on the device", 1e-9 * (double)m->device->weight_bytes, "GB", 0);
        time_prefill(m, f->name, 512 / shrink);
        time_prefill(m, f->name, 2048 / shrink);
        time_decode(m, f->name, 1, copy);
        time_decode(m, f->name, 8, copy);
        time_decode(m, f->name, 32, copy);
        model_device_close(m);
    }
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < (int)(sizeof blocks_in_order / sizeof *blocks_in_order); i++)
        blocks_in_order[i] = i;
    if (argc == 2 && strcmp(argv[1], "check") == 0)
        return check();
    if (argc == 2 && strcmp(argv[1], "time") == 0)
        return measure();
    shrink = 32;
    if (argc == 2 && strcmp(argv[1], "smoke") == 0)
        return measure();
    fprintf(stderr, "usage: gpu check | gpu time | gpu smoke\n");
    return 2;
}
