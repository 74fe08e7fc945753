/* The simulation: SEV-SNP reports in the real format, signed by this build folder's demo chips. The measurement covers
 * the zone's executables (measure.h), so a rebuilt program is another one to every policy. Whoever verifies sees
 * "simulated" from the root that these chips end in, never from a field. */
#include "tunnel/attest/simulated/producer.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "simulated_keys.h"
#include "tunnel/attest/measure.h"
#include "tunnel/attest/producer.h"
#include "tunnel/attest/simulated/chip.h"
#include "verifier/envelope.h"

struct simulated {
    enum verifier_role role;
    uint8_t measurement[ATTESTER_MEASUREMENT_LEN];
    uint8_t report_id[32];
    EVP_PKEY *key;
};

void attester_simulated_chip(enum verifier_role role, uint8_t out[64])
{
    memcpy(out, role == VERIFIER_PROXY ? simulated_proxy_chip_id : simulated_engine_chip_id, 64);
}

/* --- the chip's key ------------------------------------------------------------------------------ */

static EVP_PKEY *key_of(const uint8_t scalar[48], struct span cert)
{
    const unsigned char *p = cert.data;
    X509 *x = d2i_X509(NULL, &p, (long)cert.len);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *d = BN_bin2bn(scalar, 48, NULL);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = NULL;
    uint8_t *point = NULL;
    size_t len = x ? EVP_PKEY_get1_encoded_public_key(X509_get0_pubkey(x), &point) : 0;

    if (len > 0 && build && d && ctx &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-384", 0) &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, len) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, d) && (params = OSSL_PARAM_BLD_to_param(build)) &&
        EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params) != 1)
        key = NULL;
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    OPENSSL_free(point);
    BN_clear_free(d);
    EVP_PKEY_CTX_free(ctx);
    X509_free(x);
    return key;
}

/* --- the report (AMD 56860, ATTESTATION_REPORT) --------------------------------------------------- */

static void put_le(uint8_t *at, uint64_t v, size_t len)
{
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)(v >> 8 * i);
}

static void put_tcb(uint8_t *at)
{
    at[0] = SIMULATED_BOOTLOADER;
    at[1] = SIMULATED_TEE;
    at[6] = SIMULATED_SNP;
    at[7] = SIMULATED_MICROCODE;
}

static void fill_report(const struct simulated *s, const uint8_t report_data[64], uint8_t r[VERIFIER_SNP_LEN])
{
    memset(r, 0, VERIFIER_SNP_LEN);
    put_le(r, 3, 4); /* version */
    put_le(r + 0x08, VERIFIER_SNP_POLICY_ONE | VERIFIER_SNP_POLICY_SMT, 8);
    put_le(r + 0x34, 1, 4); /* ECDSA P-384 with SHA-384 */
    put_tcb(r + 0x38);      /* current */
    put_le(r + 0x40, VERIFIER_SNP_INFO_SMT | VERIFIER_SNP_INFO_ECC | VERIFIER_SNP_INFO_ALIAS_CHECK, 8);
    memcpy(r + 0x50, report_data, 64);
    memcpy(r + 0x90, s->measurement, sizeof s->measurement);
    memcpy(r + 0x140, s->report_id, sizeof s->report_id);
    memset(r + 0x160, 0xff, 32); /* no migration agent */
    put_tcb(r + 0x180);          /* reported */
    r[0x188] = SIMULATED_FAMILY;
    r[0x189] = SIMULATED_MODEL;
    r[0x18a] = SIMULATED_STEPPING;
    attester_simulated_chip(s->role, r + 0x1a0);
    put_tcb(r + 0x1e0); /* committed */
    put_le(r + 0x1e8, 40 | 55 << 8 | 1 << 16, 4);
    put_le(r + 0x1ec, 40 | 55 << 8 | 1 << 16, 4);
    put_tcb(r + 0x1f0); /* launch */
}

/* A number of 48 bytes as the report has it: little-endian in 72 bytes. */
static bool put_number(uint8_t *at, const BIGNUM *n)
{
    return BN_bn2lebinpad(n, at, 48) == 48;
}

static bool sign_report(const struct simulated *s, uint8_t r[VERIFIER_SNP_LEN])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[160];
    const unsigned char *p = der;
    size_t len = sizeof der;
    ECDSA_SIG *sig = NULL;
    bool good = false;

    if (ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, s->key) == 1 &&
        EVP_DigestSign(ctx, der, &len, r, VERIFIER_SNP_SIGNED) == 1 &&
        (sig = d2i_ECDSA_SIG(NULL, &p, (long)len)) != NULL)
        good = put_number(r + 0x2a0, ECDSA_SIG_get0_r(sig)) && put_number(r + 0x2e8, ECDSA_SIG_get0_s(sig));
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    return good;
}

/* --- producer ------------------------------------------------------------------------------------- */

/* The zone's programs beside this one, unless the caller (a test) names files. */
static bool measure(const struct attester_producer_config *config, uint8_t out[ATTESTER_MEASUREMENT_LEN])
{
    char folder[PATH_MAX];
    ssize_t len;
    char *slash;

    if (config->names)
        return attester_measure(config->names, config->paths, config->count, out);
    len = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (len <= 0)
        return false;
    folder[len] = '\0';
    slash = strrchr(folder, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return attester_measure_zone(config->role, folder, out);
}

static void simulated_close(void *ctx)
{
    struct simulated *s = ctx;

    EVP_PKEY_free(s->key);
    free(s);
}

static void *simulated_open(const struct attester_producer_config *config, char why[256])
{
    struct simulated *s = calloc(1, sizeof *s);
    bool proxy = config->role == VERIFIER_PROXY;

    if (!s) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    s->role = config->role;
    s->key = proxy ? key_of(simulated_proxy_key, span_of(simulated_proxy_vcek, sizeof simulated_proxy_vcek))
                   : key_of(simulated_engine_key, span_of(simulated_engine_vcek, sizeof simulated_engine_vcek));
    if (!s->key || getentropy(s->report_id, sizeof s->report_id) != 0) {
        snprintf(why, 256, "the simulated chip has no key: build again in a fresh folder");
    } else if (!measure(config, s->measurement)) {
        snprintf(why, 256, "cannot measure this zone's programs: they must stand in one folder and be readable");
    } else {
        return s;
    }
    simulated_close(s);
    return NULL;
}

static enum verifier_tee simulated_tee(void *ctx)
{
    (void)ctx;
    return VERIFIER_TEE_SNP;
}

static int simulated_quote(void *ctx, const uint8_t report_data[64], struct writer *quote, struct writer *chain,
                           struct writer *collateral)
{
    const struct simulated *s = ctx;
    uint8_t report[VERIFIER_SNP_LEN];
    const struct verifier_certs certs = {
        .count = 3,
        .cert = {s->role == VERIFIER_PROXY ? span_of(simulated_proxy_vcek, sizeof simulated_proxy_vcek)
                                           : span_of(simulated_engine_vcek, sizeof simulated_engine_vcek),
                 span_of(simulated_ask, sizeof simulated_ask), span_of(simulated_ark, sizeof simulated_ark)}};
    const struct verifier_collateral signed_facts = {.crls = {span_of(simulated_crl, sizeof simulated_crl)},
                                                     .crl_count = 1};

    fill_report(s, report_data, report);
    if (!sign_report(s, report))
        return -1;
    writer_bytes(quote, span_of(report, sizeof report));
    verifier_certs_encode(chain, &certs);
    verifier_collateral_encode(collateral, &signed_facts);
    return writer_ok(quote) && writer_ok(chain) && writer_ok(collateral) ? 0 : -1;
}

static size_t simulated_paths(void *ctx, struct sandbox_path *out, size_t max)
{
    (void)ctx;
    (void)out;
    (void)max;
    return 0;
}

const struct attester_producer *attester_producer(void)
{
    static const struct attester_producer simulated = {.name = "simulated",
                                                       .open = simulated_open,
                                                       .tee = simulated_tee,
                                                       .quote = simulated_quote,
                                                       .paths = simulated_paths,
                                                       .close = simulated_close};

    return &simulated;
}
