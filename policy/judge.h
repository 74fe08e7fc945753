/* judge.h - claims x rules = verdict: stages 9, 9 of each engine (named 10) and 11 of PROTOCOL.md § Order of checks.
 * Pure: the time and what was seen before are arguments. */
#ifndef POLICY_JUDGE_H
#define POLICY_JUDGE_H

#include "policy/rules.h"
#include "verifier/check.h"

/* The highest versions this verifier has met, and when it first met each (0: unknown, then no grace). The caller
 * stores it between sessions. */
struct policy_seen {
    uint32_t policy, keyset, epoch;
    uint64_t policy_since, keyset_since, epoch_since;
};

struct policy_verdict {
    struct verifier_refusal refusal; /* code VERIFIER_OK and stage 0 when accepted */
    uint64_t valid_until;            /* earliest authenticated expiry; 0 when refused */
    const char *valid_by;            /* what ends then: "lease", "policy", "certificate", "engine ..."; static text */
    bool simulated;                  /* something rests on a simulated root */
    uint64_t revocation_latency;     /* seconds: the longest lease's life */
    struct policy_seen seen;         /* what to remember; as it was when refused */
};

/* True when accepted. `seen` may be NULL: nothing was seen. */
MUST_CHECK bool policy_judge(const struct verifier_claims *claims, const struct policy_rules *rules,
                             const struct policy_seen *seen, uint64_t now, struct policy_verdict *out);

#endif
