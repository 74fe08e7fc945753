/* peers.h - a node judges another node of the same owner: proxy the engines, airlock-tunnel the proxies, by the owner's
 * newest policy. Keeps what was seen, so that a rolled-back policy shows. Pure: time and bytes are arguments. */
#ifndef POLICY_PEERS_H
#define POLICY_PEERS_H

#include "policy/judge.h"
#include "policy/policy.h"

struct policy_peers;

/* NULL: out of memory. Yours: policy_peers_close(). */
struct policy_peers *policy_peers_open(void);
void policy_peers_close(struct policy_peers *p); /* NULL is fine */

/* The documents to judge by from now on (an envelope's policy part) and the revocation list (empty: none). `owner`
 * NULL: whoever's they are, for a caller that trusts its source. VERIFIER_OK, or why they were not taken. */
MUST_CHECK enum verifier_err policy_peers_update(struct policy_peers *p, struct span documents, struct span revocations,
                                                 const uint8_t *owner);

/* Stages 1 to 11 for one envelope: `in` as verifier_check() takes it. True when accepted; `*claims` (may be NULL) then
 * has the facts, yours. Otherwise `out->refusal` says why. */
MUST_CHECK bool policy_peers_judge(struct policy_peers *p, const struct verifier_input *in, struct policy_verdict *out,
                                   struct verifier_claims **claims);

#endif
