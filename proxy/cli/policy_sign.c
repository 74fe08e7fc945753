/* policy_sign.c - `airlock policy keygen|keyset|sign|bundle|revoke`: the owner's keys and what they sign. */
#include <stdio.h>
#include <stdlib.h>

#include "policy/documents.h"
#include "policy/tenants.h"
#include "proxy/cli/policy_words.h"
#include "verifier/ed25519.h"
#include "verifier/signed.h"

static int refuse_code(const char *what, enum verifier_err err)
{
    return cli_fail("%s: %s. %s", what, verifier_err_name(err), verifier_err_remedy(err));
}

/* --- keygen ----------------------------------------------------------------------------------------- */

static bool write_public(const char *path, const uint8_t public_key[32])
{
    char file[4096], hex[66];
    snprintf(file, sizeof file, "%s.pub", path);
    policy_hex_print(span_of(public_key, 32), hex);
    strcat(hex, "\n");
    return cli_write(file, span_str(hex), 0644, true);
}

int cli_policy_keygen(int argc, char **argv)
{
    const char *path;
    size_t rest;
    uint8_t public_key[32];
    char hex[65];
    struct secret seed = {0};
    if (!cli_options(argc, argv, NULL, 0, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage("policy keygen FILE      (writes FILE, secret, and FILE.pub)");
    bool good = secret_init(&seed, 32) && cli_random(seed.data, 32) && verifier_ed25519_public(seed.data, public_key) &&
                cli_key_write(path, POLICY_KEYTEXT_SIGN, secret_span(&seed)) && write_public(path, public_key);
    secret_release(&seed);
    if (!good)
        return CLI_FAILED;
    policy_hex_print(span_of(public_key, 32), hex);
    printf("%s\n", hex);
    return CLI_OK;
}

/* --- signatures ------------------------------------------------------------------------------------- */

static bool type_named(const char *name, enum verifier_signed_type *type)
{
    for (size_t i = 0; i < VERIFIER_SIGNED_TYPES; i++) {
        if (strcmp(name, verifier_signed_names[i]) == 0) {
            *type = (enum verifier_signed_type)i;
            return true;
        }
    }
    cli_fail("there is no type of document \"%.40s\"; texts are policy, tenants, artefact, release", name);
    return false;
}

/* Keep only signatures that fit `body`: the others are of an earlier text. */
static void drop_stale(struct verifier_signed *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->sig_count; i++) {
        struct verifier_signed one = {.type = s->type, .body = s->body, .sig_count = 1, .sigs = {s->sigs[i]}};
        if (verifier_signed_check(&one, s->type, &s->sigs[i].key, 1, 1) == VERIFIER_OK)
            s->sigs[kept++] = s->sigs[i];
    }
    if (kept < s->sig_count)
        fprintf(stderr, "airlock: dropped %zu signatures of an earlier content\n", s->sig_count - kept);
    s->sig_count = kept;
}

/* Sign with the private key in `path`; a second signature by one key replaces the first. */
static bool add_signature(struct verifier_signed *s, const char *path)
{
    struct secret seed = {0};
    struct verifier_sig sig;
    if (!cli_key_read(path, POLICY_KEYTEXT_SIGN, &seed))
        return false;
    bool good = verifier_signed_sign(&sig, s->type, s->body, seed.data);
    secret_release(&seed);
    size_t at = 0;
    while (at < s->sig_count && memcmp(s->sigs[at].key, sig.key, sizeof sig.key) != 0)
        at++;
    if (!good || at == VERIFIER_SIGS_MAX) {
        cli_fail("%s: cannot sign with this key (at most %d signatures)", path, VERIFIER_SIGS_MAX);
        return false;
    }
    s->sigs[at] = sig;
    s->sig_count += at == s->sig_count;
    return true;
}

static bool add_signatures(struct verifier_signed *s, const struct cli_option *keys)
{
    for (size_t i = 0; i < keys->count; i++)
        if (!add_signature(s, keys->value[i]))
            return false;
    return true;
}

static bool write_signed(const char *path, const struct verifier_signed *s)
{
    struct writer w = writer_with_max(VERIFIER_PART_MAX);
    verifier_signed_encode(&w, s);
    bool good = writer_ok(&w) && cli_write(path, writer_span(&w), 0644, false);
    if (!writer_ok(&w))
        cli_fail("%s: too long to be a signed document", path);
    writer_release(&w);
    return good;
}

/* Refuse to sign what no program would read. */
static bool text_is_good(const char *path, enum verifier_signed_type type, struct span text)
{
    struct policy_problem why = {0};
    struct policy_tenants tenants;
    char line[512];
    bool good = true;
    if (type == VERIFIER_SIGNED_POLICY) {
        struct policy *p = malloc(sizeof *p);
        good = p && policy_parse(text, p, &why);
        free(p);
    } else if (type == VERIFIER_SIGNED_TENANTS) {
        good = policy_tenants_parse(&tenants, text, &why);
        if (good)
            policy_tenants_release(&tenants);
    }
    if (!good) {
        policy_problem_print(&why, path, line, sizeof line);
        cli_fail("%s", line);
    }
    return good;
}

/* FILE is a signed object itself (a key set, a revocation list): the signature goes into it. */
static int sign_inside(const char *path, struct verifier_signed *s, const struct cli_option *keys)
{
    return add_signatures(s, keys) && write_signed(path, s) ? CLI_OK : CLI_FAILED;
}

static int sign_beside(const char *path, struct span text, enum verifier_signed_type type,
                       const struct cli_option *keys)
{
    char sig_path[4096];
    struct writer old = writer_with_max(VERIFIER_PART_MAX);
    struct verifier_signed s = {0};
    snprintf(sig_path, sizeof sig_path, "%s.sig", path);
    bool good = text_is_good(path, type, text) && (!cli_exists(sig_path) || cli_read(sig_path, &old));
    if (good && old.len > 0 && verifier_signed_parse_file(&s, writer_span(&old), text) == VERIFIER_OK && s.type == type)
        drop_stale(&s);
    else
        s.sig_count = 0;
    s.type = type;
    s.body = text;
    good = good && add_signatures(&s, keys);
    s.body = span_of(NULL, 0); /* it stands in FILE */
    good = good && write_signed(sig_path, &s);
    writer_release(&old);
    if (good)
        printf("%s\n", sig_path);
    return good ? CLI_OK : CLI_FAILED;
}

int cli_policy_sign(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "key", .max = 16}, {.name = "type"}};
    const char *path;
    size_t rest;
    enum verifier_signed_type type = VERIFIER_SIGNED_POLICY;
    if (!cli_options(argc, argv, o, 2, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[0].count)
        return cli_usage("policy sign FILE --key PRIVATE... [--type policy|tenants|artefact|release]");
    if (o[1].count && !type_named(o[1].value[0], &type))
        return CLI_USAGE;
    struct writer file = writer_with_max(VERIFIER_PART_MAX);
    struct verifier_signed s;
    int code = CLI_FAILED;
    if (cli_read(path, &file)) {
        if (verifier_signed_parse(&s, writer_span(&file)) == VERIFIER_OK)
            code = sign_inside(path, &s, &o[0]);
        else
            code = sign_beside(path, writer_span(&file), type, &o[0]);
    }
    writer_release(&file);
    return code;
}

/* --- keyset ----------------------------------------------------------------------------------------- */

/* Add `role` to the key, which may be there already. */
static bool give_role(struct policy_keyset *set, const char *public_text, enum policy_key_role role)
{
    uint8_t key[32];
    size_t at = 0;
    if (!cli_hex(public_text, key, sizeof key))
        return false;
    while (at < set->key_count && memcmp(set->key[at].public, key, sizeof key) != 0)
        at++;
    if (at == POLICY_KEYSET_KEYS_MAX || !verifier_ed25519_key_is_sound(key)) {
        cli_fail("%.80s: not a sound public key, or more than %d", public_text, POLICY_KEYSET_KEYS_MAX);
        return false;
    }
    if (at == set->key_count)
        memcpy(set->key[set->key_count++].public, key, sizeof key);
    struct policy_keyset_key *k = &set->key[at];
    for (size_t i = 0; i < k->role_count; i++)
        if (k->role[i] == role)
            return true;
    k->role[k->role_count++] = role;
    return true;
}

/* Digits and nothing else; 0 for anything that is no number or above `most`. */
static uint32_t number(const char *text, uint32_t most)
{
    char *end;
    unsigned long long v = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    return v && *end == '\0' && v <= most ? (uint32_t)v : 0;
}

static bool threshold(const struct cli_option *o, size_t holders, unsigned *m)
{
    *m = o->count ? number(o->value[0], 16) : 1;
    if (*m >= 1 && *m <= holders)
        return true;
    cli_fail("--%s must be 1 to %zu, the keys with that role", o->name, holders);
    return false;
}

/* Continue from the newest of the earlier key sets, which must be a chain. */
static bool follow(struct policy_keyset *set, const struct cli_option *previous)
{
    struct writer files[CLI_VALUES_MAX] = {0};
    struct span objects[CLI_VALUES_MAX];
    struct policy_keyset last;
    struct verifier_signed s = {0};
    uint8_t first[64];
    bool good = true;
    for (size_t i = 0; i < previous->count && good; i++) {
        files[i] = writer_with_max(VERIFIER_PART_MAX);
        good = cli_read(previous->value[i], &files[i]);
        objects[i] = writer_span(&files[i]);
    }
    if (good) {
        enum verifier_err err = verifier_signed_parse(&s, objects[0]);
        verifier_sha512(first, s.body);
        if (err == VERIFIER_OK)
            err = policy_keysets_check(objects, previous->count, first, &last);
        if (err == VERIFIER_OK)
            err = verifier_signed_parse(&s, objects[previous->count - 1]);
        good = err == VERIFIER_OK;
        if (!good)
            refuse_code("the earlier key sets", err);
    }
    if (good) {
        set->version = last.version + 1;
        set->has_previous = true;
        verifier_sha512(set->previous, s.body);
    }
    for (size_t i = 0; i < previous->count; i++)
        writer_release(&files[i]);
    return good;
}

enum { SIGNER, REVOKER, M, M_REVOKER, PREVIOUS, KEY, KEYSET_OPTIONS };

static bool fill_keyset(struct policy_keyset *set, const struct cli_option *o)
{
    uint8_t unused[POLICY_KEYSET_KEYS_MAX][VERIFIER_KEY_LEN];
    const struct cli_option *revokers = o[REVOKER].count ? &o[REVOKER] : &o[SIGNER];
    *set = (struct policy_keyset){.version = 1};
    for (size_t i = 0; i < o[SIGNER].count; i++)
        if (!give_role(set, o[SIGNER].value[i], POLICY_KEY_SIGNER))
            return false;
    for (size_t i = 0; i < revokers->count; i++)
        if (!give_role(set, revokers->value[i], POLICY_KEY_REVOKER))
            return false;
    return threshold(&o[M], policy_keyset_keys(set, POLICY_KEY_SIGNER, unused), &set->m[POLICY_KEY_SIGNER]) &&
           threshold(&o[M_REVOKER], policy_keyset_keys(set, POLICY_KEY_REVOKER, unused), &set->m[POLICY_KEY_REVOKER]) &&
           (!o[PREVIOUS].count || follow(set, &o[PREVIOUS]));
}

int cli_policy_keyset(int argc, char **argv)
{
    struct cli_option o[KEYSET_OPTIONS] = {
        [SIGNER] = {.name = "signer", .max = 16},
        [REVOKER] = {.name = "revoker", .max = 16},
        [M] = {.name = "m"},
        [M_REVOKER] = {.name = "m-revoker"},
        [PREVIOUS] = {.name = "previous", .max = 64},
        [KEY] = {.name = "key", .max = 16},
    };
    const char *path;
    size_t rest;
    struct policy_keyset set;
    char hex[129];
    uint8_t digest[64];
    if (!cli_options(argc, argv, o, KEYSET_OPTIONS, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[SIGNER].count || !o[KEY].count)
        return cli_usage("policy keyset FILE --signer PUBLIC... [--revoker PUBLIC...] [--m N] [--m-revoker N]\n"
                         "         [--previous KEYSET...] --key PRIVATE...\n"
                         "  Others add theirs: airlock policy sign FILE --key PRIVATE");
    if (cli_exists(path))
        return cli_fail("%s exists already; a key set is never rewritten, a new one follows it (--previous)", path);
    if (!fill_keyset(&set, o))
        return CLI_FAILED;
    struct writer body = writer_with_max(VERIFIER_PART_MAX / 2);
    policy_keyset_encode(&body, &set);
    struct verifier_signed s = {.type = VERIFIER_SIGNED_KEYSET, .body = writer_span(&body)};
    verifier_sha512(digest, s.body);
    bool good = writer_ok(&body) && add_signatures(&s, &o[KEY]) && write_signed(path, &s);
    writer_release(&body);
    if (!good)
        return CLI_FAILED;
    policy_hex_print(span_of(digest, 64), hex);
    printf("%s\n", hex);
    if (set.version == 1)
        fprintf(stderr, "airlock: this digest names the owner; clients put it into their acceptance file (owners)\n");
    return CLI_OK;
}

/* --- bundle ----------------------------------------------------------------------------------------- */

static bool read_keysets(struct verifier_policy_part *part, const struct cli_option *paths, struct writer *files)
{
    for (size_t i = 0; i < paths->count; i++) {
        files[i] = writer_with_max(VERIFIER_CONFIG_MAX);
        if (!cli_read(paths->value[i], &files[i]))
            return false;
        part->keyset[i] = writer_span(&files[i]);
    }
    part->keyset_count = paths->count;
    return true;
}

/* FILE and FILE.sig as one signed object. */
static bool join(const char *path, struct writer *out)
{
    char sig_path[4096];
    struct writer text = writer_with_max(VERIFIER_CONFIG_MAX), sig = text;
    struct verifier_signed s;
    snprintf(sig_path, sizeof sig_path, "%s.sig", path);
    bool good = cli_read(path, &text) && cli_read(sig_path, &sig);
    if (good) {
        enum verifier_err err = verifier_signed_parse_file(&s, writer_span(&sig), writer_span(&text));
        good = err == VERIFIER_OK;
        if (good)
            verifier_signed_encode(out, &s);
        else
            refuse_code(sig_path, err);
    }
    if (good && !writer_ok(out)) {
        cli_fail("%s: text and signatures together may have 64 KiB", path);
        good = false;
    }
    writer_release(&text);
    writer_release(&sig);
    return good;
}

static bool check_bundle(struct span bytes)
{
    struct policy_documents *d = malloc(sizeof *d);
    struct verifier_note note = {0};
    char owner[129], digest[129];
    enum verifier_err err = d ? policy_documents_open(d, bytes, NULL, &note) : VERIFIER_E_INTERNAL;
    if (err == VERIFIER_OK) {
        policy_hex_print(span_of(d->owner, 64), owner);
        policy_hex_print(span_of(d->digest, 64), digest);
        printf("owner = %s\npolicy = %s\nversion = %u\n", owner, digest, d->policy.version);
    } else {
        refuse_code(note.observed[0] ? note.observed : "the policy with its key sets", err);
    }
    free(d);
    return err == VERIFIER_OK;
}

int cli_policy_bundle(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "keyset", .max = VERIFIER_KEYSETS_MAX}, {.name = "policy"}};
    const char *path;
    size_t rest;
    struct verifier_policy_part part = {0};
    struct writer files[VERIFIER_KEYSETS_MAX] = {0}, policy = writer_with_max(VERIFIER_CONFIG_MAX),
                  out = writer_with_max(VERIFIER_PART_MAX);
    if (!cli_options(argc, argv, o, 2, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[0].count || !o[1].count)
        return cli_usage("policy bundle OUT --keyset FIRST [--keyset NEXT]... --policy FILE");
    bool good = read_keysets(&part, &o[0], files) && join(o[1].value[0], &policy);
    part.policy = writer_span(&policy);
    if (good) {
        verifier_policy_part_encode(&out, &part);
        good = check_bundle(writer_span(&out)) && cli_write(path, writer_span(&out), 0644, false);
    }
    for (size_t i = 0; i < VERIFIER_KEYSETS_MAX; i++)
        writer_release(&files[i]);
    writer_release(&policy);
    writer_release(&out);
    return good ? CLI_OK : CLI_FAILED;
}

/* --- revoke ----------------------------------------------------------------------------------------- */

/* `KIND=HEX`, a GPU as `gpu=DIGITS`; the value's bytes go to `bytes`. */
static bool parse_entry(const char *text, struct policy_revocation *out, uint8_t bytes[64])
{
    static const size_t lengths[POLICY_REVOKED_KINDS] = {64, 16, 0, 48, 32, 64};
    const char *value = strchr(text, '=');
    for (size_t k = 0; value && k < POLICY_REVOKED_KINDS; k++) {
        size_t len = strlen(policy_revocation_names[k]);
        if ((size_t)(value - text) != len || memcmp(text, policy_revocation_names[k], len) != 0)
            continue;
        out->kind = (enum policy_revocation_kind)k;
        size_t digits = strlen(value + 1);
        if (k == POLICY_REVOKED_GPU && digits >= 1 && digits <= 64 && strspn(value + 1, "0123456789") == digits) {
            out->value = span_of(value + 1, digits);
            return true;
        }
        out->value = span_of(bytes, lengths[k]);
        if (k != POLICY_REVOKED_GPU && cli_hex(value + 1, bytes, lengths[k]))
            return true;
        break;
    }
    cli_fail("%.80s: write KIND=HEX; kinds: snp_chip tdx_instance gpu measurement identity policy", text);
    return false;
}

int cli_policy_revoke(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "epoch"}, {.name = "entry", .max = CLI_VALUES_MAX}, {.name = "key", .max = 16}};
    const char *path;
    size_t rest;
    uint8_t bytes[CLI_VALUES_MAX][64];
    if (!cli_options(argc, argv, o, 3, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1 || !o[0].count || !o[2].count)
        return cli_usage("policy revoke FILE --epoch N --entry KIND=HEX... --key PRIVATE...\n"
                         "  The list is whole: it replaces the one before, its epoch is higher.");
    uint32_t epoch = number(o[0].value[0], UINT32_MAX);
    struct policy_revocations *list = calloc(1, sizeof *list);
    bool good = list && epoch;
    if (!good)
        cli_fail("--epoch %s: a number from 1 on, higher than the last list's", o[0].value[0]);
    for (size_t i = 0; i < o[1].count && good; i++)
        good = parse_entry(o[1].value[i], &list->entry[list->count++], bytes[i]);
    struct writer body = writer_with_max(VERIFIER_PART_MAX / 2);
    if (good) {
        list->epoch = epoch;
        policy_revocations_encode(&body, list);
        struct verifier_signed s = {.type = VERIFIER_SIGNED_REVOCATIONS, .body = writer_span(&body)};
        good = writer_ok(&body) && add_signatures(&s, &o[2]) && write_signed(path, &s);
    }
    writer_release(&body);
    free(list);
    return good ? CLI_OK : CLI_FAILED;
}
