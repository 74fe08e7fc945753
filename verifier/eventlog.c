#include "verifier/eventlog.h"

#include "verifier/base/reader.h"
#include "verifier/sha.h"

enum {
    NO_ACTION = 3, /* EV_NO_ACTION: a remark, extends nothing */
    ALGORITHMS_MAX = 8,
};
#define END 0xffffffffu

/* What a kind of log measures with, and where. */
static const struct measure {
    uint16_t alg; /* TCG's number */
    size_t len;   /* bytes of a digest */
    uint32_t first, count;
} measures[] = {
    [VERIFIER_LOG_RTMR] = {0x000c, 48, 1, VERIFIER_RTMRS},
    [VERIFIER_LOG_PCR] = {0x000b, 32, 0, VERIFIER_LOG_REGISTERS},
};

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

/* The digests of one record; the measure's own, exactly once. */
static bool take_digest(struct reader *r, const struct algorithms *a, const struct measure *m, const uint8_t **digest)
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
        if (id == m->alg && (*digest || value.len != m->len))
            return false;
        if (id == m->alg)
            *digest = value.data;
    }
    return r->err == READER_OK && *digest != NULL;
}

static void extend(uint8_t reg[48], const uint8_t *digest, size_t len)
{
    uint8_t joined[96];

    memcpy(joined, reg, len);
    memcpy(joined + len, digest, len);
    if (len == 48)
        verifier_sha384(reg, span_of(joined, 2 * len));
    else
        verifier_sha256(reg, span_of(joined, 2 * len));
}

/* A remark may name the locality from which a TPM was started: PCR 0 begins there. */
static void take_remark(struct verifier_event_log *out, uint32_t index, struct span event)
{
    static const char locality[16] = "StartupLocality";

    if (index == 0 && event.len == sizeof locality + 1 && memcmp(event.data, locality, sizeof locality) == 0 &&
        out->events[0] == 0)
        out->reg[0][31] = event.data[sizeof locality];
}

enum verifier_err verifier_event_log_replay(struct verifier_event_log *out, struct span log,
                                            enum verifier_event_log_kind kind)
{
    const struct measure *m = &measures[kind];
    struct reader r = reader_over(log);
    struct algorithms a;

    memset(out, 0, sizeof *out);
    if (!take_first(&r, &a))
        return VERIFIER_E_PARSE;
    while (r.err == READER_OK && r.rest.len > 0) {
        uint32_t index = reader_u32le(&r), type;
        const uint8_t *digest;
        struct span event;

        if (index == END)
            break;
        type = reader_u32le(&r);
        if (!take_digest(&r, &a, m, &digest))
            return VERIFIER_E_PARSE;
        event = reader_span(&r, reader_u32le(&r));
        if (r.err != READER_OK || index < m->first || index - m->first >= m->count)
            return VERIFIER_E_PARSE;
        index -= m->first;
        if (type == NO_ACTION) {
            if (kind == VERIFIER_LOG_PCR)
                take_remark(out, index, event);
            continue;
        }
        extend(out->reg[index], digest, m->len);
        out->events[index]++;
    }
    return r.err == READER_OK ? VERIFIER_OK : VERIFIER_E_PARSE;
}
