/* Is a certificate's status believed only from who may say it, about that very certificate, and while it holds? */
#include "verifier/ocsp.h"

#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "unit/run.h"
#include "verifier/gpu.h"

#define NOW 1800000000
#define DAY 86400
#define ANSWER_MAX 4096

struct party {
    EVP_PKEY *key;
    X509 *cert;
};
static struct party issuer, other, subject, stranger, delegate, no_purpose, foreign_delegate, old_delegate;

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    ck_assert_ptr_nonnull(e);
    ck_assert_int_eq(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* A certificate of a fresh P-384 key, signed by `by` (NULL: itself), for a year around NOW. */
static struct party make(const char *name, const struct party *by, long serial, const char *usage, const char *purpose)
{
    struct party p = {EVP_EC_gen("P-384"), X509_new()};
    X509_NAME *n = X509_get_subject_name(p.cert);
    X509_set_version(p.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial);
    ASN1_TIME_set(X509_getm_notBefore(p.cert), NOW - 180 * DAY);
    ASN1_TIME_set(X509_getm_notAfter(p.cert), NOW + 180 * DAY);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(p.cert, by ? X509_get_subject_name(by->cert) : n);
    X509_set_pubkey(p.cert, p.key);
    if (usage)
        add_extension(p.cert, NID_key_usage, usage);
    if (purpose)
        add_extension(p.cert, NID_ext_key_usage, purpose);
    if (usage && strstr(usage, "keyCertSign"))
        add_extension(p.cert, NID_basic_constraints, "critical,CA:TRUE");
    ck_assert_int_gt(X509_sign(p.cert, by ? by->key : p.key, EVP_sha384()), 0);
    return p;
}

static void setup(void)
{
    issuer = make("Identity CA", NULL, 1, "critical,keyCertSign", NULL);
    other = make("Other CA", NULL, 2, "critical,keyCertSign", NULL);
    subject = make("Device", &issuer, 300, "critical,keyCertSign", NULL);
    stranger = make("Another device", &issuer, 301, "critical,keyCertSign", NULL);
    delegate = make("Responder", &issuer, 400, "critical,digitalSignature", "critical,OCSPSigning");
    no_purpose = make("Not a responder", &issuer, 401, "critical,digitalSignature", "clientAuth");
    foreign_delegate = make("Responder", &other, 402, "critical,digitalSignature", "OCSPSigning");
    old_delegate = make("Old responder", &issuer, 403, "critical,digitalSignature", "OCSPSigning");
    ASN1_TIME_set(X509_getm_notAfter(old_delegate.cert), NOW - DAY);
    X509_sign(old_delegate.cert, issuer.key, EVP_sha384());
}

/* What a responder answers. */
struct says {
    const struct party *about, *of, *signer; /* certificate, its issuer, who signs */
    int status, reason;
    long from, to; /* from NOW on, seconds; to 0: no nextUpdate */
};

static size_t write_response(int status, OCSP_BASICRESP *basic, uint8_t out[ANSWER_MAX])
{
    OCSP_RESPONSE *response = OCSP_response_create(status, basic);
    unsigned char *p = out;
    int len = i2d_OCSP_RESPONSE(response, NULL);
    ck_assert(len > 0 && len <= ANSWER_MAX);
    i2d_OCSP_RESPONSE(response, &p);
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    return (size_t)len;
}

static void add_single(OCSP_BASICRESP *basic, const struct says *s)
{
    ASN1_TIME *from = ASN1_TIME_adj(NULL, NOW, 0, s->from), *to = s->to ? ASN1_TIME_adj(NULL, NOW, 0, s->to) : NULL;
    ASN1_TIME *revoked = s->status == V_OCSP_CERTSTATUS_REVOKED ? ASN1_TIME_adj(NULL, NOW, -1, 0) : NULL;
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha256(), s->about->cert, s->of->cert);
    ck_assert_ptr_nonnull(OCSP_basic_add1_status(basic, id, s->status, s->reason, revoked, from, to));
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    ASN1_TIME_free(revoked);
}

static size_t answer(const struct says *s, uint8_t out[ANSWER_MAX])
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    add_single(basic, s);
    ck_assert_int_eq(OCSP_basic_sign(basic, s->signer->cert, s->signer->key, EVP_sha384(), NULL, 0), 1);
    return write_response(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic, out);
}

static void open_chain(struct verifier_chain *c, const struct party *const *parties, size_t n)
{
    uint8_t der[VERIFIER_CERTS_MAX][2048], *p;
    struct span spans[VERIFIER_CERTS_MAX];
    for (size_t i = 0; i < n; i++) {
        p = der[i];
        spans[i] = span_of(der[i], (size_t)i2d_X509(parties[i]->cert, &p));
    }
    ck_assert_int_eq(verifier_chain_open(c, spans, n, n, NULL), VERIFIER_OK);
}

static enum verifier_err ask(const struct span *responses, size_t n, struct verifier_chain *c)
{
    const struct party *const both[] = {&subject, &issuer};
    static struct verifier_cache *cache; /* of all that was asked before: a fact known must not change an answer */
    struct verifier_chain warm;
    enum verifier_err err;
    open_chain(c, both, 2);
    err = verifier_ocsp_check(c, 0, responses, n, NOW, NULL);
    verifier_chain_close(c);
    if (!cache)
        cache = verifier_cache_new(1u << 16);
    for (int i = 0; i < 2; i++) {
        open_chain(&warm, both, 2);
        verifier_chain_use(&warm, cache);
        ck_assert_int_eq(verifier_ocsp_check(&warm, 0, responses, n, NOW, NULL), err);
        ck_assert(warm.expires == c->expires && warm.issued == c->issued);
        verifier_chain_close(&warm);
    }
    return err;
}

/* What a known response says is held against the clock again, and so is its delegate's certificate. */
START_TEST(a_known_response_grows_old)
{
    const struct party *const both[] = {&subject, &issuer};
    struct verifier_cache *cache = verifier_cache_new(0);
    struct says longest = {&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, 300 * DAY};
    uint8_t der[ANSWER_MAX];
    struct span one = span_of(der, answer(&longest, der));
    const struct {
        uint64_t now;
        enum verifier_err want;
    } rows[] = {{NOW, VERIFIER_OK},
                {NOW - 2 * DAY, VERIFIER_E_OCSP_NOT_YET_VALID},
                {NOW + 200 * DAY, VERIFIER_E_CERT_EXPIRED}, /* the delegate's */
                {NOW - 200 * DAY, VERIFIER_E_CERT_NOT_YET_VALID},
                {NOW, VERIFIER_OK}};
    size_t count;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct verifier_chain c;
        open_chain(&c, both, 2);
        verifier_chain_use(&c, cache);
        ck_assert_int_eq(verifier_ocsp_check(&c, 0, &one, 1, rows[i].now, NULL), rows[i].want);
        verifier_chain_close(&c);
        (void)verifier_cache_size(cache, &count);
        ck_assert_uint_eq(count, 1);
    }
    verifier_cache_free(cache);
}
END_TEST

static enum verifier_err ask_one(struct says s)
{
    struct verifier_chain c;
    uint8_t der[ANSWER_MAX];
    struct span one = span_of(der, answer(&s, der));
    return ask(&one, 1, &c);
}

static const struct says good = {&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY};

START_TEST(good_answers_by_delegate_and_issuer)
{
    struct verifier_chain c;
    uint8_t der[ANSWER_MAX];
    struct span one = span_of(der, answer(&good, der));
    struct says direct = good;
    ck_assert_int_eq(ask(&one, 1, &c), VERIFIER_OK);
    ck_assert_uint_eq(c.expires, NOW + DAY);
    ck_assert_uint_eq(c.issued, NOW - DAY);
    direct.signer = &issuer;
    ck_assert_int_eq(ask_one(direct), VERIFIER_OK);
}
END_TEST

START_TEST(each_reason_has_its_code)
{
    const struct {
        struct says says;
        enum verifier_err want;
    } rows[] = {
        {{&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_REVOKED, OCSP_REVOKED_STATUS_KEYCOMPROMISE, -DAY, DAY},
         VERIFIER_E_CERT_REVOKED},
        {{&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_REVOKED, OCSP_REVOKED_STATUS_CERTIFICATEHOLD, -DAY, DAY},
         VERIFIER_E_OCSP_HOLD},
        {{&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_UNKNOWN, 0, -DAY, DAY}, VERIFIER_E_OCSP_UNKNOWN},
        {{&stranger, &issuer, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_OCSP_MISMATCH},
        {{&subject, &other, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_OCSP_MISMATCH},
        {{&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, -2 * DAY, -1}, VERIFIER_E_OCSP_EXPIRED},
        {{&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, 1, DAY}, VERIFIER_E_OCSP_NOT_YET_VALID},
        {{&subject, &issuer, &delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, 0}, VERIFIER_E_OCSP_PARSE},
        {{&subject, &issuer, &no_purpose, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_OCSP_DELEGATE},
        {{&subject, &issuer, &subject, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_OCSP_DELEGATE},
        {{&subject, &issuer, &foreign_delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_OCSP_ISSUER},
        {{&subject, &issuer, &other, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_OCSP_ISSUER},
        {{&subject, &issuer, &old_delegate, V_OCSP_CERTSTATUS_GOOD, 0, -DAY, DAY}, VERIFIER_E_CERT_EXPIRED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(ask_one(rows[i].says) == rows[i].want, "row %zu is not %s", i, verifier_err_name(rows[i].want));
}
END_TEST

START_TEST(damaged_answers)
{
    struct verifier_chain c;
    uint8_t der[ANSWER_MAX], changed[ANSWER_MAX + 1];
    size_t len = answer(&good, der);
    struct span one = span_of(changed, len);
    for (size_t i = 0; i < len; i++) { /* a changed byte never moves the dates */
        memcpy(changed, der, len);
        changed[i] ^= 0x01;
        ck_assert(ask(&one, 1, &c) != VERIFIER_OK || (c.expires == NOW + DAY && c.issued == NOW - DAY));
    }
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    add_single(basic, &good);
    EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, delegate.key);
    ck_assert_int_eq(OCSP_basic_sign_ctx(basic, delegate.cert, ctx, NULL, 0), 1);
    ASN1_OCTET_STRING *signature = (ASN1_OCTET_STRING *)OCSP_resp_get0_signature(basic);
    signature->data[signature->length - 1] ^= 1;
    EVP_MD_CTX_free(ctx);
    one = span_of(changed, write_response(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic, changed));
    ck_assert_int_eq(ask(&one, 1, &c), VERIFIER_E_OCSP_SIGNATURE);
    memcpy(changed, der, len);
    changed[len] = 0;
    one = span_of(changed, len + 1);
    ck_assert_int_eq(ask(&one, 1, &c), VERIFIER_E_OCSP_PARSE);
    one = span_of(changed, len - 1);
    ck_assert_int_eq(ask(&one, 1, &c), VERIFIER_E_OCSP_PARSE);
    ck_assert_int_eq(ask(NULL, 0, &c), VERIFIER_E_OCSP_MISSING);
    one = span_of(changed, write_response(OCSP_RESPONSE_STATUS_TRYLATER, NULL, changed));
    ck_assert_int_eq(ask(&one, 1, &c), VERIFIER_E_OCSP_STATUS);
}
END_TEST

START_TEST(two_answers_in_one_response)
{
    struct verifier_chain c;
    uint8_t der[ANSWER_MAX];
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    struct says second = good;
    second.about = &stranger;
    add_single(basic, &good);
    add_single(basic, &second);
    ck_assert_int_eq(OCSP_basic_sign(basic, delegate.cert, delegate.key, EVP_sha384(), NULL, 0), 1);
    struct span one = span_of(der, write_response(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic, der));
    ck_assert_int_eq(ask(&one, 1, &c), VERIFIER_E_OCSP_PARSE);
}
END_TEST

/* A good answer beside a bad one does not outweigh it, in either order; answers about others do no harm. */
START_TEST(every_answer_counts)
{
    struct verifier_chain c;
    struct says revoked = good, elsewhere = good;
    uint8_t a[ANSWER_MAX], b[ANSWER_MAX], e[ANSWER_MAX];
    revoked.status = V_OCSP_CERTSTATUS_REVOKED;
    elsewhere.about = &stranger;
    struct span yes = span_of(a, answer(&good, a)), no = span_of(b, answer(&revoked, b)),
                far = span_of(e, answer(&elsewhere, e));
    const struct span first[] = {yes, no}, last[] = {no, yes}, mixed[] = {far, yes};
    ck_assert_int_eq(ask(first, 2, &c), VERIFIER_E_CERT_REVOKED);
    ck_assert_int_eq(ask(last, 2, &c), VERIFIER_E_CERT_REVOKED);
    ck_assert_int_eq(ask(mixed, 2, &c), VERIFIER_OK);
    const struct span most[] = {yes, yes, far, yes, yes}, more[] = {yes, yes, yes, yes, yes};
    ck_assert_int_eq(ask(most, 5, &c), VERIFIER_OK);
    ck_assert_int_eq(ask(more, 5, &c), VERIFIER_E_OCSP_PARSE);
}
END_TEST

/* A device's chain: every certificate above the leaf has to be answered for; the leaf is the device's own. */
START_TEST(a_device_needs_three_answers)
{
    struct party chain[5];
    uint8_t cert[5][2048], der[3][ANSWER_MAX], *p;
    struct span certs[5], answers[3];
    struct verifier_gpu gpu = {.expires = UINT64_MAX};
    for (int i = 4; i >= 0; i--) {
        char name[16];
        snprintf(name, sizeof name, "level %d", i);
        chain[i] = make(name, i == 4 ? NULL : &chain[i + 1], 500 + i, "critical,keyCertSign", NULL);
        p = cert[i];
        certs[i] = span_of(cert[i], (size_t)i2d_X509(chain[i].cert, &p));
    }
    for (int i = 0; i < 3; i++) {
        struct says s = {&chain[i + 1], &chain[i + 2], &chain[i + 2], V_OCSP_CERTSTATUS_GOOD, 0, -DAY, (i + 1) * DAY};
        answers[i] = span_of(der[i], answer(&s, der[i]));
    }
    ck_assert_int_eq(verifier_gpu_status(&gpu, certs, 5, answers, 3, NULL, NOW, NULL), VERIFIER_OK);
    ck_assert(gpu.status_good && gpu.status_at == NOW - DAY && gpu.expires == NOW + DAY);
    ck_assert_int_eq(verifier_gpu_status(&gpu, certs, 5, answers, 2, NULL, NOW, NULL), VERIFIER_OK);
    ck_assert(!gpu.status_good);
    ck_assert_int_eq(verifier_gpu_status(&gpu, certs, 5, NULL, 0, NULL, NOW, NULL), VERIFIER_OK);
    ck_assert(!gpu.status_good && gpu.status_at == UINT64_MAX);
    ck_assert_int_eq(verifier_gpu_status(&gpu, certs, 5, answers, 3, NULL, NOW + 2 * DAY, NULL),
                     VERIFIER_E_OCSP_EXPIRED);
    ck_assert(!gpu.status_good);
    for (int i = 0; i < 5; i++) {
        EVP_PKEY_free(chain[i].key);
        X509_free(chain[i].cert);
    }
}
END_TEST

/* A reference file: its signer and the two above it. */
START_TEST(a_reference_file_needs_three_answers)
{
    static struct verifier_rim rim;
    struct party chain[4];
    uint8_t der[3][ANSWER_MAX], revoked[ANSWER_MAX], *p;
    struct span answers[3];
    struct says s = {.status = V_OCSP_CERTSTATUS_GOOD, .from = -DAY};
    rim.expires = UINT64_MAX;
    for (int i = 3; i >= 0; i--) {
        char name[16];
        snprintf(name, sizeof name, "rim level %d", i);
        chain[i] = make(name, i == 3 ? NULL : &chain[i + 1], 600 + i, "critical,keyCertSign", NULL);
        p = rim.cert[i];
        rim.cert_len[i] = (uint16_t)i2d_X509(chain[i].cert, &p);
    }
    for (int i = 0; i < 3; i++) {
        s.about = &chain[i];
        s.of = s.signer = &chain[i + 1];
        s.to = (i + 1) * DAY;
        answers[i] = span_of(der[i], answer(&s, der[i]));
    }
    ck_assert_int_eq(verifier_rim_status(&rim, answers, 3, NULL, NOW, NULL), VERIFIER_OK);
    ck_assert(rim.status_good && rim.status_at == NOW - DAY && rim.expires == NOW + DAY);
    ck_assert_int_eq(verifier_rim_status(&rim, answers + 1, 2, NULL, NOW, NULL), VERIFIER_OK);
    ck_assert(!rim.status_good);
    ck_assert_int_eq(verifier_rim_status(&rim, NULL, 0, NULL, NOW, NULL), VERIFIER_OK);
    ck_assert(!rim.status_good && rim.status_at == UINT64_MAX);
    ck_assert_int_eq(verifier_rim_status(&rim, answers, 3, NULL, NOW + 2 * DAY, NULL), VERIFIER_E_OCSP_EXPIRED);
    ck_assert(!rim.status_good);
    s.about = &chain[0];
    s.of = s.signer = &chain[1];
    s.status = V_OCSP_CERTSTATUS_REVOKED;
    answers[0] = span_of(revoked, answer(&s, revoked));
    ck_assert_int_eq(verifier_rim_status(&rim, answers, 3, NULL, NOW, NULL), VERIFIER_E_RIM_CERT_REVOKED);
    ck_assert(!rim.status_good);
    s.status = V_OCSP_CERTSTATUS_UNKNOWN;
    answers[0] = span_of(revoked, answer(&s, revoked));
    ck_assert_int_eq(verifier_rim_status(&rim, answers, 3, NULL, NOW, NULL), VERIFIER_E_OCSP_UNKNOWN);
    for (int i = 0; i < 4; i++) {
        EVP_PKEY_free(chain[i].key);
        X509_free(chain[i].cert);
    }
}
END_TEST

static void add(TCase *t)
{
    tcase_add_unchecked_fixture(t, setup, NULL);
    tcase_add_test(t, good_answers_by_delegate_and_issuer);
    tcase_add_test(t, a_known_response_grows_old);
    tcase_add_test(t, each_reason_has_its_code);
    tcase_add_test(t, damaged_answers);
    tcase_add_test(t, two_answers_in_one_response);
    tcase_add_test(t, every_answer_counts);
    tcase_add_test(t, a_device_needs_three_answers);
    tcase_add_test(t, a_reference_file_needs_three_answers);
}
RUN("verifier/ocsp", add)
