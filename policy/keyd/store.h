/* store.h - airlock-keyd's files: keys, papers, and a log whose head is sealed beside the signing key.
 * The head file KEY.head says how many lines the log had and what its head was, under a MAC by a key derived from the
 * signing key. A log put back from a backup does not fit it (nor a head put back the log): keyd then waits for a
 * person. All files 0600. Blocking I/O; one thread. */
#ifndef POLICY_KEYD_STORE_H
#define POLICY_KEYD_STORE_H

#include "policy/keyd/config.h"

struct keyd_store {
    const struct keyd_config *config; /* borrowed */
    int log_fd;
    int lock_fd; /* one keyd a state folder */
    struct secret seed, mac_key;
    struct keyd_weight weight[KEYD_WEIGHTS_MAX];
    size_t weight_count;
};

/* Read keys, open and lock the log. False with a sentence in `why`; keyd_store_close() either way. */
MUST_CHECK bool keyd_store_open(struct keyd_store *s, const struct keyd_config *config, char why[256]);
void keyd_store_close(struct keyd_store *s);

/* The whole log; `*fits`: it is the one that the head file seals (one line more is a crash between two writes). */
MUST_CHECK bool keyd_store_log(struct keyd_store *s, struct writer *out, bool *fits, char why[256]);
/* Append lines, flush them to the disk, then seal `log` as the head. */
MUST_CHECK bool keyd_store_append(struct keyd_store *s, struct span lines, const struct policy_log *log);

/* What the operator's files say now. `tenants_version` 0: no tenants file. `documents` is the newer of the operator's
 * file and what was adopted before. */
struct keyd_papers {
    struct writer documents, revocations;
    uint32_t tenants_version;
};
MUST_CHECK bool keyd_store_papers(struct keyd_store *s, struct keyd_papers *out, char why[256]);
void keyd_papers_release(struct keyd_papers *p);
/* Keep adopted papers for the next start. */
MUST_CHECK bool keyd_store_keep(struct keyd_store *s, struct span documents, struct span revocations);

/* Did a person run `airlock policy confirm`? Takes the mark away. */
bool keyd_store_confirmed(struct keyd_store *s);

#endif
