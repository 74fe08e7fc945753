/* Every SEV-SNP report in the vectors: the right verdict, the right reason, the right fields? */
#include <openssl/sha.h>
#include <stdio.h>

#include "vectors/cases.h"
#include "vectors/warm.h"
#include "verifier/anchors/test.h"
#include "verifier/err.h"
#include "verifier/hw.h"

static json_t *number_hex(uint64_t v, int digits)
{
    char text[24];

    snprintf(text, sizeof text, "0x%0*llx", digits, (unsigned long long)v);
    return json_string(text);
}

static json_t *tcb_json(const struct verifier_snp *s, const uint8_t raw[8], const struct verifier_tcb *t)
{
    json_t *o = json_pack("{s:o, s:i, s:i, s:i, s:i}", "raw", cases_hex(raw, 8), "bootloader", t->bootloader, "tee",
                          t->tee, "snp", t->snp, "microcode", t->microcode);

    if (s->line == VERIFIER_SNP_TURIN)
        json_object_set_new(o, "fmc", json_integer(t->fmc));
    return o;
}

static json_t *firmware_json(const struct verifier_snp_firmware *f)
{
    return json_pack("{s:i, s:i, s:i}", "major", f->major, "minor", f->minor, "build", f->build);
}

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

#define PUT_HEX(o, s, field) put(o, #field, cases_hex((s)->field, sizeof(s)->field))

/* `leaf` in the vectors' fields: what the facts carry of it; the rest is the certificate's own and compared as given.
 */
static json_t *leaf_json(const struct cases_case *c, const struct verifier_snp *s)
{
    json_t *leaf = json_deep_copy(json_object_get(json_object_get(c->doc, "fields"), "leaf"));

    put(leaf, "kind", json_string(s->signing_key == VERIFIER_SNP_VLEK ? "SEV-VLEK" : "SEV-VCEK"));
    put(leaf, "product_name", json_string(s->product));
    put(leaf, "csp_id", json_string(s->csp_id));
    return leaf;
}

static json_t *fields_json(const struct cases_case *c, const struct verifier_snp *s)
{
    static const char *const keys[8] = {"vcek", "vlek", "2", "3", "4", "5", "6", "none"};
    json_t *o = json_object();

    put(o, "version", json_integer(s->version));
    put(o, "guest_svn", json_integer(s->guest_svn));
    put(o, "policy", number_hex(s->policy, 1));
    put(o, "debug", json_boolean((s->policy & VERIFIER_SNP_POLICY_DEBUG) != 0));
    put(o, "migrate_ma", json_boolean((s->policy & VERIFIER_SNP_POLICY_MIGRATE) != 0));
    put(o, "smt_allowed", json_boolean((s->policy & VERIFIER_SNP_POLICY_SMT) != 0));
    put(o, "single_socket", json_boolean((s->policy & VERIFIER_SNP_POLICY_SINGLE_SOCKET) != 0));
    put(o, "abi_minor", json_integer((json_int_t)(s->policy & 0xff)));
    put(o, "abi_major", json_integer((json_int_t)(s->policy >> 8 & 0xff)));
    put(o, "vmpl", json_integer(s->vmpl));
    put(o, "signature_algo", json_integer(s->signature_algo));
    put(o, "platform_info", number_hex(s->platform_info, 1));
    put(o, "author_key_en", json_integer(s->author_key_en));
    put(o, "mask_chip_key", json_integer(s->mask_chip_key));
    put(o, "signing_key", json_string(keys[s->signing_key & 7]));
    put(o, "product", json_string(verifier_snp_line_name(s->line)));
    PUT_HEX(o, s, measurement);
    PUT_HEX(o, s, report_data);
    PUT_HEX(o, s, host_data);
    PUT_HEX(o, s, family_id);
    PUT_HEX(o, s, image_id);
    PUT_HEX(o, s, id_key_digest);
    PUT_HEX(o, s, author_key_digest);
    PUT_HEX(o, s, report_id);
    PUT_HEX(o, s, report_id_ma);
    PUT_HEX(o, s, chip_id);
    put(o, "cpuid_fam", number_hex(s->cpuid_family, 2));
    put(o, "cpuid_mod", number_hex(s->cpuid_model, 2));
    put(o, "cpuid_step", number_hex(s->cpuid_stepping, 2));
    put(o, "current_tcb", tcb_json(s, s->current_raw, &s->current));
    put(o, "reported_tcb", tcb_json(s, s->reported_raw, &s->reported));
    put(o, "committed_tcb", tcb_json(s, s->committed_raw, &s->committed));
    put(o, "launch_tcb", tcb_json(s, s->launch_raw, &s->launch));
    put(o, "current_fw", firmware_json(&s->current_firmware));
    put(o, "committed_fw", firmware_json(&s->committed_firmware));
    put(o, "leaf", leaf_json(c, s));
    return o;
}

/* The vectors' pinned fields; the judge compares them in production (policy/judge.c). */
static const char *pinned(struct cases_case *c, const struct verifier_hw *hw)
{
    const struct {
        const char *key, *code;
        struct span value;
    } pins[] = {{"measurement", "measurement_mismatch", span_of(hw->measurement, 48)},
                {"report_data", "report_data_mismatch", span_of(hw->report_data, 64)},
                {"chip_id", "chip_id_mismatch", span_of(hw->chip_id, 64)}};

    for (size_t i = 0; i < sizeof pins / sizeof *pins; i++) {
        const char *hex = json_string_value(json_object_get(c->policy, pins[i].key));
        uint8_t want[64];
        int len = hex ? cases_unhex(hex, want, sizeof want) : 0;

        if (len < 0)
            cases_unreadable(c, "policy %s", pins[i].key);
        else if (hex && !span_equal(span_of(want, (size_t)len), pins[i].value))
            return pins[i].code;
    }
    return NULL;
}

static struct verifier_hw_rules rules_of(struct cases_case *c)
{
    static const char *const keys[] = {"allow_debug", "max_vmpl",    "require_crl", "min_tcb",
                                       "measurement", "report_data", "chip_id",     NULL};
    struct verifier_hw_rules r = verifier_hw_rules_default();
    json_t *tcb = json_object_get(c->policy, "min_tcb");

    cases_policy_known(c, keys);
    r.require_crl = cases_policy_bool(c, "require_crl", false);
    r.allow_debug = cases_policy_bool(c, "allow_debug", false);
    r.max_vmpl = (uint32_t)json_integer_value(json_object_get(c->policy, "max_vmpl"));
    if (tcb) {
        r.has_min_tcb = true;
        r.min_tcb.fmc = (uint8_t)json_integer_value(json_object_get(tcb, "fmc"));
        r.min_tcb.bootloader = (uint8_t)json_integer_value(json_object_get(tcb, "bootloader"));
        r.min_tcb.tee = (uint8_t)json_integer_value(json_object_get(tcb, "tee"));
        r.min_tcb.snp = (uint8_t)json_integer_value(json_object_get(tcb, "snp"));
        r.min_tcb.microcode = (uint8_t)json_integer_value(json_object_get(tcb, "microcode"));
    }
    return r;
}

/* A synthetic item's own root stands in for the vendor's, of the line that its fields name. */
static void inject_root(struct cases_case *c)
{
    const char *line = json_string_value(json_object_get(json_object_get(c->doc, "fields"), "product"));
    struct span root = cases_original(c, "ark");
    struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_AMD, .simulated = true};
    uint8_t digest[32];

    verifier_anchors_reset();
    if (!c->synthetic)
        return;
    snprintf(anchor.line, sizeof anchor.line, "%s", line ? line : "");
    SHA256(root.data, root.len, digest);
    if (!verifier_anchors_inject(digest, &anchor))
        cases_unreadable(c, "anchor");
}

/* Twice with what earlier cases left behind: the same code, the same facts, the same words. */
static void check_warm(struct cases_case *c, struct verifier_collateral given, struct span report,
                       const struct span chain[3], const struct verifier_hw_rules *rules, enum verifier_err err,
                       const struct verifier_hw *hw, const struct verifier_note *why)
{
    given.cache = warm_cache();
    for (int i = 0; i < 2; i++) {
        struct verifier_note note = {0};
        struct verifier_hw again;

        if (verifier_hw_verify(&again, VERIFIER_TEE_SNP, report, chain, 3, &given, c->time, rules, &note) != err ||
            memcmp(&again, hw, sizeof again) != 0 || memcmp(&note, why, sizeof note) != 0)
            cases_unreadable(c, "a cache changes what is said, time %d", i);
    }
}

static void check(struct cases_case *c, struct cases_answer *a)
{
    struct verifier_hw_rules rules = rules_of(c);
    struct span report = cases_file(c, "report");
    struct span chain[3] = {cases_file(c, "leaf"), cases_file(c, "ask"), cases_file(c, "ark")};
    struct verifier_collateral collateral = {0};
    struct verifier_note why = {0};
    struct verifier_hw hw;
    enum verifier_err err;

    if (json_is_true(json_object_get(c->self, "crl"))) {
        collateral.crls[0] = cases_file(c, "crl");
        collateral.crl_count = 1;
    }
    inject_root(c);
    err = verifier_hw_verify(&hw, VERIFIER_TEE_SNP, report, chain, 3, &collateral, c->time, &rules, &why);
    check_warm(c, collateral, report, chain, &rules, err, &hw, &why);
    a->error = err == VERIFIER_OK ? pinned(c, &hw) : verifier_err_name(err);
    snprintf(a->detail, sizeof a->detail, "%.290s; %.290s", why.observed, why.required);
    if (err == VERIFIER_OK) {
        a->fields = fields_json(c, &hw.snp);
        if (hw.simulated != c->synthetic)
            cases_unreadable(c, "simulated flag");
    }
}

int main(void)
{
    static const struct cases_kind kinds[] = {{.folder = "snp", .check = check},
                                              {.folder = "snp-synthetic", .check = check}};

    return cases_main(kinds, sizeof kinds / sizeof *kinds);
}
