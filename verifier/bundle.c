#include "verifier/bundle.h"

#include "verifier/base/field.h"

enum verifier_err verifier_bundle_parse(struct verifier_bundle *out, struct span in)
{
    struct reader r = reader_over(in);

    *out = (struct verifier_bundle){0};
    if (in.len > VERIFIER_BUNDLE_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 5);
    field_read_v(&r);
    out->from = field_read_uint(&r, "from", 0, VERIFIER_TIME_MAX);
    out->until = field_read_uint(&r, "until", 0, VERIFIER_TIME_MAX);
    out->chain_count = field_read_list(&r, "chains", 0, VERIFIER_BUNDLE_CHAINS_MAX);
    for (size_t i = 0; i < out->chain_count; i++)
        out->chain[i] = reader_bin(&r, 1, VERIFIER_PART_MAX);
    out->collateral = field_read_bin(&r, "collateral", 1, VERIFIER_PART_MAX);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_bundle_encode(struct writer *w, const struct verifier_bundle *in)
{
    writer_map(w, 5);
    field_write_v(w);
    field_write_uint(w, "from", in->from);
    field_write_uint(w, "until", in->until);
    field_write_list(w, "chains", in->chain_count);
    for (size_t i = 0; i < in->chain_count; i++)
        writer_bin(w, in->chain[i]);
    field_write_bin(w, "collateral", in->collateral);
}

static void put_before(struct span *sent, size_t *sent_count, const struct span *own, size_t own_count, size_t max)
{
    size_t kept = *sent_count < max - own_count ? *sent_count : max - own_count;

    memmove(sent + own_count, sent, kept * sizeof *sent);
    memcpy(sent, own, own_count * sizeof *own);
    *sent_count = own_count + kept;
}

void verifier_collateral_add(struct verifier_collateral *sent, const struct verifier_collateral *own)
{
    put_before(sent->crls, &sent->crl_count, own->crls, own->crl_count, VERIFIER_CRLS_MAX);
    put_before(sent->ocsp, &sent->ocsp_count, own->ocsp, own->ocsp_count, VERIFIER_OCSP_MAX);
    put_before(sent->rims, &sent->rim_count, own->rims, own->rim_count, VERIFIER_RIMS_MAX);
    if (sent->tcb_info.len == 0) {
        sent->tcb_info = own->tcb_info;
        memcpy(sent->tcb_chain, own->tcb_chain, sizeof sent->tcb_chain);
        sent->tcb_chain_count = own->tcb_chain_count;
    }
    if (sent->qe_identity.len == 0) {
        sent->qe_identity = own->qe_identity;
        memcpy(sent->qe_chain, own->qe_chain, sizeof sent->qe_chain);
        sent->qe_chain_count = own->qe_chain_count;
    }
}
