/* arena.h - memory that is freed all at once: many small things of one parse or one render, under one limit. */
#ifndef ENGINE_ARENA_H
#define ENGINE_ARENA_H

#include "verifier/base/span.h"

struct arena {
    struct arena_chunk *last; /* owned */
    size_t used, max;         /* bytes handed out, and the limit */
};

/* Zeroed, aligned for anything, valid until the release. NULL past the limit or when memory is short. */
void *arena_get(struct arena *a, size_t len);
void arena_release(struct arena *a); /* wipes and frees; usable again */

#endif
