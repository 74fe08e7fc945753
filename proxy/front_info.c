/* front_info.c - routes that only tell: models, health, ping, version, metrics, policy. */
#include "proxy/front_parts.h"

#include "tunnel/json.h"

static void answer_json(struct front *f, struct hx_req *r, int status, json_t *body)
{
    struct writer w = writer_with_max(1 << 20);

    tunnel_json_write(&w, body);
    if (writer_ok(&w))
        front_answer(f, r, status, "application/json", writer_span(&w));
    else
        front_error(f, r, 500, NULL, NULL, "The server had a fault; request id %s.", hx_req_id(r));
    writer_release(&w);
}

/* --- models ----------------------------------------------------------------------------------------- */

static bool tenant_may(const struct policy_tenant *tenant, const struct policy_model *model)
{
    if (!tenant || tenant->model_count == 0)
        return true;
    for (size_t i = 0; i < tenant->model_count; i++)
        if (strcmp(tenant->model[i], model->name) == 0)
            return true;
    return false;
}

uint64_t front_context_max(struct front *f, const struct policy *p)
{
    struct backend_status status;

    f->config.backend.status(f->config.backend.ctx, &status);
    if (status.context_max == 0 || (p->requests.max_context > 0 && p->requests.max_context < status.context_max))
        return p->requests.max_context;
    return status.context_max;
}

static json_t *model_json(const struct policy *p, const struct policy_model *model, uint64_t context)
{
    json_t *out = json_pack("{s:s,s:s,s:I,s:s}", "id", model->name, "object", "model", "created",
                            (json_int_t)p->not_before, "owned_by", "airlock");

    if (out && context > 0)
        json_object_set_new(out, "max_model_len", json_integer((json_int_t)context));
    return out;
}

static void one_model(struct front *f, struct hx_req *r, const struct front_caller *caller, struct span id)
{
    const struct policy *p = &caller->rules->policy;
    const struct policy_model *model = id.len ? policy_find_model(p, id) : NULL;

    if (model && tenant_may(caller->tenant, model))
        answer_json(f, r, 200, model_json(p, model, front_context_max(f, p)));
    else
        front_error(f, r, 404, "model_not_found", "model", "The model '%.*s' does not exist: see /v1/models.",
                    (int)(id.len < 100 ? id.len : 100), (const char *)id.data);
}

void front_models(struct front *f, struct hx_req *r, struct front_caller *caller)
{
    const struct policy *p = &caller->rules->policy;
    struct span path = hx_req_path(r);
    uint64_t context;
    json_t *list;

    if (path.len > 11) {
        one_model(f, r, caller, span_of(path.data + 11, path.len - 11));
        return;
    }
    context = front_context_max(f, p);
    list = json_array();
    for (size_t i = 0; list && i < p->model_count; i++)
        if (tenant_may(caller->tenant, &p->model[i]))
            json_array_append_new(list, model_json(p, &p->model[i], context));
    answer_json(f, r, 200, json_pack("{s:s,s:o}", "object", "list", "data", list));
}

/* --- state ------------------------------------------------------------------------------------------ */

void front_health(struct front *f, struct hx_req *r)
{
    struct backend_status status;
    bool draining = atomic_load(&f->draining);

    f->config.backend.status(f->config.backend.ctx, &status);
    if (!draining && backend_is_ready(&status))
        answer_json(f, r, 200, json_pack("{s:s}", "status", "ok"));
    else if (draining)
        front_error(f, r, 503, "draining", NULL, "The service is going down.");
    else if (!status.leased)
        front_error(f, r, 503, "loading", NULL, "The service is starting: it waits for a lease from the key server.");
    else
        front_error(f, r, 503, "loading", NULL, "The service is starting: no engine is admitted yet.");
}

void front_ping(struct front *f, struct hx_req *r)
{
    answer_json(f, r, 200, json_pack("{s:s}", "status", "alive"));
}

void front_version(struct front *f, struct hx_req *r)
{
    answer_json(f, r, 200, json_pack("{s:s}", "version", AIRLOCK_VERSION));
}

void front_metrics(struct front *f, struct hx_req *r)
{
    struct writer w = writer_with_max(8 << 20); /* the engines' own have at most 4 MiB */

    metrics_print(&f->metrics, &w);
    metrics_print_gauge(&w, "airlock_requests_running", "Requests on engines", atomic_load(&f->jobs));
    metrics_print_gauge(&w, "airlock_connections", "Open connections", hx_connections(f->server));
    metrics_print_process(&w);
    f->config.backend.metrics(f->config.backend.ctx, &w);
    front_answer(f, r, 200, "text/plain; version=0.0.4; charset=utf-8", writer_span(&w));
    writer_release(&w);
}

/* The owner's keysets and signed policy: public to whoever may challenge. */
void front_policy(struct front *f, struct hx_req *r)
{
    struct writer w = writer_with_max(FRONT_ENVELOPE_MAX);

    f->config.backend.documents(f->config.backend.ctx, &w);
    if (writer_span(&w).len > 0)
        front_answer(f, r, 200, "application/msgpack", writer_span(&w));
    else
        front_error(f, r, 503, "loading", NULL, "The service is starting: no policy is in force yet.");
    writer_release(&w);
}
