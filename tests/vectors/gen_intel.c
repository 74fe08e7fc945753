/* Synthetic Intel evidence: TDX quotes of version 4 (TD 1.0) and 5 (TD 1.5), SGX quotes of version 3, with their
 * collateral under a test root, and one flaw for each reason. */
#include <stdio.h>

#include "vectors/forge.h"
#include "verifier/quote.h"

#define PCK_OID "1.2.840.113741.1.13.1"
#define FILE_PCK 0x2001
#define FILE_CA 0x1001
#define FILE_SIGNER 0x1002

static EVP_PKEY *root_key, *ca_key, *pck_key, *signer_key, *quote_key, *other_key;
static X509 *root, *ca, *pck, *signer, *other_root;

/* --- certificates ------------------------------------------------------------------------------------------- */

/* DER with short lengths, enough for the extension below. */
static void put_tlv(struct writer *w, uint8_t tag, struct span content)
{
    writer_u8(w, tag);
    if (content.len >= 0x80)
        writer_u8(w, content.len > 0xff ? 0x82 : 0x81);
    if (content.len > 0xff)
        writer_u8(w, (uint8_t)(content.len >> 8));
    writer_u8(w, (uint8_t)content.len);
    writer_bytes(w, content);
}

/* {OID base.path, value}: `path` are one or two numbers. */
static void put_entry(struct writer *w, struct span path, uint8_t tag, struct span value)
{
    static const uint8_t base[] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};
    struct writer oid = writer_with_max(64), entry = writer_with_max(1024);

    writer_bytes(&oid, span_of(base, sizeof base));
    writer_bytes(&oid, path);
    put_tlv(&entry, 0x06, writer_span(&oid));
    put_tlv(&entry, tag, value);
    put_tlv(w, 0x30, writer_span(&entry));
    writer_release(&oid);
    writer_release(&entry);
}

static const uint8_t fmspc[6] = {0x90, 0xc0, 0x6f, 0, 0, 0}, pceid[2] = {0, 0};
static const uint8_t components[16] = {5, 5, 2, 2, 3, 1, 0, 3};

/* What a PCK certificate says of its platform. `leave_out`: a part that is not there; 0: all are. */
static void fill_pck(struct forge_extension *e, unsigned leave_out)
{
    struct writer all = writer_with_max(1024), part = writer_with_max(1024), outer = writer_with_max(1024);
    uint8_t ppid[16], instance[16];

    forge_fill(ppid, sizeof ppid, "PPID");
    forge_fill(instance, sizeof instance, "instance");
    if (leave_out != 1)
        put_entry(&all, span_of("\1", 1), 0x04, span_of(ppid, 16));
    for (uint8_t i = 1; i <= 16; i++)
        put_entry(&part, span_of((uint8_t[]){2, i}, 2), 0x02, span_of(&components[i - 1], 1));
    put_entry(&part, span_of("\2\21", 2), 0x02, span_of("\13", 1));
    put_entry(&part, span_of("\2\22", 2), 0x04, span_of(components, 16));
    put_entry(&all, span_of("\2", 1), 0x30, writer_span(&part));
    put_entry(&all, span_of("\3", 1), 0x04, span_of(pceid, 2));
    put_entry(&all, span_of("\4", 1), 0x04, span_of(fmspc, 6));
    put_entry(&all, span_of("\5", 1), 0x0a, span_of("\1", 1));
    put_entry(&all, span_of("\6", 1), 0x04, span_of(instance, 16));
    writer_reset(&part);
    put_entry(&part, span_of("\7\1", 2), 0x01, span_of("\377", 1));
    put_entry(&part, span_of("\7\2", 2), 0x01, span_of("\0", 1));
    put_entry(&part, span_of("\7\3", 2), 0x01, span_of("\377", 1));
    put_entry(&all, span_of("\7", 1), 0x30, writer_span(&part));
    put_tlv(&outer, 0x30, writer_span(&all));
    FORGE(writer_ok(&outer) && outer.len <= sizeof e->value);
    *e = (struct forge_extension){.oid = PCK_OID, .len = outer.len};
    memcpy(e->value, outer.data, outer.len);
    writer_release(&all);
    writer_release(&part);
    writer_release(&outer);
}

static struct forge_cert root_spec(void)
{
    return (struct forge_cert){
        .cn = "Intel SGX Root CA", .key = root_key, .form = FORGE_ECDSA_256, .serial = 1, .ca = true, .room = 1};
}

static struct forge_cert ca_spec(void)
{
    return (struct forge_cert){.cn = "Intel SGX PCK Platform CA",
                               .key = ca_key,
                               .signer = root_key,
                               .issuer = root,
                               .form = FORGE_ECDSA_256,
                               .serial = FILE_CA,
                               .ca = true,
                               .room = 0};
}

static struct forge_cert pck_spec(void)
{
    struct forge_cert c = {.cn = "Intel SGX PCK Certificate",
                           .key = pck_key,
                           .signer = ca_key,
                           .issuer = ca,
                           .form = FORGE_ECDSA_256,
                           .serial = FILE_PCK,
                           .from = "2026-01-01T00:00:00Z",
                           .to = "2033-01-01T00:00:00Z",
                           .extension_count = 1};

    fill_pck(&c.extension[0], 0);
    return c;
}

static struct forge_cert signer_spec(void)
{
    return (struct forge_cert){.cn = "Intel SGX TCB Signing",
                               .key = signer_key,
                               .signer = root_key,
                               .issuer = root,
                               .form = FORGE_ECDSA_256,
                               .serial = FILE_SIGNER};
}

static X509 *made(struct forge_cert spec)
{
    return forge_x509(&spec);
}

static void make_parties(void)
{
    struct forge_cert other;

    root_key = forge_ec("Intel root", "P-256");
    ca_key = forge_ec("Intel PCK CA", "P-256");
    pck_key = forge_ec("PCK", "P-256");
    signer_key = forge_ec("Intel TCB signing", "P-256");
    quote_key = forge_ec("attestation key", "P-256");
    other_key = forge_ec("somebody else", "P-256");
    root = made(root_spec());
    ca = made(ca_spec());
    pck = made(pck_spec());
    signer = made(signer_spec());
    other = root_spec();
    other.key = other_key;
    other_root = made(other);
}

/* --- quotes -------------------------------------------------------------------------------------------------- */

struct quote {
    uint16_t version;
    uint32_t tee;
    uint8_t body[885]; /* by hand */
    size_t body_len;
    uint8_t qe[384];         /* report data is filled in */
    EVP_PKEY *pck_key, *key; /* sign QE report and quote */
    X509 *chain[4];
    size_t chain_count;
    bool loose; /* the QE names another key */
};

static struct quote good_quote(uint16_t version, uint32_t tee)
{
    struct quote q = {.version = version, .tee = tee, .pck_key = pck_key, .key = quote_key, .chain = {pck, ca, root}};

    q.chain_count = 3;
    memset(q.qe, 0, sizeof q.qe);
    q.qe[48] = 0x11; /* ATTRIBUTES: 64 bit, provisioning */
    forge_fill(q.qe + 64, 32, "QE");
    forge_fill(q.qe + 128, 32, "Intel's enclave signer");
    q.qe[256] = tee ? 2 : 1;
    q.qe[258] = 8;
    if (tee == VERIFIER_QUOTE_TEE_SGX) {
        q.body_len = 384;
        memcpy(q.body, components, 16);
        q.body[48] = 5;
        forge_fill(q.body + 64, 32, "MRENCLAVE");
        forge_fill(q.body + 128, 32, "MRSIGNER");
        forge_fill(q.body + 320, 64, "report data");
        return q;
    }
    q.body_len = version == 5 ? 648 : 584;
    memcpy(q.body, "\6\1\5", 3); /* TEE_TCB_SVN: module TDX_01 at 6 */
    forge_fill(q.body + 16, 48, "MRSEAM");
    q.body[123] = 0x10; /* SEPT_VE_DISABLE */
    q.body[128] = 0xe7;
    forge_fill(q.body + 136, 48, "MRTD");
    for (int i = 0; i < 4; i++)
        forge_fill(q.body + 328 + 48 * i, 48, "RTMR");
    forge_fill(q.body + 520, 64, "report data");
    memcpy(q.body + 584, q.body, 16); /* TEE_TCB_SVN2 */
    return q;
}

static void put_le(struct writer *w, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        writer_u8(w, (uint8_t)(v >> 8 * i));
}

static void put_qe(struct writer *w, struct quote *q, const uint8_t point[64])
{
    static const char auth[] = "authentication data";
    uint8_t bound[64 + sizeof auth], rs[64];
    struct writer pem = writer_with_max(16384);

    memcpy(bound, point, 64);
    memcpy(bound + 64, auth, sizeof auth);
    FORGE(EVP_Digest(bound, sizeof bound, q->qe + 320, NULL, EVP_sha256(), NULL) == 1);
    memset(q->qe + 352, q->loose, 32);
    forge_ecdsa(q->pck_key, "QE report", span_of(q->qe, sizeof q->qe), rs, sizeof rs);
    writer_bytes(w, span_of(q->qe, sizeof q->qe));
    writer_bytes(w, span_of(rs, sizeof rs));
    put_le(w, sizeof auth, 2);
    writer_bytes(w, span_of(auth, sizeof auth));
    put_le(w, 5, 2);
    forge_pem(&pem, q->chain, q->chain_count);
    put_le(w, pem.len, 4);
    writer_bytes(w, writer_span(&pem));
    writer_release(&pem);
}

static void put_quote(struct writer *w, struct quote *q)
{
    struct writer data = writer_with_max(32768), inner = writer_with_max(32768);
    uint8_t rs[64], point[64];

    put_le(w, q->version, 2);
    put_le(w, 2, 2);
    put_le(w, q->tee, 4);
    put_le(w, 0, 4);
    writer_bytes(w, span_of("\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07", 16));
    writer_bytes(w, span_of("twenty bytes of user", 20));
    if (q->version == 5)
        put_le(w, q->tee ? 3 : 1, 2), put_le(w, q->body_len, 4);
    writer_bytes(w, span_of(q->body, q->body_len));
    forge_ecdsa(q->key, "quote", writer_span(w), rs, sizeof rs);
    forge_point(q->key, point, sizeof point);
    writer_bytes(&data, span_of(rs, sizeof rs));
    writer_bytes(&data, span_of(point, sizeof point));
    put_qe(&inner, q, point);
    if (q->version > 3)
        put_le(&data, 6, 2), put_le(&data, inner.len, 4);
    writer_bytes(&data, writer_span(&inner));
    put_le(w, data.len, 4);
    writer_bytes(w, writer_span(&data));
    FORGE(writer_ok(w));
    writer_release(&data);
    writer_release(&inner);
}

static void quote_file(struct forge_item *i, const char *role, const char *name, struct quote *q)
{
    struct writer w = writer_with_max(65536);

    put_quote(&w, q);
    forge_file(i, role, name, writer_span(&w));
    writer_release(&w);
}

/* --- collateral ------------------------------------------------------------------------------------------------- */

/* The value, and `{"NAME":value,"signature":"hex"}` around it. */
static void response(struct forge_item *i, const char *role, const char *file, const char *name, json_t *value,
                     EVP_PKEY *key)
{
    char *text = json_dumps(value, JSON_COMPACT);
    struct writer w = writer_with_max(65536);
    uint8_t rs[64];

    FORGE(text != NULL);
    forge_ecdsa(key, name, span_str(text), rs, sizeof rs);
    writer_printf(&w, "{\"%s\":", name);
    writer_str(&w, text);
    writer_str(&w, ",\"signature\":\"");
    for (size_t k = 0; k < sizeof rs; k++)
        writer_printf(&w, "%02x", rs[k]);
    writer_str(&w, "\"}");
    forge_file(i, role, file, writer_span(&w));
    writer_release(&w);
    json_decref(value);
    free(text);
}

static json_t *svns(const uint8_t *v)
{
    json_t *list = json_array();

    for (int i = 0; i < 16; i++)
        json_array_append_new(list, json_pack("{s:i}", "svn", v ? v[i] : 0));
    return list;
}

static json_t *level(unsigned pcesvn, const char *status, const char *advisory, bool tdx, uint8_t tdx2)
{
    const uint8_t tee[16] = {0, 0, tdx2};
    json_t *tcb = json_pack("{s:o, s:i}", "sgxtcbcomponents", svns(components), "pcesvn", (int)pcesvn);
    json_t *l;

    if (tdx)
        json_object_set_new(tcb, "tdxtcbcomponents", svns(tee));
    l = json_pack("{s:o, s:s, s:s}", "tcb", tcb, "tcbDate", "2025-03-12T00:00:00Z", "tcbStatus", status);
    if (advisory)
        json_object_set_new(l, "advisoryIDs", json_pack("[s]", advisory));
    return l;
}

static json_t *svn_level(int svn, const char *status, const char *advisory)
{
    json_t *l =
        json_pack("{s:{s:i}, s:s, s:s}", "tcb", "isvsvn", svn, "tcbDate", "2025-01-01T00:00:00Z", "tcbStatus", status);

    if (advisory)
        json_object_set_new(l, "advisoryIDs", json_pack("[s]", advisory));
    return l;
}

static json_t *tcb_info(bool tdx)
{
    json_t *o = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:i, s:i}", "id", tdx ? "TDX" : "SGX", "version", 3,
                          "issueDate", "2026-05-01T00:00:00Z", "nextUpdate", "2026-07-01T00:00:00Z", "fmspc",
                          "90c06f000000", "pceId", "0000", "tcbType", 0, "tcbEvaluationDataNumber", 18);
    json_t *module;
    char zeros[97];

    memset(zeros, '0', 96);
    zeros[96] = '\0';
    module = json_pack("{s:s, s:s, s:s}", "mrsigner", zeros, "attributes", "0000000000000000", "attributesMask",
                       "FFFFFFFFFFFFFFFF");
    if (tdx) {
        json_object_set_new(o, "tdxModule", json_deep_copy(module));
        json_object_set_new(module, "id", json_string("TDX_01"));
        json_object_set_new(module, "tcbLevels",
                            json_pack("[o, o, o]", svn_level(6, "UpToDate", NULL),
                                      svn_level(4, "OutOfDate", "INTEL-SA-90104"),
                                      svn_level(2, "Revoked", "INTEL-SA-90102")));
        json_object_set_new(o, "tdxModuleIdentities", json_pack("[O]", module));
    }
    json_decref(module);
    json_object_set_new(
        o, "tcbLevels",
        json_pack("[o, o]", level(11, "UpToDate", NULL, tdx, 5), level(10, "OutOfDate", "INTEL-SA-90000", tdx, 4)));
    return o;
}

static json_t *qe_identity(bool tdx)
{
    uint8_t mrsigner[32];
    json_t *o;

    forge_fill(mrsigner, sizeof mrsigner, "Intel's enclave signer");
    o = json_pack("{s:s, s:i, s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:o, s:i}", "id", tdx ? "TD_QE" : "QE", "version", 2,
                  "issueDate", "2026-05-01T00:00:00Z", "nextUpdate", "2026-07-01T00:00:00Z", "tcbEvaluationDataNumber",
                  18, "miscselect", "00000000", "miscselectMask", "FFFFFFFF", "attributes",
                  "11000000000000000000000000000000", "attributesMask", "FBFFFFFFFFFFFFFF0000000000000000", "mrsigner",
                  forge_hex(span_of(mrsigner, 32)), "isvprodid", tdx ? 2 : 1);
    json_object_set_new(o, "tcbLevels",
                        json_pack("[o, o, o]", svn_level(8, "UpToDate", NULL),
                                  svn_level(5, "OutOfDate", "INTEL-SA-90005"),
                                  svn_level(3, "Revoked", "INTEL-SA-90003")));
    return o;
}

static void info_file(struct forge_item *i, const char *file, json_t *value)
{
    response(i, NULL, file, "tcbInfo", value, signer_key);
}

static void identity_file(struct forge_item *i, const char *file, json_t *value)
{
    response(i, NULL, file, "enclaveIdentity", value, signer_key);
}

static void chain_file(struct forge_item *i, const char *role, const char *file, X509 *leaf, X509 *top)
{
    X509 *const both[] = {leaf, top};
    struct writer w = writer_with_max(16384);

    forge_pem(&w, both, 2);
    forge_file(i, role, file, writer_span(&w));
    writer_release(&w);
}

static void crl_file(struct forge_item *i, const char *role, const char *file, struct forge_crl spec, bool of_root)
{
    spec.form = FORGE_ECDSA_256;
    spec.issuer = spec.issuer ? spec.issuer : of_root ? root : ca;
    spec.signer = spec.signer ? spec.signer : of_root ? root_key : ca_key;
    forge_file(i, role, file, forge_crl(&spec));
}

/* An item whose first case is accepted. */
static void begin(struct forge_item *i, const char *top, const char *kind, const char *id, struct quote *q)
{
    bool tdx = q->tee == VERIFIER_QUOTE_TEE_TDX;
    struct writer pem = writer_with_max(16384);
    json_t *one;

    forge_open(i, top, kind, id,
               json_pack("{s:i, s:b, s:i, s:{s:s}}", "version", q->version, "debug", 0, "body_size", (int)q->body_len,
                         "pck", "fmspc", "90c06f000000"));
    quote_file(i, "quote", "quote.bin", q);
    response(i, "tcb_info", "tcb_info.json", "tcbInfo", tcb_info(tdx), signer_key);
    response(i, "qe_identity", "qe_identity.json", "enclaveIdentity", qe_identity(tdx), signer_key);
    chain_file(i, "tcb_info_chain", "chain.pem", signer, root);
    chain_file(i, "qe_identity_chain", "chain.pem", signer, root);
    crl_file(i, "root_ca_crl", "root_ca.crl", (struct forge_crl){.revoked = {7}}, true);
    crl_file(i, "pck_crl", "pck.crl", (struct forge_crl){.revoked = {8, 9}}, false);
    forge_pem(&pem, &root, 1);
    forge_file(i, "root", "root_ca.pem", writer_span(&pem));
    writer_release(&pem);
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

static json_t *quote_case(struct forge_item *i, const char *name, const char *code, struct quote *q)
{
    char file[80];

    snprintf(file, sizeof file, "quote_%s.bin", name);
    quote_file(i, NULL, file, q);
    return used(i, name, code, "quote", file);
}

static void flawed_quotes(struct forge_item *i, const struct quote *good)
{
    struct quote q = *good;

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
static void chain_case(struct forge_item *i, const struct quote *good, const char *name, const char *code, X509 *leaf,
                       X509 *middle, X509 *top)
{
    struct quote q = *good;

    q.chain[0] = leaf;
    q.chain[1] = middle;
    q.chain[2] = top;
    quote_case(i, name, code, &q);
}

static void flawed_leaves(struct forge_item *i, const struct quote *good)
{
    struct forge_cert c = pck_spec();

    c.from = "2026-06-01T00:00:01Z";
    chain_case(i, good, "pck_not_yet_valid", "cert_not_yet_valid", made(c), ca, root);
    c = pck_spec();
    c.to = "2026-05-31T23:59:59Z";
    chain_case(i, good, "pck_expired", "cert_expired", made(c), ca, root);
    c = pck_spec();
    c.cn = "Intel SGX TCB Signing";
    chain_case(i, good, "pck_of_another_name", "chain_issuer", made(c), ca, root);
    c = pck_spec();
    c.signer = other_key;
    chain_case(i, good, "pck_signed_by_another_key", "chain_signature", made(c), ca, root);
    c = pck_spec();
    c.extension_count = 0;
    chain_case(i, good, "pck_without_a_platform", "parse", made(c), ca, root);
    c = pck_spec();
    fill_pck(&c.extension[0], 1);
    chain_case(i, good, "pck_without_a_ppid", "parse", made(c), ca, root);
    c = pck_spec();
    c.key = forge_ec("a key on another curve", "P-384");
    chain_case(i, good, "pck_on_p384", "unsupported_alg", made(c), ca, root);
}

static void flawed_chains(struct forge_item *i, const struct quote *good)
{
    struct forge_cert c = ca_spec();
    struct quote q = *good;

    c.ca = false;
    chain_case(i, good, "ca_without_the_right", "not_a_ca", pck, made(c), root);
    c = root_spec();
    c.room = 0;
    c.key = root_key;
    chain_case(i, good, "order", "chain_issuer", ca, pck, root);
    chain_case(i, good, "root_of_the_same_name", "untrusted_root", pck, ca, other_root);
    q.chain_count = 2;
    quote_case(i, "two_certificates", "chain_length", &q);
    q.chain_count = 4;
    q.chain[3] = root;
    quote_case(i, "four_certificates", "chain_length", &q);
    forge_set(forge_case(i, "not_pem", "parse"), "quote.bin", QE + 384 + 64 + 2 + 20 + 6, "2e");
}

static void crl_case(struct forge_item *i, const char *name, const char *code, struct forge_crl spec, bool of_root)
{
    char file[80];

    snprintf(file, sizeof file, "%s.crl", name);
    crl_file(i, NULL, file, spec, of_root);
    used(i, name, code, of_root ? "root_ca_crl" : "pck_crl", file);
}

static void flawed_lists(struct forge_item *i)
{
    crl_case(i, "pck_revoked", "cert_revoked", (struct forge_crl){.revoked = {FILE_PCK}}, false);
    crl_case(i, "ca_revoked", "cert_revoked", (struct forge_crl){.revoked = {FILE_CA}}, true);
    crl_case(i, "signer_revoked", "cert_revoked", (struct forge_crl){.revoked = {FILE_SIGNER}}, true);
    crl_case(i, "list_expired", "crl_expired", (struct forge_crl){.to = "2026-05-31T23:59:59Z"}, false);
    crl_case(i, "list_not_yet_valid", "crl_not_yet_valid", (struct forge_crl){.from = "2026-06-01T00:00:01Z"}, true);
    crl_case(i, "list_signed_by_another_key", "crl_signature", (struct forge_crl){.signer = other_key}, false);
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
    info_file(i, file, value);
    used(i, name, code, "tcb_info", file);
}

static void identity_case(struct forge_item *i, const char *name, const char *code, json_t *value)
{
    char file[80];

    snprintf(file, sizeof file, "identity_%s.json", name);
    identity_file(i, file, value);
    used(i, name, code, "qe_identity", file);
}

static void flawed_info(struct forge_item *i)
{
    json_t *short_list = tcb_info(true);

    info_case(i, "info_of_sgx", "collateral_mismatch", changed(tcb_info(true), "id", json_string("SGX")));
    info_case(i, "info_of_version_2", "collateral_mismatch", changed(tcb_info(true), "version", json_integer(2)));
    info_case(i, "info_expired", "collateral_expired",
              changed(tcb_info(true), "nextUpdate", json_string("2026-05-31T23:59:59Z")));
    info_case(i, "info_from_tomorrow", "collateral_expired",
              changed(tcb_info(true), "issueDate", json_string("2026-06-02T00:00:00Z")));
    info_case(i, "info_of_another_model", "fmspc_mismatch",
              changed(tcb_info(true), "fmspc", json_string("90c06f000001")));
    info_case(i, "info_of_another_pce", "pceid_mismatch", changed(tcb_info(true), "pceId", json_string("0001")));
    info_case(i, "info_without_a_date", "parse", changed(tcb_info(true), "issueDate", NULL));
    info_case(i, "info_without_levels", "parse", changed(tcb_info(true), "tcbLevels", NULL));
    info_case(i, "info_of_tcb_type_1", "parse", changed(tcb_info(true), "tcbType", json_integer(1)));
    info_case(i, "info_without_modules", "tdx_module_mismatch", changed(tcb_info(true), "tdxModuleIdentities", NULL));
    info_case(i, "info_with_no_level", "tcb_not_supported", changed(tcb_info(true), "tcbLevels", json_array()));
    info_case(i, "levels_from_low_to_high", "parse",
              changed(tcb_info(true), "tcbLevels",
                      json_pack("[o, o]", level(12, "UpToDate", NULL, true, 5), level(13, "UpToDate", NULL, true, 5))));
    json_array_remove(
        json_object_get(json_object_get(json_array_get(json_object_get(short_list, "tcbLevels"), 0), "tcb"),
                        "sgxtcbcomponents"),
        15);
    info_case(i, "fifteen_components", "parse", short_list);
    info_case(i, "status_unknown", "parse",
              changed(tcb_info(true), "tcbLevels", json_pack("[o]", level(11, "Splendid", NULL, true, 5))));
    info_case(i, "status_that_only_we_conclude", "parse",
              changed(tcb_info(true), "tcbLevels", json_pack("[o]", level(11, "TDRelaunchAdvised", NULL, true, 5))));
    info_case(i, "advisory_too_long", "parse",
              changed(tcb_info(true), "tcbLevels",
                      json_pack("[o]", level(11, "UpToDate", "INTEL-SA-000000000000000000000000", true, 5))));
}

static void statuses(struct forge_item *i)
{
    static const char *const words[] = {
        "SWHardeningNeeded", "ConfigurationNeeded",          "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",         "OutOfDateConfigurationNeeded", "Revoked"};

    for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
        json_t *one, *levels = json_pack("[o]", level(11, words[k], "INTEL-SA-90009", true, 5));
        char name[64], file[80];

        snprintf(name, sizeof name, "status_%s", words[k]);
        info_case(i, name, "tcb_status", changed(tcb_info(true), "tcbLevels", levels));
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
    identity_case(i, "identity_of_sgx", "collateral_mismatch", changed(qe_identity(true), "id", json_string("QE")));
    identity_case(i, "identity_of_version_1", "collateral_mismatch",
                  changed(qe_identity(true), "version", json_integer(1)));
    identity_case(i, "identity_expired", "collateral_expired",
                  changed(qe_identity(true), "nextUpdate", json_string("2026-05-31T23:59:59Z")));
    identity_case(i, "identity_without_a_number", "parse", changed(qe_identity(true), "tcbEvaluationDataNumber", NULL));
    identity_case(i, "identity_with_a_short_mask", "parse",
                  changed(qe_identity(true), "attributesMask", json_string("FB")));
    identity_case(i, "identity_of_another_signer", "qe_identity_mismatch",
                  changed(qe_identity(true), "mrsigner",
                          json_string("00000000000000000000000000000000000000000000000000000000000000ff")));
    identity_case(i, "identity_levels_from_low_to_high", "parse",
                  changed(qe_identity(true), "tcbLevels",
                          json_pack("[o, o]", svn_level(9, "UpToDate", NULL), svn_level(10, "UpToDate", NULL))));
}

static void flawed_envelopes(struct forge_item *i)
{
    struct forge_cert c = signer_spec();
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
        X509 *const three[] = {signer, ca, root};
        struct writer w = writer_with_max(16384);
        forge_pem(&w, three, 3);
        forge_file(i, NULL, "three.pem", writer_span(&w));
        writer_release(&w);
    }
    chain_file(i, NULL, "ca_chain.pem", ca, root);
    used(i, "signed_by_the_ca", "collateral_signature", "tcb_info_chain", "ca_chain.pem");
    chain_file(i, NULL, "other_chain.pem", signer, other_root);
    used(i, "collateral_of_another_root", "untrusted_root", "qe_identity_chain", "other_chain.pem");
    c.to = "2026-05-31T23:59:59Z";
    chain_file(i, NULL, "old_chain.pem", made(c), root);
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

static void relaunch(struct forge_item *i, const struct quote *good)
{
    struct quote q = *good;
    json_t *one;

    q.body[0] = 4; /* at launch; updated since */
    one = quote_case(i, "relaunch_advised", "tcb_status", &q);
    forge_expect(one, "tcb_status", json_string("TDRelaunchAdvised"));
    one = used(i, "relaunch_accepted", NULL, "quote", "quote_relaunch_advised.bin");
    forge_policy(one, "allowed_tcb_status", json_pack("[s]", "TDRelaunchAdvised"));
    info_file(i, "info_configuration.json",
              changed(tcb_info(true), "tcbLevels", json_pack("[o]", level(11, "ConfigurationNeeded", NULL, true, 5))));
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
    struct quote q = good_quote(3, VERIFIER_QUOTE_TEE_SGX);
    struct forge_item i;
    json_t *old = tcb_info(false), *tcb = json_object();

    begin(&i, top, "sgx", "v3", &q);
    for (int k = 1; k <= 16; k++) {
        char key[24];
        snprintf(key, sizeof key, "sgxtcbcomp%02dsvn", k);
        json_object_set_new(tcb, key, json_integer(components[k - 1]));
    }
    json_object_set_new(tcb, "pcesvn", json_integer(11));
    json_object_set_new(json_array_get(json_object_get(old, "tcbLevels"), 0), "tcb", tcb);
    json_object_del(old, "id");
    json_object_set_new(old, "version", json_integer(2));
    info_case(&i, "info_of_version_2", NULL, old);
    info_case(&i, "info_of_tdx", "collateral_mismatch", changed(tcb_info(false), "id", json_string("TDX")));
    info_case(&i, "info_of_version_2_with_an_id", "collateral_mismatch",
              changed(tcb_info(false), "version", json_integer(2)));
    forge_xor(forge_case(&i, "measurement_changed", "bad_signature"), "quote.bin", 48 + 64, "01");
    forge_set(forge_case(&i, "tdx_in_version_3", "unsupported_tee"), "quote.bin", 4, "81");
    q.body[48] |= 2;
    quote_case(&i, "debug", "debug_enabled", &q);
    forge_policy(used(&i, "debug_allowed", NULL, "quote", "quote_debug.bin"), "allow_debug", json_true());
    forge_close(&i);
}

static void make(const char *top)
{
    struct quote q;
    struct forge_item i;

    make_parties();
    q = good_quote(4, VERIFIER_QUOTE_TEE_TDX);
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
    q = good_quote(5, VERIFIER_QUOTE_TEE_TDX);
    begin(&i, top, "tdx", "v5-td15", &q);
    relaunch(&i, &q);
    forge_close(&i);
    make_sgx(top);
}

int main(int argc, char **argv)
{
    return forge_main(argc, argv, make);
}
