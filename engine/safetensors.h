/* safetensors.h - the tensors of one .safetensors file: u64 header length, JSON header, data. Offsets must be
 * contiguous, in bounds, and fit shape and type exactly. Format: huggingface/safetensors README. */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include "engine/problem.h"
#include "kernels/quant.h"

#define ENGINE_SAFETENSORS_HEADER_MAX ((uint64_t)100 << 20)

#define ENGINE_SAFETENSORS_TENSORS_MAX (1 << 20)

enum engine_safetensor_kind {
    ENGINE_SAFETENSOR_FLOATS, /* F32, F16, BF16: `type` says which */
    ENGINE_SAFETENSOR_BYTES,  /* U8: parts of a packed format */
    ENGINE_SAFETENSOR_OTHER,  /* integers, F64, F8: nothing that we compute with */
};

struct engine_safetensor {
    const char *name; /* NUL-terminated, owned by the set */
    enum engine_safetensor_kind kind;
    enum kern_type type; /* of FLOATS */
    uint32_t dims;       /* 0 to 4 */
    uint64_t dim[4];     /* slowest first, as in the file; 1 beyond `dims` */
    struct span data;
};

struct engine_safetensors; /* borrows the file's bytes */

/* NULL and `*why` when refused. */
MUST_CHECK struct engine_safetensors *engine_safetensors_parse(struct span bytes, struct engine_problem *why);
void engine_safetensors_close(struct engine_safetensors *s); /* NULL is fine */
const struct engine_safetensor *engine_safetensors_find(const struct engine_safetensors *s, const char *name);
size_t engine_safetensors_count(const struct engine_safetensors *s);
const struct engine_safetensor *engine_safetensors_at(const struct engine_safetensors *s, size_t index);

#endif
