/* upstream.h - attested connections from `airlock connect` to its proxies.
 * A connection is handed out only while a verdict of the caller's own rules holds for it. Idle ones are kept, and
 * attested again in place when a third of their verdict's life is left. Several proxies, or several addresses of one
 * name, take turns; one that cannot be reached or is refused gives way to the next. Any thread. */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "proxy/attest.h"
#include "proxy/seen.h"
#include "tunnel/bundle_file.h"

enum { UPSTREAM_PROXIES_MAX = 16, UPSTREAM_IDLE_MAX = 64 };

struct upstream_config {
    SSL_CTX *tls; /* borrowed */
    size_t proxy_count;
    struct client_url proxy[UPSTREAM_PROXIES_MAX];
    const struct airlock_rules *rules; /* borrowed */
    const char *model;                 /* borrowed; NULL: any */
    struct seen *seen;                 /* borrowed */
    struct tunnel_bundle *collateral;  /* borrowed: the caller's own, looked at again each time; NULL: none */
    unsigned connect_ms, attest_ms;
};

struct upstream;
struct upstream *upstream_open(const struct upstream_config *config);
void upstream_close(struct upstream *u); /* after every session was given back */

/* One engine that proved its sealing key (specs/protocol § Sealed mode). */
struct sealed_target {
    bool is_set;
    uint8_t identity[AIRLOCK_KEY_LEN], seal_public[AIRLOCK_KEY_LEN];
    uint8_t h_statement[AIRLOCK_DIGEST_LEN], policy[AIRLOCK_DIGEST_LEN];
    uint32_t epoch;
    uint64_t valid_until; /* seconds since 1970 */
};

/* One attested connection. */
struct session {
    struct sealed_target sealed; /* see upstream_seal() */
    struct client *client;
    struct airlock_claims *claims;
    struct airlock_cache *cache;       /* for attesting again; may be NULL */
    uint64_t attested_at, valid_until; /* seconds since 1970 */
    bool simulated;
    struct session *next;
};

/* Why there is none. */
struct upstream_refusal {
    bool not_ready; /* refused only because no engine serves there now: it may in a moment */
    bool refused;   /* a proxy answered and its evidence was not accepted: `result`; else nobody was reached: `why` */
    struct airlock_result result;
    char why[CLIENT_WHY_MAX];
};

/* Yours until upstream_give(). NULL with `*why` filled. `fresh`: no idle one, they may know engines that are gone. */
struct session *upstream_take(struct upstream *u, bool fresh, struct upstream_refusal *why);
/* Make sure that `s->sealed` is good for a request now: challenges one of the engines shown through this connection and
 * judges it by the caller's own rules. `anew`: although the present one has not expired. False with `*why` filled. */
MUST_CHECK bool upstream_seal(struct upstream *u, struct session *s, bool anew, struct upstream_refusal *why);
/* `reusable`: its last answer was complete and the connection may carry another request. */
void upstream_give(struct upstream *u, struct session *s, bool reusable);
/* The last accepted verdict's report (airlock_report), or NULL; free() it. */
char *upstream_report(struct upstream *u);

#endif
