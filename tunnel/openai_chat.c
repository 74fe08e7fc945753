/* openai_chat.c - messages and tools: checked, brought into the one form that chat templates read. */
#include <stdio.h>
#include <stdlib.h>

#include "tunnel/json.h"
#include "tunnel/openai_fields.h"

enum { MESSAGES_MAX = 4096, TOOLS_MAX = 256, ARGUMENTS_MAX = 4 << 20 };

static bool is_one_of(const char *text, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return true;
    return false;
}

/* A list of {"type":"text"} parts becomes one string, parts on lines of their own. NULL after a refusal. */
static json_t *join_parts(struct fields *f, const char *where, const json_t *parts)
{
    struct writer w = writer_with_max(TUNNEL_REQUEST_MAX);
    size_t i;
    json_t *part, *joined = NULL;
    json_array_foreach(parts, i, part)
    {
        char at[128];
        (void)snprintf(at, sizeof at, "%.80s[%zu]", where, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        json_t *text = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0)
            fields_refuse(f, at, "%s: this model takes text parts only, got %.40s", at,
                          type ? type : "a part without a type");
        else if (!json_is_string(text))
            fields_refuse(f, at, "%s: a text part needs a string under \"text\"", at);
        if (f->bad)
            break;
        if (i > 0)
            writer_str(&w, "\n");
        writer_bytes(&w, span_of(json_string_value(text), json_string_length(text)));
    }
    if (!f->bad) {
        struct span s = writer_span(&w);
        joined = json_stringn(s.data ? (const char *)s.data : "", s.len);
    }
    writer_release(&w);
    return joined;
}

static void copy_content(struct fields *f, const char *where, const json_t *in, const char *role, json_t *out)
{
    char at[80];
    json_t *content = json_object_get(in, "content");
    (void)snprintf(at, sizeof at, "%s.content", where);
    if (json_is_string(content)) {
        json_object_set(out, "content", content);
    } else if (json_is_array(content)) {
        json_t *joined = join_parts(f, at, content);
        if (joined)
            json_object_set_new(out, "content", joined);
    } else if ((!content || json_is_null(content)) && strcmp(role, "assistant") == 0) {
        json_object_set_new(out, "content", json_string(""));
        if (json_array_size(json_object_get(in, "tool_calls")) == 0)
            fields_refuse(f, at, "%s is missing: give a string, or tool_calls for an assistant message", at);
    } else {
        fields_refuse(f, at, "%s must be a string or an array of text parts", at);
    }
}

/* Arguments of an earlier call: JSON text on the wire, an object in a template. Nothing at all, which clients send for
 * a function without parameters, is the empty object. NULL when they are something else, or too much of it in one
 * request. */
static json_t *call_arguments(struct fields *f, const json_t *function)
{
    char why[160];
    json_t *v = json_object_get(function, "arguments");
    if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0))
        return json_object();
    if (!json_is_string(v))
        return json_incref(v);
    if ((f->arguments += json_string_length(v)) > ARGUMENTS_MAX) {
        fields_refuse(f, "messages", "the arguments of earlier calls have more than %d bytes", ARGUMENTS_MAX);
        return NULL;
    }
    return tunnel_json_parse(span_of(json_string_value(v), json_string_length(v)), why, sizeof why);
}

/* Calls that the assistant made earlier. */
static void copy_tool_calls(struct fields *f, const char *where, const json_t *in, json_t *out)
{
    json_t *calls = json_object_get(in, "tool_calls"), *call, *list;
    size_t i;
    if (!calls || json_is_null(calls))
        return;
    list = json_array();
    json_array_foreach(calls, i, call)
    {
        char at[96];
        (void)snprintf(at, sizeof at, "%s.tool_calls[%zu]", where, i);
        json_t *function = json_object_get(call, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        json_t *arguments = call_arguments(f, function);
        if (!name || !json_is_object(arguments))
            fields_refuse(f, at, "%s needs function.name and function.arguments (the JSON text of an object)", at);
        else
            json_array_append_new(
                list, json_pack("{s:o,s:s,s:{s:s,s:O}}", "id",
                                json_is_string(json_object_get(call, "id")) ? json_incref(json_object_get(call, "id"))
                                                                            : json_string(""),
                                "type", "function", "function", "name", name, "arguments", arguments));
        json_decref(arguments);
        if (f->bad)
            break;
    }
    if (!json_is_array(calls))
        fields_refuse(f, "messages", "%s.tool_calls must be an array", where);
    json_object_set_new(out, "tool_calls", list);
}

static void copy_text(struct fields *f, const char *where, const json_t *in, const char *name, json_t *out)
{
    json_t *v = json_object_get(in, name);
    if (v && !json_is_null(v) && !json_is_string(v))
        fields_refuse(f, "messages", "%s.%s must be a string", where, name);
    else if (json_is_string(v))
        json_object_set(out, name, v);
}

static json_t *copy_message(struct fields *f, size_t i, const json_t *in)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    char where[32];
    (void)snprintf(where, sizeof where, "messages[%zu]", i);
    const char *role = json_string_value(json_object_get(in, "role"));
    if (!json_is_object(in) || !role || !is_one_of(role, roles, sizeof roles / sizeof *roles)) {
        fields_refuse(f, "messages", "%s.role must be system, developer, user, assistant or tool, got %.40s", where,
                      role ? role : "none");
        return NULL;
    }
    json_t *out = json_object();
    json_object_set_new(out, "role", json_string(strcmp(role, "developer") == 0 ? "system" : role));
    copy_content(f, where, in, role, out);
    copy_text(f, where, in, "name", out);
    copy_text(f, where, in, "tool_call_id", out);
    copy_text(f, where, in, "reasoning_content", out);
    if (strcmp(role, "assistant") == 0)
        copy_tool_calls(f, where, in, out);
    return out;
}

static void parse_messages(struct openai_request *r, struct fields *f)
{
    json_t *messages = fields_get(f, "messages"), *message;
    size_t i;
    if (f->bad)
        return;
    if (!json_is_array(messages) || json_array_size(messages) == 0 || json_array_size(messages) > MESSAGES_MAX) {
        fields_refuse(f, "messages", "messages must be an array of 1 to %d messages", MESSAGES_MAX);
        return;
    }
    json_t *list = json_array();
    json_array_foreach(messages, i, message)
    {
        json_t *copy = copy_message(f, i, message);
        if (copy)
            json_array_append_new(list, copy);
        if (f->bad)
            break;
    }
    if (!f->bad) {
        r->owned[0] = json_dumps(list, JSON_COMPACT);
        if (r->owned[0])
            r->request.messages = span_str(r->owned[0]);
        else
            fields_refuse(f, "messages", "messages are too large to be served");
    }
    json_decref(list);
}

static bool tool_is_named(const json_t *tools, const char *name)
{
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool)
    {
        const char *have = json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (have && strcmp(have, name) == 0)
            return true;
    }
    return false;
}

static bool is_absent(const json_t *v)
{
    return !v || json_is_null(v);
}

static void check_tool(struct fields *f, size_t i, const json_t *tool)
{
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *function = json_object_get(tool, "function"), *name = json_object_get(function, "name"),
                 *description = json_object_get(function, "description"),
                 *parameters = json_object_get(function, "parameters"), *strict = json_object_get(function, "strict");
    if (!type || strcmp(type, "function") != 0 || !json_is_string(name) || json_string_length(name) == 0)
        fields_refuse(f, "tools", "tools[%zu] must be {\"type\":\"function\",\"function\":{\"name\":...}}", i);
    else if (json_string_length(name) > TUNNEL_NAME_MAX)
        fields_refuse(f, "tools", "tools[%zu].function.name has more than %d bytes", i, TUNNEL_NAME_MAX);
    else if (!is_absent(description) && !json_is_string(description))
        fields_refuse(f, "tools", "tools[%zu].function.description must be a string", i);
    else if (!is_absent(parameters) && !json_is_object(parameters))
        fields_refuse(f, "tools", "tools[%zu].function.parameters must be an object: a JSON schema", i);
    else if (!is_absent(strict) && !json_is_boolean(strict))
        fields_refuse(f, "tools", "tools[%zu].function.strict must be true or false", i);
}

static void parse_tools(struct openai_request *r, struct fields *f)
{
    json_t *tools = fields_get(f, "tools"), *tool;
    size_t i;
    r->owned[1] = fields_dump(f, "tools", JSON_ARRAY, &r->request.tools);
    if (json_array_size(tools) > TOOLS_MAX)
        fields_refuse(f, "tools", "at most %d tools can be offered, got %zu", TOOLS_MAX, json_array_size(tools));
    json_array_foreach(tools, i, tool) check_tool(f, i, tool);
    if (json_array_size(tools) == 0)
        r->request.tools = span_of(NULL, 0);
}

static void parse_tool_choice(struct openai_request *r, struct fields *f)
{
    struct tunnel_request *q = &r->request;
    json_t *tools = fields_get(f, "tools"), *choice = fields_get(f, "tool_choice");
    const char *word = json_string_value(choice);
    q->tool_choice = q->tools.len > 0 ? TUNNEL_TOOLS_AUTO : TUNNEL_TOOLS_NONE;
    if (!choice || f->bad)
        return;
    if (word && strcmp(word, "none") == 0) {
        q->tool_choice = TUNNEL_TOOLS_NONE;
        q->tools = span_of(NULL, 0);
    } else if (word && strcmp(word, "auto") == 0) {
        return;
    } else if (word && strcmp(word, "required") == 0) {
        q->tool_choice = TUNNEL_TOOLS_REQUIRED;
    } else {
        json_t *name = json_object_get(json_object_get(choice, "function"), "name");
        json_t *type = json_object_get(choice, "type");
        bool other = type && (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0);
        if (other || !json_is_string(name) || !tool_is_named(tools, json_string_value(name))) {
            fields_refuse(f, "tool_choice",
                          "tool_choice must be none, auto, required, or {\"type\":\"function\",\"function\":"
                          "{\"name\":...}} with the name of a function in tools");
            return;
        }
        q->tool_choice = TUNNEL_TOOLS_NAMED;
        q->tool_name = span_of(json_string_value(name), json_string_length(name));
    }
    if (q->tool_choice > TUNNEL_TOOLS_AUTO && q->tools.len == 0)
        fields_refuse(f, "tool_choice", "tool_choice needs tools");
}

void openai_chat_parse(struct openai_request *r, struct fields *f)
{
    parse_messages(r, f);
    parse_tools(r, f);
    parse_tool_choice(r, f);
    fields_bool(f, "parallel_tool_calls", &r->request.parallel_tool_calls);
    fields_bool(f, "add_generation_prompt", &r->request.add_generation_prompt);
    fields_bool(f, "continue_final_message", &r->request.continue_final_message);
    if (r->request.add_generation_prompt && r->request.continue_final_message) {
        if (fields_get(f, "add_generation_prompt"))
            fields_refuse(f, "continue_final_message",
                          "continue_final_message excludes add_generation_prompt: set one of them");
        r->request.add_generation_prompt = false;
    }
    bool reasoning = true;
    fields_bool(f, "include_reasoning", &reasoning);
    r->hide_reasoning = !reasoning;
    r->owned[2] = fields_dump(f, "chat_template_kwargs", JSON_OBJECT, &r->request.template_kwargs);
}

void openai_chat_echo(struct openai_request *r)
{
    const json_t *messages = json_object_get(r->json, "messages");
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    json_t *content = json_object_get(last, "content");
    if (r->request.echo && role && strcmp(role, "assistant") == 0 && json_is_string(content))
        r->echo = span_of(json_string_value(content), json_string_length(content));
    r->request.echo = false;
}
