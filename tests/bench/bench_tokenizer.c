/* bench_tokenizer.c - text to token ids, one thread, in this process. For bench_engine.py and for people.
 *   bench_tokenizer --model FILE TEXT...
 * The texts' paragraphs are joined, in another order each time, until there are 4 MB: prose as this project has it.
 * Prints "tokenizer MB_A_SECOND BYTES_A_TOKEN" of the median run. Time is the thread's own processor time: others on
 * the machine can make it longer (caches, a shared core), never shorter, so no sample is thrown away. */
#include "engine/files.h"
#include "engine/tokenizer.h"
#include "machine.h"
#include "verifier/base/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TEXT_BYTES = 4 << 20, PARAGRAPHS_MAX = 1 << 16, RUNS = 7 };

static struct span paragraph[PARAGRAPHS_MAX];
static size_t paragraphs;

static bool read_text(struct writer *all, const char *path)
{
    uint8_t buf[4096];
    FILE *f = fopen(path, "re");
    for (size_t n; f && (n = fread(buf, 1, sizeof buf, f)) > 0;)
        writer_bytes(all, span_of(buf, n));
    bool ok = f && !ferror(f) && writer_ok(all);
    if (f)
        fclose(f);
    writer_str(all, "\n\n");
    return ok;
}

static void cut(struct span all)
{
    for (size_t at = 0, from = 0; at + 1 < all.len && paragraphs < PARAGRAPHS_MAX; at++)
        if (all.data[at] == '\n' && all.data[at + 1] == '\n') {
            paragraph[paragraphs++] = span_of(all.data + from, at + 2 - from);
            from = at + 2;
        }
}

static void join(struct writer *text)
{
    uint32_t rng = 1;
    while (text->len < TEXT_BYTES) {
        for (size_t i = paragraphs; i-- > 1;) {
            rng = rng * 1664525u + 1013904223u;
            size_t k = (size_t)(((uint64_t)rng * (i + 1)) >> 32);
            struct span other = paragraph[k];
            paragraph[k] = paragraph[i];
            paragraph[i] = other;
        }
        for (size_t i = 0; i < paragraphs && text->len < TEXT_BYTES; i++)
            writer_bytes(text, paragraph[i]);
    }
}

static double own_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds of the median run; 0 when a run was refused. `*ids`: of one run. */
static double median_of_runs(const struct engine_tokenizer *t, struct span text, size_t *ids)
{
    double v[RUNS];
    for (int i = 0; i < RUNS; i++) {
        struct engine_tokens out = {.max = TEXT_BYTES + 4096};
        double start = own_seconds();
        enum engine_err err = engine_tokenizer_encode(t, text, 0, &out);
        v[i] = own_seconds() - start;
        *ids = out.count;
        engine_tokens_release(&out);
        if (err != ENGINE_OK)
            return 0;
    }
    return machine_median(v, RUNS);
}

static bool run(const struct engine_tokenizer *t, struct span text)
{
    size_t ids = 0;
    double seconds = median_of_runs(t, text, &ids);
    if (!(seconds > 0) || ids == 0)
        return false;
    printf("tokenizer %.2f %.2f\n", (double)text.len / seconds / 1e6, (double)text.len / (double)ids);
    return true;
}

int main(int argc, char **argv)
{
    struct engine_files files = {0};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_tokenizer *t = NULL;
    struct writer all = writer_with_max(16 << 20), text = writer_with_max(2 * TEXT_BYTES);
    bool ok = argc > 3 && strcmp(argv[1], "--model") == 0;
    for (int i = 3; ok && i < argc; i++)
        ok = read_text(&all, argv[i]);
    if (!ok) {
        fprintf(stderr, "usage: bench_tokenizer --model FILE TEXT...\n");
        return 2;
    }
    cut(writer_span(&all));
    ok = paragraphs > 0 && engine_files_load(&files, argv[2], &why) &&
         (t = engine_tokenizer_open_files(&files, &why)) != NULL;
    if (ok) {
        join(&text);
        ok = run(t, writer_span(&text));
    } else {
        fprintf(stderr, "bench_tokenizer: %s\n", why.text);
    }
    engine_tokenizer_close(t);
    engine_files_release(&files);
    writer_release(&text);
    writer_release(&all);
    return ok ? 0 : 2;
}
