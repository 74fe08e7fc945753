/* artefact.h - a model's root, and the sealed form in which it may lie on a disk that nobody trusts.
 *
 * Artefact root: over the plaintext of every file, by path, so the plain folder and its sealed form have one root.
 *   chunk   = up to 1 MiB of a file, in order; an empty file has one empty chunk
 *   leaf    = H(0x00 || lp("airlock chunk v1") || lp(chunk))
 *   file    = RFC 9162 tree over the leaves, node = H(0x01 || left || right)
 *   root    = H(lp("airlock artefact v1") || u32 files || files in ascending byte order of path:
 *               lp(path) || u64 size || file tree root)
 * H is SHA-512; integers are big-endian. A single .gguf file is a folder of one file with its own base name.
 *
 * Sealed form: a folder with `manifest` (and `manifest.sig`, the owner's detached signatures, type artefact) and one
 * NNNN.sealed per file: its chunks, each AES-256-GCM ciphertext followed by the 16-byte tag.
 *   content key = HKDF-Expand(weight key, lp("airlock content v1"), 32)
 *   nonce       = u32 file index || u64 chunk index;  AAD = root || lp(path) || u64 chunk index || u8 last
 *   key id      = HKDF-Expand(weight key, lp("airlock key id v1"), 32)
 *   manifest    = {v, root, key_id, chunk, files [{path, size, root}]} in msgpack
 * Chunk leaves are not listed: tag and tree root cover them. A weight key seals one artefact and no second.
 * Plaintext exists only in the private memory of `struct engine_files`; sealing and opening need that much memory. */
#ifndef ENGINE_ARTEFACT_H
#define ENGINE_ARTEFACT_H

#include "engine/files.h"
#include "verifier/base/secret.h"
#include "verifier/base/writer.h"

enum { ENGINE_ARTEFACT_CHUNK = 1 << 20, ENGINE_ARTEFACT_MANIFEST_MAX = 248 << 10 };

struct engine_artefact_file {
    char path[ENGINE_FILES_PATH_MAX + 1];
    uint64_t size;
    uint8_t root[64];
};
struct engine_artefact {
    uint8_t root[64];
    uint8_t key_id[32]; /* zero for a plain model */
    bool sealed;
    size_t count;
    struct engine_artefact_file *file; /* owned, ascending path */
};
void engine_artefact_release(struct engine_artefact *a);

/* Called with bytes done and in all, at most once a chunk, on the calling thread. NULL is fine. */
typedef void engine_artefact_progress(void *ctx, uint64_t done, uint64_t total);

/* Is `path` a folder with a manifest? */
bool engine_artefact_is_sealed(const char *path);

/* A manifest's bytes, which must be exactly what engine_artefact_encode() writes, and whose root must follow from its
 * files. False: `*out` is empty. */
MUST_CHECK bool engine_artefact_parse(struct engine_artefact *out, struct span bytes);
void engine_artefact_encode(struct writer *w, const struct engine_artefact *in);

/* Read and check a sealed folder's manifest: its shape, and that its root follows from its files. */
MUST_CHECK bool engine_artefact_read(struct engine_artefact *out, const char *folder, struct engine_problem *why);

/* The root of files already in private memory. */
MUST_CHECK bool engine_artefact_root(const struct engine_files *files, uint8_t root[64]);

/* Open the sealed folder `folder` into private memory. `root` is the one that the owner's policy names (refused when
 * the manifest has another), `key` the 32-byte weight key. Every tag and every tree root is checked before this
 * returns true; on failure `*out` is empty and wiped. All CPUs. */
MUST_CHECK bool engine_artefact_open(struct engine_files *out, const char *folder, const uint8_t root[64],
                                     struct span key, engine_artefact_progress *progress, void *ctx,
                                     struct engine_problem *why);

/* Seal the model at `model` (a .gguf file or a folder) into the new folder `folder` under `key` (32 random bytes). */
MUST_CHECK bool engine_artefact_seal(struct engine_artefact *out, const char *model, const char *folder,
                                     struct span key, engine_artefact_progress *progress, void *ctx,
                                     struct engine_problem *why);

/* key id = HKDF-Expand(key, lp("airlock key id v1"), 32). False: `key` is not 32 bytes. */
MUST_CHECK bool engine_artefact_key_id(uint8_t out[32], struct span key);

#endif
