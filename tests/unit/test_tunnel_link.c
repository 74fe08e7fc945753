/* Does the pair between engine and tunnel carry streams and control both ways, and does each end see the other die? */
#include "tunnel/link.h"
#include "unit/run.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct rig {
    struct tunnel_link *engine, *tunnel;
    int fds[2];
};
static uint64_t clock_ms;

static struct rig rig_open(void)
{
    struct rig r;
    ck_assert_int_eq(tunnel_link_pair(r.fds), 0);
    r.engine = tunnel_link_open(r.fds[0], true, clock_ms);
    r.tunnel = tunnel_link_open(r.fds[1], false, clock_ms);
    return r;
}
static void rig_close(struct rig *r)
{
    tunnel_link_close(r->engine);
    tunnel_link_close(r->tunnel);
}
static void pump(struct rig *r)
{
    for (int i = 0; i < 4; i++) {
        tunnel_link_pump(r->engine, clock_ms);
        tunnel_link_pump(r->tunnel, clock_ms);
    }
}
static struct tunnel_link_event want(struct tunnel_link *l, enum tunnel_link_kind kind)
{
    struct tunnel_link_event e;
    do
        tunnel_link_event(l, &e);
    while (e.kind == TUNNEL_LINK_STREAM && e.stream.kind == TUNNEL_MUX_WRITABLE);
    ck_assert_int_eq(e.kind, kind);
    return e;
}

START_TEST(a_request_an_answer_and_control)
{
    static uint8_t policy[200000], grant[300000];
    struct rig r = rig_open();
    memset(policy, 'p', sizeof policy);
    memset(grant, 'g', sizeof grant);
    struct tunnel_rules rules = {span_of(policy, sizeof policy), span_str("revoked"), 1800000000};
    struct tunnel_peer peer = {.index = 3, .up = true, .name = span_str("10.0.0.1:9000"), .code = span_str("ok")};
    ck_assert(tunnel_link_rules(r.engine, &rules));
    ck_assert(tunnel_link_ask(r.engine, 1, span_str("ask")));
    ck_assert(tunnel_link_peer(r.tunnel, &peer));
    ck_assert(tunnel_link_grant(r.tunnel, 1, span_of(grant, sizeof grant)));
    pump(&r);
    struct tunnel_link_event e = want(r.tunnel, TUNNEL_LINK_RULES);
    ck_assert(span_equal(e.rules.policy, rules.policy) && span_equal(e.rules.revocations, rules.revocations));
    ck_assert_uint_eq(e.rules.now, rules.now);
    e = want(r.tunnel, TUNNEL_LINK_ASK);
    ck_assert(e.keyd == 1 && span_is(e.body, "ask"));
    e = want(r.engine, TUNNEL_LINK_PEER);
    ck_assert(!e.peer.keyd && e.peer.index == 3 && e.peer.up && span_is(e.peer.name, "10.0.0.1:9000"));
    e = want(r.engine, TUNNEL_LINK_GRANT);
    ck_assert(e.keyd == 1 && span_equal(e.body, span_of(grant, sizeof grant)));

    uint32_t id = tunnel_mux_start(tunnel_link_mux(r.tunnel), &r);
    ck_assert(tunnel_mux_send(tunnel_link_mux(r.tunnel),
                              &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, 0, id, span_str("hello")}));
    pump(&r);
    e = want(r.engine, TUNNEL_LINK_STREAM);
    ck_assert(e.stream.kind == TUNNEL_MUX_DATA && span_is(e.stream.frame.body, "hello"));
    ck_assert(tunnel_mux_send(tunnel_link_mux(r.engine),
                              &(struct tunnel_frame){TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, id, span_str("world")}));
    pump(&r);
    e = want(r.tunnel, TUNNEL_LINK_STREAM);
    ck_assert(e.stream.kind == TUNNEL_MUX_DATA && span_is(e.stream.frame.body, "world"));
    ck_assert_int_eq(want(r.tunnel, TUNNEL_LINK_STREAM).stream.kind, TUNNEL_MUX_ENDED);
    rig_close(&r);
}
END_TEST

START_TEST(a_full_socket_loses_nothing)
{
    static uint8_t body[TUNNEL_FRAME_BODY_MAX];
    struct rig r = rig_open();
    size_t came = 0;
    struct tunnel_mux *m = tunnel_link_mux(r.tunnel);
    for (uint32_t id = 1; id <= 20; id++) {
        ck_assert_uint_eq(tunnel_mux_start(m, NULL), id);
        for (int i = 0; i < 3; i++)
            ck_assert(tunnel_mux_send(m, &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, i < 2 ? TUNNEL_FRAME_MORE : 0, id,
                                                                span_of(body, sizeof body)}));
    }
    for (int i = 0; i < 5; i++)
        tunnel_link_pump(r.tunnel, clock_ms); /* until the socket is full */
    ck_assert_int_eq(tunnel_link_wants(r.tunnel), POLLIN | POLLOUT);
    pump(&r);
    pump(&r);
    struct tunnel_link_event e;
    while (tunnel_link_event(r.engine, &e))
        came += e.stream.kind == TUNNEL_MUX_DATA;
    ck_assert_uint_eq(came, 60);
    ck_assert_int_eq(tunnel_link_wants(r.tunnel), POLLIN);
    rig_close(&r);
}
END_TEST

START_TEST(silence_of_three_seconds_is_death_and_a_beat_is_not)
{
    struct rig r = rig_open();
    clock_ms += 60000;
    tunnel_link_pump(r.tunnel, clock_ms); /* the engine still starts: not heard yet, not dead */
    ck_assert(!tunnel_link_is_closed(r.tunnel));
    for (int i = 0; i < 10; i++) {
        clock_ms += TUNNEL_LINK_BEAT_MS;
        pump(&r);
    }
    ck_assert(!tunnel_link_is_closed(r.tunnel) && !tunnel_link_is_closed(r.engine));
    uint32_t id = tunnel_mux_start(tunnel_link_mux(r.tunnel), &r);
    ck_assert_uint_eq(id, 1);
    for (int i = 0; i < 3; i++) { /* the engine is frozen */
        clock_ms += TUNNEL_LINK_BEAT_MS;
        tunnel_link_pump(r.tunnel, clock_ms);
    }
    struct tunnel_link_event e = want(r.tunnel, TUNNEL_LINK_STREAM);
    ck_assert(e.stream.kind == TUNNEL_MUX_ENDED);
    ck_assert_str_eq(e.stream.code, "frozen");
    ck_assert_int_eq(want(r.tunnel, TUNNEL_LINK_CLOSED).why, TUNNEL_E_FROZEN);
    tunnel_link_pump(r.engine, clock_ms); /* who slept itself reads before it judges */
    ck_assert(!tunnel_link_is_closed(r.engine));
    rig_close(&r);
}
END_TEST

START_TEST(the_death_of_a_process_is_seen_at_once)
{
    int fds[2];
    ck_assert_int_eq(tunnel_link_pair(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        pause();
        _exit(0);
    }
    close(fds[1]);
    struct tunnel_link *l = tunnel_link_open(fds[0], true, clock_ms);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    tunnel_link_pump(l, clock_ms);
    ck_assert_int_eq(want(l, TUNNEL_LINK_CLOSED).why, TUNNEL_E_CLOSED);
    ck_assert(!tunnel_link_ask(l, 0, span_str("x")));
    tunnel_link_close(l);
}
END_TEST

START_TEST(drain_is_heard)
{
    struct rig r = rig_open();
    tunnel_link_drain(r.engine);
    pump(&r);
    want(r.tunnel, TUNNEL_LINK_DRAIN);
    ck_assert_uint_eq(tunnel_mux_start(tunnel_link_mux(r.tunnel), NULL), 0);
    rig_close(&r);
}
END_TEST

static const struct {
    const char *name, *record;
    size_t len;
    bool to_engine;
    enum tunnel_err why;
} hostile[] = {
    {"half a frame", "\0\0\0\4\20\0\0\0\0\0\0\1ab", 14, true, TUNNEL_E_FRAME_BODY},
    {"two frames", "\0\0\0\0\40\0\0\0\0\0\0\0\0\0\0\0\40\0\0\0\0\0\0\0", 24, true, TUNNEL_E_FRAME_BODY},
    {"unknown kind", "\0\0\0\0\77\0\0\0\0\0\0\0", 12, true, TUNNEL_E_FRAME_KIND},
    {"rules for the engine", "\0\0\0\1\42\0\0\0\0\0\0\0x", 13, true, TUNNEL_E_FRAME_KIND},
    {"a challenge", "\0\0\0\1\1\0\0\0\0\0\0\0x", 13, true, TUNNEL_E_FRAME_KIND},
    {"peer that is none", "\0\0\0\1\41\0\0\0\0\0\0\0x", 13, true, TUNNEL_E_FRAME_BODY},
    {"grant for the tunnel", "\0\0\0\2\10\0\0\0\0\0\0\0\0x", 14, false, TUNNEL_E_FRAME_KIND},
    {"keyd number 8", "\0\0\0\2\7\0\0\0\0\0\0\0\10x", 14, false, TUNNEL_E_FRAME_BODY},
    {"rules that are none", "\0\0\0\1\42\0\0\0\0\0\0\0x", 13, false, TUNNEL_E_FRAME_BODY},
    {"an event out of nothing", "\0\0\0\1\23\0\0\0\0\0\0\1x", 13, false, TUNNEL_E_STREAM_ID},
};

START_TEST(a_hostile_end_is_cut_off)
{
    struct rig r = rig_open();
    struct tunnel_link *victim = hostile[_i].to_engine ? r.engine : r.tunnel;
    int from = r.fds[hostile[_i].to_engine ? 1 : 0];
    ck_assert_int_eq(write(from, hostile[_i].record, hostile[_i].len), (ssize_t)hostile[_i].len);
    tunnel_link_pump(victim, clock_ms);
    struct tunnel_link_event e = want(victim, TUNNEL_LINK_CLOSED);
    ck_assert_msg(e.why == hostile[_i].why, "%s: %s", hostile[_i].name, tunnel_err_name(e.why));
    rig_close(&r);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_request_an_answer_and_control);
    tcase_add_test(t, a_full_socket_loses_nothing);
    tcase_add_test(t, silence_of_three_seconds_is_death_and_a_beat_is_not);
    tcase_add_test(t, the_death_of_a_process_is_seen_at_once);
    tcase_add_test(t, drain_is_heard);
    tcase_add_loop_test(t, a_hostile_end_is_cut_off, 0, (int)(sizeof hostile / sizeof *hostile));
}

RUN("tunnel_link", add_tests)
