/* backend_proof.c - leaves and changes of state through the attester. A leaf's envelope must name the very tree of
 * engines that we show with it, so a change of state waits until no leaf is outstanding, and new leaves wait for it. */
#include "proxy/backend_parts.h"

#include <stdlib.h>

void proof_want(struct proof *p, struct span challenge, const uint8_t exporter[32], uint64_t now_ms)
{
    writer_reset(&p->challenge);
    writer_bytes(&p->challenge, challenge);
    memcpy(p->exporter, exporter, sizeof p->exporter);
    p->wanted = writer_ok(&p->challenge);
    p->id = 0;
    p->at_ms = now_ms;
}

void proof_drop(struct proof *p)
{
    p->wanted = false;
    p->id = 0; /* a late answer finds nobody */
}

/* --- the real attester and judge ------------------------------------------------------------------ */

static enum attester_err real_ask_leaf(void *ctx, uint32_t id, struct span challenge, struct span spki,
                                       const uint8_t exporter[32])
{
    const struct real_trust *t = ctx;
    return attester_ask_leaf(t->fd, id, challenge, spki, exporter);
}

static int real_receive(void *ctx, uint32_t *id, enum attester_err *err, struct span *envelope)
{
    struct real_trust *t = ctx;
    struct pollfd p = {t->fd, POLLIN, 0};
    if (poll(&p, 1, 0) <= 0)
        return 0;
    return attester_receive(t->fd, &t->inbox, id, err, envelope);
}

static enum attester_err real_serves(void *ctx, uint32_t count, const uint8_t root[64])
{
    const struct real_trust *t = ctx;
    return attester_update_serves(t->fd, count, root);
}

static enum attester_err real_papers(void *ctx, struct span documents, uint32_t version, struct span revocations,
                                     struct span fleet, struct span lease, uint64_t now)
{
    const struct real_trust *t = ctx;
    enum attester_err err = documents.len ? attester_update_policy(t->fd, documents, version) : ATTESTER_OK;
    if (!err)
        err = attester_update_papers(t->fd, revocations, fleet, lease);
    return err || now == 0 ? err : attester_update_time(t->fd, now);
}

static bool real_judge(void *ctx, const struct verifier_input *in, struct policy_verdict *out,
                       struct verifier_claims **claims)
{
    const struct real_trust *t = ctx;
    return policy_peers_judge(t->peers, in, out, claims);
}

struct backend_trust real_trust_of(struct real_trust *t)
{
    return (struct backend_trust){.ctx = t,
                                  .fd = t->fd,
                                  .ask_leaf = real_ask_leaf,
                                  .receive = real_receive,
                                  .serves = real_serves,
                                  .papers = real_papers,
                                  .judge = real_judge};
}

/* --- changes of state ----------------------------------------------------------------------------- */

/* The policy in force, for other threads; `documents` empty: as before. */
static void publish_policy(struct backend *b, const struct policy *p, struct span documents)
{
    struct policy *copy = malloc(sizeof *copy);
    if (!copy)
        return;
    *copy = *p;
    pthread_mutex_lock(&b->lock);
    struct policy *old = b->policy;
    b->policy = copy;
    if (documents.len) {
        writer_reset(&b->papers);
        writer_bytes(&b->papers, documents);
    }
    pthread_mutex_unlock(&b->lock);
    free(old);
    b->changed = true;
}

static void apply_papers(struct backend *b)
{
    b->papers_dirty = false;
    if (!b->node)
        return;
    const struct policy *p = policy_node_policy(b->node);
    struct span documents = policy_node_documents(b->node);
    if (b->papers_set && span_equal(documents, writer_span(&b->papers)))
        documents = span_of(NULL, 0);
    enum attester_err err = b->trust.papers(b->trust.ctx, documents, p->version, policy_node_revocations(b->node),
                                            writer_span(&b->fleet), policy_node_lease(b->node), backend_trusted_now(b));
    if (err)
        backend_say("papers not taken", "attester", attester_err_name(err));
    b->papers_set = b->papers_set || !err;
    publish_policy(b, p, documents);
}

static void apply_serves(struct backend *b)
{
    struct evidence *list[BACKEND_ENGINES_MAX];
    size_t count;
    uint8_t root[64] = {0};
    b->serves_dirty = false;
    if (engines_root(b, list, &count, root) != VERIFIER_OK)
        count = 0;
    enum attester_err err = b->trust.serves(b->trust.ctx, (uint32_t)count, root);
    if (err) {
        backend_say("engines not taken", "attester", attester_err_name(err));
        count = 0;
    }
    for (size_t i = 0; i < count; i++)
        (void)evidence_ref(list[i]);
    for (size_t i = 0; i < b->served_count; i++)
        evidence_unref(b->served[i]);
    memcpy(b->served, list, count * sizeof *list);
    b->served_count = count;
    b->changed = true;
}

/* --- leaves --------------------------------------------------------------------------------------- */

/* False: the attester is busy; try again later. */
static bool ask(struct backend *b, struct proof *p, struct span spki, enum attester_err *err)
{
    uint32_t id = ++b->next_leaf ? b->next_leaf : ++b->next_leaf;
    *err = b->trust.ask_leaf(b->trust.ctx, id, writer_span(&p->challenge), spki, p->exporter);
    if (*err == ATTESTER_E_BUSY)
        return false;
    p->wanted = false;
    if (!*err) {
        p->id = id;
        b->leaves_out++;
    }
    return true;
}

static void ask_wanted(struct backend *b)
{
    enum attester_err err;
    if (b->keyd_proof.wanted && b->keyd_channel) {
        if (!ask(b, &b->keyd_proof, tunnel_tls_spki(b->tls), &err))
            return;
        if (err)
            tunnel_channel_refuse(b->keyd_channel, attester_err_name(err));
    }
    for (struct engine *e = b->engines; e; e = e->next) {
        if (!e->proof.wanted)
            continue;
        if (!ask(b, &e->proof, tunnel_tls_spki(b->tls), &err))
            return;
        if (err)
            tunnel_channel_refuse(e->channel, attester_err_name(err));
    }
    for (struct attestation *a = b->attestations, *next; a; a = next) {
        next = a->next;
        if (!a->proof.wanted)
            continue;
        if (!ask(b, &a->proof, writer_span(&a->spki), &err))
            return;
        if (err)
            attestation_finish(b, a,
                               err == ATTESTER_E_PAIR || err == ATTESTER_E_CHALLENGE ? BACKEND_BAD_CHALLENGE
                                                                                     : BACKEND_NO_ATTESTER,
                               span_of(NULL, 0));
    }
}

void proofs_step(struct backend *b, uint64_t now_ms)
{
    (void)now_ms;
    if (b->papers_dirty || b->serves_dirty) {
        if (b->leaves_out > 0)
            return;
        if (b->papers_dirty)
            apply_papers(b);
        if (b->serves_dirty)
            apply_serves(b);
    }
    ask_wanted(b);
}

static void give(struct backend *b, uint32_t id, enum attester_err err, struct span envelope)
{
    if (b->keyd_proof.id == id && b->keyd_channel) {
        proof_drop(&b->keyd_proof);
        if (err || !tunnel_channel_answer(b->keyd_channel, envelope))
            tunnel_channel_refuse(b->keyd_channel, err ? attester_err_name(err) : "envelope_size");
        return;
    }
    for (struct engine *e = b->engines; e; e = e->next) {
        if (e->proof.id != id)
            continue;
        proof_drop(&e->proof);
        if (err || !tunnel_channel_answer(e->channel, envelope))
            tunnel_channel_refuse(e->channel, err ? attester_err_name(err) : "envelope_size");
        return;
    }
    for (struct attestation *a = b->attestations; a; a = a->next) {
        if (a->proof.id != id)
            continue;
        attestation_finish(b, a, err ? BACKEND_NO_ATTESTER : BACKEND_OK, envelope);
        return;
    }
}

void proofs_receive(struct backend *b, uint64_t now_ms)
{
    uint32_t id;
    enum attester_err err;
    struct span envelope;
    (void)now_ms;
    while (b->leaves_out > 0 && b->trust.receive(b->trust.ctx, &id, &err, &envelope) == 1) {
        b->leaves_out--;
        give(b, id, err, envelope);
    }
}
