/* relay.c - streams: a proxy's connection on one side, the link to the engine on the other. Frames pass one by one and
 * unread; the credit of each goes back to its sender when it has left on the other side, so a slow end stops a quick
 * one and at most one window a stream waits here. A QUOTE is answered from the attester, not by the engine. */
#include "tunnel/dial/dial_parts.h"

#include <stdlib.h>

enum { QUOTE_MS = 10000 };

static struct tunnel_mux *peer_mux(const struct relay *r)
{
    return tunnel_channel_mux(r->peer->channel);
}
static struct tunnel_mux *link_mux(const struct dial *d)
{
    return tunnel_link_mux(d->link);
}

static struct relay *relay_open(struct dial *d, struct peer *p, uint32_t stream)
{
    struct relay *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    *r = (struct relay){.next = d->relays, .peer = p, .stream = stream};
    r->answer = writer_with_max(TUNNEL_ENVELOPE_MAX);
    d->relays = r;
    return r;
}

static void relay_free(struct dial *d, struct relay *r)
{
    struct relay **at = &d->relays;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    writer_release(&r->answer);
    free(r);
}

void relay_close_all(struct dial *d)
{
    while (d->relays)
        relay_free(d, d->relays);
}

/* The proxy's side of a relay is over; the relay goes when the link's side is over too. */
static void leave_peer(struct dial *d, struct relay *r, const char *code)
{
    if (r->peer)
        tunnel_mux_abort(peer_mux(r), r->stream, code);
    r->peer = NULL;
    if (r->link == 0)
        relay_free(d, r);
}

/* The proxy's connection is over. */
static void lose_peer(struct dial *d, struct relay *r)
{
    r->peer = NULL;
    if (r->link)
        tunnel_mux_abort(link_mux(d), r->link, "cancelled");
    else if (!r->leaf_id)
        relay_free(d, r);
}

void relay_peer_gone(struct dial *d, const struct peer *p)
{
    for (struct relay *r = d->relays, *next; r; r = next) {
        next = r->next;
        if (r->peer == p)
            lose_peer(d, r);
    }
}

/* --- QUOTE: the client's challenge to this engine ------------------------------------------------- */

static void ask_sealed(struct dial *d, struct relay *r, struct span challenge, uint64_t now_ms)
{
    r->leaf_id = ++d->next_leaf;
    r->leaf_ms = now_ms;
    if (attester_ask_sealed_leaf(d->config.attester_fd, r->leaf_id, challenge) != ATTESTER_OK)
        leave_peer(d, r, "attester_busy");
}

/* As much of the answer as the stream takes. */
static void send_answer(struct dial *d, struct relay *r)
{
    while (r->at < r->answer.len) {
        size_t room = tunnel_mux_room(peer_mux(r), r->stream), left = r->answer.len - r->at;
        size_t len = left < room ? left : room;
        if (len == 0 || (len < left && len < 1024))
            return;
        uint8_t flags = len < left ? TUNNEL_FRAME_MORE : TUNNEL_FRAME_END;
        struct tunnel_frame f = {TUNNEL_FRAME_EVENT, flags, r->stream, span_of(r->answer.data + r->at, len)};
        if (!tunnel_mux_send(peer_mux(r), &f))
            return;
        r->at += len;
    }
    relay_free(d, r);
}

bool relay_leaf(struct dial *d, uint32_t id, enum attester_err err, struct span envelope)
{
    for (struct relay *r = d->relays; r; r = r->next) {
        if (r->leaf_id != id)
            continue;
        r->leaf_id = 0;
        if (!r->peer) {
            relay_free(d, r);
            return true;
        }
        writer_bytes(&r->answer, envelope);
        if (err || !writer_ok(&r->answer) || r->answer.len == 0)
            leave_peer(d, r, err ? attester_err_name(err) : "envelope_size");
        else
            send_answer(d, r);
        return true;
    }
    return false;
}

void relay_step(struct dial *d, uint64_t now_ms)
{
    for (struct relay *r = d->relays, *next; r; r = next) {
        next = r->next;
        if (r->leaf_id && now_ms >= r->leaf_ms + QUOTE_MS)
            leave_peer(d, r, "attester_timeout");
    }
}

/* --- from a proxy --------------------------------------------------------------------------------- */

static void first_frame(struct peer *p, const struct tunnel_mux_event *e)
{
    struct dial *d = p->dial;
    struct tunnel_mux *from = tunnel_channel_mux(p->channel);
    struct relay *r = relay_open(d, p, e->stream);
    if (!r) {
        tunnel_mux_abort(from, e->stream, "memory");
        return;
    }
    tunnel_mux_set_tag(from, e->stream, r);
    if (e->frame.kind == TUNNEL_FRAME_QUOTE) {
        r->quote = true;
        tunnel_mux_consumed(from, e->stream, e->cost);
        ask_sealed(d, r, e->frame.body, dial_now_ms());
        return;
    }
    r->link = tunnel_mux_start(link_mux(d), r);
    if (r->link == 0)
        leave_peer(d, r, d->draining ? "going_away" : "engine_unavailable");
}

static void data_from_peer(struct peer *p, const struct tunnel_mux_event *e)
{
    struct dial *d = p->dial;
    struct tunnel_mux *from = tunnel_channel_mux(p->channel);
    if (!tunnel_mux_tag(from, e->stream))
        first_frame(p, e);
    struct relay *r = tunnel_mux_tag(from, e->stream); /* first_frame may have ended it */
    if (!r || r->quote)
        return;
    struct tunnel_frame f = e->frame;
    f.stream = r->link;
    if (r->link != 0 && tunnel_mux_send(link_mux(d), &f))
        return;
    tunnel_mux_consumed(from, e->stream, e->cost); /* that side is over: ENDED follows or has come ... */
    if (r->link != 0 && tunnel_mux_room(link_mux(d), r->link) > 0)
        tunnel_mux_abort(link_mux(d), r->link, "memory"); /* ... or there was none: nothing goes on with a hole in it */
}

void relay_from_peer(struct peer *p, const struct tunnel_mux_event *e)
{
    struct dial *d = p->dial;
    struct tunnel_mux *from = tunnel_channel_mux(p->channel);
    if (e->kind == TUNNEL_MUX_DATA) {
        data_from_peer(p, e);
        return;
    }
    if (e->kind == TUNNEL_MUX_ENDED) { /* the connection is lost; the tag went with the stream */
        for (struct relay *r = d->relays, *next; r; r = next) {
            next = r->next;
            if (r->peer == p && r->stream == e->stream)
                lose_peer(d, r);
        }
        return;
    }
    struct relay *r = tunnel_mux_tag(from, e->stream);
    if (!r)
        return;
    if (e->kind == TUNNEL_MUX_CANCEL && r->link)
        tunnel_mux_abort(link_mux(d), r->link, e->code); /* its ENDED confirms */
    else if (e->kind == TUNNEL_MUX_CANCEL)
        leave_peer(d, r, "cancelled");
    else if (e->kind == TUNNEL_MUX_WRITABLE && r->quote)
        send_answer(d, r);
    else if (e->kind == TUNNEL_MUX_WRITABLE && r->link)
        tunnel_mux_consumed(link_mux(d), r->link, e->cost);
}

/* --- from the engine ------------------------------------------------------------------------------ */

static struct relay *find_link(struct dial *d, uint32_t link)
{
    struct relay *r = d->relays;
    while (r && r->link != link)
        r = r->next;
    return r;
}

void relay_from_link(struct dial *d, const struct tunnel_mux_event *e)
{
    bool ended = e->kind == TUNNEL_MUX_ENDED;
    struct relay *r = ended ? find_link(d, e->stream) : tunnel_mux_tag(link_mux(d), e->stream);
    if (!r)
        return;
    if (ended) {
        r->link = 0;
        if (e->code[0])
            leave_peer(d, r, e->code);
        else
            relay_free(d, r); /* END stands in the proxy's queue */
        return;
    }
    if (e->kind == TUNNEL_MUX_WRITABLE && r->peer)
        tunnel_mux_consumed(peer_mux(r), r->stream, e->cost);
    if (e->kind != TUNNEL_MUX_DATA)
        return;
    struct tunnel_frame f = e->frame;
    f.stream = r->stream;
    if (r->peer && tunnel_mux_send(peer_mux(r), &f))
        return;
    tunnel_mux_consumed(link_mux(d), r->link, e->cost);
    if (r->peer) { /* no memory: an answer must not go on with a hole in it */
        tunnel_mux_abort(peer_mux(r), r->stream, "memory");
        lose_peer(d, r);
    }
}
