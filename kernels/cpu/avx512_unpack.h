/* avx512_unpack.h - integer forms as plain bytes with float scales, which many rows of activations then share. */
#ifndef KERNELS_CPU_AVX512_UNPACK_H
#define KERNELS_CPU_AVX512_UNPACK_H

#include "kernels/cpu/avx512_weights.h"

#define UNPACKED_BLOCKS 20 /* at a time: two tiles stay in a first-level cache of 32 KiB */
#define UNPACKED_BYTES 512 /* of 32 columns x 16 rows */

struct unpacked {                                            /* up to UNPACKED_BLOCKS blocks of one tile of W */
    _Alignas(64) uint8_t q[UNPACKED_BLOCKS][UNPACKED_BYTES]; /* unsigned values, [column / 4][row][4] */
    _Alignas(64) float scale[2 * UNPACKED_BLOCKS][16];       /* of a block, or of each half of it */
    _Alignas(64) float min[2 * UNPACKED_BLOCKS][16];
};

/* Blocks `first` .. `first + count - 1`, at most UNPACKED_BLOCKS, of the tile at `data`. */
void kern_avx512_unpack(const struct kern_matrix *w, const uint8_t *data, int first, int count, struct unpacked *u);

/* The kinds of scaling that the forms have: X(name, halved, min, shift). */
#define UNPACKED_KINDS(X)                                                                                              \
    X(add_min, false, true, 0)                                                                                         \
    X(add_3, false, false, 3)                                                                                          \
    X(add_4, false, false, 4)                                                                                          \
    X(add_7, false, false, 7)                                                                                          \
    X(add_halves_min, true, true, 0)                                                                                   \
    X(add_halves_2, true, false, 2)                                                                                    \
    X(add_halves_5, true, false, 5)
/* Functions of those names, in the order of unpacked_kind(). */
#define UNPACKED_TABLE add_min, add_3, add_4, add_7, add_halves_min, add_halves_2, add_halves_5

static inline int unpacked_kind(enum kern_form form)
{
    if (is_halved(form))
        return has_min(form) ? 4 : offset_shift(form) == 2 ? 5 : 6;
    return has_min(form) ? 0 : offset_shift(form) == 3 ? 1 : offset_shift(form) == 4 ? 2 : 3;
}

#endif
