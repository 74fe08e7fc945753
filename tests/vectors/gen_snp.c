/* Synthetic SEV-SNP evidence: every report version and product line by VCEK and VLEK, and one flaw for each reason. */
#include <stdio.h>

#include "vectors/forge_snp.h"

struct world {
    struct forge_snp good;
    X509 *ark, *ask;
    struct forge_item item;
};

static void put_cert(struct world *w, const char *role, const char *name, const struct forge_cert *spec)
{
    forge_file(&w->item, role, name, forge_der(forge_x509(*spec)));
}

static void put_report(struct world *w, const char *role, const char *name, const struct forge_snp *s)
{
    uint8_t report[VERIFIER_SNP_LEN];

    forge_snp_report(s, report);
    forge_file(&w->item, role, name, span_of(report, sizeof report));
}

static void put_crl(struct world *w, const char *role, const char *name, struct forge_crl spec)
{
    spec.form = FORGE_PSS;
    spec.issuer = spec.issuer ? spec.issuer : w->ark;
    spec.signer = spec.signer ? spec.signer : forge_ark;
    forge_file(&w->item, role, name, forge_crl(&spec));
}

static json_t *fields(const struct forge_snp *s)
{
    json_t *o = json_pack("{s:s, s:i, s:s, s:o, s:i, s:b}", "product", verifier_snp_line_name(s->line), "version",
                          (int)s->version, "signing_key", s->vlek ? "vlek" : "vcek", "report_data",
                          forge_hex(span_of(s->report_data, 64)), "vmpl", 0, "debug", 0);

    json_object_set_new(o, "leaf",
                        json_pack("{s:s, s:s}", "kind", s->vlek ? "SEV-VLEK" : "SEV-VCEK", "csp_id",
                                  s->vlek ? "CN=cc.cloud.example" : ""));
    return o;
}

/* An item whose first case is accepted. */
static void begin(struct world *w, const char *top, const char *id, struct forge_snp good)
{
    struct forge_cert spec = forge_snp_ark(good.line);

    w->good = good;
    forge_open(&w->item, top, "snp", id, fields(&good));
    w->ark = forge_x509(spec);
    forge_file(&w->item, "ark", "ark.der", forge_der(w->ark));
    spec = forge_snp_ask(good.line, w->ark, good.vlek);
    w->ask = forge_x509(spec);
    forge_file(&w->item, "ask", "ask.der", forge_der(w->ask));
    spec = forge_snp_leaf(&good, w->ask);
    put_cert(w, "leaf", "leaf.der", &spec);
    put_crl(w, "crl", "ark.crl", (struct forge_crl){.revoked = {77}});
    put_report(w, "report", "report.bin", &good);
    json_object_set_new(forge_case(&w->item, "base", NULL), "crl", json_true());
}

/* A case in which one file is another. */
static json_t *used(struct world *w, const char *name, const char *code, const char *role, const char *file)
{
    json_t *one = forge_case(&w->item, name, code);

    forge_use(one, role, file);
    return one;
}

/* --- the report -------------------------------------------------------------------------------------------- */

static void flawed_bytes(struct world *w)
{
    struct forge_item *i = &w->item;

    forge_truncate(forge_case(i, "truncated", "parse"), "report.bin", VERIFIER_SNP_LEN - 1);
    forge_append(forge_case(i, "a_byte_after_the_end", "parse"), "report.bin", "00");
    forge_set(forge_case(i, "version_1", "unsupported_version"), "report.bin", 0, "01");
    forge_set(forge_case(i, "version_6", "unsupported_version"), "report.bin", 0, "06");
    forge_set(forge_case(i, "algorithm_2", "unsupported_alg"), "report.bin", 0x34, "02");
    forge_set(forge_case(i, "padding_of_r", "parse"), "report.bin", 0x2d0, "01");
    forge_set(forge_case(i, "padding_of_s", "parse"), "report.bin", 0x32f, "01");
    forge_set(forge_case(i, "padding_at_the_end", "parse"), "report.bin", VERIFIER_SNP_LEN - 1, "80");
    forge_xor(forge_case(i, "measurement_changed", "bad_signature"), "report.bin", 0x90, "01");
    forge_xor(forge_case(i, "signature_changed", "bad_signature"), "report.bin", 0x2a0, "01");
    forge_set(forge_case(i, "signature_zero", "bad_signature"), "report.bin", 0x2a0,
              "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000");
}

/* Another report by the same chip, properly signed. */
static json_t *signed_case(struct world *w, const char *name, const char *code, const struct forge_snp *s)
{
    char file[80];

    snprintf(file, sizeof file, "report_%s.bin", name);
    put_report(w, NULL, file, s);
    return used(w, name, code, "report", file);
}

static void flawed_reports(struct world *w)
{
    struct forge_snp s = w->good;
    json_t *one;

    s.policy = 0x1001f;
    signed_case(w, "policy_bit_17_clear", "parse", &s);
    s.policy = 0xb001f;
    signed_case(w, "debug", "debug_enabled", &s);
    forge_policy(used(w, "debug_allowed", NULL, "report", "report_debug.bin"), "allow_debug", json_true());
    s.policy = 0x7001f;
    signed_case(w, "migration_agent", "migration_agent", &s);
    s = w->good;
    s.vmpl = 1;
    signed_case(w, "vmpl_1", "vmpl", &s);
    forge_policy(used(w, "vmpl_1_allowed", NULL, "report", "report_vmpl_1.bin"), "max_vmpl", json_integer(1));
    s = w->good;
    s.signing_key = 7;
    signed_case(w, "signing_key_none", "signing_key_mismatch", &s);
    s.signing_key = 1;
    signed_case(w, "signing_key_vlek", "signing_key_mismatch", &s);
    s = w->good;
    s.tcb[7]++;
    signed_case(w, "microcode_other_than_the_leaf_s", "tcb_mismatch", &s);
    s = w->good;
    s.chip_id[5] ^= 1;
    signed_case(w, "another_chip", "chip_id_mismatch", &s);
    memset(s.chip_id, 0, sizeof s.chip_id);
    signed_case(w, "chip_masked", NULL, &s);
    s = w->good;
    s.key = forge_ec("another chip's key", "P-384");
    signed_case(w, "another_key", "bad_signature", &s);
    one = forge_case(&w->item, "least_tcb_met", NULL);
    forge_policy(one, "min_tcb", json_pack("{s:i, s:i}", "snp", 24, "microcode", 219));
    one = forge_case(&w->item, "least_tcb_not_met", "tcb_too_old");
    forge_policy(one, "min_tcb", json_pack("{s:i, s:i}", "snp", 25, "microcode", 219));
}

static void flawed_cpuid(struct world *w)
{
    struct forge_snp s = w->good;

    s.cpuid[0] = 0x1b;
    signed_case(w, "processor_unknown", "unsupported_product", &s);
    memcpy(s.cpuid, "\x19\x11\x01", 3);
    signed_case(w, "processor_of_another_line", "product_mismatch", &s);
}

/* --- certificates ------------------------------------------------------------------------------------------ */

static void leaf_case(struct world *w, const char *name, const char *code, const struct forge_cert *spec)
{
    char file[80];

    snprintf(file, sizeof file, "leaf_%s.der", name);
    put_cert(w, NULL, file, spec);
    used(w, name, code, "leaf", file);
}

static void flawed_leaves(struct world *w)
{
    struct forge_cert good = forge_snp_leaf(&w->good, w->ask), c = good;
    struct forge_snp genoa = w->good;

    c.extension_count--; /* the chip id is the last */
    leaf_case(w, "chip_id_missing", "chip_id_missing", &c);
    c = good;
    c.extension[4] = c.extension[5];
    c.extension_count = 5;
    leaf_case(w, "microcode_missing", "tcb_mismatch", &c);
    c = good;
    c.extension[4].value[0] = 4;
    leaf_case(w, "microcode_not_a_number", "tcb_mismatch", &c);
    c = good;
    c.extension[0].oid = "1.3.6.1.4.1.3704.1.99";
    leaf_case(w, "product_missing", "product_mismatch", &c);
    c = good;
    c.extension[0].value[2] = 0x07; /* a bell in the name */
    leaf_case(w, "product_not_printable", "product_mismatch", &c);
    genoa.product = "Genoa";
    c = forge_snp_leaf(&genoa, w->ask);
    leaf_case(w, "product_of_another_line", "product_mismatch", &c);
    c = good;
    c.signer = forge_asvk;
    leaf_case(w, "signed_by_another_key", "chain_signature", &c);
    c = good;
    c.form = FORGE_PSS_20;
    leaf_case(w, "salt_of_20", "chain_signature", &c);
    c.form = FORGE_PKCS1;
    leaf_case(w, "not_pss", "chain_signature", &c);
    c = good;
    c.cn = "SEV-VLEK";
    leaf_case(w, "named_vlek", "signing_key_mismatch", &c);
    c = good;
    c.key = forge_ec("a key on another curve", "P-256");
    leaf_case(w, "key_on_p256", "unsupported_alg", &c);
    c = good;
    c.to = "2026-05-31T23:59:59Z";
    leaf_case(w, "leaf_expired", "cert_expired", &c);
    c = good;
    c.from = "2026-06-01T00:00:01Z";
    leaf_case(w, "leaf_not_yet_valid", "cert_not_yet_valid", &c);
    forge_truncate(forge_case(&w->item, "leaf_cut", "parse"), "leaf.der", 100);
    forge_append(forge_case(&w->item, "leaf_with_a_byte_more", "parse"), "leaf.der", "00");
    forge_truncate(forge_case(&w->item, "leaf_empty", "parse"), "leaf.der", 0);
}

static void flawed_authorities(struct world *w)
{
    struct forge_cert good = forge_snp_ask(w->good.line, w->ark, false), c = good;

    c.ca = false;
    put_cert(w, NULL, "ask_not_ca.der", &c);
    used(w, "ask_not_a_ca", "not_a_ca", "ask", "ask_not_ca.der");
    c = good;
    c.cn = "SEV-Other";
    put_cert(w, NULL, "ask_other.der", &c);
    used(w, "ask_of_another_name", "chain_issuer", "ask", "ask_other.der");
    used(w, "root_in_place_of_ask", "chain_issuer", "ask", "ark.der");
    c = good;
    c.signer = forge_asvk;
    put_cert(w, NULL, "ask_signed.der", &c);
    used(w, "ask_signed_by_another_key", "chain_signature", "ask", "ask_signed.der");
    c = forge_snp_ark(w->good.line);
    c.key = forge_asvk;
    put_cert(w, NULL, "ark_other.der", &c);
    used(w, "root_of_the_same_name", "untrusted_root", "ark", "ark_other.der");
}

/* --- revocation ---------------------------------------------------------------------------------------------- */

static void crl_case(struct world *w, const char *name, const char *code, struct forge_crl spec)
{
    char file[80];

    snprintf(file, sizeof file, "%s.crl", name);
    put_crl(w, NULL, file, spec);
    json_object_set_new(used(w, name, code, "crl", file), "crl", json_true());
}

static void flawed_lists(struct world *w)
{
    json_t *one = forge_case(&w->item, "no_list", "crl_missing");

    forge_policy(one, "require_crl", json_true());
    crl_case(w, "ask_revoked", "cert_revoked", (struct forge_crl){.revoked = {0x10001}});
    crl_case(w, "list_of_another_issuer", "crl_issuer", (struct forge_crl){.issuer = w->ask, .signer = forge_ask});
    crl_case(w, "list_signed_by_another_key", "crl_signature", (struct forge_crl){.signer = forge_ask});
    crl_case(w, "list_expired", "crl_expired", (struct forge_crl){.to = "2026-05-31T23:59:59Z"});
    crl_case(w, "list_not_yet_valid", "crl_not_yet_valid", (struct forge_crl){.from = "2026-06-01T00:00:01Z"});
    crl_case(w, "list_without_an_end", "parse", (struct forge_crl){.to = ""});
    crl_case(w, "list_critical_extension", "parse", (struct forge_crl){.critical = true});
    one = forge_case(&w->item, "list_cut", "parse");
    json_object_set_new(one, "crl", json_true());
    forge_truncate(one, "ark.crl", 200);
}

/* --- all of it ------------------------------------------------------------------------------------------------- */

static void make_vlek(const char *top)
{
    struct world w;
    struct forge_snp s;
    struct forge_cert c;

    begin(&w, top, "genoa-v3-vlek", forge_snp_good(VERIFIER_SNP_GENOA, 3, true));
    s = w.good;
    s.signing_key = 0;
    signed_case(&w, "signing_key_vcek", "signing_key_mismatch", &s);
    s = w.good;
    s.vlek = false; /* writes the chip id */
    signed_case(&w, "chip_id_not_masked", "chip_id_mismatch", &s);
    c = forge_snp_leaf(&w.good, w.ask);
    c.extension_count--;
    leaf_case(&w, "csp_id_missing", "signing_key_mismatch", &c);
    forge_close(&w.item);
}

static void make_turin(const char *top)
{
    struct world w;
    struct forge_snp s;

    begin(&w, top, "turin-v5-vcek", forge_snp_good(VERIFIER_SNP_TURIN, 5, false));
    s = w.good;
    s.tcb[0]++;
    signed_case(&w, "fmc_other_than_the_leaf_s", "tcb_mismatch", &s);
    s = w.good;
    s.chip_id[63] = 1;
    signed_case(&w, "chip_id_with_a_tail", "chip_id_mismatch", &s);
    forge_close(&w.item);
}

static void make(const char *top)
{
    struct world w;
    struct forge_snp siena;

    forge_snp_keys();
    begin(&w, top, "milan-v3-vcek", forge_snp_good(VERIFIER_SNP_MILAN, 3, false));
    flawed_bytes(&w);
    flawed_reports(&w);
    flawed_cpuid(&w);
    flawed_leaves(&w);
    flawed_authorities(&w);
    flawed_lists(&w);
    forge_close(&w.item);

    begin(&w, top, "milan-v2-vcek", forge_snp_good(VERIFIER_SNP_MILAN, 2, false));
    forge_close(&w.item);
    siena = forge_snp_good(VERIFIER_SNP_GENOA, 3, false);
    siena.product = "Siena";
    siena.cpuid[1] = 0xa0;
    begin(&w, top, "siena-v3-vcek", siena);
    forge_close(&w.item);
    make_vlek(top);
    make_turin(top);
}

int main(int argc, char **argv)
{
    return forge_main(argc, argv, make);
}
