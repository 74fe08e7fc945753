/* Does a model refuse files that do not fit its numbers, and calls that break its contract? Do long contexts, windows
 * and many sequences give a row the same bits however they are fed? Is a plan what the model then takes? */
#include <check.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/model_parts.h"
#include "engine/plan.h"
#include "unit/engine_gguf.h"
#include "unit/run.h"

enum { VOCAB = 40, EMBED = 32, HEADS = 2, DIM = 16, FFN = 48, CONTEXT = 1024 };

struct changes {
    const char *arch;
    int layers, window;
    const char *leave_out; /* a tensor */
    const char *reshape;   /* a tensor that gets one column more */
    const char *key;       /* a number that becomes `value` */
    uint32_t value;
};

static void put(struct gguf_made *m, const struct changes *c, int layer, const char *part, uint64_t cols, uint64_t rows,
                float middle)
{
    char name[64];
    if (layer < 0)
        snprintf(name, sizeof name, "%s.weight", part);
    else
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, part);
    if (c->leave_out && strcmp(name, c->leave_out) == 0)
        return;
    made_tensor(m, name, cols + (c->reshape && strcmp(name, c->reshape) == 0), rows, middle);
}

static void number(struct gguf_made *m, const struct changes *c, const char *part, uint32_t value)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", c->arch, part);
    made_key_u32(m, key, c->key && strcmp(c->key, part) == 0 ? c->value : value);
}

static void make_model(struct engine_files *files, const struct changes *c)
{
    struct gguf_made m = made_start();
    bool gemma = strcmp(c->arch, "gemma3") == 0;
    made_key_text(&m, "general.architecture", c->arch);
    number(&m, c, "block_count", (uint32_t)c->layers);
    number(&m, c, "embedding_length", EMBED);
    number(&m, c, "attention.head_count", HEADS);
    number(&m, c, "attention.head_count_kv", 1);
    number(&m, c, "feed_forward_length", FFN);
    number(&m, c, "context_length", CONTEXT);
    if (c->window)
        number(&m, c, "attention.sliding_window", (uint32_t)c->window);
    put(&m, c, -1, "token_embd", EMBED, VOCAB, 0);
    put(&m, c, -1, "output_norm", EMBED, 0, 1);
    for (int i = 0; i < c->layers; i++) {
        put(&m, c, i, "attn_norm", EMBED, 0, 1);
        put(&m, c, i, "attn_q", EMBED, HEADS * DIM, 0);
        put(&m, c, i, "attn_k", EMBED, DIM, 0);
        put(&m, c, i, "attn_v", EMBED, DIM, 0);
        put(&m, c, i, "attn_output", HEADS * DIM, EMBED, 0);
        put(&m, c, i, "ffn_norm", EMBED, 0, 1);
        put(&m, c, i, "ffn_gate", EMBED, FFN, 0);
        put(&m, c, i, "ffn_up", EMBED, FFN, 0);
        put(&m, c, i, "ffn_down", FFN, EMBED, 0);
        if (gemma) {
            put(&m, c, i, "attn_q_norm", DIM, 0, 1);
            put(&m, c, i, "attn_k_norm", DIM, 0, 1);
            put(&m, c, i, "post_attention_norm", EMBED, 0, 1);
            put(&m, c, i, "post_ffw_norm", EMBED, 0, 1);
        }
    }
    struct span bytes = made_finish(&m);
    *files = (struct engine_files){0, NULL};
    uint8_t *to = engine_files_add(files, "model.gguf", bytes.len, NULL);
    ck_assert_ptr_nonnull(to);
    memcpy(to, bytes.data, bytes.len);
    free((void *)(uintptr_t)bytes.data);
}

static enum engine_err open_refused(const struct changes *c, const char *named)
{
    struct engine_files files;
    struct engine_problem why = {ENGINE_OK, ""};
    make_model(&files, c);
    ck_assert_ptr_null(engine_model_open(&files, false, NULL, &why));
    ck_assert_msg(strstr(why.text, named) != NULL, "\"%s\" does not name \"%s\"", why.text, named);
    engine_files_release(&files);
    return why.code;
}

START_TEST(unfit_files_are_refused_by_name)
{
    ck_assert_int_eq(open_refused(&(struct changes){.arch = "mamba", .layers = 1}, "mamba"), ENGINE_E_UNSUPPORTED);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 2, .leave_out = "blk.1.attn_k.weight"}, "attn_k"),
        ENGINE_E_MISSING);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 2, .leave_out = "output_norm.weight"}, "output_norm"),
        ENGINE_E_MISSING);
    ck_assert_int_eq(
        open_refused(
            &(struct changes){.arch = "gemma3", .layers = 1, .window = 8, .leave_out = "blk.0.attn_q_norm.weight"},
            "q_norm"),
        ENGINE_E_MISSING);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 1, .reshape = "blk.0.ffn_down.weight"}, "ffn_down"),
        ENGINE_E_SHAPE);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 1, .reshape = "blk.0.attn_norm.weight"}, "attn_norm"),
        ENGINE_E_SHAPE);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 1, .key = "attention.head_count", .value = 0},
                     "heads"),
        ENGINE_E_RANGE);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 1, .key = "block_count", .value = 100000}, "layers"),
        ENGINE_E_RANGE);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 1, .key = "embedding_length", .value = 0xffffffff},
                     "embedding_length"),
        ENGINE_E_RANGE);
    ck_assert_int_eq(
        open_refused(&(struct changes){.arch = "llama", .layers = 1, .key = "attention.head_count_kv", .value = 3},
                     "KV heads"),
        ENGINE_E_RANGE);
    ck_assert_int_eq(open_refused(&(struct changes){.arch = "gemma3", .layers = 1, .window = 0}, "window"),
                     ENGINE_E_RANGE);
}
END_TEST

struct fixture {
    struct engine_files files;
    struct engine_model *model;
    struct engine_kv *kv;
    int32_t table[3][CONTEXT / 16], tokens[CONTEXT];
};

static void fixture_open(struct fixture *f, const struct changes *c, int threads)
{
    static const int blocks[ENGINE_KV_GROUPS] = {3 * CONTEXT / 16, 3 * CONTEXT / 16};
    struct engine_model_options options = {.threads = threads, .step_tokens_max = CONTEXT};
    struct engine_problem why = {ENGINE_OK, ""};
    make_model(&f->files, c);
    f->model = engine_model_open(&f->files, true, &options, &why);
    ck_assert_msg(f->model != NULL, "%s", why.text);
    f->kv = engine_kv_open(f->model, 16, blocks, &why);
    ck_assert_ptr_nonnull(f->kv);
    for (int i = 0; i < CONTEXT; i++)
        f->tokens[i] = i * 17 % VOCAB;
    for (int s = 0; s < 3; s++)
        for (int i = 0; i < CONTEXT / 16; i++)
            f->table[s][i] = s + 3 * (s == 1 ? CONTEXT / 16 - 1 - i : i);
}

static void fixture_close(struct fixture *f)
{
    engine_kv_close(f->kv);
    engine_model_close(f->model);
    engine_files_release(&f->files);
}

static struct engine_step_seq whole(struct fixture *f)
{
    return (struct engine_step_seq){f->tokens, 20, 0, {f->table[0], f->table[0]}, ENGINE_LOGITS_LAST};
}

START_TEST(calls_that_break_the_contract_are_refused)
{
    struct fixture f;
    float logits[VOCAB];
    int32_t bad = VOCAB, negative = -1, far_block[2] = {0, 3 * CONTEXT / 16}, no_block[2] = {0, -1};
    fixture_open(&f, &(struct changes){.arch = "llama", .layers = 1}, 2);
    struct engine_step_seq good = whole(&f), s = good;
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &good, 1, logits), ENGINE_OK);
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &good, 0, logits), ENGINE_E_CALL);
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &good, 1, NULL), ENGINE_E_CALL);
    struct engine_step_seq faults[9];
    for (int i = 0; i < 9; i++)
        faults[i] = good;
    faults[0].count = 0;
    faults[1].pos = -1;
    faults[2].pos = CONTEXT - 19;
    faults[3].tokens = &bad, faults[3].count = 1;
    faults[4].tokens = &negative, faults[4].count = 1;
    faults[5].blocks[0] = NULL;
    faults[6].blocks[0] = far_block;
    faults[7].blocks[0] = no_block;
    faults[8].pos = INT32_MAX;
    for (int i = 0; i < 9; i++)
        ck_assert_msg(engine_model_step(f.model, f.kv, &faults[i], 1, logits) == ENGINE_E_CALL, "fault %d", i);
    struct engine_step_seq many[2] = {good, good};
    many[0].count = many[1].count = CONTEXT / 2 + 1;
    ck_assert_int_eq(engine_model_step(f.model, f.kv, many, 2, logits), ENGINE_E_CALL);
    s.blocks[1] = NULL; /* a group that the model lacks */
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &s, 1, logits), ENGINE_OK);
    fixture_close(&f);
}
END_TEST

/* The head of this model is its embeddings, stored as F32: its product with the states must be the logits. */
START_TEST(states_are_what_logits_are_made_from)
{
    struct engine_files files;
    struct engine_problem why = {ENGINE_OK, ""};
    float logits[3 * VOCAB], states[3 * EMBED], embed[VOCAB * EMBED];
    int32_t tokens[] = {3, 9, 27}, table[] = {0};
    make_model(&files, &(struct changes){.arch = "llama", .layers = 2});
    struct engine_gguf *gguf = engine_gguf_parse(files.file[0].bytes, &why);
    struct span weights = engine_gguf_tensor_find(gguf, "token_embd.weight")->data;
    ck_assert_uint_eq(weights.len, sizeof embed);
    memcpy(embed, weights.data, sizeof embed);
    engine_gguf_close(gguf);
    struct engine_model *m = engine_model_open(&files, false, &(struct engine_model_options){.exact = true}, &why);
    struct engine_kv *kv = engine_kv_open(m, 16, (const int[ENGINE_KV_GROUPS]){4, 0}, &why);
    ck_assert_msg(kv != NULL, "%s", why.text);
    struct engine_step_seq s = {tokens, 3, 0, {table, NULL}, ENGINE_LOGITS_ALL};
    ck_assert_int_eq(engine_model_step(m, kv, &s, 1, logits), ENGINE_OK);
    ck_assert_int_eq(engine_model_states(m, kv, &s, 1, states), ENGINE_OK);
    for (int t = 0; t < 3; t++)
        for (int v = 0; v < VOCAB; v++) {
            double sum = 0;
            for (int k = 0; k < EMBED; k++)
                sum += (double)states[t * EMBED + k] * (double)embed[v * EMBED + k];
            ck_assert_double_eq_tol((double)logits[t * VOCAB + v], sum, 1e-4);
        }
    s.logits = ENGINE_LOGITS_LAST;
    float last[EMBED];
    ck_assert_int_eq(engine_model_states(m, kv, &s, 1, last), ENGINE_OK);
    ck_assert_mem_eq(last, states + 2 * EMBED, sizeof last);
    ck_assert_int_eq(engine_model_states(m, kv, &s, 1, NULL), ENGINE_E_CALL);
    engine_kv_close(kv);
    engine_model_close(m);
    engine_files_release(&files);
}
END_TEST

/* The whole context in one step against single tokens in company, and blocks behind the window taken away. */
static void feed_both_ways(const struct changes *c)
{
    static float all[CONTEXT * VOCAB], row[3 * VOCAB];
    struct fixture f;
    for (int threads = 1; threads <= 3; threads += 2) {
        fixture_open(&f, c, threads);
        struct engine_step_seq s = {f.tokens, CONTEXT, 0, {f.table[0], f.table[0]}, ENGINE_LOGITS_ALL};
        ck_assert_int_eq(engine_model_step(f.model, f.kv, &s, 1, all), ENGINE_OK);
        int32_t behind[CONTEXT / 16];
        memcpy(behind, f.table[1], sizeof behind);
        struct engine_step_seq company[2] = {{f.tokens, 700, 0, {f.table[1], f.table[1]}, ENGINE_LOGITS_LAST},
                                             {f.tokens, 5, 0, {f.table[2], f.table[2]}, ENGINE_LOGITS_NONE}};
        ck_assert_int_eq(engine_model_step(f.model, f.kv, company, 2, row), ENGINE_OK);
        ck_assert(memcmp(row, all + 699 * VOCAB, VOCAB * sizeof *row) == 0);
        for (int pos = 700; pos < 780; pos++) {
            int gone = (pos - c->window + 1) / 16 - 1;
            if (c->window && gone >= 0) {
                engine_kv_zero(f.kv, ENGINE_KV_SLIDING, f.table[1][gone]);
                behind[gone] = -1;
            }
            company[0] = (struct engine_step_seq){
                f.tokens + pos, 1, pos, {f.table[1], c->window ? behind : f.table[1]}, ENGINE_LOGITS_LAST};
            company[1] = (struct engine_step_seq){
                f.tokens + pos - 695, 1, pos - 695, {f.table[2], f.table[2]}, ENGINE_LOGITS_LAST};
            ck_assert_int_eq(engine_model_step(f.model, f.kv, company, 2, row), ENGINE_OK);
            ck_assert_msg(memcmp(row, all + pos * VOCAB, VOCAB * sizeof *row) == 0, "position %d", pos);
            ck_assert(memcmp(row + VOCAB, all + (pos - 695) * VOCAB, VOCAB * sizeof *row) == 0);
        }
        fixture_close(&f);
    }
}

START_TEST(a_row_is_the_same_however_it_is_fed)
{
    feed_both_ways(&(struct changes){.arch = "llama", .layers = 2});
}
END_TEST

START_TEST(a_row_with_a_window_is_the_same_however_it_is_fed)
{
    feed_both_ways(&(struct changes){.arch = "gemma3", .layers = 7, .window = 100});
}
END_TEST

START_TEST(copied_blocks_continue_the_same)
{
    struct fixture f;
    float a[VOCAB], b[VOCAB];
    fixture_open(&f, &(struct changes){.arch = "llama", .layers = 2}, 1);
    struct engine_step_seq s = whole(&f), next = {f.tokens + 20, 1, 20, {f.table[0], NULL}, ENGINE_LOGITS_LAST};
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &s, 1, a), ENGINE_OK);
    for (int i = 0; i < 2; i++)
        engine_kv_copy(f.kv, 0, f.table[2][i], f.table[0][i]);
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &next, 1, a), ENGINE_OK);
    next.blocks[0] = f.table[2];
    ck_assert_int_eq(engine_model_step(f.model, f.kv, &next, 1, b), ENGINE_OK);
    ck_assert(memcmp(a, b, sizeof a) == 0);
    fixture_close(&f);
}
END_TEST

/* --- plans ------------------------------------------------------------------------------------------- */

static const struct changes planned[] = {{.arch = "llama", .layers = 2}, {.arch = "gemma3", .layers = 7, .window = 64}};

START_TEST(a_plan_is_what_the_model_takes)
{
    static const int blocks[ENGINE_KV_GROUPS] = {2, 2};
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++) {
        struct fixture f;
        struct engine_model_options options = {.threads = 1};
        struct engine_model_info plan;
        struct engine_problem why = {ENGINE_OK, ""};
        make_model(&f.files, &planned[i]);
        ck_assert_msg(engine_model_plan(&f.files, &options, &plan, &why), "%s", why.text);
        f.model = engine_model_open(&f.files, true, &options, &why);
        f.kv = engine_kv_open(f.model, 16, blocks, &why);
        ck_assert_ptr_nonnull(f.kv);
        const struct engine_model_info *real = engine_model_info(f.model);
        ck_assert_uint_gt(f.model->weights.taken, 0);
        ck_assert_uint_eq(plan.laid_out_bytes, f.model->weights.taken);
        ck_assert_uint_eq(plan.weight_bytes, real->weight_bytes);
        ck_assert_uint_eq(plan.elements, real->elements);
        ck_assert_int_eq(plan.window, real->window);
        for (int g = 0; g < ENGINE_KV_GROUPS; g++)
            ck_assert_uint_eq(16 * plan.kv_bytes_per_token[g], f.kv->block_bytes[g]);
        fixture_close(&f);
    }
}
END_TEST

START_TEST(devices_of_plans)
{
    static const char *const bad[] = {"", "h100", "24X", "G", "-3G", "24GG", "1", "24GiBs", "nan", "1e30"};
    struct plan_device d;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!plan_device_find(&d, bad[i]), "%s", bad[i]);
    ck_assert(plan_device_find(&d, "cpu") && !d.gpu && d.usable > 0 && d.usable < d.memory);
    ck_assert(plan_device_find(&d, "1.5GiB") && d.memory == (uint64_t)3 << 29);
    ck_assert(plan_device_find(&d, "h200-141") && d.gpu && d.memory == (uint64_t)143771 << 20);
    ck_assert(strstr(plan_device_names(), "b200-192") && strstr(plan_device_names(), "rtx5090-32"));
}
END_TEST

START_TEST(what_fits_is_exact)
{
    struct engine_files files;
    struct plan_device d = {"test", UINT64_MAX, 1 << 20, false};
    struct plan p;
    struct engine_problem why = {ENGINE_OK, ""};
    make_model(&files, &planned[1]);
    ck_assert_msg(plan_make(&p, &d, &files, &why), "%s", why.text);
    const size_t *kv = p.info.kv_bytes_per_token;
    /* One sequence of the whole context: six layers keep a window of four blocks and two more; beside it one chunk. */
    uint64_t one = CONTEXT * kv[ENGINE_KV_FULL] + 6 * 16 * kv[ENGINE_KV_SLIDING];
    d.usable = p.weights + 2048 * kv[ENGINE_KV_SLIDING] + one;
    ck_assert(plan_make(&p, &d, &files, &why) && p.fits == PLAN_FITS && p.at[0].kv == 0);
    d.usable--;
    ck_assert(plan_make(&p, &d, &files, &why) && p.fits == PLAN_TOO_LARGE);
    engine_files_release(&files);
}
END_TEST

static int plan_of(const char *path, const char *device)
{
    char *argv[] = {"plan", (char *)(uintptr_t)path, "--json", "--device", (char *)(uintptr_t)device, NULL};
    return plan_main(5, argv);
}

START_TEST(the_word_plan_reads_heads_and_says_so_by_its_exit)
{
    char path[] = "/tmp/engine_plan.XXXXXX.gguf";
    struct engine_files files, heads;
    make_model(&files, &planned[0]);
    int fd = mkstemps(path, 5);
    ck_assert(write(fd, files.file[0].bytes.data, files.file[0].bytes.len) == (ssize_t)files.file[0].bytes.len);
    ck_assert_int_eq(ftruncate(fd, 8 << 20), 0); /* more than is read at once */
    ck_assert_int_eq(plan_of(path, "24G"), PLAN_FITS);
    ck_assert_int_eq(plan_of(path, "300M"), PLAN_FITS);
    ck_assert_int_eq(plan_of(path, "1M"), PLAN_TOO_LARGE);
    ck_assert_int_eq(plan_of(path, "nothing"), PLAN_UNKNOWN);
    ck_assert(engine_files_load_heads(&heads, path, NULL));
    ck_assert_uint_eq(heads.file[0].bytes.len, 8 << 20);
    engine_files_release(&heads);
    ck_assert_int_eq(ftruncate(fd, 100), 0);
    ck_assert_int_eq(plan_of(path, "24G"), PLAN_UNKNOWN);
    close(fd);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(plan_of(path, "24G"), PLAN_UNKNOWN);
    engine_files_release(&files);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, unfit_files_are_refused_by_name);
    tcase_add_test(tests, calls_that_break_the_contract_are_refused);
    tcase_add_test(tests, a_row_is_the_same_however_it_is_fed);
    tcase_add_test(tests, a_row_with_a_window_is_the_same_however_it_is_fed);
    tcase_add_test(tests, copied_blocks_continue_the_same);
    tcase_add_test(tests, a_plan_is_what_the_model_takes);
    tcase_add_test(tests, devices_of_plans);
    tcase_add_test(tests, what_fits_is_exact);
    tcase_add_test(tests, the_word_plan_reads_heads_and_says_so_by_its_exit);
    tcase_add_test(tests, states_are_what_logits_are_made_from);
}

RUN("engine_model", add_tests)
