#include "engine/job.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "verifier/base/secret.h"

uint64_t engine_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void queue_push(struct queue *q, struct job *j)
{
    j->next = NULL;
    *(q->last ? &q->last->next : &q->first) = j;
    q->last = j;
    q->count++;
}

struct job *queue_pop(struct queue *q)
{
    struct job *j = q->first;
    if (!j)
        return NULL;
    q->first = j->next;
    if (!q->first)
        q->last = NULL;
    q->count--;
    j->next = NULL;
    return j;
}

/* --- life ------------------------------------------------------------------------------------------------ */

struct job *job_new(const struct tunnel_request *request)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->bytes = writer_with_max(TUNNEL_REQUEST_MAX);
    j->arrived_us = engine_now_us();
    if (!request)
        return j;
    j->request = malloc(sizeof *j->request);
    if (!j->request || !tunnel_request_pack(&j->bytes, request) ||
        tunnel_request_parse(j->request, writer_span(&j->bytes)) != READER_OK) {
        job_free(j);
        return NULL;
    }
    if (request->timeout_ms)
        j->deadline_us = j->arrived_us + (uint64_t)request->timeout_ms * 1000;
    return j;
}

static void choice_release(struct choice *c)
{
    stop_release(&c->stop);
    engine_toolcall_close(c->split);
    sample_history_release(&c->history);
    if (c->tokens)
        secret_wipe(c->tokens, (c->seq.len_max + 1) * sizeof *c->tokens);
    free(c->tokens);
    if (c->pooled)
        secret_wipe(c->pooled, c->pooled_floats * sizeof *c->pooled);
    free(c->pooled);
    if (c->record)
        secret_wipe(c->record, c->record_cap * sizeof *c->record);
    free(c->record);
}

void job_free(struct job *j)
{
    if (!j)
        return;
    for (size_t i = 0; j->choice && i < j->choice_count; i++)
        choice_release(&j->choice[i]);
    for (size_t i = 0; j->prompt && i < j->prompt_count; i++) {
        if (j->prompt[i].ids)
            secret_wipe(j->prompt[i].ids, j->prompt[i].count * sizeof *j->prompt[i].ids);
        free(j->prompt[i].ids);
    }
    free(j->choice);
    free(j->prompt);
    engine_grammar_close(j->grammar);
    engine_tokens_release(&j->bad_ids);
    free(j->allowed);
    json_decref(j->tools);
    if (j->request)
        secret_wipe(j->request, sizeof *j->request);
    free(j->request);
    writer_release(&j->bytes);
    secret_wipe(j, sizeof *j);
    free(j);
}

/* --- choices ------------------------------------------------------------------------------------------------ */

/* Blocks are shared by equal salts; without one only by the choices of this request. */
static void set_root(struct engine *e, struct job *j, struct choice *c)
{
    uint8_t own[1 + 64];
    size_t len = j->request->salt.len;
    own[0] = len > 0;
    if (len > 0 && len <= 64)
        memcpy(own + 1, j->request->salt.data, len);
    else
        memcpy(own + 1, &j->id, len = sizeof j->id);
    prefix_root(&c->seq.root, &e->sched.secret, span_of(own, 1 + len));
    c->seq.forget = own[0] == 0;
}

/* What was asked for fits the context: intake saw to it. A bound that nobody asked for ends where the context does. */
static uint32_t output_max(const struct engine *e, const struct tunnel_request *q, const struct prompt *p)
{
    uint32_t left = e->options.context_max - p->count;
    return q->has_max_tokens || (q->max_tokens > 0 && q->max_tokens < left) ? q->max_tokens : left;
}

static bool make_choice(struct engine *e, struct job *j, struct choice *c, size_t index)
{
    const struct tunnel_request *q = j->request;
    const struct prompt *p = &j->prompt[index / q->n];
    c->job = j;
    c->index = (uint32_t)index;
    c->prompt_len = p->count;
    c->output_max = output_max(e, q, p);
    /* After nothing but a BOS the answer is a whole text, not the continuation of one. */
    bool whole = p->count == 1 && p->ids[0] == engine_tokenizer_bos(e->tokenizer);
    stop_init(&c->stop, q->stop, q->stop_count, q->include_stop, whole && engine_tokenizer_leading_space(e->tokenizer));
    if (q->task != TUNNEL_EMBED && !choice_open_split(c))
        return false;
    c->at = j->grammar ? engine_grammar_start(j->grammar) : 0;
    c->seq.len = p->count;
    c->seq.len_max = p->count + c->output_max;
    c->seq.tokens = c->tokens = calloc(c->seq.len_max + 1, sizeof *c->tokens);
    if (!c->tokens)
        return false;
    memcpy(c->tokens, p->ids, p->count * sizeof *p->ids);
    c->seq.priority = q->priority;
    c->seq.all_logits = j->prompt_top >= 0;
    if (q->task == TUNNEL_EMBED) {
        c->seq.compute_all = e->options.pooling != ENGINE_POOLING_LAST;
        c->pooled_floats = (size_t)e->info.embed;
    }
    set_root(e, j, c);
    if (index % q->n != 0)
        c->seq.after = &j->choice[index - index % q->n].seq;
    bool penalties = q->repetition_penalty != 1 || q->presence_penalty != 0 || q->frequency_penalty != 0;
    for (uint32_t i = 0; penalties && i < p->count; i++)
        if (!sample_history_add(&c->history, p->ids[i], false))
            return false;
    return true;
}

bool job_make_choices(struct engine *e, struct job *j)
{
    j->choice_count = j->prompt_count * j->request->n;
    j->choice = calloc(j->choice_count, sizeof *j->choice);
    if (!j->choice)
        return false;
    j->unfinished = j->choice_count;
    for (size_t i = 0; i < j->choice_count; i++)
        if (!make_choice(e, j, &j->choice[i], i))
            return false;
    return true;
}

/* --- events ------------------------------------------------------------------------------------------------ */

void job_send(struct job *j, const struct tunnel_event *ev)
{
    if (j->events.event)
        j->events.event(j->ctx, ev);
}

static void leave_list(struct engine *e, struct job *j)
{
    pthread_mutex_lock(&e->lock);
    *(j->all_before ? &j->all_before->all_next : &e->all) = j->all_next;
    if (j->all_next)
        j->all_next->all_before = j->all_before;
    e->all_count--;
    e->grammar_bytes -= j->grammar_bytes;
    pthread_mutex_unlock(&e->lock);
}

/* Out of scheduler and list first: after its last event a job does not exist. */
static void end_with(struct engine *e, struct job *j, const struct tunnel_event *ev)
{
    for (size_t i = 0; j->choice && i < j->choice_count; i++)
        if (j->choice[i].seq.state != SCHED_OUT)
            sched_remove(&e->sched, &j->choice[i].seq);
    leave_list(e, j);
    job_send(j, ev);
    job_free(j);
}

void job_done(struct engine *e, struct job *j)
{
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_DONE,
                              .prompt_tokens = j->prompt_tokens,
                              .completion_tokens = j->completion_tokens,
                              .cached_tokens = j->cached_tokens};
    uint64_t us = engine_now_us() - j->arrived_us;
    uint32_t longest = 0;
    for (size_t i = 0; i < j->choice_count; i++)
        longest = j->choice[i].generated > longest ? j->choice[i].generated : longest;
    pthread_mutex_lock(&e->lock);
    tunnel_histogram_add(&e->stats.e2e, &tunnel_stats_e2e, us);
    if (j->choice_count) {
        tunnel_histogram_add(&e->stats.request_prompt, &tunnel_stats_tokens, j->prompt_tokens);
        tunnel_histogram_add(&e->stats.request_generation, &tunnel_stats_tokens, j->completion_tokens);
        tunnel_histogram_add(&e->stats.request_max, &tunnel_stats_tokens, longest);
        tunnel_histogram_add(&e->stats.request_n, &tunnel_stats_small, j->request->n);
        tunnel_histogram_add(&e->stats.request_max_tokens, &tunnel_stats_tokens, j->choice[0].output_max);
    }
    pthread_mutex_unlock(&e->lock);
    end_with(e, j, &ev);
}

void job_fail(struct engine *e, struct job *j, uint32_t status, const char *code, const char *param, const char *format,
              ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_ERROR,
                              .status = status,
                              .code = span_str(code ? code : ""),
                              .param = span_str(param ? param : ""),
                              .text = span_str(text)};
    pthread_mutex_lock(&e->lock);
    if (status == 499)
        e->stats.finished_abort++;
    else
        e->stats.finished_error++;
    pthread_mutex_unlock(&e->lock);
    end_with(e, j, &ev);
}
