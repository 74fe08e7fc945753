/* seal.c - `airlock seal MODEL OUT --key-out FILE`: encrypt a model for machines that nobody has to trust. */
#include <stdio.h>
#include <unistd.h>

#include "engine/artefact.h"
#include "proxy/cli/files.h"

struct bar {
    bool shown;
    unsigned percent;
};

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct bar *b = ctx;
    unsigned percent = total ? (unsigned)(100 * done / total) : 100;
    if (!b->shown || percent == b->percent)
        return;
    b->percent = percent;
    fprintf(stderr, "\rsealing %3u %%%s", percent, percent == 100 ? "\n" : "");
}

static void print_facts(const struct engine_artefact *a)
{
    char root[129], key_id[65];
    uint64_t size = 0;
    policy_hex_print(span_of(a->root, sizeof a->root), root);
    policy_hex_print(span_of(a->key_id, sizeof a->key_id), key_id);
    for (size_t i = 0; i < a->count; i++)
        size += a->file[i].size;
    printf("root = \"%s\";\nkey_id = \"%s\";\n# %zu files, %llu bytes\n", root, key_id, a->count,
           (unsigned long long)size);
}

int cli_seal(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "key-out"}, {.name = "quiet", .is_flag = true}};
    const char *paths[2];
    size_t rest;
    struct secret key = {0};
    struct engine_artefact made = {0};
    struct engine_problem why = {0};
    if (!cli_options(argc, argv, o, 2, paths, 2, &rest))
        return CLI_USAGE;
    if (rest != 2 || !o[0].count)
        return cli_usage("seal MODEL FOLDER --key-out FILE [--quiet]\n"
                         "  MODEL: a .gguf file or a folder of safetensors; FOLDER: made new; FILE: the weight key for "
                         "airlock-keyd");
    struct bar bar = {.shown = !o[1].count && isatty(2), .percent = 101};
    if (!secret_init(&key, 32) || !cli_random(key.data, key.len))
        return cli_fail("out of memory");
    /* the key first: a sealed model whose key could not be kept is lost */
    bool good = cli_key_write(o[0].value[0], POLICY_KEYTEXT_WEIGHT, secret_span(&key));
    if (good && !engine_artefact_seal(&made, paths[0], paths[1], secret_span(&key), show_progress, &bar, &why)) {
        cli_fail("%s", why.text);
        unlink(o[0].value[0]);
        good = false;
    }
    secret_release(&key);
    if (good)
        print_facts(&made);
    engine_artefact_release(&made);
    return good ? CLI_OK : CLI_FAILED;
}
