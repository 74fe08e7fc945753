/* tokenizer_index.c - two open-addressing tables: pieces by their bytes, merges by the pair of ids.
 * Both stay at most half full. Keys come from a model's own vocabulary, never from a request, so a fixed hash is
 * enough. */
#include <stdlib.h>

#include "engine/tokenizer_internal.h"

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint64_t hash_text(struct span text)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ text.len, chunk;
    size_t at = 0;
    for (; at + sizeof chunk <= text.len; at += sizeof chunk) {
        memcpy(&chunk, text.data + at, sizeof chunk);
        h = mix(h ^ chunk);
    }
    chunk = 0;
    if (at < text.len)
        memcpy(&chunk, text.data + at, text.len - at);
    return mix(h ^ chunk);
}

static size_t slots_for(size_t count)
{
    size_t size = 16;
    while (size < 2 * count + 2)
        size *= 2;
    return size;
}

bool text_index_init(struct text_index *index, size_t count)
{
    size_t size = slots_for(count);
    index->slots = malloc(size * sizeof *index->slots);
    if (!index->slots)
        return false;
    memset(index->slots, 0xff, size * sizeof *index->slots);
    index->mask = size - 1;
    return true;
}

/* Where `text` of that hash is, or the free slot where it would be. */
static struct text_slot *text_slot(const struct text_index *index, const struct span *texts, struct span text,
                                   uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t i = hash & index->mask;; i = (i + 1) & index->mask) {
        struct text_slot *s = &index->slots[i];
        if (s->id < 0 || (s->tag == tag && span_equal(texts[s->id], text)))
            return s;
    }
}

uint64_t text_index_start(const struct text_index *index, struct span text)
{
    uint64_t hash = hash_text(text);
    __builtin_prefetch(&index->slots[hash & index->mask]);
    return hash;
}

int32_t text_index_finish(const struct text_index *index, const struct span *texts, struct span text, uint64_t hash)
{
    return text_slot(index, texts, text, hash)->id;
}

int32_t text_index_find(const struct text_index *index, const struct span *texts, struct span text)
{
    return text_slot(index, texts, text, hash_text(text))->id;
}

bool text_index_add(struct text_index *index, const struct span *texts, int32_t id)
{
    uint64_t hash = hash_text(texts[id]);
    struct text_slot *slot = text_slot(index, texts, texts[id], hash);
    if (slot->id >= 0)
        return false;
    *slot = (struct text_slot){id, (uint32_t)(hash >> 32)};
    return true;
}

static struct pair *pair_slot(const struct pair_index *index, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = mix(key) & index->mask;; i = (i + 1) & index->mask) {
        struct pair *p = &index->slots[i];
        if (p->left < 0 || (p->left == left && p->right == right))
            return p;
    }
}

static bool pair_slots(struct pair_index *index, size_t size)
{
    index->slots = malloc(size * sizeof *index->slots);
    if (!index->slots)
        return false;
    for (size_t i = 0; i < size; i++)
        index->slots[i].left = -1;
    index->mask = size - 1;
    return true;
}

bool pair_index_init(struct pair_index *index, size_t count)
{
    index->count = 0;
    return pair_slots(index, slots_for(count));
}

static bool pair_index_grow(struct pair_index *index)
{
    struct pair_index old = *index;
    if (!pair_slots(index, 2 * (old.mask + 1))) {
        *index = old;
        return false;
    }
    for (size_t i = 0; i <= old.mask; i++)
        if (old.slots[i].left >= 0)
            *pair_slot(index, old.slots[i].left, old.slots[i].right) = old.slots[i];
    free(old.slots);
    return true;
}

bool pair_index_add(struct pair_index *index, struct pair pair)
{
    if (2 * (index->count + 1) > index->mask + 1 && !pair_index_grow(index))
        return false;
    struct pair *slot = pair_slot(index, pair.left, pair.right);
    if (slot->left < 0) {
        *slot = pair;
        index->count++;
    }
    return true;
}

const struct pair *pair_index_find(const struct pair_index *index, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return NULL;
    const struct pair *p = pair_slot(index, left, right);
    return p->left < 0 ? NULL : p;
}
