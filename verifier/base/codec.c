#include "verifier/base/codec.h"

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool codec_unhex(struct span text, uint8_t *out, size_t len)
{
    if (text.len / 2 != len || text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text.data[2 * i]), low = hex_digit(text.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

enum { BLANK = 64, PAD, WRONG }; /* beside the 64 digits */

static void base64_kinds(uint8_t kind[256])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    memset(kind, WRONG, 256);
    for (uint8_t i = 0; i < 64; i++)
        kind[(uint8_t)digits[i]] = i;
    kind['\n'] = kind['\r'] = kind['\t'] = kind[' '] = BLANK;
    kind['='] = PAD;
}

size_t codec_unbase64(struct span text, uint8_t *out, size_t cap)
{
    size_t len = 0, digits = 0, pads = 0, last;
    uint8_t kind[256];
    uint32_t bits = 0;

    base64_kinds(kind);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t k = kind[text.data[i]];

        if (k == BLANK)
            continue;
        if (k == PAD ? ++pads > 2 : k == WRONG || pads > 0)
            return 0;
        if (k == PAD)
            continue;
        bits = bits << 6 | k;
        if (++digits % 4 != 0)
            continue;
        if (cap - len < 3)
            return 0;
        out[len++] = (uint8_t)(bits >> 16);
        out[len++] = (uint8_t)(bits >> 8);
        out[len++] = (uint8_t)bits;
    }
    last = pads ? 3 - pads : 0; /* bytes in a group that is filled up */
    if ((digits + pads) % 4 != 0 || cap - len < last || (pads && (bits & ((1u << 2 * pads) - 1)) != 0))
        return 0;
    bits <<= 6 * pads;
    for (size_t i = 0; i < last; i++)
        out[len++] = (uint8_t)(bits >> (16 - 8 * i));
    return len;
}
