/* airlock.c - the facade of libairlock: airlock.h on top of verifier/ and policy/, nothing but calls. */
#include "verifier/airlock.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/acceptance.h"
#include "policy/judge.h"
#include "policy/report.h"
#include "verifier/bundle.h"
#include "verifier/cache.h"
#include "verifier/challenge.h"
#include "verifier/check.h"
#include "verifier/sealed.h"

struct airlock_claims {
    struct verifier_claims *inner; /* owned */
};
struct airlock_rules {
    struct policy_rules inner;
};

/* The library behind a cache. */
struct airlock_cache {
    struct verifier_cache *inner; /* owned */
};

static struct span span_in(struct airlock_span s)
{
    return span_of(s.data, s.len);
}

static void result_out(struct airlock_result *out, const struct verifier_refusal *r)
{
    if (!out)
        return;
    *out = (struct airlock_result){.stage = r->code == VERIFIER_OK ? 0 : r->stage,
                                   .inner_stage = r->inner_stage,
                                   .engine = r->engine,
                                   .remedy = verifier_err_remedy(r->code)};
    snprintf(out->code, sizeof out->code, "%s", verifier_err_name(r->code));
    memcpy(out->observed, r->note.observed, sizeof out->observed);
    memcpy(out->required, r->note.required, sizeof out->required);
}

/* --- 1. the challenge ------------------------------------------------------------------------- */

/* The two enums have the same order. */
_Static_assert((int)AIRLOCK_CLIENT == (int)VERIFIER_CLIENT && (int)AIRLOCK_KEYD == (int)VERIFIER_KEYD, "roles");

int airlock_challenge(const struct airlock_ask *ask, uint8_t *out, size_t cap, size_t *len)
{
    struct verifier_challenge c = {.verifier = (enum verifier_role)ask->verifier,
                                   .attester = (enum verifier_role)ask->attester,
                                   .engines_max = ask->engines ? ask->engines_max : 0,
                                   .have_count = ask->have_count};
    struct writer w = writer_with_max(VERIFIER_CHALLENGE_MAX);
    *len = 0;
    if (ask->size != sizeof *ask || ask->verifier > AIRLOCK_KEYD || ask->attester > AIRLOCK_KEYD ||
        ask->have_count > VERIFIER_HAVE_MAX || (ask->engines && ask->engines_max == 0))
        return -1;
    memcpy(c.nonce, ask->nonce, sizeof c.nonce);
    if (ask->have_count > 0)
        memcpy(c.have, ask->have, ask->have_count * sizeof c.have[0]);
    if (ask->model)
        c.model = span_str(ask->model);
    verifier_challenge_encode(&w, &c);
    /* What does not parse again makes no sense: pair, model's text, repeated digests, more than 8 engines. */
    bool ok = writer_ok(&w) && verifier_challenge_parse(&c, writer_span(&w)) == VERIFIER_OK && w.len <= cap;
    if (ok) {
        memcpy(out, w.data, w.len);
        *len = w.len;
    }
    writer_release(&w);
    return ok ? 0 : -1;
}

/* --- 2. evidence to facts --------------------------------------------------------------------- */

/* The caller's own collateral; an empty file is none. */
static enum verifier_err collateral_in(struct span file, struct verifier_collateral *out)
{
    struct verifier_bundle bundle;

    *out = (struct verifier_collateral){0};
    if (file.len == 0)
        return VERIFIER_OK;
    return verifier_bundle_parse(&bundle, file) == VERIFIER_OK &&
                   verifier_collateral_parse(out, bundle.collateral) == VERIFIER_OK
               ? VERIFIER_OK
               : VERIFIER_E_BUNDLE;
}

static struct verifier_input input_in(const struct airlock_input *in, const struct verifier_held *held)
{
    return (struct verifier_input){
        .envelope = span_in(in->envelope),
        .challenge = span_in(in->challenge),
        .spki = span_in(in->spki),
        .exporter = in->exporter,
        .session = {.tls13 = in->session.tls13,
                    .finished = in->session.finished,
                    .resumed = in->session.resumed,
                    .psk = in->session.psk,
                    .early_data = in->session.early_data,
                    .post_handshake_auth = in->session.post_handshake_auth},
        .verifier = (enum verifier_role)in->verifier,
        .attester = (enum verifier_role)in->attester,
        .now = in->now,
        .held = held,
        .held_count = in->held_count,
        .previous = in->previous ? in->previous->inner : NULL,
        .cache = in->cache ? in->cache->inner : NULL,
    };
}

struct airlock_cache *airlock_cache_new(size_t bytes)
{
    struct airlock_cache *cache = calloc(1, sizeof *cache);
    if (cache)
        cache->inner = verifier_cache_new(bytes);
    if (cache && cache->inner)
        return cache;
    free(cache);
    return NULL;
}

void airlock_cache_free(struct airlock_cache *cache)
{
    if (cache)
        verifier_cache_free(cache->inner);
    free(cache);
}

/* Another size has fields that are not known here, or lacks some that are. */
static struct airlock_claims *refuse_size(size_t size, size_t known, struct airlock_result *why)
{
    struct verifier_refusal refusal = {.code = VERIFIER_E_STRUCT_SIZE, .stage = 1, .engine = -1};
    verifier_note_observed(&refusal.note, "a struct airlock_input of %zu bytes", size);
    verifier_note_required(&refusal.note, "%zu bytes", known);
    result_out(why, &refusal);
    return NULL;
}

struct airlock_claims *airlock_check(const struct airlock_input *in, struct airlock_result *why)
{
    struct verifier_refusal refusal = {.code = VERIFIER_E_INTERNAL, .stage = 1, .engine = -1};
    struct verifier_held held[VERIFIER_HAVE_MAX];
    struct verifier_collateral collateral;
    if (in->size != sizeof *in)
        return refuse_size(in->size, sizeof *in, why);
    struct airlock_claims *claims = calloc(1, sizeof *claims);
    enum verifier_err err = collateral_in(span_in(in->collateral), &collateral);
    if (err != VERIFIER_OK)
        refusal.code = err;
    else if (claims && in->held_count <= VERIFIER_HAVE_MAX) {
        for (size_t i = 0; i < in->held_count; i++) {
            held[i].bytes = span_in(in->held[i]);
            verifier_sha512(held[i].digest, held[i].bytes);
        }
        struct verifier_input input = input_in(in, held);
        input.collateral = &collateral;
        claims->inner = verifier_check(&input, &refusal);
    }
    result_out(why, &refusal);
    if (claims && claims->inner)
        return claims;
    free(claims);
    return NULL;
}

void airlock_claims_free(struct airlock_claims *claims)
{
    if (claims)
        verifier_claims_free(claims->inner);
    free(claims);
}

enum airlock_role airlock_claims_role(const struct airlock_claims *claims)
{
    return (enum airlock_role)claims->inner->node.statement.role;
}

bool airlock_claims_simulated(const struct airlock_claims *claims)
{
    bool simulated = claims->inner->node.hw.simulated;
    for (size_t i = 0; i < claims->inner->engine_count; i++)
        simulated = simulated || claims->inner->engine[i].node.hw.simulated;
    return simulated;
}

void airlock_claims_identity(const struct airlock_claims *claims, uint8_t out[AIRLOCK_KEY_LEN])
{
    memcpy(out, claims->inner->node.statement.identity, AIRLOCK_KEY_LEN);
}

void airlock_claims_measurement(const struct airlock_claims *claims, uint8_t out[48])
{
    memcpy(out, claims->inner->node.hw.measurement, 48);
}

bool airlock_claims_policy(const struct airlock_claims *claims, uint8_t out[AIRLOCK_DIGEST_LEN])
{
    const struct verifier_state *s = &claims->inner->node.state;
    if (s->has_policy)
        memcpy(out, s->policy.digest, AIRLOCK_DIGEST_LEN);
    return s->has_policy;
}

bool airlock_claims_seal(const struct airlock_claims *claims, uint8_t public_key[AIRLOCK_KEY_LEN], uint32_t *epoch,
                         uint8_t h_statement[AIRLOCK_DIGEST_LEN])
{
    const struct verifier_node *node = &claims->inner->node;
    if (!node->state.has_seal)
        return false;
    memcpy(public_key, node->state.seal.public, AIRLOCK_KEY_LEN);
    *epoch = node->state.seal.epoch;
    memcpy(h_statement, node->h_statement, AIRLOCK_DIGEST_LEN);
    return true;
}

size_t airlock_claims_engine_count(const struct airlock_claims *claims)
{
    return claims->inner->engine_count;
}

bool airlock_claims_engine_identity(const struct airlock_claims *claims, size_t index, uint8_t out[AIRLOCK_KEY_LEN])
{
    if (index >= claims->inner->engine_count)
        return false;
    memcpy(out, claims->inner->engine[index].node.statement.identity, AIRLOCK_KEY_LEN);
    return true;
}

bool airlock_claims_engine_model(const struct airlock_claims *claims, size_t index, uint8_t out[AIRLOCK_DIGEST_LEN])
{
    if (index >= claims->inner->engine_count || !claims->inner->engine[index].node.state.has_model)
        return false;
    memcpy(out, claims->inner->engine[index].node.state.model.root, AIRLOCK_DIGEST_LEN);
    return true;
}

/* --- 3. facts to a verdict -------------------------------------------------------------------- */

struct airlock_rules *airlock_rules_parse(struct airlock_span text, struct airlock_result *why)
{
    struct policy_problem problem = {0};
    struct verifier_refusal refusal = {.code = VERIFIER_E_INTERNAL, .stage = 11, .engine = -1};
    struct airlock_rules *rules = calloc(1, sizeof *rules);
    bool ok = rules && policy_acceptance_parse(span_in(text), &rules->inner, &problem);
    if (ok) {
        refusal.code = VERIFIER_OK;
    } else if (rules) {
        refusal.code = VERIFIER_E_RULES;
        policy_problem_print(&problem, "acceptance file", refusal.note.observed, sizeof refusal.note.observed);
        verifier_note_required(&refusal.note, "an acceptance file that can be read");
        free(rules);
        rules = NULL;
    }
    result_out(why, &refusal);
    return rules;
}

void airlock_rules_free(struct airlock_rules *rules)
{
    free(rules);
}

static struct policy_seen seen_in(const struct airlock_seen *s)
{
    return (struct policy_seen){s->policy, s->keyset, s->epoch, s->policy_since, s->keyset_since, s->epoch_since};
}

int airlock_judge(const struct airlock_claims *claims, const struct airlock_rules *rules,
                  const struct airlock_seen *seen, uint64_t now, struct airlock_verdict *out)
{
    struct policy_verdict v;
    if (out->size != sizeof *out)
        return -1;
    struct policy_seen before = seen ? seen_in(seen) : (struct policy_seen){0};
    bool ok = policy_judge(claims->inner, &rules->inner, &before, now, &v);
    *out = (struct airlock_verdict){.size = sizeof *out,
                                    .valid_until = v.valid_until,
                                    .valid_by = v.valid_by,
                                    .simulated = v.simulated,
                                    .revocation_latency = v.revocation_latency,
                                    .seen = {v.seen.policy, v.seen.keyset, v.seen.epoch, v.seen.policy_since,
                                             v.seen.keyset_since, v.seen.epoch_since}};
    result_out(&out->result, &v.refusal);
    return ok ? 0 : -1;
}

/* --- sealed mode ------------------------------------------------------------------------------ */

struct airlock_sealed {
    struct verifier_sealed_reader reader;
    enum verifier_err err;
    bool begun; /* the first piece came */
    unsigned status;
    void (*piece)(void *ctx, struct airlock_span data); /* during a call */
    void *ctx;
};

/* The first chunk of an answer that is not 200 is its status, in a map: no JSON and no event stream begins like one. */
static void take_piece(void *ctx, struct span data)
{
    struct airlock_sealed *s = ctx;
    struct verifier_sealed_status status;
    bool first = !s->begun;
    s->begun = true;
    if (first && verifier_sealed_status_parse(&status, data) == VERIFIER_OK)
        s->status = status.status;
    else if (data.len > 0)
        s->piece(s->ctx, (struct airlock_span){data.data, data.len});
}

/* Seal into `w`; `*hpke` and `enc` open the answer. */
static bool seal(const struct verifier_node *node, const struct airlock_sealed_ask *ask, struct writer *w,
                 struct verifier_hpke *hpke, uint8_t enc[VERIFIER_KEY_LEN])
{
    struct verifier_sealed_head again, head = {.epoch = node->state.seal.epoch,
                                               .endpoint = span_str(ask->endpoint),
                                               .model = span_str(ask->model),
                                               .max_tokens = ask->max_tokens,
                                               .stream = ask->stream};
    struct writer bytes = writer_with_max(VERIFIER_SEALED_HEAD_MAX);
    memcpy(head.engine, node->statement.identity, sizeof head.engine);
    bool ok = RAND_bytes(head.request, sizeof head.request) == 1;
    verifier_sealed_head_encode(&bytes, &head); /* a head that does not parse again makes no sense */
    ok = ok && writer_ok(&bytes) && verifier_sealed_head_parse(&again, writer_span(&bytes)) == VERIFIER_OK &&
         verifier_sealed_request_seal(&head, node->state.seal.public, node->h_statement, node->state.policy.digest,
                                      span_in(ask->json), w, hpke, enc);
    writer_release(&bytes);
    return ok;
}

struct airlock_sealed *airlock_sealed_request(const struct airlock_claims *claims, const struct airlock_sealed_ask *ask,
                                              uint8_t **body, size_t *len)
{
    const struct verifier_node *node = &claims->inner->node;
    struct verifier_hpke hpke = {0};
    uint8_t enc[VERIFIER_KEY_LEN];
    *body = NULL;
    *len = 0;
    if (ask->size != sizeof *ask)
        return NULL;
    struct airlock_sealed *s = calloc(1, sizeof *s);
    struct writer w = writer_with_max(ask->json.len + 2 * VERIFIER_SEALED_CHUNK_MAX);
    if (s && claims->inner->sealed && node->state.has_policy && seal(node, ask, &w, &hpke, enc) &&
        (*body = malloc(w.len)) != NULL) {
        memcpy(*body, w.data, w.len);
        *len = w.len;
        s->status = 200;
        verifier_sealed_reader_init(&s->reader, &hpke, enc, take_piece, s);
    } else {
        free(s);
        s = NULL;
    }
    verifier_hpke_wipe(&hpke);
    writer_release(&w);
    return s;
}

int airlock_sealed_feed(struct airlock_sealed *sealed, struct airlock_span bytes,
                        void (*piece)(void *ctx, struct airlock_span data), void *ctx)
{
    sealed->piece = piece;
    sealed->ctx = ctx;
    sealed->err = verifier_sealed_reader_feed(&sealed->reader, span_in(bytes));
    return sealed->err == VERIFIER_OK ? 0 : -1;
}

int airlock_sealed_end(struct airlock_sealed *sealed, void (*piece)(void *ctx, struct airlock_span data), void *ctx)
{
    sealed->piece = piece;
    sealed->ctx = ctx;
    sealed->err = verifier_sealed_reader_end(&sealed->reader);
    return sealed->err == VERIFIER_OK ? 0 : -1;
}

const char *airlock_sealed_code(const struct airlock_sealed *sealed)
{
    return verifier_err_name(sealed->err);
}

unsigned airlock_sealed_status(const struct airlock_sealed *sealed)
{
    return sealed->status;
}

void airlock_sealed_free(struct airlock_sealed *sealed)
{
    if (sealed)
        verifier_sealed_reader_release(&sealed->reader);
    free(sealed);
}

/* --- 4. for people ---------------------------------------------------------------------------- */

static enum verifier_err code_in(const char *name)
{
    for (int i = 0; i < VERIFIER_ERR_COUNT; i++)
        if (strcmp(verifier_err_name((enum verifier_err)i), name) == 0)
            return (enum verifier_err)i;
    return VERIFIER_E_INTERNAL;
}

char *airlock_report(const struct airlock_claims *claims, const struct airlock_verdict *verdict)
{
    const struct airlock_result *r = &verdict->result;
    if (verdict->size != sizeof *verdict)
        return NULL;
    struct policy_verdict v = {
        .refusal = {.code = code_in(r->code), .stage = r->stage, .engine = r->engine, .inner_stage = r->inner_stage},
        .valid_until = verdict->valid_until,
        .valid_by = verdict->valid_by ? verdict->valid_by : "nothing",
        .simulated = verdict->simulated,
        .revocation_latency = verdict->revocation_latency,
        .seen = seen_in(&verdict->seen)};
    memcpy(v.refusal.note.observed, r->observed, sizeof v.refusal.note.observed);
    memcpy(v.refusal.note.required, r->required, sizeof v.refusal.note.required);
    return policy_report(claims ? claims->inner : NULL, &v);
}

const char *airlock_version(void)
{
    return AIRLOCK_VERSION;
}
