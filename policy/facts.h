/* facts.h - the few fields of a policy text that stage 9 needs, whoever judges. PROTOCOL.md § Fields, Signers. */
#ifndef POLICY_FACTS_H
#define POLICY_FACTS_H

#include "policy/policy.h"
#include "verifier/err.h"
#include "verifier/types.h"

struct policy_facts {
    uint32_t version;
    uint64_t not_before, not_after; /* time */
    uint64_t lease_max;             /* seconds */
    uint64_t version_grace;         /* seconds */
    size_t keyd_count, fleet_count;
    uint8_t keyd[POLICY_KEYDS_MAX][VERIFIER_KEY_LEN];
    uint8_t fleet[POLICY_FLEET_KEYS_MAX][VERIFIER_KEY_LEN];
};

/* Reads a policy text whose signatures were checked. VERIFIER_E_POLICY_TEXT when it cannot be read. */
typedef enum verifier_err (*policy_facts_fn)(struct span text, struct policy_facts *out, struct verifier_note *why);

/* The project's own format: policy_parse(), then its fields. */
MUST_CHECK enum verifier_err policy_facts_parse(struct span text, struct policy_facts *out, struct verifier_note *why);

#endif
