/* Does airlock-tunnel's loop dial, prove, judge, relay, reconnect, drain and die as it should? The loop runs in a
 * child; this process is the engine on its link and every proxy and keyd it dials. The attester is the real one. */
#include "tunnel/dial/dial.h"
#include "unit/run.h"

#include "tunnel/attest/attester.h"
#include "tunnel/resolve.h"
#include "verifier/challenge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- a judge of one line: the envelope says whether it is good --------------------------------------------------- */

static bool take_rules(void *ctx, const struct tunnel_rules *rules)
{
    (void)ctx;
    return span_is(rules->policy, "policy");
}
static const char *judge(void *ctx, const struct verifier_input *in, uint64_t *valid_until,
                         struct verifier_claims **claims)
{
    (void)ctx;
    *claims = NULL;
    *valid_until = in->now + 1000;
    return span_is(in->envelope, "good") ? "ok" : "measurement_not_accepted";
}

/* --- the far ends ------------------------------------------------------------------------------------------------ */

struct far {
    int listener, fd;
    uint16_t port;
    bool keyd, open, told, closed;
    const char *envelope;
    struct tunnel_channel *ch;
    size_t accepted, evidence, data;
    struct writer text; /* of events and questions */
    char ended[64], verdict[64], code[64];
    bool stats, goaway;
};

struct rig {
    struct attester attester;
    struct tunnel_tls *tls;
    struct tunnel_link *link;
    pid_t child;
    struct far proxy, keyd;
    /* as the engine sees it */
    bool proxy_up, keyd_up, hold;
    size_t proxy_ups, data, cancels;
    uint32_t stream;
    bool whole;
    struct writer grant;
    int status; /* of the child; -1: still there */
};

static void far_listen(struct far *f, bool keyd)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    *f = (struct far){.fd = -1, .keyd = keyd, .envelope = "good", .text = writer_with_max(1 << 20)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(f->listener, 8), 0);
    ck_assert_int_eq(getsockname(f->listener, (struct sockaddr *)&a, &len), 0);
    f->port = ntohs(a.sin_port);
}

static void far_hang_up(struct far *f)
{
    tunnel_channel_close(f->ch);
    f->ch = NULL;
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    f->open = false;
}

static void far_accept(struct rig *r, struct far *f)
{
    struct tunnel_channel_config c = {.tls = r->tls, .server = true, .judges = true, .proves = !f->keyd};
    int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    far_hang_up(f);
    f->fd = fd;
    f->accepted++;
    f->ch = tunnel_channel_open(&c, now_ms());
}

static void far_stream(struct far *f, const struct tunnel_mux_event *e)
{
    if (e->kind == TUNNEL_MUX_DATA) {
        f->data += e->frame.body.len;
        writer_bytes(&f->text, e->frame.body);
        tunnel_mux_consumed(tunnel_channel_mux(f->ch), e->stream, e->cost);
    }
    if (e->kind == TUNNEL_MUX_ENDED)
        strcpy(f->ended, e->code[0] ? e->code : "end");
}

static void far_events(struct far *f)
{
    struct tunnel_channel_event e;
    while (f->ch && tunnel_channel_event(f->ch, &e)) {
        if (e.kind == TUNNEL_EV_SECURE) {
            struct verifier_challenge c = {.verifier = f->keyd ? VERIFIER_KEYD : VERIFIER_PROXY,
                                           .attester = VERIFIER_ENGINE};
            struct writer w = writer_with_max(VERIFIER_CHALLENGE_MAX);
            memset(c.nonce, (int)f->accepted, sizeof c.nonce);
            verifier_challenge_encode(&w, &c);
            ck_assert(tunnel_channel_challenge(f->ch, now_ms(), writer_span(&w)));
            writer_release(&w);
        } else if (e.kind == TUNNEL_EV_CHALLENGED) {
            ck_assert(tunnel_channel_answer(f->ch, span_str(f->envelope)));
        } else if (e.kind == TUNNEL_EV_EVIDENCE) {
            f->evidence++;
            tunnel_channel_verdict(f->ch, now_ms(), "ok", 5000000000, 1000);
        } else if (e.kind == TUNNEL_EV_JUDGED) {
            strcpy(f->verdict, e.code);
        } else if (e.kind == TUNNEL_EV_OPEN) {
            f->open = true;
        } else if (e.kind == TUNNEL_EV_ASK) {
            writer_bytes(&f->text, e.body);
            ck_assert(tunnel_channel_grant(f->ch, span_str("a grant")));
        } else if (e.kind == TUNNEL_EV_STATS) {
            f->stats = span_is(e.body, "stats");
        } else if (e.kind == TUNNEL_EV_STREAM) {
            far_stream(f, &e.stream);
        } else if (e.kind == TUNNEL_EV_GOAWAY) {
            f->goaway = true;
        } else if (e.kind == TUNNEL_EV_CLOSED) {
            f->closed = true;
            f->open = false;
            strcpy(f->code, e.code);
        }
    }
}

static void far_turn(struct rig *r, struct far *f)
{
    static uint8_t buffer[1 << 16];
    far_accept(r, f);
    if (!f->ch)
        return;
    ssize_t n = read(f->fd, buffer, sizeof buffer);
    if (n > 0)
        tunnel_channel_feed(f->ch, now_ms(), span_of(buffer, (size_t)n));
    if (n == 0)
        tunnel_channel_lost(f->ch);
    tunnel_channel_tick(f->ch, now_ms());
    far_events(f);
    struct span out = tunnel_channel_output(f->ch, now_ms());
    n = out.len ? send(f->fd, out.data, out.len, MSG_NOSIGNAL) : 0;
    if (n > 0)
        tunnel_channel_sent(f->ch, (size_t)n);
}

/* --- the engine -------------------------------------------------------------------------------------------------- */

static void engine_stream(struct rig *r, const struct tunnel_mux_event *e)
{
    struct tunnel_mux *m = tunnel_link_mux(r->link);
    if (e->kind == TUNNEL_MUX_CANCEL) {
        r->cancels++;
        tunnel_mux_abort(m, e->stream, "");
    }
    if (e->kind != TUNNEL_MUX_DATA)
        return;
    r->stream = e->stream;
    r->data += e->frame.body.len;
    r->whole = !(e->frame.flags & TUNNEL_FRAME_MORE);
    if (!r->hold)
        tunnel_mux_consumed(m, e->stream, e->cost);
}

static void engine_turn(struct rig *r)
{
    struct tunnel_link_event e;
    if (!r->link)
        return;
    tunnel_link_pump(r->link, now_ms());
    while (tunnel_link_event(r->link, &e)) {
        if (e.kind == TUNNEL_LINK_PEER && e.peer.keyd)
            r->keyd_up = e.peer.up;
        else if (e.kind == TUNNEL_LINK_PEER)
            r->proxy_up = e.peer.up, r->proxy_ups += e.peer.up;
        else if (e.kind == TUNNEL_LINK_GRANT)
            writer_bytes(&r->grant, e.body);
        else if (e.kind == TUNNEL_LINK_STREAM)
            engine_stream(r, &e.stream);
    }
    tunnel_link_pump(r->link, now_ms());
}

static void engine_say(struct rig *r, uint8_t flags, const char *text)
{
    struct tunnel_frame f = {TUNNEL_FRAME_EVENT, flags, r->stream, span_str(text)};
    ck_assert(tunnel_mux_send(tunnel_link_mux(r->link), &f));
}

static void turn(struct rig *r)
{
    engine_turn(r);
    far_turn(r, &r->proxy);
    far_turn(r, &r->keyd);
    int status;
    if (r->status < 0 && waitpid(r->child, &status, WNOHANG) == r->child)
        r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    usleep(300);
}

#define UNTIL(r, ms, done)                                                                                             \
    do {                                                                                                               \
        uint64_t end_ms = now_ms() + (ms);                                                                             \
        while (!(done)) {                                                                                              \
            turn(r);                                                                                                   \
            ck_assert_msg(now_ms() < end_ms, "not within %d ms: %s", (int)(ms), #done);                                \
        }                                                                                                              \
    } while (0)

static void give_rules(struct rig *r)
{
    struct tunnel_rules rules = {.policy = span_str("policy"), .now = 1800000000};
    ck_assert(tunnel_link_rules(r->link, &rules));
}

static struct rig *rig_open(bool rules)
{
    struct rig *r = calloc(1, sizeof *r);
    static const char *const names[] = {"program"}, *const paths[] = {"/proc/self/exe"};
    struct attester_config a = {.role = VERIFIER_ENGINE,
                                .program = "airlock-engine",
                                .version = "0",
                                .config_text = span_str("a = 1;"),
                                .kernels = "ref",
                                .producer = attester_producer(),
                                .device = {.names = names, .paths = paths, .count = 1},
                                .no_sandbox = true};
    char why[256];
    int fds[2];
    r->status = -1;
    r->grant = writer_with_max(1000);
    ck_assert_msg(attester_fork(&a, &r->attester, why) == 0, "%s", why);
    r->tls = tunnel_tls_open();
    far_listen(&r->proxy, false);
    far_listen(&r->keyd, true);
    ck_assert_int_eq(tunnel_link_pair(fds), 0);
    r->child = fork();
    if (r->child == 0) {
        static struct dial_config c = {.proxy_count = 1, .keyd_count = 1};
        close(fds[0]);
        close(r->attester.owner_fd);
        snprintf(c.proxy[0], sizeof c.proxy[0], "127.0.0.1:%u", r->proxy.port);
        snprintf(c.keyd[0], sizeof c.keyd[0], "127.0.0.1:%u", r->keyd.port);
        close(r->proxy.listener);
        close(r->keyd.listener);
        c.link_fd = fds[1];
        c.attester_fd = r->attester.peer_fd;
        c.judge = (struct dial_judge){.rules = take_rules, .judge = judge};
        struct dial *d = dial_open(&c, why);
        _exit(d ? dial_run(d) : 99);
    }
    close(fds[1]);
    r->link = tunnel_link_open(fds[0], true, now_ms());
    if (rules)
        give_rules(r);
    return r;
}

static void rig_close(struct rig *r)
{
    if (r->status < 0) {
        kill(r->child, SIGKILL);
        waitpid(r->child, NULL, 0);
    }
    tunnel_link_close(r->link);
    far_hang_up(&r->proxy);
    far_hang_up(&r->keyd);
    close(r->proxy.listener);
    close(r->keyd.listener);
    writer_release(&r->proxy.text);
    writer_release(&r->keyd.text);
    writer_release(&r->grant);
    tunnel_tls_close(r->tls);
    attester_end(&r->attester);
    free(r);
}

static uint32_t ask(struct rig *r, uint8_t kind, const char *text)
{
    struct tunnel_mux *m = tunnel_channel_mux(r->proxy.ch);
    uint32_t id = tunnel_mux_start(m, NULL);
    r->whole = false;
    writer_reset(&r->proxy.text);
    r->proxy.ended[0] = 0;
    ck_assert(id && tunnel_mux_send(m, &(struct tunnel_frame){kind, 0, id, span_str(text)}));
    return id;
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

START_TEST(proxies_wait_for_rules_and_keyd_does_not)
{
    struct rig *r = rig_open(false);
    UNTIL(r, 5000, r->keyd.open && r->keyd_up);
    for (int i = 0; i < 300; i++)
        turn(r);
    ck_assert_uint_eq(r->proxy.accepted, 0);
    give_rules(r);
    UNTIL(r, 5000, r->proxy.open && r->proxy_up);
    ck_assert_uint_eq(r->proxy.evidence, 1);
    ck_assert_str_eq(r->proxy.verdict, "ok");
    rig_close(r);
}
END_TEST

START_TEST(questions_to_keyd_and_grants_are_carried)
{
    struct rig *r = rig_open(false);
    ck_assert(tunnel_link_ask(r->link, 0, span_str("a question"))); /* before keyd is there: it waits */
    UNTIL(r, 5000, r->grant.len > 0);
    ck_assert(span_is(writer_span(&r->keyd.text), "a question"));
    ck_assert(span_is(writer_span(&r->grant), "a grant"));
    far_hang_up(&r->keyd);
    UNTIL(r, 5000, !r->keyd_up);
    UNTIL(r, 5000, r->keyd_up);
    ck_assert(tunnel_link_ask(r->link, 0, span_str(" again")));
    UNTIL(r, 5000, r->grant.len == 14);
    rig_close(r);
}
END_TEST

START_TEST(streams_are_relayed_both_ways)
{
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    ck_assert(tunnel_link_stats(r->link, span_str("stats")));
    for (int i = 0; i < 3; i++) {
        ask(r, TUNNEL_FRAME_REQUEST, "question");
        UNTIL(r, 5000, r->whole);
        engine_say(r, 0, "one ");
        engine_say(r, TUNNEL_FRAME_END, "two");
        UNTIL(r, 5000, r->proxy.ended[0]);
        ck_assert_str_eq(r->proxy.ended, "end");
        ck_assert(span_is(writer_span(&r->proxy.text), "one two"));
    }
    ck_assert_uint_eq(r->data, 24);
    UNTIL(r, 5000, r->proxy.stats);
    rig_close(r);
}
END_TEST

START_TEST(a_slow_engine_stops_the_proxy_and_both_go_on)
{
    static uint8_t piece[10000];
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    struct tunnel_mux *m = tunnel_channel_mux(r->proxy.ch);
    struct tunnel_frame f = {TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, 0, span_of(piece, sizeof piece)};
    size_t sent = 0;
    f.stream = tunnel_mux_start(m, NULL);
    r->hold = true;
    for (int i = 0; i < 1500; i++) {
        while (tunnel_mux_room(m, f.stream) >= sizeof piece && tunnel_mux_send(m, &f))
            sent += sizeof piece;
        turn(r);
    }
    ck_assert_uint_le(r->data, TUNNEL_STREAM_WINDOW);
    ck_assert_uint_le(sent, 3 * TUNNEL_STREAM_WINDOW); /* engine, tunnel and our own queue */
    r->hold = false;
    tunnel_mux_consumed(tunnel_link_mux(r->link), r->stream, TUNNEL_STREAM_WINDOW);
    UNTIL(r, 5000, r->data == sent);
    rig_close(r);
}
END_TEST

START_TEST(cancel_and_codes_cross)
{
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    uint32_t id = ask(r, TUNNEL_FRAME_REQUEST, "x");
    UNTIL(r, 5000, r->whole);
    tunnel_mux_abort(tunnel_channel_mux(r->proxy.ch), id, "client_gone");
    UNTIL(r, 5000, r->cancels == 1 && r->proxy.ended[0]);
    ck_assert_str_eq(r->proxy.ended, "cancelled");
    ask(r, TUNNEL_FRAME_REQUEST, "x");
    UNTIL(r, 5000, r->whole);
    tunnel_mux_abort(tunnel_link_mux(r->link), r->stream, "no_memory");
    UNTIL(r, 5000, r->proxy.ended[0]);
    ck_assert_str_eq(r->proxy.ended, "no_memory");
    ask(r, TUNNEL_FRAME_QUOTE, "not a challenge"); /* the attester's word, not the engine's */
    UNTIL(r, 5000, r->proxy.ended[0]);
    ck_assert_str_eq(r->proxy.ended, attester_err_name(ATTESTER_E_CHALLENGE));
    rig_close(r);
}
END_TEST

START_TEST(a_lost_proxy_is_dialled_again_and_its_streams_cancelled)
{
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    ask(r, TUNNEL_FRAME_REQUEST, "x");
    UNTIL(r, 5000, r->whole);
    far_hang_up(&r->proxy);
    UNTIL(r, 5000, r->cancels == 1 && !r->proxy_up);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    ck_assert_uint_eq(r->proxy.accepted, 2);
    ask(r, TUNNEL_FRAME_REQUEST, "y");
    UNTIL(r, 5000, r->whole);
    rig_close(r);
}
END_TEST

START_TEST(a_proxy_that_is_not_accepted_gets_a_code_and_no_engine)
{
    struct rig *r = rig_open(true);
    r->proxy.envelope = "bad";
    UNTIL(r, 5000, r->proxy.closed);
    ck_assert_str_eq(r->proxy.verdict, "measurement_not_accepted");
    ck_assert_uint_eq(r->proxy_ups, 0);
    r->proxy.envelope = "good";
    UNTIL(r, 5000, r->proxy_up);
    rig_close(r);
}
END_TEST

START_TEST(the_death_of_the_engine_ends_the_tunnel)
{
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    ask(r, TUNNEL_FRAME_REQUEST, "x");
    UNTIL(r, 5000, r->whole);
    if (_i == 0) {
        tunnel_link_close(r->link);
        r->link = NULL;
        UNTIL(r, 1000, r->proxy.closed && r->status >= 0);
    } else { /* frozen: nobody pumps the engine's end */
        struct tunnel_link *frozen = r->link;
        uint64_t at = now_ms();
        r->link = NULL;
        UNTIL(r, 5000, r->proxy.closed && r->status >= 0);
        ck_assert_uint_le(now_ms() - at, TUNNEL_LINK_DEAD_MS + 500);
        r->link = frozen;
    }
    ck_assert_str_eq(r->proxy.ended, _i == 0 ? "closed" : "frozen");
    ck_assert_int_eq(r->status, _i);
    rig_close(r);
}
END_TEST

START_TEST(the_death_of_the_attester_ends_the_tunnel)
{
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    kill(r->attester.pid, SIGKILL);
    UNTIL(r, 5000, r->status == 1 && r->proxy.closed);
    rig_close(r);
}
END_TEST

START_TEST(drain_lets_the_running_stream_end)
{
    struct rig *r = rig_open(true);
    UNTIL(r, 5000, r->proxy_up && r->proxy.open);
    ask(r, TUNNEL_FRAME_REQUEST, "x");
    UNTIL(r, 5000, r->whole);
    tunnel_link_drain(r->link);
    UNTIL(r, 5000, r->proxy.goaway);
    ck_assert_int_eq(r->status, -1);
    engine_say(r, TUNNEL_FRAME_END, "last words");
    UNTIL(r, 5000, r->status >= 0 && r->proxy.closed);
    ck_assert_int_eq(r->status, 0);
    ck_assert_str_eq(r->proxy.ended, "end");
    ck_assert(span_is(writer_span(&r->proxy.text), "last words"));
    rig_close(r);
}
END_TEST

static const struct {
    const char *text, *host; /* NULL: refused */
    uint16_t port;
} addresses[] = {
    {"proxy.example:9000", "proxy.example", 9000},
    {"10.0.0.1:1", "10.0.0.1", 1},
    {"[::1]:65535", "::1", 65535},
    {"::1:9000", NULL, 0},
    {"proxy.example", NULL, 0},
    {"proxy.example:", NULL, 0},
    {"proxy.example:0", NULL, 0},
    {"proxy.example:65536", NULL, 0},
    {"proxy.example:90x", NULL, 0},
    {"proxy.example:+90", NULL, 0},
    {":9000", NULL, 0},
    {"[]:9000", NULL, 0},
    {"pro xy:9000", NULL, 0},
    {"pro\"xy:9000", NULL, 0},
};

START_TEST(addresses_are_host_and_port)
{
    char host[256];
    uint16_t port = 0;
    bool good = tunnel_address_split(addresses[_i].text, host, &port);
    ck_assert_msg(good == (addresses[_i].host != NULL), "%s", addresses[_i].text);
    if (good)
        ck_assert(strcmp(host, addresses[_i].host) == 0 && port == addresses[_i].port);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, proxies_wait_for_rules_and_keyd_does_not);
    tcase_add_test(t, questions_to_keyd_and_grants_are_carried);
    tcase_add_test(t, streams_are_relayed_both_ways);
    tcase_add_test(t, a_slow_engine_stops_the_proxy_and_both_go_on);
    tcase_add_test(t, cancel_and_codes_cross);
    tcase_add_test(t, a_lost_proxy_is_dialled_again_and_its_streams_cancelled);
    tcase_add_test(t, a_proxy_that_is_not_accepted_gets_a_code_and_no_engine);
    tcase_add_loop_test(t, the_death_of_the_engine_ends_the_tunnel, 0, 2);
    tcase_add_test(t, the_death_of_the_attester_ends_the_tunnel);
    tcase_add_test(t, drain_lets_the_running_stream_end);
    tcase_add_loop_test(t, addresses_are_host_and_port, 0, (int)(sizeof addresses / sizeof *addresses));
}

RUN("dial_tunnel", add_tests)
