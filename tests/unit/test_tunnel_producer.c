/* Does the simulation make reports that the verifier accepts as simulated, and does configfs-tsm give its bytes? */
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tunnel/attest/measure.h"
#include "tunnel/attest/producer.h"
#include "tunnel/attest/tsm.h"
#include "unit/run.h"
#include "verifier/anchors/test.h"
#include "verifier/base/reader.h"
#include "verifier/hw.h"

static void write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
    close(fd);
}

/* Facts of one simulated quote over `report_data`. */
static struct verifier_hw facts(enum verifier_role role, const char *const *names, const char *const *paths,
                                size_t count, const uint8_t report_data[64])
{
    const struct attester_producer *p = attester_producer();
    struct attester_producer_config config = {.role = role, .names = names, .paths = paths, .count = count};
    struct writer quote = writer_with_max(VERIFIER_QUOTE_MAX), chain = writer_with_max(VERIFIER_CHAIN_BYTES_MAX);
    struct writer collateral = writer_with_max(VERIFIER_PART_MAX);
    struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_AMD, .line = "Genoa", .simulated = true};
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    struct verifier_collateral given = {0};
    struct verifier_note note = {0};
    struct verifier_hw hw;
    struct span certs[3];
    uint8_t digest[32];
    char why[256] = "";
    void *ctx = p->open(&config, why);
    struct reader r;
    enum verifier_err err;

    ck_assert_msg(ctx != NULL, "%s", why);
    ck_assert_int_eq(p->quote(ctx, report_data, &quote, &chain, &collateral), 0);
    r = reader_over(writer_span(&chain));
    ck_assert_uint_eq(reader_list(&r, 1, 8), 3);
    for (int i = 0; i < 3; i++)
        certs[i] = reader_bin(&r, 1, VERIFIER_CERT_MAX);
    ck_assert(reader_end(&r));
    r = reader_over(writer_span(&collateral));
    reader_map(&r, 7);
    reader_key(&r, "crls");
    given.crl_count = reader_list(&r, 1, 1);
    given.crls[0] = reader_bin(&r, 1, 100000);
    SHA256(certs[2].data, certs[2].len, digest);
    verifier_anchors_reset();
    err = verifier_hw_verify(&hw, p->tee(ctx), writer_span(&quote), certs, 3, &given, (uint64_t)time(NULL), &rules,
                             &note);
    ck_assert_int_eq(err, VERIFIER_E_UNTRUSTED_ROOT); /* a release refuses it */
    ck_assert(verifier_anchors_inject(digest, &anchor));
    err = verifier_hw_verify(&hw, p->tee(ctx), writer_span(&quote), certs, 3, &given, (uint64_t)time(NULL), &rules,
                             &note);
    ck_assert_msg(err == VERIFIER_OK, "%s: %s", verifier_err_name(err), note.observed);
    p->close(ctx);
    writer_release(&quote);
    writer_release(&chain);
    writer_release(&collateral);
    return hw;
}

START_TEST(simulated_reports_verify_and_say_so)
{
    static const char *const names[] = {"airlock-tunnel", "airlock-engine"};
    static const char *const paths[] = {"/proc/self/exe", "/etc/hostname"};
    uint8_t data[64] = {1, 2, 3}, measurement[48];
    struct verifier_hw e = facts(VERIFIER_ENGINE, names, paths, 2, data);
    struct verifier_hw p = facts(VERIFIER_PROXY, names, paths, 1, data);

    ck_assert(e.simulated);
    ck_assert_str_eq(e.product, "Genoa");
    ck_assert_mem_eq(e.report_data, data, 64);
    ck_assert(attester_measure(names, paths, 2, measurement));
    ck_assert_mem_eq(e.measurement, measurement, 48);
    ck_assert(e.has_chip_id && p.has_chip_id);
    ck_assert(memcmp(e.chip_id, p.chip_id, 64) != 0);
    ck_assert(memcmp(e.measurement, p.measurement, 48) != 0);
}
END_TEST

START_TEST(a_measurement_covers_names_and_bytes_in_any_order)
{
    static const char *const names[] = {"a", "b"}, *const swapped[] = {"b", "a"}, *const twice[] = {"a", "a"};
    static const char *const paths[] = {"/etc/hostname", "/proc/self/exe"}, *const paths_swapped[] = {"/proc/self/exe",
                                                                                                      "/etc/hostname"};
    static const char *const missing[] = {"/nonexistent", "/etc/hostname"};
    uint8_t one[48], two[48];

    ck_assert(attester_measure(names, paths, 2, one));
    ck_assert(attester_measure(swapped, paths_swapped, 2, two));
    ck_assert_mem_eq(one, two, 48);
    ck_assert(attester_measure(names, paths_swapped, 2, two));
    ck_assert(memcmp(one, two, 48) != 0);
    ck_assert(!attester_measure(twice, paths, 2, one));
    ck_assert(!attester_measure(names, missing, 2, one));
    ck_assert(!attester_measure(names, paths, 0, one));
}
END_TEST

/* --- configfs-tsm on a fake tree ------------------------------------------------------------------- */

static char root[] = "/tmp/airlock-tsm-XXXXXX";
static char entry[256];

static void put(const char *name, const void *data, size_t len)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", entry, name);
    write_file(path, data, len);
}

static void make_tree(const char *provider)
{
    strcpy(root, "/tmp/airlock-tsm-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(entry, sizeof entry, "%s/airlock-engine-%ld", root, (long)getpid());
    ck_assert_int_eq(mkdir(entry, 0700), 0);
    put("provider", provider, strlen(provider));
    put("generation", "1\n", 2);
    put("inblob", "", 0);
    put("outblob", "quote", 5);
}

static void remove_tree(void)
{
    static const char *const names[] = {"provider", "generation", "inblob", "outblob", "auxblob"};
    char path[512];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", entry, names[i]);
        unlink(path);
    }
    rmdir(entry);
    rmdir(root);
}

/* A certificate table with VCEK, ASK and ARK of two bytes each, in that order; `n` of them. */
static size_t make_table(uint8_t *out, size_t n)
{
    static const uint8_t guids[3][16] = {
        {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd},
        {0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82},
        {0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}};
    size_t body = (n + 1) * 24;

    memset(out, 0, body);
    for (size_t i = 0; i < n; i++) {
        memcpy(out + i * 24, guids[i], 16);
        out[i * 24 + 16] = (uint8_t)(body + 2 * i);
        out[i * 24 + 20] = 2;
        out[body + 2 * i] = 0x30;
        out[body + 2 * i + 1] = 0;
    }
    return body + 2 * n;
}

static int quote(const char *provider, const uint8_t *aux, size_t aux_len, struct writer *q, struct writer *chain)
{
    struct attester_producer_config config = {.role = VERIFIER_ENGINE, .tsm_root = root};
    struct writer collateral = writer_with_max(1000);
    uint8_t data[64] = {9}, seen[65];
    char why[256] = "", path[512];
    void *ctx;
    int rc, fd;

    make_tree(provider);
    config.tsm_root = root;
    put("auxblob", aux, aux_len);
    ctx = attester_tsm.open(&config, why);
    ck_assert_msg(ctx != NULL, "%s", why);
    rc = attester_tsm.quote(ctx, data, q, chain, &collateral);
    snprintf(path, sizeof path, "%s/inblob", entry);
    fd = open(path, O_RDONLY);
    ck_assert_int_eq(read(fd, seen, sizeof seen), 64);
    ck_assert_mem_eq(seen, data, 64);
    close(fd);
    attester_tsm.close(ctx);
    writer_release(&collateral);
    remove_tree();
    return rc;
}

START_TEST(tsm_gives_the_report_and_the_table_s_chain)
{
    struct writer q = writer_with_max(VERIFIER_QUOTE_MAX), chain = writer_with_max(VERIFIER_CHAIN_BYTES_MAX);
    uint8_t table[256];
    static const char want[] = "\x93\xc4\x02\x30\x00\xc4\x02\x30\x00\xc4\x02\x30\x00";

    ck_assert_int_eq(quote("sev_guest\n", table, make_table(table, 3), &q, &chain), 0);
    ck_assert(span_is(writer_span(&q), "quote"));
    ck_assert(span_equal(writer_span(&chain), span_of(want, sizeof want - 1)));
    writer_release(&q);
    writer_release(&chain);
}
END_TEST

START_TEST(tsm_refuses_a_table_without_the_whole_chain)
{
    struct writer q = writer_with_max(VERIFIER_QUOTE_MAX), chain = writer_with_max(VERIFIER_CHAIN_BYTES_MAX);
    uint8_t table[256];
    size_t len;

    ck_assert_int_eq(quote("sev_guest\n", table, make_table(table, 2), &q, &chain), -1);
    ck_assert_int_eq(quote("sev_guest\n", table, 0, &q, &chain), -1);
    len = make_table(table, 3);
    ck_assert(!attester_tsm_chain(span_of(table, len - 1), &chain)); /* the last one ends outside */
    table[16] = 0xff;
    table[19] = 0xff; /* an offset far outside */
    ck_assert(!attester_tsm_chain(span_of(table, len), &chain));
    writer_release(&q);
    writer_release(&chain);
}
END_TEST

START_TEST(tsm_names_what_is_missing)
{
    struct attester_producer_config config = {.role = VERIFIER_ENGINE, .tsm_root = "/nonexistent"};
    char why[256] = "";

    ck_assert_ptr_null(attester_tsm.open(&config, why));
    ck_assert_ptr_nonnull(strstr(why, "configfs"));
    make_tree("arm_cca_guest\n");
    config.tsm_root = root;
    ck_assert_ptr_null(attester_tsm.open(&config, why));
    remove_tree();
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, simulated_reports_verify_and_say_so);
    tcase_add_test(t, a_measurement_covers_names_and_bytes_in_any_order);
    tcase_add_test(t, tsm_gives_the_report_and_the_table_s_chain);
    tcase_add_test(t, tsm_refuses_a_table_without_the_whole_chain);
    tcase_add_test(t, tsm_names_what_is_missing);
}

RUN("tunnel_producer", add_tests)
