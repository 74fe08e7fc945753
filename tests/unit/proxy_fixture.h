/* proxy_fixture.h - a front door with a stand-in backend on a port of this machine, and a raw client, for the
 * test_proxy_*.c programs. One fixture at a time. */
#ifndef TESTS_UNIT_PROXY_FIXTURE_H
#define TESTS_UNIT_PROXY_FIXTURE_H

#include "proxy/client.h"
#include "proxy/front.h"
#include "proxy/tls.h"
#include "tunnel/json.h"
#include "tunnel/message.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- the stand-in backend: each request gets a thread that plays one of these parts ------------------ */
enum fake_part {
    FAKE_HELLO,  /* "Hello", " world", stop */
    FAKE_HANG,   /* says START and two tokens, then nothing until it is cancelled */
    FAKE_SILENT, /* nothing until it is cancelled */
    FAKE_ERROR,  /* an error event at once */
    FAKE_FORMAT, /* the same, about the structured output */
    FAKE_LOST,   /* START, one delta, then the engine is gone */
};

static struct {
    _Atomic enum fake_part part;
    atomic_uint submitted, cancelled, ended, attested;
    atomic_bool cancel_all;
    bool not_ready;
    size_t allowed_count;
    uint8_t allowed[8][32];
    struct policy policy;
    uint64_t next_id;
    uint32_t timeout_ms; /* these four of the newest request */
    bool has_max_tokens;
    uint32_t max_tokens;
    double temperature;
} fake;

struct fake_job {
    struct backend_events ev;
    void *ctx;
    uint64_t id;
    enum fake_part part;
};

static _Atomic uint64_t fake_cancelled_id;

static void fake_say(struct fake_job *j, const struct tunnel_event *ev)
{
    struct writer w = writer_with_max(TUNNEL_EVENT_MAX);
    if (tunnel_event_pack(&w, ev))
        j->ev.event(j->ctx, writer_span(&w));
    writer_release(&w);
}

static void *fake_play(void *arg)
{
    struct fake_job *j = arg;
    enum backend_end end = BACKEND_END_DONE;

    usleep(1000);
    if (j->part != FAKE_SILENT && j->part != FAKE_ERROR && j->part != FAKE_FORMAT)
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_START, .prompt_tokens = 3});
    switch (j->part) {
    case FAKE_HELLO:
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_DELTA, .text = span_str("Hello")});
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_DELTA, .text = span_str(" world")});
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_FINISH, .finish = TUNNEL_FINISH_STOP});
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_DONE, .prompt_tokens = 3, .completion_tokens = 2});
        break;
    case FAKE_ERROR:
    case FAKE_FORMAT:
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_ERROR,
                                           .status = 400,
                                           .code = span_str("context_length_exceeded"),
                                           .param = span_str(j->part == FAKE_FORMAT ? "response_format" : "messages"),
                                           .text = span_str("too long")});
        break;
    case FAKE_LOST:
        fake_say(j, &(struct tunnel_event){.kind = TUNNEL_EVENT_DELTA, .text = span_str("Hel")});
        end = BACKEND_END_UNAVAILABLE;
        break;
    case FAKE_HANG:
        fake_say(j, &(struct tunnel_event){
                        .kind = TUNNEL_EVENT_DELTA, .text = span_str("Hm"), .ids = span_of((const uint8_t[8]){0}, 8)});
        __attribute__((fallthrough));
    default:
        while (atomic_load(&fake_cancelled_id) != j->id && !atomic_load(&fake.cancel_all))
            usleep(1000);
        end = BACKEND_END_CANCELLED;
    }
    atomic_fetch_add(&fake.ended, 1);
    j->ev.end(j->ctx, end, end == BACKEND_END_UNAVAILABLE ? "engine_unavailable" : "");
    free(j);
    return NULL;
}

static uint64_t fake_submit(void *ctx, struct span request, const uint8_t (*allowed)[32], size_t count,
                            const struct backend_events *ev, void *ev_ctx)
{
    struct fake_job *j = calloc(1, sizeof *j);
    pthread_t t;

    struct tunnel_request asked;
    (void)ctx;
    if (tunnel_request_parse(&asked, request) == READER_OK) { /* a sealed one is not for us to read */
        fake.timeout_ms = asked.timeout_ms;
        fake.has_max_tokens = asked.has_max_tokens;
        fake.max_tokens = asked.max_tokens;
        fake.temperature = asked.temperature;
    }
    fake.allowed_count = count;
    if (count)
        memcpy(fake.allowed, allowed, count * 32);
    atomic_fetch_add(&fake.submitted, 1);
    *j = (struct fake_job){.ev = *ev, .ctx = ev_ctx, .id = ++fake.next_id, .part = atomic_load(&fake.part)};
    uint64_t id = j->id;
    pthread_create(&t, NULL, fake_play, j);
    pthread_detach(t);
    return id;
}

static void fake_attest(void *ctx, struct span challenge, struct span spki, const uint8_t exporter[32],
                        backend_attested *done, void *done_ctx)
{
    static const uint8_t shown[1][32] = {{7}};
    (void)ctx, (void)spki, (void)exporter;
    atomic_fetch_add(&fake.attested, 1);
    if (span_is(challenge, "bad"))
        done(done_ctx, BACKEND_BAD_CHALLENGE, span_of(NULL, 0), NULL, 0);
    else
        done(done_ctx, BACKEND_OK, span_str("envelope"), shown, 1);
}

static void fake_attest_sealed(void *ctx, const uint8_t engine[32], struct span challenge, backend_attested *done,
                               void *done_ctx)
{
    (void)ctx, (void)engine, (void)challenge;
    done(done_ctx, BACKEND_NO_ENGINE, span_of(NULL, 0), NULL, 0);
}

static uint64_t fake_submit_sealed(void *ctx, struct span body, const uint8_t engine[32],
                                   const struct backend_events *ev, void *ev_ctx)
{
    (void)engine;
    return fake_submit(ctx, body, NULL, 0, ev, ev_ctx);
}

static atomic_bool fake_engines_gone;
static bool fake_has_engine(void *ctx, const uint8_t (*allowed)[32], size_t count)
{
    (void)ctx, (void)allowed;
    return count > 0 && !atomic_load(&fake_engines_gone);
}

static void fake_consumed(void *ctx, uint64_t id, size_t bytes)
{
    (void)ctx, (void)id, (void)bytes;
}

static void fake_cancel(void *ctx, uint64_t id)
{
    (void)ctx;
    atomic_fetch_add(&fake.cancelled, 1);
    atomic_store(&fake_cancelled_id, id);
}

static void fake_status(void *ctx, struct backend_status *out)
{
    (void)ctx;
    *out = (struct backend_status){.leased = !fake.not_ready, .engines = 1, .context_max = 2048, .now = 1700000000};
}

static bool fake_policy(void *ctx, struct policy *out)
{
    (void)ctx;
    *out = fake.policy;
    return true;
}

static void fake_text(void *ctx, struct writer *w)
{
    (void)ctx;
    writer_str(w, "text");
}

/* --- the front door over it -------------------------------------------------------------------------- */
static struct {
    struct front *front;
    SSL_CTX *server, *client;
    char folder[64], ca_file[128], url[64];
    void (*before_listening)(void); /* NULL: nothing */
} fixture;

static void fake_init_policy(void)
{
    struct policy *p = &fake.policy;
    memset(p, 0, sizeof *p);
    p->version = 1;
    p->not_before = 1;
    p->not_after = 2000000000;
    p->model_count = 1;
    strcpy(p->model[0].name, "tiny");
    p->requests.endpoints = POLICY_ENDPOINTS_ALL;
    p->requests.features = POLICY_FEATURES_ALL;
    p->requests.max_choices = 8;
    p->requests.max_prompts = 8;
    p->requests.temperature_max = 2;
    p->requests.repetition_max = 10;
}

static struct front_config fixture_config(void)
{
    return (struct front_config){
        .threads = 1,
        .limits = hx_limits_default(),
        .backend = {.attest = fake_attest,
                    .attest_sealed = fake_attest_sealed,
                    .submit = fake_submit,
                    .submit_sealed = fake_submit_sealed,
                    .consumed = fake_consumed,
                    .cancel = fake_cancel,
                    .has_engine = fake_has_engine,
                    .status = fake_status,
                    .policy = fake_policy,
                    .documents = fake_text,
                    .metrics = fake_text},
        .requests_max = 64,
        .challenges_per_minute = 30,
    };
}

static void fixture_start_with(struct front_config config)
{
    char why[256] = "";
    struct tls_server tls = {.authority = fixture.ca_file, .names = {"127.0.0.1", "localhost"}, .http2 = config.http2};

    tunnel_json_wipe_memory(); /* as the programs do */
    strcpy(fixture.folder, "/tmp/airlock-test-XXXXXX");
    ck_assert(mkdtemp(fixture.folder) != NULL);
    snprintf(fixture.ca_file, sizeof fixture.ca_file, "%s/ca.pem", fixture.folder);
    fixture.server = tls_server_open(&tls, why);
    ck_assert_msg(fixture.server != NULL, "%s", why);
    fixture.client = tls_client_open(fixture.ca_file, why);
    ck_assert_msg(fixture.client != NULL, "%s", why);
    if (fixture.before_listening)
        fixture.before_listening();
    config.tls = fixture.server;
    config.listen_fd = hx_listen("127.0.0.1", 0, why);
    ck_assert_msg(config.listen_fd >= 0, "%s", why);
    fixture.front = front_start(&config, why);
    ck_assert_msg(fixture.front != NULL, "%s", why);
    snprintf(fixture.url, sizeof fixture.url, "https://127.0.0.1:%u", front_port(fixture.front));
}

static inline void fixture_start(void)
{
    memset(&fake, 0, sizeof fake);
    fake_init_policy();
    fixture_start_with(fixture_config());
}

static inline void fixture_stop(void)
{
    static const char *const suffixes[] = {"", ".key", ".lock"};
    char path[160];
    atomic_store(&fake.cancel_all, true);
    while (atomic_load(&fake.ended) < atomic_load(&fake.submitted))
        usleep(1000);
    usleep(20000); /* the last threads leave their callbacks */
    front_stop(fixture.front);
    SSL_CTX_free(fixture.server);
    SSL_CTX_free(fixture.client);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", fixture.ca_file, suffixes[i]);
        unlink(path);
    }
    rmdir(fixture.folder);
}

/* --- raw client -------------------------------------------------------------------------------------- */
static inline struct client *dial(void)
{
    struct client_url url;
    struct client_address address[CLIENT_ADDRESSES_MAX];
    char why[CLIENT_WHY_MAX] = "";
    struct client *c;

    ck_assert(client_url_parse(&url, fixture.url));
    ck_assert_uint_ge(client_resolve(&url, address, why), 1);
    c = client_open(fixture.client, &url, &address[0], 5000, why);
    ck_assert_msg(c != NULL, "%s", why);
    return c;
}

/* Send these bytes as they are, then read until the server closes or is silent for `ms`; the answer as a string,
 * free() it. `*closed` says which. */
static inline char *raw(struct client *c, const char *bytes, size_t len, int ms, bool *closed)
{
    struct writer w = writer_with_max(8 << 20);
    SSL *ssl = client_ssl(c);
    char buf[4096];
    size_t n, sent = 0;
    int quiet = 0;

    while (sent < len) {
        if (SSL_write_ex(ssl, bytes + sent, len - sent < 16384 ? len - sent : 16384, &n) == 1)
            sent += n;
        else if (SSL_get_error(ssl, 0) == SSL_ERROR_WANT_WRITE)
            usleep(1000);
        else
            break;
    }
    *closed = false;
    while (quiet < ms) {
        if (SSL_read_ex(ssl, buf, sizeof buf, &n) == 1) {
            writer_bytes(&w, span_of(buf, n));
            quiet = 0;
            continue;
        }
        if (SSL_get_error(ssl, 0) != SSL_ERROR_WANT_READ) {
            *closed = true;
            break;
        }
        usleep(5000);
        quiet += 5;
    }
    writer_u8(&w, 0);
    char *out = strdup((const char *)w.data);
    writer_release(&w);
    return out;
}

/* One request on a connection of its own; status, and the body as a string in `*body` (free() it, or NULL). */
static inline int ask(const char *method, const char *path, const char *json, char **body)
{
    struct client *c = dial();
    struct client_header headers[] = {{"content-type", "application/json"}};
    struct writer w = writer_with_max(1 << 20);
    char why[CLIENT_WHY_MAX] = "";
    const struct response *r;
    int status;

    ck_assert_msg(client_send(c, method, path, headers, 1, span_str(json ? json : ""), 5000, why), "%s", why);
    r = client_head(c, 5000, why);
    ck_assert_msg(r != NULL, "%s", why);
    status = r->status;
    ck_assert_msg(client_body_all(c, 5000, &w, why), "%s", why);
    writer_u8(&w, 0);
    if (body)
        *body = strdup((const char *)w.data);
    writer_release(&w);
    client_close(c);
    return status;
}

static inline bool eventually(bool (*is_so)(void))
{
    for (int i = 0; i < 300; i++, usleep(10000))
        if (is_so())
            return true;
    return false;
}

#endif
