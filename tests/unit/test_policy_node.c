/* Does a node believe exactly the grants that it should, and no clock but theirs? */
#include <check.h>

#include "policy/node.h"
#include "unit/policy_world.h"
#include "unit/run.h"
#include "verifier/release.h"

#define MONO UINT64_C(5000000) /* milliseconds since some boot */

static struct world w;
static struct policy_node *node;
static uint8_t identity[32], statement[64], release_private[32], release_public[32];

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

static void setup(void)
{
    enum policy_node_err err;
    world_open(&w);
    memset(identity, 6, sizeof identity);
    memset(statement, 7, sizeof statement);
    memset(release_private, 8, sizeof release_private);
    ck_assert(verifier_x25519_public(release_private, release_public));
    struct policy_node_config config = {
        .role = VERIFIER_ENGINE, .documents = writer_span(&w.documents), .open = open_key};
    memcpy(config.identity, identity, 32);
    memcpy(config.statement, statement, 64);
    memcpy(config.owner, w.owner, 64);
    node = policy_node_open_new(&config, &err);
    ck_assert_int_eq(err, POLICY_NODE_OK);
}

static void teardown(void)
{
    policy_node_close(node);
    world_close(&w);
}

/* A grant under construction: tests change one field. */
struct draft {
    struct policy_grant grant;
    struct policy_lease lease;
    const uint8_t *grant_seed, *lease_seed;
    struct writer revocations;
};

static struct draft good_draft(const uint8_t nonce[32])
{
    struct draft d = {.grant_seed = w.keyd_seed, .lease_seed = w.keyd_seed};
    memcpy(d.grant.nonce, nonce, 32);
    memcpy(d.grant.identity, identity, 32);
    memcpy(d.grant.statement, statement, 64);
    d.grant.policy = writer_span(&w.documents);
    d.grant.issued = WORLD_NOW;
    memcpy(d.lease.identity, identity, 32);
    d.lease.role = VERIFIER_ENGINE;
    memcpy(d.lease.policy.digest, w.opened->digest, 64);
    d.lease.policy.version = w.opened->policy.version;
    d.lease.issued = WORLD_NOW;
    d.lease.expires = WORLD_NOW + 3600;
    d.grant.key_count = 1;
    struct policy_grant_key *k = &d.grant.keys[0];
    memcpy(k->artefact_root, w.root, 64);
    memcpy(k->key_id, w.key_id, 32);
    struct verifier_release_bind bind = {.n = 1};
    memcpy(bind.statement, statement, 64);
    memcpy(bind.policy, w.opened->digest, 64);
    memcpy(bind.artefact_root, w.root, 64);
    ck_assert(verifier_release_seal(release_public, &bind, w.weight_key, k->enc, k->sealed));
    return d;
}

static enum policy_node_err answer(struct draft *d, uint64_t mono_ms)
{
    struct writer lease_body = writer_with_max(4096), lease = lease_body, body = writer_with_max(1 << 19), all = body;
    policy_lease_encode(&lease_body, &d->lease);
    ck_assert(verifier_signed_make(&lease, VERIFIER_SIGNED_LEASE, writer_span(&lease_body), d->lease_seed));
    d->grant.lease = writer_span(&lease);
    policy_grant_encode(&body, &d->grant);
    ck_assert(verifier_signed_make(&all, VERIFIER_SIGNED_GRANT, writer_span(&body), d->grant_seed));
    enum policy_node_err err = policy_node_answer(node, writer_span(&all), mono_ms);
    writer_release(&lease_body);
    writer_release(&lease);
    writer_release(&body);
    writer_release(&all);
    writer_release(&d->revocations);
    return err;
}

static const uint8_t *ask(uint64_t mono_ms)
{
    static uint8_t nonce[32];
    struct writer out = writer_with_max(1024);
    struct policy_ask back;
    nonce[0]++;
    policy_node_ask(node, nonce, mono_ms, NULL, &out);
    ck_assert_int_eq(policy_ask_parse(&back, writer_span(&out)), READER_OK);
    ck_assert_mem_eq(back.nonce, nonce, 32);
    ck_assert_mem_eq(back.identity, identity, 32);
    writer_release(&out);
    return nonce;
}

static enum policy_node_err lease_once(uint64_t mono_ms, uint64_t now)
{
    struct draft d = good_draft(ask(mono_ms));
    d.grant.issued = d.lease.issued = now;
    d.lease.expires = now + 3600;
    return answer(&d, mono_ms);
}

START_TEST(no_time_no_service_before_the_first_grant)
{
    ck_assert_uint_eq(policy_node_now(node, MONO), 0);
    ck_assert(!policy_node_may_serve(node, MONO));
    ck_assert_uint_eq(policy_node_due(node), 0);
    ck_assert_uint_eq(policy_node_lease(node).len, 0);
}
END_TEST

START_TEST(a_good_grant_brings_time_lease_and_key)
{
    struct draft d = good_draft(ask(MONO));
    ck_assert_int_eq(answer(&d, MONO + 2000), POLICY_NODE_OK);
    ck_assert_uint_eq(policy_node_now(node, MONO + 2000), WORLD_NOW + 2); /* since the nonce left */
    ck_assert_uint_eq(policy_node_now(node, MONO + 62000), WORLD_NOW + 62);
    ck_assert(policy_node_may_serve(node, MONO + 2000));
    ck_assert(!policy_node_may_serve(node, MONO + 3600 * 1000));
    ck_assert_uint_eq(policy_node_due(node), MONO + 2000 + 15 * 60 * 1000);
    ck_assert(span_equal(policy_node_key(node, w.root), span_of(w.weight_key, 32)));
    ck_assert_uint_gt(policy_node_lease(node).len, 0);
    policy_node_wipe_keys(node);
    ck_assert_uint_eq(policy_node_key(node, w.root).len, 0);
}
END_TEST

static const uint8_t shares[2][32] = {{0x51}, {0x52}};

/* A policy under which two key servers hold a share of the weight key each; a node that knows it. */
static void split_key(void)
{
    enum policy_node_err err;
    struct policy_node_config config = {.role = VERIFIER_ENGINE, .open = open_key};
    ck_assert(verifier_release_combine(shares, 2, w.weight_key));
    ck_assert(verifier_release_key_id(w.weight_key, w.key_id));
    w.split = true;
    world_sign(&w);
    policy_node_close(node);
    config.documents = writer_span(&w.documents);
    memcpy(config.identity, identity, 32);
    memcpy(config.statement, statement, 64);
    memcpy(config.owner, w.owner, 64);
    node = policy_node_open_new(&config, &err);
    ck_assert_int_eq(err, POLICY_NODE_OK);
}

/* Key server `i` grants share `which`. */
static enum policy_node_err grant_share(uint8_t i, const uint8_t share[32], uint64_t mono_ms)
{
    struct draft d = good_draft(ask(mono_ms));
    struct verifier_release_bind bind = {.i = i, .n = 2};
    d.grant_seed = d.lease_seed = i == 0 ? w.keyd_seed : w.second_seed;
    memcpy(bind.statement, statement, 64);
    memcpy(bind.policy, w.opened->digest, 64);
    memcpy(bind.artefact_root, w.root, 64);
    ck_assert(verifier_release_seal(release_public, &bind, share, d.grant.keys[0].enc, d.grant.keys[0].sealed));
    return answer(&d, mono_ms);
}

START_TEST(a_split_key_takes_every_share)
{
    split_key();
    for (uint64_t i = 0; i < 2; i++) { /* one alone, however often, is nothing */
        ck_assert_int_eq(grant_share(1, shares[1], MONO + i), POLICY_NODE_OK);
        ck_assert_uint_eq(policy_node_key(node, w.root).len, 0);
    }
    ck_assert_int_eq(grant_share(0, shares[0], MONO + 2), POLICY_NODE_OK);
    ck_assert(span_equal(policy_node_key(node, w.root), span_of(w.weight_key, 32)));
}
END_TEST

START_TEST(a_wrong_share_is_refused_and_the_right_ones_still_do)
{
    split_key();
    ck_assert_int_eq(grant_share(0, shares[1], MONO), POLICY_NODE_OK); /* alone it cannot be told */
    ck_assert_int_eq(grant_share(1, shares[1], MONO + 1), POLICY_NODE_KEY);
    ck_assert_uint_eq(policy_node_key(node, w.root).len, 0);
    ck_assert_int_eq(grant_share(0, shares[0], MONO + 2), POLICY_NODE_OK);
    ck_assert_int_eq(grant_share(1, shares[1], MONO + 3), POLICY_NODE_OK);
    ck_assert(span_equal(policy_node_key(node, w.root), span_of(w.weight_key, 32)));
    ck_assert_int_eq(grant_share(0, shares[1], MONO + 4), POLICY_NODE_OK); /* too late to do harm */
    ck_assert_int_eq(grant_share(1, shares[0], MONO + 5), POLICY_NODE_OK);
    ck_assert(span_equal(policy_node_key(node, w.root), span_of(w.weight_key, 32)));
}
END_TEST

START_TEST(a_share_of_another_place_or_a_whole_key_is_refused)
{
    split_key();
    struct draft d = good_draft(ask(MONO)); /* bound to i = 0 of 1 */
    ck_assert_int_eq(answer(&d, MONO), POLICY_NODE_KEY);
    d = good_draft(ask(MONO + 1));
    d.grant_seed = d.lease_seed = w.second_seed; /* the second server with the first one's sealed share */
    struct verifier_release_bind bind = {.i = 0, .n = 2};
    memcpy(bind.statement, statement, 64);
    memcpy(bind.policy, w.opened->digest, 64);
    memcpy(bind.artefact_root, w.root, 64);
    ck_assert(verifier_release_seal(release_public, &bind, shares[0], d.grant.keys[0].enc, d.grant.keys[0].sealed));
    ck_assert_int_eq(answer(&d, MONO + 1), POLICY_NODE_KEY);
}
END_TEST

static void flaw_nonce(struct draft *d)
{
    d->grant.nonce[31] ^= 1;
}
static void flaw_identity(struct draft *d)
{
    d->grant.identity[0] ^= 1;
}
static void flaw_statement(struct draft *d)
{
    d->grant.statement[0] ^= 1;
}
static void flaw_foreign_keyd(struct draft *d)
{
    d->grant_seed = w.stranger_seed;
}
static void flaw_owner_is_no_keyd(struct draft *d)
{
    d->grant_seed = w.owner_seed;
}
static void flaw_lease_signer(struct draft *d)
{
    d->lease_seed = w.stranger_seed;
}
static void flaw_lease_identity(struct draft *d)
{
    d->lease.identity[0] ^= 1;
}
static void flaw_lease_role(struct draft *d)
{
    d->lease.role = VERIFIER_PROXY;
}
static void flaw_lease_policy(struct draft *d)
{
    d->lease.policy.digest[0] ^= 1;
}
static void flaw_lease_version(struct draft *d)
{
    d->lease.policy.version++;
}
static void flaw_lease_future(struct draft *d)
{
    d->lease.issued = WORLD_NOW + 301;
}
static void flaw_lease_over(struct draft *d)
{
    d->lease.issued = WORLD_NOW - 3600, d->lease.expires = WORLD_NOW;
}
static void flaw_lease_long(struct draft *d)
{
    d->lease.expires = WORLD_NOW + 4 * 3600 + 1;
}
static void flaw_before_policy(struct draft *d)
{
    d->grant.issued = w.opened->policy.not_before - 1;
}
static void flaw_after_policy(struct draft *d)
{
    d->grant.issued = w.opened->policy.not_after;
}
static void flaw_no_papers(struct draft *d)
{
    d->grant.policy = span_str("\x90");
}
static void flaw_revocations(struct draft *d)
{
    d->revocations = writer_with_max(4096);
    world_revocations(&w, 2, w.keyd_seed, &d->revocations);
    d->grant.revocations = writer_span(&d->revocations);
}
static void flaw_lease_epoch(struct draft *d)
{
    d->revocations = writer_with_max(4096);
    world_revocations(&w, 2, w.owner_seed, &d->revocations);
    d->grant.revocations = writer_span(&d->revocations);
    d->lease.epoch = 1;
}
static void flaw_key_bytes(struct draft *d)
{
    d->grant.keys[0].sealed[0] ^= 1;
}
static void flaw_key_id(struct draft *d)
{
    d->grant.keys[0].key_id[0] ^= 1;
}
static void flaw_key_model(struct draft *d)
{
    d->grant.keys[0].artefact_root[0] ^= 1;
}

static const struct {
    void (*flaw)(struct draft *);
    enum policy_node_err want;
} flaws[] = {
    {flaw_nonce, POLICY_NODE_NONCE},
    {flaw_identity, POLICY_NODE_IDENTITY},
    {flaw_statement, POLICY_NODE_STATEMENT},
    {flaw_foreign_keyd, POLICY_NODE_SIGNATURE},
    {flaw_owner_is_no_keyd, POLICY_NODE_SIGNATURE},
    {flaw_lease_signer, POLICY_NODE_LEASE},
    {flaw_lease_identity, POLICY_NODE_LEASE},
    {flaw_lease_role, POLICY_NODE_LEASE},
    {flaw_lease_policy, POLICY_NODE_LEASE},
    {flaw_lease_version, POLICY_NODE_LEASE},
    {flaw_lease_future, POLICY_NODE_FUTURE},
    {flaw_lease_over, POLICY_NODE_EXPIRED},
    {flaw_lease_long, POLICY_NODE_EXPIRED},
    {flaw_before_policy, POLICY_NODE_POLICY},
    {flaw_after_policy, POLICY_NODE_POLICY},
    {flaw_no_papers, POLICY_NODE_OWNER},
    {flaw_revocations, POLICY_NODE_REVOCATIONS},
    {flaw_lease_epoch, POLICY_NODE_LEASE},
    {flaw_key_bytes, POLICY_NODE_KEY},
    {flaw_key_id, POLICY_NODE_KEY},
    {flaw_key_model, POLICY_NODE_KEY},
};

START_TEST(each_flaw_refuses_the_grant_and_leaves_no_trace)
{
    struct draft d = good_draft(ask(MONO));
    flaws[_i].flaw(&d);
    enum policy_node_err err = answer(&d, MONO);
    ck_assert_msg(err == flaws[_i].want, "flaw %d: %s", _i, policy_node_err_name(err));
    ck_assert_uint_eq(policy_node_now(node, MONO), 0);
    ck_assert(!policy_node_may_serve(node, MONO));
    ck_assert_uint_eq(policy_node_key(node, w.root).len, 0);
}
END_TEST

START_TEST(a_nonce_is_good_for_one_answer_and_not_for_long)
{
    struct draft d = good_draft(ask(MONO)), again = good_draft(d.grant.nonce);
    ck_assert_int_eq(answer(&d, MONO), POLICY_NODE_OK);
    ck_assert_int_eq(answer(&again, MONO), POLICY_NODE_NO_NONCE);
    struct draft late = good_draft(ask(MONO));
    ck_assert_int_eq(answer(&late, MONO + 30001), POLICY_NODE_NO_NONCE);
    struct draft replay = good_draft(d.grant.nonce);
    ask(MONO); /* a new question */
    ck_assert_int_eq(answer(&replay, MONO), POLICY_NODE_NONCE);
}
END_TEST

START_TEST(an_altered_or_foreign_object_is_no_grant)
{
    ask(MONO);
    ck_assert_int_eq(policy_node_answer(node, span_str("grant"), MONO), POLICY_NODE_PARSE);
    ask(MONO);
    ck_assert_int_eq(policy_node_answer(node, writer_span(&w.keyset), MONO), POLICY_NODE_PARSE);
}
END_TEST

START_TEST(a_clock_set_back_or_ahead_is_noticed)
{
    ck_assert_int_eq(lease_once(MONO, WORLD_NOW), POLICY_NODE_OK);
    ck_assert_int_eq(lease_once(MONO + 1000, WORLD_NOW - 400), POLICY_NODE_ROLLBACK);
    ck_assert(policy_node_may_serve(node, MONO + 1000));
    ck_assert_int_eq(lease_once(MONO + 1000, WORLD_NOW - 100), POLICY_NODE_OK);
    ck_assert_uint_eq(policy_node_now(node, MONO + 1000), WORLD_NOW + 1); /* it never runs back */
    ck_assert_int_eq(lease_once(MONO + 2000, WORLD_NOW + 302), POLICY_NODE_OK);
    ck_assert_int_eq(lease_once(MONO + 3000, WORLD_NOW + 9000), POLICY_NODE_FUTURE);
    ck_assert(!policy_node_may_serve(node, MONO + 3000)); /* paused, or lied to: out of service at once */
    ck_assert_uint_eq(policy_node_now(node, MONO + 3000), 0);
    ck_assert_int_eq(lease_once(MONO + 4000, WORLD_NOW + 9000), POLICY_NODE_OK); /* as at the first start */
    ck_assert(policy_node_may_serve(node, MONO + 4000));
}
END_TEST

START_TEST(older_papers_are_refused_newer_ones_adopted)
{
    w.version = 4;
    world_sign(&w);
    ck_assert_int_eq(lease_once(MONO, WORLD_NOW), POLICY_NODE_OK);
    ck_assert_uint_eq(policy_node_policy(node)->version, 4);
    w.version = 3;
    world_sign(&w);
    ck_assert_int_eq(lease_once(MONO, WORLD_NOW), POLICY_NODE_ROLLBACK);
    w.version = 4;
    w.not_before = "2026-11-02"; /* another text with the same version */
    world_sign(&w);
    ck_assert_int_eq(lease_once(MONO, WORLD_NOW), POLICY_NODE_ROLLBACK);
    ck_assert_uint_eq(policy_node_policy(node)->version, 4);
}
END_TEST

START_TEST(an_epoch_never_falls)
{
    struct draft d = good_draft(ask(MONO));
    d.revocations = writer_with_max(4096);
    world_revocations(&w, 2, w.owner_seed, &d.revocations);
    d.grant.revocations = writer_span(&d.revocations);
    d.lease.epoch = 2;
    ck_assert_int_eq(answer(&d, MONO), POLICY_NODE_OK);
    ck_assert_uint_gt(policy_node_revocations(node).len, 0);
    ck_assert_int_eq(lease_once(MONO, WORLD_NOW), POLICY_NODE_ROLLBACK);
}
END_TEST

START_TEST(failures_wait_longer_each_time)
{
    uint64_t last = 0;
    for (int i = 0; i < 10; i++) {
        policy_node_failed(node, MONO, 0);
        uint64_t wait = policy_node_due(node) - MONO;
        ck_assert_uint_ge(wait, last);
        ck_assert_uint_le(wait, POLICY_NODE_RETRY_MAX_MS);
        last = wait;
    }
    ck_assert_uint_ge(last, POLICY_NODE_RETRY_MAX_MS / 2);
}
END_TEST

START_TEST(another_owners_papers_open_no_node)
{
    enum policy_node_err err;
    struct policy_node_config config = {.role = VERIFIER_PROXY, .documents = writer_span(&w.documents)};
    ck_assert_ptr_null(policy_node_open_new(&config, &err));
    ck_assert_int_eq(err, POLICY_NODE_OWNER);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, no_time_no_service_before_the_first_grant);
    tcase_add_test(t, a_good_grant_brings_time_lease_and_key);
    tcase_add_test(t, a_split_key_takes_every_share);
    tcase_add_test(t, a_wrong_share_is_refused_and_the_right_ones_still_do);
    tcase_add_test(t, a_share_of_another_place_or_a_whole_key_is_refused);
    tcase_add_loop_test(t, each_flaw_refuses_the_grant_and_leaves_no_trace, 0, (int)(sizeof flaws / sizeof *flaws));
    tcase_add_test(t, a_nonce_is_good_for_one_answer_and_not_for_long);
    tcase_add_test(t, an_altered_or_foreign_object_is_no_grant);
    tcase_add_test(t, a_clock_set_back_or_ahead_is_noticed);
    tcase_add_test(t, older_papers_are_refused_newer_ones_adopted);
    tcase_add_test(t, an_epoch_never_falls);
    tcase_add_test(t, failures_wait_longer_each_time);
    tcase_add_test(t, another_owners_papers_open_no_node);
}

RUN("policy_node", add_tests)
