/* model_tensors.c - names. GGUF keeps all experts of a layer in one tensor, safetensors one tensor an expert; GPT-OSS
 * has a packed form of its own. */
#include "engine/model_tensors.h"

#include "engine/shards.h"

#include <stdio.h>
#include <stdlib.h>

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

/* --- opening --------------------------------------------------------------------------------------- */

static const struct engine_safetensor *find_anywhere(const struct model_source *s, const char *name)
{
    const struct engine_safetensor *t = NULL;
    for (size_t i = 0; !t && i < s->shards; i++)
        t = engine_safetensors_find(s->shard[i], name);
    return t;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A name must be in one shard only: whose bytes would be used is nobody's guess. */
static bool names_are_single(const struct model_source *s, struct engine_problem *why)
{
    size_t all = 0, n = 0;
    for (size_t i = 0; i < s->shards; i++)
        all += engine_safetensors_count(s->shard[i]);
    const char **names = calloc(all + 1, sizeof *names);
    if (!names) {
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory for the names of %zu tensors", all);
        return false;
    }
    for (size_t i = 0; i < s->shards; i++)
        for (size_t t = 0; t < engine_safetensors_count(s->shard[i]); t++)
            names[n++] = engine_safetensors_at(s->shard[i], t)->name;
    qsort(names, n, sizeof *names, name_order);
    bool ok = true;
    for (size_t i = 1; ok && i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0) {
            engine_problem_set(why, ENGINE_E_DUPLICATE, "tensor %.80s is in two .safetensors files", names[i]);
            ok = false;
        }
    free(names);
    return ok;
}

/* Every tensor that the index lists is there, in the shard that it says. */
static bool index_holds(const struct engine_files *files, const json_t *map, const struct model_source *s,
                        struct engine_problem *why)
{
    const char *tensor;
    const json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file)
    {
        const char *name = json_string_value(file);
        const struct engine_file *shard = engine_files_find(files, name);
        const struct engine_safetensor *t = shard ? find_anywhere(s, tensor) : NULL;
        if (!shard)
            engine_problem_set(why, ENGINE_E_MISSING, "%s, which %s names for tensor %.80s, is missing", name,
                               ENGINE_SHARDS_INDEX, tensor);
        else if (!t || t->data.data < shard->bytes.data || t->data.data > shard->bytes.data + shard->bytes.len)
            engine_problem_set(why, ENGINE_E_MISSING, "tensor %.80s is not in %s, as %s says", tensor, name,
                               ENGINE_SHARDS_INDEX);
        else
            continue;
        return false;
    }
    return true;
}

static bool open_shards(struct model_source *s, const struct engine_files *files, struct engine_problem *why)
{
    json_t *map;
    bool ok = engine_shards_index(files, &map, why);
    for (size_t i = 0; ok && i < files->count; i++) {
        if (!ends_with(files->file[i].path, ".safetensors") || (map && !engine_shards_names(map, files->file[i].path)))
            continue;
        if (s->shards == MODEL_SHARDS_MAX) {
            engine_problem_set(why, ENGINE_E_LIMIT, "more than %d .safetensors files", MODEL_SHARDS_MAX);
            ok = false;
            break;
        }
        s->shard[s->shards] = engine_safetensors_parse(files->file[i].bytes, why);
        ok = s->shard[s->shards] != NULL;
        s->shards += ok;
    }
    if (ok && s->shards == 0)
        engine_problem_set(why, ENGINE_E_MISSING, "the model has no .safetensors file");
    ok = ok && s->shards > 0 && names_are_single(s, why) && (!map || index_holds(files, map, s, why));
    json_decref(map);
    return ok;
}

bool model_source_open(struct model_source *s, struct model_spec *spec, const struct engine_files *files,
                       struct engine_problem *why)
{
    const struct engine_file *config = engine_files_find(files, "config.json");

    *s = (struct model_source){.arch = spec->arch};
    if (!engine_shards_open(files, &s->gguf, why))
        return false;
    if (s->gguf)
        return model_spec_from_gguf(spec, s->gguf, why);
    if (!config) {
        engine_problem_set(why, ENGINE_E_MISSING, "neither a .gguf file nor config.json with .safetensors");
        return false;
    }
    return model_spec_from_config(spec, config->bytes, why) && open_shards(s, files, why);
}

void model_source_release(struct model_source *s)
{
    engine_gguf_close(s->gguf);
    for (size_t i = 0; i < s->shards; i++)
        engine_safetensors_close(s->shard[i]);
    free(s->scratch);
    *s = (struct model_source){.gguf = NULL};
}

/* --- GGUF ------------------------------------------------------------------------------------------ */

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
    out->data = out->file = span_of(t->data.data + (stacked ? (size_t)expert * size : 0), size);
    return true;
}

/* --- Hugging Face ----------------------------------------------------------------------------------- */

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
    {"gpt-oss", "post_attention_norm.weight", "post_attention_layernorm.weight"},
    {"gpt-oss", "ffn_gate_inp.weight", "mlp.router.weight"},
    {"gpt-oss", "ffn_gate_inp.bias", "mlp.router.bias"},
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

static const struct engine_safetensor *find_hf(const struct model_source *s, const char *hf, int layer, int expert)
{
    const struct engine_safetensor *t = NULL;
    char name[192];
    for (int form = 0; !t && form < FORMS && hf_name(name, sizeof name, hf, layer, expert, form); form++)
        t = find_anywhere(s, name);
    return t;
}

static bool find_safetensors(const struct model_source *s, int layer, const char *part, int expert,
                             struct model_tensor *out, struct engine_problem *why)
{
    const char *hf = hf_part(s->arch, part);
    const struct engine_safetensor *t = hf ? find_hf(s, hf, layer, expert) : NULL;
    if (!t)
        return false;
    if (t->kind != ENGINE_SAFETENSOR_FLOATS || t->dims < 1 || t->dims > 2) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED,
                           "tensor %.100s is no vector or matrix of F32, F16 or BF16, the types we read", t->name);
        return false;
    }
    out->type = t->type;
    out->cols = t->dims == 1 ? t->dim[0] : t->dim[1];
    out->rows = t->dims == 1 ? 1 : t->dim[0];
    out->data = out->file = t->data;
    return true;
}

/* --- GPT-OSS: the experts of a layer in one tensor, packed --------------------------------------------- */

#define PACKED_BLOCK 16 /* bytes: 32 values of 4 bits, neighbours in one byte, the first in its low half */
#define MXFP4_BYTES 17  /* of GGUF's form: exponent, then values j and j + 16 in byte j */

/* gate_up_proj holds rows of gate and up in turn. */
struct packed {
    const char *part, *base;
    uint64_t first, step;
    bool bias, last; /* last: nothing else needs its bytes */
};

static const struct packed *packed_part(const char *part)
{
    static const struct packed parts[] = {
        {"ffn_gate_exps.weight", "mlp.experts.gate_up_proj", 0, 2, false, false},
        {"ffn_up_exps.weight", "mlp.experts.gate_up_proj", 1, 2, false, true},
        {"ffn_down_exps.weight", "mlp.experts.down_proj", 0, 1, false, true},
        {"ffn_gate_exps.bias", "mlp.experts.gate_up_proj", 0, 2, true, false},
        {"ffn_up_exps.bias", "mlp.experts.gate_up_proj", 1, 2, true, false},
        {"ffn_down_exps.bias", "mlp.experts.down_proj", 0, 1, true, false},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].part, part) == 0)
            return &parts[i];
    return NULL;
}

static bool scratch_fits(struct model_source *s, size_t len, struct engine_problem *why)
{
    if (len <= s->scratch_len)
        return true;
    free(s->scratch);
    s->scratch = malloc(len);
    s->scratch_len = s->scratch ? len : 0;
    if (!s->scratch)
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory for an expert of %zu bytes", len);
    return s->scratch != NULL;
}

static void repack_block(uint8_t *to, const uint8_t *values, uint8_t exponent)
{
    to[0] = exponent;
    for (int k = 0; k < PACKED_BLOCK / 2; k++) {
        uint8_t low = values[k], high = values[PACKED_BLOCK / 2 + k];
        to[1 + 2 * k] = (uint8_t)((low & 15) | high << 4);
        to[2 + 2 * k] = (uint8_t)(low >> 4 | (high & 0xf0));
    }
}

static const struct engine_safetensor *packed_tensor(const struct model_source *s, int layer, const struct packed *p,
                                                     const char *suffix)
{
    char hf[64];
    snprintf(hf, sizeof hf, "%s%s", p->base, suffix);
    return find_hf(s, hf, layer, -1);
}

static bool find_packed_bias(struct model_source *s, int layer, const struct packed *p, int expert,
                             struct model_tensor *out, struct engine_problem *why)
{
    const struct engine_safetensor *t = packed_tensor(s, layer, p, "_bias");
    if (!t)
        return false;
    if (t->kind != ENGINE_SAFETENSOR_FLOATS || t->dims != 2 || t->dim[0] <= (uint64_t)expert || t->dim[1] % p->step) {
        engine_problem_set(why, ENGINE_E_SHAPE, "tensor %.100s has another shape or type than we read", t->name);
        return false;
    }
    size_t size = kern_quant_find((uint32_t)t->type)->bytes, n = (size_t)(t->dim[1] / p->step);
    const uint8_t *from = t->data.data + ((size_t)expert * (size_t)t->dim[1] + (size_t)p->first) * size;
    *out = (struct model_tensor){.type = t->type, .cols = n, .rows = 1};
    if (s->shapes_only)
        return true;
    if (!scratch_fits(s, n * size, why))
        return false;
    for (size_t i = 0; i < n; i++)
        memcpy(s->scratch + i * size, from + i * (size_t)p->step * size, size);
    out->data = span_of(s->scratch, n * size);
    return true;
}

static bool find_packed(struct model_source *s, int layer, const struct packed *p, int expert, struct model_tensor *out,
                        struct engine_problem *why)
{
    const struct engine_safetensor *t = packed_tensor(s, layer, p, "_blocks"),
                                   *e = packed_tensor(s, layer, p, "_scales");
    if (!t || !e)
        return false;
    if (t->kind != ENGINE_SAFETENSOR_BYTES || e->kind != ENGINE_SAFETENSOR_BYTES || t->dims != 4 || e->dims != 3 ||
        t->dim[3] != PACKED_BLOCK || t->dim[0] != e->dim[0] || t->dim[1] != e->dim[1] || t->dim[2] != e->dim[2] ||
        t->dim[0] <= (uint64_t)expert || t->dim[1] % p->step) {
        engine_problem_set(why, ENGINE_E_SHAPE, "tensors %.60s and _scales are no MXFP4 blocks with their scales",
                           t->name);
        return false;
    }
    size_t rows = (size_t)(t->dim[1] / p->step), blocks = (size_t)t->dim[2], len = rows * blocks * MXFP4_BYTES,
           slice = (size_t)t->dim[1] * blocks;
    const uint8_t *values = t->data.data + (size_t)expert * slice * PACKED_BLOCK,
                  *scales = e->data.data + (size_t)expert * slice;
    *out = (struct model_tensor){.type = KERN_MXFP4, .cols = 32 * (uint64_t)blocks, .rows = rows};
    if (s->shapes_only)
        return true;
    if (!scratch_fits(s, len, why))
        return false;
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0; b < blocks; b++) {
            size_t at = (r * (size_t)p->step + (size_t)p->first) * blocks + b;
            repack_block(s->scratch + (r * blocks + b) * MXFP4_BYTES, values + at * PACKED_BLOCK, scales[at]);
        }
    out->data = span_of(s->scratch, len);
    out->file = span_of(values, p->last ? slice * PACKED_BLOCK : 0);
    return true;
}

bool model_source_find(struct model_source *s, int layer, const char *part, int expert, struct model_tensor *out,
                       struct engine_problem *why)
{
    const struct packed *p = strcmp(s->arch, "gpt-oss") == 0 && expert >= 0 ? packed_part(part) : NULL;
    if (s->gguf)
        return find_gguf(s->gguf, layer, part, expert, out);
    if (p)
        return p->bias ? find_packed_bias(s, layer, p, expert, out, why) : find_packed(s, layer, p, expert, out, why);
    return find_safetensors(s, layer, part, expert, out, why);
}
