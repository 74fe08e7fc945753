/* files.h - the files of one model in private memory.
 * A model is one .gguf file, or a Hugging Face folder (config.json, *.safetensors, tokenizer files). Whoever fills
 * the struct (the loader here, or the sealed artefact's) copies the bytes first: nothing is parsed from memory that
 * another process can still change. */
#ifndef ENGINE_FILES_H
#define ENGINE_FILES_H

#include "engine/problem.h"

#define ENGINE_FILES_MAX 1024                        /* files of one model */
#define ENGINE_FILES_PATH_MAX 255                    /* bytes of a path inside the model */
#define ENGINE_FILES_POOLING "1_Pooling/config.json" /* how Sentence Transformers make a vector */

struct engine_file {
    char path[ENGINE_FILES_PATH_MAX + 1]; /* inside the model, '/' between parts, e.g. "config.json" */
    struct span bytes;                    /* owned by the set; page-aligned, so that parts can be given back */
};

struct engine_files {
    size_t count;
    struct engine_file *file; /* owned, sorted by path */
};

/* Read a .gguf file (of a split set, NAME-00001-of-0000N.gguf: all its parts), or every regular file directly in a
 * folder whose name ends in .json, .jinja, .model, .txt, .gguf or .safetensors; of the last kind only those that
 * model.safetensors.index.json names, where there is one. Of folders inside it only ENGINE_FILES_POOLING. False and
 * `*why` when one cannot be read; `*out` is then empty. */
MUST_CHECK bool engine_files_load(struct engine_files *out, const char *path, struct engine_problem *why);
/* The same, but of .gguf and .safetensors files only what lies before the tensors' data, which reads as zeros. */
MUST_CHECK bool engine_files_load_heads(struct engine_files *out, const char *path, struct engine_problem *why);
/* Add a file of `len` zero bytes for the caller to fill: returns its memory, owned by the set; NULL and `*why` when
 * the path is bad or repeated, or memory is short. */
MUST_CHECK uint8_t *engine_files_add(struct engine_files *files, const char *path, size_t len,
                                     struct engine_problem *why);
/* The file with exactly this path, or NULL. Borrowed until engine_files_add() or engine_files_release(). */
const struct engine_file *engine_files_find(const struct engine_files *files, const char *path);
/* Give the memory of whole pages inside `part` (bytes of some file) back to the machine: they read as zeros after. */
void engine_files_discard(struct span part);
void engine_files_release(struct engine_files *files);

#endif
