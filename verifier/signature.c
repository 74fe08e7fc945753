#include "verifier/signature.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "verifier/sha.h"

/* --- keys ----------------------------------------------------------------------------------------- */

static EVP_PKEY *key_of_params(const char *kind, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
    EVP_PKEY *key = NULL;

    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* The key object of this curve, set to this point; borrowed. NULL when the point is not on the curve. */
static EVP_PKEY *key_of_point(struct verifier_keys *keys, enum verifier_curve curve, struct span point)
{
    char *group = curve == VERIFIER_P256 ? "P-256" : "P-384";
    uint8_t encoded[1 + VERIFIER_POINT_MAX] = {0x04}; /* uncompressed */
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                           OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, encoded, 1 + point.len),
                           OSSL_PARAM_construct_end()};

    memcpy(encoded + 1, point.data, point.len);
    if (!keys->curve[curve])
        return keys->curve[curve] = key_of_params("EC", params);
    return EVP_PKEY_set1_encoded_public_key(keys->curve[curve], encoded, 1 + point.len) == 1 ? keys->curve[curve]
                                                                                             : NULL;
}

/* An RSA key; EVP_PKEY_free() it. */
static EVP_PKEY *key_of_modulus(const struct verifier_public *key)
{
    uint8_t native[512]; /* OSSL_PARAM wants the processor's order of bytes: little-endian */
    uint32_t exponent = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, native, key->modulus.len),
                           OSSL_PARAM_construct_uint32(OSSL_PKEY_PARAM_RSA_E, &exponent), OSSL_PARAM_construct_end()};

    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "OSSL_PARAM's integers");
    if (key->modulus.len > sizeof native)
        return NULL;
    for (size_t i = 0; i < key->exponent.len; i++)
        exponent = exponent << 8 | key->exponent.data[i];
    for (size_t i = 0; i < key->modulus.len; i++)
        native[i] = key->modulus.data[key->modulus.len - 1 - i];
    return key_of_params("RSA", params);
}

void verifier_keys_release(struct verifier_keys *keys)
{
    for (size_t i = 0; i < VERIFIER_CURVES; i++)
        EVP_PKEY_free(keys->curve[i]);
    *keys = (struct verifier_keys){0};
}

/* --- signatures ------------------------------------------------------------------------------------ */

static bool set_padding(EVP_PKEY_CTX *ctx, enum verifier_chain_form form, const EVP_MD *hash)
{
    if (form == VERIFIER_FORM_RSA_PSS_SHA384)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
               EVP_PKEY_CTX_set_signature_md(ctx, hash) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, hash) == 1 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, 48) == 1;
    if (form == VERIFIER_FORM_RSA_SHA256)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
               EVP_PKEY_CTX_set_signature_md(ctx, hash) == 1;
    return true;
}

/* OpenSSL queues errors per thread; what a stranger's bytes caused must not surface elsewhere. Was it memory? */
static bool take_errors(void)
{
    bool memory = false;
    unsigned long error;

    while ((error = ERR_get_error()) != 0)
        memory = memory || ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE;
    return memory;
}

static bool holds(struct verifier_keys *keys, EVP_PKEY *key, enum verifier_chain_form form, struct span message,
                  struct span signature)
{
    bool long_hash = form == VERIFIER_FORM_RSA_PSS_SHA384 || form == VERIFIER_FORM_ECDSA_SHA384;
    const EVP_MD *hash = long_hash ? EVP_sha384() : EVP_sha256();
    EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    uint8_t digest[48];
    bool good;

    if (long_hash)
        verifier_sha384(digest, message);
    else
        verifier_sha256(digest, message);
    good = ctx && EVP_PKEY_verify_init(ctx) == 1 && set_padding(ctx, form, hash) &&
           EVP_PKEY_verify(ctx, signature.data, signature.len, digest, long_hash ? 48 : 32) == 1;

    EVP_PKEY_CTX_free(ctx);
    if (take_errors() && !good)
        keys->starved = true;
    return good;
}

/* One number of a signature as a DER INTEGER behind `out`; its end. */
static uint8_t *put_integer(uint8_t *out, struct span number)
{
    while (number.len > 1 && number.data[0] == 0)
        number = span_of(number.data + 1, number.len - 1);
    bool pad = number.data[0] >= 0x80;
    *out++ = 0x02;
    *out++ = (uint8_t)(number.len + pad);
    if (pad)
        *out++ = 0;
    memcpy(out, number.data, number.len);
    return out + number.len;
}

bool verifier_keys_ecdsa(struct verifier_keys *keys, enum verifier_curve curve, struct span point, struct span message,
                         struct span rs)
{
    size_t n = verifier_curve_len(curve);
    uint8_t der[2 + 2 * (3 + VERIFIER_POINT_MAX / 2)] = {0x30}, *end;

    if (point.len != 2 * n || rs.len != 2 * n)
        return false;
    end = put_integer(der + 2, span_of(rs.data, n));
    end = put_integer(end, span_of(rs.data + n, n));
    der[1] = (uint8_t)(end - der - 2); /* at most 102 */
    return holds(keys, key_of_point(keys, curve, point),
                 curve == VERIFIER_P256 ? VERIFIER_FORM_ECDSA_SHA256 : VERIFIER_FORM_ECDSA_SHA384, message,
                 span_of(der, (size_t)(end - der)));
}

bool verifier_keys_signed(struct verifier_keys *keys, const struct verifier_public *key, enum verifier_chain_form form,
                          struct span message, struct span signature)
{
    bool rsa = form == VERIFIER_FORM_RSA_PSS_SHA384 || form == VERIFIER_FORM_RSA_SHA256, good;
    EVP_PKEY *made;

    if (key->kind == VERIFIER_KEY_OTHER || rsa != (key->kind == VERIFIER_KEY_RSA))
        return false;
    if (form == VERIFIER_FORM_ECDSA_SHA256_RAW)
        return key->kind == VERIFIER_KEY_P256 &&
               verifier_keys_ecdsa(keys, VERIFIER_P256, key->point, message, signature);
    if (!rsa)
        return holds(keys,
                     key_of_point(keys, key->kind == VERIFIER_KEY_P256 ? VERIFIER_P256 : VERIFIER_P384, key->point),
                     form, message, signature);
    made = key_of_modulus(key);
    good = holds(keys, made, form, message, signature);
    EVP_PKEY_free(made);
    return good;
}
