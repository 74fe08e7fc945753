/* span.h - bytes somebody else owns: a pointer and a length that travel together.
 * A span borrows; whoever hands it out says until when. No allocation, no I/O. */
#ifndef VERIFIER_BASE_SPAN_H
#define VERIFIER_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK __attribute__((warn_unused_result))

struct span {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

static inline struct span span_of(const void *data, size_t len)
{
    return (struct span){(const uint8_t *)data, len};
}

/* The characters of a C string, without its NUL. */
static inline struct span span_str(const char *text)
{
    return span_of(text, strlen(text));
}

/* Equal length and bytes. Not constant-time: for public bytes only; secrets use secret_equal(). */
static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool span_is(struct span s, const char *text)
{
    return span_equal(s, span_str(text));
}

static inline bool span_is_zero(struct span s)
{
    uint8_t any = 0;
    for (size_t i = 0; i < s.len; i++)
        any |= s.data[i];
    return any == 0;
}

#endif
