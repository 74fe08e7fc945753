/* Target functions: engine_model_plan engine_model_open engine_model_step. A plan tells what opening then takes. Model
 * files of any bytes are refused with a reason, or run a token without touching memory that is not their own. Input
 * starting with '{' is a config.json, then after a zero byte model.safetensors.index.json, then after another
 * model.safetensors; the rest is a GGUF file. */
#include "engine/model.h"

#include <stdlib.h>

#define CONFIG_TEXT '{'
#define VOCAB_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_one(struct engine_model *m)
{
    static float logits[VOCAB_MAX];
    const struct engine_model_info *info = engine_model_info(m);
    const int blocks[ENGINE_KV_GROUPS] = {1, 1};
    const int32_t token = 0, table = 0;
    struct engine_kv *kv = info->vocab <= VOCAB_MAX ? engine_kv_open(m, 16, blocks, NULL) : NULL;
    struct engine_step_seq seq = {&token, 1, 0, {&table, &table}, ENGINE_LOGITS_LAST};
    if (kv && engine_model_step(m, kv, &seq, 1, logits) != ENGINE_OK)
        abort();
    engine_kv_close(kv);
}

static void add(struct engine_files *files, const char *path, struct span bytes)
{
    uint8_t *to = engine_files_add(files, path, bytes.len, NULL);
    if (!to)
        abort();
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
}

/* A file up to the next zero byte, unless that leaves it empty. */
static void add_text(struct engine_files *files, const char *path, struct span *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->data, 0, rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->data) : rest->len, skip = end ? len + 1 : len;
    if (len > 0)
        add(files, path, span_of(rest->data, len));
    *rest = span_of(rest->data + skip, rest->len - skip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct engine_files files = {0, NULL};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_model_options options = {.threads = 1};
    bool config = size > 0 && data[0] == CONFIG_TEXT;
    struct span rest = span_of(data, size);
    if (!config) {
        add(&files, "model.gguf", rest);
    } else {
        add_text(&files, "config.json", &rest);
        add_text(&files, "model.safetensors.index.json", &rest);
        if (rest.len > 0)
            add(&files, "model.safetensors", rest);
    }
    struct engine_model_info plan;
    bool planned = engine_model_plan(&files, &options, &plan, NULL);
    struct engine_model *m = engine_model_open(&files, false, &options, &why);
    if (m && (!planned || plan.laid_out_bytes != engine_model_info(m)->laid_out_bytes))
        abort();
    if ((m == NULL) != (why.code != ENGINE_OK))
        abort();
    if (m)
        run_one(m);
    engine_model_close(m);
    engine_files_release(&files);
    return 0;
}
