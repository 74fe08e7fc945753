#include "verifier/check.h"

#include <stdlib.h>

#include "verifier/bundle.h"
#include "verifier/cache.h"
#include "verifier/challenge.h"
#include "verifier/device.h"
#include "verifier/envelope.h"
#include "verifier/eventlog.h"
#include "verifier/fabric.h"
#include "verifier/leaf.h"
#include "verifier/opposite.h"
#include "verifier/signed.h"
#include "verifier/tree.h"

/* Copies that the claims own: a list of blocks. */
struct memory {
    struct memory *next;
    uint8_t bytes[];
};

void verifier_claims_free(struct verifier_claims *claims)
{
    if (!claims)
        return;
    for (struct memory *m = claims->memory, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    free(claims);
}

/* One envelope on its way through the stages. */
struct evidence {
    struct verifier_envelope envelope;
    struct verifier_challenge challenge; /* that this node answered */
    struct verifier_certs chain;
    struct verifier_collateral collateral;
    struct verifier_certs device_chain[VERIFIER_DEVICES_MAX];
    struct span device_chain_bytes[VERIFIER_DEVICES_MAX], event_log;
    struct span challenge_bytes, spki;
    const uint8_t *exporter;
    bool sealed;
    uint8_t root[VERIFIER_DIGEST_LEN]; /* of its tree, as its leaf and path lead to: stage 4 */
};

struct check {
    const struct verifier_input *in;
    struct verifier_refusal *why;
    struct verifier_claims *claims;
    struct verifier_challenge challenge; /* as sent: says what may come by digest */
    struct verifier_hw_rules hw;
    struct verifier_cache *cache;
};

static bool refuse(struct check *c, int stage, enum verifier_err code)
{
    c->why->code = code;
    c->why->stage = stage;
    return false;
}

static void print_hex(char out[33], const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t shown = len < 16 ? len : 16;
    for (size_t i = 0; i < shown; i++) {
        out[2 * i] = digits[data[i] >> 4];
        out[2 * i + 1] = digits[data[i] & 15];
    }
    out[2 * shown] = '\0';
}

/* Two digests that differ, shown by their first 16 bytes. */
static bool refuse_digest(struct check *c, int stage, enum verifier_err code, const uint8_t *observed,
                          const uint8_t *required, size_t len)
{
    char a[33], b[33];
    print_hex(a, observed, len);
    print_hex(b, required, len);
    verifier_note_observed(&c->why->note, "%s...", a);
    verifier_note_required(&c->why->note, "%s...", b);
    return refuse(c, stage, code);
}

static bool refuse_numbers(struct check *c, int stage, enum verifier_err code, const char *what, uint64_t observed,
                           const char *relation, uint64_t required)
{
    verifier_note_observed(&c->why->note, "%s %llu", what, (unsigned long long)observed);
    verifier_note_required(&c->why->note, "%s %llu", relation, (unsigned long long)required);
    return refuse(c, stage, code);
}

static const uint8_t *keep(struct check *c, struct span s)
{
    struct memory *m = malloc(sizeof *m + s.len + 1);
    if (!m)
        return NULL;
    m->next = c->claims->memory;
    c->claims->memory = m;
    if (s.len > 0)
        memcpy(m->bytes, s.data, s.len);
    return m->bytes;
}

/* --- stage 1: shape and sizes --------------------------------------------------------------------- */

/* The bytes of a part, by digest only when the challenge listed it and the verifier holds it. */
static bool resolve(struct check *c, const struct verifier_part *part, struct span *out)
{
    *out = span_of(NULL, 0);
    if (part->form == VERIFIER_PART_BYTES)
        *out = part->bytes;
    if (part->form != VERIFIER_PART_DIGEST)
        return true;
    for (size_t i = 0; i < c->challenge.have_count; i++) {
        if (memcmp(c->challenge.have[i], part->digest, VERIFIER_DIGEST_LEN) != 0)
            continue;
        for (size_t j = 0; j < c->in->held_count; j++)
            if (memcmp(c->in->held[j].digest, part->digest, VERIFIER_DIGEST_LEN) == 0) {
                *out = c->in->held[j].bytes;
                return true;
            }
    }
    verifier_note_observed(&c->why->note, "a part by digest");
    verifier_note_required(&c->why->note, "only parts that the challenge listed and the verifier holds");
    return refuse(c, 1, VERIFIER_E_PART_NOT_ASKED);
}

static bool shape(struct check *c, const char *what, enum verifier_err err)
{
    if (err == VERIFIER_OK)
        return true;
    verifier_note_observed(&c->why->note, "%s with a fault: %s", what, verifier_err_name(err));
    verifier_note_required(&c->why->note, "%s as PROTOCOL.md has it", what);
    return refuse(c, 1, err);
}

static bool shape_shell(struct check *c, const char *what, struct span object)
{
    struct verifier_signed shell;
    return !object.data || shape(c, what, verifier_signed_parse(&shell, object));
}

static bool shape_documents(struct check *c, const struct verifier_envelope *e, struct verifier_node *node)
{
    struct verifier_policy_part part;
    struct span policy;
    if (!resolve(c, &e->policy, &policy))
        return false;
    if (policy.data) {
        if (!shape(c, "policy part", verifier_policy_part_parse(&part, policy)))
            return false;
        for (size_t i = 0; i < part.keyset_count; i++)
            if (!shape_shell(c, "key set", part.keyset[i]))
                return false;
        if (!shape_shell(c, "policy", part.policy))
            return false;
        if (e->policy.form == VERIFIER_PART_DIGEST) { /* a held part is the caller's: the claims need their own */
            policy.data = keep(c, policy);
            if (!policy.data)
                return refuse(c, 1, VERIFIER_E_INTERNAL);
        }
    }
    node->policy = policy;
    node->revocations = e->revocations;
    node->fleet = e->fleet;
    node->lease = e->lease;
    return shape_shell(c, "revocations", e->revocations) && shape_shell(c, "fleet", e->fleet) &&
           shape_shell(c, "lease", e->lease);
}

static bool shape_devices(struct check *c, struct evidence *ev)
{
    for (size_t i = 0; i < ev->envelope.device_count; i++)
        if (!resolve(c, &ev->envelope.devices[i].chain, &ev->device_chain_bytes[i]) ||
            !shape(c, "device chain", verifier_certs_parse(&ev->device_chain[i], ev->device_chain_bytes[i])))
            return false;
    return true;
}

/* Everything of one envelope but its engines; fills what of `node` comes straight from the bytes. */
static bool stage_1(struct check *c, struct evidence *ev, struct span bytes, struct verifier_node *node)
{
    struct verifier_envelope *e = &ev->envelope;
    struct span chain, collateral;
    if (!shape(c, "envelope", verifier_envelope_parse(e, bytes)) || !resolve(c, &e->chain, &chain) ||
        !resolve(c, &e->collateral, &collateral) || !resolve(c, &e->event_log, &ev->event_log) ||
        !shape(c, "statement", verifier_statement_parse(&node->statement, e->statement)) ||
        !shape(c, "state", verifier_state_parse(&node->state, e->state)) ||
        (chain.data && !shape(c, "chain", verifier_certs_parse(&ev->chain, chain))) ||
        (collateral.data && !shape(c, "collateral", verifier_collateral_parse(&ev->collateral, collateral))) ||
        !shape_devices(c, ev) || !shape_documents(c, e, node))
        return false;
    if (c->in->collateral)
        verifier_collateral_add(&ev->collateral, c->in->collateral);
    ev->collateral.cache = c->cache;
    verifier_sha512(node->h_quote, e->quote);
    verifier_sha512(node->h_statement, e->statement);
    verifier_sha512(node->h_state, e->state);
    node->config = e->config;
    return true;
}

/* Shows engines exactly when asked, and not more. */
static bool stage_1_engines(struct check *c, const struct verifier_envelope *e, unsigned asked)
{
    if (e->has_engines == (asked > 0) && e->engine_count <= asked)
        return true;
    return refuse_numbers(c, 1, VERIFIER_E_ENGINES, e->has_engines ? "engines" : "no list of engines; entries",
                          e->engine_count, "at most as many as asked for:", asked);
}

/* --- stage 2: connection -------------------------------------------------------------------------- */

static bool stage_2(struct check *c)
{
    const struct verifier_session *s = &c->in->session;
    const struct {
        bool good;
        enum verifier_err code;
        const char *name;
    } rows[] = {
        {s->tls13 || IGNORED("session.tls13"), VERIFIER_E_TLS_VERSION, "a TLS version other than 1.3"},
        {s->finished || IGNORED("session.finished"), VERIFIER_E_HANDSHAKE_UNFINISHED, "a handshake under way"},
        {!s->resumed || IGNORED("session.resumed"), VERIFIER_E_RESUMED, "a resumed session"},
        {!s->psk || IGNORED("session.psk"), VERIFIER_E_PSK, "a pre-shared key"},
        {!s->early_data || IGNORED("session.early_data"), VERIFIER_E_EARLY_DATA, "early data"},
        {!s->post_handshake_auth || IGNORED("session.post_handshake_auth"), VERIFIER_E_POST_HANDSHAKE_AUTH,
         "post-handshake authentication"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!rows[i].good) {
            verifier_note_observed(&c->why->note, "%s", rows[i].name);
            verifier_note_required(&c->why->note, "a finished TLS 1.3 handshake of its own");
            return refuse(c, 2, rows[i].code);
        }
    return true;
}

/* --- stages 3 to 8 of one node -------------------------------------------------------------------- */

static bool stage_3(struct check *c, const struct evidence *ev, const struct verifier_node *node,
                    enum verifier_role verifier, enum verifier_role attester, uint8_t leaf[VERIFIER_DIGEST_LEN])
{
    const struct verifier_challenge *asked = &ev->challenge;
    if ((asked->verifier != verifier || asked->attester != attester) && !IGNORED("challenge.pair")) {
        verifier_note_observed(&c->why->note, "%s to %s", verifier_role_names[asked->verifier],
                               verifier_role_names[asked->attester]);
        verifier_note_required(&c->why->note, "%s to %s", verifier_role_names[verifier], verifier_role_names[attester]);
        return refuse(c, 3, VERIFIER_E_PAIR);
    }
    if (!ev->sealed) {
        verifier_leaf(leaf, ev->challenge_bytes, ev->spki, ev->exporter);
        return true;
    }
    if (!node->state.has_seal) {
        verifier_note_required(&c->why->note, "a sealing key in the state");
        return refuse(c, 3, VERIFIER_E_NO_SEAL);
    }
    verifier_sealed_leaf(leaf, ev->challenge_bytes, node->state.seal.public);
    return true;
}

static bool stage_4(struct check *c, struct evidence *ev, const uint8_t leaf[VERIFIER_DIGEST_LEN])
{
    const struct verifier_envelope *e = &ev->envelope;
    enum verifier_err err =
        verifier_tree_climb(leaf, e->tree_size, e->place.index, e->place.path, e->place.path_len, ev->root);
    if (err == VERIFIER_OK)
        return true;
    return refuse_numbers(c, 4, err, "a path's length or index that does not fit, index", e->place.index,
                          "a place in a tree of", e->tree_size);
}

/* A chain where the quote carries its own, a log where there is no register for it: parts that nothing would check. */
static bool has_stray_part(const struct evidence *ev)
{
    enum verifier_tee tee = ev->envelope.tee;
    return (ev->chain.count > 0 && (tee == VERIFIER_TEE_TDX || tee == VERIFIER_TEE_NITRO)) ||
           (ev->event_log.data && (tee == VERIFIER_TEE_SNP || tee == VERIFIER_TEE_NITRO));
}

/* Does the replay lead to the registers that the quote covers? A TPM's log is the firmware's: it speaks of some. */
static bool log_fits(const struct verifier_event_log *log, const struct verifier_hw *hw)
{
    if (hw->tee == VERIFIER_TEE_TDX) {
        for (size_t i = 0; i < VERIFIER_RTMRS; i++)
            if (memcmp(log->reg[i], hw->tdx.rtmr[i], sizeof hw->tdx.rtmr[i]) != 0)
                return false;
        return true;
    }
    for (size_t i = 0; i < VERIFIER_TPM_PCRS; i++)
        if (log->events[i] > 0 &&
            (!(hw->vtpm.present >> i & 1) || memcmp(log->reg[i], hw->vtpm.pcr[i], sizeof hw->vtpm.pcr[i]) != 0))
            return false;
    return true;
}

/* A log counts only when its replay gives the registers that the quote covers. */
static bool stage_5_log(struct check *c, const struct evidence *ev, const struct verifier_hw *hw)
{
    struct verifier_event_log log;
    if (!ev->event_log.data)
        return true;
    enum verifier_err err = verifier_event_log_replay(
        &log, ev->event_log, hw->tee == VERIFIER_TEE_TDX ? VERIFIER_LOG_RTMR : VERIFIER_LOG_PCR);
    if (err == VERIFIER_OK && !log_fits(&log, hw))
        err = VERIFIER_E_PCR_MISMATCH;
    if (err == VERIFIER_OK)
        return true;
    verifier_note_observed(&c->why->note, "an event log that leads to other registers");
    verifier_note_required(&c->why->note, "the registers in the quote");
    return refuse(c, 5, err);
}

static bool stage_5(struct check *c, const struct evidence *ev, struct verifier_node *node)
{
    if (has_stray_part(ev)) {
        verifier_note_observed(&c->why->note, "a chain or an event log that evidence of this kind does not have");
        return refuse(c, 5, VERIFIER_E_PARSE);
    }
    enum verifier_err err = verifier_hw_verify(&node->hw, ev->envelope.tee, ev->envelope.quote, ev->chain.cert,
                                               ev->chain.count, &ev->collateral, c->in->now, &c->hw, &c->why->note);
    return err == VERIFIER_OK ? stage_5_log(c, ev, &node->hw) : refuse(c, 5, err);
}

static bool stage_6(struct check *c, const struct evidence *ev, const struct verifier_node *node)
{
    uint8_t want[VERIFIER_DIGEST_LEN];
    verifier_report_data(want, ev->envelope.tree_size, ev->root, node->h_statement, node->h_state);
    if (verifier_hw_binds(&node->hw, want) || IGNORED("report_data"))
        return true;
    return refuse_digest(c, 6, VERIFIER_E_REPORT_DATA_MISMATCH, node->hw.report_data, want, sizeof want);
}

static bool stage_7_each(struct check *c, const struct evidence *ev, struct verifier_node *node,
                         uint8_t items[VERIFIER_DEVICES_MAX][VERIFIER_DIGEST_LEN])
{
    uint8_t nonce[VERIFIER_NONCE_LEN];
    verifier_device_nonce(nonce, node->state.devices.tree_size, node->state.devices.tree_root);
    for (size_t i = 0; i < ev->envelope.device_count; i++) {
        struct span report = ev->envelope.devices[i].report;
        enum verifier_err err =
            verifier_device_verify(&node->devices[i], report, ev->device_chain[i].cert, ev->device_chain[i].count,
                                   nonce, &ev->collateral, c->in->now, &c->why->note);
        if (err != VERIFIER_OK)
            return refuse(c, 7, err);
        verifier_device_item(items[i], report, ev->device_chain_bytes[i]);
    }
    node->device_count = ev->envelope.device_count;
    return true;
}

static bool stage_7(struct check *c, const struct evidence *ev, struct verifier_node *node)
{
    uint8_t items[VERIFIER_DEVICES_MAX][VERIFIER_DIGEST_LEN], digest[VERIFIER_DIGEST_LEN];
    size_t count = ev->envelope.device_count;
    if (node->state.has_devices && count == 0 && !IGNORED("state.devices"))
        return refuse_numbers(c, 7, VERIFIER_E_DEVICES_MISSING, "devices sent:", 0,
                              "devices stated:", node->state.devices.count);
    if (!node->state.has_devices && count > 0)
        return refuse_numbers(c, 7, VERIFIER_E_DEVICES_UNEXPECTED, "devices sent:", count, "devices stated:", 0);
    if (count == 0)
        return true;
    if (!stage_7_each(c, ev, node, items))
        return false;
    if (count != node->state.devices.count && !IGNORED("state.devices.count"))
        return refuse_numbers(c, 7, VERIFIER_E_DEVICES_COUNT, "devices sent:", count,
                              "devices stated:", node->state.devices.count);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(node->devices[i].ueid, node->devices[j].ueid) == 0 && !IGNORED("device.ueid")) {
                verifier_note_observed(&c->why->note, "device %s twice", node->devices[i].ueid);
                verifier_note_required(&c->why->note, "distinct devices");
                return refuse(c, 7, VERIFIER_E_DEVICES_DUPLICATE);
            }
    verifier_devices_digest(digest, items, count);
    if (memcmp(digest, node->state.devices.digest, sizeof digest) != 0 && !IGNORED("state.devices.digest"))
        return refuse_digest(c, 7, VERIFIER_E_DEVICES_DIGEST, digest, node->state.devices.digest, sizeof digest);
    struct span reports[VERIFIER_DEVICES_MAX];
    for (size_t i = 0; i < count; i++)
        reports[i] = ev->envelope.devices[i].report;
    enum verifier_err err =
        verifier_devices_compare(node->devices, reports, count, &ev->collateral, c->in->now, &c->why->note);
    if (err == VERIFIER_OK && !IGNORED("device.fabric"))
        err = verifier_fabric_check(node->devices, count, &c->why->note);
    if (err != VERIFIER_OK)
        return refuse(c, 7, err);
    return true;
}

/* What a role must and must not state. Model is not demanded by keyd, which is asked before one is loaded. */
static bool stage_8_role(struct check *c, const struct verifier_node *node, enum verifier_role verifier)
{
    const struct verifier_state *s = &node->state;
    bool proxy = node->statement.role == VERIFIER_PROXY;
    const char *stray = NULL;
    if (proxy && node->statement.kernels.data)
        stray = "a proxy with kernels";
    else if (!proxy && !node->statement.kernels.data)
        stray = "an engine without kernels";
    else if (proxy && s->has_model)
        stray = "a proxy with a model";
    else if (proxy && s->has_seal)
        stray = "a proxy with a sealing key";
    else if (!proxy && s->has_serves)
        stray = "an engine that serves engines";
    if (stray && !IGNORED("state.nils")) {
        verifier_note_observed(&c->why->note, "%s", stray);
        verifier_note_required(&c->why->note, "what the role %s has", verifier_role_names[node->statement.role]);
        return refuse(c, 8, VERIFIER_E_NOT_FOR_ROLE);
    }
    if (!proxy && !s->has_model && verifier != VERIFIER_KEYD && !IGNORED("state.model")) {
        verifier_note_required(&c->why->note, "a loaded model");
        return refuse(c, 8, VERIFIER_E_NO_MODEL);
    }
    if (s->has_devices && s->cc < VERIFIER_CC_ON) {
        verifier_note_observed(&c->why->note, "devices with mode %s", verifier_cc_names[s->cc]);
        verifier_note_required(&c->why->note, "mode on, devtools or ppcie");
        return refuse(c, 8, VERIFIER_E_CC_MISMATCH);
    }
    if (!verifier_fabric_has_mode(node->devices, node->device_count, s->cc) && !IGNORED("device.mode")) {
        verifier_note_observed(&c->why->note, "mode %s, and an accelerator that signed another",
                               verifier_cc_names[s->cc]);
        verifier_note_required(&c->why->note, "ppcie exactly where the accelerators say so");
        return refuse(c, 8, VERIFIER_E_CC_MISMATCH);
    }
    return true;
}

static bool stage_8_time(struct check *c, const struct verifier_state *s, enum verifier_role verifier)
{
    if (s->at == 0 && verifier != VERIFIER_KEYD) {
        verifier_note_required(&c->why->note, "a trusted time");
        return refuse(c, 8, VERIFIER_E_NO_TIME);
    }
    if (s->at > c->in->now + VERIFIER_FUTURE_MAX && !IGNORED("state.at"))
        return refuse_numbers(c, 8, VERIFIER_E_FUTURE, "a state of", s->at, "at most 5 minutes after", c->in->now);
    if (s->has_devices && s->devices.at > s->at)
        return refuse_numbers(c, 8, VERIFIER_E_DEVICES_AT, "device evidence of", s->devices.at, "not after", s->at);
    return true;
}

/* The node as the previous attestation of this connection showed it, or NULL. */
static const struct verifier_node *previous_of(const struct check *c, const struct verifier_node *node)
{
    const struct verifier_claims *p = c->in->previous;
    const uint8_t *identity = node->statement.identity;
    if (!p)
        return NULL;
    if (memcmp(p->node.statement.identity, identity, VERIFIER_KEY_LEN) == 0)
        return &p->node;
    for (size_t i = 0; i < p->engine_count; i++)
        if (memcmp(p->engine[i].node.statement.identity, identity, VERIFIER_KEY_LEN) == 0)
            return &p->engine[i].node;
    return NULL;
}

static bool stage_8(struct check *c, const struct verifier_node *node, enum verifier_role verifier,
                    enum verifier_role attester)
{
    uint8_t digest[VERIFIER_DIGEST_LEN];
    if (node->statement.role != attester && !IGNORED("statement.role")) {
        verifier_note_observed(&c->why->note, "%s", verifier_role_names[node->statement.role]);
        verifier_note_required(&c->why->note, "%s", verifier_role_names[attester]);
        return refuse(c, 8, VERIFIER_E_ROLE_MISMATCH);
    }
    verifier_sha512(digest, node->config);
    if (memcmp(digest, node->statement.config, sizeof digest) != 0 && !IGNORED("statement.config"))
        return refuse_digest(c, 8, VERIFIER_E_CONFIG_MISMATCH, digest, node->statement.config, sizeof digest);
    if (!stage_8_role(c, node, verifier) || !stage_8_time(c, &node->state, verifier))
        return false;
    const struct verifier_node *before = previous_of(c, node);
    if (!before || IGNORED("previous"))
        return true;
    if ((before->state.stage & ~node->state.stage) != 0)
        return refuse_numbers(c, 8, VERIFIER_E_STATE_FELL, "stage", node->state.stage, "every bit of",
                              before->state.stage);
    if (before->state.has_policy &&
        (!node->state.has_policy || node->state.policy.version < before->state.policy.version))
        return refuse_numbers(c, 8, VERIFIER_E_STATE_FELL, "policy version",
                              node->state.has_policy ? node->state.policy.version : 0, "at least",
                              before->state.policy.version);
    return true;
}

static bool stages_3_to_8(struct check *c, struct evidence *ev, struct verifier_node *node, enum verifier_role verifier,
                          enum verifier_role attester)
{
    uint8_t leaf[VERIFIER_DIGEST_LEN];
    return stage_3(c, ev, node, verifier, attester, leaf) && stage_4(c, ev, leaf) && stage_5(c, ev, node) &&
           stage_6(c, ev, node) && stage_7(c, ev, node) && stage_8(c, node, verifier, attester);
}

/* --- stage 10: engines ---------------------------------------------------------------------------- */

static bool stage_10_place(struct check *c, const struct verifier_engine_entry *entry,
                           const struct verifier_engine_claims *engine)
{
    const struct verifier_state *proxy = &c->claims->node.state;
    uint8_t leaf[VERIFIER_DIGEST_LEN], root[VERIFIER_DIGEST_LEN];
    if (!proxy->has_serves) {
        verifier_note_observed(&c->why->note, "an engine, and a state that serves none");
        verifier_note_required(&c->why->note, "only engines in the tree of state.serves");
        return refuse(c, 10, VERIFIER_E_ENGINE_ROOT);
    }
    verifier_engine_leaf(leaf, entry->challenge, entry->spki, entry->exporter, engine->node.h_quote,
                         engine->node.h_statement, engine->node.h_state, entry->checked_at);
    if (verifier_tree_climb(leaf, proxy->serves.count, entry->place.index, entry->place.path, entry->place.path_len,
                            root) != VERIFIER_OK)
        return refuse_numbers(c, 10, VERIFIER_E_ENGINE_PATH, "a path that does not fit index", entry->place.index,
                              "a place in a tree of", proxy->serves.count);
    if (memcmp(root, proxy->serves.root, sizeof root) != 0 && !IGNORED("state.serves.root"))
        return refuse_digest(c, 10, VERIFIER_E_ENGINE_ROOT, root, proxy->serves.root, sizeof root);
    return true;
}

static bool stage_10_entry(struct check *c, const struct verifier_engine_entry *entry,
                           const struct verifier_engine_claims *engine, size_t index)
{
    uint64_t now = c->in->now;
    for (size_t i = 0; i < index; i++) {
        const struct verifier_engine_claims *other = &c->claims->engine[i];
        if ((other->index == engine->index ||
             memcmp(other->node.statement.identity, engine->node.statement.identity, VERIFIER_KEY_LEN) == 0) &&
            !IGNORED("engine.identity"))
            return refuse_numbers(c, 10, VERIFIER_E_ENGINE_DUPLICATE, "the same engine at entry", i, "once, at entry",
                                  index);
    }
    if (entry->checked_at > now + VERIFIER_FUTURE_MAX)
        return refuse_numbers(c, 10, VERIFIER_E_FUTURE, "checked at", entry->checked_at, "at most 5 minutes after",
                              now);
    if (entry->checked_at + VERIFIER_ENGINE_AGE_MAX < now && !IGNORED("engine.checked_at"))
        return refuse_numbers(c, 10, VERIFIER_E_ENGINE_OLD, "checked at", entry->checked_at,
                              "at most 10 minutes before", now);
    return true;
}

static bool stage_10(struct check *c, const struct verifier_envelope *outer, struct evidence *inner)
{
    for (size_t i = 0; i < outer->engine_count; i++) {
        struct verifier_engine_claims *engine = &c->claims->engine[i];
        const struct verifier_engine_entry *entry = &outer->engines[i];
        c->why->engine = (int)i;
        if (!stage_10_place(c, entry, engine) || !stage_10_entry(c, entry, engine, i))
            return false;
        if (!stages_3_to_8(c, &inner[i], &engine->node, VERIFIER_PROXY, VERIFIER_ENGINE)) {
            c->why->inner_stage = c->why->stage;
            c->why->stage = 10;
            return false;
        }
        c->claims->engine_count = i + 1;
    }
    c->why->engine = -1;
    return true;
}

/* --- all ------------------------------------------------------------------------------------------ */

static bool shape_engines(struct check *c, const struct verifier_envelope *outer, struct evidence *inner)
{
    for (size_t i = 0; i < outer->engine_count; i++) {
        const struct verifier_engine_entry *entry = &outer->engines[i];
        struct verifier_engine_claims *engine = &c->claims->engine[i];
        c->why->engine = (int)i;
        if (!shape(c, "challenge", verifier_challenge_parse(&inner[i].challenge, entry->challenge)) ||
            !stage_1(c, &inner[i], entry->envelope, &engine->node) || !stage_1_engines(c, &inner[i].envelope, 0))
            return false;
        inner[i].challenge_bytes = entry->challenge;
        inner[i].spki = entry->spki;
        inner[i].exporter = entry->exporter;
        engine->checked_at = entry->checked_at;
        engine->index = entry->place.index;
    }
    c->why->engine = -1;
    return true;
}

static bool run(struct check *c, struct evidence *ev)
{
    const struct verifier_input *in = c->in;
    struct evidence *outer = &ev[0], *inner = &ev[1];
    if (in->envelope.len > VERIFIER_ENVELOPE_MAX)
        return shape(c, "envelope", VERIFIER_E_SIZE);
    const uint8_t *copy = keep(c, in->envelope);
    if (!copy)
        return refuse(c, 1, VERIFIER_E_INTERNAL);
    if (!shape(c, "challenge as sent", verifier_challenge_parse(&c->challenge, in->challenge)))
        return false;
    outer->challenge = c->challenge;
    outer->challenge_bytes = in->challenge;
    outer->spki = in->spki;
    outer->exporter = in->exporter;
    outer->sealed = c->claims->sealed;
    if (!stage_1(c, outer, span_of(copy, in->envelope.len), &c->claims->node) ||
        !stage_1_engines(c, &outer->envelope, c->challenge.engines_max) || !shape_engines(c, &outer->envelope, inner))
        return false;
    if (!outer->sealed && !stage_2(c))
        return false;
    if (!outer->sealed && !in->exporter) {
        verifier_note_required(&c->why->note, "a TLS exporter for every pair but client to engine");
        return refuse(c, 3, VERIFIER_E_PAIR);
    }
    return stages_3_to_8(c, outer, &c->claims->node, in->verifier, in->attester) &&
           stage_10(c, &outer->envelope, inner);
}

struct verifier_claims *verifier_check(const struct verifier_input *in, struct verifier_refusal *why)
{
    struct verifier_refusal scratch;
    struct verifier_cache *own = in->cache ? NULL : verifier_cache_new(0);
    struct check c = {.in = in, .why = why ? why : &scratch, .cache = own ? own : in->cache};
    struct evidence *ev = calloc(1 + VERIFIER_ENGINES_MAX, sizeof *ev);
    *c.why = (struct verifier_refusal){.code = VERIFIER_E_INTERNAL, .stage = 1, .engine = -1};
    c.claims = calloc(1, sizeof *c.claims);
    c.hw = in->hw ? *in->hw : verifier_hw_rules_judged();
    bool ok = false;
    if (ev && c.claims && c.cache) {
        c.claims->verifier = in->verifier;
        c.claims->attester = in->attester;
        c.claims->sealed = in->verifier == VERIFIER_CLIENT && in->attester == VERIFIER_ENGINE;
        ok = run(&c, ev);
        c.claims->engines_asked = c.challenge.engines_max > 0;
    }
    free(ev);
    verifier_cache_free(own);
    if (ok) {
        *c.why = (struct verifier_refusal){.code = VERIFIER_OK, .engine = -1};
        return c.claims;
    }
    verifier_claims_free(c.claims);
    return NULL;
}
