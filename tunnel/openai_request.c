/* openai_request.c - the body of a request: the fields of the API's tables, one check each. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "tunnel/json.h"
#include "tunnel/openai_fields.h"

/* Known to OpenAI's or vLLM's API and not served: refused by name when set, never dropped in silence. */
static const char *const unsupported[] = {
    "suffix",        "functions",           "function_call",           "prediction",
    "audio",         "web_search_options",  "chat_template",           "use_beam_search",
    "documents",     "mm_processor_kwargs", "kv_transfer_params",      "logits_processors",
    "prompt_embeds", "vllm_xargs",          "guided_decoding_backend", "guided_whitespace_pattern",
};

/* The fields of specs/openai-api § 3 that have no effect here; of the wrong type they are refused like any other. */
static void check_ignored(struct fields *f)
{
    static const char *const texts[] = {"user",         "safety_identifier", "prompt_cache_key",
                                        "service_tier", "reasoning_effort",  "verbosity"};
    json_t *metadata = fields_get(f, "metadata"), *modalities = fields_get(f, "modalities");
    struct span text;
    bool store;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        fields_text(f, texts[i], 0, TUNNEL_TEXT_MAX, &text);
    fields_bool(f, "store", &store);
    if (metadata && !json_is_object(metadata))
        fields_refuse(f, "metadata", "metadata must be an object");
    if (modalities && !json_is_array(modalities))
        fields_refuse(f, "modalities", "modalities must be an array of strings");
}

static void parse_limits(struct openai_request *r, struct fields *f, enum tunnel_task task)
{
    struct tunnel_request *q = &r->request;
    json_int_t x;
    json_int_t least = task == TUNNEL_COMPLETION ? 0 : 1;
    const char *name = fields_get(f, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
    q->has_max_tokens = fields_int(f, name, least, INT32_MAX, &x);
    q->max_tokens = q->has_max_tokens ? (uint32_t)x : 0;
    if (task == TUNNEL_COMPLETION && !q->has_max_tokens) {
        q->has_max_tokens = true;
        q->max_tokens = 16;
    }
    fields_u32(f, "min_tokens", 0, INT32_MAX, &q->min_tokens);
    if (q->has_max_tokens && q->min_tokens > q->max_tokens)
        fields_refuse(f, "min_tokens", "min_tokens (%u) must not be above max_tokens (%u)", q->min_tokens,
                      q->max_tokens);
    fields_u32(f, "n", 1, TUNNEL_CHOICES_MAX, &q->n);
    if (fields_int(f, "best_of", 1, TUNNEL_CHOICES_MAX, &x) && (uint32_t)x != q->n)
        fields_refuse(f, "best_of", "best_of (%lld) other than n (%u) is not supported by this server", (long long)x,
                      q->n);
    if (fields_int(f, "priority", INT32_MIN, INT32_MAX, &x))
        q->priority = (int32_t)x;
    fields_text(f, "cache_salt", 1, 64, &q->salt);
}

/* No space is ever written between special tokens; vLLM's default only matters when they are shown. */
static void check_spaces(const struct tunnel_request *q, struct fields *f)
{
    bool spaces = false;
    fields_bool(f, "spaces_between_special_tokens", &spaces);
    if (spaces && !q->skip_special)
        fields_refuse(f, "spaces_between_special_tokens",
                      "spaces_between_special_tokens: true is not supported by this server with "
                      "skip_special_tokens: false");
}

/* Beam search is not served, so only its neutral value is. */
static void check_beams(struct fields *f)
{
    double penalty = 1;
    fields_real(f, "length_penalty", -1e6, 1e6, &penalty);
    if (penalty < 1 || penalty > 1)
        fields_refuse(f, "length_penalty", "length_penalty is not supported by this server: leave it out");
}

static void parse_sampling(struct openai_request *r, struct fields *f)
{
    struct tunnel_request *q = &r->request;
    json_int_t x;
    fields_real(f, "temperature", 0, 2, &q->temperature);
    fields_real(f, "top_p", 0, 1, &q->top_p);
    fields_real(f, "min_p", 0, 1, &q->min_p);
    fields_real(f, "repetition_penalty", 0.001, 1000, &q->repetition_penalty);
    fields_real(f, "presence_penalty", -2, 2, &q->presence_penalty);
    fields_real(f, "frequency_penalty", -2, 2, &q->frequency_penalty);
    if (fields_int(f, "top_k", -1, INT32_MAX, &x))
        q->top_k = x > 0 ? (uint32_t)x : 0;
    q->has_seed = fields_int(f, "seed", INT64_MIN, INT64_MAX, &x);
    q->seed = q->has_seed ? (uint64_t)x : 0;
    fields_bool(f, "ignore_eos", &q->ignore_eos);
    fields_bool(f, "include_stop_str_in_output", &q->include_stop);
    fields_bool(f, "skip_special_tokens", &q->skip_special);
    fields_bool(f, "echo", &q->echo);
    fields_bool(f, "return_token_ids", &q->return_ids);
    fields_bool(f, "return_tokens_as_token_ids", &r->ids_as_tokens);
    check_spaces(q, f);
}

static void parse_truncation(struct tunnel_request *q, struct fields *f)
{
    json_int_t x;
    if (!fields_int(f, "truncate_prompt_tokens", -1, INT32_MAX, &x))
        return;
    if (x == 0)
        fields_refuse(f, "truncate_prompt_tokens", "truncate_prompt_tokens must be at least 1, or -1 for what fits");
    q->truncate_prompt = (int32_t)x;
}

/* The name that the answer's id is to carry. */
static void parse_id(struct openai_request *r, struct fields *f)
{
    fields_text(f, "request_id", 1, 128, &r->id);
    for (size_t i = 0; i < r->id.len && !f->bad; i++)
        if (!r->id.data[i] ||
            !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r->id.data[i]))
            fields_refuse(f, "request_id", "request_id may have letters, digits, '.', '_' and '-'");
}

static void parse_stop(struct tunnel_request *q, struct fields *f)
{
    json_t *stop = fields_get(f, "stop"), *item;
    size_t i, count = json_is_string(stop) ? 1 : json_array_size(stop);
    if (stop && !json_is_string(stop) && !json_is_array(stop))
        fields_refuse(f, "stop", "stop must be a string or an array of strings");
    if (count > TUNNEL_STOPS_MAX)
        fields_refuse(f, "stop", "at most %d stop strings can be given, got %zu", TUNNEL_STOPS_MAX, count);
    for (i = 0; i < count && !f->bad; i++) {
        item = json_is_string(stop) ? stop : json_array_get(stop, i);
        size_t len = json_string_length(item);
        if (!json_is_string(item) || len == 0 || len > TUNNEL_TEXT_MAX)
            fields_refuse(f, "stop", "each stop string must have 1 to %d bytes", TUNNEL_TEXT_MAX);
        else
            q->stop[q->stop_count++] = span_of(json_string_value(item), len);
    }
}

/* Token ids of one list, big-endian, at `to`; returns the bytes used. */
static size_t put_ids(struct fields *f, const char *name, const json_t *ids, uint8_t *to)
{
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id)
    {
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (v < 0 || v > INT32_MAX) {
            fields_refuse(f, name, "%s has something else than a token id at position %zu", name, i);
            return 0;
        }
        for (int b = 0; b < 4; b++)
            to[4 * i + (size_t)b] = (uint8_t)(v >> (24 - 8 * b));
    }
    return 4 * json_array_size(ids);
}

/* What may not be said, in words: strings that are cut into tokens by the engine. */
static void parse_bad_words(struct tunnel_request *q, struct fields *f)
{
    json_t *words = fields_get(f, "bad_words"), *word;
    size_t i;
    if (words && (!json_is_array(words) || json_array_size(words) > TUNNEL_BAD_WORDS_MAX))
        fields_refuse(f, "bad_words", "bad_words must be an array of at most %d strings", TUNNEL_BAD_WORDS_MAX);
    if (f->bad)
        return;
    json_array_foreach(words, i, word)
    {
        size_t len = json_string_length(word);
        if (!json_is_string(word) || len == 0 || len > TUNNEL_BAD_WORD_MAX)
            fields_refuse(f, "bad_words", "bad_words[%zu] must be a string of 1 to %d bytes", i, TUNNEL_BAD_WORD_MAX);
        else
            q->bad_word[q->bad_word_count++] = span_of(json_string_value(word), len);
    }
}

static void parse_stop_ids(struct tunnel_request *q, struct fields *f)
{
    json_t *ids = fields_get(f, "stop_token_ids"), *id;
    size_t i;
    if (ids && (!json_is_array(ids) || json_array_size(ids) > TUNNEL_STOP_IDS_MAX))
        fields_refuse(f, "stop_token_ids", "stop_token_ids must be an array of at most %d token ids",
                      TUNNEL_STOP_IDS_MAX);
    if (f->bad)
        return;
    json_array_foreach(ids, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            fields_refuse(f, "stop_token_ids", "stop_token_ids[%zu] must be a token id", i);
        else
            q->stop_id[q->stop_id_count++] = (uint32_t)json_integer_value(id);
    }
}

/* Checked before anything is kept: an empty list would forbid everything. */
static void parse_allowed(struct openai_request *r, struct fields *f)
{
    json_t *ids = fields_get(f, "allowed_token_ids");
    size_t count = json_array_size(ids);
    if (!ids || f->bad)
        return;
    if (count == 0 || count > TUNNEL_ALLOWED_MAX)
        fields_refuse(f, "allowed_token_ids", "allowed_token_ids must be an array of 1 to %d token ids",
                      TUNNEL_ALLOWED_MAX);
    else if (!(r->allowed = malloc(4 * count)))
        fields_refuse(f, "allowed_token_ids", "allowed_token_ids is too large to be served");
    else
        r->request.allowed_ids = span_of(r->allowed, put_ids(f, "allowed_token_ids", ids, r->allowed));
}

/* A token id in decimal without sign, space or leading zero; -1 otherwise. */
static int64_t token_id(const char *text)
{
    int64_t id = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || id > INT32_MAX / 10)
            return -1;
        id = id * 10 + (*text - '0');
    }
    return id <= INT32_MAX ? id : -1;
}

static void parse_bias(struct tunnel_request *q, struct fields *f)
{
    json_t *bias = fields_get(f, "logit_bias"), *value;
    const char *key;
    if (bias && !json_is_object(bias))
        fields_refuse(f, "logit_bias", "logit_bias must be an object of token id to number");
    if (json_object_size(bias) > TUNNEL_BIAS_MAX)
        fields_refuse(f, "logit_bias", "logit_bias takes at most %d tokens, got %zu", TUNNEL_BIAS_MAX,
                      json_object_size(bias));
    if (f->bad)
        return;
    json_object_foreach(bias, key, value)
    {
        double x = json_number_value(value);
        int64_t id = token_id(key);
        if (id < 0)
            fields_refuse(f, "logit_bias", "logit_bias: \"%.20s\" is not a token id", key);
        else if (!json_is_number(value) || !(x >= -100 && x <= 100))
            fields_refuse(f, "logit_bias", "logit_bias of token %lld must be a number from -100 to 100", (long long)id);
        else
            q->bias[q->bias_count++] = (struct tunnel_bias){(uint32_t)id, x};
    }
}

static void parse_logprobs(struct tunnel_request *q, struct fields *f, enum tunnel_task task)
{
    json_int_t x;
    if (fields_int(f, "prompt_logprobs", 0, TUNNEL_TOP_MAX, &x))
        q->prompt_logprobs = (int)x;
    if (q->prompt_logprobs >= 0 && json_is_true(fields_get(f, "stream")))
        fields_refuse(f, "prompt_logprobs", "prompt_logprobs cannot be streamed: leave stream out");
    if (task == TUNNEL_COMPLETION) {
        if (fields_int(f, "logprobs", 0, TUNNEL_TOP_MAX, &x))
            q->logprobs = (int)x;
        return;
    }
    bool wanted = false;
    fields_bool(f, "logprobs", &wanted);
    if (wanted)
        q->logprobs = 0;
    if (fields_int(f, "top_logprobs", 0, TUNNEL_TOP_MAX, &x)) {
        if (!wanted && x > 0)
            fields_refuse(f, "top_logprobs", "top_logprobs needs logprobs: true");
        q->logprobs = wanted ? (int)x : -1;
    }
}

static void parse_stream(struct openai_request *r, struct fields *f)
{
    fields_bool(f, "stream", &r->request.stream);
    json_t *options = fields_get(f, "stream_options");
    if (!options)
        return;
    if (!json_is_object(options))
        fields_refuse(f, "stream_options", "stream_options must be an object");
    else if (!r->request.stream)
        fields_refuse(f, "stream_options", "stream_options needs stream: true");
    if (f->bad)
        return;
    struct fields inner = {.object = options, .why = f->why};
    fields_bool(&inner, "include_usage", &r->include_usage);
    fields_bool(&inner, "continuous_usage_stats", &r->continuous_usage);
    f->bad = inner.bad;
}

/* --- prompts ------------------------------------------------------------------------------------ */

static bool is_ids(const json_t *v)
{
    return json_is_array(v) && json_array_size(v) > 0 && json_is_integer(json_array_get(v, 0));
}

/* At least as many as there are token ids in `prompts`. */
static size_t ids_total(const json_t *prompts)
{
    size_t i, total = json_array_size(prompts);
    json_t *p;
    json_array_foreach(prompts, i, p) total += json_array_size(p);
    return total;
}

/* `name` as one prompt or several: a string, an array of strings, an array of ids or an array of such arrays. */
static void parse_prompts(struct openai_request *r, struct fields *f, const char *name)
{
    struct tunnel_request *q = &r->request;
    json_t *all = fields_get(f, name);
    if (f->bad)
        return;
    bool single = json_is_string(all) || is_ids(all);
    size_t count = single ? 1 : json_array_size(all), most = tunnel_prompts_max(q->task);
    if (count > most) {
        fields_refuse(f, name, "%s has %zu entries; a request takes at most %zu: send several requests", name, count,
                      most);
        return;
    }
    if (count == 0) {
        fields_refuse(f, name, "%s must be a text, an array of token ids, or an array of 1 to %zu of these", name,
                      most);
        return;
    }
    r->ids_len = 4 * (ids_total(all) + 1);
    r->ids = calloc(1, r->ids_len);
    size_t used = 0;
    for (size_t i = 0; i < count && !f->bad; i++) {
        json_t *p = single ? all : json_array_get(all, i);
        if (!r->ids)
            fields_refuse(f, name, "%s is too large to be served", name);
        else if (json_is_string(p) && json_string_length(p) > 0)
            q->prompt[i] = (struct tunnel_prompt){false, span_of(json_string_value(p), json_string_length(p))};
        else if (is_ids(p))
            q->prompt[i] = (struct tunnel_prompt){true, span_of(r->ids + used, put_ids(f, name, p, r->ids + used))};
        else
            fields_refuse(f, name, "%s has an empty prompt or one that is neither text nor token ids, at position %zu",
                          name, i);
        used += q->prompt[i].is_ids ? q->prompt[i].bytes.len : 0;
    }
    q->prompt_count = f->bad ? 0 : count;
}

/* The text to be cut into tokens; it may be empty. */
static void parse_one_text(struct openai_request *r, struct fields *f)
{
    const json_t *text = fields_get(f, "prompt");
    if (!json_is_string(text))
        fields_refuse(f, "prompt", "prompt must be a string; or give messages");
    else
        r->request.prompt[0].bytes = span_of(json_string_value(text), json_string_length(text));
    r->request.prompt_count = f->bad ? 0 : 1;
}

/* --- structured output -------------------------------------------------------------------------- */

static void set_format(struct openai_request *r, struct fields *f, const char *param, enum tunnel_format kind,
                       json_t *value)
{
    struct tunnel_request *q = &r->request;
    if (f->bad || !value || json_is_null(value))
        return;
    if (q->format != TUNNEL_FORMAT_TEXT) {
        fields_refuse(f, param, "%s: only one form of structured output can be asked for", param);
        return;
    }
    bool text = kind == TUNNEL_FORMAT_REGEX || kind == TUNNEL_FORMAT_GRAMMAR;
    if (text ? !json_is_string(value)
             : !json_is_object(value) && !(kind == TUNNEL_FORMAT_CHOICE && json_is_array(value))) {
        fields_refuse(f, param, "%s has the wrong type", param);
        return;
    }
    if (!text)
        r->owned[3] = json_dumps(value, JSON_COMPACT);
    const char *form = text ? json_string_value(value) : r->owned[3];
    if (!form || strlen(form) > 1 << 20) {
        fields_refuse(f, param, "%s is larger than 1 MiB", param);
        return;
    }
    q->format = kind;
    q->format_text = span_str(form);
    r->format_field = param;
}

static void set_json(struct openai_request *r, struct fields *f, const char *param)
{
    if (r->request.format != TUNNEL_FORMAT_TEXT)
        fields_refuse(f, param, "%s: only one form of structured output can be asked for", param);
    r->request.format = TUNNEL_FORMAT_JSON;
    r->format_field = param;
}

static void parse_response_format(struct openai_request *r, struct fields *f)
{
    json_t *format = fields_get(f, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || f->bad)
        return;
    if (type && strcmp(type, "text") == 0)
        return;
    if (type && strcmp(type, "json_object") == 0) {
        set_json(r, f, "response_format");
    } else if (type && strcmp(type, "json_schema") == 0) {
        json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
        if (!json_is_object(schema))
            fields_refuse(f, "response_format", "response_format.json_schema.schema must be an object");
        set_format(r, f, "response_format", TUNNEL_FORMAT_SCHEMA, schema);
    } else {
        fields_refuse(f, "response_format", "response_format.type must be text, json_object or json_schema");
    }
}

/* What else vLLM has under structured_outputs: off, or refused by its name. */
static void refuse_other_forms(struct fields *f, json_t *outputs)
{
    static const char *const names[] = {"structural_tag", "disable_any_whitespace", "disable_additional_properties",
                                        "whitespace_pattern", "backend"};
    struct fields inner = {.object = outputs, .why = f->why, .bad = f->bad};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fields_unsupported(&inner, names[i]);
    f->bad = inner.bad;
}

void openai_format_parse(struct openai_request *r, struct fields *f)
{
    static const struct {
        const char *guided, *plain;
        enum tunnel_format kind;
    } forms[] = {{"guided_json", "json", TUNNEL_FORMAT_SCHEMA},
                 {"guided_regex", "regex", TUNNEL_FORMAT_REGEX},
                 {"guided_grammar", "grammar", TUNNEL_FORMAT_GRAMMAR},
                 {"guided_choice", "choice", TUNNEL_FORMAT_CHOICE}};
    parse_response_format(r, f);
    json_t *outputs = fields_get(f, "structured_outputs");
    if (outputs && !json_is_object(outputs))
        fields_refuse(f, "structured_outputs", "structured_outputs must be an object");
    if (json_is_true(json_object_get(outputs, "json_object")))
        set_json(r, f, "structured_outputs");
    refuse_other_forms(f, outputs);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        set_format(r, f, forms[i].guided, forms[i].kind, fields_get(f, forms[i].guided));
        set_format(r, f, "structured_outputs", forms[i].kind, json_object_get(outputs, forms[i].plain));
    }
}

/* --- whole requests ----------------------------------------------------------------------------- */

static void parse_generation(struct openai_request *r, struct fields *f, enum tunnel_task task)
{
    parse_limits(r, f, task);
    parse_sampling(r, f);
    parse_stop(&r->request, f);
    parse_stop_ids(&r->request, f);
    parse_bad_words(&r->request, f);
    parse_allowed(r, f);
    parse_bias(&r->request, f);
    parse_truncation(&r->request, f);
    parse_id(r, f);
    check_beams(f);
    parse_logprobs(&r->request, f, task);
    parse_stream(r, f);
    openai_format_parse(r, f);
    check_ignored(f);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        fields_unsupported(f, unsupported[i]);
}

static void parse_vector_form(struct openai_request *r, struct fields *f)
{
    json_t *format = fields_get(f, "encoding_format");
    const char *name = json_string_value(format);
    if (format && (!name || (strcmp(name, "float") != 0 && strcmp(name, "base64") != 0)))
        fields_refuse(f, "encoding_format", "encoding_format must be float or base64");
    r->base64 = !f->bad && name && strcmp(name, "base64") == 0;
    fields_unsupported(f, "dimensions");
}

static void parse_task(struct openai_request *r, struct fields *f, enum tunnel_task task)
{
    r->request.task = task;
    fields_text(f, "model", 1, TUNNEL_NAME_MAX, &r->request.model);
    switch (task) {
    case TUNNEL_CHAT:
        openai_chat_parse(r, f);
        fields_bool(f, "add_special_tokens", &r->request.add_special_tokens);
        parse_generation(r, f, task);
        openai_chat_echo(r);
        break;
    case TUNNEL_COMPLETION:
        r->request.add_special_tokens = true;
        fields_bool(f, "add_special_tokens", &r->request.add_special_tokens);
        parse_prompts(r, f, "prompt");
        parse_generation(r, f, task);
        break;
    case TUNNEL_EMBED:
        r->request.add_special_tokens = true;
        parse_prompts(r, f, "input");
        fields_bool(f, "add_special_tokens", &r->request.add_special_tokens);
        parse_truncation(&r->request, f);
        parse_vector_form(r, f);
        break;
    case TUNNEL_TOKENIZE:
        r->request.add_special_tokens = !fields_get(f, "messages");
        if (fields_get(f, "messages"))
            openai_chat_parse(r, f);
        else
            parse_one_text(r, f);
        fields_bool(f, "add_special_tokens", &r->request.add_special_tokens);
        fields_bool(f, "return_token_strs", &r->request.return_ids);
        break;
    case TUNNEL_DETOKENIZE:
        if (is_ids(fields_get(f, "tokens")))
            parse_prompts(r, f, "tokens");
        else
            fields_refuse(f, "tokens", "tokens must be an array of token ids, at least one");
        break;
    }
}

struct openai_request *openai_request_parse(enum tunnel_task task, struct span body, struct openai_error *why)
{
    char text[200];
    json_t *json = tunnel_json_parse(body, text, sizeof text);
    if (!json || !json_is_object(json)) {
        openai_error_set(why, 400, "invalid_request_error", "invalid_json", NULL, "%s",
                         json ? "the body must be a JSON object" : text);
        json_decref(json);
        return NULL;
    }
    struct openai_request *r = calloc(1, sizeof *r);
    struct fields f = {.object = json, .why = why};
    if (!r) {
        json_decref(json);
        openai_error_set(why, 503, "server_error", "overloaded", NULL, "the server is out of memory: try again later");
        return NULL;
    }
    r->json = json;
    tunnel_request_defaults(&r->request);
    parse_task(r, &f, task);
    if (f.bad) {
        openai_request_free(r);
        return NULL;
    }
    return r;
}

void openai_request_free(struct openai_request *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < sizeof r->owned / sizeof *r->owned; i++)
        tunnel_json_free(r->owned[i]);
    if (r->ids)
        OPENSSL_cleanse(r->ids, r->ids_len);
    free(r->ids);
    free(r->allowed);
    json_decref(r->json);
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
}
