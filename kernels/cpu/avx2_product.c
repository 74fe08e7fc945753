/* avx2_product.c - products with AVX2: a tile as two halves of eight rows. Integers go through 16 bits, exactly:
 * values under 64 times 127, twice, stay below 2^15; bytes are split into two nibbles. */
#include "kernels/cpu/avx2.h"

#define ALWAYS static inline __attribute__((always_inline))
#define ROWS_MAX 4
#define HALF 8 /* rows of half a tile */

ALWAYS __m256 halves(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p));
}

ALWAYS __m256 bytes(const uint8_t *p, bool is_signed)
{
    __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight));
}

ALWAYS __m256 exponents(const uint8_t *p)
{
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m256i biased = _mm256_max_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), _mm256_setzero_si256());
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

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

/* The half of the vector that these rows are. */
ALWAYS __m256i vector_at(const uint8_t *block, int at, int half)
{
    return _mm256_load_si256((const __m256i *)(const void *)(block + 64 * at + 32 * half));
}

/* Bits `mask` of each byte from `a`, the others from `b`. */
ALWAYS __m256i bits_of(int mask, __m256i a, __m256i b)
{
    __m256i m = _mm256_set1_epi8((char)mask);
    return _mm256_or_si256(_mm256_and_si256(m, a), _mm256_andnot_si256(m, b));
}

/* Bits as matrix_pack.c's join_5 puts them. */
ALWAYS __m256i load_group_5(const uint8_t *block, int g, int half)
{
    if (g < 5)
        return _mm256_and_si256(vector_at(block, g, half), _mm256_set1_epi8(31));
    __m256i high = _mm256_srli_epi16(vector_at(block, 2 * (g - 5), half), 3), low;
    if (g < 7)
        low = _mm256_srli_epi16(vector_at(block, 2 * (g - 5) + 1, half), 6);
    else
        low = bits_of(2, _mm256_srli_epi16(vector_at(block, 1, half), 4),
                      _mm256_srli_epi16(vector_at(block, 3, half), 5));
    return _mm256_and_si256(bits_of(28, high, low), _mm256_set1_epi8(31));
}

ALWAYS __m256i load_group_6(const uint8_t *block, int g, int half)
{
    const uint8_t *part = block + 192 * (g / 4);
    __m256i all = _mm256_set1_epi8(63);
    if (g % 4 < 3)
        return _mm256_and_si256(vector_at(part, g % 4, half), all);
    __m256i high =
        bits_of(48, _mm256_srli_epi16(vector_at(part, 0, half), 2), _mm256_srli_epi16(vector_at(part, 1, half), 4));
    return _mm256_and_si256(bits_of(60, high, _mm256_srli_epi16(vector_at(part, 2, half), 6)), all);
}

/* 32 unsigned values of group `g`, rows 8 * half .. 8 * half + 7. */
ALWAYS __m256i load_group(enum kern_form form, const uint8_t *block, int g, int half, __m256i table)
{
    if (form == KERN_FORM_Q8_0)
        return vector_at(block, g, half);
    if (is_5_bits(form))
        return load_group_5(block, g, half);
    if (form == KERN_FORM_Q6_K)
        return load_group_6(block, g, half);
    __m256i pair = vector_at(block, g & 3, half);
    __m256i q = _mm256_and_si256(g < 4 ? pair : _mm256_srli_epi16(pair, 4), _mm256_set1_epi8(15));
    return is_table(form) ? _mm256_shuffle_epi8(table, q) : q;
}

ALWAYS __m256i dot_4(enum kern_form form, __m256i sum, __m256i w, __m256i x)
{
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    if (form != KERN_FORM_Q8_0 && form != KERN_FORM_IQ4_NL && form != KERN_FORM_IQ4_XS)
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_and_si256(w, low), x), ones));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(high, x), _mm256_set1_epi16(16)));
}

/* Nibbles times 127, sixteen of them, stay below 2^15: a whole block is summed in 16 bits. */
ALWAYS bool sums_in_16(enum kern_form form)
{
    return form == KERN_FORM_Q4_0 || form == KERN_FORM_Q4_1 || form == KERN_FORM_Q4_K || form == KERN_FORM_Q3_K ||
           form == KERN_FORM_Q2_K;
}

ALWAYS void load_scale(enum kern_form form, const uint8_t *head, int b, int sub, int half, __m256 *scale, __m256 *min)
{
    static const int offsets[KERN_FORMS] = {
        [KERN_FORM_Q4_0] = 8,   [KERN_FORM_Q5_0] = 16, [KERN_FORM_Q8_0] = 128, [KERN_FORM_IQ4_NL] = 128,
        [KERN_FORM_MXFP4] = 16, [KERN_FORM_Q6_K] = 32, [KERN_FORM_Q3_K] = 4,   [KERN_FORM_IQ4_XS] = 128};
    if (form == KERN_FORM_Q4_K || form == KERN_FORM_Q5_K) {
        __m256 dmin = _mm256_sub_ps(_mm256_setzero_ps(), halves(head + 32 + 16 * half));
        *scale = _mm256_mul_ps(halves(head + 16 * half), bytes(head + 64 + 16 * b + 8 * half, false));
        *min = _mm256_mul_ps(dmin, bytes(head + 192 + 16 * b + 8 * half, false));
        return;
    }
    if (form == KERN_FORM_Q2_K) {
        __m256 dmin = _mm256_sub_ps(_mm256_setzero_ps(), halves(head + 32 + 16 * half));
        *scale = _mm256_mul_ps(halves(head + 16 * half), bytes(head + 64 + 32 * b + 16 * sub + 8 * half, false));
        *min = _mm256_mul_ps(dmin, bytes(head + 320 + 32 * b + 16 * sub + 8 * half, false));
        return;
    }
    if (is_halved(form))
        *scale = _mm256_mul_ps(halves(head + 16 * half), bytes(head + 64 + 32 * b + 16 * sub + 8 * half, true));
    else if (form == KERN_FORM_IQ4_XS)
        *scale = _mm256_mul_ps(halves(head + 16 * half), bytes(head + 64 + 16 * b + 8 * half, true));
    else
        *scale = form == KERN_FORM_MXFP4 ? exponents(head + 16 * b + 8 * half) : halves(head + 32 * b + 16 * half);
    *min = form == KERN_FORM_Q4_1 || form == KERN_FORM_Q5_1
               ? halves(head + 32 + 16 * half)
               : _mm256_mul_ps(*scale, _mm256_set1_ps((float)-offsets[form]));
}

ALWAYS __m256i broadcast4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Groups `g` .. `end - 1` of a block: the whole of it, or one half of 16 columns (two scales: `sub` 0 or 1). */
ALWAYS void groups(enum kern_form form, const uint8_t *unit, const uint8_t *block, int b, int sub, int half, int rows,
                   __m256i table, const struct kern_acts *a, size_t row, size_t col, __m256 *sum)
{
    bool two = is_halved(form);
    size_t stride = (size_t)a->stride;
    __m256i dot[ROWS_MAX];
    __m256 scale, min;
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++)
        dot[m] = _mm256_setzero_si256();
    for (int i = 0; i < (two ? 4 : 8); i++) {
        int g = two ? 4 * sub + i : i;
        __m256i w = load_group(form, block, g, half, table);
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++) {
            __m256i x = broadcast4(a->q + (row + (size_t)m) * stride + col + 4 * (size_t)g);
            dot[m] =
                sums_in_16(form) ? _mm256_add_epi16(dot[m], _mm256_maddubs_epi16(w, x)) : dot_4(form, dot[m], w, x);
        }
    }
    if (sums_in_16(form))
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++)
            dot[m] = _mm256_madd_epi16(dot[m], _mm256_set1_epi16(1));
    load_scale(form, unit, b, sub, half, &scale, &min);
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++) {
        size_t at = ((row + (size_t)m) * stride + col) / 32;
        __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(a->scale[at]));
        sum[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m]), both, sum[m]);
        sum[m] = _mm256_fmadd_ps(min, _mm256_set1_ps(two ? a->half[2 * at + (size_t)sub] : a->sum[at]), sum[m]);
    }
}

ALWAYS void integer_rows(enum kern_form form, int unit_blocks, const struct kern_matrix *w, int tile, int half,
                         int rows, const struct kern_acts *a, size_t row, __m256 *sum)
{
    const struct kern_form_info *info = kern_form_info(form);
    const uint8_t *unit = w->data + (size_t)tile * w->tile_bytes;
    size_t head = info->head, block_bytes = info->block, col = 0;
    __m256i table = _mm256_setzero_si256();

    if (is_table(form))
        table =
            _mm256_add_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)info->table)),
                            _mm256_set1_epi8((char)(form == KERN_FORM_MXFP4 ? 16 : 128)));
    for (int i = 0; i < w->units; i++, unit += w->unit_bytes)
        for (int b = 0; b < unit_blocks; b++, col += 32) {
            const uint8_t *block = unit + head + (size_t)b * block_bytes;
            groups(form, unit, block, b, 0, half, rows, table, a, row, col, sum);
            if (is_halved(form))
                groups(form, unit, block, b, 1, half, rows, table, a, row, col, sum);
        }
}

ALWAYS __m256 load_column(enum kern_form form, const uint8_t *block, int k, int odd, int half)
{
    if (form == KERN_FORM_F32)
        return _mm256_load_ps((const float *)(const void *)(block + 64 * (k + odd) + 32 * half));
    if (form == KERN_FORM_F16)
        return halves(block + 32 * (k + odd) + 16 * half);
    __m256i pair = _mm256_load_si256((const __m256i *)(const void *)(block + 32 * k + 32 * half));
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000))
                                   : _mm256_slli_epi32(pair, 16));
}

ALWAYS void float_rows(enum kern_form form, const struct kern_matrix *w, int tile, int half, int rows,
                       const struct kern_acts *a, size_t row, __m256 *sum)
{
    const uint8_t *block = w->data + (size_t)tile * w->tile_bytes;
    size_t stride = (size_t)a->stride, col = 0;

    for (int i = 0; i < w->units; i++, block += w->unit_bytes, col += 32) {
        __m256 part[ROWS_MAX];
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++)
            part[m] = _mm256_setzero_ps();
#pragma GCC unroll 2
        for (int k = 0; k < 32; k += 2)
#pragma GCC unroll 2
            for (int odd = 0; odd < 2; odd++) {
                __m256 v = load_column(form, block, k, odd, half);
#pragma GCC unroll 4
                for (int m = 0; m < rows; m++) {
                    const float *x = a->x + (row + (size_t)m) * stride + col + (size_t)(k + odd);
                    part[m] = _mm256_fmadd_ps(v, _mm256_set1_ps(*x), part[m]);
                }
            }
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++)
            sum[m] = _mm256_add_ps(sum[m], part[m]);
    }
}

struct target {
    float *y; /* of the half */
    size_t y_stride;
    const float *bias; /* of the half, or NULL */
    int lanes;         /* rows of W that exist in the half: 1 .. 8 */
    bool add;
};

ALWAYS void some_rows(enum kern_form form, int unit_blocks, int rows, const struct kern_matrix *w, int tile, int half,
                      const struct kern_acts *a, size_t row, const struct target *t, size_t to)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(t->lanes), lane);
    __m256 sum[ROWS_MAX];
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++)
        sum[m] = t->bias ? _mm256_maskload_ps(t->bias, mask) : _mm256_setzero_ps();
    if (unit_blocks > 0)
        integer_rows(form, unit_blocks, w, tile, half, rows, a, row, sum);
    else
        float_rows(form, w, tile, half, rows, a, row, sum);
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++) {
        float *y = t->y + (to + (size_t)m) * t->y_stride;
        if (t->add)
            sum[m] = _mm256_add_ps(sum[m], _mm256_maskload_ps(y, mask));
        _mm256_maskstore_ps(y, mask, sum[m]);
    }
}

#define PRODUCT(name, form, unit_blocks)                                                                               \
    static void name(const struct kern_matrix *w, int tile, int half, const struct kern_acts *a, int first, int count, \
                     const struct target *t)                                                                           \
    {                                                                                                                  \
        int m = 0;                                                                                                     \
        for (; count - m >= 4; m += 4)                                                                                 \
            some_rows(form, unit_blocks, 4, w, tile, half, a, (size_t)(first + m), t, (size_t)m);                      \
        for (; count - m >= 2; m += 2)                                                                                 \
            some_rows(form, unit_blocks, 2, w, tile, half, a, (size_t)(first + m), t, (size_t)m);                      \
        for (; m < count; m++)                                                                                         \
            some_rows(form, unit_blocks, 1, w, tile, half, a, (size_t)(first + m), t, (size_t)m);                      \
    }

PRODUCT(product_f32, KERN_FORM_F32, 0)
PRODUCT(product_f16, KERN_FORM_F16, 0)
PRODUCT(product_bf16, KERN_FORM_BF16, 0)
PRODUCT(product_q4_0, KERN_FORM_Q4_0, 2)
PRODUCT(product_q4_1, KERN_FORM_Q4_1, 1)
PRODUCT(product_q5_0, KERN_FORM_Q5_0, 2)
PRODUCT(product_q5_1, KERN_FORM_Q5_1, 1)
PRODUCT(product_q8_0, KERN_FORM_Q8_0, 2)
PRODUCT(product_iq4_nl, KERN_FORM_IQ4_NL, 2)
PRODUCT(product_mxfp4, KERN_FORM_MXFP4, 4)
PRODUCT(product_q4_k, KERN_FORM_Q4_K, 8)
PRODUCT(product_q5_k, KERN_FORM_Q5_K, 8)
PRODUCT(product_q6_k, KERN_FORM_Q6_K, 8)
PRODUCT(product_q3_k, KERN_FORM_Q3_K, 8)
PRODUCT(product_q2_k, KERN_FORM_Q2_K, 8)
PRODUCT(product_iq4_xs, KERN_FORM_IQ4_XS, 8)

void kern_avx2_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    static void (*const products[KERN_FORMS])(const struct kern_matrix *, int, int, const struct kern_acts *, int, int,
                                              const struct target *) = {
        [KERN_FORM_F32] = product_f32,       [KERN_FORM_F16] = product_f16,   [KERN_FORM_BF16] = product_bf16,
        [KERN_FORM_Q4_0] = product_q4_0,     [KERN_FORM_Q4_1] = product_q4_1, [KERN_FORM_Q5_0] = product_q5_0,
        [KERN_FORM_Q5_1] = product_q5_1,     [KERN_FORM_Q8_0] = product_q8_0, [KERN_FORM_IQ4_NL] = product_iq4_nl,
        [KERN_FORM_MXFP4] = product_mxfp4,   [KERN_FORM_Q4_K] = product_q4_k, [KERN_FORM_Q5_K] = product_q5_k,
        [KERN_FORM_Q6_K] = product_q6_k,     [KERN_FORM_Q3_K] = product_q3_k, [KERN_FORM_Q2_K] = product_q2_k,
        [KERN_FORM_IQ4_XS] = product_iq4_xs,
    };
    for (int part = 2 * piece->tile; part < 2 * (piece->tile + piece->tiles); part++) {
        int at = part * HALF, lanes = p->w->rows - at;
        if (lanes <= 0)
            break;
        struct target t = {p->y + (size_t)piece->first * p->y_stride + at, p->y_stride, p->bias ? p->bias + at : NULL,
                           lanes < HALF ? lanes : HALF, p->add};
        products[p->w->form](p->w, part / 2, part % 2, a, piece->first, piece->count, &t);
    }
}
