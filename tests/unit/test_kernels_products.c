/* Does every stored type keep its exact values in the kernels' layout, does every fast product agree with its slow
 * twin over many shapes, and does a row give the same bits alone and in company? */
#include <check.h>
#include <stdio.h>

#include "unit/kernels_common.h"
#include "unit/run.h"

static const enum kern_type types[] = {KERN_F32,  KERN_F16,    KERN_BF16,  KERN_Q4_0,  KERN_Q4_1, KERN_Q5_0,
                                       KERN_Q5_1, KERN_Q8_0,   KERN_Q2_K,  KERN_Q3_K,  KERN_Q4_K, KERN_Q5_K,
                                       KERN_Q6_K, KERN_IQ4_NL, KERN_MXFP4, KERN_IQ4_XS};
#define TYPES (sizeof types / sizeof *types)
#define ROWS_MAX 69

/* Where a block keeps its f16 scales: these must be sane numbers; everything else may be any byte. */
static void sane_scales(uint8_t *block, enum kern_type type, uint32_t *state)
{
    static const int at[][3] = {
        [KERN_Q4_0] = {0, -1}, [KERN_Q4_1] = {0, 2},    [KERN_Q5_0] = {0, -1},   [KERN_Q5_1] = {0, 2},
        [KERN_Q8_0] = {0, -1}, [KERN_Q2_K] = {80, 82},  [KERN_Q3_K] = {108, -1}, [KERN_Q4_K] = {0, 2},
        [KERN_Q5_K] = {0, 2},  [KERN_Q6_K] = {208, -1}, [KERN_IQ4_NL] = {0, -1}, [KERN_IQ4_XS] = {0, -1}};
    if (type == KERN_MXFP4) {
        block[0] = (uint8_t)(120 + noise_bits(state) % 12);
        return;
    }
    for (int i = 0; i < 2 && at[type][i] >= 0; i++) {
        uint16_t half = kern_f32_to_f16(noise(state) * 0.02f);
        memcpy(block + at[type][i], &half, 2);
        if (at[type][1] <= 0)
            break;
    }
}

static uint8_t *stored_matrix(enum kern_type type, int rows, int cols, size_t *stride)
{
    const struct kern_quant *quant = kern_quant_find((uint32_t)type);
    size_t blocks = (size_t)cols / quant->block;
    uint32_t state = (uint32_t)(rows * 7 + cols * 31) + (uint32_t)type;
    *stride = blocks * quant->bytes;
    uint8_t *out = malloc((size_t)rows * *stride);
    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < (size_t)rows * *stride; i++)
        out[i] = (uint8_t)noise_bits(&state);
    for (size_t b = 0; b < (size_t)rows * blocks; b++) {
        uint8_t *block = out + b * quant->bytes;
        float value = noise(&state);
        uint16_t half = type == KERN_F16 ? kern_f32_to_f16(value) : kern_f32_to_bf16(value);
        if (type == KERN_F32)
            memcpy(block, &value, 4);
        else if (quant->block == 1)
            memcpy(block, &half, 2);
        else
            sane_scales(block, type, &state);
    }
    return out;
}

static int shape_of(enum kern_type type, int want) /* columns: a multiple of the block */
{
    int block = (int)kern_quant_find((uint32_t)type)->block;
    return block == 1 ? want : (want + block - 1) / block * block;
}

START_TEST(layout_keeps_every_value)
{
    struct kern_pool *pool = kern_pool_open(2);
    for (size_t i = 0; i < TYPES; i++)
        for (int rows = 1; rows <= 33; rows += 16)
            for (int exact = 0; exact < 2; exact++) {
                int cols = shape_of(types[i], 96);
                size_t stride;
                uint8_t *stored = stored_matrix(types[i], rows, cols, &stride);
                struct kern_rows from = {.type = types[i], .base = stored, .stride = stride};
                const struct kern_quant *quant = kern_quant_find((uint32_t)types[i]);
                struct kern_matrix m;
                struct kern_weights memory = {.chunk = NULL};
                float want[512], got[512];
                ck_assert(kern_matrix_pack(&m, &from, rows, cols, exact, pool, &memory, NULL, NULL));
                for (int row = 0; row < rows; row++) {
                    quant->decode(want, stored + (size_t)row * stride, (size_t)cols / quant->block);
                    kern_matrix_row(&m, row, got);
                    ck_assert_msg(memcmp(want, got, (size_t)cols * sizeof *got) == 0, "%s row %d", quant->name, row);
                }
                kern_weights_release(&memory);
                free(stored);
            }
    kern_pool_close(pool);
}
END_TEST

static float worst;

/* The sum of magnitudes of a row: what the error of a sum of its products (activations up to 1) is measured against. */
static float magnitude(const struct kern_matrix *m, int row)
{
    float values[1024], sum = 1;
    kern_matrix_row(m, row, values);
    for (int i = 0; i < m->cols; i++)
        sum += fabsf(values[i]);
    return sum;
}

static void compare(const struct kern_ops *ops, const struct kern_matrix *m, const struct kern_acts *a, int count,
                    bool add, const char *name)
{
    int tiles = (m->rows + KERN_TILE - 1) / KERN_TILE, wide = tiles * KERN_TILE;
    float *want = calloc((size_t)(ROWS_MAX * wide), sizeof *want),
          *got = calloc((size_t)(ROWS_MAX * wide), sizeof *got);
    float *alone = calloc((size_t)(ROWS_MAX * wide), sizeof *alone), *bias = calloc((size_t)wide, sizeof *bias);
    float *scale = calloc((size_t)wide, sizeof *scale);
    struct kern_piece all = {0, tiles, 0, count};
    fill_noise(bias, (size_t)m->rows, 5);
    for (int i = 0; i < m->rows; i++)
        scale[i] = magnitude(m, i);
    for (int i = 0; i < ROWS_MAX * wide; i++)
        want[i] = got[i] = 0.25f;
    kern_ops_ref.product(&(struct kern_product){m, bias, want, (size_t)wide, add}, a, &all);
    ops->product(&(struct kern_product){m, bias, got, (size_t)wide, add}, a, &all);
    for (int r = 0; r < count; r++) {
        for (int i = 0; i < wide; i++)
            alone[r * wide + i] = 0.25f;
        for (int t = 0; t < tiles; t++)
            ops->product(&(struct kern_product){m, bias, alone, (size_t)wide, add}, a,
                         &(struct kern_piece){t, 1, r, 1});
        ck_assert_msg(memcmp(alone + r * wide, got + r * wide, (size_t)wide * sizeof *got) == 0, "%s %s row %d of %d",
                      ops->name, name, r, count);
        for (int i = m->rows; i < wide; i++) /* lanes beyond the last row are never written */
            ck_assert(got[r * wide + i] == 0.25f);
        for (int i = 0; i < m->rows; i++) {
            float off = fabsf(want[r * wide + i] - got[r * wide + i]) / scale[i];
            worst = fmaxf(worst, off);
            ck_assert_msg(off < 1e-6f, "%s %s %dx%d row %d: %g, not %g", ops->name, name, m->rows, m->cols, r,
                          (double)got[r * wide + i], (double)want[r * wide + i]);
        }
    }
    free(want);
    free(got);
    free(alone);
    free(bias);
    free(scale);
}

/* Row `r` of noise, in every form that products read; a table that rounds to bf16 is held against a twin that is given
 * the rounded values. */
static void fill_acts(const struct kern_ops *ops, struct kern_acts *a, int r, bool brain)
{
    float *x = a->x + (size_t)r * (size_t)a->stride;
    fill_noise(x, (size_t)a->cols, (uint32_t)r + 1);
    kern_ops_ref.quantize(a, r);
    if (!ops->round)
        return;
    ops->round(a, r);
    for (int i = 0; i < a->stride; i++) {
        uint16_t rounded = a->brain[(size_t)r * (size_t)a->stride + (size_t)i];
        ck_assert_uint_eq(rounded, kern_f32_to_bf16(x[i]));
        if (brain)
            x[i] = kern_bf16_to_f32(rounded);
    }
}

static void sweep(const struct kern_ops *ops)
{
    static const int shapes[][2] = {{1, 32}, {15, 64}, {16, 96}, {17, 256}, {33, 544}, {48, 768}};
    static const int counts[] = {1, 2, 3, 5, 8, 13, 21, 28, 37, 64, 69}; /* panels from 64 on */
    struct kern_pool *pool = kern_pool_open(1);
    worst = 0;
    for (size_t t = 0; t < TYPES; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            int rows = shapes[s][0], cols = shape_of(types[t], shapes[s][1]);
            size_t stride;
            uint8_t *stored = stored_matrix(types[t], rows, cols, &stride);
            struct kern_rows from = {.type = types[t], .base = stored, .stride = stride};
            struct kern_matrix m;
            struct kern_weights memory = {.chunk = NULL};
            struct kern_acts a;
            ck_assert(kern_matrix_pack(&m, &from, rows, cols, false, pool, &memory, NULL, NULL) &&
                      kern_acts_init(&a, ROWS_MAX, cols));
            for (int r = 0; r < ROWS_MAX; r++)
                fill_acts(ops, &a, r, types[t] == KERN_BF16);
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                compare(ops, &m, &a, counts[c], c % 2, kern_quant_find((uint32_t)types[t])->name);
            kern_acts_release(&a);
            kern_weights_release(&memory);
            free(stored);
        }
    kern_pool_close(pool);
    printf("products %s: worst error %.1e\n", ops->name, (double)worst);
}

START_TEST(fast_products_equal_their_slow_twins)
{
    each_fast(sweep);
}
END_TEST

#if defined(__x86_64__)
extern const struct kern_ops emulated_amx; /* amx_emulated.c */

START_TEST(tile_products_equal_their_slow_twins)
{
    if (!kern_ops_find("avx512bf16")) {
        printf("SKIP products amx, emulated: the processor has no AVX512-BF16\n");
        return;
    }
    sweep(&emulated_amx);
}
END_TEST

/* The sums within a scale are whole numbers: which AVX-512 table makes them must not show. */
START_TEST(integer_products_are_the_same_on_every_avx512_table)
{
    enum { OUT = 40, COLS = 768, ROWS = 85 };
    const struct kern_ops *tables[] = {kern_ops_find("avx512"), kern_ops_find("avx512bf16"), &emulated_amx};
    struct kern_pool *pool = kern_pool_open(1);
    for (size_t t = 0; tables[1] && t < TYPES; t++) {
        size_t stride;
        uint8_t *stored = stored_matrix(types[t], OUT, COLS, &stride);
        struct kern_rows from = {.type = types[t], .base = stored, .stride = stride};
        struct kern_matrix m;
        struct kern_weights memory = {.chunk = NULL};
        struct kern_acts a;
        static float y[3][ROWS * OUT];
        ck_assert(kern_matrix_pack(&m, &from, OUT, COLS, false, pool, &memory, NULL, NULL) &&
                  kern_acts_init(&a, ROWS, COLS));
        for (int r = 0; r < ROWS; r++)
            fill_acts(tables[0], &a, r, false);
        for (int i = 0; i < 3 && kern_form_info(m.form)->integer; i++) {
            tables[i]->product(&(struct kern_product){&m, NULL, y[i], OUT, false}, &a,
                               &(struct kern_piece){0, (OUT + KERN_TILE - 1) / KERN_TILE, 0, ROWS});
            ck_assert_msg(memcmp(y[i], y[0], sizeof y[0]) == 0, "%s differs on %s", kern_form_info(m.form)->name,
                          tables[i]->name);
        }
        kern_acts_release(&a);
        kern_weights_release(&memory);
        free(stored);
    }
    kern_pool_close(pool);
}
END_TEST
#endif

START_TEST(split_products_equal_whole_ones)
{
    enum { ROWS = 150, OUT = 100, COLS = 64 };
    const struct kern_ops *ops = kern_ops_find(NULL);
    size_t stride;
    uint8_t *stored = stored_matrix(KERN_Q8_0, OUT, COLS, &stride);
    struct kern_rows from = {.type = KERN_Q8_0, .base = stored, .stride = stride};
    struct kern_matrix m;
    struct kern_weights memory = {.chunk = NULL};
    struct kern_acts a;
    struct kern_pool *pools[] = {kern_pool_open(1), kern_pool_open(4)};
    float *y[2];
    ck_assert(kern_matrix_pack(&m, &from, OUT, COLS, !ops->integer, pools[1], &memory, NULL, NULL) &&
              kern_acts_init(&a, ROWS, COLS));
    for (int r = 0; r < ROWS; r++)
        fill_noise(a.x + (size_t)r * (size_t)a.stride, COLS, (uint32_t)r);
    for (int p = 0; p < 2; p++) {
        y[p] = calloc(ROWS * 2 * OUT, sizeof *y[p]);
        struct kern_product both[] = {{&m, NULL, y[p], 2 * OUT, false}, {&m, NULL, y[p] + OUT, 2 * OUT, false}};
        kern_products(pools[p], ops, both, 2, &a, ROWS, NULL);
        kern_pool_close(pools[p]);
    }
    ck_assert(memcmp(y[0], y[1], ROWS * 2 * OUT * sizeof **y) == 0);
    for (int r = 0; r < ROWS; r++)
        ck_assert(memcmp(y[0] + r * 2 * OUT, y[0] + r * 2 * OUT + OUT, OUT * sizeof **y) == 0);
    free(y[0]);
    free(y[1]);
    kern_acts_release(&a);
    kern_weights_release(&memory);
    free(stored);
}
END_TEST

START_TEST(halves_round_as_the_standard_says)
{
    for (uint32_t h = 0; h < 65536; h++) { /* every half that is a number comes back */
        float value = kern_f16_to_f32((uint16_t)h);
        if ((h & 0x7c00) != 0x7c00 || (h & 0x3ff) == 0)
            ck_assert_uint_eq(kern_f32_to_f16(value), h);
        else
            ck_assert(isnan(value) && isnan(kern_f16_to_f32(kern_f32_to_f16(value))));
    }
    ck_assert_uint_eq(kern_f32_to_f16(65519.0f), 0x7bff);
    ck_assert_uint_eq(kern_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(kern_f32_to_f16(0x1p-25f), 0); /* a tie goes to even */
    ck_assert_uint_eq(kern_f32_to_f16(0x1.8p-25f), 1);
    ck_assert_uint_eq(kern_f32_to_bf16(1.00390625f), 0x3f80); /* tie */
    ck_assert_uint_eq(kern_f32_to_bf16(1.01171875f), 0x3f82);
}
END_TEST

/* Sums over two blocks whose bytes follow a formula, as the "gguf" package's own decoders (0.19) give them: all values,
 * and all values times a changing weight. */
static const struct {
    enum kern_type type;
    double sum, weighted;
} known[] = {
    {KERN_Q4_0, -1.08227539, 11.2901001}, {KERN_Q4_1, 8.53842163, -12.1338806},  {KERN_Q5_0, -1.06997681, 33.968689},
    {KERN_Q5_1, 14.0235901, -3.61096191}, {KERN_Q8_0, -6.19848633, -200.122559}, {KERN_Q2_K, -131.895111, -34.771698},
    {KERN_Q3_K, 20.1204834, 71.1719055},  {KERN_Q4_K, 439.204102, -816.799774},  {KERN_Q5_K, 1779.95654, 1671.33844},
    {KERN_Q6_K, 177.935913, 549.685211},  {KERN_IQ4_NL, -13.98349, 146.95578},   {KERN_IQ4_XS, 271.478943, -2486.95816},
    {KERN_MXFP4, 19.25, 217.5},
};

START_TEST(blocks_decode_as_elsewhere)
{
    static const int scales[][3] = {[KERN_Q2_K] = {80, 82}, [KERN_Q3_K] = {108, -1}, [KERN_Q6_K] = {208, -1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct kern_quant *quant = kern_quant_find((uint32_t)known[i].type);
        bool second = known[i].type == KERN_Q4_1 || known[i].type == KERN_Q5_1 || known[i].type == KERN_Q4_K ||
                      known[i].type == KERN_Q5_K || known[i].type == KERN_Q2_K;
        bool moved = known[i].type == KERN_Q2_K || known[i].type == KERN_Q3_K || known[i].type == KERN_Q6_K;
        int at = moved ? scales[known[i].type][0] : 0;
        uint8_t bytes[2 * 256];
        float values[2 * 256];
        double sum = 0, weighted = 0;
        for (uint32_t b = 0; b < 2 * quant->bytes; b++)
            bytes[b] = (uint8_t)((b * 73 + 41) * (b + 7) >> 3);
        for (uint32_t block = 0; block < 2; block++) {
            uint16_t first = kern_f32_to_f16(0.0123f), other = kern_f32_to_f16(0.0456f);
            uint8_t *start = bytes + block * quant->bytes;
            if (known[i].type == KERN_MXFP4)
                start[0] = 126;
            else
                memcpy(start + at, &first, 2);
            if (second)
                memcpy(start + at + 2, &other, 2);
        }
        quant->decode(values, bytes, 2);
        for (int v = 0; v < 2 * (int)quant->block; v++) {
            sum += (double)values[v];
            weighted += (double)values[v] * (v * 37 % 101 - 50);
        }
        ck_assert_msg(fabs(sum - known[i].sum) < 1e-4 * (1 + fabs(known[i].sum)), "%s: %.9g", quant->name, sum);
        ck_assert_msg(fabs(weighted - known[i].weighted) < 1e-4 * (1 + fabs(known[i].weighted)), "%s: %.9g",
                      quant->name, weighted);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, blocks_decode_as_elsewhere);
    tcase_add_test(tests, layout_keeps_every_value);
    tcase_add_test(tests, fast_products_equal_their_slow_twins);
#if defined(__x86_64__)
    tcase_add_test(tests, tile_products_equal_their_slow_twins);
    tcase_add_test(tests, integer_products_are_the_same_on_every_avx512_table);
#endif
    tcase_add_test(tests, split_products_equal_whole_ones);
    tcase_add_test(tests, halves_round_as_the_standard_says);
}

RUN("kernels_products", add_tests)
