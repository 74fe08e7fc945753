/* backend_parts.h - what the files of the backend share; nobody else includes it but its tests. */
#ifndef PROXY_BACKEND_PARTS_H
#define PROXY_BACKEND_PARTS_H

#include "policy/node.h"
#include "policy/peers.h"
#include "proxy/backend.h"
#include "tunnel/attest/attester.h"
#include "tunnel/channel.h"
#include "tunnel/message.h"
#include "tunnel/resolve.h"
#include "tunnel/stats.h"
#include "verifier/challenge.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    BACKEND_CONNECTIONS_MAX = 256, /* tunnels, attested or not yet */
    BACKEND_SOURCES_MAX = 256,     /* addresses whose connections are counted */
    BACKEND_SOURCE_BURST = 32,
    BACKEND_SOURCE_EVERY_MS = 250,
    BACKEND_LEAF_MS = 10000,       /* for the attester's answer */
    BACKEND_METRICS_MS = 500,      /* how old the published metrics may be */
    BACKEND_ENTRY_AGE_MS = 570000, /* an engine's evidence older than this is not shown: clients refuse 10 minutes */
};

/* What the backend needs of attester and judge: real, or a test's few lines. */
struct backend_trust {
    void *ctx;
    int fd;       /* to poll for answers */
    bool no_keyd; /* a test's: always leased, by the machine's clock */
    enum attester_err (*ask_leaf)(void *ctx, uint32_t id, struct span challenge, struct span spki,
                                  const uint8_t exporter[32]);
    int (*receive)(void *ctx, uint32_t *id, enum attester_err *err, struct span *envelope);
    enum attester_err (*serves)(void *ctx, uint32_t count, const uint8_t root[64]);
    /* Policy, revocations, fleet, lease and time into the state and the envelope. No documents: as they are; the other
     * spans empty: none; now 0: none yet. */
    enum attester_err (*papers)(void *ctx, struct span documents, uint32_t version, struct span revocations,
                                struct span fleet, struct span lease, uint64_t now);
    bool (*judge)(void *ctx, const struct verifier_input *in, struct policy_verdict *out,
                  struct verifier_claims **claims);
};
/* The attester on config->attester_fd, the owner's policy as judge. */
struct real_trust {
    int fd;
    struct attester_inbox inbox;
    struct policy_peers *peers;
};
struct backend_trust real_trust_of(struct real_trust *t);

/* What an engine proved, once; shared by the table and the tree in force. */
struct evidence {
    unsigned refs;
    uint8_t identity[32], leaf[64];
    uint8_t exporter[32];
    struct writer challenge, spki, envelope;
    uint64_t checked_at, checked_ms;
    struct verifier_claims *claims;
};

/* Our answer to somebody's challenge, on its way through the attester. */
struct proof {
    bool wanted;    /* not yet asked of the attester */
    uint32_t id;    /* asked; 0: not */
    uint64_t at_ms; /* when wanted */
    struct writer challenge;
    uint8_t exporter[32];
};

/* One tunnel. */
struct engine {
    struct backend *backend;
    struct engine *next;
    int fd;
    char name[64];
    struct tunnel_channel *channel;
    struct proof proof;
    struct evidence *evidence; /* newest good one */
    bool admitted, draining, dead;
    uint64_t recheck_ms;
    size_t running;
    struct writer stats; /* packed, as it came */
    struct pollfd *poll;
};

enum request_kind { REQUEST_PLAIN, REQUEST_SEALED, REQUEST_QUOTE };

struct request {
    struct request *next;
    uint64_t id;
    enum request_kind kind;
    struct writer bytes; /* until the first answer: another engine may have to take them */
    size_t at;
    uint8_t allowed[BACKEND_SHOWN_MAX][32];
    size_t allowed_count; /* 0: any */
    bool has_root;
    uint8_t root[64]; /* of the model that it names */
    struct backend_events events;
    backend_attested *done; /* QUOTE */
    struct writer answer;   /* QUOTE */
    void *ctx;
    struct engine *engine;
    uint32_t stream;
    bool answered, cancelled;
    unsigned tries;
    size_t delivered; /* body bytes handed out and not yet consumed */
};

/* A client's challenge to us. */
struct attestation {
    struct attestation *next;
    struct proof proof;
    struct writer spki;
    backend_attested *done;
    void *ctx;
};

struct keyd {
    char host[256];
    uint16_t port;
    bool literal, asking;
    uint64_t resolve_ms;
    size_t address_count;
    union tunnel_address address[8];
};

enum post_kind { POST_ATTEST, POST_SUBMIT, POST_CONSUMED, POST_CANCEL, POST_DRAIN, POST_STOP };
struct post {
    struct post *next;
    enum post_kind kind;
    struct attestation *attestation;
    struct request *request;
    uint64_t id;
    size_t bytes;
};

/* Counters, all by the backend's thread. */
struct backend_counts {
    uint64_t tunnels, refused, admitted, attestations, attestations_failed, requests, unavailable, cancelled, retried,
        bytes_in, bytes_out, grants, grants_failed;
};

struct backend {
    struct backend_config config;
    struct backend_trust trust;
    struct real_trust real;
    struct writer owner, documents, fleet, statement; /* copies of the configuration's spans */
    struct tunnel_tls *tls;
    pthread_t thread;
    int wake_fd;
    int listener[BACKEND_ADDRESSES_MAX];
    uint16_t port[BACKEND_ADDRESSES_MAX];

    /* shared with callers, under `lock` */
    pthread_mutex_t lock;
    struct post *post_first, *post_last;
    struct backend_status status;
    struct policy *policy; /* published copy */
    struct writer papers;  /* published policy part */
    struct writer metrics; /* published text */
    uint64_t context_max;  /* of the engines' last stats */
    uint8_t identities[BACKEND_ENGINES_MAX][32];
    size_t identity_count;
    bool closed; /* posts are refused */
    atomic_uint_fast64_t next_request;

    /* the thread's own */
    struct engine *engines;
    size_t connection_count;
    struct tunnel_budget source[BACKEND_SOURCES_MAX];
    struct evidence *served[BACKEND_ENGINES_MAX]; /* the tree that state.serves names */
    size_t served_count;
    bool serves_dirty, papers_dirty, papers_set, changed, stopping, draining;
    uint32_t next_leaf;
    size_t leaves_out; /* asked of the attester, unanswered */
    struct attestation *attestations;
    size_t attestation_count;
    struct request *requests;
    struct policy_node *node;
    struct tunnel_resolve *resolve;
    struct keyd keyd[BACKEND_ADDRESSES_MAX];
    size_t keyd_at, keyd_address_at; /* which one is dialled next */
    int keyd_fd;
    bool keyd_connecting, keyd_asked;
    struct tunnel_channel *keyd_channel;
    struct proof keyd_proof;
    uint64_t keyd_since_ms, keyd_retry_ms;
    uint32_t keyd_backoff_ms;
    struct pollfd *keyd_poll;
    bool was_leased;
    uint64_t metrics_ms;
    struct backend_counts count;
};

uint64_t backend_now_ms(void);
uint64_t backend_trusted_now(const struct backend *b);
bool backend_is_leased(const struct backend *b);
/* One JSON line on stderr; never content. */
void backend_say(const char *event, const char *peer, const char *code);

/* backend_proof.c: leaves through the attester; at most one change of state at a time and never beside a leaf. */
void proof_want(struct proof *p, struct span challenge, const uint8_t exporter[32], uint64_t now_ms);
void proof_drop(struct proof *p);
/* Ask for what is wanted, or, when nothing is outstanding, apply a change of state. */
void proofs_step(struct backend *b, uint64_t now_ms);
void proofs_receive(struct backend *b, uint64_t now_ms);

/* backend_attest.c: clients */
void attestation_take(struct backend *b, struct attestation *a);
void attestation_finish(struct backend *b, struct attestation *a, enum backend_code code, struct span envelope);
void attestations_step(struct backend *b, uint64_t now_ms);
void attestations_close(struct backend *b);

/* backend_engines.c */
bool engines_listen(struct backend *b, char *why, size_t why_len);
void engines_accept(struct backend *b, size_t listener, uint64_t now_ms);
void engines_step(struct backend *b, uint64_t now_ms);
void engine_read(struct engine *e, uint64_t now_ms, short revents);
void engine_events(struct engine *e, uint64_t now_ms);
void engine_flush(struct engine *e, uint64_t now_ms);
void engines_recheck(struct backend *b);
void engines_drain(struct backend *b);
void engines_sweep(struct backend *b); /* free the dead */
void engines_close(struct backend *b);
enum verifier_err engines_root(struct backend *b, struct evidence **list, size_t *count, uint8_t root[64]);
struct evidence *evidence_ref(struct evidence *e);
void evidence_unref(struct evidence *e);
/* Is this evidence's engine still there? */
bool engines_has(const struct backend *b, const struct evidence *e);

/* backend_requests.c */
void request_take(struct backend *b, struct request *r);
void request_event(struct engine *e, const struct tunnel_mux_event *ev);
void request_consumed(struct backend *b, uint64_t id, size_t bytes);
void request_cancel(struct backend *b, uint64_t id);
void requests_lose(struct backend *b, const struct engine *e); /* whose streams did not end: that takes memory */
void requests_close(struct backend *b);
void request_free(struct request *r);

/* backend_keyd.c */
bool keyd_open(struct backend *b, char *why, size_t why_len);
void keyd_step(struct backend *b, uint64_t now_ms);
void keyd_socket(struct backend *b, uint64_t now_ms, short revents);
void keyd_events(struct backend *b, uint64_t now_ms);
void keyd_flush(struct backend *b, uint64_t now_ms);
uint64_t keyd_deadline(const struct backend *b);
void keyd_close(struct backend *b);

#endif
