/* policy.c - `airlock policy WORD`. */
#include <stdio.h>

#include "proxy/cli/policy_words.h"

static const struct {
    const char *word;
    int (*run)(int argc, char **argv);
    const char *help;
} words[] = {
    {"init", cli_policy_init, "write commented policy, acceptance and tenants files"},
    {"keygen", cli_policy_keygen, "make a signing key"},
    {"keyset", cli_policy_keyset, "make or renew the owner's key set"},
    {"sign", cli_policy_sign, "add a signature to FILE.sig"},
    {"bundle", cli_policy_bundle, "join key sets and signed policy into what nodes read"},
    {"revoke", cli_policy_revoke, "make a signed revocation list"},
    {"check", cli_policy_check, "read a text as the programs do, and its signatures"},
    {"show", cli_policy_show, "print what a text or signed object says"},
    {"tenant", cli_policy_tenant, "add a tenant, hash an API key"},
    {"release", cli_policy_release, "make a publisher's signed list of measurements"},
    {"accept", cli_policy_accept, "print the programs of a signed release"},
    {"measure", cli_policy_measure, "measure built programs (simulation)"},
    {"root", cli_policy_root, "print a model's artefact root"},
    {"confirm", cli_policy_confirm, "let a key server work again after a restore"},
};

int cli_policy(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < sizeof words / sizeof *words; i++)
        if (strcmp(argv[1], words[i].word) == 0) /* a word without arguments prints its usage */
            return words[i].run(argc - 1, argv + 1);
    bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
    FILE *out = help ? stdout : stderr;
    fputs("usage: airlock policy WORD ...\n", out);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        fprintf(out, "  %-8s %s\n", words[i].word, words[i].help);
    return help ? CLI_OK : CLI_USAGE;
}
