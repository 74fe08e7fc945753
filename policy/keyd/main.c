/* main.c - airlock-keyd CONFIG: the owner's key server. Wiring only. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "policy/keyd/server.h"
#include "tunnel/sandbox.h"

static volatile sig_atomic_t stop, reload;

static void on_signal(int number)
{
    if (number == SIGHUP)
        reload = 1;
    else
        stop = 1;
}

static void take_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGHUP, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    a.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &a, NULL);
}

static bool read_config(const char *path, struct keyd_config *out)
{
    static char text[POLICY_CONFIG_TEXT_MAX + 1];
    struct policy_problem why = {0};
    char line[512];
    FILE *f = fopen(path, "rb");
    if (!f) {
        keyd_say("failed", "config", "the configuration file cannot be read");
        return false;
    }
    size_t len = fread(text, 1, sizeof text, f);
    fclose(f);
    if (keyd_config_parse(out, span_of(text, len), path, &why))
        return true;
    policy_problem_print(&why, path, line, sizeof line);
    keyd_say("failed", "config", line);
    return false;
}

/* What keyd may touch: its state, the folder of its key (the log's head stands there) and the operator's files; while
 * loading also the weight keys. The arrays live as long as the process, as sandbox.h wants. */
static const struct sandbox_config *sandbox_of(const struct keyd_config *c)
{
    static char folder[4][KEYD_PATH_MAX];
    static struct sandbox_path serve[5], load[KEYD_WEIGHTS_MAX];
    static struct sandbox_config sandbox = {.profile = SANDBOX_KEYD,
                                            .required = SANDBOX_SECCOMP | SANDBOX_NO_NEW_PRIVS | SANDBOX_NO_DUMPS,
                                            .load = load,
                                            .serve = serve,
                                            .serve_count = 5,
                                            .keep_uid = true};
    serve[0] = (struct sandbox_path){c->state, SANDBOX_READ | SANDBOX_WRITE};
    serve[1] = (struct sandbox_path){sandbox_folder(c->key, folder[0], KEYD_PATH_MAX), SANDBOX_READ | SANDBOX_WRITE};
    serve[2] = (struct sandbox_path){sandbox_folder(c->documents, folder[1], KEYD_PATH_MAX), SANDBOX_READ};
    serve[3] = (struct sandbox_path){
        sandbox_folder(c->revocations[0] ? c->revocations : c->documents, folder[2], KEYD_PATH_MAX), SANDBOX_READ};
    serve[4] = (struct sandbox_path){
        sandbox_folder(c->tenants[0] ? c->tenants : c->documents, folder[3], KEYD_PATH_MAX), SANDBOX_READ};
    for (size_t i = 0; i < c->weight_count; i++)
        load[i] = (struct sandbox_path){c->weight[i].file, SANDBOX_READ};
    sandbox.load_count = c->weight_count;
    return &sandbox;
}

static bool lock_in(const struct keyd_config *c, int (*step)(const struct sandbox_config *, struct sandbox_problem *))
{
    struct sandbox_problem why;
    if (!c->sandbox || step(sandbox_of(c), &why) == 0)
        return true;
    keyd_say("failed", "sandbox", why.text);
    return false;
}

static struct keyd_core *open_core(struct keyd_store *store, const struct keyd_config *c)
{
    struct keyd_papers papers = {0};
    struct writer log = writer_with_max(KEYD_LOG_MAX), lines = writer_with_max(KEYD_LINES_MAX);
    char why[256] = "";
    bool fits = false;
    struct keyd_core *core = NULL;
    if (keyd_store_log(store, &log, &fits, why) && keyd_store_papers(store, &papers, why)) {
        struct keyd_core_config config = {.seed = secret_span(&store->seed),
                                          .documents = writer_span(&papers.documents),
                                          .revocations = writer_span(&papers.revocations),
                                          .tenants_version = papers.tenants_version,
                                          .weights = store->weight,
                                          .weight_count = store->weight_count,
                                          .lease_s = c->lease_s,
                                          .log = writer_span(&log),
                                          .is_restored = !fits};
        core = keyd_core_open(&config, (uint64_t)time(NULL), &lines, why);
    }
    if (core && !keyd_store_append(store, writer_span(&lines), keyd_core_log(core))) {
        snprintf(why, sizeof why, "the log cannot be written");
        keyd_core_close(core);
        core = NULL;
    }
    if (!core)
        keyd_say("failed", "start", why);
    keyd_papers_release(&papers);
    writer_release(&log);
    writer_release(&lines);
    return core;
}

static void say_ready(const struct keyd_config *c, const struct keyd_server *server, const struct keyd_core *core)
{
    char hex[65];
    policy_hex_print(span_of(keyd_core_public(core), 32), hex);
    printf("{\"event\":\"ready\",\"key\":\"%s\",\"waiting\":%s,\"engines\":[", hex,
           keyd_core_is_waiting(core) ? "true" : "false");
    for (size_t i = 0; i < c->engine_count; i++)
        printf("%s%u", i ? "," : "", keyd_server_port(server, VERIFIER_ENGINE, i));
    fputs("],\"proxies\":[", stdout);
    for (size_t i = 0; i < c->proxy_count; i++)
        printf("%s%u", i ? "," : "", keyd_server_port(server, VERIFIER_PROXY, i));
    puts("]}");
    fflush(stdout);
    if (keyd_core_is_waiting(core))
        keyd_say("waiting", "restored",
                 "the log is not the one sealed with our keys, or a node had newer papers: check that this is the "
                 "newest state, then run: airlock policy confirm STATE_FOLDER");
}

static error_t take_argument(int key, char *arg, struct argp_state *state)
{
    const char **path = state->input;
    if (key == ARGP_KEY_ARG && !*path)
        *path = arg;
    else if (key == ARGP_KEY_ARG)
        argp_error(state, "one configuration file, not two");
    else if (key == ARGP_KEY_END && !*path)
        argp_error(state, "the configuration file is missing");
    else if (key != ARGP_KEY_END)
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static const struct argp arguments = {
    .parser = take_argument,
    .args_doc = "CONFIG",
    .doc = "The model owner's key server: leases, trusted time and weight keys for nodes that prove themselves.\v"
           "SIGHUP reads documents, revocations and tenants anew. The words of CONFIG: man airlock-keyd.",
};

int main(int argc, char **argv)
{
    static struct keyd_config config;
    const char *path = NULL;
    struct keyd_store store;
    struct keyd_core *core = NULL;
    struct keyd_server *server = NULL;
    char why[256] = "";
    argp_err_exit_status = 2;
    if (argp_parse(&arguments, argc, argv, 0, NULL, &path) != 0)
        return 2;
    umask(077);
    take_signals();
    if (!read_config(path, &config))
        return 2;
    (void)mkdir(config.state, 0700); /* keyd_store_open() says it when it is not there */
    if (!lock_in(&config, sandbox_enter))
        return 2;
    bool good = keyd_store_open(&store, &config, why);
    if (good) {
        server = keyd_server_open(&config, why);
        good = server != NULL;
    }
    if (!good)
        keyd_say("failed", "start", why);
    core = good ? open_core(&store, &config) : NULL;
    good = core && lock_in(&config, sandbox_seal);
    if (good) {
        say_ready(&config, server, core);
        keyd_server_run(server, &store, core, &stop, &reload);
    }
    keyd_server_close(server);
    keyd_core_close(core);
    keyd_store_close(&store);
    return good ? 0 : 1;
}
