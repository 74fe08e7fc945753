/* bundle_file.h - a collateral bundle on disk (verifier/bundle.h), read again when its file has changed, so that a
 * process that runs for months has lists that are valid. A new file is read and parsed whole before it takes the old
 * one's place; one that is missing, unreadable, torn or no bundle changes nothing. Only the form is looked at: vendors
 * signed the pieces, and whether these still hold is for whoever judges them. A sandbox must let it read the file's
 * folder. Not for several threads at once. */
#ifndef TUNNEL_BUNDLE_FILE_H
#define TUNNEL_BUNDLE_FILE_H

#include "verifier/base/writer.h"
#include "verifier/envelope.h"

enum { TUNNEL_BUNDLE_PATH_MAX = 512 };

struct tunnel_bundle {
    char path[TUNNEL_BUNDLE_PATH_MAX]; /* empty: there is none */
    struct writer bytes;               /* the file */
    struct verifier_collateral pieces; /* borrowed from `bytes`: until the next look */
    struct tunnel_bundle_stamp {
        uint64_t device, inode, size;
        int64_t changed[2], written[2]; /* seconds and nanoseconds */
        int err;                        /* not 0: it could not be looked at */
    } stamp;                            /* of the file as last looked at, good or bad */
};

enum tunnel_bundle_news {
    TUNNEL_BUNDLE_SAME,
    TUNNEL_BUNDLE_NEW, /* `bytes` and `pieces` are of the new file */
    TUNNEL_BUNDLE_BAD, /* there is something else in its place, and what was read before stays; once for each change */
};

/* Read it for the first time. `path` NULL or empty: none, and true. False with `why`: what, why, what to do. */
MUST_CHECK bool tunnel_bundle_open(struct tunnel_bundle *b, const char *path, char why[256]);
/* Look whether the file is another than the last time: one stat() when it is not. `why` is filled unless SAME. */
enum tunnel_bundle_news tunnel_bundle_look(struct tunnel_bundle *b, char why[256]);
void tunnel_bundle_release(struct tunnel_bundle *b);

#endif
