/* artefact.c - artefact roots, the manifest, sealing and opening of whole models. */
#include "engine/artefact_chunk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/crew.h"
#include "verifier/base/reader.h"
#include "verifier/base/writer.h"
#include "verifier/types.h"

#define MANIFEST "manifest"
#define SEALED_SIZE_MAX (UINT64_C(1) << 42) /* of one file */

void engine_artefact_release(struct engine_artefact *a)
{
    free(a->file);
    *a = (struct engine_artefact){0};
}

bool engine_artefact_key_id(uint8_t out[32], struct span key)
{
    return engine_artefact_expand(out, key, "airlock key id v1");
}

/* --- roots ---------------------------------------------------------------------------------------- */

/* One file being hashed, and perhaps encrypted or decrypted, chunk by chunk. */
struct pass {
    struct engine_artefact_place at;
    struct span plain;    /* the file's plaintext: read, or (opening) being written */
    uint8_t *plain_out;   /* opening: the same bytes, writable */
    int fd;               /* of the sealed file, -1 when only hashing */
    uint8_t *leaves;      /* 64 bytes a chunk */
    uint64_t done, total; /* bytes of the whole model, for progress */
    uint64_t done_before;
    engine_artefact_progress *progress;
    void *progress_ctx;
};

static bool hash_chunk(void *ctx, uint64_t i)
{
    struct pass *p = ctx;
    return engine_artefact_leaf(p->leaves + 64 * i, engine_artefact_chunk(p->plain, i));
}

static void tick(void *ctx, uint64_t chunks)
{
    struct pass *p = ctx;
    uint64_t here = chunks * ENGINE_ARTEFACT_CHUNK;
    p->done = p->done_before + (here < p->plain.len ? here : p->plain.len);
    if (p->progress)
        p->progress(p->progress_ctx, p->done, p->total);
}

/* Run `work` over every chunk of the file in `*p`, then fold the leaves it left to `root`. */
static bool run_pass(struct pass *p, bool (*work)(void *ctx, uint64_t i), uint8_t root[64])
{
    p->at.chunks = engine_artefact_chunks(p->plain.len);
    p->leaves = malloc((size_t)p->at.chunks * 64);
    bool good =
        p->leaves && engine_crew(p->at.chunks, work, tick, p) && engine_artefact_fold(p->leaves, p->at.chunks, root);
    free(p->leaves);
    p->leaves = NULL;
    p->done_before += p->plain.len;
    return good;
}

/* The root that follows from the table of files. */
static bool root_of(const struct engine_artefact *a, uint8_t root[64])
{
    struct writer w = writer_with_max(64 + a->count * (4 + ENGINE_FILES_PATH_MAX + 8 + 64));
    writer_lp_str(&w, "airlock artefact v1");
    writer_u32be(&w, (uint32_t)a->count);
    for (size_t i = 0; i < a->count; i++) {
        writer_lp_str(&w, a->file[i].path);
        writer_u64be(&w, a->file[i].size);
        writer_bytes(&w, span_of(a->file[i].root, 64));
    }
    bool good = writer_ok(&w);
    verifier_sha512(root, writer_span(&w));
    writer_release(&w);
    return good;
}

/* Fill `out` with the files' table, hashing every byte. */
static bool describe(struct engine_artefact *out, const struct engine_files *files, struct pass *p)
{
    *out = (struct engine_artefact){0};
    out->file = calloc(files->count ? files->count : 1, sizeof *out->file);
    if (!out->file)
        return false;
    out->count = files->count;
    for (size_t i = 0; i < files->count; i++) {
        memcpy(out->file[i].path, files->file[i].path, sizeof out->file[i].path);
        out->file[i].size = files->file[i].bytes.len;
        p->plain = files->file[i].bytes;
        if (!run_pass(p, hash_chunk, out->file[i].root))
            return false;
    }
    return root_of(out, out->root);
}

bool engine_artefact_root(const struct engine_files *files, uint8_t root[64])
{
    struct engine_artefact a;
    struct pass p = {.fd = -1};
    bool good = files->count > 0 && describe(&a, files, &p);
    if (good)
        memcpy(root, a.root, 64);
    if (files->count > 0)
        engine_artefact_release(&a);
    return good;
}

/* --- the manifest --------------------------------------------------------------------------------- */

void engine_artefact_encode(struct writer *w, const struct engine_artefact *a)
{
    writer_map(w, 5);
    writer_key(w, "v");
    writer_uint(w, 1);
    writer_key(w, "root");
    writer_bin(w, span_of(a->root, 64));
    writer_key(w, "key_id");
    writer_bin(w, span_of(a->key_id, 32));
    writer_key(w, "chunk");
    writer_uint(w, ENGINE_ARTEFACT_CHUNK);
    writer_key(w, "files");
    writer_list(w, a->count);
    for (size_t i = 0; i < a->count; i++) {
        writer_map(w, 3);
        writer_key(w, "path");
        writer_text(w, span_str(a->file[i].path));
        writer_key(w, "size");
        writer_uint(w, a->file[i].size);
        writer_key(w, "root");
        writer_bin(w, span_of(a->file[i].root, 64));
    }
}

static void decode_file(struct reader *r, struct engine_artefact_file *f)
{
    reader_map(r, 3);
    reader_key(r, "path");
    struct span path = reader_text(r, 1, ENGINE_FILES_PATH_MAX);
    if (path.len)
        memcpy(f->path, path.data, path.len);
    f->path[path.len] = '\0';
    reader_key(r, "size");
    f->size = reader_uint(r, 0, SEALED_SIZE_MAX);
    reader_key(r, "root");
    reader_bin_copy(r, f->root, 64);
}

bool engine_artefact_parse(struct engine_artefact *out, struct span bytes)
{
    struct reader r = reader_over(bytes);
    uint8_t root[64];

    *out = (struct engine_artefact){0};
    reader_map(&r, 5);
    reader_key(&r, "v");
    reader_uint(&r, 1, 1);
    reader_key(&r, "root");
    reader_bin_copy(&r, out->root, 64);
    reader_key(&r, "key_id");
    reader_bin_copy(&r, out->key_id, 32);
    reader_key(&r, "chunk");
    reader_uint(&r, ENGINE_ARTEFACT_CHUNK, ENGINE_ARTEFACT_CHUNK);
    reader_key(&r, "files");
    size_t count = reader_list(&r, 1, ENGINE_FILES_MAX);
    out->file = calloc(count ? count : 1, sizeof *out->file);
    if (!out->file)
        return false;
    for (size_t i = 0; i < count; i++) {
        decode_file(&r, &out->file[i]);
        if (i > 0 && strcmp(out->file[i - 1].path, out->file[i].path) >= 0)
            reader_fail(&r, READER_DUPLICATE); /* the order is part of the format */
    }
    out->count = count;
    out->sealed = true;
    if (reader_end(&r) && root_of(out, root) && memcmp(root, out->root, 64) == 0)
        return true;
    engine_artefact_release(out);
    return false;
}

static int open_in(const char *folder, const char *name, int flags, mode_t mode)
{
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = dir < 0 ? -1 : openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    int saved = errno;
    if (dir >= 0)
        close(dir);
    errno = saved;
    return fd;
}

bool engine_artefact_is_sealed(const char *path)
{
    int fd = open_in(path, MANIFEST, O_RDONLY, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Exactly `len` bytes at `at`. */
static bool read_at(int fd, uint8_t *out, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pread(fd, out, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        out += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

static bool write_at(int fd, const uint8_t *bytes, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

bool engine_artefact_read(struct engine_artefact *out, const char *folder, struct engine_problem *why)
{
    struct stat st;
    uint8_t *bytes = NULL;
    int fd = open_in(folder, MANIFEST, O_RDONLY, 0);
    bool good = false;

    *out = (struct engine_artefact){0};
    if (fd < 0 || fstat(fd, &st) != 0) {
        engine_problem_set(why, ENGINE_E_IO, "no readable manifest in %s: %s", folder, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > ENGINE_ARTEFACT_MANIFEST_MAX) {
        engine_problem_set(why, ENGINE_E_LIMIT, "the manifest in %s has an impossible size", folder);
        goto out;
    }
    bytes = malloc((size_t)st.st_size);
    if (!bytes || !read_at(fd, bytes, (size_t)st.st_size, 0)) {
        engine_problem_set(why, ENGINE_E_IO, "the manifest in %s cannot be read", folder);
        goto out;
    }
    good = engine_artefact_parse(out, span_of(bytes, (size_t)st.st_size));
    if (!good)
        engine_problem_set(why, ENGINE_E_FORMAT, "the manifest in %s is damaged; copy the sealed model again", folder);
out:
    if (fd >= 0)
        close(fd);
    free(bytes);
    if (!good)
        engine_artefact_release(out);
    return good;
}

/* --- opening -------------------------------------------------------------------------------------- */

static uint64_t sealed_offset(uint64_t index)
{
    return index * (ENGINE_ARTEFACT_CHUNK + ENGINE_ARTEFACT_TAG);
}

/* Ciphertext is read to where its plaintext belongs: private memory, so it cannot change while it is decrypted. */
static bool open_chunk(void *ctx, uint64_t i)
{
    struct pass *p = ctx;
    struct span chunk = engine_artefact_chunk(p->plain, i);
    uint8_t *out = p->plain_out + i * ENGINE_ARTEFACT_CHUNK, tag[ENGINE_ARTEFACT_TAG];
    return read_at(p->fd, out, chunk.len, sealed_offset(i)) &&
           read_at(p->fd, tag, sizeof tag, sealed_offset(i) + chunk.len) &&
           engine_artefact_decrypt(&p->at, i, chunk, tag, out) && engine_artefact_leaf(p->leaves + 64 * i, chunk);
}

static void sealed_name(char out[16], size_t index)
{
    static const char digits[] = "0123456789";
    memcpy(out, "0000.sealed", 12);
    for (size_t i = 4; i-- > 0; index /= 10)
        out[i] = digits[index % 10];
}

static bool open_file(struct engine_files *out, const char *folder, const struct engine_artefact *a, size_t index,
                      struct pass *p, struct engine_problem *why)
{
    const struct engine_artefact_file *f = &a->file[index];
    char name[16];
    uint8_t root[64];

    p->plain_out = engine_files_add(out, f->path, (size_t)f->size, why);
    if (!p->plain_out)
        return false;
    sealed_name(name, index);
    p->plain = span_of(p->plain_out, (size_t)f->size);
    p->at.path = f->path;
    p->at.file = (uint32_t)index;
    p->fd = open_in(folder, name, O_RDONLY, 0);
    if (p->fd < 0) {
        engine_problem_set(why, ENGINE_E_IO, "%s/%s cannot be read: %s", folder, name, strerror(errno));
        return false;
    }
    bool good = run_pass(p, open_chunk, root);
    close(p->fd);
    if (good && memcmp(root, f->root, 64) == 0)
        return true;
    engine_problem_set(why, ENGINE_E_MISMATCH,
                       "%s/%s (%s) is damaged, cut short or was changed; copy the sealed model again", folder, name,
                       f->path);
    return false;
}

/* Wipe what was opened: the pages go back as zeros. */
static void forget(struct engine_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        engine_files_discard(files->file[i].bytes);
    engine_files_release(files);
}

static bool check_against(const struct engine_artefact *a, const uint8_t root[64], struct span key,
                          struct engine_problem *why)
{
    uint8_t key_id[32];
    if (memcmp(a->root, root, 64) != 0) {
        engine_problem_set(why, ENGINE_E_MISMATCH,
                           "the sealed model is another one than the policy names; check the model folder");
        return false;
    }
    if (!engine_artefact_key_id(key_id, key) || memcmp(key_id, a->key_id, 32) != 0) {
        engine_problem_set(why, ENGINE_E_MISMATCH,
                           "the weight key is not the one that sealed this model; seal it again or give keyd its key");
        return false;
    }
    return true;
}

bool engine_artefact_open(struct engine_files *out, const char *folder, const uint8_t root[64], struct span key,
                          engine_artefact_progress *progress, void *ctx, struct engine_problem *why)
{
    struct engine_artefact a;
    struct secret content = {0};
    struct pass p = {.fd = -1, .progress = progress, .progress_ctx = ctx};
    bool good = false;

    *out = (struct engine_files){0};
    if (!engine_artefact_read(&a, folder, why))
        return false;
    if (!check_against(&a, root, key, why))
        goto out;
    if (!secret_init(&content, 32) || !engine_artefact_expand(content.data, key, "airlock content v1")) {
        engine_problem_set(why, ENGINE_E_MEMORY, "out of memory");
        goto out;
    }
    p.at = (struct engine_artefact_place){.root = a.root, .content_key = content.data};
    for (size_t i = 0; i < a.count; i++)
        p.total += a.file[i].size;
    good = true;
    for (size_t i = 0; i < a.count && good; i++)
        good = open_file(out, folder, &a, i, &p, why);
out:
    secret_release(&content);
    engine_artefact_release(&a);
    if (!good)
        forget(out);
    return good;
}

/* --- sealing -------------------------------------------------------------------------------------- */

static bool seal_chunk(void *ctx, uint64_t i)
{
    struct pass *p = ctx;
    struct span chunk = engine_artefact_chunk(p->plain, i);
    size_t len = chunk.len + ENGINE_ARTEFACT_TAG;
    uint8_t *sealed = malloc(len);
    bool good = sealed && engine_artefact_encrypt(&p->at, i, chunk, sealed) &&
                engine_artefact_leaf(p->leaves + 64 * i, chunk) && write_at(p->fd, sealed, len, sealed_offset(i));
    free(sealed);
    return good;
}

static bool seal_file(const char *folder, const struct engine_artefact *a, const struct engine_files *files,
                      size_t index, struct pass *p, struct engine_problem *why)
{
    char name[16];
    uint8_t root[64];
    sealed_name(name, index);
    p->plain = files->file[index].bytes;
    p->at.path = a->file[index].path;
    p->at.file = (uint32_t)index;
    p->fd = open_in(folder, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    bool good =
        p->fd >= 0 && run_pass(p, seal_chunk, root) && memcmp(root, a->file[index].root, 64) == 0 && fsync(p->fd) == 0;
    if (!good)
        engine_problem_set(why, ENGINE_E_IO, "%s/%s cannot be written: %s", folder, name, strerror(errno));
    if (p->fd >= 0)
        close(p->fd);
    return good;
}

static bool write_manifest(const char *folder, const struct engine_artefact *a, struct engine_problem *why)
{
    struct writer w = writer_with_max(ENGINE_ARTEFACT_MANIFEST_MAX);
    struct engine_artefact check = {0};
    engine_artefact_encode(&w, a);
    bool good = writer_ok(&w) && engine_artefact_parse(&check, writer_span(&w));
    engine_artefact_release(&check);
    if (!good) {
        engine_problem_set(why, ENGINE_E_LIMIT, "too many files, or a file's name is not plain UTF-8");
        writer_release(&w);
        return false;
    }
    int fd = open_in(folder, MANIFEST, O_WRONLY | O_CREAT | O_EXCL, 0644);
    good = fd >= 0 && write_at(fd, w.data, w.len, 0) && fsync(fd) == 0;
    if (!good)
        engine_problem_set(why, ENGINE_E_IO, "%s/" MANIFEST " cannot be written: %s", folder, strerror(errno));
    if (fd >= 0)
        close(fd);
    writer_release(&w);
    return good;
}

static bool seal_all(struct engine_artefact *out, const struct engine_files *files, const char *folder, struct span key,
                     struct pass *p, struct engine_problem *why)
{
    struct secret content = {0};
    for (size_t i = 0; i < files->count; i++)
        p->total += 2 * files->file[i].bytes.len; /* once to hash, once to encrypt */
    bool good = secret_init(&content, 32) && engine_artefact_expand(content.data, key, "airlock content v1") &&
                describe(out, files, p) && engine_artefact_key_id(out->key_id, key);
    if (!good)
        engine_problem_set(why, ENGINE_E_MEMORY, "out of memory");
    p->at = (struct engine_artefact_place){.root = out->root, .content_key = content.data};
    for (size_t i = 0; i < files->count && good; i++)
        good = seal_file(folder, out, files, i, p, why);
    out->sealed = true;
    good = good && write_manifest(folder, out, why);
    secret_release(&content);
    return good;
}

bool engine_artefact_seal(struct engine_artefact *out, const char *model, const char *folder, struct span key,
                          engine_artefact_progress *progress, void *ctx, struct engine_problem *why)
{
    struct engine_files files;
    struct pass p = {.fd = -1, .progress = progress, .progress_ctx = ctx};

    *out = (struct engine_artefact){0};
    if (!engine_files_load(&files, model, why))
        return false;
    bool good = files.count > 0 && files.count <= ENGINE_FILES_MAX;
    if (!good)
        engine_problem_set(why, ENGINE_E_MISSING, "%s holds no model file", model);
    else if (mkdir(folder, 0755) != 0) {
        engine_problem_set(why, ENGINE_E_IO, "the folder %s cannot be made: %s", folder, strerror(errno));
        good = false;
    }
    good = good && seal_all(out, &files, folder, key, &p, why);
    engine_files_release(&files);
    if (!good)
        engine_artefact_release(out);
    return good;
}
