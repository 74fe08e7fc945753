#include "tunnel/dial/resolve.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

struct resolve {
    ares_channel channel;
};
struct question {
    void (*done)(void *ctx, const struct resolve_answer *answer);
    void *ctx;
};

struct resolve *resolve_open(void)
{
    struct resolve *r = calloc(1, sizeof *r);
    struct ares_options options = {.timeout = 2000, .tries = 2};
    if (!r || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        free(r);
        return NULL;
    }
    if (ares_init_options(&r->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES) != ARES_SUCCESS) {
        ares_library_cleanup();
        free(r);
        return NULL;
    }
    return r;
}

void resolve_close(struct resolve *r)
{
    if (!r)
        return;
    ares_destroy(r->channel);
    ares_library_cleanup();
    free(r);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct question *q = arg;
    struct resolve_answer *a = calloc(1, sizeof *a);
    struct resolve_answer nothing = {.problem = "out of memory"};
    (void)timeouts;
    if (a && status == ARES_SUCCESS) {
        a->ttl_s = UINT32_MAX;
        for (struct ares_addrinfo_node *n = info->nodes; n && a->count < RESOLVE_ADDRESSES_MAX; n = n->ai_next) {
            if (n->ai_addrlen > sizeof *a->address)
                continue;
            memcpy(&a->address[a->count++], n->ai_addr, n->ai_addrlen);
            if (n->ai_ttl >= 0 && (uint32_t)n->ai_ttl < a->ttl_s)
                a->ttl_s = (uint32_t)n->ai_ttl;
        }
        a->good = a->count > 0;
    }
    if (a)
        a->problem = ares_strerror(status);
    if (status == ARES_SUCCESS)
        ares_freeaddrinfo(info);
    q->done(q->ctx, a ? a : &nothing);
    free(a);
    free(q);
}

void resolve_ask(struct resolve *r, const char *host, uint16_t port,
                 void (*done)(void *ctx, const struct resolve_answer *answer), void *ctx)
{
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NUMERICSERV | ARES_AI_NOSORT};
    struct question *q = malloc(sizeof *q);
    char service[8];
    if (!q) {
        done(ctx, &(struct resolve_answer){.problem = "out of memory"});
        return;
    }
    *q = (struct question){done, ctx};
    (void)snprintf(service, sizeof service, "%u", port);
    ares_getaddrinfo(r->channel, host, service, &hints, on_answer, q);
}

size_t resolve_fds(struct resolve *r, struct pollfd fds[RESOLVE_FDS_MAX], int *wait_ms)
{
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    int bits = ares_getsock(r->channel, sockets, ARES_GETSOCK_MAXNUM);
    size_t count = 0;
    struct timeval most = {*wait_ms / 1000, (*wait_ms % 1000) * 1000}, next;
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM && i < RESOLVE_FDS_MAX; i++) {
        bool in = ARES_GETSOCK_READABLE(bits, i), out = ARES_GETSOCK_WRITABLE(bits, i);
        if (in || out)
            fds[count++] = (struct pollfd){sockets[i], (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)), 0};
    }
    if (ares_timeout(r->channel, &most, &next))
        *wait_ms = (int)(next.tv_sec * 1000 + next.tv_usec / 1000);
    return count;
}

void resolve_step(struct resolve *r, const struct pollfd *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool in = fds[i].revents & (POLLIN | POLLERR | POLLHUP), out = fds[i].revents & POLLOUT;
        if (in || out)
            ares_process_fd(r->channel, in ? fds[i].fd : ARES_SOCKET_BAD, out ? fds[i].fd : ARES_SOCKET_BAD);
    }
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* its time-outs */
}

bool resolve_literal(const char *host, uint16_t port, union resolve_address *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return true;
    }
    return false;
}

socklen_t resolve_len(const union resolve_address *a)
{
    return a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

bool resolve_equal(const union resolve_address *a, const union resolve_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
           memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
}

void resolve_print(const union resolve_address *a, char out[64])
{
    char text[INET6_ADDRSTRLEN] = "?";
    bool v4 = a->any.sa_family == AF_INET;
    (void)inet_ntop(a->any.sa_family, v4 ? (const void *)&a->v4.sin_addr : (const void *)&a->v6.sin6_addr, text,
                    sizeof text);
    (void)snprintf(out, 64, v4 ? "%s:%u" : "[%s]:%u", text, ntohs(v4 ? a->v4.sin_port : a->v6.sin6_port));
}
