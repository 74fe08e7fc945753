/* tiny_vocab.h - two vocabularies small enough to merge by hand: byte-level BPE and SentencePiece-style. */
#ifndef TESTS_UNIT_TINY_VOCAB_H
#define TESTS_UNIT_TINY_VOCAB_H

#include <stdio.h>

#include "engine/tokenizer.h"

#define TINY_MAX 300

struct tiny {
    struct engine_vocab vocab;
    struct span pieces[TINY_MAX], merges[16];
    float scores[TINY_MAX];
    uint8_t types[TINY_MAX];
    char text[TINY_MAX][16];
};

static inline int32_t tiny_add(struct tiny *t, const char *text, float score, enum engine_token_type type)
{
    size_t id = t->vocab.count++;
    snprintf(t->text[id], sizeof t->text[id], "%s", text);
    t->pieces[id] = span_str(t->text[id]);
    t->scores[id] = score;
    t->types[id] = (uint8_t)type;
    t->vocab.pieces = t->pieces;
    t->vocab.scores = t->scores;
    t->vocab.types = t->types;
    return (int32_t)id;
}

/* Ids 0-255: the bytes. Then "he" 256, "ll" 257, "hell" 258, " w" 259; <|s|> 260 and <|e|> 261 are control, [u] 262 is
 * user-defined. */
static inline void tiny_bpe(struct tiny *t)
{
    static const char *const merges[] = {"h e", "l l", "he ll", "\xc4\xa0 w"};
    *t = (struct tiny){.vocab = {.family = ENGINE_VOCAB_BPE, .pre = ENGINE_PRE_GPT2, .unknown = -1}};
    for (unsigned b = 0, other = 256; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        unsigned c = plain ? b : other++;
        char text[3] = {(char)c, 0, 0};
        if (c >= 128) {
            text[0] = (char)(0xc0 | c >> 6);
            text[1] = (char)(0x80 | (c & 0x3f));
        }
        tiny_add(t, text, 0, ENGINE_TOKEN_NORMAL);
    }
    tiny_add(t, "he", 0, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "ll", 0, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "hell", 0, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "\xc4\xa0w", 0, ENGINE_TOKEN_NORMAL);
    t->vocab.bos = tiny_add(t, "<|s|>", 0, ENGINE_TOKEN_CONTROL);
    t->vocab.eos = tiny_add(t, "<|e|>", 0, ENGINE_TOKEN_CONTROL);
    tiny_add(t, "[u]", 0, ENGINE_TOKEN_USER);
    for (size_t i = 0; i < 4; i++)
        t->merges[i] = span_str(merges[i]);
    t->vocab.merges = t->merges;
    t->vocab.merge_count = 4;
    t->vocab.add_bos = true;
}

/* 0 <unk>, 1 <s>, 2 </s>, 3-258 the bytes, then "a" 259, "b" 260, space 261, "ab" 262, space-a 263, space-ab 264, a run
 * of two spaces 265 (user-defined). */
static inline void tiny_spm(struct tiny *t, bool space_prefix)
{
    *t = (struct tiny){.vocab = {.family = ENGINE_VOCAB_SPM, .bos = 1, .eos = 2, .space_prefix = space_prefix}};
    tiny_add(t, "<unk>", 0, ENGINE_TOKEN_UNKNOWN);
    tiny_add(t, "<s>", 0, ENGINE_TOKEN_CONTROL);
    tiny_add(t, "</s>", 0, ENGINE_TOKEN_CONTROL);
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        tiny_add(t, text, 0, ENGINE_TOKEN_BYTE);
    }
    tiny_add(t, "a", -10, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "b", -11, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "\xe2\x96\x81", -12, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "ab", -3, ENGINE_TOKEN_NORMAL);
    tiny_add(t,
             "\xe2\x96\x81"
             "a",
             -1, ENGINE_TOKEN_NORMAL);
    tiny_add(t,
             "\xe2\x96\x81"
             "ab",
             -2, ENGINE_TOKEN_NORMAL);
    tiny_add(t, "  ", -5, ENGINE_TOKEN_USER);
    t->vocab.add_bos = true;
}

#endif
