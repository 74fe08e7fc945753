/* The attester's loop: two callers, one batch. A caller that misbehaves gets a refusal or loses its descriptor; only
 * the owner's end ends the process. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "tunnel/attest/attester_core.h"

/* An unread backlog beyond this stops reading that caller's requests until it has read its answers. */
#define BACKLOG_MAX (4u << 20)

struct outgoing {
    struct outgoing *next;
    size_t len;
    uint8_t record[]; /* ATTESTER_RECORD_MAX at most */
};

struct caller {
    int fd; /* -1: gone */
    bool is_owner;
    struct writer request;   /* pieces so far */
    bool in_pieces, refused; /* more to come; too long or mixed up: answered at its end */
    uint32_t id;
    uint8_t call;
    struct outgoing *first, *last;
    size_t backlog;
};

struct server {
    struct attester_core *core;
    struct attester_batch batch;
    struct caller owner, peer;
};

/* --- answers -------------------------------------------------------------------------------------------------- */

static void caller_close(struct server *s, struct caller *c)
{
    while (c->first) {
        struct outgoing *o = c->first;
        c->first = o->next;
        secret_wipe(o->record, o->len);
        free(o);
    }
    c->last = NULL;
    c->backlog = 0;
    writer_release(&c->request);
    attester_batch_drop(&s->batch, c);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static bool queue(struct caller *c, const struct attester_record *r)
{
    struct outgoing *o = malloc(sizeof *o + ATTESTER_HEAD_LEN + r->body.len);

    if (!o)
        return false;
    o->next = NULL;
    o->len = attester_record_encode(o->record, r);
    if (c->last)
        c->last->next = o;
    else
        c->first = o;
    c->last = o;
    c->backlog += o->len;
    return true;
}

/* Write what the descriptor takes now; false when the caller is gone. */
static bool flush(struct caller *c)
{
    while (c->first) {
        struct outgoing *o = c->first;
        ssize_t n = write(c->fd, o->record, o->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        c->first = o->next;
        if (!c->first)
            c->last = NULL;
        c->backlog -= o->len;
        secret_wipe(o->record, o->len);
        free(o);
    }
    return true;
}

static void reply(void *ctx, void *to, uint32_t id, uint8_t call, enum attester_err err, struct span body)
{
    struct server *s = ctx;
    struct caller *c = to;
    struct attester_record r = {.id = id, .call = call, .status = (uint16_t)err};

    if (c->fd < 0)
        return;
    if (err != ATTESTER_OK)
        body = span_of(NULL, 0);
    do {
        r.body = span_of(body.data, body.len > ATTESTER_PIECE_MAX ? ATTESTER_PIECE_MAX : body.len);
        body = span_of(body.data + r.body.len, body.len - r.body.len);
        r.flags = body.len > 0 ? ATTESTER_MORE : 0;
        if (!queue(c, &r)) { /* half an answer would be taken for another's begin */
            caller_close(s, c);
            return;
        }
    } while (body.len > 0);
    if (!flush(c))
        caller_close(s, c);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static void handle(struct server *s, struct caller *c, struct span body)
{
    struct writer answer = writer_with_max(ATTESTER_PIECE_MAX);
    bool is_leaf = c->call == ATTESTER_LEAF || c->call == ATTESTER_SEALED;
    enum attester_err err;

    if (is_leaf)
        err = attester_batch_add(&s->batch, s->core, c, c->id, c->call, body);
    else
        err = c->is_owner ? attester_core_call(s->core, c->call, body, &answer) : ATTESTER_E_CALL;
    if (!writer_ok(&answer))
        err = ATTESTER_E_INTERNAL;
    if (!is_leaf || err != ATTESTER_OK) /* a leaf is answered with its quote */
        reply(s, c, c->id, c->call, err, writer_span(&answer));
    writer_release(&answer);
}

/* One piece. A message that grows too long or changes its head on the way is refused when it ends. */
static void take_piece(struct server *s, struct caller *c, const struct attester_record *r)
{
    if (!c->in_pieces) {
        c->request = writer_with_max(c->is_owner ? ATTESTER_MESSAGE_MAX : ATTESTER_PEER_MAX);
        c->id = r->id;
        c->call = r->call;
        c->refused = r->status != 0;
    } else if (r->id != c->id || r->call != c->call) {
        c->refused = true;
    }
    writer_bytes(&c->request, r->body);
    c->in_pieces = (r->flags & ATTESTER_MORE) != 0;
    if (c->in_pieces)
        return;
    if (c->refused || !writer_ok(&c->request))
        reply(s, c, c->id, c->call, ATTESTER_E_SHAPE, span_of(NULL, 0));
    else
        handle(s, c, writer_span(&c->request));
    writer_release(&c->request); /* wipes */
}

/* Everything that is there now, at most a batch, so that neither caller waits for the other. */
static void take_requests(struct server *s, struct caller *c)
{
    static uint8_t record[ATTESTER_RECORD_MAX + 1];

    for (int i = 0; i < ATTESTER_BATCH_MAX && c->fd >= 0 && c->backlog < BACKLOG_MAX; i++) {
        ssize_t n = read(c->fd, record, sizeof record);
        struct attester_record r;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            caller_close(s, c);
            return;
        }
        if (attester_record_parse(&r, span_of(record, (size_t)n)))
            take_piece(s, c, &r);
        else /* no head to answer to that could be trusted */
            reply(s, c, 0, ATTESTER_HELLO, ATTESTER_E_SHAPE, span_of(NULL, 0));
        secret_wipe(record, (size_t)n);
    }
}

/* --- loop --------------------------------------------------------------------------------------------------------- */

static void prepare(const struct caller *c, struct pollfd *p)
{
    p->fd = c->fd; /* poll() ignores -1 */
    p->events = (short)((c->backlog < BACKLOG_MAX ? POLLIN : 0) | (c->first ? POLLOUT : 0));
    p->revents = 0;
}

static void serve_caller(struct server *s, struct caller *c, short events)
{
    if (c->fd >= 0 && (events & POLLOUT) && !flush(c))
        caller_close(s, c);
    if (c->fd >= 0 && (events & (POLLIN | POLLHUP | POLLERR)))
        take_requests(s, c);
}

static int timeout_ms(const struct server *s)
{
    int64_t left;

    if (s->batch.count == 0)
        return -1;
    left = s->batch.due - attester_clock();
    return left < 0 ? 0 : (int)left;
}

void attester_serve(struct attester_core *core, int owner, int peer)
{
    struct server s = {.core = core, .owner = {.fd = owner, .is_owner = true}, .peer = {.fd = peer}};

    if (!attester_batch_init(&s.batch))
        return;
    while (s.owner.fd >= 0) {
        struct pollfd p[2];

        prepare(&s.owner, &p[0]);
        prepare(&s.peer, &p[1]);
        if (poll(p, 2, timeout_ms(&s)) < 0 && errno != EINTR)
            break;
        serve_caller(&s, &s.owner, p[0].revents);
        serve_caller(&s, &s.peer, p[1].revents);
        if (s.batch.count > 0 && (s.batch.count == ATTESTER_BATCH_MAX || attester_clock() >= s.batch.due))
            attester_batch_fire(&s.batch, core, reply, &s);
    }
    caller_close(&s, &s.owner);
    caller_close(&s, &s.peer);
    attester_batch_release(&s.batch);
}
