/* Every TPM quote in the vectors: Azure's, bound to hardware by the paravisor's report, and Google's over three banks.
 * The hardware reports' own chains are not in these items: see vectors_snp.c. */
#include <stdio.h>
#include <stdlib.h>

#include "vectors/cases.h"
#include "verifier/base/reader.h"
#include "verifier/signature.h"
#include "verifier/tpm.h"

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

/* --- fields -------------------------------------------------------------------------------------------------- */

static json_t *quote_json(const struct verifier_attest *a)
{
    json_t *o = json_object(), *selections = json_array();
    char firmware[32];

    for (size_t s = 0; s < a->selection_count; s++) {
        json_t *pcrs = json_array();
        for (int i = 0; i < VERIFIER_TPM_PCRS; i++)
            if (a->selection[s].pcrs >> i & 1)
                json_array_append_new(pcrs, json_integer(i));
        json_array_append_new(selections, json_pack("[i, o]", a->selection[s].bank, pcrs));
    }
    snprintf(firmware, sizeof firmware, "0x%016llx", (unsigned long long)a->firmware);
    put(o, "qualified_signer", cases_hex(a->qualified_signer.data, a->qualified_signer.len));
    put(o, "extra_data", cases_hex(a->extra.data, a->extra.len));
    put(o, "clock", json_integer((json_int_t)a->clock));
    put(o, "reset_count", json_integer(a->reset_count));
    put(o, "restart_count", json_integer(a->restart_count));
    put(o, "safe", json_integer(a->safe));
    put(o, "firmware_version", json_string(firmware));
    put(o, "selections", selections);
    put(o, "pcr_digest", cases_hex(a->pcr_digest.data, a->pcr_digest.len));
    return o;
}

static json_t *azure_json(const struct cases_case *c, const struct verifier_hcl *h, const struct verifier_attest *a)
{
    json_t *o = json_deep_copy(json_object_get(c->doc, "fields")), *hcl = json_object();
    json_t *runtime = json_loadb((const char *)h->runtime.data, h->runtime.len, 0, NULL);

    put(hcl, "version", json_integer(h->version));
    put(hcl, "report_size", json_integer(h->size));
    put(hcl, "request_type", json_integer(h->request_type));
    put(hcl, "data_size", json_integer(h->data_size));
    put(hcl, "data_version", json_integer(h->data_version));
    put(hcl, "report_type", json_integer(h->report_type));
    put(hcl, "hash_type", json_integer(h->hash_type));
    put(hcl, "var_size", json_integer((json_int_t)h->runtime.len));
    put(o, "hcl", hcl);
    put(o, "vm_config", json_incref(json_object_get(runtime, "vm-configuration")));
    put(o, "quote", quote_json(a));
    put(o, "hw_report_data", cases_hex(h->report.data + (h->report_type == VERIFIER_HCL_SNP ? 0x50 : 128), 64));
    put(o, "ak_rsa_bits", json_integer((json_int_t)h->key.modulus.len * 8));
    json_decref(runtime);
    return o;
}

/* --- PCR values --------------------------------------------------------------------------------------------------- */

/* A list of hex texts, or an object by index; the values are written to `memory`. */
static size_t pcrs_of(struct cases_case *c, json_t *list, uint8_t memory[VERIFIER_TPM_PCRS][48],
                      struct span out[VERIFIER_TPM_PCRS])
{
    size_t n = 0, count = json_is_array(list) ? json_array_size(list) : json_object_size(list);

    for (; n < count && n < VERIFIER_TPM_PCRS; n++) {
        char key[8];
        json_t *v;
        int len;

        snprintf(key, sizeof key, "%zu", n);
        v = json_is_array(list) ? json_array_get(list, n) : json_object_get(list, key);
        len = json_is_string(v) ? cases_unhex(json_string_value(v), memory[n], 48) : -1;
        if (len < 0)
            cases_unreadable(c, "PCR %zu", n);
        out[n] = span_of(memory[n], len < 0 ? 0 : (size_t)len);
    }
    return n;
}

static bool use(struct cases_case *c, const char *role, const char *how, uint8_t **data, size_t *len)
{
    struct span in = cases_original(c, role);
    json_t *list;
    char ff[65];

    if (strcmp(how, "pcr 0 replaced by 32 bytes of ff") != 0)
        return false;
    memset(ff, 'f', 64);
    ff[64] = '\0';
    list = json_loadb((const char *)in.data, in.len, 0, NULL);
    json_array_set_new(list, 0, json_string(ff));
    *data = (uint8_t *)json_dumps(list, 0);
    *len = *data ? strlen((char *)*data) : 0;
    json_decref(list);
    return *data != NULL;
}

static bool nonce_is(struct cases_case *c, const struct verifier_attest *a)
{
    const char *hex = json_string_value(json_object_get(c->policy, "nonce"));
    uint8_t want[64];
    int len = hex ? cases_unhex(hex, want, sizeof want) : 0;

    if (len < 0)
        cases_unreadable(c, "nonce");
    return !hex || (len >= 0 && span_equal(a->extra, span_of(want, (size_t)len)));
}

static bool is_signed(const struct verifier_public *key, struct span message, struct span signature)
{
    struct verifier_keys keys = {0};

    return verifier_keys_signed(&keys, key, VERIFIER_FORM_RSA_SHA256, message, signature);
}

/* --- Azure -------------------------------------------------------------------------------------------------------- */

static enum verifier_err check_azure(struct cases_case *c, struct verifier_hcl *hcl, struct verifier_attest *a)
{
    uint8_t memory[VERIFIER_TPM_PCRS][48];
    struct span pcr[VERIFIER_TPM_PCRS], text = cases_file(c, "pcrs"), message = cases_file(c, "msg");
    json_t *list = json_loadb((const char *)text.data, text.len, 0, NULL);
    size_t count = pcrs_of(c, list, memory, pcr);
    enum verifier_err err = verifier_hcl_parse(hcl, cases_file(c, "hcl"));

    json_decref(list);
    if (err == VERIFIER_OK)
        err = verifier_attest_parse(a, message);
    if (err == VERIFIER_OK && !is_signed(&hcl->key, message, cases_file(c, "sig")))
        err = VERIFIER_E_BAD_SIGNATURE;
    if (err == VERIFIER_OK && !verifier_attest_has_pcrs(a, pcr, count))
        err = VERIFIER_E_PCR_MISMATCH;
    if (err == VERIFIER_OK && !nonce_is(c, a))
        err = VERIFIER_E_NONCE_MISMATCH;
    return err;
}

/* --- Google ------------------------------------------------------------------------------------------------------- */

/* TPMT_PUBLIC of an RSA key that signs RSASSA with SHA-256 (TPM 2.0 part 2, § 12.2.4). */
static bool read_public(struct verifier_public *key, struct span in)
{
    static const uint8_t exponent[] = {1, 0, 1};
    struct reader r = reader_over(in);
    bool good = reader_u16be(&r) == 0x0001; /* RSA */

    (void)reader_u16be(&r); /* name's hash */
    (void)reader_u32be(&r); /* attributes */
    (void)reader_span(&r, reader_u16be(&r));
    good = reader_u16be(&r) == 0x0010 && good; /* no symmetric */
    good = reader_u16be(&r) == 0x0014 && good; /* RSASSA */
    good = reader_u16be(&r) == 0x000b && good; /* SHA-256 */
    good = reader_u16be(&r) >= 2048 && good;
    good = reader_u32be(&r) == 0 && good; /* the default exponent */
    *key = (struct verifier_public){.kind = VERIFIER_KEY_RSA,
                                    .modulus = reader_span(&r, reader_u16be(&r)),
                                    .exponent = span_of(exponent, sizeof exponent)};
    return reader_end(&r) && good;
}

/* TPMT_SIGNATURE: RSASSA, SHA-256, the bytes. */
static struct span signature_of(struct span in)
{
    struct reader r = reader_over(in);
    bool good = reader_u16be(&r) == 0x0014 && reader_u16be(&r) == 0x000b;
    struct span s = reader_span(&r, reader_u16be(&r));

    return reader_end(&r) && good ? s : span_of(NULL, 0);
}

static enum verifier_err check_bank(struct cases_case *c, unsigned i, const struct verifier_public *key, json_t *banks)
{
    json_t *told = json_array_get(json_object_get(json_object_get(c->doc, "fields"), "quotes"), i);
    uint8_t memory[VERIFIER_TPM_PCRS][48];
    struct span pcr[VERIFIER_TPM_PCRS], message;
    struct verifier_attest a;
    char role[16], bank[16];
    json_t *quote;
    size_t count = pcrs_of(c, json_object_get(told, "pcrs"), memory, pcr);
    enum verifier_err err;

    snprintf(role, sizeof role, "quote_%u", i);
    message = cases_file(c, role);
    snprintf(role, sizeof role, "sig_%u", i);
    err = verifier_attest_parse(&a, message);
    if (err == VERIFIER_OK && !is_signed(key, message, signature_of(cases_file(c, role))))
        err = VERIFIER_E_BAD_SIGNATURE;
    if (err == VERIFIER_OK && !verifier_attest_has_pcrs(&a, pcr, count))
        err = VERIFIER_E_PCR_MISMATCH;
    if (err == VERIFIER_OK && !nonce_is(c, &a))
        err = VERIFIER_E_NONCE_MISMATCH;
    if (err != VERIFIER_OK)
        return err;
    quote = quote_json(&a);
    if (!json_equal(quote, json_object_get(told, "quote")))
        cases_unreadable(c, "fields of quote %u differ", i);
    json_decref(quote);
    snprintf(bank, sizeof bank, "0x%04x", a.selection[0].bank);
    json_array_append_new(banks, json_string(bank));
    return VERIFIER_OK;
}

static void check_gcp(struct cases_case *c, struct cases_answer *answer)
{
    struct verifier_public key;
    json_t *banks = json_array();
    enum verifier_err err = read_public(&key, cases_file(c, "ak_pub")) ? VERIFIER_OK : VERIFIER_E_PARSE;

    for (unsigned i = 0; i < 3 && err == VERIFIER_OK; i++)
        err = check_bank(c, i, &key, banks);
    answer->error = err == VERIFIER_OK ? NULL : verifier_err_name(err);
    answer->expect = json_pack("{s:o}", "banks", banks);
}

static void check(struct cases_case *c, struct cases_answer *answer)
{
    static const char *const keys[] = {"nonce", NULL};
    static struct verifier_hcl hcl;
    struct verifier_attest a;
    enum verifier_err err;

    cases_policy_known(c, keys);
    if (cases_has(c, "ak_pub")) {
        check_gcp(c, answer);
        return;
    }
    err = check_azure(c, &hcl, &a);
    answer->error = err == VERIFIER_OK ? NULL : verifier_err_name(err);
    if (err == VERIFIER_OK)
        answer->fields = azure_json(c, &hcl, &a);
}

int main(void)
{
    static const struct cases_kind kinds[] = {{.folder = "tpm", .check = check, .use = use}};

    return cases_main(kinds, 1);
}
