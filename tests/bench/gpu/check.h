/* check.h - the little of libcheck that test_kernels_device.c uses, for a machine without it: tests run where they are
 * added, one after another in one process; the first failure of a test ends that test. */
#ifndef BENCH_GPU_CHECK_H
#define BENCH_GPU_CHECK_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    int unused;
} Suite, TCase, SRunner;

static int check_ran, check_failed;
static jmp_buf check_out;
static TCase check_case;

#define START_TEST(name) static void name(int _i __attribute__((unused)))
#define END_TEST
#define ck_assert_msg(condition, ...)                                                                                  \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                     \
            printf(__VA_ARGS__);                                                                                       \
            puts("");                                                                                                  \
            longjmp(check_out, 1);                                                                                     \
        }                                                                                                              \
    } while (0)
#define ck_assert(condition) ck_assert_msg(condition, "%s", "")
#define ck_assert_int_eq(a, b) ck_assert_msg((a) == (b), "%ld, %ld", (long)(a), (long)(b))
#define ck_assert_uint_eq(a, b) ck_assert_msg((a) == (b), "%lu, %lu", (unsigned long)(a), (unsigned long)(b))
#define ck_assert_float_lt(a, b) ck_assert_msg((a) < (b), "%g, %g", (double)(a), (double)(b))
#define ck_assert_float_eq(a, b) ck_assert_msg((a) == (b), "%g, %g", (double)(a), (double)(b))
#define ck_assert_str_eq(a, b) ck_assert_msg(strcmp(a, b) == 0, "%s, %s", a, b)

static inline void check_run(void (*test)(int), const char *name, int from, int to)
{
    for (volatile int i = from; i < to; i++) {
        check_ran++;
        if (setjmp(check_out) != 0) {
            printf("FAIL %s (%d)\n", name, i);
            check_failed++;
        } else {
            test(i);
        }
        fflush(stdout);
    }
}

#define tcase_add_test(t, test) ((void)(t), check_run(test, #test, 0, 1))
#define tcase_add_loop_test(t, test, from, to) ((void)(t), check_run(test, #test, from, to))
#define suite_create(name) ((Suite *)&check_case)
#define tcase_create(name) (&check_case)
#define tcase_set_timeout(t, seconds) ((void)(t))
#define suite_add_tcase(s, t) ((void)(s), (void)(t))
#define srunner_create(s) ((SRunner *)(s))
#define srunner_run_all(r, how)                                                                                        \
    ((void)(r), printf("ops: %d passed, %d failed, 0 skipped\n", check_ran - check_failed, check_failed))
#define srunner_ntests_failed(r) ((void)(r), check_failed)
#define srunner_free(r) ((void)(r))

#endif
