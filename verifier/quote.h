/* quote.h - Intel DCAP quotes: SGX version 3, TDX version 4 and 5. Bytes in, spans out: proves the shape, no signature.
 * Pure; everything is borrowed from the quote. Format: Intel SGX DCAP quote structures (QuoteStructures.h), all
 * integers little-endian; attestation.md § 2. */
#ifndef VERIFIER_QUOTE_H
#define VERIFIER_QUOTE_H

#include "verifier/base/span.h"
#include "verifier/err.h"

#define VERIFIER_QUOTE_TEE_SGX 0x00u
#define VERIFIER_QUOTE_TEE_TDX 0x81u

enum verifier_quote_body {
    VERIFIER_BODY_SGX = 1, /* 384 bytes */
    VERIFIER_BODY_TD10,    /* 584 */
    VERIFIER_BODY_TD15,    /* 648: with TEE_TCB_SVN2 and MRSERVICETD */
    VERIFIER_BODY_TD15X,   /* 885: extended */
};

/* An enclave's report body, of the application (SGX) or of the quoting enclave. Spans of fixed length. */
struct verifier_enclave {
    struct span cpusvn, miscselect, attributes, mrenclave, mrsigner, report_data; /* 16, 4, 16, 32, 32, 64 bytes */
    uint16_t isvprodid, isvsvn;
};

/* A trust domain's report body. */
struct verifier_td {
    struct span tee_tcb_svn, mrseam, mrsignerseam;        /* 16, 48, 48 */
    struct span seamattributes, tdattributes, xfam;       /* 8 each */
    struct span mrtd, mrconfigid, mrowner, mrownerconfig; /* 48 each */
    struct span rtmr[4];                                  /* 48 each */
    struct span report_data;                              /* 64 */
    struct span tee_tcb_svn2, mrservicetd;                /* 16, 48; empty before 1.5 */
};

struct verifier_quote {
    uint16_t version, qe_svn, pce_svn; /* the last two only in version 3 and otherwise as the header has them */
    uint32_t tee_type;
    struct span user_data; /* 20 */
    enum verifier_quote_body body_type;
    struct span body, covered;                 /* covered: what the quote's signature signs */
    struct verifier_td td;                     /* of a TDX quote */
    struct verifier_enclave sgx;               /* of an SGX quote */
    struct span signature, key;                /* r then s; x then y of the attestation key: big-endian, 64 each */
    struct span qe_report, qe_signature, auth; /* 384; 64; as long as it says */
    struct verifier_enclave qe;
    uint16_t cert_type;
    struct span certs; /* type 5: PEM, PCK first */
    size_t signature_len, padding;
};

/* VERIFIER_E_PARSE, _UNSUPPORTED_VERSION, _UNSUPPORTED_ALG, _UNSUPPORTED_TEE, _UNSUPPORTED_VENDOR,
 * _UNSUPPORTED_CERT_DATA, _TRAILING_DATA (zeros after the quote are padding and allowed). */
MUST_CHECK enum verifier_err verifier_quote_parse(struct verifier_quote *out, struct span quote);

#endif
