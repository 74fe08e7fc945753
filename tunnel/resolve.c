#include "tunnel/resolve.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

struct tunnel_resolve {
    ares_channel channel;
};
struct question {
    void (*done)(void *ctx, const struct tunnel_resolved *answer);
    void *ctx;
};

struct tunnel_resolve *tunnel_resolve_open(void)
{
    struct tunnel_resolve *r = calloc(1, sizeof *r);
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

void tunnel_resolve_close(struct tunnel_resolve *r)
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
    struct tunnel_resolved *a = calloc(1, sizeof *a);
    struct tunnel_resolved nothing = {.problem = "out of memory"};
    (void)timeouts;
    if (a && status == ARES_SUCCESS) {
        a->ttl_s = UINT32_MAX;
        for (struct ares_addrinfo_node *n = info->nodes; n && a->count < TUNNEL_RESOLVED_MAX; n = n->ai_next) {
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

void tunnel_resolve_ask(struct tunnel_resolve *r, const char *host, uint16_t port,
                        void (*done)(void *ctx, const struct tunnel_resolved *answer), void *ctx)
{
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NUMERICSERV | ARES_AI_NOSORT};
    struct question *q = malloc(sizeof *q);
    char service[8];
    if (!q) {
        done(ctx, &(struct tunnel_resolved){.problem = "out of memory"});
        return;
    }
    *q = (struct question){done, ctx};
    (void)snprintf(service, sizeof service, "%u", port);
    ares_getaddrinfo(r->channel, host, service, &hints, on_answer, q);
}

size_t tunnel_resolve_fds(struct tunnel_resolve *r, struct pollfd fds[TUNNEL_RESOLVE_FDS], int *wait_ms)
{
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    /* bit i: read from sockets[i]; bit 16 + i: write (c-ares' own macros shift into the sign) */
    unsigned bits = (unsigned)ares_getsock(r->channel, sockets, ARES_GETSOCK_MAXNUM);
    size_t count = 0;
    struct timeval most = {*wait_ms / 1000, (*wait_ms % 1000) * 1000}, next, *wait;
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM && i < TUNNEL_RESOLVE_FDS; i++) {
        bool in = bits >> i & 1, out = bits >> (ARES_GETSOCK_MAXNUM + i) & 1;
        if (in || out)
            fds[count++] = (struct pollfd){sockets[i], (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)), 0};
    }
    wait = ares_timeout(r->channel, &most, &next); /* one of the two; `next` is filled only when it is that one */
    if (wait)
        *wait_ms = (int)(wait->tv_sec * 1000 + wait->tv_usec / 1000);
    return count;
}

void tunnel_resolve_step(struct tunnel_resolve *r, const struct pollfd *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool in = fds[i].revents & (POLLIN | POLLERR | POLLHUP), out = fds[i].revents & POLLOUT;
        if (in || out)
            ares_process_fd(r->channel, in ? fds[i].fd : ARES_SOCKET_BAD, out ? fds[i].fd : ARES_SOCKET_BAD);
    }
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* its time-outs */
}

bool tunnel_resolve_literal(const char *host, uint16_t port, union tunnel_address *out)
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

socklen_t tunnel_resolve_len(const union tunnel_address *a)
{
    return a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

bool tunnel_resolve_equal(const union tunnel_address *a, const union tunnel_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
           memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0;
}

void tunnel_resolve_print(const union tunnel_address *a, char out[64])
{
    char text[INET6_ADDRSTRLEN] = "?";
    bool v4 = a->any.sa_family == AF_INET;
    (void)inet_ntop(a->any.sa_family, v4 ? (const void *)&a->v4.sin_addr : (const void *)&a->v6.sin6_addr, text,
                    sizeof text);
    (void)snprintf(out, 64, v4 ? "%s:%u" : "[%s]:%u", text, ntohs(v4 ? a->v4.sin_port : a->v6.sin6_port));
}

bool tunnel_address_split(const char *text, char host[256], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || colon == text || colon[1] < '1' || colon[1] > '9')
        return false;
    unsigned long number = strtoul(colon + 1, &end, 10);
    const char *from = text, *to = colon;
    if (*from == '[' && to[-1] == ']')
        from++, to--;
    else if (memchr(text, ':', (size_t)(colon - text)))
        return false; /* an IPv6 address without brackets */
    size_t len = (size_t)(to - from);
    if (*end || number > UINT16_MAX || len == 0 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)from[i] <= ' ' || from[i] == '"' || from[i] == '\\' || from[i] == 127)
            return false;
    memcpy(host, from, len);
    host[len] = 0;
    *port = (uint16_t)number;
    return true;
}
