#include "tunnel/openai_fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void fields_refuse(struct fields *f, const char *param, const char *format, ...)
{
    char text[400];
    va_list args;
    if (f->bad)
        return;
    f->bad = true;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    openai_error_set(f->why, 400, "invalid_request_error", NULL, param, "%s", text);
}

json_t *fields_get(struct fields *f, const char *name)
{
    json_t *v = f->bad ? NULL : json_object_get(f->object, name);
    return v && !json_is_null(v) ? v : NULL;
}

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return names[json_typeof(v)];
}

void fields_bool(struct fields *f, const char *name, bool *out)
{
    json_t *v = fields_get(f, name);
    if (v && !json_is_boolean(v))
        fields_refuse(f, name, "%s must be true or false, got %s", name, type_name(v));
    else if (v)
        *out = json_is_true(v);
}

void fields_real(struct fields *f, const char *name, double min, double max, double *out)
{
    json_t *v = fields_get(f, name);
    if (!v)
        return;
    if (!json_is_number(v)) {
        fields_refuse(f, name, "%s must be a number, got %s", name, type_name(v));
        return;
    }
    double x = json_number_value(v);
    if (!isfinite(x) || x < min || x > max)
        fields_refuse(f, name, "%s must be from %g to %g, got %g", name, min, max, x);
    else
        *out = x;
}

bool fields_int(struct fields *f, const char *name, json_int_t min, json_int_t max, json_int_t *out)
{
    json_t *v = fields_get(f, name);
    if (!v)
        return false;
    if (!json_is_integer(v)) {
        fields_refuse(f, name, "%s must be an integer, got %s", name, type_name(v));
        return false;
    }
    json_int_t x = json_integer_value(v);
    if (x < min)
        fields_refuse(f, name, "%s must be at least %lld, got %lld", name, (long long)min, (long long)x);
    else if (x > max)
        fields_refuse(f, name, "%s must be at most %lld, got %lld", name, (long long)max, (long long)x);
    else
        *out = x;
    return !f->bad;
}

void fields_u32(struct fields *f, const char *name, json_int_t min, json_int_t max, uint32_t *out)
{
    json_int_t x;
    if (fields_int(f, name, min, max, &x))
        *out = (uint32_t)x;
}

void fields_text(struct fields *f, const char *name, size_t min, size_t max, struct span *out)
{
    json_t *v = fields_get(f, name);
    if (!v)
        return;
    if (!json_is_string(v))
        fields_refuse(f, name, "%s must be a string, got %s", name, type_name(v));
    else if (json_string_length(v) < min || json_string_length(v) > max)
        fields_refuse(f, name, "%s must have %zu to %zu bytes, got %zu", name, min, max, json_string_length(v));
    else
        *out = span_of(json_string_value(v), json_string_length(v));
}

char *fields_dump(struct fields *f, const char *name, json_type type, struct span *out)
{
    json_t *v = fields_get(f, name);
    if (!v)
        return NULL;
    if (json_typeof(v) != type) {
        fields_refuse(f, name, "%s must be %s, got %s", name, type == JSON_ARRAY ? "an array" : "an object",
                      type_name(v));
        return NULL;
    }
    char *text = json_dumps(v, JSON_COMPACT);
    if (!text)
        fields_refuse(f, name, "%s is too large to be served", name);
    else
        *out = span_str(text);
    return text;
}

static bool is_off(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_STRING:
        return json_string_length(v) == 0;
    case JSON_INTEGER:
    case JSON_REAL:
        return fpclassify(json_number_value(v)) == FP_ZERO;
    default:
        return !json_is_true(v);
    }
}

void fields_unsupported(struct fields *f, const char *name)
{
    json_t *v = fields_get(f, name);
    if (v && !is_off(v))
        fields_refuse(f, name, "%s is not supported by this server: leave it out", name);
}
