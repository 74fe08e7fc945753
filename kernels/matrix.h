/* matrix.h - a weight matrix laid out once, at load, in the order in which the kernels read it.
 *
 * W is [rows][cols]; a product is y[m][row] = sum over col of x[m][col] * W[row][col]. Sixteen rows make a tile: in
 * every kernel a vector lane is a row, so no sum crosses lanes and each output's order of additions is fixed by its
 * tile alone. A tile holds its columns in blocks of 32, and several blocks share a unit with one header of scales, so
 * that everything a unit needs is one aligned stream. Integer types keep a block as eight groups of 4 columns x 16
 * rows, a vector of 64 bytes each. Values of fewer than 8 bits share vectors such that unpacking costs few operations:
 * 4 bits: group g low, group g + 4 high; 6 bits: three vectors for four groups, the fourth in the top bits of the other
 * three; 5 bits: five vectors for eight groups, the last three in the top bits of the other five (matrix_pack.c).
 *   value = scale * q + min, q unsigned; formats with signed q store min = -offset * scale or imply it.
 * The values are exactly those of the file (quant.h). */
#ifndef KERNELS_MATRIX_H
#define KERNELS_MATRIX_H

#include "kernels/pool.h"
#include "kernels/quant.h"
#include "kernels/weights.h"

#include <stdbool.h>

#define KERN_TILE 16        /* rows of a tile */
#define KERN_BLOCK 32       /* columns of a block */
#define KERN_COLS_ROUND 256 /* activations are padded to this many columns, with zeros */

enum kern_form {                   /* how a tile is stored; the pair (bits, scales) of each stored type */
                 KERN_FORM_F32,    /* [col][16] f32 */
                 KERN_FORM_F16,    /* [col][16] f16 */
                 KERN_FORM_BF16,   /* [col / 2][16][2] bf16 */
                 KERN_FORM_Q4_0,   /* 2 blocks: f16 scale[2][16]; nibbles; offset 8 */
                 KERN_FORM_Q4_1,   /* 1 block: f16 scale[16], f16 min[16]; nibbles */
                 KERN_FORM_Q5_0,   /* as Q4_0 with 5 bits; offset 16 */
                 KERN_FORM_Q5_1,   /* as Q4_1 with 5 bits */
                 KERN_FORM_Q8_0,   /* 2 blocks: f16 scale[2][16]; bytes; offset 128 */
                 KERN_FORM_IQ4_NL, /* as Q4_0, nibbles index a table; offset 128 */
                 KERN_FORM_MXFP4,  /* 4 blocks: u8 exponent[4][16]; nibbles index a table; offset 16 */
                 KERN_FORM_Q4_K,   /* 8 blocks: f16 d[16], f16 dmin[16], u8 scale[8][16], u8 min[8][16]; nibbles */
                 KERN_FORM_Q5_K,   /* as Q4_K with 5 bits */
                 KERN_FORM_Q6_K,   /* 8 blocks: f16 d[16], 32 bytes pad, i8 scale[16][16]; 6 bits; offset 32 */
                 KERN_FORM_Q3_K,   /* as Q6_K with nibbles; offset 4 */
                 KERN_FORM_Q2_K,   /* 8 blocks: f16 d[16], f16 dmin[16], u8 scale[16][16], u8 min[16][16]; nibbles */
                 KERN_FORM_IQ4_XS, /* 8 blocks: f16 d[16], 32 bytes pad, i8 scale[8][16]; nibbles index a table; offset
                                      128 */
                 KERN_FORMS
};

struct kern_form_info {
    const char *name;
    bool integer;        /* multiplied with activations quantized to int8 */
    uint32_t unit;       /* blocks of a unit */
    uint32_t head;       /* bytes of a unit's header */
    uint32_t block;      /* bytes of a block after the header: 64 for each of `bits` */
    uint32_t bits;       /* of q: 4, 5, 6 or 8; 0 for floats */
    int offset;          /* q - offset is the signed value; 0: the file has a min */
    const int8_t *table; /* 16 signed values that nibbles index, or NULL; then q = table[nibble] + offset */
};

const struct kern_form_info *kern_form_info(enum kern_form form);

struct kern_matrix {
    int rows, cols;
    enum kern_form form;
    int units;         /* of a tile */
    size_t unit_bytes; /* header and blocks */
    size_t tile_bytes; /* units * unit_bytes */
    uint8_t *data;     /* borrowed, 64-aligned: ceil(rows / 16) tiles, rows beyond the last are zeros */
};

/* Where the rows come from: row `r` of the result is stored row at `base + index(r) * stride`. */
struct kern_rows {
    enum kern_type type;
    const uint8_t *base;
    size_t stride;                   /* bytes of a stored row */
    int (*index)(int row, int head); /* NULL: row itself */
    int head;                        /* second argument of `index` */
};

/* The form in which `rows` rows of `cols` columns stored as `type` would lie in memory, without any:
 * kern_matrix_bytes() says how much that is. `exact`: as F32. */
void kern_matrix_shape(struct kern_matrix *out, enum kern_type type, int rows, int cols, bool exact);
/* Lay out `rows` rows of `cols` columns; `exact`: decode to F32. At most 2^24 rows. `done(ctx, n)`, unless NULL, is
 * called now and then: the first n rows are laid out, their stored form is not read again (`from` without an index).
 * False when memory is short. */
bool kern_matrix_pack(struct kern_matrix *out, const struct kern_rows *from, int rows, int cols, bool exact,
                      struct kern_pool *pool, struct kern_weights *memory, void (*done)(void *ctx, int rows),
                      void *ctx);
/* Block `block` of tile `tile`, decoded exactly as the file's decoder does. */
void kern_matrix_block(const struct kern_matrix *m, int tile, int block, float out[KERN_TILE][KERN_BLOCK]);
/* Row `row` as `cols` floats, exactly as the file's decoder gives them. */
void kern_matrix_row(const struct kern_matrix *m, int row, float *out);
/* Bytes that one product reads. */
size_t kern_matrix_bytes(const struct kern_matrix *m);

#endif
