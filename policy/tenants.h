/* tenants.h - who may use the service: the tenants file, signed by the key that the policy names for it.
 * API keys stand there only as hashes: SHA-256(lp("airlock api key v1") || lp(salt) || lp(key)), a salt per tenant.
 * A lookup always hashes and compares against every tenant, so its time tells nothing about which one matched.
 * Pure: no files, no clock. PROTOCOL.md § Signed objects, § First start. */
#ifndef POLICY_TENANTS_H
#define POLICY_TENANTS_H

#include "policy/config.h"

enum {
    POLICY_TENANTS_MAX = 256,
    POLICY_TENANT_KEYS_MAX = 4, /* API keys of one tenant: room to rotate */
    POLICY_TENANT_MODELS_MAX = 16,
    POLICY_TENANT_NAME_MAX = 64, /* bytes */
    POLICY_API_KEY_MAX = 256,    /* bytes of a bearer token */
};

struct policy_tenant {
    char name[POLICY_TENANT_NAME_MAX + 1];
    uint8_t salt[16];
    size_t key_count;
    uint8_t key_hash[POLICY_TENANT_KEYS_MAX][32];
    uint64_t expires;   /* seconds since 1970; 0 = with the file */
    uint32_t endpoints; /* bits of enum policy_endpoint that it may use; all of the policy's when absent */
    uint32_t features;  /* bits of enum policy_feature; all of the policy's when absent */
    size_t model_count; /* 0 = every model of the policy */
    char model[POLICY_TENANT_MODELS_MAX][257];
    uint32_t max_context, max_output; /* tokens; 0 = the policy's */
    uint32_t requests_per_minute;     /* 0 = the policy's ceiling, or none */
    uint32_t tokens_per_minute;
    uint32_t concurrent;    /* requests at a time */
    int32_t priority;       /* lower is sooner; 0 is normal */
    uint8_t cache_salt[32]; /* prefix-cache isolation: SHA-256 over salt and name; equal for one tenant only */
};

struct policy_tenants {
    uint32_t version;
    uint64_t issued, expires; /* seconds since 1970 */
    size_t count;
    struct policy_tenant *tenant; /* owned */
};

/* Parse the text, whose signature the caller has checked. False and `*why` when refused; `*out` is then empty. */
MUST_CHECK bool policy_tenants_parse(struct policy_tenants *out, struct span text, struct policy_problem *why);
void policy_tenants_release(struct policy_tenants *t);

/* The tenant with this bearer token that has not expired at `now`, or NULL. Borrowed from `t`. Always looks at every
 * tenant. */
const struct policy_tenant *policy_tenants_find(const struct policy_tenants *t, struct span bearer, uint64_t now);

/* The hash that stands in the file. */
void policy_api_key_hash(uint8_t out[32], const uint8_t salt[16], struct span key);

#endif
