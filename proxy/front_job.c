/* front_job.c - one inference request from its JSON body to the last byte of its answer.
 * A job lives on its connection's loop thread; the backend's callbacks only carry bytes there. It ends when both the
 * backend has said its last word and the request is gone. */
#include "proxy/front_parts.h"

#include "verifier/base/secret.h"
#include "verifier/sealed.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <time.h>

enum { CREDIT_UNSENT = 64 << 10 }; /* while more than this waits for the reader, the engine gets no new credit */

struct job {
    struct front *front;
    struct hx_loop *loop;
    struct hx_req *req;                 /* NULL once gone */
    struct openai_response *out;        /* one of these two */
    struct openai_responses *responses; /* POST /v1/responses */
    uint64_t backend_id;
    char tenant[POLICY_TENANT_NAME_MAX + 1];
    bool stream, sealed;
    bool has_event;                            /* the engine has said something */
    bool finished;                             /* the answer is complete or refused */
    bool ended;                                /* the backend's last word came */
    bool busy;                                 /* inside arrive(), which frees it itself */
    size_t owed;                               /* bytes of events whose credit is held back */
    uint32_t prompt_tokens, completion_tokens; /* as far as the engine has told; unknown when sealed */
    uint64_t sealed_tokens;                    /* what a sealed request counts against its tenant's quota */
};

/* What crosses from the backend's thread to the loop's. */
struct carried {
    struct job *job;
    bool is_end;
    enum backend_end end;
    char code[65];
    size_t len;
    uint8_t bytes[];
};

/* --- end of life ------------------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
    openai_response_free(j->out);
    openai_responses_free(j->responses);
    free(j);
}

static void job_free_if_over(struct job *j)
{
    if (j->req || !j->ended || j->busy)
        return;
    front_usage_end(j->front, j->tenant, (uint64_t)j->prompt_tokens + j->completion_tokens + j->sealed_tokens);
    atomic_fetch_add(&j->front->metrics.prompt_tokens, j->prompt_tokens);
    atomic_fetch_add(&j->front->metrics.completion_tokens, j->completion_tokens);
    atomic_fetch_sub(&j->front->jobs, 1);
    job_free(j);
}

static void on_gone(void *ctx)
{
    struct job *j = ctx;

    if (!j->finished)
        metrics_request(&j->front->metrics, metrics_route_of(hx_req_path(j->req)), 0);
    j->req = NULL;
    if (!j->ended)
        j->front->config.backend.cancel(j->front->config.backend.ctx, j->backend_id);
    job_free_if_over(j);
}

static void give_credit(struct job *j)
{
    if (j->owed > 0)
        j->front->config.backend.consumed(j->front->config.backend.ctx, j->backend_id, j->owed);
    j->owed = 0;
}

static void on_drained(void *ctx)
{
    give_credit(ctx);
}

/* --- answers ----------------------------------------------------------------------------------------- */

static void open_stream(struct job *j)
{
    struct hx_header more[4];
    size_t count = front_cors(j->front, j->req, more);

    more[count++] = (struct hx_header){"x-accel-buffering", "no"};
    hx_stream_open(j->req, "text/event-stream; charset=utf-8", more, count);
}

/* May free the job: the request can be gone when this returns. */
static void end_stream(struct job *j, bool complete)
{
    j->finished = true;
    front_count(j->front, j->req, complete ? 200 : 502);
    hx_stream_end(j->req, complete);
}

static void on_silence(void *ctx);

static void rearm(struct job *j)
{
    if (j->req && j->stream && !j->finished)
        hx_req_alarm(j->req, hx_stream_is_open(j->req) ? FRONT_KEEP_ALIVE_MS : FRONT_PATIENCE_MS, on_silence);
}

/* Nothing to say for a while: keep the way open through proxies that drop idle connections. */
static void on_silence(void *ctx)
{
    struct job *j = ctx;

    if (!hx_stream_is_open(j->req))
        open_stream(j);
    rearm(j);
    hx_stream_send(j->req, span_str(": keep-alive\n\n"));
}

static void fail(struct job *j, const struct openai_error *e, unsigned retry_after_s)
{
    struct writer w = writer_with_max(64 << 10);

    if (!hx_stream_is_open(j->req)) {
        j->finished = true;
        front_error_of(j->front, j->req, e, retry_after_s);
    } else {
        if (j->responses)
            openai_responses_fail(j->responses, e, &w);
        else
            openai_response_fail(j->out, e, &w);
        j->finished = true;
        hx_stream_send(j->req, writer_span(&w));
        if (j->req)
            end_stream(j, true);
    }
    writer_release(&w);
}

static void note_event(struct job *j, const struct tunnel_event *ev)
{
    if (!j->has_event)
        metrics_observe(&j->front->metrics.first_token, hx_req_age_ms(j->req) * 1000);
    j->has_event = true;
    if (ev->kind == TUNNEL_EVENT_START)
        j->prompt_tokens = ev->prompt_tokens;
    if (ev->kind == TUNNEL_EVENT_DELTA) /* who leaves in the middle has used what came so far */
        j->completion_tokens += (uint32_t)tunnel_ids_count(ev->ids);
    if (ev->kind == TUNNEL_EVENT_DONE) {
        j->prompt_tokens = ev->prompt_tokens;
        j->completion_tokens = ev->completion_tokens;
    }
}

static void stream_event(struct job *j, const struct tunnel_event *ev)
{
    struct writer w = writer_with_max(1 << 20);
    bool over;

    if (!hx_stream_is_open(j->req))
        open_stream(j);
    over = j->responses ? openai_responses_stream(j->responses, ev, &w) : openai_response_stream(j->out, ev, &w);
    rearm(j);
    if (writer_span(&w).len > 0)
        hx_stream_send(j->req, writer_span(&w));
    if (j->req && !writer_ok(&w)) /* out of memory: break off, nothing may be missing in silence */
        end_stream(j, false);
    else if (j->req && over)
        end_stream(j, true);
    writer_release(&w);
}

static void collect_event(struct job *j, const struct tunnel_event *ev)
{
    struct writer w;
    int status;

    if (!(j->responses ? openai_responses_collect(j->responses, ev) : openai_response_collect(j->out, ev)))
        return;
    j->finished = true;
    w = writer_with_max(256 << 20);
    status = j->responses ? openai_responses_body(j->responses, &w) : openai_response_body(j->out, &w);
    if (writer_ok(&w) && status == 200)
        front_answer(j->front, j->req, status, "application/json", writer_span(&w));
    else
        front_error(j->front, j->req, 500, NULL, NULL, "The server had a fault; request id %s.", hx_req_id(j->req));
    writer_release(&w);
}

static void on_event(struct job *j, struct span bytes)
{
    struct tunnel_event ev;
    struct openai_error e;

    if (tunnel_event_parse(&ev, bytes) != READER_OK) {
        openai_error_set(&e, 502, "server_error", "engine_unavailable", "", "The engine's answer could not be read.");
        fail(j, &e, 1);
        return;
    }
    note_event(j, &ev);
    if (ev.kind == TUNNEL_EVENT_ERROR) {
        if (j->responses) {
            openai_error_from_event(&e, &ev);
            openai_responses_rename(&e);
        } else {
            openai_response_error(j->out, &e, &ev);
        }
        fail(j, &e, 1);
    } else if (j->stream) {
        stream_event(j, &ev);
    } else {
        collect_event(j, &ev);
    }
}

/* The backend's last word although the answer is not complete. */
static void on_end(struct job *j, enum backend_end why, const char *code)
{
    struct openai_error e = {0};

    if (!hx_stream_is_open(j->req))
        hx_req_close(j->req); /* its engines may be gone: the next request comes on a connection attested anew */
    if (why == BACKEND_END_STOPPED)
        openai_error_set(&e, 503, "server_error", "draining", "", "The service is going down: send the request again.");
    else if (why == BACKEND_END_TOO_LARGE)
        openai_error_set(&e, 413, "invalid_request_error", "request_too_large", "", "The request is too large.");
    else if (why == BACKEND_END_UNAVAILABLE && code[0] && strcmp(code, "engine_unavailable") != 0)
        openai_error_set(&e, 503, "server_error", "engine_unavailable", "",
                         "The engine was lost (%s): send the request again.", code);
    else
        openai_error_set(&e, 503, "server_error", "engine_unavailable", "",
                         "No engine can take the request now: send it again shortly.");
    fail(j, &e, 2);
}

/* A sealed answer is opaque: pieces pass through, and only an end that the engine made ends it well. */
static void on_sealed(struct job *j, struct span bytes)
{
    if (!hx_stream_is_open(j->req))
        hx_stream_open(j->req, "application/airlock-sealed", NULL, 0);
    j->has_event = true;
    hx_stream_send(j->req, bytes);
}

/* The engine could not open it: the client has to challenge it again and seal anew. */
static bool is_seal_refusal(const char *code)
{
    return strncmp(code, "seal_", 5) == 0 || strcmp(code, "replay") == 0;
}

static void on_sealed_end(struct job *j, enum backend_end why, const char *code)
{
    struct openai_error e = {0};

    if (hx_stream_is_open(j->req)) {
        end_stream(j, why == BACKEND_END_DONE);
    } else if (is_seal_refusal(code)) {
        openai_error_set(&e, 409, "invalid_request_error", "seal_again", "",
                         "The engine could not open the sealed request (%s): challenge it again and seal anew.", code);
        fail(j, &e, 1);
    } else {
        on_end(j, why, code);
    }
}

static void take_event(struct job *j, struct span bytes)
{
    j->owed += bytes.len;
    if (j->req && !j->finished && j->sealed)
        on_sealed(j, bytes);
    else if (j->req && !j->finished)
        on_event(j, bytes);
    /* without a reader everything counts as passed on */
    if (!j->req || hx_stream_unsent(j->req) < CREDIT_UNSENT)
        give_credit(j);
}

static void take_end(struct job *j, enum backend_end why, const char *code)
{
    j->ended = true;
    if (j->req && !j->finished && j->sealed)
        on_sealed_end(j, why, code);
    else if (j->req && !j->finished)
        on_end(j, why, code);
}

static void arrive(void *arg)
{
    struct carried *c = arg;
    struct job *j = c->job;

    j->busy = true;
    if (c->is_end)
        take_end(j, c->end, c->code);
    else
        take_event(j, span_of(c->bytes, c->len));
    j->busy = false;
    job_free_if_over(j);
    secret_wipe(c->bytes, c->len);
    free(c);
}

/* --- the backend's thread ----------------------------------------------------------------------------- */

static void carry(struct job *j, bool is_end, enum backend_end end, const char *code, struct span bytes)
{
    static const struct timespec moment = {.tv_nsec = 1000000};
    struct carried *c;

    while (!(c = malloc(sizeof *c + bytes.len))) /* nothing may be lost: wait for memory */
        nanosleep(&moment, NULL);
    *c = (struct carried){.job = j, .is_end = is_end, .end = end, .len = bytes.len};
    snprintf(c->code, sizeof c->code, "%s", code);
    if (bytes.len > 0)
        memcpy(c->bytes, bytes.data, bytes.len);
    while (!hx_post(j->loop, arrive, c))
        nanosleep(&moment, NULL);
}

static void backend_event(void *ctx, struct span bytes)
{
    carry(ctx, false, BACKEND_END_DONE, "", bytes);
}

static void backend_ended(void *ctx, enum backend_end why, const char *code)
{
    carry(ctx, true, why, code ? code : "", span_of(NULL, 0));
}

static const struct backend_events job_events = {backend_event, backend_ended};

/* --- start ---------------------------------------------------------------------------------------------- */

/* Only this connection's engines once it was shown some. */
static bool allowed_engines(struct front *f, struct hx_req *r, const uint8_t (**allowed)[32], size_t *count)
{
    const struct front_conn *conn = front_conn_of(r, false);

    *allowed = NULL;
    *count = 0;
    if (!conn || !conn->attested)
        return true;
    *allowed = conn->shown;
    *count = conn->shown_count;
    if (f->config.backend.has_engine(f->config.backend.ctx, *allowed, *count))
        return true;
    hx_req_close(r); /* nothing that this connection may use is left: a new one will be shown what there is */
    front_error(f, r, 503, "attest_again", NULL,
                "The engines that this connection was shown are gone: open a new one and attest it.");
    return false;
}

static struct job *job_open(struct front *f, struct hx_req *r, const struct front_caller *caller)
{
    struct job *j = calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->front = f;
    j->loop = hx_req_loop(r);
    j->req = r;
    if (caller->tenant)
        snprintf(j->tenant, sizeof j->tenant, "%s", caller->tenant->name);
    return j;
}

static void job_start(struct job *j)
{
    atomic_fetch_add(&j->front->jobs, 1);
    hx_req_watch(j->req, on_gone, on_drained, j);
}

static void out_of_memory(struct front *f, struct hx_req *r)
{
    front_error(f, r, 503, "overloaded", NULL, "The server is short of memory: send the request again shortly.");
}

/* `in` and `responses` (maybe NULL) are given away. */
static void submit(struct front *f, struct hx_req *r, const struct front_caller *caller, struct openai_request *in,
                   struct openai_responses *responses, const char *asked_model)
{
    const struct front_backend *b = &f->config.backend;
    struct writer packed = writer_with_max(BACKEND_REQUEST_MAX);
    struct job *j = job_open(f, r, caller);
    const uint8_t(*allowed)[32];
    uint8_t salt[32];
    size_t count;
    bool packs;
    char id[33];

    if (!j) {
        openai_request_free(in);
        openai_responses_free(responses);
        out_of_memory(f, r);
        return;
    }
    j->responses = responses;
    j->stream = in->request.stream;
    /* A little less than the door's own limit: the engine ends it with an error that the client can read. */
    in->request.timeout_ms = f->config.limits.request_ms - f->config.limits.request_ms / 16;
    if (RAND_bytes(in->request.id, sizeof in->request.id) == 1)
        policy_hex_print(span_of(in->request.id, 16), id);
    else
        id[0] = 0;
    if (responses)
        openai_responses_begin(responses, id, asked_model, (uint64_t)time(NULL));
    else
        j->out = openai_response_open(in, id, asked_model, (uint64_t)time(NULL));
    front_set_salt(caller, &in->request, salt);
    packs = tunnel_request_pack(&packed, &in->request);
    openai_request_free(in); /* a parsed body takes many times its bytes: none waits for the answer */
    if ((!j->out && !responses) || !id[0] || !packs) {
        out_of_memory(f, r);
    } else if (allowed_engines(f, r, &allowed, &count)) {
        job_start(j);
        rearm(j);
        j->backend_id = b->submit(b->ctx, writer_span(&packed), allowed, count, &job_events, j);
        j = NULL; /* the callbacks' now */
    }
    if (j) { /* refused above */
        front_usage_end(f, j->tenant, 0);
        job_free(j);
    }
    writer_release(&packed);
}

/* The body of POST /v1/responses by way of the chat request that asks the same. */
static struct openai_request *parse_responses(struct span body, struct openai_responses **out, struct openai_error *why)
{
    struct writer chat = writer_with_max(TUNNEL_REQUEST_MAX);
    struct openai_request *in = NULL;

    *out = openai_responses_parse(body, &chat, why);
    if (*out && !(in = openai_request_parse(TUNNEL_CHAT, writer_span(&chat), why)))
        openai_responses_rename(why);
    writer_release(&chat);
    return in;
}

void front_infer(struct front *f, struct hx_req *r, enum tunnel_task task, bool as_responses,
                 struct front_caller *caller)
{
    const struct policy_model *model;
    struct openai_request *in = NULL;
    struct openai_responses *responses = NULL;
    struct openai_error why = {0};
    char asked[TUNNEL_NAME_MAX + 1];

    if (front_is_busy(f, r))
        goto out;
    if (!front_is_json(r)) {
        front_error(f, r, 400, "invalid_json", NULL, "The body must be JSON, sent with content-type application/json.");
        goto out;
    }
    in = as_responses ? parse_responses(hx_req_body(r), &responses, &why)
                      : openai_request_parse(task, hx_req_body(r), &why);
    if (!in) {
        front_error_of(f, r, &why, 1);
        goto out;
    }
    if (!(model = front_find_model(f, r, caller, in->request.model)))
        goto out;
    snprintf(asked, sizeof asked, "%.*s", (int)in->request.model.len, (const char *)in->request.model.data);
    in->request.model = span_str(model->name);
    if (!front_admit(f, r, caller, &in->request, false))
        goto out;
    submit(f, r, caller, in, responses, asked[0] ? asked : model->name);
    in = NULL;
    responses = NULL;
out:
    openai_responses_free(responses);
    openai_request_free(in);
    front_caller_release(caller);
}

/* --- sealed ----------------------------------------------------------------------------------------------- */

/* How many tokens a sealed request really takes nobody outside the engine sees: the quota is charged the most that it
 * may generate (a head without a limit: all that the context holds) and, for the prompt, a token for every four bytes.
 */
static uint64_t sealed_cost(struct front *f, const struct policy *p, const struct tunnel_request *q, size_t len)
{
    bool answers = q->task == TUNNEL_CHAT || q->task == TUNNEL_COMPLETION;
    uint64_t most = q->max_tokens > 0 ? q->max_tokens : answers ? front_context_max(f, p) : 0;

    return most + len / 4;
}

/* The engine opens the request and admits it again; here the head alone is held against the rules. */
void front_infer_sealed(struct front *f, struct hx_req *r, struct front_caller *caller)
{
    const struct front_backend *b = &f->config.backend;
    struct verifier_sealed_request sealed;
    struct tunnel_request q;
    struct job *j;

    tunnel_request_defaults(&q);
    if (front_is_busy(f, r)) {
        front_caller_release(caller);
        return;
    }
    if (verifier_sealed_request_parse(&sealed, hx_req_body(r)) != VERIFIER_OK ||
        !span_equal(sealed.head.endpoint, hx_req_path(r)) || !openai_task_of(sealed.head.endpoint, &q.task)) {
        front_error(f, r, 400, "invalid_sealed", NULL,
                    "The sealed request's head cannot be read or names another route.");
        front_caller_release(caller);
        return;
    }
    q.model = sealed.head.model;
    q.has_max_tokens = sealed.head.max_tokens > 0;
    q.max_tokens = sealed.head.max_tokens;
    q.stream = sealed.head.stream;
    if (front_find_model(f, r, caller, q.model) && front_admit(f, r, caller, &q, true)) {
        if ((j = job_open(f, r, caller))) {
            j->sealed = true;
            j->sealed_tokens = sealed_cost(f, &caller->rules->policy, &q, hx_req_body(r).len);
            job_start(j);
            j->backend_id = b->submit_sealed(b->ctx, hx_req_body(r), sealed.head.engine, &job_events, j);
        } else {
            front_usage_end(f, caller->tenant ? caller->tenant->name : "", 0);
            out_of_memory(f, r);
        }
    }
    front_caller_release(caller);
}
