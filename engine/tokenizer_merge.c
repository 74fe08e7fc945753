/* tokenizer_merge.c - one word to ids: start from its bytes or characters, then merge neighbours, the lowest
 * rank first and the leftmost of equals, until no pair merges. Short words scan for the best pair; long ones (a URL, a
 * script without spaces, an attack) keep candidates in a heap, so the work stays n log n. */
#include <stdlib.h>

#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_split.h"
#include "verifier/base/secret.h"

#define SHORT_SYMBOLS 24

/* A piece of the word: an id, or -1 for bytes that no piece shows. */
struct symbol {
    int32_t id;
    uint32_t at, len; /* bytes of the word; len 0: merged into its left neighbour */
};

/* --- short words -------------------------------------------------------------------------------- */

static uint32_t pair_rank(const struct engine_tokenizer *t, const struct symbol *left)
{
    const struct pair *p = pair_index_find(&t->pairs, left[0].id, left[1].id);
    return p ? p->rank : UINT32_MAX;
}

static size_t merge_short(const struct engine_tokenizer *t, struct symbol *s, size_t n)
{
    uint32_t ranks[SHORT_SYMBOLS];
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = pair_rank(t, s + i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == UINT32_MAX)
            break;
        s[best].id = pair_index_find(&t->pairs, s[best].id, s[best + 1].id)->result;
        s[best].len += s[best + 1].len;
        n--;
        memmove(s + best + 1, s + best + 2, (n - best - 1) * sizeof *s);
        memmove(ranks + best, ranks + best + 1, (n - best - 1) * sizeof *ranks);
        if (best + 1 < n)
            ranks[best] = pair_rank(t, s + best);
        if (best > 0)
            ranks[best - 1] = pair_rank(t, s + best - 1);
    }
    return n;
}

/* --- long words --------------------------------------------------------------------------------- */

struct candidate {
    uint32_t rank;
    uint32_t left;             /* index of the left symbol */
    int32_t left_id, right_id; /* what stood there: an older candidate no longer fits */
};

struct heap {
    struct candidate *c; /* owned */
    size_t count, cap;
};

static bool sooner(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static bool heap_push(struct heap *h, struct candidate c)
{
    if (h->count == h->cap) {
        size_t cap = h->cap ? h->cap + h->cap / 2 : 256;
        struct candidate *grown = malloc(cap * sizeof *grown);
        if (!grown)
            return false;
        if (h->c) {
            memcpy(grown, h->c, h->count * sizeof *grown);
            secret_wipe(h->c, h->count * sizeof *h->c);
        }
        free(h->c);
        h->c = grown;
        h->cap = cap;
    }
    size_t i = h->count++;
    for (; i > 0 && sooner(&c, &h->c[(i - 1) / 2]); i = (i - 1) / 2)
        h->c[i] = h->c[(i - 1) / 2];
    h->c[i] = c;
    return true;
}

static struct candidate heap_pop(struct heap *h)
{
    struct candidate top = h->c[0], last = h->c[--h->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && sooner(&h->c[child + 1], &h->c[child]))
            child++;
        if (!sooner(&h->c[child], &last))
            break;
        h->c[i] = h->c[child];
    }
    h->c[i] = last;
    return top;
}

/* Symbols of a long word, linked so that a merge costs nothing. */
struct links {
    uint32_t prev, next; /* UINT32_MAX: none */
};

static bool consider(const struct engine_tokenizer *t, struct heap *h, const struct symbol *s, uint32_t left,
                     uint32_t right)
{
    const struct pair *p = pair_index_find(&t->pairs, s[left].id, s[right].id);
    return !p || heap_push(h, (struct candidate){p->rank, left, s[left].id, s[right].id});
}

static bool merge_linked(const struct engine_tokenizer *t, struct symbol *s, struct links *links, size_t n,
                         struct heap *h)
{
    for (size_t i = 0; i < n; i++) {
        links[i].prev = i > 0 ? (uint32_t)(i - 1) : UINT32_MAX;
        links[i].next = i + 1 < n ? (uint32_t)(i + 1) : UINT32_MAX;
        if (i + 1 < n && !consider(t, h, s, (uint32_t)i, (uint32_t)(i + 1)))
            return false;
    }
    while (h->count > 0) {
        struct candidate c = heap_pop(h);
        uint32_t right = links[c.left].next;
        if (s[c.left].len == 0 || right == UINT32_MAX || s[c.left].id != c.left_id || s[right].id != c.right_id)
            continue; /* a neighbour has merged since */
        s[c.left].id = pair_index_find(&t->pairs, c.left_id, c.right_id)->result;
        s[c.left].len += s[right].len;
        s[right].len = 0;
        links[c.left].next = links[right].next;
        if (links[right].next != UINT32_MAX) {
            links[links[right].next].prev = c.left;
            if (!consider(t, h, s, c.left, links[right].next))
                return false;
        }
        if (links[c.left].prev != UINT32_MAX && !consider(t, h, s, links[c.left].prev, c.left))
            return false;
    }
    return true;
}

/* The symbols left, or 0 when memory is short. */
static size_t merge_long(const struct engine_tokenizer *t, struct symbol *s, size_t n)
{
    struct links *links = malloc(n * sizeof *links);
    struct heap heap = {0};
    size_t left = 0;
    if (links && merge_linked(t, s, links, n, &heap))
        for (size_t i = 0; i < n; i++)
            if (s[i].len > 0)
                s[left++] = s[i];
    if (heap.c)
        secret_wipe(heap.c, heap.cap * sizeof *heap.c);
    free(heap.c);
    free(links);
    return left;
}

/* --- words -------------------------------------------------------------------------------------- */

/* Byte-level BPE starts from bytes; a byte without a piece stays -1 and is left out of the result, as the models' own
 * tokenizers do. SentencePiece starts from characters; one without a piece becomes its bytes' pieces. */
static size_t first_symbols(const struct engine_tokenizer *t, struct span word, struct symbol *s)
{
    size_t n = 0, len = 1;
    for (size_t at = 0; at < word.len; at += len) {
        int32_t id;
        if (t->family == ENGINE_VOCAB_BPE) {
            id = t->byte_ids[word.data[at]];
        } else {
            (void)tokenizer_char(word, at, &len);
            id = text_index_find(&t->by_text, t->names, span_of(word.data + at, len));
        }
        s[n++] = (struct symbol){id, (uint32_t)at, (uint32_t)len};
    }
    return n;
}

static enum engine_err add_symbol(const struct engine_tokenizer *t, struct span word, const struct symbol *s,
                                  struct engine_tokens *out)
{
    enum engine_err err = ENGINE_OK;
    if (s->id >= 0)
        return engine_tokens_add(out, s->id);
    if (t->family == ENGINE_VOCAB_BPE)
        return ENGINE_OK;
    for (size_t i = 0; i < s->len && err == ENGINE_OK; i++) {
        int32_t byte = t->byte_ids[word.data[s->at + i]];
        if (byte >= 0)
            err = engine_tokens_add(out, byte);
        else if (i == 0 && t->unknown >= 0)
            return engine_tokens_add(out, t->unknown);
    }
    return err;
}

static enum engine_err merge_word(const struct engine_tokenizer *t, struct span word, struct engine_tokens *out)
{
    struct symbol few[SHORT_SYMBOLS], *s = few;
    if (word.len > SHORT_SYMBOLS) {
        s = malloc(word.len * sizeof *s);
        if (!s)
            return ENGINE_E_MEMORY;
    }
    size_t n = first_symbols(t, word, s);
    n = n <= SHORT_SYMBOLS ? merge_short(t, s, n) : merge_long(t, s, n);
    enum engine_err err = n == 0 ? ENGINE_E_MEMORY : ENGINE_OK;
    for (size_t i = 0; i < n && err == ENGINE_OK; i++)
        err = add_symbol(t, word, &s[i], out);
    secret_wipe(s, s == few ? sizeof few : word.len * sizeof *s);
    if (s != few)
        free(s);
    return err;
}

/* Most words of a text are pieces themselves, and nearly always merging gives just that piece. Whether it does is a
 * property of the vocabulary: found out at the first meeting and kept. Racing threads find the same. */
static bool is_whole(const struct engine_tokenizer *t, int32_t id, struct span word)
{
    if (t->whole_first)
        return true;
    unsigned char known = atomic_load_explicit(&t->whole[id], memory_order_relaxed);
    if (known == 0) {
        struct engine_tokens ids = {.max = word.len};
        bool alone = merge_word(t, word, &ids) == ENGINE_OK && ids.count == 1 && ids.ids[0] == id;
        engine_tokens_release(&ids);
        known = alone ? 1 : 2;
        atomic_store_explicit(&t->whole[id], known, memory_order_relaxed);
    }
    return known == 1;
}

enum engine_err tokenizer_word(const struct engine_tokenizer *t, struct span word, struct engine_tokens *out)
{
    if (word.len <= t->longest) {
        const struct span *texts = t->family == ENGINE_VOCAB_BPE ? t->bytes : t->names;
        int32_t id = text_index_find(&t->by_text, texts, word);
        if (id >= 0 && is_whole(t, id, word))
            return engine_tokens_add(out, id);
    }
    return merge_word(t, word, out);
}
