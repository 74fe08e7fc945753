/* connect.c - `airlock connect`: flags and files, then proxy/connect.h until SIGTERM or SIGINT. */
#include "proxy/connect.h"

#include "policy/acceptance.h"
#include "policy/config.h"
#include "proxy/cli/files.h"
#include "proxy/config.h"
#include "proxy/tls.h"
#include "tunnel/json.h"
#include "tunnel/sandbox.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static const char usage[] =
    "connect URL... --acceptance FILE [--listen ADDR:PORT] [--state DIR] [--model NAME] [--ca FILE]\n"
    "        [--key-file FILE] [--collateral BUNDLE] [--sealed]\n"
    "  URL...             proxies, https://HOST[:PORT]; they take turns\n"
    "  --acceptance FILE  what you accept (airlock policy init writes one)\n"
    "  --listen ADDR:PORT on this machine's loopback; default 127.0.0.1:8461\n"
    "  --state DIR        remember the highest versions met there; default: a folder for the owners you accept, in\n"
    "                     ~/.local/state/airlock\n"
    "  --model NAME       only engines that serve this model\n"
    "  --ca FILE          also demand a certificate for the name from these authorities\n"
    "  --collateral BUNDLE  revocation lists and reference values of your own (airlock collateral)\n"
    "  --sealed           encrypt each request to an engine that proved its own key: the proxy sees sizes only\n"
    "  --key-file FILE    use the API key in FILE for every request; callers then send the token that is printed\n"
    "                     at the start. Without it each caller's own bearer is passed on";

enum { DRAIN_S = 30, WORKERS = 64, WAITING_MAX = 256 };

struct start {
    struct connect_config config;
    struct airlock_rules *rules;
    struct seen seen;
    SSL_CTX *tls;
    struct tunnel_bundle collateral;
    uint64_t owners; /* names the set of owners that the rules accept */
};

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

static bool open_listener(const char *listen, struct start *s)
{
    char host[CONFIG_ADDRESS_MAX], why[HX_WHY_MAX];
    uint16_t port;

    if (!config_address(listen, host, &port) || !is_loopback(host)) {
        cli_fail(
            "connect: --listen takes an address of this machine's loopback, e.g. 127.0.0.1:8461: whoever can reach "
            "the endpoint may use it");
        return false;
    }
    s->config.listen_fd = hx_listen(host, port, why);
    if (s->config.listen_fd < 0)
        cli_fail("connect: %s", why);
    return s->config.listen_fd >= 0;
}

static bool read_rules(const char *path, struct start *s)
{
    static struct policy_rules rules;
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX);
    struct policy_problem problem;
    struct airlock_result why;

    if (cli_read(path, &text) && policy_acceptance_parse(writer_span(&text), &rules, &problem))
        for (size_t i = 0; i < rules.owner_count; i++)
            for (size_t k = 0; k < 8; k++)
                s->owners ^= (uint64_t)rules.owner[i][k] << 8 * k;
    if (text.len > 0 && !(s->rules = airlock_rules_parse((struct airlock_span){text.data, text.len}, &why)))
        cli_fail("%s: %s", path, why.observed);
    writer_release(&text);
    return s->rules != NULL;
}

/* The key's line, and a token of our own for those who use it through us. */
static bool read_key(const char *path, struct start *s)
{
    struct writer text = writer_with_max(CONNECT_KEY_MAX - 1);
    uint8_t token[CONNECT_TOKEN_LEN];
    bool ok = cli_read(path, &text);

    while (ok && text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.len--;
    for (size_t i = 0; ok && i < text.len; i++)
        ok = text.data[i] > ' ' && text.data[i] < 0x7f;
    if (ok && text.len > 0 && cli_random(token, sizeof token)) {
        memcpy(s->config.key, text.data, text.len);
        policy_hex_print(span_of(token, sizeof token), s->config.token);
    } else {
        ok = false;
        cli_fail("connect: %s does not hold an API key on one line", path);
    }
    writer_release(&text);
    return ok;
}

/* Versions of one owner say nothing of another's, so each set of owners has a folder. */
static const char *default_folder(const struct start *s, char out[600])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (state && state[0] == '/')
        snprintf(out, 600, "%.500s/airlock/connect-%016llx", state, (unsigned long long)s->owners);
    else if (home && home[0] == '/')
        snprintf(out, 600, "%.500s/.local/state/airlock/connect-%016llx", home, (unsigned long long)s->owners);
    else
        return NULL;
    for (char *at = strchr(out + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        (void)mkdir(out, 0700); /* most are there; seen_open() says what is wrong with the last */
        *at = '/';
    }
    return out;
}

static bool open_state(const char *folder, struct start *s)
{
    char fallback[600], why[256];

    if (!folder)
        folder = default_folder(s, fallback);
    if (!folder)
        fprintf(stderr, "airlock connect: no HOME, so older versions than met before show only until the end of this "
                        "process: give --state\n");
    if (seen_open(&s->seen, folder, why))
        return true;
    cli_fail("connect: %s", why);
    return false;
}

static bool read_collateral(const char *path, struct start *s)
{
    char why[256];

    if (tunnel_bundle_open(&s->collateral, path, why))
        return true;
    cli_fail("connect: %s", why);
    return false;
}

static bool read_urls(const char *const *urls, size_t count, struct start *s)
{
    for (size_t i = 0; i < count; i++) {
        if (!client_url_parse(&s->config.upstream.proxy[i], urls[i])) {
            cli_fail("connect: '%s' is not https://HOST[:PORT]", urls[i]);
            return false;
        }
    }
    s->config.upstream.proxy_count = count;
    return count > 0;
}

static void run_until_signal(struct connect *c, const sigset_t *signals)
{
    int sig;

    do
        sig = sigwaitinfo(signals, NULL);
    while (sig < 0 && errno == EINTR);
    connect_drain(c);
    for (int i = 0; i < DRAIN_S * 10 && connect_running(c) > 0; i++)
        if (sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = 100000000}) > 0)
            _exit(1);
}

/* What it needs from here on: names, its memory of versions, its collateral. Whoever runs it stays who they are. */
static bool lock_in(const struct start *s, char folder[sizeof s->seen.path])
{
    int keep[] = {s->config.listen_fd};
    char bundles[TUNNEL_BUNDLE_PATH_MAX];
    struct sandbox_path serve[6] = {
        {"/etc/resolv.conf", SANDBOX_READ},
        {"/etc/hosts", SANDBOX_READ},
        {"/etc/nsswitch.conf", SANDBOX_READ},
        {"/etc/host.conf", SANDBOX_READ},
    };
    size_t count = 4;
    struct sandbox_config config = {
        .profile = SANDBOX_CONNECT, .keep = keep, .keep_count = 1, .serve = serve, .keep_uid = true};
    struct sandbox_problem why;

    if (folder[0])
        serve[count++] = (struct sandbox_path){folder, SANDBOX_READ | SANDBOX_WRITE};
    if (s->collateral.path[0]) {
        sandbox_folder(s->collateral.path, bundles, sizeof bundles);
        serve[count++] = (struct sandbox_path){bundles, SANDBOX_READ};
    }
    config.serve_count = count;
    if (sandbox_enter(&config, &why) == 0 && sandbox_seal(&config, &why) == 0)
        return true;
    cli_fail("connect: %s", why.text);
    return false;
}

static int run(struct start *s)
{
    char folder[sizeof s->seen.path];

    sigset_t signals;
    struct connect *c;
    char why[HX_WHY_MAX];

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread */
    snprintf(folder, sizeof folder, "%s", s->seen.path);
    if (strrchr(folder, '/'))
        *strrchr(folder, '/') = 0;
    if (!lock_in(s, folder))
        return CLI_FAILED;
    c = connect_start(&s->config, why);
    if (!c)
        return cli_fail("connect: %s", why);
    fprintf(stderr, "airlock connect: http://127.0.0.1:%u/v1\n", connect_port(c));
    if (s->config.key[0])
        printf("token %s\n", s->config.token), fflush(stdout);
    run_until_signal(c, &signals);
    connect_stop(c);
    return CLI_OK;
}

int cli_connect(int argc, char **argv)
{
    enum { ACCEPTANCE, LISTEN, STATE, MODEL, CA, KEY, COLLATERAL, SEALED, OPTIONS };
    struct cli_option o[OPTIONS] = {
        [ACCEPTANCE] = {.name = "acceptance"},
        [LISTEN] = {.name = "listen"},
        [STATE] = {.name = "state"},
        [MODEL] = {.name = "model"},
        [CA] = {.name = "ca"},
        [KEY] = {.name = "key-file"},
        [COLLATERAL] = {.name = "collateral"},
        [SEALED] = {.name = "sealed", .is_flag = true},
    };
    const char *urls[UPSTREAM_PROXIES_MAX];
    struct start s = {.config = {.listen_fd = -1,
                                 .workers = WORKERS,
                                 .waiting_max = WAITING_MAX,
                                 .request_ms = 1800000,
                                 .limits = hx_limits_default(),
                                 .upstream = {.connect_ms = 5000, .attest_ms = 15000}}};
    char why[256];
    size_t count;
    int rc = CLI_USAGE;

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return cli_help(usage);
    if (!cli_options(argc, argv, o, OPTIONS, urls, UPSTREAM_PROXIES_MAX, &count) || count == 0 || !o[ACCEPTANCE].count)
        return cli_usage(usage);
    tunnel_json_wipe_memory();
    if (read_urls(urls, count, &s) && read_rules(o[ACCEPTANCE].value[0], &s) && open_state(o[STATE].value[0], &s) &&
        (!o[KEY].count || read_key(o[KEY].value[0], &s)) &&
        (!o[COLLATERAL].count || read_collateral(o[COLLATERAL].value[0], &s)) &&
        open_listener(o[LISTEN].count ? o[LISTEN].value[0] : "127.0.0.1:8461", &s)) {
        s.config.sealed = o[SEALED].count > 0;
        s.config.upstream.rules = s.rules;
        s.config.upstream.seen = &s.seen;
        s.config.upstream.collateral = &s.collateral;
        s.config.upstream.model = o[MODEL].value[0];
        s.config.upstream.tls = s.tls = tls_client_open(o[CA].value[0], why);
        rc = s.tls ? run(&s) : cli_fail("connect: %s", why);
    }
    SSL_CTX_free(s.tls);
    airlock_rules_free(s.rules);
    tunnel_bundle_release(&s.collateral);
    secret_wipe(&s.config, sizeof s.config);
    return rc;
}
