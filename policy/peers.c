#include "policy/peers.h"

#include "policy/documents.h"

#include <stdlib.h>

#include "verifier/cache.h"

struct policy_peers {
    bool ready;
    struct policy_documents documents;
    struct policy_rules rules;
    struct policy_seen seen;
    struct verifier_cache *cache; /* of the evidence judged so far; owned */
};

struct policy_peers *policy_peers_open(void)
{
    struct policy_peers *p = calloc(1, sizeof *p);
    if (p)
        p->cache = verifier_cache_new(0);
    if (p && p->cache)
        return p;
    free(p);
    return NULL;
}

void policy_peers_close(struct policy_peers *p)
{
    if (p)
        verifier_cache_free(p->cache);
    free(p);
}

/* Into `fresh`, so that documents that are refused leave the old ones in force. */
static enum verifier_err read_documents(struct policy_peers *fresh, struct span documents, struct span revocations,
                                        const uint8_t *owner)
{
    struct verifier_note note;
    uint32_t epoch = 0;
    enum verifier_err err = policy_documents_open(&fresh->documents, documents, owner, &note);
    if (!err && revocations.len)
        err = policy_documents_revocations(&fresh->documents, revocations, &epoch);
    if (err)
        return err;
    if (fresh->documents.policy.version < fresh->seen.policy || epoch < fresh->seen.epoch)
        return VERIFIER_E_POLICY_OLD;
    policy_rules_for(&fresh->documents.policy, true, fresh->documents.owner, &fresh->rules);
    if (epoch > fresh->seen.epoch)
        fresh->seen.epoch = epoch;
    fresh->ready = true;
    return VERIFIER_OK;
}

enum verifier_err policy_peers_update(struct policy_peers *p, struct span documents, struct span revocations,
                                      const uint8_t *owner)
{
    struct policy_peers *fresh = malloc(sizeof *fresh);
    if (!fresh)
        return VERIFIER_E_INTERNAL;
    *fresh = *p;
    enum verifier_err err = read_documents(fresh, documents, revocations, owner);
    if (!err)
        *p = *fresh;
    free(fresh);
    return err;
}

bool policy_peers_judge(struct policy_peers *p, const struct verifier_input *in, struct policy_verdict *out,
                        struct verifier_claims **claims)
{
    *out = (struct policy_verdict){.refusal = {.code = VERIFIER_E_INTERNAL, .stage = 11, .engine = -1}};
    if (!p->ready) {
        out->refusal.code = VERIFIER_E_RULES;
        return false;
    }
    struct verifier_input with_cache = *in;
    with_cache.cache = p->cache;
    struct verifier_claims *facts = verifier_check(&with_cache, &out->refusal);
    if (!facts)
        return false;
    bool good = policy_judge(facts, &p->rules, &p->seen, in->now, out);
    if (good)
        p->seen = out->seen;
    if (good && claims)
        *claims = facts;
    else
        verifier_claims_free(facts);
    return good;
}
