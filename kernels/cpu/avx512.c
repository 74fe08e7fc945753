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

/* The largest of each of four vectors. */
static __m128 largest_4(const __m512 v[4])
{
    __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    __m512 all = _mm512_max_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    __m256 folded = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_max_ps(_mm256_castps256_ps128(folded), _mm256_extractf128_ps(folded, 1));
}

/* 32 columns to bytes; sums of each four of them. */
static __m256i quantize_block(int8_t *q, const float *x, float inverse)
{
    __m512 by = _mm512_set1_ps(inverse);
    __m128i low = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(x), by)));
    __m128i high = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(x + 16), by)));
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    _mm256_store_si256((__m256i *)(void *)q, both);
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), both);
}

/* Four blocks of 32 at a time, which padding leaves room for; what lies beyond the last column stays zero. */
void kern_avx512_quantize(struct kern_acts *a, int row)
{
    const float *x = a->x + (size_t)row * (size_t)a->stride;
    int8_t *q = a->q + (size_t)row * (size_t)a->stride;
    size_t at = (size_t)row * (size_t)a->stride / 32;

    for (int i = 0; i < a->cols; i += 128, at += 4) {
        __m512 most[4];
        __m256i four[4];
        _Alignas(16) float inverse[4];
        for (int b = 0; b < 4; b++)
            most[b] = _mm512_max_ps(_mm512_abs_ps(_mm512_load_ps(x + i + 32 * b)),
                                    _mm512_abs_ps(_mm512_load_ps(x + i + 32 * b + 16)));
        __m128 largest = largest_4(most), top = _mm_set1_ps(127), scale = _mm_div_ps(largest, top);
        __m128 positive = _mm_cmpgt_ps(largest, _mm_setzero_ps());
        _mm_store_ps(inverse, _mm_and_ps(positive, _mm_div_ps(top, largest)));
        for (int b = 0; b < 4; b++)
            four[b] = quantize_block(q + i + 32 * b, x + i + 32 * b, inverse[b]);
        __m256i sums = _mm256_hadd_epi32(_mm256_hadd_epi32(four[0], four[1]), _mm256_hadd_epi32(four[2], four[3]));
        __m128i low = _mm256_castsi256_si128(sums), high = _mm256_extracti128_si256(sums, 1);
        __m128i all = _mm_add_epi32(low, high), zero = _mm_setzero_si128();
        __m128 low_x = _mm_mul_ps(scale, _mm_cvtepi32_ps(low)), high_x = _mm_mul_ps(scale, _mm_cvtepi32_ps(high));
        __m128i low_neg = _mm_sub_epi32(zero, low), high_neg = _mm_sub_epi32(zero, high);
        _mm_storeu_ps(a->scale + at, scale);
        _mm_storeu_ps(a->sum + at, _mm_mul_ps(scale, _mm_cvtepi32_ps(all)));
        _mm_storeu_ps(a->half + 2 * at, _mm_unpacklo_ps(low_x, high_x));
        _mm_storeu_ps(a->half + 2 * at + 4, _mm_unpackhi_ps(low_x, high_x));
        _mm_storeu_si128((__m128i *)(void *)(a->neg + at), _mm_sub_epi32(zero, all));
        _mm_storeu_si128((__m128i *)(void *)(a->neg_half + 2 * at), _mm_unpacklo_epi32(low_neg, high_neg));
        _mm_storeu_si128((__m128i *)(void *)(a->neg_half + 2 * at + 4), _mm_unpackhi_epi32(low_neg, high_neg));
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

const struct kern_ops kern_ops_avx512 = {KERN_AVX512_OPS, .name = "avx512", .product = kern_avx512_product,
                                         .attend = kern_avx512_attend};
