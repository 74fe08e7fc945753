/* history.h - what keyd's own log tells it at start: versions it has seen, nodes it has served, whether it waits for a
 * person. Helper of core.c. */
#ifndef POLICY_KEYD_HISTORY_H
#define POLICY_KEYD_HISTORY_H

#include "policy/keyd/core.h"

/* One identity that got a grant. */
struct keyd_node {
    uint8_t identity[VERIFIER_KEY_LEN];
    uint64_t until; /* its lease's end */
    bool has_log;
    uint64_t log_index;
    uint8_t log_head[64];
};

struct keyd_history {
    uint32_t policy, keyset, epoch, tenants; /* highest ever granted under */
    uint64_t last_at;                        /* time of the newest line */
    bool waiting;
    size_t count;
    struct keyd_node *node; /* owned, KEYD_NODES_MAX of them */
};

/* Replay a checked log. False: out of memory, or a line that this program did not write. */
MUST_CHECK bool keyd_history_open(struct keyd_history *h, struct span log);
void keyd_history_release(struct keyd_history *h);

struct keyd_node *keyd_history_find(struct keyd_history *h, const uint8_t identity[VERIFIER_KEY_LEN]);
/* The identity's entry, a new one when there is none; forgets those whose lease ended long before `now`. NULL: full. */
struct keyd_node *keyd_history_take(struct keyd_history *h, const uint8_t identity[VERIFIER_KEY_LEN], uint64_t now);

#endif
