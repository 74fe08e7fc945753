/* experts.cu - mixture of experts without asking the host: routing, slots sorted by expert, grouped products. */
#include "kernels/cuda/ops.h"

#include <math.h>

enum { EXPERTS_MAX = 1024, ROUTE_THREADS = 128 };

/* --- routing: a block a row -------------------------------------------------------------------------------------- */

/* The index of the greatest score that is not taken, the lowest of equals; for every thread. */
static __device__ int greatest_left(const float *score, const bool *taken, int n)
{
    static __shared__ float best_score[ROUTE_THREADS];
    static __shared__ int best[ROUTE_THREADS];
    int tid = (int)threadIdx.x, mine = -1;
    for (int i = tid; i < n; i += ROUTE_THREADS)
        if (!taken[i] && (mine < 0 || score[i] > score[mine]))
            mine = i;
    best[tid] = mine;
    best_score[tid] = mine < 0 ? -INFINITY : score[mine];
    __syncthreads();
    for (int i = 0; i < ROUTE_THREADS; i++) {
        bool better = best[i] >= 0 &&
                      (mine < 0 || best_score[i] > score[mine] || (best_score[i] == score[mine] && best[i] < mine));
        mine = better ? best[i] : mine;
    }
    __syncthreads();
    return mine;
}

static __global__ void route_row(struct kern_device_routes r, const float *scores, const float *bias)
{
    static __shared__ float score[EXPERTS_MAX];
    static __shared__ bool taken[EXPERTS_MAX];
    int tid = (int)threadIdx.x;
    size_t to = (size_t)blockIdx.x * (size_t)r.used;
    float top = 0, sum = 0;

    for (int i = tid; i < r.experts; i += ROUTE_THREADS) {
        score[i] = scores[(size_t)blockIdx.x * (size_t)r.experts + i] + (bias ? bias[i] : 0.0f);
        taken[i] = false;
    }
    __syncthreads();
    for (int k = 0; k < r.used; k++) {
        int best = greatest_left(score, taken, r.experts);
        top = k == 0 ? score[best] : top;
        sum += expf(score[best] - top);
        if (tid == 0) {
            taken[best] = true;
            r.chosen[to + k] = best;
            r.weight[to + k] = expf(score[best] - top);
        }
        __syncthreads();
    }
    if (tid > 0)
        return;
    for (int i = 0; !r.normalized && i < r.experts; i++)
        sum += taken[i] ? 0.0f : expf(score[i] - top);
    for (int k = 0; k < r.used; k++)
        r.weight[to + k] /= sum;
}

/* One block: a thread an expert counts its slots, then writes them in their own order. */
static __global__ void sort_slots(struct kern_device_routes r)
{
    static __shared__ int count[EXPERTS_MAX];
    int expert = (int)threadIdx.x, slots = r.rows * r.used, first = 0, tile = 0, n = 0;
    if (expert < r.experts) {
        for (int s = 0; s < slots; s++)
            n += r.chosen[s] == expert;
        count[expert] = n;
    }
    __syncthreads();
    if (expert >= r.experts)
        return;
    for (int e = 0; e < expert; e++) {
        first += count[e];
        tile += (count[e] + KERN_DEVICE_TILE - 1) / KERN_DEVICE_TILE;
    }
    for (int s = 0, at = first; s < slots; s++)
        if (r.chosen[s] == expert)
            r.order[at++] = s;
    for (int done = 0; done < n; done += KERN_DEVICE_TILE, tile++) {
        r.tile[3 * tile] = expert;
        r.tile[3 * tile + 1] = first + done;
        r.tile[3 * tile + 2] = n - done < KERN_DEVICE_TILE ? n - done : KERN_DEVICE_TILE;
    }
    if (expert == r.experts - 1)
        *r.tiles = tile;
}

void cuda_route(struct kern_device *d, const struct kern_device_routes *r, const float *scores, const float *bias)
{
    int threads = (r->experts + WARP - 1) / WARP * WARP;
    launch(d, route_row, dim3((unsigned)r->rows), ROUTE_THREADS, *r, scores, bias);
    launch(d, sort_slots, dim3(1), threads, *r);
}

/* --- products: a warp an output, for the slots of a tile together ------------------------------------------------ */

enum { OUTPUTS = THREADS / WARP };

template <typename T>
static __global__ void expert_tile(struct kern_device_routes r, float *y, const T *w, int w_stride, int n, int k,
                                   const float *bias, const T *in, int in_stride, int share)
{
    int output = (int)blockIdx.y * OUTPUTS + (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    if ((int)blockIdx.x >= *r.tiles || output >= n) /* whole warps leave */
        return;
    const int32_t *tile = r.tile + 3 * blockIdx.x;
    size_t row = (size_t)tile[0] * (size_t)n + (size_t)output;
    const T *weights = w + row * (size_t)w_stride, *from[KERN_DEVICE_TILE];
    float sum[KERN_DEVICE_TILE];
#pragma unroll
    for (int s = 0; s < KERN_DEVICE_TILE; s++) {
        int slot = r.order[tile[1] + (s < tile[2] ? s : 0)];
        from[s] = in + (size_t)(slot / share) * (size_t)in_stride;
        sum[s] = 0;
    }
    for (int i = lane; i < k; i += WARP) {
        float weight = load(weights + i);
#pragma unroll
        for (int s = 0; s < KERN_DEVICE_TILE; s++)
            if (s < tile[2])
                sum[s] += weight * load(from[s] + i);
    }
#pragma unroll
    for (int s = 0; s < KERN_DEVICE_TILE; s++) {
        float whole = warp_sum(sum[s]);
        if (lane == 0 && s < tile[2])
            y[(size_t)r.order[tile[1] + s] * (size_t)n + (size_t)output] = whole + (bias ? bias[row] : 0.0f);
    }
}

void cuda_experts(struct kern_device *d, const struct kern_device_routes *r, float *y, const struct kern_device_rows *w,
                  const float *bias, const struct kern_device_rows *in, int share)
{
    int n = w->rows / r->experts, slots = r->rows * r->used;
    int tiles = slots / KERN_DEVICE_TILE + (r->experts < slots ? r->experts : slots);
    dim3 grid((unsigned)tiles, (unsigned)((n + OUTPUTS - 1) / OUTPUTS));
    if (d->exact)
        launch(d, expert_tile<float>, grid, THREADS, *r, y, (const float *)w->data, w->stride, n, w->cols, bias,
               (const float *)in->data, in->stride, share);
    else
        launch(d, expert_tile<bf16>, grid, THREADS, *r, y, (const bf16 *)w->data, w->stride, n, w->cols, bias,
               (const bf16 *)in->data, in->stride, share);
}

static __global__ void combine_row(struct kern_device_routes r, float *y, const float *x, int n)
{
    size_t slot = (size_t)blockIdx.x * (size_t)r.used;
    int i = (int)(blockIdx.y * THREADS + threadIdx.x);
    float sum = 0;
    for (int k = 0; k < r.used && i < n; k++)
        sum += r.weight[slot + k] * x[(slot + k) * (size_t)n + i];
    if (i < n)
        y[(size_t)blockIdx.x * (size_t)n + i] = sum;
}

void cuda_combine(struct kern_device *d, const struct kern_device_routes *r, float *y, const float *x, int n)
{
    dim3 grid((unsigned)r->rows, (unsigned)((n + THREADS - 1) / THREADS));
    launch(d, combine_row, grid, THREADS, *r, y, x, n);
}
