/* toolcall.c - two stages, each with the text that may still become a marker: reasoning first, then tool calls on what
 * is not reasoning. Harmony is one stage of its own, as its markers are control tokens. */
#include "engine/toolcall.h"

#include <stdlib.h>

#include "engine/toolcall_python.h"
#include "engine/toolcall_text.h"
#include "engine/toolcall_xml.h"
#include "tunnel/json.h"

#define THINK TOOLCALL_THINK
#define THINK_END TOOLCALL_THINK_END
#define CALL TOOLCALL_CALL
#define CALLS TOOLCALL_CALLS
#define PYTHON TOOLCALL_PYTHON_TAG
#define HEADER_MAX 512u /* bytes of a Harmony message header */
#define BLANK_MAX 4096u /* bytes of white space that anything is waited for */

enum think_state {
    THINK_MAYBE, /* <think> may come */
    THINK_BEGIN, /* white space before the thought goes */
    THINK_INSIDE,
    THINK_AFTER, /* white space before the answer goes */
    THINK_OVER
};
enum call_state {
    CALL_OUTSIDE,
    CALL_BEGIN,  /* Llama, Python, Granite: nothing but white space yet */
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
    size_t searched;        /* bytes of a tool call so far that do not hold its end */
    struct writer blank;    /* white space, and DeepSeek's beginning of a list, that go if a tool call follows */
    uint32_t tools;
    const char *marker;      /* what the collected call began with */
    bool listed;             /* DeepSeek: calls came whose list has not ended */
    struct toolcall_xml xml; /* Qwen3-Coder: the collected call so far */
    /* Harmony */
    bool in_header;
    enum tunnel_channel_name channel;
};

/* --- parts -------------------------------------------------------------------------------------- */

static void give(struct engine_toolcall *o, enum tunnel_channel_name channel, struct span text)
{
    if (text.len > 0)
        o->part(o->ctx, channel, o->tools > 0 ? o->tools - 1 : 0, text);
}

/* Text that goes when a tool call follows, and is content otherwise. */
static void hold_back(struct engine_toolcall *o, struct span text)
{
    writer_bytes(&o->blank, text);
    if (!writer_ok(&o->blank) || o->blank.len > BLANK_MAX) {
        give(o, TUNNEL_CONTENT, writer_span(&o->blank));
        writer_reset(&o->blank);
    }
}

/* Content, whose trailing white space waits. */
static void give_content(struct engine_toolcall *o, struct span text)
{
    size_t end = text.len;
    if (text.len == 0)
        return;
    while (end > 0 && toolcall_is_blank(text.data[end - 1]))
        end--;
    if (end > 0) {
        give(o, TUNNEL_CONTENT, writer_span(&o->blank));
        writer_reset(&o->blank);
        give(o, TUNNEL_CONTENT, span_of(text.data, end));
    }
    hold_back(o, span_of(text.data + end, text.len - end));
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

/* The function of that name in the request's list; NULL: there is none. */
static const json_t *known_function(const struct engine_toolcall *o, struct span name)
{
    const json_t *tool;
    size_t i;
    json_array_foreach(o->known, i, tool)
    {
        const json_t *function = json_object_get(tool, "function"), *known = json_object_get(function, "name");
        if (json_is_string(known) && span_equal(name, span_of(json_string_value(known), json_string_length(known))))
            return function;
    }
    return NULL;
}

static bool is_known(const struct engine_toolcall *o, struct span name)
{
    return o->known ? known_function(o, name) != NULL : name.len > 0;
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
    while (at < s.len && (toolcall_is_blank(s.data[at]) || s.data[at] == ',' || s.data[at] == ':'))
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
            while (at < s.len && !toolcall_is_blank(s.data[at]) && !strchr(",]}", s.data[at]))
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
    const json_t *name = json_object_get(call, "name");
    json_t *first = json_object_get(call, "arguments");
    json_t *arguments = first ? first : json_object_get(call, "parameters");
    struct span raw = raw_member(text, first ? "\"arguments\"" : "\"parameters\"");
    struct writer again = writer_with_max(8 * ENGINE_TOOLCALL_MAX);
    if (json_is_string(arguments)) {
        raw = span_of(json_string_value(arguments), json_string_length(arguments));
    } else if (arguments && raw.len == 0) {
        tunnel_json_write(&again, json_incref(arguments));
        raw = writer_span(&again);
    }
    give_call(o, span_of(json_string_value(name), json_string_length(name)), raw.len > 0 ? raw : span_str("{}"));
    writer_release(&again);
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
    *text = toolcall_trimmed(span_of(text->data + error.position, text->len - (size_t)error.position));
    if (text->len > 0 && (text->data[0] == ';' || text->data[0] == ','))
        *text = toolcall_trimmed(span_of(text->data + 1, text->len - 1));
    return call;
}

static bool give_json_sequence(struct engine_toolcall *o, struct span text)
{
    struct span rest = toolcall_trimmed(text), own;
    size_t count = 0;
    for (json_t *call; rest.len > 0; json_decref(call)) { /* all of them must be calls before the first leaves */
        call = next_call(o, &rest, &own);
        if (!call || ++count > ENGINE_TOOLCALLS_MAX - o->tools)
            rest.len = 0, count = 0;
    }
    rest = toolcall_trimmed(text);
    for (size_t i = 0; i < count; i++) {
        json_t *call = next_call(o, &rest, &own);
        if (call)
            give_json_call(o, call, own);
        json_decref(call);
    }
    return count > 0;
}

/* A call whose name and arguments, a JSON object, stand beside each other. */
static bool give_pair(struct engine_toolcall *o, struct span name, struct span arguments)
{
    if (!is_known(o, name) || o->tools >= ENGINE_TOOLCALLS_MAX)
        return false;
    json_t *parsed = json_loadb((const char *)arguments.data, arguments.len, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(parsed);
    json_decref(parsed);
    if (good)
        give_call(o, name, arguments);
    return good;
}

/* name[ARGS]{..}: Mistral's newer form. */
static bool give_named_arguments(struct engine_toolcall *o, struct span text)
{
    size_t at = find(text, TOOLCALL_ARGS), after = at + strlen(TOOLCALL_ARGS);
    return at < text.len && give_pair(o, toolcall_trimmed(span_of(text.data, at)),
                                      toolcall_trimmed(span_of(text.data + after, text.len - after)));
}

/* type SEP name, arguments in a block of code (V3, R1), or name SEP arguments (V3.1). */
static bool give_deepseek(struct engine_toolcall *o, struct span text)
{
    size_t at = find(text, TOOLCALL_SEP), after = at + strlen(TOOLCALL_SEP);
    if (at == text.len)
        return false;
    struct span head = toolcall_trimmed(span_of(text.data, at)),
                rest = toolcall_trimmed(span_of(text.data + after, text.len - after));
    if (toolcall_starts_with(rest, "{"))
        return give_pair(o, head, rest);
    size_t line = find(rest, "\n");
    struct span name = toolcall_trimmed(span_of(rest.data, line)),
                block = toolcall_trimmed(span_of(rest.data + line, rest.len - line));
    size_t open = strlen("```json"), close = strlen("```");
    if (!toolcall_starts_with(block, "```json") || block.len < open + close || !toolcall_ends_with(block, "```"))
        return false;
    return give_pair(o, name, toolcall_trimmed(span_of(block.data + open, block.len - open - close)));
}

static bool give_python(struct engine_toolcall *o, struct span text)
{
    struct writer json = writer_with_max(2 * ENGINE_TOOLCALL_MAX);
    bool good = toolcall_from_python(toolcall_trimmed(text), &json) && give_json(o, writer_span(&json));
    writer_release(&json);
    return good;
}

/* --- the second stage --------------------------------------------------------------------------- */

/* What was collected as a call is none: it is content after all, marker and all. */
static void give_up(struct engine_toolcall *o)
{
    give_content(o, span_str(o->marker));
    give_content(o, writer_span(&o->held));
    writer_reset(&o->held);
    o->call = CALL_OUTSIDE;
    o->searched = 0;
    o->listed = false;
}

/* Where `end` is in the call so far, or its length: looked for in what is new, so that a long call costs its length. */
static size_t find_end(struct engine_toolcall *o, const char *end)
{
    struct span s = writer_span(&o->held);
    size_t again = strlen(end) - 1, from = o->searched > again ? o->searched - again : 0;
    size_t at = from + find(span_of(s.data + from, s.len - from), end);
    o->searched = at < s.len ? 0 : s.len;
    return at;
}

/* Where the first of the `markers` is, and which; s.len: nowhere, and then *safe bytes are the beginning of none. */
static size_t first_of(struct span s, const char *const *markers, const char **which, size_t *safe)
{
    size_t first = s.len, maybe = 0;
    for (; *markers; markers++) {
        size_t at = find(s, *markers), part = partial(s, *markers);
        if (at < first)
            *which = *markers;
        first = at < first ? at : first;
        maybe = part > maybe ? part : maybe;
    }
    *safe = first < s.len ? first : s.len - maybe;
    return first;
}

/* Content up to the next marker, which goes to `o->marker`. False: there is none so far. */
static bool step_outside(struct engine_toolcall *o, const char *const *markers)
{
    struct span s = writer_span(&o->held);
    size_t safe, at = first_of(s, markers, &o->marker, &safe);
    give_content(o, span_of(s.data, safe));
    drop(&o->held, at < s.len ? at + strlen(o->marker) : safe);
    return at < s.len;
}

static void step_hermes(struct engine_toolcall *o)
{
    static const char *const markers[] = {CALL, NULL};
    const char *end = TOOLCALL_CALL_END;
    for (;;) {
        if (o->call == CALL_OUTSIDE && !step_outside(o, markers))
            return;
        o->call = CALL_INSIDE;
        struct span s = writer_span(&o->held);
        size_t at = find_end(o, end), whole = at + strlen(end);
        if (at == s.len)
            return;
        if (!give_json(o, toolcall_trimmed(span_of(s.data, at)))) {
            give_content(o, span_str(CALL));
            give_content(o, span_of(s.data, whole));
        }
        drop(&o->held, whole);
        o->call = CALL_OUTSIDE;
    }
}

static void step_deepseek(struct engine_toolcall *o)
{
    static const char *const markers[] = {TOOLCALL_LIST, TOOLCALL_ITEM, TOOLCALL_LIST_END, NULL};
    const char *end = TOOLCALL_ITEM_END;
    for (;;) {
        if (o->call == CALL_OUTSIDE) {
            if (!step_outside(o, markers))
                return;
            if (strcmp(o->marker, TOOLCALL_LIST) == 0) {
                hold_back(o, span_str(TOOLCALL_LIST));
                continue;
            }
            if (strcmp(o->marker, TOOLCALL_LIST_END) == 0) {
                give_content(o, span_str(o->listed ? "" : TOOLCALL_LIST_END));
                o->listed = false;
                continue;
            }
            o->call = CALL_INSIDE;
        }
        struct span s = writer_span(&o->held);
        size_t at = find_end(o, end), whole = at + strlen(end);
        if (at == s.len)
            return;
        o->listed = give_deepseek(o, span_of(s.data, at));
        if (!o->listed) {
            give_content(o, span_str(TOOLCALL_ITEM));
            give_content(o, span_of(s.data, whole));
        }
        drop(&o->held, whole);
        o->call = CALL_OUTSIDE;
    }
}

static bool mistral_ends(struct engine_toolcall *o, struct span text)
{
    struct span s = toolcall_trimmed(text);
    return toolcall_starts_with(s, "[") || toolcall_starts_with(s, "{") ? give_json(o, s) : give_named_arguments(o, s);
}

static void step_mistral(struct engine_toolcall *o)
{
    static const char *const markers[] = {CALLS, NULL};
    for (;;) {
        if (o->call == CALL_OUTSIDE && !step_outside(o, markers))
            return;
        o->call = CALL_INSIDE;
        struct span s = writer_span(&o->held);
        size_t at = find_end(o, CALLS);
        if (at == s.len)
            return;
        if (!mistral_ends(o, span_of(s.data, at))) {
            give_content(o, span_str(CALLS));
            give_content(o, span_of(s.data, at));
        }
        drop(&o->held, at + strlen(CALLS));
    }
}

/* Granite, Phi-4-mini: a marker and a list of calls, which lasts to the end unless no list begins. */
static void step_list(struct engine_toolcall *o)
{
    static const char *const granite[] = {TOOLCALL_GRANITE, CALL, NULL}, *const phi4[] = {TOOLCALL_FUNCTOOLS, NULL};
    for (;;) {
        if (o->call == CALL_OUTSIDE) {
            if (!step_outside(o, o->style.tools == ENGINE_TOOLCALL_GRANITE ? granite : phi4))
                return;
            o->call = CALL_INSIDE;
        }
        struct span s = writer_span(&o->held), rest = toolcall_begun(s);
        bool near = s.len - rest.len <= BLANK_MAX, list = near && toolcall_starts_with(rest, "[");
        if (near && (rest.len == 0 || (o->call == CALL_INSIDE && list)))
            return;
        if (o->call == CALL_BEGIN) { /* Granite's marker may be missing */
            o->call = list ? CALL_INSIDE : CALL_OUTSIDE;
            o->marker = "";
            continue;
        }
        give_content(o, span_str(o->marker));
        o->call = CALL_OUTSIDE;
    }
}

/* A list of calls, and whatever stands behind it. */
static bool list_ends(struct engine_toolcall *o)
{
    struct span s = writer_span(&o->held), rest = toolcall_trimmed(s);
    json_error_t error;
    json_t *list =
        json_loadb((const char *)rest.data, rest.len, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &error);
    size_t end = json_is_array(list) && error.position > 0 ? (size_t)error.position : 0;
    json_decref(list);
    if (end == 0 || end > rest.len || !give_json(o, span_of(rest.data, end)))
        return false;
    drop(&o->held, (size_t)(rest.data - s.data) + end);
    o->call = CALL_OUTSIDE;
    step_list(o);
    return true;
}

static bool give_xml(struct engine_toolcall *o, struct span text)
{
    struct writer json = writer_with_max(8 * ENGINE_TOOLCALL_MAX); /* \u0000 for a byte */
    bool good = toolcall_xml_arguments(&o->xml, text, &json);
    if (good)
        give_call(o, span_of(text.data + o->xml.name.at, o->xml.name.len), writer_span(&json));
    writer_release(&json);
    return good;
}

/* The first tag may be missing, so a call begins with either; it stays part of what is collected. */
static bool xml_begins(struct engine_toolcall *o)
{
    static const char *const markers[] = {CALL, TOOLCALL_FUNCTION, NULL};
    struct span s = writer_span(&o->held);
    size_t safe, at = first_of(s, markers, &o->marker, &safe);
    give_content(o, span_of(s.data, safe));
    drop(&o->held, safe);
    o->marker = "";
    if (at < s.len)
        o->xml = (struct toolcall_xml){0};
    return at < s.len;
}

static void step_xml(struct engine_toolcall *o, bool last)
{
    while (o->call == CALL_INSIDE || xml_begins(o)) {
        struct span s = writer_span(&o->held);
        enum toolcall_xml_got got = toolcall_xml_read(&o->xml, s, last);
        o->call = CALL_INSIDE;
        if (got == TOOLCALL_XML_MORE)
            return;
        struct span name = span_of(s.data + o->xml.name.at, o->xml.name.len);
        if (got == TOOLCALL_XML_NAMED && o->tools < ENGINE_TOOLCALLS_MAX && is_known(o, name)) {
            o->xml.schema = json_object_get(known_function(o, name), "parameters");
            continue;
        }
        if (got != TOOLCALL_XML_WHOLE || !give_xml(o, span_of(s.data, o->xml.at)))
            give_content(o, span_of(s.data, o->xml.at));
        drop(&o->held, o->xml.at);
        o->call = CALL_OUTSIDE;
    }
}

static void step_llama3(struct engine_toolcall *o)
{
    while (o->call == CALL_BEGIN) {
        struct span s = writer_span(&o->held), rest = toolcall_begun(s);
        bool near = s.len - rest.len <= BLANK_MAX;
        if (near && toolcall_starts_with(rest, PYTHON)) { /* it only says that a call follows */
            drop(&o->held, s.len - rest.len + strlen(PYTHON));
            continue;
        }
        if (near && rest.len < strlen(PYTHON) && partial(rest, PYTHON) == rest.len)
            return;
        bool python = o->style.tools == ENGINE_TOOLCALL_PYTHON;
        o->call = near && toolcall_starts_with(rest, python ? "[" : "{") ? CALL_INSIDE : CALL_OUTSIDE;
    }
    if (o->call == CALL_OUTSIDE) {
        give_content(o, writer_span(&o->held));
        writer_reset(&o->held);
    }
}

static void step(struct engine_toolcall *o)
{
    switch (o->style.tools) {
    case ENGINE_TOOLCALL_HERMES:
        step_hermes(o);
        break;
    case ENGINE_TOOLCALL_MISTRAL:
        step_mistral(o);
        break;
    case ENGINE_TOOLCALL_XML:
        step_xml(o, false);
        break;
    case ENGINE_TOOLCALL_DEEPSEEK:
        step_deepseek(o);
        break;
    case ENGINE_TOOLCALL_GRANITE:
    case ENGINE_TOOLCALL_PHI4:
        step_list(o);
        break;
    default:
        step_llama3(o);
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
            give_up(o);
        give_content(o, writer_span(&o->held));
        writer_reset(&o->held);
        give_content(o, text);
        return;
    }
    writer_bytes(&o->held, text);
    step(o);
}

/* What was collected is all there is. True: it was a call. */
static bool call_ends(struct engine_toolcall *o)
{
    struct span s = writer_span(&o->held);
    switch (o->style.tools) {
    case ENGINE_TOOLCALL_MISTRAL:
        return mistral_ends(o, s);
    case ENGINE_TOOLCALL_LLAMA3:
        return give_json_sequence(o, s);
    case ENGINE_TOOLCALL_PYTHON:
        return give_python(o, s);
    case ENGINE_TOOLCALL_DEEPSEEK:
        return give_deepseek(o, s);
    default:
        return give_json(o, toolcall_trimmed(s));
    }
}

static void answer_ends(struct engine_toolcall *o)
{
    bool list = o->style.tools == ENGINE_TOOLCALL_GRANITE || o->style.tools == ENGINE_TOOLCALL_PHI4;
    if (o->style.tools == ENGINE_TOOLCALL_XML)
        step_xml(o, true);
    while (list && o->call == CALL_INSIDE && list_ends(o))
        continue;
    if (o->call == CALL_INSIDE && !list && call_ends(o))
        writer_reset(&o->held);
    else if (o->call == CALL_INSIDE)
        give_up(o);
    give_content(o, writer_span(&o->held));
    writer_reset(&o->held);
    if (o->tools == 0 || toolcall_trimmed(writer_span(&o->blank)).len > 0)
        give(o, TUNNEL_CONTENT, writer_span(&o->blank));
    writer_reset(&o->blank);
}

/* --- the first stage ---------------------------------------------------------------------------- */

static void step_think(struct engine_toolcall *o)
{
    struct span s = writer_span(&o->thinking);
    if (o->think == THINK_MAYBE) { /* only at the beginning of the answer */
        struct span rest = toolcall_begun(s);
        size_t before = s.len - rest.len;
        if (before <= BLANK_MAX && rest.len < strlen(THINK) && partial(rest, THINK) == rest.len)
            return;
        o->think = before <= BLANK_MAX && toolcall_starts_with(rest, THINK) ? THINK_BEGIN : THINK_OVER;
        if (o->think == THINK_BEGIN)
            drop(&o->thinking, before + strlen(THINK));
        s = writer_span(&o->thinking);
    }
    if (o->think == THINK_BEGIN || o->think == THINK_AFTER) {
        while (s.len > 0 && toolcall_is_blank(s.data[0]))
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
    o->channel =
        toolcall_contains(s, "final") || toolcall_contains(s, "commentary") ? TUNNEL_CONTENT : TUNNEL_REASONING;
    size_t begin = at < s.len ? at + strlen(to) : s.len, end = begin;
    while (end < s.len && !toolcall_is_blank(s.data[end]) && s.data[end] != '<')
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

static const char *const harmony_markers[] = {TOOLCALL_HARMONY};
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
        if (toolcall_starts_with(s, harmony_markers[i]))
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
    o->marker = "";
    bool whole = style.tools == ENGINE_TOOLCALL_LLAMA3 || style.tools == ENGINE_TOOLCALL_PYTHON ||
                 style.tools == ENGINE_TOOLCALL_GRANITE;
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
