#include "proxy/head.h"

#include <strings.h>

static bool is_token_char(uint8_t c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char(s.data[i]))
            return false;
    return s.len > 0;
}

static bool same_name(struct span s, const char *name)
{
    return s.len == strlen(name) && strncasecmp((const char *)s.data, name, s.len) == 0;
}

static struct span trim(struct span s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
        s.data++, s.len--;
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The next line without its CR LF; advances `rest`. HEAD_INCOMPLETE when no line feed is there yet. */
static enum head_err next_line(struct span *rest, struct span *line)
{
    const uint8_t *lf = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;
    size_t len;

    if (!lf)
        return HEAD_INCOMPLETE;
    len = (size_t)(lf - rest->data);
    if (len == 0 || rest->data[len - 1] != '\r' || memchr(rest->data, '\r', len - 1))
        return HEAD_E_BARE_LF;
    *line = span_of(rest->data, len - 1);
    rest->data += len + 1;
    rest->len -= len + 1;
    return HEAD_OK;
}

static enum head_err request_line(struct head *out, struct span line, bool *is_1_1)
{
    const uint8_t *end = line.data + line.len, *sp1 = memchr(line.data, ' ', line.len), *sp2;

    if (!sp1)
        return HEAD_E_LINE;
    sp2 = memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1));
    if (!sp2 || end - sp2 != 9 || memcmp(sp2 + 1, "HTTP/1.", 7) != 0 || (end[-1] != '0' && end[-1] != '1'))
        return HEAD_E_LINE;
    out->method = span_of(line.data, (size_t)(sp1 - line.data));
    out->target = span_of(sp1 + 1, (size_t)(sp2 - sp1 - 1));
    for (size_t i = 0; i < out->target.len; i++)
        if (out->target.data[i] <= ' ' || out->target.data[i] == 0x7f)
            return HEAD_E_LINE;
    *is_1_1 = end[-1] == '1';
    return is_token(out->method) && out->target.len > 0 ? HEAD_OK : HEAD_E_LINE;
}

static enum head_err content_length(struct head *out, struct span value)
{
    if (out->has_length)
        return HEAD_E_LENGTH_TWICE;
    if (value.len == 0 || value.len > 15)
        return HEAD_E_LENGTH;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return HEAD_E_LENGTH;
        out->length = out->length * 10 + (value.data[i] - (uint64_t)'0');
    }
    out->has_length = true;
    return HEAD_OK;
}

static enum head_err field(struct head *out, struct span name, struct span value)
{
    if (same_name(name, "content-length"))
        return content_length(out, value);
    if (same_name(name, "transfer-encoding")) {
        if (out->chunked || !same_name(value, "chunked"))
            return HEAD_E_TRANSFER_CODING;
        out->chunked = true;
    } else if (same_name(name, "host")) {
        if (out->host.data)
            return HEAD_E_HOST;
        out->host = value;
    } else if (same_name(name, "origin")) {
        out->origin = value;
    } else if (same_name(name, "authorization")) {
        out->authorization = value;
    }
    return HEAD_OK;
}

static enum head_err field_line(struct head *out, struct span line)
{
    const uint8_t *colon;
    struct span name, value;

    if (line.data[0] == ' ' || line.data[0] == '\t')
        return HEAD_E_FOLD;
    colon = memchr(line.data, ':', line.len);
    if (!colon)
        return HEAD_E_FIELD;
    name = span_of(line.data, (size_t)(colon - line.data));
    value = trim(span_of(colon + 1, line.len - name.len - 1));
    if (!is_token(name))
        return HEAD_E_FIELD;
    for (size_t i = 0; i < value.len; i++)
        if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
            return HEAD_E_CONTROL;
    return field(out, name, value);
}

enum head_err head_parse(struct head *out, struct span raw)
{
    struct span rest = raw, line = {0};
    bool is_1_1 = false;
    enum head_err err;

    *out = (struct head){0};
    /* RFC 9112 § 2.2: an empty line before the request is skipped. */
    while (rest.len >= 2 && rest.data[0] == '\r' && rest.data[1] == '\n')
        rest.data += 2, rest.len -= 2;
    if ((err = next_line(&rest, &line)) != HEAD_OK || (err = request_line(out, line, &is_1_1)) != HEAD_OK)
        return err;
    for (;;) {
        if ((err = next_line(&rest, &line)) != HEAD_OK)
            return err;
        if (line.len == 0)
            break;
        if ((err = field_line(out, line)) != HEAD_OK)
            return err;
    }
    if (out->chunked && out->has_length)
        return HEAD_E_LENGTH_CODING;
    if (is_1_1 && !out->host.data)
        return HEAD_E_HOST;
    out->size = raw.len - rest.len;
    return HEAD_OK;
}

const char *head_err_text(enum head_err err)
{
    static const char *const texts[] = {
        [HEAD_OK] = "the request head is well formed",
        [HEAD_INCOMPLETE] = "the request head did not end",
        [HEAD_E_LINE] = "the request line is not METHOD TARGET HTTP/1.1",
        [HEAD_E_BARE_LF] = "lines of the request head must end in CR LF",
        [HEAD_E_FOLD] = "folded header lines are not accepted",
        [HEAD_E_FIELD] = "a header line has no name, no colon, or a space before the colon",
        [HEAD_E_CONTROL] = "a header value holds a control character",
        [HEAD_E_HOST] = "exactly one Host header is required",
        [HEAD_E_LENGTH] = "Content-Length must be a number",
        [HEAD_E_LENGTH_TWICE] = "Content-Length was given twice",
        [HEAD_E_LENGTH_CODING] = "Content-Length and Transfer-Encoding must not be given together",
        [HEAD_E_TRANSFER_CODING] = "the only accepted Transfer-Encoding is chunked",
    };

    return texts[err];
}
