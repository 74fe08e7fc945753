#include "vectors/cases.h"

#include <dirent.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define FILES_MAX 24

struct file {
    char path[512]; /* below the vectors folder */
    uint8_t *data;
    size_t len;
};

struct cases_loaded {
    char root[400]; /* the vectors folder */
    const struct cases_kind *kind;
    struct file file[FILES_MAX];
    size_t count;
};

void cases_unreadable(struct cases_case *c, const char *format, ...)
{
    va_list args;

    if (c->unreadable)
        return;
    c->unreadable = true;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
}

/* --- hex and json -------------------------------------------------------------------------------- */

json_t *cases_hex(const void *data, size_t len)
{
    char *text = malloc(2 * len + 1);
    json_t *out;

    if (!text)
        abort();
    text[0] = '\0';
    for (size_t i = 0; i < len; i++)
        sprintf(text + 2 * i, "%02x", ((const uint8_t *)data)[i]);
    out = json_string(text);
    free(text);
    return out;
}

int cases_unhex(const char *hex, uint8_t *out, size_t cap)
{
    size_t len = strlen(hex);

    if (len % 2 || len / 2 > cap)
        return -1;
    for (size_t i = 0; i < len / 2; i++) {
        unsigned v;
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        if (strspn(pair, "0123456789abcdef") != 2 || sscanf(pair, "%x", &v) != 1)
            return -1;
        out[i] = (uint8_t)v;
    }
    return (int)(len / 2);
}

static uint64_t time_of(struct cases_case *c, const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (!end || *end) {
        cases_unreadable(c, "time %s", text);
        return 0;
    }
    return (uint64_t)timegm(&tm);
}

/* --- files --------------------------------------------------------------------------------------- */

static struct file *load(struct cases_case *c, const char *path)
{
    struct cases_loaded *l = c->loaded;
    struct file *f;
    char full[1024];
    FILE *in;
    long size;

    if (l->count == FILES_MAX)
        return NULL;
    snprintf(full, sizeof full, "%s/%s", l->root, path);
    in = fopen(full, "rb");
    if (!in)
        return NULL;
    f = &l->file[l->count];
    fseek(in, 0, SEEK_END);
    size = ftell(in);
    rewind(in);
    f->data = malloc(size > 0 ? (size_t)size : 1);
    f->len = f->data && size >= 0 ? fread(f->data, 1, (size_t)size, in) : 0;
    fclose(in);
    if (!f->data || size < 0 || f->len != (size_t)size)
        abort();
    snprintf(f->path, sizeof f->path, "%s", path);
    l->count++;
    return f;
}

static void release_files(struct cases_loaded *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->file[i].data);
    l->count = 0;
}

static const char *file_name(const struct cases_case *c, const char *role)
{
    return json_string_value(json_object_get(json_object_get(json_object_get(c->doc, "files"), role), "name"));
}

bool cases_has(const struct cases_case *c, const char *role)
{
    return file_name(c, role) != NULL;
}

/* A sub-folder of the item that the case takes its collateral from, when the file is there. */
static bool collateral_path(const struct cases_case *c, const char *name, char *out, size_t cap)
{
    const char *sub = json_string_value(json_object_get(c->self, "collateral"));
    char full[1024];
    struct stat st;

    if (!sub || !*sub)
        return false;
    snprintf(out, cap, "%s/%s/%s/%s", c->kind, c->item, sub, name);
    snprintf(full, sizeof full, "%s/%s", c->loaded->root, out);
    return stat(full, &st) == 0;
}

/* The first item of this kind whose product is `line` and which has a file `name`. */
static bool item_of_line(struct cases_case *c, const char *line, const char *name, char *out, size_t cap)
{
    char folder[600], full[1024];
    struct dirent **items;
    bool found = false;
    int n;

    snprintf(folder, sizeof folder, "%s/%s", c->loaded->root, c->kind);
    n = scandir(folder, &items, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        struct stat st;
        json_t *doc;
        const char *product;

        snprintf(full, sizeof full, "%s/%s/expected.json", folder, items[i]->d_name);
        doc = items[i]->d_name[0] != '.' && !found ? json_load_file(full, 0, NULL) : NULL;
        product = json_string_value(json_object_get(json_object_get(doc, "fields"), "product"));
        snprintf(full, sizeof full, "%s/%s/%s", folder, items[i]->d_name, name);
        if (product && strcmp(product, line) == 0 && stat(full, &st) == 0) {
            snprintf(out, cap, "%s/%s/%s", c->kind, items[i]->d_name, name);
            found = true;
        }
        json_decref(doc);
        free(items[i]);
    }
    if (n >= 0)
        free(items);
    return found;
}

/* "NAME", "KIND/ITEM/NAME", "NAME of this item", "NAME of KIND/ITEM", "[the ]NAME of a LINE item[ in this set]". */
static struct file *load_used(struct cases_case *c, const char *role, const char *how)
{
    char name[128], of[128], tail[64], path[512];
    uint8_t *data;
    size_t len;

    if (c->loaded->kind->use && c->loaded->count < FILES_MAX && c->loaded->kind->use(c, role, how, &data, &len)) {
        struct file *f = &c->loaded->file[c->loaded->count++];
        *f = (struct file){.data = data, .len = len};
        return f;
    }
    if (strncmp(how, "the ", 4) == 0)
        how += 4;
    if (!strchr(how, ' '))
        snprintf(path, sizeof path, strchr(how, '/') ? "%.0s%.0s%s" : "%s/%s/%s", c->kind, c->item, how);
    else if (sscanf(how, "%127s of a %127s %63[a-z ]", name, of, tail) == 3 && strncmp(tail, "item", 4) == 0) {
        if (!item_of_line(c, of, name, path, sizeof path))
            return NULL;
    } else if (sscanf(how, "%127s of this %63s", name, tail) == 2)
        snprintf(path, sizeof path, "%s/%s/%s", c->kind, c->item, name);
    else if (sscanf(how, "%127s of %127s", name, of) == 2 && strchr(of, '/'))
        snprintf(path, sizeof path, "%s/%s", of, name);
    else
        return NULL;
    return load(c, path);
}

static bool is_intact(const struct cases_case *c, const char *role, const struct file *f)
{
    json_t *entry = json_object_get(json_object_get(c->doc, "files"), role);
    const char *want = json_string_value(json_object_get(entry, "sha256"));
    uint8_t digest[32], wanted[32];

    SHA256(f->data, f->len, digest);
    return !want || (cases_unhex(want, wanted, 32) == 32 && memcmp(digest, wanted, 32) == 0);
}

static struct file *load_own(struct cases_case *c, const char *role, bool with_collateral)
{
    const char *name = file_name(c, role);
    char path[512];
    bool sub = with_collateral && collateral_path(c, name, path, sizeof path);
    struct file *f;

    if (!sub)
        snprintf(path, sizeof path, "%s/%s/%s", c->kind, c->item, name);
    f = load(c, path);
    if (!f)
        cases_unreadable(c, "file %s", path);
    else if (!sub && !is_intact(c, role, f)) {
        cases_unreadable(c, "%s is not the described file", path);
        return NULL;
    }
    return f;
}

struct span cases_original(struct cases_case *c, const char *role)
{
    struct file *f = cases_has(c, role) ? load_own(c, role, false) : NULL;

    return f ? span_of(f->data, f->len) : span_of(NULL, 0);
}

/* --- mutations ----------------------------------------------------------------------------------- */

static void mutate(struct cases_case *c, struct file *f, json_t *m)
{
    const char *op = json_string_value(json_object_get(m, "op")), *hex = json_string_value(json_object_get(m, "hex"));
    json_int_t offset = json_integer_value(json_object_get(m, "offset"));
    uint8_t bytes[4096];
    int len = hex ? cases_unhex(hex, bytes, sizeof bytes) : 0;

    if (!op || len < 0 || offset < 0) {
        cases_unreadable(c, "mutation");
        return;
    }
    if (strcmp(op, "truncate") == 0) {
        json_int_t to = json_integer_value(json_object_get(m, "length"));
        if (to < 0 || (size_t)to > f->len)
            cases_unreadable(c, "truncate beyond the end");
        else
            f->len = (size_t)to;
    } else if (strcmp(op, "append") == 0) {
        f->data = realloc(f->data, f->len + (size_t)len + 1);
        if (!f->data)
            abort();
        memcpy(f->data + f->len, bytes, (size_t)len);
        f->len += (size_t)len;
    } else if ((strcmp(op, "xor") == 0 || strcmp(op, "set") == 0) && (size_t)offset + (size_t)len <= f->len) {
        for (int i = 0; i < len; i++) {
            uint8_t *at = f->data + offset + i;
            *at = op[0] == 'x' ? *at ^ bytes[i] : bytes[i];
        }
    } else {
        cases_unreadable(c, "mutation %s", op);
    }
}

struct span cases_file(struct cases_case *c, const char *role)
{
    const char *how = json_string_value(json_object_get(json_object_get(c->self, "use"), role));
    const char *name = file_name(c, role);
    struct file *f;
    size_t i;
    json_t *m;

    if (!how && !name)
        return span_of(NULL, 0);
    f = how ? load_used(c, role, how) : load_own(c, role, true);
    if (!f) {
        cases_unreadable(c, "use %s: %s", role, how ? how : "missing");
        return span_of(NULL, 0);
    }
    json_array_foreach(json_object_get(c->self, "mutate"), i, m)
    {
        const char *target = json_string_value(json_object_get(m, "file"));
        if (!target)
            cases_unreadable(c, "mutation without a file");
        else if (name && strcmp(target, name) == 0)
            mutate(c, f, m);
    }
    return span_of(f->data, f->len);
}

/* --- policy -------------------------------------------------------------------------------------- */

void cases_policy_known(struct cases_case *c, const char *const *keys)
{
    const char *key;
    json_t *value;

    json_object_foreach(c->policy, key, value)
    {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0)
            i++;
        if (!keys[i])
            cases_unreadable(c, "policy key %s", key);
    }
}

bool cases_policy_bool(const struct cases_case *c, const char *key, bool otherwise)
{
    json_t *v = json_object_get(c->policy, key);

    return v ? json_is_true(v) : otherwise;
}

/* --- comparing and counting ---------------------------------------------------------------------- */

/* Every key of `want` must be in `have` with an equal value; objects are compared by the same rule inside. */
static bool covers(json_t *want, json_t *have, const char *path, char *why, size_t cap)
{
    const char *key;
    json_t *value;

    json_object_foreach(want, key, value)
    {
        json_t *ours = json_object_get(have, key);
        char deeper[160];

        snprintf(deeper, sizeof deeper, "%s.%s", path, key);
        if (json_is_object(value) && json_is_object(ours)) {
            if (!covers(value, ours, deeper, why, cap))
                return false;
        } else if (!ours || !json_equal(value, ours)) {
            char *a = json_dumps(value, JSON_ENCODE_ANY), *b = ours ? json_dumps(ours, JSON_ENCODE_ANY) : NULL;
            snprintf(why, cap, "%s: expected %.120s, got %.120s", deeper, a, b ? b : "nothing");
            free(a);
            free(b);
            return false;
        }
    }
    return true;
}

static bool verdict_is_right(json_t *expect, const struct cases_answer *a, char *why, size_t cap)
{
    const char *verdict = json_string_value(json_object_get(expect, "verdict"));
    json_t *codes = json_object_get(expect, "error"), *code;
    size_t i;

    if (!verdict) {
        snprintf(why, cap, "no verdict in the case");
        return false;
    }
    if (strcmp(verdict, "ok") == 0) {
        snprintf(why, cap, "expected ok, got %s (%s)", a->error ? a->error : "ok", a->detail);
        return a->error == NULL;
    }
    json_array_foreach(codes, i, code)
    {
        if (a->error && strcmp(a->error, json_string_value(code)) == 0)
            return true;
    }
    char *text = json_dumps(codes, 0);
    snprintf(why, cap, "expected %s, got %s (%s)", text ? text : "an error", a->error ? a->error : "ok", a->detail);
    free(text);
    return false;
}

static bool run_case(struct cases_case *c, const struct cases_kind *kind)
{
    struct cases_answer a = {0};
    json_t *expect = json_object_get(c->self, "expect"), *rest = json_copy(expect);
    char why[900] = "";
    bool good;

    json_object_del(rest, "verdict");
    json_object_del(rest, "error");
    kind->check(c, &a);
    if (c->unreadable)
        snprintf(why, sizeof why, "cannot be read: %s", c->why);
    good = !c->unreadable && verdict_is_right(expect, &a, why, sizeof why) &&
           covers(rest, a.expect, "expect", why, sizeof why) &&
           (!c->base || !a.fields || covers(json_object_get(c->doc, "fields"), a.fields, "fields", why, sizeof why));
    if (!good)
        printf("FAILED %s/%s %s: %s\n", c->kind, c->item, c->name, why);
    json_decref(a.expect);
    json_decref(a.fields);
    json_decref(rest);
    release_files(c->loaded);
    return good;
}

struct counts {
    size_t passed, failed;
};

static void run_item(const char *root, const struct cases_kind *kind, const char *item, struct counts *n)
{
    struct cases_loaded loaded = {.kind = kind};
    char path[1024];
    json_t *doc, *list, *one;
    size_t i;

    snprintf(loaded.root, sizeof loaded.root, "%s", root);
    snprintf(path, sizeof path, "%s/%s/%s/expected.json", root, kind->folder, item);
    doc = json_load_file(path, 0, NULL);
    list = json_object_get(doc, "cases");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        printf("FAILED %s/%s: no expected.json with cases\n", kind->folder, item);
        n->failed++;
    }
    json_array_foreach(list, i, one)
    {
        struct cases_case c = {.kind = kind->folder, .item = item, .doc = doc, .self = one, .loaded = &loaded};
        const char *when = json_string_value(json_object_get(one, "time"));

        c.name = json_string_value(json_object_get(one, "name"));
        c.policy = json_object_get(one, "policy");
        c.synthetic = json_is_false(json_object_get(doc, "real_hardware"));
        c.base = i == 0;
        if (!c.name)
            c.name = "(unnamed)";
        if (when)
            c.time = time_of(&c, when);
        if (run_case(&c, kind))
            n->passed++;
        else
            n->failed++;
    }
    json_decref(doc);
}

/* The items of one kind below `root`; false when it has no such folder. */
static bool run_kind(const char *root, const struct cases_kind *kind, struct counts *n)
{
    char folder[700];
    struct dirent **items;
    int entries;

    snprintf(folder, sizeof folder, "%s/%s", root, kind->folder);
    entries = scandir(folder, &items, NULL, alphasort);
    for (int i = 0; i < entries; i++) {
        char inner[1000];
        struct stat st;
        snprintf(inner, sizeof inner, "%s/%s", folder, items[i]->d_name);
        if (items[i]->d_name[0] != '.' && stat(inner, &st) == 0 && S_ISDIR(st.st_mode))
            run_item(root, kind, items[i]->d_name, n);
        free(items[i]);
    }
    if (entries >= 0)
        free(items);
    return entries >= 0;
}

int cases_main(const struct cases_kind *kinds, size_t count)
{
    const char *shared = getenv("AIRLOCK_SHARED");
    size_t failed = 0;
    bool any = false;

    for (size_t k = 0; k < count; k++) {
        struct counts own = {0}, n = {0};
        char root[300];

        if (run_kind(OWN_EVIDENCE, &kinds[k], &own)) {
            any = true;
            printf("%s (own): %zu passed, %zu failed, 0 skipped\n", kinds[k].folder, own.passed, own.failed);
        }
        snprintf(root, sizeof root, "%s/vectors", shared && *shared ? shared : "../shared");
        if (run_kind(root, &kinds[k], &n)) {
            any = true;
            printf("%s: %zu passed, %zu failed, 0 skipped\n", kinds[k].folder, n.passed, n.failed);
        } else if (!kinds[k].own) {
            printf("%s: 0 passed, 0 failed, 1 skipped (no folder %s/%s)\n", kinds[k].folder, root, kinds[k].folder);
        }
        failed += own.failed + n.failed;
    }
    return !any ? 77 : failed ? 1 : 0;
}
