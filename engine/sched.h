/* sched.h - which tokens of which sequences the next step computes, and in which blocks.
 *
 * There are no prefill and decode phases: a sequence has known tokens and computed ones and catches up. One budget of
 * tokens a step serves all; sequences that need one token come first, then prompts in even chunks (cut anywhere: a
 * model's bits do not depend on it, so a prefix hit and a miss compute alike). When blocks run out, the last in order
 * is preempted: its blocks are freed and it is computed again later, mostly from the prefix cache. New sequences are
 * admitted in order of (priority, arrival) when what they know fits beside what the running ones still need and a
 * watermark of free blocks. Ideas: vLLM v1 scheduler and KV cache manager (specs/engine § d1, d2).
 *
 * Pure: no model, no clock, no threads; one thread calls it between steps. */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H

#include "engine/prefix.h"

#define SCHED_GROUPS 2

struct sched_config {
    uint32_t block_tokens;
    uint32_t context_max;  /* tokens of one sequence */
    uint32_t seqs_max;     /* rows of one step */
    uint32_t step_tokens;  /* tokens of one step, at least block_tokens */
    uint32_t step_logits;  /* rows of logits of one step, at least seqs_max + block_tokens */
    uint32_t step_drafts;  /* guessed tokens of one step, each with a row of logits beside those */
    uint32_t long_prefill; /* most prompt tokens of one sequence a step; 0: no such limit */
    uint32_t queue_max;    /* waiting sequences */
    uint32_t watermark;    /* blocks of each group kept free at admission */
    bool by_priority;      /* lower priority value first, then arrival; else arrival alone */
    bool prefix;           /* look prefixes up */
    struct {
        uint32_t blocks; /* of the pool, the null block included; 0: the model has no such group */
        uint32_t window; /* tokens that a layer sees, its own included; 0: all */
    } group[SCHED_GROUPS];
    void (*zero)(void *ctx, int group, int32_t block);
    void *ctx;
};

enum sched_state { SCHED_OUT, SCHED_WAITING, SCHED_RUNNING };
enum sched_logits { SCHED_LOGITS_NONE, SCHED_LOGITS_LAST, SCHED_LOGITS_ALL };

/* One sequence. The owner fills the first part before sched_add() and keeps the struct until sched_remove(). */
struct sched_seq {
    const int32_t *tokens; /* owner's; `len` ids, of which a step may compute those that are not yet */
    uint32_t len;          /* the owner raises it by one after each sampled token */
    uint32_t len_max;      /* never more than context_max */
    int32_t priority;
    struct blocks_key root;  /* start of its prefix chain (prefix_root) */
    bool forget;             /* blocks are wiped when freed: nobody may find them */
    bool all_logits;         /* logits of every position, so nothing is looked up; the owner clears it */
    bool compute_all;        /* nothing is looked up */
    uint32_t drafts;         /* guesses that the owner has put behind tokens[len]; len + drafts <= len_max */
    bool hold;               /* not computed until the owner clears it; keeps its blocks */
    struct sched_seq *after; /* not admitted before that one has computed what it knew when added; the owner clears it
                                when that one goes */

    enum sched_state state;
    uint64_t arrival;
    uint32_t computed;    /* tokens whose keys and values are in blocks */
    uint32_t cached;      /* how many of them the last admission found */
    uint32_t preemptions; /* so often computed anew */
    int32_t *table[SCHED_GROUPS];
    uint32_t table_len[SCHED_GROUPS], table_start[SCHED_GROUPS]; /* entries below start are BLOCKS_NULL */
    struct blocks_key *name;                                     /* of its full blocks */
    uint32_t name_count;
    struct sched_seq *before, *next;
};

struct sched_row {
    struct sched_seq *seq;
    uint32_t pos, count; /* tokens[pos .. pos+count) */
    enum sched_logits logits;
    uint32_t drafts; /* so many of `count`, the last, are guesses; then logits are of all */
};

struct sched_counts {
    uint32_t waiting, running;
    uint64_t preemptions, prefix_queries, prefix_hits; /* the last two in tokens */
};

struct sched {
    struct sched_config config;
    struct blocks pool[SCHED_GROUPS];
    struct prefix_secret secret;
    struct sched_list {
        struct sched_seq *first, *last;
    } waiting, running; /* in order */
    struct sched_counts counts;
    uint64_t arrivals;
    struct sched_zero {
        struct sched *sched;
        int group;
    } zero[SCHED_GROUPS];
};

enum sched_err { SCHED_OK, SCHED_FULL /* the queue */, SCHED_LONG /* can never fit */, SCHED_MEMORY };

/* False when memory is short or the numbers contradict each other. */
MUST_CHECK bool sched_init(struct sched *s, const struct sched_config *config);
void sched_release(struct sched *s); /* every sequence must have been removed */

/* `len` is at least 1. On failure nothing is kept. */
MUST_CHECK enum sched_err sched_add(struct sched *s, struct sched_seq *seq);
/* At any time between steps; frees its blocks. Nothing happens when it is out. */
void sched_remove(struct sched *s, struct sched_seq *seq);

/* Choose the next step's rows, at most seqs_max, with no more than `beside` prompt tokens if any row decodes, else no
 * more than `alone` (0: the whole budget), or a twelfth more where a prompt then needs a step less. Returns their
 * number; 0: nothing to do now. Tables cover all positions of the rows. */
size_t sched_plan(struct sched *s, struct sched_row *rows, uint32_t beside, uint32_t alone);
/* The step is done: the rows' tokens are computed, but for guesses. */
void sched_commit(struct sched *s, const struct sched_row *rows, size_t count);
/* After that: the first `count` guesses of a running sequence's row were right, and stand in its tokens. What was
 * computed for the others is written over by what takes their place. */
void sched_accept(struct sched *s, struct sched_seq *seq, uint32_t count);

/* Forget all prefixes. */
void sched_forget(struct sched *s);
/* Blocks of group `g` that sequences hold. */
uint32_t sched_used(const struct sched *s, int g);

#endif
