#include "verifier/base/field.h"

void field_read_v(struct reader *r)
{
    (void)field_read_uint(r, "v", 1, 1);
}
void field_write_v(struct writer *w)
{
    field_write_uint(w, "v", 1);
}

void field_read_fixed(struct reader *r, const char *key, void *out, size_t len)
{
    reader_key(r, key);
    reader_bin_copy(r, out, len);
}
void field_write_fixed(struct writer *w, const char *key, const void *data, size_t len)
{
    field_write_bin(w, key, span_of(data, len));
}

struct span field_read_bin(struct reader *r, const char *key, size_t min, size_t max)
{
    reader_key(r, key);
    return reader_bin(r, min, max);
}
void field_write_bin(struct writer *w, const char *key, struct span s)
{
    writer_key(w, key);
    writer_bin(w, s);
}

struct span field_read_bin_or_nil(struct reader *r, const char *key, size_t max)
{
    reader_key(r, key);
    return reader_nil(r) ? span_of(NULL, 0) : reader_bin(r, 1, max);
}
void field_write_bin_or_nil(struct writer *w, const char *key, struct span s)
{
    writer_key(w, key);
    if (s.data)
        writer_bin(w, s);
    else
        writer_nil(w);
}

struct span field_read_text(struct reader *r, const char *key, size_t min, size_t max)
{
    reader_key(r, key);
    return reader_text(r, min, max);
}
void field_write_text(struct writer *w, const char *key, struct span s)
{
    writer_key(w, key);
    writer_text(w, s);
}

uint64_t field_read_uint(struct reader *r, const char *key, uint64_t min, uint64_t max)
{
    reader_key(r, key);
    return reader_uint(r, min, max);
}
void field_write_uint(struct writer *w, const char *key, uint64_t v)
{
    writer_key(w, key);
    writer_uint(w, v);
}

bool field_read_bool(struct reader *r, const char *key)
{
    reader_key(r, key);
    return reader_bool(r);
}
void field_write_bool(struct writer *w, const char *key, bool v)
{
    writer_key(w, key);
    writer_bool(w, v);
}

size_t field_read_choice(struct reader *r, const char *key, const char *const *names, size_t count)
{
    reader_key(r, key);
    return reader_choice(r, names, count);
}
void field_write_choice(struct writer *w, const char *key, const char *name)
{
    field_write_text(w, key, span_str(name));
}

size_t field_read_list(struct reader *r, const char *key, size_t min, size_t max)
{
    reader_key(r, key);
    return reader_list(r, min, max);
}
void field_write_list(struct writer *w, const char *key, size_t count)
{
    writer_key(w, key);
    writer_list(w, count);
}

void field_read_map(struct reader *r, const char *key, size_t keys)
{
    reader_key(r, key);
    reader_map(r, keys);
}
void field_write_map(struct writer *w, const char *key, size_t keys)
{
    writer_key(w, key);
    writer_map(w, keys);
}

bool field_read_map_or_nil(struct reader *r, const char *key, size_t keys)
{
    reader_key(r, key);
    if (reader_nil(r))
        return false;
    reader_map(r, keys);
    return r->err == READER_OK;
}
void field_write_nil(struct writer *w, const char *key)
{
    writer_key(w, key);
    writer_nil(w);
}

void field_distinct(struct reader *r, const void *list, size_t count, size_t len)
{
    const uint8_t *first = list, *last = first + (count - 1) * len;
    for (const uint8_t *p = first; r->err == READER_OK && p < last; p += len)
        if (memcmp(p, last, len) == 0)
            reader_fail(r, READER_DUPLICATE);
}
