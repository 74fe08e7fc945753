/* The system calls of each profile, as seccomp allow-lists. Everything else gives EPERM; clone3 gives ENOSYS, so that
 * libc falls back to clone, whose flags a filter can read. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tunnel/sandbox_parts.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41 /* libc and OpenSSL name their mappings; linux/prctl.h of 5.17 */
#endif

/* Reading and writing what is open, memory, threads of this process, time: what every profile needs while it serves.
 * No call here takes a path, makes a descriptor that reaches outside, or names another process. */
static const int core_calls[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(membarrier),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getresuid),
    SCMP_SYS(getresgid),
    SCMP_SYS(capget),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(wait4),
    SCMP_SYS(waitid),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
};

/* Files; which ones is Landlock's to say. */
static const int read_calls[] = {
    SCMP_SYS(open),       SCMP_SYS(openat),    SCMP_SYS(stat),       SCMP_SYS(lstat),
    SCMP_SYS(newfstatat), SCMP_SYS(statx),     SCMP_SYS(access),     SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2), SCMP_SYS(readlink),  SCMP_SYS(readlinkat), SCMP_SYS(getcwd),
    SCMP_SYS(getdents64), SCMP_SYS(fadvise64), SCMP_SYS(statfs),     SCMP_SYS(fstatfs),
};
static const int write_calls[] = {
    SCMP_SYS(rename),    SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink),    SCMP_SYS(unlinkat),
    SCMP_SYS(mkdir),     SCMP_SYS(mkdirat),  SCMP_SYS(rmdir),     SCMP_SYS(ftruncate), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(flock),    SCMP_SYS(fchmod),    SCMP_SYS(umask),     SCMP_SYS(fallocate),
};

/* Getting ready: the rest of the sandbox, limits, descriptors, signals. */
static const int start_calls[] = {
    SCMP_SYS(seccomp),
    SCMP_SYS(landlock_create_ruleset),
    SCMP_SYS(landlock_add_rule),
    SCMP_SYS(landlock_restrict_self),
    SCMP_SYS(prctl),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(capset),
    SCMP_SYS(setgroups),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(prlimit64),
    SCMP_SYS(getrlimit),
    SCMP_SYS(setrlimit),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe2),
    SCMP_SYS(signalfd4),
    SCMP_SYS(pidfd_open),
    SCMP_SYS(mlockall),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(getpriority),
    SCMP_SYS(setpriority),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(get_mempolicy),
    SCMP_SYS(mbind),
    SCMP_SYS(chdir),
    SCMP_SYS(fcntl),
    SCMP_SYS(ioctl),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
};

/* Dialling out. No sendmsg and recvmsg anywhere: a peer could pass a descriptor (SCM_RIGHTS). */
static const int dial_calls[] = {
    SCMP_SYS(connect),    SCMP_SYS(sendto),      SCMP_SYS(recvfrom),    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(shutdown),
};
static const int listen_calls[] = {
    SCMP_SYS(epoll_create), /* this and pipe: how libh2o makes an event loop */
    SCMP_SYS(pipe),         SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
};

/* What libh2o's loops and thread queues are made of: nothing that reaches outside the process. */
static const int loop_calls[] = {SCMP_SYS(epoll_create), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(dup)};

struct list {
    const int *call;
    size_t count;
};
#define LIST(array)                                                                                                    \
    {                                                                                                                  \
        array, sizeof array / sizeof *array                                                                            \
    }

static int allow_list(scmp_filter_ctx ctx, struct list list)
{
    int rc = 0;
    for (size_t i = 0; i < list.count && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, list.call[i], 0);
    return rc;
}

/* Allow `call` when its argument `arg`, masked, equals `value`. */
static int allow_when(scmp_filter_ctx ctx, int call, unsigned arg, uint64_t mask, uint64_t value)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1, SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, mask, value));
}

/* New threads of this process, nothing else: flags are clone's first argument on x86-64 and aarch64. */
static int allow_threads(scmp_filter_ctx ctx)
{
    uint64_t want = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES;
    uint64_t apart = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
                     CLONE_NEWCGROUP | CLONE_PTRACE | CLONE_VFORK;
    int rc = allow_when(ctx, SCMP_SYS(clone), 0, want | apart, want);
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc == 0) /* abort() and glibc's changing of all threads' ids */
        rc = allow_when(ctx, SCMP_SYS(tgkill), 0, UINT32_MAX, (uint64_t)getpid());
    return rc;
}

/* While serving: memory is never executable, prctl only asks or names, limits are only read. */
static int allow_served(scmp_filter_ctx ctx)
{
    static const int prctl_ops[] = {PR_SET_NAME,         PR_GET_NAME, PR_GET_DUMPABLE,  PR_GET_SECCOMP,
                                    PR_GET_NO_NEW_PRIVS, PR_SET_VMA,  PR_GET_PDEATHSIG, PR_CAPBSET_READ};
    static const int fcntl_ops[] = {F_GETFL, F_SETFL, F_GETFD, F_SETFD};
    int rc = allow_when(ctx, SCMP_SYS(mmap), 2, PROT_EXEC, 0);
    if (rc == 0)
        rc = allow_when(ctx, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);
    if (rc == 0)
        rc = allow_when(ctx, SCMP_SYS(prlimit64), 2, UINT64_MAX, 0);
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(getrlimit), 0);
    for (size_t i = 0; i < sizeof prctl_ops / sizeof *prctl_ops && rc == 0; i++)
        rc = allow_when(ctx, SCMP_SYS(prctl), 0, UINT32_MAX, (uint64_t)prctl_ops[i]);
    for (size_t i = 0; i < sizeof fcntl_ops / sizeof *fcntl_ops && rc == 0; i++)
        rc = allow_when(ctx, SCMP_SYS(fcntl), 1, UINT32_MAX, (uint64_t)fcntl_ops[i]);
    return rc;
}

/* Sockets of one family: streams, and datagrams where `datagrams` (name look-ups). */
static int allow_family(scmp_filter_ctx ctx, int family, bool datagrams)
{
    const uint64_t kinds = 0xf; /* SOCK_NONBLOCK and SOCK_CLOEXEC lie above */
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, SCMP_CMP(0, SCMP_CMP_EQ, (uint64_t)family, 0),
                              SCMP_CMP(1, SCMP_CMP_MASKED_EQ, kinds, SOCK_STREAM));
    if (rc == 0 && datagrams)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, SCMP_CMP(0, SCMP_CMP_EQ, (uint64_t)family, 0),
                              SCMP_CMP(1, SCMP_CMP_MASKED_EQ, kinds, SOCK_DGRAM));
    return rc;
}

static int allow_network(scmp_filter_ctx ctx, enum sandbox_profile profile)
{
    bool listens = profile != SANDBOX_TUNNEL;
    int rc = allow_list(ctx, (struct list)LIST(dial_calls));
    if (rc == 0)
        rc = allow_family(ctx, AF_INET, true);
    if (rc == 0)
        rc = allow_family(ctx, AF_INET6, true);
    if (rc == 0 && listens)
        rc = allow_list(ctx, (struct list)LIST(listen_calls));
    if (rc == 0 && listens)
        rc = allow_family(ctx, AF_UNIX, true);
    if (rc == 0) /* non-blocking sockets, as OpenSSL and h2o set them */
        rc = allow_when(ctx, SCMP_SYS(ioctl), 1, UINT32_MAX, FIONBIO);
    if (rc == 0)
        rc = allow_when(ctx, SCMP_SYS(ioctl), 1, UINT32_MAX, FIONREAD);
    return rc;
}

static int allow_profile(scmp_filter_ctx ctx, enum sandbox_profile profile)
{
    int rc = 0;
    if (profile != SANDBOX_ENGINE)
        rc = allow_list(ctx, (struct list)LIST(read_calls));
    if (rc == 0 && (profile == SANDBOX_KEYD || profile == SANDBOX_ATTESTER || profile == SANDBOX_CONNECT))
        rc = allow_list(ctx, (struct list)LIST(write_calls));
    if (rc == 0 && (profile == SANDBOX_PROXY || profile == SANDBOX_CONNECT))
        rc = allow_list(ctx, (struct list)LIST(loop_calls));
    if (rc == 0 && profile != SANDBOX_ENGINE && profile != SANDBOX_ATTESTER)
        rc = allow_network(ctx, profile);
    return rc;
}

static int allow_loading(scmp_filter_ctx ctx)
{
    int rc = allow_list(ctx, (struct list)LIST(read_calls));
    if (rc == 0)
        rc = allow_list(ctx, (struct list)LIST(write_calls));
    if (rc == 0)
        rc = allow_list(ctx, (struct list)LIST(start_calls));
    return rc;
}

/* The driver's ioctls: of type 'F' on /dev/nvidia0 and nvidiactl; on nvidia-uvm plain small numbers, and two to begin
 * and end. No terminal's (type 'T') and no socket's are among them. The files must be open already. */
static int allow_device(scmp_filter_ctx ctx)
{
    int rc = allow_when(ctx, SCMP_SYS(ioctl), 1, 0xff00, 'F' << 8);
    if (rc == 0)
        rc = allow_when(ctx, SCMP_SYS(ioctl), 1, 0xffffff00, 0);
    if (rc == 0)
        rc = allow_when(ctx, SCMP_SYS(ioctl), 1, UINT32_MAX, 0x30000001);
    if (rc == 0)
        rc = allow_when(ctx, SCMP_SYS(ioctl), 1, UINT32_MAX, 0x30000002);
    return rc;
}

static int fill(scmp_filter_ctx ctx, enum sandbox_profile profile, bool loading, bool device)
{
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a search tree, not a list */
    if (rc == 0)
        rc = allow_list(ctx, (struct list)LIST(core_calls));
    if (rc == 0)
        rc = allow_threads(ctx);
    if (rc == 0)
        rc = loading ? allow_loading(ctx) : allow_served(ctx);
    if (rc == 0)
        rc = allow_profile(ctx, profile);
    if (rc == 0 && device && !loading)
        rc = allow_device(ctx);
    return rc;
}

int sandbox_filter(enum sandbox_profile profile, bool loading, bool device)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return ENOMEM;
    int rc = fill(ctx, profile, loading, device);
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    return -rc;
}
