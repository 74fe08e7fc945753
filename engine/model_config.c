/* model_config.c - a model's numbers from a Hugging Face config.json. */
#include "engine/model_spec.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

#define CONFIG_LEN_MAX ((size_t)4 << 20)

struct config {
    const json_t *top, *text; /* `text` is top's "text_config" when it has one */
    bool bad;
    struct engine_problem *why;
};

static const json_t *find(const struct config *c, const char *name)
{
    const json_t *v = json_object_get(c->text, name);
    if (!v || json_is_null(v))
        v = json_object_get(c->top, name);
    return v && !json_is_null(v) ? v : NULL;
}

static void refuse(struct config *c, const char *name, const char *what)
{
    engine_problem_set(c->why, ENGINE_E_UNSUPPORTED, "config.json: \"%s\" %s", name, what);
    c->bad = true;
}

/* `otherwise` INT_MIN: it must be there. */
static int take_int(struct config *c, const char *name, int otherwise)
{
    const json_t *v = find(c, name);
    if (json_is_array(v)) /* e.g. several end tokens: the first */
        v = json_array_get(v, 0);
    json_int_t value = v ? json_integer_value(v) : otherwise;
    if ((v && !json_is_integer(v)) || value < -1 || value > INT_MAX / 4) {
        engine_problem_set(c->why, v ? ENGINE_E_RANGE : ENGINE_E_MISSING, "config.json: \"%s\" is %s", name,
                           v ? "not a number we can use" : "missing");
        c->bad = true;
        return 0;
    }
    return (int)value;
}

static double number(struct config *c, const json_t *v, const char *name, double otherwise)
{
    if (!v || json_is_null(v))
        return otherwise;
    double value = json_number_value(v);
    if (!json_is_number(v) || !isfinite(value) || fabs(value) > 1e12) {
        engine_problem_set(c->why, ENGINE_E_RANGE, "config.json: \"%s\" is no number we can use", name);
        c->bad = true;
        return otherwise;
    }
    return value;
}

static double take_double(struct config *c, const char *name, double otherwise)
{
    return number(c, find(c, name), name, otherwise);
}

/* model_type -> our name of the architecture. */
static const char *arch_of(const char *type)
{
    static const char *const names[][2] = {
        {"llama", "llama"},   {"mistral", "mistral"},    {"mixtral", "mixtral"}, {"qwen2", "qwen2"},
        {"qwen3", "qwen3"},   {"qwen3_moe", "qwen3moe"}, {"gemma2", "gemma2"},   {"gemma3_text", "gemma3"},
        {"gemma3", "gemma3"}, {"phi3", "phi3"},          {"gpt_oss", "gpt-oss"},
    };
    for (size_t i = 0; type && i < sizeof names / sizeof *names; i++)
        if (strcmp(type, names[i][0]) == 0)
            return names[i][1];
    return NULL;
}

/* A divisor for each pair of a head: as many as there are, each positive. */
static void take_factors(struct config *c, const json_t *list, float *to, int pairs)
{
    bool ok = json_array_size(list) == (size_t)pairs;
    for (int i = 0; ok && i < pairs; i++) {
        double value = number(c, json_array_get(list, (size_t)i), "rope_scaling factors", 0);
        ok = value > 0;
        to[i] = (float)value;
    }
    if (!ok) {
        engine_problem_set(c->why, ENGINE_E_RANGE, "config.json: rope_scaling needs %d positive factors a list", pairs);
        c->bad = true;
    }
}

/* "rope_scaling", or in files of transformers 5 "rope_parameters": one object, or one for each type of layer. */
static const json_t *rope_of(const struct config *c, const char *layers)
{
    const json_t *v = find(c, "rope_scaling");
    if (!v)
        v = find(c, "rope_parameters");
    const json_t *typed = json_object_get(v, layers);
    return json_is_object(typed) ? typed : v;
}

static void take_scaling(struct config *c, struct model_spec *s)
{
    const json_t *v = rope_of(c, "full_attention");
    const char *type = json_string_value(json_object_get(v, "rope_type"));
    if (!type)
        type = json_string_value(json_object_get(v, "type"));
    s->scaling_factor = number(c, json_object_get(v, "factor"), "rope_scaling.factor", 1);
    s->scaling_low = number(c, json_object_get(v, "low_freq_factor"), "rope_scaling.low_freq_factor", 1);
    s->scaling_high = number(c, json_object_get(v, "high_freq_factor"), "rope_scaling.high_freq_factor", 4);
    s->scaling_attention = number(c, json_object_get(v, "attention_factor"), "rope_scaling.attention_factor", 0);
    double original = number(c, json_object_get(v, "original_max_position_embeddings"), "rope_scaling.original", 0);
    s->scaling_context = original >= 1 && original < INT_MAX / 4
                             ? (int)original
                             : take_int(c, "original_max_position_embeddings", s->context);
    s->yarn_whole = !json_is_false(json_object_get(v, "truncate"));
    s->yarn_fast = number(c, json_object_get(v, "beta_fast"), "rope_scaling.beta_fast", 32);
    s->yarn_slow = number(c, json_object_get(v, "beta_slow"), "rope_scaling.beta_slow", 1);
    if (!type || strcmp(type, "default") == 0)
        s->scaling = MODEL_ROPE_PLAIN;
    else if (strcmp(type, "linear") == 0)
        s->scaling = MODEL_ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        s->scaling = MODEL_ROPE_LLAMA3;
    else if (strcmp(type, "yarn") == 0 && !json_object_get(v, "mscale")) {
        s->scaling = MODEL_ROPE_YARN; /* our factor multiplies what the method computes, theirs replaces it */
        s->scaling_attention /= 1 + 0.1 * log(s->scaling_factor >= 1 ? s->scaling_factor : 1);
    } else if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) {
        s->scaling = MODEL_ROPE_LONG;
        take_factors(c, json_object_get(v, "short_factor"), s->long_factor[0], s->rope_dims / 2);
        take_factors(c, json_object_get(v, "long_factor"), s->long_factor[1], s->rope_dims / 2);
    } else {
        refuse(c, "rope_scaling", "is of a kind that is not supported");
    }
}

/* "layer_types" names each layer; "sliding_window_pattern" counts; Qwen slides from "max_window_layers" on, where
 * "use_sliding_window" says so. Each overrides the architecture's habit. */
static void take_layers(struct config *c, struct model_spec *s)
{
    const json_t *types = find(c, "layer_types"), *use = find(c, "use_sliding_window");
    int pattern = take_int(c, "sliding_window_pattern", 0), from = take_int(c, "max_window_layers", MODEL_LAYERS_MAX);
    for (int i = 0; i < MODEL_LAYERS_MAX && i < s->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (types && (!type || (strcmp(type, "sliding_attention") != 0 && strcmp(type, "full_attention") != 0))) {
            refuse(c, "layer_types", "names a layer that is neither full_attention nor sliding_attention");
            return;
        }
        if (type)
            s->sliding[i] = strcmp(type, "sliding_attention") == 0;
        else if (pattern > 0)
            s->sliding[i] = (i + 1) % pattern != 0;
        else if (json_is_true(use))
            s->sliding[i] = i >= from;
        if (json_is_false(use))
            s->sliding[i] = false;
    }
}

/* What other models of the family do and our forward pass does not. */
static void refuse_others(struct config *c, const struct model_spec *s)
{
    const char *quantized = json_string_value(json_object_get(find(c, "quantization_config"), "quant_method"));
    const char *act = json_string_value(find(c, "hidden_activation"));
    bool gelu = strncmp(s->arch, "gemma", 5) == 0;

    if (!act)
        act = json_string_value(find(c, "hidden_act"));
    if (find(c, "quantization_config") && (!quantized || strcmp(quantized, "mxfp4") != 0))
        refuse(c, "quantization_config", "names a method that is not supported; mxfp4 is");
    if (act && (gelu ? strncmp(act, "gelu", 4) : strcmp(act, "silu") && strcmp(act, "swish")))
        refuse(c, "hidden_act", "is not the architecture's");
    if (json_is_true(find(c, "mlp_bias")))
        refuse(c, "mlp_bias", "is set; biases of the feed-forward part are not supported");
    if (json_array_size(find(c, "mlp_only_layers")) > 0 || take_int(c, "decoder_sparse_step", 1) != 1)
        refuse(c, "mlp_only_layers", "or \"decoder_sparse_step\" mixes dense and sparse layers: not supported");
    if (json_is_true(find(c, "use_bidirectional_attention")))
        refuse(c, "use_bidirectional_attention", "is set: not supported");
}

/* Gemma 3's multimodal files leave out what equals the defaults of its class; `gemma` supplies those. */
static void take_sizes(struct config *c, struct model_spec *s, bool gemma)
{
    s->layers = take_int(c, "num_hidden_layers", INT_MIN);
    s->embed = take_int(c, "hidden_size", INT_MIN);
    s->heads = take_int(c, "num_attention_heads", gemma ? 8 : INT_MIN);
    s->kv_heads = take_int(c, "num_key_value_heads", gemma ? 4 : s->heads);
    s->head_dim = take_int(c, "head_dim", gemma ? 256 : s->heads > 0 ? s->embed / s->heads : 0);
    s->ffn = take_int(c, "intermediate_size", INT_MIN);
    s->vocab = take_int(c, "vocab_size", gemma ? 262208 : INT_MIN);
    s->context = take_int(c, "max_position_embeddings", gemma ? 131072 : INT_MIN);
    s->experts = take_int(c, "num_local_experts", take_int(c, "num_experts", 0));
    s->experts_used = take_int(c, "num_experts_per_tok", 0);
    s->expert_ffn = take_int(c, "moe_intermediate_size", s->ffn);
    s->experts_normalized = strcmp(s->arch, "qwen3moe") != 0 || json_is_true(find(c, "norm_topk_prob"));
    s->bos = take_int(c, "bos_token_id", -1);
    s->eos = take_int(c, "eos_token_id", -1);
    s->window = take_int(c, "sliding_window", 0);
    s->untied = json_is_false(find(c, "tie_word_embeddings"));
}

/* The default of the architecture's class, for files that leave rope_theta out. */
static double base_of(const char *arch)
{
    if (strcmp(arch, "gemma3") == 0 || strcmp(arch, "mixtral") == 0)
        return 1e6;
    return strcmp(arch, "gpt-oss") == 0 ? 150000 : 10000;
}

static bool fill(struct config *c, struct model_spec *s, const char *arch)
{
    bool gemma = strcmp(arch, "gemma3") == 0;

    *s = (struct model_spec){.embed_scale = 1};
    snprintf(s->arch, sizeof s->arch, "%s", arch);
    take_sizes(c, s, gemma);
    s->eps = (float)take_double(c, "rms_norm_eps", gemma ? 1e-6 : 1e-5);
    s->rope_base = take_double(c, "rope_theta", base_of(arch));
    const json_t *rope = rope_of(c, "full_attention"), *local = rope_of(c, "sliding_attention");
    s->rope_base = number(c, json_object_get(rope, "rope_theta"), "rope_theta", s->rope_base);
    s->rope_base_sliding = take_double(c, "rope_local_base_freq", 0);
    if (local != rope)
        s->rope_base_sliding = number(c, json_object_get(local, "rope_theta"), "rope_theta", s->rope_base_sliding);
    double rotated = take_double(c, "partial_rotary_factor", 1);
    rotated = number(c, json_object_get(rope, "partial_rotary_factor"), "partial_rotary_factor", rotated) * s->head_dim;
    s->rope_dims = rotated > 0 && rotated <= s->head_dim && s->head_dim <= KERN_HEAD_MAX ? (int)rotated : 0;
    double scalar = take_double(c, "query_pre_attn_scalar", gemma ? 256 : 0);
    s->attention_scale = scalar > 0 ? (float)(1 / sqrt(scalar)) : 0;
    s->attention_softcap = (float)take_double(c, "attn_logit_softcapping", 0);
    s->final_softcap = (float)take_double(c, "final_logit_softcapping", 0);
    take_scaling(c, s);
    bool known = model_arch_apply(s);
    take_layers(c, s);
    refuse_others(c, s);
    return known && !c->bad && model_spec_check(s, c->why);
}

bool model_spec_from_config(struct model_spec *out, struct span text, struct engine_problem *why)
{
    json_t *top =
        text.len <= CONFIG_LEN_MAX ? json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *nested = json_object_get(top, "text_config");
    struct config c = {.top = top, .text = json_is_object(nested) ? nested : top, .why = why};
    const char *type = json_string_value(find(&c, "model_type")), *arch = arch_of(type);
    bool ok = false;

    if (!json_is_object(top))
        engine_problem_set(why, ENGINE_E_FORMAT, "config.json is not a JSON object");
    else if (!arch)
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "config.json: model_type \"%.80s\" is not supported",
                           type ? type : "(none)");
    else
        ok = fill(&c, out, arch);
    json_decref(top);
    return ok;
}
