/* shim_sweep.c - what the library does not watch, looked at every HX_SWEEP_MS on each loop:
 * a client that left while its HTTP/1.1 request waits (the library has stopped reading then), requests and answers
 * past their deadlines, and requests that can be refused before their body has arrived.
 * To refuse early we take the connection's read callback away, write the answer, linger until the peer has seen it,
 * and give the callback back, so that the library meets the end of the connection in its own way. */
#include "proxy/hx.h"

#include <poll.h>
#include <stdio.h>

static void linger_read(h2o_socket_t *sock, const char *err)
{
    struct hx_conn *c = sock->on_close.data;

    if (!err && sock->input->size > 0)
        h2o_buffer_consume(&sock->input, sock->input->size);
    if (err)
        c->parked(sock, err); /* closes */
}

static void refusal_sent(h2o_socket_t *sock, const char *err)
{
    struct hx_conn *c = sock->on_close.data;

    c->phase = HX_LINGER;
    c->since_ms = hx_now_ms();
    if (err)
        hx_conn_shut(c);
    else
        shutdown(h2o_socket_get_fd(sock), SHUT_WR);
    h2o_socket_read_start(sock, linger_read);
}

static void refuse(struct hx_conn *c, const struct hx_refusal *what)
{
    static const char format[] = "HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: application/json\r\n"
                                 "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
                                 "x-request-id: %s\r\n%s%s%s%scontent-length: %zu\r\n\r\n%s";
    bool more = what->header.name != NULL;
    char id[HX_ID_MAX + 1];
    int len;

    hx_make_id(id);
    len =
        asprintf(&c->refusal, format, what->status, hx_reason(what->status), id, more ? what->header.name : "",
                 more ? ": " : "", more ? what->header.value : "", more ? "\r\n" : "", strlen(what->body), what->body);
    if (len < 0) {
        c->refusal = NULL;
        hx_conn_shut(c);
        return;
    }
    c->phase = HX_REFUSED;
    c->since_ms = hx_now_ms();
    c->parked = c->sock->_cb.read;
    h2o_socket_read_stop(c->sock);
    h2o_iovec_t buf = h2o_iovec_init(c->refusal, (size_t)len);
    h2o_socket_write(c->sock, &buf, 1, refusal_sent);
}

static void refuse_with(struct hx_conn *c, int status, const char *message)
{
    struct hx_refusal what = {.status = status};

    c->loop->server->config.handler.error_body(status, message, what.body, sizeof what.body);
    refuse(c, &what);
}

static struct span path_of(struct span target)
{
    const uint8_t *q = target.len ? memchr(target.data, '?', target.len) : NULL;

    return q ? span_of(target.data, (size_t)(q - target.data)) : target;
}

/* The head is whole, the body is not: can we say no already? */
static void look_at_head(struct hx_conn *c, const struct head *head, size_t have)
{
    const struct hx_config *config = &c->loop->server->config;
    struct hx_early early = {head->method, path_of(head->target), head->authorization, c->peer};
    struct hx_refusal what = {0};

    if (head->size > config->limits.head)
        refuse_with(c, 431, "the request head is too large");
    else if (config->handler.early && config->handler.early(config->handler.ctx, &early, &what))
        refuse(c, &what);
    else if ((head->has_length && head->length > config->limits.body) || have - head->size > config->limits.body)
        refuse_with(c, 413, "the request body is too large");
}

static void enter(struct hx_conn *c, enum hx_phase phase, uint64_t now)
{
    if (c->phase != phase)
        c->since_ms = now;
    c->phase = phase;
}

/* A connection whose request is still arriving. */
static void look_at_input(struct hx_conn *c, uint64_t now)
{
    const struct hx_limits *limits = &c->loop->server->config.limits;
    struct span input = span_of(c->sock->input->bytes, c->sock->input->size);
    struct head head;
    enum head_err err;

    if (!HX_SEES_HEAD || input.len == 0) {
        enter(c, HX_IDLE, now);
        return;
    }
    err = head_parse(&head, input);
    if (err == HEAD_INCOMPLETE) {
        enter(c, HX_HEAD, now);
        if (input.len > limits->head)
            refuse_with(c, 431, "the request head is too large");
        else if (now - c->since_ms > limits->head_ms)
            refuse_with(c, 408, "the request head took too long");
    } else if (err != HEAD_OK) {
        refuse_with(c, 400, head_err_text(err));
    } else {
        enter(c, HX_BODY, now);
        if (now - c->since_ms > limits->body_ms)
            refuse_with(c, 408, "the request body took too long");
        else
            look_at_head(c, &head, input.len);
    }
}

/* Reading in the library's hands: the handshake is over and no answer of ours or the library's is under way. */
static bool is_reading(const struct hx_conn *c)
{
    bool tls = c->loop->server->config.tls != NULL;

    return !c->http2 && !c->shut && (!tls || c->ssl) && c->phase != HX_REFUSED && c->phase != HX_LINGER &&
           c->sock->_cb.read && !c->sock->_cb.write;
}

static void look_at_requests(struct hx_conn *c, uint64_t now)
{
    const struct hx_limits *limits = &c->loop->server->config.limits;

    for (struct hx_req *r = c->reqs, *next; r; r = next) {
        bool late = now - r->started_ms > limits->request_ms;
        bool stalled = r->is_writing && now - r->progress_ms > limits->stall_ms;
        next = r->next;
        if (r->ring_ms && now >= r->ring_ms && (r->state == HX_WAITING || r->state == HX_STREAMING)) {
            r->ring_ms = 0;
            r->ring(r->watch_ctx);
            continue;
        }
        if (stalled || (late && r->state == HX_ANSWERED)) {
            hx_conn_shut(c);
            return;
        }
        if (late && r->state == HX_WAITING)
            hx_req_refuse(r, 504, "the request took too long");
        else if (late)
            hx_req_break(r);
    }
}

static void poll_gone(struct pollfd *fds, struct hx_conn **conns, nfds_t count)
{
    if (count == 0 || poll(fds, count, 0) <= 0)
        return;
    for (nfds_t i = 0; i < count; i++) {
        if (!(fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)))
            continue;
        struct hx_req *r = conns[i]->reqs;
        hx_conn_shut(conns[i]);
        if (r)
            hx_req_break(r); /* HTTP/1.1 has one; the connection may be gone now */
    }
}

/* Clients that left while they wait for an HTTP/1.1 answer. HTTP/2 is always being read, so the library sees it. */
static void look_for_gone(struct hx_loop *l)
{
    struct pollfd fds[HX_SWEEP_FDS];
    struct hx_conn *conns[HX_SWEEP_FDS], *c = l->conns;

    while (c) {
        nfds_t count = 0;
        for (; c && count < HX_SWEEP_FDS; c = c->next) {
            if (c->http2 || c->shut || !c->reqs)
                continue;
            conns[count] = c;
            fds[count++] = (struct pollfd){.fd = h2o_socket_get_fd(c->sock), .events = POLLRDHUP};
        }
        poll_gone(fds, conns, count);
    }
}

/* Over the budget for unfinished requests: the connection that holds most of it goes. */
static void keep_budget(struct hx_loop *l)
{
    size_t total = 0;
    struct hx_conn *worst = NULL;

    for (struct hx_conn *c = l->conns; c; c = c->next) {
        if (c->reqs || c->shut || !c->sock->input)
            continue;
        total += c->sock->input->size;
        if (!worst || c->sock->input->size > worst->sock->input->size)
            worst = c;
    }
    if (total > l->server->config.limits.buffered && worst)
        hx_conn_shut(worst);
}

void hx_sweep(struct hx_loop *l)
{
    uint64_t now = hx_now_ms();

    look_for_gone(l);
    for (struct hx_conn *c = l->conns, *next; c; c = next) {
        next = c->next;
        if (c->phase == HX_REFUSED || c->phase == HX_LINGER) {
            if (now - c->since_ms > HX_LINGER_MS)
                hx_conn_shut(c);
        } else if (c->reqs) {
            look_at_requests(c, now);
        } else if (is_reading(c)) {
            look_at_input(c, now);
            /* a newcomer may still ask and hear that we are leaving */
            if (l->draining && c->phase == HX_IDLE && (c->served || now - c->accepted_ms > HX_FAREWELL_MS))
                hx_conn_shut(c);
        }
    }
    keep_budget(l);
}
