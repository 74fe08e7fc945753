/* Accelerators on the whole way: an engine whose envelope carries GPUs' reports over the nonce of its own tree, their
 * chains, reference files and the vendor's answers, made under test roots; checked and judged as in the field. Each
 * flaw beside its good twin. What a single report can be wrong in: the synthetic vectors. */
#include <openssl/ocsp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "simulated_root.h"
#include "unit/run.h"
#include "unit/world.h"
#include "vectors/forge_nvidia.h"
#include "verifier/anchors/test.h"
#include "verifier/leaf.h"

#define DAY 86400

/* The forge keeps its keys and certificates until the end (forge.h): a leak check would find nothing else. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

#define DEVICES 2

static struct world w;
static struct writer report[DEVICES], chain[DEVICES], rim[3], answer[8], collateral;
static size_t count;
static struct span reports[DEVICES];
static X509 *certs[DEVICES][5];

/* --- evidence --------------------------------------------------------------------------------------------------- */

static void anchor(X509 *root, enum verifier_anchor_kind kind)
{
    struct verifier_anchor a = {.kind = kind};
    struct span der = forge_der(root);
    uint8_t digest[32];
    SHA256(der.data, der.len, digest);
    ck_assert(verifier_anchors_inject(digest, &a));
}

/* Device `i`: a GPU of this number, or a switch; for the nonce of the engine's device tree. */
static void make_device(size_t i, const char *chip, const char *ueid, struct span flag, struct span switches)
{
    struct forge_nv_device d = forge_nv_device(chip);
    struct forge_nv_chain c;
    struct verifier_certs list = {.count = 5};
    if (flag.len > 0)
        d.flag = flag;
    if (switches.len > 0)
        d.switches = switches;
    forge_nv_chain_plan(&c, &d);
    c.spec[0].serial_text = ueid;
    forge_nv_chain_make(&c);
    for (size_t k = 0; k < 5; k++) {
        certs[i][k] = c.x[k];
        list.cert[k] = forge_der(c.x[k]);
    }
    chain[i] = writer_with_max(VERIFIER_DEVICE_CHAIN_MAX);
    verifier_certs_encode(&chain[i], &list);
    report[i] = writer_with_max(VERIFIER_DEVICE_REPORT_MAX);
    forge_nv_report(&report[i], &d);
    ck_assert(writer_ok(&report[i]) && writer_ok(&chain[i]));
    reports[i] = writer_span(&report[i]);
}

/* The state names what was made. */
static void bind(void)
{
    struct verifier_state *s = &w.engine[0].state;
    uint8_t items[DEVICES][64];
    for (size_t i = 0; i < count; i++)
        verifier_device_item(items[i], reports[i], writer_span(&chain[i]));
    s->devices.count = (uint32_t)count;
    verifier_devices_digest(s->devices.digest, (const uint8_t(*)[64])items, count);
}

/* Another device in that place. */
static void remake(size_t i, const char *chip, const char *ueid, struct span flag, struct span switches)
{
    writer_release(&report[i]);
    writer_release(&chain[i]);
    make_device(i, chip, ueid, flag, switches);
    bind();
}

/* The responder is the issuer itself; `from` and `to` in days from now. */
static struct span status(size_t at, X509 *subject, X509 *issuer, EVP_PKEY *by, int state, int from, int to)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    ASN1_TIME *a = ASN1_TIME_adj(NULL, (time_t)w.now, from, 0), *b = ASN1_TIME_adj(NULL, (time_t)w.now, to, 0);
    ASN1_TIME *gone = state == V_OCSP_CERTSTATUS_REVOKED ? ASN1_TIME_adj(NULL, (time_t)w.now, -1, 0) : NULL;
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha256(), subject, issuer);
    uint8_t *der = NULL;
    ck_assert_ptr_nonnull(OCSP_basic_add1_status(basic, id, state, 0, gone, a, b));
    ck_assert_int_eq(OCSP_basic_sign(basic, issuer, by, EVP_sha384(), NULL, 0), 1);
    OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    int len = i2d_OCSP_RESPONSE(r, &der);
    answer[at] = writer_with_max(8192);
    writer_bytes(&answer[at], span_of(der, (size_t)len));
    OPENSSL_free(der);
    OCSP_RESPONSE_free(r);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(a);
    ASN1_TIME_free(b);
    ASN1_TIME_free(gone);
    return writer_span(&answer[at]);
}

/* What the collateral answers for: certificates of the first GPU above its leaf, and of the reference files. Chains of
 * one device kind share them. */
struct answers {
    bool none;     /* about nothing */
    bool no_rim;   /* not about reference files */
    int rim_state; /* V_OCSP_CERTSTATUS_* of the signer */
    int from, to;  /* days */
};
static struct answers answers;

static void make_collateral(struct verifier_collateral *all)
{
    size_t n = 0;
    for (all->rim_count = 0; all->rim_count < 3 && rim[all->rim_count].len > 0; all->rim_count++)
        all->rims[all->rim_count] = writer_span(&rim[all->rim_count]);
    if (!answers.none) {
        EVP_PKEY *const keys[] = {forge_nv.ica_key, forge_nv.identity_key, forge_nv.device_root_key};
        for (size_t k = 1; k < 4; k++, n++)
            all->ocsp[n] =
                status(n, certs[0][k], certs[0][k + 1], keys[k - 1], V_OCSP_CERTSTATUS_GOOD, answers.from, answers.to);
        if (!answers.no_rim) {
            X509 *const rims[] = {forge_nv.rim_signer, forge_nv.rim_l3, forge_nv.rim_ca, forge_nv.rim_root};
            EVP_PKEY *const signers[] = {forge_nv.rim_l3_key, forge_nv.rim_ca_key, forge_nv.rim_root_key};
            for (size_t k = 0; k < 3; k++, n++)
                all->ocsp[n] = status(n, rims[k], rims[k + 1], signers[k], k == 0 ? answers.rim_state : 0, -1, 3);
        }
    }
    all->ocsp_count = n;
}

/* Into the envelope: devices, and what belongs to them beside what the processor's evidence brought. */
static void add(struct world *unused, struct verifier_envelope *e)
{
    static struct verifier_collateral all;
    (void)unused;
    ck_assert_int_eq(verifier_collateral_parse(&all, e->collateral.bytes), VERIFIER_OK);
    make_collateral(&all);
    collateral = writer_with_max(VERIFIER_PART_MAX);
    verifier_collateral_encode(&collateral, &all);
    ck_assert(writer_ok(&collateral));
    e->collateral.bytes = writer_span(&collateral);
    e->device_count = count;
    for (size_t i = 0; i < count; i++)
        e->devices[i] = (struct verifier_device_part){
            .report = reports[i], .chain = {.form = VERIFIER_PART_BYTES, .bytes = writer_span(&chain[i])}};
}

static struct policy_verdict ask(void)
{
    struct world_session s;
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    world_session(&s, VERIFIER_PROXY, &w.engine[0], 1, 0);
    world_envelope(&w, &w.engine[0], &s, add, &envelope);
    struct verifier_input in = world_input(&w, &s, writer_span(&envelope));
    struct policy_verdict v = world_judge(&w, &in, NULL, NULL);
    writer_release(&envelope);
    writer_release(&collateral);
    for (size_t i = 0; i < sizeof answer / sizeof *answer; i++)
        writer_release(&answer[i]);
    return v;
}

static void ends(int stage, enum verifier_err code, const char *what)
{
    struct policy_verdict v = ask();
    ck_assert_msg(v.refusal.code == code && v.refusal.stage == stage, "%s: %s at stage %d: %s / %s", what,
                  verifier_err_name(v.refusal.code), v.refusal.stage, v.refusal.note.observed, v.refusal.note.required);
}

static const struct span none;

static void open_world(void)
{
    static bool made;
    struct verifier_state *s;
    if (!made) {
        forge_init();
        forge_nv_open("2090-01-01T00:00:00Z");
        made = true;
    }
    world_open(&w);
    anchor(forge_nv.device_root, VERIFIER_ANCHOR_NVIDIA_DEVICE);
    anchor(forge_nv.rim_root, VERIFIER_ANCHOR_NVIDIA_RIM);
    s = &w.engine[0].state;
    s->has_devices = true;
    s->cc = VERIFIER_CC_ON;
    s->devices.tree_size = 3;
    memset(s->devices.tree_root, 0x7e, 64);
    s->devices.at = s->at;
    verifier_device_nonce(forge_nv.nonce, 3, s->devices.tree_root);
    make_device(0, "GH100", "53C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F11", none, none);
    make_device(1, "GH100", "53C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F12", none, none);
    count = 2;
    bind();
    struct forge_nv_rim driver = forge_nv_rim("570.10.01", "GH100", "1 2 3 9"),
                        vbios = forge_nv_rim("96.00.9F.00.01", "GH100", "4 5 6");
    rim[0] = rim[1] = writer_with_max(VERIFIER_PART_MAX);
    forge_nv_rim_write(&rim[0], &driver);
    forge_nv_rim_write(&rim[1], &vbios);
    answers = (struct answers){.from = -1, .to = 3};
    struct policy_gpus *g = &w.rules.gpus;
    *g = (struct policy_gpus){.min = 2, .max = 2, .driver_count = 1, .vbios_count = 1};
    strcpy(g->driver[0], "570.10.01");
    strcpy(g->vbios[0], "96.00.9F.00.01");
}

static void close_world(void)
{
    struct writer *all[] = {&report[0], &report[1], &chain[0], &chain[1], &rim[0], &rim[1], &rim[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        writer_release(all[i]);
    world_close(&w);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

START_TEST(two_gpus_pass)
{
    ends(0, VERIFIER_OK, "two GPUs");
}
END_TEST

START_TEST(evidence_is_of_this_node_and_of_now)
{
    struct verifier_state *s = &w.engine[0].state;
    struct writer other = writer_with_max(VERIFIER_DEVICE_REPORT_MAX);
    struct forge_nv_device d = forge_nv_device("GH100");
    s->devices.tree_root[0] ^= 1;
    ends(7, VERIFIER_E_NONCE_MISMATCH, "collected for another tree");
    s->devices.tree_root[0] ^= 1;
    ends(0, VERIFIER_OK, "its own tree");

    d.blocks = 39; /* genuine, over our nonce, but not the one that the state names */
    forge_nv_report(&other, &d);
    reports[0] = writer_span(&other);
    ends(7, VERIFIER_E_DEVICES_DIGEST, "another report");
    reports[0] = writer_span(&report[0]);
    s->devices.digest[0] ^= 1;
    ends(7, VERIFIER_E_DEVICES_DIGEST, "another digest");
    s->devices.digest[0] ^= 1;
    report[0].data[report[0].len - 1] ^= 1;
    ends(7, VERIFIER_E_BAD_SIGNATURE, "signature");
    report[0].data[report[0].len - 1] ^= 1;
    ends(0, VERIFIER_OK, "as it was");
    writer_release(&other);
}
END_TEST

START_TEST(each_device_counts_once)
{
    struct verifier_state *s = &w.engine[0].state;
    count = 1;
    ends(7, VERIFIER_E_DEVICES_COUNT, "one left out");
    count = 0;
    ends(7, VERIFIER_E_DEVICES_MISSING, "all left out");
    count = 2;
    s->devices.count = 3;
    ends(7, VERIFIER_E_DEVICES_COUNT, "one more stated");
    s->devices.count = 2;
    remake(1, "GH100", "53C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F11", none, none);
    ends(7, VERIFIER_E_DEVICES_DUPLICATE, "the same device twice");
    w.rules.gpus.min = w.rules.gpus.max = 1;
    count = 1;
    bind();
    ends(0, VERIFIER_OK, "one alone");
    w.rules.gpus.min = 2;
    ends(11, VERIFIER_E_DEVICES_NOT_ACCEPTED, "fewer than wanted");
}
END_TEST

START_TEST(the_vendor_has_to_answer)
{
    struct policy_gpus *g = &w.rules.gpus;
    answers.none = true;
    ends(11, VERIFIER_E_OCSP_MISSING, "no answers");
    g->ocsp_optional = true;
    ends(11, VERIFIER_E_RIM_OCSP_MISSING, "no answers about reference files");
    g->rim_ocsp_optional = true;
    ends(0, VERIFIER_OK, "nobody has to");
    g->ocsp_optional = g->rim_ocsp_optional = answers.none = false;
    answers.no_rim = true;
    ends(11, VERIFIER_E_RIM_OCSP_MISSING, "answers about devices alone");
    answers.no_rim = false;
    answers.rim_state = V_OCSP_CERTSTATUS_REVOKED;
    ends(7, VERIFIER_E_RIM_CERT_REVOKED, "revoked signer");
    g->rim_ocsp_optional = true;
    ends(7, VERIFIER_E_RIM_CERT_REVOKED, "revoked signer, whatever the rules say");
    answers.rim_state = V_OCSP_CERTSTATUS_GOOD;
    answers.from = -3;
    answers.to = -1;
    ends(7, VERIFIER_E_OCSP_EXPIRED, "stale answers");
}
END_TEST

START_TEST(old_answers_are_too_old)
{
    w.rules.collateral_age = 2 * DAY;
    ends(0, VERIFIER_OK, "of yesterday");
    answers.from = -3;
    ends(11, VERIFIER_E_COLLATERAL_TOO_OLD, "of three days ago");
}
END_TEST

START_TEST(reference_files_speak_of_what_runs)
{
    struct forge_nv_rim other = forge_nv_rim("570.10.02", "GH100", "1 2"),
                        twice = forge_nv_rim("570.10.01", "GH100", "1 5");
    writer_reset(&rim[0]);
    forge_nv_rim_write(&rim[0], &other);
    answers.none = true;
    w.rules.gpus.ocsp_optional = w.rules.gpus.rim_ocsp_optional = true;
    ends(7, VERIFIER_E_RIM_MISSING, "another version");
    writer_reset(&rim[0]);
    forge_nv_rim_write(&rim[0], &twice);
    ends(7, VERIFIER_E_RIM_INDEX_CONFLICT, "one measurement in both");
}
END_TEST

START_TEST(a_fabric_is_whole)
{
    static const uint8_t ppcie[] = {2, 0}, one[] = {0x74, 0x72, 0xe8, 0xe5, 0x0f, 0x48, 0x1d, 0x43};
    struct verifier_state *s = &w.engine[0].state;
    struct policy_gpus *g = &w.rules.gpus;
    s->cc = VERIFIER_CC_PPCIE;
    ends(8, VERIFIER_E_CC_MISMATCH, "a mode that no GPU signs");
    remake(1, "GH100", "53C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F12", span_of(ppcie, 2), span_of(one, 8));
    ends(7, VERIFIER_E_FEATURE_FLAG_MISMATCH, "two modes");
    count = 1;
    remake(0, "GH100", "53C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F11", span_of(ppcie, 2), span_of(one, 8));
    ends(7, VERIFIER_E_FABRIC_MISMATCH, "behind a switch that proved nothing");
    count = 2; /* with the switch, whose own id stands the other way round */
    remake(1, "LS_10", "63C1A7A9ED0B6EE0C25AE1A1E2E7F0A9D0A35F11", none, none);
    ends(7, VERIFIER_E_RIM_MISSING, "a switch without a reference file");
    struct forge_nv_rim bios = forge_nv_rim("96.10.55.00.01", "LS_10", "4 5 6");
    rim[2] = writer_with_max(VERIFIER_PART_MAX);
    forge_nv_rim_write(&rim[2], &bios);
    g->min = g->max = 1;
    ends(11, VERIFIER_E_OCSP_MISSING, "a switch without the vendor's answers");
    g->ocsp_optional = g->has_switches = true;
    g->switches = 2;
    ends(11, VERIFIER_E_DEVICES_NOT_ACCEPTED, "another number of switches than wanted");
    g->switches = 1;
    ends(0, VERIFIER_OK, "a GPU behind its switch");
    s->cc = VERIFIER_CC_ON;
    ends(8, VERIFIER_E_CC_MISMATCH, "a mode that is not stated");
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, open_world, close_world);
    tcase_add_test(t, two_gpus_pass);
    tcase_add_test(t, evidence_is_of_this_node_and_of_now);
    tcase_add_test(t, each_device_counts_once);
    tcase_add_test(t, the_vendor_has_to_answer);
    tcase_add_test(t, old_answers_are_too_old);
    tcase_add_test(t, reference_files_speak_of_what_runs);
    tcase_add_test(t, a_fabric_is_whole);
}

RUN("protocol_gpu", add_tests)
