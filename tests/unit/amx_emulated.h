/* amx_emulated.h - the tile instructions of kernels/cpu/amx_tiles.h in plain C, with the checks that the processor
 * makes, so that amx_product.c can be run where there is no AMX. */
#ifndef KERNELS_CPU_AMX_TILES_H
#define KERNELS_CPU_AMX_TILES_H

#include "kernels/quant.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct tiles_config {
    uint8_t palette;
    uint8_t start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static struct {
    struct tiles_config config;
    bool ready;
    uint8_t bytes[8][16][64];
} tiles;

static inline void tiles_must(bool ok)
{
    if (!ok)
        abort(); /* the processor would fault */
}

static inline void tiles_configure(const struct tiles_config *c)
{
    tiles_must(sizeof *c == 64 && c->palette == 1 && c->start_row == 0);
    for (int i = 0; i < 16; i++)
        tiles_must(c->rows[i] <= 16 && c->row_bytes[i] <= 64 && (c->rows[i] > 0) == (c->row_bytes[i] > 0) &&
                   (i < 8 || c->rows[i] == 0));
    memset(&tiles, 0, sizeof tiles);
    tiles.config = *c;
    tiles.ready = true;
}

static inline void tile_zero(int reg)
{
    tiles_must(tiles.ready && tiles.config.rows[reg] > 0);
    memset(tiles.bytes[reg], 0, sizeof tiles.bytes[reg]);
}

static inline void tile_load(int reg, const void *from, size_t stride)
{
    tile_zero(reg);
    for (size_t r = 0; r < tiles.config.rows[reg]; r++)
        memcpy(tiles.bytes[reg][r], (const uint8_t *)from + r * stride, tiles.config.row_bytes[reg]);
}

static inline void tile_store(int reg, void *to, size_t stride)
{
    tiles_must(tiles.ready && tiles.config.rows[reg] > 0);
    for (size_t r = 0; r < tiles.config.rows[reg]; r++)
        memcpy((uint8_t *)to + r * stride, tiles.bytes[reg][r], tiles.config.row_bytes[reg]);
}

static inline void tile_shapes(int sums, int left, int right)
{
    const struct tiles_config *c = &tiles.config;
    tiles_must(tiles.ready && sums != left && sums != right && left != right && c->rows[sums] > 0 &&
               c->rows[sums] == c->rows[left] && c->row_bytes[sums] == c->row_bytes[right] &&
               c->row_bytes[left] == 4 * c->rows[right]);
}

static inline void tile_dot_bytes(int sums, int left, int right)
{
    tile_shapes(sums, left, right);
    for (int m = 0; m < tiles.config.rows[sums]; m++)
        for (int n = 0; n < tiles.config.row_bytes[sums] / 4; n++) {
            int32_t sum;
            memcpy(&sum, &tiles.bytes[sums][m][4 * n], 4);
            for (int k = 0; k < tiles.config.row_bytes[left]; k++)
                sum += (int8_t)tiles.bytes[left][m][k] * tiles.bytes[right][k / 4][4 * n + k % 4];
            memcpy(&tiles.bytes[sums][m][4 * n], &sum, 4);
        }
}

static inline float tile_brain(int reg, int row, int at)
{
    uint16_t brain;
    memcpy(&brain, &tiles.bytes[reg][row][2 * at], 2);
    return kern_bf16_to_f32(brain);
}

/* Even and odd columns are summed apart (SDM, TDPBF16PS). */
static inline void tile_dot_brains(int sums, int left, int right)
{
    tile_shapes(sums, left, right);
    for (int m = 0; m < tiles.config.rows[sums]; m++)
        for (int n = 0; n < tiles.config.row_bytes[sums] / 4; n++) {
            float sum, part[2] = {0, 0};
            memcpy(&sum, &tiles.bytes[sums][m][4 * n], 4);
            for (int k = 0; k < tiles.config.row_bytes[left] / 2; k++)
                part[k % 2] = fmaf(tile_brain(left, m, k), tile_brain(right, k / 2, 2 * n + k % 2), part[k % 2]);
            sum += part[0] + part[1];
            memcpy(&tiles.bytes[sums][m][4 * n], &sum, 4);
        }
}

#define TILES_CONFIGURE(config) tiles_configure(config)
#define TILES_RELEASE() (tiles.ready = false)
#define TILE_ZERO(reg) tile_zero(reg)
#define TILE_LOAD(reg, from, stride) tile_load(reg, from, (size_t)(stride))
#define TILE_STORE(reg, to, stride) tile_store(reg, to, (size_t)(stride))
#define TILE_DOT_BYTES(sums, left, right) tile_dot_bytes(sums, left, right)
#define TILE_DOT_BRAINS(sums, left, right) tile_dot_brains(sums, left, right)

#endif
