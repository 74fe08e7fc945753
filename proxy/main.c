/* main.c - airlock-proxy: flags and configuration, then proxy/run.c. */
#include "proxy/run.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

const char *argp_program_version = "airlock-proxy " AIRLOCK_VERSION;

struct arguments {
    const char *config;
    bool check;
};

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "configuration (libconfig)", 0},
    {"check", 'n', 0, 0, "read the configuration, print what would be in force, and exit", 0},
    {0},
};

static error_t on_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;

    switch (key) {
    case 'c':
        a->config = value;
        return 0;
    case 'n':
        a->check = true;
        return 0;
    case ARGP_KEY_END:
        if (!a->config)
            argp_error(state, "--config FILE is required");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static bool load(const char *path, struct config *config)
{
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX);
    struct policy_problem problem;
    char why[512];
    bool ok = config_read_file(path, &text, why);

    if (ok && !(ok = config_parse(writer_span(&text), config, &problem)))
        policy_problem_print(&problem, path, why, sizeof why);
    if (!ok)
        fprintf(stderr, "airlock-proxy: %s\n", why);
    writer_release(&text);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        options,
        on_option,
        NULL,
        "airlock-proxy - the public side of Airlock: HTTPS for clients, tunnels for engines.\n"
        "It serves once the key server has granted it a lease.\v"
        "SIGTERM drains, a second one ends at once; SIGHUP reads the tenants file again.",
        NULL,
        NULL,
        NULL};
    static struct config config;
    struct arguments arguments = {0};

    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (!load(arguments.config, &config))
        return 2;
    if (arguments.check) {
        struct writer w = writer_with_max(64 << 10);
        config_print(&config, &w);
        fwrite(w.data, 1, w.len, stdout);
        writer_release(&w);
        return 0;
    }
    return run_proxy(&config);
}
