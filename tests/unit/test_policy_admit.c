/* Does each request rule refuse with its own code and field, and is an API key found by its hash alone? */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/policy.h"
#include "unit/policy_sample.h"
#include "unit/run.h"

#define NOW 1796000000

static struct policy policy;

static void load_policy(void)
{
    struct policy_problem why;
    ck_assert(policy_parse(span_str(policy_sample), &policy, &why));
}

static struct policy_request_facts good_facts(void)
{
    return (struct policy_request_facts){.endpoint = POLICY_CHAT,
                                         .model = span_str("smollm2"),
                                         .features = POLICY_STREAM,
                                         .choices = 1,
                                         .prompts = 1,
                                         .temperature = 1,
                                         .top_p = 1,
                                         .repetition_penalty = 1};
}

static struct policy_tenant good_tenant(void)
{
    return (struct policy_tenant){
        .name = "t", .endpoints = POLICY_ENDPOINTS_ALL, .features = POLICY_FEATURES_ALL, .max_output = 100};
}

static void f_endpoint(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->endpoint = POLICY_EMBEDDINGS;
}
static void f_tenant_endpoint(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)f, t->endpoints = POLICY_MODELS;
}
static void f_model(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->model = span_str("other");
}
static void f_tenant_model(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)f, t->model_count = 1, strcpy(t->model[0], "large");
}
static void f_feature(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->features |= POLICY_LOGPROBS;
}
static void f_tenant_feature(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)f, t->features = POLICY_SEED;
}
static void f_context(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->prompt_tokens = 2048;
}
static void f_output(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->has_max_tokens = true, f->max_tokens = 101;
}
static void f_sealed(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->sealed = true; /* without a limit, which only a tenant's bound could fill in */
}
static void f_choices(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->choices = 3;
}
static void f_temperature(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->temperature = 1.6;
}
static void f_nan(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->temperature = (double)NAN;
}
static void f_top_p(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->top_p = 0.05;
}
static void f_repetition(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)t, f->repetition_penalty = 3;
}
static void f_expired(struct policy_request_facts *f, struct policy_tenant *t)
{
    (void)f, t->expires = NOW;
}

static const struct {
    void (*flaw)(struct policy_request_facts *, struct policy_tenant *);
    enum policy_admit_code want;
    const char *field;
} refusals[] = {
    {f_endpoint, POLICY_ADMIT_ENDPOINT, NULL},
    {f_tenant_endpoint, POLICY_ADMIT_TENANT_ENDPOINT, NULL},
    {f_model, POLICY_ADMIT_MODEL, "model"},
    {f_tenant_model, POLICY_ADMIT_TENANT_MODEL, "model"},
    {f_feature, POLICY_ADMIT_FEATURE, "logprobs"},
    {f_tenant_feature, POLICY_ADMIT_TENANT_FEATURE, "stream"},
    {f_context, POLICY_ADMIT_CONTEXT, "messages"},
    {f_output, POLICY_ADMIT_OUTPUT, "max_tokens"},
    {f_sealed, POLICY_ADMIT_OUTPUT, "max_tokens"},
    {f_choices, POLICY_ADMIT_CHOICES, "n"},
    {f_temperature, POLICY_ADMIT_TEMPERATURE, "temperature"},
    {f_nan, POLICY_ADMIT_TEMPERATURE, "temperature"},
    {f_top_p, POLICY_ADMIT_TOP_P, "top_p"},
    {f_repetition, POLICY_ADMIT_REPETITION, "repetition_penalty"},
    {f_expired, POLICY_ADMIT_TENANT_EXPIRED, NULL},
};

START_TEST(each_rule_has_its_code_and_field)
{
    struct policy_admitted out;
    struct policy_request_facts f = good_facts();
    struct policy_tenant t = good_tenant();
    load_policy();
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
    refusals[_i].flaw(&f, &t);
    ck_assert_msg(policy_admit(&policy, &t, &f, NOW, &out) == refusals[_i].want, "%d: %d %s", _i, out.code, out.text);
    if (refusals[_i].field)
        ck_assert_str_eq(out.field, refusals[_i].field);
    else
        ck_assert_ptr_null(out.field);
    ck_assert_uint_ge(policy_admit_status(out.code), 400);
}
END_TEST

/* The engine fills the owner's bounds in by itself: a tenant that has none of its own, or wider ones, gives no limit.
 */
/* What a sealed request uses is seen by the engine alone, which knows the policy's features and nobody's key. */
START_TEST(sealed_is_not_for_a_tenant_with_fewer_features)
{
    struct policy_admitted out;
    struct policy_request_facts f = good_facts();
    struct policy_tenant t = good_tenant();
    load_policy();
    f.has_max_tokens = true;
    f.max_tokens = 10;
    t.features = policy.requests.features & ~(uint32_t)POLICY_SEED;
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
    f.sealed = true;
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_TENANT_FEATURE);
    ck_assert_ptr_nonnull(strstr(out.text, "\"seed\""));
    t.features = policy.requests.features; /* fewer than there are, and all that the policy allows */
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
    t.features &= ~(uint32_t)POLICY_STREAM; /* the head shows it */
    f.features = 0;
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
    f.features = POLICY_STREAM;
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_TENANT_FEATURE);
}
END_TEST

/* The engine fills the owner's bounds in by itself: a tenant that has none of its own, or wider ones, gives no limit.
 */
START_TEST(sealed_needs_a_limit_only_where_the_tenants_is_tighter)
{
    struct policy_admitted out;
    struct policy_request_facts f = good_facts();
    struct policy_tenant t = good_tenant();
    load_policy();
    f.sealed = true;
    t.max_output = policy.requests.max_output;
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
    ck_assert_int_eq(policy_admit(&policy, NULL, &f, NOW, &out), POLICY_ADMIT_OK);
    t.max_context = 10; /* less than the output that the policy allows */
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OUTPUT);
    f.has_max_tokens = true;
    f.max_tokens = 10;
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
}
END_TEST

/* What the engine asks about the values in force, and what stands for values that are not known. */
START_TEST(sampling_alone_can_be_asked_about)
{
    struct policy_admitted out;
    struct policy_request_facts f = {.temperature = 1.5, .top_p = 0.1, .repetition_penalty = 2};
    load_policy();
    ck_assert_int_eq(policy_admit_sampling(&policy, &f, &out), POLICY_ADMIT_OK);
    f.temperature = 1.6;
    ck_assert_int_eq(policy_admit_sampling(&policy, &f, &out), POLICY_ADMIT_TEMPERATURE);
    ck_assert_str_eq(out.field, "temperature");
    f = (struct policy_request_facts){.temperature = POLICY_WITHIN_TEMPERATURE,
                                      .top_p = POLICY_WITHIN_TOP_P,
                                      .repetition_penalty = POLICY_WITHIN_REPETITION};
    policy.requests.temperature_max = policy.requests.repetition_max = 0; /* the tightest that a policy can say */
    policy.requests.top_p_min = 1;
    ck_assert_int_eq(policy_admit_sampling(&policy, &f, &out), POLICY_ADMIT_OK);
    f.top_p = 0.99;
    ck_assert_int_eq(policy_admit_sampling(&policy, &f, &out), POLICY_ADMIT_TOP_P);
}
END_TEST

START_TEST(the_tighter_limit_bounds_the_answer)
{
    struct policy_admitted out;
    struct policy_request_facts f = good_facts();
    struct policy_tenant t = good_tenant();
    load_policy();
    ck_assert_int_eq(policy_admit(&policy, &t, &f, NOW, &out), POLICY_ADMIT_OK);
    ck_assert_uint_eq(out.max_tokens, 100);
    ck_assert_int_eq(policy_admit(&policy, NULL, &f, NOW, &out), POLICY_ADMIT_OK);
    ck_assert_uint_eq(out.max_tokens, 512);
    f.prompt_tokens = 2000;
    ck_assert_int_eq(policy_admit(&policy, NULL, &f, NOW, &out), POLICY_ADMIT_OK);
    ck_assert_uint_eq(out.max_tokens, 48);
}
END_TEST

START_TEST(no_policy_or_outside_its_dates_admits_nothing)
{
    struct policy_admitted out;
    struct policy_request_facts f = good_facts();
    load_policy();
    ck_assert_int_eq(policy_admit(NULL, NULL, &f, NOW, &out), POLICY_ADMIT_NO_POLICY);
    ck_assert_int_eq(policy_admit(&policy, NULL, &f, policy.not_before - 1, &out), POLICY_ADMIT_NO_POLICY);
    ck_assert_int_eq(policy_admit(&policy, NULL, &f, policy.not_after, &out), POLICY_ADMIT_NO_POLICY);
    ck_assert_int_eq(policy_admit(&policy, NULL, &f, 0, &out), POLICY_ADMIT_NO_POLICY);
}
END_TEST

START_TEST(quotas_count_by_the_minute)
{
    struct policy_admitted out = {0};
    struct policy_usage u = {0};
    struct policy_tenant t = good_tenant();
    load_policy();
    t.requests_per_minute = 2;
    t.tokens_per_minute = 10;
    ck_assert_int_eq(policy_usage_begin(&u, &policy, &t, 100000, &out), POLICY_ADMIT_OK);
    policy_usage_end(&u, 10);
    ck_assert_int_eq(policy_usage_begin(&u, &policy, &t, 101000, &out), POLICY_ADMIT_TOKENS);
    u.tokens = 0;
    ck_assert_int_eq(policy_usage_begin(&u, &policy, &t, 101000, &out), POLICY_ADMIT_OK);
    ck_assert_int_eq(policy_usage_begin(&u, &policy, &t, 102000, &out), POLICY_ADMIT_REQUESTS);
    ck_assert_uint_eq(out.retry_after_s, 58);
    ck_assert_int_eq(policy_usage_begin(&u, &policy, &t, 160000, &out), POLICY_ADMIT_OK);
    t.concurrent = 2;
    u.requests = 0;
    ck_assert_int_eq(policy_usage_begin(&u, &policy, &t, 160000, &out), POLICY_ADMIT_CONCURRENT);
}
END_TEST

/* A tenants file with one tenant whose key is "sk-good". */
static const char *tenants_text(void)
{
    static char text[2048];
    static const uint8_t salt[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                     0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    uint8_t hash[32];
    char hex[65];
    policy_api_key_hash(hash, salt, span_str("sk-good"));
    policy_hex_print(span_of(hash, 32), hex);
    snprintf(text, sizeof text,
             "version = 1; issued = \"2026-11-21\"; expires = \"2026-12-21\";\n"
             "tenants = ( { name = \"acme\"; salt = \"" HEX16 "\"; keys = [ \"%s\" ]; requests_per_minute = 9; },\n"
             "            { name = \"zero\"; salt = \"" HEX16 "\"; keys = [ \"" HEX32 "\" ]; } );",
             hex);
    return text;
}

START_TEST(a_key_is_found_by_its_hash_until_it_expires)
{
    struct policy_tenants t;
    struct policy_problem why;
    ck_assert_msg(policy_tenants_parse(&t, span_str(tenants_text()), &why), "%s", why.text);
    const struct policy_tenant *acme = policy_tenants_find(&t, span_str("sk-good"), NOW);
    ck_assert_ptr_nonnull(acme);
    ck_assert_str_eq(acme->name, "acme");
    ck_assert(memcmp(acme->cache_salt, t.tenant[1].cache_salt, 32) != 0);
    ck_assert_ptr_null(policy_tenants_find(&t, span_str("sk-goo"), NOW));
    ck_assert_ptr_null(policy_tenants_find(&t, span_str(""), NOW));
    ck_assert_ptr_null(policy_tenants_find(&t, span_str("sk-good"), t.expires));
    t.tenant[0].expires = NOW;
    ck_assert_ptr_null(policy_tenants_find(&t, span_str("sk-good"), NOW));
    policy_tenants_release(&t);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, each_rule_has_its_code_and_field, 0, (int)(sizeof refusals / sizeof *refusals));
    tcase_add_test(t, sealed_is_not_for_a_tenant_with_fewer_features);
    tcase_add_test(t, sealed_needs_a_limit_only_where_the_tenants_is_tighter);
    tcase_add_test(t, sampling_alone_can_be_asked_about);
    tcase_add_test(t, the_tighter_limit_bounds_the_answer);
    tcase_add_test(t, no_policy_or_outside_its_dates_admits_nothing);
    tcase_add_test(t, quotas_count_by_the_minute);
    tcase_add_test(t, a_key_is_found_by_its_hash_until_it_expires);
}

RUN("policy_admit", add_tests)
