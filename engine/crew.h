/* crew.h - one long job in many equal parts that may fail: reading, hashing, decrypting a model. A pool of threads
 * lives as long as the job. */
#ifndef ENGINE_CREW_H
#define ENGINE_CREW_H

#include <stdbool.h>
#include <stdint.h>

#include "verifier/base/span.h"

/* Call work(ctx, i) for every i below `count` (at most KERN_POOL_TASKS_MAX), from this thread and one for each other
 * CPU that the process may run on; once one returns false no other begins, and the result is false. `tick`, unless
 * NULL, is called on this thread only, with how many are done: after calls of its own, and at the end. */
MUST_CHECK bool engine_crew(uint64_t count, bool (*work)(void *ctx, uint64_t i), void (*tick)(void *ctx, uint64_t done),
                            void *ctx);

#endif
