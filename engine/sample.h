/* sample.h - logits to a token: penalties, temperature, top-k, top-p, min-p, seeds, log-probabilities.
 *
 * Pure: the result is a function of logits, parameters, history and (seed, choice, position) alone; other kernels
 * (AIRLOCK_CPU) round weights differently. Randomness is a counter-based generator (Philox 4x32-10, Salmon et al. 2011)
 * keyed by the seed: nothing is carried from token to token, so a preempted or batched request draws what it would have
 * drawn alone.
 * Order (specs/engine § Sampling): raw log-probabilities, allowed ids, bias, penalties and minimum length, then greedy,
 * or temperature, min-p, top-k, top-p, draw. Ties go to the lower id. NaN logits count as minus infinity. */
#ifndef ENGINE_SAMPLE_H
#define ENGINE_SAMPLE_H

#include "verifier/base/span.h"

struct kern_ops;

#define SAMPLE_TOP_MAX 20

struct sample_bias {
    int32_t id;
    float bias;
};

struct sample_params {
    float temperature;                     /* below 1e-5: greedy */
    float top_p;                           /* 0 to 1; 1: off; 0: only the most likely */
    float min_p;                           /* 0: off */
    uint32_t top_k;                        /* 0: off */
    float repetition, presence, frequency; /* 1, 0, 0: off */
    const struct sample_bias *bias;        /* borrowed */
    size_t bias_count;
    const uint32_t *allowed; /* bit i of word i/32: id i may be chosen; NULL: all. Borrowed */
    const int32_t *banned;   /* ids that may not be chosen now (ends before min_tokens). Borrowed */
    size_t banned_count;
    uint64_t seed;
    uint32_t choice;   /* which choice of the request: another stream of the same seed */
    uint32_t position; /* how many tokens the choice already has */
    int top;           /* log-probabilities wanted beside the chosen one: 0 to SAMPLE_TOP_MAX; -1: none at all */
};

/* What was said before, for penalties: ids and how often they were produced. */
struct sample_history {
    struct sample_seen {
        int32_t id;
        uint32_t produced; /* times in the output; 0: only in the prompt */
    } * slot;              /* owned; open addressing, id -1 is free */
    size_t cap, used;
};
/* False when memory is short; then nothing changed. `*h` starts as zeros. */
MUST_CHECK bool sample_history_add(struct sample_history *h, int32_t id, bool produced);
void sample_history_release(struct sample_history *h); /* wipes */

struct sample_logprob {
    int32_t id;
    float logprob; /* natural, of the raw distribution */
};
struct sample_result {
    int32_t id; /* -1: no id is allowed */
    float logprob;
    size_t top_count;
    struct sample_logprob top[SAMPLE_TOP_MAX]; /* descending */
};

/* Scratch for one thread: one piece of memory, which begins at `digit`. */
struct sample_scratch {
    const struct kern_ops *ops;
    double *digit;               /* owned, as is the rest */
    struct sample_logprob *item; /* ids in order */
    float *raw, *weight, *some;  /* of each id: logits as they came, weights; some of the weights */
    float *peak, *sum;           /* of each stretch of ids */
    size_t bytes, cap;
};
/* False when memory is short, or AIRLOCK_CPU names kernels that cannot run here. */
MUST_CHECK bool sample_scratch_init(struct sample_scratch *s, size_t vocab);
void sample_scratch_release(struct sample_scratch *s); /* wipes */

/* Choose from `logits[0..vocab)`, which is used up. `history` may be NULL when no penalty is on. */
void sample_pick(struct sample_result *out, const struct sample_params *p, const struct sample_history *history,
                 float *logits, size_t vocab, struct sample_scratch *scratch);
/* Log-probability of `id` and of the `top` most likely ids; `logits` is only read. */
void sample_logprobs(struct sample_result *out, const float *logits, size_t vocab, int32_t id, int top,
                     struct sample_scratch *scratch);

/* Draw `position` of stream (seed, choice): uniform in [0, 1), 53 bits. */
double sample_uniform(uint64_t seed, uint32_t choice, uint32_t position);

#endif
