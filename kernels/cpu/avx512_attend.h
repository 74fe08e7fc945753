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

ALWAYS void score_tile(struct attend_work *w, int tile, int queries, bool exact)
{
    const struct kern_attend *a = w->a;
    __m512 s[KERN_QUERIES_MAX];
#pragma GCC unroll 8
    for (int r = 0; r < queries; r++)
        s[r] = _mm512_setzero_ps();
    for (int d = 0; d < a->dim; d++) {
        __m512 k = load_kv(a->keys[tile], (size_t)d * KERN_KV_TOKENS, exact);
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            s[r] = _mm512_fmadd_ps(k, _mm512_set1_ps(a->query[r][d]), s[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < queries; r++)
        _mm512_store_ps(&w->score[r][tile * KERN_KV_TOKENS], s[r]);
}

#endif
