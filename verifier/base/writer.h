/* writer.h - a growing buffer born with its maximum; fixed-width integers and minimal msgpack.
 * A write that would pass the maximum, or an allocation that fails, turns the writer bad; it then drops
 * everything and `writer_ok` says so once at the end. Memory is wiped before it is freed or moved, so a
 * writer may hold secrets (but a `struct secret` is the place for keys). */
#ifndef VERIFIER_BASE_WRITER_H
#define VERIFIER_BASE_WRITER_H

#include "verifier/base/span.h"

struct writer {
    uint8_t *data; /* owned; freed by writer_release() */
    size_t len, cap, max;
    bool bad;
};

static inline struct writer writer_with_max(size_t max)
{
    return (struct writer){.max = max};
}
void writer_release(struct writer *w); /* wipes and frees; `*w` is empty and usable afterwards */
void writer_reset(struct writer *w);   /* wipes the content, keeps the memory, is good again */
static inline bool writer_ok(const struct writer *w)
{
    return !w->bad;
}
/* What was written: borrowed until the next write or release. Empty when bad. */
static inline struct span writer_span(const struct writer *w)
{
    return w->bad ? span_of(NULL, 0) : span_of(w->data, w->len);
}

void writer_bytes(struct writer *w, struct span s);
void writer_u8(struct writer *w, uint8_t v);
void writer_u16be(struct writer *w, uint16_t v);
void writer_u32be(struct writer *w, uint32_t v);
void writer_u64be(struct writer *w, uint64_t v);
void writer_str(struct writer *w, const char *text); /* the characters alone */
/* lp(x) of PROTOCOL.md: u32 big-endian length, then the bytes. */
void writer_lp(struct writer *w, struct span s);
void writer_lp_str(struct writer *w, const char *text);
void writer_printf(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- msgpack, always in its shortest form ------------------------------------------------------- */
void writer_map(struct writer *w, size_t keys);
void writer_list(struct writer *w, size_t count);
void writer_key(struct writer *w, const char *key);
void writer_text(struct writer *w, struct span utf8);
void writer_bin(struct writer *w, struct span s);
void writer_uint(struct writer *w, uint64_t v);
void writer_bool(struct writer *w, bool v);
void writer_nil(struct writer *w);

#endif
