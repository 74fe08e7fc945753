/* connect.h - `airlock connect`: an OpenAI-compatible endpoint on this machine that verifies the far end before it
 * forwards. No byte of a request leaves the process before the connection that will carry it has been attested and
 * accepted by the caller's own rules; a refusal is a 502 that names stage, code, what was seen, what was required and
 * what to do. It listens on loopback only, answers only to its own Host and to no web page (any Origin is refused). */
#ifndef PROXY_CONNECT_H
#define PROXY_CONNECT_H

#include "proxy/shim.h"
#include "proxy/upstream.h"

enum { CONNECT_KEY_MAX = 512, CONNECT_TOKEN_LEN = 32 };

struct connect_config {
    int listen_fd; /* on loopback; given away */
    struct upstream_config upstream;
    char key[CONNECT_KEY_MAX]; /* a tenant key to use for every request; empty: the caller's bearer is passed on */
    char token[2 * CONNECT_TOKEN_LEN + 1]; /* what callers must send as bearer when `key` is set */
    bool sealed;          /* requests are encrypted to an engine that proved its own key: the proxy cannot read them */
    unsigned workers;     /* requests at once; more wait */
    unsigned waiting_max; /* more than that wait: 429 */
    unsigned request_ms;
    struct hx_limits limits;
};

struct connect;
/* NULL with `why` filled. Yours: connect_stop(). */
struct connect *connect_start(const struct connect_config *config, char why[HX_WHY_MAX]);
uint16_t connect_port(const struct connect *c);
unsigned connect_running(const struct connect *c);
void connect_drain(struct connect *c);
void connect_stop(struct connect *c);

#endif
