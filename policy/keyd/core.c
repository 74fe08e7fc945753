/* core.c - the key server's decisions. */
#include "policy/keyd/core.h"

#include <stdio.h>
#include <stdlib.h>

#include "policy/documents.h"
#include "policy/grant.h"
#include "policy/judge.h"
#include "policy/keyd/history.h"
#include "policy/lease.h"
#include "policy/node.h"
#include "verifier/ed25519.h"
#include "verifier/release.h"
#include "verifier/signed.h"

#define OK "ok"

struct keyd_core {
    struct secret seed;
    uint8_t public[VERIFIER_KEY_LEN];
    struct policy_documents *documents; /* of `part` */
    struct writer part, revocations;
    struct policy_revocations *revoked; /* borrows from `revocations`; epoch 0: none */
    struct policy_rules *rules;
    uint32_t tenants_version;
    const struct keyd_weight *weights;
    size_t weight_count;
    uint64_t lease_s;
    struct keyd_history history;
    struct policy_log log;
};

/* --- log ---------------------------------------------------------------------------------------------- */

static struct policy_log_line begin(struct keyd_core *k, uint64_t now, const char *event)
{
    if (now > k->history.last_at)
        k->history.last_at = now;
    return policy_log_begin(&k->log, now, event);
}

static void add_versions(struct keyd_core *k, struct policy_log_line *l)
{
    policy_log_number(l, "policy", k->documents->policy.version);
    policy_log_number(l, "keyset", k->documents->keyset.version);
    policy_log_number(l, "epoch", k->revoked->epoch);
    policy_log_number(l, "tenants", k->tenants_version);
}

static bool log_versions(struct keyd_core *k, uint64_t now, const char *event, struct writer *lines)
{
    struct policy_log_line l = begin(k, now, event);
    policy_log_hex(&l, "digest", span_of(k->documents->digest, VERIFIER_DIGEST_LEN));
    add_versions(k, &l);
    return policy_log_end(&l, lines);
}

/* --- papers ------------------------------------------------------------------------------------------- */

static bool say(char why[256], const char *text)
{
    snprintf(why, 256, "%s", text);
    return false;
}

static void set_bytes(struct writer *w, size_t max, struct span bytes)
{
    struct writer new = writer_with_max(max);
    writer_bytes(&new, bytes);
    writer_release(w);
    *w = new;
}

/* Take `new` (of `part`) into force; frees what was. */
static void adopt_documents(struct keyd_core *k, struct policy_documents *new, struct span part)
{
    set_bytes(&k->part, VERIFIER_PART_MAX, part);
    free(k->documents);
    k->documents = new;
    policy_rules_for(&new->policy, false, new->owner, k->rules);
}

static bool adopt_revocations(struct keyd_core *k, struct span list)
{
    struct verifier_signed s;
    uint32_t epoch = 0;
    if (list.len == 0)
        return true;
    if (policy_documents_revocations(k->documents, list, &epoch) != VERIFIER_OK)
        return false;
    if (epoch <= k->revoked->epoch)
        return true; /* nothing new; a lower one is refused where a person gave it */
    set_bytes(&k->revocations, VERIFIER_PART_MAX, list);
    memset(k->revoked, 0, sizeof *k->revoked);
    return verifier_signed_parse(&s, writer_span(&k->revocations)) == VERIFIER_OK &&
           policy_revocations_parse(k->revoked, s.body) == VERIFIER_OK;
}

static bool is_older(const struct policy_documents *a, const struct policy_documents *b)
{
    return a->policy.version < b->policy.version || a->keyset.version < b->keyset.version;
}

static bool open_documents(struct policy_documents *out, struct span part, const uint8_t *owner, char why[256])
{
    struct verifier_note note = {0};
    enum verifier_err err = policy_documents_open(out, part, owner, &note);
    if (err != VERIFIER_OK)
        snprintf(why, 256, "the policy with its key sets: %s%s%.160s", verifier_err_name(err),
                 note.observed[0] ? ": " : "", note.observed);
    return err == VERIFIER_OK;
}

/* May `new` with the signed list `revocations` follow what is in force? */
static bool may_follow(const struct keyd_core *k, const struct policy_documents *new, struct span revocations,
                       char why[256])
{
    uint32_t epoch = k->revoked->epoch;
    if (is_older(new, k->documents))
        return say(why, "the policy or key set is older than the one in force");
    if (new->policy.version == k->documents->policy.version &&
        memcmp(new->digest, k->documents->digest, sizeof new->digest) != 0)
        return say(why, "the policy was changed without raising its version");
    if (revocations.len > 0 && policy_documents_revocations(new, revocations, &epoch) != VERIFIER_OK)
        return say(why, "the revocation list is not signed by the owner's revokers");
    return epoch >= k->revoked->epoch || say(why, "the revocation list is older than the one in force");
}

bool keyd_core_update(struct keyd_core *k, struct span documents, struct span revocations, uint32_t tenants_version,
                      uint64_t now, struct writer *lines, char why[256])
{
    struct policy_documents *new = malloc(sizeof *new);
    if (!new)
        return say(why, "out of memory");
    if (!open_documents(new, documents, k->documents->owner, why) || !may_follow(k, new, revocations, why)) {
        free(new);
        return false;
    }
    adopt_documents(k, new, documents);
    if (!adopt_revocations(k, revocations))
        return say(why, "out of memory");
    if (tenants_version > k->tenants_version)
        k->tenants_version = tenants_version;
    return log_versions(k, now, "papers", lines) || say(why, "the log is full");
}

/* --- life --------------------------------------------------------------------------------------------- */

static bool check_history(const struct keyd_core *k, char why[256])
{
    const struct keyd_history *h = &k->history;
    if (k->documents->policy.version < h->policy || k->documents->keyset.version < h->keyset)
        return say(why, "the policy or key set is older than one that was already in force; give the newest");
    if (k->revoked->epoch < h->epoch)
        return say(why, "the revocation list is older than one that was already in force; give the newest");
    return true;
}

static bool check_weights(const struct keyd_core *k, char why[256])
{
    for (size_t i = 0; i < k->weight_count; i++) {
        const struct policy_model *m = policy_find_model(&k->documents->policy, span_str(k->weights[i].model));
        uint8_t id[VERIFIER_KEY_LEN];
        if (!m || !m->sealed || m->shares > 1)
            continue;
        if (!verifier_release_key_id(k->weights[i].key.data, id) || memcmp(id, m->key_id, sizeof id) != 0) {
            snprintf(why, 256, "the weight key of \"%.100s\" is not the one whose key_id the policy names",
                     k->weights[i].model);
            return false;
        }
    }
    return true;
}

static bool start(struct keyd_core *k, const struct keyd_core_config *c, uint64_t now, struct writer *lines,
                  char why[256])
{
    struct policy_documents *d = malloc(sizeof *d);
    bool chain_good;
    k->rules = calloc(1, sizeof *k->rules);
    k->revoked = calloc(1, sizeof *k->revoked);
    if (!d || !k->rules || !k->revoked || c->seed.len != 32 || !secret_init(&k->seed, 32)) {
        free(d);
        return say(why, "out of memory");
    }
    memcpy(k->seed.data, c->seed.data, 32);
    if (!open_documents(d, c->documents, NULL, why)) {
        free(d);
        return false;
    }
    adopt_documents(k, d, c->documents);
    policy_log_check(c->log, &k->log, &chain_good);
    if (!verifier_ed25519_public(k->seed.data, k->public) || !keyd_history_open(&k->history, c->log))
        return say(why, "the log holds lines that airlock-keyd did not write, or memory is short");
    if (!adopt_revocations(k, c->revocations))
        return say(why, "the revocation list is not signed by the owner's revokers");
    if (k->tenants_version < k->history.tenants)
        k->tenants_version = k->history.tenants;
    if (!check_history(k, why) || !check_weights(k, why))
        return false;
    k->history.waiting = k->history.waiting || c->is_restored || !chain_good;
    return log_versions(k, now, k->history.waiting ? "restored" : "start", lines) || say(why, "the log is full");
}

struct keyd_core *keyd_core_open(const struct keyd_core_config *config, uint64_t now, struct writer *lines,
                                 char why[256])
{
    struct keyd_core *k = calloc(1, sizeof *k);
    if (!k) {
        say(why, "out of memory");
        return NULL;
    }
    k->weights = config->weights;
    k->weight_count = config->weight_count;
    k->lease_s = config->lease_s;
    k->tenants_version = config->tenants_version;
    if (start(k, config, now, lines, why))
        return k;
    keyd_core_close(k);
    return NULL;
}

void keyd_core_close(struct keyd_core *k)
{
    if (!k)
        return;
    secret_release(&k->seed);
    keyd_history_release(&k->history);
    writer_release(&k->part);
    writer_release(&k->revocations);
    free(k->documents);
    free(k->revoked);
    free(k->rules);
    free(k);
}

/* --- are we stale? ------------------------------------------------------------------------------------ */

static bool adopt_newer_documents(struct keyd_core *k, struct span part)
{
    struct policy_documents *new = malloc(sizeof *new);
    bool newer = new &&policy_documents_open(new, part, k->documents->owner, NULL) ==
                     VERIFIER_OK &&is_older(k->documents, new) &&
                 !is_older(new, k->documents);
    if (newer)
        adopt_documents(k, new, part);
    else
        free(new);
    return newer;
}

/* A lease of ours that we do not remember having given. */
static bool is_forgotten_lease(struct keyd_core *k, struct span lease, uint64_t now)
{
    struct span body;
    struct policy_lease l;
    if (!lease.data ||
        verifier_signed_open(&body, lease, VERIFIER_SIGNED_LEASE, (const uint8_t(*)[VERIFIER_KEY_LEN]) & k->public,
                             1) != VERIFIER_OK ||
        policy_lease_parse(&l, body) != VERIFIER_OK || l.expires + KEYD_NODE_LIFE_S <= now)
        return false;
    const struct keyd_node *n = keyd_history_find(&k->history, l.identity);
    return !n || l.expires > n->until;
}

static void look_for_newer(struct keyd_core *k, const struct verifier_node *node, uint64_t now, struct writer *lines)
{
    uint32_t epoch = k->revoked->epoch;
    bool stale = is_forgotten_lease(k, node->lease, now);
    if (node->policy.data && adopt_newer_documents(k, node->policy))
        stale = true;
    if (node->revocations.data && adopt_revocations(k, node->revocations) && k->revoked->epoch > epoch)
        stale = true;
    if (!stale)
        return;
    k->history.waiting = true;
    if (!log_versions(k, now, "stale", lines))
        return; /* no room for the line: we wait for a person all the same */
}

/* --- judging ------------------------------------------------------------------------------------------ */

static const char *judge_by_policy(const struct keyd_core *k, const struct verifier_claims *claims, uint64_t now,
                                   uint64_t *valid_until)
{
    const struct policy *p = &k->documents->policy;
    if (k->history.waiting)
        return "keyd_unconfirmed";
    if (now + VERIFIER_FUTURE_MAX < k->history.last_at)
        return "keyd_clock"; /* our clock was set back */
    if (policy_revocations_has(k->revoked, POLICY_REVOKED_POLICY, span_of(k->documents->digest, VERIFIER_DIGEST_LEN)) ||
        policy_revocations_of_node(k->revoked, &claims->node))
        return verifier_err_name(VERIFIER_E_REVOKED);
    if (now < p->not_before || now >= p->not_after)
        return verifier_err_name(now < p->not_before ? VERIFIER_E_POLICY_NOT_YET : VERIFIER_E_POLICY_EXPIRED);
    struct policy_verdict *verdict = malloc(sizeof *verdict);
    if (!verdict)
        return verifier_err_name(VERIFIER_E_INTERNAL);
    bool good = policy_judge(claims, k->rules, NULL, now, verdict);
    const char *code = good ? OK : verifier_err_name(verdict->refusal.code);
    *valid_until = verdict->valid_until < p->not_after ? verdict->valid_until : p->not_after;
    free(verdict);
    return code;
}

const char *keyd_core_judge(struct keyd_core *k, const struct verifier_claims *claims, uint64_t now,
                            uint64_t *valid_until, struct writer *lines)
{
    *valid_until = 0;
    if (memcmp(claims->node.statement.owner, k->documents->owner, VERIFIER_DIGEST_LEN) == 0)
        look_for_newer(k, &claims->node, now, lines);
    return judge_by_policy(k, claims, now, valid_until);
}

/* --- granting ----------------------------------------------------------------------------------------- */

/* Does the node's own log go on from where it last told us? */
static const char *check_log(struct keyd_core *k, const struct policy_ask *ask)
{
    const struct keyd_node *n = keyd_history_find(&k->history, ask->identity);
    if (!n || !n->has_log)
        return OK;
    if (!ask->has_log || ask->log_index < n->log_index)
        return "log_index_fell";
    if (ask->log_index == n->log_index && memcmp(ask->log_head, n->log_head, sizeof n->log_head) != 0)
        return "log_head_changed";
    return OK;
}

static bool own_share(const struct keyd_core *k, uint8_t *i)
{
    const struct policy *p = &k->documents->policy;
    for (size_t at = 0; at < p->keyd_count; at++) {
        if (memcmp(p->keyd[at], k->public, VERIFIER_KEY_LEN) == 0) {
            *i = (uint8_t)at;
            return true;
        }
    }
    return false;
}

static const struct keyd_weight *weight_of(const struct keyd_core *k, const struct policy_model *m)
{
    for (size_t i = 0; i < k->weight_count; i++)
        if (policy_find_model(&k->documents->policy, span_str(k->weights[i].model)) == m)
            return &k->weights[i];
    return NULL;
}

static bool seal_keys(const struct keyd_core *k, const struct verifier_node *node, uint8_t share,
                      struct policy_grant *grant)
{
    const struct policy *p = &k->documents->policy;
    for (size_t i = 0; i < p->model_count; i++) {
        const struct policy_model *m = &p->model[i];
        const struct keyd_weight *w = m->sealed ? weight_of(k, m) : NULL;
        if (!w)
            continue;
        struct verifier_release_bind bind = {.i = m->shares > 1 ? share : 0, .n = (uint8_t)m->shares};
        struct policy_grant_key *out = &grant->keys[grant->key_count++];
        memcpy(bind.statement, node->h_statement, sizeof bind.statement);
        memcpy(bind.policy, k->documents->digest, sizeof bind.policy);
        memcpy(bind.artefact_root, m->root, sizeof bind.artefact_root);
        memcpy(out->artefact_root, m->root, sizeof out->artefact_root);
        memcpy(out->key_id, m->key_id, sizeof out->key_id);
        if (!verifier_release_seal(node->statement.release, &bind, w->key.data, out->enc, out->sealed))
            return false;
    }
    return true;
}

static bool make_lease(const struct keyd_core *k, const struct verifier_node *node, uint64_t now, struct writer *out,
                       uint64_t *expires)
{
    const struct policy *p = &k->documents->policy;
    uint64_t life = k->lease_s > 0 && k->lease_s < p->lease_max ? k->lease_s : p->lease_max;
    struct policy_lease lease = {.role = node->statement.role,
                                 .policy.version = p->version,
                                 .epoch = k->revoked->epoch,
                                 .issued = now,
                                 .expires = now + life};
    struct writer body = writer_with_max(VERIFIER_LEASE_MAX);
    memcpy(lease.identity, node->statement.identity, sizeof lease.identity);
    memcpy(lease.policy.digest, k->documents->digest, sizeof lease.policy.digest);
    policy_lease_encode(&body, &lease);
    *expires = lease.expires;
    bool good = writer_ok(&body) && verifier_signed_make(out, VERIFIER_SIGNED_LEASE, writer_span(&body), k->seed.data);
    writer_release(&body);
    return good;
}

static bool sign_grant(const struct keyd_core *k, const struct policy_grant *g, struct writer *out)
{
    struct writer body = writer_with_max(VERIFIER_GRANT_MAX);
    policy_grant_encode(&body, g);
    bool good = writer_ok(&body) && verifier_signed_make(out, VERIFIER_SIGNED_GRANT, writer_span(&body), k->seed.data);
    writer_release(&body);
    return good;
}

static bool make_grant(const struct keyd_core *k, const struct verifier_node *node, const struct policy_ask *ask,
                       uint8_t share, uint64_t now, struct writer *out, uint64_t *expires, size_t *key_count)
{
    struct policy_grant *g = calloc(1, sizeof *g);
    struct writer lease = writer_with_max(VERIFIER_LEASE_MAX);
    bool good = g && make_lease(k, node, now, &lease, expires);
    if (good) {
        memcpy(g->nonce, ask->nonce, sizeof g->nonce);
        memcpy(g->identity, ask->identity, sizeof g->identity);
        memcpy(g->statement, node->h_statement, sizeof g->statement);
        g->policy = writer_span(&k->part);
        g->revocations = k->revoked->epoch ? writer_span(&k->revocations) : span_of(NULL, 0);
        g->tenants_version = k->tenants_version;
        g->issued = now;
        g->lease = writer_span(&lease);
        if (node->statement.role == VERIFIER_ENGINE && !node->state.has_model)
            good = seal_keys(k, node, share, g);
        *key_count = g->key_count;
        good = good && sign_grant(k, g, out);
    }
    writer_release(&lease);
    free(g);
    return good;
}

static bool log_grant(struct keyd_core *k, const struct verifier_node *node, const struct policy_ask *ask,
                      uint64_t expires, size_t key_count, uint64_t now, struct writer *lines)
{
    struct policy_log_line l = begin(k, now, "grant");
    policy_log_hex(&l, "identity", span_of(ask->identity, sizeof ask->identity));
    policy_log_word(&l, "role", span_str(verifier_role_names[node->statement.role]));
    policy_log_hex(&l, "measurement", span_of(node->hw.measurement, sizeof node->hw.measurement));
    policy_log_number(&l, "simulated", node->hw.simulated);
    policy_log_number(&l, "until", expires);
    policy_log_number(&l, "keys", key_count);
    add_versions(k, &l);
    if (ask->has_log) {
        policy_log_number(&l, "log_index", ask->log_index);
        policy_log_hex(&l, "log_head", span_of(ask->log_head, sizeof ask->log_head));
    }
    return policy_log_end(&l, lines);
}

const char *keyd_core_answer(struct keyd_core *k, const struct verifier_claims *claims, struct span ask_bytes,
                             uint64_t now, struct writer *grant, struct writer *lines)
{
    struct policy_ask ask;
    uint64_t valid_until, expires = 0;
    size_t key_count = 0;
    uint8_t share;
    enum reader_err err = policy_ask_parse(&ask, ask_bytes);
    if (err != READER_OK)
        return reader_err_name(err);
    if (memcmp(ask.identity, claims->node.statement.identity, sizeof ask.identity) != 0)
        return "ask_identity";
    const char *code = judge_by_policy(k, claims, now, &valid_until);
    if (strcmp(code, OK) == 0)
        code = check_log(k, &ask);
    if (strcmp(code, OK) != 0)
        return code;
    if (!own_share(k, &share))
        return "keyd_not_named";
    struct keyd_node *n = keyd_history_take(&k->history, ask.identity, now);
    if (!n)
        return "keyd_full";
    if (!make_grant(k, &claims->node, &ask, share, now, grant, &expires, &key_count) ||
        !log_grant(k, &claims->node, &ask, expires, key_count, now, lines))
        return verifier_err_name(VERIFIER_E_INTERNAL);
    n->until = expires;
    n->has_log = ask.has_log;
    n->log_index = ask.log_index;
    memcpy(n->log_head, ask.log_head, sizeof n->log_head);
    return OK;
}

/* --- confirmation ------------------------------------------------------------------------------------- */

bool keyd_core_is_waiting(const struct keyd_core *k)
{
    return k->history.waiting;
}

void keyd_core_confirm(struct keyd_core *k, uint64_t now, struct writer *lines)
{
    if (log_versions(k, now, "confirmed", lines))
        k->history.waiting = false;
}

const struct policy_log *keyd_core_log(const struct keyd_core *k)
{
    return &k->log;
}

struct span keyd_core_documents(const struct keyd_core *k)
{
    return writer_span(&k->part);
}

struct span keyd_core_revocations(const struct keyd_core *k)
{
    return writer_span(&k->revocations);
}

const struct policy *keyd_core_policy(const struct keyd_core *k)
{
    return &k->documents->policy;
}

const uint8_t *keyd_core_public(const struct keyd_core *k)
{
    return k->public;
}
