#include "tunnel/channel.h"

#include "verifier/base/secret.h"
#include "verifier/verdict.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RECORD = 16 << 10,      /* plain bytes that we put into one record at most */
    OUTPUT_HIGH = 64 << 10, /* encrypted bytes waiting for the socket: then we make no more */
    URGENT_MAX = 64 << 10,
    BULK_MAX = (2 << 20) + (64 << 10), /* an envelope and a grant in frames */
};

struct tunnel_channel {
    struct tunnel_channel_config config;
    SSL *ssl;
    enum tunnel_err refused; /* set by callbacks of the TLS session */
    struct tunnel_mux *mux;
    struct verifier_session session;
    uint8_t *peer_spki;
    size_t peer_spki_len;
    bool secure, open, closed;
    char reason[64]; /* with `closed` */

    /* we judge the peer */
    struct writer asked;    /* our open challenge */
    struct writer evidence; /* its envelope so far */
    bool asking, evidence_whole, peer_good;
    uint64_t asked_ms, expires_ms, renew_ms; /* UINT64_MAX: none */

    /* the peer judges us */
    struct writer challenge; /* its open challenge */
    struct tunnel_budget budget;
    bool challenged, answered, we_good;
    char verdict[64];
    uint64_t verdict_until;

    struct writer told; /* ASK, GRANT or STATS from the peer: one channel has one of them */
    bool told_whole;

    uint64_t opened_ms, heard_ms, ping_ms;
    bool pong_due;
    uint8_t pong[8];

    bool ev_secure, ev_challenged, ev_evidence, ev_judged, ev_open, ev_goaway, ev_renew, ev_told, ev_closed;

    struct writer urgent, bulk; /* encoded frames; `*_at`: sent so far */
    size_t urgent_at, bulk_at;
    bool bulk_turn;
    uint64_t records; /* since the last key update */
    uint8_t in[2 * TUNNEL_FRAME_MAX];
    size_t in_len;
};

bool tunnel_budget_take(struct tunnel_budget *b, uint64_t now_ms, uint32_t burst, uint32_t every_ms)
{
    uint64_t idle = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
    b->spent = idle >= b->spent ? 0 : b->spent - (uint32_t)idle;
    b->at_ms = now_ms;
    if (b->spent + every_ms > burst * every_ms)
        return false;
    b->spent += every_ms;
    return true;
}

static uint32_t ping_every(const struct tunnel_channel *c)
{
    return c->config.ping_ms ? c->config.ping_ms : TUNNEL_PING_MS;
}
static bool is_keyd(const struct tunnel_channel *c)
{
    return c->config.server && c->config.judges && !c->config.proves;
}
static bool is_node_of_keyd(const struct tunnel_channel *c)
{
    return !c->config.server && c->config.proves && !c->config.judges;
}

struct tunnel_channel *tunnel_channel_open(const struct tunnel_channel_config *config, uint64_t now_ms)
{
    struct tunnel_channel *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->config = *config;
    c->asked = writer_with_max(TUNNEL_CHALLENGE_MAX);
    c->challenge = writer_with_max(TUNNEL_CHALLENGE_MAX);
    c->evidence = writer_with_max(TUNNEL_ENVELOPE_MAX);
    c->told = writer_with_max(is_keyd(c) ? (size_t)TUNNEL_ASK_MAX : (size_t)TUNNEL_GRANT_MAX);
    c->urgent = writer_with_max(URGENT_MAX);
    c->bulk = writer_with_max(BULK_MAX);
    c->opened_ms = c->heard_ms = c->ping_ms = now_ms;
    c->expires_ms = c->renew_ms = UINT64_MAX;
    c->mux = tunnel_mux_open(config->server);
    c->ssl = tunnel_tls_session(config->tls, config->server, &c->refused);
    if (!c->mux || !c->ssl) {
        tunnel_channel_close(c);
        return NULL;
    }
    return c;
}

void tunnel_channel_close(struct tunnel_channel *c)
{
    if (!c)
        return;
    SSL_free(c->ssl);
    tunnel_mux_close(c->mux);
    OPENSSL_free(c->peer_spki);
    writer_release(&c->asked);
    writer_release(&c->challenge);
    writer_release(&c->evidence);
    writer_release(&c->told);
    writer_release(&c->urgent);
    writer_release(&c->bulk);
    secret_wipe(c->in, sizeof c->in);
    free(c);
}

/* --- endings -------------------------------------------------------------------------------------- */

static void put_frame(struct tunnel_channel *c, struct writer *w, uint8_t kind, uint8_t flags, struct span body)
{
    struct tunnel_frame f = {.kind = kind, .flags = flags, .body = body};
    if (!c->closed)
        tunnel_frame_encode(w, &f);
}

/* The end, told to the peer while TLS still stands. The streams' owners hear first, then the channel's. */
static void finish(struct tunnel_channel *c, const char *code, bool tell)
{
    if (c->closed)
        return;
    (void)snprintf(c->reason, sizeof c->reason, "%s", code);
    if (tell && c->secure && tunnel_frame_is_code(span_str(c->reason)))
        put_frame(c, &c->urgent, TUNNEL_FRAME_GOAWAY, 0, span_str(c->reason));
    c->closed = c->ev_closed = true;
    c->ev_secure = c->ev_challenged = c->ev_evidence = c->ev_open = c->ev_renew = c->ev_told = false;
    tunnel_mux_fail(c->mux, code);
}

static void fail(struct tunnel_channel *c, enum tunnel_err err)
{
    finish(c, tunnel_err_name(err), true);
}

void tunnel_channel_lost(struct tunnel_channel *c)
{
    finish(c, tunnel_err_name(TUNNEL_E_CLOSED), false);
    writer_reset(&c->urgent);
    c->urgent_at = 0;
}

void tunnel_channel_refuse(struct tunnel_channel *c, const char *code)
{
    finish(c, code, true);
}

static void open_if_good(struct tunnel_channel *c)
{
    bool good = (!c->config.judges || c->peer_good) && (!c->config.proves || c->we_good);
    if (c->open || c->closed || !c->secure || !good)
        return;
    c->open = c->ev_open = true;
}

/* --- frames from the peer ------------------------------------------------------------------------- */

static enum tunnel_err take_challenge(struct tunnel_channel *c, uint64_t now_ms, struct span body)
{
    if (!c->config.proves)
        return TUNNEL_E_FRAME_KIND;
    if (c->challenged)
        return TUNNEL_E_CHALLENGE_TWICE;
    if (!tunnel_budget_take(&c->budget, now_ms, TUNNEL_CHALLENGE_BURST, TUNNEL_CHALLENGE_EVERY))
        return TUNNEL_E_CHALLENGE_BUDGET;
    writer_reset(&c->challenge);
    writer_bytes(&c->challenge, body);
    c->challenged = c->ev_challenged = true;
    return writer_ok(&c->challenge) ? TUNNEL_OK : TUNNEL_E_MEMORY;
}

static enum tunnel_err take_envelope(struct tunnel_channel *c, const struct tunnel_frame *f)
{
    if (!c->config.judges || !c->asking || c->evidence_whole)
        return TUNNEL_E_ENVELOPE_UNASKED;
    writer_bytes(&c->evidence, f->body);
    if (!writer_ok(&c->evidence))
        return TUNNEL_E_ENVELOPE_SIZE;
    if (!(f->flags & TUNNEL_FRAME_MORE))
        c->evidence_whole = c->ev_evidence = true;
    return TUNNEL_OK;
}

static enum tunnel_err take_verdict(struct tunnel_channel *c, struct span body)
{
    struct verifier_verdict v;
    if (!c->answered || verifier_verdict_parse(&v, body) != VERIFIER_OK || v.code.len >= sizeof c->verdict ||
        !tunnel_frame_is_code(v.code))
        return TUNNEL_E_VERDICT_FORM;
    c->answered = false;
    memset(c->verdict, 0, sizeof c->verdict);
    memcpy(c->verdict, v.code.data, v.code.len);
    c->verdict_until = v.valid_until;
    c->ev_judged = true;
    c->we_good = span_is(v.code, "ok");
    if (c->we_good)
        open_if_good(c);
    else
        finish(c, c->verdict, false);
    return TUNNEL_OK;
}

/* What may the peer tell us on stream 0? */
static bool may_tell(const struct tunnel_channel *c, uint8_t kind)
{
    if (kind == TUNNEL_FRAME_STATS)
        return c->config.server && !is_keyd(c);
    return kind == TUNNEL_FRAME_ASK ? is_keyd(c) : is_node_of_keyd(c);
}

static enum tunnel_err take_told(struct tunnel_channel *c, const struct tunnel_frame *f)
{
    if (!may_tell(c, f->kind))
        return TUNNEL_E_FRAME_KIND;
    if (!c->open)
        return TUNNEL_E_NOT_OPEN;
    if (c->told_whole) {
        writer_reset(&c->told);
        c->told_whole = false;
    }
    writer_bytes(&c->told, f->body);
    if (!writer_ok(&c->told))
        return TUNNEL_E_MESSAGE_SIZE;
    if (!(f->flags & TUNNEL_FRAME_MORE))
        c->told_whole = c->ev_told = true;
    return TUNNEL_OK;
}

static enum tunnel_err take_goaway(struct tunnel_channel *c, struct span body)
{
    char code[64] = "";
    if (body.len)
        memcpy(code, body.data, body.len);
    tunnel_mux_drain(c->mux);
    c->ev_goaway = true;
    if (code[0])
        finish(c, code, false);
    return TUNNEL_OK;
}

static enum tunnel_err take_stream(struct tunnel_channel *c, const struct tunnel_frame *f)
{
    if (is_keyd(c) || is_node_of_keyd(c))
        return TUNNEL_E_FRAME_KIND;
    return c->open ? tunnel_mux_take(c->mux, f) : TUNNEL_E_NOT_OPEN;
}

static enum tunnel_err take_frame(struct tunnel_channel *c, uint64_t now_ms, const struct tunnel_frame *f)
{
    switch (f->kind) {
    case TUNNEL_FRAME_CHALLENGE:
        return take_challenge(c, now_ms, f->body);
    case TUNNEL_FRAME_ENVELOPE:
        return take_envelope(c, f);
    case TUNNEL_FRAME_VERDICT:
        return take_verdict(c, f->body);
    case TUNNEL_FRAME_PING:
        memcpy(c->pong, f->body.data, sizeof c->pong);
        c->pong_due = true;
        return TUNNEL_OK;
    case TUNNEL_FRAME_PONG:
        return TUNNEL_OK;
    case TUNNEL_FRAME_GOAWAY:
        return take_goaway(c, f->body);
    case TUNNEL_FRAME_ASK:
    case TUNNEL_FRAME_GRANT:
    case TUNNEL_FRAME_STATS:
        return take_told(c, f);
    case TUNNEL_FRAME_REQUEST:
    case TUNNEL_FRAME_SEALED:
    case TUNNEL_FRAME_QUOTE:
    case TUNNEL_FRAME_EVENT:
    case TUNNEL_FRAME_CREDIT:
    case TUNNEL_FRAME_CANCEL:
        return take_stream(c, f);
    default: /* the link's own kinds */
        return TUNNEL_E_FRAME_KIND;
    }
}

/* --- bytes from the socket ------------------------------------------------------------------------ */

static bool handshake(struct tunnel_channel *c)
{
    ERR_clear_error();
    int done = SSL_do_handshake(c->ssl);
    if (done != 1) {
        int why = SSL_get_error(c->ssl, done);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            fail(c, tunnel_tls_reason(c->refused));
        return false;
    }
    enum tunnel_err err = tunnel_tls_check(c->ssl, &c->session, &c->peer_spki, &c->peer_spki_len);
    if (err) {
        fail(c, err);
        return false;
    }
    c->secure = c->ev_secure = true;
    open_if_good(c);
    return true;
}

static void take_frames(struct tunnel_channel *c, uint64_t now_ms)
{
    struct span rest = span_of(c->in, c->in_len);
    struct tunnel_frame f;
    ssize_t used;
    while (!c->closed && (used = tunnel_frame_decode(&f, rest)) != 0) {
        enum tunnel_err err = used < 0 ? (enum tunnel_err) - used : take_frame(c, now_ms, &f);
        if (err) {
            fail(c, err);
            return;
        }
        c->heard_ms = now_ms;
        rest = span_of(rest.data + used, rest.len - (size_t)used);
    }
    memmove(c->in, rest.data, rest.len);
    c->in_len = rest.len;
}

void tunnel_channel_feed(struct tunnel_channel *c, uint64_t now_ms, struct span bytes)
{
    if (c->closed || bytes.len == 0)
        return;
    if (bytes.len > INT32_MAX || BIO_write(SSL_get_rbio(c->ssl), bytes.data, (int)bytes.len) != (int)bytes.len) {
        fail(c, TUNNEL_E_MEMORY);
        return;
    }
    if (!c->secure && !handshake(c))
        return;
    while (!c->closed) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, c->in + c->in_len, (int)(sizeof c->in - c->in_len));
        if (n <= 0) {
            int why = SSL_get_error(c->ssl, n);
            if (why == SSL_ERROR_ZERO_RETURN)
                finish(c, tunnel_err_name(TUNNEL_E_CLOSED), false);
            else if (why != SSL_ERROR_WANT_READ)
                fail(c, tunnel_tls_reason(c->refused));
            return;
        }
        c->in_len += (size_t)n;
        take_frames(c, now_ms);
    }
}

/* --- time ----------------------------------------------------------------------------------------- */

/* Two pings went and nothing came. */
static uint64_t dead_at(const struct tunnel_channel *c)
{
    return c->heard_ms + 3 * (uint64_t)ping_every(c);
}

uint64_t tunnel_channel_deadline(const struct tunnel_channel *c)
{
    uint64_t at = c->ping_ms + ping_every(c);
    if (c->closed)
        return UINT64_MAX;
    if (c->secure && dead_at(c) < at)
        at = dead_at(c);
    if (!c->open && c->opened_ms + TUNNEL_ATTEST_MS < at)
        at = c->opened_ms + TUNNEL_ATTEST_MS;
    if (c->asking && !c->evidence_whole && c->asked_ms + TUNNEL_ATTEST_MS < at)
        at = c->asked_ms + TUNNEL_ATTEST_MS;
    if (c->renew_ms < at)
        at = c->renew_ms;
    return c->expires_ms < at ? c->expires_ms : at;
}

void tunnel_channel_tick(struct tunnel_channel *c, uint64_t now_ms)
{
    if (c->closed)
        return;
    bool late = (!c->open && now_ms >= c->opened_ms + TUNNEL_ATTEST_MS) ||
                (c->asking && !c->evidence_whole && now_ms >= c->asked_ms + TUNNEL_ATTEST_MS);
    if (late) {
        fail(c, TUNNEL_E_VERDICT_LATE);
        return;
    }
    if (now_ms >= c->expires_ms) {
        fail(c, TUNNEL_E_EXPIRED);
        return;
    }
    if (now_ms >= c->renew_ms) {
        c->renew_ms = UINT64_MAX;
        c->ev_renew = !c->asking;
    }
    if (!c->secure)
        return;
    if (now_ms >= dead_at(c)) {
        fail(c, TUNNEL_E_PING_LOST);
        return;
    }
    if (now_ms < c->ping_ms + ping_every(c))
        return;
    c->ping_ms = now_ms;
    put_frame(c, &c->urgent, TUNNEL_FRAME_PING, 0, span_of(&now_ms, sizeof now_ms));
}

/* --- bytes for the socket ------------------------------------------------------------------------- */

/* Move the next encoded frame of `w` to `record` when it fits. */
static bool move_frame(struct writer *w, size_t *at, struct writer *record)
{
    struct tunnel_frame f;
    struct span left = span_of(w->data + *at, w->len - *at);
    ssize_t len = left.len ? tunnel_frame_decode(&f, left) : 0;
    assert(len >= 0); /* our own */
    if (len == 0 || record->len + (size_t)len > record->max)
        return false;
    writer_bytes(record, span_of(left.data, (size_t)len));
    *at += (size_t)len;
    if (*at == w->len) {
        writer_reset(w);
        *at = 0;
    }
    return true;
}

/* One frame more for the record: what is urgent first, then long objects and streams in turn. */
static bool next_frame(struct tunnel_channel *c, struct writer *record)
{
    struct tunnel_frame f;
    if (c->pong_due) {
        c->pong_due = false;
        put_frame(c, &c->urgent, TUNNEL_FRAME_PONG, 0, span_of(c->pong, sizeof c->pong));
    }
    if (c->urgent.len)
        return move_frame(&c->urgent, &c->urgent_at, record);
    if (c->closed)
        return false;
    c->bulk_turn = !c->bulk_turn;
    if (c->bulk.len && (c->bulk_turn || !c->open))
        return move_frame(&c->bulk, &c->bulk_at, record);
    if (c->open && record->len + TUNNEL_FRAME_MAX <= record->max && tunnel_mux_next(c->mux, &f)) {
        tunnel_frame_encode(record, &f);
        return true;
    }
    return c->bulk.len && move_frame(&c->bulk, &c->bulk_at, record);
}

static bool write_record(struct tunnel_channel *c, struct span plain)
{
    uint64_t limit = c->config.rekey_records ? c->config.rekey_records : TUNNEL_REKEY_RECORDS;
    c->records += 1 + plain.len / RECORD;
    ERR_clear_error();
    if (c->records >= limit) { /* OpenSSL does not change keys by itself */
        c->records = 0;
        if (SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
            return false;
    }
    return SSL_write(c->ssl, plain.data, (int)plain.len) == (int)plain.len;
}

struct span tunnel_channel_output(struct tunnel_channel *c, uint64_t now_ms)
{
    BIO *out = SSL_get_wbio(c->ssl);
    char *bytes;
    (void)now_ms;
    if (!c->secure && !c->closed)
        (void)handshake(c);
    struct writer record = writer_with_max(RECORD + TUNNEL_FRAME_MAX);
    while (c->secure && BIO_ctrl_pending(out) < OUTPUT_HIGH) {
        writer_reset(&record);
        while (record.len < RECORD && next_frame(c, &record))
            ;
        if (record.len == 0)
            break;
        if (!writer_ok(&record) || !write_record(c, writer_span(&record))) {
            fail(c, TUNNEL_E_TLS);
            break;
        }
    }
    writer_release(&record);
    if (!c->closed && (!writer_ok(&c->urgent) || !writer_ok(&c->bulk)))
        fail(c, TUNNEL_E_MEMORY);
    long len = BIO_get_mem_data(out, &bytes);
    return len > 0 ? span_of(bytes, (size_t)len) : span_of(NULL, 0);
}

void tunnel_channel_sent(struct tunnel_channel *c, size_t len)
{
    uint8_t gone[4096];
    while (len > 0) {
        int n = BIO_read(SSL_get_wbio(c->ssl), gone, len < sizeof gone ? (int)len : (int)sizeof gone);
        if (n <= 0)
            return;
        len -= (size_t)n;
    }
}

/* --- what the owner does -------------------------------------------------------------------------- */

bool tunnel_channel_challenge(struct tunnel_channel *c, uint64_t now_ms, struct span challenge)
{
    if (c->closed || !c->secure || !c->config.judges || c->asking || challenge.len == 0 ||
        challenge.len > TUNNEL_CHALLENGE_MAX)
        return false;
    writer_reset(&c->asked);
    writer_reset(&c->evidence);
    writer_bytes(&c->asked, challenge);
    c->asking = true;
    c->evidence_whole = false;
    c->asked_ms = now_ms;
    c->ev_renew = false;
    put_frame(c, &c->urgent, TUNNEL_FRAME_CHALLENGE, 0, challenge);
    return true;
}

/* An object in frames of one kind, all but the last flagged MORE. */
static void put_pieces(struct tunnel_channel *c, uint8_t kind, struct span object)
{
    while (object.len > 0) {
        size_t len = object.len < TUNNEL_FRAME_BODY_MAX ? object.len : TUNNEL_FRAME_BODY_MAX;
        uint8_t flags = len < object.len ? TUNNEL_FRAME_MORE : 0;
        put_frame(c, &c->bulk, kind, flags, span_of(object.data, len));
        object = span_of(object.data + len, object.len - len);
    }
}

bool tunnel_channel_answer(struct tunnel_channel *c, struct span envelope)
{
    if (c->closed || !c->challenged || envelope.len == 0 || envelope.len > TUNNEL_ENVELOPE_MAX)
        return false;
    put_pieces(c, TUNNEL_FRAME_ENVELOPE, envelope);
    c->challenged = false;
    c->answered = true;
    return true;
}

void tunnel_channel_expire(struct tunnel_channel *c, uint64_t now_ms, uint64_t left_s)
{
    uint64_t left_ms = left_s < UINT32_MAX ? left_s * 1000 : UINT64_C(1000) * UINT32_MAX;
    if (!c->peer_good || now_ms + left_ms >= c->expires_ms)
        return;
    c->expires_ms = now_ms + left_ms;
    c->renew_ms = now_ms + left_ms / 3 * 2;
}

void tunnel_channel_verdict(struct tunnel_channel *c, uint64_t now_ms, const char *code, uint64_t valid_until,
                            uint64_t left_s)
{
    if (c->closed || !c->asking || !c->evidence_whole)
        return;
    bool good = strcmp(code, "ok") == 0;
    struct verifier_verdict v = {.code = span_of(code, strnlen(code, 63)), .valid_until = good ? valid_until : 0};
    struct writer w = writer_with_max(256);
    verifier_verdict_encode(&w, &v);
    put_frame(c, &c->urgent, TUNNEL_FRAME_VERDICT, 0, writer_span(&w));
    writer_release(&w);
    c->asking = c->evidence_whole = false;
    if (!good) {
        finish(c, code, false);
        return;
    }
    c->peer_good = true;
    c->expires_ms = UINT64_MAX;
    tunnel_channel_expire(c, now_ms, left_s);
    open_if_good(c);
}

void tunnel_channel_drain(struct tunnel_channel *c)
{
    tunnel_mux_drain(c->mux);
    if (!c->closed && c->secure)
        put_frame(c, &c->urgent, TUNNEL_FRAME_GOAWAY, 0, span_of(NULL, 0));
}

bool tunnel_channel_ask(struct tunnel_channel *c, struct span ask)
{
    if (c->closed || !c->open || !is_node_of_keyd(c) || ask.len == 0 || ask.len > TUNNEL_ASK_MAX)
        return false;
    put_frame(c, &c->urgent, TUNNEL_FRAME_ASK, 0, ask);
    return true;
}

bool tunnel_channel_grant(struct tunnel_channel *c, struct span grant)
{
    if (c->closed || !c->open || !is_keyd(c) || grant.len == 0 || grant.len > TUNNEL_GRANT_MAX)
        return false;
    put_pieces(c, TUNNEL_FRAME_GRANT, grant);
    return true;
}

bool tunnel_channel_stats(struct tunnel_channel *c, struct span stats)
{
    if (c->closed || !c->open || c->config.server || is_node_of_keyd(c) || stats.len == 0 || stats.len > 8192 ||
        c->urgent.len > URGENT_MAX / 2) /* a peer that does not read misses some */
        return false;
    put_frame(c, &c->urgent, TUNNEL_FRAME_STATS, 0, stats);
    return true;
}

bool tunnel_channel_is_open(const struct tunnel_channel *c)
{
    return c->open && !c->closed;
}

bool tunnel_channel_is_closed(const struct tunnel_channel *c)
{
    return c->closed;
}

struct span tunnel_channel_peer_spki(const struct tunnel_channel *c)
{
    return span_of(c->peer_spki, c->peer_spki_len);
}

struct tunnel_mux *tunnel_channel_mux(struct tunnel_channel *c)
{
    return c->mux;
}

bool tunnel_channel_exporter(const struct tunnel_channel *c, struct span challenge, uint8_t out[32])
{
    static const char label[] = VERIFIER_EXPORTER_LABEL;
    uint8_t context[32];
    memset(out, 0, 32);
    return c->secure && EVP_Digest(challenge.data, challenge.len, context, NULL, EVP_sha256(), NULL) == 1 &&
           SSL_export_keying_material(c->ssl, out, 32, label, sizeof label - 1, context, sizeof context, 1) == 1;
}

/* --- events --------------------------------------------------------------------------------------- */

static bool flag_event(bool *flag, enum tunnel_channel_kind kind, struct tunnel_channel_event *out)
{
    if (!*flag)
        return false;
    *flag = false;
    out->kind = kind;
    return true;
}

/* The exporter for the event's challenge; without one the session is worth nothing. */
static bool bind_session(struct tunnel_channel *c, struct tunnel_channel_event *out)
{
    if (tunnel_channel_exporter(c, out->challenge, out->exporter))
        return true;
    fail(c, TUNNEL_E_TLS);
    *out = (struct tunnel_channel_event){.kind = TUNNEL_EV_NONE};
    return false;
}

static bool attestation_event(struct tunnel_channel *c, struct tunnel_channel_event *out)
{
    if (flag_event(&c->ev_secure, TUNNEL_EV_SECURE, out))
        return true;
    if (flag_event(&c->ev_challenged, TUNNEL_EV_CHALLENGED, out)) {
        out->challenge = writer_span(&c->challenge);
        out->spki = tunnel_tls_spki(c->config.tls);
        return bind_session(c, out);
    }
    if (flag_event(&c->ev_evidence, TUNNEL_EV_EVIDENCE, out)) {
        out->challenge = writer_span(&c->asked);
        out->body = writer_span(&c->evidence);
        out->spki = tunnel_channel_peer_spki(c);
        out->session = c->session;
        return bind_session(c, out);
    }
    if (flag_event(&c->ev_judged, TUNNEL_EV_JUDGED, out)) {
        memcpy(out->code, c->verdict, sizeof out->code);
        out->valid_until = c->verdict_until;
        return true;
    }
    return flag_event(&c->ev_open, TUNNEL_EV_OPEN, out);
}

/* A channel that drains ends when its last stream has. */
static void finish_drained(struct tunnel_channel *c)
{
    if (!c->closed && c->open && tunnel_mux_is_draining(c->mux) && tunnel_mux_streams(c->mux) == 0)
        finish(c, tunnel_err_name(TUNNEL_E_GOING_AWAY), true);
}

bool tunnel_channel_event(struct tunnel_channel *c, struct tunnel_channel_event *out)
{
    *out = (struct tunnel_channel_event){.kind = TUNNEL_EV_NONE};
    if (attestation_event(c, out))
        return true;
    enum tunnel_channel_kind told = is_keyd(c) ? TUNNEL_EV_ASK : c->config.server ? TUNNEL_EV_STATS : TUNNEL_EV_GRANT;
    if (flag_event(&c->ev_told, told, out)) {
        out->body = writer_span(&c->told);
        return true;
    }
    if (tunnel_mux_event(c->mux, &out->stream)) {
        out->kind = TUNNEL_EV_STREAM;
        return true;
    }
    if (flag_event(&c->ev_goaway, TUNNEL_EV_GOAWAY, out) || flag_event(&c->ev_renew, TUNNEL_EV_RENEW, out))
        return true;
    finish_drained(c);
    if (!flag_event(&c->ev_closed, TUNNEL_EV_CLOSED, out))
        return false;
    memcpy(out->code, c->reason, sizeof out->code);
    return true;
}
