/* Synthetic NVIDIA evidence: GPUs (Hopper, Blackwell) and a switch with their reference files, under test roots, and
 * one flaw for each reason. */
#include <stdio.h>

#include "vectors/forge.h"
#include "verifier/spdm.h"

#define HASH_LEN 48
#define BLOCKS 40
#define NOT_BLOCK 35 /* index of the measurement that counts only with the first decoder on */

static EVP_PKEY *device_root_key, *identity_key, *ica_key, *brom_key, *leaf_key, *other_key;
static EVP_PKEY *rim_root_key, *rim_ca_key, *rim_l3_key, *rim_key;
static X509 *device_root, *rim_root, *rim_ca, *rim_l3, *rim_signer;
static uint8_t nonce[32];

static X509 *made(struct forge_cert spec)
{
    spec.form = spec.form ? spec.form : FORGE_ECDSA_384;
    return forge_x509(spec);
}

static void make_parties(void)
{
    device_root_key = forge_ec("NVIDIA device root", "P-384");
    identity_key = forge_ec("NVIDIA chip identity", "P-384");
    ica_key = forge_ec("NVIDIA provisioner", "P-384");
    brom_key = forge_ec("device", "P-384");
    leaf_key = forge_ec("firmware", "P-384");
    other_key = forge_ec("somebody else", "P-384");
    rim_root_key = forge_ec("NVIDIA RIM root", "P-384");
    rim_ca_key = forge_ec("NVIDIA RIM CA", "P-384");
    rim_l3_key = forge_ec("NVIDIA RIM L3", "P-384");
    rim_key = forge_ec("NVIDIA RIM signer", "P-384");
    forge_fill(nonce, sizeof nonce, "nonce");
    device_root = made((struct forge_cert){.cn = "NVIDIA Device Identity CA",
                                           .key = device_root_key,
                                           .serial = 1,
                                           .ca = true,
                                           .room = -1,
                                           .to = "9999-12-31T23:59:59Z"});
    rim_root = made((struct forge_cert){
        .cn = "NVIDIA CoRIM signing Root CA", .key = rim_root_key, .serial = 1, .ca = true, .room = -1});
    rim_ca = made((struct forge_cert){.cn = "NVIDIA Reference Value GH100 CA",
                                      .key = rim_ca_key,
                                      .signer = rim_root_key,
                                      .issuer = rim_root,
                                      .serial = 2,
                                      .ca = true,
                                      .room = 1});
    rim_l3 = made((struct forge_cert){.cn = "NVIDIA Reference Value L3 GH100 001",
                                      .key = rim_l3_key,
                                      .signer = rim_ca_key,
                                      .issuer = rim_ca,
                                      .serial = 3,
                                      .ca = true,
                                      .room = 0});
    rim_signer = made((struct forge_cert){.cn = "HCC RIM L4 Signer",
                                          .key = rim_key,
                                          .signer = rim_l3_key,
                                          .issuer = rim_l3,
                                          .serial = 4,
                                          .from = "2026-01-01T00:00:00Z",
                                          .to = "2028-01-01T00:00:00Z"});
}

/* --- devices -------------------------------------------------------------------------------------------------- */

struct device {
    const char *chip, *unit; /* "GH100"; "GSP", a switch's "FSP" */
    bool tcb_info;           /* the leaf says its FWID as Blackwell does */
    const char *driver, *vbios, *chip_info;
    uint8_t blocks;
    bool has_fwid;
    uint8_t nvdec;              /* 0: not reported */
    EVP_PKEY *signer;           /* of the report */
    uint8_t fwid[HASH_LEN];     /* of the report */
    struct span flag, switches; /* mode, and the switches that it sits behind or, of a switch, its own id */
    bool twice, no_text;        /* an opaque field stands twice; the driver's version is not text */
};

static struct device good_device(const char *chip)
{
    struct device d = {.chip = chip, .unit = "GSP", .driver = "570.10.01", .blocks = BLOCKS, .has_fwid = true};

    d.nvdec = 0x55;
    d.signer = leaf_key;
    d.tcb_info = strncmp(chip, "GB", 2) == 0;
    if (strcmp(chip, "LS_10") == 0) {
        d.unit = "FSP";
        d.driver = NULL;
        d.vbios = "96.10.55.00.01";
        d.has_fwid = false;
        d.nvdec = 0;
        d.blocks = 31;
        d.switches = span_of("\x43\x1d\x48\x0f\xe5\xe8\x72\x74", 8); /* as its serial number ends */
    }
    forge_fill(d.fwid, sizeof d.fwid, "FWID");
    return d;
}

static void measurement(uint8_t out[HASH_LEN], unsigned index)
{
    char label[32];

    snprintf(label, sizeof label, "measurement %u", index);
    forge_fill(out, HASH_LEN, label);
}

static void put_le(struct writer *w, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        writer_u8(w, (uint8_t)(v >> 8 * i));
}

static void put_field(struct writer *w, uint16_t type, const void *value, size_t len)
{
    put_le(w, type, 2);
    put_le(w, len, 2);
    writer_bytes(w, span_of(value, len));
}

static void put_opaque(struct writer *w, const struct device *d)
{
    if (d->vbios)
        put_field(w, VERIFIER_OPAQUE_VBIOS, d->vbios, strlen(d->vbios) + 1);
    else
        put_field(w, VERIFIER_OPAQUE_VBIOS, "\x00\x9f\x00\x96\x01\0\0", 8);
    if (d->driver) {
        put_field(w, VERIFIER_OPAQUE_DRIVER, d->no_text ? "\x01\x02" : d->driver,
                  d->no_text ? 2 : strlen(d->driver) + 1);
        put_field(w, VERIFIER_OPAQUE_PROJECT, "1010", 5);
        put_field(w, VERIFIER_OPAQUE_PROJECT_SKU, "0200", 5);
        put_field(w, VERIFIER_OPAQUE_CHIP_SKU, "882", 4);
        put_field(w, VERIFIER_OPAQUE_BOARD, "\xb1\x03\0\0", 4);
    }
    if (d->chip_info)
        put_field(w, VERIFIER_OPAQUE_CHIP_INFO, d->chip_info, strlen(d->chip_info));
    if (d->nvdec)
        put_field(w, VERIFIER_OPAQUE_NVDEC0, &d->nvdec, 1);
    if (d->has_fwid)
        put_field(w, VERIFIER_OPAQUE_FWID, d->fwid, sizeof d->fwid);
    if (d->flag.len > 0)
        put_field(w, VERIFIER_OPAQUE_FEATURE, d->flag.data, d->flag.len);
    if (d->switches.len > 0)
        put_field(w, VERIFIER_OPAQUE_SWITCH_PDI, d->switches.data, d->switches.len);
    if (d->twice)
        put_field(w, VERIFIER_OPAQUE_FWID, d->fwid, sizeof d->fwid);
}

static void put_report(struct writer *w, const struct device *d)
{
    struct writer opaque = writer_with_max(4096);
    uint8_t value[HASH_LEN], responder[32], rs[VERIFIER_SPDM_SIGNATURE];

    forge_fill(responder, sizeof responder, "responder nonce");
    writer_bytes(w, span_of("\x11\xe0\x01\xff", 4));
    writer_bytes(w, span_of(nonce, sizeof nonce));
    writer_u8(w, 0);
    writer_bytes(w, span_of("\x11\x60\0\0", 4));
    writer_u8(w, d->blocks);
    put_le(w, (uint64_t)d->blocks * (7 + HASH_LEN), 3);
    for (uint8_t i = 0; i < d->blocks; i++) {
        measurement(value, i);
        writer_u8(w, (uint8_t)(i + 1));
        writer_u8(w, 1);
        put_le(w, HASH_LEN + 3, 2);
        writer_u8(w, 1);
        put_le(w, HASH_LEN, 2);
        writer_bytes(w, span_of(value, sizeof value));
    }
    writer_bytes(w, span_of(responder, sizeof responder));
    put_opaque(&opaque, d);
    put_le(w, opaque.len, 2);
    writer_bytes(w, writer_span(&opaque));
    writer_release(&opaque);
    forge_ecdsa(d->signer, "report", writer_span(w), rs, sizeof rs);
    writer_bytes(w, span_of(rs, sizeof rs));
}

/* { OID sha384, digest } */
static size_t fwid_der(uint8_t *out)
{
    static const uint8_t head[] = {0x30, 0x3d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                   0x65, 0x03, 0x04, 0x02, 0x02, 0x04, 0x30};

    memcpy(out, head, sizeof head);
    forge_fill(out + sizeof head, HASH_LEN, "FWID");
    return sizeof head + HASH_LEN;
}

static struct forge_extension fwid_extension(bool tcb_info)
{
    struct forge_extension e = {.oid = tcb_info ? "2.23.133.5.4.1.1" : "2.23.133.5.4.1"};

    if (tcb_info) { /* { vendor [0], fwids [6] } */
        memcpy(e.value, "\x30\x43\x80\x00\xa6\x3f", 6);
        e.len = 6 + fwid_der(e.value + 6);
    } else { /* { version, public key, FWID } */
        memcpy(e.value, "\x30\x44\x02\x01\x01\x30\x00", 7);
        e.len = 7 + fwid_der(e.value + 7);
    }
    return e;
}

struct device_chain {
    char name[5][64];
    struct forge_cert spec[5]; /* leaf first */
    X509 *x[5];
};

static void plan_chain(struct device_chain *c, const struct device *d)
{
    EVP_PKEY *const keys[] = {leaf_key, brom_key, ica_key, identity_key};

    snprintf(c->name[0], 64, "%s A01 %s FMC LF", d->chip, d->unit);
    snprintf(c->name[1], 64, "%s A01 %s BROM", d->chip, d->unit);
    snprintf(c->name[2], 64, "NVIDIA %s Provisioner ICA 1", d->chip);
    snprintf(c->name[3], 64, "NVIDIA %s Identity", d->chip);
    for (int i = 0; i < 4; i++)
        c->spec[i] = (struct forge_cert){.cn = c->name[i],
                                         .key = keys[i],
                                         .signer = i < 3 ? keys[i + 1] : device_root_key,
                                         .form = FORGE_ECDSA_384,
                                         .serial = (unsigned long)(100 + i),
                                         .to = "9999-12-31T23:59:59Z",
                                         .ca = i > 0,
                                         .room = i - 1};
    c->spec[0].serial_text = "53C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F11";
    c->spec[1].serial_text = "41431D480FE5E87274";
    c->spec[0].extension[0] = fwid_extension(d->tcb_info);
    c->spec[0].extension_count = 1;
}

static void make_chain(struct device_chain *c)
{
    c->x[4] = device_root;
    for (int i = 3; i >= 0; i--) {
        c->spec[i].issuer = c->x[i + 1];
        c->x[i] = forge_x509(c->spec[i]);
    }
}

static void pem_file(struct forge_item *i, const char *role, const char *name, X509 *const *x, size_t n)
{
    struct writer w = writer_with_max(32768);

    forge_pem(&w, x, n);
    forge_file(i, role, name, writer_span(&w));
    writer_release(&w);
}

static void report_file(struct forge_item *i, const char *role, const char *name, const struct device *d)
{
    struct writer w = writer_with_max(65536);

    put_report(&w, d);
    forge_file(i, role, name, writer_span(&w));
    writer_release(&w);
}

/* --- reference files -------------------------------------------------------------------------------------------- */

#define ROOT_NAMESPACES                                                                                                \
    " xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\""                                                 \
    " xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" xmlns:ns2=\"http://www.w3.org/2001/04/xmlenc#sha384\""
#define C14N "http://www.w3.org/2006/12/xml-c14n11"
#define ENVELOPED "http://www.w3.org/2000/09/xmldsig#enveloped-signature"

/* Written in canonical form by hand, so that what is hashed is the text itself. */
struct rim {
    const char *version, *product;
    const char *active; /* indices, by blanks */
    X509 *chain[5];
    size_t chain_count;
    EVP_PKEY *signer;
    /* flaws; NULL or false: none */
    const char *uri, *first, *second, *digest, *method, *canon; /* in place of the right words */
    const char *prologue;                                       /* before the root element */
    const char *meta, *payload;                                 /* in place of the right elements */
    bool unsigned_, signed_twice, key_value, wrong_digest, more_payload;
};

static struct rim good_rim(const char *version, const char *product, const char *active)
{
    struct rim r = {.version = version, .product = product, .active = active, .signer = rim_key, .chain_count = 4};

    r.chain[0] = rim_signer;
    r.chain[1] = rim_l3;
    r.chain[2] = rim_ca;
    r.chain[3] = rim_root;
    return r;
}

static void put_resource(struct writer *w, unsigned index, bool active)
{
    static const char zero[] =
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    uint8_t value[HASH_LEN];

    measurement(value, index);
    writer_printf(w,
                  "<Resource active=\"%s\" alternatives=\"%d\" index=\"%u\" name=\"Measurement_%u\" size=\"48\""
                  " type=\"Measurement\" ns2:Hash0=\"%s\"",
                  active ? "True" : "False", active ? 2 : 1, index, index, zero);
    if (active) {
        writer_str(w, " ns2:Hash1=\"");
        for (size_t i = 0; i < sizeof value; i++)
            writer_printf(w, "%02x", value[i]);
        writer_str(w, "\"");
    }
    writer_str(w, "></Resource>\n");
}

static void put_content(struct writer *w, const struct rim *r)
{
    const char *at = r->active;
    char *end;

    writer_printf(w, "<SoftwareIdentity" ROOT_NAMESPACES " name=\"%s\" tagId=\"TEST-%s-%s\" version=\"1.0\">\n",
                  r->product, r->product, r->version);
    if (r->meta)
        writer_str(w, r->meta);
    else
        writer_printf(w, "<Meta colloquialVersion=\"%s\" edition=\"GPU\" product=\"%s\"></Meta>\n", r->version,
                      r->product);
    if (r->payload) {
        writer_str(w, r->payload);
    } else {
        writer_str(w, "<Payload>\n");
        put_resource(w, 30, false);
        for (unsigned long v = strtoul(at, &end, 10); end != at; v = strtoul(at, &end, 10)) {
            put_resource(w, (unsigned)v, true);
            at = end;
        }
        writer_str(w, "</Payload>\n");
    }
    if (r->more_payload)
        writer_str(w, "<Payload></Payload>\n");
}

static void put_base64(struct writer *w, struct span s)
{
    uint8_t text[4096];

    FORGE(s.len < sizeof text / 4 * 3);
    EVP_EncodeBlock(text, s.data, (int)s.len);
    writer_str(w, (const char *)text);
}

static const char *word(const char *flaw, const char *right)
{
    return flaw ? flaw : right;
}

/* SignedInfo as it stands in the file (`canonical` false) or as it is signed. */
static void put_info(struct writer *w, const struct rim *r, const uint8_t digest[HASH_LEN], bool canonical)
{
    writer_printf(w, "<ds:SignedInfo%s>", canonical ? ROOT_NAMESPACES : "");
    writer_printf(w, "<ds:CanonicalizationMethod Algorithm=\"%s\"></ds:CanonicalizationMethod>", word(r->canon, C14N));
    writer_printf(w, "<ds:SignatureMethod Algorithm=\"%s\"></ds:SignatureMethod>",
                  word(r->method, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"));
    writer_printf(w, "<ds:Reference URI=\"%s\"><ds:Transforms>", word(r->uri, ""));
    writer_printf(w, "<ds:Transform Algorithm=\"%s\"></ds:Transform>", word(r->first, ENVELOPED));
    writer_printf(w, "<ds:Transform Algorithm=\"%s\"></ds:Transform></ds:Transforms>", word(r->second, C14N));
    writer_printf(w, "<ds:DigestMethod Algorithm=\"%s\"></ds:DigestMethod><ds:DigestValue>",
                  word(r->digest, "http://www.w3.org/2001/04/xmldsig-more#sha384"));
    put_base64(w, span_of(digest, HASH_LEN));
    writer_str(w, "</ds:DigestValue></ds:Reference></ds:SignedInfo>");
}

static void put_signature(struct writer *w, const struct rim *r, struct span content)
{
    struct writer info = writer_with_max(65536);
    uint8_t digest[HASH_LEN], rs[96];

    FORGE(EVP_Digest(content.data, content.len, digest, NULL, EVP_sha384(), NULL) == 1);
    digest[0] ^= r->wrong_digest;
    put_info(&info, r, digest, true);
    forge_ecdsa(r->signer, "reference file", writer_span(&info), rs, sizeof rs);
    writer_str(w, "<ds:Signature>");
    put_info(w, r, digest, false);
    writer_str(w, "<ds:SignatureValue>");
    put_base64(w, span_of(rs, sizeof rs));
    writer_str(w, "</ds:SignatureValue><ds:KeyInfo>");
    if (r->key_value)
        writer_str(w, "<ds:KeyValue></ds:KeyValue>");
    writer_str(w, "<ds:X509Data>");
    for (size_t i = 0; i < r->chain_count; i++) {
        writer_str(w, "<ds:X509Certificate>");
        put_base64(w, forge_der(r->chain[i]));
        writer_str(w, "</ds:X509Certificate>");
    }
    writer_str(w, "</ds:X509Data></ds:KeyInfo></ds:Signature>");
    writer_release(&info);
}

static void rim_file(struct forge_item *i, const char *role, const char *name, const struct rim *r)
{
    struct writer content = writer_with_max(65536), all = writer_with_max(262144);
    size_t head;

    put_content(&content, r);
    head = content.len;
    writer_str(&content, "</SoftwareIdentity>");
    if (r->prologue)
        writer_str(&all, r->prologue);
    writer_bytes(&all, span_of(content.data, head));
    if (!r->unsigned_)
        put_signature(&all, r, writer_span(&content));
    if (r->signed_twice)
        put_signature(&all, r, writer_span(&content));
    writer_str(&all, "</SoftwareIdentity>\n");
    FORGE(writer_ok(&all));
    forge_file(i, role, name, writer_span(&all));
    writer_release(&content);
    writer_release(&all);
}

/* --- items -------------------------------------------------------------------------------------------------------- */

static json_t *used(struct forge_item *i, const char *name, const char *code, const char *role, const char *file)
{
    json_t *one = forge_case(i, name, code);

    forge_policy(one, "nonce", forge_hex(span_of(nonce, 32)));
    forge_use(one, role, file);
    return one;
}

static json_t *device_case(struct forge_item *i, const char *name, const char *code)
{
    json_t *one = forge_case(i, name, code);

    forge_policy(one, "nonce", forge_hex(span_of(nonce, 32)));
    return one;
}

static void use_rims(json_t *one, bool is_switch)
{
    json_object_set_new(one, "use_rims",
                        is_switch ? json_pack("[s]", "vbios_rim") : json_pack("[s, s]", "driver_rim", "vbios_rim"));
}

static void begin(struct forge_item *i, const char *top, const char *kind, const char *id, const struct device *d,
                  struct device_chain *c)
{
    bool is_switch = strcmp(d->unit, "FSP") == 0;
    struct rim driver, vbios = good_rim(is_switch ? d->vbios : "96.00.9F.00.01", d->chip, "0 2 4");
    json_t *one;

    plan_chain(c, d);
    make_chain(c);
    forge_open(i, top, kind, id,
               json_pack("{s:s, s:i, s:s, s:s, s:s}", "arch",
                         is_switch     ? "LS10"
                         : d->tcb_info ? "BLACKWELL"
                                       : "HOPPER",
                         "number_of_blocks", d->blocks, "vbios_version", vbios.version, "leaf_cn", c->name[0],
                         "hwmodel", c->name[1]));
    report_file(i, "report", "report.bin", d);
    pem_file(i, "cert_chain", "cert_chain.pem", c->x, 5);
    pem_file(i, "device_root", "device_root.pem", &device_root, 1);
    pem_file(i, "rim_root", "rim_root.pem", &rim_root, 1);
    if (!is_switch) {
        driver = good_rim(d->driver, d->chip, "1 3 35");
        rim_file(i, "driver_rim", "driver_rim.xml", &driver);
    }
    rim_file(i, "vbios_rim", "vbios_rim.xml", &vbios);
    one = device_case(i, "base", NULL);
    use_rims(one, is_switch);
}

/* --- flaws of devices -----------------------------------------------------------------------------------------------
 */

enum { BLOCK = 45, BLOCK_LEN = 7 + HASH_LEN, RECORD_END = BLOCK + BLOCKS * BLOCK_LEN, OPAQUE = RECORD_END + 32 };

static void flawed_bytes(struct forge_item *i)
{
    static const size_t cuts[] = {0, 36, 40, 44, 60, RECORD_END, OPAQUE + 1, OPAQUE + 20};
    static const struct {
        const char *name;
        size_t at;
        const char *hex;
    } parse[] = {{"request_version", 0, "10"},
                 {"request_code", 1, "e1"},
                 {"no_signature_asked", 2, "00"},
                 {"not_all_asked", 3, "01"},
                 {"response_version", 37, "12"},
                 {"response_code", 38, "7f"},
                 {"no_blocks", 41, "00"},
                 {"record_too_long", 42, "ffffff"},
                 {"index_0", BLOCK, "00"},
                 {"index_twice", BLOCK + BLOCK_LEN, "01"},
                 {"not_dmtf", BLOCK + 1, "02"},
                 {"block_size", BLOCK + 2, "ff"},
                 {"opaque_too_long", OPAQUE, "ffff"}};

    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        char name[32];
        snprintf(name, sizeof name, "cut_at_%zu", cuts[k]);
        forge_truncate(device_case(i, name, "parse"), "report.bin", cuts[k]);
    }
    for (size_t k = 0; k < sizeof parse / sizeof *parse; k++)
        forge_set(device_case(i, parse[k].name, "parse"), "report.bin", parse[k].at, parse[k].hex);
    forge_append(device_case(i, "a_byte_after_the_end", "trailing_data"), "report.bin", "00");
    forge_xor(device_case(i, "measurement_changed", "bad_signature"), "report.bin", BLOCK + 7, "01");
    forge_xor(device_case(i, "request_is_signed", "bad_signature"), "report.bin", 4, "01");
    forge_xor(device_case(i, "driver_changed", "bad_signature"), "report.bin", OPAQUE + 2 + 4 + 8 + 4, "01");
}

static void report_case(struct forge_item *i, const char *name, const char *code, const struct device *d)
{
    char file[80];

    snprintf(file, sizeof file, "report_%s.bin", name);
    report_file(i, NULL, file, d);
    used(i, name, code, "report", file);
}

static void flawed_reports(struct forge_item *i, const struct device *good)
{
    struct device d = *good;
    json_t *one;

    d.signer = other_key;
    report_case(i, "signed_by_another_key", "bad_signature", &d);
    d = *good;
    d.fwid[0] ^= 1;
    report_case(i, "another_firmware", "fwid_mismatch", &d);
    d = *good;
    d.has_fwid = false;
    report_case(i, "firmware_not_named", "fwid_mismatch", &d);
    d.driver = "545.10.01";
    report_case(i, "firmware_not_named_by_an_old_driver", NULL, &d);
    d = *good;
    d.twice = true;
    report_case(i, "opaque_field_twice", "parse", &d);
    d = *good;
    d.no_text = true;
    report_case(i, "driver_not_text", "parse", &d);
    d = *good;
    d.nvdec = 0x12;
    report_case(i, "decoder_status_unknown", NULL, &d); /* matters to the comparison only */
    one = used(i, "decoder_status_unknown_compared", "measurement_mismatch", "report",
               "report_decoder_status_unknown.bin");
    use_rims(one, false);
    one = device_case(i, "another_nonce", "nonce_mismatch");
    forge_policy(one, "nonce", json_string("00000000000000000000000000000000000000000000000000000000000000ff"));
    one = device_case(i, "another_architecture", "arch_mismatch");
    forge_policy(one, "arch", json_string("BLACKWELL"));
    one = device_case(i, "not_a_switch", "arch_mismatch");
    forge_policy(one, "kind", json_string("switch"));
    one = device_case(i, "driver_not_allowed", "driver_not_allowed");
    forge_policy(one, "driver_allow", json_pack("[s]", "999.99"));
    one = device_case(i, "vbios_not_allowed", "vbios_not_allowed");
    forge_policy(one, "vbios_allow", json_pack("[s]", "00.00.00.00.00"));
}

static void chain_case(struct forge_item *i, const char *name, const char *code, struct device_chain *c)
{
    char file[80];

    make_chain(c);
    snprintf(file, sizeof file, "chain_%s.pem", name);
    pem_file(i, NULL, file, c->x, 5);
    used(i, name, code, "cert_chain", file);
}

static void flawed_chains(struct forge_item *i, const struct device *d)
{
    struct device_chain c;
    X509 *root = device_root;

    plan_chain(&c, d);
    c.spec[0].signer = other_key;
    chain_case(i, "leaf_signed_by_another_key", "chain_signature", &c);
    plan_chain(&c, d);
    c.spec[1].ca = false;
    chain_case(i, "device_may_not_issue", "not_a_ca", &c);
    plan_chain(&c, d);
    c.spec[2].room = 0;
    chain_case(i, "path_too_long", "not_a_ca", &c);
    plan_chain(&c, d);
    c.spec[2].to = "2026-05-31T23:59:59Z";
    chain_case(i, "provisioner_expired", "cert_expired", &c);
    plan_chain(&c, d);
    c.spec[0].extension_count = 0;
    chain_case(i, "leaf_without_firmware", "fwid_mismatch", &c);
    plan_chain(&c, d);
    c.spec[0].extension[0].value[20] ^= 1; /* inside the hash's name */
    chain_case(i, "leaf_with_another_hash", "fwid_mismatch", &c);
    plan_chain(&c, d);
    c.spec[0].serial_text = NULL;
    chain_case(i, "leaf_without_a_number", "parse", &c);
    plan_chain(&c, d);
    c.spec[0].serial_text = "no number";
    chain_case(i, "leaf_number_not_hex", "parse", &c);
    plan_chain(&c, d);
    c.spec[0].cn = "GH100 A01 FSP FMC LF";
    chain_case(i, "leaf_of_another_unit", "arch_mismatch", &c);
    plan_chain(&c, d);
    c.spec[0].cn = "LS_10 A01 GSP FMC LF";
    chain_case(i, "leaf_of_another_chip", "arch_mismatch", &c);
    plan_chain(&c, d);
    c.spec[0].cn = "GA100 A01 GSP FMC LF";
    c.spec[1].cn = "GA100 A01 GSP BROM";
    chain_case(i, "chip_unknown", "arch_mismatch", &c);
    plan_chain(&c, d);
    c.spec[0].key = forge_ec("a key on another curve", "P-256");
    chain_case(i, "leaf_on_p256", "unsupported_alg", &c);
    device_root = made(
        (struct forge_cert){.cn = "NVIDIA Device Identity CA", .key = other_key, .serial = 1, .ca = true, .room = -1});
    plan_chain(&c, d);
    c.spec[3].signer = other_key;
    chain_case(i, "root_of_the_same_name", "untrusted_root", &c);
    device_root = root;
    used(i, "four_certificates", "chain_length", "cert_chain", "first four certificates");
    used(i, "reversed", "untrusted_root", "cert_chain", "the five certificates in reverse order");
    plan_chain(&c, d);
    make_chain(&c);
    c.x[2] = c.x[1];
    pem_file(i, NULL, "chain_order.pem", c.x, 5);
    used(i, "certificate_repeated", "chain_issuer", "cert_chain", "chain_order.pem");
}

/* --- flaws of reference files
 * ------------------------------------------------------------------------------------------ */

/* The driver's file is another. */
static void rim_case(struct forge_item *i, const char *name, const char *code, const struct rim *r)
{
    char file[80];

    snprintf(file, sizeof file, "rim_%s.xml", name);
    rim_file(i, NULL, file, r);
    use_rims(used(i, name, code, "driver_rim", file), false);
}

static void flawed_comparison(struct forge_item *i, const struct rim *good)
{
    struct rim r = *good;
    json_t *one;

    r.version = "570.10.02";
    rim_case(i, "file_of_another_version", "rim_version_mismatch", &r);
    r = *good;
    r.active = "1 2";
    rim_case(i, "one_index_in_both_files", "rim_index_conflict", &r);
    r.active = "1 60";
    rim_case(i, "index_that_is_not_measured", "measurement_mismatch", &r);
    r = *good;
    r.payload =
        "<Payload><Resource active=\"True\" alternatives=\"1\" index=\"1\" size=\"48\" type=\"Measurement\" "
        "ns2:Hash0=\"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000\"></Resource></Payload>";
    rim_case(i, "another_measurement", "measurement_mismatch", &r);
    one = device_case(i, "files_swapped", "rim_version_mismatch");
    forge_use(one, "driver_rim", "vbios_rim.xml");
    use_rims(one, false);
}

static void flawed_signatures(struct forge_item *i, const struct rim *good)
{
    struct rim r = *good;

    r.unsigned_ = true;
    rim_case(i, "not_signed", "rim_signature", &r);
    r = *good;
    r.signed_twice = true;
    rim_case(i, "signed_twice", "rim_signature", &r);
    r = *good;
    r.signer = other_key;
    rim_case(i, "file_signed_by_another_key", "rim_signature", &r);
    r = *good;
    r.wrong_digest = true;
    rim_case(i, "another_content", "rim_signature", &r);
    r = *good;
    r.uri = "#part";
    rim_case(i, "reference_to_a_part", "rim_signature", &r);
    r = *good;
    r.first = C14N;
    r.second = ENVELOPED;
    rim_case(i, "transforms_swapped", "rim_signature", &r);
    r = *good;
    r.second = "http://www.w3.org/TR/1999/REC-xpath-19991116";
    rim_case(i, "transform_by_xpath", "rim_signature", &r);
    r = *good;
    r.digest = "http://www.w3.org/2001/04/xmlenc#sha256";
    rim_case(i, "digest_method", "rim_signature", &r);
    r = *good;
    r.method = "http://www.w3.org/2000/09/xmldsig#hmac-sha1";
    rim_case(i, "signature_method", "rim_signature", &r);
    r = *good;
    r.canon = "http://www.w3.org/2001/10/xml-exc-c14n#";
    rim_case(i, "canonical_form", "rim_signature", &r);
    r = *good;
    r.key_value = true;
    rim_case(i, "key_beside_the_certificates", "rim_signature", &r);
    r = *good;
    r.chain_count = 0;
    rim_case(i, "no_certificate", "rim_signature", &r);
}

static void flawed_signers(struct forge_item *i, const struct rim *good)
{
    struct rim r = *good;
    struct forge_cert old = {.cn = "HCC RIM L4 Signer", .key = rim_key, .signer = rim_l3_key, .issuer = rim_l3};

    r.chain[3] = made((struct forge_cert){
        .cn = "NVIDIA CoRIM signing Root CA", .key = other_key, .serial = 1, .ca = true, .room = -1});
    rim_case(i, "rim_root_of_the_same_name", "rim_untrusted_root", &r);
    r = *good;
    r.chain[1] = rim_ca;
    r.chain[2] = rim_root;
    r.chain_count = 3;
    rim_case(i, "three_certificates", "rim_chain_length", &r);
    r = *good;
    r.chain[1] = rim_ca;
    r.chain[2] = rim_l3;
    rim_case(i, "certificates_in_another_order", "rim_chain_issuer", &r);
    old.to = "2026-05-31T23:59:59Z";
    r = *good;
    r.chain[0] = made(old);
    rim_case(i, "signer_expired", "rim_cert_expired", &r);
    old.to = NULL;
    old.signer = other_key;
    r.chain[0] = made(old);
    rim_case(i, "signer_not_certified", "rim_chain_signature", &r);
    old.signer = rim_l3_key;
    old.key = forge_ec("a RIM key on another curve", "P-256");
    r.chain[0] = made(old);
    rim_case(i, "signer_on_p256", "rim_signature", &r);
}

#define RESOURCE(attributes) "<Payload><Resource " attributes "></Resource></Payload>"
#define ZERO24 "000000000000000000000000"
#define HASH0 " ns2:Hash0=\"" ZERO24 ZERO24 ZERO24 ZERO24 "\""

static void flawed_content(struct forge_item *i, const struct rim *good)
{
    static const struct {
        const char *name, *meta, *payload;
    } flaws[] = {
        {"no_meta", "", NULL},
        {"meta_twice",
         "<Meta colloquialVersion=\"570.10.01\" product=\"GH100\"></Meta>"
         "<Meta colloquialVersion=\"570.10.02\" product=\"GH100\"></Meta>",
         NULL},
        {"no_version", "<Meta product=\"GH100\"></Meta>", NULL},
        {"version_with_a_blank", "<Meta colloquialVersion=\"570 10\" product=\"GH100\"></Meta>", NULL},
        {"no_product", "<Meta colloquialVersion=\"570.10.01\"></Meta>", NULL},
        {"nothing_measured", NULL, "<Payload></Payload>"},
        {"no_payload", NULL, "<Other></Other>"},
        {"active_perhaps", NULL,
         RESOURCE("active=\"maybe\" alternatives=\"1\" index=\"1\" size=\"48\" type=\"Measurement\"" HASH0)},
        {"index_not_a_number", NULL,
         RESOURCE("active=\"True\" alternatives=\"1\" index=\"x\" size=\"48\" type=\"Measurement\"" HASH0)},
        {"index_too_high", NULL,
         RESOURCE("active=\"True\" alternatives=\"1\" index=\"255\" size=\"48\" type=\"Measurement\"" HASH0)},
        {"another_size", NULL,
         RESOURCE("active=\"True\" alternatives=\"1\" index=\"1\" size=\"32\" type=\"Measurement\"" HASH0)},
        {"no_alternative", NULL,
         RESOURCE("active=\"True\" alternatives=\"0\" index=\"1\" size=\"48\" type=\"Measurement\"" HASH0)},
        {"alternative_missing", NULL,
         RESOURCE("active=\"True\" alternatives=\"2\" index=\"1\" size=\"48\" type=\"Measurement\"" HASH0)},
        {"hash_not_hex", NULL,
         RESOURCE(
             "active=\"True\" alternatives=\"1\" index=\"1\" size=\"48\" type=\"Measurement\" ns2:Hash0=\"zz" ZERO24
                 ZERO24 ZERO24 "0000000000000000000000\"")},
    };
    struct rim r;

    for (size_t k = 0; k < sizeof flaws / sizeof *flaws; k++) {
        r = *good;
        r.meta = flaws[k].meta;
        r.payload = flaws[k].payload;
        rim_case(i, flaws[k].name, "rim_parse", &r);
    }
    r = *good;
    r.active = "1 1";
    rim_case(i, "index_twice_in_one_file", "rim_parse", &r);
    r = *good;
    r.more_payload = true;
    rim_case(i, "payload_twice", "rim_parse", &r);
    r = *good;
    r.prologue = "<!DOCTYPE SoftwareIdentity [<!ENTITY x \"y\">]>\n";
    rim_case(i, "document_type", "rim_parse", &r);
    r.prologue = "<?xml version=\"1.0\"?>\n<?xml-stylesheet href=\"x\"?>\n";
    rim_case(i, "processing_instruction", "rim_parse", &r);
    r.prologue = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    rim_case(i, "xml_declaration", NULL, &r);
    use_rims(used(i, "empty_file", "rim_parse", "driver_rim", "an empty file"), false);
    r.prologue = "<Envelope>";
    rim_case(i, "not_well_formed", "rim_parse", &r);
}

/* --- all of it
 * ----------------------------------------------------------------------------------------------------------- */

static void make_other_devices(const char *top)
{
    struct device d = good_device("GB100"), flawed;
    uint8_t ids[40] = {0};
    struct device_chain c;
    struct forge_item i;

    d.chip_info = "GB100";
    d.nvdec = 0xaa;
    for (uint8_t k = 0; k < 4; k++)
        ids[8 * k] = (uint8_t)(k + 1);
    ids[32] = 4; /* two links to one switch */
    d.switches = span_of(ids, sizeof ids);
    d.flag = span_of("\2\0", 2); /* protected PCIe */
    begin(&i, top, "nvgpu", "gb100", &d, &c);
    json_object_set_new(json_object_get(i.doc, "fields"), "feature_flag", json_string("0200"));
    flawed = d;
    flawed.switches.len = 39;
    report_case(&i, "half_a_switch", "parse", &flawed);
    flawed = d;
    flawed.flag = span_of("\3\0", 2);
    report_case(&i, "mode_unknown", "parse", &flawed);
    flawed.flag.len = 1;
    report_case(&i, "mode_of_one_byte", "parse", &flawed);
    c.spec[0].extension[0].value[4] = 0xa5;
    chain_case(&i, "leaf_without_firmware", "fwid_mismatch", &c);
    forge_close(&i);

    d = good_device("LS_10");
    begin(&i, top, "nvswitch", "ls10", &d, &c);
    forge_policy(device_case(&i, "not_a_gpu", "arch_mismatch"), "kind", json_string("gpu"));
    forge_xor(device_case(&i, "measurement_changed", "bad_signature"), "report.bin", BLOCK + 7, "01");
    forge_close(&i);
}

static void make(const char *top)
{
    struct device d;
    struct device_chain c;
    struct forge_item i;
    struct rim rim;

    make_parties();
    d = good_device("GH100");
    begin(&i, top, "nvgpu", "gh100", &d, &c);
    flawed_bytes(&i);
    flawed_reports(&i, &d);
    flawed_chains(&i, &d);
    rim = good_rim(d.driver, d.chip, "1 3 35");
    flawed_comparison(&i, &rim);
    flawed_signatures(&i, &rim);
    flawed_signers(&i, &rim);
    flawed_content(&i, &rim);
    forge_close(&i);
    make_other_devices(top);
}

int main(int argc, char **argv)
{
    return forge_main(argc, argv, make);
}
