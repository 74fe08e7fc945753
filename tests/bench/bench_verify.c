/* Verification of real evidence against its floor: the distinct signatures that must be checked, each at the time that
 * OpenSSL's EVP takes for one with a loaded key in the same run. Cold: nothing is known. Warm: the same machine again,
 * certificates, lists and documents known from before, so that what is new is left: the evidence's own signatures. The
 * signatures that a run really checks are counted and must be those stated. Processor time of this thread, least of
 * several rounds that take turns, so that a busy machine hurts neither side. Prints rows of tests/bench/run.sh. Needs
 * $AIRLOCK_SHARED/vectors. */
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vectors/pem.h"
#include "verifier/cache.h"
#include "verifier/device.h"
#include "verifier/quote.h"
#include "verifier/spdm.h"

#define ROUNDS 15
#define GOAL_COLD 1.3 /* times the floor */
#define GOAL_WARM 1.25
#define PARSE_GOAL_US 50 /* microseconds */

/* The report, 4 certificates above it, and of the reference files their own 2 and their certificates, some shared. */
#define GPU_COLD 11
#define GPU_COLD_TEXT "11 P-384"
#define GPUS_COLD_TEXT "18 P-384"

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_verify: %s\n", what);
    exit(1);
}

/* --- the floor ----------------------------------------------------------------------------------------- */

struct floor {
    EVP_PKEY *key;
    bool pss;
    const EVP_MD *md;
    uint8_t sig[512];
    size_t sig_len;
};

static const uint8_t message[VERIFIER_SNP_SIGNED]; /* as long as a report's signed part */

static EVP_MD_CTX *start(struct floor *f,
                         int (*init)(EVP_MD_CTX *, EVP_PKEY_CTX **, const EVP_MD *, ENGINE *, EVP_PKEY *))
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *inner;

    need(ctx && init(ctx, &inner, f->md, NULL, f->key) == 1, "EVP");
    need(!f->pss || EVP_PKEY_CTX_set_rsa_padding(inner, RSA_PKCS1_PSS_PADDING) == 1, "PSS");
    return ctx;
}

static void floor_open(struct floor *f, EVP_PKEY *key, const EVP_MD *md, bool pss)
{
    EVP_MD_CTX *ctx;

    *f = (struct floor){.key = key, .pss = pss, .md = md, .sig_len = sizeof f->sig};
    need(key != NULL, "key");
    ctx = start(f, EVP_DigestSignInit);
    need(EVP_DigestSign(ctx, f->sig, &f->sig_len, message, sizeof message) == 1, "sign");
    EVP_MD_CTX_free(ctx);
}

static void floor_once(void *arg)
{
    struct floor *f = arg;
    EVP_MD_CTX *ctx = start(f, EVP_DigestVerifyInit);

    need(EVP_DigestVerify(ctx, f->sig, f->sig_len, message, sizeof message) == 1, "verify");
    EVP_MD_CTX_free(ctx);
}

/* --- the evidence -------------------------------------------------------------------------------------- */

struct item {
    struct span evidence, chain[VERIFIER_CERTS_MAX];
    size_t chain_count;
    struct verifier_collateral given;
    uint64_t now;
};

static struct span file(const char *item, const char *name)
{
    const char *shared = getenv("AIRLOCK_SHARED");
    char path[1024];
    uint8_t *data = malloc(1 << 18);
    size_t len = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/vectors/%s/%s", shared ? shared : "../shared", item, name);
    f = fopen(path, "rb");
    if (!f)
        exit(77);
    if (data)
        len = fread(data, 1, 1 << 18, f);
    fclose(f);
    need(len > 0, path);
    return span_of(data, len);
}

static struct item snp_item(void)
{
    static const char at[] = "snp/genoa-v3-azure";
    struct item i = {.evidence = file(at, "report.bin"), .chain_count = 3, .now = 1788220800};

    i.chain[0] = file(at, "leaf.der"), i.chain[1] = file(at, "ask.der"), i.chain[2] = file(at, "ark.der");
    i.given.crls[i.given.crl_count++] = file(at, "ark.crl");
    return i;
}

static struct item tdx_item(void)
{
    static const char at[] = "tdx/v4-emr-uptodate";
    struct item i = {.evidence = file(at, "quote.bin"), .now = 1751624191};

    i.given.tcb_info = file(at, "tcb_info.json"), i.given.qe_identity = file(at, "qe_identity.json");
    i.given.tcb_chain_count = pem_chain(file(at, "tcb_info_chain.pem"), i.given.tcb_chain);
    i.given.qe_chain_count = pem_chain(file(at, "qe_identity_chain.pem"), i.given.qe_chain);
    i.given.crls[i.given.crl_count++] = file(at, "root_ca.crl");
    i.given.crls[i.given.crl_count++] = file(at, "pck.crl");
    return i;
}

static struct item gpu_item(void)
{
    static const char at[] = "nvgpu/gh100-545.00-full-match";
    struct item i = {.evidence = file(at, "report.bin"), .now = 1735689600};

    i.chain_count = pem_chain(file(at, "cert_chain.pem"), i.chain);
    i.given.rims[i.given.rim_count++] = file(at, "driver_rim.xml");
    i.given.rims[i.given.rim_count++] = file(at, "vbios_rim.xml");
    return i;
}

/* --- one verification ---------------------------------------------------------------------------------- */

/* How many signatures of each kind. */
struct signatures {
    int p256, p384, rsa;
};
static struct signatures counted;

int __real_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig, size_t sig_len, const unsigned char *digest,
                           size_t digest_len);
int __wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig, size_t sig_len, const unsigned char *digest,
                           size_t digest_len);

int __wrap_EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *sig, size_t sig_len, const unsigned char *digest,
                           size_t digest_len)
{
    EVP_PKEY *key = EVP_PKEY_CTX_get0_pkey(ctx);

    if (EVP_PKEY_is_a(key, "RSA"))
        counted.rsa++;
    else if (EVP_PKEY_get_bits(key) == 256)
        counted.p256++;
    else
        counted.p384++;
    return __real_EVP_PKEY_verify(ctx, sig, sig_len, digest, digest_len);
}

/* One way to verify, cold or warm. */
struct work {
    const char *name;
    struct item *item;
    enum verifier_tee tee; /* without devices */
    size_t devices;        /* so many times the item's report, whose chain and reference files they share */
    bool warm;
    struct signatures needs;
    const char *shown;
};

static void cpu_once(const struct item *i, enum verifier_tee tee)
{
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    struct verifier_hw hw;

    need(verifier_hw_verify(&hw, tee, i->evidence, i->chain, i->chain_count, &i->given, i->now, &rules, NULL) ==
             VERIFIER_OK,
         "genuine evidence is refused");
}

static void gpus_once(const struct item *i, size_t count)
{
    static const uint8_t nonce[32] = {0x4c, 0xff, 0x7f, 0x53, 0x80, 0xea, 0xd8, 0xfa, 0xd8, 0xec, 0x2c,
                                      0x53, 0x1c, 0x11, 0x0a, 0xca, 0x43, 0x02, 0xa8, 0x8f, 0x60, 0x37,
                                      0x92, 0x80, 0x1a, 0x8c, 0xa2, 0x9e, 0xe1, 0x51, 0xaf, 0x2e};
    static struct verifier_device_claims claims[VERIFIER_DEVICES_MAX];
    struct span reports[VERIFIER_DEVICES_MAX];

    for (size_t d = 0; d < count; d++) {
        reports[d] = i->evidence;
        need(verifier_device_verify(&claims[d], i->evidence, i->chain, i->chain_count, nonce, &i->given, i->now,
                                    NULL) == VERIFIER_OK,
             "a genuine GPU is refused");
    }
    need(verifier_devices_compare(claims, reports, count, &i->given, i->now, NULL) == VERIFIER_OK,
         "a genuine GPU's measurements are refused");
}

/* As verifier_check() does it: one cache for the whole of an envelope, the caller's or its own. */
static void work_once(void *arg)
{
    struct work *w = arg;
    struct verifier_cache *kept = w->item->given.cache;

    if (!w->warm)
        w->item->given.cache = verifier_cache_new(0);
    if (w->devices)
        gpus_once(w->item, w->devices);
    else
        cpu_once(w->item, w->tee);
    if (!w->warm)
        verifier_cache_free(w->item->given.cache);
    w->item->given.cache = kept;
}

static void count_signatures(struct work *w)
{
    for (int i = 0; i < 2; i++) { /* what is warm is warm the second time */
        counted = (struct signatures){0};
        work_once(w);
    }
    if (counted.p256 != w->needs.p256 || counted.p384 != w->needs.p384 || counted.rsa != w->needs.rsa)
        fprintf(stderr, "%s: %d P-256, %d P-384, %d RSA\n", w->name, counted.p256, counted.p384, counted.rsa);
    need(counted.p256 == w->needs.p256 && counted.p384 == w->needs.p384 && counted.rsa == w->needs.rsa,
         "other signatures were checked than stated");
}

static void snp_parse(void *arg)
{
    struct verifier_snp out;

    need(verifier_snp_parse(&out, ((struct item *)arg)->evidence) == VERIFIER_OK, "SNP parse");
}

static void tdx_parse(void *arg)
{
    static struct verifier_quote out;

    need(verifier_quote_parse(&out, ((struct item *)arg)->evidence) == VERIFIER_OK, "TDX parse");
}

static void gpu_parse(void *arg)
{
    static struct verifier_spdm out;

    need(verifier_spdm_parse(&out, ((struct item *)arg)->evidence) == VERIFIER_OK, "GPU parse");
}

/* --- rows ---------------------------------------------------------------------------------------------- */

struct timed {
    void (*once)(void *arg);
    void *arg;
    int calls;   /* a round */
    double best; /* microseconds a call */
};

static void measure(struct timed *t, size_t n)
{
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < n; i++) {
            double from = cpu_us(), each;
            for (int call = 0; call < t[i].calls; call++)
                t[i].once(t[i].arg);
            each = (cpu_us() - from) / t[i].calls;
            if (round == 0 || each < t[i].best)
                t[i].best = each;
        }
}

static void row(const struct work *w, const struct timed *t, const double each[3])
{
    double floor_us = w->needs.p256 * each[0] + w->needs.p384 * each[1] + w->needs.rsa * each[2];
    double ratio = t->best / floor_us, goal = w->warm ? GOAL_WARM : GOAL_COLD;

    printf("verify\t%s, %s\t%.0f us\t%.0f us: %s\t%.2f\t<= %.2f\t%s\n", w->name, w->warm ? "warm" : "cold", t->best,
           floor_us, w->shown, ratio, goal, ratio <= goal ? "met" : "short");
}

static void parse_row(const char *what, const struct timed *t)
{
    printf("verify\t%s, parsing\t%.2f us\t-\t-\t< %d us\t%s\n", what, t->best, PARSE_GOAL_US,
           t->best < PARSE_GOAL_US ? "met" : "short");
}

#define SNP "SNP report, chain, revocation list"
#define TDX "TDX quote, chain, lists, documents"
#define GPU "GPU report, chain, 2 reference files"
#define GPUS "8 GPU reports (of one device), chain, 2 reference files"

enum { WORKS = 8, FLOORS = 3, PARSERS = 3 };

int main(void)
{
    struct item snp = snp_item(), tdx = tdx_item(), gpu = gpu_item();
    struct floor p256, p384, rsa;
    struct work work[WORKS] = {
        {SNP, &snp, VERIFIER_TEE_SNP, 0, false, {.p384 = 1, .rsa = 3}, "1 P-384, 3 RSA-4096"},
        {SNP, &snp, VERIFIER_TEE_SNP, 0, true, {.p384 = 1}, "1 P-384"},
        {TDX, &tdx, VERIFIER_TEE_TDX, 0, false, {.p256 = 9}, "9 P-256"},
        {TDX, &tdx, VERIFIER_TEE_TDX, 0, true, {.p256 = 2}, "2 P-256"},
        {GPU, &gpu, 0, 1, false, {.p384 = GPU_COLD}, GPU_COLD_TEXT},
        {GPU, &gpu, 0, 1, true, {.p384 = 1}, "1 P-384"},
        {GPUS, &gpu, 0, 8, false, {.p384 = GPU_COLD + 7}, GPUS_COLD_TEXT},
        {GPUS, &gpu, 0, 8, true, {.p384 = 8}, "8 P-384"},
    };
    struct timed t[FLOORS + WORKS + PARSERS] = {
        {floor_once, &p256, 50, 0}, {floor_once, &p384, 20, 0}, {floor_once, &rsa, 50, 0}};
    struct timed *parsers = t + FLOORS + WORKS;
    double each[FLOORS];

    floor_open(&p256, EVP_EC_gen("P-256"), EVP_sha256(), false);
    floor_open(&p384, EVP_EC_gen("P-384"), EVP_sha384(), false);
    floor_open(&rsa, EVP_RSA_gen(4096), EVP_sha384(), true);
    snp.given.cache = verifier_cache_new(0);
    tdx.given.cache = verifier_cache_new(0);
    gpu.given.cache = verifier_cache_new(0);
    for (size_t i = 0; i < WORKS; i++) {
        count_signatures(&work[i]);
        t[FLOORS + i] = (struct timed){work_once, &work[i], work[i].devices ? 3 : 10, 0};
    }
    parsers[0] = (struct timed){snp_parse, &snp, 1000, 0};
    parsers[1] = (struct timed){tdx_parse, &tdx, 1000, 0};
    parsers[2] = (struct timed){gpu_parse, &gpu, 1000, 0};
    measure(t, sizeof t / sizeof *t);
    for (size_t i = 0; i < FLOORS; i++)
        each[i] = t[i].best;
    printf("# one signature by EVP\tP-256 %.1f us, P-384 %.1f us, RSA-4096 PSS %.1f us\n", each[0], each[1], each[2]);
    for (size_t i = 0; i < WORKS; i++)
        row(&work[i], &t[FLOORS + i], each);
    parse_row("SNP report", parsers);
    parse_row("TDX quote", parsers + 1);
    parse_row("GPU report", parsers + 2);
    return 0;
}
