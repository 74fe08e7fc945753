/* Target functions: response_feed response_eof head_parse */
#include "proxy/head.h"
#include "proxy/response.h"

#include <assert.h>

/* Feed in pieces of `step`; the digest of what came out must not depend on it. */
static uint64_t run(const uint8_t *data, size_t size, size_t step, struct response *r)
{
    uint64_t h = 1469598103934665603u;
    size_t at = 0;

    response_init(r, false);
    while (at < size && r->err == RESPONSE_OK && r->state != RESPONSE_DONE) {
        struct span piece;
        size_t used = response_feed(r, span_of(data + at, step < size - at ? step : size - at), &piece);
        assert(used > 0);
        assert(piece.len == 0 || (piece.data >= data && piece.data + piece.len <= data + size));
        for (size_t i = 0; i < piece.len; i++)
            h = (h ^ piece.data[i]) * 1099511628211u;
        at += used;
    }
    response_eof(r);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct response whole, pieces;
    struct head head;
    uint64_t a = run(data, size, size, &whole), b = run(data, size, 3, &pieces);

    assert(whole.err == pieces.err);
    assert(whole.err != RESPONSE_OK || (a == b && whole.status == pieces.status && whole.state == pieces.state));
    if (head_parse(&head, span_of(data, size)) == HEAD_OK) {
        assert(head.size <= size && !(head.chunked && head.has_length));
        struct head again; /* what follows a head changes nothing about it */
        assert(head_parse(&again, span_of(data, head.size)) == HEAD_OK && again.size == head.size);
    }
    return 0;
}
