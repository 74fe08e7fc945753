#include "verifier/cbor.h"

enum { UINT = 0, BYTES = 2, TEXT = 3, LIST = 4, MAP = 5, TAG = 6, SIMPLE = 7 };
#define BREAK 0xff
#define NUL 0xf6

static void fail(struct cbor *c)
{
    c->bad = true;
    c->rest = span_of(NULL, 0);
}

static void skip(struct cbor *c, size_t n)
{
    c->rest = span_of(c->rest.data + n, c->rest.len - n);
}

static bool next_is(const struct cbor *c, uint8_t byte)
{
    return c->rest.len > 0 && c->rest.data[0] == byte;
}

/* A head of this major type; its argument. `indefinite` NULL: must be definite. Arguments need not be minimal. */
static uint64_t head(struct cbor *c, uint8_t major, bool *indefinite)
{
    uint8_t low;
    size_t bytes;
    uint64_t v = 0;

    if (indefinite)
        *indefinite = false;
    if (c->rest.len == 0 || c->rest.data[0] >> 5 != major) {
        fail(c);
        return 0;
    }
    low = c->rest.data[0] & 31;
    skip(c, 1);
    if (low < 24)
        return low;
    if (low == 31 && indefinite) {
        *indefinite = true;
        return 0;
    }
    bytes = low <= 27 ? (size_t)1 << (low - 24) : 0;
    if (bytes == 0 || c->rest.len < bytes) {
        fail(c);
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | c->rest.data[i];
    skip(c, bytes);
    if (v >> 63)
        fail(c);
    return c->bad ? 0 : v;
}

static struct span string(struct cbor *c, uint8_t major)
{
    uint64_t len = head(c, major, NULL);
    struct span s;

    if (c->bad || len > c->rest.len) {
        fail(c);
        return c->rest;
    }
    s = span_of(c->rest.data, (size_t)len);
    skip(c, (size_t)len);
    return s;
}

uint64_t cbor_uint(struct cbor *c)
{
    return head(c, UINT, NULL);
}

struct span cbor_bytes(struct cbor *c)
{
    return string(c, BYTES);
}

struct span cbor_text(struct cbor *c)
{
    return string(c, TEXT);
}

bool cbor_null(struct cbor *c)
{
    if (!next_is(c, NUL))
        return false;
    skip(c, 1);
    return true;
}

bool cbor_tag(struct cbor *c, uint64_t tag)
{
    struct cbor ahead = *c;

    if (c->rest.len == 0 || c->rest.data[0] >> 5 != TAG || head(&ahead, TAG, NULL) != tag || ahead.bad)
        return false;
    *c = ahead;
    return true;
}

struct cbor_items cbor_list(struct cbor *c)
{
    struct cbor_items items;

    items.left = head(c, LIST, &items.open);
    return items;
}

struct cbor_items cbor_map(struct cbor *c)
{
    struct cbor_items items;

    items.left = head(c, MAP, &items.open);
    return items;
}

bool cbor_more(struct cbor *c, struct cbor_items *items)
{
    if (c->bad)
        return false;
    if (items->open) {
        if (!next_is(c, BREAK))
            return true;
        skip(c, 1);
        return false;
    }
    return items->left-- > 0;
}

bool cbor_end(const struct cbor *c)
{
    return !c->bad && c->rest.len == 0;
}
