/* Whole evidence of vTPM guests, as it stands in an envelope, under test roots: Azure's on SNP and TDX, Google's. */
#include <openssl/sha.h>
#include <stdio.h>

#include "vectors/cases.h"
#include "vectors/pem.h"
#include "verifier/anchors/test.h"

static const char *told(const struct cases_case *c, const char *key)
{
    const char *text = json_string_value(json_object_get(c->doc, key));

    return text ? text : "";
}

/* The item's root stands in for the vendor's. */
static void inject_root(struct cases_case *c)
{
    bool intel = strcmp(told(c, "anchor"), "intel") == 0, amd = strcmp(told(c, "anchor"), "amd") == 0;
    struct verifier_anchor anchor = {.kind = amd     ? VERIFIER_ANCHOR_AMD
                                             : intel ? VERIFIER_ANCHOR_INTEL
                                                     : VERIFIER_ANCHOR_GCP,
                                     .simulated = true};
    struct span root = cases_original(c, intel ? "root" : "cert_2"), der[VERIFIER_CERTS_MAX];
    uint8_t digest[32];
    size_t n = intel ? pem_chain(root, der) : 0;

    if (n > 0)
        root = der[0];
    snprintf(anchor.line, sizeof anchor.line, "%s", told(c, "line"));
    SHA256(root.data, root.len, digest);
    verifier_anchors_reset();
    if (!verifier_anchors_inject(digest, &anchor))
        cases_unreadable(c, "anchor");
    pem_release(der, n);
}

static json_t *fields_json(const struct verifier_hw *hw)
{
    json_t *pcrs = json_object();

    for (int i = 0; i < VERIFIER_TPM_PCRS; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        if (hw->vtpm.present >> i & 1)
            json_object_set_new(pcrs, key, cases_hex(hw->vtpm.pcr[i], 32));
    }
    return json_pack("{s:s, s:i, s:o}", "product", hw->product, "reset_count", (int)hw->vtpm.reset_count, "pcrs", pcrs);
}

static void check(struct cases_case *c, struct cases_answer *a)
{
    static const char *const keys[] = {"binds", NULL};
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    enum verifier_tee tee = strcmp(told(c, "tee"), "gcp") == 0 ? VERIFIER_TEE_GCP : VERIFIER_TEE_AZURE;
    struct verifier_collateral given = {.tcb_info = cases_file(c, "tcb_info"),
                                        .qe_identity = cases_file(c, "qe_identity")};
    struct span evidence = cases_file(c, "evidence"), chain[3];
    size_t count = cases_has(c, "cert_0") ? 3 : 0;
    struct verifier_note why = {0};
    struct verifier_hw hw;
    uint8_t data[64];
    enum verifier_err err;

    cases_policy_known(c, keys);
    for (size_t i = 0; i < count; i++) {
        char role[16];
        snprintf(role, sizeof role, "cert_%zu", i);
        chain[i] = cases_file(c, role);
    }
    given.tcb_chain_count = pem_chain(cases_file(c, "tcb_info_chain"), given.tcb_chain);
    given.qe_chain_count = pem_chain(cases_file(c, "qe_identity_chain"), given.qe_chain);
    for (const char *const *role = (const char *const[]){"crl_0", "crl_1", "root_ca_crl", "pck_crl", NULL}; *role;
         role++)
        if (cases_has(c, *role))
            given.crls[given.crl_count++] = cases_file(c, *role);
    inject_root(c);
    err = verifier_hw_verify(&hw, tee, evidence, chain, count, &given, c->time, &rules, &why);
    for (uint8_t i = 0; i < sizeof data; i++)
        data[i] = i;
    if (err == VERIFIER_OK && cases_policy_bool(c, "binds", false) && !verifier_hw_binds(&hw, data))
        err = VERIFIER_E_REPORT_DATA_MISMATCH; /* check.c's in production */
    a->error = err == VERIFIER_OK ? NULL : verifier_err_name(err);
    snprintf(a->detail, sizeof a->detail, "%.290s; %.290s", why.observed, why.required);
    if (err == VERIFIER_OK) {
        a->fields = fields_json(&hw);
        if (!hw.simulated)
            cases_unreadable(c, "simulated flag");
    }
    pem_release(given.tcb_chain, given.tcb_chain_count);
    pem_release(given.qe_chain, given.qe_chain_count);
}

int main(void)
{
    static const struct cases_kind kinds[] = {{.folder = "vtpm", .check = check, .own = true}};

    return cases_main(kinds, 1);
}
