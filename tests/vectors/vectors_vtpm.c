/* Real evidence of Azure's guests as it would stand in an envelope, taken together from several items of the vectors:
 * blob, TPM quote, hardware report and the vendor's collateral. It answers a nonce of another length than ours, so the
 * good twin is refused for that alone, after everything else held; each flaw is refused for its own reason before it.
 * And Google's event log: does its replay lead to the quoted registers? */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "vectors/pem.h"
#include "verifier/base/writer.h"
#include "verifier/eventlog.h"

static unsigned passed, failed;

static void result(const char *item, const char *what, bool good, const char *detail)
{
    good ? passed++ : failed++;
    if (!good)
        printf("FAILED vtpm/%s %s: %s\n", item, what, detail);
}

/* A file of the vectors; empty when it is not there. */
static struct writer file(const char *name)
{
    struct writer w = writer_with_max(1 << 20);
    char path[1024];
    uint8_t piece[4096];
    size_t n;
    snprintf(path, sizeof path, "%s/vectors/%s", getenv("AIRLOCK_SHARED"), name);
    FILE *f = fopen(path, "rb");
    while (f && (n = fread(piece, 1, sizeof piece, f)) > 0)
        writer_bytes(&w, span_of(piece, n));
    if (f)
        fclose(f);
    return w;
}

/* --- one guest ------------------------------------------------------------------------------------------ */

struct guest {
    const char *item;
    struct writer hcl, attest, signature, pcrs, td_quote;
    struct span chain[3];
    size_t chain_count;
    struct verifier_collateral collateral;
    uint64_t now;
};

/* A flaw: `byte` of one of the four parts changed. */
static const struct flaw {
    const char *what;
    char part; /* 'h'cl, 'a'ttest, 's'ignature, 'q'uote of the TD; 0: nothing */
    size_t at;
    enum { BOTH, SNP, TDX } where;
    const char *want[2];
} flaws[] = {
    {"good but for the nonce", 0, 0, BOTH, {"nonce_mismatch"}},
    {"magic of the blob", 'h', 0, BOTH, {"bad_magic"}},
    {"report data", 'h', 32 + 0x50, SNP, {"runtime_data_mismatch"}},
    {"measurement", 'h', 32 + 0x90, SNP, {"bad_signature"}},
    {"report data of the TDREPORT", 'h', 32 + 128, TDX, {"runtime_data_mismatch"}},
    {"JSON", 'h', 1296, BOTH, {"runtime_data_mismatch", "parse"}},
    {"magic of the TPM's message", 'a', 0, BOTH, {"bad_magic"}},
    {"its type", 'a', 5, BOTH, {"not_a_quote"}},
    {"its digest", 'a', 121, BOTH, {"bad_signature"}},
    {"its signature", 's', 10, BOTH, {"bad_signature"}},
    {"MRTD", 'q', 48 + 136, TDX, {"bad_signature"}},
    {"report data of the TD", 'q', 48 + 520, TDX, {"bad_signature"}},
    {"version of the quote", 'q', 0, TDX, {"parse"}},
};

static void put_pcrs(struct writer *out, struct span text)
{
    json_t *list = json_loadb((const char *)text.data, text.len, 0, NULL), *one;
    size_t i;
    writer_list(out, json_array_size(list));
    json_array_foreach(list, i, one)
    {
        uint8_t value[32];
        for (size_t k = 0; k < sizeof value; k++) {
            unsigned byte = 0;
            (void)!sscanf(json_string_value(one) + 2 * k, "%2x", &byte);
            value[k] = (uint8_t)byte;
        }
        writer_bin(out, span_of(value, sizeof value));
    }
    json_decref(list);
}

/* The blob up to its JSON's end, then the TD's quote. */
static void put_hcl(struct writer *out, struct guest *g)
{
    struct writer joined = writer_with_max(1 << 16);
    const uint8_t *size = g->hcl.data + 1232;
    size_t json = (size_t)size[0] | (size_t)size[1] << 8;
    writer_bytes(&joined, span_of(g->hcl.data, 1236 + json));
    writer_bytes(&joined, writer_span(&g->td_quote));
    writer_bin(out, writer_span(&joined));
    writer_release(&joined);
}

static void ask(struct guest *g, const struct flaw *flaw)
{
    struct writer *part = flaw->part == 'h'   ? &g->hcl
                          : flaw->part == 'a' ? &g->attest
                          : flaw->part == 's' ? &g->signature
                                              : &g->td_quote;
    struct writer quote = writer_with_max(1 << 16);
    struct verifier_hw_rules rules = verifier_hw_rules_judged();
    static struct verifier_hw hw;
    if (flaw->part)
        part->data[flaw->at] ^= 1;
    writer_map(&quote, 4);
    writer_key(&quote, "hcl");
    put_hcl(&quote, g);
    writer_key(&quote, "attest");
    writer_bin(&quote, writer_span(&g->attest));
    writer_key(&quote, "signature");
    writer_bin(&quote, writer_span(&g->signature));
    writer_key(&quote, "pcrs");
    put_pcrs(&quote, writer_span(&g->pcrs));
    const char *got = verifier_err_name(verifier_hw_verify(&hw, VERIFIER_TEE_AZURE, writer_span(&quote), g->chain,
                                                           g->chain_count, &g->collateral, g->now, &rules, NULL));
    result(g->item, flaw->what, strcmp(got, flaw->want[0]) == 0 || (flaw->want[1] && strcmp(got, flaw->want[1]) == 0),
           got);
    if (flaw->part)
        part->data[flaw->at] ^= 1;
    writer_release(&quote);
}

static bool open_guest(struct guest *g)
{
    const char *const names[] = {"hcl_report.bin", "quote.msg", "quote.sig", "pcrs_sha256.json"};
    struct writer *const to[] = {&g->hcl, &g->attest, &g->signature, &g->pcrs};
    bool there = true;
    for (size_t i = 0; i < 4; i++) {
        char name[128];
        snprintf(name, sizeof name, "tpm/%s/%s", g->item, names[i]);
        *to[i] = file(name);
        there = there && to[i]->len > 0;
    }
    return there && g->hcl.len > 1236;
}

static void run_guest(struct guest *g)
{
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++)
        if (flaws[i].where == BOTH || (flaws[i].where == TDX) == (g->td_quote.len > 0))
            ask(g, &flaws[i]);
}

/* --- the three items ------------------------------------------------------------------------------------------- */

static bool azure_snp(void)
{
    struct guest g = {.item = "azure-snp-v1", .now = 1788220800};
    struct writer leaf = file("tpm/azure-snp-v1/vcek.der"), ask_cert = file("snp/milan-v3-azure/ask.der"),
                  ark = file("snp/milan-v3-azure/ark.der"), crl = file("snp/milan-v3-azure/ark.crl");
    bool there = open_guest(&g) && leaf.len > 0 && ask_cert.len > 0 && ark.len > 0 && crl.len > 0;
    g.chain[0] = writer_span(&leaf);
    g.chain[1] = writer_span(&ask_cert);
    g.chain[2] = writer_span(&ark);
    g.chain_count = 3;
    g.collateral.crls[0] = writer_span(&crl);
    g.collateral.crl_count = 1;
    if (there)
        run_guest(&g);
    struct writer *all[] = {&leaf, &ask_cert, &ark, &crl, &g.hcl, &g.attest, &g.signature, &g.pcrs};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        writer_release(all[i]);
    return there;
}

static bool azure_tdx(void)
{
    static const char *const names[] = {"tcb_info.json",         "tcb_info_chain.pem", "qe_identity.json",
                                        "qe_identity_chain.pem", "root_ca.crl",        "pck.crl"};
    struct guest g = {.item = "azure-tdx-v1", .now = 1750325734};
    struct writer f[6];
    bool there = open_guest(&g);
    g.td_quote = file("tpm/azure-tdx-v1/td_quote.bin");
    for (size_t i = 0; i < 6; i++) {
        char name[128];
        snprintf(name, sizeof name, "tdx/v4-azure-out-of-date/%s", names[i]);
        f[i] = file(name);
        there = there && f[i].len > 0;
    }
    struct verifier_collateral *c = &g.collateral;
    c->tcb_info = writer_span(&f[0]);
    c->tcb_chain_count = pem_chain(writer_span(&f[1]), c->tcb_chain);
    c->qe_identity = writer_span(&f[2]);
    c->qe_chain_count = pem_chain(writer_span(&f[3]), c->qe_chain);
    c->crls[0] = writer_span(&f[4]);
    c->crls[1] = writer_span(&f[5]);
    c->crl_count = 2;
    if (there && g.td_quote.len > 0)
        run_guest(&g);
    for (size_t i = 0; i < c->tcb_chain_count; i++)
        OPENSSL_free((void *)(uintptr_t)c->tcb_chain[i].data);
    for (size_t i = 0; i < c->qe_chain_count; i++)
        OPENSSL_free((void *)(uintptr_t)c->qe_chain[i].data);
    struct writer *all[] = {&f[0],  &f[1],     &f[2],        &f[3],   &f[4],      &f[5],
                            &g.hcl, &g.attest, &g.signature, &g.pcrs, &g.td_quote};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        writer_release(all[i]);
    return there;
}

/* Every register that the firmware's log speaks of, against the quoted SHA-256 bank. */
static bool gcp_log(void)
{
    struct writer log = file("tpm/gcp-cos85-nonce9009/event_log.bin"),
                  told = file("tpm/gcp-cos85-nonce9009/expected.json");
    json_t *doc = json_loadb((const char *)told.data, told.len, 0, NULL);
    json_t *pcrs =
        json_object_get(json_array_get(json_object_get(json_object_get(doc, "fields"), "quotes"), 1), "pcrs");
    static struct verifier_event_log out;
    bool there = log.len > 0 && pcrs;
    enum verifier_err err =
        there ? verifier_event_log_replay(&out, writer_span(&log), VERIFIER_LOG_PCR) : VERIFIER_E_PARSE;
    if (there)
        result("gcp-cos85-nonce9009", "event log", err == VERIFIER_OK, verifier_err_name(err));
    for (unsigned i = 0; err == VERIFIER_OK && i < VERIFIER_LOG_REGISTERS; i++) {
        char key[8], hex[65];
        snprintf(key, sizeof key, "%u", i);
        for (size_t k = 0; k < 32; k++)
            snprintf(hex + 2 * k, 3, "%02x", out.reg[i][k]);
        const char *want = json_string_value(json_object_get(pcrs, key));
        if (out.events[i] > 0)
            result("gcp-cos85-nonce9009", key, want && strcmp(hex, want) == 0, hex);
    }
    if (there) {
        log.data[log.len / 2] ^= 1; /* the good twin's log with one bit changed */
        err = verifier_event_log_replay(&out, writer_span(&log), VERIFIER_LOG_RTMR);
        result("gcp-cos85-nonce9009", "no CCEL", err == VERIFIER_E_PARSE, verifier_err_name(err));
    }
    json_decref(doc);
    writer_release(&log);
    writer_release(&told);
    return there;
}

int main(void)
{
    bool (*const items[])(void) = {azure_snp, azure_tdx, gcp_log};
    unsigned skipped = 0;
    if (!getenv("AIRLOCK_SHARED")) {
        puts("SKIP vtpm: AIRLOCK_SHARED names no folder of vectors");
        return 77;
    }
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        skipped += !items[i]();
    if (skipped)
        printf("SKIP vtpm: %u of 3 items need files of tpm, snp and tdx that are not there\n", skipped);
    printf("vtpm: %u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed ? 1 : passed ? 0 : 77;
}
