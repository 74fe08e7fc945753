/* policy_init.c - `airlock policy init`: commented texts to start from. What is not given on the command line stands
 * there as "FILL IN", which no check passes. */
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "proxy/cli/policy_words.h"

enum {
    OWNER,
    KEYD,
    TENANTS_KEY,
    FLEET,
    MODEL,
    ROOT,
    KEY_ID,
    PROXY,
    ENGINE,
    LINE,
    CHIP,
    WALLS,
    DAYS,
    SIMULATED,
    OPTIONS
};

static const char *given(const struct cli_option *o)
{
    return o->count ? o->value[0] : "FILL IN";
}

/* [ "a", "b" ], or the placeholder when none was given. */
static void write_list(struct writer *w, const struct cli_option *o)
{
    writer_str(w, "[ ");
    for (size_t i = 0; i < o->count; i++)
        writer_printf(w, "%s\"%s\"", i ? ", " : "", o->value[i]);
    writer_str(w, o->count ? " ]" : "\"FILL IN\" ]");
}

/* --walls a,b,c as a list; every wall without it. */
static void write_walls(struct writer *w, const struct cli_option *o)
{
    const char *text =
        o->count ? o->value[0] : "namespaces,seccomp,landlock,no_dumps,no_swap,no_new_privs,unprivileged_uid";
    writer_str(w, "[ \"");
    for (; *text; text++) {
        if (*text == ',')
            writer_str(w, "\", \"");
        else
            writer_u8(w, (uint8_t)*text);
    }
    writer_str(w, "\" ]");
}

static void write_image(struct writer *w, const char *role, const struct cli_option *measurement)
{
    writer_printf(w, "  %s = {\n    images = (", role);
    for (size_t i = 0; i < measurement->count; i++)
        writer_printf(w, "%s\n      { tee = \"snp\"; measurement = \"%s\"; }", i ? "," : "", measurement->value[i]);
    writer_str(w,
               measurement->count ? "\n    );\n" : "\n      { tee = \"snp\"; measurement = \"FILL IN\"; }\n    );\n");
}

static void write_hardware(struct writer *w, const struct cli_option *o, bool fleet_by_policy)
{
    writer_printf(
        w,
        "# Machines. platforms: processor lines and the least firmware versions (0 = any). Milan is refused\n"
        "# unless listed: attacks that extract its keys are public. snp_chips, tdx_instances: your machines.\n"
        "hardware = {\n"
        "  platforms = ( { line = \"%s\"; bootloader = 0; tee = 0; snp = 0; microcode = 0; } );\n",
        o[LINE].count ? o[LINE].value[0] : "Genoa");
    if (o[CHIP].count || !o[SIMULATED].count) {
        writer_str(w, "  snp_chips = ");
        write_list(w, &o[CHIP]);
        writer_str(w, ";\n");
    }
    if (fleet_by_policy)
        writer_str(w, "  fleet_by_policy = true;   # a fleet file signed by a key of the owner's policy counts\n");
    writer_str(w, "};\n");
}

static void write_policy(struct writer *w, const struct cli_option *o, uint64_t now, uint64_t days)
{
    char from[32], to[32];
    policy_date_print(now - 300, from);
    policy_date_print(now + days * 86400, to);
    writer_printf(w,
                  "# The owner's policy: where and how a model may run. Sign it: airlock policy sign FILE --key KEY\n"
                  "# Raise the version with every change; nobody can override this file at run time.\n"
                  "version = 1;\n"
                  "not_before = \"%s\";\n"
                  "not_after = \"%s\";\n"
                  "lease_max = \"4h\";       # a node serves at most so long without hearing from keyd\n"
                  "version_grace = \"30m\";  # so long a node may still show the version before this one\n"
                  "unknown = \"refuse\";     # what to do about a status or register that this text does not name\n"
                  "min_kem = \"x25519\";\n"
                  "simulated = %s;%s\n\n"
                  "# Public keys of the key servers (airlock-keyd), of the fleet file's signer, of the tenants "
                  "file's signer.\n"
                  "keyd = ",
                  from, to, o[SIMULATED].count ? "true" : "false",
                  o[SIMULATED].count ? "       # evidence of the demonstration: it proves nothing about hardware" : "");
    write_list(w, &o[KEYD]);
    writer_str(w, ";\n");
    if (o[FLEET].count) {
        writer_str(w, "fleet = ");
        write_list(w, &o[FLEET]);
        writer_str(w, ";\n");
    }
    writer_str(w, "tenants = {\n  keys = ");
    write_list(w, &o[TENANTS_KEY]);
    writer_printf(
        w,
        ";\n  max_life = \"7d\";\n  # requests_per_minute = 600; tokens_per_minute = 200000; concurrent = 64;\n"
        "};\n\n"
        "# Models by artefact root; key_id only for a sealed model. Both are printed by: airlock seal\n"
        "models = (\n  { name = \"%s\"; root = \"%s\";",
        given(&o[MODEL]), given(&o[ROOT]));
    if (o[KEY_ID].count)
        writer_printf(w, "\n    key_id = \"%s\";", o[KEY_ID].value[0]);
    writer_str(
        w, " }\n);\n\n# Software, by what the hardware measures (airlock policy measure), and the walls that must "
           "stand around it.\n"
           "# tee = \"tdx\": rtmr0 to rtmr3 (what the TD booted) are pinned beside the measurement; one that is not\n"
           "# named must be zero, or unknown = \"report\". tee = \"azure\": the measurement is the\n"
           "# paravisor's, so at least one register of the guest's TPM must be (pcr4 = \"...\"; SHA-256).\n"
           "programs = {\n");
    write_image(w, "proxy", &o[PROXY]);
    writer_str(w, "    sandbox_at_serving = ");
    write_walls(w, &o[WALLS]);
    writer_str(w, ";\n    sandbox_at_release = [ ];\n  };\n");
    write_image(w, "engine", &o[ENGINE]);
    writer_str(w, "    sandbox_at_serving = ");
    write_walls(w, &o[WALLS]);
    writer_str(w, ";\n    sandbox_at_release = [ ];\n  };\n};\n\n");
    write_hardware(w, o, false);
    writer_str(
        w,
        "# Accelerators of an engine: how many (switches = N: exactly N switches beside them; ppcie = true: several\n"
        "# only behind protected links), and which driver and VBIOS versions.\n"
        "# ocsp = \"required\" (default): the vendor must call every certificate of a device good; \"optional\": a\n"
        "# device passes without an answer. rim_ocsp: the same for the signers of reference files. What the vendor\n"
        "# revoked, and an answer that is out of date, is refused either way.\n"
        "gpus = { min = 0; max = 0; };\n\n"
        "# What a request may ask. Endpoints: chat completions embeddings tokenize detokenize models.\n"
        "requests = {\n"
        "  endpoints = [ \"chat\", \"completions\", \"embeddings\", \"tokenize\", \"detokenize\", \"models\" ];\n"
        "  # max_context = 8192; max_output = 2048; max_choices = 8; temperature_max = \"2\";\n"
        "  prefix_cache = \"tenant\";\n"
        "};\n\n"
        "# Greatest ages of what a node shows.\n"
        "ages = { evidence = \"24h\"; devices = \"24h\"; collateral = \"366d\"; };\n");
}

static void write_acceptance(struct writer *w, const struct cli_option *o)
{
    writer_str(w, "# A client's acceptance file: which software, whose policy and which machines it sends prompts to.\n"
                  "# The owner's policy is a claim to this file, never its judge.\n");
    writer_printf(w, "simulated = %s;\n", o[SIMULATED].count ? "true" : "false");
    writer_str(w, "owners = ");
    write_list(w, &o[OWNER]);
    writer_str(w,
               ";      # digest of the owner's first key set: airlock policy show KEYSET\npolicy_min = 1;\nmodels = ");
    write_list(w, &o[ROOT]);
    writer_str(w, ";      # artefact roots; leave it out for any model of that owner\nprograms = {\n");
    write_image(w, "proxy", &o[PROXY]);
    writer_str(w, "    sandbox = ");
    write_walls(w, &o[WALLS]);
    writer_str(w, ";\n  };\n");
    write_image(w, "engine", &o[ENGINE]);
    writer_str(w, "    sandbox = ");
    write_walls(w, &o[WALLS]);
    writer_str(w, ";\n  };\n};\n");
    write_hardware(w, o, o[FLEET].count > 0);
    writer_str(w, "ages = { evidence = \"24h\"; devices = \"24h\"; collateral = \"366d\"; };\n");
}

static void write_tenants(struct writer *w, uint64_t now)
{
    char from[32], to[32];
    policy_date_print(now, from);
    policy_date_print(now + 7 * 86400, to);
    writer_printf(w,
                  "# Who may use the service. Add one: airlock policy tenant add FILE --name NAME (prints the API key\n"
                  "# once). Then sign with the key that the policy names: airlock policy sign FILE --type tenants\n"
                  "version = 1;      # raise it with every change\n"
                  "issued = \"%s\";\n"
                  "expires = \"%s\";\n"
                  "tenants = (\n);\n",
                  from, to);
}

static bool write_text(const char *folder, const char *name, const struct writer *w)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return writer_ok(w) && cli_write(path, writer_span(w), 0644, true);
}

/* Digests and keys may be given as hex or as files that hold hex: make them hex, in `store`. */
static bool resolve(struct cli_option *o, char store[OPTIONS][CLI_VALUES_MAX][129])
{
    static const size_t lengths[OPTIONS] = {[OWNER] = 64,  [KEYD] = 32,  [TENANTS_KEY] = 32, [FLEET] = 32, [ROOT] = 64,
                                            [KEY_ID] = 32, [PROXY] = 48, [ENGINE] = 48,      [CHIP] = 64};
    uint8_t bytes[64];
    for (size_t i = 0; i < OPTIONS; i++) {
        for (size_t k = 0; lengths[i] && k < o[i].count; k++) {
            if (!cli_hex(o[i].value[k], bytes, lengths[i]))
                return false;
            policy_hex_print(span_of(bytes, lengths[i]), store[i][k]);
            o[i].value[k] = store[i][k];
        }
    }
    return true;
}

int cli_policy_init(int argc, char **argv)
{
    static char store[OPTIONS][CLI_VALUES_MAX][129];
    struct cli_option o[OPTIONS] = {
        [OWNER] = {.name = "owner", .max = 8},
        [KEYD] = {.name = "keyd", .max = 8},
        [TENANTS_KEY] = {.name = "tenants-key", .max = 4},
        [FLEET] = {.name = "fleet", .max = 8},
        [MODEL] = {.name = "model"},
        [ROOT] = {.name = "root"},
        [KEY_ID] = {.name = "key-id"},
        [PROXY] = {.name = "proxy", .max = 8},
        [ENGINE] = {.name = "engine", .max = 8},
        [LINE] = {.name = "line"},
        [CHIP] = {.name = "chip", .max = 32},
        [WALLS] = {.name = "walls"},
        [DAYS] = {.name = "days"},
        [SIMULATED] = {.name = "simulated", .is_flag = true},
    };
    const char *folder;
    size_t rest;
    uint64_t days = 90 * 86400, now = (uint64_t)time(NULL);
    if (!cli_options(argc, argv, o, OPTIONS, &folder, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage("policy init FOLDER [--owner DIGEST] [--keyd KEY]... [--tenants-key KEY] [--fleet KEY]\n"
                         "         [--model NAME --root DIGEST [--key-id ID]] [--proxy MEASUREMENT]... [--engine "
                         "MEASUREMENT]...\n         [--line Genoa] [--chip ID]... [--walls a,b,c] [--days 90d] "
                         "[--simulated]\n"
                         "  A DIGEST, KEY, ID or MEASUREMENT is hex, or a file that holds it.");
    if (o[DAYS].count && !policy_duration_parse(span_str(o[DAYS].value[0]), &days))
        return cli_fail("--days %s: write it as 90d", o[DAYS].value[0]);
    if (!resolve(o, store))
        return CLI_FAILED;
    if (!cli_exists(folder) && mkdir(folder, 0755) != 0)
        return cli_fail("the folder %s cannot be made", folder);

    struct writer policy = writer_with_max(POLICY_CONFIG_TEXT_MAX), acceptance = policy, tenants = policy;
    write_policy(&policy, o, now, days / 86400);
    write_acceptance(&acceptance, o);
    write_tenants(&tenants, now);
    bool good = write_text(folder, "policy.conf", &policy) && write_text(folder, "acceptance.conf", &acceptance) &&
                write_text(folder, "tenants.conf", &tenants);
    writer_release(&policy);
    writer_release(&acceptance);
    writer_release(&tenants);
    if (good)
        printf("%s/policy.conf\n%s/acceptance.conf\n%s/tenants.conf\n", folder, folder, folder);
    return good ? CLI_OK : CLI_FAILED;
}
