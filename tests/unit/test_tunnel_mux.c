/* Do streams share a connection fairly, within their credit, and does each end exactly once, whatever happens? */
#include "tunnel/mux.h"
#include "unit/run.h"

struct pair {
    struct tunnel_mux *ask, *say; /* opener, answerer */
};

static struct pair pair_open(void)
{
    return (struct pair){tunnel_mux_open(true), tunnel_mux_open(false)};
}
static void pair_close(struct pair *p)
{
    tunnel_mux_close(p->ask);
    tunnel_mux_close(p->say);
}

/* Carry up to `max` frames over; returns how many went. */
static size_t carry(struct tunnel_mux *from, struct tunnel_mux *to, size_t max)
{
    struct tunnel_frame f;
    size_t n = 0;
    while (n < max && tunnel_mux_next(from, &f)) {
        ck_assert_int_eq(tunnel_mux_take(to, &f), TUNNEL_OK);
        n++;
    }
    return n;
}
static bool put(struct tunnel_mux *m, uint32_t id, uint8_t kind, uint8_t flags, const char *text)
{
    return tunnel_mux_send(m,
                           &(struct tunnel_frame){.kind = kind, .flags = flags, .stream = id, .body = span_str(text)});
}
static struct tunnel_mux_event want(struct tunnel_mux *m, enum tunnel_mux_kind kind)
{
    struct tunnel_mux_event e;
    do
        tunnel_mux_event(m, &e);
    while (e.kind == TUNNEL_MUX_WRITABLE && kind != e.kind);
    ck_assert_int_eq(e.kind, kind);
    return e;
}

START_TEST(a_request_and_its_answer)
{
    struct pair p = pair_open();
    uint32_t id = tunnel_mux_start(p.ask, &p);
    ck_assert_uint_eq(id, 1);
    ck_assert(put(p.ask, id, TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, "hel"));
    ck_assert(put(p.ask, id, TUNNEL_FRAME_REQUEST, 0, "lo"));
    ck_assert(!put(p.ask, id, TUNNEL_FRAME_REQUEST, 0, "more after the last"));
    ck_assert_uint_eq(carry(p.ask, p.say, 9), 2);
    struct tunnel_mux_event e = want(p.say, TUNNEL_MUX_DATA);
    ck_assert(span_is(e.frame.body, "hel"));
    ck_assert_uint_eq(e.cost, 15);
    e = want(p.say, TUNNEL_MUX_DATA);
    ck_assert(span_is(e.frame.body, "lo") && !(e.frame.flags & TUNNEL_FRAME_MORE));
    ck_assert(put(p.say, id, TUNNEL_FRAME_EVENT, 0, "one"));
    ck_assert(put(p.say, id, TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, "two"));
    ck_assert(!put(p.say, id, TUNNEL_FRAME_EVENT, 0, "three"));
    ck_assert_uint_eq(carry(p.say, p.ask, 9), 2);
    ck_assert_uint_eq(tunnel_mux_streams(p.say), 0);
    ck_assert_ptr_eq(tunnel_mux_tag(p.ask, id), &p);
    ck_assert(span_is(want(p.ask, TUNNEL_MUX_DATA).frame.body, "one"));
    ck_assert(span_is(want(p.ask, TUNNEL_MUX_DATA).frame.body, "two"));
    ck_assert_str_eq(want(p.ask, TUNNEL_MUX_ENDED).code, "");
    ck_assert_uint_eq(tunnel_mux_streams(p.ask), 0);
    want(p.ask, TUNNEL_MUX_NOTHING);
    pair_close(&p);
}
END_TEST

START_TEST(a_reader_that_stops_stops_its_writer_and_nobody_else)
{
    static char big[TUNNEL_FRAME_BODY_MAX + 1];
    struct pair p = pair_open();
    uint32_t slow = tunnel_mux_start(p.ask, NULL), quick = tunnel_mux_start(p.ask, NULL);
    memset(big, 'x', sizeof big - 1);
    ck_assert(put(p.ask, slow, TUNNEL_FRAME_REQUEST, 0, "a") && put(p.ask, quick, TUNNEL_FRAME_REQUEST, 0, "b"));
    carry(p.ask, p.say, 9);
    while (tunnel_mux_room(p.say, slow) == TUNNEL_FRAME_BODY_MAX)
        ck_assert(put(p.say, slow, TUNNEL_FRAME_EVENT, 0, big));
    size_t queued = carry(p.say, p.ask, 99); /* all of the window */
    ck_assert_uint_eq(queued, TUNNEL_STREAM_WINDOW / TUNNEL_FRAME_MAX);
    while (tunnel_mux_room(p.say, slow) == TUNNEL_FRAME_BODY_MAX)
        ck_assert(put(p.say, slow, TUNNEL_FRAME_EVENT, 0, big));
    ck_assert(put(p.say, quick, TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, "done"));
    ck_assert_uint_eq(carry(p.say, p.ask, 99), 1); /* the quick one passes, the slow one has no credit */
    for (size_t i = 0; i < queued; i++) {
        struct tunnel_mux_event e = want(p.ask, TUNNEL_MUX_DATA);
        tunnel_mux_consumed(p.ask, e.stream, e.cost);
    }
    ck_assert(span_is(want(p.ask, TUNNEL_MUX_DATA).frame.body, "done"));
    ck_assert_uint_ge(carry(p.ask, p.say, 99), 1); /* CREDIT */
    ck_assert_uint_eq(carry(p.say, p.ask, 99), queued);
    pair_close(&p);
}
END_TEST

START_TEST(streams_take_turns)
{
    struct pair p = pair_open();
    for (uint32_t id = 1; id <= 3; id++) {
        ck_assert_uint_eq(tunnel_mux_start(p.ask, NULL), id);
        ck_assert(put(p.ask, id, TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, "1"));
        ck_assert(put(p.ask, id, TUNNEL_FRAME_REQUEST, 0, "2"));
    }
    static const uint32_t order[] = {1, 2, 3, 1, 2, 3};
    struct tunnel_frame f;
    for (size_t i = 0; i < 6; i++) {
        ck_assert(tunnel_mux_next(p.ask, &f));
        ck_assert_uint_eq(f.stream, order[i]);
    }
    ck_assert(!tunnel_mux_next(p.ask, &f));
    pair_close(&p);
}
END_TEST

START_TEST(cancel_from_both_ends)
{
    struct pair p = pair_open();
    uint32_t unsent = tunnel_mux_start(p.ask, NULL), asked = tunnel_mux_start(p.ask, NULL);
    uint32_t refused = tunnel_mux_start(p.ask, NULL);
    ck_assert(put(p.ask, unsent, TUNNEL_FRAME_REQUEST, 0, "x"));
    tunnel_mux_abort(p.ask, unsent, "cancelled");
    ck_assert(put(p.ask, asked, TUNNEL_FRAME_REQUEST, 0, "x") && put(p.ask, refused, TUNNEL_FRAME_REQUEST, 0, "x"));
    carry(p.ask, p.say, 9);
    want(p.say, TUNNEL_MUX_DATA);
    want(p.say, TUNNEL_MUX_DATA);
    ck_assert(put(p.say, asked, TUNNEL_FRAME_EVENT, 0, "already on its way"));
    carry(p.say, p.ask, 9);
    tunnel_mux_abort(p.ask, asked, "client gone");
    tunnel_mux_abort(p.say, refused, "engine_unavailable");
    carry(p.ask, p.say, 9);
    struct tunnel_mux_event e = want(p.say, TUNNEL_MUX_CANCEL);
    ck_assert_uint_eq(e.stream, asked);
    ck_assert_str_eq(e.code, "client_gone");
    tunnel_mux_abort(p.say, asked, "");
    carry(p.say, p.ask, 9);
    ck_assert_str_eq(want(p.ask, TUNNEL_MUX_ENDED).code, "cancelled"); /* unsent */
    e = want(p.ask, TUNNEL_MUX_ENDED);
    ck_assert_uint_eq(e.stream, refused);
    ck_assert_str_eq(e.code, "engine_unavailable");
    e = want(p.ask, TUNNEL_MUX_ENDED);
    ck_assert_uint_eq(e.stream, asked);
    ck_assert_uint_eq(tunnel_mux_streams(p.ask) + tunnel_mux_streams(p.say), 0);
    pair_close(&p);
}
END_TEST

START_TEST(a_lost_connection_ends_every_stream_once)
{
    struct pair p = pair_open();
    for (uint32_t id = 1; id <= 2; id++)
        ck_assert(tunnel_mux_start(p.ask, NULL) == id && put(p.ask, id, TUNNEL_FRAME_REQUEST, 0, "x"));
    carry(p.ask, p.say, 9);
    ck_assert(put(p.say, 1, TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, "whole"));
    carry(p.say, p.ask, 9);
    tunnel_mux_fail(p.ask, "closed");
    ck_assert(span_is(want(p.ask, TUNNEL_MUX_DATA).frame.body, "whole"));
    ck_assert_str_eq(want(p.ask, TUNNEL_MUX_ENDED).code, "");
    ck_assert_str_eq(want(p.ask, TUNNEL_MUX_ENDED).code, "closed");
    want(p.ask, TUNNEL_MUX_NOTHING);
    ck_assert_uint_eq(tunnel_mux_start(p.ask, NULL), 0);
    pair_close(&p);
}
END_TEST

START_TEST(a_draining_answerer_turns_new_streams_away)
{
    struct pair p = pair_open();
    ck_assert_uint_eq(tunnel_mux_start(p.ask, NULL), 1);
    ck_assert(put(p.ask, 1, TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, "x"));
    ck_assert(put(p.ask, 1, TUNNEL_FRAME_REQUEST, 0, "y"));
    tunnel_mux_drain(p.say);
    carry(p.ask, p.say, 9);
    want(p.say, TUNNEL_MUX_NOTHING);
    carry(p.say, p.ask, 9);
    ck_assert_str_eq(want(p.ask, TUNNEL_MUX_ENDED).code, "going_away");
    pair_close(&p);
}
END_TEST

START_TEST(a_peer_that_breaks_the_rules)
{
    static char big[TUNNEL_FRAME_BODY_MAX];
    struct tunnel_frame request = {TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, 5, span_of(big, sizeof big)};
    struct tunnel_frame event = {TUNNEL_FRAME_EVENT, 0, 5, span_str("x")};
    struct tunnel_frame credit = {TUNNEL_FRAME_CREDIT, 0, 5, span_of("\0\0\0\1", 4)};
    struct pair p = pair_open();
    ck_assert_int_eq(tunnel_mux_take(p.ask, &event), TUNNEL_E_STREAM_ID);    /* answers what nobody asked */
    ck_assert_int_eq(tunnel_mux_take(p.ask, &request), TUNNEL_E_FRAME_KIND); /* the answerer opens */
    ck_assert_int_eq(tunnel_mux_take(p.say, &event), TUNNEL_E_FRAME_KIND);
    ck_assert_int_eq(tunnel_mux_take(p.say, &credit), TUNNEL_E_STREAM_ID);
    for (int i = 0; i < TUNNEL_STREAM_WINDOW / TUNNEL_FRAME_MAX; i++)
        ck_assert_int_eq(tunnel_mux_take(p.say, &request), TUNNEL_OK);
    ck_assert_int_eq(tunnel_mux_take(p.say, &credit), TUNNEL_E_STREAM_CREDIT);  /* more than the window */
    ck_assert_int_eq(tunnel_mux_take(p.say, &request), TUNNEL_E_STREAM_CREDIT); /* more than it may */
    struct pair q = pair_open();
    request.flags = 0;
    ck_assert_int_eq(tunnel_mux_take(q.say, &request), TUNNEL_OK);
    ck_assert_int_eq(tunnel_mux_take(q.say, &request), TUNNEL_E_FRAME_KIND); /* goes on after its last piece */
    pair_close(&p);
    pair_close(&q);
}
END_TEST

START_TEST(more_streams_than_allowed_are_turned_away_one_by_one)
{
    struct pair p = pair_open();
    struct tunnel_frame f = {TUNNEL_FRAME_REQUEST, 0, 0, span_str("x")};
    for (uint32_t id = 1; id <= TUNNEL_STREAMS_MAX + 3; id++) {
        f.stream = id;
        ck_assert_int_eq(tunnel_mux_take(p.say, &f), TUNNEL_OK);
    }
    ck_assert_uint_eq(tunnel_mux_streams(p.say), TUNNEL_STREAMS_MAX);
    for (int i = 0; i < 3; i++) {
        ck_assert(tunnel_mux_next(p.say, &f));
        ck_assert_uint_eq(f.kind, TUNNEL_FRAME_CANCEL);
        ck_assert(span_is(f.body, "stream_count"));
    }
    pair_close(&p);
}
END_TEST

/* Random walks: many streams, every call, frames carried a few at a time. In the end all streams are gone, both
 * windows are whole again, and each stream ended exactly once. */
START_TEST(random_walks_leave_nothing_behind)
{
    static char text[600];
    memset(text, 't', sizeof text - 1);
    unsigned seed = (unsigned)_i * 7919U + 1;
    struct pair p = pair_open();
    size_t started = 0, ended = 0;
    struct tunnel_mux_event e;
    for (int step = 0; step < 20000; step++) {
        bool quiet = step > 15000; /* let it run out */
        uint32_t top = (uint32_t)started, id = top ? (uint32_t)(rand_r(&seed) % (int)top) + 1 : 1;
        int what = rand_r(&seed) % 12;
        if (what == 0 && !quiet && tunnel_mux_start(p.ask, NULL))
            started++;
        else if (what < 3)
            (void)put(p.ask, id, TUNNEL_FRAME_REQUEST, rand_r(&seed) % 3 ? TUNNEL_FRAME_MORE : 0, text);
        else if (what < 5)
            (void)put(p.say, id, TUNNEL_FRAME_EVENT, rand_r(&seed) % 9 && !quiet ? 0 : TUNNEL_FRAME_END, text);
        else if (what == 5 && rand_r(&seed) % 9 == 0)
            tunnel_mux_abort(rand_r(&seed) % 2 ? p.ask : p.say, id, "x");
        else if (what < 8)
            carry(p.ask, p.say, 3);
        else if (what < 10)
            carry(p.say, p.ask, 3);
        else if (tunnel_mux_event(p.ask, &e) && (tunnel_mux_consumed(p.ask, e.stream, e.cost), true))
            ended += e.kind == TUNNEL_MUX_ENDED;
        if (tunnel_mux_event(p.say, &e)) {
            tunnel_mux_consumed(p.say, e.stream, e.cost);
            if (e.kind == TUNNEL_MUX_CANCEL)
                tunnel_mux_abort(p.say, e.stream, "");
        }
    }
    for (uint32_t id = 1; id <= started; id++)
        tunnel_mux_abort(p.ask, id, "x");
    for (int i = 0; i < 50; i++) {
        carry(p.ask, p.say, SIZE_MAX);
        while (tunnel_mux_event(p.say, &e))
            if (e.kind == TUNNEL_MUX_CANCEL)
                tunnel_mux_abort(p.say, e.stream, "");
        carry(p.say, p.ask, SIZE_MAX);
        while (tunnel_mux_event(p.ask, &e))
            ended += e.kind == TUNNEL_MUX_ENDED;
    }
    ck_assert_uint_eq(ended, started);
    ck_assert_uint_eq(tunnel_mux_streams(p.ask) + tunnel_mux_streams(p.say), 0);
    pair_close(&p);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_request_and_its_answer);
    tcase_add_test(t, a_reader_that_stops_stops_its_writer_and_nobody_else);
    tcase_add_test(t, streams_take_turns);
    tcase_add_test(t, cancel_from_both_ends);
    tcase_add_test(t, a_lost_connection_ends_every_stream_once);
    tcase_add_test(t, a_draining_answerer_turns_new_streams_away);
    tcase_add_test(t, a_peer_that_breaks_the_rules);
    tcase_add_test(t, more_streams_than_allowed_are_turned_away_one_by_one);
    tcase_add_loop_test(t, random_walks_leave_nothing_behind, 0, 8);
}

RUN("tunnel_mux", add_tests)
