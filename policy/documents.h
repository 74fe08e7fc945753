/* documents.h - the owner's papers as they travel together (an envelope's policy part): key sets from the first to the
 * newest, then the signed policy. Opened, every signature is checked and the policy text is read. Pure. */
#ifndef POLICY_DOCUMENTS_H
#define POLICY_DOCUMENTS_H

#include "policy/keyset.h"
#include "policy/policy.h"
#include "policy/revocations.h"

/* About 60 KiB: keep it off small stacks. */
struct policy_documents {
    uint8_t owner[VERIFIER_DIGEST_LEN];  /* digest of the first key set's body */
    uint8_t digest[VERIFIER_DIGEST_LEN]; /* of the policy text */
    struct policy_keyset keyset;         /* the newest */
    struct policy policy;
};

/* `owner` NULL: whoever's the first key set is. Dates are not judged. VERIFIER_OK or the first failure; `note` may be
 * NULL. `*out` borrows nothing. */
MUST_CHECK enum verifier_err policy_documents_open(struct policy_documents *out, struct span part, const uint8_t *owner,
                                                   struct verifier_note *note);

/* Is the signed revocation list by the owner's revokers? `*epoch` is its number. */
MUST_CHECK enum verifier_err policy_documents_revocations(const struct policy_documents *d, struct span signed_list,
                                                          uint32_t *epoch);

#endif
