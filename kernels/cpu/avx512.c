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

void kern_avx512_gate(float *y, const float *g, const float *u, int n, enum kern_gate kind)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = kern_avx512_lanes(n - i);
        _mm512_mask_storeu_ps(y + i, m,
                              vector_gate(_mm512_maskz_loadu_ps(m, g + i), _mm512_maskz_loadu_ps(m, u + i), kind));
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

void kern_avx512_merge(struct kern_part *into, const struct kern_part *other, int dim)
{
    vector_merge(into, other, dim);
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
