/* airlock_openssl.h - what airlock_input wants to know of a TLS session, from OpenSSL (3.0 and later). Functions that
 * are compiled into your program: libairlock itself does no TLS. Call after the handshake, on the connection that
 * carried the challenge and will carry prompts. */
#ifndef AIRLOCK_OPENSSL_H
#define AIRLOCK_OPENSSL_H

#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <string.h>

#include "airlock.h"

/* Room for what airlock_openssl() points to. Keep it as long as `in`. */
struct airlock_openssl {
    uint8_t exporter[32];
    uint8_t *spki; /* OPENSSL_free() it */
};

/* Fill spki, exporter and session of `in`, whose challenge must be set. 0, or -1: no certificate, no TLS 1.3 exporter.
 */
static inline int airlock_openssl(SSL *tls, struct airlock_input *in, struct airlock_openssl *room)
{
    X509 *cert = SSL_get0_peer_certificate(tls);
    uint8_t context[SHA256_DIGEST_LENGTH];
    int len;

    room->spki = NULL;
    len = cert ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &room->spki) : -1;
    if (len <= 0 || !SHA256(in->challenge.data, in->challenge.len, context) ||
        SSL_export_keying_material(tls, room->exporter, sizeof room->exporter, AIRLOCK_EXPORTER_LABEL,
                                   strlen(AIRLOCK_EXPORTER_LABEL), context, sizeof context, 1) != 1)
        return -1;
    in->spki.data = room->spki;
    in->spki.len = (size_t)len;
    in->exporter = room->exporter;
    memset(&in->session, 0, sizeof in->session);
    in->session.tls13 = SSL_version(tls) == TLS1_3_VERSION;
    in->session.finished = SSL_is_init_finished(tls) == 1;
    in->session.resumed = SSL_session_reused(tls) != 0;
    return 0;
}

#endif
