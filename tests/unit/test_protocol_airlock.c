/* Does the facade carry a client from challenge to verdict, refuse what makes no sense, and never crash on the way?
 * What it decides is tested where it is decided: test_protocol_check.c, test_protocol_attacks.c. */
#include "verifier/airlock.h"
#include "verifier/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/run.h"
#include "unit/world.h"
#include "verifier/sealed.h"

static const uint8_t nonce[32] = {1, 2, 3};

START_TEST(a_challenge_is_made_or_refused)
{
    uint8_t out[AIRLOCK_CHALLENGE_MAX], have[2][AIRLOCK_DIGEST_LEN] = {{1}, {2}};
    size_t len;
    struct airlock_ask ask = {.size = sizeof ask,
                              .verifier = AIRLOCK_CLIENT,
                              .attester = AIRLOCK_PROXY,
                              .nonce = nonce,
                              .engines = true,
                              .engines_max = 8,
                              .model = "smollm2"};
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), 0);
    ck_assert_uint_gt(len, 80);
    ck_assert_int_eq(out[0], 0x86);
    ck_assert_int_eq(airlock_challenge(&ask, out, len - 1, &len), -1);
    ck_assert_uint_eq(len, 0);
    ask.engines_max = 9;
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), -1);
    ask.engines_max = 1;
    ask.attester = AIRLOCK_ENGINE; /* an engine shows no engines */
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), -1);
    ask.engines = false;
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), 0);
    ask.have = (const uint8_t(*)[AIRLOCK_DIGEST_LEN])have;
    ask.have_count = 2;
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), 0);
    have[1][0] = 1; /* the same digest twice */
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), -1);
    ask.have_count = 33;
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), -1);
}
END_TEST

START_TEST(nonsense_is_refused_with_a_reason)
{
    static const uint8_t rubbish[] = {0xde, 0x00, 0x10, 0xc1};
    uint8_t challenge[AIRLOCK_CHALLENGE_MAX], exporter[32] = {0};
    size_t len;
    struct airlock_ask ask = {
        .size = sizeof ask, .verifier = AIRLOCK_CLIENT, .attester = AIRLOCK_PROXY, .nonce = nonce};
    struct airlock_result why;
    ck_assert_int_eq(airlock_challenge(&ask, challenge, sizeof challenge, &len), 0);
    struct airlock_input in = {.size = sizeof in,
                               .envelope = {rubbish, sizeof rubbish},
                               .challenge = {challenge, len},
                               .exporter = exporter,
                               .verifier = AIRLOCK_CLIENT,
                               .attester = AIRLOCK_PROXY,
                               .now = 1795255200};
    ck_assert_ptr_null(airlock_check(&in, &why));
    ck_assert_str_eq(why.code, "type");
    ck_assert_int_eq(why.stage, 1);
    ck_assert_int_eq(why.engine, -1);
    ck_assert_uint_gt(strlen(why.remedy), 10);
    in.envelope.len = 0;
    ck_assert_ptr_null(airlock_check(&in, &why));
    ck_assert_str_eq(why.code, "truncated");
    in.held_count = 33;
    ck_assert_ptr_null(airlock_check(&in, NULL));
    airlock_claims_free(NULL);
}
END_TEST

/* A struct of another version of the header, at every place that takes one. */
START_TEST(a_size_that_is_not_known_is_refused)
{
    uint8_t out[AIRLOCK_CHALLENGE_MAX];
    size_t len;
    struct airlock_ask ask = {.size = sizeof ask, .attester = AIRLOCK_PROXY, .nonce = nonce};
    struct airlock_input in = {.size = sizeof in};
    struct airlock_result why;
    struct airlock_verdict verdict = {.size = sizeof verdict + 1, .valid_until = 7};
    ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), 0);
    for (int i = 0; i < 3; i++) {
        ask.size = i == 0 ? 0 : sizeof ask + (i == 1 ? 8 : (size_t)-8);
        in.size = i == 0 ? 0 : sizeof in + (i == 1 ? 8 : (size_t)-8);
        ck_assert_int_eq(airlock_challenge(&ask, out, sizeof out, &len), -1);
        ck_assert_ptr_null(airlock_check(&in, &why));
        ck_assert_str_eq(why.code, "struct_size");
        ck_assert_ptr_null(airlock_check(&in, NULL));
    }
    ck_assert_int_eq(airlock_judge(NULL, NULL, NULL, 1, &verdict), -1);
    ck_assert_uint_eq(verdict.valid_until, 7); /* untouched */
    ck_assert_ptr_null(airlock_report(NULL, &verdict));
}
END_TEST

START_TEST(rules_that_cannot_be_read_say_where)
{
    static const char text[] = "simulated = true;\nownerz = [ ];\n";
    struct airlock_result why;
    ck_assert_ptr_null(airlock_rules_parse((struct airlock_span){(const uint8_t *)text, sizeof text - 1}, &why));
    ck_assert_str_eq(why.code, "rules");
    ck_assert_ptr_nonnull(strstr(why.observed, "acceptance file:"));
    airlock_rules_free(NULL);
}
END_TEST

START_TEST(a_refusal_can_be_reported)
{
    struct airlock_verdict verdict = {.size = sizeof verdict, .result = {.code = "no_lease", .stage = 9, .engine = -1}};
    char *report = airlock_report(NULL, &verdict);
    ck_assert_ptr_nonnull(report);
    ck_assert_ptr_nonnull(strstr(report, "\"code\": \"no_lease\""));
    ck_assert_ptr_nonnull(strstr(report, "\"remedy\""));
    free(report);
    ck_assert_uint_gt(strlen(airlock_version()), 2);
}
END_TEST

static struct world w;

static struct airlock_span span_out(struct span s)
{
    return (struct airlock_span){s.data, s.len};
}

/* An acceptance file for the test world, by this owner's digest. */
static struct airlock_rules *accept(const uint8_t owner[64])
{
    char text[4096];
    struct airlock_result why;
    world_acceptance(&w, owner, text, sizeof text);
    struct airlock_rules *rules = airlock_rules_parse(span_out(span_str(text)), &why);
    ck_assert_msg(rules != NULL, "%s", why.observed);
    return rules;
}

/* The whole way as a client goes it; NULL claims never come out. */
static struct airlock_claims *attest(struct writer *envelope)
{
    struct world_session s;
    struct airlock_result why;
    struct airlock_ask ask = {.size = sizeof ask,
                              .verifier = AIRLOCK_CLIENT,
                              .attester = AIRLOCK_PROXY,
                              .nonce = nonce,
                              .engines = true,
                              .engines_max = 4};
    world_session(&s, VERIFIER_CLIENT, &w.proxy, 1, 4);
    ck_assert_int_eq(airlock_challenge(&ask, s.challenge, sizeof s.challenge, &s.challenge_len), 0);
    world_envelope(&w, &w.proxy, &s, NULL, envelope);
    struct airlock_input in = {.size = sizeof in,
                               .envelope = span_out(writer_span(envelope)),
                               .challenge = {s.challenge, s.challenge_len},
                               .spki = {s.spki, sizeof s.spki},
                               .exporter = s.exporter,
                               .session = {.tls13 = true, .finished = true},
                               .verifier = AIRLOCK_CLIENT,
                               .attester = AIRLOCK_PROXY,
                               .now = w.now};
    struct airlock_claims *claims = airlock_check(&in, &why);
    ck_assert_msg(claims != NULL, "%s at stage %d: %s", why.code, why.stage, why.observed);
    ck_assert_str_eq(why.code, "ok");
    ck_assert_int_eq(why.stage, 0);
    return claims;
}

static struct writer kept_collateral;

static void take_collateral_out(struct world *world, struct verifier_envelope *e)
{
    (void)world;
    writer_reset(&kept_collateral);
    writer_bytes(&kept_collateral, e->collateral.bytes);
    e->collateral.form = VERIFIER_PART_NIL;
}

/* A node sends no revocation list: refused, unless the client brings its own in a bundle. */
START_TEST(a_client_brings_collateral)
{
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX), file = writer_with_max(VERIFIER_BUNDLE_MAX);
    struct world_session s;
    struct airlock_result why;
    kept_collateral = writer_with_max(VERIFIER_PART_MAX);
    world_open(&w);
    world_session(&s, VERIFIER_CLIENT, &w.proxy, 1, 4);
    world_envelope(&w, &w.proxy, &s, take_collateral_out, &envelope);
    struct airlock_input in = {.size = sizeof in,
                               .envelope = span_out(writer_span(&envelope)),
                               .challenge = {s.challenge, s.challenge_len},
                               .spki = {s.spki, sizeof s.spki},
                               .exporter = s.exporter,
                               .session = {.tls13 = true, .finished = true},
                               .verifier = AIRLOCK_CLIENT,
                               .attester = AIRLOCK_PROXY,
                               .now = w.now};
    ck_assert_ptr_null(airlock_check(&in, &why));
    ck_assert_str_eq(why.code, "crl_missing");
    verifier_bundle_encode(&file,
                           &(struct verifier_bundle){.until = w.now, .collateral = writer_span(&kept_collateral)});
    in.collateral = span_out(writer_span(&file));
    struct airlock_claims *claims = airlock_check(&in, &why);
    ck_assert_msg(claims != NULL, "%s at stage %d: %s", why.code, why.stage, why.observed);
    airlock_claims_free(claims);
    in.collateral.len--;
    ck_assert_ptr_null(airlock_check(&in, &why));
    ck_assert_str_eq(why.code, "bundle");
    writer_release(&envelope);
    writer_release(&file);
    writer_release(&kept_collateral);
    world_close(&w);
}
END_TEST

START_TEST(a_client_gets_from_challenge_to_verdict)
{
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct airlock_verdict verdict = {.size = sizeof verdict};
    uint8_t key[AIRLOCK_KEY_LEN], digest[AIRLOCK_DIGEST_LEN], measurement[48];
    uint32_t epoch;
    world_open(&w);
    struct airlock_claims *claims = attest(&envelope);
    writer_release(&envelope); /* the claims keep nothing of it */
    ck_assert_int_eq(airlock_claims_role(claims), AIRLOCK_PROXY);
    ck_assert(airlock_claims_simulated(claims));
    airlock_claims_identity(claims, key);
    ck_assert_mem_eq(key, w.proxy.identity.public, sizeof key);
    airlock_claims_measurement(claims, measurement);
    ck_assert_mem_eq(measurement, w.proxy.measurement, sizeof measurement);
    ck_assert(airlock_claims_policy(claims, digest));
    ck_assert_mem_eq(digest, w.policy_digest, sizeof digest);
    ck_assert(!airlock_claims_seal(claims, key, &epoch, digest));
    ck_assert_uint_eq(airlock_claims_engine_count(claims), 2);
    ck_assert(airlock_claims_engine_identity(claims, 1, key));
    ck_assert_mem_eq(key, w.engine[1].identity.public, sizeof key);
    ck_assert(airlock_claims_engine_model(claims, 0, digest));
    ck_assert(!airlock_claims_engine_identity(claims, 2, key));
    ck_assert(!airlock_claims_engine_model(claims, 2, digest));

    struct airlock_rules *rules = accept(w.owner_digest);
    ck_assert_int_eq(airlock_judge(claims, rules, NULL, w.now, &verdict), 0);
    ck_assert_str_eq(verdict.result.code, "ok");
    ck_assert(verdict.simulated);
    ck_assert_uint_gt(verdict.valid_until, w.now);
    ck_assert_uint_eq(verdict.seen.policy, 7);
    char *report = airlock_report(claims, &verdict);
    ck_assert_ptr_nonnull(strstr(report, "\"code\": \"ok\""));
    ck_assert_ptr_null(strstr(report, "failed"));
    free(report);
    /* The same claims later: what had been proven has ended. */
    ck_assert_int_eq(airlock_judge(claims, rules, &verdict.seen, verdict.valid_until, &verdict), -1);
    ck_assert_str_eq(verdict.result.code, "lease_expired");
    ck_assert_uint_eq(verdict.valid_until, 0);
    airlock_rules_free(rules);

    uint8_t stranger[64] = {0x66};
    rules = accept(stranger);
    ck_assert_int_eq(airlock_judge(claims, rules, NULL, w.now, &verdict), -1);
    ck_assert_str_eq(verdict.result.code, "owner_not_accepted");
    ck_assert_int_eq(verdict.result.stage, 11);
    report = airlock_report(claims, &verdict);
    ck_assert_ptr_nonnull(strstr(report, "\"result\": \"failed\""));
    free(report);
    airlock_rules_free(rules);
    airlock_claims_free(claims);
    world_close(&w);
}
END_TEST

/* The engine's end of a sealed request: open it, answer it. */
static void answer(const uint8_t *body, size_t len, unsigned status, struct writer *out)
{
    struct world_node *engine = &w.engine[0];
    struct verifier_sealed_request req;
    struct verifier_sealed_writer sw;
    struct verifier_hpke hpke;
    struct writer info = writer_with_max(256), plain = writer_with_max(4096), statement = writer_with_max(4096),
                  first = writer_with_max(256);
    struct verifier_sealed_status what = {.status = status, .type = span_str("application/json")};
    uint8_t h_statement[64];
    ck_assert_int_eq(verifier_sealed_request_parse(&req, span_of(body, len)), VERIFIER_OK);
    ck_assert_int_eq(verifier_sealed_request_check(&req, engine->identity.public, 1), VERIFIER_OK);
    ck_assert(span_is(req.head.model, "tiny"));
    verifier_statement_encode(&statement, &engine->statement);
    verifier_sha512(h_statement, writer_span(&statement));
    verifier_sealed_info(&info, h_statement, w.policy_digest);
    ck_assert(verifier_hpke_setup_r(&hpke, engine->seal.seed, req.enc, writer_span(&info)));
    ck_assert_int_eq(verifier_sealed_request_open(&req, &hpke, &plain), VERIFIER_OK);
    ck_assert_int_eq(memcmp(plain.data, "{\"prompt\":1}", 12), 0);
    ck_assert(verifier_sealed_writer_begin(&sw, &hpke, req.enc, nonce, out));
    if (status != 200) {
        verifier_sealed_status_encode(&first, &what);
        ck_assert(verifier_sealed_writer_chunk(&sw, writer_span(&first), false, out));
    }
    ck_assert(verifier_sealed_writer_chunk(&sw, span_str("{\"a\":"), false, out));
    ck_assert(verifier_sealed_writer_chunk(&sw, span_str("1}"), true, out));
    struct writer *all[] = {&info, &plain, &statement, &first};
    for (size_t i = 0; i < 4; i++)
        writer_release(all[i]);
}

static void collect(void *ctx, struct airlock_span data)
{
    writer_bytes(ctx, span_of(data.data, data.len));
}

START_TEST(a_sealed_request_is_answered)
{
    struct world_session s;
    struct airlock_result why;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX), wire = writer_with_max(1u << 16),
                  got = writer_with_max(1u << 16);
    struct airlock_sealed_ask ask = {.size = sizeof ask,
                                     .endpoint = "/v1/completions",
                                     .model = "tiny",
                                     .max_tokens = 8,
                                     .json = span_out(span_str("{\"prompt\":1}"))};
    uint8_t *body;
    size_t len;
    world_open(&w);
    world_session(&s, VERIFIER_CLIENT, &w.engine[0], 1, 0);
    world_envelope(&w, &w.engine[0], &s, NULL, &envelope);
    struct airlock_input in = {.size = sizeof in,
                               .envelope = span_out(writer_span(&envelope)),
                               .challenge = {s.challenge, s.challenge_len},
                               .verifier = AIRLOCK_CLIENT,
                               .attester = AIRLOCK_ENGINE,
                               .now = w.now};
    struct airlock_claims *claims = airlock_check(&in, &why);
    ck_assert_msg(claims != NULL, "%s at stage %d", why.code, why.stage);
    ask.size--;
    ck_assert_ptr_null(airlock_sealed_request(claims, &ask, &body, &len));
    ask.size++;
    for (unsigned status = 200; status <= 429; status += 229) {
        struct airlock_sealed *sealed = airlock_sealed_request(claims, &ask, &body, &len);
        ck_assert_ptr_nonnull(sealed);
        writer_reset(&wire);
        writer_reset(&got);
        answer(body, len, status, &wire);
        free(body);
        for (size_t i = 0; i < wire.len; i++)
            ck_assert_int_eq(airlock_sealed_feed(sealed, (struct airlock_span){wire.data + i, 1}, collect, &got), 0);
        ck_assert_int_eq(airlock_sealed_end(sealed, collect, &got), 0);
        ck_assert_uint_eq(airlock_sealed_status(sealed), status);
        ck_assert(span_is(writer_span(&got), "{\"a\":1}"));
        airlock_sealed_free(sealed);

        sealed = airlock_sealed_request(claims, &ask, &body, &len); /* cut short */
        writer_reset(&wire);
        answer(body, len, status, &wire);
        free(body);
        ck_assert_int_eq(airlock_sealed_feed(sealed, (struct airlock_span){wire.data, wire.len - 100}, collect, &got),
                         0);
        ck_assert_int_eq(airlock_sealed_end(sealed, collect, &got), -1);
        ck_assert_str_eq(airlock_sealed_code(sealed), "seal_truncated");
        airlock_sealed_free(sealed);
    }
    ask.endpoint = "";
    ck_assert_ptr_null(airlock_sealed_request(claims, &ask, &body, &len));
    airlock_claims_free(claims);
    struct writer proxy = writer_with_max(VERIFIER_ENVELOPE_MAX);
    claims = attest(&proxy); /* a proxy has no sealing key */
    ask.endpoint = "/v1/completions";
    ck_assert_ptr_null(airlock_sealed_request(claims, &ask, &body, &len));
    airlock_claims_free(claims);
    writer_release(&proxy);
    writer_release(&envelope);
    writer_release(&wire);
    writer_release(&got);
    world_close(&w);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_client_gets_from_challenge_to_verdict);
    tcase_add_test(t, a_client_brings_collateral);
    tcase_add_test(t, a_sealed_request_is_answered);
    tcase_add_test(t, a_challenge_is_made_or_refused);
    tcase_add_test(t, nonsense_is_refused_with_a_reason);
    tcase_add_test(t, a_size_that_is_not_known_is_refused);
    tcase_add_test(t, rules_that_cannot_be_read_say_where);
    tcase_add_test(t, a_refusal_can_be_reported);
}

RUN("protocol_airlock", add_tests)
