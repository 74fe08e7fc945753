/* acceptance.c - text of an acceptance file to rules. */
#include "policy/acceptance.h"

#include "policy/policy_parts.h"

static void parse_program(struct policy_group *programs, const char *role, enum policy_need need,
                          struct policy_rules_program *p)
{
    struct policy_group g = policy_group_child(programs, role, need);
    if (!policy_group_is_present(&g))
        return;
    p->count = policy_images_parse(&g, p->measurement);
    p->stage = policy_stage_parse(&g, "sandbox", VERIFIER_STAGE_ALL);
    policy_group_end(&g);
}

static void parse_hardware(struct policy_group *root, struct policy_rules *r)
{
    struct policy_group h = policy_group_child(root, "hardware", POLICY_REQUIRED);
    policy_hardware_parse(&h, &r->hardware);
    policy_group_hexes(&h, "fleet", POLICY_OPTIONAL, 0, POLICY_FLEET_KEYS_MAX, r->fleet[0], VERIFIER_KEY_LEN,
                       &r->fleet_count);
    policy_group_bool(&h, "fleet_by_policy", POLICY_OPTIONAL, &r->fleet_by_policy);
    policy_group_end(&h);
    bool named = r->hardware.chip_count + r->hardware.instance_count + r->fleet_count > 0 || r->fleet_by_policy;
    r->hardware_any = !named;
    if (!named && !r->simulated)
        policy_group_refuse(root, "hardware", POLICY_PROBLEM_VALUE,
                            "any genuine machine in the world would do: list snp_chips or tdx_instances, name a fleet "
                            "key, or say fleet_by_policy = true");
}

static void parse_all(struct policy_group *g, struct policy_rules *r)
{
    uint64_t policy_min = 0;
    size_t unknown = 0;
    policy_group_bool(g, "simulated", POLICY_OPTIONAL, &r->simulated);
    policy_group_hexes(g, "owners", POLICY_REQUIRED, 1, POLICY_OWNERS_MAX, r->owner[0], VERIFIER_DIGEST_LEN,
                       &r->owner_count);
    policy_group_uint(g, "policy_min", POLICY_OPTIONAL, 1, 999999999, &policy_min);
    r->policy_min = (uint32_t)policy_min;
    policy_group_hexes(g, "models", POLICY_OPTIONAL, 0, POLICY_MODELS_MAX, r->model[0], VERIFIER_DIGEST_LEN,
                       &r->model_count);
    policy_group_choice(g, "unknown", POLICY_OPTIONAL, policy_unknown_names, 2, &unknown);
    r->unknown_is_report = unknown == 1;

    struct policy_group programs = policy_group_child(g, "programs", POLICY_REQUIRED);
    parse_program(&programs, "proxy", POLICY_OPTIONAL, &r->proxy);
    parse_program(&programs, "engine", POLICY_REQUIRED, &r->engine);
    policy_group_end(&programs);
    parse_hardware(g, r);
    policy_gpus_parse(g, r->unknown_is_report, &r->gpus);
    policy_ages_parse(g, &r->evidence_age, &r->device_age, &r->collateral_age);
    policy_group_end(g);
}

bool policy_acceptance_parse(struct span text, struct policy_rules *out, struct policy_problem *why)
{
    struct policy_config *c = policy_config_open(text, why);
    memset(out, 0, sizeof *out);
    if (!c)
        return false;
    struct policy_group g = policy_config_root(c);
    parse_all(&g, out);
    bool good = policy_config_ok(c, why);
    policy_config_close(c);
    if (!good)
        memset(out, 0, sizeof *out);
    return good;
}
