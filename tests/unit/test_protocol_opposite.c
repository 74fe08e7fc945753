/* The opposite proof: a field earns its place when an attack succeeds without it. This program has its own build of
 * check.c, leaf.c and judge.c that leaves named checks out; with none left out every attack is refused as elsewhere. */
#include "unit/attacks.h"
#include "unit/run.h"
#include "verifier/opposite.h"

static struct world w;
static const char *ignored = "";

/* Is `check` one of the comma-separated names? */
bool opposite_ignores(const char *check)
{
    size_t len = strlen(check);
    for (const char *at = ignored; (at = strstr(at, check)) != NULL; at += len)
        if ((at == ignored || at[-1] == ',') && (at[len] == '\0' || at[len] == ','))
            return true;
    return false;
}

START_TEST(the_attack_needs_its_field)
{
    const struct attack *a = &attacks[_i];
    world_open(&w);
    ignored = "";
    struct policy_verdict v = a->mount(&w);
    ck_assert_msg(v.refusal.code == a->code, "%s with every check: %s", a->name, verifier_err_name(v.refusal.code));
    world_close(&w);
    world_open(&w);
    ignored = a->fields;
    v = a->mount(&w);
    ck_assert_msg(v.refusal.code == VERIFIER_OK, "%s without %s: %s at stage %d/%d: %s / %s", a->name, a->fields,
                  verifier_err_name(v.refusal.code), v.refusal.stage, v.refusal.inner_stage, v.refusal.note.observed,
                  v.refusal.note.required);
    ignored = "";
    world_close(&w);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, the_attack_needs_its_field, 0, (int)attacks_count);
}

RUN("protocol_opposite", add_tests)
