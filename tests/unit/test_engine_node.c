/* airlock-engine as a process, from its configuration to answers over the link. This program copies itself into a
 * folder as airlock-engine and as airlock-tunnel: the first runs the real node, the second plays tunnel and keyd. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/node.h"
#include "engine/node_parts.h"
#include "policy_world.h"
#include "verifier/challenge.h"
#include "verifier/envelope.h"
#include "verifier/sealed.h"
#include "verifier/state.h"
#include "verifier/statement.h"
#define main check_main
#include "run.h"

static char folder[] = "/tmp/node-test-XXXXXX";
static char model[600], sealed[700];

static void path_in(char *out, size_t cap, const char *name)
{
    snprintf(out, cap, "%.500s/%s", folder, name);
}

static void write_text(const char *name, struct span text)
{
    char path[600];
    path_in(path, sizeof path, name);
    FILE *f = fopen(path, "we");
    ck_assert(f && fwrite(text.data, 1, text.len, f) == text.len && fclose(f) == 0);
}

/* What the stand-in learned: one word in `result`. */
static void read_result(char *out, size_t cap)
{
    char path[600];
    path_in(path, sizeof path, "result");
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, cap - 1, f) : 0;
    out[n] = 0;
    if (f)
        fclose(f);
}

/* --- the stand-in for airlock-tunnel and keyd ------------------------------------------------------------------- */

struct far {
    struct world world;
    struct tunnel_link *link;
    const char *plan; /* $NODE_TEST_PLAN */
    uint8_t statement[64], release[32], identity[32];
    unsigned stage;
    bool has_model;
    int grants;
    uint32_t streams[10], started, ended;
    char text[10][2048], code[10][64];
    uint32_t status[10];
    bool stats, asked;
    uint8_t seal[32];
    uint32_t epoch;
    struct verifier_sealed_reader reader;
    char opened[8192];
};

static void far_end(struct far *f, const char *word)
{
    char path[600];
    path_in(path, sizeof path, "result");
    FILE *r = fopen(path, "we");
    if (r) {
        fputs(word, r);
        fclose(r);
    }
    tunnel_link_close(f->link);
    exit(0);
}

/* Statement, state: from a leaf that the attester makes for a challenge of keyd's. */
static void learn(struct far *f)
{
    static struct verifier_envelope e;
    struct verifier_challenge c = {.verifier = VERIFIER_KEYD, .attester = VERIFIER_ENGINE, .nonce = {1}};
    struct writer challenge = writer_with_max(4096), envelope = writer_with_max(1 << 20);
    struct verifier_statement statement;
    struct verifier_state state;
    uint8_t exporter[32] = {2}, spki[91] = {3};
    verifier_challenge_encode(&challenge, &c);
    if (attester_leaf(4, writer_span(&challenge), span_of(spki, sizeof spki), exporter, &envelope) != ATTESTER_OK ||
        verifier_envelope_parse(&e, writer_span(&envelope)) != VERIFIER_OK ||
        verifier_statement_parse(&statement, e.statement) != VERIFIER_OK ||
        verifier_state_parse(&state, e.state) != VERIFIER_OK)
        far_end(f, "no envelope");
    verifier_sha512(f->statement, e.statement);
    memcpy(f->release, statement.release, 32);
    memcpy(f->identity, statement.identity, 32);
    f->stage = state.stage;
    f->epoch = state.has_seal ? state.seal.epoch : 0;
    memcpy(f->seal, state.seal.public, 32);
    f->has_model = state.has_model && memcmp(state.model.root, f->world.root, 64) == 0;
    writer_release(&challenge);
    writer_release(&envelope);
}

static void fill_grant(struct far *f, const struct policy_ask *ask, struct policy_grant *g, struct policy_lease *l)
{
    const struct world *w = &f->world;
    struct verifier_release_bind bind = {.n = 1};
    memcpy(g->nonce, ask->nonce, 32);
    memcpy(g->identity, ask->identity, 32);
    memcpy(g->statement, f->statement, 64);
    g->policy = writer_span(&w->documents);
    g->issued = l->issued = WORLD_NOW;
    l->expires = WORLD_NOW + 3600;
    memcpy(l->identity, ask->identity, 32);
    l->role = VERIFIER_ENGINE;
    memcpy(l->policy.digest, w->opened->digest, 64);
    l->policy.version = w->opened->policy.version;
    memcpy(bind.statement, f->statement, 64);
    memcpy(bind.policy, w->opened->digest, 64);
    memcpy(bind.artefact_root, w->root, 64);
    g->key_count = 1;
    memcpy(g->keys[0].artefact_root, w->root, 64);
    memcpy(g->keys[0].key_id, w->key_id, 32);
    if (!verifier_release_seal(f->release, &bind, w->weight_key, g->keys[0].enc, g->keys[0].sealed))
        far_end(f, "no key");
}

static void answer_ask(struct far *f, struct span body)
{
    struct policy_ask ask;
    struct policy_grant g = {0};
    struct policy_lease l = {0};
    struct writer lease_body = writer_with_max(4096), lease = lease_body, grant = writer_with_max(1 << 19), all = grant;
    learn(f);
    if (policy_ask_parse(&ask, body) != READER_OK || memcmp(ask.identity, f->identity, 32) != 0)
        far_end(f, "bad question");
    fill_grant(f, &ask, &g, &l);
    policy_lease_encode(&lease_body, &l);
    if (!verifier_signed_make(&lease, VERIFIER_SIGNED_LEASE, writer_span(&lease_body), f->world.keyd_seed))
        far_end(f, "no lease");
    g.lease = writer_span(&lease);
    policy_grant_encode(&grant, &g);
    /* The first answer is forged: it must change nothing, and the node must ask again. */
    const uint8_t *seed = f->grants++ == 0 ? f->world.stranger_seed : f->world.keyd_seed;
    if (!verifier_signed_make(&all, VERIFIER_SIGNED_GRANT, writer_span(&grant), seed) ||
        !tunnel_link_grant(f->link, 0, writer_span(&all)))
        far_end(f, "no grant");
    writer_release(&lease_body);
    writer_release(&lease);
    writer_release(&grant);
    writer_release(&all);
}

static void send_request(struct far *f, enum tunnel_frame_kind kind, struct span bytes)
{
    struct tunnel_mux *mux = tunnel_link_mux(f->link);
    uint32_t stream = f->streams[f->started++] = tunnel_mux_start(mux, NULL);
    while (bytes.len > 0) {
        size_t n = bytes.len < 700 ? bytes.len : 700; /* many pieces */
        struct tunnel_frame frame = {.kind = (uint8_t)kind,
                                     .flags = n < bytes.len ? TUNNEL_FRAME_MORE : 0,
                                     .stream = stream,
                                     .body = span_of(bytes.data, n)};
        if (!tunnel_mux_send(mux, &frame))
            far_end(f, "no room");
        bytes = span_of(bytes.data + n, bytes.len - n);
    }
}

static void ask_completion(struct far *f, const char *name, uint32_t tokens, double temperature)
{
    static struct tunnel_request q;
    struct writer w = writer_with_max(TUNNEL_REQUEST_MAX);
    tunnel_request_defaults(&q);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str(name);
    q.prompt_count = 1;
    q.prompt[0].bytes = span_str("");
    q.add_special_tokens = q.has_max_tokens = q.skip_special = true;
    q.max_tokens = tokens;
    q.temperature = temperature;
    if (!tunnel_request_pack(&w, &q))
        far_end(f, "cannot pack");
    send_request(f, TUNNEL_FRAME_REQUEST, writer_span(&w));
    writer_release(&w);
}

static void on_piece(void *ctx, struct span data)
{
    struct far *f = ctx;
    strncat(f->opened, (const char *)data.data, data.len);
}

/* A sealed request, the same again (a replay), and one with a bit changed. */
static void ask_sealed(struct far *f)
{
    static const char json[] = "{\"model\":\"m\",\"prompt\":[1],\"max_tokens\":30,\"temperature\":0}";
    struct verifier_sealed_head head = {.epoch = f->epoch,
                                        .request = {9},
                                        .endpoint = span_str("/v1/completions"),
                                        .model = span_str("m"),
                                        .max_tokens = 30};
    struct writer body = writer_with_max(1 << 16);
    struct verifier_hpke hpke;
    uint8_t enc[32];
    memcpy(head.engine, f->identity, 32);
    if (!verifier_sealed_request_seal(&head, f->seal, f->statement, f->world.opened->digest, span_str(json), &body,
                                      &hpke, enc))
        far_end(f, "cannot seal");
    verifier_sealed_reader_init(&f->reader, &hpke, enc, on_piece, f);
    send_request(f, TUNNEL_FRAME_SEALED, writer_span(&body));
    send_request(f, TUNNEL_FRAME_SEALED, writer_span(&body));
    body.data[body.len - 1] ^= 1;
    send_request(f, TUNNEL_FRAME_SEALED, writer_span(&body));
    writer_release(&body);
}

static void far_rules(struct far *f, const struct tunnel_rules *rules)
{
    if (rules->policy.len == 0)
        far_end(f, "no policy in the rules");
    if (rules->now == 0 || f->asked)
        return;
    f->asked = true;
    if (rules->now < WORLD_NOW || rules->now > WORLD_NOW + 60)
        far_end(f, "wrong time");
    learn(f);
    if (!f->has_model || (f->stage & (SANDBOX_SECCOMP | SANDBOX_NO_DUMPS | SANDBOX_NO_NEW_PRIVS)) !=
                             (SANDBOX_SECCOMP | SANDBOX_NO_DUMPS | SANDBOX_NO_NEW_PRIVS))
        far_end(f, "the state does not show model and sandbox");
    ask_completion(f, "m", 100, 0);
    ask_completion(f, "m", 100, 0);
    ask_completion(f, "other", 5, 0);
    send_request(f, TUNNEL_FRAME_REQUEST, span_str("not a request"));
    ask_completion(f, "m", 127, 0);
    tunnel_mux_abort(tunnel_link_mux(f->link), f->streams[4], "cancelled");
    ask_sealed(f);
    ask_completion(f, "m", 5, 1.6); /* what a proxy that heeds the policy would not send */
    ask_completion(f, "m", 120, 0); /* with its BOS one more than the owner allows, and less than the model could */
}

static void far_stream(struct far *f, const struct tunnel_mux_event *ev)
{
    static struct tunnel_event event;
    uint32_t i = 0;
    while (i < f->started && f->streams[i] != ev->stream)
        i++;
    if (i == f->started)
        return;
    if (ev->kind == TUNNEL_MUX_DATA) {
        tunnel_mux_consumed(tunnel_link_mux(f->link), ev->stream, ev->cost);
        if (i == 5 && verifier_sealed_reader_feed(&f->reader, ev->frame.body) != VERIFIER_OK)
            far_end(f, "sealed answer does not open");
        if (i == 5)
            return;
        if (tunnel_event_parse(&event, ev->frame.body) != READER_OK)
            far_end(f, "bad event");
        if (event.kind == TUNNEL_EVENT_START && i == 0 && strcmp(f->plan, "drain") == 0)
            kill(getppid(), SIGTERM); /* what runs is finished first */
        if (event.kind == TUNNEL_EVENT_DELTA)
            strncat(f->text[i], (const char *)event.text.data, event.text.len);
        if (event.kind == TUNNEL_EVENT_ERROR)
            f->status[i] = event.status;
    } else if (ev->kind == TUNNEL_MUX_ENDED) {
        snprintf(f->code[i], sizeof f->code[i], "%s", ev->code);
        f->ended++;
    }
}

static void far_judge(struct far *f)
{
    static const char start[] = "\"Echoes of vectors unfold, a gentle hum of precision, as I sense the nodes";
    if (strcmp(f->plan, "drain") == 0)
        return; /* the engine ends by itself */
    if (!f->stats)
        return; /* wait for the metrics */
    if (strncmp(f->text[0], start, strlen(start)) != 0 || strcmp(f->text[0], f->text[1]) != 0)
        far_end(f, "wrong text");
    if (f->status[8] != 400 || f->status[9] != 400)
        far_end(f, "the policy's bounds do not hold");
    if (f->status[2] != 404 || f->code[3][0] == 0 || f->code[0][0] != 0)
        far_end(f, "wrong refusals");
    if (verifier_sealed_reader_end(&f->reader) != VERIFIER_OK || !strstr(f->opened, "Echoes of vectors") ||
        !strstr(f->opened, "\"text_completion\""))
        far_end(f, "wrong sealed answer");
    if (strcmp(f->code[6], "replay") != 0 || strcmp(f->code[7], "seal_open") != 0)
        far_end(f, "wrong sealed refusals");
    far_end(f, "ok");
}

/* The world from the bundle that the test wrote: check's assertions do not work in this process. */
static bool far_world(struct world *w)
{
    char path[600];
    uint8_t buf[4096];
    path_in(path, sizeof path, "bundle");
    FILE *in = fopen(path, "re");
    memset(w->keyd_seed, 2, 32);
    memset(w->stranger_seed, 3, 32);
    memset(w->weight_key, 4, 32);
    w->documents = writer_with_max(VERIFIER_PART_MAX);
    for (size_t n; in && (n = fread(buf, 1, sizeof buf, in)) > 0;)
        writer_bytes(&w->documents, span_of(buf, n));
    if (in)
        fclose(in);
    w->opened = malloc(sizeof *w->opened);
    return w->opened && verifier_release_key_id(w->weight_key, w->key_id) &&
           policy_documents_open(w->opened, writer_span(&w->documents), NULL, NULL) == VERIFIER_OK;
}

static int far_main(void)
{
    static struct far f;
    struct tunnel_link_event ev;
    const char *root = getenv("NODE_TEST_ROOT");
    f.plan = getenv("NODE_TEST_PLAN");
    snprintf(folder, sizeof folder, "%s", getenv("NODE_TEST_FOLDER"));
    if (!root || !policy_hex_parse(span_str(root), f.world.root, 64) || !far_world(&f.world))
        return 1;
    if (fcntl(5, F_GETFD) != -1) /* nothing but 0 to 4 was inherited */
        return 1;
    f.link = tunnel_link_open(3, false, node_now_ms());
    struct tunnel_peer peer = {.keyd = true, .up = true, .name = span_str("keyd"), .code = span_str("ok")};
    if (!tunnel_link_peer(f.link, &peer))
        return 1;
    for (;;) {
        tunnel_link_pump(f.link, node_now_ms());
        while (tunnel_link_event(f.link, &ev)) {
            if (ev.kind == TUNNEL_LINK_ASK)
                answer_ask(&f, ev.body);
            else if (ev.kind == TUNNEL_LINK_RULES)
                far_rules(&f, &ev.rules);
            else if (ev.kind == TUNNEL_LINK_STREAM)
                far_stream(&f, &ev.stream);
            else if (ev.kind == TUNNEL_LINK_STATS)
                f.stats = true;
            else if (ev.kind == TUNNEL_LINK_CLOSED)
                far_end(&f, strcmp(f.plan, "drain") == 0 && strlen(f.text[0]) > 100 ? "ok" : "closed");
        }
        if (f.ended == 10)
            far_judge(&f);
        tunnel_link_pump(f.link, node_now_ms());
        struct pollfd fd = {.fd = tunnel_link_fd(f.link), .events = tunnel_link_wants(f.link)};
        poll(&fd, 1, 200);
    }
}

/* --- the test ---------------------------------------------------------------------------------------------------- */

static bool have_model(void)
{
    const char *root = getenv("AIRLOCK_SHARED");
    snprintf(model, sizeof model, "%.400s/models/aidreams260K/aidreams260K.gguf", root ? root : "../shared");
    return access(model, R_OK) == 0;
}

static void copy_self(const char *name)
{
    char path[600], buf[65536];
    path_in(path, sizeof path, name);
    int in = open("/proc/self/exe", O_RDONLY), out = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0755);
    ck_assert(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buf, sizeof buf)) > 0;)
        ck_assert(write(out, buf, (size_t)n) == n);
    close(in);
    close(out);
}

/* Seal the model under the world's key, write bundle and configuration with `more`. */
static void prepare(const char *more)
{
    struct world w;
    struct engine_artefact a = {0};
    struct engine_problem why = {0};
    char owner[129], root[129];
    struct writer conf = writer_with_max(4096);
    ck_assert(mkdtemp(folder) != NULL && chmod(folder, 0755) == 0);
    copy_self("airlock-engine");
    copy_self("airlock-tunnel");
    world_open(&w);
    w.requests = "requests = { temperature_max = \"1.5\"; max_context = 120; };\n";
    path_in(sealed, sizeof sealed, "sealed");
    ck_assert_msg(engine_artefact_seal(&a, model, sealed, span_of(w.weight_key, 32), NULL, NULL, &why), "%s", why.text);
    memcpy(w.root, a.root, 64);
    world_sign(&w);
    write_text("bundle", writer_span(&w.documents));
    policy_hex_print(span_of(w.owner, 64), owner);
    policy_hex_print(span_of(w.root, 64), root);
    setenv("NODE_TEST_ROOT", root, 1);
    setenv("NODE_TEST_FOLDER", folder, 1);
    writer_printf(&conf,
                  "model = \"%s\";\npolicy = \"%s/bundle\";\nowner = \"%s\";\nkeyd = [ \"127.0.0.1:1\" ];\n"
                  "proxies = [ \"localhost:1\" ];\nthreads = 2;\nkv_cache_memory_bytes = \"64MiB\";\n%s",
                  sealed, folder, owner, more);
    write_text("conf", writer_span(&conf));
    writer_release(&conf);
    engine_artefact_release(&a);
    world_close(&w);
}

static void clean(void)
{
    char command[700];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static int run_engine(const char *plan)
{
    char path[600], conf[600];
    int status;
    path_in(path, sizeof path, "airlock-engine");
    path_in(conf, sizeof conf, "conf");
    pid_t pid = fork();
    if (pid == 0) {
        setenv("NODE_TEST_PLAN", plan, 1);
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* the leak check forks and traces: the sandbox forbids it */
        execl(path, "airlock-engine", conf, NULL);
        _exit(99);
    }
    ck_assert(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

START_TEST(leases_loads_serves_and_ends)
{
    static const struct {
        const char *plan, *more, *word;
        int status;
    } plans[] = {
        {"serve", "override_generation_config = \"{\\\"temperature\\\": 1.5}\";\n", "ok", NODE_EXIT_TUNNEL},
        {"drain", "", "ok", NODE_EXIT_DRAINED},
        /* the policy's bound is 1.5 */
        {"serve", "override_generation_config = \"{\\\"temperature\\\": 1.6}\";\n", "closed", NODE_EXIT_MODEL},
        {"serve", "generation_config = \"/nowhere\";\n", "", NODE_EXIT_START},
    };
    char word[256];
    prepare(plans[_i].more);
    int status = run_engine(plans[_i].plan);
    read_result(word, sizeof word);
    clean();
    ck_assert_str_eq(word, plans[_i].word);
    ck_assert_int_eq(status, plans[_i].status);
}
END_TEST

static void add_tests(TCase *t)
{
    if (!have_model()) {
        printf("SKIP: no models under $AIRLOCK_SHARED\n");
        return;
    }
    tcase_add_loop_test(t, leases_loads_serves_and_ends, 0, 4);
}

RUN("engine_node", add_tests)

#undef main
int main(int argc, char **argv)
{
    static struct config config;
    struct writer text = writer_with_max(65536);
    char why[512], buf[4096];
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    if (strcmp(name, "airlock-tunnel") == 0)
        return far_main();
    if (strcmp(name, "airlock-engine") != 0)
        return check_main();
    FILE *f = fopen(argv[argc - 1], "re");
    for (size_t n; f && (n = fread(buf, 1, sizeof buf, f)) > 0;)
        writer_bytes(&text, span_of(buf, n));
    if (f)
        fclose(f);
    if (!config_from_text(&config, writer_span(&text), argv[argc - 1], why)) {
        fprintf(stderr, "%s\n", why);
        return NODE_EXIT_START;
    }
    writer_release(&text);
    return (int)node_run(&config);
}
