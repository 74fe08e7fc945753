/* grammar_vocab.h - the vocabulary of tiny_bpe() for tests of grammars: a fixture of each test. */
#ifndef TESTS_UNIT_GRAMMAR_VOCAB_H
#define TESTS_UNIT_GRAMMAR_VOCAB_H

#include "engine/grammar.h"
#include "engine/tokenizer.h"
#include "tunnel/json.h"
#include "unit/run.h"
#include "unit/tiny_vocab.h"

static struct tiny tiny;
static struct engine_tokenizer *tokenizer;
static struct engine_grammar_vocab *vocab;

static void setup(void)
{
    tunnel_json_wipe_memory(); /* as the engine does */
    tiny_bpe(&tiny);
    tokenizer = engine_tokenizer_open(&tiny.vocab, NULL);
    vocab = engine_grammar_vocab_open(tokenizer);
    ck_assert(vocab != NULL);
}

static void teardown(void)
{
    engine_grammar_vocab_close(vocab);
    engine_tokenizer_close(tokenizer);
}

#endif
