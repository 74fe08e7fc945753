/* attend.cu - keys and values to their pages, and attention over them.
 * Keys lie as [dim][16 positions], so 16 threads that hold 16 positions read one line; values as [16 positions][dim],
 * so threads that hold dimensions do. */
#include "kernels/cuda/ops.h"

#include <math.h>

/* Where the tile of keys of `position` is; its values follow after 16 * dim elements. */
template <typename K>
static __device__ K *tile_of(const struct kern_device_kv *kv, const struct kern_device_heads *of,
                             const struct kern_device_where *where, int row, int head, int position)
{
    int tiles = kv->block_tokens / KERN_KV_TOKENS;
    int block = where->blocks[where->table[where->sequence[row]] + position / kv->block_tokens];
    size_t tile = ((size_t)kv->layer * (size_t)of->kv_heads + (size_t)head) * (size_t)tiles +
                  (size_t)(position % kv->block_tokens / KERN_KV_TOKENS);
    return (K *)kv->base + (size_t)block * kv->block_elems + tile * 2 * (size_t)of->dim * KERN_KV_TOKENS;
}

/* --- norm, rotation, store: a block a row and head --------------------------------------------------------------- */

enum { PLACE_THREADS = 128 };

static __device__ void normalize(float *x, const float *w, int n, float eps)
{
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += PLACE_THREADS)
        sum += x[i] * x[i];
    float factor = 1.0f / sqrtf(block_sum(sum) / (float)n + eps);
    for (int i = (int)threadIdx.x; i < n; i += PLACE_THREADS)
        x[i] *= factor * w[i];
}

static __device__ void rotate(float *x, const float *cosine, const float *sine, int pairs)
{
    for (int i = (int)threadIdx.x; i < pairs; i += PLACE_THREADS) {
        float a = x[i], b = x[pairs + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[pairs + i] = a * sine[i] + b * cosine[i];
    }
}

template <typename K> static __global__ void place_head(struct kern_device_place p)
{
    static __shared__ float x[KERN_HEAD_MAX];
    int row = (int)blockIdx.x, head = (int)blockIdx.y, dim = p.of.dim;
    int keys = head - p.of.heads, values = keys - p.of.kv_heads; /* which KV head, when not negative */
    float *from = p.qkv + ((size_t)row * gridDim.y + (size_t)head) * (size_t)dim;
    const float *norm = keys < 0 ? p.q_norm : p.k_norm;

    for (int i = (int)threadIdx.x; i < dim; i += PLACE_THREADS)
        x[i] = from[i] + (p.bias ? p.bias[head * dim + i] : 0.0f);
    if (values < 0) {
        if (norm)
            normalize(x, norm, dim, p.eps);
        __syncthreads();
        rotate(x, p.cosine + (size_t)row * (size_t)p.pairs, p.sine + (size_t)row * (size_t)p.pairs, p.pairs);
    }
    __syncthreads();
    if (keys < 0) {
        for (int i = (int)threadIdx.x; i < dim; i += PLACE_THREADS)
            from[i] = x[i] * p.scale;
        return;
    }
    int position = p.where.position[row], slot = position % KERN_KV_TOKENS;
    K *tile = tile_of<K>(&p.kv, &p.of, &p.where, row, values < 0 ? keys : values, position);
    for (int i = (int)threadIdx.x; i < dim; i += PLACE_THREADS)
        if (values < 0)
            store(tile + i * KERN_KV_TOKENS + slot, x[i]);
        else
            store(tile + (KERN_KV_TOKENS + slot) * dim + i, x[i]);
}

void cuda_place(struct kern_device *d, const struct kern_device_place *p)
{
    dim3 grid((unsigned)p->rows, (unsigned)(p->of.heads + 2 * p->of.kv_heads));
    if (d->exact)
        launch(d, place_head<float>, grid, PLACE_THREADS, *p);
    else
        launch(d, place_head<f16>, grid, PLACE_THREADS, *p);
}

/* --- attention: a block a row and up to GROUP heads that share a KV head ------------------------------------------
 * Chunks of 256 positions, a thread a position for the scores, a thread a dimension for the values; the softmax is
 * carried from chunk to chunk. Every head's additions come in the same order however many share the block. */

enum { GROUP = KERN_QUERIES_MAX, WARPS = THREADS / WARP };

/* For each head of the block, with indices that the compiler knows: what is kept per head stays in registers. */
#define EACH_HEAD(g, count) _Pragma("unroll") for (int g = 0; g < GROUP; g++) if (g < (count))

struct group { /* of one block */
    int row, head, count, kv_head, first, last;
};

/* Of each of `count` values, over the block: the greatest, or the sum. */
static __device__ void reduce(float value[GROUP], int count, bool greatest)
{
    static __shared__ float part[GROUP][WARPS];
    EACH_HEAD(g, count)
    {
        float x = greatest ? warp_max(value[g]) : warp_sum(value[g]);
        if (threadIdx.x % WARP == 0)
            part[g][threadIdx.x / WARP] = x;
    }
    __syncthreads();
    EACH_HEAD(g, count)
    {
        float x = part[g][0];
        for (int w = 1; w < WARPS; w++)
            x = greatest ? fmaxf(x, part[g][w]) : x + part[g][w];
        value[g] = x;
    }
    __syncthreads();
}

/* Scores of this thread's position; minus infinity where the row sees nothing. */
template <typename K>
static __device__ void score(const struct kern_device_attend *a, const struct group *b,
                             const float query[GROUP][KERN_HEAD_MAX], int position, float out[GROUP])
{
    bool seen = position >= b->first && position <= b->last;
    for (int g = 0; g < GROUP; g++)
        out[g] = seen ? 0.0f : -INFINITY;
    if (!seen)
        return;
    const K *keys = tile_of<K>(&a->kv, &a->of, &a->where, b->row, b->kv_head, position) + position % KERN_KV_TOKENS;
    for (int i = 0; i < a->of.dim; i++) {
        float key = load(keys + (size_t)i * KERN_KV_TOKENS);
        EACH_HEAD(g, b->count)
        out[g] += query[g][i] * key;
    }
    EACH_HEAD(g, a->softcap > 0 ? b->count : 0)
    out[g] = a->softcap * tanhf(out[g] / a->softcap);
}

/* How dimensions are dealt to threads: `lanes` threads side by side hold a dimension each (or two, 256 apart), and
 * `parts` such rows of threads share the positions. */
struct deal {
    int lanes, parts, lane, part;
};

template <typename K>
static __device__ void gather(const struct kern_device_attend *a, const struct group *b, const struct deal *deal,
                              const float weight[GROUP][THREADS], int start, float sum[GROUP][2])
{
    int from = b->first > start ? b->first : start, to = b->last < start + THREADS - 1 ? b->last : start + THREADS - 1;
    if (deal->part >= deal->parts)
        return;
    for (int t = start + deal->part; t <= to; t += deal->parts) {
        if (t < from)
            continue;
        const K *values = tile_of<K>(&a->kv, &a->of, &a->where, b->row, b->kv_head, t) +
                          (size_t)(KERN_KV_TOKENS + t % KERN_KV_TOKENS) * (size_t)a->of.dim;
        for (int j = 0; j < 2; j++) {
            int i = deal->lane + j * THREADS;
            float value = i < a->of.dim ? load(values + i) : 0.0f;
            EACH_HEAD(g, b->count)
            sum[g][j] += weight[g][t - start] * value;
        }
    }
}

template <typename T> static __global__ void attend_group(struct kern_device_attend a, T *out, int stride, int heads)
{
    typedef typename kv_of<T>::type K;
    static __shared__ float query[GROUP][KERN_HEAD_MAX], weight[GROUP][THREADS];
    float greatest[GROUP], all[GROUP], sum[GROUP][2], now[GROUP], before[GROUP];
    int group = a.of.heads / a.of.kv_heads, splits = (group + heads - 1) / heads, dim = a.of.dim;
    int tid = (int)threadIdx.x, within = (int)blockIdx.y % splits * heads;
    struct group b = {(int)blockIdx.x,
                      (int)blockIdx.y / splits * group + within,
                      group - within < heads ? group - within : heads,
                      (int)blockIdx.y / splits,
                      0,
                      a.where.position[blockIdx.x]};
    struct deal deal = {dim < THREADS ? dim : THREADS, 0, 0, 0};

    b.first = a.window > 0 && b.last - a.window + 1 > 0 ? b.last - a.window + 1 : 0;
    deal.parts = THREADS / deal.lanes;
    deal.lane = tid % deal.lanes;
    deal.part = tid / deal.lanes;
    for (int g = 0; g < GROUP; g++) {
        greatest[g] = -INFINITY;
        all[g] = sum[g][0] = sum[g][1] = 0;
    }
    const float *from = a.qkv + ((size_t)b.row * (size_t)(a.of.heads + 2 * a.of.kv_heads) + (size_t)b.head) * dim;
    for (int i = tid; i < b.count * dim; i += THREADS)
        query[i / dim][i % dim] = from[i];
    __syncthreads();

    for (int start = b.first / THREADS * THREADS; start <= b.last; start += THREADS) {
        score<K>(&a, &b, query, start + tid, now);
        for (int g = 0; g < GROUP; g++)
            before[g] = now[g];
        reduce(now, b.count, true);
        EACH_HEAD(g, b.count)
        {
            float top = fmaxf(greatest[g], now[g]), fade = expf(greatest[g] - top);
            weight[g][tid] = now[g] = expf(before[g] - top);
            all[g] *= fade;
            sum[g][0] *= fade;
            sum[g][1] *= fade;
            greatest[g] = top;
        }
        reduce(now, b.count, false);
        EACH_HEAD(g, b.count)
        all[g] += now[g];
        gather<K>(&a, &b, &deal, weight, start, sum);
        __syncthreads();
    }

    for (int j = 0; j < 2; j++) {
        EACH_HEAD(g, b.count)
        weight[g][tid] = deal.part < deal.parts ? sum[g][j] : 0.0f;
        __syncthreads();
        int i = tid + j * THREADS;
        EACH_HEAD(g, tid < deal.lanes && i < dim ? b.count : 0)
        {
            float whole = 0, top = greatest[g], share = all[g];
            for (int p = 0; p < deal.parts; p++)
                whole += weight[g][p * deal.lanes + tid];
            if (a.sinks) { /* a logit that takes weight and gives no value */
                float sink = a.sinks[b.head + g];
                top = fmaxf(top, sink);
                share = share * expf(greatest[g] - top) + expf(sink - top);
                whole *= expf(greatest[g] - top);
            }
            store(out + (size_t)b.row * (size_t)stride + (size_t)(b.head + g) * (size_t)dim + i, whole / share);
        }
        __syncthreads();
    }
}

/* Few rows: a head a block, to have enough blocks; many: heads that share keys read them together. */
void cuda_attend(struct kern_device *d, const struct kern_device_attend *a)
{
    int group = a->of.heads / a->of.kv_heads, heads = a->rows * a->of.kv_heads < 256 ? 1
                                                      : group < GROUP                ? group
                                                                                     : GROUP;
    dim3 grid((unsigned)a->rows, (unsigned)(a->of.kv_heads * ((group + heads - 1) / heads)));
    if (d->exact)
        launch(d, attend_group<float>, grid, THREADS, *a, (float *)a->out->data, a->out->stride, heads);
    else
        launch(d, attend_group<bf16>, grid, THREADS, *a, (bf16 *)a->out->data, a->out->stride, heads);
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

/* Sixteen bytes at a time: a tile's 16 positions make every block a multiple of that. */
static __global__ void fill_block(uint4 *to, const uint4 *from, size_t count)
{
    const uint4 zero = {0, 0, 0, 0};
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (size_t)gridDim.x * THREADS)
        to[i] = from ? from[i] : zero;
}

static void launch_fill(struct kern_device *d, void *base, size_t block_elems, int32_t to, int32_t from)
{
    size_t count = block_elems * (d->exact ? sizeof(float) : sizeof(f16)) / sizeof(uint4);
    size_t blocks = (count + THREADS - 1) / THREADS;
    launch(d, fill_block, dim3((unsigned)(blocks < 4096 ? blocks : 4096)), THREADS, (uint4 *)base + (size_t)to * count,
           from < 0 ? (const uint4 *)NULL : (const uint4 *)base + (size_t)from * count, count);
}

void cuda_kv_zero(struct kern_device *d, void *base, size_t block_elems, int32_t block)
{
    launch_fill(d, base, block_elems, block, -1);
}

void cuda_kv_copy(struct kern_device *d, void *base, size_t block_elems, int32_t to, int32_t from)
{
    launch_fill(d, base, block_elems, to, from);
}
