/* Target functions: verifier_nitro_parse verifier_attest_parse verifier_hcl_parse verifier_azure_verify
 * verifier_gcp_verify */
#include <stdlib.h>

#include "verifier/hw.h"

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
    /* nothing here is signed by anybody: no bytes are evidence */
    struct verifier_hw_rules rules = verifier_hw_rules_judged();
    static struct verifier_hw hw;
    for (int tee = VERIFIER_TEE_AZURE; tee <= VERIFIER_TEE_GCP; tee++)
        if (verifier_hw_verify(&hw, (enum verifier_tee)tee, in, NULL, 0, NULL, 1800000000, &rules, NULL) == VERIFIER_OK)
            abort();
    return 0;
}
