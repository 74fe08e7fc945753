/* cache.h - what one verification found out about bytes, kept for the next: that a key signed them, and what they say
 * once parsed. Such a fact holds whatever the time, the anchors, the rules and the purpose: those are looked at again
 * on every use, so a cache can make a verdict faster and never another one. Only facts of evidence that was accepted so
 * far are added; what was refused is not remembered. Facts are found by comparing all their bytes, no digest stands for
 * them.
 *
 * The caller owns a cache and passes it with the collateral (hw.h); without one, each call uses one of its own, so that
 * a certificate shared by eight devices is checked once. One thread at a time. Never more than its bound of memory: the
 * facts not used for longest go. */
#ifndef VERIFIER_CACHE_H
#define VERIFIER_CACHE_H

#include "verifier/signature.h"

#define VERIFIER_CACHE_BYTES (4u << 20) /* the default bound */

enum verifier_fact {
    VERIFIER_FACT_SIGNED = 1, /* key (and form), signed object; no value */
    VERIFIER_FACT_DOCUMENT,   /* Intel's signed JSON, parsed: json_t */
    VERIFIER_FACT_RIM,        /* a reference file: see rim.c */
    VERIFIER_FACT_STATUS,     /* issuer, an OCSP response that counts as its: see ocsp.c */
};

struct verifier_cache;

/* At most `bytes` of memory, 0: VERIFIER_CACHE_BYTES. NULL without memory. verifier_cache_free(); NULL is fine there.
 */
struct verifier_cache *verifier_cache_new(size_t bytes);
void verifier_cache_free(struct verifier_cache *cache);
/* Bytes in use, and how many facts. */
size_t verifier_cache_size(const struct verifier_cache *cache, size_t *count);

/* The key objects that go with it. */
struct verifier_keys *verifier_cache_keys(struct verifier_cache *cache);

/* Is the fact of these very bytes known? `*value`, which may be NULL, is borrowed until the next verifier_cache_add().
 */
bool verifier_cache_find(struct verifier_cache *cache, enum verifier_fact fact, struct span a, struct span b,
                         void **value);
/* Remember a fact. Takes `value` of `size` bytes, which `release` frees, whether it is kept or not; both may be NULL.
 */
void verifier_cache_add(struct verifier_cache *cache, enum verifier_fact fact, struct span a, struct span b,
                        void *value, size_t size, void (*release)(void *value));

/* verifier_keys_signed(), remembered. `whole` holds message and signature. Adds nothing: see
 * verifier_cache_signed_by().
 */
MUST_CHECK bool verifier_cache_check(struct verifier_cache *cache, const struct verifier_cert *by,
                                     enum verifier_chain_form form, struct span whole, struct span message,
                                     struct span signature);
/* Such a signature was accepted, and so was the certificate `by`. */
void verifier_cache_signed_by(struct verifier_cache *cache, const struct verifier_cert *by,
                              enum verifier_chain_form form, struct span whole);

#endif
