/* The intake thread: from a request to prompts of token ids, or to an error that names the field. */
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>

#include "engine/job.h"
#include "tunnel/json.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"

enum {
    PROMPT_TEXT_MAX = 64 << 20,     /* bytes of a rendered conversation */
    TOKEN_BYTES_MAX = 128,          /* of a token on the average of a whole prompt: no text comes near */
    GRAMMARS_BYTES_MAX = 256 << 20, /* of the grammars of all requests that wait or run: most take some kilobytes */
    CONTINUED_TAIL = 256,           /* bytes by which the end of a message that is to be continued is found */
};

/* Set by the function that refused: job_fail() has been called and the job is gone. */
#define REFUSED false

static bool short_of_memory(struct engine *e, struct job *j)
{
    job_fail(e, j, 503, "engine_unavailable", NULL, "the engine is short of memory; try again in a moment");
    return REFUSED;
}

/* --- prompts ------------------------------------------------------------------------------------------------ */

static bool refuse_length(struct engine *e, struct job *j, const char *param, uint64_t prompt, uint64_t output)
{
    if (output == 0)
        job_fail(e, j, 400, "context_length_exceeded", param,
                 "this model's context has %u tokens; the prompt has %llu, which leaves no room for an answer",
                 e->options.context_max, (unsigned long long)prompt);
    else
        job_fail(e, j, 400, "context_length_exceeded", param,
                 "this model's context has %u tokens; you asked for %llu (%llu of the prompt, %llu to generate)",
                 e->options.context_max, (unsigned long long)(prompt + output), (unsigned long long)prompt,
                 (unsigned long long)output);
    return REFUSED;
}

static const char *prompt_field(const struct job *j)
{
    switch (j->request->task) {
    case TUNNEL_CHAT:
        return "messages";
    case TUNNEL_EMBED:
        return "input";
    case TUNNEL_DETOKENIZE:
        return "tokens";
    default:
        return j->request->messages.len > 0 ? "messages" : "prompt";
    }
}

/* Ids of `text`. A prompt with no token at all gets the BOS, if there is one. */
static bool encode(struct engine *e, struct job *j, struct span text, unsigned flags, struct prompt *out)
{
    if (text.len > (size_t)e->options.context_max * TOKEN_BYTES_MAX) { /* not worth anybody's time */
        job_fail(e, j, 400, "context_length_exceeded", prompt_field(j),
                 "the prompt has %zu bytes, far more than this model's context of %u tokens can hold", text.len,
                 e->options.context_max);
        return REFUSED;
    }
    /* Room beyond the context, so that the refusal can state the prompt's true length unless it is absurd. */
    struct engine_tokens ids = {.max = 4 * (size_t)e->info.context_max + 1024};
    enum engine_err err = engine_tokenizer_encode(e->tokenizer, text, flags, &ids);
    if (err != ENGINE_OK) {
        engine_tokens_release(&ids);
        if (err != ENGINE_E_LIMIT)
            return short_of_memory(e, j);
        return refuse_length(e, j, prompt_field(j), ids.max, 0);
    }
    out->count = (uint32_t)ids.count;
    out->ids = ids.ids; /* given away */
    return true;
}

static bool add_bos_if_empty(struct engine *e, struct job *j, struct prompt *p)
{
    int32_t bos = engine_tokenizer_bos(e->tokenizer);
    if (p->count > 0)
        return true;
    free(p->ids);
    p->ids = malloc(sizeof *p->ids);
    if (bos < 0 || !p->ids) {
        job_fail(e, j, 400, NULL, prompt_field(j), "the prompt is empty; give at least one token");
        return REFUSED;
    }
    p->ids[0] = bos;
    p->count = 1;
    return true;
}

static bool take_ids(struct engine *e, struct job *j, struct span bytes, struct prompt *out)
{
    size_t count = tunnel_ids_count(bytes);
    if (count >= e->options.context_max + 1024)
        return refuse_length(e, j, prompt_field(j), count, 0);
    out->ids = calloc(count ? count : 1, sizeof *out->ids);
    if (!out->ids)
        return short_of_memory(e, j);
    out->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = tunnel_ids_at(bytes, i);
        if (id >= (uint32_t)e->info.vocab) {
            job_fail(e, j, 400, NULL, prompt_field(j), "token id %u is outside the vocabulary (0 to %d)", id,
                     e->info.vocab - 1);
            return REFUSED;
        }
        out->ids[i] = (int32_t)id;
    }
    return true;
}

/* --- conversations ------------------------------------------------------------------------------------------ */

static json_t *parse_json(struct span text)
{
    return text.len ? json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL)
                    : NULL;
}

/* A conversation whose last message is to be continued ends where that message's text ends. The end of the text is
 * looked for: all of a long one at every place would take a time that grows with its square. */
static void cut_after_last(struct writer *text, const json_t *messages)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *content = json_string_value(json_object_get(last, "content"));
    size_t len = content ? json_string_length(json_object_get(last, "content")) : 0;
    while (len > 0 && (content[len - 1] == ' ' || content[len - 1] == '\n')) /* templates trim */
        len--;
    size_t tail = len < CONTINUED_TAIL ? len : CONTINUED_TAIL;
    for (size_t at = tail && text->len >= tail ? text->len - tail + 1 : 0; at-- > 0;)
        if (memcmp(text->data + at, content + (len - tail), tail) == 0) {
            text->len = at + tail;
            return;
        }
}

static void refuse_template(struct engine *e, struct job *j, enum engine_err err, const struct engine_problem *why)
{
    if (err == ENGINE_E_MEMORY)
        (void)short_of_memory(e, j);
    else if (err == ENGINE_E_LIMIT)
        job_fail(e, j, 400, NULL, "messages", "the conversation is too long or too deep for this model's template");
    else
        job_fail(e, j, 400, NULL, "messages", "this model's chat template refused the conversation: %s", why->text);
}

/* A message with calls and no text: DeepSeek's templates look for a content that is none, not for an empty one. */
static void drop_empty_contents(json_t *messages)
{
    json_t *message;
    size_t i;
    json_array_foreach(messages, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        if (json_array_size(json_object_get(message, "tool_calls")) > 0 && json_is_string(content) &&
            json_string_length(content) == 0)
            json_object_set_new(message, "content", json_null());
    }
}

/* Arguments of earlier calls as JSON text. False: there are none. */
static bool write_arguments(json_t *messages)
{
    json_t *message, *call;
    size_t i, k;
    bool some = false;
    json_array_foreach(messages, i, message) json_array_foreach(json_object_get(message, "tool_calls"), k, call)
    {
        json_t *function = json_object_get(call, "function"), *arguments = json_object_get(function, "arguments");
        char *text = json_is_object(arguments) ? json_dumps(arguments, 0) : NULL;
        some = some || text;
        if (text)
            json_object_set_new(function, "arguments", json_string(text));
        tunnel_json_free(text);
    }
    return some;
}

/* Templates get arguments as objects; those that join them to a text, which fails, get their text. */
static enum engine_err render_messages(const struct engine *e, const struct engine_template_input *in, json_t *messages,
                                       struct writer *text, struct engine_problem *why)
{
    if (e->style.tools == ENGINE_TOOLCALL_DEEPSEEK)
        drop_empty_contents(messages);
    enum engine_err err = engine_template_render(e->template, in, text, why);
    if (err != ENGINE_E_VALUE || !write_arguments(messages))
        return err;
    writer_reset(text);
    *why = (struct engine_problem){0};
    return engine_template_render(e->template, in, text, why);
}

static bool render(struct engine *e, struct job *j, struct writer *text)
{
    const struct tunnel_request *q = j->request;
    struct engine_problem why = {0};
    json_t *messages = parse_json(q->messages), *tools = parse_json(q->tools), *kwargs = parse_json(q->template_kwargs);
    struct engine_template_input in = {.messages = messages,
                                       .tools = q->tool_choice == TUNNEL_TOOLS_NONE ? NULL : tools,
                                       .kwargs = kwargs,
                                       .bos = engine_tokenizer_bos_text(e->tokenizer),
                                       .eos = engine_tokenizer_eos_text(e->tokenizer),
                                       .add_generation_prompt = q->add_generation_prompt,
                                       .now = e->options.now ? e->options.now(e->options.now_ctx) : 0};
    enum engine_err err = ENGINE_E_FORMAT;
    engine_problem_set(&why, ENGINE_E_FORMAT, "messages is not a list of objects");
    if (json_is_array(messages)) {
        why = (struct engine_problem){0};
        err = render_messages(e, &in, messages, text, &why);
    }
    if (err == ENGINE_OK && q->continue_final_message)
        cut_after_last(text, messages);
    json_decref(messages);
    json_decref(tools);
    json_decref(kwargs);
    if (err != ENGINE_OK)
        refuse_template(e, j, err, &why);
    return err == ENGINE_OK;
}

/* What to look for in the answer, and whether it begins inside a thought that the prompt opened. A forced call is plain
 * JSON unless the model's own form is text that a grammar can write. */
static void set_style(const struct engine *e, struct job *j, struct span prompt)
{
    const struct tunnel_request *q = j->request;
    j->style = e->style;
    j->thinking = engine_toolcall_opens_thought(e->style, prompt);
    if (q->tools.len > 0 && q->tool_choice != TUNNEL_TOOLS_NONE)
        j->tools = parse_json(q->tools);
    if (!j->tools && j->style.tools != ENGINE_TOOLCALL_HARMONY) /* whose messages need reading anyway */
        j->style.tools = ENGINE_TOOLCALL_NONE;
    if (q->tool_choice >= TUNNEL_TOOLS_REQUIRED && j->style.tools != ENGINE_TOOLCALL_HERMES &&
        j->style.tools != ENGINE_TOOLCALL_XML)
        j->style = (struct engine_toolcall_style){ENGINE_TOOLCALL_LLAMA3, e->style.thinks};
}

static bool make_chat_prompt(struct engine *e, struct job *j)
{
    struct writer text = writer_with_max(PROMPT_TEXT_MAX);
    if (!e->template) {
        job_fail(e, j, 400, NULL, "messages",
                 "this model has no chat template; use /v1/completions, or start the engine with --chat-template");
        return REFUSED;
    }
    bool ok = render(e, j, &text);
    if (ok)
        set_style(e, j, writer_span(&text));
    unsigned flags = ENGINE_TOKENIZE_SPECIAL | (j->request->add_special_tokens ? ENGINE_TOKENIZE_BOS : 0u);
    if (ok) /* a template writes its own BOS, so another one is added only on request */
        ok = encode(e, j, writer_span(&text), flags, &j->prompt[0]);
    writer_release(&text);
    return ok;
}

static bool make_prompts(struct engine *e, struct job *j)
{
    const struct tunnel_request *q = j->request;
    bool chat = q->task == TUNNEL_CHAT || (q->task == TUNNEL_TOKENIZE && q->messages.len > 0);
    j->prompt_count = chat ? 1 : q->prompt_count;
    j->prompt = calloc(j->prompt_count ? j->prompt_count : 1, sizeof *j->prompt);
    if (!j->prompt)
        return short_of_memory(e, j);
    if (chat)
        return make_chat_prompt(e, j);
    unsigned flags = ENGINE_TOKENIZE_SPECIAL | (q->add_special_tokens ? ENGINE_TOKENIZE_BOS : 0u);
    for (size_t i = 0; i < j->prompt_count; i++)
        if (!(q->prompt[i].is_ids ? take_ids(e, j, q->prompt[i].bytes, &j->prompt[i])
                                  : encode(e, j, q->prompt[i].bytes, flags, &j->prompt[i])))
            return REFUSED;
    return true;
}

/* --- what the engine can and cannot do ------------------------------------------------------------------------ */

static bool check_model(struct engine *e, struct job *j)
{
    for (size_t i = 0; i < e->served_count; i++)
        if (span_is(j->request->model, e->served[i]))
            return true;
    job_fail(e, j, 404, "model_not_found", "model", "the model '%.*s' does not exist here; this engine serves '%s'",
             (int)(j->request->model.len < 100 ? j->request->model.len : 100), (const char *)j->request->model.data,
             e->served[0]);
    return REFUSED;
}

static bool check_id(struct engine *e, struct job *j, const char *param, uint32_t id)
{
    if (id < (uint32_t)e->info.vocab)
        return true;
    job_fail(e, j, 400, NULL, param, "token id %u is outside the vocabulary (0 to %d)", id, e->info.vocab - 1);
    return REFUSED;
}

static bool check_ids(struct engine *e, struct job *j)
{
    const struct tunnel_request *q = j->request;
    for (size_t i = 0; i < q->bias_count; i++)
        if (!check_id(e, j, "logit_bias", q->bias[i].id))
            return REFUSED;
    for (size_t i = 0; i < q->stop_id_count; i++)
        if (!check_id(e, j, "stop_token_ids", q->stop_id[i]))
            return REFUSED;
    for (size_t i = 0; i < tunnel_ids_count(q->allowed_ids); i++)
        if (!check_id(e, j, "allowed_token_ids", tunnel_ids_at(q->allowed_ids, i)))
            return REFUSED;
    return true;
}

static bool check_features(struct engine *e, struct job *j)
{
    const struct tunnel_request *q = j->request;
    size_t choices = (q->task == TUNNEL_CHAT ? 1 : q->prompt_count) * q->n;
    if ((q->task == TUNNEL_EMBED) != e->options.embeds) {
        job_fail(e, j, 400, NULL, "model", "this model serves %s only",
                 e->options.embeds ? "embeddings (/v1/embeddings)" : "text (/v1/chat/completions, /v1/completions)");
        return REFUSED;
    }
    if (e->options.no_auto_tools && q->tools.len > 0 && q->tool_choice == TUNNEL_TOOLS_AUTO) {
        job_fail(e, j, 400, NULL, "tool_choice",
                 "this engine was started with --no-enable-auto-tool-choice: use "
                 "required, a function's name, or none");
        return REFUSED;
    }
    uint32_t vectors = e->options.floats_max / (uint32_t)e->info.embed;
    if (e->options.embeds && choices > vectors) {
        job_fail(e, j, 400, NULL, "input",
                 "vectors of %d numbers: a request takes at most %u inputs, got %zu; send several requests",
                 e->info.embed, vectors, choices);
        return REFUSED;
    }
    if (!e->options.embeds && choices > e->options.choices_max) {
        job_fail(e, j, 400, NULL, "n", "at most %u answers a request, got %zu", e->options.choices_max, choices);
        return REFUSED;
    }
    if (q->logprobs > (int)e->options.logprobs_max || q->prompt_logprobs > (int)e->options.logprobs_max) {
        job_fail(e, j, 400, NULL, "logprobs", "at most %u alternatives a token", e->options.logprobs_max);
        return REFUSED;
    }
    if (q->truncate_prompt > (int32_t)e->options.context_max) {
        job_fail(e, j, 400, NULL, "truncate_prompt_tokens", "truncate_prompt_tokens is %d; this model's context has %u",
                 q->truncate_prompt, e->options.context_max);
        return REFUSED;
    }
    return check_ids(e, j);
}

/* The last tokens of a prompt, as many as were asked for, or as leave room for the answer. */
static void truncate_prompt(const struct engine *e, const struct tunnel_request *q, struct prompt *p)
{
    uint32_t room = q->has_max_tokens ? q->max_tokens : 1, keep = (uint32_t)q->truncate_prompt;
    if (q->truncate_prompt == 0)
        return;
    if (q->truncate_prompt < 0)
        keep = room < e->options.context_max ? e->options.context_max - room : 1;
    if (p->count <= keep)
        return;
    memmove(p->ids, p->ids + (p->count - keep), keep * sizeof *p->ids);
    secret_wipe(p->ids + keep, (p->count - keep) * sizeof *p->ids);
    p->count = keep;
}

static bool check_lengths(struct engine *e, struct job *j)
{
    const struct tunnel_request *q = j->request;
    uint32_t most = engine_defaults_most(&e->defaults);
    uint64_t prompts = 0;
    for (size_t i = 0; i < j->prompt_count; i++) {
        struct prompt *p = &j->prompt[i];
        if (!add_bos_if_empty(e, j, p))
            return REFUSED;
        truncate_prompt(e, q, p);
        uint64_t output = q->has_max_tokens ? q->max_tokens : 0;
        if (most > 0 && output > most) {
            job_fail(e, j, 400, NULL, "max_tokens",
                     "max_tokens is %llu; the model's generation configuration allows at most %u",
                     (unsigned long long)output, most);
            return REFUSED;
        }
        if (p->count + output > e->options.context_max || (!q->has_max_tokens && p->count >= e->options.context_max))
            return refuse_length(e, j, prompt_field(j), p->count, output);
        prompts += p->count;
    }
    if (prompts > UINT32_MAX)
        return refuse_length(e, j, prompt_field(j), prompts, 0);
    j->prompt_tokens = (uint32_t)prompts;
    return true;
}

/* --- what may be said ------------------------------------------------------------------------------------------- */

static bool make_allowed(struct engine *e, struct job *j)
{
    size_t count = tunnel_ids_count(j->request->allowed_ids);
    if (count == 0)
        return true;
    j->allowed = calloc(((size_t)e->info.vocab + 31) / 32, sizeof *j->allowed);
    if (!j->allowed)
        return short_of_memory(e, j);
    for (size_t i = 0; i < count; i++) {
        uint32_t id = tunnel_ids_at(j->request->allowed_ids, i);
        j->allowed[id / 32] |= 1u << id % 32;
    }
    return true;
}

/* One spelling of a forbidden word; no more than the tokens it had room for. */
static bool add_spelling(struct engine *e, struct job *j, struct span text)
{
    size_t from = j->bad_ids.count;
    if (engine_tokenizer_encode(e->tokenizer, text, 0, &j->bad_ids) != ENGINE_OK)
        return short_of_memory(e, j);
    if (j->bad_ids.count > from)
        j->bad[j->bad_count++] = (struct bad_word){(uint32_t)from, (uint32_t)(j->bad_ids.count - from)};
    return true;
}

/* As at the beginning of a text and as after a space: that is how vocabularies spell a word. */
static bool make_bad_words(struct engine *e, struct job *j)
{
    const struct tunnel_request *q = j->request;
    j->bad_ids.max = (TUNNEL_BAD_WORD_MAX + 2) * 2 * TUNNEL_BAD_WORDS_MAX;
    for (size_t i = 0; i < q->bad_word_count; i++) {
        char spaced[1 + TUNNEL_BAD_WORD_MAX] = " ";
        struct span word = q->bad_word[i];
        while (word.len > 1 && word.data[0] == ' ')
            word = span_of(word.data + 1, word.len - 1);
        memcpy(spaced + 1, word.data, word.len);
        bool ok = add_spelling(e, j, word) && add_spelling(e, j, span_of(spaced, 1 + word.len));
        secret_wipe(spaced, sizeof spaced);
        if (!ok)
            return REFUSED;
    }
    return true;
}

/* --- structured output ---------------------------------------------------------------------------------------- */

/* Many requests that wait with the largest grammars would take all memory. */
static bool count_grammar(struct engine *e, struct job *j)
{
    size_t bytes = engine_grammar_bytes(j->grammar);
    pthread_mutex_lock(&e->lock);
    bool fits = bytes <= GRAMMARS_BYTES_MAX - e->grammar_bytes;
    j->grammar_bytes = fits ? bytes : 0;
    e->grammar_bytes += j->grammar_bytes;
    pthread_mutex_unlock(&e->lock);
    if (!fits)
        job_fail(e, j, 429, "overloaded", "response_format",
                 "requests with large grammars are waiting; try again in a moment, or with a smaller grammar");
    return fits;
}

/* Compiled here, off the step path. The vocabulary's order is made for the first request that needs it. */
static bool make_grammar(struct engine *e, struct job *j)
{
    static const enum engine_grammar_kind kinds[] = {[TUNNEL_FORMAT_JSON] = ENGINE_GRAMMAR_JSON,
                                                     [TUNNEL_FORMAT_SCHEMA] = ENGINE_GRAMMAR_SCHEMA,
                                                     [TUNNEL_FORMAT_REGEX] = ENGINE_GRAMMAR_REGEX,
                                                     [TUNNEL_FORMAT_GRAMMAR] = ENGINE_GRAMMAR_EBNF,
                                                     [TUNNEL_FORMAT_CHOICE] = ENGINE_GRAMMAR_CHOICE};
    const struct tunnel_request *q = j->request;
    bool forced = j->tools && q->tool_choice >= TUNNEL_TOOLS_REQUIRED;
    struct engine_problem why = {0};
    if (q->format == TUNNEL_FORMAT_TEXT && !forced)
        return true;
    if (!e->grammar_vocab && !(e->grammar_vocab = engine_grammar_vocab_open(e->tokenizer)))
        engine_problem_set(&why, ENGINE_E_MEMORY, "too little memory");
    else if (forced && q->tools.len > ENGINE_GRAMMAR_TEXT_MAX)
        engine_problem_set(&why, ENGINE_E_LIMIT,
                           "tools: a call can be forced of a list of at most %u bytes, not %zu; offer fewer tools, or "
                           "ask with tool_choice auto",
                           ENGINE_GRAMMAR_TEXT_MAX, q->tools.len);
    else if (forced)
        j->grammar =
            engine_grammar_compile_tools(j->tools, q->tool_choice == TUNNEL_TOOLS_NAMED ? q->tool_name : span_str(""),
                                         j->style.tools == ENGINE_TOOLCALL_HERMES ? ENGINE_GRAMMAR_CALL_TAGGED
                                         : j->style.tools == ENGINE_TOOLCALL_XML  ? ENGINE_GRAMMAR_CALL_XML
                                                                                  : ENGINE_GRAMMAR_CALL_JSON,
                                         q->parallel_tool_calls, e->grammar_vocab, &why);
    else
        j->grammar = engine_grammar_compile(kinds[q->format], q->format_text, e->grammar_vocab, &why);
    if (j->grammar)
        return count_grammar(e, j);
    if (why.code == ENGINE_E_MEMORY)
        (void)short_of_memory(e, j);
    else
        job_fail(e, j, 400, NULL, forced ? "tools" : "response_format", "%s", why.text);
    return REFUSED;
}

/* --- answers that need no model ---------------------------------------------------------------------------------- */

static void send_start(const struct engine *e, struct job *j)
{
    struct tunnel_event ev = {
        .kind = TUNNEL_EVENT_START, .prompt_tokens = j->prompt_tokens, .context_max = e->options.context_max};
    j->started = true;
    job_send(j, &ev);
}

static void send_pieces(const struct engine *e, struct job *j, const struct prompt *p)
{
    struct tunnel_event ev = {.kind = TUNNEL_EVENT_PROMPT};
    for (uint32_t i = 0; i < p->count; i++) {
        struct span bytes = engine_tokenizer_piece(e->tokenizer, p->ids[i], true);
        bytes.len = bytes.len < JOB_PIECE_SHOWN_MAX ? bytes.len : JOB_PIECE_SHOWN_MAX;
        ev.logprob[ev.logprob_count++].chosen = (struct tunnel_top){.id = (uint32_t)p->ids[i], .bytes = bytes};
        if (ev.logprob_count < TUNNEL_LOGPROBS_MAX && i + 1 < p->count)
            continue;
        job_send(j, &ev);
        ev.logprob_count = 0;
    }
}

static void answer_tokenize(struct engine *e, struct job *j)
{
    uint8_t bytes[4 * 2048];
    for (size_t i = 0; i < j->prompt_count; i++)
        j->prompt_tokens += j->prompt[i].count;
    send_start(e, j);
    for (size_t i = 0; i < j->prompt_count; i++) {
        const struct prompt *p = &j->prompt[i];
        for (uint32_t done = 0, n; done < p->count; done += n) {
            n = p->count - done < 2048 ? p->count - done : 2048;
            for (uint32_t k = 0; k < n; k++) {
                uint32_t id = (uint32_t)p->ids[done + k];
                uint8_t be[4] = {(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
                memcpy(bytes + 4 * k, be, 4);
            }
            struct tunnel_event ev = {.kind = TUNNEL_EVENT_RESULT, .index = (uint32_t)i, .ids = span_of(bytes, 4 * n)};
            job_send(j, &ev);
        }
        if (j->request->return_ids)
            send_pieces(e, j, p);
    }
    secret_wipe(bytes, sizeof bytes);
    job_done(e, j);
}

static void answer_detokenize(struct engine *e, struct job *j)
{
    send_start(e, j);
    for (size_t i = 0; i < j->prompt_count; i++) {
        struct stop text;
        stop_init(&text, NULL, 0, false, engine_tokenizer_leading_space(e->tokenizer));
        for (uint32_t k = 0; k < j->prompt[i].count; k++)
            stop_feed(&text, engine_tokenizer_piece(e->tokenizer, j->prompt[i].ids[k], true));
        stop_finish(&text);
        for (struct span rest = stop_text(&text, SIZE_MAX), s; rest.len > 0;
             rest = span_of(rest.data + s.len, rest.len - s.len)) {
            s = span_of(rest.data, rest.len < TUNNEL_TEXT_MAX ? rest.len : TUNNEL_TEXT_MAX);
            s.len -= s.len < rest.len ? utf8_tail(s) : 0;
            struct tunnel_event ev = {.kind = TUNNEL_EVENT_RESULT, .index = (uint32_t)i, .text = s};
            job_send(j, &ev);
        }
        stop_release(&text);
    }
    job_done(e, j);
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

static uint64_t draw_seed(const struct engine *e, const struct job *j)
{
    uint64_t seed;
    if (j->request->has_seed)
        return j->request->seed;
    if (e->options.has_seed) /* one stream of seeds, by order of arrival */
        return e->options.seed * 0x9E3779B97F4A7C15u + j->id * 0xD1B54A32D192ED03u;
    randombytes_buf(&seed, sizeof seed);
    return seed;
}

static void hand_over(struct engine *e, struct job *j)
{
    const struct tunnel_request *q = j->request;
    j->seed = draw_seed(e, j);
    j->prompt_top = q->prompt_logprobs;
    if (q->echo && q->logprobs > j->prompt_top)
        j->prompt_top = q->logprobs;
    if (!job_make_choices(e, j)) {
        (void)short_of_memory(e, j);
        return;
    }
    pthread_mutex_lock(&e->lock);
    queue_push(&e->ready, j);
    pthread_cond_signal(&e->step_wake);
    pthread_mutex_unlock(&e->lock);
}

static void take(struct engine *e, struct job *j, bool draining, bool full)
{
    if (j->request)
        engine_settle(e, j->request);
    if (j->request && j->request->task == TUNNEL_EMBED) { /* a vector is no text: nothing is generated */
        j->request->has_max_tokens = true;
        j->request->max_tokens = 0;
    }
    if (draining)
        job_fail(e, j, 503, "draining", NULL, "the engine is going down; try another");
    else if (full)
        job_fail(e, j, 429, "overloaded", NULL, "too many requests are waiting; try again in a moment");
    else if (!check_model(e, j) ||
             (j->request->task != TUNNEL_TOKENIZE && j->request->task != TUNNEL_DETOKENIZE && !check_features(e, j)))
        return;
    else if (!make_prompts(e, j))
        return;
    else if (atomic_load(&j->cancelled))
        job_fail(e, j, 499, "cancelled", NULL, "the request was cancelled");
    else if (j->request->task == TUNNEL_TOKENIZE)
        answer_tokenize(e, j);
    else if (j->request->task == TUNNEL_DETOKENIZE)
        answer_detokenize(e, j);
    else if (check_lengths(e, j) && make_allowed(e, j) && make_bad_words(e, j) && make_grammar(e, j))
        hand_over(e, j);
}

void *engine_intake_main(void *engine)
{
    struct engine *e = engine;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        struct job *j;
        while (!(j = queue_pop(&e->intake)) && !e->stopping)
            pthread_cond_wait(&e->intake_wake, &e->lock);
        if (!j)
            break;
        bool draining = e->stopping || (e->draining && !j->request);
        pthread_mutex_unlock(&e->lock);
        take(e, j, draining, !j->request);
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}
