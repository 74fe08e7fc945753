#include "proxy/client.h"

#include "tunnel/resolve.h"

#include "verifier/base/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { RESOLVE_MS = 10000 };

struct client {
    int fd;
    SSL *ssl;
    struct client_url url;
    struct response response;
    size_t have, used; /* of `buffer` */
    uint8_t buffer[CLIENT_BUFFER];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- addresses --------------------------------------------------------------------------------------- */

bool client_url_parse(struct client_url *out, const char *url)
{
    const char *host = url, *end, *port = NULL;
    size_t len;

    if (strncasecmp(url, "https://", 8) != 0)
        return false;
    host += 8;
    if (*host == '[') {
        end = strchr(++host, ']');
        if (!end || (end[1] && end[1] != ':' && end[1] != '/'))
            return false;
        port = end[1] == ':' ? end + 2 : NULL;
    } else {
        end = host + strcspn(host, ":/?#");
        port = *end == ':' ? end + 1 : NULL;
    }
    len = (size_t)(end - host);
    if (len == 0 || len >= sizeof out->host)
        return false;
    memcpy(out->host, host, len);
    out->host[len] = 0;
    len = port ? strspn(port, "0123456789") : 0;
    if (port && (len == 0 || len > 5 || (port[len] && port[len] != '/')))
        return false;
    snprintf(out->port, sizeof out->port, "%.*s", port ? (int)len : 3, port ? port : "443");
    return true;
}

/* --- names: c-ares, which works behind a sandbox that libc's resolver does not --------------------------- */

struct lookup {
    bool done;
    size_t count;
    struct client_address *out;
    char *why;
    const char *host;
};

static void on_resolved(void *ctx, const struct tunnel_resolved *answer)
{
    struct lookup *l = ctx;

    l->done = true;
    if (!answer->good)
        snprintf(l->why, CLIENT_WHY_MAX, "cannot find an address of %.100s: %s", l->host,
                 answer->problem ? answer->problem : "nobody answers");
    for (size_t i = 0; answer->good && i < answer->count && l->count < CLIENT_ADDRESSES_MAX; i++) {
        l->out[l->count].len = tunnel_resolve_len(&answer->address[i]);
        memcpy(&l->out[l->count].address, &answer->address[i], l->out[l->count].len);
        l->count++;
    }
}

static bool look_up(struct lookup *l, const char *host, uint16_t port)
{
    struct tunnel_resolve *r = tunnel_resolve_open();
    uint64_t deadline = now_ms() + RESOLVE_MS;

    if (!r)
        return false;
    tunnel_resolve_ask(r, host, port, on_resolved, l);
    while (!l->done && now_ms() < deadline) {
        struct pollfd fds[TUNNEL_RESOLVE_FDS];
        int wait_ms = 1000;
        size_t n = tunnel_resolve_fds(r, fds, &wait_ms);
        if (poll(fds, n, wait_ms) < 0 && errno != EINTR)
            break;
        tunnel_resolve_step(r, fds, n);
    }
    tunnel_resolve_close(r); /* an unanswered question is answered with no */
    return l->done;
}

size_t client_resolve(const struct client_url *url, struct client_address out[CLIENT_ADDRESSES_MAX],
                      char why[CLIENT_WHY_MAX])
{
    struct lookup l = {.out = out, .why = why, .host = url->host};
    uint16_t port = (uint16_t)strtoul(url->port, NULL, 10);
    union tunnel_address literal;

    if (tunnel_resolve_literal(url->host, port, &literal)) {
        out[0].len = tunnel_resolve_len(&literal);
        memcpy(&out[0].address, &literal, out[0].len);
        return 1;
    }
    snprintf(why, CLIENT_WHY_MAX, "cannot find an address of %.100s", url->host);
    return look_up(&l, url->host, port) ? l.count : 0;
}

/* --- waiting ----------------------------------------------------------------------------------------- */

static bool wait_for(int fd, short events, uint64_t deadline)
{
    for (;;) {
        uint64_t now = now_ms();
        struct pollfd p = {.fd = fd, .events = events};
        int n = now < deadline ? poll(&p, 1, (int)(deadline - now)) : 0;
        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR)
            return false;
    }
}

/* After an SSL call returned `rc` <= 0: true when it may be tried again. */
static bool wait_ssl(struct client *c, int rc, uint64_t deadline)
{
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return wait_for(c->fd, POLLIN, deadline);
    case SSL_ERROR_WANT_WRITE:
        return wait_for(c->fd, POLLOUT, deadline);
    default:
        return false;
    }
}

/* --- opening ----------------------------------------------------------------------------------------- */

static bool connect_tcp(struct client *c, const struct client_address *address, uint64_t deadline,
                        char why[CLIENT_WHY_MAX])
{
    int one = 1, err = 0;
    socklen_t len = sizeof err;

    c->fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd >= 0)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->fd >= 0 && connect(c->fd, (const struct sockaddr *)&address->address, address->len) != 0)
        err = errno;
    if (c->fd >= 0 && err == EINPROGRESS) {
        err = ETIMEDOUT;
        if (wait_for(c->fd, POLLOUT, deadline))
            getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    }
    if (c->fd >= 0 && err == 0)
        return true;
    snprintf(why, CLIENT_WHY_MAX, "cannot connect to %.100s port %s: %s", c->url.host, c->url.port,
             strerror(c->fd < 0 ? errno : err));
    return false;
}

static bool set_name(struct client *c)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    uint8_t binary[16];

    if (inet_pton(AF_INET, c->url.host, binary) == 1 || inet_pton(AF_INET6, c->url.host, binary) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, c->url.host) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, c->url.host, 0) == 1 &&
           SSL_set_tlsext_host_name(c->ssl, c->url.host) == 1;
}

static bool handshake(struct client *c, SSL_CTX *ctx, uint64_t deadline, char why[CLIENT_WHY_MAX])
{
    int rc;
    long verified;

    ERR_clear_error();
    c->ssl = SSL_new(ctx);
    if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1 || !set_name(c)) {
        snprintf(why, CLIENT_WHY_MAX, "cannot set up TLS to %.100s", c->url.host);
        return false;
    }
    while ((rc = SSL_connect(c->ssl)) != 1)
        if (!wait_ssl(c, rc, deadline))
            break;
    if (rc == 1)
        return true;
    verified = SSL_get_verify_result(c->ssl);
    snprintf(why, CLIENT_WHY_MAX, "no TLS 1.3 session with %.100s port %s: %s", c->url.host, c->url.port,
             verified != X509_V_OK ? X509_verify_cert_error_string(verified) : "the handshake failed");
    return false;
}

struct client *client_open(SSL_CTX *ctx, const struct client_url *url, const struct client_address *address,
                           unsigned timeout_ms, char why[CLIENT_WHY_MAX])
{
    struct client *c = calloc(1, sizeof *c);
    uint64_t deadline = now_ms() + timeout_ms;

    if (!c) {
        snprintf(why, CLIENT_WHY_MAX, "out of memory");
        return NULL;
    }
    c->fd = -1;
    c->url = *url;
    if (connect_tcp(c, address, deadline, why) && handshake(c, ctx, deadline, why))
        return c;
    client_close(c);
    return NULL;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    if (c->ssl && SSL_is_init_finished(c->ssl))
        (void)SSL_shutdown(c->ssl); /* one try: tells the peer that we end here */
    SSL_free(c->ssl);
    if (c->fd >= 0)
        close(c->fd);
    secret_wipe(c->buffer, sizeof c->buffer);
    ERR_clear_error();
    free(c);
}

void client_abort(struct client *c)
{
    shutdown(c->fd, SHUT_RDWR);
}

SSL *client_ssl(struct client *c)
{
    return c->ssl;
}

bool client_is_idle(struct client *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN | POLLRDHUP};

    return c->have == c->used && SSL_pending(c->ssl) == 0 && poll(&p, 1, 0) == 0;
}

struct airlock_session client_session(struct client *c)
{
    return (struct airlock_session){
        .tls13 = SSL_version(c->ssl) == TLS1_3_VERSION,
        .finished = SSL_is_init_finished(c->ssl),
        .resumed = SSL_session_reused(c->ssl),
        .psk = SSL_get_psk_identity(c->ssl) != NULL,
        .early_data = SSL_get_early_data_status(c->ssl) == SSL_EARLY_DATA_ACCEPTED,
        .post_handshake_auth = SSL_get_certificate(c->ssl) != NULL, /* we hold none: nothing can have been shown */
    };
}

/* --- sending ----------------------------------------------------------------------------------------- */

static bool write_all(struct client *c, struct span bytes, uint64_t deadline, char why[CLIENT_WHY_MAX])
{
    ERR_clear_error();
    while (bytes.len > 0) {
        size_t piece = bytes.len < 16384 ? bytes.len : 16384, written = 0;
        int rc = SSL_write_ex(c->ssl, bytes.data, piece, &written);
        if (rc == 1) {
            bytes.data += written;
            bytes.len -= written;
        } else if (!wait_ssl(c, rc, deadline)) {
            snprintf(why, CLIENT_WHY_MAX, "the connection to %.100s ended while sending", c->url.host);
            return false;
        }
    }
    return true;
}

static bool is_clean(const char *value)
{
    for (; *value; value++)
        if (((unsigned char)*value < ' ' && *value != '\t') || *value == 0x7f)
            return false;
    return true;
}

bool client_send(struct client *c, const char *method, const char *path, const struct client_header *headers,
                 size_t header_count, struct span body, unsigned timeout_ms, char why[CLIENT_WHY_MAX])
{
    struct writer w = writer_with_max(64 << 10);
    uint64_t deadline = now_ms() + timeout_ms;
    bool v6 = strchr(c->url.host, ':') != NULL, ok = is_clean(path) && !strchr(path, ' ');

    writer_printf(&w, "%s %s HTTP/1.1\r\nhost: %s%s%s:%s\r\n", method, path, v6 ? "[" : "", c->url.host, v6 ? "]" : "",
                  c->url.port);
    for (size_t i = 0; i < header_count; i++) {
        ok = ok && is_clean(headers[i].value);
        writer_printf(&w, "%s: %s\r\n", headers[i].name, headers[i].value);
    }
    if (body.len > 0 || strcmp(method, "POST") == 0)
        writer_printf(&w, "content-length: %zu\r\n", body.len);
    writer_str(&w, "\r\n");
    response_init(&c->response, strcmp(method, "HEAD") == 0);
    if (!ok || !writer_ok(&w)) {
        snprintf(why, CLIENT_WHY_MAX, "the request's path or headers cannot be sent");
        ok = false;
    } else {
        ok = write_all(c, writer_span(&w), deadline, why) && write_all(c, body, deadline, why);
    }
    writer_release(&w);
    return ok;
}

/* --- receiving --------------------------------------------------------------------------------------- */

/* More bytes into the buffer; false at the end of the connection or the deadline. */
static bool fill(struct client *c, uint64_t deadline)
{
    size_t got = 0;
    int rc;

    ERR_clear_error();
    while ((rc = SSL_read_ex(c->ssl, c->buffer, sizeof c->buffer, &got)) != 1)
        if (!wait_ssl(c, rc, deadline))
            break;
    c->used = 0;
    c->have = rc == 1 ? got : 0;
    /* Only a close_notify is an end: a body without length must not be cut short by a forged FIN. */
    if (rc != 1 && SSL_get_error(c->ssl, rc) == SSL_ERROR_ZERO_RETURN)
        response_eof(&c->response);
    else if (rc != 1 && c->response.err == RESPONSE_OK)
        c->response.err = RESPONSE_E_TRUNCATED;
    return rc == 1;
}

static bool broken(struct client *c, char why[CLIENT_WHY_MAX])
{
    if (c->response.err == RESPONSE_OK)
        return false;
    snprintf(why, CLIENT_WHY_MAX, "%s", response_err_text(c->response.err));
    return true;
}

const struct response *client_head(struct client *c, unsigned timeout_ms, char why[CLIENT_WHY_MAX])
{
    uint64_t deadline = now_ms() + timeout_ms;
    struct span none;

    while (!response_has_head(&c->response)) {
        if (c->used == c->have && !fill(c, deadline)) {
            (void)broken(c, why);
            return NULL;
        }
        /* One byte at a time up to the end of the head, so that no body is consumed here. */
        c->used += response_feed(&c->response, span_of(c->buffer + c->used, 1), &none);
        if (broken(c, why))
            return NULL;
    }
    return &c->response;
}

bool client_body(struct client *c, unsigned timeout_ms, struct span *piece, char why[CLIENT_WHY_MAX])
{
    uint64_t deadline = now_ms() + timeout_ms;

    *piece = span_of(NULL, 0);
    while (!response_is_done(&c->response)) {
        if (c->used == c->have && !fill(c, deadline) && !response_is_done(&c->response)) {
            (void)broken(c, why);
            return false;
        }
        c->used += response_feed(&c->response, span_of(c->buffer + c->used, c->have - c->used), piece);
        if (broken(c, why))
            return false;
        if (piece->len > 0)
            return true;
    }
    return true;
}

bool client_body_all(struct client *c, unsigned timeout_ms, struct writer *out, char why[CLIENT_WHY_MAX])
{
    struct span piece;

    for (;;) {
        if (!client_body(c, timeout_ms, &piece, why))
            return false;
        if (piece.len == 0)
            return true;
        writer_bytes(out, piece);
        if (!writer_ok(out)) {
            snprintf(why, CLIENT_WHY_MAX, "the answer is longer than %zu bytes", out->max);
            return false;
        }
    }
}

bool client_is_reusable(const struct client *c)
{
    return response_is_done(&c->response) && c->response.keep_alive && c->used == c->have;
}
