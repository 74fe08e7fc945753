/* Target functions: verifier_spdm_parse verifier_rim_read */
#include <stdlib.h>

#include "verifier/rim.h"
#include "verifier/spdm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct verifier_spdm s;
    static struct verifier_rim rim;
    struct span in = span_of(data, size);

    if (verifier_spdm_parse(&s, in) == VERIFIER_OK && s.covered.len + s.signature.len != size)
        abort(); /* every byte is signed or the signature */
    if (verifier_rim_read(&rim, in, NULL, 4200000000, NULL) == VERIFIER_OK)
        abort(); /* every certificate of the vendor has ended by then */
    return 0;
}
