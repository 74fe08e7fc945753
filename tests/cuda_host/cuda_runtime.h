/* cuda_runtime.h - kernels on the emulated device: each thread of a block is a fiber; blocks run one after another.
 * A barrier that not all threads of the block reach, or a shuffle without the whole warp, ends the program. */
#ifndef TESTS_CUDA_HOST_RUNTIME_H
#define TESTS_CUDA_HOST_RUNTIME_H

#include "cuda_runtime_api.h"

#include <functional>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __shared__ /* always "static __shared__": one block runs at a time */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

bool emulated_is_device(const void *address);
void emulated_queue(cudaStream_t s, std::function<void()> work);
void emulated_run(dim3 grid, dim3 block, const std::function<void()> &thread);
void emulated_block_barrier();
/* `mine` of lane `from` of this warp, once all 32 have come. */
uint64_t emulated_exchange(uint64_t mine, unsigned from);

template <typename T> bool emulated_argument_fits(const T &value)
{
    if constexpr (std::is_pointer<T>::value)
        return !value || emulated_is_device((const void *)value);
    else
        return (void)value, true;
}

template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A... args)
{
    if (config->blockDim.x == 0 || config->blockDim.x > 1024 || config->gridDim.x == 0 || config->gridDim.y == 0 ||
        config->gridDim.y > 65535 || !(emulated_argument_fits(args) && ...))
        return cudaErrorInvalidValue;
    cudaLaunchConfig_t c = *config;
    emulated_queue(c.stream, [=] { emulated_run(c.gridDim, c.blockDim, [=] { kernel(args...); }); });
    return cudaSuccess;
}

static inline void __syncthreads()
{
    emulated_block_barrier();
}
static inline float __shfl_xor_sync(unsigned, float x, int far)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (uint32_t)emulated_exchange(bits, (threadIdx.x % 32) ^ (unsigned)far);
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int atomicAdd(int *to, int n)
{
    int before = *to;
    *to += n;
    return before;
}
static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

#endif
