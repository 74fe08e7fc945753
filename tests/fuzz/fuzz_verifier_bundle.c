/* Target functions: verifier_bundle_parse verifier_bundle_encode verifier_collateral_add */
#include <assert.h>

#include "verifier/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct verifier_bundle b;
    struct verifier_collateral one, two;
    struct writer out = writer_with_max(VERIFIER_BUNDLE_MAX);

    if (verifier_bundle_parse(&b, span_of(data, size)) == VERIFIER_OK) {
        verifier_bundle_encode(&out, &b); /* what is accepted encodes to itself */
        assert(span_equal(writer_span(&out), span_of(data, size)));
        if (verifier_collateral_parse(&one, b.collateral) == VERIFIER_OK) {
            two = one;
            verifier_collateral_add(&two, &one);
            assert(two.crl_count >= one.crl_count && two.crl_count <= VERIFIER_CRLS_MAX);
            assert(two.ocsp_count >= one.ocsp_count && two.ocsp_count <= VERIFIER_OCSP_MAX);
        }
    }
    writer_release(&out);
    return 0;
}
