/* Does the engine's log go on over restarts, does a question to keyd carry its index and head, and is a log that was
 * changed refused? */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/node.h"
#include "engine/node_parts.h"
#include "unit/run.h"

static struct node node;
static struct config config;
static char path[] = "/tmp/log-test-XXXXXX";

static bool open_log(void)
{
    node = (struct node){.config = &config, .log_fd = -1};
    return node_log_open(&node);
}

static struct writer read_all(void)
{
    struct writer w = writer_with_max(1 << 16);
    uint8_t piece[4096];
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        writer_bytes(&w, span_of(piece, n));
    fclose(f);
    return w;
}

START_TEST(a_question_carries_the_head)
{
    struct policy_ask first = {0}, second = {0};
    config.log[0] = '\0';
    ck_assert(open_log());
    node_log_ask(&node, &first);
    node_log_ask(&node, &second);
    ck_assert(first.has_log && second.has_log);
    ck_assert_uint_eq(first.log_index, 2);
    ck_assert_uint_eq(second.log_index, 3);
    ck_assert_mem_ne(first.log_head, second.log_head, sizeof first.log_head);
    ck_assert_mem_eq(second.log_head, node.log.head, sizeof second.log_head);
    node_log_close(&node);
}
END_TEST

START_TEST(a_log_goes_on_and_a_changed_one_is_refused)
{
    struct policy_ask ask = {0};
    struct policy_log log;
    bool whole;
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && close(fd) == 0);
    snprintf(config.log, sizeof config.log, "%s", path);
    for (int start = 0; start < 2; start++) {
        ck_assert(open_log());
        node_log_ask(&node, &ask);
        node_log_close(&node);
    }
    struct writer text = read_all();
    policy_log_check(writer_span(&text), &log, &whole);
    ck_assert(whole && log.count == 4 && ask.log_index == 4);
    ck_assert_mem_eq(log.head, ask.log_head, sizeof log.head);
    FILE *f = fopen(path, "w"); /* the first line is gone */
    const uint8_t *second = memchr(text.data, '\n', text.len);
    ck_assert(f && fwrite(second + 1, 1, text.len - (size_t)(second + 1 - text.data), f) > 0 && fclose(f) == 0);
    ck_assert(!open_log());
    ck_assert_int_eq(node.status, NODE_EXIT_START);
    node_log_close(&node);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/null", path), 0); /* nor is a link followed */
    ck_assert(!open_log());
    unlink(path);
    writer_release(&text);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_question_carries_the_head);
    tcase_add_test(t, a_log_goes_on_and_a_changed_one_is_refused);
}

RUN("engine_log", add_tests)
