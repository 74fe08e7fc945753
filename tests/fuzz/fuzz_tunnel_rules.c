/* Target functions: tunnel_rules_parse tunnel_rules_encode */
#include "tunnel/link.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tunnel_rules rules;
    if (tunnel_rules_parse(&rules, span_of(data, size)) != READER_OK)
        return 0;
    struct writer w = writer_with_max(TUNNEL_RULES_MAX);
    tunnel_rules_encode(&w, &rules);
    if (!span_equal(writer_span(&w), span_of(data, size))) /* one form only */
        abort();
    writer_release(&w);
    return 0;
}
