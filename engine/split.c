#include "engine/split.h"

#include <stdlib.h>

#include "verifier/base/secret.h"

static const struct {
    const char *open, *close;
} think = {"<think>", "</think>"}, call = {"<tool_call>", "</tool_call>"};

void split_init(struct split *s, unsigned what, const json_t *tools, bool thinking,
                void (*part)(void *ctx, enum tunnel_channel_name channel, uint32_t call, struct span text), void *ctx)
{
    *s = (struct split){.what = what, .tools = tools, .part = part, .ctx = ctx};
    s->held = writer_with_max(SPLIT_CALL_MAX);
    if (thinking && what & SPLIT_REASONING)
        s->state = SPLIT_THINKING;
    s->trim = what != 0;
}

void split_release(struct split *s)
{
    writer_release(&s->held);
}

/* --- parts out ---------------------------------------------------------------------------------------------- */

static void give(struct split *s, enum tunnel_channel_name channel, struct span text)
{
    if (text.len > 0)
        s->part(s->ctx, channel, 0, text);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void drop_held(struct split *s, size_t len)
{
    memmove(s->held.data, s->held.data + len, s->held.len - len);
    secret_wipe(s->held.data + s->held.len - len, len);
    s->held.len -= len;
}

/* Is `name` one of the request's tools? */
static bool is_tool(const struct split *s, const char *name)
{
    size_t i;
    json_t *tool;
    if (!s->tools)
        return true;
    json_array_foreach(s->tools, i, tool)
    {
        const char *known = json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (known && strcmp(known, name) == 0)
            return true;
    }
    return false;
}

/* {"name": ..., "arguments": {...}}; Llama says "parameters". */
static bool give_call(struct split *s, struct span text)
{
    json_t *value = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(value, "name"));
    const json_t *arguments = json_object_get(value, "arguments");
    if (!arguments)
        arguments = json_object_get(value, "parameters");
    char *dumped = json_is_object(arguments) ? json_dumps(arguments, JSON_COMPACT) : NULL;
    bool ok = name && dumped && is_tool(s, name);
    if (ok) {
        s->part(s->ctx, TUNNEL_TOOL_NAME, s->calls, span_str(name));
        s->part(s->ctx, TUNNEL_TOOL_ARGUMENTS, s->calls, span_str(dumped));
        s->calls++;
    }
    if (dumped)
        secret_wipe(dumped, strlen(dumped));
    free(dumped);
    json_decref(value);
    return ok;
}

/* --- markers -------------------------------------------------------------------------------------------------- */

/* Where `marker` begins in what is held, or where its beginning may stand at the end; `*whole` tells which. The held
 * length when neither. */
static size_t find_marker(const struct split *s, const char *marker, bool *whole)
{
    size_t len = strlen(marker);
    *whole = false;
    for (size_t i = 0; i < s->held.len; i++) {
        size_t n = s->held.len - i < len ? s->held.len - i : len;
        if (memcmp(s->held.data + i, marker, n) != 0)
            continue;
        *whole = n == len;
        return i;
    }
    return s->held.len;
}

static void skip_space(struct split *s)
{
    size_t n = 0;
    while (s->trim && n < s->held.len && is_space(s->held.data[n]))
        n++;
    drop_held(s, n);
    if (s->held.len > 0)
        s->trim = false;
}

/* Plain text up to the first marker that opens something. True when there may be more to do. */
static bool say(struct split *s)
{
    bool thinks = false, calls = false;
    skip_space(s);
    size_t at_think = s->what & SPLIT_REASONING ? find_marker(s, think.open, &thinks) : s->held.len;
    size_t at_call = s->what & SPLIT_TOOLS ? find_marker(s, call.open, &calls) : s->held.len;
    size_t at = at_think < at_call ? at_think : at_call;
    bool whole = at_think < at_call ? thinks : calls;
    give(s, TUNNEL_CONTENT, span_of(s->held.data, at));
    drop_held(s, at);
    if (!whole)
        return false;
    s->state = at_think < at_call ? SPLIT_THINKING : SPLIT_CALLING;
    drop_held(s, strlen(at_think < at_call ? think.open : call.open));
    s->trim = true;
    return true;
}

static bool think_on(struct split *s)
{
    bool whole;
    skip_space(s);
    size_t at = find_marker(s, think.close, &whole);
    give(s, TUNNEL_REASONING, span_of(s->held.data, at));
    drop_held(s, at);
    if (!whole)
        return false;
    drop_held(s, strlen(think.close));
    s->state = SPLIT_SAYING;
    s->trim = true;
    return true;
}

static bool call_on(struct split *s)
{
    bool whole;
    size_t at = find_marker(s, call.close, &whole);
    if (!whole)
        return false;
    if (!give_call(s, span_of(s->held.data, at))) {
        give(s, TUNNEL_CONTENT, span_str(call.open));
        give(s, TUNNEL_CONTENT, span_of(s->held.data, at));
        give(s, TUNNEL_CONTENT, span_str(call.close));
    }
    drop_held(s, at + strlen(call.close));
    s->state = SPLIT_SAYING;
    s->trim = true;
    return true;
}

/* The first character decides whether the whole answer may be a bare call. */
static bool start(struct split *s)
{
    skip_space(s);
    if (s->held.len == 0)
        return false;
    s->state = s->what & SPLIT_TOOLS && s->held.data[0] == '{' ? SPLIT_BARE_CALL : SPLIT_SAYING;
    return true;
}

static bool go_on(struct split *s)
{
    switch (s->state) {
    case SPLIT_AT_START:
        return start(s);
    case SPLIT_SAYING:
        return say(s);
    case SPLIT_THINKING:
        return think_on(s);
    case SPLIT_CALLING:
        return call_on(s);
    case SPLIT_BARE_CALL:
        return false;
    }
    return false;
}

void split_feed(struct split *s, struct span text)
{
    if (s->what == 0) {
        give(s, TUNNEL_CONTENT, text);
        return;
    }
    if (s->held.len + text.len > SPLIT_CALL_MAX) { /* no call is that long: it is text */
        give(s, TUNNEL_CONTENT, writer_span(&s->held));
        writer_reset(&s->held);
        s->state = SPLIT_SAYING;
    }
    writer_bytes(&s->held, text);
    while (s->held.len > 0 && go_on(s))
        continue;
}

void split_finish(struct split *s)
{
    struct span rest = writer_span(&s->held);
    if (s->what == 0 || rest.len == 0)
        return;
    if (s->state == SPLIT_THINKING) {
        give(s, TUNNEL_REASONING, rest);
    } else if (s->state == SPLIT_CALLING || s->state == SPLIT_BARE_CALL) {
        if (!give_call(s, rest)) { /* a model that forgot to close is still understood */
            if (s->state == SPLIT_CALLING)
                give(s, TUNNEL_CONTENT, span_str(call.open));
            give(s, TUNNEL_CONTENT, rest);
        }
    } else {
        give(s, TUNNEL_CONTENT, rest);
    }
    writer_reset(&s->held);
}
