#include "tunnel/stats.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

const struct tunnel_buckets tunnel_stats_ttft = {
    22, true, {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}};
const struct tunnel_buckets tunnel_stats_tpot = {
    19, true, {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}};
const struct tunnel_buckets tunnel_stats_e2e = {
    21, true, {.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}};
const struct tunnel_buckets tunnel_stats_tokens = {
    18, false, {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000}};
const struct tunnel_buckets tunnel_stats_small = {5, false, {1, 2, 5, 10, 20}};

void tunnel_histogram_add(struct tunnel_histogram *h, const struct tunnel_buckets *b, uint64_t value)
{
    double v = b->seconds ? (double)value / 1e6 : (double)value;
    size_t i = 0;
    while (i < b->count && v > b->bound[i])
        i++;
    h->bucket[i]++;
    h->sum += value;
}

/* --- bytes: a list of numbers in the order of the X-macros ------------------------------------------------- */

#define ONE(...) +1
enum {
    NUMBERS = 0 TUNNEL_STATS_GAUGES(ONE) TUNNEL_STATS_COUNTERS(ONE),
    HISTOGRAMS = 0 TUNNEL_STATS_HISTOGRAMS(ONE),
    ALL = NUMBERS + HISTOGRAMS * (1 + TUNNEL_STATS_BUCKETS_MAX),
};

bool tunnel_stats_pack(struct writer *w, const struct tunnel_stats *in)
{
    writer_list(w, ALL);
#define X(field, ...) writer_uint(w, in->field);
    TUNNEL_STATS_GAUGES(X)
    TUNNEL_STATS_COUNTERS(X)
#undef X
#define X(field, ...)                                                                                                  \
    writer_uint(w, in->field.sum);                                                                                     \
    for (size_t i = 0; i < TUNNEL_STATS_BUCKETS_MAX; i++)                                                              \
        writer_uint(w, in->field.bucket[i]);
    TUNNEL_STATS_HISTOGRAMS(X)
#undef X
    return writer_ok(w);
}

enum reader_err tunnel_stats_parse(struct tunnel_stats *out, struct span bytes)
{
    struct reader r = reader_over(bytes);
    reader_list(&r, ALL, ALL);
#define X(field, ...) out->field = reader_uint(&r, 0, UINT64_MAX);
    TUNNEL_STATS_GAUGES(X)
    TUNNEL_STATS_COUNTERS(X)
#undef X
#define X(field, ...)                                                                                                  \
    out->field.sum = reader_uint(&r, 0, UINT64_MAX);                                                                   \
    for (size_t i = 0; i < TUNNEL_STATS_BUCKETS_MAX; i++)                                                              \
        out->field.bucket[i] = reader_uint(&r, 0, UINT64_MAX);
    TUNNEL_STATS_HISTOGRAMS(X)
#undef X
    reader_end(&r);
    return r.err;
}

/* --- Prometheus text ------------------------------------------------------------------------------------------ */

/* Backslash, quote and line feed are the format's only special characters. */
static void put_quoted(struct writer *w, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\\' || text.data[i] == '"')
            writer_u8(w, '\\');
        writer_u8(w, text.data[i] == '\n' ? ' ' : text.data[i]);
    }
}

static void put_labels(struct writer *w, const struct tunnel_stats_of *of, const char *name, const char *value)
{
    writer_str(w, "{model_name=\"");
    put_quoted(w, span_str(of->model));
    writer_str(w, "\",engine=\"");
    put_quoted(w, span_str(of->engine));
    writer_str(w, "\"");
    if (name)
        writer_printf(w, ",%s=\"%s\"", name, value);
    writer_str(w, "} ");
}

static void announce(struct writer *w, const char *name, int len, const char *suffix, const char *help,
                     const char *type)
{
    writer_printf(w, "# HELP %.*s%s %s\n# TYPE %.*s%s %s\n", len, name, suffix, help, len, name, suffix, type);
}

/* A number of `of`, which stands `at` bytes into its stats. */
static uint64_t number_of(const struct tunnel_stats_of *of, size_t at)
{
    uint64_t value;
    memcpy(&value, (const char *)of->stats + at, sizeof value);
    return value;
}

/* "vllm:request_success:stop" is the counter vllm:request_success_total with finished_reason="stop". */
static void put_counter(struct writer *w, const struct tunnel_stats_of *engines, size_t count, const char *name,
                        const char *help, size_t at)
{
    const char *reason = strrchr(name, ':');
    int len = (int)strlen(name);
    if (reason == strchr(name, ':'))
        reason = NULL;
    else
        len = (int)(reason++ - name);
    if (!reason || strcmp(reason, "stop") == 0) /* the first of the family announces it */
        announce(w, name, len, "_total", help, "counter");
    for (size_t i = 0; i < count; i++) {
        writer_printf(w, "%.*s_total", len, name);
        put_labels(w, &engines[i], reason ? "finished_reason" : NULL, reason);
        writer_printf(w, "%" PRIu64 "\n", number_of(&engines[i], at));
    }
}

static void put_gauge(struct writer *w, const struct tunnel_stats_of *engines, size_t count, const char *name,
                      const char *help, size_t at)
{
    announce(w, name, (int)strlen(name), "", help, "gauge");
    for (size_t i = 0; i < count; i++) {
        writer_str(w, name);
        put_labels(w, &engines[i], NULL, NULL);
        writer_printf(w, "%" PRIu64 "\n", number_of(&engines[i], at));
    }
}

static void put_usage(struct writer *w, const struct tunnel_stats_of *engines, size_t count, const char *name,
                      const char *help)
{
    announce(w, name, (int)strlen(name), "", help, "gauge");
    for (size_t i = 0; i < count; i++) {
        const struct tunnel_stats *s = engines[i].stats;
        writer_str(w, name);
        put_labels(w, &engines[i], NULL, NULL);
        writer_printf(w, "%.9g\n", s->kv_blocks ? (double)s->kv_blocks_used / (double)s->kv_blocks : 0);
    }
}

static void put_buckets(struct writer *w, const struct tunnel_stats_of *of, const char *name,
                        const struct tunnel_buckets *b, const struct tunnel_histogram *h)
{
    char bound[32];
    uint64_t below = 0;
    for (size_t i = 0; i <= b->count; i++) {
        below += h->bucket[i];
        if (i < b->count)
            snprintf(bound, sizeof bound, "%.9g", b->bound[i]);
        writer_printf(w, "%s_bucket", name);
        put_labels(w, of, "le", i < b->count ? bound : "+Inf");
        writer_printf(w, "%" PRIu64 "\n", below);
    }
    writer_printf(w, "%s_sum", name);
    put_labels(w, of, NULL, NULL);
    writer_printf(w, "%.9g\n", b->seconds ? (double)h->sum / 1e6 : (double)h->sum);
    writer_printf(w, "%s_count", name);
    put_labels(w, of, NULL, NULL);
    writer_printf(w, "%" PRIu64 "\n", below);
}

static void put_histogram(struct writer *w, const struct tunnel_stats_of *engines, size_t count, const char *name,
                          const char *help, const struct tunnel_buckets *b, size_t at)
{
    struct tunnel_histogram h;
    announce(w, name, (int)strlen(name), "", help, "histogram");
    for (size_t i = 0; i < count; i++) {
        memcpy(&h, (const char *)engines[i].stats + at, sizeof h);
        put_buckets(w, &engines[i], name, b, &h);
    }
}

static void put_infos(struct writer *w, const struct tunnel_stats_of *engines, size_t count)
{
    static const char cache[] = "vllm:cache_config_info", engine[] = "airlock:engine_info";
    announce(w, cache, sizeof cache - 1, "", "The KV cache's configuration", "gauge");
    for (size_t i = 0; i < count; i++) {
        writer_printf(w, "%s{block_size=\"%" PRIu64 "\",num_gpu_blocks=\"%" PRIu64 "\",engine=\"", cache,
                      engines[i].stats->block_tokens, engines[i].stats->kv_blocks);
        put_quoted(w, span_str(engines[i].engine));
        writer_str(w, "\"} 1\n");
    }
    announce(w, engine, sizeof engine - 1, "", "What computes: the path of the kernels", "gauge");
    for (size_t i = 0; i < count; i++) {
        writer_printf(w, "%s{model_name=\"", engine);
        put_quoted(w, span_str(engines[i].model));
        writer_str(w, "\",kernels=\"");
        put_quoted(w, engines[i].kernels);
        writer_str(w, "\",engine=\"");
        put_quoted(w, span_str(engines[i].engine));
        writer_str(w, "\"} 1\n");
    }
}

void tunnel_stats_text(struct writer *w, const struct tunnel_stats_of *engines, size_t count)
{
    if (count == 0)
        return;
#define X(field, name, help) put_gauge(w, engines, count, name, help, offsetof(struct tunnel_stats, field));
    TUNNEL_STATS_GAUGES(X)
#undef X
    put_usage(w, engines, count, "vllm:kv_cache_usage_perc", "Share of the KV cache in use, 1 is all");
    put_usage(w, engines, count, "vllm:gpu_cache_usage_perc", "The same under its older name");
#define X(field, name, help) put_counter(w, engines, count, name, help, offsetof(struct tunnel_stats, field));
    TUNNEL_STATS_COUNTERS(X)
#undef X
#define X(field, name, help, buckets)                                                                                  \
    put_histogram(w, engines, count, name, help, &buckets, offsetof(struct tunnel_stats, field));
    TUNNEL_STATS_HISTOGRAMS(X)
#undef X
    put_infos(w, engines, count);
}
