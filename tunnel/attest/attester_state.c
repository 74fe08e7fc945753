/* What the node says of itself: the statement for life, the state as it moves, the parts beside them. */
#include <openssl/rand.h>
#include <stdio.h>
#include <time.h>

#include "tunnel/attest/attester_core.h"
#include "verifier/leaf.h"
#include "verifier/signed.h"
#include "verifier/statement.h"

int64_t attester_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- life ------------------------------------------------------------------------------------------------- */

static bool make_statement(struct attester_core *c, const struct attester_config *config)
{
    struct verifier_statement s = {
        .role = config->role, .program = span_str(config->program), .version = span_str(config->version)};
    struct verifier_statement again;

    if (config->kernels)
        s.kernels = span_str(config->kernels);
    verifier_sha512(s.config, config->config_text);
    memcpy(s.owner, config->owner, sizeof s.owner);
    memcpy(s.identity, c->keys.identity_public, sizeof s.identity);
    memcpy(s.release, c->keys.release_public, sizeof s.release);
    verifier_statement_encode(&c->statement, &s);
    verifier_sha512(c->h_statement, writer_span(&c->statement));
    /* what a verifier would refuse must not be said */
    return writer_ok(&c->statement) && verifier_statement_parse(&again, writer_span(&c->statement)) == VERIFIER_OK;
}

bool attester_core_init(struct attester_core *c, const struct attester_config *config, char why[256])
{
    bool engine = config->role == VERIFIER_ENGINE;
    struct attester_producer_config device = config->device;

    *c = (struct attester_core){.role = config->role,
                                .producer = config->producer,
                                .batch_ms = config->batch_ms ? config->batch_ms : ATTESTER_BATCH_MS,
                                .statement = writer_with_max(VERIFIER_STATEMENT_MAX),
                                .config = writer_with_max(VERIFIER_CONFIG_MAX)};
    memcpy(c->owner, config->owner, sizeof c->owner);
    writer_bytes(&c->config, config->config_text);
    if (!engine && config->role != VERIFIER_PROXY) {
        snprintf(why, 256, "only a proxy and an engine have an attester");
        return false;
    }
    if (!attester_keys_init(&c->keys, config->seal_life_s, config->replay_max)) {
        snprintf(why, 256, "cannot make the node's keys: no memory or no randomness");
        return false;
    }
    if (!writer_ok(&c->config) || !make_statement(c, config)) {
        snprintf(why, 256, "program, version, kernels or configuration are too long or not plain text");
        return false;
    }
    if (!tunnel_bundle_open(&c->own, config->collateral, why))
        return false;
    device.role = config->role;
    c->device = c->producer->open(&device, why);
    if (!c->device)
        return false;
    c->tee = c->producer->tee(c->device);
    return true;
}

void attester_core_release(struct attester_core *c)
{
    attester_keys_release(&c->keys);
    if (c->device)
        c->producer->close(c->device);
    writer_release(&c->statement);
    writer_release(&c->config);
    tunnel_bundle_release(&c->own);
    writer_release(&c->policy.bytes);
    writer_release(&c->revocations);
    writer_release(&c->fleet);
    writer_release(&c->lease);
    for (size_t i = 0; i < VERIFIER_DEVICES_MAX; i++) {
        writer_release(&c->devices[i].report);
        writer_release(&c->devices[i].chain.bytes);
    }
}

/* --- time and sealing key ------------------------------------------------------------------------------------ */

uint64_t attester_core_time(const struct attester_core *c)
{
    return c->time == 0 ? 0 : c->time + (uint64_t)(attester_clock() - c->time_at) / 1000;
}

bool attester_core_tick(struct attester_core *c)
{
    int64_t now = attester_clock();

    return !attester_keys_due(&c->keys, now) || attester_keys_rotate(&c->keys, c->state.policy.digest, now);
}

bool attester_core_state(struct attester_core *c, struct writer *out)
{
    struct verifier_state s = c->state;

    s.has_seal = c->keys.now.number != 0;
    memcpy(s.seal.public, c->keys.now.public, sizeof s.seal.public);
    s.seal.epoch = c->keys.now.number;
    s.at = attester_core_time(c);
    verifier_state_encode(out, &s);
    return writer_ok(out);
}

/* --- updates: parse all, then change ----------------------------------------------------------------------------- */

static enum attester_err update_stage(struct attester_core *c, struct reader *r, struct writer *answer)
{
    unsigned claimed = (unsigned)reader_uint(r, 0, VERIFIER_STAGE_ALL), proved, denied;

    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    attester_watch_read(&c->watch, &proved, &denied);
    if (claimed & denied)
        return ATTESTER_E_STAGE;
    c->state.stage |= proved | claimed;
    writer_list(answer, 1);
    writer_uint(answer, c->state.stage);
    return ATTESTER_OK;
}

static enum attester_err update_model(struct attester_core *c, struct reader *r)
{
    bool none = reader_nil(r);
    struct span root = none ? span_of(NULL, 0) : reader_bin(r, VERIFIER_DIGEST_LEN, VERIFIER_DIGEST_LEN);
    struct span options = reader_text(r, 0, sizeof c->load_options);

    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    if (c->role != VERIFIER_ENGINE)
        return ATTESTER_E_CALL;
    c->state.has_model = !none;
    if (!none) {
        memcpy(c->state.model.root, root.data, root.len);
        memcpy(c->load_options, options.data, options.len);
        c->state.model.load_options = span_of(c->load_options, options.len);
    }
    return ATTESTER_OK;
}

static enum attester_err update_serves(struct attester_core *c, struct reader *r)
{
    uint32_t count = (uint32_t)reader_uint(r, 0, VERIFIER_TREE_MAX);
    uint8_t root[VERIFIER_DIGEST_LEN];

    reader_bin_copy(r, root, sizeof root);
    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    if (c->role != VERIFIER_PROXY)
        return ATTESTER_E_CALL;
    c->state.has_serves = count > 0;
    c->state.serves.count = count;
    memcpy(c->state.serves.root, root, sizeof root);
    return ATTESTER_OK;
}

static void replace(struct writer *w, struct span bytes, size_t max)
{
    writer_release(w);
    *w = writer_with_max(max);
    writer_bytes(w, bytes);
}

/* Whose policy it is follows from its first key set; what it says and whether it is signed well is the verifier's to
 * judge, from these very bytes. */
static enum attester_err update_policy(struct attester_core *c, struct reader *r)
{
    struct span bytes = reader_bin(r, 1, VERIFIER_PART_MAX);
    uint32_t version = (uint32_t)reader_uint(r, 1, UINT32_MAX);
    struct verifier_policy_part part;
    struct verifier_signed first, policy;
    uint8_t digest[VERIFIER_DIGEST_LEN];
    bool same;

    if (!reader_end(r) || verifier_policy_part_parse(&part, bytes) != VERIFIER_OK || part.keyset_count == 0 ||
        verifier_signed_parse(&first, part.keyset[0]) != VERIFIER_OK ||
        verifier_signed_parse(&policy, part.policy) != VERIFIER_OK || first.type != VERIFIER_SIGNED_KEYSET ||
        policy.type != VERIFIER_SIGNED_POLICY)
        return ATTESTER_E_SHAPE;
    verifier_sha512(digest, first.body);
    if (memcmp(digest, c->owner, sizeof digest) != 0)
        return ATTESTER_E_OWNER;
    if (c->state.has_policy && version < c->state.policy.version)
        return ATTESTER_E_FELL;
    verifier_sha512(digest, policy.body);
    same = c->state.has_policy && memcmp(digest, c->state.policy.digest, sizeof digest) == 0;
    if (c->role == VERIFIER_ENGINE && !same && !attester_keys_rotate(&c->keys, digest, attester_clock()))
        return ATTESTER_E_INTERNAL;
    replace(&c->policy.bytes, bytes, VERIFIER_PART_MAX);
    verifier_sha512(c->policy.digest, bytes);
    c->state.has_policy = true;
    c->state.policy.version = version;
    memcpy(c->state.policy.digest, digest, sizeof digest);
    return writer_ok(&c->policy.bytes) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
}

static enum attester_err update_papers(struct attester_core *c, struct reader *r)
{
    struct span paper[3] = {{0}};
    static const size_t max[3] = {VERIFIER_PART_MAX, VERIFIER_PART_MAX, VERIFIER_LEASE_MAX};
    struct writer *at[3] = {&c->revocations, &c->fleet, &c->lease};
    bool good = true;

    for (size_t i = 0; i < 3; i++)
        if (!reader_nil(r))
            paper[i] = reader_bin(r, 1, max[i]);
    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    for (size_t i = 0; i < 3; i++) {
        replace(at[i], paper[i], max[i]);
        good = good && writer_ok(at[i]);
    }
    return good ? ATTESTER_OK : ATTESTER_E_INTERNAL;
}

/* A grant's time is late by the network's delay, so it may lie a little below what the clock has counted to: then the
 * higher one stays. */
static enum attester_err update_time(struct attester_core *c, struct reader *r)
{
    uint64_t now = reader_uint(r, 1, VERIFIER_TIME_MAX), have = attester_core_time(c);

    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    if (now + VERIFIER_FUTURE_MAX < have)
        return ATTESTER_E_FELL;
    if (now > have) {
        c->time = now;
        c->time_at = attester_clock();
    }
    return ATTESTER_OK;
}

/* --- devices ----------------------------------------------------------------------------------------------------- */

static enum attester_err device_nonce(struct attester_core *c, struct writer *answer)
{
    uint8_t nonce[VERIFIER_NONCE_LEN];

    /* a tree of one leaf that nobody else knows: its root is the leaf */
    if (RAND_bytes(c->nonce_root, sizeof c->nonce_root) != 1)
        return ATTESTER_E_INTERNAL;
    c->has_nonce = true;
    verifier_device_nonce(nonce, 1, c->nonce_root);
    writer_list(answer, 1);
    writer_bin(answer, span_of(nonce, sizeof nonce));
    return ATTESTER_OK;
}

static void set_devices(struct attester_core *c, const struct attester_device *devices, size_t count)
{
    uint8_t items[VERIFIER_DEVICES_MAX][VERIFIER_DIGEST_LEN];

    for (size_t i = 0; i < count; i++) {
        replace(&c->devices[i].report, devices[i].report, VERIFIER_DEVICE_REPORT_MAX);
        replace(&c->devices[i].chain.bytes, devices[i].chain, VERIFIER_DEVICE_CHAIN_MAX);
        verifier_sha512(c->devices[i].chain.digest, devices[i].chain);
        verifier_device_item(items[i], devices[i].report, devices[i].chain);
    }
    c->device_count = count;
    c->state.has_devices = count > 0;
    if (count == 0)
        return;
    c->state.devices.count = (unsigned)count;
    verifier_devices_digest(c->state.devices.digest, items, count);
    c->state.devices.tree_size = 1;
    memcpy(c->state.devices.tree_root, c->nonce_root, VERIFIER_DIGEST_LEN);
    c->state.devices.at = attester_core_time(c);
}

static enum attester_err update_devices(struct attester_core *c, struct reader *r)
{
    enum verifier_cc cc = (enum verifier_cc)reader_uint(r, 0, VERIFIER_CCS - 1);
    size_t count = reader_list(r, 0, VERIFIER_DEVICES_MAX);
    struct attester_device devices[VERIFIER_DEVICES_MAX];

    for (size_t i = 0; i < count; i++) {
        (void)reader_list(r, 2, 2);
        devices[i].report = reader_bin(r, 1, VERIFIER_DEVICE_REPORT_MAX);
        devices[i].chain = reader_bin(r, 1, VERIFIER_DEVICE_CHAIN_MAX);
    }
    if (!reader_end(r) || (count > 0 && cc < VERIFIER_CC_ON))
        return ATTESTER_E_SHAPE;
    if (count > 0 && !c->has_nonce)
        return ATTESTER_E_NOT_READY;
    c->state.cc = cc;
    set_devices(c, devices, count);
    c->has_nonce = false; /* old reports must not be dated anew */
    return ATTESTER_OK;
}

/* --- keys ----------------------------------------------------------------------------------------------------------
 */

static enum attester_err call_open(struct attester_core *c, struct reader *r, struct writer *answer)
{
    struct verifier_hpke hpke;
    uint8_t enc[32];
    struct span info, aad;
    enum attester_err err;

    reader_bin_copy(r, enc, sizeof enc);
    info = reader_bin(r, 1, ATTESTER_INFO_MAX);
    aad = reader_bin(r, 1, ATTESTER_AAD_MAX);
    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    err = attester_keys_open(&c->keys, c->h_statement, enc, info, aad, attester_clock(), &hpke);
    if (err == ATTESTER_OK) {
        writer_list(answer, 3);
        writer_bin(answer, span_of(hpke.key, sizeof hpke.key));
        writer_bin(answer, span_of(hpke.nonce, sizeof hpke.nonce));
        writer_bin(answer, span_of(hpke.exporter_secret, sizeof hpke.exporter_secret));
        verifier_hpke_wipe(&hpke);
    }
    return err;
}

static enum attester_err call_opened(struct attester_core *c, struct reader *r)
{
    uint8_t enc[32];
    uint32_t epoch;

    reader_bin_copy(r, enc, sizeof enc);
    epoch = (uint32_t)reader_uint(r, 1, UINT32_MAX);
    return reader_end(r) ? attester_keys_opened(&c->keys, enc, epoch, attester_clock()) : ATTESTER_E_SHAPE;
}

static enum attester_err call_forget(struct attester_core *c, struct reader *r)
{
    if (!reader_end(r))
        return ATTESTER_E_SHAPE;
    secret_wipe(c->keys.release, VERIFIER_KEY_LEN);
    c->keys.has_release = false;
    return ATTESTER_OK;
}

static enum attester_err call_sign(struct attester_core *c, struct reader *r, struct writer *answer)
{
    struct span type = reader_text(r, 1, 32), body = reader_bin(r, 1, ATTESTER_SIGN_MAX);
    uint8_t sig[VERIFIER_SIG_LEN];
    enum attester_err err = reader_end(r) ? attester_keys_sign(&c->keys, type, body, sig) : ATTESTER_E_SHAPE;

    if (err == ATTESTER_OK) {
        writer_list(answer, 1);
        writer_bin(answer, span_of(sig, sizeof sig));
    }
    return err;
}

static enum attester_err call_seal(const struct attester_core *c, struct writer *answer)
{
    writer_list(answer, 2);
    writer_uint(answer, c->keys.now.number);
    writer_bin(answer, span_of(c->keys.now.public, VERIFIER_KEY_LEN));
    return ATTESTER_OK;
}

enum attester_err attester_core_call(struct attester_core *c, uint8_t call, struct span body, struct writer *answer)
{
    static const uint8_t values[ATTESTER_CALLS] = {
        [ATTESTER_OPEN] = 3,  [ATTESTER_OPENED] = 2, [ATTESTER_SIGN] = 2,   [ATTESTER_STAGE] = 1,
        [ATTESTER_MODEL] = 2, [ATTESTER_SERVES] = 2, [ATTESTER_POLICY] = 2, [ATTESTER_PAPERS] = 3,
        [ATTESTER_TIME] = 1,  [ATTESTER_DEVICES] = 2};
    struct reader r = reader_over(body);

    if (call >= ATTESTER_CALLS)
        return ATTESTER_E_CALL;
    (void)reader_list(&r, values[call], values[call]);
    switch (call) {
    case ATTESTER_OPEN:
        return call_open(c, &r, answer);
    case ATTESTER_OPENED:
        return call_opened(c, &r);
    case ATTESTER_FORGET:
        return call_forget(c, &r);
    case ATTESTER_SIGN:
        return call_sign(c, &r, answer);
    case ATTESTER_STAGE:
        return update_stage(c, &r, answer);
    case ATTESTER_MODEL:
        return update_model(c, &r);
    case ATTESTER_SERVES:
        return update_serves(c, &r);
    case ATTESTER_POLICY:
        return update_policy(c, &r);
    case ATTESTER_PAPERS:
        return update_papers(c, &r);
    case ATTESTER_TIME:
        return update_time(c, &r);
    case ATTESTER_DEVICES:
        return update_devices(c, &r);
    case ATTESTER_NONCE:
        return reader_end(&r) ? device_nonce(c, answer) : ATTESTER_E_SHAPE;
    case ATTESTER_SEAL:
        return reader_end(&r) ? call_seal(c, answer) : ATTESTER_E_SHAPE;
    default:
        return ATTESTER_E_CALL;
    }
}
