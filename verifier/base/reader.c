#include "verifier/base/reader.h"

#include "verifier/base/utf8.h"

const char *reader_err_name(enum reader_err err)
{
    static const char *const names[] = {"ok",   "truncated", "trailing", "type",  "minimal",  "key",
                                        "size", "range",     "text",     "value", "duplicate"};
    return (size_t)err < sizeof names / sizeof *names ? names[err] : "unknown";
}

void reader_fail(struct reader *r, enum reader_err err)
{
    if (r->err == READER_OK)
        r->err = err;
    r->rest = span_of(NULL, 0);
}

struct span reader_span(struct reader *r, size_t len)
{
    if (r->err != READER_OK || len > r->rest.len) {
        reader_fail(r, READER_TRUNCATED);
        return span_of(NULL, 0);
    }
    struct span s = span_of(r->rest.data, len);
    if (len > 0)
        r->rest = span_of(r->rest.data + len, r->rest.len - len);
    return s;
}

void reader_copy(struct reader *r, void *out, size_t len)
{
    struct span s = reader_span(r, len);
    if (s.len == len && len > 0)
        memcpy(out, s.data, len);
    else
        memset(out, 0, len);
}

static uint64_t read_be(struct reader *r, size_t len)
{
    struct span s = reader_span(r, len);
    uint64_t value = 0;
    for (size_t i = 0; i < s.len; i++)
        value = value << 8 | s.data[i];
    return value;
}

static uint64_t read_le(struct reader *r, size_t len)
{
    struct span s = reader_span(r, len);
    uint64_t value = 0;
    for (size_t i = s.len; i-- > 0;)
        value = value << 8 | s.data[i];
    return value;
}

uint8_t reader_u8(struct reader *r)
{
    return (uint8_t)read_be(r, 1);
}
uint16_t reader_u16be(struct reader *r)
{
    return (uint16_t)read_be(r, 2);
}
uint32_t reader_u32be(struct reader *r)
{
    return (uint32_t)read_be(r, 4);
}
uint64_t reader_u64be(struct reader *r)
{
    return read_be(r, 8);
}
uint16_t reader_u16le(struct reader *r)
{
    return (uint16_t)read_le(r, 2);
}
uint32_t reader_u32le(struct reader *r)
{
    return (uint32_t)read_le(r, 4);
}
uint64_t reader_u64le(struct reader *r)
{
    return read_le(r, 8);
}

bool reader_end(struct reader *r)
{
    if (r->err == READER_OK && r->rest.len > 0)
        reader_fail(r, READER_TRAILING);
    return r->err == READER_OK;
}

/* --- msgpack ----------------------------------------------------------------------------------- */

/* A length or number of `width` bytes that must not have fitted a form whose largest value is `below`. */
static uint64_t read_wide(struct reader *r, size_t width, uint64_t below)
{
    uint64_t value = read_be(r, width);
    if (r->err == READER_OK && value <= below)
        reader_fail(r, READER_MINIMAL);
    return r->err == READER_OK ? value : 0;
}

static uint8_t peek_byte(const struct reader *r)
{
    return r->err == READER_OK && r->rest.len > 0 ? r->rest.data[0] : 0xc1; /* c1: never used by msgpack */
}

enum reader_kind {
    READER_IS_OTHER,
    READER_IS_NIL,
    READER_IS_MAP,
    READER_IS_LIST,
    READER_IS_BIN,
    READER_IS_TEXT,
    READER_IS_UINT,
    READER_IS_BOOL
};

/* What kind of value comes next. */
static enum reader_kind peek(const struct reader *r)
{
    uint8_t b = peek_byte(r);
    if (b == 0xc0)
        return READER_IS_NIL;
    if ((b & 0xf0) == 0x80 || b == 0xde || b == 0xdf)
        return READER_IS_MAP;
    if ((b & 0xf0) == 0x90 || b == 0xdc || b == 0xdd)
        return READER_IS_LIST;
    if (b >= 0xc4 && b <= 0xc6)
        return READER_IS_BIN;
    if ((b & 0xe0) == 0xa0 || (b >= 0xd9 && b <= 0xdb))
        return READER_IS_TEXT;
    if (b < 0x80 || (b >= 0xcc && b <= 0xcf))
        return READER_IS_UINT;
    if (b == 0xc2 || b == 0xc3)
        return READER_IS_BOOL;
    return READER_IS_OTHER;
}

/* Take the head byte of a value of kind `want`. */
static uint8_t take_head(struct reader *r, enum reader_kind want)
{
    if (r->err == READER_OK && r->rest.len == 0)
        reader_fail(r, READER_TRUNCATED);
    if (r->err == READER_OK && peek(r) != want)
        reader_fail(r, READER_TYPE);
    return reader_u8(r);
}

static uint64_t container_count(struct reader *r, enum reader_kind kind)
{
    uint8_t head = take_head(r, kind);
    if (r->err != READER_OK)
        return 0;
    if (head == 0xde || head == 0xdc)
        return read_wide(r, 2, 15);
    if (head == 0xdf || head == 0xdd)
        return read_wide(r, 4, 0xffff);
    return head & 0x0f;
}

static uint64_t bytes_len(struct reader *r, enum reader_kind kind)
{
    uint8_t head = take_head(r, kind);
    if (r->err != READER_OK)
        return 0;
    switch (head) {
    case 0xc4: { /* bin 8 is bin's shortest form */
        return reader_u8(r);
    }
    case 0xd9:
        return read_wide(r, 1, 31);
    case 0xc5:
    case 0xda:
        return read_wide(r, 2, 0xff);
    case 0xc6:
    case 0xdb:
        return read_wide(r, 4, 0xffff);
    default:
        return head & 0x1f;
    }
}

void reader_map(struct reader *r, size_t keys)
{
    uint64_t count = container_count(r, READER_IS_MAP);
    if (r->err == READER_OK && count != keys)
        reader_fail(r, READER_KEY);
}

void reader_key(struct reader *r, const char *key)
{
    uint64_t len = bytes_len(r, READER_IS_TEXT);
    if (r->err == READER_OK && len != strlen(key)) {
        reader_fail(r, READER_KEY);
        return;
    }
    struct span got = reader_span(r, (size_t)len);
    if (r->err == READER_OK && !span_is(got, key))
        reader_fail(r, READER_KEY);
}

size_t reader_list(struct reader *r, size_t min, size_t max)
{
    uint64_t count = container_count(r, READER_IS_LIST);
    if (r->err == READER_OK && (count < min || count > max))
        reader_fail(r, READER_SIZE);
    return r->err == READER_OK ? (size_t)count : 0;
}

struct span reader_bin(struct reader *r, size_t min, size_t max)
{
    uint64_t len = bytes_len(r, READER_IS_BIN);
    if (r->err == READER_OK && (len < min || len > max))
        reader_fail(r, READER_SIZE);
    return reader_span(r, r->err == READER_OK ? (size_t)len : 0);
}

void reader_bin_copy(struct reader *r, void *out, size_t len)
{
    struct span s = reader_bin(r, len, len);
    if (s.len == len && len > 0)
        memcpy(out, s.data, len);
    else
        memset(out, 0, len);
}

struct span reader_text(struct reader *r, size_t min, size_t max)
{
    uint64_t len = bytes_len(r, READER_IS_TEXT);
    if (r->err == READER_OK && (len < min || len > max))
        reader_fail(r, READER_SIZE);
    struct span s = reader_span(r, r->err == READER_OK ? (size_t)len : 0);
    if (r->err == READER_OK && !utf8_is_printable(s))
        reader_fail(r, READER_TEXT);
    return r->err == READER_OK ? s : span_of(NULL, 0);
}

size_t reader_choice(struct reader *r, const char *const *names, size_t count)
{
    struct span s = reader_text(r, 0, 64);
    for (size_t i = 0; r->err == READER_OK && i < count; i++)
        if (span_is(s, names[i]))
            return i;
    reader_fail(r, READER_VALUE);
    return 0;
}

uint64_t reader_uint(struct reader *r, uint64_t min, uint64_t max)
{
    uint8_t head = take_head(r, READER_IS_UINT);
    uint64_t value = head;
    if (r->err != READER_OK)
        return 0;
    if (head == 0xcc)
        value = read_wide(r, 1, 0x7f);
    else if (head == 0xcd)
        value = read_wide(r, 2, 0xff);
    else if (head == 0xce)
        value = read_wide(r, 4, 0xffff);
    else if (head == 0xcf)
        value = read_wide(r, 8, 0xffffffff);
    if (r->err == READER_OK && (value < min || value > max))
        reader_fail(r, READER_RANGE);
    return r->err == READER_OK ? value : 0;
}

bool reader_bool(struct reader *r)
{
    return take_head(r, READER_IS_BOOL) == 0xc3 && r->err == READER_OK;
}

bool reader_nil(struct reader *r)
{
    if (peek(r) != READER_IS_NIL)
        return false;
    (void)reader_u8(r);
    return true;
}
