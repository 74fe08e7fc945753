/* tls.h - TLS settings of everything that speaks HTTP here: TLS 1.3 only, no tickets, no resumption, no early data,
 * records padded to 256 bytes so that the length of a token does not show (specs/platform § 0, 2, 6).
 * The server's key is made inside the process and never leaves it. Its certificate is self-signed, or signed at start
 * by a certificate authority of this machine whose file clients may be given; what clients trust is the attestation
 * of the key, not the certificate. An operator who wants a public certificate configures certificate and key files. */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include "verifier/base/writer.h"

#include <openssl/ssl.h>

enum { TLS_WHY_MAX = 256, TLS_NAMES_MAX = 16, TLS_EXPORTER_LEN = 32, TLS_SPKI_MAX = 4096 };

struct tls_server {
    const char *certificate, *key; /* PEM files of an operator's own certificate; both or neither */
    const char *authority; /* this machine's authority: certificate in this file, key in FILE.key; both made when
                              absent; NULL: self-signed */
    const char *names[TLS_NAMES_MAX]; /* DNS names and addresses the certificate is good for; NULL ends the list */
    bool http2;                       /* offer h2 before http/1.1 */
};

/* A context for a server, or NULL with `why` filled. Yours: SSL_CTX_free(). */
SSL_CTX *tls_server_open(const struct tls_server *config, char why[TLS_WHY_MAX]);
/* A context for a client. `ca_file`: certificates that must vouch for the server's name; TLS_SYSTEM_ROOTS: the
 * system's. NULL: the certificate is taken as it is, which is for a caller that attests the key behind it before it
 * sends anything: a certificate adds nothing to that. */
#define TLS_SYSTEM_ROOTS ""
SSL_CTX *tls_client_open(const char *ca_file, char why[TLS_WHY_MAX]);

/* What attestation binds (specs/protocol § Objects, leaf). */
/* EXPORTER-airlock-attest-v1 over SHA-256(challenge). */
MUST_CHECK bool tls_exporter(SSL *ssl, struct span challenge, uint8_t out[TLS_EXPORTER_LEN]);
/* DER SubjectPublicKeyInfo of our own certificate, or of the peer's. */
MUST_CHECK bool tls_own_spki(SSL *ssl, struct writer *out);
MUST_CHECK bool tls_peer_spki(SSL *ssl, struct writer *out);

#endif
