/* avx512_weights.h - how the integer forms of matrix.h are read: 64 values of a group, scales and mins of 16 rows. */
#ifndef KERNELS_CPU_AVX512_WEIGHTS_H
#define KERNELS_CPU_AVX512_WEIGHTS_H

#include "kernels/cpu/avx512.h"

ALWAYS bool is_table(enum kern_form form)
{
    return form == KERN_FORM_IQ4_NL || form == KERN_FORM_IQ4_XS || form == KERN_FORM_MXFP4;
}

/* A scale for each 16 columns, not 32. */
ALWAYS bool is_halved(enum kern_form form)
{
    return form == KERN_FORM_Q6_K || form == KERN_FORM_Q3_K || form == KERN_FORM_Q2_K;
}

ALWAYS bool is_5_bits(enum kern_form form)
{
    return form == KERN_FORM_Q5_0 || form == KERN_FORM_Q5_1 || form == KERN_FORM_Q5_K;
}

ALWAYS __m512i vector_at(const uint8_t *block, int at)
{
    return _mm512_load_si512(block + 64 * at);
}

/* Bits `mask` of each byte from `a`, the others from `b`. */
ALWAYS __m512i bits_of(int mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi64(_mm512_set1_epi8((char)mask), a, b, 0xca);
}

/* Bits as matrix_pack.c's join_5 puts them. */
ALWAYS __m512i load_group_5(const uint8_t *block, int g)
{
    if (g < 5)
        return _mm512_and_si512(vector_at(block, g), _mm512_set1_epi8(31));
    __m512i high = _mm512_srli_epi16(vector_at(block, 2 * (g - 5)), 3), low;
    if (g < 7)
        low = _mm512_srli_epi16(vector_at(block, 2 * (g - 5) + 1), 6);
    else
        low = bits_of(2, _mm512_srli_epi16(vector_at(block, 1), 4), _mm512_srli_epi16(vector_at(block, 3), 5));
    return _mm512_and_si512(bits_of(28, high, low), _mm512_set1_epi8(31));
}

ALWAYS __m512i load_group_6(const uint8_t *block, int g)
{
    const uint8_t *half = block + 192 * (g / 4);
    __m512i all = _mm512_set1_epi8(63);
    if (g % 4 < 3)
        return _mm512_and_si512(vector_at(half, g % 4), all);
    __m512i high = bits_of(48, _mm512_srli_epi16(vector_at(half, 0), 2), _mm512_srli_epi16(vector_at(half, 1), 4));
    return _mm512_and_si512(bits_of(60, high, _mm512_srli_epi16(vector_at(half, 2), 6)), all);
}

/* 64 unsigned values of group `g` of a block. */
ALWAYS __m512i load_group(enum kern_form form, const uint8_t *block, int g, __m512i table)
{
    if (form == KERN_FORM_Q8_0)
        return vector_at(block, g);
    if (is_5_bits(form))
        return load_group_5(block, g);
    if (form == KERN_FORM_Q6_K)
        return load_group_6(block, g);
    __m512i pair = vector_at(block, g & 3);
    __m512i q = _mm512_and_si512(g < 4 ? pair : _mm512_srli_epi16(pair, 4), _mm512_set1_epi8(15));
    return is_table(form) ? _mm512_shuffle_epi8(table, q) : q;
}

ALWAYS __m512 halves(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
}

ALWAYS __m512 bytes_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)p)));
}

ALWAYS __m512 bytes_i8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)(const void *)p)));
}

/* E8M0 for doubled values: 2^(e - 128); below 2^-126 it is taken for zero, far under anything that matters. */
ALWAYS __m512 exponents(const uint8_t *p)
{
    __m512i e = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)p));
    __m512i biased = _mm512_max_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), _mm512_setzero_si512());
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

struct unit {
    __m512 d, dmin; /* of the types in blocks of 256 */
};

ALWAYS struct unit load_unit(enum kern_form form, const uint8_t *head)
{
    struct unit u = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    if (form == KERN_FORM_Q4_K || form == KERN_FORM_Q5_K || form == KERN_FORM_IQ4_XS || is_halved(form))
        u.d = halves(head);
    if (form == KERN_FORM_Q4_K || form == KERN_FORM_Q5_K || form == KERN_FORM_Q2_K)
        u.dmin = halves(head + 32);
    return u;
}

/* log2 of the offset of forms without a min: their dots start at minus that times the sum of the activations. */
ALWAYS unsigned offset_shift(enum kern_form form)
{
    return form == KERN_FORM_Q3_K                              ? 2
           : form == KERN_FORM_Q4_0                            ? 3
           : form == KERN_FORM_Q5_0 || form == KERN_FORM_MXFP4 ? 4
           : form == KERN_FORM_Q6_K                            ? 5
                                                               : 7;
}

ALWAYS bool has_min(enum kern_form form)
{
    return form == KERN_FORM_Q4_1 || form == KERN_FORM_Q5_1 || form == KERN_FORM_Q4_K || form == KERN_FORM_Q5_K ||
           form == KERN_FORM_Q2_K;
}

/* Scale and min (0 without one) of block `b` of the unit (forms with one scale for 32). */
ALWAYS void load_scale(enum kern_form form, const uint8_t *head, struct unit u, int b, __m512 *scale, __m512 *min)
{
    *min = _mm512_setzero_ps();
    if (form == KERN_FORM_Q4_K || form == KERN_FORM_Q5_K) {
        *scale = _mm512_mul_ps(u.d, bytes_u8(head + 64 + 16 * b));
        *min = _mm512_mul_ps(u.dmin, _mm512_sub_ps(*min, bytes_u8(head + 192 + 16 * b)));
        return;
    }
    if (form == KERN_FORM_IQ4_XS)
        *scale = _mm512_mul_ps(u.d, bytes_i8(head + 64 + 16 * b));
    else
        *scale = form == KERN_FORM_MXFP4 ? exponents(head + 16 * b) : halves(head + 32 * b);
    if (has_min(form))
        *min = halves(head + 32);
}

/* The same of 16 columns. */
ALWAYS void load_half_scale(enum kern_form form, const uint8_t *head, struct unit u, int at, __m512 *scale, __m512 *min)
{
    if (form == KERN_FORM_Q2_K) {
        *scale = _mm512_mul_ps(u.d, bytes_u8(head + 64 + at));
        *min = _mm512_mul_ps(u.dmin, _mm512_sub_ps(_mm512_setzero_ps(), bytes_u8(head + 320 + at)));
        return;
    }
    *scale = _mm512_mul_ps(u.d, bytes_i8(head + 64 + at));
    *min = _mm512_setzero_ps();
}

/* What nibbles stand for, with the offset that makes it unsigned. */
ALWAYS __m512i load_table(enum kern_form form)
{
    const struct kern_form_info *info = kern_form_info(form);
    if (!is_table(form))
        return _mm512_setzero_si512();
    return _mm512_add_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)info->table)),
                           _mm512_set1_epi8((char)(1 << offset_shift(form))));
}

ALWAYS __m512i broadcast4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

/* How the integer sums of a form become floats. */
struct scaling {
    bool halved, min;
    unsigned shift; /* offset_shift(), where there is no min */
};

ALWAYS struct scaling scaling_of(enum kern_form form)
{
    return (struct scaling){is_halved(form), has_min(form), has_min(form) ? 0 : offset_shift(form)};
}

/* Where the integer sum of activations starts whose scale is number `at`, or whose half is number `half`. */
ALWAYS __m512i start_dot(struct scaling s, const struct kern_acts *a, size_t at, size_t half)
{
    if (s.min)
        return _mm512_setzero_si512();
    return _mm512_slli_epi32(_mm512_set1_epi32(s.halved ? a->neg_half[half] : a->neg[at]), s.shift);
}

ALWAYS __m512 add_dot(struct scaling s, const struct kern_acts *a, size_t at, size_t half, __m512i dot, __m512 scale,
                      __m512 min, __m512 sum)
{
    __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(a->scale[at]));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), both, sum);
    if (s.min)
        sum = _mm512_fmadd_ps(min, _mm512_set1_ps(s.halved ? a->half[half] : a->sum[at]), sum);
    return sum;
}

#endif
