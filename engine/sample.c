#include "engine/sample.h"

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
    s->cap = vocab;
    if (s->item && s->raw)
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
    free(s->item);
    free(s->raw);
    *s = (struct sample_scratch){0};
}

/* --- log-probabilities --------------------------------------------------------------------------------- */

static bool is_number(float x)
{
    return x > -INFINITY && x <= INFINITY; /* false for NaN and minus infinity */
}

/* The most likely id, the lowest of equals; -1 when every logit is minus infinity or NaN. */
static int32_t most_likely(const float *logits, size_t vocab)
{
    int32_t best = -1;
    float most = -INFINITY;
    for (size_t i = 0; i < vocab; i++)
        if (logits[i] > most) {
            most = logits[i];
            best = (int32_t)i;
        }
    return best;
}

/* log(sum(exp(logits))), in id order. */
static double log_sum(const float *logits, size_t vocab, float most)
{
    double sum = 0;
    for (size_t i = 0; i < vocab; i++)
        if (is_number(logits[i]))
            sum += (double)expf(logits[i] - most);
    return (double)most + log(sum);
}

/* Descending, the lower id first among equals. */
static bool goes_before(float value, int32_t id, const struct sample_logprob *other)
{
    return value > other->logprob || (value == other->logprob && id < other->id);
}

static void find_top(struct sample_result *out, const float *logits, size_t vocab, size_t top)
{
    for (size_t i = 0; i < vocab && top > 0; i++) {
        if (!is_number(logits[i]) || (out->top_count == top && logits[i] <= out->top[top - 1].logprob))
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

static void swap(struct sample_logprob *a, struct sample_logprob *b)
{
    struct sample_logprob t = *a;
    *a = *b;
    *b = t;
}

/* Move the `k` first of the order to the front, unsorted (Hoare's selection; the middle of three as pivot). */
static void select_first(struct sample_logprob *item, size_t count, size_t k)
{
    size_t low = 0, high = count;
    while (high - low > 1 && k > low && k < high) {
        struct sample_logprob *a = &item[low], *b = &item[low + (high - low) / 2], *c = &item[high - 1];
        if (descending(b, a) < 0)
            swap(a, b);
        if (descending(c, b) < 0)
            swap(b, c);
        if (descending(b, a) < 0)
            swap(a, b);
        struct sample_logprob pivot = *b;
        size_t i = low, j = high - 1;
        while (i <= j) {
            while (descending(&item[i], &pivot) < 0)
                i++;
            while (descending(&item[j], &pivot) > 0)
                j--;
            if (i <= j) {
                swap(&item[i], &item[j]);
                i++;
                if (j == 0)
                    break;
                j--;
            }
        }
        if (k <= j)
            high = j + 1;
        else if (k >= i)
            low = i;
        else
            break;
    }
}

static double weight(const struct sample_logprob *x)
{
    return (double)expf(x->logprob);
}

/* Keep the fewest first ones whose weight reaches `top_p` of `all`, at least one: sorted in growing steps, because
 * usually few are needed of many. Returns how many. */
static size_t keep_top_p(struct sample_logprob *item, size_t count, float top_p)
{
    double all = 0, sum = 0;
    for (size_t i = 0; i < count; i++)
        all += weight(&item[i]);
    for (size_t done = 0, step = 64; done < count; step *= 4) {
        size_t until = count - done < step ? count : done + step;
        select_first(item + done, count - done, until - done);
        qsort(item + done, until - done, sizeof *item, descending);
        for (; done < until; done++) {
            sum += weight(&item[done]);
            if (sum >= (double)top_p * all)
                return done + 1;
        }
    }
    return count;
}

/* The candidates that min-p leaves, with temperature applied, relative to the most likely. */
static size_t gather(const struct sample_params *p, const float *logits, size_t vocab, float most,
                     struct sample_logprob *item)
{
    float least = p->min_p > 0 ? most + logf(p->min_p) * p->temperature : -INFINITY;
    size_t count = 0;
    for (size_t i = 0; i < vocab; i++)
        if (is_number(logits[i]) && logits[i] >= least)
            item[count++] = (struct sample_logprob){(int32_t)i, (logits[i] - most) / p->temperature};
    return count;
}

static int32_t draw(const struct sample_params *p, const float *logits, size_t vocab, struct sample_scratch *scratch)
{
    int32_t best = most_likely(logits, vocab);
    if (best < 0 || p->temperature < GREEDY_BELOW || isinf(logits[best]))
        return best;
    struct sample_logprob *item = scratch->item;
    size_t count = gather(p, logits, vocab, logits[best], item);
    if (p->top_k > 0 && p->top_k < count) {
        select_first(item, count, p->top_k);
        count = p->top_k;
    }
    if (p->top_p < 1)
        count = keep_top_p(item, count, p->top_p);
    double all = 0, sum = 0;
    for (size_t i = 0; i < count; i++)
        all += weight(&item[i]);
    double target = sample_uniform(p->seed, p->choice, p->position) * all;
    for (size_t i = 0; i < count; i++) {
        sum += weight(&item[i]);
        if (sum > target)
            return item[i].id;
    }
    return count ? item[count - 1].id : best;
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
