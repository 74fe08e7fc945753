/* connect.c - the local door of `airlock connect`: who may call, what is forwarded. */
#include "proxy/connect_parts.h"

#include "tunnel/json.h"
#include "verifier/base/secret.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* --- errors ------------------------------------------------------------------------------------------ */

void connect_error(struct writer *w, const char *type, const char *code, const char *message,
                   const struct airlock_result *refusal)
{
    json_t *e = json_pack("{s:s,s:s,s:n,s:s?}", "message", message, "type", type, "param", "code", code);
    if (e && refusal) {
        json_object_set_new(e, "stage", json_integer(refusal->stage));
        json_object_set_new(e, "observed", json_string(refusal->observed));
        json_object_set_new(e, "required", json_string(refusal->required));
        json_object_set_new(e, "remedy", json_string(refusal->remedy ? refusal->remedy : ""));
        if (refusal->engine >= 0) {
            json_object_set_new(e, "engine", json_integer(refusal->engine));
            json_object_set_new(e, "inner_stage", json_integer(refusal->inner_stage));
        }
    }
    if (e)
        tunnel_json_write(w, json_pack("{s:o}", "error", e));
    else
        writer_str(w, "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}");
}

static void refuse(struct hx_req *r, int status, const char *type, const char *code, const char *message)
{
    struct writer w = writer_with_max(8192);
    const struct hx_header more = {status == 401 ? "www-authenticate" : "retry-after", status == 401 ? "Bearer" : "1"};

    connect_error(&w, type, code, message, NULL);
    hx_answer(r, status, "application/json", writer_span(&w), &more, status == 401 || status == 429 || status == 503);
    writer_release(&w);
}

static void error_body(int status, const char *message, char *out, size_t cap)
{
    struct writer w = writer_with_max(cap - 1);

    connect_error(&w, status >= 500 ? "server_error" : "invalid_request_error",
                  status == 413 || status == 431 ? "request_too_large" : NULL, message, NULL);
    snprintf(out, cap, "%.*s", (int)writer_span(&w).len, (const char *)writer_span(&w).data);
    writer_release(&w);
}

/* --- who may call ------------------------------------------------------------------------------------- */

/* The names of this machine's loopback, with our port or without one: a page that rebinds its own name to 127.0.0.1
 * says another. */
static bool is_own_host(struct span host, uint16_t port)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    char with_port[32];

    for (size_t i = 0; i < 3; i++) {
        snprintf(with_port, sizeof with_port, "%s:%u", names[i], port);
        if (host.len == strlen(with_port) && strncasecmp((const char *)host.data, with_port, host.len) == 0)
            return true;
        if (host.len == strlen(names[i]) && strncasecmp((const char *)host.data, names[i], host.len) == 0)
            return true;
    }
    return false;
}

static bool has_token(const struct connect *c, struct span authorization)
{
    if (authorization.len < 7 || strncasecmp((const char *)authorization.data, "bearer ", 7) != 0)
        return false;
    return secret_equal(span_of(authorization.data + 7, authorization.len - 7), span_str(c->config.token));
}

static bool is_allowed(struct connect *c, struct hx_req *r)
{
    if (!is_own_host(hx_req_host(r), hx_port(c->server)))
        refuse(r, 403, "permission_error", "bad_host",
               "This endpoint answers only to its own address on this machine.");
    else if (hx_req_header(r, "origin").data)
        refuse(r, 403, "permission_error", "bad_origin", "This endpoint does not serve web pages.");
    else if (c->config.key[0] && !has_token(c, hx_req_header(r, "authorization")))
        refuse(r, 401, "authentication_error", "invalid_api_key",
               "Send the token that airlock connect printed at its start as 'Authorization: Bearer TOKEN'.");
    else
        return true;
    return false;
}

/* --- what is forwarded ---------------------------------------------------------------------------------- */

static bool is_forwarded(struct span path)
{
    static const char *const whole[] = {"/tokenize", "/detokenize", "/health", "/ping", "/version"};

    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (span_is(path, whole[i]))
            return true;
    if (path.len < 4 || memcmp(path.data, "/v1/", 4) != 0)
        return false;
    for (size_t i = 0; i + 1 < path.len; i++)
        if (path.data[i] == '.' && path.data[i + 1] == '.')
            return false;
    return true;
}

static bool copy(char *out, size_t cap, struct span in)
{
    if (in.len >= cap)
        return false;
    if (in.len > 0)
        memcpy(out, in.data, in.len);
    out[in.len] = 0;
    return true;
}

static struct relay *relay_open(struct connect *c, struct hx_req *r)
{
    struct relay *relay = calloc(1, sizeof *relay);
    struct span path = hx_req_path(r), query = hx_req_query(r);
    bool ok;

    if (!relay)
        return NULL;
    relay->connect = c;
    relay->loop = hx_req_loop(r);
    relay->req = r;
    relay->body = writer_with_max(64 << 20);
    atomic_init(&relay->refs, 2);
    pthread_mutex_init(&relay->lock, NULL);
    pthread_cond_init(&relay->moved, NULL);
    ok = copy(relay->method, sizeof relay->method, hx_req_method(r)) &&
         copy(relay->request_id, sizeof relay->request_id, span_str(hx_req_id(r))) &&
         copy(relay->content_type, sizeof relay->content_type, hx_req_header(r, "content-type")) &&
         path.len + query.len + 2 < sizeof relay->path;
    if (ok && c->config.key[0])
        snprintf(relay->authorization, sizeof relay->authorization, "Bearer %s", c->config.key);
    else if (ok)
        ok = copy(relay->authorization, sizeof relay->authorization, hx_req_header(r, "authorization"));
    if (ok)
        snprintf(relay->path, sizeof relay->path, "%.*s%s%.*s", (int)path.len, (const char *)path.data,
                 query.len ? "?" : "", (int)query.len, (const char *)query.data);
    writer_bytes(&relay->body, hx_req_body(r));
    if (ok && writer_ok(&relay->body))
        return relay;
    relay_unref(relay);
    relay_unref(relay);
    return NULL;
}

static void forward(struct connect *c, struct hx_req *r)
{
    struct relay *relay = relay_open(c, r);
    bool full;

    if (!relay) {
        refuse(r, 400, "invalid_request_error", NULL, "The request's path or headers are too long.");
        return;
    }
    pthread_mutex_lock(&c->lock);
    full = c->stopping || c->waiting >= c->config.waiting_max;
    if (!full) {
        *c->last = relay;
        c->last = &relay->next;
        c->waiting++;
        pthread_cond_signal(&c->work);
    }
    pthread_mutex_unlock(&c->lock);
    if (full) {
        relay_unref(relay);
        relay_unref(relay);
        refuse(r, 429, "rate_limit_error", "overloaded", "Too many requests are waiting here: send it again shortly.");
        return;
    }
    hx_req_watch(r, relay_gone, relay_drained, relay);
}

static void show_verdict(struct connect *c, struct hx_req *r)
{
    char *report = upstream_report(c->upstream);

    if (report)
        hx_answer(r, 200, "application/json", span_str(report), NULL, 0);
    else
        refuse(r, 404, "not_found_error", "no_verdict", "No proxy has been verified yet: send a request first.");
    free(report);
}

static void on_request(void *ctx, struct hx_req *r)
{
    struct connect *c = ctx;
    struct span path = hx_req_path(r), method = hx_req_method(r);

    if (!is_allowed(c, r))
        return;
    if (!span_is(method, "GET") && !span_is(method, "HEAD") && !span_is(method, "POST"))
        refuse(r, 405, "invalid_request_error", NULL, "This endpoint takes GET and POST.");
    else if (span_is(path, "/.well-known/airlock/verdict"))
        show_verdict(c, r);
    else if (is_forwarded(path))
        forward(c, r);
    else
        refuse(r, 404, "not_found_error", NULL, "There is no such route: see /v1/models and /v1/chat/completions.");
}

/* --- life ----------------------------------------------------------------------------------------------- */

static bool start_workers(struct connect *c)
{
    c->worker = calloc(c->config.workers, sizeof *c->worker);
    while (c->worker && c->worker_count < c->config.workers) {
        if (pthread_create(&c->worker[c->worker_count], NULL, relay_worker, c) != 0)
            return false;
        c->worker_count++;
    }
    return c->worker != NULL;
}

struct connect *connect_start(const struct connect_config *config, char why[HX_WHY_MAX])
{
    struct connect *c = calloc(1, sizeof *c);
    struct hx_config server = {
        .listen_fd = config->listen_fd,
        .threads = 1,
        .limits = config->limits,
        .handler = {.ctx = c, .request = on_request, .error_body = error_body},
    };

    snprintf(why, HX_WHY_MAX, "out of memory");
    if (!c)
        return NULL;
    c->config = *config;
    c->last = &c->first;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    c->upstream = upstream_open(&config->upstream);
    if (c->upstream && start_workers(c) && (c->server = hx_start(&server, why)))
        return c;
    connect_stop(c);
    return NULL;
}

uint16_t connect_port(const struct connect *c)
{
    return hx_port(c->server);
}

unsigned connect_running(const struct connect *c)
{
    return hx_running(c->server);
}

void connect_drain(struct connect *c)
{
    hx_drain(c->server);
}

void connect_stop(struct connect *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    hx_abandon(c->server); /* every caller is gone: the workers see it */
    for (unsigned i = 0; i < c->worker_count; i++)
        pthread_join(c->worker[i], NULL);
    hx_stop(c->server);
    upstream_close(c->upstream);
    for (struct relay *r = c->first, *next; r; r = next) {
        next = r->next;
        relay_unref(r);
    }
    secret_wipe(c->config.key, sizeof c->config.key);
    free(c->worker);
    free(c);
}
