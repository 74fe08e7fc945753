#include "verifier/vtpm.h"

#include <stdio.h>

#include "verifier/base/reader.h"
#include "verifier/chain.h"
#include "verifier/hw.h"

/* --- what is sent ----------------------------------------------------------------------------------------------- */

enum { ATTEST_MAX = 4096, SIGNATURE_MAX = 512, NONCE_LEN = 32 };

struct parts {
    struct span hcl, attest, signature, pcr[VERIFIER_TPM_PCRS];
    size_t pcr_count;
};

static bool take_parts(struct parts *out, struct span quote, bool has_hcl)
{
    struct reader r = reader_over(quote);

    memset(out, 0, sizeof *out);
    reader_map(&r, has_hcl ? 4 : 3);
    if (has_hcl) {
        reader_key(&r, "hcl");
        out->hcl = reader_bin(&r, 1, VERIFIER_QUOTE_MAX);
    }
    reader_key(&r, "attest");
    out->attest = reader_bin(&r, 1, ATTEST_MAX);
    reader_key(&r, "signature");
    out->signature = reader_bin(&r, 1, SIGNATURE_MAX);
    reader_key(&r, "pcrs");
    out->pcr_count = reader_list(&r, 1, VERIFIER_TPM_PCRS);
    for (size_t i = 0; i < out->pcr_count; i++)
        out->pcr[i] = reader_bin(&r, 20, 48);
    return reader_end(&r);
}

/* --- the TPM's quote ---------------------------------------------------------------------------------------------- */

/* By an RSA key, or one on P-256. */
static bool is_signed(const struct verifier_public *key, const struct parts *p, struct verifier_cache *cache)
{
    struct verifier_keys own = {0}, *keys = cache ? verifier_cache_keys(cache) : &own;
    bool good = verifier_keys_signed(
        keys, key, key->kind == VERIFIER_KEY_RSA ? VERIFIER_FORM_RSA_SHA256 : VERIFIER_FORM_ECDSA_SHA256_RAW, p->attest,
        p->signature);

    verifier_keys_release(&own);
    return good;
}

static void fill(struct verifier_hw *out, const struct verifier_attest *a, const struct parts *p)
{
    size_t at = 0;

    for (size_t s = 0; s < a->selection_count; s++) {
        for (unsigned i = 0; i < VERIFIER_TPM_PCRS; i++) {
            if (!(a->selection[s].pcrs >> i & 1))
                continue;
            if (a->selection[s].bank == VERIFIER_TPM_SHA256) {
                memcpy(out->vtpm.pcr[i], p->pcr[at].data, sizeof out->vtpm.pcr[i]);
                out->vtpm.present |= UINT32_C(1) << i;
            }
            at++;
        }
    }
    out->vtpm.reset_count = a->reset_count;
    out->vtpm.restart_count = a->restart_count;
    out->vtpm.firmware = a->firmware;
    memset(out->report_data, 0, sizeof out->report_data);
    memcpy(out->report_data, a->extra.data, NONCE_LEN);
}

/* What the TPM signed, by the key that something above vouches for; its facts into `out`. */
static enum verifier_err check_tpm(struct verifier_hw *out, const struct parts *p, const struct verifier_public *key,
                                   struct verifier_cache *cache, struct verifier_note *why)
{
    struct verifier_attest a;
    enum verifier_err err = verifier_attest_parse(&a, p->attest);

    if (err != VERIFIER_OK)
        return err;
    if (!is_signed(key, p, cache))
        return VERIFIER_E_BAD_SIGNATURE;
    if (!verifier_attest_has_pcrs(&a, p->pcr, p->pcr_count))
        return VERIFIER_E_PCR_MISMATCH;
    if (a.extra.len != NONCE_LEN) {
        verifier_note_observed(why, "a TPM quote with a nonce of %zu bytes", a.extra.len);
        verifier_note_required(why, "%d bytes", NONCE_LEN);
        return VERIFIER_E_NONCE_MISMATCH;
    }
    fill(out, &a, p);
    return VERIFIER_OK;
}

/* --- Azure ----------------------------------------------------------------------------------------------------------
 */

/* The TD's quote: its report data, made at boot, is the digest of the paravisor's JSON. */
static enum verifier_err check_td(struct verifier_hw *out, const struct verifier_hcl *hcl, size_t chain_count,
                                  const struct verifier_collateral *collateral, uint64_t now,
                                  const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct verifier_hw_rules paravisor = *rules;
    enum verifier_err err;

    if (hcl->quote.len == 0) {
        verifier_note_observed(why, "a TDREPORT without the TD's quote behind it");
        verifier_note_required(why, "the quote: a TDREPORT proves itself to its own machine only");
        return VERIFIER_E_PARSE;
    }
    if (chain_count > 0) /* it comes inside the quote */
        return VERIFIER_E_CHAIN_LENGTH;
    paravisor.allow_sept_ve = true;
    err = verifier_tdx_verify(out, hcl->quote, collateral, now, &paravisor, why);
    if (err == VERIFIER_OK && !verifier_hcl_covers(hcl, out->report_data)) {
        verifier_note_observed(why, "a TD's quote over other data than the paravisor's");
        err = VERIFIER_E_RUNTIME_DATA_MISMATCH;
    }
    return err;
}

enum verifier_err verifier_azure_verify(struct verifier_hw *out, struct span quote, const struct span *chain,
                                        size_t chain_count, const struct verifier_collateral *collateral, uint64_t now,
                                        const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct parts p;
    struct verifier_hcl hcl;
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    if (!take_parts(&p, quote, true))
        return VERIFIER_E_PARSE;
    err = verifier_hcl_parse(&hcl, p.hcl);
    if (err == VERIFIER_OK)
        err = hcl.report_type == VERIFIER_HCL_SNP
                  ? verifier_snp_verify(out, hcl.report, chain, chain_count, collateral, now, rules, why)
                  : check_td(out, &hcl, chain_count, collateral, now, rules, why);
    if (err == VERIFIER_OK)
        err = check_tpm(out, &p, &hcl.key, collateral->cache, why);
    if (err != VERIFIER_OK) {
        memset(out, 0, sizeof *out);
        return err;
    }
    out->beneath = out->tee;
    out->tee = VERIFIER_TEE_AZURE;
    return VERIFIER_OK;
}

/* --- Google ------------------------------------------------------------------------------------------------------- */

enum { CERTS = 3 }; /* the key's, an intermediate, the root */

/* The same authority certifies keys that a TPM decrypts with: those vouch for nothing. */
static enum verifier_err check_key(const struct verifier_chain *c)
{
    enum verifier_key_kind kind = verifier_chain_key(c, 0)->kind;

    if (!verifier_chain_signs(c, 0))
        return VERIFIER_E_SIGNING_KEY_MISMATCH;
    return kind == VERIFIER_KEY_RSA || kind == VERIFIER_KEY_P256 ? VERIFIER_OK : VERIFIER_E_UNSUPPORTED_ALG;
}

static enum verifier_err check_chain(struct verifier_chain *c, const struct span *chain, size_t chain_count,
                                     const struct verifier_collateral *collateral, uint64_t now,
                                     const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    enum verifier_err err = verifier_chain_open(c, chain, chain_count, CERTS, why);

    verifier_chain_use(c, collateral->cache);
    if (err == VERIFIER_OK)
        err = verifier_chain_anchor(c, VERIFIER_ANCHOR_GCP, why);
    if (err == VERIFIER_OK)
        err = verifier_chain_check(c, VERIFIER_FORM_RSA_SHA256, now, why);
    for (size_t i = CERTS - 1; err == VERIFIER_OK && rules->require_crl && i-- > 0;)
        err = verifier_chain_revocation(c, i, collateral->crls, collateral->crl_count, VERIFIER_FORM_RSA_SHA256, now,
                                        why);
    return err;
}

enum verifier_err verifier_gcp_verify(struct verifier_hw *out, struct span quote, const struct span *chain,
                                      size_t chain_count, const struct verifier_collateral *collateral, uint64_t now,
                                      const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct parts p;
    struct verifier_chain c = {0};
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    if (!take_parts(&p, quote, false))
        return VERIFIER_E_PARSE;
    err = check_chain(&c, chain, chain_count, collateral, now, rules, why);
    if (err == VERIFIER_OK)
        err = check_key(&c);
    if (err == VERIFIER_OK)
        err = check_tpm(out, &p, verifier_chain_key(&c, 0), collateral->cache, why);
    if (err == VERIFIER_OK) {
        out->tee = VERIFIER_TEE_GCP;
        out->simulated = c.anchor.simulated;
        snprintf(out->product, sizeof out->product, "%s", "gcp");
        out->expires = c.expires;
        out->collateral_at = c.issued;
    } else {
        memset(out, 0, sizeof *out);
    }
    verifier_chain_close(&c);
    return err;
}
