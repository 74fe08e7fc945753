/* policy_words.h - the second words of `airlock policy`, one function each; argv[0] is the word. */
#ifndef PROXY_CLI_POLICY_WORDS_H
#define PROXY_CLI_POLICY_WORDS_H

#include "proxy/cli/files.h"

int cli_policy_init(int argc, char **argv);   /* policy_init.c */
int cli_policy_tenant(int argc, char **argv); /* policy_tenant.c */
int cli_policy_keygen(int argc, char **argv); /* policy_sign.c */
int cli_policy_keyset(int argc, char **argv);
int cli_policy_sign(int argc, char **argv);
int cli_policy_bundle(int argc, char **argv);
int cli_policy_revoke(int argc, char **argv);
int cli_policy_release(int argc, char **argv); /* policy_release.c */
int cli_policy_accept(int argc, char **argv);
int cli_policy_check(int argc, char **argv); /* policy_show.c */
int cli_policy_show(int argc, char **argv);
int cli_policy_measure(int argc, char **argv);
int cli_policy_root(int argc, char **argv);
int cli_policy_confirm(int argc, char **argv);

#endif
