/* tenants.c - the tenants text and the lookup by API key. */
#include "policy/tenants.h"

#include <stdlib.h>

#include "policy/admit.h"
#include "verifier/base/secret.h"
#include "verifier/sha.h"

static const char *const endpoint_names[] = {POLICY_ENDPOINT_NAMES};
static const char *const feature_names[] = {POLICY_FEATURE_NAMES};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* SHA-256(lp(label) || lp(a) || lp(b)) */
static void labelled_hash(uint8_t out[32], const char *label, struct span a, struct span b)
{
    struct verifier_hash h;
    verifier_hash_begin(&h, VERIFIER_SHA256);
    verifier_hash_add_lp(&h, span_str(label));
    verifier_hash_add_lp(&h, a);
    verifier_hash_add_lp(&h, b);
    verifier_hash_finish(&h, out);
    secret_wipe(&h, sizeof h); /* an API key went through it */
}

void policy_api_key_hash(uint8_t out[32], const uint8_t salt[16], struct span key)
{
    labelled_hash(out, "airlock api key v1", span_of(salt, 16), key);
}

static uint32_t number(struct policy_group *g, const char *key, uint32_t max)
{
    uint64_t v = 0;
    policy_group_uint(g, key, POLICY_OPTIONAL, 1, max, &v);
    return (uint32_t)v;
}

static void parse_tenant(struct policy_group g, struct policy_tenant *t)
{
    uint64_t priority = 0;
    policy_group_text(&g, "name", POLICY_REQUIRED, t->name, sizeof t->name);
    policy_group_hex(&g, "salt", POLICY_REQUIRED, t->salt, sizeof t->salt);
    policy_group_hexes(&g, "keys", POLICY_REQUIRED, 1, POLICY_TENANT_KEYS_MAX, t->key_hash[0], 32, &t->key_count);
    policy_group_date(&g, "expires", POLICY_OPTIONAL, &t->expires);
    t->endpoints = POLICY_ENDPOINTS_ALL;
    policy_group_words(&g, "endpoints", POLICY_OPTIONAL, endpoint_names, COUNT(endpoint_names), &t->endpoints);
    t->features = POLICY_FEATURES_ALL;
    policy_group_words(&g, "features", POLICY_OPTIONAL, feature_names, COUNT(feature_names), &t->features);
    policy_group_texts(&g, "models", POLICY_OPTIONAL, 1, POLICY_TENANT_MODELS_MAX, t->model[0], sizeof t->model[0],
                       &t->model_count);
    t->max_context = number(&g, "max_context", 100000000);
    t->max_output = number(&g, "max_output", 100000000);
    t->requests_per_minute = number(&g, "requests_per_minute", 999999999);
    t->tokens_per_minute = number(&g, "tokens_per_minute", 999999999);
    t->concurrent = number(&g, "concurrent", 1000000);
    policy_group_uint(&g, "priority", POLICY_OPTIONAL, 0, 1000, &priority);
    t->priority = (int32_t)priority;
    labelled_hash(t->cache_salt, "airlock prefix cache v1", span_of(t->salt, sizeof t->salt), span_str(t->name));
    policy_group_end(&g);
}

static void refuse_twins(struct policy_group *g, const struct policy_tenants *t, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(t->tenant[k].name, t->tenant[i].name) == 0)
            policy_group_refuse(g, "tenants", POLICY_PROBLEM_REPEATED, "two tenants are named \"%s\"",
                                t->tenant[i].name);
}

static void parse_all(struct policy_group *g, struct policy_tenants *out)
{
    uint64_t version = 0;
    policy_group_uint(g, "version", POLICY_REQUIRED, 1, 999999999, &version);
    out->version = (uint32_t)version;
    policy_group_date(g, "issued", POLICY_REQUIRED, &out->issued);
    if (policy_group_date(g, "expires", POLICY_REQUIRED, &out->expires) && out->expires <= out->issued)
        policy_group_refuse(g, "expires", POLICY_PROBLEM_VALUE, "must be later than issued");
    size_t count = policy_group_count(g, "tenants", 0, POLICY_TENANTS_MAX);
    out->tenant = calloc(count ? count : 1, sizeof *out->tenant);
    if (!out->tenant) {
        policy_group_refuse(g, NULL, POLICY_PROBLEM_MEMORY, "out of memory");
        return;
    }
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        parse_tenant(policy_group_at(g, "tenants", i), &out->tenant[i]);
        refuse_twins(g, out, i);
    }
    policy_group_end(g);
}

bool policy_tenants_parse(struct policy_tenants *out, struct span text, struct policy_problem *why)
{
    struct policy_config *c = policy_config_open(text, why);
    *out = (struct policy_tenants){0};
    if (!c)
        return false;
    struct policy_group g = policy_config_root(c);
    parse_all(&g, out);
    bool good = policy_config_ok(c, why);
    policy_config_close(c);
    if (!good)
        policy_tenants_release(out);
    return good;
}

void policy_tenants_release(struct policy_tenants *t)
{
    free(t->tenant);
    *t = (struct policy_tenants){0};
}

const struct policy_tenant *policy_tenants_find(const struct policy_tenants *t, struct span bearer, uint64_t now)
{
    const struct policy_tenant *found = NULL;
    if (bearer.len == 0 || bearer.len > POLICY_API_KEY_MAX)
        return NULL;
    for (size_t i = 0; i < t->count; i++) {
        const struct policy_tenant *tenant = &t->tenant[i];
        uint8_t hash[32];
        policy_api_key_hash(hash, tenant->salt, bearer);
        for (size_t k = 0; k < tenant->key_count; k++)
            if (secret_equal(span_of(hash, 32), span_of(tenant->key_hash[k], 32)))
                found = tenant;
    }
    if (!found || now >= t->expires || (found->expires && now >= found->expires))
        return NULL;
    return found;
}
