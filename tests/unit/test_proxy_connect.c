/* airlock connect against a real front door with a stand-in backend. The verifier is a stand-in too: what is tested
 * here is that nothing but a challenge leaves before it says yes, and what the caller is told. */
#include <check.h>

#include "proxy/connect.h"
#include "proxy/front_parts.h"

#include "proxy_fixture.h"
#include "run.h"
#include "verifier/bundle.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* --- the stand-in verifier ------------------------------------------------------------------------------- */
static struct {
    atomic_uint checks;
    atomic_bool refuse_check, refuse_judge;
    atomic_uint life_s;
    char collateral[4096]; /* of the last check */
    size_t collateral_len;
} verifier;
struct airlock_claims {
    int unused;
};

int airlock_challenge(const struct airlock_ask *ask, uint8_t *out, size_t cap, size_t *len)
{
    ck_assert_uint_ge(cap, 9);
    ck_assert(ask->engines && ask->nonce);
    memcpy(out, "challenge", *len = 9);
    return 0;
}

struct airlock_cache *airlock_cache_new(size_t bytes)
{
    (void)bytes;
    return NULL;
}

void airlock_cache_free(struct airlock_cache *cache)
{
    ck_assert_ptr_null(cache);
}

static void refuse_with(struct airlock_result *why, int stage, const char *code)
{
    *why = (struct airlock_result){.stage = stage, .engine = -1, .remedy = "Do this."};
    strcpy(why->code, code);
    strcpy(why->observed, "seen");
    strcpy(why->required, "wanted");
}

struct airlock_claims *airlock_check(const struct airlock_input *in, struct airlock_result *why)
{
    atomic_fetch_add(&verifier.checks, 1);
    ck_assert(in->session.tls13 && in->session.finished && !in->session.resumed && !in->session.psk &&
              !in->session.early_data && !in->session.post_handshake_auth);
    ck_assert_uint_gt(in->spki.len, 80);
    ck_assert(span_is(span_of(in->envelope.data, in->envelope.len), "envelope"));
    verifier.collateral_len = in->collateral.len < 4096 ? in->collateral.len : 4096;
    if (in->collateral.len > 0)
        memcpy(verifier.collateral, in->collateral.data, verifier.collateral_len);
    if (!verifier.refuse_check)
        return calloc(1, sizeof(struct airlock_claims));
    refuse_with(why, 6, "report_data_mismatch");
    return NULL;
}

int airlock_judge(const struct airlock_claims *claims, const struct airlock_rules *rules,
                  const struct airlock_seen *seen, uint64_t now, struct airlock_verdict *out)
{
    (void)claims, (void)rules, (void)seen;
    memset(out, 0, sizeof *out);
    if (verifier.refuse_judge) {
        refuse_with(&out->result, 11, "measurement_unknown");
        return -1;
    }
    out->valid_until = now + verifier.life_s;
    out->seen = (struct airlock_seen){.policy = 5, .policy_since = now};
    return 0;
}

void airlock_claims_free(struct airlock_claims *claims)
{
    free(claims);
}

size_t airlock_claims_engine_count(const struct airlock_claims *claims)
{
    (void)claims;
    return 1;
}

bool airlock_claims_engine_identity(const struct airlock_claims *claims, size_t index, uint8_t out[AIRLOCK_KEY_LEN])
{
    (void)claims, (void)index;
    memset(out, 7, AIRLOCK_KEY_LEN);
    return true;
}

void airlock_claims_identity(const struct airlock_claims *claims, uint8_t out[AIRLOCK_KEY_LEN])
{
    (void)claims;
    memset(out, 7, AIRLOCK_KEY_LEN);
}

bool airlock_claims_policy(const struct airlock_claims *claims, uint8_t out[AIRLOCK_DIGEST_LEN])
{
    (void)claims;
    memset(out, 8, AIRLOCK_DIGEST_LEN);
    return true;
}

bool airlock_claims_seal(const struct airlock_claims *claims, uint8_t public_key[AIRLOCK_KEY_LEN], uint32_t *epoch,
                         uint8_t h_statement[AIRLOCK_DIGEST_LEN])
{
    (void)claims, (void)public_key, (void)epoch, (void)h_statement;
    return false;
}

char *airlock_report(const struct airlock_claims *claims, const struct airlock_verdict *verdict)
{
    (void)claims, (void)verdict;
    return strdup("{\"report\":1}");
}

/* --- the fixture -------------------------------------------------------------------------------------------- */
static struct connect *door;
static struct seen seen;
static struct tunnel_bundle own; /* the caller's collateral */
static uint16_t door_port;

static void open_door(const char *key)
{
    char why[256] = "";
    struct connect_config config = {
        .workers = 4,
        .waiting_max = 8,
        .request_ms = 5000,
        .limits = hx_limits_default(),
        .upstream = {.tls = fixture.client,
                     .proxy_count = 1,
                     .seen = &seen,
                     .collateral = &own,
                     .connect_ms = 2000,
                     .attest_ms = 2000},
    };
    if (key) {
        strcpy(config.key, key);
        memset(config.token, 'a', 64);
    }
    ck_assert(client_url_parse(&config.upstream.proxy[0], fixture.url));
    ck_assert(seen_open(&seen, fixture.folder, why));
    config.listen_fd = hx_listen("127.0.0.1", 0, why);
    door = connect_start(&config, why);
    ck_assert_msg(door != NULL, "%s", why);
    door_port = connect_port(door);
}

static void start_door(const char *key)
{
    memset(&verifier, 0, sizeof verifier);
    verifier.life_s = 3600;
    fixture_start();
    open_door(key);
}

static void stop_door(void)
{
    char path[128];
    connect_stop(door);
    snprintf(path, sizeof path, "%s/seen", fixture.folder);
    unlink(path);
    fixture_stop();
}

/* Plain HTTP to the door: send, read to the end of the connection or `ms` of silence. free() it. */
static char *call(const char *request, int ms)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(door_port), .sin_addr.s_addr = htonl(0x7f000001)};
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    struct writer w = writer_with_max(1 << 20);
    char buf[4096];
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    ck_assert_int_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
        writer_bytes(&w, span_of(buf, (size_t)n));
    close(fd);
    writer_u8(&w, 0);
    char *out = strdup((char *)w.data);
    writer_release(&w);
    return out;
}

static char *post(const char *host, const char *more, const char *body, int ms)
{
    char request[2048];
    snprintf(request, sizeof request,
             "POST /v1/chat/completions HTTP/1.1\r\nhost: %s\r\n%sconnection: close\r\ncontent-length: %zu\r\n\r\n%s",
             host, more, strlen(body), body);
    return call(request, ms);
}

#define HI "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"PROMPT\"}]"

#define ASSERT_HAS(text, what) ck_assert_msg(strstr(text, what) != NULL, "no '%s' in: %s", what, text)

START_TEST(forwards_after_a_yes)
{
    char *answer;
    start_door(NULL);
    answer = post("127.0.0.1", "", HI "}", 3000);
    ASSERT_HAS(answer, "200 OK");
    ASSERT_HAS(answer, "Hello world");
    free(answer);
    answer = post("localhost", "", HI ",\"stream\":true}", 3000);
    ASSERT_HAS(answer, "text/event-stream");
    ASSERT_HAS(answer, "data: [DONE]");
    ASSERT_HAS(answer, "\r\n0\r\n\r\n");
    free(answer);
    /* the second request used the first one's connection and verdict */
    ck_assert_uint_eq(verifier.checks, 1);
    ck_assert_uint_eq(atomic_load(&fake.attested), 1);
    ck_assert_uint_eq(fake.allowed_count, 1);
    ck_assert_uint_eq(seen_get(&seen).policy, 5);
    answer = call("GET /.well-known/airlock/verdict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 2000);
    ASSERT_HAS(answer, "{\"report\":1}");
    free(answer);
    stop_door();
}
END_TEST

START_TEST(refused_means_nothing_left)
{
    static const struct {
        bool check;
        const char *code, *stage;
    } cases[] = {{true, "report_data_mismatch", "\"stage\":6"}, {false, "measurement_unknown", "\"stage\":11"}};
    for (size_t i = 0; i < 2; i++) {
        start_door(NULL);
        *(cases[i].check ? &verifier.refuse_check : &verifier.refuse_judge) = true;
        char *answer = post("127.0.0.1", "authorization: Bearer sk-secret\r\n", HI "}", 3000);
        ASSERT_HAS(answer, "HTTP/1.1 502");
        ASSERT_HAS(answer, cases[i].code);
        ASSERT_HAS(answer, cases[i].stage);
        ASSERT_HAS(answer, "\"observed\":\"seen\"");
        ASSERT_HAS(answer, "\"required\":\"wanted\"");
        ASSERT_HAS(answer, "\"remedy\":\"Do this.\"");
        ASSERT_HAS(answer, "x-should-retry: false");
        ck_assert_uint_eq(atomic_load(&fake.attested), 1);
        ck_assert_uint_eq(atomic_load(&fake.submitted), 0);
        ck_assert_uint_eq(seen_get(&seen).policy, 0);
        free(answer);
        stop_door();
    }
}
END_TEST

/* A listener that records every byte it gets and completes no attestation: the prompt and the key never arrive. */
struct sink {
    int fd;
    SSL_CTX *tls;
    struct writer got;
    const char *says;
};

static void *sink_run(void *arg)
{
    struct sink *s = arg;
    int fd = accept(s->fd, NULL, NULL);
    SSL *ssl = SSL_new(s->tls);
    char buf[4096];
    int n;

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        n = SSL_read(ssl, buf, sizeof buf);
        if (n > 0)
            writer_bytes(&s->got, span_of(buf, (size_t)n));
        usleep(50000);
        struct timeval wait = {.tv_usec = 100000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        SSL_write(ssl, s->says, (int)strlen(s->says));
        while ((n = SSL_read(ssl, buf, sizeof buf)) > 0)
            writer_bytes(&s->got, span_of(buf, (size_t)n));
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

START_TEST(a_proxy_that_proves_nothing_gets_nothing)
{
    static const char *const says[] = {
        "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nenvelope", /* evidence that the verifier refuses */
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nx",
        "garbage\r\n\r\n",
        "",
    };
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        char why[256], url[64];
        struct sink sink = {.got = writer_with_max(1 << 20), .says = says[i]};
        struct sockaddr_in a;
        socklen_t len = sizeof a;
        pthread_t t;
        start_door(NULL);
        connect_stop(door);
        verifier.refuse_check = true;
        sink.tls = fixture.server;
        sink.fd = hx_listen("127.0.0.1", 0, why);
        int flags = fcntl(sink.fd, F_GETFL);
        fcntl(sink.fd, F_SETFL, flags & ~O_NONBLOCK);
        getsockname(sink.fd, (struct sockaddr *)&a, &len);
        snprintf(url, sizeof url, "https://127.0.0.1:%u", ntohs(a.sin_port));
        strcpy(fixture.url, url);
        pthread_create(&t, NULL, sink_run, &sink);
        open_door(NULL);
        char *answer = post("127.0.0.1", "authorization: Bearer sk-secret\r\n", HI "}", 4000);
        ck_assert_msg(strstr(answer, "HTTP/1.1 502") || strstr(answer, "HTTP/1.1 503"), "%s", answer);
        free(answer);
        pthread_join(t, NULL);
        writer_u8(&sink.got, 0);
        ck_assert_ptr_null(strstr((char *)sink.got.data, "PROMPT"));
        ck_assert_ptr_null(strstr((char *)sink.got.data, "sk-secret"));
        ck_assert_ptr_nonnull(strstr((char *)sink.got.data, "/.well-known/airlock/attest"));
        writer_release(&sink.got);
        close(sink.fd);
        stop_door();
    }
}
END_TEST

START_TEST(answers_only_its_own_callers)
{
    static const struct {
        const char *host, *more;
        const char *status;
    } cases[] = {
        {"127.0.0.1", "", "200"},
        {"LocalHost", "", "200"},
        {"[::1]", "", "200"},
        {"evil.example", "", "403"},
        {"127.0.0.1:1", "", "403"},
        {"127.0.0.1.evil.example", "", "403"},
        {"127.0.0.1", "origin: http://evil.example\r\n", "403"},
        {"127.0.0.1", "origin: null\r\n", "403"},
    };
    start_door(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *answer = post(cases[i].host, cases[i].more, HI "}", 3000);
        ck_assert_msg(strncmp(answer + 9, cases[i].status, 3) == 0, "%s %s: %s", cases[i].host, cases[i].more, answer);
        ck_assert_ptr_null(strstr(answer, "access-control"));
        free(answer);
    }
    /* never forwarded: a caller must not be able to attest over our connection, or reach other routes */
    char *answer = call("POST /.well-known/airlock/attest HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                        "content-length: 1\r\n\r\nx",
                        2000);
    ASSERT_HAS(answer, "404");
    free(answer);
    answer = call("GET /v1/../metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 2000);
    ASSERT_HAS(answer, "404");
    free(answer);
    stop_door();
}
END_TEST

START_TEST(with_a_key_wants_its_token)
{
    char header[128], token[65];
    start_door("sk-right");
    memset(token, 'a', 64);
    token[64] = 0;
    fake.policy.tenants.key_count = 1;
    front_refresh(fixture.front);
    struct policy_tenants t = {.version = 1, .issued = 1, .expires = 2000000000, .count = 1};
    t.tenant = calloc(1, sizeof *t.tenant);
    strcpy(t.tenant->name, "acme");
    t.tenant->key_count = 1;
    t.tenant->endpoints = POLICY_ENDPOINTS_ALL;
    t.tenant->features = POLICY_FEATURES_ALL;
    policy_api_key_hash(t.tenant->key_hash[0], t.tenant->salt, span_str("sk-right"));
    front_set_tenants(fixture.front, &t);
    char *answer = post("127.0.0.1", "", HI "}", 2000);
    ASSERT_HAS(answer, "HTTP/1.1 401");
    free(answer);
    answer = post("127.0.0.1", "authorization: Bearer sk-right\r\n", HI "}", 2000);
    ASSERT_HAS(answer, "HTTP/1.1 401");
    free(answer);
    snprintf(header, sizeof header, "authorization: Bearer %s\r\n", token);
    answer = post("127.0.0.1", header, HI "}", 3000);
    ASSERT_HAS(answer, "HTTP/1.1 200");
    free(answer);
    stop_door();
}
END_TEST

START_TEST(attests_anew_when_the_verdict_ages)
{
    char *answer;
    start_door(NULL);
    verifier.life_s = 3;
    answer = post("127.0.0.1", "", HI "}", 3000);
    free(answer);
    ck_assert_uint_eq(verifier.checks, 1);
    sleep(2);
    answer = post("127.0.0.1", "", HI "}", 3000);
    ASSERT_HAS(answer, "HTTP/1.1 200");
    free(answer);
    ck_assert_uint_eq(verifier.checks, 2);
    /* a no in place drops the connection; on the new one it is a no again */
    verifier.refuse_judge = true;
    sleep(2);
    answer = post("127.0.0.1", "", HI "}", 3000);
    ASSERT_HAS(answer, "HTTP/1.1 502");
    free(answer);
    stop_door();
}
END_TEST

static char *ask_in_background_result;
static void *ask_in_background(void *arg)
{
    (void)arg;
    ask_in_background_result = post("127.0.0.1", "", HI "}", 4000);
    return NULL;
}

/* The engines that a kept connection was shown are gone: the request goes, once, over a new one that is judged anew. */
START_TEST(attests_again_when_its_engines_are_gone)
{
    char *answer;
    pthread_t t;
    start_door(NULL);
    answer = post("127.0.0.1", "", HI "}", 3000);
    free(answer);
    ck_assert_uint_eq(verifier.checks, 1);
    atomic_store(&fake_engines_gone, true);
    pthread_create(&t, NULL, ask_in_background, NULL);
    while (verifier.checks < 2)
        usleep(100);
    atomic_store(&fake_engines_gone, false);
    pthread_join(t, NULL);
    ck_assert_msg(strstr(ask_in_background_result, "200 OK") || strstr(ask_in_background_result, "attest_again"), "%s",
                  ask_in_background_result);
    free(ask_in_background_result);
    ck_assert_uint_eq(verifier.checks, 2);
    /* gone for good: said, not tried for ever */
    atomic_store(&fake_engines_gone, true);
    answer = post("127.0.0.1", "", HI "}", 3000);
    ASSERT_HAS(answer, "HTTP/1.1 503");
    ASSERT_HAS(answer, "attest_again");
    ck_assert_uint_eq(atomic_load(&fake.submitted) <= 2, 1);
    free(answer);
    stop_door();
}
END_TEST

START_TEST(a_broken_stream_never_looks_complete)
{
    start_door(NULL);
    atomic_store(&fake.part, FAKE_HANG);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(door_port), .sin_addr.s_addr = htonl(0x7f000001)};
    char request[1024], buf[65536];
    size_t have = 0;
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    snprintf(request, sizeof request,
             "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %zu\r\n\r\n%s",
             strlen(HI ",\"stream\":true}"), HI ",\"stream\":true}");
    ck_assert_int_gt(send(fd, request, strlen(request), 0), 0);
    usleep(300000);
    hx_abandon(fixture.front->server); /* the proxy dies in mid-stream */
    while ((n = recv(fd, buf + have, sizeof buf - have - 1, 0)) > 0) {
        have += (size_t)n;
        buf[have] = 0;
        if (strstr(buf, "\"error\""))
            break;
    }
    buf[have] = 0;
    ASSERT_HAS(buf, "data: {\"error\"");
    ASSERT_HAS(buf, "upstream_broken");
    close(fd);
    stop_door();
}
END_TEST

START_TEST(a_caller_who_leaves_cancels)
{
    start_door(NULL);
    atomic_store(&fake.part, FAKE_SILENT);
    free(post("127.0.0.1", "", HI "}", 300));
    for (int i = 0; i < 300 && atomic_load(&fake.cancelled) == 0; i++)
        usleep(10000);
    ck_assert_uint_eq(atomic_load(&fake.cancelled), 1);
    stop_door();
}
END_TEST

static void place_bundle(const char *path, const char *list, bool torn)
{
    static struct verifier_collateral mine = {.crl_count = 1};
    struct writer part = writer_with_max(1000), file = writer_with_max(2000);
    char beside[160];
    FILE *f;

    mine.crls[0] = span_str(list);
    verifier_collateral_encode(&part, &mine);
    verifier_bundle_encode(&file, &(struct verifier_bundle){.until = 1, .collateral = writer_span(&part)});
    snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "w");
    ck_assert(f && fwrite(file.data, 1, file.len - torn, f) == file.len - torn && fclose(f) == 0);
    ck_assert_int_eq(rename(beside, path), 0);
    writer_release(&part);
    writer_release(&file);
}

static bool checked_with(const char *list)
{
    free(post("127.0.0.1", "", HI "}", 3000));
    return memmem(verifier.collateral, verifier.collateral_len, list, strlen(list)) != NULL;
}

/* The caller's collateral is that of the file now, or the last that was good. */
START_TEST(own_collateral_is_read_again)
{
    char folder[] = "/tmp/airlock-test-XXXXXX", path[64], why[256];

    ck_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/bundle", folder);
    ck_assert(!tunnel_bundle_open(&own, path, why));
    ASSERT_HAS(why, "No such file");
    place_bundle(path, "list one", true);
    ck_assert(!tunnel_bundle_open(&own, path, why));
    ASSERT_HAS(why, "not a collateral bundle");
    place_bundle(path, "list one", false);
    ck_assert_msg(tunnel_bundle_open(&own, path, why), "%s", why);
    start_door(NULL);
    verifier.life_s = 0; /* attested for each request */
    ck_assert(checked_with("list one"));
    place_bundle(path, "list two", false);
    ck_assert(checked_with("list two"));
    place_bundle(path, "list three", true);
    ck_assert(checked_with("list two"));
    place_bundle(path, "list three", false);
    ck_assert(checked_with("list three"));
    stop_door();
    tunnel_bundle_release(&own);
    unlink(path);
    rmdir(folder);
}
END_TEST

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;
    while ((text = strstr(text, what)) != NULL) {
        n++;
        text += strlen(what);
    }
    return n;
}

/* What this process wrote to standard error since `from`. */
static void read_errors(FILE *errors, char out[4096])
{
    fflush(stderr);
    rewind(errors);
    out[fread(out, 1, 4095, errors)] = 0;
}

/* A folder in which nothing can be written: it goes on, says so once, and stores when it can. */
START_TEST(a_memory_that_cannot_be_stored_is_said_once)
{
    char path[128], said[4096];
    FILE *errors = tmpfile();
    int before = dup(2);
    start_door(NULL);
    snprintf(path, sizeof path, "%s/seen.new", fixture.folder);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert(dup2(fileno(errors), 2) == 2);
    verifier.life_s = 0; /* attested for each request */
    for (int i = 0; i < 3; i++) {
        char *answer = post("127.0.0.1", "", HI "}", 3000);
        ASSERT_HAS(answer, "200 OK");
        free(answer);
    }
    read_errors(errors, said);
    ck_assert_msg(count_of(said, "cannot be stored") == 1, "%s", said);
    ASSERT_HAS(said, fixture.folder);
    ASSERT_HAS(said, strerror(EISDIR));
    ck_assert_int_eq(rmdir(path), 0);
    for (int i = 0; i < 2; i++)
        free(post("127.0.0.1", "", HI "}", 3000));
    read_errors(errors, said);
    dup2(before, 2);
    ck_assert_msg(count_of(said, "cannot be stored") == 1 && count_of(said, "stored again") == 1, "%s", said);
    snprintf(path, sizeof path, "%s/seen", fixture.folder);
    ck_assert_int_eq(access(path, R_OK), 0);
    close(before);
    fclose(errors);
    stop_door();
}
END_TEST

/* A disk that takes nothing more, and one that is mended. */
START_TEST(a_full_disk_leaves_the_memory_in_place)
{
    struct rlimit none = {0, RLIM_INFINITY}, all = {RLIM_INFINITY, RLIM_INFINITY};
    struct seen s;
    char why[256] = "", path[128];

    strcpy(fixture.folder, "/tmp/airlock-test-XXXXXX");
    ck_assert(mkdtemp(fixture.folder) != NULL);
    ck_assert(seen_open(&s, fixture.folder, why));
    ck_assert(seen_put(&s, &(struct airlock_seen){.policy = 3}, why));
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    ck_assert(!seen_put(&s, &(struct airlock_seen){.policy = 4}, why));
    ASSERT_HAS(why, fixture.folder);
    ASSERT_HAS(why, strerror(EFBIG));
    ck_assert(!seen_put(&s, &(struct airlock_seen){.policy = 4}, why)); /* nothing new, and still not stored */
    ck_assert_uint_eq(seen_get(&s).policy, 4);
    snprintf(path, sizeof path, "%s/seen.new", fixture.folder);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &all), 0);
    struct seen anew;
    ck_assert(seen_open(&anew, fixture.folder, why));
    ck_assert_uint_eq(seen_get(&anew).policy, 3); /* what the next start would know */
    ck_assert(seen_put(&s, &(struct airlock_seen){.policy = 4}, why));
    ck_assert(seen_open(&anew, fixture.folder, why));
    ck_assert_uint_eq(seen_get(&anew).policy, 4);
    snprintf(path, sizeof path, "%s/seen", fixture.folder);
    unlink(path);
    rmdir(fixture.folder);
}
END_TEST

START_TEST(remembers_the_highest_versions)
{
    char why[256], path[128];
    struct seen s, other;
    struct airlock_seen fresh = {.policy = 7, .keyset = 2, .epoch = 3, .policy_since = 100}, low = {.policy = 6};
    FILE *f;

    strcpy(fixture.folder, "/tmp/airlock-test-XXXXXX");
    ck_assert(mkdtemp(fixture.folder) != NULL);
    ck_assert(seen_open(&s, fixture.folder, why));
    ck_assert(seen_put(&s, &fresh, why));
    ck_assert(seen_put(&s, &low, why));
    ck_assert(seen_open(&s, fixture.folder, why));
    ck_assert_uint_eq(seen_get(&s).policy, 7);
    ck_assert_uint_eq(seen_get(&s).policy_since, 100);
    ck_assert_uint_eq(seen_get(&s).epoch, 3);
    ck_assert(seen_open(&other, fixture.folder, why)); /* another process */
    ck_assert(seen_put(&other, &(struct airlock_seen){.policy = 9}, why));
    ck_assert(seen_put(&s, &(struct airlock_seen){.policy = 8}, why));
    ck_assert_uint_eq(seen_get(&s).policy, 9);
    ck_assert(seen_open(&s, fixture.folder, why));
    ck_assert_uint_eq(seen_get(&s).policy, 9);
    snprintf(path, sizeof path, "%s/seen", fixture.folder);
    f = fopen(path, "w");
    fputs("something else", f);
    fclose(f);
    ck_assert(!seen_open(&s, fixture.folder, why)); /* not forgotten in silence */
    unlink(path);
    rmdir(fixture.folder);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, forwards_after_a_yes);
    tcase_add_test(tests, refused_means_nothing_left);
    tcase_add_test(tests, a_proxy_that_proves_nothing_gets_nothing);
    tcase_add_test(tests, answers_only_its_own_callers);
    tcase_add_test(tests, with_a_key_wants_its_token);
    tcase_add_test(tests, attests_anew_when_the_verdict_ages);
    tcase_add_test(tests, attests_again_when_its_engines_are_gone);
    tcase_add_test(tests, a_broken_stream_never_looks_complete);
    tcase_add_test(tests, a_caller_who_leaves_cancels);
    tcase_add_test(tests, remembers_the_highest_versions);
    tcase_add_test(tests, a_memory_that_cannot_be_stored_is_said_once);
    tcase_add_test(tests, own_collateral_is_read_again);
    tcase_add_test(tests, a_full_disk_leaves_the_memory_in_place);
}
RUN("proxy_connect", add_tests)
