/* Requests from the link to the engine, its events back: one struct stream each. The loop's thread owns the streams;
 * the engine's threads only append to a stream's chunks, under out_lock, and wake the loop. */
#include <stdlib.h>

#include "engine/node_parts.h"
#include "engine/node_sealed.h"

enum {
    HOLD_ABOVE = 256 << 10, /* bytes that wait for a slow reader: no more tokens until ... */
    HOLD_BELOW = 64 << 10,
    REQUESTS_BYTES_MAX = 256 << 20, /* of all requests that are still coming in */
};

struct chunk {
    struct chunk *next;
    size_t len;
    bool last;
    uint8_t bytes[];
};

struct stream {
    struct node *node;
    struct stream *before, *next;
    uint32_t id;
    uint8_t kind; /* of its request frames */
    struct writer request;
    struct sealed *sealed; /* NULL in plain mode */
    uint64_t job;
    bool submitted, held, gone; /* gone: the link knows no such stream any more */
    /* under out_lock */
    struct chunk *first, *tail;
    size_t waiting;
    bool over, broken; /* the job's last event is among the chunks; an event was lost for want of memory */
};

/* --- life -------------------------------------------------------------------------------------------------------- */

static struct stream *stream_new(struct node *n, uint32_t id)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->node = n;
    s->id = id;
    s->request = writer_with_max(TUNNEL_REQUEST_MAX);
    s->next = n->streams;
    if (n->streams)
        n->streams->before = s;
    n->streams = s;
    tunnel_mux_set_tag(tunnel_link_mux(n->link), id, s);
    return s;
}

static void drop_request(struct stream *s)
{
    s->node->request_bytes -= s->request.len;
    writer_release(&s->request);
}

static void free_chunk(struct chunk *c)
{
    secret_wipe(c, sizeof *c + c->len);
    free(c);
}

/* Only when no job of it is alive. */
static void stream_free(struct stream *s)
{
    struct node *n = s->node;
    for (struct chunk *c = s->first, *next; c; c = next) {
        next = c->next;
        free_chunk(c);
    }
    drop_request(s);
    sealed_free(s->sealed);
    *(s->before ? &s->before->next : &n->streams) = s->next;
    if (s->next)
        s->next->before = s->before;
    free(s);
}

static void abort_stream(struct stream *s, const char *code)
{
    if (!s->gone)
        tunnel_mux_abort(tunnel_link_mux(s->node->link), s->id, code);
    s->gone = true;
}

/* --- events out -------------------------------------------------------------------------------------------------- */

static void append(struct stream *s, struct chunk *c, bool last)
{
    struct node *n = s->node;
    pthread_mutex_lock(&n->out_lock);
    if (c) {
        *(s->tail ? &s->tail->next : &s->first) = c;
        s->tail = c;
        s->waiting += c->len;
    } else {
        s->broken = true;
    }
    s->over = s->over || last;
    pthread_mutex_unlock(&n->out_lock);
    node_wake(n);
}

/* From a thread of the engine. After the last event the stream may be gone: nothing of it is touched then. */
static void on_event(void *ctx, const struct tunnel_event *ev)
{
    struct stream *s = ctx;
    struct writer w = writer_with_max(TUNNEL_EVENT_MAX);
    bool last = ev->kind == TUNNEL_EVENT_DONE || ev->kind == TUNNEL_EVENT_ERROR;
    struct chunk *c = NULL;
    if (tunnel_event_pack(&w, ev) && (c = malloc(sizeof *c + w.len))) {
        *c = (struct chunk){.len = w.len, .last = last};
        memcpy(c->bytes, w.data, w.len);
    }
    writer_release(&w);
    append(s, c, last);
}

static struct chunk *take_chunk(struct stream *s, size_t room)
{
    struct chunk *c;
    pthread_mutex_lock(&s->node->out_lock);
    c = s->first;
    if (c && c->len > room)
        c = NULL;
    if (c) {
        s->first = c->next;
        if (!s->first)
            s->tail = NULL;
        s->waiting -= c->len;
    }
    pthread_mutex_unlock(&s->node->out_lock);
    return c;
}

/* One frame of the answer. False when the stream is over or broken. */
static bool send_frame(struct stream *s, struct span body, bool last)
{
    struct tunnel_frame frame = {
        .kind = TUNNEL_FRAME_EVENT, .flags = last ? TUNNEL_FRAME_END : 0, .stream = s->id, .body = body};
    if (!tunnel_mux_send(tunnel_link_mux(s->node->link), &frame) || last)
        s->gone = true;
    return !s->gone;
}

static void send_chunks(struct stream *s)
{
    struct tunnel_mux *mux = tunnel_link_mux(s->node->link);
    struct chunk *c;
    while (!s->gone && (c = take_chunk(s, tunnel_mux_room(mux, s->id)))) {
        send_frame(s, span_of(c->bytes, c->len), c->last);
        free_chunk(c);
    }
}

/* Sealed bytes first; when they are gone the next event is sealed. */
static void send_sealed(struct stream *s)
{
    struct tunnel_mux *mux = tunnel_link_mux(s->node->link);
    while (!s->gone) {
        struct span bytes = sealed_bytes(s->sealed);
        size_t room = tunnel_mux_room(mux, s->id);
        struct chunk *c;
        if (bytes.len > 0) {
            if (room == 0)
                return;
            size_t len = bytes.len < room ? bytes.len : room;
            bool last = len == bytes.len && sealed_is_whole(s->sealed);
            if (send_frame(s, span_of(bytes.data, len), last))
                sealed_sent(s->sealed, len);
        } else if (!(c = take_chunk(s, SIZE_MAX))) {
            return;
        } else {
            if (!sealed_feed(s->sealed, span_of(c->bytes, c->len)))
                abort_stream(s, "engine_unavailable");
            free_chunk(c);
        }
    }
}

static void hold_or_go_on(struct stream *s, size_t waiting)
{
    bool hold = s->held ? waiting > HOLD_BELOW : waiting > HOLD_ABOVE;
    if (hold == s->held || !s->submitted)
        return;
    s->held = hold;
    engine_hold(s->node->engine, s->job, hold);
}

static void flush_one(struct stream *s)
{
    if (s->sealed)
        send_sealed(s);
    else
        send_chunks(s);
    pthread_mutex_lock(&s->node->out_lock);
    bool over = s->over, broken = s->broken;
    size_t waiting = s->waiting;
    pthread_mutex_unlock(&s->node->out_lock);
    if (broken) /* a cut answer must not look whole */
        abort_stream(s, "memory");
    if (s->gone && s->submitted && !over)
        engine_cancel(s->node->engine, s->job);
    if (s->gone && (over || !s->submitted))
        stream_free(s);
    else
        hold_or_go_on(s, s->gone ? 0 : waiting);
}

void node_serve_flush(struct node *n)
{
    for (struct stream *s = n->streams, *next; s; s = next) {
        next = s->next;
        flush_one(s);
    }
}

bool node_serve_idle(const struct node *n)
{
    return n->streams == NULL;
}

/* --- requests in ------------------------------------------------------------------------------------------------- */

static void answer_error(struct stream *s, uint32_t status, const char *code, const char *param, const char *text)
{
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_ERROR,
                              .status = status,
                              .code = span_str(code),
                              .param = span_str(param),
                              .text = span_str(text)};
    on_event(s, &ev);
}

static bool is_ready(struct stream *s)
{
    struct node *n = s->node;
    if (!node_may_serve(n))
        answer_error(s, 503, "engine_unavailable", "", "this engine has no lease at the moment; try again");
    else if (n->draining)
        answer_error(s, 503, "draining", "", "this engine is going down; try again");
    else
        return true;
    return false;
}

/* The proxy saw only what the request gives itself; here stand the values in force. */
static bool sampling_is_allowed(struct stream *s, const struct tunnel_request *q)
{
    struct policy_admitted a;
    struct policy_request_facts facts = {
        .temperature = q->temperature, .top_p = q->top_p, .repetition_penalty = q->repetition_penalty};
    if ((q->task != TUNNEL_CHAT && q->task != TUNNEL_COMPLETION) ||
        policy_admit_sampling(policy_node_policy(s->node->papers), &facts, &a) == POLICY_ADMIT_OK)
        return true;
    answer_error(s, policy_admit_status(a.code), policy_admit_name(a.code), a.field, a.text);
    return false;
}

static void submit(struct stream *s, const struct tunnel_request *q)
{
    static const struct engine_events events = {on_event};
    struct node *n = s->node;
    const struct policy_model *m = policy_find_model(policy_node_policy(n->papers), q->model);
    if (!is_ready(s))
        return;
    if (q != n->request)
        *n->request = *q;
    if (m && memcmp(m->root, n->root, sizeof n->root) == 0) /* whatever the newest policy calls it */
        n->request->model = span_str(engine_served(n->engine, 0));
    engine_settle(n->engine, n->request);
    if (!sampling_is_allowed(s, n->request))
        return;
    s->submitted = true;
    s->job = engine_submit(n->engine, n->request, &events, s);
    if (s->job == 0) {
        s->submitted = false;
        answer_error(s, 503, "engine_unavailable", "", "the engine is short of memory; try again in a moment");
    }
}

/* The whole request is here. */
static void take_request(struct stream *s)
{
    struct node *n = s->node;
    const char *code = "frame_body";
    if (s->kind == TUNNEL_FRAME_SEALED) {
        s->sealed = n->serving ? sealed_open(n, writer_span(&s->request), &code) : NULL;
        if (s->sealed && sealed_request(s->sealed))
            submit(s, sealed_request(s->sealed));
        else if (!s->sealed)
            abort_stream(s, n->serving ? code : "engine_unavailable");
    } else if (tunnel_request_parse(n->request, writer_span(&s->request)) == READER_OK) {
        submit(s, n->request);
    } else {
        abort_stream(s, code);
    }
    drop_request(s);
    secret_wipe(n->request, sizeof *n->request);
}

static void take_data(struct node *n, const struct tunnel_mux_event *ev)
{
    struct tunnel_mux *mux = tunnel_link_mux(n->link);
    struct stream *s = tunnel_mux_tag(mux, ev->stream);
    tunnel_mux_consumed(mux, ev->stream, ev->cost);
    if (!s && !(s = stream_new(n, ev->stream))) {
        tunnel_mux_abort(mux, ev->stream, "memory");
        return;
    }
    if (s->kind == 0)
        s->kind = ev->frame.kind;
    if (ev->frame.kind != s->kind || (s->kind != TUNNEL_FRAME_REQUEST && s->kind != TUNNEL_FRAME_SEALED)) {
        abort_stream(s, "frame_kind");
        return;
    }
    if (s->gone || s->submitted || n->request_bytes + ev->frame.body.len > REQUESTS_BYTES_MAX) {
        abort_stream(s, "message_size");
        return;
    }
    n->request_bytes += ev->frame.body.len;
    writer_bytes(&s->request, ev->frame.body);
    if (!writer_ok(&s->request)) {
        n->request_bytes -= ev->frame.body.len;
        abort_stream(s, "message_size");
    } else if (!(ev->frame.flags & TUNNEL_FRAME_MORE)) {
        take_request(s);
    }
}

void node_serve_event(struct node *n, const struct tunnel_mux_event *ev)
{
    struct stream *s = tunnel_mux_tag(tunnel_link_mux(n->link), ev->stream);
    switch (ev->kind) {
    case TUNNEL_MUX_DATA:
        take_data(n, ev);
        break;
    case TUNNEL_MUX_CANCEL:
        if (s && s->submitted)
            engine_cancel(n->engine, s->job); /* its last event ends the stream */
        else if (s)
            abort_stream(s, "cancelled");
        break;
    case TUNNEL_MUX_ENDED:
        if (s)
            s->gone = true;
        break;
    case TUNNEL_MUX_WRITABLE:
    case TUNNEL_MUX_NOTHING:
        break;
    }
}

void node_serve_stop(struct node *n, const char *code)
{
    for (struct stream *s = n->streams; s; s = s->next)
        abort_stream(s, code);
    node_serve_flush(n);
}
