/* Is a log, or a head, that was put back from a backup noticed, and nothing else taken for one? */
#include <check.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/keyd/store.h"
#include "policy/keytext.h"
#include "unit/policy_world.h"
#include "unit/run.h"

static char base[64];
static struct keyd_config config;
static struct keyd_store store;
static struct policy_log chain;
static struct world w;

static void path_in(char out[KEYD_PATH_MAX], const char *name)
{
    snprintf(out, KEYD_PATH_MAX, "%s/%s", base, name);
}

static void put(const char *path, struct span bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes.data, bytes.len), (ssize_t)bytes.len);
    close(fd);
}

static void copy(const char *from, const char *to)
{
    char command[2 * KEYD_PATH_MAX];
    snprintf(command, sizeof command, "cp -a %s/%s %s/%s", base, from, base, to);
    ck_assert_int_eq(system(command), 0);
}

static void open_store(void)
{
    char why[256] = "";
    ck_assert_msg(keyd_store_open(&store, &config, why), "%s", why);
}

static bool log_fits(void)
{
    struct writer log = writer_with_max(1 << 20);
    char why[256];
    bool fits = false, good;
    keyd_store_close(&store);
    open_store();
    ck_assert(keyd_store_log(&store, &log, &fits, why));
    policy_log_check(writer_span(&log), &chain, &good);
    writer_release(&log);
    return fits && good;
}

static void append(void)
{
    struct writer lines = writer_with_max(4096);
    struct policy_log_line l = policy_log_begin(&chain, WORLD_NOW, "start");
    ck_assert(policy_log_end(&l, &lines));
    ck_assert(keyd_store_append(&store, writer_span(&lines), &chain));
    writer_release(&lines);
}

static void setup(void)
{
    struct writer key = writer_with_max(256);
    world_open(&w);
    strcpy(base, "/tmp/keyd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    config = (struct keyd_config){0};
    chain = (struct policy_log){0};
    path_in(config.key, "key");
    path_in(config.state, "state");
    path_in(config.documents, "documents");
    policy_keytext_print(&key, POLICY_KEYTEXT_SIGN, span_of(w.keyd_seed, 32));
    put(config.key, writer_span(&key));
    put(config.documents, writer_span(&w.documents));
    writer_release(&key);
    open_store();
}

static void teardown(void)
{
    char command[128];
    keyd_store_close(&store);
    world_close(&w);
    snprintf(command, sizeof command, "rm -rf %s", base);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(a_log_that_goes_on_fits)
{
    ck_assert(log_fits()); /* the very first start */
    for (int i = 0; i < 3; i++) {
        append();
        ck_assert(log_fits());
    }
    ck_assert_uint_eq(chain.count, 3);
}
END_TEST

START_TEST(an_older_log_or_an_older_head_does_not_fit)
{
    append();
    copy("state/log", "log.1");
    copy("key.head", "head.1");
    append();
    append();
    copy("state/log", "log.3");
    copy("key.head", "head.3");
    copy("log.1", "state/log");
    ck_assert(!log_fits());
    copy("log.3", "state/log");
    ck_assert(log_fits());
    copy("head.1", "key.head");
    ck_assert(!log_fits());
    copy("head.3", "key.head");
    ck_assert(log_fits());
}
END_TEST

START_TEST(a_missing_or_forged_piece_does_not_fit)
{
    char path[KEYD_PATH_MAX];
    append();
    copy("key.head", "head");
    path_in(path, "key.head");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!log_fits());
    put(path, span_str("airlock-keyd-head 0 00 00\n"));
    ck_assert(!log_fits());
    copy("head", "key.head");
    ck_assert(log_fits());
    path_in(path, "state/log");
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert(!log_fits());
}
END_TEST

START_TEST(a_crash_between_two_writes_is_no_restore)
{
    struct writer lines = writer_with_max(4096);
    char path[KEYD_PATH_MAX];
    append();
    copy("key.head", "head");
    append();
    copy("head", "key.head"); /* the line was written, the head not yet */
    ck_assert(log_fits());
    ck_assert_uint_eq(chain.count, 2);
    path_in(path, "state/log");
    int fd = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "{\"i\":3,", 7), 7); /* half a line */
    close(fd);
    ck_assert(log_fits());
    ck_assert_uint_eq(chain.count, 2);
    writer_release(&lines);
}
END_TEST

START_TEST(key_files_are_private_and_one_keyd_holds_the_state)
{
    struct keyd_store second;
    char why[256];
    ck_assert(!keyd_store_open(&second, &config, why));
    ck_assert_ptr_nonnull(strstr(why, "another"));
    keyd_store_close(&second);
    keyd_store_close(&store);
    ck_assert_int_eq(chmod(config.key, 0644), 0);
    ck_assert(!keyd_store_open(&second, &config, why));
    ck_assert_ptr_nonnull(strstr(why, "chmod 600"));
    keyd_store_close(&second);
    ck_assert_int_eq(chmod(config.key, 0600), 0);
    open_store();
}
END_TEST

START_TEST(the_newer_of_the_operators_and_the_adopted_papers_is_taken)
{
    struct keyd_papers papers;
    struct writer newer = writer_with_max(VERIFIER_PART_MAX);
    char why[256];
    w.version = 8;
    world_sign(&w);
    writer_bytes(&newer, writer_span(&w.documents));
    ck_assert(keyd_store_keep(&store, writer_span(&newer), span_of(NULL, 0)));
    ck_assert_msg(keyd_store_papers(&store, &papers, why), "%s", why);
    ck_assert(span_equal(writer_span(&papers.documents), writer_span(&newer)));
    keyd_papers_release(&papers);
    w.version = 9;
    world_sign(&w);
    put(config.documents, writer_span(&w.documents));
    ck_assert(keyd_store_papers(&store, &papers, why));
    ck_assert(span_equal(writer_span(&papers.documents), writer_span(&w.documents)));
    keyd_papers_release(&papers);
    writer_release(&newer);
}
END_TEST

START_TEST(the_operators_mark_is_taken_once)
{
    char path[KEYD_PATH_MAX];
    ck_assert(!keyd_store_confirmed(&store));
    path_in(path, "state/confirm");
    put(path, span_str("1\n"));
    ck_assert(keyd_store_confirmed(&store));
    ck_assert(!keyd_store_confirmed(&store));
}
END_TEST

static const struct {
    const char *text, *path;
} configs[] = {
    {"listen_engines = [\"127.0.0.1:1\"]; listen_proxies = [\"[::1]:2\"]; key = \"k\"; state = \"s\"; documents = "
     "\"/d\";\n"
     "lease = \"1h\"; weights = ( { model = \"m\"; file = \"w\"; } );",
     NULL},
    {"listen_engines = [\"127.0.0.1:1\"]; key = \"k\"; state = \"s\"; documents = \"d\";", "listen_proxies"},
    {"listen_engines = [\"127.0.0.1:1\"]; listen_proxies = [\"[::1]:2\"]; key = \"k\"; state = \"s\"; documents = "
     "\"d\";\n"
     "lease = \"25h\";",
     "lease"},
    {"listen_engines = [\"127.0.0.1:1\"]; listen_proxies = [\"[::1]:2\"]; key = \"k\"; state = \"s\"; documents = "
     "\"d\";\n"
     "weights = ( { model = \"m\"; fiel = \"w\"; } );",
     "weights[0].file"},
};

START_TEST(its_configuration_is_read_strictly)
{
    struct keyd_config c;
    struct policy_problem why = {0};
    bool good = keyd_config_parse(&c, span_str(configs[_i].text), "/etc/airlock/keyd.conf", &why);
    ck_assert_int_eq(good, configs[_i].path == NULL);
    if (good) {
        ck_assert_str_eq(c.key, "/etc/airlock/k");
        ck_assert_str_eq(c.documents, "/d");
        ck_assert_str_eq(c.weight[0].file, "/etc/airlock/w");
    } else {
        ck_assert_str_eq(why.path, configs[_i].path);
    }
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_log_that_goes_on_fits);
    tcase_add_test(t, an_older_log_or_an_older_head_does_not_fit);
    tcase_add_test(t, a_missing_or_forged_piece_does_not_fit);
    tcase_add_test(t, a_crash_between_two_writes_is_no_restore);
    tcase_add_test(t, key_files_are_private_and_one_keyd_holds_the_state);
    tcase_add_test(t, the_newer_of_the_operators_and_the_adopted_papers_is_taken);
    tcase_add_test(t, the_operators_mark_is_taken_once);
    tcase_add_loop_test(t, its_configuration_is_read_strictly, 0, (int)(sizeof configs / sizeof *configs));
}

RUN("keyd_store", add_tests)
