/* Does an honest node pass, and is the verdict's small print right? The attacks: test_protocol_attacks.c. */
#include <stdlib.h>

#include "policy/fleet.h"
#include "policy/report.h"
#include "tunnel/json.h"
#include "unit/run.h"
#include "unit/world.h"
#include "verifier/signed.h"

static struct world w;

static void open_world(void)
{
    world_open(&w);
}
static void close_world(void)
{
    world_close(&w);
}

static struct policy_verdict ask(struct world_node *node, enum verifier_role verifier, unsigned engines,
                                 const struct policy_seen *seen, struct verifier_claims **claims)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&s, verifier, node, 1, engines);
    world_envelope(&w, node, &s, NULL, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    struct policy_verdict v = world_judge(&w, &in, seen, claims);
    writer_release(&envelope);
    return v;
}

static void passes(struct policy_verdict v)
{
    ck_assert_msg(v.refusal.code == VERIFIER_OK, "%s at stage %d/%d, engine %d: %s / %s",
                  verifier_err_name(v.refusal.code), v.refusal.stage, v.refusal.inner_stage, v.refusal.engine,
                  v.refusal.note.observed, v.refusal.note.required);
}

START_TEST(every_pair_passes)
{
    struct verifier_claims *claims;
    struct policy_verdict v = ask(&w.proxy, VERIFIER_CLIENT, 8, NULL, &claims);
    passes(v);
    ck_assert(v.simulated);
    ck_assert_uint_eq(claims->engine_count, 2);
    ck_assert_uint_eq(v.seen.policy, 7);
    ck_assert_uint_eq(v.seen.keyset, 1);
    ck_assert_uint_eq(v.seen.epoch, 3);
    ck_assert_uint_eq(v.seen.policy_since, w.now);
    ck_assert_uint_eq(v.revocation_latency, 3660);
    char *report = policy_report(claims, &v);
    ck_assert_ptr_nonnull(strstr(report, "\"valid_by\": \"lease\""));
    ck_assert_ptr_nonnull(strstr(report, "simulated: it proves nothing"));
    free(report);
    verifier_claims_free(claims);
    passes(ask(&w.proxy, VERIFIER_CLIENT, 0, NULL, NULL));
    passes(ask(&w.engine[0], VERIFIER_CLIENT, 0, NULL, NULL)); /* sealed */
    passes(ask(&w.engine[0], VERIFIER_PROXY, 0, NULL, NULL));
    passes(ask(&w.proxy, VERIFIER_ENGINE, 0, NULL, NULL));
    passes(ask(&w.engine[1], VERIFIER_ENGINE, 0, NULL, NULL));
}
END_TEST

static void nothing_yet(struct world *unused, struct verifier_envelope *e)
{
    (void)unused;
    e->policy = (struct verifier_part){.form = VERIFIER_PART_NIL};
    e->revocations = span_of(NULL, 0);
}

START_TEST(keyd_is_asked_before_there_is_policy_lease_or_model)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct world_node *engine = &w.engine[0];
    engine->no_lease = true;
    engine->state.has_model = engine->state.has_policy = false;
    engine->state.at = 0;
    for (int keyd = 0; keyd < 2; keyd++) {
        writer_reset(&envelope);
        world_session(&s, keyd ? VERIFIER_KEYD : VERIFIER_PROXY, engine, 2, 0);
        world_envelope(&w, engine, &s, nothing_yet, &envelope);
        struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
        struct policy_verdict v = world_judge(&w, &in, NULL, NULL);
        if (keyd)
            passes(v);
        else
            ck_assert_int_eq(v.refusal.code, VERIFIER_E_NO_MODEL);
    }
    writer_release(&envelope);
}
END_TEST

START_TEST(the_verdict_ends_with_what_ends_first)
{
    w.engine[1].lease.expires = w.now + 600;
    struct policy_verdict v = ask(&w.proxy, VERIFIER_CLIENT, 8, NULL, NULL);
    passes(v);
    ck_assert_uint_eq(v.valid_until, w.now + 600);
    ck_assert_str_eq(v.valid_by, "lease");
    w.rules.evidence_age = 300;
    v = ask(&w.proxy, VERIFIER_CLIENT, 8, NULL, NULL);
    ck_assert_uint_eq(v.valid_until, w.now + 300);
    ck_assert_str_eq(v.valid_by, "age of evidence");
}
END_TEST

START_TEST(nobody_but_keyd_goes_without_a_lease)
{
    w.proxy.no_lease = true;
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_CLIENT, 0, NULL, NULL).refusal.code, VERIFIER_E_NO_LEASE);
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_ENGINE, 0, NULL, NULL).refusal.code, VERIFIER_E_NO_LEASE);
    passes(ask(&w.proxy, VERIFIER_KEYD, 0, NULL, NULL));
}
END_TEST

START_TEST(an_older_version_passes_only_in_its_grace)
{
    struct policy_seen seen = {.policy = 8, .keyset = 1, .epoch = 3, .policy_since = w.now - 10};
    w.proxy.lease.issued = w.now - 20; /* before the newer policy was first seen */
    passes(ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL));
    w.proxy.lease.issued = w.now - 10; /* keyd knew the newer one */
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL).refusal.code, VERIFIER_E_POLICY_OLD);
    w.proxy.lease.issued = w.now - 2000;
    seen.policy_since = w.now - 1800; /* the policy's 30 minutes are over */
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL).refusal.code, VERIFIER_E_POLICY_OLD);
    seen.policy_since = 0;
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL).refusal.code, VERIFIER_E_POLICY_OLD);
}
END_TEST

START_TEST(parts_by_digest_are_taken_only_when_listed_and_held)
{
    struct world_session s;
    struct verifier_challenge c = {.verifier = VERIFIER_PROXY, .attester = VERIFIER_ENGINE, .have_count = 1};
    struct writer bytes = writer_with_max(VERIFIER_ENVELOPE_MAX), again = writer_with_max(VERIFIER_ENVELOPE_MAX),
                  challenge = writer_with_max(VERIFIER_CHALLENGE_MAX);
    static struct verifier_envelope e;
    struct verifier_held held = {.bytes = writer_span(&w.policy_part)};
    verifier_sha512(held.digest, held.bytes);
    memcpy(c.have[0], held.digest, 64);
    world_session(&s, VERIFIER_PROXY, &w.engine[0], 3, 0);
    verifier_challenge_encode(&challenge, &c);
    memcpy(s.challenge, challenge.data, challenge.len);
    s.challenge_len = challenge.len;
    world_envelope(&w, &w.engine[0], &s, NULL, &bytes);
    ck_assert_int_eq(verifier_envelope_parse(&e, writer_span(&bytes)), VERIFIER_OK);
    e.policy = (struct verifier_part){.form = VERIFIER_PART_DIGEST};
    memcpy(e.policy.digest, held.digest, 64);
    verifier_envelope_encode(&again, &e);
    struct verifier_input in = world_input(&w, &s, writer_span(&again));
    ck_assert_int_eq(world_judge(&w, &in, NULL, NULL).refusal.code, VERIFIER_E_PART_NOT_ASKED);
    in.held = &held;
    in.held_count = 1;
    passes(world_judge(&w, &in, NULL, NULL));
    writer_release(&bytes);
    writer_release(&again);
    writer_release(&challenge);
}
END_TEST

/* --- rules about machines: the engine alone, as a proxy asks --------------------------------------------- */

static enum verifier_err engine_code(void)
{
    return ask(&w.engine[0], VERIFIER_PROXY, 0, NULL, NULL).refusal.code;
}

START_TEST(platforms_count_line_by_line)
{
    struct policy_hardware *h = &w.rules.hardware;
    h->line_count = 1;
    h->line[0] = (struct policy_line){.name = "Turin"};
    ck_assert_int_eq(engine_code(), VERIFIER_E_PRODUCT_NOT_ACCEPTED);
    h->line[0] = (struct policy_line){.name = "Genoa", .snp = 23, .microcode = 84, .bootloader = 10};
    ck_assert_int_eq(engine_code(), VERIFIER_OK);
    h->line[0].snp = 24;
    ck_assert_int_eq(engine_code(), VERIFIER_E_TCB_TOO_OLD);
    h->line[0].snp = 23;
    h->line[0].microcode = 85;
    ck_assert_int_eq(engine_code(), VERIFIER_E_TCB_TOO_OLD);
    w.rules.engine.measurement[0].registers = 1; /* a processor without such registers cannot have the right ones */
    h->line[0].microcode = 0;
    ck_assert_int_eq(engine_code(), VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
}
END_TEST

static void edit_fleet(struct world *unused, struct verifier_envelope *e)
{
    static struct policy_fleet fleet;
    static struct writer signed_fleet;
    struct writer body = writer_with_max(4096);
    (void)unused;
    fleet.version = 1;
    fleet.snp_chips.count = 1;
    fleet.snp_chips.id[0] = span_of(w.engine[0].chip_id, 64);
    fleet.expires = w.now + 50;
    policy_fleet_encode(&body, &fleet);
    writer_release(&signed_fleet);
    signed_fleet = writer_with_max(4096);
    ck_assert(verifier_signed_make(&signed_fleet, VERIFIER_SIGNED_FLEET, writer_span(&body), w.fleet.seed));
    writer_release(&body);
    e->fleet = writer_span(&signed_fleet);
}

static struct policy_verdict with_fleet(uint64_t later)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&s, VERIFIER_PROXY, &w.engine[0], 1, 0);
    world_envelope(&w, &w.engine[0], &s, edit_fleet, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    in.now += later;
    struct policy_verdict v = world_judge(&w, &in, NULL, NULL);
    writer_release(&envelope);
    return v;
}

START_TEST(a_machine_counts_by_list_by_fleet_or_by_simulation)
{
    struct policy_hardware *h = &w.rules.hardware;
    h->chip_count = 0;
    ck_assert_int_eq(engine_code(), VERIFIER_E_HARDWARE_NOT_ACCEPTED);
    ck_assert_int_eq(with_fleet(0).refusal.code, VERIFIER_E_SIGNED_KEY); /* nobody named the fleet's key */
    w.rules.fleet_by_policy = true;
    struct policy_verdict v = with_fleet(0);
    passes(v);
    ck_assert_uint_eq(v.valid_until, w.now + 50);
    ck_assert_str_eq(v.valid_by, "fleet file");
    ck_assert_int_eq(with_fleet(50).refusal.code, VERIFIER_E_HARDWARE_NOT_ACCEPTED);
    w.rules.fleet_by_policy = false;
    w.rules.fleet_count = 1;
    memcpy(w.rules.fleet[0], w.fleet.public, 32);
    passes(with_fleet(0));
    w.rules.fleet_count = 0;
    w.rules.hardware_any = true; /* simulated evidence only, which this is */
    ck_assert_int_eq(engine_code(), VERIFIER_OK);
}
END_TEST

/* Every seventh byte of an engine's evidence, another bit each time: all of it is under some signature. */
START_TEST(no_byte_of_the_evidence_may_change)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    size_t tried = 0;
    world_session(&s, VERIFIER_PROXY, &w.engine[0], 1, 0);
    world_envelope(&w, &w.engine[0], &s, NULL, &envelope);
    for (size_t at = 0; at < envelope.len; at += 7) {
        envelope.data[at] ^= (uint8_t)(1u << at % 8);
        struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
        ck_assert_msg(world_judge(&w, &in, NULL, NULL).refusal.code != VERIFIER_OK, "byte %zu", at);
        envelope.data[at] ^= (uint8_t)(1u << at % 8);
        tried++;
    }
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    passes(world_judge(&w, &in, NULL, NULL));
    ck_assert_uint_gt(tried, 1000);
    writer_release(&envelope);
}
END_TEST

/* Cut anywhere, it is refused at stage 1. */
START_TEST(cut_evidence_is_refused)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&s, VERIFIER_CLIENT, &w.proxy, 1, 8);
    world_envelope(&w, &w.proxy, &s, NULL, &envelope);
    for (size_t len = 0; len < envelope.len; len += 1 + len / 64) {
        uint8_t *exact = malloc(len + 1); /* a block of its own: a sanitizer sees a read past it */
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, envelope.data, len);
        struct verifier_input in = world_input(&w, &s, span_of(exact, len));
        ck_assert_int_eq(world_judge(&w, &in, NULL, NULL).refusal.stage, 1);
        free(exact);
    }
    writer_release(&envelope);
}
END_TEST

START_TEST(rules_of_nothing_accept_nothing)
{
    struct policy_rules zero = {0};
    w.rules = zero;
    ck_assert_int_eq(engine_code(), VERIFIER_E_SIMULATED);
    w.rules.simulated = true;
    ck_assert_int_eq(engine_code(), VERIFIER_E_OWNER_NOT_ACCEPTED);
}
END_TEST

START_TEST(key_sets_follow_one_another)
{
    struct policy_seen seen = {.policy = 7, .keyset = 2, .epoch = 3};
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL).refusal.code, VERIFIER_E_KEYSET_OLD);
    world_sign_policy(&w, 2, w.owner, 1);
    struct policy_verdict v = ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL);
    passes(v);
    ck_assert_uint_eq(v.seen.keyset, 2);
    world_sign_policy(&w, 2, &w.revoker, 1); /* its role is another */
    ck_assert_int_eq(ask(&w.proxy, VERIFIER_CLIENT, 0, &seen, NULL).refusal.code, VERIFIER_E_SIGNED_KEY);
}
END_TEST

/* A program that links the verifier may have given jansson an allocator of its own. */
START_TEST(a_report_is_released_by_free)
{
    struct policy_verdict v = {0};
    tunnel_json_wipe_memory();
    char *report = policy_report(NULL, &v);
    ck_assert_ptr_nonnull(strstr(report, "\"engines\""));
    free(report);
    json_set_alloc_funcs(malloc, free);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, open_world, close_world);
    tcase_add_test(t, a_report_is_released_by_free);
    tcase_add_test(t, every_pair_passes);
    tcase_add_test(t, keyd_is_asked_before_there_is_policy_lease_or_model);
    tcase_add_test(t, the_verdict_ends_with_what_ends_first);
    tcase_add_test(t, nobody_but_keyd_goes_without_a_lease);
    tcase_add_test(t, an_older_version_passes_only_in_its_grace);
    tcase_add_test(t, platforms_count_line_by_line);
    tcase_add_test(t, a_machine_counts_by_list_by_fleet_or_by_simulation);
    tcase_add_test(t, no_byte_of_the_evidence_may_change);
    tcase_add_test(t, cut_evidence_is_refused);
    tcase_add_test(t, rules_of_nothing_accept_nothing);
    tcase_add_test(t, key_sets_follow_one_another);
    tcase_add_test(t, parts_by_digest_are_taken_only_when_listed_and_held);
}

RUN("protocol_check", add_tests)
