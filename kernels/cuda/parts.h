/* parts.h - what the CUDA sources share: the device, launches, conversions, reductions over a block.
 * The sources use a small part of CUDA, so that tests can compile these very files for the processor
 * (tests/cuda_host): blocks of at most 1024 threads, static shared memory, full-warp xor shuffles, integer atomics,
 * launches through launch(). */
#ifndef KERNELS_CUDA_PARTS_H
#define KERNELS_CUDA_PARTS_H

#include "kernels/device.h"

#include <cublasLt.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define THREADS 256 /* of most blocks */
#define WARP 32
#define FULL 0xffffffffu

struct gemm_plan {
    int rows, n, k, w_stride, in_stride, y_stride, aligned;
    cublasLtMatmulAlgo_t algo;
};

#define GEMM_PLANS 1024 /* a power of two */

struct kern_device {
    struct bridge *bridge;
    cudaStream_t stream;
    bool exact;
    cublasLtHandle_t blas;
    void *workspace;
    struct gemm_plan *plan; /* owned: [GEMM_PLANS], found by hash */
};

template <typename... P, typename... A>
void launch(struct kern_device *d, void (*kernel)(P...), dim3 grid, int threads, A... args)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.stream = d->stream;
    if (grid.x > 0 && grid.y > 0 && !bridge_error(d->bridge))
        bridge_note(d->bridge, (int)cudaLaunchKernelEx(&config, kernel, args...), "a kernel's launch");
}

/* --- numbers ---------------------------------------------------------------------------------------------------- */

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

static __device__ inline float load(const float *from)
{
    return *from;
}
static __device__ inline float load(const bf16 *from)
{
    return __uint_as_float((unsigned)from->bits << 16);
}
static __device__ inline float load(const f16 *from)
{
    return __half2float(__ushort_as_half(from->bits));
}
static __device__ inline void store(float *to, float x)
{
    *to = x;
}
static __device__ inline void store(bf16 *to, float x) /* to nearest, ties to even */
{
    unsigned u = __float_as_uint(x);
    to->bits = (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)(u >> 16 | 0x40) /* NaN stays NaN */
                                               : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static __device__ inline void store(f16 *to, float x)
{
    to->bits = __half_as_ushort(__float2half_rn(fmaxf(fminf(x, 65504.0f), -65504.0f)));
}

/* What keys and values are where activations are T. */
template <typename T> struct kv_of {
    typedef f16 type;
};
template <> struct kv_of<float> {
    typedef float type;
};

/* --- sums over a block of up to 1024 threads, whole warps; every thread gets the result ------------------------- */

static __device__ inline float warp_sum(float x)
{
    for (int far = WARP / 2; far > 0; far /= 2)
        x += __shfl_xor_sync(FULL, x, far);
    return x;
}

static __device__ inline float warp_max(float x)
{
    for (int far = WARP / 2; far > 0; far /= 2)
        x = fmaxf(x, __shfl_xor_sync(FULL, x, far));
    return x;
}

static __device__ inline float block_sum(float x)
{
    static __shared__ float part[WARP];
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < (int)blockDim.x / WARP; i++)
        x += part[i];
    __syncthreads();
    return x;
}

#endif
