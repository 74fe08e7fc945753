/* backend.h - the control thread of airlock-proxy: everything behind the front door.
 * It listens for tunnels, attests engines and is attested by them, keeps the table of admitted engines, makes the
 * proxy's own envelope for clients (the only user of the attester's owner descriptor), asks keyd for leases, and
 * carries requests to engines. One thread with a poll loop owns all of it; the calls below are safe from any thread:
 * they copy what they are given and post it. Callbacks run on the backend's thread, must not block, and may call back
 * in. Nothing here reads a request but the name of its model: it moves packed bytes. */
#ifndef PROXY_BACKEND_H
#define PROXY_BACKEND_H

#include "verifier/base/span.h"
#include "verifier/base/writer.h"

struct backend;
struct backend_trust;
struct policy;

enum {
    BACKEND_ENGINES_MAX = 64,       /* admitted at once */
    BACKEND_SHOWN_MAX = 8,          /* in one envelope */
    BACKEND_RECHECK_MS = 300000,    /* engines are challenged again this often */
    BACKEND_PING_MS = 1200,         /* two lost: the engine is gone; its streams end within 5 s */
    BACKEND_WAITING_MAX = 256,      /* attestations that wait for the attester at once */
    BACKEND_REQUEST_MAX = 40 << 20, /* bytes of a request */
    BACKEND_ADDRESSES_MAX = 8,
};

struct backend_config {
    const char *listen[BACKEND_ADDRESSES_MAX]; /* for tunnels: "ADDR:PORT", "[ADDR]:PORT"; port 0: any */
    size_t listen_count;
    const char *keyd[BACKEND_ADDRESSES_MAX]; /* in the order of the policy's keyd keys */
    size_t keyd_count;
    int attester_fd;             /* the attester's owner descriptor; borrowed until backend_close() */
    uint8_t identity[32];        /* of the attester's statement */
    struct span statement;       /* its exact bytes */
    struct span owner;           /* digest of the owner's first keyset, 64 bytes */
    struct span fleet;           /* a signed fleet file for our own envelope; empty: none */
    struct span documents;       /* the policy part read at start: the owner's keysets, then the signed policy */
    uint32_t recheck_ms;         /* 0: BACKEND_RECHECK_MS */
    uint32_t ping_ms;            /* 0: BACKEND_PING_MS */
    uint32_t streams_per_engine; /* 0: TUNNEL_STREAMS_MAX */
    /* Told on the backend's thread whenever policy, lease or the set of engines changed; may be NULL. */
    void (*changed)(void *ctx);
    void *ctx;
    const struct backend_trust *trust; /* NULL: attester and policy as they are; tests bring their own */
};

/* Spans of `config` are copied. NULL with a sentence in `why` (what, why, what to do) when a listener cannot be
 * opened, the documents are not the owner's or memory is short. Yours: backend_stop(), then backend_close(). */
struct backend *backend_start(const struct backend_config *config, char *why, size_t why_len);
/* Begin to leave: no new tunnels or requests, tunnels are told to go away; running requests end by themselves. */
void backend_drain(struct backend *b);
/* End every request with BACKEND_END_STOPPED and join the thread: no callback comes after it. Other threads may still
 * call what is below, and are refused, until backend_close(). Once; NULL is fine, as it is for backend_close(). */
void backend_stop(struct backend *b);
void backend_close(struct backend *b);
/* The port that listener `i` got. */
uint16_t backend_port(const struct backend *b, size_t i);

/* --- attestation of the proxy towards a client -------------------------------------------------- */
enum backend_code {
    BACKEND_OK = 0,
    BACKEND_BAD_CHALLENGE, /* not a challenge, or not client -> proxy: answer 400 */
    BACKEND_NO_LEASE,      /* no grant yet or the lease ended: answer 503 */
    BACKEND_BUSY,          /* too many attestations wait: answer 503 with Retry-After */
    BACKEND_NO_ATTESTER,   /* the attester does not answer: 503 */
    BACKEND_NO_ENGINE,     /* sealed challenge: no such engine */
};
/* `done` once: on BACKEND_OK the envelope and the identities of the engines it shows (the connection may use exactly
 * those), borrowed until it returns. */
typedef void backend_attested(void *ctx, enum backend_code code, struct span envelope, const uint8_t (*shown)[32],
                              size_t shown_count);
void backend_attest(struct backend *b, struct span challenge, struct span spki, const uint8_t exporter[32],
                    backend_attested *done, void *ctx);
/* Sealed mode: carry the client's challenge to the engine with this identity; `shown` is that one. */
void backend_attest_sealed(struct backend *b, const uint8_t engine[32], struct span challenge, backend_attested *done,
                           void *ctx);

/* --- requests ----------------------------------------------------------------------------------- */
enum backend_end {
    BACKEND_END_DONE,        /* the engine said everything (its last event may be an error event) */
    BACKEND_END_UNAVAILABLE, /* no allowed engine, or the engine was lost: "engine_unavailable" */
    BACKEND_END_CANCELLED,   /* backend_cancel() */
    BACKEND_END_TOO_LARGE,   /* over BACKEND_REQUEST_MAX, or out of memory */
    BACKEND_END_STOPPED,     /* backend_stop() */
};
struct backend_events {
    /* One packed event (tunnel/message.h), or a piece of a sealed answer; borrowed until it returns. Call
     * backend_consumed() when its bytes have left the proxy: 64 KiB unconsumed stop the engine. */
    void (*event)(void *ctx, struct span bytes);
    /* Exactly once, last. `code`: engine_unavailable, expired, ... as it stands in an error to the client; "" when
     * done. */
    void (*end)(void *ctx, enum backend_end why, const char *code);
};
/* Send a packed request to the least loaded of the `allowed` engines (none named: any) that serves its model. Returns
 * its id (never 0). Callbacks follow on the backend's thread; only when the backend has been stopped or memory is short
 * does `end` run before this returns. Lost before its first answer, a request is tried on another allowed engine. */
uint64_t backend_submit(struct backend *b, struct span request, const uint8_t (*allowed)[32], size_t allowed_count,
                        const struct backend_events *events, void *ctx);
/* The same for a sealed request, opaque here; the engine that its head names. */
uint64_t backend_submit_sealed(struct backend *b, struct span body, const uint8_t engine[32],
                               const struct backend_events *events, void *ctx);
/* Bytes of events that have been passed on. */
void backend_consumed(struct backend *b, uint64_t id, size_t bytes);
/* The client is gone: the engine is told; events stop, `end` still comes (CANCELLED, or what came first). */
void backend_cancel(struct backend *b, uint64_t id);

/* --- what the front door needs to know ---------------------------------------------------------- */
struct backend_status {
    bool leased;                              /* keyd has answered and the lease lives: the proxy may serve */
    uint64_t generation;                      /* rises with every change of policy or engines */
    uint64_t now;                             /* trusted seconds since 1970, 0 before the first grant */
    uint64_t lease_end;                       /* trusted seconds */
    uint32_t policy_version, tenants_version; /* the least tenants file version that keyd knows, 0: any */
    size_t engines;                           /* admitted now */
    size_t running;                           /* requests on engines */
    uint64_t context_max;                     /* tokens: the longest context that an admitted engine has told, or 0 */
};
void backend_status(struct backend *b, struct backend_status *out);
static inline bool backend_is_ready(const struct backend_status *s)
{
    return s->leased && s->engines > 0;
}
/* Copy the policy in force; false before backend_start() returned. About 50 KiB: copy when `generation` rises. */
bool backend_policy(struct backend *b, struct policy *out);
/* Append the policy part (keysets, signed policy) for GET /.well-known/airlock/policy. */
void backend_documents(struct backend *b, struct writer *w);
/* Is one of `allowed` still admitted? (No: the client has to attest again.) */
bool backend_has_engine(struct backend *b, const uint8_t (*allowed)[32], size_t allowed_count);

/* Append Prometheus text: engines, streams, bytes, attestations, refusals by code, keyd. */
void backend_metrics(struct backend *b, struct writer *w);

#endif
