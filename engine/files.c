/* files.c - a model's files, read whole into anonymous memory. */
#include "engine/files.h"

#include "engine/crew.h"
#include "engine/gguf.h"
#include "engine/safetensors.h"
#include "engine/shards.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LEN_MAX ((uint64_t)1 << 42)
#define READ_STEP ((size_t)4 << 20)
#define DONTNEED_LOCKED 24 /* MADV_DONTNEED_LOCKED of Linux 5.18; older headers lack it */

static size_t page_round(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (len + page - 1) / page * page;
}

static bool path_is_plain(const char *path)
{
    size_t len = strlen(path);
    return len > 0 && len <= ENGINE_FILES_PATH_MAX && path[0] != '/' && !strstr(path, "..");
}

/* Where `path` stands or would stand in the sorted table. */
static size_t place_of(const struct engine_files *files, const char *path)
{
    size_t low = 0, high = files->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(files->file[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct engine_file *engine_files_find(const struct engine_files *files, const char *path)
{
    size_t at = place_of(files, path);
    return at < files->count && strcmp(files->file[at].path, path) == 0 ? &files->file[at] : NULL;
}

uint8_t *engine_files_add(struct engine_files *files, const char *path, size_t len, struct engine_problem *why)
{
    if (!path_is_plain(path) || files->count >= ENGINE_FILES_MAX) {
        engine_problem_set(why, ENGINE_E_LIMIT, "a model's file has an impossible path, or there are more than %d",
                           ENGINE_FILES_MAX);
        return NULL;
    }
    if (engine_files_find(files, path)) {
        engine_problem_set(why, ENGINE_E_DUPLICATE, "file %s is there twice", path);
        return NULL;
    }
    struct engine_file *grown = realloc(files->file, (files->count + 1) * sizeof *grown);
    if (grown)
        files->file = grown;
    void *memory = len > FILE_LEN_MAX ? MAP_FAILED
                                      : mmap(NULL, page_round(len + 1), PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!grown || memory == MAP_FAILED) {
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory for the %zu bytes of %s", len, path);
        return NULL;
    }
    madvise(memory, page_round(len + 1), MADV_DONTDUMP);
    madvise(memory, page_round(len + 1),
            MADV_HUGEPAGE); /* fewer faults while it is read; parts still go back by page */
    size_t at = place_of(files, path);
    memmove(&files->file[at + 1], &files->file[at], (files->count - at) * sizeof *files->file);
    memset(&files->file[at], 0, sizeof files->file[at]);
    memcpy(files->file[at].path, path, strlen(path));
    files->file[at].bytes = span_of(memory, len);
    files->count++;
    return memory;
}

static bool read_at(int fd, uint8_t *to, size_t len, size_t at)
{
    while (len > 0) {
        ssize_t got = pread(fd, to, len, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        to += got, at += (size_t)got, len -= (size_t)got;
    }
    return true;
}

struct reading {
    int fd;
    uint8_t *to;
    size_t len;
};

static bool read_step(void *ctx, uint64_t i)
{
    const struct reading *r = ctx;
    size_t at = (size_t)i * READ_STEP, left = r->len - at;
    return read_at(r->fd, r->to + at, left < READ_STEP ? left : READ_STEP, at);
}

static bool read_all(int fd, uint8_t *to, size_t len)
{
    struct reading r = {fd, to, len};
    return engine_crew((len + READ_STEP - 1) / READ_STEP, read_step, NULL, &r);
}

/* --- what lies before the tensors' data -------------------------------------------------------------- */

#define HEAD_STEP ((size_t)1 << 20)

/* A GGUF file does not say how long its head is: read on until it parses, or is wrong for another reason. */
static bool read_gguf_head(int fd, uint8_t *to, size_t len)
{
    for (size_t have = 0, want = HEAD_STEP; have < len; want *= 4) {
        struct engine_problem why = {ENGINE_OK, ""};
        size_t n = want < len ? want : len;
        if (!read_at(fd, to + have, n - have, have))
            return false;
        have = n;
        engine_gguf_close(engine_gguf_parse(span_of(to, have), &why));
        if (why.code != ENGINE_E_TRUNCATED)
            return true;
    }
    return true;
}

static bool read_safetensors_head(int fd, uint8_t *to, size_t len)
{
    uint64_t head = 0;
    if (len < sizeof head)
        return read_at(fd, to, len, 0);
    if (!read_at(fd, to, sizeof head, 0))
        return false;
    memcpy(&head, to, sizeof head); /* we run on little-endian machines only */
    if (head > ENGINE_SAFETENSORS_HEADER_MAX || head > len - sizeof head)
        return true; /* its parser will say so */
    return read_at(fd, to + sizeof head, (size_t)head, sizeof head);
}

static bool is_weights(const char *name)
{
    size_t len = strlen(name), ending = strlen(".safetensors");
    return len > ending && strcmp(name + len - ending, ".safetensors") == 0;
}

static bool read_file(int fd, const char *name, uint8_t *to, size_t len, bool heads)
{
    size_t name_len = strlen(name), ending = strlen(".gguf");
    if (heads && is_weights(name))
        return read_safetensors_head(fd, to, len);
    if (heads && name_len > ending && strcmp(name + name_len - ending, ".gguf") == 0)
        return read_gguf_head(fd, to, len);
    return read_all(fd, to, len);
}

/* --- files and folders ------------------------------------------------------------------------------- */

static bool load_one(struct engine_files *files, int folder, const char *name, const char *path, bool heads,
                     struct engine_problem *why)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= 0;

    if (!ok) {
        engine_problem_set(why, ENGINE_E_IO, "cannot open %s: %s", name, fd < 0 ? strerror(errno) : "not a file");
    } else {
        uint8_t *memory = engine_files_add(files, path, (size_t)st.st_size, why);
        ok = memory && read_file(fd, path, memory, (size_t)st.st_size, heads);
        if (memory && !ok)
            engine_problem_set(why, ENGINE_E_IO, "cannot read all of %s", name);
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool is_model_file(const char *name)
{
    static const char *const endings[] = {".json", ".jinja", ".model", ".txt", ".gguf", ".safetensors"};
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t ending = strlen(endings[i]);
        if (len > ending && strcmp(name + len - ending, endings[i]) == 0)
            return name[0] != '.';
    }
    return false;
}

/* One walk over the folder: its .safetensors files that the index names (all, without one), or all other files. */
static bool load_entries(struct engine_files *files, DIR *folder, bool weights, bool heads, struct engine_problem *why)
{
    json_t *map = NULL;
    bool ok = !weights || engine_shards_index(files, &map, why);

    rewinddir(folder);
    for (struct dirent *entry; ok && (entry = readdir(folder));)
        if (is_model_file(entry->d_name) && entry->d_type != DT_DIR && is_weights(entry->d_name) == weights &&
            (!map || engine_shards_names(map, entry->d_name)))
            ok = load_one(files, dirfd(folder), entry->d_name, entry->d_name, heads, why);
    json_decref(map);
    return ok;
}

static bool load_folder(struct engine_files *files, const char *path, bool heads, struct engine_problem *why)
{
    DIR *folder = opendir(path);
    bool ok = folder != NULL;
    if (!ok)
        engine_problem_set(why, ENGINE_E_IO, "cannot open folder %s: %s", path, strerror(errno));
    ok = ok && load_entries(files, folder, false, heads, why) && load_entries(files, folder, true, heads, why);
    if (ok && faccessat(dirfd(folder), ENGINE_FILES_POOLING, F_OK, 0) == 0)
        ok = load_one(files, dirfd(folder), ENGINE_FILES_POOLING, ENGINE_FILES_POOLING, heads, why);
    if (folder)
        closedir(folder);
    if (ok && files->count == 0) {
        engine_problem_set(why, ENGINE_E_MISSING, "folder %s holds no model file", path);
        ok = false;
    }
    return ok;
}

/* A part of a split set stands for the whole set. */
static bool load_file(struct engine_files *files, const char *path, bool heads, struct engine_problem *why)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *sibling = malloc(strlen(path) + 1);
    int no, count;
    bool ok = sibling != NULL;

    if (!ok)
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory for a path");
    else if (!engine_shards_split_name(name, &no, &count))
        ok = load_one(files, AT_FDCWD, path, name, heads, why);
    else
        for (int i = 1; ok && i <= count; i++) {
            engine_shards_split_sibling(sibling, path, i);
            ok = load_one(files, AT_FDCWD, sibling, sibling + (name - path), heads, why);
        }
    free(sibling);
    return ok;
}

static bool load(struct engine_files *out, const char *path, bool heads, struct engine_problem *why)
{
    struct stat st;
    bool ok = stat(path, &st) == 0;

    *out = (struct engine_files){0, NULL};
    if (!ok)
        engine_problem_set(why, ENGINE_E_IO, "cannot open %s: %s", path, strerror(errno));
    else
        ok = S_ISDIR(st.st_mode) ? load_folder(out, path, heads, why) : load_file(out, path, heads, why);
    if (!ok)
        engine_files_release(out);
    return ok;
}

bool engine_files_load(struct engine_files *out, const char *path, struct engine_problem *why)
{
    return load(out, path, false, why);
}

bool engine_files_load_heads(struct engine_files *out, const char *path, struct engine_problem *why)
{
    return load(out, path, true, why);
}

void engine_files_discard(struct span part)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)part.data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)part.data + part.len) / page * page;
    if (end <= first || madvise((void *)first, end - first, MADV_DONTNEED) == 0)
        return;
    madvise((void *)first, end - first, DONTNEED_LOCKED); /* memory locked against swap refuses the plain form */
}

void engine_files_release(struct engine_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        munmap((void *)(uintptr_t)files->file[i].bytes.data, page_round(files->file[i].bytes.len + 1));
    free(files->file);
    *files = (struct engine_files){0, NULL};
}
