/* admit.h - may this request run? The policy's request rules and the tenant's, each refusal with its own code and
 * the field at fault. Pure: counters and time come from the caller. The proxy asks before it forwards; in sealed mode
 * the engine asks after it opened the request. */
#ifndef POLICY_ADMIT_H
#define POLICY_ADMIT_H

#include "policy/tenants.h"

struct policy;

enum policy_endpoint { /* bits */
                       POLICY_CHAT = 1,
                       POLICY_COMPLETIONS = 2,
                       POLICY_EMBEDDINGS = 4,
                       POLICY_TOKENIZE = 8,
                       POLICY_DETOKENIZE = 16,
                       POLICY_MODELS = 32,
};
#define POLICY_ENDPOINT_NAMES "chat", "completions", "embeddings", "tokenize", "detokenize", "models"
#define POLICY_ENDPOINTS_ALL 63u

enum policy_feature { /* bits */
                      POLICY_STREAM = 1,
                      POLICY_TOOLS = 2,
                      POLICY_LOGPROBS = 4,
                      POLICY_PROMPT_LOGPROBS = 8,
                      POLICY_JSON = 16, /* response_format json_object */
                      POLICY_SCHEMA = 32,
                      POLICY_REGEX = 64,
                      POLICY_GRAMMAR = 128,
                      POLICY_GUIDED_CHOICE = 256,
                      POLICY_ECHO = 512,
                      POLICY_SEED = 1024,
                      POLICY_LOGIT_BIAS = 2048,
                      POLICY_TOKEN_PROMPTS = 4096, /* prompts given as token ids */
                      POLICY_TEMPLATE_ARGS = 8192, /* chat_template_kwargs */
};
#define POLICY_FEATURE_NAMES                                                                                           \
    "stream", "tools", "logprobs", "prompt_logprobs", "json", "schema", "regex", "grammar", "guided_choice", "echo",   \
        "seed", "logit_bias", "token_prompts", "template_args"
#define POLICY_FEATURES_ALL 16383u

/* What the request asks, already parsed. Zero `prompt_tokens` = not known here (the proxy has no tokenizer). */
struct policy_request_facts {
    enum policy_endpoint endpoint;
    struct span model;
    uint32_t features; /* bits of what it uses */
    uint32_t prompt_tokens;
    bool has_max_tokens;
    uint32_t max_tokens;                           /* per choice */
    uint32_t choices;                              /* n, at least 1 */
    uint32_t prompts;                              /* how many prompts one body carries, at least 1 */
    double temperature, top_p, repetition_penalty; /* left to the model: POLICY_WITHIN_... */
    bool sealed; /* the head alone is seen, and the engine that opens it knows no tenant */
};

/* Every bound admits these: for values that the request leaves to the model, which only the engine knows. It asks
 * policy_admit_sampling() about the values in force. */
#define POLICY_WITHIN_TEMPERATURE 0.0
#define POLICY_WITHIN_TOP_P 1.0
#define POLICY_WITHIN_REPETITION 0.0

enum policy_admit_code {
    POLICY_ADMIT_OK = 0,
    POLICY_ADMIT_NO_POLICY,       /* no policy, or outside its dates */
    POLICY_ADMIT_ENDPOINT,        /* the policy does not offer this endpoint */
    POLICY_ADMIT_TENANT_ENDPOINT, /* the tenant may not use it */
    POLICY_ADMIT_MODEL,           /* no such model in the policy */
    POLICY_ADMIT_TENANT_MODEL,
    POLICY_ADMIT_FEATURE, /* `field` names it */
    POLICY_ADMIT_TENANT_FEATURE,
    POLICY_ADMIT_CONTEXT,     /* prompt, or prompt and output, over the greatest context */
    POLICY_ADMIT_OUTPUT,      /* max_tokens over the greatest output */
    POLICY_ADMIT_CHOICES,     /* n over the greatest */
    POLICY_ADMIT_TEMPERATURE, /* sampling outside the policy's bounds */
    POLICY_ADMIT_TOP_P,
    POLICY_ADMIT_REPETITION,
    POLICY_ADMIT_TENANT_EXPIRED,
    POLICY_ADMIT_REQUESTS,   /* requests per minute used up: try again later */
    POLICY_ADMIT_TOKENS,     /* tokens per minute used up */
    POLICY_ADMIT_CONCURRENT, /* too many at a time */
};

struct policy_admitted {
    enum policy_admit_code code;
    const char *field;   /* the API's name of what is at fault, e.g. "max_tokens"; NULL when it is none */
    char text[200];      /* a sentence for the caller; no content of the request beyond numbers and known names */
    uint32_t max_tokens; /* when admitted: the most tokens a choice may have (the request's own, or the rules' greatest;
                            0 = only the model's context bounds it) */
    uint32_t retry_after_s; /* with the quota codes */
};

/* `tenant` NULL: rules of the policy alone. Returns out->code. */
enum policy_admit_code policy_admit(const struct policy *policy, const struct policy_tenant *tenant,
                                    const struct policy_request_facts *facts, uint64_t now,
                                    struct policy_admitted *out);
/* The bounds on temperature, top_p and repetition_penalty alone; nothing else of `facts` is looked at. */
enum policy_admit_code policy_admit_sampling(const struct policy *policy, const struct policy_request_facts *facts,
                                             struct policy_admitted *out);
const char *policy_admit_name(enum policy_admit_code code); /* "max_context_exceeded", ... for error bodies and logs */
unsigned policy_admit_status(enum policy_admit_code code);  /* the HTTP status for it: 400, 403, 404, 429, 503 */

/* Counters of one tenant in one proxy; zeroed at first. One thread, or the caller's lock. */
struct policy_usage {
    uint64_t window_ms; /* start of the current minute, monotonic */
    uint32_t requests;
    uint64_t tokens;
    uint32_t running;
};
/* Take one request from the quota (the smaller of tenant's and policy's); policy_usage_end() when it ended. */
enum policy_admit_code policy_usage_begin(struct policy_usage *u, const struct policy *policy,
                                          const struct policy_tenant *tenant, uint64_t mono_ms,
                                          struct policy_admitted *out);
void policy_usage_end(struct policy_usage *u, uint64_t tokens); /* prompt and completion tokens that it used */

#endif
