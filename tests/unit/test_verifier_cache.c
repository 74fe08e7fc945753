/* Does a cache make verdicts faster and nothing else: facts of the very bytes, none of what was refused, in bounds? */
#include "verifier/cache.h"

#include <openssl/ec.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "unit/run.h"
#include "verifier/anchors/test.h"
#include "verifier/chain.h"

#define NOW 1800000000
#define DAY 86400

/* --- certificates ---------------------------------------------------------------------------------- */

struct party {
    EVP_PKEY *key;
    X509 *cert;
    uint8_t der[2048];
    struct span span;
};
static struct party root, leaf, other;

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ck_assert_int_eq(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

static void make(struct party *p, const char *name, const struct party *by, const char *curve)
{
    uint8_t *der = p->der;
    *p = (struct party){.key = EVP_EC_gen(curve), .cert = X509_new()};
    X509_NAME *n = X509_get_subject_name(p->cert);
    X509_set_version(p->cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(p->cert), 7);
    ASN1_TIME_set(X509_getm_notBefore(p->cert), NOW - DAY);
    ASN1_TIME_set(X509_getm_notAfter(p->cert), NOW + DAY);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(p->cert, by ? X509_get_subject_name(by->cert) : n);
    X509_set_pubkey(p->cert, p->key);
    if (!by)
        add_extension(p->cert, NID_basic_constraints, "critical,CA:TRUE");
    ck_assert_int_gt(X509_sign(p->cert, by ? by->key : p->key, EVP_sha384()), 0);
    p->span = span_of(p->der, (size_t)i2d_X509(p->cert, &der));
}

static void setup(void)
{
    uint8_t digest[32];
    make(&root, "Root", NULL, "P-384");
    make(&leaf, "Leaf", &root, "P-384");
    make(&other, "Other leaf", &root, "P-256");
    SHA256(root.span.data, root.span.len, digest);
    verifier_anchors_reset();
    ck_assert(verifier_anchors_inject(digest, &(struct verifier_anchor){.kind = VERIFIER_ANCHOR_NVIDIA_RIM}));
}

static void release(struct party *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
}

static void teardown(void)
{
    release(&root);
    release(&leaf);
    release(&other);
    verifier_anchors_reset();
}

static enum verifier_err check(struct span first, struct verifier_cache *cache, uint64_t now)
{
    struct span der[2] = {first, root.span};
    struct verifier_chain c;
    enum verifier_err err = verifier_chain_open(&c, der, 2, 2, NULL);
    verifier_chain_use(&c, cache);
    if (err == VERIFIER_OK)
        err = verifier_chain_anchor(&c, VERIFIER_ANCHOR_NVIDIA_RIM, NULL);
    if (err == VERIFIER_OK)
        err = verifier_chain_check(&c, VERIFIER_FORM_ECDSA_SHA384, now, NULL);
    verifier_chain_close(&c);
    return err;
}

static size_t facts(const struct verifier_cache *cache)
{
    size_t count;
    (void)verifier_cache_size(cache, &count);
    return count;
}

/* Time and anchors count on every use, whatever is remembered. */
START_TEST(what_can_change_is_looked_at_again)
{
    struct verifier_cache *cache = verifier_cache_new(0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_OK);
        ck_assert_uint_eq(facts(cache), 1);
        ck_assert_int_eq(check(leaf.span, cache, NOW + 2 * DAY), VERIFIER_E_CERT_EXPIRED);
        ck_assert_int_eq(check(leaf.span, cache, NOW - 2 * DAY), VERIFIER_E_CERT_NOT_YET_VALID);
    }
    verifier_anchors_reset();
    ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_E_UNTRUSTED_ROOT);
    verifier_cache_free(cache);
}
END_TEST

/* The fact is really used: with a wrong one planted, a wrong signature passes. Only this test can plant one. */
START_TEST(a_fact_is_used)
{
    struct verifier_cache *cache = verifier_cache_new(0);
    struct verifier_cert by;
    leaf.der[leaf.span.len - 1] ^= 1;
    ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_E_CHAIN_SIGNATURE);
    ck_assert(verifier_cert_parse(&by, root.span));
    verifier_cache_signed_by(cache, &by, VERIFIER_FORM_ECDSA_SHA384, leaf.span);
    ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_OK);
    verifier_cache_free(cache);
}
END_TEST

START_TEST(every_bit_and_the_form_belong_to_the_fact)
{
    struct verifier_cache *cache = verifier_cache_new(0);
    struct verifier_cert by, cert;
    ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_OK);
    ck_assert(verifier_cert_parse(&by, root.span));
    ck_assert(verifier_cert_parse(&cert, leaf.span));
    ck_assert(
        !verifier_cache_check(cache, &by, VERIFIER_FORM_ECDSA_SHA256, cert.whole, cert.signed_part, cert.signature));
    for (size_t i = 0; i < leaf.span.len; i += 7) {
        leaf.der[i] ^= 4;
        ck_assert_int_ne(check(leaf.span, cache, NOW), VERIFIER_OK);
        leaf.der[i] ^= 4;
    }
    ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_OK);
    verifier_cache_free(cache);
}
END_TEST

START_TEST(what_was_refused_is_not_remembered)
{
    struct verifier_cache *cache = verifier_cache_new(0);
    ck_assert_int_eq(check(leaf.span, cache, NOW + 2 * DAY), VERIFIER_E_CERT_EXPIRED);
    verifier_anchors_reset();
    ck_assert_int_eq(check(leaf.span, cache, NOW), VERIFIER_E_UNTRUSTED_ROOT);
    ck_assert_uint_eq(facts(cache), 0);
    verifier_cache_free(cache);
}
END_TEST

/* --- bounds ------------------------------------------------------------------------------------------ */

static int released;
static void count_release(void *value)
{
    released++;
    free(value);
}

static void add(struct verifier_cache *cache, uint32_t number, size_t size)
{
    verifier_cache_add(cache, VERIFIER_FACT_DOCUMENT, span_of(NULL, 0), span_of(&number, sizeof number), malloc(1),
                       size, count_release);
}

static bool has(struct verifier_cache *cache, uint32_t number)
{
    return verifier_cache_find(cache, VERIFIER_FACT_DOCUMENT, span_of(NULL, 0), span_of(&number, sizeof number), NULL);
}

START_TEST(memory_is_bounded_and_the_oldest_goes)
{
    struct verifier_cache *cache = verifier_cache_new(10000);
    released = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        add(cache, i, 1000);
        ck_assert_uint_le(verifier_cache_size(cache, NULL), 10000);
        ck_assert(has(cache, 0)); /* asked for each time: never the oldest */
        ck_assert(has(cache, i));
    }
    ck_assert(!has(cache, 1));
    ck_assert_int_eq(released + (int)facts(cache), 1000);
    add(cache, 5000, 10000); /* would not fit alone */
    ck_assert(!has(cache, 5000));
    ck_assert(has(cache, 0));
    add(cache, 0, 1000); /* is there: the one that is kept stays */
    ck_assert_int_eq(released + (int)facts(cache), 1002);
    verifier_cache_free(cache);
    ck_assert_int_eq(released, 1002);
}
END_TEST

/* --- key objects ------------------------------------------------------------------------------------- */

static struct span point_of(const struct party *p, uint8_t out[VERIFIER_POINT_MAX + 1])
{
    size_t len = 0;
    ck_assert_int_eq(EVP_PKEY_get_octet_string_param(p->key, "pub", out, VERIFIER_POINT_MAX + 1, &len), 1);
    return span_of(out + 1, len - 1);
}

/* r and s of a signature over "message". */
static struct span sign(const struct party *p, uint8_t out[VERIFIER_POINT_MAX])
{
    uint8_t der[200];
    const uint8_t *at = der;
    size_t len = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    ck_assert_int_eq(EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, p->key), 1);
    ck_assert_int_eq(EVP_DigestSign(ctx, der, &len, (const uint8_t *)"message", 7), 1);
    EVP_MD_CTX_free(ctx);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);
    ck_assert_int_eq(BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 48), 48);
    ck_assert_int_eq(BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 48, 48), 48);
    ECDSA_SIG_free(sig);
    return span_of(out, 96);
}

/* One key object serves many points: each check is by the point that it names. */
START_TEST(one_object_many_keys)
{
    static struct party second;
    struct verifier_keys keys = {0};
    uint8_t a[VERIFIER_POINT_MAX + 1], b[VERIFIER_POINT_MAX + 1], off[VERIFIER_POINT_MAX] = {0},
                                                                  rs[VERIFIER_POINT_MAX] = {0};
    struct span message = span_str("message"), point_a = point_of(&leaf, a), point_b, signature = sign(&leaf, rs);
    make(&second, "Second", &root, "P-384");
    point_b = point_of(&second, b);
    for (int i = 0; i < 3; i++) {
        ck_assert(verifier_keys_ecdsa(&keys, VERIFIER_P384, point_a, message, signature));
        ck_assert(!verifier_keys_ecdsa(&keys, VERIFIER_P384, span_of(off, 96), message, signature));
        ck_assert(!verifier_keys_ecdsa(&keys, VERIFIER_P384, point_b, message, signature));
        ck_assert(!verifier_keys_ecdsa(&keys, VERIFIER_P384, span_of(off, 96), message, signature));
    }
    ck_assert(!verifier_keys_ecdsa(&keys, VERIFIER_P256, point_a, message, signature));
    memset(rs, 0, sizeof rs);
    ck_assert(!verifier_keys_ecdsa(&keys, VERIFIER_P384, point_a, message, span_of(rs, 96)));
    memset(rs, 0xff, sizeof rs);
    ck_assert(!verifier_keys_ecdsa(&keys, VERIFIER_P384, point_a, message, span_of(rs, 96)));
    verifier_keys_release(&keys);
    release(&second);
}
END_TEST

/* --- dates --------------------------------------------------------------------------------------------- */

START_TEST(dates)
{
    static const struct {
        const char *text;
        uint64_t want; /* UINT64_MAX: refused */
    } rows[] = {{"700101000000Z", 0},
                {"491231235959Z", 2524607999},
                {"500101000000Z", UINT64_MAX}, /* 1950 */
                {"20000229120000Z", 951825600},
                {"21000228235959Z", 4107542399},
                {"21000229000000Z", UINT64_MAX},
                {"99991231235959Z", 253402300799},
                {"20250131000000Z", 1738281600},
                {"20250431000000Z", UINT64_MAX},
                {"20251301000000Z", UINT64_MAX},
                {"20250100000000Z", UINT64_MAX},
                {"20250101240000Z", UINT64_MAX},
                {"20250101006000Z", UINT64_MAX},
                {"20250101000060Z", UINT64_MAX},
                {"20250101000000z", UINT64_MAX},
                {"2025010100000Z", UINT64_MAX},
                {"2O250101000000Z", UINT64_MAX},
                {"20250101000000.5Z", UINT64_MAX},
                {"2501010000+01Z", UINT64_MAX}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t got = 0;
        bool good = verifier_cert_seconds(span_str(rows[i].text), &got);
        ck_assert_msg(good == (rows[i].want != UINT64_MAX), "%s", rows[i].text);
        ck_assert_msg(!good || got == rows[i].want, "%s is %llu", rows[i].text, (unsigned long long)got);
    }
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_can_change_is_looked_at_again);
    tcase_add_test(t, a_fact_is_used);
    tcase_add_test(t, every_bit_and_the_form_belong_to_the_fact);
    tcase_add_test(t, what_was_refused_is_not_remembered);
    tcase_add_test(t, memory_is_bounded_and_the_oldest_goes);
    tcase_add_test(t, one_object_many_keys);
    tcase_add_test(t, dates);
}

RUN("verifier_cache", add_tests)
