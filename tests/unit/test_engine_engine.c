/* The engine on a small trained model: its text, and that nothing else in the batch, no chunking, no prefix hit and
 * no preemption changes it. Needs $AIRLOCK_SHARED/models (default ../shared); without it these tests are skipped. */
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/engine.h"
#include "run.h"
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

static void copy_text(char *out, size_t cap, struct span s)
{
    snprintf(out, cap, "%.*s", (int)s.len, s.len ? (const char *)s.data : "");
}

static void mix_bits(uint64_t *hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    *hash = (*hash ^ bits) * 1099511628211u + 1;
}

static void on_delta(struct watch *w, const struct tunnel_event *ev)
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

static void on_event(void *ctx, const struct tunnel_event *ev)
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

static void watch_init(struct watch *w)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->end, NULL);
}

static void submit(struct engine *e, const struct tunnel_request *q, struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->job = engine_submit(e, q, &events, w);
    pthread_mutex_unlock(&w->lock);
    ck_assert_uint_ne(w->job, 0);
}

static void wait_end(struct watch *w)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&w->lock);
    while (!w->over)
        ck_assert_int_eq(pthread_cond_timedwait(&w->end, &w->lock, &until), 0);
    pthread_mutex_unlock(&w->lock);
}

static void run(struct engine *e, const struct tunnel_request *q, struct watch *w)
{
    watch_init(w);
    submit(e, q, w);
    wait_end(w);
}

/* --- the model --------------------------------------------------------------------------------------------- */

static char shared[512];

static bool have_models(void)
{
    const char *root = getenv("AIRLOCK_SHARED");
    snprintf(shared, sizeof shared, "%.400s/models/aidreams260K", root ? root : "../shared");
    char path[600];
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", shared);
    return access(path, R_OK) == 0;
}

static struct engine_files files;

static struct engine *open_engine(const struct engine_options *options)
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

static void close_engine(struct engine *e)
{
    engine_close(e);
    engine_files_release(&files);
}

static struct tunnel_request *ask(const char *prompt, uint32_t tokens)
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

static const char *const prompts[] = {"", "As I listen", "The nodes of the network hum softly while", "Signals",
                                      "I sense the light and then the vectors unfold, a gentle hum of precision, as I"};
enum { PROMPTS = 5, LENGTH = 40 };

static struct watch alone[PROMPTS], watches[WATCHES];

static struct tunnel_request *ask_told(int prompt)
{
    struct tunnel_request *q = ask(prompts[prompt], LENGTH);
    q->logprobs = 5;
    return q;
}

static void run_alone(void)
{
    struct engine_options o = {.no_prefix_cache = true};
    struct engine *e = open_engine(&o);
    for (int i = 0; i < PROMPTS; i++) {
        run(e, ask_told(i), &alone[i]);
        ck_assert_uint_eq(alone[i].status, 0);
        ck_assert_uint_eq(alone[i].completion_tokens, LENGTH);
        ck_assert_int_eq(alone[i].finish[0], TUNNEL_FINISH_LENGTH);
    }
    close_engine(e);
}

static void same_as_alone(const struct watch *w, int i)
{
    ck_assert_msg(w->status == 0, "%s", w->message);
    ck_assert_uint_eq(w->id_count[0], alone[i].id_count[0]);
    ck_assert_mem_eq(w->ids[0], alone[i].ids[0], w->id_count[0] * sizeof(int32_t));
    ck_assert_str_eq(w->text[0], alone[i].text[0]);
    ck_assert_uint_eq(w->logprob_count[0], alone[i].logprob_count[0]);
    ck_assert_uint_eq(w->logprob_bits[0], alone[i].logprob_bits[0]); /* each depends on the bits of all logits */
}

START_TEST(text_is_the_expected_one)
{
    char path[600];
    json_error_t error;
    snprintf(path, sizeof path, "%s/expected.json", shared);
    json_t *want = json_load_file(path, 0, &error);
    ck_assert_ptr_nonnull(want);
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    run(e, ask("", 100), &watches[0]);
    const json_t *ids = json_object_get(want, "greedy_ids");
    ck_assert_uint_eq(watches[0].id_count[0], 100);
    for (size_t i = 0; i < 100; i++)
        ck_assert_int_eq(watches[0].ids[0][i], json_integer_value(json_array_get(ids, i)));
    const char *start = json_string_value(json_object_get(want, "text_start"));
    ck_assert_int_eq(strncmp(watches[0].text[0], start, strlen(start)), 0);
    ck_assert_uint_eq(watches[0].prompt_tokens, 1);
    json_decref(want);
    close_engine(e);
}
END_TEST

/* 0: batched, 1: small chunks, 2: prefix hits, 3: preemption, 4: guesses, 5: guesses and preemption */
START_TEST(nothing_changes_the_answer)
{
    static const struct engine_options options[] = {
        {.no_prefix_cache = true}, {.step_tokens = 32, .long_prefill = 16},
        {.seqs_max = 32},          {.kv_blocks = 14, .seqs_max = 8},
        {.ngram = {4, 3, 1}},      {.kv_blocks = 14, .seqs_max = 8, .ngram = {7, 2, 1}}};
    struct tunnel_stats stats;
    struct engine *e;
    run_alone();
    e = open_engine(&options[_i]);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 20; i++) {
            watch_init(&watches[i]);
            submit(e, ask_told(i % PROMPTS), &watches[i]);
        }
        for (int i = 0; i < 20; i++) {
            wait_end(&watches[i]);
            same_as_alone(&watches[i], i % PROMPTS);
        }
    }
    engine_stats(e, &stats);
    ck_assert_uint_eq(engine_jobs(e), 0);
    if (_i == 2)
        ck_assert_uint_gt(stats.prefix_hits, 0);
    if (_i == 3 || _i == 5)
        ck_assert_uint_gt(stats.preemptions, 0);
    ck_assert((_i >= 4) == (stats.spec_accepted > 0));
    ck_assert_uint_eq(stats.generation_tokens, 40 * LENGTH);
    close_engine(e);
}
END_TEST

START_TEST(salts_keep_tenants_apart)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask(prompts[4], 2);
    run(e, q, &watches[0]);
    ck_assert_uint_eq(watches[0].cached_tokens, 0);
    run(e, q, &watches[1]);
    ck_assert_uint_ge(watches[1].cached_tokens, 16);
    q->salt = span_str("other");
    run(e, q, &watches[2]);
    ck_assert_uint_eq(watches[2].cached_tokens, 0);
    q->salt = span_of(NULL, 0); /* shared with nobody, not even with itself */
    run(e, q, &watches[3]);
    run(e, q, &watches[4]);
    ck_assert_uint_eq(watches[4].cached_tokens, 0);
    engine_reset_cache(e);
    q->salt = span_str("tenant");
    run(e, q, &watches[5]);
    ck_assert_uint_eq(watches[5].cached_tokens, 0);
    close_engine(e);
}
END_TEST

START_TEST(choices_seeds_and_logprobs)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("As I", 20);
    q->temperature = 1;
    q->n = 4;
    q->has_seed = true;
    q->seed = 42;
    q->logprobs = 3;
    run(e, q, &watches[0]);
    run(e, q, &watches[1]);
    ck_assert_msg(watches[0].status == 0, "%s", watches[0].message);
    for (int i = 0; i < 4; i++) {
        ck_assert(watches[0].finished[i]);
        ck_assert_str_eq(watches[0].text[i], watches[1].text[i]);
        ck_assert_uint_eq(watches[0].logprob_count[i], watches[0].id_count[i]);
        ck_assert(watches[0].first_logprob[i] <= 0);
    }
    ck_assert_str_ne(watches[0].text[0], watches[0].text[1]);
    q->n = 1;
    run(e, q, &watches[2]);
    ck_assert_str_eq(watches[2].text[0], watches[0].text[0]);
    q->seed = 43;
    run(e, q, &watches[3]);
    ck_assert_str_ne(watches[3].text[0], watches[0].text[0]);
    close_engine(e);
}
END_TEST

START_TEST(echo_and_prompt_logprobs)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("As I listen to the nodes of the", 0);
    q->echo = true;
    run(e, q, &watches[0]);
    ck_assert_str_eq(watches[0].text[0], "As I listen to the nodes of the");
    ck_assert_uint_eq(watches[0].completion_tokens, 0);
    ck_assert_int_eq(watches[0].finish[0], TUNNEL_FINISH_LENGTH);
    q->logprobs = 2;
    run(e, q, &watches[1]);
    ck_assert_uint_eq(watches[1].prompt_count[0], watches[1].prompt_tokens);
    q->max_tokens = 5;
    run(e, q, &watches[2]);
    ck_assert_uint_eq(watches[2].prompt_count[0], watches[2].prompt_tokens);
    ck_assert_uint_eq(watches[2].logprob_count[0], 5);
    close_engine(e);
}
END_TEST

START_TEST(stops_and_lengths)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("", 100);
    q->stop[0] = span_str("gentle hum");
    q->stop_count = 1;
    run(e, q, &watches[0]);
    ck_assert_str_eq(watches[0].text[0], "\"Echoes of vectors unfold, a ");
    ck_assert_int_eq(watches[0].finish[0], TUNNEL_FINISH_STOP);
    q->include_stop = true;
    run(e, q, &watches[1]);
    ck_assert_str_eq(watches[1].text[0], "\"Echoes of vectors unfold, a gentle hum");
    q->stop_count = 0;
    q->include_stop = false;
    q->stop_id[0] = 260; /* the fourth greedy id */
    q->stop_id_count = 1;
    run(e, q, &watches[2]);
    ck_assert_uint_eq(watches[2].completion_tokens, 4);
    ck_assert_uint_eq(watches[2].id_count[0], 3);
    q->min_tokens = 10;
    run(e, q, &watches[3]);
    ck_assert_uint_ge(watches[3].completion_tokens, 10);
    q = ask("", 0);
    q->has_max_tokens = false; /* what is left of the context */
    q->ignore_eos = true;
    run(e, q, &watches[4]);
    ck_assert_uint_eq(watches[4].completion_tokens, engine_context_max(e) - 1);
    close_engine(e);
}
END_TEST

static bool has_id(const struct watch *w, int32_t id)
{
    for (size_t i = 0; i < w->id_count[0]; i++)
        if (w->ids[0][i] == id)
            return true;
    return false;
}

/* The greedy text begins: "Echoes of vectors unfold, a gentle hum */
START_TEST(allowed_ids_and_bad_words)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("", 30);
    run(e, q, &watches[0]);
    ck_assert_ptr_nonnull(strstr(watches[0].text[0], "vectors"));
    q->bad_word[0] = span_str("vectors");
    q->bad_word[1] = span_str(" gentle hum");
    q->bad_word_count = 2;
    run(e, q, &watches[1]);
    ck_assert_msg(watches[1].status == 0, "%s", watches[1].message);
    ck_assert_ptr_null(strstr(watches[1].text[0], "vectors"));
    ck_assert_ptr_null(strstr(watches[1].text[0], "gentle hum"));
    ck_assert_int_eq(strncmp(watches[1].text[0], "\"Echoes of ", 11), 0); /* the same until there */
    q = ask("", 30);
    q->allowed_ids = span_of("\0\0\1\4\0\0\1\5\0\0\1\6", 12);
    run(e, q, &watches[2]);
    ck_assert_uint_eq(watches[2].completion_tokens, 30);
    for (size_t i = 0; i < 30; i++)
        ck_assert(watches[2].ids[0][i] >= 260 && watches[2].ids[0][i] <= 262);
    q->format = TUNNEL_FORMAT_REGEX; /* both at once leave nothing */
    q->format_text = span_str("[0-9]{3}");
    run(e, q, &watches[3]);
    ck_assert_uint_eq(watches[3].completion_tokens, 0);
    ck_assert_int_eq(watches[3].finish[0], TUNNEL_FINISH_STOP);
    close_engine(e);
}
END_TEST

START_TEST(ids_come_back_and_prompts_are_cut)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask(prompts[4], 12);
    q->return_ids = true;
    run(e, q, &watches[0]);
    ck_assert_uint_eq(watches[0].prompt_id_count, watches[0].prompt_tokens);
    ck_assert_uint_eq(watches[0].id_count[0], 12);
    q->truncate_prompt = 5;
    q->echo = true;
    run(e, q, &watches[1]);
    ck_assert_uint_eq(watches[1].prompt_tokens, 5);
    ck_assert_mem_eq(watches[1].prompt_ids, watches[0].prompt_ids + watches[0].prompt_tokens - 5, 5 * sizeof(int32_t));
    ck_assert_ptr_null(strstr(watches[1].text[0], "vectors unfold"));
    q->truncate_prompt = -1;
    q->max_tokens = engine_context_max(e) - 3;
    q->ignore_eos = true;
    q->echo = false;
    run(e, q, &watches[2]);
    ck_assert_uint_eq(watches[2].prompt_tokens, 3);
    q = ask("", 100);
    q->return_ids = true;
    q->stop[0] = span_str("gentle hum");
    q->stop_count = 1;
    run(e, q, &watches[3]); /* ids of all that was made, the stop string's too */
    ck_assert_uint_eq(watches[3].id_count[0], watches[3].completion_tokens);
    q->stop_count = 0;
    q->stop_id[0] = 260;
    q->stop_id_count = 1;
    run(e, q, &watches[4]);
    ck_assert_uint_eq(watches[4].id_count[0], 4);
    ck_assert(has_id(&watches[4], 260));
    q->task = TUNNEL_TOKENIZE;
    q->prompt[0].bytes = span_str("As I listen");
    run(e, q, &watches[5]);
    ck_assert_uint_eq(watches[5].prompt_count[0], watches[5].id_count[0]);
    close_engine(e);
}
END_TEST

START_TEST(bad_requests_name_the_field)
{
    struct engine_options o = {.choices_max = 2};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("hi", 4);
    q->model = span_str("other");
    run(e, q, &watches[0]);
    ck_assert_uint_eq(watches[0].status, 404);
    ck_assert_str_eq(watches[0].code, "model_not_found");
    q = ask("hi", 1000);
    run(e, q, &watches[1]);
    ck_assert_uint_eq(watches[1].status, 400);
    ck_assert_str_eq(watches[1].code, "context_length_exceeded");
    ck_assert_ptr_nonnull(strstr(watches[1].message, "1000"));
    q = ask("hi", 4);
    q->n = 3;
    run(e, q, &watches[2]);
    ck_assert_str_eq(watches[2].param, "n");
    q = ask("hi", 4);
    q->bias_count = 1;
    q->bias[0] = (struct tunnel_bias){512, 1};
    run(e, q, &watches[3]);
    ck_assert_str_eq(watches[3].param, "logit_bias");
    q = ask("", 4);
    q->prompt[0] = (struct tunnel_prompt){true, span_of("\0\0\2\0", 4)};
    run(e, q, &watches[4]);
    ck_assert_str_eq(watches[4].param, "prompt");
    q = ask("", 4);
    q->task = TUNNEL_CHAT;
    q->prompt_count = 0;
    q->messages = span_str("[{\"role\":\"user\",\"content\":\"x\"}]");
    run(e, q, &watches[5]);
    ck_assert_str_eq(watches[5].param, "messages"); /* this model has no template */
    q = ask("hi", 4);
    q->allowed_ids = span_of("\0\0\0\1\0\0\2\0", 8);
    run(e, q, &watches[7]);
    ck_assert_str_eq(watches[7].param, "allowed_token_ids");
    q = ask("hi", 4);
    q->truncate_prompt = 100000;
    run(e, q, &watches[8]);
    ck_assert_str_eq(watches[8].param, "truncate_prompt_tokens");
    static char long_text[40000];
    memset(long_text, 'x', sizeof long_text - 1);
    run(e, ask(long_text, 4), &watches[6]);
    ck_assert_str_eq(watches[6].code, "context_length_exceeded");
    for (int i = 0; i < 9; i++)
        ck_assert(!watches[i].started);
    close_engine(e);
}
END_TEST

/* A model that never saw JSON writes it when nothing else is allowed. */
START_TEST(structured_output)
{
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":10,"
                                 "\"maximum\":42},\"ok\":{\"type\":\"boolean\"}},\"required\":[\"n\",\"ok\"]}";
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("The answer is", 90);
    q->format = TUNNEL_FORMAT_SCHEMA;
    q->format_text = span_str(schema);
    q->n = 2;
    q->temperature = 1;
    run(e, q, &watches[0]);
    ck_assert_msg(watches[0].status == 0, "%s", watches[0].message);
    for (int i = 0; i < 2; i++) {
        json_t *got = json_loads(watches[0].text[i], 0, NULL);
        int64_t n = json_integer_value(json_object_get(got, "n"));
        ck_assert_msg(n >= 10 && n <= 42 && json_is_boolean(json_object_get(got, "ok")), "%s", watches[0].text[i]);
        ck_assert_int_eq(watches[0].finish[i], TUNNEL_FINISH_STOP);
        json_decref(got);
    }
    q = ask("", 20);
    q->format = TUNNEL_FORMAT_CHOICE;
    q->format_text = span_str("[\"one\",\"two\"]");
    run(e, q, &watches[1]);
    ck_assert(strcmp(watches[1].text[0], "one") == 0 || strcmp(watches[1].text[0], "two") == 0);
    q = ask("", 20);
    q->format = TUNNEL_FORMAT_REGEX;
    q->format_text = span_str("[0-9]{3}-x");
    run(e, q, &watches[2]);
    ck_assert_msg(strlen(watches[2].text[0]) == 5 && strcmp(watches[2].text[0] + 3, "-x") == 0, "%s",
                  watches[2].text[0]);
    q->format_text = span_str("(unclosed");
    run(e, q, &watches[3]);
    ck_assert_uint_eq(watches[3].status, 400);
    ck_assert_str_eq(watches[3].param, "response_format");
    close_engine(e);
}
END_TEST

START_TEST(cancel_hold_drain_and_timeout)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("", 120);
    watch_init(&watches[0]);
    watches[0].cancel_after = e;
    submit(e, q, &watches[0]);
    wait_end(&watches[0]);
    ck_assert_uint_eq(watches[0].status, 499);
    ck_assert_uint_lt(watches[0].len[0], 60); /* within a step or two */
    watch_init(&watches[1]);
    q->timeout_ms = 50;
    pthread_mutex_lock(&watches[1].lock); /* the reader is stuck: the job is held before it makes a token */
    watches[1].job = engine_submit(e, q, &events, &watches[1]);
    engine_hold(e, watches[1].job, true);
    pthread_mutex_unlock(&watches[1].lock);
    wait_end(&watches[1]);
    ck_assert(watches[1].status == 504 || watches[1].completion_tokens == 120);
    q->timeout_ms = 0;
    watch_init(&watches[2]);
    submit(e, q, &watches[2]);
    engine_drain(e);
    run(e, q, &watches[3]);
    ck_assert_uint_eq(watches[3].status, 503);
    ck_assert_str_eq(watches[3].code, "draining");
    wait_end(&watches[2]);
    ck_assert_uint_eq(watches[2].status, 0);
    ck_assert_uint_eq(engine_jobs(e), 0);
    engine_cancel(e, watches[2].job);
    close_engine(e);
    e = open_engine(&o); /* closing with jobs alive gives each its end */
    for (int i = 0; i < WATCHES; i++) {
        watch_init(&watches[i]);
        submit(e, q, &watches[i]);
    }
    close_engine(e);
    for (int i = 0; i < WATCHES; i++)
        ck_assert(watches[i].over);
}
END_TEST

START_TEST(queue_is_bounded)
{
    struct engine_options o = {.queue_max = 4, .seqs_max = 1};
    struct engine *e = open_engine(&o);
    int refused = 0;
    for (int i = 0; i < WATCHES; i++) {
        watch_init(&watches[i]);
        submit(e, ask("", 30), &watches[i]);
    }
    for (int i = 0; i < WATCHES; i++) {
        wait_end(&watches[i]);
        ck_assert(watches[i].status == 0 || watches[i].status == 429);
        refused += watches[i].status == 429;
    }
    ck_assert_int_gt(refused, 0);
    close_engine(e);
}
END_TEST

START_TEST(tokenize_and_back)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("As I listen", 4);
    uint8_t ids[4 * 64];
    q->task = TUNNEL_TOKENIZE;
    run(e, q, &watches[0]);
    ck_assert_uint_gt(watches[0].id_count[0], 1);
    ck_assert_int_eq(watches[0].ids[0][0], 1);
    for (size_t i = 1; i < watches[0].id_count[0]; i++) {
        uint32_t id = (uint32_t)watches[0].ids[0][i];
        uint8_t be[4] = {0, 0, (uint8_t)(id >> 8), (uint8_t)id};
        memcpy(ids + 4 * (i - 1), be, 4);
    }
    q->task = TUNNEL_DETOKENIZE;
    q->prompt[0] = (struct tunnel_prompt){true, span_of(ids, 4 * (watches[0].id_count[0] - 1))};
    run(e, q, &watches[1]);
    ck_assert_msg(watches[1].status == 0, "%s", watches[1].message);
    ck_assert_str_eq(watches[1].text[0], "As I listen");
    close_engine(e);
}
END_TEST

/* --- guesses -------------------------------------------------------------------------------------------------- */

/* Requests of every kind that touches sampling; each must say the same with guesses as without. */
static struct tunnel_request *guess_request(int kind)
{
    struct tunnel_request *q = ask("a gentle hum, a gentle hum, a gentle hum, a", 40);
    q->has_seed = true;
    q->seed = 17 + (uint64_t)kind;
    q->temperature = kind % 3 == 0 ? 0 : kind % 3 == 1 ? 1 : 0.4;
    q->n = kind == 4 ? 3 : 1;
    q->logprobs = kind == 1 ? 3 : -1;
    q->frequency_penalty = kind == 2 ? 0.5 : 0;
    q->repetition_penalty = kind == 3 ? 1.3 : 1;
    if (kind == 5) {
        q->stop[0] = span_str("hum,");
        q->stop_count = 1;
    }
    if (kind == 6) {
        q->format = TUNNEL_FORMAT_REGEX;
        q->format_text = span_str("(abc-[0-9]{2},){8}");
    }
    if (kind == 7) {
        q->bad_word[0] = span_str("gentle hum");
        q->bad_word_count = 1;
    }
    if (kind == 8)
        q->min_tokens = 39;
    if (kind == 9)
        q->top_k = 3;
    if (kind == 10)
        q->return_ids = true;
    if (kind == 11)
        q->max_tokens = 2;
    return q;
}

START_TEST(guesses_change_no_request)
{
    enum { KINDS = 40 }; /* the last ones with other seeds */
    static struct watch plain[KINDS];
    struct engine_options o = {0};
    struct tunnel_stats stats;
    for (int round = 0; round < 2; round++) {
        struct engine *e = open_engine(&o);
        for (int i = 0; i < KINDS; i++)
            run(e, guess_request(i), round ? &watches[i] : &plain[i]);
        engine_stats(e, &stats);
        close_engine(e);
        o.ngram = (struct engine_ngram){5, 4, 1};
    }
    for (int i = 0; i < KINDS; i++) {
        ck_assert_msg(plain[i].status == 0, "%d: %s", i, plain[i].message);
        for (int k = 0; k < (i == 4 ? 3 : 1); k++) {
            ck_assert_msg(strcmp(plain[i].text[k], watches[i].text[k]) == 0, "request %d: \"%s\" became \"%s\"", i,
                          plain[i].text[k], watches[i].text[k]);
            ck_assert_uint_eq(plain[i].logprob_count[k], watches[i].logprob_count[k]);
            ck_assert_int_eq(plain[i].finish[k], watches[i].finish[k]);
        }
        ck_assert_uint_eq(plain[i].completion_tokens, watches[i].completion_tokens);
    }
    ck_assert_uint_gt(stats.spec_accepted, 30);
    ck_assert_uint_gt(stats.spec_draft_tokens, stats.spec_accepted);
    ck_assert_uint_lt(stats.steps, stats.generation_tokens); /* steps were saved */
}
END_TEST

/* Other seeds on both sides: how often each token follows must be alike (two-sample chi-square). */
START_TEST(guesses_keep_the_distribution)
{
    enum { REQUESTS = 160, EACH = 8, SHOWN = 6, VOCAB = 512 };
    static double seen[2][VOCAB];
    struct engine_options o = {0};
    double chi = 0;
    int classes = 0;
    for (int side = 0; side < 2; side++) {
        struct tunnel_stats stats;
        struct engine *e = open_engine(&o);
        for (int i = 0; i < REQUESTS; i++) {
            struct tunnel_request *q = ask("a gentle hum, a gentle hum, a gentle hum, a", SHOWN);
            q->temperature = 0.6;
            q->n = EACH;
            q->has_seed = true;
            q->seed = (uint64_t)(side * 1000000 + i);
            q->ignore_eos = true;
            run(e, q, &watches[0]);
            for (int k = 0; k < EACH; k++)
                for (size_t t = 1; t < watches[0].id_count[k]; t++) /* the first comes with the prompt, unguessed */
                    seen[side][watches[0].ids[k][t]]++;
        }
        engine_stats(e, &stats);
        ck_assert_msg((side == 1) == (stats.spec_accepted > 50), "%d accepted", (int)stats.spec_accepted);
        close_engine(e);
        o.ngram = (struct engine_ngram){3, 3, 1};
    }
    double rest[2] = {0};
    for (int v = 0; v < VOCAB; v++) {
        double sum = seen[0][v] + seen[1][v], apart = seen[0][v] - seen[1][v];
        if (sum < 20) {
            rest[0] += seen[0][v];
            rest[1] += seen[1][v];
            continue;
        }
        chi += apart * apart / sum;
        classes++;
    }
    if (rest[0] + rest[1] > 0)
        chi += (rest[0] - rest[1]) * (rest[0] - rest[1]) / (rest[0] + rest[1]);
    double most = classes + 5 * sqrt(2.0 * classes); /* five standard deviations of chi-square above its mean */
    ck_assert_msg(classes > 5 && chi < most, "chi-square %.1f over %d tokens, at most %.1f", chi, classes, most);
}
END_TEST

/* --- vectors -------------------------------------------------------------------------------------------------- */

enum { EMBED = 64, LONG = 90 };

/* What one step over the whole prompt says: the states of all its positions. */
static void states_of(const int32_t *ids, size_t count, float *hidden)
{
    struct engine_problem why = {0};
    struct engine_files own;
    struct engine_model_options o = {.threads = 2};
    char path[600];
    int32_t table[16];
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", shared);
    ck_assert(engine_files_load(&own, path, &why));
    struct engine_model *m = engine_model_open(&own, false, &o, &why);
    ck_assert_msg(m && engine_model_info(m)->embed == EMBED, "%s", why.text);
    struct engine_kv *kv = engine_kv_open(m, 16, (const int[ENGINE_KV_GROUPS]){16, 0}, &why);
    for (int i = 0; i < 16; i++)
        table[i] = i;
    struct engine_step_seq seq = {.tokens = ids, .count = (int)count, .blocks = {table}, .logits = ENGINE_LOGITS_ALL};
    ck_assert_int_eq(engine_model_states(m, kv, &seq, 1, hidden), ENGINE_OK);
    engine_kv_close(kv);
    engine_model_close(m);
    engine_files_release(&own);
}

static void normalize(const double *sum, double length, float *out)
{
    double squares = 0;
    for (int k = 0; k < EMBED; k++)
        squares += sum[k] * sum[k];
    for (int k = 0; k < EMBED; k++)
        out[k] = (float)(sum[k] * (length > 0 ? 1 / length : 1 / sqrt(squares)));
}

static void same_vector(const struct watch *w, int i, const float *want)
{
    ck_assert_msg(w->status == 0, "%s", w->message);
    ck_assert_uint_eq(w->float_count[i], EMBED);
    ck_assert_mem_eq(w->vector[i], want, EMBED * sizeof *want);
}

/* 0: the last token's, 1: the mean, 2: the mean in small steps with too little memory for all, 3: not normalized */
START_TEST(embeddings_are_pooled_states)
{
    static const struct engine_options options[] = {
        {.embeds = true},
        {.embeds = true, .pooling = ENGINE_POOLING_MEAN},
        {.embeds = true, .pooling = ENGINE_POOLING_MEAN, .step_tokens = 32, .long_prefill = 16, .kv_blocks = 14},
        {.embeds = true, .pooling = ENGINE_POOLING_MEAN, .raw_vectors = true}};
    static float hidden[LONG * EMBED], want[EMBED];
    static uint8_t bytes[4 * LONG];
    int32_t ids[LONG];
    double sum[EMBED] = {0};
    for (uint32_t i = 0; i < LONG; i++) {
        ids[i] = (int32_t)(3 + 7 * i % 500);
        memcpy(bytes + 4 * i, (uint8_t[]){0, 0, (uint8_t)(ids[i] >> 8), (uint8_t)ids[i]}, 4);
    }
    states_of(ids, LONG, hidden);
    for (int i = _i == 0 ? LONG - 1 : 0; i < LONG; i++)
        for (int k = 0; k < EMBED; k++)
            sum[k] += (double)hidden[i * EMBED + k];
    normalize(sum, _i == 3 ? LONG : 0, want);
    struct engine *e = open_engine(&options[_i]);
    struct tunnel_request *q = ask("", 0);
    q->task = TUNNEL_EMBED;
    q->has_max_tokens = false;
    q->prompt[0] = (struct tunnel_prompt){true, span_of(bytes, sizeof bytes)};
    for (int i = 0; i < 8; i++) {
        watch_init(&watches[i]);
        submit(e, q, &watches[i]);
    }
    for (int i = 0; i < 8; i++) {
        wait_end(&watches[i]);
        same_vector(&watches[i], 0, want);
        ck_assert_uint_eq(watches[i].prompt_tokens, LONG);
        ck_assert_uint_eq(watches[i].completion_tokens, 0);
    }
    q->prompt_count = 2;
    q->prompt[1] = q->prompt[0];
    q->prompt[0] = (struct tunnel_prompt){false, span_str("As I listen")};
    run(e, q, &watches[8]);
    same_vector(&watches[8], 1, want);
    ck_assert_uint_eq(watches[8].float_count[0], EMBED);
    run(e, ask("hi", 4), &watches[9]); /* no text from this engine */
    ck_assert_uint_eq(watches[9].status, 400);
    ck_assert_str_eq(watches[9].param, "model");
    close_engine(e);
}
END_TEST

START_TEST(text_engines_make_no_embeddings)
{
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("hi", 0);
    q->task = TUNNEL_EMBED;
    run(e, q, &watches[0]);
    ck_assert_uint_eq(watches[0].status, 400);
    ck_assert_str_eq(watches[0].param, "model");
    close_engine(e);
}
END_TEST

/* A model of everyday size with a chat template, where one was fetched: the whole path from a conversation. */
static bool have_smollm2(char *path, size_t cap)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    snprintf(path, cap, "%.300s%s/airlock/models/SmolLM2-135M-Instruct.Q4_1.gguf",
             cache  ? cache
             : home ? home
                    : "",
             cache ? "" : "/.cache");
    return access(path, R_OK) == 0;
}

START_TEST(chat_on_smollm2)
{
    char path[600];
    struct engine_problem why = {0};
    struct engine_options o = {.kv_bytes = 256 << 20, .context_max = 2048, .served_count = 1, .served = {"small"}};
    ck_assert(have_smollm2(path, sizeof path));
    ck_assert_msg(engine_files_load(&files, path, &why), "%s", why.text);
    struct engine *e = engine_open(&files, &o, &why);
    ck_assert_msg(e != NULL, "%s", why.text);
    struct tunnel_request *q = ask("", 24);
    q->task = TUNNEL_CHAT;
    q->model = span_str("small");
    q->prompt_count = 0;
    q->add_generation_prompt = true;
    q->messages = span_str("[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]");
    run(e, q, &watches[0]);
    ck_assert_msg(watches[0].status == 0, "%s", watches[0].message);
    ck_assert_msg(strstr(watches[0].text[0], "Paris") != NULL, "%s", watches[0].text[0]);
    static struct tunnel_request copy;
    struct tunnel_request *shaped = &copy;
    copy = *q;
    static const struct {
        enum tunnel_format format;
        const char *text;
    } forms[] = {{TUNNEL_FORMAT_JSON, ""},
                 {TUNNEL_FORMAT_SCHEMA,
                  "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"maxLength\":20}},"
                  "\"required\":[\"city\"],\"additionalProperties\":false}"},
                 {TUNNEL_FORMAT_CHOICE, "[\"Rome\",\"Paris\"]"},
                 {TUNNEL_FORMAT_REGEX, "[A-Z][a-z]{2,8}"}};
    for (int i = 0; i < 4; i++) {
        shaped->max_tokens = 60;
        shaped->format = forms[i].format;
        shaped->format_text = span_str(forms[i].text);
        run(e, shaped, &watches[1]);
        ck_assert_msg(watches[1].status == 0, "%s", watches[1].message);
        json_t *value = json_loads(watches[1].text[0], 0, NULL);
        if (watches[1].finish[0] == TUNNEL_FINISH_STOP && i < 2)
            ck_assert_msg(json_is_object(value), "%s", watches[1].text[0]);
        if (i == 1)
            ck_assert_msg(json_is_string(json_object_get(value, "city")), "%s", watches[1].text[0]);
        if (i == 2)
            ck_assert_str_eq(watches[1].text[0], "Paris");
        json_decref(value);
    }
    shaped->format = TUNNEL_FORMAT_SCHEMA;
    shaped->format_text = span_str("{\"type\":\"what\"}");
    run(e, shaped, &watches[1]);
    ck_assert_str_eq(watches[1].param, "response_format");
    shaped->format = TUNNEL_FORMAT_TEXT;
    shaped->tools =
        span_str("[{\"type\":\"function\",\"function\":{\"name\":\"where\",\"parameters\":{\"type\":\"object\","
                 "\"properties\":{\"n\":{\"type\":\"boolean\"}},\"required\":[\"n\"]}}}]");
    shaped->tool_choice = TUNNEL_TOOLS_REQUIRED;
    run(e, shaped, &watches[1]);
    ck_assert_msg(watches[1].status == 0, "%s", watches[1].message);
    ck_assert_int_eq(watches[1].finish[0], TUNNEL_FINISH_TOOL_CALLS);
    json_t *arguments = json_loads(watches[1].text[0] + strlen("where"), 0, NULL);
    ck_assert_msg(json_is_boolean(json_object_get(arguments, "n")), "%s", watches[1].text[0]);
    json_decref(arguments);
    for (int i = 1; i < 6; i++) { /* batched, and from the prefix cache: the same words */
        watch_init(&watches[i]);
        submit(e, q, &watches[i]);
    }
    for (int i = 1; i < 6; i++) {
        wait_end(&watches[i]);
        ck_assert_str_eq(watches[i].text[0], watches[0].text[0]);
    }
    ck_assert_uint_gt(watches[5].cached_tokens, 0);
    close_engine(e);
}
END_TEST

static void add_tests(TCase *t)
{
    char path[600];
    if (have_smollm2(path, sizeof path))
        tcase_add_test(t, chat_on_smollm2);
    else
        printf("SKIP: no SmolLM2 in the cache folder\n");
    if (!have_models()) {
        printf("SKIP: no models under $AIRLOCK_SHARED\n");
        return;
    }
    tcase_add_test(t, text_is_the_expected_one);
    tcase_add_loop_test(t, nothing_changes_the_answer, 0, 6);
    tcase_add_test(t, guesses_change_no_request);
    tcase_add_test(t, guesses_keep_the_distribution);
    tcase_add_test(t, salts_keep_tenants_apart);
    tcase_add_test(t, choices_seeds_and_logprobs);
    tcase_add_test(t, echo_and_prompt_logprobs);
    tcase_add_test(t, stops_and_lengths);
    tcase_add_test(t, allowed_ids_and_bad_words);
    tcase_add_test(t, ids_come_back_and_prompts_are_cut);
    tcase_add_test(t, bad_requests_name_the_field);
    tcase_add_test(t, structured_output);
    tcase_add_test(t, cancel_hold_drain_and_timeout);
    tcase_add_test(t, queue_is_bounded);
    tcase_add_test(t, tokenize_and_back);
    tcase_add_loop_test(t, embeddings_are_pooled_states, 0, 4);
    tcase_add_test(t, text_engines_make_no_embeddings);
}

RUN("engine_engine", add_tests)
