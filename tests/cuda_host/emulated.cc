/* emulated.cc - the emulated device: arena, queue, fibers, products. See cuda_runtime_api.h. */
#include "cublasLt.h"

#include <deque>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

[[noreturn]] static void give_up(const char *what)
{
    fprintf(stderr, "emulated device: %s\n", what);
    abort();
}

/* --- arena -------------------------------------------------------------------------------------------------------- */

static const size_t ARENA = (size_t)4 << 30, GUARD = 256;
static const unsigned char GARBAGE = 0xa5, FENCE = 0x5a;
static unsigned char *arena;
static size_t arena_used;
static std::map<unsigned char *, size_t> live;
static int fail_in;

static void open_pages(unsigned char *from, size_t bytes, bool open)
{
    const size_t page = 4096, skew = (size_t)(from - arena) % page;
    if (mprotect(from - skew, bytes + skew, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        give_up("mprotect failed");
}

static void make_arena()
{
    if (!arena) {
        void *at = mmap(NULL, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            give_up("no address space");
        arena = (unsigned char *)at;
    }
}

bool emulated_is_device(const void *address)
{
    return arena && (const unsigned char *)address >= arena && (const unsigned char *)address < arena + ARENA;
}

void emulated_fail_allocation(int nth)
{
    fail_in = nth;
}

size_t emulated_allocations(void)
{
    return live.size();
}

static bool is_to_fail()
{
    return fail_in > 0 && --fail_in == 0;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    size_t room = (bytes + GUARD - 1) / GUARD * GUARD + GUARD;
    if (is_to_fail() || arena_used + room > ARENA)
        return cudaErrorMemoryAllocation;
    make_arena();
    unsigned char *at = arena + arena_used;
    open_pages(at, room, true);
    memset(at, GARBAGE, bytes);
    memset(at + bytes, FENCE, room - bytes);
    open_pages(at, room, false);
    arena_used += room;
    live[at] = bytes;
    *out = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    auto found = live.find((unsigned char *)memory);
    if (!memory)
        return cudaSuccess;
    if (found == live.end())
        return cudaErrorInvalidValue;
    open_pages(found->first + found->second, GUARD, true);
    for (size_t i = 0; i < GUARD; i++)
        if (found->first[found->second + i] != FENCE)
            give_up("somebody wrote past the end of an allocation");
    open_pages(found->first + found->second, GUARD, false);
    live.erase(found);
    if (live.empty())
        arena_used = 0;
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    *out = is_to_fail() ? NULL : malloc(bytes);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *memory)
{
    free(memory);
    return cudaSuccess;
}

/* --- queue ------------------------------------------------------------------------------------------------------- */

struct emulated_stream {
    std::deque<std::function<void()>> work;
    uint64_t queued, done;
};
struct emulated_event {
    cudaStream_t stream;
    uint64_t after;
};

void emulated_queue(cudaStream_t s, std::function<void()> work)
{
    s->work.push_back(std::move(work));
    s->queued++;
}

static void run_until(cudaStream_t s, uint64_t done)
{
    if (s->done >= done)
        return;
    make_arena();
    open_pages(arena, arena_used, true);
    while (s->done < done) {
        s->work.front()();
        s->work.pop_front();
        s->done++;
    }
    open_pages(arena, arena_used, false);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    *out = new emulated_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    run_until(s, s->queued);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = new emulated_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    *e = emulated_event{s, s->queued};
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->stream)
        run_until(e->stream, e->after);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t s)
{
    if (bytes && !emulated_is_device(memory))
        return cudaErrorInvalidValue;
    emulated_queue(s, [=] { memset(memory, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind way, cudaStream_t s)
{
    bool in = way == cudaMemcpyHostToDevice;
    if (emulated_is_device(dst) != in || emulated_is_device(src) == in)
        return cudaErrorInvalidValue;
    emulated_queue(s, [=] { memcpy(dst, src, n); });
    return cudaSuccess;
}

/* --- the device -------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int)
{
    *out = cudaDeviceProp();
    snprintf(out->name, sizeof out->name, "emulated device, on the processor");
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = ARENA - arena_used;
    *total = ARENA;
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    default:
        return "unknown error";
    }
}

/* --- fibers ------------------------------------------------------------------------------------------------------ */

dim3 threadIdx, blockIdx, blockDim, gridDim;

struct barrier {
    unsigned arrived, alive;
    uint64_t round;
};
struct fiber {
#ifdef __x86_64__
    void *sp;
#else
    ucontext_t context;
#endif
    bool done;
    unsigned parity;
    barrier *waits;
    uint64_t round;
};
struct warp {
    barrier together;
    uint64_t slot[2][32];
};

static const unsigned FIBERS = 1024;
static const size_t STACK = (256 << 10) + 4096 + 448; /* no power of two: stacks would share their cache lines */
static fiber fibers[FIBERS], home;
static unsigned char *stacks;
static unsigned current, threads, left; /* left: of the block, not done */
static bool backwards;                  /* threads go in this order in every other launch: no result may depend on it */
static barrier whole;
static warp warps[FIBERS / 32];
static const std::function<void()> *body;

#ifdef __x86_64__
extern "C" void emulated_switch(void **save, void *to);
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");
static void enter(fiber *from, fiber *to)
{
    emulated_switch(&from->sp, to->sp);
}
#else
static void enter(fiber *from, fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

static void release(barrier *b)
{
    if (b->arrived > 0 && b->arrived == b->alive) {
        b->arrived = 0;
        b->round++;
    }
}

/* From a thread that waits or is done to the next that can go on; to run_block() when all are done. */
static void go_on(fiber *from)
{
    for (unsigned n = 0; n < threads && left > 0; n++) {
        current = backwards ? (current + threads - 1) % threads : (current + 1) % threads;
        fiber *f = &fibers[current];
        if (f->done || (f->waits && f->waits->round == f->round))
            continue;
        threadIdx.x = current;
        if (f != from)
            enter(from, f);
        return;
    }
    if (left > 0)
        give_up("threads wait for others that never come");
    enter(from, &home);
}

static void fiber_main()
{
    (*body)();
    fiber *f = &fibers[current];
    f->done = true;
    left--;
    whole.alive--;
    warps[current / 32].together.alive--;
    release(&whole);
    go_on(f);
    give_up("a finished thread was resumed");
}

static void prepare(unsigned i)
{
    unsigned char *top = stacks + (size_t)(i + 1) * STACK;
    fibers[i] = fiber();
#ifdef __x86_64__
    void **sp = (void **)top - 2; /* so that the stack is aligned as after a call */
    *sp = (void *)fiber_main;
    fibers[i].sp = sp - 6; /* six registers, whatever they are */
#else
    getcontext(&fibers[i].context);
    fibers[i].context.uc_stack.ss_sp = top - STACK;
    fibers[i].context.uc_stack.ss_size = STACK;
    makecontext(&fibers[i].context, fiber_main, 0);
#endif
}

static void wait_at(barrier *b)
{
    fiber *f = &fibers[current];
    f->waits = b;
    f->round = b->round;
    b->arrived++;
    release(b);
    if (b->round == f->round)
        go_on(f);
    f->waits = NULL;
}

void emulated_block_barrier()
{
    wait_at(&whole);
}

uint64_t emulated_exchange(uint64_t mine, unsigned from)
{
    fiber *f = &fibers[current];
    warp *w = &warps[current / 32];
    unsigned parity = f->parity;
    f->parity ^= 1;
    if (w->together.alive != 32)
        give_up("a shuffle without the whole warp");
    w->slot[parity][current % 32] = mine;
    wait_at(&w->together);
    return w->slot[parity][from];
}

static void run_block(unsigned count)
{
    threads = left = count;
    whole = barrier{0, threads, 0};
    for (unsigned i = 0; i < threads; i++) {
        prepare(i);
        if (i % 32 == 0)
            warps[i / 32].together = barrier{0, threads - i < 32 ? threads - i : 32, 0};
    }
    current = backwards ? 0 : threads - 1;
    go_on(&home);
}

void emulated_run(dim3 grid, dim3 block, const std::function<void()> &thread)
{
    if (!stacks) {
        void *at =
            mmap(NULL, FIBERS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            give_up("no stacks");
        stacks = (unsigned char *)at;
    }
    body = &thread;
    backwards = !backwards;
    gridDim = grid;
    blockDim = block;
    for (unsigned y = 0; y < grid.y; y++)
        for (unsigned x = 0; x < grid.x; x++) {
            blockIdx = dim3(x, y, 0);
            run_block(block.x);
        }
}

/* --- products ---------------------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = new int(0);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType scale)
{
    *out = new emulated_desc{CUBLAS_OP_N};
    return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, int which, const void *value, size_t bytes)
{
    if (which != CUBLASLT_MATMUL_DESC_TRANSA || bytes != sizeof d->transposed)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&d->transposed, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t stride)
{
    *out = new emulated_layout{type, rows, cols, stride};
    return stride >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = new int(0);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, int, const void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *found,
                                              int *count)
{
    *found = cublasLtMatmulHeuristicResult_t();
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static float element(const void *data, cudaDataType type, size_t i)
{
    return type == CUDA_R_32F ? ((const float *)data)[i] : __uint_as_float((unsigned)((const uint16_t *)data)[i] << 16);
}

/* out = alpha * a^T * b + beta * out, column-major */
static void multiply(const emulated_layout &la, const void *a, const emulated_layout &lb, const void *b, float beta,
                     const emulated_layout &lo, float *out)
{
    for (uint64_t col = 0; col < lo.cols; col++)
        for (uint64_t row = 0; row < lo.rows; row++) {
            float sum = 0, *to = out + col * (uint64_t)lo.stride + row;
            for (uint64_t k = 0; k < la.rows; k++)
                sum += element(a, la.type, row * (uint64_t)la.stride + k) *
                       element(b, lb.type, col * (uint64_t)lb.stride + k);
            *to = beta != 0 ? sum + beta * *to : sum;
        }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t, void *out, cublasLtMatrixLayout_t lo,
                              const cublasLtMatmulAlgo_t *, void *workspace, size_t, cudaStream_t s)
{
    emulated_layout wa = *la, wb = *lb, wo = *lo;
    float addend = *(const float *)beta;
    if (*(const float *)alpha != 1 || d->transposed != CUBLAS_OP_T || c != out || wa.rows != wb.rows ||
        wa.cols != wo.rows || wb.cols != wo.cols || wo.type != CUDA_R_32F || wa.type != wb.type ||
        !emulated_is_device(a) || !emulated_is_device(b) || !emulated_is_device(out) || !emulated_is_device(workspace))
        return CUBLAS_STATUS_INVALID_VALUE;
    emulated_queue(s, [=] { multiply(wa, a, wb, b, addend, wo, (float *)out); });
    return CUBLAS_STATUS_SUCCESS;
}
