/* avx512.h - between the files of the AVX-512 tables, which alone are compiled for it. */
#ifndef KERNELS_CPU_AVX512_H
#define KERNELS_CPU_AVX512_H

#include "kernels/kernels.h"

#include <immintrin.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

void kern_avx512_rmsnorm(float *y, const float *x, const float *w, int n, float eps);
void kern_avx512_quantize(struct kern_acts *a, int row);
void kern_avx512_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece);
/* Integer forms, any number of rows: the same bits. */
void kern_avx512_panel(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece);
void kern_avx512_gate(float *y, const float *g, const float *u, int n, enum kern_gate kind);
void kern_avx512_rope(float *x, const float *cosine, const float *sine, int pairs);
void kern_avx512_kv_store(void *keys, void *values, const float *k, const float *v, int dim, int slot, bool exact);
void kern_avx512_attend(const struct kern_attend *a);
void kern_avx512_merge(struct kern_part *into, const struct kern_part *other, int dim);
void kern_avx512_add(float *y, const float *x, int n);
void kern_avx512_scale(float *y, const float *x, float f, int n);
void kern_avx512_peaks(float *peak, const float *x, int n);
void kern_avx512_weigh(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by);
void kern_avx512_sums(float *sum, const float *weight, int n, float least);
int kern_avx512_gather(float *to, const float *weight, int n, float least);
/* The tiles of the chunk that some query sees. */
void kern_avx512_seen(const struct kern_attend *a, int *first, int *last);
/* Scores of query `r` to weights: softcap, hide what it does not see, subtract the greatest, exponentiate. */
void kern_avx512_soften(const struct kern_attend *a, int r, float *score, int from, int to);
/* These need AVX512-BF16: the other files call them only on its machines. */
void kern_avx512bf16_round(struct kern_acts *a, int row);
void kern_avx512bf16_attend(const struct kern_attend *a);
void kern_avx512bf16_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece);

/* What the AVX-512 tables have in common. */
#define KERN_AVX512_OPS                                                                                                \
    .integer = true, .rmsnorm = kern_avx512_rmsnorm, .quantize = kern_avx512_quantize, .gate = kern_avx512_gate,       \
    .rope = kern_avx512_rope, .kv_store = kern_avx512_kv_store, .merge = kern_avx512_merge, .add = kern_avx512_add,    \
    .scale = kern_avx512_scale, .peaks = kern_avx512_peaks, .weigh = kern_avx512_weigh, .sums = kern_avx512_sums,      \
    .gather = kern_avx512_gather

/* The first `n` lanes, at most all 16. */
static inline __mmask16 kern_avx512_lanes(int n)
{
    return (__mmask16)(n >= 16 ? 0xffff : (1 << n) - 1);
}

/* Where a tile's sums start: the bias, or zero. */
ALWAYS __m512 kern_avx512_start(const struct kern_product *p, int tile)
{
    if (!p->bias)
        return _mm512_setzero_ps();
    return _mm512_maskz_loadu_ps(kern_avx512_lanes(p->w->rows - tile * KERN_TILE), p->bias + tile * KERN_TILE);
}

/* A tile's sums to activation row `row` of the output; lanes beyond the last row of W are not written. */
ALWAYS void kern_avx512_finish(const struct kern_product *p, int tile, int row, __m512 sum)
{
    __mmask16 lanes = kern_avx512_lanes(p->w->rows - tile * KERN_TILE);
    float *y = p->y + (size_t)row * p->y_stride + (size_t)tile * KERN_TILE;
    if (p->add)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes, y));
    _mm512_mask_storeu_ps(y, lanes, sum);
}

typedef __m512 vector;
#define LANES 16
#define V(op) _mm512_##op##_ps

static inline vector vector_round(vector x)
{
    return _mm512_roundscale_ps(x, 8);
}

static inline vector vector_times_power(vector p, vector n)
{
    return _mm512_scalef_ps(p, n);
}

static inline vector vector_unless_below(vector x, float least, vector y)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(least), _CMP_NLT_UQ), y);
}

#include "kernels/cpu/vector_math.h"

#endif
