/* Each reason to refuse that no attack on the list (attacks.c) and no vector provokes: one broken thing in an honest
 * world, refused by its name and at its stage. */
#include <stdio.h>

#include "unit/run.h"
#include "unit/world.h"
#include "verifier/signed.h"
#include "verifier/tree.h"

static struct world w;

typedef void edit_fn(struct world *w, struct verifier_envelope *e);

static struct policy_verdict ask(struct world_node *node, enum verifier_role verifier, unsigned engines, edit_fn *edit)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&s, verifier, node, 1, engines);
    world_envelope(&w, node, &s, edit, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    struct policy_verdict v = world_judge(&w, &in, NULL, NULL);
    writer_release(&envelope);
    return v;
}

static struct policy_verdict engine(edit_fn *edit)
{
    return ask(&w.engine[0], VERIFIER_PROXY, 0, edit);
}

/* --- shape ------------------------------------------------------------------------------------------------- */

static void edit_shows_engines(struct world *unused, struct verifier_envelope *e)
{
    (void)unused;
    e->has_engines = true;
}
static struct policy_verdict engines_not_asked_for(void)
{
    return ask(&w.proxy, VERIFIER_CLIENT, 0, edit_shows_engines);
}

static void edit_path(struct world *unused, struct verifier_envelope *e)
{
    (void)unused;
    e->place.path_len--;
}
static struct policy_verdict path_too_short(void)
{
    return engine(edit_path);
}

static void edit_index(struct world *unused, struct verifier_envelope *e)
{
    (void)unused;
    e->place.index = e->tree_size;
}
static struct policy_verdict index_outside(void)
{
    return engine(edit_index);
}

static void edit_engine_path(struct world *unused, struct verifier_envelope *e)
{
    (void)unused;
    e->engines[0].place.path_len = 0;
}
static struct policy_verdict engine_path_too_short(void)
{
    return ask(&w.proxy, VERIFIER_CLIENT, 8, edit_engine_path);
}

/* --- statement and state -------------------------------------------------------------------------------------- */

static struct policy_verdict no_sealing_key(void)
{
    w.engine[0].state.has_seal = false;
    return ask(&w.engine[0], VERIFIER_CLIENT, 0, NULL);
}

static struct policy_verdict no_time(void)
{
    w.engine[0].state.at = 0;
    return engine(NULL);
}

static struct policy_verdict engine_without_kernels(void)
{
    w.engine[0].statement.kernels = span_of(NULL, 0);
    return engine(NULL);
}

static struct policy_verdict proxy_with_kernels(void)
{
    w.proxy.statement.kernels = span_str("cpu-test");
    return ask(&w.proxy, VERIFIER_CLIENT, 8, NULL);
}

static struct policy_verdict proxy_with_a_model(void)
{
    w.proxy.state.has_model = true;
    w.proxy.state.model = w.engine[0].state.model;
    return ask(&w.proxy, VERIFIER_CLIENT, 8, NULL);
}

static struct policy_verdict proxy_with_a_seal(void)
{
    w.proxy.state.has_seal = true;
    w.proxy.state.seal = w.engine[0].state.seal;
    return ask(&w.proxy, VERIFIER_CLIENT, 8, NULL);
}

static struct policy_verdict engine_that_serves(void)
{
    w.engine[0].state.has_serves = true;
    w.engine[0].state.serves.count = 1;
    return engine(NULL);
}

/* --- devices --------------------------------------------------------------------------------------------------- */

static const char *const one_device[] = {"1", NULL};

static struct policy_verdict devices_dated_after_the_state(void)
{
    world_devices(&w, &w.engine[0], one_device);
    w.engine[0].state.devices.at = w.engine[0].state.at + 1;
    return engine(NULL);
}

static struct policy_verdict devices_that_the_state_does_not_name(void)
{
    world_devices(&w, &w.engine[0], one_device);
    w.engine[0].state.has_devices = false;
    return engine(NULL);
}

static struct policy_verdict devices_in_no_mode(void)
{
    world_devices(&w, &w.engine[0], one_device);
    w.engine[0].state.cc = VERIFIER_CC_OFF;
    return engine(NULL);
}

static struct policy_verdict devices_too_old(void)
{
    world_devices(&w, &w.engine[0], one_device);
    w.rules.device_age = 1;
    return engine(NULL);
}

/* --- policy ------------------------------------------------------------------------------------------------------ */

static struct policy_verdict no_policy(void)
{
    w.engine[0].state.has_policy = false;
    return engine(NULL);
}

static struct policy_verdict policy_text_unreadable(void)
{
    snprintf(w.policy_not_after, sizeof w.policy_not_after, "tomorrow");
    world_sign_policy(&w, 1, w.owner, 1);
    return engine(NULL);
}

static struct writer changed;

static void edit_first_key_set_twice(struct world *world, struct verifier_envelope *e)
{
    struct verifier_policy_part part;
    ck_assert_int_eq(verifier_policy_part_parse(&part, writer_span(&world->policy_part)), VERIFIER_OK);
    part.keyset[1] = part.keyset[0];
    part.keyset_count = 2;
    writer_reset(&changed);
    verifier_policy_part_encode(&changed, &part);
    e->policy.bytes = writer_span(&changed);
}
static struct policy_verdict key_sets_that_do_not_follow(void)
{
    return engine(edit_first_key_set_twice);
}

static struct policy_verdict no_engine_shown(void)
{
    w.shown = 0;
    return ask(&w.proxy, VERIFIER_CLIENT, 8, NULL);
}

static const struct refusal {
    const char *name;
    struct policy_verdict (*mount)(void);
    enum verifier_err code;
    int stage;
} refusals[] = {
    {"engines that were not asked for", engines_not_asked_for, VERIFIER_E_ENGINES, 1},
    {"a path too short", path_too_short, VERIFIER_E_PATH, 4},
    {"an index outside the tree", index_outside, VERIFIER_E_INDEX, 4},
    {"an engine's path too short", engine_path_too_short, VERIFIER_E_ENGINE_PATH, 10},
    {"no sealing key", no_sealing_key, VERIFIER_E_NO_SEAL, 3},
    {"no trusted time", no_time, VERIFIER_E_NO_TIME, 8},
    {"an engine without kernels", engine_without_kernels, VERIFIER_E_NOT_FOR_ROLE, 8},
    {"a proxy with kernels", proxy_with_kernels, VERIFIER_E_NOT_FOR_ROLE, 8},
    {"a proxy with a model", proxy_with_a_model, VERIFIER_E_NOT_FOR_ROLE, 8},
    {"a proxy with a sealing key", proxy_with_a_seal, VERIFIER_E_NOT_FOR_ROLE, 8},
    {"an engine that serves engines", engine_that_serves, VERIFIER_E_NOT_FOR_ROLE, 8},
    {"devices dated after the state", devices_dated_after_the_state, VERIFIER_E_DEVICES_AT, 8},
    {"devices that the state does not name", devices_that_the_state_does_not_name, VERIFIER_E_DEVICES_UNEXPECTED, 7},
    {"devices in no mode", devices_in_no_mode, VERIFIER_E_CC_MISMATCH, 8},
    {"device evidence too old", devices_too_old, VERIFIER_E_DEVICES_OLD, 11},
    {"no policy in force", no_policy, VERIFIER_E_NO_POLICY, 9},
    {"a policy that cannot be read", policy_text_unreadable, VERIFIER_E_POLICY_TEXT, 9},
    {"key sets that do not follow one another", key_sets_that_do_not_follow, VERIFIER_E_KEYSET_CHAIN, 9},
    {"no engine where one was asked for", no_engine_shown, VERIFIER_E_NO_ENGINE, 11},
};

START_TEST(the_flaw_is_refused)
{
    const struct refusal *r = &refusals[_i];
    world_open(&w);
    changed = writer_with_max(VERIFIER_PART_MAX);
    struct policy_verdict v = r->mount();
    ck_assert_msg(v.refusal.code == r->code && v.refusal.stage == r->stage, "%s: %s at stage %d: %s / %s", r->name,
                  verifier_err_name(v.refusal.code), v.refusal.stage, v.refusal.note.observed, v.refusal.note.required);
    ck_assert_uint_eq(v.valid_until, 0);
    writer_release(&changed);
    world_close(&w);
}
END_TEST

START_TEST(a_policy_counts_from_its_first_day)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct verifier_claims *claims;
    struct policy_verdict v;
    world_open(&w);
    world_session(&s, VERIFIER_PROXY, &w.engine[0], 1, 0);
    world_envelope(&w, &w.engine[0], &s, NULL, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    ck_assert_int_eq(world_judge(&w, &in, NULL, &claims).refusal.code, VERIFIER_OK);
    ck_assert(!policy_judge(claims, &w.rules, NULL, 1767225600 - 1, &v)); /* a second before 2026 */
    ck_assert_int_eq(v.refusal.code, VERIFIER_E_POLICY_NOT_YET);
    verifier_claims_free(claims);
    writer_release(&envelope);
    world_close(&w);
}
END_TEST

/* A challenge whose bytes are changed in one place. */
static enum verifier_err challenge_with(size_t from_end, uint8_t byte)
{
    struct verifier_challenge c = {.verifier = VERIFIER_CLIENT,
                                   .attester = VERIFIER_PROXY,
                                   .engines_max = 8,
                                   .model = span_str("tiny"),
                                   .have_count = 2,
                                   .have = {{1}, {2}}};
    struct writer bytes = writer_with_max(VERIFIER_CHALLENGE_MAX);
    verifier_challenge_encode(&bytes, &c);
    ck_assert(writer_ok(&bytes));
    bytes.data[bytes.len - from_end] = byte;
    enum verifier_err err = verifier_challenge_parse(&c, writer_span(&bytes));
    writer_release(&bytes);
    return err;
}

START_TEST(shape_has_its_reasons)
{
    uint8_t twice[2][VERIFIER_DIGEST_LEN] = {{0}}, root[VERIFIER_DIGEST_LEN];
    enum {
        DIGESTS = 2 * (2 + VERIFIER_DIGEST_LEN),
        NAME = DIGESTS + 6 + 5
    }; /* behind the name: "max", 8, "have", the list */
    ck_assert_int_eq(challenge_with(VERIFIER_DIGEST_LEN, 2), VERIFIER_OK);
    ck_assert_int_eq(challenge_with(VERIFIER_DIGEST_LEN, 1), VERIFIER_E_DUPLICATE);
    ck_assert_int_eq(challenge_with(VERIFIER_DIGEST_LEN + 1, VERIFIER_DIGEST_LEN - 1), VERIFIER_E_SIZE);
    ck_assert_int_eq(challenge_with(NAME + 1, 7), VERIFIER_E_TEXT); /* a bell in "tiny" */
    ck_assert_int_eq(verifier_tree_root((const uint8_t(*)[VERIFIER_DIGEST_LEN])twice, 2, root), VERIFIER_E_DUPLICATE);
    ck_assert_int_eq(verifier_tree_check(twice[0], 1, 0, NULL, 0, root), VERIFIER_E_ROOT);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, the_flaw_is_refused, 0, (int)(sizeof refusals / sizeof *refusals));
    tcase_add_test(t, a_policy_counts_from_its_first_day);
    tcase_add_test(t, shape_has_its_reasons);
}

RUN("protocol_refusals", add_tests)
