/* arena.c - chunks, the newest first. */
#include "engine/arena.h"

#include <stdlib.h>

#include "verifier/base/secret.h"

#define CHUNK 65536u

struct arena_chunk {
    struct arena_chunk *before;
    size_t size, used; /* of `bytes` */
    max_align_t bytes[];
};

void *arena_get(struct arena *a, size_t len)
{
    size_t align = sizeof(max_align_t), need = len > SIZE_MAX - align ? SIZE_MAX : (len + align - 1) / align * align;
    if (need > a->max || a->used > a->max - need)
        return NULL;
    if (!a->last || a->last->size - a->last->used < need) {
        size_t size = need > CHUNK ? need : CHUNK;
        struct arena_chunk *c = calloc(1, sizeof *c + size);
        if (!c)
            return NULL;
        c->before = a->last;
        c->size = size;
        a->last = c;
    }
    void *p = (uint8_t *)a->last->bytes + a->last->used;
    a->last->used += need;
    a->used += need;
    return p;
}

void arena_release(struct arena *a)
{
    while (a->last) {
        struct arena_chunk *c = a->last;
        a->last = c->before;
        secret_wipe(c->bytes, c->size);
        free(c);
    }
    a->used = 0;
}
