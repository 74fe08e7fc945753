/* cuda_runtime_api.h - an emulated CUDA device for tests on machines without one: the small part of the runtime that
 * kernels/bridge.c and kernels/cuda use, on the processor.
 *
 * Device memory is an arena of its own that the host cannot touch (mapped without access) except while queued work
 * runs; work is queued and runs only when somebody waits for it, so a missing copy faults and a staging buffer that is
 * reused too early gives wrong output. Allocations start as garbage and end in a guard that is checked when they are
 * freed. Not thread-safe, not fast, x86-64 or ucontext. */
#ifndef TESTS_CUDA_HOST_RUNTIME_API_H
#define TESTS_CUDA_HOST_RUNTIME_API_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorUnknown = 999
} cudaError_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };

struct cudaDeviceProp {
    char name[256];
    int major, minor;
};
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind way, cudaStream_t s);
const char *cudaGetErrorString(cudaError_t e);

/* Of the emulation alone: the nth allocation from now on fails (0: none); device allocations that live. */
void emulated_fail_allocation(int nth);
size_t emulated_allocations(void);

#ifdef __cplusplus
}
#endif
#endif
