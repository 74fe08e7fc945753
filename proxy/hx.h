/* hx.h - the inside of the libh2o shim, shared by shim*.c alone. Names that only libh2o 2.2.5 (library 0.13) has, and
 * their newer (0.16) counterparts, stand here and nowhere else. */
#ifndef PROXY_HX_H
#define PROXY_HX_H

#include "proxy/head.h"
#include "proxy/shim.h"
#include "tunnel/source.h"

#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>
#include <h2o/version.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

enum {
    HX_THREADS_MAX = 16,
    HX_SWEEP_MS = 50,
    HX_SWEEP_FDS = 256,
    HX_BATCH = 32,
    HX_LINGER_MS = 2000,
    HX_FAREWELL_MS = 2000
};

/* --- what differs between library versions ------------------------------------------------------- */
#if H2O_LIBRARY_VERSION_MAJOR == 0 && H2O_LIBRARY_VERSION_MINOR < 16
#define HX_H2O_OLD 1
struct hx_timer {
    h2o_timeout_t list; /* one list per duration */
    h2o_timeout_entry_t entry;
};
typedef h2o_iovec_t hx_sendvec;
typedef h2o_timeout_entry_t hx_timer_entry;
#define hx_add_ostream(req, size, slot) h2o_add_ostream(req, size, slot)
/* The raw head of an HTTP/1.1 request stays at the start of its socket's input until the answer is complete, so that
 * ambiguous framing can be refused (proxy/head.h), also before the body is there. */
#define HX_SEES_HEAD 1
#define HX_FRAMES_CHUNKS 1 /* a transfer-encoding header of ours keeps the library from framing */
#else
#define HX_H2O_OLD 0
struct hx_timer {
    h2o_timer_t entry;
};
typedef h2o_sendvec_t hx_sendvec;
typedef h2o_timer_t hx_timer_entry;
#define hx_add_ostream(req, size, slot) h2o_add_ostream(req, _Alignof(max_align_t), size, slot)
/* Heads are consumed before a handler runs: what the library accepts of odd framing is accepted, and sizes are checked
 * when the request is complete. */
#define HX_SEES_HEAD 0
#define HX_FRAMES_CHUNKS 0 /* it always frames, prefix and end in one write with the data */
#endif

/* --- server, loops, connections ------------------------------------------------------------------ */
struct hx_loop {
    struct hx_server *server;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener; /* NULL once stopping */
    h2o_multithread_receiver_t inbox;
    struct hx_timer sweep;
    struct hx_conn *conns; /* doubly linked */
    struct hx_req *deferred;
    unsigned conn_count;
    bool draining, stopping;
    pthread_t thread;
};

struct hx_server {
    struct hx_config config;
    h2o_globalconf_t global;
    uint16_t port;
    unsigned loop_count;
    struct hx_loop *loop[HX_THREADS_MAX];
    sem_t ready; /* posted by each loop when it listens */
    sem_t told;  /* posted for each loop when nobody writes to its inbox any more */
    atomic_uint running, connections;
};

struct hx_conn {
    struct hx_loop *loop;
    struct hx_conn *next, *prev;
    h2o_socket_t *sock;
    SSL *ssl; /* set when the handshake is done */
    void *data;
    struct sockaddr_storage peer;
    uint8_t source[TUNNEL_SOURCE_LEN]; /* of the peer */
    struct hx_req *reqs;               /* being served */
    uint64_t accepted_ms;
    bool served;       /* at least one request */
    uint64_t since_ms; /* when the present phase (see shim_sweep.c) began; 0: none */
    enum hx_phase { HX_IDLE, HX_HEAD, HX_BODY, HX_REFUSED, HX_LINGER } phase;
    h2o_socket_cb parked; /* the library's read callback while we answer in its place */
    char *refusal;        /* owned; what is being written */
    unsigned resets;
    bool http2, shut;
};

struct hx_chunk {
    struct hx_chunk *next;
    size_t len;
    char bytes[];
};

struct hx_req {
    h2o_generator_t generator; /* first: the library hands us a pointer to it */
    h2o_req_t *req;
    struct hx_conn *conn;
    struct hx_req *next, *prev; /* of the connection's list */
    struct hx_req *next_deferred;
    bool is_deferred;
    void (*gone)(void *ctx);
    void (*drained)(void *ctx);
    void (*ring)(void *ctx);
    void *watch_ctx;
    uint64_t ring_ms; /* 0: no alarm */
    uint64_t started_ms, progress_ms;
    enum { HX_WAITING, HX_STREAMING, HX_ENDING, HX_ANSWERED, HX_LOST } state;
    bool chunked;    /* we frame the chunks ourselves */
    bool is_writing; /* handed to the library, its proceed() has not come */
    bool is_broken;  /* end so that it cannot look complete */
    struct hx_chunk *waiting, **tail, *in_flight;
    size_t unsent;
    char id[HX_ID_MAX + 1];
};

uint64_t hx_now_ms(void);
/* Shut the connection down both ways; the library closes it when it notices. */
void hx_conn_shut(struct hx_conn *c);
struct hx_conn *hx_conn_of(h2o_req_t *req);

void hx_timer_start(struct hx_loop *l, struct hx_timer *t, void (*cb)(hx_timer_entry *));
void hx_timer_again(struct hx_loop *l, struct hx_timer *t);
void hx_timer_stop(struct hx_loop *l, struct hx_timer *t);
void hx_sweep(struct hx_loop *l);

int hx_on_req(h2o_handler_t *self, h2o_req_t *req);
void hx_req_break(struct hx_req *r); /* end it now, as a failure */
/* Refuse in place of the handler; the connection is closed afterwards. */
void hx_req_refuse(struct hx_req *r, int status, const char *message);
void hx_filter_setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot);
const char *hx_reason(int status);
void hx_make_id(char id[HX_ID_MAX + 1]);

struct hx_handler_slot {
    h2o_handler_t super;
    struct hx_server *server;
};
struct hx_filter_slot {
    h2o_filter_t super;
    struct hx_server *server;
};

#endif
