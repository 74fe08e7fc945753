/* engine_watch.h - what a client sees of an engine's requests, and the small trained model that the tests of the engine
 * run: $AIRLOCK_SHARED/models/aidreams260K (default ../shared). */
#ifndef TESTS_UNIT_ENGINE_WATCH_H
#define TESTS_UNIT_ENGINE_WATCH_H

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/engine.h"
#include "verifier/base/utf8.h"

enum { WATCHES = 40, TEXT_MAX = 4096 };

/* What a client sees of one request. */
struct watch {
    pthread_mutex_t lock;
    pthread_cond_t end;
    char text[8][TEXT_MAX];
    size_t len[8];
    int32_t ids[8][512];
    int32_t prompt_ids[512];
    size_t prompt_id_count;
    float vector[8][512];
    size_t float_count[8];
    size_t id_count[8], logprob_count[8], prompt_count[8];
    double first_logprob[8];
    uint64_t logprob_bits[8]; /* of every log-probability told, chosen and others */
    enum tunnel_finish finish[8];
    bool finished[8], started, over;
    uint32_t status, prompt_tokens, completion_tokens, cached_tokens;
    char code[64], param[64], message[512];
    uint64_t job;
    struct engine *cancel_after; /* cancel at the third delta */
    int deltas;
};

static inline void copy_text(char *out, size_t cap, struct span s)
{
    snprintf(out, cap, "%.*s", (int)s.len, s.len ? (const char *)s.data : "");
}

static inline void mix_bits(uint64_t *hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    *hash = (*hash ^ bits) * 1099511628211u + 1;
}

static inline void on_delta(struct watch *w, const struct tunnel_event *ev)
{
    uint32_t i = ev->index;
    ck_assert_uint_lt(i, 8);
    ck_assert(!w->finished[i] && utf8_is_valid(ev->text));
    if (ev->text.len > 0)
        memcpy(w->text[i] + w->len[i], ev->text.data, ev->text.len);
    w->len[i] += ev->text.len;
    w->text[i][w->len[i]] = 0;
    for (size_t k = 0; k < tunnel_ids_count(ev->ids); k++)
        w->ids[i][w->id_count[i]++] = (int32_t)tunnel_ids_at(ev->ids, k);
    if (ev->logprob_count && w->logprob_count[i] == 0)
        w->first_logprob[i] = ev->logprob[0].chosen.logprob;
    w->logprob_count[i] += ev->logprob_count;
    for (size_t k = 0; k < ev->logprob_count; k++) {
        mix_bits(&w->logprob_bits[i], ev->logprob[k].chosen.logprob);
        for (size_t t = 0; t < ev->logprob[k].top_count; t++)
            mix_bits(&w->logprob_bits[i], ev->logprob[k].top[t].logprob);
    }
}

static inline void on_event(void *ctx, const struct tunnel_event *ev)
{
    struct watch *w = ctx;
    pthread_mutex_lock(&w->lock);
    ck_assert(!w->over);
    switch (ev->kind) {
    case TUNNEL_EVENT_START:
        ck_assert(!w->started);
        w->started = true;
        break;
    case TUNNEL_EVENT_DELTA:
        on_delta(w, ev);
        break;
    case TUNNEL_EVENT_PROMPT:
        w->prompt_count[ev->index] += ev->logprob_count;
        for (size_t k = 0; k < tunnel_ids_count(ev->ids) && ev->index == 0; k++)
            w->prompt_ids[w->prompt_id_count++] = (int32_t)tunnel_ids_at(ev->ids, k);
        break;
    case TUNNEL_EVENT_FINISH:
        w->finished[ev->index] = true;
        w->finish[ev->index] = ev->finish;
        break;
    case TUNNEL_EVENT_RESULT:
        for (size_t k = 0; k < tunnel_ids_count(ev->floats); k++) {
            uint32_t bits = tunnel_ids_at(ev->floats, k);
            memcpy(&w->vector[ev->index][w->float_count[ev->index]++], &bits, sizeof bits);
        }
        for (size_t k = 0; k < tunnel_ids_count(ev->ids); k++)
            w->ids[0][w->id_count[0]++] = (int32_t)tunnel_ids_at(ev->ids, k);
        if (ev->text.len > 0)
            memcpy(w->text[0] + w->len[0], ev->text.data, ev->text.len);
        w->len[0] += ev->text.len;
        break;
    case TUNNEL_EVENT_ERROR:
        w->status = ev->status;
        copy_text(w->code, sizeof w->code, ev->code);
        copy_text(w->param, sizeof w->param, ev->param);
        copy_text(w->message, sizeof w->message, ev->text);
        w->over = true;
        break;
    case TUNNEL_EVENT_DONE:
        w->prompt_tokens = ev->prompt_tokens;
        w->completion_tokens = ev->completion_tokens;
        w->cached_tokens = ev->cached_tokens;
        w->over = true;
        break;
    }
    bool cancel = w->cancel_after && ev->kind == TUNNEL_EVENT_DELTA && ++w->deltas == 3;
    pthread_cond_signal(&w->end);
    pthread_mutex_unlock(&w->lock);
    if (cancel)
        engine_cancel(w->cancel_after, w->job);
}

static const struct engine_events events = {on_event};

static inline void watch_init(struct watch *w)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->end, NULL);
}

static inline void submit(struct engine *e, const struct tunnel_request *q, struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->job = engine_submit(e, q, &events, w);
    pthread_mutex_unlock(&w->lock);
    ck_assert_uint_ne(w->job, 0);
}

static inline void wait_end(struct watch *w)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&w->lock);
    while (!w->over)
        ck_assert_int_eq(pthread_cond_timedwait(&w->end, &w->lock, &until), 0);
    pthread_mutex_unlock(&w->lock);
}

static inline void run(struct engine *e, const struct tunnel_request *q, struct watch *w)
{
    watch_init(w);
    submit(e, q, w);
    wait_end(w);
}

/* --- the model --------------------------------------------------------------------------------------------- */

static char shared[512];

static inline bool have_models(void)
{
    const char *root = getenv("AIRLOCK_SHARED");
    snprintf(shared, sizeof shared, "%.400s/models/aidreams260K", root ? root : "../shared");
    char path[600];
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", shared);
    return access(path, R_OK) == 0;
}

static struct engine_files files;

static inline struct engine *open_engine(const struct engine_options *options)
{
    struct engine_problem why = {0};
    struct engine_options o = *options;
    char path[600];
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", shared);
    ck_assert_msg(engine_files_load(&files, path, &why), "%s", why.text);
    o.threads = 2;
    o.kv_bytes = o.kv_bytes ? o.kv_bytes : 64 << 20;
    if (o.served_count == 0)
        o.served[o.served_count++] = "dreams";
    struct engine *e = engine_open(&files, &o, &why);
    ck_assert_msg(e != NULL, "%s", why.text);
    return e;
}

static inline void close_engine(struct engine *e)
{
    engine_close(e);
    engine_files_release(&files);
}

static inline struct tunnel_request *ask(const char *prompt, uint32_t tokens)
{
    static struct tunnel_request q;
    tunnel_request_defaults(&q);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str("dreams");
    q.prompt_count = 1;
    q.prompt[0].bytes = span_str(prompt);
    q.add_special_tokens = true;
    q.has_max_tokens = true;
    q.max_tokens = tokens;
    q.temperature = 0;
    q.salt = span_str("tenant");
    q.skip_special = true;
    return &q;
}

#endif
