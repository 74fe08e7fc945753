/* revocations.h - what the owner no longer trusts: {v, epoch, entries [{kind, value}]}, signed by the revoker role.
 * PROTOCOL.md § Objects, revocations. A later list replaces the one before it; its epoch rises. */
#ifndef POLICY_REVOCATIONS_H
#define POLICY_REVOCATIONS_H

#include "verifier/base/writer.h"
#include "verifier/claims.h"
#include "verifier/err.h"
#include "verifier/types.h"

enum { POLICY_REVOCATIONS_MAX = 2048 };
enum policy_revocation_kind {
    POLICY_REVOKED_SNP_CHIP,     /* 64 bytes */
    POLICY_REVOKED_TDX_INSTANCE, /* 16 bytes */
    POLICY_REVOKED_GPU,          /* ueid, 1 to 64 digits */
    POLICY_REVOKED_MEASUREMENT,  /* 48 bytes */
    POLICY_REVOKED_IDENTITY,     /* 32 bytes */
    POLICY_REVOKED_POLICY,       /* 64 bytes */
    POLICY_REVOKED_KINDS
};
extern const char *const policy_revocation_names[POLICY_REVOKED_KINDS];

struct policy_revocation {
    enum policy_revocation_kind kind;
    struct span value;
};
/* About 48 KiB: mind the stack. */
struct policy_revocations {
    uint32_t epoch;
    size_t count; /* 0 to 2048, distinct */
    struct policy_revocation entry[POLICY_REVOCATIONS_MAX];
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err policy_revocations_parse(struct policy_revocations *out, struct span in);
void policy_revocations_encode(struct writer *w, const struct policy_revocations *in);
bool policy_revocations_has(const struct policy_revocations *list, enum policy_revocation_kind kind, struct span value);
/* What of the node the owner has revoked, in words; NULL: nothing. Its policy is the caller's question. */
const char *policy_revocations_of_node(const struct policy_revocations *list, const struct verifier_node *node);

#endif
