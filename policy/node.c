/* node.c - questions and answers between a node and keyd. */
#include "policy/node.h"

#include <stdlib.h>

#include "policy/documents.h"
#include "policy/grant.h"
#include "policy/lease.h"
#include "verifier/release.h"
#include "verifier/signed.h"

/* The weight key of one model: its shares as they come, then the whole. */
struct held_key {
    uint8_t root[VERIFIER_DIGEST_LEN];
    uint8_t id[32];       /* of the key that the shares make */
    uint32_t count, have; /* of how many they are; bit i: share i is there */
    struct secret shares, whole;
};

/* What a good grant brings; replaced as one. */
struct papers {
    struct policy_documents *documents; /* NULL: none yet */
    struct writer part, lease, revocations;
    uint32_t epoch;
};

struct policy_node {
    struct policy_node_config config; /* its documents span is not kept */
    struct papers papers;
    struct policy_lease lease; /* expires 0: none */
    uint32_t tenants_version;
    bool asked;
    uint8_t nonce[VERIFIER_NONCE_LEN];
    uint64_t asked_ms;
    uint64_t base_s, base_ms; /* trusted now = base_s + (monotonic - base_ms); base_s 0: none */
    uint64_t due_ms, retry_ms;
    struct held_key key[POLICY_MODELS_MAX]; /* by model of the policy */
    size_t key_count;
};

const char *policy_node_err_name(enum policy_node_err err)
{
    static const char *const names[] = {
        [POLICY_NODE_OK] = "ok",
        [POLICY_NODE_NO_NONCE] = "grant_unasked",
        [POLICY_NODE_PARSE] = "grant_parse",
        [POLICY_NODE_OWNER] = "grant_owner",
        [POLICY_NODE_POLICY] = "grant_policy",
        [POLICY_NODE_ROLLBACK] = "grant_rollback",
        [POLICY_NODE_SIGNATURE] = "grant_signature",
        [POLICY_NODE_NONCE] = "grant_nonce",
        [POLICY_NODE_IDENTITY] = "grant_identity",
        [POLICY_NODE_STATEMENT] = "grant_statement",
        [POLICY_NODE_REVOCATIONS] = "grant_revocations",
        [POLICY_NODE_LEASE] = "grant_lease",
        [POLICY_NODE_FUTURE] = "grant_future",
        [POLICY_NODE_EXPIRED] = "grant_expired",
        [POLICY_NODE_KEY] = "grant_key",
        [POLICY_NODE_MEMORY] = "memory",
    };
    return names[err];
}

/* --- ASK ---------------------------------------------------------------------------------------------- */

void policy_ask_encode(struct writer *w, const struct policy_ask *in)
{
    writer_map(w, 5);
    writer_key(w, "v");
    writer_uint(w, 1);
    writer_key(w, "nonce");
    writer_bin(w, span_of(in->nonce, sizeof in->nonce));
    writer_key(w, "identity");
    writer_bin(w, span_of(in->identity, sizeof in->identity));
    writer_key(w, "log_index");
    if (in->has_log)
        writer_uint(w, in->log_index);
    else
        writer_nil(w);
    writer_key(w, "log_head");
    if (in->has_log)
        writer_bin(w, span_of(in->log_head, sizeof in->log_head));
    else
        writer_nil(w);
}

enum reader_err policy_ask_parse(struct policy_ask *out, struct span bytes)
{
    struct reader r = reader_over(bytes);
    *out = (struct policy_ask){0};
    reader_map(&r, 5);
    reader_key(&r, "v");
    reader_uint(&r, 1, 1);
    reader_key(&r, "nonce");
    reader_bin_copy(&r, out->nonce, sizeof out->nonce);
    reader_key(&r, "identity");
    reader_bin_copy(&r, out->identity, sizeof out->identity);
    reader_key(&r, "log_index");
    out->has_log = !reader_nil(&r);
    if (out->has_log)
        out->log_index = reader_uint(&r, 0, UINT64_MAX);
    reader_key(&r, "log_head");
    if (out->has_log)
        reader_bin_copy(&r, out->log_head, sizeof out->log_head);
    else if (!reader_nil(&r))
        reader_fail(&r, READER_TYPE);
    (void)reader_end(&r);
    return r.err;
}

/* --- life --------------------------------------------------------------------------------------------- */

static void papers_release(struct papers *p)
{
    free(p->documents);
    writer_release(&p->part);
    writer_release(&p->lease);
    writer_release(&p->revocations);
    *p = (struct papers){0};
}

static enum policy_node_err open_documents(struct papers *p, struct span part, const uint8_t owner[64])
{
    p->documents = malloc(sizeof *p->documents);
    p->part = writer_with_max(POLICY_NODE_GRANT_MAX);
    writer_bytes(&p->part, part);
    if (!p->documents || !writer_ok(&p->part))
        return POLICY_NODE_MEMORY;
    enum verifier_err err = policy_documents_open(p->documents, part, owner, NULL);
    if (err == VERIFIER_OK)
        return POLICY_NODE_OK;
    return err == VERIFIER_E_POLICY_TEXT ? POLICY_NODE_POLICY : POLICY_NODE_OWNER;
}

struct policy_node *policy_node_open_new(const struct policy_node_config *config, enum policy_node_err *err)
{
    struct policy_node *n = calloc(1, sizeof *n);
    *err = POLICY_NODE_MEMORY;
    if (!n)
        return NULL;
    n->config = *config;
    n->config.documents = span_of(NULL, 0);
    *err = config->documents.len > 0 ? open_documents(&n->papers, config->documents, config->owner) : POLICY_NODE_OK;
    if (*err == POLICY_NODE_OK)
        return n;
    policy_node_close(n);
    return NULL;
}

void policy_node_wipe_keys(struct policy_node *n)
{
    for (size_t i = 0; i < n->key_count; i++) {
        secret_release(&n->key[i].shares);
        secret_release(&n->key[i].whole);
    }
    n->key_count = 0;
}

void policy_node_close(struct policy_node *n)
{
    if (!n)
        return;
    policy_node_wipe_keys(n);
    papers_release(&n->papers);
    free(n);
}

/* --- questions ---------------------------------------------------------------------------------------- */

void policy_node_ask(struct policy_node *n, const uint8_t nonce[32], uint64_t mono_ms, const struct policy_ask *log,
                     struct writer *w)
{
    struct policy_ask ask = log ? *log : (struct policy_ask){0};
    memcpy(ask.nonce, nonce, sizeof ask.nonce);
    memcpy(ask.identity, n->config.identity, sizeof ask.identity);
    memcpy(n->nonce, nonce, sizeof n->nonce);
    n->asked = true;
    n->asked_ms = mono_ms;
    n->due_ms = mono_ms + POLICY_NODE_ANSWER_S * 1000;
    policy_ask_encode(w, &ask);
}

void policy_node_failed(struct policy_node *n, uint64_t mono_ms, uint32_t random)
{
    n->asked = false;
    n->retry_ms = n->retry_ms ? n->retry_ms * 2 : POLICY_NODE_RETRY_MS;
    if (n->retry_ms > POLICY_NODE_RETRY_MAX_MS)
        n->retry_ms = POLICY_NODE_RETRY_MAX_MS;
    n->due_ms = mono_ms + n->retry_ms / 2 + random % (n->retry_ms / 2 + 1);
}

/* --- answers ------------------------------------------------------------------------------------------ */

struct answer {
    struct verifier_signed shell;
    struct policy_grant grant;
    struct papers papers; /* owned until taken over */
    struct policy_lease lease;
    uint64_t now; /* trusted seconds at the moment of the answer */
};

static enum policy_node_err check_versions(const struct policy_node *n, const struct policy_documents *new)
{
    const struct policy_documents *old = n->papers.documents;
    if (!old)
        return POLICY_NODE_OK;
    if (new->policy.version < old->policy.version || new->keyset.version < old->keyset.version)
        return POLICY_NODE_ROLLBACK;
    if (new->policy.version == old->policy.version && memcmp(new->digest, old->digest, sizeof new->digest) != 0)
        return POLICY_NODE_ROLLBACK; /* two texts with one version: the owner's mistake, not ours to choose */
    return POLICY_NODE_OK;
}

static enum policy_node_err check_for_us(const struct policy_node *n, const struct policy_grant *g)
{
    if (memcmp(g->nonce, n->nonce, sizeof g->nonce) != 0)
        return POLICY_NODE_NONCE;
    if (memcmp(g->identity, n->config.identity, sizeof g->identity) != 0)
        return POLICY_NODE_IDENTITY;
    if (memcmp(g->statement, n->config.statement, sizeof g->statement) != 0)
        return POLICY_NODE_STATEMENT;
    return POLICY_NODE_OK;
}

static enum policy_node_err check_time(const struct policy_node *n, struct answer *a, uint64_t mono_ms)
{
    const struct policy *p = &a->papers.documents->policy;
    uint64_t before = policy_node_now(n, mono_ms);
    if (before && a->now > before + POLICY_NODE_FUTURE_S)
        return POLICY_NODE_FUTURE;
    if (before && a->now + POLICY_NODE_FUTURE_S < before)
        return POLICY_NODE_ROLLBACK;
    if (a->now < before)
        a->now = before; /* our clock never runs back */
    if (a->grant.issued < p->not_before || a->now >= p->not_after)
        return POLICY_NODE_POLICY;
    return POLICY_NODE_OK;
}

static enum policy_node_err check_revocations(const struct policy_node *n, struct answer *a)
{
    struct papers *p = &a->papers;
    p->epoch = 0;
    if (a->grant.revocations.data) {
        if (policy_documents_revocations(p->documents, a->grant.revocations, &p->epoch) != VERIFIER_OK)
            return POLICY_NODE_REVOCATIONS;
        p->revocations = writer_with_max(VERIFIER_PART_MAX);
        writer_bytes(&p->revocations, a->grant.revocations);
        if (!writer_ok(&p->revocations))
            return POLICY_NODE_MEMORY;
    }
    return p->epoch < n->papers.epoch ? POLICY_NODE_ROLLBACK : POLICY_NODE_OK;
}

static enum policy_node_err check_lease(const struct policy_node *n, struct answer *a)
{
    struct papers *p = &a->papers;
    const struct policy *policy = &p->documents->policy;
    struct policy_lease *l = &a->lease;
    struct span body;
    if (verifier_signed_open(&body, a->grant.lease, VERIFIER_SIGNED_LEASE,
                             (const uint8_t(*)[VERIFIER_KEY_LEN])policy->keyd, policy->keyd_count) != VERIFIER_OK ||
        policy_lease_parse(l, body) != VERIFIER_OK)
        return POLICY_NODE_LEASE;
    if (memcmp(l->identity, n->config.identity, sizeof l->identity) != 0 || l->role != n->config.role ||
        l->policy.version != policy->version ||
        memcmp(l->policy.digest, p->documents->digest, sizeof l->policy.digest) != 0 || l->epoch < p->epoch)
        return POLICY_NODE_LEASE;
    if (l->issued > a->grant.issued + POLICY_NODE_FUTURE_S)
        return POLICY_NODE_FUTURE;
    if (l->expires - l->issued > policy->lease_max || l->expires <= a->now)
        return POLICY_NODE_EXPIRED;
    p->lease = writer_with_max(VERIFIER_LEASE_MAX);
    writer_bytes(&p->lease, a->grant.lease);
    return writer_ok(&p->lease) ? POLICY_NODE_OK : POLICY_NODE_MEMORY;
}

static struct held_key *key_of(struct policy_node *n, const uint8_t root[64])
{
    for (size_t i = 0; i < n->key_count; i++)
        if (memcmp(n->key[i].root, root, 64) == 0)
            return &n->key[i];
    if (n->key_count == POLICY_MODELS_MAX)
        return NULL;
    struct held_key *k = &n->key[n->key_count];
    *k = (struct held_key){0};
    if (!secret_init(&k->shares, POLICY_KEYDS_MAX * 32)) {
        secret_release(&k->shares);
        return NULL;
    }
    memcpy(k->root, root, 64);
    n->key_count++;
    return k;
}

static bool is_key(const struct secret *key, const uint8_t id[32])
{
    uint8_t has[32];
    return key->data && verifier_release_key_id(key->data, has) && memcmp(has, id, sizeof has) == 0;
}

/* With every share there: join them, and compare with the id in the owner's policy. */
static enum policy_node_err complete_key(struct held_key *k)
{
    struct secret fresh;
    if (k->have != (UINT32_C(1) << k->count) - 1)
        return POLICY_NODE_OK;
    if (!secret_init(&fresh, 32))
        return POLICY_NODE_MEMORY;
    if (!verifier_release_combine((const uint8_t(*)[VERIFIER_KEY_LEN])k->shares.data, k->count, fresh.data) ||
        !is_key(&fresh, k->id)) {
        secret_release(&fresh);
        k->have = 0;
        return POLICY_NODE_KEY;
    }
    secret_release(&k->whole);
    k->whole = fresh;
    return POLICY_NODE_OK;
}

/* The place of the keyd that signed in the policy's list: its share's number. */
static uint8_t share_of(const struct answer *a)
{
    const struct policy *p = &a->papers.documents->policy;
    for (size_t i = 0; i < p->keyd_count; i++)
        if (memcmp(p->keyd[i], a->shell.sigs[0].key, 32) == 0)
            return (uint8_t)i;
    return 0;
}

static enum policy_node_err open_key(struct policy_node *n, const struct answer *a, const struct policy_grant_key *in)
{
    const struct policy_model *m = policy_find_root(&a->papers.documents->policy, in->artefact_root);
    struct verifier_release_bind bind = {.n = 1};
    uint8_t aad[VERIFIER_RELEASE_AAD_LEN];

    if (!m || !m->sealed || memcmp(m->key_id, in->key_id, sizeof m->key_id) != 0)
        return POLICY_NODE_KEY;
    struct held_key *k = key_of(n, m->root);
    if (!k)
        return POLICY_NODE_MEMORY;
    if (is_key(&k->whole, m->key_id)) /* no key server can take it away again */
        return POLICY_NODE_OK;
    if (memcmp(k->id, m->key_id, sizeof k->id) != 0 || k->count != m->shares) { /* shares of another key */
        memcpy(k->id, m->key_id, sizeof k->id);
        k->count = m->shares;
        k->have = 0;
    }
    if (m->shares > 1) {
        bind.i = share_of(a);
        bind.n = (uint8_t)m->shares;
    }
    memcpy(bind.statement, n->config.statement, sizeof bind.statement);
    memcpy(bind.policy, a->papers.documents->digest, sizeof bind.policy);
    memcpy(bind.artefact_root, m->root, sizeof bind.artefact_root);
    verifier_release_aad(aad, &bind);
    if (n->config.open(n->config.open_ctx, in->enc, verifier_release_info(), span_of(aad, sizeof aad),
                       span_of(in->sealed, sizeof in->sealed), k->shares.data + 32 * (size_t)bind.i) != 0)
        return POLICY_NODE_KEY;
    k->have |= UINT32_C(1) << bind.i;
    return complete_key(k);
}

static enum policy_node_err open_keys(struct policy_node *n, const struct answer *a)
{
    enum policy_node_err err = POLICY_NODE_OK;
    for (size_t i = 0; n->config.open && i < a->grant.key_count && err == POLICY_NODE_OK; i++)
        err = open_key(n, a, &a->grant.keys[i]);
    return err;
}

/* Everything that can be wrong with an answer, in this order. */
static enum policy_node_err check_answer(struct policy_node *n, struct answer *a, struct span bytes, uint64_t mono_ms)
{
    enum policy_node_err err;
    if (verifier_signed_parse(&a->shell, bytes) != VERIFIER_OK || a->shell.type != VERIFIER_SIGNED_GRANT ||
        policy_grant_parse(&a->grant, a->shell.body) != VERIFIER_OK)
        return POLICY_NODE_PARSE;
    if ((err = open_documents(&a->papers, a->grant.policy, n->config.owner)) ||
        (err = check_versions(n, a->papers.documents)))
        return err;
    const struct policy *policy = &a->papers.documents->policy;
    if (verifier_signed_check(&a->shell, VERIFIER_SIGNED_GRANT, (const uint8_t(*)[VERIFIER_KEY_LEN])policy->keyd,
                              policy->keyd_count, 1) != VERIFIER_OK)
        return POLICY_NODE_SIGNATURE;
    a->now = a->grant.issued + (mono_ms - n->asked_ms) / 1000;
    if ((err = check_for_us(n, &a->grant)) || (err = check_time(n, a, mono_ms)) || (err = check_revocations(n, a)) ||
        (err = check_lease(n, a)))
        return err;
    return open_keys(n, a);
}

static void take_over(struct policy_node *n, struct answer *a, uint64_t mono_ms)
{
    uint64_t life_s = a->lease.expires - a->now, renew_s = life_s * 2 / 3;
    papers_release(&n->papers);
    n->papers = a->papers;
    a->papers = (struct papers){0};
    n->lease = a->lease;
    n->base_s = a->now;
    n->base_ms = mono_ms;
    if (a->grant.tenants_version > n->tenants_version)
        n->tenants_version = a->grant.tenants_version;
    n->retry_ms = 0;
    n->due_ms = mono_ms + 1000 * (renew_s < POLICY_NODE_RENEW_S ? renew_s : POLICY_NODE_RENEW_S);
}

enum policy_node_err policy_node_answer(struct policy_node *n, struct span signed_grant, uint64_t mono_ms)
{
    struct answer *a;
    bool open = n->asked && mono_ms >= n->asked_ms && mono_ms - n->asked_ms <= POLICY_NODE_ANSWER_S * 1000;
    n->asked = false;
    if (!open || signed_grant.len > POLICY_NODE_GRANT_MAX)
        return open ? POLICY_NODE_PARSE : POLICY_NODE_NO_NONCE;
    a = calloc(1, sizeof *a);
    if (!a)
        return POLICY_NODE_MEMORY;
    enum policy_node_err err = check_answer(n, a, signed_grant, mono_ms);
    if (err == POLICY_NODE_OK)
        take_over(n, a, mono_ms);
    if (err == POLICY_NODE_FUTURE) {
        n->base_s = 0;
        n->lease = (struct policy_lease){0};
        writer_release(&n->papers.lease);
    }
    papers_release(&a->papers);
    free(a);
    return err;
}

/* --- what is known ------------------------------------------------------------------------------------ */

uint64_t policy_node_due(const struct policy_node *n)
{
    return n->due_ms;
}

uint64_t policy_node_now(const struct policy_node *n, uint64_t mono_ms)
{
    if (n->base_s == 0)
        return 0;
    return n->base_s + (mono_ms > n->base_ms ? (mono_ms - n->base_ms) / 1000 : 0);
}

uint64_t policy_node_lease_end(const struct policy_node *n)
{
    return n->lease.expires;
}

bool policy_node_may_serve(const struct policy_node *n, uint64_t mono_ms)
{
    uint64_t now = policy_node_now(n, mono_ms);
    const struct policy *p = policy_node_policy(n);
    return now > 0 && p && now < n->lease.expires && now >= p->not_before && now < p->not_after;
}

struct span policy_node_lease(const struct policy_node *n)
{
    return writer_span(&n->papers.lease);
}

struct span policy_node_documents(const struct policy_node *n)
{
    return writer_span(&n->papers.part);
}

struct span policy_node_revocations(const struct policy_node *n)
{
    return writer_span(&n->papers.revocations);
}

const struct policy *policy_node_policy(const struct policy_node *n)
{
    return n->papers.documents ? &n->papers.documents->policy : NULL;
}

void policy_node_policy_digest(const struct policy_node *n, uint8_t out[64])
{
    memset(out, 0, 64);
    if (n->papers.documents)
        memcpy(out, n->papers.documents->digest, 64);
}

uint32_t policy_node_tenants_version(const struct policy_node *n)
{
    return n->tenants_version;
}

struct span policy_node_key(const struct policy_node *n, const uint8_t root[64])
{
    for (size_t i = 0; i < n->key_count; i++)
        if (memcmp(n->key[i].root, root, 64) == 0)
            return secret_span(&n->key[i].whole);
    return span_of(NULL, 0);
}
