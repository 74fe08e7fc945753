/* Who shares a budget at a listener, and who must not. */
#include "tunnel/source.h"
#include "unit/run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

static void key_of(const char *text, uint8_t key[TUNNEL_SOURCE_LEN])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.any.sa_family = AF_INET6};

    if (inet_pton(AF_INET6, text, &a.v6.sin6_addr) != 1) {
        memset(&a, 0, sizeof a);
        a.v4.sin_family = AF_INET;
        ck_assert_int_eq(inet_pton(AF_INET, text, &a.v4.sin_addr), 1);
    }
    tunnel_source_key(&a.any, key);
}

static bool are_one(const char *one, const char *other)
{
    uint8_t a[TUNNEL_SOURCE_LEN], b[TUNNEL_SOURCE_LEN];

    key_of(one, a);
    key_of(other, b);
    return memcmp(a, b, sizeof a) == 0;
}

/* A listener on [::] sees every caller of IPv4 in one network of 64 bits. */
START_TEST(callers_of_ipv4_are_themselves_at_an_ipv6_listener)
{
    ck_assert(!are_one("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    ck_assert(are_one("::ffff:192.0.2.1", "192.0.2.1"));
    ck_assert(!are_one("192.0.2.1", "192.0.2.2"));
}
END_TEST

START_TEST(a_network_of_ipv6_is_one)
{
    ck_assert(are_one("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
    ck_assert(!are_one("2001:db8:1:2::1", "2001:db8:1:3::1"));
    ck_assert(!are_one("::1", "::ffff:0.0.0.1"));
}
END_TEST

START_TEST(slots_are_in_the_table_and_spread)
{
    bool used[256] = {false};
    uint8_t key[TUNNEL_SOURCE_LEN];
    size_t count = 0;
    char text[32];

    for (int i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "192.0.2.%d", i);
        key_of(text, key);
        size_t slot = tunnel_source_slot(key, 256);
        ck_assert_uint_lt(slot, 256);
        count += !used[slot];
        used[slot] = true;
    }
    ck_assert_uint_gt(count, 100);
    ck_assert_uint_eq(tunnel_source_slot(key, 1), 0);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, callers_of_ipv4_are_themselves_at_an_ipv6_listener);
    tcase_add_test(t, a_network_of_ipv6_is_one);
    tcase_add_test(t, slots_are_in_the_table_and_spread);
}

RUN("tunnel_source", add_tests)
