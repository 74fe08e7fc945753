/* cert.h - X.509 certificates and revocation lists, split into their parts: bytes in, spans out. Proves the shape, no
 * signature. Strict DER only; what is not understood and critical is refused, and so is every form that evidence never
 * has (unique identifiers, fractional times, parameters of an unnamed curve). Pure: no allocation; everything is
 * borrowed from the input. Source: RFC 5280 §§ 4.1, 4.2, 5.1; RFC 5480; RFC 4055. */
#ifndef VERIFIER_CERT_H
#define VERIFIER_CERT_H

#include "verifier/base/span.h"

/* How something is signed. Every certificate and revocation list of a chain must be signed in one form. */
enum verifier_chain_form {
    VERIFIER_FORM_RSA_PSS_SHA384 = 1, /* RSASSA-PSS, SHA-384, MGF1 with SHA-384, salt of 48 bytes */
    VERIFIER_FORM_ECDSA_SHA256,
    VERIFIER_FORM_ECDSA_SHA384,
    VERIFIER_FORM_RSA_SHA256,       /* RSASSA-PKCS1-v1_5 */
    VERIFIER_FORM_ECDSA_SHA256_RAW, /* r then s, of documents: never of a certificate */
};

enum verifier_key_kind { VERIFIER_KEY_OTHER, VERIFIER_KEY_P256, VERIFIER_KEY_P384, VERIFIER_KEY_RSA };

/* What stands in a certificate as its public key. */
struct verifier_public {
    enum verifier_key_kind kind;
    struct span point;    /* P-256, P-384: x then y; whether it is on the curve is not known yet */
    struct span modulus;  /* RSA, big-endian, 256 to 512 bytes */
    struct span exponent; /* 1 to 4 bytes */
};

struct verifier_cert {
    struct span whole;                /* the certificate's DER */
    struct span signed_part;          /* what `signature` covers */
    struct span algorithm, signature; /* AlgorithmIdentifier (whole element); the bit string's bytes */
    struct span serial;               /* content of the INTEGER, shortest form */
    struct span issuer, subject;      /* whole elements: names are equal when their bytes are */
    struct span spki;                 /* SubjectPublicKeyInfo, whole element */
    struct verifier_public key;
    uint64_t from, to; /* both ends of the validity, seconds since 1970 */
    struct span extensions;
    bool is_ca;        /* basic constraints say so */
    bool has_path_len; /* and limit the authorities below */
    uint32_t path_len;
    bool signs_certs; /* key usage allows it, or is absent */
    bool signs_data;  /* key usage says digitalSignature */
};

struct verifier_crl {
    struct span whole, signed_part, algorithm, signature, issuer; /* as above */
    uint64_t from, to;                                            /* thisUpdate, nextUpdate */
    struct span entries;                                          /* the revoked certificates */
};

/* False: not a certificate in the form above. */
MUST_CHECK bool verifier_cert_parse(struct verifier_cert *out, struct span der);
/* False: not a revocation list in the form above, one without an end, or one with a critical extension (delta and
 * indirect lists and any other restriction come as such). */
MUST_CHECK bool verifier_crl_parse(struct verifier_crl *out, struct span der);
/* The number stands in the list, for whatever reason. */
bool verifier_crl_names(const struct verifier_crl *crl, struct span serial);

/* Is this AlgorithmIdentifier the form? */
bool verifier_cert_is_form(struct span algorithm, enum verifier_chain_form form);
/* The content of the extension with this dotted OID. False when absent or repeated. */
MUST_CHECK bool verifier_cert_extension(const struct verifier_cert *c, const char *oid, struct span *out);
/* The subject's only attribute 2.5.4.`kind` (3: common name, 5: serialNumber) as text without control characters; false
 * when there is none, several, or it does not fit. */
MUST_CHECK bool verifier_cert_subject(const struct verifier_cert *c, uint8_t kind, char *out, size_t cap);
/* Seconds since 1970 of a UTCTime ("250102030405Z") or GeneralizedTime ("20250102030405Z") by its text; false for any
 * other form, for no such date and before 1970. */
MUST_CHECK bool verifier_cert_seconds(struct span text, uint64_t *out);

#endif
