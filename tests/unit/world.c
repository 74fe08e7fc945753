#include "unit/world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "policy/keyset.h"
#include "policy/revocations.h"
#include "simulated_root.h"
#include "tunnel/attest/measure.h"
#include "tunnel/attest/producer.h"
#include "tunnel/attest/simulated/producer.h"
#include "verifier/anchors/test.h"
#include "verifier/ed25519.h"
#include "verifier/hpke.h"
#include "verifier/leaf.h"
#include "verifier/signed.h"
#include "verifier/tree.h"

/* --- keys and documents ------------------------------------------------------------------------------ */

static void signing_key(struct world_key *key, const char *name)
{
    uint8_t digest[64];
    verifier_sha512(digest, span_str(name));
    memcpy(key->seed, digest, 32);
    ck_assert(verifier_ed25519_public(key->seed, key->public));
}

static void exchange_key(struct world_key *key, const char *name)
{
    uint8_t digest[64];
    verifier_sha512(digest, span_str(name));
    memcpy(key->seed, digest, 32);
    ck_assert(verifier_x25519_public(key->seed, key->public));
}

static void sign(struct writer *out, enum verifier_signed_type type, struct span body, const struct world_key *keys,
                 size_t count)
{
    struct verifier_signed obj = {.type = type, .body = body, .sig_count = count};
    for (size_t i = 0; i < count; i++)
        ck_assert(verifier_signed_sign(&obj.sigs[i], type, body, keys[i].seed));
    verifier_signed_encode(out, &obj);
    ck_assert(writer_ok(out));
}

static void add_key(struct policy_keyset *set, const struct world_key *key, enum policy_key_role role)
{
    struct policy_keyset_key *k = &set->key[set->key_count++];
    memcpy(k->public, key->public, 32);
    k->role_count = 1;
    k->role[0] = role;
}

static void write_policy_text(struct world *w)
{
    char keyd[65], fleet[65], proxy[97], engine[97], root[129];
    policy_hex_print(span_of(w->keyd.public, 32), keyd);
    policy_hex_print(span_of(w->fleet.public, 32), fleet);
    policy_hex_print(span_of(w->proxy.measurement, 48), proxy);
    policy_hex_print(span_of(w->engine[0].measurement, 48), engine);
    policy_hex_print(span_of(w->engine[0].state.model.root, 64), root);
    writer_reset(&w->policy_text);
    writer_printf(&w->policy_text,
                  "version = %u;\nnot_before = \"2026-01-01\";\nnot_after = \"%s\";\nlease_max = \"4h\";\n"
                  "version_grace = \"30m\";\nkeyd = [ \"%s\" ];\nfleet = [ \"%s\" ];\nsimulated = true;\n"
                  "models = ( { name = \"tiny\"; root = \"%s\"; } );\n"
                  "programs = { proxy = { images = ( { tee = \"snp\"; measurement = \"%s\"; } ); };\n"
                  "  engine = { images = ( { tee = \"snp\"; measurement = \"%s\"; } ); }; };\n"
                  "hardware = { platforms = ( { line = \"Genoa\"; } ); };\n"
                  "requests = { endpoints = [ \"chat\" ]; };\n",
                  w->policy_version, w->policy_not_after, keyd, fleet, root, proxy, engine);
    ck_assert(writer_ok(&w->policy_text));
}

static void follow_policy(struct world *w, struct world_node *node)
{
    node->state.has_policy = true;
    memcpy(node->state.policy.digest, w->policy_digest, 64);
    node->state.policy.version = w->policy_version;
    memcpy(node->statement.owner, w->owner_digest, 64);
    node->lease = (struct policy_lease){
        .role = node->role, .policy = node->state.policy, .epoch = 3, .issued = w->now - 60, .expires = w->now + 3600};
    memcpy(node->lease.identity, node->statement.identity, 32);
}

void world_sign_policy(struct world *w, unsigned keyset_version, const struct world_key *signer, size_t signers)
{
    struct policy_keyset first = {.version = 1, .m = {1, 1}}, second;
    struct verifier_policy_part part = {.keyset_count = keyset_version};
    struct writer body1 = writer_with_max(4096), body2 = writer_with_max(4096), policy = writer_with_max(32768);
    struct writer set1 = writer_with_max(4096), set2 = writer_with_max(4096);
    add_key(&first, &w->owner[0], POLICY_KEY_SIGNER);
    add_key(&first, &w->owner[1], POLICY_KEY_SIGNER);
    add_key(&first, &w->revoker, POLICY_KEY_REVOKER);
    policy_keyset_encode(&body1, &first);
    verifier_sha512(w->owner_digest, writer_span(&body1));
    sign(&set1, VERIFIER_SIGNED_KEYSET, writer_span(&body1), w->owner, 1);
    second = first;
    second.version = 2;
    second.has_previous = true;
    memcpy(second.previous, w->owner_digest, 64);
    policy_keyset_encode(&body2, &second);
    sign(&set2, VERIFIER_SIGNED_KEYSET, writer_span(&body2), w->owner, 1);
    write_policy_text(w);
    verifier_sha512(w->policy_digest, writer_span(&w->policy_text));
    sign(&policy, VERIFIER_SIGNED_POLICY, writer_span(&w->policy_text), signer, signers);
    part.keyset[0] = writer_span(&set1);
    part.keyset[1] = writer_span(&set2);
    part.policy = writer_span(&policy);
    writer_reset(&w->policy_part);
    verifier_policy_part_encode(&w->policy_part, &part);
    ck_assert(writer_ok(&w->policy_part));
    follow_policy(w, &w->proxy);
    for (size_t i = 0; i < WORLD_ENGINES; i++)
        follow_policy(w, &w->engine[i]);
    struct writer *all[] = {&body1, &body2, &policy, &set1, &set2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        writer_release(all[i]);
}

void world_revoke(struct world *w, uint32_t epoch, enum policy_revocation_kind kind, struct span value)
{
    static struct policy_revocations list;
    struct writer body = writer_with_max(4096);
    list.epoch = epoch;
    list.count = value.len > 0;
    list.entry[0] = (struct policy_revocation){.kind = kind, .value = value};
    policy_revocations_encode(&body, &list);
    writer_reset(&w->revocations);
    sign(&w->revocations, VERIFIER_SIGNED_REVOCATIONS, writer_span(&body), &w->revoker, 1);
    writer_release(&body);
}

/* --- nodes --------------------------------------------------------------------------------------------- */

static void open_node(struct world *w, struct world_node *node, enum verifier_role role, unsigned number)
{
    static const char *const proxy_names[] = {"proxy"}, *const engine_names[] = {"engine"},
                             *const paths[] = {"/proc/self/exe"};
    struct attester_producer_config config = {
        .role = role, .names = role == VERIFIER_PROXY ? proxy_names : engine_names, .paths = paths, .count = 1};
    char why[256], name[64];
    node->role = role;
    node->chip = attester_producer()->open(&config, why);
    ck_assert_msg(node->chip != NULL, "%s", why);
    ck_assert(attester_measure(config.names, paths, 1, node->measurement));
    attester_simulated_chip(role, node->chip_id);
    snprintf(name, sizeof name, "%s %u identity", verifier_role_names[role], number);
    signing_key(&node->identity, name);
    snprintf(name, sizeof name, "%s %u release", verifier_role_names[role], number);
    exchange_key(&node->release, name);
    snprintf(name, sizeof name, "%s %u seal", verifier_role_names[role], number);
    exchange_key(&node->seal, name);
    snprintf(node->config, sizeof node->config, "listen = 127.0.0.1:%u\n", 8000 + number);
    node->statement = (struct verifier_statement){
        .role = role, .program = span_str("airlock-test"), .version = span_str("0.1.0"), .kernels = span_of(NULL, 0)};
    memcpy(node->statement.identity, node->identity.public, 32);
    memcpy(node->statement.release, node->release.public, 32);
    verifier_sha512(node->statement.config, span_str(node->config));
    node->state = (struct verifier_state){.stage = VERIFIER_STAGE_ALL, .at = w->now - 10};
    if (role == VERIFIER_ENGINE) {
        node->statement.kernels = span_str("cpu-test");
        node->state.has_model = node->state.has_seal = true;
        memset(node->state.model.root, 0x4d, 64);
        node->state.model.load_options = span_str("");
        memcpy(node->state.seal.public, node->seal.public, 32);
        node->state.seal.epoch = 1;
        node->checked_at = w->now - 30;
        world_session(&node->session, VERIFIER_PROXY, node, 100 + number, 0);
    }
}

static void open_rules(struct world *w)
{
    struct policy_rules *r = &w->rules;
    *r = (struct policy_rules){.simulated = true, .owner_count = 1, .model_count = 1};
    memcpy(r->owner[0], w->owner_digest, 64);
    memcpy(r->model[0], w->engine[0].state.model.root, 64);
    r->proxy.count = r->engine.count = 1;
    r->proxy.stage = r->engine.stage = VERIFIER_STAGE_ALL;
    memcpy(r->proxy.measurement[0].digest, w->proxy.measurement, 48);
    memcpy(r->engine.measurement[0].digest, w->engine[0].measurement, 48);
    r->hardware.chip_count = 2;
    memcpy(r->hardware.chip[0], w->proxy.chip_id, 64);
    memcpy(r->hardware.chip[1], w->engine[0].chip_id, 64);
}

void world_open(struct world *w)
{
    struct verifier_anchor root = {.kind = VERIFIER_ANCHOR_AMD, .line = "Genoa", .simulated = true};
    *w = (struct world){
        .now = (uint64_t)time(NULL), .policy_version = 7, .policy_not_after = "2090-01-01", .shown = WORLD_ENGINES};
    w->policy_text = w->policy_part = w->revocations = writer_with_max(1u << 16);
    verifier_anchors_reset();
    ck_assert(verifier_anchors_inject(simulated_root_sha256, &root));
    signing_key(&w->owner[0], "owner 0");
    signing_key(&w->owner[1], "owner 1");
    signing_key(&w->revoker, "revoker");
    signing_key(&w->keyd, "keyd");
    signing_key(&w->fleet, "fleet");
    signing_key(&w->stranger, "stranger");
    open_node(w, &w->proxy, VERIFIER_PROXY, 0);
    for (unsigned i = 0; i < WORLD_ENGINES; i++)
        open_node(w, &w->engine[i], VERIFIER_ENGINE, 1 + i);
    world_sign_policy(w, 1, w->owner, 1);
    world_revoke(w, 3, POLICY_REVOKED_IDENTITY, span_of(NULL, 0));
    open_rules(w);
}

void world_close(struct world *w)
{
    attester_producer()->close(w->proxy.chip);
    for (size_t i = 0; i < WORLD_ENGINES; i++)
        attester_producer()->close(w->engine[i].chip);
    writer_release(&w->policy_text);
    writer_release(&w->policy_part);
    writer_release(&w->revocations);
    verifier_anchors_reset();
}

/* --- sessions and envelopes ------------------------------------------------------------------------------ */

void world_acceptance(const struct world *w, const uint8_t owner[64], char *out, size_t cap)
{
    char hex[129], proxy[97], engine[97], chips[2][129];
    policy_hex_print(span_of(owner, 64), hex);
    policy_hex_print(span_of(w->proxy.measurement, 48), proxy);
    policy_hex_print(span_of(w->engine[0].measurement, 48), engine);
    policy_hex_print(span_of(w->proxy.chip_id, 64), chips[0]);
    policy_hex_print(span_of(w->engine[0].chip_id, 64), chips[1]);
    snprintf(out, cap,
             "simulated = true;\nowners = [ \"%s\" ];\npolicy_min = 5;\n"
             "programs = { proxy = { images = ( { tee = \"snp\"; measurement = \"%s\"; } ); };\n"
             "  engine = { images = ( { tee = \"snp\"; measurement = \"%s\"; } ); }; };\n"
             "hardware = { platforms = ( { line = \"Genoa\"; } ); snp_chips = [ \"%s\", \"%s\" ]; };\n",
             hex, proxy, engine, chips[0], chips[1]);
}

void world_session(struct world_session *s, enum verifier_role verifier, const struct world_node *node, unsigned number,
                   unsigned engines)
{
    struct verifier_challenge c = {.verifier = verifier, .attester = node->role, .engines_max = engines};
    struct writer w = writer_with_max(sizeof s->challenge);
    uint8_t random[64];
    char name[32];
    snprintf(name, sizeof name, "session %u", number);
    verifier_sha512(random, span_str(name));
    *s = (struct world_session){.verifier = verifier, .attester = node->role};
    memcpy(c.nonce, random, 32);
    memcpy(s->exporter, random + 32, 32);
    memset(s->spki, (int)number, sizeof s->spki);
    verifier_challenge_encode(&w, &c);
    ck_assert(writer_ok(&w));
    memcpy(s->challenge, w.data, w.len);
    s->challenge_len = w.len;
    writer_release(&w);
}

static struct span challenge_of(const struct world_session *s)
{
    return span_of(s->challenge, s->challenge_len);
}

/* The proxy's tree of engines: leaves into the state, entries into the envelope. */
static void show_engines(struct world *w, struct verifier_envelope *e, struct writer inner[WORLD_ENGINES],
                         uint8_t leaves[WORLD_ENGINES][64])
{
    for (size_t i = 0; i < WORLD_ENGINES; i++) {
        struct world_node *engine = &w->engine[i];
        struct verifier_engine_entry *entry = &e->engines[i];
        struct verifier_envelope parsed;
        uint8_t quote[64], statement[64], state[64];
        inner[i] = writer_with_max(VERIFIER_ENVELOPE_MAX);
        world_envelope(w, engine, &engine->session, NULL, &inner[i]);
        ck_assert_int_eq(verifier_envelope_parse(&parsed, writer_span(&inner[i])), VERIFIER_OK);
        verifier_sha512(quote, parsed.quote);
        verifier_sha512(statement, parsed.statement);
        verifier_sha512(state, parsed.state);
        *entry = (struct verifier_engine_entry){.challenge = challenge_of(&engine->session),
                                                .spki = span_of(engine->session.spki, WORLD_SPKI_LEN),
                                                .checked_at = engine->checked_at,
                                                .envelope = writer_span(&inner[i])};
        memcpy(entry->exporter, engine->session.exporter, 32);
        verifier_engine_leaf(leaves[i], entry->challenge, entry->spki, entry->exporter, quote, statement, state,
                             entry->checked_at);
        entry->place.index = (uint32_t)i;
    }
    for (size_t i = 0; i < WORLD_ENGINES; i++)
        verifier_tree_path((const uint8_t(*)[64])leaves, WORLD_ENGINES, i, e->engines[i].place.path,
                           &e->engines[i].place.path_len);
    e->engine_count = w->shown;
}

/* A tree of three sessions, ours in the middle. */
static void quote_leaf(struct world_node *node, const struct world_session *s, const uint8_t h_statement[64],
                       const uint8_t h_state[64], struct verifier_envelope *e, struct writer parts[3])
{
    uint8_t leaves[3][64] = {{1}, {2}, {3}}, root[64], data[64];
    if (s->verifier == VERIFIER_CLIENT && s->attester == VERIFIER_ENGINE)
        verifier_sealed_leaf(leaves[1], challenge_of(s), node->state.seal.public);
    else
        verifier_leaf(leaves[1], challenge_of(s), span_of(s->spki, WORLD_SPKI_LEN), s->exporter);
    e->tree_size = 3;
    e->place.index = 1;
    ck_assert_int_eq(verifier_tree_root((const uint8_t(*)[64])leaves, 3, root), VERIFIER_OK);
    verifier_tree_path((const uint8_t(*)[64])leaves, 3, 1, e->place.path, &e->place.path_len);
    verifier_report_data(data, 3, root, h_statement, h_state);
    if (node->quote) {
        node->quote(node, data, e, parts);
        return;
    }
    ck_assert_int_eq(attester_producer()->quote(node->chip, data, &parts[0], &parts[1], &parts[2]), 0);
    e->tee = VERIFIER_TEE_SNP;
    e->quote = writer_span(&parts[0]);
    e->chain = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&parts[1])};
    e->collateral = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&parts[2])};
}

static void add_lease(struct world *w, struct world_node *node, struct verifier_envelope *e, struct writer *lease)
{
    struct writer body = writer_with_max(VERIFIER_LEASE_MAX);
    *lease = writer_with_max(VERIFIER_LEASE_MAX);
    if (!node->no_lease) {
        policy_lease_encode(&body, &node->lease);
        sign(lease, VERIFIER_SIGNED_LEASE, writer_span(&body), &w->keyd, 1);
        e->lease = writer_span(lease);
    }
    writer_release(&body);
}

/* A chain part that says nothing: fake devices have no certificates. */
static const uint8_t device_chain[] = {0x91, 0xc4, 0x01, 0x00};

void world_device_report(char out[96], const char *ueid, uint32_t tree_size, const uint8_t tree_root[64])
{
    uint8_t nonce[32];
    char hex[65];
    verifier_device_nonce(nonce, tree_size, tree_root);
    policy_hex_print(span_of(nonce, 32), hex);
    snprintf(out, 96, "%s %s", hex, ueid);
}

void world_devices(struct world *w, struct world_node *node, const char *const *ueids)
{
    struct verifier_state *s = &node->state;
    uint8_t items[4][64];
    s->has_devices = true;
    s->cc = VERIFIER_CC_ON;
    s->devices.tree_size = 3;
    memset(s->devices.tree_root, 0x7e, 64);
    s->devices.at = s->at;
    for (node->device_count = 0; ueids[node->device_count]; node->device_count++) {
        char *report = node->device[node->device_count];
        world_device_report(report, ueids[node->device_count], s->devices.tree_size, s->devices.tree_root);
        verifier_device_item(items[node->device_count], span_str(report), span_of(device_chain, sizeof device_chain));
    }
    s->devices.count = (unsigned)node->device_count;
    verifier_devices_digest(s->devices.digest, (const uint8_t(*)[64])items, node->device_count);
    w->rules.gpus.max = 4;
    w->rules.unknown_is_report = true; /* fake devices have no driver */
}

static void add_devices(const struct world_node *node, struct verifier_envelope *e)
{
    e->device_count = node->device_count;
    for (size_t i = 0; i < node->device_count; i++)
        e->devices[i] = (struct verifier_device_part){
            .report = span_str(node->device[i]),
            .chain = {.form = VERIFIER_PART_BYTES, .bytes = span_of(device_chain, sizeof device_chain)}};
}

void world_envelope(struct world *w, struct world_node *node, const struct world_session *s,
                    void (*edit)(struct world *w, struct verifier_envelope *e), struct writer *out)
{
    static struct verifier_envelope nested[2]; /* one of a proxy, one of an engine inside it */
    struct verifier_envelope *e = &nested[node->role == VERIFIER_ENGINE];
    struct writer inner[WORLD_ENGINES] = {{0}}, parts[3], statement = writer_with_max(VERIFIER_STATEMENT_MAX),
                  state = writer_with_max(VERIFIER_STATE_MAX), lease;
    uint8_t leaves[WORLD_ENGINES][64], h_statement[64], h_state[64];
    struct verifier_challenge c;
    parts[0] = parts[1] = parts[2] = writer_with_max(VERIFIER_PART_MAX);
    ck_assert_int_eq(verifier_challenge_parse(&c, challenge_of(s)), VERIFIER_OK);
    *e = (struct verifier_envelope){.has_engines = c.engines_max > 0, .config = span_str(node->config)};
    if (e->has_engines) {
        show_engines(w, e, inner, leaves);
        node->state.has_serves = true;
        node->state.serves.count = WORLD_ENGINES;
        ck_assert_int_eq(verifier_tree_root((const uint8_t(*)[64])leaves, WORLD_ENGINES, node->state.serves.root),
                         VERIFIER_OK);
    }
    verifier_statement_encode(&statement, &node->statement);
    verifier_state_encode(&state, &node->state);
    e->statement = writer_span(&statement);
    e->state = writer_span(&state);
    verifier_sha512(h_statement, e->statement);
    verifier_sha512(h_state, e->state);
    quote_leaf(node, s, h_statement, h_state, e, parts);
    e->policy = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&w->policy_part)};
    e->revocations = writer_span(&w->revocations);
    add_lease(w, node, e, &lease);
    add_devices(node, e);
    if (edit)
        edit(w, e);
    verifier_envelope_encode(out, e);
    ck_assert(writer_ok(out));
    struct writer *all[] = {&inner[0], &inner[1], &parts[0], &parts[1], &parts[2], &statement, &state, &lease};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        writer_release(all[i]);
}

struct verifier_input world_input(const struct world *w, const struct world_session *s, struct span envelope)
{
    bool sealed = s->verifier == VERIFIER_CLIENT && s->attester == VERIFIER_ENGINE;
    return (struct verifier_input){.envelope = envelope,
                                   .challenge = challenge_of(s),
                                   .spki = span_of(s->spki, WORLD_SPKI_LEN),
                                   .exporter = sealed ? NULL : s->exporter,
                                   .session = {.tls13 = true, .finished = true},
                                   .verifier = s->verifier,
                                   .attester = s->attester,
                                   .now = w->now};
}

struct policy_verdict world_judge(const struct world *w, const struct verifier_input *in,
                                  const struct policy_seen *seen, struct verifier_claims **claims)
{
    struct policy_verdict verdict = {0};
    struct verifier_claims *c = verifier_check(in, &verdict.refusal);
    if (c)
        (void)!policy_judge(c, &w->rules, seen, in->now, &verdict);
    if (claims)
        *claims = c;
    else
        verifier_claims_free(c);
    return verdict;
}
