/* avx512_choose.c - choosing a token, with AVX-512. */
#include "kernels/cpu/avx512.h"

static inline vector vector_from(vector x, float least, vector y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(least), _CMP_GE_OQ), y);
}

static inline float vector_total(vector v)
{
    return _mm512_reduce_add_ps(v);
}

static inline float vector_greatest(vector v)
{
    return _mm512_reduce_max_ps(v);
}

#include "kernels/cpu/vector_choose.h"

void kern_avx512_peaks(float *peak, const float *x, int n)
{
    vector_peaks(peak, x, n);
}

void kern_avx512_weigh(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by)
{
    vector_weigh(weight, sum, x, n, by);
}

void kern_avx512_sums(float *sum, const float *weight, int n, float least)
{
    vector_sums(sum, weight, n, least);
}

/* Compressed in a register: some processors take hundreds of cycles to compress into memory. */
int kern_avx512_gather(float *to, const float *weight, int n, float least)
{
    int count = 0;
    for (int i = 0; i < n; i += 16) {
        __mmask16 there = kern_avx512_lanes(n - i);
        __m512 w = _mm512_maskz_loadu_ps(there, weight + i);
        __mmask16 wanted = _mm512_mask_cmp_ps_mask(there, w, _mm512_set1_ps(least), _CMP_GE_OQ);
        _mm512_storeu_ps(to + count, _mm512_maskz_compress_ps(wanted, w));
        count += __builtin_popcount(wanted);
    }
    return count;
}
