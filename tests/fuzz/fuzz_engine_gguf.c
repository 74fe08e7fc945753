/* Target functions: engine_gguf_parse engine_gguf_find engine_gguf_at_*. What is accepted lies inside its bytes. */
#include "engine/gguf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void require(bool holds) /* as assert(), in every build */
{
    if (!holds)
        abort();
}

static void touch(struct span s, const uint8_t *data, size_t size)
{
    require(s.len == 0 || (s.data >= data && s.data + s.len <= data + size));
    for (size_t i = 0; i < s.len; i += 61)
        sink ^= s.data[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_gguf *g = engine_gguf_parse(span_of(data, size), &why);
    require((g == NULL) == (why.code != ENGINE_OK));
    for (size_t i = 0; g && i < engine_gguf_key_count(g); i++) {
        const struct engine_gguf_value *v = engine_gguf_key(g, i);
        struct span text;
        double number;
        bool flag;
        touch(v->key, data, size);
        touch(v->bytes, data, size);
        for (uint64_t e = 0; e < v->count && e < 64; e++) {
            if (engine_gguf_at_str(v, e, &text))
                touch(text, data, size);
            (void)engine_gguf_at_f64(v, e, &number);
            (void)engine_gguf_at_bool(v, e, &flag);
        }
        require(!engine_gguf_at_str(v, v->count, &text));
    }
    for (size_t i = 0; g && i < engine_gguf_tensor_count(g); i++)
        touch(engine_gguf_tensor(g, i)->data, data, size);
    engine_gguf_close(g);
    return 0;
}
