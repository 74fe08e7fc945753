#include "verifier/der.h"

static struct span fail(struct der *d)
{
    d->bad = true;
    d->rest = span_of(NULL, 0);
    return d->rest;
}

/* The length octets (X.690 § 10.1: definite, shortest); false when malformed or longer than what is left. */
static bool take_length(struct der *d, size_t *len)
{
    const uint8_t *p = d->rest.data;
    size_t have = d->rest.len, octets;

    if (have < 1)
        return false;
    if (p[0] < 0x80) {
        *len = p[0];
        octets = 0;
    } else {
        octets = p[0] & 0x7f;
        if (octets < 1 || octets > 3 || have < 1 + octets || p[1] == 0)
            return false;
        *len = 0;
        for (size_t i = 1; i <= octets; i++)
            *len = *len << 8 | p[i];
        if (*len < 0x80)
            return false;
    }
    d->rest = span_of(p + 1 + octets, have - 1 - octets);
    return *len <= d->rest.len;
}

uint8_t der_any(struct der *d, struct span *content)
{
    uint8_t tag;
    size_t len;

    *content = span_of(NULL, 0);
    if (d->bad || d->rest.len == 0)
        return 0;
    tag = d->rest.data[0];
    d->rest = span_of(d->rest.data + 1, d->rest.len - 1);
    if ((tag & 0x1f) == 0x1f || tag == 0 || !take_length(d, &len)) {
        fail(d);
        return 0;
    }
    *content = span_of(d->rest.data, len);
    d->rest = span_of(d->rest.data + len, d->rest.len - len);
    return tag;
}

struct span der_take(struct der *d, uint8_t tag)
{
    struct span content;

    return der_any(d, &content) == tag ? content : fail(d);
}

uint32_t der_uint(struct der *d, uint8_t tag)
{
    struct span v = der_take(d, tag);
    uint32_t out = 0;

    if (d->bad)
        return 0;
    if (v.len == 0 || v.len > 5 || (v.data[0] & 0x80) || (v.len > 1 && v.data[0] == 0 && !(v.data[1] & 0x80)) ||
        (v.len == 5 && v.data[0] != 0)) {
        fail(d);
        return 0;
    }
    for (size_t i = 0; i < v.len; i++)
        out = out << 8 | v.data[i];
    return out;
}

bool der_end(const struct der *d)
{
    return !d->bad && d->rest.len == 0;
}
