#include "tunnel/bundle_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verifier/bundle.h"

/* Lengths of paths in one line of a log. */
#define SHOWN "%.100s"

static struct tunnel_bundle_stamp stamp_of(int err, const struct stat *st)
{
    if (err != 0)
        return (struct tunnel_bundle_stamp){.err = err};
    return (struct tunnel_bundle_stamp){.device = st->st_dev,
                                        .inode = st->st_ino,
                                        .size = (uint64_t)st->st_size,
                                        .changed = {st->st_ctim.tv_sec, st->st_ctim.tv_nsec},
                                        .written = {st->st_mtim.tv_sec, st->st_mtim.tv_nsec}};
}

static bool same_stamp(const struct tunnel_bundle_stamp *a, const struct tunnel_bundle_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->err == b->err &&
           a->changed[0] == b->changed[0] && a->changed[1] == b->changed[1] && a->written[0] == b->written[0] &&
           a->written[1] == b->written[1];
}

enum { NO_FILE = -1 }; /* beside errno's: a folder, a pipe, a device */

/* 0 or an errno. */
static int read_all(int fd, struct writer *w)
{
    uint8_t piece[16384];
    ssize_t n;

    while ((n = read(fd, piece, sizeof piece)) != 0) {
        if (n > 0)
            writer_bytes(w, span_of(piece, (size_t)n));
        else if (errno != EINTR)
            return errno;
        if (!writer_ok(w))
            return EFBIG;
    }
    return 0;
}

/* The stamp is taken before the first byte is read: whatever is written meanwhile makes another. */
static int read_file(const char *path, struct writer *w, struct tunnel_bundle_stamp *stamp)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = fd < 0 ? errno : 0;

    if (err == 0 && fstat(fd, &st) != 0)
        err = errno;
    *stamp = stamp_of(err, &st);
    if (err == 0)
        err = S_ISREG(st.st_mode) ? read_all(fd, w) : NO_FILE;
    if (fd >= 0)
        close(fd);
    return err;
}

static bool parse(struct span bytes, struct verifier_collateral *pieces)
{
    struct verifier_bundle bundle;

    return verifier_bundle_parse(&bundle, bytes) == VERIFIER_OK &&
           verifier_collateral_parse(pieces, bundle.collateral) == VERIFIER_OK;
}

/* `*b` takes the file over, or keeps what it has. */
static bool take(struct tunnel_bundle *b, char why[256])
{
    struct writer fresh = writer_with_max(VERIFIER_BUNDLE_MAX);
    struct verifier_collateral pieces;
    int err = read_file(b->path, &fresh, &b->stamp);

    if (err == 0 && parse(writer_span(&fresh), &pieces)) {
        writer_release(&b->bytes);
        b->bytes = fresh;
        b->pieces = pieces;
        return true;
    }
    writer_release(&fresh);
    if (err != 0)
        snprintf(why, 256, "the collateral file " SHOWN " cannot be read: %s; put a readable bundle there", b->path,
                 err == NO_FILE ? "it is no regular file" : strerror(err));
    else
        snprintf(why, 256, SHOWN " is not a collateral bundle, or it is damaged: fetch or pack it again", b->path);
    return false;
}

bool tunnel_bundle_open(struct tunnel_bundle *b, const char *path, char why[256])
{
    *b = (struct tunnel_bundle){.bytes = writer_with_max(VERIFIER_BUNDLE_MAX)};
    if (!path || !path[0])
        return true;
    if (snprintf(b->path, sizeof b->path, "%s", path) >= (int)sizeof b->path) {
        snprintf(why, 256, "the collateral file's path is longer than %d bytes", TUNNEL_BUNDLE_PATH_MAX - 1);
        return false;
    }
    return take(b, why);
}

enum tunnel_bundle_news tunnel_bundle_look(struct tunnel_bundle *b, char why[256])
{
    struct tunnel_bundle_stamp now;
    struct stat st;
    char reason[256];

    if (!b->path[0])
        return TUNNEL_BUNDLE_SAME;
    now = stamp_of(stat(b->path, &st) == 0 ? 0 : errno, &st);
    if (same_stamp(&now, &b->stamp))
        return TUNNEL_BUNDLE_SAME;
    if (take(b, reason)) {
        snprintf(why, 256, "the collateral file " SHOWN " has changed and was read again", b->path);
        return TUNNEL_BUNDLE_NEW;
    }
    b->stamp = now; /* told of this one */
    snprintf(why, 256, "%.200s; what was read before stays in use", reason);
    return TUNNEL_BUNDLE_BAD;
}

void tunnel_bundle_release(struct tunnel_bundle *b)
{
    writer_release(&b->bytes);
    *b = (struct tunnel_bundle){0};
}
