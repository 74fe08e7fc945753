/* Does the verifier say yes and no where PROTOCOL.md says, at the right stage and by the right name? Walks
 * $AIRLOCK_SHARED/vectors/protocol/envelopes.json: whole envelopes, one flaw each. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/judge.h"
#include "vectors/objects.h"
#include "verifier/anchors/test.h"

static json_t *defaults;
static struct verifier_held held[64];
static size_t held_count;

/* A case's field, or the file's default. */
static const json_t *get(const json_t *c, const char *key)
{
    const json_t *own = json_object_get(c, key);
    return own ? own : json_object_get(defaults, key);
}

static bool flag(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

static uint64_t number(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

static enum verifier_role role_of(const json_t *name)
{
    for (size_t i = 0; i < VERIFIER_ROLES; i++)
        if (json_is_string(name) && strcmp(json_string_value(name), verifier_role_names[i]) == 0)
            return (enum verifier_role)i;
    return VERIFIER_ROLES;
}

/* --- the vectors' policy text: a few fields, dates as bare seconds ---------------------------------- */

static const char *after(const char *text, const char *name)
{
    const char *at = text;
    size_t len = strlen(name);
    while ((at = strstr(at, name)) != NULL) {
        const char *p = at + len;
        bool starts = at == text || at[-1] == '\n';
        while (*p == ' ')
            p++;
        if (starts && *p == '=')
            return p + 1;
        at += len;
    }
    return NULL;
}

static uint64_t text_number(const char *text, const char *name)
{
    const char *at = after(text, name);
    return at ? strtoull(at, NULL, 10) : 0;
}

static size_t text_keys(const char *text, const char *name, uint8_t (*out)[32], size_t max)
{
    const char *at = after(text, name), *end = at ? strchr(at, ']') : NULL;
    size_t count = 0;
    while (end && (at = strchr(at, '"')) != NULL && at < end && count < max) {
        if (!policy_hex_parse(span_of(at + 1, 64), out[count++], 32))
            return 0;
        at += 66;
    }
    return count;
}

static enum verifier_err read_facts(struct span body, struct policy_facts *out, struct verifier_note *why)
{
    char text[4096];
    (void)why;
    if (body.len >= sizeof text)
        return VERIFIER_E_POLICY_TEXT;
    memcpy(text, body.data, body.len);
    text[body.len] = '\0';
    *out = (struct policy_facts){.version = (uint32_t)text_number(text, "version"),
                                 .not_before = text_number(text, "not_before"),
                                 .not_after = text_number(text, "not_after"),
                                 .lease_max = text_number(text, "lease_max")};
    out->keyd_count = text_keys(text, "keyd", out->keyd, POLICY_KEYDS_MAX);
    out->fleet_count = text_keys(text, "fleet", out->fleet, POLICY_FLEET_KEYS_MAX);
    return VERIFIER_OK;
}

/* --- a case ------------------------------------------------------------------------------------------ */

static bool program_from(const json_t *list, unsigned stage, struct policy_rules_program *out)
{
    out->count = json_array_size(list);
    out->stage = stage;
    for (size_t i = 0; i < out->count; i++) {
        if (i >= POLICY_MEASUREMENTS_MAX)
            return false;
        out->measurement[i].tee = VERIFIER_TEE_SNP;
        if (!objects_unhex_fixed(json_array_get(list, i), out->measurement[i].digest, 48))
            return false;
    }
    return true;
}

static bool rules_from(const json_t *r, struct policy_rules *out)
{
    const json_t *measurements = json_object_get(r, "measurements"), *chips = json_object_get(r, "chips"),
                 *models = json_object_get(r, "models");
    unsigned stage = (unsigned)number(r, "stage");
    *out = (struct policy_rules){.simulated = flag(r, "simulated"),
                                 .owner_count = 1,
                                 .fleet_by_policy = true,
                                 .policy_min = (uint32_t)number(r, "policy"),
                                 .facts = read_facts};
    out->hardware.chip_count = json_array_size(chips);
    out->model_count = json_array_size(models);
    bool ok = objects_unhex_fixed(json_object_get(r, "owner"), out->owner[0], 64) &&
              program_from(json_object_get(measurements, "proxy"), stage, &out->proxy) &&
              program_from(json_object_get(measurements, "engine"), stage, &out->engine) &&
              out->hardware.chip_count <= POLICY_HARDWARE_MAX && out->model_count <= POLICY_MODELS_MAX;
    for (size_t i = 0; ok && i < out->hardware.chip_count; i++)
        ok = objects_unhex_fixed(json_array_get(chips, i), out->hardware.chip[i], 64);
    for (size_t i = 0; ok && i < out->model_count; i++)
        ok = objects_unhex_fixed(json_array_get(models, i), out->model[i], 64);
    return ok;
}

static struct verifier_input input_from(const json_t *c)
{
    const json_t *s = get(c, "session"), *pair = get(c, "pair");
    return (struct verifier_input){
        .envelope = objects_bytes(get(c, "envelope")),
        .challenge = objects_bytes(get(c, "challenge")),
        .spki = objects_bytes(get(c, "spki")),
        .exporter = objects_bytes(get(c, "exporter")).data,
        .session = {.tls13 = flag(s, "tls13"),
                    .finished = flag(s, "finished"),
                    .resumed = flag(s, "resumed"),
                    .psk = flag(s, "psk"),
                    .early_data = flag(s, "early_data"),
                    .post_handshake_auth = flag(s, "post_handshake_auth")},
        .verifier = role_of(json_array_get(pair, 0)),
        .attester = role_of(json_array_get(pair, 1)),
        .now = (uint64_t)json_integer_value(get(c, "now")),
        .held = held,
        .held_count = held_count,
    };
}

static bool expects(const json_t *c, const struct verifier_refusal *got)
{
    const json_t *want = json_object_get(c, "expect"), *codes = json_object_get(want, "code"), *each;
    const json_t *engine = json_object_get(want, "engine");
    size_t i;
    bool named = false;
    if (flag(want, "ok"))
        return got->code == VERIFIER_OK;
    json_array_foreach(codes, i, each) named =
        named || strcmp(json_string_value(each), verifier_err_name(got->code)) == 0;
    return named && json_integer_value(json_object_get(want, "stage")) == got->stage &&
           (!engine || json_integer_value(engine) == got->engine) &&
           (!json_object_get(want, "inner_stage") || (int)number(want, "inner_stage") == got->inner_stage);
}

static bool inject(const json_t *list)
{
    size_t i;
    json_t *each;
    verifier_anchors_reset();
    json_array_foreach(list, i, each)
    {
        struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_AMD, .simulated = flag(each, "simulated")};
        uint8_t sha256[32];
        snprintf(anchor.line, sizeof anchor.line, "%s", json_string_value(json_object_get(each, "line")));
        if (!objects_unhex_fixed(json_object_get(each, "sha256"), sha256, 32) ||
            !verifier_anchors_inject(sha256, &anchor))
            return false;
    }
    return true;
}

static bool holds(const json_t *c)
{
    static struct policy_rules rules;
    struct verifier_input in = input_from(c);
    struct policy_seen seen = {.policy = (uint32_t)number(get(c, "seen"), "policy"),
                               .keyset = (uint32_t)number(get(c, "seen"), "keyset"),
                               .epoch = (uint32_t)number(get(c, "seen"), "epoch")};
    struct verifier_refusal why;
    struct policy_verdict verdict = {0};
    if (!rules_from(get(c, "rules"), &rules) || !inject(get(c, "anchors"))) {
        printf("  the case cannot be read\n");
        return false;
    }
    struct verifier_claims *claims = verifier_check(&in, &why);
    if (claims) {
        bool yes = policy_judge(claims, &rules, &seen, in.now, &verdict);
        why = verdict.refusal;
        if (yes && (verdict.valid_until <= in.now || !verdict.simulated))
            why.code = VERIFIER_E_INTERNAL;
    }
    verifier_claims_free(claims);
    bool ok = expects(c, &why);
    if (!ok)
        printf("  got %s at stage %d, engine %d, inner stage %d: %s / %s\n", verifier_err_name(why.code), why.stage,
               why.engine, why.inner_stage, why.note.observed, why.note.required);
    return ok;
}

int main(void)
{
    const char *shared = getenv("AIRLOCK_SHARED");
    char path[4096];
    json_error_t error;
    size_t i;
    json_t *each;
    unsigned passed = 0, failed = 0;
    snprintf(path, sizeof path, "%s/vectors/protocol/envelopes.json", shared ? shared : "../shared");
    json_t *doc = json_load_file(path, 0, &error);
    if (!doc && json_error_code(&error) == json_error_cannot_open_file) {
        printf("protocol envelopes: 0 passed, 0 failed, 1 skipped\n");
        return 77;
    }
    defaults = json_object_get(doc, "defaults");
    json_array_foreach(json_object_get(doc, "held"), i, each)
    {
        if (i >= sizeof held / sizeof *held ||
            !objects_unhex_fixed(json_object_get(each, "digest"), held[i].digest, 64))
            failed++;
        else
            held[held_count++].bytes = objects_bytes(json_object_get(each, "bytes"));
    }
    json_array_foreach(json_object_get(doc, "cases"), i, each)
    {
        bool ok = holds(each);
        passed += ok;
        failed += !ok;
        if (!ok)
            printf("FAIL protocol/envelopes: %s\n", json_string_value(json_object_get(each, "name")));
    }
    printf("protocol envelopes: %u passed, %u failed, 0 skipped\n", passed, failed + (doc == NULL));
    json_decref(doc);
    objects_release();
    return passed == 0 || failed > 0;
}
