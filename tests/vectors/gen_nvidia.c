/* Synthetic NVIDIA evidence: GPUs (Hopper, Blackwell) and a switch with their reference files, under test roots, and
 * one flaw for each reason. */
#include <stdio.h>

#include "vectors/forge_nvidia.h"
#include "verifier/spdm.h"

#define NOT_BLOCK 35 /* index of the measurement that counts only with the first decoder on */

static void pem_file(struct forge_item *i, const char *role, const char *name, X509 *const *x, size_t n)
{
    struct writer w = writer_with_max(32768);

    forge_pem(&w, x, n);
    forge_file(i, role, name, writer_span(&w));
    writer_release(&w);
}

static void report_file(struct forge_item *i, const char *role, const char *name, const struct forge_nv_device *d)
{
    struct writer w = writer_with_max(65536);

    forge_nv_report(&w, d);
    forge_file(i, role, name, writer_span(&w));
    writer_release(&w);
}

static void rim_file(struct forge_item *i, const char *role, const char *name, const struct forge_nv_rim *r)
{
    struct writer all = writer_with_max(262144);

    forge_nv_rim_write(&all, r);
    forge_file(i, role, name, writer_span(&all));
    writer_release(&all);
}

/* --- items -------------------------------------------------------------------------------------------------------- */

static json_t *used(struct forge_item *i, const char *name, const char *code, const char *role, const char *file)
{
    json_t *one = forge_case(i, name, code);

    forge_policy(one, "nonce", forge_hex(span_of(forge_nv.nonce, 32)));
    forge_use(one, role, file);
    return one;
}

static json_t *device_case(struct forge_item *i, const char *name, const char *code)
{
    json_t *one = forge_case(i, name, code);

    forge_policy(one, "nonce", forge_hex(span_of(forge_nv.nonce, 32)));
    return one;
}

static void use_rims(json_t *one, bool is_switch)
{
    json_object_set_new(one, "use_rims",
                        is_switch ? json_pack("[s]", "vbios_rim") : json_pack("[s, s]", "driver_rim", "vbios_rim"));
}

static void begin(struct forge_item *i, const char *top, const char *kind, const char *id,
                  const struct forge_nv_device *d, struct forge_nv_chain *c)
{
    bool is_switch = strcmp(d->unit, "FSP") == 0;
    struct forge_nv_rim driver, vbios = forge_nv_rim(is_switch ? d->vbios : "96.00.9F.00.01", d->chip, "0 2 4");
    json_t *one;

    forge_nv_chain_plan(c, d);
    forge_nv_chain_make(c);
    forge_open(i, top, kind, id,
               json_pack("{s:s, s:i, s:s, s:s, s:s}", "arch",
                         is_switch     ? "LS10"
                         : d->tcb_info ? "BLACKWELL"
                                       : "HOPPER",
                         "number_of_blocks", d->blocks, "vbios_version", vbios.version, "leaf_cn", c->name[0],
                         "hwmodel", c->name[1]));
    report_file(i, "report", "report.bin", d);
    pem_file(i, "cert_chain", "cert_chain.pem", c->x, 5);
    pem_file(i, "device_root", "device_root.pem", &forge_nv.device_root, 1);
    pem_file(i, "rim_root", "rim_root.pem", &forge_nv.rim_root, 1);
    if (!is_switch) {
        driver = forge_nv_rim(d->driver, d->chip, "1 3 35");
        rim_file(i, "driver_rim", "driver_rim.xml", &driver);
    }
    rim_file(i, "vbios_rim", "vbios_rim.xml", &vbios);
    one = device_case(i, "base", NULL);
    use_rims(one, is_switch);
}

/* --- flaws of devices -----------------------------------------------------------------------------------------------
 */

enum {
    BLOCK = 45,
    BLOCK_LEN = 7 + FORGE_NV_HASH,
    RECORD_END = BLOCK + FORGE_NV_BLOCKS * BLOCK_LEN,
    OPAQUE = RECORD_END + 32
};

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

static void report_case(struct forge_item *i, const char *name, const char *code, const struct forge_nv_device *d)
{
    char file[80];

    snprintf(file, sizeof file, "report_%s.bin", name);
    report_file(i, NULL, file, d);
    used(i, name, code, "report", file);
}

static void flawed_reports(struct forge_item *i, const struct forge_nv_device *good)
{
    struct forge_nv_device d = *good;
    json_t *one;

    d.signer = forge_nv.other_key;
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

static void chain_case(struct forge_item *i, const char *name, const char *code, struct forge_nv_chain *c)
{
    char file[80];

    forge_nv_chain_make(c);
    snprintf(file, sizeof file, "chain_%s.pem", name);
    pem_file(i, NULL, file, c->x, 5);
    used(i, name, code, "cert_chain", file);
}

static void flawed_chains(struct forge_item *i, const struct forge_nv_device *d)
{
    struct forge_nv_chain c;
    X509 *root = forge_nv.device_root;

    forge_nv_chain_plan(&c, d);
    c.spec[0].signer = forge_nv.other_key;
    chain_case(i, "leaf_signed_by_another_key", "chain_signature", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[1].ca = false;
    chain_case(i, "device_may_not_issue", "not_a_ca", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[2].room = 0;
    chain_case(i, "path_too_long", "not_a_ca", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[2].to = "2026-05-31T23:59:59Z";
    chain_case(i, "provisioner_expired", "cert_expired", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].extension_count = 0;
    chain_case(i, "leaf_without_firmware", "fwid_mismatch", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].extension[0].value[20] ^= 1; /* inside the hash's name */
    chain_case(i, "leaf_with_another_hash", "fwid_mismatch", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].serial_text = NULL;
    chain_case(i, "leaf_without_a_number", "parse", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].serial_text = "no number";
    chain_case(i, "leaf_number_not_hex", "parse", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].cn = "GH100 A01 FSP FMC LF";
    chain_case(i, "leaf_of_another_unit", "arch_mismatch", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].cn = "LS_10 A01 GSP FMC LF";
    chain_case(i, "leaf_of_another_chip", "arch_mismatch", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].cn = "GA100 A01 GSP FMC LF";
    c.spec[1].cn = "GA100 A01 GSP BROM";
    chain_case(i, "chip_unknown", "arch_mismatch", &c);
    forge_nv_chain_plan(&c, d);
    c.spec[0].key = forge_ec("a key on another curve", "P-256");
    chain_case(i, "leaf_on_p256", "unsupported_alg", &c);
    forge_nv.device_root = forge_nv_cert((struct forge_cert){
        .cn = "NVIDIA Device Identity CA", .key = forge_nv.other_key, .serial = 1, .ca = true, .room = -1});
    forge_nv_chain_plan(&c, d);
    c.spec[3].signer = forge_nv.other_key;
    chain_case(i, "root_of_the_same_name", "untrusted_root", &c);
    forge_nv.device_root = root;
    used(i, "four_certificates", "chain_length", "cert_chain", "first four certificates");
    used(i, "reversed", "untrusted_root", "cert_chain", "the five certificates in reverse order");
    forge_nv_chain_plan(&c, d);
    forge_nv_chain_make(&c);
    c.x[2] = c.x[1];
    pem_file(i, NULL, "chain_order.pem", c.x, 5);
    used(i, "certificate_repeated", "chain_issuer", "cert_chain", "chain_order.pem");
}

/* --- flaws of reference files
 * ------------------------------------------------------------------------------------------ */

/* The driver's file is another. */
static void rim_case(struct forge_item *i, const char *name, const char *code, const struct forge_nv_rim *r)
{
    char file[80];

    snprintf(file, sizeof file, "rim_%s.xml", name);
    rim_file(i, NULL, file, r);
    use_rims(used(i, name, code, "driver_rim", file), false);
}

static void flawed_comparison(struct forge_item *i, const struct forge_nv_rim *good)
{
    struct forge_nv_rim r = *good;
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

static void flawed_signatures(struct forge_item *i, const struct forge_nv_rim *good)
{
    struct forge_nv_rim r = *good;

    r.unsigned_ = true;
    rim_case(i, "not_signed", "rim_signature", &r);
    r = *good;
    r.signed_twice = true;
    rim_case(i, "signed_twice", "rim_signature", &r);
    r = *good;
    r.signer = forge_nv.other_key;
    rim_case(i, "file_signed_by_another_key", "rim_signature", &r);
    r = *good;
    r.wrong_digest = true;
    rim_case(i, "another_content", "rim_signature", &r);
    r = *good;
    r.uri = "#part";
    rim_case(i, "reference_to_a_part", "rim_signature", &r);
    r = *good;
    r.first = FORGE_NV_C14N;
    r.second = FORGE_NV_ENVELOPED;
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

static void flawed_signers(struct forge_item *i, const struct forge_nv_rim *good)
{
    struct forge_nv_rim r = *good;
    struct forge_cert old = {
        .cn = "HCC RIM L4 Signer", .key = forge_nv.rim_key, .signer = forge_nv.rim_l3_key, .issuer = forge_nv.rim_l3};

    r.chain[3] = forge_nv_cert((struct forge_cert){
        .cn = "NVIDIA CoRIM signing Root CA", .key = forge_nv.other_key, .serial = 1, .ca = true, .room = -1});
    rim_case(i, "rim_root_of_the_same_name", "rim_untrusted_root", &r);
    r = *good;
    r.chain[1] = forge_nv.rim_ca;
    r.chain[2] = forge_nv.rim_root;
    r.chain_count = 3;
    rim_case(i, "three_certificates", "rim_chain_length", &r);
    r = *good;
    r.chain[1] = forge_nv.rim_ca;
    r.chain[2] = forge_nv.rim_l3;
    rim_case(i, "certificates_in_another_order", "rim_chain_issuer", &r);
    old.to = "2026-05-31T23:59:59Z";
    r = *good;
    r.chain[0] = forge_nv_cert(old);
    rim_case(i, "signer_expired", "rim_cert_expired", &r);
    old.to = NULL;
    old.signer = forge_nv.other_key;
    r.chain[0] = forge_nv_cert(old);
    rim_case(i, "signer_not_certified", "rim_chain_signature", &r);
    old.signer = forge_nv.rim_l3_key;
    old.key = forge_ec("a RIM key on another curve", "P-256");
    r.chain[0] = forge_nv_cert(old);
    rim_case(i, "signer_on_p256", "rim_signature", &r);
}

#define RESOURCE(attributes) "<Payload><Resource " attributes "></Resource></Payload>"
#define ZERO24 "000000000000000000000000"
#define HASH0 " ns2:Hash0=\"" ZERO24 ZERO24 ZERO24 ZERO24 "\""

static void flawed_content(struct forge_item *i, const struct forge_nv_rim *good)
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
    struct forge_nv_rim r;

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
    struct forge_nv_device d = forge_nv_device("GB100"), flawed;
    uint8_t ids[40] = {0};
    struct forge_nv_chain c;
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

    d = forge_nv_device("LS_10");
    begin(&i, top, "nvswitch", "ls10", &d, &c);
    forge_policy(device_case(&i, "not_a_gpu", "arch_mismatch"), "kind", json_string("gpu"));
    forge_xor(device_case(&i, "measurement_changed", "bad_signature"), "report.bin", BLOCK + 7, "01");
    forge_close(&i);
}

static void make(const char *top)
{
    struct forge_nv_device d;
    struct forge_nv_chain c;
    struct forge_item i;
    struct forge_nv_rim rim;

    forge_nv_open(NULL);
    d = forge_nv_device("GH100");
    begin(&i, top, "nvgpu", "gh100", &d, &c);
    flawed_bytes(&i);
    flawed_reports(&i, &d);
    flawed_chains(&i, &d);
    rim = forge_nv_rim(d.driver, d.chip, "1 3 35");
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
