/* dial.h - airlock-tunnel's work: dials every proxy and keyd, proves this engine to them, judges the proxies, and
 * relays request streams between them and the engine. One thread, one poll loop; everything here belongs to it.
 *
 * Inherited: the link to airlock-engine (tunnel/link.h) and the attester's descriptor for leaves. Proxies are dialled
 * once the engine has handed over rules and a trusted time; keyds from the start, as time comes from them. Every
 * address behind a name gets its own connection; names are asked again when their records expire. */
#ifndef TUNNEL_DIAL_DIAL_H
#define TUNNEL_DIAL_DIAL_H

#include "tunnel/link.h"
#include "verifier/check.h"

enum {
    DIAL_TARGETS_MAX = 32,       /* proxies named; keyds: TUNNEL_KEYDS_MAX */
    DIAL_PEERS_MAX = 256,        /* addresses dialled at once */
    DIAL_CONNECT_MS = 5000,      /* for one address */
    DIAL_BACKOFF_MS = 100,       /* first pause after a failure, doubling to ... */
    DIAL_BACKOFF_MAX_MS = 10000, /* ... this, each with jitter of a half */
    DIAL_DRAIN_MS = 60000,       /* then running streams are cut */
    DIAL_TTL_MIN_S = 5,
    DIAL_TTL_MAX_S = 300, /* records are believed at least and at most so long */
};

/* How proxies are judged: real, or a test's three lines. */
struct dial_judge {
    void *ctx;
    /* New rules from the engine. False: they cannot be used; nobody is judged by them. */
    bool (*rules)(void *ctx, const struct tunnel_rules *rules);
    /* "ok" and `*valid_until`, or the code to refuse with. `*claims` (yours, or NULL) is `in->previous` of the next. */
    const char *(*judge)(void *ctx, const struct verifier_input *in, uint64_t *valid_until,
                         struct verifier_claims **claims);
};
/* By the owner's policy (policy/peers.h). NULL ctx: out of memory. */
struct dial_judge dial_judge_open(void);
void dial_judge_close(struct dial_judge *j);

struct dial_config {
    char proxy[DIAL_TARGETS_MAX][256]; /* "HOST:PORT", "[ADDR]:PORT" */
    size_t proxy_count;
    char keyd[TUNNEL_KEYDS_MAX][256]; /* in the order of the policy's keyd keys */
    size_t keyd_count;
    int link_fd;     /* taken over */
    int attester_fd; /* leaves only; taken over */
    struct dial_judge judge;
};

struct dial;
/* NULL with a sentence in `why`. Name look-ups are set up here: before the sandbox closes the files. */
struct dial *dial_open(const struct dial_config *config, char why[256]);
/* Serve until the engine is gone, drains, or dial_stop(). 0: drained or the engine left; 1: something broke. */
int dial_run(struct dial *d);
void dial_stop(struct dial *d); /* from a signal handler: drain */
void dial_close(struct dial *d);

#endif
