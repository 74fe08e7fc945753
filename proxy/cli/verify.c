/* verify.c - `airlock verify URL|FILE|FOLDER`: challenge a proxy, check and judge its evidence by an acceptance file,
 * print every stage with its value. Sends nothing but the challenge. FILE or FOLDER is what --save wrote: judged as of
 * its own time. --init writes an acceptance file instead. */
#include "proxy/cli/evidence.h"
#include "proxy/cli/files.h"
#include "proxy/cli/report.h"
#include "proxy/cli/verify_init.h"
#include "proxy/seen.h"
#include "proxy/tls.h"
#include "verifier/bundle.h"
#include "verifier/check.h"
#include "verifier/signed.h"

#include <stdio.h>
#include <stdlib.h>

enum { CLI_REFUSED = 1, CLI_COULD_NOT = 2, TIMEOUT_MS = 15000 };

enum { PUBLISHERS_MAX = 8 };

static const char usage[] =
    "verify URL|FILE|FOLDER --acceptance FILE [--model NAME] [--ca FILE] [--state DIR] [--save PATH] [--json]\n"
    "       [--collateral BUNDLE]\n"
    "       airlock verify --init OUT [URL|FILE|FOLDER] [--release FILE --publisher KEY...] [--simulated]\n"
    "       [--collateral BUNDLE] [--ca FILE] [--model NAME] [--save PATH]\n"
    "  URL                https://HOST[:PORT] of a proxy; FILE, FOLDER: what --save kept, as of its own time\n"
    "  --acceptance FILE  what you accept\n"
    "  --model NAME       ask for engines that serve this model\n"
    "  --ca FILE          also demand a certificate for the name from these authorities\n"
    "  --state DIR        remember the highest versions met there\n"
    "  --collateral BUNDLE  revocation lists and reference values of your own (airlock collateral)\n"
    "  --save PATH        keep challenge, evidence and session; a folder (or PATH/) gets them as bare files\n"
    "  --json             the report as JSON\n"
    "  --init OUT         write an acceptance file to fill in, never over an old one; - is standard output\n"
    "  --release FILE     take the programs from a publisher's release, signed by --publisher KEY (hex, or a file)\n"
    "  --simulated        with --init: accept simulated evidence\n"
    "exit code: 0 accepted (written), 1 refused, 2 could not be asked";

static const char *const stage_names[] = {"accepted", "shape",   "connection", "leaf",      "tree",
                                          "quote",    "binding", "devices",    "statement", "policy and lease",
                                          "engines",  "rules"};

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
        cli_fail("verify: '%s' is neither a file, a folder nor https://HOST[:PORT]", text);
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

/* --- judging ------------------------------------------------------------------------------------------------- */

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
    if (accepted && !seen_put(&seen, &out.verdict.seen, why))
        cli_fail("verify: %s", why);
    tell(&out, as_json);
    attest_outcome_release(&out);
    return accepted ? CLI_OK : CLI_REFUSED;
}

/* --- --init ------------------------------------------------------------------------------------------------- */

/* The facts behind the evidence, without any rules: stages 1 to 8 and 10. */
static struct verifier_claims *facts_of(const struct attest_record *r, struct span collateral)
{
    struct verifier_session session = {.tls13 = r->session.tls13,
                                       .finished = r->session.finished,
                                       .resumed = r->session.resumed,
                                       .psk = r->session.psk,
                                       .early_data = r->session.early_data,
                                       .post_handshake_auth = r->session.post_handshake_auth};
    struct verifier_collateral own;
    struct verifier_bundle bundle;
    struct verifier_input in = {.envelope = writer_span(&r->envelope),
                                .challenge = writer_span(&r->challenge),
                                .spki = writer_span(&r->spki),
                                .exporter = r->exporter,
                                .session = session,
                                .verifier = VERIFIER_CLIENT,
                                .attester = VERIFIER_PROXY,
                                .now = r->now};
    struct verifier_refusal why;
    struct verifier_claims *claims;

    if (collateral.len > 0) {
        if (verifier_bundle_parse(&bundle, collateral) != VERIFIER_OK ||
            verifier_collateral_parse(&own, bundle.collateral) != VERIFIER_OK)
            return NULL; /* cli_read_bundle() has seen to it */
        in.collateral = &own;
    }
    claims = verifier_check(&in, &why);
    if (!claims)
        cli_fail("verify: what was shown does not hold, so nothing is written: stage %d, %s: %s. %s", why.stage,
                 verifier_err_name(why.code), why.note.observed, verifier_err_remedy(why.code));
    return claims;
}

/* A release that one of the named publishers signed; `*out` borrows from `file`. */
static bool read_release(const struct cli_option *path, const struct cli_option *publisher, struct writer *file,
                         struct policy_release *out)
{
    uint8_t keys[PUBLISHERS_MAX][VERIFIER_KEY_LEN];
    enum verifier_err err;
    struct span body;

    for (size_t i = 0; i < publisher->count; i++)
        if (!cli_hex(publisher->value[i], keys[i], sizeof keys[i]))
            return false;
    if (!cli_read(path->value[0], file))
        return false;
    err = verifier_signed_open(&body, writer_span(file), VERIFIER_SIGNED_RELEASE,
                               (const uint8_t(*)[VERIFIER_KEY_LEN])keys, publisher->count);
    if (err == VERIFIER_OK)
        err = policy_release_parse(out, body);
    if (err != VERIFIER_OK)
        cli_fail("verify: %s: %s. %s", path->value[0], verifier_err_name(err), verifier_err_remedy(err));
    return err == VERIFIER_OK;
}

static bool write_init(const char *path, const struct verify_init *in)
{
    struct writer out = writer_with_max(POLICY_CONFIG_TEXT_MAX);
    bool ok;

    verify_init_write(in, &out);
    ok = writer_ok(&out);
    if (ok && strcmp(path, "-") == 0)
        ok = fwrite(out.data, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    else
        ok = ok && cli_write(path, writer_span(&out), 0644, true);
    writer_release(&out);
    return ok;
}

/* --- the word ----------------------------------------------------------------------------------------------- */

enum { ACCEPTANCE, MODEL, CA, STATE, SAVE, JSON, COLLATERAL, INIT, RELEASE, PUBLISHER, SIMULATED, OPTIONS };

static int init(const struct cli_option *o, const char *source, const struct attest_record *record,
                struct span collateral)
{
    struct writer file = writer_with_max(VERIFIER_PART_MAX);
    struct policy_release release;
    struct verify_init in = {.source = source, .simulated = o[SIMULATED].count > 0};
    struct verifier_claims *claims = NULL;
    int rc = CLI_REFUSED;

    if ((!o[RELEASE].count || read_release(&o[RELEASE], &o[PUBLISHER], &file, &release)) &&
        (!source || (claims = facts_of(record, collateral)) != NULL)) {
        in.release = o[RELEASE].count ? &release : NULL;
        in.claims = claims;
        rc = write_init(o[INIT].value[0], &in) ? CLI_OK : CLI_COULD_NOT;
    }
    verifier_claims_free(claims);
    writer_release(&file);
    return rc;
}

static bool is_called_well(const struct cli_option *o, size_t targets)
{
    if (o[INIT].count)
        return !o[ACCEPTANCE].count && !o[JSON].count && !o[STATE].count &&
               o[RELEASE].count == (o[PUBLISHER].count > 0) && targets + o[RELEASE].count > 0;
    return o[ACCEPTANCE].count && targets == 1 && !o[RELEASE].count && !o[PUBLISHER].count && !o[SIMULATED].count;
}

int cli_verify(int argc, char **argv)
{
    struct cli_option o[OPTIONS] = {
        [ACCEPTANCE] = {.name = "acceptance"},
        [MODEL] = {.name = "model"},
        [CA] = {.name = "ca"},
        [STATE] = {.name = "state"},
        [SAVE] = {.name = "save"},
        [JSON] = {.name = "json", .is_flag = true},
        [COLLATERAL] = {.name = "collateral"},
        [INIT] = {.name = "init"},
        [RELEASE] = {.name = "release"},
        [PUBLISHER] = {.name = "publisher", .max = PUBLISHERS_MAX},
        [SIMULATED] = {.name = "simulated", .is_flag = true},
    };
    struct attest_record record = attest_record_empty();
    struct writer collateral = writer_with_max(VERIFIER_BUNDLE_MAX);
    struct airlock_rules *rules = NULL;
    const char *target[1] = {NULL};
    size_t count;
    int rc = CLI_COULD_NOT;

    if (!cli_options(argc, argv, o, OPTIONS, target, 1, &count) || !is_called_well(o, count))
        return cli_usage(usage);
    if (o[ACCEPTANCE].count)
        rules = read_rules(o[ACCEPTANCE].value[0]);
    if ((rules || o[INIT].count) && (!o[COLLATERAL].count || cli_read_bundle(o[COLLATERAL].value[0], &collateral)) &&
        (count == 0 || (cli_exists(target[0]) ? evidence_load(target[0], &record)
                                              : ask(target[0], o[CA].value[0], o[MODEL].value[0], &record))) &&
        (!o[SAVE].count || evidence_save(o[SAVE].value[0], &record)))
        rc = o[INIT].count ? init(o, count ? target[0] : NULL, &record, writer_span(&collateral))
                           : judge(&record, rules, o[MODEL].value[0], o[STATE].value[0], writer_span(&collateral),
                                   o[JSON].count > 0);
    airlock_rules_free(rules);
    writer_release(&collateral);
    attest_record_release(&record);
    return rc;
}
