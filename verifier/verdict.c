#include "verifier/verdict.h"

#include "verifier/base/field.h"

enum verifier_err verifier_verdict_parse(struct verifier_verdict *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_verdict){0};
    reader_map(&r, 2);
    out->code = field_read_text(&r, "code", 1, 64);
    reader_key(&r, "valid_until");
    if (!reader_nil(&r))
        out->valid_until = reader_uint(&r, 1, VERIFIER_TIME_MAX);
    if (r.err == READER_OK && span_is(out->code, "ok") != (out->valid_until > 0))
        reader_fail(&r, READER_VALUE);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_verdict_encode(struct writer *w, const struct verifier_verdict *in)
{
    writer_map(w, 2);
    field_write_text(w, "code", in->code);
    if (in->valid_until > 0)
        field_write_uint(w, "valid_until", in->valid_until);
    else
        field_write_nil(w, "valid_until");
}
