/* Does a sealed weight key open for what it was bound to, and for nothing else? */
#include "verifier/release.h"

#include "unit/run.h"

static const uint8_t weight_key[32] = {8, 9};
static uint8_t private_key[32] = {3}, public_key[32], enc[32], sealed[VERIFIER_RELEASE_SEALED_LEN];
static struct verifier_release_bind bound;

static void setup(void)
{
    bound = (struct verifier_release_bind){.statement = {1}, .policy = {2}, .artefact_root = {4}, .i = 1, .n = 3};
    ck_assert(verifier_x25519_public(private_key, public_key));
    ck_assert(verifier_release_seal(public_key, &bound, weight_key, enc, sealed));
}

static enum verifier_err open_as(const struct verifier_release_bind *bind, struct span from, uint8_t key[32])
{
    struct verifier_hpke opened;
    uint8_t aad[VERIFIER_RELEASE_AAD_LEN];
    verifier_release_aad(aad, bind);
    ck_assert(verifier_hpke_setup_r(&opened, private_key, enc, verifier_release_info()));
    return verifier_release_open(&opened, span_of(aad, sizeof aad), from, key);
}

START_TEST(a_share_opens_for_what_it_is_bound_to)
{
    struct verifier_release_bind other[6] = {bound, bound, bound, bound, bound, bound};
    uint8_t key[32] = {0}, none[32] = {0};
    other[0].statement[63] ^= 1;
    other[1].policy[63] ^= 1;
    other[2].artefact_root[63] ^= 1;
    other[3].i = 0;
    other[4].n = 2;
    other[5].i = 3, other[5].n = 1;
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(open_as(&other[i], span_of(sealed, sizeof sealed), key), VERIFIER_E_SEAL_OPEN);
    ck_assert_mem_eq(key, none, 32);
    ck_assert_int_eq(open_as(&bound, span_of(sealed, sizeof sealed), key), VERIFIER_OK);
    ck_assert_mem_eq(key, weight_key, 32);
}
END_TEST

START_TEST(a_share_has_one_length)
{
    uint8_t longer[VERIFIER_RELEASE_SEALED_LEN + 1] = {0}, key[32];
    memcpy(longer, sealed, sizeof sealed);
    ck_assert_int_eq(open_as(&bound, span_of(longer, sizeof longer), key), VERIFIER_E_SIZE);
    ck_assert_int_eq(open_as(&bound, span_of(sealed, sizeof sealed - 1), key), VERIFIER_E_SIZE);
    ck_assert_int_eq(open_as(&bound, span_of(sealed, 0), key), VERIFIER_E_SIZE);
}
END_TEST

START_TEST(nothing_is_sealed_to_a_low_order_key)
{
    static const uint8_t zero[32];
    ck_assert(!verifier_release_seal(zero, &bound, weight_key, enc, sealed));
}
END_TEST

START_TEST(a_key_has_1_to_16_shares)
{
    uint8_t shares[VERIFIER_RELEASE_SHARES_MAX + 1][32] = {{5}, {6}}, key[32], two[32];
    ck_assert(!verifier_release_combine(shares, 0, key));
    ck_assert(!verifier_release_combine(shares, VERIFIER_RELEASE_SHARES_MAX + 1, key));
    ck_assert(verifier_release_combine(shares, 1, key));
    ck_assert_mem_eq(key, shares[0], 32); /* one share is the key */
    ck_assert(verifier_release_combine(shares, 2, two));
    ck_assert(verifier_release_combine(shares, VERIFIER_RELEASE_SHARES_MAX, key));
    ck_assert_mem_ne(two, key, 32);
    ck_assert_mem_ne(two, shares[0], 32);
    ck_assert_mem_ne(two, shares[1], 32);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, a_share_opens_for_what_it_is_bound_to);
    tcase_add_test(t, a_share_has_one_length);
    tcase_add_test(t, nothing_is_sealed_to_a_low_order_key);
    tcase_add_test(t, a_key_has_1_to_16_shares);
}

RUN("verifier_release", add_tests)
