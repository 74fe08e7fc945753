#include "policy/judge.h"

#include <stdlib.h>

#include "policy/fleet.h"
#include "policy/keyset.h"
#include "policy/lease.h"
#include "policy/revocations.h"
#include "verifier/opposite.h"

/* One judgement. On the heap: the lists are large. */
struct judge {
    const struct verifier_claims *claims;
    const struct policy_rules *rules;
    struct policy_seen seen; /* before */
    uint64_t now;
    struct policy_verdict *out;
    struct policy_facts facts[1 + VERIFIER_ENGINES_MAX]; /* of the node, then of each engine; zero without a policy */
    struct policy_seen next;                             /* after, if the verdict is yes */
    struct policy_revocations revocations;
    struct policy_fleet fleet;
};

static bool refuse(struct judge *j, int stage, enum verifier_err code)
{
    j->out->refusal.code = code;
    j->out->refusal.stage = stage;
    return false;
}

/* `observed` and `required` for people, then refuse. */
#define REFUSE(j, stage, code, ...) (note((j), __VA_ARGS__), refuse((j), (stage), (code)))
static void note(struct judge *j, const char *observed, const char *required)
{
    verifier_note_observed(&j->out->refusal.note, "%s", observed);
    verifier_note_required(&j->out->refusal.note, "%s", required);
}

static bool refuse_numbers(struct judge *j, int stage, enum verifier_err code, const char *what, uint64_t observed,
                           const char *relation, uint64_t required)
{
    verifier_note_observed(&j->out->refusal.note, "%s %llu", what, (unsigned long long)observed);
    verifier_note_required(&j->out->refusal.note, "%s %llu", relation, (unsigned long long)required);
    return refuse(j, stage, code);
}

static bool refuse_bytes(struct judge *j, int stage, enum verifier_err code, const char *what, const uint8_t *data,
                         size_t len, const char *required)
{
    char hex[2 * 64 + 1];
    policy_hex_print(span_of(data, len), hex);
    verifier_note_observed(&j->out->refusal.note, "%s %s", what, hex);
    verifier_note_required(&j->out->refusal.note, "%s", required);
    return refuse(j, stage, code);
}

/* The verdict ends no later than `when`, because of `what` (static text). */
static void bound(struct judge *j, uint64_t when, const char *what)
{
    if (when >= j->out->valid_until)
        return;
    j->out->valid_until = when;
    j->out->valid_by = what;
}

/* --- stage 9 ------------------------------------------------------------------------------------ */

/* The digest of the first key set that the node's statement pins. */
static void pinned_owner(const struct verifier_node *node, const struct verifier_policy_part *part,
                         uint8_t out[VERIFIER_DIGEST_LEN])
{
    struct verifier_signed shell;
    memcpy(out, node->statement.owner, VERIFIER_DIGEST_LEN);
    if (IGNORED("statement.owner") && verifier_signed_parse(&shell, part->keyset[0]) == VERIFIER_OK)
        verifier_sha512(out, shell.body);
}

static bool check_policy(struct judge *j, const struct verifier_node *node, const struct verifier_policy_part *part,
                         struct policy_keyset *keys, struct policy_facts *facts)
{
    struct verifier_signed shell;
    uint8_t digest[VERIFIER_DIGEST_LEN], owner[VERIFIER_DIGEST_LEN];
    struct verifier_note *why = &j->out->refusal.note;
    pinned_owner(node, part, owner);
    enum verifier_err err = policy_keysets_check(part->keyset, part->keyset_count, owner, keys);
    if (err != VERIFIER_OK)
        return REFUSE(j, 9, err, "the owner's key sets as sent", "the owner's own, from the first to the newest");
    err = verifier_signed_parse(&shell, part->policy);
    if (err == VERIFIER_OK && !IGNORED("policy.signature"))
        err = policy_keyset_check(keys, POLICY_KEY_SIGNER, &shell, VERIFIER_SIGNED_POLICY);
    if (err != VERIFIER_OK)
        return REFUSE(j, 9, err, "the signatures of the policy", "enough of the owner's signers, all good");
    verifier_sha512(digest, shell.body);
    if ((!node->state.has_policy || memcmp(digest, node->state.policy.digest, sizeof digest) != 0) &&
        !IGNORED("state.policy.digest"))
        return refuse_bytes(j, 9, VERIFIER_E_POLICY_MISMATCH, "a policy with digest", digest, sizeof digest,
                            "the policy that the state names");
    err = (j->rules->facts ? j->rules->facts : policy_facts_parse)(shell.body, facts, why);
    if (err != VERIFIER_OK)
        return refuse(j, 9, err);
    if (facts->version != node->state.policy.version && !IGNORED("state.policy.version"))
        return refuse_numbers(j, 9, VERIFIER_E_POLICY_MISMATCH, "a policy of version", facts->version,
                              "the state's version", node->state.policy.version);
    return true;
}

static bool check_dates(struct judge *j, const struct policy_facts *facts)
{
    if (j->now < facts->not_before)
        return refuse_numbers(j, 9, VERIFIER_E_POLICY_NOT_YET, "time", j->now, "from", facts->not_before);
    if (IGNORED("policy.not_after"))
        return true;
    if (j->now >= facts->not_after)
        return refuse_numbers(j, 9, VERIFIER_E_POLICY_EXPIRED, "time", j->now, "before", facts->not_after);
    bound(j, facts->not_after, "policy");
    return true;
}

static const char *revoked_what(const struct policy_revocations *list, const struct verifier_node *node)
{
    if (policy_revocations_has(list, POLICY_REVOKED_POLICY, span_of(node->state.policy.digest, VERIFIER_DIGEST_LEN)))
        return "the policy";
    return policy_revocations_of_node(list, node);
}

/* Also sets j->revocations.epoch: 0 without a list. */
static bool check_revocations(struct judge *j, const struct verifier_node *node, const struct policy_keyset *keys)
{
    struct verifier_signed shell;
    j->revocations.epoch = 0;
    if (!node->revocations.data)
        return true;
    enum verifier_err err = verifier_signed_parse(&shell, node->revocations);
    if (err == VERIFIER_OK)
        err = policy_keyset_check(keys, POLICY_KEY_REVOKER, &shell, VERIFIER_SIGNED_REVOCATIONS);
    if (err == VERIFIER_OK)
        err = policy_revocations_parse(&j->revocations, shell.body);
    if (err != VERIFIER_OK)
        return REFUSE(j, 9, err, "the revocations as sent", "a list signed by the owner's revokers");
    const char *what = revoked_what(&j->revocations, node);
    if (what && !IGNORED("revocations"))
        return REFUSE(j, 9, VERIFIER_E_REVOKED, what, "nothing that the owner has revoked");
    return true;
}

/* PROTOCOL.md § Order of checks: an older version passes during a roll-out, while its lease is from before the moment
 * when the newer one was first seen and that is less than the policy's grace ago. */
static bool in_grace(const struct judge *j, uint64_t since, uint64_t issued, uint64_t grace)
{
    return since > 0 && issued < since && j->now < since + grace;
}

static bool check_seen(struct judge *j, const struct policy_facts *facts, uint32_t keyset, uint64_t lease_issued)
{
    struct {
        uint32_t shown, highest;
        uint64_t since;
        enum verifier_err code;
        const char *what;
        uint32_t *next;
        uint64_t *next_since;
    } rows[] = {
        {keyset, j->seen.keyset, j->seen.keyset_since, VERIFIER_E_KEYSET_OLD, "key set version", &j->next.keyset,
         &j->next.keyset_since},
        {facts->version, j->seen.policy, j->seen.policy_since, VERIFIER_E_POLICY_OLD, "policy version", &j->next.policy,
         &j->next.policy_since},
        {j->revocations.epoch, j->seen.epoch, j->seen.epoch_since, VERIFIER_E_EPOCH_OLD, "revocation epoch",
         &j->next.epoch, &j->next.epoch_since},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].shown < rows[i].highest && !in_grace(j, rows[i].since, lease_issued, facts->version_grace) &&
            !IGNORED("seen"))
            return refuse_numbers(j, 9, rows[i].code, rows[i].what, rows[i].shown, "at least", rows[i].highest);
        if (rows[i].shown > *rows[i].next) {
            *rows[i].next = rows[i].shown;
            *rows[i].next_since = j->now;
        }
    }
    return true;
}

static bool check_lease_fields(struct judge *j, const struct verifier_node *node, const struct policy_lease *lease,
                               const struct policy_facts *facts)
{
    uint64_t life = lease->expires - lease->issued;
    if (memcmp(lease->identity, node->statement.identity, VERIFIER_KEY_LEN) != 0 && !IGNORED("lease.identity"))
        return refuse_bytes(j, 9, VERIFIER_E_LEASE_IDENTITY, "a lease of", lease->identity, VERIFIER_KEY_LEN,
                            "a lease of the node itself");
    if (lease->role != node->statement.role && !IGNORED("lease.role"))
        return REFUSE(j, 9, VERIFIER_E_LEASE_ROLE, verifier_role_names[lease->role],
                      verifier_role_names[node->statement.role]);
    if ((lease->policy.version != node->state.policy.version ||
         memcmp(lease->policy.digest, node->state.policy.digest, VERIFIER_DIGEST_LEN) != 0) &&
        !IGNORED("lease.policy"))
        return refuse_numbers(j, 9, VERIFIER_E_LEASE_POLICY, "a lease under policy version", lease->policy.version,
                              "the state's policy, version", node->state.policy.version);
    if (lease->epoch < j->revocations.epoch && !IGNORED("lease.epoch"))
        return refuse_numbers(j, 9, VERIFIER_E_LEASE_EPOCH, "a lease of epoch", lease->epoch, "at least",
                              j->revocations.epoch);
    if (lease->issued > j->now + VERIFIER_FUTURE_MAX && !IGNORED("lease.issued"))
        return refuse_numbers(j, 9, VERIFIER_E_FUTURE, "a lease issued at", lease->issued, "at most 5 minutes after",
                              j->now);
    if (life > facts->lease_max && !IGNORED("lease.life"))
        return refuse_numbers(j, 9, VERIFIER_E_LEASE_LIFE, "a lease of seconds", life, "at most", facts->lease_max);
    if (life > j->out->revocation_latency)
        j->out->revocation_latency = life;
    if (IGNORED("lease.expires"))
        return true;
    if (j->now >= lease->expires)
        return refuse_numbers(j, 9, VERIFIER_E_LEASE_EXPIRED, "time", j->now, "before", lease->expires);
    bound(j, lease->expires, "lease");
    return true;
}

static bool check_lease(struct judge *j, const struct verifier_node *node, const struct policy_facts *facts)
{
    struct policy_lease lease;
    if (!node->lease.data)
        return REFUSE(j, 9, VERIFIER_E_NO_LEASE, "no lease", "a live lease by a key server that the policy names");
    struct verifier_signed shell;
    enum verifier_err err = verifier_signed_parse(&shell, node->lease);
    if (err == VERIFIER_OK && !IGNORED("lease.signature"))
        err = verifier_signed_check(&shell, VERIFIER_SIGNED_LEASE, facts->keyd, facts->keyd_count, 1);
    if (err == VERIFIER_OK)
        err = policy_lease_parse(&lease, shell.body);
    if (err != VERIFIER_OK)
        return REFUSE(j, 9, err, "the lease as sent", "a lease signed by a key server that the policy names");
    return check_lease_fields(j, node, &lease, facts);
}

/* When the lease says it was issued; its signature is proven by check_lease() before the verdict is yes. */
static uint64_t lease_issued(const struct verifier_node *node)
{
    struct verifier_signed shell;
    struct policy_lease lease;
    if (!node->lease.data || verifier_signed_parse(&shell, node->lease) != VERIFIER_OK ||
        policy_lease_parse(&lease, shell.body) != VERIFIER_OK)
        return UINT64_MAX;
    return lease.issued;
}

/* keyd is asked before a node has policy or lease, and judges by its own: dates, versions seen and lease are not
 * demanded there. */
static bool stage_9(struct judge *j, const struct verifier_node *node, struct policy_facts *facts)
{
    bool to_keyd = j->claims->verifier == VERIFIER_KEYD;
    struct verifier_policy_part part;
    struct policy_keyset keys;
    if (!node->policy.data || (!node->state.has_policy && !to_keyd))
        return (to_keyd && !node->policy.data) ||
               REFUSE(j, 9, VERIFIER_E_NO_POLICY, "no policy", "the owner's policy in force");
    enum verifier_err err = verifier_policy_part_parse(&part, node->policy);
    if (err != VERIFIER_OK)
        return refuse(j, 9, err);
    if (!check_policy(j, node, &part, &keys, facts))
        return false;
    if (to_keyd)
        return check_revocations(j, node, &keys);
    return check_dates(j, facts) && check_revocations(j, node, &keys) &&
           check_seen(j, facts, keys.version, lease_issued(node)) && check_lease(j, node, facts);
}

/* --- stage 11 ----------------------------------------------------------------------------------- */

static bool lists(const void *list, size_t count, const void *item, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp((const uint8_t *)list + i * len, item, len) == 0)
            return true;
    return false;
}

static const struct policy_rules_program *program_of(const struct judge *j, const struct verifier_node *node)
{
    return node->statement.role == VERIFIER_PROXY ? &j->rules->proxy : &j->rules->engine;
}

/* The evidence's register that a policy calls number `i`; NULL: it has none. */
static const uint8_t *register_of(const struct verifier_hw *hw, unsigned i)
{
    static const unsigned pcr[] = {1, 2, 8};

    if (hw->tee == VERIFIER_TEE_TDX && i < 4)
        return hw->tdx.rtmr[i];
    if (hw->tee == VERIFIER_TEE_NITRO && i < 3 && (hw->nitro.present >> pcr[i] & 1))
        return hw->nitro.pcr[pcr[i]];
    return NULL;
}

/* The first register that is not as the image pins it; 4: all are. MRTD measures the firmware alone, what a TD boots
 * stands in its run-time registers: one that is not pinned must never have been extended, unless the rules let pass
 * what they do not name. */
static unsigned wrong_register(const struct policy_measurement *m, const struct verifier_hw *hw, bool unknown)
{
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *have = register_of(hw, i);
        bool pinned = m->registers >> i & 1;
        if (pinned ? !have || memcmp(m->reg[i], have, sizeof m->reg[i]) != 0
                   : hw->tee == VERIFIER_TEE_TDX && !unknown && !span_is_zero(span_of(have, sizeof m->reg[i])))
            return i;
    }
    return 4;
}

/* Are the pinned registers of a virtual TPM the pinned values? */
static bool has_pcrs(const struct policy_measurement *m, const struct verifier_vtpm *vtpm)
{
    size_t at = 0;
    for (unsigned i = 0; i < VERIFIER_TPM_PCRS && at < POLICY_PCRS_MAX; i++) {
        if (!(m->pcrs >> i & 1))
            continue;
        if (!(vtpm->present >> i & 1) || memcmp(m->pcr[at++], vtpm->pcr[i], sizeof vtpm->pcr[i]) != 0)
            return false;
    }
    return true;
}

/* Under a virtual TPM the hardware measures the provider's software, not the guest: without a pinned register such a
 * row would admit any guest. */
static bool check_measurement(struct judge *j, const struct policy_rules_program *program, const struct verifier_hw *hw)
{
    bool vtpm = hw->tee == VERIFIER_TEE_AZURE || hw->tee == VERIFIER_TEE_GCP;
    unsigned wrong = 4;
    for (size_t i = 0; i < program->count; i++) {
        const struct policy_measurement *m = &program->measurement[i];
        if (m->tee != hw->tee || memcmp(m->digest, hw->measurement, sizeof m->digest) != 0 || vtpm != (m->pcrs != 0) ||
            !has_pcrs(m, &hw->vtpm))
            continue;
        wrong = wrong_register(m, hw, j->rules->unknown_is_report);
        if (wrong == 4)
            return true;
    }
    if (wrong < 4 && hw->tee == VERIFIER_TEE_TDX) {
        char what[] = "an image that is listed, with rtmr?";
        what[sizeof what - 2] = (char)('0' + wrong);
        return refuse_bytes(j, 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED, what, hw->tdx.rtmr[wrong],
                            sizeof hw->tdx.rtmr[wrong], "the value that the image pins, or zero where it pins none");
    }
    return refuse_bytes(j, 11, VERIFIER_E_MEASUREMENT_NOT_ACCEPTED, "measurement", hw->measurement,
                        sizeof hw->measurement, "one that the rules list for this role");
}

static bool is_below(const struct verifier_tcb *tcb, const struct policy_line *least)
{
    return tcb->bootloader < least->bootloader || tcb->tee < least->tee || tcb->snp < least->snp ||
           tcb->microcode < least->microcode || tcb->fmc < least->fmc;
}

/* Which platform row applies, by the hardware's product. NULL: none. */
static const struct policy_line *line_of(const struct policy_hardware *hardware, const struct verifier_hw *hw)
{
    for (size_t i = 0; i < hardware->line_count; i++)
        if (strcmp(hardware->line[i].name, hw->product) == 0)
            return &hardware->line[i];
    return NULL;
}

/* Intel's status of a TDX platform: at worst the row's, without a row up to date only. Statuses beyond the row's words
 * (revoked, out of date and in need of configuration, relaunch advised) are accepted by no rules. */
static bool check_tdx(struct judge *j, const struct verifier_tcb_result *tcb, const struct policy_line *line)
{
    static const char *const names[] = {POLICY_TDX_STATUS_NAMES};
    size_t worst = line ? line->tdx_status : 0;
    size_t rank = (size_t)tcb->status - VERIFIER_TCB_UP_TO_DATE; /* the same order as the names */

    if (tcb->status == VERIFIER_TCB_NONE || tcb->status > VERIFIER_TCB_OUT_OF_DATE || rank > worst)
        return REFUSE(j, 11, VERIFIER_E_TCB_STATUS, verifier_tcb_status_name(tcb->status), names[worst]);
    if (line && tcb->date < line->tdx_date)
        return refuse_numbers(j, 11, VERIFIER_E_TCB_TOO_OLD, "a TCB of date", tcb->date, "one not before",
                              line->tdx_date);
    return true;
}

/* Revocation lists and documents no older than the rules say. The simulation's are made once and never again. */
static bool check_collateral(struct judge *j, const struct verifier_hw *hw)
{
    uint64_t age = j->rules->collateral_age;
    if (age == 0 || hw->simulated || hw->collateral_at == 0 || hw->collateral_at == UINT64_MAX)
        return true;
    if (hw->collateral_at + age <= j->now)
        return refuse_numbers(j, 11, VERIFIER_E_COLLATERAL_TOO_OLD, "collateral of", hw->collateral_at,
                              "at most this many seconds old:", age);
    bound(j, hw->collateral_at + age, "age of collateral");
    return true;
}

/* Accepted by rules that list no platform. */
static bool is_usual_product(const char *product)
{
    return strcmp(product, "Genoa") == 0 || strcmp(product, "Turin") == 0 || strcmp(product, "tdx") == 0;
}

static bool check_platform(struct judge *j, const struct verifier_hw *hw)
{
    const struct policy_hardware *hardware = &j->rules->hardware;
    const struct policy_line *line = line_of(hardware, hw);
    if (!check_collateral(j, hw))
        return false;
    if (hardware->line_count > 0 ? !line : !is_usual_product(hw->product))
        return REFUSE(j, 11, VERIFIER_E_PRODUCT_NOT_ACCEPTED, hw->product, "a processor line that the rules list");
    if (hw->beneath == VERIFIER_TEE_TDX)
        return check_tdx(j, &hw->tdx.tcb, line);
    if (line && hw->beneath == VERIFIER_TEE_SNP &&
        (is_below(&hw->snp.reported, line) || is_below(&hw->snp.committed, line))) {
        const struct verifier_tcb *tcb = &hw->snp.reported;
        verifier_note_observed(&j->out->refusal.note, "%s boot loader %u, TEE %u, SNP %u, microcode %u, FMC %u",
                               hw->product, tcb->bootloader, tcb->tee, tcb->snp, tcb->microcode, tcb->fmc);
        verifier_note_required(&j->out->refusal.note, "at least %u, %u, %u, %u, %u, reported and committed",
                               line->bootloader, line->tee, line->snp, line->microcode, line->fmc);
        return refuse(j, 11, VERIFIER_E_TCB_TOO_OLD);
    }
    return true;
}

/* The id that lists are searched for: zero or absent ids never match. */
static struct span hardware_id(const struct verifier_hw *hw)
{
    struct span id = span_of(NULL, 0);
    if (hw->beneath == VERIFIER_TEE_TDX && hw->has_platform_instance)
        id = span_of(hw->platform_instance, sizeof hw->platform_instance);
    else if (hw->has_chip_id)
        id = span_of(hw->chip_id, sizeof hw->chip_id);
    return span_is_zero(id) ? span_of(NULL, 0) : id;
}

static bool check_fleet(struct judge *j, const struct verifier_node *node, const struct policy_facts *facts,
                        struct span id)
{
    uint8_t keys[2 * POLICY_FLEET_KEYS_MAX][VERIFIER_KEY_LEN];
    size_t count = j->rules->fleet_count;
    struct span body;
    memcpy(keys, j->rules->fleet, sizeof j->rules->fleet);
    if (j->rules->fleet_by_policy) {
        memcpy(keys[count], facts->fleet, facts->fleet_count * VERIFIER_KEY_LEN);
        count += facts->fleet_count;
    }
    enum verifier_err err = verifier_signed_open(&body, node->fleet, VERIFIER_SIGNED_FLEET, keys, count);
    if (err == VERIFIER_OK)
        err = policy_fleet_parse(&j->fleet, body);
    if (err != VERIFIER_OK)
        return REFUSE(j, 11, err, "the fleet file as sent", "one signed by a fleet key of the rules or the policy");
    if (j->now >= j->fleet.expires)
        return refuse_numbers(j, 11, VERIFIER_E_HARDWARE_NOT_ACCEPTED, "a fleet file that expired at", j->fleet.expires,
                              "one that is valid at", j->now);
    const struct policy_fleet_ids *ids =
        node->hw.beneath == VERIFIER_TEE_TDX ? &j->fleet.tdx_instances : &j->fleet.snp_chips;
    if (!policy_fleet_has(ids, id))
        return refuse_bytes(j, 11, VERIFIER_E_HARDWARE_NOT_ACCEPTED, "hardware id", id.data, id.len,
                            "an id that the rules or the fleet file list");
    bound(j, j->fleet.expires, "fleet file");
    return true;
}

static bool check_hardware(struct judge *j, const struct verifier_node *node, const struct policy_facts *facts)
{
    const struct policy_hardware *h = &j->rules->hardware;
    const struct verifier_hw *hw = &node->hw;
    struct span id = hardware_id(hw);
    if ((hw->simulated && j->rules->hardware_any) || IGNORED("hardware"))
        return true;
    if (!id.data)
        return REFUSE(j, 11, VERIFIER_E_HARDWARE_NOT_ACCEPTED, "no hardware id, or a masked one",
                      "an id that the rules or a fleet file list");
    if (hw->beneath == VERIFIER_TEE_TDX ? lists(h->instance, h->instance_count, id.data, 16)
                                        : lists(h->chip, h->chip_count, id.data, 64))
        return true;
    if (node->fleet.data)
        return check_fleet(j, node, facts, id);
    return refuse_bytes(j, 11, VERIFIER_E_HARDWARE_NOT_ACCEPTED, "hardware id", id.data, id.len,
                        "an id that the rules or a fleet file list");
}

/* An empty list accepts what it does not know only where the rules say so. */
static bool lists_text(const char *list, size_t stride, size_t count, const char *text, bool when_empty)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list + i * stride, text) == 0)
            return true;
    return count == 0 && when_empty;
}

/* What the vendor says about the certificates of the device and of its reference files: all, and lately enough. */
static bool check_status(struct judge *j, const struct verifier_device_claims *d)
{
    uint64_t age = j->rules->collateral_age;
    if (!d->status_good && !j->rules->gpus.ocsp_optional && !d->simulated && !IGNORED("gpus.ocsp"))
        return REFUSE(j, 11, VERIFIER_E_OCSP_MISSING, "a device certificate without the vendor's status",
                      "a status of each, or gpus.ocsp = \"optional\"");
    if (!d->rims_good && !j->rules->gpus.rim_ocsp_optional && !d->simulated && !IGNORED("gpus.rim_ocsp"))
        return REFUSE(j, 11, VERIFIER_E_RIM_OCSP_MISSING, "a reference file whose signer has no status of the vendor",
                      "a status of each of its certificates, or gpus.rim_ocsp = \"optional\"");
    if (age == 0 || d->status_at == UINT64_MAX || d->status_at == 0)
        return true;
    if (d->status_at + age <= j->now)
        return refuse_numbers(j, 11, VERIFIER_E_COLLATERAL_TOO_OLD, "certificate status of", d->status_at,
                              "at most this many seconds old:", age);
    bound(j, d->status_at + age, "age of collateral");
    return true;
}

static bool check_device(struct judge *j, const struct verifier_device_claims *d)
{
    const struct policy_gpus *g = &j->rules->gpus;
    bool unknown = j->rules->unknown_is_report;
    if (d->simulated && !j->rules->simulated)
        return REFUSE(j, 11, VERIFIER_E_SIMULATED, "simulated device evidence", "a real accelerator");
    if (d->expires > 0)
        bound(j, d->expires, "device certificate");
    if (!check_status(j, d))
        return false;
    if (d->is_switch)
        return true;
    if (!lists_text(g->driver[0], sizeof g->driver[0], g->driver_count, d->driver, unknown))
        return REFUSE(j, 11, VERIFIER_E_DRIVER_NOT_ALLOWED, d->driver, "a driver that the rules list");
    if (!lists_text(g->vbios[0], sizeof g->vbios[0], g->vbios_count, d->vbios, unknown))
        return REFUSE(j, 11, VERIFIER_E_VBIOS_NOT_ALLOWED, d->vbios, "a VBIOS that the rules list");
    if (!lists_text(g->ueid[0], sizeof g->ueid[0], g->ueid_count, d->ueid, true))
        return REFUSE(j, 11, VERIFIER_E_HARDWARE_NOT_ACCEPTED, d->ueid, "an accelerator that the rules list");
    return true;
}

static bool check_devices(struct judge *j, const struct verifier_node *node)
{
    const struct policy_gpus *g = &j->rules->gpus;
    const struct verifier_state *s = &node->state;
    size_t gpus = 0;
    for (size_t i = 0; i < node->device_count; i++) {
        gpus += !node->devices[i].is_switch;
        if (!check_device(j, &node->devices[i]))
            return false;
    }
    if ((gpus < g->min || gpus > g->max) && !IGNORED("gpus.count"))
        return refuse_numbers(j, 11, VERIFIER_E_DEVICES_NOT_ACCEPTED, "accelerators:", gpus,
                              gpus < g->min ? "at least" : "at most", gpus < g->min ? g->min : g->max);
    if (g->has_switches && node->device_count - gpus != g->switches && !IGNORED("gpus.switches"))
        return refuse_numbers(j, 11, VERIFIER_E_DEVICES_NOT_ACCEPTED, "switches:", node->device_count - gpus, "exactly",
                              g->switches);
    if (gpus > 0 && s->cc != VERIFIER_CC_PPCIE && (s->cc != VERIFIER_CC_ON || (gpus > 1 && g->ppcie)) &&
        !IGNORED("state.cc"))
        return REFUSE(j, 11, VERIFIER_E_CC_NOT_ACCEPTED, verifier_cc_names[s->cc],
                      "mode on, or ppcie for more than one accelerator where the rules say so");
    if (gpus > 0 && j->rules->device_age > 0) {
        if (s->devices.at + j->rules->device_age <= j->now)
            return refuse_numbers(j, 11, VERIFIER_E_DEVICES_OLD, "device evidence of", s->devices.at,
                                  "at most this many seconds old:", j->rules->device_age);
        bound(j, s->devices.at + j->rules->device_age, "device evidence");
    }
    return true;
}

static bool check_software(struct judge *j, const struct verifier_node *node)
{
    const struct verifier_hw *hw = &node->hw;
    if (hw->simulated && !j->rules->simulated && !IGNORED("simulated"))
        return REFUSE(j, 11, VERIFIER_E_SIMULATED, "simulated evidence", "evidence of real hardware");
    j->out->simulated = j->out->simulated || hw->simulated;
    bound(j, hw->expires, "certificate or revocation list");
    if (!lists(j->rules->owner, j->rules->owner_count, node->statement.owner, VERIFIER_DIGEST_LEN) && !IGNORED("owner"))
        return refuse_bytes(j, 11, VERIFIER_E_OWNER_NOT_ACCEPTED, "owner", node->statement.owner, VERIFIER_DIGEST_LEN,
                            "an owner that the rules list");
    return IGNORED("measurement") || check_measurement(j, program_of(j, node), hw);
}

static bool check_serving(struct judge *j, const struct verifier_node *node, const struct policy_facts *facts)
{
    const struct verifier_state *s = &node->state;
    uint32_t stage = program_of(j, node)->stage;
    if (facts->version < j->rules->policy_min && !IGNORED("policy_min") &&
        (j->claims->verifier != VERIFIER_KEYD || facts->version > 0))
        return refuse_numbers(j, 11, VERIFIER_E_POLICY_NOT_ACCEPTED, "policy version", facts->version, "at least",
                              j->rules->policy_min);
    if ((stage & ~s->stage) != 0 && !IGNORED("state.stage"))
        return refuse_numbers(j, 11, VERIFIER_E_STAGE_NOT_ACCEPTED, "sandbox stage", s->stage, "every bit of", stage);
    if (s->has_model && j->rules->model_count > 0 &&
        !lists(j->rules->model, j->rules->model_count, s->model.root, VERIFIER_DIGEST_LEN) &&
        !IGNORED("state.model.root"))
        return refuse_bytes(j, 11, VERIFIER_E_MODEL_NOT_ACCEPTED, "model", s->model.root, VERIFIER_DIGEST_LEN,
                            "a model that the rules list");
    return node->statement.role == VERIFIER_PROXY || check_devices(j, node);
}

static bool stage_11(struct judge *j, const struct verifier_node *node, const struct policy_facts *facts)
{
    return check_software(j, node) && check_platform(j, &node->hw) && check_hardware(j, node, facts) &&
           check_serving(j, node, facts);
}

/* --- all ---------------------------------------------------------------------------------------- */

static bool each_engine_9(struct judge *j)
{
    for (size_t i = 0; i < j->claims->engine_count; i++) {
        j->out->refusal.engine = (int)i;
        if (!stage_9(j, &j->claims->engine[i].node, &j->facts[1 + i])) {
            j->out->refusal.stage = 10;
            j->out->refusal.inner_stage = 9;
            return false;
        }
    }
    j->out->refusal.engine = -1;
    return true;
}

static bool each_engine_11(struct judge *j)
{
    for (size_t i = 0; i < j->claims->engine_count; i++) {
        j->out->refusal.engine = (int)i;
        if (!stage_11(j, &j->claims->engine[i].node, &j->facts[1 + i])) {
            j->out->refusal.inner_stage = 11;
            return false;
        }
    }
    j->out->refusal.engine = -1;
    if (j->claims->engines_asked && j->claims->engine_count == 0)
        return REFUSE(j, 11, VERIFIER_E_NO_ENGINE, "no engine", "at least one engine, as asked");
    return true;
}

static bool run(struct judge *j)
{
    bool ok = stage_9(j, &j->claims->node, &j->facts[0]) && each_engine_9(j) &&
              stage_11(j, &j->claims->node, &j->facts[0]) && each_engine_11(j);
    if (ok && j->rules->evidence_age > 0)
        bound(j, j->now + j->rules->evidence_age, "age of evidence");
    return ok;
}

bool policy_judge(const struct verifier_claims *claims, const struct policy_rules *rules,
                  const struct policy_seen *seen, uint64_t now, struct policy_verdict *out)
{
    struct judge *j = calloc(1, sizeof *j);
    struct policy_seen before = seen ? *seen : (struct policy_seen){0};
    *out = (struct policy_verdict){.refusal = {.code = VERIFIER_E_INTERNAL, .stage = 9, .engine = -1},
                                   .valid_until = VERIFIER_TIME_MAX,
                                   .valid_by = "nothing",
                                   .seen = before};
    if (!j) {
        out->valid_until = 0;
        return false;
    }
    j->claims = claims;
    j->rules = rules;
    j->seen = j->next = before;
    j->now = now;
    j->out = out;
    bool ok = run(j);
    if (ok && out->valid_until <= now) /* what was proven has ended since: the certificates' dates are stage 5's */
        ok = refuse_numbers(j, 11, VERIFIER_E_CERT_EXPIRED, "time", now, "before", out->valid_until);
    if (ok) {
        out->refusal = (struct verifier_refusal){.code = VERIFIER_OK, .engine = -1};
        out->seen = j->next;
    } else {
        out->valid_until = 0;
    }
    free(j);
    return ok;
}
