/* crew.h - threads for one long job in many equal parts: reading, hashing, decrypting a model. They live as long as the
 * job. */
#ifndef ENGINE_CREW_H
#define ENGINE_CREW_H

#include <stdbool.h>
#include <stdint.h>

#include "verifier/base/span.h"

/* Call work(ctx, i) for every i below `count` from this thread and one for each other CPU that the process may run on;
 * stops early when one returns false, and is false then. `tick`, unless NULL, is called on this thread only, with how
 * many are done: after calls of its own, and at the end. */
MUST_CHECK bool engine_crew(uint64_t count, bool (*work)(void *ctx, uint64_t i), void (*tick)(void *ctx, uint64_t done),
                            void *ctx);

#endif
