#include "verifier/cache.h"

#include <stdlib.h>

#define BUCKETS 64

struct entry {
    struct entry *next; /* in its bucket */
    uint64_t used;      /* when, by the cache's own count */
    enum verifier_fact fact;
    size_t a_len, b_len, cost;
    void *value;
    void (*release)(void *value);
    uint8_t bytes[]; /* a, then b */
};

struct verifier_cache {
    struct verifier_keys keys;
    size_t max, size, count;
    uint64_t uses;
    struct entry *bucket[BUCKETS];
};

struct verifier_cache *verifier_cache_new(size_t bytes)
{
    struct verifier_cache *cache = calloc(1, sizeof *cache);

    if (cache)
        cache->max = bytes ? bytes : VERIFIER_CACHE_BYTES;
    return cache;
}

static void entry_free(struct entry *e)
{
    if (e->release)
        e->release(e->value);
    free(e);
}

void verifier_cache_free(struct verifier_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct entry *e = cache->bucket[i], *next; e; e = next) {
            next = e->next;
            entry_free(e);
        }
    verifier_keys_release(&cache->keys);
    free(cache);
}

size_t verifier_cache_size(const struct verifier_cache *cache, size_t *count)
{
    if (count)
        *count = cache->count;
    return cache->size;
}

struct verifier_keys *verifier_cache_keys(struct verifier_cache *cache)
{
    return &cache->keys;
}

/* By kind and length, and by the last bytes: of what is signed, the signature, which is as good as random. */
static struct entry **bucket_of(struct verifier_cache *cache, enum verifier_fact fact, struct span b)
{
    size_t sum = (size_t)fact * 7 + b.len;

    for (size_t i = b.len < 16 ? 0 : b.len - 16; i < b.len; i++)
        sum = sum * 31 + b.data[i];
    return &cache->bucket[sum % BUCKETS];
}

static bool is_entry(const struct entry *e, enum verifier_fact fact, struct span a, struct span b)
{
    return e->fact == fact && span_equal(span_of(e->bytes, e->a_len), a) &&
           span_equal(span_of(e->bytes + e->a_len, e->b_len), b);
}

bool verifier_cache_find(struct verifier_cache *cache, enum verifier_fact fact, struct span a, struct span b,
                         void **value)
{
    for (struct entry *e = *bucket_of(cache, fact, b); e; e = e->next)
        if (is_entry(e, fact, a, b)) {
            e->used = ++cache->uses;
            if (value)
                *value = e->value;
            return true;
        }
    return false;
}

static void forget_oldest(struct verifier_cache *cache)
{
    struct entry **oldest = NULL, *gone;

    for (size_t i = 0; i < BUCKETS; i++)
        for (struct entry **e = &cache->bucket[i]; *e; e = &(*e)->next)
            if (!oldest || (*e)->used < (*oldest)->used)
                oldest = e;
    if (!oldest)
        return;
    gone = *oldest;
    *oldest = gone->next;
    cache->size -= gone->cost;
    cache->count--;
    entry_free(gone);
}

void verifier_cache_add(struct verifier_cache *cache, enum verifier_fact fact, struct span a, struct span b,
                        void *value, size_t size, void (*release)(void *value))
{
    size_t cost = sizeof(struct entry) + a.len + b.len + size;
    struct entry *e = NULL, **bucket = bucket_of(cache, fact, b);

    if (cost <= cache->max && !verifier_cache_find(cache, fact, a, b, NULL))
        e = malloc(sizeof *e + a.len + b.len);
    if (!e) {
        if (release)
            release(value);
        return;
    }
    while (cache->size > cache->max - cost)
        forget_oldest(cache);
    *e = (struct entry){.next = *bucket,
                        .used = ++cache->uses,
                        .fact = fact,
                        .a_len = a.len,
                        .b_len = b.len,
                        .cost = cost,
                        .value = value,
                        .release = release};
    if (a.len > 0)
        memcpy(e->bytes, a.data, a.len);
    if (b.len > 0)
        memcpy(e->bytes + a.len, b.data, b.len);
    *bucket = e;
    cache->size += cost;
    cache->count++;
}

/* --- signatures ------------------------------------------------------------------------------------ */

/* The key as it stands in its certificate, and the form: one key must not vouch in another's form. */
struct signer {
    uint8_t bytes[1 + 1200];
    struct span span; /* empty: does not fit, and is not remembered */
};

static void signer_of(struct signer *s, const struct verifier_cert *by, enum verifier_chain_form form)
{
    s->span = span_of(NULL, 0);
    if (by->spki.len == 0 || by->spki.len >= sizeof s->bytes)
        return;
    s->bytes[0] = (uint8_t)form;
    memcpy(s->bytes + 1, by->spki.data, by->spki.len);
    s->span = span_of(s->bytes, 1 + by->spki.len);
}

bool verifier_cache_check(struct verifier_cache *cache, const struct verifier_cert *by, enum verifier_chain_form form,
                          struct span whole, struct span message, struct span signature)
{
    struct signer s;

    signer_of(&s, by, form);
    return (s.span.len > 0 && verifier_cache_find(cache, VERIFIER_FACT_SIGNED, s.span, whole, NULL)) ||
           verifier_keys_signed(&cache->keys, &by->key, form, message, signature);
}

void verifier_cache_signed_by(struct verifier_cache *cache, const struct verifier_cert *by,
                              enum verifier_chain_form form, struct span whole)
{
    struct signer s;

    signer_of(&s, by, form);
    if (s.span.len > 0)
        verifier_cache_add(cache, VERIFIER_FACT_SIGNED, s.span, whole, NULL, 0, NULL);
}
