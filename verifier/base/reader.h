/* reader.h - a bounded cursor over a stranger's bytes: fixed-width integers and msgpack.
 * A reader that meets a fault turns bad, remembers the first reason, and from then on yields zeros and
 * empty spans: a parser reads like its format and checks once. It never reads outside its span, never
 * allocates. msgpack is the subset of PROTOCOL.md § Encoding: maps with text keys in a fixed order, lists,
 * bin, str (UTF-8 without control characters), unsigned integers and bool, every length and number minimal. */
#ifndef VERIFIER_BASE_READER_H
#define VERIFIER_BASE_READER_H

#include "verifier/base/span.h"

enum reader_err {
    READER_OK = 0,
    READER_TRUNCATED, /* the bytes end inside a value */
    READER_TRAILING,  /* bytes left over after the last value */
    READER_TYPE,      /* another msgpack type than the format has here */
    READER_MINIMAL,   /* a number or length in a longer form than needed */
    READER_KEY,       /* a map key unknown, repeated, missing or out of order, or the wrong number of keys */
    READER_SIZE,      /* bin, str or list of another length than the format allows */
    READER_RANGE,     /* a number outside its range */
    READER_TEXT,      /* str that is not UTF-8 or has a control character */
    READER_VALUE,     /* a value outside its closed set */
    READER_DUPLICATE, /* an element that must be distinct, repeated */
};

struct reader {
    struct span rest;    /* not yet read */
    enum reader_err err; /* first fault, or READER_OK */
};

/* A short lower-case name, e.g. "truncated". */
const char *reader_err_name(enum reader_err err);

static inline struct reader reader_over(struct span s)
{
    return (struct reader){.rest = s, .err = READER_OK};
}

/* Record `err` unless a fault is already recorded. */
void reader_fail(struct reader *r, enum reader_err err);

uint8_t reader_u8(struct reader *r);
uint16_t reader_u16be(struct reader *r);
uint32_t reader_u32be(struct reader *r);
uint64_t reader_u64be(struct reader *r);
uint16_t reader_u16le(struct reader *r);
uint32_t reader_u32le(struct reader *r);
uint64_t reader_u64le(struct reader *r);
/* The next `len` bytes, borrowed from the input. */
struct span reader_span(struct reader *r, size_t len);
/* The next `len` bytes copied to `out`; zeros when they are not there. */
void reader_copy(struct reader *r, void *out, size_t len);
/* READER_TRAILING when bytes are left. True when the reader is good and at its end. */
bool reader_end(struct reader *r);

/* --- msgpack ----------------------------------------------------------------------------------- */

/* A map header that must announce exactly `keys` entries (else READER_KEY). */
void reader_map(struct reader *r, size_t keys);
/* The key that must stand here: a str equal to `key` (else READER_KEY). */
void reader_key(struct reader *r, const char *key);
/* A list header of `min` to `max` elements (else READER_SIZE); returns the count, 0 when bad. */
size_t reader_list(struct reader *r, size_t min, size_t max);
/* bin of `min` to `max` bytes (else READER_SIZE), borrowed. */
struct span reader_bin(struct reader *r, size_t min, size_t max);
/* bin of exactly `len` bytes copied to `out`. */
void reader_bin_copy(struct reader *r, void *out, size_t len);
/* str of `min` to `max` bytes (READER_SIZE), UTF-8 without U+0000-001F and 7F (READER_TEXT), borrowed. */
struct span reader_text(struct reader *r, size_t min, size_t max);
/* A str that is one of `names[0..count)`; returns the index, else READER_VALUE and 0. */
size_t reader_choice(struct reader *r, const char *const *names, size_t count);
/* An unsigned number in `min` to `max` (else READER_RANGE). */
uint64_t reader_uint(struct reader *r, uint64_t min, uint64_t max);
bool reader_bool(struct reader *r);
/* True, and consumes it, when the next value is nil. */
bool reader_nil(struct reader *r);

#endif
