/* front.h - the front door of airlock-proxy: OpenAI's HTTP API and the attestation routes over the shim.
 * It authenticates tenants, applies the owner's request rules, turns JSON into internal messages, hands them to the
 * backend for exactly the engines that this connection was shown, and turns events back into JSON or a stream.
 * Every refusal is a JSON error that names what to change (specs/openai-api § 9). Prompts and answers are in no log
 * and in no metric. */
#ifndef PROXY_FRONT_H
#define PROXY_FRONT_H

#include "policy/policy.h"
#include "policy/tenants.h"
#include "proxy/backend.h"
#include "proxy/shim.h"

struct front;

enum { FRONT_ORIGINS_MAX = 8, FRONT_ORIGIN_MAX = 256 };

/* What is behind the door, as functions so that a test can stand in; front_backend_of() gives the real one. Meanings
 * are those of proxy/backend.h. An `allowed_count` of 0 means any admitted engine. */
struct front_backend {
    void *ctx;
    void (*attest)(void *ctx, struct span challenge, struct span spki, const uint8_t exporter[32],
                   backend_attested *done, void *done_ctx);
    void (*attest_sealed)(void *ctx, const uint8_t engine[32], struct span challenge, backend_attested *done,
                          void *done_ctx);
    uint64_t (*submit)(void *ctx, struct span request, const uint8_t (*allowed)[32], size_t allowed_count,
                       const struct backend_events *events, void *events_ctx);
    uint64_t (*submit_sealed)(void *ctx, struct span body, const uint8_t engine[32],
                              const struct backend_events *events, void *events_ctx);
    void (*consumed)(void *ctx, uint64_t id, size_t bytes);
    void (*cancel)(void *ctx, uint64_t id);
    bool (*has_engine)(void *ctx, const uint8_t (*allowed)[32], size_t allowed_count);
    void (*status)(void *ctx, struct backend_status *out);
    bool (*policy)(void *ctx, struct policy *out);
    void (*documents)(void *ctx, struct writer *w);
    void (*metrics)(void *ctx, struct writer *w);
};
struct front_backend front_backend_of(struct backend *b);

struct front_config {
    int listen_fd;
    SSL_CTX *tls;
    bool http2;
    unsigned threads;
    struct hx_limits limits;
    struct front_backend backend;
    unsigned requests_max;          /* requests on engines at once; more is 429 */
    unsigned challenges_per_minute; /* from one address */
    bool metrics_open;              /* GET /metrics without a key */
    size_t origin_count;            /* CORS: allowed origins, "*" for any */
    char origin[FRONT_ORIGINS_MAX][FRONT_ORIGIN_MAX];
};

/* Start serving. NULL with `why` filled. Yours: front_stop(), after the backend has been stopped, so that no callback
 * of it is outstanding. */
struct front *front_start(const struct front_config *config, char why[HX_WHY_MAX]);
void front_stop(struct front *f);
/* Fetch the policy again: to be called when the backend says that something changed. Any thread. */
void front_refresh(struct front *f);
/* Take over the tenants (given away; emptied). Any thread. */
void front_set_tenants(struct front *f, struct policy_tenants *tenants);
/* Refuse new requests, let running ones finish. */
void front_drain(struct front *f);
unsigned front_running(const struct front *f);
uint16_t front_port(const struct front *f);

#endif
