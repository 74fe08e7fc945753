#include "vectors/forge_nvidia.h"

#include <stdio.h>

#include "verifier/spdm.h"

struct forge_nv forge_nv;

X509 *forge_nv_cert(struct forge_cert spec)
{
    spec.form = spec.form ? spec.form : FORGE_ECDSA_384;
    return forge_x509(spec);
}

void forge_nv_open(const char *until)
{
    forge_nv.device_root_key = forge_ec("NVIDIA device root", "P-384");
    forge_nv.identity_key = forge_ec("NVIDIA chip identity", "P-384");
    forge_nv.ica_key = forge_ec("NVIDIA provisioner", "P-384");
    forge_nv.brom_key = forge_ec("device", "P-384");
    forge_nv.leaf_key = forge_ec("firmware", "P-384");
    forge_nv.other_key = forge_ec("somebody else", "P-384");
    forge_nv.rim_root_key = forge_ec("NVIDIA RIM root", "P-384");
    forge_nv.rim_ca_key = forge_ec("NVIDIA RIM CA", "P-384");
    forge_nv.rim_l3_key = forge_ec("NVIDIA RIM L3", "P-384");
    forge_nv.rim_key = forge_ec("NVIDIA RIM signer", "P-384");
    forge_fill(forge_nv.nonce, sizeof forge_nv.nonce, "nonce");
    forge_nv.device_root = forge_nv_cert((struct forge_cert){.cn = "NVIDIA Device Identity CA",
                                                             .key = forge_nv.device_root_key,
                                                             .serial = 1,
                                                             .ca = true,
                                                             .room = -1,
                                                             .to = "9999-12-31T23:59:59Z"});
    forge_nv.rim_root = forge_nv_cert((struct forge_cert){.cn = "NVIDIA CoRIM signing Root CA",
                                                          .key = forge_nv.rim_root_key,
                                                          .serial = 1,
                                                          .ca = true,
                                                          .room = -1,
                                                          .to = until});
    forge_nv.rim_ca = forge_nv_cert((struct forge_cert){.cn = "NVIDIA Reference Value GH100 CA",
                                                        .key = forge_nv.rim_ca_key,
                                                        .signer = forge_nv.rim_root_key,
                                                        .issuer = forge_nv.rim_root,
                                                        .serial = 2,
                                                        .ca = true,
                                                        .room = 1,
                                                        .to = until});
    forge_nv.rim_l3 = forge_nv_cert((struct forge_cert){.cn = "NVIDIA Reference Value L3 GH100 001",
                                                        .key = forge_nv.rim_l3_key,
                                                        .signer = forge_nv.rim_ca_key,
                                                        .issuer = forge_nv.rim_ca,
                                                        .serial = 3,
                                                        .ca = true,
                                                        .room = 0,
                                                        .to = until});
    forge_nv.rim_signer = forge_nv_cert((struct forge_cert){.cn = "HCC RIM L4 Signer",
                                                            .key = forge_nv.rim_key,
                                                            .signer = forge_nv.rim_l3_key,
                                                            .issuer = forge_nv.rim_l3,
                                                            .serial = 4,
                                                            .from = "2026-01-01T00:00:00Z",
                                                            .to = until ? until : "2028-01-01T00:00:00Z"});
}

/* --- devices -------------------------------------------------------------------------------------------------- */

struct forge_nv_device forge_nv_device(const char *chip)
{
    struct forge_nv_device d = {
        .chip = chip, .unit = "GSP", .driver = "570.10.01", .blocks = FORGE_NV_BLOCKS, .has_fwid = true};

    d.nvdec = 0x55;
    d.signer = forge_nv.leaf_key;
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

static void measurement(uint8_t out[FORGE_NV_HASH], unsigned index)
{
    char label[32];

    snprintf(label, sizeof label, "measurement %u", index);
    forge_fill(out, FORGE_NV_HASH, label);
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

static void put_opaque(struct writer *w, const struct forge_nv_device *d)
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

void forge_nv_report(struct writer *w, const struct forge_nv_device *d)
{
    struct writer opaque = writer_with_max(4096);
    uint8_t value[FORGE_NV_HASH], responder[32], rs[VERIFIER_SPDM_SIGNATURE];

    forge_fill(responder, sizeof responder, "responder nonce");
    writer_bytes(w, span_of("\x11\xe0\x01\xff", 4));
    writer_bytes(w, span_of(forge_nv.nonce, sizeof forge_nv.nonce));
    writer_u8(w, 0);
    writer_bytes(w, span_of("\x11\x60\0\0", 4));
    writer_u8(w, d->blocks);
    put_le(w, (uint64_t)d->blocks * (7 + FORGE_NV_HASH), 3);
    for (uint8_t i = 0; i < d->blocks; i++) {
        measurement(value, i);
        writer_u8(w, (uint8_t)(i + 1));
        writer_u8(w, 1);
        put_le(w, FORGE_NV_HASH + 3, 2);
        writer_u8(w, 1);
        put_le(w, FORGE_NV_HASH, 2);
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
    forge_fill(out + sizeof head, FORGE_NV_HASH, "FWID");
    return sizeof head + FORGE_NV_HASH;
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

void forge_nv_chain_plan(struct forge_nv_chain *c, const struct forge_nv_device *d)
{
    EVP_PKEY *const keys[] = {forge_nv.leaf_key, forge_nv.brom_key, forge_nv.ica_key, forge_nv.identity_key};

    snprintf(c->name[0], 64, "%s A01 %s FMC LF", d->chip, d->unit);
    snprintf(c->name[1], 64, "%s A01 %s BROM", d->chip, d->unit);
    snprintf(c->name[2], 64, "NVIDIA %s Provisioner ICA 1", d->chip);
    snprintf(c->name[3], 64, "NVIDIA %s Identity", d->chip);
    for (int i = 0; i < 4; i++)
        c->spec[i] = (struct forge_cert){.cn = c->name[i],
                                         .key = keys[i],
                                         .signer = i < 3 ? keys[i + 1] : forge_nv.device_root_key,
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

void forge_nv_chain_make(struct forge_nv_chain *c)
{
    c->x[4] = forge_nv.device_root;
    for (int i = 3; i >= 0; i--) {
        c->spec[i].issuer = c->x[i + 1];
        c->x[i] = forge_x509(c->spec[i]);
    }
}

/* --- reference files -------------------------------------------------------------------------------------------- */

#define ROOT_NAMESPACES                                                                                                \
    " xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\""                                                 \
    " xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" xmlns:ns2=\"http://www.w3.org/2001/04/xmlenc#sha384\""

struct forge_nv_rim forge_nv_rim(const char *version, const char *product, const char *active)
{
    struct forge_nv_rim r = {
        .version = version, .product = product, .active = active, .signer = forge_nv.rim_key, .chain_count = 4};

    r.chain[0] = forge_nv.rim_signer;
    r.chain[1] = forge_nv.rim_l3;
    r.chain[2] = forge_nv.rim_ca;
    r.chain[3] = forge_nv.rim_root;
    return r;
}

static void put_resource(struct writer *w, unsigned index, bool active)
{
    static const char zero[] =
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    uint8_t value[FORGE_NV_HASH];

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

static void put_content(struct writer *w, const struct forge_nv_rim *r)
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
static void put_info(struct writer *w, const struct forge_nv_rim *r, const uint8_t digest[FORGE_NV_HASH],
                     bool canonical)
{
    writer_printf(w, "<ds:SignedInfo%s>", canonical ? ROOT_NAMESPACES : "");
    writer_printf(w, "<ds:CanonicalizationMethod Algorithm=\"%s\"></ds:CanonicalizationMethod>",
                  word(r->canon, FORGE_NV_C14N));
    writer_printf(w, "<ds:SignatureMethod Algorithm=\"%s\"></ds:SignatureMethod>",
                  word(r->method, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"));
    writer_printf(w, "<ds:Reference URI=\"%s\"><ds:Transforms>", word(r->uri, ""));
    writer_printf(w, "<ds:Transform Algorithm=\"%s\"></ds:Transform>", word(r->first, FORGE_NV_ENVELOPED));
    writer_printf(w, "<ds:Transform Algorithm=\"%s\"></ds:Transform></ds:Transforms>", word(r->second, FORGE_NV_C14N));
    writer_printf(w, "<ds:DigestMethod Algorithm=\"%s\"></ds:DigestMethod><ds:DigestValue>",
                  word(r->digest, "http://www.w3.org/2001/04/xmldsig-more#sha384"));
    put_base64(w, span_of(digest, FORGE_NV_HASH));
    writer_str(w, "</ds:DigestValue></ds:Reference></ds:SignedInfo>");
}

static void put_signature(struct writer *w, const struct forge_nv_rim *r, struct span content)
{
    struct writer info = writer_with_max(65536);
    uint8_t digest[FORGE_NV_HASH], rs[96];

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

void forge_nv_rim_write(struct writer *w, const struct forge_nv_rim *r)
{
    struct writer content = writer_with_max(65536);
    size_t head;

    put_content(&content, r);
    head = content.len;
    writer_str(&content, "</SoftwareIdentity>");
    if (r->prologue)
        writer_str(w, r->prologue);
    writer_bytes(w, span_of(content.data, head));
    if (!r->unsigned_)
        put_signature(w, r, writer_span(&content));
    if (r->signed_twice)
        put_signature(w, r, writer_span(&content));
    writer_str(w, "</SoftwareIdentity>\n");
    FORGE(writer_ok(w));
    writer_release(&content);
}
