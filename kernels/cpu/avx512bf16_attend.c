/* avx512bf16_attend.c - attention over one chunk, results by dot products of bf16 pairs where the caller lets factors
 * be rounded: weights and values to bf16 as they are multiplied, sums in f32; scores and the softmax as everywhere.
 * What is kept stays in f16. A pair is two positions; the order is the same whatever queries go together, and a
 * position that a query does not see adds zero. */
#include "kernels/cpu/avx512_attend.h"

struct work {
    struct attend_work scores;
    _Alignas(64) uint16_t weight[KERN_QUERIES_MAX][KERN_CHUNK];
};

static void round_row(uint16_t *to, const float *from, int n)
{
    for (int i = 0; i < n; i += 16)
        _mm256_store_si256((__m256i *)(void *)(to + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i)));
}

/* Elements of two rows of 16, rounded, next to each other. */
ALWAYS __m512bh load_pairs(const uint16_t *row, const uint16_t *next)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512 first = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)row));
    __m512 second = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)next));
    return (__m512bh)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

ALWAYS __m512bh broadcast_pair(const uint16_t *at)
{
    int32_t pair;
    memcpy(&pair, at, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* `vectors` times 16 elements of every result. */
ALWAYS void mix_values(const struct work *w, int d, int vectors, int queries)
{
    const struct attend_work *of = &w->scores;
    int dim = of->a->dim;
    __m512 out[MIX_MAX][KERN_QUERIES_MAX];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            out[i][r] = _mm512_setzero_ps();
    for (int tile = of->from; tile <= of->to; tile++) {
        const uint16_t *values = (const uint16_t *)of->a->values[tile] + d;
        for (int t = 0; t < KERN_KV_TOKENS; t += 2) {
            __m512bh v[MIX_MAX];
#pragma GCC unroll 4
            for (int i = 0; i < vectors; i++)
                v[i] = load_pairs(values + t * dim + 16 * i, values + (t + 1) * dim + 16 * i);
#pragma GCC unroll 8
            for (int r = 0; r < queries; r++) {
                __m512bh weights = broadcast_pair(&w->weight[r][tile * KERN_KV_TOKENS + t]);
#pragma GCC unroll 4
                for (int i = 0; i < vectors; i++)
                    out[i][r] = _mm512_dpbf16_ps(out[i][r], v[i], weights);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            _mm512_storeu_ps(of->a->part[r]->out + d + 16 * i, out[i][r]);
}

ALWAYS void attend(struct work *w, int queries)
{
    struct attend_work *of = &w->scores;
    int start = of->from * KERN_KV_TOKENS, count = (of->to + 1) * KERN_KV_TOKENS - start;
    int d = 0, vectors = mix_vectors(queries);
    score(of, queries, false);
    for (int r = 0; r < queries; r++) {
        kern_avx512_soften(of->a, r, of->score[r], of->from, of->to);
        round_row(&w->weight[r][start], &of->score[r][start], count);
    }
    for (; d + 16 * vectors <= of->a->dim; d += 16 * vectors)
        mix_values(w, d, vectors, queries);
    for (; d < of->a->dim; d += 16)
        mix_values(w, d, 1, queries);
}

void kern_avx512bf16_attend(const struct kern_attend *a)
{
    struct work w;
    if (a->exact || !a->rounded) {
        kern_avx512_attend(a);
        return;
    }
    w.scores.a = a;
    kern_avx512_seen(a, &w.scores.from, &w.scores.to);
    switch (a->queries) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        attend(&w, n);                                                                                                 \
        break
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
        CASE(7);
        CASE(8);
#undef CASE
    }
}
