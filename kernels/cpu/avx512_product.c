/* avx512_product.c - products with AVX-512 and VNNI. A lane is a row of W. For integers, one dpbusd multiplies 4
 * columns x 16 rows of weights (unsigned) with 4 quantized activations broadcast to all lanes, 8 of them make a block
 * of 32 exactly; scale, min and the activations' scale follow once a block in f32. Two tiles share each broadcast, up
 * to six rows of activations share each load of weights; a row's sums run in the same order whatever its company.
 * The two tiles are `apart` by half of the piece: a thread reads two streams from memory that never jump, which is
 * what one row rests on (of two neighbours, each stream would end with its tile). */
#include "kernels/cpu/avx512_weights.h"

#define TILES 2 /* at once */
#define ROWS 6  /* at once: 2 x 6 integer and as many float sums fill the registers */
#define ROWS_FLOAT 8
#define PANEL_LEAST                                                                                                    \
    64 /* rows of activations that are worth unpacking weights for; with fewer than 40 it costs more                   \
        */

/* --- integers -------------------------------------------------------------------------------------- */

struct sums {
    __m512 of[TILES][ROWS];
};

struct at { /* one block of two tiles */
    const uint8_t *block[TILES], *head[TILES];
    struct unit unit[TILES];
    int b; /* block of the unit */
};

ALWAYS void dots(enum kern_form form, const struct at *at, int tiles, int rows, int from, int to, __m512i table,
                 const struct kern_acts *a, size_t row, size_t col, __m512i dot[TILES][ROWS])
{
    size_t stride = (size_t)a->stride;
#pragma GCC unroll 8
    for (int g = from; g < to; g++) {
        __m512i w[TILES];
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++)
            w[t] = load_group(form, at->block[t], g, table);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            __m512i x = broadcast4(a->q + (row + (size_t)m) * stride + col + 4 * (size_t)g);
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                dot[t][m] = _mm512_dpbusd_epi32(dot[t][m], w[t], x);
        }
    }
}

/* All 32 columns of a block, or half `half` of it where 16 share a scale. */
ALWAYS void block_part(enum kern_form form, const struct at *at, int tiles, int rows, int half, __m512i table,
                       const struct kern_acts *a, size_t row, size_t col, struct sums *sum)
{
    const struct scaling s = scaling_of(form);
    size_t stride = (size_t)a->stride, first = (row * stride + col) / 32;
    int from = 4 * half, to = s.halved ? from + 4 : 8;
    __m512i dot[TILES][ROWS];
    __m512 scale[TILES], min[TILES];
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++) {
            size_t i = first + (size_t)m * stride / 32;
            dot[t][m] = start_dot(s, a, i, 2 * i + (size_t)half);
        }
    dots(form, at, tiles, rows, from, to, table, a, row, col, dot);
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
        if (s.halved)
            load_half_scale(form, at->head[t], at->unit[t], 32 * at->b + 16 * half, &scale[t], &min[t]);
        else
            load_scale(form, at->head[t], at->unit[t], at->b, &scale[t], &min[t]);
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++) {
            size_t i = first + (size_t)m * stride / 32;
            sum->of[t][m] = add_dot(s, a, i, 2 * i + (size_t)half, dot[t][m], scale[t], min[t], sum->of[t][m]);
        }
}

ALWAYS void integer_rows(enum kern_form form, int unit_blocks, const struct kern_matrix *w, int tile, int tiles,
                         int apart, int rows, const struct kern_acts *a, size_t row, struct sums *sum)
{
    const struct kern_form_info *info = kern_form_info(form);
    size_t head = info->head, block_bytes = info->block, unit_bytes = w->unit_bytes, col = 0;
    const uint8_t *unit = w->data + (size_t)tile * w->tile_bytes;
    size_t tiles_apart = (size_t)apart * w->tile_bytes;
    __m512i table = load_table(form);

    for (int i = 0; i < w->units; i++, unit += unit_bytes) {
        struct at at;
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++) {
            at.head[t] = unit + (size_t)t * tiles_apart;
            at.unit[t] = load_unit(form, at.head[t]);
        }
#pragma GCC unroll 2
        for (int b = 0; b < unit_blocks; b++, col += 32) {
            at.b = b;
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                at.block[t] = at.head[t] + head + (size_t)b * block_bytes;
            block_part(form, &at, tiles, rows, 0, table, a, row, col, sum);
            if (is_halved(form))
                block_part(form, &at, tiles, rows, 1, table, a, row, col, sum);
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
                       size_t row, __m512 sum[])
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

/* --- a piece --------------------------------------------------------------------------------------- */

ALWAYS void integer_piece(enum kern_form form, int unit_blocks, int tiles, int apart, int rows,
                          const struct kern_product *p, const struct kern_acts *a, int tile, int row)
{
    struct sums sum;
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++)
            sum.of[t][m] = kern_avx512_start(p, tile + t * apart);
    integer_rows(form, unit_blocks, p->w, tile, tiles, apart, rows, a, (size_t)row, &sum);
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++)
            kern_avx512_finish(p, tile + t * apart, row + m, sum.of[t][m]);
}

ALWAYS void float_piece(enum kern_form form, int rows, const struct kern_product *p, const struct kern_acts *a,
                        int tile, int row)
{
    __m512 sum[ROWS_FLOAT];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
        sum[m] = kern_avx512_start(p, tile);
    float_rows(form, p->w, tile, rows, a, (size_t)row, sum);
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
        kern_avx512_finish(p, tile, row + m, sum[m]);
}

#define INTEGERS(name, form, unit_blocks)                                                                              \
    static void name(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)          \
    {                                                                                                                  \
        int tile = piece->tile, end = tile + piece->tiles, last = piece->first + piece->count, m;                      \
        int half = piece->tiles / 2;                                                                                   \
        for (; tile < piece->tile + half; tile++) {                                                                    \
            for (m = piece->first; last - m >= 6; m += 6)                                                              \
                integer_piece(form, unit_blocks, 2, half, 6, p, a, tile, m);                                           \
            for (; last - m >= 4; m += 4)                                                                              \
                integer_piece(form, unit_blocks, 2, half, 4, p, a, tile, m);                                           \
            for (; last - m >= 2; m += 2)                                                                              \
                integer_piece(form, unit_blocks, 2, half, 2, p, a, tile, m);                                           \
            for (; m < last; m++)                                                                                      \
                integer_piece(form, unit_blocks, 2, half, 1, p, a, tile, m);                                           \
        }                                                                                                              \
        tile += half;                                                                                                  \
        for (; tile < end; tile++)                                                                                     \
            for (m = piece->first; m < last; m++)                                                                      \
                integer_piece(form, unit_blocks, 1, 1, 1, p, a, tile, m);                                              \
    }

#define FLOATS(name, form)                                                                                             \
    static void name(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)          \
    {                                                                                                                  \
        int last = piece->first + piece->count, m;                                                                     \
        for (int tile = piece->tile; tile < piece->tile + piece->tiles; tile++) {                                      \
            for (m = piece->first; last - m >= 8; m += 8)                                                              \
                float_piece(form, 8, p, a, tile, m);                                                                   \
            for (; last - m >= 4; m += 4)                                                                              \
                float_piece(form, 4, p, a, tile, m);                                                                   \
            for (; last - m >= 2; m += 2)                                                                              \
                float_piece(form, 2, p, a, tile, m);                                                                   \
            for (; m < last; m++)                                                                                      \
                float_piece(form, 1, p, a, tile, m);                                                                   \
        }                                                                                                              \
    }

FLOATS(product_f32, KERN_FORM_F32)
FLOATS(product_f16, KERN_FORM_F16)
FLOATS(product_bf16, KERN_FORM_BF16)
INTEGERS(product_q4_0, KERN_FORM_Q4_0, 2)
INTEGERS(product_q4_1, KERN_FORM_Q4_1, 1)
INTEGERS(product_q5_0, KERN_FORM_Q5_0, 2)
INTEGERS(product_q5_1, KERN_FORM_Q5_1, 1)
INTEGERS(product_q8_0, KERN_FORM_Q8_0, 2)
INTEGERS(product_iq4_nl, KERN_FORM_IQ4_NL, 2)
INTEGERS(product_mxfp4, KERN_FORM_MXFP4, 4)
INTEGERS(product_q4_k, KERN_FORM_Q4_K, 8)
INTEGERS(product_q5_k, KERN_FORM_Q5_K, 8)
INTEGERS(product_q6_k, KERN_FORM_Q6_K, 8)
INTEGERS(product_q3_k, KERN_FORM_Q3_K, 8)
INTEGERS(product_q2_k, KERN_FORM_Q2_K, 8)
INTEGERS(product_iq4_xs, KERN_FORM_IQ4_XS, 8)

void kern_avx512_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    static void (*const products[KERN_FORMS])(const struct kern_product *, const struct kern_acts *,
                                              const struct kern_piece *) = {
        [KERN_FORM_F32] = product_f32,       [KERN_FORM_F16] = product_f16,   [KERN_FORM_BF16] = product_bf16,
        [KERN_FORM_Q4_0] = product_q4_0,     [KERN_FORM_Q4_1] = product_q4_1, [KERN_FORM_Q5_0] = product_q5_0,
        [KERN_FORM_Q5_1] = product_q5_1,     [KERN_FORM_Q8_0] = product_q8_0, [KERN_FORM_IQ4_NL] = product_iq4_nl,
        [KERN_FORM_MXFP4] = product_mxfp4,   [KERN_FORM_Q4_K] = product_q4_k, [KERN_FORM_Q5_K] = product_q5_k,
        [KERN_FORM_Q6_K] = product_q6_k,     [KERN_FORM_Q3_K] = product_q3_k, [KERN_FORM_Q2_K] = product_q2_k,
        [KERN_FORM_IQ4_XS] = product_iq4_xs,
    };
    const struct kern_form_info *info = kern_form_info(p->w->form);
    /* Bytes and nibbles are read beside the dots for nothing; bit planes and scales in two steps are not. */
    if (piece->count >= PANEL_LEAST && (info->bits == 5 || info->unit == 8))
        kern_avx512_panel(p, a, piece);
    else
        products[p->w->form](p, a, piece);
}
