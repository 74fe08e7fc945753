#include "tunnel/stats.h"

#include <inttypes.h>
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

struct labels {
    const char *model, *engine;
};

/* Backslash, quote and line feed are the format's only special characters. */
static void put_quoted(struct writer *w, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            writer_u8(w, '\\');
        writer_u8(w, (uint8_t)(*text == '\n' ? ' ' : *text));
    }
}

static void put_labels(struct writer *w, const struct labels *l, const char *name, const char *value)
{
    writer_str(w, "{model_name=\"");
    put_quoted(w, l->model);
    writer_str(w, "\",engine=\"");
    put_quoted(w, l->engine);
    writer_str(w, "\"");
    if (name)
        writer_printf(w, ",%s=\"%s\"", name, value);
    writer_str(w, "} ");
}

/* "vllm:request_success:stop" is the counter vllm:request_success_total with finished_reason="stop". */
static void put_counter(struct writer *w, const struct labels *l, const char *name, const char *help, uint64_t value)
{
    const char *reason = strrchr(name, ':');
    int len = (int)strlen(name);
    if (reason == strchr(name, ':'))
        reason = NULL;
    else
        len = (int)(reason++ - name);
    if (!reason || strcmp(reason, "stop") == 0) /* the first of the family announces it */
        writer_printf(w, "# HELP %.*s_total %s\n# TYPE %.*s_total counter\n", len, name, help, len, name);
    writer_printf(w, "%.*s_total", len, name);
    put_labels(w, l, reason ? "finished_reason" : NULL, reason);
    writer_printf(w, "%" PRIu64 "\n", value);
}

static void put_gauge(struct writer *w, const struct labels *l, const char *name, const char *help, double value)
{
    writer_printf(w, "# HELP %s %s\n# TYPE %s gauge\n%s", name, help, name, name);
    put_labels(w, l, NULL, NULL);
    writer_printf(w, "%.9g\n", value);
}

static void put_histogram(struct writer *w, const struct labels *l, const char *name, const char *help,
                          const struct tunnel_buckets *b, const struct tunnel_histogram *h)
{
    char suffixed[128], bound[32];
    uint64_t below = 0;
    writer_printf(w, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (size_t i = 0; i <= b->count; i++) {
        below += h->bucket[i];
        if (i < b->count)
            snprintf(bound, sizeof bound, "%.9g", b->bound[i]);
        snprintf(suffixed, sizeof suffixed, "%s_bucket", name);
        writer_str(w, suffixed);
        put_labels(w, l, "le", i < b->count ? bound : "+Inf");
        writer_printf(w, "%" PRIu64 "\n", below);
    }
    writer_printf(w, "%s_sum", name);
    put_labels(w, l, NULL, NULL);
    writer_printf(w, "%.9g\n", b->seconds ? (double)h->sum / 1e6 : (double)h->sum);
    writer_printf(w, "%s_count", name);
    put_labels(w, l, NULL, NULL);
    writer_printf(w, "%" PRIu64 "\n", below);
}

void tunnel_stats_text(struct writer *w, const struct tunnel_stats *s, const char *model, const char *engine)
{
    const struct labels l = {model, engine};
    double used = s->kv_blocks ? (double)s->kv_blocks_used / (double)s->kv_blocks : 0;
#define X(field, name, help) put_gauge(w, &l, name, help, (double)s->field);
    TUNNEL_STATS_GAUGES(X)
#undef X
    put_gauge(w, &l, "vllm:kv_cache_usage_perc", "Share of the KV cache in use, 1 is all", used);
    put_gauge(w, &l, "vllm:gpu_cache_usage_perc", "The same under its older name", used);
#define X(field, name, help) put_counter(w, &l, name, help, s->field);
    TUNNEL_STATS_COUNTERS(X)
#undef X
#define X(field, name, help, buckets) put_histogram(w, &l, name, help, &buckets, &s->field);
    TUNNEL_STATS_HISTOGRAMS(X)
#undef X
    writer_printf(w,
                  "# HELP vllm:cache_config_info The KV cache's configuration\n# TYPE vllm:cache_config_info gauge\n"
                  "vllm:cache_config_info{block_size=\"%" PRIu64 "\",num_gpu_blocks=\"%" PRIu64 "\",engine=\"",
                  s->block_tokens, s->kv_blocks);
    put_quoted(w, engine);
    writer_str(w, "\"} 1\n");
}
