/* Target functions: engine_safetensors_parse engine_safetensors_find. What is accepted lies inside its bytes. */
#include "engine/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) /* as assert(), in every build */
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_safetensors *s = engine_safetensors_parse(span_of(data, size), &why);
    require((s == NULL) == (why.code != ENGINE_OK));
    for (size_t i = 0; s && i < engine_safetensors_count(s); i++) {
        const struct engine_safetensor *t = engine_safetensors_at(s, i);
        uint64_t elements = t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
        require(t->data.data >= data && t->data.data + t->data.len <= data + size);
        if (t->kind == ENGINE_SAFETENSOR_FLOATS)
            require(t->data.len == elements * (t->type == KERN_F32 ? 4 : 2));
        require(engine_safetensors_find(s, t->name) != NULL);
    }
    engine_safetensors_close(s);
    return 0;
}
