#include "verifier/hw.h"

#include "verifier/cache.h"

struct verifier_hw_rules verifier_hw_rules_default(void)
{
    return (struct verifier_hw_rules){.require_crl = true, .tcb_statuses = 1u << VERIFIER_TCB_UP_TO_DATE};
}

struct verifier_hw_rules verifier_hw_rules_judged(void)
{
    struct verifier_hw_rules r = verifier_hw_rules_default();

    r.tcb_statuses = (1u << VERIFIER_TCB_REVOKED) - 1;
    return r;
}

static enum verifier_err verify(struct verifier_hw *out, enum verifier_tee tee, struct span quote,
                                const struct span *chain, size_t chain_count,
                                const struct verifier_collateral *collateral, uint64_t now,
                                const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    switch (tee) {
    case VERIFIER_TEE_SNP:
        return verifier_snp_verify(out, quote, chain, chain_count, collateral, now, rules, why);
    case VERIFIER_TEE_TDX:
        if (chain_count > 0) /* it comes inside the quote */
            return VERIFIER_E_CHAIN_LENGTH;
        return verifier_tdx_verify(out, quote, collateral, now, rules, why);
    case VERIFIER_TEE_NITRO:
        if (chain_count > 0) /* it comes inside the document */
            return VERIFIER_E_CHAIN_LENGTH;
        return verifier_nitro_verify(out, quote, collateral->cache, now, rules, why);
    case VERIFIER_TEE_AZURE:
        return verifier_azure_verify(out, quote, chain, chain_count, collateral, now, rules, why);
    case VERIFIER_TEE_GCP:
        return verifier_gcp_verify(out, quote, chain, chain_count, collateral, now, rules, why);
    default:
        verifier_note_observed(why, "evidence of another kind than this build reads");
        return VERIFIER_E_UNSUPPORTED_TEE;
    }
}

enum verifier_err verifier_hw_verify(struct verifier_hw *out, enum verifier_tee tee, struct span quote,
                                     const struct span *chain, size_t chain_count,
                                     const struct verifier_collateral *collateral, uint64_t now,
                                     const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct verifier_collateral given = collateral ? *collateral : (struct verifier_collateral){0};
    struct verifier_cache *own = given.cache ? NULL : verifier_cache_new(0);
    enum verifier_err err = VERIFIER_E_INTERNAL;

    memset(out, 0, sizeof *out);
    if (own)
        given.cache = own;
    if (given.cache) {
        verifier_cache_keys(given.cache)->starved = false;
        err = verify(out, tee, quote, chain, chain_count, &given, now, rules, why);
        if (err != VERIFIER_OK && verifier_cache_keys(given.cache)->starved)
            err = VERIFIER_E_INTERNAL; /* nothing was found wrong: it could not be looked at */
    }
    if (err == VERIFIER_OK && tee != VERIFIER_TEE_AZURE)
        out->beneath = tee;
    verifier_cache_free(own);
    return err;
}

bool verifier_hw_binds(const struct verifier_hw *hw, const uint8_t report_data[64])
{
    uint8_t want[64] = {0};

    if (hw->tee == VERIFIER_TEE_AZURE || hw->tee == VERIFIER_TEE_GCP)
        verifier_sha256(want, span_of(report_data, 64));
    else
        memcpy(want, report_data, sizeof want);
    return memcmp(want, hw->report_data, sizeof want) == 0;
}
