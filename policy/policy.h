/* policy.h - the owner's policy text: where and how a model may run. Text in, plain struct out.
 * Nothing here can be overridden at run time. Pure: no files, no clock; a caller checks the signatures before it
 * parses. What stage 9 needs of it: PROTOCOL.md § Signed objects; a commented text with every field: `airlock policy
 * init`. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "policy/admit.h"
#include "policy/config.h"
#include "verifier/types.h"

struct policy_rules;

enum {
    POLICY_MODELS_MAX = 16,
    POLICY_ALIASES_MAX = 4,
    POLICY_MEASUREMENTS_MAX = 32, /* per role */
    POLICY_PCRS_MAX = 8,          /* pinned registers of a virtual TPM, an image */
    POLICY_LINES_MAX = 8,         /* product lines */
    POLICY_HARDWARE_MAX = 128,    /* hardware ids of one kind in the policy itself; more: a fleet file */
    POLICY_KEYDS_MAX = 8,
    POLICY_FLEET_KEYS_MAX = 8,
    POLICY_TENANT_AUTHORITIES_MAX = 4,
    POLICY_GPU_TEXTS_MAX = 16,
};

struct policy_model {
    char name[257]; /* as the API names it */
    size_t alias_count;
    char alias[POLICY_ALIASES_MAX][257];
    uint8_t root[64]; /* artefact root */
    bool sealed;      /* a key id was given: the weights are encrypted */
    uint8_t key_id[32];
    uint32_t shares; /* 1: every keyd holds the whole key; else as many as there are keyds, one share each */
};

struct policy_measurement {
    enum verifier_tee tee;
    uint8_t digest[48]; /* SNP launch measurement, TDX MRTD, Nitro PCR0, Azure: the paravisor's; GCP: zero */
    uint32_t registers; /* bit i: reg[i] is pinned */
    uint8_t reg[4][48]; /* TDX RTMR0 to RTMR3 */
    uint32_t pcrs;      /* Azure, GCP: bit i: PCR i of the SHA-256 bank is pinned, at least one */
    uint8_t pcr[POLICY_PCRS_MAX][32]; /* in the order of the bits */
};

/* What may run in one role, and behind which walls (bits of enum verifier_stage). */
struct policy_program {
    size_t count;
    struct policy_measurement measurement[POLICY_MEASUREMENTS_MAX];
    uint32_t sandbox_at_release; /* before keyd gives it a lease or key */
    uint32_t sandbox_at_serving; /* before any peer sends it a prompt */
};

/* A platform that is accepted, with the least versions of its trusted computing base. */
struct policy_line {
    char name[16];                                /* "Genoa", "Turin", "Milan", "tdx", "nitro"; compared exactly */
    uint8_t bootloader, tee, snp, microcode, fmc; /* SNP: least reported TCB */
    size_t tdx_status;                            /* TDX: worst status, index into POLICY_TDX_STATUS_NAMES */
    uint64_t tdx_date;                            /* TDX: least tcbDate, 0 = any */
};
#define POLICY_TDX_STATUS_NAMES                                                                                        \
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate"

struct policy_hardware {
    size_t line_count;
    struct policy_line line[POLICY_LINES_MAX];
    size_t chip_count, instance_count;
    uint8_t chip[POLICY_HARDWARE_MAX][64];     /* SNP chip ids */
    uint8_t instance[POLICY_HARDWARE_MAX][16]; /* TDX platform instances */
};

struct policy_gpus {
    uint32_t min, max; /* devices of an engine; both 0: none */
    bool has_switches; /* exactly `switches` switches */
    uint32_t switches;
    bool ppcie;             /* require protected PCIe mode for more than one */
    bool ocsp_optional;     /* false (default): the vendor must have answered for every certificate of a device */
    bool rim_ocsp_optional; /* the same for the signers of reference files */
    size_t driver_count, vbios_count, ueid_count;
    char driver[POLICY_GPU_TEXTS_MAX][32]; /* accepted versions, exactly */
    char vbios[POLICY_GPU_TEXTS_MAX][32];
    char ueid[POLICY_HARDWARE_MAX][65]; /* decimal digits */
};

enum policy_cache { POLICY_CACHE_TENANT, POLICY_CACHE_NONE };
struct policy_requests {
    uint32_t endpoints, features;     /* bits of policy_endpoint, policy_feature */
    uint32_t max_context, max_output; /* tokens; 0 = the model's */
    uint32_t max_choices, max_prompts;
    double temperature_max, top_p_min, repetition_max;
    enum policy_cache cache; /* may a tenant's requests share a prefix cache among themselves? */
};

struct policy_tenancy {
    size_t key_count;
    uint8_t key[POLICY_TENANT_AUTHORITIES_MAX]
               [32];   /* who may sign the tenants file; none: everybody with TLS may ask */
    uint64_t max_life; /* seconds that a tenants file may live; default 7 d */
    uint32_t requests_per_minute, tokens_per_minute, concurrent; /* ceilings for every tenant; 0 = none */
};

struct policy {
    uint32_t version;
    uint64_t not_before, not_after; /* seconds since 1970 */
    uint64_t lease_max;             /* seconds, 60 to 24 h; default 4 h */
    uint64_t version_grace;         /* seconds; default 30 minutes */
    size_t keyd_count, fleet_count;
    uint8_t keyd[POLICY_KEYDS_MAX][32];
    uint8_t fleet[POLICY_FLEET_KEYS_MAX][32];
    bool simulated;         /* evidence signed under a demo root is accepted (where a build knows one at all) */
    bool unknown_is_report; /* false (default): an unknown measurement register, status or device field refuses */
    size_t model_count;
    struct policy_model model[POLICY_MODELS_MAX];
    struct policy_program proxy, engine;
    struct policy_hardware hardware;
    struct policy_gpus gpus;
    struct policy_requests requests;
    struct policy_tenancy tenants;
    uint64_t evidence_age, device_age, collateral_age; /* seconds: greatest ages */
    size_t min_kem; /* index into POLICY_KEM_NAMES: least key exchange of the TLS sessions */
};
#define POLICY_STAGE_NAMES                                                                                             \
    "namespaces", "seccomp", "landlock", "no_dumps", "no_swap", "no_new_privs", "unprivileged_uid"
#define POLICY_STAGE_COUNT 7
#define POLICY_KEM_NAMES "x25519", "x25519mlkem768"

/* Parse a policy text. The struct is large (about 50 KiB) and owns nothing: free() or static. False and `*why` when
 * refused; `*out` is then zero. */
MUST_CHECK bool policy_parse(struct span text, struct policy *out, struct policy_problem *why);

/* The model that the API's `name` (or an alias) means, or NULL. An empty name means the only model. */
const struct policy_model *policy_find_model(const struct policy *p, struct span name);
const struct policy_model *policy_find_root(const struct policy *p, const uint8_t root[64]);

/* What `p` demands of a peer, as the judge takes it (policy/rules.h). `serving`: the stage bits for serving and a live
 * lease; else those for key release and no lease yet. `owner`: digest of the owner's first keyset. */
void policy_rules_for(const struct policy *p, bool serving, const uint8_t owner[64], struct policy_rules *out);

#endif
