/* dial_parts.h - what the files of this folder share; nobody else includes it. */
#ifndef TUNNEL_DIAL_DIAL_PARTS_H
#define TUNNEL_DIAL_DIAL_PARTS_H

#include "tunnel/attest/attester.h"
#include "tunnel/dial/dial.h"
#include "tunnel/resolve.h"
#include "tunnel/stats.h"

/* What the configuration names: a proxy's or keyd's name and port. */
struct target {
    struct dial *dial;
    char host[256];
    uint16_t port;
    bool keyd, literal, asking;
    uint32_t index;      /* keyd: place in the configuration */
    uint64_t resolve_ms; /* ask again then */
    struct writer ask;   /* keyd: the engine's question, until a connection is there to carry it */
};

enum peer_state { PEER_IDLE, PEER_CONNECTING, PEER_UP };

/* One address of a target. */
struct peer {
    struct dial *dial;
    struct target *target; /* NULL: free slot */
    union tunnel_address address;
    char name[64];
    bool listed; /* still among the name's addresses */
    enum peer_state state;
    int fd;
    uint32_t id; /* number of this connection, told to the engine; rises */
    bool told;   /* the engine knows it as up */
    struct tunnel_channel *channel;
    uint64_t retry_ms, since_ms;
    uint32_t backoff_ms;
    struct verifier_claims *claims; /* of the last good verdict */
    bool leaf_waiting;              /* a challenge to answer; the attester was busy */
    uint32_t leaf_id;               /* asked of the attester; 0: nothing */
    uint64_t leaf_ms;
    struct writer challenge;
    uint8_t exporter[32];
    struct pollfd *poll; /* this round's, or NULL */
};

/* One request stream: a stream of a proxy's connection and one of the link, or (QUOTE) an answer of the attester. */
struct relay {
    struct relay *next;
    struct peer *peer; /* NULL: that side is gone */
    uint32_t stream;   /* of the peer */
    uint32_t link;     /* of the link; 0: that side is gone */
    bool quote;
    uint32_t leaf_id;
    uint64_t leaf_ms;
    struct writer answer; /* of a QUOTE: the envelope, sent as far as `at` */
    size_t at;
};

struct dial {
    struct dial_config config;
    struct tunnel_tls *tls;
    struct tunnel_link *link;
    struct tunnel_resolve *resolve;
    struct attester_inbox inbox;
    struct target target[DIAL_TARGETS_MAX + TUNNEL_KEYDS_MAX];
    size_t target_count;
    struct peer peer[DIAL_PEERS_MAX];
    struct relay *relays;
    uint32_t next_id, next_leaf;
    uint8_t policy_digest[64]; /* of the rules in force */
    bool has_rules;
    struct writer stats;          /* the engine's newest, for a proxy that comes later */
    uint64_t rules_now, rules_ms; /* trusted seconds, and the monotonic time they were true at */
    bool draining, broken, over;
    uint64_t drain_ms;
};

uint64_t dial_now_ms(void);
uint64_t dial_trusted_now(const struct dial *d); /* 0: none yet */
uint32_t dial_random(void);
/* One JSON line: what happened, with whom, with which code. Never content. */
void dial_say(const char *event, const char *peer, const char *code);

/* peer.c */
struct peer *peer_find(struct dial *d, const struct target *t, const union tunnel_address *a);
void peer_add(struct dial *d, struct target *t, const union tunnel_address *a);
void peer_step(struct peer *p, uint64_t now_ms); /* dial, time-outs, removal */
void peer_socket(struct peer *p, uint64_t now_ms, short revents);
void peer_events(struct peer *p, uint64_t now_ms);
void peer_flush(struct peer *p, uint64_t now_ms);
uint64_t peer_deadline(const struct peer *p);
void peer_close(struct peer *p, const char *code);
/* Challenge again at once: the rules have changed. */
void peer_recheck(struct peer *p, uint64_t now_ms);

/* relay.c */
void relay_from_peer(struct peer *p, const struct tunnel_mux_event *e);
void relay_from_link(struct dial *d, const struct tunnel_mux_event *e);
bool relay_leaf(struct dial *d, uint32_t id, enum attester_err err, struct span envelope);
void relay_step(struct dial *d, uint64_t now_ms);           /* questions that the attester could not take yet */
void relay_peer_gone(struct dial *d, const struct peer *p); /* whatever of its streams did not end */
void relay_close_all(struct dial *d);

#endif
