/* policy_release.c - `airlock policy release|accept`: a publisher says which measurements are its software; a client
 * that trusts the publisher takes them over into its acceptance file. */
#include <stdio.h>

#include "policy/release.h"
#include "proxy/cli/policy_words.h"
#include "verifier/signed.h"

/* TEE=MEASUREMENT, or the measurement alone for SNP. */
static bool parse_image(const char *text, enum verifier_role role, struct policy_release_image *out)
{
    const char *equals = strchr(text, '=');
    out->role = role;
    out->tee = VERIFIER_TEE_SNP;
    for (size_t i = 0; equals && i < VERIFIER_TEES; i++)
        if (span_is(span_of(text, (size_t)(equals - text)), verifier_tee_names[i]))
            out->tee = (enum verifier_tee)i;
    return cli_hex(equals ? equals + 1 : text, out->measurement, sizeof out->measurement);
}

enum { VERSION, PROXY, ENGINE, KEY, RELEASE_OPTIONS };

static bool fill(struct policy_release *r, const struct cli_option *o)
{
    *r = (struct policy_release){.version = span_str(o[VERSION].value[0])};
    for (size_t i = 0; i < o[PROXY].count; i++)
        if (!parse_image(o[PROXY].value[i], VERIFIER_PROXY, &r->image[r->image_count++]))
            return false;
    for (size_t i = 0; i < o[ENGINE].count; i++)
        if (!parse_image(o[ENGINE].value[i], VERIFIER_ENGINE, &r->image[r->image_count++]))
            return false;
    return true;
}

int cli_policy_release(int argc, char **argv)
{
    struct cli_option o[RELEASE_OPTIONS] = {[VERSION] = {.name = "version"},
                                            [PROXY] = {.name = "proxy", .max = POLICY_RELEASE_IMAGES_MAX / 2},
                                            [ENGINE] = {.name = "engine", .max = POLICY_RELEASE_IMAGES_MAX / 2},
                                            [KEY] = {.name = "key"}};
    const char *path;
    size_t rest;
    struct policy_release release, check;
    struct secret seed = {0};
    if (!cli_options(argc, argv, o, RELEASE_OPTIONS, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[VERSION].count || !o[KEY].count || o[PROXY].count + o[ENGINE].count == 0)
        return cli_usage("policy release FILE --version TEXT [--proxy [TEE=]MEASUREMENT]... [--engine "
                         "[TEE=]MEASUREMENT]... --key PRIVATE");
    if (!fill(&release, o) || !cli_key_read(o[KEY].value[0], POLICY_KEYTEXT_SIGN, &seed))
        return CLI_FAILED;
    struct writer body = writer_with_max(VERIFIER_PART_MAX / 2), object = writer_with_max(VERIFIER_PART_MAX);
    policy_release_encode(&body, &release);
    bool good = writer_ok(&body) && policy_release_parse(&check, writer_span(&body)) == VERIFIER_OK &&
                verifier_signed_make(&object, VERIFIER_SIGNED_RELEASE, writer_span(&body), seed.data);
    if (!good)
        cli_fail("an image is given twice, or the version is longer than 64 bytes");
    good = good && cli_write(path, writer_span(&object), 0644, false);
    secret_release(&seed);
    writer_release(&body);
    writer_release(&object);
    return good ? CLI_OK : CLI_FAILED;
}

static void print_role(const struct policy_release *r, enum verifier_role role)
{
    char hex[97];
    bool first = true;
    for (size_t i = 0; i < r->image_count; i++) {
        if (r->image[i].role != role)
            continue;
        policy_hex_print(span_of(r->image[i].measurement, 48), hex);
        printf("%s    { tee = \"%s\"; measurement = \"%s\"; }",
               first ? (role == VERIFIER_PROXY ? "  proxy = { images = (\n" : "  engine = { images = (\n") : ",\n",
               verifier_tee_names[r->image[i].tee], hex);
        first = false;
    }
    if (!first)
        puts("\n  ); };");
}

int cli_policy_accept(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "publisher", .max = 16}};
    const char *path;
    size_t rest;
    uint8_t keys[16][VERIFIER_KEY_LEN];
    struct policy_release release;
    struct span body;
    if (!cli_options(argc, argv, o, 1, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[0].count)
        return cli_usage("policy accept RELEASE --publisher PUBLIC...\n"
                         "  Prints the programs of a signed release for an acceptance file or a policy.");
    for (size_t i = 0; i < o[0].count; i++)
        if (!cli_hex(o[0].value[i], keys[i], sizeof keys[i]))
            return CLI_FAILED;
    struct writer file = writer_with_max(VERIFIER_PART_MAX);
    int code = CLI_FAILED;
    if (cli_read(path, &file)) {
        enum verifier_err err = verifier_signed_open(&body, writer_span(&file), VERIFIER_SIGNED_RELEASE,
                                                     (const uint8_t(*)[VERIFIER_KEY_LEN])keys, o[0].count);
        if (err == VERIFIER_OK)
            err = policy_release_parse(&release, body);
        if (err == VERIFIER_OK) {
            printf("# release %.*s\nprograms = {\n", (int)release.version.len, (const char *)release.version.data);
            print_role(&release, VERIFIER_PROXY);
            print_role(&release, VERIFIER_ENGINE);
            puts("};");
            code = CLI_OK;
        } else {
            cli_fail("%s: %s. %s", path, verifier_err_name(err), verifier_err_remedy(err));
        }
    }
    writer_release(&file);
    return code;
}
