#include "verifier/quote.h"

enum { HEADER = 48, SGX_LEN = 384, TD10_LEN = 584, TD15_LEN = 648, TD15X_LEN = 885 };

static const uint8_t vendor_intel[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                         0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};

static size_t body_len(enum verifier_quote_body type)
{
    switch (type) {
    case VERIFIER_BODY_SGX:
        return SGX_LEN;
    case VERIFIER_BODY_TD10:
        return TD10_LEN;
    case VERIFIER_BODY_TD15:
        return TD15_LEN;
    case VERIFIER_BODY_TD15X:
        return TD15X_LEN;
    default:
        return 0;
    }
}

/* --- bodies --------------------------------------------------------------------------------------- */

static struct verifier_enclave take_enclave(struct span body)
{
    struct reader r = reader_over(body);
    struct verifier_enclave e;

    e.cpusvn = reader_span(&r, 16);
    e.miscselect = reader_span(&r, 4);
    (void)reader_span(&r, 28);
    e.attributes = reader_span(&r, 16);
    e.mrenclave = reader_span(&r, 32);
    (void)reader_span(&r, 32);
    e.mrsigner = reader_span(&r, 32);
    (void)reader_span(&r, 96);
    e.isvprodid = reader_u16le(&r);
    e.isvsvn = reader_u16le(&r);
    (void)reader_span(&r, 60);
    e.report_data = reader_span(&r, 64);
    return e;
}

static struct verifier_td take_td(struct span body)
{
    struct reader r = reader_over(body);
    struct verifier_td t = {0};

    t.tee_tcb_svn = reader_span(&r, 16);
    t.mrseam = reader_span(&r, 48);
    t.mrsignerseam = reader_span(&r, 48);
    t.seamattributes = reader_span(&r, 8);
    t.tdattributes = reader_span(&r, 8);
    t.xfam = reader_span(&r, 8);
    t.mrtd = reader_span(&r, 48);
    t.mrconfigid = reader_span(&r, 48);
    t.mrowner = reader_span(&r, 48);
    t.mrownerconfig = reader_span(&r, 48);
    for (int i = 0; i < 4; i++)
        t.rtmr[i] = reader_span(&r, 48);
    t.report_data = reader_span(&r, 64);
    if (body.len >= TD15_LEN) {
        t.tee_tcb_svn2 = reader_span(&r, 16);
        t.mrservicetd = reader_span(&r, 48);
    }
    return t;
}

/* --- header and body ------------------------------------------------------------------------------ */

static enum verifier_err take_header(struct verifier_quote *out, struct reader *r)
{
    uint16_t key_type;
    uint8_t vendor[16];

    out->version = reader_u16le(r);
    key_type = reader_u16le(r);
    out->tee_type = reader_u32le(r);
    out->qe_svn = reader_u16le(r);
    out->pce_svn = reader_u16le(r);
    reader_copy(r, vendor, sizeof vendor);
    out->user_data = reader_span(r, 20);
    if (r->err != READER_OK)
        return VERIFIER_E_PARSE;
    if (out->version < 3 || out->version > 5)
        return VERIFIER_E_UNSUPPORTED_VERSION;
    if (key_type != 2) /* ECDSA P-256 */
        return VERIFIER_E_UNSUPPORTED_ALG;
    if (out->tee_type != VERIFIER_QUOTE_TEE_SGX && (out->tee_type != VERIFIER_QUOTE_TEE_TDX || out->version == 3))
        return VERIFIER_E_UNSUPPORTED_TEE;
    return memcmp(vendor, vendor_intel, sizeof vendor) == 0 ? VERIFIER_OK : VERIFIER_E_UNSUPPORTED_VENDOR;
}

static enum verifier_err take_body(struct verifier_quote *out, struct reader *r)
{
    bool tdx = out->tee_type == VERIFIER_QUOTE_TEE_TDX;

    out->body_type = tdx ? VERIFIER_BODY_TD10 : VERIFIER_BODY_SGX;
    if (out->version == 5) {
        out->body_type = (enum verifier_quote_body)reader_u16le(r);
        if (reader_u32le(r) != body_len(out->body_type))
            return VERIFIER_E_PARSE;
    }
    out->body = reader_span(r, body_len(out->body_type));
    if (r->err != READER_OK || out->body.len == 0 || tdx != (out->body_type != VERIFIER_BODY_SGX))
        return VERIFIER_E_PARSE;
    if (tdx)
        out->td = take_td(out->body);
    else
        out->sgx = take_enclave(out->body);
    return VERIFIER_OK;
}

/* --- signature data -------------------------------------------------------------------------------- */

/* QE report, its signature, authentication data, certificates: every length must lead exactly to the end. */
static enum verifier_err take_qe(struct verifier_quote *out, struct reader *r)
{
    out->qe_report = reader_span(r, SGX_LEN);
    out->qe_signature = reader_span(r, 64);
    out->auth = reader_span(r, reader_u16le(r));
    out->cert_type = reader_u16le(r);
    out->certs = reader_span(r, reader_u32le(r));
    if (!reader_end(r))
        return VERIFIER_E_PARSE;
    out->qe = take_enclave(out->qe_report);
    return out->cert_type == 5 ? VERIFIER_OK : VERIFIER_E_UNSUPPORTED_CERT_DATA;
}

static enum verifier_err take_signature(struct verifier_quote *out, struct span data)
{
    struct reader r = reader_over(data), inner;

    out->signature_len = data.len;
    out->signature = reader_span(&r, 64);
    out->key = reader_span(&r, 64);
    if (out->version == 3)
        return take_qe(out, &r);
    if (reader_u16le(&r) != 6) /* version 4 and 5 wrap the same block */
        return VERIFIER_E_PARSE;
    inner = reader_over(reader_span(&r, reader_u32le(&r)));
    return reader_end(&r) ? take_qe(out, &inner) : VERIFIER_E_PARSE;
}

enum verifier_err verifier_quote_parse(struct verifier_quote *out, struct span quote)
{
    struct reader r = reader_over(quote);
    struct span data;
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    err = take_header(out, &r);
    if (err == VERIFIER_OK)
        err = take_body(out, &r);
    if (err != VERIFIER_OK)
        return err;
    out->covered = span_of(quote.data, quote.len - r.rest.len);
    data = reader_span(&r, reader_u32le(&r));
    if (r.err != READER_OK)
        return VERIFIER_E_PARSE;
    err = take_signature(out, data);
    if (err != VERIFIER_OK)
        return err;
    out->padding = r.rest.len; /* quotes come in a buffer of a fixed size */
    return span_is_zero(r.rest) ? VERIFIER_OK : VERIFIER_E_TRAILING_DATA;
}
