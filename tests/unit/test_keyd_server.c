/* The key server over real TLS, asked by a real attester on the simulated chip: who gets a grant, who an answer that
 * names the reason? */
#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "policy/keyd/server.h"
#include "policy/keytext.h"
#include "policy/node.h"
#include "simulated_root.h"
#include "tunnel/attest/attester.h"
#include "tunnel/attest/measure.h"
#include "tunnel/channel.h"
#include "unit/policy_world.h"
#include "unit/run.h"
#include "verifier/anchors/test.h"
#include "verifier/release.h"

#define STEP_MS 50
#define LIMIT_MS 20000

static const char *const names[] = {"airlock-engine"}, *const paths[] = {"/proc/self/exe"};
static char base[64], not_before[32], not_after[32], config_dir[128];
static struct world w;
static struct attester engine;
static struct keyd_config config;
static struct keyd_store store;
static struct keyd_core *core;
static struct keyd_server *server;
static pthread_t thread;
static volatile sig_atomic_t stop, reload;

static uint64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void *serve(void *unused)
{
    keyd_server_run(server, &store, core, &stop, &reload);
    return unused;
}

static void put(const char *name, char path[KEYD_PATH_MAX], struct span bytes)
{
    snprintf(path, KEYD_PATH_MAX, "%s/%s", base, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fchmod(fileno(f), 0600), 0);
    ck_assert_uint_eq(fwrite(bytes.data, 1, bytes.len, f), bytes.len);
    fclose(f);
}

static void put_key(const char *name, char path[KEYD_PATH_MAX], const char *kind, const uint8_t key[32])
{
    struct writer text = writer_with_max(POLICY_KEYTEXT_MAX);
    policy_keytext_print(&text, kind, span_of(key, 32));
    put(name, path, writer_span(&text));
    writer_release(&text);
}

/* The owner's desk: a policy around today that names this very program as the engine. */
static void make_world(void)
{
    uint64_t now = (uint64_t)time(NULL);
    world_open(&w);
    policy_date_print(now - 86400, not_before);
    policy_date_print(now + 86400, not_after);
    w.not_before = not_before;
    w.not_after = not_after;
    ck_assert(attester_measure(names, paths, 1, w.measurement));
    world_sign(&w);
    put("documents", config.documents, writer_span(&w.documents));
    put_key("key", config.key, POLICY_KEYTEXT_SIGN, w.keyd_seed);
    put_key("weight", config.weight[0].file, POLICY_KEYTEXT_WEIGHT, w.weight_key);
    strcpy(config.weight[0].model, "m");
    config.weight_count = config.engine_count = config.proxy_count = 1;
    snprintf(config.state, sizeof config.state, "%s/state", base);
    strcpy(config.engines[0], "127.0.0.1:0");
    strcpy(config.proxies[0], "127.0.0.1:0");
}

static void fork_engine(void)
{
    char why[256];
    struct attester_config c = {.role = VERIFIER_ENGINE,
                                .program = "airlock-engine",
                                .version = "0.1.0",
                                .config_text = span_str("model = \"m\";\n"),
                                .kernels = "cpu",
                                .producer = attester_producer(),
                                .device = {.names = names, .paths = paths, .count = 1},
                                .batch_ms = 1,
                                .no_sandbox = true};
    memcpy(c.owner, w.owner, sizeof c.owner);
    ck_assert_msg(attester_fork(&c, &engine, why) == 0, "%s", why);
}

static void start_keyd(bool is_restored)
{
    struct keyd_papers papers;
    struct writer log = writer_with_max(1 << 20), lines = writer_with_max(KEYD_LINES_MAX);
    char why[256] = "";
    bool fits;
    ck_assert_msg(keyd_store_open(&store, &config, why), "%s", why);
    ck_assert(keyd_store_log(&store, &log, &fits, why) && keyd_store_papers(&store, &papers, why));
    struct keyd_core_config c = {.seed = secret_span(&store.seed),
                                 .documents = writer_span(&papers.documents),
                                 .weights = store.weight,
                                 .weight_count = store.weight_count,
                                 .log = writer_span(&log),
                                 .is_restored = is_restored || !fits};
    core = keyd_core_open(&c, (uint64_t)time(NULL), &lines, why);
    ck_assert_msg(core != NULL, "%s", why);
    ck_assert(keyd_store_append(&store, writer_span(&lines), keyd_core_log(core)));
    server = keyd_server_open(&config, why);
    ck_assert_msg(server != NULL, "%s", why);
    keyd_papers_release(&papers);
    writer_release(&log);
    writer_release(&lines);
    stop = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
}

static void stop_keyd(void)
{
    stop = 1;
    pthread_join(thread, NULL);
    keyd_server_close(server);
    keyd_core_close(core);
    keyd_store_close(&store);
}

static void setup(void)
{
    struct verifier_anchor root = {.kind = VERIFIER_ANCHOR_AMD, .line = "Genoa", .simulated = true};
    signal(SIGPIPE, SIG_IGN);
    strcpy(base, "/tmp/keyd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    config = (struct keyd_config){0};
    verifier_anchors_reset();
    ck_assert(verifier_anchors_inject(simulated_root_sha256, &root));
    make_world();
    fork_engine();
}

static void teardown(void)
{
    attester_end(&engine);
    world_close(&w);
    snprintf(config_dir, sizeof config_dir, "rm -rf %s", base);
    ck_assert_int_eq(system(config_dir), 0);
}

/* --- a node ------------------------------------------------------------------------------------------- */

struct visit {
    enum verifier_role port;   /* which of keyd's ports it dials */
    bool altered;              /* flips a bit of the envelope */
    const struct writer *show; /* an envelope of another connection instead of its own */
    struct policy_node *node;
    struct writer envelope; /* what it showed */
    char verdict[64], closed[64];
    enum policy_node_err grant;
    bool granted;
};

static int open_share(void *ctx, const uint8_t enc[32], struct span info, struct span aad, struct span sealed,
                      uint8_t out[32])
{
    struct verifier_hpke opened;
    (void)ctx;
    if (attester_open(engine.owner_fd, enc, info, aad, &opened) != ATTESTER_OK)
        return -1;
    bool good = verifier_release_open(&opened, aad, sealed, out) == VERIFIER_OK;
    verifier_hpke_wipe(&opened);
    return good ? 0 : -1;
}

static void open_node(struct visit *v)
{
    enum policy_node_err err;
    struct policy_node_config c = {.role = VERIFIER_ENGINE, .open = open_share};
    memcpy(c.identity, engine.identity, sizeof c.identity);
    verifier_sha512(c.statement, span_of(engine.statement, engine.statement_len));
    memcpy(c.owner, w.owner, sizeof c.owner);
    v->node = policy_node_open_new(&c, &err);
    ck_assert_ptr_nonnull(v->node);
}

static void prove(struct visit *v, struct tunnel_channel *c, const struct tunnel_channel_event *ev)
{
    v->envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    enum attester_err err = attester_leaf(engine.owner_fd, ev->challenge, ev->spki, ev->exporter, &v->envelope);
    if (err != ATTESTER_OK) {
        snprintf(v->verdict, sizeof v->verdict, "attester: %s", attester_err_name(err));
        tunnel_channel_refuse(c, attester_err_name(err));
        return;
    }
    if (v->altered)
        v->envelope.data[v->envelope.len / 2] ^= 1;
    ck_assert(tunnel_channel_answer(c, writer_span(v->show ? v->show : &v->envelope)));
}

static void ask(struct visit *v, struct tunnel_channel *c)
{
    struct writer bytes = writer_with_max(4096);
    uint8_t nonce[32] = {(uint8_t)mono_ms()};
    policy_node_ask(v->node, nonce, mono_ms(), NULL, &bytes);
    ck_assert(tunnel_channel_ask(c, writer_span(&bytes)));
    writer_release(&bytes);
}

static void handle(struct visit *v, struct tunnel_channel *c)
{
    struct tunnel_channel_event ev;
    while (tunnel_channel_event(c, &ev)) {
        if (ev.kind == TUNNEL_EV_CHALLENGED)
            prove(v, c, &ev);
        else if (ev.kind == TUNNEL_EV_JUDGED)
            strcpy(v->verdict, ev.code);
        else if (ev.kind == TUNNEL_EV_OPEN)
            ask(v, c);
        else if (ev.kind == TUNNEL_EV_CLOSED)
            strcpy(v->closed, ev.code);
        else if (ev.kind == TUNNEL_EV_GRANT) {
            v->grant = policy_node_answer(v->node, ev.body, mono_ms());
            v->granted = true;
        }
    }
}

static int dial(enum verifier_role port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(keyd_server_port(server, port, 0))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void pump(struct visit *v, struct tunnel_channel *c, int fd)
{
    uint8_t bytes[16384];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct span out = tunnel_channel_output(c, mono_ms());
    while (out.len > 0) {
        ssize_t n = send(fd, out.data, out.len, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        tunnel_channel_sent(c, (size_t)n);
        out = tunnel_channel_output(c, mono_ms());
    }
    if (poll(&p, 1, STEP_MS) > 0) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n > 0)
            tunnel_channel_feed(c, mono_ms(), span_of(bytes, (size_t)n));
        else
            tunnel_channel_lost(c);
    }
    tunnel_channel_tick(c, mono_ms());
    handle(v, c);
}

/* From the first byte to a grant or the connection's end. */
static void visit(struct visit *v)
{
    struct tunnel_tls *tls = tunnel_tls_open();
    struct tunnel_channel_config c = {.tls = tls, .proves = true};
    struct tunnel_channel *channel = tunnel_channel_open(&c, mono_ms());
    uint64_t end = mono_ms() + LIMIT_MS;
    int fd = dial(v->port);
    open_node(v);
    while (!v->granted && !v->closed[0]) {
        ck_assert_msg(mono_ms() < end, "keyd does not answer");
        pump(v, channel, fd);
    }
    close(fd);
    tunnel_channel_close(channel);
    tunnel_tls_close(tls);
}

static void leave(struct visit *v)
{
    policy_node_close(v->node);
    writer_release(&v->envelope);
}

/* --- tests -------------------------------------------------------------------------------------------- */

START_TEST(a_proven_engine_gets_lease_time_and_key)
{
    struct visit v = {.port = VERIFIER_ENGINE};
    start_keyd(false);
    visit(&v);
    ck_assert_str_eq(v.verdict, "ok");
    ck_assert_msg(v.granted && v.grant == POLICY_NODE_OK, "%s %s", v.closed, policy_node_err_name(v.grant));
    ck_assert(policy_node_may_serve(v.node, mono_ms()));
    ck_assert(span_equal(policy_node_key(v.node, w.root), span_of(w.weight_key, 32)));
    stop_keyd();
    leave(&v);
}
END_TEST

START_TEST(an_altered_envelope_gets_nothing)
{
    struct visit v = {.port = VERIFIER_ENGINE, .altered = true};
    start_keyd(false);
    visit(&v);
    ck_assert(!v.granted);
    ck_assert_str_ne(v.verdict, "ok");
    stop_keyd();
    leave(&v);
}
END_TEST

START_TEST(evidence_of_another_connection_gets_nothing)
{
    struct visit first = {.port = VERIFIER_ENGINE}, second = {.port = VERIFIER_ENGINE, .show = &first.envelope};
    start_keyd(false);
    visit(&first);
    ck_assert(first.granted);
    visit(&second);
    ck_assert(!second.granted);
    ck_assert_str_eq(second.verdict, "report_data_mismatch");
    stop_keyd();
    leave(&first);
    leave(&second);
}
END_TEST

START_TEST(an_engine_on_the_proxies_port_is_not_asked_as_one)
{
    struct visit v = {.port = VERIFIER_PROXY};
    start_keyd(false);
    visit(&v);
    ck_assert(!v.granted);
    ck_assert_str_eq(v.verdict, "attester: pair");
    stop_keyd();
    leave(&v);
}
END_TEST

START_TEST(another_build_gets_nothing)
{
    struct visit v = {.port = VERIFIER_ENGINE};
    w.measurement[0] ^= 1;
    world_sign(&w);
    put("documents", config.documents, writer_span(&w.documents));
    start_keyd(false);
    visit(&v);
    ck_assert(!v.granted);
    ck_assert_str_eq(v.verdict, "measurement_not_accepted");
    stop_keyd();
    leave(&v);
}
END_TEST

START_TEST(after_a_restore_nobody_is_served_until_a_person_confirms)
{
    struct visit before = {.port = VERIFIER_ENGINE}, after = before;
    char path[KEYD_PATH_MAX];
    uint64_t end = mono_ms() + LIMIT_MS;
    start_keyd(true);
    visit(&before);
    ck_assert(!before.granted);
    ck_assert_str_eq(before.verdict, "keyd_unconfirmed");
    put("state/confirm", path, span_str("1\n"));
    while (access(path, F_OK) == 0 && mono_ms() < end)
        usleep(STEP_MS * 1000);
    visit(&after);
    ck_assert(after.granted && after.grant == POLICY_NODE_OK);
    stop_keyd();
    leave(&before);
    leave(&after);
}
END_TEST

START_TEST(noise_on_its_ports_stops_nobody)
{
    struct visit v = {.port = VERIFIER_ENGINE};
    start_keyd(false);
    for (int i = 0; i < 8; i++) {
        int fd = dial(i % 2 ? VERIFIER_PROXY : VERIFIER_ENGINE);
        ck_assert_int_gt(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 0);
        close(fd);
    }
    visit(&v);
    ck_assert(v.granted);
    stop_keyd();
    leave(&v);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_proven_engine_gets_lease_time_and_key);
    tcase_add_test(t, an_altered_envelope_gets_nothing);
    tcase_add_test(t, evidence_of_another_connection_gets_nothing);
    tcase_add_test(t, an_engine_on_the_proxies_port_is_not_asked_as_one);
    tcase_add_test(t, another_build_gets_nothing);
    tcase_add_test(t, after_a_restore_nobody_is_served_until_a_person_confirms);
    tcase_add_test(t, noise_on_its_ports_stops_nobody);
}

RUN("keyd_server", add_tests)
