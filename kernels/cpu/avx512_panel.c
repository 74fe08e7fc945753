/* avx512_panel.c - integer products of many rows of activations. Two tiles of W are unpacked once, as many columns as
 * stay in the first-level cache, and all rows of the piece go over them, six at a time: what a form costs to unpack no
 * longer shows. Sums are carried from one part of the columns to the next as they are, and each block is computed as
 * avx512_product.c does it, so that both give the same bits. */
#include "kernels/cpu/avx512_unpack.h"

#define TILES 2
#define ROWS 6       /* at once: 2 x 6 integer and as many float sums fill the registers */
#define ROWS_MAX 256 /* that share what is unpacked */

struct panel {
    struct unpacked of[TILES];
    _Alignas(64) float carried[ROWS_MAX][TILES][KERN_TILE];
};

/* Where six rows of activations stand: row m is a multiple of the stride from row 0 or from row 3, which an address
 * can say by itself. The compiler would keep a pointer for each row and each array, more than there are registers. */
struct cursor {
    const int8_t *q[2];
    const float *scale[2], *sum[2];
    const int32_t *neg[2];
    size_t stride, blocks; /* from row to row */
};

ALWAYS struct cursor cursor_at(struct scaling s, const struct kern_acts *a, size_t at)
{
    struct cursor c = {.stride = (size_t)a->stride, .blocks = (size_t)a->stride / 32};
    size_t per = s.halved ? c.blocks * 2 : c.blocks, first = s.halved ? at / 16 : at / 32;
    for (size_t i = 0; i < 2; i++) {
        c.q[i] = a->q + at + 3 * i * c.stride;
        c.scale[i] = a->scale + at / 32 + 3 * i * c.blocks;
        c.sum[i] = (s.halved ? a->half : a->sum) + first + 3 * i * per;
        c.neg[i] = (s.halved ? a->neg_half : a->neg) + first + 3 * i * per;
    }
    return c;
}

#define OF(array, m, stride) ((array)[(m) / 3] + (size_t)((m) % 3) * (stride))

/* All columns of a block, or half `half` of it; `at` is the place of its first activation. */
ALWAYS void add_part(struct scaling s, const struct panel *u, int part, int rows, const struct cursor *c,
                     __m512 sum[ROWS][TILES])
{
    int groups = s.halved ? 4 : 8;
    size_t per = s.halved ? 2 * c->blocks : c->blocks;
    __m512i dot[ROWS][TILES];
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
        dot[m][0] = dot[m][1] =
            s.min ? _mm512_setzero_si512() : _mm512_slli_epi32(_mm512_set1_epi32(*OF(c->neg, m, per)), s.shift);
#pragma GCC unroll 8
    for (int g = 0; g < groups; g++) {
        __m512i w[TILES];
#pragma GCC unroll 2
        for (int t = 0; t < TILES; t++)
            w[t] = _mm512_load_si512(u->of[t].q[0] + (part * groups + g) * 64);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            __m512i x = broadcast4(OF(c->q, m, c->stride) + 4 * g);
#pragma GCC unroll 2
            for (int t = 0; t < TILES; t++)
                dot[m][t] = _mm512_dpbusd_epi32(dot[m][t], w[t], x);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
        for (int t = 0; t < TILES; t++) {
            __m512 both =
                _mm512_mul_ps(_mm512_load_ps(u->of[t].scale[part]), _mm512_set1_ps(*OF(c->scale, m, c->blocks)));
            sum[m][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][t]), both, sum[m][t]);
            if (s.min)
                sum[m][t] =
                    _mm512_fmadd_ps(_mm512_load_ps(u->of[t].min[part]), _mm512_set1_ps(*OF(c->sum, m, per)), sum[m][t]);
        }
}

/* A part of the columns: blocks that are unpacked together. */
struct turn {
    const struct kern_product *p;
    const struct kern_acts *a;
    int tile, tiles;   /* one or two tiles from `tile` */
    int first, count;  /* rows of activations */
    int block, blocks; /* of the tile */
    bool begins, ends;
};

ALWAYS void add_rows(struct scaling s, struct panel *u, const struct turn *turn, int m, int rows)
{
    int columns = s.halved ? 16 : 32, parts = turn->blocks * KERN_BLOCK / columns;
    size_t at = (size_t)(turn->first + m) * (size_t)turn->a->stride + (size_t)(turn->block * KERN_BLOCK);
    __m512 sum[ROWS][TILES];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int t = 0; t < TILES; t++)
            sum[i][t] = turn->begins ? kern_avx512_start(turn->p, turn->tile + (t < turn->tiles ? t : 0))
                                     : _mm512_load_ps(u->carried[m + i][t]);
    struct cursor c = cursor_at(s, turn->a, at);
    for (int part = 0; part < parts; part++) {
        __asm__("" : "+r"(c.q[0]), "+r"(c.q[1]), "+r"(c.scale[0]), "+r"(c.scale[1]), "+r"(c.stride));
        if (s.min)
            __asm__("" : "+r"(c.sum[0]), "+r"(c.sum[1]));
        else
            __asm__("" : "+r"(c.neg[0]), "+r"(c.neg[1]));
        add_part(s, u, part, rows, &c, sum);
        for (int i = 0; i < 2; i++) {
            c.q[i] += columns;
            c.scale[i] += s.halved ? part & 1 : 1;
            c.sum[i]++;
            c.neg[i]++;
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int t = 0; t < TILES; t++)
            if (!turn->ends)
                _mm512_store_ps(u->carried[m + i][t], sum[i][t]);
            else if (t < turn->tiles)
                kern_avx512_finish(turn->p, turn->tile + t, turn->first + m + i, sum[i][t]);
}

/* One function a kind of scaling, not a form. */
#define ADD(name, halved, min, shift)                                                                                  \
    static void name(struct panel *u, const struct turn *turn)                                                         \
    {                                                                                                                  \
        const struct scaling s = {halved, min, shift};                                                                 \
        int m = 0;                                                                                                     \
        for (; turn->count - m >= 6; m += 6)                                                                           \
            add_rows(s, u, turn, m, 6);                                                                                \
        for (; turn->count - m >= 4; m += 4)                                                                           \
            add_rows(s, u, turn, m, 4);                                                                                \
        for (; turn->count - m >= 2; m += 2)                                                                           \
            add_rows(s, u, turn, m, 2);                                                                                \
        for (; m < turn->count; m++)                                                                                   \
            add_rows(s, u, turn, m, 1);                                                                                \
    }
UNPACKED_KINDS(ADD)

typedef void add_function(struct panel *u, const struct turn *turn);
static add_function *const adds[] = {UNPACKED_TABLE};

static void all_columns(struct turn turn)
{
    const struct kern_matrix *w = turn.p->w;
    int blocks = w->units * (int)kern_form_info(w->form)->unit;
    int turns = (blocks + UNPACKED_BLOCKS - 1) / UNPACKED_BLOCKS, most = (blocks + turns - 1) / turns;
    struct panel u;

    for (turn.block = 0; turn.block < blocks; turn.block += most) {
        turn.blocks = blocks - turn.block < most ? blocks - turn.block : most;
        turn.begins = turn.block == 0;
        turn.ends = turn.block + turn.blocks == blocks;
        for (int t = 0; t < TILES; t++)
            kern_avx512_unpack(w, w->data + (size_t)(turn.tile + (t < turn.tiles ? t : 0)) * w->tile_bytes, turn.block,
                               turn.blocks, &u.of[t]);
        adds[unpacked_kind(w->form)](&u, &turn);
    }
}

void kern_avx512_panel(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    int end = piece->tile + piece->tiles, last = piece->first + piece->count;
    for (int first = piece->first; first < last; first += ROWS_MAX)
        for (int tile = piece->tile; tile < end; tile += TILES)
            all_columns((struct turn){.p = p,
                                      .a = a,
                                      .tile = tile,
                                      .tiles = end - tile < TILES ? end - tile : TILES,
                                      .first = first,
                                      .count = last - first < ROWS_MAX ? last - first : ROWS_MAX});
}
