/* metrics.h - the front door's own counters as Prometheus text. No label comes from a request: routes are the known
 * ones, statuses are classes. Safe from any thread. */
#ifndef PROXY_METRICS_H
#define PROXY_METRICS_H

#include "verifier/base/writer.h"

#include <stdatomic.h>

enum metrics_route {
    METRICS_CHAT,
    METRICS_COMPLETIONS,
    METRICS_RESPONSES,
    METRICS_MODELS,
    METRICS_ATTEST,
    METRICS_EMBEDDINGS,
    METRICS_TOKENIZE,
    METRICS_OTHER,
    METRICS_ROUTES
};
enum { METRICS_BUCKETS = 12 };

struct metrics_histogram {
    atomic_ullong bucket[METRICS_BUCKETS + 1]; /* the last: above all bounds */
    atomic_ullong sum_us;
};

struct metrics {
    atomic_ullong requests[METRICS_ROUTES][6]; /* by status class; [0]: the client left */
    atomic_ullong prompt_tokens, completion_tokens;
    struct metrics_histogram first_token, whole;
};

enum metrics_route metrics_route_of(struct span path);
void metrics_request(struct metrics *m, enum metrics_route route, int status); /* status 0: the client left */
void metrics_observe(struct metrics_histogram *h, uint64_t us);
void metrics_print(const struct metrics *m, struct writer *w);
/* Gauges of this process: resident memory, open descriptors. */
void metrics_print_process(struct writer *w);
void metrics_print_gauge(struct writer *w, const char *name, const char *help, double value);

#endif
