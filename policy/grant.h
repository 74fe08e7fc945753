/* grant.h - keyd's answer to one node's own nonce: {v, nonce, identity, statement, policy, revocations,
 * tenants_version, issued, lease, keys [{artefact_root, key_id, enc, sealed}]}. PROTOCOL.md § Objects, grant. Body of a
 * signed object. */
#ifndef POLICY_GRANT_H
#define POLICY_GRANT_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

enum { POLICY_GRANT_KEYS_MAX = 16, POLICY_GRANT_SEALED_LEN = 48 };

struct policy_grant_key {
    uint8_t artefact_root[VERIFIER_DIGEST_LEN];
    uint8_t key_id[VERIFIER_KEY_LEN]; /* of the whole key */
    uint8_t enc[VERIFIER_KEY_LEN], sealed[POLICY_GRANT_SEALED_LEN];
};
struct policy_grant {
    uint8_t nonce[VERIFIER_NONCE_LEN], identity[VERIFIER_KEY_LEN];
    uint8_t statement[VERIFIER_DIGEST_LEN]; /* H(statement) */
    struct span policy;                     /* policy part, as in an envelope */
    struct span revocations;                /* signed object; data NULL: nil */
    uint32_t tenants_version;               /* 0: nil */
    uint64_t issued;                        /* time */
    struct span lease;                      /* signed object */
    size_t key_count;                       /* artefact roots distinct */
    struct policy_grant_key keys[POLICY_GRANT_KEYS_MAX];
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. Nested objects are not read. */
MUST_CHECK enum verifier_err policy_grant_parse(struct policy_grant *out, struct span in);
void policy_grant_encode(struct writer *w, const struct policy_grant *in);

#endif
