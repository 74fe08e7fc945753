/* cli_words.h - a command of the tool, called by its words in the test's folder. */
#ifndef TESTS_CLI_WORDS_H
#define TESTS_CLI_WORDS_H

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy/cli/cli.h"
#include "unit/run.h"

/* What a file says; until the next call. */
static inline const char *content(const char *path)
{
    static char text[1 << 18];
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s", path);
    size_t len = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[len] = '\0';
    return text;
}

/* `airlock WORDS...`, output to the files `out` and `err`; words split at spaces. */
static inline int run(const char *words)
{
    char text[2048], *argv[64], *save = NULL;
    int argc = 0;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok_r(text, " ", &save); word && argc < 63; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    argv[argc] = NULL;
    fflush(NULL);
    int out = dup(1), err = dup(2);
    ck_assert_ptr_nonnull(freopen("out", "w", stdout));
    ck_assert_ptr_nonnull(freopen("err", "w", stderr));
    int code = strcmp(argv[0], "seal") == 0     ? cli_seal(argc, argv)
               : strcmp(argv[0], "verify") == 0 ? cli_verify(argc, argv)
                                                : cli_policy(argc, argv);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    return code;
}

#endif
