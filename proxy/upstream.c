#include "proxy/upstream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "verifier/bundle.h"

enum { SEAL_LIFE_S = 600 }; /* a sealing key is challenged again this often */

struct upstream {
    struct upstream_config config;
    atomic_uint turn;     /* proxies and engines are taken in turn */
    pthread_mutex_t lock; /* of everything below */
    struct session *idle;
    size_t idle_count;
    char *report;
    bool unsaved_told; /* that the versions met cannot be stored */
};

struct upstream *upstream_open(const struct upstream_config *config)
{
    struct upstream *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    u->config = *config;
    pthread_mutex_init(&u->lock, NULL);
    return u;
}

static void session_free(struct session *s)
{
    if (!s)
        return;
    client_close(s->client);
    airlock_claims_free(s->claims);
    airlock_cache_free(s->cache);
    free(s);
}

void upstream_close(struct upstream *u)
{
    if (!u)
        return;
    for (struct session *s = u->idle, *next; s; s = next) {
        next = s->next;
        session_free(s);
    }
    free(u->report);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

char *upstream_report(struct upstream *u)
{
    char *out;

    pthread_mutex_lock(&u->lock);
    out = u->report ? strdup(u->report) : NULL;
    pthread_mutex_unlock(&u->lock);
    return out;
}

static void keep_report(struct upstream *u, char *report)
{
    pthread_mutex_lock(&u->lock);
    free(u->report);
    u->report = report;
    pthread_mutex_unlock(&u->lock);
}

/* A memory that cannot be stored is said once, and that it can again; the verdict holds either way (seen.h). */
static void keep_seen(struct upstream *u, const struct airlock_seen *seen)
{
    char why[256];
    bool saved = seen_put(u->config.seen, seen, why), news;

    pthread_mutex_lock(&u->lock);
    news = saved == u->unsaved_told;
    u->unsaved_told = !saved;
    pthread_mutex_unlock(&u->lock);
    if (news)
        fprintf(stderr, "airlock connect: %s\n", saved ? "the highest versions met are stored again" : why);
}

/* With the caller's own collateral as its file has it now. Of a copy: another thread may take a newer one over
 * meanwhile. Without memory for it nothing is verified: its revocation lists may be what refuses a machine. */
static bool attest_with_own(struct upstream *u, struct session *s, struct attest_ask *ask, struct attest_outcome *out)
{
    struct tunnel_bundle *own = u->config.collateral;
    struct writer copy = writer_with_max(VERIFIER_BUNDLE_MAX);
    char news[256] = "";
    bool accepted = false;

    if (own) {
        pthread_mutex_lock(&u->lock);
        if (tunnel_bundle_look(own, news) != TUNNEL_BUNDLE_SAME)
            fprintf(stderr, "airlock connect: %s\n", news);
        writer_bytes(&copy, writer_span(&own->bytes));
        pthread_mutex_unlock(&u->lock);
    }
    ask->collateral = writer_span(&copy);
    if (writer_ok(&copy)) {
        accepted = attest_connection(s->client, ask, out);
    } else {
        *out = attest_outcome_empty();
        snprintf(out->why, sizeof out->why, "there is no memory for the collateral file: try again, or free some");
    }
    writer_release(&copy);
    return accepted;
}

/* Attest (again) on this connection. */
static bool attest(struct upstream *u, struct session *s, struct upstream_refusal *why)
{
    struct airlock_seen seen = seen_get(u->config.seen);
    struct attest_ask ask = {.rules = u->config.rules,
                             .model = u->config.model,
                             .seen = &seen,
                             .previous = s->claims,
                             .cache = s->cache,
                             .timeout_ms = u->config.attest_ms};
    struct attest_outcome out;

    if (!attest_with_own(u, s, &ask, &out)) {
        why->refused = out.answered;
        why->not_ready = out.answered && strcmp(out.verdict.result.code, "no_engine") == 0;
        why->result = out.verdict.result;
        snprintf(why->why, sizeof why->why, "%s", out.why);
        attest_outcome_release(&out);
        return false;
    }
    keep_seen(u, &out.verdict.seen);
    airlock_claims_free(s->claims);
    s->claims = out.claims;
    s->attested_at = (uint64_t)time(NULL);
    s->valid_until = out.verdict.valid_until;
    s->simulated = out.verdict.simulated;
    keep_report(u, airlock_report(out.claims, &out.verdict));
    return true;
}

static bool is_fresh(const struct session *s)
{
    uint64_t now = (uint64_t)time(NULL), life = s->valid_until - s->attested_at;

    return s->valid_until > s->attested_at && now < s->attested_at + life * 2 / 3;
}

static struct session *pop_idle(struct upstream *u)
{
    struct session *s;

    pthread_mutex_lock(&u->lock);
    s = u->idle;
    if (s) {
        u->idle = s->next;
        u->idle_count--;
        s->next = NULL;
    }
    pthread_mutex_unlock(&u->lock);
    return s;
}

static struct session *take_idle(struct upstream *u)
{
    struct upstream_refusal ignored = {0};
    struct session *s;

    while ((s = pop_idle(u))) {
        if (client_is_idle(s->client) && (is_fresh(s) || attest(u, s, &ignored)) && is_fresh(s))
            return s;
        session_free(s);
    }
    return NULL;
}

static struct session *dial(struct upstream *u, const struct client_url *url, const struct client_address *address,
                            struct upstream_refusal *why)
{
    struct session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->cache = airlock_cache_new(0);
    s->client = client_open(u->config.tls, url, address, u->config.connect_ms, why->why);
    if (s->client && attest(u, s, why))
        return s;
    session_free(s);
    return NULL;
}

/* A refusal tells more than a proxy that has no engine yet, and that more than one that cannot be reached: the caller
 * hears the worst of what happened. */
static void remember(struct upstream_refusal *worst, const struct upstream_refusal *other)
{
    int was = worst->refused ? 2 - worst->not_ready : 0, is = other->refused ? 2 - other->not_ready : 0;

    if (is >= was)
        *worst = *other;
}

struct session *upstream_take(struct upstream *u, bool fresh, struct upstream_refusal *why)
{
    struct session *s = fresh ? NULL : take_idle(u);
    unsigned turn;

    memset(why, 0, sizeof *why);
    if (s)
        return s;
    snprintf(why->why, sizeof why->why, "no proxy could be reached");
    turn = atomic_fetch_add(&u->turn, 1);
    for (size_t i = 0; i < u->config.proxy_count; i++) {
        const struct client_url *url = &u->config.proxy[(turn + i) % u->config.proxy_count];
        struct client_address address[CLIENT_ADDRESSES_MAX];
        struct upstream_refusal this = {0};
        size_t count = client_resolve(url, address, this.why);
        if (count == 0)
            remember(why, &this);
        for (size_t j = 0; j < count; j++) {
            memset(&this, 0, sizeof this);
            if ((s = dial(u, url, &address[(turn + j) % count], &this)))
                return s;
            remember(why, &this);
        }
    }
    return NULL;
}

static bool take_seal(struct session *s, const struct attest_outcome *out)
{
    struct sealed_target *t = &s->sealed;
    uint64_t longest = (uint64_t)time(NULL) + SEAL_LIFE_S;

    airlock_claims_identity(out->claims, t->identity);
    if (!airlock_claims_seal(out->claims, t->seal_public, &t->epoch, t->h_statement) ||
        !airlock_claims_policy(out->claims, t->policy))
        return false;
    t->valid_until = out->verdict.valid_until < longest ? out->verdict.valid_until : longest;
    return true;
}

bool upstream_seal(struct upstream *u, struct session *s, bool anew, struct upstream_refusal *why)
{
    struct airlock_seen seen = seen_get(u->config.seen);
    uint8_t engine[AIRLOCK_KEY_LEN], proven[AIRLOCK_KEY_LEN];
    struct attest_ask ask = {.engine = engine,
                             .rules = u->config.rules,
                             .seen = &seen,
                             .cache = s->cache,
                             .timeout_ms = u->config.attest_ms};
    size_t count = airlock_claims_engine_count(s->claims);
    struct attest_outcome out;

    memset(why, 0, sizeof *why);
    if (s->sealed.is_set && !anew && (uint64_t)time(NULL) < s->sealed.valid_until)
        return true;
    s->sealed.is_set = false;
    if (count == 0 || !airlock_claims_engine_identity(s->claims, atomic_load(&u->turn) % count, engine)) {
        why->refused = why->not_ready = true;
        return false;
    }
    if (attest_with_own(u, s, &ask, &out) && take_seal(s, &out)) {
        airlock_claims_identity(out.claims, proven);
        s->sealed.is_set = memcmp(proven, engine, sizeof engine) == 0;
        keep_seen(u, &out.verdict.seen);
    }
    why->refused = out.answered;
    why->result = out.verdict.result;
    snprintf(why->why, sizeof why->why, "%s", out.why[0] ? out.why : "the engine showed no sealing key of its own");
    if (s->sealed.is_set)
        keep_report(u, airlock_report(out.claims, &out.verdict));
    else
        why->refused = out.answered && !out.accepted;
    attest_outcome_release(&out);
    return s->sealed.is_set;
}

void upstream_give(struct upstream *u, struct session *s, bool reusable)
{
    if (reusable && client_is_reusable(s->client)) {
        pthread_mutex_lock(&u->lock);
        if (u->idle_count < UPSTREAM_IDLE_MAX) {
            s->next = u->idle;
            u->idle = s;
            u->idle_count++;
            s = NULL;
        }
        pthread_mutex_unlock(&u->lock);
    }
    session_free(s);
}
