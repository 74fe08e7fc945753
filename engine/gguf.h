/* gguf.h - GGUF version 3 (and 2, which differs in nothing we read): keys and tensors of a model file.
 * Format: specs of ggml, "GGUF"; little-endian. Everything is bounded before use: counts against the bytes that are
 * left, dimensions against overflow, offsets against alignment, the data section and each other. What is refused is
 * named. Nothing is copied but the index: values borrow from the file's bytes. */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

#include "engine/problem.h"

#define ENGINE_GGUF_KEYS_MAX 65536
#define ENGINE_GGUF_TENSORS_MAX 65536
#define ENGINE_GGUF_DIMS_MAX 4
#define ENGINE_GGUF_NAME_MAX 255 /* bytes of a key's or tensor's name */

enum engine_gguf_type { /* of a value; numbers are the file's */
                        ENGINE_GGUF_U8 = 0,
                        ENGINE_GGUF_I8,
                        ENGINE_GGUF_U16,
                        ENGINE_GGUF_I16,
                        ENGINE_GGUF_U32,
                        ENGINE_GGUF_I32,
                        ENGINE_GGUF_F32,
                        ENGINE_GGUF_BOOL,
                        ENGINE_GGUF_STRING,
                        ENGINE_GGUF_ARRAY, /* of scalars or strings; arrays of arrays are refused */
                        ENGINE_GGUF_U64,
                        ENGINE_GGUF_I64,
                        ENGINE_GGUF_F64,
};

struct engine_gguf_value {
    struct span key;
    enum engine_gguf_type type;    /* ENGINE_GGUF_ARRAY, or the scalar's type */
    enum engine_gguf_type element; /* type of the elements; `type` itself for a scalar */
    uint64_t count;                /* elements; 1 for a scalar */
    struct span bytes;             /* raw little-endian elements; empty for strings */
    const struct span *strings;    /* `count` strings, any bytes; NULL for other types */
};

struct engine_gguf_tensor {
    struct span name;
    uint32_t dims;                      /* 1 to 4 */
    uint64_t dim[ENGINE_GGUF_DIMS_MAX]; /* elements, fastest first; 1 beyond `dims` */
    uint32_t type;                      /* ggml storage type: see kernels/quant.h */
    struct span data;                   /* exactly the tensor's bytes */
};

struct engine_gguf; /* keys and tensors; borrows from the bytes it was parsed from */

/* NULL and `*why` when refused. Keep `bytes` as long as the result. engine_gguf_close() frees it. */
MUST_CHECK struct engine_gguf *engine_gguf_parse(struct span bytes, struct engine_problem *why);
/* A file split in `count` parts, in order: keys of the first, tensors of all. Each part's split.no, split.count and
 * split.tensors.count must say so; a tensor may be in one part only. One part is as engine_gguf_parse(). */
MUST_CHECK struct engine_gguf *engine_gguf_parse_parts(const struct span *parts, size_t count,
                                                       struct engine_problem *why);
void engine_gguf_close(struct engine_gguf *g); /* NULL is fine */

size_t engine_gguf_key_count(const struct engine_gguf *g);
const struct engine_gguf_value *engine_gguf_key(const struct engine_gguf *g, size_t index);
/* The value of `key`, or NULL. Borrowed from `g`. */
const struct engine_gguf_value *engine_gguf_find(const struct engine_gguf *g, const char *key);

/* One value of a scalar key: false, and `*out` untouched, when the key is absent or is no such value. Integers of any
 * width convert when they fit; f64 takes integers too; bool only BOOL. */
bool engine_gguf_str(const struct engine_gguf *g, const char *key, struct span *out);
bool engine_gguf_u64(const struct engine_gguf *g, const char *key, uint64_t *out);
bool engine_gguf_i64(const struct engine_gguf *g, const char *key, int64_t *out);
bool engine_gguf_f64(const struct engine_gguf *g, const char *key, double *out);
bool engine_gguf_bool(const struct engine_gguf *g, const char *key, bool *out);

/* Element `index` of a value (array or scalar), with the same conversions: false when out of range or of another
 * type. A `v` of NULL is an absent key: false. */
bool engine_gguf_at_str(const struct engine_gguf_value *v, uint64_t index, struct span *out);
bool engine_gguf_at_u64(const struct engine_gguf_value *v, uint64_t index, uint64_t *out);
bool engine_gguf_at_i64(const struct engine_gguf_value *v, uint64_t index, int64_t *out);
bool engine_gguf_at_f64(const struct engine_gguf_value *v, uint64_t index, double *out);
bool engine_gguf_at_bool(const struct engine_gguf_value *v, uint64_t index, bool *out);

size_t engine_gguf_tensor_count(const struct engine_gguf *g);
const struct engine_gguf_tensor *engine_gguf_tensor(const struct engine_gguf *g, size_t index);
const struct engine_gguf_tensor *engine_gguf_tensor_find(const struct engine_gguf *g, const char *name);

#endif
