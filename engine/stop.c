#include "engine/stop.h"

#include <stdlib.h>

#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"

static const uint8_t replacement[] = {0xef, 0xbf, 0xbd}; /* U+FFFD */

void stop_init(struct stop *s, const struct span *strings, size_t count, bool include, bool skip_space)
{
    *s = (struct stop){.include = include, .skip_space = skip_space};
    s->text = writer_with_max(64 << 20);
    s->tail = writer_with_max(8 << 10);
    for (size_t i = 0; i < count && s->count < STOP_STRINGS_MAX; i++) {
        if (strings[i].len == 0 || !utf8_is_valid(strings[i]))
            continue;
        s->string[s->count++] = strings[i];
        if (strings[i].len > s->longest)
            s->longest = strings[i].len;
    }
}

void stop_release(struct stop *s)
{
    writer_release(&s->text);
    writer_release(&s->tail);
    if (s->end)
        secret_wipe(s->end, s->end_cap * sizeof *s->end);
    free(s->end);
    *s = (struct stop){0};
}

/* --- where tokens end ----------------------------------------------------------------------------------- */

static bool push_end(struct stop *s, uint64_t end)
{
    if (s->end_count == s->end_cap) {
        size_t cap = s->end_cap ? 2 * s->end_cap : 16;
        uint64_t *grown = malloc(cap * sizeof *grown);
        if (!grown)
            return false;
        for (size_t i = 0; i < s->end_count; i++)
            grown[i] = s->end[(s->end_first + i) % s->end_cap];
        free(s->end);
        s->end = grown;
        s->end_cap = cap;
        s->end_first = 0;
    }
    s->end[(s->end_first + s->end_count++) % s->end_cap] = end;
    return true;
}

size_t stop_released(const struct stop *s, size_t more)
{
    size_t n = 0;
    while (n < s->end_count && s->end[(s->end_first + n) % s->end_cap] <= s->base + more)
        n++;
    return n;
}

void stop_forget(struct stop *s, size_t count)
{
    if (count > s->end_count)
        count = s->end_count;
    if (count == 0)
        return;
    s->forgotten = s->end[(s->end_first + count - 1) % s->end_cap];
    s->end_first = (s->end_first + count) % s->end_cap;
    s->end_count -= count;
}

/* --- bytes to characters ---------------------------------------------------------------------------------- */

static void add_character(struct stop *s, struct span c)
{
    if (s->skip_space && s->base == 0 && s->text.len == 0) {
        s->skip_space = false;
        if (span_is(c, " "))
            return;
    }
    s->skip_space = false;
    writer_bytes(&s->text, c);
}

/* Move what is whole from the tail to the text; with `all`, replace what is not. Each maximal ill-formed sequence
 * becomes one U+FFFD (Unicode 15, section 3.9). */
static void take_characters(struct stop *s, bool all)
{
    struct span rest = writer_span(&s->tail);
    while (rest.len > 0) {
        size_t len = utf8_step(rest);
        if (len > 0) {
            add_character(s, span_of(rest.data, len));
        } else {
            size_t open = rest.len < 4 ? utf8_tail(rest) : 0;
            if (open == rest.len && !all)
                break;
            /* longest beginning of a character at this place, at least one byte */
            for (len = rest.len < 3 ? rest.len : 3; len > 1 && utf8_tail(span_of(rest.data, len)) != len;)
                len--;
            add_character(s, span_of(replacement, sizeof replacement));
        }
        rest = span_of(rest.data + len, rest.len - len);
    }
    uint8_t keep[4];
    size_t kept = rest.len < sizeof keep ? rest.len : sizeof keep;
    if (kept)
        memcpy(keep, rest.data, kept);
    writer_reset(&s->tail);
    writer_bytes(&s->tail, span_of(keep, kept));
}

/* --- stop strings -------------------------------------------------------------------------------------------- */

static bool has_at(struct span text, size_t at, struct span what)
{
    size_t len = what.len < text.len - at ? what.len : text.len - at;
    return memcmp(text.data + at, what.data, len) == 0;
}

/* The first complete stop string that counts, by where it begins (the longest when several begin there). */
static bool find_stop(const struct stop *s, size_t from, size_t *at, size_t *len)
{
    struct span text = writer_span(&s->text);
    for (size_t i = from; i < text.len; i++) {
        *len = 0;
        for (size_t k = 0; k < s->count; k++) {
            size_t n = s->string[k].len;
            if (n <= text.len - i && n > *len && s->base + i + n > s->heard && has_at(text, i, s->string[k]))
                *len = n;
        }
        if (*len) {
            *at = i;
            return true;
        }
    }
    return false;
}

/* Where the shortest end of the text begins that may become a stop string. */
static size_t find_hold(const struct stop *s)
{
    struct span text = writer_span(&s->text);
    size_t from = text.len > s->longest ? text.len - s->longest : 0;
    for (size_t i = from > s->ready ? from : s->ready; i < text.len; i++)
        for (size_t k = 0; k < s->count; k++)
            if (s->string[k].len > text.len - i && has_at(text, i, s->string[k]))
                return i;
    return text.len;
}

/* The text of tokens ends at `len`: the one that goes on there is told with what it has before. */
static void cut_ends(struct stop *s, uint64_t len)
{
    uint64_t before = s->forgotten;
    for (size_t i = 0; i < s->end_count && before < len; i++) {
        uint64_t *end = &s->end[(s->end_first + i) % s->end_cap];
        before = *end;
        if (*end > len)
            *end = len;
    }
}

static void search(struct stop *s)
{
    size_t at, len;
    if (s->deaf)
        s->heard = s->base + s->text.len;
    if (s->count && find_stop(s, s->ready, &at, &len)) {
        s->text.len = at + (s->include ? len : 0);
        cut_ends(s, s->base + s->text.len);
        s->ready = s->text.len;
        s->hit = true;
        return;
    }
    s->ready = s->count ? find_hold(s) : s->text.len;
}

bool stop_feed(struct stop *s, struct span bytes)
{
    if (s->hit)
        return true;
    /* Pieces are at most 4096 bytes, the tail holds 3 more. */
    writer_bytes(&s->tail, bytes);
    take_characters(s, false);
    bool kept = push_end(s, s->base + s->text.len + s->tail.len);
    if (!kept || !writer_ok(&s->text) || !writer_ok(&s->tail)) {
        s->hit = true;
        return true;
    }
    search(s);
    return s->hit;
}

void stop_finish(struct stop *s)
{
    if (s->hit)
        return;
    take_characters(s, true);
    search(s);
    s->ready = s->text.len;
    for (size_t i = 0; i < s->end_count; i++) { /* every token's text is there, whatever became of its bytes */
        uint64_t *end = &s->end[(s->end_first + i) % s->end_cap];
        if (!s->hit && *end > s->base + s->text.len)
            *end = s->base + s->text.len;
    }
}

struct span stop_text(const struct stop *s, size_t most)
{
    struct span text = span_of(s->text.data, s->ready);
    if (text.len > most)
        text.len = most - utf8_tail(span_of(text.data, most));
    return text;
}

void stop_sent(struct stop *s, size_t len)
{
    memmove(s->text.data, s->text.data + len, s->text.len - len);
    secret_wipe(s->text.data + s->text.len - len, len);
    s->text.len -= len;
    s->ready -= len;
    s->base += len;
}
