/* Does a sealed model come back byte for byte under its own key, root and place, and under nothing else? */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/artefact.h"
#include "engine/artefact_chunk.h"
#include "policy/config.h"
#include "unit/run.h"
#include "verifier/types.h"

#define BIG (3 * ENGINE_ARTEFACT_CHUNK + 17)

static char base[64], plain[96], sealed[96];
static uint8_t key[32];
static struct engine_artefact made;

static void put(const char *folder, const char *name, const uint8_t *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert(len == 0 || fwrite(bytes, 1, len, f) == len);
    fclose(f);
}

static void setup(void)
{
    static uint8_t big[BIG];
    struct engine_problem why = {0};
    strcpy(base, "/tmp/artefact-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(plain, sizeof plain, "%s/model", base);
    snprintf(sealed, sizeof sealed, "%s/sealed", base);
    ck_assert_int_eq(mkdir(plain, 0700), 0);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (uint8_t)(i * 31 + (i >> 8));
    put(plain, "model.safetensors", big, BIG);
    put(plain, "config.json", (const uint8_t *)"{}", 2);
    put(plain, "empty.txt", NULL, 0);
    memset(key, 7, sizeof key);
    ck_assert_msg(engine_artefact_seal(&made, plain, sealed, span_of(key, 32), NULL, NULL, &why), "%s", why.text);
}

static void teardown(void)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    ck_assert_int_eq(system(command), 0);
    engine_artefact_release(&made);
}

START_TEST(what_was_sealed_opens_and_has_the_plain_root)
{
    struct engine_files files, back;
    struct engine_problem why = {0};
    uint8_t root[64];
    ck_assert(engine_artefact_is_sealed(sealed));
    ck_assert(!engine_artefact_is_sealed(plain));
    ck_assert_msg(engine_files_load(&files, plain, &why), "%s", why.text);
    ck_assert(engine_artefact_root(&files, root));
    ck_assert_mem_eq(root, made.root, 64);
    ck_assert_msg(engine_artefact_open(&back, sealed, made.root, span_of(key, 32), NULL, NULL, &why), "%s", why.text);
    ck_assert_uint_eq(back.count, files.count);
    for (size_t i = 0; i < files.count; i++) {
        ck_assert_str_eq(back.file[i].path, files.file[i].path);
        ck_assert(span_equal(back.file[i].bytes, files.file[i].bytes));
    }
    engine_files_release(&files);
    engine_files_release(&back);
}
END_TEST

static void flip(const char *name, long at)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", sealed, name);
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}

static enum engine_err open_code(const uint8_t root[64], const uint8_t *with)
{
    struct engine_files files;
    struct engine_problem why = {0};
    if (engine_artefact_open(&files, sealed, root, span_of(with, 32), NULL, NULL, &why)) {
        engine_files_release(&files);
        return ENGINE_OK;
    }
    ck_assert_uint_eq(files.count, 0);
    return why.code;
}

START_TEST(another_key_or_root_opens_nothing)
{
    uint8_t other[64];
    memset(other, 9, sizeof other);
    ck_assert_int_eq(open_code(made.root, key), ENGINE_OK);
    ck_assert_int_eq(open_code(made.root, other), ENGINE_E_MISMATCH);
    ck_assert_int_eq(open_code(other, key), ENGINE_E_MISMATCH);
}
END_TEST

START_TEST(one_changed_bit_anywhere_is_found)
{
    flip("0002.sealed", 5);
    ck_assert_int_eq(open_code(made.root, key), ENGINE_E_MISMATCH);
    flip("0002.sealed", 5);
    flip("0002.sealed", 3 * (ENGINE_ARTEFACT_CHUNK + 16) + 20); /* the last tag */
    ck_assert_int_eq(open_code(made.root, key), ENGINE_E_MISMATCH);
    flip("0002.sealed", 3 * (ENGINE_ARTEFACT_CHUNK + 16) + 20);
    flip("0001.sealed", 3); /* the tag of the empty file */
    ck_assert_int_eq(open_code(made.root, key), ENGINE_E_MISMATCH);
    flip("0001.sealed", 3);
    flip("manifest", 20);
    ck_assert_int_eq(open_code(made.root, key), ENGINE_E_FORMAT);
}
END_TEST

START_TEST(a_cut_or_missing_file_is_found)
{
    char path[256];
    snprintf(path, sizeof path, "%s/0002.sealed", sealed);
    ck_assert_int_eq(truncate(path, 3 * (ENGINE_ARTEFACT_CHUNK + 16)), 0);
    ck_assert_int_eq(open_code(made.root, key), ENGINE_E_MISMATCH);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(open_code(made.root, key), ENGINE_E_IO);
}
END_TEST

START_TEST(chunks_keep_their_place)
{
    struct engine_artefact_place at = {
        .root = made.root, .content_key = key, .path = "a", .file = 1, .chunks = 2}; /* any 32 bytes do as a key */
    uint8_t box[3 + 16], out[3];
    ck_assert(engine_artefact_encrypt(&at, 0, span_str("abc"), box));
    ck_assert(engine_artefact_decrypt(&at, 0, span_of(box, 3), box + 3, out));
    ck_assert_mem_eq(out, "abc", 3);
    ck_assert(!engine_artefact_decrypt(&at, 1, span_of(box, 3), box + 3, out));
    at.chunks = 1; /* the same chunk as the file's last */
    ck_assert(!engine_artefact_decrypt(&at, 0, span_of(box, 3), box + 3, out));
    at.chunks = 2;
    at.path = "b";
    ck_assert(!engine_artefact_decrypt(&at, 0, span_of(box, 3), box + 3, out));
}
END_TEST

START_TEST(a_folder_that_exists_is_never_written_to)
{
    struct engine_artefact again;
    struct engine_problem why = {0};
    ck_assert(!engine_artefact_seal(&again, plain, sealed, span_of(key, 32), NULL, NULL, &why));
    ck_assert_int_eq(why.code, ENGINE_E_IO);
}
END_TEST

/* From the key release vectors: another implementation's key id. */
START_TEST(the_key_id_is_the_protocols)
{
    uint8_t k[32], want[32], id[32];
    ck_assert(policy_hex_parse(span_str("aada179fc3bd9ae41b85ff2aaaac32c52955fb9b3a178cf3eb5a03be4637e6e3"), k, 32));
    ck_assert(policy_hex_parse(span_str("60e90f8a7d27395b722b552ffee7bec8662069bd6fa4015ee183e5f2043cd524"), want, 32));
    ck_assert(engine_artefact_key_id(id, span_of(k, 32)));
    ck_assert_mem_eq(id, want, 32);
    ck_assert(!engine_artefact_key_id(id, span_of(k, 31)));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_was_sealed_opens_and_has_the_plain_root);
    tcase_add_test(t, another_key_or_root_opens_nothing);
    tcase_add_test(t, one_changed_bit_anywhere_is_found);
    tcase_add_test(t, a_cut_or_missing_file_is_found);
    tcase_add_test(t, chunks_keep_their_place);
    tcase_add_test(t, a_folder_that_exists_is_never_written_to);
    tcase_add_test(t, the_key_id_is_the_protocols);
}

RUN("engine_artefact", add_tests)
