/* Target functions: verifier_nitro_parse verifier_attest_parse verifier_hcl_parse */
#include <stdlib.h>

#include "verifier/nitro.h"
#include "verifier/tpm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct span part, const uint8_t *data, size_t size)
{
    if (part.len > 0 && (part.data < data || part.data + part.len > data + size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct verifier_hcl hcl;
    struct verifier_nitro_document d;
    struct verifier_attest a;
    struct span in = span_of(data, size);

    if (verifier_nitro_parse(&d, in) == VERIFIER_OK) {
        inside(d.certificate, data, size);
        inside(d.nonce, data, size);
        inside(d.signature, data, size);
    }
    if (verifier_attest_parse(&a, in) == VERIFIER_OK)
        inside(a.pcr_digest, data, size);
    if (verifier_hcl_parse(&hcl, in) == VERIFIER_OK)
        inside(hcl.runtime, data, size), inside(hcl.quote, data, size);
    return 0;
}
