/* template.h - chat templates: a small, closed subset of Jinja2 that turns a conversation into one prompt text.
 *
 * Templates come with a model and are part of its artefact, conversations come from strangers. Nothing here reaches
 * outside: no imports, no attributes of objects, no environment, no clock (the caller passes the time), no randomness.
 * Steps, output, values' memory and depth are bounded, so a hostile template or conversation ends in ENGINE_E_LIMIT.
 * The environment is that of Hugging Face transformers: trim_blocks and lstrip_blocks on, loop controls,
 * raise_exception, strftime_now, tojson without ASCII escaping, undefined values print as nothing and cannot be entered
 * further. */
#ifndef ENGINE_TEMPLATE_H
#define ENGINE_TEMPLATE_H

#include <jansson.h>

#include "engine/problem.h"
#include "verifier/base/span.h"
#include "verifier/base/writer.h"

struct engine_template;

#define ENGINE_TEMPLATE_SOURCE_MAX (1u << 20)   /* bytes */
#define ENGINE_TEMPLATE_STEPS_MAX 20000000u     /* evaluated nodes and copied bytes of one render */
#define ENGINE_TEMPLATE_MEMORY_MAX (256u << 20) /* bytes of values of one render */
#define ENGINE_TEMPLATE_DEPTH_MAX 128           /* expressions and blocks inside each other */

/* NULL when refused: ENGINE_E_SYNTAX with the line, ENGINE_E_LIMIT. Copies `source`. Constant afterwards: any number of
 * threads may render with one. */
MUST_CHECK struct engine_template *engine_template_open(struct span source, struct engine_problem *why);
void engine_template_close(struct engine_template *t); /* NULL is fine */

struct engine_template_input {
    const json_t *messages;  /* array of objects */
    const json_t *tools;     /* array, or NULL: `none`, as Hugging Face passes it */
    const json_t *documents; /* array, or NULL: `none` */
    const json_t *kwargs;    /* further variables (chat_template_kwargs), or NULL; overrides none of the others */
    struct span bos, eos;    /* bos_token, eos_token */
    bool add_generation_prompt;
    uint32_t steps_max; /* 0: ENGINE_TEMPLATE_STEPS_MAX */
    int64_t now;        /* seconds since 1970, UTC: what strftime_now() shows */
};

/* Append the prompt to `*out` (whose maximum is the output limit). Everything in `input` is borrowed for the call and
 * only read. ENGINE_E_REFUSED: the template refused the conversation, `why->text` is the template's own sentence.
 * ENGINE_E_VALUE: an operation that Jinja would also refuse. ENGINE_E_UNSUPPORTED: a filter or test that is not known
 * here. ENGINE_E_LIMIT: out of steps, memory, depth or output. */
MUST_CHECK enum engine_err engine_template_render(const struct engine_template *t,
                                                  const struct engine_template_input *input, struct writer *out,
                                                  struct engine_problem *why);

#endif
