#include "verifier/statement.h"

#include "verifier/base/field.h"

enum verifier_err verifier_statement_parse(struct verifier_statement *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_statement){0};
    if (in.len > VERIFIER_STATEMENT_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 9);
    field_read_v(&r);
    out->role =
        VERIFIER_PROXY + (enum verifier_role)field_read_choice(&r, "role", &verifier_role_names[VERIFIER_PROXY], 2);
    out->program = field_read_text(&r, "program", 1, 64);
    out->version = field_read_text(&r, "version", 1, 64);
    field_read_fixed(&r, "config", out->config, sizeof out->config);
    field_read_fixed(&r, "owner", out->owner, sizeof out->owner);
    field_read_fixed(&r, "identity", out->identity, sizeof out->identity);
    field_read_fixed(&r, "release", out->release, sizeof out->release);
    reader_key(&r, "kernels");
    if (!reader_nil(&r))
        out->kernels = reader_text(&r, 1, 64);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_statement_encode(struct writer *w, const struct verifier_statement *in)
{
    writer_map(w, 9);
    field_write_v(w);
    field_write_choice(w, "role", verifier_role_names[in->role]);
    field_write_text(w, "program", in->program);
    field_write_text(w, "version", in->version);
    field_write_fixed(w, "config", in->config, sizeof in->config);
    field_write_fixed(w, "owner", in->owner, sizeof in->owner);
    field_write_fixed(w, "identity", in->identity, sizeof in->identity);
    field_write_fixed(w, "release", in->release, sizeof in->release);
    if (in->kernels.data)
        field_write_text(w, "kernels", in->kernels);
    else
        field_write_nil(w, "kernels");
}
