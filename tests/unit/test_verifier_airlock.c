/* Does the facade say what it is asked, refuse what makes no sense, and never crash on the way? What it decides is
 * tested where it is decided: test_protocol_check.c. */
#include "verifier/airlock.h"

#include <stdlib.h>
#include <string.h>

#include "unit/run.h"

static const uint8_t nonce[32] = {1, 2, 3};

START_TEST(a_challenge_is_made_or_refused)
{
    uint8_t out[AIRLOCK_CHALLENGE_MAX], have[2][AIRLOCK_DIGEST_LEN] = {{1}, {2}};
    size_t len;
    struct airlock_ask ask = {.verifier = AIRLOCK_CLIENT,
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
    struct airlock_ask ask = {.verifier = AIRLOCK_CLIENT, .attester = AIRLOCK_PROXY, .nonce = nonce};
    struct airlock_result why;
    ck_assert_int_eq(airlock_challenge(&ask, challenge, sizeof challenge, &len), 0);
    struct airlock_input in = {.envelope = {rubbish, sizeof rubbish},
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
    struct airlock_verdict verdict = {.result = {.code = "no_lease", .stage = 9, .engine = -1}};
    char *report = airlock_report(NULL, &verdict);
    ck_assert_ptr_nonnull(report);
    ck_assert_ptr_nonnull(strstr(report, "\"code\": \"no_lease\""));
    ck_assert_ptr_nonnull(strstr(report, "\"remedy\""));
    free(report);
    ck_assert_uint_gt(strlen(airlock_version()), 2);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_challenge_is_made_or_refused);
    tcase_add_test(t, nonsense_is_refused_with_a_reason);
    tcase_add_test(t, rules_that_cannot_be_read_say_where);
    tcase_add_test(t, a_refusal_can_be_reported);
}

RUN("verifier_airlock", add_tests)
