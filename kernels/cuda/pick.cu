/* pick.cu - logits to a token, on the device: the rules, the order and the random numbers of engine/sample.h, so that a
 * seed gives the same draw on either (but for near ties: exponentials and sums round differently). A block a row. */
#include "kernels/cuda/ops.h"

#include <math.h>

enum { PICK_THREADS = 512, HEAVY_MAX = 2048, NUCLEUS_FIRST = 64 };
#define GREEDY_BELOW 1e-5f

struct row { /* one row of the work that a block does */
    struct kern_device_pick p;
    const float *logits; /* [vocab]: stay as they are */
    float *work;         /* [vocab]: limited and penalized logits, then weights */
    int vocab;
};

/* --- over the block: every thread gets the result ---------------------------------------------------------------- */

static __device__ double sum_of(double x)
{
    static __shared__ double part[PICK_THREADS];
    part[threadIdx.x] = x;
    __syncthreads();
    for (int half = PICK_THREADS / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    x = part[0];
    __syncthreads();
    return x;
}

static __device__ int count_of(int x)
{
    return (int)sum_of((double)x);
}

/* Descending, the lower id first among equals. */
static __device__ bool goes_before(float a, int a_id, float b, int b_id)
{
    return b_id < 0 || a > b || (a == b && a_id < b_id);
}

/* The first in that order that comes after (`value`, `id`); -1: none, or only minus infinities and NaNs. */
static __device__ int next_after(const float *x, int n, float value, int id)
{
    static __shared__ float best[PICK_THREADS];
    static __shared__ int best_id[PICK_THREADS];
    int tid = (int)threadIdx.x, mine = -1;
    for (int i = tid; i < n; i += PICK_THREADS)
        if (x[i] > -INFINITY && (x[i] < value || (x[i] == value && i > id)) && (mine < 0 || x[i] > x[mine]))
            mine = i;
    best[tid] = mine < 0 ? 0.0f : x[mine];
    best_id[tid] = mine;
    __syncthreads();
    for (int half = PICK_THREADS / 2; half > 0; half /= 2) {
        if (tid < half && best_id[tid + half] >= 0 &&
            goes_before(best[tid + half], best_id[tid + half], best[tid], best_id[tid])) {
            best[tid] = best[tid + half];
            best_id[tid] = best_id[tid + half];
        }
        __syncthreads();
    }
    mine = best_id[0];
    __syncthreads();
    return mine;
}

static __device__ int count_from(const struct row *r, float least)
{
    int count = 0;
    for (int i = (int)threadIdx.x; i < r->vocab; i += PICK_THREADS)
        count += r->work[i] >= least;
    return count_of(count);
}

static __device__ double sum_from(const struct row *r, float least)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < r->vocab; i += PICK_THREADS)
        sum += r->work[i] >= least ? (double)r->work[i] : 0.0;
    return sum_of(sum);
}

/* --- log-probabilities ------------------------------------------------------------------------------------------- */

static __device__ double log_sum(const float *x, int n, float most)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += PICK_THREADS)
        sum += x[i] >= most - 87.0f ? (double)expf(x[i] - most) : 0.0; /* a NaN is not at least anything */
    return (double)most + log(sum_of(sum));
}

/* The most likely ids of the raw distribution; returns log(sum(exp)). */
static __device__ double write_top(const struct row *r, struct kern_device_scored *top, int stride)
{
    int wanted = r->p.top < KERN_DEVICE_TOP_MAX ? r->p.top : KERN_DEVICE_TOP_MAX;
    int best = next_after(r->logits, r->vocab, INFINITY, -1);
    double total = best < 0 ? 0 : log_sum(r->logits, r->vocab, r->logits[best]);
    for (int i = 0; i < stride; i++) {
        bool there = i < wanted && best >= 0;
        if (threadIdx.x == 0) {
            top[i].id = there ? best : -1;
            top[i].value = there ? (float)((double)r->logits[best] - total) : 0.0f;
        }
        if (there)
            best = next_after(r->logits, r->vocab, r->logits[best], best);
    }
    return total;
}

/* --- what changes logits ----------------------------------------------------------------------------------------- */

static __device__ void limit(const struct row *r, const char *staged)
{
    const struct kern_device_pick *p = &r->p;
    const uint32_t *allowed = (const uint32_t *)(staged + p->allowed);
    const struct kern_device_scored *bias = (const struct kern_device_scored *)(staged + p->bias);
    const int32_t *banned = (const int32_t *)(staged + p->banned);
    for (int i = (int)threadIdx.x; i < r->vocab; i += PICK_THREADS)
        r->work[i] = !p->allowed || (allowed[i / 32] >> (i % 32) & 1) ? r->logits[i] : -INFINITY;
    __syncthreads();
    if (threadIdx.x == 0) { /* an id may be named twice */
        for (uint32_t i = 0; i < p->bias_count; i++)
            if ((uint32_t)bias[i].id < (uint32_t)r->vocab)
                r->work[bias[i].id] += bias[i].value;
        for (uint32_t i = 0; i < p->banned_count; i++)
            if ((uint32_t)banned[i] < (uint32_t)r->vocab)
                r->work[banned[i]] = -INFINITY;
    }
    __syncthreads();
}

static __device__ void penalize(const struct row *r, const char *staged)
{
    const struct kern_device_pick *p = &r->p;
    const struct kern_device_seen *seen = (const struct kern_device_seen *)(staged + p->seen);
    for (uint32_t i = threadIdx.x; i < p->seen_count; i += PICK_THREADS) {
        if ((uint32_t)seen[i].id >= (uint32_t)r->vocab)
            continue;
        float *x = &r->work[seen[i].id];
        *x = *x > 0 ? *x / p->repetition : *x * p->repetition;
        if (seen[i].produced)
            *x -= p->presence + p->frequency * (float)seen[i].produced;
    }
    __syncthreads();
}

/* --- drawing ----------------------------------------------------------------------------------------------------- */

/* Philox 4x32-10 (Salmon et al. 2011), as sample_uniform() has it. */
static __device__ double uniform_of(const struct kern_device_pick *p)
{
    uint32_t c0 = p->position, c1 = p->choice, c2 = 0, c3 = 0, k0 = (uint32_t)p->seed, k1 = (uint32_t)(p->seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c0 * 0xD2511F53u, b = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (double)(((uint64_t)c0 << 32 | c1) >> 11) * (1.0 / 9007199254740992.0);
}

/* Logits to weights between 0 and 1; 0 for what is below `least`, minus infinity or NaN. */
static __device__ void weigh(const struct row *r, float most, float least)
{
    float inverse = 1.0f / r->p.temperature;
    for (int i = (int)threadIdx.x; i < r->vocab; i += PICK_THREADS) {
        float x = r->work[i], power = (x - most) * inverse;
        r->work[i] = x >= least && power >= -87.0f ? expf(power) : 0.0f;
    }
    __syncthreads();
}

/* The greatest threshold that keeps at least `count` ids (count > 0), or else at least the weight `mass`: positive
 * floats are in the order of their bits. */
static __device__ float threshold(const struct row *r, int count, double mass, float low)
{
    unsigned from = __float_as_uint(low), to = 0x3f800000u; /* 1.0, the weight of the most likely: always kept */
    while (from < to) {
        unsigned middle = from + (to - from + 1) / 2;
        float least = __uint_as_float(middle);
        bool enough = count ? count_from(r, least) >= count : sum_from(r, least) >= mass;
        if (enough)
            from = middle;
        else
            to = middle - 1;
    }
    return __uint_as_float(from);
}

/* The least id up to which at least `count` ids have exactly that weight. */
static __device__ int tie_limit(const struct row *r, float weight, int count)
{
    int from = 0, to = r->vocab - 1;
    while (from < to) {
        int middle = (from + to) / 2, n = 0;
        for (int i = (int)threadIdx.x; i <= middle; i += PICK_THREADS)
            n += r->work[i] == weight;
        if (count_of(n) >= count)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

/* Weight, then the lower id: a greater key goes first. */
static __device__ uint64_t key_of(float weight, int id)
{
    return (uint64_t)__float_as_uint(weight) << 32 | (uint32_t)~id;
}
static __device__ float weight_of(uint64_t key)
{
    return __uint_as_float((unsigned)(key >> 32));
}
static __device__ int id_of(uint64_t key)
{
    return (int)~(uint32_t)key;
}

/* The `most` (at most HEAVY_MAX) heaviest ids to item[], in order; those of weight 0 never. Returns how many. */
static __device__ int heaviest(const struct row *r, uint64_t *item, int most)
{
    static __shared__ int count;
    float least = threshold(r, most, 0, 0);
    int more = 0, last = r->vocab - 1;
    for (int i = (int)threadIdx.x; i < r->vocab; i += PICK_THREADS)
        more += r->work[i] > least;
    more = count_of(more);
    if (least > 0)
        last = tie_limit(r, least, most - more);
    if (threadIdx.x == 0)
        count = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < r->vocab; i += PICK_THREADS)
        if (r->work[i] > least || (least > 0 && r->work[i] == least && i <= last))
            item[atomicAdd(&count, 1)] = key_of(r->work[i], i);
    __syncthreads();

    uint64_t mine[HEAVY_MAX / PICK_THREADS];
    int rank[HEAVY_MAX / PICK_THREADS], all = count;
    for (int k = 0; k < HEAVY_MAX / PICK_THREADS; k++) {
        int i = (int)threadIdx.x + k * PICK_THREADS;
        mine[k] = i < all ? item[i] : 0;
        rank[k] = 0;
        for (int j = 0; i < all && j < all; j++)
            rank[k] += item[j] > mine[k];
    }
    __syncthreads();
    for (int k = 0; k < HEAVY_MAX / PICK_THREADS; k++)
        if ((int)threadIdx.x + k * PICK_THREADS < all)
            item[rank[k]] = mine[k];
    __syncthreads();
    return all;
}

/* How many of the first, sorted `count` have together at least `share`; 0 when all of them have less. */
static __device__ int nucleus(const uint64_t *item, int count, double share)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        sum += (double)weight_of(item[i]);
        if (sum >= share)
            return i + 1;
    }
    return 0;
}

static __device__ int draw_of_items(const uint64_t *item, int count, double uniform)
{
    double all = 0, sum = 0;
    for (int i = 0; i < count; i++)
        all += (double)weight_of(item[i]);
    for (int i = 0; i + 1 < count; i++) {
        sum += (double)weight_of(item[i]);
        if (sum > uniform * all)
            return id_of(item[i]);
    }
    return count ? id_of(item[count - 1]) : -1;
}

/* By whole stretches of ids first, then inside the one that holds the target. */
static __device__ int draw_of_all(const struct row *r, float least, double uniform)
{
    static __shared__ double part[PICK_THREADS];
    static __shared__ int drawn;
    int stretch = (r->vocab + PICK_THREADS - 1) / PICK_THREADS, from = (int)threadIdx.x * stretch;
    double mine = 0, all = 0, sum = 0;
    for (int i = from; i < from + stretch && i < r->vocab; i++)
        mine += r->work[i] >= least ? (double)r->work[i] : 0.0;
    part[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        int at = 0;
        drawn = -1;
        for (int t = 0; t < PICK_THREADS; t++)
            all += part[t];
        while (at < PICK_THREADS - 1 && sum + part[at] <= uniform * all)
            sum += part[at++];
        while (at > 0 && part[at] == 0) /* rounding ran past the last weight */
            sum -= part[--at];
        for (int i = at * stretch; i < (at + 1) * stretch && i < r->vocab; i++) {
            if (!(r->work[i] >= least && r->work[i] > 0))
                continue;
            drawn = i;
            sum += (double)r->work[i];
            if (sum > uniform * all)
                break;
        }
    }
    __syncthreads();
    int id = drawn;
    __syncthreads();
    return id;
}

/* top-k, then top-p of what is left. */
static __device__ int draw_filtered(const struct row *r, double uniform)
{
    static __shared__ uint64_t item[HEAVY_MAX];
    static __shared__ int drawn, kept;
    const struct kern_device_pick *p = &r->p;
    bool few = p->top_k > 0 && p->top_k <= HEAVY_MAX;
    float least = 0;
    if (few || p->top_k == 0) {
        int count = heaviest(r, item, few ? (int)p->top_k : NUCLEUS_FIRST);
        double all = few || p->top_p >= 1 ? 0 : sum_from(r, 0);
        if (threadIdx.x == 0) {
            for (int i = 0; few && i < count; i++)
                all += (double)weight_of(item[i]);
            kept = p->top_p < 1 ? nucleus(item, count, (double)p->top_p * all) : 0;
            drawn = kept || few ? draw_of_items(item, kept ? kept : count, uniform) : -1;
        }
        __syncthreads();
        int id = drawn;
        bool done = few || kept;
        __syncthreads();
        if (done)
            return id;
    }
    if (p->top_k > 0)
        least = threshold(r, p->top_k < (uint32_t)r->vocab ? (int)p->top_k : r->vocab, 0, 0);
    if (p->top_p < 1)
        least = threshold(r, 0, (double)p->top_p * sum_from(r, least), least);
    return draw_of_all(r, least, uniform);
}

static __device__ int draw(const struct row *r)
{
    const struct kern_device_pick *p = &r->p;
    int best = next_after(r->work, r->vocab, INFINITY, -1);
    if (best < 0 || p->temperature < GREEDY_BELOW || isinf(r->work[best]))
        return best;
    float most = r->work[best];
    __syncthreads(); /* everybody has read it before it becomes a weight */
    weigh(r, most, p->min_p > 0 ? most + logf(p->min_p) * p->temperature : -3.402823466e38f);
    double uniform = uniform_of(p);
    int id = p->top_k > 0 || p->top_p < 1 ? draw_filtered(r, uniform) : draw_of_all(r, 0, uniform);
    return id < 0 ? best : id;
}

/* --- a row ------------------------------------------------------------------------------------------------------- */

static __global__ void pick_row(struct kern_device_scored *out, int top_stride, const float *logits, float *work,
                                int vocab, const struct kern_device_pick *picks, const char *staged)
{
    struct row r = {picks[blockIdx.x], logits + (size_t)blockIdx.x * (size_t)vocab,
                    work + (size_t)blockIdx.x * (size_t)vocab, vocab};
    int id = r.p.id;
    double total = 0;
    out += (size_t)blockIdx.x * (size_t)(1 + top_stride);
    if (r.p.top >= 0)
        total = write_top(&r, out + 1, top_stride);
    if (id < 0) {
        limit(&r, staged);
        penalize(&r, staged);
        id = draw(&r);
    }
    if (threadIdx.x == 0) {
        out->id = id;
        out->value = r.p.top >= 0 && id >= 0 && id < vocab ? (float)((double)r.logits[id] - total) : 0.0f;
    }
}

void cuda_pick(struct kern_device *d, struct kern_device_scored *out, int top_stride, const float *logits, float *work,
               int vocab, const struct kern_device_pick *picks, const void *staged, int rows)
{
    launch(d, pick_row, dim3((unsigned)rows), PICK_THREADS, out, top_stride, logits, work, vocab, picks,
           (const char *)staged);
}
