/* connect_parts.h - the inside of `airlock connect`: the local door (connect.c) and the workers (connect_relay.c). */
#ifndef PROXY_CONNECT_PARTS_H
#define PROXY_CONNECT_PARTS_H

#include "proxy/connect.h"
#include "verifier/base/writer.h"

#include <pthread.h>
#include <stdatomic.h>

enum { RELAY_PATH_MAX = 2048, RELAY_FIELD_MAX = 1024, RELAY_OUTSTANDING = 256 << 10, RELAY_WHOLE_MAX = 256 << 20 };
/* A running stream that is silent so long is lost: a proxy says something every FRONT_KEEP_ALIVE_MS. */
enum { CONNECT_SILENCE_MS = 4000 };

/* One request on its way. The loop holds one reference, its worker one, each message on its way to the loop one. */
struct relay {
    struct relay *next; /* in the queue */
    struct connect *connect;
    struct hx_loop *loop;
    struct hx_req *req; /* loop thread only; NULL once the caller left */
    atomic_uint refs;
    atomic_bool cancelled;
    char method[8], path[RELAY_PATH_MAX];
    char authorization[RELAY_FIELD_MAX], content_type[RELAY_FIELD_MAX], request_id[HX_ID_MAX + 1];
    bool attest_again;  /* the worker's: refused unseen, once, and to be sent again on a connection attested anew */
    struct piece *last; /* the worker's: what ends the answer, posted once the connection has been given back */
    struct writer body; /* wiped when the relay ends */

    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct client *active; /* the connection the worker is using, for client_abort() */
    size_t outstanding;    /* bytes that the caller has not taken yet */
};

struct connect {
    struct connect_config config;
    struct hx_server *server;
    struct upstream *upstream;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct relay *first, **last;
    unsigned waiting, busy;
    bool stopping;
    unsigned worker_count;
    pthread_t *worker;
};

void relay_unref(struct relay *r);
void relay_gone(void *relay);    /* hx_req_watch: the caller left */
void relay_drained(void *relay); /* hx_req_watch: the caller took everything */
void *relay_worker(void *connect);

/* What a worker tells the caller, in this order: relay_open_stream(), relay_send()..., then relay_end(); or one of
 * relay_answer(), relay_error(), relay_refusal(). relay_broken() is the last event of a stream that broke off. */
void relay_open_stream(struct relay *r, const char *type);
void relay_send(struct relay *r, struct span bytes); /* waits while the caller does not take what was sent before */
void relay_end(struct relay *r);
void relay_broken(struct relay *r, const char *code, const char *message);
void relay_answer(struct relay *r, int status, const char *type, struct span body);
void relay_error(struct relay *r, int status, const char *type, const char *code, const char *message,
                 const struct airlock_result *refusal);
void relay_refusal(struct relay *r, const struct upstream_refusal *why);
/* The whole of an answer that is no stream. True when the connection may be used again. */
bool relay_whole(struct relay *r, struct client *c, const struct response *head);

/* The end of a stream that is whole: its last event says so. Streams of the Responses API have no [DONE]: their last
 * event is named, and only its framing shows that it is all there. */
struct tail {
    char bytes[14];
    size_t len;
};
void tail_add(struct tail *t, struct span bytes);
bool tail_is_done(const struct tail *t);

/* connect_sealed.c: one request in sealed mode. True when the connection may be used again. */
bool relay_sealed(struct relay *r, struct session *s);

/* {"error":{...}}; the attestation's own fields when `refusal` is one. */
void connect_error(struct writer *w, const char *type, const char *code, const char *message,
                   const struct airlock_result *refusal);

#endif
