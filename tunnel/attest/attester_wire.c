#include "tunnel/attest/attester_wire.h"

bool attester_record_parse(struct attester_record *out, struct span in)
{
    struct reader r = reader_over(in);

    out->id = reader_u32be(&r);
    out->call = reader_u8(&r);
    out->flags = reader_u8(&r);
    out->status = reader_u16be(&r);
    out->body = r.rest;
    return r.err == READER_OK && in.len <= ATTESTER_RECORD_MAX && (out->flags & ~ATTESTER_MORE) == 0;
}

size_t attester_record_encode(uint8_t *out, const struct attester_record *in)
{
    out[0] = (uint8_t)(in->id >> 24);
    out[1] = (uint8_t)(in->id >> 16);
    out[2] = (uint8_t)(in->id >> 8);
    out[3] = (uint8_t)in->id;
    out[4] = in->call;
    out[5] = in->flags;
    out[6] = (uint8_t)(in->status >> 8);
    out[7] = (uint8_t)in->status;
    if (in->body.len > 0)
        memcpy(out + ATTESTER_HEAD_LEN, in->body.data, in->body.len);
    return ATTESTER_HEAD_LEN + in->body.len;
}

const char *attester_err_name(enum attester_err err)
{
    static const char *const names[ATTESTER_ERR_COUNT] = {
        "ok",  "busy",      "call",  "challenge", "closed", "device", "epoch", "fell",   "internal",
        "key", "not_ready", "owner", "pair",      "replay", "shape",  "stage", "timeout"};

    return err < ATTESTER_ERR_COUNT ? names[err] : "internal";
}
