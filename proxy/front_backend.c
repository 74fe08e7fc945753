/* front_backend.c - the real backend behind the front door's functions. */
#include "proxy/front.h"

static void attest(void *ctx, struct span challenge, struct span spki, const uint8_t exporter[32],
                   backend_attested *done, void *done_ctx)
{
    backend_attest(ctx, challenge, spki, exporter, done, done_ctx);
}

static void attest_sealed(void *ctx, const uint8_t engine[32], struct span challenge, backend_attested *done,
                          void *done_ctx)
{
    backend_attest_sealed(ctx, engine, challenge, done, done_ctx);
}

static uint64_t submit(void *ctx, struct span request, const uint8_t (*allowed)[32], size_t allowed_count,
                       const struct backend_events *events, void *events_ctx)
{
    return backend_submit(ctx, request, allowed, allowed_count, events, events_ctx);
}

static uint64_t submit_sealed(void *ctx, struct span body, const uint8_t engine[32],
                              const struct backend_events *events, void *events_ctx)
{
    return backend_submit_sealed(ctx, body, engine, events, events_ctx);
}

static void consumed(void *ctx, uint64_t id, size_t bytes)
{
    backend_consumed(ctx, id, bytes);
}

static void cancel(void *ctx, uint64_t id)
{
    backend_cancel(ctx, id);
}

static bool has_engine(void *ctx, const uint8_t (*allowed)[32], size_t allowed_count)
{
    return backend_has_engine(ctx, allowed, allowed_count);
}

static void status(void *ctx, struct backend_status *out)
{
    backend_status(ctx, out);
}

static bool copy_policy(void *ctx, struct policy *out)
{
    return backend_policy(ctx, out);
}

static void documents(void *ctx, struct writer *w)
{
    backend_documents(ctx, w);
}

static void metrics(void *ctx, struct writer *w)
{
    backend_metrics(ctx, w);
}

struct front_backend front_backend_of(struct backend *b)
{
    return (struct front_backend){
        .ctx = b,
        .attest = attest,
        .attest_sealed = attest_sealed,
        .submit = submit,
        .submit_sealed = submit_sealed,
        .consumed = consumed,
        .cancel = cancel,
        .has_engine = has_engine,
        .status = status,
        .policy = copy_policy,
        .documents = documents,
        .metrics = metrics,
    };
}
