/* Is a PCK certificate's extension read whole, and one that says less, more, twice or otherwise refused? */
#include "verifier/pck.h"

#include "unit/run.h"
#include "verifier/base/writer.h"

static const uint8_t base[] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};
static const uint8_t octets[17] = {0xa1, 2, 3, 4, 5, 6};

enum { SEQUENCE = 0x30, OID = 6, INTEGER = 2, OCTETS = 4, BOOLEAN = 1, ENUMERATED = 10 };

/* What one extension does wrong. */
static struct flaw {
    const char *name;
    unsigned without, twice;         /* a part */
    unsigned tcb_without, tcb_twice; /* an entry of the TCB */
    unsigned tcb_extra;
    uint32_t component, pcesvn;
    int fmspc_len, cpusvn_len; /* more or less */
    unsigned configuration[2]; /* numbers of its entries, 0: none */
    uint8_t truth;             /* how it says true */
    unsigned other;            /* this part stands under another OID */
    unsigned extra;            /* a part that no profile has so far */
    bool behind, tcb_integer, configuration_integer;
} flaw;

static void put(struct writer *w, uint8_t tag, struct span content)
{
    writer_u8(w, tag);
    if (content.len >= 128) {
        writer_u8(w, 0x82);
        writer_u8(w, (uint8_t)(content.len >> 8));
    }
    writer_u8(w, (uint8_t)content.len);
    writer_bytes(w, content);
}

/* {OID, value} for one number, or two. */
static void put_entry(struct writer *w, unsigned first, unsigned second, uint8_t tag, struct span value)
{
    struct writer entry = writer_with_max(4096);
    uint8_t oid[11];
    memcpy(oid, base, sizeof base);
    oid[9] = (uint8_t)first;
    oid[10] = (uint8_t)second;
    if (!second && flaw.other == first)
        oid[8]++;
    put(&entry, OID, span_of(oid, second ? 11 : 10));
    put(&entry, tag, value);
    put(w, SEQUENCE, writer_span(&entry));
    writer_release(&entry);
}

static void put_number(struct writer *w, unsigned n, uint32_t value)
{
    uint8_t bytes[4] = {0, (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    size_t skip = value >= 0x800000 ? 0 : value >= 0x8000 ? 1 : value >= 0x80 ? 2 : 3;
    put_entry(w, 2, n, INTEGER, span_of(bytes + skip, 4 - skip));
}

static void put_tcb_entry(struct writer *w, unsigned n)
{
    if (n == 18)
        put_entry(w, 2, 18, OCTETS, span_of(octets, (size_t)(16 + flaw.cpusvn_len)));
    else
        put_number(w, n, n == 17 ? flaw.pcesvn : n == 3 ? flaw.component : n);
}

static void put_tcb(struct writer *w)
{
    struct writer list = writer_with_max(4096);
    for (unsigned n = 1; n <= 18; n++) {
        if (n != flaw.tcb_without)
            put_tcb_entry(&list, n);
        if (n == flaw.tcb_twice)
            put_tcb_entry(&list, n);
    }
    if (flaw.tcb_extra)
        put_number(&list, flaw.tcb_extra, 1);
    put_entry(w, 2, 0, flaw.tcb_integer ? INTEGER : SEQUENCE, writer_span(&list));
    writer_release(&list);
}

static void put_configuration(struct writer *w)
{
    struct writer list = writer_with_max(4096);
    for (size_t i = 0; i < 2; i++)
        if (flaw.configuration[i])
            put_entry(&list, 7, flaw.configuration[i], BOOLEAN, span_of(&flaw.truth, 1));
    put_entry(w, 7, 0, flaw.configuration_integer ? INTEGER : SEQUENCE, writer_span(&list));
    writer_release(&list);
}

static void put_part(struct writer *w, unsigned n)
{
    static const uint8_t standard = 1;
    static const size_t len[] = {[1] = 16, [3] = 2, [4] = 6, [6] = 16};
    if (n == 2)
        put_tcb(w);
    else if (n == 5)
        put_entry(w, 5, 0, ENUMERATED, span_of(&standard, 1));
    else if (n == 7)
        put_configuration(w);
    else
        put_entry(w, n, 0, OCTETS, span_of(octets, len[n] + (size_t)(n == 4 ? flaw.fmspc_len : 0)));
}

static enum verifier_err parse(struct verifier_pck *out, const struct flaw *f)
{
    struct writer list = writer_with_max(8192), whole = writer_with_max(8192);
    flaw = *f;
    for (unsigned n = 1; n <= 7; n++) {
        if (n != flaw.without)
            put_part(&list, n);
        if (n == flaw.twice)
            put_part(&list, n);
    }
    if (flaw.extra)
        put_entry(&list, flaw.extra, 0, OCTETS, span_of(octets, 3));
    put(&whole, SEQUENCE, writer_span(&list));
    if (flaw.behind)
        writer_u8(&whole, 0);
    enum verifier_err err = verifier_pck_parse(out, writer_span(&whole));
    for (size_t len = 0; len + flaw.behind < whole.len; len++) { /* cut anywhere, it is none */
        struct verifier_pck cut;
        ck_assert_int_eq(verifier_pck_parse(&cut, span_of(whole.data, len)), VERIFIER_E_PARSE);
    }
    writer_release(&list);
    writer_release(&whole);
    return err;
}

#define GOOD .component = 255, .pcesvn = 65535, .configuration = {1, 3}, .truth = 0xff

START_TEST(an_extension_is_read_whole)
{
    const struct flaw none = {GOOD}, plain = {GOOD, .without = 7}, later = {GOOD, .extra = 31};
    struct verifier_pck p;
    ck_assert_int_eq(parse(&p, &none), VERIFIER_OK);
    ck_assert_mem_eq(p.ppid, octets, 16);
    ck_assert_mem_eq(p.fmspc, octets, 6);
    ck_assert_mem_eq(p.pceid, octets, 2);
    ck_assert_mem_eq(p.cpusvn, octets, 16);
    ck_assert(p.component[0] == 1 && p.component[2] == 255 && p.component[15] == 16 && p.pcesvn == 65535);
    ck_assert(p.sgx_type == 1 && p.has_instance && p.has_configuration);
    ck_assert(p.dynamic_platform && !p.cached_keys && p.smt);
    ck_assert_int_eq(parse(&p, &plain), VERIFIER_OK);
    ck_assert(!p.has_configuration && !p.dynamic_platform && p.has_instance);
    ck_assert_int_eq(parse(&p, &later), VERIFIER_OK);
}
END_TEST

static const struct flaw flaws[] = {
    {GOOD, .name = "no PPID", .without = 1},
    {GOOD, .name = "no TCB", .without = 2},
    {GOOD, .name = "no PCE-ID", .without = 3},
    {GOOD, .name = "no FMSPC", .without = 4},
    {GOOD, .name = "no SGX type", .without = 5},
    {GOOD, .name = "two FMSPCs", .twice = 4},
    {GOOD, .name = "two TCBs", .twice = 2},
    {GOOD, .name = "two configurations", .twice = 7},
    {GOOD, .name = "a longer FMSPC", .fmspc_len = 1},
    {GOOD, .name = "a shorter FMSPC", .fmspc_len = -1},
    {GOOD, .name = "another OID", .other = 6},
    {GOOD, .name = "a part 32", .extra = 32},
    {GOOD, .name = "a component missing", .tcb_without = 16},
    {GOOD, .name = "no PCESVN", .tcb_without = 17},
    {GOOD, .name = "no CPUSVN", .tcb_without = 18},
    {GOOD, .name = "a component twice", .tcb_twice = 3},
    {GOOD, .name = "a CPUSVN twice", .tcb_twice = 18},
    {GOOD, .name = "a component 19", .tcb_extra = 19},
    {GOOD, .name = "a longer CPUSVN", .cpusvn_len = 1},
    {GOOD, .name = "a TCB that is no list", .tcb_integer = true},
    {GOOD, .name = "a configuration that is no list", .configuration_integer = true},
    {.component = 256, .pcesvn = 1, .name = "a component above a byte"},
    {.component = 1, .pcesvn = 65536, .name = "a PCESVN above two bytes"},
    {.configuration = {1, 1}, .truth = 0xff, .name = "an entry of the configuration twice"},
    {.configuration = {4, 0}, .truth = 0xff, .name = "a fourth entry of the configuration"},
    {.configuration = {1, 0}, .truth = 1, .name = "true that is not ff"},
    {GOOD, .name = "a byte behind", .behind = true},
};

START_TEST(anything_else_is_refused)
{
    struct verifier_pck p;
    ck_assert_msg(parse(&p, &flaws[_i]) == VERIFIER_E_PARSE, "%s", flaws[_i].name);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, an_extension_is_read_whole);
    tcase_add_loop_test(t, anything_else_is_refused, 0, sizeof flaws / sizeof *flaws);
}

RUN("verifier_pck", add_tests)
