/* Target functions: engine_artefact_parse engine_artefact_encode */
#include <assert.h>

#include "engine/artefact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct engine_artefact a;
    if (!engine_artefact_parse(&a, span_of(data, size)))
        return 0;
    struct writer w = writer_with_max(ENGINE_ARTEFACT_MANIFEST_MAX);
    engine_artefact_encode(&w, &a); /* what we accept, we would have written */
    assert(span_equal(writer_span(&w), span_of(data, size)));
    writer_release(&w);
    engine_artefact_release(&a);
    return 0;
}
