/* admit.c - request rules in the order endpoint, model, features, context, output, sampling; then quotas. */
#include "policy/admit.h"

#include <stdarg.h>
#include <stdio.h>

#include "policy/policy.h"

#define MINUTE_MS 60000

static const struct {
    const char *name;
    unsigned status;
} codes[] = {
    [POLICY_ADMIT_OK] = {"ok", 200},
    [POLICY_ADMIT_NO_POLICY] = {"no_policy", 503},
    [POLICY_ADMIT_ENDPOINT] = {"endpoint_not_offered", 404},
    [POLICY_ADMIT_TENANT_ENDPOINT] = {"endpoint_not_allowed", 403},
    [POLICY_ADMIT_MODEL] = {"model_not_found", 404},
    [POLICY_ADMIT_TENANT_MODEL] = {"model_not_allowed", 403},
    [POLICY_ADMIT_FEATURE] = {"feature_not_offered", 400},
    [POLICY_ADMIT_TENANT_FEATURE] = {"feature_not_allowed", 403},
    [POLICY_ADMIT_CONTEXT] = {"context_length_exceeded", 400},
    [POLICY_ADMIT_OUTPUT] = {"max_tokens_exceeded", 400},
    [POLICY_ADMIT_CHOICES] = {"too_many_choices", 400},
    [POLICY_ADMIT_TEMPERATURE] = {"temperature_out_of_bounds", 400},
    [POLICY_ADMIT_TOP_P] = {"top_p_out_of_bounds", 400},
    [POLICY_ADMIT_REPETITION] = {"repetition_penalty_out_of_bounds", 400},
    [POLICY_ADMIT_TENANT_EXPIRED] = {"tenant_expired", 403},
    [POLICY_ADMIT_REQUESTS] = {"requests_per_minute_exceeded", 429},
    [POLICY_ADMIT_TOKENS] = {"tokens_per_minute_exceeded", 429},
    [POLICY_ADMIT_CONCURRENT] = {"too_many_concurrent_requests", 429},
};

const char *policy_admit_name(enum policy_admit_code code)
{
    return codes[code].name;
}

unsigned policy_admit_status(enum policy_admit_code code)
{
    return codes[code].status;
}

__attribute__((format(printf, 4, 5))) static enum policy_admit_code
refuse(struct policy_admitted *out, enum policy_admit_code code, const char *field, const char *format, ...)
{
    va_list args;
    out->code = code;
    out->field = field;
    va_start(args, format);
    vsnprintf(out->text, sizeof out->text, format, args);
    va_end(args);
    return code;
}

/* The smaller of two limits of which 0 means none. */
static uint32_t tighter(uint32_t a, uint32_t b)
{
    return a == 0 ? b : b == 0 || a < b ? a : b;
}

static bool answers(const struct policy_request_facts *f)
{
    return f->endpoint == POLICY_CHAT || f->endpoint == POLICY_COMPLETIONS;
}

static enum policy_admit_code check_endpoint(const struct policy *p, const struct policy_tenant *t,
                                             const struct policy_request_facts *f, struct policy_admitted *out)
{
    if (!(p->requests.endpoints & f->endpoint))
        return refuse(out, POLICY_ADMIT_ENDPOINT, NULL, "The owner's policy does not offer this endpoint.");
    if (t && !(t->endpoints & f->endpoint))
        return refuse(out, POLICY_ADMIT_TENANT_ENDPOINT, NULL, "This API key may not use this endpoint.");
    return POLICY_ADMIT_OK;
}

static bool tenant_has_model(const struct policy_tenant *t, const struct policy_model *m)
{
    for (size_t i = 0; i < t->model_count; i++)
        if (strcmp(t->model[i], m->name) == 0)
            return true;
    return t->model_count == 0;
}

static enum policy_admit_code check_model(const struct policy *p, const struct policy_tenant *t,
                                          const struct policy_request_facts *f, struct policy_admitted *out)
{
    if (f->endpoint == POLICY_MODELS)
        return POLICY_ADMIT_OK;
    const struct policy_model *m = policy_find_model(p, f->model);
    if (!m)
        return refuse(out, POLICY_ADMIT_MODEL, "model",
                      "The owner's policy has no such model; GET /v1/models lists "
                      "what there is.");
    if (t && !tenant_has_model(t, m))
        return refuse(out, POLICY_ADMIT_TENANT_MODEL, "model", "This API key may not use this model.");
    return POLICY_ADMIT_OK;
}

/* The API's field for the lowest feature bit in `bits`. */
static const char *feature_field(uint32_t bits)
{
    static const char *const fields[] = {"stream",
                                         "tools",
                                         "logprobs",
                                         "prompt_logprobs",
                                         "response_format",
                                         "response_format",
                                         "guided_regex",
                                         "guided_grammar",
                                         "guided_choice",
                                         "echo",
                                         "seed",
                                         "logit_bias",
                                         "prompt",
                                         "chat_template_kwargs"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (bits >> i & 1)
            return fields[i];
    return NULL;
}

static enum policy_admit_code check_features(const struct policy *p, const struct policy_tenant *t,
                                             const struct policy_request_facts *f, struct policy_admitted *out)
{
    uint32_t missing = f->features & ~p->requests.features;
    if (missing)
        return refuse(out, POLICY_ADMIT_FEATURE, feature_field(missing), "The owner's policy does not allow \"%s\".",
                      feature_field(missing));
    missing = t ? f->features & ~t->features : 0;
    if (missing)
        return refuse(out, POLICY_ADMIT_TENANT_FEATURE, feature_field(missing), "This API key may not use \"%s\".",
                      feature_field(missing));
    missing = t && f->sealed ? p->requests.features & ~t->features & ~(uint32_t)POLICY_STREAM : 0;
    if (missing)
        return refuse(out, POLICY_ADMIT_TENANT_FEATURE, NULL,
                      "This API key may not use \"%s\", and a sealed request hides whether it does: send it in plain "
                      "mode, or ask for a key without that bound.",
                      feature_field(missing));
    return POLICY_ADMIT_OK;
}

/* What an answer without a limit of its own may have; 0 = as much as the model can. */
static uint32_t most_output(const struct policy *p, const struct policy_tenant *t, const struct policy_request_facts *f)
{
    uint32_t context = tighter(p->requests.max_context, t ? t->max_context : 0);
    uint32_t output = tighter(p->requests.max_output, t ? t->max_output : 0);
    return answers(f) && context ? tighter(output, context - f->prompt_tokens) : output;
}

static enum policy_admit_code check_length(const struct policy *p, const struct policy_tenant *t,
                                           const struct policy_request_facts *f, struct policy_admitted *out)
{
    uint32_t context = tighter(p->requests.max_context, t ? t->max_context : 0);
    uint32_t output = tighter(p->requests.max_output, t ? t->max_output : 0);
    uint64_t asked = (uint64_t)f->prompt_tokens + (f->has_max_tokens ? f->max_tokens : answers(f));

    if (f->has_max_tokens && output && f->max_tokens > output)
        return refuse(out, POLICY_ADMIT_OUTPUT, "max_tokens", "max_tokens is %u; at most %u are allowed.",
                      f->max_tokens, output);
    if (context && asked > context)
        return refuse(out, POLICY_ADMIT_CONTEXT, f->prompt_tokens ? "messages" : "max_tokens",
                      "Prompt and answer together ask for %llu tokens; at most %u are allowed.",
                      (unsigned long long)asked, context);
    out->max_tokens = f->has_max_tokens ? f->max_tokens : most_output(p, t, f);
    if (f->sealed && answers(f) && !f->has_max_tokens && out->max_tokens != most_output(p, NULL, f))
        return refuse(out, POLICY_ADMIT_OUTPUT, "max_tokens",
                      "A sealed request with this API key must give max_tokens; at most %u are allowed.",
                      out->max_tokens);
    return POLICY_ADMIT_OK;
}

static enum policy_admit_code check_counts(const struct policy *p, const struct policy_request_facts *f,
                                           struct policy_admitted *out)
{
    const struct policy_requests *r = &p->requests;
    if (f->choices > r->max_choices)
        return refuse(out, POLICY_ADMIT_CHOICES, "n", "n is %u; at most %u are allowed.", f->choices, r->max_choices);
    if (f->prompts > r->max_prompts)
        return refuse(out, POLICY_ADMIT_CHOICES, "prompt", "%u prompts in one request; at most %u are allowed.",
                      f->prompts, r->max_prompts);
    return POLICY_ADMIT_OK;
}

static enum policy_admit_code check_sampling(const struct policy *p, const struct policy_request_facts *f,
                                             struct policy_admitted *out)
{
    const struct policy_requests *r = &p->requests;
    if (!(f->temperature <= r->temperature_max)) /* a NaN is refused too */
        return refuse(out, POLICY_ADMIT_TEMPERATURE, "temperature", "temperature is %g; at most %g is allowed.",
                      f->temperature, r->temperature_max);
    if (!(f->top_p >= r->top_p_min))
        return refuse(out, POLICY_ADMIT_TOP_P, "top_p", "top_p is %g; at least %g is allowed.", f->top_p, r->top_p_min);
    if (!(f->repetition_penalty <= r->repetition_max))
        return refuse(out, POLICY_ADMIT_REPETITION, "repetition_penalty",
                      "repetition_penalty is %g; at most %g is allowed.", f->repetition_penalty, r->repetition_max);
    return POLICY_ADMIT_OK;
}

enum policy_admit_code policy_admit_sampling(const struct policy *p, const struct policy_request_facts *f,
                                             struct policy_admitted *out)
{
    *out = (struct policy_admitted){.code = POLICY_ADMIT_OK};
    return check_sampling(p, f, out);
}

enum policy_admit_code policy_admit(const struct policy *p, const struct policy_tenant *t,
                                    const struct policy_request_facts *f, uint64_t now, struct policy_admitted *out)
{
    enum policy_admit_code code;
    *out = (struct policy_admitted){.code = POLICY_ADMIT_NO_POLICY};
    if (!p || now < p->not_before || now >= p->not_after)
        return refuse(out, POLICY_ADMIT_NO_POLICY, NULL, "No policy of the model's owner is in force here.");
    if (t && t->expires && now >= t->expires)
        return refuse(out, POLICY_ADMIT_TENANT_EXPIRED, NULL, "This API key has expired.");
    if ((code = check_endpoint(p, t, f, out)) || (code = check_model(p, t, f, out)) ||
        (code = check_features(p, t, f, out)) || (code = check_length(p, t, f, out)))
        return code;
    if (answers(f))
        if ((code = check_counts(p, f, out)) || (code = check_sampling(p, f, out)))
            return code;
    out->code = POLICY_ADMIT_OK;
    return POLICY_ADMIT_OK;
}

enum policy_admit_code policy_usage_begin(struct policy_usage *u, const struct policy *p, const struct policy_tenant *t,
                                          uint64_t mono_ms, struct policy_admitted *out)
{
    uint32_t requests = tighter(p->tenants.requests_per_minute, t ? t->requests_per_minute : 0);
    uint32_t tokens = tighter(p->tenants.tokens_per_minute, t ? t->tokens_per_minute : 0);
    uint32_t concurrent = tighter(p->tenants.concurrent, t ? t->concurrent : 0);

    if (mono_ms - u->window_ms >= MINUTE_MS) {
        u->window_ms = mono_ms;
        u->requests = 0;
        u->tokens = 0;
    }
    out->retry_after_s = (uint32_t)((u->window_ms + MINUTE_MS - mono_ms + 999) / 1000);
    if (requests && u->requests >= requests)
        return refuse(out, POLICY_ADMIT_REQUESTS, NULL, "%u requests a minute are used up.", requests);
    if (tokens && u->tokens >= tokens)
        return refuse(out, POLICY_ADMIT_TOKENS, NULL, "%u tokens a minute are used up.", tokens);
    if (concurrent && u->running >= concurrent) {
        out->retry_after_s = 1;
        return refuse(out, POLICY_ADMIT_CONCURRENT, NULL, "%u requests are running; wait until one ends.", concurrent);
    }
    u->requests++;
    u->running++;
    out->retry_after_s = 0;
    return POLICY_ADMIT_OK;
}

void policy_usage_end(struct policy_usage *u, uint64_t tokens)
{
    if (u->running > 0)
        u->running--;
    u->tokens += tokens;
}
