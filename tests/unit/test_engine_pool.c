/* How a vector is made, as a model's folder says it: 1_Pooling/config.json and modules.json of Sentence Transformers.
 */
#include <stdio.h>

#include "engine/job.h"
#include "run.h"

enum { EMBED = 8 };

static void put(struct engine_files *files, const char *path, const char *text)
{
    struct engine_problem why = {0};
    uint8_t *at = engine_files_add(files, path, strlen(text), &why);
    ck_assert_msg(at != NULL, "%s", why.text);
    memcpy(at, text, strlen(text));
}

static bool pooling_of(const char *pooling, const char *modules, enum engine_pooling *out, struct engine_problem *why)
{
    static const struct engine_model_info info = {.arch = "llama", .embed = EMBED};
    struct engine_files files = {0};
    put(&files, "config.json", "{}");
    if (pooling)
        put(&files, ENGINE_FILES_POOLING, pooling);
    if (modules)
        put(&files, "modules.json", modules);
    bool ok = pool_of_files(out, &files, &info, why);
    engine_files_release(&files);
    return ok;
}

START_TEST(a_folder_says_how_it_is_pooled)
{
    static const struct {
        const char *text;
        enum engine_pooling want;
    } cases[] = {
        {NULL, ENGINE_POOLING_LAST},
        {"{\"word_embedding_dimension\": 8, \"pooling_mode_cls_token\": false, \"pooling_mode_mean_tokens\": true, "
         "\"pooling_mode_max_tokens\": false, \"include_prompt\": true}",
         ENGINE_POOLING_MEAN},
        {"{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false}", ENGINE_POOLING_CLS},
        {"{\"pooling_mode_lasttoken\": true}", ENGINE_POOLING_LAST},
        {"{\"pooling_mode\": \"cls\"}", ENGINE_POOLING_CLS},
        {"{\"pooling_mode\": \"mean\"}", ENGINE_POOLING_MEAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum engine_pooling got = ENGINE_POOLING_MODEL;
        struct engine_problem why = {0};
        ck_assert_msg(pooling_of(cases[i].text, NULL, &got, &why), "%s", why.text);
        ck_assert_int_eq(got, cases[i].want);
        got = ENGINE_POOLING_CLS; /* the flag's word goes before the folder's */
        ck_assert(pooling_of(cases[i].text, NULL, &got, &why));
        ck_assert_int_eq(got, ENGINE_POOLING_CLS);
    }
}
END_TEST

START_TEST(what_is_not_served_is_named)
{
    static const struct {
        const char *pooling, *modules, *named;
    } cases[] = {
        {"{\"pooling_mode_max_tokens\": true}", NULL, "pooling_mode_max_tokens"},
        {"{\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": true}", NULL, "beside another"},
        {"{\"pooling_mode_mean_tokens\": 1}", NULL, "pooling_mode_mean_tokens"},
        {"{\"pooling_mode\": \"weightedmean\"}", NULL, "weightedmean"},
        {"{\"pooling_mode_mean_tokens\": false}", NULL, "pooling_mode"},
        {"{\"word_embedding_dimension\": 9, \"pooling_mode_mean_tokens\": true}", NULL, "word_embedding_dimension"},
        {"[]", NULL, "word_embedding_dimension"},
        {"{", NULL, ENGINE_FILES_POOLING},
        {NULL, "[{\"type\": \"sentence_transformers.models.Transformer\"}, {\"type\": \"a.b.Dense\"}]", "Dense"},
        {NULL, "[{}]", "?"},
        {NULL, "{}", "modules.json"},
        {NULL, "nothing", "modules.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum engine_pooling got = ENGINE_POOLING_MODEL;
        struct engine_problem why = {0};
        ck_assert_msg(!pooling_of(cases[i].pooling, cases[i].modules, &got, &why), "case %zu", i);
        ck_assert_int_ne(why.code, ENGINE_OK);
        ck_assert_msg(strstr(why.text, cases[i].named) != NULL, "%s", why.text);
    }
    enum engine_pooling got = ENGINE_POOLING_MODEL;
    struct engine_problem why = {0};
    ck_assert(pooling_of("{\"pooling_mode_mean_tokens\": true}",
                         "[{\"type\": \"sentence_transformers.models.Transformer\"}, "
                         "{\"type\": \"sentence_transformers.models.Pooling\"}, "
                         "{\"type\": \"sentence_transformers.models.Normalize\"}]",
                         &got, &why));
    ck_assert_int_eq(got, ENGINE_POOLING_MEAN);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, a_folder_says_how_it_is_pooled);
    tcase_add_test(t, what_is_not_served_is_named);
}

RUN("engine_pool", add_tests)
