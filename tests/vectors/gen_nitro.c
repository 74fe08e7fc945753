/* Synthetic AWS Nitro documents under a test root, and one flaw for each reason. */
#include <stdio.h>

#include "vectors/forge.h"

static EVP_PKEY *root_key, *ca_key, *leaf_key, *other_key;
static X509 *root, *ca, *leaf;

/* --- CBOR, as far as a document needs it --------------------------------------------------------------------- */

static void put_head(struct writer *w, uint8_t major, size_t v)
{
    uint8_t top = (uint8_t)(major << 5);

    if (v < 24)
        writer_u8(w, (uint8_t)(top + v));
    else if (v < 256)
        writer_u8(w, top + 24), writer_u8(w, (uint8_t)v);
    else
        writer_u8(w, top + 25), writer_u16be(w, (uint16_t)v);
}

static void put_bytes(struct writer *w, struct span s)
{
    put_head(w, 2, s.len);
    writer_bytes(w, s);
}

static void put_text(struct writer *w, const char *text)
{
    put_head(w, 3, strlen(text));
    writer_str(w, text);
}

/* --- documents -------------------------------------------------------------------------------------------------- */

struct document {
    const char *digest, *module, *extra; /* extra: a key that nobody knows */
    bool debug, no_pcrs, pcr_twice, module_twice, pcr_short, pcr_2_missing, indefinite;
    struct span protected_header;
    bool unprotected, tagged;
    EVP_PKEY *signer;
    X509 *leaf, *bundle[8];
    size_t bundle_count, signature_len;
};

static struct document good_document(void)
{
    struct document d = {.digest = "SHA384", .module = "i-0123456789abcdef0-enc0123456789abcdef", .signer = leaf_key};

    d.protected_header = span_of("\xa1\x01\x38\x22", 4);
    d.tagged = true;
    d.leaf = leaf;
    d.bundle[0] = root;
    d.bundle[1] = ca;
    d.bundle_count = 2;
    d.signature_len = 96;
    return d;
}

static void put_pcrs(struct writer *w, const struct document *d)
{
    uint8_t value[48];

    writer_u8(w, (uint8_t)(d->indefinite ? 0xbf : 0xa0 + (d->pcr_2_missing ? 2 : 3) + d->pcr_twice));
    for (uint8_t i = 0; i < (d->pcr_2_missing ? 2 : 3); i++) {
        char label[16];
        snprintf(label, sizeof label, "PCR %d", i);
        forge_fill(value, sizeof value, label);
        if (d->debug)
            memset(value, 0, sizeof value);
        writer_u8(w, i);
        put_bytes(w, span_of(value, d->pcr_short ? 32 : 48));
    }
    if (d->pcr_twice)
        writer_u8(w, 0), put_bytes(w, span_of(value, 48));
    if (d->indefinite)
        writer_u8(w, 0xff);
}

static void put_payload(struct writer *w, const struct document *d)
{
    uint8_t nonce[64];

    forge_fill(nonce, sizeof nonce, "nonce");
    writer_u8(w, (uint8_t)(0xa9 - d->no_pcrs + d->module_twice + (d->extra != NULL)));
    for (int i = 0; i <= d->module_twice; i++)
        put_text(w, "module_id"), put_text(w, d->module);
    put_text(w, "digest"), put_text(w, d->digest);
    put_text(w, "timestamp"), writer_u8(w, 0x1b), writer_u64be(w, 1780272000000);
    if (!d->no_pcrs)
        put_text(w, "pcrs"), put_pcrs(w, d);
    put_text(w, "certificate"), put_bytes(w, forge_der(d->leaf));
    put_text(w, "cabundle"), put_head(w, 4, d->bundle_count);
    for (size_t i = 0; i < d->bundle_count; i++)
        put_bytes(w, forge_der(d->bundle[i]));
    put_text(w, "public_key"), writer_u8(w, 0xf6);
    put_text(w, "user_data"), put_bytes(w, span_str("user data"));
    put_text(w, "nonce"), put_bytes(w, span_of(nonce, sizeof nonce));
    if (d->extra)
        put_text(w, d->extra), writer_u8(w, 0);
}

static void document_file(struct forge_item *i, const char *role, const char *name, const struct document *d)
{
    struct writer payload = writer_with_max(32768), signed_ = writer_with_max(65536), all = writer_with_max(65536);
    uint8_t rs[96];

    put_payload(&payload, d);
    writer_u8(&signed_, 0x84);
    put_text(&signed_, "Signature1");
    put_bytes(&signed_, d->protected_header);
    writer_u8(&signed_, 0x40);
    put_bytes(&signed_, writer_span(&payload));
    forge_ecdsa(d->signer, "document", writer_span(&signed_), rs, sizeof rs);
    if (d->tagged)
        writer_u8(&all, 0xd2);
    writer_u8(&all, 0x84);
    put_bytes(&all, d->protected_header);
    writer_u8(&all, d->unprotected ? 0xa1 : 0xa0);
    if (d->unprotected)
        writer_u8(&all, 4), writer_u8(&all, 0);
    put_bytes(&all, writer_span(&payload));
    put_bytes(&all, span_of(rs, d->signature_len));
    FORGE(writer_ok(&all));
    forge_file(i, role, name, writer_span(&all));
    writer_release(&payload);
    writer_release(&signed_);
    writer_release(&all);
}

static json_t *document_case(struct forge_item *i, const char *name, const char *code, const struct document *d)
{
    char file[80];
    json_t *one = forge_case(i, name, code);

    snprintf(file, sizeof file, "document_%s.cbor", name);
    document_file(i, NULL, file, d);
    forge_use(one, "document", file);
    return one;
}

static struct forge_cert leaf_spec(void)
{
    return (struct forge_cert){.cn = "i-0123456789abcdef0-enc.aws",
                               .key = leaf_key,
                               .signer = ca_key,
                               .issuer = ca,
                               .form = FORGE_ECDSA_384,
                               .serial = 3,
                               .from = "2026-05-31T22:00:00Z",
                               .to = "2026-06-01T01:00:00Z"};
}

static void make_parties(void)
{
    root_key = forge_ec("Nitro root", "P-384");
    ca_key = forge_ec("Nitro CA", "P-384");
    leaf_key = forge_ec("Nitro enclave", "P-384");
    other_key = forge_ec("somebody else", "P-384");
    root = forge_x509((struct forge_cert){
        .cn = "aws.nitro-enclaves", .key = root_key, .form = FORGE_ECDSA_384, .serial = 1, .ca = true, .room = -1});
    ca = forge_x509((struct forge_cert){.cn = "zonal.aws.nitro-enclaves",
                                        .key = ca_key,
                                        .signer = root_key,
                                        .issuer = root,
                                        .form = FORGE_ECDSA_384,
                                        .serial = 2,
                                        .ca = true,
                                        .room = 0});
    leaf = forge_x509(leaf_spec());
}

/* --- flaws -------------------------------------------------------------------------------------------------------- */

static void flawed_shape(struct forge_item *i)
{
    struct document d = good_document();

    d.protected_header = span_of("\xa1\x01\x26", 3);
    document_case(i, "another_algorithm", "unsupported_alg", &d);
    d = good_document();
    d.unprotected = true;
    document_case(i, "unprotected_header", "parse", &d);
    d = good_document();
    d.signature_len = 64;
    document_case(i, "signature_too_short", "parse", &d);
    d = good_document();
    d.digest = "SHA256";
    document_case(i, "another_digest", "parse", &d);
    d = good_document();
    d.module = "i-0123\n";
    document_case(i, "module_not_printable", "parse", &d);
    d = good_document();
    d.extra = "unknown";
    document_case(i, "key_unknown", "parse", &d);
    d = good_document();
    d.module_twice = true;
    document_case(i, "key_twice", "parse", &d);
    d = good_document();
    d.no_pcrs = true;
    document_case(i, "no_registers", "parse", &d);
    d = good_document();
    d.pcr_twice = true;
    document_case(i, "register_twice", "parse", &d);
    d = good_document();
    d.pcr_short = true;
    document_case(i, "registers_too_short", "parse", &d);
    d = good_document();
    d.pcr_2_missing = true;
    document_case(i, "register_2_missing", "parse", &d);
    d = good_document();
    d.bundle_count = 0;
    document_case(i, "no_bundle", "parse", &d);
    d = good_document();
    for (size_t k = 2; k < 8; k++)
        d.bundle[k] = ca;
    d.bundle_count = 8;
    document_case(i, "bundle_too_long", "parse", &d);
    d = good_document();
    d.tagged = false;
    document_case(i, "without_the_tag", NULL, &d);
    d = good_document();
    d.indefinite = true;
    document_case(i, "map_without_a_length", NULL, &d);
    forge_append(forge_case(i, "a_byte_after_the_end", "trailing_data"), "document.cbor", "00");
    forge_truncate(forge_case(i, "cut", "parse"), "document.cbor", 200);
    forge_set(forge_case(i, "list_of_five", "parse"), "document.cbor", 1, "85");
    forge_set(forge_case(i, "length_of_eight_bytes", "parse"), "document.cbor", 8, "5bffffffffffffffff");
    forge_set(forge_case(i, "length_reserved", "parse"), "document.cbor", 8, "5c");
}

static void flawed_proof(struct forge_item *i)
{
    struct document d = good_document();
    struct forge_cert spec = leaf_spec();
    json_t *one;

    d.signer = other_key;
    document_case(i, "signed_by_another_key", "bad_signature", &d);
    d = good_document();
    d.debug = true;
    document_case(i, "debug", "debug_enabled", &d);
    one = forge_case(i, "debug_allowed", NULL);
    forge_use(one, "document", "document_debug.cbor");
    forge_policy(one, "allow_debug", json_true());
    forge_at(forge_case(i, "hours_later", "cert_expired"), "2026-06-01T01:00:01Z");
    forge_at(forge_case(i, "hours_earlier", "cert_not_yet_valid"), "2026-05-31T21:59:59Z");
    d = good_document();
    d.bundle[0] = forge_x509((struct forge_cert){
        .cn = "aws.nitro-enclaves", .key = other_key, .form = FORGE_ECDSA_384, .serial = 1, .ca = true, .room = -1});
    document_case(i, "root_of_the_same_name", "untrusted_root", &d);
    d = good_document();
    d.bundle_count = 1;
    document_case(i, "authority_left_out", "chain_issuer", &d);
    spec.signer = other_key;
    d = good_document();
    d.leaf = forge_x509(spec);
    document_case(i, "leaf_signed_by_another_key", "chain_signature", &d);
    one = forge_case(i, "another_image", "pcr0_mismatch");
    forge_policy(
        one, "pcr0",
        json_string(
            "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"));
}

static void make(const char *top)
{
    struct document d;
    struct forge_item i;
    struct writer pem = writer_with_max(8192);

    make_parties();
    d = good_document();
    forge_open(&i, top, "nitro", "enclave", json_pack("{s:s, s:b}", "module_id", d.module, "debug", 0));
    document_file(&i, "document", "document.cbor", &d);
    forge_pem(&pem, &root, 1);
    forge_file(&i, "root", "root.pem", writer_span(&pem));
    writer_release(&pem);
    forge_case(&i, "base", NULL);
    flawed_shape(&i);
    flawed_proof(&i);
    forge_close(&i);
}

int main(int argc, char **argv)
{
    return forge_main(argc, argv, make);
}
