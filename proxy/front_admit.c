/* front_admit.c - may this request run now? The owner's request rules and the tenant's, quotas, and whether there is
 * anything to run it on. Each refusal is answered here. */
#include "proxy/front_parts.h"

#include "verifier/sha.h"

#include <math.h>
#include <strings.h>

static void refuse_admitted(struct front *f, struct hx_req *r, const struct policy_admitted *a)
{
    struct openai_error e = {0};
    int status = (int)policy_admit_status(a->code);
    const char *type = status == 403   ? "permission_error"
                       : status == 404 ? "not_found_error"
                       : status == 429 ? "rate_limit_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    const char *code = status == 404   ? "model_not_found"
                       : status == 429 ? "rate_limit_exceeded"
                                       : policy_admit_name(a->code);

    openai_error_set(&e, status, type, code, a->field ? a->field : "", "%s", a->text);
    front_error_of(f, r, &e, a->retry_after_s);
}

bool front_admit(struct front *f, struct hx_req *r, const struct front_caller *caller, struct tunnel_request *q,
                 bool sealed)
{
    struct policy_request_facts facts = {
        .endpoint = 1u << q->task, /* one order of tasks and endpoints, checked in tests/unit/test_proxy_front.c */
        .model = q->model,
        .features = tunnel_request_features(q),
        .has_max_tokens = q->has_max_tokens,
        .max_tokens = q->max_tokens,
        .choices = q->n ? q->n : 1,
        .prompts = q->prompt_count ? (uint32_t)q->prompt_count : 1,
        .temperature = isnan(q->temperature) ? POLICY_WITHIN_TEMPERATURE : q->temperature,
        .top_p = isnan(q->top_p) ? POLICY_WITHIN_TOP_P : q->top_p,
        .repetition_penalty = isnan(q->repetition_penalty) ? POLICY_WITHIN_REPETITION : q->repetition_penalty,
        .sealed = sealed,
    };
    struct policy_admitted out = {0};

    if (policy_admit(&caller->rules->policy, caller->tenant, &facts, front_now(f), &out) != POLICY_ADMIT_OK ||
        front_usage_begin(f, caller, &out) != POLICY_ADMIT_OK) {
        refuse_admitted(f, r, &out);
        return false;
    }
    if (!q->has_max_tokens)
        q->max_tokens = out.max_tokens;
    return true;
}

void front_set_salt(const struct front_caller *caller, struct tunnel_request *q, uint8_t salt[32])
{
    struct verifier_hash h;

    if (!caller->tenant || caller->rules->policy.requests.cache != POLICY_CACHE_TENANT) {
        q->salt = span_of(NULL, 0);
        return;
    }
    verifier_hash_begin(&h, VERIFIER_SHA256);
    verifier_hash_add_lp(&h, span_str("airlock cache salt v1"));
    verifier_hash_add_lp(&h, span_of(caller->tenant->cache_salt, sizeof caller->tenant->cache_salt));
    verifier_hash_add_lp(&h, q->salt);
    verifier_hash_finish(&h, salt);
    q->salt = span_of(salt, 32);
}

bool front_is_busy(struct front *f, struct hx_req *r)
{
    struct backend_status status;

    f->config.backend.status(f->config.backend.ctx, &status);
    if (atomic_load(&f->draining))
        front_error(f, r, 503, "draining", NULL, "The service is going down: send the request again elsewhere.");
    else if (!status.leased)
        front_error(f, r, 503, "loading", NULL, "The service is starting: send the request again shortly.");
    else if (status.engines == 0)
        front_error(f, r, 503, "engine_unavailable", NULL, "No engine is admitted now: send it again shortly.");
    else if (atomic_load(&f->jobs) >= f->config.requests_max)
        front_error(f, r, 429, "overloaded", NULL, "Too many requests are waiting: send it again shortly.");
    else
        return false;
    return true;
}

const struct policy_model *front_find_model(struct front *f, struct hx_req *r, const struct front_caller *caller,
                                            struct span name)
{
    const struct policy_model *model = policy_find_model(&caller->rules->policy, name);

    if (!model && name.len == 0)
        front_error(f, r, 400, NULL, "model", "model is required: see /v1/models.");
    else if (!model)
        front_error(f, r, 404, "model_not_found", "model", "The model '%.*s' does not exist: see /v1/models.",
                    (int)(name.len < 100 ? name.len : 100), (const char *)name.data);
    return model;
}

bool front_is_json(struct hx_req *r)
{
    struct span type = hx_req_header(r, "content-type");

    return type.len == 0 || (type.len >= 16 && strncasecmp((const char *)type.data, "application/json", 16) == 0) ||
           (type.len >= 10 && strncasecmp((const char *)type.data, "text/plain", 10) == 0);
}
