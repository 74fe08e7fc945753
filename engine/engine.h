/* engine.h - a loaded model that answers requests: tokenizer, template, scheduler, sampler, one thread that steps.
 *
 * Requests come in as tunnel/message.h's, answers leave as its events. The engine knows no HTTP, no peers and no
 * files after engine_open(). Prompts, answers and KV are secrets: nothing here logs or reports them, freed blocks and
 * buffers are wiped, and two requests share cached blocks only when their salts are equal.
 * Threads: engine_submit(), engine_cancel(), engine_hold() and engine_stats() from any thread. An intake thread renders
 * and tokenizes, a step thread does the rest, so a long prompt's text delays nobody's next token.
 * Equal requests with temperature 0, or with a seed, give equal answers whatever else runs (specs/engine § d1). */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "engine/files.h"
#include "engine/model.h"
#include "tunnel/message.h"
#include "tunnel/stats.h"

#define ENGINE_SERVED_NAMES_MAX 8
#define ENGINE_GUESSES_MAX 32 /* tokens guessed at a time */

struct engine;

/* How the states of a prompt's tokens become one vector. */
enum engine_pooling {
    ENGINE_POOLING_MODEL, /* as its files state it, else the last token's */
    ENGINE_POOLING_MEAN,  /* of all tokens */
    ENGINE_POOLING_CLS,   /* the first token's */
    ENGINE_POOLING_LAST,
};

/* Whose wish it is how tokens are drawn for a request that does not say. */
enum engine_generation {
    ENGINE_GENERATION_MODEL, /* its generation_config.json, or the general.sampling.* keys of its GGUF file */
    ENGINE_GENERATION_API,   /* nobody's: temperature 1, nothing cut off */
    ENGINE_GENERATION_GIVEN, /* another generation_config.json */
};

/* Zero means the default named; engine/config.h fills it from flags, file and environment. */
struct engine_options {
    const char *served[ENGINE_SERVED_NAMES_MAX]; /* names clients may ask for; borrowed for the call; none: the
                                                    model's own name, else "default" */
    size_t served_count;
    uint32_t context_max;        /* --max-model-len: positions of one sequence; 0: what the model states */
    uint32_t seqs_max;           /* --max-num-seqs: sequences in one step; 0: 32 */
    uint32_t step_tokens;        /* --max-num-batched-tokens: budget of one step; 0: 2048 */
    uint32_t block_tokens;       /* --block-size: a multiple of 16; 0: 16 */
    uint32_t kv_blocks;          /* --num-gpu-blocks-override: blocks of the full-attention pool; 0: from kv_bytes */
    uint64_t kv_bytes;           /* --kv-cache-memory-bytes: for all pools; 0: a share of what is free */
    uint32_t long_prefill;       /* --long-prefill-token-threshold: most prompt tokens of one sequence a step; 0: off */
    uint32_t queue_max;          /* requests waiting before 429; 0: 1024 */
    uint32_t choices_max;        /* choices (prompts x n) of one request; 0: 128. Not of embeddings */
    uint32_t floats_max;         /* numbers of one request's embeddings; 0: 2^21, some 45 MB of JSON */
    uint32_t logprobs_max;       /* --max-logprobs; 0: 20 */
    const char *device;          /* --device: "cuda", or NULL: the processor; borrowed for the call */
    bool no_prefix_cache;        /* --no-enable-prefix-caching */
    bool by_priority;            /* --scheduling-policy priority */
    bool has_seed;               /* --seed: unseeded requests draw from this, in order of arrival */
    uint64_t seed;               /* */
    int threads;                 /* --threads; 0: one for each CPU */
    struct engine_ngram {        /* --speculative-config {"method":"ngram"} */
        uint32_t tokens;         /* guesses at a time; 0: none */
        uint32_t longest, least; /* tokens of the text's end that are looked for earlier in it */
    } ngram;
    bool embeds;                  /* --runner pooling: serves vectors and nothing else */
    enum engine_pooling pooling;  /* --pooler-config */
    bool raw_vectors;             /* not brought to length 1 */
    const char *tool_parser;      /* --tool-call-parser; NULL: as the template shows. Borrowed for the call */
    const char *reasoning_parser; /* --reasoning-parser; the same */
    bool no_auto_tools;           /* --no-enable-auto-tool-choice: tool_choice auto is refused */
    double
        memory_share; /* --gpu-memory-utilization: of the machine's memory, for all of this process; 0: see kv_bytes */
    struct span chat_template;         /* --chat-template: its text; empty: the model's own */
    enum engine_generation generation; /* --generation-config auto, vllm or a folder */
    struct span generation_config;     /* with ENGINE_GENERATION_GIVEN: its text, borrowed for the call */
    const char *override_generation;   /* --override-generation-config: JSON; NULL: none. Borrowed for the call */
    int64_t (*now)(void *ctx); /* trusted seconds since 1970, for templates that print a date; NULL: the epoch */
    void *now_ctx;
};

/* Open the model in `files` and start the threads. NULL and `*why` when refused. Keep `files` as long as the engine;
 * weights that were laid out anew are given back from them. */
MUST_CHECK struct engine *engine_open(const struct engine_files *files, const struct engine_options *options,
                                      struct engine_problem *why);
/* Ends every job (each gets its ERROR event), stops the threads, wipes and frees. NULL is fine. */
void engine_close(struct engine *e);

/* event() runs on a thread of the engine, never from inside engine_submit() or engine_cancel(), with no lock held:
 * START first, DONE or ERROR last and exactly once; after that the job is gone and `ctx` is the caller's again.
 * `ev` and its spans are borrowed until event() returns. It must not block: it holds up everybody's next token. */
struct engine_events {
    void (*event)(void *ctx, const struct tunnel_event *ev);
};

/* Start a request; it is copied. Returns the job's number, never 0 and never used again. Whatever is wrong with the
 * request comes as an ERROR event: 400 with the field, 404 model, 429 overloaded, 503 draining. */
uint64_t engine_submit(struct engine *e, const struct tunnel_request *request, const struct engine_events *events,
                       void *ctx);
/* The client is gone: the job stops before the next step and its blocks are freed. Its last event is an ERROR with
 * status 499. A number of a job that has ended is ignored. */
void engine_cancel(struct engine *e, uint64_t job);
/* `hold`: its reader is slow; the job keeps its blocks and makes no tokens until it is called with false. */
void engine_hold(struct engine *e, uint64_t job, bool hold);

/* Put the model's defaults where `q` gives no value (engine/defaults.h), as engine_submit() does with its copy: for
 * whoever has to know the values in force. */
void engine_settle(const struct engine *e, struct tunnel_request *q);

/* Refuse new requests with 503 from now on; running ones go on. */
void engine_drain(struct engine *e);
/* The device has failed: nothing can be computed any more, and new requests are refused with 503. */
bool engine_broken(struct engine *e);
/* Jobs that have not ended. */
size_t engine_jobs(struct engine *e);
/* Forget every cached prefix and wipe its blocks (before the next step). */
void engine_reset_cache(struct engine *e);
/* A snapshot of the metrics. */
void engine_stats(struct engine *e, struct tunnel_stats *out);

const struct engine_model_info *engine_info(const struct engine *e);
/* Positions one sequence may have: the least of model, option and memory. */
uint32_t engine_context_max(const struct engine *e);
const char *engine_served(const struct engine *e, size_t index); /* NULL beyond the last */
/* The effective options as one line of text, for state.model.load_options: at most 1024 bytes, printable. */
const char *engine_load_options(const struct engine *e);

#endif
