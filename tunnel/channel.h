/* channel.h - one attested TLS connection: proxy <-> airlock-tunnel, and node -> keyd.
 * Sans I/O: bytes and monotonic time come in as arguments, bytes and events go out; no socket, clock or thread. It
 * proves and judges nothing itself: its owner brings challenges, envelopes and verdicts.
 *
 * Session: TLS 1.3 only, ALPN airlock/1, both ends with a self-signed P-256 certificate whose key was made in this
 * process; no tickets, resumption, PSK, early data, renegotiation or post-handshake authentication. The certificate is
 * checked for exactly that form and trusted for nothing. Then, on stream 0, each side that must prove itself answers
 * the other's challenge; the two directions do not wait for each other. Streams open once every direction that is
 * configured has a good verdict. Verdicts are renewed in place: TUNNEL_EV_RENEW comes at two thirds of a verdict's
 * life, its end without a newer one closes the connection with "expired". Format: tunnel/PROTOCOL.md § Carriage. */
#ifndef TUNNEL_CHANNEL_H
#define TUNNEL_CHANNEL_H

#include "tunnel/mux.h"
#include "tunnel/tls.h"
#include "verifier/check.h"

enum {
    TUNNEL_CHALLENGE_MAX = 4096,
    TUNNEL_ENVELOPE_MAX = 1 << 20,
    TUNNEL_ASK_MAX = 4096,
    TUNNEL_GRANT_MAX = 1 << 20,
    TUNNEL_PING_MS = 10000,        /* default interval; dead after two unanswered */
    TUNNEL_ATTEST_MS = 30000,      /* from the first byte to the last verdict, and from a challenge to its envelope */
    TUNNEL_CHALLENGE_BURST = 4,    /* challenges a peer may send at once ... */
    TUNNEL_CHALLENGE_EVERY = 5000, /* ... and one more each so many milliseconds */
    TUNNEL_REKEY_RECORDS = 1 << 22,
};
struct tunnel_channel_config {
    struct tunnel_tls *tls; /* borrowed until the channel is closed */
    bool server;            /* accepts the TLS handshake; also the end that opens streams (the proxy) */
    bool proves;            /* the peer challenges us */
    bool judges;            /* we challenge the peer */
    uint32_t ping_ms;       /* 0: TUNNEL_PING_MS */
    uint64_t rekey_records; /* 0: TUNNEL_REKEY_RECORDS */
};

enum tunnel_channel_kind {
    TUNNEL_EV_NONE,
    TUNNEL_EV_SECURE, /* handshake done; if we judge: call tunnel_channel_challenge(). Once */
    TUNNEL_EV_RENEW,  /* the verdict about the peer has a third of its life left: challenge again */
    /* the peer asks: get an envelope for `challenge`, `spki` (ours) and `exporter`, then tunnel_channel_answer() */
    TUNNEL_EV_CHALLENGED,
    /* the peer answered: check `body` (an envelope) against `challenge` (ours), `spki` (the peer's), `exporter` and
     * `session`, then tunnel_channel_verdict() */
    TUNNEL_EV_EVIDENCE,
    TUNNEL_EV_JUDGED, /* the peer's verdict about us: `code`, `valid_until`. A refusal is followed by CLOSED */
    TUNNEL_EV_OPEN,   /* every configured direction has a good verdict. Once */
    TUNNEL_EV_STREAM, /* `stream`: see tunnel_mux_event */
    TUNNEL_EV_ASK,    /* keyd only: `body` */
    TUNNEL_EV_GRANT,  /* node only: `body`, a signed grant */
    TUNNEL_EV_STATS,  /* proxy only: `body`, the engine's metrics */
    TUNNEL_EV_GOAWAY, /* the peer drains: no new streams */
    TUNNEL_EV_CLOSED, /* `code`: why. Last; send what tunnel_channel_output() still has, then close */
};
/* Spans are borrowed until the next call that takes the channel. */
struct tunnel_channel_event {
    enum tunnel_channel_kind kind;
    struct span body, challenge, spki;
    uint8_t exporter[32];
    struct verifier_session session;
    uint64_t valid_until; /* seconds since 1970 by the judge's clock */
    char code[64];        /* "ok", a verifier's code or a tunnel_err_name */
    struct tunnel_mux_event stream;
};

struct tunnel_channel;

/* NULL: out of memory. `now_ms` here and below: monotonic milliseconds. Yours: tunnel_channel_close(). */
struct tunnel_channel *tunnel_channel_open(const struct tunnel_channel_config *config, uint64_t now_ms);
void tunnel_channel_close(struct tunnel_channel *c);

/* Bytes from the socket; all are taken. Whatever they cause comes out as events. Zero bytes at end of file: use
 * tunnel_channel_lost(). */
void tunnel_channel_feed(struct tunnel_channel *c, uint64_t now_ms, struct span bytes);
void tunnel_channel_lost(struct tunnel_channel *c); /* the socket ended or broke */
void tunnel_channel_tick(struct tunnel_channel *c, uint64_t now_ms);
uint64_t tunnel_channel_deadline(const struct tunnel_channel *c); /* when tick() wants to be called, at the latest */

/* Bytes for the socket, borrowed until the next call; tell how many went out with tunnel_channel_sent(). */
struct span tunnel_channel_output(struct tunnel_channel *c, uint64_t now_ms);
void tunnel_channel_sent(struct tunnel_channel *c, size_t len);

/* The next event; false when there is none. Call until false after feed, tick, lost and every call below. */
bool tunnel_channel_event(struct tunnel_channel *c, struct tunnel_channel_event *out);

/* Challenge the peer (at most TUNNEL_CHALLENGE_MAX bytes, copied). False while one is open, or when closed. */
MUST_CHECK bool tunnel_channel_challenge(struct tunnel_channel *c, uint64_t now_ms, struct span challenge);
/* Our envelope for the open challenge of the peer (copied). False when none is open, or it is too long. */
MUST_CHECK bool tunnel_channel_answer(struct tunnel_channel *c, struct span envelope);
/* Our verdict on the evidence: code "ok" with `valid_until` (sent to the peer) and the seconds that are left of it by
 * our clock; any other code closes the connection, its streams end with that code. */
void tunnel_channel_verdict(struct tunnel_channel *c, uint64_t now_ms, const char *code, uint64_t valid_until,
                            uint64_t left_s);
/* Shorten: the verdict about the peer now ends `left_s` from now (a revocation, a new policy). */
void tunnel_channel_expire(struct tunnel_channel *c, uint64_t now_ms, uint64_t left_s);
/* Cannot answer (attester or policy not ready): closes with `code`. */
void tunnel_channel_refuse(struct tunnel_channel *c, const char *code);
/* No new streams; closes by itself with "going_away" when the last one has ended. */
void tunnel_channel_drain(struct tunnel_channel *c);

/* Node: question to keyd. keyd: its answer. Only while open; false otherwise or when too long. */
MUST_CHECK bool tunnel_channel_ask(struct tunnel_channel *c, struct span ask);
MUST_CHECK bool tunnel_channel_grant(struct tunnel_channel *c, struct span grant);

/* Tunnel to proxy: the engine's metrics, at most 8 KiB. False when not open. */
bool tunnel_channel_stats(struct tunnel_channel *c, struct span stats);

bool tunnel_channel_is_open(const struct tunnel_channel *c);
bool tunnel_channel_is_closed(const struct tunnel_channel *c);
struct span tunnel_channel_peer_spki(const struct tunnel_channel *c); /* empty before SECURE; borrowed from `c` */
/* The exporter for `challenge`: label EXPORTER-airlock-attest-v1, context SHA-256(challenge). False before SECURE. */
MUST_CHECK bool tunnel_channel_exporter(const struct tunnel_channel *c, struct span challenge, uint8_t out[32]);
/* The streams of an open channel: start, room, send, consumed, abort. Its take, next, event, drain, close are ours. */
struct tunnel_mux *tunnel_channel_mux(struct tunnel_channel *c);

/* A token bucket: may something cost one more now? `burst` at once, then one each `every_ms`. Zero-initialised is full.
 * For challenges on a connection, and for a listener's table of addresses. */
struct tunnel_budget {
    uint64_t at_ms;
    uint32_t spent; /* tokens, in milliseconds */
};
bool tunnel_budget_take(struct tunnel_budget *b, uint64_t now_ms, uint32_t burst, uint32_t every_ms);

#endif
