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

/* What the file says by now: another process of this client may share it. */
static bool take_stored(struct seen *s)
{
    struct airlock_seen stored;
    FILE *f = fopen(s->path, "re");
    bool ok;

    if (!f)
        return errno == ENOENT;
    ok = parse(f, &stored);
    fclose(f);
    if (ok)
        take(&s->now, &stored);
    return ok;
}

static bool write_beside(const struct seen *s)
{
    const struct airlock_seen *n = &s->now;
    char beside[sizeof s->path + 8];
    FILE *f;
    int fd;
    bool ok;

    snprintf(beside, sizeof beside, "%s.new", s->path);
    fd = open(beside, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return false;
    fprintf(f, format, n->policy, (unsigned long long)n->policy_since, n->keyset, (unsigned long long)n->keyset_since,
            n->epoch, (unsigned long long)n->epoch_since);
    ok = fflush(f) == 0 && fsync(fd) == 0;
    ok = fclose(f) == 0 && ok;
    return ok && rename(beside, s->path) == 0;
}

static bool store(struct seen *s)
{
    char folder[sizeof s->path];
    int lock;
    bool ok;

    snprintf(folder, sizeof folder, "%s", s->path);
    *strrchr(folder, '/') = 0;
    lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok = lock >= 0 && flock(lock, LOCK_EX) == 0 && take_stored(s) && write_beside(s);
    if (lock >= 0)
        close(lock);
    return ok;
}

bool seen_put(struct seen *s, const struct airlock_seen *fresh)
{
    struct airlock_seen before;
    bool ok = true;

    pthread_mutex_lock(&s->lock);
    before = s->now;
    take(&s->now, fresh);
    if (s->path[0] && memcmp(&before, &s->now, sizeof before) != 0)
        ok = store(s);
    pthread_mutex_unlock(&s->lock);
    return ok;
}
