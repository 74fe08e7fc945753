/* files.h - what the tool's words share: options, whole files, keys on disk, messages. */
#ifndef PROXY_CLI_FILES_H
#define PROXY_CLI_FILES_H

#include "policy/config.h"
#include "policy/keytext.h"
#include "proxy/cli/cli.h"
#include "verifier/base/secret.h"
#include "verifier/base/writer.h"

/* --- options ---------------------------------------------------------------------------------------- */

#define CLI_VALUES_MAX 64
#define CLI_OPTIONS_MAX 24

/* One option: `--name VALUE`, or `--name` alone when it is a flag. Unused values are NULL. */
struct cli_option {
    const char *name; /* without the dashes */
    bool is_flag;
    size_t max, count; /* how often it may come (0 means once), how often it came */
    const char *value[CLI_VALUES_MAX];
};
/* Sort argv[1..] into options (at most CLI_OPTIONS_MAX) and the others, by argp; `--` ends options. False after saying
 * what is wrong. */
MUST_CHECK bool cli_options(int argc, char **argv, struct cli_option *options, size_t option_count, const char **rest,
                            size_t rest_max, size_t *rest_count);

/* "airlock WORD: ..." with a newline on standard error; returns CLI_FAILED. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cli_help(const char *text);  /* the same on standard output, because it was asked for; returns CLI_OK */
int cli_usage(const char *text); /* prints "usage: airlock " and `text`; returns CLI_USAGE */

/* --- files ------------------------------------------------------------------------------------------ */

/* Append a whole file of at most w->max bytes; "-" is standard input. False after saying why. */
MUST_CHECK bool cli_read(const char *path, struct writer *w);
bool cli_exists(const char *path);
/* Append a collateral bundle (verifier/bundle.h) that can be read. False after saying why. */
MUST_CHECK bool cli_read_bundle(const char *path, struct writer *w);
/* Write a file whole: beside it first, then renamed. `mode` 0600 for secrets, 0644 else. `fresh`: it must not exist.
 * False after saying why. */
MUST_CHECK bool cli_write(const char *path, struct span bytes, unsigned mode, bool fresh);

/* --- keys ------------------------------------------------------------------------------------------- */

/* Key files (policy/keytext.h) have mode 0600; the public half of a signing key stands in PATH.pub as one line of hex.
 */
MUST_CHECK bool cli_key_write(const char *path, const char *kind, struct span key);
MUST_CHECK bool cli_key_read(const char *path, const char *kind, struct secret *out);

/* `len` bytes from hex, or from a file that holds hex. False after saying why. */
MUST_CHECK bool cli_hex(const char *text_or_path, uint8_t *out, size_t len);
MUST_CHECK bool cli_random(uint8_t *out, size_t len);

#endif
