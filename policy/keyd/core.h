/* core.h - what airlock-keyd decides: who gets a lease, time and weight keys, and when it must not trust itself.
 * Pure: claims, questions, the log's text and the clock come in; codes, grants and log lines go out. The caller stores
 * the lines before it sends a grant. PROTOCOL.md § First start and key release, § Time and rollback. */
#ifndef POLICY_KEYD_CORE_H
#define POLICY_KEYD_CORE_H

#include "policy/log.h"
#include "policy/policy.h"
#include "verifier/base/secret.h"
#include "verifier/claims.h"

enum {
    KEYD_WEIGHTS_MAX = POLICY_MODELS_MAX,
    KEYD_NODES_MAX = 4096,     /* identities remembered */
    KEYD_NODE_LIFE_S = 86400,  /* so long after its lease ended */
    KEYD_LINES_MAX = 64 << 10, /* log lines of one decision */
    KEYD_LOG_MAX = 256 << 20,  /* bytes of the whole log */
};

struct keyd_weight {
    char model[257];   /* as the policy names it */
    struct secret key; /* the weight key, or this keyd's share of it */
};

struct keyd_core_config {
    struct span seed;        /* 32 bytes, of our signing key; copied */
    struct span documents;   /* policy part: the operator's, or adopted before; the newer of both. Copied */
    struct span revocations; /* signed list, empty: none. Copied */
    uint32_t tenants_version;
    const struct keyd_weight *weights; /* borrowed for life */
    size_t weight_count;
    uint64_t lease_s; /* what we give at most; the policy bounds it too. 0: what the policy allows */
    struct span log;  /* our log so far, chain checked; read, not kept */
    bool is_restored; /* the log is not the one that was sealed with our keys: wait for a person */
};

struct keyd_core;

/* NULL with a sentence in `why`. Appends the lines of the start to `lines`. Yours: keyd_core_close(). */
struct keyd_core *keyd_core_open(const struct keyd_core_config *config, uint64_t now, struct writer *lines,
                                 char why[256]);
void keyd_core_close(struct keyd_core *k);

/* The operator gives newer papers (or the same). Older ones, another owner's or broken ones are refused with `why`. */
MUST_CHECK bool keyd_core_update(struct keyd_core *k, struct span documents, struct span revocations,
                                 uint32_t tenants_version, uint64_t now, struct writer *lines, char why[256]);

/* Judge proven claims by our own newest policy. "ok" with `*valid_until`, or the code to refuse with. A node that shows
 * newer papers of the owner, or a lease of ours that we do not remember, proves us stale: we adopt, log, and refuse
 * everybody ("keyd_unconfirmed") until keyd_core_confirm(). */
const char *keyd_core_judge(struct keyd_core *k, const struct verifier_claims *claims, uint64_t now,
                            uint64_t *valid_until, struct writer *lines);

/* Answer one question of the node that `claims` are about. "ok" with the signed grant appended to `grant` and its line
 * to `lines`; or the code to refuse with. */
const char *keyd_core_answer(struct keyd_core *k, const struct verifier_claims *claims, struct span ask, uint64_t now,
                             struct writer *grant, struct writer *lines);

bool keyd_core_is_waiting(const struct keyd_core *k); /* for keyd_core_confirm() */
void keyd_core_confirm(struct keyd_core *k, uint64_t now, struct writer *lines);

const struct policy_log *keyd_core_log(const struct keyd_core *k);
struct span keyd_core_documents(const struct keyd_core *k);   /* in force; borrowed until a call that takes `now` */
struct span keyd_core_revocations(const struct keyd_core *k); /* the same */
const struct policy *keyd_core_policy(const struct keyd_core *k);
const uint8_t *keyd_core_public(const struct keyd_core *k); /* 32 bytes */

#endif
