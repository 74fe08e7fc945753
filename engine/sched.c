#include "engine/sched.h"

#include <assert.h>
#include <stdlib.h>

#include "verifier/base/secret.h"

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t blocks_for(const struct sched *s, uint32_t tokens)
{
    return (tokens + s->config.block_tokens - 1) / s->config.block_tokens;
}

/* The first block that a layer of group `g` looks at when it computes position `pos`. */
static uint32_t first_block(const struct sched *s, int g, uint32_t pos)
{
    uint32_t window = s->config.group[g].window;
    return window == 0 || pos < window ? 0 : (pos - window + 1) / s->config.block_tokens;
}

/* --- lists, in order of (priority, arrival) -------------------------------------------------------- */

static bool comes_before(const struct sched *s, const struct sched_seq *a, const struct sched_seq *b)
{
    if (s->config.by_priority && a->priority != b->priority)
        return a->priority < b->priority;
    return a->arrival < b->arrival;
}

static void list_insert(const struct sched *s, struct sched_list *list, struct sched_seq *seq)
{
    struct sched_seq *at = list->last;
    while (at && comes_before(s, seq, at))
        at = at->before;
    seq->before = at;
    seq->next = at ? at->next : list->first;
    *(seq->next ? &seq->next->before : &list->last) = seq;
    *(at ? &at->next : &list->first) = seq;
}

static void list_remove(struct sched_list *list, struct sched_seq *seq)
{
    *(seq->before ? &seq->before->next : &list->first) = seq->next;
    *(seq->next ? &seq->next->before : &list->last) = seq->before;
    seq->before = seq->next = NULL;
}

/* --- blocks of one sequence -------------------------------------------------------------------------- */

/* Tail first, so that the ends of chains are evicted before their beginnings. */
static void free_blocks(struct sched *s, struct sched_seq *seq)
{
    for (int g = 0; g < SCHED_GROUPS; g++) {
        for (uint32_t i = seq->table_len[g]; i-- > seq->table_start[g];)
            blocks_drop(&s->pool[g], seq->table[g][i], seq->forget);
        if (seq->table[g])
            memset(seq->table[g], 0, seq->table_len[g] * sizeof *seq->table[g]);
        seq->table_len[g] = seq->table_start[g] = 0;
    }
    seq->computed = 0;
}

/* Blocks behind the window of the next position are nobody's business any more. */
static void free_behind_window(struct sched *s, struct sched_seq *seq)
{
    for (int g = 0; g < SCHED_GROUPS; g++) {
        uint32_t first = first_block(s, g, seq->computed);
        for (; seq->table_start[g] < first && seq->table_start[g] < seq->table_len[g]; seq->table_start[g]++) {
            int32_t *entry = &seq->table[g][seq->table_start[g]];
            blocks_drop(&s->pool[g], *entry, seq->forget);
            *entry = BLOCKS_NULL;
        }
    }
}

/* How many blocks group `g` lacks for the first `tokens` positions. */
static uint32_t blocks_lacking(const struct sched *s, const struct sched_seq *seq, int g, uint32_t tokens)
{
    uint32_t need = blocks_for(s, tokens);
    return s->config.group[g].blocks == 0 || need <= seq->table_len[g] ? 0 : need - seq->table_len[g];
}

/* All or nothing. */
static bool take_blocks(struct sched *s, struct sched_seq *seq, uint32_t tokens)
{
    for (int g = 0; g < SCHED_GROUPS; g++)
        if (blocks_lacking(s, seq, g, tokens) > s->pool[g].free)
            return false;
    for (int g = 0; g < SCHED_GROUPS; g++)
        for (uint32_t n = blocks_lacking(s, seq, g, tokens); n > 0; n--)
            seq->table[g][seq->table_len[g]++] = blocks_take(&s->pool[g]);
    return true;
}

/* Names of the first `count` full blocks, computed once: tokens never change. */
static void make_names(struct sched *s, struct sched_seq *seq, uint32_t count)
{
    uint32_t size = s->config.block_tokens;
    for (; seq->name_count < count; seq->name_count++)
        prefix_next(&seq->name[seq->name_count], &s->secret,
                    seq->name_count ? &seq->name[seq->name_count - 1] : &seq->root,
                    seq->tokens + seq->name_count * size, size);
}

static void name_full_blocks(struct sched *s, struct sched_seq *seq, uint32_t from_token)
{
    uint32_t full = seq->computed / s->config.block_tokens;
    if (!s->config.prefix)
        return;
    make_names(s, seq, full);
    for (int g = 0; g < SCHED_GROUPS; g++)
        for (uint32_t i = from_token / s->config.block_tokens; i < full && i < seq->table_len[g]; i++)
            if (i >= seq->table_start[g])
                blocks_name(&s->pool[g], seq->table[g][i], &seq->name[i]);
}

/* --- prefix look-up ------------------------------------------------------------------------------------ */

/* Are the blocks that group `g` needs after a hit of `n` blocks all there? */
static bool window_is_cached(const struct sched *s, const struct sched_seq *seq, int g, uint32_t n)
{
    for (uint32_t i = n; i-- > first_block(s, g, n * s->config.block_tokens);)
        if (blocks_find(&s->pool[g], &seq->name[i]) == BLOCKS_NULL)
            return false;
    return true;
}

/* The longest prefix, in blocks, that every group can continue; at least one token stays to be computed, because its
 * logits are needed. Groups that see everything need all blocks, the others those of their last window. */
static uint32_t longest_hit(struct sched *s, struct sched_seq *seq)
{
    uint32_t most = (seq->len - 1) / s->config.block_tokens, n = 0;
    make_names(s, seq, most);
    for (int g = 0; g < SCHED_GROUPS; g++) {
        if (s->config.group[g].blocks == 0 || s->config.group[g].window != 0)
            continue;
        for (n = 0; n < most && blocks_find(&s->pool[g], &seq->name[n]) != BLOCKS_NULL;)
            n++;
        most = n;
    }
    for (n = most; n > 0; n--) {
        bool all = true;
        for (int g = 0; g < SCHED_GROUPS && all; g++)
            all = s->config.group[g].blocks == 0 || s->config.group[g].window == 0 || window_is_cached(s, seq, g, n);
        if (all)
            break;
    }
    return n;
}

static void adopt_hit(struct sched *s, struct sched_seq *seq, uint32_t n)
{
    for (int g = 0; g < SCHED_GROUPS; g++) {
        if (s->config.group[g].blocks == 0)
            continue;
        seq->table_start[g] = least(first_block(s, g, n * s->config.block_tokens), n);
        for (uint32_t i = seq->table_start[g]; i < n; i++) {
            seq->table[g][i] = blocks_find(&s->pool[g], &seq->name[i]);
            blocks_hold(&s->pool[g], seq->table[g][i]);
        }
        seq->table_len[g] = n;
    }
    seq->computed = n * s->config.block_tokens;
    seq->cached = seq->computed;
}

/* --- coming and going ------------------------------------------------------------------------------------ */

static void zero_block(void *ctx, int32_t block)
{
    const struct sched_zero *z = ctx;
    if (z->sched->config.zero)
        z->sched->config.zero(z->sched->config.ctx, z->group, block);
}

bool sched_init(struct sched *s, const struct sched_config *config)
{
    *s = (struct sched){.config = *config};
    if (config->block_tokens == 0 || config->seqs_max == 0 || config->step_tokens < config->block_tokens ||
        config->step_tokens < config->seqs_max || config->step_logits < config->seqs_max + config->block_tokens)
        return false;
    prefix_secret_draw(&s->secret);
    for (int g = 0; g < SCHED_GROUPS; g++) {
        s->zero[g] = (struct sched_zero){s, g};
        if (config->group[g].blocks != 0 &&
            !blocks_init(&s->pool[g], config->group[g].blocks, zero_block, &s->zero[g])) {
            sched_release(s);
            return false;
        }
    }
    return true;
}

void sched_release(struct sched *s)
{
    for (int g = 0; g < SCHED_GROUPS; g++)
        if (s->config.group[g].blocks)
            blocks_release(&s->pool[g]);
    secret_wipe(s, sizeof *s);
}

/* Most blocks that group `g` holds at once for a sequence of `tokens`. */
static uint32_t blocks_at_most(const struct sched *s, int g, uint32_t tokens)
{
    uint32_t window = s->config.group[g].window, all = blocks_for(s, tokens);
    if (s->config.group[g].blocks == 0)
        return 0;
    return window == 0 ? all : least(all, blocks_for(s, window) + 2);
}

static void seq_free(struct sched_seq *seq)
{
    for (int g = 0; g < SCHED_GROUPS; g++) {
        free(seq->table[g]);
        seq->table[g] = NULL;
    }
    if (seq->name)
        secret_wipe(seq->name, seq->name_count * sizeof *seq->name);
    free(seq->name);
    seq->name = NULL;
    seq->name_count = 0;
}

enum sched_err sched_add(struct sched *s, struct sched_seq *seq)
{
    if (s->counts.waiting >= s->config.queue_max)
        return SCHED_FULL;
    if (seq->len == 0 || seq->len > seq->len_max || seq->len_max > s->config.context_max)
        return SCHED_LONG;
    uint32_t most = blocks_for(s, seq->len_max);
    for (int g = 0; g < SCHED_GROUPS; g++) {
        if (blocks_at_most(s, g, seq->len_max) > (s->config.group[g].blocks ? s->config.group[g].blocks - 1 : 0))
            return SCHED_LONG;
        seq->table[g] = calloc(most, sizeof *seq->table[g]);
        seq->table_len[g] = seq->table_start[g] = 0;
    }
    seq->name = calloc(most, sizeof *seq->name);
    seq->name_count = seq->computed = seq->cached = seq->preemptions = 0;
    if (!seq->name || !seq->table[0] || !seq->table[1]) {
        seq_free(seq);
        return SCHED_MEMORY;
    }
    seq->arrival = ++s->arrivals;
    seq->state = SCHED_WAITING;
    list_insert(s, &s->waiting, seq);
    s->counts.waiting++;
    return SCHED_OK;
}

void sched_remove(struct sched *s, struct sched_seq *seq)
{
    if (seq->state == SCHED_OUT)
        return;
    bool running = seq->state == SCHED_RUNNING;
    list_remove(running ? &s->running : &s->waiting, seq);
    *(running ? &s->counts.running : &s->counts.waiting) -= 1;
    free_blocks(s, seq);
    seq_free(seq);
    seq->state = SCHED_OUT;
}

static void preempt(struct sched *s, struct sched_seq *seq)
{
    list_remove(&s->running, seq);
    free_blocks(s, seq);
    seq->preemptions++;
    seq->state = SCHED_WAITING;
    list_insert(s, &s->waiting, seq); /* before all that arrived later */
    s->counts.running--;
    s->counts.waiting++;
    s->counts.preemptions++;
}

/* --- one step ----------------------------------------------------------------------------------------------- */

enum {
    CHUNK_LEAST = 8,
    PACE_GIVES = 12, /* a twelfth more where that saves a step */
};

struct plan {
    struct sched_row *rows;
    size_t count;
    uint32_t tokens, logits; /* budget left */
    uint32_t prefill;        /* of it, for prompts */
    uint32_t drafts;         /* guesses */
    bool preempted;
};

static void take_row_back(struct plan *p, const struct sched_seq *seq)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->rows[i].seq != seq)
            continue;
        p->tokens += p->rows[i].count;
        memmove(&p->rows[i], &p->rows[i + 1], (--p->count - i) * sizeof *p->rows);
        return;
    }
}

/* Blocks for the first `tokens` positions of a running sequence, from those who come after it if need be. False when
 * the sequence itself was the last. */
static bool make_room(struct sched *s, struct plan *p, struct sched_seq *seq, uint32_t tokens)
{
    while (!take_blocks(s, seq, tokens)) {
        struct sched_seq *victim = s->running.last;
        take_row_back(p, victim);
        preempt(s, victim);
        p->preempted = true;
        if (victim == seq)
            return false;
    }
    return true;
}

/* A chunk's blocks stand beside those of the window before it: more than the whole pool could never be taken. */
static uint32_t chunk_in_window(const struct sched *s, int g)
{
    if (s->config.group[g].blocks == 0 || s->config.group[g].window == 0)
        return UINT32_MAX;
    uint32_t usable = s->config.group[g].blocks - 1, window = blocks_for(s, s->config.group[g].window) + 1;
    return (usable > window ? usable - window : 1) * s->config.block_tokens;
}

/* A shorter chunk of a prompt is not worth a row. */
static uint32_t chunk_least(const struct sched *s)
{
    return least(CHUNK_LEAST, s->config.block_tokens);
}

/* How many tokens of `seq` to compute now: the rest, or one of the fewest chunks that the budget allows, cut evenly, so
 * that no step takes longer than it must; 0 when the budget does not suffice. What the pace gives is exceeded a little
 * by what would else take a step of its own, as a few tokens more or less of pace are chance. */
static uint32_t chunk_of(const struct sched *s, const struct plan *p, const struct sched_seq *seq)
{
    uint32_t missing = seq->len - seq->computed, most = least(missing, p->tokens), paced;
    if (missing > 1 && s->config.long_prefill)
        most = least(most, s->config.long_prefill < chunk_least(s) ? chunk_least(s) : s->config.long_prefill);
    if (seq->all_logits)
        most = least(most, p->logits);
    for (int g = 0; g < SCHED_GROUPS; g++)
        most = least(most, chunk_in_window(s, g));
    paced = missing > 1 ? least(most, p->prefill) : most;
    if (paced < least(missing, chunk_least(s)))
        return 0;
    uint32_t steps = (missing + paced - 1) / paced, fewer = missing / paced;
    if ((missing + fewer - 1) / fewer <= least(most, paced + paced / PACE_GIVES))
        steps = fewer;
    uint32_t count = (missing + steps - 1) / steps;
    return count < missing || p->logits > 0 ? count : 0;
}

/* Guesses go along only where nobody else goes without for them. */
static uint32_t drafts_of(struct sched *s, const struct plan *p, struct sched_seq *seq)
{
    uint32_t drafts = seq->all_logits ? 0 : least(seq->drafts, p->drafts);
    if (drafts == 0 || p->tokens < s->config.seqs_max + drafts || !take_blocks(s, seq, seq->len + drafts))
        return 0;
    return drafts;
}

static void add_row(struct plan *p, struct sched_seq *seq, uint32_t count, uint32_t drafts)
{
    bool last = seq->computed + count == seq->len;
    enum sched_logits logits = seq->all_logits || drafts ? SCHED_LOGITS_ALL
                               : last                    ? SCHED_LOGITS_LAST
                                                         : SCHED_LOGITS_NONE;
    p->rows[p->count++] = (struct sched_row){seq, seq->computed, count + drafts, logits, drafts};
    p->tokens -= count + drafts;
    p->drafts -= drafts;
    if (count > 1)
        p->prefill -= least(p->prefill, count);
    p->logits -= logits == SCHED_LOGITS_ALL ? count : logits == SCHED_LOGITS_LAST ? 1 : 0;
}

/* Rows for the running sequences that need one token (`decode`) or more. */
static void plan_running(struct sched *s, struct plan *p, bool decode)
{
    struct sched_seq *next;
    for (struct sched_seq *seq = s->running.first; seq && p->count < s->config.seqs_max; seq = next) {
        next = seq->next;
        uint32_t count;
        if (seq->hold || seq->len == seq->computed || (seq->len - seq->computed == 1) != decode ||
            (count = chunk_of(s, p, seq)) == 0)
            continue;
        uint32_t drafts = decode ? drafts_of(s, p, seq) : 0;
        if (!make_room(s, p, seq, seq->computed + count))
            return; /* it was the last of the list */
        add_row(p, seq, count, drafts);
        next = seq->next; /* those behind it may have been preempted */
    }
}

/* Would all that `seq` knows fit beside what the running ones lack for what they know, above the watermark? */
static bool fits(const struct sched *s, const struct sched_seq *seq)
{
    if (!s->running.first)
        return true;
    for (int g = 0; g < SCHED_GROUPS; g++) {
        if (s->config.group[g].blocks == 0)
            continue;
        uint64_t need = s->config.watermark;
        for (const struct sched_seq *r = s->running.first; r; r = r->next) {
            uint32_t lacking = blocks_lacking(s, r, g, r->len), held = r->table_len[g] - r->table_start[g];
            uint32_t most = blocks_at_most(s, g, r->len);
            need += least(lacking, most > held ? most - held : 0);
        }
        uint32_t lacking = blocks_lacking(s, seq, g, seq->len), held = seq->table_len[g] - seq->table_start[g];
        uint32_t most = blocks_at_most(s, g, seq->len);
        need += least(lacking, most > held ? most - held : 0);
        if (need > s->pool[g].free)
            return false;
    }
    return true;
}

static bool is_held_back(const struct sched_seq *seq)
{
    const struct sched_seq *first = seq->after;
    return seq->hold || (first && first->state != SCHED_OUT && first->computed < seq->len);
}

/* True when `seq` now runs, with a row if the budget gave one. */
static bool admit(struct sched *s, struct plan *p, struct sched_seq *seq)
{
    bool look = s->config.prefix && !seq->all_logits && !seq->compute_all;
    uint32_t hit = look ? longest_hit(s, seq) : 0;
    seq->cached = 0;
    adopt_hit(s, seq, hit);
    uint32_t count = chunk_of(s, p, seq);
    if (count == 0 || !fits(s, seq) || !take_blocks(s, seq, seq->computed + count)) {
        free_blocks(s, seq);
        return false;
    }
    if (look && seq->preemptions == 0) {
        s->counts.prefix_queries += seq->len;
        s->counts.prefix_hits += seq->cached;
    }
    list_remove(&s->waiting, seq);
    list_insert(s, &s->running, seq);
    seq->state = SCHED_RUNNING;
    seq->after = NULL;
    s->counts.waiting--;
    s->counts.running++;
    add_row(p, seq, count, 0);
    return true;
}

size_t sched_plan(struct sched *s, struct sched_row *rows, uint32_t beside, uint32_t alone)
{
    struct plan p = {.rows = rows,
                     .tokens = s->config.step_tokens,
                     .logits = s->config.step_logits,
                     .drafts = s->config.step_drafts};
    p.prefill = p.tokens;
    plan_running(s, &p, true);
    uint32_t prefill = p.count > 0 ? beside : alone;
    if (prefill > 0)
        p.prefill = prefill < chunk_least(s) ? chunk_least(s) : prefill;
    plan_running(s, &p, false);
    struct sched_seq *next;
    for (struct sched_seq *seq = s->waiting.first; seq && !p.preempted; seq = next) {
        next = seq->next;
        if (p.tokens == 0 || s->counts.running >= s->config.seqs_max)
            break;
        if (!is_held_back(seq) && !admit(s, &p, seq))
            break; /* nobody overtakes the first that could run */
    }
    return p.count;
}

void sched_commit(struct sched *s, const struct sched_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sched_seq *seq = rows[i].seq;
        assert(seq->computed == rows[i].pos);
        seq->computed += rows[i].count - rows[i].drafts;
        name_full_blocks(s, seq, rows[i].pos);
        free_behind_window(s, seq);
    }
}

void sched_accept(struct sched *s, struct sched_seq *seq, uint32_t count)
{
    uint32_t from = seq->computed;
    assert(seq->state == SCHED_RUNNING && from + count <= seq->len);
    seq->computed += count;
    name_full_blocks(s, seq, from);
    free_behind_window(s, seq);
}

void sched_forget(struct sched *s)
{
    for (int g = 0; g < SCHED_GROUPS; g++)
        if (s->config.group[g].blocks)
            blocks_forget(&s->pool[g]);
}

uint32_t sched_used(const struct sched *s, int g)
{
    return s->config.group[g].blocks ? s->config.group[g].blocks - 1 - s->pool[g].free : 0;
}
