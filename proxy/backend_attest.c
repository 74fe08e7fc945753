/* backend_attest.c - the proxy's envelope for a client: the attester's, with the engines that the client asked for. */
#include "proxy/backend_parts.h"

#include "verifier/envelope.h"
#include "verifier/tree.h"

#include <openssl/evp.h>
#include <stdlib.h>

/* What one assembly needs beside the stack: envelopes as structs are 30 KiB each. */
struct assembly {
    struct verifier_challenge challenge;
    struct verifier_envelope own, inner;
    struct writer entry[BACKEND_SHOWN_MAX]; /* re-encoded envelopes of engines */
    uint8_t identity[BACKEND_SHOWN_MAX][32];
    struct writer out;
};

static void attestation_free(struct backend *b, struct attestation *a)
{
    for (struct attestation **at = &b->attestations; *at; at = &(*at)->next) {
        if (*at == a) {
            *at = a->next;
            b->attestation_count--;
            break;
        }
    }
    writer_release(&a->proof.challenge);
    writer_release(&a->spki);
    free(a);
}

static struct assembly *assembly_open(void)
{
    struct assembly *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    for (size_t i = 0; i < BACKEND_SHOWN_MAX; i++)
        s->entry[i] = writer_with_max(VERIFIER_ENVELOPE_MAX);
    s->out = writer_with_max(VERIFIER_ENVELOPE_MAX);
    return s;
}

static void assembly_close(struct assembly *s)
{
    for (size_t i = 0; i < BACKEND_SHOWN_MAX; i++)
        writer_release(&s->entry[i]);
    writer_release(&s->out);
    free(s);
}

/* --- parts by digest ------------------------------------------------------------------------------ */

static void shorten_part(struct verifier_part *part, const struct verifier_challenge *c)
{
    uint8_t digest[VERIFIER_DIGEST_LEN];
    if (part->form != VERIFIER_PART_BYTES || c->have_count == 0 ||
        EVP_Digest(part->bytes.data, part->bytes.len, digest, NULL, EVP_sha512(), NULL) != 1)
        return;
    for (size_t i = 0; i < c->have_count; i++) {
        if (memcmp(digest, c->have[i], sizeof digest) == 0) {
            part->form = VERIFIER_PART_DIGEST;
            memcpy(part->digest, digest, sizeof digest);
            return;
        }
    }
}

/* The engine's envelope as this client may get it: what it holds comes by digest. */
static bool shorten(struct assembly *s, struct span envelope, struct writer *out)
{
    writer_reset(out);
    if (verifier_envelope_parse(&s->inner, envelope) != VERIFIER_OK)
        return false;
    shorten_part(&s->inner.chain, &s->challenge);
    shorten_part(&s->inner.collateral, &s->challenge);
    shorten_part(&s->inner.event_log, &s->challenge);
    shorten_part(&s->inner.policy, &s->challenge);
    for (size_t i = 0; i < s->inner.device_count; i++)
        shorten_part(&s->inner.devices[i].chain, &s->challenge);
    verifier_envelope_encode(out, &s->inner);
    return writer_ok(out);
}

/* --- engines -------------------------------------------------------------------------------------- */

/* Serves the model that the challenge names (or any). */
static bool serves_model(const struct backend *b, const struct assembly *s, const struct evidence *e)
{
    const struct verifier_state *state = &e->claims->node.state;
    if (s->challenge.model.data == NULL)
        return true;
    const struct policy_model *m = b->policy ? policy_find_model(b->policy, s->challenge.model) : NULL;
    return m && state->has_model && memcmp(m->root, state->model.root, sizeof m->root) == 0;
}

static size_t load_of(const struct backend *b, const struct evidence *e)
{
    for (const struct engine *n = b->engines; n; n = n->next)
        if (n->admitted && memcmp(n->evidence->identity, e->identity, 32) == 0)
            return n->running;
    return SIZE_MAX;
}

static bool add_entry(struct backend *b, struct assembly *s, uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t index)
{
    const struct evidence *e = b->served[index];
    size_t n = s->own.engine_count;
    struct verifier_engine_entry *entry = &s->own.engines[n];
    if (!shorten(s, writer_span(&e->envelope), &s->entry[n]))
        return false;
    *entry = (struct verifier_engine_entry){.challenge = writer_span(&e->challenge),
                                            .spki = writer_span(&e->spki),
                                            .checked_at = e->checked_at,
                                            .envelope = writer_span(&s->entry[n])};
    memcpy(entry->exporter, e->exporter, sizeof entry->exporter);
    entry->place.index = (uint32_t)index;
    verifier_tree_path((const uint8_t(*)[VERIFIER_DIGEST_LEN])leaves, b->served_count, index, entry->place.path,
                       &entry->place.path_len);
    memcpy(s->identity[n], e->identity, 32);
    s->own.engine_count++;
    return true;
}

/* Up to the number asked, the least loaded first. */
static void add_entries(struct backend *b, struct assembly *s)
{
    static _Thread_local uint8_t leaves[BACKEND_ENGINES_MAX][VERIFIER_DIGEST_LEN];
    bool taken[BACKEND_ENGINES_MAX] = {false};
    uint64_t now_ms = backend_now_ms();
    for (size_t i = 0; i < b->served_count; i++)
        memcpy(leaves[i], b->served[i]->leaf, VERIFIER_DIGEST_LEN);
    while (s->own.engine_count < s->challenge.engines_max) {
        size_t best = BACKEND_ENGINES_MAX, best_load = SIZE_MAX;
        for (size_t i = 0; i < b->served_count; i++) {
            const struct evidence *e = b->served[i];
            if (taken[i] || now_ms - e->checked_ms > BACKEND_ENTRY_AGE_MS || !engines_has(b, e) ||
                !serves_model(b, s, e))
                continue;
            size_t load = load_of(b, e);
            if (best == BACKEND_ENGINES_MAX || load < best_load)
                best = i, best_load = load;
        }
        if (best == BACKEND_ENGINES_MAX)
            return;
        taken[best] = true;
        if (!add_entry(b, s, leaves, best))
            backend_say("engine not shown", "", "envelope");
    }
}

/* The whole into s->out; engines are left out from the end until it fits into 1 MiB. */
static bool assemble(struct backend *b, struct assembly *s, struct span envelope)
{
    if (verifier_envelope_parse(&s->own, envelope) != VERIFIER_OK)
        return false;
    s->own.has_engines = s->challenge.engines_max > 0;
    s->own.engine_count = 0;
    add_entries(b, s);
    for (;;) {
        writer_reset(&s->out);
        verifier_envelope_encode(&s->out, &s->own);
        if (writer_ok(&s->out) && s->out.len <= VERIFIER_ENVELOPE_MAX)
            return true;
        if (s->own.engine_count == 0)
            return false;
        s->own.engine_count--;
    }
}

/* --- life of a challenge -------------------------------------------------------------------------- */

static bool is_for_us(const struct verifier_challenge *c)
{
    return c->verifier == VERIFIER_CLIENT && c->attester == VERIFIER_PROXY;
}

void attestation_finish(struct backend *b, struct attestation *a, enum backend_code code, struct span envelope)
{
    struct assembly *s = code == BACKEND_OK ? assembly_open() : NULL;
    if (code == BACKEND_OK &&
        (!s || verifier_challenge_parse(&s->challenge, writer_span(&a->proof.challenge)) || !assemble(b, s, envelope)))
        code = BACKEND_NO_ATTESTER;
    if (code == BACKEND_OK)
        b->count.attestations++;
    else
        b->count.attestations_failed++;
    if (code == BACKEND_OK)
        a->done(a->ctx, code, writer_span(&s->out), (const uint8_t(*)[32])s->identity, s->own.engine_count);
    else
        a->done(a->ctx, code, span_of(NULL, 0), NULL, 0);
    if (s)
        assembly_close(s);
    attestation_free(b, a);
}

void attestation_take(struct backend *b, struct attestation *a)
{
    struct verifier_challenge *c = malloc(sizeof *c);
    enum backend_code code = BACKEND_OK;
    a->next = b->attestations;
    b->attestations = a;
    b->attestation_count++;
    if (!c || b->attestation_count > BACKEND_WAITING_MAX)
        code = BACKEND_BUSY;
    else if (!a->proof.wanted || verifier_challenge_parse(c, writer_span(&a->proof.challenge)) || !is_for_us(c))
        code = BACKEND_BAD_CHALLENGE;
    else if (!backend_is_leased(b))
        code = BACKEND_NO_LEASE;
    free(c);
    if (code != BACKEND_OK)
        attestation_finish(b, a, code, span_of(NULL, 0));
}

void attestations_step(struct backend *b, uint64_t now_ms)
{
    for (struct attestation *a = b->attestations, *next; a; a = next) {
        next = a->next;
        if (now_ms >= a->proof.at_ms + BACKEND_LEAF_MS)
            attestation_finish(b, a, BACKEND_NO_ATTESTER, span_of(NULL, 0));
    }
}

void attestations_close(struct backend *b)
{
    while (b->attestations)
        attestation_finish(b, b->attestations, BACKEND_BUSY, span_of(NULL, 0));
}
