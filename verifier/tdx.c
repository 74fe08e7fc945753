#include "verifier/tdx.h"

#include <stdio.h>

#include "verifier/chain.h"
#include "verifier/hw.h"

/* --- provisioning certificate ------------------------------------------------------------------------ */

/* Intel's two revocation lists: the root's for the CA, the CA's for the platform's key. A list of another CA says
 * nothing about this one, so for us it is missing. */
static enum verifier_err check_revoked(struct verifier_chain *c, size_t subject,
                                       const struct verifier_collateral *collateral, uint64_t now,
                                       struct verifier_note *why)
{
    enum verifier_err err = verifier_chain_revocation(c, subject, collateral->crls, collateral->crl_count,
                                                      VERIFIER_FORM_ECDSA_SHA256, now, why);

    return err == VERIFIER_E_CRL_ISSUER ? VERIFIER_E_CRL_MISSING : err;
}

/* Both ends of the chain by name, too: the same root signs other kinds of certificates. */
static enum verifier_err check_pck_names(struct verifier_intel *out, const struct verifier_chain *c)
{
    char leaf[64];

    if (!verifier_chain_name(c, 0, leaf, sizeof leaf) || strcmp(leaf, "Intel SGX PCK Certificate") != 0 ||
        !verifier_chain_name(c, 1, out->ca, sizeof out->ca) ||
        (strcmp(out->ca, "Intel SGX PCK Platform CA") != 0 && strcmp(out->ca, "Intel SGX PCK Processor CA") != 0))
        return VERIFIER_E_CHAIN_ISSUER;
    return VERIFIER_OK;
}

static enum verifier_err check_pck(struct verifier_intel *out, struct verifier_chain *c,
                                   const struct verifier_collateral *collateral, struct verifier_cache *cache,
                                   uint64_t now, struct verifier_note *why)
{
    struct span extension;
    enum verifier_err err = verifier_chain_open_pem(c, out->quote.certs, 3, why);

    verifier_chain_use(c, cache);
    if (err == VERIFIER_OK)
        err = verifier_chain_anchor(c, VERIFIER_ANCHOR_INTEL, why);
    if (err == VERIFIER_OK)
        err = verifier_chain_check(c, VERIFIER_FORM_ECDSA_SHA256, now, why);
    if (err == VERIFIER_OK)
        err = check_pck_names(out, c);
    if (err == VERIFIER_OK)
        err = check_revoked(c, 1, collateral, now, why);
    if (err == VERIFIER_OK)
        err = check_revoked(c, 0, collateral, now, why);
    if (err != VERIFIER_OK)
        return err;
    out->simulated = c->anchor.simulated;
    if (!verifier_chain_extension(c, 0, VERIFIER_PCK_OID, &extension))
        return VERIFIER_E_PARSE;
    return verifier_pck_parse(&out->pck, extension);
}

/* --- the quote's own signatures ------------------------------------------------------------------------ */

/* PCK signs the quoting enclave's report; that report names the attestation key; that key signs the quote. */
static enum verifier_err check_signatures(const struct verifier_quote *q, struct verifier_chain *c,
                                          struct verifier_cache *cache)
{
    struct verifier_hash hash;
    uint8_t digest[32];
    enum verifier_err err = verifier_chain_ecdsa(c, 0, VERIFIER_P256, q->qe_report, q->qe_signature);

    if (err != VERIFIER_OK)
        return err == VERIFIER_E_BAD_SIGNATURE ? VERIFIER_E_QE_REPORT_SIGNATURE : err;
    verifier_hash_begin(&hash, VERIFIER_SHA256);
    verifier_hash_add(&hash, q->key);
    verifier_hash_add(&hash, q->auth);
    verifier_hash_finish(&hash, digest);
    if (memcmp(q->qe.report_data.data, digest, 32) != 0 || !span_is_zero(span_of(q->qe.report_data.data + 32, 32)))
        return VERIFIER_E_QE_BINDING;
    if (!verifier_keys_ecdsa(verifier_cache_keys(cache), VERIFIER_P256, q->key, q->covered, q->signature))
        return VERIFIER_E_BAD_SIGNATURE;
    return VERIFIER_OK;
}

/* --- collateral ------------------------------------------------------------------------------------------ */

/* One response: its signer's chain, then the signature over the exact bytes of the value. */
static enum verifier_err check_response(struct span body, const char *name, const struct span *chain, size_t count,
                                        const struct verifier_collateral *collateral, struct verifier_cache *cache,
                                        uint64_t now, struct span *value, uint64_t *expires, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    uint8_t signature[64];
    char signer[64];
    enum verifier_err err;

    if (body.len == 0 || count == 0) {
        verifier_note_required(why, "%s with its certificates", name);
        return VERIFIER_E_COLLATERAL_MISSING;
    }
    err = verifier_tcb_split(body, name, value, signature);
    if (err == VERIFIER_OK)
        err = verifier_chain_open(&c, chain, count, 2, why);
    verifier_chain_use(&c, cache);
    if (err == VERIFIER_OK)
        err = verifier_chain_anchor(&c, VERIFIER_ANCHOR_INTEL, why);
    if (err == VERIFIER_OK)
        err = verifier_chain_check(&c, VERIFIER_FORM_ECDSA_SHA256, now, why);
    if (err == VERIFIER_OK)
        err = check_revoked(&c, 0, collateral, now, why);
    if (err == VERIFIER_OK &&
        (!verifier_chain_name(&c, 0, signer, sizeof signer) || strcmp(signer, "Intel SGX TCB Signing") != 0 ||
         !verifier_chain_signed(&c, 0, VERIFIER_FORM_ECDSA_SHA256_RAW, body, *value,
                                span_of(signature, sizeof signature))))
        err = VERIFIER_E_COLLATERAL_SIGNATURE;
    if (c.expires < *expires)
        *expires = c.expires;
    verifier_chain_close(&c);
    return err;
}

static enum verifier_err check_tcb(struct verifier_intel *out, const struct verifier_collateral *given,
                                   struct verifier_cache *cache, uint64_t now, struct verifier_note *why)
{
    struct span info, identity;
    enum verifier_err err = check_response(given->tcb_info, "tcbInfo", given->tcb_chain, given->tcb_chain_count, given,
                                           cache, now, &info, &out->expires, why);

    if (err == VERIFIER_OK)
        err = check_response(given->qe_identity, "enclaveIdentity", given->qe_chain, given->qe_chain_count, given,
                             cache, now, &identity, &out->expires, why);
    if (err == VERIFIER_OK)
        err = verifier_tcb_evaluate(&out->tcb, &out->quote, &out->pck, info, identity, cache, now);
    if (err == VERIFIER_OK && out->tcb.expires < out->expires)
        out->expires = out->tcb.expires;
    return err;
}

/* --- rules -------------------------------------------------------------------------------------------------- */

static uint64_t number(struct span s)
{
    uint64_t v = 0;

    for (size_t i = 0; i < s.len && i < 8; i++)
        v |= (uint64_t)s.data[i] << 8 * i;
    return v;
}

static enum verifier_err check_attributes(const struct verifier_quote *q, const struct verifier_hw_rules *rules)
{
    uint64_t attributes;

    if (q->tee_type == VERIFIER_QUOTE_TEE_SGX)
        return (q->sgx.attributes.data[0] & VERIFIER_SGX_DEBUG) && !rules->allow_debug ? VERIFIER_E_DEBUG_ENABLED
                                                                                       : VERIFIER_OK;
    attributes = number(q->td.tdattributes);
    if ((attributes & VERIFIER_TD_DEBUG) && !rules->allow_debug)
        return VERIFIER_E_DEBUG_ENABLED;
    if (attributes & VERIFIER_TD_RESERVED)
        return VERIFIER_E_TD_ATTRIBUTES_RESERVED;
    if (!(attributes & VERIFIER_TD_SEPT_VE_DISABLE) && !rules->allow_sept_ve)
        return VERIFIER_E_SEPT_VE_DISABLE;
    return VERIFIER_OK;
}

static bool fmspc_allowed(const uint8_t fmspc[6], const struct verifier_hw_rules *rules)
{
    for (size_t i = 0; i < rules->fmspc_count; i++)
        if (memcmp(rules->fmspcs[i], fmspc, 6) == 0)
            return true;
    return rules->fmspcs == NULL;
}

static enum verifier_err check_rules(const struct verifier_intel *in, const struct verifier_hw_rules *rules,
                                     struct verifier_note *why)
{
    const struct verifier_tcb_result *t = &in->tcb;
    enum verifier_err err = check_attributes(&in->quote, rules);

    if (err != VERIFIER_OK)
        return err;
    if (!fmspc_allowed(in->pck.fmspc, rules))
        return VERIFIER_E_FMSPC_NOT_ALLOWED;
    if (t->evaluation < rules->min_tcb_evaluation || t->qe_evaluation < rules->min_tcb_evaluation) {
        verifier_note_observed(why, "evaluation numbers %u and %u", t->evaluation, t->qe_evaluation);
        verifier_note_required(why, "evaluation number %u or later", rules->min_tcb_evaluation);
        return VERIFIER_E_COLLATERAL_TOO_OLD;
    }
    if (t->status == VERIFIER_TCB_REVOKED || !(rules->tcb_statuses >> t->status & 1)) {
        verifier_note_observed(why, "%s (%zu advisories, first %s)", verifier_tcb_status_name(t->status),
                               t->advisory_count, t->advisory_count ? t->advisory[0] : "none");
        return VERIFIER_E_TCB_STATUS;
    }
    return VERIFIER_OK;
}

/* --- all together --------------------------------------------------------------------------------------------- */

enum verifier_err verifier_intel_check(struct verifier_intel *out, struct span quote,
                                       const struct verifier_collateral *collateral, uint64_t now,
                                       const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct verifier_cache *own = collateral->cache ? NULL : verifier_cache_new(0),
                          *cache = own ? own : collateral->cache;
    struct verifier_chain pck = {0};
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    out->expires = UINT64_MAX;
    err = verifier_quote_parse(&out->quote, quote);
    if (err == VERIFIER_OK && !cache)
        err = VERIFIER_E_INTERNAL;
    if (err == VERIFIER_OK)
        err = check_pck(out, &pck, collateral, cache, now, why);
    if (err == VERIFIER_OK)
        err = check_signatures(&out->quote, &pck, cache);
    if (err == VERIFIER_OK)
        err = check_tcb(out, collateral, cache, now, why);
    if (err == VERIFIER_OK)
        err = check_rules(out, rules, why);
    if (pck.expires < out->expires)
        out->expires = pck.expires;
    out->issued = pck.issued < out->tcb.issued ? pck.issued : out->tcb.issued;
    verifier_chain_close(&pck);
    verifier_cache_free(own);
    return err;
}

#define COPY(to, from) memcpy(to, (from).data, sizeof(to))

static void fill_facts(struct verifier_hw *out, const struct verifier_intel *in)
{
    const struct verifier_td *td = &in->quote.td;
    struct verifier_tdx *t = &out->tdx;

    t->quote_version = in->quote.version;
    t->body_type = in->quote.body_type;
    COPY(t->tee_tcb_svn, td->tee_tcb_svn);
    COPY(t->mrseam, td->mrseam);
    COPY(t->mrsignerseam, td->mrsignerseam);
    t->seamattributes = number(td->seamattributes);
    t->tdattributes = number(td->tdattributes);
    t->xfam = number(td->xfam);
    COPY(t->mrtd, td->mrtd);
    COPY(t->mrconfigid, td->mrconfigid);
    COPY(t->mrowner, td->mrowner);
    COPY(t->mrownerconfig, td->mrownerconfig);
    for (int i = 0; i < 4; i++)
        COPY(t->rtmr[i], td->rtmr[i]);
    t->has_15 = td->tee_tcb_svn2.len > 0;
    if (t->has_15) {
        COPY(t->tee_tcb_svn2, td->tee_tcb_svn2);
        COPY(t->mrservicetd, td->mrservicetd);
    }
    t->pck = in->pck;
    t->tcb = in->tcb;
    out->tee = VERIFIER_TEE_TDX;
    out->simulated = in->simulated;
    snprintf(out->product, sizeof out->product, "%s", "tdx");
    COPY(out->report_data, td->report_data);
    COPY(out->measurement, td->mrtd);
    out->has_platform_instance = in->pck.has_instance && !span_is_zero(span_of(in->pck.instance, 16));
    memcpy(out->platform_instance, in->pck.instance, sizeof out->platform_instance);
    out->expires = in->expires;
    out->collateral_at = in->issued;
}

enum verifier_err verifier_tdx_verify(struct verifier_hw *out, struct span quote,
                                      const struct verifier_collateral *collateral, uint64_t now,
                                      const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct verifier_intel in;
    enum verifier_err err = verifier_intel_check(&in, quote, collateral, now, rules, why);

    memset(out, 0, sizeof *out);
    if (err == VERIFIER_OK && in.quote.tee_type != VERIFIER_QUOTE_TEE_TDX)
        err = VERIFIER_E_UNSUPPORTED_TEE;
    if (err == VERIFIER_OK)
        fill_facts(out, &in);
    return err;
}
