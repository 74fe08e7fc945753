/* main.c - `airlock WORD ...`: dispatch only. */
#include <stdio.h>
#include <string.h>

#include "proxy/cli/cli.h"

static const struct {
    const char *word;
    int (*run)(int argc, char **argv);
    const char *help;
} words[] = {
    {"verify", cli_verify, "check a proxy and the engines behind it by your own rules"},
    {"connect", cli_connect, "serve the API on this machine: verify first, then forward"},
    {"collateral", cli_collateral, "vendors' revocation lists and reference values in one file"},
    {"policy", cli_policy, "keys, policy, acceptance and tenants files"},
    {"seal", cli_seal, "encrypt a model"},
    {"log", cli_log, "check the chain of a key server's log"},
    {"doctor", cli_doctor, "what this machine can and cannot do"},
};

static void print_usage(FILE *out)
{
    fputs("usage: airlock WORD ...   (airlock WORD --help says more)\n", out);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        fprintf(out, "  %-10s %s\n", words[i].word, words[i].help);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < sizeof words / sizeof *words; i++)
        if (strcmp(argv[1], words[i].word) == 0)
            return words[i].run(argc - 1, argv + 1);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("airlock " AIRLOCK_VERSION);
        return CLI_OK;
    }
    if (argc >= 2 && (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0)) {
        print_usage(stdout);
        return CLI_OK;
    }
    print_usage(stderr);
    return CLI_USAGE;
}
