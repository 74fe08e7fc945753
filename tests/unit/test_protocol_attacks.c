/* Is every attack on the list refused, by its name and at its stage? With the objects that are shipped. */
#include "unit/attacks.h"
#include "unit/run.h"

static struct world w;

START_TEST(the_attack_is_refused)
{
    const struct attack *a = &attacks[_i];
    world_open(&w);
    struct policy_verdict v = a->mount(&w);
    ck_assert_msg(v.refusal.code == a->code && v.refusal.stage == a->stage && v.refusal.inner_stage == a->inner_stage,
                  "%s: %s at stage %d/%d: %s / %s", a->name, verifier_err_name(v.refusal.code), v.refusal.stage,
                  v.refusal.inner_stage, v.refusal.note.observed, v.refusal.note.required);
    ck_assert_uint_eq(v.valid_until, 0);
    world_close(&w);
}
END_TEST

START_TEST(an_honest_fabric_passes)
{
    world_open(&w);
    struct policy_verdict v = attacks_honest_fabric(&w);
    ck_assert_msg(v.refusal.code == VERIFIER_OK, "%s at stage %d: %s / %s", verifier_err_name(v.refusal.code),
                  v.refusal.stage, v.refusal.note.observed, v.refusal.note.required);
    world_close(&w);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, an_honest_fabric_passes);
    tcase_add_loop_test(t, the_attack_is_refused, 0, (int)attacks_count);
}

RUN("protocol_attacks", add_tests)
