/* Are models in several files read as one, and refused by name when a part is missing, strange or says otherwise? */
#include <check.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/model.h"
#include "engine/shards.h"
#include "unit/engine_gguf.h"
#include "unit/run.h"

START_TEST(names_of_parts)
{
    static const char *const others[] = {
        "model.gguf",           "-00001-of-00002.gguf",  "m-00000-of-00002.gguf", "m-00003-of-00002.gguf",
        "m-0001-of-00002.gguf", "m-00001_of-00002.gguf", "m-00001-of-99999.gguf", "m-00001-of-00002.safetensors"};
    int no, count;
    char sibling[64];
    ck_assert(engine_shards_split_name("a/m-00002-of-00012.gguf", &no, &count) && no == 2 && count == 12);
    engine_shards_split_sibling(sibling, "a/m-00002-of-00012.gguf", 11);
    ck_assert_str_eq(sibling, "a/m-00011-of-00012.gguf");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_msg(!engine_shards_split_name(others[i], &no, &count), "%s", others[i]);
}
END_TEST

/* A part with one tensor, and what it says of the set. A number below 0: the key is left out. */
static struct span part(int no, int count, int tensors, const char *tensor)
{
    struct gguf_made m = made_start();
    if (no == 0)
        made_key_text(&m, "general.architecture", "llama");
    if (no >= 0)
        made_key_u32(&m, "split.no", (uint32_t)no);
    if (count >= 0)
        made_key_u32(&m, "split.count", (uint32_t)count);
    if (tensors >= 0)
        made_key_u32(&m, "split.tensors.count", (uint32_t)tensors);
    made_tensor(&m, tensor, 8, 4, 0);
    return made_finish(&m);
}

static struct engine_gguf *join(struct span first, struct span second, struct engine_problem *why)
{
    struct span parts[] = {first, second};
    *why = (struct engine_problem){ENGINE_OK, ""};
    return engine_gguf_parse_parts(parts, 2, why);
}

START_TEST(parts_are_joined)
{
    struct engine_problem why;
    struct span first = part(0, 2, 2, "b"), second = part(1, 2, 2, "a"), text;
    struct engine_gguf *g = join(first, second, &why);
    ck_assert_msg(g != NULL, "%s", why.text);
    ck_assert_uint_eq(engine_gguf_tensor_count(g), 2);
    ck_assert(engine_gguf_tensor_find(g, "a") && engine_gguf_tensor_find(g, "b"));
    ck_assert(engine_gguf_str(g, "general.architecture", &text) && span_is(text, "llama"));
    const uint8_t *data = engine_gguf_tensor_find(g, "a")->data.data;
    ck_assert(data > second.data && data < second.data + second.len);
    engine_gguf_close(g);
    free((void *)(uintptr_t)first.data);
    free((void *)(uintptr_t)second.data);
}
END_TEST

START_TEST(parts_that_say_otherwise_are_refused)
{
    static const struct {
        int no, count, tensors;
        const char *tensor, *named;
        enum engine_err want;
    } seconds[] = {
        {0, 2, 2, "a", "split.no", ENGINE_E_RANGE},
        {-1, 2, 2, "a", "split.no", ENGINE_E_RANGE},
        {1, 3, 2, "a", "split.count", ENGINE_E_MISSING},
        {1, -1, 2, "a", "split.count", ENGINE_E_MISSING},
        {1, 2, 3, "a", "split.tensors.count", ENGINE_E_RANGE},
        {1, 2, -1, "a", "split.tensors.count", ENGINE_E_MISSING},
        {1, 2, 2, "b", "b", ENGINE_E_DUPLICATE},
    };
    struct engine_problem why;
    struct span first = part(0, 2, 2, "b");
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        struct span second = part(seconds[i].no, seconds[i].count, seconds[i].tensors, seconds[i].tensor);
        ck_assert_ptr_null(join(first, second, &why));
        ck_assert_msg(why.code == seconds[i].want && strstr(why.text, seconds[i].named), "%zu: %s", i, why.text);
        free((void *)(uintptr_t)second.data);
    }
    why = (struct engine_problem){ENGINE_OK, ""};
    ck_assert_ptr_null(engine_gguf_parse(first, &why)); /* a part by itself */
    ck_assert_int_eq(why.code, ENGINE_E_MISSING);
    free((void *)(uintptr_t)first.data);
    struct span few = part(0, 2, 3, "b"), last = part(1, 2, 3, "a");
    ck_assert_ptr_null(join(few, last, &why));
    ck_assert_int_eq(why.code, ENGINE_E_MISSING);
    free((void *)(uintptr_t)few.data);
    free((void *)(uintptr_t)last.data);
}
END_TEST

/* --- sets of files ---------------------------------------------------------------------------------- */

static void add(struct engine_files *files, const char *path, struct span bytes)
{
    uint8_t *to = engine_files_add(files, path, bytes.len, NULL);
    ck_assert_ptr_nonnull(to);
    memcpy(to, bytes.data, bytes.len);
}

static void add_text(struct engine_files *files, const char *path, const char *text)
{
    add(files, path, span_str(text));
}

/* A .safetensors file of the given JSON header and `data` zero bytes. */
static void add_safetensors(struct engine_files *files, const char *path, const char *header, size_t data)
{
    size_t len = strlen(header);
    uint8_t *to = engine_files_add(files, path, 8 + len + data, NULL);
    ck_assert_ptr_nonnull(to);
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(len >> 8 * i);
    memcpy(to + 8, header, len);
}

static enum engine_err refused(struct engine_files *files, const char *named)
{
    struct engine_problem why = {ENGINE_OK, ""};
    ck_assert_ptr_null(engine_model_open(files, false, NULL, &why));
    ck_assert_msg(strstr(why.text, named) != NULL, "\"%s\" does not name \"%s\"", why.text, named);
    engine_files_release(files);
    return why.code;
}

START_TEST(sets_of_gguf_files)
{
    struct engine_files files = {0, NULL};
    struct span bytes = part(0, 2, 2, "a");
    add(&files, "m-00001-of-00002.gguf", bytes);
    ck_assert_int_eq(refused(&files, "m-00002-of-00002.gguf"), ENGINE_E_MISSING);
    add(&files, "m-00001-of-00002.gguf", bytes);
    add(&files, "m-00002-of-00002.gguf", bytes);
    add(&files, "z.gguf", bytes);
    ck_assert_int_eq(refused(&files, "beside"), ENGINE_E_UNSUPPORTED);
    add(&files, "a.gguf", bytes);
    add(&files, "b.gguf", bytes);
    ck_assert_int_eq(refused(&files, "no split set"), ENGINE_E_UNSUPPORTED);
    free((void *)(uintptr_t)bytes.data);
}
END_TEST

START_TEST(any_part_stands_for_its_set)
{
    char folder[] = "/tmp/engine_shards.XXXXXX", path[80];
    struct engine_files files;
    struct engine_problem why = {ENGINE_OK, ""};
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (int i = 1; i <= 2; i++) {
        snprintf(path, sizeof path, "%s/m-%05d-of-00002.gguf", folder, i);
        FILE *f = fopen(path, "w");
        ck_assert(f && fputc('0' + i, f) >= 0 && fclose(f) == 0);
    }
    ck_assert_msg(engine_files_load(&files, path, &why), "%s", why.text);
    ck_assert_uint_eq(files.count, 2);
    ck_assert(span_is(engine_files_find(&files, "m-00001-of-00002.gguf")->bytes, "1"));
    engine_files_release(&files);
    ck_assert_int_eq(remove(path), 0);
    snprintf(path, sizeof path, "%s/m-00001-of-00002.gguf", folder);
    ck_assert(!engine_files_load(&files, path, &why));
    ck_assert_msg(strstr(why.text, "m-00002-of-00002.gguf") != NULL, "%s", why.text);
    ck_assert(remove(path) == 0 && rmdir(folder) == 0);
}
END_TEST

/* --- config.json and safetensors ---------------------------------------------------------------------- */

#define CONFIG(more)                                                                                                   \
    "{\"model_type\":\"llama\",\"hidden_size\":32,\"num_hidden_layers\":1,\"num_attention_heads\":2,"                  \
    "\"intermediate_size\":32,\"vocab_size\":8,\"max_position_embeddings\":64" more "}"
#define ONE(name) "{\"" name "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

START_TEST(the_index_is_held_to_its_word)
{
    struct engine_files files = {0, NULL};
    for (int i = 0; i < 4; i++) {
        add_text(&files, "config.json", CONFIG(""));
        add_safetensors(&files, "one.safetensors", ONE("a"), 8);
        add_safetensors(&files, "two.safetensors", i == 3 ? ONE("a") : ONE("b"), 8);
        if (i == 0)
            add_text(&files, ENGINE_SHARDS_INDEX,
                     "{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"three.safetensors\"}}");
        else if (i == 1)
            add_text(&files, ENGINE_SHARDS_INDEX,
                     "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}}");
        else if (i == 2)
            add_text(&files, ENGINE_SHARDS_INDEX, "{\"weight_map\":{\"a\":1}}");
        if (i == 0)
            ck_assert_int_eq(refused(&files, "three.safetensors"), ENGINE_E_MISSING);
        else if (i == 1)
            ck_assert_int_eq(refused(&files, "tensor b"), ENGINE_E_MISSING);
        else if (i == 2)
            ck_assert_int_eq(refused(&files, ENGINE_SHARDS_INDEX), ENGINE_E_FORMAT);
        else
            ck_assert_int_eq(refused(&files, "tensor a"), ENGINE_E_DUPLICATE);
    }
}
END_TEST

START_TEST(configs_that_we_do_not_run_are_refused_by_key)
{
    static const struct {
        const char *config, *named;
        enum engine_err want;
    } configs[] = {
        {CONFIG(",\"quantization_config\":{\"quant_method\":\"awq\"}"), "quantization_config", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"quantization_config\":{}"), "quantization_config", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"hidden_act\":\"relu\""), "hidden_act", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"mlp_bias\":true"), "mlp_bias", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"mlp_only_layers\":[0]"), "mlp_only_layers", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"decoder_sparse_step\":2"), "decoder_sparse_step", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"use_bidirectional_attention\":true"), "use_bidirectional_attention", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"layer_types\":[\"linear_attention\"]"), "layer_types", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"layer_types\":[]"), "layer_types", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"rope_scaling\":{\"rope_type\":\"dynamic\"}"), "rope_scaling", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"rope_scaling\":{\"rope_type\":\"yarn\",\"mscale\":1}"), "rope_scaling", ENGINE_E_UNSUPPORTED},
        {CONFIG(",\"rope_scaling\":{\"rope_type\":\"yarn\",\"beta_fast\":-1}"), "RoPE", ENGINE_E_RANGE},
        {CONFIG(",\"rope_local_base_freq\":0.5"), "RoPE", ENGINE_E_RANGE},
        {CONFIG(""), "output_norm", ENGINE_E_MISSING},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct engine_files files = {0, NULL};
        add_text(&files, "config.json", configs[i].config);
        add_safetensors(&files, "model.safetensors", ONE("a"), 8);
        ck_assert_msg(refused(&files, configs[i].named) == configs[i].want, "%s", configs[i].config);
    }
}
END_TEST

START_TEST(tensors_of_other_types_are_refused_by_name)
{
    struct engine_files files = {0, NULL};
    add_text(&files, "config.json", CONFIG(""));
    add_safetensors(&files, "model.safetensors",
                    "{\"model.norm.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[32],\"data_offsets\":[0,32]}}", 32);
    ck_assert_int_eq(refused(&files, "model.norm.weight"), ENGINE_E_UNSUPPORTED);
}
END_TEST

/* A GPT-OSS layer up to its first expert, whose blocks and scales do not fit each other. */
START_TEST(packed_experts_must_fit_their_scales)
{
    static const char *const kinds[] = {"[2,128,1,16]", "[2,127,1,16]", "[2,128,1,8]", "[1,128,2,16]"};
    for (int i = 0; i < 4; i++) {
        struct engine_files files = {0, NULL};
        struct writer w = writer_with_max(8192);
        static const char *const vectors[][2] = {{"model.norm.weight", "[64]"},
                                                 {"model.embed_tokens.weight", "[8,64]"},
                                                 {"L.input_layernorm.weight", "[64]"},
                                                 {"L.post_attention_layernorm.weight", "[64]"},
                                                 {"L.self_attn.q_proj.weight", "[64,64]"},
                                                 {"L.self_attn.k_proj.weight", "[64,64]"},
                                                 {"L.self_attn.v_proj.weight", "[64,64]"},
                                                 {"L.self_attn.o_proj.weight", "[64,64]"},
                                                 {"L.self_attn.sinks", "[2]"},
                                                 {"L.mlp.router.weight", "[2,64]"},
                                                 {"L.mlp.experts.gate_up_proj_blocks", NULL},
                                                 {"L.mlp.experts.gate_up_proj_scales", "[2,128,1]"}};
        size_t at = 0;
        for (size_t t = 0; t < sizeof vectors / sizeof *vectors; t++) {
            const char *shape = vectors[t][1] ? vectors[t][1] : kinds[i];
            bool bytes = strstr(vectors[t][0], "experts") != NULL;
            size_t n = 1;
            for (const char *s = shape; *s; s++)
                if (*s >= '0' && *s <= '9' && (s[-1] < '0' || s[-1] > '9'))
                    n *= strtoul(s, NULL, 10);
            char entry[256];
            bool layer = vectors[t][0][0] == 'L';
            snprintf(entry, sizeof entry, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                     t ? "," : "{", layer ? "model.layers.0" : "", vectors[t][0] + layer, bytes ? "U8" : "F32", shape,
                     at, at + n * (bytes ? 1 : 4));
            at += n * (bytes ? 1 : 4);
            writer_str(&w, entry);
        }
        writer_bytes(&w, span_of((const uint8_t *)"}\0", 2));
        add_text(&files, "config.json",
                 "{\"model_type\":\"gpt_oss\",\"hidden_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
                 "\"intermediate_size\":64,\"vocab_size\":8,\"max_position_embeddings\":64,\"num_local_experts\":2,"
                 "\"num_experts_per_tok\":1,\"sliding_window\":16}");
        add_safetensors(&files, "model.safetensors", (const char *)w.data, at);
        writer_release(&w);
        enum engine_err err = refused(&files, i == 0 ? "ffn_gate_exps.weight" : "gate_up_proj_blocks");
        ck_assert_int_eq(err, ENGINE_E_SHAPE); /* the first fits its scales, not the model's width */
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, names_of_parts);
    tcase_add_test(tests, parts_are_joined);
    tcase_add_test(tests, parts_that_say_otherwise_are_refused);
    tcase_add_test(tests, sets_of_gguf_files);
    tcase_add_test(tests, any_part_stands_for_its_set);
    tcase_add_test(tests, the_index_is_held_to_its_word);
    tcase_add_test(tests, configs_that_we_do_not_run_are_refused_by_key);
    tcase_add_test(tests, tensors_of_other_types_are_refused_by_name);
    tcase_add_test(tests, packed_experts_must_fit_their_scales);
}

RUN("engine_shards", add_tests)
