/* Does a channel open exactly when every side has proven itself, and is everything else refused with its own code? */
#include "tunnel/channel.h"
#include "unit/run.h"
#include "verifier/verdict.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>

/* --- two channels back to back, with a vouch and a judge of three lines ------------------------------------------ */

struct end {
    struct tunnel_channel *ch;
    struct tunnel_tls *tls;
    bool open, closed, goaway;
    int challenged, judged, renewed, cancels;
    char code[64], verdict[64], ended[64];
    const char *say; /* our verdict; NULL: "ok" */
    uint64_t left;   /* seconds our verdicts last; 0: 3600 */
    bool mute;       /* does not answer challenges */
    size_t data;     /* bytes of streams that came */
    bool hold;       /* does not consume them */
    struct writer told;
};

static uint64_t clock_ms;

static void vouch(uint8_t out[32], struct span challenge, struct span spki, const uint8_t exporter[32])
{
    struct writer w = writer_with_max(1 << 16);
    writer_lp(&w, challenge);
    writer_lp(&w, spki);
    writer_bytes(&w, span_of(exporter, 32));
    ck_assert_int_eq(EVP_Digest(w.data, w.len, out, NULL, EVP_sha256(), NULL), 1);
    writer_release(&w);
}

static const char *judge(const struct end *e, const struct tunnel_channel_event *ev)
{
    uint8_t want[32];
    vouch(want, ev->challenge, ev->spki, ev->exporter);
    ck_assert(ev->session.tls13 && ev->session.finished && !ev->session.resumed && !ev->session.psk);
    if (e->say)
        return e->say;
    return ev->body.len >= 32 && memcmp(ev->body.data, want, 32) == 0 ? "ok" : "report_data_mismatch";
}

static void challenge(struct end *e)
{
    static uint32_t nonce;
    char text[64];
    ck_assert(tunnel_channel_challenge(e->ch, clock_ms, span_of(text, (size_t)sprintf(text, "nonce %u", nonce++))));
}

static size_t envelope_size = 40000; /* several frames */

static void handle(struct end *e, const struct tunnel_channel_config *config)
{
    struct tunnel_channel_event ev;
    while (tunnel_channel_event(e->ch, &ev)) {
        switch (ev.kind) {
        case TUNNEL_EV_SECURE:
            if (config->judges)
                challenge(e);
            break;
        case TUNNEL_EV_RENEW:
            e->renewed++;
            challenge(e);
            break;
        case TUNNEL_EV_CHALLENGED: {
            static uint8_t envelope[TUNNEL_ENVELOPE_MAX];
            e->challenged++;
            vouch(envelope, ev.challenge, ev.spki, ev.exporter);
            if (!e->mute)
                ck_assert(tunnel_channel_answer(e->ch, span_of(envelope, envelope_size)));
            break;
        }
        case TUNNEL_EV_EVIDENCE:
            tunnel_channel_verdict(e->ch, clock_ms, judge(e, &ev), 5000000000, e->left ? e->left : 3600);
            break;
        case TUNNEL_EV_JUDGED:
            e->judged++;
            strcpy(e->verdict, ev.code);
            break;
        case TUNNEL_EV_OPEN:
            e->open = true;
            break;
        case TUNNEL_EV_STREAM:
            if (ev.stream.kind == TUNNEL_MUX_DATA) {
                e->data += ev.stream.frame.body.len;
                if (!e->hold)
                    tunnel_mux_consumed(tunnel_channel_mux(e->ch), ev.stream.stream, ev.stream.cost);
            } else if (ev.stream.kind == TUNNEL_MUX_ENDED) {
                strcpy(e->ended, ev.stream.code[0] ? ev.stream.code : "end");
            } else if (ev.stream.kind == TUNNEL_MUX_CANCEL) {
                e->cancels++;
                tunnel_mux_abort(tunnel_channel_mux(e->ch), ev.stream.stream, "");
            }
            break;
        case TUNNEL_EV_ASK:
        case TUNNEL_EV_GRANT:
        case TUNNEL_EV_STATS:
            writer_reset(&e->told);
            writer_bytes(&e->told, ev.body);
            break;
        case TUNNEL_EV_GOAWAY:
            e->goaway = true;
            break;
        case TUNNEL_EV_CLOSED:
            e->closed = true;
            strcpy(e->code, ev.code);
            break;
        case TUNNEL_EV_NONE:
            ck_abort();
        }
    }
}

struct rig {
    struct tunnel_channel_config server, client;
    struct end s, c;
};

static struct rig rig_open(bool both)
{
    struct rig r = {.s.tls = tunnel_tls_open(), .c.tls = tunnel_tls_open()};
    r.server = (struct tunnel_channel_config){.tls = r.s.tls, .server = true, .judges = true, .proves = both};
    r.client = (struct tunnel_channel_config){.tls = r.c.tls, .judges = both, .proves = true};
    r.s.told = r.c.told = writer_with_max(TUNNEL_GRANT_MAX);
    r.s.ch = tunnel_channel_open(&r.server, clock_ms);
    r.c.ch = tunnel_channel_open(&r.client, clock_ms);
    return r;
}

static void rig_close(struct rig *r)
{
    tunnel_channel_close(r->s.ch);
    tunnel_channel_close(r->c.ch);
    tunnel_tls_close(r->s.tls);
    tunnel_tls_close(r->c.tls);
    writer_release(&r->s.told);
    writer_release(&r->c.told);
}

static bool move(struct end *from, struct end *to, size_t piece)
{
    struct span out = tunnel_channel_output(from->ch, clock_ms);
    size_t len = out.len < piece ? out.len : piece;
    if (len == 0)
        return false;
    tunnel_channel_feed(to->ch, clock_ms, span_of(out.data, len));
    tunnel_channel_sent(from->ch, len);
    return true;
}

static void pump_in(struct rig *r, size_t piece)
{
    bool more = true;
    while (more) {
        more = move(&r->c, &r->s, piece);
        handle(&r->s, &r->server);
        more = move(&r->s, &r->c, piece) || more;
        handle(&r->c, &r->client);
        handle(&r->s, &r->server);
    }
}
static void pump(struct rig *r)
{
    pump_in(r, SIZE_MAX);
}

static void tick(struct rig *r, uint64_t ms)
{
    clock_ms += ms;
    tunnel_channel_tick(r->s.ch, clock_ms);
    tunnel_channel_tick(r->c.ch, clock_ms);
    handle(&r->s, &r->server);
    handle(&r->c, &r->client);
    pump(r);
}

START_TEST(both_prove_themselves_in_any_fragmentation)
{
    static const size_t pieces[] = {1, 7, 1000, SIZE_MAX};
    struct rig r = rig_open(true);
    pump_in(&r, pieces[_i]);
    ck_assert(r.s.open && r.c.open && !r.s.closed && !r.c.closed);
    ck_assert_str_eq(r.s.verdict, "ok");
    ck_assert_str_eq(r.c.verdict, "ok");
    ck_assert(span_equal(tunnel_channel_peer_spki(r.s.ch), tunnel_tls_spki(r.c.tls)));
    rig_close(&r);
}
END_TEST

START_TEST(the_largest_envelope_passes)
{
    struct rig r = rig_open(true);
    envelope_size = TUNNEL_ENVELOPE_MAX;
    pump(&r);
    ck_assert(r.s.open && r.c.open);
    rig_close(&r);
}
END_TEST

START_TEST(a_refused_side_is_told_and_nothing_opens)
{
    struct rig r = rig_open(true);
    (_i ? &r.c : &r.s)->say = "lease_expired";
    pump(&r);
    ck_assert(r.s.closed && r.c.closed && !(_i ? r.s.open : r.c.open));
    ck_assert_str_eq((_i ? r.s : r.c).verdict, "lease_expired");
    ck_assert_str_eq(r.s.code, "lease_expired");
    ck_assert_str_eq(r.c.code, "lease_expired");
    rig_close(&r);
}
END_TEST

START_TEST(an_envelope_for_another_session_is_refused)
{
    /* a man in the middle with two genuine-looking sessions: the exporter differs on each */
    struct rig left = rig_open(true), right = rig_open(true);
    uint8_t a[32], b[32];
    pump(&left);
    pump(&right);
    ck_assert(tunnel_channel_exporter(left.s.ch, span_str("n"), a));
    ck_assert(tunnel_channel_exporter(right.s.ch, span_str("n"), b));
    ck_assert(memcmp(a, b, 32) != 0);
    ck_assert(tunnel_channel_exporter(left.c.ch, span_str("n"), b));
    ck_assert(memcmp(a, b, 32) == 0);
    ck_assert(tunnel_channel_exporter(left.c.ch, span_str("m"), b));
    ck_assert(memcmp(a, b, 32) != 0);
    rig_close(&left);
    rig_close(&right);
}
END_TEST

START_TEST(verdicts_are_renewed_in_place_and_their_end_closes)
{
    struct rig r = rig_open(true);
    r.s.left = 90;
    pump(&r);
    uint32_t id = tunnel_mux_start(tunnel_channel_mux(r.s.ch), &r);
    ck_assert(tunnel_mux_send(tunnel_channel_mux(r.s.ch),
                              &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, 0, id, span_str("x")}));
    pump(&r);
    for (int i = 0; i < 9; i++)
        tick(&r, 6900);
    ck_assert_int_eq(r.s.renewed, 1); /* at 60 s of 90 */
    ck_assert_int_eq(r.c.challenged, 2);
    ck_assert(!r.s.closed);
    r.c.mute = true;
    for (int i = 0; i < 12; i++)
        tick(&r, 5000);
    ck_assert_int_eq(r.s.renewed, 2);
    for (int i = 0; i < 6; i++)
        tick(&r, 5000);
    ck_assert(r.s.closed);
    ck_assert_str_eq(r.s.ended, r.s.code);
    rig_close(&r);
}
END_TEST

START_TEST(a_silent_peer_is_dead_after_two_pings)
{
    struct rig r = rig_open(true);
    pump(&r);
    for (int i = 0; i < 20; i++)
        tick(&r, TUNNEL_PING_MS);
    ck_assert(!r.s.closed && !r.c.closed); /* pings alone keep it up */
    for (int i = 0; i < 3; i++) {
        clock_ms += TUNNEL_PING_MS;
        tunnel_channel_tick(r.s.ch, clock_ms);
        (void)tunnel_channel_output(r.s.ch, clock_ms);
    }
    handle(&r.s, &r.server);
    ck_assert_str_eq(r.s.code, "ping_lost");
    rig_close(&r);
}
END_TEST

START_TEST(attestation_has_a_deadline)
{
    struct rig r = rig_open(true);
    r.c.mute = true;
    pump(&r);
    ck_assert(!r.s.open);
    tick(&r, TUNNEL_ATTEST_MS / 2);
    tick(&r, TUNNEL_ATTEST_MS / 2);
    ck_assert_str_eq(r.s.code, "verdict_late");
    ck_assert_str_eq(r.c.code, "verdict_late");
    rig_close(&r);
}
END_TEST

START_TEST(challenges_have_a_budget)
{
    struct rig r = rig_open(true);
    pump(&r);
    for (int i = 0; i < 2 * TUNNEL_CHALLENGE_BURST && !r.s.closed; i++) {
        challenge(&r.s);
        pump(&r);
    }
    ck_assert_int_eq(r.c.challenged, TUNNEL_CHALLENGE_BURST);
    ck_assert_str_eq(r.c.code, "challenge_budget");
    ck_assert_str_eq(r.s.code, "challenge_budget");
    rig_close(&r);
    r = rig_open(true);
    pump(&r);
    for (int i = 0; i < 20; i++) { /* at the pace that is allowed */
        clock_ms += TUNNEL_CHALLENGE_EVERY;
        challenge(&r.s);
        pump(&r);
    }
    ck_assert(!r.c.closed);
    rig_close(&r);
}
END_TEST

START_TEST(keys_are_updated_under_way)
{
    struct rig r = rig_open(true);
    tunnel_channel_close(r.s.ch);
    r.server.rekey_records = 3;
    r.s.ch = tunnel_channel_open(&r.server, clock_ms);
    pump(&r);
    for (int i = 0; i < 50; i++) {
        uint32_t id = tunnel_mux_start(tunnel_channel_mux(r.s.ch), &r);
        ck_assert(tunnel_mux_send(tunnel_channel_mux(r.s.ch),
                                  &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, 0, id, span_str("0123456789")}));
        pump(&r);
    }
    ck_assert_uint_eq(r.c.data, 500);
    ck_assert(!r.c.closed && !r.s.closed);
    rig_close(&r);
}
END_TEST

START_TEST(back_pressure_reaches_the_writer)
{
    static uint8_t body[8000];
    struct rig r = rig_open(true);
    pump(&r);
    r.c.hold = true;
    struct tunnel_mux *m = tunnel_channel_mux(r.s.ch);
    uint32_t id = tunnel_mux_start(m, &r);
    for (int i = 0; i < 100; i++) {
        while (tunnel_mux_room(m, id) >= sizeof body)
            ck_assert(tunnel_mux_send(
                m, &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, id, span_of(body, sizeof body)}));
        pump(&r);
    }
    ck_assert_uint_le(r.c.data, TUNNEL_STREAM_WINDOW);
    ck_assert_uint_ge(r.c.data, TUNNEL_STREAM_WINDOW - 2 * sizeof body);
    rig_close(&r);
}
END_TEST

START_TEST(drain_lets_streams_end)
{
    struct rig r = rig_open(true);
    pump(&r);
    struct tunnel_mux *m = tunnel_channel_mux(r.s.ch), *back = tunnel_channel_mux(r.c.ch);
    uint32_t id = tunnel_mux_start(m, &r);
    ck_assert(tunnel_mux_send(m, &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, 0, id, span_str("x")}));
    pump(&r);
    tunnel_channel_drain(r.c.ch);
    pump(&r);
    ck_assert(r.s.goaway && !r.s.closed && !r.c.closed);
    ck_assert_uint_eq(tunnel_mux_start(m, &r), 0);
    ck_assert(
        tunnel_mux_send(back, &(struct tunnel_frame){TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, id, span_str("last")}));
    pump(&r);
    ck_assert_str_eq(r.s.ended, "end");
    ck_assert_uint_eq(r.s.data, 4);
    ck_assert_str_eq(r.s.code, "going_away");
    ck_assert_str_eq(r.c.code, "going_away");
    rig_close(&r);
}
END_TEST

START_TEST(keyd_is_asked_and_grants)
{
    static uint8_t grant[100000];
    struct rig r = rig_open(false);
    ck_assert(!tunnel_channel_ask(r.c.ch, span_str("too early")));
    pump(&r);
    ck_assert(r.s.open && r.c.open);
    ck_assert_int_eq(r.s.challenged, 0);
    memset(grant, 'g', sizeof grant);
    ck_assert(tunnel_channel_ask(r.c.ch, span_str("ask")));
    pump(&r);
    ck_assert(span_is(writer_span(&r.s.told), "ask"));
    ck_assert(tunnel_channel_grant(r.s.ch, span_of(grant, sizeof grant)));
    ck_assert(!tunnel_channel_grant(r.c.ch, span_of(grant, 1)));
    pump(&r);
    ck_assert(span_equal(writer_span(&r.c.told), span_of(grant, sizeof grant)));
    rig_close(&r);
}
END_TEST

START_TEST(the_end_of_the_socket_ends_the_streams)
{
    struct rig r = rig_open(true);
    pump(&r);
    ck_assert(tunnel_mux_start(tunnel_channel_mux(r.s.ch), &r) == 1);
    tunnel_channel_lost(r.s.ch);
    handle(&r.s, &r.server);
    ck_assert_str_eq(r.s.ended, "closed");
    ck_assert_str_eq(r.s.code, "closed");
    rig_close(&r);
}
END_TEST

/* --- hostile peers, made of bare OpenSSL ------------------------------------------------------------------------- */

struct crook {
    SSL_CTX *ctx;
    SSL *ssl;
    SSL_SESSION *session;
    EVP_PKEY *key, *other;
    X509 *certificate;
};

static X509 *certificate(EVP_PKEY *key, EVP_PKEY *signer, bool extension)
{
    X509 *x = X509_new();
    X509_NAME *n = X509_NAME_new();
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)"airlock", -1, -1, 0);
    X509_set_version(x, X509_VERSION_3);
    X509_set_subject_name(x, n);
    X509_set_issuer_name(x, n);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 1000);
    X509_set_pubkey(x, key);
    if (extension) {
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        ASN1_OBJECT *name = OBJ_txt2obj("1.3.6.1.4.1.99999.1", 1);
        ASN1_OCTET_STRING_set(value, (const unsigned char *)"\x05\x00", 2);
        X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, name, 0, value);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
        ASN1_OBJECT_free(name);
        ASN1_OCTET_STRING_free(value);
    }
    X509_sign(x, signer, EVP_sha256());
    X509_NAME_free(n);
    return x;
}

static int trust(X509_STORE_CTX *s, void *arg)
{
    (void)s, (void)arg;
    return 1;
}

static unsigned psk(SSL *ssl, const char *hint, char *identity, unsigned max, unsigned char *key, unsigned key_max)
{
    (void)ssl, (void)hint, (void)max;
    strcpy(identity, "me");
    memset(key, 7, 32);
    return key_max < 32 ? 0 : 32;
}

enum {
    CROOK_TLS12,
    CROOK_NO_ALPN,
    CROOK_OTHER_ALPN,
    CROOK_NO_CERTIFICATE,
    CROOK_NOT_SELF_SIGNED,
    CROOK_P384,
    CROOK_RSA,
    CROOK_EXTENSION,
    CROOK_PSK,
    CROOK_POST_HANDSHAKE,
    CROOK_STREAM_FIRST,
    CROOK_VERDICT_FIRST,
    CROOK_ENVELOPE_UNASKED,
    CROOK_TWO_CHALLENGES,
    CROOK_ASK,
    CROOK_LINK_KIND,
    CROOK_LONG_FRAME,
    CROOK_NONE
};
static const struct {
    const char *name, *code;
} crooks[CROOK_NONE] = {
    [CROOK_TLS12] = {"TLS 1.2", "tls_version"},
    [CROOK_NO_ALPN] = {"no ALPN", "tls_alpn"},
    [CROOK_OTHER_ALPN] = {"ALPN h2", "tls_alpn"},
    [CROOK_NO_CERTIFICATE] = {"no certificate", "tls_certificate"},
    [CROOK_NOT_SELF_SIGNED] = {"certificate signed by another key", "tls_certificate"},
    [CROOK_P384] = {"P-384", "tls_certificate"},
    [CROOK_RSA] = {"RSA", "tls_certificate"},
    [CROOK_EXTENSION] = {"certificate with an extension", "tls_certificate"},
    [CROOK_PSK] = {"PSK", "tls_resumed"},
    [CROOK_POST_HANDSHAKE] = {"post-handshake authentication", "tls_resumed"},
    [CROOK_STREAM_FIRST] = {"a stream before the verdicts", "not_open"},
    [CROOK_VERDICT_FIRST] = {"a verdict that nobody waits for", "verdict_form"},
    [CROOK_ENVELOPE_UNASKED] = {"an envelope too many", "envelope_unasked"},
    [CROOK_TWO_CHALLENGES] = {"two challenges at once", "challenge_twice"},
    [CROOK_ASK] = {"a question to keyd on a tunnel", "frame_kind"},
    [CROOK_LINK_KIND] = {"a kind of the link", "frame_kind"},
    [CROOK_LONG_FRAME] = {"an oversized frame", "frame_length"},
};

static const char *key_kind(int kind)
{
    return kind == CROOK_P384 ? "P-384" : "P-256";
}

static struct crook crook_open(int kind)
{
    struct crook k = {.ctx = SSL_CTX_new(TLS_client_method())};
    k.key = kind == CROOK_RSA ? EVP_RSA_gen(2048) : EVP_EC_gen(key_kind(kind));
    k.other = EVP_EC_gen("P-256");
    k.certificate = certificate(k.key, kind == CROOK_NOT_SELF_SIGNED ? k.other : k.key, kind == CROOK_EXTENSION);
    SSL_CTX_set_cert_verify_callback(k.ctx, trust, NULL);
    if (kind == CROOK_TLS12)
        SSL_CTX_set_max_proto_version(k.ctx, TLS1_2_VERSION);
    if (kind != CROOK_NO_ALPN)
        SSL_CTX_set_alpn_protos(k.ctx, (const unsigned char *)(kind == CROOK_OTHER_ALPN ? "\2h2" : "\x9" TUNNEL_ALPN),
                                kind == CROOK_OTHER_ALPN ? 3 : 10);
    if (kind != CROOK_NO_CERTIFICATE) {
        SSL_CTX_use_certificate(k.ctx, k.certificate);
        SSL_CTX_use_PrivateKey(k.ctx, k.key);
    }
    if (kind == CROOK_PSK)
        SSL_CTX_set_psk_client_callback(k.ctx, psk);
    if (kind == CROOK_POST_HANDSHAKE)
        SSL_CTX_set_post_handshake_auth(k.ctx, 1);
    k.ssl = SSL_new(k.ctx);
    SSL_set_bio(k.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(k.ssl);
    return k;
}

static void crook_close(struct crook *k)
{
    SSL_free(k->ssl);
    SSL_CTX_free(k->ctx);
    EVP_PKEY_free(k->key);
    EVP_PKEY_free(k->other);
    X509_free(k->certificate);
}

static void put(SSL *ssl, uint8_t kind, uint32_t stream, struct span body)
{
    struct writer w = writer_with_max(TUNNEL_FRAME_MAX);
    tunnel_frame_encode(&w, &(struct tunnel_frame){kind, 0, stream, body});
    ck_assert_int_eq(SSL_write(ssl, w.data, (int)w.len), (int)w.len);
    writer_release(&w);
}

static void misbehave(int kind, SSL *ssl)
{
    if (kind == CROOK_STREAM_FIRST)
        put(ssl, TUNNEL_FRAME_EVENT, 1, span_str("x"));
    if (kind == CROOK_VERDICT_FIRST) {
        struct writer w = writer_with_max(200);
        verifier_verdict_encode(&w, &(struct verifier_verdict){span_str("ok"), 5000000000});
        put(ssl, TUNNEL_FRAME_VERDICT, 0, writer_span(&w));
        writer_release(&w);
    }
    if (kind == CROOK_ENVELOPE_UNASKED) {
        put(ssl, TUNNEL_FRAME_ENVELOPE, 0, span_str("one"));
        put(ssl, TUNNEL_FRAME_ENVELOPE, 0, span_str("two"));
    }
    if (kind == CROOK_TWO_CHALLENGES) {
        put(ssl, TUNNEL_FRAME_CHALLENGE, 0, span_str("one"));
        put(ssl, TUNNEL_FRAME_CHALLENGE, 0, span_str("two"));
    }
    if (kind == CROOK_ASK)
        put(ssl, TUNNEL_FRAME_ASK, 0, span_str("x"));
    if (kind == CROOK_LINK_KIND)
        put(ssl, TUNNEL_FRAME_RULES, 0, span_str("x"));
    if (kind == CROOK_LONG_FRAME)
        ck_assert_int_eq(SSL_write(ssl, "\0\1\0\0\20\0\0\0\0\0\0\1", 12), 12);
}

/* A bare client against our server, until nothing moves any more. */
static void play(struct crook *k, struct end *e, const struct tunnel_channel_config *config, int kind)
{
    bool misbehaved = false;
    for (int i = 0; i < 20 && !e->closed; i++) {
        char *bytes;
        int done = SSL_do_handshake(k->ssl);
        if (done == 1 && !misbehaved && (misbehaved = true))
            misbehave(kind, k->ssl);
        long len = BIO_get_mem_data(SSL_get_wbio(k->ssl), &bytes);
        tunnel_channel_feed(e->ch, clock_ms, span_of(bytes, (size_t)len));
        (void)BIO_reset(SSL_get_wbio(k->ssl));
        handle(e, config);
        struct span out = tunnel_channel_output(e->ch, clock_ms);
        if (out.len)
            BIO_write(SSL_get_rbio(k->ssl), out.data, (int)out.len);
        tunnel_channel_sent(e->ch, out.len);
    }
}

START_TEST(hostile_peers_are_refused_each_by_its_own_code)
{
    struct rig r = rig_open(true);
    struct crook k = crook_open(_i);
    r.s.mute = true;
    play(&k, &r.s, &r.server, _i);
    ck_assert_msg(r.s.closed && strcmp(r.s.code, crooks[_i].code) == 0, "%s: %s", crooks[_i].name, r.s.code);
    ck_assert(!r.s.open);
    crook_close(&k);
    rig_close(&r);
}
END_TEST

/* A server that resumes and takes early data gives its client a session; the client then offers it to us. */
static int take_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned in_len,
                     void *arg)
{
    (void)ssl, (void)in_len, (void)arg;
    *out = in + 1;
    *len = in[0];
    return SSL_TLSEXT_ERR_OK;
}
static SSL_SESSION *kept;
static int keep(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = s;
    return 1;
}

START_TEST(resumption_and_early_data_are_refused)
{
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    struct crook k = crook_open(CROOK_NONE);
    SSL_CTX_use_certificate(server, k.certificate);
    SSL_CTX_use_PrivateKey(server, k.key);
    SSL_CTX_set_max_early_data(server, 16384);
    SSL_CTX_set_alpn_select_cb(server, take_alpn, NULL);
    SSL_CTX_set_session_cache_mode(k.ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(k.ctx, keep);
    SSL *a = SSL_new(k.ctx), *b = SSL_new(server);
    BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
    BIO_up_ref(up), BIO_up_ref(down);
    SSL_set_bio(a, down, up);
    SSL_set_bio(b, up, down);
    SSL_set_connect_state(a);
    SSL_set_accept_state(b);
    char byte;
    for (int i = 0; i < 10; i++) {
        (void)SSL_do_handshake(a);
        (void)SSL_do_handshake(b);
        (void)SSL_read(a, &byte, 1);
    }
    ck_assert_ptr_nonnull(kept);
    SSL_set_session(k.ssl, kept);
    if (_i) { /* with early data */
        size_t written;
        ck_assert_int_eq(SSL_write_early_data(k.ssl, "early", 5, &written), 1);
    }
    struct rig r = rig_open(true);
    play(&k, &r.s, &r.server, CROOK_NONE);
    ck_assert_str_eq(r.s.code, "tls_resumed");
    rig_close(&r);
    SSL_SESSION_free(kept);
    kept = NULL;
    SSL_free(a);
    SSL_free(b);
    SSL_CTX_free(server);
    crook_close(&k);
}
END_TEST

START_TEST(a_client_refuses_servers_of_another_form)
{
    static const char *codes[] = {"tls_version", "tls_alpn", "tls_certificate"};
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    struct crook k = crook_open(CROOK_NONE);
    X509 *foreign = certificate(k.key, k.other, false);
    SSL_CTX_use_certificate(ctx, _i == 2 ? foreign : k.certificate);
    SSL_CTX_use_PrivateKey(ctx, k.key);
    if (_i == 0)
        SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    if (_i != 1)
        SSL_CTX_set_alpn_select_cb(ctx, take_alpn, NULL);
    SSL_free(k.ssl);
    k.ssl = SSL_new(ctx);
    SSL_set_bio(k.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(k.ssl);
    struct rig r = rig_open(true);
    struct span hello = tunnel_channel_output(r.c.ch, clock_ms);
    BIO_write(SSL_get_rbio(k.ssl), hello.data, (int)hello.len);
    tunnel_channel_sent(r.c.ch, hello.len);
    play(&k, &r.c, &r.client, CROOK_NONE);
    ck_assert_str_eq(r.c.code, codes[_i]);
    rig_close(&r);
    X509_free(foreign);
    crook_close(&k);
    SSL_CTX_free(ctx);
}
END_TEST

START_TEST(garbage_is_not_tls)
{
    static const char *const garbage[] = {"GET / HTTP/1.1\r\n\r\n", "application data before any hello",
                                          "\0\0\0\0\0\0\0\0\0\0\0\0"};
    struct rig r = rig_open(true);
    tunnel_channel_feed(r.s.ch, clock_ms, span_of(garbage[_i], _i == 2 ? 12 : strlen(garbage[_i])));
    handle(&r.s, &r.server);
    ck_assert_str_eq(r.s.code, "tls");
    rig_close(&r);
}
END_TEST

START_TEST(a_flipped_bit_ends_the_session)
{
    struct rig r = rig_open(true);
    pump(&r);
    tunnel_channel_drain(r.s.ch);
    struct span out = tunnel_channel_output(r.s.ch, clock_ms);
    uint8_t copy[4096];
    ck_assert(out.len > 0 && out.len < sizeof copy);
    memcpy(copy, out.data, out.len);
    copy[out.len / 2] ^= 1;
    tunnel_channel_feed(r.c.ch, clock_ms, span_of(copy, out.len));
    handle(&r.c, &r.client);
    ck_assert_str_eq(r.c.code, "tls");
    rig_close(&r);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, both_prove_themselves_in_any_fragmentation, 0, 4);
    tcase_add_test(t, the_largest_envelope_passes);
    tcase_add_loop_test(t, a_refused_side_is_told_and_nothing_opens, 0, 2);
    tcase_add_test(t, an_envelope_for_another_session_is_refused);
    tcase_add_test(t, verdicts_are_renewed_in_place_and_their_end_closes);
    tcase_add_test(t, a_silent_peer_is_dead_after_two_pings);
    tcase_add_test(t, attestation_has_a_deadline);
    tcase_add_test(t, challenges_have_a_budget);
    tcase_add_test(t, keys_are_updated_under_way);
    tcase_add_test(t, back_pressure_reaches_the_writer);
    tcase_add_test(t, drain_lets_streams_end);
    tcase_add_test(t, keyd_is_asked_and_grants);
    tcase_add_test(t, the_end_of_the_socket_ends_the_streams);
    tcase_add_loop_test(t, hostile_peers_are_refused_each_by_its_own_code, 0, CROOK_NONE);
    tcase_add_loop_test(t, resumption_and_early_data_are_refused, 0, 2);
    tcase_add_loop_test(t, a_client_refuses_servers_of_another_form, 0, 3);
    tcase_add_loop_test(t, garbage_is_not_tls, 0, 3);
    tcase_add_test(t, a_flipped_bit_ends_the_session);
}

RUN("tunnel_channel", add_tests)
