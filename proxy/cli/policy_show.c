/* policy_show.c - `airlock policy check|show|measure|root|confirm`. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/artefact.h"
#include "policy/acceptance.h"
#include "policy/documents.h"
#include "policy/tenants.h"
#include "proxy/cli/policy_words.h"
#include "tunnel/attest/measure.h"
#include "verifier/signed.h"

/* --- check ------------------------------------------------------------------------------------------ */

static bool name_has(const char *path, const char *word)
{
    const char *base = strrchr(path, '/');
    return strstr(base ? base + 1 : path, word) != NULL;
}

static bool check_text(const char *path, const char *type, struct span text)
{
    struct policy_problem why = {.code = POLICY_PROBLEM_VALUE, .text = "there is no such --type"};
    struct policy_tenants tenants;
    char line[512];
    bool good = false;
    if (strcmp(type, "tenants") == 0) {
        good = policy_tenants_parse(&tenants, text, &why);
        if (good)
            policy_tenants_release(&tenants);
    } else if (strcmp(type, "acceptance") == 0) {
        struct policy_rules *rules = malloc(sizeof *rules);
        good = rules && policy_acceptance_parse(text, rules, &why);
        free(rules);
    } else if (strcmp(type, "policy") == 0) {
        struct policy *p = malloc(sizeof *p);
        good = p && policy_parse(text, p, &why);
        free(p);
    }
    if (!good) {
        policy_problem_print(&why, path, line, sizeof line);
        cli_fail("%s", line);
    }
    return good;
}

int cli_policy_check(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "type"}};
    const char *path;
    size_t rest;
    if (!cli_options(argc, argv, o, 1, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage("policy check FILE [--type policy|acceptance|tenants]");
    const char *type = o[0].count                 ? o[0].value[0]
                       : name_has(path, "accept") ? "acceptance"
                       : name_has(path, "tenant") ? "tenants"
                                                  : "policy";
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX + 1);
    bool good = cli_read(path, &text) && check_text(path, type, writer_span(&text));
    writer_release(&text);
    if (good)
        printf("%s: good (%s)\n", path, type);
    return good ? CLI_OK : CLI_FAILED;
}

/* --- show ------------------------------------------------------------------------------------------- */

static void print_hex(const char *label, struct span bytes)
{
    char hex[2 * 64 + 1];
    policy_hex_print(bytes, hex);
    printf("%s = %s\n", label, hex);
}

static void print_digest(const char *label, struct span bytes)
{
    uint8_t digest[64];
    verifier_sha512(digest, bytes);
    print_hex(label, span_of(digest, 64));
}

static void show_policy(const struct policy *p)
{
    char from[32], to[32];
    policy_date_print(p->not_before, from);
    policy_date_print(p->not_after, to);
    printf("version = %u\nvalid = %s to %s\nlease_max = %llu s\nsimulated = %s\n", p->version, from, to,
           (unsigned long long)p->lease_max, p->simulated ? "true" : "false");
    for (size_t i = 0; i < p->keyd_count; i++)
        print_hex("keyd", span_of(p->keyd[i], 32));
    for (size_t i = 0; i < p->model_count; i++) {
        printf("model = %s%s\n", p->model[i].name, p->model[i].sealed ? " (sealed)" : "");
        print_hex("  root", span_of(p->model[i].root, 64));
    }
    for (size_t i = 0; i < p->proxy.count; i++)
        print_hex("proxy", span_of(p->proxy.measurement[i].digest, 48));
    for (size_t i = 0; i < p->engine.count; i++)
        print_hex("engine", span_of(p->engine.measurement[i].digest, 48));
}

static void show_keyset(struct span body)
{
    struct policy_keyset set;
    if (policy_keyset_parse(&set, body) != VERIFIER_OK)
        return;
    printf("version = %u\nsigners needed = %u\nrevokers needed = %u\n", set.version, set.m[POLICY_KEY_SIGNER],
           set.m[POLICY_KEY_REVOKER]);
    for (size_t i = 0; i < set.key_count; i++)
        print_hex(set.key[i].role_count == 2                ? "signer and revoker"
                  : set.key[i].role[0] == POLICY_KEY_SIGNER ? "signer"
                                                            : "revoker",
                  span_of(set.key[i].public, 32));
    if (set.version == 1)
        print_digest("owner", body);
}

static bool show_signed(struct span bytes)
{
    struct verifier_signed s;
    if (verifier_signed_parse(&s, bytes) != VERIFIER_OK)
        return false;
    printf("signed %s\n", verifier_signed_names[s.type]);
    print_digest("digest", s.body);
    for (size_t i = 0; i < s.sig_count; i++)
        print_hex("signed by", span_of(s.sigs[i].key, 32));
    if (s.type == VERIFIER_SIGNED_KEYSET)
        show_keyset(s.body);
    return true;
}

static bool show_bundle(struct span bytes)
{
    struct policy_documents *d = malloc(sizeof *d);
    bool good = d && policy_documents_open(d, bytes, NULL, NULL) == VERIFIER_OK;
    if (good) {
        printf("policy and key sets, all signatures good\n");
        print_hex("owner", span_of(d->owner, 64));
        print_hex("digest", span_of(d->digest, 64));
        printf("keyset = %u\n", d->keyset.version);
        show_policy(&d->policy);
    }
    free(d);
    return good;
}

static bool show_text(const char *path, struct span bytes)
{
    struct policy *p = malloc(sizeof *p);
    struct policy_problem why;
    char line[512];
    bool good = p && policy_parse(bytes, p, &why);
    if (good) {
        printf("policy text (no signature looked at)\n");
        print_digest("digest", bytes);
        show_policy(p);
    } else if (p) {
        policy_problem_print(&why, path, line, sizeof line);
        cli_fail("%s is no signed document, and as a policy text: %s", path, line);
    }
    free(p);
    return good;
}

int cli_policy_show(int argc, char **argv)
{
    const char *path;
    size_t rest;
    if (!cli_options(argc, argv, NULL, 0, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage("policy show FILE");
    struct writer bytes = writer_with_max(VERIFIER_PART_MAX);
    bool good = cli_read(path, &bytes) && (show_signed(writer_span(&bytes)) || show_bundle(writer_span(&bytes)) ||
                                           show_text(path, writer_span(&bytes)));
    writer_release(&bytes);
    return good ? CLI_OK : CLI_FAILED;
}

/* --- measure, root, confirm --------------------------------------------------------------------------- */

int cli_policy_measure(int argc, char **argv)
{
    const char *rest[2];
    size_t count;
    uint8_t digest[ATTESTER_MEASUREMENT_LEN];
    char hex[2 * ATTESTER_MEASUREMENT_LEN + 1];
    if (!cli_options(argc, argv, NULL, 0, rest, 2, &count))
        return CLI_USAGE;
    if (count != 2 || (strcmp(rest[0], "proxy") != 0 && strcmp(rest[0], "engine") != 0))
        return cli_usage("policy measure proxy|engine FOLDER      (the built programs; what the simulation measures)");
    enum verifier_role role = strcmp(rest[0], "proxy") == 0 ? VERIFIER_PROXY : VERIFIER_ENGINE;
    if (!attester_measure_zone(role, rest[1], digest))
        return cli_fail("the programs of the %s cannot be read in %s; build them first", rest[0], rest[1]);
    policy_hex_print(span_of(digest, sizeof digest), hex);
    printf("%s\n", hex);
    return CLI_OK;
}

static bool root_of_path(const char *path, uint8_t root[64], struct engine_problem *why)
{
    struct engine_artefact a;
    struct engine_files files;
    if (engine_artefact_is_sealed(path)) {
        if (!engine_artefact_read(&a, path, why))
            return false;
        memcpy(root, a.root, 64);
        engine_artefact_release(&a);
        return true;
    }
    if (!engine_files_load(&files, path, why))
        return false;
    bool good = engine_artefact_root(&files, root);
    if (!good)
        engine_problem_set(why, ENGINE_E_MISSING, "%s holds no model file, or memory is short", path);
    engine_files_release(&files);
    return good;
}

int cli_policy_root(int argc, char **argv)
{
    const char *path;
    size_t rest;
    uint8_t root[64];
    char hex[129];
    struct engine_problem why = {0};
    if (!cli_options(argc, argv, NULL, 0, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage("policy root MODEL      (a .gguf file, a model folder or a sealed folder)");
    if (!root_of_path(path, root, &why))
        return cli_fail("%s", why.text);
    policy_hex_print(span_of(root, 64), hex);
    printf("%s\n", hex);
    return CLI_OK;
}

int cli_policy_confirm(int argc, char **argv)
{
    const char *folder;
    size_t rest;
    char path[4096], text[64];
    if (!cli_options(argc, argv, NULL, 0, &folder, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage(
            "policy confirm STATE_FOLDER      (of airlock-keyd, after checking that nothing newer exists)");
    snprintf(path, sizeof path, "%s/confirm", folder);
    snprintf(text, sizeof text, "%lld\n", (long long)time(NULL));
    return cli_write(path, span_str(text), 0600, false) ? CLI_OK : CLI_FAILED;
}
