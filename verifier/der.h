/* der.h - a bounded cursor over DER (X.690): definite, minimal lengths, single-byte tags. For the few structures
 * inside certificate extensions; certificates themselves are chain.h's. Never allocates, never reads outside. */
#ifndef VERIFIER_DER_H
#define VERIFIER_DER_H

#include "verifier/base/span.h"

enum der_tag {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_OCTETS = 0x04,
    DER_OID = 0x06,
    DER_ENUMERATED = 0x0a,
    DER_IA5 = 0x16,
    DER_SEQUENCE = 0x30,
};

struct der {
    struct span rest;
    bool bad; /* sticky: after a fault everything is empty */
};

static inline struct der der_over(struct span s)
{
    return (struct der){.rest = s, .bad = false};
}

/* The next element's content, which must have `tag`; borrowed. Empty and bad otherwise. */
struct span der_take(struct der *d, uint8_t tag);
/* Whatever comes next: its tag (0 when bad or at the end) and its content. */
uint8_t der_any(struct der *d, struct span *content);
/* A non-negative INTEGER (or ENUMERATED) of at most 4 bytes' value, minimal. */
uint32_t der_uint(struct der *d, uint8_t tag);
/* True when nothing is left and nothing was wrong. */
bool der_end(const struct der *d);

#endif
