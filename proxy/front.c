/* front.c - start and stop of the front door, its routes, who may pass, and how it says no. */
#include "proxy/front_parts.h"

#include "verifier/base/secret.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

/* --- rules and tenants in force ------------------------------------------------------------------- */

static void rules_release(struct front_rules *r)
{
    if (r && atomic_fetch_sub(&r->refs, 1) == 1)
        free(r);
}

static void tenants_release(struct front_tenants *t)
{
    if (t && atomic_fetch_sub(&t->refs, 1) == 1) {
        policy_tenants_release(&t->list);
        free(t);
    }
}

void front_refresh(struct front *f)
{
    struct front_rules *fresh = calloc(1, sizeof *fresh), *old;

    if (!fresh)
        return;
    atomic_init(&fresh->refs, 1);
    fresh->has_policy = f->config.backend.policy(f->config.backend.ctx, &fresh->policy);
    pthread_mutex_lock(&f->lock);
    old = f->rules;
    f->rules = fresh;
    pthread_mutex_unlock(&f->lock);
    rules_release(old);
}

void front_set_tenants(struct front *f, struct policy_tenants *tenants)
{
    struct front_tenants *fresh = calloc(1, sizeof *fresh), *old;

    if (!fresh)
        return;
    atomic_init(&fresh->refs, 1);
    fresh->list = *tenants;
    *tenants = (struct policy_tenants){0};
    pthread_mutex_lock(&f->lock);
    old = f->tenants;
    f->tenants = fresh;
    pthread_mutex_unlock(&f->lock);
    tenants_release(old);
}

uint64_t front_now(struct front *f)
{
    struct backend_status status;

    f->config.backend.status(f->config.backend.ctx, &status);
    return status.now;
}

/* --- who asks --------------------------------------------------------------------------------------- */

static struct span bearer_of(struct span authorization)
{
    if (authorization.len < 7 || strncasecmp((const char *)authorization.data, "bearer ", 7) != 0)
        return span_of(NULL, 0);
    authorization.data += 7, authorization.len -= 7;
    while (authorization.len > 0 && authorization.data[0] == ' ')
        authorization.data++, authorization.len--;
    while (authorization.len > 0 && authorization.data[authorization.len - 1] == ' ')
        authorization.len--;
    return authorization;
}

bool front_caller_find(struct front *f, struct span authorization, uint64_t now, struct front_caller *out)
{
    struct span bearer = bearer_of(authorization);

    *out = (struct front_caller){0};
    pthread_mutex_lock(&f->lock);
    out->rules = f->rules;
    out->tenants = f->tenants;
    if (out->rules)
        atomic_fetch_add(&out->rules->refs, 1);
    if (out->tenants)
        atomic_fetch_add(&out->tenants->refs, 1);
    pthread_mutex_unlock(&f->lock);
    if (!out->rules || !out->rules->has_policy)
        return false;
    if (out->rules->policy.tenants.key_count == 0) /* the owner's policy names no authority: no keys are configured */
        return true;
    if (!out->tenants || bearer.len == 0)
        return false;
    out->tenant = policy_tenants_find(&out->tenants->list, bearer, now);
    return out->tenant != NULL;
}

void front_caller_release(struct front_caller *c)
{
    rules_release(c->rules);
    tenants_release(c->tenants);
    *c = (struct front_caller){0};
}

/* --- answers ---------------------------------------------------------------------------------------- */

static void error_body(int status, const char *message, char *out, size_t cap)
{
    struct openai_error e = {0};
    struct writer w = writer_with_max(cap - 1);
    const char *code = status == 413 || status == 431 ? "request_too_large" : status == 503 ? "overloaded" : NULL;

    openai_error_set(&e, status, openai_error_type(status), code, "", "%s", message);
    openai_error_encode(&w, &e);
    memcpy(out, writer_span(&w).data ? (const char *)writer_span(&w).data : "{}", writer_ok(&w) ? w.len : 0);
    out[writer_ok(&w) ? w.len : 0] = 0;
    writer_release(&w);
}

/* Nothing from a request is written but the known name of its route. */
void front_count(struct front *f, struct hx_req *r, int status)
{
    enum metrics_route route = metrics_route_of(hx_req_path(r));

    metrics_request(&f->metrics, route, status);
    metrics_observe(&f->metrics.whole, hx_req_age_ms(r) * 1000);
}

size_t front_cors(struct front *f, struct hx_req *r, struct hx_header out[2])
{
    struct span origin = hx_req_header(r, "origin");

    for (size_t i = 0; origin.data && i < f->config.origin_count; i++) {
        if (!span_is(origin, f->config.origin[i]) && strcmp(f->config.origin[i], "*") != 0)
            continue;
        out[0] = (struct hx_header){"access-control-allow-origin", f->config.origin[i]};
        out[1] = (struct hx_header){"vary", "origin"};
        return 2;
    }
    return 0;
}

void front_answer(struct front *f, struct hx_req *r, int status, const char *type, struct span body)
{
    struct hx_header more[2];
    size_t count = front_cors(f, r, more);

    front_count(f, r, status);
    hx_answer(r, status, type, body, more, count);
}

void front_error_of(struct front *f, struct hx_req *r, const struct openai_error *e, unsigned retry_after_s)
{
    struct writer w = writer_with_max(16 << 10);
    struct hx_header more[5];
    size_t count = front_cors(f, r, more);
    char seconds[16];

    if (e->status == 429 || e->status == 503) {
        snprintf(seconds, sizeof seconds, "%u", retry_after_s ? retry_after_s : 1);
        more[count++] = (struct hx_header){"retry-after", seconds};
    }
    if (e->status == 401)
        more[count++] = (struct hx_header){"www-authenticate", "Bearer"};
    openai_error_encode(&w, e);
    front_count(f, r, e->status);
    hx_answer(r, e->status, "application/json", writer_span(&w), more, count);
    writer_release(&w);
}

void front_error(struct front *f, struct hx_req *r, int status, const char *code, const char *param, const char *format,
                 ...)
{
    struct openai_error e = {0};
    char message[sizeof e.message];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    openai_error_set(&e, status, openai_error_type(status), code, param ? param : "", "%s", message);
    front_error_of(f, r, &e, 1);
}

struct front_conn *front_conn_of(struct hx_req *r, bool create)
{
    struct front_conn *c = hx_conn_data(hx_req_conn(r));

    if (!c && create && (c = calloc(1, sizeof *c)))
        hx_conn_set_data(hx_req_conn(r), c);
    return c;
}

static void on_conn_gone(void *ctx, void *data)
{
    (void)ctx;
    free(data);
}

/* --- routes ----------------------------------------------------------------------------------------- */

enum route {
    ROUTE_NONE,
    ROUTE_ATTEST,
    ROUTE_POLICY,
    ROUTE_MODELS,
    ROUTE_CHAT,
    ROUTE_COMPLETIONS,
    ROUTE_RESPONSES,
    ROUTE_EMBEDDINGS,
    ROUTE_TOKENIZE,
    ROUTE_DETOKENIZE,
    ROUTE_HEALTH,
    ROUTE_PING,
    ROUTE_VERSION,
    ROUTE_METRICS
};

static const struct {
    const char *path;
    enum route route;
    bool post, open;
} routes[] = {
    {"/.well-known/airlock/attest", ROUTE_ATTEST, true, true},
    {"/.well-known/airlock/policy", ROUTE_POLICY, false, true},
    {"/v1/models", ROUTE_MODELS, false, false},
    {"/v1/chat/completions", ROUTE_CHAT, true, false},
    {"/v1/completions", ROUTE_COMPLETIONS, true, false},
    {"/v1/responses", ROUTE_RESPONSES, true, false},
    {"/v1/embeddings", ROUTE_EMBEDDINGS, true, false},
    {"/tokenize", ROUTE_TOKENIZE, true, false},
    {"/detokenize", ROUTE_DETOKENIZE, true, false},
    {"/health", ROUTE_HEALTH, false, true},
    {"/ping", ROUTE_PING, false, true},
    {"/version", ROUTE_VERSION, false, true},
    {"/metrics", ROUTE_METRICS, false, false},
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

static size_t find_route(struct span path)
{
    for (size_t i = 0; i < ROUTES; i++)
        if (span_is(path, routes[i].path))
            return i;
    if (path.len > 11 && memcmp(path.data, "/v1/models/", 11) == 0)
        return find_route(span_str("/v1/models"));
    return ROUTES;
}

static bool is_open(const struct front *f, size_t route)
{
    return routes[route].open || (routes[route].route == ROUTE_METRICS && f->config.metrics_open);
}

static const char *unauthorized_text(struct span authorization)
{
    return authorization.len ? "Incorrect API key provided: check the key that is sent as 'Authorization: Bearer KEY'."
                             : "No API key was sent: use the header 'Authorization: Bearer KEY'.";
}

/* A proxy without a policy in force cannot tell who may pass: that is our state, not the caller's mistake. */
static bool authorize(struct front *f, struct hx_req *r, struct front_caller *caller)
{
    struct span authorization = hx_req_header(r, "authorization");

    if (front_caller_find(f, authorization, front_now(f), caller))
        return true;
    if (!caller->rules || !caller->rules->has_policy)
        front_error(f, r, 503, "loading", NULL, "The service is starting: no policy is in force yet.");
    else
        front_error(f, r, 401, "invalid_api_key", NULL, "%s", unauthorized_text(authorization));
    front_caller_release(caller);
    return false;
}

static void dispatch(struct front *f, struct hx_req *r, enum route route)
{
    struct front_caller caller = {0};

    switch (route) {
    case ROUTE_ATTEST:
        front_attest(f, r);
        return;
    case ROUTE_POLICY:
        front_policy(f, r);
        return;
    case ROUTE_HEALTH:
        front_health(f, r);
        return;
    case ROUTE_PING:
        front_ping(f, r);
        return;
    case ROUTE_VERSION:
        front_version(f, r);
        return;
    case ROUTE_METRICS:
        if (f->config.metrics_open || authorize(f, r, &caller))
            front_metrics(f, r);
        break;
    case ROUTE_MODELS:
        if (authorize(f, r, &caller))
            front_models(f, r, &caller);
        break;
    default: {
        static const enum tunnel_task tasks[] = {
            [ROUTE_CHAT] = TUNNEL_CHAT,         [ROUTE_COMPLETIONS] = TUNNEL_COMPLETION,
            [ROUTE_RESPONSES] = TUNNEL_CHAT,    [ROUTE_EMBEDDINGS] = TUNNEL_EMBED,
            [ROUTE_TOKENIZE] = TUNNEL_TOKENIZE, [ROUTE_DETOKENIZE] = TUNNEL_DETOKENIZE};
        if (!authorize(f, r, &caller))
            break;
        if (span_is(hx_req_header(r, "content-type"), "application/airlock-sealed"))
            front_infer_sealed(f, r, &caller);
        else
            front_infer(f, r, tasks[route], route == ROUTE_RESPONSES, &caller);
        return;
    }
    }
    front_caller_release(&caller);
}

static void preflight(struct front *f, struct hx_req *r)
{
    struct hx_header more[5];
    size_t count = front_cors(f, r, more);

    if (count > 0) {
        more[count++] = (struct hx_header){"access-control-allow-methods", "GET, POST, OPTIONS"};
        more[count++] = (struct hx_header){"access-control-allow-headers", "authorization, content-type"};
        more[count++] = (struct hx_header){"access-control-max-age", "600"};
    }
    front_count(f, r, 204);
    hx_answer(r, 204, NULL, span_of(NULL, 0), more, count);
}

static void wrong_method(struct front *f, struct hx_req *r, bool post)
{
    struct openai_error e = {0};
    struct writer w = writer_with_max(4096);
    struct hx_header allow = {"allow", post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS"};

    openai_error_set(&e, 405, openai_error_type(405), NULL, "", "This route takes %s.", post ? "POST" : "GET");
    openai_error_encode(&w, &e);
    front_count(f, r, 405);
    hx_answer(r, 405, "application/json", writer_span(&w), &allow, 1);
    writer_release(&w);
}

static void on_request(void *ctx, struct hx_req *r)
{
    struct front *f = ctx;
    struct span method = hx_req_method(r);
    size_t i = find_route(hx_req_path(r));
    bool get = span_is(method, "GET") || span_is(method, "HEAD");

    if (span_is(method, "OPTIONS"))
        preflight(f, r);
    else if (i == ROUTES)
        front_error(f, r, 404, NULL, NULL, "There is no such route: see /v1/models and /v1/chat/completions.");
    else if (routes[i].post ? !span_is(method, "POST") : !get)
        wrong_method(f, r, routes[i].post);
    else
        dispatch(f, r, routes[i].route);
}

/* Before the body has arrived: no key, no bytes. */
static bool on_early(void *ctx, const struct hx_early *in, struct hx_refusal *out)
{
    struct front *f = ctx;
    struct front_caller caller;
    size_t i = find_route(in->path);
    bool refused;

    if (i == ROUTES || is_open(f, i) || span_is(in->method, "OPTIONS"))
        return false;
    refused =
        !front_caller_find(f, in->authorization, front_now(f), &caller) && caller.rules && caller.rules->has_policy;
    front_caller_release(&caller);
    if (!refused)
        return false;
    out->status = 401;
    out->header = (struct hx_header){"www-authenticate", "Bearer"};
    struct openai_error e = {0};
    struct writer w = writer_with_max(sizeof out->body - 1);
    openai_error_set(&e, 401, openai_error_type(401), "invalid_api_key", "", "%s",
                     unauthorized_text(in->authorization));
    openai_error_encode(&w, &e);
    snprintf(out->body, sizeof out->body, "%.*s", (int)writer_span(&w).len, (const char *)writer_span(&w).data);
    writer_release(&w);
    metrics_request(&f->metrics, metrics_route_of(in->path), 401);
    return true;
}

/* --- quotas ----------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct front_usage *usage_of(struct front *f, const char *tenant)
{
    struct front_usage *u = f->usage;

    while (u && strcmp(u->name, tenant) != 0)
        u = u->next;
    if (!u && (u = calloc(1, sizeof *u))) {
        snprintf(u->name, sizeof u->name, "%s", tenant);
        u->next = f->usage;
        f->usage = u;
    }
    return u;
}

enum policy_admit_code front_usage_begin(struct front *f, const struct front_caller *caller,
                                         struct policy_admitted *out)
{
    enum policy_admit_code code = POLICY_ADMIT_OK;
    struct front_usage *u;

    if (!caller->tenant)
        return POLICY_ADMIT_OK;
    pthread_mutex_lock(&f->lock);
    u = usage_of(f, caller->tenant->name);
    if (u)
        code = policy_usage_begin(&u->usage, &caller->rules->policy, caller->tenant, now_ms(), out);
    pthread_mutex_unlock(&f->lock);
    return code;
}

void front_usage_end(struct front *f, const char *tenant, uint64_t tokens)
{
    struct front_usage *u;

    if (!tenant[0])
        return;
    pthread_mutex_lock(&f->lock);
    u = usage_of(f, tenant);
    if (u)
        policy_usage_end(&u->usage, tokens);
    pthread_mutex_unlock(&f->lock);
}

/* --- life ------------------------------------------------------------------------------------------- */

struct front *front_start(const struct front_config *config, char why[HX_WHY_MAX])
{
    struct front *f = calloc(1, sizeof *f);
    struct hx_config server = {
        .listen_fd = config->listen_fd,
        .tls = config->tls,
        .http2 = config->http2,
        .threads = config->threads,
        .limits = config->limits,
        .handler =
            {.ctx = f, .request = on_request, .early = on_early, .conn_gone = on_conn_gone, .error_body = error_body},
    };

    if (!f) {
        snprintf(why, HX_WHY_MAX, "out of memory");
        return NULL;
    }
    f->config = *config;
    pthread_mutex_init(&f->lock, NULL);
    front_refresh(f);
    f->server = hx_start(&server, why);
    if (f->server)
        return f;
    front_stop(f);
    return NULL;
}

void front_drain(struct front *f)
{
    atomic_store(&f->draining, true);
    hx_drain(f->server);
}

unsigned front_running(const struct front *f)
{
    return hx_running(f->server);
}

uint16_t front_port(const struct front *f)
{
    return hx_port(f->server);
}

void front_stop(struct front *f)
{
    if (!f)
        return;
    hx_stop(f->server);
    rules_release(f->rules);
    tenants_release(f->tenants);
    for (struct front_usage *u = f->usage, *next; u; u = next) {
        next = u->next;
        free(u);
    }
    pthread_mutex_destroy(&f->lock);
    free(f);
}
