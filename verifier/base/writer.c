#include "verifier/base/writer.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void writer_release(struct writer *w)
{
    if (w->data) {
        OPENSSL_cleanse(w->data, w->cap);
        free(w->data);
    }
    *w = writer_with_max(w->max);
}

void writer_reset(struct writer *w)
{
    if (w->data)
        OPENSSL_cleanse(w->data, w->cap);
    w->len = 0;
    w->bad = false;
}

/* Room for `more` bytes, or the writer turns bad. */
static bool reserve(struct writer *w, size_t more)
{
    if (w->bad || w->len > w->max || more > w->max - w->len) {
        w->bad = true;
        return false;
    }
    size_t need = w->len + more;
    if (need <= w->cap)
        return true;
    size_t cap = w->cap ? w->cap : 256;
    while (cap < need)
        cap *= 2;
    if (cap > w->max)
        cap = w->max;
    uint8_t *grown = malloc(cap);
    if (!grown) {
        w->bad = true;
        return false;
    }
    if (w->len > 0)
        memcpy(grown, w->data, w->len);
    if (w->data) {
        OPENSSL_cleanse(w->data, w->cap);
        free(w->data);
    }
    w->data = grown;
    w->cap = cap;
    return true;
}

void writer_bytes(struct writer *w, struct span s)
{
    if (s.len == 0 || !reserve(w, s.len))
        return;
    memcpy(w->data + w->len, s.data, s.len);
    w->len += s.len;
}

static void write_be(struct writer *w, uint64_t v, size_t width)
{
    uint8_t b[8];
    for (size_t i = 0; i < width; i++)
        b[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    writer_bytes(w, span_of(b, width));
}

void writer_u8(struct writer *w, uint8_t v)
{
    write_be(w, v, 1);
}
void writer_u16be(struct writer *w, uint16_t v)
{
    write_be(w, v, 2);
}
void writer_u32be(struct writer *w, uint32_t v)
{
    write_be(w, v, 4);
}
void writer_u64be(struct writer *w, uint64_t v)
{
    write_be(w, v, 8);
}
void writer_str(struct writer *w, const char *text)
{
    writer_bytes(w, span_str(text));
}
void writer_lp(struct writer *w, struct span s)
{
    if (s.len > UINT32_MAX) {
        w->bad = true;
        return;
    }
    writer_u32be(w, (uint32_t)s.len);
    writer_bytes(w, s);
}
void writer_lp_str(struct writer *w, const char *text)
{
    writer_lp(w, span_str(text));
}

void writer_printf(struct writer *w, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    if (len < 0) {
        w->bad = true;
    } else if (reserve(w, (size_t)len + 1)) { /* vsnprintf wants room for its NUL, which is not kept */
        (void)vsnprintf((char *)w->data + w->len, (size_t)len + 1, format, again);
        w->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

/* --- msgpack ----------------------------------------------------------------------------------- */

/* Head of a value whose size or number is `n`: the one-byte form up to `fix_max`, else the widths that exist. */
static void head(struct writer *w, uint64_t n, uint8_t fix, uint64_t fix_max, uint8_t h8, uint8_t h16, uint8_t h32)
{
    if (n <= fix_max) {
        writer_u8(w, (uint8_t)(fix | n));
    } else if (h8 && n <= 0xff) {
        writer_u8(w, h8);
        writer_u8(w, (uint8_t)n);
    } else if (n <= 0xffff) {
        writer_u8(w, h16);
        writer_u16be(w, (uint16_t)n);
    } else if (n <= 0xffffffff) {
        writer_u8(w, h32);
        writer_u32be(w, (uint32_t)n);
    } else {
        w->bad = true;
    }
}

void writer_map(struct writer *w, size_t keys)
{
    head(w, keys, 0x80, 15, 0, 0xde, 0xdf);
}
void writer_list(struct writer *w, size_t count)
{
    head(w, count, 0x90, 15, 0, 0xdc, 0xdd);
}
void writer_text(struct writer *w, struct span utf8)
{
    head(w, utf8.len, 0xa0, 31, 0xd9, 0xda, 0xdb);
    writer_bytes(w, utf8);
}
void writer_key(struct writer *w, const char *key)
{
    writer_text(w, span_str(key));
}
void writer_bin(struct writer *w, struct span s)
{
    if (s.len <= 0xff) {
        writer_u8(w, 0xc4);
        writer_u8(w, (uint8_t)s.len);
    } else {
        head(w, s.len, 0, 0, 0, 0xc5, 0xc6);
    }
    writer_bytes(w, s);
}
void writer_uint(struct writer *w, uint64_t v)
{
    if (v > 0xffffffff) {
        writer_u8(w, 0xcf);
        writer_u64be(w, v);
    } else {
        head(w, v, 0, 0x7f, 0xcc, 0xcd, 0xce);
    }
}
void writer_bool(struct writer *w, bool v)
{
    writer_u8(w, v ? 0xc3 : 0xc2);
}
void writer_nil(struct writer *w)
{
    writer_u8(w, 0xc0);
}
