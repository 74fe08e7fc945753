/* avx512.h - between the files of the AVX-512 table, which alone are compiled for it. */
#ifndef KERNELS_CPU_AVX512_H
#define KERNELS_CPU_AVX512_H

#include "kernels/kernels.h"

#include <immintrin.h>
#include <string.h>

void kern_avx512_product(const struct kern_matrix *w, int tile, const struct kern_acts *a, int first, int count,
                         float *y, size_t y_stride, const float *bias, bool add);
void kern_avx512_attend(const struct kern_attend *a);

/* e^x to 2 units in the last place for x <= 88; below -87.3 it is 0, also for -infinity. Cody-Waite reduction, then the
 * Taylor polynomial of degree 7 on |r| <= ln(2)/2 (its remainder is under 1e-8). */
static inline __m512 kern_avx512_exp(__m512 x)
{
    __mmask16 small = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3f), _CMP_LT_OQ);
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.3f)), _mm512_set1_ps(88.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860682030941723e-6f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_mask_mov_ps(_mm512_scalef_ps(p, n), small, _mm512_setzero_ps());
}

/* tanh(x) = 1 - 2 / (e^(2x) + 1) */
static inline __m512 kern_avx512_tanh(__m512 x)
{
    __m512 e = kern_avx512_exp(_mm512_add_ps(x, x)), one = _mm512_set1_ps(1);
    return _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2), _mm512_add_ps(e, one)));
}

#endif
