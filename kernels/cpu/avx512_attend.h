/* avx512_attend.h - scores of queries and keys, in f32: what both attentions of AVX-512 do alike. Keys rounded further
 * than the cache rounds them would move scores by hundredths, and weights by as much. */
#ifndef KERNELS_CPU_AVX512_ATTEND_H
#define KERNELS_CPU_AVX512_ATTEND_H

#include "kernels/cpu/avx512.h"

ALWAYS __m512 load_kv(const void *tile, size_t index, bool exact)
{
    return exact ? _mm512_load_ps((const float *)tile + index)
                 : _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)((const uint16_t *)tile + index)));
}

struct attend_work {
    _Alignas(64) float score[KERN_QUERIES_MAX][KERN_CHUNK]; /* then weights */
    const struct kern_attend *a;
    int from, to; /* tiles of the chunk that some query sees */
};

/* Tiles of keys and values lie all over memory, which no processor foresees. */
ALWAYS void fetch_line(const uint8_t *const at[2], size_t offset)
{
    _mm_prefetch((const char *)at[0] + offset, _MM_HINT_T1);
    _mm_prefetch((const char *)at[1] + offset, _MM_HINT_T1);
}

/* `tiles` tiles from `tile` on. Meanwhile the keys of as many that follow are fetched, and these tiles' values. */
ALWAYS void score_tiles(struct attend_work *w, int tile, int tiles, int queries, bool exact)
{
    const struct kern_attend *a = w->a;
    size_t step = exact ? 64 : 32; /* bytes of 16 positions */
    __m512 s[2][KERN_QUERIES_MAX];
    const uint8_t *ahead[2][2];
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++) {
        int later = tile + tiles + t <= w->to ? tile + tiles + t : tile + t;
        ahead[t][0] = a->keys[later];
        ahead[t][1] = a->values[tile + t];
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            s[t][r] = _mm512_setzero_ps();
    }
    for (int d = 0; d < a->dim; d++) {
        __m512 k[2];
#pragma GCC unroll 2
        for (int t = 0; t < tiles; t++) {
            k[t] = load_kv(a->keys[tile + t], (size_t)d * KERN_KV_TOKENS, exact);
            if (exact || d % 2 == 0)
                fetch_line(ahead[t], (size_t)d * step);
        }
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++) {
            __m512 q = _mm512_set1_ps(a->query[r][d]);
#pragma GCC unroll 2
            for (int t = 0; t < tiles; t++)
                s[t][r] = _mm512_fmadd_ps(k[t], q, s[t][r]);
        }
    }
#pragma GCC unroll 2
    for (int t = 0; t < tiles; t++)
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            _mm512_store_ps(&w->score[r][(tile + t) * KERN_KV_TOKENS], s[t][r]);
}

/* Two tiles at once where queries are few: their sums would leave the multipliers idle, each waiting for its last. */
ALWAYS void score(struct attend_work *w, int queries, bool exact)
{
    int tile = w->from;
    for (; queries <= 3 && tile < w->to; tile += 2)
        score_tiles(w, tile, 2, queries, exact);
    for (; tile <= w->to; tile++)
        score_tiles(w, tile, 1, queries, exact);
}

/* Elements of a result that are summed at once, in vectors: whole lines of the cache, as long as there are registers.
 */
#define MIX_MAX 4
ALWAYS int mix_vectors(int queries)
{
    return queries <= 4 ? 4 : 2;
}

#endif
