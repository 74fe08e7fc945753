#include "engine/engine.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/job.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"

enum {
    SEQS_MAX_DEFAULT = 32,
    STEP_TOKENS_DEFAULT = 2048,
    BLOCK_TOKENS_DEFAULT = 16,
    QUEUE_MAX_DEFAULT = 1024,
    CHOICES_MAX_DEFAULT = 128,
    FLOATS_MAX_DEFAULT = 1 << 21,
    ENDS_MAX = 64,
    STEP_DRAFTS_MAX = 64,
};

/* --- options ------------------------------------------------------------------------------------------------ */

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

static enum engine_err fill_options(struct engine *e, const struct engine_options *in, struct engine_problem *why)
{
    struct engine_options *o = &e->options;
    *o = *in;
    o->seqs_max = or_default(o->seqs_max, SEQS_MAX_DEFAULT);
    o->block_tokens = or_default(o->block_tokens, BLOCK_TOKENS_DEFAULT);
    o->step_tokens = or_default(o->step_tokens, STEP_TOKENS_DEFAULT);
    o->queue_max = or_default(o->queue_max, QUEUE_MAX_DEFAULT);
    o->choices_max = or_default(o->choices_max, CHOICES_MAX_DEFAULT);
    o->floats_max = or_default(o->floats_max, FLOATS_MAX_DEFAULT);
    o->logprobs_max = or_default(o->logprobs_max, TUNNEL_TOP_MAX);
    if (o->ngram.tokens > ENGINE_GUESSES_MAX ||
        (o->ngram.tokens && (o->ngram.least < 1 || o->ngram.longest < o->ngram.least)))
        return engine_problem_set(why, ENGINE_E_RANGE, "at most %d guesses, from 1 or more tokens", ENGINE_GUESSES_MAX);
    if (o->block_tokens % 16 != 0 || o->block_tokens > 1024)
        return engine_problem_set(why, ENGINE_E_RANGE, "block size %u: use a multiple of 16 up to 1024",
                                  o->block_tokens);
    if (o->seqs_max > 4096 || o->step_tokens > 1 << 20)
        return engine_problem_set(why, ENGINE_E_RANGE, "at most 4096 sequences and 1048576 tokens a step");
    if (o->step_tokens < o->block_tokens || o->step_tokens < o->seqs_max)
        return engine_problem_set(
            why, ENGINE_E_RANGE,
            "a step of %u tokens is less than one block (%u) or one token for each of %u sequences", o->step_tokens,
            o->block_tokens, o->seqs_max);
    return ENGINE_OK;
}

static void set_served(struct engine *e, const struct engine_options *in)
{
    for (size_t i = 0; i < in->served_count && i < ENGINE_SERVED_NAMES_MAX; i++)
        snprintf(e->served[e->served_count++], sizeof e->served[0], "%s", in->served[i]);
    if (e->served_count == 0) {
        bool usable = e->info.name[0] && utf8_is_printable(span_str(e->info.name));
        snprintf(e->served[e->served_count++], sizeof e->served[0], "%s", usable ? e->info.name : "default");
    }
}

/* --- memory for keys and values ----------------------------------------------------------------------------- */

/* Half of what is free, of a device nearly all; or the share of the whole that was given, less what is taken already.
 */
static uint64_t default_kv_bytes(const struct engine *e)
{
    size_t all, spare = engine_model_memory(e->model, &all);
    double most = e->options.memory_share * (double)all, taken = (double)(all - spare);
    if (e->options.memory_share > 0)
        return most > taken ? (uint64_t)(most - taken) : 0;
    return e->info.picks ? spare / 10 * 9 : spare / 2;
}

static uint32_t blocks_of(const struct engine *e, uint64_t tokens)
{
    return (uint32_t)((tokens + e->options.block_tokens - 1) / e->options.block_tokens);
}

/* Pools from the bytes there are. The sliding pool gets what all sequences can hold at once (window and a chunk), as
 * far as half of the memory goes; the full pool the rest, but no more than all sequences at full length. */
static enum engine_err size_pools(struct engine *e, int blocks[ENGINE_KV_GROUPS], struct engine_problem *why)
{
    const struct engine_options *o = &e->options;
    const size_t *per_token = e->info.kv_bytes_per_token;
    uint64_t bytes = o->kv_bytes ? o->kv_bytes : default_kv_bytes(e), size[ENGINE_KV_GROUPS], n[ENGINE_KV_GROUPS] = {0};
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        size[g] = (uint64_t)per_token[g] * o->block_tokens;
    if (size[ENGINE_KV_SLIDING]) {
        uint64_t want =
            (uint64_t)o->seqs_max * (blocks_of(e, (uint64_t)e->info.window) + 2) + blocks_of(e, o->step_tokens) + 1;
        uint64_t share = size[ENGINE_KV_FULL] ? bytes / 2 : bytes;
        n[ENGINE_KV_SLIDING] = share / size[ENGINE_KV_SLIDING] < want ? share / size[ENGINE_KV_SLIDING] : want;
        bytes -= n[ENGINE_KV_SLIDING] * size[ENGINE_KV_SLIDING];
    }
    if (size[ENGINE_KV_FULL]) {
        uint64_t want = (uint64_t)o->seqs_max * blocks_of(e, o->context_max) + 1;
        n[ENGINE_KV_FULL] = bytes / size[ENGINE_KV_FULL] < want ? bytes / size[ENGINE_KV_FULL] : want;
        if (o->kv_blocks)
            n[ENGINE_KV_FULL] = o->kv_blocks;
    }
    for (int g = 0; g < ENGINE_KV_GROUPS; g++) {
        uint64_t least = g == ENGINE_KV_SLIDING ? blocks_of(e, (uint64_t)e->info.window) + 4 : 3;
        if (size[g] && (n[g] < least || n[g] > 1 << 30))
            return engine_problem_set(why, ENGINE_E_MEMORY,
                                      "the KV cache needs at least %llu bytes; give it more with "
                                      "--kv-cache-memory-bytes, or less to do with --max-model-len",
                                      (unsigned long long)(least * size[g] * 2));
        blocks[g] = (int)n[g];
    }
    return ENGINE_OK;
}

/* One sequence must fit the full pool alone: otherwise it could never end. */
static void fit_context(struct engine *e, const int blocks[ENGINE_KV_GROUPS])
{
    uint64_t most = (uint64_t)(blocks[ENGINE_KV_FULL] - 1) * e->options.block_tokens;
    if (blocks[ENGINE_KV_FULL] > 0 && most < e->options.context_max)
        e->options.context_max = (uint32_t)most;
}

static void zero_block(void *engine, int group, int32_t block)
{
    struct engine *e = engine;
    engine_kv_zero(e->kv, group, block);
}

/* Guesses pay while few sequences run; the bound keeps their logits small. */
static uint32_t drafts_of_step(const struct engine_options *o)
{
    uint32_t all = o->seqs_max * o->ngram.tokens;
    return all < STEP_DRAFTS_MAX ? all : STEP_DRAFTS_MAX;
}

static enum engine_err open_memory(struct engine *e, struct engine_problem *why)
{
    const struct engine_options *o = &e->options;
    int blocks[ENGINE_KV_GROUPS] = {0};
    if (size_pools(e, blocks, why) != ENGINE_OK)
        return why->code;
    fit_context(e, blocks);
    e->kv = engine_kv_open(e->model, (int)o->block_tokens, blocks, why);
    if (!e->kv)
        return why->code;
    struct sched_config c = {.block_tokens = o->block_tokens,
                             .context_max = o->context_max,
                             .seqs_max = o->seqs_max,
                             .step_tokens = o->step_tokens,
                             .step_logits = o->seqs_max + (o->block_tokens > 32 ? o->block_tokens : 32),
                             .step_drafts = drafts_of_step(o),
                             .long_prefill = o->long_prefill,
                             .queue_max = o->queue_max + o->choices_max,
                             .by_priority = o->by_priority,
                             .prefix = !o->no_prefix_cache,
                             .zero = zero_block,
                             .ctx = e};
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        c.group[g].blocks = (uint32_t)blocks[g];
    c.group[ENGINE_KV_SLIDING].window = (uint32_t)e->info.window;
    c.watermark = c.group[0].blocks / 100 + 1;
    if (!sched_init(&e->sched, &c))
        return engine_problem_set(why, ENGINE_E_MEMORY, "too little memory for the block tables");
    e->rows = calloc(o->seqs_max, sizeof *e->rows);
    e->seqs = calloc(o->seqs_max, sizeof *e->seqs);
    e->event = calloc(1, sizeof *e->event);
    if (o->embeds)
        e->states = calloc((size_t)o->step_tokens * (size_t)e->info.embed, sizeof *e->states);
    else if (e->info.picks && !picked_open(e, c.step_logits))
        return engine_problem_set(why, ENGINE_E_MEMORY, "too little memory for a step's choices");
    else if (!e->info.picks)
        e->logits = calloc((size_t)(c.step_logits + c.step_drafts) * (size_t)e->info.vocab, sizeof *e->logits);
    e->allowed = calloc(((size_t)e->info.vocab + 31) / 32, sizeof *e->allowed);
    if (!e->rows || !e->seqs || !e->event || !(e->logits || e->states || e->picked) || !e->allowed ||
        !sample_scratch_init(&e->scratch, (size_t)e->info.vocab))
        return engine_problem_set(why, ENGINE_E_MEMORY, "too little memory for a step's logits");
    e->stats.kv_blocks = (uint64_t)(blocks[0] ? blocks[0] : blocks[1]) - 1;
    e->stats.block_tokens = o->block_tokens;
    e->stats.context_max = o->context_max;
    return ENGINE_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------ */

/* The flags' word goes before what the template shows. */
static bool choose_style(struct engine *e, struct engine_problem *why)
{
    const struct engine_options *o = &e->options;
    if (o->tool_parser && !engine_toolcall_format_named(o->tool_parser, &e->style.tools))
        engine_problem_set(why, ENGINE_E_UNSUPPORTED,
                           "there is no tool-call parser \"%.40s\", only " ENGINE_TOOLCALL_NAMES, o->tool_parser);
    else if (o->reasoning_parser && !engine_toolcall_thoughts_named(o->reasoning_parser, &e->style))
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "there is no reasoning parser \"%.40s\"", o->reasoning_parser);
    else
        return true;
    return false;
}

/* What takes text: the tokenizer is open already. */
static enum engine_err open_text(struct engine *e, struct span template, struct engine_problem *why)
{
    if (engine_tokenizer_count(e->tokenizer) > e->info.vocab)
        return engine_problem_set(why, ENGINE_E_SHAPE, "the tokenizer has %d pieces, the model knows %d",
                                  engine_tokenizer_count(e->tokenizer), e->info.vocab);
    if (template.len == 0)
        template = engine_tokenizer_chat_template(e->tokenizer);
    if (template.len > 0 && !(e->template = engine_template_open(template, why)))
        return why->code;
    e->style = engine_toolcall_style_of(template);
    if (!choose_style(e, why))
        return why->code;
    e->ends = calloc(ENDS_MAX, sizeof *e->ends);
    if (!e->ends)
        return engine_problem_set(why, ENGINE_E_MEMORY, "too little memory for the list of end tokens");
    for (int32_t id = 0; id < engine_tokenizer_count(e->tokenizer) && e->end_count < ENDS_MAX; id++)
        if (engine_tokenizer_is_end(e->tokenizer, id))
            e->ends[e->end_count++] = id;
    return ENGINE_OK;
}

static enum engine_err open_model(struct engine *e, const struct engine_files *files, struct engine_problem *why)
{
    struct engine_model_options m = {.threads = e->options.threads,
                                     .context_max = (int)e->options.context_max,
                                     .step_tokens_max = (int)e->options.step_tokens,
                                     .device = e->options.device};
    e->model = engine_model_open(files, true, &m, why);
    if (!e->model)
        return why->code;
    e->info = *engine_model_info(e->model);
    if (e->info.picks && e->options.ngram.tokens > 0)
        return engine_problem_set(why, ENGINE_E_UNSUPPORTED, "speculation is not there on a device; leave it out");
    if (e->options.embeds && !pool_of_files(&e->options.pooling, files, &e->info, why))
        return why->code;
    if (e->options.context_max == 0 || e->options.context_max > (uint32_t)e->info.context_max)
        e->options.context_max = (uint32_t)e->info.context_max;
    return ENGINE_OK;
}

struct tokenizing {
    const struct engine_files *files;
    struct engine_tokenizer *tokenizer;
    struct engine_problem why;
};

static void *tokenizing_main(void *arg)
{
    struct tokenizing *t = arg;
    t->tokenizer = engine_tokenizer_open_files(t->files, &t->why);
    return NULL;
}

/* The tokenizer's tables wait for memory most of the time and use one thread; the weights are laid out meanwhile. */
static enum engine_err open_parts(struct engine *e, const struct engine_files *files, struct span template,
                                  struct engine_problem *why)
{
    struct tokenizing t = {.files = files};
    pthread_t thread;
    bool beside = pthread_create(&thread, NULL, tokenizing_main, &t) == 0;
    enum engine_err err = open_model(e, files, why);
    if (beside)
        pthread_join(thread, NULL);
    else if (err == ENGINE_OK)
        tokenizing_main(&t);
    e->tokenizer = t.tokenizer;
    if (err != ENGINE_OK)
        return err;
    if (!e->tokenizer)
        return engine_problem_set(why, t.why.code, "%s", t.why.text);
    return open_text(e, template, why);
}

static void print_options(struct engine *e)
{
    const struct engine_options *o = &e->options;
    char sampling[256];
    engine_defaults_print(&e->defaults, sampling, sizeof sampling);
    snprintf(e->load_options, sizeof e->load_options,
             "max-model-len=%u max-num-seqs=%u max-num-batched-tokens=%u block-size=%u kv-blocks=%u+%u "
             "enable-prefix-caching=%s scheduling-policy=%s chat-template=%s runner=%s speculative=%u:%u:%u "
             "sampling=%s kernels=%s",
             o->context_max, o->seqs_max, o->step_tokens, o->block_tokens, e->sched.config.group[0].blocks,
             e->sched.config.group[1].blocks, o->no_prefix_cache ? "no" : "yes", o->by_priority ? "priority" : "fcfs",
             o->chat_template.len ? "given"
             : e->template        ? "model"
                                  : "none",
             !o->embeds                          ? "generate"
             : o->pooling == ENGINE_POOLING_MEAN ? "pooling:mean"
             : o->pooling == ENGINE_POOLING_CLS  ? "pooling:cls"
                                                 : "pooling:last",
             o->ngram.tokens, o->ngram.longest, o->ngram.least, sampling, e->info.kernels ? e->info.kernels : "");
}

static enum engine_err start_threads(struct engine *e, struct engine_problem *why)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->intake_wake, &monotonic);
    pthread_cond_init(&e->step_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    e->intake_runs = pthread_create(&e->intake_thread, NULL, engine_intake_main, e) == 0;
    e->step_runs = pthread_create(&e->step_thread, NULL, engine_step_main, e) == 0;
    if (!e->intake_runs || !e->step_runs)
        return engine_problem_set(why, ENGINE_E_MEMORY, "cannot start the engine's threads");
    return ENGINE_OK;
}

struct engine *engine_open(const struct engine_files *files, const struct engine_options *options,
                           struct engine_problem *why)
{
    struct engine_problem unused = {0};
    struct engine *e = calloc(1, sizeof *e);
    why = why ? why : &unused;
    if (!e || sodium_init() < 0) {
        engine_problem_set(why, ENGINE_E_MEMORY, "too little memory to start");
        free(e);
        return NULL;
    }
    if (fill_options(e, options, why) == ENGINE_OK && engine_defaults_read(&e->defaults, files, options, why) &&
        open_parts(e, files, options->chat_template, why) == ENGINE_OK && open_memory(e, why) == ENGINE_OK) {
        set_served(e, options);
        print_options(e);
        if (start_threads(e, why) == ENGINE_OK)
            return e;
    }
    engine_close(e);
    return NULL;
}

/* --- closing ------------------------------------------------------------------------------------------------ */

static void stop_threads(struct engine *e)
{
    if (!e->intake_runs && !e->step_runs)
        return;
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_broadcast(&e->intake_wake);
    pthread_cond_broadcast(&e->step_wake);
    pthread_mutex_unlock(&e->lock);
    if (e->intake_runs)
        pthread_join(e->intake_thread, NULL);
    if (e->step_runs)
        pthread_join(e->step_thread, NULL);
    while (e->all)
        job_fail(e, e->all, 503, "draining", NULL, "the engine is going down");
    pthread_cond_destroy(&e->intake_wake);
    pthread_cond_destroy(&e->step_wake);
    pthread_mutex_destroy(&e->lock);
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    stop_threads(e);
    engine_kv_close(e->kv);
    engine_template_close(e->template);
    engine_grammar_vocab_close(e->grammar_vocab);
    engine_tokenizer_close(e->tokenizer);
    engine_model_close(e->model);
    sample_scratch_release(&e->scratch);
    picked_close(e);
    if (e->logits)
        secret_wipe(e->logits, (size_t)(e->sched.config.step_logits + e->sched.config.step_drafts) *
                                   (size_t)e->info.vocab * sizeof *e->logits);
    free(e->logits);
    if (e->states)
        secret_wipe(e->states, (size_t)e->options.step_tokens * (size_t)e->info.embed * sizeof *e->states);
    free(e->states);
    if (e->sched.config.seqs_max)
        sched_release(&e->sched);
    free(e->rows);
    free(e->seqs);
    if (e->event)
        secret_wipe(e->event, sizeof *e->event);
    free(e->event);
    free(e->allowed);
    free(e->ends);
    secret_wipe(e, sizeof *e);
    free(e);
}

/* --- calls from outside -------------------------------------------------------------------------------------- */

uint64_t engine_submit(struct engine *e, const struct tunnel_request *request, const struct engine_events *events,
                       void *ctx)
{
    pthread_mutex_lock(&e->lock);
    bool refused =
        e->draining || e->stopping || e->intake.count + e->ready.count + e->waiting_seqs >= e->options.queue_max;
    pthread_mutex_unlock(&e->lock);
    struct job *j = job_new(refused ? NULL : request);
    if (!j)
        j = job_new(NULL); /* refused as overloaded */
    if (!j)
        return 0;
    j->events = *events;
    j->ctx = ctx;
    pthread_mutex_lock(&e->lock);
    uint64_t id = j->id = ++e->next_id;
    j->all_next = e->all;
    if (e->all)
        e->all->all_before = j;
    e->all = j;
    e->all_count++;
    queue_push(&e->intake, j);
    pthread_cond_signal(&e->intake_wake);
    pthread_mutex_unlock(&e->lock);
    return id;
}

static struct job *find_job(struct engine *e, uint64_t id)
{
    struct job *j = e->all;
    while (j && j->id != id)
        j = j->all_next;
    return j;
}

void engine_cancel(struct engine *e, uint64_t job)
{
    pthread_mutex_lock(&e->lock);
    struct job *j = find_job(e, job);
    if (j)
        atomic_store(&j->cancelled, true);
    pthread_cond_signal(&e->step_wake);
    pthread_mutex_unlock(&e->lock);
}

void engine_hold(struct engine *e, uint64_t job, bool hold)
{
    pthread_mutex_lock(&e->lock);
    struct job *j = find_job(e, job);
    if (j)
        atomic_store(&j->hold, hold);
    pthread_cond_signal(&e->step_wake);
    pthread_mutex_unlock(&e->lock);
}

void engine_drain(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->draining = true;
    pthread_mutex_unlock(&e->lock);
}

void engine_settle(const struct engine *e, struct tunnel_request *q)
{
    engine_defaults_settle(&e->defaults, q);
}

bool engine_broken(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    bool broken = e->broken;
    pthread_mutex_unlock(&e->lock);
    return broken;
}

size_t engine_jobs(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    size_t n = e->all_count;
    pthread_mutex_unlock(&e->lock);
    return n;
}

void engine_reset_cache(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->forget = true;
    pthread_cond_signal(&e->step_wake);
    pthread_mutex_unlock(&e->lock);
}

void engine_stats(struct engine *e, struct tunnel_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
}

const struct engine_model_info *engine_info(const struct engine *e)
{
    return &e->info;
}

uint32_t engine_context_max(const struct engine *e)
{
    return e->options.context_max;
}

const char *engine_served(const struct engine *e, size_t index)
{
    return index < e->served_count ? e->served[index] : NULL;
}

const char *engine_load_options(const struct engine *e)
{
    return e->load_options;
}
