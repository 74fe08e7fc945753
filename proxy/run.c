#include "proxy/run.h"

#include "tunnel/attest/attester.h"
#include "tunnel/json.h"
#include "tunnel/sandbox.h"
#include "verifier/signed.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

enum { TENANTS_SIG_MAX = 64 << 10 };

struct proxy {
    const struct config *config;
    struct writer documents;
    pthread_mutex_t lock; /* of the two below: read on SIGHUP, checked on the backend's thread */
    struct writer tenants, tenants_sig;
    SSL_CTX *tls;
    struct attester attester;
    struct backend *backend;
    struct front *_Atomic front;
};

static bool say(const char *what)
{
    fprintf(stderr, "airlock-proxy: %s\n", what);
    return false;
}

/* --- tenants ----------------------------------------------------------------------------------------- */

/* A file that cannot be read leaves the one before in place. */
static bool read_tenants(struct proxy *p)
{
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX), sig = writer_with_max(TENANTS_SIG_MAX);
    char path[CONFIG_PATH_MAX + 8], why[256];
    bool ok;

    if (!p->config->tenants[0])
        return true;
    snprintf(path, sizeof path, "%s.sig", p->config->tenants);
    ok = (config_read_file(p->config->tenants, &text, why) && config_read_file(path, &sig, why)) || say(why);
    if (ok) {
        pthread_mutex_lock(&p->lock);
        writer_release(&p->tenants);
        writer_release(&p->tenants_sig);
        p->tenants = text;
        p->tenants_sig = sig;
        pthread_mutex_unlock(&p->lock);
        return true;
    }
    writer_release(&text);
    writer_release(&sig);
    return false;
}

/* Take the tenants over when the key that `policy`, which is in force, names has signed them. Otherwise nobody gets
 * in. */
static bool check_tenants(struct proxy *p, const struct policy *policy, struct policy_tenants *out, char why[256])
{
    struct policy_problem problem;
    struct verifier_signed obj;
    struct backend_status status;
    bool ok = false;

    snprintf(why, 256, "the tenants file is not signed by a key that the policy names for it");
    backend_status(p->backend, &status);
    if (verifier_signed_parse_file(&obj, writer_span(&p->tenants_sig), writer_span(&p->tenants)) != VERIFIER_OK ||
        verifier_signed_check(&obj, VERIFIER_SIGNED_TENANTS, policy->tenants.key, policy->tenants.key_count, 1) !=
            VERIFIER_OK)
        return false;
    if (!policy_tenants_parse(out, obj.body, &problem)) {
        policy_problem_print(&problem, "tenants", why, 256);
        return false;
    }
    ok = out->version >= status.tenants_version && out->expires - out->issued <= policy->tenants.max_life &&
         (status.now == 0 || status.now < out->expires);
    if (!ok) {
        snprintf(why, 256,
                 "the tenants file is expired, older than one seen before, or lives longer than the policy "
                 "allows: sign a new one");
        policy_tenants_release(out);
    }
    return ok;
}

static void use_tenants(struct proxy *p, struct front *front)
{
    struct policy_tenants tenants = {0};
    struct policy *policy = p->config->tenants[0] ? malloc(sizeof *policy) : NULL;
    char why[256];

    if (policy && backend_policy(p->backend, policy)) { /* before the first lease there is none, and nobody gets in */
        pthread_mutex_lock(&p->lock);
        if (!check_tenants(p, policy, &tenants, why))
            say(why);
        pthread_mutex_unlock(&p->lock);
        front_set_tenants(front, &tenants);
    }
    free(policy);
}

/* On the backend's thread: policy, lease or engines changed. */
static void on_changed(void *ctx)
{
    struct proxy *p = ctx;
    struct front *front = p->front;

    if (!front)
        return;
    front_refresh(front);
    use_tenants(p, front);
}

/* --- start ------------------------------------------------------------------------------------------- */

static bool read_all(struct proxy *p)
{
    const struct config *c = p->config;
    struct tls_server tls = {.certificate = c->certificate[0] ? c->certificate : NULL,
                             .key = c->key[0] ? c->key : NULL,
                             .authority = c->authority[0] ? c->authority : NULL,
                             .http2 = c->http2};
    char why[256];

    for (size_t i = 0; i < c->name_count; i++)
        tls.names[i] = c->name[i];
    if (!config_read_file(c->policy, &p->documents, why))
        return say(why);
    p->tls = tls_server_open(&tls, why);
    return p->tls ? read_tenants(p) : say(why);
}

static bool fork_attester(struct proxy *p)
{
    struct writer text = writer_with_max(60 << 10);
    struct attester_config config = {
        .role = VERIFIER_PROXY,
        .program = "airlock-proxy",
        .version = AIRLOCK_VERSION,
        .collateral = p->config->collateral,
        .producer = attester_producer(),
        .no_sandbox = !p->config->sandbox,
    };
    char why[256];
    bool ok;

    config_print(p->config, &text);
    config.config_text = writer_span(&text);
    memcpy(config.owner, p->config->owner, sizeof config.owner);
    ok = attester_fork(&config, &p->attester, why) == 0 || say(why);
    writer_release(&text);
    return ok;
}

static bool lock_in(struct proxy *p)
{
    /* keyd's name is looked up again when its addresses fail; the tenants are read again on SIGHUP */
    char folder[CONFIG_PATH_MAX];
    const struct sandbox_path serve[] = {{"/etc/resolv.conf", SANDBOX_READ},
                                         {"/etc/hosts", SANDBOX_READ},
                                         {"/etc/nsswitch.conf", SANDBOX_READ},
                                         {"/etc/host.conf", SANDBOX_READ},
                                         {sandbox_folder(p->config->tenants, folder, sizeof folder), SANDBOX_READ}};
    int keep[] = {p->attester.owner_fd};
    struct sandbox_config config = {
        .profile = SANDBOX_PROXY,
        .keep = keep,
        .keep_count = 1,
        .serve = serve,
        .serve_count = p->config->tenants[0] ? 5 : 4,
    };
    struct sandbox_problem why;
    unsigned stage;

    if (p->config->sandbox && (sandbox_enter(&config, &why) != 0 || sandbox_seal(&config, &why) != 0))
        return say(why.text);
    if (attester_update_stage(p->attester.owner_fd, sandbox_stage(), &stage) != ATTESTER_OK)
        return say("the attester did not accept the sandbox that is in force");
    return true;
}

static bool start_backend(struct proxy *p)
{
    const struct config *c = p->config;
    struct backend_config config = {
        .listen_count = c->tunnel_count,
        .keyd_count = c->keyd_count,
        .attester_fd = p->attester.owner_fd,
        .statement = span_of(p->attester.statement, p->attester.statement_len),
        .owner = span_of(c->owner, sizeof c->owner),
        .documents = writer_span(&p->documents),
        .recheck_ms = (uint32_t)c->recheck_s * 1000,
        .changed = on_changed,
        .ctx = p,
    };
    char why[256] = "";

    memcpy(config.identity, p->attester.identity, sizeof config.identity);
    for (size_t i = 0; i < c->tunnel_count; i++)
        config.listen[i] = c->tunnel_listen[i];
    for (size_t i = 0; i < c->keyd_count; i++)
        config.keyd[i] = c->keyd[i];
    p->backend = backend_start(&config, why, sizeof why);
    return p->backend || say(why);
}

static bool start_front(struct proxy *p)
{
    const struct config *c = p->config;
    struct front_config config = {
        .tls = p->tls,
        .http2 = c->http2,
        .threads = (unsigned)c->threads,
        .limits = c->limits,
        .backend = front_backend_of(p->backend),
        .requests_max = (unsigned)c->requests_max,
        .challenges_per_minute = (unsigned)c->challenges_per_minute,
        .metrics_open = c->metrics_open,
        .origin_count = c->origin_count,
    };
    char host[CONFIG_ADDRESS_MAX], why[HX_WHY_MAX];
    uint16_t port;

    memcpy(config.origin, c->origin, sizeof config.origin);
    if (!config_address(c->listen, host, &port) || (config.listen_fd = hx_listen(host, port, why)) < 0)
        return say(why);
    struct front *front = front_start(&config, why);
    if (!front)
        return say(why);
    p->front = front;
    on_changed(p);
    fprintf(stderr, "airlock-proxy: clients on port %u, tunnels on port %u\n", front_port(front),
            backend_port(p->backend, 0));
    return true;
}

/* --- service and end --------------------------------------------------------------------------------- */

/* SIGTERM or SIGINT: leave. SIGHUP: read the tenants again. The attester's death ends the unit. */
static bool serve(struct proxy *p, const sigset_t *signals)
{
    for (;;) {
        int sig = sigtimedwait(signals, NULL, &(struct timespec){.tv_sec = 1});
        if (sig == SIGTERM || sig == SIGINT)
            return true;
        if (sig == SIGHUP && read_tenants(p))
            use_tenants(p, p->front);
        if (p->attester.pid > 0 && waitpid(p->attester.pid, NULL, WNOHANG) == p->attester.pid)
            return say("the attester has ended: nothing can be proven any more");
    }
}

static void drain(struct proxy *p, const sigset_t *signals)
{
    front_drain(p->front);
    backend_drain(p->backend);
    for (uint64_t i = 0; i < p->config->drain_s * 10 && front_running(p->front) > 0; i++) {
        int sig = sigtimedwait(signals, NULL, &(struct timespec){.tv_nsec = 100000000});
        if (sig == SIGTERM || sig == SIGINT)
            _exit(1);
    }
}

static void end(struct proxy *p)
{
    backend_stop(p->backend); /* first: no callback of it may come after the front door is gone */
    front_stop(p->front);
    backend_close(p->backend); /* last: until then the front door's threads may call it */
    attester_end(&p->attester);
    SSL_CTX_free(p->tls);
    writer_release(&p->documents);
    writer_release(&p->tenants);
    writer_release(&p->tenants_sig);
}

int run_proxy(const struct config *config)
{
    struct proxy p = {
        .config = config,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .documents = writer_with_max(CONFIG_FILE_MAX),
        .attester = {.owner_fd = -1, .peer_fd = -1},
    };
    sigset_t signals;
    bool ok;

    tunnel_json_wipe_memory();
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    if (!read_all(&p) || !fork_attester(&p)) {
        end(&p);
        return 1;
    }
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: all of them leave these to this one */
    ok = lock_in(&p) && start_backend(&p) && start_front(&p) && serve(&p, &signals);
    if (ok)
        drain(&p, &signals);
    end(&p);
    return ok ? 0 : 1;
}
