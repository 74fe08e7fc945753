/* weights.h - one place for all the weights of a model: large pages, taken piece by piece, freed together. A decode
 * step walks all of it; small mappings of small pages would cost a fault of the address cache every few kilobytes. */
#ifndef KERNELS_WEIGHTS_H
#define KERNELS_WEIGHTS_H

#include "kernels/pool.h"

#include <stddef.h>
#include <stdint.h>

#define KERN_WEIGHTS_ALIGN 64

struct kern_weights_chunk;

struct kern_weights {                 /* zero is empty and usable */
    struct kern_weights_chunk *chunk; /* owned */
    size_t used;                      /* of the first chunk */
    size_t faulted;                   /* of it, from its start: large pages that are there already */
    size_t taken;                     /* bytes handed out, each rounded up to KERN_WEIGHTS_ALIGN */
};

/* `bytes` of zeros, 64-aligned, left out of core dumps; NULL when memory is short. Owned by `w`. */
uint8_t *kern_weights_take(struct kern_weights *w, size_t bytes);
/* Have the pages up to `end`, within the piece taken last, made now, each by one thread: two that come upon a new large
 * page together would both clear it. Costs time only where it was left out. */
void kern_weights_fault(struct kern_weights *w, const uint8_t *end, struct kern_pool *pool);
void kern_weights_release(struct kern_weights *w);

#endif
