/* Does the GGUF index give back what a file says, and refuse, by name, everything that does not add up? */
#include <check.h>
#include <stdio.h>

#include "unit/engine_gguf.h"
#include "unit/run.h"

START_TEST(values_come_back_converted)
{
    struct gguf_made m = made_start();
    struct span text;
    int64_t i;
    uint64_t u;
    double f;
    bool b;
    made_key_text(&m, "text", "one\ntwo");
    made_key_u32(&m, "number", 4000000000u);
    made_key_f32(&m, "float", 0.5f);
    made_key(&m, "minus", ENGINE_GGUF_I8);
    writer_u8(&m.keys, 0xfe);
    made_key(&m, "flag", ENGINE_GGUF_BOOL);
    writer_u8(&m.keys, 1);
    made_key(&m, "flag.bad", ENGINE_GGUF_BOOL);
    writer_u8(&m.keys, 2);
    made_key(&m, "strings", ENGINE_GGUF_ARRAY);
    made_u32(&m.keys, ENGINE_GGUF_STRING);
    made_u64(&m.keys, 2);
    made_text(&m.keys, "a");
    made_text(&m.keys, "");
    made_tensor(&m, "t", 8, 3, 0);
    struct span bytes = made_finish(&m);
    struct engine_gguf *g = engine_gguf_parse(bytes, NULL);
    ck_assert_ptr_nonnull(g);
    ck_assert(engine_gguf_str(g, "text", &text) && span_is(text, "one\ntwo"));
    ck_assert(engine_gguf_u64(g, "number", &u) && u == 4000000000u);
    ck_assert(engine_gguf_i64(g, "number", &i) && i == 4000000000);
    ck_assert(engine_gguf_f64(g, "number", &f) && f == 4e9);
    ck_assert(engine_gguf_f64(g, "float", &f) && f == 0.5 && !engine_gguf_i64(g, "float", &i));
    ck_assert(engine_gguf_i64(g, "minus", &i) && i == -2 && !engine_gguf_u64(g, "minus", &u));
    ck_assert(engine_gguf_bool(g, "flag", &b) && b && !engine_gguf_bool(g, "flag.bad", &b));
    ck_assert(!engine_gguf_bool(g, "number", &b) && !engine_gguf_str(g, "strings", &text));
    const struct engine_gguf_value *v = engine_gguf_find(g, "strings");
    ck_assert(engine_gguf_at_str(v, 1, &text) && text.len == 0 && !engine_gguf_at_str(v, 2, &text));
    ck_assert_ptr_null(engine_gguf_find(g, "absent"));
    const struct engine_gguf_tensor *t = engine_gguf_tensor_find(g, "t");
    ck_assert(t && t->dims == 2 && t->dim[0] == 8 && t->dim[1] == 3 && t->dim[2] == 1 && t->data.len == 96);
    engine_gguf_close(g);
    free((void *)(uintptr_t)bytes.data);
}
END_TEST

static enum engine_err refused(struct gguf_made *m, const char *named)
{
    struct engine_problem why = {ENGINE_OK, ""};
    struct span bytes = made_finish(m);
    struct engine_gguf *g = engine_gguf_parse(bytes, &why);
    ck_assert_ptr_null(g);
    ck_assert_msg(strstr(why.text, named) != NULL, "\"%s\" does not name \"%s\"", why.text, named);
    free((void *)(uintptr_t)bytes.data);
    return why.code;
}

START_TEST(faults_are_refused_by_name)
{
    static const struct {
        const char *name;
        uint64_t cols, rows;
        uint32_t type;
        uint64_t offset;
        enum engine_err want;
    } faults[] = {
        {"t.unaligned", 8, 1, KERN_F32, 4, ENGINE_E_RANGE},
        {"t.beyond", 8, 1, KERN_F32, 1 << 20, ENGINE_E_OVERLAP},
        {"t.far", 8, 1, KERN_F32, UINT64_MAX - 31, ENGINE_E_OVERLAP},
        {"t.overlap", 8, 1, KERN_F32, 0, ENGINE_E_OVERLAP},
        {"t.huge", UINT64_MAX, 2, KERN_F32, 0, ENGINE_E_SHAPE},
        {"t.wraps", (uint64_t)1 << 33, (uint64_t)1 << 33, KERN_F32, 0, ENGINE_E_SHAPE},
        {"t.empty", 0, 3, KERN_F32, 0, ENGINE_E_SHAPE},
        {"t.block", 33, 1, KERN_Q8_0, 0, ENGINE_E_SHAPE},
        {"t.type", 32, 1, 99, 0, ENGINE_E_UNSUPPORTED},
        {"first", 8, 1, KERN_F32, 64, ENGINE_E_DUPLICATE},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct gguf_made m = made_start();
        made_tensor(&m, "first", 8, 4, 0);
        made_record(&m, faults[i].name, faults[i].cols, faults[i].rows, faults[i].type,
                    faults[i].want == ENGINE_E_DUPLICATE ? 128 : faults[i].offset);
        for (int k = 0; k < 32; k++)
            made_u32(&m.data, 0);
        ck_assert_int_eq(refused(&m, faults[i].name), faults[i].want);
    }
}
END_TEST

START_TEST(keys_that_lie_are_refused)
{
    struct gguf_made m = made_start();
    made_key_u32(&m, "twice", 1);
    made_key_u32(&m, "twice", 1);
    ck_assert_int_eq(refused(&m, "twice"), ENGINE_E_DUPLICATE);
    m = made_start();
    made_key(&m, "nested", ENGINE_GGUF_ARRAY);
    made_u32(&m.keys, ENGINE_GGUF_ARRAY);
    made_u64(&m.keys, 1);
    ck_assert_int_eq(refused(&m, "nested"), ENGINE_E_TYPE);
    m = made_start();
    made_key(&m, "odd", 13);
    ck_assert_int_eq(refused(&m, "odd"), ENGINE_E_TYPE);
    m = made_start();
    made_key(&m, "many", ENGINE_GGUF_ARRAY);
    made_u32(&m.keys, ENGINE_GGUF_U64);
    made_u64(&m.keys, (uint64_t)1 << 61);
    ck_assert_int_eq(refused(&m, "many"), ENGINE_E_TRUNCATED);
    m = made_start();
    made_key(&m, "strings", ENGINE_GGUF_ARRAY);
    made_u32(&m.keys, ENGINE_GGUF_STRING);
    made_u64(&m.keys, (uint64_t)1 << 60);
    ck_assert_int_eq(refused(&m, "strings"), ENGINE_E_TRUNCATED);
    m = made_start();
    made_key_u32(&m, "general.alignment", 48);
    ck_assert_int_eq(refused(&m, "general.alignment"), ENGINE_E_RANGE);
    m = made_start();
    m.key_count = ENGINE_GGUF_KEYS_MAX + 1;
    ck_assert_int_eq(refused(&m, "keys"), ENGINE_E_LIMIT);
}
END_TEST

START_TEST(every_cut_is_refused)
{
    struct gguf_made m = made_start();
    made_key_text(&m, "text", "value");
    made_tensor(&m, "t", 8, 2, 0);
    struct span bytes = made_finish(&m);
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *exact = malloc(len ? len : 1); /* so that a read beyond shows under a sanitizer */
        memcpy(exact, bytes.data, len);
        ck_assert_ptr_null(engine_gguf_parse(span_of(exact, len), NULL));
        free(exact);
    }
    free((void *)(uintptr_t)bytes.data);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, values_come_back_converted);
    tcase_add_test(tests, faults_are_refused_by_name);
    tcase_add_test(tests, keys_that_lie_are_refused);
    tcase_add_test(tests, every_cut_is_refused);
}

RUN("engine_gguf", add_tests)
