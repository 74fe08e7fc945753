/* airlock_openssl.h - for clients over OpenSSL (3.0 and later): what airlock_input wants to know of a TLS session, and
 * the whole check of a proxy with its engines in one call. Functions that are compiled into your program: libairlock
 * itself does no TLS. Call after the handshake, on the connection that will carry the prompts. */
#ifndef AIRLOCK_OPENSSL_H
#define AIRLOCK_OPENSSL_H

#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

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
                                   strlen(AIRLOCK_EXPORTER_LABEL), context, sizeof context, 1) != 1) {
        OPENSSL_free(room->spki);
        room->spki = NULL;
        return -1;
    }
    in->spki.data = room->spki;
    in->spki.len = (size_t)len;
    in->exporter = room->exporter;
    memset(&in->session, 0, sizeof in->session);
    in->session.tls13 = SSL_version(tls) == TLS1_3_VERSION;
    in->session.finished = SSL_is_init_finished(tls) == 1;
    in->session.resumed = SSL_session_reused(tls) != 0;
    return 0;
}

/* One POST over `io`, a buffering BIO on the session; `headers`: lines that end in CRLF. The body of the answer goes
 * to `out`; its length, or 0 when the answer is not a whole 200 with a content-length of at most `cap`. */
static inline size_t airlock_openssl_post(BIO *io, const char *path, const char *headers, struct airlock_span body,
                                          uint8_t *out, size_t cap)
{
    char line[1024];
    size_t have = 0, want = 0;
    int good, n = 1;

    BIO_printf(io, "POST %s HTTP/1.1\r\nHost: airlock\r\n%sContent-Length: %zu\r\n\r\n", path, headers, body.len);
    if (BIO_write(io, body.data, (int)body.len) != (int)body.len || BIO_flush(io) != 1 ||
        BIO_gets(io, line, sizeof line) <= 0)
        return 0;
    good = strncmp(line, "HTTP/1.1 200 ", 13) == 0;
    while (BIO_gets(io, line, sizeof line) > 2)
        if (strncasecmp(line, "content-length:", 15) == 0)
            want = strtoul(line + 15, NULL, 10);
    for (; n > 0 && have < want && want <= cap; have += n > 0 ? (size_t)n : 0)
        n = BIO_read(io, out + have, (int)(want - have));
    return good && have == want ? want : 0;
}

/* Challenge the proxy at the far end of `io` and judge its answer and up to 8 engines that serve `model`, by `rules`,
 * now. 0 accepted: prompts may follow on this connection; 1 refused, -1 could not check: nothing may. `verdict` says
 * why; set its size, and its `seen` to what you stored of the last one, or to zero. `buffer`: room for the envelope,
 * 1 MiB. */
static inline int airlock_openssl_verify(BIO *io, SSL *tls, const struct airlock_rules *rules, const char *model,
                                         uint8_t *buffer, size_t cap, struct airlock_verdict *verdict)
{
    uint8_t nonce[32], challenge[AIRLOCK_CHALLENGE_MAX];
    struct airlock_ask ask = {sizeof ask, AIRLOCK_CLIENT, AIRLOCK_PROXY, nonce, 1, model, 8, NULL, 0};
    struct airlock_input in;
    struct airlock_openssl room = {{0}, NULL};
    struct airlock_seen seen = verdict->seen;
    struct airlock_claims *claims;
    int accepted;

    memset(&in, 0, sizeof in);
    in.size = sizeof in;
    in.verifier = AIRLOCK_CLIENT;
    in.attester = AIRLOCK_PROXY;
    in.now = (uint64_t)time(NULL);
    in.challenge.data = challenge;
    in.envelope.data = buffer;
    if (RAND_bytes(nonce, sizeof nonce) != 1 ||
        airlock_challenge(&ask, challenge, sizeof challenge, &in.challenge.len) != 0 ||
        !(in.envelope.len = airlock_openssl_post(io, "/.well-known/airlock/attest",
                                                 "Content-Type: application/msgpack\r\n", in.challenge, buffer, cap)) ||
        airlock_openssl(tls, &in, &room) != 0)
        return -1;
    claims = airlock_check(&in, &verdict->result);
    accepted = claims && airlock_judge(claims, rules, &seen, in.now, verdict) == 0;
    airlock_claims_free(claims);
    OPENSSL_free(room.spki);
    return accepted ? 0 : 1;
}

#endif
