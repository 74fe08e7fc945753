/* files.c - options, files and keys of the tool's words. */
#include "proxy/cli/files.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verifier/bundle.h"

int cli_fail(const char *format, ...)
{
    va_list args;
    fputs("airlock: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_FAILED;
}

int cli_help(const char *text)
{
    printf("usage: airlock %s\n", text);
    return CLI_OK;
}

/* `--help` was among the options. */
static bool help_asked;

int cli_usage(const char *text)
{
    if (help_asked)
        return cli_help(text);
    fprintf(stderr, "usage: airlock %s\n", text);
    return CLI_USAGE;
}

struct sorting {
    struct cli_option *options;
    size_t option_count;
    const char **rest;
    size_t rest_max, *rest_count;
};

enum { FIRST_KEY = 256, HELP_KEY = FIRST_KEY + 255 };

static error_t sort_one(int key, char *value, struct argp_state *state)
{
    struct sorting *s = state->input;
    struct cli_option *o;

    if (key == HELP_KEY) { /* as if nothing was given: the word then says how it is called */
        help_asked = true;
        *s->rest_count = 0;
        for (size_t i = 0; i < s->option_count; i++)
            s->options[i].count = 0;
        state->next = state->argc;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        if (*s->rest_count == s->rest_max) {
            cli_fail("%s: one argument too many: %s", state->argv[0], value);
            return EINVAL;
        }
        s->rest[(*s->rest_count)++] = value;
        return 0;
    }
    if (key < FIRST_KEY || key >= FIRST_KEY + (int)s->option_count)
        return ARGP_ERR_UNKNOWN;
    o = &s->options[key - FIRST_KEY];
    if (o->count >= (o->max ? o->max : 1)) {
        cli_fail("%s: --%s comes too often", state->argv[0], o->name);
        return EINVAL;
    }
    o->value[o->count++] = o->is_flag ? "" : value;
    return 0;
}

bool cli_options(int argc, char **argv, struct cli_option *options, size_t option_count, const char **rest,
                 size_t rest_max, size_t *rest_count)
{
    struct argp_option known[CLI_OPTIONS_MAX + 3] = {{0}};
    struct argp words = {.options = known, .parser = sort_one};
    struct sorting s = {options, option_count, rest, rest_max, rest_count};

    *rest_count = 0;
    help_asked = false;
    known[option_count] = (struct argp_option){.name = "help", .key = HELP_KEY};
    known[option_count + 1] = (struct argp_option){.name = "usage", .key = HELP_KEY}; /* argp speaks of it */
    for (size_t i = 0; i < option_count; i++)
        known[i] = (struct argp_option){
            .name = options[i].name, .key = FIRST_KEY + (int)i, .arg = options[i].is_flag ? NULL : "VALUE"};
    return argp_parse(&words, argc, argv, ARGP_NO_EXIT | ARGP_NO_HELP, NULL, &s) == 0;
}

bool cli_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool cli_read(const char *path, struct writer *w)
{
    uint8_t piece[16384];
    ssize_t n;
    int fd = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        cli_fail("%s cannot be read: %s", path, strerror(errno));
        return false;
    }
    while ((n = read(fd, piece, sizeof piece)) != 0) {
        if (n > 0)
            writer_bytes(w, span_of(piece, (size_t)n));
        else if (errno != EINTR)
            break;
        if (!writer_ok(w))
            break;
    }
    close(fd);
    secret_wipe(piece, sizeof piece);
    if (n == 0 && writer_ok(w))
        return true;
    cli_fail(n < 0 ? "%s cannot be read: %s" : "%s is longer than such a file may be", path, strerror(errno));
    return false;
}

bool cli_read_bundle(const char *path, struct writer *w)
{
    struct verifier_collateral collateral;
    struct verifier_bundle bundle;
    if (!cli_read(path, w))
        return false;
    if (verifier_bundle_parse(&bundle, writer_span(w)) == VERIFIER_OK &&
        verifier_collateral_parse(&collateral, bundle.collateral) == VERIFIER_OK)
        return true;
    cli_fail("%s is not a collateral bundle, or it is damaged: fetch or pack it again", path);
    return false;
}

static bool write_all(int fd, struct span s)
{
    while (s.len > 0) {
        ssize_t n = write(fd, s.data, s.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s = span_of(s.data + n, s.len - (size_t)n);
    }
    return true;
}

bool cli_write(const char *path, struct span bytes, unsigned mode, bool fresh)
{
    char beside[4096];
    int len = snprintf(beside, sizeof beside, "%s.new", path);
    if (len < 0 || (size_t)len >= sizeof beside) {
        cli_fail("%s: the path is too long", path);
        return false;
    }
    if (fresh && cli_exists(path)) {
        cli_fail("%s exists already and is not overwritten; move it away first", path);
        return false;
    }
    unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    bool good = fd >= 0 && write_all(fd, bytes) && fsync(fd) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (good && (fresh ? link(beside, path) == 0 && unlink(beside) == 0 : rename(beside, path) == 0))
        return true;
    cli_fail("%s cannot be written: %s", path, strerror(good ? errno : saved));
    if (fd >= 0)
        unlink(beside);
    return false;
}

bool cli_random(uint8_t *out, size_t len)
{
    if (RAND_bytes(out, (int)len) == 1)
        return true;
    cli_fail("the machine gives no randomness");
    return false;
}

bool cli_key_write(const char *path, const char *kind, struct span key)
{
    struct writer w = writer_with_max(POLICY_KEYTEXT_MAX);
    policy_keytext_print(&w, kind, key);
    bool good = writer_ok(&w) && cli_write(path, writer_span(&w), 0600, true);
    writer_release(&w);
    return good;
}

/* Without white space at its end. */
static struct span trimmed(struct span s)
{
    while (s.len > 0 && isspace(s.data[s.len - 1]))
        s.len--;
    return s;
}

bool cli_key_read(const char *path, const char *kind, struct secret *out)
{
    struct writer w = writer_with_max(POLICY_KEYTEXT_MAX);
    struct stat st;
    bool good = false;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
        cli_fail("%s can be read by others; run chmod 600 on it", path);
    else if (cli_read(path, &w)) {
        good = policy_keytext_parse(out, kind, writer_span(&w));
        if (!good)
            cli_fail("%s is not a key file of kind %s", path, kind);
    }
    writer_release(&w);
    return good;
}

bool cli_hex(const char *text_or_path, uint8_t *out, size_t len)
{
    if (policy_hex_parse(span_str(text_or_path), out, len))
        return true;
    if (!cli_exists(text_or_path)) {
        cli_fail("%.80s is neither %zu hex digits nor a file that holds them", text_or_path, 2 * len);
        return false;
    }
    struct writer w = writer_with_max(1024);
    bool good = cli_read(text_or_path, &w);
    if (good && !policy_hex_parse(trimmed(writer_span(&w)), out, len)) {
        cli_fail("%s does not hold %zu hex digits", text_or_path, 2 * len);
        good = false;
    }
    writer_release(&w);
    return good;
}
