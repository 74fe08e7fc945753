/* avx512_product.c - products with AVX-512 and VNNI. A lane is a row of W. For integers, one dpbusd multiplies 4
 * columns x 16 rows of weights (unsigned) with 4 quantized activations broadcast to all lanes, 8 of them make a block
 * of 32 exactly; scale, min and the activations' scale follow once a block in f32. Rows of activations are taken 8, 4,
 * 2, 1 at a time: the same weights serve several, and each row's sums run in the same order whatever its company. */
#include "kernels/cpu/avx512.h"

#define ALWAYS static inline __attribute__((always_inline))

/* --- integers -------------------------------------------------------------------------------------- */

ALWAYS bool is_table(enum kern_form form)
{
    return form == KERN_FORM_IQ4_NL || form == KERN_FORM_IQ4_XS || form == KERN_FORM_MXFP4;
}

/* A scale for each 16 columns, not 32. */
ALWAYS bool is_halved(enum kern_form form)
{
    return form == KERN_FORM_Q6_K || form == KERN_FORM_Q3_K || form == KERN_FORM_Q2_K;
}

/* 64 unsigned values of group `g` of a block. */
ALWAYS __m512i load_group(enum kern_form form, const uint8_t *block, int g, __m512i table)
{
    if (form == KERN_FORM_Q8_0)
        return _mm512_load_si512(block + 64 * g);
    __m512i pair = _mm512_load_si512(block + 64 * (g & 3));
    __m512i q = _mm512_and_si512(g < 4 ? pair : _mm512_srli_epi16(pair, 4), _mm512_set1_epi8(15));
    if (is_table(form))
        return _mm512_shuffle_epi8(table, q);
    if (form == KERN_FORM_Q5_0 || form == KERN_FORM_Q5_1 || form == KERN_FORM_Q5_K || form == KERN_FORM_Q6_K) {
        uint64_t planes[2];
        memcpy(&planes[0], block + 256 + 8 * g, 8);
        q = _mm512_mask_add_epi8(q, planes[0], q, _mm512_set1_epi8(16));
        if (form == KERN_FORM_Q6_K) {
            memcpy(&planes[1], block + 320 + 8 * g, 8);
            q = _mm512_mask_add_epi8(q, planes[1], q, _mm512_set1_epi8(32));
        }
    }
    return q;
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

/* Scale and min of block `b` of the unit (forms with one scale for 32). */
ALWAYS void load_scale(enum kern_form form, const uint8_t *head, struct unit u, int b, __m512 *scale, __m512 *min)
{
    static const int offsets[KERN_FORMS] = {[KERN_FORM_Q4_0] = 8,     [KERN_FORM_Q5_0] = 16,  [KERN_FORM_Q8_0] = 128,
                                            [KERN_FORM_IQ4_NL] = 128, [KERN_FORM_MXFP4] = 12, [KERN_FORM_IQ4_XS] = 128};
    if (form == KERN_FORM_Q4_K || form == KERN_FORM_Q5_K) {
        *scale = _mm512_mul_ps(u.d, bytes_u8(head + 64 + 16 * b));
        *min = _mm512_mul_ps(u.dmin, _mm512_sub_ps(_mm512_setzero_ps(), bytes_u8(head + 192 + 16 * b)));
        return;
    }
    if (form == KERN_FORM_IQ4_XS)
        *scale = _mm512_mul_ps(u.d, bytes_i8(head + 64 + 16 * b));
    else
        *scale = form == KERN_FORM_MXFP4 ? exponents(head + 16 * b) : halves(head + 32 * b);
    *min = form == KERN_FORM_Q4_1 || form == KERN_FORM_Q5_1
               ? halves(head + 32)
               : _mm512_mul_ps(*scale, _mm512_set1_ps((float)-offsets[form]));
}

ALWAYS __m512i broadcast4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

ALWAYS void block_32(enum kern_form form, const uint8_t *block, __m512 scale, __m512 min, __m512i table, int rows,
                     const struct kern_acts *a, size_t row, size_t col, __m512 *sum)
{
    size_t stride = (size_t)a->stride;
    __m512i dot[8];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
        dot[m] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m512i w = load_group(form, block, g, table);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            dot[m] =
                _mm512_dpbusd_epi32(dot[m], w, broadcast4(a->q + (row + (size_t)m) * stride + col + 4 * (size_t)g));
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
        size_t at = ((row + (size_t)m) * stride + col) / 32;
        __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(a->scale[at]));
        sum[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]), both, sum[m]);
        sum[m] = _mm512_fmadd_ps(min, _mm512_set1_ps(a->sum[at]), sum[m]);
    }
}

/* Scale and min of 16 columns. */
ALWAYS void load_half_scale(enum kern_form form, const uint8_t *head, struct unit u, int at, __m512 *scale, __m512 *min)
{
    if (form == KERN_FORM_Q2_K) {
        *scale = _mm512_mul_ps(u.d, bytes_u8(head + 64 + at));
        *min = _mm512_mul_ps(u.dmin, _mm512_sub_ps(_mm512_setzero_ps(), bytes_u8(head + 320 + at)));
        return;
    }
    *scale = _mm512_mul_ps(u.d, bytes_i8(head + 64 + at));
    *min = _mm512_mul_ps(*scale, _mm512_set1_ps(form == KERN_FORM_Q6_K ? -32 : -4));
}

ALWAYS void block_16_16(enum kern_form form, const uint8_t *block, const uint8_t *head, struct unit u, int b, int rows,
                        const struct kern_acts *a, size_t row, size_t col, __m512 *sum)
{
    size_t stride = (size_t)a->stride;
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512 scale, min;
        __m512i dot[8];
        load_half_scale(form, head, u, 32 * b + 16 * half, &scale, &min);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            dot[m] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int g = 4 * half; g < 4 * half + 4; g++) {
            __m512i w = load_group(form, block, g, _mm512_setzero_si512());
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++)
                dot[m] =
                    _mm512_dpbusd_epi32(dot[m], w, broadcast4(a->q + (row + (size_t)m) * stride + col + 4 * (size_t)g));
        }
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            size_t at = ((row + (size_t)m) * stride + col) / 32;
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(a->scale[at]));
            sum[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]), both, sum[m]);
            sum[m] = _mm512_fmadd_ps(min, _mm512_set1_ps(a->half[2 * at + (size_t)half]), sum[m]);
        }
    }
}

ALWAYS void integer_rows(enum kern_form form, int unit_blocks, const struct kern_matrix *w, int tile, int rows,
                         const struct kern_acts *a, size_t row, __m512 *sum)
{
    const struct kern_form_info *info = kern_form_info(form);
    const uint8_t *unit = w->data + (size_t)tile * w->tile_bytes;
    size_t head = info->head, block_bytes = info->block, unit_bytes = w->unit_bytes, col = 0;
    __m512i table = _mm512_setzero_si512();

    if (is_table(form))
        table = _mm512_add_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)info->table)),
                                _mm512_set1_epi8((char)(form == KERN_FORM_MXFP4 ? 12 : 128)));
    for (int i = 0; i < w->units; i++, unit += unit_bytes) {
        struct unit u = load_unit(form, unit);
#pragma GCC unroll 2
        for (int b = 0; b < unit_blocks; b++, col += 32) {
            const uint8_t *block = unit + head + (size_t)b * block_bytes;
            if (is_halved(form)) {
                block_16_16(form, block, unit, u, b, rows, a, row, col, sum);
            } else {
                __m512 scale, min;
                load_scale(form, unit, u, b, &scale, &min);
                block_32(form, block, scale, min, table, rows, a, row, col, sum);
            }
        }
    }
}

/* --- floats ---------------------------------------------------------------------------------------- */

/* Rows of column k + odd, k even: columns of BF16 lie in pairs. */
ALWAYS __m512 load_column(enum kern_form form, const uint8_t *block, int k, int odd)
{
    if (form == KERN_FORM_F32)
        return _mm512_load_ps(block + 64 * (k + odd));
    if (form == KERN_FORM_F16)
        return halves(block + 32 * (k + odd));
    __m512i pair = _mm512_load_si512(block + 32 * k);
    return _mm512_castsi512_ps(odd ? _mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000))
                                   : _mm512_slli_epi32(pair, 16));
}

ALWAYS void float_rows(enum kern_form form, const struct kern_matrix *w, int tile, int rows, const struct kern_acts *a,
                       size_t row, __m512 *sum)
{
    const uint8_t *block = w->data + (size_t)tile * w->tile_bytes;
    size_t stride = (size_t)a->stride, col = 0;

    for (int i = 0; i < w->units; i++, block += w->unit_bytes, col += 32) {
        __m512 part[8];
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            part[m] = _mm512_setzero_ps();
#pragma GCC unroll 2
        for (int k = 0; k < 32; k += 2)
#pragma GCC unroll 2
            for (int odd = 0; odd < 2; odd++) {
                __m512 v = load_column(form, block, k, odd);
#pragma GCC unroll 8
                for (int m = 0; m < rows; m++) {
                    const float *x = a->x + (row + (size_t)m) * stride + col + (size_t)(k + odd);
                    part[m] = _mm512_fmadd_ps(v, _mm512_set1_ps(*x), part[m]);
                }
            }
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            sum[m] = _mm512_add_ps(sum[m], part[m]);
    }
}

/* --- one tile -------------------------------------------------------------------------------------- */

struct target {
    float *y;
    size_t y_stride;
    __mmask16 lanes; /* rows of W that exist */
    __m512 start;    /* bias or zero */
    bool add;
};

ALWAYS void some_rows(enum kern_form form, int unit_blocks, int rows, const struct kern_matrix *w, int tile,
                      const struct kern_acts *a, size_t row, const struct target *t, size_t to)
{
    __m512 sum[8];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
        sum[m] = t->start;
    if (unit_blocks > 0)
        integer_rows(form, unit_blocks, w, tile, rows, a, row, sum);
    else
        float_rows(form, w, tile, rows, a, row, sum);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++) {
        float *y = t->y + (to + (size_t)m) * t->y_stride;
        if (t->add)
            sum[m] = _mm512_add_ps(sum[m], _mm512_maskz_loadu_ps(t->lanes, y));
        _mm512_mask_storeu_ps(y, t->lanes, sum[m]);
    }
}

#define PRODUCT(name, form, unit_blocks)                                                                               \
    static void name(const struct kern_matrix *w, int tile, const struct kern_acts *a, int first, int count,           \
                     const struct target *t)                                                                           \
    {                                                                                                                  \
        int m = 0;                                                                                                     \
        for (; count - m >= 8; m += 8)                                                                                 \
            some_rows(form, unit_blocks, 8, w, tile, a, (size_t)(first + m), t, (size_t)m);                            \
        for (; count - m >= 4; m += 4)                                                                                 \
            some_rows(form, unit_blocks, 4, w, tile, a, (size_t)(first + m), t, (size_t)m);                            \
        for (; count - m >= 2; m += 2)                                                                                 \
            some_rows(form, unit_blocks, 2, w, tile, a, (size_t)(first + m), t, (size_t)m);                            \
        for (; m < count; m++)                                                                                         \
            some_rows(form, unit_blocks, 1, w, tile, a, (size_t)(first + m), t, (size_t)m);                            \
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

void kern_avx512_product(const struct kern_matrix *w, int tile, const struct kern_acts *a, int first, int count,
                         float *y, size_t y_stride, const float *bias, bool add)
{
    static void (*const products[KERN_FORMS])(const struct kern_matrix *, int, const struct kern_acts *, int, int,
                                              const struct target *) = {
        [KERN_FORM_F32] = product_f32,       [KERN_FORM_F16] = product_f16,   [KERN_FORM_BF16] = product_bf16,
        [KERN_FORM_Q4_0] = product_q4_0,     [KERN_FORM_Q4_1] = product_q4_1, [KERN_FORM_Q5_0] = product_q5_0,
        [KERN_FORM_Q5_1] = product_q5_1,     [KERN_FORM_Q8_0] = product_q8_0, [KERN_FORM_IQ4_NL] = product_iq4_nl,
        [KERN_FORM_MXFP4] = product_mxfp4,   [KERN_FORM_Q4_K] = product_q4_k, [KERN_FORM_Q5_K] = product_q5_k,
        [KERN_FORM_Q6_K] = product_q6_k,     [KERN_FORM_Q3_K] = product_q3_k, [KERN_FORM_Q2_K] = product_q2_k,
        [KERN_FORM_IQ4_XS] = product_iq4_xs,
    };
    int lanes = w->rows - tile * KERN_TILE;
    struct target t = {y, y_stride, (__mmask16)(lanes >= KERN_TILE ? 0xffff : (1 << lanes) - 1), _mm512_setzero_ps(),
                       add};
    if (bias)
        t.start = _mm512_maskz_loadu_ps(t.lanes, bias + tile * KERN_TILE);
    products[w->form](w, tile, a, first, count, &t);
}
