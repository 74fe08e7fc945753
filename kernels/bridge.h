/* bridge.h - the one place where bytes cross between host and device, and where device memory is taken.
 *
 * In a confidential machine every crossing is encrypted and has a toll of hundreds of microseconds, so the crossings of
 * a step are counted and few: one in (bridge_stage, bridge_step_commit), one out (bridge_drain). Nothing else in this
 * repository may copy to or from a device or allocate on it; tests/lint/bridge.sh reads the sources for it.
 * One thread at a time. Everything runs on one stream, in order. The first failure stays: every later call does
 * nothing and returns false or NULL, bridge_error() says what it was. Only built with CUDA; others reach it through
 * the table of kernels/device.h. */
#ifndef KERNELS_BRIDGE_H
#define KERNELS_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum bridge_class {
    BRIDGE_WEIGHTS,      /* in, while a model is opened */
    BRIDGE_STEP_IN,      /* in, one a step: ids, positions, block tables, sampling parameters */
    BRIDGE_TOKENS_OUT,   /* out, one a step: chosen ids */
    BRIDGE_LOGPROBS_OUT, /* out, instead of TOKENS_OUT when log-probabilities were asked for */
    BRIDGE_KV_OUT,       /* keys and values to host memory */
    BRIDGE_KV_IN,        /* and back */
    BRIDGE_CONTROL,      /* tests and diagnosis: whole logits */
    BRIDGE_CLASSES
};

struct bridge_class_stats {
    uint64_t crossings, bytes;
    uint64_t block_ns,
        block_ns_max; /* the calling thread stood still for so long, in all and at most in one crossing */
};

struct bridge_stats {
    struct bridge_class_stats of[BRIDGE_CLASSES];
    uint64_t allocations, frees; /* of device and of pinned host memory */
    uint64_t device_bytes;       /* taken now */
};

#define BRIDGE_WHY_MAX 256

struct bridge;

/* `ordinal` of the device, as the driver counts. NULL with a sentence in `why`. */
struct bridge *bridge_open(int ordinal, char why[BRIDGE_WHY_MAX]);
void bridge_close(struct bridge *b);        /* wipes and frees all that was taken; NULL is fine */
void *bridge_stream(struct bridge *b);      /* a cudaStream_t: kernels go there */
const char *bridge_error(struct bridge *b); /* NULL: none yet. Borrowed until bridge_close() */
/* A CUDA status of somebody else's call on the stream: kept as the first failure unless it is 0. */
void bridge_note(struct bridge *b, int status, const char *what);
const char *bridge_device_name(struct bridge *b);
size_t bridge_device_free(struct bridge *b); /* bytes; 0 after a failure */

/* Zeroed device memory, 256-aligned, owned by the bridge until given back or closed; both wipe it. */
void *bridge_take(struct bridge *b, size_t bytes);
void bridge_give(struct bridge *b, void *memory); /* NULL is fine */

/* One crossing each, outside of a step. They return when `src` or `dst` belongs to the caller again. */
bool bridge_send(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n);
bool bridge_recv(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n);

/* --- a step's way in: pieces are gathered in pinned memory, then cross together --- */

void bridge_step_begin(struct bridge *b);
/* Room for `n` bytes, 16-aligned, to be filled before the commit; `*at` is their offset from what the commit returns.
 * Borrowed until the next bridge_stage(). Grows the buffers when they are too small, which a steady state never is. */
void *bridge_stage(struct bridge *b, size_t n, size_t *at);
/* The one crossing. Returns the device address of the first staged byte. Does not wait. */
const void *bridge_step_commit(struct bridge *b);

/* --- a step's way out --- */

/* Start the one crossing after everything that was queued. Does not wait. */
bool bridge_drain_submit(struct bridge *b, enum bridge_class class_, const void *src, size_t n);
/* Wait for it. Borrowed until the next bridge_drain_submit(); NULL after a failure. */
const void *bridge_drain_wait(struct bridge *b);

void bridge_stats(const struct bridge *b, struct bridge_stats *out);

#ifdef __cplusplus
}
#endif
#endif
