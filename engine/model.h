/* model.h - a loaded model and its forward pass over a paged KV cache.
 * One model, one thread that steps it at a time (any thread; the model keeps its own pinned workers, asleep between
 * steps). A row's logits depend on its sequence's tokens and positions alone: never on what else is in the step, on
 * how the prompt was cut into steps or on which block ids were used. Bits are equal, not just values near, as long as
 * the kernels (machine and AIRLOCK_CPU) are the same. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/files.h"
#include "engine/sample.h"

#define ENGINE_KV_GROUPS 2
#define ENGINE_KV_FULL 0    /* layers that attend to every earlier position */
#define ENGINE_KV_SLIDING 1 /* layers that attend to the last `window` positions, their own included */

struct engine_model_options {
    int threads;         /* workers that compute; 0: one for each CPU this process may run on */
    int context_max;     /* cap on positions; 0: what the model states */
    int step_tokens_max; /* tokens of one step over all sequences; 0: 2048 */
    bool exact;          /* f32 arithmetic on dequantized weights: slow, for checking the fast paths */
    const char *device;  /* "cuda", or NULL: the processor */
};

struct engine_model_info {
    char arch[32]; /* e.g. "llama", "gemma3" */
    char name[96]; /* general.name, or empty */
    int vocab, layers, embed, heads, kv_heads, head_dim;
    int context_max;                             /* positions a sequence may have */
    int window;                                  /* of the sliding group; 0: no such group */
    int step_tokens_max;                         /* as given, or its default */
    int bos, eos;                                /* token ids, -1 when the file names none */
    size_t kv_bytes_per_token[ENGINE_KV_GROUPS]; /* 0: the model has no layer of that group */
    size_t weight_bytes;                         /* read from memory to decode one token */
    size_t laid_out_bytes;                       /* of all matrices as the processor's kernels read them */
    uint64_t elements;                           /* of all matrices */
    const char *kernels;                         /* the path in use: "ref", "avx2", "avx512", "cuda" */
    bool picks;                                  /* engine_model_step_pick() is there */
};

struct engine_model;

/* Find the weights in `files` (a .gguf, or config.json with *.safetensors), check them, and lay them out for the
 * kernels. NULL and `*why` when refused. Keep `files` as long as the model: small tensors are borrowed. The memory of
 * those that were laid out anew is given back when `discard`, so the same files cannot be opened twice. */
MUST_CHECK struct engine_model *engine_model_open(const struct engine_files *files, bool discard,
                                                  const struct engine_model_options *options,
                                                  struct engine_problem *why);
/* What the model would be, from its files' heads alone (engine_files_load_heads() suffices): nothing is laid out, no
 * weight is looked at. False and `*why` when opening it would be refused for its names, numbers or shapes. */
MUST_CHECK bool engine_model_plan(const struct engine_files *files, const struct engine_model_options *options,
                                  struct engine_model_info *out, struct engine_problem *why);
void engine_model_close(struct engine_model *m); /* NULL is fine; after every KV of it is closed */
const struct engine_model_info *engine_model_info(const struct engine_model *m);
/* Bytes that are free where keys and values will lie, of `*all` there. */
size_t engine_model_memory(const struct engine_model *m, size_t *all);

/* --- KV ------------------------------------------------------------------------------------------ */

struct engine_kv; /* keys and values of blocks: who holds which block is the scheduler's business */

/* Pools of `blocks[group]` blocks of `block_tokens` tokens (16, 32, 64, 128 or 256), ids from 0. A group that the model
 * lacks gets none. NULL and `*why` when memory is short. */
MUST_CHECK struct engine_kv *engine_kv_open(const struct engine_model *m, int block_tokens,
                                            const int blocks[ENGINE_KV_GROUPS], struct engine_problem *why);
void engine_kv_close(struct engine_kv *kv); /* zeroes everything; NULL is fine */
/* Wipe a block that is no longer in use. */
void engine_kv_zero(struct engine_kv *kv, int group, int32_t block);
/* Copy block `from` to `to` (copy on write). */
void engine_kv_copy(struct engine_kv *kv, int group, int32_t to, int32_t from);

/* --- a step ---------------------------------------------------------------------------------------- */

enum engine_logits { ENGINE_LOGITS_NONE = 0, ENGINE_LOGITS_LAST = 1, ENGINE_LOGITS_ALL = 2 };

struct engine_step_seq {
    const int32_t *tokens; /* `count` ids to feed, borrowed for the call */
    int count;             /* at least 1 */
    int pos;               /* position of tokens[0]; 0 .. pos-1 are in the KV already */
    /* Per group, logical block -> block id, covering positions 0 .. pos+count-1. In the sliding group, entries of
     * blocks that lie wholly at or before pos-window are never looked at (the block may be gone). NULL for an absent
     * group. */
    const int32_t *blocks[ENGINE_KV_GROUPS];
    enum engine_logits logits; /* which rows of logits to write */
};

/* Feed `n` sequences at once; no two may write the same block. Writes their keys and values, and `vocab` floats for
 * each row of logits asked for, in order of sequence, then position. ENGINE_OK, or ENGINE_E_CALL (nothing written):
 * a token, position or block out of range, too many tokens, or n < 1. */
MUST_CHECK enum engine_err engine_model_step(struct engine_model *m, struct engine_kv *kv,
                                             const struct engine_step_seq *seqs, int n, float *logits);

/* The same, but for each row of logits asked for its state after the last norm: `embed` floats. For embeddings. */
MUST_CHECK enum engine_err engine_model_states(struct engine_model *m, struct engine_kv *kv,
                                               const struct engine_step_seq *seqs, int n, float *states);

/* What is to be made of one row of logits where the logits are: a choice, or log-probabilities of a given id. */
struct engine_pick {
    const struct sample_params *params; /* of the choice; NULL: */
    int32_t id;                         /* this one's log-probability is wanted */
    int top;                            /* and those of so many beside it */
    const struct sample_history *history;
    struct sample_result *out;
};
/* The same step for models on a device: logits stay there, `picks` has one entry for each row of them, in their order,
 * and is only read but for what `out` points to. One crossing in and one out. */
MUST_CHECK enum engine_err engine_model_step_pick(struct engine_model *m, struct engine_kv *kv,
                                                  const struct engine_step_seq *seqs, int n,
                                                  const struct engine_pick *picks);

/* What crossed between host and device so far; zeros for a model on the processor. */
struct bridge_stats;
void engine_model_crossings(const struct engine_model *m, struct bridge_stats *out);

#endif
