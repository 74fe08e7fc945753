/* backend_engines.c - tunnels: accepted, attested both ways, challenged again every few minutes, swept when lost. */
#include "proxy/backend_parts.h"

#include "tunnel/source.h"
#include "verifier/leaf.h"
#include "verifier/tree.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10, READS_MAX = 16, BACKLOG = 64, USER_TIMEOUT_MS = 5000 };

/* --- listening ------------------------------------------------------------------------------------ */

static int listen_on(const union tunnel_address *a)
{
    int on = 1, fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    bool v6 = a->any.sa_family == AF_INET6;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, &a->any, tunnel_resolve_len(a)) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* "ADDR:PORT", where the port may also be 0. */
static bool parse_listen(const char *text, union tunnel_address *out)
{
    char host[256], copy[300];
    uint16_t port;
    size_t len = strlen(text);
    bool any_port = len > 2 && strcmp(text + len - 2, ":0") == 0;
    (void)snprintf(copy, sizeof copy, "%.*s%s", any_port ? (int)(len - 1) : 290, text, any_port ? "1" : "");
    return tunnel_address_split(copy, host, &port) && tunnel_resolve_literal(host, any_port ? 0 : port, out);
}

bool engines_listen(struct backend *b, char *why, size_t why_len)
{
    for (size_t i = 0; i < b->config.listen_count; i++) {
        union tunnel_address a;
        socklen_t len = sizeof a;
        if (!parse_listen(b->config.listen[i], &a)) {
            (void)snprintf(why, why_len, "tunnel listener \"%.100s\" is not ADDRESS:PORT; give an address, not a name",
                           b->config.listen[i]);
            return false;
        }
        b->listener[i] = listen_on(&a);
        if (b->listener[i] < 0 || getsockname(b->listener[i], &a.any, &len) != 0) {
            (void)snprintf(why, why_len, "cannot listen for tunnels on %.100s: %s; choose another address or port",
                           b->config.listen[i], strerror(errno));
            return false;
        }
        b->port[i] = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    }
    return true;
}

/* Is one more connection from this address within its budget? The table is small: a crowd shares a slot. */
static bool source_allows(struct backend *b, const union tunnel_address *a, uint64_t now_ms)
{
    uint8_t key[TUNNEL_SOURCE_LEN];
    tunnel_source_key(&a->any, key);
    return tunnel_budget_take(&b->source[tunnel_source_slot(key, BACKEND_SOURCES_MAX)], now_ms, BACKEND_SOURCE_BURST,
                              BACKEND_SOURCE_EVERY_MS);
}

static void engine_open(struct backend *b, int fd, const union tunnel_address *a, uint64_t now_ms)
{
    struct tunnel_channel_config config = {.tls = b->tls,
                                           .server = true,
                                           .proves = true,
                                           .judges = true,
                                           .ping_ms = b->config.ping_ms ? b->config.ping_ms : BACKEND_PING_MS};
    struct engine *e = calloc(1, sizeof *e);
    if (e)
        e->channel = tunnel_channel_open(&config, now_ms);
    if (!e || !e->channel) {
        free(e);
        (void)close(fd);
        return;
    }
    e->backend = b;
    e->fd = fd;
    e->proof.challenge = writer_with_max(VERIFIER_CHALLENGE_MAX);
    e->stats = writer_with_max(TUNNEL_STATS_MAX);
    e->recheck_ms = UINT64_MAX;
    tunnel_resolve_print(a, e->name);
    e->next = b->engines;
    b->engines = e;
    b->connection_count++;
    b->count.tunnels++;
}

/* All places are taken: the one that has tried longest to prove itself goes, so that a crowd of strangers cannot keep
 * engines out. False: all are engines. */
static bool make_room(struct backend *b, uint64_t now_ms)
{
    struct engine *oldest = NULL;
    for (struct engine *e = b->engines; e; e = e->next) /* the newest stand first */
        if (!e->admitted && !e->dead && !e->draining)
            oldest = e;
    if (!oldest)
        return false;
    tunnel_channel_refuse(oldest->channel, "too_many");
    engine_events(oldest, now_ms);
    engines_sweep(b);
    return true;
}

void engines_accept(struct backend *b, size_t listener, uint64_t now_ms)
{
    for (int i = 0; i < 16; i++) {
        union tunnel_address a;
        socklen_t len = sizeof a;
        int on = 1, dead_ms = USER_TIMEOUT_MS;
        int fd = accept4(b->listener[listener], &a.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (b->draining || !source_allows(b, &a, now_ms) ||
            (b->connection_count >= BACKEND_CONNECTIONS_MAX && !make_room(b, now_ms))) {
            (void)close(fd);
            continue;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof dead_ms);
        engine_open(b, fd, &a, now_ms);
    }
}

/* --- evidence ------------------------------------------------------------------------------------- */

struct evidence *evidence_ref(struct evidence *e)
{
    e->refs++;
    return e;
}

void evidence_unref(struct evidence *e)
{
    if (!e || --e->refs > 0)
        return;
    writer_release(&e->challenge);
    writer_release(&e->spki);
    writer_release(&e->envelope);
    verifier_claims_free(e->claims);
    free(e);
}

/* `claims` is given away. NULL: out of memory. */
static struct evidence *evidence_new(const struct tunnel_channel_event *ev, struct verifier_claims *claims,
                                     uint64_t now, uint64_t now_ms)
{
    struct evidence *e = calloc(1, sizeof *e);
    if (!e) {
        verifier_claims_free(claims);
        return NULL;
    }
    e->refs = 1;
    e->claims = claims;
    e->checked_at = now;
    e->checked_ms = now_ms;
    memcpy(e->identity, claims->node.statement.identity, sizeof e->identity);
    memcpy(e->exporter, ev->exporter, sizeof e->exporter);
    e->challenge = writer_with_max(VERIFIER_CHALLENGE_MAX);
    e->spki = writer_with_max(VERIFIER_SPKI_MAX);
    e->envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    writer_bytes(&e->challenge, ev->challenge);
    writer_bytes(&e->spki, ev->spki);
    writer_bytes(&e->envelope, ev->body);
    if (!writer_ok(&e->challenge) || !writer_ok(&e->spki) || !writer_ok(&e->envelope)) {
        evidence_unref(e);
        return NULL;
    }
    verifier_engine_leaf(e->leaf, ev->challenge, ev->spki, ev->exporter, claims->node.h_quote, claims->node.h_statement,
                         claims->node.h_state, now);
    return e;
}

enum verifier_err engines_root(struct backend *b, struct evidence **list, size_t *count, uint8_t root[64])
{
    static _Thread_local uint8_t leaves[BACKEND_ENGINES_MAX][VERIFIER_DIGEST_LEN];
    *count = 0;
    for (struct engine *e = b->engines; e && *count < BACKEND_ENGINES_MAX; e = e->next) {
        if (!e->admitted || e->dead)
            continue;
        memcpy(leaves[*count], e->evidence->leaf, VERIFIER_DIGEST_LEN);
        list[(*count)++] = e->evidence;
    }
    if (*count == 0)
        return VERIFIER_OK;
    return verifier_tree_root((const uint8_t(*)[VERIFIER_DIGEST_LEN])leaves, *count, root);
}

bool engines_has(const struct backend *b, const struct evidence *e)
{
    for (const struct engine *n = b->engines; n; n = n->next)
        if (n->admitted && !n->draining && !n->dead && memcmp(n->evidence->identity, e->identity, 32) == 0)
            return true;
    return false;
}

static void challenge(struct engine *e, uint64_t now_ms)
{
    struct verifier_challenge c = {.verifier = VERIFIER_PROXY, .attester = VERIFIER_ENGINE};
    struct writer w = writer_with_max(VERIFIER_CHALLENGE_MAX);
    bool good = RAND_bytes(c.nonce, sizeof c.nonce) == 1;
    verifier_challenge_encode(&w, &c);
    if (!good || !writer_ok(&w))
        tunnel_channel_refuse(e->channel, "internal");
    else if (tunnel_channel_challenge(e->channel, now_ms, writer_span(&w)))
        e->recheck_ms = now_ms + (e->backend->config.recheck_ms ? e->backend->config.recheck_ms : BACKEND_RECHECK_MS);
    writer_release(&w);
}

static void judge(struct engine *e, uint64_t now_ms, const struct tunnel_channel_event *ev)
{
    struct backend *b = e->backend;
    struct policy_verdict verdict;
    struct verifier_claims *claims = NULL;
    uint64_t now = backend_trusted_now(b);
    struct verifier_input in = {.envelope = ev->body,
                                .challenge = ev->challenge,
                                .spki = ev->spki,
                                .exporter = ev->exporter,
                                .session = ev->session,
                                .verifier = VERIFIER_PROXY,
                                .attester = VERIFIER_ENGINE,
                                .now = now,
                                .previous = e->evidence ? e->evidence->claims : NULL};
    const char *code = "no_lease";
    bool good = backend_is_leased(b) && b->trust.judge(b->trust.ctx, &in, &verdict, &claims);
    if (good && verdict.valid_until <= now)
        good = false, code = "expired";
    else if (!good && backend_is_leased(b))
        code = verifier_err_name(verdict.refusal.code);
    struct evidence *fresh = good ? evidence_new(ev, claims, now, now_ms) : NULL;
    if (!good)
        verifier_claims_free(claims);
    if (good && fresh && e->evidence && memcmp(fresh->identity, e->evidence->identity, 32) != 0) {
        evidence_unref(fresh); /* one connection is one engine */
        fresh = NULL;
        good = false;
        code = "identity";
    }
    if (!fresh) {
        b->count.refused++;
        code = good ? "internal" : code;
        backend_say("engine refused", e->name, code);
        tunnel_channel_verdict(e->channel, now_ms, code, 0, 0);
        return;
    }
    evidence_unref(e->evidence);
    e->evidence = fresh;
    b->serves_dirty = b->serves_dirty || e->admitted;
    tunnel_channel_verdict(e->channel, now_ms, "ok", verdict.valid_until, verdict.valid_until - now);
}

/* --- one tunnel ----------------------------------------------------------------------------------- */

/* Admit; an older connection of the same engine goes. */
static void admit(struct engine *e)
{
    struct backend *b = e->backend;
    for (struct engine *old = b->engines; old; old = old->next)
        if (old != e && old->admitted && memcmp(old->evidence->identity, e->evidence->identity, 32) == 0)
            tunnel_channel_drain(old->channel), old->draining = true, old->admitted = false;
    e->admitted = true;
    b->serves_dirty = b->changed = true;
    b->count.admitted++;
    backend_say("engine up", e->name, "ok");
}

static void lost(struct engine *e, const char *code)
{
    struct backend *b = e->backend;
    backend_say(e->admitted ? "engine down" : "tunnel closed", e->name, code);
    if (e->admitted)
        b->serves_dirty = b->changed = true;
    e->admitted = false;
    e->dead = true;
    proof_drop(&e->proof);
    requests_lose(b, e);
}

void engine_read(struct engine *e, uint64_t now_ms, short revents)
{
    static _Thread_local uint8_t buffer[READ_SIZE]; /* TLS records: nothing secret in clear */
    if (!(revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    for (int i = 0; i < READS_MAX && !tunnel_channel_is_closed(e->channel); i++) {
        ssize_t len = read(e->fd, buffer, sizeof buffer);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0) {
            tunnel_channel_lost(e->channel);
            return;
        }
        tunnel_channel_feed(e->channel, now_ms, span_of(buffer, (size_t)len));
        if ((size_t)len < sizeof buffer)
            return;
    }
}

void engine_flush(struct engine *e, uint64_t now_ms)
{
    while (!e->dead) {
        struct span out = tunnel_channel_output(e->channel, now_ms);
        ssize_t len = out.len ? write(e->fd, out.data, out.len) : 0;
        if (len > 0)
            tunnel_channel_sent(e->channel, (size_t)len);
        if (len < 0 && errno != EAGAIN && errno != EINTR)
            tunnel_channel_lost(e->channel);
        if (len <= 0)
            return;
    }
}

void engine_events(struct engine *e, uint64_t now_ms)
{
    struct backend *b = e->backend;
    struct tunnel_channel_event ev;
    while (!e->dead && tunnel_channel_event(e->channel, &ev)) {
        switch (ev.kind) {
        case TUNNEL_EV_SECURE:
        case TUNNEL_EV_RENEW:
            if (backend_is_leased(b))
                challenge(e, now_ms);
            else
                tunnel_channel_refuse(e->channel, "no_lease");
            break;
        case TUNNEL_EV_CHALLENGED:
            proof_want(&e->proof, ev.challenge, ev.exporter, now_ms);
            break;
        case TUNNEL_EV_EVIDENCE:
            judge(e, now_ms, &ev);
            break;
        case TUNNEL_EV_JUDGED:
            if (strcmp(ev.code, "ok") != 0)
                backend_say("refused by engine", e->name, ev.code);
            break;
        case TUNNEL_EV_OPEN:
            admit(e);
            break;
        case TUNNEL_EV_STATS:
            if (e->stats.len == 0)
                b->metrics_ms = 0;                        /* the first ones show at once */
            b->changed = b->changed || e->stats.len == 0; /* what the engine can do is news */
            writer_reset(&e->stats);
            writer_bytes(&e->stats, ev.body);
            break;
        case TUNNEL_EV_STREAM:
            request_event(e, &ev.stream);
            break;
        case TUNNEL_EV_GOAWAY:
            e->draining = b->changed = true;
            break;
        case TUNNEL_EV_CLOSED:
            engine_flush(e, now_ms);
            lost(e, ev.code);
            break;
        case TUNNEL_EV_ASK:
        case TUNNEL_EV_GRANT:
        case TUNNEL_EV_NONE:
            break;
        }
    }
}

/* --- all of them ---------------------------------------------------------------------------------- */

void engines_step(struct backend *b, uint64_t now_ms)
{
    for (struct engine *e = b->engines; e; e = e->next) {
        tunnel_channel_tick(e->channel, now_ms);
        if ((e->proof.wanted || e->proof.id) && now_ms >= e->proof.at_ms + BACKEND_LEAF_MS) {
            proof_drop(&e->proof);
            tunnel_channel_refuse(e->channel, "attester_timeout");
        }
        if (now_ms >= e->recheck_ms) {
            e->recheck_ms = now_ms + BACKEND_RECHECK_MS;
            challenge(e, now_ms);
        }
    }
}

void engines_recheck(struct backend *b)
{
    for (struct engine *e = b->engines; e; e = e->next)
        if (e->admitted)
            e->recheck_ms = 0;
}

void engines_drain(struct backend *b)
{
    for (struct engine *e = b->engines; e; e = e->next)
        tunnel_channel_drain(e->channel);
    for (size_t i = 0; i < b->config.listen_count; i++) {
        (void)close(b->listener[i]);
        b->listener[i] = -1;
    }
}

static void engine_free(struct engine *e)
{
    (void)close(e->fd);
    tunnel_channel_close(e->channel);
    evidence_unref(e->evidence);
    writer_release(&e->proof.challenge);
    writer_release(&e->stats);
    e->backend->connection_count--;
    free(e);
}

void engines_sweep(struct backend *b)
{
    for (struct engine **at = &b->engines; *at;) {
        struct engine *e = *at;
        if (!e->dead) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        engine_free(e);
    }
}

void engines_close(struct backend *b)
{
    for (struct engine *e = b->engines; e; e = e->next)
        e->dead = true;
    engines_sweep(b);
    for (size_t i = 0; i < b->served_count; i++)
        evidence_unref(b->served[i]);
    b->served_count = 0;
}
