/* front_parts.h - the inside of the front door, shared by front*.c alone. */
#ifndef PROXY_FRONT_PARTS_H
#define PROXY_FRONT_PARTS_H

#include "proxy/front.h"
#include "proxy/metrics.h"
#include "tunnel/openai_responses.h"
#include "tunnel/source.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    FRONT_PATIENCE_MS = 15000,  /* before the first event: then the stream opens with a comment */
    FRONT_KEEP_ALIVE_MS = 2000, /* between events: half of what airlock connect waits (CONNECT_SILENCE_MS) */
    FRONT_ENVELOPE_MAX = 1 << 20,
    FRONT_CHALLENGE_MAX = 4096,
    FRONT_BUDGETS = 4096, /* addresses whose challenges are counted */
    FRONT_SEALED_MAX = 33 << 20,
};

/* The rules in force, as one unchanging whole: a request holds the one it started with. */
struct front_rules {
    atomic_uint refs;
    bool has_policy;
    struct policy policy;
};
struct front_tenants {
    atomic_uint refs;
    struct policy_tenants list;
};

struct front_usage {
    struct front_usage *next;
    char name[POLICY_TENANT_NAME_MAX + 1];
    struct policy_usage usage;
};

struct front_budget {
    uint8_t source[TUNNEL_SOURCE_LEN];
    uint64_t refilled_ms;
    double left;
};

struct front {
    struct front_config config;
    struct hx_server *server;
    atomic_bool draining;
    atomic_uint jobs;
    pthread_mutex_t lock; /* of everything below */
    struct front_rules *rules;
    struct front_tenants *tenants; /* NULL: no tenants file */
    struct front_usage *usage;
    struct front_budget budget[FRONT_BUDGETS];
    struct metrics metrics; /* has its own atomics */
};

/* What a connection was shown. On its loop's thread. */
struct front_conn {
    bool attested;
    size_t shown_count;
    uint8_t shown[BACKEND_SHOWN_MAX][32];
};

/* Who asks. `tenant` borrows from `tenants`, which is held. */
struct front_caller {
    struct front_rules *rules;
    struct front_tenants *tenants;
    const struct policy_tenant *tenant; /* NULL: keys are not configured */
};
/* False: a key is needed and was not given or is wrong. Always front_caller_release(). */
bool front_caller_find(struct front *f, struct span authorization, uint64_t now, struct front_caller *out);
void front_caller_release(struct front_caller *c);
uint64_t front_now(struct front *f); /* trusted seconds */

/* Answers. `format` is cut to fit. */
void front_error(struct front *f, struct hx_req *r, int status, const char *code, const char *param, const char *format,
                 ...) __attribute__((format(printf, 6, 7)));
void front_error_of(struct front *f, struct hx_req *r, const struct openai_error *e, unsigned retry_after_s);
void front_answer(struct front *f, struct hx_req *r, int status, const char *type, struct span body);
/* Counts and logs a finished answer: no content. */
void front_count(struct front *f, struct hx_req *r, int status);
size_t front_cors(struct front *f, struct hx_req *r, struct hx_header out[2]);

/* The connection's record, made when `create`; NULL when absent or memory is short. */
struct front_conn *front_conn_of(struct hx_req *r, bool create);

/* Routes: each answers, now or later. */
void front_attest(struct front *f, struct hx_req *r);
void front_policy(struct front *f, struct hx_req *r);
void front_models(struct front *f, struct hx_req *r, struct front_caller *caller);
void front_health(struct front *f, struct hx_req *r);
void front_ping(struct front *f, struct hx_req *r);
void front_version(struct front *f, struct hx_req *r);
void front_metrics(struct front *f, struct hx_req *r);
/* Takes over what `caller` holds. */
void front_infer(struct front *f, struct hx_req *r, enum tunnel_task task, bool as_responses,
                 struct front_caller *caller);
void front_infer_sealed(struct front *f, struct hx_req *r, struct front_caller *caller);

/* The engines' context length, or the policy's when that is less; 0: neither is known. */
uint64_t front_context_max(struct front *f, const struct policy *p);

/* Admission (front_admit.c): each returns false, or true for front_is_busy(), after it has answered. */
bool front_is_busy(struct front *f, struct hx_req *r);
bool front_is_json(struct hx_req *r); /* its body says so; does not answer */
const struct policy_model *front_find_model(struct front *f, struct hx_req *r, const struct front_caller *caller,
                                            struct span name);
/* Takes one request from the tenant's quota: front_usage_end() when it is over. `sealed`: `q` is what a head shows. */
bool front_admit(struct front *f, struct hx_req *r, const struct front_caller *caller, struct tunnel_request *q,
                 bool sealed);
/* Requests share cached prefixes only inside one tenant, and then only under the same cache_salt of their own; without
 * tenants nobody shares with anybody. `q` borrows `salt`. Does not answer. */
void front_set_salt(const struct front_caller *caller, struct tunnel_request *q, uint8_t salt[32]);

/* Quotas of a tenant. */
enum policy_admit_code front_usage_begin(struct front *f, const struct front_caller *caller,
                                         struct policy_admitted *out);
void front_usage_end(struct front *f, const char *tenant, uint64_t tokens);

#endif
