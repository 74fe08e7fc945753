#include "policy/grant.h"

#include "verifier/base/field.h"

enum verifier_err policy_grant_parse(struct policy_grant *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct policy_grant){0};
    if (in.len > VERIFIER_GRANT_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 10);
    field_read_v(&r);
    field_read_fixed(&r, "nonce", out->nonce, sizeof out->nonce);
    field_read_fixed(&r, "identity", out->identity, sizeof out->identity);
    field_read_fixed(&r, "statement", out->statement, sizeof out->statement);
    out->policy = field_read_bin(&r, "policy", 1, VERIFIER_PART_MAX);
    out->revocations = field_read_bin_or_nil(&r, "revocations", VERIFIER_PART_MAX);
    reader_key(&r, "tenants_version");
    if (!reader_nil(&r))
        out->tenants_version = (uint32_t)reader_uint(&r, 1, UINT32_MAX);
    out->issued = field_read_uint(&r, "issued", 1, VERIFIER_TIME_MAX);
    out->lease = field_read_bin(&r, "lease", 1, VERIFIER_LEASE_MAX);
    out->key_count = field_read_list(&r, "keys", 0, POLICY_GRANT_KEYS_MAX);
    for (size_t i = 0; i < out->key_count; i++) {
        struct policy_grant_key *key = &out->keys[i];
        reader_map(&r, 4);
        field_read_fixed(&r, "artefact_root", key->artefact_root, sizeof key->artefact_root);
        field_read_fixed(&r, "key_id", key->key_id, sizeof key->key_id);
        field_read_fixed(&r, "enc", key->enc, sizeof key->enc);
        field_read_fixed(&r, "sealed", key->sealed, sizeof key->sealed);
        for (size_t j = 0; j < i && r.err == READER_OK; j++)
            if (memcmp(out->keys[j].artefact_root, key->artefact_root, VERIFIER_DIGEST_LEN) == 0)
                reader_fail(&r, READER_DUPLICATE);
    }
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void policy_grant_encode(struct writer *w, const struct policy_grant *in)
{
    writer_map(w, 10);
    field_write_v(w);
    field_write_fixed(w, "nonce", in->nonce, sizeof in->nonce);
    field_write_fixed(w, "identity", in->identity, sizeof in->identity);
    field_write_fixed(w, "statement", in->statement, sizeof in->statement);
    field_write_bin(w, "policy", in->policy);
    field_write_bin_or_nil(w, "revocations", in->revocations);
    if (in->tenants_version > 0)
        field_write_uint(w, "tenants_version", in->tenants_version);
    else
        field_write_nil(w, "tenants_version");
    field_write_uint(w, "issued", in->issued);
    field_write_bin(w, "lease", in->lease);
    field_write_list(w, "keys", in->key_count);
    for (size_t i = 0; i < in->key_count; i++) {
        writer_map(w, 4);
        field_write_fixed(w, "artefact_root", in->keys[i].artefact_root, VERIFIER_DIGEST_LEN);
        field_write_fixed(w, "key_id", in->keys[i].key_id, VERIFIER_KEY_LEN);
        field_write_fixed(w, "enc", in->keys[i].enc, VERIFIER_KEY_LEN);
        field_write_fixed(w, "sealed", in->keys[i].sealed, POLICY_GRANT_SEALED_LEN);
    }
}
