/* Target functions: stop_feed stop_text stop_finish. Whatever bytes tokens have and wherever they are cut, the text is
 * well-formed UTF-8, is the same as of one piece, and never holds a stop string. */
#include <assert.h>
#include <stdlib.h>

#include "engine/stop.h"
#include "verifier/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First byte: length of the stop string, which follows; second: bytes of one piece. */
static size_t run(char *out, const struct span *stop, struct span text, size_t piece, bool *hit)
{
    struct stop s;
    size_t len = 0;
    *hit = false;
    stop_init(&s, stop, 1, false, false);
    for (size_t at = 0; at < text.len && !*hit; at += piece) {
        size_t n = text.len - at < piece ? text.len - at : piece;
        *hit = stop_feed(&s, span_of(text.data + at, n));
        for (struct span t; (t = stop_text(&s, 7)).len > 0; stop_sent(&s, t.len)) {
            memcpy(out + len, t.data, t.len);
            len += t.len;
        }
    }
    stop_finish(&s);
    *hit = s.hit;
    struct span rest = stop_text(&s, SIZE_MAX);
    if (rest.len)
        memcpy(out + len, rest.data, rest.len);
    len += rest.len;
    stop_release(&s);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > 4000)
        return 0;
    size_t stop_len = 1u + data[0] % 8u, piece = 1u + data[1] % 16u;
    if (size < 2 + stop_len)
        return 0;
    struct span stop = span_of(data + 2, stop_len), text = span_of(data + 2 + stop_len, size - 2 - stop_len);
    char *one = malloc(3 * size), *many = malloc(3 * size);
    bool hit_one, hit_many;
    size_t a = run(one, &stop, text, size, &hit_one), b = run(many, &stop, text, piece, &hit_many);
    assert(one && many && a == b && hit_one == hit_many && memcmp(one, many, a) == 0);
    assert(utf8_is_valid(span_of(one, a)));
    if (utf8_is_valid(stop))
        assert(!memmem(one, a, stop.data, stop.len));
    (void)(hit_one == hit_many && a == b);
    free(one);
    free(many);
    return 0;
}
