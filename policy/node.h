/* node.h - a node (proxy or engine) towards keyd: what it asks, which grant it believes, what time it is, when its
 * lease ends. Pure: monotonic time, randomness and bytes come in as arguments, bytes go out.
 * A node believes no clock before a grant that answers its own nonce; from then on now = grant.issued + monotonic time
 * since that nonce left. The way of the question makes that clock run ahead, by less than POLICY_NODE_ANSWER_S: leases
 * end early, never late. PROTOCOL.md § Time and rollback, § First start and key release. */
#ifndef POLICY_NODE_H
#define POLICY_NODE_H

#include "policy/policy.h"
#include "verifier/base/reader.h"
#include "verifier/base/secret.h"
#include "verifier/base/writer.h"

enum {
    POLICY_NODE_RENEW_S = 15 * 60, /* a lease is renewed this often while keyd answers */
    POLICY_NODE_ANSWER_S = 30,     /* an unanswered nonce dies */
    POLICY_NODE_RETRY_MS = 2000,   /* first retry; doubles to POLICY_NODE_RETRY_MAX_MS, plus jitter */
    POLICY_NODE_RETRY_MAX_MS = 60000,
    POLICY_NODE_FUTURE_S = 300,
    POLICY_NODE_GRANT_MAX = 1 << 20,
    POLICY_NODE_DOCUMENTS_MAX = 400 << 10,
};

/* ASK { v, nonce, identity, log_index, log_head }: the last two nil until the node has a log. */
struct policy_ask {
    uint8_t nonce[32], identity[32];
    bool has_log;
    uint64_t log_index;
    uint8_t log_head[64];
};
MUST_CHECK enum reader_err policy_ask_parse(struct policy_ask *out, struct span bytes);
void policy_ask_encode(struct writer *w, const struct policy_ask *in);

enum policy_node_err {
    POLICY_NODE_OK = 0,
    POLICY_NODE_NO_NONCE,    /* no question is open: unasked, too late, or a second answer to one nonce */
    POLICY_NODE_PARSE,       /* not a grant */
    POLICY_NODE_OWNER,       /* the papers in it are not signed by this owner */
    POLICY_NODE_POLICY,      /* the policy in it cannot be read, or is outside its dates at grant.issued */
    POLICY_NODE_ROLLBACK,    /* an older policy, key set, epoch or time than this node has seen */
    POLICY_NODE_SIGNATURE,   /* not signed by a keyd that the owner's newest policy names */
    POLICY_NODE_NONCE,       /* answers another question (replay) */
    POLICY_NODE_IDENTITY,    /* for another node */
    POLICY_NODE_STATEMENT,   /* for another statement */
    POLICY_NODE_REVOCATIONS, /* the revocation list in it is not the owner's */
    POLICY_NODE_LEASE,       /* the lease: other keyd, identity, role, policy or epoch */
    POLICY_NODE_FUTURE,      /* dated more than 5 minutes ahead of our trusted time, or the lease ahead of the grant */
    POLICY_NODE_EXPIRED,     /* the lease has already ended, or lives longer than the policy allows */
    POLICY_NODE_KEY,         /* a key in it that does not open, or is not the one that the policy names */
    POLICY_NODE_MEMORY,
};
const char *policy_node_err_name(enum policy_node_err err);

/* Opens a sealed weight-key share in the attester: out has room for 32 bytes. 0 = opened. */
typedef int policy_node_open(void *ctx, const uint8_t enc[32], struct span info, struct span aad, struct span sealed,
                             uint8_t out[32]);

struct policy_node;

struct policy_node_config {
    enum verifier_role role; /* VERIFIER_PROXY or VERIFIER_ENGINE */
    uint8_t identity[32];    /* of the statement */
    uint8_t statement[64];   /* H(statement) */
    uint8_t owner[64];       /* digest of the owner's first keyset */
    struct span documents;   /* the envelope's policy part as read from disk: keysets, then the signed policy */
    policy_node_open *open;  /* NULL for a proxy */
    void *open_ctx;
};

/* NULL and `*err` when the documents are not the owner's. Yours: policy_node_close(). */
MUST_CHECK struct policy_node *policy_node_open_new(const struct policy_node_config *config, enum policy_node_err *err);
void policy_node_close(struct policy_node *n);

/* Begin a question at monotonic `mono_ms` with 32 fresh random bytes; appends the ASK to `w`. An older open question
 * is forgotten. */
void policy_node_ask(struct policy_node *n, const uint8_t nonce[32], uint64_t mono_ms, const struct policy_ask *log,
                     struct writer *w);
/* keyd's answer: a signed object of type grant. On POLICY_NODE_OK the lease, time, policy and keys are renewed and the
 * nonce is used up; on a refusal nothing changes except that the nonce is used up and shares of keys that opened stay,
 * with one exception: a grant ahead of our time (POLICY_NODE_FUTURE; a paused machine sees that too) ends time and
 * lease, the next question starts anew. */
MUST_CHECK enum policy_node_err policy_node_answer(struct policy_node *n, struct span signed_grant, uint64_t mono_ms);
/* The question failed (connection lost, refused): schedules the retry. `random` spreads the nodes. */
void policy_node_failed(struct policy_node *n, uint64_t mono_ms, uint32_t random);

/* When to ask next, monotonic milliseconds (0 = at once). */
uint64_t policy_node_due(const struct policy_node *n);
/* Trusted time in seconds, 0 before the first grant. */
uint64_t policy_node_now(const struct policy_node *n, uint64_t mono_ms);
/* May this node serve? A lease that is not over and a policy within its dates. */
bool policy_node_may_serve(const struct policy_node *n, uint64_t mono_ms);
uint64_t policy_node_lease_end(const struct policy_node *n); /* trusted seconds, 0 without a lease */

/* Borrowed until the next policy_node_answer(). Empty or NULL when there is none. */
struct span policy_node_lease(const struct policy_node *n);       /* signed object, for the envelope */
struct span policy_node_documents(const struct policy_node *n);   /* the policy part */
struct span policy_node_revocations(const struct policy_node *n); /* signed object */
const struct policy *policy_node_policy(const struct policy_node *n);
void policy_node_policy_digest(const struct policy_node *n, uint8_t out[64]);
uint32_t policy_node_tenants_version(const struct policy_node *n); /* least version of the tenants file, 0 = none */
/* The weight key of the model with this artefact root: borrowed, 32 bytes; empty without one. */
struct span policy_node_key(const struct policy_node *n, const uint8_t root[64]);
/* Forget every weight key (after loading). */
void policy_node_wipe_keys(struct policy_node *n);

#endif
