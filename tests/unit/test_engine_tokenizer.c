/* Do hand-made vocabularies merge as their rules say, are special tokens parsed only when asked, and are bad
 * vocabularies refused for the right reason? */
#include <check.h>

#include "engine/tokenizer.h"
#include "engine/tokenizer_split.h"
#include "unit/run.h"
#include "unit/tiny_vocab.h"
#include "verifier/base/writer.h"

static struct tiny tiny;

static struct engine_tokenizer *open_tiny(void)
{
    struct engine_problem why = {0};
    struct engine_tokenizer *t = engine_tokenizer_open(&tiny.vocab, &why);
    ck_assert_msg(t != NULL, "%s", why.text);
    return t;
}

static void check_ids(const struct engine_tokenizer *t, struct span text, unsigned flags, const char *want)
{
    struct engine_tokens ids = {.max = 4096};
    struct writer w = writer_with_max(65536);
    ck_assert_int_eq(engine_tokenizer_encode(t, text, flags, &ids), ENGINE_OK);
    for (size_t i = 0; i < ids.count; i++)
        writer_printf(&w, i ? " %d" : "%d", (int)ids.ids[i]);
    writer_u8(&w, 0);
    ck_assert_str_eq((const char *)writer_span(&w).data, want);
    writer_release(&w);
    engine_tokens_release(&ids);
}

static const struct {
    const char *text;
    unsigned flags;
    const char *ids;
} bpe[] = {
    {"hello", 0, "258 111"},
    {"hehe", 0, "256 256"},
    {"lll", 0, "257 108"},                   /* the leftmost of two equal merges */
    {"a wb", 0, "97 259 98"},                /* a space belongs to the word after it */
    {"he<|e|>", 0, "256 60 124 101 124 62"}, /* what a user wrote is not a special token */
    {"he<|e|>", ENGINE_TOKENIZE_SPECIAL, "256 261"},
    {"h[u]e", 0, "104 262 101"},
    {"he", ENGINE_TOKENIZE_BOS, "260 256"},
    {"", 0, ""},
    {"\xc0\xaf", 0, "239 191 189 239 191 189"}, /* an overlong form is two U+FFFD, never a slash */
    {"\xf0\x9f\x98", 0, "239 191 189"},         /* a character that breaks off is one */
};

START_TEST(byte_level_bpe)
{
    tiny_bpe(&tiny);
    struct engine_tokenizer *t = open_tiny();
    check_ids(t, span_str(bpe[_i].text), bpe[_i].flags, bpe[_i].ids);
    engine_tokenizer_close(t);
}
END_TEST

static const struct {
    const char *text;
    bool prefix;
    unsigned flags;
    const char *ids;
} spm[] = {
    {"ab", false, 0, "262"},
    {" ab", false, 0, "264"},
    {"ab", true, 0, "264"},
    {"c", false, 0, "102"}, /* byte fallback */
    {"\xc3\xa9", false, 0, "198 172"},
    {"a  b", false, 0, "259 265 260"},
    {"</s>a", false, ENGINE_TOKENIZE_SPECIAL, "2 259"},
    {"a</s>a", true, ENGINE_TOKENIZE_SPECIAL, "263 2 263"},
    {"a", false, ENGINE_TOKENIZE_BOS, "1 259"},
};

START_TEST(best_score_and_byte_fallback)
{
    tiny_spm(&tiny, spm[_i].prefix);
    struct engine_tokenizer *t = open_tiny();
    check_ids(t, span_str(spm[_i].text), spm[_i].flags, spm[_i].ids);
    engine_tokenizer_close(t);
}
END_TEST

START_TEST(pieces_are_bytes_and_control_is_hidden)
{
    tiny_bpe(&tiny);
    struct engine_tokenizer *t = open_tiny();
    ck_assert(span_is(engine_tokenizer_piece(t, 259, false), " w"));
    ck_assert(span_equal(engine_tokenizer_piece(t, 0, false), span_of("\0", 1)));
    ck_assert_uint_eq(engine_tokenizer_piece(t, 260, false).len, 0);
    ck_assert(span_is(engine_tokenizer_piece(t, 260, true), "<|s|>"));
    ck_assert_uint_eq(engine_tokenizer_piece(t, -1, true).len, 0);
    ck_assert_uint_eq(engine_tokenizer_piece(t, 263, true).len, 0);
    ck_assert(engine_tokenizer_is_end(t, 261) && !engine_tokenizer_is_end(t, 260) && !engine_tokenizer_is_end(t, 9999));
    ck_assert(engine_tokenizer_is_special(t, 260) && !engine_tokenizer_is_special(t, 262));
    ck_assert_int_eq(engine_tokenizer_find(t, span_str("hell")), 258);
    ck_assert_int_eq(engine_tokenizer_find(t, span_str("nothing")), -1);
    ck_assert(span_is(engine_tokenizer_bos_text(t), "<|s|>") && span_is(engine_tokenizer_eos_text(t), "<|e|>"));
    engine_tokenizer_close(t);
}
END_TEST

START_TEST(a_long_word_merges_like_a_short_one)
{
    tiny_bpe(&tiny);
    struct engine_tokenizer *t = open_tiny();
    static uint8_t text[200000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t) "hell"[i % 4];
    struct engine_tokens ids = {.max = sizeof text};
    ck_assert_int_eq(engine_tokenizer_encode(t, span_of(text, sizeof text), 0, &ids), ENGINE_OK);
    ck_assert_uint_eq(ids.count, sizeof text / 4);
    for (size_t i = 0; i < ids.count; i++)
        ck_assert_int_eq(ids.ids[i], 258);
    engine_tokens_release(&ids);
    engine_tokenizer_close(t);
}
END_TEST

START_TEST(limits_are_kept)
{
    tiny_bpe(&tiny);
    struct engine_tokenizer *t = open_tiny();
    struct engine_tokens ids = {.max = 2};
    ck_assert_int_eq(engine_tokenizer_encode(t, span_str("abc"), 0, &ids), ENGINE_E_LIMIT);
    engine_tokens_release(&ids);
    ck_assert_int_eq(engine_tokenizer_encode(t, span_of("", ENGINE_TOKENIZE_TEXT_MAX + 1), 0, &ids), ENGINE_E_LIMIT);
    engine_tokens_release(&ids);
    engine_tokenizer_close(t);
}
END_TEST

static void refuse(enum engine_err want)
{
    struct engine_problem why = {0};
    ck_assert_ptr_null(engine_tokenizer_open(&tiny.vocab, &why));
    ck_assert_msg(why.code == want, "%s: %s", engine_err_name(why.code), why.text);
}

START_TEST(bad_vocabularies_are_refused)
{
    tiny_bpe(&tiny);
    tiny.merges[2] = span_str("h x");
    refuse(ENGINE_E_MISMATCH);
    tiny_bpe(&tiny);
    tiny.merges[2] = span_str("hell");
    refuse(ENGINE_E_MISMATCH);
    tiny_bpe(&tiny);
    tiny.pieces[258] = span_str("he");
    refuse(ENGINE_E_DUPLICATE);
    tiny_bpe(&tiny);
    tiny.types[3] = 9;
    refuse(ENGINE_E_RANGE);
    tiny_bpe(&tiny);
    tiny.vocab.bos = 263;
    refuse(ENGINE_E_MISMATCH);
    tiny_bpe(&tiny);
    tiny.vocab.count = 0;
    refuse(ENGINE_E_LIMIT);
    tiny_spm(&tiny, false);
    tiny.pieces[5] = span_str("<0xZZ>");
    refuse(ENGINE_E_FORMAT);
    tiny_spm(&tiny, false);
    tiny.pieces[259] = span_str("\xff");
    refuse(ENGINE_E_RANGE);
}
END_TEST

static const struct {
    enum engine_pretokenizer pre;
    const char *text, *cut; /* the same with bars between the pre-tokens */
} splits[] = {
    {ENGINE_PRE_GPT2, "we'll go 123abc  !?\n\nx", "we|'ll| go| 123|abc| | !?|\n|\n|x"},
    {ENGINE_PRE_LLAMA3, "We'LL go 12345 a.b\n \n x", "We|'LL| go| |123|45| a|.b|\n \n| x"},
    {ENGINE_PRE_QWEN2, "12 (abc)!\n\n", "1|2| (|abc|)!\n\n"},
    {ENGINE_PRE_DIGITS, "a  12 b", "a|  |1|2| b"},
    {ENGINE_PRE_O200K, "HelloWorld's 1234 /usr/\n", "Hello|World's| |123|4| /|usr|/\n"},
    {ENGINE_PRE_TEKKEN, "HELLOworld's 12", "HELLOworld|'s| |1|2"},
    {ENGINE_PRE_O200K,
     "\xe4\xbd\xa0\xe5\xa5\xbd"
     "A",
     "\xe4\xbd\xa0\xe5\xa5\xbd|A"},
};

START_TEST(pre_tokenizers_cut_as_their_expressions_do)
{
    struct span text = span_str(splits[_i].text);
    struct writer w = writer_with_max(256);
    for (size_t at = 0, len; at < text.len; at += len) {
        len = tokenizer_split(splits[_i].pre, span_of(text.data + at, text.len - at));
        writer_str(&w, at ? "|" : "");
        writer_bytes(&w, span_of(text.data + at, len));
    }
    writer_u8(&w, 0);
    ck_assert_str_eq((const char *)writer_span(&w).data, splits[_i].cut);
    writer_release(&w);
}
END_TEST

static const char tokenizer_json[] =
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<|eot_id|>\",\"special\":true}],"
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"use_regex\":true}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"1\":2,\"ab\":3},"
    "\"merges\":[[\"a\",\"b\"]]}}";

/* `count` marks of class 232 after an "a", then as many of class 220, or the other way round. */
static void encode_marks(const struct engine_tokenizer *t, size_t count, bool ordered, struct engine_tokens *out)
{
    struct writer text = writer_with_max(4 * count + 8);
    writer_str(&text, "a");
    for (size_t i = 0; i < 2 * count; i++)
        writer_str(&text, (i < count) == ordered ? "\xcc\x96" : "\xcc\x95");
    ck_assert_int_eq(engine_tokenizer_encode(t, writer_span(&text), 0, out), ENGINE_OK);
    writer_release(&text);
}

/* A stranger's text: sorting its marks must not take a time that grows with the square of their number. */
START_TEST(marks_are_composed_in_their_order)
{
    static const size_t counts[] = {1, 3, 300000};
    tiny_bpe(&tiny);
    tiny.vocab.compose = true;
    struct engine_tokenizer *t = engine_tokenizer_open(&tiny.vocab, NULL);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct engine_tokens got = {.max = 1 << 22}, want = {.max = 1 << 22};
        encode_marks(t, counts[i], false, &got);
        encode_marks(t, counts[i], true, &want);
        ck_assert_uint_eq(got.count, 1 + 4 * counts[i]);
        ck_assert_uint_eq(want.count, got.count);
        ck_assert(memcmp(got.ids, want.ids, got.count * sizeof *got.ids) == 0);
        engine_tokens_release(&got);
        engine_tokens_release(&want);
    }
    struct engine_tokens ids = {.max = 8}; /* e, dot below, acute: the dot joins first, the acute stays */
    ck_assert_int_eq(engine_tokenizer_encode(t, span_str("e\xcc\x81\xcc\xa3"), 0, &ids), ENGINE_OK);
    static const int32_t composed[] = {0xe1, 0xba, 0xb9, 0xcc, 0x81};
    ck_assert_uint_eq(ids.count, 5);
    ck_assert(memcmp(ids.ids, composed, sizeof composed) == 0);
    engine_tokens_release(&ids);
    engine_tokenizer_close(t);
}
END_TEST

START_TEST(hugging_face_files)
{
    struct engine_problem why = {0};
    struct engine_tokenizer_texts texts = {
        .tokenizer = span_str(tokenizer_json),
        .config = span_str("{\"eos_token\":{\"content\":\"<|eot_id|>\"},\"chat_template\":\"hi\"}"),
        .generation = span_str("{\"eos_token_id\":[4,0]}"),
    };
    struct engine_tokenizer *t = engine_tokenizer_open_json(&texts, &why);
    ck_assert_msg(t != NULL, "%s", why.text);
    check_ids(t, span_str("ab11ba<|eot_id|>"), ENGINE_TOKENIZE_SPECIAL | ENGINE_TOKENIZE_BOS, "3 2 2 1 0 4");
    ck_assert(engine_tokenizer_is_end(t, 4) && engine_tokenizer_is_end(t, 0) && !engine_tokenizer_is_end(t, 1));
    ck_assert(span_is(engine_tokenizer_chat_template(t), "hi"));
    engine_tokenizer_close(t);
    texts.tokenizer = span_str("{\"model\":{\"type\":\"WordPiece\"}}");
    ck_assert_ptr_null(engine_tokenizer_open_json(&texts, &why));
    ck_assert_int_eq(why.code, ENGINE_E_UNSUPPORTED);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_loop_test(t, byte_level_bpe, 0, (int)(sizeof bpe / sizeof *bpe));
    tcase_add_loop_test(t, best_score_and_byte_fallback, 0, (int)(sizeof spm / sizeof *spm));
    tcase_add_test(t, pieces_are_bytes_and_control_is_hidden);
    tcase_add_test(t, a_long_word_merges_like_a_short_one);
    tcase_add_test(t, limits_are_kept);
    tcase_add_test(t, bad_vocabularies_are_refused);
    tcase_add_loop_test(t, pre_tokenizers_cut_as_their_expressions_do, 0, (int)(sizeof splits / sizeof *splits));
    tcase_add_test(t, marks_are_composed_in_their_order);
    tcase_add_test(t, hugging_face_files);
}

RUN("engine_tokenizer", add_tests)
