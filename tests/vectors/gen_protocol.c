/* gen_protocol - writes this project's own vectors of PROTOCOL.md, always the same ones: FOLDER/{encodings,trees,
 * refusals,signed,hpke}.json in the format of $AIRLOCK_SHARED/vectors/protocol, and with a second folder the fuzz
 * targets' seeds. All keys are made from labels: public on purpose.
 *   gen_protocol tests/vectors/protocol [tests/fuzz/corpus] */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "policy/fleet.h"
#include "policy/grant.h"
#include "policy/keyset.h"
#include "policy/lease.h"
#include "policy/revocations.h"
#include "vectors/objects.h"
#include "verifier/challenge.h"
#include "verifier/ed25519.h"
#include "verifier/envelope.h"
#include "verifier/leaf.h"
#include "verifier/receipt.h"
#include "verifier/release.h"
#include "verifier/sealed.h"
#include "verifier/signed.h"
#include "verifier/state.h"
#include "verifier/statement.h"
#include "verifier/tree.h"
#include "verifier/verdict.h"

#define NOW UINT64_C(1795255200)

static const char *corpus; /* folder of the fuzz seeds, or NULL */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "gen_protocol: %s failed\n", what);
    exit(1);
}

/* `len` bytes that depend on `label` alone, at most 64. */
static void fill(void *out, size_t len, const char *label)
{
    uint8_t digest[64];
    verifier_sha512(digest, span_str(label));
    memcpy(out, digest, len);
}

#define FILL(array, label) fill(array, sizeof(array), label)
#define HEX64(digest) hex(digest, 64)

static json_t *hex(const void *data, size_t len)
{
    return objects_hex(span_of(data, len));
}

static void save(const char *folder, const char *name, json_t *doc)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    must(json_dump_file(doc, path, JSON_INDENT(1)) == 0, path);
    json_decref(doc);
}

static void seed(const char *object, const char *name, struct span bytes)
{
    char path[1024];
    if (!corpus)
        return;
    snprintf(path, sizeof path, "%s/protocol_%s", corpus, object);
    (void)mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/protocol_%s/%s", corpus, object, name);
    FILE *f = fopen(path, "wb");
    must(f && fwrite(bytes.data, 1, bytes.len, f) == bytes.len && fclose(f) == 0, path);
}

/* --- encodings -------------------------------------------------------------------------------------------- */

static json_t *objects;

/* What the writer holds becomes a vector; the writer is empty again. */
static void add(const char *object, const char *name, struct writer *w)
{
    json_t *value = NULL;
    uint8_t digest[64];
    must(writer_ok(w) && objects_read(object, writer_span(w), &value, NULL) == VERIFIER_OK, name);
    verifier_sha512(digest, writer_span(w));
    json_array_append_new(objects, json_pack("{ss ss so so so}", "object", object, "name", name, "value", value,
                                             "bytes", objects_hex(writer_span(w)), "sha512", HEX64(digest)));
    seed(object, name, writer_span(w));
    writer_reset(w);
}

static void gen_node_objects(struct writer *w)
{
    struct verifier_challenge c = {.verifier = VERIFIER_CLIENT, .attester = VERIFIER_PROXY, .engines_max = 8};
    struct verifier_statement st = {
        .role = VERIFIER_PROXY, .program = span_str("airlock-proxy"), .version = span_str("0.1.0")};
    struct verifier_state s = {.stage = VERIFIER_STAGE_ALL, .cc = VERIFIER_CC_ON, .at = NOW};
    FILL(c.nonce, "nonce");
    FILL(c.have[0], "have 0");
    c.have_count = 1;
    c.model = span_str("t\xc3\xadny");
    verifier_challenge_encode(w, &c);
    add("challenge", "client_proxy", w);
    c = (struct verifier_challenge){.verifier = VERIFIER_CLIENT, .attester = VERIFIER_ENGINE};
    FILL(c.nonce, "nonce 2");
    verifier_challenge_encode(w, &c);
    add("challenge", "sealed", w);
    FILL(st.config, "config");
    FILL(st.owner, "owner");
    FILL(st.identity, "identity");
    FILL(st.release, "release");
    verifier_statement_encode(w, &st);
    add("statement", "proxy", w);
    st.role = VERIFIER_ENGINE;
    st.program = span_str("airlock-engine");
    st.kernels = span_str("cpu-avx2");
    verifier_statement_encode(w, &st);
    add("statement", "engine", w);
    verifier_state_encode(w, &(struct verifier_state){0});
    add("state", "nothing_yet", w);
    s.has_policy = s.has_model = s.has_seal = s.has_devices = true;
    FILL(s.policy.digest, "policy");
    s.policy.version = 7;
    FILL(s.model.root, "model");
    s.model.load_options = span_str("context=2048");
    FILL(s.seal.public, "seal");
    s.seal.epoch = 4;
    s.devices.count = 8;
    FILL(s.devices.digest, "devices");
    s.devices.tree_size = VERIFIER_TREE_MAX;
    FILL(s.devices.tree_root, "device tree");
    s.devices.at = NOW - 60;
    verifier_state_encode(w, &s);
    add("state", "engine_with_devices", w);
    s = (struct verifier_state){.stage = 3, .has_serves = true, .at = 1};
    s.serves.count = 2;
    FILL(s.serves.root, "serves");
    verifier_state_encode(w, &s);
    add("state", "proxy_serves", w);
}

static void gen_owner_objects(struct writer *w)
{
    static struct policy_revocations r = {.epoch = 3, .count = 2};
    static struct policy_fleet f = {.version = 1, .expires = NOW + 1};
    static uint8_t chip[64], identity[32], instance[16];
    struct policy_keyset k = {.version = 1, .key_count = 2, .m = {1, 1}};
    FILL(k.key[0].public, "signer");
    k.key[0].role_count = 1;
    FILL(k.key[1].public, "both");
    k.key[1].role_count = 2;
    k.key[1].role[0] = POLICY_KEY_REVOKER;
    k.key[1].role[1] = POLICY_KEY_SIGNER;
    policy_keyset_encode(w, &k);
    add("keyset", "first", w);
    k.version = 2;
    k.has_previous = true;
    FILL(k.previous, "first set");
    policy_keyset_encode(w, &k);
    add("keyset", "second", w);
    FILL(chip, "chip");
    FILL(identity, "identity");
    FILL(instance, "instance");
    r.entry[0] = (struct policy_revocation){POLICY_REVOKED_SNP_CHIP, span_of(chip, sizeof chip)};
    r.entry[1] = (struct policy_revocation){POLICY_REVOKED_IDENTITY, span_of(identity, sizeof identity)};
    policy_revocations_encode(w, &r);
    add("revocations", "two", w);
    f.snp_chips.count = f.tdx_instances.count = f.gpus.count = 1;
    f.snp_chips.id[0] = span_of(chip, sizeof chip);
    f.tdx_instances.id[0] = span_of(instance, sizeof instance);
    f.gpus.id[0] = span_str("478176379286082186618948445787393647364802107249");
    policy_fleet_encode(w, &f);
    add("fleet", "one_each", w);
}

static void gen_keyd_objects(struct writer *w)
{
    static struct policy_grant g = {
        .policy = {(const uint8_t *)"policy", 6}, .lease = {(const uint8_t *)"lease", 5}, .issued = NOW};
    struct policy_lease l = {.role = VERIFIER_ENGINE, .epoch = 3, .issued = NOW, .expires = NOW + 14400};
    FILL(l.identity, "identity");
    FILL(l.policy.digest, "policy");
    l.policy.version = 7;
    policy_lease_encode(w, &l);
    add("lease", "engine", w);
    FILL(g.nonce, "nonce");
    FILL(g.identity, "identity");
    FILL(g.statement, "statement");
    policy_grant_encode(w, &g);
    add("grant", "renewal", w);
    g.revocations = span_str("revocations");
    g.tenants_version = 5;
    g.key_count = 1;
    FILL(g.keys[0].artefact_root, "model");
    FILL(g.keys[0].key_id, "key id");
    FILL(g.keys[0].enc, "enc");
    FILL(g.keys[0].sealed, "sealed");
    policy_grant_encode(w, &g);
    add("grant", "with_key", w);
}

static void gen_request_objects(struct writer *w)
{
    struct verifier_sealed_head h = {.epoch = 4,
                                     .endpoint = span_str("/v1/chat/completions"),
                                     .model = span_str("tiny"),
                                     .max_tokens = 256,
                                     .stream = true};
    struct verifier_receipt r = {.mode = VERIFIER_MODE_SEALED,
                                 .sampling = span_str("{\"temperature\":\"0\"}"),
                                 .seed = INT64_MAX, /* the most that JSON readers agree on */
                                 .prompt_tokens = 17,
                                 .completion_tokens = 64,
                                 .kernels = span_str("cpu-avx2"),
                                 .at = NOW,
                                 .log_index = 12};
    struct verifier_sealed_status status = {.status = 429, .type = span_str("application/json")};
    FILL(h.engine, "identity");
    FILL(h.request, "request");
    verifier_sealed_head_encode(w, &h);
    add("head", "stream", w);
    FILL(r.request, "request");
    FILL(r.response, "response");
    FILL(r.artefact_root, "model");
    FILL(r.policy, "policy");
    FILL(r.statement, "statement");
    FILL(r.state, "state");
    FILL(r.previous, "previous");
    verifier_receipt_encode(w, &r);
    add("receipt", "sealed", w);
    verifier_verdict_encode(w, &(struct verifier_verdict){.code = span_str("ok"), .valid_until = NOW});
    add("verdict", "yes", w);
    verifier_verdict_encode(w, &(struct verifier_verdict){.code = span_str("no_lease")});
    add("verdict", "no", w);
    verifier_sealed_status_encode(w, &status);
    add("status", "too_many_requests", w);
}

static void gen_envelope_objects(struct writer *w)
{
    static struct verifier_envelope e;
    struct verifier_certs certs = {.count = 2, .cert = {span_str("leaf"), span_str("root")}};
    struct verifier_collateral collateral = {.crl_count = 1, .crls = {span_str("crl")}, .tcb_info = span_str("{}")};
    struct verifier_policy_part part = {
        .keyset_count = 1, .keyset = {span_str("keyset")}, .policy = span_str("policy")};
    verifier_certs_encode(w, &certs);
    add("chain", "two", w);
    verifier_collateral_encode(w, &collateral);
    add("collateral", "crl_and_tcb_info", w);
    verifier_policy_part_encode(w, &part);
    add("policy_part", "one_keyset", w);
    e.tee = VERIFIER_TEE_TDX;
    e.quote = span_str("quote");
    e.statement = span_str("statement");
    e.state = span_str("state");
    e.tree_size = 1;
    e.config = span_str("");
    verifier_envelope_encode(w, &e);
    add("envelope", "smallest", w);
    e.tee = VERIFIER_TEE_SNP;
    e.chain = (struct verifier_part){.form = VERIFIER_PART_BYTES, .bytes = span_str("chain")};
    e.policy.form = VERIFIER_PART_DIGEST;
    FILL(e.policy.digest, "policy part");
    e.place.path_len = 1;
    e.tree_size = 2;
    FILL(e.place.path[0], "sibling");
    e.device_count = 1;
    e.devices[0].report = span_str("report");
    e.devices[0].chain = e.chain;
    e.lease = span_str("lease");
    e.has_engines = true;
    e.engine_count = 1;
    e.engines[0] = (struct verifier_engine_entry){.challenge = span_str("challenge"),
                                                  .spki = span_str("spki"),
                                                  .checked_at = NOW,
                                                  .envelope = span_str("envelope")};
    verifier_envelope_encode(w, &e);
    add("envelope", "one_engine", w);
}

/* Leaves and other digests, over inputs from labels. */
static json_t *gen_derived(void)
{
    static const char challenge[] = "challenge", spki[] = "spki", quote[] = "quote", statement[] = "statement",
                      state[] = "state", report[] = "report", chain[] = "chain";
    uint8_t exporter[32], root[64], seal[32], out[64], q[64], st[64], s[64], item[1][64], nonce[32], salt[32];
    json_t *d = json_object();
    FILL(exporter, "exporter");
    FILL(root, "root");
    FILL(seal, "seal");
    FILL(salt, "salt");
    verifier_sha512(q, span_str(quote));
    verifier_sha512(st, span_str(statement));
    verifier_sha512(s, span_str(state));
    verifier_leaf(out, span_str(challenge), span_str(spki), exporter);
    json_object_set_new(d, "leaf",
                        json_pack("[{so so so so}]", "challenge", objects_hex(span_str(challenge)), "spki",
                                  objects_hex(span_str(spki)), "exporter", hex(exporter, 32), "leaf", HEX64(out)));
    verifier_sealed_leaf(out, span_str(challenge), seal);
    json_object_set_new(d, "sealed_leaf",
                        json_pack("[{so so so}]", "challenge", objects_hex(span_str(challenge)), "seal_public",
                                  hex(seal, 32), "leaf", HEX64(out)));
    verifier_engine_leaf(out, span_str(challenge), span_str(spki), exporter, q, st, s, NOW);
    json_object_set_new(d, "engine_leaf",
                        json_pack("[{so so so so so so sI so}]", "challenge", objects_hex(span_str(challenge)), "spki",
                                  objects_hex(span_str(spki)), "exporter", hex(exporter, 32), "quote",
                                  objects_hex(span_str(quote)), "statement", objects_hex(span_str(statement)), "state",
                                  objects_hex(span_str(state)), "checked_at", (json_int_t)NOW, "leaf", HEX64(out)));
    verifier_report_data(out, 3, root, st, s);
    json_object_set_new(d, "report_data",
                        json_pack("[{si so so so so}]", "size", 3, "root", HEX64(root), "statement",
                                  objects_hex(span_str(statement)), "state", objects_hex(span_str(state)),
                                  "report_data", HEX64(out)));
    verifier_device_nonce(nonce, 3, root);
    json_object_set_new(d, "device_nonce",
                        json_pack("[{si so so}]", "size", 3, "root", HEX64(root), "nonce", hex(nonce, 32)));
    verifier_device_item(item[0], span_str(report), span_str(chain));
    verifier_devices_digest(out, (const uint8_t(*)[64])item, 1);
    json_object_set_new(d, "devices",
                        json_pack("[{s[{so so}] s[o] si so}]", "devices", "report", objects_hex(span_str(report)),
                                  "chain", objects_hex(span_str(chain)), "items", HEX64(item[0]), "count", 1, "digest",
                                  HEX64(out)));
    verifier_commitment(out, salt, q);
    json_object_set_new(d, "commitment",
                        json_pack("[{so so so}]", "salt", hex(salt, 32), "body", objects_hex(span_str(quote)),
                                  "commitment", HEX64(out)));
    return d;
}

static void gen_encodings(const char *folder)
{
    struct writer w = writer_with_max(1u << 16);
    objects = json_array();
    gen_node_objects(&w);
    gen_owner_objects(&w);
    gen_keyd_objects(&w);
    gen_request_objects(&w);
    gen_envelope_objects(&w);
    writer_release(&w);
    json_t *kept = json_deep_copy(objects);
    save(folder, "encodings", json_pack("{so so}", "objects", objects, "derived", gen_derived()));
    objects = kept;
}

/* --- refusals --------------------------------------------------------------------------------------------- */

static json_t *refusals;

static void refuse(const json_t *of, const char *flaw, const uint8_t *bytes, size_t len)
{
    char name[128];
    const char *object = json_string_value(json_object_get(of, "object"));
    enum verifier_err err = objects_read(object, span_of(bytes, len), NULL, NULL);
    snprintf(name, sizeof name, "%s_%s", json_string_value(json_object_get(of, "name")), flaw);
    must(err != VERIFIER_OK, name);
    json_array_append_new(refusals, json_pack("{ss ss so s[s]}", "object", object, "name", name, "bytes",
                                              hex(bytes, len), "refusal", verifier_err_name(err)));
}

/* The same flaws in every object: what a parser must see wherever it is. */
static void gen_flaws(const json_t *of)
{
    size_t len;
    uint8_t *good = objects_unhex(json_object_get(of, "bytes"), &len), *bad = malloc(len + 9);
    must(good && bad, "memory");
    memcpy(bad, good, len);
    bad[len] = 0xc0;
    refuse(of, "trailing_nil", bad, len + 1);
    refuse(of, "cut", good, len - 1);
    refuse(of, "half", good, len / 2);
    refuse(of, "nothing", good, 0);
    bad[0] = 0xc1;
    refuse(of, "never_used_byte", bad, len);
    if ((good[0] & 0xf0) == 0x80) {
        bad[0] = (uint8_t)(good[0] + 1);
        refuse(of, "one_key_more", bad, len);
        bad[0] = 0xde;
        bad[1] = 0;
        bad[2] = good[0] & 0x0f;
        memcpy(bad + 3, good + 1, len - 1);
        refuse(of, "long_map", bad, len + 2);
        memcpy(bad, good, len);
        bad[2] ^= 0x20;
        refuse(of, "key_in_another_case", bad, len);
    }
    for (size_t at = 1; at + 2 < len; at++)
        if (memcmp(good + at, "\xa1v\x01", 3) == 0) { /* "v": 1 */
            memcpy(bad, good, len);
            bad[at + 2] = 2;
            refuse(of, "version_2", bad, len);
            bad[at + 2] = 0xcc;
            bad[at + 3] = 1;
            memcpy(bad + at + 4, good + at + 3, len - at - 3);
            refuse(of, "version_not_minimal", bad, len + 1);
            break;
        }
    free(good);
    free(bad);
}

static void gen_refusals(const char *folder)
{
    size_t i;
    json_t *of;
    refusals = json_array();
    json_array_foreach(objects, i, of) gen_flaws(of);
    json_decref(objects);
    save(folder, "refusals", json_pack("{so}", "cases", refusals));
}

/* --- trees ------------------------------------------------------------------------------------------------ */

static json_t *digests(const uint8_t (*list)[64], size_t count)
{
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(out, HEX64(list[i]));
    return out;
}

static void gen_trees(const char *folder)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 11};
    uint8_t leaves[11][64], root[64], path[VERIFIER_PATH_MAX][64] = {{0}};
    json_t *trees = json_array(), *bad = json_array();
    for (size_t i = 0; i < 11; i++) {
        char label[16];
        snprintf(label, sizeof label, "leaf %zu", i);
        FILL(leaves[i], label);
    }
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        size_t n = sizes[t], len = 0;
        json_t *paths = json_array();
        must(verifier_tree_root((const uint8_t(*)[64])leaves, n, root) == VERIFIER_OK, "tree");
        for (size_t i = 0; i < n; i++) {
            verifier_tree_path((const uint8_t(*)[64])leaves, n, i, path, &len);
            json_array_append_new(paths, digests((const uint8_t(*)[64])path, len));
        }
        json_array_append_new(trees,
                              json_pack("{sI so so so}", "size", (json_int_t)n, "leaves",
                                        digests((const uint8_t(*)[64])leaves, n), "root", HEX64(root), "paths", paths));
        json_array_append_new(bad, json_pack("{ss sI sI so so so ss}", "name", "one_longer", "size", (json_int_t)n,
                                             "index", (json_int_t)n - 1, "leaf", HEX64(leaves[n - 1]), "path",
                                             digests((const uint8_t(*)[64])path, len + 1), "root", HEX64(root),
                                             "refusal", "path"));
        json_array_append_new(bad, json_pack("{ss sI sI so so so ss}", "name", "index_is_size", "size", (json_int_t)n,
                                             "index", (json_int_t)n, "leaf", HEX64(leaves[n - 1]), "path",
                                             digests((const uint8_t(*)[64])path, len), "root", HEX64(root), "refusal",
                                             "index"));
    }
    save(folder, "trees",
         json_pack("{so so so}", "trees", trees, "refused_paths", bad, "refused_builds",
                   json_pack("[{ss s[] ss}, {ss s[o,o] ss}]", "name", "none", "leaves", "refusal", "size", "name",
                             "equal", "leaves", HEX64(leaves[0]), HEX64(leaves[0]), "refusal", "duplicate")));
}

/* --- signed objects --------------------------------------------------------------------------------------- */

static json_t *signed_case(const char *name, struct verifier_signed *obj, enum verifier_signed_type type, unsigned m,
                           const uint8_t (*keys)[32], size_t key_count)
{
    struct writer w = writer_with_max(8192);
    json_t *list = json_array(), *expect;
    for (size_t i = 0; i < key_count; i++)
        json_array_append_new(list, hex(keys[i], 32));
    verifier_signed_encode(&w, obj);
    enum verifier_err err = verifier_signed_check(obj, type, keys, key_count, m);
    expect = err == VERIFIER_OK ? json_pack("{sb so}", "ok", 1, "body", objects_hex(obj->body))
                                : json_pack("{s[s]}", "refusal", verifier_err_name(err));
    seed("signed", name, writer_span(&w));
    json_t *out = json_pack("{ss so ss so si so}", "name", name, "bytes", objects_hex(writer_span(&w)), "type",
                            verifier_signed_names[type], "keys", list, "m", (int)m, "expect", expect);
    writer_release(&w);
    return out;
}

static void gen_signed(const char *folder)
{
    uint8_t seeds[2][32], keys[2][32];
    json_t *list = json_array();
    struct verifier_signed obj = {.type = VERIFIER_SIGNED_POLICY, .body = span_str("version = 7;\n"), .sig_count = 2};
    for (size_t i = 0; i < 2; i++) {
        fill(seeds[i], 32, i ? "signer 1" : "signer 0");
        must(verifier_ed25519_public(seeds[i], keys[i]) &&
                 verifier_signed_sign(&obj.sigs[i], obj.type, obj.body, seeds[i]),
             "signing");
    }
    const uint8_t(*known)[32] = (const uint8_t(*)[32])keys;
    json_array_append_new(list, signed_case("two_of_two", &obj, VERIFIER_SIGNED_POLICY, 2, known, 2));
    json_array_append_new(list, signed_case("another_type", &obj, VERIFIER_SIGNED_LEASE, 1, known, 2));
    json_array_append_new(list, signed_case("unknown_key", &obj, VERIFIER_SIGNED_POLICY, 1, known, 1));
    obj.sig_count = 1;
    json_array_append_new(list, signed_case("one_of_two", &obj, VERIFIER_SIGNED_POLICY, 2, known, 2));
    obj.body = span_str("version = 8;\n");
    json_array_append_new(list, signed_case("another_body", &obj, VERIFIER_SIGNED_POLICY, 1, known, 2));
    obj.body = span_str("version = 7;\n");
    obj.type = VERIFIER_SIGNED_TENANTS;
    json_array_append_new(list, signed_case("relabelled", &obj, VERIFIER_SIGNED_TENANTS, 1, known, 2));
    save(folder, "signed",
         json_pack("{s{so so} s{so so} so s[]}", "seeds", "signer 0", hex(seeds[0], 32), "signer 1", hex(seeds[1], 32),
                   "public", "signer 0", hex(keys[0], 32), "signer 1", hex(keys[1], 32), "objects", list,
                   "keyset_chains"));
}

/* --- HPKE and sealed mode --------------------------------------------------------------------------------- */

static json_t *gen_rfc9180_shape(void)
{
    uint8_t e[32], r[32], public[32], enc[32], exported[32];
    struct verifier_hpke s;
    struct writer sealed = writer_with_max(256);
    FILL(e, "ephemeral");
    FILL(r, "receiver");
    must(verifier_x25519_public(r, public) && verifier_hpke_setup_s(&s, public, e, span_str("info"), enc) &&
             verifier_aead_seal(s.key, s.nonce, span_str("aad"), span_str("plain"), &sealed) &&
             verifier_hpke_export(&s, span_str("TestContext"), exported, 32),
         "hpke");
    json_t *out = json_pack("{so so so so so so so so so so so}", "private_e", hex(e, 32), "private_r", hex(r, 32),
                            "info", objects_hex(span_str("info")), "enc", hex(enc, 32), "key", hex(s.key, 32),
                            "base_nonce", hex(s.nonce, 12), "exporter_secret", hex(s.exporter_secret, 32), "aad",
                            objects_hex(span_str("aad")), "plaintext", objects_hex(span_str("plain")), "sealed",
                            objects_hex(writer_span(&sealed)), "export_TestContext_32", hex(exported, 32));
    writer_release(&sealed);
    return out;
}

static json_t *gen_release(uint8_t i)
{
    struct verifier_release_bind bind = {.i = 0, .n = 1};
    uint8_t private_key[32], public[32], e[32], enc[32], key[32], id[32], aad[VERIFIER_RELEASE_AAD_LEN];
    struct verifier_hpke s;
    struct writer sealed = writer_with_max(64);
    FILL(bind.statement, "statement");
    FILL(bind.policy, "policy");
    FILL(bind.artefact_root, "model");
    FILL(private_key, "release");
    FILL(e, "release ephemeral");
    FILL(key, "weight key");
    verifier_release_aad(aad, &bind);
    must(verifier_x25519_public(private_key, public) &&
             verifier_hpke_setup_s(&s, public, e, verifier_release_info(), enc) &&
             verifier_aead_seal(s.key, s.nonce, span_of(aad, sizeof aad), span_of(key, 32), &sealed) &&
             verifier_release_key_id(key, id),
         "release");
    json_t *expect = i == 0 ? json_pack("{sb so so}", "ok", 1, "key", hex(key, 32), "key_id", hex(id, 32))
                            : json_pack("{s[s]}", "refusal", "seal_open");
    json_t *out = json_pack("{ss so so so so so so si si so}", "name", i == 0 ? "one_keyd" : "another_index", "private",
                            hex(private_key, 32), "enc", hex(enc, 32), "sealed", objects_hex(writer_span(&sealed)),
                            "statement", HEX64(bind.statement), "policy", HEX64(bind.policy), "artefact_root",
                            HEX64(bind.artefact_root), "i", (int)i, "n", 1, "expect", expect);
    writer_release(&sealed);
    return out;
}

static json_t *gen_combine(void)
{
    uint8_t shares[2][32], swapped[2][32], key[32], id[32], reversed[32];
    FILL(shares[0], "share 0");
    FILL(shares[1], "share 1");
    memcpy(swapped[0], shares[1], 32);
    memcpy(swapped[1], shares[0], 32);
    must(verifier_release_combine((const uint8_t(*)[32])shares, 2, key) &&
             verifier_release_combine((const uint8_t(*)[32])swapped, 2, reversed) && verifier_release_key_id(key, id),
         "combine");
    return json_pack("{s[o,o] so so so}", "sub_keys", hex(shares[0], 32), hex(shares[1], 32), "key", hex(key, 32),
                     "key_id", hex(id, 32), "reversed_key", hex(reversed, 32));
}

static json_t *answer_case(const char *name, struct span bytes, const char *refusal)
{
    seed("answer", name, bytes);
    json_t *expect =
        refusal ? json_pack("{s[s]}", "refusal", refusal)
                : json_pack("{sb s[o,o]}", "ok", 1, "pieces", objects_hex(span_str("one")), objects_hex(span_str("")));
    return json_pack("{ss so so}", "name", name, "bytes", objects_hex(bytes), "expect", expect);
}

/* One request, and its answer in two chunks. */
static void gen_sealed(json_t **requests, json_t **answers)
{
    static const char json[] = "{\"model\":\"tiny\"}";
    struct verifier_sealed_head head = {
        .epoch = 1, .endpoint = span_str("/v1/completions"), .model = span_str("tiny"), .max_tokens = 8};
    struct verifier_sealed_writer sw;
    uint8_t private_key[32], public[32], e[32], enc[32], st[64], policy[64], nonce[32], exported[32];
    struct verifier_hpke s;
    struct writer aad = writer_with_max(1024), info = writer_with_max(256), body = writer_with_max(4096),
                  out = writer_with_max(4096);
    static const char label[] = "\0\0\0\x1a"
                                "airlock sealed response v1";
    FILL(head.engine, "identity");
    FILL(head.request, "request");
    FILL(private_key, "seal");
    FILL(e, "seal ephemeral");
    FILL(st, "statement");
    FILL(policy, "policy");
    FILL(nonce, "response nonce");
    verifier_sealed_head_encode(&aad, &head);
    verifier_sealed_info(&info, st, policy);
    must(verifier_x25519_public(private_key, public) && verifier_hpke_setup_s(&s, public, e, writer_span(&info), enc),
         "seal");
    writer_lp(&body, writer_span(&aad));
    writer_bytes(&body, span_of(enc, 32));
    must(verifier_aead_seal(s.key, s.nonce, writer_span(&aad), span_str(json), &body) &&
             verifier_hpke_export(&s, span_of(label, sizeof label - 1), exported, 32),
         "seal");
    json_t *value = NULL;
    must(objects_read("head", writer_span(&aad), &value, NULL) == VERIFIER_OK, "head");
    seed("request", "good", writer_span(&body));
    *requests = json_pack("[{ss so so so so si so s{sb so so so}}]", "name", "good", "seal_private",
                          hex(private_key, 32), "statement", HEX64(st), "policy", HEX64(policy), "engine",
                          hex(head.engine, 32), "epoch", 1, "body", objects_hex(writer_span(&body)), "expect", "ok", 1,
                          "head", value, "plaintext", objects_hex(span_str(json)), "export_32", hex(exported, 32));
    must(verifier_sealed_writer_begin(&sw, &s, enc, nonce, &out) &&
             verifier_sealed_writer_chunk(&sw, span_str("one"), false, &out),
         "answer");
    size_t before_final = out.len;
    must(verifier_sealed_writer_chunk(&sw, span_str(""), true, &out), "answer");
    struct span whole = writer_span(&out);
    *answers = json_pack("{ss so s[o,o,o]}", "request", "good", "enc", hex(enc, 32), "cases",
                         answer_case("two_chunks", whole, NULL),
                         answer_case("no_final_chunk", span_of(whole.data, before_final), "seal_truncated"),
                         answer_case("cut", span_of(whole.data, whole.len - 1), "seal_open"));
    writer_release(&aad);
    writer_release(&info);
    writer_release(&body);
    writer_release(&out);
}

static void gen_hpke(const char *folder)
{
    json_t *requests, *answers;
    gen_sealed(&requests, &answers);
    save(folder, "hpke",
         json_pack("{so s[o,o] so so so}", "rfc9180", gen_rfc9180_shape(), "key_release", gen_release(0),
                   gen_release(1), "combine", gen_combine(), "sealed_requests", requests, "sealed_responses", answers));
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: gen_protocol FOLDER [FUZZ-CORPUS]\n");
        return 2;
    }
    corpus = argc == 3 ? argv[2] : NULL;
    gen_encodings(argv[1]);
    gen_refusals(argv[1]);
    gen_trees(argv[1]);
    gen_signed(argv[1]);
    gen_hpke(argv[1]);
    return 0;
}
