/* prefix.h - names for prompt prefixes: a chain of keyed 128-bit hashes over blocks of token ids.
 *
 * name(0) = H(secret, root ‖ ids of block 0), name(i) = H(secret, name(i-1) ‖ ids of block i), root = H(secret, salt).
 * H is BLAKE2b with a key drawn anew by every process, so nobody outside can aim for a collision and read another
 * tenant's keys and values; different salts never meet. Pure, apart from drawing the key. */
#ifndef ENGINE_PREFIX_H
#define ENGINE_PREFIX_H

#include "engine/blocks.h"

struct prefix_secret {
    uint8_t byte[32];
};

void prefix_secret_draw(struct prefix_secret *out);
/* The start of the chain of everybody with this salt. */
void prefix_root(struct blocks_key *out, const struct prefix_secret *secret, struct span salt);
/* The next name; `out` may be `parent`. */
void prefix_next(struct blocks_key *out, const struct prefix_secret *secret, const struct blocks_key *parent,
                 const int32_t *ids, size_t count);

#endif
