/* seen.h - the highest versions that this client has met, kept in a file so that a rolled-back policy shows after a
 * restart too (specs/protocol § Time and rollback). Written whole, beside and then renamed. Any thread; processes may
 * share a folder. */
#ifndef PROXY_SEEN_H
#define PROXY_SEEN_H

#include "verifier/airlock.h"

#include <pthread.h>

struct seen {
    char path[512]; /* empty: memory only */
    pthread_mutex_t lock;
    struct airlock_seen now;
};

/* Read FOLDER/seen (made on demand; NULL: memory only). False with `why` filled when it exists and cannot be used:
 * forgetting silently would undo what it is for. */
bool seen_open(struct seen *s, const char *folder, char why[256]);
struct airlock_seen seen_get(struct seen *s);
/* Take over what a verdict says; versions only rise. False when it could not be stored (it still counts here). */
bool seen_put(struct seen *s, const struct airlock_seen *fresh);

#endif
