#include "engine/blocks.h"

#include <assert.h>
#include <stdlib.h>

#include "verifier/base/secret.h"

/* --- the free list: doubly linked through the entries -------------------------------------------- */

static void unlink_free(struct blocks *b, int32_t block)
{
    struct blocks_entry *e = &b->entry[block];
    if (e->before >= 0)
        b->entry[e->before].after = e->after;
    else
        b->first = e->after;
    if (e->after >= 0)
        b->entry[e->after].before = e->before;
    else
        b->last = e->before;
    b->free--;
}

static void link_last(struct blocks *b, int32_t block)
{
    struct blocks_entry *e = &b->entry[block];
    e->before = b->last;
    e->after = -1;
    if (b->last >= 0)
        b->entry[b->last].after = block;
    else
        b->first = block;
    b->last = block;
    b->free++;
}

static void link_first(struct blocks *b, int32_t block)
{
    struct blocks_entry *e = &b->entry[block];
    e->before = -1;
    e->after = b->first;
    if (b->first >= 0)
        b->entry[b->first].before = block;
    else
        b->last = block;
    b->first = block;
    b->free++;
}

/* --- names: a chained hash table; keys are hashes already, and secret-keyed ------------------------ */

static int32_t *bucket_of(const struct blocks *b, const struct blocks_key *key)
{
    uint32_t h;
    memcpy(&h, key->byte, sizeof h);
    return &b->bucket[h & b->bucket_mask];
}

static void unname(struct blocks *b, int32_t block)
{
    struct blocks_entry *e = &b->entry[block];
    if (!e->named)
        return;
    int32_t *at = bucket_of(b, &e->key);
    while (*at != block)
        at = &b->entry[*at].same;
    *at = e->same;
    e->named = false;
    e->same = -1;
    e->key = (struct blocks_key){{0}};
}

static void wipe(struct blocks *b, int32_t block)
{
    if (b->zero)
        b->zero(b->ctx, block);
}

/* --- the pool ---------------------------------------------------------------------------------- */

bool blocks_init(struct blocks *b, uint32_t count, void (*zero)(void *ctx, int32_t block), void *ctx)
{
    uint32_t buckets = 16;
    *b = (struct blocks){.first = -1, .last = -1, .zero = zero, .ctx = ctx};
    if (count < 2 || count > 1u << 30)
        return false;
    while (buckets < count)
        buckets *= 2;
    b->entry = calloc(count, sizeof *b->entry);
    b->bucket = malloc(buckets * sizeof *b->bucket);
    if (!b->entry || !b->bucket) {
        blocks_release(b);
        return false;
    }
    b->count = count;
    b->bucket_mask = buckets - 1;
    memset(b->bucket, 0xff, buckets * sizeof *b->bucket); /* -1 */
    for (uint32_t i = 1; i < count; i++) {
        b->entry[i].same = -1;
        link_last(b, (int32_t)i);
    }
    return true;
}

void blocks_release(struct blocks *b)
{
    if (b->entry)
        secret_wipe(b->entry, b->count * sizeof *b->entry);
    free(b->entry);
    free(b->bucket);
    *b = (struct blocks){.first = -1, .last = -1};
}

int32_t blocks_take(struct blocks *b)
{
    int32_t block = b->first;
    if (block < 0)
        return BLOCKS_NULL;
    unlink_free(b, block);
    if (b->entry[block].named) { /* what it held is forgotten; unnamed blocks were wiped when they were freed */
        unname(b, block);
        wipe(b, block);
    }
    b->entry[block].holders = 1;
    return block;
}

void blocks_hold(struct blocks *b, int32_t block)
{
    assert(block > 0 && (uint32_t)block < b->count);
    if (b->entry[block].holders++ == 0)
        unlink_free(b, block);
}

void blocks_drop(struct blocks *b, int32_t block, bool forget)
{
    assert(block > 0 && (uint32_t)block < b->count && b->entry[block].holders > 0);
    if (--b->entry[block].holders > 0)
        return;
    if (b->entry[block].named && !forget) {
        link_last(b, block);
        return;
    }
    unname(b, block);
    wipe(b, block);
    link_first(b, block); /* nothing is lost by taking it next */
}

void blocks_name(struct blocks *b, int32_t block, const struct blocks_key *key)
{
    assert(block > 0 && (uint32_t)block < b->count && b->entry[block].holders > 0);
    struct blocks_entry *e = &b->entry[block];
    if (e->named)
        return;
    int32_t *at = bucket_of(b, key);
    e->key = *key;
    e->named = true;
    e->same = *at;
    *at = block;
}

int32_t blocks_find(const struct blocks *b, const struct blocks_key *key)
{
    for (int32_t i = *bucket_of(b, key); i >= 0; i = b->entry[i].same)
        if (memcmp(b->entry[i].key.byte, key->byte, sizeof key->byte) == 0)
            return i;
    return BLOCKS_NULL;
}

void blocks_forget(struct blocks *b)
{
    for (uint32_t i = 1; i < b->count; i++) {
        bool was_named = b->entry[i].named;
        unname(b, (int32_t)i);
        if (was_named && b->entry[i].holders == 0)
            wipe(b, (int32_t)i);
    }
}
