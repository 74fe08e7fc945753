/* chain.h - certificates: from a leaf to a pinned root.
 * Chains are exact: so many certificates, each issued by the next, each signed in the one form the format allows,
 * the last one byte-equal to an anchor. No path building, no system store, no name matching, no network.
 * Source: attestation.md § 0; RFC 5280 for the fields. */
#ifndef VERIFIER_CHAIN_H
#define VERIFIER_CHAIN_H

#include "verifier/anchors.h"
#include "verifier/cache.h"
#include "verifier/err.h"
#include "verifier/hw.h"

struct verifier_chain {
    struct verifier_cert cert[VERIFIER_CERTS_MAX]; /* leaf first; spans into `bytes` */
    size_t count;
    uint8_t *bytes;                     /* owned: the certificates' own copy */
    void *x509[VERIFIER_CERTS_MAX];     /* owned: see verifier_chain_x509() */
    struct verifier_cache *cache, *own; /* what is known of them; `own` is owned */
    struct verifier_anchor anchor;      /* set by verifier_chain_anchor() */
    uint64_t expires;                   /* earliest notAfter and nextUpdate seen by the checks below */
    uint64_t issued;                    /* earliest thisUpdate of the lists that counted; UINT64_MAX: none */
};

/* Read `n` DER certificates, leaf first. VERIFIER_E_CHAIN_LENGTH when n is not `exact`, VERIFIER_E_PARSE. Call
 * verifier_chain_close() whatever comes back. */
MUST_CHECK enum verifier_err verifier_chain_open(struct verifier_chain *out, const struct span *der, size_t n,
                                                 size_t exact, struct verifier_note *why);
/* The same from PEM text: exactly `exact` certificates with nothing between them but white space; may end in NULs. */
MUST_CHECK enum verifier_err verifier_chain_open_pem(struct verifier_chain *out, struct span pem, size_t exact,
                                                     struct verifier_note *why);
void verifier_chain_close(struct verifier_chain *c);
/* Facts about these certificates are known to, and go to, `cache` (NULL: to one that ends with the chain). The cache is
 * borrowed until verifier_chain_close(). */
void verifier_chain_use(struct verifier_chain *c, struct verifier_cache *cache);
/* That cache; NULL without memory. */
struct verifier_cache *verifier_chain_cache(struct verifier_chain *c);

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

/* Is `signature` one over `message` by certificate `i` of a chain that verifier_chain_check() accepted? Remembered as a
 * fact of `whole`, which holds both and nothing else that could move them. */
MUST_CHECK bool verifier_chain_signed(struct verifier_chain *c, size_t i, enum verifier_chain_form form,
                                      struct span whole, struct span message, struct span signature);
/* Did the key of certificate `i` sign `message`? Not remembered: evidence is new each time. VERIFIER_E_UNSUPPORTED_ALG
 * when the key is not on `curve`, VERIFIER_E_BAD_SIGNATURE. `rs`: signature.h. */
MUST_CHECK enum verifier_err verifier_chain_ecdsa(struct verifier_chain *c, size_t i, enum verifier_curve curve,
                                                  struct span message, struct span rs);

/* The public key of certificate `i`, borrowed from the chain. */
const struct verifier_public *verifier_chain_key(const struct verifier_chain *c, size_t i);
/* Is certificate `i` one for signing data: key usage digitalSignature, and no authority? */
MUST_CHECK bool verifier_chain_signs(const struct verifier_chain *c, size_t i);
/* The whole DER of certificate `i`, borrowed from nothing: its SHA-256. */
void verifier_chain_sha256(const struct verifier_chain *c, size_t i, uint8_t out[32]);
/* Certificate `i` as libcrypto's X509 *, owned by the chain; NULL when libcrypto cannot read it. For OCSP. */
void *verifier_chain_x509(struct verifier_chain *c, size_t i);
/* The subject's only common name as text; false when there is none, several, or it does not fit. */
MUST_CHECK bool verifier_chain_name(const struct verifier_chain *c, size_t i, char *out, size_t cap);
/* The subject's only serialNumber attribute (not the certificate's number), likewise. */
MUST_CHECK bool verifier_chain_serial(const struct verifier_chain *c, size_t i, char *out, size_t cap);
/* Seconds since 1970 of libcrypto's ASN1_TIME or ASN1_GENERALIZEDTIME; false when it is NULL, malformed or before 1970.
 */
MUST_CHECK bool verifier_chain_seconds(const void *asn1_time, uint64_t *out);
/* The content of the extension with this dotted OID, borrowed from the chain. False when absent or repeated. */
MUST_CHECK bool verifier_chain_extension(const struct verifier_chain *c, size_t i, const char *oid, struct span *out);

#endif
