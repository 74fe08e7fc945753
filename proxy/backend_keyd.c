/* backend_keyd.c - the proxy's lease: one connection to one keyd at a time, questions when policy/node.h says so. */
#include "proxy/backend_parts.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <unistd.h>

enum { CONNECT_MS = 5000, BACKOFF_MS = 100, BACKOFF_MAX_MS = 10000, TTL_MIN_S = 5, TTL_MAX_S = 300 };

static uint32_t random32(void)
{
    uint32_t v = 0;
    (void)RAND_bytes((unsigned char *)&v, sizeof v);
    return v;
}

static bool add_keyd(struct backend *b, size_t i, char *why, size_t why_len)
{
    struct keyd *k = &b->keyd[i];
    if (!tunnel_address_split(b->config.keyd[i], k->host, &k->port)) {
        (void)snprintf(why, why_len, "keyd address \"%.100s\" is not HOST:PORT or [ADDR]:PORT; correct it",
                       b->config.keyd[i]);
        return false;
    }
    k->literal = tunnel_resolve_literal(k->host, k->port, &k->address[0]);
    k->address_count = k->literal ? 1 : 0;
    return true;
}

bool keyd_open(struct backend *b, char *why, size_t why_len)
{
    struct policy_node_config config = {.role = VERIFIER_PROXY, .documents = writer_span(&b->documents)};
    enum policy_node_err err;
    if (b->trust.no_keyd)
        return true;
    for (size_t i = 0; i < b->config.keyd_count; i++)
        if (!add_keyd(b, i, why, why_len))
            return false;
    b->resolve = tunnel_resolve_open();
    memcpy(config.identity, b->config.identity, sizeof config.identity);
    memcpy(config.owner, b->owner.data, sizeof config.owner);
    if (!b->resolve || b->config.keyd_count == 0 ||
        EVP_Digest(b->statement.data, b->statement.len, config.statement, NULL, EVP_sha512(), NULL) != 1) {
        (void)snprintf(why, why_len,
                       b->resolve ? "no keyd is configured; without one there is no lease"
                                  : "name look-ups cannot be set up: out of memory");
        return false;
    }
    b->node = policy_node_open_new(&config, &err);
    if (!b->node) {
        (void)snprintf(why, why_len, "the policy file cannot be used: %s", policy_node_err_name(err));
        return false;
    }
    b->papers_dirty = true; /* keyd wants to see which policy we hold */
    return true;
}

static void close_connection(struct backend *b, const char *code)
{
    uint64_t now_ms = backend_now_ms();
    if (b->keyd_fd < 0)
        return;
    backend_say("keyd down", b->keyd[b->keyd_at].host, code);
    tunnel_channel_close(b->keyd_channel);
    b->keyd_channel = NULL;
    (void)close(b->keyd_fd);
    b->keyd_fd = -1;
    b->keyd_poll = NULL;
    b->keyd_connecting = false;
    proof_drop(&b->keyd_proof);
    if (b->keyd_asked) {
        b->keyd_asked = false;
        b->count.grants_failed++;
        policy_node_failed(b->node, now_ms, random32());
    }
    b->keyd_backoff_ms = b->keyd_backoff_ms == 0                   ? BACKOFF_MS
                         : 2 * b->keyd_backoff_ms < BACKOFF_MAX_MS ? 2 * b->keyd_backoff_ms
                                                                   : BACKOFF_MAX_MS;
    b->keyd_retry_ms = now_ms + b->keyd_backoff_ms / 2 + random32() % (b->keyd_backoff_ms / 2 + 1);
    if (++b->keyd_address_at >= b->keyd[b->keyd_at].address_count) { /* the next address, then the next keyd */
        b->keyd_address_at = 0;
        b->keyd_at = (b->keyd_at + 1) % b->config.keyd_count;
    }
}

void keyd_close(struct backend *b)
{
    b->keyd_asked = false;
    close_connection(b, "closed");
    tunnel_resolve_close(b->resolve);
    b->resolve = NULL;
    policy_node_close(b->node);
    b->node = NULL;
    writer_release(&b->keyd_proof.challenge);
}

/* --- connecting ----------------------------------------------------------------------------------- */

static void on_resolved(void *ctx, const struct tunnel_resolved *answer)
{
    struct keyd *k = ctx;
    uint32_t ttl = answer->good ? answer->ttl_s : TTL_MIN_S;
    ttl = ttl < TTL_MIN_S ? TTL_MIN_S : ttl > TTL_MAX_S ? TTL_MAX_S : ttl;
    k->asking = false;
    k->resolve_ms = backend_now_ms() + ttl * UINT64_C(1000);
    if (!answer->good) {
        backend_say("no address", k->host, "dns");
        return;
    }
    k->address_count = answer->count < 8 ? answer->count : 8;
    memcpy(k->address, answer->address, k->address_count * sizeof *k->address);
}

static void begin_connect(struct backend *b, uint64_t now_ms)
{
    struct keyd *k = &b->keyd[b->keyd_at];
    int on = 1;
    if (!k->literal && !k->asking && now_ms >= k->resolve_ms) {
        k->asking = true;
        tunnel_resolve_ask(b->resolve, k->host, k->port, on_resolved, k);
    }
    b->keyd_retry_ms = now_ms + BACKOFF_MS;
    if (k->address_count == 0) {
        b->keyd_at = k->asking ? b->keyd_at : (b->keyd_at + 1) % b->config.keyd_count;
        return;
    }
    const union tunnel_address *a = &k->address[b->keyd_address_at % k->address_count];
    b->keyd_fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (b->keyd_fd < 0)
        return;
    (void)setsockopt(b->keyd_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    b->keyd_connecting = true;
    b->keyd_since_ms = now_ms;
    if (connect(b->keyd_fd, &a->any, tunnel_resolve_len(a)) != 0 && errno != EINPROGRESS)
        close_connection(b, "connect");
}

static void begin_session(struct backend *b, uint64_t now_ms)
{
    struct tunnel_channel_config config = {.tls = b->tls, .proves = true};
    b->keyd_connecting = false;
    b->keyd_channel = tunnel_channel_open(&config, now_ms);
    if (!b->keyd_channel)
        close_connection(b, "memory");
}

void keyd_socket(struct backend *b, uint64_t now_ms, short revents)
{
    static _Thread_local uint8_t buffer[16 << 10];
    if (b->keyd_connecting) {
        int error = 0;
        socklen_t len = sizeof error;
        if (getsockopt(b->keyd_fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error)
            close_connection(b, error == ECONNREFUSED ? "connect_refused" : "connect");
        else
            begin_session(b, now_ms);
        return;
    }
    while (b->keyd_channel && (revents & (POLLIN | POLLHUP | POLLERR)) && !tunnel_channel_is_closed(b->keyd_channel)) {
        ssize_t len = read(b->keyd_fd, buffer, sizeof buffer);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0)
            tunnel_channel_lost(b->keyd_channel);
        else
            tunnel_channel_feed(b->keyd_channel, now_ms, span_of(buffer, (size_t)len));
    }
}

void keyd_flush(struct backend *b, uint64_t now_ms)
{
    while (b->keyd_channel) {
        struct span out = tunnel_channel_output(b->keyd_channel, now_ms);
        ssize_t len = out.len ? write(b->keyd_fd, out.data, out.len) : 0;
        if (len > 0)
            tunnel_channel_sent(b->keyd_channel, (size_t)len);
        if (len < 0 && errno != EAGAIN && errno != EINTR)
            tunnel_channel_lost(b->keyd_channel);
        if (len <= 0)
            return;
    }
}

/* --- questions and grants ------------------------------------------------------------------------- */

static void ask(struct backend *b, uint64_t now_ms)
{
    uint8_t nonce[32];
    struct policy_ask log = {.has_log = false}; /* the proxy keeps no receipts: nothing for keyd to watch */
    struct writer w = writer_with_max(TUNNEL_ASK_MAX);
    if (RAND_bytes(nonce, sizeof nonce) == 1) {
        policy_node_ask(b->node, nonce, now_ms, &log, &w);
        b->keyd_asked = writer_ok(&w) && tunnel_channel_ask(b->keyd_channel, writer_span(&w));
    }
    writer_release(&w);
    if (!b->keyd_asked)
        policy_node_failed(b->node, now_ms, random32());
}

static void take_grant(struct backend *b, uint64_t now_ms, struct span grant)
{
    enum policy_node_err err = policy_node_answer(b->node, grant, now_ms);
    b->keyd_asked = false;
    if (err) {
        b->count.grants_failed++;
        backend_say("grant refused", b->keyd[b->keyd_at].host, policy_node_err_name(err));
        policy_node_failed(b->node, now_ms, random32());
        return;
    }
    b->count.grants++;
    b->keyd_backoff_ms = 0;
    b->papers_dirty = b->changed = true;
    struct span documents = policy_node_documents(b->node);
    bool newer = !span_equal(documents, writer_span(&b->papers));
    enum verifier_err bad =
        policy_peers_update(b->real.peers, documents, policy_node_revocations(b->node), b->owner.data);
    if (bad)
        backend_say("policy not taken", b->keyd[b->keyd_at].host, verifier_err_name(bad));
    else if (newer)
        engines_recheck(b);
}

void keyd_events(struct backend *b, uint64_t now_ms)
{
    struct tunnel_channel_event ev;
    while (b->keyd_channel && tunnel_channel_event(b->keyd_channel, &ev)) {
        if (ev.kind == TUNNEL_EV_CHALLENGED) {
            if (b->keyd_proof.challenge.max == 0)
                b->keyd_proof.challenge = writer_with_max(VERIFIER_CHALLENGE_MAX);
            proof_want(&b->keyd_proof, ev.challenge, ev.exporter, now_ms);
        } else if (ev.kind == TUNNEL_EV_JUDGED && strcmp(ev.code, "ok") != 0) {
            backend_say("refused by keyd", b->keyd[b->keyd_at].host, ev.code);
        } else if (ev.kind == TUNNEL_EV_OPEN) {
            backend_say("keyd up", b->keyd[b->keyd_at].host, "ok");
        } else if (ev.kind == TUNNEL_EV_GRANT) {
            take_grant(b, now_ms, ev.body);
        } else if (ev.kind == TUNNEL_EV_CLOSED) {
            keyd_flush(b, now_ms);
            close_connection(b, ev.code);
        }
    }
}

void keyd_step(struct backend *b, uint64_t now_ms)
{
    if (!b->node)
        return;
    if (b->keyd_fd < 0 && now_ms >= b->keyd_retry_ms && now_ms >= policy_node_due(b->node))
        begin_connect(b, now_ms);
    if (b->keyd_connecting && now_ms >= b->keyd_since_ms + CONNECT_MS)
        close_connection(b, "connect_timeout");
    if (!b->keyd_channel)
        return;
    tunnel_channel_tick(b->keyd_channel, now_ms);
    if ((b->keyd_proof.wanted || b->keyd_proof.id) && now_ms >= b->keyd_proof.at_ms + BACKEND_LEAF_MS) {
        proof_drop(&b->keyd_proof);
        tunnel_channel_refuse(b->keyd_channel, "attester_timeout");
    }
    if (b->keyd_asked && now_ms >= policy_node_due(b->node))
        tunnel_channel_refuse(b->keyd_channel, "grant_late");
    if (tunnel_channel_is_open(b->keyd_channel) && !b->keyd_asked && now_ms >= policy_node_due(b->node))
        ask(b, now_ms);
}

uint64_t keyd_deadline(const struct backend *b)
{
    if (!b->node)
        return UINT64_MAX;
    uint64_t due = policy_node_due(b->node);
    if (b->keyd_fd < 0)
        return b->keyd_retry_ms > due ? b->keyd_retry_ms : due;
    if (b->keyd_connecting)
        return b->keyd_since_ms + CONNECT_MS;
    uint64_t tick = tunnel_channel_deadline(b->keyd_channel);
    return !tunnel_channel_is_open(b->keyd_channel) || tick < due ? tick : due;
}
