/* backend.c - the backend's thread, its loop and what other threads may call. */
#include "proxy/backend_parts.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 500 };

uint64_t backend_now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_BOOTTIME, &t); /* goes on while the guest is paused */
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void backend_say(const char *event, const char *peer, const char *code)
{
    (void)fprintf(stderr, "{\"program\":\"airlock-proxy\",\"event\":\"%s\",\"peer\":\"%s\",\"code\":\"%s\"}\n", event,
                  peer, code);
}

uint64_t backend_trusted_now(const struct backend *b)
{
    return b->trust.no_keyd ? (uint64_t)time(NULL) : policy_node_now(b->node, backend_now_ms());
}

bool backend_is_leased(const struct backend *b)
{
    return b->trust.no_keyd || policy_node_may_serve(b->node, backend_now_ms());
}

/* --- posts ---------------------------------------------------------------------------------------- */

static void wake(struct backend *b)
{
    uint64_t one = 1;
    (void)!write(b->wake_fd, &one, sizeof one); /* full: it is awake already */
}

/* False when the backend is stopping: then nothing was taken. */
static bool post(struct backend *b, struct post value)
{
    struct post *p = malloc(sizeof *p);
    if (!p)
        return false;
    *p = value;
    p->next = NULL;
    pthread_mutex_lock(&b->lock);
    bool closed = b->closed;
    if (closed) {
        free(p);
    } else {
        if (b->post_last)
            b->post_last->next = p;
        else
            b->post_first = p;
        b->post_last = p;
    }
    pthread_mutex_unlock(&b->lock);
    if (!closed)
        wake(b);
    return !closed;
}

void backend_attest(struct backend *b, struct span challenge, struct span spki, const uint8_t exporter[32],
                    backend_attested *done, void *ctx)
{
    struct attestation *a = calloc(1, sizeof *a);
    if (a) {
        a->done = done;
        a->ctx = ctx;
        a->proof.challenge = writer_with_max(VERIFIER_CHALLENGE_MAX);
        a->spki = writer_with_max(VERIFIER_SPKI_MAX);
        proof_want(&a->proof, challenge, exporter, backend_now_ms());
        writer_bytes(&a->spki, spki);
        if (post(b, (struct post){.kind = POST_ATTEST, .attestation = a}))
            return;
        proof_drop(&a->proof);
        writer_release(&a->proof.challenge);
        writer_release(&a->spki);
        free(a);
    }
    done(ctx, BACKEND_BUSY, span_of(NULL, 0), NULL, 0);
}

static struct request *request_new(struct backend *b, enum request_kind kind, struct span bytes,
                                   const uint8_t (*allowed)[32], size_t allowed_count, void *ctx)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->id = atomic_fetch_add(&b->next_request, 1) + 1;
    r->kind = kind;
    r->ctx = ctx;
    r->bytes = writer_with_max(BACKEND_REQUEST_MAX);
    r->answer = writer_with_max(TUNNEL_ENVELOPE_MAX);
    writer_bytes(&r->bytes, bytes);
    r->allowed_count = allowed_count < BACKEND_SHOWN_MAX ? allowed_count : BACKEND_SHOWN_MAX;
    if (r->allowed_count)
        memcpy(r->allowed, allowed, 32 * r->allowed_count);
    return r;
}

void backend_attest_sealed(struct backend *b, const uint8_t engine[32], struct span challenge, backend_attested *done,
                           void *ctx)
{
    struct request *r = request_new(b, REQUEST_QUOTE, challenge, (const uint8_t(*)[32])engine, 1, ctx);
    if (r)
        r->done = done;
    if (r && post(b, (struct post){.kind = POST_SUBMIT, .request = r}))
        return;
    if (r)
        request_free(r);
    done(ctx, BACKEND_BUSY, span_of(NULL, 0), NULL, 0);
}

static uint64_t submit(struct backend *b, struct request *r, const struct backend_events *events, void *ctx)
{
    uint64_t id = r ? r->id : 0;
    if (r)
        r->events = *events;
    if (r && post(b, (struct post){.kind = POST_SUBMIT, .request = r}))
        return id;
    if (r)
        request_free(r);
    events->end(ctx, BACKEND_END_STOPPED, tunnel_err_name(TUNNEL_E_ENGINE_UNAVAILABLE));
    return id ? id : UINT64_MAX;
}

uint64_t backend_submit(struct backend *b, struct span request, const uint8_t (*allowed)[32], size_t allowed_count,
                        const struct backend_events *events, void *ctx)
{
    return submit(b, request_new(b, REQUEST_PLAIN, request, allowed, allowed_count, ctx), events, ctx);
}

uint64_t backend_submit_sealed(struct backend *b, struct span body, const uint8_t engine[32],
                               const struct backend_events *events, void *ctx)
{
    return submit(b, request_new(b, REQUEST_SEALED, body, (const uint8_t(*)[32])engine, 1, ctx), events, ctx);
}

void backend_consumed(struct backend *b, uint64_t id, size_t bytes)
{
    (void)!post(b, (struct post){.kind = POST_CONSUMED, .id = id, .bytes = bytes});
}

void backend_cancel(struct backend *b, uint64_t id)
{
    (void)!post(b, (struct post){.kind = POST_CANCEL, .id = id});
}

void backend_drain(struct backend *b)
{
    (void)!post(b, (struct post){.kind = POST_DRAIN});
}

static void take_post(struct backend *b, struct post *p)
{
    switch (p->kind) {
    case POST_ATTEST:
        attestation_take(b, p->attestation);
        break;
    case POST_SUBMIT:
        request_take(b, p->request);
        break;
    case POST_CONSUMED:
        request_consumed(b, p->id, p->bytes);
        break;
    case POST_CANCEL:
        request_cancel(b, p->id);
        break;
    case POST_DRAIN:
        b->draining = true;
        engines_drain(b);
        break;
    case POST_STOP:
        b->stopping = true;
        break;
    }
}

static void take_posts(struct backend *b)
{
    uint64_t count;
    (void)!read(b->wake_fd, &count, sizeof count);
    pthread_mutex_lock(&b->lock);
    struct post *p = b->post_first;
    b->post_first = b->post_last = NULL;
    pthread_mutex_unlock(&b->lock);
    for (struct post *next; p; p = next) {
        next = p->next;
        take_post(b, p);
        free(p);
    }
}

/* --- what others see ------------------------------------------------------------------------------ */

void backend_status(struct backend *b, struct backend_status *out)
{
    pthread_mutex_lock(&b->lock);
    *out = b->status;
    pthread_mutex_unlock(&b->lock);
}

bool backend_policy(struct backend *b, struct policy *out)
{
    pthread_mutex_lock(&b->lock);
    bool has = b->policy != NULL;
    if (has)
        *out = *b->policy;
    pthread_mutex_unlock(&b->lock);
    return has;
}

void backend_documents(struct backend *b, struct writer *w)
{
    pthread_mutex_lock(&b->lock);
    writer_bytes(w, writer_span(&b->papers));
    pthread_mutex_unlock(&b->lock);
}

void backend_metrics(struct backend *b, struct writer *w)
{
    pthread_mutex_lock(&b->lock);
    writer_bytes(w, writer_span(&b->metrics));
    pthread_mutex_unlock(&b->lock);
}

bool backend_has_engine(struct backend *b, const uint8_t (*allowed)[32], size_t allowed_count)
{
    bool has = false;
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->identity_count; i++)
        for (size_t k = 0; k < allowed_count; k++)
            has = has || memcmp(b->identities[i], allowed[k], 32) == 0;
    pthread_mutex_unlock(&b->lock);
    return has;
}

uint16_t backend_port(const struct backend *b, size_t i)
{
    return i < b->config.listen_count ? b->port[i] : 0;
}

static void metric(struct writer *w, const char *name, const char *kind, const char *help, uint64_t value)
{
    writer_printf(w, "# HELP airlock:%s %s\n# TYPE airlock:%s %s\nairlock:%s %llu\n", name, help, name, kind, name,
                  (unsigned long long)value);
}

static void print_counts(const struct backend *b, struct writer *w)
{
    const struct backend_counts *c = &b->count;
    metric(w, "tunnels", "gauge", "Tunnel connections, attested or not yet", b->connection_count);
    metric(w, "engines", "gauge", "Engines admitted", b->status.engines);
    metric(w, "backend_requests_running", "gauge", "Requests on engines", b->status.running);
    metric(w, "lease_end_seconds", "gauge", "End of the lease, seconds since 1970", b->status.lease_end);
    metric(w, "tunnels_total", "counter", "Tunnels accepted", c->tunnels);
    metric(w, "engines_admitted_total", "counter", "Engines that proved themselves", c->admitted);
    metric(w, "engines_refused_total", "counter", "Engines whose evidence was refused", c->refused);
    metric(w, "attestations_total", "counter", "Challenges of clients answered", c->attestations);
    metric(w, "attestations_failed_total", "counter", "Challenges of clients not answered", c->attestations_failed);
    metric(w, "backend_requests_total", "counter", "Requests for engines", c->requests);
    metric(w, "backend_unavailable_total", "counter", "Requests that lost or never had an engine", c->unavailable);
    metric(w, "backend_cancelled_total", "counter", "Requests cancelled", c->cancelled);
    metric(w, "backend_retried_total", "counter", "Requests given to another engine before any answer", c->retried);
    metric(w, "backend_request_bytes_total", "counter", "Bytes to engines", c->bytes_out);
    metric(w, "backend_event_bytes_total", "counter", "Bytes from engines", c->bytes_in);
    metric(w, "grants_total", "counter", "Leases granted by keyd", c->grants);
    metric(w, "grants_failed_total", "counter", "Questions to keyd that failed", c->grants_failed);
}

static const char *model_name(const struct backend *b, const struct engine *e)
{
    const struct verifier_state *s = &e->evidence->claims->node.state;
    const struct policy_model *m = b->policy && s->has_model ? policy_find_root(b->policy, s->model.root) : NULL;
    return m ? m->name : "unknown";
}

/* The admitted engines' own numbers; they also tell the greatest context. */
static void print_engines(struct backend *b, struct writer *w)
{
    struct tunnel_stats *stats = calloc(BACKEND_ENGINES_MAX, sizeof *stats);
    struct tunnel_stats_of engines[BACKEND_ENGINES_MAX];
    char label[BACKEND_ENGINES_MAX][16];
    unsigned number = 0;
    size_t n = 0;
    b->context_max = 0;
    for (struct engine *e = b->engines; e && stats && n < BACKEND_ENGINES_MAX; e = e->next, number++) {
        if (!e->admitted || !e->stats.len || tunnel_stats_parse(&stats[n], writer_span(&e->stats)) != READER_OK)
            continue;
        (void)snprintf(label[n], sizeof label[n], "%u", number);
        engines[n] = (struct tunnel_stats_of){&stats[n], model_name(b, e), label[n],
                                              e->evidence->claims->node.statement.kernels};
        if (stats[n].context_max > b->context_max)
            b->context_max = stats[n].context_max;
        n++;
    }
    tunnel_stats_text(w, engines, n);
    free(stats);
}

static void print_metrics(struct backend *b)
{
    struct writer w = writer_with_max(b->metrics.max);
    print_counts(b, &w);
    print_engines(b, &w);
    pthread_mutex_lock(&b->lock);
    struct writer old = b->metrics;
    b->metrics = w;
    pthread_mutex_unlock(&b->lock);
    writer_release(&old);
}

/* Status for other threads; tells them once when something changed. */
static void publish(struct backend *b, uint64_t now_ms)
{
    bool changed = b->changed || backend_is_leased(b) != b->was_leased;
    if (now_ms >= b->metrics_ms || changed) { /* first: it finds context_max */
        b->metrics_ms = now_ms + BACKEND_METRICS_MS;
        print_metrics(b);
    }
    struct backend_status s = {.leased = backend_is_leased(b),
                               .now = backend_trusted_now(b),
                               .lease_end = b->node ? policy_node_lease_end(b->node) : 0,
                               .context_max = b->context_max,
                               .policy_version = b->policy ? b->policy->version : 0,
                               .tenants_version = b->node ? policy_node_tenants_version(b->node) : 0};
    for (struct engine *e = b->engines; e; e = e->next)
        s.running += e->running;
    pthread_mutex_lock(&b->lock);
    b->identity_count = 0;
    for (struct engine *e = b->engines; e; e = e->next) {
        if (e->admitted && !e->draining && s.engines < BACKEND_ENGINES_MAX) {
            memcpy(b->identities[b->identity_count++], e->evidence->identity, 32);
            s.engines++;
        }
    }
    s.generation = b->status.generation + (changed ? 1 : 0);
    b->status = s;
    pthread_mutex_unlock(&b->lock);
    b->was_leased = s.leased;
    b->changed = false;
    if (changed && b->config.changed)
        b->config.changed(b->config.ctx);
}

/* --- the loop ------------------------------------------------------------------------------------- */

struct round {
    struct pollfd fds[2 + BACKEND_ADDRESSES_MAX + 1 + TUNNEL_RESOLVE_FDS + BACKEND_CONNECTIONS_MAX];
    struct pollfd *resolve;
    size_t count, resolve_count;
    int wait_ms;
};

static int until(uint64_t deadline_ms, uint64_t now_ms, int most_ms)
{
    if (deadline_ms <= now_ms)
        return 0;
    return deadline_ms - now_ms < (uint64_t)most_ms ? (int)(deadline_ms - now_ms) : most_ms;
}

static struct pollfd *watch(struct round *r, int fd, bool writes)
{
    r->fds[r->count] = (struct pollfd){fd, (short)(POLLIN | (writes ? POLLOUT : 0)), 0};
    return &r->fds[r->count++];
}

static void prepare(struct backend *b, struct round *r, uint64_t now_ms)
{
    r->count = 0;
    r->wait_ms = WAIT_MS;
    (void)watch(r, b->wake_fd, false);
    (void)watch(r, b->trust.fd, false);
    for (size_t i = 0; i < b->config.listen_count; i++)
        (void)watch(r, b->draining ? -1 : b->listener[i], false);
    b->keyd_poll = NULL;
    if (b->keyd_fd >= 0) {
        bool writes = b->keyd_connecting || (b->keyd_channel && tunnel_channel_output(b->keyd_channel, now_ms).len > 0);
        b->keyd_poll = watch(r, b->keyd_fd, writes);
    }
    r->wait_ms = until(keyd_deadline(b), now_ms, r->wait_ms);
    for (struct engine *e = b->engines; e; e = e->next) {
        e->poll = watch(r, e->fd, tunnel_channel_output(e->channel, now_ms).len > 0);
        r->wait_ms = until(tunnel_channel_deadline(e->channel), now_ms, r->wait_ms);
    }
    r->resolve = r->fds + r->count;
    r->resolve_count = b->resolve ? tunnel_resolve_fds(b->resolve, r->resolve, &r->wait_ms) : 0;
    r->count += r->resolve_count;
}

static void step(struct backend *b, struct round *r)
{
    uint64_t now_ms = backend_now_ms();
    if (b->resolve)
        tunnel_resolve_step(b->resolve, r->resolve, r->resolve_count);
    for (struct engine *e = b->engines; e; e = e->next) /* before accept: newcomers have no poll entry */
        if (e->poll && e->poll->revents)
            engine_read(e, now_ms, e->poll->revents);
    for (size_t i = 0; i < b->config.listen_count; i++)
        if (r->fds[2 + i].revents)
            engines_accept(b, i, now_ms);
    if (b->keyd_poll && b->keyd_poll->revents)
        keyd_socket(b, now_ms, b->keyd_poll->revents);
    take_posts(b);
    proofs_receive(b, now_ms);
    keyd_step(b, now_ms);
    engines_step(b, now_ms);
    keyd_events(b, now_ms);
    for (struct engine *e = b->engines; e; e = e->next)
        engine_events(e, now_ms);
    engines_sweep(b);
    attestations_step(b, now_ms);
    proofs_step(b, now_ms);
    keyd_flush(b, now_ms);
    for (struct engine *e = b->engines; e; e = e->next)
        engine_flush(e, now_ms);
    publish(b, now_ms);
}

static void *run(void *arg)
{
    struct backend *b = arg;
    struct round *r = calloc(1, sizeof *r);
    while (r && !b->stopping) {
        prepare(b, r, backend_now_ms());
        if (poll(r->fds, r->count, r->wait_ms) < 0 && errno != EINTR)
            break;
        step(b, r);
    }
    free(r);
    pthread_mutex_lock(&b->lock);
    b->closed = true;
    pthread_mutex_unlock(&b->lock);
    take_posts(b); /* what came before `closed`: requests end with the others below */
    requests_close(b);
    attestations_close(b);
    return NULL;
}

/* --- life ----------------------------------------------------------------------------------------- */

static bool copy_config(struct backend *b, const struct backend_config *config)
{
    b->config = *config;
    b->owner = b->documents = b->fleet = b->statement = writer_with_max(VERIFIER_PART_MAX);
    writer_bytes(&b->owner, config->owner);
    writer_bytes(&b->documents, config->documents);
    writer_bytes(&b->fleet, config->fleet);
    writer_bytes(&b->statement, config->statement);
    b->papers = writer_with_max(VERIFIER_PART_MAX);
    b->metrics = writer_with_max(4 << 20);
    writer_bytes(&b->papers, config->documents);
    return writer_ok(&b->owner) && writer_ok(&b->documents) && writer_ok(&b->fleet) && writer_ok(&b->statement);
}

static bool open_trust(struct backend *b, char *why, size_t why_len)
{
    if (b->config.trust) {
        b->trust = *b->config.trust;
    } else {
        b->real = (struct real_trust){.fd = b->config.attester_fd, .peers = policy_peers_open()};
        b->trust = real_trust_of(&b->real);
    }
    if (b->trust.no_keyd)
        return true;
    if (!b->real.peers) {
        (void)snprintf(why, why_len, "out of memory");
        return false;
    }
    enum verifier_err err =
        policy_peers_update(b->real.peers, writer_span(&b->documents), span_of(NULL, 0), b->owner.data);
    if (b->owner.len != VERIFIER_DIGEST_LEN || err)
        (void)snprintf(why, why_len, "the policy file is not the owner's: %s. %s", verifier_err_name(err),
                       verifier_err_remedy(err));
    return b->owner.len == VERIFIER_DIGEST_LEN && !err;
}

void backend_close(struct backend *b)
{
    if (!b)
        return;
    keyd_close(b);
    engines_close(b);
    for (size_t i = 0; i < b->config.listen_count; i++)
        if (b->listener[i] >= 0)
            (void)close(b->listener[i]);
    if (b->wake_fd >= 0)
        (void)close(b->wake_fd);
    policy_peers_close(b->real.peers);
    attester_inbox_release(&b->real.inbox);
    tunnel_tls_close(b->tls);
    free(b->policy);
    writer_release(&b->owner);
    writer_release(&b->documents);
    writer_release(&b->fleet);
    writer_release(&b->statement);
    writer_release(&b->papers);
    writer_release(&b->metrics);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

struct backend *backend_start(const struct backend_config *config, char *why, size_t why_len)
{
    struct backend *b = calloc(1, sizeof *b);
    (void)snprintf(why, why_len, "out of memory");
    if (!b)
        return NULL;
    pthread_mutex_init(&b->lock, NULL);
    for (size_t i = 0; i < BACKEND_ADDRESSES_MAX; i++)
        b->listener[i] = -1;
    b->keyd_fd = -1;
    b->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    b->tls = tunnel_tls_open();
    if (!copy_config(b, config) || b->wake_fd < 0 || !b->tls || !open_trust(b, why, why_len) ||
        !engines_listen(b, why, why_len) || !keyd_open(b, why, why_len)) {
        backend_close(b);
        return NULL;
    }
    if (pthread_create(&b->thread, NULL, run, b) != 0) {
        (void)snprintf(why, why_len, "no thread: %s", strerror(errno));
        backend_close(b);
        return NULL;
    }
    return b;
}

void backend_stop(struct backend *b)
{
    if (!b)
        return;
    (void)!post(b, (struct post){.kind = POST_STOP});
    pthread_join(b->thread, NULL);
}
