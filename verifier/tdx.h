/* tdx.h - Intel TDX quotes (version 4 and 5) and SGX quotes (version 3): quote, certificates, revocation, TCB.
 * Pure. Order of checks: attestation.md § 2. Nine signatures: leaf, CA, QE report, quote, two of collateral, its
 * signer's certificate, two revocation lists. */
#ifndef VERIFIER_TDX_H
#define VERIFIER_TDX_H

#include "verifier/pck.h"
#include "verifier/tcb.h"

/* Bits of TDATTRIBUTES. */
#define VERIFIER_TD_DEBUG (1ull << 0)
#define VERIFIER_TD_RESERVED 0x200000feull /* bits 1 to 7, 29 */
#define VERIFIER_TD_SEPT_VE_DISABLE (1ull << 28)
/* Bit of an enclave's ATTRIBUTES. */
#define VERIFIER_SGX_DEBUG 0x02u

/* The facts of a TDX quote. */
struct verifier_tdx {
    uint16_t quote_version;
    enum verifier_quote_body body_type;
    uint8_t tee_tcb_svn[16], mrseam[48], mrsignerseam[48];
    uint64_t seamattributes, tdattributes, xfam;
    uint8_t mrtd[48], mrconfigid[48], mrowner[48], mrownerconfig[48], rtmr[4][48];
    bool has_15; /* the two below: TD 1.5 */
    uint8_t tee_tcb_svn2[16], mrservicetd[48];
    struct verifier_pck pck;
    struct verifier_tcb_result tcb;
};

/* Everything that a quote proved, on the way: filled as far as the checks got, also when one refused. Spans borrow from
 * the quote. For verifier_tdx_verify() and for whoever wants to say why (a status and its advisories). */
struct verifier_intel {
    struct verifier_quote quote;
    struct verifier_pck pck;
    struct verifier_tcb_result tcb;
    char ca[64];              /* name of the PCK certificate's issuer */
    uint64_t expires, issued; /* earliest end, and earliest date of a list or document that counted */
    bool simulated;
};

struct verifier_hw;
struct verifier_collateral;
struct verifier_hw_rules;
struct verifier_note;

/* A TDX or SGX quote, whichever it is, down to the rules. */
MUST_CHECK enum verifier_err verifier_intel_check(struct verifier_intel *out, struct span quote,
                                                  const struct verifier_collateral *collateral, uint64_t now,
                                                  const struct verifier_hw_rules *rules, struct verifier_note *why);
/* verifier_hw_verify() for TDX: the chain is in the quote. */
MUST_CHECK enum verifier_err verifier_tdx_verify(struct verifier_hw *out, struct span quote,
                                                 const struct verifier_collateral *collateral, uint64_t now,
                                                 const struct verifier_hw_rules *rules, struct verifier_note *why);

#endif
