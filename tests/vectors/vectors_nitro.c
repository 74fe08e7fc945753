/* Every Nitro document in the vectors: right verdict, right reason, right fields? */
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "vectors/cases.h"
#include "verifier/anchors/test.h"
#include "verifier/hw.h"

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

static json_t *hex_or_null(struct span s)
{
    return s.data ? cases_hex(s.data, s.len) : json_null();
}

static json_t *fields_json(const struct cases_case *c, const struct verifier_nitro_document *d,
                           const struct verifier_nitro *n)
{
    json_t *o = json_deep_copy(json_object_get(c->doc, "fields")), *pcrs = json_object();

    for (unsigned i = 0; i < VERIFIER_NITRO_PCRS; i++) {
        char key[8];
        snprintf(key, sizeof key, "%u", i);
        if (n->present >> i & 1)
            put(pcrs, key, cases_hex(n->pcr[i], sizeof n->pcr[i]));
    }
    put(o, "pcrs", pcrs);
    put(o, "module_id", json_string(n->module_id));
    put(o, "timestamp_ms", json_integer((json_int_t)n->timestamp));
    put(o, "debug", json_boolean(n->debug));
    put(o, "public_key", hex_or_null(d->public_key));
    put(o, "user_data", hex_or_null(d->user_data));
    put(o, "nonce", hex_or_null(d->nonce));
    return o;
}

/* A synthetic item's own root stands in for the vendor's. */
static void inject_root(struct cases_case *c)
{
    struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_NITRO, .simulated = true};
    struct span pem = cases_original(c, "root");
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    uint8_t digest[32];
    unsigned len = sizeof digest;

    if (!x || X509_digest(x, EVP_sha256(), digest, &len) != 1 || !verifier_anchors_inject(digest, &anchor))
        cases_unreadable(c, "root");
    X509_free(x);
    BIO_free(bio);
}

static void check(struct cases_case *c, struct cases_answer *a)
{
    static const char *const keys[] = {"allow_debug", "pcr0", NULL};
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    struct span document = cases_file(c, "document");
    struct verifier_nitro_document d;
    struct verifier_note why = {0};
    struct verifier_hw hw;
    const char *pinned;
    uint8_t want[48];
    enum verifier_err err;

    verifier_anchors_reset();
    if (c->synthetic)
        inject_root(c);
    cases_policy_known(c, keys);
    rules.allow_debug = cases_policy_bool(c, "allow_debug", false);
    err = verifier_hw_verify(&hw, VERIFIER_TEE_NITRO, document, NULL, 0, NULL, c->time, &rules, &why);
    a->error = err == VERIFIER_OK ? NULL : verifier_err_name(err);
    snprintf(a->detail, sizeof a->detail, "%.290s; %.290s", why.observed, why.required);
    if (err != VERIFIER_OK)
        return;
    if (hw.simulated != c->synthetic)
        cases_unreadable(c, "simulated flag");
    pinned = json_string_value(json_object_get(c->policy, "pcr0"));
    if (pinned && cases_unhex(pinned, want, sizeof want) != (int)sizeof want)
        cases_unreadable(c, "pcr0");
    else if (pinned && memcmp(want, hw.measurement, sizeof want) != 0) /* the judge's in production */
        a->error = "pcr0_mismatch";
    if (verifier_nitro_parse(&d, document) == VERIFIER_OK)
        a->fields = fields_json(c, &d, &hw.nitro);
}

int main(void)
{
    static const struct cases_kind kinds[] = {{.folder = "nitro", .check = check}};

    return cases_main(kinds, 1);
}
