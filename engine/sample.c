#include "engine/sample.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "verifier/base/secret.h"

#define GREEDY_BELOW 1e-5f

enum {
    ITEMS_MAX = 2048, /* most ids of top-k that are put in order; behind more, equals stay together */
    NUCLEUS_FEW = 64, /* a larger nucleus is drawn from in the order of ids, and equals stay together */
    DIGIT_BITS = 10,  /* of a weight, looked at at once: three digits are a float from 0 to 1 */
    DIGITS = 1 << DIGIT_BITS,
    LANES = 4, /* sums that neighbours are added to in turn: one addition would wait for the other */
};

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

static size_t stretches(size_t vocab)
{
    return (vocab + KERN_STRETCH - 1) / KERN_STRETCH;
}

bool sample_scratch_init(struct sample_scratch *s, size_t vocab)
{
    size_t blocks = stretches(vocab) + 1, wide = blocks * KERN_STRETCH;
    size_t digits = (size_t)DIGITS * LANES, items = 2 * (size_t)ITEMS_MAX;
    *s = (struct sample_scratch){.ops = kern_ops_find(NULL), .cap = vocab};
    s->bytes = digits * sizeof *s->digit + items * sizeof *s->item + (3 * wide + 2 * blocks) * sizeof *s->raw;
    s->digit = calloc(1, s->bytes);
    if (!s->ops || !s->digit) {
        sample_scratch_release(s);
        return false;
    }
    s->item = (struct sample_logprob *)(void *)(s->digit + digits);
    s->raw = (float *)(void *)(s->item + items);
    s->weight = s->raw + wide;
    s->some = s->weight + wide;
    s->peak = s->some + wide;
    s->sum = s->peak + blocks;
    return true;
}

void sample_scratch_release(struct sample_scratch *s)
{
    if (s->digit)
        secret_wipe(s->digit, s->bytes);
    free(s->digit);
    *s = (struct sample_scratch){0};
}

/* --- all ids, a stretch at a time -------------------------------------------------------------------------- */

/* The most likely id, the lowest of equals; -1 when every logit is minus infinity or NaN. Leaves the peaks. */
static int32_t most_likely(struct sample_scratch *s, const float *logits, size_t vocab)
{
    float most = -INFINITY;
    size_t at = 0;
    s->ops->peaks(s->peak, logits, (int)vocab);
    for (size_t i = 0; i < stretches(vocab); i++)
        if (s->peak[i] > most) {
            most = s->peak[i];
            at = i * KERN_STRETCH;
        }
    if (!(most > -INFINITY))
        return -1;
    while (logits[at] != most)
        at++;
    return (int32_t)at;
}

/* Of the stretches' sums, in the order of ids. */
static double total(const struct sample_scratch *s, size_t vocab)
{
    double sum = 0;
    for (size_t i = 0; i < stretches(vocab); i++)
        sum += (double)s->sum[i];
    return sum;
}

/* --- log-probabilities --------------------------------------------------------------------------------- */

/* Descending, the lower id first among equals. */
static bool goes_before(float value, int32_t id, const struct sample_logprob *other)
{
    return value > other->logprob || (value == other->logprob && id < other->id);
}

/* The peaks of the stretches are there. */
static void find_top(struct sample_result *out, const struct sample_scratch *s, const float *logits, size_t vocab,
                     size_t top)
{
    for (size_t i = 0; i < vocab && top > 0; i++) {
        /* NaN compares false */
        float least = out->top_count == top ? out->top[top - 1].logprob : -INFINITY;
        if (i % KERN_STRETCH == 0 && !(s->peak[i / KERN_STRETCH] > least))
            i += KERN_STRETCH - 1;
        if (i >= vocab || !(logits[i] > least))
            continue;
        size_t at = out->top_count < top ? out->top_count++ : top - 1;
        for (; at > 0 && goes_before(logits[i], (int32_t)i, &out->top[at - 1]); at--)
            out->top[at] = out->top[at - 1];
        out->top[at] = (struct sample_logprob){(int32_t)i, logits[i]};
    }
}

/* Everything but the chosen id, which is not known yet; returns log(sum(exp)). */
static double begin_logprobs(struct sample_result *out, struct sample_scratch *s, const float *logits, size_t vocab,
                             int top)
{
    int32_t best = most_likely(s, logits, vocab);
    double all = 0;
    if (best >= 0) {
        struct kern_weigh by = {logits[best], 1, -FLT_MAX};
        s->ops->weigh(s->weight, s->sum, logits, (int)vocab, &by);
        all = (double)logits[best] + log(total(s, vocab));
    }
    find_top(out, s, logits, vocab, top > SAMPLE_TOP_MAX ? SAMPLE_TOP_MAX : (size_t)top);
    for (size_t i = 0; i < out->top_count; i++)
        out->top[i].logprob = (float)((double)out->top[i].logprob - all);
    return all;
}

void sample_logprobs(struct sample_result *out, const float *logits, size_t vocab, int32_t id, int top,
                     struct sample_scratch *scratch)
{
    *out = (struct sample_result){.id = id, .logprob = -INFINITY};
    if (vocab > scratch->cap)
        return;
    double all = begin_logprobs(out, scratch, logits, vocab, top < 0 ? 0 : top);
    if (id >= 0 && (size_t)id < vocab)
        out->logprob = (float)((double)logits[id] - all);
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

/* --- thresholds ------------------------------------------------------------------------------------------ */

/* Positive floats are in the order of their bits. */
static uint32_t digit_of(float weight, int shift)
{
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return bits >> shift & (DIGITS - 1);
}

/* The value of the digit at `shift` at which `some` weights, from the heaviest down, reach `goal`: their number when
 * `counted`, else their sum. `*above` is what those beyond the digit's range have, and then those of greater values
 * too. The least value there is when all do not reach it: sums round. */
static uint32_t find_digit(struct sample_scratch *s, size_t count, int shift, bool counted, double goal, double *above)
{
    double sum = *above;
    uint32_t found = 0;
    memset(s->digit, 0, (size_t)DIGITS * LANES * sizeof *s->digit);
    for (size_t i = 0; i < count; i++)
        s->digit[digit_of(s->some[i], shift) * LANES + i % LANES] += counted ? 1 : (double)s->some[i];
    for (uint32_t value = DIGITS; value-- > 0 && sum < goal;) {
        const double *lane = &s->digit[value * LANES];
        double here = lane[0] + lane[1] + lane[2] + lane[3];
        if (!(here > 0))
            continue;
        *above = sum;
        sum += here;
        found = value;
    }
    return found;
}

/* Keep those of `some` weights whose digit has that value. */
static size_t keep_digit(float *some, size_t count, int shift, uint32_t value)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        float weight = some[i];
        some[kept] = weight;
        kept += digit_of(weight, shift) == value;
    }
    return kept;
}

static bool are_equal(const float *some, size_t count)
{
    size_t i = 1;
    while (i < count && some[i] == some[0])
        i++;
    return i >= count;
}

/* The greatest of `some` weights (at least one) that reaches `goal` together with all that are heavier, or else the
 * least. A radix sort that goes on only where the goal is reached. Uses them up. */
static float threshold(struct sample_scratch *s, size_t count, bool counted, double goal)
{
    double above = 0;
    for (int shift = 2 * DIGIT_BITS; shift >= 0 && !are_equal(s->some, count); shift -= DIGIT_BITS)
        count = keep_digit(s->some, count, shift, find_digit(s, count, shift, counted, goal, &above));
    return s->some[0];
}

/* The weight of the `k`-th heaviest id, or of the last. It is not less than the k-th of the stretches' greatest, so
 * few have to be looked at. */
static float threshold_count(struct sample_scratch *s, size_t vocab, size_t k, const struct kern_weigh *by)
{
    float low = 0;
    size_t count = stretches(vocab);
    if (k <= count) {
        s->ops->weigh(s->some, s->sum, s->peak, (int)count, by);
        low = threshold(s, count, true, (double)k);
    }
    count = (size_t)s->ops->gather(s->some, s->weight, (int)vocab, low > 0 ? low : FLT_MIN);
    return threshold(s, count, true, (double)k);
}

/* The same for `share` of the mass of those that weigh `least` or more, which is `all`. What weighs less than the
 * average of the rest of the mass over all ids has together less than that rest: half of that average is safe. */
static float threshold_mass(struct sample_scratch *s, size_t vocab, float least, double share, double all)
{
    float low = (float)(0.5 * (1 - share) * all / (double)vocab);
    size_t count = (size_t)s->ops->gather(s->some, s->weight, (int)vocab, low > least ? low : least);
    return threshold(s, count, false, share > 0 ? share * all : DBL_MIN);
}

/* --- drawing --------------------------------------------------------------------------------------------- */

static int descending(const void *a, const void *b)
{
    const struct sample_logprob *x = a, *y = b;
    return goes_before(x->logprob, x->id, y) ? -1 : goes_before(y->logprob, y->id, x) ? 1 : 0;
}

/* The `most` (at most ITEMS_MAX) heaviest ids that weigh `least` or more, heaviest first (by weight, then the lower
 * id); the stretches' sums are of those. Returns how many; 0 when `most` or more are heavier than `least`. */
static size_t collect(struct sample_scratch *s, size_t vocab, size_t most, float least)
{
    struct sample_logprob *item = s->item, *equal = item + most;
    size_t heavier = 0, equals = 0;
    for (size_t i = 0; i < vocab; i++) {
        float weight = s->weight[i];
        if (i % KERN_STRETCH == 0 && !(s->sum[i / KERN_STRETCH] > 0)) {
            i += KERN_STRETCH - 1;
            continue;
        }
        if (weight > least)
            item[heavier++] = (struct sample_logprob){(int32_t)i, weight};
        else if (weight == least && equals < most)
            equal[equals++] = (struct sample_logprob){(int32_t)i, weight};
        if (heavier == most)
            return 0;
    }
    if (equals > most - heavier)
        equals = most - heavier;
    memmove(item + heavier, equal, equals * sizeof *item);
    qsort(item, heavier + equals, sizeof *item, descending);
    return heavier + equals;
}

/* How many of the first, sorted `count` have together at least `mass`; 0 when all of them have less. */
static size_t nucleus(const struct sample_logprob *item, size_t count, double mass)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)item[i].logprob;
        if (sum >= mass)
            return i + 1;
    }
    return 0;
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

/* By the sums of stretches first, then inside the one that holds the target. */
static int32_t draw_of_all(const struct sample_scratch *s, size_t vocab, float least, double uniform)
{
    double target = uniform * total(s, vocab), sum = 0;
    int32_t last = -1;
    for (size_t i = 0; i < vocab; i++) {
        double stretch = (double)s->sum[i / KERN_STRETCH];
        if (i % KERN_STRETCH == 0 && sum + stretch <= target && i + KERN_STRETCH < vocab) {
            sum += stretch;
            i += KERN_STRETCH - 1;
            continue;
        }
        if (!(s->weight[i] >= least && s->weight[i] > 0))
            continue;
        last = (int32_t)i;
        sum += (double)s->weight[i];
        if (sum > target)
            return last;
    }
    return last;
}

/* top-k, then top-p of what is left. */
static int32_t draw_filtered(const struct sample_params *p, struct sample_scratch *s, size_t vocab,
                             const struct kern_weigh *by, double uniform)
{
    float least = FLT_MIN;
    size_t count = 0, kept = 0;
    if (p->top_k > 0) {
        least = threshold_count(s, vocab, p->top_k, by);
        s->ops->sums(s->sum, s->weight, (int)vocab, least);
    }
    double all = total(s, vocab), share = (double)p->top_p;
    if (p->top_k > 0 && p->top_k <= ITEMS_MAX) {
        count = collect(s, vocab, p->top_k, least);
        all = 0;
        for (size_t i = 0; i < count; i++)
            all += (double)s->item[i].logprob;
        if (p->top_p < 1)
            kept = nucleus(s->item, count, share * all);
        return draw_of_items(s->item, kept ? kept : count, uniform);
    }
    if (p->top_p < 1) {
        least = threshold_mass(s, vocab, least, share, all);
        s->ops->sums(s->sum, s->weight, (int)vocab, least);
        count = p->top_k > 0 ? 0 : collect(s, vocab, NUCLEUS_FEW, least);
        kept = nucleus(s->item, count, share * all);
        if (kept || (count > 0 && count < NUCLEUS_FEW)) /* all of them, where sums round */
            return draw_of_items(s->item, kept ? kept : count, uniform);
    }
    return draw_of_all(s, vocab, least, uniform);
}

static int32_t draw(const struct sample_params *p, const float *logits, size_t vocab, struct sample_scratch *scratch)
{
    int32_t best = most_likely(scratch, logits, vocab);
    if (best < 0 || p->temperature < GREEDY_BELOW || isinf(logits[best]))
        return best;
    float most = logits[best], least = p->min_p > 0 ? most + logf(p->min_p) * p->temperature : -FLT_MAX;
    struct kern_weigh by = {most, 1 / p->temperature, least};
    double uniform = sample_uniform(p->seed, p->choice, p->position);
    scratch->ops->weigh(scratch->weight, scratch->sum, logits, (int)vocab, &by);
    if (!(scratch->weight[best] > 0)) /* min-p above 1 */
        return best;
    int32_t id = p->top_k > 0 || p->top_p < 1 ? draw_filtered(p, scratch, vocab, &by, uniform)
                                              : draw_of_all(scratch, vocab, 0, uniform);
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
        total = begin_logprobs(out, scratch, logits, vocab, p->top);
        memcpy(scratch->raw, logits, vocab * sizeof *logits);
    }
    apply_limits(p, logits, vocab);
    apply_penalties(p, history, logits, vocab);
    out->id = draw(p, logits, vocab, scratch);
    if (p->top >= 0 && out->id >= 0)
        out->logprob = (float)((double)scratch->raw[out->id] - total);
}
