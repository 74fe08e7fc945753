#include "verifier/ed25519.h"

#include <openssl/evp.h>

/* Little-endian y of the points of small order, sign bit cleared: order 4; order 1; order 8, twice; order 2. */
static const uint8_t small_orders[5][VERIFIER_KEY_LEN] = {
    {0},
    {1},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};
/* 2^255 - 19 and the group order, little-endian. */
static const uint8_t field_prime[VERIFIER_KEY_LEN] = {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
static const uint8_t group_order[VERIFIER_KEY_LEN] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
                                                      0xa2, 0xde, 0xf9, 0xde, 0x14, 0,    0,    0,    0,    0,    0,
                                                      0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};

static bool is_below(const uint8_t a[VERIFIER_KEY_LEN], const uint8_t limit[VERIFIER_KEY_LEN])
{
    for (size_t i = VERIFIER_KEY_LEN; i-- > 0;)
        if (a[i] != limit[i])
            return a[i] < limit[i];
    return false;
}

bool verifier_ed25519_key_is_sound(const uint8_t public_key[VERIFIER_KEY_LEN])
{
    uint8_t y[VERIFIER_KEY_LEN];
    memcpy(y, public_key, sizeof y);
    y[VERIFIER_KEY_LEN - 1] &= 0x7f;
    if (!is_below(y, field_prime))
        return false;
    for (size_t i = 0; i < sizeof small_orders / sizeof *small_orders; i++)
        if (memcmp(y, small_orders[i], sizeof y) == 0)
            return false;
    return true;
}

bool verifier_ed25519_public(const uint8_t seed[VERIFIER_KEY_LEN], uint8_t public_key[VERIFIER_KEY_LEN])
{
    size_t len = VERIFIER_KEY_LEN;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, VERIFIER_KEY_LEN);
    bool ok = key && EVP_PKEY_get_raw_public_key(key, public_key, &len) == 1 && len == VERIFIER_KEY_LEN;
    EVP_PKEY_free(key);
    return ok;
}

bool verifier_ed25519_sign(const uint8_t seed[VERIFIER_KEY_LEN], struct span message, uint8_t sig[VERIFIER_SIG_LEN])
{
    size_t len = VERIFIER_SIG_LEN;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, VERIFIER_KEY_LEN);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = key && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestSign(ctx, sig, &len, message.data, message.len) == 1 && len == VERIFIER_SIG_LEN;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}

bool verifier_ed25519_verify(const uint8_t public_key[VERIFIER_KEY_LEN], struct span message,
                             const uint8_t sig[VERIFIER_SIG_LEN])
{
    if (!verifier_ed25519_key_is_sound(public_key) || !is_below(sig + 32, group_order))
        return false;
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, VERIFIER_KEY_LEN);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(ctx, sig, VERIFIER_SIG_LEN, message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}
