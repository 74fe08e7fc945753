/* From a function call to a process of its own: keys and device first, then the sandbox, then the first word. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tunnel/attest/attester_core.h"
#include "tunnel/sandbox.h"

enum { START_MS = 15000, KEEP_MAX = 8, PATHS_MAX = 4 };

/* --- the child --------------------------------------------------------------------------------------------------- */

static void say(int fd, enum attester_err err, struct span body)
{
    uint8_t record[ATTESTER_RECORD_MAX];
    struct attester_record r = {.call = ATTESTER_HELLO, .status = (uint16_t)err, .body = body};
    ssize_t n = write(fd, record, attester_record_encode(record, &r));

    (void)n; /* whoever should hear it is gone; the loop will see that */
}

static bool lock_in(const struct attester_core *c, const struct attester_config *config, int owner, int peer,
                    char why[256])
{
    int keep[KEEP_MAX] = {owner, peer};
    struct sandbox_path paths[PATHS_MAX + 1];
    char folder[TUNNEL_BUNDLE_PATH_MAX];
    struct sandbox_config box = {.profile = SANDBOX_ATTESTER,
                                 .required = config->sandbox,
                                 .keep = keep,
                                 .load = paths,
                                 .serve = paths,
                                 .uid = config->uid,
                                 .gid = config->gid,
                                 .die_with_parent = true};
    struct sandbox_problem problem = {0};

    box.keep_count = 2 + attester_watch_fds(&c->watch, keep + 2);
    box.serve_count = c->producer->paths(c->device, paths, PATHS_MAX);
    if (c->own.path[0]) {
        sandbox_folder(c->own.path, folder, sizeof folder);
        paths[box.serve_count++] = (struct sandbox_path){folder, SANDBOX_READ};
    }
    box.load_count = box.serve_count;
    if (config->no_sandbox || (sandbox_enter(&box, &problem) == 0 && sandbox_seal(&box, &problem) == 0))
        return true;
    snprintf(why, 256, "%s", problem.text);
    return false;
}

static void hello(const struct attester_core *c, int owner)
{
    struct writer w = writer_with_max(ATTESTER_PIECE_MAX);

    writer_list(&w, 3);
    writer_bin(&w, span_of(c->keys.identity_public, VERIFIER_KEY_LEN));
    writer_bin(&w, span_of(c->keys.release_public, VERIFIER_KEY_LEN));
    writer_bin(&w, writer_span(&c->statement));
    say(owner, ATTESTER_OK, writer_span(&w));
    writer_release(&w);
}

/* Can the operator's file be read again from in here? Asked by opening it: access() knows nothing of Landlock, which
 * stops a link that leads out of the folder. */
static void try_own(const struct attester_core *c)
{
    int fd = c->own.path[0] ? open(c->own.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

    if (fd >= 0)
        close(fd);
    else if (c->own.path[0])
        fprintf(stderr,
                "airlock-attest: %s cannot be read again by uid %u in its sandbox (%s), so a change of it will not be "
                "taken over: put the file itself, no link, into a folder that this user may read\n",
                c->own.path, (unsigned)getuid(), strerror(errno));
}

static _Noreturn void child(const struct attester_config *config, pid_t owner_pid, int owner, int peer)
{
    static struct attester_core core; /* about a megabyte of parts: not on the stack */
    char why[256] = "";
    bool good;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C: the owner ends us by closing its end */
    prctl(PR_SET_NAME, "airlock-attest");
    good = attester_core_init(&core, config, why);
    if (good) {
        attester_watch_open(&core.watch, owner_pid, config->role == VERIFIER_ENGINE);
        good = lock_in(&core, config, owner, peer, why);
    }
    if (good) {
        try_own(&core);
        hello(&core, owner);
        attester_serve(&core, owner, peer);
    } else {
        say(owner, ATTESTER_E_INTERNAL, span_str(why));
    }
    attester_core_release(&core);
    _exit(good ? 0 : 1);
}

/* --- the parent ----------------------------------------------------------------------------------------------------
 */

static bool make_pair(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0;
}

static void close_pair(const int pair[2])
{
    if (pair[0] >= 0)
        close(pair[0]);
    if (pair[1] >= 0)
        close(pair[1]);
}

/* The first record: who it is, or why it could not start. */
static bool hear(struct attester *a, char why[256])
{
    uint8_t bytes[ATTESTER_RECORD_MAX];
    struct pollfd p = {.fd = a->owner_fd, .events = POLLIN};
    struct attester_record r;
    struct reader in;
    struct span statement;
    ssize_t n;
    int ready;

    while ((ready = poll(&p, 1, START_MS)) < 0 && errno == EINTR)
        ;
    n = ready > 0 ? read(a->owner_fd, bytes, sizeof bytes) : -1;
    if (n <= 0 || !attester_record_parse(&r, span_of(bytes, (size_t)n)) || r.call != ATTESTER_HELLO) {
        snprintf(why, 256, "the attester did not start within %d s; see the system's log", START_MS / 1000);
        return false;
    }
    if (r.status != ATTESTER_OK) {
        snprintf(why, 256, "attester: %.*s", (int)(r.body.len < 240 ? r.body.len : 240), (const char *)r.body.data);
        return false;
    }
    in = reader_over(r.body);
    (void)reader_list(&in, 3, 3);
    reader_bin_copy(&in, a->identity, sizeof a->identity);
    reader_bin_copy(&in, a->release, sizeof a->release);
    statement = reader_bin(&in, 1, sizeof a->statement);
    if (!reader_end(&in)) {
        snprintf(why, 256, "the attester's first answer cannot be read");
        return false;
    }
    memcpy(a->statement, statement.data, statement.len);
    a->statement_len = statement.len;
    return true;
}

int attester_fork(const struct attester_config *config, struct attester *out, char why[256])
{
    int owner[2] = {-1, -1}, peer[2] = {-1, -1};
    pid_t self = getpid();

    *out = (struct attester){.pid = -1, .owner_fd = -1, .peer_fd = -1};
    if (!config->producer || !make_pair(owner) || (config->role == VERIFIER_ENGINE && !make_pair(peer))) {
        snprintf(why, 256, "no socket pair for the attester: %s", strerror(errno));
        close_pair(owner);
        return -1;
    }
    out->pid = fork();
    if (out->pid == 0) {
        close(owner[0]);
        if (peer[0] >= 0)
            close(peer[0]);
        child(config, self, owner[1], peer[1]);
    }
    close(owner[1]);
    if (peer[1] >= 0)
        close(peer[1]);
    out->owner_fd = owner[0];
    out->peer_fd = peer[0];
    if (out->pid < 0)
        snprintf(why, 256, "cannot start the attester: %s", strerror(errno));
    if (out->pid > 0 && hear(out, why))
        return 0;
    attester_end(out);
    return -1;
}

void attester_end(struct attester *a)
{
    if (a->owner_fd >= 0)
        close(a->owner_fd);
    if (a->peer_fd >= 0)
        close(a->peer_fd);
    if (a->pid > 0)
        while (waitpid(a->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    *a = (struct attester){.pid = -1, .owner_fd = -1, .peer_fd = -1};
}
