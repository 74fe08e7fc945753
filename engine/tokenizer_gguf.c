/* tokenizer_gguf.c - the vocabulary in a GGUF file's `tokenizer.ggml.*` keys. */
#include <stdlib.h>

#include "engine/files.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"

struct arrays { /* owned */
    float *scores;
    uint8_t *types;
    int32_t *ends;
};

static const struct {
    const char *name;
    enum engine_pretokenizer pre;
    bool whole_first, compose, add_bos; /* what the key does not say */
} pretokenizers[] = {
    {"gpt-2", ENGINE_PRE_GPT2, false, false, false},
    {"gpt2", ENGINE_PRE_GPT2, false, false, false},
    {"phi-2", ENGINE_PRE_GPT2, false, false, false},
    {"jais", ENGINE_PRE_GPT2, false, false, false},
    {"olmo", ENGINE_PRE_GPT2, false, true, false},
    {"mpt", ENGINE_PRE_GPT2, false, true, false},
    {"llama-bpe", ENGINE_PRE_LLAMA3, true, false, true},
    {"llama3", ENGINE_PRE_LLAMA3, true, false, true},
    {"llama-v3", ENGINE_PRE_LLAMA3, true, false, true},
    {"pixtral", ENGINE_PRE_LLAMA3, true, false, true},
    {"falcon3", ENGINE_PRE_LLAMA3, true, false, true},
    {"dbrx", ENGINE_PRE_LLAMA3, false, false, false},
    {"smaug-bpe", ENGINE_PRE_LLAMA3, false, false, false},
    {"qwen2", ENGINE_PRE_QWEN2, false, true, false},
    {"deepseek-r1-qwen", ENGINE_PRE_QWEN2, false, true, true},
    {"smollm", ENGINE_PRE_DIGITS, false, false, false},
    {"refact", ENGINE_PRE_DIGITS, false, false, false},
    {"starcoder", ENGINE_PRE_DIGITS, false, false, false},
    {"codeshell", ENGINE_PRE_DIGITS, false, false, false},
    {"exaone", ENGINE_PRE_DIGITS, false, false, false},
    {"command-r", ENGINE_PRE_DIGITS, false, true, false},
    {"gpt-4o", ENGINE_PRE_O200K, false, false, false},
    {"llama4", ENGINE_PRE_O200K, false, false, true},
    {"tekken", ENGINE_PRE_TEKKEN, true, false, true},
};

static bool refuse(struct engine_problem *why, enum engine_err err, const char *key, const char *what)
{
    engine_problem_set(why, err, "%s: %s", key, what);
    return false;
}

static bool find_family(struct engine_vocab *v, const struct engine_gguf *g, struct engine_problem *why)
{
    struct span model = {0}, pre = {0};
    if (!engine_gguf_str(g, "tokenizer.ggml.model", &model))
        return refuse(why, ENGINE_E_MISSING, "tokenizer.ggml.model", "not in the file, or not a string");
    if (span_is(model, "llama")) {
        v->family = ENGINE_VOCAB_SPM;
        v->add_bos = v->space_prefix = true; /* what the keys' absence means */
        return true;
    }
    if (span_is(model, "gemma4")) {
        v->family = ENGINE_VOCAB_SPM_RANKED;
        v->add_bos = true;
        return true;
    }
    if (!span_is(model, "gpt2")) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "tokenizer.ggml.model: \"%.*s\" is not a kind that is read here",
                           ENGINE_NAME(model));
        return false;
    }
    v->family = ENGINE_VOCAB_BPE;
    (void)engine_gguf_str(g, "tokenizer.ggml.pre", &pre);
    for (size_t i = 0; i < sizeof pretokenizers / sizeof *pretokenizers; i++)
        if (span_is(pre, pretokenizers[i].name)) {
            v->pre = pretokenizers[i].pre;
            v->whole_first = pretokenizers[i].whole_first;
            v->compose = pretokenizers[i].compose;
            v->add_bos = pretokenizers[i].add_bos;
            return true;
        }
    engine_problem_set(why, ENGINE_E_UNSUPPORTED,
                       "tokenizer.ggml.pre: \"%.*s\" is not a pre-tokenizer that is known here", ENGINE_NAME(pre));
    return false;
}

static const struct engine_gguf_value *strings(const struct engine_gguf *g, const char *key, struct engine_problem *why)
{
    const struct engine_gguf_value *a = engine_gguf_find(g, key);
    if (!a || a->type != ENGINE_GGUF_ARRAY || !a->strings) {
        engine_problem_set(why, ENGINE_E_MISSING, "%s: not in the file, or not a list of strings", key);
        return NULL;
    }
    return a;
}

static bool read_scores(struct engine_vocab *v, const struct engine_gguf *g, struct arrays *own,
                        struct engine_problem *why)
{
    const struct engine_gguf_value *a = engine_gguf_find(g, "tokenizer.ggml.scores");
    if (v->family != ENGINE_VOCAB_SPM)
        return true;
    if (!a || a->count != v->count)
        return refuse(why, ENGINE_E_MISMATCH, "tokenizer.ggml.scores", "not as many as tokens");
    own->scores = calloc(v->count, sizeof *own->scores);
    if (!own->scores)
        return refuse(why, ENGINE_E_MEMORY, "tokenizer.ggml.scores", "too little memory");
    for (size_t i = 0; i < v->count; i++) {
        double score;
        if (!engine_gguf_at_f64(a, i, &score))
            return refuse(why, ENGINE_E_TYPE, "tokenizer.ggml.scores", "not a list of numbers");
        own->scores[i] = (float)score;
    }
    v->scores = own->scores;
    return true;
}

static bool read_types(struct engine_vocab *v, const struct engine_gguf *g, struct arrays *own,
                       struct engine_problem *why)
{
    const struct engine_gguf_value *a = engine_gguf_find(g, "tokenizer.ggml.token_type");
    if (a && a->count != v->count)
        return refuse(why, ENGINE_E_MISMATCH, "tokenizer.ggml.token_type", "not as many as tokens");
    own->types = malloc(v->count ? v->count : 1);
    if (!own->types)
        return refuse(why, ENGINE_E_MEMORY, "tokenizer.ggml.token_type", "too little memory");
    memset(own->types, ENGINE_TOKEN_NORMAL, v->count);
    for (size_t i = 0; a && i < v->count; i++) {
        uint64_t type;
        if (!engine_gguf_at_u64(a, i, &type) || type < ENGINE_TOKEN_NORMAL || type > ENGINE_TOKEN_BYTE)
            return refuse(why, ENGINE_E_RANGE, "tokenizer.ggml.token_type", "not a list of numbers from 1 to 6");
        own->types[i] = (uint8_t)type;
    }
    v->types = own->types;
    return true;
}

static bool read_id(const struct engine_gguf *g, const char *key, size_t count, int32_t *out,
                    struct engine_problem *why)
{
    uint64_t id;
    if (!engine_gguf_find(g, key))
        return true;
    if (!engine_gguf_u64(g, key, &id) || id >= count)
        return refuse(why, ENGINE_E_RANGE, key, "not the id of a token");
    *out = (int32_t)id;
    return true;
}

static bool read_ids(struct engine_vocab *v, const struct engine_gguf *g, struct arrays *own,
                     struct engine_problem *why)
{
    static const char *const end_keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    own->ends = calloc(sizeof end_keys / sizeof *end_keys, sizeof *own->ends);
    if (!own->ends)
        return refuse(why, ENGINE_E_MEMORY, end_keys[0], "too little memory");
    if (!read_id(g, "tokenizer.ggml.bos_token_id", v->count, &v->bos, why) ||
        !read_id(g, "tokenizer.ggml.eos_token_id", v->count, &v->eos, why) ||
        !read_id(g, "tokenizer.ggml.unknown_token_id", v->count, &v->unknown, why))
        return false;
    for (size_t i = 0; i < sizeof end_keys / sizeof *end_keys; i++) {
        int32_t id = -1;
        if (!read_id(g, end_keys[i], v->count, &id, why))
            return false;
        if (id >= 0)
            own->ends[v->end_count++] = id;
    }
    v->ends = own->ends;
    return true;
}

static void read_switches(struct engine_vocab *v, const struct engine_gguf *g)
{
    struct span arch = {0};
    (void)engine_gguf_bool(g, "tokenizer.ggml.add_bos_token", &v->add_bos);
    (void)engine_gguf_bool(g, "tokenizer.ggml.add_eos_token", &v->add_eos);
    (void)engine_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &v->space_prefix);
    v->add_bos = v->add_bos && v->bos >= 0;
    /* Phi-3's control tokens strip to their right (its tokenizer.json says so; GGUF has no key for it). */
    v->control_strips =
        v->family == ENGINE_VOCAB_SPM && engine_gguf_str(g, "general.architecture", &arch) && span_is(arch, "phi3");
    (void)engine_gguf_str(g, "tokenizer.chat_template", &v->chat_template);
}

static bool read_vocab(struct engine_vocab *v, const struct engine_gguf *g, struct arrays *own,
                       struct engine_problem *why)
{
    const struct engine_gguf_value *tokens = strings(g, "tokenizer.ggml.tokens", why);
    if (!tokens || !find_family(v, g, why))
        return false;
    if (tokens->count > ENGINE_VOCAB_MAX)
        return refuse(why, ENGINE_E_LIMIT, "tokenizer.ggml.tokens", "more tokens than are read");
    v->pieces = tokens->strings;
    v->count = (size_t)tokens->count;
    if (v->family != ENGINE_VOCAB_SPM) {
        const struct engine_gguf_value *merges = strings(g, "tokenizer.ggml.merges", why);
        if (!merges)
            return false;
        v->merges = merges->strings;
        v->merge_count = (size_t)merges->count;
    }
    if (!read_scores(v, g, own, why) || !read_types(v, g, own, why) || !read_ids(v, g, own, why))
        return false;
    read_switches(v, g);
    return true;
}

struct engine_tokenizer *engine_tokenizer_open_gguf(const struct engine_gguf *gguf, struct engine_problem *why)
{
    struct engine_vocab v = {.bos = -1, .eos = -1, .unknown = -1};
    struct arrays own = {0};
    struct engine_tokenizer *t = read_vocab(&v, gguf, &own, why) ? engine_tokenizer_open(&v, why) : NULL;
    free(own.scores);
    free(own.types);
    free(own.ends);
    return t;
}
