/* connect_sealed.c - one request in sealed mode (specs/protocol § Sealed mode): the engine, challenged through the
 * proxy, proves a sealing key; the body is encrypted to it and only it can answer. The proxy sees the head (route,
 * model, limits), sizes and times. An answer without its final chunk is never an end. */
#include "proxy/connect_parts.h"

#include "tunnel/json.h"
#include "verifier/base/secret.h"
#include "verifier/sealed.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { COMPLETION_DEFAULT = 16 }; /* tokens, when /v1/completions says nothing */

/* --- the request --------------------------------------------------------------------------------------- */

struct shown {
    char model[257];
    uint32_t max_tokens;
    bool stream;
};

static uint32_t limit_of(const json_t *body, bool is_completion)
{
    const json_t *v = json_object_get(body, "max_completion_tokens");

    if (!json_is_integer(v))
        v = json_object_get(body, "max_tokens");
    if (!json_is_integer(v))
        return is_completion ? COMPLETION_DEFAULT : 0;
    return json_integer_value(v) > 0 && json_integer_value(v) <= UINT32_MAX ? (uint32_t)json_integer_value(v) : 0;
}

/* What the head has to show of the body. False: there is no model to name. */
static bool look(const struct relay *r, struct shown *out)
{
    char why[128];
    json_t *body = tunnel_json_parse(writer_span(&r->body), why, sizeof why);
    const char *model = json_string_value(json_object_get(body, "model"));

    memset(out, 0, sizeof *out);
    if (!model)
        model = r->connect->config.upstream.model;
    out->stream = json_is_true(json_object_get(body, "stream"));
    out->max_tokens = limit_of(body, strncmp(r->path, "/v1/completions", 15) == 0);
    if (model)
        snprintf(out->model, sizeof out->model, "%s", model);
    json_decref(body);
    return out->model[0] != 0;
}

static bool is_sealable(const char *path)
{
    static const char *const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize",
                                        "/detokenize"};

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (strcmp(path, paths[i]) == 0)
            return true;
    return false;
}

static bool seal(const struct relay *r, const struct sealed_target *t, const struct shown *shown, struct writer *body,
                 struct verifier_hpke *hpke, uint8_t enc[32])
{
    struct verifier_sealed_head head = {
        .epoch = t->epoch,
        .endpoint = span_str(r->path),
        .model = span_str(shown->model),
        .max_tokens = shown->max_tokens,
        .stream = shown->stream,
    };

    memcpy(head.engine, t->identity, sizeof head.engine);
    return RAND_bytes(head.request, sizeof head.request) == 1 &&
           verifier_sealed_request_seal(&head, t->seal_public, t->h_statement, t->policy, writer_span(&r->body), body,
                                        hpke, enc);
}

/* --- the answer ------------------------------------------------------------------------------------------ */

struct opened {
    struct relay *relay;
    bool stream, begun, streaming;
    int status;
    char type[129];
    struct writer whole;
    struct tail tail;
};

/* The first piece may be the status of an answer that is none. */
static bool take_status(struct opened *o, struct span data)
{
    struct verifier_sealed_status status;

    if (data.len == 0 || data.data[0] != 0x82 || verifier_sealed_status_parse(&status, data) != VERIFIER_OK)
        return false;
    o->status = (int)status.status;
    snprintf(o->type, sizeof o->type, "%.*s", (int)status.type.len, (const char *)status.type.data);
    return true;
}

static void on_piece(void *ctx, struct span data)
{
    struct opened *o = ctx;

    if (!o->begun) {
        o->begun = true;
        if (take_status(o, data))
            return;
        o->streaming = o->stream;
        if (o->streaming)
            relay_open_stream(o->relay, "text/event-stream; charset=utf-8");
    }
    if (o->streaming && data.len > 0) {
        tail_add(&o->tail, data);
        relay_send(o->relay, data);
    } else {
        writer_bytes(&o->whole, data);
    }
}

/* Feed the reader to the end of the answer. True when every chunk opened and the final one came. */
static bool read_all(struct relay *r, struct session *s, struct verifier_sealed_reader *reader)
{
    struct span piece;
    char why[CLIENT_WHY_MAX];

    for (;;) {
        if (!client_body(s->client, r->connect->config.request_ms, &piece, why) || atomic_load(&r->cancelled))
            return false;
        if (piece.len == 0)
            return verifier_sealed_reader_end(reader) == VERIFIER_OK;
        if (verifier_sealed_reader_feed(reader, piece) != VERIFIER_OK)
            return false;
    }
}

static void finish(struct relay *r, struct opened *o, bool ok)
{
    static const char broken[] = "The sealed answer broke off or was changed on its way: send the request again.";

    if (o->streaming) {
        if (!ok || !tail_is_done(&o->tail))
            relay_broken(r, "sealed_broken", broken);
        relay_end(r);
    } else if (ok && writer_ok(&o->whole)) {
        relay_answer(r, o->status, o->type, writer_span(&o->whole));
    } else {
        relay_error(r, 502, "server_error", "sealed_broken", broken, NULL);
    }
}

static bool take_answer(struct relay *r, struct session *s, bool stream, const struct verifier_hpke *hpke,
                        const uint8_t enc[32])
{
    struct opened o = {.relay = r, .stream = stream, .status = 200, .whole = writer_with_max(RELAY_WHOLE_MAX)};
    struct verifier_sealed_reader reader;
    bool ok;

    snprintf(o.type, sizeof o.type, "application/json");
    verifier_sealed_reader_init(&reader, hpke, enc, on_piece, &o);
    ok = read_all(r, s, &reader);
    verifier_sealed_reader_release(&reader);
    if (!atomic_load(&r->cancelled))
        finish(r, &o, ok);
    writer_release(&o.whole);
    return ok;
}

/* --- both ------------------------------------------------------------------------------------------------- */

static const struct response *send_sealed(struct relay *r, struct session *s, struct span body)
{
    struct client_header headers[3] = {{"x-request-id", r->request_id}, {"content-type", VERIFIER_SEALED_TYPE}};
    unsigned ms = r->connect->config.request_ms;
    char why[CLIENT_WHY_MAX];
    size_t n = 2;

    if (r->authorization[0])
        headers[n++] = (struct client_header){"authorization", r->authorization};
    if (!client_send(s->client, "POST", r->path, headers, n, body, ms, why))
        return NULL;
    return client_head(s->client, ms, why);
}

static bool exchange(struct relay *r, struct session *s, const struct shown *shown)
{
    struct writer body = writer_with_max(64 << 20);
    struct verifier_hpke hpke = {0};
    const struct response *head = NULL;
    uint8_t enc[32];
    bool reusable = false;

    if (!seal(r, &s->sealed, shown, &body, &hpke, enc))
        relay_error(r, 503, "server_error", NULL, "The request could not be sealed: try again shortly.", NULL);
    else if (!(head = send_sealed(r, s, writer_span(&body))))
        relay_error(r, 502, "server_error", "upstream_broken", "The proxy was lost before it answered: send it again.",
                    NULL);
    else if (head->status == 200 && strcmp(head->content_type, VERIFIER_SEALED_TYPE) == 0)
        reusable = take_answer(r, s, shown->stream, &hpke, enc);
    else
        reusable = relay_whole(r, s->client, head); /* the proxy's own refusal: it cannot say more than it knows */
    verifier_hpke_wipe(&hpke);
    writer_release(&body);
    return reusable;
}

bool relay_sealed(struct relay *r, struct session *s)
{
    struct upstream_refusal why;
    struct shown shown;

    if (!is_sealable(r->path)) {
        relay_error(r, 404, "not_found_error", NULL, "This route is not available in sealed mode.", NULL);
        return true;
    }
    if (!look(r, &shown)) {
        relay_error(r, 400, "invalid_request_error", NULL, "model is required in sealed mode: see /v1/models.", NULL);
        return true;
    }
    if (!upstream_seal(r->connect->upstream, s, false, &why)) {
        relay_refusal(r, &why);
        return false;
    }
    return exchange(r, s, &shown);
}
