/* safetensors.c - header JSON to a table sorted by name. */
#include "engine/safetensors.h"

#include "verifier/base/reader.h"

#include <jansson.h>
#include <stdlib.h>

struct range {
    uint64_t from, to;
    const char *name;
};

struct engine_safetensors {
    json_t *header; /* owns the names */
    struct engine_safetensor *tensor;
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct engine_safetensor *)a)->name, ((const struct engine_safetensor *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* Bytes of an element; 0: a type we do not know. */
static uint64_t element_size(const char *dtype, struct engine_safetensor *t)
{
    static const struct {
        const char *name;
        uint64_t size;
        enum engine_safetensor_kind kind;
        enum kern_type type;
    } types[] = {{"F32", 4, ENGINE_SAFETENSOR_FLOATS, KERN_F32},   {"F16", 2, ENGINE_SAFETENSOR_FLOATS, KERN_F16},
                 {"BF16", 2, ENGINE_SAFETENSOR_FLOATS, KERN_BF16}, {"U8", 1, ENGINE_SAFETENSOR_BYTES, KERN_F32},
                 {"F64", 8, ENGINE_SAFETENSOR_OTHER, KERN_F32},    {"I64", 8, ENGINE_SAFETENSOR_OTHER, KERN_F32},
                 {"U64", 8, ENGINE_SAFETENSOR_OTHER, KERN_F32},    {"I32", 4, ENGINE_SAFETENSOR_OTHER, KERN_F32},
                 {"U32", 4, ENGINE_SAFETENSOR_OTHER, KERN_F32},    {"I16", 2, ENGINE_SAFETENSOR_OTHER, KERN_F32},
                 {"U16", 2, ENGINE_SAFETENSOR_OTHER, KERN_F32},    {"I8", 1, ENGINE_SAFETENSOR_OTHER, KERN_F32},
                 {"BOOL", 1, ENGINE_SAFETENSOR_OTHER, KERN_F32},   {"F8_E4M3", 1, ENGINE_SAFETENSOR_OTHER, KERN_F32},
                 {"F8_E5M2", 1, ENGINE_SAFETENSOR_OTHER, KERN_F32}};
    for (size_t i = 0; dtype && i < sizeof types / sizeof *types; i++)
        if (strcmp(dtype, types[i].name) == 0) {
            t->kind = types[i].kind;
            t->type = types[i].type;
            return types[i].size;
        }
    return 0;
}

static enum engine_err refuse(struct engine_problem *why, enum engine_err code, const char *name, const char *what)
{
    return engine_problem_set(why, code, "safetensors: tensor %.80s %s", name, what);
}

/* One entry of the header, into the table. */
static enum engine_err read_tensor(struct engine_safetensors *s, const char *name, const json_t *entry,
                                   struct span section, struct range *range, struct engine_problem *why)
{
    struct engine_safetensor t = {.name = name, .dim = {1, 1, 1, 1}};
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    json_int_t from = json_integer_value(json_array_get(offsets, 0)),
               to = json_integer_value(json_array_get(offsets, 1));
    uint64_t size = element_size(json_string_value(json_object_get(entry, "dtype")), &t);

    if (size == 0)
        return refuse(why, ENGINE_E_UNSUPPORTED, name, "has an unknown dtype");
    if (!json_is_array(shape) || json_array_size(shape) > 4 || json_array_size(offsets) != 2 || from < 0 || to < from ||
        !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1)))
        return refuse(why, ENGINE_E_FORMAT, name, "has no usable shape or offsets");
    t.dims = (uint32_t)json_array_size(shape);
    for (uint32_t d = 0; d < t.dims; d++) {
        json_int_t n = json_integer_value(json_array_get(shape, d));
        if (n < 1 || (uint64_t)n > ((uint64_t)1 << 44) / size)
            return refuse(why, ENGINE_E_SHAPE, name, "has an impossible shape");
        t.dim[d] = (uint64_t)n;
        size *= (uint64_t)n;
    }
    if ((uint64_t)to > section.len || size != (uint64_t)(to - from))
        return refuse(why, ENGINE_E_OVERLAP, name, "does not fit its offsets or the file");
    t.data = span_of(section.data + from, (size_t)size);
    *range = (struct range){(uint64_t)from, (uint64_t)to, name};
    s->tensor[s->count++] = t;
    return ENGINE_OK;
}

static enum engine_err read_all(struct engine_safetensors *s, struct span section, struct engine_problem *why)
{
    size_t entries = json_object_size(s->header), used = 0;
    struct range *ranges = calloc(entries + 1, sizeof *ranges);
    enum engine_err err = ENGINE_OK;
    uint64_t expected = 0;
    const char *name;
    json_t *entry;

    if (entries > ENGINE_SAFETENSORS_TENSORS_MAX) {
        free(ranges);
        return engine_problem_set(why, ENGINE_E_LIMIT, "safetensors: %zu tensors in one file; at most %d fit", entries,
                                  ENGINE_SAFETENSORS_TENSORS_MAX);
    }
    s->tensor = calloc(entries + 1, sizeof *s->tensor);
    if (!s->tensor || !ranges) {
        free(ranges);
        return engine_problem_set(why, ENGINE_E_MEMORY, "safetensors: no memory");
    }
    json_object_foreach(s->header, name, entry)
    {
        if (err == ENGINE_OK && strcmp(name, "__metadata__") != 0)
            err = read_tensor(s, name, entry, section, &ranges[used++], why);
    }
    qsort(ranges, used, sizeof *ranges, by_offset);
    for (size_t i = 0; i < used && err == ENGINE_OK; i++) {
        if (ranges[i].from != expected)
            err = refuse(why, ENGINE_E_OVERLAP, ranges[i].name, "overlaps another or leaves a gap");
        expected = ranges[i].to;
    }
    if (err == ENGINE_OK && expected != section.len)
        err = engine_problem_set(why, ENGINE_E_OVERLAP, "safetensors: bytes after the last tensor");
    free(ranges);
    qsort(s->tensor, s->count, sizeof *s->tensor, by_name);
    return err;
}

struct engine_safetensors *engine_safetensors_parse(struct span bytes, struct engine_problem *why)
{
    struct reader r = reader_over(bytes);
    uint64_t length = reader_u64le(&r);
    struct engine_problem local = {ENGINE_OK, ""};
    struct engine_safetensors *s = calloc(1, sizeof *s);

    if (!s) {
        engine_problem_set(&local, ENGINE_E_MEMORY, "safetensors: no memory");
    } else if (r.err != READER_OK || length > ENGINE_SAFETENSORS_HEADER_MAX || length > r.rest.len) {
        engine_problem_set(&local, ENGINE_E_TRUNCATED, "safetensors: the header's length is impossible");
    } else {
        struct span header = reader_span(&r, (size_t)length);
        s->header = json_loadb((const char *)header.data, header.len, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(s->header))
            engine_problem_set(&local, ENGINE_E_FORMAT, "safetensors: the header is not a JSON object");
        else
            (void)read_all(s, r.rest, &local);
    }
    if (local.code == ENGINE_OK)
        return s;
    engine_problem_set(why, local.code, "%s", local.text);
    engine_safetensors_close(s);
    return NULL;
}

void engine_safetensors_close(struct engine_safetensors *s)
{
    if (!s)
        return;
    json_decref(s->header);
    free(s->tensor);
    free(s);
}

const struct engine_safetensor *engine_safetensors_find(const struct engine_safetensors *s, const char *name)
{
    struct engine_safetensor wanted = {.name = name};
    return bsearch(&wanted, s->tensor, s->count, sizeof *s->tensor, by_name);
}

size_t engine_safetensors_count(const struct engine_safetensors *s)
{
    return s->count;
}

const struct engine_safetensor *engine_safetensors_at(const struct engine_safetensors *s, size_t index)
{
    return index < s->count ? &s->tensor[index] : NULL;
}
