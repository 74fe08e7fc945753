#include "vectors/objects.h"

#include <stdlib.h>

#include "policy/fleet.h"
#include "policy/grant.h"
#include "policy/keyset.h"
#include "policy/lease.h"
#include "policy/revocations.h"
#include "verifier/challenge.h"
#include "verifier/envelope.h"
#include "verifier/receipt.h"
#include "verifier/sealed.h"
#include "verifier/signed.h"
#include "verifier/state.h"
#include "verifier/statement.h"
#include "verifier/verdict.h"

/* --- hex ---------------------------------------------------------------------------------------- */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

uint8_t *objects_unhex(const json_t *hex, size_t *len)
{
    size_t digits = json_string_length(hex);
    const char *s = json_string_value(hex);
    uint8_t *out = malloc(digits / 2 + 1);
    *len = SIZE_MAX;
    if (!s || !out || digits % 2 != 0)
        return out;
    for (size_t i = 0; i < digits / 2; i++) {
        int high = digit(s[2 * i]), low = digit(s[2 * i + 1]);
        if (high < 0 || low < 0)
            return out;
        out[i] = (uint8_t)(high << 4 | low);
    }
    *len = digits / 2;
    return out;
}

bool objects_unhex_fixed(const json_t *hex, void *out, size_t len)
{
    size_t got;
    uint8_t *bytes = objects_unhex(hex, &got);
    if (bytes && got == len)
        memcpy(out, bytes, len);
    free(bytes);
    return got == len;
}

json_t *objects_hex(struct span bytes)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(2 * bytes.len + 1);
    if (!text)
        abort();
    for (size_t i = 0; i < bytes.len; i++) {
        text[2 * i] = digits[bytes.data[i] >> 4];
        text[2 * i + 1] = digits[bytes.data[i] & 15];
    }
    json_t *out = json_stringn(text, 2 * bytes.len);
    free(text);
    return out;
}

static struct kept {
    struct kept *next;
    uint8_t *bytes;
} * all_kept;

struct span objects_bytes(const json_t *hex)
{
    size_t len;
    struct kept *k = malloc(sizeof *k);
    if (!k)
        abort();
    *k = (struct kept){.next = all_kept, .bytes = objects_unhex(hex, &len)};
    all_kept = k;
    return len == SIZE_MAX ? span_of(NULL, 0) : span_of(k->bytes, len);
}

void objects_release(void)
{
    for (struct kept *k = all_kept, *next; k; k = next) {
        next = k->next;
        free(k->bytes);
        free(k);
    }
    all_kept = NULL;
}

/* --- values --------------------------------------------------------------------------------------- */

#define HEX(array) objects_hex(span_of(array, sizeof(array)))

static json_t *text(struct span s)
{
    return s.data ? json_stringn((const char *)s.data, s.len) : json_null();
}

static json_t *bin_or_null(struct span s)
{
    return s.data ? objects_hex(s) : json_null();
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *bins(const struct span *list, size_t count)
{
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(out, objects_hex(list[i]));
    return out;
}

static json_t *ref(const struct verifier_policy_ref *p)
{
    return json_pack("{soso}", "digest", HEX(p->digest), "version", number(p->version));
}

static json_t *role(enum verifier_role r)
{
    return json_string(verifier_role_names[r]);
}

static json_t *challenge(const struct verifier_challenge *c)
{
    json_t *have = json_array(), *engines = json_null();
    for (size_t i = 0; i < c->have_count; i++)
        json_array_append_new(have, HEX(c->have[i]));
    if (c->engines_max > 0)
        engines = json_pack("{soso}", "model", text(c->model), "max", number(c->engines_max));
    return json_pack("{si so so so so so}", "v", 1, "verifier", role(c->verifier), "attester", role(c->attester),
                     "nonce", HEX(c->nonce), "engines", engines, "have", have);
}

static json_t *statement(const struct verifier_statement *s)
{
    return json_pack("{si so so so so so so so so}", "v", 1, "role", role(s->role), "program", text(s->program),
                     "version", text(s->version), "config", HEX(s->config), "owner", HEX(s->owner), "identity",
                     HEX(s->identity), "release", HEX(s->release), "kernels", text(s->kernels));
}

static json_t *state(const struct verifier_state *s)
{
    json_t *model = s->has_model
                        ? json_pack("{soso}", "root", HEX(s->model.root), "load_options", text(s->model.load_options))
                        : json_null();
    json_t *seal =
        s->has_seal ? json_pack("{soso}", "public", HEX(s->seal.public), "epoch", number(s->seal.epoch)) : json_null();
    json_t *serves = s->has_serves ? json_pack("{soso}", "count", number(s->serves.count), "root", HEX(s->serves.root))
                                   : json_null();
    json_t *devices = s->has_devices ? json_pack("{so so so so so}", "count", number(s->devices.count), "digest",
                                                 HEX(s->devices.digest), "tree_size", number(s->devices.tree_size),
                                                 "tree_root", HEX(s->devices.tree_root), "at", number(s->devices.at))
                                     : json_null();
    return json_pack("{si so ss so so so so so so}", "v", 1, "stage", number(s->stage), "cc", verifier_cc_names[s->cc],
                     "policy", s->has_policy ? ref(&s->policy) : json_null(), "model", model, "seal", seal, "serves",
                     serves, "devices", devices, "at", number(s->at));
}

static json_t *keyset(const struct policy_keyset *k)
{
    static const char *const roles[] = {"signer", "revoker"};
    json_t *keys = json_array();
    for (size_t i = 0; i < k->key_count; i++) {
        json_t *held = json_array();
        for (size_t j = 0; j < k->key[i].role_count; j++)
            json_array_append_new(held, json_string(roles[k->key[i].role[j]]));
        json_array_append_new(keys, json_pack("{soso}", "public", HEX(k->key[i].public), "roles", held));
    }
    return json_pack("{si so so s{sisi} so}", "v", 1, "version", number(k->version), "keys", keys, "m", "signer",
                     (int)k->m[0], "revoker", (int)k->m[1], "previous",
                     k->has_previous ? HEX(k->previous) : json_null());
}

static json_t *revocations(const struct policy_revocations *r)
{
    json_t *entries = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(entries, json_pack("{ssso}", "kind", policy_revocation_names[r->entry[i].kind], "value",
                                                 objects_hex(r->entry[i].value)));
    return json_pack("{si so so}", "v", 1, "epoch", number(r->epoch), "entries", entries);
}

static json_t *fleet(const struct policy_fleet *f)
{
    json_t *gpus = json_array();
    for (size_t i = 0; i < f->gpus.count; i++)
        json_array_append_new(gpus, text(f->gpus.id[i]));
    return json_pack("{so so so so so}", "version", number(f->version), "expires", number(f->expires), "snp_chip_ids",
                     bins(f->snp_chips.id, f->snp_chips.count), "tdx_platform_instances",
                     bins(f->tdx_instances.id, f->tdx_instances.count), "gpu_ueids", gpus);
}

static json_t *lease(const struct policy_lease *l)
{
    return json_pack("{si so so so so so so}", "v", 1, "identity", HEX(l->identity), "role", role(l->role), "policy",
                     ref(&l->policy), "epoch", number(l->epoch), "issued", number(l->issued), "expires",
                     number(l->expires));
}

static json_t *grant(const struct policy_grant *g)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < g->key_count; i++)
        json_array_append_new(keys, json_pack("{so so so so}", "artefact_root", HEX(g->keys[i].artefact_root), "key_id",
                                              HEX(g->keys[i].key_id), "enc", HEX(g->keys[i].enc), "sealed",
                                              HEX(g->keys[i].sealed)));
    return json_pack("{si so so so so so so so so so}", "v", 1, "nonce", HEX(g->nonce), "identity", HEX(g->identity),
                     "statement", HEX(g->statement), "policy", objects_hex(g->policy), "revocations",
                     bin_or_null(g->revocations), "tenants_version",
                     g->tenants_version ? number(g->tenants_version) : json_null(), "issued", number(g->issued),
                     "lease", objects_hex(g->lease), "keys", keys);
}

static json_t *head(const struct verifier_sealed_head *h)
{
    return json_pack("{si so so so so so so sb}", "v", 1, "engine", HEX(h->engine), "epoch", number(h->epoch),
                     "request", HEX(h->request), "endpoint", text(h->endpoint), "model", text(h->model), "max_tokens",
                     number(h->max_tokens), "stream", h->stream);
}

static json_t *receipt(const struct verifier_receipt *r)
{
    return json_pack("{si ss so so so so so so s{soso} so so so so so so}", "v", 1, "mode",
                     r->mode == VERIFIER_MODE_SEALED ? "sealed" : "plain", "request", HEX(r->request), "response",
                     HEX(r->response), "artefact_root", HEX(r->artefact_root), "policy", HEX(r->policy), "sampling",
                     text(r->sampling), "seed", number(r->seed), "tokens", "prompt", number(r->prompt_tokens),
                     "completion", number(r->completion_tokens), "kernels", text(r->kernels), "statement",
                     HEX(r->statement), "state", HEX(r->state), "at", number(r->at), "log_index", number(r->log_index),
                     "previous", HEX(r->previous));
}

static json_t *verdict(const struct verifier_verdict *v)
{
    return json_pack("{soso}", "code", text(v->code), "valid_until",
                     v->valid_until ? number(v->valid_until) : json_null());
}

static json_t *certs(const struct verifier_certs *c)
{
    return bins(c->cert, c->count);
}

static json_t *collateral(const struct verifier_collateral *c)
{
    return json_pack("{so so so so so so so}", "crls", bins(c->crls, c->crl_count), "tcb_info",
                     bin_or_null(c->tcb_info), "tcb_chain", bins(c->tcb_chain, c->tcb_chain_count), "qe_identity",
                     bin_or_null(c->qe_identity), "qe_chain", bins(c->qe_chain, c->qe_chain_count), "ocsp",
                     bins(c->ocsp, c->ocsp_count), "rims", bins(c->rims, c->rim_count));
}

static json_t *signed_object(const struct verifier_signed *s)
{
    json_t *sigs = json_array();
    for (size_t i = 0; i < s->sig_count; i++)
        json_array_append_new(sigs, json_pack("{soso}", "key", HEX(s->sigs[i].key), "sig", HEX(s->sigs[i].sig)));
    return json_pack("{si ss so so}", "v", 1, "type", verifier_signed_names[s->type], "body", objects_hex(s->body),
                     "sigs", sigs);
}

static json_t *part(const struct verifier_part *p)
{
    switch (p->form) {
    case VERIFIER_PART_BYTES:
        return json_pack("{so}", "bytes", objects_hex(p->bytes));
    case VERIFIER_PART_DIGEST:
        return json_pack("{so}", "digest", HEX(p->digest));
    default:
        return json_null();
    }
}

static json_t *path(const struct verifier_place *p)
{
    json_t *out = json_array();
    for (size_t i = 0; i < p->path_len; i++)
        json_array_append_new(out, HEX(p->path[i]));
    return out;
}

static json_t *envelope_lists(const struct verifier_envelope *e, json_t **engines)
{
    json_t *devices = e->device_count ? json_array() : json_null();
    for (size_t i = 0; i < e->device_count; i++)
        json_array_append_new(devices, json_pack("{soso}", "report", objects_hex(e->devices[i].report), "chain",
                                                 part(&e->devices[i].chain)));
    *engines = e->has_engines ? json_array() : json_null();
    for (size_t i = 0; i < e->engine_count; i++)
        json_array_append_new(
            *engines, json_pack("{so so so so so so so}", "challenge", objects_hex(e->engines[i].challenge), "spki",
                                objects_hex(e->engines[i].spki), "exporter", HEX(e->engines[i].exporter), "checked_at",
                                number(e->engines[i].checked_at), "index", number(e->engines[i].place.index), "path",
                                path(&e->engines[i].place), "envelope", objects_hex(e->engines[i].envelope)));
    return devices;
}

static json_t *envelope(const struct verifier_envelope *e)
{
    json_t *engines, *devices = envelope_lists(e, &engines);
    return json_pack("{si ss so so so so so s{so so so} so so so so so so so so}", "v", 1, "tee",
                     verifier_tee_names[e->tee], "quote", objects_hex(e->quote), "chain", part(&e->chain), "collateral",
                     part(&e->collateral), "statement", objects_hex(e->statement), "state", objects_hex(e->state),
                     "tree", "size", number(e->tree_size), "index", number(e->place.index), "path", path(&e->place),
                     "devices", devices, "event_log", part(&e->event_log), "config", objects_hex(e->config), "policy",
                     part(&e->policy), "revocations", bin_or_null(e->revocations), "fleet", bin_or_null(e->fleet),
                     "lease", bin_or_null(e->lease), "engines", engines);
}

static json_t *policy_part(const struct verifier_policy_part *p)
{
    json_t *out = bins(p->keyset, p->keyset_count);
    json_array_append_new(out, objects_hex(p->policy));
    return out;
}

static json_t *status(const struct verifier_sealed_status *s)
{
    return json_pack("{soso}", "status", number(s->status), "type", text(s->type));
}

/* --- by name -------------------------------------------------------------------------------------- */

/* One row: how to parse, encode and show an object. */
#define ROW(fn, type, parse, encode, show)                                                                             \
    static enum verifier_err fn(struct span bytes, json_t **value, struct writer *again)                               \
    {                                                                                                                  \
        type *o = calloc(1, sizeof *o);                                                                                \
        if (!o)                                                                                                        \
            abort();                                                                                                   \
        enum verifier_err err = parse(o, bytes);                                                                       \
        if (err == VERIFIER_OK && value)                                                                               \
            *value = show(o);                                                                                          \
        if (err == VERIFIER_OK && again)                                                                               \
            encode(again, o);                                                                                          \
        free(o);                                                                                                       \
        return err;                                                                                                    \
    }

ROW(read_challenge, struct verifier_challenge, verifier_challenge_parse, verifier_challenge_encode, challenge)
ROW(read_statement, struct verifier_statement, verifier_statement_parse, verifier_statement_encode, statement)
ROW(read_state, struct verifier_state, verifier_state_parse, verifier_state_encode, state)
ROW(read_keyset, struct policy_keyset, policy_keyset_parse, policy_keyset_encode, keyset)
ROW(read_revocations, struct policy_revocations, policy_revocations_parse, policy_revocations_encode, revocations)
ROW(read_fleet, struct policy_fleet, policy_fleet_parse, policy_fleet_encode, fleet)
ROW(read_lease, struct policy_lease, policy_lease_parse, policy_lease_encode, lease)
ROW(read_grant, struct policy_grant, policy_grant_parse, policy_grant_encode, grant)
ROW(read_head, struct verifier_sealed_head, verifier_sealed_head_parse, verifier_sealed_head_encode, head)
ROW(read_receipt, struct verifier_receipt, verifier_receipt_parse, verifier_receipt_encode, receipt)
ROW(read_verdict, struct verifier_verdict, verifier_verdict_parse, verifier_verdict_encode, verdict)
ROW(read_certs, struct verifier_certs, verifier_certs_parse, verifier_certs_encode, certs)
ROW(read_collateral, struct verifier_collateral, verifier_collateral_parse, verifier_collateral_encode, collateral)
ROW(read_signed, struct verifier_signed, verifier_signed_parse, verifier_signed_encode, signed_object)
ROW(read_envelope, struct verifier_envelope, verifier_envelope_parse, verifier_envelope_encode, envelope)
ROW(read_policy_part, struct verifier_policy_part, verifier_policy_part_parse, verifier_policy_part_encode, policy_part)
ROW(read_status, struct verifier_sealed_status, verifier_sealed_status_parse, verifier_sealed_status_encode, status)

static const struct {
    const char *name;
    enum verifier_err (*read)(struct span bytes, json_t **value, struct writer *again);
} rows[] = {
    {"challenge", read_challenge},
    {"statement", read_statement},
    {"state", read_state},
    {"keyset", read_keyset},
    {"revocations", read_revocations},
    {"fleet", read_fleet},
    {"lease", read_lease},
    {"grant", read_grant},
    {"head", read_head},
    {"receipt", read_receipt},
    {"verdict", read_verdict},
    {"chain", read_certs},
    {"collateral", read_collateral},
    {"signed", read_signed},
    {"envelope", read_envelope},
    {"policy_part", read_policy_part},
    {"status", read_status},
};

enum verifier_err objects_read(const char *object, struct span bytes, json_t **value, struct writer *again)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, object) == 0)
            return rows[i].read(bytes, value, again);
    return VERIFIER_E_INTERNAL;
}
