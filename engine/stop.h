/* stop.h - token bytes to text that may be sent: whole characters only, nothing that may yet turn into a stop string.
 *
 * Ids come in with their bytes; text comes out as far as it is certain. A character split over tokens is held back,
 * ill-formed bytes become U+FFFD, and so does what is left incomplete at the end. When a stop string appears, the text
 * ends before it (or after it, when it is to be included), wherever token boundaries lie. Released text is always
 * well-formed UTF-8. Each token's log-probabilities can follow its text: stop_released() counts tokens whose text is
 * out. Pure; buffers are wiped. */
#ifndef ENGINE_STOP_H
#define ENGINE_STOP_H

#include "verifier/base/writer.h"

#define STOP_STRINGS_MAX 64
#define STOP_STRING_MAX 4096 /* bytes */

struct stop {
    struct span string[STOP_STRINGS_MAX]; /* borrowed */
    size_t count, longest;
    bool include;
    struct writer text; /* well-formed text not yet released, from `base` on */
    struct writer tail; /* bytes of an unfinished character */
    uint64_t base;      /* bytes released before */
    size_t ready;       /* bytes of `text` that are certain */
    bool hit;           /* a stop string appeared: `text` ends where the answer ends */
    bool deaf;       /* stop strings that end in what is fed now do not count: too early (min_tokens); the caller's */
    uint64_t heard;  /* only stop strings that end behind this byte count */
    bool skip_space; /* drop one space at the very beginning */
    uint64_t *end;   /* owned ring: where the text of each token ends that is not yet released */
    size_t end_first, end_count, end_cap;
    uint64_t forgotten; /* where the text of the last token ends that was dealt with */
};

/* `strings` are borrowed as long as `s`; empty and ill-formed ones are ignored: no text holds them. `skip_space`:
 * engine_tokenizer_leading_space(). */
void stop_init(struct stop *s, const struct span *strings, size_t count, bool include, bool skip_space);
void stop_release(struct stop *s);

/* The next token's bytes (maybe none). True when a stop string has appeared: nothing more may be fed. Also true, with
 * the text so far, when memory is short. */
bool stop_feed(struct stop *s, struct span bytes);
/* No more tokens: everything that is held back becomes certain. */
void stop_finish(struct stop *s);

/* Certain text, at most `most` bytes and whole characters; borrowed until the next call. */
struct span stop_text(const struct stop *s, size_t most);
/* That text was sent. */
void stop_sent(struct stop *s, size_t len);
/* How many of the oldest tokens not yet counted have all their text within what was sent, including `more` bytes that
 * are about to be. Of a token that a stop string cuts that is the part before it; behind it no token is released. */
size_t stop_released(const struct stop *s, size_t more);
/* Those `count` tokens are dealt with. */
void stop_forget(struct stop *s, size_t count);

#endif
