/* stats.h - an engine's metrics as plain numbers, and their bytes on the link.
 * The engine fills them, the proxy prints them as Prometheus text under vLLM's names (specs/engine § Metrics), which
 * autoscalers and dashboards already read. No label or value comes from a request. */
#ifndef TUNNEL_STATS_H
#define TUNNEL_STATS_H

#include "verifier/base/reader.h"
#include "verifier/base/writer.h"

#define TUNNEL_STATS_BUCKETS_MAX 24
#define TUNNEL_STATS_MAX 8192 /* bytes of packed stats: fits one frame */

/* X(field, "name", "help"): present values. */
#define TUNNEL_STATS_GAUGES(X)                                                                                         \
    X(requests_running, "vllm:num_requests_running", "Requests in execution")                                          \
    X(requests_waiting, "vllm:num_requests_waiting", "Requests waiting to be processed")                               \
    X(kv_blocks, "airlock:kv_cache_blocks", "KV-cache blocks there are")                                               \
    X(kv_blocks_used, "airlock:kv_cache_blocks_used", "KV-cache blocks in use by requests")                            \
    X(block_tokens, "airlock:kv_cache_block_tokens", "Tokens of one KV-cache block")                                   \
    X(context_max, "airlock:context_tokens_max", "Positions of one sequence")

/* X(field, "name", "help"): numbers that only rise; the name gets "_total" on the wire. */
#define TUNNEL_STATS_COUNTERS(X)                                                                                       \
    X(preemptions, "vllm:num_preemptions", "Preemptions of running requests")                                          \
    X(prompt_tokens, "vllm:prompt_tokens", "Prompt tokens processed")                                                  \
    X(cached_tokens, "vllm:prompt_tokens_cached", "Prompt tokens taken from the prefix cache")                         \
    X(generation_tokens, "vllm:generation_tokens", "Tokens generated")                                                 \
    X(prefix_queries, "vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache")                      \
    X(prefix_hits, "vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache")                                \
    X(finished_stop, "vllm:request_success:stop", "Requests ended by a stop condition")                                \
    X(finished_length, "vllm:request_success:length", "Requests ended by their length limit")                          \
    X(finished_abort, "vllm:request_success:abort", "Requests cancelled by their client")                              \
    X(finished_error, "vllm:request_success:error", "Requests refused or failed")                                      \
    X(spec_drafts, "vllm:spec_decode_num_drafts", "Guesses of tokens to come")                                         \
    X(spec_draft_tokens, "vllm:spec_decode_num_draft_tokens", "Tokens guessed")                                        \
    X(spec_accepted, "vllm:spec_decode_num_accepted_tokens", "Guessed tokens that were right")                         \
    X(steps, "airlock:engine_steps", "Model steps")

/* X(field, "name", "help", buckets): histograms. Times are kept in microseconds, printed in seconds. */
#define TUNNEL_STATS_HISTOGRAMS(X)                                                                                     \
    X(ttft, "vllm:time_to_first_token_seconds", "Time to the first token", tunnel_stats_ttft)                          \
    X(inter_token, "vllm:inter_token_latency_seconds", "Time between two tokens", tunnel_stats_tpot)                   \
    X(per_output_token, "vllm:time_per_output_token_seconds", "Time between two tokens (older name)",                  \
      tunnel_stats_tpot)                                                                                               \
    X(e2e, "vllm:e2e_request_latency_seconds", "Whole time of a request", tunnel_stats_e2e)                            \
    X(queue, "vllm:request_queue_time_seconds", "Time waiting", tunnel_stats_e2e)                                      \
    X(inference, "vllm:request_inference_time_seconds", "Time running", tunnel_stats_e2e)                              \
    X(prefill, "vllm:request_prefill_time_seconds", "Time from start to first token", tunnel_stats_e2e)                \
    X(decode, "vllm:request_decode_time_seconds", "Time from first to last token", tunnel_stats_e2e)                   \
    X(iteration, "vllm:iteration_tokens_total", "Tokens of one step", tunnel_stats_tokens)                             \
    X(request_prompt, "vllm:request_prompt_tokens", "Prompt tokens of a request", tunnel_stats_tokens)                 \
    X(request_generation, "vllm:request_generation_tokens", "Generated tokens of a request", tunnel_stats_tokens)      \
    X(request_max, "vllm:request_max_num_generation_tokens", "Generated tokens of a request's longest choice",         \
      tunnel_stats_tokens)                                                                                             \
    X(request_per_token, "vllm:request_time_per_output_token_seconds", "Time a token of an answer, without the first", \
      tunnel_stats_tpot)                                                                                               \
    X(request_n, "vllm:request_params_n", "Choices asked for", tunnel_stats_small)                                     \
    X(request_max_tokens, "vllm:request_params_max_tokens", "Tokens asked for", tunnel_stats_tokens)

/* Upper bounds of a histogram's buckets, in seconds or units; the last one, +Inf, is implied. */
struct tunnel_buckets {
    size_t count; /* at most TUNNEL_STATS_BUCKETS_MAX - 1 */
    bool seconds; /* values are microseconds */
    double bound[TUNNEL_STATS_BUCKETS_MAX];
};
extern const struct tunnel_buckets tunnel_stats_ttft, tunnel_stats_tpot, tunnel_stats_e2e, tunnel_stats_tokens,
    tunnel_stats_small;

struct tunnel_histogram {
    uint64_t sum;                              /* microseconds or units */
    uint64_t bucket[TUNNEL_STATS_BUCKETS_MAX]; /* not cumulative; [count] is +Inf */
};

struct tunnel_stats {
#define X(field, name, help) uint64_t field;
    TUNNEL_STATS_GAUGES(X)
    TUNNEL_STATS_COUNTERS(X)
#undef X
#define X(field, name, help, buckets) struct tunnel_histogram field;
    TUNNEL_STATS_HISTOGRAMS(X)
#undef X
};

void tunnel_histogram_add(struct tunnel_histogram *h, const struct tunnel_buckets *b, uint64_t value);

MUST_CHECK bool tunnel_stats_pack(struct writer *w, const struct tunnel_stats *in);
MUST_CHECK enum reader_err tunnel_stats_parse(struct tunnel_stats *out, struct span bytes);
/* One engine's numbers and its labels; all borrowed. `model` must be a served name, `kernels` its statement's (both
 * printable). */
struct tunnel_stats_of {
    const struct tunnel_stats *stats;
    const char *model, *engine;
    struct span kernels;
};
/* Prometheus text of `count` engines: labels model_name and engine, each family in one piece. */
void tunnel_stats_text(struct writer *w, const struct tunnel_stats_of *engines, size_t count);

#endif
