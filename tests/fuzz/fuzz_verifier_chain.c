/* Target functions: verifier_chain_open verifier_chain_open_pem verifier_chain_revocation verifier_chain_extension */
#include <stdlib.h>

#include "verifier/chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size), twice[2] = {in, in}, value;
    struct verifier_chain c = {0};
    char name[64];

    if (verifier_chain_open(&c, twice, 2, 2, NULL) == VERIFIER_OK) {
        (void)!verifier_chain_check(&c, VERIFIER_FORM_RSA_PSS_SHA384, 1750000000, NULL);
        (void)!verifier_chain_revocation(&c, 0, &in, 1, VERIFIER_FORM_RSA_PSS_SHA384, 1750000000, NULL);
        (void)!verifier_chain_ecdsa(&c, 0, VERIFIER_P384, in, in);
        (void)!verifier_chain_name(&c, 0, name, sizeof name);
        (void)!verifier_chain_extension(&c, 0, "1.3.6.1.4.1.3704.1.4", &value);
        if (verifier_chain_anchor(&c, VERIFIER_ANCHOR_AMD, NULL) == VERIFIER_OK)
            abort(); /* a digest met by chance? */
    }
    verifier_chain_close(&c);
    (void)!verifier_chain_open_pem(&c, in, 3, NULL);
    verifier_chain_close(&c);
    return 0;
}
