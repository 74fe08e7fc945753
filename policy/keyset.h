/* keyset.h - the owner's keys and how they change: {v, version, keys [{public, roles}], m {signer, revoker}, previous}.
 * PROTOCOL.md § Objects, keyset. Whoever checks pins the first set and follows the chain from there. */
#ifndef POLICY_KEYSET_H
#define POLICY_KEYSET_H

#include "verifier/signed.h"

enum { POLICY_KEYSET_KEYS_MAX = 16 };
enum policy_key_role { POLICY_KEY_SIGNER, POLICY_KEY_REVOKER, POLICY_KEY_ROLES };

struct policy_keyset_key {
    uint8_t public[VERIFIER_KEY_LEN];
    size_t role_count; /* 1 or 2, distinct, in the order sent */
    enum policy_key_role role[POLICY_KEY_ROLES];
};
struct policy_keyset {
    uint32_t version;
    size_t key_count; /* 1 to 16, public keys distinct */
    struct policy_keyset_key key[POLICY_KEYSET_KEYS_MAX];
    unsigned m[POLICY_KEY_ROLES];          /* how many signatures a role needs; not more than hold it */
    bool has_previous;                     /* false exactly at version 1 */
    uint8_t previous[VERIFIER_DIGEST_LEN]; /* digest of the body of the set before */
};

MUST_CHECK enum verifier_err policy_keyset_parse(struct policy_keyset *out, struct span in);
void policy_keyset_encode(struct writer *w, const struct policy_keyset *in);

/* The public keys that hold `role`; returns how many. */
size_t policy_keyset_keys(const struct policy_keyset *set, enum policy_key_role role,
                          uint8_t out[POLICY_KEYSET_KEYS_MAX][VERIFIER_KEY_LEN]);

/* Follow `objects`, the owner's signed key sets from the first on, to the newest. `first` is the pinned digest of the
 * first body. VERIFIER_E_OWNER_MISMATCH when it is another owner's, VERIFIER_E_KEYSET_CHAIN when one does not follow
 * the one before it, or what verifier_signed_check() says: each set must be signed by m of the set before and m of its
 * own. */
MUST_CHECK enum verifier_err policy_keysets_check(const struct span *objects, size_t count,
                                                  const uint8_t first[VERIFIER_DIGEST_LEN],
                                                  struct policy_keyset *newest);
/* Is `obj` of `type` signed by m holders of `role`? */
MUST_CHECK enum verifier_err policy_keyset_check(const struct policy_keyset *set, enum policy_key_role role,
                                                 const struct verifier_signed *obj, enum verifier_signed_type type);

#endif
