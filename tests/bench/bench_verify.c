/* Cold verification of real evidence against its floor: the signatures that must be checked, each at the time that
 * OpenSSL's EVP takes for one in the same run. Processor time of this thread, least of several rounds that take turns,
 * so that a busy machine hurts neither side. Prints rows of tests/bench/run.sh. Needs $AIRLOCK_SHARED/vectors. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "verifier/device.h"
#include "verifier/hw.h"
#include "verifier/quote.h"
#include "verifier/spdm.h"

#define ROUNDS 15
#define GOAL 1.3         /* cold, times the floor */
#define PARSE_GOAL_US 50 /* microseconds */

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

static size_t certificates(struct span pem, struct span out[VERIFIER_CERTS_MAX])
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    size_t n = 0;
    X509 *x;

    while (n < VERIFIER_CERTS_MAX && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        unsigned char *der = NULL;
        int len = i2d_X509(x, &der);
        out[n++] = span_of(der, (size_t)len);
        X509_free(x);
    }
    BIO_free(bio);
    return n;
}

static struct item snp_item(void)
{
    static const char at[] = "snp/milan-v2-baremetal";
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
    i.given.tcb_chain_count = certificates(file(at, "tcb_info_chain.pem"), i.given.tcb_chain);
    i.given.qe_chain_count = certificates(file(at, "qe_identity_chain.pem"), i.given.qe_chain);
    i.given.crls[i.given.crl_count++] = file(at, "root_ca.crl");
    i.given.crls[i.given.crl_count++] = file(at, "pck.crl");
    return i;
}

static struct item gpu_item(void)
{
    static const char at[] = "nvgpu/gh100-545.00-full-match";
    struct item i = {.evidence = file(at, "report.bin"), .now = 1735689600};

    i.chain_count = certificates(file(at, "cert_chain.pem"), i.chain);
    i.given.rims[i.given.rim_count++] = file(at, "driver_rim.xml");
    i.given.rims[i.given.rim_count++] = file(at, "vbios_rim.xml");
    return i;
}

static void cpu_once(const struct item *i, enum verifier_tee tee)
{
    static const struct verifier_collateral none;
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    struct verifier_hw hw;

    need(verifier_hw_verify(&hw, tee, i->evidence, i->chain, i->chain_count, i->given.crl_count ? &i->given : &none,
                            i->now, &rules, NULL) == VERIFIER_OK,
         "genuine evidence is refused");
}

static void snp_once(void *arg)
{
    cpu_once(arg, VERIFIER_TEE_SNP);
}

static void tdx_once(void *arg)
{
    cpu_once(arg, VERIFIER_TEE_TDX);
}

static void gpu_once(void *arg)
{
    static const uint8_t nonce[32] = {0x4c, 0xff, 0x7f, 0x53, 0x80, 0xea, 0xd8, 0xfa, 0xd8, 0xec, 0x2c,
                                      0x53, 0x1c, 0x11, 0x0a, 0xca, 0x43, 0x02, 0xa8, 0x8f, 0x60, 0x37,
                                      0x92, 0x80, 0x1a, 0x8c, 0xa2, 0x9e, 0xe1, 0x51, 0xaf, 0x2e};
    static struct verifier_device_claims claims;
    const struct item *i = arg;

    need(verifier_device_verify(&claims, i->evidence, i->chain, i->chain_count, nonce, &i->given, i->now, NULL) ==
                 VERIFIER_OK &&
             verifier_devices_compare(&claims, &i->evidence, 1, &i->given, i->now, NULL) == VERIFIER_OK,
         "a genuine GPU is refused");
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

static void row(const char *what, const struct timed *t, double floor_us, const char *signatures)
{
    printf("verify\t%s, cold\t%.0f us\t%.0f us: %s\t%.2f\t<= %.1f\t%s\n", what, t->best, floor_us, signatures,
           t->best / floor_us, GOAL, t->best / floor_us <= GOAL ? "met" : "short");
}

static void parse_row(const char *what, const struct timed *t)
{
    printf("verify\t%s, parsing\t%.2f us\t-\t-\t< %d us\t%s\n", what, t->best, PARSE_GOAL_US,
           t->best < PARSE_GOAL_US ? "met" : "short");
}

int main(void)
{
    struct item snp = snp_item(), tdx = tdx_item(), gpu = gpu_item();
    struct floor p256, p384, rsa;
    struct timed t[] = {
        {floor_once, &p256, 50, 0}, {floor_once, &p384, 20, 0}, {floor_once, &rsa, 50, 0},
        {snp_once, &snp, 10, 0},    {tdx_once, &tdx, 10, 0},    {gpu_once, &gpu, 4, 0},
        {snp_parse, &snp, 1000, 0}, {tdx_parse, &tdx, 1000, 0}, {gpu_parse, &gpu, 1000, 0},
    };

    floor_open(&p256, EVP_EC_gen("P-256"), EVP_sha256(), false);
    floor_open(&p384, EVP_EC_gen("P-384"), EVP_sha384(), false);
    floor_open(&rsa, EVP_RSA_gen(4096), EVP_sha384(), true);
    measure(t, sizeof t / sizeof *t);
    printf("# one signature by EVP\tP-256 %.1f us, P-384 %.1f us, RSA-4096 PSS %.1f us\n", t[0].best, t[1].best,
           t[2].best);
    row("SNP report, chain, revocation list", t + 3, t[1].best + 3 * t[2].best, "1 P-384, 3 RSA-4096");
    row("TDX quote, chain, lists, documents", t + 4, 9 * t[0].best, "9 P-256");
    row("GPU report, chain, 2 reference files", t + 5, 13 * t[1].best, "13 P-384");
    parse_row("SNP report", t + 6);
    parse_row("TDX quote", t + 7);
    parse_row("GPU report", t + 8);
    return 0;
}
