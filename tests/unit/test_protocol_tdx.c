/* Does the judge read a TDX platform as the policy means it: registers, Intel's status, its date? The claims are an
 * honest node's whose hardware facts are replaced. */
#include "unit/run.h"
#include "unit/world.h"

static struct world w;
static struct verifier_claims *claims;

static void open_world(void)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct verifier_input in;
    struct verifier_hw *hw;

    world_open(&w);
    world_session(&s, VERIFIER_PROXY, &w.engine[0], 1, 0);
    world_envelope(&w, &w.engine[0], &s, NULL, &envelope);
    in = world_input(&w, &s, writer_span(&envelope));
    ck_assert_int_eq(world_judge(&w, &in, NULL, &claims).refusal.code, VERIFIER_OK);
    writer_release(&envelope);

    hw = &claims->node.hw;
    hw->tee = hw->beneath = VERIFIER_TEE_TDX;
    strcpy(hw->product, "tdx");
    hw->has_chip_id = false;
    hw->has_platform_instance = true;
    hw->platform_instance[0] = 1;
    memset(hw->tdx.rtmr[1], 7, sizeof hw->tdx.rtmr[1]);
    hw->tdx.tcb.status = VERIFIER_TCB_UP_TO_DATE;
    hw->tdx.tcb.date = 1710288000; /* 2024-03-13 */
    w.rules.engine.measurement[0].tee = VERIFIER_TEE_TDX;
    w.rules.engine.count = 1;
    memcpy(w.rules.engine.measurement[0].digest, hw->measurement, sizeof hw->measurement);
    w.rules.engine.measurement[0].registers = 1u << 1;
    memset(w.rules.engine.measurement[0].reg[1], 7, sizeof w.rules.engine.measurement[0].reg[1]);
    w.rules.hardware.line_count = 1;
    memset(&w.rules.hardware.line[0], 0, sizeof w.rules.hardware.line[0]);
    strcpy(w.rules.hardware.line[0].name, "tdx");
    w.rules.hardware_any = true;
}

static void close_world(void)
{
    verifier_claims_free(claims);
    world_close(&w);
}

static enum verifier_err judged(void)
{
    struct policy_verdict v;

    ck_assert_int_eq(policy_judge(claims, &w.rules, NULL, w.now, &v), v.refusal.code == VERIFIER_OK);
    return v.refusal.code;
}

START_TEST(registers_count_when_they_are_pinned)
{
    struct policy_measurement *m = &w.rules.engine.measurement[0];

    ck_assert_int_eq(judged(), VERIFIER_OK);
    m->reg[1][0]++;
    ck_assert_int_eq(judged(), VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    m->reg[1][0]--;
    m->registers |= 1u << 3;
    m->reg[3][0] = 1;
    ck_assert_int_eq(judged(), VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
}
END_TEST

/* The firmware is the same whatever kernel it boots. */
START_TEST(a_register_that_no_image_names_is_refused)
{
    struct policy_verdict v;

    w.rules.engine.measurement[0].registers = 0;
    ck_assert(!policy_judge(claims, &w.rules, NULL, w.now, &v));
    ck_assert_int_eq(v.refusal.code, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    ck_assert_ptr_nonnull(strstr(v.refusal.note.observed, "rtmr1 0707"));
    memset(claims->node.hw.tdx.rtmr[1], 0, sizeof claims->node.hw.tdx.rtmr[1]); /* never extended */
    ck_assert_int_eq(judged(), VERIFIER_OK);
    claims->node.hw.tdx.rtmr[3][47] = 1;
    ck_assert_int_eq(judged(), VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    w.rules.unknown_is_report = true;
    ck_assert_int_eq(judged(), VERIFIER_OK);
}
END_TEST

START_TEST(a_status_is_at_worst_the_row_s)
{
    enum verifier_tcb_status *status = &claims->node.hw.tdx.tcb.status;

    *status = VERIFIER_TCB_SW_HARDENING;
    ck_assert_int_eq(judged(), VERIFIER_E_TCB_STATUS);
    w.rules.hardware.line[0].tdx_status = 1;
    ck_assert_int_eq(judged(), VERIFIER_OK);
    *status = VERIFIER_TCB_CONFIGURATION;
    ck_assert_int_eq(judged(), VERIFIER_E_TCB_STATUS);
    w.rules.hardware.line[0].tdx_status = 4; /* OutOfDate: the last that a policy can name */
    for (int s = VERIFIER_TCB_UP_TO_DATE; s <= VERIFIER_TCB_OUT_OF_DATE; s++) {
        *status = (enum verifier_tcb_status)s;
        ck_assert_int_eq(judged(), VERIFIER_OK);
    }
    for (int s = VERIFIER_TCB_OUT_OF_DATE + 1; s <= VERIFIER_TCB_REVOKED; s++) {
        *status = (enum verifier_tcb_status)s;
        ck_assert_int_eq(judged(), VERIFIER_E_TCB_STATUS);
    }
    *status = VERIFIER_TCB_NONE;
    ck_assert_int_eq(judged(), VERIFIER_E_TCB_STATUS);
}
END_TEST

START_TEST(without_rows_only_up_to_date)
{
    w.rules.hardware.line_count = 0;
    ck_assert_int_eq(judged(), VERIFIER_OK);
    claims->node.hw.tdx.tcb.status = VERIFIER_TCB_SW_HARDENING;
    ck_assert_int_eq(judged(), VERIFIER_E_TCB_STATUS);
}
END_TEST

START_TEST(an_older_tcb_date_is_refused)
{
    w.rules.hardware.line[0].tdx_date = claims->node.hw.tdx.tcb.date;
    ck_assert_int_eq(judged(), VERIFIER_OK);
    w.rules.hardware.line[0].tdx_date++;
    ck_assert_int_eq(judged(), VERIFIER_E_TCB_TOO_OLD);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, open_world, close_world);
    tcase_add_test(t, registers_count_when_they_are_pinned);
    tcase_add_test(t, a_register_that_no_image_names_is_refused);
    tcase_add_test(t, a_status_is_at_worst_the_row_s);
    tcase_add_test(t, without_rows_only_up_to_date);
    tcase_add_test(t, an_older_tcb_date_is_refused);
}

RUN("protocol_tdx", add_tests)
