/* peer.c - one address: connect, prove, judge, back off. */
#include "tunnel/dial/dial_parts.h"
#include "verifier/challenge.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10, READS_MAX = 16, USER_TIMEOUT_MS = 20000, LEAF_MS = 10000, STEADY_MS = 10000 };

struct peer *peer_find(struct dial *d, const struct target *t, const union tunnel_address *a)
{
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target == t && tunnel_resolve_equal(&d->peer[i].address, a))
            return &d->peer[i];
    return NULL;
}

void peer_add(struct dial *d, struct target *t, const union tunnel_address *a)
{
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
        struct peer *p = &d->peer[i];
        if (p->target)
            continue;
        *p = (struct peer){.dial = d, .target = t, .address = *a, .listed = true, .fd = -1};
        p->challenge = writer_with_max(TUNNEL_CHALLENGE_MAX);
        tunnel_resolve_print(a, p->name);
        return;
    }
    dial_say("too many addresses", t->host, "peer_count");
}

static void back_off(struct peer *p, uint64_t now_ms)
{
    bool steady = p->state == PEER_UP && p->told && now_ms - p->since_ms > STEADY_MS;
    if (steady || p->backoff_ms == 0)
        p->backoff_ms = DIAL_BACKOFF_MS;
    else if (p->backoff_ms < DIAL_BACKOFF_MAX_MS)
        p->backoff_ms = 2 * p->backoff_ms < DIAL_BACKOFF_MAX_MS ? 2 * p->backoff_ms : DIAL_BACKOFF_MAX_MS;
    p->retry_ms = now_ms + p->backoff_ms / 2 + dial_random() % (p->backoff_ms / 2 + 1);
}

static void tell(struct peer *p, bool up, const char *code)
{
    struct tunnel_peer t = {.keyd = p->target->keyd,
                            .index = p->target->keyd ? p->target->index : p->id,
                            .up = up,
                            .name = span_str(p->name),
                            .code = span_str(code)};
    if (p->told == up)
        return;
    p->told = up;
    (void)tunnel_link_peer(p->dial->link, &t); /* false: the link is over, and so are we */
}

void peer_close(struct peer *p, const char *code)
{
    uint64_t now_ms = dial_now_ms();
    if (p->state == PEER_IDLE)
        return;
    back_off(p, now_ms);
    tell(p, false, code);
    dial_say(p->target->keyd ? "keyd down" : "proxy down", p->name, code);
    relay_peer_gone(p->dial, p);
    tunnel_channel_close(p->channel);
    p->channel = NULL;
    (void)close(p->fd);
    p->fd = -1;
    p->state = PEER_IDLE;
    p->leaf_waiting = false;
    p->leaf_id = 0;
    verifier_claims_free(p->claims);
    p->claims = NULL;
}

static void peer_remove(struct peer *p)
{
    writer_release(&p->challenge);
    p->target = NULL;
}

static bool set_options(int fd)
{
    int on = 1, dead_ms = USER_TIMEOUT_MS;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof dead_ms) == 0;
}

static void begin_connect(struct peer *p, uint64_t now_ms)
{
    p->fd = socket(p->address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    p->state = PEER_CONNECTING;
    p->since_ms = now_ms;
    if (p->fd < 0 || !set_options(p->fd) ||
        (connect(p->fd, &p->address.any, tunnel_resolve_len(&p->address)) != 0 && errno != EINPROGRESS))
        peer_close(p, "connect");
}

static void begin_session(struct peer *p, uint64_t now_ms)
{
    struct tunnel_channel_config config = {.tls = p->dial->tls, .proves = true, .judges = !p->target->keyd};
    p->channel = tunnel_channel_open(&config, now_ms);
    if (!p->channel) {
        peer_close(p, "memory");
        return;
    }
    p->state = PEER_UP;
    p->since_ms = now_ms;
    p->id = ++p->dial->next_id;
}

/* A keyd with several addresses is asked at one of them; every address of a proxy is dialled. */
static bool may_dial(const struct peer *p)
{
    const struct dial *d = p->dial;
    if (d->draining || !p->listed)
        return false;
    if (!p->target->keyd)
        return dial_trusted_now(d) > 0;
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target == p->target && d->peer[i].state != PEER_IDLE)
            return false;
    return true;
}

static void ask_leaf(struct peer *p, uint64_t now_ms)
{
    uint32_t id = ++p->dial->next_leaf;
    enum attester_err err = attester_ask_leaf(p->dial->config.attester_fd, id, writer_span(&p->challenge),
                                              tunnel_tls_spki(p->dial->tls), p->exporter);
    if (err == ATTESTER_E_BUSY)
        return;
    p->leaf_waiting = false;
    if (err) {
        tunnel_channel_refuse(p->channel, attester_err_name(err));
        return;
    }
    p->leaf_id = id;
    p->leaf_ms = now_ms;
}

void peer_step(struct peer *p, uint64_t now_ms)
{
    if (p->state == PEER_IDLE && !p->listed) {
        peer_remove(p);
        return;
    }
    if (p->state == PEER_IDLE && now_ms >= p->retry_ms && may_dial(p))
        begin_connect(p, now_ms);
    else if (p->state == PEER_CONNECTING && now_ms >= p->since_ms + DIAL_CONNECT_MS)
        peer_close(p, "connect_timeout");
    if (p->state != PEER_UP)
        return;
    if (p->leaf_waiting)
        ask_leaf(p, now_ms);
    if (p->leaf_id && now_ms >= p->leaf_ms + LEAF_MS)
        tunnel_channel_refuse(p->channel, "attester_timeout");
    tunnel_channel_tick(p->channel, now_ms);
}

uint64_t peer_deadline(const struct peer *p)
{
    if (p->state == PEER_UP)
        return tunnel_channel_deadline(p->channel);
    if (p->state == PEER_CONNECTING)
        return p->since_ms + DIAL_CONNECT_MS;
    return may_dial(p) ? p->retry_ms : UINT64_MAX;
}

static void read_socket(struct peer *p, uint64_t now_ms)
{
    static uint8_t buffer[READ_SIZE]; /* TLS records: nothing secret in clear */
    for (int i = 0; i < READS_MAX && !tunnel_channel_is_closed(p->channel); i++) {
        ssize_t len = read(p->fd, buffer, sizeof buffer);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0) {
            tunnel_channel_lost(p->channel);
            return;
        }
        tunnel_channel_feed(p->channel, now_ms, span_of(buffer, (size_t)len));
        if ((size_t)len < sizeof buffer)
            return;
    }
}

void peer_socket(struct peer *p, uint64_t now_ms, short revents)
{
    if (p->state == PEER_CONNECTING && revents) {
        int error = 0;
        socklen_t len = sizeof error;
        if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error)
            peer_close(p, error == ECONNREFUSED ? "connect_refused" : "connect");
        else
            begin_session(p, now_ms);
    } else if (p->state == PEER_UP && revents & (POLLIN | POLLHUP | POLLERR)) {
        read_socket(p, now_ms);
    }
}

void peer_flush(struct peer *p, uint64_t now_ms)
{
    while (p->state == PEER_UP) {
        struct span out = tunnel_channel_output(p->channel, now_ms);
        ssize_t len = out.len ? write(p->fd, out.data, out.len) : 0;
        if (len > 0)
            tunnel_channel_sent(p->channel, (size_t)len);
        if (len < 0 && errno != EAGAIN && errno != EINTR)
            tunnel_channel_lost(p->channel);
        if (len <= 0)
            return;
    }
}

static void challenge(struct peer *p, uint64_t now_ms)
{
    struct verifier_challenge c = {.verifier = VERIFIER_ENGINE, .attester = VERIFIER_PROXY};
    struct writer w = writer_with_max(TUNNEL_CHALLENGE_MAX);
    bool good = RAND_bytes(c.nonce, sizeof c.nonce) == 1;
    verifier_challenge_encode(&w, &c);
    if (!good || !writer_ok(&w))
        tunnel_channel_refuse(p->channel, "internal");
    else if (!tunnel_channel_challenge(p->channel, now_ms, writer_span(&w)))
        dial_say("challenge waits", p->name, "challenge_open"); /* its verdict brings the next RENEW */
    writer_release(&w);
}

void peer_recheck(struct peer *p, uint64_t now_ms)
{
    if (p->state == PEER_UP && !p->target->keyd && tunnel_channel_is_open(p->channel))
        challenge(p, now_ms);
}

static void judge(struct peer *p, uint64_t now_ms, const struct tunnel_channel_event *e)
{
    struct dial *d = p->dial;
    uint64_t valid_until = 0, now = dial_trusted_now(d);
    struct verifier_claims *claims = NULL;
    struct verifier_input in = {.envelope = e->body,
                                .challenge = e->challenge,
                                .spki = e->spki,
                                .exporter = e->exporter,
                                .session = e->session,
                                .verifier = VERIFIER_ENGINE,
                                .attester = VERIFIER_PROXY,
                                .now = now,
                                .previous = p->claims};
    const char *code = d->has_rules ? d->config.judge.judge(d->config.judge.ctx, &in, &valid_until, &claims) : "rules";
    bool good = strcmp(code, "ok") == 0 && valid_until > now;
    if (good) {
        verifier_claims_free(p->claims);
        p->claims = claims;
    } else {
        verifier_claims_free(claims);
        dial_say("proxy refused", p->name, code);
    }
    tunnel_channel_verdict(p->channel, now_ms, code, valid_until, good ? valid_until - now : 0);
}

static void opened(struct peer *p)
{
    dial_say(p->target->keyd ? "keyd up" : "proxy up", p->name, "ok");
    p->since_ms = dial_now_ms();
    tell(p, true, "ok");
    if (!p->target->keyd && p->dial->stats.len)
        (void)tunnel_channel_stats(p->channel, writer_span(&p->dial->stats));
    if (p->target->ask.len && tunnel_channel_ask(p->channel, writer_span(&p->target->ask)))
        writer_reset(&p->target->ask);
}

static void proven(struct peer *p, uint64_t now_ms, const struct tunnel_channel_event *e)
{
    writer_reset(&p->challenge);
    writer_bytes(&p->challenge, e->challenge);
    memcpy(p->exporter, e->exporter, sizeof p->exporter);
    p->leaf_waiting = writer_ok(&p->challenge);
    if (p->leaf_waiting)
        ask_leaf(p, now_ms);
}

void peer_events(struct peer *p, uint64_t now_ms)
{
    struct tunnel_channel_event e;
    while (p->state == PEER_UP && tunnel_channel_event(p->channel, &e)) {
        switch (e.kind) {
        case TUNNEL_EV_SECURE:
        case TUNNEL_EV_RENEW:
            if (!p->target->keyd)
                challenge(p, now_ms);
            break;
        case TUNNEL_EV_CHALLENGED:
            proven(p, now_ms, &e);
            break;
        case TUNNEL_EV_EVIDENCE:
            judge(p, now_ms, &e);
            break;
        case TUNNEL_EV_JUDGED:
            if (strcmp(e.code, "ok") != 0)
                dial_say("refused by", p->name, e.code);
            break;
        case TUNNEL_EV_OPEN:
            opened(p);
            break;
        case TUNNEL_EV_GRANT:
            if (!tunnel_link_grant(p->dial->link, p->target->index, e.body))
                dial_say("grant lost", p->name, "memory");
            break;
        case TUNNEL_EV_STREAM:
            relay_from_peer(p, &e.stream);
            break;
        case TUNNEL_EV_CLOSED:
            peer_flush(p, now_ms);
            peer_close(p, e.code);
            return;
        case TUNNEL_EV_GOAWAY:
        case TUNNEL_EV_ASK:
        case TUNNEL_EV_STATS:
        case TUNNEL_EV_NONE:
            break;
        }
    }
}
