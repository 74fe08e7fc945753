/* resolve.h - names to addresses through c-ares, in the caller's poll loop. Literal addresses never reach it. */
#ifndef TUNNEL_DIAL_RESOLVE_H
#define TUNNEL_DIAL_RESOLVE_H

#include "verifier/base/span.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

enum { RESOLVE_ADDRESSES_MAX = 64, RESOLVE_FDS_MAX = 16 };

union resolve_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};
struct resolve_answer {
    bool good; /* false: the name has no address now, or nobody answers */
    size_t count;
    union resolve_address address[RESOLVE_ADDRESSES_MAX];
    uint32_t ttl_s; /* of the first record to expire */
    const char *problem;
};

struct resolve;
struct resolve *resolve_open(void); /* reads resolv.conf and the like now. NULL: out of memory */
void resolve_close(struct resolve *r);
/* `done` runs once, from here or from resolve_step() or resolve_close(). */
void resolve_ask(struct resolve *r, const char *host, uint16_t port,
                 void (*done)(void *ctx, const struct resolve_answer *answer), void *ctx);
/* Descriptors to poll; returns how many of `fds` were filled. `*wait_ms` is lowered to what is due. */
size_t resolve_fds(struct resolve *r, struct pollfd fds[RESOLVE_FDS_MAX], int *wait_ms);
void resolve_step(struct resolve *r, const struct pollfd *fds, size_t count);
/* An address written out: true and `*out`. */
bool resolve_literal(const char *host, uint16_t port, union resolve_address *out);
socklen_t resolve_len(const union resolve_address *a);
bool resolve_equal(const union resolve_address *a, const union resolve_address *b);
/* "10.0.0.1:9000", "[::1]:9000" */
void resolve_print(const union resolve_address *a, char out[64]);

#endif
