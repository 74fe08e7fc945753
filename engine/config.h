/* config.h - airlock-engine's options: one table for flags, environment and file, under the names that vLLM uses.
 * Order, the later wins: built-in default; the file (--config FILE, libconfig text, '-' written as '_'); the
 * environment (AIRLOCK_ENGINE_ and the name in capitals, '-' as '_'; a variable with that prefix that is no option's is
 * refused); the flags. What is in force is printed into the statement's configuration text; none of it is secret. */
#ifndef ENGINE_CONFIG_H
#define ENGINE_CONFIG_H

#include "engine/engine.h"
#include "policy/config.h"

enum { CONFIG_PATH_MAX = 512, CONFIG_NAME_MAX = 257, CONFIG_ADDRESS_MAX = 262, CONFIG_LIST_MAX = 8 };

struct config_list {
    size_t count;
    char item[CONFIG_LIST_MAX][CONFIG_ADDRESS_MAX];
};

struct config {
    char model[CONFIG_PATH_MAX];      /* a .gguf file, a folder, or a sealed folder */
    char log[CONFIG_PATH_MAX];        /* the node's own log; empty: kept nowhere */
    char policy[CONFIG_PATH_MAX];     /* the bundle: the owner's keysets, then the signed policy */
    char collateral[CONFIG_PATH_MAX]; /* a file of `airlock collateral` to go along with evidence; empty: none */
    char owner[129];                  /* digest of the owner's first keyset, hex */
    struct config_list keyd, proxies, served;
    char chat_template[CONFIG_PATH_MAX];        /* file; empty: the model's own */
    char scheduling[16];                        /* fcfs, priority */
    char device[16];                            /* cpu, cuda */
    char runner[16];                            /* generate, pooling */
    char memory_share[16];                      /* 0 to 1; empty: none given */
    char tool_parser[32], reasoning_parser[32]; /* empty: as the template shows */
    char speculative[512];                      /* JSON; empty: none */
    char pooler[256];                           /* JSON; empty: as the model's file states it */
    char generation[CONFIG_PATH_MAX];           /* auto, vllm, or a folder with a generation_config.json */
    char override_generation[512];              /* JSON; empty: none */
    uint64_t max_model_len, max_num_seqs, max_num_batched_tokens, block_size, kv_blocks, kv_bytes, long_prefill,
        queue_max, choices_max, max_logprobs, threads, drain_s;
    char seed[24]; /* decimal; empty: random */
    bool prefix_caching, auto_tools;
    bool sandbox; /* simulated builds only: false for tests under sanitizers */
    bool check;   /* print the effective options and exit */
};

/* From the command line (argp: prints help and usage itself, exits on misuse), environment and file. False with one
 * line for people in `why`. */
MUST_CHECK bool config_load(struct config *out, int argc, char **argv, char why[512]);
/* The same without a command line: `file` may be NULL. For tests. */
MUST_CHECK bool config_from_text(struct config *out, struct span text, const char *name, char why[512]);
/* "name = value" lines, every option, in the order of the table, as the file would have them; "# name: not given". */
void config_print(const struct config *c, struct writer *w);
/* The engine's part, borrowing texts of `c`; `served` and what stands in files (`chat_template`, `generation_config`)
 * are left to the caller. */
void config_engine_options(const struct config *c, struct engine_options *out);

/* --- config_json.c: flags whose value is JSON, in vLLM's spelling; each an object whose unknown keys are refused. ---
 */
bool config_pooler(struct engine_options *out, const char *json, char why[512]);
bool config_speculative(struct engine_options *out, const char *json, char why[512]);

#endif
