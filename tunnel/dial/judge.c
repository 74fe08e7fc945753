/* judge.c - proxies judged by the owner's policy, as the engine hands it over. */
#include "policy/peers.h"
#include "tunnel/dial/dial.h"

static bool take_rules(void *ctx, const struct tunnel_rules *rules)
{
    return policy_peers_update(ctx, rules->policy, rules->revocations, NULL) == VERIFIER_OK;
}

static const char *judge(void *ctx, const struct verifier_input *in, uint64_t *valid_until,
                         struct verifier_claims **claims)
{
    struct policy_verdict verdict;
    bool good = policy_peers_judge(ctx, in, &verdict, claims);
    *valid_until = good ? verdict.valid_until : 0;
    return good ? "ok" : verifier_err_name(verdict.refusal.code);
}

struct dial_judge dial_judge_open(void)
{
    return (struct dial_judge){.ctx = policy_peers_open(), .rules = take_rules, .judge = judge};
}

void dial_judge_close(struct dial_judge *j)
{
    policy_peers_close(j->ctx);
    j->ctx = NULL;
}
