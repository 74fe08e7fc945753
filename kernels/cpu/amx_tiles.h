/* amx_tiles.h - the tile instructions that amx_product.c is written with; numbers of registers are constants.
 * Assembler, not intrinsics: with those, gcc 12 and older drop stores to memory that a tile instruction reads. The unit
 * tests give these names to plain C instead (tests/unit/amx_emulated.h). Source: SDM vol. 2, LDTILECFG, TILELOADD,
 * TDPBSUD, TDPBF16PS. */
#ifndef KERNELS_CPU_AMX_TILES_H
#define KERNELS_CPU_AMX_TILES_H

#include <stdint.h>

struct tiles_config {
    uint8_t palette; /* 1 */
    uint8_t start_row, reserved[14];
    uint16_t row_bytes[16]; /* of registers 0-7 */
    uint8_t rows[16];
};

#define TILES_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(config)) : "memory")
#define TILES_RELEASE() __asm__ volatile("tilerelease" ::: "memory")
#define TILE_ZERO(reg) __asm__ volatile("tilezero %%tmm" #reg ::: "memory")
/* Row r is at from + r * stride, bytes. */
#define TILE_LOAD(reg, from, stride)                                                                                   \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #reg ::"r"((const void *)(from)), "r"((uint64_t)(stride))            \
                     : "memor"                                                                                         \
                       "y")
#define TILE_STORE(reg, to, stride)                                                                                    \
    __asm__ volatile("tilestored %%tmm" #reg ", (%0,%1,1)" ::"r"((void *)(to)), "r"((uint64_t)(stride)) : "memory")
/* sums[m][n] += sum over k of left[m][k] * right[k / 4][n][k % 4], left signed and right unsigned bytes */
#define TILE_DOT_BYTES(sums, left, right)                                                                              \
    __asm__ volatile("tdpbsud %%tmm" #right ", %%tmm" #left ", %%tmm" #sums ::: "memory")
/* sums[m][n] += sum over k of left[m][k] * right[k / 2][n][k % 2], in bf16; the order is the processor's and does not
 * depend on m or n */
#define TILE_DOT_BRAINS(sums, left, right)                                                                             \
    __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sums ::: "memory")

#endif
