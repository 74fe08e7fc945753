/* shim.c - servers, loops and connections of the shim. */
#include "proxy/hx.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>

struct hx_limits hx_limits_default(void)
{
    return (struct hx_limits){
        .head = 64 << 10,
        .body = 32 << 20,
        .buffered = 256 << 20,
        .unsent = 4 << 20,
        .head_ms = 10000,
        .body_ms = 60000,
        .request_ms = 1800000,
        .stall_ms = 60000,
        .connections = 4096,
        .per_address = 1024,
        .resets = 100,
    };
}

uint64_t hx_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int hx_listen(const char *host, uint16_t port, char why[HX_WHY_MAX])
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    socklen_t len;
    int fd, one = 1;

    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        len = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        len = sizeof *v6;
    } else {
        snprintf(why, HX_WHY_MAX, "'%.100s' is not a numeric address to listen on", host);
        return -1;
    }
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 1024) != 0) {
        snprintf(why, HX_WHY_MAX, "cannot listen on %.100s port %u: %s", host, port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* --- connections --------------------------------------------------------------------------------- */

static bool over_limits(const struct hx_loop *l, const uint8_t source[TUNNEL_SOURCE_LEN])
{
    const struct hx_limits *limits = &l->server->config.limits;
    unsigned same = 0;

    if (l->conn_count >= limits->connections)
        return true;
    for (const struct hx_conn *c = l->conns; c; c = c->next)
        same += source[0] != 0 && memcmp(c->source, source, TUNNEL_SOURCE_LEN) == 0;
    return same >= limits->per_address;
}

static void conn_free(void *arg)
{
    struct hx_conn *c = arg;
    struct hx_loop *l = c->loop;

    if (c->prev)
        c->prev->next = c->next;
    else
        l->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    l->conn_count--;
    atomic_fetch_sub(&l->server->connections, 1);
    if (c->data && l->server->config.handler.conn_gone)
        l->server->config.handler.conn_gone(l->server->config.handler.ctx, c->data);
    free(c->refusal);
    free(c);
}

static void conn_accepted(struct hx_loop *l, h2o_socket_t *sock)
{
    struct hx_conn *c = calloc(1, sizeof *c);

    if (c) {
        h2o_socket_getpeername(sock, (struct sockaddr *)&c->peer);
        tunnel_source_key((struct sockaddr *)&c->peer, c->source);
    }
    if (!c || over_limits(l, c->source)) {
        free(c);
        h2o_socket_close(sock);
        return;
    }
    c->loop = l;
    c->sock = sock;
    c->accepted_ms = hx_now_ms();
    c->next = l->conns;
    if (c->next)
        c->next->prev = c;
    l->conns = c;
    l->conn_count++;
    atomic_fetch_add(&l->server->connections, 1);
    sock->on_close.cb = conn_free; /* on_close belongs to the application */
    sock->on_close.data = c;
    h2o_accept(&l->accept, sock);
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct hx_loop *l = listener->data;
    h2o_socket_t *sock;

    if (err)
        return;
    for (int i = 0; i < 16 && (sock = h2o_evloop_socket_accept(listener)); i++)
        conn_accepted(l, sock);
}

/* The library's BIO holds its socket, whose on_close data is our connection. */
static void on_tls_info(const SSL *ssl, int where, int ret)
{
    h2o_socket_t *sock;
    struct hx_conn *c;
    const unsigned char *alpn = NULL;
    unsigned alpn_len = 0;

    (void)ret;
    if (!(where & SSL_CB_HANDSHAKE_DONE) || !(sock = BIO_get_data(SSL_get_rbio(ssl))) || !(c = sock->on_close.data))
        return;
    c->ssl = (SSL *)ssl;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    c->http2 = alpn_len == 2 && memcmp(alpn, "h2", 2) == 0;
}

void hx_conn_shut(struct hx_conn *c)
{
    if (!c->shut)
        shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
    c->shut = true;
}

struct hx_conn *hx_conn_of(h2o_req_t *req)
{
#if HX_H2O_OLD
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
#else
    /* Newer libraries do not hand out the socket: the peer's address and port name the connection. */
    struct hx_loop *l = H2O_STRUCT_FROM_MEMBER(struct hx_loop, context, req->conn->ctx);
    struct sockaddr_storage peer = {0};
    req->conn->callbacks->get_peername(req->conn, (struct sockaddr *)&peer);
    for (struct hx_conn *c = l->conns; c; c = c->next)
        if (h2o_socket_compare_address((struct sockaddr *)&c->peer, (struct sockaddr *)&peer, 1) == 0)
            return c;
    return NULL;
#endif
}

void *hx_conn_data(const struct hx_conn *c)
{
    return c->data;
}

void hx_conn_set_data(struct hx_conn *c, void *data)
{
    c->data = data;
}

void hx_conn_peer(const struct hx_conn *c, struct sockaddr_storage *out)
{
    *out = c->peer;
}

SSL *hx_conn_ssl(const struct hx_conn *c)
{
    return c->ssl;
}

/* --- timers, messages ----------------------------------------------------------------------------- */

void hx_timer_start(struct hx_loop *l, struct hx_timer *t, void (*cb)(hx_timer_entry *))
{
    t->entry.cb = cb;
#if HX_H2O_OLD
    h2o_timeout_init(l->context.loop, &t->list, HX_SWEEP_MS);
#endif
    hx_timer_again(l, t);
}

void hx_timer_again(struct hx_loop *l, struct hx_timer *t)
{
#if HX_H2O_OLD
    h2o_timeout_link(l->context.loop, &t->list, &t->entry);
#else
    h2o_timer_link(l->context.loop, HX_SWEEP_MS, &t->entry);
#endif
}

void hx_timer_stop(struct hx_loop *l, struct hx_timer *t)
{
#if HX_H2O_OLD
    h2o_timeout_unlink(&t->entry);
    h2o_timeout_dispose(l->context.loop, &t->list);
#else
    (void)l;
    h2o_timer_unlink(&t->entry);
#endif
}

struct message {
    h2o_multithread_message_t super;
    void (*run)(void *arg);
    void *arg;
};

bool hx_post(struct hx_loop *loop, void (*run)(void *arg), void *arg)
{
    struct message *m = calloc(1, sizeof *m);

    if (!m)
        return false;
    m->run = run;
    m->arg = arg;
    h2o_multithread_send_message(&loop->inbox, &m->super);
    return true;
}

static void on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    (void)receiver;
    while (!h2o_linklist_is_empty(messages)) {
        struct message *m = H2O_STRUCT_FROM_MEMBER(struct message, super.link, messages->next);
        h2o_linklist_unlink(&m->super.link);
        m->run(m->arg);
        free(m);
    }
}

static void on_sweep(hx_timer_entry *entry)
{
    struct hx_loop *l = H2O_STRUCT_FROM_MEMBER(struct hx_loop, sweep.entry, entry);

    hx_timer_again(l, &l->sweep);
    hx_sweep(l);
}

/* --- loops ----------------------------------------------------------------------------------------- */

static void loop_listen(struct hx_loop *l)
{
    int fd = dup(l->server->config.listen_fd);

    if (fd < 0)
        return;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    l->listener = h2o_evloop_socket_create(l->context.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    l->listener->data = l;
    h2o_socket_read_start(l->listener, on_accept);
}

/* On the loop's own thread: the library's buffers remember the thread that made them. */
static void loop_open(struct hx_loop *l)
{
    struct hx_server *s = l->server;

    h2o_context_init(&l->context, h2o_evloop_create(), &s->global);
    l->accept.ctx = &l->context;
    l->accept.hosts = s->global.hosts;
    l->accept.ssl_ctx = s->config.tls;
    h2o_multithread_register_receiver(l->context.queue, &l->inbox, on_messages);
    loop_listen(l);
    hx_timer_start(l, &l->sweep, on_sweep);
}

/* Requests end as failures and every socket is shut; the library closes them when it notices. */
static void end_all(struct hx_loop *l)
{
    for (struct hx_conn *c = l->conns, *next; c; c = next) {
        next = c->next;
        hx_conn_shut(c);
        for (struct hx_req *r = c->reqs, *after; r; r = after) {
            after = r->next;
            hx_req_break(r); /* the last one may take its connection along */
        }
    }
}

static void loop_finish(struct hx_loop *l)
{
    uint64_t until = hx_now_ms() + 1000;

    end_all(l);
    while (l->conns && hx_now_ms() < until)
        h2o_evloop_run(l->context.loop, 10);
}

static void loop_close(struct hx_loop *l)
{
    hx_timer_stop(l, &l->sweep);
    /* A socket held open to the end, or a farewell timer of HTTP/2 still running, would trip the library's asserts:
     * the process is about to exit, leave the rest to it. */
    if (l->conns || l->server->config.http2)
        return;
    on_messages(&l->inbox, &l->inbox._messages); /* nobody posts any more; what they carry is freed by them */
    h2o_multithread_unregister_receiver(l->context.queue, &l->inbox);
    h2o_context_dispose(&l->context);
}

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) != 0) {
    }
}

static void *loop_main(void *arg)
{
    struct hx_loop *l = arg;

    loop_open(l);
    sem_post(&l->server->ready);
    while (!l->stopping)
        h2o_evloop_run(l->context.loop, INT32_MAX);
    loop_finish(l);
    wait_for(&l->server->told); /* a message may arrive before whoever sent it has woken the loop */
    loop_close(l);
    return NULL;
}

static void drain_on_loop(void *arg)
{
    struct hx_loop *l = arg;

    if (!l->draining && l->server->config.http2) /* GOAWAY, a second later the last one; HTTP/1.1 is our own work */
        h2o_context_request_shutdown(&l->context);
    l->draining = true;
}

static void close_listener(struct hx_loop *l)
{
    if (l->listener)
        h2o_socket_close(l->listener);
    l->listener = NULL;
}

static void abandon_on_loop(void *arg)
{
    drain_on_loop(arg);
    close_listener(arg);
    end_all(arg);
}

static void stop_on_loop(void *arg)
{
    drain_on_loop(arg);
    close_listener(arg);
    ((struct hx_loop *)arg)->stopping = true;
}

/* --- servers --------------------------------------------------------------------------------------- */

static void register_handlers(struct hx_server *s)
{
    h2o_hostconf_t *host = h2o_config_register_host(&s->global, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    struct hx_handler_slot *handler = (struct hx_handler_slot *)h2o_create_handler(path, sizeof *handler);
    h2o_pathconf_t *filtered[] = {path, &host->fallback_path};

    handler->super.on_req = hx_on_req;
    handler->server = s;
    for (size_t i = 0; i < 2; i++) {
        struct hx_filter_slot *filter = (struct hx_filter_slot *)h2o_create_filter(filtered[i], sizeof *filter);
        filter->super.on_setup_ostream = hx_filter_setup;
        filter->server = s;
    }
}

static void configure(struct hx_server *s)
{
    const struct hx_config *c = &s->config;

    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* never spill a body to a file */
    h2o_config_init(&s->global);
    s->global.server_name = h2o_iovec_init(NULL, 0);
    /* The limit itself is ours (shim_sweep.c, shim_req.c): the library would answer HTTP/2 with a retryable reset. */
    s->global.max_request_entity_size = c->limits.body * 2 + (16 << 20);
    s->global.handshake_timeout = c->limits.head_ms;
    s->global.http1.req_timeout = c->limits.body_ms;
    s->global.http1.upgrade_to_http2 = 0;
    s->global.http2.idle_timeout = c->limits.body_ms;
    register_handlers(s);
}

static bool start_loop(struct hx_server *s)
{
    struct hx_loop *l = calloc(1, sizeof *l);

    if (!l)
        return false;
    l->server = s;
    if (pthread_create(&l->thread, NULL, loop_main, l) != 0) {
        free(l);
        return false;
    }
    wait_for(&s->ready);
    s->loop[s->loop_count++] = l;
    return true;
}

struct hx_server *hx_start(const struct hx_config *config, char why[HX_WHY_MAX])
{
    struct hx_server *s = calloc(1, sizeof *s);
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof bound;

    if (!s) {
        snprintf(why, HX_WHY_MAX, "out of memory");
        close(config->listen_fd);
        return NULL;
    }
    s->config = *config;
    signal(SIGPIPE, SIG_IGN);
    if (getsockname(config->listen_fd, (struct sockaddr *)&bound, &len) == 0)
        s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                    : ((struct sockaddr_in *)&bound)->sin_port);
    if (config->tls)
        SSL_CTX_set_info_callback(config->tls, on_tls_info);
    configure(s);
    sem_init(&s->ready, 0, 0);
    sem_init(&s->told, 0, 0);
    while (s->loop_count < config->threads && s->loop_count < HX_THREADS_MAX) {
        if (!start_loop(s)) {
            snprintf(why, HX_WHY_MAX, "cannot start a server thread: %s", strerror(errno));
            hx_stop(s);
            return NULL;
        }
    }
    return s;
}

uint16_t hx_port(const struct hx_server *s)
{
    return s->port;
}

static void each_loop(struct hx_server *s, void (*run)(void *))
{
    for (unsigned i = 0; i < s->loop_count; i++)
        while (!hx_post(s->loop[i], run, s->loop[i]))
            usleep(1000);
}

void hx_drain(struct hx_server *s)
{
    each_loop(s, drain_on_loop);
}

void hx_abandon(struct hx_server *s)
{
    if (s)
        each_loop(s, abandon_on_loop);
}

unsigned hx_running(const struct hx_server *s)
{
    return atomic_load(&s->running);
}

unsigned hx_connections(const struct hx_server *s)
{
    return atomic_load(&s->connections);
}

void hx_stop(struct hx_server *s)
{
    if (!s)
        return;
    each_loop(s, stop_on_loop);
    for (unsigned i = 0; i < s->loop_count; i++)
        sem_post(&s->told);
    for (unsigned i = 0; i < s->loop_count; i++)
        pthread_join(s->loop[i]->thread, NULL);
    close(s->config.listen_fd);
    for (unsigned i = 0; i < s->loop_count; i++)
        if (s->loop[i]->conns)
            return; /* see loop_close() */
    for (unsigned i = 0; i < s->loop_count; i++)
        free(s->loop[i]);
    sem_destroy(&s->ready);
    sem_destroy(&s->told);
    if (!s->config.http2)
        h2o_config_dispose(&s->global);
    free(s);
}
