/* tokenizer_internal.h - the parts of a tokenizer, for engine/tokenizer*.c alone. */
#ifndef ENGINE_TOKENIZER_INTERNAL_H
#define ENGINE_TOKENIZER_INTERNAL_H

#include <stdatomic.h>

#include "engine/tokenizer.h"

#define TOKENIZER_SPACE "\xe2\x96\x81" /* U+2581, which stands for a space in SentencePiece-style pieces */
#define TOKENIZER_SPACE_LEN 3

/* Open addressing over ids, by the bytes of their text. */
struct text_slot {
    int32_t id;   /* -1 free */
    uint32_t tag; /* of the hash: other texts are told apart without a look at them */
};
struct text_index {
    struct text_slot *slots; /* owned */
    size_t mask;             /* size - 1, a power of two minus one */
};

/* Which two neighbours merge, into what, and how soon: open addressing by (left, right). */
struct pair {
    int32_t left, right; /* left is -1 in a free slot */
    int32_t result;
    uint32_t rank; /* lower merges first */
};

struct pair_index {
    struct pair *slots; /* owned */
    size_t mask, count;
};

struct special {
    struct span text;
    int32_t id;
    bool control;
};

struct engine_tokenizer {
    enum engine_vocab_family family;
    enum engine_pretokenizer pre;
    int32_t count, bos, eos, unknown;
    bool add_bos, add_eos, space_prefix, whole_first, compose, control_strips;
    uint8_t *arena;     /* owned: every byte that the spans below show */
    struct span *names; /* owned, [count]: pieces as stored */
    struct span *bytes; /* owned, [count]: what a piece adds to the output */
    uint8_t *types;     /* owned, [count] */
    uint8_t *ends;      /* owned, [count]: 1 ends a generation */
    atomic_uchar
        *whole;     /* owned, [count]: does the word that is this piece tokenize to it alone? 0 unknown, 1 yes, 2 no */
    size_t longest; /* bytes of the longest name or text */
    struct text_index by_name, by_text; /* all pieces by stored name; those that text is made of, by text as searched */
    struct pair_index pairs;
    int32_t byte_ids[256];      /* the piece that is this one byte, -1: none */
    struct special *special;    /* owned, sorted by text */
    size_t special_count;       /* matched in text, control or not */
    uint8_t special_first[256]; /* 1: some special token begins with this byte */
    uint8_t space_inside[128];  /* SPM: 1 when some piece holds this character and then a space */
    bool space_inside_other;    /* the same for any character that is not ASCII */
    struct span chat_template;
};

/* --- tokenizer_index.c --- */
bool text_index_init(struct text_index *index, size_t count);
/* The id with exactly this text, or -1. */
int32_t text_index_find(const struct text_index *index, const struct span *texts, struct span text);
/* The same in two halves, so that several look-ups wait for memory together: the hash, which also asks for the slot,
 * then the id. */
uint64_t text_index_start(const struct text_index *index, struct span text);
int32_t text_index_finish(const struct text_index *index, const struct span *texts, struct span text, uint64_t hash);
/* False when the text is there already. */
bool text_index_add(struct text_index *index, const struct span *texts, int32_t id);
bool pair_index_init(struct pair_index *index, size_t count);
/* Keeps the first of two equal pairs. Grows; false when memory is short. */
bool pair_index_add(struct pair_index *index, struct pair pair);
/* NULL: the two do not merge. */
const struct pair *pair_index_find(const struct pair_index *index, int32_t left, int32_t right);

/* --- tokenizer_merge.c --- */
/* Append the ids of one word: `word` is a pre-token (BPE: raw bytes, SPM: spaces escaped), never empty. */
enum engine_err tokenizer_word(const struct engine_tokenizer *t, struct span word, struct engine_tokens *out);

/* --- tokenizer.c --- */
enum engine_err engine_tokens_add(struct engine_tokens *tokens, int32_t id);

#endif
