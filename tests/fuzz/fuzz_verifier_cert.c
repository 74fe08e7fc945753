/* Target functions: verifier_cert_parse verifier_crl_parse verifier_cert_extension verifier_cert_subject
 * What our reader of certificates and lists accepts and libcrypto reads, both see the same in. (libcrypto also refuses
 * odd forms inside parts that nothing here looks at: an OID's digits, the kind of a name's text.) */
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "verifier/chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool same)
{
    if (!same)
        abort();
}

static bool same_bytes(struct span ours, unsigned char *theirs, int len)
{
    bool same = len > 0 && span_equal(ours, span_of(theirs, (size_t)len));

    OPENSSL_free(theirs);
    return same;
}

static bool same_name(struct span ours, const X509_NAME *name)
{
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(name, &der);

    return same_bytes(ours, der, len);
}

/* libcrypto reads times that we do not (and then we refuse the whole); those that both read are the same second. */
static bool same_time(uint64_t ours, const ASN1_TIME *t)
{
    uint64_t theirs;

    return verifier_chain_seconds(t, &theirs) && ours == theirs;
}

/* The content of an INTEGER is its number's bytes, which libcrypto keeps as magnitude and sign. */
static bool same_number(struct span ours, const ASN1_INTEGER *number)
{
    unsigned char *der = NULL;
    int len = i2d_ASN1_INTEGER(number, &der);
    size_t head = len < 2 || der[1] < 0x80 ? 2 : 2 + (size_t)(der[1] & 0x7f);
    bool same = len > (int)head && span_equal(ours, span_of(der + head, (size_t)len - head));

    OPENSSL_free(der);
    return same;
}

static void check_cert(const struct verifier_cert *c)
{
    const unsigned char *p = c->whole.data;
    X509 *x = d2i_X509(NULL, &p, (long)c->whole.len);
    uint32_t flags;
    struct span value;
    int at;

    ERR_clear_error();
    if (!x)
        return;
    need(p == c->whole.data + c->whole.len);
    need(same_name(c->issuer, X509_get_issuer_name(x)) && same_name(c->subject, X509_get_subject_name(x)));
    need(same_time(c->from, X509_get0_notBefore(x)) && same_time(c->to, X509_get0_notAfter(x)));
    need(same_number(c->serial, X509_get0_serialNumber(x)));
    flags = X509_get_extension_flags(x);
    need(!(flags & EXFLAG_CRITICAL));
    if (!(flags & EXFLAG_INVALID)) { /* an extension that we do not read may be malformed */
        need(c->is_ca == !!(flags & EXFLAG_CA));
        need(X509_get_pathlen(x) == (c->has_path_len ? (long)c->path_len : -1));
        need(c->signs_certs == !!(X509_get_key_usage(x) & KU_KEY_CERT_SIGN));
        need(!c->signs_data || (X509_get_key_usage(x) & KU_DIGITAL_SIGNATURE));
    }
    at = X509_get_ext_by_NID(x, NID_key_usage, -1);
    need(verifier_cert_extension(c, "2.5.29.15", &value) == (at >= 0));
    if (at >= 0) {
        const ASN1_OCTET_STRING *theirs = X509_EXTENSION_get_data(X509_get_ext(x, at));
        need(span_equal(value, span_of(ASN1_STRING_get0_data(theirs), (size_t)ASN1_STRING_length(theirs))));
    }
    X509_free(x);
}

static void check_crl(const struct verifier_crl *c)
{
    const unsigned char *p = c->whole.data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)c->whole.len);
    STACK_OF(X509_REVOKED) * entries;

    ERR_clear_error();
    if (!crl)
        return;
    need(p == c->whole.data + c->whole.len);
    need(same_name(c->issuer, X509_CRL_get_issuer(crl)) && X509_CRL_get_ext_by_critical(crl, 1, -1) < 0);
    need(same_time(c->from, X509_CRL_get0_lastUpdate(crl)) && same_time(c->to, X509_CRL_get0_nextUpdate(crl)));
    entries = X509_CRL_get_REVOKED(crl);
    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++) {
        const ASN1_INTEGER *number = X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(entries, i));
        unsigned char *der = NULL;
        int len = i2d_ASN1_INTEGER(number, &der);
        size_t head = der[1] < 0x80 ? 2 : 2 + (size_t)(der[1] & 0x7f);

        need(verifier_crl_names(c, span_of(der + head, (size_t)len - head)));
        OPENSSL_free(der);
    }
    X509_CRL_free(crl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct verifier_cert cert;
    struct verifier_crl crl;
    char name[64];

    if (verifier_cert_parse(&cert, span_of(data, size))) {
        check_cert(&cert);
        (void)!verifier_cert_subject(&cert, 3, name, sizeof name);
    }
    if (verifier_crl_parse(&crl, span_of(data, size)))
        check_crl(&crl);
    return 0;
}
