#include "verifier/chain.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <time.h>

#include "verifier/base/codec.h"

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

static enum verifier_err note_length(struct verifier_note *why, size_t n, size_t exact)
{
    verifier_note_observed(why, "%zu certificates", n);
    verifier_note_required(why, "%zu certificates", exact);
    return VERIFIER_E_CHAIN_LENGTH;
}

/* Empty, with room for `bytes` of certificates. */
static bool chain_init(struct verifier_chain *out, size_t bytes)
{
    *out = (struct verifier_chain){.expires = UINT64_MAX, .issued = UINT64_MAX};
    out->bytes = malloc(bytes + 1);
    return out->bytes != NULL;
}

/* The next certificate, which lies in out->bytes. */
static enum verifier_err add_cert(struct verifier_chain *out, struct span der, struct verifier_note *why)
{
    if (der.len <= VERIFIER_CERT_MAX && verifier_cert_parse(&out->cert[out->count], der)) {
        out->count++;
        return VERIFIER_OK;
    }
    verifier_note_observed(why, "certificate %zu cannot be read", out->count);
    return VERIFIER_E_PARSE;
}

enum verifier_err verifier_chain_open(struct verifier_chain *out, const struct span *der, size_t n, size_t exact,
                                      struct verifier_note *why)
{
    enum verifier_err err = VERIFIER_OK;
    size_t total = 0, at = 0;

    *out = (struct verifier_chain){.expires = UINT64_MAX, .issued = UINT64_MAX};
    if (n != exact || n > VERIFIER_CERTS_MAX)
        return note_length(why, n, exact);
    for (size_t i = 0; i < n; i++)
        total += der[i].len;
    if (total > (size_t)VERIFIER_CERTS_MAX * VERIFIER_CERT_MAX)
        return VERIFIER_E_PARSE;
    if (!chain_init(out, total))
        return VERIFIER_E_INTERNAL;
    for (size_t i = 0; i < n && err == VERIFIER_OK; at += der[i++].len) {
        if (der[i].len > 0)
            memcpy(out->bytes + at, der[i].data, der[i].len);
        err = add_cert(out, span_of(out->bytes + at, der[i].len), why);
    }
    return err;
}

static bool is_padding(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] != '\0' && s.data[i] != '\n' && s.data[i] != '\r' && s.data[i] != ' ')
            return false;
    return true;
}

/* Cut the next PEM certificate off `*text` and decode it to `out`; its length, 0 when something else stands there. */
static size_t take_pem(struct span *text, uint8_t *out)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    const uint8_t *start = memmem(text->data, text->len, begin, sizeof begin - 1), *stop;

    if (!start || !is_padding(span_of(text->data, (size_t)(start - text->data))))
        return 0;
    start += sizeof begin - 1;
    stop = memmem(start, text->len - (size_t)(start - text->data), end, sizeof end - 1);
    if (!stop)
        return 0;
    *text = span_of(stop + sizeof end - 1, text->len - (size_t)(stop + sizeof end - 1 - text->data));
    return codec_unbase64(span_of(start, (size_t)(stop - start)), out, (size_t)(stop - start));
}

enum verifier_err verifier_chain_open_pem(struct verifier_chain *out, struct span pem, size_t exact,
                                          struct verifier_note *why)
{
    enum verifier_err err = VERIFIER_OK;
    size_t at = 0;

    *out = (struct verifier_chain){.expires = UINT64_MAX, .issued = UINT64_MAX};
    if (pem.len > (size_t)VERIFIER_CERTS_MAX * VERIFIER_CERT_MAX * 2)
        return VERIFIER_E_PARSE;
    if (!chain_init(out, pem.len))
        return VERIFIER_E_INTERNAL;
    while (!is_padding(pem) && err == VERIFIER_OK) {
        size_t len;

        if (out->count == VERIFIER_CERTS_MAX)
            return VERIFIER_E_CHAIN_LENGTH;
        len = take_pem(&pem, out->bytes + at);
        err = add_cert(out, span_of(out->bytes + at, len), why);
        at += len;
    }
    return err == VERIFIER_OK && out->count != exact ? note_length(why, out->count, exact) : err;
}

void verifier_chain_close(struct verifier_chain *c)
{
    for (size_t i = 0; i < VERIFIER_CERTS_MAX; i++)
        X509_free(c->x509[i]);
    memset(c->x509, 0, sizeof c->x509);
    verifier_cache_free(c->own);
    free(c->bytes);
    c->cache = c->own = NULL;
    c->bytes = NULL;
    c->count = 0;
}

void verifier_chain_use(struct verifier_chain *c, struct verifier_cache *cache)
{
    c->cache = cache;
}

struct verifier_cache *verifier_chain_cache(struct verifier_chain *c)
{
    if (!c->cache)
        c->cache = c->own = verifier_cache_new(0);
    return c->cache;
}

/* --- root, order, signatures -------------------------------------------------------------------- */

void verifier_chain_sha256(const struct verifier_chain *c, size_t i, uint8_t out[32])
{
    verifier_sha256(out, c->cert[i].whole);
}

enum verifier_err verifier_chain_anchor(struct verifier_chain *c, enum verifier_anchor_kind kind,
                                        struct verifier_note *why)
{
    uint8_t digest[32];

    verifier_chain_sha256(c, c->count - 1, digest);
    if (verifier_anchor_find(digest, &c->anchor) && c->anchor.kind == kind)
        return VERIFIER_OK;
    note_subject(why, c, c->count - 1, "this root is not trusted here");
    return VERIFIER_E_UNTRUSTED_ROOT;
}

/* A certificate that issued another: CA, allowed to sign certificates, room for the CAs between it and the leaf. */
static bool may_issue(const struct verifier_cert *issuer, size_t cas_below)
{
    return issuer->is_ca && issuer->signs_certs && (!issuer->has_path_len || issuer->path_len >= cas_below);
}

static enum verifier_err check_links(struct verifier_chain *c, struct verifier_cache *cache,
                                     enum verifier_chain_form form, struct verifier_note *why)
{
    for (size_t i = 0; i + 1 < c->count; i++)
        if (!span_equal(c->cert[i].issuer, c->cert[i + 1].subject)) {
            note_subject(why, c, i, "names another issuer than the next certificate");
            return VERIFIER_E_CHAIN_ISSUER;
        }
    for (size_t i = 0; i + 1 < c->count; i++) {
        const struct verifier_cert *cert = &c->cert[i];

        if (!verifier_cert_is_form(cert->algorithm, form) ||
            !verifier_cache_check(cache, cert + 1, form, cert->whole, cert->signed_part, cert->signature)) {
            note_subject(why, c, i, "not signed by the next certificate in the form required");
            return VERIFIER_E_CHAIN_SIGNATURE;
        }
        if (!may_issue(cert + 1, i)) {
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

static void note_time(struct verifier_note *why, const struct verifier_chain *c, size_t i, uint64_t now)
{
    char name[160];

    if (!verifier_chain_name(c, i, name, sizeof name))
        strcpy(name, "(no common name)");
    verifier_note_observed(why, "certificate %zu, %s: valid from %llu to %llu", i, name,
                           (unsigned long long)c->cert[i].from, (unsigned long long)c->cert[i].to);
    verifier_note_required(why, "valid at %llu (seconds since 1970 UTC)", (unsigned long long)now);
}

static enum verifier_err check_validity(struct verifier_chain *c, uint64_t now, struct verifier_note *why)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct verifier_cert *cert = &c->cert[i];

        if (now < cert->from || now > cert->to) {
            note_time(why, c, i, now);
            return now < cert->from ? VERIFIER_E_CERT_NOT_YET_VALID : VERIFIER_E_CERT_EXPIRED;
        }
        if (cert->to < c->expires)
            c->expires = cert->to;
    }
    return VERIFIER_OK;
}

enum verifier_err verifier_chain_check(struct verifier_chain *c, enum verifier_chain_form form, uint64_t now,
                                       struct verifier_note *why)
{
    struct verifier_cache *cache = verifier_chain_cache(c);
    enum verifier_err err = cache ? check_links(c, cache, form, why) : VERIFIER_E_INTERNAL;

    if (err == VERIFIER_OK)
        err = check_validity(c, now, why);
    for (size_t i = 0; err == VERIFIER_OK && i + 1 < c->count; i++)
        verifier_cache_signed_by(cache, &c->cert[i + 1], form, c->cert[i].whole);
    return err;
}

bool verifier_chain_signed(struct verifier_chain *c, size_t i, enum verifier_chain_form form, struct span whole,
                           struct span message, struct span signature)
{
    struct verifier_cache *cache = verifier_chain_cache(c);

    if (!cache || !verifier_cache_check(cache, &c->cert[i], form, whole, message, signature))
        return false;
    verifier_cache_signed_by(cache, &c->cert[i], form, whole);
    return true;
}

enum verifier_err verifier_chain_ecdsa(struct verifier_chain *c, size_t i, enum verifier_curve curve,
                                       struct span message, struct span rs)
{
    const struct verifier_public *key = &c->cert[i].key;
    struct verifier_cache *cache = verifier_chain_cache(c);

    if (key->kind != (curve == VERIFIER_P256 ? VERIFIER_KEY_P256 : VERIFIER_KEY_P384))
        return VERIFIER_E_UNSUPPORTED_ALG;
    return cache && verifier_keys_ecdsa(verifier_cache_keys(cache), curve, key->point, message, rs)
               ? VERIFIER_OK
               : VERIFIER_E_BAD_SIGNATURE;
}

/* --- revocation --------------------------------------------------------------------------------- */

#define CRL_MAX (256 * 1024) /* bytes, protocol.md § Fields: the collateral's cap */

/* The first list by the issuer of `cert`; false with `*unread` telling whether one could not be read. */
static bool crl_find(const struct verifier_cert *cert, const struct span *crls, size_t count, struct verifier_crl *out,
                     bool *unread)
{
    *unread = false;
    for (size_t i = 0; i < count; i++) {
        if (crls[i].len > CRL_MAX || !verifier_crl_parse(out, crls[i]))
            *unread = true;
        else if (span_equal(out->issuer, cert->issuer))
            return true;
    }
    return false;
}

/* The list of certificate `subject`'s issuer, the next in the chain. */
static enum verifier_err check_crl(struct verifier_chain *c, const struct verifier_crl *crl, size_t subject,
                                   enum verifier_chain_form form, uint64_t now, struct verifier_note *why)
{
    const struct verifier_cert *issuer = &c->cert[subject + 1];
    struct verifier_cache *cache = verifier_chain_cache(c);

    if (!cache || !verifier_cert_is_form(crl->algorithm, form) ||
        !verifier_cache_check(cache, issuer, form, crl->whole, crl->signed_part, crl->signature))
        return VERIFIER_E_CRL_SIGNATURE;
    if (now < crl->from || now > crl->to) {
        verifier_note_observed(why, "revocation list valid from %llu to %llu", (unsigned long long)crl->from,
                               (unsigned long long)crl->to);
        verifier_note_required(why, "valid at %llu (seconds since 1970 UTC)", (unsigned long long)now);
        return now < crl->from ? VERIFIER_E_CRL_NOT_YET_VALID : VERIFIER_E_CRL_EXPIRED;
    }
    if (verifier_crl_names(crl, c->cert[subject].serial))
        return VERIFIER_E_CERT_REVOKED;
    if (crl->to < c->expires)
        c->expires = crl->to;
    if (crl->from < c->issued)
        c->issued = crl->from;
    verifier_cache_signed_by(cache, issuer, form, crl->whole);
    return VERIFIER_OK;
}

enum verifier_err verifier_chain_revocation(struct verifier_chain *c, size_t subject, const struct span *crls,
                                            size_t crl_count, enum verifier_chain_form form, uint64_t now,
                                            struct verifier_note *why)
{
    struct verifier_crl crl;
    enum verifier_err err;
    bool unread;

    if (crl_count == 0) {
        note_subject(why, c, subject, "no revocation list was given");
        return VERIFIER_E_CRL_MISSING;
    }
    if (!crl_find(&c->cert[subject], crls, crl_count, &crl, &unread)) {
        note_subject(why, c, subject, "no revocation list by its issuer");
        return unread ? VERIFIER_E_PARSE : VERIFIER_E_CRL_ISSUER;
    }
    err = check_crl(c, &crl, subject, form, now, why);
    if (err == VERIFIER_E_CERT_REVOKED)
        note_subject(why, c, subject, "revoked by its issuer");
    return err;
}

/* --- what certificates say ---------------------------------------------------------------------- */

const struct verifier_public *verifier_chain_key(const struct verifier_chain *c, size_t i)
{
    return &c->cert[i].key;
}

bool verifier_chain_signs(const struct verifier_chain *c, size_t i)
{
    return c->cert[i].signs_data && !c->cert[i].is_ca;
}

void *verifier_chain_x509(struct verifier_chain *c, size_t i)
{
    const unsigned char *p = c->cert[i].whole.data;

    if (!c->x509[i])
        c->x509[i] = d2i_X509(NULL, &p, (long)c->cert[i].whole.len);
    ERR_clear_error();
    return c->x509[i];
}

bool verifier_chain_name(const struct verifier_chain *c, size_t i, char *out, size_t cap)
{
    return verifier_cert_subject(&c->cert[i], 3, out, cap);
}

bool verifier_chain_serial(const struct verifier_chain *c, size_t i, char *out, size_t cap)
{
    return verifier_cert_subject(&c->cert[i], 5, out, cap);
}

bool verifier_chain_extension(const struct verifier_chain *c, size_t i, const char *oid, struct span *out)
{
    return verifier_cert_extension(&c->cert[i], oid, out);
}
