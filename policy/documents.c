/* documents.c - open the owner's papers: key sets, then policy. */
#include "policy/documents.h"

#include <stdlib.h>

#include "verifier/signed.h"

static enum verifier_err owner_of(struct span first_keyset, uint8_t owner[VERIFIER_DIGEST_LEN])
{
    struct verifier_signed s;
    enum verifier_err err = verifier_signed_parse(&s, first_keyset);
    if (err == VERIFIER_OK)
        verifier_sha512(owner, s.body);
    return err;
}

static enum verifier_err open_policy(struct policy_documents *out, struct span object, struct verifier_note *note)
{
    struct verifier_signed s;
    struct policy_problem why = {0};
    enum verifier_err err = verifier_signed_parse(&s, object);
    if (err == VERIFIER_OK)
        err = policy_keyset_check(&out->keyset, POLICY_KEY_SIGNER, &s, VERIFIER_SIGNED_POLICY);
    if (err != VERIFIER_OK)
        return err;
    verifier_sha512(out->digest, s.body);
    if (policy_parse(s.body, &out->policy, &why))
        return VERIFIER_OK;
    verifier_note_observed(note, "line %d: %s: %s", why.line, why.path, why.text);
    return VERIFIER_E_POLICY_TEXT;
}

enum verifier_err policy_documents_open(struct policy_documents *out, struct span part, const uint8_t *owner,
                                        struct verifier_note *note)
{
    struct verifier_policy_part p;
    enum verifier_err err = verifier_policy_part_parse(&p, part);
    memset(out, 0, sizeof *out);
    if (err == VERIFIER_OK)
        err = owner_of(p.keyset[0], out->owner);
    if (err == VERIFIER_OK)
        err = policy_keysets_check(p.keyset, p.keyset_count, owner ? owner : out->owner, &out->keyset);
    if (err == VERIFIER_OK)
        err = open_policy(out, p.policy, note);
    if (err != VERIFIER_OK)
        memset(out, 0, sizeof *out);
    return err;
}

enum verifier_err policy_documents_revocations(const struct policy_documents *d, struct span signed_list,
                                               uint32_t *epoch)
{
    struct verifier_signed s;
    struct policy_revocations *list = malloc(sizeof *list);
    enum verifier_err err = list ? verifier_signed_parse(&s, signed_list) : VERIFIER_E_INTERNAL;
    if (err == VERIFIER_OK)
        err = policy_keyset_check(&d->keyset, POLICY_KEY_REVOKER, &s, VERIFIER_SIGNED_REVOCATIONS);
    if (err == VERIFIER_OK)
        err = policy_revocations_parse(list, s.body);
    if (err == VERIFIER_OK)
        *epoch = list->epoch;
    free(list);
    return err;
}
