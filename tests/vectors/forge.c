/* RAND_set_rand_method() and its ENGINE-time struct are deprecated, and the only way to fix the bytes that a released
 * OpenSSL 3.0 draws for nonces, salts and primes. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "vectors/forge.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "verifier/signature.h"

void forge_must(bool good, const char *what, const char *file, int line)
{
    if (good)
        return;
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

/* --- the fixed stream ---------------------------------------------------------------------------- */

static struct {
    uint8_t seed[32];
    uint64_t at;
} stream;

void forge_seed(const char *label)
{
    SHA256((const uint8_t *)label, strlen(label), stream.seed);
    stream.at = 0;
}

static int stream_bytes(unsigned char *out, int len)
{
    for (int i = 0; i < len; i += 32) {
        uint8_t in[40], block[32];

        memcpy(in, stream.seed, 32);
        memcpy(in + 32, &stream.at, 8);
        stream.at++;
        SHA256(in, sizeof in, block);
        memcpy(out + i, block, (size_t)(len - i < 32 ? len - i : 32));
    }
    return 1;
}

static int stream_status(void)
{
    return 1;
}

void forge_init(void)
{
    static const RAND_METHOD method = {.bytes = stream_bytes, .pseudorand = stream_bytes, .status = stream_status};

    FORGE(RAND_set_rand_method(&method) == 1);
    forge_seed("airlock");
}

void forge_fill(uint8_t *out, size_t len, const char *label)
{
    forge_seed(label);
    stream_bytes(out, (int)len);
}

time_t forge_time(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    FORGE(end && !*end);
    return timegm(&tm);
}

/* --- keys ----------------------------------------------------------------------------------------- */

EVP_PKEY *forge_ec(const char *label, const char *group)
{
    EVP_PKEY *key;

    forge_seed(label);
    key = EVP_EC_gen(group);
    FORGE(key != NULL);
    return key;
}

EVP_PKEY *forge_rsa(const char *label, unsigned bits)
{
    EVP_PKEY *key;

    forge_seed(label);
    key = EVP_RSA_gen(bits);
    FORGE(key != NULL);
    return key;
}

void forge_point(EVP_PKEY *key, uint8_t *xy, size_t len)
{
    uint8_t encoded[1 + VERIFIER_POINT_MAX];
    size_t n = 0;

    FORGE(EVP_PKEY_get_octet_string_param(key, "pub", encoded, sizeof encoded, &n) == 1 && n == 1 + len);
    memcpy(xy, encoded + 1, len);
}

static EVP_MD_CTX *signing(EVP_PKEY *key, enum forge_form form)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *p = NULL;
    bool short_hash = form == FORGE_ECDSA_256 || form == FORGE_PKCS1;

    FORGE(ctx && EVP_DigestSignInit(ctx, &p, short_hash ? EVP_sha256() : EVP_sha384(), NULL, key) == 1);
    if (form == FORGE_PSS || form == FORGE_PSS_20)
        FORGE(EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_pss_saltlen(p, form == FORGE_PSS ? 48 : 20) == 1 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(p, EVP_sha384()) == 1);
    return ctx;
}

void forge_ecdsa(EVP_PKEY *key, const char *label, struct span message, uint8_t *rs, size_t len)
{
    EVP_MD_CTX *ctx = signing(key, len == 64 ? FORGE_ECDSA_256 : FORGE_ECDSA_384);
    uint8_t der[160];
    const uint8_t *p = der;
    size_t n = sizeof der;
    ECDSA_SIG *sig;
    int half = (int)(len / 2);

    forge_seed(label);
    FORGE(EVP_DigestSign(ctx, der, &n, message.data, message.len) == 1);
    sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
    FORGE(sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, half) == half &&
          BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + half, half) == half);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

/* --- certificates and lists ------------------------------------------------------------------------- */

static void set_time(ASN1_TIME *t, const char *text, const char *otherwise)
{
    FORGE(ASN1_TIME_set(t, forge_time(text ? text : otherwise)) != NULL);
}

static void put_extension(X509 *x, const struct forge_extension *e)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(e->oid, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension;

    FORGE(oid && value && ASN1_OCTET_STRING_set(value, e->value, (int)e->len) == 1);
    extension = X509_EXTENSION_create_by_OBJ(NULL, oid, e->critical, value);
    FORGE(extension && X509_add_ext(x, extension, -1) == 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
}

static void put_basics(X509 *x, const struct forge_cert *spec)
{
    char text[64];

    snprintf(text, sizeof text, "critical,CA:TRUE");
    if (spec->room >= 0)
        snprintf(text, sizeof text, "critical,CA:TRUE,pathlen:%d", spec->room);
    for (int i = 0; spec->ca && i < 2; i++) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, i ? NID_key_usage : NID_basic_constraints,
                                                i ? "critical,keyCertSign,cRLSign" : text);
        FORGE(e && X509_add_ext(x, e, -1) == 1);
        X509_EXTENSION_free(e);
    }
    for (size_t i = 0; i < spec->extension_count; i++)
        put_extension(x, &spec->extension[i]);
}

X509 *forge_x509(struct forge_cert spec)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    EVP_MD_CTX *ctx;
    char label[256];

    FORGE(X509_set_version(x, 2) == 1 && ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), spec.serial) == 1);
    set_time(X509_getm_notBefore(x), spec.from, "2025-01-01T00:00:00Z");
    set_time(X509_getm_notAfter(x), spec.to, "2035-01-01T00:00:00Z");
    FORGE(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)spec.cn, -1, -1, 0) == 1);
    if (spec.serial_text)
        FORGE(X509_NAME_add_entry_by_txt(name, "serialNumber", MBSTRING_UTF8, (const uint8_t *)spec.serial_text, -1, -1,
                                         0) == 1);
    FORGE(X509_set_issuer_name(x, spec.issuer ? X509_get_subject_name(spec.issuer) : name) == 1 &&
          X509_set_pubkey(x, spec.key) == 1);
    put_basics(x, &spec);
    ctx = signing(spec.signer ? spec.signer : spec.key, spec.form);
    snprintf(label, sizeof label, "certificate %s %s %lu", spec.cn, spec.serial_text ? spec.serial_text : "",
             spec.serial);
    forge_seed(label);
    FORGE(X509_sign_ctx(x, ctx) > 0);
    EVP_MD_CTX_free(ctx);
    return x;
}

struct span forge_der(X509 *x)
{
    unsigned char *der = NULL;
    int len = i2d_X509(x, &der);

    FORGE(len > 0);
    return span_of(der, (size_t)len);
}

void forge_pem(struct writer *w, X509 *const *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        long len;

        FORGE(bio && PEM_write_bio_X509(bio, x[i]) == 1);
        len = BIO_get_mem_data(bio, &text);
        writer_bytes(w, span_of(text, (size_t)len));
        BIO_free(bio);
    }
}

struct span forge_crl(const struct forge_crl *spec)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *t = ASN1_TIME_new();
    EVP_MD_CTX *ctx = signing(spec->signer, spec->form);
    unsigned char *der = NULL;
    int len;

    FORGE(X509_CRL_set_version(crl, 1) == 1 && X509_CRL_set_issuer_name(crl, X509_get_subject_name(spec->issuer)) == 1);
    set_time(t, spec->from, "2026-05-01T00:00:00Z");
    FORGE(X509_CRL_set1_lastUpdate(crl, t) == 1);
    for (size_t i = 0; spec->revoked[i]; i++) {
        X509_REVOKED *r = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();
        FORGE(ASN1_INTEGER_set_uint64(serial, spec->revoked[i]) == 1 && X509_REVOKED_set_serialNumber(r, serial) == 1 &&
              X509_REVOKED_set_revocationDate(r, t) == 1 && X509_CRL_add0_revoked(crl, r) == 1);
        ASN1_INTEGER_free(serial);
    }
    if (!spec->to || *spec->to) {
        set_time(t, spec->to, "2026-07-01T00:00:00Z");
        FORGE(X509_CRL_set1_nextUpdate(crl, t) == 1);
    }
    if (spec->critical) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_issuing_distribution_point, "critical,onlyuser:TRUE");
        FORGE(e && X509_CRL_add_ext(crl, e, -1) == 1);
        X509_EXTENSION_free(e);
    }
    forge_seed("revocation list");
    FORGE(X509_CRL_sign_ctx(crl, ctx) > 0);
    len = i2d_X509_CRL(crl, &der);
    FORGE(len > 0);
    EVP_MD_CTX_free(ctx);
    ASN1_TIME_free(t);
    X509_CRL_free(crl);
    return span_of(der, (size_t)len);
}

/* --- folders and cases -------------------------------------------------------------------------------- */

json_t *forge_hex(struct span s)
{
    char *text = malloc(2 * s.len + 1);
    json_t *out;

    FORGE(text != NULL);
    text[0] = '\0';
    for (size_t i = 0; i < s.len; i++)
        snprintf(text + 2 * i, 3, "%02x", s.data[i]);
    out = json_string(text);
    free(text);
    return out;
}

void forge_open(struct forge_item *item, const char *top, const char *kind, const char *id, json_t *fields)
{
    snprintf(item->folder, sizeof item->folder, "%s/%s", top, kind);
    mkdir(item->folder, 0777);
    snprintf(item->folder, sizeof item->folder, "%s/%s/%s", top, kind, id);
    mkdir(item->folder, 0777);
    item->doc =
        json_pack("{s:i, s:b, s:{}, s:o, s:[]}", "schema", 1, "real_hardware", 0, "files", "fields", fields, "cases");
    FORGE(item->doc != NULL);
}

static void write_file(const struct forge_item *item, const char *name, struct span bytes)
{
    char path[800];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", item->folder, name);
    out = fopen(path, "wb");
    FORGE(out && fwrite(bytes.data, 1, bytes.len, out) == bytes.len && fclose(out) == 0);
}

void forge_file(struct forge_item *item, const char *role, const char *name, struct span bytes)
{
    uint8_t digest[32];

    write_file(item, name, bytes);
    if (!role)
        return;
    SHA256(bytes.data, bytes.len, digest);
    json_object_set_new(json_object_get(item->doc, "files"), role,
                        json_pack("{s:s, s:I, s:o}", "name", name, "bytes", (json_int_t)bytes.len, "sha256",
                                  forge_hex(span_of(digest, 32))));
}

json_t *forge_case(struct forge_item *item, const char *name, const char *code)
{
    json_t *expect =
        code ? json_pack("{s:s, s:[s]}", "verdict", "error", "error", code) : json_pack("{s:s}", "verdict", "ok");
    json_t *one = json_pack("{s:s, s:s, s:{}, s:o}", "name", name, "time", FORGE_NOW, "policy", "expect", expect);

    FORGE(one && json_array_append_new(json_object_get(item->doc, "cases"), one) == 0);
    return one;
}

void forge_close(struct forge_item *item)
{
    char *text = json_dumps(item->doc, JSON_INDENT(1));
    size_t len = text ? strlen(text) : 0;

    FORGE(text != NULL);
    text[len] = '\n'; /* in place of the final NUL */
    write_file(item, "expected.json", span_of(text, len + 1));
    free(text);
    json_decref(item->doc);
}

static void put_in(json_t *one, const char *group, const char *key, json_t *value)
{
    json_t *o = json_object_get(one, group);

    if (!o) {
        o = json_object();
        json_object_set_new(one, group, o);
    }
    FORGE(json_object_set_new(o, key, value) == 0);
}

void forge_at(json_t *one, const char *time)
{
    json_object_set_new(one, "time", json_string(time));
}

void forge_use(json_t *one, const char *role, const char *file)
{
    put_in(one, "use", role, json_string(file));
}

void forge_policy(json_t *one, const char *key, json_t *value)
{
    put_in(one, "policy", key, value);
}

void forge_expect(json_t *one, const char *key, json_t *value)
{
    put_in(one, "expect", key, value);
}

static void add_mutation(json_t *one, json_t *m)
{
    json_t *list = json_object_get(one, "mutate");

    if (!list) {
        list = json_array();
        json_object_set_new(one, "mutate", list);
    }
    FORGE(m && json_array_append_new(list, m) == 0);
}

void forge_xor(json_t *one, const char *file, size_t offset, const char *hex)
{
    add_mutation(
        one, json_pack("{s:s, s:s, s:I, s:s}", "file", file, "op", "xor", "offset", (json_int_t)offset, "hex", hex));
}

void forge_set(json_t *one, const char *file, size_t offset, const char *hex)
{
    add_mutation(
        one, json_pack("{s:s, s:s, s:I, s:s}", "file", file, "op", "set", "offset", (json_int_t)offset, "hex", hex));
}

void forge_truncate(json_t *one, const char *file, size_t len)
{
    add_mutation(one, json_pack("{s:s, s:s, s:I}", "file", file, "op", "truncate", "length", (json_int_t)len));
}

void forge_append(json_t *one, const char *file, const char *hex)
{
    add_mutation(one, json_pack("{s:s, s:s, s:s}", "file", file, "op", "append", "hex", hex));
}

int forge_main(int argc, char **argv, void (*make)(const char *top))
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER   (tests/vectors/evidence)\n", argv[0]);
        return 2;
    }
    forge_init();
    mkdir(argv[1], 0777);
    make(argv[1]);
    return 0;
}
