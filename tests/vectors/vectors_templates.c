/* Do the published chat templates render as the reference (Jinja2) renders them, and refuse what it refuses?
 * Folder: $AIRLOCK_SHARED/vectors/templates (README there). */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/template.h"

static int passed, failed;

static struct span read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (size >= 0)
        data = malloc((size_t)size + 1);
    if (data) {
        rewind(f);
        size = (long)fread(data, 1, (size_t)size, f);
    }
    if (f)
        fclose(f);
    return data ? span_of(data, (size_t)size) : span_of(NULL, 0);
}

static void show(const char *name, struct span s)
{
    printf("  %s: ", name);
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] == '\n')
            printf("\\n");
        else
            putchar(s.data[i]);
    putchar('\n');
}

static struct span text_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : span_of(NULL, 0);
}

static int64_t time_of(const json_t *o)
{
    struct tm tm = {0};
    const char *text = json_string_value(json_object_get(o, "now"));
    return text && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : 0;
}

static void one_case(const char *file, const struct engine_template *t, const json_t *all, const json_t *c)
{
    const json_t *tools = json_object_get(c, "tools"), *error = json_object_get(c, "error");
    struct engine_template_input in = {
        .messages = json_object_get(c, "messages"),
        .tools = json_is_null(tools) ? NULL : tools,
        .kwargs = json_object_get(c, "kwargs"),
        .bos = text_of(all, "bos_token"),
        .eos = text_of(all, "eos_token"),
        .add_generation_prompt = json_is_true(json_object_get(c, "add_generation_prompt")),
        .now = time_of(all),
    };
    struct writer out = writer_with_max(1 << 24);
    struct engine_problem why = {0};
    enum engine_err err = engine_template_render(t, &in, &out, &why);
    struct span want = text_of(c, error ? "error" : "text");
    bool good = error ? err == ENGINE_E_REFUSED && (want.len == 0 || span_is(want, why.text))
                      : err == ENGINE_OK && span_equal(writer_span(&out), want);
    passed += good;
    failed += !good;
    if (!good) {
        printf("FAIL %s, case %s%s: %s\n", file, json_string_value(json_object_get(c, "case")),
               in.add_generation_prompt ? " with prompt" : "", err ? why.text : "other text");
        show("got ", writer_span(&out));
        show("want", want);
    }
    writer_release(&out);
}

static void one_file(const char *folder, const char *name)
{
    char path[8192];
    json_error_t error;
    struct engine_problem why = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *all = json_load_file(path, 0, &error), *c;
    const json_t *cases = json_object_get(all, "cases");
    const char *source_name = json_string_value(json_object_get(all, "template"));
    size_t i;
    snprintf(path, sizeof path, "%s/%s", folder, source_name ? source_name : "");
    struct span source = source_name ? read_file(path) : span_of(NULL, 0);
    struct engine_template *t = source.data ? engine_template_open(source, &why) : NULL;
    if (!t || json_array_size(cases) == 0) {
        printf("FAIL %s: %s\n", name, why.text[0] ? why.text : "no cases or no template");
        failed++;
    }
    if (t)
        json_array_foreach(cases, i, c) one_case(name, t, all, c);
    engine_template_close(t);
    free((void *)source.data);
    json_decref(all);
}

static int is_json(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return len > 5 && strcmp(e->d_name + len - 5, ".json") == 0;
}

int main(void)
{
    const char *shared = getenv("AIRLOCK_SHARED");
    char folder[4000];
    struct dirent **files = NULL;
    snprintf(folder, sizeof folder, "%s/vectors/templates", shared ? shared : "../shared");
    int count = scandir(folder, &files, is_json, alphasort);
    for (int i = 0; i < count; i++) {
        one_file(folder, files[i]->d_name);
        free(files[i]);
    }
    free(files);
    printf("templates: %d passed, %d failed, %d skipped\n", passed, failed, count <= 0);
    if (failed)
        return 1;
    return count > 0 ? 0 : 77;
}
