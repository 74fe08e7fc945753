/* What stands in the collateral file's place may be anything: is it refused with its reason, at once, and is what was
 * read before kept? */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tunnel/bundle_file.h"
#include "unit/run.h"
#include "verifier/bundle.h"

static char folder[32], path[64], beside[64];

static void setup(void)
{
    strcpy(folder, "/tmp/bundle-test-XXXXXX");
    ck_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/bundle", folder);
    snprintf(beside, sizeof beside, "%s/beside", folder);
}

static void teardown(void)
{
    unlink(path);
    rmdir(path);
    unlink(beside);
    rmdir(folder);
}

static void put(const char *where, struct span bytes)
{
    FILE *f = fopen(where, "w");
    ck_assert(f && fwrite(bytes.data, 1, bytes.len, f) == bytes.len && fclose(f) == 0);
}

static struct writer bundle_with(const char *list)
{
    struct verifier_collateral mine = {.crl_count = 1, .crls = {span_str(list)}};
    struct writer part = writer_with_max(1000), file = writer_with_max(2000);

    verifier_collateral_encode(&part, &mine);
    verifier_bundle_encode(&file, &(struct verifier_bundle){.until = 1, .collateral = writer_span(&part)});
    ck_assert(writer_ok(&file));
    writer_release(&part);
    return file;
}

static void put_good(const char *where, const char *list)
{
    struct writer file = bundle_with(list);
    put(where, writer_span(&file));
    writer_release(&file);
}

static void make_fifo(void)
{
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody writes: a read that waits would never end */
}
static void make_folder(void)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
}
static void make_device(void)
{
    ck_assert_int_eq(symlink("/dev/zero", path), 0);
}
static void make_long(void)
{
    put_good(path, "x");
    ck_assert_int_eq(truncate(path, VERIFIER_BUNDLE_MAX + 1), 0);
}
static void make_nothing(void)
{
}
static void make_torn(void)
{
    struct writer file = bundle_with("a list that is cut");
    put(path, span_of(file.data, file.len - 1));
    writer_release(&file);
}
static void make_trailing(void)
{
    struct writer file = bundle_with("a list");
    writer_u8(&file, 0);
    put(path, writer_span(&file));
    writer_release(&file);
}

static const struct {
    void (*make)(void);
    const char *says;
} bad[] = {
    {make_fifo, "no regular file"},
    {make_folder, "no regular file"},
    {make_device, "no regular file"},
    {make_long, "File too large"},
    {make_nothing, "No such file"},
    {make_torn, "not a collateral bundle"},
    {make_trailing, "not a collateral bundle"},
};

START_TEST(what_is_no_bundle_changes_nothing)
{
    struct tunnel_bundle b;
    char why[256] = "";

    bad[_i].make();
    ck_assert(!tunnel_bundle_open(&b, path, why));
    ck_assert_msg(strstr(why, bad[_i].says) && strstr(why, path), "%s", why);
    tunnel_bundle_release(&b);
    if (unlink(path) != 0)
        rmdir(path);

    put_good(path, "one");
    ck_assert_msg(tunnel_bundle_open(&b, path, why), "%s", why);
    ck_assert_int_eq(tunnel_bundle_look(&b, why), TUNNEL_BUNDLE_SAME);
    ck_assert_int_eq(unlink(path), 0);
    bad[_i].make();
    ck_assert_int_eq(tunnel_bundle_look(&b, why), TUNNEL_BUNDLE_BAD);
    ck_assert_msg(strstr(why, bad[_i].says) && strstr(why, path), "%s", why);
    ck_assert_int_eq(tunnel_bundle_look(&b, why), TUNNEL_BUNDLE_SAME); /* told of once */
    ck_assert(b.pieces.crl_count == 1 && span_is(b.pieces.crls[0], "one"));
    tunnel_bundle_release(&b);
}
END_TEST

/* A link is followed to what it names now, and turned elsewhere it is another file. */
START_TEST(a_link_is_the_file_that_it_names)
{
    struct tunnel_bundle b;
    char why[256] = "";

    put_good(beside, "one");
    ck_assert_int_eq(symlink("beside", path), 0);
    ck_assert_msg(tunnel_bundle_open(&b, path, why), "%s", why);
    ck_assert(span_is(b.pieces.crls[0], "one"));
    ck_assert_int_eq(unlink(path), 0);
    put_good(path, "two, longer");
    ck_assert_int_eq(tunnel_bundle_look(&b, why), TUNNEL_BUNDLE_NEW);
    ck_assert(span_is(b.pieces.crls[0], "two, longer"));
    tunnel_bundle_release(&b);
}
END_TEST

START_TEST(no_path_is_no_bundle)
{
    static char longest[TUNNEL_BUNDLE_PATH_MAX + 1];
    struct tunnel_bundle b;
    char why[256] = "";

    ck_assert(tunnel_bundle_open(&b, NULL, why) && tunnel_bundle_look(&b, why) == TUNNEL_BUNDLE_SAME);
    ck_assert(tunnel_bundle_open(&b, "", why) && b.bytes.len == 0);
    memset(longest, 'a', TUNNEL_BUNDLE_PATH_MAX);
    ck_assert(!tunnel_bundle_open(&b, longest, why));
    ck_assert_ptr_nonnull(strstr(why, "longer than"));
    tunnel_bundle_release(&b);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 10);
    tcase_add_loop_test(t, what_is_no_bundle_changes_nothing, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(t, a_link_is_the_file_that_it_names);
    tcase_add_test(t, no_path_is_no_bundle);
}

RUN("tunnel_bundle_file", add_tests)
