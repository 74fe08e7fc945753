/* lease.h - keyd's word for a node, short-lived: {v, identity, role, policy {digest, version}, epoch, issued, expires}.
 * PROTOCOL.md § Objects, lease. It never replaces evidence. */
#ifndef POLICY_LEASE_H
#define POLICY_LEASE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/state.h"
#include "verifier/types.h"

struct policy_lease {
    uint8_t identity[VERIFIER_KEY_LEN]; /* of the node's statement */
    enum verifier_role role;            /* proxy or engine */
    struct verifier_policy_ref policy;
    uint32_t epoch;           /* revocation epoch that keyd knew; 0: none */
    uint64_t issued, expires; /* time; expires > issued */
};

MUST_CHECK enum verifier_err policy_lease_parse(struct policy_lease *out, struct span in);
void policy_lease_encode(struct writer *w, const struct policy_lease *in);

#endif
