/* Is a verdict that ran out of memory always a refusal? The nth allocation fails, for one n after the other: ours and
 * those of libcrypto, jansson and libxml2 (libconfig ends the process by itself when it has no memory). Each kind of
 * evidence is run twice: good, which must be accepted with the same facts or refused, mostly as "internal" (some faults
 * of a library's memory cannot be told from its other errors); and with a flaw, which must never pass because a check
 * could not be made. Nothing may be left allocated. $AIRLOCK_LONG=1 takes every n, otherwise n goes in strides that
 * take a few seconds. */
#include <jansson.h>
#include <libxml/parser.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "unit/run.h"
#include "unit/world.h"
#include "vectors/evidence.h"
#include "verifier/airlock.h"
#include "verifier/device.h"

/* --- allocations that fail ------------------------------------------------------------------------------------ */

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static size_t made, fail_at; /* allocations so far, and the one that fails; 0: none */
static long live;            /* allocated and not freed */

static bool fails(void)
{
    return ++made == fail_at;
}

void *__wrap_malloc(size_t n)
{
    void *p = fails() ? NULL : __real_malloc(n);

    live += p != NULL;
    return p;
}

void *__wrap_calloc(size_t count, size_t n)
{
    void *p = fails() ? NULL : __real_calloc(count, n);

    live += p != NULL;
    return p;
}

void *__wrap_realloc(void *old, size_t n)
{
    void *p = fails() ? NULL : __real_realloc(old, n);

    live += p && !old;
    return p;
}

void __wrap_free(void *p)
{
    live -= p != NULL;
    __real_free(p);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return __wrap_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return __wrap_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    __wrap_free(p);
}

static char *xml_strdup(const char *text)
{
    size_t len = strlen(text) + 1;
    char *p = __wrap_malloc(len);

    if (p)
        memcpy(p, text, len);
    return p;
}

/* --- evidence ---------------------------------------------------------------------------------------------- */

static struct {
    struct evidence e;
    struct span flawed;
    struct verifier_hw good;
} hw;

static enum verifier_err hw_once(bool flawed)
{
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    struct verifier_hw out;
    enum verifier_err err = verifier_hw_verify(&out, hw.e.tee, flawed ? hw.flawed : hw.e.bytes, hw.e.chain,
                                               hw.e.chain_count, &hw.e.given, EVIDENCE_NOW, &rules, NULL);

    if (err == VERIFIER_OK && hw.good.expires == 0)
        hw.good = out;
    fail_at = 0; /* check allocates, too */
    ck_assert(err != VERIFIER_OK || memcmp(&out, &hw.good, sizeof out) == 0);
    return err;
}

/* --- one n after the other --------------------------------------------------------------------------------------- */

#define ERR_QUEUE 16 /* errors that libcrypto keeps of a thread */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void each_n(const char *what, enum verifier_err (*once)(bool flawed), enum verifier_err flaw)
{
    static const double budget = 1.2; /* seconds for each of the two */
    const char *every = getenv("AIRLOCK_LONG");

    for (int flawed = 0; flawed < 2; flawed++) {
        enum verifier_err want = flawed ? flaw : VERIFIER_OK, err;
        size_t count, stride = 1, runs = 0, other[VERIFIER_ERR_COUNT] = {0};
        double took;
        long before;
        for (int warm = 0; warm < 3; warm++) /* what libraries make once and keep */
            ck_assert_int_eq(once(flawed), want);
        made = 0;
        before = live;
        took = seconds();
        ck_assert_int_eq(once(flawed), want);
        took = seconds() - took;
        count = made;
        if (!every || strcmp(every, "1") != 0)
            stride = 1 + (size_t)((double)count * took / budget);
        for (size_t n = 1; n <= count; n += stride) {
            made = 0;
            fail_at = n;
            err = once(flawed);
            fail_at = 0;
            ERR_clear_error();
            xmlResetLastError();
            runs++;
            other[err]++;
            /* some faults of a library's memory come out as its own errors: those refuse as something else */
            ck_assert_msg(err == want || err != VERIFIER_OK, "%s, allocation %zu of %zu fails", what, n, count);
        }
        /* libcrypto keeps the texts of its last errors */
        ck_assert_msg(live - before <= 2 * ERR_QUEUE, "%s: %ld allocations left", what, live - before);
        printf("%s, %s: %zu allocations, every %zuth failed, %zu refused for it\n", what, flawed ? "flawed" : "good",
               count, stride, other[VERIFIER_E_INTERNAL]);
        ck_assert_msg(2 * other[VERIFIER_E_INTERNAL] > runs - other[want], "%s: most refusals name another reason",
                      what);
    }
}

static void each_of(const char *what, enum evidence_kind kind, const char *item, const char *file,
                    enum verifier_err flaw)
{
    evidence_open(&hw.e, kind);
    hw.flawed = evidence_file(item, file);
    each_n(what, hw_once, flaw);
}

START_TEST(snp)
{
    each_of("SNP", EVIDENCE_SNP, "snp/milan-v3-vcek", "report_another_key.bin", VERIFIER_E_BAD_SIGNATURE);
}
END_TEST

START_TEST(tdx)
{
    each_of("TDX", EVIDENCE_TDX, "tdx/v4-td10", "quote_qe_signer.bin", VERIFIER_E_QE_IDENTITY_MISMATCH);
}
END_TEST

START_TEST(azure)
{
    each_of("vTPM", EVIDENCE_AZURE, "vtpm/azure-snp", "evidence_signed_by_another_key.bin", VERIFIER_E_BAD_SIGNATURE);
}
END_TEST

START_TEST(nitro)
{
    each_of("Nitro", EVIDENCE_NITRO, "nitro/enclave", "document_signed_by_another_key.cbor", VERIFIER_E_BAD_SIGNATURE);
}
END_TEST

/* --- accelerators ---------------------------------------------------------------------------------------------- */

static struct evidence gpu;
static struct verifier_collateral flawed_files;

static enum verifier_err gpu_once(bool flawed)
{
    const struct verifier_collateral *given = flawed ? &flawed_files : &gpu.given;
    struct verifier_device_claims claims;
    enum verifier_err err =
        verifier_device_verify(&claims, gpu.bytes, gpu.chain, gpu.chain_count, gpu.nonce, given, EVIDENCE_NOW, NULL);

    if (err == VERIFIER_OK)
        err = verifier_devices_compare(&claims, &gpu.bytes, 1, given, EVIDENCE_NOW, NULL);
    fail_at = 0;
    return err;
}

START_TEST(accelerator)
{
    struct verifier_collateral none = {0};
    struct verifier_device_claims claims;

    evidence_open(&gpu, EVIDENCE_GPU);
    flawed_files = gpu.given;
    flawed_files.rims[1] = evidence_file("nvgpu/gh100", "rim_file_signed_by_another_key.xml");
    each_n("GPU", gpu_once, VERIFIER_E_RIM_SIGNATURE);
    /* and without any file it is a refusal, not a comparison with nothing */
    ck_assert_int_eq(
        verifier_device_verify(&claims, gpu.bytes, gpu.chain, gpu.chain_count, gpu.nonce, &none, EVIDENCE_NOW, NULL),
        VERIFIER_OK);
    ck_assert_int_eq(verifier_devices_compare(&claims, &gpu.bytes, 1, &none, EVIDENCE_NOW, NULL),
                     VERIFIER_E_RIM_MISSING);
}
END_TEST

/* --- a whole envelope, through the public library ---------------------------------------------------------------- */

static struct world w;
static struct world_session session;
static struct writer good_envelope, bad_envelope;
static struct airlock_rules *rules;

static struct airlock_span span_out(struct span s)
{
    return (struct airlock_span){s.data, s.len};
}

static enum verifier_err code_of(const char *name)
{
    for (int i = 0; i < VERIFIER_ERR_COUNT; i++)
        if (strcmp(verifier_err_name((enum verifier_err)i), name) == 0)
            return (enum verifier_err)i;
    ck_abort_msg("%s", name);
}

static enum verifier_err envelope_once(bool flawed)
{
    struct airlock_input in = {.size = sizeof in,
                               .envelope = span_out(writer_span(flawed ? &bad_envelope : &good_envelope)),
                               .challenge = {session.challenge, session.challenge_len},
                               .spki = {session.spki, sizeof session.spki},
                               .exporter = session.exporter,
                               .session = {.tls13 = true, .finished = true},
                               .verifier = AIRLOCK_CLIENT,
                               .attester = AIRLOCK_PROXY,
                               .now = w.now};
    struct airlock_result why = {.code = "internal"};
    struct airlock_claims *claims = airlock_check(&in, &why);
    struct airlock_verdict verdict = {.size = sizeof verdict, .result = why};

    bool good = claims && airlock_judge(claims, rules, NULL, w.now, &verdict) == 0;
    fail_at = 0; /* check allocates, too */
    if (good) {
        ck_assert_uint_eq(airlock_claims_engine_count(claims), WORLD_ENGINES);
        ck_assert_uint_gt(verdict.valid_until, w.now);
    }
    airlock_claims_free(claims);
    return code_of(verdict.result.code);
}

static void edit_last_engine(struct world *unused, struct verifier_envelope *e)
{
    static uint8_t exporter[32];
    (void)unused;
    memcpy(exporter, e->engines[1].exporter, sizeof exporter);
    e->engines[1].exporter[0] ^= 1;
}

START_TEST(composite)
{
    char text[4096];

    world_open(&w);
    good_envelope = bad_envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&session, VERIFIER_CLIENT, &w.proxy, 1, 4);
    world_envelope(&w, &w.proxy, &session, NULL, &good_envelope);
    world_envelope(&w, &w.proxy, &session, edit_last_engine, &bad_envelope);
    world_acceptance(&w, w.owner_digest, text, sizeof text);
    rules = airlock_rules_parse(span_out(span_str(text)), NULL);
    ck_assert_ptr_nonnull(rules);
    each_n("envelope", envelope_once, VERIFIER_E_ENGINE_ROOT);
    airlock_rules_free(rules);
    writer_release(&good_envelope);
    writer_release(&bad_envelope);
    world_close(&w);
}
END_TEST

static void say_nothing(void *ctx, const char *format, ...)
{
    (void)ctx, (void)format;
}

static void add_tests(TCase *t)
{
    /* before any of them has allocated */
    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1 ||
        xmlMemSetup(__wrap_free, __wrap_malloc, __wrap_realloc, xml_strdup) != 0)
        abort();
    xmlSetGenericErrorFunc(NULL, say_nothing); /* of memory, it would */
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    tcase_set_timeout(t, 600);
    tcase_add_test(t, snp);
    tcase_add_test(t, tdx);
    tcase_add_test(t, azure);
    tcase_add_test(t, nitro);
    tcase_add_test(t, accelerator);
    tcase_add_test(t, composite);
}

RUN("protocol_faults", add_tests)
