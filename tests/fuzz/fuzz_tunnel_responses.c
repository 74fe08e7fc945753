/* Target functions: openai_responses_parse openai_responses_stream openai_responses_body */
#include "tunnel/json.h"
#include "tunnel/openai_responses.h"

#include <assert.h>

static void say(struct openai_responses *r, const struct tunnel_event *ev, struct writer *out)
{
    (void)openai_responses_stream(r, ev, out);
}

/* What is accepted is a chat body that is JSON; the answer to it is JSON too, and whole only with its end. */
static void answer(struct openai_responses *r, struct span text, bool ends)
{
    struct writer out = writer_with_max(1 << 20), body = writer_with_max(1 << 20);
    json_t *json;

    openai_responses_begin(r, "id", "model", 1);
    say(r, &(struct tunnel_event){.kind = TUNNEL_EVENT_START}, &out);
    say(r, &(struct tunnel_event){.kind = TUNNEL_EVENT_DELTA, .text = text}, &out);
    say(r, &(struct tunnel_event){.kind = TUNNEL_EVENT_DELTA, .channel = TUNNEL_TOOL_NAME, .text = text}, &out);
    say(r, &(struct tunnel_event){.kind = TUNNEL_EVENT_DELTA, .channel = TUNNEL_TOOL_ARGUMENTS, .text = text}, &out);
    if (ends)
        say(r, &(struct tunnel_event){.kind = TUNNEL_EVENT_FINISH}, &out);
    say(r, &(struct tunnel_event){.kind = TUNNEL_EVENT_DONE}, &out);
    assert(openai_responses_body(r, &body) == (ends ? 200 : 502));
    if (writer_ok(&body)) {
        json = json_loadb((const char *)body.data, body.len, 0, NULL);
        assert(json_is_object(json));
        json_decref(json);
    }
    writer_release(&out);
    writer_release(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct writer chat = writer_with_max(1 << 20);
    struct openai_error why = {0};
    struct openai_responses *r = openai_responses_parse(span_of(data, size), &chat, &why);
    struct openai_request *in;

    assert((r != NULL) == (why.status == 0));
    if (r) {
        in = openai_request_parse(TUNNEL_CHAT, writer_span(&chat), &why);
        openai_responses_rename(&why);
        openai_request_free(in);
        answer(r, span_of(data, size < 64 ? size : 64), size % 8 != 0);
    }
    openai_responses_free(r);
    writer_release(&chat);
    return 0;
}
