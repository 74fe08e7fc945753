#include "verifier/envelope.h"

#include "verifier/base/field.h"

static void read_part(struct reader *r, const char *key, size_t max, bool may_be_nil, struct verifier_part *out)
{
    static const char *const forms[] = {"bytes", "digest"};
    reader_key(r, key);
    if (may_be_nil && reader_nil(r))
        return;
    reader_map(r, 1);
    struct reader ahead = *r;
    size_t form = reader_choice(&ahead, forms, 2);
    if (r->err == READER_OK && ahead.err != READER_OK)
        reader_fail(r, ahead.err == READER_VALUE ? READER_KEY : ahead.err);
    reader_key(r, forms[form]);
    if (form == 0) {
        out->form = VERIFIER_PART_BYTES;
        out->bytes = reader_bin(r, 1, max);
    } else {
        out->form = VERIFIER_PART_DIGEST;
        reader_bin_copy(r, out->digest, sizeof out->digest);
    }
}

static void write_part(struct writer *w, const char *key, const struct verifier_part *in)
{
    writer_key(w, key);
    switch (in->form) {
    case VERIFIER_PART_NIL:
        writer_nil(w);
        break;
    case VERIFIER_PART_BYTES:
        writer_map(w, 1);
        field_write_bin(w, "bytes", in->bytes);
        break;
    case VERIFIER_PART_DIGEST:
        writer_map(w, 1);
        field_write_fixed(w, "digest", in->digest, sizeof in->digest);
        break;
    }
}

static void read_place(struct reader *r, struct verifier_place *out)
{
    out->index = (uint32_t)field_read_uint(r, "index", 0, VERIFIER_TREE_MAX - 1);
    out->path_len = field_read_list(r, "path", 0, VERIFIER_PATH_MAX);
    for (size_t i = 0; i < out->path_len; i++)
        reader_bin_copy(r, out->path[i], VERIFIER_DIGEST_LEN);
}

static void write_place(struct writer *w, const struct verifier_place *in)
{
    field_write_uint(w, "index", in->index);
    field_write_list(w, "path", in->path_len);
    for (size_t i = 0; i < in->path_len; i++)
        writer_bin(w, span_of(in->path[i], VERIFIER_DIGEST_LEN));
}

static void read_devices(struct reader *r, struct verifier_envelope *out)
{
    reader_key(r, "devices");
    if (reader_nil(r))
        return;
    out->device_count = reader_list(r, 1, VERIFIER_DEVICES_MAX);
    for (size_t i = 0; i < out->device_count; i++) {
        reader_map(r, 2);
        out->devices[i].report = field_read_bin(r, "report", 1, VERIFIER_DEVICE_REPORT_MAX);
        read_part(r, "chain", VERIFIER_DEVICE_CHAIN_MAX, false, &out->devices[i].chain);
    }
}

static void write_devices(struct writer *w, const struct verifier_envelope *in)
{
    writer_key(w, "devices");
    if (in->device_count == 0) {
        writer_nil(w);
        return;
    }
    writer_list(w, in->device_count);
    for (size_t i = 0; i < in->device_count; i++) {
        writer_map(w, 2);
        field_write_bin(w, "report", in->devices[i].report);
        write_part(w, "chain", &in->devices[i].chain);
    }
}

static void read_engines(struct reader *r, struct verifier_envelope *out)
{
    reader_key(r, "engines");
    if (reader_nil(r))
        return;
    out->has_engines = true;
    out->engine_count = reader_list(r, 0, VERIFIER_ENGINES_MAX);
    for (size_t i = 0; i < out->engine_count; i++) {
        struct verifier_engine_entry *e = &out->engines[i];
        reader_map(r, 7);
        e->challenge = field_read_bin(r, "challenge", 1, VERIFIER_CHALLENGE_MAX);
        e->spki = field_read_bin(r, "spki", 1, VERIFIER_SPKI_MAX);
        field_read_fixed(r, "exporter", e->exporter, sizeof e->exporter);
        e->checked_at = field_read_uint(r, "checked_at", 1, VERIFIER_TIME_MAX);
        read_place(r, &e->place);
        e->envelope = field_read_bin(r, "envelope", 1, VERIFIER_ENVELOPE_MAX);
    }
}

static void write_engines(struct writer *w, const struct verifier_envelope *in)
{
    writer_key(w, "engines");
    if (!in->has_engines) {
        writer_nil(w);
        return;
    }
    writer_list(w, in->engine_count);
    for (size_t i = 0; i < in->engine_count; i++) {
        const struct verifier_engine_entry *e = &in->engines[i];
        writer_map(w, 7);
        field_write_bin(w, "challenge", e->challenge);
        field_write_bin(w, "spki", e->spki);
        field_write_fixed(w, "exporter", e->exporter, sizeof e->exporter);
        field_write_uint(w, "checked_at", e->checked_at);
        write_place(w, &e->place);
        field_write_bin(w, "envelope", e->envelope);
    }
}

enum verifier_err verifier_envelope_parse(struct verifier_envelope *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_envelope){0};
    if (in.len > VERIFIER_ENVELOPE_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 16);
    field_read_v(&r);
    out->tee = (enum verifier_tee)field_read_choice(&r, "tee", verifier_tee_names, VERIFIER_TEES);
    out->quote = field_read_bin(&r, "quote", 1, VERIFIER_QUOTE_MAX);
    read_part(&r, "chain", VERIFIER_CHAIN_BYTES_MAX, true, &out->chain);
    read_part(&r, "collateral", VERIFIER_PART_MAX, true, &out->collateral);
    out->statement = field_read_bin(&r, "statement", 1, VERIFIER_STATEMENT_MAX);
    out->state = field_read_bin(&r, "state", 1, VERIFIER_STATE_MAX);
    field_read_map(&r, "tree", 3);
    out->tree_size = (uint32_t)field_read_uint(&r, "size", 1, VERIFIER_TREE_MAX);
    read_place(&r, &out->place);
    read_devices(&r, out);
    read_part(&r, "event_log", VERIFIER_PART_MAX, true, &out->event_log);
    out->config = field_read_bin(&r, "config", 0, VERIFIER_CONFIG_MAX);
    read_part(&r, "policy", VERIFIER_PART_MAX, true, &out->policy);
    out->revocations = field_read_bin_or_nil(&r, "revocations", VERIFIER_PART_MAX);
    out->fleet = field_read_bin_or_nil(&r, "fleet", VERIFIER_PART_MAX);
    out->lease = field_read_bin_or_nil(&r, "lease", VERIFIER_LEASE_MAX);
    read_engines(&r, out);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_envelope_encode(struct writer *w, const struct verifier_envelope *in)
{
    writer_map(w, 16);
    field_write_v(w);
    field_write_choice(w, "tee", verifier_tee_names[in->tee]);
    field_write_bin(w, "quote", in->quote);
    write_part(w, "chain", &in->chain);
    write_part(w, "collateral", &in->collateral);
    field_write_bin(w, "statement", in->statement);
    field_write_bin(w, "state", in->state);
    field_write_map(w, "tree", 3);
    field_write_uint(w, "size", in->tree_size);
    write_place(w, &in->place);
    write_devices(w, in);
    write_part(w, "event_log", &in->event_log);
    field_write_bin(w, "config", in->config);
    write_part(w, "policy", &in->policy);
    field_write_bin_or_nil(w, "revocations", in->revocations);
    field_write_bin_or_nil(w, "fleet", in->fleet);
    field_write_bin_or_nil(w, "lease", in->lease);
    write_engines(w, in);
}

/* A list of 0 (or `min`) to `max` bin of 1 to `bytes` bytes. */
static size_t read_bins(struct reader *r, size_t min, size_t max, size_t bytes, struct span *out)
{
    size_t count = reader_list(r, min, max);
    for (size_t i = 0; i < count; i++)
        out[i] = reader_bin(r, 1, bytes);
    return count;
}

static void write_bins(struct writer *w, const struct span *list, size_t count)
{
    writer_list(w, count);
    for (size_t i = 0; i < count; i++)
        writer_bin(w, list[i]);
}

enum verifier_err verifier_certs_parse(struct verifier_certs *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_certs){0};
    if (in.len > VERIFIER_CHAIN_BYTES_MAX)
        return VERIFIER_E_SIZE;
    out->count = read_bins(&r, 1, VERIFIER_CERTS_MAX, VERIFIER_CERT_MAX, out->cert);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_certs_encode(struct writer *w, const struct verifier_certs *in)
{
    write_bins(w, in->cert, in->count);
}

enum verifier_err verifier_collateral_parse(struct verifier_collateral *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_collateral){0};
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 7);
    reader_key(&r, "crls");
    out->crl_count = read_bins(&r, 0, VERIFIER_CRLS_MAX, VERIFIER_PART_MAX, out->crls);
    out->tcb_info = field_read_bin_or_nil(&r, "tcb_info", VERIFIER_PART_MAX);
    reader_key(&r, "tcb_chain");
    out->tcb_chain_count = read_bins(&r, 0, VERIFIER_CERTS_MAX, VERIFIER_CERT_MAX, out->tcb_chain);
    out->qe_identity = field_read_bin_or_nil(&r, "qe_identity", VERIFIER_PART_MAX);
    reader_key(&r, "qe_chain");
    out->qe_chain_count = read_bins(&r, 0, VERIFIER_CERTS_MAX, VERIFIER_CERT_MAX, out->qe_chain);
    reader_key(&r, "ocsp");
    out->ocsp_count = read_bins(&r, 0, VERIFIER_OCSP_MAX, VERIFIER_PART_MAX, out->ocsp);
    reader_key(&r, "rims");
    out->rim_count = read_bins(&r, 0, VERIFIER_RIMS_MAX, VERIFIER_PART_MAX, out->rims);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_collateral_encode(struct writer *w, const struct verifier_collateral *in)
{
    writer_map(w, 7);
    writer_key(w, "crls");
    write_bins(w, in->crls, in->crl_count);
    field_write_bin_or_nil(w, "tcb_info", in->tcb_info);
    writer_key(w, "tcb_chain");
    write_bins(w, in->tcb_chain, in->tcb_chain_count);
    field_write_bin_or_nil(w, "qe_identity", in->qe_identity);
    writer_key(w, "qe_chain");
    write_bins(w, in->qe_chain, in->qe_chain_count);
    writer_key(w, "ocsp");
    write_bins(w, in->ocsp, in->ocsp_count);
    writer_key(w, "rims");
    write_bins(w, in->rims, in->rim_count);
}
