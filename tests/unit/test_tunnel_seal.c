/* Sealing keys of the attester: does the count of epochs only rise, whatever happens on the way? RAND_set_rand_method()
 * is deprecated, and the only way to have no randomness in OpenSSL 3.0. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/rand.h>

#include "run.h"
#include "tunnel/attest/attester_core.h"

static const uint8_t policy[VERIFIER_DIGEST_LEN] = {1};

static int no_bytes(unsigned char *out, int len)
{
    (void)out, (void)len;
    return 0;
}

static int no_status(void)
{
    return 0;
}

static void randomness(bool there)
{
    static const RAND_METHOD none = {.bytes = no_bytes, .pseudorand = no_bytes, .status = no_status};
    ck_assert_int_eq(RAND_set_rand_method(there ? NULL : &none), 1);
}

/* Without randomness no key is made: the one in force stays in force and known to be due, and the next has the next
 * number. */
START_TEST(an_epochs_number_never_repeats)
{
    struct attester_keys k;
    uint8_t first[VERIFIER_KEY_LEN];
    ck_assert(attester_keys_init(&k, 10, 0));
    ck_assert(attester_keys_rotate(&k, policy, 1000));
    ck_assert(attester_keys_rotate(&k, policy, 2000));
    memcpy(first, k.now.public, sizeof first);
    ck_assert_uint_eq(k.now.number, 2);
    ck_assert_uint_eq(k.before.number, 1);

    randomness(false);
    ck_assert(attester_keys_due(&k, 12000));
    ck_assert(!attester_keys_rotate(&k, policy, 12000));
    ck_assert(!attester_keys_rotate(&k, policy, 12001));
    ck_assert_uint_eq(k.now.number, 2);
    ck_assert_mem_eq(k.now.public, first, sizeof first);
    ck_assert_uint_eq(k.before.number, 0);
    ck_assert(span_is_zero(span_of(k.before.private, VERIFIER_KEY_LEN)));
    ck_assert(attester_keys_due(&k, 12002));

    randomness(true);
    ck_assert(attester_keys_rotate(&k, policy, 13000));
    ck_assert_uint_eq(k.now.number, 3);
    ck_assert_uint_eq(k.before.number, 2);
    ck_assert(memcmp(k.now.public, first, sizeof first) != 0);
    ck_assert(!attester_keys_due(&k, 13000));
    attester_keys_release(&k);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, an_epochs_number_never_repeats);
}

RUN("tunnel_seal", add_tests)
