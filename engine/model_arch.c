/* model_arch.c - what each architecture does that its files do not say. Sources: the public model implementations of
 * Hugging Face transformers and llama.cpp, by architecture name. */
#include "engine/model_spec.h"

#include <math.h>

/* Every `period`-th layer is full, the others slide. */
static void slide_but_every(struct model_spec *s, int period)
{
    for (int i = 0; i < MODEL_LAYERS_MAX; i++)
        s->sliding[i] = (i + 1) % period != 0;
}

static void apply_llama(struct model_spec *s)
{
    s->gate = KERN_GATE_SILU;
}

/* Mistral 7B v0.1 slides in every layer; later ones, and Mixtral, state no window. */
static void apply_mistral(struct model_spec *s)
{
    s->gate = KERN_GATE_SILU;
    for (int i = 0; i < MODEL_LAYERS_MAX; i++)
        s->sliding[i] = s->window > 0;
}

/* Phi-3's window is left out, as llama.cpp does: its context is then that of every layer. */
static void apply_phi3(struct model_spec *s)
{
    s->gate = KERN_GATE_SILU;
    s->window = 0;
}

/* GGUF files name neither pattern nor, before 2025-12, the base of sliding layers. 27B and its kin (62 layers) scale
 * by width / heads; the others by the head's length. */
static void apply_gemma3(struct model_spec *s)
{
    s->gate = KERN_GATE_GELU;
    s->embed_scale = sqrtf((float)s->embed);
    slide_but_every(s, 6);
    if (s->rope_base_sliding <= 0)
        s->rope_base_sliding = 10000;
    if (s->rope_base <= 0)
        s->rope_base = 1e6;
    if (s->attention_scale <= 0 && s->layers == 62 && s->heads > 0)
        s->attention_scale = 1 / sqrtf((float)s->embed / (float)s->heads);
    s->norms_plus_one = true;
}

static void apply_gemma2(struct model_spec *s)
{
    s->gate = KERN_GATE_GELU;
    s->embed_scale = sqrtf((float)s->embed);
    slide_but_every(s, 2);
    if (s->window <= 0)
        s->window = 4096;
    if (s->attention_softcap <= 0)
        s->attention_softcap = 50;
    if (s->final_softcap <= 0)
        s->final_softcap = 30;
    if (s->attention_scale <= 0 && s->layers == 46 && s->heads > 0)
        s->attention_scale = 1 / sqrtf((float)s->embed / (float)s->heads);
    s->norms_plus_one = true;
}

static void apply_gptoss(struct model_spec *s)
{
    s->gate = KERN_GATE_CLAMPED;
    slide_but_every(s, 2);
    s->scaling_everywhere = true;
}

bool model_arch_apply(struct model_spec *s)
{
    static const struct {
        const char *name;
        void (*apply)(struct model_spec *);
    } archs[] = {
        {"llama", apply_llama},     {"mistral", apply_mistral}, {"qwen2", apply_llama},   {"qwen3", apply_llama},
        {"qwen3moe", apply_llama},  {"gemma2", apply_gemma2},   {"gemma3", apply_gemma3}, {"phi3", apply_phi3},
        {"mixtral", apply_mistral}, {"gpt-oss", apply_gptoss},
    };
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (strcmp(archs[i].name, s->arch) == 0) {
            archs[i].apply(s);
            if (s->rope_base_sliding <= 0)
                s->rope_base_sliding = s->rope_base;
            if (s->attention_scale <= 0 && s->head_dim > 0)
                s->attention_scale = 1 / sqrtf((float)s->head_dim);
            return true;
        }
    return false;
}

/* --- rotation -------------------------------------------------------------------------------------- */

/* The dimension whose wave turns `turns` times in the original context (YaRN, arXiv 2309.00071, 3.2). */
static double yarn_dimension(const struct model_spec *s, double turns)
{
    return s->rope_dims * log(s->scaling_context / (turns * 2 * M_PI)) / (2 * log(s->rope_base));
}

static double yarn(const struct model_spec *s, int i, double inverse)
{
    double low = yarn_dimension(s, s->yarn_fast), high = yarn_dimension(s, s->yarn_slow);
    if (s->yarn_whole)
        low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, s->rope_dims - 1);
    double ramp = fmin(fmax((i - low) / fmax(high - low, 0.001), 0), 1);
    return inverse * (1 - ramp) + inverse / s->scaling_factor * ramp;
}

/* Llama 3.1: long waves are stretched, short ones kept, those between blended. */
static double llama3(const struct model_spec *s, double inverse)
{
    double wave = 2 * M_PI / inverse, original = s->scaling_context;
    if (wave < original / s->scaling_high)
        return inverse;
    if (wave > original / s->scaling_low)
        return inverse / s->scaling_factor;
    double smooth = (original / wave - s->scaling_low) / (s->scaling_high - s->scaling_low);
    return (1 - smooth) * inverse / s->scaling_factor + smooth * inverse;
}

static double attention_factor(const struct model_spec *s)
{
    if (s->scaling == MODEL_ROPE_YARN)
        return (s->scaling_attention > 0 ? s->scaling_attention : 1) * (1 + 0.1 * log(s->scaling_factor));
    if (s->scaling != MODEL_ROPE_LONG)
        return 1;
    if (s->scaling_attention > 0)
        return s->scaling_attention;
    double stretch = (double)s->context / s->scaling_context;
    return stretch > 1 ? sqrt(1 + log(stretch) / log(s->scaling_context)) : 1;
}

void model_rope(const struct model_spec *s, bool sliding, const float *factors, double *inverse, float *magnitude)
{
    enum model_scaling scaling = sliding && !s->scaling_everywhere ? MODEL_ROPE_PLAIN : s->scaling;
    double base = sliding ? s->rope_base_sliding : s->rope_base;

    *magnitude = scaling == MODEL_ROPE_PLAIN ? 1 : (float)attention_factor(s);
    for (int i = 0; i < s->rope_dims / 2; i++) {
        double f = pow(base, -2.0 * i / s->rope_dims);
        if (factors && (!sliding || s->scaling_everywhere))
            f /= (double)factors[i];
        if (scaling == MODEL_ROPE_LINEAR)
            f /= s->scaling_factor;
        else if (scaling == MODEL_ROPE_YARN)
            f = yarn(s, i, f);
        else if (scaling == MODEL_ROPE_LLAMA3)
            f = llama3(s, f);
        inverse[i] = f;
    }
}
