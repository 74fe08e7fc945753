#include "engine/node_sealed.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/policy.h"
#include "tunnel/openai.h"
#include "verifier/sealed.h"

enum { ANSWER_MAX = 80 << 20, PLAIN_MAX = 33 << 20 };

struct sealed {
    struct openai_request *request; /* NULL: refused */
    struct openai_response *response;
    struct verifier_hpke hpke;
    struct verifier_sealed_writer writer;
    uint8_t enc[VERIFIER_KEY_LEN];
    bool stream, any, whole; /* any: data of the answer was sealed before */
    struct writer out, text; /* sealed bytes; scratch */
    struct tunnel_event event;
};

/* --- opening ------------------------------------------------------------------------------------------------- */

static bool decrypt(struct node *n, struct sealed *s, const struct verifier_sealed_request *r, struct writer *plain,
                    const char **code)
{
    uint8_t statement[64], policy[64];
    struct writer info = writer_with_max(512);
    verifier_sha512(statement, span_of(n->attester.statement, n->attester.statement_len));
    policy_node_policy_digest(n->papers, policy);
    verifier_sealed_info(&info, statement, policy);
    enum attester_err err = attester_open(n->attester.owner_fd, r->enc, writer_span(&info), r->head_bytes, &s->hpke);
    writer_release(&info);
    if (err != ATTESTER_OK) {
        *code = err == ATTESTER_E_EPOCH ? "seal_epoch" : "seal_open";
        return false;
    }
    enum verifier_err opened = verifier_sealed_request_open(r, &s->hpke, plain);
    if (opened != VERIFIER_OK) {
        *code = verifier_err_name(opened);
        return false;
    }
    /* Only what opened is remembered, so nobody can fill the table with noise. */
    err = attester_opened_once(n->attester.owner_fd, r->enc, r->head.epoch);
    if (err != ATTESTER_OK)
        *code = err == ATTESTER_E_REPLAY ? "replay" : "seal_epoch";
    return err == ATTESTER_OK;
}

/* --- what is inside must stay within the head, and within the policy -------------------------------------------- */

static bool refuse(struct openai_error *e, const char *param, const char *what)
{
    openai_error_set(e, 400, "invalid_request_error", NULL, param,
                     "%s differs from what the sealed request's head says", what);
    return false;
}

static bool within_head(struct tunnel_request *q, const struct verifier_sealed_head *head, struct openai_error *e)
{
    if (q->model.len > 0 && !span_equal(q->model, head->model))
        return refuse(e, "model", "model");
    q->model = head->model;
    if (q->stream != head->stream)
        return refuse(e, "stream", "stream");
    if (q->has_max_tokens && q->max_tokens > head->max_tokens)
        return refuse(e, "max_tokens", "max_tokens");
    if (!q->has_max_tokens)
        q->max_tokens = head->max_tokens;
    memcpy(q->id, head->request, sizeof q->id);
    return true;
}

/* The policy alone: whose tenant this is, only the proxy knows. */
static bool admit(const struct node *n, struct tunnel_request *q, struct openai_error *e)
{
    const struct policy *policy = policy_node_policy(n->papers);
    struct policy_admitted a = {0};
    engine_settle(n->engine, q);
    struct policy_request_facts facts = {.endpoint = 1u << q->task, /* as in proxy/front_admit.c */
                                         .model = q->model,
                                         .features = tunnel_request_features(q),
                                         .has_max_tokens = q->has_max_tokens,
                                         .max_tokens = q->max_tokens,
                                         .choices = q->n,
                                         .prompts = q->prompt_count ? (uint32_t)q->prompt_count : 1,
                                         .temperature = q->temperature,
                                         .top_p = q->top_p,
                                         .repetition_penalty = q->repetition_penalty};
    if (policy_admit(policy, NULL, &facts, policy_node_now(n->papers, node_now_ms()), &a) != POLICY_ADMIT_OK) {
        int status = (int)policy_admit_status(a.code);
        openai_error_set(e, status, status >= 500 ? "server_error" : "invalid_request_error", policy_admit_name(a.code),
                         a.field ? a.field : "", "%s", a.text);
        return false;
    }
    if (policy->requests.cache == POLICY_CACHE_NONE)
        q->salt = span_of(NULL, 0);
    if (!q->has_max_tokens && a.max_tokens > 0 && (q->max_tokens == 0 || a.max_tokens < q->max_tokens))
        q->max_tokens = a.max_tokens;
    return true;
}

/* --- answering ---------------------------------------------------------------------------------------------------- */

static bool put(struct sealed *s, struct span data, bool last)
{
    while (data.len > VERIFIER_SEALED_DATA_MAX) {
        if (!verifier_sealed_writer_chunk(&s->writer, span_of(data.data, VERIFIER_SEALED_DATA_MAX), false, &s->out))
            return false;
        data = span_of(data.data + VERIFIER_SEALED_DATA_MAX, data.len - VERIFIER_SEALED_DATA_MAX);
    }
    s->any = true;
    s->whole = s->whole || last;
    return (data.len == 0 && !last) || verifier_sealed_writer_chunk(&s->writer, data, last, &s->out);
}

/* A whole body that is no stream; another status than 200 goes before it. */
static bool put_body(struct sealed *s, int status, struct span body)
{
    struct writer head = writer_with_max(256);
    struct verifier_sealed_status what = {.status = (unsigned)status, .type = span_str("application/json")};
    bool ok = true;
    if (status != 200) {
        verifier_sealed_status_encode(&head, &what);
        ok = put(s, writer_span(&head), false);
    }
    writer_release(&head);
    return ok && put(s, body, true);
}

static bool put_error(struct sealed *s, const struct openai_error *e)
{
    writer_reset(&s->text);
    openai_error_encode(&s->text, e);
    return writer_ok(&s->text) && put_body(s, e->status, writer_span(&s->text));
}

static bool begin_answer(struct sealed *s)
{
    uint8_t nonce[32];
    randombytes_buf(nonce, sizeof nonce);
    return verifier_sealed_writer_begin(&s->writer, &s->hpke, s->enc, nonce, &s->out);
}

/* From plaintext to a request, or to a refusal that is sealed already. False: out of memory. */
static bool take_plain(struct node *n, struct sealed *s, const struct verifier_sealed_head *head, struct span json)
{
    struct openai_error e = {0};
    enum tunnel_task task;
    char id[33];
    if (!openai_task_of(head->endpoint, &task)) {
        openai_error_set(&e, 404, "not_found_error", NULL, NULL, "this engine has no such route");
        return put_error(s, &e);
    }
    s->request = openai_request_parse(task, json, &e);
    bool ok = s->request && within_head(&s->request->request, head, &e) && admit(n, &s->request->request, &e);
    if (!ok) {
        openai_request_free(s->request);
        s->request = NULL;
        return put_error(s, &e);
    }
    s->stream = s->request->request.stream;
    policy_hex_print(span_of(head->request, sizeof head->request), id);
    char model[TUNNEL_NAME_MAX + 1];
    snprintf(model, sizeof model, "%.*s", (int)head->model.len, (const char *)head->model.data);
    s->response = openai_response_open(s->request, id, model, policy_node_now(n->papers, node_now_ms()));
    return s->response != NULL;
}

struct sealed *sealed_open(struct node *n, struct span body, const char **code)
{
    struct verifier_sealed_request r;
    struct writer plain = writer_with_max(PLAIN_MAX);
    struct sealed *s = calloc(1, sizeof *s);
    enum verifier_err err = verifier_sealed_request_parse(&r, body);
    *code = "memory";
    if (s && err != VERIFIER_OK) {
        *code = verifier_err_name(err);
    } else if (s && memcmp(r.head.engine, n->attester.identity, sizeof r.head.engine) != 0) {
        *code = "seal_engine";
    } else if (s) {
        s->out = writer_with_max(ANSWER_MAX);
        s->text = writer_with_max(ANSWER_MAX);
        memcpy(s->enc, r.enc, sizeof s->enc);
        if (decrypt(n, s, &r, &plain, code) && begin_answer(s) && take_plain(n, s, &r.head, writer_span(&plain))) {
            writer_release(&plain);
            return s;
        }
    }
    writer_release(&plain);
    sealed_free(s);
    return NULL;
}

void sealed_free(struct sealed *s)
{
    if (!s)
        return;
    openai_response_free(s->response);
    openai_request_free(s->request);
    verifier_sealed_writer_release(&s->writer);
    verifier_hpke_wipe(&s->hpke);
    writer_release(&s->out);
    writer_release(&s->text);
    secret_wipe(s, sizeof *s);
    free(s);
}

const struct tunnel_request *sealed_request(const struct sealed *s)
{
    return s->request ? &s->request->request : NULL;
}

bool sealed_feed(struct sealed *s, struct span packed)
{
    if (s->whole || !s->response || tunnel_event_parse(&s->event, packed) != READER_OK)
        return false;
    if (s->event.kind == TUNNEL_EVENT_ERROR && !s->any) { /* nothing was said yet: a plain error with its status */
        struct openai_error e;
        openai_error_from_event(&e, &s->event);
        return put_error(s, &e);
    }
    writer_reset(&s->text);
    if (s->stream) {
        bool last = openai_response_stream(s->response, &s->event, &s->text);
        return writer_ok(&s->text) && put(s, writer_span(&s->text), last);
    }
    if (!openai_response_collect(s->response, &s->event))
        return true;
    int status = openai_response_body(s->response, &s->text);
    return writer_ok(&s->text) && put_body(s, status, writer_span(&s->text));
}

struct span sealed_bytes(const struct sealed *s)
{
    return writer_span(&s->out);
}

bool sealed_is_whole(const struct sealed *s)
{
    return s->whole;
}

void sealed_sent(struct sealed *s, size_t len)
{
    memmove(s->out.data, s->out.data + len, s->out.len - len);
    s->out.len -= len;
}
