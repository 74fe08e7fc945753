/* cli.h - the words of the `airlock` tool; main.c dispatches on argv[1]. Each takes its own argv (argv[0] is its word)
 * and returns the exit code: 0 done, 1 refused or failed, 2 called wrongly. Messages go to standard error, results to
 * standard output. */
#ifndef PROXY_CLI_CLI_H
#define PROXY_CLI_CLI_H

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

int cli_collateral(int argc, char **argv); /* collateral.c: vendors' lists and values in one file */
int cli_connect(int argc, char **argv);    /* connect.c: a local endpoint that verifies, then forwards */
int cli_doctor(int argc, char **argv);     /* doctor.c: what this machine has */
int cli_verify(int argc, char **argv);     /* verify.c: 0 accepted, 1 refused, 2 could not be asked */
int cli_log(int argc, char **argv);        /* log.c: check a hash-chained log */
int cli_policy(int argc, char **argv);     /* policy.c: keys, signatures, texts */
int cli_seal(int argc, char **argv);       /* seal.c: encrypt a model */

#endif
