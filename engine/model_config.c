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

static void take_scaling(struct config *c, struct model_spec *s)
{
    const json_t *v = find(c, "rope_scaling");
    if (!v)
        v = find(c, "rope_parameters");
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
    if (!type || strcmp(type, "default") == 0)
        s->scaling = MODEL_ROPE_PLAIN;
    else if (strcmp(type, "linear") == 0)
        s->scaling = MODEL_ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        s->scaling = MODEL_ROPE_LLAMA3;
    else if (strcmp(type, "yarn") == 0)
        s->scaling = MODEL_ROPE_YARN;
    else if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) {
        s->scaling = MODEL_ROPE_LONG;
        take_factors(c, json_object_get(v, "short_factor"), s->long_factor[0], s->rope_dims / 2);
        take_factors(c, json_object_get(v, "long_factor"), s->long_factor[1], s->rope_dims / 2);
    } else {
        engine_problem_set(c->why, ENGINE_E_UNSUPPORTED, "config.json: this kind of rope_scaling is not supported");
        c->bad = true;
    }
}

/* "layer_types" names each layer; "sliding_window_pattern" counts. Both override the architecture's habit. */
static void take_layers(struct config *c, struct model_spec *s)
{
    const json_t *types = find(c, "layer_types"), *use = find(c, "use_sliding_window");
    int pattern = take_int(c, "sliding_window_pattern", 0);
    for (int i = 0; i < MODEL_LAYERS_MAX; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (type)
            s->sliding[i] = strcmp(type, "sliding_attention") == 0;
        else if (pattern > 0)
            s->sliding[i] = (i + 1) % pattern != 0;
        if (json_is_false(use))
            s->sliding[i] = false;
    }
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
    s->experts_normalized = !json_is_false(find(c, "norm_topk_prob"));
    s->bos = take_int(c, "bos_token_id", -1);
    s->eos = take_int(c, "eos_token_id", -1);
    s->window = take_int(c, "sliding_window", 0);
}

static bool fill(struct config *c, struct model_spec *s, const char *arch)
{
    bool gemma = strcmp(arch, "gemma3") == 0;

    *s = (struct model_spec){.embed_scale = 1, .rope_base = gemma ? 1e6 : 0};
    snprintf(s->arch, sizeof s->arch, "%s", arch);
    take_sizes(c, s, gemma);
    s->eps = (float)take_double(c, "rms_norm_eps", gemma ? 1e-6 : 1e-5);
    s->rope_base = take_double(c, "rope_theta", s->rope_base > 0 ? s->rope_base : 10000);
    s->rope_base = number(c, json_object_get(find(c, "rope_parameters"), "rope_theta"), "rope_theta", s->rope_base);
    s->rope_base_sliding = take_double(c, "rope_local_base_freq", 0);
    double rotated = take_double(c, "partial_rotary_factor", 1) * s->head_dim;
    s->rope_dims = rotated > 0 && rotated <= s->head_dim && s->head_dim <= KERN_HEAD_MAX ? (int)rotated : 0;
    double scalar = take_double(c, "query_pre_attn_scalar", gemma ? 256 : 0);
    s->attention_scale = scalar > 0 ? (float)(1 / sqrt(scalar)) : 0;
    s->attention_softcap = (float)take_double(c, "attn_logit_softcapping", 0);
    s->final_softcap = (float)take_double(c, "final_logit_softcapping", 0);
    take_scaling(c, s);
    bool known = model_arch_apply(s);
    take_layers(c, s);
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
