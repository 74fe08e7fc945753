/* artefact_chunk.h - what one chunk of a model is: its leaf, its place in the file's tree, its encryption. Helper of
 * artefact.c; the construction is described in artefact.h. Pure, safe from any thread. */
#ifndef ENGINE_ARTEFACT_CHUNK_H
#define ENGINE_ARTEFACT_CHUNK_H

#include "engine/artefact.h"

enum { ENGINE_ARTEFACT_TAG = 16 };

/* What all chunks of one file share. */
struct engine_artefact_place {
    const uint8_t *root;        /* of the artefact, 64 bytes */
    const uint8_t *content_key; /* 32 bytes */
    const char *path;
    uint32_t file;   /* index in the manifest */
    uint64_t chunks; /* of the file, at least 1 */
};

uint64_t engine_artefact_chunks(uint64_t size);
/* The bytes of chunk `index` of `file`. */
struct span engine_artefact_chunk(struct span file, uint64_t index);
MUST_CHECK bool engine_artefact_leaf(uint8_t out[64], struct span chunk);
/* Fold `count` leaves of 64 bytes, in place, to the tree's root. */
MUST_CHECK bool engine_artefact_fold(uint8_t *leaves, uint64_t count, uint8_t root[64]);
MUST_CHECK bool engine_artefact_expand(uint8_t out[32], struct span key, const char *label);

/* out has chunk.len + 16 bytes. */
MUST_CHECK bool engine_artefact_encrypt(const struct engine_artefact_place *at, uint64_t index, struct span chunk,
                                        uint8_t *out);
/* `out` has cipher.len bytes and may be `cipher` itself; nothing of it may be used when this returns false. */
MUST_CHECK bool engine_artefact_decrypt(const struct engine_artefact_place *at, uint64_t index, struct span cipher,
                                        const uint8_t tag[ENGINE_ARTEFACT_TAG], uint8_t *out);

#endif
