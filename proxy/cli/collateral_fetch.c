/* collateral_fetch.c - `airlock collateral fetch`: ask the vendors' services that a configuration file names. Every
 * answer is bounded in size and time; redirections, other statuses than 200 and contents of another kind are refused;
 * the first failure ends it, and no bundle is written. Runs on an operator's machine, never inside a TEE. */
#include <curl/curl.h>
#include <openssl/ocsp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/cli/collateral.h"
#include "verifier/ocsp.h"

#define URL_MAX 1024
#define URLS_MAX 32
#define DEVICES_MAX 20
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* --- configuration ---------------------------------------------------------------------------------- */

struct sources {
    uint64_t timeout;          /* seconds for one answer */
    char authorities[URL_MAX]; /* PEM file; empty: the system's */
    char crl[URLS_MAX][URL_MAX], rim[VERIFIER_RIMS_MAX][URL_MAX], tcb_info[URL_MAX], qe_identity[URL_MAX];
    char rim_responder[URL_MAX]; /* empty: the standing of the reference files' signers is not asked for */
    size_t crl_count, rim_count, chain_count, device_count;
    struct {
        char leaf[URL_MAX], issuers[URL_MAX];
    } chain[VERIFIER_BUNDLE_CHAINS_MAX];
    struct {
        char certificates[URL_MAX], responder[URL_MAX]; /* a PEM file, a URL */
    } device[DEVICES_MAX];
};

static void parse_lists(struct policy_group *g, struct sources *s)
{
    s->chain_count = policy_group_count(g, "chains", 0, VERIFIER_BUNDLE_CHAINS_MAX);
    for (size_t i = 0; i < s->chain_count; i++) {
        struct policy_group c = policy_group_at(g, "chains", i);
        policy_group_text(&c, "leaf", POLICY_REQUIRED, s->chain[i].leaf, URL_MAX);
        policy_group_text(&c, "issuers", POLICY_REQUIRED, s->chain[i].issuers, URL_MAX);
        policy_group_end(&c);
    }
    s->device_count = policy_group_count(g, "ocsp", 0, DEVICES_MAX);
    for (size_t i = 0; i < s->device_count; i++) {
        struct policy_group d = policy_group_at(g, "ocsp", i);
        policy_group_text(&d, "certificates", POLICY_REQUIRED, s->device[i].certificates, URL_MAX);
        policy_group_text(&d, "responder", POLICY_REQUIRED, s->device[i].responder, URL_MAX);
        policy_group_end(&d);
    }
}

static bool parse_sources(const char *path, struct sources *s)
{
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX);
    struct policy_problem why = {0};
    struct policy_config *config = NULL;
    struct policy_group g;
    char line[512];
    bool good = cli_read(path, &text);

    if (good) {
        config = policy_config_open(writer_span(&text), &why);
        good = config != NULL;
        if (good) {
            g = policy_config_root(config);
            s->timeout = 30;
            policy_group_duration(&g, "timeout", POLICY_OPTIONAL, 1, 600, &s->timeout);
            policy_group_text(&g, "authorities", POLICY_OPTIONAL, s->authorities, URL_MAX);
            policy_group_texts(&g, "crls", POLICY_OPTIONAL, 0, URLS_MAX, s->crl[0], URL_MAX, &s->crl_count);
            policy_group_texts(&g, "rims", POLICY_OPTIONAL, 0, VERIFIER_RIMS_MAX, s->rim[0], URL_MAX, &s->rim_count);
            policy_group_text(&g, "rim_responder", POLICY_OPTIONAL, s->rim_responder, URL_MAX);
            policy_group_text(&g, "tcb_info", POLICY_OPTIONAL, s->tcb_info, URL_MAX);
            policy_group_text(&g, "qe_identity", POLICY_OPTIONAL, s->qe_identity, URL_MAX);
            parse_lists(&g, s);
            policy_group_end(&g);
            good = policy_config_ok(config, &why);
        }
        if (!good) {
            policy_problem_print(&why, path, line, sizeof line);
            cli_fail("%s", line);
        }
    }
    policy_config_close(config);
    writer_release(&text);
    return good;
}

/* --- one answer ------------------------------------------------------------------------------------- */

struct fetcher {
    const struct sources *sources;
    struct collateral *to;
    CURL *curl;
    struct writer body; /* of the last answer */
    bool too_long;
};

static size_t take(char *data, size_t one, size_t len, void *ctx)
{
    struct fetcher *f = ctx;

    (void)one; /* always 1 */
    if (len > f->body.max - f->body.len)
        f->too_long = true;
    else
        writer_bytes(&f->body, span_of(data, len));
    return f->too_long || !writer_ok(&f->body) ? 0 : len;
}

/* The reason of a transfer that failed, as an exit code and a sentence. */
static int fail_of(const struct fetcher *f, CURLcode code, const char **what)
{
    if (f->too_long || code == CURLE_FILESIZE_EXCEEDED) {
        *what = "the answer is longer than any of its kind (256 KiB)";
        return COLLATERAL_TOO_LONG;
    }
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        *what = "no whole answer in time; try again, or raise `timeout`";
        return COLLATERAL_TOO_SLOW;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
        *what = "the answer ended early; try again";
        return COLLATERAL_TORN;
    default:
        *what = curl_easy_strerror(code);
        return COLLATERAL_UNREACHABLE;
    }
}

/* GET, or POST when `post` is not empty; the answer is in f->body. CLI_OK or an exit code after saying why. */
static int get(struct fetcher *f, const char *url, struct span post, const char *type)
{
    struct curl_slist *headers = post.len ? curl_slist_append(NULL, type) : NULL;
    const char *what = NULL;
    long status = 0;
    CURLcode code;
    int rc = CLI_OK;

    writer_reset(&f->body);
    f->too_long = false;
    curl_easy_reset(f->curl);
    curl_easy_setopt(f->curl, CURLOPT_URL, url);
    curl_easy_setopt(f->curl, CURLOPT_PROTOCOLS_STR, "https,http"); /* what is fetched is signed; TLS adds privacy */
    curl_easy_setopt(f->curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(f->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(f->curl, CURLOPT_TIMEOUT_MS, (long)(f->sources->timeout * 1000));
    curl_easy_setopt(f->curl, CURLOPT_MAXFILESIZE, (long)COLLATERAL_ITEM_MAX);
    curl_easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(f->curl, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(f->curl, CURLOPT_USERAGENT, "airlock/" AIRLOCK_VERSION);
    if (f->sources->authorities[0])
        curl_easy_setopt(f->curl, CURLOPT_CAINFO, f->sources->authorities);
    if (post.len) {
        curl_easy_setopt(f->curl, CURLOPT_POSTFIELDS, post.data);
        curl_easy_setopt(f->curl, CURLOPT_POSTFIELDSIZE, (long)post.len);
        curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers);
    }
    code = curl_easy_perform(f->curl);
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) {
        rc = fail_of(f, code, &what);
        cli_fail("collateral: %s: %s", url, what);
    } else if (status != 200) {
        rc = COLLATERAL_STATUS;
        cli_fail("collateral: %s: the service answered with status %ld; check the address", url, status);
    }
    curl_slist_free_all(headers);
    return rc;
}

static int keep(struct fetcher *f, const char *url, enum collateral_kind kind, struct span bytes)
{
    const char *wrong = collateral_add(f->to, kind, bytes);

    if (!wrong)
        return CLI_OK;
    cli_fail("collateral: %s (%s) %s", url, collateral_names[kind], wrong);
    return COLLATERAL_CONTENT;
}

static int fetch_one(struct fetcher *f, const char *url, enum collateral_kind kind)
{
    int rc = get(f, url, span_of(NULL, 0), NULL);

    return rc == CLI_OK ? keep(f, url, kind, writer_span(&f->body)) : rc;
}

/* --- kinds that take more than one question --------------------------------------------------------- */

/* Leaf in DER, its issuers in PEM, from two addresses. */
static int fetch_chain(struct fetcher *f, size_t i)
{
    const char *url = f->sources->chain[i].leaf;
    struct writer both = writer_with_max(COLLATERAL_ITEM_MAX);
    int rc = get(f, url, span_of(NULL, 0), NULL);

    if (rc == CLI_OK) {
        writer_bytes(&both, writer_span(&f->body));
        rc = get(f, f->sources->chain[i].issuers, span_of(NULL, 0), NULL);
    }
    if (rc == CLI_OK) {
        writer_bytes(&both, writer_span(&f->body));
        rc = keep(f, url, COLLATERAL_CHAIN, writer_span(&both));
    }
    writer_release(&both);
    return rc;
}

/* A signed document whose certificates stand in a header, as PEM, percent-encoded. */
static int fetch_document(struct fetcher *f, const char *url, enum collateral_kind kind, const char *const *names)
{
    struct curl_header *header = NULL;
    char *pem = NULL;
    int len = 0, rc = fetch_one(f, url, kind);

    if (rc != CLI_OK)
        return rc;
    for (size_t i = 0; names[i] && !header; i++)
        if (curl_easy_header(f->curl, names[i], 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
            header = NULL;
    if (header)
        pem = curl_easy_unescape(f->curl, header->value, 0, &len);
    if (pem)
        rc = keep(f, url, kind == COLLATERAL_TCB_INFO ? COLLATERAL_TCB_CHAIN : COLLATERAL_QE_CHAIN,
                  span_of(pem, (size_t)len));
    else {
        cli_fail("collateral: %s: the answer has no header with the issuer's chain", url);
        rc = COLLATERAL_CONTENT;
    }
    curl_free(pem);
    return rc;
}

/* A certificate that several chains share is asked about once. */
static bool is_answered(const struct fetcher *f, struct verifier_chain *c, size_t subject)
{
    for (size_t i = 0; i < f->to->count; i++) {
        struct span answer = writer_span(&f->to->item[i].bytes);
        if (f->to->item[i].kind == COLLATERAL_OCSP &&
            verifier_ocsp_check(c, subject, &answer, 1, (uint64_t)time(NULL), NULL) == VERIFIER_OK)
            return true;
    }
    return false;
}

/* One certificate's status: ask, and see that the answer is about it, signed, in time and good. */
static int fetch_status(struct fetcher *f, const char *url, struct verifier_chain *c, size_t subject)
{
    OCSP_REQUEST *request = OCSP_REQUEST_new();
    OCSP_CERTID *id =
        OCSP_cert_to_id(EVP_sha384(), verifier_chain_x509(c, subject), verifier_chain_x509(c, subject + 1));
    unsigned char *der = NULL;
    struct verifier_note why = {0};
    enum verifier_err err;
    struct span answer;
    int len = 0, rc = CLI_FAILED;

    if (is_answered(f, c, subject)) {
        OCSP_CERTID_free(id);
        OCSP_REQUEST_free(request);
        return CLI_OK;
    }
    if (request && id && OCSP_request_add0_id(request, id))
        len = i2d_OCSP_REQUEST(request, &der); /* the id is the request's now */
    else
        OCSP_CERTID_free(id);
    if (len > 0)
        rc = get(f, url, span_of(der, (size_t)len), "Content-Type: application/ocsp-request");
    if (rc == CLI_OK) {
        answer = writer_span(&f->body);
        err = verifier_ocsp_check(c, subject, &answer, 1, (uint64_t)time(NULL), &why);
        if (err == VERIFIER_OK)
            rc = keep(f, url, COLLATERAL_OCSP, answer);
        else {
            cli_fail("collateral: %s: certificate %zu: %s. %s", url, subject, verifier_err_name(err),
                     verifier_err_remedy(err));
            rc = COLLATERAL_CONTENT;
        }
    }
    OPENSSL_free(der);
    OCSP_REQUEST_free(request);
    return rc;
}

/* Certificates `first` to the last but one of a `chain` part. */
static int fetch_statuses(struct fetcher *f, const char *what, const char *url, struct span part, size_t first)
{
    struct verifier_chain c = {0};
    struct verifier_certs certs;
    int rc = CLI_OK;

    if (verifier_certs_parse(&certs, part) != VERIFIER_OK ||
        verifier_chain_open(&c, certs.cert, certs.count, certs.count, NULL) != VERIFIER_OK || c.count < first + 2) {
        cli_fail("collateral: %s does not hold a chain of certificates, leaf first", what);
        rc = COLLATERAL_CONTENT;
    }
    for (size_t k = first; rc == CLI_OK && k + 1 < c.count; k++)
        rc = fetch_status(f, url, &c, k);
    verifier_chain_close(&c);
    return rc;
}

/* A device's chain: every certificate between its leaf, which it signs itself, and its root. */
static int fetch_device(struct fetcher *f, size_t i)
{
    const char *path = f->sources->device[i].certificates;
    struct writer pem = writer_with_max(COLLATERAL_ITEM_MAX);
    struct collateral *read = calloc(1, sizeof *read);
    int rc = CLI_FAILED;

    if (read && cli_read(path, &pem)) {
        bool good = !collateral_add(read, COLLATERAL_CHAIN, writer_span(&pem));
        rc = fetch_statuses(f, path, f->sources->device[i].responder,
                            good ? writer_span(&read->item[0].bytes) : span_of(NULL, 0), 1);
    }
    if (read)
        collateral_release(read);
    free(read);
    writer_release(&pem);
    return rc;
}

/* A reference file, then the standing of its signer and of the authorities above. */
static int fetch_rim(struct fetcher *f, const char *url)
{
    struct writer chain = writer_with_max(VERIFIER_CHAIN_BYTES_MAX);
    int rc = fetch_one(f, url, COLLATERAL_RIM);

    if (rc == CLI_OK && f->sources->rim_responder[0]) {
        bool good = collateral_rim_chain(writer_span(&f->to->item[f->to->count - 1].bytes), &chain);
        rc = fetch_statuses(f, url, f->sources->rim_responder, good ? writer_span(&chain) : span_of(NULL, 0), 0);
    }
    writer_release(&chain);
    return rc;
}

/* --- all -------------------------------------------------------------------------------------------- */

static int fetch_all(struct fetcher *f)
{
    static const char *const tcb_headers[] = {"TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain", NULL};
    static const char *const qe_headers[] = {"SGX-Enclave-Identity-Issuer-Chain", "Enclave-Identity-Issuer-Chain",
                                             NULL};
    const struct sources *s = f->sources;
    int rc = CLI_OK;

    for (size_t i = 0; rc == CLI_OK && i < s->chain_count; i++)
        rc = fetch_chain(f, i);
    for (size_t i = 0; rc == CLI_OK && i < s->crl_count; i++)
        rc = fetch_one(f, s->crl[i], COLLATERAL_CRL);
    if (rc == CLI_OK && s->tcb_info[0])
        rc = fetch_document(f, s->tcb_info, COLLATERAL_TCB_INFO, tcb_headers);
    if (rc == CLI_OK && s->qe_identity[0])
        rc = fetch_document(f, s->qe_identity, COLLATERAL_QE_IDENTITY, qe_headers);
    for (size_t i = 0; rc == CLI_OK && i < s->rim_count; i++)
        rc = fetch_rim(f, s->rim[i]);
    for (size_t i = 0; rc == CLI_OK && i < s->device_count; i++)
        rc = fetch_device(f, i);
    return rc;
}

int collateral_fetch(const char *config, const char *out)
{
    struct sources *s = calloc(1, sizeof *s);
    struct collateral *c = calloc(1, sizeof *c);
    struct fetcher f = {.sources = s, .to = c, .body = writer_with_max(COLLATERAL_ITEM_MAX)};
    int rc = CLI_FAILED;

    curl_global_init(CURL_GLOBAL_DEFAULT);
    f.curl = curl_easy_init();
    if (s && c && f.curl && parse_sources(config, s))
        rc = fetch_all(&f);
    if (rc == CLI_OK && !collateral_write(c, out))
        rc = CLI_FAILED;
    curl_easy_cleanup(f.curl);
    curl_global_cleanup();
    writer_release(&f.body);
    if (c)
        collateral_release(c);
    free(c);
    free(s);
    return rc;
}
