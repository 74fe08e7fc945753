/* avx512.c - the row-wise ops with AVX-512, and the table. */
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/cpu.h"

#include <math.h>

void kern_avx512_rmsnorm(float *y, const float *x, const float *w, int n, float eps)
{
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(kern_avx512_lanes(n - i), x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(sum) / (float)n + eps));
    for (int i = 0; i < n; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(kern_avx512_lanes(n - i), x + i), factor);
        _mm512_mask_storeu_ps(y + i, kern_avx512_lanes(n - i),
                              _mm512_mul_ps(v, _mm512_maskz_loadu_ps(kern_avx512_lanes(n - i), w + i)));
    }
}

void kern_avx512_quantize(struct kern_acts *a, int row)
{
    const float *x = a->x + (size_t)row * (size_t)a->stride;
    int8_t *q = a->q + (size_t)row * (size_t)a->stride;
    size_t at = (size_t)row * (size_t)a->stride / 32;

    for (int i = 0; i < a->stride; i += 32, at++) {
        __m512 low = _mm512_load_ps(x + i), high = _mm512_load_ps(x + i + 16);
        float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        __m512 inverse = _mm512_set1_ps(most > 0 ? 127 / most : 0);
        __m512i ql = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
        __m512i qh = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
        _mm_store_si128((__m128i *)(void *)(q + i), _mm512_cvtsepi32_epi8(ql));
        _mm_store_si128((__m128i *)(void *)(q + i + 16), _mm512_cvtsepi32_epi8(qh));
        float scale = most / 127;
        int sl = _mm512_reduce_add_epi32(ql), sh = _mm512_reduce_add_epi32(qh);
        a->scale[at] = scale;
        a->sum[at] = scale * (float)(sl + sh);
        a->half[2 * at] = scale * (float)sl;
        a->half[2 * at + 1] = scale * (float)sh;
        a->neg[at] = -(sl + sh);
        a->neg_half[2 * at] = -sl;
        a->neg_half[2 * at + 1] = -sh;
    }
}

static __m512 sigmoid(__m512 x)
{
    __m512 one = _mm512_set1_ps(1);
    return _mm512_div_ps(one, _mm512_add_ps(one, kern_avx512_exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

static __m512 gate_16(__m512 g, __m512 u, enum kern_gate kind)
{
    __m512 one = _mm512_set1_ps(1);
    if (kind == KERN_GATE_SILU)
        return _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), u);
    if (kind == KERN_GATE_GELU) {
        __m512 inner = _mm512_fmadd_ps(_mm512_mul_ps(g, g), _mm512_set1_ps(0.044715f), one);
        inner = _mm512_mul_ps(_mm512_mul_ps(inner, g), _mm512_set1_ps(0.7978845608028654f));
        __m512 half = _mm512_mul_ps(_mm512_set1_ps(0.5f), g);
        return _mm512_mul_ps(_mm512_mul_ps(half, _mm512_add_ps(one, kern_avx512_tanh(inner))), u);
    }
    g = _mm512_min_ps(g, _mm512_set1_ps(7));
    u = _mm512_max_ps(_mm512_min_ps(u, _mm512_set1_ps(7)), _mm512_set1_ps(-7));
    __m512 s = sigmoid(_mm512_mul_ps(g, _mm512_set1_ps(1.702f)));
    return _mm512_mul_ps(_mm512_mul_ps(g, s), _mm512_add_ps(u, one));
}

void kern_avx512_gate(float *y, const float *g, const float *u, int n, enum kern_gate kind)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = kern_avx512_lanes(n - i);
        _mm512_mask_storeu_ps(y + i, m,
                              gate_16(_mm512_maskz_loadu_ps(m, g + i), _mm512_maskz_loadu_ps(m, u + i), kind));
    }
}

void kern_avx512_rope(float *x, const float *cosine, const float *sine, int pairs)
{
    for (int i = 0; i < pairs; i += 16) {
        __mmask16 m = kern_avx512_lanes(pairs - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + pairs + i);
        __m512 c = _mm512_maskz_loadu_ps(m, cosine + i), s = _mm512_maskz_loadu_ps(m, sine + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c)));
        _mm512_mask_storeu_ps(x + pairs + i, m, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

static __m256i half_clamped(__m512 v)
{
    __m512 most = _mm512_set1_ps(65504);
    v = _mm512_max_ps(_mm512_min_ps(v, most), _mm512_sub_ps(_mm512_setzero_ps(), most));
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

void kern_avx512_kv_store(void *keys, void *values, const float *k, const float *v, int dim, int slot, bool exact)
{
    if (exact) {
        kern_ops_ref.kv_store(keys, values, k, v, dim, slot, exact);
        return;
    }
    uint16_t *column = (uint16_t *)keys + slot, *row = (uint16_t *)values + slot * dim;
    for (int d = 0; d < dim; d += 16) {
        uint16_t half[16];
        _mm256_storeu_si256((__m256i *)(void *)half, half_clamped(_mm512_loadu_ps(k + d)));
        for (int i = 0; i < 16; i++)
            column[(d + i) * KERN_KV_TOKENS] = half[i];
        _mm256_storeu_si256((__m256i *)(void *)(row + d), half_clamped(_mm512_loadu_ps(v + d)));
    }
}

static float exp_one(float x)
{
    return _mm512_cvtss_f32(kern_avx512_exp(_mm512_set1_ps(x)));
}

void kern_avx512_merge(struct kern_part *into, const struct kern_part *other, int dim)
{
    if (other->sum <= 0)
        return;
    bool empty = into->sum <= 0;
    float max = empty ? other->max : fmaxf(into->max, other->max);
    float mine = empty ? 0 : exp_one(into->max - max), theirs = exp_one(other->max - max);
    into->sum = fmaf(into->sum, mine, other->sum * theirs);
    into->max = max;
    for (int d = 0; d < dim; d += 16) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(other->out + d), _mm512_set1_ps(theirs));
        if (!empty)
            v = _mm512_fmadd_ps(_mm512_loadu_ps(into->out + d), _mm512_set1_ps(mine), v);
        _mm512_storeu_ps(into->out + d, v);
    }
}

void kern_avx512_add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = kern_avx512_lanes(n - i);
        _mm512_mask_storeu_ps(y + i, m,
                              _mm512_add_ps(_mm512_maskz_loadu_ps(m, y + i), _mm512_maskz_loadu_ps(m, x + i)));
    }
}

void kern_avx512_scale(float *y, const float *x, float f, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = kern_avx512_lanes(n - i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(f)));
    }
}

const struct kern_ops kern_ops_avx512 = {KERN_AVX512_OPS, .name = "avx512", .product = kern_avx512_product};
