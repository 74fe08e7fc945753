/* seen.h - the highest versions that this client has met, kept in a file so that a rolled-back policy shows after a
 * restart too (specs/protocol § Time and rollback). Written whole, beside and then renamed. Any thread; processes may
 * share a folder.
 * What cannot be stored (full disk, read-only folder) still counts for the life of the process, and is no reason to
 * refuse an accepted verdict: it weakens the next start alone, which would take anything down to what the file holds,
 * as a first start would. So the caller goes on, says it once, and every later put tries again. */
#ifndef PROXY_SEEN_H
#define PROXY_SEEN_H

#include "verifier/airlock.h"
#include "verifier/base/span.h"

#include <pthread.h>

struct seen {
    char path[512]; /* empty: memory only */
    pthread_mutex_t lock;
    struct airlock_seen now;
    bool unsaved; /* the file does not hold `now`: storing it failed */
};

/* Read FOLDER/seen (made on demand; NULL: memory only). False with `why` filled when it exists and cannot be used:
 * forgetting silently would undo what it is for. */
bool seen_open(struct seen *s, const char *folder, char why[256]);
struct airlock_seen seen_get(struct seen *s);
/* Take over what a verdict says; versions only rise. False with `why` (path, reason, what to do) while the file does
 * not hold what was met. */
MUST_CHECK bool seen_put(struct seen *s, const struct airlock_seen *fresh, char why[256]);

#endif
