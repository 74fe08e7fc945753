/* airlock-tunnel - the only process of an engine's machine with a network socket. Wiring: options, sandbox, loop. */
#include "tunnel/dial/options.h"
#include "tunnel/sandbox.h"

#include <signal.h>
#include <stdio.h>

static void on_term(int sig)
{
    (void)sig;
    dial_stop(NULL);
}

static void catch_signals(void)
{
    struct sigaction term = {.sa_handler = on_term}, ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGTERM, &term, NULL);
    (void)sigaction(SIGINT, &term, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

int main(int argc, char **argv)
{
    /* what c-ares and OpenSSL read when they start; afterwards only the hosts file, which a look-up may ask again */
    static const struct sandbox_path load[] = {
        {"/etc/resolv.conf", SANDBOX_READ},     {"/etc/nsswitch.conf", SANDBOX_READ}, {"/etc/host.conf", SANDBOX_READ},
        {"/etc/ssl/openssl.cnf", SANDBOX_READ}, {"/dev/urandom", SANDBOX_READ},
    };
    static const struct sandbox_path serve[] = {{"/etc/hosts", SANDBOX_READ}};
    static struct dial_config config = {.link_fd = 3, .attester_fd = 4};
    struct sandbox_problem problem;
    char why[256];

    dial_options(argc, argv, &config);
    catch_signals();
    int keep[] = {config.link_fd, config.attester_fd};
    struct sandbox_config box = {
        .profile = SANDBOX_TUNNEL,
        .required = SANDBOX_SECCOMP | SANDBOX_NO_DUMPS | SANDBOX_NO_NEW_PRIVS,
        .keep = keep,
        .keep_count = 2,
        .load = load,
        .load_count = sizeof load / sizeof *load,
        .serve = serve,
        .serve_count = sizeof serve / sizeof *serve,
        .die_with_parent = true,
    };
    if (sandbox_enter(&box, &problem) != 0) {
        (void)fprintf(stderr, "airlock-tunnel: %s\n", problem.text);
        return 2;
    }
    config.judge = dial_judge_open();
    struct dial *dial = config.judge.ctx ? dial_open(&config, why) : NULL;
    if (!dial) {
        (void)fprintf(stderr, "airlock-tunnel: %s\n", config.judge.ctx ? why : "out of memory");
        return 2;
    }
    if (sandbox_seal(&box, &problem) != 0) {
        (void)fprintf(stderr, "airlock-tunnel: %s\n", problem.text);
        return 2;
    }
    int rc = dial_run(dial);
    dial_close(dial);
    dial_judge_close(&config.judge);
    return rc;
}
