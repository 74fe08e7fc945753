/* model_spec.h - what a model is, in numbers: the whole difference between architectures that the forward pass sees.
 * Filled from GGUF metadata or config.json, completed by the architecture's own defaults, then checked. */
#ifndef ENGINE_MODEL_SPEC_H
#define ENGINE_MODEL_SPEC_H

#include "engine/gguf.h"
#include "kernels/kernels.h"

#define MODEL_LAYERS_MAX 512
#define MODEL_EXPERTS_MAX 1024
#define MODEL_EXPERTS_USED_MAX 64

enum model_scaling { MODEL_ROPE_PLAIN, MODEL_ROPE_LINEAR, MODEL_ROPE_LLAMA3, MODEL_ROPE_YARN, MODEL_ROPE_LONG };

struct model_spec {
    char arch[32]; /* GGUF's name of the architecture, also for other sources */
    char name[96];
    int vocab, layers, embed, heads, kv_heads, head_dim, ffn;
    int context; /* positions */
    int bos, eos;
    int experts, experts_used, expert_ffn; /* 0 experts: dense */
    bool experts_normalized;               /* weights of the chosen experts sum to 1 */
    float eps;

    double rope_base, rope_base_sliding; /* of full and of sliding layers */
    int rope_dims;                       /* leading elements of a head that rotate */
    enum model_scaling scaling;          /* of full layers; of sliding ones too if `scaling_everywhere` */
    bool scaling_everywhere;
    double scaling_factor, scaling_low, scaling_high; /* low/high: Llama 3's frequency factors */
    double scaling_attention;                         /* on cosine and sine; 0: as the method computes it */
    int scaling_context;                              /* the context before it was stretched */
    /* Long RoPE: divisors of each frequency, for contexts up to the original and beyond; 0 when a tensor holds them. */
    float long_factor[2][KERN_HEAD_MAX / 2];
    bool yarn_whole;             /* round the bounds of the ramp to whole dimensions */
    double yarn_fast, yarn_slow; /* turns in the original context between which the ramp lies */
    bool pairs_adjacent;         /* stored q and k rows are for rotation of neighbours (GGUF "llama"): reorder them */

    int window; /* of sliding layers */
    bool sliding[MODEL_LAYERS_MAX];
    float attention_scale, attention_softcap, final_softcap;
    float embed_scale;
    bool untied;         /* the source says that the head is a matrix of its own */
    bool norms_plus_one; /* stored norm weights lack their 1 (Gemma's safetensors) */
    enum kern_gate gate;
};

/* Both: false and `*why` when a needed value is missing or out of range, or the architecture is unknown. */
MUST_CHECK bool model_spec_from_gguf(struct model_spec *out, const struct engine_gguf *g, struct engine_problem *why);
MUST_CHECK bool model_spec_from_config(struct model_spec *out, struct span json, struct engine_problem *why);

/* The architecture's defaults: `layer i slides` unless the source said so, gate, scales. False: unknown to us. */
bool model_arch_apply(struct model_spec *spec);
/* Ranges and divisibility of everything above. */
bool model_spec_check(const struct model_spec *spec, struct engine_problem *why);

/* Inverse frequencies of rotation, rope_dims / 2 doubles, and the factor on cosine and sine. `factors` divides each
 * frequency, or is NULL (rope_freqs.weight; long and short factors of Phi). */
void model_rope(const struct model_spec *spec, bool sliding, const float *factors, double *inverse, float *magnitude);

#endif
