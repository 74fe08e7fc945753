/* Target functions: engine_template_open engine_template_render */
#include <assert.h>

#include "engine/template.h"
#include "verifier/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input is a template. What it renders from well-formed values is well-formed, and rendering twice gives the same.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *messages, *kwargs;
    if (!messages) {
        messages = json_loads("[{\"role\":\"user\",\"content\":\"a\\u00e9 <x>\"},{\"role\":\"tool\",\"content\":null}]",
                              0, NULL);
        kwargs = json_loads("{\"l\":[1,2.5,\"x\",[true]],\"d\":{\"k\":{\"v\":[]}},\"s\":\"h\\u4f60 \\n\"}", 0, NULL);
    }
    struct engine_problem why = {0};
    struct engine_template *t = engine_template_open(span_of(data, size), &why);
    assert((t == NULL) == (why.code != ENGINE_OK));
    if (!t)
        return 0;
    struct engine_template_input in = {.messages = messages, .kwargs = kwargs, .steps_max = 100000};
    struct writer once = writer_with_max(1 << 16), again = writer_with_max(1 << 16);
    enum engine_err err = engine_template_render(t, &in, &once, &why);
    assert(err == why.code);
    assert(engine_template_render(t, &in, &again, NULL) == err);
    assert(span_equal(writer_span(&once), writer_span(&again)));
    assert(err != ENGINE_OK || utf8_is_valid(writer_span(&once)));
    writer_release(&once);
    writer_release(&again);
    engine_template_close(t);
    return 0;
}
