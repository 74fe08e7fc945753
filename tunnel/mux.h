/* mux.h - many streams over one ordered connection: fair order, byte credits both ways, cancel, drain.
 * Sans I/O and without a clock: frames in, frames out. The channel (over TLS) and the link (over the socket pair)
 * each own one. One end opens streams (the proxy; on the link the tunnel), the other answers them.
 *
 * A stream: the opener sends one message of kind REQUEST, SEALED or QUOTE in pieces; the answerer sends EVENT frames,
 * the last flagged END. CANCEL from the opener asks for an early end, which the answerer confirms with END or CANCEL;
 * CANCEL from the answerer ends the stream with a code. Each direction may send TUNNEL_STREAM_WINDOW bytes (bodies and
 * headers) beyond what the receiver has consumed, and TUNNEL_CONNECTION_WINDOW over all streams. Order between streams
 * is round-robin, a frame at a time. */
#ifndef TUNNEL_MUX_H
#define TUNNEL_MUX_H

#include "tunnel/frame.h"

enum {
    TUNNEL_STREAM_WINDOW = 64 << 10,
    TUNNEL_CONNECTION_WINDOW = 16 << 20,
    TUNNEL_STREAMS_MAX = 1024,
};

struct tunnel_mux;

enum tunnel_mux_kind {
    TUNNEL_MUX_NOTHING,
    TUNNEL_MUX_DATA,     /* `frame`: next piece, the first one opens the stream; return `cost` when done with it */
    TUNNEL_MUX_ENDED,    /* opener: after END (code empty), or with the answerer's code; both: the connection was lost.
                          * The stream is gone. Opener: exactly once a stream */
    TUNNEL_MUX_CANCEL,   /* answerer: the opener wants it to end; answer with END or tunnel_mux_abort() */
    TUNNEL_MUX_WRITABLE, /* frames that you queued, of `cost` together, have left: there is room again */
};
struct tunnel_mux_event {
    enum tunnel_mux_kind kind;
    uint32_t stream;
    struct tunnel_frame frame; /* DATA: body borrowed until the next tunnel_mux_event() */
    size_t cost;               /* DATA, WRITABLE: bytes of credit, headers included */
    char code[64];             /* ENDED, CANCEL: a code, maybe empty */
};

/* `opener`: this end opens streams. NULL: out of memory. Yours: tunnel_mux_close(). */
struct tunnel_mux *tunnel_mux_open(bool opener);
void tunnel_mux_close(struct tunnel_mux *m);

/* A new stream, or 0 when there are too many, or the peer or we are draining. `tag` is yours (tunnel_mux_tag).
 * Send its first piece at once: streams leave in the order of their ids, so one without a piece holds up later ones. */
uint32_t tunnel_mux_start(struct tunnel_mux *m, void *tag);
void tunnel_mux_set_tag(struct tunnel_mux *m, uint32_t stream, void *tag);
void *tunnel_mux_tag(const struct tunnel_mux *m, uint32_t stream); /* NULL for an unknown stream */

/* Bytes that the next frame's body may have (at most TUNNEL_FRAME_BODY_MAX); 0: wait for WRITABLE. */
size_t tunnel_mux_room(struct tunnel_mux *m, uint32_t stream);
/* Queue one frame (kind, MORE, END as in `frame`; frame->stream names the stream; body copied). False when the stream
 * is gone or has no room for it: then nothing happened. After END the stream is gone for the answerer. */
MUST_CHECK bool tunnel_mux_send(struct tunnel_mux *m, const struct tunnel_frame *frame);
/* `cost` bytes of DATA events have left our hands: the peer may send as many more. An unknown stream is fine. */
void tunnel_mux_consumed(struct tunnel_mux *m, uint32_t stream, size_t cost);
/* Opener: ask for the end (events still come until ENDED). Answerer: end it with `code`, unsent frames dropped. */
void tunnel_mux_abort(struct tunnel_mux *m, uint32_t stream, const char *code);
/* No new streams either way from now on. */
void tunnel_mux_drain(struct tunnel_mux *m);
size_t tunnel_mux_streams(const struct tunnel_mux *m); /* alive */
bool tunnel_mux_is_draining(const struct tunnel_mux *m);

/* A frame from the peer, of a kind on streams or CREDIT. An error is the connection's end. */
MUST_CHECK enum tunnel_err tunnel_mux_take(struct tunnel_mux *m, const struct tunnel_frame *frame);
/* The next frame to write, credits first, then one of each stream in turn; false: none. Body borrowed until the next
 * call that takes `m`. */
MUST_CHECK bool tunnel_mux_next(struct tunnel_mux *m, struct tunnel_frame *out);
/* The connection is lost: every live stream ends with `code`, after what has already come. */
void tunnel_mux_fail(struct tunnel_mux *m, const char *code);
/* What happened. False and NOTHING when there is no more. */
bool tunnel_mux_event(struct tunnel_mux *m, struct tunnel_mux_event *out);

#endif
