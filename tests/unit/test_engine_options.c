/* Do airlock-engine's options mean what vLLM's mean, does the later of file, environment and flag win, and is what
 * cannot be meant refused with the reason? */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "engine/config.h"
#include "kernels/device.h"
#include "unit/run.h"

#define OWNER                                                                                                          \
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000" \
    "0000000000000000"

static struct config config;
static char why[512];

/* The flags that every start needs, then up to three of the test's. */
static bool load(const char *a, const char *b, const char *c)
{
    char *argv[] = {"airlock-engine", "--model=m",          "--policy=p",         "--owner=" OWNER,     "--keyd=k:1",
                    "--proxy=p:1",    (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)c, NULL};
    int argc = 6 + (a != NULL) + (b != NULL) + (c != NULL);
    why[0] = '\0';
    return config_load(&config, argc, argv, why);
}

START_TEST(the_later_wins)
{
    char path[] = "/tmp/options-test-XXXXXX", flag[64];
    int fd = mkstemp(path);
    static const char text[] = "max_num_seqs = 3;\nblock_size = 32;\nmax_choices = 4;\nserved_model_name = [ \"a\" ];\n"
                               "generation_config = \"vllm\";\noverride_generation_config = \"{\\\"top_k\\\": 3}\";\n";
    ck_assert(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1 && close(fd) == 0);
    snprintf(flag, sizeof flag, "--config=%s", path);
    setenv("AIRLOCK_ENGINE_GENERATION_CONFIG", "/from/the/environment", 1);
    setenv("AIRLOCK_ENGINE_MAX_NUM_SEQS", "5", 1);
    setenv("AIRLOCK_ENGINE_BLOCK_SIZE", "64", 1);
    ck_assert_msg(load(flag, "--max-num-seqs=7", NULL), "%s", why);
    unlink(path);
    unsetenv("AIRLOCK_ENGINE_MAX_NUM_SEQS");
    unsetenv("AIRLOCK_ENGINE_BLOCK_SIZE");
    unsetenv("AIRLOCK_ENGINE_GENERATION_CONFIG");
    ck_assert_str_eq(config.generation, "/from/the/environment");
    ck_assert_str_eq(config.override_generation, "{\"top_k\": 3}");
    ck_assert_uint_eq(config.max_num_seqs, 7);
    ck_assert_uint_eq(config.block_size, 64);
    ck_assert_uint_eq(config.choices_max, 4);
    ck_assert_uint_eq(config.max_num_batched_tokens, 2048);
    ck_assert(config.served.count == 1 && strcmp(config.served.item[0], "a") == 0);
}
END_TEST

START_TEST(flags_reach_the_engine)
{
    struct engine_options o;
    ck_assert_msg(
        load("--speculative-config={\"method\":\"ngram\",\"num_speculative_tokens\":4,\"prompt_lookup_max\":3}",
             "--pooler-config={\"pooling_type\":\"mean\",\"normalize\":false}", "--runner=pooling"),
        "%s", why);
    config_engine_options(&config, &o);
    ck_assert(o.ngram.tokens == 4 && o.ngram.longest == 3 && o.ngram.least == 3);
    ck_assert(o.embeds && o.pooling == ENGINE_POOLING_MEAN && o.raw_vectors);
    ck_assert_msg(load("--tool-call-parser=pythonic", "--reasoning-parser=qwen3", "--no-enable-auto-tool-choice"), "%s",
                  why);
    config_engine_options(&config, &o);
    ck_assert_str_eq(o.tool_parser, "pythonic");
    ck_assert_str_eq(o.reasoning_parser, "qwen3");
    ck_assert(o.no_auto_tools && !o.embeds && o.ngram.tokens == 0);
    ck_assert_msg(load("--gpu-memory-utilization=0.9", "--dtype=auto", "--enforce-eager"), "%s", why);
    config_engine_options(&config, &o);
    ck_assert_double_eq(o.memory_share, 0.9);
    ck_assert(o.generation == ENGINE_GENERATION_MODEL && !o.override_generation);
    ck_assert_msg(load("--generation-config=vllm", "--override-generation-config={\"top_k\": 1}", NULL), "%s", why);
    config_engine_options(&config, &o);
    ck_assert(o.generation == ENGINE_GENERATION_API);
    ck_assert_str_eq(o.override_generation, "{\"top_k\": 1}");
    ck_assert_msg(load("--generation-config=/etc/model", NULL, NULL), "%s", why);
    config_engine_options(&config, &o);
    ck_assert(o.generation == ENGINE_GENERATION_GIVEN);
}
END_TEST

static const struct {
    const char *flag, *named;
} bad[] = {
    {"--runner=draft", "runner"},
    {"--pooler-config=[1]", "pooler-config"},
    {"--pooler-config={\"pooling_type\":\"MAX\"}", "pooling_type"},
    {"--pooler-config={\"pooling_type\":1}", "pooling_type"},
    {"--pooler-config={\"dimensions\":3}", "dimensions"},
    {"--speculative-config={\"method\":\"eagle\",\"num_speculative_tokens\":2}", "method"},
    {"--speculative-config={\"method\":\"ngram\"}", "num_speculative_tokens"},
    {"--speculative-config={\"method\":\"ngram\",\"num_speculative_tokens\":99}", "num_speculative_tokens"},
    {"--speculative-config={\"method\":\"ngram\",\"num_speculative_tokens\":2,\"prompt_lookup_min\":9,"
     "\"prompt_lookup_max\":3}",
     "prompt_lookup_max"},
    {"--speculative-config={\"method\":\"ngram\",\"num_speculative_tokens\":2,\"model\":\"x\"}", "model"},
    {"--tool-call-parser=x", "tool-call-parser"},
    {"--tool-call-parser=llama4_pythonic", "only hermes, llama3_json, mistral"},
    {"--reasoning-parser=x", "reasoning-parser"},
    {"--gpu-memory-utilization=1.5", "gpu-memory-utilization"},
    {"--gpu-memory-utilization=nan", "gpu-memory-utilization"},
    {"--scheduling-policy=x", "scheduling-policy"},
    {"--override-generation-config=0.6", "override-generation-config"},
    {"--override-generation-config={\"temp\":0.6}", "temp"},
    {"--override-generation-config={\"temperature\":3}", "temperature"},
    {"--seed=x", "seed"},
};

/* What was wrong, and what it takes. */
START_TEST(a_bad_value_says_what_it_takes)
{
    setenv("AIRLOCK_ENGINE_MAX_NUM_SEQS", "9999", 1);
    ck_assert(!load(NULL, NULL, NULL));
    unsetenv("AIRLOCK_ENGINE_MAX_NUM_SEQS");
    ck_assert_str_eq(
        why, "AIRLOCK_ENGINE_MAX_NUM_SEQS: '9999' is not a value for it: it takes a whole number from 1 to 4096");
}
END_TEST

static const struct {
    const char *variable, *said;
} unknown[] = {
    {"AIRLOCK_ENGINE_MAX_NUM_SEQ", "did you mean AIRLOCK_ENGINE_MAX_NUM_SEQS?"},
    {"AIRLOCK_ENGINE_RUNER", "did you mean AIRLOCK_ENGINE_RUNNER?"},
    {"AIRLOCK_ENGINE_max_num_seqs", "did you mean AIRLOCK_ENGINE_MAX_NUM_SEQS?"},
    {"AIRLOCK_ENGINE_QQQQQQQQQQQQQ", "unset it"},
    {"AIRLOCK_ENGINE_", "unset it"},
};

/* A misspelt variable is not ignored; others' variables are none of ours. */
START_TEST(unknown_variables_are_refused_by_name)
{
    setenv("AIRLOCK_ENGINES", "x", 1);
    setenv("AIRLOCK_OTHER_MAX_NUM_SEQ", "x", 1);
    ck_assert_msg(load(NULL, NULL, NULL), "%s", why);
    setenv(unknown[_i].variable, "hidden", 1);
    ck_assert(!load(NULL, NULL, NULL));
    ck_assert_msg(strstr(why, unknown[_i].variable) == why, "%s", why);
    ck_assert_msg(strstr(why, unknown[_i].said) != NULL, "%s", why);
    ck_assert(strstr(why, "hidden") == NULL);
    unsetenv(unknown[_i].variable);
}
END_TEST

START_TEST(bad_values_are_refused_by_name)
{
    ck_assert(!load(bad[_i].flag, NULL, NULL));
    ck_assert_msg(strstr(why, bad[_i].named) != NULL, "\"%s\" does not name \"%s\"", why, bad[_i].named);
}
END_TEST

/* argp's way: a line on standard error and this exit status. */
static const char *const misuse[] = {"--host=0.0.0.0",
                                     "--dtype=float16",
                                     "--tokenizer=x",
                                     "--task=embed",
                                     "--async-scheduling",
                                     "--max-num-seqs=0",
                                     "--block-size=x",
                                     "--what",
                                     "--kv-cache-memory-bytes=lots",
                                     "--swap-space=4"};

START_TEST(misuse_ends_the_program)
{
    (void)load(misuse[_i], NULL, NULL);
}
END_TEST

/* What is printed, and so attested, reads back as the same. */
START_TEST(what_is_in_force_can_be_read_back)
{
    static struct config again;
    struct writer first = writer_with_max(1 << 16), second = writer_with_max(1 << 16);
    ck_assert(load("--pooler-config={\"pooling_type\": \"LAST\"}", "--kv-cache-memory-bytes=4GiB", "--drain-time=2m"));
    config_print(&config, &first);
    ck_assert_msg(config_from_text(&again, writer_span(&first), "printed", why), "%s", why);
    config_print(&again, &second);
    ck_assert(span_equal(writer_span(&first), writer_span(&second)));
    writer_release(&first);
    writer_release(&second);
}
END_TEST

START_TEST(devices_that_are_not_there_are_refused)
{
    struct engine_options o;
    const char *reason;
    ck_assert_msg(load("--device=cpu", NULL, NULL), "%s", why);
    config_engine_options(&config, &o);
    ck_assert(o.device == NULL);
    ck_assert(!load("--device=abacus", NULL, NULL));
    ck_assert(strstr(why, "abacus") && strstr(why, "cpu or cuda"));
    if (kern_device_find("cuda", &reason)) {
        ck_assert_msg(load("--device=cuda", NULL, NULL), "%s", why);
        return;
    }
    ck_assert(!load("--device=cuda", NULL, NULL));
    ck_assert(strstr(why, "built without CUDA") && strstr(why, "WITH_CUDA"));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, devices_that_are_not_there_are_refused);
    tcase_add_test(t, the_later_wins);
    tcase_add_test(t, a_bad_value_says_what_it_takes);
    tcase_add_test(t, flags_reach_the_engine);
    tcase_add_loop_test(t, unknown_variables_are_refused_by_name, 0, (int)(sizeof unknown / sizeof *unknown));
    tcase_add_loop_test(t, bad_values_are_refused_by_name, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_loop_exit_test(t, misuse_ends_the_program, EX_USAGE, 0, (int)(sizeof misuse / sizeof *misuse));
    tcase_add_test(t, what_is_in_force_can_be_read_back);
}

RUN("engine_options", add_tests)
