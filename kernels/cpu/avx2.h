/* avx2.h - between the files of the AVX2 table, which alone are compiled for it. */
#ifndef KERNELS_CPU_AVX2_H
#define KERNELS_CPU_AVX2_H

#include "kernels/kernels.h"

#include <immintrin.h>
#include <string.h>

void kern_avx2_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece);
void kern_avx2_attend(const struct kern_attend *a);
void kern_avx2_peaks(float *peak, const float *x, int n);
void kern_avx2_weigh(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by);
void kern_avx2_sums(float *sum, const float *weight, int n, float least);
int kern_avx2_gather(float *to, const float *weight, int n, float least);

typedef __m256 vector;
#define LANES 8
#define V(op) _mm256_##op##_ps

static inline vector vector_round(vector x)
{
    return _mm256_round_ps(x, 8);
}

static inline vector vector_times_power(vector p, vector n)
{
    __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

static inline vector vector_unless_below(vector x, float least, vector y)
{
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_LT_OQ), y);
}

#include "kernels/cpu/vector_math.h"

static inline float kern_avx2_sum(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

static inline float kern_avx2_max(__m256 v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

#endif
