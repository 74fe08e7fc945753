/* weights.c - chunks of large pages, in a list. */
#include "kernels/weights.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_LARGE ((size_t)2 << 20)
#define CHUNK_LEAST ((size_t)32 << 20)
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE of Linux 5.14; older headers lack it */

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
        w->used = w->faulted = 0;
    }
    uint8_t *at = w->chunk->data + w->used;
    w->used += bytes;
    w->taken += bytes;
    return at;
}

/* A kernel that does not know the call leaves the page to whoever writes it first. */
static void fault_page(void *first, int index)
{
    madvise((uint8_t *)first + (size_t)index * PAGE_LARGE, PAGE_LARGE, POPULATE_WRITE);
}

void kern_weights_fault(struct kern_weights *w, const uint8_t *end, struct kern_pool *pool)
{
    size_t upto = (size_t)(end - w->chunk->data);
    if (upto <= w->faulted)
        return;
    int pages = (int)((upto - w->faulted + PAGE_LARGE - 1) / PAGE_LARGE);
    kern_pool_run(pool, fault_page, w->chunk->data + w->faulted, pages);
    w->faulted += (size_t)pages * PAGE_LARGE;
}

void kern_weights_release(struct kern_weights *w)
{
    while (w->chunk) {
        struct kern_weights_chunk *next = w->chunk->next;
        munmap(w->chunk->map, w->chunk->map_bytes);
        free(w->chunk);
        w->chunk = next;
    }
    w->used = w->faulted = w->taken = 0;
}
