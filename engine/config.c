#include "engine/config.h"
#include "engine/defaults.h"
#include "engine/toolcall.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernels/device.h"

/* --- the table ------------------------------------------------------------------------------------------------ */

enum kind { TEXT, NUMBER, SIZE, DURATION, BOOL, LIST };

struct entry {
    const char *flag, *key; /* the key of the file: the flag with '_' */
    enum kind kind;
    size_t offset, cap; /* cap: of a TEXT, its NUL included */
    uint64_t min, max;
    const char *value, *help;
};

#define AT(field) offsetof(struct config, field)
#define TEXT_AT(field) TEXT, AT(field), sizeof(((struct config *)NULL)->field), 0, 0

static const struct entry entries[] = {
    {"model", "model", TEXT_AT(model), "PATH", "model to serve: a .gguf file, a folder, or a sealed folder"},
    {"policy", "policy", TEXT_AT(policy), "FILE", "the owner's keysets and signed policy (airlock policy bundle)"},
    {"owner", "owner", TEXT_AT(owner), "HEX", "digest of the owner's first keyset"},
    {"collateral", "collateral", TEXT_AT(collateral), "FILE",
     "revocation lists and firmware tables to send along with evidence (airlock collateral)"},
    {"keyd", "keyd", LIST, AT(keyd), 0, 0, 0, "ADDR:PORT", "key server; again for more, in the policy's order"},
    {"proxy", "proxies", LIST, AT(proxies), 0, 0, 0, "HOST:PORT", "proxy to dial (every address of it); may repeat"},
    {"served-model-name", "served_model_name", LIST, AT(served), 0, 0, 0, "NAME",
     "name clients ask for (default: the policy's); may repeat"},
    {"max-model-len", "max_model_len", NUMBER, AT(max_model_len), 0, 0, 1 << 24, "N",
     "context in tokens (default: the model's)"},
    {"max-num-seqs", "max_num_seqs", NUMBER, AT(max_num_seqs), 0, 1, 4096, "N", "sequences in one step (32)"},
    {"max-num-batched-tokens", "max_num_batched_tokens", NUMBER, AT(max_num_batched_tokens), 0, 16, 1 << 20, "N",
     "tokens of one step (2048)"},
    {"block-size", "block_size", NUMBER, AT(block_size), 0, 16, 1024, "N", "tokens of a KV block (16)"},
    {"num-gpu-blocks-override", "num_gpu_blocks_override", NUMBER, AT(kv_blocks), 0, 0, 1 << 30, "N",
     "KV blocks (default: from memory)"},
    {"kv-cache-memory-bytes", "kv_cache_memory_bytes", SIZE, AT(kv_bytes), 0, 0, UINT64_MAX >> 8, "SIZE",
     "memory for keys and values, e.g. 4GiB (default: half of what is free)"},
    {"gpu-memory-utilization", "gpu_memory_utilization", TEXT_AT(memory_share), "SHARE",
     "of the machine's memory for this process, 0 to 1, where kv-cache-memory-bytes is not given"},
    {"enable-prefix-caching", "enable_prefix_caching", BOOL, AT(prefix_caching), 0, 0, 0, NULL,
     "reuse blocks of equal prompts of one tenant (yes)"},
    {"long-prefill-token-threshold", "long_prefill_token_threshold", NUMBER, AT(long_prefill), 0, 0, 1 << 20, "N",
     "most prompt tokens of one request a step (0: no limit)"},
    {"scheduling-policy", "scheduling_policy", TEXT_AT(scheduling), "fcfs|priority", "order of requests (fcfs)"},
    {"max-waiting-requests", "max_waiting_requests", NUMBER, AT(queue_max), 0, 1, 1 << 20, "N",
     "beyond it requests are refused with 429 (1024)"},
    {"max-choices", "max_choices", NUMBER, AT(choices_max), 0, 1, 4096, "N", "answers of one request (128)"},
    {"max-logprobs", "max_logprobs", NUMBER, AT(max_logprobs), 0, 0, TUNNEL_TOP_MAX, "N", "alternatives a token (20)"},
    {"seed", "seed", TEXT_AT(seed), "N", "seed of requests that bring none (default: random)"},
    {"device", "device", TEXT_AT(device), "cpu|cuda", "what computes (cpu)"},
    {"threads", "threads", NUMBER, AT(threads), 0, 0, 1024, "N", "threads that compute (default: one for each CPU)"},
    {"chat-template", "chat_template", TEXT_AT(chat_template), "FILE", "chat template (default: the model's)"},
    {"generation-config", "generation_config", TEXT_AT(generation), "auto|vllm|FOLDER",
     "sampling of requests that do not say: the model's generation_config.json or GGUF keys, the API's defaults, or "
     "another generation_config.json (auto)"},
    {"override-generation-config", "override_generation_config", TEXT_AT(override_generation), "JSON",
     "{\"temperature\": 0.6, \"top_p\": 0.95, \"top_k\": 20, \"min_p\": 0, \"repetition_penalty\": 1, "
     "\"max_new_tokens\": 512}: go before those; null takes one away"},
    {"tool-call-parser", "tool_call_parser", TEXT_AT(tool_parser), "NAME",
     ENGINE_TOOLCALL_NAMES " (default: as the chat template shows)"},
    {"enable-auto-tool-choice", "enable_auto_tool_choice", BOOL, AT(auto_tools), 0, 0, 0, NULL,
     "let the model decide whether it calls a tool (yes)"},
    {"reasoning-parser", "reasoning_parser", TEXT_AT(reasoning_parser), "NAME",
     "qwen3, deepseek_r1, openai_gptoss or none (default: as the chat template shows)"},
    {"runner", "runner", TEXT_AT(runner), "generate|pooling", "answer with text, or with vectors (generate)"},
    {"pooler-config", "pooler_config", TEXT_AT(pooler), "JSON",
     "{\"pooling_type\": \"MEAN\", \"CLS\" or \"LAST\", \"normalize\": true} (default: the model's, else LAST)"},
    {"speculative-config", "speculative_config", TEXT_AT(speculative), "JSON",
     "{\"method\": \"ngram\", \"num_speculative_tokens\": 4, \"prompt_lookup_max\": 5, \"prompt_lookup_min\": 2}: "
     "guess tokens from the text itself (default: none)"},
    {"log", "log", TEXT_AT(log), "FILE", "keep the hash-chained log without content there (see airlock log)"},
    {"drain-time", "drain_time", DURATION, AT(drain_s), 0, 1, 86400, "TIME", "for running requests at SIGTERM (30s)"},
#ifdef AIRLOCK_SIMULATED
    {"sandbox", "sandbox", BOOL, AT(sandbox), 0, 0, 0, NULL, "lock the process in (yes); simulated builds only"},
#endif
};
enum { ENTRIES = sizeof entries / sizeof *entries };

/* vLLM's flags that have one right value here: that is accepted, anything else refused with the reason. NULL: there is
 * no right value; "": a flag without one. */
static const struct fixed {
    const char *flag, *accepted, *reason;
} fixed[] = {
    {"host", NULL, "the engine has no network; clients reach airlock-proxy"},
    {"port", NULL, "the engine has no network; clients reach airlock-proxy"},
    {"api-key", NULL, "keys are the tenants file's; airlock-proxy checks them"},
    {"ssl-certfile", NULL, "airlock-proxy ends TLS"},
    {"ssl-keyfile", NULL, "airlock-proxy ends TLS"},
    {"root-path", NULL, "airlock-proxy has the routes"},
    {"enable-request-id-headers", "", "airlock-proxy always sends them"},
    {"tokenizer", NULL, "a model brings its own, and its digest covers it"},
    {"trust-remote-code", "", "no code comes with a model"},
    {"task", "generate", "for embeddings use --runner pooling"},
    {"prefix-caching-hash-algo", NULL, "blocks are named by a keyed hash of 128 bits"},
    {"max-num-partial-prefills", NULL, "the token budget of a step decides"},
    {"async-scheduling", NULL, "a step is planned when the one before it has ended"},
    {"stream-interval", "1", "text leaves as soon as it is certain"},
    {"return-tokens-as-token-ids", NULL, "a request asks for it: return_tokens_as_token_ids"},
    {"dtype", "auto", "weights run in the type in which they are stored"},
    {"kv-cache-dtype", "auto", "keys and values have one type"},
    {"load-format", "auto", "the format is recognised"},
    {"quantization", "none", "quantized files are recognised"},
    {"tensor-parallel-size", "1", "one device a process"},
    {"pipeline-parallel-size", "1", "one device a process"},
    {"swap-space", "0", "preempted requests are computed again, never swapped"},
    {"cpu-offload-gb", "0", "nothing is offloaded"},
    {"enable-chunked-prefill", "", "prompts are always computed in chunks"},
    {"enforce-eager", "", "there are no graphs to capture"},
};
enum { FIXED = sizeof fixed / sizeof *fixed };

/* --- one value ------------------------------------------------------------------------------------------------ */

static bool put_text(char *out, size_t cap, const char *value)
{
    size_t len = strlen(value);
    if (len >= cap)
        return false;
    memcpy(out, value, len + 1);
    return true;
}

static bool put_number(uint64_t *out, const struct entry *e, const char *value)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end || errno || n < e->min || n > e->max)
        return false;
    *out = n;
    return true;
}

static bool put_bool(bool *out, const char *value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "0", "1"};
    for (size_t i = 0; i < 6; i++)
        if (strcmp(value, words[i]) == 0) {
            *out = i % 2;
            return true;
        }
    return false;
}

/* From a flag or the environment. A list grows by one. */
static bool set_value(struct config *c, const struct entry *e, const char *value)
{
    char *at = (char *)c + e->offset;
    struct config_list *list = (struct config_list *)(void *)at;
    switch (e->kind) {
    case TEXT:
        return put_text(at, e->cap, value);
    case NUMBER:
        return put_number((uint64_t *)(void *)at, e, value);
    case SIZE:
        return policy_size_parse(span_str(value), (uint64_t *)(void *)at);
    case DURATION:
        return policy_duration_parse(span_str(value), (uint64_t *)(void *)at) && *(uint64_t *)(void *)at >= e->min &&
               *(uint64_t *)(void *)at <= e->max;
    case BOOL:
        return put_bool((bool *)(void *)at, value);
    case LIST:
        return list->count < CONFIG_LIST_MAX && value[0] &&
               put_text(list->item[list->count++], CONFIG_ADDRESS_MAX, value);
    }
    return false;
}

/* What the option takes, for whoever gave something else. */
static const char *wanted(const struct entry *e, char out[96])
{
    switch (e->kind) {
    case NUMBER:
        snprintf(out, 96, "a whole number from %llu to %llu", (unsigned long long)e->min, (unsigned long long)e->max);
        return out;
    case SIZE:
        return "a size such as 512MiB or 4GiB";
    case DURATION:
        snprintf(out, 96, "a time such as 30s or 5m, %llu to %llu seconds", (unsigned long long)e->min,
                 (unsigned long long)e->max);
        return out;
    case BOOL:
        return "yes or no";
    case TEXT:
        snprintf(out, 96, "a text of at most %zu bytes", e->cap - 1);
        return out;
    default:
        snprintf(out, 96, "%d times a text of at most %d bytes", CONFIG_LIST_MAX, CONFIG_ADDRESS_MAX - 1);
        return out;
    }
}

/* --- file ------------------------------------------------------------------------------------------------------ */

static void read_entry(struct policy_group *g, struct config *c, const struct entry *e)
{
    char *at = (char *)c + e->offset;
    struct config_list *list = (struct config_list *)(void *)at;
    switch (e->kind) {
    case TEXT:
        policy_group_text(g, e->key, POLICY_OPTIONAL, at, e->cap);
        break;
    case NUMBER:
        policy_group_uint(g, e->key, POLICY_OPTIONAL, e->min, e->max, (uint64_t *)(void *)at);
        break;
    case SIZE:
        policy_group_size(g, e->key, POLICY_OPTIONAL, e->min, e->max, (uint64_t *)(void *)at);
        break;
    case DURATION:
        policy_group_duration(g, e->key, POLICY_OPTIONAL, e->min, e->max, (uint64_t *)(void *)at);
        break;
    case BOOL:
        policy_group_bool(g, e->key, POLICY_OPTIONAL, (bool *)(void *)at);
        break;
    case LIST:
        policy_group_texts(g, e->key, POLICY_OPTIONAL, 1, CONFIG_LIST_MAX, list->item[0], CONFIG_ADDRESS_MAX,
                           &list->count);
        break;
    }
}

static bool read_text(struct config *c, struct span text, const char *name, char why[512])
{
    struct policy_problem problem;
    struct policy_config *config = policy_config_open(text, &problem);
    bool ok = config != NULL;
    if (ok) {
        struct policy_group root = policy_config_root(config);
        for (size_t i = 0; i < ENTRIES; i++)
            read_entry(&root, c, &entries[i]);
        policy_group_end(&root);
        ok = policy_config_ok(config, &problem);
    }
    policy_config_close(config);
    if (!ok)
        policy_problem_print(&problem, name, why, 512);
    return ok;
}

static bool read_file(struct config *c, const char *path, char why[512])
{
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX);
    uint8_t buf[4096];
    FILE *f = fopen(path, "re");
    if (!f) {
        snprintf(why, 512, "cannot open %.300s: %s", path, strerror(errno));
        return false;
    }
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;)
        writer_bytes(&text, span_of(buf, n));
    bool ok = !ferror(f) && writer_ok(&text);
    fclose(f);
    if (!ok)
        snprintf(why, 512, "cannot read %.300s, or it is longer than 64 KiB", path);
    ok = ok && read_text(c, writer_span(&text), path, why);
    writer_release(&text);
    return ok;
}

/* --- environment ------------------------------------------------------------------------------------------------ */

#define PREFIX "AIRLOCK_ENGINE_"

/* As the environment spells a key. */
static const char *variable_of(const char *key, char out[128])
{
    size_t len = (size_t)snprintf(out, 128, PREFIX "%s", key);
    for (size_t i = sizeof PREFIX - 1; i < len && i < 127; i++)
        out[i] = (char)toupper((unsigned char)out[i]);
    return out;
}

/* No option is meant by `name`, which has our prefix. Its value is not shown. */
static bool refuse_variable(const char *name, char why[512])
{
    const char *keys[ENTRIES], *nearest;
    char key[64] = "", other[128];
    for (size_t i = 0; i < ENTRIES; i++)
        keys[i] = entries[i].key;
    for (size_t i = 0; i + 1 < sizeof key && name[sizeof PREFIX - 1 + i]; i++)
        key[i] = (char)tolower((unsigned char)name[sizeof PREFIX - 1 + i]);
    nearest = policy_nearest(key, keys, ENTRIES);
    if (nearest)
        snprintf(why, 512, "%s is no option of this program; did you mean %s?", name, variable_of(nearest, other));
    else
        snprintf(why, 512, "%s is no option of this program; unset it", name);
    return false;
}

/* Every variable with our prefix must be an option's: a misspelt one would be ignored. */
static bool check_variables(char why[512])
{
    for (char *const *v = environ; v && *v; v++) {
        char name[128], known[128];
        bool found = false;
        if (strncmp(*v, PREFIX, sizeof PREFIX - 1) != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*v, "="), *v);
        for (size_t i = 0; i < ENTRIES && !found; i++)
            found = strcmp(name, variable_of(entries[i].key, known)) == 0;
        if (!found)
            return refuse_variable(name, why);
    }
    return true;
}

static bool read_environment(struct config *c, char why[512])
{
    for (size_t i = 0; i < ENTRIES; i++) {
        char name[128];
        const char *value = getenv(variable_of(entries[i].key, name));
        if (!value)
            continue;
        if (entries[i].kind == LIST)
            ((struct config_list *)(void *)((char *)c + entries[i].offset))->count = 0;
        if (!set_value(c, &entries[i], value)) {
            char want[96];
            snprintf(why, 512, "%s: '%.60s' is not a value for it: it takes %s", name, value,
                     wanted(&entries[i], want));
            return false;
        }
    }
    return check_variables(why);
}

/* --- flags ------------------------------------------------------------------------------------------------------- */

enum { KEY_ENTRY = 0x1000, KEY_NOT = 0x2000, KEY_FIXED = 0x3000, KEY_CHECK = 0x4000 };

struct flags {
    struct config *config;
    const char *file;      /* --config: first pass */
    bool apply;            /* second pass: the values */
    bool cleared[ENTRIES]; /* a list given by flags replaces what the file said */
};

static void apply_entry(struct argp_state *state, struct flags *f, size_t i, const char *value)
{
    const struct entry *e = &entries[i];
    if (!f->apply)
        return;
    if (e->kind == LIST && !f->cleared[i]) {
        ((struct config_list *)(void *)((char *)f->config + e->offset))->count = 0;
        f->cleared[i] = true;
    }
    char want[96];
    if (!set_value(f->config, e, value))
        argp_error(state, "--%s: '%.60s' is not a value for it: it takes %s", e->flag, value, wanted(e, want));
}

static void check_fixed(struct argp_state *state, const struct fixed *x, const char *value)
{
    if (!x->accepted)
        argp_error(state, "--%s is no flag of this program: %s", x->flag, x->reason);
    else if (value && strcmp(value, x->accepted) != 0)
        argp_error(state, "--%s: only '%s' is possible here: %s", x->flag, x->accepted, x->reason);
}

static error_t on_option(int key, char *value, struct argp_state *state)
{
    struct flags *f = state->input;
    if (key == 'c')
        f->file = value;
    else if (key == KEY_CHECK)
        f->config->check = true;
    else if (key >= KEY_ENTRY && key < KEY_ENTRY + (int)ENTRIES)
        apply_entry(state, f, (size_t)(key - KEY_ENTRY), value ? value : "yes");
    else if (key >= KEY_NOT && key < KEY_NOT + (int)ENTRIES)
        apply_entry(state, f, (size_t)(key - KEY_NOT), "no");
    else if (key >= KEY_FIXED && key < KEY_FIXED + (int)FIXED)
        check_fixed(state, &fixed[key - KEY_FIXED], value);
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static const char *value_of_fixed(const struct fixed *x)
{
    return x->accepted && !x->accepted[0] ? NULL : "X";
}

static const struct argp *make_argp(void)
{
    static struct argp_option options[3 + 2 * ENTRIES + FIXED];
    static char negated[ENTRIES][64];
    static struct argp argp = {
        options,
        on_option,
        NULL,
        "airlock-engine - serves a model from inside a confidential machine; it has no network of its own.\v"
        "Order, the later wins: default, --config file ('_' for '-'), environment (AIRLOCK_ENGINE_MAX_MODEL_LEN and so "
        "on), flags. SIGTERM drains, a second one ends at once. `airlock-engine plan MODEL` says whether a model fits.",
        NULL,
        NULL,
        NULL};
    size_t n = 0;
    options[n++] = (struct argp_option){"config", 'c', "FILE", 0, "options in libconfig form", 0};
    options[n++] = (struct argp_option){"check", KEY_CHECK, NULL, 0, "print the options in force and exit", 0};
    for (size_t i = 0; i < ENTRIES; i++) {
        options[n++] =
            (struct argp_option){entries[i].flag, KEY_ENTRY + (int)i, entries[i].value, 0, entries[i].help, 0};
        if (entries[i].kind != BOOL)
            continue;
        snprintf(negated[i], sizeof negated[i], "no-%s", entries[i].flag);
        options[n++] = (struct argp_option){negated[i], KEY_NOT + (int)i, NULL, 0, "the opposite", 0};
    }
    for (size_t i = 0; i < FIXED; i++)
        options[n++] = (struct argp_option){fixed[i].flag,
                                            KEY_FIXED + (int)i,
                                            value_of_fixed(&fixed[i]),
                                            OPTION_HIDDEN | (fixed[i].accepted ? 0 : OPTION_ARG_OPTIONAL),
                                            fixed[i].reason,
                                            0};
    return &argp;
}

/* --- all together ------------------------------------------------------------------------------------------------ */

static void set_defaults(struct config *c)
{
    *c = (struct config){.max_num_seqs = 32,
                         .max_num_batched_tokens = 2048,
                         .block_size = 16,
                         .queue_max = 1024,
                         .choices_max = 128,
                         .max_logprobs = TUNNEL_TOP_MAX,
                         .drain_s = 30,
                         .prefix_caching = true,
                         .auto_tools = true,
                         .sandbox = true,
                         .scheduling = "fcfs",
                         .device = "cpu",
                         .runner = "generate",
                         .generation = "auto"};
}

/* 0 when it is no share. */
static double parse_share(const char *text)
{
    char *end;
    double x = strtod(text, &end);
    return isdigit((unsigned char)text[0]) && *end == 0 && x > 0 && x <= 1 ? x : 0;
}

static bool check_together(const struct config *c, char why[512])
{
    const char *reason;
    uint8_t digest[64];
    uint64_t seed;
    const struct entry any = {.max = UINT64_MAX};
    struct engine_options unused;
    struct engine_defaults none;
    struct engine_problem problem = {0};
    enum engine_toolcall_format format;
    struct engine_toolcall_style style;
    if (!c->model[0])
        snprintf(why, 512, "no model: give --model PATH");
    else if (!c->policy[0] || !c->owner[0])
        snprintf(why, 512, "no policy: give --policy FILE and --owner HEX, as `airlock policy bundle` printed them");
    else if (!policy_hex_parse(span_str(c->owner), digest, sizeof digest))
        snprintf(why, 512, "owner: 128 hex digits are needed, got %zu characters", strlen(c->owner));
    else if (c->keyd.count == 0 || c->proxies.count == 0)
        snprintf(why, 512, "no peers: give at least one --keyd ADDR:PORT and one --proxy HOST:PORT");
    else if (strcmp(c->device, "cpu") != 0 && !kern_device_find(c->device, &reason))
        snprintf(why, 512, "device %s: %s", c->device, reason);
    else if (strcmp(c->scheduling, "fcfs") != 0 && strcmp(c->scheduling, "priority") != 0)
        snprintf(why, 512, "scheduling-policy: '%s' is neither fcfs nor priority", c->scheduling);
    else if (strcmp(c->runner, "generate") != 0 && strcmp(c->runner, "pooling") != 0)
        snprintf(why, 512, "runner: '%s' is neither generate nor pooling", c->runner);
    else if (c->tool_parser[0] && !engine_toolcall_format_named(c->tool_parser, &format))
        snprintf(why, 512, "tool-call-parser: there is none called '%.40s', only " ENGINE_TOOLCALL_NAMES,
                 c->tool_parser);
    else if (c->reasoning_parser[0] && !engine_toolcall_thoughts_named(c->reasoning_parser, &style))
        snprintf(why, 512, "reasoning-parser: there is none called '%s'", c->reasoning_parser);
    else if (c->memory_share[0] && !(parse_share(c->memory_share) > 0))
        snprintf(why, 512, "gpu-memory-utilization: '%s' is not a number above 0, at most 1", c->memory_share);
    else if (!config_pooler(&unused, c->pooler, why) || !config_speculative(&unused, c->speculative, why))
        return false;
    else if (c->override_generation[0] && !engine_defaults_override(&none, c->override_generation, &problem))
        snprintf(why, 512, "%s", problem.text);
    else if (c->seed[0] && !put_number(&seed, &any, c->seed))
        snprintf(why, 512, "seed: '%s' is not a number from 0 to 2^64-1", c->seed);
    else
        return true;
    return false;
}

bool config_from_text(struct config *out, struct span text, const char *name, char why[512])
{
    set_defaults(out);
    return read_text(out, text, name, why) && check_together(out, why);
}

bool config_load(struct config *out, int argc, char **argv, char why[512])
{
    struct flags flags = {.config = out};
    const struct argp *argp = make_argp();
    set_defaults(out);
    argp_parse(argp, argc, argv, 0, NULL, &flags);
    if ((flags.file && !read_file(out, flags.file, why)) || !read_environment(out, why))
        return false;
    flags.apply = true;
    argp_parse(argp, argc, argv, 0, NULL, &flags);
    return check_together(out, why);
}

/* As the file would have it. */
static void print_text(struct writer *w, const char *text)
{
    writer_u8(w, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            writer_u8(w, '\\');
        writer_u8(w, (uint8_t)*text);
    }
    writer_str(w, "\"\n");
}

static void print_entry(const struct config *c, const struct entry *e, struct writer *w)
{
    const char *at = (const char *)c + e->offset;
    const struct config_list *list = (const struct config_list *)(const void *)at;
    if ((e->kind == TEXT && !at[0]) || (e->kind == LIST && list->count == 0)) { /* the file has no word for nothing */
        writer_printf(w, "# %s: not given\n", e->key);
        return;
    }
    writer_printf(w, "%s = ", e->key);
    switch (e->kind) {
    case TEXT:
        print_text(w, at);
        break;
    case NUMBER:
        writer_printf(w, "%" PRIu64 "\n", *(const uint64_t *)(const void *)at);
        break;
    case SIZE:
        writer_printf(w, "\"%" PRIu64 "\"\n", *(const uint64_t *)(const void *)at);
        break;
    case DURATION:
        writer_printf(w, "\"%" PRIu64 "s\"\n", *(const uint64_t *)(const void *)at);
        break;
    case BOOL:
        writer_printf(w, "%s\n", *(const bool *)(const void *)at ? "true" : "false");
        break;
    case LIST:
        writer_str(w, "[");
        for (size_t i = 0; i < list->count; i++)
            writer_printf(w, "%s\"%s\"", i ? ", " : "", list->item[i]);
        writer_str(w, "]\n");
        break;
    }
}

void config_print(const struct config *c, struct writer *w)
{
    for (size_t i = 0; i < ENTRIES; i++)
        print_entry(c, &entries[i], w);
}

static enum engine_generation generation_of(const struct config *c)
{
    return !c->generation[0] || strcmp(c->generation, "auto") == 0 ? ENGINE_GENERATION_MODEL
           : strcmp(c->generation, "vllm") == 0                    ? ENGINE_GENERATION_API
                                                                   : ENGINE_GENERATION_GIVEN;
}

void config_engine_options(const struct config *c, struct engine_options *out)
{
    *out = (struct engine_options){.context_max = (uint32_t)c->max_model_len,
                                   .seqs_max = (uint32_t)c->max_num_seqs,
                                   .step_tokens = (uint32_t)c->max_num_batched_tokens,
                                   .block_tokens = (uint32_t)c->block_size,
                                   .kv_blocks = (uint32_t)c->kv_blocks,
                                   .kv_bytes = c->kv_bytes,
                                   .long_prefill = (uint32_t)c->long_prefill,
                                   .queue_max = (uint32_t)c->queue_max,
                                   .choices_max = (uint32_t)c->choices_max,
                                   .logprobs_max = (uint32_t)c->max_logprobs,
                                   .no_prefix_cache = !c->prefix_caching,
                                   .by_priority = strcmp(c->scheduling, "priority") == 0,
                                   .has_seed = c->seed[0] != 0,
                                   .seed = strtoull(c->seed, NULL, 10),
                                   .threads = (int)c->threads,
                                   .memory_share = parse_share(c->memory_share),
                                   .tool_parser = c->tool_parser[0] ? c->tool_parser : NULL,
                                   .reasoning_parser = c->reasoning_parser[0] ? c->reasoning_parser : NULL,
                                   .no_auto_tools = !c->auto_tools,
                                   .generation = generation_of(c),
                                   .override_generation = c->override_generation[0] ? c->override_generation : NULL,
                                   .device = strcmp(c->device, "cpu") == 0 ? NULL : c->device,
                                   .embeds = strcmp(c->runner, "pooling") == 0};
    char why[512]; /* checked when the configuration was read */
    (void)config_pooler(out, c->pooler, why);
    (void)config_speculative(out, c->speculative, why);
}
