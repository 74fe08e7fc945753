/* pck.h - what a provisioning certification key's certificate says of its platform: the extension
 * 1.2.840.113741.1.13.1 (Intel SGX PCK Certificate and CRL Profile). Values are looked up by OID in any order. */
#ifndef VERIFIER_PCK_H
#define VERIFIER_PCK_H

#include "verifier/base/span.h"
#include "verifier/err.h"

struct verifier_pck {
    uint8_t ppid[16], fmspc[6], pceid[2], cpusvn[16];
    uint8_t component[16]; /* SVN of each TCB component */
    uint16_t pcesvn;
    uint8_t sgx_type; /* 0 standard, 1 scalable, 2 scalable with integrity */
    bool has_instance;
    uint8_t instance[16];   /* platform instance id */
    bool has_configuration; /* the three below */
    bool dynamic_platform, cached_keys, smt;
};

#define VERIFIER_PCK_OID "1.2.840.113741.1.13.1"
/* `extension`: the extension's content. VERIFIER_E_PARSE when something is missing, repeated or of another form. */
MUST_CHECK enum verifier_err verifier_pck_parse(struct verifier_pck *out, struct span extension);

#endif
