#include "tunnel/mux.h"

#include "tunnel/message.h"
#include "verifier/base/secret.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUCKETS = 256, RESETS_MAX = 4096 };

/* A frame in a queue, or something that happened. The body is wiped when it goes: prompts and answers pass here. */
struct item {
    struct item *next;
    enum tunnel_mux_kind kind;
    struct tunnel_frame frame;
    char code[64];
    uint8_t body[];
};
struct queue {
    struct item *first, *last;
};

struct stream {
    uint32_t id;
    void *tag;
    struct stream *chain;       /* same bucket */
    struct stream *prev, *next; /* ring of streams with something to send; NULL when not in it */
    struct queue out;
    size_t queued;       /* cost of what is in `out` */
    int64_t send_window; /* cost that the peer still takes */
    int64_t recv_window; /* cost that the peer may still send */
    size_t held;         /* received, not yet consumed */
    size_t due;          /* consumed, not yet granted again */
    size_t sent;         /* left `out` since the last WRITABLE */
    uint64_t message;    /* bytes of the opener's message so far */
    uint8_t kind;        /* of the opener's message; 0: none yet */
    bool whole;          /* its last piece is queued (opener) or came (answerer) */
    bool started;        /* opener: a frame has left */
    bool cancelling;     /* opener: CANCEL asked; what comes is dropped */
    bool over;           /* opener: ENDED is in the event queue; answerer: END is in `out` */
    bool credit_listed, sent_listed;
    struct stream *credit_next, *sent_next;
};

struct reset {
    struct reset *next;
    uint32_t stream;
    char code[64];
};

struct tunnel_mux {
    bool opener, draining;
    uint32_t last_id;
    uint32_t next_id; /* opener: the first id that may still have to leave for the first time */
    size_t count, resets;
    struct stream *bucket[BUCKETS];
    struct stream *ring; /* the stream whose turn it is */
    struct queue events;
    struct stream *credit_first, *sent_first;
    struct reset *reset_first, *reset_last;
    int64_t send_window, recv_window;
    size_t due;
    struct item *lent_out, *lent_event; /* borrowed by the last next() and event() */
    struct reset *lent_reset;
    uint8_t credit_body[4];
};

static size_t cost_of(const struct tunnel_frame *f)
{
    return TUNNEL_FRAME_HEADER + f->body.len;
}

/* Codes travel as lower-case letters, digits and '_' (frame.c); whatever else stands in one becomes '_'. */
static void set_code(char out[64], const char *code)
{
    (void)snprintf(out, 64, "%s", code ? code : "");
    for (char *c = out; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9')))
            *c = '_';
}

static struct item *item_new(enum tunnel_mux_kind kind, const struct tunnel_frame *f)
{
    struct item *i = calloc(1, sizeof *i + f->body.len);
    if (!i)
        return NULL;
    i->kind = kind;
    i->frame = *f;
    if (f->body.len)
        memcpy(i->body, f->body.data, f->body.len);
    i->frame.body = span_of(i->body, f->body.len);
    return i;
}

static void item_free(struct item *i)
{
    if (i)
        secret_wipe(i->body, i->frame.body.len);
    free(i);
}

static void queue_put(struct queue *q, struct item *i)
{
    i->next = NULL;
    if (q->last)
        q->last->next = i;
    else
        q->first = i;
    q->last = i;
}

static struct item *queue_get(struct queue *q)
{
    struct item *i = q->first;
    if (i && !(q->first = i->next))
        q->last = NULL;
    return i;
}

static void queue_clear(struct queue *q)
{
    for (struct item *i; (i = queue_get(q));)
        item_free(i);
}

static struct stream *find(const struct tunnel_mux *m, uint32_t id)
{
    struct stream *s = m->bucket[id % BUCKETS];
    while (s && s->id != id)
        s = s->chain;
    return s;
}

static struct stream *stream_new(struct tunnel_mux *m, uint32_t id)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->id = id;
    s->send_window = s->recv_window = TUNNEL_STREAM_WINDOW;
    s->chain = m->bucket[id % BUCKETS];
    m->bucket[id % BUCKETS] = s;
    m->last_id = id;
    m->count++;
    return s;
}

static void ring_add(struct tunnel_mux *m, struct stream *s)
{
    if (s->next)
        return;
    if (!m->ring) {
        s->next = s->prev = m->ring = s;
        return;
    }
    s->next = m->ring; /* last in turn: just before whose turn it is */
    s->prev = m->ring->prev;
    s->prev->next = s;
    s->next->prev = s;
}

static void ring_remove(struct tunnel_mux *m, struct stream *s)
{
    if (!s->next)
        return;
    if (m->ring == s)
        m->ring = s->next == s ? NULL : s->next;
    s->prev->next = s->next;
    s->next->prev = s->prev;
    s->next = s->prev = NULL;
}

static void list_remove_credit(struct tunnel_mux *m, struct stream *s)
{
    struct stream **at = &m->credit_first;
    for (; s->credit_listed && *at; at = &(*at)->credit_next) {
        if (*at == s) {
            *at = s->credit_next;
            s->credit_listed = false;
            return;
        }
    }
}

static void list_remove_sent(struct tunnel_mux *m, struct stream *s)
{
    struct stream **at = &m->sent_first;
    for (; s->sent_listed && *at; at = &(*at)->sent_next) {
        if (*at == s) {
            *at = s->sent_next;
            s->sent_listed = false;
            return;
        }
    }
}

static void stream_free(struct tunnel_mux *m, struct stream *s)
{
    struct stream **at = &m->bucket[s->id % BUCKETS];
    while (*at != s)
        at = &(*at)->chain;
    *at = s->chain;
    ring_remove(m, s);
    list_remove_credit(m, s);
    list_remove_sent(m, s);
    queue_clear(&s->out);
    m->due += s->held; /* nobody will consume it any more */
    m->count--;
    free(s);
}

struct tunnel_mux *tunnel_mux_open(bool opener)
{
    struct tunnel_mux *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->opener = opener;
    m->send_window = m->recv_window = TUNNEL_CONNECTION_WINDOW;
    return m;
}

void tunnel_mux_close(struct tunnel_mux *m)
{
    if (!m)
        return;
    for (size_t b = 0; b < BUCKETS; b++)
        while (m->bucket[b])
            stream_free(m, m->bucket[b]);
    queue_clear(&m->events);
    for (struct reset *r; (r = m->reset_first); free(r))
        m->reset_first = r->next;
    item_free(m->lent_out);
    item_free(m->lent_event);
    free(m->lent_reset);
    free(m);
}

uint32_t tunnel_mux_start(struct tunnel_mux *m, void *tag)
{
    assert(m->opener);
    if (m->draining || m->count >= TUNNEL_STREAMS_MAX || m->last_id == UINT32_MAX)
        return 0;
    struct stream *s = stream_new(m, m->last_id + 1);
    if (!s)
        return 0;
    s->tag = tag;
    return s->id;
}

/* A stream that its owner may still name. */
static struct stream *find_live(const struct tunnel_mux *m, uint32_t id)
{
    struct stream *s = find(m, id);
    return s && !(s->over && !m->opener) ? s : NULL;
}

void tunnel_mux_set_tag(struct tunnel_mux *m, uint32_t stream, void *tag)
{
    struct stream *s = find_live(m, stream);
    if (s)
        s->tag = tag;
}

void *tunnel_mux_tag(const struct tunnel_mux *m, uint32_t stream)
{
    struct stream *s = find_live(m, stream);
    return s ? s->tag : NULL;
}

/* May the owner still queue frames? */
static bool may_send(const struct tunnel_mux *m, const struct stream *s)
{
    return s && !s->over && !s->cancelling && !(m->opener && s->whole);
}

size_t tunnel_mux_room(struct tunnel_mux *m, uint32_t stream)
{
    struct stream *s = find(m, stream);
    if (!may_send(m, s) || s->queued + TUNNEL_FRAME_HEADER >= TUNNEL_STREAM_WINDOW)
        return 0;
    size_t room = TUNNEL_STREAM_WINDOW - s->queued - TUNNEL_FRAME_HEADER;
    return room < TUNNEL_FRAME_BODY_MAX ? room : TUNNEL_FRAME_BODY_MAX;
}

bool tunnel_mux_send(struct tunnel_mux *m, const struct tunnel_frame *frame)
{
    struct stream *s = find(m, frame->stream);
    if (!may_send(m, s) || s->queued + cost_of(frame) > TUNNEL_STREAM_WINDOW)
        return false;
    assert(m->opener == (frame->kind != TUNNEL_FRAME_EVENT) && frame->body.len <= TUNNEL_FRAME_BODY_MAX);
    struct item *i = item_new(TUNNEL_MUX_DATA, frame);
    if (!i)
        return false;
    queue_put(&s->out, i);
    s->queued += cost_of(frame);
    if (m->opener)
        s->whole = !(frame->flags & TUNNEL_FRAME_MORE);
    else
        s->over = (frame->flags & TUNNEL_FRAME_END) != 0;
    ring_add(m, s);
    return true;
}

static void credit_due(struct tunnel_mux *m, struct stream *s)
{
    if (s->due < TUNNEL_STREAM_WINDOW / 4 || s->credit_listed || s->over)
        return;
    s->credit_listed = true;
    s->credit_next = m->credit_first;
    m->credit_first = s;
}

void tunnel_mux_consumed(struct tunnel_mux *m, uint32_t stream, size_t cost)
{
    struct stream *s = find(m, stream);
    if (!s)
        return;
    if (cost > s->held)
        cost = s->held;
    s->held -= cost;
    s->due += cost;
    m->due += cost;
    credit_due(m, s);
}

static bool reset_put(struct tunnel_mux *m, uint32_t stream, const char *code)
{
    struct reset *r = m->resets < RESETS_MAX ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return false;
    r->stream = stream;
    set_code(r->code, code);
    if (m->reset_last && m->reset_first)
        m->reset_last->next = r;
    else
        m->reset_first = r;
    m->reset_last = r;
    m->resets++;
    return true;
}

/* The opener's stream is over: its owner hears so after what has already come. */
static void end_stream(struct tunnel_mux *m, struct stream *s, const char *code)
{
    struct tunnel_frame none = {.stream = s->id};
    struct item *i = item_new(TUNNEL_MUX_ENDED, &none);
    s->over = true;
    ring_remove(m, s);
    list_remove_credit(m, s);
    queue_clear(&s->out);
    if (!i) /* the next tunnel_mux_take() cannot save it; the owner's own deadline does */
        return;
    set_code(i->code, code);
    queue_put(&m->events, i);
}

void tunnel_mux_abort(struct tunnel_mux *m, uint32_t stream, const char *code)
{
    struct stream *s = find_live(m, stream);
    if (!s || s->over || s->cancelling)
        return;
    if (!m->opener) {
        (void)reset_put(m, stream, code);
        stream_free(m, s);
        return;
    }
    if (!s->started) {
        end_stream(m, s, "cancelled");
        return;
    }
    s->cancelling = true;
    ring_remove(m, s);
    queue_clear(&s->out);
    (void)reset_put(m, stream, code);
}

void tunnel_mux_drain(struct tunnel_mux *m)
{
    m->draining = true;
}

size_t tunnel_mux_streams(const struct tunnel_mux *m)
{
    return m->count;
}

void tunnel_mux_fail(struct tunnel_mux *m, const char *code)
{
    m->draining = true;
    for (size_t b = 0; b < BUCKETS; b++) {
        for (struct stream *s = m->bucket[b], *chain; s; s = chain) {
            chain = s->chain;
            if (!m->opener && s->over)
                stream_free(m, s);
            else if (!s->over)
                end_stream(m, s, s->cancelling ? "cancelled" : code);
        }
    }
}

/* --- from the peer -------------------------------------------------------------------------------- */

static enum tunnel_err take_credit(struct tunnel_mux *m, const struct tunnel_frame *f)
{
    struct reader r = reader_over(f->body);
    int64_t more = reader_u32be(&r);
    if (f->stream == 0) {
        m->send_window += more;
        return m->send_window > TUNNEL_CONNECTION_WINDOW ? TUNNEL_E_STREAM_CREDIT : TUNNEL_OK;
    }
    struct stream *s = find(m, f->stream);
    if (!s)
        return f->stream <= m->last_id ? TUNNEL_OK : TUNNEL_E_STREAM_ID;
    s->send_window += more;
    return s->send_window > TUNNEL_STREAM_WINDOW ? TUNNEL_E_STREAM_CREDIT : TUNNEL_OK;
}

static enum tunnel_err take_cancel(struct tunnel_mux *m, const struct tunnel_frame *f)
{
    struct stream *s = find(m, f->stream);
    char code[64] = "";
    if (f->body.len)
        memcpy(code, f->body.data, f->body.len < 63 ? f->body.len : 63);
    if (!s)
        return f->stream <= m->last_id && !m->opener ? TUNNEL_OK : TUNNEL_E_STREAM_ID;
    if (s->over && m->opener)
        return TUNNEL_OK;
    if (s->over) { /* our END waits for credit: what stands before it is not wanted any more */
        stream_free(m, s);
        return reset_put(m, f->stream, code) ? TUNNEL_OK : TUNNEL_E_MEMORY;
    }
    if (m->opener) {
        end_stream(m, s, s->cancelling ? "cancelled" : code[0] ? code : "cancelled");
        return TUNNEL_OK;
    }
    struct tunnel_frame none = {.stream = s->id};
    struct item *i = item_new(TUNNEL_MUX_CANCEL, &none);
    if (!i)
        return TUNNEL_E_MEMORY;
    set_code(i->code, code);
    queue_put(&m->events, i);
    return TUNNEL_OK;
}

/* Charge `f` to the windows; `s` NULL: it belongs to no stream, its credit goes back at once. */
static enum tunnel_err charge(struct tunnel_mux *m, struct stream *s, const struct tunnel_frame *f)
{
    int64_t cost = (int64_t)cost_of(f);
    m->recv_window -= cost;
    if (s)
        s->recv_window -= cost;
    if (m->recv_window < 0 || (s && s->recv_window < 0))
        return TUNNEL_E_STREAM_CREDIT;
    if (!s)
        m->due += (size_t)cost;
    else
        s->held += (size_t)cost;
    return TUNNEL_OK;
}

static enum tunnel_err deliver(struct tunnel_mux *m, const struct tunnel_frame *f)
{
    struct item *i = item_new(TUNNEL_MUX_DATA, f);
    if (!i)
        return TUNNEL_E_MEMORY;
    queue_put(&m->events, i);
    return TUNNEL_OK;
}

/* The opener hears an answer. */
static enum tunnel_err take_event(struct tunnel_mux *m, const struct tunnel_frame *f)
{
    struct stream *s = find(m, f->stream);
    if (!m->opener)
        return TUNNEL_E_FRAME_KIND;
    if (!s || s->over || !s->started)
        return TUNNEL_E_STREAM_ID;
    enum tunnel_err err = charge(m, s, f);
    if (err)
        return err;
    if (s->cancelling)
        tunnel_mux_consumed(m, s->id, cost_of(f));
    else if ((err = deliver(m, f)))
        return err;
    if (f->flags & TUNNEL_FRAME_END)
        end_stream(m, s, s->cancelling ? "cancelled" : "");
    return TUNNEL_OK;
}

/* The first piece of a stream we have not seen: make it, or turn it away (NULL and TUNNEL_OK). */
static enum tunnel_err open_stream(struct tunnel_mux *m, const struct tunnel_frame *f, struct stream **out)
{
    const char *no = m->draining ? "going_away" : m->count >= TUNNEL_STREAMS_MAX ? "stream_count" : NULL;
    *out = NULL;
    if (no) {
        m->last_id = f->stream;
        return reset_put(m, f->stream, no) ? TUNNEL_OK : TUNNEL_E_STREAM_COUNT;
    }
    *out = stream_new(m, f->stream);
    if (*out)
        (*out)->kind = f->kind;
    return *out ? TUNNEL_OK : TUNNEL_E_MEMORY;
}

/* The answerer hears a request. */
static enum tunnel_err take_request(struct tunnel_mux *m, const struct tunnel_frame *f)
{
    struct stream *s = find(m, f->stream);
    enum tunnel_err err = TUNNEL_OK;
    if (m->opener)
        return TUNNEL_E_FRAME_KIND;
    if (!s && f->stream > m->last_id)
        err = open_stream(m, f, &s);
    if (err)
        return err;
    if (!s || s->over) /* late pieces of a stream that ended here first */
        return charge(m, NULL, f);
    if (s->kind != f->kind || s->whole)
        return TUNNEL_E_FRAME_KIND;
    s->message += f->body.len;
    s->whole = !(f->flags & TUNNEL_FRAME_MORE);
    if (s->message > TUNNEL_REQUEST_MAX)
        return TUNNEL_E_MESSAGE_SIZE;
    err = charge(m, s, f);
    return err ? err : deliver(m, f);
}

enum tunnel_err tunnel_mux_take(struct tunnel_mux *m, const struct tunnel_frame *frame)
{
    switch (frame->kind) {
    case TUNNEL_FRAME_CREDIT:
        return take_credit(m, frame);
    case TUNNEL_FRAME_CANCEL:
        return take_cancel(m, frame);
    case TUNNEL_FRAME_EVENT:
        return take_event(m, frame);
    case TUNNEL_FRAME_REQUEST:
    case TUNNEL_FRAME_SEALED:
    case TUNNEL_FRAME_QUOTE:
        return take_request(m, frame);
    default:
        return TUNNEL_E_FRAME_KIND;
    }
}

/* --- to the peer ---------------------------------------------------------------------------------- */

static bool next_credit(struct tunnel_mux *m, struct tunnel_frame *out)
{
    struct stream *s = m->credit_first;
    size_t more;
    uint32_t id = 0;

    if (m->due >= TUNNEL_CONNECTION_WINDOW / 4) {
        more = m->due;
        m->recv_window += (int64_t)more;
        m->due = 0;
    } else if (s) {
        m->credit_first = s->credit_next;
        s->credit_listed = false;
        id = s->id;
        more = s->due;
        s->recv_window += (int64_t)more;
        s->due = 0;
    } else {
        return false;
    }
    for (int i = 0; i < 4; i++)
        m->credit_body[i] = (uint8_t)(more >> (24 - 8 * i));
    *out = (struct tunnel_frame){.kind = TUNNEL_FRAME_CREDIT, .stream = id, .body = span_of(m->credit_body, 4)};
    return true;
}

static bool next_reset(struct tunnel_mux *m, struct tunnel_frame *out)
{
    struct reset *r = m->reset_first;
    if (!r)
        return false;
    m->reset_first = r->next;
    m->resets--;
    m->lent_reset = r;
    *out = (struct tunnel_frame){.kind = TUNNEL_FRAME_CANCEL, .stream = r->stream, .body = span_str(r->code)};
    return true;
}

static void note_sent(struct tunnel_mux *m, struct stream *s, size_t cost)
{
    s->sent += cost;
    if (s->sent_listed)
        return;
    s->sent_listed = true;
    s->sent_next = m->sent_first;
    m->sent_first = s;
}

/* Streams leave for the first time in the order of their ids: the answerer takes a lower one for an old one. */
static bool is_turn(struct tunnel_mux *m, const struct stream *s)
{
    if (!m->opener || s->started)
        return true;
    for (; m->next_id < s->id; m->next_id++) {
        const struct stream *before = find(m, m->next_id);
        if (before && !before->started && !before->over)
            return false;
    }
    return true;
}

static bool next_data(struct tunnel_mux *m, struct tunnel_frame *out)
{
    struct stream *s = m->ring;
    if (!s)
        return false;
    struct stream *stop = s;
    for (;;) {
        size_t cost = cost_of(&s->out.first->frame);
        if ((int64_t)cost <= s->send_window && (int64_t)cost <= m->send_window && is_turn(m, s))
            break;
        s = s->next;
        if (s == stop)
            return false;
    }
    struct item *i = queue_get(&s->out);
    size_t cost = cost_of(&i->frame);
    s->send_window -= (int64_t)cost;
    m->send_window -= (int64_t)cost;
    s->queued -= cost;
    s->started = true;
    m->ring = s->next;
    if (!s->out.first)
        ring_remove(m, s);
    m->lent_out = i;
    *out = i->frame;
    if (s->over) { /* the answerer's END has left, and nothing stands behind it */
        if (!s->out.first)
            stream_free(m, s);
    } else {
        note_sent(m, s, cost);
    }
    return true;
}

bool tunnel_mux_next(struct tunnel_mux *m, struct tunnel_frame *out)
{
    item_free(m->lent_out);
    m->lent_out = NULL;
    free(m->lent_reset);
    m->lent_reset = NULL;
    return next_credit(m, out) || next_reset(m, out) || next_data(m, out);
}

static bool event_from_queue(struct tunnel_mux *m, struct tunnel_mux_event *out)
{
    for (struct item *i; (i = queue_get(&m->events));) {
        struct stream *s = find(m, i->frame.stream);
        bool ended = i->kind == TUNNEL_MUX_ENDED;
        if (!s || (!ended && (s->cancelling || (!m->opener && s->over)))) {
            if (s && i->kind == TUNNEL_MUX_DATA)
                tunnel_mux_consumed(m, s->id, cost_of(&i->frame));
            item_free(i);
            continue;
        }
        *out = (struct tunnel_mux_event){.kind = i->kind, .stream = i->frame.stream, .frame = i->frame};
        out->cost = i->kind == TUNNEL_MUX_DATA ? cost_of(&i->frame) : 0;
        set_code(out->code, i->code);
        m->lent_event = i;
        if (ended)
            stream_free(m, s);
        return true;
    }
    return false;
}

bool tunnel_mux_event(struct tunnel_mux *m, struct tunnel_mux_event *out)
{
    item_free(m->lent_event);
    m->lent_event = NULL;
    *out = (struct tunnel_mux_event){.kind = TUNNEL_MUX_NOTHING};
    if (event_from_queue(m, out))
        return true;
    struct stream *s = m->sent_first;
    if (!s)
        return false;
    m->sent_first = s->sent_next;
    s->sent_listed = false;
    *out = (struct tunnel_mux_event){.kind = TUNNEL_MUX_WRITABLE, .stream = s->id, .cost = s->sent};
    s->sent = 0;
    return true;
}

bool tunnel_mux_is_draining(const struct tunnel_mux *m)
{
    return m->draining;
}
