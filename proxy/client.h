/* client.h - one HTTP/1.1 connection over TLS 1.3 as a client: for `airlock connect` and `airlock verify`.
 * Blocking with deadlines; a connection belongs to one thread, only client_abort() may come from another.
 * Nothing is ever sent but what client_send() is given. */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include "proxy/response.h"
#include "verifier/airlock.h"
#include "verifier/base/writer.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

enum { CLIENT_WHY_MAX = 256, CLIENT_HOST_MAX = 256, CLIENT_ADDRESSES_MAX = 16, CLIENT_BUFFER = 16 << 10 };

/* https://HOST[:PORT][/...]; only host and port are kept. */
struct client_url {
    char host[CLIENT_HOST_MAX]; /* name or address, without brackets */
    char port[6];
};
MUST_CHECK bool client_url_parse(struct client_url *out, const char *url);

struct client_address {
    struct sockaddr_storage address;
    socklen_t len;
};
/* Every address of the host, in the resolver's order; 0 with `why` filled. */
size_t client_resolve(const struct client_url *url, struct client_address out[CLIENT_ADDRESSES_MAX],
                      char why[CLIENT_WHY_MAX]);

struct client_header {
    const char *name, *value;
};

struct client;

/* Connect and finish the TLS handshake. `host` is checked against the certificate and sent as SNI and Host; `ctx` of
 * tls_client_open() is borrowed. NULL with `why` filled. Yours: client_close(). */
struct client *client_open(SSL_CTX *ctx, const struct client_url *url, const struct client_address *address,
                           unsigned timeout_ms, char why[CLIENT_WHY_MAX]);
void client_close(struct client *c); /* NULL is fine */
/* Ends whatever the connection's thread waits for. Any thread, while the connection is open. */
void client_abort(struct client *c);
SSL *client_ssl(struct client *c);
/* Idle, and the peer has neither closed nor said anything. */
bool client_is_idle(struct client *c);
/* What the attestation needs to know about this session. */
struct airlock_session client_session(struct client *c);

/* Send one request. False: the connection is useless. */
MUST_CHECK bool client_send(struct client *c, const char *method, const char *path, const struct client_header *headers,
                            size_t header_count, struct span body, unsigned timeout_ms, char why[CLIENT_WHY_MAX]);
/* Wait for the head of the answer; borrowed until the next client_send(). NULL with `why` filled. */
const struct response *client_head(struct client *c, unsigned timeout_ms, char why[CLIENT_WHY_MAX]);
/* The next piece of the body, borrowed until the next call: true with a piece, or with an empty one at the complete
 * end; false when it broke off. */
MUST_CHECK bool client_body(struct client *c, unsigned timeout_ms, struct span *piece, char why[CLIENT_WHY_MAX]);
/* The whole body, at most `out`'s maximum. */
MUST_CHECK bool client_body_all(struct client *c, unsigned timeout_ms, struct writer *out, char why[CLIENT_WHY_MAX]);
/* After a complete answer: may the connection carry another request? */
bool client_is_reusable(const struct client *c);

#endif
