#include "engine/node.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/node_parts.h"

enum { REAP_MS = 1000 };

static volatile sig_atomic_t stop_signals;

static void on_signal(int sig)
{
    (void)sig;
    if (++stop_signals > 1)
        _exit(NODE_EXIT_FAILED);
}

uint64_t node_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void node_say(const char *format, ...)
{
    char text[1400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "airlock-engine: %s\n", text);
}

void node_end(struct node *n, enum node_exit status, const char *format, ...)
{
    char text[1024];
    va_list args;
    if (n->over)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    node_say("%s", text);
    n->over = true;
    n->status = status;
}

void node_wake(struct node *n)
{
    uint64_t one = 1;
    ssize_t sent = write(n->wake_fd, &one, sizeof one);
    (void)sent; /* full: the loop is awake anyway */
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static void take_event(struct node *n, const struct tunnel_link_event *ev)
{
    switch (ev->kind) {
    case TUNNEL_LINK_STREAM:
        node_serve_event(n, &ev->stream);
        break;
    case TUNNEL_LINK_PEER:
        node_keys_peer(n, &ev->peer);
        break;
    case TUNNEL_LINK_GRANT:
        node_keys_grant(n, ev->body);
        break;
    case TUNNEL_LINK_CLOSED:
        node_end(n, NODE_EXIT_TUNNEL, "airlock-tunnel is gone: %s", tunnel_err_name(ev->why));
        break;
    default:
        break;
    }
}

static void watch_children(struct node *n)
{
    int status;
    if (waitpid(n->attester.pid, &status, WNOHANG) == n->attester.pid) {
        n->attester.pid = -1;
        node_end(n, NODE_EXIT_ATTESTER, "the attester has ended: nothing can be proven any more");
    }
    if (n->tunnel_pid > 0 && waitpid(n->tunnel_pid, &status, WNOHANG) == n->tunnel_pid) {
        n->tunnel_pid = -1;
        node_end(n, NODE_EXIT_TUNNEL, "airlock-tunnel has ended (%s %d)", WIFEXITED(status) ? "status" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
}

static void drain(struct node *n, uint64_t now)
{
    if (!n->draining) {
        node_say("draining");
        n->draining = true;
        n->drain_end_ms = now + n->config->drain_s * 1000;
        if (n->engine && n->serving)
            engine_drain(n->engine);
        tunnel_link_drain(n->link);
    }
    if (node_serve_idle(n) || now >= n->drain_end_ms) {
        node_serve_stop(n, "going_away");
        tunnel_link_pump(n->link, now);
        n->over = true;
        n->status = NODE_EXIT_DRAINED;
    }
}

static void wait_for_something(struct node *n, uint64_t until)
{
    uint64_t now = node_now_ms(), link = tunnel_link_deadline(n->link), wake;
    struct pollfd fds[2] = {{.fd = tunnel_link_fd(n->link), .events = tunnel_link_wants(n->link)},
                            {.fd = n->wake_fd, .events = POLLIN}};
    until = until < link ? until : link;
    poll(fds, 2, until > now ? (int)(until - now) : 0);
    if (fds[1].revents & POLLIN) {
        ssize_t got = read(n->wake_fd, &wake, sizeof wake);
        (void)got;
    }
}

static void loop(struct node *n)
{
    struct tunnel_link_event ev;
    uint64_t tick = 0;
    while (!n->over) {
        tunnel_link_pump(n->link, node_now_ms());
        while (!n->over && tunnel_link_event(n->link, &ev))
            take_event(n, &ev);
        tick = node_keys_tick(n);
        node_serve_flush(n);
        watch_children(n);
        if (n->serving && engine_broken(n->engine))
            node_end(n, NODE_EXIT_FAILED,
                     "the device has failed and nothing can be computed any more: look at the "
                     "driver's log; a new start takes the device anew");
        if (stop_signals && !n->over)
            drain(n, node_now_ms());
        tunnel_link_pump(n->link, node_now_ms());
        if (!n->over)
            wait_for_something(n, tick);
    }
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

/* Both children end when their descriptors close. One that is frozen is not waited for: it is killed when we are gone
 * (PR_SET_PDEATHSIG). */
static void reap(pid_t pid)
{
    for (int i = 0; pid > 0 && i < REAP_MS / 10; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static void clean_up(struct node *n)
{
    /* The engine first: its threads still hand events to streams. */
    node_keys_close(n);
    n->engine = NULL;
    if (n->link)
        node_serve_stop(n, "going_away");
    tunnel_link_close(n->link);
    if (n->attester.pid > 0)
        close(n->attester.owner_fd);
    node_log_close(n);
    reap(n->attester.pid);
    reap(n->tunnel_pid);
    writer_release(&n->documents);
    writer_release(&n->template);
    writer_release(&n->generation);
    free(n->request);
}

enum node_exit node_run(const struct config *config)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct node *n = calloc(1, sizeof *n);
    if (!n) {
        node_say("out of memory");
        return NODE_EXIT_FAILED;
    }
    n->config = config;
    n->wake_fd = n->log_fd = -1;
    n->status = NODE_EXIT_START;
    pthread_mutex_init(&n->out_lock, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (node_start(n))
        loop(n);
    enum node_exit status = n->status;
    if (n->loading) /* nobody waits for a model that will not serve */
        _exit((int)status);
    clean_up(n);
    free(n);
    return status;
}
