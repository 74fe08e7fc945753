/* template.c - opening and rendering a chat template. */
#include "engine/template.h"

#include <stdlib.h>

#include "engine/template_internal.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"

#define NODES_MAX (64u << 20) /* bytes of a parsed template */

/* Jinja reads \r\n and \r as \n, and drops one newline at the end. Returns the length. */
static size_t copy_source(uint8_t *out, struct span source)
{
    size_t n = 0;
    for (size_t i = 0; i < source.len; i++) {
        bool pair = source.data[i] == '\r' && i + 1 < source.len && source.data[i + 1] == '\n';
        if (!pair)
            out[n++] = source.data[i] == '\r' ? '\n' : source.data[i];
    }
    return n > 0 && out[n - 1] == '\n' ? n - 1 : n;
}

struct engine_template *engine_template_open(struct span source, struct engine_problem *why)
{
    struct tokens tokens = {0};
    struct engine_template *t = NULL;
    if (source.len > ENGINE_TEMPLATE_SOURCE_MAX) {
        engine_problem_set(why, ENGINE_E_LIMIT, "chat template: longer than %u bytes", ENGINE_TEMPLATE_SOURCE_MAX);
        return NULL;
    }
    if (!utf8_is_valid(source)) {
        engine_problem_set(why, ENGINE_E_SYNTAX, "chat template: not UTF-8");
        return NULL;
    }
    t = calloc(1, sizeof *t);
    if (!t || !(t->source = malloc(source.len + 1))) {
        free(t);
        engine_problem_set(why, ENGINE_E_MEMORY, "chat template: too little memory");
        return NULL;
    }
    t->arena.max = NODES_MAX;
    struct span text = span_of(t->source, copy_source(t->source, source));
    if (template_lex(text, &t->arena, &tokens, why))
        t->body = template_parse(&tokens, &t->arena, why);
    free(tokens.at);
    if (t->body)
        return t;
    engine_template_close(t);
    return NULL;
}

void engine_template_close(struct engine_template *t)
{
    if (!t)
        return;
    arena_release(&t->arena);
    free(t->source);
    free(t);
}

static void set_json(struct render *r, struct scope *scope, const char *name, const json_t *j)
{
    scope_set(r, scope, span_str(name), j ? value_from_json(r, j) : value_none());
}

static void set_variables(struct render *r, struct scope *scope, const struct engine_template_input *in)
{
    const char *key;
    size_t len;
    json_t *child;
    if (in->kwargs)
        json_object_keylen_foreach((json_t *)in->kwargs, key, len, child)
            scope_set(r, scope, span_of(key, len), value_from_json(r, child));
    set_json(r, scope, "messages", in->messages);
    set_json(r, scope, "tools", in->tools);
    set_json(r, scope, "documents", in->documents);
    scope_set(r, scope, span_str("add_generation_prompt"), value_bool(in->add_generation_prompt));
    scope_set(r, scope, span_str("bos_token"), value_string(in->bos));
    scope_set(r, scope, span_str("eos_token"), value_string(in->eos));
}

enum engine_err engine_template_render(const struct engine_template *t, const struct engine_template_input *input,
                                       struct writer *out, struct engine_problem *why)
{
    struct render r = {
        .arena.max = ENGINE_TEMPLATE_MEMORY_MAX,
        .out = out,
        .why = why,
        .steps = input->steps_max ? input->steps_max : ENGINE_TEMPLATE_STEPS_MAX,
        .now = input->now,
    };
    struct scope scope = {0};
    set_variables(&r, &scope, input);
    if (!r.err)
        execute(&r, &scope, t->body);
    arena_release(&r.arena);
    return r.err;
}
