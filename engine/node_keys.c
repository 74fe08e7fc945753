/* Towards keyd: questions, grants, trusted time, the model that the policy names, and when to serve it. */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/defaults.h"
#include "engine/node_parts.h"
#include "policy/policy.h"
#include "verifier/release.h"

enum { TICK_MS = 1000, NEXT_SHARE_MS = 200 };

/* Opens one share of a weight key: HPKE's key schedule in the attester, its one message here. */
static int open_share(void *ctx, const uint8_t enc[32], struct span info, struct span aad, struct span sealed,
                      uint8_t out[32])
{
    struct node *n = ctx;
    struct verifier_hpke opened;
    if (attester_open(n->attester.owner_fd, enc, info, aad, &opened) != ATTESTER_OK)
        return -1;
    bool ok = verifier_release_open(&opened, aad, sealed, out) == VERIFIER_OK;
    verifier_hpke_wipe(&opened);
    return ok ? 0 : -1;
}

bool node_keys_open(struct node *n)
{
    enum policy_node_err err;
    struct policy_node_config c = {
        .role = VERIFIER_ENGINE, .documents = writer_span(&n->documents), .open = open_share, .open_ctx = n};
    if (sodium_init() < 0)
        return false;
    memcpy(c.identity, n->attester.identity, sizeof c.identity);
    verifier_sha512(c.statement, span_of(n->attester.statement, n->attester.statement_len));
    if (!policy_hex_parse(span_str(n->config->owner), c.owner, sizeof c.owner))
        return false;
    n->papers = policy_node_open_new(&c, &err);
    if (!n->papers) {
        node_end(n, NODE_EXIT_START, "%s is not a policy of this owner (%s): make it with `airlock policy bundle`",
                 n->config->policy, policy_node_err_name(err));
        return false;
    }
    atomic_store(&n->clock_offset, INT64_MIN);
    return true;
}

void node_keys_close(struct node *n)
{
    if (n->loading)
        pthread_join(n->load_thread, NULL);
    engine_close(n->engine);
    engine_files_release(&n->files);
    secret_release(&n->key);
    policy_node_close(n->papers);
    free(n->policy);
}

bool node_may_serve(const struct node *n)
{
    return n->serving && policy_node_may_serve(n->papers, node_now_ms());
}

/* --- questions -------------------------------------------------------------------------------------------------- */

void node_keys_peer(struct node *n, const struct tunnel_peer *peer)
{
    node_say("%s %.*s %s%s%.*s", peer->keyd ? "keyd" : "proxy", (int)peer->name.len, (const char *)peer->name.data,
             peer->up ? "is up" : "is down", peer->up ? "" : ": ", peer->up ? 0 : (int)peer->code.len,
             (const char *)peer->code.data);
    if (peer->keyd && peer->index < TUNNEL_KEYDS_MAX)
        n->keyd_up[peer->index] = peer->up;
}

static bool pick_keyd(struct node *n, uint32_t *out)
{
    for (uint32_t i = 0; i < TUNNEL_KEYDS_MAX; i++) {
        uint32_t at = (n->keyd_next + i) % TUNNEL_KEYDS_MAX;
        if (!n->keyd_up[at])
            continue;
        n->keyd_next = at + 1;
        *out = at;
        return true;
    }
    return false;
}

static void ask(struct node *n, uint64_t now)
{
    uint8_t nonce[32];
    uint32_t keyd;
    struct policy_ask log = {0};
    struct writer w = writer_with_max(TUNNEL_ASK_MAX);
    if (!pick_keyd(n, &keyd))
        return;
    randombytes_buf(nonce, sizeof nonce);
    node_log_ask(n, &log);
    policy_node_ask(n->papers, nonce, now, &log, &w);
    if (writer_ok(&w) && tunnel_link_ask(n->link, keyd, writer_span(&w)))
        n->asked_ms = now;
    writer_release(&w);
}

/* --- what a grant changes ---------------------------------------------------------------------------------------- */

/* The trusted clock's lead over the monotonic one, for threads that only print dates. */
static int64_t trusted_now(void *ctx)
{
    const struct node *n = ctx;
    int64_t offset = atomic_load(&n->clock_offset);
    return offset == INT64_MIN ? 0 : offset + (int64_t)(node_now_ms() / 1000);
}

/* By what the tunnel judges proxies. Before there is a model nobody is judged: time 0 says so. */
static void send_rules(struct node *n)
{
    struct tunnel_rules rules = {.policy = policy_node_documents(n->papers),
                                 .revocations = policy_node_revocations(n->papers),
                                 .now = n->serving ? policy_node_now(n->papers, node_now_ms()) : 0};
    if (!tunnel_link_rules(n->link, &rules))
        node_end(n, NODE_EXIT_FAILED, "out of memory on the link");
}

static bool tell_attester(struct node *n)
{
    int fd = n->attester.owner_fd;
    uint64_t now = policy_node_now(n->papers, node_now_ms());
    uint8_t digest[64];
    enum attester_err err = now ? attester_update_time(fd, now) : ATTESTER_OK;
    policy_node_policy_digest(n->papers, digest);
    if (err == ATTESTER_OK && memcmp(digest, n->shown_policy, sizeof digest) != 0) { /* makes a new sealing key */
        err = attester_update_policy(fd, policy_node_documents(n->papers), policy_node_policy(n->papers)->version);
        memcpy(n->shown_policy, digest, sizeof digest);
    }
    if (err == ATTESTER_OK)
        err = attester_update_papers(fd, policy_node_revocations(n->papers), span_of(NULL, 0),
                                     policy_node_lease(n->papers));
    if (err == ATTESTER_OK)
        return true;
    node_end(n, NODE_EXIT_ATTESTER, "the attester does not take the new lease: %s", attester_err_name(err));
    return false;
}

void node_keys_grant(struct node *n, struct span grant)
{
    uint64_t now = node_now_ms();
    enum policy_node_err err = policy_node_answer(n->papers, grant, now);
    n->asked_ms = 0;
    if (err != POLICY_NODE_OK) {
        node_say("keyd's answer is refused: %s", policy_node_err_name(err));
        policy_node_failed(n->papers, now, randombytes_random());
        return;
    }
    if (!n->granted)
        node_say("lease granted");
    n->granted = true;
    atomic_store(&n->clock_offset, (int64_t)policy_node_now(n->papers, now) - (int64_t)(now / 1000));
    if (n->serving && !policy_find_root(policy_node_policy(n->papers), n->root))
        node_end(n, NODE_EXIT_MODEL, "the newest policy no longer names the model that is loaded");
    else if (tell_attester(n))
        send_rules(n);
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

/* The root of the model on disk: from its manifest, or over the bytes in private memory. */
static bool find_root(struct node *n, bool sealed)
{
    struct engine_artefact a = {0};
    if (!sealed)
        return engine_files_load(&n->files, n->config->model, &n->load_problem) &&
               (engine_artefact_root(&n->files, n->root) ||
                !engine_problem_set(&n->load_problem, ENGINE_E_MEMORY, "too little memory to hash the model"));
    if (!engine_artefact_read(&a, n->config->model, &n->load_problem))
        return false;
    memcpy(n->root, a.root, sizeof n->root);
    engine_artefact_release(&a);
    return true;
}

static bool load_files(struct node *n)
{
    bool sealed = engine_artefact_is_sealed(n->config->model);
    if (!sealed && !find_root(n, false))
        return false;
    if (!policy_find_root(n->policy, n->root)) {
        engine_problem_set(&n->load_problem, ENGINE_E_MISSING,
                           "the policy does not name this model; sign a policy with its root, or give its own model");
        return false;
    }
    return !sealed || engine_artefact_open(&n->files, n->config->model, n->root, secret_span(&n->key), NULL, NULL,
                                           &n->load_problem);
}

/* Clients ask for the policy's names; the flag's come after them. */
static void name_model(struct node *n, struct engine_options *o)
{
    const struct policy_model *m = policy_find_root(n->policy, n->root);
    o->served[o->served_count++] = m->name;
    for (size_t i = 0; i < m->alias_count; i++)
        o->served[o->served_count++] = m->alias[i];
    for (size_t i = 0; i < n->config->served.count && o->served_count < ENGINE_SERVED_NAMES_MAX; i++)
        if (strcmp(n->config->served.item[i], m->name) != 0)
            o->served[o->served_count++] = n->config->served.item[i];
}

/* Before the weights are loaded for nothing: a default that the policy forbids would refuse every request that does not
 * give another value. */
static bool defaults_are_allowed(struct node *n, const struct engine_options *o)
{
    struct engine_defaults d;
    struct policy_admitted a;
    if (!engine_defaults_read(&d, &n->files, o, &n->load_problem))
        return false;
    struct policy_request_facts facts = {
        .temperature = isnan(d.temperature) ? POLICY_WITHIN_TEMPERATURE : d.temperature,
        .top_p = isnan(d.top_p) ? POLICY_WITHIN_TOP_P : d.top_p,
        .repetition_penalty = isnan(d.repetition_penalty) ? POLICY_WITHIN_REPETITION : d.repetition_penalty};
    if (policy_admit_sampling(n->policy, &facts, &a) == POLICY_ADMIT_OK)
        return true;
    engine_problem_set(&n->load_problem, ENGINE_E_RANGE,
                       "the policy forbids what this model does by default: %s Give an allowed value with "
                       "--override-generation-config, or sign another policy",
                       a.text);
    return false;
}

/* The proxy sees no token of a prompt: what the owner allows of the context holds here, as the context there is. */
static void bound_context(const struct node *n, struct engine_options *o)
{
    uint32_t most = n->policy->requests.max_context;
    if (most > 0 && (o->context_max == 0 || o->context_max > most))
        o->context_max = most;
}

static void *load_main(void *ctx)
{
    struct node *n = ctx;
    struct engine_options o;
    config_engine_options(n->config, &o);
    o.chat_template = writer_span(&n->template);
    bound_context(n, &o);
    o.generation_config = writer_span(&n->generation);
    o.now = trusted_now;
    o.now_ctx = n;
    if (load_files(n) && defaults_are_allowed(n, &o)) {
        name_model(n, &o);
        n->engine = engine_open(&n->files, &o, &n->load_problem);
    }
    atomic_store(&n->load_done, true);
    node_wake(n);
    return NULL;
}

/* The key for the sealed model is there, or none is needed. */
static bool have_key(struct node *n)
{
    if (!engine_artefact_is_sealed(n->config->model))
        return true;
    if (span_is_zero(span_of(n->root, sizeof n->root)) && !find_root(n, true)) {
        node_end(n, NODE_EXIT_MODEL, "%s: %s", n->config->model, n->load_problem.text);
        return false;
    }
    struct span key = policy_node_key(n->papers, n->root);
    if (key.len == 0)
        return false;
    secret_release(&n->key);
    if (!secret_init(&n->key, key.len)) {
        node_end(n, NODE_EXIT_FAILED, "out of memory for the weight key");
        return false;
    }
    memcpy(n->key.data, key.data, key.len);
    return true;
}

static void start_loading(struct node *n)
{
    n->policy = malloc(sizeof *n->policy);
    if (!n->policy) {
        node_end(n, NODE_EXIT_FAILED, "out of memory");
        return;
    }
    *n->policy = *policy_node_policy(n->papers);
    policy_node_wipe_keys(n->papers);
    node_say("loading %s", n->config->model);
    n->loading = pthread_create(&n->load_thread, NULL, load_main, n) == 0;
    if (!n->loading)
        node_end(n, NODE_EXIT_FAILED, "cannot start the loading thread");
}

/* Loaded: no key is needed any more, the walls close, then the state shows the model, then proxies may come. */
static void begin_serving(struct node *n)
{
    pthread_join(n->load_thread, NULL);
    n->loading = false;
    n->loaded = true;
    secret_release(&n->key);
    if (!n->engine) {
        node_end(n, NODE_EXIT_MODEL, "%s: %s", n->config->model, n->load_problem.text);
        return;
    }
    enum attester_err err = attester_forget_release(n->attester.owner_fd);
    if (err == ATTESTER_OK && !node_seal(n))
        return;
    if (err == ATTESTER_OK)
        err = attester_update_model(n->attester.owner_fd, n->root, span_str(engine_load_options(n->engine)));
    if (err != ATTESTER_OK) {
        node_end(n, NODE_EXIT_ATTESTER, "the attester does not take the model: %s", attester_err_name(err));
        return;
    }
    n->serving = true;
    node_log_serving(n);
    node_say("serving %s: %s", engine_served(n->engine, 0), engine_load_options(n->engine));
    send_rules(n);
}

/* The engine's metrics, for the proxies to print. */
static void send_stats(struct node *n, uint64_t now)
{
    struct tunnel_stats stats;
    struct writer w = writer_with_max(TUNNEL_STATS_MAX);
    if (!n->serving || now - n->stats_ms < TICK_MS)
        return;
    n->stats_ms = now;
    engine_stats(n->engine, &stats);
    if (tunnel_stats_pack(&w, &stats) && !tunnel_link_stats(n->link, writer_span(&w)))
        node_say("metrics do not fit the link");
    writer_release(&w);
}

/* --- the clockwork ----------------------------------------------------------------------------------------------- */

uint64_t node_keys_tick(struct node *n)
{
    uint64_t now = node_now_ms(), due = policy_node_due(n->papers);
    if (n->asked_ms && now - n->asked_ms > POLICY_NODE_ANSWER_S * 1000) {
        node_say("keyd does not answer");
        n->asked_ms = 0;
        policy_node_failed(n->papers, now, randombytes_random());
        due = policy_node_due(n->papers);
    }
    if (n->granted && !n->loading && !n->loaded && !n->over && have_key(n))
        start_loading(n);
    bool share_missing = n->granted && !n->loading && !n->loaded; /* ask the next keyd for its share */
    if (!n->asked_ms && (now >= due || share_missing))
        ask(n, now);
    if (n->loading && atomic_load(&n->load_done))
        begin_serving(n);
    send_stats(n, now);
    if (n->serving && !policy_node_may_serve(n->papers, now))
        node_serve_stop(n, "expired");
    return now + (share_missing ? NEXT_SHARE_MS : TICK_MS);
}
