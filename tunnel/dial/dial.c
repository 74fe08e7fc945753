#include "tunnel/dial/dial_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_asked; /* set by a signal handler, read by the loop */

uint64_t dial_now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_BOOTTIME, &t); /* goes on while the guest is paused */
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t dial_trusted_now(const struct dial *d)
{
    return d->rules_now ? d->rules_now + (dial_now_ms() - d->rules_ms) / 1000 : 0;
}

uint32_t dial_random(void)
{
    uint32_t v = 0;
    (void)RAND_bytes((unsigned char *)&v, sizeof v);
    return v;
}

void dial_say(const char *event, const char *peer, const char *code)
{
    (void)fprintf(stderr, "{\"program\":\"airlock-tunnel\",\"event\":\"%s\",\"peer\":\"%s\",\"code\":\"%s\"}\n", event,
                  peer, code);
}

/* --- names ---------------------------------------------------------------------------------------- */

static void on_resolved(void *ctx, const struct tunnel_resolved *answer)
{
    struct target *t = ctx;
    struct dial *d = t->dial;
    t->asking = false;
    uint32_t ttl = answer->good ? answer->ttl_s : DIAL_TTL_MIN_S;
    ttl = ttl < DIAL_TTL_MIN_S ? DIAL_TTL_MIN_S : ttl > DIAL_TTL_MAX_S ? DIAL_TTL_MAX_S : ttl;
    t->resolve_ms = dial_now_ms() + ttl * UINT64_C(1000);
    if (!answer->good) { /* what was known stays: a name server that is away ends nothing */
        dial_say("no address", t->host, "dns");
        return;
    }
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target == t)
            d->peer[i].listed = false;
    for (size_t i = 0; i < answer->count; i++) {
        struct peer *p = peer_find(d, t, &answer->address[i]);
        if (p)
            p->listed = true;
        else
            peer_add(d, t, &answer->address[i]);
    }
}

static bool add_target(struct dial *d, const char *text, bool keyd, uint32_t index, char why[256])
{
    struct target *t = &d->target[d->target_count];
    union tunnel_address a;
    *t = (struct target){.dial = d, .keyd = keyd, .index = index};
    t->ask = writer_with_max(TUNNEL_ASK_MAX);
    if (!tunnel_address_split(text, t->host, &t->port)) {
        (void)snprintf(why, 256, "%s address \"%.100s\" is not HOST:PORT or [ADDR]:PORT; correct it",
                       keyd ? "keyd" : "proxy", text);
        return false;
    }
    d->target_count++;
    t->literal = tunnel_resolve_literal(t->host, t->port, &a);
    if (t->literal)
        peer_add(d, t, &a);
    return true;
}

static void resolve_due(struct dial *d, uint64_t now_ms)
{
    for (size_t i = 0; i < d->target_count; i++) {
        struct target *t = &d->target[i];
        if (t->literal || t->asking || now_ms < t->resolve_ms || d->draining)
            continue;
        t->asking = true;
        tunnel_resolve_ask(d->resolve, t->host, t->port, on_resolved, t);
    }
}

/* --- life ----------------------------------------------------------------------------------------- */

struct dial *dial_open(const struct dial_config *config, char why[256])
{
    struct dial *d = calloc(1, sizeof *d);
    (void)snprintf(why, 256, "out of memory");
    if (!d)
        return NULL;
    d->config = *config;
    d->stats = writer_with_max(TUNNEL_STATS_MAX);
    d->tls = tunnel_tls_open();
    d->resolve = tunnel_resolve_open();
    d->link = tunnel_link_open(config->link_fd, false, dial_now_ms());
    int flags = fcntl(config->attester_fd, F_GETFL);
    bool good =
        d->tls && d->resolve && d->link && flags >= 0 && fcntl(config->attester_fd, F_SETFL, flags | O_NONBLOCK) == 0;
    if (flags < 0 || !d->link)
        (void)snprintf(why, 256,
                       "descriptors %d and %d are not the link and the attester: airlock-engine starts this program",
                       config->link_fd, config->attester_fd);
    for (size_t i = 0; good && i < config->proxy_count; i++)
        good = add_target(d, config->proxy[i], false, (uint32_t)i, why);
    for (size_t i = 0; good && i < config->keyd_count; i++)
        good = add_target(d, config->keyd[i], true, (uint32_t)i, why);
    if (!good) {
        dial_close(d);
        return NULL;
    }
    return d;
}

void dial_close(struct dial *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
        if (!d->peer[i].target)
            continue;
        peer_close(&d->peer[i], "closed");
        writer_release(&d->peer[i].challenge);
    }
    relay_close_all(d);
    tunnel_resolve_close(d->resolve);
    for (size_t i = 0; i < d->target_count; i++)
        writer_release(&d->target[i].ask);
    writer_release(&d->stats);
    tunnel_link_close(d->link);
    tunnel_tls_close(d->tls);
    attester_inbox_release(&d->inbox);
    free(d);
}

void dial_stop(struct dial *d)
{
    (void)d;
    stop_asked = 1;
}

static void drain(struct dial *d, uint64_t now_ms)
{
    if (d->draining)
        return;
    dial_say("draining", "", "going_away");
    d->draining = true;
    d->drain_ms = now_ms + DIAL_DRAIN_MS;
    tunnel_link_drain(d->link);
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
        struct peer *p = &d->peer[i];
        if (!p->target || p->state == PEER_IDLE)
            continue;
        if (p->state == PEER_UP && !p->target->keyd && tunnel_channel_is_open(p->channel))
            tunnel_channel_drain(p->channel);
        else if (!p->target->keyd)
            peer_close(p, "going_away");
    }
}

static bool is_drained(const struct dial *d)
{
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target && !d->peer[i].target->keyd && d->peer[i].state != PEER_IDLE)
            return false;
    return true;
}

/* --- the engine's words --------------------------------------------------------------------------- */

static void take_rules(struct dial *d, uint64_t now_ms, const struct tunnel_rules *rules)
{
    uint8_t digest[64];
    if (rules->now == 0 || EVP_Digest(rules->policy.data, rules->policy.len, digest, NULL, EVP_sha512(), NULL) != 1)
        return;
    if (!d->config.judge.rules(d->config.judge.ctx, rules)) {
        dial_say("rules refused", "engine", "rules");
        return;
    }
    bool changed = d->has_rules && memcmp(digest, d->policy_digest, sizeof digest) != 0;
    memcpy(d->policy_digest, digest, sizeof digest);
    d->has_rules = true;
    d->rules_now = rules->now;
    d->rules_ms = now_ms;
    for (size_t i = 0; changed && i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target)
            peer_recheck(&d->peer[i], now_ms);
}

static void take_ask(struct dial *d, uint32_t keyd, struct span ask)
{
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
        struct peer *p = &d->peer[i];
        if (p->target && p->target->keyd && p->target->index == keyd && p->state == PEER_UP &&
            tunnel_channel_ask(p->channel, ask))
            return;
    }
    for (size_t i = 0; i < d->target_count; i++) { /* not there yet: the newest question waits */
        struct target *t = &d->target[i];
        if (t->keyd && t->index == keyd) {
            writer_reset(&t->ask);
            writer_bytes(&t->ask, ask);
        }
    }
}

static void take_stats(struct dial *d, struct span stats)
{
    writer_reset(&d->stats);
    writer_bytes(&d->stats, stats);
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target && !d->peer[i].target->keyd && d->peer[i].state == PEER_UP)
            (void)tunnel_channel_stats(d->peer[i].channel, stats); /* the next ones come in a second */
}

static void link_events(struct dial *d, uint64_t now_ms)
{
    struct tunnel_link_event e;
    while (tunnel_link_event(d->link, &e)) {
        switch (e.kind) {
        case TUNNEL_LINK_STREAM:
            relay_from_link(d, &e.stream);
            break;
        case TUNNEL_LINK_RULES:
            take_rules(d, now_ms, &e.rules);
            break;
        case TUNNEL_LINK_ASK:
            take_ask(d, e.keyd, e.body);
            break;
        case TUNNEL_LINK_STATS:
            take_stats(d, e.body);
            break;
        case TUNNEL_LINK_DRAIN:
            drain(d, now_ms);
            break;
        case TUNNEL_LINK_CLOSED:
            dial_say("engine gone", "engine", tunnel_err_name(e.why));
            d->over = true;
            d->broken = e.why != TUNNEL_E_CLOSED;
            break;
        case TUNNEL_LINK_PEER:
        case TUNNEL_LINK_GRANT:
        case TUNNEL_LINK_NONE:
            break;
        }
    }
}

static void attester_answers(struct dial *d)
{
    uint32_t id;
    enum attester_err err;
    struct span envelope;
    int got;
    while ((got = attester_receive(d->config.attester_fd, &d->inbox, &id, &err, &envelope)) == 1) {
        if (relay_leaf(d, id, err, envelope))
            continue;
        for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
            struct peer *p = &d->peer[i];
            if (!p->target || p->state != PEER_UP || p->leaf_id != id)
                continue;
            p->leaf_id = 0;
            if (err || !tunnel_channel_answer(p->channel, envelope))
                tunnel_channel_refuse(p->channel, err ? attester_err_name(err) : "envelope_size");
        }
    }
    if (got < 0) {
        dial_say("attester gone", "attester", "closed");
        d->over = d->broken = true;
    }
}

/* --- the loop ------------------------------------------------------------------------------------- */

struct round {
    struct pollfd fds[2 + TUNNEL_RESOLVE_FDS + DIAL_PEERS_MAX];
    size_t resolve_count, count;
    int wait_ms;
};

static int until(uint64_t deadline_ms, uint64_t now_ms, int most_ms)
{
    if (deadline_ms <= now_ms)
        return 0;
    return deadline_ms - now_ms < (uint64_t)most_ms ? (int)(deadline_ms - now_ms) : most_ms;
}

static void prepare(struct dial *d, struct round *r, uint64_t now_ms)
{
    r->wait_ms = until(tunnel_link_deadline(d->link), now_ms, 1000);
    r->fds[0] = (struct pollfd){tunnel_link_fd(d->link), tunnel_link_wants(d->link), 0};
    r->fds[1] = (struct pollfd){d->config.attester_fd, POLLIN, 0};
    r->resolve_count = tunnel_resolve_fds(d->resolve, r->fds + 2, &r->wait_ms);
    r->count = 2 + r->resolve_count;
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
        struct peer *p = &d->peer[i];
        p->poll = NULL;
        if (!p->target)
            continue;
        r->wait_ms = until(peer_deadline(p), now_ms, p->leaf_waiting ? 20 : r->wait_ms);
        if (p->state == PEER_IDLE)
            continue;
        bool writes = p->state == PEER_CONNECTING || tunnel_channel_output(p->channel, now_ms).len > 0;
        p->poll = &r->fds[r->count++];
        *p->poll = (struct pollfd){p->fd, (short)(POLLIN | (writes ? POLLOUT : 0)), 0};
    }
    for (size_t i = 0; i < d->target_count; i++)
        if (!d->target[i].literal && !d->target[i].asking)
            r->wait_ms = until(d->target[i].resolve_ms, now_ms, r->wait_ms);
}

/* What came in may cause events anywhere: peers feed the link and the link feeds peers, until both are quiet. */
static void settle(struct dial *d, uint64_t now_ms)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
            if (d->peer[i].target)
                peer_events(&d->peer[i], now_ms);
        tunnel_link_pump(d->link, now_ms);
        link_events(d, now_ms);
        for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
            if (d->peer[i].target)
                peer_flush(&d->peer[i], now_ms);
    }
}

static void step(struct dial *d, struct round *r)
{
    uint64_t now_ms = dial_now_ms();
    tunnel_resolve_step(d->resolve, r->fds + 2, r->resolve_count);
    resolve_due(d, now_ms);
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++) {
        struct peer *p = &d->peer[i];
        if (p->target && p->poll)
            peer_socket(p, now_ms, p->poll->revents);
    }
    tunnel_link_pump(d->link, now_ms);
    link_events(d, now_ms);
    attester_answers(d);
    relay_step(d, now_ms);
    for (size_t i = 0; i < DIAL_PEERS_MAX; i++)
        if (d->peer[i].target)
            peer_step(&d->peer[i], now_ms);
    settle(d, now_ms);
}

int dial_run(struct dial *d)
{
    static struct round r;
    while (!d->over) {
        uint64_t now_ms = dial_now_ms();
        prepare(d, &r, now_ms);
        if (poll(r.fds, r.count, r.wait_ms) < 0 && errno != EINTR)
            return 1;
        if (stop_asked)
            drain(d, now_ms);
        step(d, &r);
        if (d->draining && (is_drained(d) || now_ms >= d->drain_ms))
            d->over = true;
    }
    return d->broken ? 1 : 0;
}
