#include "proxy/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAF_DAYS = 90, AUTHORITY_DAYS = 3650, RECORD_PAD = 256 };

/* --- certificates ----------------------------------------------------------------------------------- */

static EVP_PKEY *new_key(void)
{
    return EVP_EC_gen("P-256");
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_serial(X509 *cert)
{
    uint8_t bytes[16];
    BIGNUM *n = NULL;
    bool ok = RAND_bytes(bytes, sizeof bytes) == 1;

    bytes[0] &= 0x7f;
    bytes[0] |= 0x40;
    ok = ok && (n = BN_bin2bn(bytes, sizeof bytes, NULL)) && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return ok;
}

/* A certificate for `key`, named `name`, good for `days`, not signed yet. */
static X509 *new_certificate(EVP_PKEY *key, const char *name, X509 *issuer, int days)
{
    X509 *cert = X509_new();
    X509_NAME *subject = cert ? X509_get_subject_name(cert) : NULL;

    if (cert && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -3600) && X509_gmtime_adj(X509_getm_notAfter(cert), 86400L * days) &&
        X509_set_pubkey(cert, key) &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0) &&
        X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : subject))
        return cert;
    X509_free(cert);
    return NULL;
}

static bool alternative_names(char *out, size_t cap, const char *const *names)
{
    size_t len = 0;
    uint8_t binary[16];

    for (size_t i = 0; i < TLS_NAMES_MAX && names[i]; i++) {
        bool address = inet_pton(AF_INET, names[i], binary) == 1 || inet_pton(AF_INET6, names[i], binary) == 1;
        int n;
        if (strpbrk(names[i], ", \t\r\n"))
            return false;
        n = snprintf(out + len, cap - len, "%s%s:%s", len ? "," : "", address ? "IP" : "DNS", names[i]);
        if (n < 0 || (size_t)n >= cap - len)
            return false;
        len += (size_t)n;
    }
    return len > 0;
}

static X509 *leaf_certificate(EVP_PKEY *key, const char *const *names, X509 *issuer, EVP_PKEY *issuer_key)
{
    char alternatives[2048];
    X509 *cert = new_certificate(key, "airlock-proxy", issuer, LEAF_DAYS);

    if (cert && alternative_names(alternatives, sizeof alternatives, names) &&
        add_extension(cert, issuer ? issuer : cert, NID_subject_alt_name, alternatives) &&
        add_extension(cert, issuer ? issuer : cert, NID_ext_key_usage, "serverAuth") &&
        (!issuer || add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always")) &&
        X509_sign(cert, issuer ? issuer_key : key, EVP_sha256()) > 0)
        return cert;
    X509_free(cert);
    return NULL;
}

/* --- the authority of this machine ------------------------------------------------------------------ */

enum { PATH_LEN = 1024 };

static bool path_with(char out[PATH_LEN], const char *path, const char *suffix)
{
    return snprintf(out, PATH_LEN, "%s%s", path, suffix) < PATH_LEN;
}

/* Written beside and renamed, so that a reader never sees half of it. */
static bool write_pem(const char *path, mode_t mode, X509 *cert, EVP_PKEY *key)
{
    char beside[PATH_LEN];
    FILE *f = NULL;
    bool ok;
    int fd;

    if (!path_with(beside, path, ".new"))
        return false;
    unlink(beside);
    fd = open(beside, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0 || !(f = fdopen(fd, "w")))
        return false;
    ok = cert ? PEM_write_X509(f, cert) == 1 : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1;
    ok = fflush(f) == 0 && fsync(fd) == 0 && ok;
    ok = fclose(f) == 0 && ok;
    return ok && rename(beside, path) == 0;
}

static bool make_authority(const char *path, const char *key_path)
{
    EVP_PKEY *key = new_key();
    X509 *cert = key ? new_certificate(key, "Airlock authority of this machine", NULL, AUTHORITY_DAYS) : NULL;
    bool ok = cert && add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              add_extension(cert, cert, NID_key_usage, "critical,keyCertSign") &&
              add_extension(cert, cert, NID_subject_key_identifier, "hash") && X509_sign(cert, key, EVP_sha256()) > 0;

    ok = ok && write_pem(key_path, 0600, NULL, key) && write_pem(path, 0644, cert, NULL);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok;
}

static bool read_authority(const char *path, const char *key_path, X509 **cert, EVP_PKEY **key)
{
    FILE *f = fopen(path, "re");

    if (!f)
        return false;
    *cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    if (!(f = fopen(key_path, "re")))
        return false;
    *key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    return *cert && *key && X509_check_private_key(*cert, *key) == 1;
}

/* Several programs may start at once: a lock makes one of them the maker. */
static bool open_authority(const char *path, X509 **cert, EVP_PKEY **key)
{
    char key_path[PATH_LEN], lock_path[PATH_LEN];
    int lock = -1;
    bool ok = path_with(key_path, path, ".key") && path_with(lock_path, path, ".lock");

    ok = ok && (lock = open(lock_path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600)) >= 0 &&
         flock(lock, LOCK_EX) == 0;
    if (ok && access(path, F_OK) != 0)
        ok = make_authority(path, key_path);
    ok = ok && read_authority(path, key_path, cert, key);
    if (lock >= 0)
        close(lock);
    return ok;
}

/* --- contexts ---------------------------------------------------------------------------------------- */

static SSL_CTX *new_context(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx)
        return NULL;
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
        SSL_CTX_set_max_early_data(ctx, 0) == 1 && SSL_CTX_set_block_padding(ctx, RECORD_PAD) == 1)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    static const unsigned char both[] = "\x02h2\x08http/1.1", one[] = "\x08http/1.1";
    bool http2 = arg != NULL;
    unsigned char *chosen;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_len, http2 ? both : one, http2 ? sizeof both - 1 : sizeof one - 1, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool use_own_files(SSL_CTX *ctx, const struct tls_server *config, char why[TLS_WHY_MAX])
{
    if (config->key && SSL_CTX_use_certificate_chain_file(ctx, config->certificate) == 1 &&
        SSL_CTX_use_PrivateKey_file(ctx, config->key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ctx) == 1)
        return true;
    snprintf(why, TLS_WHY_MAX,
             "the configured certificate and key files cannot be used together: check both PEM files");
    return false;
}

static bool use_own_key(SSL_CTX *ctx, const struct tls_server *config, char why[TLS_WHY_MAX])
{
    EVP_PKEY *key = new_key(), *issuer_key = NULL;
    X509 *issuer = NULL, *cert = NULL;
    bool ok = key != NULL;

    if (ok && config->authority && !open_authority(config->authority, &issuer, &issuer_key)) {
        snprintf(why, TLS_WHY_MAX,
                 "no usable certificate authority in %.150s: remove it and its .key to have it made anew",
                 config->authority);
        ok = false;
    } else if (ok && !(cert = leaf_certificate(key, config->names, issuer, issuer_key))) {
        snprintf(why, TLS_WHY_MAX, "cannot make a certificate: check the configured names");
        ok = false;
    }
    ok = ok && SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    X509_free(cert);
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
    EVP_PKEY_free(key);
    return ok;
}

SSL_CTX *tls_server_open(const struct tls_server *config, char why[TLS_WHY_MAX])
{
    SSL_CTX *ctx = new_context(TLS_server_method());

    snprintf(why, TLS_WHY_MAX, "cannot set up TLS");
    if (!ctx)
        return NULL;
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, config->http2 ? ctx : NULL);
    if (config->certificate ? use_own_files(ctx, config, why) : use_own_key(ctx, config, why))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

SSL_CTX *tls_client_open(const char *ca_file, char why[TLS_WHY_MAX])
{
    SSL_CTX *ctx = new_context(TLS_client_method());

    snprintf(why, TLS_WHY_MAX, "cannot set up TLS");
    if (!ctx)
        return NULL;
    SSL_CTX_set_verify(ctx, ca_file ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1", 9) == 0 &&
        (!ca_file ||
         (ca_file[0] ? SSL_CTX_load_verify_locations(ctx, ca_file, NULL) : SSL_CTX_set_default_verify_paths(ctx)) == 1))
        return ctx;
    if (ca_file && ca_file[0])
        snprintf(why, TLS_WHY_MAX, "cannot read the certificates in %.200s", ca_file);
    SSL_CTX_free(ctx);
    return NULL;
}

/* --- what attestation binds --------------------------------------------------------------------------- */

bool tls_exporter(SSL *ssl, struct span challenge, uint8_t out[TLS_EXPORTER_LEN])
{
    static const char label[] = "EXPORTER-airlock-attest-v1";
    uint8_t context[SHA256_DIGEST_LENGTH];

    return SHA256(challenge.data, challenge.len, context) &&
           SSL_export_keying_material(ssl, out, TLS_EXPORTER_LEN, label, sizeof label - 1, context, sizeof context,
                                      1) == 1;
}

static bool spki_of(X509 *cert, struct writer *out)
{
    uint8_t *der = NULL;
    int len = cert ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
    bool ok = len > 0 && len <= TLS_SPKI_MAX;

    if (ok)
        writer_bytes(out, span_of(der, (size_t)len));
    OPENSSL_free(der);
    return ok && writer_ok(out);
}

bool tls_own_spki(SSL *ssl, struct writer *out)
{
    return spki_of(SSL_get_certificate(ssl), out);
}

bool tls_peer_spki(SSL *ssl, struct writer *out)
{
    return spki_of(SSL_get0_peer_certificate(ssl), out);
}
