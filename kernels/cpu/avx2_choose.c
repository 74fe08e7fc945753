/* avx2_choose.c - choosing a token, with AVX2. */
#include "kernels/cpu/avx2.h"

static inline vector vector_from(vector x, float least, vector y)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_GE_OQ), y);
}

static inline float vector_total(vector v)
{
    return kern_avx2_sum(v);
}

static inline float vector_greatest(vector v)
{
    return kern_avx2_max(v);
}

#include "kernels/cpu/vector_choose.h"

void kern_avx2_peaks(float *peak, const float *x, int n)
{
    vector_peaks(peak, x, n);
}

void kern_avx2_weigh(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by)
{
    vector_weigh(weight, sum, x, n, by);
}

void kern_avx2_sums(float *sum, const float *weight, int n, float least)
{
    vector_sums(sum, weight, n, least);
}

/* Mostly no lane is wanted; where one is, all eight are written and only those wanted kept. */
int kern_avx2_gather(float *to, const float *weight, int n, float least)
{
    int count = 0, i = 0;
    for (; n - i >= 8; i += 8) {
        __m256 wanted = _mm256_cmp_ps(_mm256_loadu_ps(weight + i), _mm256_set1_ps(least), _CMP_GE_OQ);
        int lanes = _mm256_movemask_ps(wanted);
        for (int k = 0; lanes && k < 8; k++) {
            to[count] = weight[i + k];
            count += lanes >> k & 1;
        }
    }
    return count + kern_ops_ref.gather(to + count, weight + i, n - i, least);
}
