/* tokenizer_split.h - where byte-level BPE cuts a text before merging: the models' own regular expressions,
 * written out as scanners. Unicode classes come from libutf8proc. Pure. */
#ifndef ENGINE_TOKENIZER_SPLIT_H
#define ENGINE_TOKENIZER_SPLIT_H

#include "engine/tokenizer.h"

/* Length of the pre-token at the beginning of `text`, which is well-formed UTF-8 and not empty; at least one character.
 */
size_t tokenizer_split(enum engine_pretokenizer pre, struct span text);
/* White_Space of the Unicode character database. */
bool tokenizer_is_space(int32_t c);
/* The character at `text.data[at]` and its length in `*len`; -1 and 0 at the end of the text. Well-formed text only. */
int32_t tokenizer_char(struct span text, size_t at, size_t *len);

#endif
