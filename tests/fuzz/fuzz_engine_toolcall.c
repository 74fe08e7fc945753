/* Target functions: engine_toolcall_text engine_toolcall_finish */
#include <assert.h>

#include "engine/toolcall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parts {
    struct writer w;
    int last;
};

static void part(void *ctx, enum tunnel_channel_name channel, uint32_t tool, struct span text)
{
    struct parts *p = ctx;
    int now = (int)channel + 16 * (int)tool;
    assert(text.len > 0);
    if (now != p->last)
        writer_u32be(&p->w, (uint32_t)now);
    p->last = now;
    writer_bytes(&p->w, text);
}

static void feed(struct parts *out, struct engine_toolcall_style style, bool thinking, struct span text, size_t step)
{
    struct engine_toolcall *o = engine_toolcall_open(style, NULL, thinking, part, out);
    *out = (struct parts){writer_with_max(1 << 22), -1};
    for (size_t at = 0; at < text.len; at += step)
        engine_toolcall_text(o, span_of(text.data + at, step < text.len - at ? step : text.len - at));
    engine_toolcall_finish(o);
    engine_toolcall_close(o);
}

/* First byte: the style. The parts do not depend on where the text was cut. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct engine_toolcall_style style = {(enum engine_toolcall_format)(data[0] % (ENGINE_TOOLCALL_PYTHON + 1)),
                                          data[0] & 0x40};
    struct parts whole, cut;
    feed(&whole, style, data[0] & 0x80, span_of(data + 1, size - 1), size);
    feed(&cut, style, data[0] & 0x80, span_of(data + 1, size - 1), 1 + data[1] % 7);
    assert(span_equal(writer_span(&whole.w), writer_span(&cut.w)));
    writer_release(&whole.w);
    writer_release(&cut.w);
    return 0;
}
