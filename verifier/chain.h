/* chain.h - certificates: from a leaf to a pinned root. With ocsp.c the only user of X509_* in the project's
 * verifier.
 * Chains are exact: so many certificates, each issued by the next, each signed in the one form the format allows,
 * the last one byte-equal to an anchor. No path building, no system store, no name matching, no network.
 * Source: attestation.md § 0; RFC 5280 for the fields. */
#ifndef VERIFIER_CHAIN_H
#define VERIFIER_CHAIN_H

#include "verifier/anchors.h"
#include "verifier/err.h"
#include "verifier/hw.h"
#include "verifier/signature.h"

/* The one way in which every certificate and revocation list of a chain must be signed. */
enum verifier_chain_form {
    VERIFIER_FORM_RSA_PSS_SHA384 = 1, /* RSASSA-PSS, SHA-384, MGF1 with SHA-384, salt of 48 bytes */
    VERIFIER_FORM_ECDSA_SHA256,
    VERIFIER_FORM_ECDSA_SHA384,
    VERIFIER_FORM_RSA_SHA256, /* RSASSA-PKCS1-v1_5 */
};

struct verifier_chain {
    void *cert[VERIFIER_CERTS_MAX]; /* X509 *, owned; leaf first */
    size_t count;
    struct verifier_anchor anchor; /* set by verifier_chain_anchor() */
    uint64_t expires;              /* earliest notAfter and nextUpdate seen by the checks below */
    uint64_t issued;               /* earliest thisUpdate of the lists that counted; UINT64_MAX: none */
};

/* Read `n` DER certificates, leaf first. VERIFIER_E_CHAIN_LENGTH when n is not `exact`, VERIFIER_E_PARSE. Call
 * verifier_chain_close() whatever comes back. */
MUST_CHECK enum verifier_err verifier_chain_open(struct verifier_chain *out, const struct span *der, size_t n,
                                                 size_t exact, struct verifier_note *why);
/* The same from PEM text: exactly `exact` certificates with nothing between them but white space; may end in NULs. */
MUST_CHECK enum verifier_err verifier_chain_open_pem(struct verifier_chain *out, struct span pem, size_t exact,
                                                     struct verifier_note *why);
void verifier_chain_close(struct verifier_chain *c);

/* The last certificate must be an anchor of this kind: VERIFIER_E_UNTRUSTED_ROOT. */
MUST_CHECK enum verifier_err verifier_chain_anchor(struct verifier_chain *c, enum verifier_anchor_kind kind,
                                                   struct verifier_note *why);
/* Issuer order, signatures, CA flags and path lengths, then both ends of every validity. */
MUST_CHECK enum verifier_err verifier_chain_check(struct verifier_chain *c, enum verifier_chain_form form, uint64_t now,
                                                  struct verifier_note *why);
/* Is certificate `subject` revoked by its issuer, the next in the chain? Uses the first list in `crls` by that
 * issuer's name. VERIFIER_E_CRL_MISSING (no list at all), _CRL_ISSUER (none by that issuer), _CRL_SIGNATURE,
 * _CRL_NOT_YET_VALID, _CRL_EXPIRED, _CERT_REVOKED, _PARSE. */
MUST_CHECK enum verifier_err verifier_chain_revocation(struct verifier_chain *c, size_t subject,
                                                       const struct span *crls, size_t crl_count,
                                                       enum verifier_chain_form form, uint64_t now,
                                                       struct verifier_note *why);

/* The whole DER of certificate `i`, borrowed from nothing: its SHA-256. */
void verifier_chain_sha256(const struct verifier_chain *c, size_t i, uint8_t out[32]);
/* The public point (x then y) of certificate `i`; false when its key is not on `curve`. */
MUST_CHECK bool verifier_chain_point(const struct verifier_chain *c, size_t i, enum verifier_curve curve,
                                     uint8_t out[VERIFIER_POINT_MAX]);
/* Modulus and exponent of certificate `i`'s RSA key, big-endian; false when it has none of at most 4096 bits. */
struct verifier_chain_rsa {
    uint8_t n[512], e[8];
    size_t n_len, e_len;
};
MUST_CHECK bool verifier_chain_rsa(const struct verifier_chain *c, size_t i, struct verifier_chain_rsa *out);
/* Is certificate `i` one for signing data: key usage digitalSignature, and no authority? */
MUST_CHECK bool verifier_chain_signs(const struct verifier_chain *c, size_t i);
/* The subject's only common name as text; false when there is none, several, or it does not fit. */
MUST_CHECK bool verifier_chain_name(const struct verifier_chain *c, size_t i, char *out, size_t cap);
/* The subject's only serialNumber attribute (not the certificate's number), likewise. */
MUST_CHECK bool verifier_chain_serial(const struct verifier_chain *c, size_t i, char *out, size_t cap);
/* Seconds since 1970 of an ASN1_TIME or ASN1_GENERALIZEDTIME; false when it is NULL, malformed or before 1970. */
MUST_CHECK bool verifier_chain_seconds(const void *asn1_time, uint64_t *out);
/* The content of the extension with this dotted OID, borrowed from the chain. False when absent or repeated. */
MUST_CHECK bool verifier_chain_extension(const struct verifier_chain *c, size_t i, const char *oid, struct span *out);

#endif
