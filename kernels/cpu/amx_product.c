/* amx_product.c - products by tile registers, from the same layout of weights as all others: a block of BF16 (32
 * columns of 16 rows) is a right-hand tile as it lies, so is a block of bytes; nibbles are unpacked 640 columns at a
 * time onto the stack, and serve all rows of the piece. No copy of the weights is kept. Integers: 16 rows of
 * activations make a left-hand tile; each scale's columns are summed exactly, then scaled in f32 as avx512_product.c
 * does, so that both give the same bits and rows that fill no tile go there. BF16: every row, alone or not, goes
 * through TDPBF16PS over 32 columns at a time, from the first block to the last. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/avx512_unpack.h"

#define ROWS 16 /* of a left-hand tile */

/* --- integers -------------------------------------------------------------------------------------- */

/* Registers: 0, 1 sums; 2 left, 3 right of 32 columns; 4, 5 the same of 16. */
static const struct tiles_config integer_config = {
    .palette = 1, .row_bytes = {64, 64, 32, 64, 16, 64}, .rows = {ROWS, ROWS, ROWS, 8, ROWS, 4}};

/* The integer sums of 16 rows over columns that share a scale, into sums[turn]. Two registers take turns, so that one
 * multiplies while the other's sums are scaled. */
ALWAYS void dot_tile(bool halved, const uint8_t *q, const struct kern_acts *a, size_t at, int turn,
                     int32_t sums[2][ROWS][16])
{
#define DOT(reg, left, right)                                                                                          \
    TILE_ZERO(reg);                                                                                                    \
    TILE_LOAD(left, a->q + at, a->stride);                                                                             \
    TILE_LOAD(right, q, 64);                                                                                           \
    TILE_DOT_BYTES(reg, left, right);                                                                                  \
    TILE_STORE(reg, sums[reg], 64)
    if (halved && turn == 0) {
        DOT(0, 4, 5);
    } else if (halved) {
        DOT(1, 4, 5);
    } else if (turn == 0) {
        DOT(0, 2, 3);
    } else {
        DOT(1, 2, 3);
    }
#undef DOT
}

ALWAYS void scale_tile(struct scaling s, const struct unpacked *u, int which, const struct kern_acts *a, size_t at,
                       const int32_t sums[ROWS][16], __m512 total[ROWS])
{
    __m512 scale = _mm512_load_ps(u->scale[which]), min = _mm512_load_ps(u->min[which]);
    size_t row = (size_t)a->stride / 32;
#pragma GCC unroll 16
    for (size_t m = 0; m < ROWS; m++) {
        size_t block = at / 32 + m * row, half = at / 16 + 2 * m * row;
        __m512i dot = _mm512_add_epi32(_mm512_load_si512(sums[m]), start_dot(s, a, block, half));
        total[m] = add_dot(s, a, block, half, dot, scale, min, total[m]);
    }
}

/* 16 rows from `row` over the unpacked blocks; `at` is the first block's column. */
ALWAYS void add_blocks(struct scaling s, const struct unpacked *u, int blocks, const struct kern_acts *a, size_t row,
                       size_t at, float carried[ROWS][16])
{
    _Alignas(64) int32_t sums[2][ROWS][16];
    int parts = s.halved ? 2 : 1;
    __m512 total[ROWS];
    at += row * (size_t)a->stride;
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++)
        total[m] = _mm512_load_ps(carried[m]);
    for (int i = 0; i < blocks * parts; i++) {
        size_t col = at + (size_t)(i * KERN_BLOCK / parts);
        dot_tile(s.halved, u->q[0] + i * UNPACKED_BYTES / parts, a, col, i & 1, sums);
        scale_tile(s, u, i, a, col, (const int32_t(*)[16])sums[i & 1], total);
    }
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; m++)
        _mm512_store_ps(carried[m], total[m]);
}

/* One function a kind of scaling, not a form. */
#define ADD(name, halved, min, shift)                                                                                  \
    static void name(const struct unpacked *u, int blocks, const struct kern_acts *a, size_t row, size_t at,           \
                     float carried[ROWS][16])                                                                          \
    {                                                                                                                  \
        add_blocks((struct scaling){halved, min, shift}, u, blocks, a, row, at, carried);                              \
    }
UNPACKED_KINDS(ADD)

typedef void add_function(const struct unpacked *u, int blocks, const struct kern_acts *a, size_t row, size_t at,
                          float carried[ROWS][16]);
static add_function *const adds[] = {UNPACKED_TABLE};

/* `groups` times 16 rows from `first`, at most PASS groups. */
#define PASS 4
static void integer_tile(const struct kern_product *p, const struct kern_acts *a, int tile, int first, int groups)
{
    const struct kern_matrix *w = p->w;
    const uint8_t *data = w->data + (size_t)tile * w->tile_bytes;
    int blocks = w->units * (int)kern_form_info(w->form)->unit;
    _Alignas(64) float carried[PASS][ROWS][16];
    struct unpacked u;
    __m512 start = kern_avx512_start(p, tile);

    for (int i = 0; i < groups * ROWS; i++)
        _mm512_store_ps(carried[i / ROWS][i % ROWS], start);
    for (int b = 0; b < blocks; b += UNPACKED_BLOCKS) {
        int count = blocks - b < UNPACKED_BLOCKS ? blocks - b : UNPACKED_BLOCKS;
        kern_avx512_unpack(w, data, b, count, &u);
        for (int g = 0; g < groups; g++)
            adds[unpacked_kind(w->form)](&u, count, a, (size_t)(first + g * ROWS), (size_t)(b * KERN_BLOCK),
                                         carried[g]);
    }
    for (int i = 0; i < groups * ROWS; i++)
        kern_avx512_finish(p, tile, first + i, _mm512_load_ps(carried[i / ROWS][i % ROWS]));
}

static void integer_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    struct kern_piece rest = *piece;
    int groups = piece->count / ROWS;
    if (groups > 0)
        TILES_CONFIGURE(&integer_config);
    for (int tile = piece->tile; tile < piece->tile + piece->tiles; tile++)
        for (int g = 0; g < groups; g += PASS)
            integer_tile(p, a, tile, piece->first + g * ROWS, groups - g < PASS ? groups - g : PASS);
    if (groups > 0)
        TILES_RELEASE();
    rest.first += groups * ROWS;
    rest.count -= groups * ROWS;
    if (rest.count > 0)
        kern_avx512_product(p, a, &rest);
}

/* --- bf16 ------------------------------------------------------------------------------------------ */

/* Registers: 0-3 sums of (16 upper rows, 16 lower rows) x 2 tiles of W; 4, 5 left; 6, 7 right. */
static void configure_brains(int upper, int lower)
{
    struct tiles_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = i >= 6 ? 16 : (uint8_t)(i == 4 || i < 2 ? upper : lower);
        c.row_bytes[i] = c.rows[i] > 0 ? 64 : 0;
    }
    TILES_CONFIGURE(&c);
}

struct brains { /* what one call of a loop below works on */
    const uint8_t *w;
    size_t tile_bytes, x_stride;
    const uint16_t *x, *x_lower;
};

#define BLOCK_BYTES 1024 /* 32 columns x 16 rows of BF16 */

static void dot_four(const struct brains *b)
{
    const uint16_t *x = b->x, *lower = b->x_lower;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (size_t at = 0; at < b->tile_bytes; at += BLOCK_BYTES, x += KERN_BLOCK, lower += KERN_BLOCK) {
        TILE_LOAD(6, b->w + at, 64);
        TILE_LOAD(4, x, b->x_stride);
        TILE_LOAD(7, b->w + b->tile_bytes + at, 64);
        TILE_LOAD(5, lower, b->x_stride);
        TILE_DOT_BRAINS(0, 4, 6);
        TILE_DOT_BRAINS(1, 4, 7);
        TILE_DOT_BRAINS(2, 5, 6);
        TILE_DOT_BRAINS(3, 5, 7);
    }
}

static void dot_two(const struct brains *b) /* the upper rows alone */
{
    const uint16_t *x = b->x;
    TILE_ZERO(0);
    TILE_ZERO(1);
    for (size_t at = 0; at < b->tile_bytes; at += BLOCK_BYTES, x += KERN_BLOCK) {
        TILE_LOAD(6, b->w + at, 64);
        TILE_LOAD(4, x, b->x_stride);
        TILE_LOAD(7, b->w + b->tile_bytes + at, 64);
        TILE_DOT_BRAINS(0, 4, 6);
        TILE_DOT_BRAINS(1, 4, 7);
    }
}

static void dot_one(const struct brains *b) /* and one tile of W */
{
    const uint16_t *x = b->x;
    TILE_ZERO(0);
    for (size_t at = 0; at < b->tile_bytes; at += BLOCK_BYTES, x += KERN_BLOCK) {
        TILE_LOAD(6, b->w + at, 64);
        TILE_LOAD(4, x, b->x_stride);
        TILE_DOT_BRAINS(0, 4, 6);
    }
}

static void finish_tile(const struct kern_product *p, int tile, int row, int rows, const float sums[ROWS][16])
{
    __m512 start = kern_avx512_start(p, tile);
    for (int m = 0; m < rows; m++)
        kern_avx512_finish(p, tile, row + m, _mm512_add_ps(_mm512_load_ps(sums[m]), start));
}

/* Tiles of W by twos, `upper` rows from `row` and `lower` rows after them. */
static void brain_rows(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece, int row,
                       int upper, int lower)
{
    _Alignas(64) float sums[4][ROWS][16];
    struct brains b = {.tile_bytes = p->w->tile_bytes, .x_stride = (size_t)a->stride * sizeof *a->brain};
    int end = piece->tile + piece->tiles;
    configure_brains(upper, lower);
    b.x = a->brain + (size_t)row * (size_t)a->stride;
    b.x_lower = b.x + (size_t)ROWS * (size_t)a->stride;
    for (int tile = piece->tile; tile < end; tile += 2) {
        bool two = end - tile >= 2;
        b.w = p->w->data + (size_t)tile * b.tile_bytes;
        if (two && lower > 0)
            dot_four(&b);
        else if (two)
            dot_two(&b);
        else
            dot_one(&b);
        TILE_STORE(0, sums[0], 64);
        finish_tile(p, tile, row, upper, (const float(*)[16])sums[0]);
        if (two) {
            TILE_STORE(1, sums[1], 64);
            finish_tile(p, tile + 1, row, upper, (const float(*)[16])sums[1]);
        }
        if (two && lower > 0) {
            TILE_STORE(2, sums[2], 64);
            TILE_STORE(3, sums[3], 64);
            finish_tile(p, tile, row + upper, lower, (const float(*)[16])sums[2]);
            finish_tile(p, tile + 1, row + upper, lower, (const float(*)[16])sums[3]);
        }
    }
}

static void brain_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    struct kern_piece even = *piece, odd = *piece;
    int last = piece->first + piece->count;
    even.tiles = piece->tiles / 2 * 2;
    odd.tile += even.tiles;
    odd.tiles -= even.tiles;
    for (int row = piece->first; even.tiles > 0 && row < last; row += 2 * ROWS) {
        int upper = last - row < ROWS ? last - row : ROWS, lower = last - row - upper;
        brain_rows(p, a, &even, row, upper, lower < ROWS ? lower : ROWS);
    }
    for (int row = piece->first; odd.tiles > 0 && row < last; row += ROWS)
        brain_rows(p, a, &odd, row, last - row < ROWS ? last - row : ROWS, 0);
    TILES_RELEASE();
}

void kern_amx_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece)
{
    if (p->w->form == KERN_FORM_BF16)
        brain_product(p, a, piece);
    else if (kern_form_info(p->w->form)->integer)
        integer_product(p, a, piece);
    else
        kern_avx512_product(p, a, piece);
}
