/* openai.c - the errors of the OpenAI API. */
#include "tunnel/openai.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

#include "tunnel/json.h"

bool openai_task_of(struct span path, enum tunnel_task *out)
{
    static const struct {
        const char *path;
        enum tunnel_task task;
    } paths[] = {{"/v1/chat/completions", TUNNEL_CHAT},
                 {"/v1/completions", TUNNEL_COMPLETION},
                 {"/v1/embeddings", TUNNEL_EMBED},
                 {"/tokenize", TUNNEL_TOKENIZE},
                 {"/detokenize", TUNNEL_DETOKENIZE}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (span_is(path, paths[i].path)) {
            *out = paths[i].task;
            return true;
        }
    return false;
}

void openai_error_set(struct openai_error *out, int status, const char *type, const char *code, const char *param,
                      const char *format, ...)
{
    va_list args;
    *out = (struct openai_error){.status = status, .type = type, .code = code};
    (void)snprintf(out->param, sizeof out->param, "%s", param ? param : "");
    va_start(args, format);
    (void)vsnprintf(out->message, sizeof out->message, format, args);
    va_end(args);
}

json_t *openai_error_json(const struct openai_error *e)
{
    return json_pack("{s:{s:o,s:s,s:o,s:o}}", "error", "message", tunnel_json_text(span_str(e->message)), "type",
                     e->type, "param", e->param[0] ? tunnel_json_text(span_str(e->param)) : json_null(), "code",
                     e->code ? json_string(e->code) : json_null());
}

void openai_error_encode(struct writer *out, const struct openai_error *e)
{
    tunnel_json_write(out, openai_error_json(e));
}

/* Codes that an engine may send, as static strings; anything else is left out. */
static const char *known_code(struct span code)
{
    static const char *const codes[] = {"context_length_exceeded", "model_not_found",  "overloaded",
                                        "rate_limit_exceeded",     "loading",          "draining",
                                        "engine_unavailable",      "deadline_exceeded"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (span_is(code, codes[i]))
            return codes[i];
    return NULL;
}

const char *openai_error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void openai_error_from_event(struct openai_error *out, const struct tunnel_event *ev)
{
    char param[128];
    (void)snprintf(param, sizeof param, "%.*s", (int)ev->param.len, ev->param.data ? (const char *)ev->param.data : "");
    openai_error_set(out, (int)ev->status, openai_error_type((int)ev->status), known_code(ev->code), param, "%.*s",
                     (int)ev->text.len, ev->text.data ? (const char *)ev->text.data : "");
}
