/* connect_relay.c - a worker of `airlock connect`: takes a request, an attested connection, and carries the answer back
 * to the caller's loop. The request is sent once, to the one connection that was accepted; whatever breaks afterwards
 * is told to the caller, never hidden by sending the prompt elsewhere. */
#include "proxy/connect_parts.h"

#include "verifier/base/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* --- references ---------------------------------------------------------------------------------------- */

void relay_unref(struct relay *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    writer_release(&r->body);
    secret_wipe(r->authorization, sizeof r->authorization);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->moved);
    free(r);
}

void relay_gone(void *arg)
{
    struct relay *r = arg;

    r->req = NULL;
    atomic_store(&r->cancelled, true);
    pthread_mutex_lock(&r->lock);
    if (r->active)
        client_abort(r->active);
    pthread_cond_signal(&r->moved);
    pthread_mutex_unlock(&r->lock);
    relay_unref(r);
}

static void taken(struct relay *r)
{
    pthread_mutex_lock(&r->lock);
    r->outstanding = 0;
    pthread_cond_signal(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

void relay_drained(void *arg)
{
    taken(arg);
}

static void set_active(struct relay *r, struct client *c)
{
    pthread_mutex_lock(&r->lock);
    r->active = c;
    pthread_mutex_unlock(&r->lock);
}

/* --- to the loop ----------------------------------------------------------------------------------------- */

enum piece_kind { PIECE_ANSWER, PIECE_OPEN, PIECE_BODY, PIECE_END };

struct piece {
    struct relay *relay;
    enum piece_kind kind;
    int status;
    char type[RESPONSE_FIELD_MAX], retry_after[16], allow[64], authenticate[64];
    bool final_word; /* an attestation refusal: retrying does not help */
    size_t len;
    uint8_t bytes[];
};

static void answer(struct hx_req *req, const struct piece *p)
{
    struct hx_header more[4];
    size_t n = 0;

    if (p->retry_after[0])
        more[n++] = (struct hx_header){"retry-after", p->retry_after};
    if (p->allow[0])
        more[n++] = (struct hx_header){"allow", p->allow};
    if (p->authenticate[0])
        more[n++] = (struct hx_header){"www-authenticate", p->authenticate};
    if (p->final_word)
        more[n++] = (struct hx_header){"x-should-retry", "false"};
    hx_answer(req, p->status, p->type[0] ? p->type : NULL, span_of(p->bytes, p->len), more, n);
}

static void deliver(void *arg)
{
    static const struct hx_header unbuffered = {"x-accel-buffering", "no"};
    struct piece *p = arg;
    struct relay *r = p->relay;

    if (r->req) {
        switch (p->kind) {
        case PIECE_ANSWER:
            answer(r->req, p);
            break;
        case PIECE_OPEN:
            hx_stream_open(r->req, p->type, &unbuffered, 1);
            break;
        case PIECE_BODY:
            hx_stream_send(r->req, span_of(p->bytes, p->len));
            if (!r->req || hx_stream_unsent(r->req) < RELAY_OUTSTANDING / 2)
                taken(r);
            break;
        case PIECE_END:
            hx_stream_end(r->req, true);
            break;
        }
    }
    secret_wipe(p->bytes, p->len);
    relay_unref(r);
    free(p);
}

static struct piece *piece_new(struct relay *r, enum piece_kind kind, struct span bytes)
{
    struct piece *p;

    while (!(p = malloc(sizeof *p + bytes.len))) /* the caller waits for it: wait for memory */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    memset(p, 0, sizeof *p);
    p->relay = r;
    p->kind = kind;
    p->len = bytes.len;
    if (bytes.len > 0)
        memcpy(p->bytes, bytes.data, bytes.len);
    return p;
}

static void post(struct piece *p)
{
    atomic_fetch_add(&p->relay->refs, 1);
    while (!hx_post(p->relay->loop, deliver, p))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* The last piece: held until the connection is free for the caller's next request. */
static void post_last(struct relay *r, struct piece *p)
{
    r->last = p;
}

/* A piece of a stream; waits while the caller does not take what was sent before. */
void relay_send(struct relay *r, struct span bytes)
{
    pthread_mutex_lock(&r->lock);
    while (r->outstanding > RELAY_OUTSTANDING && !atomic_load(&r->cancelled))
        pthread_cond_wait(&r->moved, &r->lock);
    r->outstanding += bytes.len;
    pthread_mutex_unlock(&r->lock);
    if (!atomic_load(&r->cancelled))
        post(piece_new(r, PIECE_BODY, bytes));
}

void relay_open_stream(struct relay *r, const char *type)
{
    struct piece *open = piece_new(r, PIECE_OPEN, span_of(NULL, 0));

    snprintf(open->type, sizeof open->type, "%s", type);
    post(open);
}

void relay_end(struct relay *r)
{
    post_last(r, piece_new(r, PIECE_END, span_of(NULL, 0)));
}

void relay_answer(struct relay *r, int status, const char *type, struct span body)
{
    struct piece *p = piece_new(r, PIECE_ANSWER, body);

    p->status = status;
    snprintf(p->type, sizeof p->type, "%s", type);
    post_last(r, p);
}

void relay_error(struct relay *r, int status, const char *type, const char *code, const char *message,
                 const struct airlock_result *refusal)
{
    struct writer w = writer_with_max(16 << 10);
    struct piece *p;

    connect_error(&w, type, code, message, refusal);
    p = piece_new(r, PIECE_ANSWER, writer_span(&w));
    p->status = status;
    p->final_word = refusal != NULL;
    snprintf(p->type, sizeof p->type, "application/json");
    if (status == 503)
        snprintf(p->retry_after, sizeof p->retry_after, "1");
    post_last(r, p);
    writer_release(&w);
}

/* --- the answer ------------------------------------------------------------------------------------------- */

static void post_whole(struct relay *r, const struct response *head, struct span body)
{
    struct piece *p = piece_new(r, PIECE_ANSWER, body);

    p->status = head->status;
    snprintf(p->type, sizeof p->type, "%s", head->content_type);
    snprintf(p->retry_after, sizeof p->retry_after, "%s", head->retry_after);
    snprintf(p->allow, sizeof p->allow, "%s", head->allow);
    snprintf(p->authenticate, sizeof p->authenticate, "%s", head->www_authenticate);
    post_last(r, p);
}

/* Refused before any engine had the request: this connection knows none that is left, or sealed to a key that the
 * engine has replaced. */
static bool is_attest_again(const struct response *head, struct span body)
{
    static const char code[] = "\"code\":\"attest_again\"", seal[] = "\"code\":\"seal_again\"";

    if (body.len > 4096)
        return false;
    return (head->status == 503 && memmem(body.data, body.len, code, sizeof code - 1)) ||
           (head->status == 409 && memmem(body.data, body.len, seal, sizeof seal - 1));
}

bool relay_whole(struct relay *r, struct client *c, const struct response *head)
{
    struct writer body = writer_with_max(RELAY_WHOLE_MAX);
    char why[CLIENT_WHY_MAX];
    bool ok = client_body_all(c, r->connect->config.request_ms, &body, why);

    r->attest_again = ok && !r->attest_again && is_attest_again(head, writer_span(&body));
    if (ok && !r->attest_again)
        post_whole(r, head, writer_span(&body));
    else if (!ok)
        relay_error(r, 502, "server_error", "upstream_broken",
                    "The answer broke off on its way: send the request again.", NULL);
    writer_release(&body);
    return ok && !r->attest_again;
}

void tail_add(struct tail *t, struct span bytes)
{
    for (size_t i = bytes.len > sizeof t->bytes ? bytes.len - sizeof t->bytes : 0; i < bytes.len; i++) {
        if (t->len == sizeof t->bytes)
            memmove(t->bytes, t->bytes + 1, --t->len);
        t->bytes[t->len++] = (char)bytes.data[i];
    }
}

bool tail_is_done(const struct tail *t)
{
    return t->len == 14 && memcmp(t->bytes, "data: [DONE]\n\n", 14) == 0;
}

void relay_broken(struct relay *r, const char *code, const char *message)
{
    struct writer w = writer_with_max(16 << 10);

    writer_str(&w, "\n\ndata: ");
    connect_error(&w, "server_error", code, message, NULL);
    writer_str(&w, "\n\ndata: [DONE]\n\n");
    relay_send(r, writer_span(&w));
    writer_release(&w);
}

static bool relay_stream(struct relay *r, struct session *s, const struct response *head)
{
    struct tail tail = {0};
    struct span piece;
    char why[CLIENT_WHY_MAX];
    bool ok, expired = false;

    relay_open_stream(r, head->content_type);
    while ((ok = client_body(s->client, CONNECT_SILENCE_MS, &piece, why)) && piece.len > 0) {
        if ((expired = (uint64_t)time(NULL) >= s->valid_until) || atomic_load(&r->cancelled))
            break;
        tail_add(&tail, piece);
        relay_send(r, piece);
    }
    if (atomic_load(&r->cancelled))
        return false;
    ok = ok && !expired && (tail_is_done(&tail) || strncmp(r->path, "/v1/responses", 13) == 0);
    if (expired)
        relay_broken(r, "verdict_expired", "The proof for this connection ended: send the request again.");
    else if (!ok)
        relay_broken(r, "upstream_broken", "The answer broke off on its way: send the request again.");
    relay_end(r);
    return ok;
}

/* --- one request -------------------------------------------------------------------------------------------- */

static bool exchange_plain(struct relay *r, struct session *s)
{
    struct client_header headers[3];
    char why[CLIENT_WHY_MAX];
    const struct response *head;
    size_t n = 0;

    headers[n++] = (struct client_header){"x-request-id", r->request_id};
    if (r->authorization[0])
        headers[n++] = (struct client_header){"authorization", r->authorization};
    if (r->content_type[0])
        headers[n++] = (struct client_header){"content-type", r->content_type};
    if (!client_send(s->client, r->method, r->path, headers, n, writer_span(&r->body), r->connect->config.request_ms,
                     why) ||
        !(head = client_head(s->client, r->connect->config.request_ms, why))) {
        relay_error(r, 502, "server_error", "upstream_broken", "The proxy was lost before it answered: send it again.",
                    NULL);
        return false;
    }
    if (head->status == 200 && strncasecmp(head->content_type, "text/event-stream", 17) == 0)
        return relay_stream(r, s, head);
    return relay_whole(r, s->client, head);
}

/* In sealed mode whatever has a body goes to the engine alone. */
static bool exchange(struct relay *r, struct session *s)
{
    if (r->connect->config.sealed && strcmp(r->method, "POST") == 0)
        return relay_sealed(r, s);
    return exchange_plain(r, s);
}

void relay_refusal(struct relay *r, const struct upstream_refusal *why)
{
    char message[640];

    if (why->not_ready) {
        relay_error(r, 503, "server_error", "engine_unavailable",
                    "No engine serves behind the proxies now. Nothing of the request has been sent: try again shortly.",
                    NULL);
    } else if (why->refused) {
        snprintf(message, sizeof message,
                 "The proxy is not accepted: %s (stage %d). Nothing of the request has been sent. %s", why->result.code,
                 why->result.stage, why->result.remedy ? why->result.remedy : "");
        relay_error(r, 502, "attestation_error", why->result.code, message, &why->result);
    } else {
        snprintf(message, sizeof message, "No proxy can be used now: %s. Nothing of the request has been sent.",
                 why->why);
        relay_error(r, 503, "server_error", "proxy_unreachable", message, NULL);
    }
}

/* `fresh`: on a connection of its own. */
static void attempt(struct relay *r, bool fresh)
{
    struct upstream_refusal why;
    struct session *s = upstream_take(r->connect->upstream, fresh, &why);
    bool reusable;

    if (!s) {
        r->attest_again = false;
        relay_refusal(r, &why);
        return;
    }
    set_active(r, s->client);
    reusable = !atomic_load(&r->cancelled) && exchange(r, s);
    set_active(r, NULL);
    upstream_give(r->connect->upstream, s, reusable && !atomic_load(&r->cancelled));
}

static void serve(struct relay *r)
{
    if (!atomic_load(&r->cancelled))
        attempt(r, false);
    if (r->attest_again && !atomic_load(&r->cancelled))
        attempt(r, true);
    if (r->last)
        post(r->last);
}

static struct relay *next_relay(struct connect *c)
{
    struct relay *r = NULL;

    pthread_mutex_lock(&c->lock);
    while (!c->first && !c->stopping)
        pthread_cond_wait(&c->work, &c->lock);
    if (c->first && !c->stopping) {
        r = c->first;
        c->first = r->next;
        if (!c->first)
            c->last = &c->first;
        c->waiting--;
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

void *relay_worker(void *arg)
{
    struct connect *c = arg;
    struct relay *r;

    while ((r = next_relay(c))) {
        serve(r);
        relay_unref(r);
    }
    return NULL;
}
