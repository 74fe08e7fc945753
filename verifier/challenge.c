#include "verifier/challenge.h"

#include "verifier/base/field.h"

bool verifier_pair_is_known(enum verifier_role verifier, enum verifier_role attester)
{
    switch (verifier) {
    case VERIFIER_CLIENT:
    case VERIFIER_ENGINE:
    case VERIFIER_KEYD:
        return attester == VERIFIER_PROXY || attester == VERIFIER_ENGINE;
    case VERIFIER_PROXY:
        return attester == VERIFIER_ENGINE;
    default:
        return false;
    }
}

static void read_engines(struct reader *r, struct verifier_challenge *out)
{
    if (!field_read_map_or_nil(r, "engines", 2))
        return;
    reader_key(r, "model");
    out->model = reader_nil(r) ? span_of(NULL, 0) : reader_text(r, 1, 256);
    out->engines_max = (unsigned)field_read_uint(r, "max", 1, VERIFIER_ENGINES_MAX);
    if (r->err == READER_OK && (out->verifier != VERIFIER_CLIENT || out->attester != VERIFIER_PROXY))
        reader_fail(r, READER_VALUE);
}

enum verifier_err verifier_challenge_parse(struct verifier_challenge *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_challenge){0};
    if (in.len > VERIFIER_CHALLENGE_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 6);
    field_read_v(&r);
    out->verifier = (enum verifier_role)field_read_choice(&r, "verifier", verifier_role_names, VERIFIER_ROLES);
    out->attester = (enum verifier_role)field_read_choice(&r, "attester", verifier_role_names, VERIFIER_ROLES);
    if (r.err == READER_OK && !verifier_pair_is_known(out->verifier, out->attester))
        reader_fail(&r, READER_VALUE);
    field_read_fixed(&r, "nonce", out->nonce, sizeof out->nonce);
    read_engines(&r, out);
    out->have_count = field_read_list(&r, "have", 0, VERIFIER_HAVE_MAX);
    for (size_t i = 0; i < out->have_count; i++) {
        reader_bin_copy(&r, out->have[i], VERIFIER_DIGEST_LEN);
        field_distinct(&r, out->have, i + 1, VERIFIER_DIGEST_LEN);
    }
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_challenge_encode(struct writer *w, const struct verifier_challenge *in)
{
    writer_map(w, 6);
    field_write_v(w);
    field_write_choice(w, "verifier", verifier_role_names[in->verifier]);
    field_write_choice(w, "attester", verifier_role_names[in->attester]);
    field_write_fixed(w, "nonce", in->nonce, sizeof in->nonce);
    if (in->engines_max > 0) {
        field_write_map(w, "engines", 2);
        if (in->model.data)
            field_write_text(w, "model", in->model);
        else
            field_write_nil(w, "model");
        field_write_uint(w, "max", in->engines_max);
    } else {
        field_write_nil(w, "engines");
    }
    field_write_list(w, "have", in->have_count);
    for (size_t i = 0; i < in->have_count; i++)
        writer_bin(w, span_of(in->have[i], VERIFIER_DIGEST_LEN));
}
