/* policy_world.h - an owner with keys, a key server, a policy and its papers, made from fixed seeds: what tests of
 * nodes and key servers start from. */
#ifndef TESTS_UNIT_POLICY_WORLD_H
#define TESTS_UNIT_POLICY_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/documents.h"
#include "policy/grant.h"
#include "policy/lease.h"
#include "policy/revocations.h"
#include "verifier/ed25519.h"
#include "verifier/release.h"
#include "verifier/signed.h"

#define WORLD_NOW UINT64_C(1796000000) /* 2026-11-30 */
#define WORLD_MEASUREMENT "ab"         /* 48 times */

struct world {
    uint8_t owner_seed[32], keyd_seed[32], stranger_seed[32];
    uint8_t keyd_public[32], owner[64];
    uint8_t second_seed[32]; /* a second key server, named when `split`: then each holds a share of the weight key */
    bool split;
    uint8_t weight_key[32], key_id[32], root[64];
    struct writer keyset, documents; /* signed key set; policy part */
    struct policy_documents *opened;
    uint32_t version;                   /* of the policy to make next */
    const char *not_before, *not_after; /* of the same */
    uint8_t measurement[48];            /* of proxy and engine */
    const char *requests;               /* the policy's rules for requests; NULL: it has none */
    bool simulated;
};

static inline void world_hex(struct writer *w, struct span s)
{
    char hex[129];
    policy_hex_print(s, hex);
    writer_str(w, hex);
}

static inline void world_policy_text(const struct world *o, struct writer *w)
{
    writer_printf(w, "version = %u; not_before = \"%s\"; not_after = \"%s\"; lease_max = \"4h\";\n", o->version,
                  o->not_before, o->not_after);
    writer_str(w, "keyd = [ \"");
    world_hex(w, span_of(o->keyd_public, 32));
    if (o->split) {
        uint8_t second[32];
        ck_assert(verifier_ed25519_public(o->second_seed, second));
        writer_str(w, "\", \"");
        world_hex(w, span_of(second, 32));
    }
    writer_printf(w, "\" ]; simulated = %s;\nmodels = ( { name = \"m\"; root = \"", o->simulated ? "true" : "false");
    world_hex(w, span_of(o->root, 64));
    writer_str(w, "\"; key_id = \"");
    world_hex(w, span_of(o->key_id, 32));
    writer_printf(w, "\"; %s} );\nprograms = {\n", o->split ? "shares = 2; " : "");
    for (int i = 0; i < 2; i++) {
        writer_printf(w, "%s = { images = ( { tee = \"snp\"; measurement = \"", i ? "engine" : "proxy");
        world_hex(w, span_of(o->measurement, sizeof o->measurement));
        writer_str(w, "\"; } ); sandbox_at_release = [ ]; };\n");
    }
    writer_str(w, "};\nhardware = { platforms = ( { line = \"Genoa\"; } );");
    if (!o->simulated) {
        writer_str(w, " snp_chips = [ \"");
        for (int k = 0; k < 64; k++)
            writer_str(w, "c1");
        writer_str(w, "\" ];");
    }
    writer_str(w, " };\n");
    writer_str(w, o->requests ? o->requests : "");
}

/* (Re)make the papers for the present version. */
static inline void world_sign(struct world *o)
{
    struct writer text = writer_with_max(65536), policy = writer_with_max(65536);
    world_policy_text(o, &text);
    ck_assert(verifier_signed_make(&policy, VERIFIER_SIGNED_POLICY, writer_span(&text), o->owner_seed));
    struct verifier_policy_part part = {.keyset_count = 1, .policy = writer_span(&policy)};
    part.keyset[0] = writer_span(&o->keyset);
    writer_release(&o->documents);
    o->documents = writer_with_max(VERIFIER_PART_MAX);
    verifier_policy_part_encode(&o->documents, &part);
    struct verifier_note note = {0};
    enum verifier_err err = policy_documents_open(o->opened, writer_span(&o->documents), NULL, &note);
    ck_assert_msg(err == VERIFIER_OK, "%s %s", verifier_err_name(err), note.observed);
    writer_release(&text);
    writer_release(&policy);
}

static inline void world_open(struct world *o)
{
    struct policy_keyset set = {.version = 1, .key_count = 1, .m = {1, 1}};
    struct writer body = writer_with_max(4096);
    *o = (struct world){.version = 3, .not_before = "2026-11-01", .not_after = "2027-02-01", .simulated = true};
    memset(o->measurement, 0xab, sizeof o->measurement);
    memset(o->owner_seed, 1, 32);
    memset(o->keyd_seed, 2, 32);
    memset(o->stranger_seed, 3, 32);
    memset(o->second_seed, 9, 32);
    memset(o->weight_key, 4, 32);
    memset(o->root, 5, 64);
    ck_assert(verifier_ed25519_public(o->keyd_seed, o->keyd_public));
    ck_assert(verifier_release_key_id(o->weight_key, o->key_id));
    ck_assert(verifier_ed25519_public(o->owner_seed, set.key[0].public));
    set.key[0].role_count = 2;
    set.key[0].role[0] = POLICY_KEY_SIGNER;
    set.key[0].role[1] = POLICY_KEY_REVOKER;
    policy_keyset_encode(&body, &set);
    verifier_sha512(o->owner, writer_span(&body));
    o->keyset = writer_with_max(65536);
    ck_assert(verifier_signed_make(&o->keyset, VERIFIER_SIGNED_KEYSET, writer_span(&body), o->owner_seed));
    writer_release(&body);
    o->opened = malloc(sizeof *o->opened);
    world_sign(o);
}

static inline void world_close(struct world *o)
{
    writer_release(&o->keyset);
    writer_release(&o->documents);
    free(o->opened);
}

static inline void world_revocations(const struct world *o, uint32_t epoch, const uint8_t seed[32], struct writer *out)
{
    struct policy_revocations *list = calloc(1, sizeof *list);
    struct writer body = writer_with_max(4096);
    list->epoch = epoch;
    list->count = 1;
    list->entry[0] = (struct policy_revocation){POLICY_REVOKED_IDENTITY, span_of(o->weight_key, 32)};
    policy_revocations_encode(&body, list);
    ck_assert(verifier_signed_make(out, VERIFIER_SIGNED_REVOCATIONS, writer_span(&body), seed));
    writer_release(&body);
    free(list);
}

#endif
