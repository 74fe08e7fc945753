/* Target functions: engine_grammar_compile engine_grammar_compile_tools engine_grammar_types engine_grammar_advance
 * engine_grammar_mask engine_grammar_forced */
#include <assert.h>

#include "engine/grammar.h"
#include "unit/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A call of one function whose parameters are `text`; NULL when that is no JSON. `kind`: form, strict, several. */
static struct engine_grammar *compile_call(unsigned kind, struct span text, const struct engine_grammar_vocab *v,
                                           struct engine_problem *why)
{
    json_t *parameters = json_loadb((const char *)text.data, text.len, JSON_DECODE_ANY, NULL);
    json_t *tools = json_pack("[{s:{s:s,s:b,s:o}}]", "function", "name", "f", "strict", (kind & 16) != 0, "parameters",
                              parameters ? parameters : json_null());
    struct engine_grammar *g =
        engine_grammar_compile_tools(tools, span_str(""), (enum engine_grammar_calls)(kind % 3), kind & 32, v, why);
    const char *key;
    json_t *property;
    int looks = ENGINE_TYPES_LOOKS;
    json_object_foreach(json_object_get(parameters, "properties"), key, property)
        assert(engine_grammar_types(parameters, property, &looks) < 128);
    json_decref(tools);
    return g;
}

/* First byte: the kind. The rest up to a NUL is the grammar, after it come tokens. A mask allows exactly what advances.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tiny tiny;
    static struct engine_tokenizer *t;
    static struct engine_grammar_vocab *v;
    if (!t) {
        tiny_bpe(&tiny);
        t = engine_tokenizer_open(&tiny.vocab, NULL);
        v = engine_grammar_vocab_open(t);
    }
    if (size < 2)
        return 0;
    const uint8_t *end = memchr(data + 1, 0, size - 1);
    size_t len = end ? (size_t)(end - data) - 1 : size - 1;
    struct engine_problem why = {0};
    struct engine_grammar *g = data[0] & 128 ? compile_call(data[0], span_of(data + 1, len), v, &why)
                                             : engine_grammar_compile((enum engine_grammar_kind)(data[0] % 5),
                                                                      span_of(data + 1, len), v, &why);
    assert((g == NULL) == (why.code != ENGINE_OK));
    if (!g)
        return 0;
    engine_grammar_state s = engine_grammar_start(g);
    for (size_t i = len + 2; i < size && i < len + 34 && s >= 0; i++) {
        uint32_t words[TINY_MAX / 32 + 1];
        engine_grammar_mask(g, s, words);
        engine_grammar_state next = engine_grammar_advance(g, s, data[i]);
        assert((words[data[i] / 32] >> (data[i] % 32) & 1) == (next >= 0));
        s = next;
    }
    struct writer w = writer_with_max(256);
    engine_grammar_forced(g, s, &w);
    writer_release(&w);
    engine_grammar_close(g);
    return 0;
}
