/* policy_tenant.c - `airlock policy tenant add|hash`: API keys enter the tenants file as salted hashes only. */
#include <ctype.h>
#include <stdio.h>

#include "policy/tenants.h"
#include "proxy/cli/policy_words.h"

static void print_hash(const uint8_t salt[16], struct span key, char hex[65])
{
    uint8_t hash[32];
    policy_api_key_hash(hash, salt, key);
    policy_hex_print(span_of(hash, sizeof hash), hex);
}

/* The position of the last `)` outside comments: where the list of tenants ends in a text of ours. */
static size_t list_end(struct span text)
{
    size_t end = text.len;
    bool comment = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '#')
            comment = true;
        else if (text.data[i] == '\n')
            comment = false;
        else if (text.data[i] == ')' && !comment)
            end = i;
    }
    return end;
}

static bool insert(struct span text, size_t at, size_t before, const char *entry, struct writer *out)
{
    size_t head = at;
    while (head > 0 && isspace(text.data[head - 1]))
        head--;
    writer_bytes(out, span_of(text.data, head));
    writer_str(out, before ? ",\n" : "\n");
    writer_str(out, entry);
    writer_str(out, "\n");
    writer_bytes(out, span_of(text.data + at, text.len - at));
    return writer_ok(out);
}

/* `text` with the entry added, checked by reading it again. */
static bool add_entry(const char *path, struct span text, const char *name, const char *entry, struct writer *out)
{
    struct policy_tenants t;
    struct policy_problem why;
    char line[512];
    if (!policy_tenants_parse(&t, text, &why)) {
        policy_problem_print(&why, path, line, sizeof line);
        cli_fail("%s", line);
        return false;
    }
    size_t before = t.count, at = list_end(text);
    policy_tenants_release(&t);
    if (at == text.len || !insert(text, at, before, entry, out)) {
        cli_fail("%s: found no end of the list of tenants", path);
        return false;
    }
    if (!policy_tenants_parse(&t, writer_span(out), &why)) {
        policy_problem_print(&why, name, line, sizeof line);
        cli_fail("%s", line);
        return false;
    }
    bool good = t.count == before + 1;
    policy_tenants_release(&t);
    if (!good)
        cli_fail("%s: the tenant could not be added; add it by hand", path);
    return good;
}

static int tenant_add(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "name"}, {.name = "requests-per-minute"}, {.name = "expires"}};
    const char *path;
    size_t rest;
    uint8_t salt[16], random[24];
    char key[3 + 48 + 1] = "sk-", hash[65], salt_hex[33], entry[512], more[128] = "";
    if (!cli_options(argc, argv, o, 3, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[0].count)
        return cli_usage("policy tenant add FILE --name NAME [--requests-per-minute N] [--expires DATE]");
    if (strpbrk(o[0].value[0], "\"\\\n"))
        return cli_fail("a tenant's name has no quotes or backslashes");
    if (!cli_random(salt, sizeof salt) || !cli_random(random, sizeof random))
        return CLI_FAILED;
    policy_hex_print(span_of(random, sizeof random), key + 3);
    policy_hex_print(span_of(salt, sizeof salt), salt_hex);
    print_hash(salt, span_str(key), hash);
    if (o[1].count)
        snprintf(more, sizeof more, " requests_per_minute = %.9s;", o[1].value[0]);
    if (o[2].count)
        snprintf(more + strlen(more), sizeof more - strlen(more), " expires = \"%.24s\";", o[2].value[0]);
    snprintf(entry, sizeof entry, "  { name = \"%.64s\"; salt = \"%s\";\n    keys = [ \"%s\" ];%s }", o[0].value[0],
             salt_hex, hash, more);

    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX), out = text;
    bool good = cli_read(path, &text) && add_entry(path, writer_span(&text), o[0].value[0], entry, &out) &&
                cli_write(path, writer_span(&out), 0644, false);
    writer_release(&text);
    writer_release(&out);
    if (good) {
        printf("%s\n", key);
        fprintf(stderr,
                "airlock: this API key is shown once. Raise the file's version if it was signed before, then "
                "sign it: airlock policy sign %s --type tenants --key KEY\n",
                path);
    }
    secret_wipe(key, sizeof key);
    secret_wipe(random, sizeof random);
    return good ? CLI_OK : CLI_FAILED;
}

static int tenant_hash(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "salt"}};
    size_t rest;
    const char *unused;
    uint8_t salt[16];
    char salt_hex[33], hash[65];
    if (!cli_options(argc, argv, o, 1, &unused, 1, &rest))
        return CLI_USAGE;
    if (rest != 0)
        return cli_usage("policy tenant hash [--salt HEX] < KEY");
    if (o[0].count ? !cli_hex(o[0].value[0], salt, sizeof salt) : !cli_random(salt, sizeof salt))
        return CLI_FAILED;
    struct writer key = writer_with_max(POLICY_API_KEY_MAX + 2);
    bool good = cli_read("-", &key);
    struct span text = writer_span(&key);
    while (text.len > 0 && isspace(text.data[text.len - 1]))
        text.len--;
    if (good && (text.len < 16 || text.len > POLICY_API_KEY_MAX)) {
        cli_fail("an API key has 16 to %d bytes", POLICY_API_KEY_MAX);
        good = false;
    }
    if (good) {
        print_hash(salt, text, hash);
        policy_hex_print(span_of(salt, sizeof salt), salt_hex);
        printf("salt = \"%s\"; keys = [ \"%s\" ];\n", salt_hex, hash);
    }
    writer_release(&key);
    return good ? CLI_OK : CLI_FAILED;
}

int cli_policy_tenant(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "add") == 0)
        return tenant_add(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "hash") == 0)
        return tenant_hash(argc - 1, argv + 1);
    return cli_usage("policy tenant add FILE --name NAME | policy tenant hash < KEY");
}
