/* avx2.c - the row-wise ops with AVX2, and the table. Lengths that are no multiple of eight end in plain C. */
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/cpu.h"

#include <math.h>

static void rmsnorm(float *y, const float *x, const float *w, int n, float eps)
{
    __m256 sums = _mm256_setzero_ps();
    int i = 0;
    for (; n - i >= 8; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        sums = _mm256_fmadd_ps(v, v, sums);
    }
    float sum = kern_avx2_sum(sums);
    for (; i < n; i++)
        sum += x[i] * x[i];
    float factor = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; n - i >= 8; i += 8)
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(factor)),
                                              _mm256_loadu_ps(w + i)));
    for (; i < n; i++)
        y[i] = x[i] * factor * w[i];
}

static __m256i to_bytes(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static void quantize(struct kern_acts *a, int row)
{
    const float *x = a->x + (size_t)row * (size_t)a->stride;
    int8_t *q = a->q + (size_t)row * (size_t)a->stride;
    size_t at = (size_t)row * (size_t)a->stride / 32;
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));

    for (int i = 0; i < a->stride; i += 32, at++) {
        __m256 v[4], most = _mm256_setzero_ps();
        __m256i n[4];
        for (int j = 0; j < 4; j++) {
            v[j] = _mm256_loadu_ps(x + i + 8 * j);
            most = _mm256_max_ps(most, _mm256_and_ps(v[j], magnitude));
        }
        float greatest = kern_avx2_max(most), scale = greatest / 127;
        __m256 inverse = _mm256_set1_ps(greatest > 0 ? 127 / greatest : 0);
        for (int j = 0; j < 4; j++)
            n[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], inverse));
        _mm256_storeu_si256((__m256i *)(void *)(q + i), to_bytes(n[0], n[1], n[2], n[3]));
        float low = kern_avx2_sum(_mm256_cvtepi32_ps(_mm256_add_epi32(n[0], n[1])));
        float high = kern_avx2_sum(_mm256_cvtepi32_ps(_mm256_add_epi32(n[2], n[3])));
        a->scale[at] = scale;
        a->sum[at] = scale * (low + high);
        a->half[2 * at] = scale * low;
        a->half[2 * at + 1] = scale * high;
        a->neg[at] = -(int32_t)(low + high);
        a->neg_half[2 * at] = -(int32_t)low;
        a->neg_half[2 * at + 1] = -(int32_t)high;
    }
}

static void gate(float *y, const float *g, const float *u, int n, enum kern_gate kind)
{
    int i = 0;
    for (; n - i >= 8; i += 8)
        _mm256_storeu_ps(y + i, vector_gate(_mm256_loadu_ps(g + i), _mm256_loadu_ps(u + i), kind));
    if (i < n)
        kern_ops_ref.gate(y + i, g + i, u + i, n - i, kind);
}

static void rope(float *x, const float *cosine, const float *sine, int pairs)
{
    int i = 0;
    for (; pairs - i >= 8; i += 8) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + pairs + i);
        __m256 c = _mm256_loadu_ps(cosine + i), s = _mm256_loadu_ps(sine + i);
        _mm256_storeu_ps(x + i, _mm256_fnmadd_ps(b, s, _mm256_mul_ps(a, c)));
        _mm256_storeu_ps(x + pairs + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
    for (; i < pairs; i++) {
        float a = x[i], b = x[pairs + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[pairs + i] = a * sine[i] + b * cosine[i];
    }
}

static __m128i half_clamped(__m256 v)
{
    __m256 most = _mm256_set1_ps(65504);
    v = _mm256_max_ps(_mm256_min_ps(v, most), _mm256_sub_ps(_mm256_setzero_ps(), most));
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static void kv_store(void *keys, void *values, const float *k, const float *v, int dim, int slot, bool exact)
{
    if (exact) {
        kern_ops_ref.kv_store(keys, values, k, v, dim, slot, exact);
        return;
    }
    uint16_t *column = (uint16_t *)keys + slot, *row = (uint16_t *)values + slot * dim;
    for (int d = 0; d < dim; d += 8) {
        uint16_t half[8];
        _mm_storeu_si128((__m128i *)(void *)half, half_clamped(_mm256_loadu_ps(k + d)));
        for (int i = 0; i < 8; i++)
            column[(d + i) * KERN_KV_TOKENS] = half[i];
        _mm_storeu_si128((__m128i *)(void *)(row + d), half_clamped(_mm256_loadu_ps(v + d)));
    }
}

static void add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i++) /* the compiler makes vectors of it */
        y[i] += x[i];
}

static void scale(float *y, const float *x, float f, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i] * f;
}

const struct kern_ops kern_ops_avx2 = {
    .name = "avx2",
    .integer = true,
    .rmsnorm = rmsnorm,
    .quantize = quantize,
    .product = kern_avx2_product,
    .gate = gate,
    .rope = rope,
    .kv_store = kv_store,
    .attend = kern_avx2_attend,
    .merge = vector_merge,
    .add = add,
    .scale = scale,
    .peaks = kern_avx2_peaks,
    .weigh = kern_avx2_weigh,
    .sums = kern_avx2_sums,
    .gather = kern_avx2_gather,
};
