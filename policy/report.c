#include "policy/report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *hex(const void *data, size_t len)
{
    char *text = malloc(2 * len + 1);
    if (!text)
        return NULL;
    policy_hex_print(span_of(data, len), text);
    json_t *out = json_string(text);
    free(text);
    return out;
}

#define HEX(array) hex(array, sizeof(array))

static json_t *text(struct span s)
{
    return s.data ? json_stringn((const char *)s.data, s.len) : json_null();
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *tcb(const struct verifier_tcb *t)
{
    return json_pack("{sisisisisi}", "bootloader", t->bootloader, "tee", t->tee, "snp", t->snp, "microcode",
                     t->microcode, "fmc", t->fmc);
}

static json_t *pcrs(const struct verifier_vtpm *vtpm)
{
    json_t *out = json_object();
    char name[8];
    for (unsigned i = 0; i < VERIFIER_TPM_PCRS; i++) {
        snprintf(name, sizeof name, "pcr%u", i);
        if (vtpm->present >> i & 1)
            json_object_set_new(out, name, HEX(vtpm->pcr[i]));
    }
    return out;
}

static json_t *hardware(const struct verifier_hw *hw)
{
    json_t *out = json_pack("{ss sb ss so so so}", "tee", verifier_tee_names[hw->tee], "simulated", hw->simulated,
                            "product", hw->product, "measurement", HEX(hw->measurement), "chip_id",
                            hw->has_chip_id ? HEX(hw->chip_id) : json_null(), "expires", number(hw->expires));
    if (hw->beneath == VERIFIER_TEE_TDX) {
        json_t *registers = json_array();
        for (size_t i = 0; i < 4; i++)
            json_array_append_new(registers, HEX(hw->tdx.rtmr[i]));
        json_object_set_new(out, "registers", registers);
        json_object_set_new(out, "tcb_status", json_string(verifier_tcb_status_name(hw->tdx.tcb.status)));
        json_object_set_new(out, "tcb_date", number(hw->tdx.tcb.date));
        json_object_set_new(out, "platform_instance",
                            hw->has_platform_instance ? HEX(hw->platform_instance) : json_null());
    }
    if (hw->tee == VERIFIER_TEE_AZURE || hw->tee == VERIFIER_TEE_GCP)
        json_object_set_new(out, "pcrs", pcrs(&hw->vtpm));
    if (hw->beneath == VERIFIER_TEE_SNP) {
        json_object_set_new(out, "reported_tcb", tcb(&hw->snp.reported));
        json_object_set_new(out, "committed_tcb", tcb(&hw->snp.committed));
        json_object_set_new(out, "guest_policy", number(hw->snp.policy));
        json_object_set_new(out, "vmpl", number(hw->snp.vmpl));
    }
    return out;
}

static json_t *stage_bits(unsigned stage)
{
    static const char *const names[POLICY_STAGE_COUNT] = {POLICY_STAGE_NAMES};
    json_t *out = json_array();
    for (size_t i = 0; i < POLICY_STAGE_COUNT; i++)
        if (stage & (1u << i))
            json_array_append_new(out, json_string(names[i]));
    return out;
}

static json_t *devices(const struct verifier_node *node)
{
    static const char *const modes[] = {"unstated", "single", "multi", "ppcie"};
    json_t *out = json_array();
    for (size_t i = 0; i < node->device_count; i++) {
        const struct verifier_device_claims *d = &node->devices[i];
        json_array_append_new(out, json_pack("{ss ss ss ss ss ss sb sb sb}", "kind", d->is_switch ? "switch" : "gpu",
                                             "arch", d->arch, "ueid", d->ueid, "driver", d->driver, "vbios", d->vbios,
                                             "mode", modes[d->mode], "simulated", d->simulated, "ocsp_good",
                                             d->status_good, "rim_ocsp_good", d->rims_good));
    }
    return out;
}

static json_t *state(const struct verifier_node *node)
{
    const struct verifier_state *s = &node->state;
    json_t *policy = json_null(), *model = json_null(), *seal = json_null(), *serves = json_null();
    if (s->has_policy)
        policy = json_pack("{soso}", "digest", HEX(s->policy.digest), "version", number(s->policy.version));
    if (s->has_model)
        model = json_pack("{soso}", "root", HEX(s->model.root), "load_options", text(s->model.load_options));
    if (s->has_seal)
        seal = json_pack("{soso}", "public", HEX(s->seal.public), "epoch", number(s->seal.epoch));
    if (s->has_serves)
        serves = json_pack("{soso}", "count", number(s->serves.count), "root", HEX(s->serves.root));
    return json_pack("{so ss so so so so so so so}", "sandbox", stage_bits(s->stage), "cc", verifier_cc_names[s->cc],
                     "policy", policy, "model", model, "seal", seal, "serves", serves, "devices", devices(node),
                     "devices_at", s->has_devices ? number(s->devices.at) : json_null(), "at", number(s->at));
}

static json_t *node_json(const struct verifier_node *node)
{
    const struct verifier_statement *s = &node->statement;
    json_t *statement =
        json_pack("{ss so so so so so so so}", "role", verifier_role_names[s->role], "program", text(s->program),
                  "version", text(s->version), "config", HEX(s->config), "owner", HEX(s->owner), "identity",
                  HEX(s->identity), "release", HEX(s->release), "kernels", text(s->kernels));
    return json_pack("{so so so}", "hardware", hardware(&node->hw), "statement", statement, "state", state(node));
}

/* Whether stage `n` passed, failed or was not reached: 9 and 11 are the judge's, 10 comes before them in part. */
static const char *stage_result(int n, const struct verifier_refusal *r)
{
    static const int order[12] = {
        [1] = 1, [2] = 2, [3] = 3, [4] = 4, [5] = 5, [6] = 6, [7] = 7, [8] = 8, [10] = 9, [9] = 10, [11] = 11};
    if (r->stage < 1 || r->stage > 11)
        return "passed";
    int failed = order[r->stage];
    if (r->stage == 10 && r->inner_stage == 9) /* stage 9 of an engine: all of 1 to 8 and the node's 9 passed */
        return n == 10 ? "failed" : n == 11 ? "not reached" : "passed";
    return n == r->stage ? "failed" : order[n] < failed ? "passed" : "not reached";
}

/* What stage `n` found at the node, in a few words; "" where the name says it all. */
static json_t *stage_value(int n, const struct verifier_claims *c)
{
    const struct verifier_node *node = &c->node;
    switch (n) {
    case 2:
        return json_string(c->sealed ? "none: sealed to the engine's own key" : "TLS 1.3, a full handshake of its own");
    case 3:
        return json_sprintf("%s to %s", verifier_role_names[c->verifier], verifier_role_names[c->attester]);
    case 5:
        return json_sprintf("%s, %s%s", verifier_tee_names[node->hw.tee], node->hw.product,
                            node->hw.simulated ? ", simulated" : "");
    case 6:
        return json_string(c->sealed ? "binds this challenge and the sealing key" : "binds this very connection");
    case 7:
        return json_sprintf("%zu devices", node->device_count);
    case 8:
        return json_sprintf("%.*s %.*s", (int)node->statement.program.len, (const char *)node->statement.program.data,
                            (int)node->statement.version.len, (const char *)node->statement.version.data);
    case 9:
        return json_sprintf("policy version %u", node->state.has_policy ? node->state.policy.version : 0);
    case 10:
        return json_sprintf("%zu engines", c->engine_count);
    default:
        return json_string("");
    }
}

static json_t *stages(const struct verifier_claims *claims, const struct policy_verdict *v)
{
    static const char *const names[] = {"shape and sizes",
                                        "connection",
                                        "leaf",
                                        "path to the root",
                                        "hardware quote",
                                        "report data",
                                        "device evidence",
                                        "statement and state",
                                        "policy and lease",
                                        "engines",
                                        "rules"};
    json_t *out = json_array();
    for (int n = 1; n <= 11; n++) {
        const char *result = stage_result(n, &v->refusal);
        if (n == 2 && claims && claims->sealed)
            result = "not needed";
        if (n == 10 && claims && claims->engine_count == 0 && strcmp(result, "passed") == 0)
            result = "not asked";
        bool failed = v->refusal.stage == n;
        json_t *value = failed   ? json_string(v->refusal.note.observed)
                        : claims ? stage_value(n, claims)
                                 : json_string("");
        json_array_append_new(
            out, json_pack("{si ss ss so}", "stage", n, "name", names[n - 1], "result", result, "value", value));
    }
    return out;
}

/* What even a yes does not mean, in words for the reader. */
static json_t *limits(const struct verifier_claims *claims, const struct policy_verdict *v)
{
    json_t *out = json_array();
    bool gpus = false;
    for (size_t i = 0; claims && i < claims->engine_count; i++)
        gpus = gpus || claims->engine[i].node.device_count > 0;
    if (v->simulated)
        json_array_append_new(out, json_string("The evidence is simulated: it proves nothing about any hardware."));
    if (gpus)
        json_array_append_new(out, json_string("The age of accelerator evidence is vouched for by the measured "
                                               "software, not by the accelerator."));
    json_array_append_new(out,
                          json_string("Physical attacks on the memory bus of accepted platforms are not detected."));
    json_array_append_new(out, json_string("Sizes and times of messages can be seen by the network and the host."));
    return out;
}

static json_t *verdict_json(const struct policy_verdict *v)
{
    const struct verifier_refusal *r = &v->refusal;
    bool ok = r->code == VERIFIER_OK;
    json_t *seen = json_pack("{sososo}", "policy", number(v->seen.policy), "keyset", number(v->seen.keyset), "epoch",
                             number(v->seen.epoch));
    json_t *out = json_pack("{sb ss so so so so so so so}", "ok", ok, "code", verifier_err_name(r->code), "stage",
                            ok ? json_null() : json_integer(r->stage), "engine",
                            ok || r->engine < 0 ? json_null() : json_integer(r->engine), "inner_stage",
                            ok || r->inner_stage == 0 ? json_null() : json_integer(r->inner_stage), "observed",
                            ok ? json_null() : json_string(r->note.observed), "required",
                            ok ? json_null() : json_string(r->note.required), "remedy",
                            ok ? json_null() : json_string(verifier_err_remedy(r->code)), "valid_until",
                            ok ? number(v->valid_until) : json_null());
    if (ok) {
        json_object_set_new(out, "valid_by", json_string(v->valid_by));
        json_object_set_new(out, "simulated", json_boolean(v->simulated));
        json_object_set_new(out, "revocation_latency", number(v->revocation_latency));
    }
    json_object_set_new(out, "seen", seen);
    return out;
}

char *policy_report(const struct verifier_claims *claims, const struct policy_verdict *verdict)
{
    json_t *engines = json_array();
    for (size_t i = 0; claims && i < claims->engine_count; i++) {
        json_t *engine = node_json(&claims->engine[i].node);
        json_object_set_new(engine, "checked_at", number(claims->engine[i].checked_at));
        json_array_append_new(engines, engine);
    }
    json_t *report = json_pack("{so so so so so}", "verdict", verdict_json(verdict), "stages", stages(claims, verdict),
                               "node", claims ? node_json(&claims->node) : json_null(), "engines", engines, "limits",
                               limits(claims, verdict));
    /* whoever calls free()s it, and may have given jansson an allocator of its own */
    size_t len = report ? json_dumpb(report, NULL, 0, JSON_INDENT(2)) : 0;
    char *out = len > 0 ? malloc(len + 1) : NULL;
    if (out) {
        json_dumpb(report, out, len, JSON_INDENT(2));
        out[len] = 0;
    }
    json_decref(report);
    return out;
}
