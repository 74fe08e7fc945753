/* Does the project make and read exactly the bytes of PROTOCOL.md? Walks tests/vectors/protocol (our own, made by
 * gen_protocol) and $AIRLOCK_SHARED/vectors/protocol: encodings, refusals, trees, signed objects, HPKE and sealed mode.
 * Whole envelopes: vectors_envelopes.c. */
#include <jansson.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/keyset.h"
#include "vectors/objects.h"
#include "verifier/leaf.h"
#include "verifier/release.h"
#include "verifier/sealed.h"
#include "verifier/signed.h"
#include "verifier/tree.h"

static unsigned passed, failed, skipped;

static void judge(const char *file, const char *what, const char *name, bool ok)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAIL protocol/%s: %s %s\n", file, what, name ? name : "");
}

static struct span bytes_of(const json_t *hex)
{
    struct span s = objects_bytes(hex);
    if (!s.data) {
        printf("FAIL protocol: a hex string cannot be read\n");
        failed++;
    }
    return s;
}

static struct span field(const json_t *o, const char *key)
{
    return bytes_of(json_object_get(o, key));
}

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool is_one_of(const json_t *names, const char *name)
{
    size_t i;
    json_t *each;
    if (json_is_string(names))
        return strcmp(json_string_value(names), name) == 0;
    json_array_foreach(names, i, each) if (strcmp(json_string_value(each), name) == 0) return true;
    return false;
}

static bool equals(const json_t *hex, const void *data, size_t len)
{
    return span_equal(bytes_of(hex), span_of(data, len));
}

/* --- encodings ------------------------------------------------------------------------------------ */

static bool object_holds(const json_t *c)
{
    struct writer again = writer_with_max(2u << 20);
    struct span bytes = field(c, "bytes");
    json_t *value = NULL;
    uint8_t digest[64], context[32];
    bool ok = objects_read(str(c, "object"), bytes, &value, &again) == VERIFIER_OK &&
              json_equal(value, json_object_get(c, "value")) && span_equal(writer_span(&again), bytes);
    verifier_sha512(digest, bytes);
    ok = ok && equals(json_object_get(c, "sha512"), digest, sizeof digest);
    if (json_object_get(c, "exporter_context")) {
        SHA256(bytes.data, bytes.len, context);
        ok = ok && equals(json_object_get(c, "exporter_context"), context, sizeof context);
    }
    json_decref(value);
    writer_release(&again);
    return ok;
}

static bool engine_leaf_holds(const json_t *c)
{
    uint8_t out[64], quote[64], statement[64], state[64];
    verifier_sha512(quote, field(c, "quote"));
    verifier_sha512(statement, field(c, "statement"));
    verifier_sha512(state, field(c, "state"));
    verifier_engine_leaf(out, field(c, "challenge"), field(c, "spki"), field(c, "exporter").data, quote, statement,
                         state, (uint64_t)json_integer_value(json_object_get(c, "checked_at")));
    return equals(json_object_get(c, "leaf"), out, sizeof out);
}

static bool report_data_holds(const json_t *c)
{
    uint8_t out[64], statement[64], state[64];
    verifier_sha512(statement, field(c, "statement"));
    verifier_sha512(state, field(c, "state"));
    verifier_report_data(out, (uint32_t)json_integer_value(json_object_get(c, "size")), field(c, "root").data,
                         statement, state);
    return equals(json_object_get(c, "report_data"), out, sizeof out);
}

static bool devices_hold(const json_t *c)
{
    uint8_t items[VERIFIER_DEVICES_MAX][64], digest[64];
    json_t *devices = json_object_get(c, "devices"), *want = json_object_get(c, "items");
    size_t count = json_array_size(devices);
    bool ok = count >= 1 && count <= VERIFIER_DEVICES_MAX && count == json_array_size(want) &&
              json_integer_value(json_object_get(c, "count")) == (json_int_t)count;
    for (size_t i = 0; ok && i < count; i++) {
        json_t *d = json_array_get(devices, i);
        verifier_device_item(items[i], field(d, "report"), field(d, "chain"));
        ok = equals(json_array_get(want, i), items[i], 64);
    }
    if (ok)
        verifier_devices_digest(digest, items, count);
    return ok && equals(json_object_get(c, "digest"), digest, sizeof digest);
}

static bool leaf_holds(const json_t *c)
{
    uint8_t out[64];
    verifier_leaf(out, field(c, "challenge"), field(c, "spki"), field(c, "exporter").data);
    return equals(json_object_get(c, "leaf"), out, sizeof out);
}

static bool sealed_leaf_holds(const json_t *c)
{
    uint8_t out[64];
    verifier_sealed_leaf(out, field(c, "challenge"), field(c, "seal_public").data);
    return equals(json_object_get(c, "leaf"), out, sizeof out);
}

static bool device_nonce_holds(const json_t *c)
{
    uint8_t out[32];
    verifier_device_nonce(out, (uint32_t)json_integer_value(json_object_get(c, "size")), field(c, "root").data);
    return equals(json_object_get(c, "nonce"), out, sizeof out);
}

static bool commitment_holds(const json_t *c)
{
    uint8_t body[64], out[64];
    verifier_sha512(body, field(c, "body"));
    verifier_commitment(out, field(c, "salt").data, body);
    return equals(json_object_get(c, "commitment"), out, sizeof out);
}

static bool response_body_holds(const json_t *c)
{
    struct writer w = writer_with_max(1u << 16);
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(c, "texts"), i, text)
        writer_lp(&w, span_of(json_string_value(text), json_string_length(text)));
    bool ok = span_equal(writer_span(&w), field(c, "body"));
    writer_release(&w);
    return ok;
}

static void walk_encodings(const json_t *doc)
{
    static const struct {
        const char *name;
        bool (*holds)(const json_t *c);
    } derived[] = {
        {"leaf", leaf_holds},
        {"sealed_leaf", sealed_leaf_holds},
        {"engine_leaf", engine_leaf_holds},
        {"report_data", report_data_holds},
        {"device_nonce", device_nonce_holds},
        {"devices", devices_hold},
        {"commitment", commitment_holds},
        {"response_body", response_body_holds},
    };
    size_t i, j, known = 0;
    json_t *c, *all = json_object_get(doc, "derived");
    json_array_foreach(json_object_get(doc, "objects"), i, c)
        judge("encodings", str(c, "object"), str(c, "name"), object_holds(c));
    for (i = 0; i < sizeof derived / sizeof *derived; i++) {
        json_t *list = json_object_get(all, derived[i].name);
        known += list != NULL;
        json_array_foreach(list, j, c) judge("encodings", "derived", derived[i].name, derived[i].holds(c));
    }
    if (known != json_object_size(all))
        judge("encodings", "derived", "something that this program does not know", false);
}

/* --- refusals ------------------------------------------------------------------------------------- */

static void walk_refusals(const json_t *doc)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(doc, "cases"), i, c)
    {
        struct span bytes = field(c, "bytes");
        uint8_t *exact = malloc(bytes.len ? bytes.len : 1); /* a block of its own: a sanitizer sees a read past it */
        if (!exact)
            abort();
        if (bytes.len > 0)
            memcpy(exact, bytes.data, bytes.len);
        const char *got = verifier_err_name(objects_read(str(c, "object"), span_of(exact, bytes.len), NULL, NULL));
        bool ok = is_one_of(json_object_get(c, "refusal"), got);
        if (!ok)
            printf("  got %s\n", got);
        judge("refusals", str(c, "object"), str(c, "name"), ok);
        free(exact);
    }
}

/* --- trees ---------------------------------------------------------------------------------------- */

static size_t digests_of(const json_t *list, uint8_t (*out)[64], size_t max)
{
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count && i < max; i++)
        if (!objects_unhex_fixed(json_array_get(list, i), out[i], 64))
            return SIZE_MAX;
    return count;
}

static uint8_t leaves[VERIFIER_TREE_MAX][64];

static bool tree_holds(const json_t *c)
{
    uint8_t root[64], want[64], path[VERIFIER_PATH_MAX][64], given[VERIFIER_PATH_MAX + 1][64];
    size_t count = digests_of(json_object_get(c, "leaves"), leaves, VERIFIER_TREE_MAX), i;
    size_t size = (size_t)json_integer_value(json_object_get(c, "size"));
    json_t *each;
    bool ok = objects_unhex_fixed(json_object_get(c, "root"), want, 64) && count == size &&
              verifier_tree_root(leaves, count, root) == VERIFIER_OK && memcmp(root, want, 64) == 0;
    json_array_foreach(json_object_get(c, "paths"), i, each)
    {
        size_t len = 0, index = i;
        json_t *list = each;
        if (json_is_object(each)) {
            index = (size_t)json_integer_value(json_object_get(each, "index"));
            list = json_object_get(each, "path");
        }
        if (!ok || index >= count)
            return false;
        verifier_tree_path(leaves, count, index, path, &len);
        ok = digests_of(list, given, VERIFIER_PATH_MAX) == len && memcmp(given, path, len * 64) == 0 &&
             verifier_tree_check(leaves[index], count, index, path, len, root) == VERIFIER_OK;
    }
    return ok;
}

/* A large tree comes as single leaves with their paths. */
static bool large_path_holds(const json_t *tree, const json_t *c)
{
    uint8_t root[64], leaf[64], path[VERIFIER_PATH_MAX][64];
    size_t len = digests_of(json_object_get(c, "path"), path, VERIFIER_PATH_MAX);
    return objects_unhex_fixed(json_object_get(tree, "root"), root, 64) &&
           objects_unhex_fixed(json_object_get(c, "leaf"), leaf, 64) && len <= VERIFIER_PATH_MAX &&
           verifier_tree_check(leaf, (uint64_t)json_integer_value(json_object_get(tree, "size")),
                               (uint64_t)json_integer_value(json_object_get(c, "index")), path, len,
                               root) == VERIFIER_OK;
}

static void walk_trees(const json_t *doc)
{
    size_t i, j;
    json_t *c, *p;
    json_array_foreach(json_object_get(doc, "trees"), i, c)
    {
        char name[32];
        snprintf(name, sizeof name, "%lld", (long long)json_integer_value(json_object_get(c, "size")));
        if (json_object_get(c, "leaves"))
            judge("trees", "tree of", name, tree_holds(c));
        else
            json_array_foreach(json_object_get(c, "paths"), j, p)
                judge("trees", "path in a tree of", name, large_path_holds(c, p));
    }
    json_array_foreach(json_object_get(doc, "refused_paths"), i, c)
    {
        uint8_t path[VERIFIER_PATH_MAX + 2][64];
        size_t len = digests_of(json_object_get(c, "path"), path, VERIFIER_PATH_MAX + 2);
        enum verifier_err err = VERIFIER_E_INTERNAL;
        if (len <= VERIFIER_PATH_MAX + 2)
            err = verifier_tree_check(field(c, "leaf").data, (uint64_t)json_integer_value(json_object_get(c, "size")),
                                      (uint64_t)json_integer_value(json_object_get(c, "index")), path, len,
                                      field(c, "root").data);
        judge("trees", "refused path", str(c, "name"),
              is_one_of(json_object_get(c, "refusal"), verifier_err_name(err)));
    }
    json_array_foreach(json_object_get(doc, "refused_builds"), i, c)
    {
        uint8_t root[64];
        size_t count = digests_of(json_object_get(c, "leaves"), leaves, VERIFIER_TREE_MAX);
        judge("trees", "refused build", str(c, "name"),
              is_one_of(json_object_get(c, "refusal"), verifier_err_name(verifier_tree_root(leaves, count, root))));
    }
}

/* --- signed objects ------------------------------------------------------------------------------- */

static enum verifier_signed_type type_of(const char *name)
{
    for (size_t i = 0; i < VERIFIER_SIGNED_TYPES; i++)
        if (strcmp(verifier_signed_names[i], name) == 0)
            return (enum verifier_signed_type)i;
    return VERIFIER_SIGNED_TYPES;
}

static bool expected(const json_t *c, enum verifier_err err)
{
    const json_t *expect = json_object_get(c, "expect");
    bool ok = json_is_true(json_object_get(expect, "ok"))
                  ? err == VERIFIER_OK
                  : is_one_of(json_object_get(expect, "refusal"), verifier_err_name(err));
    if (!ok)
        printf("  got %s\n", verifier_err_name(err));
    return ok;
}

static bool signed_holds(const json_t *c)
{
    struct verifier_signed obj;
    uint8_t keys[VERIFIER_SIGS_MAX][32];
    json_t *list = json_object_get(c, "keys"), *body = json_object_get(json_object_get(c, "expect"), "body");
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++)
        if (i >= VERIFIER_SIGS_MAX || !objects_unhex_fixed(json_array_get(list, i), keys[i], 32))
            return false;
    enum verifier_err err = verifier_signed_parse(&obj, field(c, "bytes"));
    if (err == VERIFIER_OK)
        err = verifier_signed_check(&obj, type_of(str(c, "type")), keys, count,
                                    (unsigned)json_integer_value(json_object_get(c, "m")));
    return expected(c, err) && (err != VERIFIER_OK || equals(body, obj.body.data, obj.body.len));
}

static bool keysets_hold(const json_t *c)
{
    struct span objects[VERIFIER_KEYSETS_MAX];
    struct policy_keyset newest;
    uint8_t first[64];
    json_t *list = json_object_get(c, "objects");
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count && i < VERIFIER_KEYSETS_MAX; i++)
        objects[i] = bytes_of(json_array_get(list, i));
    if (count > VERIFIER_KEYSETS_MAX || !objects_unhex_fixed(json_object_get(c, "first"), first, 64))
        return false;
    enum verifier_err err = policy_keysets_check(objects, count, first, &newest);
    return expected(c, err) && (err != VERIFIER_OK || json_integer_value(json_object_get(json_object_get(c, "expect"),
                                                                                         "version")) == newest.version);
}

/* Seeds give the public keys named beside them, and signing again gives the same object: Ed25519 is deterministic. */
static bool seeds_hold(const json_t *doc)
{
    const char *name;
    json_t *hex, *public = json_object_get(doc, "public");
    bool ok = true;
    json_object_foreach(json_object_get(doc, "seeds"), name, hex)
    {
        struct verifier_sig sig;
        ok = ok && verifier_signed_sign(&sig, VERIFIER_SIGNED_POLICY, span_str("x"), bytes_of(hex).data) &&
             equals(json_object_get(public, name), sig.key, sizeof sig.key);
    }
    return ok;
}

static void walk_signed(const json_t *doc)
{
    size_t i;
    json_t *c;
    judge("signed", "seeds", "", seeds_hold(doc));
    json_array_foreach(json_object_get(doc, "objects"), i, c)
        judge("signed", "object", str(c, "name"), signed_holds(c));
    json_array_foreach(json_object_get(doc, "keyset_chains"), i, c)
        judge("signed", "keysets", str(c, "name"), keysets_hold(c));
}

/* --- HPKE and sealed mode ------------------------------------------------------------------------- */

static bool rfc9180_holds(const json_t *c)
{
    struct verifier_hpke s, r;
    uint8_t enc[32], public[32], exported[32];
    struct span info = field(c, "info"), aad = field(c, "aad"), plain = field(c, "plaintext");
    struct writer sealed = writer_with_max(4096), opened = writer_with_max(4096);
    bool ok = verifier_x25519_public(field(c, "private_r").data, public) &&
              verifier_hpke_setup_s(&s, public, field(c, "private_e").data, info, enc) &&
              equals(json_object_get(c, "enc"), enc, 32) &&
              verifier_hpke_setup_r(&r, field(c, "private_r").data, enc, info) && memcmp(&s, &r, sizeof s) == 0 &&
              equals(json_object_get(c, "key"), r.key, 32) && equals(json_object_get(c, "base_nonce"), r.nonce, 12) &&
              equals(json_object_get(c, "exporter_secret"), r.exporter_secret, 32) &&
              verifier_aead_seal(s.key, s.nonce, aad, plain, &sealed) &&
              equals(json_object_get(c, "sealed"), sealed.data, sealed.len) &&
              verifier_aead_open(r.key, r.nonce, aad, writer_span(&sealed), &opened) == VERIFIER_OK &&
              span_equal(writer_span(&opened), plain) &&
              verifier_hpke_export(&r, span_str("TestContext"), exported, 32) &&
              equals(json_object_get(c, "export_TestContext_32"), exported, 32);
    writer_release(&sealed);
    writer_release(&opened);
    return ok;
}

static bool release_holds(const json_t *c)
{
    struct verifier_release_bind bind = {.i = (uint8_t)json_integer_value(json_object_get(c, "i")),
                                         .n = (uint8_t)json_integer_value(json_object_get(c, "n"))};
    struct verifier_hpke opened;
    uint8_t aad[VERIFIER_RELEASE_AAD_LEN], key[32], id[32];
    const json_t *expect = json_object_get(c, "expect");
    if (!objects_unhex_fixed(json_object_get(c, "statement"), bind.statement, 64) ||
        !objects_unhex_fixed(json_object_get(c, "policy"), bind.policy, 64) ||
        !objects_unhex_fixed(json_object_get(c, "artefact_root"), bind.artefact_root, 64))
        return false;
    verifier_release_aad(aad, &bind);
    enum verifier_err err =
        verifier_hpke_setup_r(&opened, field(c, "private").data, field(c, "enc").data, verifier_release_info())
            ? verifier_release_open(&opened, span_of(aad, sizeof aad), field(c, "sealed"), key)
            : VERIFIER_E_SEAL_OPEN;
    if (!expected(c, err) || err != VERIFIER_OK)
        return expected(c, err);
    return equals(json_object_get(expect, "key"), key, 32) &&
           (!json_object_get(expect, "key_id") ||
            (verifier_release_key_id(key, id) && equals(json_object_get(expect, "key_id"), id, 32)));
}

static bool combine_holds(const json_t *c)
{
    uint8_t shares[2][32], swapped[2][32], key[32], id[32];
    json_t *list = json_object_get(c, "sub_keys");
    if (json_array_size(list) != 2 || !objects_unhex_fixed(json_array_get(list, 0), shares[0], 32) ||
        !objects_unhex_fixed(json_array_get(list, 1), shares[1], 32))
        return false;
    memcpy(swapped[0], shares[1], 32);
    memcpy(swapped[1], shares[0], 32);
    return verifier_release_combine(shares, 2, key) && equals(json_object_get(c, "key"), key, 32) &&
           verifier_release_key_id(key, id) && equals(json_object_get(c, "key_id"), id, 32) &&
           verifier_release_combine(swapped, 2, key) && equals(json_object_get(c, "reversed_key"), key, 32);
}

/* The engine's side of a sealed request; `*hpke` is set when it opens. */
static enum verifier_err open_request(const json_t *c, struct verifier_sealed_request *req, struct verifier_hpke *hpke,
                                      struct writer *plain)
{
    enum verifier_err err = verifier_sealed_request_parse(req, field(c, "body"));
    if (err == VERIFIER_OK)
        err = verifier_sealed_request_check(req, field(c, "engine").data,
                                            (uint32_t)json_integer_value(json_object_get(c, "epoch")));
    if (err != VERIFIER_OK)
        return err;
    struct writer info = writer_with_max(256);
    verifier_sealed_info(&info, field(c, "statement").data, field(c, "policy").data);
    err = verifier_hpke_setup_r(hpke, field(c, "seal_private").data, req->enc, writer_span(&info))
              ? verifier_sealed_request_open(req, hpke, plain)
              : VERIFIER_E_SEAL_OPEN;
    writer_release(&info);
    return err;
}

static bool request_holds(const json_t *c)
{
    struct verifier_sealed_request req;
    struct verifier_hpke hpke;
    struct writer plain = writer_with_max(1u << 20);
    const json_t *expect = json_object_get(c, "expect");
    enum verifier_err err = open_request(c, &req, &hpke, &plain);
    bool ok = expected(c, err);
    if (ok && err == VERIFIER_OK) {
        uint8_t exported[32];
        json_t *head = NULL;
        static const char label[] = "\0\0\0\x1a"
                                    "airlock sealed response v1";
        ok = objects_read("head", req.head_bytes, &head, NULL) == VERIFIER_OK &&
             json_equal(head, json_object_get(expect, "head")) &&
             equals(json_object_get(expect, "plaintext"), plain.data, plain.len) &&
             verifier_hpke_export(&hpke, span_of(label, sizeof label - 1), exported, 32) &&
             equals(json_object_get(expect, "export_32"), exported, 32);
        json_decref(head);
    } else {
        ok = ok && plain.len == 0;
    }
    writer_release(&plain);
    return ok;
}

static void collect(void *ctx, struct span data)
{
    json_array_append_new(ctx, objects_hex(data));
}

/* Feed an answer in steps of `step` bytes. */
static enum verifier_err read_answer(const struct verifier_hpke *hpke, struct span enc, struct span bytes, size_t step,
                                     json_t *pieces)
{
    struct verifier_sealed_reader s;
    enum verifier_err err = VERIFIER_OK;
    verifier_sealed_reader_init(&s, hpke, enc.data, collect, pieces);
    for (size_t at = 0; at < bytes.len && err == VERIFIER_OK; at += step)
        err = verifier_sealed_reader_feed(&s, span_of(bytes.data + at, bytes.len - at < step ? bytes.len - at : step));
    if (err == VERIFIER_OK)
        err = verifier_sealed_reader_end(&s);
    verifier_sealed_reader_release(&s);
    return err;
}

static bool answer_holds(const struct verifier_hpke *hpke, struct span enc, const json_t *c)
{
    static const size_t steps[] = {SIZE_MAX / 2, 1, 7, 64};
    const json_t *expect = json_object_get(c, "expect"), *want = json_object_get(expect, "pieces");
    struct span bytes = field(c, "bytes");
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof steps / sizeof *steps; i++) {
        json_t *pieces = json_array();
        enum verifier_err err = read_answer(hpke, enc, bytes, steps[i], pieces);
        ok = expected(c, err) && (err != VERIFIER_OK || json_equal(pieces, want));
        json_decref(pieces);
    }
    if (ok && json_object_get(expect, "aead_key")) {
        struct verifier_sealed_keys keys;
        ok = verifier_sealed_keys_init(&keys, hpke, enc.data, bytes.data) &&
             equals(json_object_get(expect, "aead_key"), keys.key, sizeof keys.key) &&
             equals(json_object_get(expect, "aead_nonce"), keys.nonce, sizeof keys.nonce);
    }
    return ok;
}

/* What our own writer makes of the pieces is the vector, byte for byte. */
static bool answer_is_made(const struct verifier_hpke *hpke, struct span enc, const json_t *c)
{
    struct verifier_sealed_writer s;
    struct writer out = writer_with_max(1u << 20);
    struct span bytes = field(c, "bytes");
    json_t *pieces = json_object_get(json_object_get(c, "expect"), "pieces"), *piece;
    size_t i;
    bool ok = verifier_sealed_writer_begin(&s, hpke, enc.data, bytes.data, &out);
    json_array_foreach(pieces, i, piece) ok =
        ok && verifier_sealed_writer_chunk(&s, bytes_of(piece), i + 1 == json_array_size(pieces), &out);
    ok = ok && span_equal(writer_span(&out), bytes);
    verifier_sealed_writer_release(&s);
    writer_release(&out);
    return ok;
}

static void walk_answers(const json_t *doc)
{
    json_t *responses = json_object_get(doc, "sealed_responses"), *c, *request = NULL;
    struct verifier_sealed_request req;
    struct verifier_hpke hpke;
    struct writer plain = writer_with_max(1u << 20);
    size_t i;
    json_array_foreach(json_object_get(doc, "sealed_requests"), i,
                       c) if (strcmp(str(c, "name"), str(responses, "request")) == 0) request = c;
    bool open = request && open_request(request, &req, &hpke, &plain) == VERIFIER_OK;
    judge("hpke", "answers to", str(responses, "request"), open);
    json_array_foreach(json_object_get(responses, "cases"), i, c)
    {
        struct span enc = field(responses, "enc");
        judge("hpke", "answer", str(c, "name"), open && answer_holds(&hpke, enc, c));
        if (json_is_true(json_object_get(json_object_get(c, "expect"), "ok")))
            judge("hpke", "answer made again", str(c, "name"), open && answer_is_made(&hpke, enc, c));
    }
    writer_release(&plain);
}

static void walk_hpke(const json_t *doc)
{
    size_t i;
    json_t *c;
    judge("hpke", "rfc9180", "", rfc9180_holds(json_object_get(doc, "rfc9180")));
    json_array_foreach(json_object_get(doc, "key_release"), i, c)
        judge("hpke", "key release", str(c, "name"), release_holds(c));
    judge("hpke", "combine", "", combine_holds(json_object_get(doc, "combine")));
    json_array_foreach(json_object_get(doc, "sealed_requests"), i, c)
        judge("hpke", "request", str(c, "name"), request_holds(c));
    walk_answers(doc);
}

/* --- files ---------------------------------------------------------------------------------------- */

static unsigned all_passed, all_failed;

/* The five files of one folder; a folder that is absent is a skip. */
static void walk_folder(const char *label, const char *folder)
{
    static const struct {
        const char *name;
        void (*walk)(const json_t *doc);
    } files[] = {{"encodings", walk_encodings},
                 {"trees", walk_trees},
                 {"refusals", walk_refusals},
                 {"signed", walk_signed},
                 {"hpke", walk_hpke}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4096];
        json_error_t error;
        snprintf(path, sizeof path, "%s/%s.json", folder, files[i].name);
        passed = failed = skipped = 0;
        json_t *doc = json_load_file(path, 0, &error);
        if (doc) {
            files[i].walk(doc);
        } else if (json_error_code(&error) == json_error_cannot_open_file) {
            skipped = 1;
        } else {
            printf("FAIL %s %s: line %d: %s\n", label, files[i].name, error.line, error.text);
            failed = 1;
        }
        printf("%s %s: %u passed, %u failed, %u skipped\n", label, files[i].name, passed, failed, skipped);
        all_passed += passed;
        all_failed += failed;
        json_decref(doc);
        objects_release();
    }
}

int main(void)
{
    const char *shared = getenv("AIRLOCK_SHARED");
    char folder[4000];
    snprintf(folder, sizeof folder, "%s/vectors/protocol", shared ? shared : "../shared");
    walk_folder("own protocol", OWN_VECTORS);
    walk_folder("protocol", folder);
    return all_failed > 0 ? 1 : all_passed > 0 ? 0 : 77;
}
