/* Target functions: engine_toolcall_text engine_toolcall_finish */
#include <assert.h>

#include "engine/toolcall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parts {
    struct writer w;
    int last;
    bool checked; /* arguments come whole, as a JSON object */
};

static bool is_object(struct span text)
{
    json_t *v = json_loadb((const char *)text.data, text.len, 0, NULL);
    bool good = json_is_object(v);
    json_decref(v);
    return good;
}

static void part(void *ctx, enum tunnel_channel_name channel, uint32_t tool, struct span text)
{
    struct parts *p = ctx;
    int now = (int)channel + 16 * (int)tool;
    assert(text.len > 0);
    assert(!p->checked || channel != TUNNEL_TOOL_ARGUMENTS || is_object(text));
    if (now != p->last)
        writer_u32be(&p->w, (uint32_t)now);
    p->last = now;
    writer_bytes(&p->w, text);
}

/* A function with a parameter of each type; calls of others are content. */
static const char one_tool[] =
    "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":\"string\"},\"i\":{\"type\":"
    "\"integer\"},\"n\":{\"type\":[\"number\",\"null\"]},\"b\":{\"type\":\"boolean\"},\"o\":{\"$ref\":\"#/x\"},"
    "\"u\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\"}]}},\"x\":{\"type\":\"object\"}}}}]";

static void feed(struct parts *out, struct engine_toolcall_style style, const json_t *tools, bool thinking,
                 struct span text, size_t step)
{
    struct engine_toolcall *o = engine_toolcall_open(style, tools, thinking, part, out);
    *out = (struct parts){writer_with_max(1 << 22), -1,
                          style.tools == ENGINE_TOOLCALL_XML || style.tools == ENGINE_TOOLCALL_DEEPSEEK};
    for (size_t at = 0; at < text.len; at += step)
        engine_toolcall_text(o, span_of(text.data + at, step < text.len - at ? step : text.len - at));
    engine_toolcall_finish(o);
    engine_toolcall_close(o);
}

/* First byte: the style, whether it thinks, whether the list of tools is known, whether the answer begins inside a
 * thought. The parts do not depend on where the text was cut. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct engine_toolcall_style style = {(enum engine_toolcall_format)((data[0] & 15) % (ENGINE_TOOLCALL_PHI4 + 1)),
                                          data[0] & 0x40};
    json_t *tools = data[0] & 0x20 ? json_loads(one_tool, 0, NULL) : NULL;
    struct parts whole, cut;
    feed(&whole, style, tools, data[0] & 0x80, span_of(data + 1, size - 1), size);
    feed(&cut, style, tools, data[0] & 0x80, span_of(data + 1, size - 1), 1 + data[1] % 7);
    assert(span_equal(writer_span(&whole.w), writer_span(&cut.w)));
    writer_release(&whole.w);
    writer_release(&cut.w);
    json_decref(tools);
    return 0;
}
