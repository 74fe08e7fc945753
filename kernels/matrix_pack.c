/* matrix_pack.c - from stored rows to tiles. Whatever a form's words are (pairs of bf16, four bytes, eight nibbles), a
 * tile holds word 0 of its sixteen rows, then word 1, and so on: the stored words of 16 rows, transposed. */
#include "kernels/matrix.h"

#include <string.h>

typedef uint32_t four __attribute__((vector_size(16)));

static four load_four(const uint8_t *from)
{
    four v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* Words w .. w+3 of rows l .. l+3 to lanes l .. l+3 of those words. */
static void turn_4x4(uint8_t *to, const uint8_t *const rows[4], size_t at)
{
    four a = load_four(rows[0] + at), b = load_four(rows[1] + at), c = load_four(rows[2] + at),
         d = load_four(rows[3] + at);
    four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    four out[4] = {
        __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++)
        memcpy(to + 4 * KERN_TILE * i, &out[i], sizeof out[i]);
}

/* `words` words of 4 bytes (a multiple of 4) of sixteen rows, transposed. A line of each row is used up before the
 * next: rows often lie a power of two apart, and few such lines fit the first-level cache together. */
static void turn(uint8_t *to, const uint8_t *const rows[KERN_TILE], size_t words)
{
    enum { LINE = 16 };
    for (size_t line = 0; line < words; line += LINE)
        for (size_t lane = 0; lane < KERN_TILE; lane += 4)
            for (size_t w = line; w < words && w < line + LINE; w += 4)
                turn_4x4(to + 4 * (KERN_TILE * w + lane), rows + lane, 4 * w);
}

/* --- integers: one block of 32 of one stored row ------------------------------------------------------- */

/* Bytes k and k + 16 of 32, the bits of `mask` from `shift` on: byte k's to the low nibble, byte k + 16's to the high.
 */
static void pair_up(uint8_t pair[16], const uint8_t *in, int shift, uint64_t mask)
{
    for (size_t i = 0; i < 16; i += 8) {
        uint64_t low, high;
        memcpy(&low, in + i, 8);
        memcpy(&high, in + 16 + i, 8);
        low = (low >> shift & mask) | (high >> shift & mask) << 4;
        memcpy(pair + i, &low, 8);
    }
}

#define EACH_BYTE(bits) (UINT64_C(0x0101010101010101) * (bits))

/* 32 values: four bits of `low` from bit `shift` on, above them those of `mask` of `high` from bit `from` on. */
static void put_above(uint32_t q[8], const uint8_t *low, int shift, const uint8_t *high, int from, uint64_t mask)
{
    for (size_t i = 0; i < 32; i += 8) {
        uint64_t a, b;
        memcpy(&a, low + i, 8);
        memcpy(&b, high + i, 8);
        a = (a >> shift & EACH_BYTE(15)) | (b >> from & mask) << 4;
        memcpy((uint8_t *)q + i, &a, 8);
    }
}

/* Values k and k + 16 share byte k; bit k of the four bytes at `plane` is value k's fifth. */
static void put_plane(uint32_t q[8], const uint8_t *pairs, const uint8_t *plane)
{
    for (size_t i = 0; i < 4; i++) {
        uint64_t eight, bits = plane[i] * EACH_BYTE(1) & UINT64_C(0x8040201008040201);
        memcpy(&eight, pairs + i % 2 * 8, 8);
        bits = (bits + EACH_BYTE(127)) >> 7 & EACH_BYTE(1); /* one where the byte is not zero */
        eight = (eight >> (i < 2 ? 0 : 4) & EACH_BYTE(15)) | bits << 4;
        memcpy((uint8_t *)q + 8 * i, &eight, 8);
    }
}

#define EACH_OF_4(bits) (UINT32_C(0x01010101) * (bits))

/* Eight words of 4 values of 5 bits into five: the last three words' bits lie above the other five's. */
static void join_5(uint32_t out[5], const uint32_t q[8])
{
    out[0] = q[0] | (q[5] >> 2 & EACH_OF_4(7)) << 5;
    out[1] = q[1] | (q[5] & EACH_OF_4(3)) << 6 | (q[7] >> 1 & EACH_OF_4(1)) << 5;
    out[2] = q[2] | (q[6] >> 2 & EACH_OF_4(7)) << 5;
    out[3] = q[3] | (q[6] & EACH_OF_4(3)) << 6 | (q[7] & EACH_OF_4(1)) << 5;
    out[4] = q[4] | (q[7] >> 2 & EACH_OF_4(7)) << 5;
}

/* Four words of 4 values of 6 bits into three. */
static void join_6(uint32_t out[3], const uint32_t q[4])
{
    out[0] = q[0] | (q[3] >> 4 & EACH_OF_4(3)) << 6;
    out[1] = q[1] | (q[3] >> 2 & EACH_OF_4(3)) << 6;
    out[2] = q[2] | (q[3] & EACH_OF_4(3)) << 6;
}

/* A block of 5 or 6 bits. */
static void join(uint8_t own[32], enum kern_form form, const uint8_t *in, int sub)
{
    uint32_t q[8], out[8] = {0};
    if (form == KERN_FORM_Q5_0)
        put_plane(q, in + 6, in + 2);
    else if (form == KERN_FORM_Q5_1)
        put_plane(q, in + 8, in + 4);
    else if (form == KERN_FORM_Q5_K)
        put_above(q, in + 48 + sub / 2 * 32, 4 * (sub % 2), in + 16, sub, EACH_BYTE(1));
    else
        put_above(q, in + 64 * (sub / 4) + 32 * (sub & 1), sub % 4 < 2 ? 0 : 4, in + 128 + 32 * (sub / 4),
                  2 * (sub % 4), EACH_BYTE(3));
    if (form == KERN_FORM_Q6_K) {
        join_6(out, q);
        join_6(out + 3, q + 4);
    } else {
        join_5(out, q);
    }
    memcpy(own, out, sizeof out);
}

/* The words of a block: of 4 bits, value k with value k + 16 in byte k; of 8 bits, bytes; of 5 and 6, joined. In the
 * stored block itself where it has this order, else in `own`. */
static const uint8_t *words_of(uint8_t own[32], enum kern_form form, const uint8_t *in, int sub)
{
    switch (form) {
    case KERN_FORM_Q4_0:
    case KERN_FORM_IQ4_NL:
        return in + 2;
    case KERN_FORM_Q4_1:
        return in + 4;
    case KERN_FORM_MXFP4:
        return in + 1;
    case KERN_FORM_IQ4_XS:
        return in + 8 + 16 * sub;
    case KERN_FORM_Q8_0:
        for (size_t i = 0; i < 32; i += 8) {
            uint64_t eight;
            memcpy(&eight, in + 2 + i, 8);
            eight ^= EACH_BYTE(128);
            memcpy(own + i, &eight, 8);
        }
        break;
    case KERN_FORM_Q4_K:
        pair_up(own, in + 16 + sub / 2 * 32, 4 * (sub % 2), EACH_BYTE(15));
        break;
    case KERN_FORM_Q5_0:
    case KERN_FORM_Q5_1:
    case KERN_FORM_Q5_K:
    case KERN_FORM_Q6_K:
        join(own, form, in, sub);
        break;
    case KERN_FORM_Q3_K: {
        uint8_t high[16];
        pair_up(own, in + 32 + 32 * (sub / 4), 2 * (sub % 4), EACH_BYTE(3));
        pair_up(high, in, sub, EACH_BYTE(1));
        for (int k = 0; k < 16; k++)
            own[k] = (uint8_t)(own[k] | high[k] << 2);
        break;
    }
    case KERN_FORM_Q2_K:
        pair_up(own, in + 16 + 32 * (sub / 4), 2 * (sub % 4), EACH_BYTE(3));
        break;
    default:
        break;
    }
    return own;
}

/* The scales of block `b` of a unit for row `lane` of the tile. */
static void put_scales(uint8_t *head, enum kern_form form, const uint8_t *in, int b, size_t lane)
{
    uint8_t *at = head + lane;
    switch (form) {
    case KERN_FORM_Q4_1:
    case KERN_FORM_Q5_1:
        memcpy(head + 2 * lane, in, 2);
        memcpy(head + 32 + 2 * lane, in + 2, 2);
        break;
    case KERN_FORM_MXFP4:
        at[16 * b] = in[0];
        break;
    case KERN_FORM_Q4_K:
    case KERN_FORM_Q5_K:
        memcpy(head + 2 * lane, in, 2);
        memcpy(head + 32 + 2 * lane, in + 2, 2);
        kern_k4_scale(in + 4, b, &at[64 + 16 * b], &at[192 + 16 * b]);
        break;
    case KERN_FORM_Q6_K:
        memcpy(head + 2 * lane, in + 208, 2);
        at[64 + 32 * b] = in[192 + 2 * b];
        at[64 + 32 * b + 16] = in[192 + 2 * b + 1];
        break;
    case KERN_FORM_Q3_K:
        memcpy(head + 2 * lane, in + 108, 2);
        for (int half = 0; half < 2; half++)
            at[64 + 32 * b + 16 * half] = (uint8_t)kern_k3_scale(in + 96, 2 * b + half);
        break;
    case KERN_FORM_Q2_K:
        memcpy(head + 2 * lane, in + 80, 2);
        memcpy(head + 32 + 2 * lane, in + 82, 2);
        for (int half = 0; half < 2; half++) {
            at[64 + 32 * b + 16 * half] = in[2 * b + half] & 15;
            at[320 + 32 * b + 16 * half] = in[2 * b + half] >> 4;
        }
        break;
    case KERN_FORM_IQ4_XS:
        memcpy(head + 2 * lane, in, 2);
        at[64 + 16 * b] = (uint8_t)kern_iq4_xs_scale(in, b);
        break;
    default:
        memcpy(head + 32 * b + 2 * lane, in, 2);
        break;
    }
}

/* --- tiles ------------------------------------------------------------------------------------------- */

struct packing {
    struct kern_matrix *to;
    const struct kern_rows *from;
    const struct kern_quant *quant;
    int first; /* tile of task 0 */
};

static const uint8_t zeros[32]; /* the words of a row beyond the last */

static void pack_integers(const struct packing *p, const uint8_t *const rows[KERN_TILE], size_t count, uint8_t *tile)
{
    const struct kern_matrix *m = p->to;
    const struct kern_form_info *form = kern_form_info(m->form);
    int blocks = m->cols / KERN_BLOCK, per = (int)p->quant->block / KERN_BLOCK;
    const uint8_t *from[KERN_TILE];
    uint8_t own[KERN_TILE][32];

    for (size_t lane = count; lane < KERN_TILE; lane++)
        from[lane] = zeros;
    for (int block = 0; block < blocks; block++) {
        uint8_t *unit = tile + (size_t)block / form->unit * m->unit_bytes;
        int b = block % (int)form->unit, sub = block % per;
        uint8_t *to = unit + form->head + (size_t)b * form->block;
        size_t at = (size_t)(block / per) * p->quant->bytes;
        for (size_t lane = 0; lane < count; lane++) {
            from[lane] = words_of(own[lane], m->form, rows[lane] + at, sub);
            put_scales(unit, m->form, rows[lane] + at, b, lane);
        }
        turn(to, from, form->bits & ~3u);
        for (size_t w = form->bits & ~3u; w < form->bits; w++)
            for (size_t lane = 0; lane < KERN_TILE; lane++)
                memcpy(to + 4 * (KERN_TILE * w + lane), from[lane] + 4 * w, 4);
    }
}

static void pack_bf16(const struct packing *p, const uint8_t *const rows[KERN_TILE], size_t count, uint8_t *tile)
{
    const uint8_t *from[KERN_TILE];
    for (size_t lane = 0; lane < count; lane++)
        from[lane] = rows[lane];
    if (count == KERN_TILE) {
        turn(tile, from, (size_t)p->to->cols / 2);
        return;
    }
    for (size_t lane = count; lane < KERN_TILE; lane++)
        from[lane] = zeros;
    for (size_t col = 0; col < (size_t)p->to->cols; col += 8) { /* as many as `zeros` can stand for */
        turn(tile + 2 * KERN_TILE * col, from, 4);
        for (size_t lane = 0; lane < count; lane++)
            from[lane] += 16;
    }
}

static void pack_f16(const struct packing *p, const uint8_t *const rows[KERN_TILE], size_t count, uint8_t *tile)
{
    for (size_t lane = 0; lane < count; lane++)
        for (size_t col = 0; col < (size_t)p->to->cols; col++)
            memcpy(tile + 2 * (col * KERN_TILE + lane), rows[lane] + 2 * col, 2);
}

static void pack_f32(const struct packing *p, const uint8_t *const rows[KERN_TILE], size_t count, uint8_t *tile)
{
    const struct kern_quant *quant = p->quant;
    float values[256];
    for (size_t lane = 0; lane < count; lane++)
        for (size_t col = 0; col < (size_t)p->to->cols; col += 256) {
            size_t left = (size_t)p->to->cols - col, part = left < 256 ? left : 256;
            quant->decode(values, rows[lane] + col / quant->block * quant->bytes, part / quant->block);
            for (size_t i = 0; i < part; i++)
                memcpy(tile + 4 * ((col + i) * KERN_TILE + lane), &values[i], 4);
        }
}

static void pack_tile(void *ctx, int task)
{
    const struct packing *p = ctx;
    const struct kern_rows *from = p->from;
    const uint8_t *rows[KERN_TILE];
    int tile = p->first + task, first = tile * KERN_TILE, left = p->to->rows - first;
    size_t count = left < KERN_TILE ? (size_t)left : KERN_TILE;
    uint8_t *to = p->to->data + (size_t)tile * p->to->tile_bytes;

    for (size_t lane = 0; lane < count; lane++) {
        int row = first + (int)lane;
        rows[lane] = from->base + (size_t)(from->index ? from->index(row, from->head) : row) * from->stride;
    }
    if (kern_form_info(p->to->form)->integer)
        pack_integers(p, rows, count, to);
    else if (p->to->form == KERN_FORM_BF16)
        pack_bf16(p, rows, count, to);
    else if (p->to->form == KERN_FORM_F16)
        pack_f16(p, rows, count, to);
    else
        pack_f32(p, rows, count, to);
}

/* --- matrices ---------------------------------------------------------------------------------------- */

#define PACK_STEP ((size_t)16 << 20) /* bytes between two reports of how far packing is; the caches may hold them */

bool kern_matrix_pack(struct kern_matrix *out, const struct kern_rows *from, int rows, int cols, bool exact,
                      struct kern_pool *pool, struct kern_weights *memory, void (*done)(void *ctx, int rows), void *ctx)
{
    struct packing p = {out, from, kern_quant_find((uint32_t)from->type), 0};
    int tiles = (rows + KERN_TILE - 1) / KERN_TILE;

    kern_matrix_shape(out, from->type, rows, cols, exact);
    out->data = kern_weights_take(memory, kern_matrix_bytes(out));
    if (!out->data)
        return false;
    int step = out->tile_bytes < PACK_STEP ? (int)(PACK_STEP / out->tile_bytes) : 1;
    for (; p.first < tiles; p.first += step) {
        int left = tiles - p.first, now = left < step ? left : step, end = (p.first + now) * KERN_TILE;
        kern_weights_fault(memory, out->data + (size_t)(p.first + now) * out->tile_bytes, pool);
        kern_pool_run(pool, pack_tile, &p, now);
        if (done)
            done(ctx, end < rows ? end : rows);
    }
    return true;
}
