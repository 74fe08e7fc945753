#include "verifier/spdm.h"

#include "verifier/base/reader.h"

enum { VERSION_1_1 = 0x11, GET_MEASUREMENTS = 0xe0, MEASUREMENTS = 0x60, DMTF = 1 };

static uint32_t reader_u24le(struct reader *r)
{
    uint32_t low = reader_u16le(r);

    return low | (uint32_t)reader_u8(r) << 16;
}

static bool take_request(struct verifier_spdm *out, struct reader *r)
{
    bool good = reader_u8(r) == VERSION_1_1 && reader_u8(r) == GET_MEASUREMENTS;

    good = reader_u8(r) == 1 && good;    /* a signature was asked for ... */
    good = reader_u8(r) == 0xff && good; /* ... over all measurements */
    out->nonce = reader_span(r, 32);
    out->slot = reader_u8(r);
    return good && r->err == READER_OK;
}

/* Blocks fill the record exactly; indices are unique. */
static bool take_record(struct verifier_spdm *out, struct span record, size_t blocks)
{
    struct reader r = reader_over(record);

    for (size_t i = 0; i < blocks; i++) {
        uint8_t index = reader_u8(&r), spec = reader_u8(&r);
        size_t size = reader_u16le(&r);
        struct span value;

        (void)reader_u8(&r); /* kind of value */
        value = reader_span(&r, reader_u16le(&r));
        if (r.err != READER_OK || index == 0 || spec != DMTF || size != value.len + 3 || value.len == 0 ||
            out->block[index].len > 0)
            return false;
        out->block[index] = value;
    }
    out->block_count = blocks;
    return blocks > 0 && reader_end(&r);
}

/* Unknown types are kept; a repeated one is refused. */
static bool take_opaque(struct verifier_spdm *out, struct span opaque)
{
    struct reader r = reader_over(opaque);

    while (r.err == READER_OK && r.rest.len > 0) {
        uint16_t type = reader_u16le(&r);
        struct span value = reader_span(&r, reader_u16le(&r));

        if (r.err != READER_OK || out->field_count == VERIFIER_SPDM_OPAQUE_MAX)
            return false;
        for (size_t i = 0; i < out->field_count; i++)
            if (out->field[i].type == type)
                return false;
        out->field[out->field_count].type = type;
        out->field[out->field_count++].value = value;
    }
    return r.err == READER_OK;
}

enum verifier_err verifier_spdm_parse(struct verifier_spdm *out, struct span report)
{
    struct reader r = reader_over(report);
    uint8_t version, code, blocks;
    struct span record, opaque;

    memset(out, 0, sizeof *out);
    if (!take_request(out, &r))
        return VERIFIER_E_PARSE;
    version = reader_u8(&r);
    code = reader_u8(&r);
    (void)reader_u16le(&r); /* two parameters */
    blocks = reader_u8(&r);
    out->record_len = reader_u24le(&r);
    record = reader_span(&r, out->record_len);
    out->responder_nonce = reader_span(&r, 32);
    out->opaque_len = reader_u16le(&r);
    opaque = reader_span(&r, out->opaque_len);
    out->covered = span_of(report.data, report.len - r.rest.len);
    out->signature = reader_span(&r, VERIFIER_SPDM_SIGNATURE);
    if (r.err != READER_OK || version != VERSION_1_1 || code != MEASUREMENTS)
        return VERIFIER_E_PARSE;
    if (!take_record(out, record, blocks) || !take_opaque(out, opaque))
        return VERIFIER_E_PARSE;
    return r.rest.len == 0 ? VERIFIER_OK : VERIFIER_E_TRAILING_DATA;
}

struct span verifier_spdm_field(const struct verifier_spdm *s, enum verifier_spdm_opaque type)
{
    for (size_t i = 0; i < s->field_count; i++)
        if (s->field[i].type == type)
            return s->field[i].value;
    return span_of(NULL, 0);
}
