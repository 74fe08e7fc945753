/* Target functions: verifier_quote_parse verifier_snp_parse */
#include <stdlib.h>

#include "verifier/quote.h"
#include "verifier/snp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was taken must lie inside what was given. */
static void inside(struct span part, const uint8_t *data, size_t size)
{
    if (part.len > 0 && (part.data < data || part.data + part.len > data + size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct verifier_quote q;
    struct verifier_snp s;

    if (verifier_quote_parse(&q, span_of(data, size)) == VERIFIER_OK) {
        inside(q.certs, data, size);
        inside(q.auth, data, size);
        inside(q.body, data, size);
        if (q.covered.data != data || q.covered.len + 4 + q.signature_len + q.padding != size)
            abort(); /* every byte has its place */
    }
    if (verifier_snp_parse(&s, span_of(data, size)) == VERIFIER_OK && size != VERIFIER_SNP_LEN)
        abort();
    return 0;
}
