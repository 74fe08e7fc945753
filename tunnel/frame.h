/* frame.h - the one frame that every connection of ours carries: TLS tunnels, keyd's port and the pair of sockets
 * between airlock-engine and airlock-tunnel. Pure: bytes in, a view out.
 * Wire: u32 body length | u8 kind | u8 flags | u16 zero | u32 stream | body; big-endian. On TLS frames follow each
 * other; on the socket pair one record is one frame. Format: tunnel/PROTOCOL.md § Frames. */
#ifndef TUNNEL_FRAME_H
#define TUNNEL_FRAME_H

#include "verifier/base/reader.h"
#include "verifier/base/writer.h"

#include <sys/types.h>

enum {
    TUNNEL_FRAME_HEADER = 12,
    TUNNEL_FRAME_BODY_MAX = 16 << 10,
    TUNNEL_FRAME_MAX = TUNNEL_FRAME_HEADER + TUNNEL_FRAME_BODY_MAX,
};

enum tunnel_frame_kind {
    /* stream 0, attestation and upkeep of one TLS connection */
    TUNNEL_FRAME_CHALLENGE = 1, /* one frame: a challenge object */
    TUNNEL_FRAME_ENVELOPE = 2,  /* in pieces: an envelope object */
    TUNNEL_FRAME_VERDICT = 3,   /* one frame: { code, valid_until } */
    TUNNEL_FRAME_PING = 4,      /* 8 bytes, come back as PONG */
    TUNNEL_FRAME_PONG = 5,
    TUNNEL_FRAME_GOAWAY = 6, /* a code as text, maybe empty: no new stream; the running ones end first */
    TUNNEL_FRAME_ASK = 7,    /* node to keyd, one frame */
    TUNNEL_FRAME_GRANT = 8,  /* keyd to node, in pieces */
    TUNNEL_FRAME_STATS = 9,  /* engine to tunnel to proxy, one frame: the engine's metrics (tunnel/stats.h) */
    /* other streams (CREDIT also on 0: of the connection) */
    TUNNEL_FRAME_REQUEST = 16, /* opens a stream; in pieces: a packed request (tunnel/message.h) */
    TUNNEL_FRAME_SEALED = 17,  /* opens a stream; in pieces: a sealed request, opaque here */
    TUNNEL_FRAME_QUOTE = 18,   /* opens a stream; a client's own challenge to the engine (sealed mode) */
    TUNNEL_FRAME_EVENT = 19,   /* the answer: one packed event a frame, or pieces of an opaque answer */
    TUNNEL_FRAME_CREDIT = 20,  /* u32: so many more bytes may be sent */
    TUNNEL_FRAME_CANCEL = 21,  /* a code as text, maybe empty: the stream is over */
    /* the socket pair only, stream 0 */
    TUNNEL_FRAME_HEARTBEAT = 32, /* empty */
    TUNNEL_FRAME_PEER = 33,      /* tunnel to engine: a peer came or went */
    TUNNEL_FRAME_RULES = 34,     /* engine to tunnel, in pieces: policy, revocations, trusted time */
};

enum {
    TUNNEL_FRAME_MORE = 1, /* the object goes on in the next frame of this kind on this stream */
    TUNNEL_FRAME_END = 2,  /* EVENT only: the last of its stream */
};

/* Why a connection, link or stream is refused or over. A peer's code travels as its name. */
#define TUNNEL_ERRORS(X)                                                                                               \
    X(FRAME_LENGTH, "frame_length")         /* a body longer than TUNNEL_FRAME_BODY_MAX */                             \
    X(FRAME_KIND, "frame_kind")             /* unknown kind, or one that has no place here */                          \
    X(FRAME_FLAGS, "frame_flags")           /* a flag unknown, or that this kind has not */                            \
    X(FRAME_RESERVED, "frame_reserved")     /* the two zero bytes are not zero */                                      \
    X(FRAME_STREAM, "frame_stream")         /* stream 0 where a stream is needed, or the reverse */                    \
    X(FRAME_BODY, "frame_body")             /* a body of the wrong size or form for its kind */                        \
    X(TLS, "tls")                           /* not TLS, or the handshake broke */                                      \
    X(TLS_VERSION, "tls_version")           /* older than TLS 1.3 */                                                   \
    X(TLS_ALPN, "tls_alpn")                 /* not airlock/1 */                                                        \
    X(TLS_RESUMED, "tls_resumed")           /* resumed, PSK, early data or post-handshake authentication */            \
    X(TLS_CERTIFICATE, "tls_certificate")   /* none, or not the self-signed P-256 form */                              \
    X(CHALLENGE_SIZE, "challenge_size")     /* empty or over 4096 bytes */                                             \
    X(CHALLENGE_TWICE, "challenge_twice")   /* a second challenge before the first was answered */                     \
    X(CHALLENGE_BUDGET, "challenge_budget") /* more challenges than the budget allows */                               \
    X(ENVELOPE_SIZE, "envelope_size")       /* over 1 MiB */                                                           \
    X(ENVELOPE_UNASKED, "envelope_unasked") /* without an open challenge */                                            \
    X(VERDICT_FORM, "verdict_form")         /* not { code, valid_until }, or unasked */                                \
    X(VERDICT_LATE, "verdict_late")         /* attestation took longer than its deadline */                            \
    X(NOT_OPEN, "not_open")                 /* a stream before both verdicts */                                        \
    X(EXPIRED, "expired")                   /* a verdict ended without a newer one */                                  \
    X(STREAM_ID, "stream_id")               /* not one the peer may open or use */                                     \
    X(STREAM_COUNT, "stream_count")         /* more streams than allowed */                                            \
    X(STREAM_CREDIT, "stream_credit")       /* more bytes than were granted, or credit beyond the limit */             \
    X(MESSAGE_SIZE, "message_size")         /* an object longer than its kind may be */                                \
    X(PING_LOST, "ping_lost")               /* nothing heard for two pings */                                          \
    X(FROZEN, "frozen")                     /* the other end of the link is silent */                                  \
    X(CLOSED, "closed")                     /* the peer closed, or the connection broke */                             \
    X(GOING_AWAY, "going_away")             /* the peer or we are draining */                                          \
    X(CANCELLED, "cancelled")               /* by whoever asked */                                                     \
    X(ENGINE_UNAVAILABLE, "engine_unavailable")                                                                        \
    X(MEMORY, "memory")

enum tunnel_err {
    TUNNEL_OK = 0,
#define X(id, text) TUNNEL_E_##id,
    TUNNEL_ERRORS(X)
#undef X
        TUNNEL_ERR_COUNT
};
/* Short lower-case name, at most 63 characters; "ok" for TUNNEL_OK. */
const char *tunnel_err_name(enum tunnel_err err);

/* Codes travel as text of lower-case letters, digits and '_'. */
bool tunnel_frame_is_code(struct span s);

struct tunnel_frame {
    uint8_t kind, flags;
    uint32_t stream;
    struct span body; /* borrowed */
};

/* Split the first frame off `in`. Returns the bytes it took (> 0), 0 while `in` holds no whole frame, or
 * -(enum tunnel_err): a header that can never be accepted is refused as soon as it is there, whatever length it
 * announces. `out->body` borrows from `in`. Checks all that a frame alone can show: kind, flags, stream, body size. */
MUST_CHECK ssize_t tunnel_frame_decode(struct tunnel_frame *out, struct span in);

/* Append the frame's bytes. The frame must be one that tunnel_frame_decode() accepts (asserted). */
void tunnel_frame_encode(struct writer *w, const struct tunnel_frame *in);

#endif
