/* collateral.c - `airlock collateral fetch|pack|show|check`: the vendors' certificates, revocation lists, firmware
 * tables, reference values and certificate statuses, in one file for `airlock verify --collateral` and for nodes. */
#include "proxy/cli/collateral.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "verifier/ocsp.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char usage[] =
    "collateral fetch --config FILE --out BUNDLE     ask the services that FILE names (sample: collateral.conf)\n"
    "       airlock collateral pack --out BUNDLE [--chain FILE] [--crl FILE] [--tcb-info FILE --tcb-chain FILE]\n"
    "               [--qe-identity FILE --qe-chain FILE] [--rim FILE] [--ocsp FILE] ...   from files, repeatable\n"
    "       airlock collateral show BUNDLE                                    what is in it, and until when\n"
    "       airlock collateral check BUNDLE [--at TIME] [--for snp|tdx|gpu]   what is stale or missing then\n"
    "exit code: 0 done, 1 failed, 2 called wrongly; fetch: 3 unreachable, 4 HTTP status, 5 too long, 6 too slow,\n"
    "7 ended early, 8 not what was asked for; check: 9 stale, 10 missing";

/* --- pack ------------------------------------------------------------------------------------------- */

/* In the order of enum collateral_kind. */
static const char *const option_names[COLLATERAL_KINDS] = {"chain",       "crl",      "tcb-info", "tcb-chain",
                                                           "qe-identity", "qe-chain", "ocsp",     "rim"};

static int pack_file(struct collateral *c, enum collateral_kind kind, const char *path)
{
    struct writer text = writer_with_max(COLLATERAL_ITEM_MAX);
    const char *wrong;
    int rc = CLI_OK;

    if (!cli_read(path, &text))
        rc = CLI_FAILED;
    else if ((wrong = collateral_add(c, kind, writer_span(&text))) != NULL) {
        cli_fail("collateral: %s (%s) %s", path, collateral_names[kind], wrong);
        rc = COLLATERAL_CONTENT;
    }
    writer_release(&text);
    return rc;
}

static int pack(int argc, char **argv)
{
    struct cli_option o[COLLATERAL_KINDS + 1] = {[COLLATERAL_KINDS] = {.name = "out"}};
    struct collateral *c = calloc(1, sizeof *c);
    size_t rest;
    int rc = CLI_OK;

    for (size_t k = 0; k < COLLATERAL_KINDS; k++)
        o[k] = (struct cli_option){.name = option_names[k], .max = CLI_VALUES_MAX};
    if (!c || !cli_options(argc, argv, o, COUNT(o), NULL, 0, &rest) || !o[COLLATERAL_KINDS].count) {
        free(c);
        return cli_usage(usage);
    }
    for (size_t k = 0; rc == CLI_OK && k < COLLATERAL_KINDS; k++)
        for (size_t i = 0; rc == CLI_OK && i < o[k].count; i++)
            rc = pack_file(c, (enum collateral_kind)k, o[k].value[i]);
    if (rc == CLI_OK && !collateral_write(c, o[COLLATERAL_KINDS].value[0]))
        rc = CLI_FAILED;
    collateral_release(c);
    free(c);
    return rc;
}

/* --- show and check --------------------------------------------------------------------------------- */

struct opened {
    struct writer file, tcb_chain, qe_chain;
    struct verifier_bundle bundle;
    struct verifier_collateral all;
};

static bool open_bundle(struct opened *o, const char *path)
{
    struct verifier_certs certs;

    o->file = writer_with_max(VERIFIER_BUNDLE_MAX);
    o->tcb_chain = o->qe_chain = writer_with_max(VERIFIER_PART_MAX);
    if (!cli_read_bundle(path, &o->file) || verifier_bundle_parse(&o->bundle, writer_span(&o->file)) != VERIFIER_OK ||
        verifier_collateral_parse(&o->all, o->bundle.collateral) != VERIFIER_OK)
        return false;
    certs.count = o->all.tcb_chain_count;
    memcpy(certs.cert, o->all.tcb_chain, sizeof certs.cert);
    verifier_certs_encode(&o->tcb_chain, &certs);
    certs.count = o->all.qe_chain_count;
    memcpy(certs.cert, o->all.qe_chain, sizeof certs.cert);
    verifier_certs_encode(&o->qe_chain, &certs);
    return true;
}

static void close_bundle(struct opened *o)
{
    writer_release(&o->file);
    writer_release(&o->tcb_chain);
    writer_release(&o->qe_chain);
}

/* The items of one kind: how many, and the i-th. */
static size_t count_of(const struct opened *o, enum collateral_kind kind)
{
    const struct verifier_collateral *a = &o->all;
    const size_t counts[COLLATERAL_KINDS] = {
        o->bundle.chain_count,  a->crl_count,          a->tcb_info.len > 0, a->tcb_chain_count > 0,
        a->qe_identity.len > 0, a->qe_chain_count > 0, a->ocsp_count,       a->rim_count};
    return counts[kind];
}

static struct span item_of(const struct opened *o, enum collateral_kind kind, size_t i)
{
    switch (kind) {
    case COLLATERAL_CHAIN:
        return o->bundle.chain[i];
    case COLLATERAL_CRL:
        return o->all.crls[i];
    case COLLATERAL_OCSP:
        return o->all.ocsp[i];
    case COLLATERAL_RIM:
        return o->all.rims[i];
    case COLLATERAL_TCB_INFO:
        return o->all.tcb_info;
    case COLLATERAL_QE_IDENTITY:
        return o->all.qe_identity;
    default:
        return writer_span(kind == COLLATERAL_TCB_CHAIN ? &o->tcb_chain : &o->qe_chain);
    }
}

/* One line for each item; with a time, the number of those not valid then. */
static size_t list_items(const struct opened *o, const uint64_t *at)
{
    size_t stale = 0;

    for (enum collateral_kind k = 0; k < COLLATERAL_KINDS; k++)
        for (size_t i = 0; i < count_of(o, k); i++) {
            struct span s = item_of(o, k, i);
            struct collateral_dates d;
            bool known = collateral_dates(k, s, &d), bad = at && (!known || *at < d.from || *at > d.until);
            char from[32] = "?", until[32] = "?";
            if (known) {
                policy_date_print(d.from, from);
                policy_date_print(d.until, until);
            }
            printf("%-11s %zu  %7zu bytes  %s to %s%s\n", collateral_names[k], i, s.len, from, until,
                   !bad           ? ""
                   : !known       ? "  UNREADABLE"
                   : *at < d.from ? "  NOT YET VALID"
                                  : "  STALE");
            stale += bad;
        }
    return stale;
}

static int show(int argc, char **argv)
{
    struct opened o = {0};
    const char *path;
    size_t rest;
    int rc = CLI_FAILED;
    char from[32], until[32];

    if (!cli_options(argc, argv, NULL, 0, &path, 1, &rest) || rest != 1)
        return cli_usage(usage);
    if (open_bundle(&o, path)) {
        policy_date_print(o.bundle.from, from);
        policy_date_print(o.bundle.until, until);
        printf("valid from %s to %s\n", from, until);
        (void)list_items(&o, NULL);
        rc = CLI_OK;
    }
    close_bundle(&o);
    return rc;
}

/* What evidence of a kind cannot be verified without. */
static const struct need {
    const char *hardware;
    enum collateral_kind kind;
    size_t least;
    const char *why;
} needs[] = {
    {"snp", COLLATERAL_CRL, 1, "the revocation list of the processor line"},
    {"tdx", COLLATERAL_CRL, 2, "the revocation lists of the root and of the platform authority"},
    {"tdx", COLLATERAL_TCB_INFO, 1, "the platform's firmware table"},
    {"tdx", COLLATERAL_TCB_CHAIN, 1, "the certificates of the firmware table"},
    {"tdx", COLLATERAL_QE_IDENTITY, 1, "the quoting enclave's identity"},
    {"tdx", COLLATERAL_QE_CHAIN, 1, "the certificates of the quoting enclave's identity"},
    {"gpu", COLLATERAL_RIM, 2, "the reference files of driver and VBIOS"},
    {"gpu", COLLATERAL_OCSP, 3, "the status of each certificate between leaf and root"},
};

static size_t list_missing(const struct opened *o, const struct cli_option *wanted, bool *known)
{
    size_t missing = 0;

    for (size_t w = 0; w < wanted->count; w++) {
        bool found = false;
        for (size_t i = 0; i < COUNT(needs); i++) {
            if (strcmp(wanted->value[w], needs[i].hardware) != 0)
                continue;
            found = true;
            if (count_of(o, needs[i].kind) >= needs[i].least)
                continue;
            printf("%-11s MISSING for %s: %s (%zu of at least %zu)\n", collateral_names[needs[i].kind],
                   needs[i].hardware, needs[i].why, count_of(o, needs[i].kind), needs[i].least);
            missing++;
        }
        *known = *known && found;
    }
    return missing;
}

/* The standing of each reference file's signer and of the authorities above it, as the answers here tell it. */
static size_t list_unanswered(const struct opened *o, uint64_t at)
{
    size_t missing = 0;

    for (size_t i = 0; i < o->all.rim_count; i++) {
        struct writer part = writer_with_max(VERIFIER_CHAIN_BYTES_MAX);
        struct verifier_certs certs;
        struct verifier_chain c = {0};
        bool read = collateral_rim_chain(o->all.rims[i], &part) &&
                    verifier_certs_parse(&certs, writer_span(&part)) == VERIFIER_OK &&
                    verifier_chain_open(&c, certs.cert, certs.count, certs.count, NULL) == VERIFIER_OK;
        for (size_t k = 0; read && k + 1 < c.count; k++) {
            enum verifier_err err = verifier_ocsp_check(&c, k, o->all.ocsp, o->all.ocsp_count, at, NULL);
            if (err != VERIFIER_OK)
                printf("%-11s MISSING for gpu: status of certificate %zu of reference file %zu (%s)\n",
                       collateral_names[COLLATERAL_OCSP], k, i, verifier_err_name(err));
            missing += err != VERIFIER_OK;
        }
        verifier_chain_close(&c);
        writer_release(&part);
    }
    return missing;
}

static bool wants(const struct cli_option *wanted, const char *hardware)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (strcmp(wanted->value[i], hardware) == 0)
            return true;
    return false;
}

static int check(int argc, char **argv)
{
    struct cli_option options[] = {{.name = "at"}, {.name = "for", .max = 3}};
    struct opened o = {0};
    const char *path;
    uint64_t at = (uint64_t)time(NULL);
    size_t rest, stale, missing;
    bool known = true;
    int rc = CLI_FAILED;

    if (!cli_options(argc, argv, options, COUNT(options), &path, 1, &rest) || rest != 1 ||
        (options[0].count && !policy_date_parse(span_str(options[0].value[0]), &at)))
        return cli_usage(usage);
    if (open_bundle(&o, path)) {
        stale = list_items(&o, &at);
        missing = list_missing(&o, &options[1], &known);
        if (wants(&options[1], "gpu"))
            missing += list_unanswered(&o, at);
        rc = stale ? COLLATERAL_STALE : missing ? COLLATERAL_MISSING : CLI_OK;
        if (stale)
            cli_fail("collateral: %zu pieces are not valid at that time: fetch again", stale);
        if (missing)
            cli_fail("collateral: %zu kinds are missing: add them to the configuration and fetch again", missing);
    }
    close_bundle(&o);
    return known ? rc : cli_usage(usage);
}

/* --- the word --------------------------------------------------------------------------------------- */

static int fetch(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "config"}, {.name = "out"}};
    size_t rest;

    if (!cli_options(argc, argv, o, COUNT(o), NULL, 0, &rest) || !o[0].count || !o[1].count)
        return cli_usage(usage);
    return collateral_fetch(o[0].value[0], o[1].value[0]);
}

int cli_collateral(int argc, char **argv)
{
    static const struct {
        const char *word;
        int (*run)(int argc, char **argv);
    } words[] = {{"fetch", fetch}, {"pack", pack}, {"show", show}, {"check", check}};

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return cli_help(usage);
    for (size_t i = 0; argc >= 2 && i < COUNT(words); i++)
        if (strcmp(argv[1], words[i].word) == 0)
            return words[i].run(argc - 1, argv + 1);
    return cli_usage(usage);
}
