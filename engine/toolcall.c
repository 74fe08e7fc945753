/* toolcall.c - two stages, each with the text that may still become a marker: reasoning first, then tool calls on what
 * is not reasoning. Harmony is one stage of its own, as its markers are control tokens. */
#include "engine/toolcall.h"

#include <stdlib.h>

#include "engine/toolcall_python.h"

#define THINK "<think>"
#define THINK_END "</think>"
#define CALL "<tool_call>"
#define CALL_END "</tool_call>"
#define CALLS "[TOOL_CALLS]"
#define PYTHON "<|python_tag|>"
#define HEADER_MAX 512u /* bytes of a Harmony message header */

enum think_state {
    THINK_MAYBE, /* <think> may come */
    THINK_BEGIN, /* white space before the thought goes */
    THINK_INSIDE,
    THINK_AFTER, /* white space before the answer goes */
    THINK_OVER
};
enum call_state {
    CALL_OUTSIDE,
    CALL_BEGIN,  /* Llama, Python: nothing but white space yet */
    CALL_INSIDE, /* collecting */
};

struct engine_toolcall {
    struct engine_toolcall_style style;
    const json_t *known; /* the request's tools, borrowed; NULL: any */
    engine_toolcall_part *part;
    void *ctx;
    enum think_state think;
    enum call_state call;
    struct writer thinking; /* text that may become <think> or </think> */
    struct writer held;     /* text that may become a marker, or a tool call so far */
    struct writer blank;    /* white space that goes if a tool call follows */
    uint32_t tools;
    /* Harmony */
    bool in_header;
    enum tunnel_channel_name channel;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static struct span trimmed(struct span s)
{
    while (s.len > 0 && is_blank(s.data[0]))
        s = span_of(s.data + 1, s.len - 1);
    while (s.len > 0 && is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

static bool contains(struct span s, const char *text)
{
    return s.len > 0 && memmem(s.data, s.len, text, strlen(text)) != NULL;
}

static bool starts_with(struct span s, const char *text)
{
    return s.len >= strlen(text) && memcmp(s.data, text, strlen(text)) == 0;
}

static bool ends_with(struct span s, const char *text)
{
    size_t len = strlen(text);
    return s.len >= len && memcmp(s.data + s.len - len, text, len) == 0;
}

/* --- style -------------------------------------------------------------------------------------- */

struct engine_toolcall_style engine_toolcall_style_of(struct span t)
{
    struct engine_toolcall_style style = {ENGINE_TOOLCALL_NONE, contains(t, THINK)};
    if (contains(t, "<|channel|>"))
        return (struct engine_toolcall_style){ENGINE_TOOLCALL_HARMONY, false};
    if (contains(t, CALLS))
        style.tools = ENGINE_TOOLCALL_MISTRAL;
    else if (contains(t, CALL))
        style.tools = ENGINE_TOOLCALL_HERMES;
    else if (contains(t, "<|start_header_id|>") && contains(t, "\"parameters\": "))
        style.tools = ENGINE_TOOLCALL_LLAMA3;
    return style;
}

bool engine_toolcall_format_named(const char *name, enum engine_toolcall_format *out)
{
    static const struct {
        const char *name;
        enum engine_toolcall_format format;
    } names[] = {
        {"none", ENGINE_TOOLCALL_NONE},          {"hermes", ENGINE_TOOLCALL_HERMES},
        {"llama3_json", ENGINE_TOOLCALL_LLAMA3}, {"mistral", ENGINE_TOOLCALL_MISTRAL},
        {"openai", ENGINE_TOOLCALL_HARMONY},     {"pythonic", ENGINE_TOOLCALL_PYTHON},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].format;
            return true;
        }
    return false;
}

bool engine_toolcall_thoughts_named(const char *name, struct engine_toolcall_style *style)
{
    if (strcmp(name, "openai_gptoss") == 0)
        style->tools = ENGINE_TOOLCALL_HARMONY; /* one format for both */
    style->thinks = strcmp(name, "qwen3") == 0 || strcmp(name, "deepseek_r1") == 0;
    return style->thinks || strcmp(name, "openai_gptoss") == 0 || strcmp(name, "none") == 0;
}

/* --- parts -------------------------------------------------------------------------------------- */

static void give(struct engine_toolcall *o, enum tunnel_channel_name channel, struct span text)
{
    if (text.len > 0)
        o->part(o->ctx, channel, o->tools > 0 ? o->tools - 1 : 0, text);
}

/* Content, whose trailing white space waits: it goes when a tool call follows. */
static void give_content(struct engine_toolcall *o, struct span text)
{
    size_t end = text.len;
    if (text.len == 0)
        return;
    while (end > 0 && is_blank(text.data[end - 1]))
        end--;
    if (end > 0) {
        give(o, TUNNEL_CONTENT, writer_span(&o->blank));
        writer_reset(&o->blank);
        give(o, TUNNEL_CONTENT, span_of(text.data, end));
    }
    writer_bytes(&o->blank, span_of(text.data + end, text.len - end));
    if (!writer_ok(&o->blank) || o->blank.len > 4096) { /* nobody waits for that much white space */
        give(o, TUNNEL_CONTENT, writer_span(&o->blank));
        writer_reset(&o->blank);
    }
}

/* Forget the first `n` bytes of a stage. */
static void drop(struct writer *w, size_t n)
{
    if (n > 0)
        memmove(w->data, w->data + n, w->len - n);
    w->len -= n;
}

/* How many bytes at the end of `s` may be the beginning of `marker`. */
static size_t partial(struct span s, const char *marker)
{
    size_t len = strlen(marker) - 1;
    for (len = len < s.len ? len : s.len; len > 0; len--)
        if (memcmp(s.data + s.len - len, marker, len) == 0)
            break;
    return len;
}

/* Offset of `marker`, or s.len. */
static size_t find(struct span s, const char *marker)
{
    const uint8_t *at = s.len ? memmem(s.data, s.len, marker, strlen(marker)) : NULL;
    return at ? (size_t)(at - s.data) : s.len;
}

/* --- tool calls in JSON ------------------------------------------------------------------------- */

static bool is_known(const struct engine_toolcall *o, struct span name)
{
    const json_t *tool;
    size_t i;
    json_array_foreach(o->known, i, tool)
    {
        const json_t *known = json_object_get(json_object_get(tool, "function"), "name");
        if (json_is_string(known) && span_equal(name, span_of(json_string_value(known), json_string_length(known))))
            return true;
    }
    return !o->known && name.len > 0;
}

/* Is this a call: an object with a name and arguments? Arguments may be written as a string. */
static bool is_call(const struct engine_toolcall *o, const json_t *call)
{
    const json_t *name = json_object_get(call, "name");
    const json_t *arguments = json_object_get(call, "arguments");
    if (!arguments)
        arguments = json_object_get(call, "parameters");
    return json_is_string(name) && is_known(o, span_of(json_string_value(name), json_string_length(name))) &&
           (!arguments || json_is_object(arguments) || json_is_string(arguments));
}

static void give_call(struct engine_toolcall *o, struct span name, struct span arguments)
{
    writer_reset(&o->blank);
    o->tools++;
    give(o, TUNNEL_TOOL_NAME, name);
    give(o, TUNNEL_TOOL_ARGUMENTS, arguments);
}

/* Raw text of values, so that numbers leave as they were written. All of it runs over JSON that jansson has accepted.
 */
static size_t skip_blank(struct span s, size_t at)
{
    while (at < s.len && (is_blank(s.data[at]) || s.data[at] == ',' || s.data[at] == ':'))
        at++;
    return at;
}

static size_t skip_string(struct span s, size_t at)
{
    for (at++; at < s.len && s.data[at] != '"'; at++)
        at += s.data[at] == '\\';
    return at < s.len ? at + 1 : s.len;
}

static size_t skip_value(struct span s, size_t at)
{
    size_t depth = 0;
    do {
        uint8_t c = at < s.len ? s.data[at] : 0;
        if (c == '"') {
            at = skip_string(s, at);
            continue;
        }
        depth += c == '{' || c == '[';
        depth -= (c == '}' || c == ']') && depth > 0;
        at++;
        if (depth == 0 && c != '}' && c != ']') /* a number or a word */
            while (at < s.len && !is_blank(s.data[at]) && !strchr(",]}", s.data[at]))
                at++;
    } while (depth > 0 && at < s.len);
    return at < s.len ? at : s.len;
}

/* The value of `key` (with its quotes) in the object `s`; empty when it is not there in so many letters. */
static struct span raw_member(struct span s, const char *key)
{
    for (size_t at = skip_blank(s, 1); at < s.len && s.data[at] == '"';) {
        size_t key_end = skip_string(s, at), begin = skip_blank(s, key_end), end = skip_value(s, begin);
        if (span_is(span_of(s.data + at, key_end - at), key))
            return span_of(s.data + begin, end - begin);
        at = skip_blank(s, end);
    }
    return span_of(NULL, 0);
}

/* `text` is the call's own text. */
static void give_json_call(struct engine_toolcall *o, const json_t *call, struct span text)
{
    const json_t *name = json_object_get(call, "name"), *arguments = json_object_get(call, "arguments");
    struct span raw = raw_member(text, arguments ? "\"arguments\"" : "\"parameters\"");
    if (json_is_string(arguments))
        raw = span_of(json_string_value(arguments), json_string_length(arguments));
    give_call(o, span_of(json_string_value(name), json_string_length(name)), raw.len > 0 ? raw : span_str("{}"));
}

/* `text` is one call or an array of them, and nothing else: give them and say true. */
static bool give_json(struct engine_toolcall *o, struct span text)
{
    json_t *all = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL), *call;
    bool list = json_is_array(all);
    size_t i, count = list ? json_array_size(all) : 1, at = list ? skip_blank(text, 1) : 0;
    bool good = all && count > 0 && count <= ENGINE_TOOLCALLS_MAX - o->tools;
    if (list)
        json_array_foreach(all, i, call) good = good && is_call(o, call);
    else
        good = good && is_call(o, all);
    for (i = 0; good && i < count; i++) {
        size_t end = list ? skip_value(text, at) : text.len;
        give_json_call(o, list ? json_array_get(all, i) : all, span_of(text.data + at, end - at));
        at = skip_blank(text, end);
    }
    json_decref(all);
    return good;
}

/* Llama writes several calls with semicolons or newlines between them. Reads the first value of `*text`, a call, and
 * moves on; NULL: something else. */
static json_t *next_call(const struct engine_toolcall *o, struct span *text, struct span *own)
{
    json_error_t error;
    json_t *call =
        json_loadb((const char *)text->data, text->len, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &error);
    if (!is_call(o, call) || error.position <= 0 || (size_t)error.position > text->len) {
        json_decref(call);
        return NULL;
    }
    *own = span_of(text->data, (size_t)error.position);
    *text = trimmed(span_of(text->data + error.position, text->len - (size_t)error.position));
    if (text->len > 0 && (text->data[0] == ';' || text->data[0] == ','))
        *text = trimmed(span_of(text->data + 1, text->len - 1));
    return call;
}

static bool give_json_sequence(struct engine_toolcall *o, struct span text)
{
    struct span rest = trimmed(text), own;
    size_t count = 0;
    for (json_t *call; rest.len > 0; json_decref(call)) { /* all of them must be calls before the first leaves */
        call = next_call(o, &rest, &own);
        if (!call || ++count > ENGINE_TOOLCALLS_MAX - o->tools)
            rest.len = 0, count = 0;
    }
    rest = trimmed(text);
    for (size_t i = 0; i < count; i++) {
        json_t *call = next_call(o, &rest, &own);
        if (call)
            give_json_call(o, call, own);
        json_decref(call);
    }
    return count > 0;
}

/* name[ARGS]{..}: Mistral's newer form. */
static bool give_named_arguments(struct engine_toolcall *o, struct span text)
{
    size_t at = find(text, "[ARGS]");
    struct span name = span_of(text.data, at), arguments;
    if (at == text.len || !is_known(o, trimmed(name)) || o->tools >= ENGINE_TOOLCALLS_MAX)
        return false;
    arguments = span_of(text.data + at + 6, text.len - at - 6);
    json_t *parsed = json_loadb((const char *)arguments.data, arguments.len, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(parsed);
    json_decref(parsed);
    if (good)
        give_call(o, trimmed(name), trimmed(arguments));
    return good;
}

static bool give_python(struct engine_toolcall *o, struct span text)
{
    struct writer json = writer_with_max(2 * ENGINE_TOOLCALL_MAX);
    bool good = toolcall_from_python(trimmed(text), &json) && give_json(o, writer_span(&json));
    writer_release(&json);
    return good;
}

/* --- the second stage --------------------------------------------------------------------------- */

/* What was collected as a call is none: it is content after all, marker and all. */
static void give_up(struct engine_toolcall *o, const char *marker)
{
    give_content(o, span_str(marker));
    give_content(o, writer_span(&o->held));
    writer_reset(&o->held);
    o->call = CALL_OUTSIDE;
}

static void step_hermes(struct engine_toolcall *o)
{
    for (;;) {
        struct span s = writer_span(&o->held);
        const char *marker = o->call == CALL_INSIDE ? CALL_END : CALL;
        size_t at = find(s, marker);
        if (o->call == CALL_INSIDE) {
            if (at == s.len)
                return;
            size_t whole = at + strlen(CALL_END);
            if (!give_json(o, trimmed(span_of(s.data, at)))) {
                give_content(o, span_str(CALL));
                give_content(o, span_of(s.data, whole));
            }
            drop(&o->held, whole);
            o->call = CALL_OUTSIDE;
            continue;
        }
        size_t safe = at < s.len ? at : s.len - partial(s, marker);
        give_content(o, span_of(s.data, safe));
        drop(&o->held, at < s.len ? at + strlen(CALL) : safe);
        if (at == s.len)
            return;
        o->call = CALL_INSIDE;
    }
}

static bool mistral_ends(struct engine_toolcall *o, struct span text)
{
    struct span s = trimmed(text);
    return starts_with(s, "[") || starts_with(s, "{") ? give_json(o, s) : give_named_arguments(o, s);
}

static void step_mistral(struct engine_toolcall *o)
{
    for (;;) {
        struct span s = writer_span(&o->held);
        size_t at = find(s, CALLS), safe = at < s.len ? at : s.len - partial(s, CALLS);
        if (o->call == CALL_INSIDE && at == s.len)
            return;
        if (o->call == CALL_INSIDE && !mistral_ends(o, span_of(s.data, at))) {
            give_content(o, span_str(CALLS));
            give_content(o, span_of(s.data, at));
        } else if (o->call == CALL_OUTSIDE) {
            give_content(o, span_of(s.data, safe));
        }
        drop(&o->held, at < s.len ? at + strlen(CALLS) : safe);
        if (at == s.len)
            return;
        o->call = CALL_INSIDE;
    }
}

static void step_llama3(struct engine_toolcall *o)
{
    while (o->call == CALL_BEGIN) {
        struct span s = writer_span(&o->held), rest = trimmed(s);
        if (starts_with(rest, PYTHON)) { /* it only says that a call follows */
            drop(&o->held, (size_t)(rest.data - s.data) + strlen(PYTHON));
            continue;
        }
        if (rest.len == 0 || (rest.len < strlen(PYTHON) && partial(rest, PYTHON) == rest.len))
            return;
        bool python = o->style.tools == ENGINE_TOOLCALL_PYTHON;
        o->call = starts_with(rest, python ? "[" : "{") ? CALL_INSIDE : CALL_OUTSIDE;
    }
    if (o->call == CALL_OUTSIDE) {
        give_content(o, writer_span(&o->held));
        writer_reset(&o->held);
    }
}

static void answer(struct engine_toolcall *o, struct span text)
{
    if (o->style.tools == ENGINE_TOOLCALL_NONE) {
        give(o, TUNNEL_CONTENT, text);
        return;
    }
    if (o->held.len + text.len > ENGINE_TOOLCALL_MAX) {
        if (o->call == CALL_INSIDE)
            give_up(o, o->style.tools == ENGINE_TOOLCALL_HERMES    ? CALL
                       : o->style.tools == ENGINE_TOOLCALL_MISTRAL ? CALLS
                                                                   : "");
        give_content(o, writer_span(&o->held));
        writer_reset(&o->held);
        give_content(o, text);
        return;
    }
    writer_bytes(&o->held, text);
    switch (o->style.tools) {
    case ENGINE_TOOLCALL_HERMES:
        step_hermes(o);
        break;
    case ENGINE_TOOLCALL_MISTRAL:
        step_mistral(o);
        break;
    default:
        step_llama3(o);
    }
}

static void answer_ends(struct engine_toolcall *o)
{
    struct span s = writer_span(&o->held);
    if (o->call == CALL_INSIDE) {
        bool good = o->style.tools == ENGINE_TOOLCALL_MISTRAL  ? mistral_ends(o, s)
                    : o->style.tools == ENGINE_TOOLCALL_LLAMA3 ? give_json_sequence(o, s)
                    : o->style.tools == ENGINE_TOOLCALL_PYTHON ? give_python(o, s)
                                                               : give_json(o, trimmed(s));
        if (good)
            writer_reset(&o->held);
        else
            give_up(o, o->style.tools == ENGINE_TOOLCALL_HERMES    ? CALL
                       : o->style.tools == ENGINE_TOOLCALL_MISTRAL ? CALLS
                                                                   : "");
    }
    give_content(o, writer_span(&o->held));
    writer_reset(&o->held);
    if (o->tools == 0)
        give(o, TUNNEL_CONTENT, writer_span(&o->blank));
    writer_reset(&o->blank);
}

/* --- the first stage ---------------------------------------------------------------------------- */

static void step_think(struct engine_toolcall *o)
{
    struct span s = writer_span(&o->thinking);
    if (o->think == THINK_MAYBE) { /* only at the beginning of the answer */
        struct span rest = trimmed(s);
        size_t before = rest.len > 0 ? (size_t)(rest.data - s.data) : s.len;
        if (rest.len == 0 || (rest.len < strlen(THINK) && partial(rest, THINK) == rest.len))
            return;
        o->think = starts_with(rest, THINK) ? THINK_BEGIN : THINK_OVER;
        if (o->think == THINK_BEGIN)
            drop(&o->thinking, before + strlen(THINK));
        s = writer_span(&o->thinking);
    }
    if (o->think == THINK_BEGIN || o->think == THINK_AFTER) {
        while (s.len > 0 && is_blank(s.data[0]))
            s = span_of(s.data + 1, s.len - 1);
        drop(&o->thinking, o->thinking.len - s.len);
        s = writer_span(&o->thinking);
        if (s.len > 0)
            o->think = o->think == THINK_BEGIN ? THINK_INSIDE : THINK_OVER;
    }
    if (o->think == THINK_BEGIN)
        return;
    if (o->think == THINK_INSIDE) {
        size_t at = find(s, THINK_END), safe = at < s.len ? at : s.len - partial(s, THINK_END);
        give(o, TUNNEL_REASONING, span_of(s.data, safe));
        drop(&o->thinking, at < s.len ? at + strlen(THINK_END) : safe);
        if (at == s.len)
            return;
        o->think = THINK_AFTER;
        step_think(o); /* once: the state only moves on */
        return;
    }
    if (s.len > 0)
        answer(o, s);
    writer_reset(&o->thinking);
}

/* --- Harmony ------------------------------------------------------------------------------------ */

/* A header is complete: "assistant<|channel|>analysis", "commentary to=functions.name json". */
static void harmony_header(struct engine_toolcall *o)
{
    struct span s = writer_span(&o->held);
    const char *to = "to=functions.";
    size_t at = find(s, to);
    o->channel = contains(s, "final") || contains(s, "commentary") ? TUNNEL_CONTENT : TUNNEL_REASONING;
    size_t begin = at < s.len ? at + strlen(to) : s.len, end = begin;
    while (end < s.len && !is_blank(s.data[end]) && s.data[end] != '<')
        end++;
    if (o->tools < ENGINE_TOOLCALLS_MAX && end > begin && is_known(o, span_of(s.data + begin, end - begin))) {
        o->channel = TUNNEL_TOOL_ARGUMENTS;
        o->tools++;
        give(o, TUNNEL_TOOL_NAME, span_of(s.data + begin, end - begin));
    }
    writer_reset(&o->held);
    o->in_header = false;
}

/* Of a header that is too long the first bytes count, wherever its text was cut. */
static void harmony_plain(struct engine_toolcall *o, struct span text)
{
    size_t room = HEADER_MAX - o->held.len;
    if (!o->in_header)
        give(o, o->channel, text);
    else
        writer_bytes(&o->held, span_of(text.data, text.len < room ? text.len : room));
}

static const char *const harmony_markers[] = {"<|message|>", "<|channel|>", "<|constrain|>", "<|start|>",
                                              "<|end|>",     "<|return|>",  "<|call|>"};
enum { HARMONY_MARKERS = sizeof harmony_markers / sizeof *harmony_markers };

static void harmony_marker(struct engine_toolcall *o, size_t which)
{
    if (which == 0) {
        harmony_header(o);
    } else if (which <= 2) { /* inside a header, or the beginning of one */
        if (o->in_header)
            harmony_plain(o, span_str(" "));
        o->in_header = true;
    } else {
        writer_reset(&o->held);
        o->in_header = true;
    }
}

/* Which marker `s` begins with; HARMONY_MARKERS: none. `*maybe`: `s` may be the beginning of one. */
static size_t harmony_at(struct span s, bool *maybe)
{
    size_t found = HARMONY_MARKERS;
    *maybe = false;
    for (size_t i = 0; i < HARMONY_MARKERS; i++) {
        size_t len = strlen(harmony_markers[i]);
        if (starts_with(s, harmony_markers[i]))
            found = i;
        else if (s.len < len && memcmp(s.data, harmony_markers[i], s.len) == 0)
            *maybe = true;
    }
    return found;
}

static void step_harmony(struct engine_toolcall *o, bool last)
{
    struct span s = writer_span(&o->thinking);
    size_t used = 0;
    while (used < s.len) {
        struct span rest = span_of(s.data + used, s.len - used);
        size_t at = find(rest, "<");
        bool maybe = false;
        harmony_plain(o, span_of(rest.data, at));
        used += at;
        if (at == rest.len)
            break;
        size_t which = harmony_at(span_of(rest.data + at, rest.len - at), &maybe);
        if (which < HARMONY_MARKERS) {
            harmony_marker(o, which);
            used += strlen(harmony_markers[which]);
        } else if (maybe && !last) {
            break;
        } else {
            harmony_plain(o, span_of(rest.data + at, 1));
            used++;
        }
    }
    drop(&o->thinking, used);
}

/* --- the whole ---------------------------------------------------------------------------------- */

bool engine_toolcall_opens_thought(struct engine_toolcall_style style, struct span prompt)
{
    return style.thinks && ends_with(trimmed(prompt), THINK);
}

struct engine_toolcall *engine_toolcall_open(struct engine_toolcall_style style, const json_t *tools, bool thinking,
                                             engine_toolcall_part *part, void *ctx)
{
    struct engine_toolcall *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->style = style;
    o->known = tools;
    o->part = part;
    o->ctx = ctx;
    o->thinking = o->held = o->blank = writer_with_max(2 * ENGINE_TOOLCALL_MAX);
    o->think = !style.thinks ? THINK_OVER : thinking ? THINK_BEGIN : THINK_MAYBE;
    bool whole = style.tools == ENGINE_TOOLCALL_LLAMA3 || style.tools == ENGINE_TOOLCALL_PYTHON;
    o->call = whole ? CALL_BEGIN : CALL_OUTSIDE;
    o->in_header = style.tools == ENGINE_TOOLCALL_HARMONY;
    return o;
}

bool engine_toolcall_thinks(const struct engine_toolcall *o)
{
    if (o->style.tools == ENGINE_TOOLCALL_HARMONY)
        return o->in_header || o->channel == TUNNEL_REASONING;
    return o->think == THINK_BEGIN || o->think == THINK_INSIDE;
}

void engine_toolcall_text(struct engine_toolcall *o, struct span text)
{
    if (o->think == THINK_OVER && o->style.tools != ENGINE_TOOLCALL_HARMONY) {
        answer(o, text);
        return;
    }
    writer_bytes(&o->thinking, text);
    if (o->style.tools == ENGINE_TOOLCALL_HARMONY)
        step_harmony(o, false);
    else
        step_think(o);
}

bool engine_toolcall_is_marker(struct engine_toolcall_style style, struct span name)
{
    for (size_t i = 0; style.tools == ENGINE_TOOLCALL_HARMONY && i < HARMONY_MARKERS; i++)
        if (span_is(name, harmony_markers[i]))
            return true;
    return (style.thinks && (span_is(name, THINK) || span_is(name, THINK_END))) ||
           (style.tools == ENGINE_TOOLCALL_HERMES && (span_is(name, CALL) || span_is(name, CALL_END))) ||
           (style.tools == ENGINE_TOOLCALL_MISTRAL && (span_is(name, CALLS) || span_is(name, "[ARGS]"))) ||
           ((style.tools == ENGINE_TOOLCALL_LLAMA3 || style.tools == ENGINE_TOOLCALL_PYTHON) && span_is(name, PYTHON));
}

uint32_t engine_toolcall_finish(struct engine_toolcall *o)
{
    if (o->style.tools == ENGINE_TOOLCALL_HARMONY) {
        step_harmony(o, true);
        return o->tools;
    }
    struct span s = writer_span(&o->thinking);
    if (o->think == THINK_INSIDE)
        give(o, TUNNEL_REASONING, s);
    else if (o->think == THINK_MAYBE || o->think == THINK_OVER)
        answer(o, s);
    writer_reset(&o->thinking);
    o->think = THINK_OVER;
    answer_ends(o);
    return o->tools;
}

void engine_toolcall_close(struct engine_toolcall *o)
{
    if (!o)
        return;
    writer_release(&o->thinking);
    writer_release(&o->held);
    writer_release(&o->blank);
    free(o);
}
