#include "policy/lease.h"

#include "verifier/base/field.h"

enum verifier_err policy_lease_parse(struct policy_lease *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct policy_lease){0};
    if (in.len > VERIFIER_LEASE_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 7);
    field_read_v(&r);
    field_read_fixed(&r, "identity", out->identity, sizeof out->identity);
    out->role =
        VERIFIER_PROXY + (enum verifier_role)field_read_choice(&r, "role", &verifier_role_names[VERIFIER_PROXY], 2);
    verifier_policy_ref_read(&r, "policy", &out->policy);
    out->epoch = (uint32_t)field_read_uint(&r, "epoch", 0, UINT32_MAX);
    out->issued = field_read_uint(&r, "issued", 1, VERIFIER_TIME_MAX);
    out->expires = field_read_uint(&r, "expires", 1, VERIFIER_TIME_MAX);
    if (r.err == READER_OK && out->expires <= out->issued)
        reader_fail(&r, READER_VALUE);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void policy_lease_encode(struct writer *w, const struct policy_lease *in)
{
    writer_map(w, 7);
    field_write_v(w);
    field_write_fixed(w, "identity", in->identity, sizeof in->identity);
    field_write_choice(w, "role", verifier_role_names[in->role]);
    verifier_policy_ref_write(w, "policy", &in->policy);
    field_write_uint(w, "epoch", in->epoch);
    field_write_uint(w, "issued", in->issued);
    field_write_uint(w, "expires", in->expires);
}
