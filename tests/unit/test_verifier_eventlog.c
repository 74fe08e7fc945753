/* Does a log lead to the registers that its events make, and is a log of another form refused? */
#include "verifier/eventlog.h"

#include "unit/run.h"
#include "verifier/base/writer.h"
#include "verifier/sha.h"

enum { NO_ACTION = 3, ACTION = 13, ALG_1 = 4, ALG_256 = 0x0b, ALG_384 = 0x0c };

/* What a log says otherwise than a good one; {0} says nothing else. */
static struct flaw {
    const char *name;
    uint32_t first_type;       /* of the record that names the digests */
    const char *signature;     /* 15 letters */
    uint32_t algorithms;       /* how many it announces */
    uint16_t announced_len;    /* of the kind's digest */
    bool vendor, truncated_id; /* a byte behind the event; an event that ends early */
    uint32_t digests;          /* how many an event announces */
    uint16_t other;            /* the second digest's kind */
    bool none;                 /* no digest of the kind */
    uint32_t index;            /* the register, plus 1 */
    size_t cut;                /* bytes off the end */
} flaw;

static void le(struct writer *w, uint32_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        writer_u8(w, (uint8_t)(value >> 8 * i));
}

static uint16_t own(enum verifier_event_log_kind kind)
{
    return kind == VERIFIER_LOG_RTMR ? ALG_384 : ALG_256;
}

static size_t own_len(enum verifier_event_log_kind kind)
{
    return kind == VERIFIER_LOG_RTMR ? 48 : 32;
}

static void put_first(struct writer *w, enum verifier_event_log_kind kind)
{
    static const uint8_t zeros[20];
    struct writer event = writer_with_max(256);
    writer_bytes(&event, span_of(flaw.signature ? flaw.signature : "Spec ID Event03", 16));
    writer_bytes(&event, span_of(zeros, 8));
    le(&event, flaw.algorithms ? flaw.algorithms - 1 : 2, 4);
    le(&event, ALG_1, 2);
    le(&event, 20, 2);
    le(&event, own(kind), 2);
    le(&event, flaw.announced_len ? flaw.announced_len : (uint32_t)own_len(kind), 2);
    for (uint32_t i = 2; i + 1 < flaw.algorithms; i++)
        le(&event, ALG_1, 2), le(&event, 20, 2);
    le(&event, 0, 1); /* nothing of the vendor's */
    if (flaw.vendor)
        le(&event, 0, 1);
    le(w, kind == VERIFIER_LOG_RTMR, 4);
    le(w, flaw.first_type ? flaw.first_type : NO_ACTION, 4);
    writer_bytes(w, span_of(zeros, 20));
    le(w, (uint32_t)event.len - flaw.truncated_id, 4);
    writer_bytes(w, span_of(event.data, event.len - flaw.truncated_id));
    writer_release(&event);
}

static void put_event(struct writer *w, enum verifier_event_log_kind kind, uint32_t index, uint32_t type, uint8_t mark,
                      struct span event)
{
    uint8_t digest[48];
    memset(digest, mark, sizeof digest);
    le(w, index, 4);
    le(w, type, 4);
    le(w, flaw.digests ? flaw.digests : 2, 4);
    le(w, flaw.other ? flaw.other : ALG_1, 2);
    writer_bytes(w, span_of(digest, flaw.other == own(kind) ? own_len(kind) : 20));
    le(w, flaw.none ? ALG_1 : own(kind), 2);
    writer_bytes(w, span_of(digest, flaw.none ? 20 : flaw.announced_len ? flaw.announced_len : own_len(kind)));
    le(w, (uint32_t)event.len, 4);
    writer_bytes(w, event);
}

/* What `count` digests of `mark` make of a register that begins with `start` in its last byte. */
static void expect(const uint8_t reg[48], enum verifier_event_log_kind kind, uint8_t start, const char *marks)
{
    uint8_t joined[96] = {0}, want[48] = {0};
    size_t len = own_len(kind);
    want[len - 1] = start;
    for (; *marks; marks++) {
        memcpy(joined, want, len);
        memset(joined + len, *marks, len);
        if (kind == VERIFIER_LOG_RTMR)
            verifier_sha384(want, span_of(joined, 2 * len));
        else
            verifier_sha256(want, span_of(joined, 2 * len));
    }
    ck_assert_mem_eq(reg, want, len);
}

START_TEST(events_lead_to_registers)
{
    struct verifier_event_log out;
    struct writer w = writer_with_max(4096);
    flaw = (struct flaw){0};
    put_first(&w, VERIFIER_LOG_RTMR);
    put_event(&w, VERIFIER_LOG_RTMR, 1, ACTION, 'a', span_str("firmware"));
    put_event(&w, VERIFIER_LOG_RTMR, 4, ACTION, 'b', span_of(NULL, 0));
    put_event(&w, VERIFIER_LOG_RTMR, 1, NO_ACTION, 'c', span_str("a remark"));
    put_event(&w, VERIFIER_LOG_RTMR, 1, ACTION, 'd', span_str("firmware"));
    ck_assert_int_eq(verifier_event_log_replay(&out, writer_span(&w), VERIFIER_LOG_RTMR), VERIFIER_OK);
    expect(out.reg[0], VERIFIER_LOG_RTMR, 0, "ad");
    expect(out.reg[1], VERIFIER_LOG_RTMR, 0, "");
    expect(out.reg[3], VERIFIER_LOG_RTMR, 0, "b");
    ck_assert(out.events[0] == 2 && out.events[1] == 0 && out.events[2] == 0 && out.events[3] == 1);
    le(&w, UINT32_MAX, 4); /* the end; what is behind fills the table */
    le(&w, 1, 4);
    ck_assert_int_eq(verifier_event_log_replay(&out, writer_span(&w), VERIFIER_LOG_RTMR), VERIFIER_OK);
    ck_assert_uint_eq(out.events[0], 2);
    writer_release(&w);
}
END_TEST

START_TEST(a_tpm_may_start_at_another_locality)
{
    static const uint8_t three[17] = "StartupLocality\0\3", four[17] = "StartupLocality\0\4";
    struct verifier_event_log out;
    struct writer w = writer_with_max(4096);
    flaw = (struct flaw){0};
    put_first(&w, VERIFIER_LOG_PCR);
    put_event(&w, VERIFIER_LOG_PCR, 0, NO_ACTION, 0, span_of(three, 17));
    put_event(&w, VERIFIER_LOG_PCR, 0, ACTION, 'a', span_str("x"));
    put_event(&w, VERIFIER_LOG_PCR, 0, NO_ACTION, 0, span_of(four, 17)); /* too late */
    put_event(&w, VERIFIER_LOG_PCR, 7, NO_ACTION, 0, span_of(four, 17)); /* another register */
    put_event(&w, VERIFIER_LOG_PCR, 7, ACTION, 'b', span_str("x"));
    put_event(&w, VERIFIER_LOG_PCR, 23, ACTION, 'c', span_str("x"));
    ck_assert_int_eq(verifier_event_log_replay(&out, writer_span(&w), VERIFIER_LOG_PCR), VERIFIER_OK);
    expect(out.reg[0], VERIFIER_LOG_PCR, 3, "a");
    expect(out.reg[7], VERIFIER_LOG_PCR, 0, "b");
    expect(out.reg[23], VERIFIER_LOG_PCR, 0, "c");
    writer_release(&w);
}
END_TEST

static const struct flaw flaws[] = {
    {.name = "first record of another type", .first_type = ACTION},
    {.name = "old form", .signature = "Spec ID Event00"},
    {.name = "no digests announced", .algorithms = 1},
    {.name = "nine kinds of digest", .algorithms = 10},
    {.name = "a digest of another length", .announced_len = 20},
    {.name = "a byte behind the first event", .vendor = true},
    {.name = "a first event that ends early", .truncated_id = true},
    {.name = "an event with nine digests", .digests = 9},
    {.name = "an event that counts three digests", .digests = 3},
    {.name = "an event that counts one digest", .digests = 1},
    {.name = "a digest of a kind not announced", .other = 0x12},
    {.name = "the kind's digest twice", .other = UINT16_MAX},
    {.name = "no digest of the kind", .none = true},
    {.name = "a register above", .index = 25},
    {.name = "cut in an event", .cut = 1},
    {.name = "cut before an event", .cut = 5},
};

START_TEST(another_form_is_refused)
{
    for (enum verifier_event_log_kind kind = VERIFIER_LOG_RTMR; kind <= VERIFIER_LOG_PCR; kind++) {
        struct verifier_event_log out;
        struct writer w = writer_with_max(4096);
        flaw = flaws[_i];
        if (flaw.other == UINT16_MAX)
            flaw.other = own(kind);
        put_first(&w, kind);
        put_event(&w, kind, flaw.index ? flaw.index - 1 : 1, ACTION, 'a', span_str("x"));
        ck_assert_msg(verifier_event_log_replay(&out, span_of(w.data, w.len - flaw.cut), kind) == VERIFIER_E_PARSE,
                      "%s, kind %d", flaw.name, (int)kind);
        writer_release(&w);
    }
}
END_TEST

/* Register 0 of a TD's log would be MRTD, which no event extends. */
START_TEST(a_tds_log_begins_at_register_1)
{
    static const uint32_t outside[] = {0, 5, UINT32_MAX - 1};
    for (size_t i = 0; i < 3; i++) {
        struct verifier_event_log out;
        struct writer w = writer_with_max(4096);
        flaw = (struct flaw){0};
        put_first(&w, VERIFIER_LOG_RTMR);
        put_event(&w, VERIFIER_LOG_RTMR, outside[i], ACTION, 'a', span_str("x"));
        ck_assert_int_eq(verifier_event_log_replay(&out, writer_span(&w), VERIFIER_LOG_RTMR), VERIFIER_E_PARSE);
        writer_release(&w);
    }
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, events_lead_to_registers);
    tcase_add_test(t, a_tpm_may_start_at_another_locality);
    tcase_add_loop_test(t, another_form_is_refused, 0, sizeof flaws / sizeof *flaws);
    tcase_add_test(t, a_tds_log_begins_at_register_1);
}

RUN("verifier_eventlog", add_tests)
