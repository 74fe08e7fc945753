/* One parser of PROTOCOL.md, named by PARSER: what it accepts, it would have sent - the same bytes on the way back.
 * Target functions: *_parse and *_encode of verifier/ and policy/, verifier_sealed_request_parse,
 * verifier_sealed_reader_feed */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vectors/objects.h"
#include "verifier/sealed.h"

static void drop(void *ctx, struct span data)
{
    (void)ctx;
    (void)data;
}

/* A sealed answer under zero keys, in pieces whose size the first byte gives: survival, and no piece out of it. */
static void feed_answer(struct span in)
{
    static const struct verifier_hpke hpke;
    static const uint8_t enc[VERIFIER_KEY_LEN];
    struct verifier_sealed_reader s;
    enum verifier_err err = VERIFIER_OK;
    size_t step = in.len > 0 ? 1 + in.data[0] : 1;
    verifier_sealed_reader_init(&s, &hpke, enc, drop, NULL);
    for (size_t at = 0; at < in.len && err == VERIFIER_OK; at += step)
        err = verifier_sealed_reader_feed(&s, span_of(in.data + at, in.len - at < step ? in.len - at : step));
    if (err == VERIFIER_OK)
        err = verifier_sealed_reader_end(&s);
    assert(verifier_sealed_reader_end(&s) != VERIFIER_OK);
    verifier_sealed_reader_release(&s);
}

/* A sealed request: the pieces are the whole, in order. */
static void split_request(struct span in)
{
    struct verifier_sealed_request req;
    struct writer again = writer_with_max(in.len + 1);
    if (verifier_sealed_request_parse(&req, in) != VERIFIER_OK)
        return;
    writer_lp(&again, req.head_bytes);
    writer_bytes(&again, span_of(req.enc, VERIFIER_KEY_LEN));
    writer_bytes(&again, req.ciphertext);
    assert(span_equal(writer_span(&again), in));
    writer_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    if (strcmp(PARSER, "answer") == 0) {
        feed_answer(in);
    } else if (strcmp(PARSER, "request") == 0) {
        split_request(in);
    } else {
        struct writer again = writer_with_max(size + 16);
        if (objects_read(PARSER, in, NULL, &again) == VERIFIER_OK)
            assert(span_equal(writer_span(&again), in));
        writer_release(&again);
    }
    return 0;
}
