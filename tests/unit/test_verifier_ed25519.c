/* Are signatures taken exactly as RFC 8032 § 5.1.7 without cofactor says, and keys of small order never? */
#include "verifier/ed25519.h"

#include "policy/config.h"
#include "unit/run.h"

static void hex(const char *text, uint8_t *out, size_t len)
{
    ck_assert(policy_hex_parse(span_of(text, 2 * len), out, len));
}

START_TEST(the_standards_example_holds) /* RFC 8032 § 7.1, TEST 2 */
{
    uint8_t seed[32], public[32], want[64], sig[64], key[32];
    static const uint8_t message[] = {0x72};
    hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", seed, 32);
    hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", key, 32);
    hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        want, 64);
    ck_assert(verifier_ed25519_public(seed, public));
    ck_assert_mem_eq(public, key, 32);
    ck_assert(verifier_ed25519_sign(seed, span_of(message, 1), sig));
    ck_assert_mem_eq(sig, want, 64);
    ck_assert(verifier_ed25519_verify(public, span_of(message, 1), sig));
    for (size_t i = 0; i < sizeof sig; i++) {
        sig[i] ^= 1;
        ck_assert(!verifier_ed25519_verify(public, span_of(message, 1), sig));
        sig[i] ^= 1;
    }
    ck_assert(!verifier_ed25519_verify(public, span_of(NULL, 0), sig));
    /* S + L: the same point, another encoding */
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                      0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    unsigned carry = 0;
    for (size_t i = 0; i < 32; i++) {
        carry += sig[32 + i] + order[i];
        sig[32 + i] = (uint8_t)carry;
        carry >>= 8;
    }
    ck_assert(!verifier_ed25519_verify(public, span_of(message, 1), sig));
}
END_TEST

/* Every encoding of a point of order 1, 2, 4 or 8, canonical or not. */
static const char *const small[] = {
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

START_TEST(keys_of_small_order_are_refused)
{
    uint8_t key[32], sig[64] = {0};
    hex(small[_i], key, 32);
    ck_assert(!verifier_ed25519_key_is_sound(key));
    /* R = the neutral element, S = 0: a signature over anything, where such keys pass */
    sig[0] = 1;
    ck_assert(!verifier_ed25519_verify(key, span_str("anything"), sig));
}
END_TEST

START_TEST(a_key_beyond_the_field_is_refused)
{
    uint8_t key[32];
    memset(key, 0xff, sizeof key);
    for (unsigned low = 0xed; low <= 0xff; low++) { /* 2^255 - 19 and above */
        key[0] = (uint8_t)low;
        key[31] = 0x7f;
        ck_assert(!verifier_ed25519_key_is_sound(key));
    }
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, the_standards_example_holds);
    tcase_add_loop_test(t, keys_of_small_order_are_refused, 0, (int)(sizeof small / sizeof *small));
    tcase_add_test(t, a_key_beyond_the_field_is_refused);
}

RUN("verifier_ed25519", add_tests)
