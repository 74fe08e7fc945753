/* The step thread: takes prepared jobs in, plans, runs the model, hands rows to their choices. */
#include <time.h>

#include "engine/job.h"

enum {
    IDLE_MS = 20,         /* how long to wait when jobs exist but none may run (held, or the queue is stuck) */
    ENTERING_WEIGHT = 16, /* inputs that are to enter, which hold ids only, fill the queue like one that waits in it */
};

/* --- jobs in and out ------------------------------------------------------------------------------------------- */

static void refuse_sched(struct engine *e, struct job *j, enum sched_err err)
{
    if (err == SCHED_FULL)
        job_fail(e, j, 429, "overloaded", NULL, "too many requests are waiting; try again in a moment");
    else if (err == SCHED_LONG)
        job_fail(e, j, 400, "context_length_exceeded", NULL,
                 "the request needs more positions than this engine's memory has (%u)", e->options.context_max);
    else
        job_fail(e, j, 503, "engine_unavailable", NULL, "the engine is short of memory; try again in a moment");
}

/* A prompt that is only to be echoed needs no step. */
static bool needs_no_step(const struct choice *c)
{
    return c->output_max == 0 && !c->seq.all_logits && c->pooled_floats == 0;
}

/* The next choices into the scheduler. Inputs of an embed request enter as many as a step has rows, more as these end:
 * what others send meanwhile waits behind a few of them, not behind thousands. */
static enum sched_err enter(struct engine *e, struct job *j)
{
    size_t ahead = e->options.embeds ? e->options.seqs_max : j->choice_count;
    while (j->entered < j->choice_count && j->entered - (j->choice_count - j->unfinished) < ahead) {
        struct choice *c = &j->choice[j->entered];
        if (needs_no_step(c)) {
            choice_begin(e, c);
            choice_finish(e, c, TUNNEL_FINISH_LENGTH);
        } else {
            enum sched_err err = pool_begin(c) ? sched_add(&e->sched, &c->seq) : SCHED_MEMORY;
            if (err != SCHED_OK)
                return err;
        }
        j->entered++;
    }
    return SCHED_OK;
}

static void take_in(struct engine *e, struct job *j)
{
    j->stepping = true;
    enum sched_err err = enter(e, j);
    if (err != SCHED_OK)
        refuse_sched(e, j, err);
    else if (j->unfinished == 0)
        job_done(e, j);
}

/* Where inputs have ended, the next of their requests. A full queue is tried again after the next step. */
static void enter_more(struct engine *e)
{
    struct job *failed;
    do {
        enum sched_err err = SCHED_OK;
        failed = NULL;
        pthread_mutex_lock(&e->lock);
        for (struct job *j = e->all; j && !failed; j = j->all_next)
            if (j->stepping && (err = enter(e, j)) != SCHED_OK && err != SCHED_FULL)
                failed = j;
        pthread_mutex_unlock(&e->lock);
        if (failed)
            refuse_sched(e, failed, err);
    } while (failed);
}

/* Jobs that were cancelled or are too late end here; the others' hold flags reach their sequences. Only this thread
 * ends jobs that it has taken in, so one noted under the lock is still there after it. */
static void end_cancelled(struct engine *e)
{
    uint64_t now = engine_now_us();
    for (;;) {
        struct job *ended = NULL;
        bool late = false;
        pthread_mutex_lock(&e->lock);
        for (struct job *j = e->all; j && !ended; j = j->all_next) {
            if (!j->stepping)
                continue;
            late = j->deadline_us && now >= j->deadline_us;
            if (atomic_load(&j->cancelled) || late)
                ended = j;
            for (size_t i = 0; i < j->choice_count; i++)
                j->choice[i].seq.hold = atomic_load(&j->hold);
        }
        pthread_mutex_unlock(&e->lock);
        if (!ended)
            return;
        if (atomic_load(&ended->cancelled))
            job_fail(e, ended, 499, "cancelled", NULL, "the request was cancelled");
        else
            job_fail(e, ended, 504, "deadline_exceeded", NULL, "the request took longer than its time limit");
    }
}

/* --- one step ---------------------------------------------------------------------------------------------------- */

/* Running sequences that need one token. */
static size_t decoding_now(const struct engine *e)
{
    size_t n = 0;
    for (const struct sched_seq *q = e->sched.running.first; q; q = q->next)
        n += !q->hold && q->len - q->computed == 1;
    return n;
}

static enum engine_err run_model(struct engine *e, size_t rows)
{
    uint32_t tokens = 0, prompt = 0; /* of all rows, of those that do not decode */
    size_t decoding = 0;
    for (size_t i = 0; i < rows; i++) {
        const struct sched_row *r = &e->rows[i];
        static const enum engine_logits logits[] = {[SCHED_LOGITS_NONE] = ENGINE_LOGITS_NONE,
                                                    [SCHED_LOGITS_LAST] = ENGINE_LOGITS_LAST,
                                                    [SCHED_LOGITS_ALL] = ENGINE_LOGITS_ALL};
        e->seqs[i] = (struct engine_step_seq){
            .tokens = r->seq->tokens + r->pos, .count = (int)r->count, .pos = (int)r->pos, .logits = logits[r->logits]};
        for (int g = 0; g < ENGINE_KV_GROUPS; g++)
            e->seqs[i].blocks[g] = e->sched.config.group[g].blocks ? r->seq->table[g] : NULL;
        if (e->options.embeds && e->options.pooling != ENGINE_POOLING_LAST)
            e->seqs[i].logits = ENGINE_LOGITS_ALL;
        tokens += r->count;
        if (r->count == 1 + r->drafts)
            decoding++;
        else
            prompt += r->count;
    }
    uint64_t from = engine_now_us();
    enum engine_err err = e->options.embeds ? engine_model_states(e->model, e->kv, e->seqs, (int)rows, e->states)
                          : e->picked       ? picked_step(e, rows)
                                            : engine_model_step(e->model, e->kv, e->seqs, (int)rows, e->logits);
    pace_note(&e->pace, 1000 * (engine_now_us() - from), decoding, prompt);
    pthread_mutex_lock(&e->lock);
    e->stats.steps++;
    tunnel_histogram_add(&e->stats.iteration, &tunnel_stats_tokens, tokens);
    if (err == ENGINE_E_DEVICE) /* for good */
        e->broken = e->draining = true;
    pthread_mutex_unlock(&e->lock);
    return err;
}

/* Give each row its logits, in order. A job whose choices are all finished ends when none of its rows is left. */
static void hand_out(struct engine *e, size_t rows)
{
    const float *logits = e->logits;
    size_t vocab = (size_t)e->info.vocab;
    for (size_t i = 0; i < rows; i++) {
        const struct sched_row *r = &e->rows[i];
        struct choice *c = (struct choice *)r->seq; /* its first member */
        float *last = e->logits + (logits - e->logits);
        bool whole = r->pos + r->count == r->seq->len;
        choice_begin(e, c);
        if (r->drafts > 0) {
            guess_check(e, c, r, last);
            logits += r->count * vocab;
            guess_tokens(e, c);
            continue;
        }
        if (r->logits == SCHED_LOGITS_ALL) {
            choice_prompt_logits(e, c, r->pos, r->count, logits, NULL);
            last += (r->count - 1) * vocab;
            logits += r->count * vocab;
        } else if (r->logits == SCHED_LOGITS_LAST) {
            logits += vocab;
        }
        if (whole && c->output_max == 0)
            choice_finish(e, c, TUNNEL_FINISH_LENGTH);
        else if (whole)
            choice_sample(e, c, last);
        guess_tokens(e, c);
    }
}

/* The same for vectors: states of a prompt's last position, for other poolings of all. */
static void pool_out(struct engine *e, size_t rows)
{
    const float *states = e->states;
    for (size_t i = 0; i < rows; i++) {
        const struct sched_row *r = &e->rows[i];
        struct choice *c = (struct choice *)r->seq;
        bool all = e->options.pooling != ENGINE_POOLING_LAST;
        uint32_t n = all ? r->count : r->logits != SCHED_LOGITS_NONE;
        choice_begin(e, c);
        pool_add(e, c, r->pos + r->count - n, n, states);
        states += (size_t)n * (size_t)e->info.embed;
        if (r->pos + r->count == r->seq->len)
            pool_finish(e, c);
    }
}

static void end_finished(struct engine *e)
{
    for (;;) {
        struct job *ended = NULL;
        pthread_mutex_lock(&e->lock);
        for (struct job *j = e->all; j && !ended; j = j->all_next)
            if (j->stepping && j->unfinished == 0)
                ended = j;
        pthread_mutex_unlock(&e->lock);
        if (!ended)
            return;
        job_done(e, ended);
    }
}

/* The model refused what we gave it, which is our fault, or its device failed: nobody's request goes on as if nothing
 * had happened. */
static void fail_all(struct engine *e)
{
    for (;;) {
        struct job *any = NULL;
        pthread_mutex_lock(&e->lock);
        for (struct job *j = e->all; j && !any; j = j->all_next)
            if (j->stepping)
                any = j;
        pthread_mutex_unlock(&e->lock);
        if (!any)
            return;
        job_fail(e, any, 500, NULL, NULL, "the engine failed to compute this request");
    }
}

/* False when nothing could run. */
static bool step(struct engine *e)
{
    size_t rows = sched_plan(&e->sched, e->rows, pace_beside(&e->pace, decoding_now(e)), pace_alone(&e->pace));
    if (rows == 0)
        return false;
    if (run_model(e, rows) != ENGINE_OK) {
        fail_all(e);
        return true;
    }
    sched_commit(&e->sched, e->rows, rows);
    if (e->options.embeds)
        pool_out(e, rows);
    else if (e->picked)
        picked_hand_out(e, rows);
    else
        hand_out(e, rows);
    end_finished(e);
    return true;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

/* Choices that are not in the scheduler yet. */
static size_t entering(const struct engine *e)
{
    size_t n = 0;
    for (const struct job *j = e->all; j && e->options.embeds; j = j->all_next)
        n += j->stepping ? j->choice_count - j->entered : 0;
    return n;
}

static void copy_counts(struct engine *e)
{
    const struct sched_counts *c = &e->sched.counts;
    int g = e->sched.config.group[ENGINE_KV_FULL].blocks ? ENGINE_KV_FULL : ENGINE_KV_SLIDING;
    e->waiting_seqs = c->waiting + entering(e) / ENTERING_WEIGHT;
    e->stats.requests_running = c->running;
    e->stats.requests_waiting = c->waiting + e->intake.count + e->ready.count;
    e->stats.preemptions = c->preemptions;
    e->stats.prefix_queries = c->prefix_queries;
    e->stats.prefix_hits = e->stats.cached_tokens = c->prefix_hits;
    e->stats.kv_blocks_used = sched_used(&e->sched, g);
}

/* Sleep until there is something to do. False when the engine closes. */
static bool wait_for_work(struct engine *e, bool idle, struct queue *arrived)
{
    pthread_mutex_lock(&e->lock);
    copy_counts(e);
    bool busy = e->sched.counts.running + e->sched.counts.waiting > 0;
    if (busy && idle && !e->ready.first && !e->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += IDLE_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        pthread_cond_timedwait(&e->step_wake, &e->lock, &until);
    }
    while (!busy && !e->ready.first && !e->stopping && !e->forget)
        pthread_cond_wait(&e->step_wake, &e->lock);
    if (e->forget)
        sched_forget(&e->sched);
    e->forget = false;
    *arrived = e->ready;
    e->ready = (struct queue){0};
    bool go_on = !e->stopping;
    pthread_mutex_unlock(&e->lock);
    return go_on;
}

void *engine_step_main(void *engine)
{
    struct engine *e = engine;
    struct queue arrived;
    bool idle = false;
    while (wait_for_work(e, idle, &arrived)) {
        for (struct job *j; (j = queue_pop(&arrived));)
            take_in(e, j);
        end_cancelled(e);
        idle = !step(e);
        if (e->options.embeds) /* whatever ended, by a step or not */
            enter_more(e);
    }
    for (struct job *j; (j = queue_pop(&arrived));)
        job_fail(e, j, 503, "draining", NULL, "the engine is going down");
    return NULL;
}
