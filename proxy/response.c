#include "proxy/response.h"

#include <strings.h>

enum { FIELD_LINE_MAX = 4096, CHUNK_LINE_MAX = 256, TRAILER_MAX = 4096 };

void response_init(struct response *r, bool to_head)
{
    memset(r, 0, sizeof *r);
    r->no_body = to_head;
}

static void fail(struct response *r, enum response_err err)
{
    if (r->err == RESPONSE_OK)
        r->err = err;
}

/* Collect a line up to CR LF. True when r->line holds a whole one (without its end); `*used` counts what was taken. */
static bool take_line(struct response *r, struct span in, size_t *used, size_t max, enum response_err err)
{
    while (*used < in.len) {
        char c = (char)in.data[(*used)++];
        if (c == '\n') {
            if (r->line_len == 0 || r->line[r->line_len - 1] != '\r') {
                fail(r, err);
                return false;
            }
            r->line[--r->line_len] = 0;
            return true;
        }
        if (c == 0 || (r->line_len > 0 && r->line[r->line_len - 1] == '\r') || r->line_len >= max) {
            fail(r, err);
            return false;
        }
        r->line[r->line_len++] = c;
    }
    return false;
}

/* --- head -------------------------------------------------------------------------------------------- */

static void status_line(struct response *r)
{
    const char *l = r->line;

    if (r->line_len < 12 || memcmp(l, "HTTP/1.", 7) != 0 || (l[7] != '0' && l[7] != '1') || l[8] != ' ' || l[9] < '1' ||
        l[9] > '5' || l[10] < '0' || l[10] > '9' || l[11] < '0' || l[11] > '9' || (r->line_len > 12 && l[12] != ' ')) {
        fail(r, RESPONSE_E_HEAD);
        return;
    }
    r->status = (l[9] - '0') * 100 + (l[10] - '0') * 10 + (l[11] - '0');
    r->keep_alive = l[7] == '1';
}

static void keep(char *out, size_t cap, struct span value)
{
    if (value.len >= cap)
        return;
    memcpy(out, value.data, value.len);
    out[value.len] = 0;
}

static void length_field(struct response *r, struct span value)
{
    uint64_t n = 0;

    if (r->has_length || value.len == 0 || value.len > 15)
        fail(r, RESPONSE_E_FRAMING);
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            fail(r, RESPONSE_E_FRAMING);
        n = n * 10 + (uint64_t)(value.data[i] - '0');
    }
    r->has_length = true;
    r->left = n;
}

static bool is(struct span s, const char *name)
{
    return s.len == strlen(name) && strncasecmp((const char *)s.data, name, s.len) == 0;
}

static void field_line(struct response *r)
{
    char *colon = memchr(r->line, ':', r->line_len);
    struct span name, value;

    if (!colon || colon == r->line || r->line[0] == ' ' || r->line[0] == '\t' || colon[-1] == ' ' ||
        colon[-1] == '\t') {
        fail(r, RESPONSE_E_HEAD);
        return;
    }
    name = span_of(r->line, (size_t)(colon - r->line));
    value = span_of(colon + 1, r->line_len - name.len - 1);
    while (value.len > 0 && (value.data[0] == ' ' || value.data[0] == '\t'))
        value.data++, value.len--;
    while (value.len > 0 && (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t'))
        value.len--;
    if (is(name, "content-length")) {
        length_field(r, value);
    } else if (is(name, "transfer-encoding")) {
        if (r->chunked || !is(value, "chunked"))
            fail(r, RESPONSE_E_FRAMING);
        r->chunked = true;
    } else if (is(name, "connection")) {
        r->keep_alive = r->keep_alive && !is(value, "close");
    } else if (is(name, "content-type")) {
        keep(r->content_type, sizeof r->content_type, value);
    } else if (is(name, "retry-after")) {
        keep(r->retry_after, sizeof r->retry_after, value);
    } else if (is(name, "x-request-id")) {
        keep(r->request_id, sizeof r->request_id, value);
    } else if (is(name, "allow")) {
        keep(r->allow, sizeof r->allow, value);
    } else if (is(name, "www-authenticate")) {
        keep(r->www_authenticate, sizeof r->www_authenticate, value);
    }
}

/* The empty line: what follows? Interim answers (100 Continue) are skipped. */
static void head_end(struct response *r)
{
    if (r->status == 101)
        fail(r, RESPONSE_E_HEAD);
    else if (r->status < 200)
        response_init(r, r->no_body);
    if (r->status < 200)
        return;
    if (r->chunked && r->has_length)
        fail(r, RESPONSE_E_FRAMING);
    if (r->no_body || r->status == 204 || r->status == 304 || (r->has_length && r->left == 0)) {
        r->state = RESPONSE_DONE;
    } else if (r->chunked) {
        r->state = RESPONSE_SIZE;
    } else if (r->has_length) {
        r->state = RESPONSE_LENGTH;
    } else {
        r->state = RESPONSE_TO_END;
        r->keep_alive = false;
    }
}

static void head_line(struct response *r)
{
    r->head_len += r->line_len + 2;
    if (r->head_len > RESPONSE_HEAD_MAX)
        fail(r, RESPONSE_E_HEAD);
    else if (r->status == 0)
        status_line(r);
    else if (r->line_len == 0)
        head_end(r);
    else
        field_line(r);
    r->line_len = 0;
}

/* --- chunks ------------------------------------------------------------------------------------------ */

/* 1 to 12 hex digits; an extension after ';' is skipped. */
static void size_line(struct response *r)
{
    uint64_t n = 0;
    size_t i = 0;

    for (; i < r->line_len && i < 13; i++) {
        char c = r->line[i];
        if (c >= '0' && c <= '9')
            n = n * 16 + (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            n = n * 16 + (uint64_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            n = n * 16 + (uint64_t)(c - 'A' + 10);
        else
            break;
    }
    if (i == 0 || i > 12 || (i < r->line_len && r->line[i] != ';'))
        fail(r, RESPONSE_E_CHUNK);
    r->left = n;
    r->state = n == 0 ? RESPONSE_TRAILER : RESPONSE_DATA;
    r->line_len = 0;
    r->head_len = 0;
}

static void data_end_line(struct response *r)
{
    if (r->line_len != 0)
        fail(r, RESPONSE_E_CHUNK);
    r->state = RESPONSE_SIZE;
    r->line_len = 0;
}

static void trailer_line(struct response *r)
{
    r->head_len += r->line_len + 2;
    if (r->line_len == 0)
        r->state = RESPONSE_DONE;
    else if (r->head_len > TRAILER_MAX)
        fail(r, RESPONSE_E_CHUNK);
    r->line_len = 0;
}

/* --- all --------------------------------------------------------------------------------------------- */

static size_t take_body(struct response *r, struct span in, struct span *body)
{
    size_t n = in.len;

    if (r->state != RESPONSE_TO_END && n > r->left)
        n = (size_t)r->left;
    *body = span_of(in.data, n);
    if (r->state == RESPONSE_TO_END)
        return n;
    r->left -= n;
    if (r->left == 0)
        r->state = r->state == RESPONSE_LENGTH ? RESPONSE_DONE : RESPONSE_DATA_END;
    return n;
}

size_t response_feed(struct response *r, struct span in, struct span *body)
{
    size_t used = 0;

    *body = span_of(NULL, 0);
    while (used < in.len && r->err == RESPONSE_OK && r->state != RESPONSE_DONE) {
        switch (r->state) {
        case RESPONSE_HEAD:
            if (take_line(r, in, &used, FIELD_LINE_MAX, RESPONSE_E_HEAD))
                head_line(r);
            break;
        case RESPONSE_SIZE:
            if (take_line(r, in, &used, CHUNK_LINE_MAX, RESPONSE_E_CHUNK))
                size_line(r);
            break;
        case RESPONSE_DATA_END:
            if (take_line(r, in, &used, 2, RESPONSE_E_CHUNK))
                data_end_line(r);
            break;
        case RESPONSE_TRAILER:
            if (take_line(r, in, &used, TRAILER_MAX, RESPONSE_E_CHUNK))
                trailer_line(r);
            break;
        default:
            used += take_body(r, span_of(in.data + used, in.len - used), body);
            return used;
        }
    }
    return r->err == RESPONSE_OK ? used : in.len;
}

void response_eof(struct response *r)
{
    if (r->err != RESPONSE_OK || r->state == RESPONSE_DONE)
        return;
    if (r->state == RESPONSE_TO_END)
        r->state = RESPONSE_DONE;
    else
        fail(r, RESPONSE_E_TRUNCATED);
}

const char *response_err_text(enum response_err err)
{
    static const char *const texts[] = {
        [RESPONSE_OK] = "ok",
        [RESPONSE_E_HEAD] = "the answer's head is malformed",
        [RESPONSE_E_FRAMING] = "the answer's framing is ambiguous",
        [RESPONSE_E_CHUNK] = "the answer's chunks are malformed",
        [RESPONSE_E_TRUNCATED] = "the connection ended inside the answer",
    };

    return texts[err];
}
