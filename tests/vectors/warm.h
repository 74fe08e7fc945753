/* warm.h - one cache for all cases of a walker, so that each case meets what the ones before left in it: a verdict with
 * it must be the verdict without. Small, so that facts also get lost on the way. */
#ifndef TESTS_VECTORS_WARM_H
#define TESTS_VECTORS_WARM_H

#include "verifier/cache.h"

#define WARM_BYTES (256u << 10)

static inline struct verifier_cache *warm_cache(void)
{
    static struct verifier_cache *cache; /* lives as long as the program */

    if (!cache)
        cache = verifier_cache_new(WARM_BYTES);
    return cache;
}

#endif
