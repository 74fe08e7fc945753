/* The owner's sandbox, read from /proc (man 5 proc). What can be read: no_new_privs, seccomp, ids and capabilities,
 * swap; with luck dumps and namespaces. What no file shows is Landlock. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tunnel/attest/attester_core.h"

static const char *const kinds[4] = {"net", "mnt", "ipc", "uts"};

/* The whole of a small file of /proc from its begin, so that the kernel makes it anew; NUL-terminated. */
static bool read_text(int fd, char *out, size_t cap)
{
    size_t len = 0;
    ssize_t n = -1;

    if (fd < 0)
        return false;
    while (len < cap - 1 && (n = pread(fd, out + len, cap - 1 - len, (off_t)len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
    return n >= 0 && len > 0;
}

static bool read_namespace(const struct attester_watch *w, size_t i, char out[64])
{
    ssize_t n = w->namespaces < 0 ? -1 : readlinkat(w->namespaces, kinds[i], out, 63);

    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

void attester_watch_open(struct attester_watch *w, pid_t owner, bool engine)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d", (int)owner);
    w->engine = engine;
    w->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->status = w->folder < 0 ? -1 : openat(w->folder, "status", O_RDONLY | O_CLOEXEC);
    w->namespaces = w->folder < 0 ? -1 : openat(w->folder, "ns", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->swaps = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < 4; i++)
        (void)read_namespace(w, i, w->start[i]);
}

size_t attester_watch_fds(const struct attester_watch *w, int out[4])
{
    const int all[] = {w->status, w->folder, w->namespaces, w->swaps};
    size_t n = 0;

    for (size_t i = 0; i < 4; i++)
        if (all[i] >= 0)
            out[n++] = all[i];
    return n;
}

/* The text after "NAME:\t" of a line; NULL without one. */
static const char *field(const char *status, const char *name)
{
    char line[32];
    const char *at;

    snprintf(line, sizeof line, "\n%s:\t", name);
    at = strstr(status, line);
    return at ? at + strlen(line) : NULL;
}

static void judge(unsigned bit, bool on, unsigned *proved, unsigned *denied)
{
    *(on ? proved : denied) |= bit;
}

/* No id is 0 and no capability is left. */
static bool is_unprivileged(const char *status)
{
    static const char *const ids[] = {"Uid", "Gid"}, *const sets[] = {"CapPrm", "CapEff", "CapInh"};

    for (size_t i = 0; i < 2; i++) {
        unsigned long id[4];
        const char *at = field(status, ids[i]);
        if (!at || sscanf(at, "%lu %lu %lu %lu", &id[0], &id[1], &id[2], &id[3]) != 4 || !id[0] || !id[1] || !id[2] ||
            !id[3])
            return false;
    }
    for (size_t i = 0; i < 3; i++) {
        const char *at = field(status, sets[i]);
        if (!at || strtoull(at, NULL, 16) != 0)
            return false;
    }
    return true;
}

/* A process that must not be dumped has its /proc entries owned by root. Says nothing about a process of root. */
static void judge_dumps(const struct attester_watch *w, const char *status, unsigned *proved, unsigned *denied)
{
    const char *at = field(status, "Uid");
    unsigned long real, effective;
    struct stat st;

    if (!at || sscanf(at, "%lu %lu", &real, &effective) != 2 || effective == 0 || w->namespaces < 0 ||
        fstat(w->namespaces, &st) != 0)
        return;
    judge(VERIFIER_STAGE_NO_DUMPS, st.st_uid != effective, proved, denied);
}

/* Readable only where the kernel lets us look into the owner; then every kind asked for must be another one. */
static void judge_namespaces(const struct attester_watch *w, unsigned *proved, unsigned *denied)
{
    for (size_t i = 0; i < 4; i++) {
        char now[64];
        if (i == 0 && !w->engine) /* a proxy keeps its network */
            continue;
        if (!w->start[i][0] || !read_namespace(w, i, now))
            return;
        if (strcmp(now, w->start[i]) == 0) {
            *denied |= VERIFIER_STAGE_NAMESPACES;
            return;
        }
    }
    *proved |= VERIFIER_STAGE_NAMESPACES;
}

/* The machine has no swap, or the process has locked all that it uses. */
static void judge_swap(const struct attester_watch *w, const char *status, unsigned *proved, unsigned *denied)
{
    char swaps[512];
    const char *locked = field(status, "VmLck"), *resident = field(status, "VmRSS");
    bool none = read_text(w->swaps, swaps, sizeof swaps) && strchr(swaps, '\n') && strchr(swaps, '\n')[1] == '\0';

    judge(VERIFIER_STAGE_NO_SWAP,
          none || (locked && resident && strtoull(locked, NULL, 10) >= strtoull(resident, NULL, 10)), proved, denied);
}

void attester_watch_read(const struct attester_watch *w, unsigned *proved, unsigned *denied)
{
    char status[8192];
    const char *at;

    *proved = *denied = 0;
    if (!read_text(w->status, status, sizeof status))
        return;
    at = field(status, "NoNewPrivs");
    judge(VERIFIER_STAGE_NO_NEW_PRIVS, at && at[0] == '1', proved, denied);
    at = field(status, "Seccomp");
    judge(VERIFIER_STAGE_SECCOMP, at && at[0] == '2', proved, denied); /* 2: a filter */
    judge(VERIFIER_STAGE_UNPRIVILEGED, is_unprivileged(status), proved, denied);
    judge_dumps(w, status, proved, denied);
    judge_namespaces(w, proved, denied);
    judge_swap(w, status, proved, denied);
}
