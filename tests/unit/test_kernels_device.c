/* Do the CUDA kernels, compiled for an emulated device that really copies, agree with the slow twins of kernels/ref and
 * with the sampler, over many shapes? Is every crossing counted, and is a failed allocation an error and no crash?
 * tests/bench/gpu.sh builds this with ON_GPU, to ask the same of a real device. */
#include <stdio.h>

#ifndef ON_GPU
#include "cuda_host/cuda_runtime_api.h"
#define DEVICE_NAME "cuda, emulated"
#else
#define DEVICE_NAME "cuda"
#endif
#include "engine/sample.h"
#include "kernels/device.h"
#include "unit/kernels_common.h"
#include "unit/run.h"

static const struct kern_device_ops *ops;
static struct kern_device *device;
static struct bridge *bridge;
static bool exact;

static void open_device(bool exact_)
{
    const char *why = NULL;
    char text[BRIDGE_WHY_MAX];
    exact = exact_;
    ops = kern_device_find("cuda", &why);
    ck_assert_msg(ops != NULL, "%s", why);
    ck_assert_str_eq(ops->name, DEVICE_NAME);
    device = ops->open(&(struct kern_device_config){.exact = exact}, text);
    ck_assert_msg(device != NULL, "%s", text);
    bridge = ops->bridge(device);
}

static void close_device(void)
{
    ck_assert_msg(!ops->error(bridge), "%s", ops->error(bridge));
    ops->close(device);
#ifndef ON_GPU
    ck_assert_uint_eq(emulated_allocations(), 0);
#endif
}

/* --- to the device and back ----------------------------------------------------------------------------------- */

static void *put(const void *from, size_t bytes)
{
    void *to = ops->take(bridge, bytes);
    ck_assert(ops->send(bridge, BRIDGE_CONTROL, to, from, bytes));
    return to;
}

static float *get(const void *from, size_t count)
{
    float *to = malloc(count * sizeof *to);
    ck_assert(ops->recv(bridge, BRIDGE_CONTROL, to, from, count * sizeof *to));
    return to;
}

static float *noise_of(size_t n, uint32_t seed)
{
    float *x = malloc(n * sizeof *x);
    fill_noise(x, n, seed);
    return x;
}

/* What the device holds of a number: bf16 unless exact. */
static float as_stored(float x)
{
    return exact ? x : kern_bf16_to_f32(kern_f32_to_bf16(x));
}

static struct kern_device_rows put_rows(const float *x, int rows, int cols)
{
    struct kern_device_rows r = {NULL, rows, cols,
                                 (cols + KERN_DEVICE_STRIDE - 1) / KERN_DEVICE_STRIDE * KERN_DEVICE_STRIDE};
    size_t element = exact ? 4 : 2, bytes = (size_t)rows * (size_t)r.stride * element;
    uint8_t *host = calloc(1, bytes);
    for (int i = 0; x && i < rows; i++)
        for (int j = 0; j < cols; j++) {
            size_t at = (size_t)i * (size_t)r.stride + (size_t)j;
            float value = x[(size_t)i * (size_t)cols + (size_t)j];
            if (exact)
                ((float *)(void *)host)[at] = value;
            else
                ((uint16_t *)(void *)host)[at] = kern_f32_to_bf16(value);
        }
    r.data = put(host, bytes);
    free(host);
    return r;
}

static float *get_rows(const struct kern_device_rows *r)
{
    size_t element = exact ? 4 : 2, bytes = (size_t)r->rows * (size_t)r->stride * element;
    uint8_t *host = malloc(bytes);
    float *x = malloc((size_t)r->rows * (size_t)r->cols * sizeof *x);
    ck_assert(ops->recv(bridge, BRIDGE_CONTROL, host, r->data, bytes));
    for (int i = 0; i < r->rows; i++)
        for (int j = 0; j < r->cols; j++) {
            size_t at = (size_t)i * (size_t)r->stride + (size_t)j;
            x[i * r->cols + j] = exact ? ((float *)(void *)host)[at] : kern_bf16_to_f32(((uint16_t *)(void *)host)[at]);
        }
    free(host);
    return x;
}

/* The greatest error relative to 1 + |want|. */
static float off_by(const float *got, const float *want, size_t n)
{
    float worst = 0;
    for (size_t i = 0; i < n; i++) {
        float off = fabsf(got[i] - want[i]) / (1 + fabsf(want[i]));
        worst = off <= worst ? worst : off; /* a NaN stays */
    }
    return worst;
}

/* Sums of up to some thousand terms in another order; a result rounded to bf16. */
static float bar(void)
{
    return exact ? 3e-6f : 5e-3f;
}

#define GIVE(p) ops->give(bridge, (void *)(p))

/* --- ops of a row ----------------------------------------------------------------------------------------------- */

static const int lengths[] = {1, 7, 32, 33, 64, 255, 256, 257, 640, 1029};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

static void norms(int rows, int n)
{
    size_t all = (size_t)rows * (size_t)n;
    float *x = noise_of(all, 1), *b = noise_of(all, 2), *w = noise_of((size_t)n, 3), *want = malloc(all * sizeof *want);
    float *dx = put(x, all * 4), *db = put(b, all * 4), *dw = put(w, (size_t)n * 4);
    struct kern_device_rows out = put_rows(NULL, rows, n);
    int32_t pick[8];
    for (int i = 0; i < rows; i++)
        pick[i] = rows - 1 - i;
    int32_t *dpick = put(pick, sizeof pick);

    ops->rmsnorm(device, &out, dx, dw, dpick, rows, 1e-6f);
    for (int i = 0; i < rows; i++)
        kern_ops_ref.rmsnorm(want + i * n, x + (rows - 1 - i) * n, w, n, 1e-6f);
    float *got = get_rows(&out);
    ck_assert_float_lt(off_by(got, want, all), bar());
    free(got);

    ops->join(device, dx, db, dw, rows, n, 1e-5f);
    ops->join(device, dx, db, NULL, rows, n, 0);
    ops->bias(device, dx, dw, rows, n);
    ops->soften(device, dx, all, 1.5f);
    for (int i = 0; i < rows; i++) {
        kern_ops_ref.rmsnorm(want + i * n, b + i * n, w, n, 1e-5f);
        for (int j = 0; j < n; j++)
            want[i * n + j] = 1.5f * tanhf((want[i * n + j] + x[i * n + j] + b[i * n + j] + w[j]) / 1.5f);
    }
    got = get(dx, all);
    ck_assert_float_lt(off_by(got, want, all), 3e-6f);
    free(got);
    GIVE(dx), GIVE(db), GIVE(dw), GIVE(dpick), GIVE(out.data);
    free(x), free(b), free(w), free(want);
}

static void gates(int rows, int n)
{
    size_t all = (size_t)rows * (size_t)n;
    float *x = noise_of(2 * all, 5), *want = malloc(all * sizeof *want);
    for (size_t i = 0; i < 2 * all; i++)
        x[i] *= 12;
    float *dx = put(x, 2 * all * 4);
    struct kern_device_rows out = put_rows(NULL, rows, n);
    for (int kind = KERN_GATE_SILU; kind <= KERN_GATE_CLAMPED; kind++) {
        ops->gate(device, &out, dx, rows, (enum kern_gate)kind);
        for (int i = 0; i < rows; i++)
            kern_ops_ref.gate(want + i * n, x + 2 * i * n, x + (2 * i + 1) * n, n, (enum kern_gate)kind);
        float *got = get_rows(&out);
        ck_assert_float_lt(off_by(got, want, all), bar());
        free(got);
    }
    GIVE(dx), GIVE(out.data);
    free(x), free(want);
}

static void embeds(int rows, int n)
{
    enum { VOCAB = 9 };
    float *table = noise_of((size_t)(VOCAB * n), 7), *want = malloc((size_t)(rows * n) * sizeof *want);
    struct kern_device_rows t = put_rows(table, VOCAB, n);
    int32_t token[8];
    for (int i = 0; i < rows; i++) {
        token[i] = (i * 5 + n) % VOCAB;
        for (int j = 0; j < n; j++)
            want[i * n + j] = as_stored(table[token[i] * n + j]) * 3.5f;
    }
    int32_t *dtoken = put(token, sizeof token);
    float *x = ops->take(bridge, (size_t)(rows * n) * 4);
    ops->embed(device, x, &t, dtoken, rows, 3.5f);
    float *got = get(x, (size_t)(rows * n));
    ck_assert_float_lt(off_by(got, want, (size_t)(rows * n)), 1e-7f);
    GIVE(t.data), GIVE(dtoken), GIVE(x);
    free(table), free(want), free(got);
}

START_TEST(row_ops_agree)
{
    open_device(_i);
    for (int i = 0; i < LENGTHS; i++)
        for (int rows = 1; rows <= 5; rows += 4) {
            norms(rows, lengths[i]);
            gates(rows, lengths[i]);
            embeds(rows, lengths[i]);
        }
    close_device();
}
END_TEST

START_TEST(products_agree)
{
    static const int shapes[][3] = {{1, 1, 1}, {3, 17, 31}, {1, 64, 256}, {9, 48, 100}, {33, 130, 65}};
    open_device(_i);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int rows = shapes[s][0], n = shapes[s][1], k = shapes[s][2], stride = n + 3;
        float *x = noise_of((size_t)(rows * k), 11), *w = noise_of((size_t)(n * k), 12);
        float *y = noise_of((size_t)(rows * stride), 13), *want = malloc((size_t)(rows * stride) * sizeof *want);
        struct kern_device_rows dx = put_rows(x, rows, k), dw = put_rows(w, n, k);
        float *dy = put(y, (size_t)(rows * stride) * 4);
        memcpy(want, y, (size_t)(rows * stride) * sizeof *want);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int c = 0; c < k; c++)
                    sum += (double)as_stored(x[i * k + c]) * (double)as_stored(w[j * k + c]);
                want[i * stride + j] = (float)(2 * sum);
            }
        ops->gemm(device, dy, stride, &dw, &dx, rows, false);
        ops->gemm(device, dy, stride, &dw, &dx, rows, true);
        float *got = get(dy, (size_t)(rows * stride)); /* what lies between the columns is as it was */
        ck_assert_float_lt(off_by(got, want, (size_t)(rows * stride)), 1e-5f);
        GIVE(dx.data), GIVE(dw.data), GIVE(dy);
        free(x), free(w), free(y), free(want), free(got);
    }
    close_device();
}
END_TEST

/* --- keys, values, attention ------------------------------------------------------------------------------------- */

struct shape {
    int heads, kv_heads, dim, pairs, positions, window, block_tokens;
    float softcap;
    bool norms, bias, sinks;
};

/* Sequence 0 has `positions` rows from position 0 on, sequence 1 the same on other blocks. */
enum { SEQUENCES = 2, LAYERS = 2, LAYER = 1 };

struct scene {
    const struct shape *s;
    int width, rows, blocks; /* blocks of a sequence */
    size_t block_elems;
    float *qkv, *bias, *q_norm, *k_norm, *cosine, *sine, *sinks;
    int32_t *position, *sequence, table[SEQUENCES], *block;
};

static void scene_init(struct scene *c, const struct shape *s)
{
    *c = (struct scene){.s = s, .width = (s->heads + 2 * s->kv_heads) * s->dim, .rows = SEQUENCES * s->positions};
    c->blocks = (s->positions + s->block_tokens - 1) / s->block_tokens;
    c->block_elems = (size_t)(LAYERS * s->kv_heads * s->block_tokens * 2 * s->dim);
    c->qkv = noise_of((size_t)(c->rows * c->width), 21);
    c->bias = noise_of((size_t)c->width, 22);
    c->q_norm = noise_of((size_t)s->dim, 23);
    c->k_norm = noise_of((size_t)s->dim, 24);
    c->cosine = noise_of((size_t)(c->rows * s->pairs), 25);
    c->sine = noise_of((size_t)(c->rows * s->pairs), 26);
    c->sinks = noise_of((size_t)s->heads, 27);
    c->position = malloc((size_t)c->rows * sizeof *c->position);
    c->sequence = malloc((size_t)c->rows * sizeof *c->sequence);
    c->block = malloc((size_t)(SEQUENCES * c->blocks) * sizeof *c->block);
    for (int i = 0; i < c->rows; i++) {
        c->sequence[i] = i / s->positions;
        c->position[i] = i % s->positions;
    }
    for (int i = 0; i < SEQUENCES * c->blocks; i++)
        c->block[i] = SEQUENCES * c->blocks - 1 - i; /* backwards */
    for (int i = 0; i < SEQUENCES; i++)
        c->table[i] = i * c->blocks;
}

static void scene_release(struct scene *c)
{
    void *all[] = {c->qkv,  c->bias,  c->q_norm,   c->k_norm,   c->cosine,
                   c->sine, c->sinks, c->position, c->sequence, c->block};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* What place should make of a row, with the reference's ops. */
static void place_reference(const struct scene *c, int row, float *to)
{
    const struct shape *s = c->s;
    for (int i = 0; i < c->width; i++)
        to[i] = c->qkv[row * c->width + i] + (s->bias ? c->bias[i] : 0);
    for (int h = 0; h < s->heads + s->kv_heads; h++) {
        if (s->norms)
            kern_ops_ref.rmsnorm(to + h * s->dim, to + h * s->dim, h < s->heads ? c->q_norm : c->k_norm, s->dim, 1e-6f);
        kern_ops_ref.rope(to + h * s->dim, c->cosine + row * s->pairs, c->sine + row * s->pairs, s->pairs);
    }
    kern_ops_ref.scale(to, to, 0.7f, s->heads * s->dim);
}

static float as_kept(float x)
{
    return exact ? x : kern_f16_to_f32(kern_f32_to_f16(x));
}

/* Softmax over everything that is seen, in double. */
static void attend_reference(const struct scene *c, const float *placed, int row, int head, float *out)
{
    const struct shape *s = c->s;
    int last = c->position[row], first = s->window > 0 && last - s->window + 1 > 0 ? last - s->window + 1 : 0;
    int kv = head / (s->heads / s->kv_heads), base = c->sequence[row] * s->positions;
    double sum = s->sinks ? exp((double)c->sinks[head]) : 0, whole[KERN_HEAD_MAX] = {0};
    for (int t = first; t <= last; t++) {
        const float *k = placed + (base + t) * c->width + (s->heads + kv) * s->dim, *v = k + s->kv_heads * s->dim;
        double score = 0;
        for (int i = 0; i < s->dim; i++)
            score += (double)placed[row * c->width + head * s->dim + i] * (double)as_kept(k[i]);
        if (s->softcap > 0)
            score = (double)s->softcap * tanh(score / (double)s->softcap);
        double p = exp(score);
        sum += p;
        for (int i = 0; i < s->dim; i++)
            whole[i] += p * (double)as_kept(v[i]);
    }
    for (int i = 0; i < s->dim; i++)
        out[i] = (float)(whole[i] / sum);
}

static void attention(const struct shape *s)
{
    struct scene c;
    scene_init(&c, s);
    size_t kv_bytes = (size_t)(SEQUENCES * c.blocks) * c.block_elems * (exact ? 4 : 2), row_bytes = 4 * (size_t)c.rows;
    void *kv = ops->take(bridge, kv_bytes);
    float *dqkv = put(c.qkv, row_bytes * (size_t)c.width);
    struct kern_device_place p = {.of = {s->heads, s->kv_heads, s->dim},
                                  .qkv = dqkv,
                                  .bias = s->bias ? put(c.bias, (size_t)c.width * 4) : NULL,
                                  .q_norm = s->norms ? put(c.q_norm, (size_t)s->dim * 4) : NULL,
                                  .k_norm = s->norms ? put(c.k_norm, (size_t)s->dim * 4) : NULL,
                                  .cosine = put(c.cosine, row_bytes * (size_t)s->pairs),
                                  .sine = put(c.sine, row_bytes * (size_t)s->pairs),
                                  .rows = c.rows,
                                  .pairs = s->pairs,
                                  .eps = 1e-6f,
                                  .scale = 0.7f,
                                  .kv = {kv, c.block_elems, s->block_tokens, LAYER},
                                  .where = {put(c.position, row_bytes), put(c.sequence, row_bytes),
                                            put(c.table, sizeof c.table),
                                            put(c.block, (size_t)(SEQUENCES * c.blocks) * 4)}};
    struct kern_device_rows out = put_rows(NULL, c.rows, s->heads * s->dim);
    struct kern_device_attend a = {.of = p.of,
                                   .qkv = dqkv,
                                   .sinks = s->sinks ? put(c.sinks, (size_t)s->heads * 4) : NULL,
                                   .out = &out,
                                   .rows = c.rows,
                                   .window = s->window,
                                   .softcap = s->softcap,
                                   .kv = p.kv,
                                   .where = p.where};
    ops->place(device, &p);
    ops->attend(device, &a);
    float *got = get_rows(&out), *placed = malloc(row_bytes * (size_t)c.width), worst = 0;
    for (int i = 0; i < c.rows; i++)
        place_reference(&c, i, placed + i * c.width);
    for (int i = 0; i < c.rows; i += 1 + c.rows / 24)
        for (int h = 0; h < s->heads; h++) {
            float want[KERN_HEAD_MAX];
            attend_reference(&c, placed, i, h, want);
            worst = fmaxf(worst, off_by(got + (i * s->heads + h) * s->dim, want, (size_t)s->dim));
        }
    ck_assert_msg(worst < (exact ? 1e-5f : 5e-3f), "heads %d/%d dim %d positions %d: off by %g", s->heads, s->kv_heads,
                  s->dim, s->positions, (double)worst);

    float *queries = get(dqkv, (size_t)(c.rows * c.width)); /* placed in the same memory */
    for (int i = 0; i < c.rows; i++)
        ck_assert_float_lt(off_by(queries + i * c.width, placed + i * c.width, (size_t)(s->heads * s->dim)), 1e-5f);
    free(got), free(placed), free(queries);
    const void *taken[] = {kv,     dqkv,           p.bias,           p.q_norm,         p.k_norm,      p.cosine,
                           p.sine, p.where.blocks, p.where.position, p.where.sequence, p.where.table, out.data,
                           a.sinks};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        GIVE(taken[i]);
    scene_release(&c);
}

START_TEST(attention_agrees)
{
    static const struct shape shapes[] = {
        {1, 1, 16, 8, 1, 0, 16, 0, false, false, false},    {4, 2, 32, 16, 40, 0, 16, 0, true, true, false},
        {8, 1, 64, 32, 37, 16, 16, 0, false, false, true},  {10, 1, 16, 4, 20, 5, 32, 30, true, false, false},
        {3, 3, 80, 40, 18, 0, 32, 0, false, true, true},    {2, 1, 256, 128, 17, 0, 16, 50, true, false, false},
        {2, 2, 320, 160, 9, 4, 16, 0, false, false, false}, {2, 1, 512, 256, 8, 0, 16, 0, false, false, true},
        {2, 1, 16, 8, 300, 0, 64, 0, false, false, false},  {2, 1, 16, 8, 530, 270, 16, 0, false, false, true},
    };
    open_device(_i);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        attention(&shapes[i]);
    close_device();
}
END_TEST

START_TEST(angles_agree)
{
    static const int32_t position[] = {0, 1, 511, 131071};
    double inverse[300];
    open_device(true);
    for (int i = 0; i < 300; i++)
        inverse[i] = pow(10000, -i / 300.0);
    int32_t *dposition = put(position, sizeof position);
    double *dinverse = put(inverse, sizeof inverse);
    float *cosine = ops->take(bridge, 4 * 300 * 4), *sine = ops->take(bridge, 4 * 300 * 4);
    ops->angles(device, cosine, sine, dposition, dinverse, 1.25f, 4, 300);
    float *c = get(cosine, 4 * 300), *s = get(sine, 4 * 300);
    for (int i = 0; i < 4 * 300; i++) {
        double angle = position[i / 300] * inverse[i % 300];
        ck_assert_float_lt(fabsf(c[i] - (float)cos(angle) * 1.25f), 1e-6f);
        ck_assert_float_lt(fabsf(s[i] - (float)sin(angle) * 1.25f), 1e-6f);
    }
    free(c), free(s);
    close_device();
}
END_TEST

START_TEST(blocks_are_wiped_and_copied)
{
    enum { ELEMS = 96, BLOCKS = 4 };
    open_device(_i);
    size_t words = (size_t)(ELEMS * BLOCKS) / (exact ? 1 : 2), of_block = words / BLOCKS;
    float *x = noise_of(words, 31);
    void *base = put(x, words * 4);
    ops->kv_copy(device, base, ELEMS, 3, 1);
    ops->kv_zero(device, base, ELEMS, 1);
    float *got = get(base, words);
    for (size_t i = 0; i < words; i++) {
        size_t block = i / of_block, within = i % of_block;
        float want = block == 1 ? 0 : block == 3 ? x[of_block + within] : x[i];
        ck_assert(memcmp(&got[i], &want, 4) == 0);
    }
    free(x), free(got);
    close_device();
}
END_TEST

/* --- experts ----------------------------------------------------------------------------------------------------- */

static void choose(const float *score, int experts, int used, bool normalized, int *chosen, double *weight)
{
    double sum = 0;
    bool taken[64] = {false};
    for (int k = 0; k < used; k++) {
        int best = -1;
        for (int e = 0; e < experts; e++)
            if (!taken[e] && (best < 0 || score[e] > score[best]))
                best = e;
        taken[best] = true;
        chosen[k] = best;
        sum += weight[k] = exp((double)score[best]);
    }
    for (int e = 0; e < experts && !normalized; e++)
        sum += taken[e] ? 0 : exp((double)score[e]);
    for (int k = 0; k < used; k++)
        weight[k] /= sum;
}

static void experts(int rows, int count, int used, int n, int k, bool normalized)
{
    size_t slots = (size_t)(rows * used);
    float *scores = noise_of((size_t)(rows * count), 41), *bias = noise_of((size_t)count, 42);
    float *x = noise_of((size_t)(rows * k), 43), *w = noise_of((size_t)(count * n * k), 44);
    float *b = noise_of((size_t)(count * n), 45), *want = calloc((size_t)(rows * n), sizeof *want);
    for (int i = 0; i < count; i++)
        scores[i] = scores[0]; /* ties in the first row: the lower index goes first */
    memset(bias, 0, sizeof *bias * (rows > 3 ? 0 : (size_t)count));
    struct kern_device_rows dx = put_rows(x, rows, k), dw = put_rows(w, count * n, k);
    struct kern_device_routes r = {rows,
                                   count,
                                   used,
                                   normalized,
                                   ops->take(bridge, slots * 4),
                                   ops->take(bridge, slots * 4),
                                   ops->take(bridge, slots * 4),
                                   ops->take(bridge, (slots / KERN_DEVICE_TILE + (size_t)count) * 12),
                                   ops->take(bridge, 4)};
    float *dscores = put(scores, (size_t)(rows * count) * 4), *dbias = put(bias, (size_t)count * 4);
    float *db = put(b, (size_t)(count * n) * 4), *y = ops->take(bridge, slots * (size_t)n * 4);
    float *sum = ops->take(bridge, (size_t)(rows * n) * 4);
    ops->route(device, &r, dscores, dbias);
    ops->experts(device, &r, y, &dw, db, &dx, used);
    ops->combine(device, &r, sum, y, n);
    for (int i = 0; i < rows; i++) {
        int chosen[64];
        double weight[64];
        float score[64];
        for (int e = 0; e < count; e++)
            score[e] = scores[i * count + e] + bias[e];
        choose(score, count, used, normalized, chosen, weight);
        for (int u = 0; u < used; u++)
            for (int j = 0; j < n; j++) {
                double dot = (double)b[chosen[u] * n + j];
                for (int c = 0; c < k; c++)
                    dot += (double)as_stored(x[i * k + c]) * (double)as_stored(w[(chosen[u] * n + j) * k + c]);
                want[i * n + j] += (float)(weight[u] * dot);
            }
    }
    float *got = get(sum, (size_t)(rows * n));
    ck_assert_float_lt(off_by(got, want, (size_t)(rows * n)), 1e-5f);
    const void *taken[] = {r.chosen, r.weight, r.order, r.tile, r.tiles, dx.data, dw.data, dscores, dbias, db, y, sum};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        GIVE(taken[i]);
    free(scores), free(bias), free(x), free(w), free(b), free(want), free(got);
}

START_TEST(experts_agree)
{
    open_device(_i);
    experts(1, 4, 2, 17, 33, true);
    experts(3, 8, 2, 64, 64, false);
    experts(40, 8, 3, 9, 70, true); /* more than a tile of some */
    experts(5, 33, 33, 8, 16, true);
    close_device();
}
END_TEST

/* --- choosing ---------------------------------------------------------------------------------------------------- */

struct picking {
    struct sample_params p;
    struct sample_history history;
    uint32_t allowed[128];
    struct sample_bias bias[4];
    int32_t banned[2];
};

/* A staged step with one pick, as the engine makes it. */
static struct sample_result pick_on_device(const float *dlogits, float *dwork, int vocab, const struct picking *q,
                                           int id)
{
    size_t at, picks;
    struct kern_device_pick to = {.id = id,
                                  .temperature = q->p.temperature,
                                  .top_p = q->p.top_p,
                                  .min_p = q->p.min_p,
                                  .repetition = q->p.repetition,
                                  .presence = q->p.presence,
                                  .frequency = q->p.frequency,
                                  .top_k = q->p.top_k,
                                  .top = q->p.top,
                                  .choice = q->p.choice,
                                  .position = q->p.position,
                                  .seed = q->p.seed};
    struct kern_device_scored *out = ops->take(bridge, (1 + KERN_DEVICE_TOP_MAX) * sizeof *out);
    ops->step_begin(bridge);
    ck_assert(ops->stage(bridge, 16, &at) != NULL); /* offset 0 means none */
    if (q->p.allowed) {
        memcpy(ops->stage(bridge, sizeof q->allowed, &at), q->allowed, sizeof q->allowed);
        to.allowed = (uint32_t)at;
    }
    memcpy(ops->stage(bridge, sizeof q->bias, &at), q->bias, sizeof q->bias);
    to.bias = (uint32_t)at;
    to.bias_count = (uint32_t)q->p.bias_count;
    memcpy(ops->stage(bridge, sizeof q->banned, &at), q->banned, sizeof q->banned);
    to.banned = (uint32_t)at;
    to.banned_count = (uint32_t)q->p.banned_count;
    struct kern_device_seen *seen = ops->stage(bridge, 1000 * sizeof *seen, &at);
    for (size_t i = 0; i < q->history.cap; i++)
        if (q->history.slot[i].id >= 0)
            seen[to.seen_count++] = (struct kern_device_seen){q->history.slot[i].id, q->history.slot[i].produced};
    to.seen = (uint32_t)at;
    memcpy(ops->stage(bridge, sizeof to, &picks), &to, sizeof to);
    const uint8_t *base = ops->step_commit(bridge);
    ck_assert(base != NULL);
    int stride = to.top > 0 ? to.top : 0;
    ops->pick(device, out, stride, dlogits, dwork, vocab, (const struct kern_device_pick *)(const void *)(base + picks),
              base, 1);
    ck_assert(ops->drain_submit(bridge, BRIDGE_LOGPROBS_OUT, out, (size_t)(1 + stride) * sizeof *out));
    const struct kern_device_scored *host = ops->drain_wait(bridge);
    ck_assert(host != NULL);
    struct sample_result r = {.id = host->id, .logprob = host->value};
    for (int i = 1; i <= stride && host[i].id >= 0; i++)
        r.top[r.top_count++] = (struct sample_logprob){host[i].id, host[i].value};
    GIVE(out);
    return r;
}

static void compare_pick(const struct picking *q, const float *logits, int vocab, float *dlogits, float *dwork)
{
    struct sample_scratch scratch;
    struct sample_result want, got = pick_on_device(dlogits, dwork, vocab, q, -1);
    float *used_up = malloc((size_t)vocab * sizeof *used_up);
    memcpy(used_up, logits, (size_t)vocab * sizeof *used_up);
    ck_assert(sample_scratch_init(&scratch, (size_t)vocab));
    sample_pick(&want, &q->p, &q->history, used_up, (size_t)vocab, &scratch);
    ck_assert_msg(got.id == want.id, "vocab %d temperature %g top_k %u top_p %g min_p %g position %u: %d, not %d",
                  vocab, (double)q->p.temperature, q->p.top_k, (double)q->p.top_p, (double)q->p.min_p, q->p.position,
                  got.id, want.id);
    if (q->p.top >= 0 && want.id >= 0)
        ck_assert_float_lt(fabsf(got.logprob - want.logprob), 2e-5f);
    ck_assert_uint_eq(got.top_count, want.top_count);
    for (size_t i = 0; i < want.top_count; i++) {
        ck_assert_int_eq(got.top[i].id, want.top[i].id);
        ck_assert_float_lt(fabsf(got.top[i].logprob - want.top[i].logprob), 2e-5f);
    }
    sample_scratch_release(&scratch);
    free(used_up);
}

static void picks(int vocab, bool ties)
{
    static const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
    } ways[] = {{0, 1, 0, 0},       {1, 1, 0, 0},       {0.7f, 0.9f, 0, 0},      {1, 1, 0, 40},
                {1.3f, 0.8f, 0, 7}, {1, 0, 0, 0},       {1, 1, 0.05f, 0},        {2, 0.999f, 0, 0},
                {1, 0.5f, 0, 2500}, {1, 1, 0, 1000000}, {0.9f, 0.95f, 0.01f, 50}};
    float *logits = noise_of((size_t)vocab, 51 + (uint32_t)vocab);
    for (int i = 0; i < vocab; i++)
        logits[i] = ties ? floorf(logits[i] * 4) : logits[i] * 6;
    float *dlogits = put(logits, (size_t)vocab * 4), *dwork = ops->take(bridge, (size_t)vocab * 4);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        for (uint32_t position = 0; position < 3; position++) {
            struct picking q = {.p = {.temperature = ways[w].temperature,
                                      .top_p = ways[w].top_p,
                                      .min_p = ways[w].min_p,
                                      .top_k = ways[w].top_k,
                                      .repetition = 1,
                                      .seed = 12345678901234567u,
                                      .choice = 2,
                                      .position = position,
                                      .top = w == 2   ? 20
                                             : w == 3 ? 0
                                             : w == 4 ? 3
                                                      : -1}};
            compare_pick(&q, logits, vocab, dlogits, dwork);
        }
    GIVE(dlogits), GIVE(dwork);
    free(logits);
}

START_TEST(choices_are_the_samplers)
{
    open_device(true);
    picks(1, false);
    picks(300, false);
    picks(300, true);
    picks(4000, false);
    picks(4000, true);
    close_device();
}
END_TEST

START_TEST(rules_are_the_samplers)
{
    enum { VOCAB = 500 };
    open_device(true);
    float *logits = noise_of(VOCAB, 61);
    logits[3] = NAN;
    logits[4] = -INFINITY;
    float *dlogits = put(logits, VOCAB * 4), *dwork = ops->take(bridge, VOCAB * 4);
    for (int rule = 0; rule < 6; rule++)
        for (int warm = 0; warm < 2; warm++) {
            struct picking q = {.p = {.temperature = (float)warm, .top_p = 1, .repetition = 1, .seed = 7, .top = 5}};
            q.p.banned = q.banned;
            q.p.bias = q.bias;
            for (int32_t i = 0; i < 60 && (rule == 1 || rule == 5); i++)
                ck_assert(sample_history_add(&q.history, i * 7, i % 3 > 0));
            q.p.repetition = rule == 1 || rule == 5 ? 1.8f : 1;
            q.p.presence = rule == 5 ? 0.5f : 0;
            q.p.frequency = rule == 5 ? 0.25f : 0;
            q.p.bias_count = rule == 2 || rule == 5 ? 4 : 0;
            for (int i = 0; i < 4; i++)
                q.bias[i] = (struct sample_bias){i < 2    ? 77
                                                 : i == 2 ? -1
                                                          : VOCAB,
                                                 2}; /* twice the same, two strangers */
            q.p.banned_count = rule == 3 || rule == 5 ? 2 : 0;
            q.banned[0] = 77, q.banned[1] = VOCAB + 5;
            q.p.allowed = rule == 4 ? q.allowed : NULL;
            q.allowed[1] = warm ? 0x10101 : 0; /* none at all */
            compare_pick(&q, logits, VOCAB, dlogits, dwork);
            sample_history_release(&q.history);
        }
    struct picking given = {.p = {.top = 4}};
    struct sample_result want, got = pick_on_device(dlogits, dwork, VOCAB, &given, 123);
    struct sample_scratch scratch;
    ck_assert(sample_scratch_init(&scratch, VOCAB));
    sample_logprobs(&want, logits, VOCAB, 123, 4, &scratch);
    sample_scratch_release(&scratch);
    ck_assert_int_eq(got.id, 123);
    ck_assert_float_lt(fabsf(got.logprob - want.logprob), 2e-5f);
    ck_assert_int_eq(got.top[3].id, want.top[3].id);
    free(logits);
    close_device();
}
END_TEST

/* --- the bridge -------------------------------------------------------------------------------------------------- */

START_TEST(crossings_are_counted)
{
    struct bridge_stats s;
    size_t a, b;
    open_device(true);
    uint8_t bytes[5000];
    memset(bytes, 7, sizeof bytes);
    uint8_t *there = ops->take(bridge, sizeof bytes);
    ck_assert(ops->send(bridge, BRIDGE_WEIGHTS, there, bytes, 5000));
    ops->stats(bridge, &s);
    ck_assert_uint_eq(s.of[BRIDGE_WEIGHTS].crossings, 1);
    ck_assert_uint_eq(s.of[BRIDGE_WEIGHTS].bytes, 5000);
    for (uint64_t step = 1; step <= 5; step++) {
        uint64_t allocations = s.allocations;
        ops->step_begin(bridge);
        memset(ops->stage(bridge, 100, &a), (int)step, 100);
        memset(ops->stage(bridge, 70000, &b), (int)(10 * step), 70000); /* the first step's buffers grow here */
        ck_assert_uint_eq(b % 16, 0);
        const uint8_t *base = ops->step_commit(bridge);
        ck_assert(ops->drain_submit(bridge, BRIDGE_TOKENS_OUT, base + a, b - a + 70000));
        const uint8_t *out = ops->drain_wait(bridge);
        ck_assert(out && out[0] == step && out[99] == step && out[b - a] == 10 * step &&
                  out[b - a + 69999] == 10 * step);
        ops->stats(bridge, &s);
        ck_assert_uint_eq(s.of[BRIDGE_STEP_IN].crossings, step);
        ck_assert_uint_eq(s.of[BRIDGE_TOKENS_OUT].crossings, step);
        ck_assert(step == 1 || s.allocations == allocations);
    }
    close_device();
}
END_TEST

/* Staged bytes are read when the device comes to it: a step may not overwrite the one before. */
START_TEST(steps_do_not_overwrite_each_other)
{
    size_t at;
    open_device(true);
    float *sum = ops->take(bridge, 4);
    for (int step = 1; step <= 4; step++) {
        ops->step_begin(bridge);
        float *x = ops->stage(bridge, 4, &at);
        *x = (float)step;
        const float *there = ops->step_commit(bridge);
        ops->join(device, sum, there, NULL, 1, 1, 0); /* nobody waits */
    }
    float *got = get(sum, 1);
    ck_assert_float_eq(*got, 1 + 2 + 3 + 4);
    free(got);
    close_device();
}
END_TEST

#ifndef ON_GPU /* these two break things, as only the emulated device lets us */
START_TEST(failures_stay)
{
    char why[BRIDGE_WHY_MAX] = "";
    const char *reason = "";
    size_t at;
    open_device(true);
    emulated_fail_allocation(1);
    ck_assert(ops->take(bridge, 100) == NULL);
    ck_assert(strstr(ops->error(bridge), "out of memory") != NULL);
    ck_assert(ops->take(bridge, 100) == NULL); /* the first failure stays, nothing is done any more */
    ck_assert(!ops->send(bridge, BRIDGE_WEIGHTS, NULL, why, 1));
    ops->step_begin(bridge);
    ck_assert(ops->stage(bridge, 10, &at) == NULL);
    ck_assert(ops->step_commit(bridge) == NULL);
    ck_assert(ops->drain_wait(bridge) == NULL);
    ck_assert_uint_eq(ops->device_free(bridge), 0);
    ops->close(device);
    ck_assert_uint_eq(emulated_allocations(), 0);

    emulated_fail_allocation(1);
    ck_assert(ops->open(&(struct kern_device_config){.exact = true}, why) == NULL);
    ck_assert(strstr(why, "memory") != NULL);
    emulated_fail_allocation(0);
    ck_assert(ops->open(&(struct kern_device_config){.ordinal = 1}, why) == NULL);
    ck_assert(strstr(why, "no device of that number") != NULL);
    ck_assert(kern_device_find("abacus", &reason) == NULL);
    ck_assert(strstr(reason, "cpu or cuda") != NULL);
}
END_TEST

/* A host address where a device address belongs is refused, not followed. */
START_TEST(host_addresses_are_refused)
{
    float x[4] = {0};
    open_device(true);
    ops->soften(device, x, 4, 1);
    ck_assert(strstr(ops->error(bridge), "launch") != NULL);
    ops->close(device);
    open_device(true);
    ck_assert(!ops->send(bridge, BRIDGE_CONTROL, x, x, sizeof x));
    ops->close(device);
}
END_TEST

#endif

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, row_ops_agree, 0, 2);
    tcase_add_loop_test(tests, products_agree, 0, 2);
    tcase_add_loop_test(tests, attention_agrees, 0, 2);
    tcase_add_test(tests, angles_agree);
    tcase_add_loop_test(tests, blocks_are_wiped_and_copied, 0, 2);
    tcase_add_loop_test(tests, experts_agree, 0, 2);
    tcase_add_test(tests, choices_are_the_samplers);
    tcase_add_test(tests, rules_are_the_samplers);
    tcase_add_test(tests, crossings_are_counted);
    tcase_add_test(tests, steps_do_not_overwrite_each_other);
#ifndef ON_GPU
    tcase_add_test(tests, failures_stay);
    tcase_add_test(tests, host_addresses_are_refused);
#endif
}

RUN("kernels device, emulated", add_tests)
