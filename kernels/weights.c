/* weights.c - chunks of large pages, in a list. */
#include "kernels/weights.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_LARGE ((size_t)2 << 20)
#define CHUNK_LEAST ((size_t)32 << 20)

struct kern_weights_chunk {
    struct kern_weights_chunk *next;
    void *map; /* what munmap() wants */
    size_t map_bytes;
    uint8_t *data; /* aligned to PAGE_LARGE */
    size_t bytes;
};

static struct kern_weights_chunk *open_chunk(size_t bytes)
{
    struct kern_weights_chunk *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->bytes = (bytes + PAGE_LARGE - 1) / PAGE_LARGE * PAGE_LARGE;
    c->map_bytes = c->bytes + PAGE_LARGE;
    c->map = mmap(NULL, c->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->map == MAP_FAILED) {
        free(c);
        return NULL;
    }
    c->data = (uint8_t *)(((uintptr_t)c->map + PAGE_LARGE - 1) / PAGE_LARGE * PAGE_LARGE);
    madvise(c->data, c->bytes, MADV_HUGEPAGE);
    madvise(c->map, c->map_bytes, MADV_DONTDUMP);
    return c;
}

uint8_t *kern_weights_take(struct kern_weights *w, size_t bytes)
{
    bytes = (bytes + KERN_WEIGHTS_ALIGN - 1) / KERN_WEIGHTS_ALIGN * KERN_WEIGHTS_ALIGN;
    if (bytes > SIZE_MAX / 4)
        return NULL;
    if (!w->chunk || bytes > w->chunk->bytes - w->used) {
        struct kern_weights_chunk *c = open_chunk(bytes > CHUNK_LEAST ? bytes : CHUNK_LEAST);
        if (!c)
            return NULL;
        c->next = w->chunk;
        w->chunk = c;
        w->used = 0;
    }
    uint8_t *at = w->chunk->data + w->used;
    w->used += bytes;
    w->taken += bytes;
    return at;
}

void kern_weights_release(struct kern_weights *w)
{
    while (w->chunk) {
        struct kern_weights_chunk *next = w->chunk->next;
        munmap(w->chunk->map, w->chunk->map_bytes);
        free(w->chunk);
        w->chunk = next;
    }
    w->used = w->taken = 0;
}
