/* Does the backend admit engines that prove themselves, show them to clients, and carry requests to exactly those? An
 * in-process tunnel end plays the engine; attester and judge are a few lines each. */
#include "proxy/backend_parts.h"
#include "unit/run.h"

#include "verifier/envelope.h"
#include "verifier/leaf.h"
#include "verifier/tree.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- a fake attester and judge ----------------------------------------------------------------------------------- */

static uint8_t held[20000]; /* a part that clients may hold */

/* An envelope whose quote binds the session and whose statement is an identity: all that the fake judge looks at. */
static void vouch(struct writer *w, uint8_t who, struct span challenge, struct span spki, const uint8_t exporter[32])
{
    static _Thread_local struct verifier_envelope e;
    uint8_t identity[32], leaf[64];
    memset(identity, who, sizeof identity);
    verifier_leaf(leaf, challenge, spki, exporter);
    e = (struct verifier_envelope){.tee = VERIFIER_TEE_SNP,
                                   .quote = span_of(leaf, sizeof leaf),
                                   .chain = {.form = VERIFIER_PART_BYTES, .bytes = span_str("chain")},
                                   .statement = span_of(identity, sizeof identity),
                                   .state = span_str("state"),
                                   .tree_size = 1,
                                   .config = span_str("config"),
                                   .policy = {.form = VERIFIER_PART_BYTES, .bytes = span_of(held, sizeof held)}};
    verifier_envelope_encode(w, &e);
    ck_assert(writer_ok(w));
}

static bool fits(struct span envelope, struct span challenge, struct span spki, const uint8_t exporter[32],
                 uint8_t *who)
{
    static _Thread_local struct verifier_envelope e;
    uint8_t leaf[64];
    verifier_leaf(leaf, challenge, spki, exporter);
    if (verifier_envelope_parse(&e, envelope) != VERIFIER_OK || !span_equal(e.quote, span_of(leaf, sizeof leaf)))
        return false;
    *who = e.statement.data[0];
    return true;
}

struct trust {
    struct backend_trust hooks;
    struct writer answer;
    uint32_t id;
    uint8_t refuse; /* an identity that is not wanted */
    uint32_t serves_count;
    uint8_t serves_root[64];
    uint64_t life; /* seconds of a verdict; 0: 1000 */
};

static enum attester_err fake_ask(void *ctx, uint32_t id, struct span challenge, struct span spki,
                                  const uint8_t exporter[32])
{
    struct trust *t = ctx;
    uint64_t one = 1;
    if (t->id)
        return ATTESTER_E_BUSY; /* one at a time */
    t->id = id;
    writer_reset(&t->answer);
    vouch(&t->answer, 'P', challenge, spki, exporter);
    ck_assert_int_eq(write(t->hooks.fd, &one, sizeof one), sizeof one);
    return ATTESTER_OK;
}
static int fake_receive(void *ctx, uint32_t *id, enum attester_err *err, struct span *envelope)
{
    struct trust *t = ctx;
    uint64_t count;
    if (!t->id)
        return 0;
    ck_assert_int_eq(read(t->hooks.fd, &count, sizeof count), sizeof count);
    *id = t->id;
    *err = ATTESTER_OK;
    *envelope = writer_span(&t->answer);
    t->id = 0;
    return 1;
}
static enum attester_err fake_serves(void *ctx, uint32_t count, const uint8_t root[64])
{
    struct trust *t = ctx;
    ck_assert_uint_eq(t->id, 0); /* never beside an open leaf */
    t->serves_count = count;
    memcpy(t->serves_root, root, 64);
    return ATTESTER_OK;
}
static bool fake_judge(void *ctx, const struct verifier_input *in, struct policy_verdict *out,
                       struct verifier_claims **claims)
{
    struct trust *t = ctx;
    uint8_t who;
    memset(out, 0, sizeof *out);
    out->refusal.code = VERIFIER_E_MEASUREMENT_NOT_ACCEPTED;
    if (!fits(in->envelope, in->challenge, in->spki, in->exporter, &who) || who == t->refuse)
        return false;
    out->valid_until = in->now + (t->life ? t->life : 1000);
    *claims = calloc(1, sizeof **claims);
    memset((*claims)->node.statement.identity, who, 32);
    return true;
}

static struct trust trust_open(void)
{
    return (struct trust){.hooks = {.fd = eventfd(0, EFD_NONBLOCK),
                                    .no_keyd = true,
                                    .ask_leaf = fake_ask,
                                    .receive = fake_receive,
                                    .serves = fake_serves,
                                    .judge = fake_judge},
                          .answer = writer_with_max(VERIFIER_ENVELOPE_MAX)};
}

/* --- the rig: a backend and up to three engines ------------------------------------------------------------------- */

struct fake_engine {
    uint8_t who;
    int fd;
    struct tunnel_channel *ch;
    bool open, closed, hold;
    uint32_t stream[16]; /* requests that came whole, in order */
    size_t requests, bytes, cancels;
    char code[64], verdict[64];
};

struct rig {
    struct trust trust;
    struct backend_config config;
    struct backend *b;
    struct tunnel_tls *tls;
    struct fake_engine engine[3];
    atomic_int changes;
};

static void changed(void *ctx)
{
    struct rig *r = ctx;
    atomic_fetch_add(&r->changes, 1);
}

static struct rig *rig_open(void)
{
    struct rig *r = calloc(1, sizeof *r);
    char why[256];
    memset(held, 'p', sizeof held);
    r->trust = trust_open();
    r->trust.hooks.ctx = &r->trust;
    r->config = (struct backend_config){
        .listen = {"127.0.0.1:0"}, .listen_count = 1, .changed = changed, .ctx = r, .trust = &r->trust.hooks};
    r->b = backend_start(&r->config, why, sizeof why);
    ck_assert_msg(r->b != NULL, "%s", why);
    r->tls = tunnel_tls_open();
    return r;
}

static void engine_gone(struct fake_engine *e)
{
    tunnel_channel_close(e->ch);
    if (e->ch)
        close(e->fd);
    e->ch = NULL;
}

static void rig_close(struct rig *r)
{
    backend_stop(r->b);
    backend_close(r->b);
    for (size_t i = 0; i < 3; i++)
        engine_gone(&r->engine[i]);
    tunnel_tls_close(r->tls);
    close(r->trust.hooks.fd);
    writer_release(&r->trust.answer);
    free(r);
}

static void say(struct fake_engine *e, uint32_t stream, uint8_t flags, const char *text)
{
    struct tunnel_frame f = {TUNNEL_FRAME_EVENT, flags, stream, span_str(text)};
    ck_assert(tunnel_mux_send(tunnel_channel_mux(e->ch), &f));
}

static void stream_event(struct fake_engine *e, const struct tunnel_mux_event *ev)
{
    struct tunnel_mux *m = tunnel_channel_mux(e->ch);
    if (ev->kind == TUNNEL_MUX_CANCEL) {
        e->cancels++;
        tunnel_mux_abort(m, ev->stream, "");
    }
    if (ev->kind != TUNNEL_MUX_DATA)
        return;
    e->bytes += ev->frame.body.len;
    tunnel_mux_consumed(m, ev->stream, ev->cost);
    if (ev->frame.kind == TUNNEL_FRAME_QUOTE)
        say(e, ev->stream, TUNNEL_FRAME_MORE, "sealed "), say(e, ev->stream, TUNNEL_FRAME_END, "envelope");
    else if (!(ev->frame.flags & TUNNEL_FRAME_MORE))
        e->stream[e->requests++] = ev->stream;
}

static void engine_events_of(struct fake_engine *e, struct rig *r)
{
    struct tunnel_channel_event ev;
    struct writer w = writer_with_max(VERIFIER_ENVELOPE_MAX);
    char nonce[32];
    uint8_t who;
    while (tunnel_channel_event(e->ch, &ev)) {
        if (ev.kind == TUNNEL_EV_SECURE || ev.kind == TUNNEL_EV_RENEW) {
            (void)snprintf(nonce, sizeof nonce, "nonce %d", rand());
            ck_assert(tunnel_channel_challenge(e->ch, backend_now_ms(), span_str(nonce)));
        } else if (ev.kind == TUNNEL_EV_CHALLENGED) {
            writer_reset(&w);
            vouch(&w, e->who, ev.challenge, tunnel_tls_spki(r->tls), ev.exporter);
            ck_assert(tunnel_channel_answer(e->ch, writer_span(&w)));
        } else if (ev.kind == TUNNEL_EV_EVIDENCE) {
            bool good = fits(ev.body, ev.challenge, ev.spki, ev.exporter, &who) && who == 'P';
            tunnel_channel_verdict(e->ch, backend_now_ms(), good ? "ok" : "report_data_mismatch", 5000000000, 1000);
        } else if (ev.kind == TUNNEL_EV_JUDGED) {
            strcpy(e->verdict, ev.code);
        } else if (ev.kind == TUNNEL_EV_OPEN) {
            e->open = true;
        } else if (ev.kind == TUNNEL_EV_STREAM) {
            stream_event(e, &ev.stream);
        } else if (ev.kind == TUNNEL_EV_CLOSED) {
            e->closed = true;
            strcpy(e->code, ev.code);
        }
    }
    writer_release(&w);
}

static void engine_turn(struct fake_engine *e, struct rig *r)
{
    static uint8_t buffer[1 << 16];
    if (!e->ch)
        return;
    ssize_t n = recv(e->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0)
        tunnel_channel_feed(e->ch, backend_now_ms(), span_of(buffer, (size_t)n));
    if (n == 0)
        tunnel_channel_lost(e->ch);
    engine_events_of(e, r);
    struct span out = tunnel_channel_output(e->ch, backend_now_ms());
    n = out.len ? send(e->fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (n > 0)
        tunnel_channel_sent(e->ch, (size_t)n);
    tunnel_channel_tick(e->ch, backend_now_ms());
}

/* Let everything run until `done` is true; fails after `ms`. */
#define UNTIL(r, ms, done)                                                                                             \
    do {                                                                                                               \
        uint64_t end_ms = backend_now_ms() + (ms);                                                                     \
        while (!(done)) {                                                                                              \
            for (size_t turn_ = 0; turn_ < 3; turn_++)                                                                 \
                engine_turn(&(r)->engine[turn_], (r));                                                                 \
            ck_assert_msg(backend_now_ms() < end_ms, "not within %d ms: %s", (int)(ms), #done);                        \
            usleep(500);                                                                                               \
        }                                                                                                              \
    } while (0)

static size_t engines_of(struct rig *r)
{
    struct backend_status s;
    backend_status(r->b, &s);
    return s.engines;
}

/* A connection from an address of this machine that says nothing. */
static int stranger(struct rig *r, uint32_t from)
{
    struct sockaddr_in a = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(from);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(backend_port(r->b, 0));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static struct fake_engine *engine_start(struct rig *r, size_t i, uint8_t who)
{
    struct fake_engine *e = &r->engine[i];
    struct tunnel_channel_config config = {.tls = r->tls, .proves = true, .judges = true};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(backend_port(r->b, 0))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *e = (struct fake_engine){.who = who, .fd = socket(AF_INET, SOCK_STREAM, 0)};
    ck_assert_int_eq(connect(e->fd, (struct sockaddr *)&a, sizeof a), 0);
    e->ch = tunnel_channel_open(&config, backend_now_ms());
    return e;
}

static struct fake_engine *engine_up(struct rig *r, size_t i, uint8_t who)
{
    size_t before = engines_of(r);
    struct fake_engine *e = engine_start(r, i, who);
    UNTIL(r, 5000, e->open && engines_of(r) == before + 1);
    return e;
}

/* --- a caller ----------------------------------------------------------------------------------------------------- */

struct caller {
    atomic_int events, ends;
    atomic_size_t bytes;
    enum backend_end why;
    char code[64], text[256];
};
static void on_event(void *ctx, struct span bytes)
{
    struct caller *c = ctx;
    size_t at = strlen(c->text);
    if (bytes.len < sizeof c->text - at)
        memcpy(c->text + at, bytes.data, bytes.len);
    atomic_fetch_add(&c->bytes, bytes.len);
    atomic_fetch_add(&c->events, 1);
}
static void on_end(void *ctx, enum backend_end why, const char *code)
{
    struct caller *c = ctx;
    c->why = why;
    strcpy(c->code, code);
    atomic_fetch_add(&c->ends, 1);
}
static const struct backend_events events = {on_event, on_end};

static uint64_t submit(struct rig *r, struct caller *c, const char *text, const char *allowed)
{
    uint8_t list[4][32];
    size_t n = strlen(allowed);
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < n; i++)
        memset(list[i], allowed[i], 32);
    return backend_submit(r->b, span_str(text), (const uint8_t(*)[32])list, n, &events, c);
}

START_TEST(a_request_goes_to_an_engine_and_its_answer_comes_back)
{
    struct rig *r = rig_open();
    struct fake_engine *e = engine_up(r, 0, 'A');
    struct caller c;
    ck_assert_int_gt(atomic_load(&r->changes), 0);
    submit(r, &c, "question", "A");
    UNTIL(r, 3000, e->requests == 1);
    ck_assert_uint_eq(e->bytes, 8);
    say(e, e->stream[0], 0, "one ");
    say(e, e->stream[0], TUNNEL_FRAME_END, "two");
    UNTIL(r, 3000, c.ends == 1);
    ck_assert_int_eq(c.why, BACKEND_END_DONE);
    ck_assert_str_eq(c.text, "one two");
    rig_close(r);
}
END_TEST

START_TEST(a_large_request_passes_in_pieces_and_slow_clients_stop_the_engine)
{
    static char large[1000001];
    struct rig *r = rig_open();
    struct fake_engine *e = engine_up(r, 0, 'A');
    struct caller c;
    memset(large, 'q', sizeof large - 1);
    uint64_t id = submit(r, &c, large, "A");
    UNTIL(r, 5000, e->requests == 1);
    ck_assert_uint_eq(e->bytes, sizeof large - 1);
    large[8000] = 0;
    size_t queued = 0;
    for (int i = 0; i < 2000; i++) {
        if (tunnel_mux_room(tunnel_channel_mux(e->ch), e->stream[0]) >= 8000)
            say(e, e->stream[0], 0, large), queued += 8000;
        engine_turn(e, r);
        usleep(100);
    }
    size_t first = atomic_load(&c.bytes);
    ck_assert_uint_le(first, TUNNEL_STREAM_WINDOW);
    ck_assert_uint_gt(queued, first);
    backend_consumed(r->b, id, first);
    UNTIL(r, 3000, atomic_load(&c.bytes) > first);
    rig_close(r);
    ck_assert_int_eq(c.ends, 1);
    ck_assert_int_eq(c.why, BACKEND_END_STOPPED);
}
END_TEST

START_TEST(after_the_stop_whoever_still_calls_is_refused)
{
    struct rig *r = rig_open();
    struct backend *stopped = r->b;
    struct backend_status status;
    struct caller c;
    engine_up(r, 0, 'A');
    backend_stop(stopped);
    ck_assert_uint_ne(submit(r, &c, "too late", "A"), 0);
    ck_assert_int_eq(c.ends, 1);
    ck_assert_int_eq(c.why, BACKEND_END_STOPPED);
    backend_consumed(stopped, 1, 1);
    backend_cancel(stopped, 1);
    backend_status(stopped, &status);
    ck_assert(status.leased);
    backend_close(stopped);
    r->b = NULL;
    rig_close(r);
}
END_TEST

START_TEST(requests_go_only_to_allowed_engines_and_to_the_idlest)
{
    struct rig *r = rig_open();
    struct fake_engine *a = engine_up(r, 0, 'A'), *b = engine_up(r, 1, 'B');
    struct caller c[5];
    submit(r, &c[0], "x", "A");
    submit(r, &c[1], "x", "A");
    UNTIL(r, 3000, a->requests == 2);
    submit(r, &c[2], "x", "AB");
    UNTIL(r, 3000, b->requests == 1);
    submit(r, &c[3], "x", "");
    UNTIL(r, 3000, b->requests == 2);
    submit(r, &c[4], "x", "C");
    UNTIL(r, 3000, c[4].ends == 1);
    ck_assert_int_eq(c[4].why, BACKEND_END_UNAVAILABLE);
    ck_assert_str_eq(c[4].code, "engine_unavailable");
    uint8_t who[1][32];
    memset(who, 'B', 32);
    ck_assert(backend_has_engine(r->b, (const uint8_t(*)[32])who, 1));
    memset(who, 'C', 32);
    ck_assert(!backend_has_engine(r->b, (const uint8_t(*)[32])who, 1));
    rig_close(r);
}
END_TEST

START_TEST(the_loss_of_an_engine_ends_its_streams)
{
    struct rig *r = rig_open();
    struct fake_engine *e = engine_up(r, 0, 'A');
    struct caller c;
    submit(r, &c, "x", "A");
    UNTIL(r, 3000, e->requests == 1);
    say(e, e->stream[0], 0, "half");
    UNTIL(r, 3000, c.events == 1);
    uint64_t at = backend_now_ms();
    if (_i == 0)
        engine_gone(e); /* killed: the socket ends */
    else
        e->who = 0; /* frozen: see below */
    while (c.ends == 0 && backend_now_ms() < at + 10000)
        usleep(1000);
    ck_assert_int_eq(c.ends, 1);
    ck_assert_uint_le(backend_now_ms() - at, _i == 0 ? 1000 : 5000);
    ck_assert_int_eq(c.why, BACKEND_END_UNAVAILABLE);
    ck_assert_str_eq(c.code, "engine_unavailable");
    rig_close(r);
}
END_TEST

START_TEST(an_unanswered_request_moves_to_another_engine)
{
    struct rig *r = rig_open();
    struct fake_engine *a = engine_up(r, 0, 'A');
    struct caller c;
    submit(r, &c, "question", "AB");
    UNTIL(r, 3000, a->requests == 1);
    struct fake_engine *b = engine_up(r, 1, 'B');
    engine_gone(a);
    UNTIL(r, 3000, b->requests == 1);
    say(b, b->stream[0], TUNNEL_FRAME_END, "answer");
    UNTIL(r, 3000, c.ends == 1);
    ck_assert_int_eq(c.why, BACKEND_END_DONE);
    ck_assert_str_eq(c.text, "answer");
    rig_close(r);
}
END_TEST

START_TEST(cancel_reaches_the_engine)
{
    struct rig *r = rig_open();
    struct fake_engine *e = engine_up(r, 0, 'A');
    struct caller c;
    uint64_t id = submit(r, &c, "x", "A");
    UNTIL(r, 3000, e->requests == 1);
    backend_cancel(r->b, id);
    UNTIL(r, 3000, e->cancels == 1 && c.ends == 1);
    ck_assert_int_eq(c.why, BACKEND_END_CANCELLED);
    backend_cancel(r->b, id);
    backend_consumed(r->b, id, 5);
    rig_close(r);
}
END_TEST

START_TEST(an_engine_that_does_not_satisfy_the_rules_is_told_and_stays_out)
{
    struct rig *r = rig_open();
    r->trust.refuse = 'X';
    struct fake_engine *e = engine_start(r, 0, 'X');
    UNTIL(r, 3000, e->closed);
    ck_assert_str_eq(e->verdict, "measurement_not_accepted");
    ck_assert_uint_eq(engines_of(r), 0);
    rig_close(r);
}
END_TEST

START_TEST(an_engine_whose_verdict_ends_is_dropped_with_a_code)
{
    struct rig *r = rig_open();
    r->trust.life = 2;
    struct fake_engine *e = engine_up(r, 0, 'A');
    struct caller c;
    submit(r, &c, "x", "A");
    UNTIL(r, 3000, e->requests == 1);
    r->trust.refuse = 'A'; /* from now on: the renewal at two thirds is refused */
    UNTIL(r, 4000, c.ends == 1);
    ck_assert_int_eq(c.why, BACKEND_END_UNAVAILABLE);
    ck_assert_str_eq(c.code, "measurement_not_accepted");
    UNTIL(r, 3000, engines_of(r) == 0);
    rig_close(r);
}
END_TEST

START_TEST(a_drain_lets_running_requests_end)
{
    struct rig *r = rig_open();
    struct fake_engine *e = engine_up(r, 0, 'A');
    struct caller c, late;
    submit(r, &c, "x", "A");
    UNTIL(r, 3000, e->requests == 1);
    backend_drain(r->b);
    usleep(50000);
    submit(r, &late, "x", "A");
    UNTIL(r, 3000, late.ends == 1);
    ck_assert_int_eq(late.why, BACKEND_END_UNAVAILABLE);
    say(e, e->stream[0], TUNNEL_FRAME_END, "done");
    UNTIL(r, 3000, c.ends == 1 && e->closed);
    ck_assert_int_eq(c.why, BACKEND_END_DONE);
    ck_assert_str_eq(e->code, "going_away");
    rig_close(r);
}
END_TEST

/* --- attestation towards clients ---------------------------------------------------------------------------------- */

struct client {
    atomic_int done;
    enum backend_code code;
    struct writer envelope;
    uint8_t shown[8][32];
    size_t shown_count;
};
static void attested(void *ctx, enum backend_code code, struct span envelope, const uint8_t (*shown)[32], size_t count)
{
    struct client *c = ctx;
    c->code = code;
    writer_reset(&c->envelope);
    writer_bytes(&c->envelope, envelope);
    if (count)
        memcpy(c->shown, shown, 32 * count);
    c->shown_count = count;
    atomic_store(&c->done, 1);
}

static void attest(struct rig *r, struct client *c, const struct verifier_challenge *challenge)
{
    struct writer w = writer_with_max(VERIFIER_CHALLENGE_MAX);
    uint8_t exporter[32] = {1};
    verifier_challenge_encode(&w, challenge);
    writer_release(&c->envelope);
    *c = (struct client){.envelope = writer_with_max(VERIFIER_ENVELOPE_MAX)};
    backend_attest(r->b, writer_span(&w), span_str("client's spki"), exporter, attested, c);
    writer_release(&w);
    UNTIL(r, 3000, c->done == 1);
}

START_TEST(a_client_is_shown_engines_that_the_quoted_tree_holds)
{
    static struct verifier_envelope e, inner;
    static struct verifier_challenge ask = {.verifier = VERIFIER_CLIENT, .attester = VERIFIER_PROXY, .engines_max = 2};
    struct rig *r = rig_open();
    struct client c = {0};
    uint8_t who;
    engine_up(r, 0, 'A'), engine_up(r, 1, 'B'), engine_up(r, 2, 'C');
    attest(r, &c, &ask);
    ck_assert_int_eq(c.code, BACKEND_OK);
    ck_assert_uint_eq(c.shown_count, 2);
    ck_assert_int_eq(verifier_envelope_parse(&e, writer_span(&c.envelope)), VERIFIER_OK);
    ck_assert(e.has_engines && e.engine_count == 2);
    ck_assert_uint_eq(r->trust.serves_count, 3);
    for (size_t i = 0; i < 2; i++) {
        struct verifier_engine_entry *n = &e.engines[i];
        uint8_t leaf[64], zero[64] = {0};
        ck_assert(fits(n->envelope, n->challenge, n->spki, n->exporter, &who));
        ck_assert_uint_eq(who, c.shown[i][0]);
        verifier_engine_leaf(leaf, n->challenge, n->spki, n->exporter, zero, zero, zero, n->checked_at);
        ck_assert_int_eq(verifier_tree_check(leaf, 3, n->place.index, (const uint8_t(*)[64])n->place.path,
                                             n->place.path_len, r->trust.serves_root),
                         VERIFIER_OK);
    }
    ask.have_count = 1; /* the client holds the policy: it comes by digest */
    ck_assert_int_eq(EVP_Digest(held, sizeof held, ask.have[0], NULL, EVP_sha512(), NULL), 1);
    attest(r, &c, &ask);
    ck_assert_int_eq(verifier_envelope_parse(&e, writer_span(&c.envelope)), VERIFIER_OK);
    ck_assert_int_eq(verifier_envelope_parse(&inner, e.engines[0].envelope), VERIFIER_OK);
    ck_assert_int_eq(inner.policy.form, VERIFIER_PART_DIGEST);
    ck_assert_int_eq(inner.chain.form, VERIFIER_PART_BYTES);
    ask.have_count = 0;
    ask.engines_max = 0;
    attest(r, &c, &ask);
    ck_assert_int_eq(verifier_envelope_parse(&e, writer_span(&c.envelope)), VERIFIER_OK);
    ck_assert(!e.has_engines);
    ask.verifier = VERIFIER_KEYD;
    attest(r, &c, &ask);
    ck_assert_int_eq(c.code, BACKEND_BAD_CHALLENGE);
    writer_release(&c.envelope);
    rig_close(r);
}
END_TEST

START_TEST(a_lost_engine_is_no_longer_shown)
{
    static struct verifier_challenge ask = {.verifier = VERIFIER_CLIENT, .attester = VERIFIER_PROXY, .engines_max = 8};
    struct rig *r = rig_open();
    struct client c = {0};
    struct fake_engine *a = engine_up(r, 0, 'A');
    engine_up(r, 1, 'B');
    engine_gone(a);
    UNTIL(r, 3000, engines_of(r) == 1);
    attest(r, &c, &ask);
    ck_assert_uint_eq(c.shown_count, 1);
    ck_assert_uint_eq(c.shown[0][0], 'B');
    ck_assert_uint_eq(r->trust.serves_count, 1);
    writer_release(&c.envelope);
    rig_close(r);
}
END_TEST

START_TEST(engines_are_challenged_again_and_shown_with_the_new_evidence)
{
    static struct verifier_challenge ask = {.verifier = VERIFIER_CLIENT, .attester = VERIFIER_PROXY, .engines_max = 8};
    static struct verifier_envelope e;
    struct rig *r = rig_open();
    struct client c = {0};
    uint8_t before[64];
    engine_up(r, 0, 'A');
    attest(r, &c, &ask);
    memcpy(before, r->trust.serves_root, 64);
    backend_stop(r->b);
    backend_close(r->b);
    r->config.recheck_ms = 300;
    char why[256];
    r->b = backend_start(&r->config, why, sizeof why);
    engine_gone(&r->engine[0]);
    engine_up(r, 0, 'A');
    attest(r, &c, &ask);
    memcpy(before, r->trust.serves_root, 64);
    UNTIL(r, 3000, memcmp(before, r->trust.serves_root, 64) != 0);
    attest(r, &c, &ask);
    ck_assert_int_eq(verifier_envelope_parse(&e, writer_span(&c.envelope)), VERIFIER_OK);
    ck_assert_uint_eq(e.engine_count, 1);
    writer_release(&c.envelope);
    rig_close(r);
}
END_TEST

START_TEST(a_sealed_challenge_goes_to_its_engine)
{
    struct rig *r = rig_open();
    struct client c = {.envelope = writer_with_max(VERIFIER_ENVELOPE_MAX)};
    uint8_t who[32];
    engine_up(r, 0, 'A');
    memset(who, 'A', sizeof who);
    backend_attest_sealed(r->b, who, span_str("challenge"), attested, &c);
    UNTIL(r, 3000, c.done == 1);
    ck_assert_int_eq(c.code, BACKEND_OK);
    ck_assert(span_is(writer_span(&c.envelope), "sealed envelope"));
    ck_assert(c.shown_count == 1 && c.shown[0][0] == 'A');
    c.done = 0;
    memset(who, 'B', sizeof who);
    backend_attest_sealed(r->b, who, span_str("challenge"), attested, &c);
    UNTIL(r, 3000, c.done == 1);
    ck_assert_int_eq(c.code, BACKEND_NO_ENGINE);
    writer_release(&c.envelope);
    rig_close(r);
}
END_TEST

START_TEST(a_crowd_of_strangers_does_not_keep_engines_out)
{
    struct rig *r = rig_open();
    int fd[BACKEND_CONNECTIONS_MAX + 20], one[40];
    struct fake_engine *first = engine_up(r, 0, 'A');
    for (unsigned i = 0; i < sizeof fd / sizeof *fd; i++) {
        fd[i] = stranger(r, 0x7f000101 + i);
        engine_turn(first, r); /* it answers pings all the while */
    }
    engine_up(r, 1, 'B');
    ck_assert(!first->closed);
    for (unsigned i = 0; i < 40; i++) /* one address alone: the last ones are hung up on at once */
        one[i] = stranger(r, 0x7f000501);
    char byte;
    struct pollfd p = {one[39], POLLIN, 0};
    ck_assert_int_eq(poll(&p, 1, 3000), 1);
    ck_assert_int_le(recv(one[39], &byte, 1, 0), 0);
    for (unsigned i = 0; i < 40; i++)
        close(one[i]);
    for (unsigned i = 0; i < sizeof fd / sizeof *fd; i++)
        close(fd[i]);
    rig_close(r);
}
END_TEST

START_TEST(what_cannot_start_says_why)
{
    struct trust t = trust_open();
    struct backend_config config = {.listen = {"localhost:1"}, .listen_count = 1, .trust = &t.hooks};
    char why[256];
    ck_assert_ptr_null(backend_start(&config, why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "give an address, not a name"));
    struct rig *r = rig_open();
    char taken[32];
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", backend_port(r->b, 0));
    config.listen[0] = taken;
    ck_assert_ptr_null(backend_start(&config, why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "cannot listen"));
    rig_close(r);
    close(t.hooks.fd);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_request_goes_to_an_engine_and_its_answer_comes_back);
    tcase_add_test(t, a_large_request_passes_in_pieces_and_slow_clients_stop_the_engine);
    tcase_add_test(t, after_the_stop_whoever_still_calls_is_refused);
    tcase_add_test(t, requests_go_only_to_allowed_engines_and_to_the_idlest);
    tcase_add_loop_test(t, the_loss_of_an_engine_ends_its_streams, 0, 2);
    tcase_add_test(t, an_unanswered_request_moves_to_another_engine);
    tcase_add_test(t, cancel_reaches_the_engine);
    tcase_add_test(t, an_engine_that_does_not_satisfy_the_rules_is_told_and_stays_out);
    tcase_add_test(t, an_engine_whose_verdict_ends_is_dropped_with_a_code);
    tcase_add_test(t, a_drain_lets_running_requests_end);
    tcase_add_test(t, a_client_is_shown_engines_that_the_quoted_tree_holds);
    tcase_add_test(t, a_lost_engine_is_no_longer_shown);
    tcase_add_test(t, engines_are_challenged_again_and_shown_with_the_new_evidence);
    tcase_add_test(t, a_sealed_challenge_goes_to_its_engine);
    tcase_add_test(t, a_crowd_of_strangers_does_not_keep_engines_out);
    tcase_add_test(t, what_cannot_start_says_why);
}

RUN("proxy_backend", add_tests)
