/* avx512bf16.c - AVX-512 with dot products of bf16 pairs. Activations are rounded to bf16 once (kern_acts.brain); a
 * lane is a row of W; each step adds two products to a lane's f32 sum (SDM, VDPBF16PS: subnormals count as zero, sums
 * are rounded to nearest), from the first pair of columns to the last: the order is the same whatever rows go together.
 * Two tiles are `apart` by half of the piece: two streams from memory that never jump. */
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/cpu.h"

#define TILES 2
#define ROWS 8 /* at once: 2 x 8 sums, each waits six cycles for its last */

void kern_avx512bf16_round(struct kern_acts *a, int row)
{
    const float *x = a->x + (size_t)row * (size_t)a->stride;
    uint16_t *to = a->brain + (size_t)row * (size_t)a->stride;
    for (int i = 0; i < a->stride; i += 32)
        _mm512_store_si512(to + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(x + i + 16), _mm512_load_ps(x + i)));
}

ALWAYS void piece_of(int tiles, int apart, int rows, const struct kern_product *p, const struct kern_acts *a, int tile,
                     int row)
{
    const uint8_t *w = p->w->data + (size_t)tile * p->w->tile_bytes;
    const uint16_t *x = a->brain + (size_t)row * (size_t)a->stride;
    size_t tile_bytes = p->w->tile_bytes, tiles_apart = (size_t)apart * tile_bytes, stride = (size_t)a->stride;
    __m512 sum[TILES][ROWS];

#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            sum[t][m] = kern_avx512_start(p, tile + t * apart);
    for (size_t at = 0; at < tile_bytes; at += 64, x += 2) {
        __m512i v[TILES];
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++)
            v[t] = _mm512_load_si512(w + (size_t)t * tiles_apart + at);
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++) {
            int32_t pair;
            memcpy(&pair, x + (size_t)m * stride, sizeof pair);
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                sum[t][m] = _mm512_dpbf16_ps(sum[t][m], (__m512bh)v[t], (__m512bh)_mm512_set1_epi32(pair));
        }
    }
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            kern_avx512_finish(p, tile + t * apart, row + m, sum[t][m]);
}

ALWAYS void all_rows(int tiles, int apart, const struct kern_product *p, const struct kern_acts *a, int tile, int first,
                     int last)
{
    int m = first;
    for (; last - m >= 8; m += 8)
        piece_of(tiles, apart, 8, p, a, tile, m);
    for (; last - m >= 4; m += 4)
        piece_of(tiles, apart, 4, p, a, tile, m);
    for (; last - m >= 2; m += 2)
        piece_of(tiles, apart, 2, p, a, tile, m);
    for (; m < last; m++)
        piece_of(tiles, apart, 1, p, a, tile, m);
}

void kern_avx512bf16_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    int tile = piece->tile, half = piece->tiles / 2, last = piece->first + piece->count;
    if (p->w->form != KERN_FORM_BF16) {
        kern_avx512_product(p, a, piece);
        return;
    }
    for (; tile < piece->tile + half; tile++)
        all_rows(2, half, p, a, tile, piece->first, last);
    if (piece->tiles % 2)
        all_rows(1, 0, p, a, tile + half, piece->first, last);
}

const struct kern_ops kern_ops_avx512bf16 = {KERN_AVX512_OPS, .name = "avx512bf16", .round = kern_avx512bf16_round,
                                             .product = kern_avx512bf16_product, .attend = kern_avx512bf16_attend};
