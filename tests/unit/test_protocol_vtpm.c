/* Is a guest behind a virtual TPM believed exactly as far as the key of its quote is bound to something: to the SNP
 * report inside Azure's blob, to Google's certificates? Evidence is made here, whole envelopes are checked and judged;
 * Azure's TDX guests with real evidence are in vectors_tpm.c. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "policy/report.h"
#include "simulated_root.h"
#include "tunnel/attest/producer.h"
#include "unit/run.h"
#include "unit/world.h"
#include "verifier/anchors/test.h"

#define DAY 86400
#define PCRS 0x00000211u /* 0, 4 and 9 */

/* What is wrong with the evidence; all false: nothing. */
static struct {
    bool magic, certify, torn, signature, pcr_value, pcr_missing, pcr_too_many, nonce_short, nonce_other, other_bank;
    bool hcl_magic, json, json_other_key, no_key, key_twice, stray, td_report, td_quote, hash;
    bool ek, ca_as_leaf, stranger, two, expired, no_crl, crl_expired, revoked, ca_revoked, crl_by_other, edwards;
    bool extra_key, event_log, event_log_other;
    bool ec; /* no flaw: Google's key on P-256 */
} flaw;

static struct world w;
static EVP_PKEY *rsa[5]; /* attestation key, another, Google's root, its intermediate, a stranger's root */
static EVP_PKEY *ec_key, *edwards_key;
static uint8_t pcr[3][32];

static void make_keys(void)
{
    for (size_t i = 0; i < sizeof rsa / sizeof *rsa; i++)
        ck_assert_ptr_nonnull(rsa[i] = EVP_RSA_gen(2048));
    ec_key = EVP_EC_gen("P-256");
    edwards_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    for (size_t i = 0; i < 3; i++)
        memset(pcr[i], 0x10 + (int)i, 32);
}

/* --- the TPM ----------------------------------------------------------------------------------------------------- */

static void put_sized(struct writer *out, struct span s)
{
    writer_u16be(out, (uint16_t)s.len);
    writer_bytes(out, s);
}

static void write_attest(struct writer *out, const uint8_t report_data[64])
{
    static const uint8_t zeros[32];
    uint8_t nonce[32], digest[32], joined[96];
    size_t len = sizeof joined;
    SHA256(report_data, 64, nonce);
    nonce[0] ^= flaw.nonce_other;
    for (size_t i = 0; i < 3; i++)
        memcpy(joined + 32 * i, pcr[i], 32);
    if (flaw.other_bank)
        for (size_t i = 0; i < 3; i++)
            memcpy(joined + 20 * i, pcr[i], 20), len = 60;
    SHA256(joined, len, digest);
    writer_u32be(out, flaw.magic ? 0xff544348u : 0xff544347u);
    writer_u16be(out, flaw.certify ? 0x8017 : 0x8018);
    put_sized(out, span_of(zeros, 32));
    put_sized(out, span_of(nonce, flaw.nonce_short ? 31 : 32));
    writer_bytes(out, span_of(zeros, 8 + 4 + 4 + 1 + 8)); /* clock, counters, safe, firmware */
    writer_u32be(out, 1);
    writer_u16be(out, flaw.other_bank ? 0x0004 : 0x000b);
    writer_u8(out, 3);
    writer_bytes(out, span_of((const uint8_t[]){PCRS & 0xff, PCRS >> 8 & 0xff, 0}, 3));
    put_sized(out, span_of(digest, 32));
    if (flaw.torn)
        out->len--;
}

/* Bare signature: PKCS#1 v1.5, or r then s. */
static void sign_attest(struct writer *out, EVP_PKEY *key, struct span message)
{
    uint8_t der[512], raw[512];
    size_t len = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool edwards = EVP_PKEY_is_a(key, "ED25519");
    ck_assert_int_eq(EVP_DigestSignInit(ctx, NULL, edwards ? NULL : EVP_sha256(), NULL, key), 1);
    ck_assert_int_eq(EVP_DigestSign(ctx, der, &len, message.data, message.len), 1);
    EVP_MD_CTX_free(ctx);
    memcpy(raw, der, len);
    if (EVP_PKEY_is_a(key, "EC")) {
        const unsigned char *p = der;
        ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
        ck_assert_int_eq(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32), 32);
        ck_assert_int_eq(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32), 32);
        ECDSA_SIG_free(sig);
        len = 64;
    }
    raw[5] ^= flaw.signature;
    writer_bytes(out, span_of(raw, len));
}

/* The quote field: `hcl` is empty for Google. */
static void write_quote(struct writer *out, struct span hcl, EVP_PKEY *key, const uint8_t report_data[64])
{
    struct writer attest = writer_with_max(1024), signature = writer_with_max(512);
    size_t count = flaw.pcr_missing ? 2 : flaw.pcr_too_many ? 4 : 3;
    uint8_t changed[32];
    write_attest(&attest, report_data);
    sign_attest(&signature, key, writer_span(&attest));
    writer_map(out, (hcl.len ? 4u : 3u) + flaw.extra_key);
    if (hcl.len) {
        writer_key(out, "hcl");
        writer_bin(out, hcl);
    }
    writer_key(out, "attest");
    writer_bin(out, writer_span(&attest));
    writer_key(out, "signature");
    writer_bin(out, writer_span(&signature));
    writer_key(out, "pcrs");
    writer_list(out, count);
    for (size_t i = 0; i < count; i++) {
        memcpy(changed, pcr[i % 3], 32);
        changed[31] ^= flaw.pcr_value && i == 1;
        writer_bin(out, span_of(changed, flaw.other_bank ? 20 : 32));
    }
    if (flaw.extra_key) {
        writer_key(out, "more");
        writer_bin(out, span_str("x"));
    }
    ck_assert(writer_ok(out));
    writer_release(&attest);
    writer_release(&signature);
}

/* --- Azure ------------------------------------------------------------------------------------------------------- */

static void base64url(EVP_PKEY *key, char *out, size_t cap)
{
    BIGNUM *n = NULL;
    uint8_t bytes[256];
    ck_assert_int_eq(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    ck_assert_int_eq(BN_bn2binpad(n, bytes, 256), 256);
    BN_free(n);
    ck_assert_uint_lt(4 * ((256 + 2) / 3), cap);
    EVP_EncodeBlock((unsigned char *)out, bytes, 256);
    for (char *p = out; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? '\0' : *p;
}

static void write_json(char out[1024])
{
    char modulus[400], key[600];
    base64url(rsa[flaw.json_other_key], modulus, sizeof modulus);
    snprintf(key, sizeof key, "{\"kid\":\"%s\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"%s\"}",
             flaw.no_key ? "HCLEkPub" : "HCLAkPub", modulus);
    snprintf(out, 1024, "{\"keys\":[%s%s{\"kid\":\"HCLAkPub\"}],\"vm\":1}", key, flaw.key_twice ? "," : "],\"more\":[");
}

/* The blob that Azure's paravisor leaves for its guest; the SNP report in it is the simulated chip's. */
static void azure(struct world_node *node, const uint8_t report_data[64], struct verifier_envelope *e,
                  struct writer parts[3])
{
    struct writer hcl = writer_with_max(8192), report = writer_with_max(4096);
    uint8_t data[64] = {0};
    char json[1024];
    write_json(json);
    SHA256((const uint8_t *)json, strlen(json), data);
    data[40] = flaw.hash;
    ck_assert_int_eq(attester_producer()->quote(node->chip, data, &report, &parts[1], &parts[2]), 0);
    ck_assert_uint_eq(report.len, 1184);
    if (flaw.td_report) /* its report data stand elsewhere; nothing of it is believed */
        memcpy(report.data + 128, data, 64);
    writer_str(&hcl, flaw.hcl_magic ? "HCLB" : "HCLA");
    writer_bytes(&hcl, span_of((const uint8_t[28]){2}, 28));
    writer_bytes(&hcl, writer_span(&report));
    const uint32_t head[] = {0, 1, flaw.td_report || flaw.td_quote ? 4 : 2, 1, (uint32_t)strlen(json)};
    for (size_t i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++)
            writer_u8(&hcl, (uint8_t)(head[i] >> 8 * k));
    if (flaw.json)
        json[strlen(json) - 2] = '2';
    writer_str(&hcl, json);
    if (flaw.stray)
        writer_u8(&hcl, 7);
    writer_bytes(&hcl, span_of((const uint8_t[64]){0}, 64));
    write_quote(&parts[0], writer_span(&hcl), rsa[0], report_data);
    e->tee = VERIFIER_TEE_AZURE;
    e->quote = writer_span(&parts[0]);
    e->chain = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&parts[1])};
    e->collateral = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&parts[2])};
    writer_release(&hcl);
    writer_release(&report);
}

/* --- Google ------------------------------------------------------------------------------------------------------ */

static void extend_cert(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ck_assert_int_eq(X509_add_ext(x, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static X509 *certify(const char *name, EVP_PKEY *key, const char *issuer, EVP_PKEY *by, long serial, const char *usage)
{
    X509 *x = X509_new();
    bool ca = strstr(usage, "keyCertSign") != NULL;
    X509_NAME *subject = X509_NAME_new(), *from = X509_NAME_new();
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_NAME_add_entry_by_txt(from, "CN", MBSTRING_UTF8, (const unsigned char *)issuer, -1, -1, 0);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    ASN1_TIME_adj(X509_getm_notBefore(x), (time_t)w.now, -30, 0);
    ASN1_TIME_adj(X509_getm_notAfter(x), (time_t)w.now, flaw.expired && !ca ? -1 : 30, 0);
    X509_set_subject_name(x, subject);
    X509_set_issuer_name(x, from);
    X509_set_pubkey(x, key);
    extend_cert(x, NID_key_usage, usage);
    if (ca)
        extend_cert(x, NID_basic_constraints, "critical,CA:TRUE");
    ck_assert_int_gt(X509_sign(x, by, EVP_sha256()), 0);
    X509_NAME_free(subject);
    X509_NAME_free(from);
    return x;
}

static void write_crl(struct writer *out, const char *issuer, EVP_PKEY *by, long revoked)
{
    X509_CRL *crl = X509_CRL_new();
    X509_NAME *name = X509_NAME_new();
    ASN1_TIME *from = ASN1_TIME_adj(NULL, (time_t)w.now, -2, 0),
              *to = ASN1_TIME_adj(NULL, (time_t)w.now, flaw.crl_expired ? -1 : 7, 0);
    uint8_t *der = NULL;
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)issuer, -1, -1, 0);
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, name);
    X509_CRL_set1_lastUpdate(crl, from);
    X509_CRL_set1_nextUpdate(crl, to);
    if (revoked) {
        X509_REVOKED *entry = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();
        ASN1_INTEGER_set(serial, revoked);
        X509_REVOKED_set_serialNumber(entry, serial);
        X509_REVOKED_set_revocationDate(entry, from);
        X509_CRL_add0_revoked(crl, entry);
        ASN1_INTEGER_free(serial);
    }
    ck_assert_int_gt(X509_CRL_sign(crl, by, EVP_sha256()), 0);
    int len = i2d_X509_CRL(crl, &der);
    writer_bytes(out, span_of(der, (size_t)len));
    OPENSSL_free(der);
    X509_CRL_free(crl);
    X509_NAME_free(name);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
}

static void write_chain(struct writer *out, EVP_PKEY *key)
{
    const char *usage = flaw.ek ? "critical,keyEncipherment" : "critical,digitalSignature";
    EVP_PKEY *root_key = rsa[flaw.stranger ? 4 : 2];
    X509 *x[3] = {certify("instance", key, "Intermediate", rsa[3], 7, flaw.ca_as_leaf ? "keyCertSign" : usage),
                  certify("Intermediate", rsa[3], "Root", root_key, 8, "critical,keyCertSign"),
                  certify("Root", root_key, "Root", root_key, 9, "critical,keyCertSign")};
    struct verifier_certs certs = {.count = flaw.two ? 2 : 3};
    struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_GCP, .simulated = true};
    uint8_t digest[32], *der[3] = {0};
    unsigned len = 32;
    for (size_t i = 0; i < 3; i++) {
        int n = i2d_X509(x[i], &der[i]);
        certs.cert[i] = span_of(der[i], (size_t)n);
    }
    ck_assert_int_eq(X509_digest(x[2], EVP_sha256(), digest, &len), 1);
    if (!flaw.stranger)
        ck_assert(verifier_anchors_inject(digest, &anchor));
    if (flaw.two)
        certs.cert[1] = certs.cert[2];
    verifier_certs_encode(out, &certs);
    for (size_t i = 0; i < 3; i++) {
        X509_free(x[i]);
        OPENSSL_free(der[i]);
    }
}

static void gcp(struct world_node *node, const uint8_t report_data[64], struct verifier_envelope *e,
                struct writer parts[3])
{
    struct verifier_collateral *c = calloc(1, sizeof *c);
    struct writer crls[2] = {writer_with_max(4096), writer_with_max(4096)};
    EVP_PKEY *key = flaw.ec ? ec_key : flaw.edwards ? edwards_key : rsa[0];
    (void)node;
    write_quote(&parts[0], span_of(NULL, 0), key, report_data);
    write_chain(&parts[1], key);
    write_crl(&crls[0], "Intermediate", rsa[flaw.crl_by_other ? 4 : 3], flaw.revoked ? 7 : 0);
    write_crl(&crls[1], "Root", rsa[2], flaw.ca_revoked ? 8 : 0);
    c->crl_count = flaw.no_crl ? 0 : 2;
    c->crls[0] = writer_span(&crls[0]);
    c->crls[1] = writer_span(&crls[1]);
    verifier_collateral_encode(&parts[2], c);
    e->tee = VERIFIER_TEE_GCP;
    e->quote = writer_span(&parts[0]);
    e->chain = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&parts[1])};
    e->collateral = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&parts[2])};
    writer_release(&crls[0]);
    writer_release(&crls[1]);
    free(c);
}

/* --- event log --------------------------------------------------------------------------------------------------- */

/* One event in PCR 4, whose digest leads to `led` from zero; `other`: to somewhere else. */
static const uint8_t event_digest[32] = {0x42};

static void write_log(struct writer *out, bool other)
{
    static const uint8_t head[] = {0, 0, 0, 0, 3, 0, 0, 0};
    static const uint8_t spec[] = {'S', 'p', 'e', 'c', ' ', 'I', 'D', ' ', 'E', 'v', 'e', 'n', 't', '0', '3', 0, 0,
                                   0,   0,   0,   0,   2,   0,   2,   1,   0,   0,   0,   11,  0,   32,  0,   0};
    static const uint8_t event[] = {4, 0, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 11, 0};
    uint8_t digest[32];
    memcpy(digest, event_digest, 32);
    digest[31] ^= other;
    writer_bytes(out, span_of(head, sizeof head));
    writer_bytes(out, span_of((const uint8_t[20]){0}, 20));
    writer_bytes(out, span_of((const uint8_t[]){sizeof spec, 0, 0, 0}, 4));
    writer_bytes(out, span_of(spec, sizeof spec));
    writer_bytes(out, span_of(event, sizeof event));
    writer_bytes(out, span_of(digest, 32));
    writer_bytes(out, span_of((const uint8_t[]){0, 0, 0, 0}, 4));
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

static struct writer log_bytes;

static void add_log(struct world *unused, struct verifier_envelope *e)
{
    (void)unused;
    if (!flaw.event_log && !flaw.event_log_other)
        return;
    e->event_log = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = writer_span(&log_bytes)};
}

static struct policy_verdict ask(struct world_node *node, struct verifier_claims **claims)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    log_bytes = writer_with_max(1024);
    write_log(&log_bytes, flaw.event_log_other);
    world_session(&s, VERIFIER_CLIENT, node, 1, 0);
    world_envelope(&w, node, &s, add_log, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    struct policy_verdict v = world_judge(&w, &in, NULL, claims);
    writer_release(&envelope);
    writer_release(&log_bytes);
    return v;
}

static void refused(const char *what, struct policy_verdict v, int stage, enum verifier_err code)
{
    ck_assert_msg(v.refusal.code == code && v.refusal.stage == stage, "%s: %s at stage %d (%s / %s), wanted %s at %d",
                  what, verifier_err_name(v.refusal.code), v.refusal.stage, v.refusal.note.observed,
                  v.refusal.note.required, verifier_err_name(code), stage);
}

static void open_world(void)
{
    uint8_t joined[64] = {0};
    world_open(&w);
    memset(&flaw, 0, sizeof flaw);
    make_keys();
    memcpy(joined + 32, event_digest, 32);
    SHA256(joined, sizeof joined, pcr[1]);
    struct policy_measurement *m = &w.rules.proxy.measurement[0];
    m->tee = VERIFIER_TEE_AZURE;
    m->pcrs = 1u << 4 | 1u << 9;
    memcpy(m->pcr[0], pcr[1], 32);
    memcpy(m->pcr[1], pcr[2], 32);
    w.proxy.quote = azure;
}

static void close_world(void)
{
    for (size_t i = 0; i < sizeof rsa / sizeof *rsa; i++)
        EVP_PKEY_free(rsa[i]);
    EVP_PKEY_free(ec_key);
    EVP_PKEY_free(edwards_key);
    world_close(&w);
}

/* Google: the same world, other evidence. */
static void use_gcp(void)
{
    w.proxy.quote = gcp;
    w.rules.proxy.measurement[0].tee = VERIFIER_TEE_GCP;
    memset(w.rules.proxy.measurement[0].digest, 0, 48);
}

START_TEST(azure_is_accepted_by_its_registers_and_its_machine)
{
    struct verifier_claims *claims;
    struct policy_verdict v = ask(&w.proxy, &claims);
    struct policy_measurement *m = &w.rules.proxy.measurement[0];
    refused("good", v, 0, VERIFIER_OK);
    ck_assert(v.simulated);
    const struct verifier_hw *hw = &claims->node.hw;
    ck_assert_int_eq(hw->tee, VERIFIER_TEE_AZURE);
    ck_assert_int_eq(hw->beneath, VERIFIER_TEE_SNP);
    ck_assert_uint_eq(hw->vtpm.present, PCRS);
    ck_assert_mem_eq(hw->vtpm.pcr[9], pcr[2], 32);
    ck_assert(hw->has_chip_id);
    char *report = policy_report(claims, &v);
    ck_assert_ptr_nonnull(strstr(report, "\"pcr9\": \"12121212"));
    ck_assert_ptr_nonnull(strstr(report, "\"reported_tcb\""));
    free(report);
    verifier_claims_free(claims);

    m->pcr[1][0] ^= 1;
    refused("other register", ask(&w.proxy, NULL), 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    m->pcr[1][0] ^= 1;
    m->pcrs = 1u << 4 | 1u << 10;
    refused("register not quoted", ask(&w.proxy, NULL), 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    m->pcrs = 0;
    refused("no register pinned", ask(&w.proxy, NULL), 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    m->pcrs = 1u << 4;
    refused("one register", ask(&w.proxy, NULL), 0, VERIFIER_OK);
    m->digest[0] ^= 1;
    refused("other paravisor", ask(&w.proxy, NULL), 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    m->digest[0] ^= 1;
    m->tee = VERIFIER_TEE_SNP;
    m->pcrs = 0;
    refused("paravisor as if it were the guest", ask(&w.proxy, NULL), 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
    m->tee = VERIFIER_TEE_AZURE;
    m->pcrs = 1u << 4;
    memset(w.rules.hardware.chip[0], 0x77, 64);
    refused("another machine", ask(&w.proxy, NULL), 11, VERIFIER_E_HARDWARE_NOT_ACCEPTED);
}
END_TEST

START_TEST(a_bank_without_names_pins_nothing)
{
    flaw.other_bank = true;
    refused("SHA-1 registers", ask(&w.proxy, NULL), 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED);
}
END_TEST

#define FLAW(name, stage, code)                                                                                        \
    {                                                                                                                  \
#name, &flaw.name, stage, VERIFIER_E_##code                                                                    \
    }
struct flawed {
    const char *name;
    bool *on;
    int stage;
    enum verifier_err code;
};

static const struct flawed quote_flaws[] = {
    FLAW(magic, 5, BAD_MAGIC),
    FLAW(certify, 5, NOT_A_QUOTE),
    FLAW(torn, 5, PARSE),
    FLAW(signature, 5, BAD_SIGNATURE),
    FLAW(pcr_value, 5, PCR_MISMATCH),
    FLAW(pcr_missing, 5, PCR_MISMATCH),
    FLAW(pcr_too_many, 5, PCR_MISMATCH),
    FLAW(nonce_short, 5, NONCE_MISMATCH),
    FLAW(nonce_other, 6, REPORT_DATA_MISMATCH),
    FLAW(extra_key, 5, PARSE),
    FLAW(event_log_other, 5, PCR_MISMATCH),
};

static const struct flawed azure_flaws[] = {
    FLAW(hcl_magic, 5, BAD_MAGIC),
    FLAW(json, 5, RUNTIME_DATA_MISMATCH),
    FLAW(hash, 5, RUNTIME_DATA_MISMATCH), /* the second half of the report data is not zero */
    FLAW(json_other_key, 5, BAD_SIGNATURE),
    FLAW(no_key, 5, PARSE),
    FLAW(key_twice, 5, PARSE),
    FLAW(stray, 5, PARSE),
    FLAW(td_report, 5, PARSE),                /* a TDREPORT without its quote */
    FLAW(td_quote, 5, RUNTIME_DATA_MISMATCH), /* an SNP report that says it is a TDREPORT */
};

static const struct flawed gcp_flaws[] = {
    FLAW(ek, 5, SIGNING_KEY_MISMATCH),    FLAW(ca_as_leaf, 5, SIGNING_KEY_MISMATCH),
    FLAW(edwards, 5, UNSUPPORTED_ALG),    FLAW(stranger, 5, UNTRUSTED_ROOT),
    FLAW(two, 5, CHAIN_LENGTH),           FLAW(expired, 5, CERT_EXPIRED),
    FLAW(no_crl, 5, CRL_MISSING),         FLAW(crl_expired, 5, CRL_EXPIRED),
    FLAW(crl_by_other, 5, CRL_SIGNATURE), FLAW(revoked, 5, CERT_REVOKED),
    FLAW(ca_revoked, 5, CERT_REVOKED),
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Each alone is refused for its own reason; the log that leads to the quoted register passes. */
static void each_refused(const struct flawed *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        *list[i].on = true;
        refused(list[i].name, ask(&w.proxy, NULL), list[i].stage, list[i].code);
        *list[i].on = false;
        verifier_anchors_reset();
        struct verifier_anchor root = {.kind = VERIFIER_ANCHOR_AMD, .line = "Genoa", .simulated = true};
        ck_assert(verifier_anchors_inject(simulated_root_sha256, &root));
    }
}

START_TEST(azure_flaws_have_their_codes)
{
    each_refused(quote_flaws, COUNT(quote_flaws));
    each_refused(azure_flaws, COUNT(azure_flaws));
    flaw.event_log = true;
    refused("event log", ask(&w.proxy, NULL), 0, VERIFIER_OK);
}
END_TEST

/* Proven, and refused where rules name machines: Google's certificate names none. */
START_TEST(gcp_is_proven)
{
    use_gcp();
    for (int ec = 0; ec < 2; ec++) {
        struct verifier_claims *claims;
        flaw.ec = ec;
        struct policy_verdict v = ask(&w.proxy, &claims);
        ck_assert_msg(claims != NULL, "%s at %d", verifier_err_name(v.refusal.code), v.refusal.stage);
        ck_assert_int_eq(claims->node.hw.tee, VERIFIER_TEE_GCP);
        ck_assert(claims->node.hw.simulated);
        ck_assert_uint_eq(claims->node.hw.vtpm.present, PCRS);
        ck_assert_uint_eq(claims->node.hw.collateral_at, w.now - 2 * DAY);
        ck_assert_uint_eq(claims->node.hw.expires, w.now + 7 * DAY);
        refused("no such platform", v, 11, VERIFIER_E_PRODUCT_NOT_ACCEPTED);
        verifier_claims_free(claims);
        verifier_anchors_reset();
    }
}
END_TEST

START_TEST(gcp_flaws_have_their_codes)
{
    use_gcp();
    each_refused(quote_flaws, COUNT(quote_flaws));
    each_refused(gcp_flaws, COUNT(gcp_flaws));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, open_world, close_world);
    tcase_add_test(t, azure_is_accepted_by_its_registers_and_its_machine);
    tcase_add_test(t, a_bank_without_names_pins_nothing);
    tcase_add_test(t, azure_flaws_have_their_codes);
    tcase_add_test(t, gcp_is_proven);
    tcase_add_test(t, gcp_flaws_have_their_codes);
}

RUN("protocol_vtpm", add_tests)
