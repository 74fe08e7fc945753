#include "verifier/signature.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

/* The public key of an uncompressed point; NULL when it is not on the curve. */
static EVP_PKEY *key_of(enum verifier_curve curve, struct span point)
{
    char *group = curve == VERIFIER_P256 ? "P-256" : "P-384";
    uint8_t encoded[1 + VERIFIER_POINT_MAX] = {0x04};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;

    memcpy(encoded + 1, point.data, point.len);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                           OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, encoded, 1 + point.len),
                           OSSL_PARAM_construct_end()};
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* r and s as DER; the length, or 0. `*out` is freed with OPENSSL_free. */
static int der_of(struct span rs, uint8_t **out)
{
    int half = (int)(rs.len / 2), len = 0;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(rs.data, half, NULL), *s = BN_bin2bn(rs.data + half, half, NULL);

    *out = NULL;
    if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; /* the signature owns them now */
        len = i2d_ECDSA_SIG(sig, out);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return len > 0 ? len : 0;
}

bool verifier_ecdsa_check(enum verifier_curve curve, struct span point, struct span message, struct span rs)
{
    size_t n = verifier_curve_len(curve);
    bool good = false;
    EVP_PKEY *key = NULL;
    EVP_MD_CTX *ctx = NULL;
    uint8_t *der = NULL;
    int der_len;

    if (point.len != 2 * n || rs.len != 2 * n)
        return false;
    key = key_of(curve, point);
    ctx = EVP_MD_CTX_new();
    der_len = der_of(rs, &der);
    if (key && ctx && der_len > 0 &&
        EVP_DigestVerifyInit(ctx, NULL, curve == VERIFIER_P256 ? EVP_sha256() : EVP_sha384(), NULL, key) == 1)
        good = EVP_DigestVerify(ctx, der, (size_t)der_len, message.data, message.len) == 1;
    OPENSSL_free(der);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return good;
}
