/* What one choice says: the echo of its prompt, log-probabilities, text as far as it is certain, why it ended. */
#include <stdlib.h>

#include "engine/job.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"

enum {
    IDS_MAX = 1024,         /* of one event; its field takes 2048 */
    FORCED_MAX = 256,       /* bytes of text taken in at once without asking the model */
    RECORDS_BYTES = 8 << 10 /* what log-probabilities may take of one event; text has 4 KiB, the event 16 */
};

static void put_id(uint8_t *out, int32_t id)
{
    out[0] = (uint8_t)((uint32_t)id >> 24);
    out[1] = (uint8_t)((uint32_t)id >> 16);
    out[2] = (uint8_t)((uint32_t)id >> 8);
    out[3] = (uint8_t)id;
}

/* --- log-probabilities ---------------------------------------------------------------------------------- */

static struct tunnel_top top_of(const struct engine *e, int32_t id, float logprob)
{
    struct span bytes = engine_tokenizer_piece(e->tokenizer, id, true);
    if (bytes.len > JOB_PIECE_SHOWN_MAX)
        bytes.len = JOB_PIECE_SHOWN_MAX;
    double value = (double)logprob < -9999.0 ? -9999.0 : (double)logprob; /* JSON has no infinity */
    return (struct tunnel_top){(uint32_t)id, value, bytes};
}

/* Returns about how many bytes the record takes in an event. */
static size_t fill_record(const struct engine *e, struct tunnel_logprob *out, const struct sample_result *r)
{
    out->known = true;
    out->chosen = top_of(e, r->id, r->logprob);
    out->top_count = r->top_count;
    size_t bytes = 64 + out->chosen.bytes.len;
    for (size_t i = 0; i < r->top_count; i++) {
        out->top[i] = top_of(e, r->top[i].id, r->top[i].logprob);
        bytes += 40 + out->top[i].bytes.len;
    }
    return bytes;
}

static bool keep_record(struct choice *c, const struct sample_result *r)
{
    if (c->record_count == c->record_cap) {
        size_t cap = c->record_cap ? 2 * c->record_cap : 8;
        struct sample_result *grown = calloc(cap, sizeof *grown);
        if (!grown)
            return false;
        if (c->record) {
            memcpy(grown, c->record, c->record_count * sizeof *grown);
            secret_wipe(c->record, c->record_cap * sizeof *c->record);
        }
        free(c->record);
        c->record = grown;
        c->record_cap = cap;
    }
    c->record[c->record_count++] = *r;
    return true;
}

static void drop_records(struct choice *c, size_t count)
{
    c->record_count -= count;
    memmove(c->record, c->record + count, c->record_count * sizeof *c->record);
}

/* --- beginning ---------------------------------------------------------------------------------------------- */

static void send_text(struct choice *c, struct span text)
{
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_DELTA, .index = c->index};
    while (text.len > 0) {
        ev.text = span_of(text.data, text.len < TUNNEL_TEXT_MAX ? text.len : TUNNEL_TEXT_MAX);
        if (text.len > TUNNEL_TEXT_MAX)
            ev.text.len -= utf8_tail(ev.text);
        job_send(c->job, &ev);
        text = span_of(text.data + ev.text.len, text.len - ev.text.len);
    }
}

static void send_echo(struct engine *e, struct choice *c)
{
    const struct tunnel_prompt *p = &c->job->request->prompt[c->index / c->job->request->n];
    if (!p->is_ids && c->job->request->truncate_prompt == 0) {
        send_text(c, p->bytes);
        return;
    }
    struct stop text;
    stop_init(&text, NULL, 0, false, engine_tokenizer_leading_space(e->tokenizer));
    for (uint32_t i = 0; i < c->prompt_len; i++)
        stop_feed(&text, engine_tokenizer_piece(e->tokenizer, c->tokens[i], !c->job->request->skip_special));
    stop_finish(&text);
    send_text(c, stop_text(&text, SIZE_MAX));
    stop_release(&text);
}

/* Ids from tokens[from .. to): of the prompt, or what of the output no text goes with. */
static void send_ids(struct choice *c, enum tunnel_event_kind kind, uint32_t from, uint32_t to)
{
    uint8_t ids[4 * IDS_MAX];
    while (from < to) {
        uint32_t n = to - from < IDS_MAX ? to - from : IDS_MAX;
        for (uint32_t i = 0; i < n; i++)
            put_id(ids + 4 * i, c->tokens[from + i]);
        struct tunnel_event ev = {.kind = kind, .index = c->index, .ids = span_of(ids, 4 * n)};
        job_send(c->job, &ev);
        from += n;
    }
    secret_wipe(ids, sizeof ids);
}

void choice_begin(struct engine *e, struct choice *c)
{
    struct job *j = c->job;
    if (c->begun)
        return;
    c->begun = true;
    c->begun_us = engine_now_us();
    if (c->index % j->request->n == 0)
        j->cached_tokens += c->seq.cached;
    if (!j->started) {
        struct tunnel_event ev = {.kind = TUNNEL_EVENT_START,
                                  .prompt_tokens = j->prompt_tokens,
                                  .cached_tokens = j->cached_tokens,
                                  .context_max = e->options.context_max};
        j->started = true;
        job_send(j, &ev);
    }
    if (j->request->return_ids)
        send_ids(c, TUNNEL_EVENT_PROMPT, 0, c->prompt_len);
    if (j->request->echo)
        send_echo(e, c);
    pthread_mutex_lock(&e->lock);
    tunnel_histogram_add(&e->stats.queue, &tunnel_stats_e2e, c->begun_us - j->arrived_us);
    pthread_mutex_unlock(&e->lock);
}

void choice_prompt_logits(struct engine *e, struct choice *c, uint32_t pos, uint32_t count, const float *logits,
                          const struct sample_result *known)
{
    struct tunnel_event *ev = e->event;
    struct sample_result r;
    size_t bytes = 0;
    *ev = (struct tunnel_event){.kind = TUNNEL_EVENT_PROMPT, .index = c->index};
    if (c->prompt_told == 0) { /* nothing came before the first token that could have predicted it */
        ev->logprob[0] = (struct tunnel_logprob){.chosen = top_of(e, c->tokens[0], 0)};
        ev->logprob_count = 1;
        c->prompt_told = 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t token = pos + i + 1;
        if (token != c->prompt_told || token >= c->prompt_len)
            continue; /* told before a preemption, or output */
        if (known)
            r = known[i];
        else
            sample_logprobs(&r, logits + (size_t)i * (size_t)e->info.vocab, (size_t)e->info.vocab, c->tokens[token],
                            c->job->prompt_top, &e->scratch);
        bytes += fill_record(e, &ev->logprob[ev->logprob_count++], &r);
        c->prompt_told++;
        if (ev->logprob_count == TUNNEL_LOGPROBS_MAX || bytes > RECORDS_BYTES / 2) {
            job_send(c->job, ev);
            ev->logprob_count = 0;
            bytes = 0;
        }
    }
    if (ev->logprob_count)
        job_send(c->job, ev);
    if (c->prompt_told == c->prompt_len)
        c->seq.all_logits = false;
}

/* --- text ------------------------------------------------------------------------------------------------ */

/* A part of the answer: in as many events as its length needs; the first takes the carrier's ids along. */
static void on_part(void *ctx, enum tunnel_channel_name channel, uint32_t call, struct span text)
{
    struct choice *c = ctx;
    struct tunnel_event bare = {.kind = TUNNEL_EVENT_DELTA, .index = c->index};
    while (text.len > 0) {
        struct tunnel_event *ev = c->carrier ? c->carrier : &bare;
        c->carrier = NULL;
        ev->channel = channel;
        ev->tool_index = channel >= TUNNEL_TOOL_NAME ? call : 0;
        ev->text = span_of(text.data, text.len < TUNNEL_TEXT_MAX ? text.len : TUNNEL_TEXT_MAX);
        if (text.len > TUNNEL_TEXT_MAX)
            ev->text.len -= utf8_tail(ev->text);
        job_send(c->job, ev);
        text = span_of(text.data + ev->text.len, text.len - ev->text.len);
    }
}

bool choice_open_split(struct choice *c)
{
    c->split = engine_toolcall_open(c->job->style, c->job->tools, c->job->thinking, on_part, c);
    return c->split != NULL;
}

/* What is certain: text, the ids that it completes, their log-probabilities. False: nothing to send. */
static bool send_some(struct engine *e, struct choice *c)
{
    struct tunnel_event *ev = e->event;
    uint8_t ids[4 * 64];
    bool records = c->job->request->logprobs >= 0;
    size_t most = records ? TUNNEL_LOGPROBS_MAX : sizeof ids / 4, bytes = 0, n = 0;
    struct span text = stop_text(&c->stop, TUNNEL_TEXT_MAX);
    *ev = (struct tunnel_event){.kind = TUNNEL_EVENT_DELTA,
                                .index = c->index,
                                .prompt_tokens = c->job->prompt_tokens,
                                .cached_tokens = c->job->cached_tokens};
    size_t ready = stop_released(&c->stop, text.len);
    for (; n < ready && n < most && bytes < RECORDS_BYTES / 2; n++) {
        put_id(ids + 4 * n, c->tokens[c->prompt_len + c->released + n]);
        if (records)
            bytes += fill_record(e, &ev->logprob[ev->logprob_count++], &c->record[n]);
    }
    if (text.len == 0 && n == 0)
        return false;
    ev->ids = span_of(ids, 4 * n);
    ev->completion_tokens = c->job->completion_tokens;
    c->carrier = ev;
    engine_toolcall_text(c->split, text);
    if (c->carrier && (records || c->job->request->return_ids)) /* no part of it is certain yet: the rest goes alone */
        job_send(c->job, ev);
    c->carrier = NULL;
    stop_sent(&c->stop, text.len);
    stop_forget(&c->stop, n);
    if (records)
        drop_records(c, n);
    c->released += (uint32_t)n;
    return true;
}

static void count_finish(struct engine *e, const struct choice *c, enum tunnel_finish why)
{
    pthread_mutex_lock(&e->lock);
    if (why == TUNNEL_FINISH_LENGTH)
        e->stats.finished_length++;
    else
        e->stats.finished_stop++;
    if (c->first_us) {
        tunnel_histogram_add(&e->stats.inference, &tunnel_stats_e2e, c->last_us - c->begun_us);
        tunnel_histogram_add(&e->stats.prefill, &tunnel_stats_e2e, c->first_us - c->begun_us);
        tunnel_histogram_add(&e->stats.decode, &tunnel_stats_e2e, c->last_us - c->first_us);
        if (c->generated > 1)
            tunnel_histogram_add(&e->stats.request_per_token, &tunnel_stats_tpot,
                                 (c->last_us - c->first_us) / (c->generated - 1));
    }
    pthread_mutex_unlock(&e->lock);
}

void choice_end(struct engine *e, struct choice *c)
{
    if (c->seq.state != SCHED_OUT)
        sched_remove(&e->sched, &c->seq);
    c->finished = true;
    c->job->unfinished--;
}

void choice_finish(struct engine *e, struct choice *c, enum tunnel_finish why)
{
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_FINISH, .index = c->index, .finish = why};
    stop_finish(&c->stop);
    if (c->stop.hit)
        ev.finish = why = TUNNEL_FINISH_STOP;
    while (send_some(e, c))
        continue;
    if (c->job->request->return_ids) /* an end token, or what a stop string cut off */
        send_ids(c, TUNNEL_EVENT_DELTA, c->prompt_len + c->released, c->prompt_len + c->generated);
    if (engine_toolcall_finish(c->split) > 0 && why == TUNNEL_FINISH_STOP)
        ev.finish = TUNNEL_FINISH_TOOL_CALLS;
    choice_end(e, c);
    count_finish(e, c, why);
    job_send(c->job, &ev);
}

/* --- the next token ------------------------------------------------------------------------------------------ */

/* Must the next token fit the request's grammar? Not while the model still thinks. */
static bool is_bound(const struct choice *c)
{
    return c->job->grammar && !engine_toolcall_thinks(c->split);
}

/* A forbidden word's last token, wherever the output ends with all the others. */
static void ban_words(const struct choice *c, struct sample_params *p, int32_t *banned)
{
    const struct job *j = c->job;
    for (size_t i = 0; i < j->bad_count; i++) {
        const int32_t *ids = j->bad_ids.ids + j->bad[i].from;
        uint32_t before = j->bad[i].count - 1;
        if (before <= c->generated && memcmp(c->tokens + c->seq.len - before, ids, before * sizeof *ids) == 0)
            banned[p->banned_count++] = ids[before];
    }
}

void choice_wish(const struct engine *e, const struct choice *c, struct choice_wish *w, uint32_t *mask)
{
    const struct tunnel_request *q = c->job->request;
    struct sample_params *p = &w->params;
    struct sample_bias *bias = w->bias;
    int32_t *banned = w->banned;
    *p = (struct sample_params){.temperature = (float)q->temperature,
                                .top_p = (float)q->top_p,
                                .min_p = (float)q->min_p,
                                .top_k = q->top_k,
                                .repetition = (float)q->repetition_penalty,
                                .presence = (float)q->presence_penalty,
                                .frequency = (float)q->frequency_penalty,
                                .seed = c->job->seed,
                                .choice = c->index,
                                .position = c->generated,
                                .top = q->logprobs};
    for (size_t i = 0; i < q->bias_count; i++)
        bias[p->bias_count++] = (struct sample_bias){(int32_t)q->bias[i].id, (float)q->bias[i].bias};
    p->bias = bias;
    p->banned = banned;
    p->allowed = c->job->allowed;
    if (is_bound(c)) {
        engine_grammar_mask(c->job->grammar, c->at, mask);
        for (size_t i = 0; p->allowed && i < ((size_t)e->info.vocab + 31) / 32; i++)
            mask[i] &= p->allowed[i];
        p->allowed = mask;
    }
    ban_words(c, p, banned);
    if (c->generated >= q->min_tokens)
        return;
    for (size_t i = 0; i < e->end_count; i++)
        banned[p->banned_count++] = e->ends[i];
    for (size_t i = 0; i < q->stop_id_count; i++)
        banned[p->banned_count++] = (int32_t)q->stop_id[i];
}

static bool is_stop_id(const struct tunnel_request *q, int32_t id)
{
    for (size_t i = 0; i < q->stop_id_count; i++)
        if ((int32_t)q->stop_id[i] == id)
            return true;
    return false;
}

static void count_token(struct engine *e, struct choice *c)
{
    uint64_t now = engine_now_us();
    pthread_mutex_lock(&e->lock);
    e->stats.generation_tokens++;
    if (c->generated == 1) {
        e->stats.prompt_tokens += c->index % c->job->request->n == 0 ? c->prompt_len : 0;
        tunnel_histogram_add(&e->stats.ttft, &tunnel_stats_ttft, now - c->job->arrived_us);
        c->first_us = now;
    } else {
        tunnel_histogram_add(&e->stats.inter_token, &tunnel_stats_tpot, now - c->last_us);
        tunnel_histogram_add(&e->stats.per_output_token, &tunnel_stats_tpot, now - c->last_us);
    }
    c->last_us = now;
    pthread_mutex_unlock(&e->lock);
}

/* Control tokens are hidden unless asked for, or unless they tell what the text is. */
static struct span shown_piece(const struct engine *e, const struct choice *c, int32_t id)
{
    struct span name = engine_tokenizer_piece(e->tokenizer, id, true);
    bool marker = engine_tokenizer_is_special(e->tokenizer, id) && engine_toolcall_is_marker(c->job->style, name);
    return engine_tokenizer_piece(e->tokenizer, id, marker || !c->job->request->skip_special);
}

/* Take the chosen token in. True when the choice is over, `*why` says how. */
static bool accept_token(struct engine *e, struct choice *c, const struct sample_result *r, enum tunnel_finish *why)
{
    const struct tunnel_request *q = c->job->request;
    bool stop_id = is_stop_id(q, r->id), bound = is_bound(c);
    bool end = (!q->ignore_eos || bound) && engine_tokenizer_is_end(e->tokenizer, r->id);
    bool memory = true;
    *why = TUNNEL_FINISH_STOP;
    if (bound)
        c->at = engine_grammar_advance(c->job->grammar, c->at, r->id);
    c->tokens[c->seq.len++] = r->id;
    c->generated++;
    c->job->completion_tokens++;
    count_token(e, c);
    if ((end || stop_id) && !q->include_stop)
        return true;
    if (q->repetition_penalty != 1 || q->presence_penalty != 0 || q->frequency_penalty != 0)
        memory = sample_history_add(&c->history, r->id, true);
    if (q->logprobs >= 0)
        memory = keep_record(c, r) && memory;
    if (bound && c->at < 0) { /* the grammar's limits were passed: what is there is cut, not whole */
        *why = TUNNEL_FINISH_LENGTH;
        return true;
    }
    c->stop.deaf = c->generated <= q->min_tokens;
    if (stop_feed(&c->stop, shown_piece(e, c, r->id)) || !memory || end || stop_id)
        return true;
    *why = TUNNEL_FINISH_LENGTH;
    return c->generated == c->output_max;
}

/* What the grammar leaves no choice about needs no model: those tokens are taken in at once and computed together in
 * the next step. All but the last, which may belong to one token with what follows. True when the choice is over. */
static bool accept_forced(struct engine *e, struct choice *c, enum tunnel_finish *why)
{
    struct writer text = writer_with_max(FORCED_MAX);
    struct engine_tokens ids = {.max = FORCED_MAX};
    bool over = false;
    if (!is_bound(c) || c->job->allowed || c->job->bad_count || c->job->request->logprobs >= 0 ||
        engine_tokenizer_leading_space(e->tokenizer))
        return false; /* no probabilities without logits; and a text of its own would begin with a space */
    engine_grammar_forced(c->job->grammar, c->at, &text);
    if (engine_tokenizer_encode(e->tokenizer, writer_span(&text), 0, &ids) == ENGINE_OK)
        for (size_t i = 0; i + 1 < ids.count && !over; i++)
            over = accept_token(e, c, &(struct sample_result){.id = ids.ids[i]}, why);
    engine_tokens_release(&ids);
    writer_release(&text);
    return over;
}

void choice_sample(struct engine *e, struct choice *c, float *logits)
{
    struct choice_wish w;
    struct sample_result r;
    choice_wish(e, c, &w, e->allowed);
    sample_pick(&r, &w.params, &c->history, logits, (size_t)e->info.vocab, &e->scratch);
    choice_take(e, c, &r);
}

void choice_take(struct engine *e, struct choice *c, const struct sample_result *r)
{
    enum tunnel_finish why;
    if (r->id < 0) { /* every id is forbidden */
        choice_finish(e, c, TUNNEL_FINISH_STOP);
        return;
    }
    if (accept_token(e, c, r, &why) || accept_forced(e, c, &why))
        choice_finish(e, c, why);
    else
        while (send_some(e, c))
            continue;
}
