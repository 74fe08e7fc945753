/* shards.h - models that come as several files: split GGUF sets, named NAME-00001-of-0000N.gguf (gguf-split of
 * llama.cpp), and safetensors shards with their index (model.safetensors.index.json of Hugging Face). */
#ifndef ENGINE_SHARDS_H
#define ENGINE_SHARDS_H

#include "engine/files.h"
#include "engine/gguf.h"

#include <jansson.h>

#define ENGINE_SHARDS_INDEX "model.safetensors.index.json"

/* Does `name` end in -00001-of-0000N.gguf? Then which part it is, from 1, and of how many. */
bool engine_shards_split_name(const char *name, int *no, int *count);
/* The name of part `no` in the set that `name` belongs to: `to` has room for strlen(name) + 1. */
void engine_shards_split_sibling(char *to, const char *name, int no);

/* The bytes of the model's GGUF files in order: the only .gguf file, or a whole split set. How many; 0: there is none;
 * -1 and `*why`: several that are no one whole set. Borrowed from `files`. */
MUST_CHECK int engine_shards_gguf(const struct engine_files *files, struct span part[ENGINE_FILES_MAX],
                                  struct engine_problem *why);

/* Those parts, parsed: `*out` is yours to engine_gguf_close(), NULL when there is no .gguf file. False and `*why` when
 * they are refused. */
MUST_CHECK bool engine_shards_open(const struct engine_files *files, struct engine_gguf **out,
                                   struct engine_problem *why);

/* The index's map from tensor to file, in `*map` (a new reference, or NULL when there is no index). False and `*why`
 * when it cannot be read. */
MUST_CHECK bool engine_shards_index(const struct engine_files *files, json_t **map, struct engine_problem *why);
/* Does the map name `file`? */
bool engine_shards_names(const json_t *map, const char *file);

#endif
