/* seal.c - `airlock seal MODEL OUT --key-out FILE...`: encrypt a model for machines that nobody has to trust. Several
 * key files hold one share each, for as many key servers: PROTOCOL.md § First start and key release. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "engine/artefact.h"
#include "proxy/cli/files.h"
#include "verifier/release.h"

struct bar {
    bool shown;
    int64_t begun_ms, drawn_ms;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct bar *b = ctx;
    int64_t now = now_ms(), spent = now - b->begun_ms + 1;
    if (!b->shown || (done < total && now - b->drawn_ms < 100))
        return;
    b->drawn_ms = now;
    double rate = (double)done / (double)spent * 1000, left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "\rsealing [%-30.*s] %3.0f %%  %.0f MB/s  %.0f s left %s", total ? (int)(30 * done / total) : 30,
            "##############################", total ? 100 * (double)done / (double)total : 100, rate / 1e6, left,
            done == total ? "\n" : "");
}

static void print_facts(const struct engine_artefact *a, size_t shares)
{
    char root[129], key_id[65];
    uint64_t size = 0;
    policy_hex_print(span_of(a->root, sizeof a->root), root);
    policy_hex_print(span_of(a->key_id, sizeof a->key_id), key_id);
    for (size_t i = 0; i < a->count; i++)
        size += a->file[i].size;
    printf("root = \"%s\";\nkey_id = \"%s\";\n", root, key_id);
    if (shares > 1)
        printf("shares = %zu;\n", shares);
    printf("# %zu files, %llu bytes\n", a->count, (unsigned long long)size);
}

/* Random shares, one into each file; the key is what they make together. */
static bool write_keys(const struct cli_option *out, struct secret *key)
{
    struct secret shares = {0};
    bool good = secret_init(&shares, 32 * out->count) && secret_init(key, 32) && cli_random(shares.data, shares.len) &&
                verifier_release_combine((const uint8_t(*)[32])shares.data, out->count, key->data);
    if (!good)
        cli_fail("out of memory");
    for (size_t i = 0; good && i < out->count; i++) {
        good = cli_key_write(out->value[i], POLICY_KEYTEXT_WEIGHT, span_of(shares.data + 32 * i, 32));
        while (!good && i > 0) /* a part of the shares is no key */
            unlink(out->value[--i]);
    }
    secret_release(&shares);
    return good;
}

int cli_seal(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "key-out", .max = VERIFIER_RELEASE_SHARES_MAX},
                             {.name = "quiet", .is_flag = true}};
    const char *paths[2];
    size_t rest;
    struct secret key = {0};
    struct engine_artefact made = {0};
    struct engine_problem why = {0};
    if (!cli_options(argc, argv, o, 2, paths, 2, &rest))
        return CLI_USAGE;
    if (rest != 2 || !o[0].count)
        return cli_usage("seal MODEL FOLDER --key-out FILE [--key-out FILE...] [--quiet]\n"
                         "  MODEL: a .gguf file or a folder of safetensors; FOLDER: made new; FILE: the weight key for "
                         "airlock-keyd;\n  several files: a share for each key server, in the policy's order, and no "
                         "one of them has the key");
    struct bar bar = {.shown = !o[1].count && isatty(2), .begun_ms = now_ms()};
    /* the key first: a sealed model whose key could not be kept is lost */
    bool good = write_keys(&o[0], &key);
    if (good && !engine_artefact_seal(&made, paths[0], paths[1], secret_span(&key), show_progress, &bar, &why)) {
        cli_fail("%s", why.text);
        for (size_t i = 0; i < o[0].count; i++)
            unlink(o[0].value[i]);
        good = false;
    }
    secret_release(&key);
    if (good)
        print_facts(&made, o[0].count);
    engine_artefact_release(&made);
    return good ? CLI_OK : CLI_FAILED;
}
