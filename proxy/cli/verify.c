/* verify.c - `airlock verify URL|FILE`: challenge a proxy, check and judge its evidence by an acceptance file, print
 * every stage with its value. Sends nothing but the challenge. FILE is what --save wrote: judged as of its own time. */
#include "proxy/attest.h"
#include "proxy/cli/files.h"
#include "proxy/cli/report.h"
#include "proxy/seen.h"
#include "proxy/tls.h"
#include "verifier/bundle.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { CLI_REFUSED = 1, CLI_COULD_NOT = 2, TIMEOUT_MS = 15000 };

static const char usage[] =
    "verify URL|FILE --acceptance FILE [--model NAME] [--ca FILE] [--state DIR] [--save FILE] [--json]\n"
    "       [--collateral BUNDLE]\n"
    "  --acceptance FILE  what you accept (airlock policy init writes one)\n"
    "  --model NAME       ask for engines that serve this model\n"
    "  --ca FILE          also demand a certificate for the name from these authorities\n"
    "  --state DIR        remember the highest versions met there\n"
    "  --collateral BUNDLE  revocation lists and reference values of your own (airlock collateral)\n"
    "  --save FILE        keep challenge, evidence and session for `airlock verify FILE`\n"
    "  --json             the report as JSON\n"
    "exit code: 0 accepted, 1 refused, 2 could not be asked";

static const char *const stage_names[] = {"accepted", "shape",   "connection", "leaf",      "tree",
                                          "quote",    "binding", "devices",    "statement", "policy and lease",
                                          "engines",  "rules"};

/* --- kept evidence ------------------------------------------------------------------------------------- */

static json_t *hex(struct span s)
{
    char *text = malloc(2 * s.len + 1);
    json_t *out;

    if (!text)
        return NULL;
    policy_hex_print(s, text);
    out = json_string(text);
    free(text);
    return out;
}

static bool save(const char *path, const struct attest_record *r)
{
    const struct airlock_session *s = &r->session;
    json_t *root = json_pack("{s:i,s:I,s:{s:b,s:b,s:b,s:b,s:b,s:b}}", "airlock_evidence", 1, "now", (json_int_t)r->now,
                             "session", "tls13", s->tls13, "finished", s->finished, "resumed", s->resumed, "psk",
                             s->psk, "early_data", s->early_data, "post_handshake_auth", s->post_handshake_auth);
    char *text;
    bool ok;

    if (root) {
        json_object_set_new(root, "challenge", hex(writer_span(&r->challenge)));
        json_object_set_new(root, "spki", hex(writer_span(&r->spki)));
        json_object_set_new(root, "exporter", hex(span_of(r->exporter, sizeof r->exporter)));
        json_object_set_new(root, "envelope", hex(writer_span(&r->envelope)));
    }
    text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    ok = text && cli_write(path, span_str(text), 0644, false);
    free(text);
    json_decref(root);
    return ok;
}

static bool unhex(const json_t *root, const char *key, struct writer *out)
{
    const char *text = json_string_value(json_object_get(root, key));
    size_t len = text ? strlen(text) : 0;
    uint8_t *bytes = malloc(len / 2 + 1);
    bool ok = bytes && text && len % 2 == 0 && policy_hex_parse(span_of(text, len), bytes, len / 2);

    if (ok)
        writer_bytes(out, span_of(bytes, len / 2));
    free(bytes);
    return ok && writer_ok(out);
}

static bool load(const char *path, struct attest_record *r)
{
    struct writer text = writer_with_max(4 << 20), exporter = writer_with_max(sizeof r->exporter);
    json_t *root = NULL;
    const json_t *s;
    bool ok = cli_read(path, &text);

    if (!ok)
        goto out;
    root = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    s = json_object_get(root, "session");
    ok = unhex(root, "challenge", &r->challenge) && unhex(root, "spki", &r->spki) &&
         unhex(root, "envelope", &r->envelope) && unhex(root, "exporter", &exporter) &&
         exporter.len == sizeof r->exporter && json_integer_value(json_object_get(root, "now")) > 0;
    if (!ok) {
        cli_fail("%s does not hold evidence kept by airlock verify --save", path);
        goto out;
    }
    memcpy(r->exporter, exporter.data, sizeof r->exporter);
    r->now = (uint64_t)json_integer_value(json_object_get(root, "now"));
    r->session = (struct airlock_session){
        .tls13 = json_is_true(json_object_get(s, "tls13")),
        .finished = json_is_true(json_object_get(s, "finished")),
        .resumed = !json_is_false(json_object_get(s, "resumed")),
        .psk = !json_is_false(json_object_get(s, "psk")),
        .early_data = !json_is_false(json_object_get(s, "early_data")),
        .post_handshake_auth = !json_is_false(json_object_get(s, "post_handshake_auth")),
    };
out:
    json_decref(root);
    writer_release(&text);
    writer_release(&exporter);
    return ok;
}

/* --- asking --------------------------------------------------------------------------------------------- */

static bool ask(const char *text, const char *ca_file, const char *model, struct attest_record *r)
{
    struct client_address address[CLIENT_ADDRESSES_MAX];
    struct client_url url;
    struct client *c = NULL;
    char why[CLIENT_WHY_MAX] = "";
    SSL_CTX *tls;
    bool ok = false;
    size_t count;

    if (!client_url_parse(&url, text)) {
        cli_fail("verify: '%s' is neither a file nor https://HOST[:PORT]", text);
        return false;
    }
    tls = tls_client_open(ca_file, why);
    count = tls ? client_resolve(&url, address, why) : 0;
    for (size_t i = 0; i < count && !c; i++)
        c = client_open(tls, &url, &address[i], TIMEOUT_MS, why);
    if (c)
        ok = attest_fetch(c, NULL, model, TIMEOUT_MS, r, why);
    if (!ok)
        cli_fail("verify: %s", why);
    client_close(c);
    SSL_CTX_free(tls);
    return ok;
}

/* --- telling --------------------------------------------------------------------------------------------- */

static void print_refusal(const struct airlock_result *r)
{
    const char *name = r->stage >= 0 && r->stage < 12 ? stage_names[r->stage] : "?";

    printf("REFUSED at stage %d (%s): %s\n", r->stage, name, r->code);
    if (r->engine >= 0)
        printf("  engine    %d, its own stage %d\n", r->engine, r->inner_stage);
    if (r->observed[0])
        printf("  observed  %s\n", r->observed);
    if (r->required[0])
        printf("  required  %s\n", r->required);
    if (r->remedy)
        printf("  remedy    %s\n", r->remedy);
}

static void tell(const struct attest_outcome *out, bool as_json)
{
    char *report = airlock_report(out->claims, &out->verdict);
    char date[32];

    if (as_json) {
        puts(report ? report : "{}");
    } else {
        if (report)
            cli_report_print(report);
        if (out->accepted) {
            policy_date_print(out->verdict.valid_until, date);
            printf("ACCEPTED until %s%s\n", date,
                   out->verdict.simulated ? " - SIMULATED evidence: it proves nothing about hardware" : "");
        } else {
            print_refusal(&out->verdict.result);
        }
    }
    free(report);
}

/* --- the word ----------------------------------------------------------------------------------------------- */

static struct airlock_rules *read_rules(const char *path)
{
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX);
    struct airlock_rules *rules = NULL;
    struct airlock_result why;

    if (cli_read(path, &text) && !(rules = airlock_rules_parse((struct airlock_span){text.data, text.len}, &why)))
        cli_fail("%s: %s", path, why.observed);
    writer_release(&text);
    return rules;
}

static int judge(const struct attest_record *r, const struct airlock_rules *rules, const char *model, const char *state,
                 struct span collateral, bool as_json)
{
    struct attest_outcome out;
    struct airlock_seen highest;
    struct seen seen;
    char why[256];
    bool accepted;

    if (!seen_open(&seen, state, why)) {
        cli_fail("verify: %s", why);
        return CLI_COULD_NOT;
    }
    highest = seen_get(&seen);
    accepted = attest_judge(
        r, &(struct attest_ask){.rules = rules, .model = model, .seen = &highest, .collateral = collateral}, &out);
    if (accepted && !seen_put(&seen, &out.verdict.seen))
        cli_fail("verify: the highest versions could not be stored in %s", state);
    tell(&out, as_json);
    attest_outcome_release(&out);
    return accepted ? CLI_OK : CLI_REFUSED;
}

int cli_verify(int argc, char **argv)
{
    enum { ACCEPTANCE, MODEL, CA, STATE, SAVE, JSON, COLLATERAL, OPTIONS };
    struct cli_option o[OPTIONS] = {
        [ACCEPTANCE] = {.name = "acceptance"}, [MODEL] = {.name = "model"}, [CA] = {.name = "ca"},
        [STATE] = {.name = "state"},           [SAVE] = {.name = "save"},   [JSON] = {.name = "json", .is_flag = true},
        [COLLATERAL] = {.name = "collateral"},
    };
    struct attest_record record = attest_record_empty();
    struct writer collateral = writer_with_max(VERIFIER_BUNDLE_MAX);
    struct airlock_rules *rules = NULL;
    const char *target[1];
    size_t count;
    int rc = CLI_COULD_NOT;

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return cli_help(usage);
    if (!cli_options(argc, argv, o, OPTIONS, target, 1, &count) || count != 1 || !o[ACCEPTANCE].count)
        return cli_usage(usage);
    rules = read_rules(o[ACCEPTANCE].value[0]);
    if (rules && (!o[COLLATERAL].count || cli_read(o[COLLATERAL].value[0], &collateral)) &&
        (cli_exists(target[0]) ? load(target[0], &record)
                               : ask(target[0], o[CA].value[0], o[MODEL].value[0], &record)) &&
        (!o[SAVE].count || save(o[SAVE].value[0], &record)))
        rc = judge(&record, rules, o[MODEL].value[0], o[STATE].value[0], writer_span(&collateral), o[JSON].count > 0);
    airlock_rules_free(rules);
    writer_release(&collateral);
    attest_record_release(&record);
    return rc;
}
