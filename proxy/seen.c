#include "proxy/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char format[] = "airlock-seen 1 policy %u %llu keyset %u %llu epoch %u %llu\n";

static bool parse(FILE *f, struct airlock_seen *out)
{
    unsigned long long policy, keyset, epoch;

    if (fscanf(f, "airlock-seen 1 policy %u %llu keyset %u %llu epoch %u %llu", &out->policy, &policy, &out->keyset,
               &keyset, &out->epoch, &epoch) != 6)
        return false;
    out->policy_since = policy;
    out->keyset_since = keyset;
    out->epoch_since = epoch;
    return true;
}

bool seen_open(struct seen *s, const char *folder, char why[256])
{
    FILE *f;
    bool ok = true;

    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    if (!folder)
        return true;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        snprintf(why, 256, "cannot make the state folder %.150s: %s", folder, strerror(errno));
        return false;
    }
    if (snprintf(s->path, sizeof s->path, "%s/seen", folder) >= (int)sizeof s->path - 8) {
        snprintf(why, 256, "the state folder's name is too long");
        return false;
    }
    f = fopen(s->path, "re");
    if (f) {
        ok = parse(f, &s->now);
        fclose(f);
    } else if (errno != ENOENT) {
        ok = false;
    }
    if (!ok)
        snprintf(why, 256,
                 "cannot read %.150s, which holds the highest versions met: repair it, or remove it to start anew",
                 s->path);
    return ok;
}

struct airlock_seen seen_get(struct seen *s)
{
    struct airlock_seen out;

    pthread_mutex_lock(&s->lock);
    out = s->now;
    pthread_mutex_unlock(&s->lock);
    return out;
}

static void rise(uint32_t *version, uint64_t *since, uint32_t fresh, uint64_t fresh_since)
{
    if (fresh > *version) {
        *version = fresh;
        *since = fresh_since;
    }
}

static void take(struct airlock_seen *now, const struct airlock_seen *fresh)
{
    rise(&now->policy, &now->policy_since, fresh->policy, fresh->policy_since);
    rise(&now->keyset, &now->keyset_since, fresh->keyset, fresh->keyset_since);
    rise(&now->epoch, &now->epoch_since, fresh->epoch, fresh->epoch_since);
}

/* What the file says by now: another process of this client may share it. 0, an errno, or -1 for a file that cannot be
 * understood. */
static int take_stored(struct seen *s)
{
    struct airlock_seen stored;
    FILE *f = fopen(s->path, "re");
    bool ok;

    if (!f)
        return errno == ENOENT ? 0 : errno;
    ok = parse(f, &stored);
    fclose(f);
    if (ok)
        take(&s->now, &stored);
    return ok ? 0 : -1;
}

/* 0 or an errno. */
static int write_text(int fd, const struct airlock_seen *n)
{
    char text[256];
    int len = snprintf(text, sizeof text, format, n->policy, (unsigned long long)n->policy_since, n->keyset,
                       (unsigned long long)n->keyset_since, n->epoch, (unsigned long long)n->epoch_since);
    ssize_t written = write(fd, text, (size_t)len);

    if (written < 0)
        return errno;
    return written < len ? ENOSPC : fsync(fd) == 0 ? 0 : errno;
}

static int write_beside(const struct seen *s)
{
    char beside[sizeof s->path + 8];
    int fd, err;

    snprintf(beside, sizeof beside, "%s.new", s->path);
    fd = open(beside, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    err = write_text(fd, &s->now);
    close(fd);
    if (err == 0 && rename(beside, s->path) != 0)
        err = errno;
    if (err != 0)
        unlink(beside);
    return err;
}

static int store(struct seen *s)
{
    char folder[sizeof s->path];
    int lock, err;

    snprintf(folder, sizeof folder, "%s", s->path);
    *strrchr(folder, '/') = 0;
    lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return errno;
    err = flock(lock, LOCK_EX) == 0 ? take_stored(s) : errno;
    if (err == 0)
        err = write_beside(s);
    if (err == 0 && fsync(lock) != 0) /* the new name too outlives a loss of power */
        err = errno;
    close(lock);
    return err;
}

bool seen_put(struct seen *s, const struct airlock_seen *fresh, char why[256])
{
    struct airlock_seen before;
    int err = 0;

    pthread_mutex_lock(&s->lock);
    before = s->now;
    take(&s->now, fresh);
    if (s->path[0] && (s->unsaved || memcmp(&before, &s->now, sizeof before) != 0))
        err = store(s);
    s->unsaved = err != 0;
    pthread_mutex_unlock(&s->lock);
    if (err != 0)
        snprintf(why, 256,
                 "the highest versions met cannot be stored in %.100s: %s. Until that is mended a start anew "
                 "would not notice older ones",
                 s->path, err > 0 ? strerror(err) : "it holds something else; repair or remove it");
    return err == 0;
}
