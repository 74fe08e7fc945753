#include "proxy/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

static const double bounds_s[METRICS_BUCKETS] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

static const char *const names[METRICS_ROUTES] = {"chat",   "completions", "responses", "models",
                                                  "attest", "embeddings",  "tokenize",  "other"};

enum metrics_route metrics_route_of(struct span path)
{
    if (span_is(path, "/v1/chat/completions"))
        return METRICS_CHAT;
    if (span_is(path, "/v1/completions"))
        return METRICS_COMPLETIONS;
    if (span_is(path, "/v1/responses"))
        return METRICS_RESPONSES;
    if (path.len >= 10 && memcmp(path.data, "/v1/models", 10) == 0)
        return METRICS_MODELS;
    if (span_is(path, "/.well-known/airlock/attest"))
        return METRICS_ATTEST;
    if (span_is(path, "/v1/embeddings"))
        return METRICS_EMBEDDINGS;
    if (span_is(path, "/tokenize") || span_is(path, "/detokenize"))
        return METRICS_TOKENIZE;
    return METRICS_OTHER;
}

void metrics_request(struct metrics *m, enum metrics_route route, int status)
{
    atomic_fetch_add(&m->requests[route][status >= 100 && status < 600 ? status / 100 : 0], 1);
}

void metrics_observe(struct metrics_histogram *h, uint64_t us)
{
    size_t i = 0;

    while (i < METRICS_BUCKETS && (double)us > bounds_s[i] * 1e6)
        i++;
    atomic_fetch_add(&h->bucket[i], 1);
    atomic_fetch_add(&h->sum_us, us);
}

static void print_histogram(struct writer *w, const char *name, const char *help, const struct metrics_histogram *h)
{
    unsigned long long total = 0;

    writer_printf(w, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (size_t i = 0; i <= METRICS_BUCKETS; i++) {
        total += atomic_load(&h->bucket[i]);
        if (i < METRICS_BUCKETS)
            writer_printf(w, "%s_bucket{le=\"%g\"} %llu\n", name, bounds_s[i], total);
    }
    writer_printf(w, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name, total, name,
                  (double)atomic_load(&h->sum_us) / 1e6, name, total);
}

void metrics_print(const struct metrics *m, struct writer *w)
{
    static const char *const classes[] = {"gone", "1xx", "2xx", "3xx", "4xx", "5xx"};

    writer_str(w, "# HELP airlock_http_requests_total Answers by route and status class\n"
                  "# TYPE airlock_http_requests_total counter\n");
    for (size_t route = 0; route < METRICS_ROUTES; route++)
        for (size_t i = 0; i < 6; i++)
            writer_printf(w, "airlock_http_requests_total{route=\"%s\",status=\"%s\"} %llu\n", names[route], classes[i],
                          (unsigned long long)atomic_load(&m->requests[route][i]));
    writer_printf(w,
                  "# HELP airlock_prompt_tokens_total Prompt tokens of finished requests\n"
                  "# TYPE airlock_prompt_tokens_total counter\nairlock_prompt_tokens_total %llu\n"
                  "# HELP airlock_completion_tokens_total Generated tokens of finished requests\n"
                  "# TYPE airlock_completion_tokens_total counter\nairlock_completion_tokens_total %llu\n",
                  (unsigned long long)atomic_load(&m->prompt_tokens),
                  (unsigned long long)atomic_load(&m->completion_tokens));
    print_histogram(w, "airlock_time_to_first_event_seconds", "From the request to its first event", &m->first_token);
    print_histogram(w, "airlock_request_seconds", "From the request to the end of its answer", &m->whole);
}

void metrics_print_gauge(struct writer *w, const char *name, const char *help, double value)
{
    writer_printf(w, "# HELP %s %s\n# TYPE %s gauge\n%s %.17g\n", name, help, name, name, value);
}

void metrics_print_process(struct writer *w)
{
    unsigned long pages = 0;
    unsigned fds = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    DIR *dir = opendir("/proc/self/fd");

    if (f && fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    while (dir && readdir(dir))
        fds++;
    if (dir)
        closedir(dir);
    metrics_print_gauge(w, "process_resident_memory_bytes", "Resident memory", (double)pages * (double)getpagesize());
    metrics_print_gauge(w, "process_open_fds", "Open file descriptors", fds > 3 ? fds - 3 : 0);
}
