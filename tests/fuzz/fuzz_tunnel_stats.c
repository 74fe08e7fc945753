/* Target functions: tunnel_stats_parse tunnel_stats_pack tunnel_stats_text. What is accepted packs to the same bytes.
 */
#include <assert.h>

#include "tunnel/stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tunnel_stats s;
    struct writer packed = writer_with_max(TUNNEL_STATS_MAX), text = writer_with_max(1 << 20);
    if (tunnel_stats_parse(&s, span_of(data, size)) == READER_OK) {
        bool ok = tunnel_stats_pack(&packed, &s);
        assert(ok && span_equal(writer_span(&packed), span_of(data, size)));
        tunnel_stats_text(&text, &(struct tunnel_stats_of){&s, "model", "0", span_str("ref")}, 1);
        assert(writer_ok(&text));
        (void)ok;
    }
    writer_release(&packed);
    writer_release(&text);
    return 0;
}
