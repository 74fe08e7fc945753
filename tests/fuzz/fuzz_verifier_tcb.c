/* Target functions: verifier_tcb_split verifier_tcb_evaluate
 * What the scanner takes for the signed value is what jansson, which reads it later, finds under that name.
 * The documents are signed, so the evaluation meets a stranger's bytes only if Intel's key is lost: it must survive. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "verifier/tcb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void agree(struct span body, const char *name, struct span value, const uint8_t signature[64])
{
    json_t *whole = json_loadb((const char *)body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
    json_t *part = json_loadb((const char *)value.data, value.len, JSON_REJECT_DUPLICATES, NULL);
    const char *hex = json_string_value(json_object_get(whole, "signature"));

    if (!whole != !part || (whole && (json_object_size(whole) != 2 || !json_is_object(part) ||
                                      !json_equal(json_object_get(whole, name), part))))
        abort();
    for (size_t i = 0; whole && i < 64; i++) {
        unsigned byte = 256;
        if (strlen(hex) != 128 || sscanf(hex + 2 * i, "%2x", &byte) != 1 || byte != signature[i])
            abort();
    }
    json_decref(whole);
    json_decref(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t zeros[64];
    struct verifier_quote q = {.tee_type = VERIFIER_QUOTE_TEE_TDX};
    struct verifier_pck pck = {.component = {255}, .pcesvn = 11, .fmspc = {0xb0, 0xc0, 0x6f}};
    struct verifier_tcb_result result;
    struct span value, body = span_of(data, size);
    uint8_t signature[64];

    q.td.tee_tcb_svn = q.td.tee_tcb_svn2 = span_of(zeros, 16);
    q.td.mrsignerseam = span_of(zeros, 48);
    q.td.seamattributes = span_of(zeros, 8);
    q.qe = (struct verifier_enclave){
        .miscselect = span_of(zeros, 4), .attributes = span_of(zeros, 16), .mrsigner = span_of(zeros, 32)};
    if (verifier_tcb_split(body, "tcbInfo", &value, signature) == VERIFIER_OK) {
        if (value.data < data || value.data + value.len > data + size)
            abort();
        agree(body, "tcbInfo", value, signature);
        (void)!verifier_tcb_evaluate(&result, &q, &pck, value, value, NULL, 1750000000);
    }
    if (verifier_tcb_split(body, "enclaveIdentity", &value, signature) == VERIFIER_OK)
        agree(body, "enclaveIdentity", value, signature);
    if (verifier_tcb_evaluate(&result, &q, &pck, body, body, NULL, 1750000000) == VERIFIER_OK &&
        result.status == VERIFIER_TCB_NONE)
        abort();
    return 0;
}
