#include "policy/keyd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tunnel/channel.h"
#include "tunnel/source.h"
#include "verifier/cache.h"
#include "verifier/challenge.h"
#include "verifier/check.h"

enum { BUDGETS = 256, ADDRESS_BURST = 16, ADDRESS_EVERY_MS = 1000 };

struct listener {
    int fd;
    enum verifier_role role;
    uint16_t port;
};

/* One node's connection. */
struct peer {
    int fd;
    enum verifier_role role;
    struct tunnel_channel *channel;
    struct writer challenge;        /* as sent last */
    struct verifier_claims *claims; /* of the last good evidence */
    bool dead;
};

struct keyd_server {
    struct tunnel_tls *tls;
    size_t listener_count, peer_count;
    struct listener listener[2 * KEYD_LISTEN_MAX];
    struct peer peer[KEYD_CONNECTIONS_MAX];
    struct tunnel_budget budget[BUDGETS]; /* by a hash of the address */
    struct keyd_store *store;
    struct keyd_core *core;
    struct verifier_cache *cache; /* of the evidence checked so far */
};

static uint64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t now_s(void)
{
    return (uint64_t)time(NULL);
}

static void print_quoted(struct writer *w, const char *key, const char *text)
{
    if (!text || !text[0])
        return;
    writer_printf(w, ",\"%s\":\"", key);
    for (; *text; text++)
        writer_u8(w, *text == '"' || *text == '\\' || (unsigned char)*text < 0x20 ? '\'' : (uint8_t)*text);
    writer_u8(w, '"');
}

void keyd_say(const char *event, const char *code, const char *text)
{
    struct writer w = writer_with_max(4096);
    writer_printf(&w, "{\"at\":%llu,\"event\":\"%s\"", (unsigned long long)now_s(), event);
    print_quoted(&w, "code", code);
    print_quoted(&w, "text", text);
    writer_str(&w, "}\n");
    if (writer_ok(&w))
        fwrite(w.data, 1, w.len, stderr);
    writer_release(&w);
}

/* --- listening ---------------------------------------------------------------------------------------- */

/* Split "ADDR:PORT" or "[ADDR]:PORT"; both are numeric. */
static bool split_address(const char *text, char host[KEYD_ADDRESS_MAX], const char **port)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (!colon || len == 0 || len >= KEYD_ADDRESS_MAX)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    *port = colon + 1;
    return true;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return 0;
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

static int listen_on(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[KEYD_ADDRESS_MAX];
    const char *port;
    int one = 1, fd = -1;
    errno = EINVAL;
    if (!split_address(text, host, &port) || getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
                    bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 64) != 0)) {
        int saved = errno;
        close(fd);
        errno = saved;
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static bool open_listeners(struct keyd_server *s, enum verifier_role role, const char (*address)[KEYD_ADDRESS_MAX],
                           size_t count, char why[256])
{
    for (size_t i = 0; i < count; i++) {
        int fd = listen_on(address[i]);
        if (fd < 0) {
            snprintf(why, 256, "cannot listen on %s: %s; write ADDRESS:PORT with a numeric address", address[i],
                     strerror(errno));
            return false;
        }
        s->listener[s->listener_count++] = (struct listener){fd, role, port_of(fd)};
    }
    return true;
}

struct keyd_server *keyd_server_open(const struct keyd_config *config, char why[256])
{
    struct keyd_server *s = calloc(1, sizeof *s);
    snprintf(why, 256, "out of memory or randomness");
    if (!s)
        return NULL;
    s->tls = tunnel_tls_open();
    s->cache = verifier_cache_new(0);
    if (s->tls && s->cache && open_listeners(s, VERIFIER_ENGINE, config->engines, config->engine_count, why) &&
        open_listeners(s, VERIFIER_PROXY, config->proxies, config->proxy_count, why))
        return s;
    keyd_server_close(s);
    return NULL;
}

uint16_t keyd_server_port(const struct keyd_server *s, enum verifier_role role, size_t i)
{
    for (size_t k = 0; k < s->listener_count; k++)
        if (s->listener[k].role == role && i-- == 0)
            return s->listener[k].port;
    return 0;
}

/* --- one peer ----------------------------------------------------------------------------------------- */

static void peer_close(struct peer *p)
{
    tunnel_channel_close(p->channel);
    verifier_claims_free(p->claims);
    writer_release(&p->challenge);
    close(p->fd);
    *p = (struct peer){.fd = -1};
}

/* Store what the core logged; without that nothing is said to anybody. */
static bool store_lines(struct keyd_server *s, struct writer *lines)
{
    bool good = writer_ok(lines) && keyd_store_append(s->store, writer_span(lines), keyd_core_log(s->core));
    if (!good)
        keyd_say("failed", "disk", "the log cannot be written: grants stop until it can");
    writer_release(lines);
    return good;
}

static void send_challenge(struct peer *p)
{
    struct verifier_challenge c = {.verifier = VERIFIER_KEYD, .attester = p->role};
    struct writer w = writer_with_max(VERIFIER_CHALLENGE_MAX);
    if (RAND_bytes(c.nonce, sizeof c.nonce) == 1)
        verifier_challenge_encode(&w, &c);
    writer_release(&p->challenge);
    p->challenge = w;
    if (w.len > 0 && !tunnel_channel_challenge(p->channel, mono_ms(), writer_span(&w)))
        keyd_say("failed", "challenge", "");
}

static void refuse(struct peer *p, const char *code, const struct verifier_refusal *why)
{
    char text[1200] = "";
    if (why)
        snprintf(text, sizeof text, "stage %d; observed: %s; required: %s", why->stage, why->note.observed,
                 why->note.required);
    keyd_say("refused", code, text);
    tunnel_channel_verdict(p->channel, mono_ms(), code, 0, 0);
}

static void on_evidence(struct keyd_server *s, struct peer *p, const struct tunnel_channel_event *ev)
{
    struct verifier_refusal why = {0};
    struct verifier_input in = {.envelope = ev->body,
                                .challenge = ev->challenge,
                                .spki = ev->spki,
                                .exporter = ev->exporter,
                                .session = ev->session,
                                .verifier = VERIFIER_KEYD,
                                .attester = p->role,
                                .now = now_s(),
                                .previous = p->claims,
                                .cache = s->cache};
    struct verifier_claims *claims = verifier_check(&in, &why);
    if (!claims) {
        refuse(p, verifier_err_name(why.code), &why);
        return;
    }
    verifier_claims_free(p->claims);
    p->claims = claims;
    uint64_t valid_until = 0, now = now_s();
    bool waited = keyd_core_is_waiting(s->core);
    struct writer lines = writer_with_max(KEYD_LINES_MAX);
    const char *code = keyd_core_judge(s->core, claims, now, &valid_until, &lines);
    if (lines.len > 0 && (!store_lines(s, &lines) ||
                          !keyd_store_keep(s->store, keyd_core_documents(s->core), keyd_core_revocations(s->core))))
        code = "keyd_disk";
    if (!waited && keyd_core_is_waiting(s->core))
        keyd_say("waiting", "stale",
                 "a node showed papers or a lease that we do not know: check that this is the "
                 "newest state, then run: airlock policy confirm STATE_FOLDER");
    if (strcmp(code, "ok") != 0) {
        refuse(p, code, NULL);
        return;
    }
    if (valid_until > now + KEYD_VERDICT_S)
        valid_until = now + KEYD_VERDICT_S;
    tunnel_channel_verdict(p->channel, mono_ms(), "ok", valid_until, valid_until - now);
}

static void on_ask(struct keyd_server *s, struct peer *p, struct span ask)
{
    struct writer grant = writer_with_max(VERIFIER_GRANT_MAX), lines = writer_with_max(KEYD_LINES_MAX);
    const char *code = p->claims ? keyd_core_answer(s->core, p->claims, ask, now_s(), &grant, &lines) : "no_evidence";
    if (strcmp(code, "ok") == 0 && !store_lines(s, &lines))
        code = "keyd_disk";
    if (strcmp(code, "ok") == 0 && !tunnel_channel_grant(p->channel, writer_span(&grant)))
        code = "grant_size";
    if (strcmp(code, "ok") != 0) {
        keyd_say("refused", code, "a question");
        tunnel_channel_refuse(p->channel, code);
    } else {
        keyd_say("granted", "", verifier_role_names[p->role]);
    }
    writer_release(&lines);
    writer_release(&grant);
}

static void handle_events(struct keyd_server *s, struct peer *p)
{
    struct tunnel_channel_event ev;
    while (tunnel_channel_event(p->channel, &ev)) {
        switch (ev.kind) {
        case TUNNEL_EV_SECURE:
        case TUNNEL_EV_RENEW:
            send_challenge(p);
            break;
        case TUNNEL_EV_EVIDENCE:
            on_evidence(s, p, &ev);
            break;
        case TUNNEL_EV_ASK:
            on_ask(s, p, ev.body);
            break;
        case TUNNEL_EV_CLOSED:
            keyd_say("closed", ev.code, verifier_role_names[p->role]);
            p->dead = true;
            break;
        default:
            break;
        }
    }
}

/* Write what there is; a peer that reads nothing is ended by the channel's own deadlines. */
static void flush(struct peer *p)
{
    for (;;) {
        struct span out = tunnel_channel_output(p->channel, mono_ms());
        if (out.len == 0)
            return;
        ssize_t n = send(p->fd, out.data, out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            p->dead = p->dead || (errno != EAGAIN && errno != EWOULDBLOCK);
            return;
        }
        tunnel_channel_sent(p->channel, (size_t)n);
    }
}

static void read_peer(struct keyd_server *s, struct peer *p)
{
    uint8_t bytes[16384];
    ssize_t n = recv(p->fd, bytes, sizeof bytes, 0);
    if (n > 0)
        tunnel_channel_feed(p->channel, mono_ms(), span_of(bytes, (size_t)n));
    else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        tunnel_channel_lost(p->channel);
    handle_events(s, p);
}

/* --- the loop ----------------------------------------------------------------------------------------- */

/* Is one more connection from this address within its budget? The table is small: a crowd shares a slot. */
static bool source_allows(struct keyd_server *s, const struct sockaddr_storage *from)
{
    uint8_t key[TUNNEL_SOURCE_LEN];
    tunnel_source_key((const struct sockaddr *)from, key);
    return tunnel_budget_take(&s->budget[tunnel_source_slot(key, BUDGETS)], mono_ms(), ADDRESS_BURST, ADDRESS_EVERY_MS);
}

static void accept_peers(struct keyd_server *s, const struct listener *l)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof from;
    int fd, one = 1;
    while ((fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct tunnel_channel_config config = {.tls = s->tls, .server = true, .judges = true};
        struct peer *p = &s->peer[s->peer_count];
        bool room = s->peer_count < KEYD_CONNECTIONS_MAX && source_allows(s, &from);
        struct tunnel_channel *channel = room ? tunnel_channel_open(&config, mono_ms()) : NULL;
        if (!channel) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        *p = (struct peer){.fd = fd, .role = l->role, .channel = channel};
        s->peer_count++;
        len = sizeof from;
    }
}

static int wait_ms(const struct keyd_server *s)
{
    uint64_t now = mono_ms(), wait = 1000; /* also how often the operator's mark is looked for */
    for (size_t i = 0; i < s->peer_count; i++) {
        uint64_t at = tunnel_channel_deadline(s->peer[i].channel);
        uint64_t left = at > now ? at - now : 0;
        if (left < wait)
            wait = left;
    }
    return (int)wait;
}

static size_t fill_polls(struct keyd_server *s, struct pollfd *polls)
{
    size_t n = 0;
    for (size_t i = 0; i < s->listener_count; i++)
        polls[n++] = (struct pollfd){.fd = s->listener[i].fd, .events = POLLIN};
    for (size_t i = 0; i < s->peer_count; i++) {
        bool more = tunnel_channel_output(s->peer[i].channel, mono_ms()).len > 0;
        polls[n++] = (struct pollfd){.fd = s->peer[i].fd, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
    }
    return n;
}

static void sweep(struct keyd_server *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->peer_count; i++) {
        struct peer *p = &s->peer[i];
        tunnel_channel_tick(p->channel, mono_ms());
        handle_events(s, p);
        flush(p);
        if (p->dead) {
            peer_close(p);
            continue;
        }
        if (kept != i) {
            s->peer[kept] = *p;
            *p = (struct peer){.fd = -1};
        }
        kept++;
    }
    s->peer_count = kept;
}

static void take_papers(struct keyd_server *s)
{
    struct keyd_papers papers;
    struct writer lines = writer_with_max(KEYD_LINES_MAX);
    char why[256] = "";
    bool good = keyd_store_papers(s->store, &papers, why) &&
                keyd_core_update(s->core, writer_span(&papers.documents), writer_span(&papers.revocations),
                                 papers.tenants_version, now_s(), &lines, why);
    if (lines.len > 0)
        good = store_lines(s, &lines) && good;
    keyd_say(good ? "reloaded" : "failed", good ? "" : "papers", why);
    keyd_papers_release(&papers);
    writer_release(&lines);
}

static void look_for_confirmation(struct keyd_server *s)
{
    struct writer lines = writer_with_max(KEYD_LINES_MAX);
    if (keyd_core_is_waiting(s->core) && keyd_store_confirmed(s->store)) {
        keyd_core_confirm(s->core, now_s(), &lines);
        if (store_lines(s, &lines))
            keyd_say("confirmed", "", "");
    }
    writer_release(&lines);
}

void keyd_server_run(struct keyd_server *s, struct keyd_store *store, struct keyd_core *core,
                     volatile sig_atomic_t *stop, volatile sig_atomic_t *reload)
{
    static struct pollfd polls[2 * KEYD_LISTEN_MAX + KEYD_CONNECTIONS_MAX];
    s->store = store;
    s->core = core;
    while (!*stop) {
        size_t n = fill_polls(s, polls), peers = s->peer_count;
        if (poll(polls, n, wait_ms(s)) < 0 && errno != EINTR)
            keyd_say("failed", "poll", strerror(errno));
        if (*reload) {
            *reload = 0;
            take_papers(s);
        }
        look_for_confirmation(s);
        for (size_t i = 0; i < peers; i++)
            if (polls[s->listener_count + i].revents & (POLLIN | POLLHUP | POLLERR))
                read_peer(s, &s->peer[i]);
        for (size_t i = 0; i < s->listener_count; i++)
            if (polls[i].revents & POLLIN)
                accept_peers(s, &s->listener[i]);
        sweep(s);
    }
}

void keyd_server_close(struct keyd_server *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->peer_count; i++)
        peer_close(&s->peer[i]);
    for (size_t i = 0; i < s->listener_count; i++)
        close(s->listener[i].fd);
    tunnel_tls_close(s->tls);
    verifier_cache_free(s->cache);
    free(s);
}
