/* avx512_unpack.c - see avx512_unpack.h. */
#include "kernels/cpu/avx512_unpack.h"

ALWAYS void unpack_block(enum kern_form form, const uint8_t *unit, int b, __m512i table, struct unpacked *u, int to)
{
    const struct kern_form_info *info = kern_form_info(form);
    const uint8_t *block = unit + info->head + (size_t)b * info->block;
    struct unit of = load_unit(form, unit);
    __m512 scale, min;

    for (int g = 0; g < 8; g++)
        _mm512_store_si512(u->q[to] + 64 * g, load_group(form, block, g, table));
    if (!is_halved(form)) {
        load_scale(form, unit, of, b, &scale, &min);
        _mm512_store_ps(u->scale[to], scale);
        _mm512_store_ps(u->min[to], min);
        return;
    }
    for (int half = 0; half < 2; half++) {
        load_half_scale(form, unit, of, 32 * b + 16 * half, &scale, &min);
        _mm512_store_ps(u->scale[2 * to + half], scale);
        _mm512_store_ps(u->min[2 * to + half], min);
    }
}

/* Blocks `first` .. `first + count - 1` of the tile at `data`. */
#define UNPACK(name, form, unit_blocks)                                                                                \
    static void name(const struct kern_matrix *w, const uint8_t *data, int first, int count, struct unpacked *u)       \
    {                                                                                                                  \
        __m512i table = load_table(form);                                                                              \
        for (int i = 0; i < count; i++)                                                                                \
            unpack_block(form, data + (size_t)((first + i) / (unit_blocks)) * w->unit_bytes,                           \
                         (first + i) % (unit_blocks), table, u, i);                                                    \
    }

UNPACK(unpack_q4_0, KERN_FORM_Q4_0, 2)
UNPACK(unpack_q4_1, KERN_FORM_Q4_1, 1)
UNPACK(unpack_q5_0, KERN_FORM_Q5_0, 2)
UNPACK(unpack_q5_1, KERN_FORM_Q5_1, 1)
UNPACK(unpack_q8_0, KERN_FORM_Q8_0, 2)
UNPACK(unpack_iq4_nl, KERN_FORM_IQ4_NL, 2)
UNPACK(unpack_mxfp4, KERN_FORM_MXFP4, 4)
UNPACK(unpack_q4_k, KERN_FORM_Q4_K, 8)
UNPACK(unpack_q5_k, KERN_FORM_Q5_K, 8)
UNPACK(unpack_q6_k, KERN_FORM_Q6_K, 8)
UNPACK(unpack_q3_k, KERN_FORM_Q3_K, 8)
UNPACK(unpack_q2_k, KERN_FORM_Q2_K, 8)
UNPACK(unpack_iq4_xs, KERN_FORM_IQ4_XS, 8)

void kern_avx512_unpack(const struct kern_matrix *w, const uint8_t *data, int first, int count, struct unpacked *u)
{
    static void (*const unpacks[KERN_FORMS])(const struct kern_matrix *, const uint8_t *, int, int,
                                             struct unpacked *) = {
        [KERN_FORM_Q4_0] = unpack_q4_0,     [KERN_FORM_Q4_1] = unpack_q4_1, [KERN_FORM_Q5_0] = unpack_q5_0,
        [KERN_FORM_Q5_1] = unpack_q5_1,     [KERN_FORM_Q8_0] = unpack_q8_0, [KERN_FORM_IQ4_NL] = unpack_iq4_nl,
        [KERN_FORM_MXFP4] = unpack_mxfp4,   [KERN_FORM_Q4_K] = unpack_q4_k, [KERN_FORM_Q5_K] = unpack_q5_k,
        [KERN_FORM_Q6_K] = unpack_q6_k,     [KERN_FORM_Q3_K] = unpack_q3_k, [KERN_FORM_Q2_K] = unpack_q2_k,
        [KERN_FORM_IQ4_XS] = unpack_iq4_xs,
    };
    unpacks[w->form](w, data, first, count, u);
}
