/* resolve.h - names to addresses through c-ares, in the caller's poll loop. Literal addresses never reach it. */
#ifndef TUNNEL_RESOLVE_H
#define TUNNEL_RESOLVE_H

#include "verifier/base/span.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

enum { TUNNEL_RESOLVED_MAX = 64, TUNNEL_RESOLVE_FDS = 16 };

union tunnel_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};
struct tunnel_resolved {
    bool good; /* false: the name has no address now, or nobody answers */
    size_t count;
    union tunnel_address address[TUNNEL_RESOLVED_MAX];
    uint32_t ttl_s; /* of the first record to expire */
    const char *problem;
};

struct tunnel_resolve;
struct tunnel_resolve *tunnel_resolve_open(void); /* reads resolv.conf and the like now. NULL: out of memory */
void tunnel_resolve_close(struct tunnel_resolve *r);
/* `done` runs once, from here or from tunnel_resolve_step() or tunnel_resolve_close(). */
void tunnel_resolve_ask(struct tunnel_resolve *r, const char *host, uint16_t port,
                        void (*done)(void *ctx, const struct tunnel_resolved *answer), void *ctx);
/* Descriptors to poll; returns how many of `fds` were filled. `*wait_ms` is lowered to what is due. */
size_t tunnel_resolve_fds(struct tunnel_resolve *r, struct pollfd fds[TUNNEL_RESOLVE_FDS], int *wait_ms);
void tunnel_resolve_step(struct tunnel_resolve *r, const struct pollfd *fds, size_t count);
/* An address written out: true and `*out`. */
bool tunnel_resolve_literal(const char *host, uint16_t port, union tunnel_address *out);
socklen_t tunnel_resolve_len(const union tunnel_address *a);
bool tunnel_resolve_equal(const union tunnel_address *a, const union tunnel_address *b);
/* "10.0.0.1:9000", "[::1]:9000" */
void tunnel_resolve_print(const union tunnel_address *a, char out[64]);

/* Split "HOST:PORT" or "[ADDR]:PORT"; false when it is neither. */
bool tunnel_address_split(const char *text, char host[256], uint16_t *port);

#endif
