/* model_tensors.c - names. GGUF keeps all experts of a layer in one tensor, safetensors one tensor an expert. */
#include "engine/model_tensors.h"

#include <stdio.h>

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

static bool open_shards(struct model_source *s, const struct engine_files *files, struct engine_problem *why)
{
    for (size_t i = 0; i < files->count; i++) {
        if (!ends_with(files->file[i].path, ".safetensors"))
            continue;
        if (s->shards == MODEL_SHARDS_MAX) {
            engine_problem_set(why, ENGINE_E_LIMIT, "more than %d .safetensors files", MODEL_SHARDS_MAX);
            return false;
        }
        s->shard[s->shards] = engine_safetensors_parse(files->file[i].bytes, why);
        if (!s->shard[s->shards])
            return false;
        s->shards++;
    }
    if (s->shards == 0)
        engine_problem_set(why, ENGINE_E_MISSING, "the model has no .safetensors file");
    return s->shards > 0;
}

bool model_source_open(struct model_source *s, struct model_spec *spec, const struct engine_files *files,
                       struct engine_problem *why)
{
    const struct engine_file *gguf = engine_files_only(files, ".gguf");
    const struct engine_file *config = engine_files_find(files, "config.json");

    *s = (struct model_source){.arch = spec->arch};
    if (gguf) {
        s->gguf = engine_gguf_parse(gguf->bytes, why);
        return s->gguf && model_spec_from_gguf(spec, s->gguf, why);
    }
    if (!config) {
        engine_problem_set(why, ENGINE_E_MISSING, "neither one .gguf file nor config.json with .safetensors");
        return false;
    }
    return model_spec_from_config(spec, config->bytes, why) && open_shards(s, files, why);
}

void model_source_release(struct model_source *s)
{
    engine_gguf_close(s->gguf);
    for (size_t i = 0; i < s->shards; i++)
        engine_safetensors_close(s->shard[i]);
    *s = (struct model_source){.gguf = NULL};
}

static bool find_gguf(const struct engine_gguf *g, int layer, const char *part, int expert, struct model_tensor *out)
{
    char name[128];
    if (layer < 0)
        snprintf(name, sizeof name, "%s", part);
    else
        snprintf(name, sizeof name, "blk.%d.%s", layer, part);
    const struct engine_gguf_tensor *t = engine_gguf_tensor_find(g, name);
    if (!t)
        return false;
    bool stacked = expert >= 0;
    uint64_t count = stacked ? t->dim[t->dims - 1] : 1;
    if (stacked && (t->dims < 2 || (uint64_t)expert >= count))
        return false;
    out->type = (enum kern_type)t->type;
    out->cols = t->dim[0];
    out->rows = 1;
    for (uint32_t d = 1; d < t->dims - (stacked ? 1 : 0); d++)
        out->rows *= t->dim[d];
    size_t size = t->data.len / count;
    out->data = span_of(t->data.data + (stacked ? (size_t)expert * size : 0), size);
    return true;
}

/* GGUF part -> Hugging Face part. The first rule whose architecture (NULL: any) and part fit counts. */
static const struct {
    const char *arch, *part, *hf;
} names[] = {
    {NULL, "token_embd.weight", "model.embed_tokens.weight"},
    {NULL, "output_norm.weight", "model.norm.weight"},
    {NULL, "output.weight", "lm_head.weight"},
    {NULL, "attn_norm.weight", "input_layernorm.weight"},
    {NULL, "attn_q.weight", "self_attn.q_proj.weight"},
    {NULL, "attn_k.weight", "self_attn.k_proj.weight"},
    {NULL, "attn_v.weight", "self_attn.v_proj.weight"},
    {NULL, "attn_qkv.weight", "self_attn.qkv_proj.weight"},
    {NULL, "attn_output.weight", "self_attn.o_proj.weight"},
    {NULL, "attn_q.bias", "self_attn.q_proj.bias"},
    {NULL, "attn_k.bias", "self_attn.k_proj.bias"},
    {NULL, "attn_v.bias", "self_attn.v_proj.bias"},
    {NULL, "attn_output.bias", "self_attn.o_proj.bias"},
    {NULL, "attn_q_norm.weight", "self_attn.q_norm.weight"},
    {NULL, "attn_k_norm.weight", "self_attn.k_norm.weight"},
    {NULL, "attn_sinks.weight", "self_attn.sinks"},
    {"gemma2", "ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    {"gemma3", "ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    {"gemma2", "post_attention_norm.weight", "post_attention_layernorm.weight"},
    {"gemma3", "post_attention_norm.weight", "post_attention_layernorm.weight"},
    {NULL, "post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
    {NULL, "ffn_norm.weight", "post_attention_layernorm.weight"},
    {NULL, "ffn_gate.weight", "mlp.gate_proj.weight"},
    {"phi3", "ffn_up.weight", "mlp.gate_up_proj.weight"},
    {NULL, "ffn_up.weight", "mlp.up_proj.weight"},
    {NULL, "ffn_down.weight", "mlp.down_proj.weight"},
    {"mixtral", "ffn_gate_inp.weight", "block_sparse_moe.gate.weight"},
    {"mixtral", "ffn_gate_exps.weight", "block_sparse_moe.experts.%d.w1.weight"},
    {"mixtral", "ffn_up_exps.weight", "block_sparse_moe.experts.%d.w3.weight"},
    {"mixtral", "ffn_down_exps.weight", "block_sparse_moe.experts.%d.w2.weight"},
    {NULL, "ffn_gate_inp.weight", "mlp.gate.weight"},
    {NULL, "ffn_gate_exps.weight", "mlp.experts.%d.gate_proj.weight"},
    {NULL, "ffn_up_exps.weight", "mlp.experts.%d.up_proj.weight"},
    {NULL, "ffn_down_exps.weight", "mlp.experts.%d.down_proj.weight"},
};

static const char *hf_part(const char *arch, const char *part)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].part, part) == 0 && (!names[i].arch || strcmp(names[i].arch, arch) == 0))
            return names[i].hf;
    return NULL;
}

/* The whole name, in one of three forms: plain, and the two in which multimodal checkpoints wrap the language model. */
#define FORMS 3
static bool hf_name(char *to, size_t size, const char *part, int layer, int expert, int form)
{
    static const char *const wraps[FORMS][2] = {/* before "model." and after it */
                                                {"", ""},
                                                {"language_model.", ""},
                                                {"", "language_model."}};
    char within[128];
    const char *number = strstr(part, "%d");
    bool in_model = strncmp(part, "model.", 6) == 0;
    if ((number != NULL) != (expert >= 0))
        return false;
    if (number)
        snprintf(within, sizeof within, "%.*s%d%s", (int)(number - part), part, expert, number + 2);
    else
        snprintf(within, sizeof within, "%s", in_model ? part + 6 : part);
    if (layer >= 0)
        snprintf(to, size, "%smodel.%slayers.%d.%s", wraps[form][0], wraps[form][1], layer, within);
    else if (in_model)
        snprintf(to, size, "%smodel.%s%s", wraps[form][0], wraps[form][1], within);
    else
        snprintf(to, size, "%s%s", wraps[form][0], within);
    return true;
}

static bool find_safetensors(const struct model_source *s, int layer, const char *part, int expert,
                             struct model_tensor *out)
{
    const struct engine_safetensor *t = NULL;
    const char *hf = hf_part(s->arch, part);
    char name[192];

    for (int form = 0; hf && !t && form < FORMS; form++) {
        if (!hf_name(name, sizeof name, hf, layer, expert, form))
            return false;
        for (size_t i = 0; !t && i < s->shards; i++)
            t = engine_safetensors_find(s->shard[i], name);
    }
    if (!t || t->dims < 1 || t->dims > 2)
        return false;
    out->type = t->type;
    out->cols = t->dims == 1 ? t->dim[0] : t->dim[1];
    out->rows = t->dims == 1 ? 1 : t->dim[0];
    out->data = t->data;
    return true;
}

bool model_source_find(const struct model_source *s, int layer, const char *part, int expert, struct model_tensor *out)
{
    return s->gguf ? find_gguf(s->gguf, layer, part, expert, out) : find_safetensors(s, layer, part, expert, out);
}
