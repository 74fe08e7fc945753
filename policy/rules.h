/* rules.h - what somebody demands of a node: stage 11 of PROTOCOL.md § Order of checks, and stage 5's least versions.
 * Plain data, filled from an acceptance file (a client's) or from the owner's policy (keyd, proxy, engine); read by
 * policy_judge() only. All zero accepts nothing. About 80 KiB: keep it off small stacks. */
#ifndef POLICY_RULES_H
#define POLICY_RULES_H

#include "policy/facts.h"
#include "policy/policy.h"

enum { POLICY_OWNERS_MAX = 8 };

/* What may run in one role. */
struct policy_rules_program {
    size_t count; /* 0: nothing is accepted */
    struct policy_measurement measurement[POLICY_MEASUREMENTS_MAX];
    uint32_t stage; /* bits of enum verifier_stage that must all stand */
};

struct policy_rules {
    bool simulated; /* simulated evidence is accepted */
    size_t owner_count;
    uint8_t owner[POLICY_OWNERS_MAX][VERIFIER_DIGEST_LEN]; /* digests of first key sets */
    struct policy_rules_program proxy, engine;
    /* Accepted platforms: line_count 0 means Genoa, Turin and tdx without least versions; never Milan unless listed.
     * The machine's id must be in chip/instance or in a fleet file, or (simulated evidence only) hardware_any. */
    struct policy_hardware hardware;
    bool hardware_any;
    bool fleet_by_policy; /* a fleet file signed by a key that the node's policy names counts */
    size_t fleet_count;
    uint8_t fleet[POLICY_FLEET_KEYS_MAX][VERIFIER_KEY_LEN]; /* keys whose fleet file counts besides */
    uint32_t policy_min;                                    /* least policy version; 0: any */
    size_t model_count;
    uint8_t model[POLICY_MODELS_MAX][VERIFIER_DIGEST_LEN]; /* artefact roots; none: any model that the policy names */
    struct policy_gpus gpus;                               /* of an engine */
    bool unknown_is_report;                            /* false: an unknown register, status or device field refuses */
    uint64_t evidence_age, device_age, collateral_age; /* greatest ages in seconds; 0: no limit of its own */
    policy_facts_fn facts;                             /* how stage 9 reads a policy text; NULL: policy_facts_parse */
};

#endif
