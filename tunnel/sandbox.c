#include "tunnel/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tunnel/sandbox_parts.h"

#define NOBODY 65534

/* What the kernel cannot be asked about later: set when the calls succeeded. */
static unsigned done;

static int fail(struct sandbox_problem *why, unsigned part, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    why->missing = part;
    return -1;
}

/* The part is lacking: an error if required, else left out. */
static int lacking(const struct sandbox_config *c, struct sandbox_problem *why, unsigned part, const char *what,
                   int err, const char *fix)
{
    if (!(c->required & part))
        return 0;
    return fail(why, part, "%s: %s. %s, or take it out of the required sandbox parts", what, strerror(err), fix);
}

const char *sandbox_folder(const char *path, char *out, size_t cap)
{
    const char *slash = strrchr(path, '/');
    size_t len = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    snprintf(out, cap, "%.*s", slash ? (int)len : 1, slash ? path : ".");
    return out;
}

/* --- stage one ---------------------------------------------------------------------------------- */

static bool is_kept(const struct sandbox_config *c, unsigned fd)
{
    for (size_t i = 0; i < c->keep_count; i++)
        if (c->keep[i] >= 0 && (unsigned)c->keep[i] == fd)
            return true;
    return fd <= 2;
}

/* Close every descriptor but 0, 1, 2 and the kept ones: the gaps between the kept, then all above the highest. */
static int close_others(const struct sandbox_config *c, struct sandbox_problem *why)
{
    unsigned highest = 2;
    for (size_t i = 0; i < c->keep_count; i++)
        if (c->keep[i] > (int)highest)
            highest = (unsigned)c->keep[i];
    for (unsigned fd = 3; fd <= highest; fd++)
        if (!is_kept(c, fd))
            close((int)fd);
    if (syscall(SYS_close_range, highest + 1, ~0u, 0) != 0)
        return fail(why, 0, "close_range: %s. A kernel of 5.9 or later is needed", strerror(errno));
    return 0;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int err = errno;
    close(fd);
    errno = err;
    return ok;
}

static int namespaces_of(enum sandbox_profile profile)
{
    int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    if (profile == SANDBOX_ENGINE || profile == SANDBOX_ATTESTER)
        flags |= CLONE_NEWNET;
    return flags;
}

/* Root enters them directly; anybody else through a user namespace in which its own ids are the only ones. */
static bool enter_namespaces(enum sandbox_profile profile)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char map[64];

    if (unshare(namespaces_of(profile) | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0)
        return false;
    if (uid != 0) {
        if (!write_file("/proc/self/setgroups", "deny"))
            return false;
        snprintf(map, sizeof map, "%u %u 1\n", uid, uid);
        if (!write_file("/proc/self/uid_map", map))
            return false;
        snprintf(map, sizeof map, "%u %u 1\n", gid, gid);
        if (!write_file("/proc/self/gid_map", map))
            return false;
    }
    /* In a chroot "/" is no mount point (EINVAL); nothing is mounted there later, so nothing can spread. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 && errno != EINVAL)
        return false;
    return true;
}

/* Keep exactly `keep` (a bit set of the first 32 capabilities), for this thread and all it will start. */
static bool keep_capabilities(uint32_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long cap = 0; cap < 64; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* EPERM without CAP_SETPCAP: then nothing is held anyway */
    if (syscall(SYS_capget, &header, data) != 0)
        return false;
    data[0].permitted &= keep;
    data[0].effective = data[0].permitted;
    data[1].permitted = data[1].effective = 0;
    data[0].inheritable = data[1].inheritable = 0;
    return syscall(SYS_capset, &header, data) == 0;
}

static bool machine_has_swap(void)
{
    char text[512];
    int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (len < 0)
        return true; /* unknown: suppose the worse */
    text[len] = 0;
    const char *line = strchr(text, '\n'); /* the first line is a heading */
    return line && line[1];
}

/* Locking everything makes pthread_create fail under a small limit, so it is tried only without one. */
static bool without_swap(void)
{
    struct rlimit limit;
    if (!machine_has_swap())
        return true;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY)
        return false;
    return mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
}

static bool no_dumps(const struct sandbox_config *c)
{
    struct rlimit none = {0, 0};
    if (c->die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return false;
    return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0) == 0;
}

/* One wall of both stages: in the first it may be left out when nobody requires it. What went up then and cannot be
 * drawn in now is an error in any case: the wider wall must not be shown as the strict one. */
static int put_up(const struct sandbox_config *c, struct sandbox_problem *why, unsigned part, const char *what, int err,
                  const char *fix)
{
    if (err == 0) {
        done |= part;
        return 0;
    }
    if (done & part)
        return fail(why, part, "%s: %s, though it worked for loading. Start the program again", what, strerror(err));
    return lacking(c, why, part, what, err, fix);
}

static int restrict_files(const struct sandbox_config *c, bool loading, struct sandbox_problem *why)
{
    return put_up(c, why, SANDBOX_LANDLOCK, "Landlock", sandbox_landlock(c, loading),
                  "Boot a kernel of 5.13 or later with \"landlock\" in the lsm= list");
}

static int restrict_calls(const struct sandbox_config *c, bool loading, struct sandbox_problem *why)
{
    return put_up(c, why, SANDBOX_SECCOMP, "seccomp", sandbox_filter(c->profile, loading, c->device),
                  "Boot a kernel with CONFIG_SECCOMP_FILTER");
}

int sandbox_enter(const struct sandbox_config *c, struct sandbox_problem *why)
{
    *why = (struct sandbox_problem){0};
    done = 0;
    if (close_others(c, why) != 0)
        return -1;
    if (without_swap())
        done |= SANDBOX_NO_SWAP;
    else if (lacking(c, why, SANDBOX_NO_SWAP, "swap is on", EPERM, "Turn swap off, or set LimitMEMLOCK=infinity"))
        return -1;
    if (enter_namespaces(c->profile))
        done |= SANDBOX_NAMESPACES;
    else if (lacking(c, why, SANDBOX_NAMESPACES, "namespaces", errno,
                     "Start as root or allow user namespaces (they are refused inside a chroot)"))
        return -1;
    /* Root reads model files of other owners and binds low ports until sandbox_seal(). */
    uint32_t keep = geteuid() != 0
                        ? 0
                        : 1u << CAP_DAC_READ_SEARCH | 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_NET_BIND_SERVICE;
    if (!keep_capabilities(keep))
        return fail(why, 0, "capset: %s", strerror(errno));
    if (!no_dumps(c))
        return fail(why, SANDBOX_NO_DUMPS, "core limit and dumpable: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(why, SANDBOX_NO_NEW_PRIVS, "no_new_privs: %s", strerror(errno));
    if (restrict_files(c, true, why) != 0)
        return -1;
    return restrict_calls(c, true, why);
}

/* --- stage two ---------------------------------------------------------------------------------- */

/* For all threads: glibc makes each of them change its ids, and with the ids go their capabilities. */
static bool become_unprivileged(const struct sandbox_config *c)
{
    uid_t uid = c->uid ? c->uid : NOBODY;
    gid_t gid = c->gid ? c->gid : NOBODY;
    if (geteuid() != 0)
        return true;
    return setgroups(0, NULL) == 0 && setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;
}

int sandbox_seal(const struct sandbox_config *c, struct sandbox_problem *why)
{
    *why = (struct sandbox_problem){0};
    if (!c->keep_uid && !become_unprivileged(c) &&
        lacking(c, why, SANDBOX_UNPRIVILEGED, "an unprivileged uid", errno,
                "Start as root of the machine's own user namespace, or as an ordinary user"))
        return -1;
    if (!keep_capabilities(0))
        return fail(why, 0, "capset: %s", strerror(errno));
    if (!no_dumps(c)) /* changing ids resets both */
        return fail(why, SANDBOX_NO_DUMPS, "core limit and dumpable: %s", strerror(errno));
    if (restrict_files(c, false, why) != 0 || restrict_calls(c, false, why) != 0)
        return -1;
    unsigned missing = c->required & ~sandbox_stage();
    if (missing) {
        char text[128];
        sandbox_stage_text(missing, text, sizeof text);
        return fail(why, missing, "the sandbox lacks: %s. Use a machine that has it, or a policy that does not ask it",
                    text);
    }
    return 0;
}

/* --- what is on ---------------------------------------------------------------------------------- */

static bool is_unprivileged(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    uid_t r, e, s;
    gid_t rg, eg, sg;
    if (getresuid(&r, &e, &s) != 0 || getresgid(&rg, &eg, &sg) != 0 || !r || !e || !s || !rg || !eg || !sg)
        return false;
    if (syscall(SYS_capget, &header, data) != 0)
        return false;
    return !(data[0].permitted | data[1].permitted | data[0].effective | data[1].effective);
}

unsigned sandbox_stage(void)
{
    struct rlimit core;
    unsigned bits = done & (SANDBOX_NAMESPACES | SANDBOX_LANDLOCK | SANDBOX_NO_SWAP);
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2)
        bits |= SANDBOX_SECCOMP;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        bits |= SANDBOX_NO_NEW_PRIVS;
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 && getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0)
        bits |= SANDBOX_NO_DUMPS;
    if (is_unprivileged())
        bits |= SANDBOX_UNPRIVILEGED;
    return bits;
}

void sandbox_stage_text(unsigned bits, char *out, size_t cap)
{
    static const char *const names[] = {"namespaces", "seccomp",      "landlock",        "no dumps",
                                        "no swap",    "no_new_privs", "unprivileged uid"};
    size_t len = 0;
    if (cap)
        out[0] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && len < cap; i++)
        if (bits & 1u << i)
            len += (size_t)snprintf(out + len, cap - len, "%s%s", len ? ", " : "", names[i]);
}
