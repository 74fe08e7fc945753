#include "tunnel/tls.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdlib.h>

enum {
    CERTIFICATE_MAX = 1024, /* bytes of DER; ours has about 280 */
    SPKI_LEN = 91,          /* of a P-256 key with an uncompressed point */
    PADDING = 256,          /* records come in steps of so many bytes: token lengths do not show */
};

struct tunnel_tls {
    SSL_CTX *server, *client;
    EVP_PKEY *key;
    X509 *certificate;
    uint8_t *spki;
    int spki_len;
};

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    uint64_t serial = 0;
    bool good = x && name && RAND_bytes((unsigned char *)&serial, sizeof serial) == 1 &&
                X509_set_version(x, X509_VERSION_3) && ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) &&
                ASN1_TIME_set(X509_getm_notBefore(x), 0) &&
                ASN1_TIME_set_string_X509(X509_getm_notAfter(x), "99991231235959Z") && /* no date is ever looked at */
                X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"airlock", -1, -1, 0) &&
                X509_set_subject_name(x, name) && X509_set_issuer_name(x, name) && X509_set_pubkey(x, key) &&
                X509_sign(x, key, EVP_sha256()) > 0;
    X509_NAME_free(name);
    if (!good) {
        X509_free(x);
        return NULL;
    }
    return x;
}

/* Exactly the form that make_certificate() makes; whose it is does not matter here. */
static bool is_our_form(X509 *x)
{
    char group[32] = "";
    size_t group_len = 0;
    EVP_PKEY *key = X509_get0_pubkey(x);
    return key && i2d_X509(x, NULL) <= CERTIFICATE_MAX && X509_get_version(x) == X509_VERSION_3 &&
           X509_get_ext_count(x) == 0 && EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof group, &group_len) == 1 && strcmp(group, "prime256v1") == 0 &&
           i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), NULL) == SPKI_LEN &&
           X509_get_signature_nid(x) == NID_ecdsa_with_SHA256 && X509_self_signed(x, 1) == 1;
}

static void refuse(SSL *ssl, enum tunnel_err why)
{
    enum tunnel_err *refused = SSL_get_app_data(ssl);
    if (refused && !*refused)
        *refused = why;
}

static int verify_certificate(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    X509 *x = X509_STORE_CTX_get0_cert(store);
    (void)arg;
    if (x && sk_X509_num(X509_STORE_CTX_get0_untrusted(store)) == 1 && is_our_form(x))
        return 1;
    refuse(ssl, TUNNEL_E_TLS_CERTIFICATE);
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    return 0;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x09" TUNNEL_ALPN;
    (void)arg;
    if (in_len == sizeof ours - 1 && memcmp(in, ours, in_len) == 0) {
        *out = in + 1;
        *out_len = sizeof ours - 2;
        return SSL_TLSEXT_ERR_OK;
    }
    refuse(ssl, TUNNEL_E_TLS_ALPN);
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A hello that offers what we never do is refused, not just declined: on a resumed session the old certificate would
 * show although its key was not used. */
static int check_hello(SSL *ssl, int *alert, void *arg)
{
    static const unsigned refused[] = {TLSEXT_TYPE_psk, TLSEXT_TYPE_early_data, TLSEXT_TYPE_post_handshake_auth};
    const unsigned char *data;
    size_t len;
    (void)arg;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (SSL_client_hello_get0_ext(ssl, refused[i], &data, &len)) {
            refuse(ssl, TUNNEL_E_TLS_RESUMED);
            *alert = SSL_AD_HANDSHAKE_FAILURE;
            return SSL_CLIENT_HELLO_ERROR;
        }
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

static SSL_CTX *make_context(const struct tunnel_tls *t, bool server)
{
    SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!c)
        return NULL;
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(c, verify_certificate, NULL);
    SSL_CTX_set_max_cert_list(c, 2L * CERTIFICATE_MAX);
    SSL_CTX_set_read_ahead(c, 0);
    bool good = SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) && SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) &&
                SSL_CTX_set_ciphersuites(c, "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") &&
                SSL_CTX_set1_groups_list(c, "X25519:P-256") && SSL_CTX_set1_sigalgs_list(c, "ECDSA+SHA256") &&
                SSL_CTX_set_num_tickets(c, 0) && SSL_CTX_set_max_early_data(c, 0) &&
                SSL_CTX_set_block_padding(c, PADDING) && SSL_CTX_use_certificate(c, t->certificate) &&
                SSL_CTX_use_PrivateKey(c, t->key);
    if (server) {
        SSL_CTX_set_client_hello_cb(c, check_hello, NULL);
        SSL_CTX_set_alpn_select_cb(c, choose_alpn, NULL);
    } else {
        good = good && SSL_CTX_set_alpn_protos(c, (const unsigned char *)"\x09" TUNNEL_ALPN, 10) == 0;
    }
    if (!good) {
        SSL_CTX_free(c);
        return NULL;
    }
    return c;
}

struct tunnel_tls *tunnel_tls_open(void)
{
    struct tunnel_tls *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->key = EVP_EC_gen("P-256");
    t->certificate = t->key ? make_certificate(t->key) : NULL;
    t->spki_len = t->key ? i2d_PUBKEY(t->key, &t->spki) : -1;
    if (t->certificate && t->spki_len == SPKI_LEN) {
        t->server = make_context(t, true);
        t->client = make_context(t, false);
    }
    if (!t->server || !t->client) {
        tunnel_tls_close(t);
        return NULL;
    }
    return t;
}

void tunnel_tls_close(struct tunnel_tls *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->server);
    SSL_CTX_free(t->client);
    X509_free(t->certificate);
    EVP_PKEY_free(t->key);
    OPENSSL_free(t->spki);
    free(t);
}

struct span tunnel_tls_spki(const struct tunnel_tls *t)
{
    return span_of(t->spki, (size_t)t->spki_len);
}

SSL *tunnel_tls_session(struct tunnel_tls *t, bool server, enum tunnel_err *refused)
{
    SSL *ssl = SSL_new(server ? t->server : t->client);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (!ssl || !in || !out) {
        SSL_free(ssl);
        BIO_free(in);
        BIO_free(out);
        return NULL;
    }
    SSL_set_bio(ssl, in, out);
    SSL_set_app_data(ssl, refused);
    if (server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    return ssl;
}

enum tunnel_err tunnel_tls_reason(enum tunnel_err refused)
{
    int reason = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
    if (refused)
        return refused;
    switch (reason) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        return TUNNEL_E_TLS_VERSION;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
        return TUNNEL_E_TLS_ALPN;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_NO_CERTIFICATES_RETURNED:
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:
    case SSL_R_WRONG_SIGNATURE_TYPE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_WRONG_CERTIFICATE_TYPE:
    case SSL_R_UNKNOWN_CERTIFICATE_TYPE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        return TUNNEL_E_TLS_CERTIFICATE;
    default:
        return TUNNEL_E_TLS;
    }
}

enum tunnel_err tunnel_tls_check(SSL *ssl, struct verifier_session *facts, uint8_t **spki, size_t *spki_len)
{
    const unsigned char *alpn;
    unsigned alpn_len;
    bool reused = SSL_session_reused(ssl) != 0; /* also after an external PSK */
    *facts = (struct verifier_session){
        .tls13 = SSL_version(ssl) == TLS1_3_VERSION,
        .finished = SSL_is_init_finished(ssl) != 0,
        .resumed = reused,
        .psk = reused,
        .early_data = SSL_get_early_data_status(ssl) == SSL_EARLY_DATA_ACCEPTED,
        .post_handshake_auth = false, /* a client's offer is refused above; ours never offers, OpenSSL then refuses */
    };
    if (!facts->tls13)
        return TUNNEL_E_TLS_VERSION;
    if (facts->resumed || facts->early_data)
        return TUNNEL_E_TLS_RESUMED;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    if (!span_is(span_of(alpn, alpn_len), TUNNEL_ALPN))
        return TUNNEL_E_TLS_ALPN;
    X509 *x = SSL_get0_peer_certificate(ssl);
    if (!facts->finished || !x)
        return TUNNEL_E_TLS_CERTIFICATE;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), spki);
    if (len != SPKI_LEN)
        return TUNNEL_E_TLS_CERTIFICATE;
    *spki_len = (size_t)len;
    return TUNNEL_OK;
}
