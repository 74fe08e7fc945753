/* Are a model's files read whole, found by path, refused when they cannot be, and given back when asked? */
#include <check.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/files.h"
#include "unit/run.h"

static char folder[64];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/engine_files.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void put(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    ck_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void remove_folder(void)
{
    char command[160];
    snprintf(command, sizeof command, "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(a_folder_gives_its_model_files)
{
    struct engine_files files;
    struct engine_problem why = {ENGINE_OK, ""};
    char path[160];
    make_folder();
    put("tokenizer.json", "{\"a\":1}");
    put("config.json", "{}");
    put("empty.txt", "");
    put("README.md", "not a model file");
    put(".hidden.json", "not ours");
    ck_assert(engine_files_load(&files, folder, &why));
    ck_assert_uint_eq(files.count, 3);
    ck_assert(span_is(engine_files_find(&files, "tokenizer.json")->bytes, "{\"a\":1}"));
    ck_assert_uint_eq(engine_files_find(&files, "empty.txt")->bytes.len, 0);
    ck_assert(!engine_files_find(&files, "README.md") && !engine_files_find(&files, "config"));
    engine_files_release(&files);
    snprintf(path, sizeof path, "%s/config.json", folder);
    ck_assert(engine_files_load(&files, path, &why) && files.count == 1);
    ck_assert_str_eq(files.file[0].path, "config.json");
    engine_files_release(&files);
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    put("1_Pooling/other.json", "{}");
    ck_assert(engine_files_load(&files, folder, &why) && files.count == 3);
    engine_files_release(&files);
    put(ENGINE_FILES_POOLING, "{\"b\":2}"); /* of folders inside, this file alone */
    ck_assert(engine_files_load(&files, folder, &why) && files.count == 4);
    ck_assert(span_is(engine_files_find(&files, ENGINE_FILES_POOLING)->bytes, "{\"b\":2}"));
    engine_files_release(&files);
    remove_folder();
}
END_TEST

START_TEST(what_cannot_be_read_is_refused)
{
    struct engine_files files;
    struct engine_problem why = {ENGINE_OK, ""}, empty = why, pipe = why;
    char path[160];
    make_folder();
    ck_assert(!engine_files_load(&files, "/nonexistent/model.gguf", &why) && why.code == ENGINE_E_IO);
    ck_assert(files.count == 0 && files.file == NULL);
    ck_assert(!engine_files_load(&files, folder, &empty) && empty.code == ENGINE_E_MISSING);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* must not wait for a writer */
    ck_assert(!engine_files_load(&files, folder, &pipe) && pipe.code == ENGINE_E_IO);
    remove_folder();
}
END_TEST

START_TEST(paths_stay_inside_and_single)
{
    static const char *const bad[] = {"", "/etc/passwd", "../up.json", "a/../../b"};
    struct engine_files files = {0, NULL};
    char longest[ENGINE_FILES_PATH_MAX + 2];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_ptr_null(engine_files_add(&files, bad[i], 1, NULL));
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    ck_assert_ptr_null(engine_files_add(&files, longest, 1, NULL));
    longest[sizeof longest - 2] = 0;
    ck_assert_ptr_nonnull(engine_files_add(&files, longest, 1, NULL));
    ck_assert_ptr_null(engine_files_add(&files, longest, 1, NULL));
    ck_assert_ptr_nonnull(engine_files_add(&files, "b/two.json", 1, NULL));
    ck_assert_ptr_nonnull(engine_files_add(&files, "a.json", 1, NULL));
    ck_assert_uint_eq(files.count, 3);
    ck_assert_str_eq(files.file[0].path, "a.json");
    engine_files_release(&files);
}
END_TEST

START_TEST(discarded_pages_read_as_zeros_also_when_locked)
{
    struct engine_files files = {0, NULL};
    size_t page = (size_t)sysconf(_SC_PAGESIZE), len = 5 * page;
    for (int locked = 0; locked < 2; locked++) {
        uint8_t *data = engine_files_add(&files, locked ? "locked" : "plain", len, NULL);
        ck_assert_ptr_nonnull(data);
        memset(data, 7, len);
        if (locked && mlock(data, len) != 0)
            break; /* this account may lock nothing */
        engine_files_discard(span_of(data + 1, 3 * page));
        ck_assert(data[0] == 7 && data[page - 1] == 7 && data[page] == 0 && data[3 * page - 1] == 0);
        ck_assert(data[3 * page] == 7);
    }
    engine_files_release(&files);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a_folder_gives_its_model_files);
    tcase_add_test(tests, what_cannot_be_read_is_refused);
    tcase_add_test(tests, paths_stay_inside_and_single);
    tcase_add_test(tests, discarded_pages_read_as_zeros_also_when_locked);
}

RUN("engine_files", add_tests)
