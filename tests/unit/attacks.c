#include "unit/attacks.h"

#include <check.h>
#include <stdio.h>

#include "verifier/ed25519.h"
#include "verifier/signed.h"

/* --- how an attack is made ------------------------------------------------------------------------------ */

typedef void edit_fn(struct world *w, struct verifier_envelope *e);

/* Evidence of `node` made for `theirs`, shown to a verifier whose own session is `ours`. */
static struct policy_verdict shown(struct world *w, struct world_node *node, const struct world_session *theirs,
                                   const struct world_session *ours, edit_fn *edit, const struct policy_seen *seen)
{
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_envelope(w, node, theirs, edit, &envelope);
    struct verifier_input in = world_input(w, ours, writer_span(&envelope));
    struct policy_verdict v = world_judge(w, &in, seen, NULL);
    writer_release(&envelope);
    return v;
}

/* A proxy attests an engine. */
static struct policy_verdict engine_with(struct world *w, edit_fn *edit, const struct policy_seen *seen)
{
    struct world_session s;
    world_session(&s, VERIFIER_PROXY, &w->engine[0], 1, 0);
    return shown(w, &w->engine[0], &s, &s, edit, seen);
}

static struct policy_verdict engine(struct world *w)
{
    return engine_with(w, NULL, NULL);
}

/* A client attests a proxy that shows its engines. */
static struct policy_verdict proxy_with(struct world *w, edit_fn *edit)
{
    struct world_session s;
    world_session(&s, VERIFIER_CLIENT, &w->proxy, 1, 8);
    return shown(w, &w->proxy, &s, &s, edit, NULL);
}

/* Bytes that an edit puts into an envelope, until the next one. */
static struct span kept(struct writer *w)
{
    static struct writer last[4];
    static unsigned next;
    struct writer *slot = &last[next++ % 4];
    writer_release(slot);
    *slot = *w;
    return writer_span(slot);
}

/* --- sessions -------------------------------------------------------------------------------------------- */

static struct policy_verdict relay(struct world *w)
{
    struct world_session theirs, ours;
    world_session(&theirs, VERIFIER_CLIENT, &w->proxy, 1, 8);
    ours = theirs; /* the challenge is passed on; the session is the middle man's, with a certificate of its own */
    memset(ours.spki, 0x66, sizeof ours.spki);
    memset(ours.exporter, 0x66, sizeof ours.exporter);
    return shown(w, &w->proxy, &theirs, &ours, NULL, NULL);
}

static struct policy_verdict relay_with_the_same_key(struct world *w)
{
    struct world_session theirs, ours;
    world_session(&theirs, VERIFIER_PROXY, &w->engine[0], 1, 0);
    ours = theirs;
    memset(ours.exporter, 0x66, sizeof ours.exporter);
    return shown(w, &w->engine[0], &theirs, &ours, NULL, NULL);
}

static struct policy_verdict replay(struct world *w)
{
    struct world_session old, ours;
    world_session(&old, VERIFIER_PROXY, &w->engine[0], 1, 0);
    world_session(&ours, VERIFIER_PROXY, &w->engine[0], 2, 0);
    memcpy(ours.spki, old.spki, sizeof ours.spki);
    return shown(w, &w->engine[0], &old, &ours, NULL, NULL);
}

static struct policy_verdict replay_of_a_sealed_leaf(struct world *w)
{
    struct world_session old, ours;
    world_session(&old, VERIFIER_CLIENT, &w->engine[0], 1, 0);
    world_session(&ours, VERIFIER_CLIENT, &w->engine[0], 2, 0);
    return shown(w, &w->engine[0], &old, &ours, NULL, NULL);
}

static struct policy_verdict reflection(struct world *w)
{
    struct world_session s;
    /* The engine's own challenge to the proxy comes back to the proxy as if it were an engine's answer. */
    world_session(&s, VERIFIER_ENGINE, &w->proxy, 1, 0);
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_envelope(w, &w->proxy, &s, NULL, &envelope);
    struct verifier_input in = world_input(w, &s, writer_span(&envelope));
    in.verifier = VERIFIER_PROXY;
    in.attester = VERIFIER_ENGINE;
    struct policy_verdict v = world_judge(w, &in, NULL, NULL);
    writer_release(&envelope);
    return v;
}

static struct policy_verdict foreign_pair(struct world *w)
{
    /* The engine attested to another engine; a proxy shows that session as its own. */
    world_session(&w->engine[1].session, VERIFIER_ENGINE, &w->engine[1], 7, 0);
    return proxy_with(w, NULL);
}

static struct policy_verdict engine_in_place_of_a_proxy(struct world *w)
{
    struct world_session s;
    world_session(&s, VERIFIER_CLIENT, &w->proxy, 1, 0);
    return shown(w, &w->engine[0], &s, &s, NULL, NULL);
}

#define SESSION(name, field, value)                                                                                    \
    static struct policy_verdict session_##name(struct world *w)                                                       \
    {                                                                                                                  \
        struct world_session s;                                                                                        \
        struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);                                               \
        world_session(&s, VERIFIER_PROXY, &w->engine[0], 1, 0);                                                        \
        world_envelope(w, &w->engine[0], &s, NULL, &envelope);                                                         \
        struct verifier_input in = world_input(w, &s, writer_span(&envelope));                                         \
        in.session.field = value;                                                                                      \
        struct policy_verdict v = world_judge(w, &in, NULL, NULL);                                                     \
        writer_release(&envelope);                                                                                     \
        return v;                                                                                                      \
    }
SESSION(tls12, tls13, false)
SESSION(unfinished, finished, false)
SESSION(resumed, resumed, true)
SESSION(psk, psk, true)
SESSION(early_data, early_data, true)
SESSION(late_auth, post_handshake_auth, true)

/* --- the quote -------------------------------------------------------------------------------------------- */

static void edit_other_process(struct world *w, struct verifier_envelope *e)
{
    struct verifier_statement s = w->engine[0].statement;
    struct writer out = writer_with_max(VERIFIER_STATEMENT_MAX);
    memset(s.release, 0x66, sizeof s.release); /* weights would be sealed to the other process */
    verifier_statement_encode(&out, &s);
    e->statement = kept(&out);
}
static struct policy_verdict other_process(struct world *w)
{
    return engine_with(w, edit_other_process, NULL);
}

static void edit_other_model(struct world *w, struct verifier_envelope *e)
{
    struct verifier_state s = w->engine[0].state;
    struct writer out = writer_with_max(VERIFIER_STATE_MAX);
    memcpy(s.model.root, w->rules.model[0], 64); /* what the client wants to see */
    verifier_state_encode(&out, &s);
    e->state = kept(&out);
}
static struct policy_verdict model_swapped(struct world *w)
{
    memset(w->engine[0].state.model.root, 0x66, 64);
    return engine_with(w, edit_other_model, NULL);
}

static void edit_other_tree(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    memset(e->place.path[0], 0x66, 64); /* the sibling of another tree: our leaf was never in the quoted one */
}
static struct policy_verdict leaf_of_another_tree(struct world *w)
{
    return engine_with(w, edit_other_tree, NULL);
}

static void edit_other_size(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    e->tree_size = 4; /* the third leaf taken for a node over two */
}
static struct policy_verdict another_size_of_the_tree(struct world *w)
{
    return engine_with(w, edit_other_size, NULL);
}

static void edit_config(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    e->config = span_str("listen = 0.0.0.0:1\nlog = \"prompts\"\n");
}
static struct policy_verdict config_swapped(struct world *w)
{
    return engine_with(w, edit_config, NULL);
}

static struct policy_verdict clock_ahead(struct world *w)
{
    w->engine[0].state.at = w->now + 301;
    return engine(w);
}

static struct policy_verdict engine_without_model(struct world *w)
{
    w->engine[0].state.has_model = false;
    return engine(w);
}

static struct policy_verdict walls_fell(struct world *w)
{
    struct world_session s;
    struct verifier_claims *before;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&s, VERIFIER_PROXY, &w->engine[0], 1, 0);
    world_envelope(w, &w->engine[0], &s, NULL, &envelope);
    struct verifier_input in = world_input(w, &s, writer_span(&envelope));
    struct policy_verdict v = world_judge(w, &in, NULL, &before);
    ck_assert_int_eq(v.refusal.code, VERIFIER_OK);
    writer_reset(&envelope);
    w->engine[0].state.stage &= ~(unsigned)VERIFIER_STAGE_SECCOMP;
    w->rules.engine.stage = 0;
    world_envelope(w, &w->engine[0], &s, NULL, &envelope);
    in = world_input(w, &s, writer_span(&envelope));
    in.previous = before;
    v = world_judge(w, &in, NULL, NULL);
    verifier_claims_free(before);
    writer_release(&envelope);
    return v;
}

/* --- devices ---------------------------------------------------------------------------------------------- */

static const char *const one_gpu[] = {"1001", NULL}, *const two_gpus[] = {"1001", "1002", NULL};

static void replace_device(struct verifier_envelope *e, size_t index, const char *ueid, uint32_t size,
                           const uint8_t root[64])
{
    char report[96];
    struct writer out = writer_with_max(sizeof report);
    world_device_report(report, ueid, size, root);
    writer_str(&out, report);
    e->devices[index].report = kept(&out);
}

static struct policy_verdict devices_not_sent(struct world *w)
{
    world_devices(w, &w->engine[0], one_gpu);
    w->engine[0].device_count = 0;
    return engine(w);
}

static void edit_spliced(struct world *w, struct verifier_envelope *e)
{
    const struct verifier_state *s = &w->engine[0].state;
    replace_device(e, 0, "6666", s->devices.tree_size, s->devices.tree_root);
}
static struct policy_verdict device_of_another_machine(struct world *w)
{
    world_devices(w, &w->engine[0], one_gpu);
    return engine_with(w, edit_spliced, NULL);
}

static void edit_recorded(struct world *w, struct verifier_envelope *e)
{
    uint8_t root[64] = {0};
    (void)w;
    replace_device(e, 0, "1001", 1, root);
}
static struct policy_verdict recorded_device(struct world *w)
{
    world_devices(w, &w->engine[0], one_gpu);
    return engine_with(w, edit_recorded, NULL);
}

static void edit_one_twice(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    e->devices[1] = e->devices[0];
}
static struct policy_verdict device_twice(struct world *w)
{
    world_devices(w, &w->engine[0], two_gpus);
    return engine_with(w, edit_one_twice, NULL);
}

static void edit_one_fewer(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    e->device_count = 1;
}
static struct policy_verdict device_left_out(struct world *w)
{
    world_devices(w, &w->engine[0], two_gpus);
    return engine_with(w, edit_one_fewer, NULL);
}

static struct policy_verdict devices_in_debug_mode(struct world *w)
{
    world_devices(w, &w->engine[0], one_gpu);
    w->engine[0].state.cc = VERIFIER_CC_DEVTOOLS;
    return engine(w);
}

static struct policy_verdict no_device_where_the_rules_want_one(struct world *w)
{
    w->rules.gpus.min = w->rules.gpus.max = 1;
    return engine(w);
}

static struct policy_verdict fewer_devices_than_the_rules_want(struct world *w)
{
    world_devices(w, &w->engine[0], one_gpu);
    w->rules.gpus.min = 2;
    return engine(w);
}

static struct policy_verdict more_devices_than_the_rules_allow(struct world *w)
{
    world_devices(w, &w->engine[0], two_gpus);
    w->rules.gpus.max = 1;
    return engine(w);
}

static struct policy_verdict device_of_unknown_standing(struct world *w)
{
    static const char *const silent[] = {"1001", "9002", NULL};
    world_devices(w, &w->engine[0], silent);
    return engine(w);
}

static struct policy_verdict reference_file_of_unknown_standing(struct world *w)
{
    static const char *const silent[] = {"1001", "8002", NULL};
    world_devices(w, &w->engine[0], silent);
    return engine(w);
}

/* GPUs behind protected links, and what the node says of its mode. */
static struct policy_verdict fabric(struct world *w, const char *const *ueids, enum verifier_cc cc)
{
    world_devices(w, &w->engine[0], ueids);
    w->engine[0].state.cc = cc;
    return engine(w);
}

static struct policy_verdict switch_unproven(struct world *w)
{
    static const char *const one_of_two[] = {"4002", "4012", "5001", NULL};
    return fabric(w, one_of_two, VERIFIER_CC_PPCIE);
}

static struct policy_verdict switch_of_another_fabric(struct world *w)
{
    static const char *const third[] = {"4002", "5001", "5002", "5003", NULL};
    return fabric(w, third, VERIFIER_CC_PPCIE);
}

static struct policy_verdict modes_differ(struct world *w)
{
    static const char *const mixed[] = {"4001", "1002", "5001", NULL};
    return fabric(w, mixed, VERIFIER_CC_PPCIE);
}

static struct policy_verdict protection_only_stated(struct world *w)
{
    w->rules.gpus.ppcie = true;
    return fabric(w, two_gpus, VERIFIER_CC_PPCIE);
}

static struct policy_verdict switches_not_counted(struct world *w)
{
    static const char *const one[] = {"4001", "5001", NULL};
    w->rules.gpus.has_switches = true;
    w->rules.gpus.switches = 2;
    return fabric(w, one, VERIFIER_CC_PPCIE);
}

struct policy_verdict attacks_honest_fabric(struct world *w)
{
    static const char *const all[] = {"4002", "4012", "5001", "5002", NULL};
    w->rules.gpus.has_switches = w->rules.gpus.ppcie = true;
    w->rules.gpus.switches = w->rules.gpus.min = 2;
    return fabric(w, all, VERIFIER_CC_PPCIE);
}

/* --- engines that a proxy shows --------------------------------------------------------------------------- */

static void edit_engine_not_served(struct world *w, struct verifier_envelope *e)
{
    struct writer out = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct world_session s;
    /* A genuine engine with a session of its own, which this proxy never attested. */
    world_session(&s, VERIFIER_PROXY, &w->engine[1], 9, 0);
    world_envelope(w, &w->engine[1], &s, NULL, &out);
    e->engines[1].envelope = kept(&out);
    struct writer challenge = writer_with_max(VERIFIER_CHALLENGE_MAX), spki = writer_with_max(WORLD_SPKI_LEN);
    writer_bytes(&challenge, span_of(s.challenge, s.challenge_len));
    writer_bytes(&spki, span_of(s.spki, sizeof s.spki));
    e->engines[1].challenge = kept(&challenge);
    e->engines[1].spki = kept(&spki);
    memcpy(e->engines[1].exporter, s.exporter, 32);
}
static struct policy_verdict engine_not_served(struct world *w)
{
    return proxy_with(w, edit_engine_not_served);
}

static void edit_engine_twice(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    e->engines[1] = e->engines[0];
}
static struct policy_verdict engine_twice(struct world *w)
{
    return proxy_with(w, edit_engine_twice);
}

static struct policy_verdict old_engine(struct world *w)
{
    w->engine[1].checked_at = w->now - 601;
    return proxy_with(w, NULL);
}

static void edit_dressed_up(struct world *w, struct verifier_envelope *e)
{
    e->engines[1].checked_at = w->now;
}
static struct policy_verdict old_engine_dressed_up(struct world *w)
{
    w->engine[1].checked_at = w->now - 601;
    return proxy_with(w, edit_dressed_up);
}

/* --- policy and lease ------------------------------------------------------------------------------------- */

static void edit_strangers_list(struct world *w, struct verifier_envelope *e)
{
    static struct world other;
    struct writer part = writer_with_max(VERIFIER_PART_MAX), list = writer_with_max(VERIFIER_PART_MAX);
    /* Key sets of a stranger, the owner's very policy text signed by them, and an empty list by their revoker: the
     * owner's revocation of this node is gone. */
    other = *w;
    other.owner[0] = other.owner[1] = w->stranger;
    other.owner[1].seed[0] ^= 1;
    other.policy_text = other.policy_part = other.revocations = writer_with_max(1u << 16);
    ck_assert(verifier_ed25519_public(other.owner[1].seed, other.owner[1].public));
    world_sign_policy(&other, 1, other.owner, 1);
    world_revoke(&other, 4, POLICY_REVOKED_IDENTITY, span_of(NULL, 0));
    writer_bytes(&part, writer_span(&other.policy_part));
    writer_bytes(&list, writer_span(&other.revocations));
    e->policy.bytes = kept(&part);
    e->revocations = kept(&list);
    writer_release(&other.policy_text);
    writer_release(&other.policy_part);
    writer_release(&other.revocations);
}
static struct policy_verdict revocations_by_another_owner(struct world *w)
{
    world_revoke(w, 4, POLICY_REVOKED_IDENTITY, span_of(w->engine[0].identity.public, 32));
    w->engine[0].lease.epoch = 4;
    return engine_with(w, edit_strangers_list, NULL);
}

static struct policy_verdict policy_by_a_stranger(struct world *w)
{
    world_sign_policy(w, 1, &w->stranger, 1);
    return engine(w);
}

static void edit_old_policy(struct world *w, struct verifier_envelope *e)
{
    struct writer part = writer_with_max(VERIFIER_PART_MAX);
    writer_bytes(&part, writer_span(&w->policy_part)); /* as it is now: version 6 */
    e->policy.bytes = kept(&part);
}
static struct policy_verdict old_policy_beside_a_fresh_leaf(struct world *w)
{
    struct verifier_policy_ref now = w->engine[0].state.policy;
    w->policy_version = 6;
    world_sign_policy(w, 1, w->owner, 1);
    w->engine[0].state.policy = w->engine[0].lease.policy = now;
    return engine_with(w, edit_old_policy, NULL);
}

static struct policy_verdict policy_expired(struct world *w)
{
    snprintf(w->policy_not_after, sizeof w->policy_not_after, "2026-01-02");
    world_sign_policy(w, 1, w->owner, 1);
    return engine(w);
}

static struct policy_verdict revoked_node(struct world *w)
{
    world_revoke(w, 4, POLICY_REVOKED_IDENTITY, span_of(w->engine[0].identity.public, 32));
    w->engine[0].lease.epoch = 4;
    return engine(w);
}

static struct policy_verdict revoked_chip(struct world *w)
{
    world_revoke(w, 4, POLICY_REVOKED_SNP_CHIP, span_of(w->engine[0].chip_id, 64));
    w->engine[0].lease.epoch = 4;
    return engine(w);
}

static struct policy_verdict restored_disk(struct world *w)
{
    struct policy_seen seen = {.policy = 8, .keyset = 1, .epoch = 3};
    return engine_with(w, NULL, &seen);
}

static void edit_no_revocations(struct world *w, struct verifier_envelope *e)
{
    (void)w;
    e->revocations = span_of(NULL, 0);
}
static struct policy_verdict revocations_withheld(struct world *w)
{
    struct policy_seen seen = {.policy = 7, .keyset = 1, .epoch = 3};
    return engine_with(w, edit_no_revocations, &seen);
}

static struct policy_verdict lease_of_another(struct world *w)
{
    memcpy(w->engine[0].lease.identity, w->engine[1].identity.public, 32);
    return engine(w);
}

static struct policy_verdict lease_of_another_role(struct world *w)
{
    w->engine[0].lease.role = VERIFIER_PROXY;
    return engine(w);
}

static struct policy_verdict lease_under_another_policy(struct world *w)
{
    w->engine[0].lease.policy.version = 6;
    return engine(w);
}

static struct policy_verdict lease_before_the_revocation(struct world *w)
{
    w->engine[0].lease.epoch = 2;
    return engine(w);
}

static struct policy_verdict lease_future(struct world *w)
{
    w->engine[0].lease.issued = w->now + 301;
    return engine(w);
}

static struct policy_verdict lease_too_long(struct world *w)
{
    w->engine[0].lease.expires = w->engine[0].lease.issued + 4 * 3600 + 1;
    return engine(w);
}

static struct policy_verdict lease_expired(struct world *w)
{
    w->engine[0].lease.issued = w->now - 7200;
    w->engine[0].lease.expires = w->now; /* a paused guest wakes up: only the verifier's own clock ends it */
    return engine(w);
}

static struct policy_verdict lease_by_a_stranger(struct world *w)
{
    struct world_key keyd = w->keyd;
    w->keyd = w->stranger;
    struct policy_verdict v = engine(w);
    w->keyd = keyd;
    return v;
}

/* --- rules -------------------------------------------------------------------------------------------------- */

static struct policy_verdict simulated(struct world *w)
{
    w->rules.simulated = false;
    return engine(w);
}

static struct policy_verdict another_owner(struct world *w)
{
    memset(w->rules.owner[0], 0x66, 64);
    return engine(w);
}

static struct policy_verdict image_that_only_the_owner_admits(struct world *w)
{
    memset(w->rules.engine.measurement[0].digest, 0x66, 48);
    return proxy_with(w, NULL);
}

static struct policy_verdict machine_of_a_stranger(struct world *w)
{
    w->rules.hardware.chip_count = 1; /* the engines' is not listed */
    return engine(w);
}

static struct policy_verdict policy_too_old_for_the_client(struct world *w)
{
    w->rules.policy_min = 8;
    return engine(w);
}

static struct policy_verdict sandbox_incomplete(struct world *w)
{
    w->engine[0].state.stage = VERIFIER_STAGE_ALL & ~(unsigned)VERIFIER_STAGE_LANDLOCK;
    return engine(w);
}

static struct policy_verdict another_model(struct world *w)
{
    memset(w->rules.model[0], 0x66, 64);
    return engine(w);
}

/* --- the list ----------------------------------------------------------------------------------------------- */

const struct attack attacks[] = {
    {"relay through a middle man", "leaf.spki,leaf.exporter", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, relay},
    {"relay with the attested key", "leaf.exporter", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, relay_with_the_same_key},
    {"replay of an answer", "leaf.challenge,leaf.exporter", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, replay},
    {"replay of a sealed leaf", "sealed_leaf.challenge", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0,
     replay_of_a_sealed_leaf},
    {"reflection", "challenge.pair,statement.role", VERIFIER_E_PAIR, 3, 0, reflection},
    {"foreign role pair", "challenge.pair", VERIFIER_E_PAIR, 10, 3, foreign_pair},
    {"engine in place of a proxy", "statement.role", VERIFIER_E_ROLE_MISMATCH, 8, 0, engine_in_place_of_a_proxy},
    {"TLS 1.2", "session.tls13", VERIFIER_E_TLS_VERSION, 2, 0, session_tls12},
    {"exporter before the client's Finished", "session.finished", VERIFIER_E_HANDSHAKE_UNFINISHED, 2, 0,
     session_unfinished},
    {"resumed session", "session.resumed", VERIFIER_E_RESUMED, 2, 0, session_resumed},
    {"pre-shared key", "session.psk", VERIFIER_E_PSK, 2, 0, session_psk},
    {"early data", "session.early_data", VERIFIER_E_EARLY_DATA, 2, 0, session_early_data},
    {"post-handshake authentication", "session.post_handshake_auth", VERIFIER_E_POST_HANDSHAKE_AUTH, 2, 0,
     session_late_auth},
    {"statement of another process", "report.statement", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, other_process},
    {"model swapped after the quote", "report.state", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, model_swapped},
    {"leaf of another tree", "report.root", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, leaf_of_another_tree},
    {"another size of the tree", "report.size", VERIFIER_E_REPORT_DATA_MISMATCH, 6, 0, another_size_of_the_tree},
    {"configuration swapped after hashing", "statement.config", VERIFIER_E_CONFIG_MISMATCH, 8, 0, config_swapped},
    {"clock set ahead", "state.at", VERIFIER_E_FUTURE, 8, 0, clock_ahead},
    {"engine without a model", "state.model", VERIFIER_E_NO_MODEL, 8, 0, engine_without_model},
    {"walls that fell", "previous", VERIFIER_E_STATE_FELL, 8, 0, walls_fell},
    {"stated devices not sent", "state.devices", VERIFIER_E_DEVICES_MISSING, 7, 0, devices_not_sent},
    {"device evidence recorded earlier", "device.nonce,state.devices.digest", VERIFIER_E_NONCE_MISMATCH, 7, 0,
     recorded_device},
    {"device of another machine", "state.devices.digest", VERIFIER_E_DEVICES_DIGEST, 7, 0, device_of_another_machine},
    {"one device twice", "device.ueid,state.devices.digest", VERIFIER_E_DEVICES_DUPLICATE, 7, 0, device_twice},
    {"device left out", "state.devices.count,state.devices.digest", VERIFIER_E_DEVICES_COUNT, 7, 0, device_left_out},
    {"accelerator open to debugging", "state.cc", VERIFIER_E_CC_NOT_ACCEPTED, 11, 0, devices_in_debug_mode},
    {"no accelerator where one is wanted", "gpus.count", VERIFIER_E_DEVICES_NOT_ACCEPTED, 11, 0,
     no_device_where_the_rules_want_one},
    {"fewer accelerators than the rules want", "gpus.count", VERIFIER_E_DEVICES_NOT_ACCEPTED, 11, 0,
     fewer_devices_than_the_rules_want},
    {"more accelerators than the rules allow", "gpus.count", VERIFIER_E_DEVICES_NOT_ACCEPTED, 11, 0,
     more_devices_than_the_rules_allow},
    {"accelerator whose certificates the vendor may have revoked", "gpus.ocsp", VERIFIER_E_OCSP_MISSING, 11, 0,
     device_of_unknown_standing},
    {"reference file whose signer the vendor may have revoked", "gpus.rim_ocsp", VERIFIER_E_RIM_OCSP_MISSING, 11, 0,
     reference_file_of_unknown_standing},
    {"switch that has not proven itself", "device.fabric", VERIFIER_E_FABRIC_MISMATCH, 7, 0, switch_unproven},
    {"switch of another fabric", "device.fabric", VERIFIER_E_FABRIC_MISMATCH, 7, 0, switch_of_another_fabric},
    {"accelerators in different modes", "device.fabric,device.mode", VERIFIER_E_FEATURE_FLAG_MISMATCH, 7, 0,
     modes_differ},
    {"protected links that no accelerator signs", "device.mode", VERIFIER_E_CC_MISMATCH, 8, 0, protection_only_stated},
    {"another number of switches than the rules want", "gpus.switches", VERIFIER_E_DEVICES_NOT_ACCEPTED, 11, 0,
     switches_not_counted},
    {"engine that the proxy does not serve", "state.serves.root", VERIFIER_E_ENGINE_ROOT, 10, 0, engine_not_served},
    {"one engine shown twice", "engine.identity", VERIFIER_E_ENGINE_DUPLICATE, 10, 0, engine_twice},
    {"old entry of a lagging proxy", "engine.checked_at", VERIFIER_E_ENGINE_OLD, 10, 0, old_engine},
    {"old entry with a new date", "engine_leaf.checked_at", VERIFIER_E_ENGINE_ROOT, 10, 0, old_engine_dressed_up},
    {"revocations by another owner", "statement.owner", VERIFIER_E_OWNER_MISMATCH, 9, 0, revocations_by_another_owner},
    {"policy by a stranger", "policy.signature", VERIFIER_E_SIGNED_KEY, 9, 0, policy_by_a_stranger},
    {"old policy beside a fresh leaf", "state.policy.digest,state.policy.version", VERIFIER_E_POLICY_MISMATCH, 9, 0,
     old_policy_beside_a_fresh_leaf},
    {"expired policy", "policy.not_after", VERIFIER_E_POLICY_EXPIRED, 9, 0, policy_expired},
    {"revoked identity", "revocations", VERIFIER_E_REVOKED, 9, 0, revoked_node},
    {"revoked processor", "revocations", VERIFIER_E_REVOKED, 9, 0, revoked_chip},
    {"restored disk", "seen", VERIFIER_E_POLICY_OLD, 9, 0, restored_disk},
    {"revocations withheld", "seen", VERIFIER_E_EPOCH_OLD, 9, 0, revocations_withheld},
    {"lease of another node", "lease.identity", VERIFIER_E_LEASE_IDENTITY, 9, 0, lease_of_another},
    {"lease of another role", "lease.role", VERIFIER_E_LEASE_ROLE, 9, 0, lease_of_another_role},
    {"lease under another policy", "lease.policy", VERIFIER_E_LEASE_POLICY, 9, 0, lease_under_another_policy},
    {"lease from before the revocation", "lease.epoch", VERIFIER_E_LEASE_EPOCH, 9, 0, lease_before_the_revocation},
    {"lease from the future", "lease.issued", VERIFIER_E_FUTURE, 9, 0, lease_future},
    {"lease that lives too long", "lease.life", VERIFIER_E_LEASE_LIFE, 9, 0, lease_too_long},
    {"expired lease, paused guest", "lease.expires", VERIFIER_E_LEASE_EXPIRED, 9, 0, lease_expired},
    {"lease by a stranger", "lease.signature", VERIFIER_E_SIGNED_KEY, 9, 0, lease_by_a_stranger},
    {"simulation at a release", "simulated", VERIFIER_E_SIMULATED, 11, 0, simulated},
    {"another owner", "owner", VERIFIER_E_OWNER_NOT_ACCEPTED, 11, 0, another_owner},
    {"image that only the owner's policy admits", "measurement", VERIFIER_E_MEASUREMENT_NOT_ACCEPTED, 11, 11,
     image_that_only_the_owner_admits},
    {"another genuine machine", "hardware", VERIFIER_E_HARDWARE_NOT_ACCEPTED, 11, 0, machine_of_a_stranger},
    {"policy older than the client accepts", "policy_min", VERIFIER_E_POLICY_NOT_ACCEPTED, 11, 0,
     policy_too_old_for_the_client},
    {"incomplete sandbox", "state.stage", VERIFIER_E_STAGE_NOT_ACCEPTED, 11, 0, sandbox_incomplete},
    {"another model", "state.model.root", VERIFIER_E_MODEL_NOT_ACCEPTED, 11, 0, another_model},
};
const size_t attacks_count = sizeof attacks / sizeof *attacks;
