/* Target functions: engine_model_open engine_model_step. A model file of any bytes is refused with a reason, or runs a
 * token without touching memory that is not its own. Input starting with '{' is a config.json, the rest a GGUF. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct engine_files files = {0, NULL};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_model_options options = {.threads = 1};
    bool config = size > 0 && data[0] == CONFIG_TEXT;
    uint8_t *to = engine_files_add(&files, config ? "config.json" : "model.gguf", size, &why);
    if (to && size)
        memcpy(to, data, size);
    struct engine_model *m = to ? engine_model_open(&files, false, &options, &why) : NULL;
    if ((m == NULL) != (why.code != ENGINE_OK))
        abort();
    if (m)
        run_one(m);
    engine_model_close(m);
    engine_files_release(&files);
    return 0;
}
