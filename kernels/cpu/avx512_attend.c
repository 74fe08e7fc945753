/* avx512_attend.c - attention over one chunk of keys and values. For scores a lane is a position of a tile, for
 * results a lane is an element of the head, so nothing is summed across lanes but the weights. Queries that share the
 * KV head share each load of it. */
#include "kernels/cpu/avx512_attend.h"

#include <math.h>

#define TILES (KERN_CHUNK / KERN_KV_TOKENS)

void kern_avx512_soften(const struct kern_attend *a, int r, float *score, int from, int to)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();

    for (int tile = from; tile <= to; tile++) {
        float *at = &score[tile * KERN_KV_TOKENS];
        __m512 s = _mm512_load_ps(at);
        __m512i position = _mm512_add_epi32(lane, _mm512_set1_epi32(a->position + tile * KERN_KV_TOKENS));
        __mmask16 seen = _mm512_cmpge_epi32_mask(position, _mm512_set1_epi32(a->first[r])) &
                         _mm512_cmple_epi32_mask(position, _mm512_set1_epi32(a->last[r]));
        if (a->softcap > 0)
            s = _mm512_mul_ps(_mm512_set1_ps(a->softcap), vector_tanh(_mm512_div_ps(s, _mm512_set1_ps(a->softcap))));
        s = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen, s);
        most = _mm512_max_ps(most, s);
        _mm512_store_ps(at, s);
    }
    float max = _mm512_reduce_max_ps(most);
    for (int tile = from; tile <= to; tile++) {
        float *at = &score[tile * KERN_KV_TOKENS];
        __m512 p = vector_exp(_mm512_sub_ps(_mm512_load_ps(at), _mm512_set1_ps(max)));
        sum = _mm512_add_ps(sum, p);
        _mm512_store_ps(at, p);
    }
    a->part[r]->max = max;
    a->part[r]->sum = _mm512_reduce_add_ps(sum);
}

/* `vectors` times 16 elements of every result. */
ALWAYS void mix_values(const struct attend_work *w, int d, int vectors, int queries, bool exact)
{
    const struct kern_attend *a = w->a;
    __m512 out[MIX_MAX][KERN_QUERIES_MAX];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            out[i][r] = _mm512_setzero_ps();
    for (int tile = w->from; tile <= w->to; tile++) {
        for (int t = 0; t < KERN_KV_TOKENS; t++) {
            __m512 v[MIX_MAX];
#pragma GCC unroll 4
            for (int i = 0; i < vectors; i++)
                v[i] = load_kv(a->values[tile], (size_t)(t * a->dim + d + 16 * i), exact);
#pragma GCC unroll 8
            for (int r = 0; r < queries; r++) {
                __m512 weight = _mm512_set1_ps(w->score[r][tile * KERN_KV_TOKENS + t]);
#pragma GCC unroll 4
                for (int i = 0; i < vectors; i++)
                    out[i][r] = _mm512_fmadd_ps(v[i], weight, out[i][r]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++)
#pragma GCC unroll 8
        for (int r = 0; r < queries; r++)
            _mm512_storeu_ps(a->part[r]->out + d + 16 * i, out[i][r]);
}

ALWAYS void attend(struct attend_work *w, int queries, bool exact)
{
    int d = 0, vectors = mix_vectors(queries);
    score(w, queries, exact);
    for (int r = 0; r < queries; r++)
        kern_avx512_soften(w->a, r, w->score[r], w->from, w->to);
    for (; d + 16 * vectors <= w->a->dim; d += 16 * vectors)
        mix_values(w, d, vectors, queries, exact);
    for (; d < w->a->dim; d += 16)
        mix_values(w, d, 1, queries, exact);
}

static void attend_n(struct attend_work *w, bool exact)
{
    switch (w->a->queries) {
    case 1:
        attend(w, 1, exact);
        break;
    case 2:
        attend(w, 2, exact);
        break;
    case 3:
        attend(w, 3, exact);
        break;
    case 4:
        attend(w, 4, exact);
        break;
    case 5:
        attend(w, 5, exact);
        break;
    case 6:
        attend(w, 6, exact);
        break;
    case 7:
        attend(w, 7, exact);
        break;
    default:
        attend(w, 8, exact);
        break;
    }
}

void kern_avx512_seen(const struct kern_attend *a, int *first, int *last)
{
    *first = TILES, *last = -1;
    for (int r = 0; r < a->queries; r++) {
        int from = a->first[r] > a->position ? (a->first[r] - a->position) / KERN_KV_TOKENS : 0;
        int to = (a->last[r] - a->position) / KERN_KV_TOKENS;
        *first = from < *first ? from : *first;
        *last = to > *last ? to : *last;
    }
    if (*last > TILES - 1)
        *last = TILES - 1;
}

void kern_avx512_attend(const struct kern_attend *a)
{
    struct attend_work w;
    w.a = a;
    kern_avx512_seen(a, &w.from, &w.to);
    if (a->exact)
        attend_n(&w, true);
    else
        attend_n(&w, false);
}
