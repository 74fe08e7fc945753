/* shim_req.c - requests and answers of the shim. After an h2o_send() that ends an answer the library may already have
 * disposed of the request: nothing here touches it afterwards. */
#include "proxy/hx.h"

#include "verifier/base/secret.h"

#include <openssl/rand.h>
#include <stdio.h>

const char *hx_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 417:
        return "Expectation Failed";
    case 421:
        return "Misdirected Request";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return status < 400 ? "OK" : "Error";
    }
}

static struct span span_iovec(h2o_iovec_t v)
{
    return span_of(v.base, v.len);
}

/* --- life ------------------------------------------------------------------------------------------ */

static void chunks_free(struct hx_chunk *c)
{
    for (struct hx_chunk *next; c; c = next) {
        next = c->next;
        secret_wipe(c->bytes, c->len);
        free(c);
    }
}

static void unlink_deferred(struct hx_req *r)
{
    struct hx_req **p = &r->conn->loop->deferred;

    while (*p && *p != r)
        p = &(*p)->next_deferred;
    if (*p)
        *p = r->next_deferred;
    r->is_deferred = false;
}

/* HTTP/2: the peer gave the stream up before its answer was complete. Too often, and the connection goes
 * (CVE-2023-44487, CVE-2025-8671). */
static void count_reset(struct hx_req *r)
{
    struct hx_conn *c = r->conn;

    if (c->http2 && ++c->resets >= c->loop->server->config.limits.resets)
        hx_conn_shut(c);
}

static void req_dispose(void *arg)
{
    struct hx_req *r = arg;
    struct hx_conn *c = r->conn;

    if (r->is_deferred)
        unlink_deferred(r);
    if (r->state == HX_WAITING)
        count_reset(r);
    r->state = HX_LOST;
    if (r->prev)
        r->prev->next = r->next;
    else
        c->reqs = r->next;
    if (r->next)
        r->next->prev = r->prev;
    chunks_free(r->waiting);
    chunks_free(r->in_flight);
    if (!c->http2 && r->req->entity.base)
        secret_wipe(r->req->entity.base, r->req->entity.len);
    atomic_fetch_sub(&c->loop->server->running, 1);
    if (r->gone)
        r->gone(r->watch_ctx);
}

static bool is_good_id(struct span id)
{
    if (id.len == 0 || id.len > HX_ID_MAX)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        uint8_t c = id.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
              c == '-'))
            return false;
    }
    return true;
}

void hx_make_id(char id[HX_ID_MAX + 1])
{
    uint8_t random[12];

    if (RAND_bytes(random, sizeof random) != 1)
        memset(random, 0, sizeof random);
    memcpy(id, "req-", 4);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + 4 + 2 * i, 3, "%02x", random[i]);
}

static void set_id(struct hx_req *r)
{
    struct span own = hx_req_header(r, "x-request-id");

    if (is_good_id(own)) {
        memcpy(r->id, own.data, own.len);
        r->id[own.len] = 0;
    } else {
        hx_make_id(r->id);
    }
}

static void on_proceed(h2o_generator_t *self, h2o_req_t *req);
static void on_stop(h2o_generator_t *self, h2o_req_t *req);

static struct hx_req *req_open(h2o_req_t *req, struct hx_conn *c)
{
    struct hx_req *r = h2o_mem_alloc_shared(&req->pool, sizeof *r, req_dispose);

    memset(r, 0, sizeof *r);
    r->generator.proceed = on_proceed;
    r->generator.stop = on_stop;
    r->req = req;
    r->conn = c;
    r->tail = &r->waiting;
    r->started_ms = r->progress_ms = hx_now_ms();
    r->next = c->reqs;
    if (r->next)
        r->next->prev = r;
    c->reqs = r;
    c->phase = HX_IDLE;
    c->served = true;
    c->since_ms = 0;
    atomic_fetch_add(&c->loop->server->running, 1);
    set_id(r);
    return r;
}

/* --- arrival --------------------------------------------------------------------------------------- */

static bool is_target_odd(struct span path)
{
    return path.len == 0 || (path.data[0] != '/' && !span_is(path, "*"));
}

/* What neither the library nor the handler checks. True: already refused. */
static bool refuse_malformed(struct hx_req *r)
{
    const struct hx_limits *limits = &r->conn->loop->server->config.limits;
    size_t head_size = 0;

    if (r->conn->shut) {
        hx_req_refuse(r, 503, "this connection is being closed");
        return true;
    }
    if (r->conn->http2 || !HX_SEES_HEAD) {
        for (size_t i = 0; i < r->req->headers.size; i++)
            head_size += r->req->headers.entries[i].name->len + r->req->headers.entries[i].value.len + 4;
    } else {
        /* The head is still at the start of the socket's input: the library parses in place and consumes at the end. */
        struct head head;
        enum head_err err = head_parse(&head, span_of(r->conn->sock->input->bytes, r->conn->sock->input->size));
        if (err != HEAD_OK) {
            hx_req_refuse(r, 400, head_err_text(err));
            return true;
        }
        head_size = head.size;
    }
    if (head_size > limits->head)
        hx_req_refuse(r, 431, "the request head is too large");
    else if (r->req->entity.len > limits->body)
        hx_req_refuse(r, 413, "the request body is too large");
    else if (is_target_odd(hx_req_path(r)))
        hx_req_refuse(r, 400, "the request target must be a path");
    else
        return false;
    return true;
}

static void run_deferred(void *arg)
{
    struct hx_loop *l = arg;
    const struct hx_handler *handler = &l->server->config.handler;

    while (l->deferred) {
        struct hx_req *r = l->deferred;
        unlink_deferred(r);
        handler->request(handler->ctx, r);
    }
}

int hx_on_req(h2o_handler_t *self, h2o_req_t *req)
{
    struct hx_server *s = ((struct hx_handler_slot *)self)->server;
    struct hx_conn *c = hx_conn_of(req);
    struct hx_req *r;

    if (!c) {
        h2o_send_error_503(req, "Service Unavailable", "", H2O_SEND_ERROR_HTTP1_CLOSE_CONNECTION);
        return 0;
    }
    r = req_open(req, c);
    if (refuse_malformed(r))
        return 0;
    if (!c->http2) {
        s->config.handler.request(s->config.handler.ctx, r);
        return 0;
    }
    /* One tick later: a stream that was reset at once costs nothing behind us. */
    r->is_deferred = true;
    r->next_deferred = c->loop->deferred;
    c->loop->deferred = r;
    if (!r->next_deferred && !hx_post(c->loop, run_deferred, c->loop))
        hx_req_refuse(r, 503, "out of memory");
    return 0;
}

struct span hx_req_method(const struct hx_req *r)
{
    return span_iovec(r->req->input.method);
}

struct span hx_req_path(const struct hx_req *r)
{
    struct span path = span_iovec(r->req->input.path);
    const uint8_t *q = path.len ? memchr(path.data, '?', path.len) : NULL;

    return q ? span_of(path.data, (size_t)(q - path.data)) : path;
}

struct span hx_req_query(const struct hx_req *r)
{
    struct span all = span_iovec(r->req->input.path);
    size_t path = hx_req_path(r).len;

    return path < all.len ? span_of(all.data + path + 1, all.len - path - 1) : span_of(NULL, 0);
}

struct span hx_req_header(const struct hx_req *r, const char *name)
{
    ssize_t at = h2o_find_header_by_str(&r->req->headers, name, strlen(name), -1);

    if (at < 0) { /* a header the library knows is found by its token alone */
        const h2o_token_t *token = h2o_lookup_token(name, strlen(name));
        at = token ? h2o_find_header(&r->req->headers, token, -1) : -1;
    }
    return at < 0 ? span_of(NULL, 0) : span_iovec(r->req->headers.entries[at].value);
}

struct span hx_req_host(const struct hx_req *r)
{
    return span_iovec(r->req->input.authority);
}

struct span hx_req_body(const struct hx_req *r)
{
    return span_iovec(r->req->entity);
}

const char *hx_req_id(const struct hx_req *r)
{
    return r->id;
}

struct hx_conn *hx_req_conn(const struct hx_req *r)
{
    return r->conn;
}

struct hx_loop *hx_req_loop(const struct hx_req *r)
{
    return r->conn->loop;
}

void hx_req_watch(struct hx_req *r, void (*gone)(void *ctx), void (*drained)(void *ctx), void *ctx)
{
    r->gone = gone;
    r->drained = drained;
    r->watch_ctx = ctx;
}

void hx_req_alarm(struct hx_req *r, unsigned ms, void (*ring)(void *ctx))
{
    r->ring = ring;
    r->ring_ms = hx_now_ms() + ms;
}

uint64_t hx_req_age_ms(const struct hx_req *r)
{
    return hx_now_ms() - r->started_ms;
}

void hx_req_close(struct hx_req *r)
{
    r->req->http1_is_persistent = 0;
}

/* --- answers --------------------------------------------------------------------------------------- */

static void add_header(h2o_req_t *req, const char *name, const char *value)
{
    h2o_iovec_t n = h2o_strdup(&req->pool, name, strlen(name)), v = h2o_strdup(&req->pool, value, strlen(value));

    h2o_add_header_by_str(&req->pool, &req->res.headers, n.base, n.len, 1, NULL, v.base, v.len);
}

static void begin(h2o_req_t *req, int status, const char *content_type, const char *cache, const char *id)
{
    memset(&req->res.headers, 0, sizeof req->res.headers);
    req->res.status = status;
    req->res.reason = hx_reason(status);
    if (content_type)
        add_header(req, "content-type", content_type);
    add_header(req, "cache-control", cache);
    add_header(req, "x-content-type-options", "nosniff");
    add_header(req, "x-request-id", id);
}

static bool is_head(h2o_req_t *req)
{
    return h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
}

/* A copy that lives as long as the request and is wiped with it: answers are secrets. */
struct answer {
    size_t len;
    char bytes[];
};

static void answer_dispose(void *arg)
{
    struct answer *a = arg;

    secret_wipe(a->bytes, a->len);
}

static h2o_iovec_t copy_answer(h2o_req_t *req, struct span body)
{
    struct answer *a = h2o_mem_alloc_shared(&req->pool, sizeof *a + body.len, answer_dispose);

    a->len = body.len;
    if (body.len > 0)
        memcpy(a->bytes, body.data, body.len);
    return h2o_iovec_init(a->bytes, a->len);
}

void hx_answer(struct hx_req *r, int status, const char *content_type, struct span body, const struct hx_header *more,
               size_t more_count)
{
    static h2o_generator_t whole = {NULL, NULL};
    h2o_req_t *req = r->req;

    if (r->state != HX_WAITING)
        return;
    r->state = HX_ANSWERED;
    if (r->conn->loop->draining)
        hx_req_close(r);
    begin(req, status, content_type, "no-store", r->id);
    for (size_t i = 0; i < more_count; i++)
        add_header(req, more[i].name, more[i].value);
    if (status != 204)
        req->res.content_length = body.len;
    h2o_iovec_t buf = copy_answer(req, body);
    h2o_start_response(req, &whole);
    h2o_send(req, &buf, is_head(req) || body.len == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

void hx_req_refuse(struct hx_req *r, int status, const char *message)
{
    char body[1024];

    hx_req_close(r);
    r->conn->loop->server->config.handler.error_body(status, message, body, sizeof body);
    hx_answer(r, status, "application/json", span_str(body), NULL, 0);
}

/* --- streams --------------------------------------------------------------------------------------- */

void hx_stream_open(struct hx_req *r, const char *content_type, const struct hx_header *more, size_t more_count)
{
    if (r->state != HX_WAITING)
        return;
    r->state = HX_STREAMING;
    r->progress_ms = hx_now_ms();
    begin(r->req, 200, content_type, "no-cache", r->id);
    for (size_t i = 0; i < more_count; i++)
        add_header(r->req, more[i].name, more[i].value);
    if (!r->conn->http2) {
        r->chunked = HX_FRAMES_CHUNKS && r->req->version == 0x101;
        if (r->chunked) /* the library then leaves the framing to us: one event, one record */
            add_header(r->req, "transfer-encoding", "chunked");
        if (r->req->version != 0x101 || r->conn->loop->draining)
            hx_req_close(r);
    }
    h2o_start_response(r->req, &r->generator);
}

bool hx_stream_is_open(const struct hx_req *r)
{
    return r->state == HX_STREAMING;
}

size_t hx_stream_unsent(const struct hx_req *r)
{
    return r->unsent;
}

static size_t take_batch(struct hx_req *r, h2o_iovec_t bufs[HX_BATCH])
{
    struct hx_chunk **tail = &r->in_flight;
    size_t n = 0;

    chunks_free(r->in_flight);
    r->in_flight = NULL;
    while (r->waiting && n < HX_BATCH) {
        struct hx_chunk *c = r->waiting;
        r->waiting = c->next;
        c->next = NULL;
        *tail = c;
        tail = &c->next;
        bufs[n++] = h2o_iovec_init(c->bytes, c->len);
        r->unsent -= c->len;
    }
    if (!r->waiting)
        r->tail = &r->waiting;
    return n;
}

/* Hand over what waits. The request may be gone when this returns. */
static void flush(struct hx_req *r)
{
    h2o_iovec_t bufs[HX_BATCH];
    h2o_send_state_t state = H2O_SEND_STATE_IN_PROGRESS;
    size_t n;

    if (r->is_writing || (r->state != HX_STREAMING && r->state != HX_ENDING))
        return;
    if (!r->waiting && r->state == HX_STREAMING)
        return;
    n = take_batch(r, bufs);
    if (r->state == HX_ENDING && !r->waiting) {
        state = r->is_broken ? H2O_SEND_STATE_ERROR : H2O_SEND_STATE_FINAL;
        r->state = HX_ANSWERED;
    }
    r->is_writing = true;
    h2o_send(r->req, bufs, n, state);
}

static void append(struct hx_req *r, struct span bytes, bool framed)
{
    size_t max = bytes.len + 24;
    struct hx_chunk *c = malloc(sizeof *c + max);

    if (!c) {
        r->is_broken = true;
        return;
    }
    c->next = NULL;
    c->len = framed ? (size_t)snprintf(c->bytes, max, "%zx\r\n", bytes.len) : 0;
    memcpy(c->bytes + c->len, bytes.data, bytes.len);
    c->len += bytes.len;
    if (framed) {
        memcpy(c->bytes + c->len, "\r\n", 2);
        c->len += 2;
    }
    *r->tail = c;
    r->tail = &c->next;
    r->unsent += c->len;
}

void hx_stream_send(struct hx_req *r, struct span bytes)
{
    if (r->state != HX_STREAMING || bytes.len == 0)
        return;
    append(r, bytes, r->chunked);
    if (r->is_broken || r->unsent > r->conn->loop->server->config.limits.unsent)
        hx_req_break(r);
    else
        flush(r);
}

void hx_stream_end(struct hx_req *r, bool complete)
{
    if (r->state != HX_STREAMING)
        return;
    if (!complete) {
        hx_req_break(r);
        return;
    }
    if (r->chunked)
        append(r, span_str("0\r\n\r\n"), false);
    r->state = HX_ENDING;
    flush(r);
}

void hx_req_break(struct hx_req *r)
{
    if (r->state == HX_WAITING) {
        hx_req_refuse(r, 503, "the server is going down");
        return;
    }
    if (r->state != HX_STREAMING && r->state != HX_ENDING)
        return;
    chunks_free(r->waiting);
    r->waiting = NULL;
    r->tail = &r->waiting;
    r->unsent = 0;
    r->is_broken = true;
    r->state = HX_ENDING;
    if (r->is_writing && !r->conn->http2) /* the library is waiting for the peer: only a dead socket ends that */
        hx_conn_shut(r->conn);
    else
        flush(r);
}

static void on_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    struct hx_req *r = (struct hx_req *)self;

    (void)req;
    r->is_writing = false;
    r->progress_ms = hx_now_ms();
    if (!r->waiting && r->state == HX_STREAMING && r->drained)
        r->drained(r->watch_ctx); /* may send more, or end the answer */
    else
        flush(r);
}

static void on_stop(h2o_generator_t *self, h2o_req_t *req)
{
    struct hx_req *r = (struct hx_req *)self;

    (void)req;
    if (r->state != HX_LOST)
        count_reset(r);
    r->state = HX_LOST;
}

/* --- the library's own errors ----------------------------------------------------------------------- */

struct swap {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void swap_send(h2o_ostream_t *self, h2o_req_t *req, hx_sendvec *bufs, size_t count, h2o_send_state_t state)
{
    struct swap *swap = (struct swap *)self;
    hx_sendvec out;

    (void)bufs;
    (void)count;
    (void)state;
#if HX_H2O_OLD
    out = swap->body;
#else
    h2o_sendvec_init_raw(&out, swap->body.base, swap->body.len);
#endif
    h2o_ostream_send_next(self, req, &out, is_head(req) ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static const char *library_message(int status)
{
    switch (status) {
    case 400:
        return "the request could not be read: malformed framing";
    case 413:
        return "the request body is too large";
    case 417:
        return "only Expect: 100-continue is supported";
    default:
        return "the request could not be served";
    }
}

void hx_filter_setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    const struct hx_handler *handler = &((struct hx_filter_slot *)self)->server->config.handler;
    char body[1024], id[HX_ID_MAX + 1];
    struct swap *swap;

    /* An answer without our header is the library's own, in plain text: say the same in the API's shape. */
    if (h2o_find_header_by_str(&req->res.headers, H2O_STRLIT("x-request-id"), -1) < 0) {
        handler->error_body(req->res.status, library_message(req->res.status), body, sizeof body);
        hx_make_id(id);
        begin(req, req->res.status, "application/json", "no-store", id);
        swap = (struct swap *)hx_add_ostream(req, sizeof *swap, slot);
        swap->super.do_send = swap_send;
        swap->body = h2o_strdup(&req->pool, body, strlen(body));
        req->res.content_length = swap->body.len;
        slot = &swap->super.next;
    }
    h2o_setup_next_ostream(req, slot);
}
