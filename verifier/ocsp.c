#include "verifier/ocsp.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

struct answer {
    OCSP_BASICRESP *basic;   /* owned */
    OCSP_SINGLERESP *single; /* its only one; borrowed from it */
    X509 *subject, *issuer;  /* borrowed from the chain */
    uint64_t from, to;       /* thisUpdate, nextUpdate */
    struct window {
        uint64_t from, to;
    } signer; /* when a delegate's certificate holds; always, for the issuer itself */
};

/* --- reading ------------------------------------------------------------------------------------- */

/* One response with exactly one answer in it and nothing critical that is not understood. */
static enum verifier_err read_answer(struct answer *a, struct span der)
{
    const unsigned char *p = der.data;
    OCSP_RESPONSE *response = NULL;
    enum verifier_err err = VERIFIER_E_OCSP_PARSE;

    if (der.len > 0 && der.len <= VERIFIER_OCSP_BYTES_MAX)
        response = d2i_OCSP_RESPONSE(NULL, &p, (long)der.len);
    if (response && p == der.data + der.len) {
        if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
            err = VERIFIER_E_OCSP_STATUS;
        else
            a->basic = OCSP_response_get1_basic(response);
    }
    OCSP_RESPONSE_free(response);
    if (!a->basic)
        return err;
    a->single = OCSP_resp_count(a->basic) == 1 ? OCSP_resp_get0(a->basic, 0) : NULL;
    return a->single && OCSP_BASICRESP_get_ext_by_critical(a->basic, 1, -1) < 0 &&
                   OCSP_SINGLERESP_get_ext_by_critical(a->single, 1, -1) < 0
               ? VERIFIER_OK
               : VERIFIER_E_OCSP_PARSE;
}

/* The name of a certificate in OCSP: its number and the hashes of its issuer's name and key. Which hash is the
 * responder's choice; a collision in a weak one leads nowhere, as the same issuer must have signed. */
static bool names(const struct answer *a)
{
    const OCSP_CERTID *id = OCSP_SINGLERESP_get0_id(a->single);
    ASN1_OBJECT *algorithm = NULL;
    const EVP_MD *hash;
    OCSP_CERTID *want = NULL;
    bool same;

    if (OCSP_id_get0_info(NULL, &algorithm, NULL, NULL, (OCSP_CERTID *)id) != 1)
        return false;
    hash = EVP_get_digestbyobj(algorithm);
    if (hash && EVP_MD_get_size(hash) >= 20)
        want = OCSP_cert_to_id(hash, a->subject, a->issuer);
    same = want && OCSP_id_cmp(want, id) == 0;
    OCSP_CERTID_free(want);
    return same;
}

/* --- who signed ---------------------------------------------------------------------------------- */

static bool is_ecdsa(const X509_ALGOR *alg)
{
    const ASN1_OBJECT *oid;
    int nid;

    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    nid = OBJ_obj2nid(oid);
    return nid == NID_ecdsa_with_SHA256 || nid == NID_ecdsa_with_SHA384 || nid == NID_ecdsa_with_SHA512;
}

static enum verifier_err check_window(const struct window *w, uint64_t now)
{
    if (now < w->from)
        return VERIFIER_E_CERT_NOT_YET_VALID;
    return now > w->to ? VERIFIER_E_CERT_EXPIRED : VERIFIER_OK;
}

/* A certificate of the responder: made by the very issuer, for signing answers, and valid now. What its own revocation
 * is worth is the issuer's business (id-pkix-ocsp-nocheck): it lives shortly. */
static enum verifier_err check_delegate(struct answer *a, X509 *delegate, uint64_t now)
{
    const X509_ALGOR *alg = NULL;
    uint32_t flags = X509_get_extension_flags(delegate);

    X509_get0_signature(NULL, &alg, delegate);
    if (X509_NAME_cmp(X509_get_issuer_name(delegate), X509_get_subject_name(a->issuer)) != 0 || !is_ecdsa(alg) ||
        X509_verify(delegate, X509_get0_pubkey(a->issuer)) != 1)
        return VERIFIER_E_OCSP_ISSUER;
    if ((flags & (EXFLAG_INVALID | EXFLAG_CRITICAL)) || !(flags & EXFLAG_XKUSAGE) ||
        !(X509_get_extended_key_usage(delegate) & XKU_OCSP_SIGN) ||
        !(X509_get_key_usage(delegate) & KU_DIGITAL_SIGNATURE))
        return VERIFIER_E_OCSP_DELEGATE;
    if (!verifier_chain_seconds(X509_get0_notBefore(delegate), &a->signer.from) ||
        !verifier_chain_seconds(X509_get0_notAfter(delegate), &a->signer.to))
        return VERIFIER_E_OCSP_PARSE;
    return check_window(&a->signer, now);
}

static enum verifier_err check_signer(struct answer *a, uint64_t now)
{
    STACK_OF(X509) *own = sk_X509_new_null();
    X509 *signer = NULL;
    EVP_PKEY *issuer_key = X509_get0_pubkey(a->issuer), *key;
    enum verifier_err err = VERIFIER_E_OCSP_ISSUER;

    /* The response names its signer; the issuer's certificate is ours, others come with the response. */
    if (own && sk_X509_push(own, a->issuer) > 0 && OCSP_resp_get0_signer(a->basic, &signer, own) == 1) {
        key = X509_get0_pubkey(signer);
        if (key && issuer_key && EVP_PKEY_eq(key, issuer_key) == 1)
            err = VERIFIER_OK;
        else if (key && issuer_key)
            err = check_delegate(a, signer, now);
        if (err == VERIFIER_OK &&
            (!is_ecdsa(OCSP_resp_get0_tbs_sigalg(a->basic)) ||
             ASN1_item_verify(ASN1_ITEM_rptr(OCSP_RESPDATA), OCSP_resp_get0_tbs_sigalg(a->basic),
                              OCSP_resp_get0_signature(a->basic), OCSP_resp_get0_respdata(a->basic), key) != 1))
            err = VERIFIER_E_OCSP_SIGNATURE;
    }
    sk_X509_free(own);
    return err;
}

/* --- what it says -------------------------------------------------------------------------------- */

static enum verifier_err check_content(struct answer *a, uint64_t now, struct verifier_note *why)
{
    ASN1_GENERALIZEDTIME *revoked = NULL, *from = NULL, *to = NULL;
    int reason = -1, status = OCSP_single_get0_status(a->single, &reason, &revoked, &from, &to);

    if (!verifier_chain_seconds(from, &a->from) || !verifier_chain_seconds(to, &a->to))
        return VERIFIER_E_OCSP_PARSE; /* an answer without an end would be valid for ever */
    if (now < a->from || now > a->to) {
        verifier_note_observed(why, "certificate status valid from %llu to %llu", (unsigned long long)a->from,
                               (unsigned long long)a->to);
        verifier_note_required(why, "valid at %llu (seconds since 1970 UTC)", (unsigned long long)now);
        return now < a->from ? VERIFIER_E_OCSP_NOT_YET_VALID : VERIFIER_E_OCSP_EXPIRED;
    }
    if (status == V_OCSP_CERTSTATUS_GOOD)
        return VERIFIER_OK;
    if (status != V_OCSP_CERTSTATUS_REVOKED)
        return VERIFIER_E_OCSP_UNKNOWN;
    return reason == OCSP_REVOKED_STATUS_CERTIFICATEHOLD ? VERIFIER_E_OCSP_HOLD : VERIFIER_E_CERT_REVOKED;
}

/* What is remembered of a response: that this issuer, or a delegate that it made, signed it, and when the delegate's
 * certificate holds. */
static void remember(struct verifier_chain *c, struct span issuer, struct span response, const struct answer *a)
{
    struct window *copy = malloc(sizeof *copy);

    if (!copy)
        return;
    *copy = a->signer;
    verifier_cache_add(verifier_chain_cache(c), VERIFIER_FACT_STATUS, issuer, response, copy, sizeof *copy, free);
}

static enum verifier_err check_answer(struct verifier_chain *c, size_t subject, struct answer *a, struct span response,
                                      uint64_t now, struct verifier_note *why)
{
    struct verifier_cache *cache = verifier_chain_cache(c);
    struct span issuer = c->cert[subject + 1].whole;
    enum verifier_err err;
    void *known;

    if (!cache)
        return VERIFIER_E_INTERNAL;
    if (verifier_cache_find(cache, VERIFIER_FACT_STATUS, issuer, response, &known)) {
        a->signer = *(const struct window *)known;
        err = check_window(&a->signer, now);
    } else {
        err = check_signer(a, now);
    }
    if (err == VERIFIER_OK)
        err = check_content(a, now, why);
    if (err != VERIFIER_OK)
        return err;
    if (a->to < c->expires)
        c->expires = a->to;
    if (a->signer.to < c->expires)
        c->expires = a->signer.to;
    if (a->from < c->issued)
        c->issued = a->from;
    remember(c, issuer, response, a);
    return VERIFIER_OK;
}

static enum verifier_err too_many(struct verifier_note *why)
{
    verifier_note_observed(why, "more than %d statuses of one certificate", VERIFIER_OCSP_ANSWERS_MAX);
    verifier_note_required(why, "the newest alone");
    return VERIFIER_E_OCSP_PARSE;
}

enum verifier_err verifier_ocsp_check(struct verifier_chain *c, size_t subject, const struct span *responses,
                                      size_t count, uint64_t now, struct verifier_note *why)
{
    enum verifier_err silence = count == 0 ? VERIFIER_E_OCSP_MISSING : VERIFIER_E_OCSP_MISMATCH, err = VERIFIER_OK;
    size_t answers = 0;

    if (subject + 1 >= c->count)
        return VERIFIER_E_INTERNAL;
    for (size_t i = 0; i < count && err == VERIFIER_OK; i++) {
        struct answer a = {.subject = verifier_chain_x509(c, subject),
                           .issuer = verifier_chain_x509(c, subject + 1),
                           .signer = {0, UINT64_MAX}};
        enum verifier_err shape = read_answer(&a, responses[i]);

        if (!a.subject || !a.issuer)
            err = VERIFIER_E_INTERNAL, answers++;
        else if (shape != VERIFIER_OK)
            silence = shape;
        else if (names(&a))
            err = ++answers > VERIFIER_OCSP_ANSWERS_MAX ? too_many(why)
                                                        : check_answer(c, subject, &a, responses[i], now, why);
        OCSP_BASICRESP_free(a.basic);
    }
    ERR_clear_error(); /* what a stranger's bytes caused must not surface elsewhere */
    return answers > 0 ? err : silence;
}

bool verifier_ocsp_is_silence(enum verifier_err err)
{
    return err == VERIFIER_E_OCSP_MISSING || err == VERIFIER_E_OCSP_MISMATCH;
}
