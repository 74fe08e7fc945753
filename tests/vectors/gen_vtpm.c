/* Synthetic vTPM evidence, whole as it stands in an envelope: Azure's on SNP and on TDX, Google's; one flaw for each
 * reason that the TPM's side adds. */
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>

#include "vectors/forge_intel.h"
#include "vectors/forge_snp.h"
#include "verifier/tpm.h"

enum { PCRS = 4, HEAD = 32, REPORT = 1184 };

/* What a TPM quotes, and what binds its key. */
struct guest {
    EVP_PKEY *ak, *signer; /* the key that is vouched for, and the one that signs */
    uint32_t magic, count;
    uint16_t type, bank;
    uint8_t nonce[32];
    size_t nonce_len;
    uint8_t pcr[PCRS][48];
    size_t pcr_len;
    bool unquoted; /* the values sent are others */
    /* Azure */
    uint32_t report_type; /* 0: Google's */
    const char *json;     /* in place of the right one */
    const char *magic_text;
    struct forge_snp snp;
    struct forge_quote td;
    bool no_quote, loose; /* TDX: without the TD's quote, or with one over other data */
};

static EVP_PKEY *ak, *other_ak;

static struct guest good_guest(uint32_t report_type)
{
    struct guest g = {
        .ak = ak, .signer = ak, .magic = 0xff544347, .count = 1, .type = 0x8018, .bank = VERIFIER_TPM_SHA256};

    g.report_type = report_type;
    g.magic_text = "HCLA";
    g.nonce_len = sizeof g.nonce;
    g.pcr_len = 32;
    for (int i = 0; i < PCRS; i++)
        forge_fill(g.pcr[i], sizeof g.pcr[i], "PCR");
    g.pcr[1][0] ^= 1; /* no two alike */
    /* SHA-256 of the 64 bytes of report data that the walker asks for: 0, 1, 2 ... */
    uint8_t data[64];
    for (uint8_t i = 0; i < 64; i++)
        data[i] = i;
    FORGE(EVP_Digest(data, sizeof data, g.nonce, NULL, EVP_sha256(), NULL) == 1);
    if (report_type == VERIFIER_HCL_SNP)
        g.snp = forge_snp_good(VERIFIER_SNP_GENOA, 3, false);
    if (report_type == VERIFIER_HCL_TDX) {
        g.td = forge_quote_good(4, VERIFIER_QUOTE_TEE_TDX);
        g.td.body[123] = 0; /* as under the paravisor */
    }
    return g;
}

/* --- TPM ------------------------------------------------------------------------------------------------------- */

static void put_attest(struct writer *w, const struct guest *g)
{
    uint8_t all[PCRS * 48], digest[32];

    for (int i = 0; i < PCRS; i++)
        memcpy(all + (size_t)i * g->pcr_len, g->pcr[i], g->pcr_len);
    FORGE(EVP_Digest(all, PCRS * g->pcr_len, digest, NULL, EVP_sha256(), NULL) == 1);
    writer_u32be(w, g->magic);
    writer_u16be(w, g->type);
    writer_u16be(w, 34);
    writer_u16be(w, 11);
    for (int i = 0; i < 32; i++)
        writer_u8(w, 0x5a);
    writer_u16be(w, (uint16_t)g->nonce_len);
    writer_bytes(w, span_of(g->nonce, g->nonce_len));
    writer_u64be(w, 123456);
    writer_u32be(w, 7);
    writer_u32be(w, 0);
    writer_u8(w, 1);
    writer_u64be(w, 0x2020031200120003);
    writer_u32be(w, g->count);
    writer_u16be(w, g->bank);
    writer_bytes(w, span_of("\3\17\0\0", 4)); /* PCR 0 to 3 */
    writer_u16be(w, sizeof digest);
    writer_bytes(w, span_of(digest, sizeof digest));
}

static struct span rsa_signature(EVP_PKEY *key, struct span message, uint8_t out[512])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = 512;

    FORGE(ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
          EVP_DigestSign(ctx, out, &n, message.data, message.len) == 1);
    EVP_MD_CTX_free(ctx);
    return span_of(out, n);
}

/* --- Azure's blob --------------------------------------------------------------------------------------------------
 */

static void put_le32(struct writer *w, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        writer_u8(w, (uint8_t)(v >> 8 * i));
}

static void put_base64url(struct writer *w, struct span s)
{
    char text[1024];

    EVP_EncodeBlock((uint8_t *)text, s.data, (int)s.len);
    for (char *p = text; *p && *p != '='; p++)
        writer_u8(w, (uint8_t)(*p == '+' ? '-' : *p == '/' ? '_' : *p));
}

static void put_json(struct writer *w, const struct guest *g)
{
    BIGNUM *n = NULL;
    uint8_t modulus[256];

    if (g->json) {
        writer_str(w, g->json);
        return;
    }
    FORGE(EVP_PKEY_get_bn_param(g->ak, OSSL_PKEY_PARAM_RSA_N, &n) == 1 && BN_bn2binpad(n, modulus, 256) == 256);
    writer_str(w, "{\"keys\":[{\"kid\":\"HCLAkPub\",\"key_ops\":[\"sign\"],\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"");
    put_base64url(w, span_of(modulus, sizeof modulus));
    writer_str(w, "\"},{\"kid\":\"HCLEkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AA\"}],\"vm-configuration\":{}}");
    BN_free(n);
}

static void put_blob(struct writer *w, struct guest *g)
{
    struct writer json = writer_with_max(4096);
    uint8_t data[64] = {0}, report[REPORT] = {0};

    put_json(&json, g);
    FORGE(EVP_Digest(json.data, json.len, data, NULL, EVP_sha256(), NULL) == 1);
    writer_str(w, g->magic_text);
    put_le32(w, 1);
    put_le32(w, (uint32_t)(HEAD + REPORT + 20 + json.len));
    put_le32(w, 2);
    for (int i = 0; i < 4; i++)
        put_le32(w, 0);
    if (g->report_type == VERIFIER_HCL_SNP) {
        memcpy(g->snp.report_data, data, sizeof data);
        forge_snp_report(&g->snp, report);
    } else {
        memcpy(report + 128, data, sizeof data);
        memcpy(g->td.body + 520, data, sizeof data);
        g->td.body[520] ^= g->loose;
    }
    writer_bytes(w, span_of(report, sizeof report));
    put_le32(w, (uint32_t)(20 + json.len));
    put_le32(w, 1);
    put_le32(w, g->report_type);
    put_le32(w, 1);
    put_le32(w, (uint32_t)json.len);
    writer_bytes(w, writer_span(&json));
    if (g->report_type == VERIFIER_HCL_TDX && !g->no_quote) {
        struct writer quote = writer_with_max(65536);
        forge_quote_put(&quote, &g->td);
        writer_bytes(w, writer_span(&quote));
        writer_release(&quote);
    }
    writer_release(&json);
}

/* --- what is sent
 * ------------------------------------------------------------------------------------------------------ */

static void evidence_file(struct forge_item *i, const char *role, const char *name, struct guest *g)
{
    struct writer attest = writer_with_max(4096), blob = writer_with_max(65536), all = writer_with_max(131072);
    uint8_t signature[512];

    put_attest(&attest, g);
    writer_map(&all, g->report_type ? 4 : 3);
    if (g->report_type) {
        put_blob(&blob, g);
        writer_key(&all, "hcl");
        writer_bin(&all, writer_span(&blob));
    }
    writer_key(&all, "attest");
    writer_bin(&all, writer_span(&attest));
    writer_key(&all, "signature");
    writer_bin(&all, rsa_signature(g->signer, writer_span(&attest), signature));
    writer_key(&all, "pcrs");
    writer_list(&all, PCRS);
    g->pcr[2][0] ^= g->unquoted;
    for (int k = 0; k < PCRS; k++)
        writer_bin(&all, span_of(g->pcr[k], g->pcr_len));
    FORGE(writer_ok(&all));
    forge_file(i, role, name, writer_span(&all));
    writer_release(&attest);
    writer_release(&blob);
    writer_release(&all);
}

static json_t *evidence_case(struct forge_item *i, const char *name, const char *code, struct guest g)
{
    char file[80];
    json_t *one = forge_case(i, name, code);

    snprintf(file, sizeof file, "evidence_%s.bin", name);
    evidence_file(i, NULL, file, &g);
    forge_use(one, "evidence", file);
    return one;
}

static json_t *fields(const struct guest *g, const char *product)
{
    json_t *o = json_pack("{s:s, s:i}", "product", product, "reset_count", 7), *pcrs = json_object();
    char key[8];

    for (int i = 0; i < PCRS; i++) {
        snprintf(key, sizeof key, "%d", i);
        json_object_set_new(pcrs, key, forge_hex(span_of(g->pcr[i], 32)));
    }
    json_object_set_new(o, "pcrs", pcrs);
    return o;
}

/* --- flaws
 * -------------------------------------------------------------------------------------------------------------- */

static void flawed_quotes(struct forge_item *i, const struct guest *good)
{
    struct guest g = *good;
    json_t *one;

    g.magic = 0xff544348;
    evidence_case(i, "not_made_by_a_tpm", "bad_magic", g);
    g = *good;
    g.type = 0x8017;
    evidence_case(i, "not_a_quote", "not_a_quote", g);
    g = *good;
    g.signer = other_ak;
    evidence_case(i, "signed_by_another_key", "bad_signature", g);
    g = *good;
    g.unquoted = true;
    evidence_case(i, "registers_that_were_not_quoted", "pcr_mismatch", g);
    g = *good;
    g.pcr_len = 20;
    evidence_case(i, "registers_of_another_bank", "pcr_mismatch", g);
    g.bank = VERIFIER_TPM_SHA1;
    evidence_case(i, "bank_of_sha1", NULL, g); /* quoted, but no fact */
    g.bank = 0x99;
    evidence_case(i, "bank_unknown", "pcr_mismatch", g);
    g = *good;
    g.count = 2;
    evidence_case(i, "selection_missing", "parse", g);
    g.count = 99;
    evidence_case(i, "too_many_selections", "parse", g);
    g = *good;
    g.nonce_len = 20;
    evidence_case(i, "nonce_of_20_bytes", "nonce_mismatch", g);
    g = *good;
    g.nonce[0] ^= 1;
    one = evidence_case(i, "another_nonce", "report_data_mismatch", g);
    forge_policy(one, "binds", json_true());
    one = forge_case(i, "the_nonce", NULL);
    forge_policy(one, "binds", json_true());
    forge_append(forge_case(i, "a_byte_after_the_end", "parse"), "evidence.bin", "00");
    forge_truncate(forge_case(i, "cut", "parse"), "evidence.bin", 400);
    forge_set(forge_case(i, "another_map", "parse"), "evidence.bin", 0, "85");
}

static void flawed_blobs(struct forge_item *i, const struct guest *good)
{
    static const struct {
        const char *name, *json;
    } keys[] = {
        {"key_not_named", "{\"keys\":[{\"kid\":\"HCLEkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AQAB\"}]}"},
        {"key_twice", "{\"keys\":[{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AQAB\"},"
                      "{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AQAB\"}]}"},
        {"key_not_rsa", "{\"keys\":[{\"kid\":\"HCLAkPub\",\"kty\":\"EC\",\"e\":\"AQAB\",\"n\":\"AQAB\"}]}"},
        {"key_not_base64", "{\"keys\":[{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"A*\"}]}"},
        {"exponent_too_long",
         "{\"keys\":[{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQABAQABAQABAQAB\",\"n\":\"AQAB\"}]}"},
        {"not_json", "keys"},
    };
    struct guest g = *good;

    g.magic_text = "HCLB";
    evidence_case(i, "another_blob", "bad_magic", g);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        g = *good;
        g.json = keys[k].json;
        evidence_case(i, keys[k].name, "parse", g);
    }
    g = *good;
    g.json = "{\"keys\":[{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AQAB\"}]}";
    evidence_case(i, "key_too_short", "bad_signature", g);
    g = *good;
    g.report_type = 3;
    evidence_case(i, "another_report", "parse", g);
}

/* --- items
 * ---------------------------------------------------------------------------------------------------------------- */

static void begin(struct forge_item *i, const char *top, const char *id, const char *tee, const char *anchor,
                  struct guest *g, const char *product)
{
    forge_open(i, top, "vtpm", id, fields(g, product));
    json_object_set_new(i->doc, "tee", json_string(tee));
    json_object_set_new(i->doc, "anchor", json_string(anchor));
    evidence_file(i, "evidence", "evidence.bin", g);
    forge_case(i, "base", NULL);
}

static void make_azure_snp(const char *top)
{
    struct guest g = good_guest(VERIFIER_HCL_SNP);
    struct forge_crl crl = {.form = FORGE_PSS, .signer = forge_ark};
    struct forge_item i;
    X509 *ark, *ask;

    begin(&i, top, "azure-snp", "azure", "amd", &g, "Genoa");
    json_object_set_new(i.doc, "line", json_string("Genoa"));
    ark = forge_x509(forge_snp_ark(VERIFIER_SNP_GENOA));
    ask = forge_x509(forge_snp_ask(VERIFIER_SNP_GENOA, ark, false));
    forge_file(&i, "cert_0", "leaf.der", forge_der(forge_x509(forge_snp_leaf(&g.snp, ask))));
    forge_file(&i, "cert_1", "ask.der", forge_der(ask));
    forge_file(&i, "cert_2", "ark.der", forge_der(ark));
    crl.issuer = ark;
    forge_file(&i, "crl_0", "ark.crl", forge_crl(&crl));
    flawed_quotes(&i, &g);
    flawed_blobs(&i, &g);
    /* the blob begins behind the map, "hcl" and the bin's length */
    forge_xor(forge_case(&i, "report_data_changed", "runtime_data_mismatch"), "evidence.bin", 8 + HEAD + 0x50, "01");
    forge_xor(forge_case(&i, "measurement_changed", "bad_signature"), "evidence.bin", 8 + HEAD + 0x90, "01");
    forge_xor(forge_case(&i, "hash_type", "parse"), "evidence.bin", 8 + HEAD + REPORT + 12, "03");
    forge_close(&i);
}

static void make_azure_tdx(const char *top)
{
    struct guest g = good_guest(VERIFIER_HCL_TDX), flawed = g;
    struct forge_item i;

    begin(&i, top, "azure-tdx", "azure", "intel", &g, "tdx");
    forge_intel_collateral(&i, true);
    flawed.no_quote = true;
    evidence_case(&i, "no_quote_behind_the_report", "parse", flawed);
    flawed = g;
    flawed.loose = true;
    evidence_case(&i, "quote_over_other_data", "runtime_data_mismatch", flawed);
    flawed = g;
    flawed.signer = other_ak;
    evidence_case(&i, "signed_by_another_key", "bad_signature", flawed);
    flawed = g;
    flawed.td.body[120] = 1;
    evidence_case(&i, "debug", "debug_enabled", flawed);
    forge_close(&i);
}

static struct forge_cert gcp_cert(const char *cn, EVP_PKEY *key, EVP_PKEY *signer, X509 *issuer, unsigned long serial)
{
    return (struct forge_cert){.cn = cn,
                               .key = key,
                               .signer = signer,
                               .issuer = issuer,
                               .form = FORGE_PKCS1,
                               .serial = serial,
                               .ca = serial < 3,
                               .room = -1};
}

static void use_leaf(struct forge_item *i, const char *name, const char *code, struct forge_cert spec)
{
    char file[80];

    snprintf(file, sizeof file, "leaf_%s.der", name);
    forge_file(i, NULL, file, forge_der(forge_x509(spec)));
    forge_use(forge_case(i, name, code), "cert_0", file);
}

static void make_gcp(const char *top)
{
    EVP_PKEY *root_key = forge_rsa("GCP root", 2048), *ca_key = forge_rsa("GCP CA", 2048);
    X509 *root = forge_x509(gcp_cert("EK/AK CA Root", root_key, NULL, NULL, 1));
    X509 *ca = forge_x509(gcp_cert("EK/AK CA Intermediate", ca_key, root_key, root, 2));
    struct forge_cert leaf = gcp_cert("12345", ak, ca_key, ca, 3), flawed;
    struct forge_crl crl = {.form = FORGE_PKCS1, .issuer = ca, .signer = ca_key};
    struct guest g = good_guest(0);
    struct forge_item i;

    leaf.extension[0] = (struct forge_extension){.oid = "2.5.29.15", .critical = true, .len = 4};
    memcpy(leaf.extension[0].value, "\3\2\7\200", 4); /* digitalSignature */
    leaf.extension_count = 1;
    begin(&i, top, "gcp", "gcp", "gcp", &g, "gcp");
    forge_file(&i, "cert_0", "leaf.der", forge_der(forge_x509(leaf)));
    forge_file(&i, "cert_1", "ca.der", forge_der(ca));
    forge_file(&i, "cert_2", "root.der", forge_der(root));
    forge_file(&i, "crl_0", "ca.crl", forge_crl(&crl));
    crl = (struct forge_crl){.form = FORGE_PKCS1, .issuer = root, .signer = root_key};
    forge_file(&i, "crl_1", "root.crl", forge_crl(&crl));
    flawed_quotes(&i, &g);
    flawed = leaf;
    memcpy(flawed.extension[0].value, "\3\2\5\40", 4); /* keyEncipherment */
    use_leaf(&i, "key_for_decrypting", "signing_key_mismatch", flawed);
    flawed = leaf;
    flawed.key = forge_ec("a key on another curve", "P-384");
    use_leaf(&i, "key_on_p384", "unsupported_alg", flawed);
    flawed.key = forge_ec("a key on P-256", "P-256");
    use_leaf(&i, "key_on_p256", "bad_signature", flawed);
    flawed = leaf;
    flawed.signer = root_key;
    use_leaf(&i, "certified_by_another_key", "chain_signature", flawed);
    crl = (struct forge_crl){.form = FORGE_PKCS1, .issuer = ca, .signer = ca_key, .revoked = {3}};
    forge_file(&i, NULL, "revoked.crl", forge_crl(&crl));
    forge_use(forge_case(&i, "key_revoked", "cert_revoked"), "crl_0", "revoked.crl");
    forge_use(forge_case(&i, "no_list_of_the_root", "crl_issuer"), "crl_1", "ca.crl");
    forge_close(&i);
}

static void make(const char *top)
{
    forge_snp_keys();
    forge_intel_init();
    ak = forge_rsa("attestation key of a TPM", 2048);
    other_ak = forge_rsa("attestation key of another TPM", 2048);
    make_azure_snp(top);
    make_azure_tdx(top);
    make_gcp(top);
}

int main(int argc, char **argv)
{
    return forge_main(argc, argv, make);
}
