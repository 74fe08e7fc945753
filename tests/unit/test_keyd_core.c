/* Whom does the key server grant what, and when does it stop trusting itself? */
#include <check.h>

#include "policy/keyd/core.h"
#include "policy/node.h"
#include "unit/policy_world.h"
#include "unit/run.h"
#include "verifier/release.h"

static struct world w;
static struct keyd_core *core;
static struct writer lines;
static struct keyd_weight weight;
static struct verifier_claims claims;
static uint8_t release_private[32];
static char why[256];

static struct keyd_core_config core_config(void)
{
    return (struct keyd_core_config){.seed = span_of(w.keyd_seed, 32),
                                     .documents = writer_span(&w.documents),
                                     .tenants_version = 4,
                                     .weights = &weight,
                                     .weight_count = 1};
}

static void open_core(struct span log, bool is_restored)
{
    struct keyd_core_config c = core_config();
    c.log = log;
    c.is_restored = is_restored;
    core = keyd_core_open(&c, WORLD_NOW, &lines, why);
    ck_assert_msg(core != NULL, "%s", why);
}

/* An engine of the policy's software on simulated hardware, as verifier_check() would prove it. */
static void good_claims(void)
{
    struct verifier_node *n = &claims.node;
    memset(&claims, 0, sizeof claims);
    claims.verifier = VERIFIER_KEYD;
    claims.attester = VERIFIER_ENGINE;
    n->hw.tee = VERIFIER_TEE_SNP;
    n->hw.simulated = true;
    strcpy(n->hw.product, "Genoa");
    memset(n->hw.measurement, 0xab, sizeof n->hw.measurement);
    memset(n->hw.chip_id, 0xc1, sizeof n->hw.chip_id);
    n->hw.has_chip_id = true;
    n->hw.expires = WORLD_NOW + 100000;
    n->hw.collateral_at = WORLD_NOW;
    n->statement.role = VERIFIER_ENGINE;
    memcpy(n->statement.owner, w.owner, 64);
    memset(n->statement.identity, 6, 32);
    ck_assert(verifier_x25519_public(release_private, n->statement.release));
    memset(n->h_statement, 7, 64);
    n->state.at = WORLD_NOW;
}

static void setup(void)
{
    world_open(&w);
    lines = writer_with_max(1 << 20);
    memset(release_private, 8, sizeof release_private);
    strcpy(weight.model, "m");
    ck_assert(secret_init(&weight.key, 32));
    memcpy(weight.key.data, w.weight_key, 32);
    open_core(span_of(NULL, 0), false);
    good_claims();
}

static void teardown(void)
{
    keyd_core_close(core);
    secret_release(&weight.key);
    writer_release(&lines);
    world_close(&w);
}

static const char *judge(void)
{
    uint64_t valid_until;
    return keyd_core_judge(core, &claims, WORLD_NOW, &valid_until, &lines);
}

static const char *answer_at(const struct policy_ask *ask, uint64_t now, struct writer *grant)
{
    struct writer bytes = writer_with_max(4096);
    policy_ask_encode(&bytes, ask);
    const char *code = keyd_core_answer(core, &claims, writer_span(&bytes), now, grant, &lines);
    writer_release(&bytes);
    return code;
}

static struct policy_ask good_ask(void)
{
    struct policy_ask ask = {0};
    memset(ask.nonce, 9, 32);
    memset(ask.identity, 6, 32);
    return ask;
}

static const char *answer(void)
{
    struct writer grant = writer_with_max(1 << 20);
    struct policy_ask ask = good_ask();
    const char *code = answer_at(&ask, WORLD_NOW, &grant);
    ck_assert(strcmp(code, "ok") == 0 || grant.len == 0);
    writer_release(&grant);
    return code;
}

static int open_key(void *ctx, const uint8_t enc[32], struct span info, struct span aad, struct span sealed,
                    uint8_t out[32])
{
    struct verifier_hpke opened;
    (void)ctx;
    return verifier_hpke_setup_r(&opened, release_private, enc, info) &&
                   verifier_release_open(&opened, aad, sealed, out) == VERIFIER_OK
               ? 0
               : -1;
}

START_TEST(an_engine_gets_what_its_node_believes)
{
    enum policy_node_err err;
    struct policy_node_config config = {.role = VERIFIER_ENGINE, .open = open_key};
    struct writer ask = writer_with_max(4096), grant = writer_with_max(1 << 20);
    uint8_t nonce[32] = {1};
    memset(config.identity, 6, 32);
    memset(config.statement, 7, 64);
    memcpy(config.owner, w.owner, 64);
    struct policy_node *node = policy_node_open_new(&config, &err);
    policy_node_ask(node, nonce, 1000, NULL, &ask);
    ck_assert_str_eq(judge(), "ok");
    ck_assert_str_eq(keyd_core_answer(core, &claims, writer_span(&ask), WORLD_NOW, &grant, &lines), "ok");
    err = policy_node_answer(node, writer_span(&grant), 1000);
    ck_assert_msg(err == POLICY_NODE_OK, "%s", policy_node_err_name(err));
    ck_assert(policy_node_may_serve(node, 1000));
    ck_assert(span_equal(policy_node_key(node, w.root), span_of(w.weight_key, 32)));
    ck_assert_uint_eq(policy_node_tenants_version(node), 4);
    ck_assert_uint_eq(policy_node_lease_end(node), WORLD_NOW + 4 * 3600);

    /* a renewal brings no key: the model is loaded */
    claims.node.state.has_model = true;
    memcpy(claims.node.state.model.root, w.root, 64);
    policy_node_wipe_keys(node);
    writer_reset(&ask);
    writer_reset(&grant);
    nonce[0] = 2;
    policy_node_ask(node, nonce, 2000, NULL, &ask);
    ck_assert_str_eq(keyd_core_answer(core, &claims, writer_span(&ask), WORLD_NOW + 1, &grant, &lines), "ok");
    ck_assert_int_eq(policy_node_answer(node, writer_span(&grant), 2000), POLICY_NODE_OK);
    ck_assert_uint_eq(policy_node_key(node, w.root).len, 0);
    writer_release(&ask);
    writer_release(&grant);
    policy_node_close(node);
}
END_TEST

static void flaw_measurement(void)
{
    claims.node.hw.measurement[0] ^= 1;
}
static void flaw_owner(void)
{
    claims.node.statement.owner[0] ^= 1;
}
static void flaw_product(void)
{
    strcpy(claims.node.hw.product, "Milan");
}
static void flaw_model(void)
{
    claims.node.state.has_model = true;
    memset(claims.node.state.model.root, 0x55, 64);
}

static const struct {
    void (*flaw)(void);
    const char *code;
} flaws[] = {
    {flaw_measurement, "measurement_not_accepted"},
    {flaw_owner, "owner_not_accepted"},
    {flaw_product, "product_not_accepted"},
    {flaw_model, "model_not_accepted"},
};

START_TEST(evidence_that_the_policy_does_not_accept_gets_nothing)
{
    flaws[_i].flaw();
    ck_assert_str_eq(judge(), flaws[_i].code);
    ck_assert_str_eq(answer(), flaws[_i].code);
}
END_TEST

START_TEST(simulated_evidence_is_refused_where_the_policy_wants_hardware)
{
    keyd_core_close(core);
    w.simulated = false;
    world_sign(&w);
    open_core(span_of(NULL, 0), false);
    ck_assert_str_eq(answer(), "simulated");
    claims.node.hw.simulated = false;
    ck_assert_str_eq(answer(), "ok");
    claims.node.hw.chip_id[0] ^= 1;
    ck_assert_str_eq(answer(), "hardware_not_accepted");
}
END_TEST

START_TEST(a_question_for_another_identity_is_refused)
{
    struct writer grant = writer_with_max(1 << 20);
    struct policy_ask ask = good_ask();
    ask.identity[0] ^= 1;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "ask_identity");
    ck_assert_str_eq(keyd_core_answer(core, &claims, span_str("?"), WORLD_NOW, &grant, &lines), "type");
    writer_release(&grant);
}
END_TEST

START_TEST(outside_the_policys_dates_or_with_a_clock_set_back_nobody_gets_a_lease)
{
    struct writer grant = writer_with_max(1 << 20);
    struct policy_ask ask = good_ask();
    const struct policy *p = keyd_core_policy(core);
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW - 301, &grant), "keyd_clock");
    ck_assert_str_eq(answer_at(&ask, p->not_after, &grant), "policy_expired");
    writer_release(&grant);
}
END_TEST

START_TEST(a_nodes_log_goes_on_or_it_gets_nothing)
{
    struct writer grant = writer_with_max(1 << 20);
    struct policy_ask ask = good_ask();
    ask.has_log = true;
    ask.log_index = 5;
    memset(ask.log_head, 1, 64);
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "ok");
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "ok");
    ask.log_head[0] = 2;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "log_head_changed");
    ask.log_index = 4;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "log_index_fell");
    ask.has_log = false;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "log_index_fell");
    ask.has_log = true;
    ask.log_index = 6;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "ok");
    writer_release(&grant);
}
END_TEST

START_TEST(what_the_log_remembers_survives_a_restart)
{
    struct writer grant = writer_with_max(1 << 20);
    struct policy_ask ask = good_ask();
    ask.has_log = true;
    ask.log_index = 5;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "ok");
    keyd_core_close(core);
    struct writer log = writer_with_max(1 << 20);
    writer_bytes(&log, writer_span(&lines));
    open_core(writer_span(&log), false);
    ask.log_index = 4;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "log_index_fell");
    keyd_core_close(core);
    w.version = 2; /* an older policy than the log has seen */
    world_sign(&w);
    struct keyd_core_config c = core_config();
    c.log = writer_span(&log);
    core = keyd_core_open(&c, WORLD_NOW, &lines, why);
    ck_assert_ptr_null(core);
    writer_release(&log);
    writer_release(&grant);
}
END_TEST

START_TEST(put_back_from_a_backup_it_waits_for_a_person)
{
    keyd_core_close(core);
    struct writer log = writer_with_max(1 << 20);
    writer_bytes(&log, writer_span(&lines));
    open_core(writer_span(&log), true);
    ck_assert(keyd_core_is_waiting(core));
    ck_assert_str_eq(judge(), "keyd_unconfirmed");
    ck_assert_str_eq(answer(), "keyd_unconfirmed");
    keyd_core_confirm(core, WORLD_NOW, &lines);
    ck_assert_str_eq(answer(), "ok");
    writer_release(&log);
}
END_TEST

START_TEST(a_node_with_newer_papers_proves_it_stale)
{
    struct writer newer = writer_with_max(VERIFIER_PART_MAX);
    w.version = 9;
    world_sign(&w);
    writer_bytes(&newer, writer_span(&w.documents));
    claims.node.policy = writer_span(&newer);
    claims.node.state.has_policy = true;
    claims.node.state.policy.version = 9;
    memcpy(claims.node.state.policy.digest, w.opened->digest, 64);
    ck_assert_str_eq(judge(), "keyd_unconfirmed");
    ck_assert_uint_eq(keyd_core_policy(core)->version, 9);
    ck_assert_str_eq(answer(), "keyd_unconfirmed");
    keyd_core_confirm(core, WORLD_NOW, &lines);
    ck_assert_str_eq(judge(), "ok");
    ck_assert_str_eq(answer(), "ok");
    writer_release(&newer);
}
END_TEST

START_TEST(newer_papers_with_a_bad_signature_prove_nothing)
{
    struct writer newer = writer_with_max(VERIFIER_PART_MAX);
    w.version = 9;
    world_sign(&w);
    writer_bytes(&newer, writer_span(&w.documents));
    newer.data[newer.len - 1] ^= 1; /* in the policy's signature */
    claims.node.policy = writer_span(&newer);
    ck_assert_str_eq(judge(), "signed_signature");
    ck_assert_uint_eq(keyd_core_policy(core)->version, 3);
    claims.node.policy = span_of(NULL, 0);
    ck_assert_str_eq(judge(), "ok");
    writer_release(&newer);
}
END_TEST

START_TEST(a_lease_it_does_not_remember_proves_it_stale)
{
    struct policy_lease lease = {.role = VERIFIER_ENGINE, .issued = WORLD_NOW - 100, .expires = WORLD_NOW + 100};
    struct writer body = writer_with_max(4096), object = body;
    memset(lease.identity, 6, 32);
    lease.policy.version = 3;
    policy_lease_encode(&body, &lease);
    ck_assert(verifier_signed_make(&object, VERIFIER_SIGNED_LEASE, writer_span(&body), w.keyd_seed));
    claims.node.lease = writer_span(&object);
    ck_assert_str_eq(judge(), "keyd_unconfirmed");
    writer_release(&body);
    writer_release(&object);
}
END_TEST

START_TEST(its_own_lease_is_no_surprise)
{
    struct writer grant = writer_with_max(1 << 20);
    struct policy_ask ask = good_ask();
    struct verifier_signed shell;
    struct policy_grant g;
    ck_assert_str_eq(answer_at(&ask, WORLD_NOW, &grant), "ok");
    ck_assert_int_eq(verifier_signed_parse(&shell, writer_span(&grant)), VERIFIER_OK);
    ck_assert_int_eq(policy_grant_parse(&g, shell.body), VERIFIER_OK);
    claims.node.lease = g.lease;
    ck_assert_str_eq(judge(), "ok");
    ck_assert(!keyd_core_is_waiting(core));
    writer_release(&grant);
}
END_TEST

START_TEST(what_is_revoked_gets_nothing)
{
    struct writer list = writer_with_max(4096), forged = list;
    world_revocations(&w, 3, w.owner_seed, &list); /* revokes the identity 04 04 04 ... */
    world_revocations(&w, 4, w.keyd_seed, &forged);
    ck_assert(!keyd_core_update(core, writer_span(&w.documents), writer_span(&forged), 0, WORLD_NOW, &lines, why));
    ck_assert_msg(keyd_core_update(core, writer_span(&w.documents), writer_span(&list), 5, WORLD_NOW, &lines, why),
                  "%s", why);
    ck_assert_str_eq(answer(), "ok");
    memset(claims.node.statement.identity, 4, 32);
    ck_assert_str_eq(judge(), "revoked");
    writer_release(&list);
    writer_release(&forged);
}
END_TEST

START_TEST(the_operator_cannot_go_back_or_rewrite)
{
    w.version = 2;
    world_sign(&w);
    ck_assert(!keyd_core_update(core, writer_span(&w.documents), span_of(NULL, 0), 0, WORLD_NOW, &lines, why));
    w.version = 3;
    w.not_before = "2026-11-02";
    world_sign(&w);
    ck_assert(!keyd_core_update(core, writer_span(&w.documents), span_of(NULL, 0), 0, WORLD_NOW, &lines, why));
    w.version = 4;
    world_sign(&w);
    ck_assert(keyd_core_update(core, writer_span(&w.documents), span_of(NULL, 0), 0, WORLD_NOW, &lines, why));
    ck_assert_uint_eq(keyd_core_policy(core)->version, 4);
}
END_TEST

START_TEST(another_weight_key_is_noticed_at_the_start)
{
    struct keyd_core_config c = core_config();
    weight.key.data[0] ^= 1;
    ck_assert_ptr_null(keyd_core_open(&c, WORLD_NOW, &lines, why));
    ck_assert_ptr_nonnull(strstr(why, "weight key"));
}
END_TEST

START_TEST(a_key_server_that_the_policy_does_not_name_gives_nothing)
{
    struct keyd_core_config c = core_config();
    keyd_core_close(core);
    c.seed = span_of(w.stranger_seed, 32);
    core = keyd_core_open(&c, WORLD_NOW, &lines, why);
    ck_assert_str_eq(answer(), "keyd_not_named");
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_engine_gets_what_its_node_believes);
    tcase_add_loop_test(t, evidence_that_the_policy_does_not_accept_gets_nothing, 0,
                        (int)(sizeof flaws / sizeof *flaws));
    tcase_add_test(t, simulated_evidence_is_refused_where_the_policy_wants_hardware);
    tcase_add_test(t, a_question_for_another_identity_is_refused);
    tcase_add_test(t, outside_the_policys_dates_or_with_a_clock_set_back_nobody_gets_a_lease);
    tcase_add_test(t, a_nodes_log_goes_on_or_it_gets_nothing);
    tcase_add_test(t, what_the_log_remembers_survives_a_restart);
    tcase_add_test(t, put_back_from_a_backup_it_waits_for_a_person);
    tcase_add_test(t, a_node_with_newer_papers_proves_it_stale);
    tcase_add_test(t, newer_papers_with_a_bad_signature_prove_nothing);
    tcase_add_test(t, a_lease_it_does_not_remember_proves_it_stale);
    tcase_add_test(t, its_own_lease_is_no_surprise);
    tcase_add_test(t, what_is_revoked_gets_nothing);
    tcase_add_test(t, the_operator_cannot_go_back_or_rewrite);
    tcase_add_test(t, another_weight_key_is_noticed_at_the_start);
    tcase_add_test(t, a_key_server_that_the_policy_does_not_name_gives_nothing);
}

RUN("keyd_core", add_tests)
