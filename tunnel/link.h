/* link.h - airlock-engine <-> airlock-tunnel: one inherited SOCK_SEQPACKET pair, a frame a record.
 * The engine end answers request streams; the tunnel end opens them. Beside the streams travel: heartbeats (every
 * second; silence of three is death), which peers are up, the rules by which the tunnel judges proxies, and the
 * engine's questions to keyd with keyd's answers, which the tunnel carries and cannot use.
 * Owns the descriptor. One thread at a time; from the first pump on, pump often: a pause over TUNNEL_LINK_DEAD_MS is
 * death to the other end. Before its first word an end may take its time (loading); its death shows at once.
 *
 * Engine's loop (and the tunnel's):
 *     poll { tunnel_link_fd(l), tunnel_link_wants(l) } up to tunnel_link_deadline(l)
 *     tunnel_link_pump(l, now_ms);
 *     while (tunnel_link_event(l, &ev)) ...            // TUNNEL_LINK_CLOSED: leave
 *     tunnel_link_pump(l, now_ms);                     // what the events caused
 */
#ifndef TUNNEL_LINK_H
#define TUNNEL_LINK_H

#include "tunnel/channel.h"

enum {
    TUNNEL_LINK_BEAT_MS = 1000,
    TUNNEL_LINK_DEAD_MS = 3000,
    TUNNEL_RULES_MAX = 1 << 20,
    TUNNEL_KEYDS_MAX = 8,
    TUNNEL_PEER_NAME_MAX = 256,
};

/* A peer of the tunnel that came or went: a proxy (attested both ways, requests may come), or a keyd (may be asked).
 * Wire: { kind, index, up, name, code }. */
struct tunnel_peer {
    bool keyd;
    uint32_t index; /* keyd: place in the configuration, 0 to TUNNEL_KEYDS_MAX - 1; proxy: a number of its own */
    bool up;
    struct span name; /* address as dialled, for logs */
    struct span code; /* why it went: a code; "ok" when up */
};

/* By what the tunnel judges proxies, and its time. Wire: { policy, revocations, now }. */
struct tunnel_rules {
    struct span policy;      /* the envelope's policy part: keysets, then the signed policy */
    struct span revocations; /* signed object; empty: none */
    uint64_t now;            /* trusted seconds since 1970; 0: none yet, judge nobody */
};
void tunnel_rules_encode(struct writer *w, const struct tunnel_rules *in);
MUST_CHECK enum reader_err tunnel_rules_parse(struct tunnel_rules *out, struct span bytes); /* borrows */

enum tunnel_link_kind {
    TUNNEL_LINK_NONE,
    TUNNEL_LINK_STREAM, /* `stream`: see tunnel_mux_event */
    TUNNEL_LINK_PEER,   /* engine end: `peer` */
    TUNNEL_LINK_RULES,  /* tunnel end: `rules` */
    TUNNEL_LINK_ASK,    /* tunnel end: `body` for keyd number `keyd` */
    TUNNEL_LINK_GRANT,  /* engine end: `body` from keyd number `keyd` */
    TUNNEL_LINK_STATS,  /* tunnel end: `body`, the engine's metrics for every proxy */
    TUNNEL_LINK_DRAIN,  /* no new streams from the other end; it leaves when the running ones have ended */
    TUNNEL_LINK_CLOSED, /* `why`: the other end died, froze or misbehaved. Last */
};
/* Spans are borrowed until the next call that takes the link. */
struct tunnel_link_event {
    enum tunnel_link_kind kind;
    struct tunnel_mux_event stream;
    struct tunnel_peer peer;
    struct tunnel_rules rules;
    uint32_t keyd;
    struct span body;
    enum tunnel_err why;
};

struct tunnel_link;

/* Both ends of a new pair, close-on-exec, non-blocking. 0, or -1 with errno. */
MUST_CHECK int tunnel_link_pair(int fds[2]);
/* Takes `fd` over. `engine`: the engine's end. NULL: out of memory (fd still yours). Yours: tunnel_link_close(). */
struct tunnel_link *tunnel_link_open(int fd, bool engine, uint64_t now_ms);
void tunnel_link_close(struct tunnel_link *l);

int tunnel_link_fd(const struct tunnel_link *l);
short tunnel_link_wants(struct tunnel_link *l);             /* POLLIN, and POLLOUT while there is something to write */
uint64_t tunnel_link_deadline(const struct tunnel_link *l); /* monotonic ms: pump again by then */
/* Read and write what the socket takes without blocking; heartbeats and their deadline. */
void tunnel_link_pump(struct tunnel_link *l, uint64_t now_ms);
/* The next event; false when there is none. */
bool tunnel_link_event(struct tunnel_link *l, struct tunnel_link_event *out);

/* False when the link is closed or out of memory. Bytes are copied. */
bool tunnel_link_peer(struct tunnel_link *l, const struct tunnel_peer *peer);               /* tunnel end */
MUST_CHECK bool tunnel_link_rules(struct tunnel_link *l, const struct tunnel_rules *rules); /* engine end */
MUST_CHECK bool tunnel_link_ask(struct tunnel_link *l, uint32_t keyd, struct span ask);     /* engine end */
MUST_CHECK bool tunnel_link_grant(struct tunnel_link *l, uint32_t keyd, struct span grant); /* tunnel end */
/* The engine's metrics (tunnel/stats.h, packed); once a second is enough. */
bool tunnel_link_stats(struct tunnel_link *l, struct span stats); /* engine end */
void tunnel_link_drain(struct tunnel_link *l);
bool tunnel_link_is_closed(const struct tunnel_link *l);
/* The streams: room, send, consumed, abort (and start, on the tunnel's end). */
struct tunnel_mux *tunnel_link_mux(struct tunnel_link *l);

#endif
