#include "engine/sample.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "verifier/base/secret.h"

#define GREEDY_BELOW 1e-5f

/* --- randomness: Philox 4x32-10 ----------------------------------------------------------------------- */

double sample_uniform(uint64_t seed, uint32_t choice, uint32_t position)
{
    uint32_t c[4] = {position, choice, 0, 0}, k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                            (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    return (double)(((uint64_t)c[0] << 32 | c[1]) >> 11) * 0x1p-53;
}

/* --- history: open addressing, at most half full ------------------------------------------------------- */

static struct sample_seen *slot_of(struct sample_seen *slot, size_t cap, int32_t id)
{
    size_t at = ((uint32_t)id * 2654435761u) & (cap - 1);
    while (slot[at].id != -1 && slot[at].id != id)
        at = (at + 1) & (cap - 1);
    return &slot[at];
}

static bool history_grow(struct sample_history *h)
{
    size_t cap = h->cap ? 2 * h->cap : 64;
    struct sample_seen *slot = malloc(cap * sizeof *slot);
    if (!slot)
        return false;
    for (size_t i = 0; i < cap; i++)
        slot[i] = (struct sample_seen){-1, 0};
    for (size_t i = 0; i < h->cap; i++)
        if (h->slot[i].id != -1)
            *slot_of(slot, cap, h->slot[i].id) = h->slot[i];
    size_t used = h->used;
    sample_history_release(h);
    *h = (struct sample_history){slot, cap, used};
    return true;
}

bool sample_history_add(struct sample_history *h, int32_t id, bool produced)
{
    if (2 * h->used >= h->cap && !history_grow(h))
        return false;
    struct sample_seen *s = slot_of(h->slot, h->cap, id);
    if (s->id == -1) {
        *s = (struct sample_seen){id, 0};
        h->used++;
    }
    s->produced += produced;
    return true;
}

void sample_history_release(struct sample_history *h)
{
    if (h->slot)
        secret_wipe(h->slot, h->cap * sizeof *h->slot);
    free(h->slot);
    *h = (struct sample_history){0};
}

bool sample_scratch_init(struct sample_scratch *s, size_t vocab)
{
    s->item = calloc(vocab ? vocab : 1, sizeof *s->item);
    s->raw = calloc(vocab ? vocab : 1, sizeof *s->raw);
    s->weight = calloc(vocab ? vocab : 1, sizeof *s->weight);
    s->cap = vocab;
    if (s->item && s->raw && s->weight)
        return true;
    sample_scratch_release(s);
    return false;
}

void sample_scratch_release(struct sample_scratch *s)
{
    if (s->item)
        secret_wipe(s->item, s->cap * sizeof *s->item);
    if (s->raw)
        secret_wipe(s->raw, s->cap * sizeof *s->raw);
    if (s->weight)
        secret_wipe(s->weight, s->cap * sizeof *s->weight);
    free(s->item);
    free(s->raw);
    free(s->weight);
    *s = (struct sample_scratch){0};
}

/* --- many exponentials ----------------------------------------------------------------------------------- */

enum {
    LANES = 4,          /* of one vector: what every x86-64 and aarch64 has */
    BLOCK = 1024,       /* ids whose weights are summed before one of them is looked for; a multiple of LANES */
    HEAP_MAX = 2048,    /* most candidates that are found by a heap; for more a threshold is searched */
    NUCLEUS_FIRST = 64, /* candidates that top-p looks at first; usually they suffice, else HEAP_MAX of them do */
};

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t vector_int __attribute__((vector_size(4 * LANES)));

static inline vector load(const float *from)
{
    vector v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline vector spread(float x)
{
    return x - (vector){0};
}

/* `yes` where the mask is all ones, else `no`. */
static inline vector choose(vector_int mask, vector yes, vector no)
{
    return (vector)((mask & (vector_int)yes) | (~mask & (vector_int)no));
}

/* e^x for x <= 0, relative error below 2e-7; 0 below -87. 2^n times a polynomial of the rest: the coefficients are
 * those of 2^f around 0. */
static inline vector exp_below(vector x)
{
    vector_int tiny = x < -87.0f;
    vector t = choose(tiny, spread(-87.0f), x) * 1.44269504f;
    vector shifted = t + 12582912.0f; /* 1.5 * 2^23: the low bits of the sum are round(t) */
    vector f = t - (shifted - 12582912.0f), p = spread(1.5403530e-4f);
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 0.24022651f;
    p = p * f + 0.69314718f;
    p = p * f + 1.0f;
    vector_int power = ((vector_int)shifted + 127) << 23;
    return choose(tiny, spread(0), p * (vector)power);
}

static inline vector weigh_one(vector x, float most, float inverse, float least)
{
    return exp_below(choose(x >= least, (x - most) * inverse, spread(-100.0f)));
}

/* weight[i] = e^((logits[i] - most) * inverse); 0 for what is below `least`, minus infinity or NaN. */
static void weigh(float *weight, const float *logits, size_t count, float most, float inverse, float least)
{
    size_t i = 0, rest;
    for (; i + LANES <= count; i += LANES) {
        vector w = weigh_one(load(logits + i), most, inverse, least);
        memcpy(weight + i, &w, sizeof w);
    }
    if ((rest = count - i) > 0) {
        float last[LANES] = {0};
        memcpy(last, logits + i, rest * sizeof *last);
        vector w = weigh_one(load(last), most, inverse, least);
        memcpy(weight + i, &w, rest * sizeof *weight);
    }
}

/* The sum of the weights that are `least` or more. */
static double sum_from(const float *weight, size_t count, float least)
{
    vector lanes = {0};
    double sum = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vector w = load(weight + i);
        lanes += choose(w >= least, w, spread(0));
    }
    for (; i < count; i++)
        sum += weight[i] >= least ? (double)weight[i] : 0;
    for (size_t k = 0; k < LANES; k++)
        sum += (double)lanes[k];
    return sum;
}

static double sum_all(const float *weight, size_t count, float least)
{
    double sum = 0;
    for (size_t i = 0; i < count; i += BLOCK)
        sum += sum_from(weight + i, count - i < BLOCK ? count - i : BLOCK, least);
    return sum;
}

static size_t count_from(const float *weight, size_t count, float least)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += weight[i] >= least;
    return n;
}

/* log(sum(exp(logits))): blocks in id order. */
static double log_sum(const float *logits, size_t vocab, float most)
{
    float weight[BLOCK];
    double sum = 0;
    for (size_t from = 0; from < vocab; from += BLOCK) {
        size_t count = vocab - from < BLOCK ? vocab - from : BLOCK;
        weigh(weight, logits + from, count, most, 1, -FLT_MAX);
        sum += sum_from(weight, count, 0);
    }
    return (double)most + log(sum);
}

/* --- log-probabilities --------------------------------------------------------------------------------- */

static inline void raise(vector *most, vector x)
{
    *most = choose(x > *most, x, *most); /* NaN compares false */
}

/* The greatest of `count` values; minus infinity when there is none. */
static float greatest(const float *v, size_t count)
{
    vector m[4] = {spread(-INFINITY), spread(-INFINITY), spread(-INFINITY), spread(-INFINITY)};
    float most = -INFINITY;
    size_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (size_t k = 0; k < 4; k++)
            raise(&m[k], load(v + i + k * LANES));
    for (size_t k = 1; k < 4; k++)
        raise(&m[0], m[k]);
    for (size_t k = 0; k < LANES; k++)
        most = m[0][k] > most ? m[0][k] : most;
    for (; i < count; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

/* The most likely id, the lowest of equals; -1 when every logit is minus infinity or NaN. */
static int32_t most_likely(const float *logits, size_t vocab)
{
    int32_t best = -1;
    float most = -INFINITY;
    for (size_t from = 0; from < vocab; from += BLOCK) {
        size_t count = vocab - from < BLOCK ? vocab - from : BLOCK;
        float here = greatest(logits + from, count);
        if (!(here > most))
            continue;
        most = here;
        for (best = (int32_t)from; logits[best] != here; best++)
            continue;
    }
    return best;
}

/* Descending, the lower id first among equals. */
static bool goes_before(float value, int32_t id, const struct sample_logprob *other)
{
    return value > other->logprob || (value == other->logprob && id < other->id);
}

static void find_top(struct sample_result *out, const float *logits, size_t vocab, size_t top)
{
    for (size_t i = 0; i < vocab && top > 0; i++) {
        /* NaN compares false */
        if (!(logits[i] > (out->top_count == top ? out->top[top - 1].logprob : -INFINITY)))
            continue;
        size_t at = out->top_count < top ? out->top_count++ : top - 1;
        for (; at > 0 && goes_before(logits[i], (int32_t)i, &out->top[at - 1]); at--)
            out->top[at] = out->top[at - 1];
        out->top[at] = (struct sample_logprob){(int32_t)i, logits[i]};
    }
}

/* Everything but the chosen id, which is not known yet; returns log(sum(exp)). */
static double begin_logprobs(struct sample_result *out, const float *logits, size_t vocab, int top)
{
    int32_t best = most_likely(logits, vocab);
    double total = best < 0 ? 0 : log_sum(logits, vocab, logits[best]);
    find_top(out, logits, vocab, top > SAMPLE_TOP_MAX ? SAMPLE_TOP_MAX : (size_t)top);
    for (size_t i = 0; i < out->top_count; i++)
        out->top[i].logprob = (float)((double)out->top[i].logprob - total);
    return total;
}

void sample_logprobs(struct sample_result *out, const float *logits, size_t vocab, int32_t id, int top)
{
    *out = (struct sample_result){.id = id};
    double total = begin_logprobs(out, logits, vocab, top < 0 ? 0 : top);
    out->logprob = id >= 0 && (size_t)id < vocab ? (float)((double)logits[id] - total) : -INFINITY;
}

/* --- what changes logits ------------------------------------------------------------------------------- */

static void apply_limits(const struct sample_params *p, float *logits, size_t vocab)
{
    if (p->allowed)
        for (size_t i = 0; i < vocab; i++)
            if (!(p->allowed[i / 32] >> (i % 32) & 1))
                logits[i] = -INFINITY;
    for (size_t i = 0; i < p->bias_count; i++)
        if ((size_t)p->bias[i].id < vocab)
            logits[p->bias[i].id] += p->bias[i].bias;
    for (size_t i = 0; i < p->banned_count; i++)
        if ((size_t)p->banned[i] < vocab)
            logits[p->banned[i]] = -INFINITY;
}

/* repetition: prompt and output (CTRL, Keskar et al. 2019); presence and frequency: output only, as OpenAI states. */
static void apply_penalties(const struct sample_params *p, const struct sample_history *h, float *logits, size_t vocab)
{
    if (!h || (p->repetition == 1 && p->presence == 0 && p->frequency == 0))
        return;
    for (size_t i = 0; i < h->cap; i++) {
        if (h->slot[i].id < 0 || (size_t)h->slot[i].id >= vocab)
            continue;
        float *x = &logits[h->slot[i].id];
        *x = *x > 0 ? *x / p->repetition : *x * p->repetition;
        if (h->slot[i].produced)
            *x -= p->presence + p->frequency * (float)h->slot[i].produced;
    }
}

/* --- drawing --------------------------------------------------------------------------------------------- */

static int descending(const void *a, const void *b)
{
    const struct sample_logprob *x = a, *y = b;
    return goes_before(x->logprob, x->id, y) ? -1 : goes_before(y->logprob, y->id, x) ? 1 : 0;
}

/* The last of the order at item[0]: sift the item at `at` down. */
static void sift(struct sample_logprob *item, size_t count, size_t at)
{
    struct sample_logprob moving = item[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && descending(&item[child + 1], &item[child]) > 0)
            child++;
        if (descending(&item[child], &moving) <= 0)
            break;
        item[at] = item[child];
    }
    item[at] = moving;
}

/* The `most` (at most HEAP_MAX) heaviest ids, heaviest first (by weight, then the lower id); those of weight 0 never.
 * Returns how many. */
static size_t heaviest(struct sample_logprob *item, size_t most, const float *weight, size_t vocab)
{
    size_t count = 0, i = 0;
    for (; i < vocab && count < most; i++)
        if (weight[i] > 0)
            item[count++] = (struct sample_logprob){(int32_t)i, weight[i]};
    for (size_t k = count / 2; k-- > 0;)
        sift(item, count, k);
    for (; i < vocab; i++)
        if (weight[i] > item[0].logprob) { /* equals come later, so they go behind */
            item[0] = (struct sample_logprob){(int32_t)i, weight[i]};
            sift(item, count, 0);
        }
    qsort(item, count, sizeof *item, descending);
    return count;
}

/* How many of the first, sorted `count` have together at least `share` of `all`; 0 when all of them have less. */
static size_t nucleus(const struct sample_logprob *item, size_t count, double share, double all)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)item[i].logprob;
        if (sum >= share * all)
            return i + 1;
    }
    return 0;
}

/* Positive floats are in the order of their bits: halve the range between 0 and 1 until the greatest threshold is
 * found that keeps at least `count` ids (count > 0), or else at least the weight `mass`. Equal weights stay together.
 */
static float threshold(const float *weight, size_t vocab, size_t count, double mass, float low)
{
    uint32_t from, to = 0x3f800000; /* 1.0, the weight of the most likely: always kept */
    memcpy(&from, &low, sizeof from);
    while (from < to) {
        uint32_t middle = from + (to - from + 1) / 2;
        float least;
        memcpy(&least, &middle, sizeof least);
        bool enough = count ? count_from(weight, vocab, least) >= count : sum_all(weight, vocab, least) >= mass;
        if (enough)
            from = middle;
        else
            to = middle - 1;
    }
    memcpy(&low, &from, sizeof low);
    return low;
}

static int32_t draw_of_items(const struct sample_logprob *item, size_t count, double uniform)
{
    double all = 0, sum = 0;
    for (size_t i = 0; i < count; i++)
        all += (double)item[i].logprob;
    for (size_t i = 0; i + 1 < count; i++) {
        sum += (double)item[i].logprob;
        if (sum > uniform * all)
            return item[i].id;
    }
    return count ? item[count - 1].id : -1;
}

/* By whole blocks first, then inside the one that holds the target. */
static int32_t draw_of_all(const float *weight, size_t vocab, float least, double uniform)
{
    double target = uniform * sum_all(weight, vocab, least), sum = 0;
    int32_t last = -1;
    for (size_t from = 0; from < vocab; from += BLOCK) {
        size_t count = vocab - from < BLOCK ? vocab - from : BLOCK;
        double block = sum_from(weight + from, count, least);
        if (sum + block <= target && from + count < vocab) {
            sum += block;
            continue;
        }
        for (size_t i = from; i < from + count; i++) {
            if (!(weight[i] >= least && weight[i] > 0))
                continue;
            last = (int32_t)i;
            sum += (double)weight[i];
            if (sum > target)
                return last;
        }
    }
    return last;
}

/* top-k, then top-p of what is left. */
static int32_t draw_filtered(const struct sample_params *p, struct sample_logprob *item, const float *weight,
                             size_t vocab, double uniform)
{
    bool few = p->top_k > 0 && p->top_k <= HEAP_MAX;
    float least = 0;
    if (few) {
        size_t count = heaviest(item, p->top_k, weight, vocab), kept = count;
        double all = 0;
        for (size_t i = 0; i < count; i++)
            all += (double)item[i].logprob;
        if (p->top_p < 1)
            kept = nucleus(item, count, (double)p->top_p, all);
        return draw_of_items(item, kept ? kept : count, uniform);
    }
    double all = p->top_k == 0 ? sum_all(weight, vocab, 0) : 0;
    for (size_t most = NUCLEUS_FIRST; p->top_k == 0 && most <= HEAP_MAX; most *= HEAP_MAX / NUCLEUS_FIRST) {
        size_t kept = nucleus(item, heaviest(item, most, weight, vocab), (double)p->top_p, all);
        if (kept > NUCLEUS_FIRST) /* drawn in the order of ids, as behind a threshold */
            return draw_of_all(weight, vocab, item[kept - 1].logprob, uniform);
        if (kept)
            return draw_of_items(item, kept, uniform);
    }
    if (p->top_k > 0)
        least = threshold(weight, vocab, p->top_k, 0, 0);
    if (p->top_p < 1)
        least = threshold(weight, vocab, 0, (double)p->top_p * sum_all(weight, vocab, least), least);
    return draw_of_all(weight, vocab, least, uniform);
}

static int32_t draw(const struct sample_params *p, const float *logits, size_t vocab, struct sample_scratch *scratch)
{
    int32_t best = most_likely(logits, vocab);
    if (best < 0 || p->temperature < GREEDY_BELOW || isinf(logits[best]))
        return best;
    float most = logits[best], least = p->min_p > 0 ? most + logf(p->min_p) * p->temperature : -FLT_MAX;
    double uniform = sample_uniform(p->seed, p->choice, p->position);
    weigh(scratch->weight, logits, vocab, most, 1 / p->temperature, least);
    int32_t id;
    if (p->top_k > 0 || p->top_p < 1)
        id = draw_filtered(p, scratch->item, scratch->weight, vocab, uniform);
    else
        id = draw_of_all(scratch->weight, vocab, 0, uniform);
    return id < 0 ? best : id;
}

void sample_pick(struct sample_result *out, const struct sample_params *p, const struct sample_history *history,
                 float *logits, size_t vocab, struct sample_scratch *scratch)
{
    double total = 0;
    *out = (struct sample_result){.id = -1};
    if (vocab > scratch->cap)
        return;
    if (p->top >= 0) {
        total = begin_logprobs(out, logits, vocab, p->top);
        memcpy(scratch->raw, logits, vocab * sizeof *logits);
    }
    apply_limits(p, logits, vocab);
    apply_penalties(p, history, logits, vocab);
    out->id = draw(p, logits, vocab, scratch);
    if (p->top >= 0 && out->id >= 0)
        out->logprob = (float)((double)scratch->raw[out->id] - total);
}
