/* model_tensors.h - the weights of a model by one set of names (GGUF's), whatever they are stored in. */
#ifndef ENGINE_MODEL_TENSORS_H
#define ENGINE_MODEL_TENSORS_H

#include "engine/files.h"
#include "engine/gguf.h"
#include "engine/model_spec.h"
#include "engine/safetensors.h"

#define MODEL_SHARDS_MAX 512

struct model_tensor {
    enum kern_type type;
    uint64_t cols, rows; /* a vector has 1 row */
    struct span data;    /* rows * cols elements; until the next find when they had to be put together */
    struct span file;    /* what the file's memory may lose once `data` is laid out elsewhere; may be empty */
};

struct model_source {
    struct engine_gguf *gguf; /* owned; or: */
    struct engine_safetensors *shard[MODEL_SHARDS_MAX];
    size_t shards;
    const char *arch;
    uint8_t *scratch; /* owned: a tensor that had to be put together */
    size_t scratch_len;
    bool shapes_only; /* nothing is put together: such a tensor's `data` is empty */
};

/* Parse what `files` hold and fill `spec`. Release the source in either case. */
MUST_CHECK bool model_source_open(struct model_source *out, struct model_spec *spec, const struct engine_files *files,
                                  struct engine_problem *why);
void model_source_release(struct model_source *s);

/* The tensor `part` (e.g. "attn_q.weight") of layer `layer`, or of the whole model when `layer` is -1; of expert
 * `expert` ("ffn_up_exps.weight" and the like) unless that is -1. False when there is none, and with `*why` set when
 * there is one that we cannot compute with. */
bool model_source_find(struct model_source *s, int layer, const char *part, int expert, struct model_tensor *out,
                       struct engine_problem *why);

#endif
