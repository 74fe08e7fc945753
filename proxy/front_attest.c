/* front_attest.c - POST /.well-known/airlock/attest: a challenge in, an envelope out, bound to this very connection
 * (specs/protocol § Carriage). From then on the connection's requests go only to the engines it was shown.
 * Anybody may ask, so each address has a budget: an answer costs a quote and tens of kilobytes. */
#include "proxy/front_parts.h"

#include "proxy/tls.h"

#include <time.h>

/* --- budget ----------------------------------------------------------------------------------------- */

static bool take_from_budget(struct front *f, const struct sockaddr_storage *peer)
{
    double per_minute = f->config.challenges_per_minute;
    struct front_budget *b;
    struct timespec t;
    uint8_t key[TUNNEL_SOURCE_LEN];
    uint64_t now;
    bool ok;

    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    tunnel_source_key((const struct sockaddr *)peer, key);
    pthread_mutex_lock(&f->lock);
    b = &f->budget[tunnel_source_slot(key, FRONT_BUDGETS)];
    if (memcmp(b->source, key, sizeof key) != 0 || b->refilled_ms == 0) {
        /* A slot that another address used up lately is not given away full. */
        b->left = b->refilled_ms && now - b->refilled_ms < 60000 ? b->left : per_minute;
        memcpy(b->source, key, sizeof key);
        b->refilled_ms = now;
    }
    b->left += (double)(now - b->refilled_ms) * per_minute / 60000;
    b->refilled_ms = now;
    if (b->left > per_minute)
        b->left = per_minute;
    ok = b->left >= 1;
    if (ok)
        b->left -= 1;
    pthread_mutex_unlock(&f->lock);
    return ok;
}

/* --- the answer -------------------------------------------------------------------------------------- */

/* One attestation under way. The backend's answer arrives on its thread and is carried to the loop's. */
struct attest {
    struct front *front;
    struct hx_loop *loop;
    struct hx_req *req; /* NULL once the client left; loop thread only */
    bool sealed;
    enum backend_code code;
    struct writer envelope;
    size_t shown_count;
    uint8_t shown[BACKEND_SHOWN_MAX][32];
};

static void on_gone(void *ctx)
{
    ((struct attest *)ctx)->req = NULL;
}

static void refuse(struct attest *a)
{
    struct front *f = a->front;

    switch (a->code) {
    case BACKEND_BAD_CHALLENGE:
        front_error(f, a->req, 400, "bad_challenge", NULL, "The body is not a challenge from a client to a proxy.");
        return;
    case BACKEND_NO_LEASE:
        front_error(f, a->req, 503, "no_lease", NULL, "This proxy has no lease yet: try again shortly.");
        return;
    case BACKEND_NO_ENGINE:
        front_error(f, a->req, 404, "no_engine", "engine", "No engine with this identity is admitted here.");
        return;
    case BACKEND_BUSY:
        front_error(f, a->req, 503, "overloaded", NULL, "Too many attestations wait: try again shortly.");
        return;
    default:
        front_error(f, a->req, 503, "no_attester", NULL, "This proxy cannot prove itself now: try again shortly.");
        return;
    }
}

static void answer(void *arg)
{
    struct attest *a = arg;
    struct front_conn *conn;

    if (a->req && a->code == BACKEND_OK && (conn = front_conn_of(a->req, true))) {
        if (!a->sealed) {
            conn->attested = true;
            conn->shown_count = a->shown_count;
            memcpy(conn->shown, a->shown, sizeof a->shown);
        }
        front_answer(a->front, a->req, 200, "application/msgpack", writer_span(&a->envelope));
    } else if (a->req) {
        refuse(a);
    }
    if (a->req)
        hx_req_watch(a->req, NULL, NULL, NULL);
    writer_release(&a->envelope);
    free(a);
}

static void on_attested(void *ctx, enum backend_code code, struct span envelope, const uint8_t (*shown)[32],
                        size_t shown_count)
{
    struct attest *a = ctx;

    a->code = code;
    if (code == BACKEND_OK) {
        writer_bytes(&a->envelope, envelope);
        if (!writer_ok(&a->envelope))
            a->code = BACKEND_NO_ATTESTER;
        a->shown_count = shown_count < BACKEND_SHOWN_MAX ? shown_count : BACKEND_SHOWN_MAX;
        if (a->shown_count > 0)
            memcpy(a->shown, shown, a->shown_count * 32);
    }
    while (!hx_post(a->loop, answer, a)) /* the request hangs on it: wait for memory */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* --- the question ------------------------------------------------------------------------------------ */

static bool engine_of(struct span query, uint8_t engine[32])
{
    return query.len == 7 + 64 && memcmp(query.data, "engine=", 7) == 0 &&
           policy_hex_parse(span_of(query.data + 7, 64), engine, 32);
}

static void start(struct front *f, struct hx_req *r, SSL *ssl, const uint8_t *engine)
{
    const struct front_backend *b = &f->config.backend;
    struct span challenge = hx_req_body(r);
    struct writer spki = writer_with_max(TLS_SPKI_MAX);
    uint8_t exporter[TLS_EXPORTER_LEN];
    struct attest *a = calloc(1, sizeof *a);

    if (!a || !tls_own_spki(ssl, &spki) || !tls_exporter(ssl, challenge, exporter)) {
        front_error(f, r, 500, NULL, NULL, "The server had a fault; request id %s.", hx_req_id(r));
        free(a);
    } else {
        *a = (struct attest){.front = f,
                             .loop = hx_req_loop(r),
                             .req = r,
                             .sealed = engine != NULL,
                             .envelope = writer_with_max(FRONT_ENVELOPE_MAX)};
        hx_req_watch(r, on_gone, NULL, a);
        if (engine)
            b->attest_sealed(b->ctx, engine, challenge, on_attested, a);
        else
            b->attest(b->ctx, challenge, writer_span(&spki), exporter, on_attested, a);
    }
    writer_release(&spki);
}

void front_attest(struct front *f, struct hx_req *r)
{
    SSL *ssl = hx_conn_ssl(hx_req_conn(r));
    struct span query = hx_req_query(r), body = hx_req_body(r);
    struct sockaddr_storage peer;
    uint8_t engine[32];

    hx_conn_peer(hx_req_conn(r), &peer);
    if (!ssl || !SSL_is_init_finished(ssl) || SSL_session_reused(ssl))
        front_error(f, r, 400, "no_tls", NULL, "Attestation needs a fresh TLS 1.3 connection.");
    else if (atomic_load(&f->draining))
        front_error(f, r, 503, "draining", NULL, "The service is going down: use another proxy.");
    else if (body.len == 0 || body.len > FRONT_CHALLENGE_MAX)
        front_error(f, r, 400, "bad_challenge", NULL, "The body must be a challenge of 1 to 4096 bytes.");
    else if (query.len > 0 && !engine_of(query, engine))
        front_error(f, r, 400, "bad_challenge", "engine", "engine must be an identity of 64 hex digits.");
    else if (!take_from_budget(f, &peer))
        front_error(f, r, 429, "rate_limit_exceeded", NULL, "Too many challenges from this address: try again later.");
    else
        start(f, r, ssl, query.len > 0 ? engine : NULL);
}
