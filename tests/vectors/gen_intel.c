/* Synthetic Intel evidence: TDX quotes of version 4 (TD 1.0) and 5 (TD 1.5), SGX quotes of version 3, with their
 * collateral under a test root, and one flaw for each reason. */
#include <stdio.h>

#include "vectors/forge_intel.h"

/* An item whose first case is accepted. */
static void begin(struct forge_item *i, const char *top, const char *kind, const char *id, struct forge_quote *q)
{
    bool tdx = q->tee == VERIFIER_QUOTE_TEE_TDX;
    json_t *one;

    forge_open(i, top, kind, id,
               json_pack("{s:i, s:b, s:i, s:{s:s}}", "version", q->version, "debug", 0, "body_size", (int)q->body_len,
                         "pck", "fmspc", "90c06f000000"));
    forge_quote_file(i, "quote", "quote.bin", q);
    forge_intel_collateral(i, tdx);
    one = forge_case(i, "base", NULL);
    forge_expect(one, "tcb_status", json_string("UpToDate"));
    forge_expect(one, "advisories", json_array());
    forge_expect(one, "tcb_eval_number", json_integer(18));
}

static json_t *used(struct forge_item *i, const char *name, const char *code, const char *role, const char *file)
{
    json_t *one = forge_case(i, name, code);

    forge_use(one, role, file);
    return one;
}

/* --- flaws: the quote ------------------------------------------------------------------------------------------- */

enum { TD10_DATA = 632, SIGNATURE = 636, KEY = 700, INNER = 764, QE = 770 }; /* offsets in a version 4 quote */

static void flawed_bytes(struct forge_item *i)
{
    static const size_t cuts[] = {0, 40, 48, 631, 634, 763, 769, 1153, 1218, 1300};

    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        char name[32];
        snprintf(name, sizeof name, "cut_at_%zu", cuts[k]);
        forge_truncate(forge_case(i, name, "parse"), "quote.bin", cuts[k]);
    }
    forge_append(forge_case(i, "zero_padding", NULL), "quote.bin", "00000000");
    forge_append(forge_case(i, "data_after_the_end", "trailing_data"), "quote.bin", "0001");
    forge_set(forge_case(i, "version_2", "unsupported_version"), "quote.bin", 0, "02");
    forge_set(forge_case(i, "key_type_3", "unsupported_alg"), "quote.bin", 2, "03");
    forge_set(forge_case(i, "tee_1", "unsupported_tee"), "quote.bin", 4, "01");
    forge_xor(forge_case(i, "another_vendor", "unsupported_vendor"), "quote.bin", 12, "01");
    forge_set(forge_case(i, "outer_type_5", "parse"), "quote.bin", INNER, "05");
    forge_xor(forge_case(i, "certificate_type", "unsupported_cert_data"), "quote.bin", QE + 384 + 64 + 2 + 20, "01");
    forge_xor(forge_case(i, "measurement_changed", "bad_signature"), "quote.bin", 48 + 136, "01");
    forge_xor(forge_case(i, "signature_changed", "bad_signature"), "quote.bin", SIGNATURE, "01");
    forge_xor(forge_case(i, "key_changed", "qe_binding"), "quote.bin", KEY, "01");
    forge_xor(forge_case(i, "qe_report_changed", "qe_report_signature"), "quote.bin", QE + 64, "01");
    forge_xor(forge_case(i, "authentication_data_changed", "qe_binding"), "quote.bin", QE + 384 + 64 + 2, "01");
}

static json_t *quote_case(struct forge_item *i, const char *name, const char *code, struct forge_quote *q)
{
    char file[80];

    snprintf(file, sizeof file, "quote_%s.bin", name);
    forge_quote_file(i, NULL, file, q);
    return used(i, name, code, "quote", file);
}

static void flawed_quotes(struct forge_item *i, const struct forge_quote *good)
{
    struct forge_quote q = *good;

    q.loose = true;
    quote_case(i, "second_half_of_the_binding", "qe_binding", &q);
    q = *good;
    q.body[120] |= 1;
    quote_case(i, "debug", "debug_enabled", &q);
    forge_policy(used(i, "debug_allowed", NULL, "quote", "quote_debug.bin"), "allow_debug", json_true());
    q = *good;
    q.body[120] |= 4;
    quote_case(i, "reserved_attribute", "td_attributes_reserved", &q);
    q = *good;
    q.body[123] = 0;
    forge_policy(quote_case(i, "page_faults", "sept_ve_disable", &q), "require_sept_ve_disable", json_true());
    used(i, "page_faults_allowed", NULL, "quote", "quote_page_faults.bin");
    q = *good;
    q.body[112] = 1;
    quote_case(i, "seam_attributes", "tdx_module_mismatch", &q);
    q = *good;
    q.body[64] = 1;
    quote_case(i, "seam_signer", "tdx_module_mismatch", &q);
    q = *good;
    q.body[1] = 9;
    quote_case(i, "module_of_unknown_version", "tdx_module_mismatch", &q);
    q = *good;
    q.body[0] = 1;
    quote_case(i, "module_below_all_levels", "tcb_not_supported", &q);
    q = *good;
    q.body[0] = 2;
    forge_expect(quote_case(i, "module_revoked", "tcb_status", &q), "tcb_status", json_string("Revoked"));
    q = *good;
    q.body[2] = 3;
    quote_case(i, "tdx_component_below_all_levels", "tcb_not_supported", &q);
    q = *good;
    q.body[1] = 0;
    q.body[0] = 5;
    forge_expect(quote_case(i, "module_version_0", NULL, &q), "tdx_module_tcb_status", json_null());
    q = *good;
    q.qe[258] = 2;
    quote_case(i, "qe_below_all_levels", "tcb_not_supported", &q);
    q = *good;
    q.qe[258] = 5;
    forge_expect(quote_case(i, "qe_out_of_date", "tcb_status", &q), "advisories", json_pack("[s]", "INTEL-SA-90005"));
    q = *good;
    q.qe[256] = 1;
    quote_case(i, "qe_of_another_product", "qe_identity_mismatch", &q);
    q = *good;
    q.qe[16] = 1;
    quote_case(i, "qe_miscselect", "qe_identity_mismatch", &q);
    q = *good;
    q.qe[48] |= 2;
    quote_case(i, "qe_debug", "qe_identity_mismatch", &q);
    q = *good;
    q.qe[128] ^= 1;
    quote_case(i, "qe_signer", "qe_identity_mismatch", &q);
}

/* --- flaws: certificates -------------------------------------------------------------------------------------------
 */

/* A quote that is good but for its chain. */
static void chain_case(struct forge_item *i, const struct forge_quote *good, const char *name, const char *code,
                       X509 *leaf, X509 *middle, X509 *top)
{
    struct forge_quote q = *good;

    q.chain[0] = leaf;
    q.chain[1] = middle;
    q.chain[2] = top;
    quote_case(i, name, code, &q);
}

static void flawed_leaves(struct forge_item *i, const struct forge_quote *good)
{
    struct forge_cert c = forge_intel_pck();

    c.from = "2026-06-01T00:00:01Z";
    chain_case(i, good, "pck_not_yet_valid", "cert_not_yet_valid", forge_x509(c), forge_intel.ca, forge_intel.root);
    c = forge_intel_pck();
    c.to = "2026-05-31T23:59:59Z";
    chain_case(i, good, "pck_expired", "cert_expired", forge_x509(c), forge_intel.ca, forge_intel.root);
    c = forge_intel_pck();
    c.cn = "Intel SGX TCB Signing";
    chain_case(i, good, "pck_of_another_name", "chain_issuer", forge_x509(c), forge_intel.ca, forge_intel.root);
    c = forge_intel_pck();
    c.signer = forge_intel.other_key;
    chain_case(i, good, "pck_signed_by_another_key", "chain_signature", forge_x509(c), forge_intel.ca,
               forge_intel.root);
    c = forge_intel_pck();
    c.extension_count = 0;
    chain_case(i, good, "pck_without_a_platform", "parse", forge_x509(c), forge_intel.ca, forge_intel.root);
    c = forge_intel_pck();
    forge_intel_fill_pck(&c.extension[0], 1);
    chain_case(i, good, "pck_without_a_ppid", "parse", forge_x509(c), forge_intel.ca, forge_intel.root);
    c = forge_intel_pck();
    c.key = forge_ec("a key on another curve", "P-384");
    chain_case(i, good, "pck_on_p384", "unsupported_alg", forge_x509(c), forge_intel.ca, forge_intel.root);
}

static void flawed_chains(struct forge_item *i, const struct forge_quote *good)
{
    struct forge_cert c = forge_intel_ca();
    struct forge_quote q = *good;

    c.ca = false;
    chain_case(i, good, "ca_without_the_right", "not_a_ca", forge_intel.pck, forge_x509(c), forge_intel.root);
    c = forge_intel_root();
    c.room = 0;
    c.key = forge_intel.root_key;
    chain_case(i, good, "order", "chain_issuer", forge_intel.ca, forge_intel.pck, forge_intel.root);
    chain_case(i, good, "root_of_the_same_name", "untrusted_root", forge_intel.pck, forge_intel.ca,
               forge_intel.other_root);
    q.chain_count = 2;
    quote_case(i, "two_certificates", "chain_length", &q);
    q.chain_count = 4;
    q.chain[3] = forge_intel.root;
    quote_case(i, "four_certificates", "chain_length", &q);
    forge_set(forge_case(i, "not_pem", "parse"), "quote.bin", QE + 384 + 64 + 2 + 20 + 6, "2e");
}

static void crl_case(struct forge_item *i, const char *name, const char *code, struct forge_crl spec, bool of_root)
{
    char file[80];

    snprintf(file, sizeof file, "%s.crl", name);
    forge_intel_crl_file(i, NULL, file, spec, of_root);
    used(i, name, code, of_root ? "root_ca_crl" : "pck_crl", file);
}

static void flawed_lists(struct forge_item *i)
{
    crl_case(i, "pck_revoked", "cert_revoked", (struct forge_crl){.revoked = {FORGE_INTEL_PCK}}, false);
    crl_case(i, "ca_revoked", "cert_revoked", (struct forge_crl){.revoked = {FORGE_INTEL_CA}}, true);
    crl_case(i, "signer_revoked", "cert_revoked", (struct forge_crl){.revoked = {FORGE_INTEL_SIGNER}}, true);
    crl_case(i, "list_expired", "crl_expired", (struct forge_crl){.to = "2026-05-31T23:59:59Z"}, false);
    crl_case(i, "list_not_yet_valid", "crl_not_yet_valid", (struct forge_crl){.from = "2026-06-01T00:00:01Z"}, true);
    crl_case(i, "list_signed_by_another_key", "crl_signature", (struct forge_crl){.signer = forge_intel.other_key},
             false);
    crl_case(i, "list_without_an_end", "parse", (struct forge_crl){.to = ""}, false);
    used(i, "list_of_the_ca_missing", "crl_missing", "pck_crl", "root_ca.crl");
    forge_truncate(forge_case(i, "list_cut", "parse"), "pck.crl", 40);
}

/* --- flaws: collateral
 * ------------------------------------------------------------------------------------------------ */

static json_t *changed(json_t *o, const char *key, json_t *value)
{
    FORGE(value ? json_object_set_new(o, key, value) == 0 : json_object_del(o, key) == 0);
    return o;
}

static void info_case(struct forge_item *i, const char *name, const char *code, json_t *value)
{
    char file[80];

    snprintf(file, sizeof file, "info_%s.json", name);
    forge_intel_info_file(i, file, value);
    used(i, name, code, "tcb_info", file);
}

static void identity_case(struct forge_item *i, const char *name, const char *code, json_t *value)
{
    char file[80];

    snprintf(file, sizeof file, "identity_%s.json", name);
    forge_intel_identity_file(i, file, value);
    used(i, name, code, "qe_identity", file);
}

static void flawed_info(struct forge_item *i)
{
    json_t *short_list = forge_intel_info(true);

    info_case(i, "info_of_sgx", "collateral_mismatch", changed(forge_intel_info(true), "id", json_string("SGX")));
    info_case(i, "info_of_version_2", "collateral_mismatch",
              changed(forge_intel_info(true), "version", json_integer(2)));
    info_case(i, "info_expired", "collateral_expired",
              changed(forge_intel_info(true), "nextUpdate", json_string("2026-05-31T23:59:59Z")));
    info_case(i, "info_from_tomorrow", "collateral_expired",
              changed(forge_intel_info(true), "issueDate", json_string("2026-06-02T00:00:00Z")));
    info_case(i, "info_of_another_model", "fmspc_mismatch",
              changed(forge_intel_info(true), "fmspc", json_string("90c06f000001")));
    info_case(i, "info_of_another_pce", "pceid_mismatch",
              changed(forge_intel_info(true), "pceId", json_string("0001")));
    info_case(i, "info_without_a_date", "parse", changed(forge_intel_info(true), "issueDate", NULL));
    info_case(i, "info_without_levels", "parse", changed(forge_intel_info(true), "tcbLevels", NULL));
    info_case(i, "info_of_tcb_type_1", "parse", changed(forge_intel_info(true), "tcbType", json_integer(1)));
    info_case(i, "info_without_modules", "tdx_module_mismatch",
              changed(forge_intel_info(true), "tdxModuleIdentities", NULL));
    info_case(i, "info_with_no_level", "tcb_not_supported", changed(forge_intel_info(true), "tcbLevels", json_array()));
    info_case(i, "levels_from_low_to_high", "parse",
              changed(forge_intel_info(true), "tcbLevels",
                      json_pack("[o, o]", forge_intel_level(12, "UpToDate", NULL, true, 5),
                                forge_intel_level(13, "UpToDate", NULL, true, 5))));
    json_array_remove(
        json_object_get(json_object_get(json_array_get(json_object_get(short_list, "tcbLevels"), 0), "tcb"),
                        "sgxtcbcomponents"),
        15);
    info_case(i, "fifteen_components", "parse", short_list);
    info_case(i, "status_unknown", "parse",
              changed(forge_intel_info(true), "tcbLevels",
                      json_pack("[o]", forge_intel_level(11, "Splendid", NULL, true, 5))));
    info_case(i, "status_that_only_we_conclude", "parse",
              changed(forge_intel_info(true), "tcbLevels",
                      json_pack("[o]", forge_intel_level(11, "TDRelaunchAdvised", NULL, true, 5))));
    info_case(
        i, "advisory_too_long", "parse",
        changed(forge_intel_info(true), "tcbLevels",
                json_pack("[o]", forge_intel_level(11, "UpToDate", "INTEL-SA-000000000000000000000000", true, 5))));
}

static void statuses(struct forge_item *i)
{
    static const char *const words[] = {
        "SWHardeningNeeded", "ConfigurationNeeded",          "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",         "OutOfDateConfigurationNeeded", "Revoked"};

    for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
        json_t *one, *levels = json_pack("[o]", forge_intel_level(11, words[k], "INTEL-SA-90009", true, 5));
        char name[64], file[80];

        snprintf(name, sizeof name, "status_%s", words[k]);
        info_case(i, name, "tcb_status", changed(forge_intel_info(true), "tcbLevels", levels));
        snprintf(file, sizeof file, "info_%s.json", name);
        snprintf(name, sizeof name, "status_%s_allowed", words[k]);
        one = used(i, name, k == 5 ? "tcb_status" : NULL, "tcb_info", file); /* Revoked never is */
        forge_policy(one, "allowed_tcb_status", json_pack("[s]", words[k]));
        forge_expect(one, "tcb_status", json_string(words[k]));
        forge_expect(one, "advisories", json_pack("[s]", "INTEL-SA-90009"));
    }
}

static void flawed_identity(struct forge_item *i)
{
    identity_case(i, "identity_of_sgx", "collateral_mismatch",
                  changed(forge_intel_identity(true), "id", json_string("QE")));
    identity_case(i, "identity_of_version_1", "collateral_mismatch",
                  changed(forge_intel_identity(true), "version", json_integer(1)));
    identity_case(i, "identity_expired", "collateral_expired",
                  changed(forge_intel_identity(true), "nextUpdate", json_string("2026-05-31T23:59:59Z")));
    identity_case(i, "identity_without_a_number", "parse",
                  changed(forge_intel_identity(true), "tcbEvaluationDataNumber", NULL));
    identity_case(i, "identity_with_a_short_mask", "parse",
                  changed(forge_intel_identity(true), "attributesMask", json_string("FB")));
    identity_case(i, "identity_of_another_signer", "qe_identity_mismatch",
                  changed(forge_intel_identity(true), "mrsigner",
                          json_string("00000000000000000000000000000000000000000000000000000000000000ff")));
    identity_case(i, "identity_levels_from_low_to_high", "parse",
                  changed(forge_intel_identity(true), "tcbLevels",
                          json_pack("[o, o]", forge_intel_svn_level(9, "UpToDate", NULL),
                                    forge_intel_svn_level(10, "UpToDate", NULL))));
}

static void flawed_envelopes(struct forge_item *i)
{
    struct forge_cert c = forge_intel_signer();
    json_t *one;

    forge_file(i, NULL, "empty", span_of("", 0));
    used(i, "no_info", "collateral_missing", "tcb_info", "empty");
    used(i, "no_identity", "collateral_missing", "qe_identity", "empty");
    used(i, "no_chain", "collateral_missing", "tcb_info_chain", "empty");
    used(i, "identity_for_info", "parse", "tcb_info", "qe_identity.json");
    forge_xor(forge_case(i, "info_changed", "collateral_signature"), "tcb_info.json", 20, "01");
    forge_xor(forge_case(i, "identity_changed", "collateral_signature"), "qe_identity.json", 26, "01");
    forge_append(forge_case(i, "data_after_the_info", "parse"), "tcb_info.json", "7d");
    forge_append(forge_case(i, "space_after_the_info", NULL), "tcb_info.json", "0a");
    used(i, "chain_of_three", "chain_length", "tcb_info_chain", "three.pem");
    {
        X509 *const three[] = {forge_intel.signer, forge_intel.ca, forge_intel.root};
        struct writer w = writer_with_max(16384);
        forge_pem(&w, three, 3);
        forge_file(i, NULL, "three.pem", writer_span(&w));
        writer_release(&w);
    }
    forge_intel_chain_file(i, NULL, "ca_chain.pem", forge_intel.ca, forge_intel.root);
    used(i, "signed_by_the_ca", "collateral_signature", "tcb_info_chain", "ca_chain.pem");
    forge_intel_chain_file(i, NULL, "other_chain.pem", forge_intel.signer, forge_intel.other_root);
    used(i, "collateral_of_another_root", "untrusted_root", "qe_identity_chain", "other_chain.pem");
    c.to = "2026-05-31T23:59:59Z";
    forge_intel_chain_file(i, NULL, "old_chain.pem", forge_x509(c), forge_intel.root);
    used(i, "signer_expired", "cert_expired", "tcb_info_chain", "old_chain.pem");
    one = forge_case(i, "least_evaluation_met", NULL);
    forge_policy(one, "min_tcb_evaluation_data_number", json_integer(18));
    one = forge_case(i, "least_evaluation_not_met", "collateral_too_old");
    forge_policy(one, "min_tcb_evaluation_data_number", json_integer(19));
    one = forge_case(i, "model_allowed", NULL);
    forge_policy(one, "fmspc_allow", json_pack("[s]", "90c06f000000"));
    one = forge_case(i, "model_not_allowed", "fmspc_not_allowed");
    forge_policy(one, "fmspc_allow", json_pack("[s]", "90c06f000001"));
}

/* --- TD 1.5: launched on older firmware than now
 * ------------------------------------------------------------------------ */

static void relaunch(struct forge_item *i, const struct forge_quote *good)
{
    struct forge_quote q = *good;
    json_t *one;

    q.body[0] = 4; /* at launch; updated since */
    one = quote_case(i, "relaunch_advised", "tcb_status", &q);
    forge_expect(one, "tcb_status", json_string("TDRelaunchAdvised"));
    one = used(i, "relaunch_accepted", NULL, "quote", "quote_relaunch_advised.bin");
    forge_policy(one, "allowed_tcb_status", json_pack("[s]", "TDRelaunchAdvised"));
    forge_intel_info_file(i, "info_configuration.json",
                          changed(forge_intel_info(true), "tcbLevels",
                                  json_pack("[o]", forge_intel_level(11, "ConfigurationNeeded", NULL, true, 5))));
    one = used(i, "relaunch_advised_configuration", "tcb_status", "quote", "quote_relaunch_advised.bin");
    forge_use(one, "tcb_info", "info_configuration.json");
    forge_expect(one, "tcb_status", json_string("TDRelaunchAdvisedConfigurationNeeded"));
    q.body[584] = 4; /* still so */
    one = quote_case(i, "old_then_and_now", "tcb_status", &q);
    forge_expect(one, "tcb_status", json_string("OutOfDate"));
    q = *good;
    q.body[584] = 1;
    quote_case(i, "now_below_all_levels", "tcb_not_supported", &q);
    forge_set(forge_case(i, "body_type_2", "parse"), "quote.bin", 48, "02");
    forge_set(forge_case(i, "body_type_9", "parse"), "quote.bin", 48, "09");
    forge_set(forge_case(i, "body_of_sgx", "parse"), "quote.bin", 48, "01");
    forge_set(forge_case(i, "body_size", "parse"), "quote.bin", 50, "89");
    forge_xor(forge_case(i, "descriptor_is_signed", "bad_signature"), "quote.bin", 54 + 600, "01");
}

/* --- all of it
 * -------------------------------------------------------------------------------------------------------------- */

static void make_sgx(const char *top)
{
    struct forge_quote q = forge_quote_good(3, VERIFIER_QUOTE_TEE_SGX);
    struct forge_item i;
    json_t *old = forge_intel_info(false), *tcb = json_object();

    begin(&i, top, "sgx", "v3", &q);
    for (int k = 1; k <= 16; k++) {
        char key[24];
        snprintf(key, sizeof key, "sgxtcbcomp%02dsvn", k);
        json_object_set_new(tcb, key, json_integer(forge_intel_components[k - 1]));
    }
    json_object_set_new(tcb, "pcesvn", json_integer(11));
    json_object_set_new(json_array_get(json_object_get(old, "tcbLevels"), 0), "tcb", tcb);
    json_object_del(old, "id");
    json_object_set_new(old, "version", json_integer(2));
    info_case(&i, "info_of_version_2", NULL, old);
    info_case(&i, "info_of_tdx", "collateral_mismatch", changed(forge_intel_info(false), "id", json_string("TDX")));
    info_case(&i, "info_of_version_2_with_an_id", "collateral_mismatch",
              changed(forge_intel_info(false), "version", json_integer(2)));
    forge_xor(forge_case(&i, "measurement_changed", "bad_signature"), "quote.bin", 48 + 64, "01");
    forge_set(forge_case(&i, "tdx_in_version_3", "unsupported_tee"), "quote.bin", 4, "81");
    q.body[48] |= 2;
    quote_case(&i, "debug", "debug_enabled", &q);
    forge_policy(used(&i, "debug_allowed", NULL, "quote", "quote_debug.bin"), "allow_debug", json_true());
    forge_close(&i);
}

static void make(const char *top)
{
    struct forge_quote q;
    struct forge_item i;

    forge_intel_init();
    q = forge_quote_good(4, VERIFIER_QUOTE_TEE_TDX);
    begin(&i, top, "tdx", "v4-td10", &q);
    flawed_bytes(&i);
    flawed_quotes(&i, &q);
    flawed_leaves(&i, &q);
    flawed_chains(&i, &q);
    flawed_lists(&i);
    flawed_info(&i);
    statuses(&i);
    flawed_identity(&i);
    flawed_envelopes(&i);
    forge_close(&i);
    q = forge_quote_good(5, VERIFIER_QUOTE_TEE_TDX);
    begin(&i, top, "tdx", "v5-td15", &q);
    relaunch(&i, &q);
    forge_close(&i);
    make_sgx(top);
}

int main(int argc, char **argv)
{
    return forge_main(argc, argv, make);
}
