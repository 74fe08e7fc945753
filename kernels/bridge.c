#include "kernels/bridge.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HALVES = 2, ALIGN = 16, FIRST_BYTES = 64 << 10 };

struct half { /* of the way in: one is filled while the other may still be read */
    uint8_t *host;
    cudaEvent_t crossed;
};

struct taken {
    void *memory;
    size_t bytes;
};

struct bridge {
    cudaStream_t stream;
    bool failed;
    char error[BRIDGE_WHY_MAX];
    char name[256];
    struct half half[HALVES];
    int current;
    uint8_t *staged_device; /* where every commit lands: the stream keeps steps apart */
    size_t staged, stage_room;
    uint8_t *drained;
    size_t drain_bytes, drain_room;
    enum bridge_class drain_class;
    cudaEvent_t drain_done;
    struct taken *taken; /* owned */
    size_t taken_count, taken_room;
    struct bridge_stats stats;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bridge_note(struct bridge *b, int status, const char *what)
{
    if (status == 0 || b->failed)
        return;
    b->failed = true;
    snprintf(b->error, sizeof b->error, "%s: %s", what, cudaGetErrorString((cudaError_t)status));
}

static bool went_well(struct bridge *b, cudaError_t status, const char *what)
{
    bridge_note(b, (int)status, what);
    return !b->failed;
}

static void count(struct bridge *b, enum bridge_class class_, size_t n, uint64_t since)
{
    struct bridge_class_stats *s = &b->stats.of[class_];
    uint64_t ns = now_ns() - since;
    s->crossings++;
    s->bytes += n;
    s->block_ns += ns;
    if (s->block_ns_max < ns)
        s->block_ns_max = ns;
}

/* --- opening and closing ---------------------------------------------------------------------------------- */

static bool open_device(struct bridge *b, int ordinal)
{
    struct cudaDeviceProp about;
    int devices = 0;
    if (!went_well(b, cudaGetDeviceCount(&devices), "no CUDA device can be reached"))
        return false;
    if (ordinal < 0 || ordinal >= devices)
        return went_well(b, cudaErrorInvalidDevice, "this machine has no device of that number");
    if (!went_well(b, cudaSetDevice(ordinal), "the device cannot be used") ||
        !went_well(b, cudaGetDeviceProperties(&about, ordinal), "the device cannot be asked"))
        return false;
    snprintf(b->name, sizeof b->name, "%.200s (sm_%d%d)", about.name, about.major, about.minor);
    if (!went_well(b, cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking), "no stream can be made") ||
        !went_well(b, cudaEventCreateWithFlags(&b->drain_done, cudaEventDisableTiming), "no event can be made"))
        return false;
    for (int i = 0; i < HALVES; i++)
        if (!went_well(b, cudaEventCreateWithFlags(&b->half[i].crossed, cudaEventDisableTiming),
                       "no event can be made"))
            return false;
    return true;
}

struct bridge *bridge_open(int ordinal, char why[BRIDGE_WHY_MAX])
{
    struct bridge *b = calloc(1, sizeof *b);
    if (!b) {
        snprintf(why, BRIDGE_WHY_MAX, "out of memory");
        return NULL;
    }
    if (open_device(b, ordinal))
        return b;
    snprintf(why, BRIDGE_WHY_MAX, "%s", b->error);
    bridge_close(b);
    return NULL;
}

/* Pinned memory has seen prompts: wiped before it goes back. */
static void free_pinned(struct bridge *b, void *memory, size_t bytes)
{
    if (!memory)
        return;
    explicit_bzero(memory, bytes);
    cudaFreeHost(memory);
    b->stats.frees++;
}

void bridge_close(struct bridge *b)
{
    if (!b)
        return;
    if (b->stream)
        cudaStreamSynchronize(b->stream);
    while (b->taken_count > 0)
        bridge_give(b, b->taken[b->taken_count - 1].memory);
    for (int i = 0; i < HALVES; i++) {
        free_pinned(b, b->half[i].host, b->stage_room);
        if (b->half[i].crossed)
            cudaEventDestroy(b->half[i].crossed);
    }
    free_pinned(b, b->drained, b->drain_room);
    if (b->drain_done)
        cudaEventDestroy(b->drain_done);
    if (b->stream)
        cudaStreamDestroy(b->stream);
    free(b->taken);
    free(b);
}

void *bridge_stream(struct bridge *b)
{
    return b->stream;
}

const char *bridge_error(struct bridge *b)
{
    return b->failed ? b->error : NULL;
}

const char *bridge_device_name(struct bridge *b)
{
    return b->name;
}

size_t bridge_device_free(struct bridge *b)
{
    size_t available = 0, total = 0;
    if (b->failed || !went_well(b, cudaMemGetInfo(&available, &total), "the device's memory cannot be asked"))
        return 0;
    return available;
}

/* --- device memory ------------------------------------------------------------------------------------------ */

static bool remember(struct bridge *b, void *memory, size_t bytes)
{
    if (b->taken_count == b->taken_room) {
        size_t room = b->taken_room ? 2 * b->taken_room : 256;
        struct taken *grown = realloc(b->taken, room * sizeof *grown);
        if (!grown)
            return false;
        b->taken = grown;
        b->taken_room = room;
    }
    b->taken[b->taken_count++] = (struct taken){memory, bytes};
    return true;
}

void *bridge_take(struct bridge *b, size_t bytes)
{
    void *memory = NULL;
    if (b->failed || !went_well(b, cudaMalloc(&memory, bytes ? bytes : 1), "the device's memory does not suffice"))
        return NULL;
    b->stats.allocations++;
    if (!remember(b, memory, bytes)) {
        cudaFree(memory);
        went_well(b, cudaErrorMemoryAllocation, "the host's memory does not suffice");
        return NULL;
    }
    b->stats.device_bytes += bytes;
    went_well(b, cudaMemsetAsync(memory, 0, bytes, b->stream), "the device's memory cannot be cleared");
    return memory;
}

void bridge_give(struct bridge *b, void *memory)
{
    size_t i = b->taken_count;
    while (i > 0 && b->taken[i - 1].memory != memory)
        i--;
    if (!memory || i == 0)
        return;
    size_t bytes = b->taken[i - 1].bytes;
    b->taken[i - 1] = b->taken[--b->taken_count];
    b->stats.device_bytes -= bytes;
    b->stats.frees++;
    cudaMemsetAsync(memory, 0, bytes, b->stream);
    cudaStreamSynchronize(b->stream);
    cudaFree(memory);
}

/* --- crossings outside of a step ------------------------------------------------------------------------------ */

static bool cross(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n,
                  enum cudaMemcpyKind way)
{
    uint64_t since = now_ns();
    if (b->failed || !went_well(b, cudaMemcpyAsync(dst, src, n, way, b->stream), "a copy across the bridge") ||
        !went_well(b, cudaStreamSynchronize(b->stream), "waiting for the device"))
        return false;
    count(b, class_, n, since);
    return true;
}

bool bridge_send(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n)
{
    return cross(b, class_, dst, src, n, cudaMemcpyHostToDevice);
}

bool bridge_recv(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n)
{
    return cross(b, class_, dst, src, n, cudaMemcpyDeviceToHost);
}

/* --- the way in ------------------------------------------------------------------------------------------------ */

static uint8_t *take_pinned(struct bridge *b, size_t bytes)
{
    void *memory = NULL;
    if (!went_well(b, cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinned memory for a step"))
        return NULL;
    b->stats.allocations++;
    return memory;
}

/* Larger buffers; the bytes staged so far move along. */
static bool grow_stage(struct bridge *b, size_t need)
{
    size_t room = b->stage_room ? b->stage_room : FIRST_BYTES;
    while (room < need)
        room *= 2;
    if (!went_well(b, cudaStreamSynchronize(b->stream), "waiting for the device"))
        return false;
    for (int i = 0; i < HALVES; i++) {
        uint8_t *grown = take_pinned(b, room);
        if (!grown)
            return false;
        if (b->half[i].host && i == b->current)
            memcpy(grown, b->half[i].host, b->staged);
        free_pinned(b, b->half[i].host, b->stage_room);
        b->half[i].host = grown;
        if (i + 1 < HALVES)
            continue;
        bridge_give(b, b->staged_device);
        b->staged_device = bridge_take(b, room);
    }
    b->stage_room = room;
    return b->staged_device != NULL;
}

void bridge_step_begin(struct bridge *b)
{
    uint64_t since = now_ns();
    b->current = (b->current + 1) % HALVES;
    b->staged = 0;
    if (b->failed)
        return;
    went_well(b, cudaEventSynchronize(b->half[b->current].crossed), "waiting for an earlier step");
    b->stats.of[BRIDGE_STEP_IN].block_ns += now_ns() - since;
}

void *bridge_stage(struct bridge *b, size_t n, size_t *at)
{
    size_t from = (b->staged + ALIGN - 1) / ALIGN * ALIGN;
    if (b->failed || n > SIZE_MAX / 4 || (from + n > b->stage_room && !grow_stage(b, from + n)))
        return NULL;
    *at = from;
    b->staged = from + n;
    return b->half[b->current].host + from;
}

const void *bridge_step_commit(struct bridge *b)
{
    struct half *h = &b->half[b->current];
    uint64_t since = now_ns();
    if (b->failed || !h->host ||
        !went_well(b, cudaMemcpyAsync(b->staged_device, h->host, b->staged, cudaMemcpyHostToDevice, b->stream),
                   "the step's way in") ||
        !went_well(b, cudaEventRecord(h->crossed, b->stream), "the step's way in"))
        return NULL;
    count(b, BRIDGE_STEP_IN, b->staged, since);
    return b->staged_device;
}

/* --- the way out ------------------------------------------------------------------------------------------------ */

bool bridge_drain_submit(struct bridge *b, enum bridge_class class_, const void *src, size_t n)
{
    if (b->failed)
        return false;
    if (n > b->drain_room) {
        size_t room = b->drain_room ? b->drain_room : FIRST_BYTES;
        while (room < n)
            room *= 2;
        if (!went_well(b, cudaStreamSynchronize(b->stream), "waiting for the device"))
            return false;
        free_pinned(b, b->drained, b->drain_room);
        b->drained = take_pinned(b, room);
        b->drain_room = b->drained ? room : 0;
        if (!b->drained)
            return false;
    }
    b->drain_class = class_;
    b->drain_bytes = n;
    return went_well(b, cudaMemcpyAsync(b->drained, src, n, cudaMemcpyDeviceToHost, b->stream), "the step's way out") &&
           went_well(b, cudaEventRecord(b->drain_done, b->stream), "the step's way out");
}

const void *bridge_drain_wait(struct bridge *b)
{
    uint64_t since = now_ns();
    if (b->failed || !went_well(b, cudaEventSynchronize(b->drain_done), "waiting for the step"))
        return NULL;
    count(b, b->drain_class, b->drain_bytes, since);
    return b->drained;
}

void bridge_stats(const struct bridge *b, struct bridge_stats *out)
{
    *out = b->stats;
}
