/* tcb.h - Intel's signed knowledge about platforms: TCB info and QE identity, and what it makes of one quote.
 * The response bodies are JSON with a signature over the exact bytes of one value; nothing in them is read before that
 * signature is proven. Intel PCS API version 4 (SGX also version 3); evaluation as in Intel's QVL, EvaluateTcb. */
#ifndef VERIFIER_TCB_H
#define VERIFIER_TCB_H

#include "verifier/cache.h"
#include "verifier/err.h"
#include "verifier/pck.h"
#include "verifier/quote.h"

enum verifier_tcb_status {
    VERIFIER_TCB_NONE = 0, /* not evaluated, or there is nothing to evaluate */
    VERIFIER_TCB_UP_TO_DATE,
    VERIFIER_TCB_SW_HARDENING,
    VERIFIER_TCB_CONFIGURATION,
    VERIFIER_TCB_CONFIGURATION_SW_HARDENING,
    VERIFIER_TCB_OUT_OF_DATE,
    VERIFIER_TCB_OUT_OF_DATE_CONFIGURATION,
    VERIFIER_TCB_RELAUNCH,
    VERIFIER_TCB_RELAUNCH_CONFIGURATION,
    VERIFIER_TCB_REVOKED, /* accepted by no rules */
    VERIFIER_TCB_STATUSES
};
/* Intel's words: "UpToDate", "SWHardeningNeeded", ...; "" for VERIFIER_TCB_NONE. */
const char *verifier_tcb_status_name(enum verifier_tcb_status status);
/* The status of that name, VERIFIER_TCB_NONE for another word. */
enum verifier_tcb_status verifier_tcb_status_of(const char *name);

#define VERIFIER_ADVISORIES_MAX 96

struct verifier_tcb_result {
    enum verifier_tcb_status status, platform, qe, module; /* module: NONE when its SVN says so */
    uint64_t date, platform_date;                          /* least tcbDate of all; the platform level's own */
    uint32_t evaluation, qe_evaluation;                    /* tcbEvaluationDataNumber of TCB info, of QE identity */
    uint64_t expires, issued;                              /* earliest nextUpdate, earliest issueDate of the two */
    size_t advisory_count;
    char advisory[VERIFIER_ADVISORIES_MAX][24]; /* of platform, QE, module, in that order, none twice */
};

/* Split a response `{"NAME": value, "signature": "hex"}` into the value's exact bytes and the 64 signature bytes.
 * VERIFIER_E_PARSE for anything else, also for further members. */
MUST_CHECK enum verifier_err verifier_tcb_split(struct span body, const char *name, struct span *value,
                                                uint8_t signature[64]);

/* Evaluate a quote of this platform by `tcb_info` and `identity` (the proven values) at the time `now`. Fills `*out` as
 * far as it gets. What the two say once parsed is remembered in `cache`, which may be NULL.
 * VERIFIER_E_COLLATERAL_MISMATCH, _COLLATERAL_EXPIRED, _FMSPC_MISMATCH, _PCEID_MISMATCH, _QE_IDENTITY_MISMATCH,
 * _TDX_MODULE_MISMATCH, _TCB_NOT_SUPPORTED, _PARSE. Whether a status is good enough is the caller's to say. */
MUST_CHECK enum verifier_err verifier_tcb_evaluate(struct verifier_tcb_result *out, const struct verifier_quote *quote,
                                                   const struct verifier_pck *pck, struct span tcb_info,
                                                   struct span identity, struct verifier_cache *cache, uint64_t now);

#endif
