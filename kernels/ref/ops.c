/* ops.c - the slow twin of every op, in plain C, for machines without a fast path and as the oracle of its tests.
 * Sums run over blocks of 32 columns first, then over the blocks, as in the fast paths. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

static void ref_rmsnorm(float *y, const float *x, const float *w, int n, float eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    float factor = (float)(1.0 / sqrt(sum / n + (double)eps));
    for (int i = 0; i < n; i++)
        y[i] = x[i] * factor * w[i];
}

static void ref_quantize(struct kern_acts *a, int row)
{
    size_t stride = (size_t)a->stride;
    const float *x = a->x + (size_t)row * stride;
    for (size_t block = 0; block < stride / 32; block++) {
        float most = 0, halves[2] = {0, 0};
        for (size_t i = 32 * block; i < 32 * block + 32; i++)
            most = fmaxf(most, fabsf(x[i]));
        float scale = most / 127, inverse = most > 0 ? 127 / most : 0;
        for (size_t i = 0; i < 32; i++) {
            int8_t q = (int8_t)lrintf(x[32 * block + i] * inverse);
            a->q[(size_t)row * stride + 32 * block + i] = q;
            halves[i / 16] += (float)q;
        }
        size_t at = (size_t)row * stride / 32 + block;
        a->scale[at] = scale;
        a->sum[at] = scale * (halves[0] + halves[1]);
        a->half[2 * at] = scale * halves[0];
        a->half[2 * at + 1] = scale * halves[1];
        a->neg_half[2 * at] = -(int32_t)halves[0];
        a->neg_half[2 * at + 1] = -(int32_t)halves[1];
        a->neg[at] = a->neg_half[2 * at] + a->neg_half[2 * at + 1];
    }
}

static void product_tile(const struct kern_product *p, int tile, const struct kern_acts *a,
                         const struct kern_piece *piece)
{
    const struct kern_matrix *w = p->w;
    bool integer = kern_form_info(w->form)->integer;
    int lanes = w->rows - tile * KERN_TILE < KERN_TILE ? w->rows - tile * KERN_TILE : KERN_TILE;
    float values[KERN_TILE][KERN_BLOCK], *y = p->y + (size_t)piece->first * p->y_stride + tile * KERN_TILE;

    for (int m = 0; m < piece->count; m++)
        for (int lane = 0; lane < lanes; lane++) {
            float start = p->bias ? p->bias[tile * KERN_TILE + lane] : 0,
                  *to = &y[(size_t)m * p->y_stride + (size_t)lane];
            *to = p->add ? *to + start : start;
        }
    for (int block = 0; block * KERN_BLOCK < w->cols; block++) {
        kern_matrix_block(w, tile, block, values);
        for (int m = 0; m < piece->count; m++) {
            size_t at = (size_t)(piece->first + m) * (size_t)a->stride + (size_t)block * KERN_BLOCK;
            for (int lane = 0; lane < lanes; lane++) {
                float sum = 0;
                for (int k = 0; k < KERN_BLOCK; k++)
                    sum += values[lane][k] * (integer ? (float)a->q[at + (size_t)k] : a->x[at + (size_t)k]);
                y[(size_t)m * p->y_stride + (size_t)lane] += integer ? sum * a->scale[at / KERN_BLOCK] : sum;
            }
        }
    }
}

static void ref_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    for (int tile = piece->tile; tile < piece->tile + piece->tiles; tile++)
        product_tile(p, tile, a, piece);
}

static float gate_one(float g, float u, enum kern_gate kind)
{
    if (kind == KERN_GATE_GELU)
        return 0.5f * g * (1 + tanhf(0.7978845608028654f * (g + 0.044715f * g * g * g))) * u;
    if (kind == KERN_GATE_SILU)
        return g / (1 + expf(-g)) * u;
    g = fminf(g, 7);
    u = fmaxf(fminf(u, 7), -7);
    return g / (1 + expf(-1.702f * g)) * (u + 1);
}

static void ref_gate(float *y, const float *g, const float *u, int n, enum kern_gate kind)
{
    for (int i = 0; i < n; i++)
        y[i] = gate_one(g[i], u[i], kind);
}

static void ref_rope(float *x, const float *cosine, const float *sine, int pairs)
{
    for (int i = 0; i < pairs; i++) {
        float a = x[i], b = x[pairs + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[pairs + i] = a * sine[i] + b * cosine[i];
    }
}

static uint16_t half_clamped(float value)
{
    return kern_f32_to_f16(fmaxf(fminf(value, 65504), -65504));
}

static void ref_kv_store(void *keys, void *values, const float *k, const float *v, int dim, int slot, bool exact)
{
    for (int d = 0; d < dim; d++) {
        if (exact) {
            ((float *)keys)[d * KERN_KV_TOKENS + slot] = k[d];
            ((float *)values)[slot * dim + d] = v[d];
        } else {
            ((uint16_t *)keys)[d * KERN_KV_TOKENS + slot] = half_clamped(k[d]);
            ((uint16_t *)values)[slot * dim + d] = half_clamped(v[d]);
        }
    }
}

static float kv_at(const void *tile, bool exact, int index)
{
    return exact ? ((const float *)tile)[index] : kern_f16_to_f32(((const uint16_t *)tile)[index]);
}

static void attend_one(const struct kern_attend *a, int r)
{
    struct kern_part *part = a->part[r];
    int from = a->first[r] > a->position ? a->first[r] - a->position : 0;
    int to = a->last[r] - a->position < KERN_CHUNK - 1 ? a->last[r] - a->position : KERN_CHUNK - 1;
    float weight[KERN_CHUNK];

    part->max = -INFINITY;
    part->sum = 0;
    for (int t = from; t <= to; t++) {
        float score = 0;
        for (int d = 0; d < a->dim; d++)
            score +=
                a->query[r][d] * kv_at(a->keys[t / KERN_KV_TOKENS], a->exact, d * KERN_KV_TOKENS + t % KERN_KV_TOKENS);
        weight[t] = a->softcap > 0 ? a->softcap * tanhf(score / a->softcap) : score;
        part->max = fmaxf(part->max, weight[t]);
    }
    memset(part->out, 0, (size_t)a->dim * sizeof *part->out);
    for (int t = from; t <= to; t++) {
        float p = expf(weight[t] - part->max);
        part->sum += p;
        for (int d = 0; d < a->dim; d++)
            part->out[d] += p * kv_at(a->values[t / KERN_KV_TOKENS], a->exact, t % KERN_KV_TOKENS * a->dim + d);
    }
}

static void ref_attend(const struct kern_attend *a)
{
    for (int r = 0; r < a->queries; r++)
        attend_one(a, r);
}

static void ref_merge(struct kern_part *into, const struct kern_part *other, int dim)
{
    if (other->sum <= 0)
        return;
    float max = into->sum > 0 ? fmaxf(into->max, other->max) : other->max;
    float mine = into->sum > 0 ? expf(into->max - max) : 0, theirs = expf(other->max - max);
    into->sum = into->sum * mine + other->sum * theirs;
    into->max = max;
    for (int d = 0; d < dim; d++)
        into->out[d] = (mine > 0 ? into->out[d] * mine : 0) + other->out[d] * theirs;
}

static void ref_add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        y[i] += x[i];
}

static void ref_scale(float *y, const float *x, float f, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i] * f;
}

static void ref_peaks(float *peak, const float *x, int n)
{
    for (int i = 0; i < n; i++) {
        float *to = &peak[i / KERN_STRETCH];
        *to = i % KERN_STRETCH && !(x[i] > *to) ? *to : x[i] > -INFINITY ? x[i] : -INFINITY;
    }
}

static void ref_weigh(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by)
{
    for (int i = 0; i < n; i++) {
        float power = (x[i] - by->most) * by->inverse, *to = &sum[i / KERN_STRETCH];
        weight[i] = x[i] >= by->least && power >= -87 ? expf(power) : 0;
        *to = i % KERN_STRETCH ? *to + weight[i] : weight[i];
    }
}

static void ref_sums(float *sum, const float *weight, int n, float least)
{
    for (int i = 0; i < n; i++) {
        float *to = &sum[i / KERN_STRETCH], w = weight[i] >= least ? weight[i] : 0;
        *to = i % KERN_STRETCH ? *to + w : w;
    }
}

static int ref_gather(float *to, const float *weight, int n, float least)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        to[count] = weight[i];
        count += weight[i] >= least;
    }
    return count;
}

const struct kern_ops kern_ops_ref = {
    .name = "ref",
    .integer = false,
    .rmsnorm = ref_rmsnorm,
    .quantize = ref_quantize,
    .product = ref_product,
    .gate = ref_gate,
    .rope = ref_rope,
    .kv_store = ref_kv_store,
    .attend = ref_attend,
    .merge = ref_merge,
    .add = ref_add,
    .scale = ref_scale,
    .peaks = ref_peaks,
    .weigh = ref_weigh,
    .sums = ref_sums,
    .gather = ref_gather,
};
