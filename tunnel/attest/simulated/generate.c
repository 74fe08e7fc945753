/* generate - makes the demo root once per build folder: ARK and ASK (RSA 4096), one VCEK (P-384) for each zone with a
 * random chip id, and an empty revocation list, in the real formats of AMD's key distribution. Writes two headers:
 * the root's digest for anchors/simulated.c, and certificates with the chips' keys for producer.c. The keys of the
 * authorities are forgotten, so nothing more can be signed under this root. Files that are there stay as they are.
 * Built and run only for builds that link the simulation; what it signs proves nothing. */
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tunnel/attest/simulated/chip.h"

#define DAY 86400L
#define AUTHORITY_DAYS (25 * 365L)
#define CHIP_DAYS (7 * 365L)

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "generate: %s failed\n", what);
    exit(1);
}

/* --- keys, names, signatures -------------------------------------------------------------------- */

static X509_NAME *name_of(const char *common)
{
    X509_NAME *n = X509_NAME_new();

    must(n &&
             X509_NAME_add_entry_by_txt(n, "O", MBSTRING_ASC, (const unsigned char *)"Airlock simulation", -1, -1, 0) &&
             X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)common, -1, -1, 0),
         "name");
    return n;
}

/* A context that signs as AMD does: RSASSA-PSS, SHA-384, MGF1 with SHA-384, salt of 48 bytes. */
static EVP_MD_CTX *pss(EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *p = NULL;

    must(ctx && EVP_DigestSignInit(ctx, &p, EVP_sha384(), NULL, key) == 1 &&
             EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(p, 48) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(p, EVP_sha384()) == 1,
         "signing context");
    return ctx;
}

static X509 *cert_begin(const char *subject, const char *issuer, EVP_PKEY *key, long serial, long days)
{
    X509 *x = X509_new();
    X509_NAME *s = name_of(subject), *i = name_of(issuer);

    must(x && X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), serial) &&
             X509_gmtime_adj(X509_getm_notBefore(x), -DAY) && X509_gmtime_adj(X509_getm_notAfter(x), days * DAY) &&
             X509_set_subject_name(x, s) && X509_set_issuer_name(x, i) && X509_set_pubkey(x, key),
         "certificate");
    X509_NAME_free(s);
    X509_NAME_free(i);
    return x;
}

static void add_standard(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    must(e && X509_add_ext(x, e, -1), "extension");
    X509_EXTENSION_free(e);
}

static void add_raw(X509 *x, const char *oid, const void *data, size_t len)
{
    ASN1_OBJECT *o = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
    X509_EXTENSION *e;

    must(o && s && ASN1_OCTET_STRING_set(s, data, (int)len), "extension value");
    e = X509_EXTENSION_create_by_OBJ(NULL, o, 0, s);
    must(e && X509_add_ext(x, e, -1), "extension");
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(s);
    ASN1_OBJECT_free(o);
}

static void add_number(X509 *x, const char *oid, uint8_t v)
{
    uint8_t der[4] = {0x02, 0x01, v, 0};

    if (v >= 0x80) { /* a leading zero keeps it positive */
        der[1] = 2;
        der[2] = 0;
        der[3] = v;
    }
    add_raw(x, oid, der, v >= 0x80 ? 4 : 3);
}

static void cert_sign(X509 *x, EVP_PKEY *issuer)
{
    EVP_MD_CTX *ctx = pss(issuer);

    must(X509_sign_ctx(x, ctx) > 0, "certificate signature");
    EVP_MD_CTX_free(ctx);
}

static X509 *authority(const char *subject, const char *issuer, EVP_PKEY *key, EVP_PKEY *signer, long serial)
{
    X509 *x = cert_begin(subject, issuer, key, serial, AUTHORITY_DAYS);

    add_standard(x, NID_basic_constraints, "critical,CA:TRUE");
    add_standard(x, NID_key_usage, "critical,keyCertSign,cRLSign");
    cert_sign(x, signer);
    return x;
}

#define AMD_OID "1.3.6.1.4.1.3704.1."

/* AMD 57230, § VCEK certificate. */
static X509 *vcek(EVP_PKEY *key, EVP_PKEY *ask, const uint8_t chip_id[64])
{
    static const uint8_t product[] = {0x16, 5, 'G', 'e', 'n', 'o', 'a'};
    X509 *x = cert_begin("SEV-VCEK", "SEV-Genoa", key, 0, CHIP_DAYS);

    add_number(x, AMD_OID "1", 0);
    add_raw(x, AMD_OID "2", product, sizeof product);
    add_number(x, AMD_OID "3.1", SIMULATED_BOOTLOADER);
    add_number(x, AMD_OID "3.2", SIMULATED_TEE);
    add_number(x, AMD_OID "3.4", 0);
    add_number(x, AMD_OID "3.5", 0);
    add_number(x, AMD_OID "3.6", 0);
    add_number(x, AMD_OID "3.7", 0);
    add_number(x, AMD_OID "3.3", SIMULATED_SNP);
    add_number(x, AMD_OID "3.8", SIMULATED_MICROCODE);
    add_raw(x, AMD_OID "4", chip_id, 64);
    cert_sign(x, ask);
    return x;
}

static X509_CRL *empty_crl(EVP_PKEY *ark)
{
    X509_CRL *crl = X509_CRL_new();
    X509_NAME *issuer = name_of("ARK-Genoa");
    ASN1_TIME *from = ASN1_TIME_adj(NULL, time(NULL), -1, 0), *to = ASN1_TIME_adj(NULL, time(NULL), CHIP_DAYS, 0);
    EVP_MD_CTX *ctx = pss(ark);

    must(crl && from && to && X509_CRL_set_version(crl, 1) && X509_CRL_set_issuer_name(crl, issuer) &&
             X509_CRL_set1_lastUpdate(crl, from) && X509_CRL_set1_nextUpdate(crl, to) &&
             X509_CRL_sign_ctx(crl, ctx) > 0,
         "revocation list");
    EVP_MD_CTX_free(ctx);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    X509_NAME_free(issuer);
    return crl;
}

/* --- writing ------------------------------------------------------------------------------------- */

static void put_bytes(FILE *f, const char *name, const uint8_t *data, size_t len)
{
    fprintf(f, "static const uint8_t %s[%zu] = {", name, len);
    for (size_t i = 0; i < len; i++)
        fprintf(f, "%s%u", i ? "," : "", data[i]);
    fprintf(f, "};\n");
}

static void put_der(FILE *f, const char *name, int len, unsigned char *der)
{
    must(len > 0, name);
    put_bytes(f, name, der, (size_t)len);
    OPENSSL_free(der);
}

static void put_cert(FILE *f, const char *name, X509 *x)
{
    unsigned char *der = NULL;
    int len = i2d_X509(x, &der);

    put_der(f, name, len, der);
}

/* Files appear whole or not at all: an interrupted build leaves nothing half made. */
static FILE *file_begin(const char *path, char *temporary, size_t cap)
{
    int fd;
    FILE *f;

    snprintf(temporary, cap, "%s.%ld", path, (long)getpid());
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    f = fd >= 0 ? fdopen(fd, "w") : NULL;
    must(f != NULL, temporary);
    fprintf(f, "/* Made by tunnel/attest/simulated/generate.c for this build folder: a demo, it proves nothing. */\n"
               "#include <stdint.h>\n");
    return f;
}

static void file_end(FILE *f, const char *temporary, const char *path)
{
    must(fclose(f) == 0 && rename(temporary, path) == 0, path);
}

/* One zone's chip: its certificate, its id, its private key. */
static void put_chip(FILE *f, const char *zone, EVP_PKEY *ask)
{
    EVP_PKEY *key = EVP_EC_gen("P-384");
    uint8_t id[64], scalar[48];
    char name[64];
    BIGNUM *d = NULL;
    X509 *x;

    must(key && RAND_bytes(id, sizeof id) == 1 && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 &&
             BN_bn2binpad(d, scalar, sizeof scalar) == sizeof scalar,
         "chip key");
    x = vcek(key, ask, id);
    snprintf(name, sizeof name, "simulated_%s_vcek", zone);
    put_cert(f, name, x);
    snprintf(name, sizeof name, "simulated_%s_chip_id", zone);
    put_bytes(f, name, id, sizeof id);
    snprintf(name, sizeof name, "simulated_%s_key", zone);
    put_bytes(f, name, scalar, sizeof scalar);
    X509_free(x);
    BN_clear_free(d);
    EVP_PKEY_free(key);
}

static void generate(const char *root_path, const char *keys_path)
{
    EVP_PKEY *ark_key = EVP_RSA_gen(4096), *ask_key = EVP_RSA_gen(4096);
    X509 *ark, *ask;
    X509_CRL *crl;
    unsigned char digest[32], *der = NULL;
    unsigned int digest_len = sizeof digest;
    char temporary[1024];
    FILE *f;

    must(ark_key && ask_key, "RSA key");
    ark = authority("ARK-Genoa", "ARK-Genoa", ark_key, ark_key, 0x10000);
    ask = authority("SEV-Genoa", "ARK-Genoa", ask_key, ark_key, 0x10001);
    crl = empty_crl(ark_key);
    must(X509_digest(ark, EVP_sha256(), digest, &digest_len) == 1, "digest");

    f = file_begin(keys_path, temporary, sizeof temporary);
    put_cert(f, "simulated_ark", ark);
    put_cert(f, "simulated_ask", ask);
    int len = i2d_X509_CRL(crl, &der);
    put_der(f, "simulated_crl", len, der);
    put_chip(f, "proxy", ask_key);
    put_chip(f, "engine", ask_key);
    file_end(f, temporary, keys_path);

    f = file_begin(root_path, temporary, sizeof temporary);
    put_bytes(f, "simulated_root_sha256", digest, sizeof digest);
    file_end(f, temporary, root_path);

    X509_CRL_free(crl);
    X509_free(ask);
    X509_free(ark);
    EVP_PKEY_free(ask_key);
    EVP_PKEY_free(ark_key);
}

int main(int argc, char **argv)
{
    struct stat st;

    if (argc != 3) {
        fprintf(stderr, "usage: generate ROOT.h KEYS.h\n");
        return 2;
    }
    if (stat(argv[1], &st) == 0 && stat(argv[2], &st) == 0) { /* keep them; the build tool looks at the times */
        utimensat(AT_FDCWD, argv[2], NULL, 0);
        utimensat(AT_FDCWD, argv[1], NULL, 0);
        return 0;
    }
    generate(argv[1], argv[2]);
    return 0;
}
