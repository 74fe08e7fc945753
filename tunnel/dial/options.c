#include "tunnel/dial/options.h"

#include "policy/config.h"
#include "tunnel/resolve.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *argp_program_version = "airlock-tunnel " AIRLOCK_VERSION;
const char *argp_program_bug_address = NULL;

static const struct argp_option options[] = {
    {"proxy", 'p', "HOST:PORT", 0, "Dial this proxy, at every address its name has (repeat)", 0},
    {"keyd", 'k', "HOST:PORT", 0, "A keyd, in the order of the policy's keyd keys (repeat)", 0},
    {"config", 'c', "FILE", 0, "Read `proxies` and `keyd` (lists of \"HOST:PORT\") from FILE", 0},
    {"link-fd", 'l', "N", 0, "Inherited descriptor of the link to airlock-engine (default 3)", 0},
    {"attester-fd", 'a', "N", 0, "Inherited descriptor of the attester (default 4)", 0},
    {0}};

static void add(struct argp_state *state, char (*list)[256], size_t *count, size_t max, const char *text)
{
    char host[256];
    uint16_t port;
    if (*count == max)
        argp_error(state, "more than %zu addresses; give fewer, or one name for several", max);
    else if (strlen(text) >= sizeof *list || !tunnel_address_split(text, host, &port))
        argp_error(state, "\"%.100s\" is not HOST:PORT or [ADDR]:PORT", text);
    else
        (void)snprintf(list[(*count)++], sizeof *list, "%s", text);
}

static void refuse_file(const char *path, const char *why)
{
    (void)fprintf(stderr, "airlock-tunnel: %s: %s\n", path, why);
    exit(2);
}

static void read_file(struct argp_state *state, const char *path, struct dial_config *out)
{
    static char text[POLICY_CONFIG_TEXT_MAX + 1];
    static char proxies[DIAL_TARGETS_MAX][256], keyds[TUNNEL_KEYDS_MAX][256];
    size_t proxy_count = 0, keyd_count = 0;
    struct policy_problem why;
    char line[512];
    FILE *f = fopen(path, "rb");
    size_t len = f ? fread(text, 1, sizeof text, f) : 0;
    if (!f || ferror(f))
        refuse_file(path, "cannot be read; check its name and rights");
    (void)fclose(f);
    struct policy_config *c = policy_config_open(span_of(text, len), &why);
    if (c) {
        struct policy_group g = policy_config_root(c);
        policy_group_texts(&g, "proxies", POLICY_OPTIONAL, 0, DIAL_TARGETS_MAX, proxies[0], sizeof *proxies,
                           &proxy_count);
        policy_group_texts(&g, "keyd", POLICY_OPTIONAL, 0, TUNNEL_KEYDS_MAX, keyds[0], sizeof *keyds, &keyd_count);
        policy_group_end(&g);
    }
    if (!c || !policy_config_ok(c, &why)) {
        policy_problem_print(&why, path, line, sizeof line);
        (void)fprintf(stderr, "airlock-tunnel: %s\n", line);
        exit(2);
    }
    policy_config_close(c);
    for (size_t i = 0; i < proxy_count; i++)
        add(state, out->proxy, &out->proxy_count, DIAL_TARGETS_MAX, proxies[i]);
    for (size_t i = 0; i < keyd_count; i++)
        add(state, out->keyd, &out->keyd_count, TUNNEL_KEYDS_MAX, keyds[i]);
}

static int descriptor(struct argp_state *state, const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    if (*end || end == text || fd < 3 || fd > 1000)
        argp_error(state, "\"%.20s\" is not an inherited descriptor (3 to 1000)", text);
    return (int)fd;
}

static error_t option(int key, char *arg, struct argp_state *state)
{
    struct dial_config *out = state->input;
    switch (key) {
    case 'p':
        add(state, out->proxy, &out->proxy_count, DIAL_TARGETS_MAX, arg);
        return 0;
    case 'k':
        add(state, out->keyd, &out->keyd_count, TUNNEL_KEYDS_MAX, arg);
        return 0;
    case 'c':
        read_file(state, arg, out);
        return 0;
    case 'l':
        out->link_fd = descriptor(state, arg);
        return 0;
    case 'a':
        out->attester_fd = descriptor(state, arg);
        return 0;
    case ARGP_KEY_END:
        if (out->proxy_count == 0)
            argp_error(state, "no proxy to dial; give --proxy or a file with `proxies`");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void dial_options(int argc, char **argv, struct dial_config *out)
{
    static const struct argp argp = {
        .options = options,
        .parser = option,
        .doc =
            "Carry requests between proxies and one engine. Started by airlock-engine, which hands over two sockets."};
    argp_err_exit_status = 2;
    (void)argp_parse(&argp, argc, argv, 0, NULL, out);
}
