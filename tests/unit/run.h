/* run.h - one `check` program a file: RUN("name", add_tests) supplies main().
 * It ends with check's summary; the exit code is 0 only when every test passed. */
#ifndef TESTS_UNIT_RUN_H
#define TESTS_UNIT_RUN_H

#include <check.h>
#include <stdlib.h>

#define RUN(suite_name, add)                                                                                           \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        Suite *suite = suite_create(suite_name);                                                                       \
        TCase *tests = tcase_create(suite_name);                                                                       \
        tcase_set_timeout(tests, 120);                                                                                 \
        add(tests);                                                                                                    \
        suite_add_tcase(suite, tests);                                                                                 \
        SRunner *runner = srunner_create(suite);                                                                       \
        srunner_run_all(runner, CK_NORMAL);                                                                            \
        int failed = srunner_ntests_failed(runner);                                                                    \
        srunner_free(runner);                                                                                          \
        return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                                              \
    }

#endif
