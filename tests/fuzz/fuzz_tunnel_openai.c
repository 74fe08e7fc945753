/* Target functions: openai_request_parse tunnel_request_pack tunnel_request_parse
 * What the codec accepts, the engine can read: packed and parsed again it gives the same bytes. */
#include <assert.h>
#include <stdlib.h>

#include "tunnel/openai.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tunnel_request again;
    struct openai_error why;
    enum tunnel_task task = size > 0 ? (enum tunnel_task)(data[0] % (TUNNEL_DETOKENIZE + 1)) : TUNNEL_CHAT;
    struct openai_request *r = openai_request_parse(task, span_of(data + (size > 0), size - (size > 0)), &why);
    if (!r) {
        assert(why.status == 400 && why.message[0] != '\0');
        return 0;
    }
    struct writer first = writer_with_max(TUNNEL_REQUEST_MAX), second = writer_with_max(TUNNEL_REQUEST_MAX);
    if (r->request.model.len == 0)
        r->request.model = span_str("served");
    assert(tunnel_request_pack(&first, &r->request));
    assert(tunnel_request_parse(&again, writer_span(&first)) == READER_OK);
    assert(tunnel_request_pack(&second, &again));
    assert(span_equal(writer_span(&first), writer_span(&second)));
    writer_release(&first);
    writer_release(&second);
    openai_request_free(r);
    return 0;
}
