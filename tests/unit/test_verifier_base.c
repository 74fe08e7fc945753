/* Does the cursor stay inside its bytes, refuse every longer form, and does the writer make the shortest? */
#include <check.h>

#include "unit/run.h"
#include "verifier/base/codec.h"
#include "verifier/base/reader.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"
#include "verifier/base/writer.h"

static struct reader over(const char *bytes, size_t len)
{
    return reader_over(span_of(bytes, len));
}

START_TEST(numbers_round_trip_in_their_shortest_form)
{
    static const uint64_t values[] = {0, 1, 127, 128, 255, 256, 65535, 65536, 0xffffffff, 0x100000000, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct writer w = writer_with_max(16);
        writer_uint(&w, values[i]);
        struct reader r = reader_over(writer_span(&w));
        ck_assert_uint_eq(reader_uint(&r, 0, UINT64_MAX), values[i]);
        ck_assert(reader_end(&r));
        writer_release(&w);
    }
}
END_TEST

START_TEST(bytes_and_texts_round_trip_at_each_length_class)
{
    static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    static uint8_t data[65536];
    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct writer w = writer_with_max(1 << 20);
        writer_bin(&w, span_of(data, lengths[i]));
        writer_text(&w, span_of(data, lengths[i]));
        struct reader r = reader_over(writer_span(&w));
        ck_assert_uint_eq(reader_bin(&r, 0, sizeof data).len, lengths[i]);
        ck_assert_uint_eq(reader_text(&r, 0, sizeof data).len, lengths[i]);
        ck_assert(reader_end(&r));
        writer_release(&w);
    }
}
END_TEST

static const struct {
    const char *name, *bytes;
    size_t len;
    enum reader_err want;
} refused[] = {
    {"number 5 in two bytes", "\xcc\x05", 2, READER_MINIMAL},
    {"number 5 in nine bytes", "\xcf\0\0\0\0\0\0\0\5", 9, READER_MINIMAL},
    {"cut number", "\xcd\x01", 2, READER_TRUNCATED},
    {"nothing", "", 0, READER_TRUNCATED},
    {"negative", "\xff", 1, READER_TYPE},
    {"float", "\xca\0\0\0\0", 5, READER_TYPE},
    {"trailing", "\x05\x05", 2, READER_TRAILING},
    {"too large", "\xcd\x7f\xff", 3, READER_RANGE},
};

START_TEST(numbers_that_must_be_refused)
{
    struct reader r = over(refused[_i].bytes, refused[_i].len);
    (void)reader_uint(&r, 0, 1000);
    (void)reader_end(&r);
    ck_assert_msg(r.err == refused[_i].want, "%s: %s", refused[_i].name, reader_err_name(r.err));
}
END_TEST

START_TEST(a_huge_length_neither_reads_nor_allocates)
{
    struct reader r = over("\xc6\xff\xff\xff\xff", 5);
    (void)reader_bin(&r, 0, SIZE_MAX);
    ck_assert_int_eq(r.err, READER_TRUNCATED);
    r = over("\xdd\x08\0\0\0", 5);
    ck_assert_uint_eq(reader_list(&r, 0, 64), 0);
    ck_assert_int_ne(r.err, READER_OK);
}
END_TEST

START_TEST(text_is_strict_utf8)
{
    ck_assert(utf8_is_valid(span_str("\xf4\x8f\xbf\xbf")));
    ck_assert(!utf8_is_valid(span_str("\xf4\x90\x80\x80"))); /* above U+10FFFF */
    ck_assert(!utf8_is_valid(span_str("\xc0\xaf")));         /* overlong */
    ck_assert(!utf8_is_valid(span_str("\xe0\x80\x80")));     /* overlong */
    ck_assert(!utf8_is_valid(span_str("\xed\xa0\x80")));     /* surrogate */
    ck_assert(!utf8_is_printable(span_str("a\x1f")));
    ck_assert_uint_eq(utf8_tail(span_str("a\xf0\x9f\x98")), 3);
    ck_assert_uint_eq(utf8_tail(span_str("a\xe2\x82\xac")), 0);
}
END_TEST

START_TEST(a_full_writer_turns_bad_and_shows_nothing)
{
    struct writer w = writer_with_max(4);
    writer_u32be(&w, 1);
    ck_assert(writer_ok(&w));
    writer_u8(&w, 1);
    ck_assert(!writer_ok(&w));
    ck_assert_uint_eq(writer_span(&w).len, 0);
    writer_release(&w);
}
END_TEST

START_TEST(a_secret_is_zero_at_first_and_gone_at_last)
{
    struct secret s;
    ck_assert(secret_init(&s, 100));
    ck_assert(span_is_zero(secret_span(&s)));
    s.data[99] = 7;
    secret_release(&s);
    ck_assert_ptr_null(s.data);
    ck_assert(!secret_init(&s, 0));
}
END_TEST

START_TEST(hexadecimal)
{
    uint8_t out[4] = {0};
    ck_assert(codec_unhex(span_str("00fFaB19"), out, 4));
    ck_assert_mem_eq(out, "\x00\xff\xab\x19", 4);
    ck_assert(!codec_unhex(span_str("00ffab1"), out, 4));
    ck_assert(!codec_unhex(span_str("00ffab191"), out, 4));
    ck_assert(!codec_unhex(span_str("00ffab1g"), out, 4));
    ck_assert(codec_unhex(span_str(""), out, 0));
}
END_TEST

/* RFC 4648 § 10, and what is not base64. */
START_TEST(base64)
{
    static const struct {
        const char *text, *want; /* NULL: refused */
    } rows[] = {{"Zg==", "f"},         {"Zm8=", "fo"},         {"Zm9v", "foo"},       {"Zm9vYg==", "foob"},
                {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}, {" Z\ng =\r\t=", "f"}, {"Zh==", NULL},
                {"Zm9=", NULL},        {"Zg=", NULL},          {"Zg", NULL},          {"Z===", NULL},
                {"Z", NULL},           {"Zg==Zg==", NULL},     {"Zm9v=", NULL},       {"Zm9v====", NULL},
                {"Zm-v", NULL},        {"Zm9v\x01", NULL},     {"====", NULL},        {"Zm9vYmFyYg==", NULL}};
    uint8_t out[6];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = codec_unbase64(span_str(rows[i].text), out, sizeof out);
        ck_assert_msg(len == (rows[i].want ? strlen(rows[i].want) : 0), "%s: %zu", rows[i].text, len);
        ck_assert_msg(len == 0 || memcmp(out, rows[i].want, len) == 0, "%s", rows[i].text);
    }
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, hexadecimal);
    tcase_add_test(t, base64);
    tcase_add_test(t, numbers_round_trip_in_their_shortest_form);
    tcase_add_test(t, bytes_and_texts_round_trip_at_each_length_class);
    tcase_add_loop_test(t, numbers_that_must_be_refused, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, a_huge_length_neither_reads_nor_allocates);
    tcase_add_test(t, text_is_strict_utf8);
    tcase_add_test(t, a_full_writer_turns_bad_and_shows_nothing);
    tcase_add_test(t, a_secret_is_zero_at_first_and_gone_at_last);
}

RUN("verifier_base", add_tests)
