/* openai_responses_parse.c - the body of POST /v1/responses as a chat body. */
#include "tunnel/openai_responses_parse.h"

#include <string.h>

static bool refuse(struct openai_error *why, const char *param, const char *message)
{
    openai_error_set(why, 400, "invalid_request_error", NULL, param, "%s", message);
    return false;
}

static bool is(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

/* --- input ------------------------------------------------------------------------------------------- */

/* Parts of text as chat has them. */
static json_t *text_parts(const json_t *parts, struct openai_error *why)
{
    json_t *out = json_array(), *part, *text;
    size_t i;

    json_array_foreach((json_t *)parts, i, part)
    {
        const json_t *type = json_object_get(part, "type");
        text = json_object_get(part, "text");
        if ((!is(type, "input_text") && !is(type, "output_text") && !is(type, "text")) || !json_is_string(text)) {
            refuse(why, "input", "content parts must be text: {\"type\":\"input_text\",\"text\":\"...\"}");
            json_decref(out);
            return NULL;
        }
        json_array_append_new(out, json_pack("{s:s,s:O}", "type", "text", "text", text));
    }
    return out;
}

static json_t *content_of(const json_t *content, struct openai_error *why)
{
    if (json_is_string(content))
        return json_incref((json_t *)content);
    if (json_is_array(content))
        return text_parts(content, why);
    refuse(why, "input", "content must be a string or a list of text parts");
    return NULL;
}

static bool add_message(json_t *messages, const json_t *item, struct openai_error *why)
{
    json_t *role = json_object_get(item, "role"), *content;

    if (!json_is_string(role))
        return refuse(why, "input", "a message needs a role");
    if (!(content = content_of(json_object_get(item, "content"), why)))
        return false;
    return json_array_append_new(messages, json_pack("{s:O,s:o}", "role", role, "content", content)) == 0;
}

/* Calls that follow each other belong to one assistant message. */
static json_t *calls_of_last(json_t *messages)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    json_t *calls = json_object_get(last, "tool_calls");

    if (json_array_size(messages) > 0 && calls)
        return calls;
    if (json_array_size(messages) == 0 || !is(json_object_get(last, "role"), "assistant")) {
        last = json_pack("{s:s,s:n}", "role", "assistant", "content");
        json_array_append_new(messages, last);
    }
    json_object_set_new(last, "tool_calls", json_array());
    return json_object_get(last, "tool_calls");
}

static bool add_call(json_t *messages, const json_t *item, struct openai_error *why)
{
    json_t *id = json_object_get(item, "call_id"), *name = json_object_get(item, "name"),
           *arguments = json_object_get(item, "arguments");

    if (!json_is_string(id) || !json_is_string(name) || !json_is_string(arguments))
        return refuse(why, "input", "a function_call needs call_id, name and arguments");
    return json_array_append_new(calls_of_last(messages),
                                 json_pack("{s:O,s:s,s:{s:O,s:O}}", "id", id, "type", "function", "function", "name",
                                           name, "arguments", arguments)) == 0;
}

static bool add_output(json_t *messages, const json_t *item, struct openai_error *why)
{
    json_t *id = json_object_get(item, "call_id"), *content;

    if (!json_is_string(id))
        return refuse(why, "input", "a function_call_output needs call_id");
    if (!(content = content_of(json_object_get(item, "output"), why)))
        return false;
    return json_array_append_new(
               messages, json_pack("{s:s,s:O,s:o}", "role", "tool", "tool_call_id", id, "content", content)) == 0;
}

static bool add_item(json_t *messages, const json_t *item, struct openai_error *why)
{
    const json_t *type = json_object_get(item, "type");

    if (!json_is_object(item))
        return refuse(why, "input", "input must be a string or a list of items");
    if (!type || is(type, "message"))
        return add_message(messages, item, why);
    if (is(type, "function_call"))
        return add_call(messages, item, why);
    if (is(type, "function_call_output"))
        return add_output(messages, item, why);
    return is(type, "reasoning") ||
           refuse(why, "input", "input items are messages, function_call, function_call_output or reasoning");
}

static bool add_input(json_t *chat, const json_t *body, struct openai_error *why)
{
    json_t *messages = json_array(), *input = json_object_get(body, "input"), *item,
           *instructions = json_object_get(body, "instructions");
    size_t i;

    json_object_set_new(chat, "messages", messages);
    if (instructions && !json_is_null(instructions)) {
        if (!json_is_string(instructions))
            return refuse(why, "instructions", "instructions must be a string");
        json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "system", "content", instructions));
    }
    if (json_is_string(input)) {
        json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "user", "content", input));
        return true;
    }
    if (!json_is_array(input) || json_array_size(input) == 0)
        return refuse(why, "input", "input must be a string or a list of items");
    json_array_foreach(input, i, item)
    {
        if (!add_item(messages, item, why))
            return false;
    }
    return true;
}

/* --- tools, format, the rest --------------------------------------------------------------------------- */

/* Function tools are flat here; tools of the host's own are skipped. */
static bool add_tools(json_t *chat, const json_t *body, struct openai_error *why)
{
    static const char *const keys[] = {"name", "description", "parameters", "strict"};
    json_t *tools = json_object_get(body, "tools"), *tool, *choice = json_object_get(body, "tool_choice"), *out;
    size_t i;

    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return refuse(why, "tools", "tools must be a list");
    out = json_array();
    json_array_foreach(tools, i, tool)
    {
        json_t *function = json_object();
        for (size_t k = 0; k < 4; k++)
            if (json_object_get(tool, keys[k]) && !json_is_null(json_object_get(tool, keys[k])))
                json_object_set(function, keys[k], json_object_get(tool, keys[k]));
        if (is(json_object_get(tool, "type"), "function"))
            json_array_append_new(out, json_pack("{s:s,s:O}", "type", "function", "function", function));
        json_decref(function);
    }
    if (json_array_size(out) > 0) {
        json_object_set(chat, "tools", out);
        if (is(json_object_get(choice, "type"), "function"))
            json_object_set_new(
                chat, "tool_choice",
                json_pack("{s:s,s:{s:O?}}", "type", "function", "function", "name", json_object_get(choice, "name")));
        else if (json_is_string(choice))
            json_object_set(chat, "tool_choice", choice);
    }
    json_decref(out);
    return true;
}

static bool add_format(json_t *chat, const json_t *body, struct openai_error *why)
{
    const json_t *format = json_object_get(json_object_get(body, "text"), "format");
    const json_t *type = json_object_get(format, "type");
    json_t *schema;

    if (!format || json_is_null(format) || is(type, "text"))
        return true;
    if (is(type, "json_object"))
        return json_object_set_new(chat, "response_format", json_pack("{s:s}", "type", "json_object")) == 0;
    schema = json_object_get(format, "schema");
    if (!is(type, "json_schema") || !json_is_object(schema))
        return refuse(why, "text.format", "text.format must be text, json_object, or json_schema with a schema");
    return json_object_set_new(chat, "response_format",
                               json_pack("{s:s,s:{s:O?,s:O}}", "type", "json_schema", "json_schema", "name",
                                         json_object_get(format, "name"), "schema", schema)) == 0;
}

static bool refuse_state(const json_t *body, struct openai_error *why)
{
    static const char *const keys[] = {"previous_response_id", "conversation", "prompt"};

    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_object_get(body, keys[i]);
        if (v && !json_is_null(v))
            return refuse(why, keys[i], "nothing is kept on this server: send the whole conversation as input");
    }
    if (json_is_true(json_object_get(body, "background")))
        return refuse(why, "background", "background responses are not supported");
    return true;
}

static void add_same(json_t *chat, const json_t *body)
{
    static const char *const pairs[][2] = {{"model", "model"},
                                           {"max_output_tokens", "max_completion_tokens"},
                                           {"temperature", "temperature"},
                                           {"top_p", "top_p"},
                                           {"stream", "stream"},
                                           {"seed", "seed"},
                                           {"parallel_tool_calls", "parallel_tool_calls"},
                                           {"chat_template_kwargs", "chat_template_kwargs"},
                                           {"cache_salt", "cache_salt"}};

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        json_t *v = json_object_get(body, pairs[i][0]);
        if (v && !json_is_null(v))
            json_object_set(chat, pairs[i][1], v);
    }
}

json_t *responses_to_chat(const json_t *body, struct openai_error *why)
{
    json_t *chat = json_object();

    add_same(chat, body);
    if (refuse_state(body, why) && add_input(chat, body, why) && add_tools(chat, body, why) &&
        add_format(chat, body, why))
        return chat;
    json_decref(chat);
    return NULL;
}
