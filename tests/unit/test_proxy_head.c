/* Request heads (proxy/head.h) and responses (proxy/response.h): what is refused, and under which name. */
#include <check.h>

#include "proxy/head.h"
#include "proxy/response.h"

#include "run.h"

#include <stdio.h>

#define R "POST /x HTTP/1.1\r\n"

static const struct {
    const char *name, *bytes;
    enum head_err want;
} heads[] = {
    {"plain", R "Host: a\r\n\r\n", HEAD_OK},
    {"length", R "Host: a\r\nContent-Length: 5\r\n\r\nhello", HEAD_OK},
    {"chunked", R "Host: a\r\nTransfer-Encoding: Chunked\r\n\r\n", HEAD_OK},
    {"1.0 without host", "GET / HTTP/1.0\r\n\r\n", HEAD_OK},
    {"empty line before", "\r\n" R "Host: a\r\n\r\n", HEAD_OK},
    {"unfinished", R "Host: a\r\n", HEAD_INCOMPLETE},
    {"nothing", "", HEAD_INCOMPLETE},
    {"two lengths", R "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", HEAD_E_LENGTH_TWICE},
    {"two equal lengths", R "Host: a\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n", HEAD_E_LENGTH_TWICE},
    {"length list", R "Host: a\r\nContent-Length: 5, 5\r\n\r\n", HEAD_E_LENGTH},
    {"signed length", R "Host: a\r\nContent-Length: +5\r\n\r\n", HEAD_E_LENGTH},
    {"hex length", R "Host: a\r\nContent-Length: 0x5\r\n\r\n", HEAD_E_LENGTH},
    {"empty length", R "Host: a\r\nContent-Length: \r\n\r\n", HEAD_E_LENGTH},
    {"huge length", R "Host: a\r\nContent-Length: 99999999999999999999\r\n\r\n", HEAD_E_LENGTH},
    {"length and coding", R "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HEAD_E_LENGTH_CODING},
    {"coding and length", R "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", HEAD_E_LENGTH_CODING},
    {"unknown coding", R "Host: a\r\nTransfer-Encoding: gzip\r\n\r\n", HEAD_E_TRANSFER_CODING},
    {"coding list", R "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HEAD_E_TRANSFER_CODING},
    {"coding twice", R "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
     HEAD_E_TRANSFER_CODING},
    {"space before colon", R "Host: a\r\nContent-Length : 5\r\n\r\n", HEAD_E_FIELD},
    {"no colon", R "Host: a\r\nfoo\r\n\r\n", HEAD_E_FIELD},
    {"empty name", R "Host: a\r\n: x\r\n\r\n", HEAD_E_FIELD},
    {"fold", R "Host: a\r\nX: y\r\n z\r\n\r\n", HEAD_E_FOLD},
    {"tab fold", R "Host: a\r\n\tz\r\n\r\n", HEAD_E_FOLD},
    {"bare line feed", R "Host: a\nX: y\r\n\r\n", HEAD_E_BARE_LF},
    {"bare line feeds", "GET / HTTP/1.1\nHost: a\n\n", HEAD_E_BARE_LF},
    {"lone return", R "Host: a\rX: y\r\n\r\n", HEAD_E_BARE_LF},
    {"control", R "Host: a\r\nX: \x01\r\n\r\n", HEAD_E_CONTROL},
    {"no host", R "X: y\r\n\r\n", HEAD_E_HOST},
    {"two hosts", R "Host: a\r\nHost: b\r\n\r\n", HEAD_E_HOST},
    {"version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", HEAD_E_LINE},
    {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_E_LINE},
    {"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_E_LINE},
    {"method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", HEAD_E_LINE},
};

START_TEST(heads_by_name)
{
    struct head h;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        enum head_err err = head_parse(&h, span_str(heads[i].bytes));
        ck_assert_msg(err == heads[i].want, "%s: %s", heads[i].name, head_err_text(err));
    }
}
END_TEST

/* Every prefix of a good head is incomplete, never refused and never complete. */
START_TEST(prefixes_wait)
{
    static const char good[] = R "Host: a\r\nContent-Length: 5\r\nX-Y: z\r\n\r\n";
    struct head h;
    for (size_t n = 0; n < sizeof good - 1; n++)
        ck_assert_int_eq(head_parse(&h, span_of(good, n)), HEAD_INCOMPLETE);
    ck_assert_int_eq(head_parse(&h, span_of(good, sizeof good - 1)), HEAD_OK);
    ck_assert_uint_eq(h.size, sizeof good - 1);
    ck_assert_uint_eq(h.length, 5);
}
END_TEST

#define OK200 "HTTP/1.1 200 OK\r\n"
static const struct {
    const char *name, *bytes, *body;
    enum response_err want; /* after the connection's orderly end */
    bool reusable;
} responses[] = {
    {"length", OK200 "Content-Length: 5\r\n\r\nhello", "hello", RESPONSE_OK, true},
    {"no body", "HTTP/1.1 204 No Content\r\n\r\n", "", RESPONSE_OK, true},
    {"chunks", OK200 "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello", RESPONSE_OK,
     true},
    {"trailer", OK200 "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n", "x", RESPONSE_OK, true},
    {"to the end", OK200 "\r\nhello", "hello", RESPONSE_OK, false},
    {"interim", "HTTP/1.1 100 Continue\r\n\r\n" OK200 "Content-Length: 1\r\n\r\nx", "x", RESPONSE_OK, true},
    {"close", OK200 "Connection: close\r\nContent-Length: 1\r\n\r\nx", "x", RESPONSE_OK, false},
    {"short", OK200 "Content-Length: 6\r\n\r\nhello", "hello", RESPONSE_E_TRUNCATED, false},
    {"no last chunk", OK200 "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "hel", RESPONSE_E_TRUNCATED, false},
    {"cut chunk", OK200 "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "hel", RESPONSE_E_TRUNCATED, false},
    {"no final line", OK200 "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "x", RESPONSE_E_TRUNCATED, false},
    {"cut head", OK200 "Content-Le", "", RESPONSE_E_TRUNCATED, false},
    {"both framings", OK200 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "", RESPONSE_E_FRAMING, false},
    {"two lengths", OK200 "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "", RESPONSE_E_FRAMING, false},
    {"bad length", OK200 "Content-Length: 1x\r\n\r\nx", "", RESPONSE_E_FRAMING, false},
    {"coding", OK200 "Transfer-Encoding: gzip\r\n\r\n", "", RESPONSE_E_FRAMING, false},
    {"chunk size", OK200 "Transfer-Encoding: chunked\r\n\r\nx\r\n", "", RESPONSE_E_CHUNK, false},
    {"negative chunk", OK200 "Transfer-Encoding: chunked\r\n\r\n-1\r\n", "", RESPONSE_E_CHUNK, false},
    {"huge chunk", OK200 "Transfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n", "", RESPONSE_E_CHUNK, false},
    {"chunk overrun", OK200 "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", "x", RESPONSE_E_CHUNK, false},
    {"bare chunk line", OK200 "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n", "", RESPONSE_E_CHUNK, false},
    {"bare line feed", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "", RESPONSE_E_HEAD, false},
    {"not http", "hello\r\n\r\n", "", RESPONSE_E_HEAD, false},
    {"status", "HTTP/1.1 2000 OK\r\n\r\n", "", RESPONSE_E_HEAD, false},
    {"upgrade", "HTTP/1.1 101 Switching\r\n\r\n", "", RESPONSE_E_HEAD, false},
};

static void feed(struct response *r, const char *bytes, size_t step, char *body)
{
    size_t at = 0, len = strlen(bytes), n = 0;
    response_init(r, false);
    while (at < len && r->err == RESPONSE_OK && r->state != RESPONSE_DONE) {
        struct span piece;
        at += response_feed(r, span_of(bytes + at, at + step < len ? step : len - at), &piece);
        if (piece.len)
            memcpy(body + n, piece.data, piece.len);
        n += piece.len;
    }
    body[n] = 0;
    response_eof(r);
}

/* However the bytes are cut into pieces. */
START_TEST(responses_by_name)
{
    struct response r;
    char body[64];
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++)
        for (size_t step = 1; step < 100; step += 7) {
            feed(&r, responses[i].bytes, step, body);
            ck_assert_msg(r.err == responses[i].want, "%s by %zu: %s", responses[i].name, step,
                          response_err_text(r.err));
            ck_assert_msg(strcmp(body, responses[i].body) == 0, "%s by %zu: '%s'", responses[i].name, step, body);
            if (r.err == RESPONSE_OK)
                ck_assert_msg((response_is_done(&r) && r.keep_alive) == responses[i].reusable, "%s", responses[i].name);
        }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, heads_by_name);
    tcase_add_test(tests, prefixes_wait);
    tcase_add_test(tests, responses_by_name);
}
RUN("proxy_head", add_tests)
