/* tls.h - the TLS sessions of our own connections: TLS 1.3 only, ALPN airlock/1, both ends with a self-signed P-256
 * certificate whose key was made in this process and never leaves it. No tickets, resumption, PSK, early data,
 * compression, renegotiation or post-handshake authentication: a client that offers one is refused. The certificate's
 * form is checked and trusted for nothing: the attestation that follows binds its key. */
#ifndef TUNNEL_TLS_H
#define TUNNEL_TLS_H

#include "tunnel/frame.h"
#include "verifier/check.h"

#include <openssl/ssl.h>

#define TUNNEL_ALPN "airlock/1"

/* A fresh key and certificate with the contexts for both ends: one a process is enough. NULL: out of memory or
 * entropy. Yours: tunnel_tls_close() after the last session. */
struct tunnel_tls;
struct tunnel_tls *tunnel_tls_open(void);
void tunnel_tls_close(struct tunnel_tls *t);
/* DER SubjectPublicKeyInfo of our key; borrowed from `t`. */
struct span tunnel_tls_spki(const struct tunnel_tls *t);

/* --- for channel.c -------------------------------------------------------------------------------- */

/* A session over two fresh memory BIOs. `refused` gets the reason when one of our own callbacks refuses; it must live
 * as long as the session. NULL: out of memory. */
SSL *tunnel_tls_session(struct tunnel_tls *t, bool server, enum tunnel_err *refused);
/* Why the session broke, from `refused` or OpenSSL's error queue, which is emptied. */
enum tunnel_err tunnel_tls_reason(enum tunnel_err refused);
/* After the handshake: is everything as promised? Fills the facts and the peer's key (DER, to OPENSSL_free). */
enum tunnel_err tunnel_tls_check(SSL *ssl, struct verifier_session *facts, uint8_t **spki, size_t *spki_len);

#endif
