#include "engine/prefix.h"

#include <sodium.h>

void prefix_secret_draw(struct prefix_secret *out)
{
    randombytes_buf(out->byte, sizeof out->byte);
}

/* `label` keeps roots and links apart. */
static void keyed_hash(struct blocks_key *out, const struct prefix_secret *secret, uint8_t label, struct span a,
                       struct span b)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, secret->byte, sizeof secret->byte, sizeof out->byte);
    crypto_generichash_update(&state, &label, 1);
    crypto_generichash_update(&state, a.data, a.len);
    crypto_generichash_update(&state, b.data, b.len);
    crypto_generichash_final(&state, out->byte, sizeof out->byte);
    sodium_memzero(&state, sizeof state);
}

void prefix_root(struct blocks_key *out, const struct prefix_secret *secret, struct span salt)
{
    keyed_hash(out, secret, 0, salt, span_of(NULL, 0));
}

void prefix_next(struct blocks_key *out, const struct prefix_secret *secret, const struct blocks_key *parent,
                 const int32_t *ids, size_t count)
{
    struct blocks_key from = *parent;
    keyed_hash(out, secret, 1, span_of(from.byte, sizeof from.byte), span_of(ids, count * sizeof *ids));
}
