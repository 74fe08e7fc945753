/* matrix.c - from stored rows to tiles, and back for look-ups and tests. */
#include "kernels/matrix.h"

#include <string.h>

static const struct kern_form_info forms[KERN_FORMS] = {
    [KERN_FORM_F32] = {"F32", false, 1, 0, 2048, 0, 0, NULL},
    [KERN_FORM_F16] = {"F16", false, 1, 0, 1024, 0, 0, NULL},
    [KERN_FORM_BF16] = {"BF16", false, 1, 0, 1024, 0, 0, NULL},
    [KERN_FORM_Q4_0] = {"Q4_0", true, 2, 64, 256, 4, 8, NULL},
    [KERN_FORM_Q4_1] = {"Q4_1", true, 1, 64, 256, 4, 0, NULL},
    [KERN_FORM_Q5_0] = {"Q5_0", true, 2, 64, 320, 5, 16, NULL},
    [KERN_FORM_Q5_1] = {"Q5_1", true, 1, 64, 320, 5, 0, NULL},
    [KERN_FORM_Q8_0] = {"Q8_0", true, 2, 64, 512, 8, 128, NULL},
    [KERN_FORM_IQ4_NL] = {"IQ4_NL", true, 2, 64, 256, 4, 128, kern_iq4_nl_values},
    [KERN_FORM_MXFP4] = {"MXFP4", true, 4, 64, 256, 4, 16, kern_mxfp4_values},
    [KERN_FORM_Q4_K] = {"Q4_K", true, 8, 320, 256, 4, 0, NULL},
    [KERN_FORM_Q5_K] = {"Q5_K", true, 8, 320, 320, 5, 0, NULL},
    [KERN_FORM_Q6_K] = {"Q6_K", true, 8, 320, 384, 6, 32, NULL},
    [KERN_FORM_Q3_K] = {"Q3_K", true, 8, 320, 256, 4, 4, NULL},
    [KERN_FORM_Q2_K] = {"Q2_K", true, 8, 576, 256, 4, 0, NULL},
    [KERN_FORM_IQ4_XS] = {"IQ4_XS", true, 8, 192, 256, 4, 128, kern_iq4_nl_values},
};

const struct kern_form_info *kern_form_info(enum kern_form form)
{
    return &forms[form];
}

static enum kern_form form_of(enum kern_type type, bool exact)
{
    if (exact)
        return KERN_FORM_F32;
    switch (type) {
    case KERN_F16:
        return KERN_FORM_F16;
    case KERN_BF16:
        return KERN_FORM_BF16;
    case KERN_Q4_0:
        return KERN_FORM_Q4_0;
    case KERN_Q4_1:
        return KERN_FORM_Q4_1;
    case KERN_Q5_0:
        return KERN_FORM_Q5_0;
    case KERN_Q5_1:
        return KERN_FORM_Q5_1;
    case KERN_Q8_0:
        return KERN_FORM_Q8_0;
    case KERN_IQ4_NL:
        return KERN_FORM_IQ4_NL;
    case KERN_MXFP4:
        return KERN_FORM_MXFP4;
    case KERN_Q4_K:
        return KERN_FORM_Q4_K;
    case KERN_Q5_K:
        return KERN_FORM_Q5_K;
    case KERN_Q6_K:
        return KERN_FORM_Q6_K;
    case KERN_Q3_K:
        return KERN_FORM_Q3_K;
    case KERN_Q2_K:
        return KERN_FORM_Q2_K;
    case KERN_IQ4_XS:
        return KERN_FORM_IQ4_XS;
    case KERN_F32:
        break;
    }
    return KERN_FORM_F32;
}

/* --- integers: the 32 values of one block of one stored row, and their scales ------------------------ */

static uint32_t plane_at(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Low nibbles are elements 0-15, high nibbles 16-31 (types of 32); `plane` holds the fifth bits. */
static void nibbles(uint8_t q[32], const uint8_t *in, uint32_t plane)
{
    for (int j = 0; j < 16; j++) {
        q[j] = (uint8_t)((in[j] & 15) | (plane >> j & 1) << 4);
        q[j + 16] = (uint8_t)(in[j] >> 4 | (plane >> (j + 16) & 1) << 4);
    }
}

/* `in` is the stored block; `sub` which 32 of a block of 256. */
static void integers(uint8_t q[32], enum kern_form form, const uint8_t *in, int sub)
{
    switch (form) {
    case KERN_FORM_Q4_0:
    case KERN_FORM_IQ4_NL:
        nibbles(q, in + 2, 0);
        break;
    case KERN_FORM_Q4_1:
        nibbles(q, in + 4, 0);
        break;
    case KERN_FORM_Q5_0:
        nibbles(q, in + 6, plane_at(in + 2));
        break;
    case KERN_FORM_Q5_1:
        nibbles(q, in + 8, plane_at(in + 4));
        break;
    case KERN_FORM_MXFP4:
        nibbles(q, in + 1, 0);
        break;
    case KERN_FORM_Q8_0:
        for (int j = 0; j < 32; j++)
            q[j] = (uint8_t)(in[2 + j] + 128);
        break;
    case KERN_FORM_Q4_K:
    case KERN_FORM_Q5_K:
        for (int l = 0; l < 32; l++) {
            uint8_t two = in[(form == KERN_FORM_Q4_K ? 16 : 48) + sub / 2 * 32 + l];
            q[l] = sub % 2 ? two >> 4 : two & 15;
            if (form == KERN_FORM_Q5_K)
                q[l] = (uint8_t)(q[l] | (in[16 + l] >> sub & 1) << 4);
        }
        break;
    case KERN_FORM_Q6_K:
        for (int l = 0; l < 32; l++) {
            uint8_t low = in[64 * (sub / 4) + 32 * (sub & 1) + l], high = in[128 + 32 * (sub / 4) + l];
            q[l] = (uint8_t)((sub % 4 < 2 ? low & 15 : low >> 4) | (high >> 2 * (sub % 4) & 3) << 4);
        }
        break;
    case KERN_FORM_Q3_K:
        for (int l = 0; l < 32; l++)
            q[l] = (uint8_t)((in[32 + 32 * (sub / 4) + l] >> 2 * (sub % 4) & 3) | (in[l] >> sub & 1) << 2);
        break;
    case KERN_FORM_Q2_K:
        for (int l = 0; l < 32; l++)
            q[l] = in[16 + 32 * (sub / 4) + l] >> 2 * (sub % 4) & 3;
        break;
    case KERN_FORM_IQ4_XS:
        nibbles(q, in + 8 + 16 * sub, 0);
        break;
    default:
        break;
    }
}

/* The scales of block `b` of a unit for row `lane` of the tile. */
static void put_scales(uint8_t *head, enum kern_form form, const uint8_t *in, int b, int lane)
{
    switch (form) {
    case KERN_FORM_Q4_1:
    case KERN_FORM_Q5_1:
        memcpy(head + 2 * lane, in, 2);
        memcpy(head + 32 + 2 * lane, in + 2, 2);
        break;
    case KERN_FORM_MXFP4:
        head[16 * b + lane] = in[0];
        break;
    case KERN_FORM_Q4_K:
    case KERN_FORM_Q5_K:
        memcpy(head + 2 * lane, in, 2);
        memcpy(head + 32 + 2 * lane, in + 2, 2);
        kern_k4_scale(in + 4, b, &head[64 + 16 * b + lane], &head[192 + 16 * b + lane]);
        break;
    case KERN_FORM_Q6_K:
        memcpy(head + 2 * lane, in + 208, 2);
        head[64 + 32 * b + lane] = in[192 + 2 * b];
        head[64 + 32 * b + 16 + lane] = in[192 + 2 * b + 1];
        break;
    case KERN_FORM_Q3_K:
        memcpy(head + 2 * lane, in + 108, 2);
        for (int half = 0; half < 2; half++)
            head[64 + 32 * b + 16 * half + lane] = (uint8_t)kern_k3_scale(in + 96, 2 * b + half);
        break;
    case KERN_FORM_Q2_K:
        memcpy(head + 2 * lane, in + 80, 2);
        memcpy(head + 32 + 2 * lane, in + 82, 2);
        for (int half = 0; half < 2; half++) {
            head[64 + 32 * b + 16 * half + lane] = in[2 * b + half] & 15;
            head[320 + 32 * b + 16 * half + lane] = in[2 * b + half] >> 4;
        }
        break;
    case KERN_FORM_IQ4_XS:
        memcpy(head + 2 * lane, in, 2);
        head[64 + 16 * b + lane] = (uint8_t)kern_iq4_xs_scale(in, b);
        break;
    default:
        memcpy(head + 32 * b + 2 * lane, in, 2);
        break;
    }
}

/* Columns 4g .. 4g+3 of row `lane` are four bytes (or nibbles, or bits) together. */
static void put_integers(uint8_t *to, uint32_t bits, const uint8_t q[32], int lane)
{
    uint8_t pair[16];
    if (bits == 8) {
        for (int g = 0; g < 8; g++)
            memcpy(to + 64 * g + 4 * lane, q + 4 * g, 4);
        return;
    }
    for (int k = 0; k < 16; k++)
        pair[k] = (uint8_t)((q[k] & 15) | (q[k + 16] & 15) << 4);
    for (int g = 0; g < 4; g++)
        memcpy(to + 64 * g + 4 * lane, pair + 4 * g, 4);
    for (uint32_t plane = 0; plane + 4 < bits; plane++)
        for (int g = 0; g < 8; g++) {
            int four = 0;
            for (int k = 0; k < 4; k++)
                four |= (q[4 * g + k] >> (4 + plane) & 1) << k;
            to[256 + 64 * plane + 8 * (uint32_t)g + (uint32_t)lane / 2] |= (uint8_t)(four << 4 * (lane & 1));
        }
}

static uint8_t get_integer(const uint8_t *from, uint32_t bits, int lane, int k)
{
    int group = k / 4, at = 4 * lane + k % 4;
    if (bits == 8)
        return from[64 * group + at];
    uint8_t q = (uint8_t)(from[64 * (group & 3) + at] >> (group < 4 ? 0 : 4) & 15);
    for (uint32_t plane = 0; plane < bits - 4; plane++)
        q = (uint8_t)(q | (from[256 + 64 * plane + 8 * (uint32_t)group + (uint32_t)at / 8] >> (at & 7) & 1)
                              << (4 + plane));
    return q;
}

/* --- packing --------------------------------------------------------------------------------------- */

static const uint8_t *source_row(const struct kern_rows *from, int row)
{
    return from->base + (size_t)(from->index ? from->index(row, from->head) : row) * from->stride;
}

static void pack_integer_row(struct kern_matrix *m, const struct kern_form_info *form, const uint8_t *in,
                             const struct kern_quant *quant, int row)
{
    uint8_t *tile = m->data + (size_t)(row / KERN_TILE) * m->tile_bytes, q[32];
    int lane = row % KERN_TILE, blocks = m->cols / KERN_BLOCK, per = (int)quant->block / KERN_BLOCK;

    for (int block = 0; block < blocks; block++) {
        uint8_t *unit = tile + (size_t)block / form->unit * m->unit_bytes;
        uint32_t b = (uint32_t)block % form->unit;
        const uint8_t *stored = in + (size_t)(block / per) * quant->bytes;
        integers(q, m->form, stored, block % per);
        put_scales(unit, m->form, stored, (int)b, lane);
        put_integers(unit + form->head + (size_t)b * form->block, form->bits, q, lane);
    }
}

static void pack_float_row(struct kern_matrix *m, const uint8_t *in, const struct kern_quant *quant, int row)
{
    uint8_t *tile = m->data + (size_t)(row / KERN_TILE) * m->tile_bytes;
    size_t lane = (size_t)row % KERN_TILE;
    float values[256];

    for (size_t col = 0; col < (size_t)m->cols; col++) {
        size_t within = col % 256;
        if (m->form == KERN_FORM_F32) {
            if (within == 0) {
                size_t left = (size_t)m->cols - col, part = left < 256 ? left : 256;
                quant->decode(values, in + col / quant->block * quant->bytes, part / quant->block);
            }
            memcpy(tile + 4 * (col * KERN_TILE + lane), &values[within], 4);
        } else if (m->form == KERN_FORM_F16) {
            memcpy(tile + 2 * (col * KERN_TILE + lane), in + 2 * col, 2);
        } else {
            memcpy(tile + 2 * (col / 2 * 2 * KERN_TILE + 2 * lane + col % 2), in + 2 * col, 2);
        }
    }
}

#define PACK_STEP ((size_t)16 << 20) /* bytes between two reports of how far packing is */

struct packing {
    struct kern_matrix *to;
    const struct kern_rows *from;
    const struct kern_quant *quant;
    int first; /* tile of task 0 */
};

static void pack_tile(void *ctx, int task)
{
    const struct packing *p = ctx;
    const struct kern_form_info *form = &forms[p->to->form];
    int tile = p->first + task;
    for (int row = tile * KERN_TILE; row < p->to->rows && row < (tile + 1) * KERN_TILE; row++) {
        if (form->integer)
            pack_integer_row(p->to, form, source_row(p->from, row), p->quant, row);
        else
            pack_float_row(p->to, source_row(p->from, row), p->quant, row);
    }
}

void kern_matrix_shape(struct kern_matrix *out, enum kern_type type, int rows, int cols, bool exact)
{
    enum kern_form which =
        cols % KERN_BLOCK ? KERN_FORM_F32 : form_of(type, exact); /* plain floats may have such rows */
    const struct kern_form_info *form = &forms[which];
    int blocks = (cols + KERN_BLOCK - 1) / KERN_BLOCK;

    *out = (struct kern_matrix){.rows = rows, .cols = cols, .form = which};
    out->units = (blocks + (int)form->unit - 1) / (int)form->unit;
    out->unit_bytes = form->head + (size_t)form->unit * form->block;
    out->tile_bytes = (size_t)out->units * out->unit_bytes;
}

bool kern_matrix_pack(struct kern_matrix *out, const struct kern_rows *from, int rows, int cols, bool exact,
                      struct kern_pool *pool, struct kern_weights *memory, void (*done)(void *ctx, int rows), void *ctx)
{
    struct packing p = {out, from, kern_quant_find((uint32_t)from->type), 0};
    int tiles = (rows + KERN_TILE - 1) / KERN_TILE;

    kern_matrix_shape(out, from->type, rows, cols, exact);
    out->data = kern_weights_take(memory, kern_matrix_bytes(out));
    if (!out->data)
        return false;
    /* Tiles of 16 rows keep within KERN_POOL_TASKS_MAX for any matrix whose rows fit 2^24. */
    int step = done && out->tile_bytes < PACK_STEP ? (int)(PACK_STEP / out->tile_bytes) : tiles;
    for (; p.first < tiles; p.first += step) {
        int left = tiles - p.first, now = left < step ? left : step;
        kern_pool_run(pool, pack_tile, &p, now);
        if (done)
            done(ctx, (p.first + now) * KERN_TILE < rows ? (p.first + now) * KERN_TILE : rows);
    }
    return true;
}

size_t kern_matrix_bytes(const struct kern_matrix *m)
{
    return (size_t)((m->rows + KERN_TILE - 1) / KERN_TILE) * m->tile_bytes;
}

/* --- unpacking ------------------------------------------------------------------------------------- */

static float half_at(const uint8_t *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return kern_f16_to_f32(half);
}

static float integer_value(enum kern_form which, const uint8_t *head, int b, int lane, int k, int q)
{
    const struct kern_form_info *form = &forms[which];
    switch (which) {
    case KERN_FORM_Q4_1:
    case KERN_FORM_Q5_1:
        return half_at(head + 2 * lane) * (float)q + half_at(head + 32 + 2 * lane);
    case KERN_FORM_MXFP4:
        return kern_mxfp4_scale(head[16 * b + lane]) * (float)form->table[q];
    case KERN_FORM_Q4_K:
    case KERN_FORM_Q5_K:
        return half_at(head + 2 * lane) * (float)head[64 + 16 * b + lane] * (float)q -
               half_at(head + 32 + 2 * lane) * (float)head[192 + 16 * b + lane];
    case KERN_FORM_Q2_K:
        return half_at(head + 2 * lane) * (float)head[64 + 32 * b + k / 16 * 16 + lane] * (float)q -
               half_at(head + 32 + 2 * lane) * (float)head[320 + 32 * b + k / 16 * 16 + lane];
    case KERN_FORM_IQ4_XS:
        return half_at(head + 2 * lane) * (float)(int8_t)head[64 + 16 * b + lane] * (float)form->table[q];
    case KERN_FORM_Q3_K:
    case KERN_FORM_Q6_K:
        return half_at(head + 2 * lane) * (float)(int8_t)head[64 + 32 * b + k / 16 * 16 + lane] *
               (float)(q - form->offset);
    default:
        return half_at(head + 32 * b + 2 * lane) * (float)(form->table ? form->table[q] : q - form->offset);
    }
}

static float float_value(const struct kern_matrix *m, const uint8_t *tile, size_t col, size_t lane)
{
    float value;
    uint16_t half;
    if (m->form == KERN_FORM_F32) {
        memcpy(&value, tile + 4 * (col * KERN_TILE + lane), 4);
        return value;
    }
    if (m->form == KERN_FORM_F16)
        return half_at(tile + 2 * (col * KERN_TILE + lane));
    memcpy(&half, tile + 2 * (col / 2 * 2 * KERN_TILE + 2 * lane + col % 2), 2);
    return kern_bf16_to_f32(half);
}

static float value_at(const struct kern_matrix *m, int tile, int lane, int col)
{
    const struct kern_form_info *form = &forms[m->form];
    const uint8_t *base = m->data + (size_t)tile * m->tile_bytes;
    if (!form->integer)
        return float_value(m, base, (size_t)col, (size_t)lane);
    int block = col / KERN_BLOCK, b = block % (int)form->unit, k = col % KERN_BLOCK;
    const uint8_t *unit = base + (size_t)block / form->unit * m->unit_bytes;
    uint8_t q = get_integer(unit + form->head + (size_t)b * form->block, form->bits, lane, k);
    return integer_value(m->form, unit, b, lane, k, q);
}

void kern_matrix_block(const struct kern_matrix *m, int tile, int block, float out[KERN_TILE][KERN_BLOCK])
{
    for (int lane = 0; lane < KERN_TILE; lane++)
        for (int k = 0; k < KERN_BLOCK; k++)
            out[lane][k] = block * KERN_BLOCK + k < m->cols ? value_at(m, tile, lane, block * KERN_BLOCK + k) : 0;
}

void kern_matrix_row(const struct kern_matrix *m, int row, float *out)
{
    for (int col = 0; col < m->cols; col++)
        out[col] = value_at(m, row / KERN_TILE, row % KERN_TILE, col);
}
