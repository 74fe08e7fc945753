/* Do the published vocabularies give the ids of the models' own tokenizers, and does decoding give the text back?
 * Folder: $AIRLOCK_SHARED/vectors/tokenizers (README there); Gemma 3's vocabulary comes from its model file in
 * $AIRLOCK_MODELS. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "verifier/base/utf8.h"
#include "verifier/base/writer.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"
#define GEMMA_FILE "gemma-3-270m-q4_k_m.gguf"
#define FILE_MAX ((size_t)1 << 30)

static int passed, failed, skipped;

/* The whole of an open stream; empty when it cannot be read. */
static struct span slurp(FILE *f)
{
    size_t cap = 1 << 20, len = 0, n;
    uint8_t *data = malloc(cap);
    while (data && (n = fread(data + len, 1, cap - len, f)) > 0) {
        len += n;
        if (len == cap) {
            cap *= 2;
            uint8_t *grown = cap > FILE_MAX ? NULL : realloc(data, cap);
            if (!grown)
                free(data);
            data = grown;
        }
    }
    return data ? span_of(data, len) : span_of(NULL, 0);
}

static struct span read_plain(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return span_of(NULL, 0);
    struct span s = slurp(f);
    fclose(f);
    return s;
}

static struct span read_xz(const char *path)
{
    int ends[2];
    if (access(path, R_OK) != 0 || pipe(ends) != 0)
        return span_of(NULL, 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execlp("xz", "xz", "-dc", path, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "rb");
    struct span s = f ? slurp(f) : span_of(NULL, 0);
    if (f)
        fclose(f);
    int status = 0;
    if (child > 0)
        waitpid(child, &status, 0);
    return status == 0 ? s : span_of(NULL, 0);
}

/* NAME.gguf, NAME.gguf.xz, or for real-gemma3 the model file. */
static struct span read_vocabulary(const char *folder, const char *name)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    struct span s = read_plain(path);
    if (s.len > 0)
        return s;
    snprintf(path, sizeof path, "%s/%s.xz", folder, name);
    s = read_xz(path);
    if (s.len > 0 || strcmp(name, "real-gemma3.gguf") != 0)
        return s;
    const char *models = getenv("AIRLOCK_MODELS"), *home = getenv("HOME");
    if (models)
        snprintf(path, sizeof path, "%s/%s", models, GEMMA_FILE);
    else
        snprintf(path, sizeof path, "%s/.cache/airlock/models/%s", home ? home : "", GEMMA_FILE);
    return read_plain(path);
}

/* U+2581 comes back from SentencePiece-style vocabularies as the space that it stands for there. */
static bool same_but_spaces(struct span got, struct span text)
{
    size_t at = 0;
    for (size_t i = 0; i < text.len; i++, at++) {
        bool mark = text.len - i >= 3 && memcmp(text.data + i, "\xe2\x96\x81", 3) == 0;
        if (at >= got.len || (got.data[at] != text.data[i] && !(mark && got.data[at] == ' ')))
            return false;
        i += mark && got.data[at] == ' ' ? 2 : 0;
    }
    return at == got.len;
}

static bool decodes_to(const struct engine_tokenizer *t, const struct engine_tokens *ids, struct span text)
{
    struct writer w = writer_with_max(text.len + 64);
    for (size_t i = 0; i < ids->count; i++)
        writer_bytes(&w, engine_tokenizer_piece(t, ids->ids[i], true));
    struct span got = writer_span(&w);
    if (engine_tokenizer_leading_space(t) && got.len > 0 && got.data[0] == ' ')
        got = span_of(got.data + 1, got.len - 1);
    bool same = same_but_spaces(got, text);
    writer_release(&w);
    return same;
}

/* `want` is a line of decimal ids. */
static void one_string(const char *file, int number, const struct engine_tokenizer *t, struct span text,
                       struct span want, unsigned flags)
{
    struct engine_tokens ids = {.max = 1 << 20};
    struct writer got = writer_with_max(1 << 24);
    enum engine_err err = engine_tokenizer_encode(t, text, flags, &ids);
    for (size_t i = 0; i < ids.count; i++)
        writer_printf(&got, " %d", (int)ids.ids[i]);
    while (want.len > 0 && want.data[want.len - 1] == ' ')
        want.len--;
    while (want.len > 0 && want.data[0] == ' ')
        want = span_of(want.data + 1, want.len - 1);
    struct span line = writer_span(&got);
    bool same = err == ENGINE_OK && span_equal(line.len ? span_of(line.data + 1, line.len - 1) : line, want);
    bool back = same && decodes_to(t, &ids, text);
    if (same && back) {
        passed++;
    } else {
        failed++;
        printf("FAIL %s, string %d: %s\n  got  %.*s\n  want  %.*s\n", file, number,
               err    ? engine_err_name(err)
               : same ? "does not decode to its text"
                      : "other ids",
               (int)line.len, (const char *)line.data, (int)want.len, (const char *)want.data);
    }
    writer_release(&got);
    engine_tokens_release(&ids);
}

static void all_strings(const char *file, const struct engine_tokenizer *t, struct span in, struct span out,
                        unsigned flags)
{
    for (int number = 1;; number++) {
        const uint8_t *cut = in.len ? memmem(in.data, in.len, SEPARATOR, strlen(SEPARATOR)) : NULL;
        const uint8_t *line = out.len ? memchr(out.data, '\n', out.len) : NULL;
        size_t text_len = cut ? (size_t)(cut - in.data) : in.len, line_len = line ? (size_t)(line - out.data) : out.len;
        if (!cut && out.len == 0)
            return; /* the file ends in a separator */
        one_string(file, number, t, span_of(in.data, text_len), span_of(out.data, line_len), flags);
        if (!cut)
            return;
        in = span_of(cut + strlen(SEPARATOR), in.len - text_len - strlen(SEPARATOR));
        out = line ? span_of(line + 1, out.len - line_len - 1) : span_of(NULL, 0);
    }
}

static void one_file(const char *folder, const char *input)
{
    char path[8192], name[512];
    size_t stem = strlen(input) - strlen(".inp");
    snprintf(path, sizeof path, "%s/%s", folder, input);
    struct span in = read_plain(path);
    snprintf(path, sizeof path, "%s/%.*s.out", folder, (int)stem, input);
    struct span out = read_plain(path);
    bool special = stem > 8 && strncmp(input + stem - 8, ".special", 8) == 0;
    stem -= special ? 8 : 0;
    bool suffixed = stem > 5 && strncmp(input + stem - 5, ".gguf", 5) == 0;
    snprintf(name, sizeof name, "%.*s%s", (int)stem, input, suffixed ? "" : ".gguf");
    struct span bytes = read_vocabulary(folder, name);
    struct engine_problem why = {0};
    struct engine_gguf *gguf = bytes.len > 0 ? engine_gguf_parse(bytes, &why) : NULL;
    struct engine_tokenizer *t = gguf ? engine_tokenizer_open_gguf(gguf, &why) : NULL;
    if (bytes.len == 0 || why.code == ENGINE_E_UNSUPPORTED) {
        skipped++;
        printf("SKIP %s: %s\n", input, bytes.len == 0 ? "its vocabulary is not there" : why.text);
    } else if (!t || !out.data) {
        failed++;
        printf("FAIL %s: %s\n", input, t ? "no .out file" : why.text);
    } else {
        all_strings(input, t, in, out, special ? ENGINE_TOKENIZE_SPECIAL : 0);
    }
    engine_tokenizer_close(t);
    engine_gguf_close(gguf);
    free((void *)bytes.data);
    free((void *)in.data);
    free((void *)out.data);
}

static int is_input(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return len > 4 && strcmp(e->d_name + len - 4, ".inp") == 0;
}

int main(void)
{
    const char *shared = getenv("AIRLOCK_SHARED");
    char folder[4000];
    struct dirent **inputs = NULL;
    snprintf(folder, sizeof folder, "%s/vectors/tokenizers", shared ? shared : "../shared");
    int count = scandir(folder, &inputs, is_input, alphasort);
    for (int i = 0; i < count; i++) {
        one_file(folder, inputs[i]->d_name);
        free(inputs[i]);
    }
    free(inputs);
    if (count <= 0)
        skipped++;
    printf("tokenizers: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
    if (failed)
        return 1;
    return passed ? 0 : 77;
}
