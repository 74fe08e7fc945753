/* pool.h - threads that split one op at a time. The caller works too; the others are pinned to a CPU each, watch for
 * the next op for some tens of microseconds after one ends, then sleep in the kernel until woken: an idle pool costs
 * nothing. One caller at a time. Which thread runs which task is left open, so tasks must not depend on it. */
#ifndef KERNELS_POOL_H
#define KERNELS_POOL_H

#include <stdbool.h>
#include <stdint.h>

#define KERN_POOL_THREADS_MAX 256
#define KERN_POOL_TASKS_MAX INT32_MAX

struct kern_pool;

/* `threads` counts the caller; 0: one for each CPU this process may run on. NULL when memory or threads are short. */
struct kern_pool *kern_pool_open(int threads);
void kern_pool_close(struct kern_pool *pool); /* NULL is fine; no op may be running */
int kern_pool_threads(const struct kern_pool *pool);

/* Call task(ctx, i) once for each i in 0 .. tasks-1, on any threads, in any order; return when all have returned.
 * `tasks` is at most KERN_POOL_TASKS_MAX. */
void kern_pool_run(struct kern_pool *pool, void (*task)(void *ctx, int index), void *ctx, int tasks);

#endif
