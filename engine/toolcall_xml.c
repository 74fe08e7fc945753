/* toolcall_xml.c - reads each byte once, but for a tag that may have begun at the end of the text. */
#include "engine/toolcall_xml.h"

#include <string.h>
#include <strings.h>

#include "engine/grammar.h"
#include "engine/toolcall_text.h"

#define CALL TOOLCALL_CALL
#define CALL_END TOOLCALL_CALL_END
#define FUNCTION TOOLCALL_FUNCTION
#define FUNCTION_END "</function>"
#define PARAMETER TOOLCALL_PARAMETER
#define PARAMETER_END "</parameter>"

enum match { NO, MAYBE, YES };

struct input {
    struct span text;
    bool last;
};

/* Is `word` at this place? */
static enum match match(const struct input *in, size_t at, const char *word)
{
    size_t len = strlen(word), have = in->text.len - at;
    if (memcmp(in->text.data + at, word, have < len ? have : len) != 0)
        return NO;
    return have >= len ? YES : in->last ? NO : MAYBE;
}

/* Is one of the `words` at this place, after some white space? Adds its whole length to `*at`. */
static enum match match_after_blank(const struct input *in, size_t *at, const char *const *words, size_t count)
{
    size_t begin = *at;
    enum match best = NO;
    while (begin < in->text.len && begin - *at < TOOLCALL_XML_BLANK_MAX && toolcall_is_blank(in->text.data[begin]))
        begin++;
    for (size_t i = 0; i < count; i++) {
        enum match m = match(in, begin, words[i]);
        best = m > best ? m : best;
        if (m == YES) {
            *at = begin + strlen(words[i]);
            break;
        }
    }
    return best;
}

/* A name and the > that ends it. */
static enum match name_at(const struct input *in, size_t at, struct toolcall_xml_part *name)
{
    for (size_t i = at; i < in->text.len && i - at <= TOOLCALL_XML_NAME_MAX; i++) {
        uint8_t c = in->text.data[i];
        if (c == '>') {
            *name = (struct toolcall_xml_part){at, i - at};
            return i > at ? YES : NO;
        }
        if (c == '<' || c < 0x20)
            return NO;
    }
    return in->text.len - at > TOOLCALL_XML_NAME_MAX || in->last ? NO : MAYBE;
}

static struct span text_of(struct span text, struct toolcall_xml_part part)
{
    return span_of(text.data + part.at, part.len);
}

/* --- the frame ---------------------------------------------------------------------------------- */

/* `AGAIN`: the state has changed, or a value goes on. */
enum { AGAIN = TOOLCALL_XML_BROKEN + 1 };

static int read_head(struct toolcall_xml *x, const struct input *in)
{
    static const char *const function[] = {FUNCTION};
    enum match first = match(in, 0, CALL);
    size_t at = first == YES ? strlen(CALL) : 0;
    x->at = at > 0 ? at : strlen(FUNCTION); /* no call: only this is content */
    enum match m = first == MAYBE ? MAYBE : match_after_blank(in, &at, function, 1);
    if (m != YES)
        return m == MAYBE ? TOOLCALL_XML_MORE : TOOLCALL_XML_BROKEN;
    enum match named = name_at(in, at, &x->name);
    if (named != YES)
        return named == MAYBE ? TOOLCALL_XML_MORE : TOOLCALL_XML_BROKEN;
    x->state = TOOLCALL_XML_NAME;
    return TOOLCALL_XML_NAMED;
}

static int read_name(struct toolcall_xml *x, const struct input *in)
{
    (void)in;
    x->at = x->name.at + x->name.len + 1;
    x->state = TOOLCALL_XML_BODY;
    return AGAIN;
}

static int read_body(struct toolcall_xml *x, const struct input *in)
{
    while (x->at < in->text.len && toolcall_is_blank(in->text.data[x->at]))
        x->at++;
    enum match parameter = match(in, x->at, PARAMETER), end = match(in, x->at, FUNCTION_END),
               call_end = match(in, x->at, CALL_END);
    if (parameter == YES && x->count < TOOLCALL_XML_PARAMETERS) {
        parameter = name_at(in, x->at + strlen(PARAMETER), &x->parameter[x->count].key);
        if (parameter == YES) {
            const struct toolcall_xml_part *key = &x->parameter[x->count].key;
            x->at = x->parameter[x->count].value.at = key->at + key->len + 1;
            x->doubtful = false;
            x->state = TOOLCALL_XML_VALUE;
            return AGAIN;
        }
    } else if (end == YES) {
        x->at += strlen(FUNCTION_END);
        x->state = TOOLCALL_XML_TAIL;
        return AGAIN;
    } else if (call_end == YES) { /* it means the same */
        x->at += strlen(CALL_END);
        return TOOLCALL_XML_WHOLE;
    } else if (parameter == YES) {
        parameter = NO;
    }
    return parameter == MAYBE || end == MAYBE || call_end == MAYBE ? TOOLCALL_XML_MORE : TOOLCALL_XML_BROKEN;
}

static bool is_written(const struct toolcall_xml *x, struct span text, struct span key)
{
    for (size_t i = 0; i <= x->count; i++) /* with the one whose value is read */
        if (span_equal(text_of(text, x->parameter[i].key), key))
            return true;
    return false;
}

/* Does the next parameter begin here, although nothing ended this one? Only where its name is expected. */
static enum match next_parameter(const struct toolcall_xml *x, const struct input *in, size_t at)
{
    struct toolcall_xml_part part;
    if (at == 0 || in->text.data[at - 1] != '\n')
        return NO;
    enum match m = match(in, at, PARAMETER);
    m = m == YES ? name_at(in, at + strlen(PARAMETER), &part) : m;
    if (m != YES)
        return m;
    struct span key = text_of(in->text, part);
    const json_t *properties = json_object_get(x->schema, "properties");
    return json_object_getn(properties, (const char *)key.data, key.len) && !is_written(x, in->text, key) ? YES : NO;
}

static int value_ends(struct toolcall_xml *x, struct span text, size_t end, size_t next)
{
    struct toolcall_xml_part *value = &x->parameter[x->count++].value;
    value->len = end - value->at;
    if (value->len > 0 && text.data[value->at] == '\n') { /* the frame's */
        value->at++;
        value->len--;
    }
    value->len -= value->len > 0 && text.data[value->at + value->len - 1] == '\n';
    x->at = next;
    x->state = TOOLCALL_XML_BODY;
    return AGAIN;
}

static int read_value(struct toolcall_xml *x, const struct input *in)
{
    static const char *const after[] = {PARAMETER, FUNCTION_END, CALL_END};
    struct span text = in->text;
    const uint8_t *found = x->at < text.len ? memchr(text.data + x->at, '<', text.len - x->at) : NULL;
    x->at = found ? (size_t)(found - text.data) : text.len;
    if (!found)
        return TOOLCALL_XML_MORE;
    size_t end = x->at, next = end + strlen(PARAMETER_END), look = next;
    enum match m = match(in, end, PARAMETER_END), tail;
    if (m == YES) {
        tail = match_after_blank(in, &look, after, 3);
        if (tail == YES)
            return value_ends(x, text, end, next);
        x->doubtful = x->doubtful || tail == NO;
        m = tail;
    } else if (m == NO && !x->doubtful && match(in, end, FUNCTION_END) != NO) { /* nothing ended the value */
        look = end + strlen(FUNCTION_END);
        m = match(in, end, FUNCTION_END) == YES ? match_after_blank(in, &look, after + 2, 1) : MAYBE;
        if (m == YES)
            return value_ends(x, text, end, end);
    } else if (m == NO && !x->doubtful) {
        m = next_parameter(x, in, end);
        if (m == YES)
            return value_ends(x, text, end, end);
    }
    x->at += m == NO;
    return m == NO ? AGAIN : TOOLCALL_XML_MORE;
}

static int read_tail(struct toolcall_xml *x, const struct input *in)
{
    static const char *const call_end[] = {CALL_END};
    const struct input open = {in->text, false};
    size_t at = x->at;
    enum match m = match_after_blank(&open, &at, call_end, 1);
    if (m == MAYBE && !in->last)
        return TOOLCALL_XML_MORE;
    x->at = m == MAYBE ? in->text.len : at; /* cut inside the tag, or as it was, where the tag is missing */
    return TOOLCALL_XML_WHOLE;
}

enum toolcall_xml_got toolcall_xml_read(struct toolcall_xml *x, struct span text, bool last)
{
    static int (*const read[])(struct toolcall_xml *, const struct input *) = {
        [TOOLCALL_XML_HEAD] = read_head,   [TOOLCALL_XML_NAME] = read_name, [TOOLCALL_XML_BODY] = read_body,
        [TOOLCALL_XML_VALUE] = read_value, [TOOLCALL_XML_TAIL] = read_tail,
    };
    const struct input in = {text, last};
    int got = AGAIN;
    while (got == AGAIN)
        got = read[x->state](x, &in);
    if (got == TOOLCALL_XML_MORE && last) {
        got = TOOLCALL_XML_BROKEN;
        x->at = text.len;
    }
    return (enum toolcall_xml_got)got;
}

/* --- values ------------------------------------------------------------------------------------- */

static void put_string(struct writer *w, struct span s)
{
    writer_u8(w, '"');
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] < 0x20 || s.data[i] == '"' || s.data[i] == '\\')
            writer_printf(w, "\\u%04x", s.data[i]);
        else
            writer_u8(w, s.data[i]);
    writer_u8(w, '"');
}

static bool is_word(struct span s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.data, word, s.len) == 0;
}

/* JSON of one of these types. */
static bool is_json(struct span s, unsigned types)
{
    json_t *v = s.len ? json_loadb((const char *)s.data, s.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL) : NULL;
    bool good = v && (engine_grammar_type(v) & types);
    json_decref(v);
    return good;
}

static size_t digits(struct span s, size_t at)
{
    size_t n = 0;
    while (at + n < s.len && s.data[at + n] >= '0' && s.data[at + n] <= '9')
        n++;
    return n;
}

/* A number as Python reads one: a plus sign, zeros before it, and a missing digit beside the point are all right. */
static bool put_number(struct writer *w, struct span s, unsigned types)
{
    size_t from = w->len, at = s.len > 0 && (s.data[0] == '+' || s.data[0] == '-'), n;
    if (at && s.data[0] == '-')
        writer_u8(w, '-');
    bool some = digits(s, at) > 0;
    while (at + 1 < s.len && s.data[at] == '0' && digits(s, at + 1) > 0)
        at++;
    n = digits(s, at);
    writer_bytes(w, n ? span_of(s.data + at, n) : span_str("0"));
    at += n;
    if (at < s.len && s.data[at] == '.') {
        n = digits(s, ++at);
        some = some || n > 0;
        writer_u8(w, '.');
        writer_bytes(w, n ? span_of(s.data + at, n) : span_str("0"));
        at += n;
    }
    writer_bytes(w, span_of(s.data + at, s.len - at)); /* an exponent, or nothing that is a number */
    if (some && writer_ok(w) && is_json(span_of(w->data + from, w->len - from), types))
        return true;
    w->len = from;
    return false;
}

static bool put_boolean(struct writer *w, struct span s)
{
    bool yes = is_word(s, "true") || is_word(s, "1");
    if (yes || is_word(s, "false") || is_word(s, "0"))
        writer_str(w, yes ? "true" : "false");
    return yes || is_word(s, "false") || is_word(s, "0");
}

/* `types`: what the schema names, 0: nothing. */
static void put_value(struct writer *w, struct span value, unsigned types)
{
    struct span s = toolcall_trimmed(value);
    bool text = types == 0 || (types & ENGINE_TYPE_STRING);
    if ((types & ENGINE_TYPE_NULL || !text) && (is_word(s, "null") || is_word(s, "none"))) /* templates write None */
        writer_str(w, "null");
    else if (types & ENGINE_TYPE_NUMBER && put_number(w, s, ENGINE_TYPE_NUMBER | ENGINE_TYPE_WHOLE))
        return;
    else if (types & ENGINE_TYPE_WHOLE && put_number(w, s, ENGINE_TYPE_WHOLE))
        return;
    else if (types & ENGINE_TYPE_BOOLEAN && put_boolean(w, s))
        return;
    else if (is_json(s, text ? types & (ENGINE_TYPE_OBJECT | ENGINE_TYPE_ARRAY) : ~0u))
        writer_bytes(w, s);
    else
        put_string(w, value);
}

static bool is_overwritten(const struct toolcall_xml *x, struct span text, size_t which)
{
    for (size_t i = which + 1; i < x->count; i++)
        if (span_equal(text_of(text, x->parameter[i].key), text_of(text, x->parameter[which].key)))
            return true;
    return false;
}

bool toolcall_xml_arguments(const struct toolcall_xml *x, struct span text, struct writer *json)
{
    const json_t *properties = json_object_get(x->schema, "properties");
    bool first = true;
    int looks = ENGINE_TYPES_LOOKS;
    writer_str(json, "{");
    for (size_t i = 0; i < x->count; i++) {
        struct span key = text_of(text, x->parameter[i].key);
        if (is_overwritten(x, text, i))
            continue;
        const json_t *schema = json_object_getn(properties, (const char *)key.data, key.len);
        writer_str(json, first ? "" : ", ");
        put_string(json, key);
        writer_str(json, ": ");
        put_value(json, text_of(text, x->parameter[i].value), engine_grammar_types(x->schema, schema, &looks));
        first = false;
    }
    writer_str(json, "}");
    return is_json(writer_span(json), ENGINE_TYPE_OBJECT); /* not so where bytes are no UTF-8 */
}
