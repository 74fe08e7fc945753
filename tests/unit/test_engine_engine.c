/* The engine on a small trained model: its text, and that nothing else in the batch, no chunking, no prefix hit and
 * no preemption changes it. Needs $AIRLOCK_SHARED/models (default ../shared); without it these tests are skipped. */
#include <jansson.h>
#include <math.h>

#include "engine_watch.h"
#include "run.h"

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
    q->include_stop = false;
    q->stop[0] = span_str("choes");
    q->logprobs = 0;
    run(e, q, &watches[5]);
    ck_assert_str_eq(watches[5].text[0], "\"E");
    ck_assert_uint_eq(watches[5].logprob_count[0], watches[5].id_count[0]);
    q->min_tokens = 20; /* stop strings, too, count only behind it */
    run(e, q, &watches[6]);
    ck_assert_uint_gt(watches[6].completion_tokens, 20);
    ck_assert_ptr_nonnull(strstr(watches[6].text[0], "\"Echoes of"));
    q->min_tokens = 0;
    q->logprobs = -1;
    q->stop_count = 0;
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
    q->max_tokens = 7; /* a rule's bound, not what the client asked */
    run(e, q, &watches[5]);
    ck_assert_uint_eq(watches[5].completion_tokens, 7);
    q->max_tokens = engine_context_max(e); /* more than there is room for */
    run(e, q, &watches[7]);
    ck_assert_msg(watches[7].status == 0, "%s", watches[7].message);
    ck_assert_uint_eq(watches[7].completion_tokens, engine_context_max(e) - 1);
    q->has_max_tokens = true; /* the same as a wish cannot be met */
    run(e, q, &watches[8]);
    ck_assert_uint_eq(watches[8].status, 400);
    close_engine(e);
}
END_TEST

/* top_k 1 leaves nothing to chance: left out, the model's default shows; given, it does not. */
START_TEST(a_request_that_does_not_say_gets_the_defaults)
{
    struct engine_options o = {.override_generation = "{\"top_k\": 1, \"max_new_tokens\": 30}"};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("As I", 30);
    ck_assert_msg(strstr(engine_load_options(e), " sampling=top_k:1,max_new_tokens:30 "), "%s", engine_load_options(e));
    run(e, q, &watches[0]); /* greedy */
    q->temperature = (double)NAN;
    q->has_seed = true;
    q->seed = 5;
    run(e, q, &watches[1]);
    ck_assert_str_eq(watches[1].text[0], watches[0].text[0]);
    q->has_max_tokens = false;
    q->max_tokens = 0;
    run(e, q, &watches[2]);
    ck_assert_str_eq(watches[2].text[0], watches[0].text[0]);
    q->top_k = 0;
    q->temperature = 2;
    run(e, q, &watches[3]);
    ck_assert_msg(watches[3].status == 0, "%s", watches[3].message);
    ck_assert_str_ne(watches[3].text[0], watches[0].text[0]);
    ck_assert_uint_eq(watches[3].completion_tokens, 30);
    q->has_max_tokens = true;
    q->max_tokens = 31;
    run(e, q, &watches[4]);
    ck_assert_uint_eq(watches[4].status, 400);
    ck_assert_str_eq(watches[4].param, "max_tokens");
    close_engine(e);

    struct engine_options plain = {0}; /* this file has no keys: the API's defaults */
    e = open_engine(&plain);
    ck_assert_ptr_nonnull(strstr(engine_load_options(e), " sampling=api "));
    q = ask("As I", 30);
    q->temperature = (double)NAN;
    q->has_seed = true;
    run(e, q, &watches[5]);
    q->temperature = q->top_p = q->repetition_penalty = 1;
    q->min_p = 0;
    q->top_k = 0;
    run(e, q, &watches[6]);
    ck_assert_str_eq(watches[5].text[0], watches[6].text[0]);
    ck_assert_str_ne(watches[5].text[0], watches[0].text[0]);
    close_engine(e);
}
END_TEST

START_TEST(bad_defaults_refuse_the_model)
{
    char path[600];
    struct engine_problem why = {0};
    struct engine_options o = {.generation = ENGINE_GENERATION_GIVEN,
                               .generation_config = span_str("{\"top_p\": \"most\"}")};
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", shared);
    ck_assert_msg(engine_files_load(&files, path, &why), "%s", why.text);
    ck_assert(engine_open(&files, &o, &why) == NULL);
    ck_assert_msg(strstr(why.text, "top_p"), "%s", why.text);
    engine_files_release(&files);
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

/* The largest grammars of requests that wait would fill the memory of everybody: beyond a limit they are refused. */
START_TEST(large_grammars_are_counted)
{
    enum { FIT = 7 }; /* of 34 MiB each */
    struct engine_options o = {0};
    struct engine *e = open_engine(&o);
    struct tunnel_request *q = ask("", 4);
    q->format = TUNNEL_FORMAT_REGEX;
    q->format_text = span_str("(\\w{100}){1,4000}");
    for (int i = 0; i < FIT; i++) {
        watch_init(&watches[i]);
        submit(e, q, &watches[i]);
        engine_hold(e, watches[i].job, true);
    }
    run(e, q, &watches[FIT]);
    ck_assert_uint_eq(watches[FIT].status, 429);
    ck_assert_str_eq(watches[FIT].param, "response_format");
    for (int i = 0; i < FIT; i++)
        engine_hold(e, watches[i].job, false);
    for (int i = 0; i < FIT; i++) {
        wait_end(&watches[i]);
        ck_assert_uint_eq(watches[i].status, 0);
    }
    run(e, q, &watches[FIT]); /* they are given back */
    ck_assert_uint_eq(watches[FIT].status, 0);
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
    q->messages =
        span_str("[{\"role\":\"user\",\"content\":\"What is the capital of France? Answer in one sentence.\"}]");
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
    tcase_add_test(t, salts_keep_tenants_apart);
    tcase_add_test(t, choices_seeds_and_logprobs);
    tcase_add_test(t, echo_and_prompt_logprobs);
    tcase_add_test(t, stops_and_lengths);
    tcase_add_test(t, a_request_that_does_not_say_gets_the_defaults);
    tcase_add_test(t, bad_defaults_refuse_the_model);
    tcase_add_test(t, allowed_ids_and_bad_words);
    tcase_add_test(t, ids_come_back_and_prompts_are_cut);
    tcase_add_test(t, bad_requests_name_the_field);
    tcase_add_test(t, structured_output);
    tcase_add_test(t, large_grammars_are_counted);
    tcase_add_test(t, cancel_hold_drain_and_timeout);
    tcase_add_test(t, queue_is_bounded);
    tcase_add_test(t, tokenize_and_back);
}

RUN("engine_engine", add_tests)
