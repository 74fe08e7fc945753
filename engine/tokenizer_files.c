/* tokenizer_files.c - where in a model's files the vocabulary is. */
#include "engine/shards.h"
#include "engine/tokenizer.h"

static struct span bytes_of(const struct engine_files *files, const char *path)
{
    const struct engine_file *f = engine_files_find(files, path);
    return f ? f->bytes : span_of(NULL, 0);
}

struct engine_tokenizer *engine_tokenizer_open_files(const struct engine_files *files, struct engine_problem *why)
{
    struct engine_gguf *gguf;
    if (!engine_shards_open(files, &gguf, why))
        return NULL;
    if (gguf) {
        struct engine_tokenizer *t = engine_tokenizer_open_gguf(gguf, why);
        engine_gguf_close(gguf);
        return t;
    }
    struct engine_tokenizer_texts texts = {
        .tokenizer = bytes_of(files, "tokenizer.json"),
        .config = bytes_of(files, "tokenizer_config.json"),
        .generation = bytes_of(files, "generation_config.json"),
        .chat_template = bytes_of(files, "chat_template.jinja"),
    };
    if (texts.tokenizer.len > 0)
        return engine_tokenizer_open_json(&texts, why);
    engine_problem_set(why, ENGINE_E_MISSING, "the model has neither .gguf nor a tokenizer.json");
    return NULL;
}
