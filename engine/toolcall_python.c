/* toolcall_python.c - calls written as Python: [f(a=1, b="x"), g()] becomes OpenAI's JSON. Only literals: numbers,
 * texts, True, False, None, lists, tuples, dictionaries. What comes out is checked as JSON by whoever asked. */
#include "engine/toolcall_python.h"

enum { DEPTH_MAX = 64 };

struct python {
    struct span rest;
    struct writer *json;
    int depth;
};

static bool value(struct python *p);

static void skip_blank(struct python *p)
{
    while (p->rest.len > 0 && memchr(" \t\r\n", p->rest.data[0], 4))
        p->rest = span_of(p->rest.data + 1, p->rest.len - 1);
}

static bool at(const struct python *p, char c)
{
    return p->rest.len > 0 && p->rest.data[0] == (uint8_t)c;
}

static bool take(struct python *p, char c)
{
    skip_blank(p);
    if (!at(p, c))
        return false;
    p->rest = span_of(p->rest.data + 1, p->rest.len - 1);
    skip_blank(p);
    return true;
}

static bool is_word(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c >= 0x80;
}

/* Letters, digits and `also`. */
static struct span word(struct python *p, const char *also)
{
    struct span s = span_of(p->rest.data, 0);
    while (s.len < p->rest.len && (is_word(p->rest.data[s.len]) || strchr(also, p->rest.data[s.len])))
        s.len++;
    p->rest = span_of(p->rest.data + s.len, p->rest.len - s.len);
    return s;
}

static void put_byte(struct writer *w, uint8_t c)
{
    if (c < 0x20 || c == '"' || c == '\\')
        writer_printf(w, "\\u%04x", c);
    else
        writer_u8(w, c);
}

/* After a backslash. Returns how many bytes it took, 0 when it is no escape that we know. */
static size_t escape(struct writer *w, struct span s)
{
    static const char from[] = "nrtbf0'\"\\/", to[] = "\n\r\t\b\f\0'\"\\/";
    const char *known = s.len > 0 && s.data[0] ? strchr(from, s.data[0]) : NULL;
    size_t hex = s.len > 0 && s.data[0] == 'x' ? 2 : s.len > 0 && s.data[0] == 'u' ? 4 : 0;
    if (known) {
        put_byte(w, (uint8_t)to[known - from]);
        return 1;
    }
    if (hex == 0 || s.len < 1 + hex)
        return 0;
    writer_str(w, hex == 2 ? "\\u00" : "\\u");
    writer_bytes(w, span_of(s.data + 1, hex)); /* no hex digits: no JSON, so no call */
    return 1 + hex;
}

static bool text(struct python *p)
{
    uint8_t quote = p->rest.data[0];
    size_t i = 1;
    writer_u8(p->json, '"');
    while (i < p->rest.len && p->rest.data[i] != quote) {
        if (p->rest.data[i] != '\\') {
            put_byte(p->json, p->rest.data[i++]);
            continue;
        }
        size_t used = escape(p->json, span_of(p->rest.data + i + 1, p->rest.len - i - 1));
        if (used == 0)
            return false;
        i += 1 + used;
    }
    writer_u8(p->json, '"');
    if (i == p->rest.len)
        return false;
    p->rest = span_of(p->rest.data + i + 1, p->rest.len - i - 1);
    return true;
}

/* Values up to `close`, a comma between them; `keys`: each after a text and a colon. */
static bool values(struct python *p, char close, bool keys)
{
    writer_str(p->json, keys ? "{" : "[");
    for (bool first = true; !take(p, close); first = false) {
        if (!first && !take(p, ','))
            return false;
        if (!first && take(p, close)) /* a comma may come last */
            break;
        writer_str(p->json, first ? "" : ",");
        if (keys && (!(at(p, '"') || at(p, '\'')) || !text(p) || !take(p, ':')))
            return false;
        writer_str(p->json, keys ? ":" : "");
        if (!value(p))
            return false;
    }
    writer_str(p->json, keys ? "}" : "]");
    return true;
}

static bool name_or_number(struct python *p)
{
    static const char *const names[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                                           {"true", "true"}, {"false", "false"}, {"null", "null"}};
    struct span s = word(p, "+-.");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_is(s, names[i][0])) {
            writer_str(p->json, names[i][1]);
            return true;
        }
    writer_bytes(p->json, s); /* whether it is a number, JSON says */
    return s.len > 0 && (s.data[0] == '-' || (s.data[0] >= '0' && s.data[0] <= '9'));
}

static bool value(struct python *p)
{
    bool good;
    if (++p->depth > DEPTH_MAX)
        return false;
    skip_blank(p);
    if (at(p, '"') || at(p, '\''))
        good = text(p);
    else if (take(p, '['))
        good = values(p, ']', false);
    else if (take(p, '('))
        good = values(p, ')', false);
    else if (take(p, '{'))
        good = values(p, '}', true);
    else
        good = name_or_number(p);
    p->depth--;
    return good;
}

/* name(key=value, ..) */
static bool call(struct python *p)
{
    struct span name = word(p, ".-");
    if (name.len == 0 || !take(p, '('))
        return false;
    writer_str(p->json, "{\"name\":\"");
    writer_bytes(p->json, name);
    writer_str(p->json, "\",\"arguments\":{");
    for (bool first = true; !take(p, ')'); first = false) {
        if (!first && !take(p, ','))
            return false;
        if (!first && take(p, ')'))
            break;
        struct span key = word(p, "");
        writer_str(p->json, first ? "\"" : ",\"");
        writer_bytes(p->json, key);
        writer_str(p->json, "\":");
        if (key.len == 0 || !take(p, '=') || !value(p))
            return false;
    }
    writer_str(p->json, "}}");
    return true;
}

bool toolcall_from_python(struct span calls, struct writer *json)
{
    struct python p = {.rest = calls, .json = json};
    if (!take(&p, '['))
        return false;
    writer_str(json, "[");
    for (bool first = true; !take(&p, ']'); first = false) {
        if (!first && !take(&p, ','))
            return false;
        writer_str(json, first ? "" : ",");
        if (!call(&p))
            return false;
    }
    writer_str(json, "]");
    return p.rest.len == 0 && writer_ok(json);
}
