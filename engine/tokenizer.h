/* tokenizer.h - text to token ids and back, for the vocabularies that models ship.
 *
 * Two families: SentencePiece-style (best-scored merge, byte fallback: Llama 2, Mistral, Phi-3, Gemma) and byte-level
 * BPE (ranked merges after a pre-tokenizer: GPT-2, Llama 3, Qwen 2/3, SmolLM2, GPT-OSS). Vocabularies come from GGUF
 * metadata or from tokenizer.json; every count is bounded and an inconsistent vocabulary is refused naming the key.
 *
 * A tokenizer is constant after it is opened: any number of threads may use one at the same time.
 * Text is a secret: scratch memory is wiped before it is freed, and no error text quotes it.
 * Ill-formed UTF-8 is never refused: each maximal ill-formed sequence (Unicode 15, section 3.9) is read as U+FFFD. */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include "engine/problem.h"
#include "verifier/base/span.h"

struct engine_files;
struct engine_gguf;
struct engine_tokenizer;

#define ENGINE_VOCAB_MAX (1u << 20)         /* pieces */
#define ENGINE_PIECE_MAX 1024u              /* bytes of one piece */
#define ENGINE_MERGES_MAX (1u << 21)        /* merges of byte-level BPE */
#define ENGINE_TOKENIZE_TEXT_MAX (8u << 20) /* bytes of one text */

/* What a piece is; the numbers are those of `tokenizer.ggml.token_type` (GGUF). */
enum engine_token_type {
    ENGINE_TOKEN_NORMAL = 1,
    ENGINE_TOKEN_UNKNOWN = 2,
    ENGINE_TOKEN_CONTROL = 3, /* special: matched in text only with ENGINE_TOKENIZE_SPECIAL, hidden from output */
    ENGINE_TOKEN_USER = 4,    /* added by the model's author: matched in text always */
    ENGINE_TOKEN_UNUSED = 5,
    ENGINE_TOKEN_BYTE = 6 /* <0xNN>, the fallback for one byte */
};

enum engine_vocab_family {
    ENGINE_VOCAB_SPM,        /* best-scored merge of adjacent pieces, byte fallback */
    ENGINE_VOCAB_SPM_RANKED, /* the same, but a list of ranked merges says what merges (Gemma 4) */
    ENGINE_VOCAB_BPE         /* bytes as printable characters, a pre-tokenizer, ranked merges */
};

enum engine_pretokenizer { /* how byte-level BPE cuts text first */
                           ENGINE_PRE_GPT2,
                           ENGINE_PRE_LLAMA3, /* also cl100k */
                           ENGINE_PRE_QWEN2,
                           ENGINE_PRE_DIGITS, /* single digits, then GPT-2: SmolLM2, Granite 3 */
                           ENGINE_PRE_O200K,  /* GPT-OSS */
                           ENGINE_PRE_TEKKEN  /* Mistral Nemo, Small 3 */
};

/* A vocabulary in neutral form. Everything is borrowed, and copied by engine_tokenizer_open(). */
struct engine_vocab {
    enum engine_vocab_family family;
    enum engine_pretokenizer pre; /* BPE only */
    size_t count;
    const struct span *pieces; /* as stored in the file; a piece's id is its index */
    const float *scores;       /* SPM only */
    const uint8_t *types;      /* enum engine_token_type */
    size_t merge_count;
    const struct span *merges; /* "left right", best first; not for SPM */
    int32_t bos, eos, unknown; /* -1: none */
    const int32_t *ends;       /* further ids that end a generation */
    size_t end_count;
    bool add_bos, add_eos;     /* what ENGINE_TOKENIZE_BOS does */
    bool space_prefix;         /* SPM: a space goes before the text, and after each special token */
    bool whole_first;          /* BPE: a pre-token that is a piece needs no merges (ignore_merges) */
    bool compose;              /* BPE: text goes to normal form C first (Qwen) */
    bool control_strips;       /* control tokens swallow the white space that follows them (Phi-3) */
    struct span chat_template; /* empty: none */
};

/* NULL when refused. Yours: engine_tokenizer_close() when nobody uses it any more. */
MUST_CHECK struct engine_tokenizer *engine_tokenizer_open(const struct engine_vocab *vocab, struct engine_problem *why);
/* From `tokenizer.ggml.*` keys. The result does not borrow from `gguf`. */
MUST_CHECK struct engine_tokenizer *engine_tokenizer_open_gguf(const struct engine_gguf *gguf,
                                                               struct engine_problem *why);
/* From the texts of Hugging Face's tokenizer.json and, each may be empty, tokenizer_config.json, generation_config.json
 * (end tokens) and chat_template.jinja (goes before the template of tokenizer_config.json). */
struct engine_tokenizer_texts {
    struct span tokenizer, config, generation, chat_template;
};
MUST_CHECK struct engine_tokenizer *engine_tokenizer_open_json(const struct engine_tokenizer_texts *texts,
                                                               struct engine_problem *why);
/* From a model's files: its one .gguf file, or the JSON files of a Hugging Face folder. */
MUST_CHECK struct engine_tokenizer *engine_tokenizer_open_files(const struct engine_files *files,
                                                                struct engine_problem *why);
void engine_tokenizer_close(struct engine_tokenizer *t); /* NULL is fine */

enum {
    ENGINE_TOKENIZE_BOS = 1,     /* add what the vocabulary adds around a text (BOS, rarely EOS) */
    ENGINE_TOKENIZE_SPECIAL = 2, /* parse special tokens in the text; never set it for what a user wrote alone */
};

/* Ids: a growing list born with its maximum. Zero but for `max` before the first use. */
struct engine_tokens {
    int32_t *ids; /* owned; engine_tokens_release() */
    size_t count, cap, max;
};
void engine_tokens_release(struct engine_tokens *tokens); /* wipes and frees; usable again */

/* Append the ids of `text` to `*out`. ENGINE_E_LIMIT when `out->max` ids do not suffice or the text is longer than
 * ENGINE_TOKENIZE_TEXT_MAX; then what was appended is undefined. A rendered chat template has its own BOS:
 * pass ENGINE_TOKENIZE_SPECIAL alone for it. */
MUST_CHECK enum engine_err engine_tokenizer_encode(const struct engine_tokenizer *t, struct span text, unsigned flags,
                                                   struct engine_tokens *out);

/* The bytes that `id` adds to the output: maybe half a character (the caller holds back, verifier/base/utf8.h).
 * Control tokens give their name when `special`, else nothing; ids outside the vocabulary give nothing. Borrowed from
 * `t`. The dummy space that SPM vocabularies put before a text is part of the first piece:
 * engine_tokenizer_leading_space(). */
struct span engine_tokenizer_piece(const struct engine_tokenizer *t, int32_t id, bool special);
/* Whether the decoding of a whole text (not of a continuation) drops one space from its beginning. */
bool engine_tokenizer_leading_space(const struct engine_tokenizer *t);

/* Does `id` end a generation? */
bool engine_tokenizer_is_end(const struct engine_tokenizer *t, int32_t id);
/* Is `id` a control token (or unknown, unused: nothing that text is made of)? */
bool engine_tokenizer_is_special(const struct engine_tokenizer *t, int32_t id);
/* The id whose stored piece is exactly `piece`, or -1. */
int32_t engine_tokenizer_find(const struct engine_tokenizer *t, struct span piece);

int32_t engine_tokenizer_count(const struct engine_tokenizer *t); /* ids are 0 .. count-1 */
int32_t engine_tokenizer_bos(const struct engine_tokenizer *t);   /* -1: none */
/* The stored names, for chat templates; empty when there is none. Borrowed from `t`. */
struct span engine_tokenizer_bos_text(const struct engine_tokenizer *t);
struct span engine_tokenizer_eos_text(const struct engine_tokenizer *t);
/* The chat template that came with the vocabulary; empty when none did. Borrowed from `t`. */
struct span engine_tokenizer_chat_template(const struct engine_tokenizer *t);

#endif
