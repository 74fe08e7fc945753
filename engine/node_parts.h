/* node_parts.h - inside airlock-engine: what node.c, node_start.c, node_keys.c and node_serve.c share. */
#ifndef ENGINE_NODE_PARTS_H
#define ENGINE_NODE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/artefact.h"
#include "engine/engine.h"
#include "engine/node.h"
#include "policy/log.h"
#include "policy/node.h"
#include "tunnel/attest/attester.h"
#include "tunnel/link.h"
#include "tunnel/sandbox.h"

struct chunk; /* one packed event that waits for room on its stream */
struct stream;

enum { NODE_LOAD_PATHS = 20 }; /* the model, and what a GPU's driver opens */

struct node {
    const struct config *config;
    struct writer documents;  /* the policy bundle as read */
    struct writer template;   /* --chat-template */
    struct writer generation; /* --generation-config FOLDER: its file */
    struct attester attester;
    pid_t tunnel_pid;
    struct tunnel_link *link;
    struct sandbox_config sandbox;
    struct sandbox_path load_path[NODE_LOAD_PATHS];
    int keep[4];
    unsigned stage;
    int wake_fd; /* eventfd: other threads have something for the loop */

    /* keyd */
    struct policy_node *papers;
    bool keyd_up[TUNNEL_KEYDS_MAX];
    uint32_t keyd_next;
    uint64_t asked_ms;            /* 0: no question is open */
    bool granted;                 /* at least once */
    uint8_t shown_policy[64];     /* digest of the policy that the attester shows */
    _Atomic int64_t clock_offset; /* trusted seconds minus monotonic ones; INT64_MIN: no trusted time */

    struct policy_log log;
    int log_fd; /* -1: the lines are kept nowhere */

    /* the model */
    pthread_t load_thread;
    bool loading, loaded, serving;
    atomic_bool load_done;
    struct secret key;
    struct policy *policy; /* copy for the load thread */
    struct engine_files files;
    struct engine *engine;
    uint8_t root[64];
    struct engine_problem load_problem;

    /* requests */
    pthread_mutex_t out_lock; /* the chunks of every stream */
    struct stream *streams;
    size_t request_bytes;           /* of requests still coming in */
    struct tunnel_request *request; /* scratch */

    bool draining;
    uint64_t drain_end_ms, stats_ms;
    enum node_exit status;
    bool over;
};

uint64_t node_now_ms(void); /* monotonic */
void node_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The loop ends with this status. */
void node_end(struct node *n, enum node_exit status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void node_wake(struct node *n);

/* --- node_start.c --- */
/* Everything up to a locked-in process with a live link. */
bool node_start(struct node *n);
/* The second stage of the sandbox, shown to the attester. */
bool node_seal(struct node *n);

/* --- node_log.c --- */
/* After the attester, before the sandbox. */
bool node_log_open(struct node *n);
void node_log_close(struct node *n);
void node_log_serving(struct node *n);
void node_log_ask(struct node *n, struct policy_ask *out);

/* --- node_keys.c --- */
bool node_keys_open(struct node *n);
void node_keys_close(struct node *n);
void node_keys_peer(struct node *n, const struct tunnel_peer *peer);
void node_keys_grant(struct node *n, struct span grant);
/* Ask, give up, load, begin to serve: whatever is due. Returns when to be called next (monotonic ms). */
uint64_t node_keys_tick(struct node *n);
bool node_may_serve(const struct node *n);

/* --- node_serve.c --- */
void node_serve_event(struct node *n, const struct tunnel_mux_event *ev);
/* Send what waits, as far as there is room. */
void node_serve_flush(struct node *n);
/* End every stream with `code`. */
void node_serve_stop(struct node *n, const char *code);
bool node_serve_idle(const struct node *n);

#endif
