/* avx2_attend.c - attention over one chunk, as avx512_attend.c, in vectors of eight. */
#include "kernels/cpu/avx2.h"

#include <math.h>

#define ALWAYS static inline __attribute__((always_inline))
#define TILES (KERN_CHUNK / KERN_KV_TOKENS)
#define QUERIES_A_PASS 4

ALWAYS __m256 load_kv(const void *tile, size_t index, bool exact)
{
    return exact ? _mm256_load_ps((const float *)tile + index)
                 : _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)((const uint16_t *)tile + index)));
}

struct work {
    _Alignas(64) float score[KERN_QUERIES_MAX][KERN_CHUNK]; /* then weights */
    const struct kern_attend *a;
    int from, to; /* tiles of the chunk that some query sees */
};

/* Eight positions of a tile, `queries` queries from `r0`. */
ALWAYS void score_half(struct work *w, int tile, int half, int r0, int queries, bool exact)
{
    const struct kern_attend *a = w->a;
    __m256 s[QUERIES_A_PASS];
#pragma GCC unroll 4
    for (int r = 0; r < queries; r++)
        s[r] = _mm256_setzero_ps();
    for (int d = 0; d < a->dim; d++) {
        __m256 k = load_kv(a->keys[tile], (size_t)(d * KERN_KV_TOKENS + 8 * half), exact);
#pragma GCC unroll 4
        for (int r = 0; r < queries; r++)
            s[r] = _mm256_fmadd_ps(k, _mm256_set1_ps(a->query[r0 + r][d]), s[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < queries; r++)
        _mm256_store_ps(&w->score[r0 + r][tile * KERN_KV_TOKENS + 8 * half], s[r]);
}

static void soften(struct work *w, int r)
{
    const struct kern_attend *a = w->a;
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 most = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps(), hidden = most;

    for (int i = w->from * KERN_KV_TOKENS; i < (w->to + 1) * KERN_KV_TOKENS; i += 8) {
        __m256 s = _mm256_load_ps(&w->score[r][i]);
        __m256i position = _mm256_add_epi32(lane, _mm256_set1_epi32(a->position + i));
        __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(a->first[r]), position),
                                      _mm256_cmpgt_epi32(position, _mm256_set1_epi32(a->last[r])));
        if (a->softcap > 0)
            s = _mm256_mul_ps(_mm256_set1_ps(a->softcap), vector_tanh(_mm256_div_ps(s, _mm256_set1_ps(a->softcap))));
        s = _mm256_blendv_ps(s, hidden, _mm256_castsi256_ps(out));
        most = _mm256_max_ps(most, s);
        _mm256_store_ps(&w->score[r][i], s);
    }
    float max = kern_avx2_max(most);
    for (int i = w->from * KERN_KV_TOKENS; i < (w->to + 1) * KERN_KV_TOKENS; i += 8) {
        __m256 p = vector_exp(_mm256_sub_ps(_mm256_load_ps(&w->score[r][i]), _mm256_set1_ps(max)));
        sum = _mm256_add_ps(sum, p);
        _mm256_store_ps(&w->score[r][i], p);
    }
    a->part[r]->max = max;
    a->part[r]->sum = kern_avx2_sum(sum);
}

ALWAYS void mix_values(const struct work *w, int d, int r0, int queries, bool exact)
{
    const struct kern_attend *a = w->a;
    __m256 out[QUERIES_A_PASS];
#pragma GCC unroll 4
    for (int r = 0; r < queries; r++)
        out[r] = _mm256_setzero_ps();
    for (int tile = w->from; tile <= w->to; tile++)
        for (int t = 0; t < KERN_KV_TOKENS; t++) {
            __m256 v = load_kv(a->values[tile], (size_t)(t * a->dim + d), exact);
#pragma GCC unroll 4
            for (int r = 0; r < queries; r++)
                out[r] = _mm256_fmadd_ps(v, _mm256_set1_ps(w->score[r0 + r][tile * KERN_KV_TOKENS + t]), out[r]);
        }
#pragma GCC unroll 4
    for (int r = 0; r < queries; r++)
        _mm256_storeu_ps(a->part[r0 + r]->out + d, out[r]);
}

ALWAYS void scores(struct work *w, int r0, int queries, bool exact)
{
    for (int tile = w->from; tile <= w->to; tile++) {
        score_half(w, tile, 0, r0, queries, exact);
        score_half(w, tile, 1, r0, queries, exact);
    }
}

ALWAYS void mixes(struct work *w, int r0, int queries, bool exact)
{
    for (int d = 0; d < w->a->dim; d += 8)
        mix_values(w, d, r0, queries, exact);
}

ALWAYS void attend(struct work *w, bool exact)
{
    int queries = w->a->queries, r = 0;
    for (; queries - r >= 4; r += 4)
        scores(w, r, 4, exact);
    for (; r < queries; r++)
        scores(w, r, 1, exact);
    for (r = 0; r < queries; r++)
        soften(w, r);
    for (r = 0; queries - r >= 4; r += 4)
        mixes(w, r, 4, exact);
    for (; r < queries; r++)
        mixes(w, r, 1, exact);
}

void kern_avx2_attend(const struct kern_attend *a)
{
    struct work w;
    w.a = a;
    w.from = TILES, w.to = -1;
    for (int r = 0; r < a->queries; r++) {
        int from = a->first[r] > a->position ? (a->first[r] - a->position) / KERN_KV_TOKENS : 0;
        int to = (a->last[r] - a->position) / KERN_KV_TOKENS;
        w.from = from < w.from ? from : w.from;
        w.to = to > w.to ? to : w.to;
    }
    if (w.to > TILES - 1)
        w.to = TILES - 1;
    if (a->exact)
        attend(&w, true);
    else
        attend(&w, false);
}
