/* field.h - one "key: value" of a protocol map, read or written: the words that every object codec is made of.
 * Reading goes through a struct reader, so a codec reads like its row in PROTOCOL.md § Fields and checks once. */
#ifndef VERIFIER_BASE_FIELD_H
#define VERIFIER_BASE_FIELD_H

#include "verifier/base/reader.h"
#include "verifier/base/writer.h"

/* "v": 1 */
void field_read_v(struct reader *r);
void field_write_v(struct writer *w);

/* bin of exactly `len` bytes. */
void field_read_fixed(struct reader *r, const char *key, void *out, size_t len);
void field_write_fixed(struct writer *w, const char *key, const void *data, size_t len);
/* bin of `min` to `max` bytes, borrowed. */
struct span field_read_bin(struct reader *r, const char *key, size_t min, size_t max);
void field_write_bin(struct writer *w, const char *key, struct span s);
/* bin of 1 to `max` bytes, borrowed, or nil: then a span with data NULL. */
struct span field_read_bin_or_nil(struct reader *r, const char *key, size_t max);
void field_write_bin_or_nil(struct writer *w, const char *key, struct span s);
/* text, borrowed. */
struct span field_read_text(struct reader *r, const char *key, size_t min, size_t max);
void field_write_text(struct writer *w, const char *key, struct span s);
uint64_t field_read_uint(struct reader *r, const char *key, uint64_t min, uint64_t max);
void field_write_uint(struct writer *w, const char *key, uint64_t v);
bool field_read_bool(struct reader *r, const char *key);
void field_write_bool(struct writer *w, const char *key, bool v);
size_t field_read_choice(struct reader *r, const char *key, const char *const *names, size_t count);
void field_write_choice(struct writer *w, const char *key, const char *name);
/* A list of `min` to `max` elements; the elements follow. */
size_t field_read_list(struct reader *r, const char *key, size_t min, size_t max);
void field_write_list(struct writer *w, const char *key, size_t count);
/* A map of exactly `keys` entries; they follow. */
void field_read_map(struct reader *r, const char *key, size_t keys);
void field_write_map(struct writer *w, const char *key, size_t keys);
/* A map of exactly `keys` entries, or nil: false, and consumes it. */
bool field_read_map_or_nil(struct reader *r, const char *key, size_t keys);
void field_write_nil(struct writer *w, const char *key);

/* READER_DUPLICATE when `list[count - 1]` equals an earlier element; elements are `len` bytes each. */
void field_distinct(struct reader *r, const void *list, size_t count, size_t len);

#endif
