/* shim.h - "hx": the only door to libh2o. Nothing else in the project includes h2o.h.
 * One server is one listening socket served by a few threads, each with its own event loop. It speaks HTTP/1.1 (and,
 * only when configured, HTTP/2) over TLS 1.3 or, for a loopback listener, plain HTTP. It keeps the limits of
 * specs/openai-api § 1 and works around what specs/platform § 0, 1 and 3 measured in libh2o 2.2.5:
 * bodies never spill to disk, a silent HTTP/1.1 disconnect is noticed, a stream-reset flood closes its connection,
 * ambiguous framing is refused, a refused request's remaining bytes are never read as a request.
 *
 * Threads: request() and every callback run on the loop thread that owns the connection; all hx_req_ and hx_conn_
 * calls are for that thread only. hx_post() is the one call that other threads may make. */
#ifndef PROXY_SHIM_H
#define PROXY_SHIM_H

#include "verifier/base/span.h"

#include <netinet/in.h>
#include <openssl/ssl.h>

struct hx_server;
struct hx_loop;
struct hx_conn;
struct hx_req;

enum { HX_ID_MAX = 128, HX_WHY_MAX = 256, HX_EXPORTER_LEN = 32 };

struct hx_limits {
    size_t head;          /* bytes of a request head; more is 431 */
    size_t body;          /* bytes of a request body; more is 413 */
    size_t buffered;      /* bytes of unfinished requests over all connections of a loop */
    size_t unsent;        /* bytes of one answer that wait for a slow reader */
    unsigned head_ms;     /* from the first byte of a head to its end */
    unsigned body_ms;     /* from the end of the head to the end of the body; also how long a connection may idle */
    unsigned request_ms;  /* whole life of a request */
    unsigned stall_ms;    /* an answer whose reader takes nothing for this long */
    unsigned connections; /* a loop's connections */
    unsigned per_address; /* a loop's connections from one source (tunnel/source.h) */
    unsigned resets;      /* HTTP/2 streams a peer may reset before its connection is closed */
};

struct hx_header {
    const char *name; /* lower case */
    const char *value;
};

/* What to say to a request whose body has not been read: the answer is sent and the connection closed. */
struct hx_refusal {
    int status;
    char body[1024];         /* JSON */
    struct hx_header header; /* one more header, or name NULL */
};

/* What may be asked of a request before its body has arrived. Borrowed until the call returns. */
struct hx_early {
    struct span method, path, authorization;
    struct sockaddr_storage peer;
};

struct hx_handler {
    void *ctx;
    /* A request is complete: head and body. Answer it now or later, on this thread, exactly once. */
    void (*request)(void *ctx, struct hx_req *req);
    /* True fills `*out` and refuses a request whose body is still on its way. NULL: never. */
    bool (*early)(void *ctx, const struct hx_early *in, struct hx_refusal *out);
    /* The connection that held `data` (hx_conn_data) is gone. NULL: nothing to free. */
    void (*conn_gone)(void *ctx, void *data);
    /* {"error":...} for a refusal that the server itself makes. Writes a string of at most `cap` bytes. */
    void (*error_body)(int status, const char *message, char *out, size_t cap);
};

struct hx_config {
    int listen_fd;    /* listening, non-blocking; given away */
    SSL_CTX *tls;     /* borrowed until hx_stop(); NULL: plain HTTP. See proxy/tls.h */
    bool http2;       /* offer h2 as well */
    unsigned threads; /* 1 to 16 */
    struct hx_limits limits;
    struct hx_handler handler;
};

/* The limits of specs/openai-api § 1 and specs/platform § 3. */
struct hx_limits hx_limits_default(void);
/* A listening socket on `host` (numeric) and `port` (0: any), or -1 with `why` filled. */
int hx_listen(const char *host, uint16_t port, char why[HX_WHY_MAX]);
/* Start the threads. NULL with `why` filled; the listening socket is closed then too. */
struct hx_server *hx_start(const struct hx_config *config, char why[HX_WHY_MAX]);
uint16_t hx_port(const struct hx_server *s);
/* End connections after their present answer and idle ones now, let running requests finish. New connections are still
 * accepted, so that they can be told; hx_abandon() and hx_stop() end that. */
void hx_drain(struct hx_server *s);
/* Requests that are being served. Any thread. */
unsigned hx_running(const struct hx_server *s);
unsigned hx_connections(const struct hx_server *s);
/* End every request and connection and accept no more; the loops still run and take messages. */
void hx_abandon(struct hx_server *s);
/* Close every connection, end the threads, free everything. NULL is fine. Nobody may hx_post() any more. */
void hx_stop(struct hx_server *s);

/* --- requests ----------------------------------------------------------------------------------- */
struct span hx_req_method(const struct hx_req *r);
struct span hx_req_path(const struct hx_req *r);  /* as sent, up to '?' */
struct span hx_req_query(const struct hx_req *r); /* after '?', maybe empty */
/* The first header of that (lower case) name; empty with data NULL when absent. */
struct span hx_req_header(const struct hx_req *r, const char *name);
struct span hx_req_host(const struct hx_req *r);
struct span hx_req_body(const struct hx_req *r); /* wiped when the request is gone */
/* Unique, or the client's own x-request-id when that is [A-Za-z0-9._-]{1,128}. */
const char *hx_req_id(const struct hx_req *r);
struct hx_conn *hx_req_conn(const struct hx_req *r);
struct hx_loop *hx_req_loop(const struct hx_req *r);
/* `gone(ctx)` runs exactly once, when the request is finished or its client left; the request is dead then.
 * `drained(ctx)` (may be NULL) runs when a stream has nothing left that waits for its reader. */
void hx_req_watch(struct hx_req *r, void (*gone)(void *ctx), void (*drained)(void *ctx), void *ctx);
/* Run `ring(ctx)` of hx_req_watch's ctx once, about `ms` from now, while the request lives; a new call replaces it. */
void hx_req_alarm(struct hx_req *r, unsigned ms, void (*ring)(void *ctx));
/* Milliseconds since the request was complete. */
uint64_t hx_req_age_ms(const struct hx_req *r);
/* Close the connection after this answer. */
void hx_req_close(struct hx_req *r);

/* The whole answer. Adds content-length, x-request-id, cache-control: no-store, nosniff. Copies everything. */
void hx_answer(struct hx_req *r, int status, const char *content_type, struct span body, const struct hx_header *more,
               size_t more_count);
/* A streamed answer of status 200: each hx_stream_send() becomes one record on the wire, copied and queued while the
 * reader is slow. Over the `unsent` limit the connection is closed. hx_stream_end(false) breaks the connection so that
 * the answer cannot look complete. */
void hx_stream_open(struct hx_req *r, const char *content_type, const struct hx_header *more, size_t more_count);
void hx_stream_send(struct hx_req *r, struct span bytes);
void hx_stream_end(struct hx_req *r, bool complete);
bool hx_stream_is_open(const struct hx_req *r);
/* Bytes that wait for the reader. */
size_t hx_stream_unsent(const struct hx_req *r);

/* --- connections -------------------------------------------------------------------------------- */
void *hx_conn_data(const struct hx_conn *c);
void hx_conn_set_data(struct hx_conn *c, void *data); /* owned by the handler; see conn_gone */
void hx_conn_peer(const struct hx_conn *c, struct sockaddr_storage *out);
/* The TLS session of a finished handshake; NULL on a plain listener. Borrowed while the connection lives. */
SSL *hx_conn_ssl(const struct hx_conn *c);

/* Run `run(arg)` on the loop's thread, in the order of posting. Any thread. False when memory is short. */
MUST_CHECK bool hx_post(struct hx_loop *loop, void (*run)(void *arg), void *arg);

#endif
