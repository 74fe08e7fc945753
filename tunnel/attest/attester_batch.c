/* Many sessions for one slow quote (PROTOCOL.md § Objects: leaf, tree, quote, envelope). */
#include <stdio.h>
#include <stdlib.h>

#include "tunnel/attest/attester_core.h"
#include "verifier/bundle.h"
#include "verifier/leaf.h"
#include "verifier/tree.h"

bool attester_batch_init(struct attester_batch *b)
{
    *b = (struct attester_batch){.pending = calloc(ATTESTER_BATCH_MAX, sizeof *b->pending)};
    return b->pending != NULL;
}

static void drop_all(struct attester_batch *b)
{
    for (size_t i = 0; i < b->count; i++)
        writer_release(&b->pending[i].challenge);
    b->count = 0;
}

void attester_batch_release(struct attester_batch *b)
{
    drop_all(b);
    free(b->pending);
    b->pending = NULL;
}

void attester_batch_drop(struct attester_batch *b, const void *caller)
{
    size_t kept = 0;

    for (size_t i = 0; i < b->count; i++) {
        if (b->pending[i].caller == caller)
            writer_release(&b->pending[i].challenge);
        else
            b->pending[kept++] = b->pending[i];
    }
    b->count = kept;
}

/* --- taking a leaf --------------------------------------------------------------------------------------------- */

/* We are the one who is asked, by one who may ask us: everything else is somebody else's session. */
static enum attester_err check_pair(const struct attester_core *c, const struct verifier_challenge *asked, bool sealed)
{
    if (asked->attester != c->role || !verifier_pair_is_known(asked->verifier, asked->attester))
        return ATTESTER_E_PAIR;
    /* client to engine is sealed mode's pair, and sealed mode has no other */
    if (sealed != (c->role == VERIFIER_ENGINE && asked->verifier == VERIFIER_CLIENT))
        return ATTESTER_E_PAIR;
    return ATTESTER_OK;
}

enum attester_err attester_batch_add(struct attester_batch *b, const struct attester_core *c, void *caller, uint32_t id,
                                     uint8_t call, struct span body)
{
    bool sealed = call == ATTESTER_SEALED;
    struct reader r = reader_over(body);
    struct attester_pending p = {.caller = caller, .id = id, .call = call, .sealed = sealed};
    struct span challenge, spki = {0}, exporter = {0};
    enum attester_err err;

    (void)reader_list(&r, sealed ? 1 : 3, sealed ? 1 : 3);
    challenge = reader_bin(&r, 1, VERIFIER_CHALLENGE_MAX);
    if (!sealed) {
        spki = reader_bin(&r, 1, VERIFIER_SPKI_MAX);
        exporter = reader_bin(&r, VERIFIER_EXPORTER_LEN, VERIFIER_EXPORTER_LEN);
    }
    if (!reader_end(&r))
        return ATTESTER_E_SHAPE;
    if (b->count == ATTESTER_BATCH_MAX)
        return ATTESTER_E_BUSY;
    p.challenge = writer_with_max(VERIFIER_CHALLENGE_MAX);
    writer_bytes(&p.challenge, challenge);
    if (!writer_ok(&p.challenge))
        return ATTESTER_E_INTERNAL;
    err = verifier_challenge_parse(&p.asked, writer_span(&p.challenge)) == VERIFIER_OK ? ATTESTER_OK
                                                                                       : ATTESTER_E_CHALLENGE;
    if (err == ATTESTER_OK)
        err = check_pair(c, &p.asked, sealed);
    if (err == ATTESTER_OK && sealed && c->keys.now.number == 0)
        err = ATTESTER_E_NOT_READY;
    if (err != ATTESTER_OK) {
        writer_release(&p.challenge);
        return err;
    }
    if (!sealed)
        verifier_leaf(p.leaf, challenge, spki, exporter.data);
    if (b->count == 0)
        b->due = attester_clock() + c->batch_ms;
    b->pending[b->count++] = p;
    return ATTESTER_OK;
}

/* --- one quote for all ------------------------------------------------------------------------------------------ */

struct tree {
    uint8_t leaves[ATTESTER_BATCH_MAX][VERIFIER_DIGEST_LEN];
    size_t count;
    size_t place[ATTESTER_BATCH_MAX]; /* of each pending one: equal leaves share a place */
    uint8_t root[VERIFIER_DIGEST_LEN];
};

static bool plant(struct tree *t, struct attester_batch *b, const struct attester_core *c)
{
    t->count = 0;
    for (size_t i = 0; i < b->count; i++) {
        struct attester_pending *p = &b->pending[i];
        size_t at = 0;

        if (p->sealed) /* with the key in force now, which is the one in the state */
            verifier_sealed_leaf(p->leaf, writer_span(&p->challenge), c->keys.now.public);
        while (at < t->count && memcmp(t->leaves[at], p->leaf, VERIFIER_DIGEST_LEN) != 0)
            at++;
        if (at == t->count)
            memcpy(t->leaves[t->count++], p->leaf, VERIFIER_DIGEST_LEN);
        t->place[i] = at;
    }
    return verifier_tree_root((const uint8_t(*)[VERIFIER_DIGEST_LEN])t->leaves, t->count, t->root) == VERIFIER_OK;
}

struct evidence {
    struct writer state, quote;
    struct attester_part chain, collateral;
};

/* The operator's pieces, of the file as it is now, join what the producer has: its own lists first. */
static bool add_own(struct writer *part, struct attester_core *c)
{
    struct verifier_collateral all = {0};
    struct writer joined = writer_with_max(VERIFIER_PART_MAX);
    char news[256];

    if (!c->own.path[0])
        return true;
    if (tunnel_bundle_look(&c->own, news) != TUNNEL_BUNDLE_SAME)
        fprintf(stderr, "airlock-attest: %s\n", news);
    if (part->len > 0 && verifier_collateral_parse(&all, writer_span(part)) != VERIFIER_OK)
        return false;
    verifier_collateral_add(&all, &c->own.pieces);
    verifier_collateral_encode(&joined, &all);
    writer_release(part);
    *part = joined;
    return writer_ok(part);
}

static bool get_quote(struct evidence *e, struct attester_core *c, const struct tree *t)
{
    uint8_t h_state[VERIFIER_DIGEST_LEN], report_data[VERIFIER_DIGEST_LEN];

    *e = (struct evidence){.state = writer_with_max(VERIFIER_STATE_MAX),
                           .quote = writer_with_max(VERIFIER_QUOTE_MAX),
                           .chain.bytes = writer_with_max(VERIFIER_CHAIN_BYTES_MAX),
                           .collateral.bytes = writer_with_max(VERIFIER_PART_MAX)};
    if (!attester_core_state(c, &e->state))
        return false;
    verifier_sha512(h_state, writer_span(&e->state));
    verifier_report_data(report_data, (uint32_t)t->count, t->root, c->h_statement, h_state);
    if (c->producer->quote(c->device, report_data, &e->quote, &e->chain.bytes, &e->collateral.bytes) != 0 ||
        !add_own(&e->collateral.bytes, c))
        return false;
    verifier_sha512(e->chain.digest, writer_span(&e->chain.bytes));
    verifier_sha512(e->collateral.digest, writer_span(&e->collateral.bytes));
    return writer_ok(&e->quote) && writer_ok(&e->chain.bytes) && writer_ok(&e->collateral.bytes);
}

static void release_evidence(struct evidence *e)
{
    writer_release(&e->state);
    writer_release(&e->quote);
    writer_release(&e->chain.bytes);
    writer_release(&e->collateral.bytes);
}

/* A part as this challenge wants it: by digest only when the verifier says that it holds it. */
static struct verifier_part part_for(const struct verifier_challenge *asked, const struct attester_part *part)
{
    struct verifier_part out = {.form = VERIFIER_PART_BYTES, .bytes = writer_span(&part->bytes)};

    if (out.bytes.len == 0)
        return (struct verifier_part){.form = VERIFIER_PART_NIL};
    for (size_t i = 0; i < asked->have_count; i++) {
        if (memcmp(asked->have[i], part->digest, VERIFIER_DIGEST_LEN) == 0) {
            out = (struct verifier_part){.form = VERIFIER_PART_DIGEST};
            memcpy(out.digest, part->digest, sizeof out.digest);
        }
    }
    return out;
}

static struct span paper(const struct writer *w)
{
    return w->len > 0 ? writer_span(w) : span_of(NULL, 0);
}

static void fill_envelope(struct verifier_envelope *out, const struct evidence *e, const struct attester_core *c,
                          const struct tree *t, const struct verifier_challenge *asked, size_t place)
{
    memset(out, 0, sizeof *out);
    out->tee = c->tee;
    out->quote = writer_span(&e->quote);
    out->chain = part_for(asked, &e->chain);
    out->collateral = part_for(asked, &e->collateral);
    out->statement = writer_span(&c->statement);
    out->state = writer_span(&e->state);
    out->tree_size = (uint32_t)t->count;
    out->place.index = (uint32_t)place;
    verifier_tree_path((const uint8_t(*)[VERIFIER_DIGEST_LEN])t->leaves, t->count, place, out->place.path,
                       &out->place.path_len);
    out->device_count = c->device_count;
    for (size_t i = 0; i < c->device_count; i++) {
        out->devices[i].report = writer_span(&c->devices[i].report);
        out->devices[i].chain = part_for(asked, &c->devices[i].chain);
    }
    out->config = writer_span(&c->config);
    out->policy = part_for(asked, &c->policy);
    out->revocations = paper(&c->revocations);
    out->fleet = paper(&c->fleet);
    out->lease = paper(&c->lease);
    out->has_engines = asked->engines_max > 0; /* the proxy fills them in */
}

static void answer_all(struct attester_batch *b, struct attester_core *c, const struct tree *t,
                       const struct evidence *e, attester_reply *reply, void *ctx)
{
    struct verifier_envelope *env = calloc(1, sizeof *env);

    for (size_t i = 0; i < b->count; i++) {
        struct attester_pending *p = &b->pending[i];
        struct writer w = writer_with_max(VERIFIER_ENVELOPE_MAX);
        bool good = env != NULL;

        if (good) {
            fill_envelope(env, e, c, t, &p->asked, t->place[i]);
            verifier_envelope_encode(&w, env);
            good = writer_ok(&w);
        }
        reply(ctx, p->caller, p->id, p->call, good ? ATTESTER_OK : ATTESTER_E_INTERNAL, writer_span(&w));
        writer_release(&w);
    }
    free(env);
}

void attester_batch_fire(struct attester_batch *b, struct attester_core *c, attester_reply *reply, void *ctx)
{
    struct tree *t = malloc(sizeof *t);
    struct evidence e = {0};

    /* the key for sealed leaves must be the one that the state will show: replace it before the leaves are made */
    if (t && attester_core_tick(c) && plant(t, b, c) && get_quote(&e, c, t))
        answer_all(b, c, t, &e, reply, ctx);
    else
        for (size_t i = 0; i < b->count; i++)
            reply(ctx, b->pending[i].caller, b->pending[i].id, b->pending[i].call, ATTESTER_E_DEVICE, span_of(NULL, 0));
    release_evidence(&e);
    free(t);
    drop_all(b);
}
