#include "verifier/chain.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <time.h>

static X509 *cert_at(const struct verifier_chain *c, size_t i)
{
    return c->cert[i];
}

/* OpenSSL queues errors per thread; what a stranger's bytes caused must not surface elsewhere. */
static enum verifier_err done(enum verifier_err err)
{
    ERR_clear_error();
    return err;
}

static void note_subject(struct verifier_note *why, const struct verifier_chain *c, size_t i, const char *what)
{
    char name[160];

    if (!why)
        return;
    if (!verifier_chain_name(c, i, name, sizeof name))
        strcpy(name, "(no common name)");
    verifier_note_observed(why, "certificate %zu, %s: %s", i, name, what);
}

/* --- reading ------------------------------------------------------------------------------------ */

static X509 *cert_from_der(struct span der)
{
    const unsigned char *p = der.data;
    X509 *x = der.len > 0 && der.len <= VERIFIER_CERT_MAX ? d2i_X509(NULL, &p, (long)der.len) : NULL;

    /* X509_get_extension_flags() computes the flags; a certificate with a malformed or unknown critical extension
     * cannot be judged. */
    if (x && (p != der.data + der.len || (X509_get_extension_flags(x) & (EXFLAG_INVALID | EXFLAG_CRITICAL)))) {
        X509_free(x);
        x = NULL;
    }
    return x;
}

enum verifier_err verifier_chain_open(struct verifier_chain *out, const struct span *der, size_t n, size_t exact,
                                      struct verifier_note *why)
{
    *out = (struct verifier_chain){.expires = UINT64_MAX, .issued = UINT64_MAX};
    if (n != exact || n > VERIFIER_CERTS_MAX) {
        verifier_note_observed(why, "%zu certificates", n);
        verifier_note_required(why, "%zu certificates", exact);
        return VERIFIER_E_CHAIN_LENGTH;
    }
    for (size_t i = 0; i < n; i++) {
        out->cert[i] = cert_from_der(der[i]);
        if (!out->cert[i]) {
            verifier_note_observed(why, "certificate %zu cannot be read", i);
            return done(VERIFIER_E_PARSE);
        }
        out->count++;
    }
    return done(VERIFIER_OK);
}

static bool is_padding(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] != '\0' && s.data[i] != '\n' && s.data[i] != '\r' && s.data[i] != ' ')
            return false;
    return true;
}

/* Cut the next PEM certificate off `*text`: false at the end or when something else stands there. */
static X509 *cert_from_pem(struct span *text)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    const uint8_t *start = memmem(text->data, text->len, begin, sizeof begin - 1), *stop;
    X509 *x = NULL;
    unsigned char *der = NULL;
    char *name = NULL, *header = NULL;
    long len = 0;
    BIO *bio;

    if (!start || !is_padding(span_of(text->data, (size_t)(start - text->data))))
        return NULL;
    stop = memmem(start, text->len - (size_t)(start - text->data), end, sizeof end - 1);
    if (!stop)
        return NULL;
    stop += sizeof end - 1;
    bio = BIO_new_mem_buf(start, (int)(stop - start));
    if (bio && PEM_read_bio(bio, &name, &header, &der, &len) == 1 && header[0] == '\0' && len > 0)
        x = cert_from_der(span_of(der, (size_t)len));
    BIO_free(bio);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    *text = span_of(stop, text->len - (size_t)(stop - text->data));
    return x;
}

enum verifier_err verifier_chain_open_pem(struct verifier_chain *out, struct span pem, size_t exact,
                                          struct verifier_note *why)
{
    *out = (struct verifier_chain){.expires = UINT64_MAX, .issued = UINT64_MAX};
    if (pem.len > (size_t)VERIFIER_CERTS_MAX * VERIFIER_CERT_MAX * 2)
        return VERIFIER_E_PARSE;
    while (!is_padding(pem)) {
        if (out->count == VERIFIER_CERTS_MAX)
            return done(VERIFIER_E_CHAIN_LENGTH);
        out->cert[out->count] = cert_from_pem(&pem);
        if (!out->cert[out->count]) {
            verifier_note_observed(why, "certificate %zu cannot be read", out->count);
            return done(VERIFIER_E_PARSE);
        }
        out->count++;
    }
    if (out->count != exact) {
        verifier_note_observed(why, "%zu certificates", out->count);
        verifier_note_required(why, "%zu certificates", exact);
        return done(VERIFIER_E_CHAIN_LENGTH);
    }
    return done(VERIFIER_OK);
}

void verifier_chain_close(struct verifier_chain *c)
{
    for (size_t i = 0; i < c->count; i++)
        X509_free(c->cert[i]);
    c->count = 0;
}

/* --- root, order, signatures -------------------------------------------------------------------- */

void verifier_chain_sha256(const struct verifier_chain *c, size_t i, uint8_t out[32])
{
    unsigned int len = 32;

    memset(out, 0, 32);
    if (X509_digest(cert_at(c, i), EVP_sha256(), out, &len) != 1)
        memset(out, 0, 32);
}

enum verifier_err verifier_chain_anchor(struct verifier_chain *c, enum verifier_anchor_kind kind,
                                        struct verifier_note *why)
{
    uint8_t digest[32];

    verifier_chain_sha256(c, c->count - 1, digest);
    if (verifier_anchor_find(digest, &c->anchor) && c->anchor.kind == kind)
        return done(VERIFIER_OK);
    note_subject(why, c, c->count - 1, "this root is not trusted here");
    return done(VERIFIER_E_UNTRUSTED_ROOT);
}

static bool is_pss_sha384(const X509_ALGOR *alg)
{
    const ASN1_OBJECT *oid, *hash;
    const void *value;
    int type;
    bool good = false;
    RSA_PSS_PARAMS *p = NULL;
    X509_ALGOR *mgf_hash = NULL;

    X509_ALGOR_get0(&oid, &type, &value, alg);
    if (OBJ_obj2nid(oid) != NID_rsassaPss || type != V_ASN1_SEQUENCE)
        return false;
    p = ASN1_item_unpack(value, ASN1_ITEM_rptr(RSA_PSS_PARAMS));
    if (!p || !p->hashAlgorithm || !p->maskGenAlgorithm || !p->saltLength || ASN1_INTEGER_get(p->saltLength) != 48 ||
        (p->trailerField && ASN1_INTEGER_get(p->trailerField) != 1))
        goto out;
    X509_ALGOR_get0(&hash, NULL, NULL, p->hashAlgorithm);
    X509_ALGOR_get0(&oid, &type, &value, p->maskGenAlgorithm);
    if (OBJ_obj2nid(hash) != NID_sha384 || OBJ_obj2nid(oid) != NID_mgf1 || type != V_ASN1_SEQUENCE)
        goto out;
    mgf_hash = ASN1_item_unpack(value, ASN1_ITEM_rptr(X509_ALGOR));
    if (mgf_hash) {
        X509_ALGOR_get0(&hash, NULL, NULL, mgf_hash);
        good = OBJ_obj2nid(hash) == NID_sha384;
    }
out:
    X509_ALGOR_free(mgf_hash);
    RSA_PSS_PARAMS_free(p);
    return good;
}

static bool is_form(const X509_ALGOR *alg, enum verifier_chain_form form)
{
    const ASN1_OBJECT *oid;

    if (form == VERIFIER_FORM_RSA_PSS_SHA384)
        return is_pss_sha384(alg);
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    switch (form) {
    case VERIFIER_FORM_ECDSA_SHA256:
        return OBJ_obj2nid(oid) == NID_ecdsa_with_SHA256;
    case VERIFIER_FORM_ECDSA_SHA384:
        return OBJ_obj2nid(oid) == NID_ecdsa_with_SHA384;
    default:
        return OBJ_obj2nid(oid) == NID_sha256WithRSAEncryption;
    }
}

/* A certificate that issued another: CA, allowed to sign certificates, room for the CAs between it and the leaf. */
static bool may_issue(X509 *issuer, size_t cas_below)
{
    long room = X509_get_pathlen(issuer); /* -1: unlimited */

    return (X509_get_extension_flags(issuer) & EXFLAG_BCONS) && (X509_get_extension_flags(issuer) & EXFLAG_CA) &&
           (X509_get_key_usage(issuer) & KU_KEY_CERT_SIGN) && (room < 0 || (size_t)room >= cas_below);
}

static enum verifier_err check_links(const struct verifier_chain *c, enum verifier_chain_form form,
                                     struct verifier_note *why)
{
    for (size_t i = 0; i + 1 < c->count; i++) {
        X509 *cert = cert_at(c, i), *issuer = cert_at(c, i + 1);

        if (X509_NAME_cmp(X509_get_issuer_name(cert), X509_get_subject_name(issuer)) != 0) {
            note_subject(why, c, i, "names another issuer than the next certificate");
            return VERIFIER_E_CHAIN_ISSUER;
        }
    }
    for (size_t i = 0; i + 1 < c->count; i++) {
        const X509_ALGOR *alg = NULL;
        EVP_PKEY *key = X509_get0_pubkey(cert_at(c, i + 1));

        X509_get0_signature(NULL, &alg, cert_at(c, i));
        if (!key || !is_form(alg, form) || X509_verify(cert_at(c, i), key) != 1) {
            note_subject(why, c, i, "not signed by the next certificate in the form required");
            return VERIFIER_E_CHAIN_SIGNATURE;
        }
        if (!may_issue(cert_at(c, i + 1), i)) {
            note_subject(why, c, i + 1, "is not an authority for this");
            return VERIFIER_E_NOT_A_CA;
        }
    }
    return VERIFIER_OK;
}

/* --- time --------------------------------------------------------------------------------------- */

bool verifier_chain_seconds(const void *asn1_time, uint64_t *out)
{
    const ASN1_TIME *t = asn1_time;
    struct tm tm;
    time_t s;

    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return false;
    s = timegm(&tm);
    *out = (uint64_t)s;
    return s >= 0;
}

static void note_time(struct verifier_note *why, const struct verifier_chain *c, size_t i, uint64_t from, uint64_t to,
                      uint64_t now)
{
    char name[160];

    if (!verifier_chain_name(c, i, name, sizeof name))
        strcpy(name, "(no common name)");
    verifier_note_observed(why, "certificate %zu, %s: valid from %llu to %llu", i, name, (unsigned long long)from,
                           (unsigned long long)to);
    verifier_note_required(why, "valid at %llu (seconds since 1970 UTC)", (unsigned long long)now);
}

static enum verifier_err check_validity(struct verifier_chain *c, uint64_t now, struct verifier_note *why)
{
    for (size_t i = 0; i < c->count; i++) {
        uint64_t from, to;

        if (!verifier_chain_seconds(X509_get0_notBefore(cert_at(c, i)), &from) ||
            !verifier_chain_seconds(X509_get0_notAfter(cert_at(c, i)), &to))
            return VERIFIER_E_PARSE;
        if (now < from || now > to) {
            note_time(why, c, i, from, to, now);
            return now < from ? VERIFIER_E_CERT_NOT_YET_VALID : VERIFIER_E_CERT_EXPIRED;
        }
        if (to < c->expires)
            c->expires = to;
    }
    return VERIFIER_OK;
}

enum verifier_err verifier_chain_check(struct verifier_chain *c, enum verifier_chain_form form, uint64_t now,
                                       struct verifier_note *why)
{
    enum verifier_err err = check_links(c, form, why);

    if (err == VERIFIER_OK)
        err = check_validity(c, now, why);
    return done(err);
}

/* --- revocation --------------------------------------------------------------------------------- */

#define CRL_MAX (256 * 1024) /* bytes, protocol.md § Fields: the collateral's cap */

static X509_CRL *crl_from_der(struct span der)
{
    const unsigned char *p = der.data;
    X509_CRL *crl = der.len > 0 && der.len <= CRL_MAX ? d2i_X509_CRL(NULL, &p, (long)der.len) : NULL;

    if (crl && p != der.data + der.len) {
        X509_CRL_free(crl);
        crl = NULL;
    }
    return crl;
}

/* The first list by the issuer of `cert`; NULL with `*unread` telling whether one could not be read. */
static X509_CRL *crl_find(X509 *cert, const struct span *crls, size_t count, bool *unread)
{
    *unread = false;
    for (size_t i = 0; i < count; i++) {
        X509_CRL *crl = crl_from_der(crls[i]);

        if (!crl)
            *unread = true;
        else if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(cert)) == 0)
            return crl;
        X509_CRL_free(crl);
    }
    return NULL;
}

/* Delta and indirect lists and any other restriction come as critical extensions: none is understood here. */
static bool has_critical_extension(const X509_CRL *crl)
{
    return X509_CRL_get_ext_by_critical(crl, 1, -1) >= 0;
}

static enum verifier_err check_crl(struct verifier_chain *c, X509_CRL *crl, X509 *cert, X509 *issuer,
                                   enum verifier_chain_form form, uint64_t now, struct verifier_note *why)
{
    const X509_ALGOR *alg = NULL;
    X509_REVOKED *entry = NULL;
    uint64_t from, to;

    X509_CRL_get0_signature(crl, NULL, &alg);
    if (has_critical_extension(crl))
        return VERIFIER_E_PARSE;
    if (!is_form(alg, form) || X509_CRL_verify(crl, X509_get0_pubkey(issuer)) != 1)
        return VERIFIER_E_CRL_SIGNATURE;
    if (!verifier_chain_seconds(X509_CRL_get0_lastUpdate(crl), &from) ||
        !verifier_chain_seconds(X509_CRL_get0_nextUpdate(crl), &to))
        return VERIFIER_E_PARSE; /* a list without an end would be valid for ever */
    if (now < from || now > to) {
        verifier_note_observed(why, "revocation list valid from %llu to %llu", (unsigned long long)from,
                               (unsigned long long)to);
        verifier_note_required(why, "valid at %llu (seconds since 1970 UTC)", (unsigned long long)now);
        return now < from ? VERIFIER_E_CRL_NOT_YET_VALID : VERIFIER_E_CRL_EXPIRED;
    }
    /* 2 is "removed from the list", which only a delta list could say */
    if (X509_CRL_get0_by_serial(crl, &entry, X509_get0_serialNumber(cert)) != 0)
        return VERIFIER_E_CERT_REVOKED;
    if (to < c->expires)
        c->expires = to;
    if (from < c->issued)
        c->issued = from;
    return VERIFIER_OK;
}

enum verifier_err verifier_chain_revocation(struct verifier_chain *c, size_t subject, const struct span *crls,
                                            size_t crl_count, enum verifier_chain_form form, uint64_t now,
                                            struct verifier_note *why)
{
    bool unread;
    X509_CRL *crl;
    enum verifier_err err;

    if (crl_count == 0) {
        note_subject(why, c, subject, "no revocation list was given");
        return VERIFIER_E_CRL_MISSING;
    }
    crl = crl_find(cert_at(c, subject), crls, crl_count, &unread);
    if (!crl) {
        note_subject(why, c, subject, "no revocation list by its issuer");
        return done(unread ? VERIFIER_E_PARSE : VERIFIER_E_CRL_ISSUER);
    }
    err = check_crl(c, crl, cert_at(c, subject), cert_at(c, subject + 1), form, now, why);
    if (err == VERIFIER_E_CERT_REVOKED)
        note_subject(why, c, subject, "revoked by its issuer");
    X509_CRL_free(crl);
    return done(err);
}

/* --- what certificates say ---------------------------------------------------------------------- */

bool verifier_chain_point(const struct verifier_chain *c, size_t i, enum verifier_curve curve,
                          uint8_t out[VERIFIER_POINT_MAX])
{
    EVP_PKEY *key = X509_get0_pubkey(cert_at(c, i));
    size_t n = verifier_curve_len(curve);
    char group[32] = "";
    BIGNUM *x = NULL, *y = NULL;
    bool good = key && EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
                strcmp(group, curve == VERIFIER_P256 ? SN_X9_62_prime256v1 : SN_secp384r1) == 0 &&
                EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
                EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y) == 1 &&
                BN_bn2binpad(x, out, (int)n) == (int)n && BN_bn2binpad(y, out + n, (int)n) == (int)n;

    BN_free(x);
    BN_free(y);
    ERR_clear_error();
    return good;
}

static size_t key_number(EVP_PKEY *key, const char *name, uint8_t *out, size_t cap)
{
    BIGNUM *number = NULL;
    size_t len = 0;

    if (EVP_PKEY_get_bn_param(key, name, &number) == 1 && BN_num_bytes(number) > 0 &&
        (size_t)BN_num_bytes(number) <= cap)
        len = (size_t)BN_bn2bin(number, out);
    BN_free(number);
    return len;
}

bool verifier_chain_rsa(const struct verifier_chain *c, size_t i, struct verifier_chain_rsa *out)
{
    EVP_PKEY *key = X509_get0_pubkey(cert_at(c, i));

    memset(out, 0, sizeof *out);
    if (key && EVP_PKEY_is_a(key, "RSA")) {
        out->n_len = key_number(key, OSSL_PKEY_PARAM_RSA_N, out->n, sizeof out->n);
        out->e_len = key_number(key, OSSL_PKEY_PARAM_RSA_E, out->e, sizeof out->e);
    }
    ERR_clear_error();
    return out->n_len > 0 && out->e_len > 0;
}

bool verifier_chain_signs(const struct verifier_chain *c, size_t i)
{
    X509 *cert = cert_at(c, i);

    return (X509_get_extension_flags(cert) & EXFLAG_KUSAGE) && !(X509_get_extension_flags(cert) & EXFLAG_CA) &&
           (X509_get_key_usage(cert) & KU_DIGITAL_SIGNATURE);
}

/* The subject's only attribute of this kind, as text without control characters: it goes into notes. */
static bool subject_text(const struct verifier_chain *c, size_t i, int nid, char *out, size_t cap)
{
    X509_NAME *subject = X509_get_subject_name(cert_at(c, i));
    int at = X509_NAME_get_index_by_NID(subject, nid, -1), len;
    unsigned char *utf8 = NULL;
    bool good;

    if (at < 0 || X509_NAME_get_index_by_NID(subject, nid, at) >= 0)
        return false;
    len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    good = len > 0 && (size_t)len < cap && !memchr(utf8, 0, (size_t)len);
    if (good) {
        memcpy(out, utf8, (size_t)len);
        out[len] = '\0';
        for (int k = 0; k < len; k++)
            if ((uint8_t)out[k] < 0x20 || out[k] == 0x7f)
                good = false;
    }
    OPENSSL_free(utf8);
    return good;
}

bool verifier_chain_name(const struct verifier_chain *c, size_t i, char *out, size_t cap)
{
    return subject_text(c, i, NID_commonName, out, cap);
}

bool verifier_chain_serial(const struct verifier_chain *c, size_t i, char *out, size_t cap)
{
    return subject_text(c, i, NID_serialNumber, out, cap);
}

bool verifier_chain_extension(const struct verifier_chain *c, size_t i, const char *oid, struct span *out)
{
    ASN1_OBJECT *wanted = OBJ_txt2obj(oid, 1);
    int at = wanted ? X509_get_ext_by_OBJ(cert_at(c, i), wanted, -1) : -1;
    bool good = at >= 0 && X509_get_ext_by_OBJ(cert_at(c, i), wanted, at) < 0;

    if (good) {
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_get_ext(cert_at(c, i), at));
        *out = span_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    }
    ASN1_OBJECT_free(wanted);
    return good;
}
