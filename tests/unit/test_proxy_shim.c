/* The shim against hostile peers: framing tricks, limits, slow senders, old TLS, floods of resets. */
#include <check.h>

#include "proxy_fixture.h"
#include "run.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#define CHAT "POST /v1/chat/completions HTTP/1.1\r\n"
#define NEXT "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"

/* The second request must not be answered: its bytes are not a request. */
static const struct {
    const char *name, *bytes;
    int status;
} tricks[] = {
    {"two lengths", CHAT "host: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello" NEXT, 400},
    {"two lengths, longer first", CHAT "host: x\r\ncontent-length: 60\r\ncontent-length: 5\r\n\r\nhello", 400},
    {"length and coding", CHAT "host: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, 400},
    {"coding and length", CHAT "host: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" NEXT, 400},
    {"unknown coding", CHAT "host: x\r\ntransfer-encoding: gzip\r\n\r\n" NEXT, 400},
    {"coding list", CHAT "host: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT, 400},
    {"chunk size", CHAT "host: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n" NEXT, 400},
    {"space before colon", CHAT "host: x\r\ncontent-length : 5\r\n\r\nhello" NEXT, 400},
    {"fold", "GET /ping HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n" NEXT, 400},
    {"bare line feeds", "GET /ping HTTP/1.1\nhost: x\n\n" NEXT, 400},
    {"no host", "GET /ping HTTP/1.1\r\n\r\n" NEXT, 400},
    {"two hosts", "GET /ping HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n" NEXT, 400},
    {"signed length", CHAT "host: x\r\ncontent-length: +5\r\n\r\nhello" NEXT, 400},
    {"another server's target", "GET http://evil.example/ping HTTP/1.1\r\nhost: x\r\n\r\n" NEXT, 400},
    {"connect", "CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n" NEXT, 400},
};

static int count(const char *text, const char *what)
{
    int n = 0;
    while ((text = strstr(text, what)) && ++n)
        text += strlen(what);
    return n;
}

START_TEST(framing_tricks)
{
    char status[16];
    bool closed;
    fixture_start();
    for (size_t i = 0; i < sizeof tricks / sizeof tricks[0]; i++) {
        struct client *c = dial();
        char *answer = raw(c, tricks[i].bytes, strlen(tricks[i].bytes), 1500, &closed);
        snprintf(status, sizeof status, "HTTP/1.1 %d", tricks[i].status);
        ck_assert_msg(strstr(answer, status) == answer, "%s: %s", tricks[i].name, answer);
        ck_assert_msg(count(answer, "HTTP/1.1 ") == 1, "%s: %s", tricks[i].name, answer);
        ck_assert_msg(closed, "%s: still open", tricks[i].name);
        ck_assert_uint_eq(atomic_load(&fake.submitted), 0);
        free(answer);
        client_close(c);
    }
    fixture_stop();
}
END_TEST

START_TEST(pipelined_requests_in_order)
{
    static const char both[] = "GET /ping HTTP/1.1\r\nhost: x\r\n\r\nGET /version HTTP/1.1\r\nhost: x\r\n\r\n" NEXT;
    bool closed;
    fixture_start();
    struct client *c = dial();
    char *answer = raw(c, both, sizeof both - 1, 200, &closed);
    ck_assert_int_eq(count(answer, "HTTP/1.1 200"), 3);
    ck_assert(strstr(answer, "alive") < strstr(answer, "version"));
    ck_assert(!closed);
    free(answer);
    client_close(c);
    fixture_stop();
}
END_TEST

START_TEST(expects_and_chunks)
{
    static const char body[] = "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    char request[1024];
    bool closed;
    fixture_start();
    struct client *c = dial();
    snprintf(request, sizeof request, CHAT "host: x\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n");
    char *answer = raw(c, request, strlen(request), 200, &closed);
    ck_assert_ptr_nonnull(strstr(answer, "100 Continue"));
    free(answer);
    snprintf(request, sizeof request, "%zx\r\n%.10s\r\n%zx\r\n%s\r\n0\r\n\r\n", (size_t)10, body, strlen(body + 10),
             body + 10);
    answer = raw(c, request, strlen(request), 300, &closed);
    ck_assert_msg(strstr(answer, "200 OK") != NULL, "%s", answer);
    free(answer);
    client_close(c);
    fixture_stop();
}
END_TEST

static char *with_header_of(size_t size)
{
    char *out = malloc(size + 200);
    int n = sprintf(out, "GET /ping HTTP/1.1\r\nhost: x\r\nx-long: ");
    memset(out + n, 'a', size);
    strcpy(out + n + size, "\r\n\r\n");
    return out;
}

START_TEST(limits_of_head_and_body)
{
    bool closed;
    fixture_start();
    struct {
        size_t size;
        const char *status;
    } heads[] = {{60000, "200"}, {70000, "431"}, {300000, "431"}};
    for (size_t i = 0; i < 3; i++) {
        struct client *c = dial();
        char *head = with_header_of(heads[i].size), *answer = raw(c, head, strlen(head), 1000, &closed);
        ck_assert_msg(strncmp(answer + 9, heads[i].status, 3) == 0, "%zu: %.60s", heads[i].size, answer);
        if (i > 0)
            ck_assert_ptr_nonnull(strstr(answer, "request_too_large"));
        free(answer);
        free(head);
        client_close(c);
    }
    /* announced, so refused before it is sent */
    struct client *c = dial();
    static const char big[] = CHAT "host: x\r\ncontent-length: 33554433\r\n\r\n";
    char *answer = raw(c, big, sizeof big - 1, 1000, &closed);
    ck_assert_ptr_nonnull(strstr(answer, "HTTP/1.1 413"));
    ck_assert_ptr_nonnull(strstr(answer, "\"code\":\"request_too_large\""));
    ck_assert(closed);
    free(answer);
    client_close(c);
    fixture_stop();
}
END_TEST

START_TEST(limit_of_a_chunked_body)
{
    struct front_config config;
    bool closed;
    memset(&fake, 0, sizeof fake);
    fake_init_policy();
    config = fixture_config();
    config.limits.body = 100000;
    fixture_start_with(config);
    struct client *c = dial();
    char *body = malloc(200300);
    int n = sprintf(body, CHAT "host: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n", 200000);
    memset(body + n, ' ', 200000);
    body[n + 200000] = 0;
    char *answer = raw(c, body, strlen(body), 1000, &closed);
    ck_assert_ptr_nonnull(strstr(answer, "HTTP/1.1 413"));
    ck_assert(closed);
    free(answer);
    free(body);
    client_close(c);
    fixture_stop();
}
END_TEST

START_TEST(slow_senders_are_cut_off)
{
    struct front_config config;
    bool closed;
    memset(&fake, 0, sizeof fake);
    fake_init_policy();
    config = fixture_config();
    config.limits.head_ms = 300;
    config.limits.body_ms = 600;
    fixture_start_with(config);
    static const char *const starts[] = {"GET /ping HTTP", CHAT "host: x\r\ncontent-length: 10\r\n\r\n{", ""};
    for (size_t i = 0; i < 3; i++) {
        struct client *c = dial();
        char *answer = raw(c, starts[i], strlen(starts[i]), 3000, &closed);
        ck_assert_msg(closed, "%s", starts[i]);
        if (i < 2)
            ck_assert_msg(strstr(answer, "HTTP/1.1 408") || !answer[0], "%s", answer);
        free(answer);
        client_close(c);
    }
    fixture_stop();
}
END_TEST

START_TEST(connections_of_one_address_are_bounded)
{
    struct front_config config;
    memset(&fake, 0, sizeof fake);
    fake_init_policy();
    config = fixture_config();
    config.limits.per_address = 3;
    fixture_start_with(config);
    struct client *c[3];
    struct client_url url;
    struct client_address address[CLIENT_ADDRESSES_MAX];
    char why[CLIENT_WHY_MAX];
    for (int i = 0; i < 3; i++)
        c[i] = dial();
    ck_assert(client_url_parse(&url, fixture.url));
    ck_assert_uint_ge(client_resolve(&url, address, why), 1);
    ck_assert_ptr_null(client_open(fixture.client, &url, &address[0], 1000, why));
    client_close(c[0]);
    usleep(100000);
    c[0] = dial();
    for (int i = 0; i < 3; i++)
        client_close(c[i]);
    fixture_stop();
}
END_TEST

/* --- TLS ------------------------------------------------------------------------------------------------ */

static bool handshakes(SSL_CTX *ctx, SSL_SESSION *session, SSL **out)
{
    struct client_url url;
    struct client_address address[CLIENT_ADDRESSES_MAX];
    char why[CLIENT_WHY_MAX];
    ck_assert(client_url_parse(&url, fixture.url));
    ck_assert_uint_ge(client_resolve(&url, address, why), 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address[0].address, address[0].len), 0);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (session)
        SSL_set_session(ssl, session);
    bool ok = SSL_connect(ssl) == 1;
    if (out) {
        *out = ssl;
        return ok;
    }
    SSL_free(ssl);
    close(fd);
    return ok;
}

START_TEST(only_tls_1_3_without_resumption)
{
    SSL *ssl;
    char buf[512];
    fixture_start();
    SSL_CTX *old = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
    ck_assert(!handshakes(old, NULL, NULL));
    SSL_CTX_free(old);
    SSL_CTX *now = SSL_CTX_new(TLS_client_method());
    ck_assert(handshakes(now, NULL, &ssl));
    ck_assert_int_gt(SSL_write(ssl, NEXT, sizeof NEXT - 1), 0);
    ck_assert_int_gt(SSL_read(ssl, buf, sizeof buf), 0);
    /* no ticket came, so nothing can be resumed and no early data can be sent */
    ck_assert(!SSL_SESSION_is_resumable(SSL_get_session(ssl)));
    ck_assert_uint_eq(SSL_SESSION_get_max_early_data(SSL_get_session(ssl)), 0);
    SSL_free(ssl);
    SSL_CTX_free(now);
    ERR_clear_error();
    fixture_stop();
}
END_TEST

START_TEST(alpn_must_be_ours)
{
    fixture_start();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3);
    ck_assert(!handshakes(ctx, NULL, NULL)); /* HTTP/2 is off unless configured */
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    ck_assert(handshakes(ctx, NULL, NULL));
    SSL_CTX_free(ctx);
    ERR_clear_error();
    fixture_stop();
}
END_TEST

START_TEST(plain_http_is_closed)
{
    struct client_url url;
    struct client_address address[CLIENT_ADDRESSES_MAX];
    char why[CLIENT_WHY_MAX], buf[512];
    fixture_start();
    ck_assert(client_url_parse(&url, fixture.url));
    ck_assert_uint_ge(client_resolve(&url, address, why), 1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address[0].address, address[0].len), 0);
    ck_assert_int_gt(send(fd, NEXT, sizeof NEXT - 1, MSG_NOSIGNAL), 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 2000), 1);
    ssize_t n = recv(fd, buf, sizeof buf, 0);
    ck_assert_msg(n <= 0 || memcmp(buf, "HTTP", 4) != 0, "answered in clear");
    close(fd);
    fixture_stop();
}
END_TEST

/* Records of a stream show 256-byte steps only: the length of a token does not. */
START_TEST(stream_records_are_padded)
{
    static const char body[] =
        "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    char request[512], buf[16384];
    SSL *ssl;
    fixture_start();
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    ck_assert(handshakes(ctx, NULL, &ssl));
    snprintf(request, sizeof request, CHAT "host: x\r\ncontent-length: %zu\r\n\r\n%s", sizeof body - 1, body);
    SSL_write(ssl, request, (int)strlen(request));
    BIO *bio = SSL_get_rbio(ssl);
    unsigned records = 0;
    for (bool done = false; !done;) {
        uint64_t before = BIO_number_read(bio);
        int n = SSL_read(ssl, buf, sizeof buf - 1);
        ck_assert_int_gt(n, 0);
        buf[n] = 0;
        uint64_t wire = BIO_number_read(bio) - before;
        if (strstr(buf, "data: ")) {
            records++;
            ck_assert_msg(wire % 256 == 21 || wire == 0, "%llu bytes on the wire", (unsigned long long)wire);
        }
        done = strstr(buf, "0\r\n\r\n") != NULL;
    }
    ck_assert_uint_ge(records, 3);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    fixture_stop();
}
END_TEST

/* --- HTTP/2, when it is configured ---------------------------------------------------------------------- */

static size_t h2_frame(uint8_t *out, uint8_t type, uint8_t flags, uint32_t stream, const void *body, size_t len)
{
    uint8_t head[9] = {(uint8_t)(len >> 16),    (uint8_t)(len >> 8),     (uint8_t)len,           type,           flags,
                       (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(out, head, 9);
    memcpy(out + 9, body, len);
    return 9 + len;
}

/* HEADERS and RST_STREAM, again and again: the connection ends after the limit, little has been started behind. */
START_TEST(reset_flood_ends_the_connection)
{
    static const uint8_t request[] = "\x83\x87\x41\x01x\x04\x14/v1/chat/completions";
    static const uint8_t cancel[4] = {0, 0, 0, 8};
    struct front_config config;
    uint8_t frames[4096];
    char buf[4096];
    SSL *ssl;
    bool ended = false;
    memset(&fake, 0, sizeof fake);
    fake_init_policy();
    atomic_store(&fake.part, FAKE_SILENT);
    config = fixture_config();
    config.http2 = true;
    fixture_start_with(config);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3);
    ck_assert(handshakes(ctx, NULL, &ssl));
    SSL_write(ssl, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    for (uint32_t stream = 1; stream < 20000 && !ended; stream += 2) {
        size_t n = h2_frame(frames, 1, 5, stream, request, sizeof request - 1);
        n += h2_frame(frames + n, 3, 0, stream, cancel, 4);
        ended = SSL_write(ssl, frames, (int)n) <= 0;
    }
    for (int i = 0; i < 100 && !ended; i++)
        ended = SSL_read(ssl, buf, sizeof buf) <= 0;
    ck_assert(ended);
    ck_assert_uint_le(atomic_load(&fake.submitted), 150);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    ck_assert_int_eq(ask("GET", "/ping", NULL, NULL), 200); /* everybody else is served */
    fixture_stop();
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, framing_tricks);
    tcase_add_test(tests, pipelined_requests_in_order);
    tcase_add_test(tests, expects_and_chunks);
    tcase_add_test(tests, limits_of_head_and_body);
    tcase_add_test(tests, limit_of_a_chunked_body);
    tcase_add_test(tests, slow_senders_are_cut_off);
    tcase_add_test(tests, connections_of_one_address_are_bounded);
    tcase_add_test(tests, only_tls_1_3_without_resumption);
    tcase_add_test(tests, alpn_must_be_ours);
    tcase_add_test(tests, plain_http_is_closed);
    tcase_add_test(tests, stream_records_are_padded);
    tcase_add_test(tests, reset_flood_ends_the_connection);
}
RUN("proxy_shim", add_tests)
