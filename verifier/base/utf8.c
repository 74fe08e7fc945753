#include "verifier/base/utf8.h"

static bool in(uint8_t byte, uint8_t low, uint8_t high)
{
    return byte >= low && byte <= high;
}

/* Length that the head byte announces and the range its second byte must be in (RFC 3629, 4); 0: no head byte. */
static size_t head_len(uint8_t b, uint8_t *low, uint8_t *high)
{
    *low = 0x80, *high = 0xbf;
    if (b < 0x80)
        return 1;
    if (in(b, 0xc2, 0xdf))
        return 2;
    if (in(b, 0xe0, 0xef)) {
        if (b == 0xe0)
            *low = 0xa0;
        if (b == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (in(b, 0xf0, 0xf4)) {
        if (b == 0xf0)
            *low = 0x90;
        if (b == 0xf4)
            *high = 0x8f;
        return 4;
    }
    return 0;
}

/* How many of the announced bytes are there and well-formed; `*len` gets the announced length. */
static size_t good_prefix(struct span s, size_t *len)
{
    uint8_t low, high;
    *len = s.len > 0 ? head_len(s.data[0], &low, &high) : 0;
    if (*len == 0)
        return 0;
    size_t good = 1;
    while (good < *len && good < s.len && in(s.data[good], good == 1 ? low : 0x80, good == 1 ? high : 0xbf))
        good++;
    return good;
}

size_t utf8_step(struct span s)
{
    size_t len;
    size_t good = good_prefix(s, &len);
    return good == len ? len : 0;
}

static bool all(struct span s, bool printable)
{
    while (s.len > 0) {
        size_t n = utf8_step(s);
        if (n == 0 || (printable && (s.data[0] < 0x20 || s.data[0] == 0x7f)))
            return false;
        s = span_of(s.data + n, s.len - n);
    }
    return true;
}

bool utf8_is_valid(struct span s)
{
    return all(s, false);
}

bool utf8_is_printable(struct span s)
{
    return all(s, true);
}

size_t utf8_tail(struct span s)
{
    for (size_t back = 1; back <= 3 && back <= s.len; back++) {
        struct span end = span_of(s.data + s.len - back, back);
        size_t len;
        size_t good = good_prefix(end, &len);
        if (good > 0 && good == back && len > back)
            return back;
    }
    return 0;
}
