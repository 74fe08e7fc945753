/* model_meta.c - a model's numbers from GGUF metadata, and what every source must satisfy. */
#include "engine/model_spec.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

static void copy_text(char *to, size_t size, struct span from)
{
    size_t len = from.len < size - 1 ? from.len : size - 1;
    memcpy(to, from.data, len);
    to[len] = 0;
}

struct keys {
    const struct engine_gguf *g;
    const char *arch;
    bool bad; /* a value present and out of range */
    char at[128];
    struct engine_problem *why;
};

static const char *key_of(struct keys *k, const char *name)
{
    snprintf(k->at, sizeof k->at, "%s.%s", k->arch, name);
    return k->at;
}

/* The integer `arch.name`, or `otherwise` when absent (INT_MIN: it must be there). An array that repeats one value per
 * layer counts as that value. */
static int take_int(struct keys *k, const char *name, int otherwise)
{
    const struct engine_gguf_value *v = engine_gguf_find(k->g, key_of(k, name));
    int64_t value = otherwise, other;
    bool ok = v ? engine_gguf_at_i64(v, 0, &value) : otherwise != INT_MIN;

    for (uint64_t i = 1; ok && v && i < v->count; i++)
        ok = engine_gguf_at_i64(v, i, &other) && other == value;
    if (!ok || value < -1 || value > INT_MAX / 4) {
        engine_problem_set(k->why, v ? ENGINE_E_RANGE : ENGINE_E_MISSING, "GGUF: key %s is %s", k->at,
                           v ? "not a number we can use" : "missing");
        k->bad = true;
        return 0;
    }
    return (int)value;
}

static double take_double(struct keys *k, const char *name, double otherwise)
{
    double value = otherwise;
    if (engine_gguf_find(k->g, key_of(k, name)) &&
        (!engine_gguf_f64(k->g, k->at, &value) || !isfinite(value) || fabs(value) > 1e12)) {
        engine_problem_set(k->why, ENGINE_E_RANGE, "GGUF: key %s is no number we can use", k->at);
        k->bad = true;
    }
    return value;
}

static void take_scaling(struct keys *k, struct model_spec *s)
{
    struct span type;
    double factor = take_double(k, "rope.scaling.factor", 1);

    s->scaling_factor = factor;
    s->scaling_context = take_int(k, "rope.scaling.original_context_length", s->context);
    s->scaling_attention = take_double(k, "rope.scaling.attn_factor", 0);
    s->yarn_whole = true;
    s->yarn_fast = take_double(k, "rope.scaling.yarn_beta_fast", 32);
    s->yarn_slow = take_double(k, "rope.scaling.yarn_beta_slow", 1);
    if (!engine_gguf_str(k->g, key_of(k, "rope.scaling.type"), &type))
        s->scaling = factor > 1 ? MODEL_ROPE_LINEAR : MODEL_ROPE_PLAIN;
    else if (span_is(type, "linear"))
        s->scaling = MODEL_ROPE_LINEAR;
    else if (span_is(type, "yarn"))
        s->scaling = MODEL_ROPE_YARN;
    else if (span_is(type, "longrope"))
        s->scaling = MODEL_ROPE_LONG;
    else if (!span_is(type, "none")) {
        engine_problem_set(k->why, ENGINE_E_UNSUPPORTED, "GGUF: RoPE scaling \"%.*s\" is not supported",
                           ENGINE_NAME(type));
        k->bad = true;
    }
}

static int vocabulary(const struct engine_gguf *g)
{
    const struct engine_gguf_tensor *t = engine_gguf_tensor_find(g, "token_embd.weight");
    return t && t->dims == 2 && t->dim[1] <= INT_MAX / 4 ? (int)t->dim[1] : 0;
}

bool model_spec_from_gguf(struct model_spec *s, const struct engine_gguf *g, struct engine_problem *why)
{
    struct span text;
    struct keys k = {.g = g, .why = why};

    *s = (struct model_spec){.bos = -1, .eos = -1, .experts_normalized = true, .embed_scale = 1};
    if (!engine_gguf_str(g, "general.architecture", &text) || text.len >= sizeof s->arch || text.len == 0) {
        engine_problem_set(why, ENGINE_E_MISSING, "GGUF: general.architecture is missing or too long");
        return false;
    }
    copy_text(s->arch, sizeof s->arch, text);
    k.arch = s->arch;
    if (engine_gguf_str(g, "general.name", &text))
        copy_text(s->name, sizeof s->name, text);
    if (!model_arch_apply(s)) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "architecture \"%s\" is not supported", s->arch);
        return false;
    }
    s->vocab = vocabulary(g);
    s->layers = take_int(&k, "block_count", INT_MIN);
    s->embed = take_int(&k, "embedding_length", INT_MIN);
    s->heads = take_int(&k, "attention.head_count", INT_MIN);
    s->kv_heads = take_int(&k, "attention.head_count_kv", s->heads);
    s->head_dim = take_int(&k, "attention.key_length", s->heads > 0 ? s->embed / s->heads : 0);
    if (take_int(&k, "attention.value_length", s->head_dim) != s->head_dim && !k.bad) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "GGUF: keys and values of different lengths");
        return false;
    }
    s->context = take_int(&k, "context_length", INT_MIN);
    s->experts = take_int(&k, "expert_count", 0);
    s->experts_used = take_int(&k, "expert_used_count", 0);
    s->ffn = take_int(&k, "feed_forward_length", s->experts > 0 ? 0 : INT_MIN);
    s->expert_ffn = take_int(&k, "expert_feed_forward_length", s->ffn);
    s->eps = (float)take_double(&k, "attention.layer_norm_rms_epsilon", 1e-5);
    s->rope_base = take_double(&k, "rope.freq_base", s->rope_base > 0 ? s->rope_base : 10000);
    s->rope_base_sliding = take_double(&k, "rope.freq_base_swa", s->rope_base_sliding);
    s->rope_dims = take_int(&k, "rope.dimension_count", s->head_dim);
    s->window = take_int(&k, "attention.sliding_window", s->window);
    s->attention_softcap = (float)take_double(&k, "attn_logit_softcapping", (double)s->attention_softcap);
    s->final_softcap = (float)take_double(&k, "final_logit_softcapping", (double)s->final_softcap);
    s->attention_scale = (float)take_double(&k, "attention.scale", 0);
    take_scaling(&k, s);
    k.arch = "tokenizer.ggml";
    s->bos = take_int(&k, "bos_token_id", -1);
    s->eos = take_int(&k, "eos_token_id", -1);
    if (engine_gguf_tensor_find(g, "rope_factors_long.weight")) /* Phi files may leave the type out */
        s->scaling = MODEL_ROPE_LONG;
    s->pairs_adjacent = strcmp(s->arch, "llama") == 0;
    bool known = model_arch_apply(s);
    s->norms_plus_one = false; /* GGUF files hold the sum */
    return known && !k.bad && model_spec_check(s, why);
}

static bool in_range(const char *what, int value, int low, int high, struct engine_problem *why)
{
    if (value >= low && value <= high)
        return true;
    engine_problem_set(why, ENGINE_E_RANGE, "the model's %s is %d; %d to %d are supported", what, value, low, high);
    return false;
}

bool model_spec_check(const struct model_spec *s, struct engine_problem *why)
{
    bool slides = false;
    if (!in_range("number of layers", s->layers, 1, MODEL_LAYERS_MAX, why) ||
        !in_range("vocabulary", s->vocab, 1, 1 << 22, why) || !in_range("width", s->embed, 1, 1 << 16, why) ||
        !in_range("number of heads", s->heads, 1, 1024, why) ||
        !in_range("number of KV heads", s->kv_heads, 1, s->heads, why) ||
        !in_range("head length", s->head_dim, 16, KERN_HEAD_MAX, why) ||
        !in_range("rotated part of a head", s->rope_dims, 2, s->head_dim, why) ||
        !in_range("context", s->context, 1, 1 << 26, why) ||
        !in_range("number of experts", s->experts, 0, MODEL_EXPERTS_MAX, why) ||
        !in_range("feed-forward width", s->experts ? s->expert_ffn : s->ffn, 1, 1 << 20, why))
        return false;
    if (s->experts > 0 && !in_range("number of experts used", s->experts_used, 1,
                                    s->experts < MODEL_EXPERTS_USED_MAX ? s->experts : MODEL_EXPERTS_USED_MAX, why))
        return false;
    for (int i = 0; i < s->layers; i++)
        slides |= s->sliding[i];
    if (slides && !in_range("attention window", s->window, 1, 1 << 26, why))
        return false;
    if (s->heads % s->kv_heads || s->head_dim % 16 || s->rope_dims % 2) {
        engine_problem_set(
            why, ENGINE_E_SHAPE,
            "heads (%d) must be a multiple of KV heads (%d), their length (%d) of 16, its rotated part of 2", s->heads,
            s->kv_heads, s->head_dim);
        return false;
    }
    if (!(s->eps >= 0 && s->eps < 1) || !(s->rope_base > 1) || !(s->scaling_factor > 0) || s->scaling_context < 1 ||
        !(s->attention_scale > 0) || !(s->rope_base_sliding > 1) ||
        (s->scaling == MODEL_ROPE_YARN && !(s->yarn_fast > 0 && s->yarn_slow > 0)) ||
        (s->scaling == MODEL_ROPE_LLAMA3 && !(s->scaling_low > 0 && s->scaling_high > s->scaling_low)) ||
        s->attention_softcap < 0 || s->final_softcap < 0) {
        engine_problem_set(why, ENGINE_E_RANGE, "the model's epsilon, RoPE base or scaling is out of range");
        return false;
    }
    return true;
}
