#include "tunnel/json.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "verifier/base/utf8.h"

/* jansson's free() does not know a block's size, so each block starts with it. */
union header {
    size_t len;
    max_align_t align;
};

static void *wiped_malloc(size_t len)
{
    if (len > SIZE_MAX - sizeof(union header))
        return NULL;
    union header *h = malloc(sizeof *h + len);
    if (!h)
        return NULL;
    h->len = len;
    return h + 1;
}

static void wiped_free(void *block)
{
    if (!block)
        return;
    union header *h = (union header *)block - 1;
    OPENSSL_cleanse(block, h->len);
    free(h);
}

void tunnel_json_wipe_memory(void)
{
    json_set_alloc_funcs(wiped_malloc, wiped_free);
}

void tunnel_json_free(char *text)
{
    json_malloc_t unused;
    json_free_t release;
    json_get_alloc_funcs(&unused, &release);
    release(text);
}

/* How deep `text` nests and how many values it has, counted outside strings; it may be no JSON at all. */
static size_t measure(struct span text, size_t *values)
{
    size_t depth = 0, deepest = 0;
    bool quoted = false;
    *values = 1;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{'))
            deepest = ++depth > deepest ? depth : deepest;
        else if (!quoted && (c == ']' || c == '}') && depth > 0)
            depth--;
        *values += !quoted && (c == ',' || c == '[' || c == '{');
    }
    return deepest;
}

json_t *tunnel_json_parse(struct span text, char *why, size_t cap)
{
    json_error_t error;
    size_t values, depth = measure(text, &values);
    if (values > TUNNEL_JSON_VALUES_MAX) {
        (void)snprintf(why, cap, "the JSON has more than %d values", TUNNEL_JSON_VALUES_MAX);
        return NULL;
    }
    if (depth > TUNNEL_JSON_DEPTH_MAX) {
        (void)snprintf(why, cap, "the JSON is nested more than %d deep", TUNNEL_JSON_DEPTH_MAX);
        return NULL;
    }
    json_t *value = json_loadb(text.data ? (const char *)text.data : "", text.len, JSON_REJECT_DUPLICATES, &error);
    if (value)
        return value;
    const char *what = "is not valid JSON";
    switch (json_error_code(&error)) {
    case json_error_invalid_utf8:
        what = "is not valid UTF-8";
        break;
    case json_error_duplicate_key:
        what = "has a repeated key";
        break;
    case json_error_numeric_overflow:
        what = "has a number that does not fit 64 bits or a double";
        break;
    case json_error_null_character:
    case json_error_null_byte_in_key:
        what = "has a NUL character (\\u0000), which is not served";
        break;
    case json_error_premature_end_of_input:
        what = "ends too early";
        break;
    case json_error_end_of_input_expected:
        what = "has something after the JSON value";
        break;
    default:
        break;
    }
    (void)snprintf(why, cap, "the body %s (line %d, column %d)", what, error.line, error.column);
    return NULL;
}

json_t *tunnel_json_text(struct span s)
{
    if (utf8_is_valid(s))
        return json_stringn(s.data ? (const char *)s.data : "", s.len);
    struct writer w = writer_with_max(s.len * 3 + 1);
    while (s.len > 0) {
        size_t n = utf8_step(s);
        if (n > 0)
            writer_bytes(&w, span_of(s.data, n));
        else
            writer_str(&w, "\xef\xbf\xbd");
        n = n > 0 ? n : 1;
        s = span_of(s.data + n, s.len - n);
    }
    struct span clean = writer_span(&w);
    json_t *text = json_stringn((const char *)clean.data, clean.len);
    writer_release(&w);
    return text;
}

static int append(const char *bytes, size_t len, void *data)
{
    struct writer *w = data;
    writer_bytes(w, span_of(bytes, len));
    return writer_ok(w) ? 0 : -1;
}

void tunnel_json_write(struct writer *out, json_t *value)
{
    if (!value || json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        out->bad = true;
    json_decref(value);
}
