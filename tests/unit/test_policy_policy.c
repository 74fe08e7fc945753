/* Does the policy text say what the struct holds, and is every way to say something else refused? */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/acceptance.h"
#include "unit/policy_sample.h"
#include "unit/run.h"

static struct policy policy;

START_TEST(every_field_arrives)
{
    struct policy_problem why;
    ck_assert_msg(policy_parse(span_str(policy_sample), &policy, &why), "%d %s %s", why.line, why.path, why.text);
    ck_assert_uint_eq(policy.version, 7);
    ck_assert_uint_eq(policy.lease_max, 14400);
    ck_assert_uint_eq(policy.version_grace, 1800);
    ck_assert_uint_eq(policy.keyd_count, 1);
    ck_assert(policy.simulated && !policy.unknown_is_report);
    ck_assert(policy.model[0].sealed && policy.model[0].shares == 1);
    ck_assert_uint_eq(policy.proxy.sandbox_at_serving, VERIFIER_STAGE_ALL);
    ck_assert_uint_eq(policy.engine.sandbox_at_release, VERIFIER_STAGE_NO_DUMPS);
    ck_assert_uint_eq(policy.engine.measurement[0].tee, VERIFIER_TEE_TDX);
    ck_assert_uint_eq(policy.engine.measurement[0].registers, 2);
    ck_assert_uint_eq(policy.hardware.line_count, 2);
    ck_assert_uint_eq(policy.hardware.line[0].microcode, 72);
    ck_assert_uint_eq(policy.hardware.line[1].tdx_status, 1);
    ck_assert_uint_eq(policy.gpus.max, 8);
    ck_assert(!policy.gpus.ocsp_optional && !policy.gpus.rim_ocsp_optional);
    ck_assert_uint_eq(policy.requests.endpoints, POLICY_CHAT | POLICY_MODELS);
    ck_assert_uint_eq(policy.tenants.concurrent, 4);
    ck_assert_uint_eq(policy.device_age, 3600);
    ck_assert_ptr_eq(policy_find_model(&policy, span_str("small")), &policy.model[0]);
    ck_assert_ptr_eq(policy_find_model(&policy, span_str("")), &policy.model[0]);
    ck_assert_ptr_null(policy_find_model(&policy, span_str("smal")));
    ck_assert_ptr_eq(policy_find_root(&policy, policy.model[0].root), &policy.model[0]);
}
END_TEST

static const struct {
    const char *from, *to, *path;
    enum policy_problem_code want;
} flaws[] = {
    {"version = 7;", "", "version", POLICY_PROBLEM_MISSING},
    {"version = 7;", "version = 0;", "version", POLICY_PROBLEM_RANGE},
    {"not_after = \"2027", "not_after = \"2025", "not_after", POLICY_PROBLEM_VALUE},
    {"lease_max = \"4h\"", "lease_max = \"25h\"", "lease_max", POLICY_PROBLEM_RANGE},
    {"lease_max = \"4h\"", "lease_max = 86400", "lease_max", POLICY_PROBLEM_TYPE},
    {"not_before = \"2026-11-01T00:00:00Z\"", "not_before = 1795168800", "", POLICY_PROBLEM_NUMBER},
    {"keyd = [ \"" HEX32 "\" ]", "keyd = [ ]", "keyd", POLICY_PROBLEM_COUNT},
    {"unknown = \"refuse\"", "unknown = \"accept\"", "unknown", POLICY_PROBLEM_VALUE},
    {"version_grace", "version_grase", "version_grase", POLICY_PROBLEM_UNKNOWN},
    {"sandbox_at_release", "sandbox_at_relaese", "programs.engine.sandbox_at_relaese", POLICY_PROBLEM_UNKNOWN},
    {"sandbox_at_release = [ \"no_dumps\" ]", "sandbox_at_release = [ \"landlock\" ]",
     "programs.engine.sandbox_at_release", POLICY_PROBLEM_VALUE},
    {"aliases", "shares = 3; aliases", "models[0].shares", POLICY_PROBLEM_VALUE},
    {"tee = \"snp\"; meas", "tee = \"snp\"; rtmr0 = \"" HEX48 "\"; meas", "programs.proxy.images[0].rtmr0",
     POLICY_PROBLEM_VALUE},
    {"tee = \"snp\"; meas", "tee = \"snp\"; pcr4 = \"" HEX32 "\"; meas", "programs.proxy.images[0].pcr4",
     POLICY_PROBLEM_VALUE},
    {"tee = \"snp\"; meas", "tee = \"azure\"; meas", "programs.proxy.images[0].tee", POLICY_PROBLEM_MISSING},
    {"tee = \"snp\"; meas", "tee = \"azure\"; pcr24 = \"" HEX32 "\"; pcr4 = \"" HEX32 "\"; meas",
     "programs.proxy.images[0].pcr24", POLICY_PROBLEM_UNKNOWN},
    {"line = \"Genoa\"", "line = \"Rome\"", "hardware.platforms[0].line", POLICY_PROBLEM_VALUE},
    {"line = \"tdx\"; worst_status = \"SWHardeningNeeded\"; tcb_date = \"2024-03-13\";", "line = \"Genoa\";",
     "hardware.platforms", POLICY_PROBLEM_REPEATED},
    {"drivers = [ \"550.90.07\" ];", "", "gpus", POLICY_PROBLEM_MISSING},
    {"ppcie = true;", "ocsp = \"never\";", "gpus.ocsp", POLICY_PROBLEM_VALUE},
    {"ppcie = true;", "rim_ocsp = \"never\";", "gpus.rim_ocsp", POLICY_PROBLEM_VALUE},
    {"max = 8", "max = 17", "gpus.max", POLICY_PROBLEM_RANGE},
    {"temperature_max = \"1.5\"", "temperature_max = 1.5", "", POLICY_PROBLEM_NUMBER},
    {"simulated = true", "debug = true", "debug", POLICY_PROBLEM_UNKNOWN}, /* nobody can say that it may be debugged */
};

/* The sample with the first `from` replaced by `to`; static. */
static const char *changed(const char *from, const char *to)
{
    static char text[16384];
    const char *at = strstr(policy_sample, from);
    ck_assert_ptr_nonnull(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - policy_sample), policy_sample, to, at + strlen(from));
    return text;
}

START_TEST(registers_of_a_virtual_tpm_arrive)
{
    struct policy_problem why;
    const struct policy_measurement *m = &policy.proxy.measurement[0];
    ck_assert(policy_parse(
        span_str(changed("tee = \"snp\"; meas", "tee = \"azure\"; pcr9 = \"" HEX32 "\"; pcr4 = \"" HEX32 "\"; meas")),
        &policy, &why));
    ck_assert_uint_eq(m->tee, VERIFIER_TEE_AZURE);
    ck_assert_uint_eq(m->pcrs, 1u << 4 | 1u << 9);
    ck_assert_mem_eq(m->pcr[0], m->pcr[1], 32);
    ck_assert(!span_is_zero(span_of(m->pcr[1], 32)));
}
END_TEST

START_TEST(each_flaw_is_named)
{
    struct policy_problem why = {0};
    ck_assert(!policy_parse(span_str(changed(flaws[_i].from, flaws[_i].to)), &policy, &why));
    ck_assert_msg(why.code == flaws[_i].want && strcmp(why.path, flaws[_i].path) == 0, "%s: %d %s: %s", flaws[_i].to,
                  why.code, why.path, why.text);
    ck_assert_uint_eq(policy.version, 0);
}
END_TEST

START_TEST(without_simulation_hardware_must_be_named)
{
    static char text[16384];
    struct policy_problem why = {0};
    snprintf(text, sizeof text, "%s", changed("simulated = true;\n", ""));
    ck_assert(policy_parse(span_str(text), &policy, &why));
    static const char *const lines[] = {"fleet = [ \"" HEX32 "\" ];", "snp_chips = [ \"" HEX64 "\" ];",
                                        "tdx_instances = [ \"" HEX16 "\" ];"};
    for (size_t i = 0; i < 3; i++) {
        char *at = strstr(text, lines[i]);
        memset(at, ' ', strlen(lines[i]));
        ck_assert_int_eq(policy_parse(span_str(text), &policy, &why), i < 2);
    }
    ck_assert_str_eq(why.path, "hardware");
}
END_TEST

static struct policy_rules rules;

START_TEST(a_policy_becomes_rules_for_release_and_for_serving)
{
    struct policy_problem why;
    uint8_t owner[64];
    memset(owner, 3, sizeof owner);
    ck_assert(policy_parse(span_str(policy_sample), &policy, &why));
    policy_rules_for(&policy, false, owner, &rules);
    ck_assert_uint_eq(rules.engine.stage, VERIFIER_STAGE_NO_DUMPS);
    ck_assert(rules.simulated && !rules.hardware_any && !rules.fleet_by_policy);
    ck_assert_mem_eq(rules.owner[0], owner, 64);
    policy_rules_for(&policy, true, owner, &rules);
    ck_assert_uint_eq(rules.engine.stage, VERIFIER_STAGE_NO_DUMPS | VERIFIER_STAGE_SECCOMP);
    ck_assert_uint_eq(rules.proxy.stage, VERIFIER_STAGE_ALL);
    ck_assert_uint_eq(rules.model_count, 1);
    ck_assert_uint_eq(rules.evidence_age, 12 * 3600);
}
END_TEST

START_TEST(an_acceptance_file_becomes_rules)
{
    struct policy_problem why;
    ck_assert_msg(policy_acceptance_parse(span_str(acceptance_sample), &rules, &why), "%d %s %s", why.line, why.path,
                  why.text);
    ck_assert(rules.simulated && rules.hardware_any);
    ck_assert_uint_eq(rules.owner_count, 1);
    ck_assert_uint_eq(rules.policy_min, 5);
    ck_assert_uint_eq(rules.model_count, 1);
    ck_assert_uint_eq(rules.proxy.stage, VERIFIER_STAGE_ALL);
    ck_assert_uint_eq(rules.engine.stage, VERIFIER_STAGE_SECCOMP);
    ck_assert_uint_eq(rules.hardware.line[0].snp, 14);
}
END_TEST

static const struct {
    const char *from, *to, *path;
} acceptance_flaws[] = {
    {"simulated = true;", "", "hardware"}, /* then any machine in the world would do */
    {"owners = [ \"" HEX64 "\" ];", "", "owners"},
    {"policy_min", "policy_mim", "policy_mim"},
    {"sandbox = ", "sandbox_at_serving = ", "programs.engine.sandbox_at_serving"},
    {"programs", "program", "programs"},
};

START_TEST(an_acceptance_file_with_a_flaw_accepts_nothing)
{
    static char text[8192];
    struct policy_problem why = {0};
    const char *from = acceptance_flaws[_i].from, *at = strstr(acceptance_sample, from);
    ck_assert_ptr_nonnull(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - acceptance_sample), acceptance_sample, acceptance_flaws[_i].to,
             at + strlen(from));
    ck_assert(!policy_acceptance_parse(span_str(text), &rules, &why));
    ck_assert_str_eq(why.path, acceptance_flaws[_i].path);
    ck_assert_uint_eq(rules.owner_count, 0);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, every_field_arrives);
    tcase_add_test(t, registers_of_a_virtual_tpm_arrive);
    tcase_add_loop_test(t, each_flaw_is_named, 0, (int)(sizeof flaws / sizeof *flaws));
    tcase_add_test(t, without_simulation_hardware_must_be_named);
    tcase_add_test(t, a_policy_becomes_rules_for_release_and_for_serving);
    tcase_add_test(t, an_acceptance_file_becomes_rules);
    tcase_add_loop_test(t, an_acceptance_file_with_a_flaw_accepts_nothing, 0,
                        (int)(sizeof acceptance_flaws / sizeof *acceptance_flaws));
}

RUN("policy_policy", add_tests)
