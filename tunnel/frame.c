#include "tunnel/frame.h"

#include <assert.h>

enum { ON_ZERO = 1, ON_STREAM = 2 };

/* What the header of each kind may say. `flags`: those allowed. */
static const struct shape {
    uint8_t where, flags;
    uint16_t min, max;
} shapes[] = {
    [TUNNEL_FRAME_CHALLENGE] = {ON_ZERO, 0, 1, 4096},
    [TUNNEL_FRAME_ENVELOPE] = {ON_ZERO, TUNNEL_FRAME_MORE, 1, TUNNEL_FRAME_BODY_MAX},
    [TUNNEL_FRAME_VERDICT] = {ON_ZERO, 0, 1, 128},
    [TUNNEL_FRAME_PING] = {ON_ZERO, 0, 8, 8},
    [TUNNEL_FRAME_PONG] = {ON_ZERO, 0, 8, 8},
    [TUNNEL_FRAME_GOAWAY] = {ON_ZERO, 0, 0, 63},
    [TUNNEL_FRAME_ASK] = {ON_ZERO, 0, 1, 4097},
    [TUNNEL_FRAME_GRANT] = {ON_ZERO, TUNNEL_FRAME_MORE, 1, TUNNEL_FRAME_BODY_MAX},
    [TUNNEL_FRAME_STATS] = {ON_ZERO, 0, 1, 8192},
    [TUNNEL_FRAME_REQUEST] = {ON_STREAM, TUNNEL_FRAME_MORE, 1, TUNNEL_FRAME_BODY_MAX},
    [TUNNEL_FRAME_SEALED] = {ON_STREAM, TUNNEL_FRAME_MORE, 1, TUNNEL_FRAME_BODY_MAX},
    [TUNNEL_FRAME_QUOTE] = {ON_STREAM, 0, 1, 4096},
    [TUNNEL_FRAME_EVENT] = {ON_STREAM, TUNNEL_FRAME_MORE | TUNNEL_FRAME_END, 0, TUNNEL_FRAME_BODY_MAX},
    [TUNNEL_FRAME_CREDIT] = {ON_ZERO | ON_STREAM, 0, 4, 4},
    [TUNNEL_FRAME_CANCEL] = {ON_STREAM, 0, 0, 63},
    [TUNNEL_FRAME_HEARTBEAT] = {ON_ZERO, 0, 0, 0},
    [TUNNEL_FRAME_PEER] = {ON_ZERO, 0, 1, 1024},
    [TUNNEL_FRAME_RULES] = {ON_ZERO, TUNNEL_FRAME_MORE, 1, TUNNEL_FRAME_BODY_MAX},
};

const char *tunnel_err_name(enum tunnel_err err)
{
    static const char *const names[TUNNEL_ERR_COUNT] = {[TUNNEL_OK] = "ok",
#define X(id, text) [TUNNEL_E_##id] = text,
                                                        TUNNEL_ERRORS(X)
#undef X
    };
    return (size_t)err < TUNNEL_ERR_COUNT ? names[err] : "internal";
}

/* All that the header alone can show. */
static enum tunnel_err check_header(uint32_t len, uint8_t kind, uint8_t flags, uint16_t zero, uint32_t stream)
{
    if (len > TUNNEL_FRAME_BODY_MAX)
        return TUNNEL_E_FRAME_LENGTH;
    if (kind >= sizeof shapes / sizeof *shapes || !shapes[kind].where)
        return TUNNEL_E_FRAME_KIND;
    if (flags & ~shapes[kind].flags || flags == (TUNNEL_FRAME_MORE | TUNNEL_FRAME_END))
        return TUNNEL_E_FRAME_FLAGS;
    if (zero != 0)
        return TUNNEL_E_FRAME_RESERVED;
    if (!(shapes[kind].where & (stream == 0 ? ON_ZERO : ON_STREAM)))
        return TUNNEL_E_FRAME_STREAM;
    if (len < shapes[kind].min || len > shapes[kind].max)
        return TUNNEL_E_FRAME_BODY;
    return TUNNEL_OK;
}

bool tunnel_frame_is_code(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

static enum tunnel_err check_body(uint8_t kind, struct span body)
{
    if ((kind == TUNNEL_FRAME_GOAWAY || kind == TUNNEL_FRAME_CANCEL) && !tunnel_frame_is_code(body))
        return TUNNEL_E_FRAME_BODY;
    if (kind == TUNNEL_FRAME_CREDIT && span_is_zero(body))
        return TUNNEL_E_FRAME_BODY;
    return TUNNEL_OK;
}

ssize_t tunnel_frame_decode(struct tunnel_frame *out, struct span in)
{
    struct reader r = reader_over(in);
    uint32_t len = reader_u32be(&r);
    uint8_t kind = reader_u8(&r);
    uint8_t flags = reader_u8(&r);
    uint16_t zero = reader_u16be(&r);
    uint32_t stream = reader_u32be(&r);

    if (r.err)
        return 0;
    enum tunnel_err err = check_header(len, kind, flags, zero, stream);
    if (err)
        return -(ssize_t)err;
    struct span body = reader_span(&r, len);
    if (r.err)
        return 0;
    err = check_body(kind, body);
    if (err)
        return -(ssize_t)err;
    *out = (struct tunnel_frame){.kind = kind, .flags = flags, .stream = stream, .body = body};
    return (ssize_t)(TUNNEL_FRAME_HEADER + len);
}

void tunnel_frame_encode(struct writer *w, const struct tunnel_frame *in)
{
    assert(check_header((uint32_t)in->body.len, in->kind, in->flags, 0, in->stream) == TUNNEL_OK);
    assert(check_body(in->kind, in->body) == TUNNEL_OK);
    writer_u32be(w, (uint32_t)in->body.len);
    writer_u8(w, in->kind);
    writer_u8(w, in->flags);
    writer_u16be(w, 0);
    writer_u32be(w, in->stream);
    writer_bytes(w, in->body);
}
