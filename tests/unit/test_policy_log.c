/* Is every change to the log found, and does no caller's text get in? */
#include <check.h>
#include <stdlib.h>

#include "policy/log.h"
#include "unit/run.h"

static void add_line(struct policy_log *log, struct writer *out, const char *word)
{
    struct policy_log_line l = policy_log_begin(log, 1796000000, "lease");
    policy_log_number(&l, "bytes", 17);
    policy_log_hex(&l, "identity", span_of("\x01\xff", 2));
    policy_log_word(&l, "role", span_str(word));
    ck_assert(policy_log_end(&l, out));
}

START_TEST(a_chain_checks_and_any_change_breaks_it)
{
    struct policy_log log = {0}, back;
    struct writer out = writer_with_max(16384);
    bool ok;
    for (int i = 0; i < 5; i++)
        add_line(&log, &out, "engine");
    ck_assert_uint_eq(policy_log_check(writer_span(&out), &back, &ok), 5);
    ck_assert(ok);
    ck_assert_mem_eq(back.head, log.head, 64);
    for (size_t i = 0; i < out.len; i++) { /* every byte matters, but the last line only by its head */
        out.data[i] ^= 1;
        policy_log_check(writer_span(&out), &back, &ok);
        ck_assert_msg(!ok || memcmp(back.head, log.head, 64) != 0, "byte %zu", i);
        out.data[i] ^= 1;
    }
    size_t first = (size_t)((uint8_t *)memchr(out.data, '\n', out.len) - out.data) + 1;
    ck_assert_uint_eq(policy_log_check(span_of(out.data + first, out.len - first), &back, &ok), 0);
    ck_assert(!ok);
    ck_assert_uint_eq(policy_log_check(span_of(out.data, out.len - 1), &back, &ok), 4);
    ck_assert(!ok);
    writer_release(&out);
}
END_TEST

START_TEST(words_are_words)
{
    struct policy_log log = {0};
    struct writer out = writer_with_max(16384);
    add_line(&log, &out, "a\"b\n\xffz");
    ck_assert_ptr_nonnull(memmem(out.data, out.len, "\"role\":\"a?b??z\"", 15));
    writer_release(&out);
}
END_TEST

START_TEST(a_line_that_does_not_fit_changes_nothing)
{
    struct policy_log log = {0};
    struct writer out = writer_with_max(16);
    struct policy_log_line l = policy_log_begin(&log, 1, "start");
    ck_assert(!policy_log_end(&l, &out));
    ck_assert_uint_eq(log.count, 0);
    writer_release(&out);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_chain_checks_and_any_change_breaks_it);
    tcase_add_test(t, words_are_words);
    tcase_add_test(t, a_line_that_does_not_fit_changes_nothing);
}

RUN("policy_log", add_tests)
