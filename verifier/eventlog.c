#include "verifier/eventlog.h"

#include <openssl/sha.h>

#include "verifier/base/reader.h"

enum {
    NO_ACTION = 3, /* EV_NO_ACTION: a remark, extends nothing */
    ALG_SHA384 = 0x000c,
    ALGORITHMS_MAX = 8,
};
#define END 0xffffffffu

struct algorithms {
    size_t count;
    uint16_t id[ALGORITHMS_MAX], len[ALGORITHMS_MAX];
};

/* The first record: in the old form, its event says which digests the others carry. */
static bool take_first(struct reader *r, struct algorithms *a)
{
    uint32_t type;
    struct reader event;

    (void)reader_u32le(r); /* its register: 0 or 1 in the field, extended by nothing */
    type = reader_u32le(r);
    (void)reader_span(r, 20);
    event = reader_over(reader_span(r, reader_u32le(r)));
    if (r->err != READER_OK || type != NO_ACTION ||
        !span_equal(reader_span(&event, 16), span_of("Spec ID Event03", 16)))
        return false;
    (void)reader_span(&event, 8); /* platform class, version, width of a number */
    a->count = reader_u32le(&event);
    if (a->count == 0 || a->count > ALGORITHMS_MAX)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        a->id[i] = reader_u16le(&event);
        a->len[i] = reader_u16le(&event);
    }
    (void)reader_span(&event, reader_u8(&event));
    return reader_end(&event);
}

/* The digests of one record; the SHA-384 one, exactly once. */
static bool take_digest(struct reader *r, const struct algorithms *a, const uint8_t **digest)
{
    uint32_t count = reader_u32le(r);

    *digest = NULL;
    if (count > ALGORITHMS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t id = reader_u16le(r);
        size_t at = 0;
        struct span value;

        while (at < a->count && a->id[at] != id)
            at++;
        if (at == a->count)
            return false;
        value = reader_span(r, a->len[at]);
        if (id == ALG_SHA384 && (*digest || value.len != 48))
            return false;
        if (id == ALG_SHA384)
            *digest = value.data;
    }
    return r->err == READER_OK && *digest != NULL;
}

static void extend(uint8_t reg[48], const uint8_t digest[48])
{
    uint8_t joined[96];

    memcpy(joined, reg, 48);
    memcpy(joined + 48, digest, 48);
    SHA384(joined, sizeof joined, reg);
}

enum verifier_err verifier_event_log_replay(struct verifier_event_log *out, struct span log)
{
    struct reader r = reader_over(log);
    struct algorithms a;

    memset(out, 0, sizeof *out);
    if (!take_first(&r, &a))
        return VERIFIER_E_PARSE;
    while (r.err == READER_OK && r.rest.len > 0) {
        uint32_t index = reader_u32le(&r), type;
        const uint8_t *digest;

        if (index == END)
            break;
        type = reader_u32le(&r);
        if (!take_digest(&r, &a, &digest))
            return VERIFIER_E_PARSE;
        (void)reader_span(&r, reader_u32le(&r));
        if (r.err != READER_OK || index < 1 || index > VERIFIER_RTMRS)
            return VERIFIER_E_PARSE;
        if (type == NO_ACTION)
            continue;
        extend(out->rtmr[index - 1], digest);
        out->events[index - 1]++;
    }
    return r.err == READER_OK ? VERIFIER_OK : VERIFIER_E_PARSE;
}
