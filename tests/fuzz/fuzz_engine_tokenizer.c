/* Target functions: engine_tokenizer_encode engine_tokenizer_piece tokenizer_split */
#include <assert.h>
#include <stdlib.h>

#include "unit/tiny_vocab.h"
#include "verifier/base/utf8.h"
#include "verifier/base/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First byte: the vocabulary and the pre-tokenizer. Well-formed text comes back from its ids byte by byte. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tiny tiny;
    if (size < 1)
        return 0;
    if (data[0] & 0x80) {
        tiny_spm(&tiny, data[0] & 1);
    } else {
        tiny_bpe(&tiny);
        tiny.vocab.pre = (enum engine_pretokenizer)(data[0] % (ENGINE_PRE_TEKKEN + 1));
    }
    struct engine_problem why = {0};
    struct engine_tokenizer *t = engine_tokenizer_open(&tiny.vocab, &why);
    assert(t);
    struct span text = span_of(data + 1, size - 1);
    struct engine_tokens ids = {.max = 4 * size + 8};
    enum engine_err err = engine_tokenizer_encode(t, text, data[0] & 0x40 ? ENGINE_TOKENIZE_SPECIAL : 0, &ids);
    assert(err == ENGINE_OK);
    struct writer w = writer_with_max(16 * size + 64);
    for (size_t i = 0; i < ids.count; i++)
        writer_bytes(&w, engine_tokenizer_piece(t, ids.ids[i], true));
    if (utf8_is_valid(text) && !(data[0] & 0x80))
        assert(span_equal(writer_span(&w), text));
    else
        assert(utf8_is_valid(writer_span(&w)));
    writer_release(&w);
    engine_tokens_release(&ids);
    engine_tokenizer_close(t);
    return 0;
}
