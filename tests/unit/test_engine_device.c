/* A model on the emulated device: its text is the processor's, a step crosses once each way and nothing is allocated
 * once it runs; and the engine's requests over it. Needs $AIRLOCK_SHARED/models, else it is skipped. */
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "cuda_host/cuda_runtime_api.h"
#include "engine/engine.h"
#include "kernels/bridge.h"
#include "run.h"

enum { TOKENS = 32 };

static char folder[512];
static struct engine_files files;

static bool have_model(void)
{
    const char *root = getenv("AIRLOCK_SHARED");
    char path[600];
    snprintf(folder, sizeof folder, "%.400s/models/aidreams260K", root ? root : "../shared");
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", folder);
    return access(path, R_OK) == 0;
}

static void load_files(void)
{
    char path[600];
    struct engine_problem why = {0};
    snprintf(path, sizeof path, "%s/aidreams260K.gguf", folder);
    ck_assert_msg(engine_files_load(&files, path, &why), "%s", why.text);
}

static struct engine_model *open_model(const char *device, bool exact)
{
    struct engine_model_options o = {.threads = 1, .device = device, .exact = exact, .step_tokens_max = 32};
    struct engine_problem why = {0};
    load_files();
    struct engine_model *m = engine_model_open(&files, false, &o, &why);
    ck_assert_msg(m != NULL, "%s", why.text);
    return m;
}

static const int pools[ENGINE_KV_GROUPS] = {8, 8};
static const int32_t table[8] = {5, 1, 7, 2, 0, 3, 4, 6};

static struct engine_kv *open_kv(const struct engine_model *m)
{
    struct engine_problem why = {0};
    struct engine_kv *kv = engine_kv_open(m, 16, pools, &why);
    ck_assert_msg(kv != NULL, "%s", why.text);
    return kv;
}

static void close_all(struct engine_model *m, struct engine_kv *kv)
{
    engine_kv_close(kv);
    engine_model_close(m);
    engine_files_release(&files);
}

static struct engine_step_seq one(const int32_t *token, int pos)
{
    return (struct engine_step_seq){token, 1, pos, {table, table}, ENGINE_LOGITS_LAST};
}

/* 0: bf16, 1: f32 */
START_TEST(greedy_text_and_one_crossing_each_way)
{
    char path[600];
    snprintf(path, sizeof path, "%s/expected.json", folder);
    json_t *want = json_load_file(path, 0, NULL);
    const json_t *ids = json_object_get(want, "greedy_ids");
    int32_t id = (int32_t)json_integer_value(json_array_get(json_object_get(want, "prompt_ids"), 0));
    struct engine_model *m = open_model("cuda", _i);
    struct engine_kv *kv = open_kv(m);
    struct bridge_stats before, after;
    ck_assert_str_eq(engine_model_info(m)->kernels, "cuda, emulated");
    size_t all = 0;
    ck_assert(engine_model_info(m)->picks && engine_model_memory(m, &all) > 1 << 20);
    ck_assert(engine_model_memory(m, &all) < all);

    for (int i = 0; i < TOKENS; i++) {
        struct sample_params p = {.temperature = 0, .top_p = 1, .repetition = 1, .top = -1};
        struct sample_result r;
        struct engine_pick pick = {.params = &p, .out = &r};
        struct engine_step_seq seq = one(&id, i);
        engine_model_crossings(m, &before);
        ck_assert_int_eq(engine_model_step_pick(m, kv, &seq, 1, &pick), ENGINE_OK);
        engine_model_crossings(m, &after);
        id = r.id;
        ck_assert_int_eq(id, json_integer_value(json_array_get(ids, (size_t)i)));
        for (int c = 0; c < BRIDGE_CLASSES; c++) {
            bool step = c == BRIDGE_STEP_IN || c == BRIDGE_TOKENS_OUT;
            ck_assert_uint_eq(after.of[c].crossings - before.of[c].crossings, step ? 1 : 0);
        }
        ck_assert_uint_eq(after.of[BRIDGE_TOKENS_OUT].bytes - before.of[BRIDGE_TOKENS_OUT].bytes, 8);
        ck_assert_uint_lt(after.of[BRIDGE_STEP_IN].bytes - before.of[BRIDGE_STEP_IN].bytes, 512);
        ck_assert(i == 0 || after.allocations == before.allocations);
    }
    json_decref(want);
    close_all(m, kv);
}
END_TEST

/* The draws of a seed, penalties and log-probabilities are those of the processor. */
START_TEST(draws_are_the_processors)
{
    struct engine_model *m[2] = {open_model("cuda", true), NULL};
    struct engine_kv *kv[2] = {open_kv(m[0]), NULL};
    struct sample_history h = {0};
    struct sample_scratch scratch;
    engine_files_release(&files);
    m[1] = open_model(NULL, true);
    kv[1] = open_kv(m[1]);
    size_t vocab = (size_t)engine_model_info(m[1])->vocab;
    float *logits = calloc(vocab, sizeof *logits);
    ck_assert(sample_scratch_init(&scratch, vocab));
    int32_t id = 1;
    for (int i = 0; i < 16; i++) {
        struct sample_params p = {.temperature = 0.9f,
                                  .top_p = i % 2 ? 0.95f : 1,
                                  .top_k = i % 3 ? 0 : 20,
                                  .repetition = 1.3f,
                                  .frequency = 0.2f,
                                  .seed = 99,
                                  .position = (uint32_t)i,
                                  .top = 5};
        struct sample_result got, want;
        struct engine_pick pick = {.params = &p, .history = &h, .out = &got};
        struct engine_step_seq seq = one(&id, i);
        ck_assert_int_eq(engine_model_step_pick(m[0], kv[0], &seq, 1, &pick), ENGINE_OK);
        ck_assert_int_eq(engine_model_step(m[1], kv[1], &seq, 1, logits), ENGINE_OK);
        sample_pick(&want, &p, &h, logits, vocab, &scratch);
        ck_assert_int_eq(got.id, want.id);
        ck_assert_float_lt(fabsf(got.logprob - want.logprob), 1e-3f);
        ck_assert_uint_eq(got.top_count, 5);
        ck_assert_int_eq(got.top[0].id, want.top[0].id);
        id = want.id;
        ck_assert(sample_history_add(&h, id, true));
    }
    sample_history_release(&h);
    sample_scratch_release(&scratch);
    free(logits);
    engine_kv_close(kv[0]);
    engine_model_close(m[0]);
    close_all(m[1], kv[1]);
}
END_TEST

/* States, wiped and copied blocks, refused calls. */
START_TEST(the_rest_of_a_model)
{
    struct engine_model *m = open_model("cuda", true);
    struct engine_kv *kv = open_kv(m);
    static const int32_t tokens[3] = {1, 20, 30};
    int32_t far[8] = {5, 1, 7, 2, 0, 3, 4, 8};
    struct engine_step_seq seq = {tokens, 3, 0, {table, table}, ENGINE_LOGITS_ALL};
    size_t vocab = (size_t)engine_model_info(m)->vocab, embed = (size_t)engine_model_info(m)->embed;
    float *a = calloc(3 * vocab, sizeof *a), *b = calloc(3 * vocab, sizeof *b), *states = calloc(3 * embed, sizeof *a);
    ck_assert_int_eq(engine_model_step(m, kv, &seq, 1, a), ENGINE_OK);
    ck_assert_int_eq(engine_model_states(m, kv, &seq, 1, states), ENGINE_OK);
    ck_assert(isfinite(states[0]) && states[3 * embed - 1] != 0);

    struct engine_step_seq last = {tokens + 2, 1, 2, {table, table}, ENGINE_LOGITS_LAST}, moved = last;
    int32_t other[8] = {6, 1, 7, 2, 0, 3, 4, 5};
    moved.blocks[0] = other;
    engine_kv_copy(kv, 0, 6, 5);
    ck_assert_int_eq(engine_model_step(m, kv, &moved, 1, b), ENGINE_OK);
    ck_assert_mem_eq(a + 2 * vocab, b, vocab * sizeof *a);
    engine_kv_zero(kv, 0, 6);
    ck_assert_int_eq(engine_model_step(m, kv, &moved, 1, b), ENGINE_OK);
    ck_assert_mem_ne(a + 2 * vocab, b, vocab * sizeof *a);

    seq.pos = 112; /* in the last block of the table, which names one that is not there */
    seq.blocks[0] = far;
    ck_assert_int_eq(engine_model_step(m, kv, &seq, 1, a), ENGINE_E_CALL);
    ck_assert_int_eq(engine_model_step_pick(m, kv, &last, 1, NULL), ENGINE_E_CALL);
    free(a);
    free(b);
    free(states);
    close_all(m, kv);
}
END_TEST

/* --- the engine --------------------------------------------------------------------------------------------------- */

struct watch {
    pthread_mutex_t lock;
    pthread_cond_t end;
    uint32_t ids[4][64], status;
    size_t count[4], logprobs, prompt;
    bool over;
};

static void on_event(void *ctx, const struct tunnel_event *ev)
{
    struct watch *w = ctx;
    pthread_mutex_lock(&w->lock);
    for (size_t k = 0; ev->kind == TUNNEL_EVENT_DELTA && k < tunnel_ids_count(ev->ids); k++)
        w->ids[ev->index][w->count[ev->index]++] = tunnel_ids_at(ev->ids, k);
    w->logprobs += ev->kind == TUNNEL_EVENT_DELTA ? ev->logprob_count : 0;
    w->prompt += ev->kind == TUNNEL_EVENT_PROMPT ? ev->logprob_count : 0;
    w->status = ev->kind == TUNNEL_EVENT_ERROR ? ev->status : w->status;
    w->over = ev->kind == TUNNEL_EVENT_ERROR || ev->kind == TUNNEL_EVENT_DONE;
    pthread_cond_signal(&w->end);
    pthread_mutex_unlock(&w->lock);
}

static struct tunnel_request *ask(void)
{
    static struct tunnel_request q;
    tunnel_request_defaults(&q);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str("dreams");
    q.prompt_count = 1;
    q.prompt[0].bytes = span_str("As I listen to the light and then");
    q.add_special_tokens = true;
    q.has_max_tokens = true;
    q.max_tokens = 12;
    q.temperature = 0;
    q.salt = span_str("tenant");
    return &q;
}

static void run_to_its_end(struct engine *e, const struct tunnel_request *q, struct watch *w)
{
    static const struct engine_events events = {on_event};
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->end, NULL);
    ck_assert_uint_ne(engine_submit(e, q, &events, w), 0);
    pthread_mutex_lock(&w->lock);
    while (!w->over)
        pthread_cond_wait(&w->end, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void run(struct engine *e, const struct tunnel_request *q, struct watch *w)
{
    run_to_its_end(e, q, w);
    ck_assert_uint_eq(w->status, 0);
}

static struct engine *open_engine(const char *device)
{
    struct engine_options o = {
        .threads = 1, .kv_bytes = 4 << 20, .step_tokens = 64, .seqs_max = 4, .context_max = 128, .device = device};
    struct engine_problem why = {0};
    load_files();
    o.served[o.served_count++] = "dreams";
    struct engine *e = engine_open(&files, &o, &why);
    ck_assert_msg(e != NULL, "%s", why.text);
    return e;
}

START_TEST(requests_are_answered_alike)
{
    static struct watch w[2][3];
    for (int d = 0; d < 2; d++) {
        struct engine *e = open_engine(d == 0 ? "cuda" : NULL);
        struct tunnel_request *q = ask();
        run(e, q, &w[d][0]);
        q->n = 2;
        q->temperature = 0.5;
        q->has_seed = true;
        q->seed = 5;
        q->max_tokens = 6;
        q->logprobs = 2;
        q->prompt_logprobs = 1;
        q->presence_penalty = 0.5;
        q->bias_count = 1;
        q->bias[0] = (struct tunnel_bias){65, 3};
        run(e, q, &w[d][1]);
        run(e, q, &w[d][2]);
        engine_close(e);
        engine_files_release(&files);
    }
    ck_assert_uint_eq(w[0][0].count[0], 12);
    for (int r = 0; r < 2; r++) {
        ck_assert_uint_eq(w[0][r].logprobs, w[1][r].logprobs);
        ck_assert_uint_eq(w[0][r].prompt, w[1][r].prompt);
        for (int i = 0; i < 2; i++) {
            ck_assert_uint_eq(w[0][r].count[i], w[1][r].count[i]);
        }
    }
    ck_assert_mem_eq(w[0][0].ids, w[1][0].ids, sizeof w[0][0].ids);
    ck_assert_mem_eq(w[0][1].ids, w[0][2].ids, sizeof w[0][1].ids); /* its own again: bf16 moves a draw at its edge */
    ck_assert_uint_gt(w[0][1].prompt, 4);
}
END_TEST

START_TEST(what_a_device_cannot_is_refused)
{
    struct engine_options o = {.device = "cuda", .ngram = {4, 3, 1}, .kv_bytes = 4 << 20};
    struct engine_problem why = {0};
    load_files();
    ck_assert(engine_open(&files, &o, &why) == NULL);
    ck_assert(strstr(why.text, "speculation") != NULL);
    why = (struct engine_problem){0};
    o = (struct engine_options){.device = "abacus"};
    ck_assert(engine_open(&files, &o, &why) == NULL);
    ck_assert(strstr(why.text, "cpu or cuda") != NULL);
    engine_files_release(&files);
}
END_TEST

/* Whichever allocation fails, the model or its keys and values are refused with the reason and nothing stays taken; one
 * that fails in a step ends that step and all later ones with an error. */
START_TEST(short_memory_is_an_error)
{
    struct engine_model_options o = {.threads = 1, .device = "cuda", .step_tokens_max = 32};
    int refused = 0;
    load_files();
    for (int nth = 1; nth < 400; nth += nth < 8 ? 1 : 13) {
        struct engine_problem why = {0};
        emulated_fail_allocation(nth);
        struct engine_model *m = engine_model_open(&files, false, &o, &why);
        struct engine_kv *kv = m ? engine_kv_open(m, 16, pools, &why) : NULL;
        refused += !kv;
        ck_assert(kv || strstr(why.text, "memory"));
        if (kv) {
            int32_t id = 1;
            struct sample_params p = {.top_p = 1, .repetition = 1, .top = -1};
            struct sample_result r;
            struct engine_pick pick = {.params = &p, .out = &r};
            struct engine_step_seq seq = one(&id, 0);
            emulated_fail_allocation(1); /* the first step takes its pinned memory */
            ck_assert_int_eq(engine_model_step_pick(m, kv, &seq, 1, &pick), ENGINE_E_DEVICE);
            ck_assert_int_eq(engine_model_step_pick(m, kv, &seq, 1, &pick), ENGINE_E_DEVICE);
        }
        engine_kv_close(kv);
        engine_model_close(m);
        emulated_fail_allocation(0);
        ck_assert_uint_eq(emulated_allocations(), 0);
    }
    ck_assert_int_ge(refused, 8);
    engine_files_release(&files);
}
END_TEST

/* No later request waits for a device that computes no more: it is refused, so that another engine is asked. */
START_TEST(an_engine_whose_device_failed_serves_no_more)
{
    static struct watch w;
    struct engine *e = open_engine("cuda");
    emulated_fail_allocation(1); /* the first step's */
    ck_assert(!engine_broken(e));
    run_to_its_end(e, ask(), &w);
    ck_assert_uint_eq(w.status, 500);
    ck_assert(engine_broken(e));
    run_to_its_end(e, ask(), &w);
    ck_assert_uint_eq(w.status, 503);
    emulated_fail_allocation(0);
    engine_close(e);
    engine_files_release(&files);
}
END_TEST

static void add_tests(TCase *tests)
{
    if (!have_model()) {
        puts("SKIP engine on the emulated device: no models/aidreams260K");
        return;
    }
    tcase_add_loop_test(tests, greedy_text_and_one_crossing_each_way, 0, 2);
    tcase_add_test(tests, draws_are_the_processors);
    tcase_add_test(tests, the_rest_of_a_model);
    tcase_add_test(tests, requests_are_answered_alike);
    tcase_add_test(tests, what_a_device_cannot_is_refused);
    tcase_add_test(tests, short_memory_is_an_error);
    tcase_add_test(tests, an_engine_whose_device_failed_serves_no_more);
}

RUN("engine on the emulated device", add_tests)
