/* engine_gguf.h - GGUF files made in memory, for the tests of the loader and of models. */
#ifndef TESTS_UNIT_ENGINE_GGUF_H
#define TESTS_UNIT_ENGINE_GGUF_H

#include "engine/gguf.h"
#include "kernels/quant.h"
#include "verifier/base/writer.h"

#include <stdlib.h>

struct gguf_made {
    struct writer keys, tensors, data;
    uint64_t key_count, tensor_count;
    uint32_t seed;
};

static inline void made_u32(struct writer *w, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        writer_u8(w, (uint8_t)(v >> 8 * i));
}

static inline void made_u64(struct writer *w, uint64_t v)
{
    made_u32(w, (uint32_t)v);
    made_u32(w, (uint32_t)(v >> 32));
}

static inline void made_text(struct writer *w, const char *text)
{
    made_u64(w, strlen(text));
    writer_str(w, text);
}

static inline struct gguf_made made_start(void)
{
    return (struct gguf_made){.keys = writer_with_max(1 << 20),
                              .tensors = writer_with_max(1 << 20),
                              .data = writer_with_max(16 << 20),
                              .seed = 1};
}

static inline void made_key(struct gguf_made *m, const char *key, uint32_t type)
{
    made_text(&m->keys, key);
    made_u32(&m->keys, type);
    m->key_count++;
}

static inline void made_key_text(struct gguf_made *m, const char *key, const char *value)
{
    made_key(m, key, ENGINE_GGUF_STRING);
    made_text(&m->keys, value);
}

static inline void made_key_u32(struct gguf_made *m, const char *key, uint32_t value)
{
    made_key(m, key, ENGINE_GGUF_U32);
    made_u32(&m->keys, value);
}

static inline void made_key_f32(struct gguf_made *m, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    made_key(m, key, ENGINE_GGUF_F32);
    made_u32(&m->keys, bits);
}

static inline void made_record(struct gguf_made *m, const char *name, uint64_t cols, uint64_t rows, uint32_t type,
                               uint64_t offset)
{
    made_text(&m->tensors, name);
    made_u32(&m->tensors, rows ? 2 : 1);
    made_u64(&m->tensors, cols);
    if (rows)
        made_u64(&m->tensors, rows);
    made_u32(&m->tensors, type);
    made_u64(&m->tensors, offset);
    m->tensor_count++;
}

/* An F32 tensor of small noise around `middle`; rows 0: a vector. */
static inline void made_tensor(struct gguf_made *m, const char *name, uint64_t cols, uint64_t rows, float middle)
{
    while (m->data.len % 32)
        writer_u8(&m->data, 0);
    made_record(m, name, cols, rows, KERN_F32, m->data.len);
    for (uint64_t i = 0; i < cols * (rows ? rows : 1); i++) {
        m->seed = m->seed * 1664525 + 1013904223;
        float value = middle + ((float)(m->seed >> 8) / (float)(1 << 23) - 1) * 0.2f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        made_u32(&m->data, bits);
    }
}

/* The file's bytes: yours to free(). */
static inline struct span made_finish(struct gguf_made *m)
{
    struct writer w = writer_with_max(32 << 20);
    writer_str(&w, "GGUF");
    made_u32(&w, 3);
    made_u64(&w, m->tensor_count);
    made_u64(&w, m->key_count);
    writer_bytes(&w, writer_span(&m->keys));
    writer_bytes(&w, writer_span(&m->tensors));
    while (w.len % 32)
        writer_u8(&w, 0);
    writer_bytes(&w, writer_span(&m->data));
    uint8_t *out = malloc(w.len + 1);
    if (out)
        memcpy(out, w.data, w.len);
    struct span s = span_of(out, out ? w.len : 0);
    writer_release(&w);
    writer_release(&m->keys);
    writer_release(&m->tensors);
    writer_release(&m->data);
    return s;
}

#endif
