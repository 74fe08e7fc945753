/* secret.h - memory for keys and other bytes that must not leave: locked against swap where the kernel
 * allows it, left out of core dumps, between two guard pages, wiped when released. Only libc and libcrypto. */
#ifndef VERIFIER_BASE_SECRET_H
#define VERIFIER_BASE_SECRET_H

#include "verifier/base/span.h"

struct secret {
    uint8_t *data; /* owned; NULL before secret_init() and after secret_release() */
    size_t len;
    void *map;
    size_t map_len;
};

/* `len` zero bytes; false when memory is short (then `*s` is empty). */
MUST_CHECK bool secret_init(struct secret *s, size_t len);
void secret_release(struct secret *s); /* wipes; safe on an empty secret */
static inline struct span secret_span(const struct secret *s)
{
    return span_of(s->data, s->len);
}
/* Constant-time comparison of equal-length bytes; different lengths are unequal. */
bool secret_equal(struct span a, struct span b);
/* Wipe bytes that are not in a `struct secret`. */
void secret_wipe(void *data, size_t len);

#endif
