#include "verifier/receipt.h"

#include "verifier/base/field.h"

static const char *const modes[VERIFIER_MODES] = {"plain", "sealed"};

enum verifier_err verifier_receipt_parse(struct verifier_receipt *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_receipt){0};
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 15);
    field_read_v(&r);
    out->mode = (enum verifier_mode)field_read_choice(&r, "mode", modes, VERIFIER_MODES);
    field_read_fixed(&r, "request", out->request, VERIFIER_DIGEST_LEN);
    field_read_fixed(&r, "response", out->response, VERIFIER_DIGEST_LEN);
    field_read_fixed(&r, "artefact_root", out->artefact_root, VERIFIER_DIGEST_LEN);
    field_read_fixed(&r, "policy", out->policy, VERIFIER_DIGEST_LEN);
    out->sampling = field_read_text(&r, "sampling", 0, 1024);
    out->seed = field_read_uint(&r, "seed", 0, UINT64_MAX);
    field_read_map(&r, "tokens", 2);
    out->prompt_tokens = (uint32_t)field_read_uint(&r, "prompt", 0, UINT32_MAX);
    out->completion_tokens = (uint32_t)field_read_uint(&r, "completion", 0, UINT32_MAX);
    out->kernels = field_read_text(&r, "kernels", 1, 64);
    field_read_fixed(&r, "statement", out->statement, VERIFIER_DIGEST_LEN);
    field_read_fixed(&r, "state", out->state, VERIFIER_DIGEST_LEN);
    out->at = field_read_uint(&r, "at", 1, VERIFIER_TIME_MAX);
    out->log_index = field_read_uint(&r, "log_index", 0, UINT64_MAX);
    field_read_fixed(&r, "previous", out->previous, VERIFIER_DIGEST_LEN);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_receipt_encode(struct writer *w, const struct verifier_receipt *in)
{
    writer_map(w, 15);
    field_write_v(w);
    field_write_choice(w, "mode", modes[in->mode]);
    field_write_fixed(w, "request", in->request, VERIFIER_DIGEST_LEN);
    field_write_fixed(w, "response", in->response, VERIFIER_DIGEST_LEN);
    field_write_fixed(w, "artefact_root", in->artefact_root, VERIFIER_DIGEST_LEN);
    field_write_fixed(w, "policy", in->policy, VERIFIER_DIGEST_LEN);
    field_write_text(w, "sampling", in->sampling);
    field_write_uint(w, "seed", in->seed);
    field_write_map(w, "tokens", 2);
    field_write_uint(w, "prompt", in->prompt_tokens);
    field_write_uint(w, "completion", in->completion_tokens);
    field_write_text(w, "kernels", in->kernels);
    field_write_fixed(w, "statement", in->statement, VERIFIER_DIGEST_LEN);
    field_write_fixed(w, "state", in->state, VERIFIER_DIGEST_LEN);
    field_write_uint(w, "at", in->at);
    field_write_uint(w, "log_index", in->log_index);
    field_write_fixed(w, "previous", in->previous, VERIFIER_DIGEST_LEN);
}
