/* Target functions: engine_grammar_compile engine_grammar_advance engine_grammar_mask engine_grammar_forced */
#include <assert.h>

#include "engine/grammar.h"
#include "unit/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    struct engine_grammar *g =
        engine_grammar_compile((enum engine_grammar_kind)(data[0] % 5), span_of(data + 1, len), v, &why);
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
