/* cbor.h - a bounded cursor over CBOR (RFC 8949): integers below 2^63, byte and text strings of definite length, lists
 * and maps of definite or indefinite length. Sticky like base/reader.h: after a fault everything is empty. */
#ifndef VERIFIER_CBOR_H
#define VERIFIER_CBOR_H

#include "verifier/base/span.h"

struct cbor {
    struct span rest;
    bool bad;
};

static inline struct cbor cbor_over(struct span s)
{
    return (struct cbor){.rest = s, .bad = false};
}

uint64_t cbor_uint(struct cbor *c);
struct span cbor_bytes(struct cbor *c);
struct span cbor_text(struct cbor *c);
/* True, and consumes it, when null comes next. */
bool cbor_null(struct cbor *c);
/* True, and consumes it, when this tag comes next. */
bool cbor_tag(struct cbor *c, uint64_t tag);

/* A list or map that is being read: call cbor_more() before each element (map: each key). */
struct cbor_items {
    uint64_t left;
    bool open; /* of indefinite length */
};
struct cbor_items cbor_list(struct cbor *c);
struct cbor_items cbor_map(struct cbor *c);
/* False at the end (its break consumed) or when bad. */
bool cbor_more(struct cbor *c, struct cbor_items *items);
/* Nothing is left and nothing was wrong. */
bool cbor_end(const struct cbor *c);

#endif
