/* sandbox.h - a program locks itself in: namespaces, no_new_privs, capabilities, uid, Landlock, seccomp.
 *
 * Two stages, because loading needs more than serving:
 *   sandbox_enter()  first, while the process has one thread: namespaces of the profile, no_new_privs, no dumps, death
 *                    with the parent, inherited descriptors closed, capabilities dropped, Landlock over `paths`, and a
 *                    first seccomp filter that already refuses exec, fork, ptrace, io_uring, bpf and every socket the
 *                    profile never needs;
 *   sandbox_seal()   once loaded and before the first byte from a stranger is acted on: an unprivileged uid, Landlock
 *                    over what is left, and the strict seccomp allow-list of the profile, for all threads.
 * Programs that need nothing more after the start call one right after the other.
 *
 * What is refused gets EPERM (clone3: ENOSYS, so that libc falls back to clone, whose flags can be filtered).
 * The engine's strict list has no socket call of any kind: use read() and write() on its SEQPACKET pair (not send,
 * recv, sendmsg or recvmsg), with SIGPIPE ignored. It may start threads, never map memory executable.
 * A part in `required` that this machine lacks is an error naming feature and fix; other parts are then left out, and
 * sandbox_stage() says so. Landlock and seccomp count from the first stage on, with what loading needs; a wall that is
 * up and cannot be drawn in by sandbox_seal() is an error in any case. Linux, x86-64 and aarch64. */
#ifndef TUNNEL_SANDBOX_H
#define TUNNEL_SANDBOX_H

#include <sys/types.h>

#include "verifier/base/span.h"

enum sandbox_profile {
    SANDBOX_ENGINE,   /* no network, no files after loading */
    SANDBOX_ATTESTER, /* no network; files: the quoting device's, named in `paths` */
    SANDBOX_TUNNEL,   /* dials out: inet stream and datagram sockets, no listening */
    SANDBOX_PROXY,    /* listens and accepts: inet and Unix stream sockets */
    SANDBOX_KEYD,     /* listens and accepts; writes its state folder, named in `paths` */
    SANDBOX_CONNECT,  /* listens on this machine, dials out */
};

/* Bits of state.stage (PROTOCOL.md § state). */
enum {
    SANDBOX_NAMESPACES = 1,
    SANDBOX_SECCOMP = 2,
    SANDBOX_LANDLOCK = 4,
    SANDBOX_NO_DUMPS = 8,
    SANDBOX_NO_SWAP = 16, /* the machine has no swap, or all memory is locked */
    SANDBOX_NO_NEW_PRIVS = 32,
    SANDBOX_UNPRIVILEGED = 64, /* no id is 0 and no capability is left */
    SANDBOX_ALL = 127,
};

enum sandbox_access {
    SANDBOX_READ = 1,  /* files and folders below */
    SANDBOX_WRITE = 2, /* write, create, rename, remove below (implies nothing about reading) */
    SANDBOX_DEVICE = 4 /* ioctl, with read and write */
};
struct sandbox_path {
    const char *path;
    unsigned access; /* of enum sandbox_access */
};

/* The folder of the file `path` into `out`, which is returned. What is to be read again is granted by its folder: a
 * file that takes another's place by rename() is not the one that was granted. */
const char *sandbox_folder(const char *path, char *out, size_t cap);

struct sandbox_config {
    enum sandbox_profile profile;
    unsigned required; /* SANDBOX_* bits that must be on, else an error */
    const int *keep;   /* descriptors that stay open besides 0, 1, 2; all others are closed */
    size_t keep_count;
    const struct sandbox_path *load; /* what loading may reach; a path that does not exist is skipped */
    size_t load_count;
    const struct sandbox_path *serve; /* what is still reachable after sandbox_seal(); also before it */
    size_t serve_count;
    uid_t uid; /* to become in sandbox_seal() when started as root; 0: nobody (65534) */
    gid_t gid;
    bool device;   /* SANDBOX_ENGINE: a GPU of NVIDIA's is used while serving: the ioctls of its driver, none else */
    bool keep_uid; /* stay root though started as root: SANDBOX_UNPRIVILEGED is then not on */
    bool die_with_parent; /* SIGKILL when the parent dies */
};

struct sandbox_problem {
    unsigned missing; /* the SANDBOX_* bit at fault, or 0 */
    char text[256];   /* what, why, what to do; one line */
};

/* 0, or -1 with `*why`: then the process must end. `c` is copied where needed; its arrays must live until
 * sandbox_seal() returned. */
MUST_CHECK int sandbox_enter(const struct sandbox_config *c, struct sandbox_problem *why);
MUST_CHECK int sandbox_seal(const struct sandbox_config *c, struct sandbox_problem *why);

/* The bits that are on for this process now, as the kernel says where it can be asked (seccomp, no_new_privs, uid,
 * dumps), else as the calls succeeded (namespaces, Landlock, swap). */
unsigned sandbox_stage(void);
/* "namespaces, seccomp, landlock" for `bits`; `out` gets at most `cap` bytes with its NUL. */
void sandbox_stage_text(unsigned bits, char *out, size_t cap);

#endif
