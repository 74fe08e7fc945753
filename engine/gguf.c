/* gguf.c - the index of a GGUF file. Two passes over nothing: each key and tensor is read once, checked, and put in
 * a table sorted by name, so that a repeated name shows and a look-up is a binary search. */
#include "engine/gguf.h"

#include "kernels/quant.h"
#include "verifier/base/reader.h"

#include <stdlib.h>

#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX 65536
#define ELEMENTS_MAX ((uint64_t)1 << 40) /* of one tensor: far above any model, far below overflow */

struct engine_gguf {
    struct engine_gguf_value *keys; /* sorted by key */
    size_t key_count;
    struct engine_gguf_tensor *tensors; /* sorted by name */
    size_t tensor_count;
};

static int name_compare(struct span a, struct span b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int key_compare(const void *a, const void *b)
{
    return name_compare(((const struct engine_gguf_value *)a)->key, ((const struct engine_gguf_value *)b)->key);
}

static int tensor_compare(const void *a, const void *b)
{
    return name_compare(((const struct engine_gguf_tensor *)a)->name, ((const struct engine_gguf_tensor *)b)->name);
}

/* --- parsing --------------------------------------------------------------------------------------- */

static size_t scalar_size(enum engine_gguf_type type)
{
    switch (type) {
    case ENGINE_GGUF_U8:
    case ENGINE_GGUF_I8:
    case ENGINE_GGUF_BOOL:
        return 1;
    case ENGINE_GGUF_U16:
    case ENGINE_GGUF_I16:
        return 2;
    case ENGINE_GGUF_U32:
    case ENGINE_GGUF_I32:
    case ENGINE_GGUF_F32:
        return 4;
    case ENGINE_GGUF_U64:
    case ENGINE_GGUF_I64:
    case ENGINE_GGUF_F64:
        return 8;
    case ENGINE_GGUF_STRING:
    case ENGINE_GGUF_ARRAY:
        break;
    }
    return 0;
}

/* u64 length, bytes. A length that passes the end turns the reader bad. */
static struct span read_string(struct reader *r)
{
    uint64_t len = reader_u64le(r);
    if (len > r->rest.len) {
        reader_fail(r, READER_TRUNCATED);
        return span_of(NULL, 0);
    }
    return reader_span(r, (size_t)len);
}

static enum engine_err read_name(struct reader *r, struct span *out, const char *what, struct engine_problem *why)
{
    *out = read_string(r);
    if (r->err != READER_OK)
        return engine_problem_set(why, ENGINE_E_TRUNCATED, "GGUF: the file ends inside the name of a %s", what);
    if (out->len == 0 || out->len > ENGINE_GGUF_NAME_MAX)
        return engine_problem_set(why, ENGINE_E_LIMIT, "GGUF: a %s's name has %zu bytes; 1 to %d are allowed", what,
                                  out->len, ENGINE_GGUF_NAME_MAX);
    return ENGINE_OK;
}

static enum engine_err read_strings(struct reader *r, struct engine_gguf_value *v, struct engine_problem *why)
{
    if (v->count > r->rest.len / 8) /* each string has at least its length */
        return engine_problem_set(why, ENGINE_E_TRUNCATED, "GGUF: key %.*s announces more strings than the file holds",
                                  ENGINE_NAME(v->key));
    struct span *strings = calloc((size_t)v->count + 1, sizeof *strings);
    v->strings = strings;
    if (!strings)
        return engine_problem_set(why, ENGINE_E_MEMORY, "GGUF: no memory for key %.*s", ENGINE_NAME(v->key));
    for (uint64_t i = 0; i < v->count; i++)
        strings[i] = read_string(r);
    return ENGINE_OK;
}

static enum engine_err read_value(struct reader *r, struct engine_gguf_value *v, struct engine_problem *why)
{
    uint32_t type = reader_u32le(r), element = type;

    v->count = 1;
    if (type == ENGINE_GGUF_ARRAY) {
        element = reader_u32le(r);
        v->count = reader_u64le(r);
    }
    if (r->err == READER_OK && (element > ENGINE_GGUF_F64 || element == ENGINE_GGUF_ARRAY))
        return engine_problem_set(why, ENGINE_E_TYPE, "GGUF: key %.*s has unknown type %u", ENGINE_NAME(v->key),
                                  element);
    v->type = (enum engine_gguf_type)type;
    v->element = (enum engine_gguf_type)element;
    if (r->err == READER_OK && v->element == ENGINE_GGUF_STRING) {
        enum engine_err err = read_strings(r, v, why);
        if (err != ENGINE_OK)
            return err;
    } else if (r->err == READER_OK) {
        size_t size = scalar_size(v->element);
        if (v->count > r->rest.len / size)
            reader_fail(r, READER_TRUNCATED);
        else
            v->bytes = reader_span(r, (size_t)v->count * size);
    }
    if (r->err != READER_OK)
        return engine_problem_set(why, ENGINE_E_TRUNCATED, "GGUF: the file ends inside key %.*s", ENGINE_NAME(v->key));
    return ENGINE_OK;
}

static enum engine_err read_keys(struct reader *r, struct engine_gguf *g, uint64_t count, struct engine_problem *why)
{
    g->keys = calloc((size_t)count + 1, sizeof *g->keys);
    if (!g->keys)
        return engine_problem_set(why, ENGINE_E_MEMORY, "GGUF: no memory for %llu keys", (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        struct engine_gguf_value *v = &g->keys[g->key_count];
        enum engine_err err = read_name(r, &v->key, "key", why);
        g->key_count++;
        if (err == ENGINE_OK)
            err = read_value(r, v, why);
        if (err != ENGINE_OK)
            return err;
    }
    qsort(g->keys, g->key_count, sizeof *g->keys, key_compare);
    for (size_t i = 1; i < g->key_count; i++)
        if (span_equal(g->keys[i - 1].key, g->keys[i].key))
            return engine_problem_set(why, ENGINE_E_DUPLICATE, "GGUF: key %.*s is there twice",
                                      ENGINE_NAME(g->keys[i].key));
    return ENGINE_OK;
}

/* Shape and type give the size in bytes; 0 and `*why` when they are not possible. */
static uint64_t tensor_size(const struct engine_gguf_tensor *t, struct engine_problem *why)
{
    const struct kern_quant *q = kern_quant_find(t->type);
    if (!q) {
        engine_problem_set(why, ENGINE_E_UNSUPPORTED, "GGUF: tensor %.*s has storage type %u, which we do not read",
                           ENGINE_NAME(t->name), t->type);
        return 0;
    }
    uint64_t elements = 1;
    for (uint32_t d = 0; d < t->dims; d++) {
        if (t->dim[d] == 0 || t->dim[d] > ELEMENTS_MAX / elements) {
            engine_problem_set(why, ENGINE_E_SHAPE, "GGUF: tensor %.*s has an impossible shape", ENGINE_NAME(t->name));
            return 0;
        }
        elements *= t->dim[d];
    }
    if (t->dim[0] % q->block != 0) {
        engine_problem_set(why, ENGINE_E_SHAPE, "GGUF: rows of tensor %.*s are no multiple of %s's block of %u",
                           ENGINE_NAME(t->name), q->name, q->block);
        return 0;
    }
    return elements / q->block * q->bytes;
}

/* Reads one tensor's record; its data's offset goes to `data.data` later, `*offset` meanwhile. */
static enum engine_err read_tensor(struct reader *r, struct engine_gguf_tensor *t, uint64_t *offset,
                                   struct engine_problem *why)
{
    enum engine_err err = read_name(r, &t->name, "tensor", why);
    if (err != ENGINE_OK)
        return err;
    t->dims = reader_u32le(r);
    if (r->err == READER_OK && (t->dims == 0 || t->dims > ENGINE_GGUF_DIMS_MAX))
        return engine_problem_set(why, ENGINE_E_SHAPE, "GGUF: tensor %.*s has %u dimensions; 1 to %d are allowed",
                                  ENGINE_NAME(t->name), t->dims, ENGINE_GGUF_DIMS_MAX);
    for (uint32_t d = 0; d < ENGINE_GGUF_DIMS_MAX; d++)
        t->dim[d] = r->err == READER_OK && d < t->dims ? reader_u64le(r) : 1;
    t->type = reader_u32le(r);
    *offset = reader_u64le(r);
    if (r->err != READER_OK)
        return engine_problem_set(why, ENGINE_E_TRUNCATED, "GGUF: the file ends inside the record of tensor %.*s",
                                  ENGINE_NAME(t->name));
    return ENGINE_OK;
}

static enum engine_err place_tensor(struct engine_gguf_tensor *t, uint64_t offset, struct span section,
                                    uint64_t alignment, struct engine_problem *why)
{
    uint64_t size = tensor_size(t, why);
    if (size == 0)
        return why ? why->code : ENGINE_E_SHAPE;
    if (offset % alignment != 0)
        return engine_problem_set(why, ENGINE_E_RANGE, "GGUF: tensor %.*s starts at an unaligned offset",
                                  ENGINE_NAME(t->name));
    if (offset > section.len || size > section.len - offset)
        return engine_problem_set(why, ENGINE_E_OVERLAP, "GGUF: tensor %.*s leaves the file", ENGINE_NAME(t->name));
    t->data = span_of(section.data + offset, (size_t)size);
    return ENGINE_OK;
}

static int data_compare(const void *a, const void *b)
{
    const uint8_t *x = ((const struct engine_gguf_tensor *)a)->data.data;
    const uint8_t *y = ((const struct engine_gguf_tensor *)b)->data.data;
    return (x > y) - (x < y);
}

/* Sorts by name: no name is there twice. */
static enum engine_err sort_tensors(struct engine_gguf *g, struct engine_problem *why)
{
    qsort(g->tensors, g->tensor_count, sizeof *g->tensors, tensor_compare);
    for (size_t i = 1; i < g->tensor_count; i++)
        if (span_equal(g->tensors[i - 1].name, g->tensors[i].name))
            return engine_problem_set(why, ENGINE_E_DUPLICATE, "GGUF: tensor %.*s is there twice",
                                      ENGINE_NAME(g->tensors[i].name));
    return ENGINE_OK;
}

/* No two tensors share a byte or a name. Leaves them sorted by name. */
static enum engine_err check_tensors(struct engine_gguf *g, struct engine_problem *why)
{
    qsort(g->tensors, g->tensor_count, sizeof *g->tensors, data_compare);
    for (size_t i = 1; i < g->tensor_count; i++)
        if (g->tensors[i - 1].data.data + g->tensors[i - 1].data.len > g->tensors[i].data.data)
            return engine_problem_set(why, ENGINE_E_OVERLAP, "GGUF: tensors %.*s and %.*s overlap",
                                      ENGINE_NAME(g->tensors[i - 1].name), ENGINE_NAME(g->tensors[i].name));
    return sort_tensors(g, why);
}

static enum engine_err read_alignment(const struct engine_gguf *g, uint64_t *out, struct engine_problem *why)
{
    *out = ALIGNMENT_DEFAULT;
    if (!engine_gguf_find(g, "general.alignment"))
        return ENGINE_OK;
    if (!engine_gguf_u64(g, "general.alignment", out) || *out < 8 || *out > ALIGNMENT_MAX || (*out & (*out - 1)))
        return engine_problem_set(why, ENGINE_E_RANGE, "GGUF: general.alignment must be a power of two from 8 to %d",
                                  ALIGNMENT_MAX);
    return ENGINE_OK;
}

static enum engine_err read_tensors(struct reader *r, struct engine_gguf *g, uint64_t count, size_t file_len,
                                    struct engine_problem *why)
{
    uint64_t alignment, *offsets = calloc((size_t)count + 1, sizeof *offsets);
    enum engine_err err = read_alignment(g, &alignment, why);

    g->tensors = calloc((size_t)count + 1, sizeof *g->tensors);
    if (!g->tensors || !offsets)
        err = engine_problem_set(why, ENGINE_E_MEMORY, "GGUF: no memory for %llu tensors", (unsigned long long)count);
    for (uint64_t i = 0; i < count && err == ENGINE_OK; i++)
        err = read_tensor(r, &g->tensors[i], &offsets[i], why);
    if (err == ENGINE_OK) { /* the data section starts at the next multiple of the alignment */
        size_t used = file_len - r->rest.len, pad = (size_t)(-used & (alignment - 1));
        struct span section = reader_span(r, pad < r->rest.len ? pad : r->rest.len);
        section = r->rest;
        g->tensor_count = (size_t)count;
        for (uint64_t i = 0; i < count && err == ENGINE_OK; i++)
            err = place_tensor(&g->tensors[i], offsets[i], section, alignment, why);
    }
    free(offsets);
    return err == ENGINE_OK ? check_tensors(g, why) : err;
}

static enum engine_err parse(struct engine_gguf *g, struct span bytes, struct engine_problem *why)
{
    struct reader r = reader_over(bytes);
    struct span magic = reader_span(&r, 4);
    uint32_t version = reader_u32le(&r);
    uint64_t tensors = reader_u64le(&r), keys = reader_u64le(&r);

    if (!span_is(magic, "GGUF"))
        return engine_problem_set(why, ENGINE_E_FORMAT, "not a GGUF file (it does not start with \"GGUF\")");
    if (r.err != READER_OK)
        return engine_problem_set(why, ENGINE_E_TRUNCATED, "GGUF: the file ends inside its header");
    if (version != 3 && version != 2)
        return engine_problem_set(why, ENGINE_E_UNSUPPORTED, "GGUF: version %u; 2 and 3 are supported", version);
    if (tensors > ENGINE_GGUF_TENSORS_MAX || keys > ENGINE_GGUF_KEYS_MAX)
        return engine_problem_set(why, ENGINE_E_LIMIT, "GGUF: %llu tensors and %llu keys; at most %d of each",
                                  (unsigned long long)tensors, (unsigned long long)keys, ENGINE_GGUF_KEYS_MAX);
    enum engine_err err = read_keys(&r, g, keys, why);
    return err == ENGINE_OK ? read_tensors(&r, g, tensors, bytes.len, why) : err;
}

static struct engine_gguf *parse_one(struct span bytes, struct engine_problem *why)
{
    struct engine_gguf *g = calloc(1, sizeof *g);
    if (!g) {
        engine_problem_set(why, ENGINE_E_MEMORY, "GGUF: no memory");
        return NULL;
    }
    if (parse(g, bytes, why) != ENGINE_OK) {
        engine_gguf_close(g);
        return NULL;
    }
    return g;
}

/* What part `no` (from 0) says of the set. A file without these keys is whole by itself. */
static enum engine_err check_split(const struct engine_gguf *g, size_t no, size_t count, uint64_t *tensors,
                                   struct engine_problem *why)
{
    uint64_t says_no = 0, says_count = 1;
    bool split = engine_gguf_u64(g, "split.count", &says_count), placed = engine_gguf_u64(g, "split.no", &says_no),
         counted = engine_gguf_u64(g, "split.tensors.count", tensors);

    if (!split && engine_gguf_find(g, "split.count"))
        return engine_problem_set(why, ENGINE_E_TYPE, "GGUF: key split.count is no count");
    if (says_count != count && !(says_count == 0 && count == 1))
        return engine_problem_set(why, ENGINE_E_MISSING,
                                  "GGUF: split.count of part %zu is %llu, and there are %zu parts", no + 1,
                                  (unsigned long long)says_count, count);
    if (count > 1 && (!placed || says_no != no))
        return engine_problem_set(why, ENGINE_E_RANGE, "GGUF: split.no of part %zu is not %zu", no + 1, no);
    if (count > 1 && !counted)
        return engine_problem_set(why, ENGINE_E_MISSING, "GGUF: part %zu has no split.tensors.count", no + 1);
    return ENGINE_OK;
}

/* Move the tensors of `part` to the end of `g`. */
static enum engine_err take_part(struct engine_gguf *g, const struct engine_gguf *part, struct engine_problem *why)
{
    size_t all = g->tensor_count + part->tensor_count;
    struct engine_gguf_tensor *grown =
        all <= ENGINE_GGUF_TENSORS_MAX ? realloc(g->tensors, (all + 1) * sizeof *grown) : NULL;
    if (!grown)
        return engine_problem_set(why, ENGINE_E_LIMIT, "GGUF: the parts hold %zu tensors; at most %d fit", all,
                                  ENGINE_GGUF_TENSORS_MAX);
    memcpy(grown + g->tensor_count, part->tensors, part->tensor_count * sizeof *grown);
    g->tensors = grown;
    g->tensor_count = all;
    return ENGINE_OK;
}

static enum engine_err parse_parts(struct engine_gguf **out, const struct span *parts, size_t count,
                                   struct engine_problem *why)
{
    enum engine_err err = ENGINE_OK;
    uint64_t tensors = 0, other = 0;

    for (size_t i = 0; i < count && err == ENGINE_OK; i++) {
        struct engine_gguf *g = parse_one(parts[i], why);
        err = g ? check_split(g, i, count, i ? &other : &tensors, why) : why->code;
        if (err == ENGINE_OK && i > 0)
            err = other == tensors ? take_part(*out, g, why)
                                   : engine_problem_set(why, ENGINE_E_RANGE,
                                                        "GGUF: split.tensors.count of part %zu is another", i + 1);
        if (i == 0)
            *out = g;
        else
            engine_gguf_close(g);
    }
    if (err == ENGINE_OK && count > 1 && (*out)->tensor_count != tensors)
        err = engine_problem_set(why, ENGINE_E_MISSING, "GGUF: split.tensors.count is %llu, the parts hold %zu",
                                 (unsigned long long)tensors, (*out)->tensor_count);
    return err == ENGINE_OK && count > 1 ? sort_tensors(*out, why) : err;
}

struct engine_gguf *engine_gguf_parse_parts(const struct span *parts, size_t count, struct engine_problem *why)
{
    struct engine_problem local = {ENGINE_OK, ""};
    struct engine_gguf *g = NULL;
    if (parse_parts(&g, parts, count, &local) == ENGINE_OK)
        return g;
    engine_problem_set(why, local.code, "%s", local.text);
    engine_gguf_close(g);
    return NULL;
}

struct engine_gguf *engine_gguf_parse(struct span bytes, struct engine_problem *why)
{
    return engine_gguf_parse_parts(&bytes, 1, why);
}

void engine_gguf_close(struct engine_gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->key_count; i++)
        free((void *)(uintptr_t)g->keys[i].strings);
    free(g->keys);
    free(g->tensors);
    free(g);
}

/* --- look-up --------------------------------------------------------------------------------------- */

size_t engine_gguf_key_count(const struct engine_gguf *g)
{
    return g->key_count;
}

const struct engine_gguf_value *engine_gguf_key(const struct engine_gguf *g, size_t index)
{
    return index < g->key_count ? &g->keys[index] : NULL;
}

const struct engine_gguf_value *engine_gguf_find(const struct engine_gguf *g, const char *key)
{
    struct engine_gguf_value wanted = {.key = span_str(key)};
    return bsearch(&wanted, g->keys, g->key_count, sizeof *g->keys, key_compare);
}

size_t engine_gguf_tensor_count(const struct engine_gguf *g)
{
    return g->tensor_count;
}

const struct engine_gguf_tensor *engine_gguf_tensor(const struct engine_gguf *g, size_t index)
{
    return index < g->tensor_count ? &g->tensors[index] : NULL;
}

const struct engine_gguf_tensor *engine_gguf_tensor_find(const struct engine_gguf *g, const char *name)
{
    struct engine_gguf_tensor wanted = {.name = span_str(name)};
    return bsearch(&wanted, g->tensors, g->tensor_count, sizeof *g->tensors, tensor_compare);
}

/* --- values ---------------------------------------------------------------------------------------- */

/* Element `index` as little-endian bits, zero-extended. */
static bool raw_at(const struct engine_gguf_value *v, uint64_t index, uint64_t *out)
{
    if (!v || index >= v->count || v->element == ENGINE_GGUF_STRING)
        return false;
    size_t size = scalar_size(v->element);
    *out = 0;
    memcpy(out, v->bytes.data + (size_t)index * size, size); /* we run on little-endian machines only */
    return true;
}

bool engine_gguf_at_str(const struct engine_gguf_value *v, uint64_t index, struct span *out)
{
    if (!v || index >= v->count || !v->strings)
        return false;
    *out = v->strings[index];
    return true;
}

bool engine_gguf_at_i64(const struct engine_gguf_value *v, uint64_t index, int64_t *out)
{
    uint64_t raw;
    if (!raw_at(v, index, &raw))
        return false;
    switch (v->element) {
    case ENGINE_GGUF_I8:
        *out = (int8_t)raw;
        return true;
    case ENGINE_GGUF_I16:
        *out = (int16_t)raw;
        return true;
    case ENGINE_GGUF_I32:
        *out = (int32_t)raw;
        return true;
    case ENGINE_GGUF_U8:
    case ENGINE_GGUF_U16:
    case ENGINE_GGUF_U32:
    case ENGINE_GGUF_I64:
        *out = (int64_t)raw;
        return true;
    case ENGINE_GGUF_U64:
        *out = (int64_t)raw;
        return raw <= INT64_MAX;
    default:
        return false;
    }
}

bool engine_gguf_at_u64(const struct engine_gguf_value *v, uint64_t index, uint64_t *out)
{
    int64_t value;
    if (v && v->element == ENGINE_GGUF_U64)
        return raw_at(v, index, out);
    if (!engine_gguf_at_i64(v, index, &value) || value < 0)
        return false;
    *out = (uint64_t)value;
    return true;
}

bool engine_gguf_at_f64(const struct engine_gguf_value *v, uint64_t index, double *out)
{
    uint64_t raw;
    int64_t whole;
    if (!raw_at(v, index, &raw))
        return false;
    if (v->element == ENGINE_GGUF_F32) {
        float single;
        memcpy(&single, &raw, sizeof single);
        *out = (double)single;
        return true;
    }
    if (v->element == ENGINE_GGUF_F64) {
        memcpy(out, &raw, sizeof *out);
        return true;
    }
    if (!engine_gguf_at_i64(v, index, &whole))
        return false;
    *out = (double)whole;
    return true;
}

bool engine_gguf_at_bool(const struct engine_gguf_value *v, uint64_t index, bool *out)
{
    uint64_t raw;
    if (!v || v->element != ENGINE_GGUF_BOOL || !raw_at(v, index, &raw) || raw > 1)
        return false;
    *out = raw == 1;
    return true;
}

static const struct engine_gguf_value *scalar(const struct engine_gguf *g, const char *key)
{
    const struct engine_gguf_value *v = engine_gguf_find(g, key);
    return v && v->type != ENGINE_GGUF_ARRAY ? v : NULL;
}

bool engine_gguf_str(const struct engine_gguf *g, const char *key, struct span *out)
{
    return engine_gguf_at_str(scalar(g, key), 0, out);
}

bool engine_gguf_u64(const struct engine_gguf *g, const char *key, uint64_t *out)
{
    return engine_gguf_at_u64(scalar(g, key), 0, out);
}

bool engine_gguf_i64(const struct engine_gguf *g, const char *key, int64_t *out)
{
    return engine_gguf_at_i64(scalar(g, key), 0, out);
}

bool engine_gguf_f64(const struct engine_gguf *g, const char *key, double *out)
{
    return engine_gguf_at_f64(scalar(g, key), 0, out);
}

bool engine_gguf_bool(const struct engine_gguf *g, const char *key, bool *out)
{
    return engine_gguf_at_bool(scalar(g, key), 0, out);
}
