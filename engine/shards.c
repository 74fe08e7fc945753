/* shards.c - names and order of a model's parts. */
#include "engine/shards.h"

#include <stdio.h>

#define SPLIT_LEN 20 /* of "-00001-of-00002.gguf" */
#define SPLIT_DIGITS 5
#define INDEX_LEN_MAX ((size_t)64 << 20)

static bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

static bool digits(const char *from, int *out)
{
    *out = 0;
    for (int i = 0; i < SPLIT_DIGITS; i++) {
        if (from[i] < '0' || from[i] > '9')
            return false;
        *out = *out * 10 + from[i] - '0';
    }
    return true;
}

bool engine_shards_split_name(const char *name, int *no, int *count)
{
    size_t len = strlen(name);
    if (len <= SPLIT_LEN || !ends_with(name, ".gguf"))
        return false;
    const char *tail = name + len - SPLIT_LEN;
    return tail[0] == '-' && digits(tail + 1, no) && memcmp(tail + 6, "-of-", 4) == 0 && digits(tail + 10, count) &&
           *no >= 1 && *no <= *count && *count <= ENGINE_FILES_MAX;
}

void engine_shards_split_sibling(char *to, const char *name, int no)
{
    size_t head = strlen(name) - SPLIT_LEN + 1; /* with the first '-' */
    char number[16];
    snprintf(number, sizeof number, "%05d", no);
    memcpy(to, name, strlen(name) + 1);
    memcpy(to + head, number, SPLIT_DIGITS);
}

int engine_shards_gguf(const struct engine_files *files, struct span part[ENGINE_FILES_MAX], struct engine_problem *why)
{
    char wanted[ENGINE_FILES_PATH_MAX + 1];
    const char *first = NULL;
    int found = 0, no, count;

    for (size_t i = 0; i < files->count; i++)
        if (ends_with(files->file[i].path, ".gguf")) {
            if (!first)
                first = files->file[i].path;
            part[found++] = files->file[i].bytes;
        }
    if (!first)
        return 0;
    if (!engine_shards_split_name(first, &no, &count)) {
        if (found > 1)
            engine_problem_set(why, ENGINE_E_UNSUPPORTED,
                               "%d .gguf files that are no split set; name the one to serve (%s?)", found, first);
        return found > 1 ? -1 : 1;
    }
    for (int i = 1; i <= count; i++) {
        engine_shards_split_sibling(wanted, first, i);
        const struct engine_file *file = engine_files_find(files, wanted);
        if (!file) {
            engine_problem_set(why, ENGINE_E_MISSING, "part %d of %d is missing: %s", i, count, wanted);
            return -1;
        }
        part[i - 1] = file->bytes;
    }
    if (found != count) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "%d .gguf files beside the %d parts of the split set of %s",
                           found - count, count, first);
        return -1;
    }
    return count;
}

bool engine_shards_open(const struct engine_files *files, struct engine_gguf **out, struct engine_problem *why)
{
    struct span part[ENGINE_FILES_MAX];
    int parts = engine_shards_gguf(files, part, why);

    *out = parts > 0 ? engine_gguf_parse_parts(part, (size_t)parts, why) : NULL;
    return parts == 0 || *out;
}

bool engine_shards_index(const struct engine_files *files, json_t **map, struct engine_problem *why)
{
    const struct engine_file *file = engine_files_find(files, ENGINE_SHARDS_INDEX);
    const char *tensor;
    const json_t *name;

    *map = NULL;
    if (!file)
        return true;
    json_t *top = file->bytes.len <= INDEX_LEN_MAX
                      ? json_loadb((const char *)file->bytes.data, file->bytes.len, JSON_REJECT_DUPLICATES, NULL)
                      : NULL;
    *map = json_incref(json_object_get(top, "weight_map"));
    json_decref(top);
    if (!json_is_object(*map))
        engine_problem_set(why, ENGINE_E_FORMAT, "%s has no object \"weight_map\"", ENGINE_SHARDS_INDEX);
    bool ok = json_is_object(*map);
    json_object_foreach(*map, tensor, name)
    {
        if (ok && (!json_is_string(name) || !ends_with(json_string_value(name), ".safetensors"))) {
            engine_problem_set(why, ENGINE_E_FORMAT, "%s: tensor %.80s is in no .safetensors file", ENGINE_SHARDS_INDEX,
                               tensor);
            ok = false;
        }
    }
    if (!ok) {
        json_decref(*map);
        *map = NULL;
    }
    return ok;
}

bool engine_shards_names(const json_t *map, const char *file)
{
    const char *tensor;
    const json_t *name;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, name)
    {
        if (strcmp(json_string_value(name), file) == 0)
            return true;
    }
    return false;
}
