/* `airlock verify` on kept evidence, and `--init`: are the exit codes 0, 1 and 2 what they say, is what was only
 * observed marked as that, and does a file made from a node accept that node and no other? */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/acceptance.h"
#include "proxy/cli/evidence.h"
#include "proxy/cli/files.h"
#include "proxy/cli/verify_init.h"
#include "unit/cli_words.h"
#include "unit/world.h"
#include "verifier/bundle.h"
#include "verifier/signed.h"

static struct world w;
static char base[64];

static void ends(int want, const char *words)
{
    int code = run(words);
    ck_assert_msg(code == want, "%s: %d: %s", words, code, content("err"));
}

static void says(const char *path, const char *text)
{
    ck_assert_msg(strstr(content(path), text) != NULL, "%s does not say %s: %s", path, text, content(path));
}

/* What a client keeps of the world's proxy and its engines. */
static struct attest_record keep(void)
{
    struct attest_record r = attest_record_empty();
    struct world_session s;
    world_session(&s, VERIFIER_CLIENT, &w.proxy, 1, 8);
    world_envelope(&w, &w.proxy, &s, NULL, &r.envelope);
    writer_bytes(&r.challenge, span_of(s.challenge, s.challenge_len));
    writer_bytes(&r.spki, span_of(s.spki, sizeof s.spki));
    memcpy(r.exporter, s.exporter, sizeof r.exporter);
    r.session = (struct airlock_session){.tls13 = true, .finished = true};
    r.now = w.now;
    return r;
}

static void setup(void)
{
    world_open(&w);
    strcpy(base, "/tmp/cli-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert_int_eq(chdir(base), 0);
    struct attest_record r = keep();
    ck_assert(evidence_save("kept", &r) && evidence_save("folder/", &r));
    r.envelope.data[r.envelope.len / 2] ^= 1;
    ck_assert(evidence_save("changed", &r));
    attest_record_release(&r);
}

static void teardown(void)
{
    char command[128];
    ck_assert_int_eq(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", base);
    ck_assert_int_eq(system(command), 0);
    world_close(&w);
}

START_TEST(a_file_made_from_a_node_accepts_it)
{
    static struct policy_rules rules;
    struct policy_problem why;
    ends(0, "verify --init acceptance kept --simulated");
    ck_assert_msg(policy_acceptance_parse(span_str(content("acceptance")), &rules, &why), "%d %s %s", why.line,
                  why.path, why.text);
    ck_assert_uint_eq(rules.policy_min, 7);
    ck_assert_uint_eq(rules.hardware.chip_count, 2);
    ck_assert_uint_eq(rules.engine.count, 1); /* two engines, one measurement */
    says("acceptance", "# observed, not verified");
    says("acceptance", "observed: simulated evidence, which proves nothing");
    ends(0, "verify kept --acceptance acceptance");
    says("out", "ACCEPTED until");
    says("out", "SIMULATED");
    ends(0, "verify folder --acceptance acceptance --json");
    says("out", "\"ok\": true");
    ends(0, "verify folder/ --acceptance acceptance");
    ends(0, "verify --init again folder --simulated");
    ends(0, "verify folder --acceptance acceptance --save copy");
    ends(0, "verify copy --acceptance acceptance");
    ends(0, "verify --init - kept --simulated");
    says("out", "owners = [");
}
END_TEST

START_TEST(each_exit_code)
{
    ends(0, "verify --init acceptance kept --simulated");
    ends(1, "verify changed --acceptance acceptance");
    says("out", "REFUSED at stage");
    ends(1, "verify changed --acceptance acceptance --json");
    says("out", "\"ok\": false");
    ends(2, "verify missing --acceptance acceptance"); /* no file, no URL */
    says("err", "neither a file");
    ends(2, "verify kept --acceptance missing");
    ends(2, "verify kept --acceptance kept"); /* no rules */
    ends(2, "verify kept");
    ends(2, "verify kept --acceptance acceptance --release x --publisher y");
    ends(2, "verify kept kept --acceptance acceptance");
    ends(2, "verify out --acceptance acceptance"); /* no evidence */
    ck_assert_int_eq(unlink("folder/exporter"), 0);
    ends(2, "verify folder --acceptance acceptance");
    ends(0, "verify --help");
    ends(2, "verify --init acceptance kept --simulated"); /* never over an old one */
    says("err", "exists already");
    ends(2, "verify --init");
    ends(2, "verify --init new");
    ends(2, "verify --init new kept --json");
    ends(2, "verify --init new kept --release r");
    ends(1, "verify --init new changed");
    says("err", "does not hold");
    ck_assert_int_ne(access("new", F_OK), 0);
}
END_TEST

START_TEST(simulated_evidence_is_not_accepted_unasked)
{
    ends(0, "verify --init acceptance kept");
    ends(1, "verify kept --acceptance acceptance --json");
    says("out", "\"code\": \"simulated\"");
}
END_TEST

START_TEST(a_bundle_is_used_and_a_broken_one_refused)
{
    struct verifier_collateral *none = calloc(1, sizeof *none);
    struct writer part = writer_with_max(1000), file = writer_with_max(2000);
    verifier_collateral_encode(&part, none);
    verifier_bundle_encode(&file, &(struct verifier_bundle){.until = 1, .collateral = writer_span(&part)});
    ck_assert(cli_write("bundle", writer_span(&file), 0644, true));
    ends(0, "verify --init acceptance kept --simulated --collateral bundle");
    ends(0, "verify kept --acceptance acceptance --collateral bundle");
    ends(2, "verify kept --acceptance acceptance --collateral kept");
    says("err", "not a collateral bundle");
    ends(2, "verify --init other kept --collateral kept");
    writer_release(&part);
    writer_release(&file);
    free(none);
}
END_TEST

/* A publisher's release of the images given, signed by the world's stranger; its key in the file `publisher`. */
static void publish(bool with_engine)
{
    struct policy_release r = {.version = span_str("1.2.3"), .image_count = with_engine ? 2 : 1};
    struct writer body = writer_with_max(4096), object = writer_with_max(8192);
    char hex[65];
    r.image[0].role = VERIFIER_PROXY;
    r.image[1].role = VERIFIER_ENGINE;
    memcpy(r.image[0].measurement, w.proxy.measurement, 48);
    memcpy(r.image[1].measurement, w.engine[0].measurement, 48);
    policy_release_encode(&body, &r);
    ck_assert(verifier_signed_make(&object, VERIFIER_SIGNED_RELEASE, writer_span(&body), w.stranger.seed));
    ck_assert(cli_write("release", writer_span(&object), 0644, false));
    policy_hex_print(span_of(w.stranger.public, 32), hex);
    ck_assert(cli_write("publisher", span_str(hex), 0644, false));
    writer_release(&body);
    writer_release(&object);
}

START_TEST(programs_come_from_a_signed_release)
{
    char words[256], hex[65];
    publish(true);
    ends(0, "verify --init acceptance kept --release release --publisher publisher --simulated");
    says("acceptance", "release 1.2.3, signed by the publisher");
    const char *programs = strstr(content("acceptance"), "programs = {"), *hardware = strstr(programs, "\nhardware");
    ck_assert_ptr_nonnull(hardware);
    ck_assert_ptr_null(memmem(programs, (size_t)(hardware - programs), "observed", 8));
    ends(0, "verify kept --acceptance acceptance");

    ends(0, "verify --init empty --release release --publisher publisher"); /* nobody was asked */
    says("empty", "FILL IN");
    ends(2, "verify kept --acceptance empty");

    policy_hex_print(span_of(w.keyd.public, 32), hex);
    snprintf(words, sizeof words, "verify --init other kept --release release --publisher %s", hex);
    ends(1, words);
    says("err", "signed_key");

    publish(false);
    ends(0, "verify --init part kept --release release --publisher publisher --simulated");
    says("part", "observed and NOT in the release, so not accepted");
    says("part", "FILL IN");
    ends(2, "verify kept --acceptance part");
}
END_TEST

/* Milan and what nobody has heard of are told, never accepted; guests behind a virtual TPM are pinned by registers. */
START_TEST(lines_that_must_be_named_are_not_written)
{
    static const char *const products[] = {"Milan", "Zorn", "Turin"};
    static struct policy_rules rules;
    struct policy_problem why;
    struct world_session s;
    struct verifier_claims *claims;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX), text = writer_with_max(65536);
    world_session(&s, VERIFIER_CLIENT, &w.proxy, 1, 8);
    world_envelope(&w, &w.proxy, &s, NULL, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    ck_assert_int_eq(world_judge(&w, &in, NULL, &claims).refusal.code, VERIFIER_OK);
    for (size_t i = 0; i < 3; i++) {
        writer_reset(&text);
        for (size_t k = 0; k < 3; k++)
            strcpy(k ? claims->engine[k - 1].node.hw.product : claims->node.hw.product, products[i]);
        claims->node.hw.tee = VERIFIER_TEE_AZURE;
        claims->node.hw.vtpm.present = 1u << 4 | 1u << 5;
        verify_init_write(&(struct verify_init){.claims = claims, .source = "here", .simulated = true}, &text);
        ck_assert(writer_ok(&text));
        writer_u8(&text, 0);
        text.len--;
        bool parsed = policy_acceptance_parse(writer_span(&text), &rules, &why);
        ck_assert_msg(parsed == (i == 2), "%s: %s", products[i], why.text);
        ck_assert((strstr((const char *)text.data, "observed and NOT accepted unless you name it") != NULL) == (i < 2));
    }
    ck_assert_uint_eq(rules.proxy.measurement[0].pcrs, 1u << 4);
    verifier_claims_free(claims);
    writer_release(&envelope);
    writer_release(&text);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_file_made_from_a_node_accepts_it);
    tcase_add_test(t, each_exit_code);
    tcase_add_test(t, simulated_evidence_is_not_accepted_unasked);
    tcase_add_test(t, a_bundle_is_used_and_a_broken_one_refused);
    tcase_add_test(t, programs_come_from_a_signed_release);
    tcase_add_test(t, lines_that_must_be_named_are_not_written);
}

RUN("cli_verify", add_tests)
