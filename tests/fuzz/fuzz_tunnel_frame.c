/* Target functions: tunnel_frame_decode tunnel_frame_encode */
#include "tunnel/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_of(data, size);
    struct tunnel_frame f;
    ssize_t used;
    while ((used = tunnel_frame_decode(&f, rest)) > 0) {
        struct writer w = writer_with_max(TUNNEL_FRAME_MAX);
        tunnel_frame_encode(&w, &f); /* what we accept, we would have sent: the same bytes on the way back */
        if (!span_equal(writer_span(&w), span_of(rest.data, (size_t)used)))
            abort();
        writer_release(&w);
        rest = span_of(rest.data + used, rest.len - (size_t)used);
    }
    return 0;
}
