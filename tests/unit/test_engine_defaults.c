/* Do generation_config.json, GGUF's keys and the override give the sampling that a request leaves out, does a request's
 * own value stand, and is every hostile value refused by the name of its key? */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "engine/defaults.h"
#include "engine_gguf.h"
#include "run.h"

static struct engine_problem why;
static struct engine_defaults d;

static void add(struct engine_files *files, const char *path, struct span bytes)
{
    uint8_t *to = engine_files_add(files, path, bytes.len, NULL);
    ck_assert_ptr_nonnull(to);
    memcpy(to, bytes.data, bytes.len);
}

static bool read_with(const struct engine_options *o, const char *own)
{
    struct engine_files files = {0};
    if (own)
        add(&files, "generation_config.json", span_str(own));
    why = (struct engine_problem){0};
    bool ok = engine_defaults_read(&d, &files, o, &why);
    engine_files_release(&files);
    return ok;
}

static const struct engine_options automatic;

START_TEST(the_models_file_is_read)
{
    /* Qwen3's, with what is not looked at */
    ck_assert_msg(read_with(&automatic, "{\"bos_token_id\": 1, \"do_sample\": true, \"eos_token_id\": [2, 3], "
                                        "\"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95, \"min_p\": null, "
                                        "\"transformers_version\": \"4.51.0\"}"),
                  "%s", why.text);
    char text[256];
    engine_defaults_print(&d, text, sizeof text);
    ck_assert_str_eq(text, "temperature:0.6,top_p:0.95,top_k:20");
    ck_assert(isnan(d.min_p) && isnan(d.repetition_penalty) && engine_defaults_most(&d) == 0);
    ck_assert(read_with(&automatic, "{\"repetition_penalty\": 1.05, \"min_p\": 0, \"max_new_tokens\": 2048}"));
    engine_defaults_print(&d, text, sizeof text);
    ck_assert_str_eq(text, "min_p:0,repetition_penalty:1.05,max_new_tokens:2048");
    ck_assert(read_with(&automatic, "{}"));
    engine_defaults_print(&d, text, sizeof text);
    ck_assert_str_eq(text, "api");
    ck_assert(read_with(&automatic, NULL)); /* neither file nor GGUF */
    ck_assert(isnan(d.temperature));
}
END_TEST

START_TEST(the_choice_of_source_holds)
{
    struct engine_options o = {.generation = ENGINE_GENERATION_API};
    ck_assert(read_with(&o, "{\"temperature\": \"hot\"}")); /* left aside, so nobody minds */
    ck_assert(isnan(d.temperature));
    o = (struct engine_options){.generation = ENGINE_GENERATION_GIVEN, .generation_config = span_str("{\"top_k\": 5}")};
    ck_assert(read_with(&o, "{\"top_k\": 9, \"top_p\": 0.5}"));
    ck_assert(d.top_k == 5 && isnan(d.top_p));
    o.generation_config = span_str("");
    ck_assert(!read_with(&o, "{}"));
    o = (struct engine_options){.override_generation = "{\"top_k\": 1, \"max_new_tokens\": null}"};
    ck_assert(read_with(&o, "{\"top_k\": 9, \"top_p\": 0.5, \"max_new_tokens\": 16}"));
    ck_assert(d.top_k == 1 && d.top_p == 0.5 && engine_defaults_most(&d) == 0);
    o.generation = ENGINE_GENERATION_API;
    ck_assert(read_with(&o, "{\"top_p\": 0.5}"));
    ck_assert(d.top_k == 1 && isnan(d.top_p));
}
END_TEST

static const struct {
    const char *text, *named;
} bad[] = {
    {"", "generation_config.json"},
    {"[0.6]", "generation_config.json"},
    {"{\"temperature\": 0.6", "generation_config.json"},
    {"{\"top_k\": 1, \"top_k\": 2}", "generation_config.json"},
    {"{\"temperature\": \"0.6\"}", "temperature"},
    {"{\"temperature\": true}", "temperature"},
    {"{\"temperature\": [0.6]}", "temperature"},
    {"{\"temperature\": -0.1}", "temperature"},
    {"{\"temperature\": 2.1}", "temperature"},
    {"{\"temperature\": 1e999}", "generation_config.json"},
    {"{\"top_p\": 1.5}", "top_p"},
    {"{\"top_p\": -1}", "top_p"},
    {"{\"min_p\": {}}", "min_p"},
    {"{\"min_p\": 1.01}", "min_p"},
    {"{\"repetition_penalty\": 0}", "repetition_penalty"},
    {"{\"repetition_penalty\": 1e6}", "repetition_penalty"},
    {"{\"top_k\": 20.5}", "top_k"},
    {"{\"top_k\": -2}", "top_k"},
    {"{\"top_k\": 4294967296}", "top_k"},
    {"{\"max_new_tokens\": 0}", "max_new_tokens"},
    {"{\"max_new_tokens\": \"many\"}", "max_new_tokens"},
    {"{\"max_new_tokens\": 2147483648}", "max_new_tokens"},
};

START_TEST(a_hostile_file_is_refused_by_name)
{
    ck_assert(!read_with(&automatic, bad[_i].text));
    ck_assert_msg(why.code != ENGINE_OK && strstr(why.text, bad[_i].named), "%s: %s", bad[_i].text, why.text);
    /* The same as an override, which has other words for where it stands. */
    struct engine_options o = {.override_generation = bad[_i].text};
    ck_assert(!read_with(&o, NULL));
    ck_assert_msg(strstr(why.text, "override-generation-config"), "%s", why.text);
}
END_TEST

START_TEST(sizes_depths_and_strange_keys)
{
    static char huge[ENGINE_DEFAULTS_TEXT_MAX + 64];
    struct engine_options o = {.override_generation = "{\"temprature\": 1}"};
    memset(huge, ' ', sizeof huge - 1);
    memcpy(huge, "{}", 2);
    ck_assert(!read_with(&automatic, huge));
    ck_assert_ptr_nonnull(strstr(why.text, "bytes"));
    huge[ENGINE_DEFAULTS_TEXT_MAX] = 0; /* its twin that is not too large */
    ck_assert_msg(read_with(&automatic, huge), "%s", why.text);
    memset(huge, '[', 1000);
    memcpy(huge, "{\"a\":", 5);
    ck_assert(!read_with(&automatic, huge));
    ck_assert(!read_with(&o, NULL)); /* what nobody can mean is no default */
    ck_assert_ptr_nonnull(strstr(why.text, "temprature"));
    ck_assert(read_with(&automatic, "{\"temprature\": 1}")); /* the publisher may say more than we know */
}
END_TEST

static bool read_gguf(const char *key, uint32_t type, double value)
{
    struct gguf_made m = made_start();
    struct engine_files files = {0};
    if (type == ENGINE_GGUF_STRING)
        made_key_text(&m, key, "0.6");
    else if (type == ENGINE_GGUF_F32)
        made_key_f32(&m, key, (float)value);
    else {
        made_key(&m, key, type);
        made_u32(&m.keys, (uint32_t)(int32_t)value);
    }
    struct span made = made_finish(&m);
    add(&files, "m.gguf", made);
    free((void *)(uintptr_t)made.data);
    why = (struct engine_problem){0};
    bool ok = engine_defaults_read(&d, &files, &automatic, &why);
    engine_files_release(&files);
    return ok;
}

START_TEST(gguf_keys_are_read)
{
    static const struct {
        const char *key;
        uint32_t type;
        double value;
    } refused[] = {
        {"general.sampling.temp", ENGINE_GGUF_F32, 2.5},  {"general.sampling.temp", ENGINE_GGUF_F32, (double)NAN},
        {"general.sampling.temp", ENGINE_GGUF_STRING, 0}, {"general.sampling.top_p", ENGINE_GGUF_F32, -0.5},
        {"general.sampling.min_p", ENGINE_GGUF_F32, 3},   {"general.sampling.penalty_repeat", ENGINE_GGUF_F32, 0},
        {"general.sampling.top_k", ENGINE_GGUF_F32, 20},  {"general.sampling.top_k", ENGINE_GGUF_I32, -2}};
    ck_assert_msg(read_gguf("general.sampling.temp", ENGINE_GGUF_F32, 0.6), "%s", why.text);
    ck_assert_double_eq(d.temperature, 0.6); /* as it was written, not the nearest float32 */
    ck_assert(isnan(d.top_p) && isnan(d.top_k));
    ck_assert(read_gguf("general.sampling.top_k", ENGINE_GGUF_I32, 64) && d.top_k == 64);
    ck_assert(read_gguf("general.sampling.top_p", ENGINE_GGUF_F32, 0.95) && d.top_p == 0.95);
    ck_assert(read_gguf("general.sampling.min_p", ENGINE_GGUF_F32, 0.05) && d.min_p == 0.05);
    ck_assert(read_gguf("general.sampling.penalty_repeat", ENGINE_GGUF_F32, 1.1) && d.repetition_penalty == 1.1);
    ck_assert(read_gguf("general.sampling.mirostat", ENGINE_GGUF_I32, 2) && isnan(d.temperature));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_msg(!read_gguf(refused[i].key, refused[i].type, refused[i].value), "%zu", i);
        ck_assert_msg(strstr(why.text, refused[i].key) && strstr(why.text, "--generation-config vllm"), "%s", why.text);
    }
}
END_TEST

START_TEST(a_request_keeps_what_it_says)
{
    static struct tunnel_request q;
    ck_assert(read_with(&automatic, "{\"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95, \"min_p\": 0.1, "
                                    "\"repetition_penalty\": 1.1, \"max_new_tokens\": 100}"));
    for (int round = 0; round < 2; round++) {
        if (round == 0)
            tunnel_request_defaults(&q);
        engine_defaults_settle(&d, &q);
        ck_assert(q.temperature == 0.6 && q.top_k == 20 && q.top_p == 0.95 && q.min_p == 0.1);
        ck_assert(q.repetition_penalty == 1.1 && !q.has_max_tokens && q.max_tokens == 100);
    }
    tunnel_request_defaults(&q);
    q.temperature = q.min_p = 0; /* greedy stays greedy */
    q.top_p = q.repetition_penalty = 1;
    q.top_k = 0;
    q.max_tokens = 7; /* a tighter bound by somebody else */
    engine_defaults_settle(&d, &q);
    ck_assert(q.temperature == 0 && q.top_k == 0 && q.top_p == 1 && q.min_p == 0 && q.repetition_penalty == 1);
    ck_assert_uint_eq(q.max_tokens, 7);
    ck_assert(read_with(&automatic, "{\"top_k\": -1}"));
    tunnel_request_defaults(&q);
    engine_defaults_settle(&d, &q);
    ck_assert(q.temperature == 1 && q.top_k == 0 && q.top_p == 1 && q.min_p == 0 && q.repetition_penalty == 1);
    ck_assert_uint_eq(q.max_tokens, 0);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, the_models_file_is_read);
    tcase_add_test(t, the_choice_of_source_holds);
    tcase_add_loop_test(t, a_hostile_file_is_refused_by_name, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(t, sizes_depths_and_strange_keys);
    tcase_add_test(t, gguf_keys_are_read);
    tcase_add_test(t, a_request_keeps_what_it_says);
}

RUN("engine_defaults", add_tests)
