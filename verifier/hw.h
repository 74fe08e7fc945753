/* hw.h - CPU evidence of every kind: one call from bytes to facts, one struct for the facts.
 * Pure: time and collateral are arguments, there is no I/O, no clock and no global. A missing piece of collateral
 * that the rules require is a refusal, never a skipped check. Formats: snp.h, tdx.h; order of checks: attestation.md.
 */
#ifndef VERIFIER_HW_H
#define VERIFIER_HW_H

#include "verifier/base/span.h"
#include "verifier/err.h"
#include "verifier/nitro.h"
#include "verifier/snp.h"
#include "verifier/tdx.h"
#include "verifier/types.h"
#include "verifier/vtpm.h"

#define VERIFIER_CRLS_MAX 16
#define VERIFIER_OCSP_MAX 64
#define VERIFIER_RIMS_MAX 16

/* Signed facts about keys and platforms that do not come with the quote. Everything is borrowed; counts may be 0. */
struct verifier_collateral {
    struct span crls[VERIFIER_CRLS_MAX]; /* DER */
    size_t crl_count;
    struct span tcb_info, qe_identity; /* the response bodies (JSON) as Intel serves them; empty when absent */
    struct span tcb_chain[VERIFIER_CERTS_MAX], qe_chain[VERIFIER_CERTS_MAX]; /* DER, leaf first */
    size_t tcb_chain_count, qe_chain_count;
    struct span ocsp[VERIFIER_OCSP_MAX]; /* DER responses */
    size_t ocsp_count;
    struct span rims[VERIFIER_RIMS_MAX]; /* XML */
    size_t rim_count;
    struct verifier_cache *cache; /* what earlier calls found out (cache.h), or NULL. Each call changes it */
};

/* What evidence must meet for verifier_hw_verify() to say yes. verifier_hw_rules_default() is the strict form. */
struct verifier_hw_rules {
    bool require_crl; /* SNP; for TDX and SGX it is always required */
    bool allow_debug;
    bool allow_migration; /* SNP: a migration agent may be bound */
    uint32_t max_vmpl;    /* SNP: the highest level a report may have been asked from */
    bool has_min_tcb;     /* SNP: REPORTED and COMMITTED, each component */
    struct verifier_tcb min_tcb;
    uint32_t tcb_statuses;       /* TDX, SGX: bit (1 << enum verifier_tcb_status) of every status accepted */
    uint32_t min_tcb_evaluation; /* TDX, SGX: least tcbEvaluationDataNumber */
    bool allow_sept_ve;          /* TDX: SEPT_VE_DISABLE may be clear (clouds with a paravisor) */
    const uint8_t (*fmspcs)[6];  /* TDX, SGX: allowed platforms; NULL: any. Borrowed */
    size_t fmspc_count;
};

/* No debug, no migration, VMPL 0, CRL required, only TCB status UpToDate. */
struct verifier_hw_rules verifier_hw_rules_default(void);
/* The same, but every TCB status except Revoked passes: for a caller whose judge decides by the status
 * (policy/judge.c). */
struct verifier_hw_rules verifier_hw_rules_judged(void);

/* The facts of one verified piece of CPU evidence. */
struct verifier_hw {
    enum verifier_tee tee;
    enum verifier_tee beneath;     /* the hardware that vouches: SNP or TDX where tee is AZURE, else tee itself */
    bool simulated;                /* follows from the anchor that verified, never from a field */
    char product[16];              /* "Milan", "Genoa", "Turin", "tdx", "nitro", "gcp": as policies name it */
    uint8_t report_data[64];       /* what the guest had signed */
    uint8_t measurement[48];       /* SNP: MEASUREMENT; TDX: MRTD; Nitro: PCR 0; Azure: the paravisor's; GCP: zero */
    uint8_t chip_id[64];           /* SNP */
    bool has_chip_id;              /* false: masked, or signed by a provider's key; then it matches no list */
    uint8_t platform_instance[16]; /* TDX, multi-package platforms */
    bool has_platform_instance;
    uint64_t expires;        /* earliest notAfter and nextUpdate among everything that was used; seconds since 1970 */
    uint64_t collateral_at;  /* earliest date of the revocation lists and documents that counted; UINT64_MAX: none */
    struct verifier_snp snp; /* beneath SNP */
    struct verifier_tdx tdx; /* beneath TDX */
    struct verifier_nitro nitro; /* tee NITRO */
    struct verifier_vtpm vtpm;   /* tee AZURE, GCP */
};

/* Prove `quote` by `chain` (DER, leaf first, root last; empty where the quote carries it) and `collateral` at the
 * time `now` (seconds since 1970 UTC) under `rules`. On VERIFIER_OK every field of `*out` that its kind has is a
 * fact; otherwise `*out` is zero. `why` may be NULL. `*out` borrows nothing. Report data is not compared here. */
MUST_CHECK enum verifier_err verifier_hw_verify(struct verifier_hw *out, enum verifier_tee tee, struct span quote,
                                                const struct span *chain, size_t chain_count,
                                                const struct verifier_collateral *collateral, uint64_t now,
                                                const struct verifier_hw_rules *rules, struct verifier_note *why);

/* Does the evidence answer for these 64 bytes of report data? A TPM's quote has room for their SHA-256 only. */
bool verifier_hw_binds(const struct verifier_hw *hw, const uint8_t report_data[64]);

#endif
