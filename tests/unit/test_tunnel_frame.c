/* Are frames refused from the header alone, each fault with its own reason, and does the rest round-trip? */
#include "tunnel/frame.h"
#include "unit/run.h"

static const struct {
    const char *name;
    uint32_t len;
    uint8_t kind, flags;
    uint16_t zero;
    uint32_t stream;
    int want; /* 0: wait for the body */
} headers[] = {
    {"request", 100, TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_MORE, 0, 7, 0},
    {"largest", TUNNEL_FRAME_BODY_MAX, TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, 0, UINT32_MAX, 0},
    {"one too long", TUNNEL_FRAME_BODY_MAX + 1, TUNNEL_FRAME_EVENT, 0, 0, 7, TUNNEL_E_FRAME_LENGTH},
    {"4 GiB", UINT32_MAX, TUNNEL_FRAME_EVENT, 0, 0, 7, TUNNEL_E_FRAME_LENGTH},
    {"kind 0", 1, 0, 0, 0, 0, TUNNEL_E_FRAME_KIND},
    {"kind between", 1, 10, 0, 0, 0, TUNNEL_E_FRAME_KIND},
    {"kind 255", 1, 255, 0, 0, 0, TUNNEL_E_FRAME_KIND},
    {"unknown flag", 1, TUNNEL_FRAME_EVENT, 4, 0, 7, TUNNEL_E_FRAME_FLAGS},
    {"end of a request", 1, TUNNEL_FRAME_REQUEST, TUNNEL_FRAME_END, 0, 7, TUNNEL_E_FRAME_FLAGS},
    {"more and end", 1, TUNNEL_FRAME_EVENT, 3, 0, 7, TUNNEL_E_FRAME_FLAGS},
    {"reserved", 1, TUNNEL_FRAME_EVENT, 0, 1, 7, TUNNEL_E_FRAME_RESERVED},
    {"request on 0", 1, TUNNEL_FRAME_REQUEST, 0, 0, 0, TUNNEL_E_FRAME_STREAM},
    {"challenge on 1", 1, TUNNEL_FRAME_CHALLENGE, 0, 0, 1, TUNNEL_E_FRAME_STREAM},
    {"heartbeat on 1", 0, TUNNEL_FRAME_HEARTBEAT, 0, 0, 1, TUNNEL_E_FRAME_STREAM},
    {"long challenge", 4097, TUNNEL_FRAME_CHALLENGE, 0, 0, 0, TUNNEL_E_FRAME_BODY},
    {"short ping", 7, TUNNEL_FRAME_PING, 0, 0, 0, TUNNEL_E_FRAME_BODY},
    {"empty request", 0, TUNNEL_FRAME_REQUEST, 0, 0, 1, TUNNEL_E_FRAME_BODY},
    {"long code", 64, TUNNEL_FRAME_CANCEL, 0, 0, 1, TUNNEL_E_FRAME_BODY},
};

START_TEST(headers_are_judged_before_their_body_comes)
{
    struct writer w = writer_with_max(64);
    writer_u32be(&w, headers[_i].len);
    writer_u8(&w, headers[_i].kind);
    writer_u8(&w, headers[_i].flags);
    writer_u16be(&w, headers[_i].zero);
    writer_u32be(&w, headers[_i].stream);
    struct tunnel_frame f;
    ssize_t got = tunnel_frame_decode(&f, writer_span(&w));
    ck_assert_msg(got == -headers[_i].want, "%s: %s", headers[_i].name, tunnel_err_name((enum tunnel_err) - got));
    for (size_t cut = 0; cut < TUNNEL_FRAME_HEADER; cut++)
        ck_assert_int_eq(tunnel_frame_decode(&f, span_of(w.data, cut)), 0);
    writer_release(&w);
}
END_TEST

START_TEST(frames_round_trip_and_wait_for_their_last_byte)
{
    static uint8_t body[TUNNEL_FRAME_BODY_MAX];
    memset(body, 'b', sizeof body);
    struct tunnel_frame in = {TUNNEL_FRAME_EVENT, TUNNEL_FRAME_END, 0x01020304, span_of(body, sizeof body)}, out;
    struct writer w = writer_with_max(TUNNEL_FRAME_MAX + 1);
    tunnel_frame_encode(&w, &in);
    ck_assert_int_eq(tunnel_frame_decode(&out, span_of(w.data, w.len - 1)), 0);
    writer_u8(&w, 0); /* the next frame's first byte stays */
    ck_assert_int_eq(tunnel_frame_decode(&out, writer_span(&w)), TUNNEL_FRAME_MAX);
    ck_assert_uint_eq(out.stream, 0x01020304);
    ck_assert_uint_eq(out.flags, TUNNEL_FRAME_END);
    ck_assert(span_equal(in.body, out.body));
    writer_release(&w);
}
END_TEST

START_TEST(bodies_of_the_wrong_form)
{
    struct tunnel_frame f;
    ck_assert_int_eq(tunnel_frame_decode(&f, span_of("\0\0\0\2\25\0\0\0\0\0\0\1A\n", 14)), -TUNNEL_E_FRAME_BODY);
    ck_assert_int_eq(tunnel_frame_decode(&f, span_of("\0\0\0\4\24\0\0\0\0\0\0\1\0\0\0\0", 16)), -TUNNEL_E_FRAME_BODY);
    ck_assert_int_eq(tunnel_frame_decode(&f, span_of("\0\0\0\4\24\0\0\0\0\0\0\1\0\0\0\1", 16)), 16);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, headers_are_judged_before_their_body_comes, 0, (int)(sizeof headers / sizeof *headers));
    tcase_add_test(t, frames_round_trip_and_wait_for_their_last_byte);
    tcase_add_test(t, bodies_of_the_wrong_form);
}

RUN("tunnel_frame", add_tests)
