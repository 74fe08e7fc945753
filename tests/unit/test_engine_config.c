/* airlock-engine's options: the order of their sources, and what is refused. */
#include <stdio.h>
#include <unistd.h>

#include "engine/config.h"
#include "run.h"

#define OWNER                                                                                                          \
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"                                                 \
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define GOOD                                                                                                           \
    "model = \"/m\"; policy = \"/p\"; owner = \"" OWNER "\"; keyd = [ \"k:1\" ]; proxies = [ \"a:1\", \"b:2\" ];\n"

static struct config config;
static char why[512];

static bool from(const char *text)
{
    return config_from_text(&config, span_str(text), "engine.conf", why);
}

START_TEST(file_sets_and_defaults_stay)
{
    ck_assert_msg(from(GOOD "max_model_len = 4096; enable_prefix_caching = false; drain_time = \"2m\"; "
                            "kv_cache_memory_bytes = \"1GiB\"; seed = \"7\"; scheduling_policy = \"priority\";"),
                  "%s", why);
    ck_assert_uint_eq(config.max_model_len, 4096);
    ck_assert_uint_eq(config.max_num_seqs, 32);
    ck_assert_uint_eq(config.drain_s, 120);
    ck_assert_uint_eq(config.kv_bytes, 1 << 30);
    ck_assert_uint_eq(config.proxies.count, 2);
    struct engine_options o;
    config_engine_options(&config, &o);
    ck_assert(o.no_prefix_cache && o.by_priority && o.has_seed && o.seed == 7 && o.context_max == 4096);
}
END_TEST

START_TEST(printed_text_reads_back_the_same)
{
    struct writer first = writer_with_max(65536), second = writer_with_max(65536);
    ck_assert(from(GOOD "max_model_len = 123;"));
    config_print(&config, &first);
    ck_assert_ptr_nonnull(strstr((char *)first.data, "max_model_len = 123\n"));
    /* "" stands for "not given" in the print; the reader has no empty strings */
    char *line, *rest = (char *)first.data, text[8192] = "";
    writer_u8(&first, 0);
    rest = (char *)first.data;
    while ((line = strsep(&rest, "\n")))
        if (!strstr(line, "= \"\"") && !strstr(line, "= []") && !strstr(line, "= \"0\""))
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s;\n", line[0] ? line : "");
    text[strlen(text) - 2] = 0;
    ck_assert_msg(from(text), "%s", why);
    config_print(&config, &second);
    ck_assert_uint_eq(second.len, first.len - 1);
    writer_release(&first);
    writer_release(&second);
}
END_TEST

START_TEST(refusals_say_what)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"model = \"/m\";", "policy"},
        {"policy = \"/p\"; owner = \"" OWNER "\";", "--model"},
        {GOOD "max_modle_len = 1;", "max_model_len"},
        {GOOD "block_size = 8;", "block_size"},
        {GOOD "scheduling_policy = \"lifo\";", "lifo"},
        {GOOD "seed = \"x\";", "seed"},
        {"model = \"/m\"; policy = \"/p\"; owner = \"12\"; keyd = [ \"k:1\" ]; proxies = [ \"a:1\" ];", "128 hex"},
        {"model = \"/m\"; policy = \"/p\"; owner = \"" OWNER "\"; keyd = [ \"k:1\" ];", "--proxy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert(!from(cases[i].text));
        ck_assert_msg(strstr(why, cases[i].says) != NULL, "%zu: %s", i, why);
    }
}
END_TEST

START_TEST(flags_beat_environment_beats_file)
{
    char path[] = "/tmp/engine-conf-XXXXXX";
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && write(fd, GOOD "max_num_seqs = 1; block_size = 32; threads = 3;", strlen(GOOD) + 46) > 0);
    close(fd);
    setenv("AIRLOCK_ENGINE_MAX_NUM_SEQS", "2", 1);
    setenv("AIRLOCK_ENGINE_BLOCK_SIZE", "64", 1);
    char *argv[] = {"airlock-engine",
                    "--config",
                    path,
                    "--max-num-seqs",
                    "4",
                    "--proxy",
                    "c:3",
                    "--no-enable-prefix-caching",
                    "--tensor-parallel-size",
                    "1",
                    "--enable-chunked-prefill",
                    NULL};
    ck_assert_msg(config_load(&config, 11, argv, why), "%s", why);
    ck_assert_uint_eq(config.max_num_seqs, 4);
    ck_assert_uint_eq(config.block_size, 64);
    ck_assert_uint_eq(config.threads, 3);
    ck_assert_uint_eq(config.proxies.count, 1); /* a list given by flags replaces the file's */
    ck_assert_str_eq(config.proxies.item[0], "c:3");
    ck_assert(!config.prefix_caching);
    setenv("AIRLOCK_ENGINE_BLOCK_SIZE", "many", 1);
    ck_assert(!config_load(&config, 11, argv, why));
    ck_assert_ptr_nonnull(strstr(why, "AIRLOCK_ENGINE_BLOCK_SIZE"));
    unsetenv("AIRLOCK_ENGINE_BLOCK_SIZE");
    unsetenv("AIRLOCK_ENGINE_MAX_NUM_SEQS");
    unlink(path);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, file_sets_and_defaults_stay);
    tcase_add_test(t, printed_text_reads_back_the_same);
    tcase_add_test(t, refusals_say_what);
    tcase_add_test(t, flags_beat_environment_beats_file);
}

RUN("engine_config", add_tests)
