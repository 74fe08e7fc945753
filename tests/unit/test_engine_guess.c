/* Guesses and vectors: what an engine does beside writing one token a step. Needs the model of test_engine_engine.c;
 * without it these tests are skipped. */
#include <math.h>
#include <stdatomic.h>

#include "engine_watch.h"
#include "run.h"

static struct watch watches[WATCHES];

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

/* 0: the last token's, 1: the mean, 2: the mean in small steps with too little memory for all, 3: not normalized, 4:
 * the first token's */
START_TEST(embeddings_are_pooled_states)
{
    static const struct engine_options options[] = {
        {.embeds = true},
        {.embeds = true, .pooling = ENGINE_POOLING_MEAN},
        {.embeds = true, .pooling = ENGINE_POOLING_MEAN, .step_tokens = 32, .long_prefill = 16, .kv_blocks = 14},
        {.embeds = true, .pooling = ENGINE_POOLING_MEAN, .raw_vectors = true},
        {.embeds = true, .pooling = ENGINE_POOLING_CLS, .step_tokens = 32, .kv_blocks = 14}};
    static float hidden[LONG * EMBED], want[EMBED];
    static uint8_t bytes[4 * LONG];
    int32_t ids[LONG];
    double sum[EMBED] = {0};
    for (uint32_t i = 0; i < LONG; i++) {
        ids[i] = (int32_t)(3 + 7 * i % 500);
        memcpy(bytes + 4 * i, (uint8_t[]){0, 0, (uint8_t)(ids[i] >> 8), (uint8_t)ids[i]}, 4);
    }
    states_of(ids, LONG, hidden);
    for (int i = _i == 0 ? LONG - 1 : 0; i < (_i == 4 ? 1 : LONG); i++)
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

enum { INPUTS = TUNNEL_INPUTS_MAX };

/* A request of very many inputs, as its client sees it. */
static struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t news;
    uint32_t whole, status, prompt_tokens;
    uint16_t floats[INPUTS];
    float first[INPUTS];
    bool over;
} crowd;

static void on_crowd(void *ctx, const struct tunnel_event *ev)
{
    struct crowd *c = ctx;
    uint32_t bits = ev->floats.len ? tunnel_ids_at(ev->floats, 0) : 0;
    pthread_mutex_lock(&c->lock);
    if (ev->kind == TUNNEL_EVENT_RESULT) {
        memcpy(&c->first[ev->index], &bits, sizeof bits);
        c->floats[ev->index] = (uint16_t)(c->floats[ev->index] + tunnel_ids_count(ev->floats));
        c->whole += c->floats[ev->index] == EMBED;
    }
    c->status = ev->kind == TUNNEL_EVENT_ERROR ? ev->status : c->status;
    c->over = ev->kind == TUNNEL_EVENT_ERROR || ev->kind == TUNNEL_EVENT_DONE;
    c->prompt_tokens = ev->kind == TUNNEL_EVENT_DONE ? ev->prompt_tokens : 0;
    pthread_cond_signal(&c->news);
    pthread_mutex_unlock(&c->lock);
}

static struct tunnel_request *ask_vectors(uint32_t count)
{
    static uint8_t id[2][4] = {{0, 0, 0, 40}, {0, 0, 0, 41}};
    struct tunnel_request *q = ask("", 0);
    q->task = TUNNEL_EMBED;
    q->has_max_tokens = false;
    q->prompt_count = count;
    for (uint32_t i = 0; i < count; i++)
        q->prompt[i] = (struct tunnel_prompt){true, span_of(id[i % 2], 4)};
    return q;
}

/* As many inputs as a request may have: all are answered, and what another sends meanwhile is neither refused for a
 * full queue nor waits for their end. */
START_TEST(many_inputs_let_others_in)
{
    static const struct engine_events told = {on_crowd};
    struct engine_options o = {.embeds = true, .seqs_max = 4, .queue_max = 256};
    struct engine *e = open_engine(&o);
    pthread_mutex_init(&crowd.lock, NULL);
    pthread_cond_init(&crowd.news, NULL);
    ck_assert_uint_ne(engine_submit(e, ask_vectors(INPUTS), &told, &crowd), 0);
    pthread_mutex_lock(&crowd.lock);
    while (crowd.whole < 8 && !crowd.over)
        pthread_cond_wait(&crowd.news, &crowd.lock);
    uint32_t before = crowd.whole;
    pthread_mutex_unlock(&crowd.lock);
    run(e, ask_vectors(1), &watches[0]);
    pthread_mutex_lock(&crowd.lock);
    uint32_t after = crowd.whole;
    while (!crowd.over)
        pthread_cond_wait(&crowd.news, &crowd.lock);
    pthread_mutex_unlock(&crowd.lock);
    ck_assert_uint_eq(watches[0].status, 0);
    ck_assert_uint_eq(watches[0].float_count[0], EMBED);
    printf("of %d inputs %u were done before another's one, %u after it\n", INPUTS, before, after);
    ck_assert_uint_lt(after, INPUTS / 2);
    ck_assert_uint_eq(crowd.status, 0);
    ck_assert_uint_eq(crowd.whole, INPUTS);
    ck_assert_uint_eq(crowd.prompt_tokens, INPUTS);
    ck_assert(crowd.first[0] != crowd.first[1]);
    for (uint32_t i = 0; i < INPUTS; i++)
        ck_assert(crowd.first[i] == crowd.first[i % 2]);
    close_engine(e);
}
END_TEST

static struct engine *crowded;
static struct watch rival;
static atomic_bool first_began, rival_came;

/* While the first four inputs are read another request comes and fills the queue; with their vectors it goes again. */
static void on_full_queue(void *ctx, const struct tunnel_event *ev)
{
    on_crowd(ctx, ev);
    atomic_store(&first_began, true);
    while (ev->kind == TUNNEL_EVENT_START && !atomic_load(&rival_came))
        usleep(1000);
    if (ev->kind == TUNNEL_EVENT_START)
        usleep(50000); /* until it is in the queue */
    if (ev->kind == TUNNEL_EVENT_RESULT && ev->index == 0)
        engine_cancel(crowded, rival.job);
}

/* The next input finds the queue full and nothing else runs: it still enters. */
START_TEST(inputs_enter_after_a_full_queue)
{
    static const struct engine_events told = {on_full_queue};
    static uint8_t ids[4 * 100]; /* two steps */
    struct engine_options o = {.embeds = true, .seqs_max = 4, .queue_max = 1, .choices_max = 3, .long_prefill = 60};
    crowded = open_engine(&o);
    pthread_mutex_init(&crowd.lock, NULL);
    pthread_cond_init(&crowd.news, NULL);
    for (size_t i = 3; i < sizeof ids; i += 4)
        ids[i] = 40;
    struct tunnel_request *q = ask_vectors(5);
    for (int i = 0; i < 4; i++)
        q->prompt[i] = (struct tunnel_prompt){true, span_of(ids, sizeof ids)};
    ck_assert_uint_ne(engine_submit(crowded, q, &told, &crowd), 0);
    watch_init(&rival);
    while (!atomic_load(&first_began))
        usleep(1000);
    submit(crowded, ask_vectors(4), &rival);
    atomic_store(&rival_came, true);
    wait_end(&rival);
    ck_assert_uint_eq(rival.status, 499);
    pthread_mutex_lock(&crowd.lock);
    while (!crowd.over)
        pthread_cond_wait(&crowd.news, &crowd.lock);
    pthread_mutex_unlock(&crowd.lock);
    ck_assert_uint_eq(crowd.status, 0);
    ck_assert_uint_eq(crowd.whole, 5);
    close_engine(crowded);
}
END_TEST

/* Long vectors: what one answer holds is bounded too. */
START_TEST(too_many_numbers_are_refused)
{
    struct engine_options o = {.embeds = true, .floats_max = 10 * EMBED + 1};
    struct engine *e = open_engine(&o);
    run(e, ask_vectors(8), &watches[0]);
    ck_assert_uint_eq(watches[0].status, 0);
    run(e, ask_vectors(11), &watches[1]);
    ck_assert_uint_eq(watches[1].status, 400);
    ck_assert_str_eq(watches[1].param, "input");
    ck_assert_ptr_nonnull(strstr(watches[1].message, "at most 10 inputs, got 11"));
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

static void add_tests(TCase *t)
{
    if (!have_models()) {
        printf("SKIP: no models under $AIRLOCK_SHARED\n");
        return;
    }
    tcase_add_test(t, guesses_change_no_request);
    tcase_add_test(t, guesses_keep_the_distribution);
    tcase_add_loop_test(t, embeddings_are_pooled_states, 0, 5);
    tcase_add_test(t, many_inputs_let_others_in);
    tcase_add_test(t, inputs_enter_after_a_full_queue);
    tcase_add_test(t, too_many_numbers_are_refused);
    tcase_add_test(t, text_engines_make_no_embeddings);
}

RUN("engine_guess", add_tests)
