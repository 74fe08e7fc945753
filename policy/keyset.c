#include "policy/keyset.h"

#include "verifier/base/field.h"

static const char *const role_names[POLICY_KEY_ROLES] = {"signer", "revoker"};

static void read_key(struct reader *r, struct policy_keyset_key *out)
{
    reader_map(r, 2);
    field_read_fixed(r, "public", out->public, sizeof out->public);
    out->role_count = field_read_list(r, "roles", 1, POLICY_KEY_ROLES);
    for (size_t i = 0; i < out->role_count; i++)
        out->role[i] = (enum policy_key_role)reader_choice(r, role_names, POLICY_KEY_ROLES);
    if (out->role_count == 2 && out->role[0] == out->role[1])
        reader_fail(r, READER_DUPLICATE);
}

/* What holds between the fields of one set. */
static void check_whole(struct reader *r, const struct policy_keyset *set)
{
    uint8_t keys[POLICY_KEYSET_KEYS_MAX][VERIFIER_KEY_LEN];
    if (r->err != READER_OK)
        return;
    if (set->m[POLICY_KEY_SIGNER] > policy_keyset_keys(set, POLICY_KEY_SIGNER, keys) ||
        set->m[POLICY_KEY_REVOKER] > policy_keyset_keys(set, POLICY_KEY_REVOKER, keys) ||
        set->has_previous != (set->version > 1))
        reader_fail(r, READER_VALUE);
}

enum verifier_err policy_keyset_parse(struct policy_keyset *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct policy_keyset){0};
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 5);
    field_read_v(&r);
    out->version = (uint32_t)field_read_uint(&r, "version", 1, UINT32_MAX);
    out->key_count = field_read_list(&r, "keys", 1, POLICY_KEYSET_KEYS_MAX);
    for (size_t i = 0; i < out->key_count; i++) {
        read_key(&r, &out->key[i]);
        for (size_t j = 0; j < i && r.err == READER_OK; j++)
            if (memcmp(out->key[j].public, out->key[i].public, VERIFIER_KEY_LEN) == 0)
                reader_fail(&r, READER_DUPLICATE);
    }
    field_read_map(&r, "m", POLICY_KEY_ROLES);
    for (size_t i = 0; i < POLICY_KEY_ROLES; i++)
        out->m[i] = (unsigned)field_read_uint(&r, role_names[i], 1, POLICY_KEYSET_KEYS_MAX);
    reader_key(&r, "previous");
    out->has_previous = !reader_nil(&r);
    if (out->has_previous)
        reader_bin_copy(&r, out->previous, sizeof out->previous);
    check_whole(&r, out);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void policy_keyset_encode(struct writer *w, const struct policy_keyset *in)
{
    writer_map(w, 5);
    field_write_v(w);
    field_write_uint(w, "version", in->version);
    field_write_list(w, "keys", in->key_count);
    for (size_t i = 0; i < in->key_count; i++) {
        writer_map(w, 2);
        field_write_fixed(w, "public", in->key[i].public, VERIFIER_KEY_LEN);
        field_write_list(w, "roles", in->key[i].role_count);
        for (size_t j = 0; j < in->key[i].role_count; j++)
            writer_text(w, span_str(role_names[in->key[i].role[j]]));
    }
    field_write_map(w, "m", POLICY_KEY_ROLES);
    for (size_t i = 0; i < POLICY_KEY_ROLES; i++)
        field_write_uint(w, role_names[i], in->m[i]);
    if (in->has_previous)
        field_write_fixed(w, "previous", in->previous, sizeof in->previous);
    else
        field_write_nil(w, "previous");
}

static bool has_role(const struct policy_keyset_key *key, enum policy_key_role role)
{
    for (size_t i = 0; i < key->role_count; i++)
        if (key->role[i] == role)
            return true;
    return false;
}

size_t policy_keyset_keys(const struct policy_keyset *set, enum policy_key_role role,
                          uint8_t out[POLICY_KEYSET_KEYS_MAX][VERIFIER_KEY_LEN])
{
    size_t count = 0;
    for (size_t i = 0; i < set->key_count; i++)
        if (has_role(&set->key[i], role))
            memcpy(out[count++], set->key[i].public, VERIFIER_KEY_LEN);
    return count;
}

enum verifier_err policy_keyset_check(const struct policy_keyset *set, enum policy_key_role role,
                                      const struct verifier_signed *obj, enum verifier_signed_type type)
{
    uint8_t keys[POLICY_KEYSET_KEYS_MAX][VERIFIER_KEY_LEN];
    size_t count = policy_keyset_keys(set, role, keys);
    return verifier_signed_check(obj, type, keys, count, set->m[role]);
}

/* How many of the object's signers are signers of `set`. */
static unsigned signers_of(const struct policy_keyset *set, const struct verifier_signed *obj)
{
    unsigned count = 0;
    for (size_t i = 0; i < obj->sig_count; i++)
        for (size_t j = 0; j < set->key_count; j++)
            if (has_role(&set->key[j], POLICY_KEY_SIGNER) &&
                memcmp(set->key[j].public, obj->sigs[i].key, VERIFIER_KEY_LEN) == 0)
                count++;
    return count;
}

/* Signed by m of `before` and by m of `set`, and by nobody else. */
static enum verifier_err check_signers(const struct policy_keyset *before, const struct policy_keyset *set,
                                       const struct verifier_signed *obj)
{
    uint8_t keys[2 * POLICY_KEYSET_KEYS_MAX][VERIFIER_KEY_LEN];
    size_t count = policy_keyset_keys(before, POLICY_KEY_SIGNER, keys);
    count += policy_keyset_keys(set, POLICY_KEY_SIGNER, keys + count);
    enum verifier_err err = verifier_signed_check(obj, VERIFIER_SIGNED_KEYSET, keys, count, 1);
    if (err == VERIFIER_OK &&
        (signers_of(before, obj) < before->m[POLICY_KEY_SIGNER] || signers_of(set, obj) < set->m[POLICY_KEY_SIGNER]))
        err = VERIFIER_E_SIGNED_COUNT;
    return err;
}

static enum verifier_err open_keyset(struct span object, struct verifier_signed *obj, struct policy_keyset *set)
{
    enum verifier_err err = verifier_signed_parse(obj, object);
    if (err == VERIFIER_OK && obj->type != VERIFIER_SIGNED_KEYSET)
        err = VERIFIER_E_SIGNED_TYPE;
    if (err == VERIFIER_OK)
        err = policy_keyset_parse(set, obj->body);
    return err;
}

enum verifier_err policy_keysets_check(const struct span *objects, size_t count,
                                       const uint8_t first[VERIFIER_DIGEST_LEN], struct policy_keyset *newest)
{
    struct policy_keyset before = {0};
    uint8_t digest[VERIFIER_DIGEST_LEN], before_digest[VERIFIER_DIGEST_LEN];
    if (count == 0)
        return VERIFIER_E_KEYSET_CHAIN;
    for (size_t i = 0; i < count; i++) {
        struct verifier_signed obj;
        enum verifier_err err = open_keyset(objects[i], &obj, newest);
        if (err != VERIFIER_OK)
            return err;
        verifier_sha512(digest, obj.body);
        if (i == 0) {
            if (memcmp(digest, first, sizeof digest) != 0)
                return VERIFIER_E_OWNER_MISMATCH;
            if (newest->version != 1)
                return VERIFIER_E_KEYSET_CHAIN;
            before = *newest;
        } else if (newest->version != before.version + 1 ||
                   memcmp(newest->previous, before_digest, sizeof before_digest) != 0) {
            return VERIFIER_E_KEYSET_CHAIN;
        }
        err = check_signers(&before, newest, &obj);
        if (err != VERIFIER_OK)
            return err;
        before = *newest;
        memcpy(before_digest, digest, sizeof digest);
    }
    return VERIFIER_OK;
}
