/* message.h - what proxy and engine say to each other: one request, many events.
 * The proxy turns OpenAI's JSON into a request (tunnel/openai.h) and events back into JSON; the engine knows no
 * HTTP. Packed by msgpack-c, read by our bounded cursor: parsing borrows from the bytes, allocates nothing and
 * refuses unknown, missing or repeated fields, trailing bytes and anything over the limits below. */
#ifndef TUNNEL_MESSAGE_H
#define TUNNEL_MESSAGE_H

#include "verifier/base/reader.h"
#include "verifier/base/writer.h"

enum {
    TUNNEL_REQUEST_MAX = 40 << 20, /* bytes of a packed request: a body of 32 MiB and its framing */
    TUNNEL_EVENT_MAX = 16 << 10,   /* bytes of a packed event: fits one frame */
    TUNNEL_INPUTS_MAX = 2048,      /* of an embed request, as at OpenAI */
    TUNNEL_PROMPTS_MAX = 128,      /* of any other */
    TUNNEL_CHOICES_MAX = 128,
    TUNNEL_STOPS_MAX = 64,
    TUNNEL_STOP_IDS_MAX = 64,
    TUNNEL_BIAS_MAX = 1024,
    TUNNEL_BAD_WORDS_MAX = 64,
    TUNNEL_BAD_WORD_MAX = 256,    /* bytes */
    TUNNEL_ALLOWED_MAX = 1 << 20, /* ids */
    TUNNEL_TOP_MAX = 20,
    TUNNEL_LOGPROBS_MAX = 8, /* tokens whose log-probabilities one event carries */
    TUNNEL_TEXT_MAX = 4096,  /* bytes of text one event carries */
    TUNNEL_NAME_MAX = 256,
};

#define TUNNEL_TOP_K_LEFT_OUT UINT32_MAX

enum tunnel_task { TUNNEL_CHAT, TUNNEL_COMPLETION, TUNNEL_EMBED, TUNNEL_TOKENIZE, TUNNEL_DETOKENIZE };
enum tunnel_tool_choice { TUNNEL_TOOLS_NONE, TUNNEL_TOOLS_AUTO, TUNNEL_TOOLS_REQUIRED, TUNNEL_TOOLS_NAMED };
enum tunnel_format {
    TUNNEL_FORMAT_TEXT,
    TUNNEL_FORMAT_JSON,
    TUNNEL_FORMAT_SCHEMA,
    TUNNEL_FORMAT_REGEX,
    TUNNEL_FORMAT_GRAMMAR,
    TUNNEL_FORMAT_CHOICE
};

/* One prompt of a completion: text, or token ids as big-endian u32 each (tunnel_ids_count, tunnel_ids_at). */
struct tunnel_prompt {
    bool is_ids;
    struct span bytes;
};

struct tunnel_bias {
    uint32_t id;
    double bias; /* -100 to 100, added to the logit */
};

struct tunnel_request {
    uint8_t id[16]; /* random, made by the proxy; names the request in logs and receipts */
    enum tunnel_task task;
    struct span model;           /* served name, 1 to TUNNEL_NAME_MAX bytes */
    struct span messages;        /* chat: JSON array as validated by tunnel/openai.h; else empty */
    struct span tools;           /* JSON array, or empty */
    struct span template_kwargs; /* JSON object, or empty */
    bool add_generation_prompt, continue_final_message, add_special_tokens;
    size_t prompt_count; /* completion, embed, tokenize, detokenize: 1 to tunnel_prompts_max(); chat: 0 */
    struct tunnel_prompt prompt[TUNNEL_INPUTS_MAX];

    enum tunnel_tool_choice tool_choice;
    struct span tool_name; /* with TUNNEL_TOOLS_NAMED */
    bool parallel_tool_calls;
    enum tunnel_format format;
    struct span format_text; /* schema (JSON), regex, grammar (EBNF) or choices (JSON array of strings) */

    uint32_t max_tokens; /* new tokens a choice may have; 0 with `has_max_tokens`: none, only the prompt is wanted */
    bool has_max_tokens; /* false: what is left of the context, at most `max_tokens` unless that is 0 */
    uint32_t min_tokens, n;
    /* The first four may be NaN, top_k TUNNEL_TOP_K_LEFT_OUT: not given, the engine takes what its model wants. */
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    uint32_t top_k; /* 0 = off */
    bool has_seed;
    uint64_t seed;
    size_t stop_count, stop_id_count, bias_count;
    struct span stop[TUNNEL_STOPS_MAX];
    uint32_t stop_id[TUNNEL_STOP_IDS_MAX];
    struct tunnel_bias bias[TUNNEL_BIAS_MAX];
    struct span allowed_ids; /* the only ids that may be chosen, big-endian u32 each; empty: all */
    size_t bad_word_count;
    struct span bad_word[TUNNEL_BAD_WORDS_MAX]; /* the output never has the tokens of one of these in a row */
    int32_t truncate_prompt; /* keep only so many of the prompt's last tokens; 0: all; -1: what fits */
    bool return_ids;     /* prompt ids as PROMPT events, and ids of all of the output; tokenize: each token's bytes */
    int logprobs;        /* -1 none, else how many alternatives beside the chosen token, 0 to TUNNEL_TOP_MAX */
    int prompt_logprobs; /* the same for the prompt */
    bool ignore_eos, include_stop, skip_special, echo, stream;

    struct span salt;    /* prefix-cache isolation: equal salts may share; 0 to 64 bytes, empty = share with nobody */
    int32_t priority;    /* lower is sooner; 0 is normal */
    uint32_t timeout_ms; /* from arrival at the engine; 0 = none */
};

enum tunnel_event_kind {
    TUNNEL_EVENT_START,  /* accepted and tokenized: `prompt_tokens` (all prompts), `cached_tokens`, `context_max`;
                            exactly  once, first */
    TUNNEL_EVENT_DELTA,  /* more of choice `index`: `channel`, `text` (whole UTF-8 characters), log-probabilities */
    TUNNEL_EVENT_PROMPT, /* log-probabilities or `ids` of prompt tokens of choice `index`, in order, before its deltas
                          */
    TUNNEL_EVENT_FINISH, /* choice `index` is complete: `finish` */
    TUNNEL_EVENT_RESULT, /* answer of embed (`floats`), tokenize (`ids`), detokenize (`text`), in pieces, in order */
    TUNNEL_EVENT_DONE,   /* everything is complete: totals; exactly once, last unless ERROR */
    TUNNEL_EVENT_ERROR,  /* nothing more follows: `status`, `code`, `param`, `text` (a sentence without secrets) */
};

enum tunnel_channel_name { TUNNEL_CONTENT, TUNNEL_REASONING, TUNNEL_TOOL_NAME, TUNNEL_TOOL_ARGUMENTS };
enum tunnel_finish { TUNNEL_FINISH_STOP, TUNNEL_FINISH_LENGTH, TUNNEL_FINISH_TOOL_CALLS };

struct tunnel_top {
    uint32_t id;
    double logprob;
    struct span bytes; /* the token's own bytes, at most 256 */
};
struct tunnel_logprob {
    bool known; /* false: the first token of a prompt has none */
    struct tunnel_top chosen;
    size_t top_count;
    struct tunnel_top top[TUNNEL_TOP_MAX]; /* descending */
};

struct tunnel_event {
    enum tunnel_event_kind kind;
    uint32_t index; /* choice: prompt * n + i */
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    uint32_t context_max; /* tokens that a prompt and its answer may have together */
    enum tunnel_channel_name channel;
    uint32_t tool_index; /* which tool call of the choice, with the two TUNNEL_TOOL_* channels */
    struct span text;    /* at most TUNNEL_TEXT_MAX bytes */
    struct span ids;     /* token ids of this delta, prompt or result, big-endian u32 each */
    struct span floats;  /* float32, big-endian */
    size_t logprob_count;
    struct tunnel_logprob logprob[TUNNEL_LOGPROBS_MAX];
    enum tunnel_finish finish;
    uint32_t status;   /* HTTP status, 400 to 599 */
    struct span code;  /* OpenAI's error code or empty */
    struct span param; /* the field at fault or empty */
};

/* How many prompts a request of `task` may have. */
size_t tunnel_prompts_max(enum tunnel_task task);

/* A request with the defaults of the API (n 1, no logprobs, ...); how tokens are drawn is left to the model. */
void tunnel_request_defaults(struct tunnel_request *out);

/* What a request makes use of: bits in the order of enum policy_feature (policy/admit.h), which this folder cannot see.
 */
uint32_t tunnel_request_features(const struct tunnel_request *q);

/* Pack into `w`; false when `w` is full. */
MUST_CHECK bool tunnel_request_pack(struct writer *w, const struct tunnel_request *in);
MUST_CHECK bool tunnel_event_pack(struct writer *w, const struct tunnel_event *in);

/* Parse exactly `bytes`; `*out` borrows from them. READER_OK or the first fault. The structs are large (tens of
 * kilobytes): keep them off small stacks. */
MUST_CHECK enum reader_err tunnel_request_parse(struct tunnel_request *out, struct span bytes);
MUST_CHECK enum reader_err tunnel_event_parse(struct tunnel_event *out, struct span bytes);

static inline size_t tunnel_ids_count(struct span ids)
{
    return ids.len / 4;
}
static inline uint32_t tunnel_ids_at(struct span ids, size_t i)
{
    const uint8_t *b = ids.data + 4 * i;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

#endif
