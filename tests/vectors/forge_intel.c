#include "vectors/forge_intel.h"

#include <stdio.h>
#include <stdlib.h>

#define PCK_OID "1.2.840.113741.1.13.1"

struct forge_intel forge_intel;

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
const uint8_t forge_intel_components[16] = {5, 5, 2, 2, 3, 1, 0, 3};

/* What a PCK certificate says of its platform. `leave_out`: a part that is not there; 0: all are. */
void forge_intel_fill_pck(struct forge_extension *e, unsigned leave_out)
{
    struct writer all = writer_with_max(1024), part = writer_with_max(1024), outer = writer_with_max(1024);
    uint8_t ppid[16], instance[16];

    forge_fill(ppid, sizeof ppid, "PPID");
    forge_fill(instance, sizeof instance, "instance");
    if (leave_out != 1)
        put_entry(&all, span_of("\1", 1), 0x04, span_of(ppid, 16));
    for (uint8_t i = 1; i <= 16; i++)
        put_entry(&part, span_of((uint8_t[]){2, i}, 2), 0x02, span_of(&forge_intel_components[i - 1], 1));
    put_entry(&part, span_of("\2\21", 2), 0x02, span_of("\13", 1));
    put_entry(&part, span_of("\2\22", 2), 0x04, span_of(forge_intel_components, 16));
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

struct forge_cert forge_intel_root(void)
{
    return (struct forge_cert){.cn = "Intel SGX Root CA",
                               .key = forge_intel.root_key,
                               .form = FORGE_ECDSA_256,
                               .serial = 1,
                               .ca = true,
                               .room = 1};
}

struct forge_cert forge_intel_ca(void)
{
    return (struct forge_cert){.cn = "Intel SGX PCK Platform CA",
                               .key = forge_intel.ca_key,
                               .signer = forge_intel.root_key,
                               .issuer = forge_intel.root,
                               .form = FORGE_ECDSA_256,
                               .serial = FORGE_INTEL_CA,
                               .ca = true,
                               .room = 0};
}

struct forge_cert forge_intel_pck(void)
{
    struct forge_cert c = {.cn = "Intel SGX PCK Certificate",
                           .key = forge_intel.pck_key,
                           .signer = forge_intel.ca_key,
                           .issuer = forge_intel.ca,
                           .form = FORGE_ECDSA_256,
                           .serial = FORGE_INTEL_PCK,
                           .from = "2026-01-01T00:00:00Z",
                           .to = "2033-01-01T00:00:00Z",
                           .extension_count = 1};

    forge_intel_fill_pck(&c.extension[0], 0);
    return c;
}

struct forge_cert forge_intel_signer(void)
{
    return (struct forge_cert){.cn = "Intel SGX TCB Signing",
                               .key = forge_intel.signer_key,
                               .signer = forge_intel.root_key,
                               .issuer = forge_intel.root,
                               .form = FORGE_ECDSA_256,
                               .serial = FORGE_INTEL_SIGNER};
}

void forge_intel_init(void)
{
    struct forge_cert other;

    forge_intel.root_key = forge_ec("Intel root", "P-256");
    forge_intel.ca_key = forge_ec("Intel PCK CA", "P-256");
    forge_intel.pck_key = forge_ec("PCK", "P-256");
    forge_intel.signer_key = forge_ec("Intel TCB signing", "P-256");
    forge_intel.quote_key = forge_ec("attestation key", "P-256");
    forge_intel.other_key = forge_ec("somebody else", "P-256");
    forge_intel.root = forge_x509(forge_intel_root());
    forge_intel.ca = forge_x509(forge_intel_ca());
    forge_intel.pck = forge_x509(forge_intel_pck());
    forge_intel.signer = forge_x509(forge_intel_signer());
    other = forge_intel_root();
    other.key = forge_intel.other_key;
    forge_intel.other_root = forge_x509(other);
}

/* --- quotes -------------------------------------------------------------------------------------------------- */

struct forge_quote forge_quote_good(uint16_t version, uint32_t tee)
{
    struct forge_quote q = {.version = version,
                            .tee = tee,
                            .pck_key = forge_intel.pck_key,
                            .key = forge_intel.quote_key,
                            .chain = {forge_intel.pck, forge_intel.ca, forge_intel.root}};

    q.chain_count = 3;
    memset(q.qe, 0, sizeof q.qe);
    q.qe[48] = 0x11; /* ATTRIBUTES: 64 bit, provisioning */
    forge_fill(q.qe + 64, 32, "QE");
    forge_fill(q.qe + 128, 32, "Intel's enclave signer");
    q.qe[256] = tee ? 2 : 1;
    q.qe[258] = 8;
    if (tee == VERIFIER_QUOTE_TEE_SGX) {
        q.body_len = 384;
        memcpy(q.body, forge_intel_components, 16);
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

static void put_qe(struct writer *w, struct forge_quote *q, const uint8_t point[64])
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

void forge_quote_put(struct writer *w, struct forge_quote *q)
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

void forge_quote_file(struct forge_item *i, const char *role, const char *name, struct forge_quote *q)
{
    struct writer w = writer_with_max(65536);

    forge_quote_put(&w, q);
    forge_file(i, role, name, writer_span(&w));
    writer_release(&w);
}

/* --- collateral ------------------------------------------------------------------------------------------------- */

/* The value, and `{"NAME":value,"signature":"hex"}` around it. */
void forge_intel_response(struct forge_item *i, const char *role, const char *file, const char *name, json_t *value,
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

json_t *forge_intel_level(unsigned pcesvn, const char *status, const char *advisory, bool tdx, uint8_t tdx2)
{
    const uint8_t tee[16] = {0, 0, tdx2};
    json_t *tcb = json_pack("{s:o, s:i}", "sgxtcbcomponents", svns(forge_intel_components), "pcesvn", (int)pcesvn);
    json_t *l;

    if (tdx)
        json_object_set_new(tcb, "tdxtcbcomponents", svns(tee));
    l = json_pack("{s:o, s:s, s:s}", "tcb", tcb, "tcbDate", "2025-03-12T00:00:00Z", "tcbStatus", status);
    if (advisory)
        json_object_set_new(l, "advisoryIDs", json_pack("[s]", advisory));
    return l;
}

json_t *forge_intel_svn_level(int svn, const char *status, const char *advisory)
{
    json_t *l =
        json_pack("{s:{s:i}, s:s, s:s}", "tcb", "isvsvn", svn, "tcbDate", "2025-01-01T00:00:00Z", "tcbStatus", status);

    if (advisory)
        json_object_set_new(l, "advisoryIDs", json_pack("[s]", advisory));
    return l;
}

json_t *forge_intel_info(bool tdx)
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
                            json_pack("[o, o, o]", forge_intel_svn_level(6, "UpToDate", NULL),
                                      forge_intel_svn_level(4, "OutOfDate", "INTEL-SA-90104"),
                                      forge_intel_svn_level(2, "Revoked", "INTEL-SA-90102")));
        json_object_set_new(o, "tdxModuleIdentities", json_pack("[O]", module));
    }
    json_decref(module);
    json_object_set_new(o, "tcbLevels",
                        json_pack("[o, o]", forge_intel_level(11, "UpToDate", NULL, tdx, 5),
                                  forge_intel_level(10, "OutOfDate", "INTEL-SA-90000", tdx, 4)));
    return o;
}

json_t *forge_intel_identity(bool tdx)
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
                        json_pack("[o, o, o]", forge_intel_svn_level(8, "UpToDate", NULL),
                                  forge_intel_svn_level(5, "OutOfDate", "INTEL-SA-90005"),
                                  forge_intel_svn_level(3, "Revoked", "INTEL-SA-90003")));
    return o;
}

void forge_intel_info_file(struct forge_item *i, const char *file, json_t *value)
{
    forge_intel_response(i, NULL, file, "tcbInfo", value, forge_intel.signer_key);
}

void forge_intel_identity_file(struct forge_item *i, const char *file, json_t *value)
{
    forge_intel_response(i, NULL, file, "enclaveIdentity", value, forge_intel.signer_key);
}

void forge_intel_chain_file(struct forge_item *i, const char *role, const char *file, X509 *leaf, X509 *top)
{
    X509 *const both[] = {leaf, top};
    struct writer w = writer_with_max(16384);

    forge_pem(&w, both, 2);
    forge_file(i, role, file, writer_span(&w));
    writer_release(&w);
}

void forge_intel_crl_file(struct forge_item *i, const char *role, const char *file, struct forge_crl spec, bool of_root)
{
    spec.form = FORGE_ECDSA_256;
    spec.issuer = spec.issuer ? spec.issuer : of_root ? forge_intel.root : forge_intel.ca;
    spec.signer = spec.signer ? spec.signer : of_root ? forge_intel.root_key : forge_intel.ca_key;
    forge_file(i, role, file, forge_crl(&spec));
}

void forge_intel_collateral(struct forge_item *i, bool tdx)
{
    struct writer pem = writer_with_max(16384);

    forge_intel_response(i, "tcb_info", "tcb_info.json", "tcbInfo", forge_intel_info(tdx), forge_intel.signer_key);
    forge_intel_response(i, "qe_identity", "qe_identity.json", "enclaveIdentity", forge_intel_identity(tdx),
                         forge_intel.signer_key);
    forge_intel_chain_file(i, "tcb_info_chain", "chain.pem", forge_intel.signer, forge_intel.root);
    forge_intel_chain_file(i, "qe_identity_chain", "chain.pem", forge_intel.signer, forge_intel.root);
    forge_intel_crl_file(i, "root_ca_crl", "root_ca.crl", (struct forge_crl){.revoked = {7}}, true);
    forge_intel_crl_file(i, "pck_crl", "pck.crl", (struct forge_crl){.revoked = {8, 9}}, false);
    forge_pem(&pem, &forge_intel.root, 1);
    forge_file(i, "root", "root_ca.pem", writer_span(&pem));
    writer_release(&pem);
}
