/* blocks.h - a pool of KV blocks: who holds which, which are free, and which hold a known prefix.
 *
 * A block is held by any number of sequences. One that nobody holds is free: if it holds a named prefix it stays
 * findable until it is needed (least recently freed goes first), else it is wiped at once. Wiping happens through
 * `zero` before a block changes hands, so no sequence ever sees another's keys and values.
 * Block 0 is never handed out: tables use it where nothing is (behind a sliding window).
 * Pure but for `zero`; one thread. Every call is O(1), blocks_forget() and opening O(count). */
#ifndef ENGINE_BLOCKS_H
#define ENGINE_BLOCKS_H

#include "verifier/base/span.h"

#define BLOCKS_NULL 0

/* 128 bits of a keyed hash (prefix.h). */
struct blocks_key {
    uint8_t byte[16];
};

struct blocks_entry {
    uint32_t holders;
    bool named;
    struct blocks_key key;
    int32_t before, after; /* in the free list; -1 at its ends */
    int32_t same;          /* next of the same hash bucket; -1 */
};

struct blocks {
    struct blocks_entry *entry; /* owned */
    int32_t *bucket;            /* owned; first block of each hash bucket, -1 none */
    uint32_t count, free, bucket_mask;
    int32_t first, last; /* free list: the first is taken next */
    void (*zero)(void *ctx, int32_t block);
    void *ctx;
};

/* `count` blocks (2 to 2^30), numbers 1 to count-1 usable. False when memory is short. `zero` may be NULL. */
MUST_CHECK bool blocks_init(struct blocks *b, uint32_t count, void (*zero)(void *ctx, int32_t block), void *ctx);
void blocks_release(struct blocks *b); /* wipes the keys; the KV is its owner's to wipe */

/* A wiped block with one holder, or BLOCKS_NULL when none is free. */
MUST_CHECK int32_t blocks_take(struct blocks *b);
/* One holder more; a free block leaves the free list as it is. */
void blocks_hold(struct blocks *b, int32_t block);
/* One holder less. The last one frees it: it goes to the end of the free list, unless it has no name or `forget`. */
void blocks_drop(struct blocks *b, int32_t block, bool forget);

/* Give a held block, now full, its prefix's key. Nothing happens if it has one. Several blocks may bear one key. */
void blocks_name(struct blocks *b, int32_t block, const struct blocks_key *key);
/* A block of that name, held or free, or BLOCKS_NULL. */
int32_t blocks_find(const struct blocks *b, const struct blocks_key *key);
/* Take every name away and wipe all free blocks. */
void blocks_forget(struct blocks *b);

#endif
