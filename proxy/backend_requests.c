/* backend_requests.c - requests on their way to engines, and answers back. */
#include "proxy/backend_parts.h"

#include <stdlib.h>

enum { TRIES_MAX = 3 };

void request_free(struct request *r)
{
    writer_release(&r->bytes);
    writer_release(&r->answer);
    free(r);
}

static struct request *find(const struct backend *b, uint64_t id)
{
    struct request *r = b->requests;
    while (r && r->id != id)
        r = r->next;
    return r;
}

static struct tunnel_mux *mux_of(const struct request *r)
{
    return tunnel_channel_mux(r->engine->channel);
}

/* The one call that ends a request; it is gone afterwards. */
static void finish(struct backend *b, struct request *r, enum backend_end why, const char *code)
{
    for (struct request **at = &b->requests; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    if (r->engine)
        r->engine->running--;
    if (why == BACKEND_END_UNAVAILABLE)
        b->count.unavailable++;
    if (why == BACKEND_END_CANCELLED)
        b->count.cancelled++;
    if (r->kind != REQUEST_QUOTE)
        r->events.end(r->ctx, why, code);
    else if (why == BACKEND_END_DONE)
        r->done(r->ctx, BACKEND_OK, writer_span(&r->answer), (const uint8_t(*)[32])r->allowed, 1);
    else
        r->done(r->ctx, why == BACKEND_END_STOPPED ? BACKEND_BUSY : BACKEND_NO_ENGINE, span_of(NULL, 0), NULL, 0);
    request_free(r);
}

/* --- to an engine --------------------------------------------------------------------------------- */

static bool is_allowed(const struct request *r, const struct engine *e)
{
    const struct verifier_state *s = &e->evidence->claims->node.state;
    bool named = r->allowed_count == 0;
    for (size_t i = 0; i < r->allowed_count; i++)
        named = named || memcmp(r->allowed[i], e->evidence->identity, 32) == 0;
    return named && (!r->has_root || !s->has_model || memcmp(s->model.root, r->root, sizeof r->root) == 0);
}

static struct engine *choose(const struct backend *b, const struct request *r, const struct engine *not_this)
{
    size_t most = b->config.streams_per_engine ? b->config.streams_per_engine : TUNNEL_STREAMS_MAX;
    struct engine *best = NULL;
    for (struct engine *e = b->engines; e; e = e->next) {
        if (!e->admitted || e->draining || e->dead || e == not_this || e->running >= most || !is_allowed(r, e) ||
            !tunnel_channel_is_open(e->channel))
            continue;
        if (!best || e->running < best->running)
            best = e;
    }
    return best;
}

/* As much of the request as its stream takes. The bytes stay until the first answer. */
static void send_more(struct backend *b, struct request *r)
{
    static const uint8_t kinds[] = {[REQUEST_PLAIN] = TUNNEL_FRAME_REQUEST,
                                    [REQUEST_SEALED] = TUNNEL_FRAME_SEALED,
                                    [REQUEST_QUOTE] = TUNNEL_FRAME_QUOTE};
    while (r->engine && r->at < r->bytes.len) {
        size_t room = tunnel_mux_room(mux_of(r), r->stream), left = r->bytes.len - r->at;
        size_t len = left < room ? left : room;
        if (len == 0 || (len < left && len < TUNNEL_FRAME_BODY_MAX / 2))
            return;
        struct tunnel_frame f = {.kind = kinds[r->kind],
                                 .flags = len < left ? TUNNEL_FRAME_MORE : 0,
                                 .stream = r->stream,
                                 .body = span_of(r->bytes.data + r->at, len)};
        if (!tunnel_mux_send(mux_of(r), &f))
            return;
        r->at += len;
        b->count.bytes_out += len;
    }
}

/* False: there is no engine for it. */
static bool dispatch(struct backend *b, struct request *r, const struct engine *not_this)
{
    struct engine *e = choose(b, r, not_this);
    uint32_t stream = e ? tunnel_mux_start(tunnel_channel_mux(e->channel), r) : 0;
    if (stream == 0)
        return false;
    r->engine = e;
    r->stream = stream;
    r->at = 0;
    r->tries++;
    e->running++;
    send_more(b, r);
    return true;
}

/* Which model does it name? An unknown name is the engine's to refuse. */
static void find_root(const struct backend *b, struct request *r)
{
    struct tunnel_request *q = r->kind == REQUEST_PLAIN && b->policy ? malloc(sizeof *q) : NULL;
    if (!q)
        return;
    const struct policy_model *m = NULL;
    if (tunnel_request_parse(q, writer_span(&r->bytes)) == READER_OK)
        m = policy_find_model(b->policy, q->model);
    if (m) {
        r->has_root = true;
        memcpy(r->root, m->root, sizeof r->root);
    }
    free(q);
}

void request_take(struct backend *b, struct request *r)
{
    r->next = b->requests;
    b->requests = r;
    b->count.requests++;
    if (!writer_ok(&r->bytes) || r->bytes.len == 0 ||
        (r->kind == REQUEST_QUOTE && r->bytes.len > VERIFIER_CHALLENGE_MAX)) {
        finish(b, r, BACKEND_END_TOO_LARGE, "request_too_large");
        return;
    }
    find_root(b, r);
    if (!dispatch(b, r, NULL))
        finish(b, r, BACKEND_END_UNAVAILABLE, "engine_unavailable");
}

void request_cancel(struct backend *b, uint64_t id)
{
    struct request *r = find(b, id);
    if (!r || r->cancelled)
        return;
    r->cancelled = true;
    tunnel_mux_abort(mux_of(r), r->stream, "cancelled"); /* its ENDED ends the request */
}

void request_consumed(struct backend *b, uint64_t id, size_t bytes)
{
    struct request *r = find(b, id);
    if (!r)
        return;
    if (bytes > r->delivered)
        bytes = r->delivered;
    r->delivered -= bytes;
    tunnel_mux_consumed(mux_of(r), r->stream, bytes);
}

/* --- from an engine ------------------------------------------------------------------------------- */

/* The codes that say that the connection was lost, not why the engine was turned away. */
static const char *lost_code(const char *code)
{
    if (strcmp(code, tunnel_err_name(TUNNEL_E_EXPIRED)) == 0)
        return code;
    for (int i = TUNNEL_OK + 1; i < TUNNEL_ERR_COUNT; i++)
        if (strcmp(code, tunnel_err_name((enum tunnel_err)i)) == 0)
            return tunnel_err_name(TUNNEL_E_ENGINE_UNAVAILABLE);
    return code;
}

static void data(struct backend *b, struct request *r, const struct tunnel_mux_event *ev)
{
    size_t len = ev->frame.body.len;
    b->count.bytes_in += len;
    if (!r->answered) {
        r->answered = true;
        if (r->at == r->bytes.len)
            writer_release(&r->bytes), r->at = 0; /* nobody else will take it now */
    }
    if (r->kind == REQUEST_QUOTE) {
        writer_bytes(&r->answer, ev->frame.body);
        tunnel_mux_consumed(mux_of(r), r->stream, ev->cost);
        return;
    }
    r->delivered += len;
    tunnel_mux_consumed(mux_of(r), r->stream, ev->cost - len); /* the header is ours */
    if (len > 0)
        r->events.event(r->ctx, ev->frame.body);
}

static void ended(struct backend *b, struct request *r, const char *code)
{
    const struct engine *was = r->engine;
    bool may_retry = !r->answered && !r->cancelled && code[0] && r->bytes.len > 0 && r->tries < TRIES_MAX &&
                     r->kind == REQUEST_PLAIN;
    if (r->cancelled) {
        finish(b, r, BACKEND_END_CANCELLED, "cancelled");
        return;
    }
    if (!code[0]) {
        bool good = r->kind != REQUEST_QUOTE || (writer_ok(&r->answer) && r->answer.len > 0);
        finish(b, r, good ? BACKEND_END_DONE : BACKEND_END_UNAVAILABLE, good ? "" : "engine_unavailable");
        return;
    }
    if (may_retry) {
        r->engine->running--;
        r->engine = NULL;
        if (dispatch(b, r, was)) {
            b->count.retried++;
            return;
        }
    }
    finish(b, r, BACKEND_END_UNAVAILABLE, lost_code(code));
}

void request_event(struct engine *e, const struct tunnel_mux_event *ev)
{
    struct backend *b = e->backend;
    struct request *r = tunnel_mux_tag(tunnel_channel_mux(e->channel), ev->stream);
    if (ev->kind == TUNNEL_MUX_ENDED) /* the tag went with the stream */
        for (r = b->requests; r && (r->engine != e || r->stream != ev->stream);)
            r = r->next;
    if (!r)
        return;
    if (ev->kind == TUNNEL_MUX_DATA)
        data(b, r, ev);
    else if (ev->kind == TUNNEL_MUX_WRITABLE)
        send_more(b, r);
    else if (ev->kind == TUNNEL_MUX_ENDED)
        ended(b, r, ev->code);
}

void requests_lose(struct backend *b, const struct engine *e)
{
    for (struct request *r = b->requests, *next; r; r = next) {
        next = r->next;
        if (r->engine == e)
            finish(b, r, BACKEND_END_UNAVAILABLE, tunnel_err_name(TUNNEL_E_ENGINE_UNAVAILABLE));
    }
}

void requests_close(struct backend *b)
{
    while (b->requests)
        finish(b, b->requests, BACKEND_END_STOPPED, "engine_unavailable");
}
