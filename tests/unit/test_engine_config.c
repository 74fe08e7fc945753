/* Do config.json files of each family give the numbers that their models are known for, and are bad ones refused? */
#include <check.h>
#include <math.h>
#include <stdio.h>

#include "engine/model_spec.h"
#include "unit/run.h"

static struct model_spec parsed(const char *json)
{
    struct model_spec s;
    struct engine_problem why = {ENGINE_OK, ""};
    ck_assert_msg(model_spec_from_config(&s, span_str(json), &why), "%s", why.text);
    return s;
}

START_TEST(llama_3_1_stretches_its_waves)
{
    struct model_spec s =
        parsed("{\"model_type\":\"llama\",\"hidden_size\":4096,\"num_hidden_layers\":32,"
               "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"intermediate_size\":14336,"
               "\"vocab_size\":128256,\"max_position_embeddings\":131072,\"rope_theta\":500000.0,"
               "\"eos_token_id\":[128001,128008],\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,"
               "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,"
               "\"rope_type\":\"llama3\"}}");
    double inverse[64];
    float magnitude;
    ck_assert(s.head_dim == 128 && s.kv_heads == 8 && s.eos == 128001 && s.scaling == MODEL_ROPE_LLAMA3);
    ck_assert(!s.sliding[0] && !s.pairs_adjacent && s.gate == KERN_GATE_SILU);
    model_rope(&s, false, NULL, inverse, &magnitude);
    ck_assert(inverse[0] == 1 && magnitude == 1);
    ck_assert_double_eq_tol(inverse[63], pow(500000, -126.0 / 128) / 8, 1e-15);
}
END_TEST

START_TEST(gemma_3_multimodal_leaves_out_its_defaults)
{
    struct model_spec s =
        parsed("{\"model_type\":\"gemma3\",\"eos_token_id\":[1,106],\"text_config\":{\"hidden_size\":2560,"
               "\"intermediate_size\":10240,\"model_type\":\"gemma3_text\",\"num_hidden_layers\":34,"
               "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},\"sliding_window\":1024}}");
    double full[128], sliding[128];
    float magnitude;
    ck_assert(s.heads == 8 && s.kv_heads == 4 && s.head_dim == 256 && s.vocab == 262208 && s.context == 131072);
    ck_assert(s.sliding[0] && s.sliding[4] && !s.sliding[5] && s.sliding[6] && !s.sliding[11]);
    ck_assert(s.norms_plus_one && s.gate == KERN_GATE_GELU && s.attention_scale == 1.0f / 16);
    model_rope(&s, false, NULL, full, &magnitude);
    model_rope(&s, true, NULL, sliding, &magnitude);
    ck_assert_double_eq_tol(full[0], 1.0 / 8, 1e-15);
    ck_assert_double_eq_tol(sliding[127], pow(1e4, -254.0 / 256), 1e-15);
}
END_TEST

START_TEST(others_keep_their_peculiarities)
{
    const char *base = "\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":4,\"intermediate_size\":32,"
                       "\"vocab_size\":8,\"max_position_embeddings\":64";
    char text[1200];
    snprintf(text, sizeof text, "{\"model_type\":\"mistral\",%s,\"sliding_window\":16}", base);
    ck_assert(parsed(text).sliding[3] && parsed(text).window == 16);
    snprintf(text, sizeof text, "{\"model_type\":\"mistral\",%s,\"sliding_window\":null,\"head_dim\":32}", base);
    ck_assert(!parsed(text).sliding[3] && parsed(text).head_dim == 32);
    snprintf(text, sizeof text,
             "{\"model_type\":\"qwen3_moe\",%s,\"num_experts\":8,\"num_experts_per_tok\":2,"
             "\"moe_intermediate_size\":16,\"norm_topk_prob\":false}",
             base);
    struct model_spec s = parsed(text);
    ck_assert(s.experts == 8 && s.experts_used == 2 && s.expert_ffn == 16 && !s.experts_normalized);
    snprintf(text, sizeof text, "{\"model_type\":\"gemma2\",%s,\"sliding_window\":8,\"query_pre_attn_scalar\":64}",
             base);
    s = parsed(text);
    ck_assert(s.attention_softcap == 50 && s.final_softcap == 30 && s.attention_scale == 0.125f && s.sliding[0] &&
              !s.sliding[1]);
    snprintf(text, sizeof text,
             "{\"model_type\":\"phi3\",%s,\"original_max_position_embeddings\":16,\"rope_scaling\":{"
             "\"type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,1],\"long_factor\":[1,2,3,4,5,6,7,8]}}",
             base);
    s = parsed(text);
    double inverse[8];
    float magnitude;
    model_rope(&s, false, s.long_factor[1], inverse, &magnitude);
    ck_assert_double_eq_tol((double)magnitude, sqrt(1 + log(4) / log(16)), 1e-6);
    ck_assert_double_eq_tol(inverse[7], pow(1e4, -14.0 / 16) / 8, 1e-12);
}
END_TEST

START_TEST(bad_texts_are_refused)
{
    static const struct {
        const char *json, *named;
        enum engine_err want;
    } bad[] = {
        {"", "JSON", ENGINE_E_FORMAT},
        {"[1]", "JSON", ENGINE_E_FORMAT},
        {"{\"model_type\":\"mamba\"}", "mamba", ENGINE_E_UNSUPPORTED},
        {"{\"model_type\":\"llama\"}", "num_hidden_layers", ENGINE_E_MISSING},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":\"many\"}", "num_hidden_layers", ENGINE_E_RANGE},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":1e9}", "num_hidden_layers", ENGINE_E_RANGE},
        {"{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":3,"
         "\"num_key_value_heads\":2,\"head_dim\":16,\"intermediate_size\":8,\"vocab_size\":8,"
         "\"max_position_embeddings\":8}",
         "multiple", ENGINE_E_SHAPE},
        {"{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
         "\"intermediate_size\":8,\"vocab_size\":8,\"max_position_embeddings\":8,\"rope_scaling\":{"
         "\"rope_type\":\"dynamic\"}}",
         "rope_scaling", ENGINE_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct model_spec s;
        struct engine_problem why = {ENGINE_OK, ""};
        ck_assert(!model_spec_from_config(&s, span_str(bad[i].json), &why));
        ck_assert_msg(why.code == bad[i].want && strstr(why.text, bad[i].named), "%zu: %s", i, why.text);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, llama_3_1_stretches_its_waves);
    tcase_add_test(tests, gemma_3_multimodal_leaves_out_its_defaults);
    tcase_add_test(tests, others_keep_their_peculiarities);
    tcase_add_test(tests, bad_texts_are_refused);
}

RUN("engine_config", add_tests)
