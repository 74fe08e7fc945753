/* policy.c - the policy text, one function a section. */
#include "policy/policy_parts.h"
#include "policy/rules.h"

#include <stdio.h>

#define HOUR 3600
#define DAY (24 * HOUR)

static const char *const endpoint_names[] = {POLICY_ENDPOINT_NAMES};
static const char *const feature_names[] = {POLICY_FEATURE_NAMES};
static const char *const stage_names[] = {POLICY_STAGE_NAMES};
static const char *const tdx_status_names[] = {POLICY_TDX_STATUS_NAMES};
static const char *const kem_names[] = {POLICY_KEM_NAMES};
static const char *const cache_names[] = {"tenant", "none"};
const char *const policy_unknown_names[2] = {"refuse", "report"};
static const char *const pcr_names[] = {"pcr0",  "pcr1",  "pcr2",  "pcr3",  "pcr4",  "pcr5",  "pcr6",  "pcr7",
                                        "pcr8",  "pcr9",  "pcr10", "pcr11", "pcr12", "pcr13", "pcr14", "pcr15",
                                        "pcr16", "pcr17", "pcr18", "pcr19", "pcr20", "pcr21", "pcr22", "pcr23"};
static const char *const line_names[] = {"Genoa", "Turin", "Milan", "tdx", "nitro"};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint32_t number(struct policy_group *g, const char *key, uint32_t fallback, uint32_t min, uint32_t max)
{
    uint64_t v = fallback;
    policy_group_uint(g, key, POLICY_OPTIONAL, min, max, &v);
    return (uint32_t)v;
}

static void parse_life(struct policy_group *g, struct policy *p)
{
    uint64_t version = 0;
    policy_group_uint(g, "version", POLICY_REQUIRED, 1, 999999999, &version);
    p->version = (uint32_t)version;
    policy_group_date(g, "not_before", POLICY_REQUIRED, &p->not_before);
    if (policy_group_date(g, "not_after", POLICY_REQUIRED, &p->not_after) && p->not_after <= p->not_before)
        policy_group_refuse(g, "not_after", POLICY_PROBLEM_VALUE, "must be later than not_before");
    p->lease_max = 4 * HOUR;
    policy_group_duration(g, "lease_max", POLICY_OPTIONAL, 60, DAY, &p->lease_max);
    p->version_grace = HOUR / 2;
    policy_group_duration(g, "version_grace", POLICY_OPTIONAL, 0, DAY, &p->version_grace);
    policy_group_hexes(g, "keyd", POLICY_REQUIRED, 1, POLICY_KEYDS_MAX, p->keyd[0], 32, &p->keyd_count);
    policy_group_hexes(g, "fleet", POLICY_OPTIONAL, 0, POLICY_FLEET_KEYS_MAX, p->fleet[0], 32, &p->fleet_count);
    policy_group_bool(g, "simulated", POLICY_OPTIONAL, &p->simulated);
    size_t unknown = 0;
    policy_group_choice(g, "unknown", POLICY_OPTIONAL, policy_unknown_names, 2, &unknown);
    p->unknown_is_report = unknown == 1;
    policy_group_choice(g, "min_kem", POLICY_OPTIONAL, kem_names, COUNT(kem_names), &p->min_kem);
}

static void parse_model(struct policy_group g, struct policy *p, struct policy_model *m)
{
    uint64_t shares = 1;
    policy_group_text(&g, "name", POLICY_REQUIRED, m->name, sizeof m->name);
    policy_group_texts(&g, "aliases", POLICY_OPTIONAL, 0, POLICY_ALIASES_MAX, m->alias[0], sizeof m->alias[0],
                       &m->alias_count);
    policy_group_hex(&g, "root", POLICY_REQUIRED, m->root, sizeof m->root);
    m->sealed = policy_group_hex(&g, "key_id", POLICY_OPTIONAL, m->key_id, sizeof m->key_id);
    policy_group_uint(&g, "shares", POLICY_OPTIONAL, 1, POLICY_KEYDS_MAX, &shares);
    m->shares = (uint32_t)shares;
    if (m->shares != 1 && m->shares != p->keyd_count)
        policy_group_refuse(&g, "shares", POLICY_PROBLEM_VALUE,
                            "must be 1 (each keyd holds the whole key) or the number of keyd keys (one share each)");
    policy_group_end(&g);
}

static void parse_models(struct policy_group *g, struct policy *p)
{
    p->model_count = policy_group_count(g, "models", 1, POLICY_MODELS_MAX);
    for (size_t i = 0; i < p->model_count; i++) {
        struct policy_model *m = &p->model[i];
        parse_model(policy_group_at(g, "models", i), p, m);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(p->model[k].name, m->name) == 0 || memcmp(p->model[k].root, m->root, 64) == 0)
                policy_group_refuse(g, "models", POLICY_PROBLEM_REPEATED,
                                    "two models have the same name or root; give a second name as an alias");
        }
    }
}

/* Under a virtual TPM the hardware measures the provider's software alone: the guest is what the registers say. */
static void parse_pcrs(struct policy_group *g, struct policy_measurement *m)
{
    bool vtpm = m->tee == VERIFIER_TEE_AZURE || m->tee == VERIFIER_TEE_GCP;
    uint8_t value[32];
    size_t count = 0;
    for (size_t i = 0; i < COUNT(pcr_names); i++) {
        if (!policy_group_hex(g, pcr_names[i], POLICY_OPTIONAL, value, sizeof value))
            continue;
        if (!vtpm || count == POLICY_PCRS_MAX) {
            policy_group_refuse(g, pcr_names[i], POLICY_PROBLEM_VALUE,
                                vtpm ? "one register too many: at most 8 of an image"
                                     : "only tee = \"azure\" and \"gcp\" have this register");
            return;
        }
        memcpy(m->pcr[count++], value, sizeof value);
        m->pcrs |= UINT32_C(1) << i;
    }
    if (vtpm && count == 0)
        policy_group_refuse(g, "tee", POLICY_PROBLEM_MISSING,
                            "any guest of that provider would do: pin registers that your image decides, "
                            "for example pcr4 and pcr9");
}

static void parse_measurement(struct policy_group g, struct policy_measurement *m)
{
    static const char *const register_names[] = {"rtmr0", "rtmr1", "rtmr2", "rtmr3"};
    size_t tee = 0;
    policy_group_choice(&g, "tee", POLICY_REQUIRED, verifier_tee_names, VERIFIER_TEES, &tee);
    m->tee = (enum verifier_tee)tee;
    policy_group_hex(&g, "measurement", m->tee == VERIFIER_TEE_GCP ? POLICY_OPTIONAL : POLICY_REQUIRED, m->digest,
                     sizeof m->digest);
    parse_pcrs(&g, m);
    for (size_t i = 0; i < COUNT(register_names); i++) {
        if (!policy_group_hex(&g, register_names[i], POLICY_OPTIONAL, m->reg[i], sizeof m->reg[i]))
            continue;
        m->registers |= UINT32_C(1) << i;
        if (m->tee != VERIFIER_TEE_TDX)
            policy_group_refuse(&g, register_names[i], POLICY_PROBLEM_VALUE, "only tee = \"tdx\" has this register");
    }
    policy_group_end(&g);
}

size_t policy_images_parse(struct policy_group *g, struct policy_measurement out[POLICY_MEASUREMENTS_MAX])
{
    size_t count = policy_group_count(g, "images", 1, POLICY_MEASUREMENTS_MAX);
    for (size_t i = 0; i < count; i++)
        parse_measurement(policy_group_at(g, "images", i), &out[i]);
    return count;
}

uint32_t policy_stage_parse(struct policy_group *g, const char *key, uint32_t fallback)
{
    uint32_t bits = fallback;
    policy_group_words(g, key, POLICY_OPTIONAL, stage_names, COUNT(stage_names), &bits);
    return bits;
}

static void parse_program(struct policy_group *programs, const char *role, struct policy_program *p)
{
    struct policy_group g = policy_group_child(programs, role, POLICY_REQUIRED);
    p->count = policy_images_parse(&g, p->measurement);
    p->sandbox_at_serving = policy_stage_parse(&g, "sandbox_at_serving", VERIFIER_STAGE_ALL);
    p->sandbox_at_release = policy_stage_parse(
        &g, "sandbox_at_release", p->sandbox_at_serving & (VERIFIER_STAGE_NO_DUMPS | VERIFIER_STAGE_NO_NEW_PRIVS));
    if (p->sandbox_at_release & ~p->sandbox_at_serving)
        policy_group_refuse(&g, "sandbox_at_release", POLICY_PROBLEM_VALUE,
                            "asks for a wall that sandbox_at_serving does not ask for; walls never come down");
    policy_group_end(&g);
}

static void parse_programs(struct policy_group *g, struct policy *p)
{
    struct policy_group programs = policy_group_child(g, "programs", POLICY_REQUIRED);
    parse_program(&programs, "proxy", &p->proxy);
    parse_program(&programs, "engine", &p->engine);
    policy_group_end(&programs);
}

static uint8_t least(struct policy_group *g, const char *key)
{
    return (uint8_t)number(g, key, 0, 0, 255);
}

static void parse_line(struct policy_group g, struct policy_line *l)
{
    size_t name = 0;
    if (policy_group_choice(&g, "line", POLICY_REQUIRED, line_names, COUNT(line_names), &name))
        snprintf(l->name, sizeof l->name, "%s", line_names[name]);
    if (name < 3) {
        l->bootloader = least(&g, "bootloader");
        l->tee = least(&g, "tee");
        l->snp = least(&g, "snp");
        l->microcode = least(&g, "microcode");
        l->fmc = least(&g, "fmc");
    } else if (name == 3) {
        policy_group_choice(&g, "worst_status", POLICY_OPTIONAL, tdx_status_names, COUNT(tdx_status_names),
                            &l->tdx_status);
        policy_group_date(&g, "tcb_date", POLICY_OPTIONAL, &l->tdx_date);
    }
    policy_group_end(&g);
}

void policy_hardware_parse(struct policy_group *g, struct policy_hardware *h)
{
    h->line_count = policy_group_count(g, "platforms", 1, POLICY_LINES_MAX);
    for (size_t i = 0; i < h->line_count; i++) {
        parse_line(policy_group_at(g, "platforms", i), &h->line[i]);
        for (size_t k = 0; k < i; k++)
            if (strcmp(h->line[k].name, h->line[i].name) == 0)
                policy_group_refuse(g, "platforms", POLICY_PROBLEM_REPEATED, "names \"%s\" twice", h->line[i].name);
    }
    policy_group_hexes(g, "snp_chips", POLICY_OPTIONAL, 0, POLICY_HARDWARE_MAX, h->chip[0], 64, &h->chip_count);
    policy_group_hexes(g, "tdx_instances", POLICY_OPTIONAL, 0, POLICY_HARDWARE_MAX, h->instance[0], 16,
                       &h->instance_count);
    for (size_t i = 0; i < h->chip_count; i++)
        if (span_is_zero(span_of(h->chip[i], 64)))
            policy_group_refuse(g, "snp_chips", POLICY_PROBLEM_VALUE, "a zero id means a masked one and names no chip");
}

static void parse_hardware(struct policy_group *g, struct policy *p)
{
    struct policy_group h = policy_group_child(g, "hardware", POLICY_REQUIRED);
    policy_hardware_parse(&h, &p->hardware);
    policy_group_end(&h);
    if (!p->simulated && p->hardware.chip_count + p->hardware.instance_count + p->fleet_count == 0)
        policy_group_refuse(g, "hardware", POLICY_PROBLEM_VALUE,
                            "any genuine machine in the world would do: list snp_chips or tdx_instances, or name a "
                            "fleet key");
}

static bool all_digits(const char *s)
{
    return strspn(s, "0123456789") == strlen(s);
}

void policy_gpus_parse(struct policy_group *g, bool unknown_is_report, struct policy_gpus *gpus)
{
    static const char *const ocsp_names[] = {"required", "optional"};
    struct policy_group u = policy_group_child(g, "gpus", POLICY_OPTIONAL);
    size_t ocsp = 0, rim_ocsp = 0;
    gpus->min = number(&u, "min", 0, 0, VERIFIER_DEVICES_MAX);
    gpus->max = number(&u, "max", gpus->min, gpus->min, VERIFIER_DEVICES_MAX);
    uint64_t switches = 0;
    gpus->has_switches = policy_group_uint(&u, "switches", POLICY_OPTIONAL, 0, VERIFIER_DEVICES_MAX, &switches);
    gpus->switches = (uint32_t)switches;
    policy_group_bool(&u, "ppcie", POLICY_OPTIONAL, &gpus->ppcie);
    policy_group_choice(&u, "ocsp", POLICY_OPTIONAL, ocsp_names, COUNT(ocsp_names), &ocsp);
    gpus->ocsp_optional = ocsp == 1;
    policy_group_choice(&u, "rim_ocsp", POLICY_OPTIONAL, ocsp_names, COUNT(ocsp_names), &rim_ocsp);
    gpus->rim_ocsp_optional = rim_ocsp == 1;
    policy_group_texts(&u, "drivers", POLICY_OPTIONAL, 0, POLICY_GPU_TEXTS_MAX, gpus->driver[0], sizeof gpus->driver[0],
                       &gpus->driver_count);
    policy_group_texts(&u, "vbios", POLICY_OPTIONAL, 0, POLICY_GPU_TEXTS_MAX, gpus->vbios[0], sizeof gpus->vbios[0],
                       &gpus->vbios_count);
    policy_group_texts(&u, "ueids", POLICY_OPTIONAL, 0, POLICY_HARDWARE_MAX, gpus->ueid[0], sizeof gpus->ueid[0],
                       &gpus->ueid_count);
    for (size_t i = 0; i < gpus->ueid_count; i++)
        if (!all_digits(gpus->ueid[i]))
            policy_group_refuse(&u, "ueids", POLICY_PROBLEM_VALUE, "an id is written in decimal digits");
    if (gpus->max > 0 && (gpus->driver_count == 0 || gpus->vbios_count == 0) && !unknown_is_report)
        policy_group_refuse(g, "gpus", POLICY_PROBLEM_MISSING,
                            "accelerators are allowed: list their drivers and vbios");
    policy_group_end(&u);
}

static void parse_requests(struct policy_group *g, struct policy *p)
{
    struct policy_group r = policy_group_child(g, "requests", POLICY_OPTIONAL);
    struct policy_requests *q = &p->requests;
    size_t cache = POLICY_CACHE_TENANT;
    q->endpoints = POLICY_ENDPOINTS_ALL;
    policy_group_words(&r, "endpoints", POLICY_OPTIONAL, endpoint_names, COUNT(endpoint_names), &q->endpoints);
    q->features = POLICY_FEATURES_ALL;
    policy_group_words(&r, "features", POLICY_OPTIONAL, feature_names, COUNT(feature_names), &q->features);
    q->max_context = number(&r, "max_context", 0, 1, 100000000);
    q->max_output = number(&r, "max_output", 0, 1, 100000000);
    q->max_choices = number(&r, "max_choices", 128, 1, 128);
    q->max_prompts = number(&r, "max_prompts", 128, 1, 128);
    q->temperature_max = 2;
    policy_group_fraction(&r, "temperature_max", POLICY_OPTIONAL, 0, 100, &q->temperature_max);
    q->top_p_min = 0;
    policy_group_fraction(&r, "top_p_min", POLICY_OPTIONAL, 0, 1, &q->top_p_min);
    q->repetition_max = 100;
    policy_group_fraction(&r, "repetition_max", POLICY_OPTIONAL, 0, 100, &q->repetition_max);
    policy_group_choice(&r, "prefix_cache", POLICY_OPTIONAL, cache_names, COUNT(cache_names), &cache);
    q->cache = (enum policy_cache)cache;
    policy_group_end(&r);
}

static void parse_tenants(struct policy_group *g, struct policy *p)
{
    struct policy_group t = policy_group_child(g, "tenants", POLICY_OPTIONAL);
    struct policy_tenancy *n = &p->tenants;
    n->max_life = 7 * DAY;
    policy_group_hexes(&t, "keys", POLICY_REQUIRED, 1, POLICY_TENANT_AUTHORITIES_MAX, n->key[0], 32, &n->key_count);
    policy_group_duration(&t, "max_life", POLICY_OPTIONAL, HOUR, 366 * DAY, &n->max_life);
    n->requests_per_minute = number(&t, "requests_per_minute", 0, 1, 999999999);
    n->tokens_per_minute = number(&t, "tokens_per_minute", 0, 1, 999999999);
    n->concurrent = number(&t, "concurrent", 0, 1, 1000000);
    policy_group_end(&t);
}

void policy_ages_parse(struct policy_group *g, uint64_t *evidence, uint64_t *devices, uint64_t *collateral)
{
    struct policy_group a = policy_group_child(g, "ages", POLICY_OPTIONAL);
    *evidence = DAY;
    policy_group_duration(&a, "evidence", POLICY_OPTIONAL, 60, 30 * DAY, evidence);
    *devices = DAY;
    policy_group_duration(&a, "devices", POLICY_OPTIONAL, 60, 30 * DAY, devices);
    *collateral = 366 * DAY; /* AMD signs its lists for a year */
    policy_group_duration(&a, "collateral", POLICY_OPTIONAL, HOUR, 366 * DAY, collateral);
    policy_group_end(&a);
}

bool policy_parse(struct span text, struct policy *out, struct policy_problem *why)
{
    struct policy_config *c = policy_config_open(text, why);
    memset(out, 0, sizeof *out);
    if (!c)
        return false;

    struct policy_group g = policy_config_root(c);
    parse_life(&g, out);
    parse_models(&g, out);
    parse_programs(&g, out);
    parse_hardware(&g, out);
    policy_gpus_parse(&g, out->unknown_is_report, &out->gpus);
    parse_requests(&g, out);
    parse_tenants(&g, out);
    policy_ages_parse(&g, &out->evidence_age, &out->device_age, &out->collateral_age);
    policy_group_end(&g);

    bool good = policy_config_ok(c, why);
    policy_config_close(c);
    if (!good)
        memset(out, 0, sizeof *out);
    return good;
}

const struct policy_model *policy_find_model(const struct policy *p, struct span name)
{
    if (name.len == 0)
        return p->model_count == 1 ? &p->model[0] : NULL;
    for (size_t i = 0; i < p->model_count; i++) {
        const struct policy_model *m = &p->model[i];
        if (span_is(name, m->name))
            return m;
        for (size_t k = 0; k < m->alias_count; k++)
            if (span_is(name, m->alias[k]))
                return m;
    }
    return NULL;
}

const struct policy_model *policy_find_root(const struct policy *p, const uint8_t root[64])
{
    for (size_t i = 0; i < p->model_count; i++)
        if (memcmp(p->model[i].root, root, 64) == 0)
            return &p->model[i];
    return NULL;
}

static void program_rules(const struct policy_program *p, bool serving, struct policy_rules_program *out)
{
    out->count = p->count;
    memcpy(out->measurement, p->measurement, sizeof out->measurement);
    out->stage = serving ? p->sandbox_at_serving : p->sandbox_at_release;
}

void policy_rules_for(const struct policy *p, bool serving, const uint8_t owner[64], struct policy_rules *out)
{
    memset(out, 0, sizeof *out);
    out->simulated = p->simulated;
    out->owner_count = 1;
    memcpy(out->owner[0], owner, sizeof out->owner[0]);
    program_rules(&p->proxy, serving, &out->proxy);
    program_rules(&p->engine, serving, &out->engine);
    out->hardware = p->hardware;
    /* a text without any id is accepted only with `simulated`, and then for simulated evidence only */
    out->hardware_any = p->hardware.chip_count + p->hardware.instance_count + p->fleet_count == 0;
    out->fleet_count = p->fleet_count;
    memcpy(out->fleet, p->fleet, sizeof out->fleet);
    out->model_count = p->model_count;
    for (size_t i = 0; i < p->model_count; i++)
        memcpy(out->model[i], p->model[i].root, sizeof out->model[i]);
    out->gpus = p->gpus;
    out->unknown_is_report = p->unknown_is_report;
    out->evidence_age = p->evidence_age;
    out->device_age = p->device_age;
    out->collateral_age = p->collateral_age;
}
