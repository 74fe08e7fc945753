/* Target functions: tunnel_mux_take tunnel_mux_event tunnel_mux_consumed tunnel_mux_next
 * A hostile peer's frames against both kinds of end. However they come, what an end then sends is well-formed, and no
 * stream is told twice that it ended. */
#include "tunnel/mux.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drain_output(struct tunnel_mux *m)
{
    struct tunnel_frame f, again;
    while (tunnel_mux_next(m, &f)) {
        struct writer w = writer_with_max(TUNNEL_FRAME_MAX);
        tunnel_frame_encode(&w, &f);
        if (tunnel_frame_decode(&again, writer_span(&w)) != (ssize_t)w.len)
            abort();
        writer_release(&w);
    }
}

static void drain_events(struct tunnel_mux *m, uint32_t ended[8])
{
    struct tunnel_mux_event e;
    while (tunnel_mux_event(m, &e)) {
        if (e.kind == TUNNEL_MUX_DATA)
            tunnel_mux_consumed(m, e.stream, e.cost);
        if (e.kind == TUNNEL_MUX_CANCEL)
            tunnel_mux_abort(m, e.stream, "");
        if (e.kind == TUNNEL_MUX_ENDED && e.stream < 8 && ended[e.stream]++)
            abort();
    }
}

static void play(bool opener, struct span rest)
{
    struct tunnel_mux *m = tunnel_mux_open(opener);
    struct tunnel_frame f;
    uint32_t ended[8] = {0}, id = 0;
    ssize_t used;
    for (int i = 0; opener && i < 4; i++)
        if ((id = tunnel_mux_start(m, NULL)) != 0)
            (void)!tunnel_mux_send(m, &(struct tunnel_frame){TUNNEL_FRAME_REQUEST, i & 1, id, span_str("question")});
    drain_output(m);
    while ((used = tunnel_frame_decode(&f, rest)) > 0) {
        rest = span_of(rest.data + used, rest.len - (size_t)used);
        if (f.kind >= TUNNEL_FRAME_REQUEST && f.kind <= TUNNEL_FRAME_CANCEL && tunnel_mux_take(m, &f) != TUNNEL_OK)
            break;
        drain_events(m, ended);
        if (!opener && f.stream)
            (void)!tunnel_mux_send(m, &(struct tunnel_frame){TUNNEL_FRAME_EVENT, f.flags & 1 ? 0 : TUNNEL_FRAME_END,
                                                             f.stream, span_str("answer")});
        drain_output(m);
    }
    tunnel_mux_fail(m, "closed");
    drain_events(m, ended);
    tunnel_mux_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    play(true, span_of(data, size));
    play(false, span_of(data, size));
    return 0;
}
