/* matrix.c - the forms, and from tiles back to values for look-ups and tests. */
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

size_t kern_matrix_bytes(const struct kern_matrix *m)
{
    return (size_t)((m->rows + KERN_TILE - 1) / KERN_TILE) * m->tile_bytes;
}

/* --- unpacking ------------------------------------------------------------------------------------- */

/* A value of group `group`, whose row and column are byte `at` of each vector. */
static uint8_t get_5(const uint8_t *at, int group)
{
    if (group < 5)
        return at[64 * group] & 31;
    if (group == 5)
        return (uint8_t)(at[0] >> 5 << 2 | at[64] >> 6);
    if (group == 6)
        return (uint8_t)(at[128] >> 5 << 2 | at[192] >> 6);
    return (uint8_t)(at[256] >> 5 << 2 | (at[64] >> 5 & 1) << 1 | (at[192] >> 5 & 1));
}

static uint8_t get_6(const uint8_t *at, int group)
{
    at += 192 * (group / 4);
    if (group % 4 < 3)
        return at[64 * (group % 4)] & 63;
    return (uint8_t)(at[0] >> 6 << 4 | at[64] >> 6 << 2 | at[128] >> 6);
}

static uint8_t get_integer(const uint8_t *block, uint32_t bits, int lane, int k)
{
    const uint8_t *at = block + 4 * lane + k % 4;
    int group = k / 4;
    if (bits == 5)
        return get_5(at, group);
    if (bits == 6)
        return get_6(at, group);
    if (bits == 8)
        return at[64 * group];
    return at[64 * (group & 3)] >> (group < 4 ? 0 : 4) & 15;
}

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
