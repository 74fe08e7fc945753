/* Metrics: bytes there and back, and the Prometheus text. */
#include <stdio.h>

#include "run.h"
#include "tunnel/stats.h"

START_TEST(bytes_come_back)
{
    struct tunnel_stats in = {.requests_running = 3, .steps = UINT64_MAX}, out;
    struct writer w = writer_with_max(TUNNEL_STATS_MAX);
    tunnel_histogram_add(&in.ttft, &tunnel_stats_ttft, 1500);       /* 1.5 ms: the second bucket */
    tunnel_histogram_add(&in.ttft, &tunnel_stats_ttft, UINT32_MAX); /* above all bounds */
    ck_assert(tunnel_stats_pack(&w, &in));
    ck_assert_int_eq(tunnel_stats_parse(&out, writer_span(&w)), READER_OK);
    ck_assert_mem_eq(&in, &out, sizeof in);
    ck_assert_uint_eq(out.ttft.bucket[1], 1);
    ck_assert_int_eq(tunnel_stats_parse(&out, span_of(w.data, w.len - 1)), READER_TRUNCATED);
    writer_u8(&w, 0);
    ck_assert_int_eq(tunnel_stats_parse(&out, writer_span(&w)), READER_TRAILING);
    writer_release(&w);
    memset(&in, 0xff, sizeof in); /* the largest numbers still fit a frame */
    ck_assert(tunnel_stats_pack(&w, &in));
    writer_release(&w);
}
END_TEST

START_TEST(text_has_the_names_that_scalers_read)
{
    static const char *const lines[] = {
        "vllm:num_requests_waiting{model_name=\"a\\\"b\",engine=\"0\"} 5\n",
        "vllm:kv_cache_usage_perc{model_name=\"a\\\"b\",engine=\"0\"} 0.5\n",
        "vllm:request_success_total{model_name=\"a\\\"b\",engine=\"0\",finished_reason=\"length\"} 7\n",
        "# TYPE vllm:request_success_total counter\n",
        "# TYPE vllm:generation_tokens_total counter\n",
        "vllm:time_to_first_token_seconds_bucket{model_name=\"a\\\"b\",engine=\"0\",le=\"0.005\"} 1\n",
        "vllm:time_to_first_token_seconds_bucket{model_name=\"a\\\"b\",engine=\"0\",le=\"+Inf\"} 1\n",
        "vllm:time_to_first_token_seconds_sum{model_name=\"a\\\"b\",engine=\"0\"} 0.0015\n",
        "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"10\",engine=\"0\"} 1\n",
        "airlock:engine_info{model_name=\"a\\\"b\",kernels=\"avx2\",engine=\"0\"} 1\n",
        "airlock:engine_info{model_name=\"a\\\"b\",kernels=\"amx\",engine=\"1\"} 1\n",
        "} 5\nvllm:num_requests_waiting{model_name=\"a\\\"b\",engine=\"1\"} 0\n",
        "# TYPE vllm:request_max_num_generation_tokens histogram\n",
    };
    struct tunnel_stats s = {
        .requests_waiting = 5, .kv_blocks = 10, .kv_blocks_used = 5, .block_tokens = 16, .finished_length = 7};
    const struct tunnel_stats other = {0};
    const struct tunnel_stats_of engines[] = {{&s, "a\"b", "0", span_str("avx2")},
                                              {&other, "a\"b", "1", span_str("amx")}};
    struct writer w = writer_with_max(1 << 20);
    tunnel_histogram_add(&s.ttft, &tunnel_stats_ttft, 1500);
    tunnel_stats_text(&w, engines, 2);
    ck_assert(writer_ok(&w));
    writer_u8(&w, 0);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr((char *)w.data, lines[i]) != NULL, "%s", lines[i]);
    for (char *type = (char *)w.data; (type = strstr(type, "# TYPE ")); type++) { /* a family is announced once */
        char line[128];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(type, "\n"), type);
        ck_assert_msg(!strstr(type + 1, line), "%s", line);
    }
    writer_release(&w);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, bytes_come_back);
    tcase_add_test(t, text_has_the_names_that_scalers_read);
}

RUN("tunnel_stats", add_tests)
