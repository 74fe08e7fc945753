/* Target functions: engine_gguf_parse engine_gguf_parse_parts engine_gguf_find engine_gguf_at_*. What is accepted lies
 * inside its bytes. Input that starts with "2" is a set of two files: u16 length of the first, then both. */
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
    struct span parts[2] = {span_of(data, size)};
    size_t count = 1;
    if (size >= 3 && data[0] == '2') {
        size_t first = (size_t)(data[1] | data[2] << 8), rest = size - 3;
        first = first < rest ? first : rest;
        parts[0] = span_of(data + 3, first);
        parts[1] = span_of(data + 3 + first, rest - first);
        count = 2;
    }
    struct engine_gguf *g = engine_gguf_parse_parts(parts, count, &why);
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
